//! The networks by name.

use serde::{Deserialize, Serialize};

use super::{Plan, PlanError, Task, TextInput, unsound};

/// A network by name, with its sizes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "name", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Network {
    /// 28×28 grey: convolution 3×3×5, ReLU, 2×2 pool, dense 10, classes.
    CnnSmall,
    /// Convolution 32, pool, convolution 64, pool, dense 128, classes; 3×3 without padding.
    Cnn,
    /// Wavelet scattering, which is fixed, and two small convolutions and a dense layer on top: strong
    /// where the noise is (Tramèr and Boneh 2021).
    ScatterCnn,
    /// Residual blocks with group norm and weight-standardised convolutions.
    ResnetGn {
        /// Channels of the first stage, doubled at each further one: 4 to 256, a multiple of 4.
        #[serde(default = "eight_channels")]
        width: usize,
        /// Stages, each of one block and half the resolution of the last: 1 to 5.
        #[serde(default = "three")]
        depth: usize,
    },
    /// Dense layers with ReLU between them, for tables and for texts that are one vector.
    Dense {
        /// Width of each hidden layer: up to 8 layers of 1 to 4096.
        hidden: Vec<usize>,
    },
    /// A transformer encoder with norms before each part (Xiong et al. 2020) over the words of a text, after
    /// an optional look at each word's neighbours.
    Text {
        /// Features of a word: 8 to 1024, even and a multiple of `heads`. Default: 64.
        #[serde(default = "sixty_four")]
        features: usize,
        /// Heads of attention: 1 to 64. Default: 4.
        #[serde(default = "four")]
        heads: usize,
        /// Features between the two dense layers of a block: 8 to 8192. Default: 128.
        #[serde(default = "one_hundred_and_twenty_eight")]
        hidden: usize,
        /// Blocks of attention: 0 to 12. Default: 1.
        #[serde(default = "one")]
        blocks: usize,
        /// Neighbours on either side that a word is seen with before the blocks: 0 to 8. Default: 1.
        #[serde(default = "one")]
        reach: usize,
    },
    /// The public encoder of the BERT kind that the plan's text names, trained on from its public weights (Devlin
    /// et al. 2019). The sizes are those of the encoder's `config.json`.
    Bert {
        /// Blocks, `num_hidden_layers`: 1 to 48.
        layers: usize,
        /// Heads of attention, `num_attention_heads`: 1 to 256, a divisor of `text.width`.
        heads: usize,
        /// Features between the two dense layers of a block, `intermediate_size`: 1 to 16 384.
        hidden: usize,
        /// Pieces, `vocab_size`: 1 to 1 000 000.
        vocabulary: usize,
    },
    /// A conditional random field without hidden layers: each of a word's features scores each tag, and so does
    /// the tag before (Lafferty, McCallum and Pereira 2001). For `entity-tagging`.
    Chain,
    /// A decision tree, grown one level a round from summed histograms (strategy `sum`).
    Tree {
        /// Levels of splits, one a round: 1 to 8.
        depth: usize,
    },
    /// Counts of each column's values by class, from which classes follow by Bayes' rule with columns taken
    /// as independent (strategy `sum`). One round.
    NaiveBayes {
        /// Most unusual values of a row that count: 1 to the number of columns. A column's first bin is then its
        /// usual value, which follows from what is left over, so that a row moves the counts by √(1 + most) at
        /// most instead of by the root of the number of columns. Default: every value counts.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        most: Option<usize>,
    },
}

fn eight_channels() -> usize {
    8
}

fn one() -> usize {
    1
}

fn three() -> usize {
    3
}

fn four() -> usize {
    4
}

fn sixty_four() -> usize {
    64
}

fn one_hundred_and_twenty_eight() -> usize {
    128
}

/// What a network takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Takes {
    Images,
    /// Rows of a table or a text's vector.
    Vectors,
    /// The words of a text in order.
    Words,
    /// The pieces of a public encoder.
    Pieces,
    /// Rows of a table whose columns have bins.
    Bins,
}

impl Network {
    /// Its name in a plan.
    pub fn name(&self) -> &'static str {
        match self {
            Self::CnnSmall => "cnn-small",
            Self::Cnn => "cnn",
            Self::ScatterCnn => "scatter-cnn",
            Self::ResnetGn { .. } => "resnet-gn",
            Self::Dense { .. } => "dense",
            Self::Text { .. } => "text",
            Self::Bert { .. } => "bert",
            Self::Chain => "chain",
            Self::Tree { .. } => "tree",
            Self::NaiveBayes { .. } => "naive-bayes",
        }
    }

    /// Whether it is made of histograms instead of layers: a round adds up counts.
    pub fn counts(&self) -> bool {
        matches!(self, Self::Tree { .. } | Self::NaiveBayes { .. })
    }

    fn takes(&self) -> Takes {
        match self {
            Self::CnnSmall | Self::Cnn | Self::ScatterCnn | Self::ResnetGn { .. } => Takes::Images,
            Self::Dense { .. } => Takes::Vectors,
            Self::Text { .. } | Self::Chain => Takes::Words,
            Self::Bert { .. } => Takes::Pieces,
            Self::Tree { .. } | Self::NaiveBayes { .. } => Takes::Bins,
        }
    }

    fn check_sizes(&self) -> Result<(), PlanError> {
        match self {
            Self::ResnetGn { width, depth } => {
                if !(4..=256).contains(width) || !width.is_multiple_of(4) {
                    return unsound("network.width", "must be a multiple of 4 from 4 to 256");
                }
                if !(1..=5).contains(depth) {
                    return unsound("network.depth", "must be 1 to 5");
                }
            }
            Self::Dense { hidden }
                if hidden.len() > 8 || !hidden.iter().all(|width| (1..=4096).contains(width)) =>
            {
                return unsound("network.hidden", "must list up to 8 widths of 1 to 4096");
            }
            &Self::Text {
                features,
                heads,
                hidden,
                blocks,
                reach,
            } => {
                let is_even = features.is_multiple_of(2) && (8..=1024).contains(&features);
                if !(1..=64).contains(&heads) {
                    return unsound("network.heads", "must be 1 to 64");
                }
                if !is_even || !features.is_multiple_of(heads) {
                    let reason = "must be 8 to 1024, even and a multiple of network.heads";
                    return unsound("network.features", reason);
                }
                if !(8..=8192).contains(&hidden) {
                    return unsound("network.hidden", "must be 8 to 8192");
                }
                if blocks > 12 {
                    return unsound("network.blocks", "must be 0 to 12");
                }
                if reach > 8 {
                    return unsound("network.reach", "must be 0 to 8");
                }
            }
            Self::Bert {
                layers,
                heads,
                hidden,
                vocabulary,
            } => {
                for (field, size, most) in [
                    ("network.layers", layers, 48),
                    ("network.heads", heads, 256),
                    ("network.hidden", hidden, 16_384),
                    ("network.vocabulary", vocabulary, 1_000_000),
                ] {
                    if !(1..=most).contains(size) {
                        return unsound(field, format!("must be 1 to {most}"));
                    }
                }
            }
            Self::Tree { depth } if !(1..=8).contains(depth) => {
                return unsound("network.depth", "must be 1 to 8");
            }
            _ => {}
        }
        Ok(())
    }
}

/// Most weights of the table that words are looked up in: 256 MB.
const TABLE: usize = 1 << 26;

impl Plan {
    /// Places that words are hashed to; 0 where they are not.
    fn buckets(&self) -> usize {
        match self.text {
            Some(TextInput::Words { buckets, .. }) => buckets,
            _ => 0,
        }
    }

    /// Numbers of a public encoder's vectors; 0 where there is none.
    fn width(&self) -> usize {
        match self.text {
            Some(TextInput::Encoder { width, .. }) => width,
            _ => 0,
        }
    }

    /// Whether its network reads the words of a text in order, in windows.
    pub fn reads_windows(&self) -> bool {
        matches!(self.network.takes(), Takes::Words | Takes::Pieces)
    }

    /// Refuses a network that cannot take what the plan feeds it.
    pub(super) fn check_network(&self) -> Result<(), PlanError> {
        let network = &self.network;
        network.check_sizes()?;
        let gets = match (&self.image, &self.text) {
            (Some(_), _) => [Takes::Images; 2],
            (_, Some(TextInput::Words { .. } | TextInput::Pieces { .. })) => [Takes::Words; 2],
            (_, Some(TextInput::Bag { .. })) => [Takes::Vectors; 2],
            (_, Some(TextInput::Encoder { .. })) => [Takes::Vectors, Takes::Pieces],
            (None, None) => [Takes::Vectors, Takes::Bins],
        };
        if !gets.contains(&network.takes()) {
            let reason = match network.takes() {
                Takes::Images => "takes images: it needs [image]",
                Takes::Vectors => "takes [table], or [text] of form \"bag\" or \"encoder\"",
                Takes::Words => "takes [text] of form \"words\" or \"pieces\"",
                Takes::Pieces => "takes [text] of form \"encoder\"",
                Takes::Bins => "takes [table]",
            };
            return unsound("network.name", format!("`{}` {reason}", network.name()));
        }
        match (network, &self.image) {
            (Network::CnnSmall, Some(image))
                if (image.width, image.height, image.channels) != (28, 28, 1) =>
            {
                unsound(
                    "network.name",
                    "`cnn-small` takes 28 x 28 grey images: set [image] so",
                )
            }
            (Network::Cnn, Some(image)) if image.width.min(image.height) < 10 => unsound(
                "network.name",
                "`cnn` needs images of 10 x 10 pixels or more",
            ),
            (&Network::Text { features, .. }, _) if self.buckets() * features > TABLE => {
                let reason = format!("and text.buckets make a table of more than {TABLE} weights");
                unsound("network.features", reason)
            }
            (&Network::Bert { heads, .. }, _) if !self.width().is_multiple_of(heads) => {
                unsound("network.heads", "must divide text.width")
            }
            (&Network::Bert { vocabulary, .. }, _) if self.width() * vocabulary > TABLE => {
                let reason = format!("and text.width make a table of more than {TABLE} weights");
                unsound("network.vocabulary", reason)
            }
            (Network::Chain, _) if self.buckets() * self.outputs() > TABLE => {
                let reason = format!("and classes make a table of more than {TABLE} weights");
                unsound("text.buckets", reason)
            }
            (Network::Chain, _) if self.task != Task::EntityTagging => {
                unsound("network.name", "`chain` is for `entity-tagging`")
            }
            _ => self.check_counts(),
        }
    }

    /// A round of a network of counts is one sum over all patients.
    fn check_counts(&self) -> Result<(), PlanError> {
        let counts = self.network.counts();
        let sums = self.strategy == super::Strategy::Sum;
        if counts != sums {
            let reason = "`sum` belongs to the networks `tree` and `naive-bayes`, and they to it";
            return unsound("strategy.name", reason);
        }
        if !counts {
            return Ok(());
        }
        let levels = match self.network {
            Network::Tree { depth } => depth as u32,
            _ => 1,
        };
        if self.rounds != levels {
            let reason = format!("must be {levels}: one for each level of counts");
            return unsound("rounds", reason);
        }
        if levels > 1 && self.privacy.mode == super::Mode::Distributed {
            let reason = "`distributed` sums noise on all levels of a tree at once: take `local`";
            return unsound("privacy.mode", reason);
        }
        let training = &self.training;
        let is_plain = training.optimizer == super::Optimizer::Sgd
            && training.learning_rate == 1.0
            && training.schedule == super::Schedule::Constant
            && training.average_decay == 0.0;
        if training.steps != 1 || !is_plain {
            let reason = "counts take 1 step of plain SGD with a learning rate of 1";
            return unsound("training.steps", reason);
        }
        let columns = self.table.as_ref().map_or(&[][..], |table| &table.columns);
        if let Some(column) = columns.iter().find(|column| column.edges.is_empty()) {
            let reason = format!("{:?} needs `edges`: counts are by bins", column.name);
            return unsound("table.columns", reason);
        }
        if let Network::NaiveBayes { most: Some(most) } = self.network
            && !(1..=columns.len()).contains(&most)
        {
            let reason = format!("must be 1 to the number of columns ({})", columns.len());
            return unsound("network.most", reason);
        }
        if self.report.is_some() {
            let reason = "counts are no predictions while they grow: leave it out";
            return unsound("report", reason);
        }
        match self.task {
            Task::TabularClassification | Task::Diagnosis => Ok(()),
            _ => unsound("task", "counts are for classes of rows"),
        }
    }
}

//! What enters a network when the task is about notes.

use serde::{Deserialize, Serialize};

use super::{Plan, PlanError, Task, unsound};

/// The road from a note to what a network takes. Notes are cleaned first, and de-identified unless their steward
/// declared that they are. Nothing is measured on them: buckets, windows and vocabulary are fixed here.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "form", rename_all = "kebab-case", deny_unknown_fields)]
pub enum TextInput {
    /// One vector: words, neighbouring words and, of Chinese, characters, each hashed to a place.
    Bag {
        /// Places of the vector: 16 to 65 536. Default: 4096.
        #[serde(default = "four_thousand")]
        buckets: usize,
        /// Most neighbouring words, or Chinese characters, that count as one: 1 to 3. Default: 1.
        #[serde(default = "one")]
        neighbours: usize,
        /// First letters of a word that count, so that its ending does not: 0 to 32. Default: 0, all of them.
        #[serde(default)]
        letters: usize,
        /// How many times what the first sentence says counts, often a title: 1 to 16. Default: 1.
        #[serde(default = "one")]
        first_sentence: usize,
        /// Whether words that say little are left out. Default: no.
        #[serde(default)]
        drop_stop_words: bool,
        /// Whether punctuation is left out. Default: no.
        #[serde(default)]
        drop_punctuation: bool,
    },
    /// A window of words. Each is known by its hashed form, parts and shape.
    Words {
        /// Words of a window: 8 to 512. Default: 64.
        #[serde(default = "sixty_four")]
        window: usize,
        /// Places that forms, parts and shapes are hashed to: 256 to 1 048 576. Default: 16 384.
        #[serde(default = "sixteen_thousand")]
        buckets: usize,
    },
    /// A window of word pieces of the vocabulary that comes with the program.
    Pieces {
        /// Pieces of a window: 8 to 512. Default: 128.
        #[serde(default = "one_hundred_and_twenty_eight")]
        window: usize,
    },
    /// A public encoder of the BERT kind that every site has as files. With the network `dense` it makes one vector
    /// of a text and is not trained; with `bert` it is trained on from its weights.
    Encoder {
        /// SHA-256 of the encoder's safetensors file, 64 hexadecimal digits.
        sha256: String,
        /// Features of a piece, and numbers of the vector, `hidden_size`: 8 to 4096.
        width: usize,
        /// Word pieces that it sees at once: 8 to 512. Default: 128.
        #[serde(default = "one_hundred_and_twenty_eight")]
        window: usize,
    },
}

/// Which pairs of entities a relation is looked for between.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pair {
    /// Kind of the first entity.
    pub from: String,
    /// Kind of the second.
    pub to: String,
    /// How far apart they may be. Default: in one note.
    #[serde(default)]
    pub within: Within,
    /// Least probability at which a relation counts as found: above 0, below 1. Relations are rare among
    /// pairs, so it often lies below one half. Default: 0.5.
    #[serde(default = "half")]
    pub threshold: f32,
}

/// How far apart the entities of a pair may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Within {
    /// Concepts anywhere in one note: each pair of concepts is one example, whatever their mentions.
    #[default]
    Note,
    /// Mentions in one sentence: each pair of mentions is one example.
    Sentence,
}

fn half() -> f32 {
    0.5
}

fn one() -> usize {
    1
}

fn sixty_four() -> usize {
    64
}

fn one_hundred_and_twenty_eight() -> usize {
    128
}

fn four_thousand() -> usize {
    4096
}

fn sixteen_thousand() -> usize {
    16_384
}

impl TextInput {
    fn check(&self) -> Result<(), PlanError> {
        let window = match self {
            Self::Bag {
                buckets,
                neighbours,
                letters,
                first_sentence,
                ..
            } => {
                if !(16..=65_536).contains(buckets) {
                    return unsound("text.buckets", "must be 16 to 65536");
                }
                if !(1..=3).contains(neighbours) {
                    return unsound("text.neighbours", "must be 1 to 3");
                }
                if *letters > 32 {
                    return unsound("text.letters", "must be 0 to 32");
                }
                if !(1..=16).contains(first_sentence) {
                    return unsound("text.first_sentence", "must be 1 to 16");
                }
                return Ok(());
            }
            Self::Words { window, buckets } => {
                if !(256..=1_048_576).contains(buckets) {
                    return unsound("text.buckets", "must be 256 to 1048576");
                }
                window
            }
            Self::Pieces { window } => window,
            Self::Encoder {
                sha256,
                width,
                window,
            } => {
                let is_digest = sha256.len() == 64
                    && sha256
                        .bytes()
                        .all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
                if !is_digest {
                    return unsound("text.sha256", "must be 64 small hexadecimal digits");
                }
                if !(8..=4096).contains(width) {
                    return unsound("text.width", "must be 8 to 4096");
                }
                window
            }
        };
        if (8..=512).contains(window) {
            return Ok(());
        }
        unsound("text.window", format!("must be 8 to 512, found {window}"))
    }
}

impl Plan {
    /// Refuses a text task whose tables do not belong together.
    pub(super) fn check_text(&self) -> Result<(), PlanError> {
        let Some(text) = &self.text else {
            return match &self.pair {
                Some(_) => unsound("pair", "is for the task `relation-extraction`"),
                None => Ok(()),
            };
        };
        text.check()?;
        if self.task == Task::EntityTagging && !self.reads_windows() {
            let reason = "must read words in order to tag entities: `chain`, `text` or `bert`";
            return unsound("network.name", reason);
        }
        if self.task == Task::RelationExtraction && matches!(text, TextInput::Encoder { .. }) {
            let reason = "must be \"bag\", \"words\" or \"pieces\" for relations";
            return unsound("text.form", reason);
        }
        match (self.task, &self.pair) {
            (Task::RelationExtraction, None) => {
                unsound("pair", "is needed: which kinds of entities are related?")
            }
            (Task::RelationExtraction, Some(pair)) => {
                if pair.from.trim().is_empty() || pair.to.trim().is_empty() {
                    return unsound("pair.from", "and `to` must name kinds of entities");
                }
                if !(pair.threshold > 0.0 && pair.threshold < 1.0) {
                    return unsound("pair.threshold", "must be above 0 and below 1");
                }
                Ok(())
            }
            (_, Some(_)) => unsound("pair", "is for the task `relation-extraction`"),
            (_, None) => Ok(()),
        }
    }
}

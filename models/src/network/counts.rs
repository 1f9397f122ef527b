//! `tree` and `naive-bayes`: networks made of histograms, which a round adds up.
//!
//! The gradient of a patient is minus one at each of the patient's bins, so that a step of plain SGD with a
//! learning rate of 1 adds counts over the batch size, clipped and noised like any other gradient: the norm of
//! a patient's row is the root of the number of columns. A round counts at the first level that is still empty.
//!
//! `naive-bayes` with `most` counts what was found instead: a patient's class, and at most so many columns that
//! lie above their first bin. The norm of a row is then √(1 + most) at most, however many columns there are, and
//! so the noise is less. What was not found follows from the class's count. Of a row with more findings, those
//! that count are chosen by the row alone ([`Layout::contribution`]).

use std::ops::Range;

use consilium_proto::{Plan, plan};

use super::{
    Body, Network, Weights,
    blueprint::{Blueprint, Initial, Slot},
    gradients::Row,
};
use crate::decision::{
    diagnosis::{
        evidence_table::{EvidenceTable, Smoothing, TableError},
        layout::{Case, Layout, Reply},
        question::Belief,
    },
    tree::{Shape, Tree},
};

/// Patients added to each class who answer like all patients together.
const SMOOTHING: f64 = 1.0;

/// Histograms, and what they mean.
pub(super) struct Counts {
    /// Classes and columns as conditions and questions.
    layout: Layout,
    shape: Shape,
    /// Edges of each column's bins, in what enters the network.
    edges: Vec<Vec<f32>>,
    /// One a level.
    levels: Vec<Slot>,
    kind: Kind,
    /// What counts were divided by.
    batch_size: f64,
    /// Standard deviation of the noise on each count, in patients.
    noise: f64,
}

enum Kind {
    Tree,
    Bayes,
    /// The one level holds a count for each number of the layout.
    Findings {
        most: usize,
        seed: u64,
    },
}

impl Counts {
    /// None where the plan's network is made of layers.
    pub(super) fn from_plan(on: &mut Blueprint, plan: &Plan) -> Option<Self> {
        let (kind, depth) = match plan.network {
            plan::Network::Tree { depth } => (Kind::Tree, depth),
            plan::Network::NaiveBayes { most: None } => (Kind::Bayes, 1),
            plan::Network::NaiveBayes { most: Some(most) } => {
                let seed = plan.seed;
                (Kind::Findings { most, seed }, 1)
            }
            _ => return None,
        };
        let columns = &plan.table.as_ref()?.columns;
        let layout = Layout::of_columns(&plan.classes, columns).ok()?;
        let scaled = |column: &plan::Column| {
            let edges = column.edges.iter();
            let scaled = edges.map(|edge| (edge - column.mean) / column.deviation);
            scaled.collect::<Vec<f32>>()
        };
        let edges: Vec<Vec<f32>> = columns.iter().map(scaled).collect();
        let shape = Shape {
            columns: columns.len(),
            bins: 1 + edges.iter().map(Vec::len).max().unwrap_or(0),
            classes: plan.classes.len(),
        };
        let level = |level: usize| match kind {
            Kind::Findings { .. } => {
                let sizes = [shape.classes, layout.len() / shape.classes];
                on.tensor("findings".to_owned(), &sizes, Initial::Zeros)
            }
            Kind::Tree | Kind::Bayes => {
                let sizes = [1 << level, shape.columns, shape.bins, shape.classes];
                on.tensor(format!("level{}", level + 1), &sizes, Initial::Zeros)
            }
        };
        Some(Self {
            shape,
            edges,
            levels: (0..depth).map(level).collect(),
            kind,
            batch_size: f64::from(plan.training.batch_size),
            noise: plan.count_noise(),
            layout,
        })
    }

    /// Numbers that make one row.
    pub(super) fn inputs(&self) -> usize {
        self.shape.columns
    }

    /// The bin of each column. What is no number lies below all edges.
    fn bins(&self, row: &[f32]) -> Vec<usize> {
        let bin = |(value, edges): (&f32, &Vec<f32>)| edges.partition_point(|edge| edge <= value);
        row.iter().zip(&self.edges).map(bin).collect()
    }

    fn counts(&self, weights: &Weights, slot: Slot) -> Vec<f64> {
        let counts = weights.at(slot).iter();
        counts
            .map(|&count| f64::from(count) * self.batch_size)
            .collect()
    }

    /// Counts of bins, without the noise where a column has fewer bins than others.
    fn histogram(&self, weights: &Weights, slot: Slot) -> Vec<f64> {
        let Shape { bins, classes, .. } = self.shape;
        let mut histogram = self.counts(weights, slot);
        let columns = histogram.chunks_exact_mut(bins * classes);
        for (column, edges) in columns.zip(self.edges.iter().cycle()) {
            column[(1 + edges.len()) * classes..].fill(0.0);
        }
        histogram
    }

    fn tree(&self, weights: &Weights) -> Tree {
        let levels = self.levels.iter();
        let levels: Vec<_> = levels.map(|&slot| self.histogram(weights, slot)).collect();
        Tree::grow(self.shape, &levels)
    }

    /// Where and what each row adds, with the sign of a gradient: rows of the level that is counted now; none
    /// once all are.
    pub(super) fn gradients(
        &self,
        weights: &Weights,
        inputs: &[f32],
        classes: &[usize],
    ) -> Option<(Slot, Vec<Vec<Row>>)> {
        let slot = self.counted(weights)?;
        let rows = inputs.chunks_exact(self.inputs()).zip(classes);
        let rows = rows.map(|(row, &class)| (self.bins(row), class));
        let gradients = match self.kind {
            Kind::Findings { most, seed } => rows
                .map(|(bins, class)| self.findings(&bins, class, most, seed))
                .collect(),
            Kind::Tree | Kind::Bayes => {
                let tree = self.tree(weights);
                rows.map(|(bins, class)| self.bins_below(&tree, &bins, class))
                    .collect()
            }
        };
        Some((slot, gradients))
    }

    /// The first level that is still empty.
    fn counted(&self, weights: &Weights) -> Option<Slot> {
        let is_empty = |slot: &&Slot| weights.at(**slot).iter().all(|&count| count == 0.0);
        self.levels.iter().find(is_empty).copied()
    }

    /// Where that level stands among all weights; an empty range once all are counted.
    pub(super) fn level(&self, weights: &Weights) -> Range<usize> {
        self.counted(weights)
            .map_or(0..0, |slot| weights.range(slot))
    }

    /// One count of each column in the node that a row comes to: rows of `[bins][classes]` numbers.
    fn bins_below(&self, tree: &Tree, bins: &[usize], class: usize) -> Vec<Row> {
        let Some(node) = tree.path(bins).1 else {
            return Vec::new();
        };
        let column = |(column, &bin): (usize, &usize)| {
            let mut counts = vec![0.0; self.shape.bins * self.shape.classes];
            counts[bin * self.shape.classes + class] = -1.0;
            (node * self.shape.columns + column, counts)
        };
        bins.iter().enumerate().map(column).collect()
    }

    /// One count of the class, and one of each finding that counts: rows of one number.
    fn findings(&self, bins: &[usize], class: usize, most: usize, seed: u64) -> Vec<Row> {
        let case = Case {
            condition: class,
            answers: self.replies(bins).collect(),
        };
        // Replies of the layout's own columns fit it, and batches refuse classes that it does not have.
        let mut counts = self
            .layout
            .contribution(&case, most, seed)
            .unwrap_or_default();
        counts.sort_unstable();
        counts.into_iter().map(|at| (at, vec![-1.0])).collect()
    }

    fn replies(&self, bins: &[usize]) -> impl Iterator<Item = (usize, Reply)> {
        let questions = self.layout.questions().iter().zip(bins).enumerate();
        questions.map(|(at, (question, &bin))| (at, Reply::of_bin(&question.answers, bin)))
    }

    /// The counts in the order of the layout.
    fn laid_out(&self, weights: &Weights) -> Vec<f64> {
        let slot = self.levels[0];
        if let Kind::Findings { .. } = self.kind {
            return self.counts(weights, slot);
        }
        let Shape {
            columns,
            bins,
            classes,
        } = self.shape;
        let histogram = self.histogram(weights, slot);
        let count = |column: usize, bin, class| histogram[(column * bins + bin) * classes + class];
        let mut counts = Vec::with_capacity(self.layout.len());
        for class in 0..classes {
            let all = (0..columns).flat_map(|column| (0..bins).map(move |bin| (column, bin)));
            let all: f64 = all.map(|(column, bin)| count(column, bin, class)).sum();
            counts.push(all / columns as f64);
            for (column, edges) in self.edges.iter().enumerate() {
                let first = usize::from(edges.len() == 1);
                counts.extend((first..=edges.len()).map(|bin| count(column, bin, class)));
            }
        }
        counts
    }

    /// What the weights of `naive-bayes` say of each answer.
    fn evidence_table(
        &self,
        weights: &Weights,
        layout: Layout,
    ) -> Result<EvidenceTable, TableError> {
        let smoothing = Smoothing {
            patients: SMOOTHING,
            noise: self.noise,
        };
        EvidenceTable::from_counts(layout, &self.laid_out(weights), smoothing)
    }

    /// Probability of each class for each row.
    pub(super) fn predict(&self, weights: &Weights, inputs: &[f32]) -> Vec<f32> {
        let rows = inputs.chunks_exact(self.inputs());
        let bins = rows.map(|row| self.bins(row));
        match self.kind {
            Kind::Tree => {
                let tree = self.tree(weights);
                bins.flat_map(|bins| tree.probabilities(&bins))
                    .map(|probability| probability as f32)
                    .collect()
            }
            Kind::Bayes => {
                let histogram = self.histogram(weights, self.levels[0]);
                let table = Bayes::new(self.shape, &histogram);
                bins.flat_map(|bins| table.probabilities(&bins)).collect()
            }
            Kind::Findings { .. } => {
                let classes = self.shape.classes;
                let Ok(table) = self.evidence_table(weights, self.layout.clone()) else {
                    // Before the first round nothing is known of any class.
                    return vec![1.0 / classes as f32; bins.len() * classes];
                };
                let posterior = |bins: Vec<usize>| {
                    let mut belief = Belief::new(&table);
                    for (question, reply) in self.replies(&bins) {
                        // Each question once, in its own form, is never refused.
                        let _ = belief.learn(question, &reply);
                    }
                    belief.posterior()
                };
                let probabilities = bins.flat_map(posterior);
                probabilities
                    .map(|probability| probability as f32)
                    .collect()
            }
        }
    }
}

impl Network {
    /// The tree that these weights make; none where the network is none.
    pub fn tree(&self, weights: &Weights) -> Option<Tree> {
        let counts = self.counts()?;
        matches!(counts.kind, Kind::Tree).then(|| counts.tree(weights))
    }

    /// How probable each answer is under each class by the weights of a `naive-bayes` network: one question a
    /// column, as [`Layout::of_columns`] makes them. Counts that noise alone may have made are nothing; where
    /// the plan gives ε, the noise is taken as the most that a site needs for it. None where the network is
    /// another.
    ///
    /// # Errors
    /// Questions that cannot follow each other, no class with enough patients.
    pub fn evidence_table(
        &self,
        weights: &Weights,
        after: &[(usize, usize)],
    ) -> Result<Option<EvidenceTable>, TableError> {
        match self.counts() {
            Some(counts) if !matches!(counts.kind, Kind::Tree) => {
                let layout = counts.layout.ordered(after)?;
                counts.evidence_table(weights, layout).map(Some)
            }
            _ => Ok(None),
        }
    }

    /// The bin of each column of a row that would enter a network of counts; none where the network is none.
    pub fn bins(&self, row: &[f32]) -> Option<Vec<usize>> {
        self.counts().map(|counts| counts.bins(row))
    }

    fn counts(&self) -> Option<&Counts> {
        match &self.body {
            Body::Counts(counts) => Some(counts),
            Body::Layers(_) => None,
        }
    }
}

/// Logarithms of what Bayes' rule multiplies.
struct Bayes {
    shape: Shape,
    /// Of each class.
    priors: Vec<f64>,
    /// Of each bin given its class: `[columns][bins][classes]`.
    likelihoods: Vec<f64>,
}

impl Bayes {
    /// Laplace's rule of succession, in classes and in bins.
    fn new(shape: Shape, histogram: &[f64]) -> Self {
        let Shape {
            columns,
            bins,
            classes,
        } = shape;
        let count = |column: usize, bin: usize, class: usize| {
            histogram[(column * bins + bin) * classes + class].max(0.0)
        };
        let sum = |column: usize, class: usize| -> f64 {
            (0..bins).map(|bin| count(column, bin, class)).sum()
        };
        let priors = (0..classes).map(|class| {
            let all: f64 = (0..columns).map(|column| sum(column, class)).sum();
            (all / columns as f64 + 1.0).ln()
        });
        let mut likelihoods = Vec::with_capacity(histogram.len());
        for column in 0..columns {
            let sums: Vec<f64> = (0..classes).map(|class| sum(column, class)).collect();
            for bin in 0..bins {
                likelihoods.extend((0..classes).map(|class| {
                    ((count(column, bin, class) + 1.0) / (sums[class] + bins as f64)).ln()
                }));
            }
        }
        Self {
            shape,
            priors: priors.collect(),
            likelihoods,
        }
    }

    fn probabilities(&self, row: &[usize]) -> Vec<f32> {
        let Shape { bins, classes, .. } = self.shape;
        let mut scores = self.priors.clone();
        for (column, bin) in row.iter().enumerate() {
            let of_bin = &self.likelihoods[(column * bins + bin) * classes..][..classes];
            let pairs = scores.iter_mut().zip(of_bin);
            pairs.for_each(|(score, likelihood)| *score += likelihood);
        }
        let largest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let mut shares: Vec<f32> = scores
            .iter()
            .map(|score| (score - largest).exp() as f32)
            .collect();
        let total: f32 = shares.iter().sum();
        shares.iter_mut().for_each(|share| *share /= total);
        shares
    }
}

#[cfg(test)]
mod tests;

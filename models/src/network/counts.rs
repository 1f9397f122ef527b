//! `tree` and `naive-bayes`: networks made of histograms, which a round adds up.
//!
//! The gradient of a patient is minus one at each of the patient's bins, so that a step of plain SGD with a
//! learning rate of 1 adds counts over the batch size, clipped and noised like any other gradient: the norm of
//! a patient's row is the root of the number of columns. A round counts at the first level that is still empty.

use consilium_proto::{Plan, plan};

use super::{
    Weights,
    blueprint::{Blueprint, Initial, Slot},
    gradients::Row,
};
use crate::decision::tree::{Shape, Tree};

/// Histograms, and what they mean.
pub(super) struct Counts {
    shape: Shape,
    /// Edges of each column's bins, in what enters the network.
    edges: Vec<Vec<f32>>,
    /// One a level.
    levels: Vec<Slot>,
    kind: Kind,
    /// What counts were divided by.
    batch_size: f64,
}

enum Kind {
    Tree,
    Bayes,
}

impl Counts {
    /// None where the plan's network is made of layers.
    pub(super) fn from_plan(on: &mut Blueprint, plan: &Plan) -> Option<Self> {
        let (kind, depth) = match plan.network {
            plan::Network::Tree { depth } => (Kind::Tree, depth),
            plan::Network::NaiveBayes => (Kind::Bayes, 1),
            _ => return None,
        };
        let columns = &plan.table.as_ref()?.columns;
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
        let level = |level: usize| {
            let sizes = [1 << level, shape.columns, shape.bins, shape.classes];
            on.tensor(format!("level{}", level + 1), &sizes, Initial::Zeros)
        };
        Some(Self {
            shape,
            edges,
            levels: (0..depth).map(level).collect(),
            kind,
            batch_size: f64::from(plan.training.batch_size),
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

    fn histogram(&self, weights: &Weights, slot: Slot) -> Vec<f64> {
        let counts = weights.at(slot).iter();
        counts
            .map(|&count| f64::from(count) * self.batch_size)
            .collect()
    }

    fn tree(&self, weights: &Weights) -> Tree {
        let levels = self.levels.iter();
        let levels: Vec<_> = levels.map(|&slot| self.histogram(weights, slot)).collect();
        Tree::grow(self.shape, &levels)
    }

    /// Where and what each row adds, with the sign of a gradient: rows of `[bins][classes]` numbers of the
    /// level that is counted now; none once all are.
    pub(super) fn gradients(
        &self,
        weights: &Weights,
        inputs: &[f32],
        classes: &[usize],
    ) -> Option<(Slot, Vec<Vec<Row>>)> {
        let is_empty = |slot: &&Slot| weights.at(**slot).iter().all(|&count| count == 0.0);
        let slot = *self.levels.iter().find(is_empty)?;
        let tree = self.tree(weights);
        let rows = inputs.chunks_exact(self.inputs()).zip(classes);
        let gradient = |(row, &class): (&[f32], &usize)| {
            let bins = self.bins(row);
            let Some(node) = tree.path(&bins).1 else {
                return Vec::new();
            };
            let column = |(column, bin): (usize, usize)| {
                let mut counts = vec![0.0; self.shape.bins * self.shape.classes];
                counts[bin * self.shape.classes + class] = -1.0;
                (node * self.shape.columns + column, counts)
            };
            bins.into_iter().enumerate().map(column).collect()
        };
        Some((slot, rows.map(gradient).collect()))
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

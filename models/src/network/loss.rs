//! What is minimised, one number for each example.

use consilium_proto::plan::Loss;

use super::{
    Target,
    tagging::{self, Tagging},
};

/// What a network answers, and so what it can learn from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Objective {
    /// The class of an example: cross-entropy, in nats.
    Classes(usize),
    /// A number: squared error.
    Value,
    /// A tag for each word: the mean over the words of the chain's negative log-likelihood, in nats.
    Tags(Tagging),
}

impl Objective {
    pub(super) fn new(loss: Loss, outputs: usize) -> Self {
        match loss {
            Loss::CrossEntropy => Self::Classes(outputs),
            Loss::MeanSquaredError => Self::Value,
        }
    }

    /// Numbers that the last layer gives for each example.
    pub(super) fn scores(self) -> usize {
        match self {
            Self::Classes(classes) => classes,
            Self::Value => 1,
            Self::Tags(tagging) => tagging.scores(),
        }
    }

    /// Numbers that a prediction has for each example.
    pub(super) fn outputs(self) -> usize {
        match self {
            Self::Classes(classes) => classes,
            Self::Value => 1,
            Self::Tags(tagging) => tagging.outputs(),
        }
    }

    /// Says what a target should be, where this one is something else.
    pub(super) fn objection(self, target: &Target) -> Option<String> {
        match (self, target) {
            (Self::Classes(classes), Target::Class(class)) if *class < classes => None,
            (Self::Value, Target::Value(_)) => None,
            (Self::Tags(tagging), Target::Tags(tags)) if tagging.takes(tags) => None,
            (Self::Classes(classes), _) => Some(format!("a class below {classes}")),
            (Self::Value, _) => Some("a number".into()),
            (Self::Tags(Tagging { tags, words, .. }), _) => {
                Some(format!("1 to {words} tags below {tags}"))
            }
        }
    }

    /// Some target that fits, another one for each seed.
    pub(super) fn example(self, seed: usize) -> Target {
        match self {
            Self::Classes(classes) => Target::Class(seed % classes),
            Self::Value => Target::Value(0.3 * seed as f32 - 0.5),
            Self::Tags(Tagging { tags, words, .. }) => {
                let words = 1 + seed % words;
                Target::Tags(
                    (0..words)
                        .map(|word| ((seed + word) % tags) as u16)
                        .collect(),
                )
            }
        }
    }

    /// From the scores of examples to probabilities, or values.
    pub(super) fn predict(self, inputs: &[f32], scores: Vec<f32>) -> Vec<f32> {
        match self {
            Self::Value => scores,
            Self::Classes(classes) => {
                let mut scores = scores;
                scores.chunks_exact_mut(classes).for_each(|row| {
                    softmax(row);
                });
                scores
            }
            Self::Tags(tagging) => {
                let inputs = inputs.chunks_exact(tagging.inputs());
                let rows = scores.chunks_exact(tagging.scores());
                let each = inputs.zip(rows);
                each.flat_map(|(input, row)| tagging::predict(tagging, input, row))
                    .collect()
            }
        }
    }

    /// The loss of each example, and its gradient at the scores.
    ///
    /// # Shapes
    /// - `scores` and gradient: `[examples][scores]`
    pub(super) fn losses(self, scores: &[f32], targets: &[Target]) -> (Vec<f32>, Vec<f32>) {
        let mut gradient = scores.to_vec();
        let rows = gradient.chunks_exact_mut(self.scores());
        let losses = rows.zip(targets).map(|(row, target)| match (self, target) {
            (Self::Classes(_), Target::Class(class)) => {
                let logit = row[*class];
                let logarithm = softmax(row);
                row[*class] -= 1.0;
                logarithm - logit
            }
            (Self::Value, Target::Value(value)) => {
                let error = row[0] - value;
                row[0] = 2.0 * error;
                error * error
            }
            (Self::Tags(tagging), Target::Tags(tags)) => tagging::loss(tagging, row, tags),
            // Batches hold no target of another kind.
            _ => {
                row.fill(0.0);
                0.0
            }
        });
        let losses = losses.collect();
        (losses, gradient)
    }
}

/// Turns logits into probabilities and gives the logarithm of the sum of their exponentials.
pub(super) fn softmax(row: &mut [f32]) -> f32 {
    let largest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    row.iter_mut()
        .for_each(|value| *value = (*value - largest).exp());
    let sum: f32 = row.iter().sum();
    row.iter_mut().for_each(|value| *value /= sum);
    largest + sum.ln()
}

//! What moves the weights: SGD, momentum or Adam over one flat vector.
//!
//! It sees gradients only after noise was added, so all of it is post-processing.

use consilium_proto::plan::{self, Training};

/// Decays of Adam's moments (Kingma and Ba 2015).
const BETA1: f32 = 0.9;
const BETA2: f32 = 0.999;
/// Added to the root of Adam's second moment.
const EPSILON: f32 = 1e-8;

/// Weights under way, and the state of the rule that moves them.
pub(super) struct Optimizer<'a> {
    start: &'a [f32],
    weights: Vec<f32>,
    rule: Rule,
    learning_rate: f32,
    /// Strength of the pull to the start (mu of Li et al. 2020).
    proximal: f32,
}

enum Rule {
    Sgd,
    Momentum {
        decay: f32,
        sum: Vec<f32>,
    },
    Adam {
        first: Vec<f32>,
        second: Vec<f32>,
        steps: i32,
    },
}

impl<'a> Optimizer<'a> {
    pub(super) fn new(training: &Training, proximal: f64, start: &'a [f32]) -> Self {
        let zeros = || vec![0.0; start.len()];
        let rule = match training.optimizer {
            plan::Optimizer::Sgd => Rule::Sgd,
            plan::Optimizer::Momentum { decay } => Rule::Momentum {
                decay: decay as f32,
                sum: zeros(),
            },
            plan::Optimizer::Adam => Rule::Adam {
                first: zeros(),
                second: zeros(),
                steps: 0,
            },
        };
        let (learning_rate, proximal) = (training.learning_rate as f32, proximal as f32);
        Self {
            start,
            weights: start.to_vec(),
            rule,
            learning_rate,
            proximal,
        }
    }

    pub(super) fn weights(&self) -> &[f32] {
        &self.weights
    }

    /// Moves the weights against a gradient. The pull to the start depends on weights alone, hence
    /// on no data beyond the gradients so far.
    pub(super) fn step(&mut self, gradient: &[f32]) {
        let Self {
            start,
            weights,
            rule,
            learning_rate,
            proximal,
        } = self;
        if let Rule::Adam { steps, .. } = rule {
            *steps += 1;
        }
        for (at, (weight, gradient)) in weights.iter_mut().zip(gradient).enumerate() {
            let gradient = gradient + *proximal * (*weight - start[at]);
            let direction = match rule {
                Rule::Sgd => gradient,
                Rule::Momentum { decay, sum } => {
                    sum[at] = *decay * sum[at] + gradient;
                    sum[at]
                }
                Rule::Adam {
                    first,
                    second,
                    steps,
                } => {
                    first[at] = BETA1 * first[at] + (1.0 - BETA1) * gradient;
                    second[at] = BETA2 * second[at] + (1.0 - BETA2) * gradient * gradient;
                    let mean = first[at] / (1.0 - BETA1.powi(*steps));
                    let square = second[at] / (1.0 - BETA2.powi(*steps));
                    mean / (square.sqrt() + EPSILON)
                }
            };
            *weight -= *learning_rate * direction;
        }
    }

    /// Weights now minus weights at the start.
    pub(super) fn difference(&self) -> Vec<f32> {
        self.weights
            .iter()
            .zip(self.start)
            .map(|(now, start)| now - start)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moved(optimizer: plan::Optimizer, proximal: f64, gradients: &[f32]) -> f32 {
        let training = Training {
            steps: 1,
            batch_size: 1,
            optimizer,
            learning_rate: 0.1,
            loss: None,
        };
        let start = [2.0];
        let mut optimizer = Optimizer::new(&training, proximal, &start);
        gradients
            .iter()
            .for_each(|&gradient| optimizer.step(&[gradient]));
        optimizer.difference()[0]
    }

    #[test]
    fn each_rule_takes_the_steps_computed_by_hand() {
        let close = |found: f32, expected: f32| assert!((found - expected).abs() < 1e-6, "{found}");
        close(moved(plan::Optimizer::Sgd, 0.0, &[1.0, -3.0]), -0.1 + 0.3);
        let momentum = plan::Optimizer::Momentum { decay: 0.5 };
        // Sums 1, then 0.5 + 1.
        close(moved(momentum, 0.0, &[1.0, 1.0]), -0.1 - 0.15);
        // The first step of Adam has the learning rate's length, whatever the gradient's.
        close(moved(plan::Optimizer::Adam, 0.0, &[40.0]), -0.1);
        // Moments 0.1, 0.001; then 0.19 / 0.19 and 0.001999 / 0.001999.
        close(moved(plan::Optimizer::Adam, 0.0, &[1.0, 1.0]), -0.2);
        // Moments (0.09 - 0.2) / 0.19 and (0.000999 + 0.004) / 0.001999.
        let second = (-0.11 / 0.19) / (0.004_999_f32 / 0.001_999).sqrt();
        close(
            moved(plan::Optimizer::Adam, 0.0, &[1.0, -2.0]),
            -0.1 - 0.1 * second,
        );
    }

    #[test]
    fn the_proximal_pull_leads_back_to_the_start() {
        let free = moved(plan::Optimizer::Sgd, 0.0, &[1.0, 0.0]);
        let pulled = moved(plan::Optimizer::Sgd, 2.0, &[1.0, 0.0]);
        assert!((free + 0.1).abs() < 1e-6);
        // The second step is 0.1 · 2 · 0.1 back.
        assert!((pulled + 0.1 - 0.02).abs() < 1e-6, "{pulled}");
    }
}

//! What moves the weights: SGD, momentum, Adam or AdamW over one flat vector.
//!
//! It sees gradients only after noise was added, so all of it is post-processing.

use consilium_proto::plan::{self, Schedule, Training};

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
    schedule: Schedule,
    /// Steps of the study done, and all of them.
    done: u64,
    all: u64,
    /// Running mean of the weights and its decay, if the plan asks for one.
    average: Option<(f32, Vec<f32>)>,
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
        weight_decay: f32,
    },
}

impl<'a> Optimizer<'a> {
    pub(super) fn new(training: &Training, proximal: f64, start: &'a [f32]) -> Self {
        let zeros = || vec![0.0; start.len()];
        let adam = |weight_decay: f64| Rule::Adam {
            first: zeros(),
            second: zeros(),
            steps: 0,
            weight_decay: weight_decay as f32,
        };
        let rule = match training.optimizer {
            plan::Optimizer::Sgd => Rule::Sgd,
            plan::Optimizer::Momentum { decay } => Rule::Momentum {
                decay: decay as f32,
                sum: zeros(),
            },
            plan::Optimizer::Adam => adam(0.0),
            plan::Optimizer::AdamW { weight_decay } => adam(weight_decay),
        };
        let decay = training.average_decay;
        Self {
            start,
            weights: start.to_vec(),
            rule,
            learning_rate: training.learning_rate as f32,
            schedule: training.schedule,
            done: 0,
            all: u64::from(training.steps),
            average: (decay > 0.0).then(|| (decay as f32, start.to_vec())),
            proximal: proximal as f32,
        }
    }

    /// For a round of several, counted from 1: the schedule goes on from the last.
    pub(super) fn in_round(self, round: u32, rounds: u32) -> Self {
        let steps = self.all;
        Self {
            done: u64::from(round.saturating_sub(1)) * steps,
            all: u64::from(rounds) * steps,
            ..self
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
            schedule,
            done,
            all,
            average,
            proximal,
        } = self;
        let learning_rate = *learning_rate * schedule.factor(*done, *all) as f32;
        *done += 1;
        // What the means of Adam are divided by, as they begin at zero.
        let mut begun = [1.0; 2];
        if let Rule::Adam { steps, .. } = rule {
            *steps += 1;
            begun = [BETA1, BETA2].map(|decay| 1.0 - decay.powi(*steps));
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
                    weight_decay,
                    ..
                } => {
                    first[at] = BETA1 * first[at] + (1.0 - BETA1) * gradient;
                    second[at] = BETA2 * second[at] + (1.0 - BETA2) * gradient * gradient;
                    let mean = first[at] / begun[0];
                    let square = second[at] / begun[1];
                    mean / (square.sqrt() + EPSILON) + *weight_decay * *weight
                }
            };
            *weight -= learning_rate * direction;
        }
        if let Some((decay, mean)) = average {
            for (mean, weight) in mean.iter_mut().zip(weights) {
                *mean = *decay * *mean + (1.0 - *decay) * *weight;
            }
        }
    }

    /// Weights now, or their running mean, minus weights at the start.
    pub(super) fn difference(&self) -> Vec<f32> {
        let end = self
            .average
            .as_ref()
            .map_or(&self.weights, |(_, mean)| mean);
        end.iter()
            .zip(self.start)
            .map(|(now, start)| now - start)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn training(optimizer: plan::Optimizer) -> Training {
        Training {
            steps: 1,
            batch_size: 1,
            optimizer,
            learning_rate: 0.1,
            schedule: Schedule::Constant,
            views: 1,
            average_decay: 0.0,
            loss: None,
        }
    }

    fn moved(optimizer: plan::Optimizer, proximal: f64, gradients: &[f32]) -> f32 {
        let start = [2.0];
        let mut optimizer = Optimizer::new(&training(optimizer), proximal, &start);
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

    #[test]
    fn decayed_weights_shrink_apart_from_the_gradient() {
        let optimizer = plan::Optimizer::AdamW { weight_decay: 0.5 };
        // The step of Adam, and 0.1 · 0.5 · 2.
        assert!((moved(optimizer, 0.0, &[40.0]) + 0.1 + 0.1).abs() < 1e-6);
    }

    #[test]
    fn a_running_mean_of_the_weights_is_sent_if_asked_for() {
        let training = Training {
            average_decay: 0.75,
            ..training(plan::Optimizer::Sgd)
        };
        let mut optimizer = Optimizer::new(&training, 0.0, &[2.0]);
        optimizer.step(&[4.0]);
        optimizer.step(&[4.0]);
        // Weights 1.6 and 1.2; means 1.9 and 1.725.
        assert!((optimizer.weights()[0] - 1.2).abs() < 1e-6);
        assert!((optimizer.difference()[0] - (1.725 - 2.0)).abs() < 1e-6);
    }

    #[test]
    fn a_schedule_goes_on_from_round_to_round() {
        let training = Training {
            schedule: Schedule::Cosine { warm_up: 0.0 },
            ..training(plan::Optimizer::Sgd)
        };
        let moved = |round| {
            let mut optimizer = Optimizer::new(&training, 0.0, &[2.0]).in_round(round, 2);
            optimizer.step(&[1.0]);
            optimizer.difference()[0]
        };
        assert!((moved(1) + 0.1).abs() < 1e-6 && (moved(2) + 0.05).abs() < 1e-6);
    }
}

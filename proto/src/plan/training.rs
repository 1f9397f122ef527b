//! What one site does in one round, and how the combined update moves the global model.

use serde::{Deserialize, Serialize};

use super::{PlanError, Task, unsound};
use crate::round_spec;

/// Work of one site in one round: `steps` optimiser steps on batches drawn by Poisson sampling.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Training {
    /// Optimiser steps a round: 1 to 100 000.
    pub steps: u32,
    /// Expected number of patients in a batch, B: 1 to 100 000. Sums are divided by B, and the
    /// sampling rate is min(1, B / public size).
    pub batch_size: u32,
    /// What moves the weights. Default: SGD without momentum.
    #[serde(default)]
    pub optimizer: Optimizer,
    /// Step length of the optimiser: above 0, at most 100.
    pub learning_rate: f64,
    /// How the step length changes over the study. Default: not at all.
    #[serde(default, skip_serializing_if = "Schedule::is_constant")]
    pub schedule: Schedule,
    /// Augmented views of a record whose gradients are averaged before clipping: 1 to 64. Default: 1.
    /// The cost in privacy is the same for any number (De et al. 2022).
    #[serde(default = "one_view", skip_serializing_if = "is_one")]
    pub views: u32,
    /// Decay of a running mean of the weights over a round's steps: 0 or more, below 1. The mean is
    /// what the site sends. Default: 0, the last weights.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub average_decay: f64,
    /// What is minimised. Default: what fits the task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loss: Option<Loss>,
}

/// Optimiser at a site. Its state starts anew in every round.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(tag = "name", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Optimizer {
    /// Plain steps against the gradient.
    #[default]
    Sgd,
    /// Steps along a decaying sum of gradients.
    Momentum {
        /// What remains of the sum at each step: 0 or more, below 1.
        #[serde(default = "nine_tenths")]
        decay: f64,
    },
    /// Adam (Kingma and Ba 2015) with the usual decays 0.9 and 0.999.
    Adam,
    /// As `adam`, and weights shrink apart from the gradient (Loshchilov and Hutter 2019).
    AdamW {
        /// Share of a weight, over the step length, that goes at each step: 0 to 1. Default: 0.01.
        #[serde(default = "hundredth")]
        weight_decay: f64,
    },
}

/// How the step length changes, from 1 times `learning_rate` at most.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(tag = "name", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Schedule {
    /// Not at all.
    #[default]
    Constant,
    /// Grows over the first steps, then falls along half a cosine to 0 at the study's last step.
    Cosine {
        /// Share of the study's steps over which it grows: 0 or more, below 1. Default: 0.
        #[serde(default)]
        warm_up: f64,
    },
}

impl Schedule {
    fn is_constant(&self) -> bool {
        *self == Self::Constant
    }

    /// Factor on the step length, where `done` of the study's `steps` are done.
    pub fn factor(&self, done: u64, steps: u64) -> f64 {
        match *self {
            Self::Constant => 1.0,
            Self::Cosine { warm_up } => {
                let (done, steps) = (done as f64, steps.max(1) as f64);
                let rising = warm_up * steps;
                if done < rising {
                    return (done + 1.0).min(rising) / rising;
                }
                let fallen = (done - rising) / (steps - rising);
                0.5 + 0.5 * (std::f64::consts::PI * fallen).cos()
            }
        }
    }
}

/// What is minimised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Loss {
    /// For classes, in nats.
    CrossEntropy,
    /// For a regression target.
    MeanSquaredError,
}

/// How the combined update of a round moves the global model (Reddi et al. 2021).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "name", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Strategy {
    /// Adds the weighted mean of the updates (McMahan et al. 2017).
    FedAvg {
        /// Factor on the mean: above 0, at most 100. Default: 1.
        #[serde(default = "one")]
        learning_rate: f64,
    },
    /// Adds a decaying sum of the means.
    FedAvgM {
        /// Factor on the sum: above 0, at most 100. Default: 1.
        #[serde(default = "one")]
        learning_rate: f64,
        /// What remains of the sum at each round: 0 or more, below 1. Default: 0.9.
        #[serde(default = "nine_tenths")]
        momentum: f64,
    },
    /// As `fed-avg`; each site is also pulled back to the global model (Li et al. 2020).
    FedProx {
        /// Factor on the mean: above 0, at most 100. Default: 1.
        #[serde(default = "one")]
        learning_rate: f64,
        /// Strength of the pull (mu): above 0, at most 100. Default: 0.01.
        #[serde(default = "hundredth")]
        proximal: f64,
    },
    /// Adam on the coordinator.
    FedAdam(Adaptive),
    /// Yogi on the coordinator.
    FedYogi(Adaptive),
    /// Adagrad on the coordinator.
    FedAdagrad(Adaptive),
    /// Adds the sum of the updates, each site's as it is: for counts.
    Sum,
}

/// Settings of the adaptive server optimisers.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Adaptive {
    /// Step length: above 0, at most 100. Default: 0.01.
    #[serde(default = "hundredth")]
    pub learning_rate: f64,
    /// What remains of the first moment: 0 or more, below 1. Default: 0.9.
    #[serde(default = "nine_tenths")]
    pub beta1: f64,
    /// What remains of the second moment: 0 or more, below 1. Default: 0.99.
    #[serde(default = "beta2")]
    pub beta2: f64,
    /// Added to the root of the second moment: above 0. Default: 0.001.
    #[serde(default = "tau")]
    pub tau: f64,
}

impl Default for Strategy {
    fn default() -> Self {
        Self::FedAvg { learning_rate: 1.0 }
    }
}

fn one_view() -> u32 {
    1
}

fn is_one(views: &u32) -> bool {
    *views == 1
}

fn is_zero(decay: &f64) -> bool {
    *decay == 0.0
}

fn one() -> f64 {
    1.0
}

fn nine_tenths() -> f64 {
    0.9
}

fn hundredth() -> f64 {
    0.01
}

fn beta2() -> f64 {
    0.99
}

fn tau() -> f64 {
    1e-3
}

impl Training {
    /// What is minimised: as the plan says, else what fits the task.
    pub fn loss(&self, task: Task) -> Loss {
        self.loss.unwrap_or(match task {
            Task::ImageRegression => Loss::MeanSquaredError,
            _ => Loss::CrossEntropy,
        })
    }

    pub(super) fn check(&self, task: Task) -> Result<(), PlanError> {
        if !(1..=100_000).contains(&self.steps) {
            return unsound(
                "training.steps",
                format!("must be 1 to 100000, found {}", self.steps),
            );
        }
        if !(1..=100_000).contains(&self.batch_size) {
            let reason = format!("must be 1 to 100000, found {}", self.batch_size);
            return unsound("training.batch_size", reason);
        }
        is_rate("training.learning_rate", self.learning_rate)?;
        if let Optimizer::Momentum { decay } = self.optimizer {
            is_decay("training.optimizer.decay", decay)?;
        }
        if let Optimizer::AdamW { weight_decay } = self.optimizer
            && !(0.0..=1.0).contains(&weight_decay)
        {
            let reason = format!("must be 0 to 1, found {weight_decay}");
            return unsound("training.optimizer.weight_decay", reason);
        }
        if let Schedule::Cosine { warm_up } = self.schedule {
            is_decay("training.schedule.warm_up", warm_up)?;
        }
        if !(1..=64).contains(&self.views) {
            let reason = format!("must be 1 to 64, found {}", self.views);
            return unsound("training.views", reason);
        }
        is_decay("training.average_decay", self.average_decay)?;
        match (task, self.loss(task)) {
            (Task::ImageRegression, Loss::CrossEntropy) => unsound(
                "training.loss",
                "a regression target needs `mean-squared-error`",
            ),
            (Task::ImageRegression, _) | (_, Loss::CrossEntropy) => Ok(()),
            (_, Loss::MeanSquaredError) => unsound("training.loss", "classes need `cross-entropy`"),
        }
    }
}

impl Strategy {
    /// Its name in a plan.
    pub fn name(&self) -> &'static str {
        match self {
            Self::FedAvg { .. } => "fed-avg",
            Self::FedAvgM { .. } => "fed-avg-m",
            Self::FedProx { .. } => "fed-prox",
            Self::FedAdam(_) => "fed-adam",
            Self::FedYogi(_) => "fed-yogi",
            Self::FedAdagrad(_) => "fed-adagrad",
            Self::Sum => "sum",
        }
    }

    /// What a site's update weighs, given the public size of its data set.
    pub fn weight_of(&self, public_size: u64) -> u32 {
        round_spec::weight_of(public_size).min(self.largest_weight())
    }

    /// Most that a site's update may weigh: all weigh the same where they are added up.
    pub fn largest_weight(&self) -> u32 {
        match self {
            Self::Sum => 1,
            _ => round_spec::WEIGHT_LIMIT,
        }
    }

    /// Strength of the pull to the global model at the sites; 0 for most strategies.
    pub fn proximal(&self) -> f64 {
        match self {
            Self::FedProx { proximal, .. } => *proximal,
            _ => 0.0,
        }
    }

    pub(super) fn check(&self) -> Result<(), PlanError> {
        match *self {
            Self::Sum => Ok(()),
            Self::FedAvg { learning_rate } => is_rate("strategy.learning_rate", learning_rate),
            Self::FedAvgM {
                learning_rate,
                momentum,
            } => {
                is_rate("strategy.learning_rate", learning_rate)?;
                is_decay("strategy.momentum", momentum)
            }
            Self::FedProx {
                learning_rate,
                proximal,
            } => {
                is_rate("strategy.learning_rate", learning_rate)?;
                is_rate("strategy.proximal", proximal)
            }
            Self::FedAdam(adaptive) | Self::FedYogi(adaptive) | Self::FedAdagrad(adaptive) => {
                is_rate("strategy.learning_rate", adaptive.learning_rate)?;
                is_decay("strategy.beta1", adaptive.beta1)?;
                is_decay("strategy.beta2", adaptive.beta2)?;
                is_rate("strategy.tau", adaptive.tau)
            }
        }
    }
}

fn is_rate(field: &'static str, value: f64) -> Result<(), PlanError> {
    if value > 0.0 && value <= 100.0 {
        return Ok(());
    }
    unsound(
        field,
        format!("must be above 0 and at most 100, found {value}"),
    )
}

fn is_decay(field: &'static str, value: f64) -> Result<(), PlanError> {
    if (0.0..1.0).contains(&value) {
        return Ok(());
    }
    unsound(
        field,
        format!("must be 0 or more and below 1, found {value}"),
    )
}

//! What protects the patients of a study.

use serde::{Deserialize, Serialize};

use super::{PlanError, unsound};

/// Largest δ that a plan may ask for. A site refuses any above 1 / (10 · public size).
pub const DELTA_LIMIT: f64 = 1e-2;

/// The privacy that a plan asks of every site.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Privacy {
    /// Where the noise is added. Default: `local`.
    #[serde(default)]
    pub mode: Mode,
    /// What neighbouring data sets differ by. Default: the patient.
    #[serde(default)]
    pub unit: Unit,
    /// Largest L2 norm of one patient's gradient (C): above 0, at most 10⁶. Needed unless `none`. Where
    /// clipping is adaptive, C starts there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clipping_norm: Option<f64>,
    /// How a patient's gradient is brought to that norm. Default: scaled down where it is longer.
    #[serde(default, skip_serializing_if = "Clipping::is_flat")]
    pub clipping: Clipping,
    /// Target ε of each site over the whole study: above 0, at most 100. Each site finds its noise
    /// multiplier from it. Give this or `noise_multiplier`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epsilon: Option<f64>,
    /// δ of each site over the whole study: above 0, below 10⁻². Needed unless `none`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delta: Option<f64>,
    /// Noise deviation over the clipping norm (σ): above 0, at most 1000. Give this or `epsilon`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub noise_multiplier: Option<f64>,
}

/// How a patient's gradient is brought to norm C at most. All of them have the same guarantee.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(tag = "name", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Clipping {
    /// Scaled down where it is longer.
    #[default]
    Flat,
    /// Each layer of its own to C/√L, for L layers: their squares add up to C².
    PerLayer,
    /// Scaled by C / (norm + γ), whatever its norm (Bu et al. 2022).
    Automatic {
        /// γ, in units of the gradient: above 0, at most 10⁶. Default: 0.01.
        #[serde(default = "hundredth")]
        gamma: f64,
    },
    /// As flat, to a C that follows a quantile of the gradients' norms (Andrew et al. 2021) from step to
    /// step and round to round, at each site by its own noisy counts. `clipping_norm` is where it starts,
    /// at least 10⁻⁶. A count is released with the noise of the step: no charge is added.
    Adaptive {
        /// Share of gradients that are kept as they are (γ): above 0, below 1. Default: 0.5.
        #[serde(default = "half")]
        quantile: f64,
        /// How fast C moves (η): above 0, at most 1. Default: 0.2.
        #[serde(default = "fifth")]
        rate: f64,
        /// Deviation of the noise on a step's count over the batch size (σ_b / B): above 0, at most 1.
        /// Less of it takes more of C from the gradients, and σ has to be below 2σ_b. Default: 0.05.
        #[serde(default = "twentieth")]
        count_noise: f64,
    },
}

impl Clipping {
    fn is_flat(&self) -> bool {
        *self == Self::Flat
    }

    fn check(&self, privacy: &Privacy, batch_size: u32) -> Result<(), PlanError> {
        match *self {
            Self::Flat | Self::PerLayer => Ok(()),
            Self::Automatic { gamma } => above_zero("privacy.clipping.gamma", Some(gamma), 1e6),
            Self::Adaptive {
                quantile,
                rate,
                count_noise,
            } => {
                if !(quantile > 0.0 && quantile < 1.0) {
                    let reason = format!("must be above 0 and below 1, found {quantile}");
                    return unsound("privacy.clipping.quantile", reason);
                }
                above_zero("privacy.clipping.rate", Some(rate), 1.0)?;
                above_zero("privacy.clipping.count_noise", Some(count_noise), 1.0)?;
                if privacy.clipping_norm.is_some_and(|norm| norm < 1e-6) {
                    let reason = "must be 1e-6 or more where clipping is adaptive";
                    return unsound("privacy.clipping_norm", reason);
                }
                let most = 2.0 * count_noise * f64::from(batch_size);
                match privacy.noise_multiplier {
                    Some(sigma) if sigma >= most => unsound(
                        "privacy.clipping.count_noise",
                        format!(
                            "times the batch size must be above half the noise multiplier {sigma}, \
                             found {}",
                            most / 2.0
                        ),
                    ),
                    _ => Ok(()),
                }
            }
        }
    }
}

fn hundredth() -> f64 {
    0.01
}

fn half() -> f64 {
    0.5
}

fn fifth() -> f64 {
    0.2
}

fn twentieth() -> f64 {
    0.05
}

/// Where the noise is added.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// At each site alone, before anything leaves it.
    #[default]
    Local,
    /// By all sites together: each adds a share, so that the sum of those that are guaranteed to be in it,
    /// and honest, carries the whole. One step a round, at the global weights. Needs secure aggregation,
    /// which the guarantee then rests on.
    Distributed,
    /// Nowhere. Must be asked for by name, and allowed by each site's policy.
    None,
}

/// What neighbouring data sets differ by: add or remove one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Unit {
    /// Everything that belongs to one patient.
    #[default]
    Patient,
}

/// How much noise a private plan asks for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum NoiseTarget {
    /// As much as keeps ε below this over the whole study.
    Epsilon(f64),
    /// This noise multiplier, whatever ε it gives.
    Multiplier(f64),
}

impl Privacy {
    /// Clipping norm, δ and noise of a private plan; none when the mode is `none`.
    pub fn guarantee(&self) -> Option<Guarantee> {
        let target = match (self.epsilon, self.noise_multiplier) {
            (Some(epsilon), _) => NoiseTarget::Epsilon(epsilon),
            (_, Some(multiplier)) => NoiseTarget::Multiplier(multiplier),
            _ => return None,
        };
        Some(Guarantee {
            clipping_norm: self.clipping_norm?,
            delta: self.delta?,
            target,
        })
    }

    pub(super) fn check(&self, batch_size: u32) -> Result<(), PlanError> {
        if self.mode == Mode::None {
            let given = [
                self.clipping_norm,
                self.epsilon,
                self.delta,
                self.noise_multiplier,
            ];
            return match given.iter().all(Option::is_none) && self.clipping.is_flat() {
                true => Ok(()),
                false => unsound(
                    "privacy.mode",
                    "`none` gives no guarantee: leave the rest out",
                ),
            };
        }
        above_zero("privacy.clipping_norm", self.clipping_norm, 1e6)?;
        self.clipping.check(self, batch_size)?;
        match self.delta {
            Some(delta) if delta > 0.0 && delta < DELTA_LIMIT => {}
            Some(delta) => {
                return unsound(
                    "privacy.delta",
                    format!("must be above 0, below 0.01, found {delta}"),
                );
            }
            None => return unsound("privacy.delta", "is missing"),
        }
        match (self.epsilon, self.noise_multiplier) {
            (Some(_), None) => above_zero("privacy.epsilon", self.epsilon, 100.0),
            (None, Some(_)) => above_zero("privacy.noise_multiplier", self.noise_multiplier, 1e3),
            (Some(_), Some(_)) => unsound(
                "privacy.epsilon",
                "give this or privacy.noise_multiplier, not both",
            ),
            (None, None) => unsound("privacy.epsilon", "give this or privacy.noise_multiplier"),
        }
    }
}

/// What a private plan fixes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Guarantee {
    /// Largest L2 norm of one patient's gradient, or where adaptive clipping starts.
    pub clipping_norm: f64,
    /// δ over the whole study.
    pub delta: f64,
    /// ε over the whole study, or the noise itself.
    pub target: NoiseTarget,
}

fn above_zero(field: &'static str, value: Option<f64>, limit: f64) -> Result<(), PlanError> {
    match value {
        Some(value) if value > 0.0 && value <= limit => Ok(()),
        Some(value) => unsound(
            field,
            format!("must be above 0 and at most {limit}, found {value}"),
        ),
        None => unsound(field, "is missing"),
    }
}

//! U: how long an update may be, from figures of the plan alone.
//!
//! A bound that is too tight slows training down, one that is too loose wastes bits of the grid,
//! of which there are plenty: a bound ten times too large still leaves a typical coordinate hundreds
//! of grid units. So everything here errs upwards.

use super::{Clipping, NoiseTarget, Optimizer, Plan};

/// Norm of a gradient that is not clipped, as far as a plan can know.
const UNCLIPPED: f64 = 10.0;
/// How far an adaptive C may have moved from where it started.
const MOVED: f64 = 10.0;
/// Room above what is expected.
const ROOM: f64 = 2.0;

impl Plan {
    /// U, largest L2 norm of a site's update: what the plan says, or computed for so many
    /// parameters d. With S steps of length η on batches of B, clipping norm C and noise multiplier σ:
    /// 2 η (S C + σ C √(S d) / B), and 2 η S √d where the optimiser scales each coordinate.
    pub fn update_bound(&self, parameters: usize) -> f64 {
        if let Some(bound) = self.update_bound {
            return bound;
        }
        let training = &self.training;
        let (steps, parameters) = (f64::from(training.steps), parameters as f64);
        let length = match training.optimizer {
            Optimizer::Adam | Optimizer::AdamW { .. } => {
                return ROOM * training.learning_rate * steps * parameters.sqrt();
            }
            Optimizer::Momentum { decay } => training.learning_rate / (1.0 - decay),
            Optimizer::Sgd => training.learning_rate,
        };
        let Some(guarantee) = self.privacy.guarantee() else {
            if self.network.counts() {
                // Each patient adds one count to each column.
                let columns = self.table.as_ref().map_or(1, |table| table.columns.len());
                return ROOM * (columns as f64).sqrt();
            }
            return ROOM * length * steps * UNCLIPPED;
        };
        let moved = match self.privacy.clipping {
            Clipping::Adaptive { .. } => MOVED,
            _ => 1.0,
        };
        let noise = match guarantee.target {
            NoiseTarget::Multiplier(sigma) => sigma,
            NoiseTarget::Epsilon(epsilon) => {
                most_noise(epsilon, guarantee.delta, steps * f64::from(self.rounds))
            }
        };
        let noise = noise * (steps * parameters).sqrt() / f64::from(training.batch_size);
        ROOM * length * guarantee.clipping_norm * moved * (steps + noise)
    }
}

/// Noise multiplier that is enough for so many releases without sampling, so more than any site
/// needs: by ε = ρ + 2 √(ρ ln(1/δ)) and ρ = T / (2 σ²) (Bun and Steinke 2016, proposition 1.3 and
/// lemma 1.7).
fn most_noise(epsilon: f64, delta: f64, releases: f64) -> f64 {
    let log = -delta.ln();
    let root_of_rho = (log + epsilon).sqrt() - log.sqrt();
    (releases / 2.0).sqrt() / root_of_rho
}

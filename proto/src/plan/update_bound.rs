//! U: how long an update may be, from figures of the plan alone.
//!
//! A bound that is too tight slows training down, one that is too loose wastes bits of the grid,
//! of which there are plenty: a bound ten times too large still leaves a typical coordinate hundreds
//! of grid units. So everything here errs upwards.

use super::{Clipping, Guarantee, Mode, Network, NoiseTarget, Optimizer, Plan};

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
                return ROOM * self.count_norm();
            }
            return ROOM * length * steps * UNCLIPPED;
        };
        let moved = match self.privacy.clipping {
            Clipping::Adaptive { .. } => MOVED,
            _ => 1.0,
        };
        let noise = self.most_noise(&guarantee) * (steps * parameters).sqrt();
        let noise = noise / f64::from(training.batch_size);
        ROOM * length * guarantee.clipping_norm * moved * (steps + noise)
    }

    /// Largest L2 norm of what one patient adds to a network of counts: √(1 + most) of `naive-bayes` with
    /// `most`, else the root of the number of columns.
    pub fn count_norm(&self) -> f64 {
        let counts = match self.network {
            Network::NaiveBayes { most: Some(most) } => 1 + most,
            _ => self.table.as_ref().map_or(1, |table| table.columns.len()),
        };
        (counts as f64).sqrt()
    }

    /// Standard deviation of the noise on each count of a network of counts after a round of all sites, in
    /// patients; 0 without privacy. Where the plan gives ε and not σ it errs upwards: a site that draws
    /// batches needs less noise than is assumed.
    pub fn count_noise(&self) -> f64 {
        let Some(guarantee) = self.privacy.guarantee() else {
            return 0.0;
        };
        let shares = match self.privacy.mode {
            Mode::Distributed => self.noise_shares().max(1),
            Mode::Local | Mode::None => 1,
        };
        let sites = f64::from(self.cohort.size) / f64::from(shares);
        self.most_noise(&guarantee) * guarantee.clipping_norm * sites.sqrt()
    }

    /// Noise multiplier of any site, or more.
    fn most_noise(&self, guarantee: &Guarantee) -> f64 {
        match guarantee.target {
            NoiseTarget::Multiplier(sigma) => sigma,
            NoiseTarget::Epsilon(epsilon) => {
                let releases = f64::from(self.training.steps) * f64::from(self.rounds);
                most_noise(epsilon, guarantee.delta, releases)
            }
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(network: &str, cohort: &str, privacy: &str) -> Result<Plan, super::super::PlanError> {
        let columns: String = (0..9)
            .map(|at| format!("{{ name = \"c{at}\", edges = [0.5] }},"))
            .collect();
        Plan::from_toml(&format!(
            "name = \"test\"\ntask = \"diagnosis\"\ndata_set = \"d\"\nrounds = 1\n\
             classes = [\"no\", \"yes\"]\nstrategy = {{ name = \"sum\" }}\n\
             cohort = {{ {cohort} }}\ntable.columns = [{columns}]\n\
             network = {{ name = \"naive-bayes\" {network} }}\n\
             training = {{ steps = 1, batch_size = 8, learning_rate = 1.0 }}\n\
             privacy = {{ {privacy} }}\n"
        ))
    }

    #[test]
    fn a_patient_moves_counts_by_what_the_plan_lets_count() {
        let sound = |network| plan(network, "size = 4", "mode = \"none\"").expect("a sound plan");
        assert_eq!(sound("").count_norm(), 3.0);
        assert_eq!(sound(", most = 3").count_norm(), 2.0);
        assert_eq!(sound(", most = 3").update_bound(100), 2.0 * ROOM);
        for most in [0, 10] {
            let refused = plan(&format!(", most = {most}"), "size = 4", "mode = \"none\"");
            let error = refused.expect_err("out of range").to_string();
            assert!(
                error.contains("network.most") && error.contains("(9)"),
                "{error}"
            );
        }
    }

    #[test]
    fn the_noise_on_a_count_is_that_of_all_sites() {
        let noise = |cohort, privacy: &str| {
            let privacy = format!("{privacy}, clipping_norm = 2.0, delta = 1e-5");
            let plan = plan(", most = 3", cohort, &privacy);
            plan.expect("a sound plan").count_noise()
        };
        let close = |found: f64, expected: f64| assert!((found - expected).abs() < 1e-9, "{found}");
        close(noise("size = 4", "noise_multiplier = 1.5"), 6.0);
        // Six sites, each with a fourth of the noise that the sum of four honest ones carries.
        let distributed = "mode = \"distributed\", noise_multiplier = 1.5";
        let cohort = "size = 6, quorum = 5, max_attempts = 1";
        close(noise(cohort, distributed), 3.0 * 1.5_f64.sqrt());
        // ρ = (√(8 + ln 10⁵) − √(ln 10⁵))² = 1.04…: σ = 1 / √(2ρ) is enough for one release.
        let log = 1e5_f64.ln();
        let sigma = 0.5_f64.sqrt() / ((8.0 + log).sqrt() - log.sqrt());
        close(noise("size = 4", "epsilon = 8.0"), 4.0 * sigma);
        let none = plan("", "size = 4", "mode = \"none\"").expect("a sound plan");
        assert_eq!(none.count_noise(), 0.0);
    }
}

//! What a hospital allows: `policy.toml` in the agent's folder, closed unless opened by name.

mod hours;

use std::{collections::BTreeMap, path::Path};

use consilium_models::training::check_noise;
use consilium_privacy::{
    OutOfRange,
    accountant::{
        Accountant as _, Charge, Delta, Epsilon, NoiseMultiplier, Rdp, SamplingRate, calibrate,
    },
    ledger::Budget,
    secagg::Limits,
};
use consilium_proto::{
    Plan,
    plan::{Guarantee, Mode, NoiseTarget, Task},
};
use serde::Deserialize;

pub use self::hours::Hours;
use crate::settings::{self, SettingsError};

/// What a hospital allows. Read anew before every decision and every round, so that a change
/// holds from the next one on.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Policy {
    /// Tasks that a study may have: `image-classification`, `image-regression`,
    /// `tabular-classification`, `note-classification`, `entity-tagging`, `relation-extraction`, `diagnosis`.
    /// Default: none.
    pub tasks: Vec<Task>,
    /// Data sets that studies may use, each with what all studies together may spend on it.
    /// Default: none.
    pub data_sets: BTreeMap<String, Budget>,
    /// Largest ε of one study, above 0. Default: 1.
    pub study_epsilon: Epsilon,
    /// Largest δ of one study, above 0 and below 0.01; 1 / (10 · public size) holds besides.
    /// Default: 1e-5.
    pub study_delta: Delta,
    /// Fewest sites of a round, this one included: 1 to 10 000. Default: 5.
    pub min_cohort: u32,
    /// With secure aggregation: sites that may work together with the coordinator (n_c): 0 to 252. Default: 1
    /// from five sites of a round on, 0 below.
    pub colluding: Option<u32>,
    /// With secure aggregation: fewest honest sites in every sum (h_min): 2 to 255. Default: 3.
    pub honest: u32,
    /// Whether a study may train without privacy, which protects nobody. Default: no.
    pub allow_no_privacy: bool,
    /// Whether a study may share its noise among all sites (`privacy.mode = "distributed"`): ε then
    /// rests on secure aggregation. Default: no.
    pub allow_distributed: bool,
    /// Whether the coordinator may see this site's own update. Default: no.
    pub allow_without_secure_aggregation: bool,
    /// Whether this policy decides on studies alone. Default: no, a person approves each.
    pub auto_approve: bool,
    /// Hours of the day (UTC) in which rounds may train: `{ from = "18:00", to = "06:00" }`.
    /// Default: always.
    pub hours: Option<Hours>,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            tasks: Vec::new(),
            data_sets: BTreeMap::new(),
            // Both are within their ranges.
            study_epsilon: Epsilon::try_from(1.0).expect("1 is above 0"),
            study_delta: Delta::try_from(1e-5).expect("1e-5 is below 0.01"),
            min_cohort: 5,
            colluding: None,
            honest: 3,
            allow_no_privacy: false,
            allow_distributed: false,
            allow_without_secure_aggregation: false,
            auto_approve: false,
            hours: None,
        }
    }
}

/// Why this site does not take part in a study: every reason, each with the field it comes from.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", .objections.join("; "))]
pub struct PolicyRefusal {
    objections: Vec<String>,
}

impl PolicyRefusal {
    /// Each reason, beginning with the field of `policy.toml` or of the plan.
    pub fn objections(&self) -> &[String] {
        &self.objections
    }
}

/// The noise of one study at this site, fixed before its first round.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Noise {
    /// q: chance of each patient to enter a batch.
    pub sampling_rate: SamplingRate,
    /// σ: noise deviation over the clipping norm.
    pub noise_multiplier: NoiseMultiplier,
}

impl Noise {
    /// Finds the noise that keeps all rounds of a plan within its target, for a data set of this
    /// public size.
    ///
    /// # Errors
    /// No noise reaches the target, or the plan's clipping has no room for so much of it.
    pub fn of(plan: &Plan, guarantee: &Guarantee, public_size: u64) -> Result<Self, OutOfRange> {
        let rate = f64::from(plan.training.batch_size) / public_size.max(1) as f64;
        let sampling_rate = SamplingRate::try_from(rate.min(1.0))?;
        let noise_multiplier = match guarantee.target {
            NoiseTarget::Multiplier(sigma) => NoiseMultiplier::try_from(sigma)?,
            NoiseTarget::Epsilon(epsilon) => {
                // A pure release adds its ε at every order, so what reports cost is taken off.
                let epsilon = Epsilon::try_from(epsilon - plan.report_epsilon())?;
                let delta = guarantee.delta.try_into()?;
                calibrate(epsilon, delta, sampling_rate, total_steps(plan)?)?
            }
        };
        check_noise(plan, noise_multiplier)?;
        Ok(Self {
            sampling_rate,
            noise_multiplier,
        })
    }

    /// What all rounds of a plan cost.
    ///
    /// # Errors
    /// More steps than can be counted.
    pub fn total_charge(&self, plan: &Plan) -> Result<Charge, OutOfRange> {
        Ok(self.charge(total_steps(plan)?))
    }

    /// What these many steps cost.
    pub fn charge(&self, steps: u32) -> Charge {
        Charge::SampledGaussian {
            q: self.sampling_rate,
            sigma: self.noise_multiplier,
            steps,
        }
    }
}

/// Steps of all rounds together.
fn total_steps(plan: &Plan) -> Result<u32, OutOfRange> {
    let refused = || OutOfRange::new("steps of all rounds", "below 2^32", "more");
    plan.rounds
        .checked_mul(plan.training.steps)
        .ok_or_else(refused)
}

impl Policy {
    /// Reads the file; without one, nothing is allowed.
    ///
    /// # Errors
    /// An unreadable file, an unknown field, a value out of range.
    pub fn load(file: &Path) -> Result<Self, SettingsError> {
        let policy: Self = settings::load(file)?.unwrap_or_default();
        if !(1..=10_000).contains(&policy.min_cohort) {
            return Err(SettingsError::Malformed {
                file: file.display().to_string(),
                reason: format!(
                    "`min_cohort` must be 1 to 10000, found {}",
                    policy.min_cohort
                ),
            });
        }
        let limits = [
            ("honest", Some(policy.honest), 2..=255),
            ("colluding", policy.colluding, 0..=252),
        ];
        for (field, value, allowed) in limits {
            if let Some(value) = value.filter(|value| !allowed.contains(value)) {
                let (least, most) = (allowed.start(), allowed.end());
                return Err(SettingsError::Malformed {
                    file: file.display().to_string(),
                    reason: format!("`{field}` must be {least} to {most}, found {value}"),
                });
            }
        }
        Ok(policy)
    }

    /// What this site insists on in a round of so many sites with secure aggregation.
    pub fn limits(&self, sites: usize) -> Limits {
        let usual = u32::from(sites >= Limits::USUAL.min_cohort);
        Limits {
            min_cohort: (self.min_cohort as usize).max(3),
            colluding: self.colluding.unwrap_or(usual) as usize,
            honest: self.honest as usize,
        }
    }

    /// Compares a plan with what is allowed. The public size is that of the plan's data set, if
    /// it is registered.
    ///
    /// # Errors
    /// All reasons against it.
    pub fn check(&self, plan: &Plan, public_size: Option<u64>) -> Result<(), PolicyRefusal> {
        let mut objections = Vec::new();
        if !self.tasks.contains(&plan.task) {
            objections.push(format!("`tasks` does not list {}", plan.task.name()));
        }
        if !self.data_sets.contains_key(&plan.data_set) {
            objections.push(format!("`data_sets` does not list {:?}", plan.data_set));
        }
        if plan.cohort.size < self.min_cohort {
            objections.push(format!(
                "`min_cohort` is {}, a round of the plan has {} sites",
                self.min_cohort, plan.cohort.size
            ));
        }
        if plan.secure_aggregation {
            let (size, quorum) = (plan.cohort.size as usize, plan.cohort.quorum());
            let limits = self.limits(size);
            let least = limits.least_threshold(size);
            if (quorum as usize) < least {
                objections.push(format!(
                    "`colluding` is {} and `honest` is {}: of {size} sites at least {least} have to \
                     answer, the plan's quorum is {quorum}",
                    limits.colluding, limits.honest
                ));
            }
        } else if !self.allow_without_secure_aggregation {
            objections.push(
                "`allow_without_secure_aggregation` is off, the plan shows this site's own \
                 update to the coordinator"
                    .into(),
            );
        }
        if plan.privacy.mode == Mode::Distributed {
            self.check_distributed(plan, &mut objections);
        }
        match (plan.privacy.mode, plan.privacy.guarantee()) {
            (Mode::None, _) if self.allow_no_privacy => {}
            (Mode::None, _) | (_, None) => {
                objections.push("`allow_no_privacy` is off, the plan trains without privacy".into())
            }
            (_, Some(guarantee)) => {
                self.check_guarantee(plan, &guarantee, public_size, &mut objections);
            }
        }
        if objections.is_empty() {
            Ok(())
        } else {
            Err(PolicyRefusal { objections })
        }
    }

    fn check_distributed(&self, plan: &Plan, objections: &mut Vec<String>) {
        if !self.allow_distributed {
            objections.push(
                "`allow_distributed` is off, the plan lets all sites add the noise together".into(),
            );
        }
        let colluding = self.limits(plan.cohort.size as usize).colluding as u32;
        let (quorum, shares) = (plan.cohort.quorum(), plan.noise_shares());
        if shares + colluding > quorum {
            objections.push(format!(
                "`colluding` is {colluding}: of {quorum} sites that answer too few may be honest for a noise \
                 shared by {shares}"
            ));
        }
    }

    fn check_guarantee(
        &self,
        plan: &Plan,
        guarantee: &Guarantee,
        public_size: Option<u64>,
        objections: &mut Vec<String>,
    ) {
        if guarantee.delta > self.study_delta.value() {
            objections.push(format!(
                "`study_delta` is {}, the plan asks for {}",
                self.study_delta, guarantee.delta
            ));
        }
        if let Some(size) = public_size {
            let largest = 1.0 / (10.0 * size.max(1) as f64);
            if guarantee.delta > largest {
                objections.push(format!(
                    "privacy.delta of the plan is {}, this site's data set allows at most \
                     {largest:.2e}, 1 / (10 x public size)",
                    guarantee.delta
                ));
            }
        }
        match epsilon_of(plan, guarantee, public_size) {
            Ok(Some(epsilon)) if epsilon > self.study_epsilon.value() => objections.push(format!(
                "`study_epsilon` is {}, the plan costs {epsilon:.3}",
                self.study_epsilon
            )),
            Ok(_) => {}
            Err(error) => objections.push(format!("privacy of the plan: {error}")),
        }
    }
}

/// ε of the whole study. A plan that fixes its noise costs what the accountant says, once the
/// public size is known.
fn epsilon_of(
    plan: &Plan,
    guarantee: &Guarantee,
    public_size: Option<u64>,
) -> Result<Option<f64>, OutOfRange> {
    match (guarantee.target, public_size) {
        (NoiseTarget::Epsilon(epsilon), _) => Ok(Some(epsilon)),
        (NoiseTarget::Multiplier(_), None) => Ok(None),
        (NoiseTarget::Multiplier(_), Some(size)) => {
            let charge = Noise::of(plan, guarantee, size)?.charge(total_steps(plan)?);
            let delta = Delta::try_from(guarantee.delta)?;
            let training = Rdp::new().epsilon(&[charge], delta);
            Ok(Some(training + plan.report_epsilon()))
        }
    }
}

#[cfg(test)]
mod tests;

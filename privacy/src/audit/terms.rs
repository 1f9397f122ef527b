//! What a plan fixes about privacy, and whether a ledger kept to it.

use super::Flaw;
use crate::{
    accountant::{Accountant as _, Charge, ClippingNorm, Delta, Epsilon, NoiseMultiplier, Pld},
    ledger::{Charged, Made},
};

/// What a plan fixes for one site.
#[derive(Debug, Clone, PartialEq)]
pub struct Terms {
    /// The data set that the plan names.
    pub data_set: String,
    /// Rounds of the study.
    pub rounds: u32,
    /// Steps of a round.
    pub steps: u32,
    /// B, which sums are divided by.
    pub batch_size: u32,
    /// C, the largest norm of one unit's gradient: in all rounds, or where the first one starts.
    pub clipping_norm: ClippingNorm,
    /// Whether C moves by what noisy sums say.
    pub is_clipping_adaptive: bool,
    /// δ over the whole study.
    pub delta: Delta,
    /// How much noise.
    pub target: Target,
    /// The public size of the data set that the noise was made for, where the site states one.
    pub public_size: Option<u64>,
}

/// How much noise a plan asks for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Target {
    /// As much as keeps all rounds within this ε.
    Epsilon(Epsilon),
    /// This noise multiplier.
    Multiplier(NoiseMultiplier),
}

impl Terms {
    /// q: the batch size over the public size, at most 1.
    pub fn sampling_rate(&self) -> Option<f64> {
        let size = self.public_size?.max(1);
        Some((f64::from(self.batch_size) / size as f64).min(1.0))
    }

    /// All rounds of the plan with the noise of one of its charges; `None` for another mechanism.
    pub fn whole(&self, like: &Charge) -> Option<Charge> {
        let steps = self.rounds.saturating_mul(self.steps);
        matches!(like, Charge::SampledGaussian { .. }).then(|| like.with_releases(steps))
    }

    /// What a charge for training has otherwise. `first` is the study's first such charge, whose
    /// noise holds for all.
    pub(super) fn compare(&self, charged: &Charged, first: &Charge) -> Vec<Flaw> {
        let mut flaws = Vec::new();
        let mut expect = |what, found: String, planned: String| {
            if found != planned {
                flaws.push(Flaw::OffPlan {
                    what,
                    found,
                    planned,
                });
            }
        };
        expect(
            "the data set",
            charged.data_set.clone(),
            self.data_set.clone(),
        );
        if !(1..=self.rounds).contains(&charged.round) {
            let planned = format!("1 to {}", self.rounds);
            expect("the round", charged.round.to_string(), planned);
        }
        if let (
            Charge::SampledGaussian { q, sigma, steps },
            Charge::SampledGaussian { sigma: fixed, .. },
        ) = (charged.charge, *first)
        {
            expect(
                "the number of steps",
                steps.to_string(),
                self.steps.to_string(),
            );
            // Shortest texts of the same numbers are the same, and of others are not.
            if let Some(planned) = self.sampling_rate() {
                expect("the sampling rate", q.to_string(), planned.to_string());
            }
            let planned = match self.target {
                Target::Multiplier(sigma) => sigma,
                Target::Epsilon(_) => fixed,
            };
            expect(
                "the noise multiplier",
                sigma.to_string(),
                planned.to_string(),
            );
        }
        let Some(cap) = charged.study_cap else {
            expect(
                "the study's cap",
                "none".to_owned(),
                format!("one at delta {}", self.delta),
            );
            return flaws;
        };
        expect(
            "delta of the study's cap",
            cap.delta.to_string(),
            self.delta.to_string(),
        );
        if let Target::Epsilon(promised) = self.target
            && cap.epsilon > promised
        {
            expect(
                "epsilon of the study's cap",
                cap.epsilon.to_string(),
                format!("at most {promised}"),
            );
        }
        flaws
    }

    /// What an update has otherwise. `last` is where the study's update before it ended.
    pub(super) fn compare_update(&self, made: &Made, last: Option<ClippingNorm>) -> Vec<Flaw> {
        let mut flaws = Vec::new();
        let mut expect = |what, found: String, planned: String| {
            if found != planned {
                flaws.push(Flaw::OffPlan {
                    what,
                    found,
                    planned,
                });
            }
        };
        let (found, planned) = (made.batch_size, self.batch_size);
        expect("the batch size", found.to_string(), planned.to_string());
        let (start, end, planned) = (
            made.clipping_norm,
            made.next_clipping_norm,
            self.clipping_norm,
        );
        match last.filter(|_| self.is_clipping_adaptive) {
            None => expect("the clipping norm", start.to_string(), planned.to_string()),
            Some(last) if last != start => flaws.push(Flaw::OtherNorm { start, last }),
            Some(_) => {}
        }
        if !self.is_clipping_adaptive && end != planned {
            flaws.push(Flaw::OffPlan {
                what: "the clipping norm after it",
                found: end.to_string(),
                planned: planned.to_string(),
            });
        }
        flaws
    }

    /// What the plan itself promises and does not hold, with the noise of its first charge.
    pub(super) fn compare_whole(&self, first: &Charge, pld: &mut Pld) -> Vec<Flaw> {
        let mut flaws = Vec::new();
        if let (Target::Epsilon(promised), Some(whole)) = (self.target, self.whole(first)) {
            let epsilon = pld.epsilon(&[whole], self.delta);
            if epsilon > promised.value() * TOLERANCE {
                flaws.push(Flaw::PlanCostsMore {
                    epsilon,
                    delta: self.delta.value(),
                    promised: promised.value(),
                });
            }
        }
        if let Some(public_size) = self.public_size {
            // As the site's policy compares it.
            let largest = 1.0 / (10.0 * public_size.max(1) as f64);
            if self.delta.value() > largest {
                flaws.push(Flaw::LargeDelta {
                    delta: self.delta.value(),
                    public_size,
                });
            }
        }
        flaws
    }
}

/// Where a step costs next to nothing, the grid of privacy loss distributions overstates ε by up to
/// a thousandth of what Rényi curves say.
pub(super) const TOLERANCE: f64 = 1.001;

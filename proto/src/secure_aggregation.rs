//! Secure aggregation of one attempt: the numbers that its specification fixes, and the terms that
//! follow from it. Coordinator and sites derive both from the same plan, so a site refuses numbers
//! that are not its own.

use std::time::SystemTime;

use consilium_privacy::secagg::{
    self, Attempt, Context, Limits, Proposal, Repeats, Terms, TermsError,
    encoding::{Encoding, Word},
};

use crate::{
    OutOfRange, Plan, PublicKey, RoundSpec, Signed, Signer, SiteId,
    plan::{Figure, Mode},
    round_spec::WEIGHT_LIMIT,
    wire,
};

/// Largest relative difference of two computations of one update bound: logarithms differ in their
/// last bits between machines.
const BOUND_TOLERANCE: f64 = 1e-9;

/// How the updates of a round become words, and until when their sum is opened.
#[derive(Debug, Clone, PartialEq)]
pub struct SecureAggregation {
    /// U: largest L2 norm of an update; finite, above 0.
    pub update_bound: f64,
    /// W: largest weight, 1 or more.
    pub weight_max: u32,
    /// L: grid units in U, 1 or more.
    pub grid: u64,
    /// Width of a word: 32 or 64.
    pub word_bits: u32,
    /// Largest magnitude of each further figure that is summed; finite, above 0.
    pub figures: Vec<f64>,
    /// Until when survivors confirm and answer, milliseconds since 1970; the deadline or later.
    pub end: u64,
}

impl From<SecureAggregation> for wire::SecureAggregation {
    fn from(secure: SecureAggregation) -> Self {
        Self {
            update_bound: secure.update_bound,
            weight_max: secure.weight_max,
            grid: secure.grid,
            word_bits: secure.word_bits,
            figures: secure.figures,
            end: secure.end,
        }
    }
}

impl TryFrom<wire::SecureAggregation> for SecureAggregation {
    type Error = OutOfRange;
    fn try_from(wire: wire::SecureAggregation) -> Result<Self, OutOfRange> {
        let is_sound = |value: &f64| value.is_finite() && *value > 0.0;
        if !is_sound(&wire.update_bound) || !wire.figures.iter().all(is_sound) {
            return Err(OutOfRange::new(
                "update bound and figures",
                "finite and above 0",
                "others",
            ));
        }
        if wire.weight_max == 0 || wire.grid == 0 {
            return Err(OutOfRange::new("largest weight and grid", "1 or more", 0));
        }
        if !matches!(wire.word_bits, 32 | 64) {
            return Err(OutOfRange::new("word", "of 32 or 64 bits", wire.word_bits));
        }
        Ok(Self {
            update_bound: wire.update_bound,
            weight_max: wire.weight_max,
            grid: wire.grid,
            word_bits: wire.word_bits,
            figures: wire.figures,
            end: wire.end,
        })
    }
}

/// Why a specification gives no terms.
#[derive(Debug, thiserror::Error)]
pub enum NoTerms {
    /// One of specification and plan asks for secure aggregation, the other does not.
    #[error("plan and round differ in whether the coordinator learns only the sum")]
    Differ,
    /// A number that does not follow from the plan.
    #[error("{what} must be {expected}, as it follows from the plan, found {found}")]
    Unlike {
        /// Which number.
        what: &'static str,
        /// By the plan.
        expected: String,
        /// By the specification.
        found: String,
    },
    /// A site of the cohort that may not act.
    #[error("site {0} of the cohort is unknown, revoked or past its date")]
    NotActive(SiteId),
    /// No grid fits, or the protocol's own rules are broken.
    #[error(transparent)]
    Terms(#[from] TermsError),
}

impl SecureAggregation {
    /// The numbers of a round of this plan; none where it switches secure aggregation off.
    /// `parameters` is the length of the update.
    ///
    /// # Errors
    /// A cohort so large that no grid fits a word.
    pub fn of(
        plan: &Plan,
        round: u32,
        parameters: usize,
        cohort: usize,
        end: u64,
    ) -> Result<Option<Self>, TermsError> {
        if !plan.secure_aggregation {
            return Ok(None);
        }
        let word = word_of(plan.word_bits());
        let grid = Encoding::finest_grid(word, cohort, WEIGHT_LIMIT).ok_or(TermsError::Wraps)?;
        Ok(Some(Self {
            update_bound: plan.update_bound(parameters),
            weight_max: WEIGHT_LIMIT,
            grid,
            word_bits: plan.word_bits(),
            figures: (plan.figures(round).into_iter())
                .flat_map(Figure::largest)
                .collect(),
            end,
        }))
    }

    /// Compares with what follows from the plan.
    fn check(&self, expected: &Self) -> Result<(), NoTerms> {
        let unlike = |what, expected: &dyn ToString, found: &dyn ToString| {
            let (expected, found) = (expected.to_string(), found.to_string());
            Err(NoTerms::Unlike {
                what,
                expected,
                found,
            })
        };
        let apart = (self.update_bound / expected.update_bound - 1.0).abs();
        if apart > BOUND_TOLERANCE {
            return unlike("update bound", &expected.update_bound, &self.update_bound);
        }
        if self.weight_max != expected.weight_max {
            return unlike("largest weight", &expected.weight_max, &self.weight_max);
        }
        if self.grid != expected.grid {
            return unlike("grid", &expected.grid, &self.grid);
        }
        if self.word_bits != expected.word_bits {
            return unlike("word", &expected.word_bits, &self.word_bits);
        }
        if self.figures != expected.figures {
            let [expected, found] =
                [&expected.figures, &self.figures].map(|figures| format!("{figures:?}"));
            return unlike("figures", &expected, &found);
        }
        Ok(())
    }
}

impl RoundSpec {
    /// What the attempt fixes for secure aggregation, checked against the plan and these limits.
    /// `signed` is the specification as signed, `parameters` the length of the update, `key_of` the
    /// identity key of a site that may act, `deadline` the specification's end by our own clock.
    ///
    /// # Errors
    /// Numbers that do not follow from the plan, a site that may not act, a rule that is broken.
    pub fn terms(
        &self,
        signed: &Signed,
        plan: &Plan,
        parameters: usize,
        key_of: impl Fn(SiteId) -> Option<PublicKey>,
        limits: Limits,
        deadline: SystemTime,
    ) -> Result<Terms, NoTerms> {
        let sites = self.cohort.len();
        let end = self
            .secure_aggregation
            .as_ref()
            .map_or(0, |secure| secure.end);
        let expected = SecureAggregation::of(plan, self.round.round, parameters, sites, end)?;
        let (Some(secure), Some(expected)) = (&self.secure_aggregation, expected) else {
            return Err(NoTerms::Differ);
        };
        secure.check(&expected)?;
        let members = (self.cohort.iter())
            .map(|&site| {
                let key = key_of(site).ok_or(NoTerms::NotActive(site))?;
                let key = secagg::PublicKey(*key.as_bytes());
                Ok(secagg::Member {
                    id: site.into(),
                    key,
                })
            })
            .collect::<Result<_, NoTerms>>()?;
        let round = self.round;
        let proposal = Proposal {
            context: Context::of(signed.unverified_body()),
            attempt: Attempt {
                study: *round.study.as_bytes(),
                round: round.round,
                attempt: round.attempt,
            },
            members,
            coordinator: secagg::PublicKey(*signed.signer().as_bytes()),
            threshold: self.quorum as usize,
            encoding: Encoding::Weighted {
                bound: secure.update_bound,
                weight_max: secure.weight_max,
                grid: secure.grid,
            },
            word: word_of(secure.word_bits),
            main: parameters,
            tail: secure.figures.clone(),
            repeats: match plan.privacy.mode {
                Mode::Local => Repeats::Free,
                Mode::None => Repeats::Never,
            },
            deadline,
        };
        Ok(Terms::new(proposal, limits)?)
    }
}

fn word_of(bits: u32) -> Word {
    match bits {
        64 => Word::U64,
        _ => Word::U32,
    }
}

impl From<SiteId> for secagg::SiteId {
    fn from(site: SiteId) -> Self {
        Self(site.0.0)
    }
}

impl From<secagg::SiteId> for SiteId {
    fn from(site: secagg::SiteId) -> Self {
        Self(crate::MemberId(site.0))
    }
}

impl secagg::Signer for Signer {
    fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.sign_raw(message)
    }
}

#[cfg(test)]
mod tests;

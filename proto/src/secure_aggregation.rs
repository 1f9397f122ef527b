//! Secure aggregation of one attempt: the numbers that its specification fixes, and the terms that
//! follow from it. Coordinator and sites derive both from the same plan, so a site refuses numbers
//! that are not its own.

use std::{num::NonZeroU32, time::SystemTime};

use consilium_privacy::{
    secagg::{
        self, Attempt, Context, Limits, Proposal, Repeats, Terms, TermsError,
        encoding::{Encoding, Word},
    },
    step::shared_lattice_step,
};

use crate::{
    OutOfRange, Plan, PublicKey, RoundSpec, Signed, Signer, SiteId,
    plan::{Figure, Mode},
    wire,
};

/// Largest relative difference of two computations of one number: logarithms differ in their
/// last bits between machines.
const TOLERANCE: f64 = 1e-9;

/// How the updates of a round become words, and until when their sum is opened.
#[derive(Debug, Clone, PartialEq)]
pub struct SecureAggregation {
    /// What a word of the update is.
    pub form: Form,
    /// Width of a word: 32 or 64.
    pub word_bits: u32,
    /// Largest magnitude of each further figure that is summed; finite, above 0.
    pub figures: Vec<f64>,
    /// Until when survivors confirm and answer, milliseconds since 1970; the deadline or later.
    pub end: u64,
}

/// What a word of an update is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Form {
    /// A coordinate times the site's weight, rounded to a grid.
    Weighted {
        /// U: largest L2 norm of an update; finite, above 0.
        update_bound: f64,
        /// W: largest weight, 1 or more.
        weight_max: u32,
        /// L: grid units in U, 1 or more.
        grid: u64,
    },
    /// A coordinate of a clipped sum with a share of the noise, in lattice units.
    Shares {
        /// g: what a unit is worth; finite, above 0.
        lattice_step: f64,
        /// h: shares that carry the whole noise, 1 or more.
        shares: u32,
    },
}

impl From<SecureAggregation> for wire::SecureAggregation {
    fn from(secure: SecureAggregation) -> Self {
        let mut wire = Self {
            word_bits: secure.word_bits,
            figures: secure.figures,
            end: secure.end,
            ..Self::default()
        };
        match secure.form {
            Form::Weighted {
                update_bound,
                weight_max,
                grid,
            } => {
                wire.update_bound = update_bound;
                wire.weight_max = weight_max;
                wire.grid = grid;
            }
            Form::Shares {
                lattice_step,
                shares,
            } => {
                wire.lattice_step = lattice_step;
                wire.shares = shares;
            }
        }
        wire
    }
}

impl TryFrom<wire::SecureAggregation> for SecureAggregation {
    type Error = OutOfRange;
    fn try_from(wire: wire::SecureAggregation) -> Result<Self, OutOfRange> {
        let is_sound = |value: &f64| value.is_finite() && *value > 0.0;
        let form = match wire.shares {
            0 => Form::Weighted {
                update_bound: wire.update_bound,
                weight_max: wire.weight_max,
                grid: wire.grid,
            },
            shares => Form::Shares {
                lattice_step: wire.lattice_step,
                shares,
            },
        };
        let is_whole = match &form {
            Form::Weighted {
                update_bound,
                weight_max,
                grid,
            } => is_sound(update_bound) && *weight_max > 0 && *grid > 0,
            Form::Shares { lattice_step, .. } => is_sound(lattice_step) && wire.grid == 0,
        };
        if !is_whole || !wire.figures.iter().all(is_sound) {
            let allowed = "made of finite numbers above 0";
            return Err(OutOfRange::new("secure aggregation", allowed, "others"));
        }
        if !matches!(wire.word_bits, 32 | 64) {
            return Err(OutOfRange::new("word", "of 32 or 64 bits", wire.word_bits));
        }
        Ok(Self {
            form,
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
        let (form, word_bits) = match plan.privacy.mode {
            Mode::Distributed => (shares_of(plan).ok_or(TermsError::Wraps)?, 64),
            Mode::Local | Mode::None => {
                let word = word_of(plan.word_bits());
                let weight_max = plan.strategy.largest_weight();
                let grid = Encoding::finest_grid(word, cohort, weight_max);
                let form = Form::Weighted {
                    update_bound: plan.update_bound(parameters),
                    weight_max,
                    grid: grid.ok_or(TermsError::Wraps)?,
                };
                (form, plan.word_bits())
            }
        };
        Ok(Some(Self {
            form,
            word_bits,
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
        let is_near = |found: f64, expected: f64| (found / expected - 1.0).abs() <= TOLERANCE;
        match (&self.form, &expected.form) {
            (
                Form::Weighted {
                    update_bound,
                    weight_max,
                    grid,
                },
                Form::Weighted {
                    update_bound: bound,
                    weight_max: most,
                    grid: finest,
                },
            ) => {
                if !is_near(*update_bound, *bound) {
                    return unlike("update bound", bound, update_bound);
                }
                if weight_max != most {
                    return unlike("largest weight", most, weight_max);
                }
                if grid != finest {
                    return unlike("grid", finest, grid);
                }
            }
            (
                Form::Shares {
                    lattice_step,
                    shares,
                },
                Form::Shares {
                    lattice_step: step,
                    shares: guaranteed,
                },
            ) => {
                if !is_near(*lattice_step, *step) {
                    return unlike("lattice step", step, lattice_step);
                }
                if shares != guaranteed {
                    return unlike("shares of the noise", guaranteed, shares);
                }
            }
            _ => return unlike("form", &"that of privacy.mode", &"another"),
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
            encoding: match secure.form {
                Form::Weighted {
                    update_bound,
                    weight_max,
                    grid,
                } => Encoding::Weighted {
                    bound: update_bound,
                    weight_max,
                    grid,
                },
                Form::Shares { .. } => Encoding::lattice(sites),
            },
            word: word_of(secure.word_bits),
            main: parameters,
            tail: secure.figures.clone(),
            repeats: match plan.privacy.mode {
                Mode::Local => Repeats::Free,
                Mode::Distributed => Repeats::Charged { at_most: 2 },
                Mode::None => Repeats::Never,
            },
            deadline,
        };
        Ok(Terms::new(proposal, limits)?)
    }
}

/// g and h of a distributed plan.
fn shares_of(plan: &Plan) -> Option<Form> {
    let shares = NonZeroU32::new(plan.noise_shares())?;
    let sigma = plan.privacy.noise_multiplier?.try_into().ok()?;
    let norm = plan.privacy.clipping_norm?.try_into().ok()?;
    Some(Form::Shares {
        lattice_step: shared_lattice_step(sigma, norm, shares).ok()?,
        shares: shares.get(),
    })
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

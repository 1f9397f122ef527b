//! What experiments say about a guarantee: lower bounds on ε, and checks of noise and batches.
//!
//! An accountant bounds the privacy loss from above, for code that does what its charge says. An
//! audit runs that code and bounds the loss from below: **a lower bound above the claim proves that
//! the claim is wrong; one below it proves nothing.** Adjacency is add-or-remove-one, as
//! everywhere in this crate; the record at stake is the canary.
//!
//! | what | from |
//! |---|---|
//! | [`Guesses`] | who was in, guessed after one run with many canaries (Steinke, Nasr, Jagielski 2023, arXiv 2305.08846) |
//! | [`Observations`] | false alarms and misses of a test repeated many times (Nasr et al. 2021, arXiv 2101.04535; through Gaussian differential privacy 2023, arXiv 2302.07956) |
//! | [`Residuals`] | the noise itself, where the sum below it is known: deviation, repeats |
//! | [`Batches`] | who was drawn: rate, spread and overlap of Poisson sampling |
//!
//! The first two meet the reference tables in `tests/empirical.rs`.

mod batches;
mod gaussian;
mod guesses;
mod observations;
mod residuals;

pub use batches::Batches;
pub use gaussian::gaussian_epsilon;
pub use guesses::Guesses;
pub use observations::{Errors, Observations};
pub use residuals::Residuals;

use crate::OutOfRange;

/// Standard errors at which a single figure is called irregular: once in 1.7 million for a figure
/// that follows the normal law.
const UNLIKELY: f64 = 5.0;

/// Standard errors at which the most extreme of many figures is called irregular: for a billion of
/// them, still only once in 800 000.
const UNLIKELY_AMONG_MANY: f64 = 8.0;

/// How far a mean of so many squared standard normal numbers is from 1, in standard errors: its
/// cube root is nearly normal (Wilson and Hilferty 1931).
fn chi_squared_errors(mean_square: f64, degrees: f64) -> f64 {
    let width = 2.0 / (9.0 * degrees);
    (mean_square.cbrt() - (1.0 - width)) / width.sqrt()
}

/// Probability with which a lower bound holds: above 0.5 and below 1.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub struct Confidence(f64);

impl Confidence {
    /// The confidence that audits are usually reported with.
    pub const USUAL: Self = Self(0.95);

    /// The number itself.
    pub fn value(self) -> f64 {
        self.0
    }

    /// Probability with which a bound may fail.
    fn significance(self) -> f64 {
        1.0 - self.0
    }
}

impl TryFrom<f64> for Confidence {
    type Error = OutOfRange;

    fn try_from(value: f64) -> Result<Self, OutOfRange> {
        if value > 0.5 && value < 1.0 {
            Ok(Self(value))
        } else {
            let allowed = "above 0.5 and below 1";
            Err(OutOfRange::new("confidence", allowed, value))
        }
    }
}

/// Noise or batches that are not what was charged. Each figure comes with its distance from what
/// is expected, in standard errors.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
pub enum Irregularity {
    /// Over all steps, the noise has another deviation.
    #[error(
        "the noise has {ratio:.4} times the deviation that was charged ({errors:.1} standard errors)"
    )]
    Deviation {
        /// Found over charged.
        ratio: f64,
        /// Distance in standard errors.
        errors: f64,
    },
    /// In one step, the noise has another deviation.
    #[error(
        "in step {step} the noise has another deviation than was charged ({errors:.1} standard errors)"
    )]
    StepDeviation {
        /// Counted from 1.
        step: u32,
        /// Distance in standard errors.
        errors: f64,
    },
    /// Two steps share noise: their difference has none.
    #[error(
        "two steps share noise: their correlation is {correlation:.3} ({errors:.1} standard errors)"
    )]
    Repeated {
        /// From -1 to 1.
        correlation: f64,
        /// Distance in standard errors.
        errors: f64,
    },
    /// Records enter batches at another rate.
    #[error("records are drawn {ratio:.4} times as often as charged ({errors:.1} standard errors)")]
    Rate {
        /// Found over charged.
        ratio: f64,
        /// Distance in standard errors.
        errors: f64,
    },
    /// The sizes of batches vary more or less than independent coins make them vary.
    #[error(
        "batch sizes have {ratio:.3} times the variance of Poisson sampling ({errors:.1} standard errors)"
    )]
    Spread {
        /// Found over that of independent coins.
        ratio: f64,
        /// Distance in standard errors.
        errors: f64,
    },
    /// Batches share more or fewer records than independent ones.
    #[error(
        "successive batches share {ratio:.3} times as many records as independent ones ({errors:.1} standard errors)"
    )]
    Overlap {
        /// Found over that of independent batches.
        ratio: f64,
        /// Distance in standard errors.
        errors: f64,
    },
}

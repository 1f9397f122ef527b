//! Poisson batches that are cut at a largest size.
//!
//! The mechanism: each of n units enters by its own coin (q); of a batch larger than B a uniformly
//! random part of B units is kept; the sum gets Gaussian noise. Add unit x to a data set, and look
//! at the number k of others whose coins came up:
//!
//! - k < B: nothing is cut. x is in the batch with probability q, and moves the sum by up to 1.
//! - k ≥ B: the others' part is a uniform B-subset, whatever k. x is kept with probability
//!   `rate = E[qB/(k+1) | k ≥ B]`, and then takes the place of one of them, which moves the sum by
//!   up to 2.
//!
//! Divergences are jointly convex, so telling which case it was only adds to them, and so does
//! telling which units the others were: one step costs at most what a release costs that is, by a
//! public coin, a sampled Gaussian of sensitivity 2 (with probability `share = P[k ≥ B]`) or of
//! sensitivity 1. The approach is that of Ganesh 2025 (arXiv 2508.15089); Chua et al. 2024 (arXiv
//! 2411.04205) charge the whole of `share` to δ, at every step.
//!
//! k follows the binomial law of n-1 coins: the figure holds for data sets of n units and their
//! neighbours with n-1.

use std::num::NonZeroU32;

use crate::binomial::Binomial;

/// Covers the rounding of the binomial law's sums.
const ROUND_UP: f64 = 1.0 + 1e-9;

/// How often batches are cut, seen from a unit that may be added.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Truncation {
    /// Probability that the others alone fill the batch.
    pub(crate) share: f64,
    /// Probability that they do not. Both are rounded up.
    pub(crate) rest: f64,
    /// Probability that the unit is kept in a batch that the others fill.
    pub(crate) rate: f64,
}

impl Truncation {
    /// `None` where a batch is never cut, or not once in 10³⁰⁰.
    pub(crate) fn of(q: f64, largest_batch: NonZeroU32, units: NonZeroU32) -> Option<Self> {
        let (largest, units) = (u64::from(largest_batch.get()), u64::from(units.get()));
        if largest >= units {
            return None;
        }
        let kept = largest as f64 / units as f64;
        let odds = q / (1.0 - q);
        if !odds.is_finite() {
            // Everybody's coin comes up.
            return Some(Self {
                share: 1.0,
                rest: 0.0,
                rate: kept,
            });
        }
        let share = Binomial::whole(units - 1, odds).at_least(largest);
        // Σ over k ≥ B of P[k]·qB/(k+1) is B/n·P[Bin(n, q) > B].
        let cut = Binomial::whole(units, odds).at_least(largest + 1);
        (share > 0.0).then(|| Self {
            share: (share * ROUND_UP).min(1.0),
            rest: 1.0 - share / ROUND_UP,
            rate: (kept * cut / share * ROUND_UP).min(q),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::accountant::{Accountant as _, Charge, Rdp};

    fn size(size: u32) -> NonZeroU32 {
        NonZeroU32::new(size).expect("not 0")
    }

    #[test]
    fn small_cases_are_those_counted_by_hand() {
        // Three units, coins of 1/2, one place: the other two leave it empty in 1 case of 4. With
        // one of them there the unit is kept in half of its batches, with both in a third.
        let found = Truncation::of(0.5, size(1), size(3)).expect("it is cut");
        assert!((found.share - 0.75).abs() < 1e-8, "{found:?}");
        let rate = (2.0 * 0.5 / 2.0 + 0.5 / 3.0) / 3.0;
        assert!((found.rate - rate).abs() < 1e-8, "{found:?}");
        let certain = Truncation::of(1.0, size(2), size(8)).expect("it is cut");
        assert_eq!((certain.share, certain.rate), (1.0, 0.25));
        assert_eq!(Truncation::of(0.9, size(8), size(8)), None);
        assert_eq!(
            Truncation::of(1e-9, size(4_000_000_000), size(u32::MAX)),
            None
        );
    }

    /// Against SciPy's binomial law: `binom.sf(129, 9999, 0.01)`, and what dp-accounting makes of
    /// it.
    #[test]
    fn shares_and_rates_are_those_of_other_implementations() {
        let found = Truncation::of(0.01, size(130), size(10_000)).expect("it is cut");
        assert!(
            (found.share / 0.002_167_898_801_177_491 - 1.0).abs() < 2e-9,
            "{found:?}"
        );
        assert!(
            (found.rate / 0.009_725_380_070_039_754 - 1.0).abs() < 3e-9,
            "{found:?}"
        );
    }

    /// The figure is proved for one number of units. Where batches have room for the mean, fewer
    /// units were never found to cost more: an observation, and no proof.
    #[test]
    fn fewer_units_and_larger_batches_were_never_found_to_cost_more() {
        let mut rdp = Rdp::new();
        let mut epsilon = |q: f64, sigma: f64, largest_batch, units| {
            let charge = Charge::TruncatedGaussian {
                q: q.try_into().expect("within range"),
                sigma: sigma.try_into().expect("within range"),
                largest_batch: size(largest_batch),
                units: size(units),
                steps: 100,
            };
            rdp.epsilon(&[charge], 1e-5.try_into().expect("within range"))
        };
        for (q, sigma, largest_batch) in [(0.01, 1.0, 120), (0.1, 0.8, 20), (0.5, 4.0, 6)] {
            let most = (f64::from(largest_batch) / q) as u32;
            let mut last = 0.0;
            for tenths in [2, 5, 8, 9, 10] {
                let here = epsilon(q, sigma, largest_batch, most * tenths / 10);
                assert!(here >= last * (1.0 - 1e-9), "{here} after {last}");
                last = here;
            }
            assert!(epsilon(q, sigma, largest_batch + 1, most) <= last);
        }
    }
}

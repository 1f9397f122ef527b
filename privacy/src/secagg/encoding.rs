//! How updates become words and how a sum of words is read: the grid, and why it cannot wrap.
//!
//! An update x of norm at most U becomes `SR(w · x · L / U)`: one rounding, after the weight w.
//! As |xᵢ| ≤ U, a coordinate is at most W·L in magnitude, so a sum of n of them cannot wrap when
//! n(W·L + 1) < 2^(bits − 1). That is checked by every site, whoever chose L.

mod decoding;
mod quantiser;
pub(super) mod words;

#[cfg(test)]
pub(super) use self::quantiser::{encode_lattice, encode_with};
pub use self::{
    decoding::{Implausible, SumReader},
    quantiser::{EncodeError, Encoded, bring_within, encode, encode_share},
    words::{Word, Words},
};

/// Finest grid for 64-bit words: 2⁴⁰ units for the update bound, far below what `f32` resolves,
/// and coarse enough that weighted values keep their fraction in `f64`.
const FINEST: u64 = 1 << 40;

/// Largest weight: with it, W · L is below 2⁵², so exact in `f64`.
const HEAVIEST: u32 = (1 << 12) - 1;

/// How updates become words.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Encoding {
    /// Real numbers with a weight, rounded to a grid.
    Weighted {
        /// U: largest L2 norm of an update. Finite and above 0.
        bound: f64,
        /// W: largest weight, from 1.
        weight_max: u32,
        /// L: grid units in U, from 1. See [`Encoding::finest_grid`].
        grid: u64,
    },
    /// Integers as they are (sums that carry a share of the noise), without a weight.
    Lattice {
        /// Largest magnitude of one site's coordinate.
        limit: u64,
    },
}

impl Encoding {
    /// The finest grid for a cohort: L = ⌊(2^(bits − 1) − 1)/(n·W)⌋ − 1, at most 2⁴⁰. `None` if
    /// there is none.
    pub fn finest_grid(word: Word, sites: usize, weight_max: u32) -> Option<u64> {
        let shares = (sites as u64).checked_mul(weight_max.into())?;
        let units = word.largest().checked_div(shares)?.checked_sub(1)?;
        (units > 0).then_some(units.min(FINEST))
    }

    /// Integers of one site of a cohort, as large as their sum can bear.
    pub fn lattice(sites: usize) -> Self {
        let limit = Word::U64.largest() / sites.max(1) as u64;
        Self::Lattice { limit }
    }

    /// Whether the sum of a cohort's words stays within the signed range of a word.
    pub(super) fn fits(&self, word: Word, sites: usize) -> bool {
        match *self {
            Self::Weighted {
                bound,
                weight_max,
                grid,
            } => {
                // n(W·L + 1) is at most 255 · 2^52.
                (bound.is_finite() && bound > 0.0)
                    && (1..=HEAVIEST).contains(&weight_max)
                    && (1..=FINEST).contains(&grid)
                    && sites as u64 * (u64::from(weight_max) * grid + 1) <= word.largest()
            }
            Self::Lattice { limit } => {
                limit > 0 && word == Word::U64 && limit <= word.largest() / sites as u64
            }
        }
    }

    /// Words of the tail that the weight takes.
    pub(super) fn weight_words(&self) -> usize {
        matches!(self, Self::Weighted { .. }).into()
    }
}

/// Units in the largest magnitude of a figure of the tail: as many as cannot wrap.
fn tail_units(word: Word, sites: usize) -> f64 {
    (word.largest() / sites as u64 - 1).min(FINEST) as f64
}

//! From an update to words: checked, weighted, rounded once, at random and without bias.

use std::fmt;

use super::{Encoding, Words, tail_units};
use crate::{
    keystream::{Keystream, MasterSecret, NoRandomness},
    secagg::{context::Context, terms::Terms},
    step::NoisyShare,
};

/// Why an update does not become words. Nothing of it has left.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
pub enum EncodeError {
    /// The system gave no random bytes to round with.
    #[error(transparent)]
    NoRandomness(#[from] NoRandomness),
    /// Another number of values than the terms say.
    #[error("{what} has {found} values, the round's specification says {expected}")]
    Length {
        /// Update or tail.
        what: &'static str,
        /// By the terms.
        expected: usize,
        /// What was given.
        found: usize,
    },
    /// NaN or infinite.
    #[error("value {position} of the {what} is not a finite number")]
    NotFinite {
        /// Update or tail.
        what: &'static str,
        /// Which value.
        position: usize,
    },
    /// The norm is above the update bound.
    #[error("the update is longer than the bound of {bound}")]
    AboveBound {
        /// U.
        bound: f64,
    },
    /// A coordinate or figure is above its largest magnitude.
    #[error("value {position} of the {what} is above its largest magnitude")]
    AboveLimit {
        /// Update or tail.
        what: &'static str,
        /// Which value.
        position: usize,
    },
    /// The weight is 0, or above the largest.
    #[error("a weight of {found} is not between 1 and {most}")]
    Weight {
        /// What was given.
        found: u32,
        /// W.
        most: u32,
    },
    /// The terms say integers and a real update was given, or the reverse.
    #[error("the round's specification asks for the other kind of encoding")]
    OtherEncoding,
}

/// A vector in the clear, ready to be masked in one attempt. Wiped when dropped.
pub struct Encoded {
    context: Context,
    words: Words,
}

impl Encoded {
    fn new(terms: &Terms, words: Words) -> Self {
        let context = *terms.context();
        Self { context, words }
    }

    /// The attempt it was made for.
    pub(in crate::secagg) fn context(&self) -> &Context {
        &self.context
    }

    /// Gives the words to be masked in place.
    pub(in crate::secagg) fn take_words(mut self) -> Words {
        let word = self.words.word();
        std::mem::replace(&mut self.words, Words::zeros(word, 0))
    }

    /// The words in the clear, for tests of the sum.
    #[cfg(test)]
    pub(in crate::secagg) fn words(&self) -> &Words {
        &self.words
    }
}

impl Drop for Encoded {
    fn drop(&mut self) {
        self.words.wipe();
    }
}

impl fmt::Debug for Encoded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Encoded({} words, [redacted])", self.words.len())
    }
}

/// Scales an update down to norm `bound` if it is longer; a shorter one stays as it is. Says
/// whether it was scaled. Post-processing of an update that is already private.
///
/// The factor leaves room for the rounding of each product to `f32`, so the result is within the
/// bound. Values that are not finite stay so and are refused later.
pub fn bring_within(update: &mut [f32], bound: f64) -> bool {
    let norm = norm(update);
    if norm <= bound {
        return false;
    }
    let factor = bound / norm * (1.0 - f64::from(f32::EPSILON));
    for value in update {
        *value = (f64::from(*value) * factor) as f32;
    }
    true
}

fn norm(update: &[f32]) -> f64 {
    update
        .iter()
        .map(|value| f64::from(*value).powi(2))
        .sum::<f64>()
        .sqrt()
}

/// Weights an update, rounds it to the grid, and appends its weight and its further figures.
///
/// # Errors
/// Lengths, norm, weight or figures outside the terms; a value that is not finite.
pub fn encode(
    terms: &Terms,
    update: &[f32],
    weight: u32,
    tail: &[f64],
) -> Result<Encoded, EncodeError> {
    let mut coins = fresh_coins()?;
    encode_with(terms, update, weight, tail, &mut coins)
}

/// As [`encode`], rounding with these coins.
pub(in crate::secagg) fn encode_with(
    terms: &Terms,
    update: &[f32],
    weight: u32,
    tail: &[f64],
    coins: &mut Keystream,
) -> Result<Encoded, EncodeError> {
    let Encoding::Weighted {
        bound,
        weight_max,
        grid,
    } = *terms.encoding()
    else {
        return Err(EncodeError::OtherEncoding);
    };
    if !(1..=weight_max).contains(&weight) {
        let (found, most) = (weight, weight_max);
        return Err(EncodeError::Weight { found, most });
    }
    check("update", terms.main(), update, |value| value.is_finite())?;
    if norm(update) > bound {
        return Err(EncodeError::AboveBound { bound });
    }
    let mut values = Vec::with_capacity(terms.length());
    let scale = grid as f64 / bound;
    // Exact: below 2^52.
    let most = f64::from(weight) * grid as f64;
    for value in update {
        // The weight times an f32 is exact. |xᵢ| ≤ U up to rounding: the clamp undoes the rounding.
        let weighted = f64::from(*value) * f64::from(weight) * scale;
        values.push(round(weighted.clamp(-most, most), coins));
    }
    values.push(weight.into());
    push_tail(terms, tail, coins, &mut values)?;
    Ok(Encoded::new(terms, words(terms, values)))
}

/// Takes a site's share of a distributed step, and appends the further figures. The share goes
/// nowhere else.
///
/// # Errors
/// Lengths, coordinates or figures outside the terms; a figure that is not finite.
pub fn encode_share(
    terms: &Terms,
    share: NoisyShare,
    tail: &[f64],
) -> Result<Encoded, EncodeError> {
    encode_lattice(terms, share.units(), tail)
}

/// Takes integers as they are, and appends the further figures.
///
/// # Errors
/// Lengths, coordinates or figures outside the terms; a figure that is not finite.
pub(in crate::secagg) fn encode_lattice(
    terms: &Terms,
    sum: &[i64],
    tail: &[f64],
) -> Result<Encoded, EncodeError> {
    let Encoding::Lattice { limit } = *terms.encoding() else {
        return Err(EncodeError::OtherEncoding);
    };
    check("update", terms.main(), sum, |_| true)?;
    if let Some(position) = sum.iter().position(|value| value.unsigned_abs() > limit) {
        let what = "update";
        return Err(EncodeError::AboveLimit { what, position });
    }
    let mut values = Vec::with_capacity(terms.length());
    values.extend_from_slice(sum);
    let mut coins = fresh_coins()?;
    push_tail(terms, tail, &mut coins, &mut values)?;
    Ok(Encoded::new(terms, words(terms, values)))
}

fn fresh_coins() -> Result<Keystream, NoRandomness> {
    Ok(Keystream::new(MasterSecret::random()?.into_pages()))
}

fn check<T>(
    what: &'static str,
    expected: usize,
    values: &[T],
    finite: impl Fn(&T) -> bool,
) -> Result<(), EncodeError> {
    let found = values.len();
    if found != expected {
        return Err(EncodeError::Length {
            what,
            expected,
            found,
        });
    }
    match values.iter().position(|value| !finite(value)) {
        Some(position) => Err(EncodeError::NotFinite { what, position }),
        None => Ok(()),
    }
}

fn push_tail(
    terms: &Terms,
    tail: &[f64],
    coins: &mut Keystream,
    values: &mut Vec<i64>,
) -> Result<(), EncodeError> {
    let what = "tail";
    check(what, terms.tail().len(), tail, |value| value.is_finite())?;
    let units = tail_units(terms.word(), terms.members().len());
    for (position, (value, most)) in tail.iter().zip(terms.tail()).enumerate() {
        if value.abs() > *most {
            return Err(EncodeError::AboveLimit { what, position });
        }
        values.push(round((value / most * units).clamp(-units, units), coins));
    }
    Ok(())
}

/// The integer below or above, with probabilities whose mean is the value. Its fraction is exact
/// in `f64`; the coin has 53 bits.
#[inline]
fn round(value: f64, coins: &mut Keystream) -> i64 {
    // The floor: without SSE 4.1 the library's is a call.
    let towards_zero = value as i64;
    let below = towards_zero - i64::from(value < towards_zero as f64);
    let coin = (coins.word() >> 11) as f64 * 2_f64.powi(-53);
    below + i64::from(coin < value - below as f64)
}

fn words(terms: &Terms, values: Vec<i64>) -> Words {
    match terms.word() {
        // Modulo 2^32, in which the terms leave room for the sum.
        super::Word::U32 => Words::U32(values.iter().map(|value| *value as u32).collect()),
        super::Word::U64 => Words::U64(values.iter().map(|value| value.cast_unsigned()).collect()),
    }
}

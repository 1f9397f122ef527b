//! The sum of clipped gradients, as integers on a lattice.
//!
//! Integer addition is exact and associative: the same batch gives the same sum in every order and
//! on every machine, and the sensitivity is that of single records, with no rounding error that
//! grows with the batch (Casacuberta et al. 2022, arXiv 2207.10635).

use std::fmt;

use zeroize::Zeroize;

use crate::{
    OutOfRange,
    accountant::{ClippingNorm, NoiseMultiplier},
    noise::LATTICE_DEVIATION,
};

/// Most records one sum takes, so that no coordinate can leave `i64`: each is at most 2⁴⁰.
pub const MAX_RECORDS: u32 = 1 << 22;

/// Least noise multiplier of a sum: a record's norm in lattice units, 2²⁹/σ, stays below 2⁴⁰.
const LEAST_SIGMA: f64 = 1.0 / 2048.0;

/// Longest vector: keeps the error of a norm computed in `f64` below [`NORM_ERROR`].
const MAX_LENGTH: usize = 1 << 32;

/// Gradients are clipped to `C' = C(1 - 2⁻¹⁰)`: the rest of C is room for rounding.
const MARGIN: f64 = 1.0 / 1024.0;

/// Bound on the relative error of a clipped gradient's norm before rounding (η). A sum of `d`
/// squares in `f64` errs by at most d·2⁻⁵³ relative (squares of `f32` are exact, all terms are
/// ≥ 0), its root by half of that; quotients and products add less than ten times 2⁻⁵³. For
/// d ≤ 2³² that is below 2⁻²¹.
const NORM_ERROR: f64 = 1.0 / (1 << 20) as f64;

/// The running sum of one step. It holds what the noise has yet to cover, so it never prints and
/// is wiped when dropped.
pub struct ClippedSum {
    values: Vec<i64>,
    sigma: NoiseMultiplier,
    /// C', the norm that gradients are scaled down to.
    clip_to: f64,
    /// g = σC/2²⁹, what one lattice unit is worth.
    lattice_step: f64,
    records: u32,
    not_finite: u32,
}

/// Why a gradient was not added.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AddError {
    /// It has another length than the sum.
    #[error("a gradient has {found} values, the sum has {expected}")]
    WrongLength {
        /// Length of the sum.
        expected: usize,
        /// Length of the gradient.
        found: usize,
    },
    /// The sum is full.
    #[error("a batch may hold {MAX_RECORDS} records; use a smaller sampling rate")]
    TooMany,
}

impl ClippedSum {
    /// An empty sum of `length` coordinates, for records of norm at most `clipping_norm` and noise
    /// of `noise_multiplier` times that norm.
    ///
    /// # Errors
    /// The guarantee could not be proved for these numbers: the noise multiplier is below 1/2048,
    /// or √length times it is above about 2¹⁹, where rounding would eat the margin.
    pub fn new(
        length: usize,
        clipping_norm: ClippingNorm,
        noise_multiplier: NoiseMultiplier,
    ) -> Result<Self, OutOfRange> {
        let (c, sigma) = (clipping_norm.value(), noise_multiplier.value());
        if sigma < LEAST_SIGMA {
            let allowed = "1/2048 or more to be drawn on the lattice";
            return Err(OutOfRange::new("noise multiplier", allowed, sigma));
        }
        if length == 0 || length > MAX_LENGTH {
            return Err(OutOfRange::new("length of a sum", "from 1 to 2^32", length));
        }
        // Sensitivity in units of C: scaling leaves C'(1+η), rounding to the nearest lattice point
        // moves each of d coordinates by at most g/2 and thus the vector by less than g√d.
        let lattice_unit = sigma / LATTICE_DEVIATION as f64;
        let sensitivity =
            (1.0 - MARGIN) * (1.0 + NORM_ERROR) + lattice_unit * (length as f64).sqrt();
        if sensitivity > 1.0 {
            let found = format!("{length} with noise multiplier {sigma}");
            let allowed = "below 2^38 / noise multiplier^2, where the lattice is fine enough";
            return Err(OutOfRange::new("length of a sum", allowed, found));
        }
        Ok(Self {
            values: vec![0; length],
            sigma: noise_multiplier,
            clip_to: c * (1.0 - MARGIN),
            lattice_step: lattice_unit * c,
            records: 0,
            not_finite: 0,
        })
    }

    /// Clips the gradient of one record and adds it.
    ///
    /// A gradient with NaN or an infinity counts as zeros: it is clipped to nothing, and the step
    /// goes on, since stopping would tell that such a record exists.
    ///
    /// # Errors
    /// A wrong length, or more than [`MAX_RECORDS`] records.
    pub fn add(&mut self, gradient: &[f32]) -> Result<(), AddError> {
        if gradient.len() != self.values.len() {
            let (expected, found) = (self.values.len(), gradient.len());
            return Err(AddError::WrongLength { expected, found });
        }
        if self.records == MAX_RECORDS {
            return Err(AddError::TooMany);
        }
        self.records += 1;
        // No square of an f32 overflows f64, so the norm is finite unless a value is not.
        let squares = gradient.iter().map(|&value| f64::from(value).powi(2));
        let norm = squares.sum::<f64>().sqrt();
        if !norm.is_finite() {
            self.not_finite += 1;
            return Ok(());
        }
        let factor = if norm > self.clip_to {
            self.clip_to / norm
        } else {
            1.0
        };
        let to_lattice = factor / self.lattice_step;
        for (sum, &value) in self.values.iter_mut().zip(gradient) {
            // Each term is at most 2^40 and there are at most 2^22: the sum stays within 2^62.
            *sum += nearest(f64::from(value) * to_lattice);
        }
        Ok(())
    }

    /// Number of coordinates.
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// Whether no record was added. Such a sum still takes a step.
    pub fn is_empty(&self) -> bool {
        self.records == 0
    }

    /// Records added whose gradient was not finite. Depends on the data: for the hospital's own
    /// log alone.
    pub fn not_finite(&self) -> u32 {
        self.not_finite
    }

    /// The noise multiplier this sum's lattice was made for.
    pub fn noise_multiplier(&self) -> NoiseMultiplier {
        self.sigma
    }

    /// The sum in lattice units.
    pub(super) fn values(&self) -> &[i64] {
        &self.values
    }

    /// The sum in lattice units, for the noise.
    pub(super) fn values_mut(&mut self) -> &mut [i64] {
        &mut self.values
    }

    /// What one lattice unit is worth.
    pub(super) fn lattice_step(&self) -> f64 {
        self.lattice_step
    }
}

/// The nearest integer of a number within ±2⁵¹, ties to even, as `round_ties_even`, which is a call
/// for each value where the target has no instruction for it. Near 1.5 · 2⁵² floats are whole.
#[inline]
fn nearest(value: f64) -> i64 {
    const WHOLE: f64 = 1.5 * (1_u64 << 52) as f64;
    (value + WHOLE - WHOLE) as i64
}

impl fmt::Debug for ClippedSum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "ClippedSum({} coordinates, [redacted])",
            self.values.len()
        )
    }
}

impl Drop for ClippedSum {
    fn drop(&mut self) {
        self.values.zeroize();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sum(length: usize, c: f64, sigma: f64) -> Result<ClippedSum, OutOfRange> {
        let sound = "within range";
        ClippedSum::new(
            length,
            c.try_into().expect(sound),
            sigma.try_into().expect(sound),
        )
    }

    fn norm(sum: &ClippedSum) -> f64 {
        let squares: u128 = sum
            .values
            .iter()
            .map(|v| u128::from(v.unsigned_abs()).pow(2))
            .sum();
        (squares as f64).sqrt()
    }

    #[test]
    fn a_long_gradient_is_scaled_and_a_short_one_is_kept() {
        let mut long = sum(2, 1.0, 1.0).expect("sound");
        long.add(&[30.0, 40.0]).expect("fits");
        let unit = LATTICE_DEVIATION as f64 * (1.0 - MARGIN);
        assert_eq!(
            long.values,
            [(0.6 * unit).round() as i64, (0.8 * unit).round() as i64]
        );

        let mut short = sum(2, 1.0, 2.0).expect("sound");
        short.add(&[0.25, -0.5]).expect("fits");
        assert_eq!(
            short.values,
            [LATTICE_DEVIATION / 8, -LATTICE_DEVIATION / 4]
        );
    }

    #[test]
    fn a_gradient_that_is_not_finite_counts_as_zeros() {
        let mut sum = sum(2, 1.0, 1.0).expect("sound");
        for bad in [
            [f32::NAN, 1.0],
            [f32::INFINITY, 1.0],
            [1.0, f32::NEG_INFINITY],
        ] {
            sum.add(&bad).expect("fits");
        }
        assert_eq!(
            (sum.values.as_slice(), sum.not_finite()),
            ([0, 0].as_slice(), 3)
        );
        sum.add(&[f32::MAX, f32::MAX]).expect("fits");
        assert!(norm(&sum) <= LATTICE_DEVIATION as f64 && sum.not_finite() == 3);
    }

    #[test]
    fn what_cannot_be_proved_is_refused() {
        assert!(sum(1 << 20, 1.0, 100.0).is_ok());
        let error = sum(1 << 28, 1.0, 100.0).expect_err("too coarse");
        assert!(error.to_string().contains("lattice"), "{error}");
        assert!(sum(1, 1.0, 1e-4).is_err() && sum(0, 1.0, 1.0).is_err());
        let mut two = sum(2, 1.0, 1.0).expect("sound");
        let error = two.add(&[1.0]).expect_err("too short");
        assert_eq!(
            error,
            AddError::WrongLength {
                expected: 2,
                found: 1
            }
        );
        two.records = MAX_RECORDS;
        assert_eq!(two.add(&[1.0, 1.0]), Err(AddError::TooMany));
    }

    #[test]
    fn the_nearest_lattice_point_is_that_of_the_standard_library() {
        let largest = 2_f64.powi(40);
        let ties = [
            0.0,
            0.5,
            1.5,
            2.5,
            -0.5,
            -1.5,
            0.499_999_999_999_999_94,
            largest,
            -largest,
        ];
        let spread = (1..2000).map(|i| f64::from(i).powi(11) / -7.0e23);
        for value in ties.into_iter().chain(spread) {
            assert_eq!(nearest(value), value.round_ties_even() as i64, "{value}");
        }
    }

    #[test]
    fn debug_shows_no_value() {
        let mut sum = sum(1, 1.0, 1.0).expect("sound");
        sum.add(&[0.5]).expect("fits");
        assert_eq!(format!("{sum:?}"), "ClippedSum(1 coordinates, [redacted])");
    }

    proptest! {
        /// The sensitivity claim itself: one record moves the sum by at most C in the L2 norm,
        /// that is 2²⁹/σ lattice units, whatever its gradient and the sum before it.
        #[test]
        fn one_record_moves_the_sum_by_at_most_the_clipping_norm(
            gradient in prop::collection::vec(prop::num::f32::ANY, 1..60),
            before in -1000_i64..1000,
            c in 1e-6..1e6,
            sigma in 0.001..300.0,
        ) {
            let mut sum = sum(gradient.len(), c, sigma).expect("sound");
            sum.values.fill(before);
            sum.add(&gradient).expect("fits");
            sum.values.iter_mut().for_each(|value| *value -= before);
            prop_assert!(norm(&sum) <= LATTICE_DEVIATION as f64 / sigma);
        }

        #[test]
        fn the_order_of_records_changes_no_bit(
            mut records in prop::collection::vec(prop::array::uniform4(-10.0_f32..10.0), 2..20),
        ) {
            let total = |records: &[[f32; 4]]| {
                let mut sum = sum(4, 1.0, 1.3).expect("sound");
                records.iter().for_each(|record| sum.add(record).expect("fits"));
                sum.values.clone()
            };
            let forwards = total(&records);
            records.reverse();
            prop_assert_eq!(forwards, total(&records));
        }
    }
}

//! Rounding to the lattice, several values at a time.
//!
//! Loops are compiled for the widest vectors of the processor they run on. Each result is fixed by
//! IEEE 754 or is an integer, and sums run in sixteen fixed lanes: the bits are the same on all.

use crate::vectorised;

/// Near 1.5 · 2⁵² floats are whole, and their bits count up with them.
const WHOLE: f64 = 1.5 * (1_u64 << 52) as f64;

vectorised! {
    /// Adds each value times `scale`, rounded to the nearest integer, ties to even. Products are within
    /// ±2⁵¹.
    pub(super) fn add_rounded<'a>(sum: &'a mut [i64], values: &'a [f32], scale: f64) {
        for (sum, &value) in sum.iter_mut().zip(values) {
            *sum += nearest(f64::from(value) * scale);
        }
    }
}

vectorised! {
    /// The sum of squares. No square of an f32 overflows f64, so it is finite unless a value is not.
    pub(super) fn squares<'a>(values: &'a [f32]) -> f64 {
        let mut lanes = [0.0; 16];
        let (blocks, rest) = values.as_chunks::<16>();
        for block in blocks {
            for (lane, &value) in lanes.iter_mut().zip(block) {
                *lane += f64::from(value) * f64::from(value);
            }
        }
        let rest = rest.iter().map(|&value| f64::from(value) * f64::from(value));
        lanes.into_iter().sum::<f64>() + rest.sum::<f64>()
    }
}

vectorised! {
    /// Each value over 2 to the power of `bits`, to the nearest integer. Values are within ±2⁶² and
    /// `bits` from 1 to 40. Two values that differ by x come out differing by less than x/2ᵇ + 1.
    pub(super) fn shift<'a>(values: &'a mut [i64], bits: u32) {
        let half = 1_i64 << (bits - 1);
        for value in values {
            *value = (*value + half) >> bits;
        }
    }
}

/// The nearest integer of a number within ±2⁵¹, ties to even.
#[inline(always)]
pub(super) fn nearest(value: f64) -> i64 {
    (value + WHOLE).to_bits().wrapping_sub(WHOLE.to_bits()) as i64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_nearest_lattice_point_is_that_of_the_standard_library() {
        let largest = 2_f64.powi(51);
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
            largest - 0.5,
        ];
        let spread = (1..2000).map(|i| f64::from(i).powi(11) / -7.0e23);
        for value in ties.into_iter().chain(spread) {
            assert_eq!(nearest(value), value.round_ties_even() as i64, "{value}");
        }
    }

    proptest! {
        #[test]
        fn vectors_of_any_length_are_rounded_as_single_values_are(
            values in prop::collection::vec(-1e3_f32..1e3, 0..40),
            scale in 0.0..1e9,
        ) {
            let mut sum = vec![7; values.len()];
            add_rounded(&mut sum, &values, scale);
            for (sum, value) in sum.into_iter().zip(&values) {
                prop_assert_eq!(sum, 7 + (f64::from(*value) * scale).round_ties_even() as i64);
            }
            let expected: f64 = values.iter().map(|&x| f64::from(x).powi(2)).sum();
            prop_assert!((squares(&values) - expected).abs() <= 1e-14 * expected);
        }

        #[test]
        fn shifted_values_are_the_nearest_and_keep_their_distance(
            values in prop::collection::vec(-(1_i64 << 62)..=1 << 62, 2),
            bits in 1_u32..=40,
        ) {
            let mut shifted = values.clone();
            shift(&mut shifted, bits);
            let whole = i128::from(1_i64 << bits);
            for (&value, &shifted) in values.iter().zip(&shifted) {
                let error = i128::from(shifted) * whole - i128::from(value);
                prop_assert!(2 * error.abs() <= whole);
            }
            let apart = (i128::from(values[0]) - i128::from(values[1])).abs();
            let now = (i128::from(shifted[0]) - i128::from(shifted[1])).abs();
            prop_assert!(now * whole < apart + whole);
        }
    }
}

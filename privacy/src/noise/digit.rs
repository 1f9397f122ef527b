//! One digit of the noise: a small discrete Gaussian, from a table, in a fixed sequence of steps.
//!
//! A digit takes 128 uniform bits: one for its sign, 127 as a number `u`. Its magnitude is the number
//! of [`THRESHOLDS`] above `u`, for the m-th is the chance of m or more. The sign of 0 does not
//! matter, so 0 is drawn no more often than it should.
//!
//! **No search.** The numbers below 2¹²⁷ are cut into cells, 256 to each power of two, so fine that
//! none holds two thresholds (checked below when this is compiled). A guide says for every cell how
//! many thresholds lie above it; one comparison of 127 bits does the rest. No branch and no loop
//! depends on the draw, so neither does the number of instructions. Which cache lines are read does;
//! `docs/noise.md` says who could see that.

use super::thresholds::THRESHOLDS;

/// The thresholds, descending, then zeros, which are above nothing. A power of two in length: an
/// index is masked, not checked.
static DESCENDING: [u128; 4096] = {
    let mut padded = [0; 4096];
    let mut m = 0;
    while m < THRESHOLDS.len() {
        padded[m] = THRESHOLDS[m];
        m += 1;
    }
    padded
};

/// How many thresholds lie above each cell.
static GUIDE: [u16; CELLS] = {
    let mut guide = [0; CELLS];
    let (mut above, mut cell) = (0, CELLS);
    while cell > 0 {
        cell -= 1;
        guide[cell] = above;
        if (above as usize) < THRESHOLDS.len() && cell_of(THRESHOLDS[above as usize]) == cell {
            above += 1;
        }
        // Else this cell holds a second threshold and one comparison is not enough.
        assert!(
            above as usize == THRESHOLDS.len() || cell_of(THRESHOLDS[above as usize]) < cell,
            "two thresholds in one cell"
        );
    }
    assert!(above as usize == THRESHOLDS.len());
    guide
};

const CELLS: usize = 1 << 15;

/// The magnitude for a uniform number below 2¹²⁷.
#[inline]
pub(super) fn magnitude(uniform: u128) -> i32 {
    let above = usize::from(GUIDE[cell_of(uniform) % CELLS]);
    above as i32 + i32::from(uniform < DESCENDING[above % DESCENDING.len()])
}

/// A magnitude with its sign, without a branch.
#[inline]
pub(super) fn signed(magnitude: i32, negative: bool) -> i32 {
    let sign = -i32::from(negative);
    (magnitude ^ sign) - sign
}

/// The cell of a number below 2¹²⁷: exponent and leading 8 bits of its value as a float.
///
/// The table is right for any cells that keep the order of numbers, and these do: an `f64` only
/// serves to find the leading bits without a branch, and no probability depends on its rounding.
/// Order is kept because
/// - `low` is rounded in order and never up to 1, since [`SCALE`] is a little below 2⁻⁶³;
/// - up to 2⁵³ `high` is exact, and `high + low` rounds to at most `high + 1`;
/// - from there on `low` is less than half a step between floats, and the sum is `high`, rounded.
#[inline]
const fn cell_of(uniform: u128) -> usize {
    let high = (uniform >> 64) as i64 as f64;
    let low = (uniform as u64 >> 1 | 1) as i64 as f64 * SCALE;
    // From SCALE to 2^63, so that exponents count from 0 to 127.
    ((high + low).to_bits() >> 44) as usize - (SCALE.to_bits() >> 44) as usize
}

/// The float before 2⁻⁶³.
const SCALE: f64 = (1.0 - f64::EPSILON / 2.0) / (1_u64 << 63) as f64;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The definition, without guide or cells.
    fn defined(uniform: u128) -> i32 {
        THRESHOLDS.partition_point(|&threshold| threshold > uniform) as i32
    }

    #[test]
    fn each_threshold_and_each_edge_of_a_cell_is_met_to_the_last_bit() {
        let ends = [0, 1, 127, 128, (1 << 127) - 1];
        let powers =
            (0..127).flat_map(|power| [1 << power, (3 << power) >> 1, (257 << power) >> 8]);
        let near = THRESHOLDS.into_iter().chain(powers).chain(ends);
        for uniform in near.flat_map(|value: u128| [value.saturating_sub(1), value, value + 1]) {
            let uniform = uniform.min((1 << 127) - 1);
            assert_eq!(magnitude(uniform), defined(uniform), "{uniform:x}");
        }
        assert_eq!(magnitude(0), THRESHOLDS.len() as i32);
        assert_eq!(magnitude((1 << 127) - 1), 0);
        assert_eq!(
            [signed(5, false), signed(5, true), signed(0, true)],
            [5, -5, 0]
        );
    }

    #[test]
    fn cells_keep_the_order_where_floats_change_their_step() {
        let (high, low) = (
            [0_u128, 1, 2, (1 << 53) - 1, 1 << 53, (1 << 63) - 2],
            u64::MAX,
        );
        for high in high {
            let numbers = [0, 1, low / 2, low - 2048, low - 1023, low - 1, low];
            let mut cells = numbers
                .map(|low| cell_of(high << 64 | u128::from(low)))
                .to_vec();
            cells.push(cell_of((high + 1) << 64));
            assert!(cells.is_sorted(), "{high}: {cells:?}");
        }
        assert_eq!(cell_of(0), 0);
        assert!(cell_of(u128::MAX >> 1) < CELLS);
    }

    proptest! {
        #[test]
        fn any_bits_give_the_defined_magnitude(bits: u128, shift in 0..127_u32) {
            let uniform = bits >> 1 >> shift;
            prop_assert_eq!(magnitude(uniform), defined(uniform));
        }

        #[test]
        fn cells_keep_the_order_of_numbers(a: u128, b: u128, shift in 1..127_u32, near in 0..5000_u128) {
            for (a, b) in [(a >> shift, b >> shift), (a >> shift, (a >> shift) + near)] {
                let (a, b) = (a.min(b), a.max(b).min(u128::MAX >> 1));
                prop_assert!(cell_of(a) <= cell_of(b), "{:x} {:x}", a, b);
            }
        }
    }
}

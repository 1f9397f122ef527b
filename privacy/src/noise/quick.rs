//! A draw from its leading 31 bits a digit, where these suffice. Its time depends on the draw.
//!
//! They do in all but one draw of 3·10⁵. What they leave open is said, not guessed: the caller then
//! looks at all 127. Each pass of [`add`] does one thing to all digits of a block, so that the
//! compiler can take several at once.

use std::array;

use super::{DIGITS, Lead, digit, joined, thresholds::THRESHOLDS};

/// Draws made together.
pub(super) const BLOCK: usize = 64;

/// 256 cells to each power of two, from 2⁻¹ to 2³¹, rounded up to a power of two.
const CELLS: usize = 1 << 14;

/// For each cell, how many thresholds lie above it (high half) and the leading bits of the one
/// within it, or 0 if there is none (low half).
static GUIDE: [u64; CELLS] = {
    let mut guide = [0; CELLS];
    let (mut above, mut cell) = (0, CELLS);
    while cell > 0 {
        cell -= 1;
        guide[cell] = (above as u64) << 32;
        if lies_in(above, cell) {
            guide[cell] |= leading(above) as u64;
            above += 1;
        }
        // Where numbers are cells of their own, all thresholds in one begin alike and leave it open.
        while lies_in(above, cell) {
            assert!(leading(above) < 256, "two thresholds in one cell");
            above += 1;
        }
    }
    assert!(above == THRESHOLDS.len());
    guide
};

const fn lies_in(m: usize, cell: usize) -> bool {
    m < THRESHOLDS.len() && cell_of(leading(m)) as usize == cell
}

/// The first 31 of a threshold's 127 bits.
const fn leading(m: usize) -> i32 {
    (THRESHOLDS[m] >> 96) as i32
}

/// The cell of a number: exponent and leading 8 bits of its value as a float, which keep the order
/// of numbers (`digit.rs`); rounding to a float's 24 bits and adding ½ do, too.
#[inline]
const fn cell_of(uniform: i32) -> i32 {
    ((uniform as f32 + 0.5).to_bits() >> 15) as i32 - (0.5_f32.to_bits() >> 15) as i32
}

/// Adds a draw to each value, or changes nothing and returns false if the leading bits of one leave
/// it open.
#[inline]
pub(super) fn add(leads: [&[Lead; BLOCK]; DIGITS], values: &mut [i64; BLOCK]) -> bool {
    let mut digits = [[0; BLOCK]; DIGITS];
    let mut open = false;
    for (row, leads) in digits.iter_mut().zip(leads) {
        open |= draw(leads, row);
    }
    if open {
        return false;
    }
    for (index, value) in values.iter_mut().enumerate() {
        let digits = array::from_fn(|place| digits[place][index]);
        *value = value.wrapping_add(joined(digits));
    }
    true
}

/// Draws digits of one place; true if one is left open.
#[inline]
fn draw(leads: &[Lead; BLOCK], digits: &mut [i32; BLOCK]) -> bool {
    let (mut cells, mut above, mut thresholds) = ([0; BLOCK], [0; BLOCK], [0; BLOCK]);
    for (cell, lead) in cells.iter_mut().zip(leads) {
        *cell = cell_of(uniform(*lead)) as u32;
    }
    let guides = above.iter_mut().zip(&mut thresholds);
    for ((above, threshold), cell) in guides.zip(&cells) {
        let guide = GUIDE[*cell as usize % CELLS];
        (*above, *threshold) = ((guide >> 32) as i32, guide as i32);
    }
    let mut open = 0;
    let guides = above.iter().zip(&thresholds);
    for ((digit, lead), (above, threshold)) in digits.iter_mut().zip(leads).zip(guides) {
        let uniform = uniform(*lead);
        // Of a number that begins as the threshold does, the bits that follow decide.
        open |= i32::from(uniform == *threshold);
        let magnitude = above + i32::from(uniform < *threshold);
        *digit = digit::signed(magnitude, is_negative(*lead));
    }
    open != 0
}

/// The leading bits of a digit's number.
#[inline]
fn uniform(lead: Lead) -> i32 {
    (u32::from_le_bytes(lead) >> 1) as i32
}

#[inline]
fn is_negative(lead: Lead) -> bool {
    u32::from_le_bytes(lead) & 1 == 1
}

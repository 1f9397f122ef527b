//! Sums of outer products of integer vectors, without a rounding error.
//!
//! A dense layer's gradient is the outer product of two vectors. Written out for every record, a
//! large layer would take longer to add than all the rest of a step. Here factors wait until there
//! are many, and one matrix product adds them up. Factors are integers up to [`LARGEST`] in size, so
//! that a term has at most 44 bits and a sum of [`WAITING`] of them 50: `f64` holds both exactly. The
//! sum is therefore the same however records are grouped, and on any processor.

use std::ops::Range;

use zeroize::Zeroize;

use super::lattice::nearest;
use crate::vectorised;

/// Largest factor.
pub(super) const LARGEST: f64 = (1 << 22) as f64;

/// Records that wait before their products are added up.
const WAITING: usize = 64;

/// Values of a tile of sums: as many rows and columns as stay in registers.
const ROWS: usize = 4;
const COLUMNS: usize = 8;

/// Columns of the right factors that are laid out for tiles at a time, to stay in cache.
const STRIP: usize = 512;

/// Outer products of one tensor that wait to be added up.
pub(super) struct Products {
    start: usize,
    rows: usize,
    columns: usize,
    waiting: usize,
    /// `[waiting][rows]`, integers.
    left: Vec<f32>,
    /// `[waiting][columns]`, integers.
    right: Vec<f32>,
}

impl Products {
    /// For the tensor of `rows` × `columns` coordinates that begins at `start`.
    pub(super) fn new(start: usize, rows: usize, columns: usize) -> Self {
        Self {
            start,
            rows,
            columns,
            waiting: 0,
            left: Vec::new(),
            right: Vec::new(),
        }
    }

    /// Whether it is for this tensor.
    pub(super) fn is_for(&self, start: usize, rows: usize, columns: usize) -> bool {
        (self.start, self.rows, self.columns) == (start, rows, columns)
    }

    /// Takes an outer product; each factor is scaled and rounded to integers first.
    pub(super) fn push(&mut self, left: (&[f32], f64), right: (&[f32], f64), sum: &mut [i64]) {
        add_whole(left.0, left.1, &mut self.left);
        add_whole(right.0, right.1, &mut self.right);
        self.waiting += 1;
        if self.waiting == WAITING {
            self.add_to(sum);
        }
    }

    /// Adds all that wait to the sum.
    pub(super) fn add_to(&mut self, sum: &mut [i64]) {
        if self.waiting == 0 {
            return;
        }
        let sum = &mut sum[self.start..self.start + self.rows * self.columns];
        let lefts = tiles::<ROWS>(&self.left, self.rows, 0..self.rows);
        for from in (0..self.columns).step_by(STRIP) {
            let strip = from..self.columns.min(from + STRIP);
            let rights = tiles::<COLUMNS>(&self.right, self.columns, strip.clone());
            add_strip(sum, &lefts, &rights, [self.waiting, self.columns], strip);
        }
        self.clear();
    }

    fn clear(&mut self) {
        self.left.zeroize();
        self.right.zeroize();
        self.waiting = 0;
    }
}

impl Drop for Products {
    fn drop(&mut self) {
        self.clear();
    }
}

vectorised! {
    /// Adds the products of all tiles of a strip of columns. `sizes` are the terms of each sum, and the
    /// columns of the whole.
    fn add_strip<'a>(
        sum: &'a mut [i64],
        lefts: &'a [[f64; ROWS]],
        rights: &'a [[f64; COLUMNS]],
        sizes: [usize; 2],
        strip: Range<usize>,
    ) {
        let [terms, columns] = sizes;
        for (left, rows) in lefts.chunks(terms).zip(sum.chunks_mut(ROWS * columns)) {
            for (at, right) in rights.chunks(terms).enumerate() {
                let tile = tile(left, right);
                let first = strip.start + at * COLUMNS;
                for (tile, row) in tile.iter().zip(rows.chunks_mut(columns)) {
                    let place = &mut row[first..strip.end.min(first + COLUMNS)];
                    for (sum, &value) in place.iter_mut().zip(tile) {
                        *sum += nearest(value);
                    }
                }
            }
        }
    }
}

vectorised! {
    fn add_whole<'a>(values: &'a [f32], scale: f64, to: &'a mut Vec<f32>) {
        to.extend(values.iter().map(|&value| nearest(f64::from(value) * scale) as f32));
    }
}

/// The columns of a matrix `[terms][width]` in groups of `N`: for each group all terms, so that a
/// tile reads on and on. The last group is filled up with zeros.
fn tiles<const N: usize>(matrix: &[f32], width: usize, columns: Range<usize>) -> Vec<[f64; N]> {
    let terms = matrix.len() / width;
    let mut tiles = Vec::with_capacity(terms * columns.len().div_ceil(N));
    for first in columns.clone().step_by(N) {
        let group = first..columns.end.min(first + N);
        tiles.extend(matrix.chunks_exact(width).map(|row| {
            let mut tile = [0.0; N];
            for (place, &value) in tile.iter_mut().zip(&row[group.clone()]) {
                *place = f64::from(value);
            }
            tile
        }));
    }
    tiles
}

#[inline(always)]
fn tile(left: &[[f64; ROWS]], right: &[[f64; COLUMNS]]) -> [[f64; COLUMNS]; ROWS] {
    let mut sums = [[0.0; COLUMNS]; ROWS];
    for (left, right) in left.iter().zip(right) {
        for (sums, left) in sums.iter_mut().zip(left) {
            for (sum, right) in sums.iter_mut().zip(right) {
                *sum += left * right;
            }
        }
    }
    sums
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_product_is_added_exactly(
            rows in 1_usize..11,
            columns in prop_oneof![1_usize..30, Just(STRIP + 3)],
            records in 1_usize..70,
            seed in any::<u64>(),
        ) {
            let factor = |record: usize, at: usize, side: u64| {
                let bits = (seed ^ side).wrapping_add((record * 1000 + at) as u64)
                    .wrapping_mul(0x9E37_79B9_7F4A_7C15);
                (bits >> 41) as i64 - (1 << 22)
            };
            let mut sum = vec![3; rows * columns + 2];
            let mut expected = sum.clone();
            let mut products = Products::new(1, rows, columns);
            for record in 0..records {
                let left: Vec<i64> = (0..rows).map(|at| factor(record, at, 1)).collect();
                let right: Vec<i64> = (0..columns).map(|at| factor(record, at, 2)).collect();
                for (at, place) in expected[1..=rows * columns].iter_mut().enumerate() {
                    *place += left[at / columns] * right[at % columns];
                }
                let whole = |values: &[i64]| values.iter().map(|&x| x as f32).collect::<Vec<_>>();
                products.push((&whole(&left), 1.0), (&whole(&right), 1.0), &mut sum);
            }
            products.add_to(&mut sum);
            prop_assert_eq!(sum, expected);
        }
    }

    #[test]
    fn the_largest_factors_of_all_records_still_add_up() {
        let mut sum = vec![0];
        let mut products = Products::new(0, 1, 1);
        for _ in 0..WAITING {
            products.push((&[1.0], LARGEST), (&[-1.0], LARGEST), &mut sum);
        }
        assert_eq!(sum, [-(WAITING as i64) << 44]);
    }
}

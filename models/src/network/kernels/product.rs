//! Products of matrices whose rows may begin anywhere.
//!
//! A convolution is a product whose right rows overlap: what a kernel's weight sees of an image is
//! the image from some place on. So factors are [`Lines`], a slice and where each line of it
//! begins, and no image is taken apart before it is multiplied.
//!
//! The right factor is laid out in panels as wide as two vectors, a block of its depth at a time, and
//! each panel meets six lines of the left one in registers (Goto and van de Geijn 2008). A sum runs
//! over the depth in order, block by block, whatever stands beside it.

use std::ops::Range;

use pulp::{Arch, Simd, WithSimd};

use super::loops::side_by_side;

/// Lines of the left factor that meet a panel together: as many as registers hold.
const ROWS: usize = 6;

/// Depth of a block: its panel stays in the innermost cache.
const DEPTH: usize = 384;

/// Columns laid out at a time, a multiple of every panel's width.
const STRIP: usize = 256;

/// Lines of numbers within a slice; they may overlap.
#[derive(Clone, Copy)]
pub(in super::super) struct Lines<'a> {
    pub(in super::super) numbers: &'a [f32],
    /// Where each line begins.
    pub(in super::super) starts: &'a [usize],
}

/// The right factor.
#[derive(Clone, Copy)]
pub(in super::super) enum Right<'a> {
    /// A line for each step of the depth.
    Rows(Lines<'a>),
    /// A line for each column of the result.
    Columns(Lines<'a>),
}

/// Adds a product to lines of `out`, which begin at `starts` and may overlap.
///
/// `left` has a line of `depth` numbers for each of them; `right` is `depth` × `columns`.
///
/// # Panics
/// Where a line ends outside its slice, or `starts` are fewer than the lines of `left`.
pub(in super::super) fn add_product(
    left: Lines<'_>,
    right: Right<'_>,
    [depth, columns]: [usize; 2],
    out: &mut [f32],
    starts: &[usize],
) {
    Arch::new().dispatch(Work {
        left,
        right,
        depth,
        columns,
        out,
        starts,
    });
}

struct Work<'a> {
    left: Lines<'a>,
    right: Right<'a>,
    depth: usize,
    columns: usize,
    out: &'a mut [f32],
    starts: &'a [usize],
}

impl WithSimd for Work<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self {
            left,
            right,
            depth,
            columns,
            out,
            starts,
        } = self;
        let width = 2 * S::F32_LANES;
        let longest = STRIP.min(columns.next_multiple_of(width)) * DEPTH.min(depth);
        let mut panels = vec![0.0; longest];
        for block in blocks(depth, DEPTH) {
            for strip in blocks(columns, STRIP) {
                right.lay_out::<S>(block.clone(), strip.clone(), &mut panels);
                let panel = width * block.len();
                for (at, panel) in (strip.clone().step_by(width)).zip(panels.chunks_exact(panel)) {
                    let place = at..columns.min(at + width);
                    let mut tiles = Tiles {
                        simd,
                        panel: S::as_simd_f32s(panel).0.as_chunks().0,
                        out,
                        place,
                    };
                    let lines = left.starts.chunks(ROWS).zip(starts.chunks(ROWS));
                    for (lines, starts) in lines {
                        let left = Lines {
                            numbers: left.numbers,
                            starts: lines,
                        };
                        match lines.len() {
                            6 => tiles.add::<6>(left, block.start, starts),
                            5 => tiles.add::<5>(left, block.start, starts),
                            4 => tiles.add::<4>(left, block.start, starts),
                            3 => tiles.add::<3>(left, block.start, starts),
                            2 => tiles.add::<2>(left, block.start, starts),
                            _ => tiles.add::<1>(left, block.start, starts),
                        }
                    }
                }
            }
        }
    }
}

fn blocks(length: usize, size: usize) -> impl Iterator<Item = Range<usize>> {
    (0..length)
        .step_by(size)
        .map(move |from| from..length.min(from + size))
}

impl Right<'_> {
    /// Writes a block of the depth and a strip of columns as panels `[panel][depth][width]`, the
    /// last one filled up with zeros.
    #[inline(always)]
    fn lay_out<S: Simd>(self, block: Range<usize>, strip: Range<usize>, panels: &mut [f32]) {
        let width = 2 * S::F32_LANES;
        let size = width * block.len();
        match self {
            Self::Rows(lines) => {
                for (at, &start) in lines.starts[block].iter().enumerate() {
                    let line = &lines.numbers[start + strip.start..start + strip.end];
                    let mut places = panels.chunks_exact_mut(size);
                    // Two vectors at a time: a copy of unknown length would be a call.
                    let (whole, _) = S::as_simd_f32s(line);
                    let (whole, _) = whole.as_chunks::<2>();
                    for (two, panel) in whole.iter().zip(&mut places) {
                        let (place, _) = S::as_mut_simd_f32s(&mut panel[at * width..][..width]);
                        place.copy_from_slice(two);
                    }
                    let rest = &line[whole.len() * width..];
                    if let (Some(panel), false) = (places.next(), rest.is_empty()) {
                        let place = &mut panel[at * width..][..width];
                        place[..rest.len()].copy_from_slice(rest);
                        place[rest.len()..].fill(0.0);
                    }
                }
            }
            Self::Columns(lines) => {
                let starts = lines.starts[strip].chunks(width);
                for (panel, starts) in panels.chunks_exact_mut(size).zip(starts) {
                    if starts.len() < width {
                        panel.fill(0.0);
                    }
                    for (at, starts) in starts.chunks(8).enumerate() {
                        let mut eight: [&[f32]; 8] = [&[]; 8];
                        for (line, &start) in eight.iter_mut().zip(starts) {
                            *line = &lines.numbers[start + block.start..start + block.end];
                        }
                        let place = &mut panel[8 * at..];
                        side_by_side(eight, starts.len(), block.len(), width, place);
                    }
                }
            }
        }
    }
}

/// One panel, and where its results go.
struct Tiles<'a, S: Simd> {
    simd: S,
    panel: &'a [[S::f32s; 2]],
    out: &'a mut [f32],
    /// Columns of the result, at most as many as the panel has.
    place: Range<usize>,
}

impl<S: Simd> Tiles<'_, S> {
    /// Adds the product of `R` lines, from `first` on, and the panel.
    #[inline(always)]
    fn add<const R: usize>(&mut self, left: Lines<'_>, first: usize, starts: &[usize]) {
        let simd = self.simd;
        let mut lines: [&[f32]; R] = [&[]; R];
        for (line, start) in lines.iter_mut().zip(left.starts) {
            *line = &left.numbers[start + first..][..self.panel.len()];
        }
        let mut sums = [[simd.splat_f32s(0.0); 2]; R];
        for (at, &[first, second]) in self.panel.iter().enumerate() {
            for (sums, line) in sums.iter_mut().zip(&lines) {
                let left = simd.splat_f32s(line[at]);
                sums[0] = simd.mul_add_e_f32s(left, first, sums[0]);
                sums[1] = simd.mul_add_e_f32s(left, second, sums[1]);
            }
        }
        for (sums, start) in sums.into_iter().zip(starts) {
            let place = &mut self.out[start + self.place.start..start + self.place.end];
            if let ([first, second], []) = S::as_mut_simd_f32s(place) {
                *first = simd.add_f32s(*first, sums[0]);
                *second = simd.add_f32s(*second, sums[1]);
                continue;
            }
            let (now, later) = place.split_at_mut(place.len().min(S::F32_LANES));
            for (place, sum) in [now, later].into_iter().zip(sums) {
                let total = simd.add_f32s(simd.partial_load_f32s(place), sum);
                simd.partial_store_f32s(place, total);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn value(at: usize) -> f32 {
        (at * 7 % 31) as f32 - 15.0
    }

    fn starts(lines: usize, apart: usize) -> Vec<usize> {
        (0..lines).map(|line| line * apart).collect()
    }

    proptest! {
        /// Small integers, so that every order of summation gives the same.
        #[test]
        fn a_product_is_that_of_the_definition(
            rows in 1_usize..15,
            columns in prop_oneof![1_usize..40, Just(STRIP + 5)],
            depth in prop_oneof![1_usize..9, Just(DEPTH + 3)],
            gap in 0_usize..3,
        ) {
            let numbers: Vec<f32> = (0..40_000).map(value).collect();
            let (left, out) = (starts(rows, 5), starts(rows, columns + gap));
            let left = Lines { numbers: &numbers, starts: &left };
            let (by_row, by_column) = (starts(depth, 3), starts(columns, 2));
            for right in [
                Right::Rows(Lines { numbers: &numbers, starts: &by_row }),
                Right::Columns(Lines { numbers: &numbers, starts: &by_column }),
            ] {
                let mut found = vec![1.0; rows * (columns + gap)];
                add_product(left, right, [depth, columns], &mut found, &out);
                for (at, found) in found.into_iter().enumerate() {
                    let (row, column) = (at / (columns + gap), at % (columns + gap));
                    let term = |k: usize| {
                        let right = match right {
                            Right::Rows(_) => value(by_row[k] + column),
                            Right::Columns(_) => value(by_column[column] + k),
                        };
                        value(left.starts[row] + k) * right
                    };
                    let sum: f32 = if column < columns { (0..depth).map(term).sum() } else { 0.0 };
                    prop_assert_eq!(found, 1.0 + sum);
                }
            }
        }

        /// What the privacy of patients rests on.
        #[test]
        fn a_row_or_column_of_a_result_has_the_same_bits_whatever_stands_beside_it(
            rows in 1_usize..15,
            columns in 1_usize..40,
            row in 0_usize..15,
            column in 0_usize..40,
        ) {
            let depth = 500;
            let numbers: Vec<f32> = (0..9_000).map(|at| (value(at) * 1.37).sin()).collect();
            let (left, right) = (starts(rows, depth), starts(columns, 11));
            let of = |left: &[usize], right: &[usize]| {
                let mut out = vec![0.0; left.len() * right.len()];
                let begin = starts(left.len(), right.len());
                let lines = |starts| Lines { numbers: &numbers, starts };
                let right_lines = Right::Columns(Lines { numbers: &numbers, starts: right });
                add_product(lines(left), right_lines, [depth, right.len()], &mut out, &begin);
                out
            };
            let (row, column) = (row % rows, column % columns);
            let all = of(&left, &right);
            let one = of(&left[row..=row], &right[column..=column]);
            prop_assert_eq!(all[row * columns + column].to_bits(), one[0].to_bits());
        }
    }
}

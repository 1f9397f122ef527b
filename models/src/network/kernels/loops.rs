//! Loops over values.

pub(in super::super) use consilium_privacy::vectorised;

/// Partial sums that a reduction keeps, whatever the processor's vectors are.
const LANES: usize = 16;

vectorised! {
    /// Adds each value to its place.
    pub(in super::super) fn add<'a>(places: &'a mut [f32], values: &'a [f32]) {
        for (place, value) in places.iter_mut().zip(values) {
            *place += value;
        }
    }
}

vectorised! {
    /// Adds the sum of each run of `length` values to a place, over and over from the first place on.
    pub(in super::super) fn add_sums<'a>(places: &'a mut [f32], values: &'a [f32], length: usize) {
        for runs in values.chunks_exact(length * places.len()) {
            for (place, run) in places.iter_mut().zip(runs.chunks_exact(length)) {
                *place += sum(run);
            }
        }
    }
}

/// The sum of all values.
#[inline(always)]
pub(in super::super) fn sum(values: &[f32]) -> f32 {
    reduce(values, values, |value, _| value)
}

/// The sum of products.
#[inline(always)]
pub(in super::super) fn dot(left: &[f32], right: &[f32]) -> f32 {
    reduce(left, right, |left, right| left * right)
}

#[inline(always)]
fn reduce(left: &[f32], right: &[f32], term: impl Fn(f32, f32) -> f32) -> f32 {
    let mut lanes = [0.0; LANES];
    let (left, left_rest) = left.as_chunks::<LANES>();
    let (right, right_rest) = right.as_chunks::<LANES>();
    for (left, right) in left.iter().zip(right) {
        for ((lane, &left), &right) in lanes.iter_mut().zip(left).zip(right) {
            *lane += term(left, right);
        }
    }
    let rest = left_rest.iter().zip(right_rest);
    let rest: f32 = rest.map(|(&left, &right)| term(left, right)).sum();
    lanes.into_iter().sum::<f32>() + rest
}

vectorised! {
    /// Writes a matrix of so many columns the other way round.
    pub(in super::super) fn transpose<'a>(matrix: &'a [f32], columns: usize, to: &'a mut [f32]) {
        let rows = matrix.len() / columns.max(1);
        for (block, lines) in matrix.chunks(8 * columns.max(1)).enumerate() {
            turn(lines, columns, rows, &mut to[8 * block..]);
        }
    }
}

/// Writes up to 8 lines of `length` numbers side by side: the numbers at the same place of all lines stand
/// together, and `step` after them those at the next place.
#[inline(always)]
fn turn(lines: &[f32], length: usize, step: usize, to: &mut [f32]) {
    let mut eight: [&[f32]; 8] = [&[]; 8];
    let count = lines.len() / length;
    for (line, from) in eight.iter_mut().zip(lines.chunks_exact(length)) {
        *line = from;
    }
    side_by_side(eight, count, length, step, to);
}

/// As [`turn`], for lines that begin anywhere; those from `count` on are not read.
#[inline(always)]
pub(super) fn side_by_side(
    lines: [&[f32]; 8],
    count: usize,
    length: usize,
    step: usize,
    to: &mut [f32],
) {
    if count == 8 {
        let lines = lines.map(|line| &line[..length]);
        for at in 0..length {
            let place = &mut to[at * step..][..8];
            for (place, line) in place.iter_mut().zip(lines) {
                *place = line[at];
            }
        }
        return;
    }
    for at in 0..length {
        for (place, line) in to[at * step..][..count].iter_mut().zip(lines) {
            *place = line[at];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reductions_take_every_value_once() {
        for length in [0, 1, 15, 16, 17, 50] {
            let values: Vec<f32> = (0..length).map(|at| at as f32).collect();
            let count = length as f32;
            assert_eq!(sum(&values), count * (count - 1.0) / 2.0);
            let squares: f32 = values.iter().map(|x| x * x).sum();
            assert_eq!(dot(&values, &values), squares);
        }
    }

    #[test]
    fn a_matrix_turned_twice_is_as_before() {
        let matrix: Vec<f32> = (0..19 * 35).map(|at| at as f32).collect();
        transpose(&[], 0, &mut []);
        let (mut turned, mut back) = (vec![0.0; matrix.len()], vec![0.0; matrix.len()]);
        transpose(&matrix, 35, &mut turned);
        assert_eq!((turned[0], turned[1], turned[19]), (0.0, 35.0, 1.0));
        transpose(&turned, 19, &mut back);
        assert_eq!(matrix, back);
    }
}

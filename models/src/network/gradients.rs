//! Where weight gradients go: apart for each example, or into one sum.
//!
//! A dense layer's gradient of one example is an outer product. Apart, only its factors are kept:
//! the private sum takes them as they are, and a large layer costs no memory for each example.

use std::ops::Range;

use consilium_privacy::step::{Part, Values};

use super::{
    blueprint::Slot,
    kernels::{Lines, Right, add_product, transpose},
    weights::Weights,
};

/// Gradients of the examples of one microbatch.
pub struct PerExample {
    examples: usize,
    parameters: usize,
    pieces: Vec<(Range<usize>, Piece)>,
}

/// Gradients of one tensor, or of some of its rows.
enum Piece {
    /// One row for each example.
    Rows(Vec<f32>),
    /// The outer product of a row on the left and a row on the right for each example.
    Outer { left: Vec<f32>, right: Vec<f32> },
    /// For each example some rows of a table, by number in ascending order. The others are zeros.
    Some(Vec<Vec<Row>>),
}

impl Piece {
    /// Adds the same piece of further examples.
    fn append(&mut self, next: Self) {
        match (self, next) {
            (Self::Rows(rows), Self::Rows(next)) => rows.extend(next),
            (Self::Outer { left, right }, Self::Outer { left: l, right: r }) => {
                left.extend(l);
                right.extend(r);
            }
            (Self::Some(rows), Self::Some(next)) => rows.extend(next),
            _ => unreachable!("a layer hands in its gradients in one way"),
        }
    }
}

/// A row of a table, by number, with its values.
pub(super) type Row = (usize, Vec<f32>);

/// What layers hand their weight gradients to.
pub(super) enum Sink<'a> {
    Apart(PerExample),
    Summed(&'a mut [f32]),
}

impl Sink<'_> {
    /// Keeps the examples apart.
    pub(super) fn apart(weights: &Weights, examples: usize) -> Self {
        Self::Apart(PerExample {
            examples,
            parameters: weights.count(),
            pieces: Vec::new(),
        })
    }

    /// What was kept apart, in the order of the layout; nothing where it was added up.
    pub(super) fn into_apart(self) -> PerExample {
        match self {
            Self::Apart(apart) => apart.sorted(),
            Self::Summed(sum) => PerExample {
                examples: 0,
                parameters: sum.len(),
                pieces: Vec::new(),
            },
        }
    }

    /// Takes the gradient of a tensor. `add` adds those of some examples to what it is given.
    pub(super) fn take(
        &mut self,
        weights: &Weights,
        slot: Slot,
        examples: usize,
        mut add: impl FnMut(Range<usize>, &mut [f32]),
    ) {
        let range = weights.range(slot);
        match self {
            Self::Summed(sum) => add(0..examples, &mut sum[range]),
            Self::Apart(apart) => {
                let mut rows = vec![0.0; examples * range.len()];
                for (example, row) in rows.chunks_exact_mut(range.len()).enumerate() {
                    add(example..example + 1, row);
                }
                apart.pieces.push((range, Piece::Rows(rows)));
            }
        }
    }

    /// Whether it adds up.
    pub(super) fn sums(&self) -> bool {
        matches!(self, Self::Summed(_))
    }

    /// Takes finished gradients of a tensor: one row for each example, or any number of rows if they are
    /// added up.
    pub(super) fn take_rows(&mut self, weights: &Weights, slot: Slot, rows: Vec<f32>) {
        let range = weights.range(slot);
        match self {
            Self::Summed(sum) => {
                let rows = rows.chunks_exact(range.len());
                rows.for_each(|row| super::kernels::add(&mut sum[range.clone()], row));
            }
            Self::Apart(apart) => apart.pieces.push((range, Piece::Rows(rows))),
        }
    }

    /// Takes a gradient that is the outer product of two rows for each example.
    pub(super) fn take_outer(
        &mut self,
        weights: &Weights,
        slot: Slot,
        examples: usize,
        left: Vec<f32>,
        right: &[f32],
    ) {
        let range = weights.range(slot);
        match self {
            Self::Apart(apart) => {
                let right = right.to_vec();
                apart.pieces.push((range, Piece::Outer { left, right }));
            }
            Self::Summed(sum) => {
                let (rows, columns) = (left.len() / examples, right.len() / examples);
                let mut turned = vec![0.0; left.len()];
                transpose(&left, rows, &mut turned);
                let starts =
                    |count: usize, apart| (0..count).map(|at| at * apart).collect::<Vec<_>>();
                let lines = starts(rows, examples);
                let left = Lines {
                    numbers: &turned,
                    starts: &lines,
                };
                let lines = starts(examples, columns);
                let right = Right::Rows(Lines {
                    numbers: right,
                    starts: &lines,
                });
                let sizes = [examples, columns];
                add_product(left, right, sizes, &mut sum[range], &starts(rows, columns));
            }
        }
    }

    /// Takes the gradients of some rows of a table: each row's number and values, for each example in
    /// ascending order.
    pub(super) fn take_some(&mut self, weights: &Weights, slot: Slot, rows: Vec<Vec<Row>>) {
        let range = weights.range(slot);
        match self {
            Self::Apart(apart) => apart.pieces.push((range, Piece::Some(rows))),
            Self::Summed(sum) => {
                for (row, values) in rows.into_iter().flatten() {
                    let start = range.start + row * values.len();
                    super::kernels::add(&mut sum[start..start + values.len()], &values);
                }
            }
        }
    }
}

impl PerExample {
    /// Those of several microbatches, one after the other. All come of one network, so that their pieces
    /// are the same.
    pub(super) fn joined(each: Vec<Self>, parameters: usize) -> Self {
        let mut each = each.into_iter();
        let mut all = each.next().unwrap_or(Self {
            examples: 0,
            parameters,
            pieces: Vec::new(),
        });
        for next in each {
            all.examples += next.examples;
            let pairs = all.pieces.iter_mut().zip(next.pieces);
            pairs.for_each(|((_, piece), (_, next))| piece.append(next));
        }
        all
    }

    /// In the order of the layout.
    pub(super) fn sorted(mut self) -> Self {
        self.pieces.sort_by_key(|(range, _)| range.start);
        self
    }

    /// Number of examples.
    pub fn examples(&self) -> usize {
        self.examples
    }

    /// Number of parameters of each gradient.
    pub fn parameters(&self) -> usize {
        self.parameters
    }

    /// The gradient of one example, in parts in the order of the layout. What no part covers is
    /// zero.
    ///
    /// # Panics
    /// Where there is no such example.
    pub fn parts(&self, example: usize) -> Vec<Part<'_>> {
        assert!(example < self.examples);
        let mut parts = Vec::with_capacity(self.pieces.len());
        for (Range { start, .. }, piece) in &self.pieces {
            let start = *start;
            match piece {
                Piece::Rows(rows) => {
                    let values = Values::Each(self.row(rows, example));
                    parts.push(Part { start, values });
                }
                Piece::Outer { left, right } => {
                    let (left, right) = (self.row(left, example), self.row(right, example));
                    let values = Values::Outer { left, right };
                    parts.push(Part { start, values });
                }
                Piece::Some(rows) => parts.extend(rows[example].iter().map(|(row, values)| Part {
                    start: start + row * values.len(),
                    values: Values::Each(values),
                })),
            }
        }
        parts
    }

    /// Writes the gradient of one example over `gradient`.
    ///
    /// # Panics
    /// Where there is no such example, or `gradient` is not as long as the layout.
    pub fn write(&self, example: usize, gradient: &mut [f32]) {
        assert_eq!(gradient.len(), self.parameters);
        gradient.fill(0.0);
        self.parts(example)
            .iter()
            .for_each(|part| part.write(gradient));
    }

    fn row<'a>(&self, rows: &'a [f32], example: usize) -> &'a [f32] {
        let width = rows.len() / self.examples;
        &rows[example * width..(example + 1) * width]
    }
}

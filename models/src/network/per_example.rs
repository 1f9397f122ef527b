//! Gradients of a microbatch, one for each example, formed as they are read.
//!
//! A dense layer's gradient is an outer product; it is written out for one example at a time, so
//! that a large dense layer costs no memory for each example of the microbatch.

use std::ops::Range;

use consilium_proto::Layout;

use super::blueprint::Slot;

/// Gradients of the examples of one microbatch.
pub struct PerExample {
    examples: usize,
    parameters: usize,
    parts: Vec<(Range<usize>, Part)>,
}

/// Gradients of one tensor.
pub(super) enum Part {
    /// One row for each example.
    Rows(Vec<f32>),
    /// The outer product of a row on the left and a row on the right for each example.
    Outer { left: Vec<f32>, right: Vec<f32> },
}

impl PerExample {
    pub(super) fn new(layout: &Layout, examples: usize, parts: Vec<(Slot, Part)>) -> Self {
        let ranges: Vec<_> = layout.ranges().map(|(_, range)| range).collect();
        let parts = parts
            .into_iter()
            .map(|(slot, part)| (ranges[slot.0].clone(), part))
            .collect();
        Self {
            examples,
            parameters: layout.parameters(),
            parts,
        }
    }

    /// Number of examples.
    pub fn examples(&self) -> usize {
        self.examples
    }

    /// Number of parameters of each gradient.
    pub fn parameters(&self) -> usize {
        self.parameters
    }

    /// Writes the gradient of one example over `gradient`.
    ///
    /// # Panics
    /// Where there is no such example, or `gradient` is not as long as the layout.
    pub fn write(&self, example: usize, gradient: &mut [f32]) {
        assert!(example < self.examples && gradient.len() == self.parameters);
        for (range, part) in &self.parts {
            part.write(example, self.examples, &mut gradient[range.clone()]);
        }
    }
}

impl Part {
    fn write(&self, example: usize, examples: usize, gradient: &mut [f32]) {
        match self {
            Self::Rows(rows) => gradient.copy_from_slice(row(rows, example, examples)),
            Self::Outer { left, right } => {
                let (left, right) = (row(left, example, examples), row(right, example, examples));
                for (gradient, left) in gradient.chunks_exact_mut(right.len()).zip(left) {
                    gradient
                        .iter_mut()
                        .zip(right)
                        .for_each(|(place, right)| *place = left * right);
                }
            }
        }
    }
}

fn row(rows: &[f32], example: usize, examples: usize) -> &[f32] {
    let width = rows.len() / examples;
    &rows[example * width..(example + 1) * width]
}

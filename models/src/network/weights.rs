//! The weights of one step.

use std::ops::Range;

use consilium_proto::Layout;

use super::blueprint::Slot;

/// All weights of a network; made once a step and shared by its microbatches.
pub struct Weights {
    values: Vec<f32>,
    ranges: Vec<Range<usize>>,
}

impl Weights {
    pub(super) fn new(layout: &Layout, values: &[f32]) -> Self {
        Self {
            values: values.to_vec(),
            ranges: layout.ranges().map(|(_, range)| range).collect(),
        }
    }

    /// The numbers of one tensor, row by row.
    pub(super) fn at(&self, slot: Slot) -> &[f32] {
        &self.values[self.range(slot)]
    }

    /// Where a tensor stands among all.
    pub(super) fn range(&self, slot: Slot) -> Range<usize> {
        self.ranges[slot.0].clone()
    }

    /// Number of all weights.
    pub(super) fn count(&self) -> usize {
        self.values.len()
    }
}

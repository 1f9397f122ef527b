//! The weights of one step.

use std::ops::Range;

use consilium_proto::Layout;

use super::{blueprint::Slot, device::OnDevice};

/// All weights of a network; made once a step and shared by its microbatches.
pub struct Weights {
    values: Vec<f32>,
    ranges: Vec<Range<usize>>,
    on_device: Option<OnDevice>,
}

impl Weights {
    pub(super) fn new(layout: &Layout, values: &[f32]) -> Self {
        Self {
            values: values.to_vec(),
            ranges: layout.ranges().map(|(_, range)| range).collect(),
            on_device: None,
        }
    }

    /// With a copy on a device, which then computes, so many examples at a time.
    pub(super) fn on(mut self, device: &burn::tensor::Device, microbatch: usize) -> Self {
        let tensors = self.ranges.iter().map(|range| &self.values[range.clone()]);
        self.on_device = Some(OnDevice::new(device, tensors, microbatch));
        self
    }

    /// The copy on a device, if one computes.
    pub(super) fn on_device(&self) -> Option<&OnDevice> {
        self.on_device.as_ref()
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

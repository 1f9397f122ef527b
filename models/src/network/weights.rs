//! The weights of one step.

use std::{ops::Range, sync::Arc};

use consilium_proto::Layout;

use super::{
    blueprint::Slot,
    device::{OnDevice, Place},
};

/// All weights of a network; made once a step and shared by its microbatches.
pub struct Weights {
    values: Arc<[f32]>,
    ranges: Arc<[Range<usize>]>,
    on_device: Option<OnDevice>,
    /// The same weights on further devices.
    elsewhere: Vec<Weights>,
}

impl Weights {
    pub(super) fn new(layout: &Layout, values: &[f32]) -> Self {
        Self {
            values: values.into(),
            ranges: layout.ranges().map(|(_, range)| range).collect(),
            on_device: None,
            elsewhere: Vec::new(),
        }
    }

    /// With a copy on each of these devices, which then compute.
    pub(super) fn on(mut self, places: &[Place]) -> Self {
        let Some((first, others)) = places.split_first() else {
            return self;
        };
        self.elsewhere = others.iter().map(|place| self.copied_to(place)).collect();
        let on_device = self.copied_to(first).on_device;
        Self { on_device, ..self }
    }

    fn copied_to(&self, place: &Place) -> Self {
        let tensors = self.ranges.iter().map(|range| &self.values[range.clone()]);
        let on_device = OnDevice::new(place.opened(), tensors, place.most().clone());
        Self {
            values: self.values.clone(),
            ranges: self.ranges.clone(),
            on_device: Some(on_device),
            elsewhere: Vec::new(),
        }
    }

    /// The copy on the device of this number, counted from 0.
    pub(super) fn copy(&self, at: usize) -> &Self {
        match at.checked_sub(1) {
            Some(further) => &self.elsewhere[further],
            None => self,
        }
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

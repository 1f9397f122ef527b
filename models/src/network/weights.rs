//! The weights of one step as tensors.

use burn::tensor::{Device, Tensor, TensorData};
use consilium_proto::Layout;

use super::blueprint::Slot;

/// All weights of a network on its device; made once a step and shared by its microbatches.
pub struct Weights(Vec<Tensor<1>>);

impl Weights {
    pub(super) fn new(layout: &Layout, values: &[f32], device: &Device) -> Self {
        let tensor = |range: std::ops::Range<usize>| {
            let shape = [range.len()];
            Tensor::from_data(TensorData::new(values[range].to_vec(), shape), device)
        };
        Self(layout.ranges().map(|(_, range)| tensor(range)).collect())
    }

    pub(super) fn at<const D: usize>(&self, slot: Slot, shape: [usize; D]) -> Tensor<D> {
        self.0[slot.0].clone().reshape(shape)
    }
}

/// Copies a tensor's numbers to the host, row by row.
pub(super) fn to_host<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    // Every tensor of this crate is made of f32 numbers and stays so.
    tensor
        .into_data()
        .as_slice::<f32>()
        .expect("tensors hold f32")
        .to_vec()
}

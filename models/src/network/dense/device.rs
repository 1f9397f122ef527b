//! The dense layer on a device.

use burn::tensor::Tensor;

use super::super::{
    device::OnDevice,
    tape::{Tape, Value},
    taps::Gradient,
};
use super::Dense;

impl Dense {
    pub(super) fn forward_on(&self, on: &OnDevice, input: Tensor<2>, tape: &mut Tape) -> Value {
        let Self {
            positions,
            inputs,
            outputs,
            weight,
            bias,
        } = *self;
        let rows = tape.examples * positions;
        let weights = on.weight(weight, [outputs, inputs]);
        let kept = input.clone().inner();
        let output = input.reshape([rows, inputs]).matmul(weights.transpose());
        let output = output + on.weight(bias, [1, outputs]);
        let output = output.reshape([tape.examples, positions * outputs]);
        tape.tap(output, move |gradient| {
            let [examples, _] = gradient.dims();
            let left = gradient.reshape([examples, positions, outputs]);
            let sums = left.clone().sum_dim(1).squeeze_dim(1);
            let right = kept.reshape([examples, positions, inputs]);
            vec![
                (weight, Gradient::Product { left, right }),
                (bias, Gradient::Rows(sums)),
            ]
        })
    }
}

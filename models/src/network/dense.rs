//! A dense layer: every output from every input.

use burn::tensor::{Gradients, Tensor};

use super::{
    blueprint::{Blueprint, Initial, Slot},
    per_example::Part,
    tape::{Tap, Tape, Trace},
    weights::{Weights, to_host},
};

/// `outputs = inputs · weightᵀ + bias`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Dense {
    inputs: usize,
    outputs: usize,
    weight: Slot,
    bias: Slot,
}

impl Dense {
    /// A layer that a ReLU follows.
    pub(super) fn hidden(on: &mut Blueprint, name: &str, inputs: usize, outputs: usize) -> Self {
        Self::new(on, name, [inputs, outputs], Initial::he(inputs))
    }

    /// A network's last layer.
    pub(super) fn last(on: &mut Blueprint, name: &str, inputs: usize, outputs: usize) -> Self {
        Self::new(
            on,
            name,
            [inputs, outputs],
            Initial::glorot(inputs, outputs),
        )
    }

    fn new(on: &mut Blueprint, name: &str, sizes: [usize; 2], initial: Initial) -> Self {
        let [inputs, outputs] = sizes;
        on.holds(2 * (inputs + outputs));
        let weight = on.tensor(format!("{name}.weight"), &[outputs, inputs], initial);
        let bias = on.tensor(format!("{name}.bias"), &[outputs], Initial::Zeros);
        Self {
            inputs,
            outputs,
            weight,
            bias,
        }
    }

    /// # Shapes
    /// - `input`: `[examples, inputs]`
    /// - output: `[examples, outputs]`
    pub(super) fn forward(
        &self,
        weights: &Weights,
        input: Tensor<2>,
        tape: &mut Tape,
    ) -> Tensor<2> {
        let weight = weights.at(self.weight, [self.outputs, self.inputs]);
        let bias = weights.at(self.bias, [1, self.outputs]);
        let output = input.clone().matmul(weight.transpose()) + bias;
        tape.record(output, |tap| DenseTrace {
            layer: *self,
            input: input.inner(),
            tap,
        })
    }
}

struct DenseTrace {
    layer: Dense,
    input: Tensor<2>,
    tap: Tap<2>,
}

impl Trace for DenseTrace {
    fn apart(&self, gradients: &mut Gradients) -> Vec<(Slot, Part)> {
        let left = to_host(self.tap.gradient(gradients));
        let right = to_host(self.input.clone());
        vec![
            (self.layer.bias, Part::Rows(left.clone())),
            (self.layer.weight, Part::Outer { left, right }),
        ]
    }

    fn summed(&self, gradients: &mut Gradients) -> Vec<(Slot, Vec<f32>)> {
        let gradient = self.tap.gradient(gradients);
        let weight = gradient.clone().transpose().matmul(self.input.clone());
        vec![
            (self.layer.weight, to_host(weight)),
            (self.layer.bias, to_host(gradient.sum_dim(0))),
        ]
    }
}

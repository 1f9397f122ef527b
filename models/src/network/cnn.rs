//! `cnn`: two convolutions and one hidden layer, for images of any size from 10 × 10 on.

use burn::tensor::{Tensor, activation::relu};

use super::{
    Architecture,
    blueprint::Blueprint,
    convolution::{Convolution, Window},
    dense::Dense,
    pooling::halve,
    tape::Tape,
    weights::Weights,
};

/// Convolution 3×3 of 32 channels, ReLU, 2×2 pool, the same with 64 channels, dense 128, ReLU,
/// dense outputs. No padding.
pub(super) struct Cnn {
    input: [usize; 3],
    conv1: Convolution,
    conv2: Convolution,
    fc1: Dense,
    fc2: Dense,
}

impl Cnn {
    pub(super) fn new(on: &mut Blueprint, input: [usize; 3], outputs: usize) -> Self {
        let window = Window {
            kernel: 3,
            stride: 1,
            padding: 0,
        };
        let pooled = |[channels, height, width]: [usize; 3]| [channels, height / 2, width / 2];
        let (conv1, shape) = Convolution::with_bias(on, "conv1", input, 32, window);
        let (conv2, shape) = Convolution::with_bias(on, "conv2", pooled(shape), 64, window);
        let fc1 = Dense::hidden(on, "fc1", pooled(shape).iter().product(), 128);
        let fc2 = Dense::last(on, "fc2", 128, outputs);
        Self {
            input,
            conv1,
            conv2,
            fc1,
            fc2,
        }
    }
}

impl Architecture for Cnn {
    fn forward(&self, weights: &Weights, inputs: Tensor<2>, tape: &mut Tape) -> Tensor<2> {
        let [examples, _] = inputs.dims();
        let [channels, height, width] = self.input;
        let x = inputs.reshape([examples, channels, height, width]);
        let x = halve(relu(self.conv1.forward(weights, x, tape)));
        let x = halve(relu(self.conv2.forward(weights, x, tape)));
        let x = relu(self.fc1.forward(weights, x.flatten(1, 3), tape));
        self.fc2.forward(weights, x, tape)
    }
}

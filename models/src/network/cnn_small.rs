//! `cnn-small`: one convolution and one hidden layer, for small grey images.

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

/// Convolution 3×3 of 5 channels, ReLU, 2×2 pool, dense 10, ReLU, dense outputs.
pub(super) struct CnnSmall {
    input: [usize; 3],
    conv: Convolution,
    fc1: Dense,
    fc2: Dense,
}

impl CnnSmall {
    pub(super) fn new(on: &mut Blueprint, input: [usize; 3], outputs: usize) -> Self {
        let window = Window {
            kernel: 3,
            stride: 1,
            padding: 0,
        };
        let (conv, [channels, height, width]) =
            Convolution::with_bias(on, "conv", input, 5, window);
        let features = channels * (height / 2) * (width / 2);
        let fc1 = Dense::hidden(on, "fc1", features, 10);
        let fc2 = Dense::last(on, "fc2", 10, outputs);
        Self {
            input,
            conv,
            fc1,
            fc2,
        }
    }
}

impl Architecture for CnnSmall {
    fn forward(&self, weights: &Weights, inputs: Tensor<2>, tape: &mut Tape) -> Tensor<2> {
        let [examples, _] = inputs.dims();
        let [channels, height, width] = self.input;
        let x = inputs.reshape([examples, channels, height, width]);
        let x = halve(relu(self.conv.forward(weights, x, tape)));
        let x = relu(self.fc1.forward(weights, x.flatten(1, 3), tape));
        self.fc2.forward(weights, x, tape)
    }
}

//! `cnn-small`: one convolution and one hidden layer, for small grey images.

use super::{
    Architecture,
    activation::relu,
    blueprint::Blueprint,
    convolution::{Convolution, Window},
    dense::Dense,
    pooling::halve,
    tape::{Tape, Value},
};

/// Convolution 3×3 of 5 channels, ReLU, 2×2 pool, dense 10, ReLU, dense outputs.
pub(super) struct CnnSmall {
    conv: Convolution,
    fc1: Dense,
    fc2: Dense,
    /// What goes into the pool.
    shape: [usize; 3],
}

impl CnnSmall {
    pub(super) fn new(on: &mut Blueprint, input: [usize; 3], outputs: usize) -> Self {
        let window = Window::new(3, 1, 0);
        let (conv, shape) = Convolution::with_bias(on, "conv", input, 5, window);
        let [channels, height, width] = shape;
        let features = channels * (height / 2) * (width / 2);
        let fc1 = Dense::hidden(on, "fc1", features, 10);
        let fc2 = Dense::last(on, "fc2", 10, outputs);
        Self {
            conv,
            fc1,
            fc2,
            shape,
        }
    }
}

impl Architecture for CnnSmall {
    fn forward(&self, input: Value, tape: &mut Tape) -> Value {
        // A ReLU after the pool does what it would before, on a quarter of the values.
        let x = self.conv.forward(input, tape);
        let x = relu(halve(x, self.shape, tape), tape);
        let x = relu(self.fc1.forward(x, tape), tape);
        self.fc2.forward(x, tape)
    }
}

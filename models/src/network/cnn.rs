//! `cnn`: two convolutions and one hidden layer, for images of any size from 10 × 10 on.

use super::{
    Architecture,
    activation::relu,
    blueprint::Blueprint,
    convolution::{Convolution, Window},
    dense::Dense,
    tape::{Tape, Value},
};

/// Convolution 3×3 of 32 channels, ReLU, 2×2 pool, the same with 64 channels, dense 128, ReLU,
/// dense outputs. No padding.
pub(super) struct Cnn {
    conv1: Convolution,
    conv2: Convolution,
    /// Channels, height and width behind it.
    last: [usize; 3],
    fc1: Dense,
    fc2: Dense,
}

impl Cnn {
    pub(super) fn new(on: &mut Blueprint, input: [usize; 3], outputs: usize) -> Self {
        let window = Window::new(3, 1, 0);
        let (conv1, shape) = Convolution::halved(on, "conv1", input, 32, window);
        let (conv2, shape) = Convolution::halved(on, "conv2", shape, 64, window);
        let features = shape.iter().product();
        let fc1 = Dense::hidden(on, "fc1", features, 128);
        let fc2 = Dense::last(on, "fc2", 128, outputs);
        Self {
            conv1,
            conv2,
            last: shape,
            fc1,
            fc2,
        }
    }
}

impl Architecture for Cnn {
    fn forward(&self, input: Value, tape: &mut Tape) -> Value {
        let x = relu(self.conv1.forward(input, tape), tape);
        let x = relu(self.conv2.forward(x, tape), tape);
        tape.show(&x, self.last);
        let x = relu(self.fc1.forward(x, tape), tape);
        self.fc2.forward(x, tape)
    }
}

//! `cnn-small`: one convolution and one hidden layer, for small grey images.

use super::{
    Architecture,
    activation::relu,
    blueprint::Blueprint,
    convolution::{Convolution, Window},
    dense::Dense,
    tape::{Tape, Value},
};

/// Convolution 3×3 of 5 channels, ReLU, 2×2 pool, dense 10, ReLU, dense outputs.
pub(super) struct CnnSmall {
    conv: Convolution,
    /// Channels, height and width behind it.
    last: [usize; 3],
    fc1: Dense,
    fc2: Dense,
}

impl CnnSmall {
    pub(super) fn new(on: &mut Blueprint, input: [usize; 3], outputs: usize) -> Self {
        let window = Window::new(3, 1, 0);
        let (conv, shape) = Convolution::halved(on, "conv", input, 5, window);
        let features = shape.iter().product();
        let fc1 = Dense::hidden(on, "fc1", features, 10);
        let fc2 = Dense::last(on, "fc2", 10, outputs);
        Self {
            conv,
            last: shape,
            fc1,
            fc2,
        }
    }
}

impl Architecture for CnnSmall {
    fn forward(&self, input: Value, tape: &mut Tape) -> Value {
        let x = relu(self.conv.forward(input, tape), tape);
        tape.show(&x, self.last);
        let x = relu(self.fc1.forward(x, tape), tape);
        self.fc2.forward(x, tape)
    }
}

//! `scatter-cnn`: wavelet scattering, which has no weights, and a small network on top.

use super::{
    Architecture,
    activation::relu,
    blueprint::Blueprint,
    convolution::{Convolution, Window},
    dense::Dense,
    group_norm::normalise,
    kernels::vectorised,
    pooling::halve,
    scattering::{MAPS, Scattering},
    tape::{Tape, Value},
};

/// Groups of a channel's maps that are brought to mean 0 and variance 1 in each image.
const GROUPS: usize = 3;

/// Scattering, its maps normalised, convolution 3×3 of 16 channels, ReLU, 2×2 pool, convolution 3×3 of
/// 32 channels, ReLU, dense outputs.
pub(super) struct ScatterCnn {
    scattering: Scattering,
    conv1: Convolution,
    conv2: Convolution,
    fc: Dense,
    /// What goes into the pool.
    shape: [usize; 3],
}

impl ScatterCnn {
    pub(super) fn new(on: &mut Blueprint, input: [usize; 3], outputs: usize) -> Self {
        let scattering = Scattering::new(input);
        let window = Window::new(3, 1, 1);
        on.holds(2 * MAPS * input.iter().product::<usize>());
        let (conv1, shape) = Convolution::with_bias(on, "conv1", scattering.output(), 16, window);
        let [channels, height, width] = shape;
        let halved = [channels, height / 2, width / 2];
        let (conv2, last) = Convolution::with_bias(on, "conv2", halved, 32, window);
        let fc = Dense::last(on, "fc", last.iter().product(), outputs);
        Self {
            scattering,
            conv1,
            conv2,
            fc,
            shape,
        }
    }
}

impl Architecture for ScatterCnn {
    fn forward(&self, input: Value, tape: &mut Tape) -> Value {
        let mut maps = self.scattering.scatter(input.entered().rows());
        let [_, height, width] = self.scattering.output();
        vectorised(|| {
            for group in maps.chunks_exact_mut(MAPS / GROUPS * height * width) {
                normalise(group);
            }
        });
        let x = self.conv1.forward(tape.input(maps), tape);
        let x = relu(halve(x, self.shape, tape), tape);
        let x = relu(self.conv2.forward(x, tape), tape);
        self.fc.forward(x, tape)
    }
}

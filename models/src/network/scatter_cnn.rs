//! `scatter-cnn`: wavelet scattering, which has no weights, and a small network on top.

use super::{
    Architecture,
    activation::relu,
    blueprint::Blueprint,
    convolution::{Convolution, Window},
    dense::Dense,
    group_norm::{EPSILON, normalise_groups},
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
    /// Channels, height and width behind it.
    last: [usize; 3],
    fc: Dense,
}

impl ScatterCnn {
    pub(super) fn new(on: &mut Blueprint, input: [usize; 3], outputs: usize) -> Self {
        let scattering = Scattering::new(input);
        let window = Window::new(3, 1, 1);
        on.holds(2 * MAPS * input.iter().product::<usize>());
        let (conv1, shape) = Convolution::halved(on, "conv1", scattering.output(), 16, window);
        let (conv2, last) = Convolution::with_bias(on, "conv2", shape, 32, window);
        let fc = Dense::last(on, "fc", last.iter().product(), outputs);
        Self {
            scattering,
            conv1,
            conv2,
            last,
            fc,
        }
    }
}

impl ScatterCnn {
    /// Numbers of a group of maps.
    fn group(&self) -> usize {
        let [_, height, width] = self.scattering.output();
        MAPS / GROUPS * height * width
    }

    /// What stands on top of the maps.
    fn behind(&self, maps: Value, tape: &mut Tape) -> Value {
        let x = relu(self.conv1.forward(maps, tape), tape);
        let x = relu(self.conv2.forward(x, tape), tape);
        tape.show(&x, self.last);
        self.fc.forward(x, tape)
    }
}

impl Architecture for ScatterCnn {
    fn forward(&self, input: Value, tape: &mut Tape) -> Value {
        if let Value::Edge(images) = &input {
            let maps = self.scattering.draw(images);
            let groups = maps.numbers() / self.group();
            return self.behind(Value::Edge(maps.normalised(groups, EPSILON)), tape);
        }
        let mut maps = self.scattering.scatter(input.entered().rows());
        normalise_groups(&mut maps, self.group(), EPSILON);
        let maps = tape.input(maps);
        self.behind(maps, tape)
    }
}

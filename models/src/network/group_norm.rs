//! Group norm: mean 0 and variance 1 over groups of one example's channels (Wu and He 2018).

use burn::tensor::{Gradients, Tensor};

use super::{
    blueprint::{Blueprint, Initial, Slot},
    per_example::Part,
    tape::{Tap, Tape, Trace},
    weights::{Weights, to_host},
};

/// Added to the variance of a group.
const EPSILON: f64 = 1e-5;

/// Normalises groups of channels of each example, then scales and shifts each channel.
#[derive(Debug, Clone, Copy)]
pub(super) struct GroupNorm {
    groups: usize,
    channels: usize,
    scale: Slot,
    shift: Slot,
}

impl GroupNorm {
    /// Groups of 4 channels, but at most 8 groups: 8 channels make 2 groups, 16 make 4, 32 and
    /// more make 8. `shape` is `[channels, height, width]`.
    pub(super) fn new(on: &mut Blueprint, name: &str, shape: [usize; 3]) -> Self {
        let channels = shape[0];
        on.holds(4 * shape.iter().product::<usize>());
        let scale = on.tensor(format!("{name}.weight"), &[channels], Initial::Ones);
        let shift = on.tensor(format!("{name}.bias"), &[channels], Initial::Zeros);
        Self {
            groups: (channels / 4).clamp(1, 8),
            channels,
            scale,
            shift,
        }
    }

    /// # Shapes
    /// - `input` and output: `[examples, channels, height, width]`
    pub(super) fn forward(
        &self,
        weights: &Weights,
        input: Tensor<4>,
        tape: &mut Tape,
    ) -> Tensor<4> {
        let shape @ [examples, channels, height, width] = input.dims();
        let group = channels / self.groups * height * width;
        let input = input.reshape([examples, self.groups, group]);
        let centred = input.clone() - input.mean_dim(2);
        let variance = centred.clone().square().mean_dim(2);
        let normal = (centred / (variance + EPSILON).sqrt()).reshape(shape);
        let scale = weights.at(self.scale, [1, self.channels, 1, 1]);
        let shift = weights.at(self.shift, [1, self.channels, 1, 1]);
        let output = normal.clone() * scale + shift;
        tape.record(output, |tap| GroupNormTrace {
            layer: *self,
            normal: normal.inner(),
            tap,
        })
    }
}

struct GroupNormTrace {
    layer: GroupNorm,
    normal: Tensor<4>,
    tap: Tap<4>,
}

impl GroupNormTrace {
    /// The gradients of scale and shift, `[examples, channels]` each.
    fn rows(&self, gradients: &mut Gradients) -> [(Slot, Tensor<2>); 2] {
        let output: Tensor<3> = self.tap.gradient(gradients).flatten(2, 3);
        let normal: Tensor<3> = self.normal.clone().flatten(2, 3);
        let sum = |terms: Tensor<3>| terms.sum_dim(2).squeeze_dim::<2>(2);
        [
            (self.layer.scale, sum(output.clone() * normal)),
            (self.layer.shift, sum(output)),
        ]
    }
}

impl Trace for GroupNormTrace {
    fn apart(&self, gradients: &mut Gradients) -> Vec<(Slot, Part)> {
        let rows = self
            .rows(gradients)
            .map(|(slot, rows)| (slot, Part::Rows(to_host(rows))));
        rows.into()
    }

    fn summed(&self, gradients: &mut Gradients) -> Vec<(Slot, Vec<f32>)> {
        self.rows(gradients)
            .map(|(slot, rows)| (slot, to_host(rows.sum_dim(0))))
            .into()
    }
}

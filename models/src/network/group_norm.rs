//! Group norm: mean 0 and variance 1 over groups of one example's channels (Wu and He 2018).

use super::{
    blueprint::{Blueprint, Initial, Slot},
    kernels::{add, dot, sum, vectorised},
    norms::{Affine, normalised},
    onnx::Edge,
    tape::{Pass, Placed, Step, Tape, Value},
    weights::Weights,
};
use crate::profile::Kind;

/// Added to the variance of a group.
pub(super) const EPSILON: f32 = 1e-5;

/// Normalises groups of channels of each example, then scales and shifts each channel.
#[derive(Debug, Clone, Copy)]
pub(super) struct GroupNorm {
    groups: usize,
    channels: usize,
    /// Numbers of a channel.
    plane: usize,
    scale: Slot,
    shift: Slot,
}

impl GroupNorm {
    /// `shape` is `[channels, height, width]`.
    pub(super) fn new(on: &mut Blueprint, name: &str, shape: [usize; 3]) -> Self {
        let [channels, height, width] = shape;
        on.holds(3 * shape.iter().product::<usize>());
        let scale = on.tensor(format!("{name}.weight"), &[channels], Initial::Ones);
        let shift = on.tensor(format!("{name}.bias"), &[channels], Initial::Zeros);
        Self {
            groups: groups(channels),
            channels,
            plane: height * width,
            scale,
            shift,
        }
    }

    /// # Shapes
    /// - `input` and output: `[examples][channels][height][width]`
    pub(super) fn forward(&self, input: Value, tape: &mut Tape) -> Value {
        let [input] = match tape.place([input]) {
            Placed::Rows(rows) => rows,
            Placed::Tensors([input], on) => {
                let group = self.channels / self.groups * self.plane;
                let groups = input.reshape([tape.examples, self.groups, group]);
                let affine = Affine {
                    scale: self.scale,
                    shift: self.shift,
                    over: [tape.examples, self.channels, self.plane],
                    along: 1,
                };
                return affine.forward_on(on, normalised(groups, EPSILON), tape);
            }
            Placed::Edges([input]) => return Value::Edge(self.draw(&input, tape.weights)),
        };
        let (scale, shift) = (tape.weights.at(self.scale), tape.weights.at(self.shift));
        let node = input.node();
        let mut normal = input.into_rows();
        let group = self.channels / self.groups * self.plane;
        let deviations = normalise_groups(&mut normal, group, EPSILON);
        // Only the way back needs the normal values: without one they are scaled where they stand.
        let output = if tape.is_recording() {
            let mut output = vec![0.0; normal.len()];
            scale_planes(&normal, [scale, shift], self.plane, &mut output);
            output
        } else {
            let mut output = std::mem::take(&mut normal);
            scale_in_place(&mut output, [scale, shift], self.plane);
            output
        };
        let layer = *self;
        tape.layer_at(output, &[node], |_| GroupNormStep {
            layer,
            normal,
            deviations,
        })
    }

    fn draw(&self, input: &Edge, weights: &Weights) -> Edge {
        let shape = [self.channels, self.plane];
        let normal = input.normalised(self.groups, EPSILON).shaped(&shape);
        let each = |slot| normal.constant(weights.at(slot), &[self.channels, 1]);
        let scaled = normal.then("Mul", [each(self.scale)], [], &shape);
        scaled.then("Add", [each(self.shift)], [], &shape)
    }
}

/// Groups of 4 channels, but at most 8 groups, and all of one size: 8 channels make 2 groups, 16 make 4, 32
/// make 8, 36 make 6.
pub(super) fn groups(channels: usize) -> usize {
    let most = (channels / 4).clamp(1, 8);
    let even = (1..=most)
        .rev()
        .find(|&groups| channels.is_multiple_of(groups));
    even.unwrap_or(1)
}

vectorised! {
    /// Brings each group to mean 0 and variance 1 and gives what it was multiplied by.
    pub(super) fn normalise_groups<'a>(values: &'a mut [f32], group: usize, epsilon: f32) -> Vec<f32> {
        let groups = values.chunks_exact_mut(group);
        groups.map(|group| normalise(group, epsilon)).collect()
    }
}

vectorised! {
    fn scale_planes<'a>(normal: &'a [f32], weights: [&'a [f32]; 2], plane: usize, output: &'a mut [f32]) {
        let [scale, shift] = weights;
        let planes = output.chunks_exact_mut(plane).zip(normal.chunks_exact(plane));
        for (at, (output, normal)) in planes.enumerate() {
            let (scale, shift) = (scale[at % scale.len()], shift[at % scale.len()]);
            for (output, normal) in output.iter_mut().zip(normal) {
                *output = normal * scale + shift;
            }
        }
    }
}

vectorised! {
    /// As [`scale_planes`], to the same bits.
    fn scale_in_place<'a>(values: &'a mut [f32], weights: [&'a [f32]; 2], plane: usize) {
        let [scale, shift] = weights;
        for (at, values) in values.chunks_exact_mut(plane).enumerate() {
            let (scale, shift) = (scale[at % scale.len()], shift[at % scale.len()]);
            values.iter_mut().for_each(|value| *value = *value * scale + shift);
        }
    }
}

vectorised! {
    /// For each plane, the sums of gradient times normal value and of gradient.
    fn plane_sums<'a>(gradient: &'a [f32], normal: &'a [f32], plane: usize) -> [Vec<f32>; 2] {
        let planes = gradient.chunks_exact(plane).zip(normal.chunks_exact(plane));
        let sums = planes.map(|(gradient, normal)| (dot(gradient, normal), sum(gradient)));
        let (scales, shifts) = sums.unzip();
        [scales, shifts]
    }
}

vectorised! {
    /// Turns the gradient at the output of a group into that at its input. `scale` has the weights of its
    /// channels, `sums` what [`plane_sums`] found for them.
    fn group_back<'a>(
        gradient: &'a mut [f32],
        normal: &'a [f32],
        scale: &'a [f32],
        sums: [&'a [f32]; 2],
        deviation: f32,
    ) {
        let count = gradient.len() as f32;
        let plane = gradient.len() / scale.len();
        let [along, mean] = sums.map(|sums| dot(scale, sums) / count);
        let planes = gradient.chunks_exact_mut(plane).zip(normal.chunks_exact(plane));
        for ((gradient, normal), scale) in planes.zip(scale) {
            for (gradient, normal) in gradient.iter_mut().zip(normal) {
                *gradient = (*gradient * scale - mean - normal * along) * deviation;
            }
        }
    }
}

/// Brings values to mean 0 and variance 1 and gives what they were multiplied by.
#[inline(always)]
pub(super) fn normalise(values: &mut [f32], epsilon: f32) -> f32 {
    let count = values.len() as f32;
    let mean = sum(values) / count;
    values.iter_mut().for_each(|value| *value -= mean);
    let scale = 1.0 / (dot(values, values) / count + epsilon).sqrt();
    values.iter_mut().for_each(|value| *value *= scale);
    scale
}

struct GroupNormStep {
    layer: GroupNorm,
    normal: Vec<f32>,
    /// What each group was multiplied by.
    deviations: Vec<f32>,
}

impl Step for GroupNormStep {
    fn kind() -> Kind {
        Kind::GroupNorm
    }

    fn back(self: Box<Self>, output: Vec<f32>, pass: &mut Pass) -> Vec<Option<Vec<f32>>> {
        let GroupNorm {
            groups,
            channels,
            plane,
            scale,
            shift,
        } = self.layer;
        // The gradients of scale and shift, for each channel of each example.
        let [scales, shifts] = plane_sums(&output, &self.normal, plane);
        for (slot, rows) in [(scale, &scales), (shift, &shifts)] {
            pass.sink
                .take(pass.weights, slot, pass.examples, |examples, place| {
                    for row in
                        rows[examples.start * channels..examples.end * channels].chunks(channels)
                    {
                        add(place, row);
                    }
                });
        }
        let scale = pass.weights.at(scale);
        let share = channels / groups;
        let mut back = output;
        let stretches = back
            .chunks_exact_mut(share * plane)
            .zip(self.normal.chunks_exact(share * plane));
        for (at, (back, normal)) in stretches.enumerate() {
            let of = at * share..(at + 1) * share;
            let scale = &scale[at % groups * share..][..share];
            let sums = [&scales[of.clone()], &shifts[of]];
            group_back(back, normal, scale, sums, self.deviations[at]);
        }
        vec![Some(back)]
    }
}

#[cfg(test)]
mod tests {
    use super::groups;

    #[test]
    fn all_groups_have_the_same_size() {
        assert_eq!(
            [4, 8, 12, 16, 32, 36, 44, 256].map(groups),
            [1, 2, 3, 4, 8, 6, 4, 8]
        );
    }
}

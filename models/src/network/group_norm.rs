//! Group norm: mean 0 and variance 1 over groups of one example's channels (Wu and He 2018).

use super::{
    blueprint::{Blueprint, Initial, Slot},
    kernels::{dot, sum, vectorised},
    norms::{Affine, normalised},
    tape::{Pass, Placed, Step, Tape, Value},
};

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
    /// Groups of 4 channels, but at most 8 groups: 8 channels make 2 groups, 16 make 4, 32 and
    /// more make 8. `shape` is `[channels, height, width]`.
    pub(super) fn new(on: &mut Blueprint, name: &str, shape: [usize; 3]) -> Self {
        let [channels, height, width] = shape;
        on.holds(3 * shape.iter().product::<usize>());
        let scale = on.tensor(format!("{name}.weight"), &[channels], Initial::Ones);
        let shift = on.tensor(format!("{name}.bias"), &[channels], Initial::Zeros);
        Self {
            groups: (channels / 4).clamp(1, 8),
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
        };
        let (scale, shift) = (tape.weights.at(self.scale), tape.weights.at(self.shift));
        let node = input.node();
        let mut normal = input.into_rows();
        let mut output = vec![0.0; normal.len()];
        let group = self.channels / self.groups * self.plane;
        let mut deviations = Vec::with_capacity(normal.len() / group);
        vectorised(|| {
            deviations.extend(normal.chunks_exact_mut(group).map(normalise));
            let planes = output
                .chunks_exact_mut(self.plane)
                .zip(normal.chunks_exact(self.plane));
            for (at, (output, normal)) in planes.enumerate() {
                let channel = at % self.channels;
                let (scale, shift) = (scale[channel], shift[channel]);
                let both = output.iter_mut().zip(normal);
                both.for_each(|(output, normal)| *output = normal * scale + shift);
            }
        });
        let layer = *self;
        tape.layer_at(output, &[node], |_| GroupNormStep {
            layer,
            normal,
            deviations,
        })
    }
}

/// Brings values to mean 0 and variance 1 and gives what they were multiplied by.
#[inline(always)]
pub(super) fn normalise(values: &mut [f32]) -> f32 {
    let count = values.len() as f32;
    let mean = sum(values) / count;
    values.iter_mut().for_each(|value| *value -= mean);
    let scale = 1.0 / (dot(values, values) / count + EPSILON).sqrt();
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
    fn back(self: Box<Self>, output: Vec<f32>, pass: &mut Pass) -> Vec<Option<Vec<f32>>> {
        let GroupNorm {
            groups,
            channels,
            plane,
            scale,
            shift,
        } = self.layer;
        // The gradients of scale and shift, for each channel of each example.
        let (scales, shifts): (Vec<f32>, Vec<f32>) = vectorised(|| {
            let planes = output
                .chunks_exact(plane)
                .zip(self.normal.chunks_exact(plane));
            planes
                .map(|(output, normal)| (dot(output, normal), sum(output)))
                .unzip()
        });
        for (slot, rows) in [(scale, &scales), (shift, &shifts)] {
            pass.sink
                .take(pass.weights, slot, pass.examples, |examples, place| {
                    for row in
                        rows[examples.start * channels..examples.end * channels].chunks(channels)
                    {
                        super::kernels::add(place, row);
                    }
                });
        }
        let scale = pass.weights.at(scale);
        let share = channels / groups;
        let count = (share * plane) as f32;
        let mut back = output;
        vectorised(|| {
            for (at, back) in back.chunks_exact_mut(share * plane).enumerate() {
                let channel = at * share;
                let weighted = |sums: &[f32]| {
                    let terms = sums[channel..channel + share].iter().enumerate();
                    terms
                        .map(|(at, sum)| scale[(channel + at) % channels] * sum)
                        .sum::<f32>()
                        / count
                };
                let (along, mean, deviation) =
                    (weighted(&scales), weighted(&shifts), self.deviations[at]);
                let normal = &self.normal[at * share * plane..][..share * plane];
                let planes = back.chunks_exact_mut(plane).zip(normal.chunks_exact(plane));
                for (at, (back, normal)) in planes.enumerate() {
                    let scale = scale[(channel + at) % channels];
                    for (back, normal) in back.iter_mut().zip(normal) {
                        *back = (*back * scale - mean - normal * along) * deviation;
                    }
                }
            }
        });
        vec![Some(back)]
    }
}

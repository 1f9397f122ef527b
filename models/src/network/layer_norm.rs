//! Layer norm: mean 0 and variance 1 at each position of a sequence (Ba, Kiros and Hinton 2016).

use super::{
    blueprint::{Blueprint, Initial, Slot},
    group_norm::{EPSILON, normalise},
    kernels::vectorised,
    norms::{Affine, normalised},
    tape::{Pass, Placed, Step, Tape, Value},
};

/// Normalises each position, then scales and shifts each feature.
#[derive(Debug, Clone, Copy)]
pub(super) struct LayerNorm {
    positions: usize,
    features: usize,
    scale: Slot,
    shift: Slot,
}

impl LayerNorm {
    pub(super) fn new(on: &mut Blueprint, name: &str, positions: usize, features: usize) -> Self {
        on.holds(3 * positions * features);
        let scale = on.tensor(format!("{name}.weight"), &[features], Initial::Ones);
        let shift = on.tensor(format!("{name}.bias"), &[features], Initial::Zeros);
        Self {
            positions,
            features,
            scale,
            shift,
        }
    }

    /// # Shapes
    /// - `input` and output: `[examples][positions][features]`
    pub(super) fn forward(&self, input: Value, tape: &mut Tape) -> Value {
        let [input] = match tape.place([input]) {
            Placed::Rows(rows) => rows,
            Placed::Tensors([input], on) => {
                let over = [tape.examples, self.positions, self.features];
                let affine = Affine {
                    scale: self.scale,
                    shift: self.shift,
                    over,
                    along: 2,
                };
                return affine.forward_on(on, normalised(input.reshape(over), EPSILON), tape);
            }
        };
        let (scale, shift) = (tape.weights.at(self.scale), tape.weights.at(self.shift));
        let node = input.node();
        let mut normal = input.into_rows();
        let mut output = vec![0.0; normal.len()];
        let mut deviations = Vec::with_capacity(normal.len() / self.features);
        vectorised(|| {
            let rows = normal.chunks_exact_mut(self.features);
            for (normal, output) in rows.zip(output.chunks_exact_mut(self.features)) {
                deviations.push(normalise(normal));
                let terms = normal.iter().zip(scale).zip(shift);
                for (output, ((normal, scale), shift)) in output.iter_mut().zip(terms) {
                    *output = normal * scale + shift;
                }
            }
        });
        let layer = *self;
        tape.layer_at(output, &[node], |_| LayerNormStep {
            layer,
            normal,
            deviations,
        })
    }
}

struct LayerNormStep {
    layer: LayerNorm,
    normal: Vec<f32>,
    /// What each position was multiplied by.
    deviations: Vec<f32>,
}

impl Step for LayerNormStep {
    fn back(self: Box<Self>, output: Vec<f32>, pass: &mut Pass) -> Vec<Option<Vec<f32>>> {
        let LayerNorm {
            positions,
            features,
            scale,
            shift,
        } = self.layer;
        let stretch = positions * features;
        let rows = |examples: std::ops::Range<usize>| {
            let of = examples.start * stretch..examples.end * stretch;
            let normal = self.normal[of.clone()].chunks_exact(features);
            output[of].chunks_exact(features).zip(normal)
        };
        pass.sink
            .take(pass.weights, scale, pass.examples, |examples, place| {
                vectorised(|| {
                    for (output, normal) in rows(examples) {
                        for (place, (output, normal)) in
                            place.iter_mut().zip(output.iter().zip(normal))
                        {
                            *place += output * normal;
                        }
                    }
                });
            });
        pass.sink
            .take(pass.weights, shift, pass.examples, |examples, place| {
                rows(examples).for_each(|(output, _)| super::kernels::add(place, output));
            });
        let scale = pass.weights.at(scale);
        let mut back = output;
        vectorised(|| {
            let rows = back
                .chunks_exact_mut(features)
                .zip(self.normal.chunks_exact(features));
            for ((back, normal), deviation) in rows.zip(&self.deviations) {
                back.iter_mut()
                    .zip(scale)
                    .for_each(|(back, scale)| *back *= scale);
                let mean = super::kernels::sum(back) / features as f32;
                let along = super::kernels::dot(back, normal) / features as f32;
                for (back, normal) in back.iter_mut().zip(normal) {
                    *back = (*back - mean - normal * along) * deviation;
                }
            }
        });
        vec![Some(back)]
    }
}

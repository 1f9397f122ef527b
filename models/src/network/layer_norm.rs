//! Layer norm: mean 0 and variance 1 at each position of a sequence (Ba, Kiros and Hinton 2016).

use super::{
    blueprint::{Blueprint, Initial, Slot},
    group_norm::{EPSILON, normalise_groups},
    kernels::{add, dot, sum, vectorised},
    norms::{Affine, normalised},
    onnx::{Attribute, Edge},
    tape::{Pass, Placed, Step, Tape, Value},
    weights::Weights,
};
use crate::profile::Kind;

/// Normalises each position, then scales and shifts each feature.
#[derive(Debug, Clone, Copy)]
pub(super) struct LayerNorm {
    positions: usize,
    features: usize,
    /// Added to variances.
    epsilon: f32,
    scale: Slot,
    shift: Slot,
}

impl LayerNorm {
    pub(super) fn new(on: &mut Blueprint, name: &str, positions: usize, features: usize) -> Self {
        Self::with_epsilon(on, name, [positions, features], EPSILON)
    }

    pub(super) fn with_epsilon(
        on: &mut Blueprint,
        name: &str,
        [positions, features]: [usize; 2],
        epsilon: f32,
    ) -> Self {
        on.holds(3 * positions * features);
        let scale = on.tensor(format!("{name}.weight"), &[features], Initial::Ones);
        let shift = on.tensor(format!("{name}.bias"), &[features], Initial::Zeros);
        Self {
            positions,
            features,
            epsilon,
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
                return affine.forward_on(on, normalised(input.reshape(over), self.epsilon), tape);
            }
            Placed::Edges([input]) => return Value::Edge(self.draw(&input, tape.weights)),
        };
        let (scale, shift) = (tape.weights.at(self.scale), tape.weights.at(self.shift));
        let node = input.node();
        let mut normal = input.into_rows();
        let mut output = vec![0.0; normal.len()];
        let deviations = normalise_groups(&mut normal, self.features, self.epsilon);
        scale_rows(&normal, [scale, shift], &mut output);
        let layer = *self;
        tape.layer_at(output, &[node], |_| LayerNormStep {
            layer,
            normal,
            deviations,
        })
    }

    fn draw(&self, input: &Edge, weights: &Weights) -> Edge {
        let shape = [self.positions, self.features];
        let rows = input.shaped(&shape);
        let each = |slot| rows.constant(weights.at(slot), &[self.features]);
        let epsilon = Attribute::float("epsilon", self.epsilon);
        let affine = [each(self.scale), each(self.shift)];
        rows.then("LayerNormalization", affine, [epsilon], &shape)
    }
}

struct LayerNormStep {
    layer: LayerNorm,
    normal: Vec<f32>,
    /// What each position was multiplied by.
    deviations: Vec<f32>,
}

impl Step for LayerNormStep {
    fn kind() -> Kind {
        Kind::LayerNorm
    }

    fn back(self: Box<Self>, output: Vec<f32>, pass: &mut Pass) -> Vec<Option<Vec<f32>>> {
        let LayerNorm {
            positions,
            features,
            scale,
            shift,
            ..
        } = self.layer;
        let stretch = positions * features;
        let rows = |examples: std::ops::Range<usize>| {
            let of = examples.start * stretch..examples.end * stretch;
            let normal = self.normal[of.clone()].chunks_exact(features);
            output[of].chunks_exact(features).zip(normal)
        };
        let (weights, examples) = (pass.weights, pass.examples);
        pass.sink.take(weights, scale, examples, |of, place| {
            rows(of).for_each(|(output, normal)| add_products(place, output, normal));
        });
        pass.sink.take(weights, shift, examples, |of, place| {
            rows(of).for_each(|(output, _)| add(place, output));
        });
        let mut back = output;
        rows_back(&mut back, &self.normal, weights.at(scale), &self.deviations);
        vec![Some(back)]
    }
}

vectorised! {
    fn scale_rows<'a>(normal: &'a [f32], weights: [&'a [f32]; 2], output: &'a mut [f32]) {
        let [scale, shift] = weights;
        let rows = normal.chunks_exact(scale.len());
        for (normal, output) in rows.zip(output.chunks_exact_mut(scale.len())) {
            let terms = normal.iter().zip(scale).zip(shift);
            for (output, ((normal, scale), shift)) in output.iter_mut().zip(terms) {
                *output = normal * scale + shift;
            }
        }
    }
}

vectorised! {
    fn add_products<'a>(places: &'a mut [f32], left: &'a [f32], right: &'a [f32]) {
        for (place, (left, right)) in places.iter_mut().zip(left.iter().zip(right)) {
            *place += left * right;
        }
    }
}

vectorised! {
    /// Turns the gradient at the output into that at the input.
    fn rows_back<'a>(
        gradient: &'a mut [f32],
        normal: &'a [f32],
        scale: &'a [f32],
        deviations: &'a [f32],
    ) {
        let features = scale.len();
        let rows = gradient.chunks_exact_mut(features).zip(normal.chunks_exact(features));
        for ((gradient, normal), deviation) in rows.zip(deviations) {
            for (gradient, scale) in gradient.iter_mut().zip(scale) {
                *gradient *= scale;
            }
            let mean = sum(gradient) / features as f32;
            let along = dot(gradient, normal) / features as f32;
            for (gradient, normal) in gradient.iter_mut().zip(normal) {
                *gradient = (*gradient - mean - normal * along) * deviation;
            }
        }
    }
}

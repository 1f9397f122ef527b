//! The way back through a convolution.

use std::rc::Rc;

use super::{
    super::{
        kernels::{Lines, Right, add_product, add_sums},
        pooling::spread,
        tape::{Pass, Step},
    },
    Addition, Convolution, Frame,
    kernel::Kernel,
    starts,
};
use crate::profile::Kind;

pub(super) struct ConvolutionStep {
    pub(super) layer: Convolution,
    pub(super) kernel: Kernel,
    pub(super) frame: Frame,
    pub(super) input: Rc<Vec<f32>>,
    /// Which of four pixels each output is, if halved.
    pub(super) places: Vec<u8>,
}

impl Step for ConvolutionStep {
    fn kind() -> Kind {
        Kind::Convolution
    }

    fn back(self: Box<Self>, output: Vec<f32>, pass: &mut Pass) -> Vec<Option<Vec<f32>>> {
        let Self { layer, kernel, .. } = &*self;
        let (weights, examples) = (pass.weights, pass.examples);
        let (inputs, outputs) = (self.input.len() / examples, output.len() / examples);
        if let Addition::Bias(bias) = layer.addition {
            let plane = outputs / layer.outputs;
            pass.sink.take(weights, bias, examples, |of, bias| {
                add_sums(bias, &output[of.start * outputs..of.end * outputs], plane);
            });
        }
        let wants_input = pass.wants_input();
        let turned = kernel.turned(layer);
        let mut back = vec![0.0; if wants_input { self.input.len() } else { 0 }];
        let mut gradient = vec![0.0; kernel.weight.len()];
        let mut whole = vec![0.0; if layer.is_halved { layer.whole() } else { 0 }];
        let mut lines = vec![0.0; layer.outputs * self.frame.positions()];
        // All that an example needs, while its gradient is in the cache.
        let sink = &mut pass.sink;
        sink.take(weights, layer.weight, examples, |of, raw| {
            let is_turned = self.is_turned(of.len());
            gradient.fill(0.0);
            for example in of {
                self.lay_out(&output, example, &mut whole, &mut lines);
                let image = &self.input[example * inputs..][..inputs];
                self.add_weights(image, &lines, is_turned, &mut gradient);
                if wants_input {
                    let back = &mut back[example * inputs..][..inputs];
                    self.write_inputs(&turned, &lines, back);
                }
            }
            kernel.add_back(layer, &gradient, is_turned, raw);
        });
        vec![wants_input.then_some(back)]
    }
}

impl ConvolutionStep {
    /// Writes the gradient at an example's output as lines.
    fn lay_out(&self, output: &[f32], example: usize, whole: &mut [f32], lines: &mut [f32]) {
        let kept = self.layer.kept();
        let of = example * kept..(example + 1) * kept;
        if self.layer.is_halved {
            let (output, places) = (&output[of.clone()], &self.places[of]);
            spread(output, places, self.layer.size(), whole);
            self.frame.open_gaps(whole, lines);
        } else {
            self.frame.open_gaps(&output[of], lines);
        }
    }

    /// Whether it is less work to form weight gradients as `[fan][outputs]` for each group, not
    /// `[outputs][fan]`. One factor of the product is laid out anew for each example, the one on the
    /// right; what is formed the other way round is turned at the end, once for so many examples.
    fn is_turned(&self, examples: usize) -> bool {
        let (fan, share) = (self.layer.fan(), self.layer.share());
        let positions = self.frame.positions();
        share * positions + fan * share / examples <= fan * positions
    }

    /// Adds an example's gradient of the weights that slid.
    fn add_weights(&self, image: &[f32], lines: &[f32], is_turned: bool, gradient: &mut [f32]) {
        let (fan, share) = (self.layer.fan(), self.layer.share());
        let positions = self.frame.positions();
        let outputs = starts(share, positions);
        let image = self.frame.lay_out(image);
        let groups = self.frame.starts().chunks_exact(fan).enumerate();
        for ((group, seen), gradient) in groups.zip(gradient.chunks_exact_mut(fan * share)) {
            let seen = Lines {
                numbers: &image,
                starts: seen,
            };
            let lines = Lines {
                numbers: &lines[group * share * positions..],
                starts: &outputs,
            };
            if is_turned {
                let right = Right::Columns(lines);
                add_product(
                    seen,
                    right,
                    [positions, share],
                    gradient,
                    &starts(fan, share),
                );
            } else {
                let right = Right::Columns(seen);
                add_product(
                    lines,
                    right,
                    [positions, fan],
                    gradient,
                    &starts(share, fan),
                );
            }
        }
    }

    /// Writes the gradient at an image.
    fn write_inputs(&self, turned: &[f32], lines: &[f32], back: &mut [f32]) {
        let (fan, share) = (self.layer.fan(), self.layer.share());
        let positions = self.frame.positions();
        let (rows, outputs) = (starts(fan, share), starts(share, positions));
        let mut laid_out = self.frame.empty();
        for (group, seen) in self.frame.starts().chunks_exact(fan).enumerate() {
            let left = Lines {
                numbers: &turned[group * fan * share..],
                starts: &rows,
            };
            let right = Right::Rows(Lines {
                numbers: &lines[group * share * positions..],
                starts: &outputs,
            });
            add_product(left, right, [share, positions], &mut laid_out, seen);
        }
        self.frame.take_back(laid_out, back);
    }
}

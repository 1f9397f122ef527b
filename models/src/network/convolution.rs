//! A convolution over images, with a bias or with standardised weights.
//!
//! Forward pass, input gradient and weight gradient are products of the same lines (`frame.rs`), one
//! image after the other. Weight gradients contract over the positions of one image: each example's is
//! formed for itself, and its norm is that of the very numbers that are added up.

mod device;
mod frame;
mod patches;

use std::rc::Rc;

pub(super) use self::frame::Frame;
use super::{
    blueprint::{Blueprint, Initial, Slot},
    kernels::{Lines, Right, add_product, sum, transpose, vectorised},
    tape::{Pass, Placed, Step, Tape, Value},
    weights::Weights,
};

/// Added to the variance of an output channel's weights, so that equal weights divide by no zero.
const EPSILON: f32 = 1e-6;

/// Size of a convolution with a square kernel.
#[derive(Debug, Clone, Copy)]
pub(super) struct Window {
    pub(super) kernel: usize,
    pub(super) stride: usize,
    pub(super) padding: usize,
    /// Pixels from one that a kernel sees to the next; 1 for neighbours.
    pub(super) dilation: usize,
}

impl Window {
    /// A kernel that sees neighbouring pixels.
    pub(super) fn new(kernel: usize, stride: usize, padding: usize) -> Self {
        Self {
            kernel,
            stride,
            padding,
            dilation: 1,
        }
    }

    /// Rows or columns of the output for so many of the input, which is at least the kernel's.
    pub(super) fn over(self, length: usize) -> usize {
        let reach = (self.kernel - 1) * self.dilation + 1;
        (length + 2 * self.padding - reach) / self.stride + 1
    }
}

/// Slides a kernel over an image.
#[derive(Debug, Clone, Copy)]
pub(super) struct Convolution {
    window: Window,
    input: [usize; 3],
    outputs: usize,
    groups: usize,
    weight: Slot,
    addition: Addition,
}

/// What a convolution has beside its weights.
#[derive(Debug, Clone, Copy)]
enum Addition {
    /// A bias for each output channel.
    Bias(Slot),
    /// Weights of each output channel are brought to mean 0 and variance 1 (Qiao et al. 2019); a
    /// norm layer follows and has the bias.
    Standardised,
}

impl Convolution {
    /// A convolution with a bias, and the shape `[channels, height, width]` of its output.
    pub(super) fn with_bias(
        on: &mut Blueprint,
        name: &str,
        input: [usize; 3],
        outputs: usize,
        window: Window,
    ) -> (Self, [usize; 3]) {
        Self::grouped(on, name, input, outputs, window, 1)
    }

    /// As [`with_bias`](Self::with_bias), in `groups`: each of them computes its share of the outputs from
    /// its share of the inputs. Divides both numbers of channels.
    pub(super) fn grouped(
        on: &mut Blueprint,
        name: &str,
        input: [usize; 3],
        outputs: usize,
        window: Window,
        groups: usize,
    ) -> (Self, [usize; 3]) {
        let weight = weight_tensor(on, name, input[0] / groups, outputs, window);
        let bias = on.tensor(format!("{name}.bias"), &[outputs], Initial::Zeros);
        let conv = Self {
            window,
            input,
            outputs,
            groups,
            weight,
            addition: Addition::Bias(bias),
        };
        (conv, conv.planned(on))
    }

    /// A convolution with standardised weights, and the shape of its output.
    pub(super) fn standardised(
        on: &mut Blueprint,
        name: &str,
        input: [usize; 3],
        outputs: usize,
        window: Window,
    ) -> (Self, [usize; 3]) {
        let conv = Self {
            window,
            input,
            outputs,
            groups: 1,
            weight: weight_tensor(on, name, input[0], outputs, window),
            addition: Addition::Standardised,
        };
        (conv, conv.planned(on))
    }

    /// Notes the memory that it takes, and gives the shape of its output.
    fn planned(&self, on: &mut Blueprint) -> [usize; 3] {
        let [_, height, width] = self.input;
        let output = [
            self.outputs,
            self.window.over(height),
            self.window.over(width),
        ];
        on.holds(2 * output.iter().product::<usize>() + self.outputs * self.fan());
        output
    }

    /// # Shapes
    /// - `input`: `[examples][inputs][height][width]`
    /// - output: `[examples][outputs][height'][width']`
    pub(super) fn forward(&self, input: Value, tape: &mut Tape) -> Value {
        let [input] = match tape.place([input]) {
            Placed::Rows(rows) => rows,
            Placed::Tensors([input], on) => return self.forward_on(on, input, tape),
        };
        let kernel = Kernel::of(self, tape.weights);
        let frame = Frame::new(self.input, self.window);
        let bias = match self.addition {
            Addition::Bias(slot) => Some(tape.weights.at(slot)),
            Addition::Standardised => None,
        };
        let size: usize = self.input.iter().product();
        let positions = frame.positions();
        let [_, height, width] = self.input;
        let plane = self.window.over(height) * self.window.over(width);
        let mut output = vec![0.0; tape.examples * self.outputs * plane];
        let mut lines = vec![
            0.0;
            if frame.has_gaps() {
                self.outputs * positions
            } else {
                0
            }
        ];
        let images = input.rows().chunks_exact(size);
        for (image, output) in images.zip(output.chunks_exact_mut(self.outputs * plane)) {
            let image = frame.lay_out(image);
            let has_gaps = frame.has_gaps();
            let place = if has_gaps {
                &mut lines[..]
            } else {
                &mut output[..]
            };
            for (at, line) in place.chunks_exact_mut(positions).enumerate() {
                line.fill(bias.map_or(0.0, |bias| bias[at]));
            }
            self.multiply(&kernel.weight, &frame, &image, place);
            if has_gaps {
                frame.close_gaps(&lines, output);
            }
        }
        let layer = *self;
        tape.layer(output, &[&input], |_| ConvolutionStep {
            layer,
            kernel,
            frame,
            input: input.kept(),
        })
    }

    /// Weights of one output channel.
    fn fan(&self) -> usize {
        self.input[0] / self.groups * self.window.kernel * self.window.kernel
    }

    /// Outputs of one group.
    fn share(&self) -> usize {
        self.outputs / self.groups
    }

    /// Adds what the kernel sees of a laid-out image to lines of the output.
    fn multiply(&self, weight: &[f32], frame: &Frame, image: &[f32], lines: &mut [f32]) {
        let (fan, share, positions) = (self.fan(), self.share(), frame.positions());
        let rows = starts(share, fan);
        let outputs = starts(share, positions);
        for (group, seen) in frame.starts().chunks_exact(fan).enumerate() {
            let left = Lines {
                numbers: &weight[group * share * fan..],
                starts: &rows,
            };
            let right = Right::Rows(Lines {
                numbers: image,
                starts: seen,
            });
            let lines = &mut lines[group * share * positions..];
            add_product(left, right, [fan, positions], lines, &outputs);
        }
    }
}

/// Starts of lines that stand one after the other.
fn starts(lines: usize, length: usize) -> Vec<usize> {
    (0..lines).map(|line| line * length).collect()
}

fn weight_tensor(
    on: &mut Blueprint,
    name: &str,
    inputs: usize,
    outputs: usize,
    window: Window,
) -> Slot {
    let shape = [outputs, inputs, window.kernel, window.kernel];
    let fan = inputs * window.kernel * window.kernel;
    on.tensor(format!("{name}.weight"), &shape, Initial::he(fan))
}

/// The weights that slide over the image.
struct Kernel {
    /// `[outputs][fan]`; mean 0 and variance 1 in each row if standardised.
    weight: Vec<f32>,
    /// One over the deviation of each row of raw weights, if standardised.
    scale: Option<Vec<f32>>,
}

impl Kernel {
    fn of(layer: &Convolution, weights: &Weights) -> Self {
        let mut weight = weights.at(layer.weight).to_vec();
        let scale = match layer.addition {
            Addition::Bias(_) => None,
            Addition::Standardised => Some(vectorised(|| {
                weight
                    .chunks_exact_mut(layer.fan())
                    .map(standardise)
                    .collect()
            })),
        };
        Self { weight, scale }
    }

    /// Adds a gradient with respect to the weights that slid over the image, `[fan][outputs]` for each
    /// group, to that of the raw ones, `[outputs][fan]`: a linear map, so it may be that of one example or
    /// of a sum.
    fn add_back(&self, layer: &Convolution, gradient: &[f32], raw: &mut [f32]) {
        let (fan, share) = (layer.fan(), layer.share());
        let mut turned = vec![0.0; gradient.len()];
        let groups = gradient.chunks_exact(fan * share);
        for (gradient, turned) in groups.zip(turned.chunks_exact_mut(fan * share)) {
            transpose(gradient, share, turned);
        }
        let Some(scale) = &self.scale else {
            return super::kernels::add(raw, &turned);
        };
        vectorised(|| {
            let rows = self.weight.chunks_exact(fan).zip(scale);
            let places = raw.chunks_exact_mut(fan).zip(turned.chunks_exact(fan));
            for ((weight, scale), (raw, gradient)) in rows.zip(places) {
                let along = super::kernels::dot(gradient, weight) / fan as f32;
                let mean = sum(gradient) / fan as f32;
                for ((raw, gradient), weight) in raw.iter_mut().zip(gradient).zip(weight) {
                    *raw += (gradient - mean - weight * along) * scale;
                }
            }
        });
    }
}

/// Brings a row to mean 0 and variance 1 and gives what it was multiplied by.
#[inline(always)]
fn standardise(row: &mut [f32]) -> f32 {
    let count = row.len() as f32;
    let mean = sum(row) / count;
    row.iter_mut().for_each(|value| *value -= mean);
    let scale = 1.0 / (super::kernels::dot(row, row) / count + EPSILON).sqrt();
    row.iter_mut().for_each(|value| *value *= scale);
    scale
}

struct ConvolutionStep {
    layer: Convolution,
    kernel: Kernel,
    frame: Frame,
    input: Rc<Vec<f32>>,
}

impl Step for ConvolutionStep {
    fn back(self: Box<Self>, output: Vec<f32>, pass: &mut Pass) -> Vec<Option<Vec<f32>>> {
        let Self {
            layer,
            kernel,
            frame,
            input,
        } = &*self;
        let (inputs, outputs) = (input.len() / pass.examples, output.len() / pass.examples);
        let image = |example: usize| frame.lay_out(&input[example * inputs..][..inputs]);
        let lines = |example: usize| frame.open_gaps(&output[example * outputs..][..outputs]);
        if let Addition::Bias(bias) = layer.addition {
            let plane = outputs / layer.outputs;
            pass.sink
                .take(pass.weights, bias, pass.examples, |examples, bias| {
                    let planes =
                        output[examples.start * outputs..examples.end * outputs].chunks(plane);
                    vectorised(|| {
                        for (at, plane) in planes.enumerate() {
                            bias[at % layer.outputs] += sum(plane);
                        }
                    });
                });
        }
        let mut gradient = vec![0.0; layer.outputs * layer.fan()];
        pass.sink.take(
            pass.weights,
            layer.weight,
            pass.examples,
            |examples, raw| {
                gradient.fill(0.0);
                for example in examples {
                    self.add_weights(&image(example), &lines(example), &mut gradient);
                }
                kernel.add_back(layer, &gradient, raw);
            },
        );
        let wanted = pass.wants_input().then(|| {
            let turned = self.turned();
            let mut back = vec![0.0; input.len()];
            for (example, back) in back.chunks_exact_mut(inputs).enumerate() {
                self.add_inputs(&turned, &lines(example), back);
            }
            back
        });
        vec![wanted]
    }
}

impl ConvolutionStep {
    /// Adds an example's gradient of the weights that slid, `[fan][outputs]` for each group.
    fn add_weights(&self, image: &[f32], lines: &[f32], gradient: &mut [f32]) {
        let (fan, share) = (self.layer.fan(), self.layer.share());
        let positions = self.frame.positions();
        let (rows, outputs) = (starts(fan, share), starts(share, positions));
        let groups = self.frame.starts().chunks_exact(fan);
        for ((group, seen), gradient) in groups
            .enumerate()
            .zip(gradient.chunks_exact_mut(fan * share))
        {
            let left = Lines {
                numbers: image,
                starts: seen,
            };
            let right = Right::Columns(Lines {
                numbers: &lines[group * share * positions..],
                starts: &outputs,
            });
            add_product(left, right, [positions, share], gradient, &rows);
        }
    }

    /// The weights, `[fan][outputs]` for each group.
    fn turned(&self) -> Vec<f32> {
        let (fan, share) = (self.layer.fan(), self.layer.share());
        let mut turned = vec![0.0; self.kernel.weight.len()];
        let groups = self.kernel.weight.chunks_exact(share * fan);
        for (weight, turned) in groups.zip(turned.chunks_exact_mut(fan * share)) {
            transpose(weight, fan, turned);
        }
        turned
    }

    /// The gradient at an image.
    fn add_inputs(&self, turned: &[f32], lines: &[f32], back: &mut [f32]) {
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

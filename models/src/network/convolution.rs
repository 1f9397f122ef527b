//! A convolution over images, with a bias or with standardised weights.
//!
//! Forward pass, input gradient and weight gradient are products of the same lines (`frame.rs`), one
//! image after the other. Weight gradients contract over the positions of one image: each example's is
//! formed for itself, and its norm is that of the very numbers that are added up.

mod device;
mod frame;
mod kernel;
mod patches;
mod step;

pub(super) use self::frame::Frame;
use self::{kernel::Kernel, step::ConvolutionStep};
use super::{
    blueprint::{Blueprint, Initial, Slot},
    kernels::{Lines, Right, add_product},
    onnx::{Attribute, Edge},
    pooling::halve,
    tape::{Placed, Tape, Value},
    weights::Weights,
};

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
    /// Whether only the largest of every 2 × 2 pixels goes on.
    is_halved: bool,
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

    /// As [`with_bias`](Self::with_bias), then the largest of every 2 × 2 pixels; an odd last row or column
    /// is left out. The whole output is never kept. A ReLU after it does what it would before, on a
    /// quarter of the values.
    pub(super) fn halved(
        on: &mut Blueprint,
        name: &str,
        input: [usize; 3],
        outputs: usize,
        window: Window,
    ) -> (Self, [usize; 3]) {
        let (conv, [_, height, width]) = Self::with_bias(on, name, input, outputs, window);
        let conv = Self {
            is_halved: true,
            ..conv
        };
        (conv, [outputs, height / 2, width / 2])
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
            is_halved: false,
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
            is_halved: false,
        };
        (conv, conv.planned(on))
    }

    /// Notes the memory that it takes, and gives the shape of its output.
    fn planned(&self, on: &mut Blueprint) -> [usize; 3] {
        let [height, width] = self.size();
        on.holds(2 * self.whole());
        on.forms(self.outputs * self.fan());
        [self.outputs, height, width]
    }

    /// # Shapes
    /// - `input`: `[examples][inputs][height][width]`
    /// - output: `[examples][outputs][height'][width']`
    pub(super) fn forward(&self, input: Value, tape: &mut Tape) -> Value {
        let [input] = match tape.place([input]) {
            Placed::Rows(rows) => rows,
            Placed::Tensors([input], on) => return self.forward_on(on, input, tape),
            Placed::Edges([input]) => return Value::Edge(self.draw(&input, tape.weights)),
        };
        let kernel = Kernel::of(self, tape.weights);
        let frame = Frame::new(self.input, self.window);
        let bias = match self.addition {
            Addition::Bias(slot) => Some(tape.weights.at(slot)),
            Addition::Standardised => None,
        };
        let (inputs, outputs) = (self.input.iter().product(), self.kept());
        let mut output = vec![0.0; tape.examples * outputs];
        let mut places = vec![0; if self.is_halved { output.len() } else { 0 }];
        let mut whole = vec![0.0; if self.is_halved { self.whole() } else { 0 }];
        let mut lines = vec![0.0; self.outputs * frame.positions()];
        for (at, image) in input.rows().chunks_exact(inputs).enumerate() {
            let image = frame.lay_out(image);
            for (at, line) in lines.chunks_exact_mut(frame.positions()).enumerate() {
                line.fill(bias.map_or(0.0, |bias| bias[at]));
            }
            self.multiply(&kernel.weight, &frame, &image, &mut lines);
            let of = at * outputs..(at + 1) * outputs;
            if self.is_halved {
                frame.close_gaps(&lines, &mut whole);
                let (output, places) = (&mut output[of.clone()], &mut places[of]);
                halve(&whole, self.size(), output, places);
            } else {
                frame.close_gaps(&lines, &mut output[of]);
            }
        }
        let layer = *self;
        tape.layer(output, &[&input], |_| ConvolutionStep {
            layer,
            kernel,
            frame,
            input: input.kept(),
            places,
        })
    }

    /// With plain weights, which need not be standardised any more.
    fn draw(&self, input: &Edge, weights: &Weights) -> Edge {
        let Window {
            kernel,
            stride,
            padding,
            dilation,
        } = self.window;
        let image = input.shaped(&self.input);
        let shape = [self.outputs, self.input[0] / self.groups, kernel, kernel];
        let weight = image.constant(&Kernel::of(self, weights).weight, &shape);
        let bias = match self.addition {
            Addition::Bias(slot) => weights.at(slot).to_vec(),
            Addition::Standardised => vec![0.0; self.outputs],
        };
        let bias = image.constant(&bias, &[self.outputs]);
        let attributes = [
            Attribute::integers("kernel_shape", [kernel; 2]),
            Attribute::integers("strides", [stride; 2]),
            Attribute::integers("pads", [padding; 4]),
            Attribute::integers("dilations", [dilation; 2]),
            Attribute::integer("group", self.groups as i64),
        ];
        let [height, width] = self.size();
        let shape = [self.outputs, height, width];
        let output = image.then("Conv", [weight, bias], attributes, &shape);
        if !self.is_halved {
            return output;
        }
        let two = ["kernel_shape", "strides"].map(|name| Attribute::integers(name, [2; 2]));
        output.then("MaxPool", [], two, &[self.outputs, height / 2, width / 2])
    }

    /// Rows and columns that the windows cover.
    fn size(&self) -> [usize; 2] {
        let [_, height, width] = self.input;
        [self.window.over(height), self.window.over(width)]
    }

    /// Numbers of an example's output, before it is halved.
    fn whole(&self) -> usize {
        let [height, width] = self.size();
        self.outputs * height * width
    }

    /// Numbers of an example's output.
    fn kept(&self) -> usize {
        let [height, width] = self.size();
        match self.is_halved {
            true => self.outputs * (height / 2) * (width / 2),
            false => self.whole(),
        }
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

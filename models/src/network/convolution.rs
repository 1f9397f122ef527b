//! A convolution over images, with a bias or with standardised weights.
//!
//! Weight gradients come from patches of the input and one batched matrix product, which contracts
//! over the positions of one example only. (burn's own weight gradient of a convolution takes
//! several times as long, and sums over examples.)

use burn::tensor::{Gradients, Tensor, TensorData, module::conv2d, ops::ConvOptions};

use super::{
    blueprint::{Blueprint, Initial, Slot},
    patches::patches,
    per_example::Part,
    tape::{Tap, Tape, Trace},
    weights::{Weights, to_host},
};

/// Added to the variance of an output channel's weights, so that equal weights divide by no zero.
const EPSILON: f64 = 1e-6;

/// Size of a convolution with a square kernel.
#[derive(Debug, Clone, Copy)]
pub(super) struct Window {
    pub(super) kernel: usize,
    pub(super) stride: usize,
    pub(super) padding: usize,
}

impl Window {
    /// Rows or columns of the output for so many of the input, which is at least the kernel's.
    pub(super) fn over(self, length: usize) -> usize {
        (length + 2 * self.padding - self.kernel) / self.stride + 1
    }
}

/// Slides a kernel over an image.
#[derive(Debug, Clone, Copy)]
pub(super) struct Convolution {
    window: Window,
    inputs: usize,
    outputs: usize,
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
        let weight = weight_tensor(on, name, input[0], outputs, window);
        let bias = on.tensor(format!("{name}.bias"), &[outputs], Initial::Zeros);
        Self::new(on, weight, Addition::Bias(bias), input, outputs, window)
    }

    /// A convolution with standardised weights, and the shape of its output.
    pub(super) fn standardised(
        on: &mut Blueprint,
        name: &str,
        input: [usize; 3],
        outputs: usize,
        window: Window,
    ) -> (Self, [usize; 3]) {
        let weight = weight_tensor(on, name, input[0], outputs, window);
        Self::new(on, weight, Addition::Standardised, input, outputs, window)
    }

    fn new(
        on: &mut Blueprint,
        weight: Slot,
        addition: Addition,
        input: [usize; 3],
        outputs: usize,
        window: Window,
    ) -> (Self, [usize; 3]) {
        let [inputs, height, width] = input;
        let output = [outputs, window.over(height), window.over(width)];
        let positions = output[1] * output[2];
        let fan = inputs * window.kernel * window.kernel;
        on.holds(2 * outputs * positions + fan * positions + outputs * fan);
        (
            Self {
                window,
                inputs,
                outputs,
                weight,
                addition,
            },
            output,
        )
    }

    /// # Shapes
    /// - `input`: `[examples, inputs, height, width]`
    /// - output: `[examples, outputs, height', width']`
    pub(super) fn forward(
        &self,
        weights: &Weights,
        input: Tensor<4>,
        tape: &mut Tape,
    ) -> Tensor<4> {
        let Window {
            kernel,
            stride,
            padding,
        } = self.window;
        let raw = weights.at(self.weight, [self.outputs, self.fan()]);
        let (weight, bias, standard) = match self.addition {
            Addition::Bias(slot) => (raw, Some(weights.at(slot, [self.outputs])), None),
            Addition::Standardised => {
                let standard = Standard::of(raw);
                (standard.weight.clone(), None, Some(standard))
            }
        };
        let weight = weight.reshape([self.outputs, self.inputs, kernel, kernel]);
        let options = ConvOptions::new([stride; 2], [padding; 2], [1; 2], 1);
        let output = conv2d(input.clone(), weight, bias, options);
        let layer = *self;
        tape.record(output, |tap| ConvolutionTrace {
            layer,
            standard,
            input: input.inner(),
            tap,
        })
    }

    /// Weights of one output channel.
    fn fan(&self) -> usize {
        self.inputs * self.window.kernel * self.window.kernel
    }

    /// What each position of the output saw of the input.
    ///
    /// # Shapes
    /// - `input`: `[examples, inputs, height, width]`
    /// - output: `[examples, fan, positions]`, the fan in the order of the weights
    fn patches(&self, input: Tensor<4>) -> Tensor<3> {
        let (device, [examples, inputs, height, width]) = (input.device(), input.dims());
        let patches = patches(&to_host(input), [inputs, height, width], self.window);
        let positions = self.window.over(height) * self.window.over(width);
        let data = TensorData::new(patches, [examples, self.fan(), positions]);
        Tensor::from_data(data, &device)
    }
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

/// Standardised weights and what their gradient needs.
struct Standard {
    /// `[outputs, fan]`, mean 0 and variance 1 in each row.
    weight: Tensor<2>,
    /// `[outputs, 1]`, one over the deviation of the raw weights.
    scale: Tensor<2>,
}

impl Standard {
    fn of(raw: Tensor<2>) -> Self {
        let centred = raw.clone() - raw.mean_dim(1);
        let variance = centred.clone().square().mean_dim(1);
        let scale = (variance + EPSILON).sqrt().recip();
        Self {
            weight: centred * scale.clone(),
            scale,
        }
    }

    /// Takes a gradient with respect to the standardised weights back to the raw ones: a linear
    /// map, so it is applied to each example's gradient, or to their sum.
    ///
    /// # Shapes
    /// - `gradient` and output: `[examples, outputs, fan]`
    fn back(&self, gradient: Tensor<3>) -> Tensor<3> {
        let weight = self.weight.clone().unsqueeze::<3>();
        let along = (gradient.clone() * weight.clone()).mean_dim(2);
        let mean = gradient.clone().mean_dim(2);
        (gradient - mean - weight * along) * self.scale.clone().unsqueeze::<3>()
    }
}

struct ConvolutionTrace {
    layer: Convolution,
    standard: Option<Standard>,
    input: Tensor<4>,
    tap: Tap<4>,
}

impl ConvolutionTrace {
    /// The gradient at the output, `[examples, outputs, positions]`.
    fn output_gradient(&self, gradients: &mut Gradients) -> Tensor<3> {
        self.tap.gradient(gradients).flatten(2, 3)
    }

    /// The gradient of each example with respect to the weights that slid over its image. The
    /// larger factor stands on the left, which flex multiplies faster by a factor of 3.
    ///
    /// # Shapes
    /// - `output`: `[examples, outputs, positions]`
    /// - output: `[examples, outputs, fan]`
    fn products(&self, output: Tensor<3>) -> Tensor<3> {
        let patches = self.layer.patches(self.input.clone());
        patches.matmul(output.swap_dims(1, 2)).swap_dims(1, 2)
    }

    /// The gradient of the weights, from that of the weights that slid over the image.
    fn raw(&self, gradient: Tensor<3>) -> Tensor<3> {
        match &self.standard {
            Some(standard) => standard.back(gradient),
            None => gradient,
        }
    }
}

impl Trace for ConvolutionTrace {
    fn apart(&self, gradients: &mut Gradients) -> Vec<(Slot, Part)> {
        let output = self.output_gradient(gradients);
        let weight = self.raw(self.products(output.clone()));
        let mut parts = vec![(self.layer.weight, Part::Rows(to_host(weight)))];
        if let Addition::Bias(bias) = self.layer.addition {
            parts.push((bias, Part::Rows(to_host(output.sum_dim(2)))));
        }
        parts
    }

    fn summed(&self, gradients: &mut Gradients) -> Vec<(Slot, Vec<f32>)> {
        let output = self.output_gradient(gradients);
        let weight = self.raw(self.products(output.clone()).sum_dim(0));
        let mut parts = vec![(self.layer.weight, to_host(weight))];
        if let Addition::Bias(bias) = self.layer.addition {
            parts.push((bias, to_host(output.sum_dim(2).sum_dim(0))));
        }
        parts
    }
}

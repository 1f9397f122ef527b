//! The convolution on a device.
//!
//! Weight gradients come from patches of the input and a product for each example, which contracts
//! over the positions of that example alone.

use burn::tensor::{
    Slice, Tensor,
    module::{conv2d, max_pool2d},
    ops::{ConvOptions, MaxPoolOptions, PadMode},
};

use super::super::{
    device::OnDevice,
    tape::{Tape, Value},
    taps::Gradient,
};
use super::{Addition, Convolution, Window, kernel::EPSILON};

impl Convolution {
    pub(super) fn forward_on(&self, on: &OnDevice, input: Tensor<2>, tape: &mut Tape) -> Value {
        let Window {
            kernel,
            stride,
            padding,
            dilation,
        } = self.window;
        let [channels, height, width] = self.input;
        let kept = input.clone().inner();
        let raw = on.weight(self.weight, [self.outputs, self.fan()]);
        let (weight, bias, standard) = match self.addition {
            Addition::Bias(slot) => (raw, Some(on.weight(slot, [self.outputs])), None),
            Addition::Standardised => {
                let standard = Standard::of(raw);
                (standard.weight.clone(), None, Some(standard))
            }
        };
        let weight = weight.reshape([self.outputs, channels / self.groups, kernel, kernel]);
        let options = ConvOptions::new([stride; 2], [padding; 2], [dilation; 2], self.groups);
        let image = input.reshape([tape.examples, channels, height, width]);
        let output = conv2d(image, weight, bias, options).flatten(1, 3);
        let layer = *self;
        let output = tape.tap(output, move |gradient| {
            let [examples, numbers] = gradient.dims();
            let positions = numbers / layer.outputs;
            let gradient = gradient.reshape([examples, layer.outputs, positions]);
            let weight = layer.products(gradient.clone(), kept);
            let weight = match standard {
                Some(standard) => standard.back(weight),
                None => weight,
            };
            let mut gradients = vec![(layer.weight, Gradient::Rows(weight.flatten(1, 2)))];
            if let Addition::Bias(bias) = layer.addition {
                let sums = gradient.sum_dim(2).squeeze_dim(2);
                gradients.push((bias, Gradient::Rows(sums)));
            }
            gradients
        });
        match (self.is_halved, output) {
            (true, Value::Tensor(output)) => {
                let [rows, columns] = self.size();
                let planes = output.reshape([tape.examples, self.outputs, rows, columns]);
                let largest = max_pool2d(planes, MaxPoolOptions::new([2, 2]));
                Value::Tensor(largest.flatten(1, 3))
            }
            (_, output) => output,
        }
    }

    /// The gradient of each example with respect to the weights that slid over its image.
    ///
    /// # Shapes
    /// - `gradient`: `[examples, outputs, positions]`
    /// - `input`: `[examples, inputs · height · width]`
    /// - output: `[examples, outputs, fan]`
    fn products(&self, gradient: Tensor<3>, input: Tensor<2>) -> Tensor<3> {
        let [examples, outputs, positions] = gradient.dims();
        let share = self.share();
        let gradient = gradient.reshape([examples, self.groups, share, positions]);
        let patches = self.patches(input);
        let patches = patches.reshape([examples, self.groups, self.fan(), positions]);
        let products = gradient.matmul(patches.swap_dims(2, 3));
        products.reshape([examples, outputs, self.fan()])
    }

    /// What each position of the output saw of the input: `[examples, channels, kernel rows · kernel
    /// columns, rows, columns]`.
    fn patches(&self, input: Tensor<2>) -> Tensor<5> {
        let Window {
            kernel,
            stride,
            padding,
            dilation,
        } = self.window;
        let [channels, height, width] = self.input;
        let [examples, _] = input.dims();
        let mut image = input.reshape([examples, channels, height, width]);
        if padding > 0 {
            image = image.pad([(padding, padding); 2], PadMode::Constant(0.0));
        }
        let seen = |first: usize, length: usize| {
            let last = first + (self.window.over(length) - 1) * stride;
            Slice::with_step(first as isize, Some(last as isize + 1), stride as isize)
        };
        let all = Slice::with_step(0, None, 1);
        let views = (0..kernel * kernel).map(|at| {
            let down = seen(at / kernel * dilation, height);
            let right = seen(at % kernel * dilation, width);
            image.clone().slice([all, all, down, right])
        });
        Tensor::stack(views.collect(), 2)
    }
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

    /// Takes a gradient with respect to the standardised weights back to the raw ones, a linear map.
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

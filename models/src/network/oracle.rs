//! Every network again, in f64 and plain loops, one example at a time, for the tests.

/// An image of `[channels][height][width]` numbers.
#[derive(Clone)]
pub(super) struct Image {
    shape: [usize; 3],
    values: Vec<f64>,
}

/// Hands out the tensors of a flat vector in order.
pub(super) struct Reader<'a>(&'a [f64]);

impl<'a> Reader<'a> {
    pub(super) fn new(weights: &'a [f64]) -> Self {
        Self(weights)
    }

    fn take(&mut self, count: usize) -> &'a [f64] {
        let (taken, rest) = self.0.split_at(count);
        self.0 = rest;
        taken
    }

    fn dense(&mut self, input: &[f64], outputs: usize) -> Vec<f64> {
        let weight = self.take(outputs * input.len());
        let bias = self.take(outputs);
        let row = |row: &[f64]| row.iter().zip(input).map(|(w, x)| w * x).sum::<f64>();
        weight
            .chunks(input.len())
            .zip(bias)
            .map(|(weights, bias)| row(weights) + bias)
            .collect()
    }

    fn convolution(
        &mut self,
        input: &Image,
        outputs: usize,
        size: [usize; 3],
        bias: bool,
    ) -> Image {
        let [kernel, stride, padding] = size;
        let [channels, height, width] = input.shape;
        let fan = channels * kernel * kernel;
        let mut weight = self.take(outputs * fan).to_vec();
        if !bias {
            weight
                .chunks_mut(fan)
                .for_each(|row| standardise(row, 1e-6));
        }
        let bias = if bias {
            self.take(outputs).to_vec()
        } else {
            vec![0.0; outputs]
        };
        let over = |length: usize| (length + 2 * padding - kernel) / stride + 1;
        let shape = [outputs, over(height), over(width)];
        let mut values = Vec::new();
        for output in 0..outputs {
            for position in 0..shape[1] * shape[2] {
                let (row, column) = (position / shape[2] * stride, position % shape[2] * stride);
                let terms = (0..fan).map(|at| {
                    let (channel, at_kernel) = (at / (kernel * kernel), at % (kernel * kernel));
                    let y = (row + at_kernel / kernel).wrapping_sub(padding);
                    let x = (column + at_kernel % kernel).wrapping_sub(padding);
                    let inside = y < height && x < width;
                    let seen = (channel * height + y.min(height)) * width + x.min(width);
                    if inside {
                        weight[output * fan + at] * input.values[seen]
                    } else {
                        0.0
                    }
                });
                values.push(terms.sum::<f64>() + bias[output]);
            }
        }
        Image { shape, values }
    }

    fn group_norm(&mut self, mut image: Image) -> Image {
        let channels = image.shape[0];
        let groups = (channels / 4).clamp(1, 8);
        let group = image.values.len() / groups;
        image
            .values
            .chunks_mut(group)
            .for_each(|values| standardise(values, 1e-5));
        let (scale, shift) = (self.take(channels), self.take(channels));
        let plane = image.values.len() / channels;
        for (channel, values) in image.values.chunks_mut(plane).enumerate() {
            values
                .iter_mut()
                .for_each(|value| *value = *value * scale[channel] + shift[channel]);
        }
        image
    }

    fn normed(&mut self, image: &Image, channels: usize, size: [usize; 3]) -> Image {
        let image = self.convolution(image, channels, size, false);
        self.group_norm(image)
    }

    pub(super) fn perceptron(
        &mut self,
        input: &[f64],
        hidden: &[usize],
        outputs: usize,
    ) -> Vec<f64> {
        let features = hidden
            .iter()
            .fold(input.to_vec(), |x, &width| relu(self.dense(&x, width)));
        self.dense(&features, outputs)
    }

    pub(super) fn cnn_small(&mut self, image: &Image, outputs: usize) -> Vec<f64> {
        let x = halve(&relu_image(self.convolution(image, 5, [3, 1, 0], true)));
        let x = relu(self.dense(&x.values, 10));
        self.dense(&x, outputs)
    }

    pub(super) fn cnn(&mut self, image: &Image, outputs: usize) -> Vec<f64> {
        let x = halve(&relu_image(self.convolution(image, 32, [3, 1, 0], true)));
        let x = halve(&relu_image(self.convolution(&x, 64, [3, 1, 0], true)));
        let x = relu(self.dense(&x.values, 128));
        self.dense(&x, outputs)
    }

    pub(super) fn resnet_gn(
        &mut self,
        image: &Image,
        sizes: [usize; 2],
        outputs: usize,
    ) -> Vec<f64> {
        let [width, depth] = sizes;
        let stride = if image.shape[1].min(image.shape[2]) >= 48 {
            2
        } else {
            1
        };
        let mut x = relu_image(self.normed(image, width, [3, stride, 1]));
        for stage in 0..depth {
            let (channels, stride) = (width << stage, if stage == 0 { 1 } else { 2 });
            let y = relu_image(self.normed(&x, channels, [3, stride, 1]));
            let mut y = self.normed(&y, channels, [3, 1, 1]);
            if y.shape != x.shape {
                x = self.normed(&x, channels, [1, stride, 0]);
            }
            y.values
                .iter_mut()
                .zip(&x.values)
                .for_each(|(y, x)| *y += x);
            x = relu_image(y);
        }
        let plane = x.shape[1] * x.shape[2];
        let means: Vec<f64> = x
            .values
            .chunks(plane)
            .map(|values| values.iter().sum::<f64>() / plane as f64)
            .collect();
        self.dense(&means, outputs)
    }
}

impl Image {
    pub(super) fn new(shape: [usize; 3], values: Vec<f64>) -> Self {
        Self { shape, values }
    }
}

fn standardise(values: &mut [f64], epsilon: f64) {
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    let variance = values
        .iter()
        .map(|value| (value - mean).powi(2))
        .sum::<f64>()
        / count;
    values
        .iter_mut()
        .for_each(|value| *value = (*value - mean) / (variance + epsilon).sqrt());
}

fn relu(mut values: Vec<f64>) -> Vec<f64> {
    values.iter_mut().for_each(|value| *value = value.max(0.0));
    values
}

fn relu_image(image: Image) -> Image {
    Image {
        values: relu(image.values),
        ..image
    }
}

fn halve(image: &Image) -> Image {
    let [channels, height, width] = image.shape;
    let shape = [channels, height / 2, width / 2];
    let mut values = Vec::new();
    for position in 0..shape.iter().product() {
        let (channel, rest) = (
            position / (shape[1] * shape[2]),
            position % (shape[1] * shape[2]),
        );
        let (y, x) = (rest / shape[2] * 2, rest % shape[2] * 2);
        let at = |y: usize, x: usize| image.values[(channel * height + y) * width + x];
        values.push(
            at(y, x)
                .max(at(y, x + 1))
                .max(at(y + 1, x))
                .max(at(y + 1, x + 1)),
        );
    }
    Image { shape, values }
}

pub(super) fn cross_entropy(logits: &[f64], class: usize) -> f64 {
    let largest = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let sum: f64 = logits.iter().map(|logit| (logit - largest).exp()).sum();
    largest + sum.ln() - logits[class]
}

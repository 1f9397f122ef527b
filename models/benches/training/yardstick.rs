//! The same networks on burn's own automatic differentiation: gradients of weights, not of taps.

use burn::tensor::{
    Device, Tensor, TensorData,
    activation::{gelu, log_softmax, relu, softmax},
    module::{conv2d, max_pool2d},
    ops::{ConvOptions, MaxPoolOptions},
};

use consilium_models::benchmark::{Setting, Subject};

/// Images of a microbatch: as fast as any other on the processors tried.
const MICROBATCH: usize = 32;

/// A network and its data.
pub(crate) struct Yardstick<'a> {
    setting: &'a Setting,
    forward: fn(&mut Parameters, Tensor<2>) -> Tensor<2>,
    device: Device,
}

/// Hands out tensors in the order of the layout.
struct Parameters {
    tensors: std::vec::IntoIter<Tensor<1>>,
}

impl<'a> Yardstick<'a> {
    /// The network that a setting has, if it is written out here.
    pub(crate) fn of(network: Subject, setting: &'a Setting) -> Option<Self> {
        let forward = match network {
            Subject::Cnn => cnn,
            Subject::CnnSmall => cnn_small,
            Subject::ResnetGn => resnet_gn,
            Subject::Text => text,
            Subject::ScatterCnn => return None,
        };
        let device = Device::flex().autodiff();
        Some(Self {
            setting,
            forward,
            device,
        })
    }

    /// Forward, backward, and a step of SGD.
    pub(crate) fn step(&self) {
        let (network, inputs) = (self.setting.network(), self.setting.inputs());
        let tensor = |values: Vec<f32>, shape: [usize; 1]| {
            Tensor::<1>::from_data(TensorData::new(values, shape), &self.device)
        };
        let weights = self.setting.weights();
        let leaves: Vec<_> = network
            .layout()
            .ranges()
            .map(|(_, range)| tensor(weights[range.clone()].to_vec(), [range.len()]).require_grad())
            .collect();
        let mut sums: Vec<Option<Tensor<1>>> = vec![None; leaves.len()];
        for images in inputs.chunks(MICROBATCH) {
            let count = images.len();
            let images = TensorData::new(images.concat(), [count, network.inputs()]);
            let mut parameters = Parameters {
                tensors: leaves.clone().into_iter(),
            };
            let images = Tensor::from_data(images, &self.device);
            let outputs = (self.forward)(&mut parameters, images);
            let width = network.outputs();
            let wanted =
                (0..count * width).map(|at| f32::from(u8::from(at % width == at / width % 2)));
            let wanted = TensorData::new(wanted.collect::<Vec<f32>>(), [count, width]);
            let wanted = Tensor::from_data(wanted, &self.device);
            let loss = -(log_softmax(outputs, 1) * wanted).sum();
            let mut gradients = loss.backward();
            for (sum, leaf) in sums.iter_mut().zip(&leaves) {
                let gradient = leaf
                    .grad_remove(&mut gradients)
                    .expect("every weight is used");
                *sum = Some(match sum.take() {
                    Some(sum) => sum + gradient,
                    None => gradient,
                });
            }
        }
        let scale = 0.01 / inputs.len() as f32;
        let moved = leaves.into_iter().zip(sums).map(|(leaf, sum)| {
            let step = sum.expect("at least one microbatch") * scale;
            (leaf.inner() - step).into_data()
        });
        std::hint::black_box(moved.collect::<Vec<_>>());
    }
}

impl Parameters {
    fn next<const D: usize>(&mut self, shape: [usize; D]) -> Tensor<D> {
        let tensor = self.tensors.next().expect("as many as the layout has");
        tensor.reshape(shape)
    }

    fn conv(&mut self, x: Tensor<4>, outputs: usize, window: [usize; 3], bias: bool) -> Tensor<4> {
        let [kernel, stride, padding] = window;
        let inputs = x.dims()[1];
        let weight: Tensor<4> = self.next([outputs, inputs, kernel, kernel]);
        let options = ConvOptions::new([stride; 2], [padding; 2], [1; 2], 1);
        if bias {
            let bias = self.next([outputs]);
            return conv2d(x, weight, Some(bias), options);
        }
        let raw: Tensor<2> = weight.flatten(1, 3);
        let centred = raw.clone() - raw.mean_dim(1);
        let variance = centred.clone().square().mean_dim(1);
        let weight = centred / (variance + 1e-6).sqrt();
        let weight = weight.reshape([outputs, inputs, kernel, kernel]);
        conv2d(x, weight, None, options)
    }

    fn norm(&mut self, x: Tensor<4>) -> Tensor<4> {
        let shape @ [examples, channels, height, width] = x.dims();
        let x = x.reshape([examples, 8, channels / 8 * height * width]);
        let centred = x.clone() - x.mean_dim(2);
        let variance = centred.clone().square().mean_dim(2);
        let normal = (centred / (variance + 1e-5).sqrt()).reshape(shape);
        let scale = self.next([1, channels, 1, 1]);
        let shift = self.next([1, channels, 1, 1]);
        normal * scale + shift
    }

    fn dense(&mut self, x: Tensor<2>, outputs: usize) -> Tensor<2> {
        let inputs = x.dims()[1];
        let weight = self.next([outputs, inputs]);
        let bias = self.next([1, outputs]);
        x.matmul(weight.transpose()) + bias
    }
}

fn halve(x: Tensor<4>) -> Tensor<4> {
    max_pool2d(x, MaxPoolOptions::new([2, 2]))
}

fn cnn_small(on: &mut Parameters, x: Tensor<2>) -> Tensor<2> {
    let examples = x.dims()[0];
    let x = x.reshape([examples, 1, 28, 28]);
    let x = halve(relu(on.conv(x, 5, [3, 1, 0], true)));
    let x = relu(on.dense(x.flatten(1, 3), 10));
    on.dense(x, 2)
}

fn cnn(on: &mut Parameters, x: Tensor<2>) -> Tensor<2> {
    let examples = x.dims()[0];
    let x = x.reshape([examples, 3, 128, 128]);
    let x = halve(relu(on.conv(x, 32, [3, 1, 0], true)));
    let x = halve(relu(on.conv(x, 64, [3, 1, 0], true)));
    let x = relu(on.dense(x.flatten(1, 3), 128));
    on.dense(x, 2)
}

fn resnet_gn(on: &mut Parameters, x: Tensor<2>) -> Tensor<2> {
    let examples = x.dims()[0];
    let x = x.reshape([examples, 1, 64, 64]);
    let x = on.conv(x, 32, [3, 2, 1], false);
    let mut x = relu(on.norm(x));
    for (channels, stride) in [(32, 1), (64, 2), (128, 2)] {
        let y = on.conv(x.clone(), channels, [3, stride, 1], false);
        let y = relu(on.norm(y));
        let y = on.conv(y, channels, [3, 1, 1], false);
        let y = on.norm(y);
        let short = if stride == 2 {
            let short = on.conv(x, channels, [1, 2, 0], false);
            on.norm(short)
        } else {
            x
        };
        x = relu(y + short);
    }
    let [examples, channels, height, width] = x.dims();
    let x = x.reshape([examples, channels, height * width]);
    on.dense(x.mean_dim(2).squeeze_dim(2), 2)
}

impl Parameters {
    fn layer_norm(&mut self, x: Tensor<3>) -> Tensor<3> {
        let features = x.dims()[2];
        let centred = x.clone() - x.mean_dim(2);
        let variance = centred.clone().square().mean_dim(2);
        let normal = centred / (variance + 1e-5).sqrt();
        let scale = self.next([1, 1, features]);
        let shift = self.next([1, 1, features]);
        normal * scale + shift
    }

    fn along(&mut self, x: Tensor<3>, outputs: usize) -> Tensor<3> {
        let [examples, positions, inputs] = x.dims();
        let x = self.dense(x.reshape([examples * positions, inputs]), outputs);
        x.reshape([examples, positions, outputs])
    }
}

/// Without the fixed places, which cost one addition.
fn text(on: &mut Parameters, x: Tensor<2>) -> Tensor<2> {
    let [examples, positions] = x.dims();
    let table: Tensor<2> = on.next([8192, 128]);
    let tokens = x.inner().int().reshape([examples * positions]);
    let x = table.select(0, Tensor::from_inner(tokens));
    let mut x = x.reshape([examples, positions, 128]);
    for _ in 0..2 {
        let h = on.layer_norm(x.clone());
        let heads = |x: Tensor<3>| x.reshape([examples, positions, 4, 32]).swap_dims(1, 2);
        let [q, k, v] = [(); 3].map(|()| heads(on.along(h.clone(), 128)));
        let shares = softmax(q.matmul(k.swap_dims(2, 3)) / 32_f32.sqrt(), 3);
        let taken = shares.matmul(v).swap_dims(1, 2);
        x = x + on.along(taken.reshape([examples, positions, 128]), 128);
        let h = on.layer_norm(x.clone());
        let h = gelu(on.along(h, 512));
        x = x + on.along(h, 128);
    }
    let x = on.layer_norm(x).mean_dim(1).squeeze_dim(1);
    on.dense(x, 10)
}

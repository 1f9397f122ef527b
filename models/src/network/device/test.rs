//! Whether a device computes what the CPU computes: single operations on more than tiny shapes, then small
//! networks that have every layer.

use std::iter::repeat_with;

use burn::tensor::{
    Int, Tensor, TensorData, activation,
    module::{conv2d, max_pool2d},
    ops::{ConvOptions, MaxPoolOptions},
};

use super::{Device, DeviceError, agree, contained};
use crate::{
    network::{
        Body, Network, NetworkError, TextSizes, blueprint::Blueprint, cnn_small, loss::Objective,
        resnet_gn, taps::to_host,
    },
    random::Random,
};

/// Computes something on a device, always the same.
type Operation = fn(&burn::tensor::Device) -> Vec<Tensor<1>>;

/// What networks are made of.
const OPERATIONS: [(&str, Operation); 5] = [
    ("sums and elementwise operations", elementwise),
    ("products", products),
    ("convolutions and pooling", convolutions),
    ("reductions", reductions),
    ("moving numbers", moves),
];

type Make = fn() -> Result<Network, NetworkError>;

/// Networks that have every layer.
const NETWORKS: [Make; 3] = [
    || {
        let mut on = Blueprint::default();
        let network = cnn_small::CnnSmall::new(&mut on, [1, 12, 12], 2);
        Network::new(
            Body::Layers(Box::new(network)),
            on,
            144,
            Objective::Classes(2),
        )
    },
    || {
        let mut on = Blueprint::default();
        let sizes = resnet_gn::Sizes { width: 8, depth: 2 };
        let network = resnet_gn::ResnetGn::new(&mut on, [1, 12, 12], sizes, 2);
        Network::new(
            Body::Layers(Box::new(network)),
            on,
            144,
            Objective::Classes(2),
        )
    },
    || {
        let sizes = TextSizes {
            tokens: 2,
            positions: 8,
            slots: 1,
            is_padded: true,
            features: 8,
            reach: 1,
            heads: 2,
            hidden: 16,
            blocks: 1,
        };
        Network::text_classifier(sizes, 2)
    },
];

/// A device that passed its test.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tested {
    /// The name that its driver has for it.
    pub name: String,
    /// Whether it is the processor in disguise: no card, and slower than our own kernels.
    pub is_software: bool,
}

impl Device {
    /// Tests the device.
    ///
    /// A bad driver may end the process or hang: run this in a child process before the device is used.
    ///
    /// # Errors
    /// A device that this build or this machine does not have, that fails, computes something else than the
    /// CPU, or mixes examples.
    pub fn test(self) -> Result<Tested, NetworkError> {
        if let Some(opened) = self.open()? {
            for (operation, compute) in OPERATIONS {
                let right = numbers(compute(&burn::tensor::Device::flex()))?;
                let found = contained(|| Ok(numbers(compute(&opened))?))?;
                if !right
                    .iter()
                    .zip(&found)
                    .all(|(right, found)| agree(right, found))
                {
                    let device = self;
                    return Err(DeviceError::Operation { device, operation }.into());
                }
            }
        }
        for make in NETWORKS {
            make()?.on(&[self])?.check()?;
        }
        self.described()
    }

    fn described(self) -> Result<Tested, NetworkError> {
        Ok(match self {
            #[cfg(feature = "gpu-wgsl")]
            Self::Card(number, road) => super::cards::described(number, road)?,
            _ => Tested {
                name: self.to_string(),
                is_software: true,
            },
        })
    }
}

fn numbers(tensors: Vec<Tensor<1>>) -> Result<Vec<Vec<f32>>, DeviceError> {
    let on_host = |tensor: Tensor<1>| {
        let data = tensor.try_into_data().map_err(DeviceError::computation)?;
        to_host(data)
    };
    tensors.into_iter().map(on_host).collect()
}

/// Made-up numbers from -1 to 1.
fn made_up<const D: usize>(
    seed: u64,
    shape: [usize; D],
    device: &burn::tensor::Device,
) -> Tensor<D> {
    let mut random = Random::new(&[seed]);
    let count = shape.iter().product();
    let values: Vec<f32> = repeat_with(|| random.symmetric(1.0)).take(count).collect();
    Tensor::from_data(TensorData::new(values, shape), device)
}

fn elementwise(device: &burn::tensor::Device) -> Vec<Tensor<1>> {
    let a = made_up(1, [300, 70], device);
    let b = made_up(2, [300, 70], device);
    let c = made_up(3, [1, 70], device);
    let all = [
        a.clone() + b.clone(),
        a.clone() * c.clone() - b.clone(),
        a.clone().exp() / (b.clone().square() + 1.0).sqrt(),
        activation::relu(a.clone()),
        activation::gelu(a),
        b + c,
    ];
    Vec::from(all.map(|tensor| tensor.flatten::<1>(0, 1)))
}

fn products(device: &burn::tensor::Device) -> Vec<Tensor<1>> {
    let shapes = [
        [1, 64, 64, 64],
        [1, 70, 300, 33],
        [1, 1, 129, 257],
        [6, 37, 50, 41],
    ];
    let product = |(seed, [batch, rows, inner, columns]): (u64, [usize; 4])| {
        let left = made_up(10 + seed, [batch, rows, inner], device);
        let right = made_up(20 + seed, [batch, inner, columns], device);
        left.matmul(right).flatten::<1>(0, 2)
    };
    (0..).zip(shapes).map(product).collect()
}

fn convolutions(device: &burn::tensor::Device) -> Vec<Tensor<1>> {
    let images = made_up(30, [3, 4, 30, 28], device);
    let mut all = Vec::new();
    for (kernel, stride, padding, dilation, groups) in [
        (3, 1, 1, 1, 1),
        (5, 2, 0, 1, 1),
        (3, 2, 1, 2, 2),
        (1, 1, 0, 1, 4),
    ] {
        let weight = made_up(31, [8, 4 / groups, kernel, kernel], device);
        let bias = made_up(32, [8], device);
        let options = ConvOptions::new([stride; 2], [padding; 2], [dilation; 2], groups);
        let output = conv2d(images.clone(), weight, Some(bias), options);
        let pooled = max_pool2d(output.clone(), MaxPoolOptions::new([2, 2]));
        all.extend([output.flatten::<1>(0, 3), pooled.flatten::<1>(0, 3)]);
    }
    all
}

fn reductions(device: &burn::tensor::Device) -> Vec<Tensor<1>> {
    let a = made_up(40, [9, 130, 65], device);
    vec![
        a.clone().sum_dim(0).flatten::<1>(0, 2),
        a.clone().sum_dim(1).flatten::<1>(0, 2),
        a.clone().mean_dim(2).flatten::<1>(0, 2),
        a.clone().max_dim(2).flatten::<1>(0, 2),
        activation::softmax(a.clone(), 2).flatten::<1>(0, 2),
        a.sum(),
    ]
}

fn moves(device: &burn::tensor::Device) -> Vec<Tensor<1>> {
    let a = made_up(50, [40, 6, 34], device);
    let rows: Vec<i32> = (0..50).map(|row| row * 7 % 40).collect();
    let rows = Tensor::<1, Int>::from_data(TensorData::new(rows, [50]), device);
    vec![
        a.clone().swap_dims(0, 2).flatten::<1>(0, 2),
        a.clone().slice([3..17, 1..5, 2..33]).flatten::<1>(0, 2),
        a.clone().select(0, rows).flatten::<1>(0, 2),
        Tensor::cat(vec![a.clone(), a], 1).flatten::<1>(0, 2),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn burns_tensors_and_the_cpu_itself_pass_the_test() {
        Device::Tensors.test().expect("the same numbers");
        Device::Cpu.test().expect("itself");
    }

    #[test]
    fn every_operation_gives_numbers_that_zeros_would_not_pass_for() {
        for (name, compute) in OPERATIONS {
            let all = numbers(compute(&burn::tensor::Device::flex())).expect("burn's own CPU");
            for right in all {
                assert!(right.iter().all(|value| value.is_finite()), "{name}");
                assert!(!agree(&right, &vec![0.0; right.len()]), "{name}");
            }
        }
    }
}

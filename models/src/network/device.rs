//! Where a network computes: on kernels of our own, or on burn's tensors, which graphics cards have too.
//!
//! On the CPU the bits of a gradient depend on its example and the weights alone, by construction, and
//! a round can be repeated bit for bit. On burn's devices no layer mixes examples either, all microbatches
//! have one shape, and gradients are clipped and summed on the host; but nobody promises that a row is
//! rounded alike in every place. It was wherever it was tried, and private training rests on it: a patient
//! who changed the last bits of others' gradients would contribute a little more than the clipping
//! norm. So [`Network::check`] looks before a network trains. Another driver may round otherwise: a round on
//! such a device need not repeat bit for bit elsewhere.

use std::{fmt, str::FromStr};

use burn::tensor::{Tensor, TensorData};
use consilium_proto::plan::Loss;

use super::{
    Network, NetworkError, Target, TextSizes, Weights, blueprint, blueprint::Slot, cnn_small,
    resnet_gn,
};
use crate::random::Random;

/// Where a network computes. Written `cpu`, `tensors`, `gpu:0` or `vulkan:0`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Device {
    /// The processor, with kernels of our own.
    #[default]
    Cpu,
    /// The processor, with burn's tensors: slower, and the same code as on a graphics card.
    Tensors,
    /// The graphics card of this number, with shaders for any card.
    Gpu(usize),
    /// The graphics card of this number, with Vulkan's own shaders: faster with a good driver.
    Vulkan(usize),
}

/// Why a device cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// Not the name of a device.
    #[error("`{0}` is no device: use `cpu`, `gpu:0` (any card), `vulkan:0` or `tensors`")]
    Name(String),
    /// Built without graphics cards.
    #[error(
        "{0} needs a build for graphics cards: build with `cargo build --release --features gpu`, or use `cpu`"
    )]
    NotBuilt(Device),
    /// No card of this number.
    #[error("there is no {device}: the graphics driver shows {found} cards, counted from 0")]
    Absent {
        /// What was asked for.
        device: Device,
        /// How many there are.
        found: usize,
    },
    /// A computation failed.
    #[error("the device could not compute")]
    Computation(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// It computes something else than the CPU.
    #[error("{0} computes wrong numbers: its driver is at fault; use another device, or `cpu`")]
    Wrong(Device),
    /// The bits of a gradient depend on other examples.
    #[error(
        "{0} rounds an example's gradient by its place among others: private training needs another \
         device, or `cpu`"
    )]
    Mixes(Device),
}

impl DeviceError {
    pub(super) fn computation(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Computation(error.into())
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => f.write_str("cpu"),
            Self::Tensors => f.write_str("tensors"),
            Self::Gpu(number) => write!(f, "gpu:{number}"),
            Self::Vulkan(number) => write!(f, "vulkan:{number}"),
        }
    }
}

impl FromStr for Device {
    type Err = DeviceError;

    fn from_str(text: &str) -> Result<Self, DeviceError> {
        let number = |number: &str| {
            number
                .parse()
                .map_err(|_| DeviceError::Name(text.to_owned()))
        };
        match (text, text.split_once(':')) {
            ("cpu", _) => Ok(Self::Cpu),
            ("tensors", _) => Ok(Self::Tensors),
            (_, Some(("gpu", at))) => Ok(Self::Gpu(number(at)?)),
            (_, Some(("vulkan", at))) => Ok(Self::Vulkan(number(at)?)),
            _ => Err(DeviceError::Name(text.to_owned())),
        }
    }
}

impl Device {
    /// Checks small networks that have every layer.
    ///
    /// A bad driver may end the process: run this in a child process before the device is used.
    ///
    /// # Errors
    /// As [`Network::check`], and a device that is absent.
    pub fn check(self) -> Result<(), NetworkError> {
        CHECKED
            .iter()
            .try_for_each(|make| make()?.on(self)?.check())
    }

    /// burn's name for it; none for kernels of our own.
    pub(super) fn open(self) -> Result<Option<burn::tensor::Device>, DeviceError> {
        match self {
            Self::Cpu => Ok(None),
            Self::Tensors => Ok(Some(burn::tensor::Device::flex())),
            #[cfg(feature = "gpu")]
            Self::Gpu(number) => self.card(burn::tensor::DeviceType::Wgpu, number),
            #[cfg(feature = "gpu")]
            Self::Vulkan(number) => self.card(burn::tensor::DeviceType::Vulkan, number),
            #[cfg(not(feature = "gpu"))]
            Self::Gpu(_) | Self::Vulkan(_) => Err(DeviceError::NotBuilt(self)),
        }
    }

    #[cfg(feature = "gpu")]
    fn card(
        self,
        kind: burn::tensor::DeviceType,
        number: usize,
    ) -> Result<Option<burn::tensor::Device>, DeviceError> {
        let cards = burn::tensor::Device::enumerate(kind);
        let found = cards.len();
        match cards.into_iter().nth(number) {
            Some(card) => Ok(Some(card)),
            None => Err(DeviceError::Absent {
                device: self,
                found,
            }),
        }
    }
}

/// All weights of a network as tensors.
pub(super) struct OnDevice {
    device: burn::tensor::Device,
    weights: Vec<Tensor<1>>,
    /// Examples of every microbatch: kernels are compiled once for one shape.
    microbatch: usize,
}

impl OnDevice {
    pub(super) fn new<'a>(
        device: &burn::tensor::Device,
        weights: impl Iterator<Item = &'a [f32]>,
        microbatch: usize,
    ) -> Self {
        let tensor = |values: &[f32]| upload(values, [values.len()], device);
        Self {
            device: device.clone(),
            weights: weights.map(tensor).collect(),
            microbatch,
        }
    }

    pub(super) fn weight<const D: usize>(&self, slot: Slot, shape: [usize; D]) -> Tensor<D> {
        self.weights[slot.0].clone().reshape(shape)
    }

    pub(super) fn upload<const D: usize>(&self, values: &[f32], shape: [usize; D]) -> Tensor<D> {
        upload(values, shape, &self.device)
    }

    pub(super) fn device(&self) -> &burn::tensor::Device {
        &self.device
    }

    /// So many examples filled up to whole microbatches.
    pub(super) fn filled(&self, examples: usize) -> usize {
        examples.div_ceil(self.microbatch).max(1) * self.microbatch
    }
}

fn upload<const D: usize>(
    values: &[f32],
    shape: [usize; D],
    device: &burn::tensor::Device,
) -> Tensor<D> {
    Tensor::from_data(TensorData::new(values.to_vec(), shape), device)
}

type Make = fn() -> Result<Network, NetworkError>;

/// Networks that have every layer.
const CHECKED: [Make; 3] = [
    || {
        let mut on = blueprint::Blueprint::default();
        let network = cnn_small::CnnSmall::new(&mut on, [1, 12, 12], 2);
        Network::new(Box::new(network), on, [144, 2], Loss::CrossEntropy)
    },
    || {
        let mut on = blueprint::Blueprint::default();
        let sizes = resnet_gn::Sizes { width: 8, depth: 2 };
        let network = resnet_gn::ResnetGn::new(&mut on, [1, 12, 12], sizes, 2);
        Network::new(Box::new(network), on, [144, 2], Loss::CrossEntropy)
    },
    || {
        let sizes = TextSizes {
            tokens: 2,
            positions: 8,
            features: 8,
            heads: 2,
            hidden: 16,
            blocks: 1,
        };
        Network::text_classifier(sizes, 2)
    },
];

impl Network {
    /// Compares outputs and gradients of made-up examples with the CPU's, and each gradient with
    /// itself beside other examples: there it must have the same bits.
    ///
    /// # Errors
    /// A device that fails, computes something else than the CPU, or mixes examples.
    pub fn check(&self) -> Result<(), NetworkError> {
        let values = self.initial(3);
        let here = Weights::new(&self.layout, values.as_slice());
        let there = self.weights(values.as_slice())?;
        let answers = self.answers(&there, &[1, 2, 3])?;
        if !agree(&self.answers(&here, &[1, 2, 3])?, &answers) {
            return Err(DeviceError::Wrong(self.device).into());
        }
        let last = self.answers(&there, &[3])?;
        let same_bits = |(among, alone): (&f32, &f32)| among.to_bits() == alone.to_bits();
        if !answers.iter().rev().zip(last.iter().rev()).all(same_bits) {
            return Err(DeviceError::Mixes(self.device).into());
        }
        Ok(())
    }

    /// The output and then the gradient of each example.
    fn answers(&self, weights: &Weights, seeds: &[u64]) -> Result<Vec<f32>, NetworkError> {
        let (mut batch, mut answers) = (self.batch(), Vec::new());
        for &seed in seeds {
            let mut random = Random::new(&[4, seed]);
            let number = |_| 1.0 + random.symmetric(1.0);
            let input: Vec<f32> = (0..self.inputs).map(number).collect();
            batch.push(
                &input,
                match self.loss {
                    Loss::CrossEntropy => Target::Class(seed as usize % self.outputs),
                    Loss::MeanSquaredError => Target::Value(seed as f32),
                },
            )?;
        }
        let outputs = self.predict(weights, &batch.inputs)?;
        let apart = self.per_example(weights, &batch)?;
        let mut gradient = vec![0.0; apart.parameters()];
        for (example, outputs) in outputs.chunks_exact(self.outputs).enumerate() {
            apart.write(example, &mut gradient);
            answers.extend_from_slice(outputs);
            answers.extend_from_slice(&gradient);
        }
        Ok(answers)
    }
}

/// Whether numbers differ by rounding alone.
fn agree(here: &[f32], there: &[f32]) -> bool {
    let scale = here.iter().fold(0.0_f32, |a, b| a.max(b.abs()));
    let near = |(here, there): (&f32, &f32)| (here - there).abs() <= 1e-3 * scale;
    here.len() == there.len() && here.iter().zip(there).all(near)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_read_as_it_is_written() {
        for device in [
            Device::Cpu,
            Device::Tensors,
            Device::Gpu(3),
            Device::Vulkan(0),
        ] {
            assert_eq!(
                device.to_string().parse::<Device>().expect("a name"),
                device
            );
        }
        for text in ["", "gpu", "gpu:", "gpu:-1", "cpu:0", "cuda:0"] {
            assert!(text.parse::<Device>().is_err(), "{text}");
        }
    }

    #[test]
    fn burns_tensors_pass_the_check_and_wrong_numbers_do_not() {
        Device::Tensors.check().expect("the same numbers");
        let right = [1.0, -2.0, 0.5];
        assert!(agree(&right, &[1.0005, -2.0, 0.5]));
        assert!(!agree(&right, &[0.0; 3]));
        assert!(!agree(&right, &[1.0, f32::NAN, 0.5]));
        assert!(!agree(&right, &right[..2]));
    }

    #[cfg(not(feature = "gpu"))]
    #[test]
    fn a_build_without_graphics_cards_says_which_has_them() {
        let error = Device::Gpu(0).check().expect_err("not built");
        assert!(error.to_string().contains("--features gpu"), "{error}");
    }
}

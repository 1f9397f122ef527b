//! Where a network computes: on kernels of our own, or on burn's tensors, which graphics cards have too.
//!
//! On the CPU the bits of a gradient depend on its example and the weights alone, by construction, and
//! a round can be repeated bit for bit. On burn's devices no layer mixes examples either, all microbatches
//! have one shape, and gradients are clipped and summed on the host; but nobody promises that a row is
//! rounded alike in every place. It was wherever it was tried, and private training rests on it: a patient
//! who changed the last bits of others' gradients would contribute a little more than the clipping
//! norm. So [`Network::check`] looks before a network trains. Another driver may round otherwise: a round on
//! such a device need not repeat bit for bit elsewhere.
//!
//! A graphics card is reached by two roads: shaders in SPIR-V, which burn makes for Vulkan, and shaders in
//! WGSL, which wgpu translates for whatever the driver speaks. A driver may end the process, or compute
//! zeros without a word, on one road and be right on the other: [`Device::test`] is for a
//! child process to find out.

#[cfg(feature = "gpu-wgsl")]
mod cards;
mod places;
mod test;
#[cfg(feature = "gpu")]
mod wgsl;
mod wish;

use std::{error::Error, fmt, ops::Range, str::FromStr};

use burn::tensor::{Tensor, TensorData};

pub(super) use self::places::{Most, Place, Places, contained};
pub use self::{
    test::Tested,
    wish::{NoDevice, Wish},
};
use super::{Network, NetworkError, Weights, blueprint::Slot};
use crate::random::Random;

/// Where a network computes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Device {
    /// The processor, with kernels of our own.
    #[default]
    Cpu,
    /// The processor, with burn's tensors: slower, and the same code as on a graphics card.
    Tensors,
    /// The graphics card of this number, counted from 0, by one of its roads.
    Card(usize, Road),
}

/// How shaders come to a graphics card.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Road {
    /// As SPIR-V: the faster one with a good driver.
    Spirv,
    /// As WGSL: for any card.
    Wgsl,
}

/// Why a device cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// Not as a device is written.
    #[error("`{0}` is no device")]
    Name(String),
    /// Built without graphics cards, or without this road to them.
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
    Computation(#[source] Box<dyn Error + Send + Sync>),
    /// Not even one example can be computed.
    #[error(
        "{device} cannot compute a single example of this network: use another device, or `cpu`"
    )]
    Exhausted {
        /// Which one.
        device: Device,
        /// What it said last.
        #[source]
        cause: Box<dyn Error + Send + Sync>,
    },
    /// It computes something else than the CPU.
    #[error("{0} computes wrong numbers: its driver is at fault; use another device, or `cpu`")]
    Wrong(Device),
    /// A single operation gives something else than on the CPU.
    #[error("{device} computes wrong numbers in {operation}: its driver is at fault")]
    Operation {
        /// Which one.
        device: Device,
        /// What it cannot do.
        operation: &'static str,
    },
    /// The bits of a gradient depend on other examples.
    #[error(
        "{0} rounds an example's gradient by its place among others: private training needs another \
         device, or `cpu`"
    )]
    Mixes(Device),
}

impl DeviceError {
    pub(super) fn computation(error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Computation(error.into())
    }
}

impl Road {
    /// Those of this build, the faster one first; none in a build without graphics cards.
    pub const BUILT: &[Self] = &[
        #[cfg(feature = "gpu")]
        Self::Spirv,
        #[cfg(feature = "gpu-wgsl")]
        Self::Wgsl,
    ];

    /// Its name in lower case.
    pub fn name(self) -> &'static str {
        match self {
            Self::Spirv => "spirv",
            Self::Wgsl => "wgsl",
        }
    }
}

impl fmt::Display for Road {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Spirv => "SPIR-V",
            Self::Wgsl => "WGSL",
        })
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => f.write_str("cpu"),
            Self::Tensors => f.write_str("tensors"),
            Self::Card(number, road) => write!(f, "gpu:{number} over {road}"),
        }
    }
}

/// As it is written: what people ask for is a [`Wish`].
impl FromStr for Device {
    type Err = DeviceError;

    fn from_str(text: &str) -> Result<Self, DeviceError> {
        let card = || {
            let (number, road) = text.strip_prefix("gpu:")?.split_once(" over ")?;
            let road = [Road::Spirv, Road::Wgsl]
                .into_iter()
                .find(|known| known.to_string() == road)?;
            Some(Self::Card(number.parse().ok()?, road))
        };
        match text {
            "cpu" => Ok(Self::Cpu),
            "tensors" => Ok(Self::Tensors),
            _ => card().ok_or_else(|| DeviceError::Name(text.to_owned())),
        }
    }
}

impl Device {
    /// burn's name for it; none for kernels of our own.
    pub(super) fn open(self) -> Result<Option<burn::tensor::Device>, DeviceError> {
        match self {
            Self::Cpu => Ok(None),
            Self::Tensors => Ok(Some(burn::tensor::Device::flex())),
            #[cfg(feature = "gpu-wgsl")]
            Self::Card(number, road) => cards::open(number, road).map(Some),
            #[cfg(not(feature = "gpu-wgsl"))]
            Self::Card(..) => Err(DeviceError::NotBuilt(self)),
        }
    }
}

/// All weights of a network as tensors.
pub(super) struct OnDevice {
    device: burn::tensor::Device,
    weights: Vec<Tensor<1>>,
    /// Examples of every microbatch: kernels are compiled once for one shape.
    microbatch: Most,
}

impl OnDevice {
    pub(super) fn new<'a>(
        device: &burn::tensor::Device,
        weights: impl Iterator<Item = &'a [f32]>,
        microbatch: Most,
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
        let microbatch = self.microbatch.get();
        examples.div_ceil(microbatch).max(1) * microbatch
    }
}

fn upload<const D: usize>(
    values: &[f32],
    shape: [usize; D],
    device: &burn::tensor::Device,
) -> Tensor<D> {
    Tensor::from_data(TensorData::new(values.to_vec(), shape), device)
}

impl Network {
    /// Compares outputs and gradients of made-up examples with the CPU's, on each of its devices, and
    /// each gradient with itself beside other examples: there it must have the same bits. What has
    /// passed is not looked at again.
    ///
    /// # Errors
    /// A device that fails, computes something else than the CPU, or mixes examples.
    pub fn check(&self) -> Result<(), NetworkError> {
        let Some(places) = &self.places else {
            return Ok(());
        };
        if self.is_checked.get().is_some() {
            return Ok(());
        }
        let values = self.initial(3);
        let here = Weights::new(&self.layout, values.as_slice());
        let there = self.weights(values.as_slice())?;
        let right = self.answers(&here, &[1, 2, 3])?;
        for (at, place) in places.all().iter().enumerate() {
            let lease = places.lease_of(at);
            let answers = |seeds: &[u64]| loop {
                match lease.attempt(|| self.answers(there.copy(at), seeds)) {
                    Err(error) => lease.halve(error)?,
                    answers => break answers,
                }
            };
            let found = answers(&[1, 2, 3])?;
            if !agree(&right, &found) {
                return Err(DeviceError::Wrong(place.device()).into());
            }
            let last = answers(&[3])?;
            let same_bits = |(among, alone): (&f32, &f32)| among.to_bits() == alone.to_bits();
            if !found.iter().rev().zip(last.iter().rev()).all(same_bits) {
                return Err(DeviceError::Mixes(place.device()).into());
            }
        }
        // Whoever was sooner found the same.
        let _ = self.is_checked.set(());
        Ok(())
    }

    /// Computes `examples` in one go on the CPU, or on a device that is free: there in pieces, if so many are
    /// more than it can.
    pub(super) fn compute<T>(
        &self,
        weights: &Weights,
        examples: usize,
        mut piece: impl FnMut(&Weights, Range<usize>) -> Result<T, NetworkError>,
    ) -> Result<Vec<T>, NetworkError> {
        let Some(places) = &self.places else {
            return Ok(vec![piece(weights, 0..examples)?]);
        };
        let lease = places.lease();
        let (mut done, mut pieces) = (0, Vec::new());
        while done < examples {
            let end = examples.min(done + lease.place().most().get());
            match lease.attempt(|| piece(weights.copy(lease.at()), done..end)) {
                Ok(computed) => {
                    pieces.push(computed);
                    done = end;
                }
                Err(error) => lease.halve(error)?,
            }
        }
        Ok(pieces)
    }

    /// The output and then the gradient of each example, where these weights are.
    fn answers(&self, weights: &Weights, seeds: &[u64]) -> Result<Vec<f32>, NetworkError> {
        let (mut batch, mut answers) = (self.batch(), Vec::new());
        for &seed in seeds {
            let mut random = Random::new(&[4, seed]);
            let number = |_| 1.0 + random.symmetric(1.0);
            let input: Vec<f32> = (0..self.inputs).map(number).collect();
            batch.push(&input, self.objective.example(seed as usize))?;
        }
        let outputs = self.outputs_of(weights, &batch.inputs)?;
        let apart = self.gradients_of(weights, &batch)?;
        let mut gradient = vec![0.0; apart.parameters()];
        for (example, outputs) in outputs.chunks_exact(self.outputs()).enumerate() {
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
        let cards = Device::Card(3, Road::Wgsl);
        for device in [
            Device::Cpu,
            Device::Tensors,
            cards,
            Device::Card(0, Road::Spirv),
        ] {
            assert_eq!(
                device.to_string().parse::<Device>().expect("a device"),
                device
            );
        }
        for text in ["", "gpu:0", "gpu:x over WGSL", "gpu:0 over GLSL", "auto"] {
            assert!(text.parse::<Device>().is_err(), "{text}");
        }
    }

    #[test]
    fn wrong_numbers_do_not_agree() {
        let right = [1.0, -2.0, 0.5];
        assert!(agree(&right, &[1.0005, -2.0, 0.5]));
        assert!(!agree(&right, &[0.0; 3]));
        assert!(!agree(&right, &[1.0, f32::NAN, 0.5]));
        assert!(!agree(&right, &right[..2]));
    }

    #[cfg(not(feature = "gpu-wgsl"))]
    #[test]
    fn a_build_without_graphics_cards_says_which_has_them() {
        let error = Device::Card(0, Road::Wgsl).open().expect_err("not built");
        assert!(error.to_string().contains("--features gpu"), "{error}");
        assert!(Road::BUILT.is_empty());
    }
}

//! Collects the tensors of a network while its layers are made.

use consilium_proto::TensorSpec;

use crate::random::Random;

/// Tensors, their initial values, and the memory that one example takes: for its layers, and for the weight
/// gradients that are written out for it.
#[derive(Default)]
pub(super) struct Blueprint {
    pub(super) tensors: Vec<TensorSpec>,
    pub(super) initials: Vec<Initial>,
    pub(super) floats: usize,
    pub(super) formed: usize,
}

/// Place of a tensor in the layout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Slot(pub(super) usize);

/// How a tensor starts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Initial {
    Zeros,
    Ones,
    /// Uniform within ± the bound.
    Uniform(f32),
}

impl Blueprint {
    pub(super) fn tensor(&mut self, name: String, shape: &[usize], initial: Initial) -> Slot {
        self.tensors.push(TensorSpec {
            name,
            shape: shape.to_vec(),
        });
        self.initials.push(initial);
        Slot(self.tensors.len() - 1)
    }

    /// Notes that a layer holds these many floats for each example of a microbatch.
    pub(super) fn holds(&mut self, floats: usize) {
        self.floats = self.floats.saturating_add(floats);
    }

    /// Notes that a layer writes so many floats of weight gradient out for each example.
    pub(super) fn forms(&mut self, floats: usize) {
        self.formed = self.formed.saturating_add(floats);
    }
}

impl Initial {
    /// For a layer before a ReLU (He et al. 2015): variance 2 / inputs.
    pub(super) fn he(inputs: usize) -> Self {
        Self::Uniform((6.0 / inputs as f32).sqrt())
    }

    /// For a last layer (Glorot and Bengio 2010): variance 2 / (inputs + outputs).
    pub(super) fn glorot(inputs: usize, outputs: usize) -> Self {
        Self::Uniform((6.0 / (inputs + outputs) as f32).sqrt())
    }

    pub(super) fn draw(self, random: &mut Random) -> f32 {
        match self {
            Self::Zeros => 0.0,
            Self::Ones => 1.0,
            Self::Uniform(bound) => random.symmetric(bound),
        }
    }
}

//! Examples that go through a network together.

use std::{borrow::Cow, ops::Range};

use consilium_proto::plan::Loss;

use super::NetworkError;

/// What the network should answer for one example.
#[derive(Clone, Copy, PartialEq)]
pub enum Target {
    /// The index of a class in the plan's list.
    Class(usize),
    /// A number, for regression.
    Value(f32),
}

/// Written by hand: a target is patient data.
impl std::fmt::Debug for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Target([redacted])")
    }
}

/// Examples that go through a network together.
#[derive(Clone)]
pub struct Batch {
    width: usize,
    outputs: usize,
    loss: Loss,
    pub(super) inputs: Vec<f32>,
    pub(super) targets: Vec<Target>,
}

impl Batch {
    pub(super) fn new(width: usize, outputs: usize, loss: Loss) -> Self {
        Self {
            width,
            outputs,
            loss,
            inputs: Vec::new(),
            targets: Vec::new(),
        }
    }

    /// Adds an example.
    ///
    /// # Errors
    /// An input of another length than the network's, a class it does not have, a target of the
    /// other kind. Such an example is not added.
    pub fn push(&mut self, input: &[f32], target: Target) -> Result<(), NetworkError> {
        if input.len() != self.width {
            return Err(NetworkError::InputLength {
                expected: self.width,
                found: input.len(),
            });
        }
        let expected = match (self.loss, target) {
            (Loss::CrossEntropy, Target::Class(class)) if class < self.outputs => None,
            (Loss::MeanSquaredError, Target::Value(_)) => None,
            (Loss::CrossEntropy, _) => Some(format!("a class below {}", self.outputs)),
            (Loss::MeanSquaredError, _) => Some("a number".into()),
        };
        if let Some(expected) = expected {
            return Err(NetworkError::Target { expected });
        }
        self.inputs.extend_from_slice(input);
        self.targets.push(target);
        Ok(())
    }

    /// Some of its examples.
    pub(super) fn part(&self, examples: Range<usize>) -> Cow<'_, Self> {
        if examples == (0..self.len()) {
            return Cow::Borrowed(self);
        }
        let inputs = examples.start * self.width..examples.end * self.width;
        Cow::Owned(Self {
            inputs: self.inputs[inputs].to_vec(),
            targets: self.targets[examples].to_vec(),
            ..*self
        })
    }

    /// Number of examples.
    pub fn len(&self) -> usize {
        self.targets.len()
    }

    /// Whether there is no example.
    pub fn is_empty(&self) -> bool {
        self.targets.is_empty()
    }
}

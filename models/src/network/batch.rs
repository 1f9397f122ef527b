//! Examples that go through a network together.

use std::{borrow::Cow, ops::Range, sync::Arc};

use super::{NetworkError, loss::Objective};

/// What the network should answer for one example.
#[derive(Clone, PartialEq)]
pub enum Target {
    /// The index of a class in the plan's list.
    Class(usize),
    /// A number, for regression.
    Value(f32),
    /// A tag for each word of a window: 0 outside of entities, 2k + 1 for the first word of one of
    /// the k-th kind and 2k + 2 for its further words.
    Tags(Arc<[u16]>),
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
    objective: Objective,
    pub(super) inputs: Vec<f32>,
    pub(super) targets: Vec<Target>,
}

impl Batch {
    pub(super) fn new(width: usize, objective: Objective) -> Self {
        Self {
            width,
            objective,
            inputs: Vec::new(),
            targets: Vec::new(),
        }
    }

    /// Adds an example.
    ///
    /// # Errors
    /// An input of another length than the network's, a class or tag it does not have, a target of
    /// another kind. Such an example is not added.
    pub fn push(&mut self, input: &[f32], target: Target) -> Result<(), NetworkError> {
        if input.len() != self.width {
            return Err(NetworkError::InputLength {
                expected: self.width,
                found: input.len(),
            });
        }
        if let Some(expected) = self.objective.objection(&target) {
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

//! Models that a federation trained, as a note is read with them: entities, relations, classes.

use std::path::Path;

use consilium_proto::{Digest, OutOfRange, ParameterVector, Plan, plan::Task};
use safetensors::{Dtype, SafeTensorError, SafeTensors};

use crate::{
    decision::diagnosis::opinion::ModelIdentity,
    network::{Network, NetworkError, Weights},
    text::{Note, Reading, ReadingError, Span},
};

/// Windows or pairs that are given to a network at once: a long note does not fill the memory.
const AT_ONCE: usize = 64;

/// A trained model, ready to read notes.
pub struct Trained {
    identity: ModelIdentity,
    task: Task,
    reading: Reading,
    network: Network,
    weights: Weights,
    /// From which probability on a relation counts.
    threshold: f32,
}

/// Why a trained model cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TrainedError {
    /// A plan that is not about notes, or an encoder that is not there.
    #[error(transparent)]
    Reading(#[from] ReadingError),
    /// Weights that do not fit the plan, or a network that fails.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// The file of weights is no safetensors file.
    #[error("the weights are not in the safetensors format")]
    Format(#[from] SafeTensorError),
    /// The file of weights is that of another network.
    #[error("the weights are not those of the plan's network: {0}")]
    OtherNetwork(String),
    /// Weights that are no numbers.
    #[error(transparent)]
    Values(#[from] OutOfRange),
}

/// An entity that a tagger found, in the note as it is written.
pub(super) struct Tagged {
    pub(super) kind: String,
    pub(super) span: Span,
    pub(super) probability: f32,
}

/// A relation that a model found between two entities of a note, by their places in its list.
pub(super) struct Related {
    pub(super) kind: String,
    pub(super) from: usize,
    pub(super) to: usize,
    pub(super) probability: f32,
}

impl Trained {
    /// From the plan that it was trained by and what came out. `encoder` is the folder of the public encoder that
    /// some plans ask for.
    ///
    /// # Errors
    /// A plan that is not about notes, weights of another network, an encoder that is not there.
    pub fn new(
        identity: ModelIdentity,
        plan: &Plan,
        weights: &ParameterVector,
        encoder: Option<&Path>,
    ) -> Result<Self, TrainedError> {
        let network = Network::from_plan(plan)?;
        Ok(Self {
            identity,
            task: plan.task,
            reading: Reading::from_plan(plan, encoder)?,
            weights: network.weights(weights.as_slice())?,
            network,
            threshold: plan.pair.as_ref().map_or(0.5, |pair| pair.threshold),
        })
    }

    /// From the plan and the bytes of the safetensors file that a finished study released. The model goes by the
    /// plan's name and the file's digest.
    ///
    /// # Errors
    /// As [`Trained::new`]; bytes that are no such file.
    pub fn from_file(
        plan: &Plan,
        bytes: &[u8],
        encoder: Option<&Path>,
    ) -> Result<Self, TrainedError> {
        let stored = SafeTensors::deserialize(bytes)?;
        let mut values = Vec::new();
        for spec in Network::from_plan(plan)?.layout().tensors() {
            let name = &spec.name;
            let other = |what: &str| TrainedError::OtherNetwork(format!("{name} {what}"));
            let tensor = stored.tensor(name).map_err(|_| other("is not there"))?;
            if tensor.shape() != spec.shape.as_slice() || tensor.dtype() != Dtype::F32 {
                return Err(other("has another shape or type"));
            }
            let numbers = tensor.data().as_chunks::<4>().0.iter();
            values.extend(numbers.map(|bytes| f32::from_le_bytes(*bytes)));
        }
        let identity = ModelIdentity {
            name: plan.name.clone(),
            version: plan.digest().to_string(),
            sha256: Digest::plain(bytes).to_string(),
        };
        Self::new(identity, plan, &ParameterVector::new(values)?, encoder)
    }

    /// Which model it is.
    pub fn identity(&self) -> &ModelIdentity {
        &self.identity
    }

    /// Whether it says what a patient has.
    pub(super) fn diagnoses(&self) -> bool {
        self.task == Task::Diagnosis
    }

    /// Its entities of a text; none of a model for something else.
    pub(super) fn tag(&self, text: &str) -> Result<Vec<Tagged>, TrainedError> {
        if self.task != Task::EntityTagging {
            return Ok(Vec::new());
        }
        let Some(windows) = self.reading.windows(text) else {
            return Ok(Vec::new());
        };
        let outputs = self.predict(windows.inputs())?;
        let mentions = self.reading.mentions(&windows, &outputs).into_iter();
        let tagged = mentions.filter_map(|mention| {
            Some(Tagged {
                kind: self.reading.classes().get(mention.class)?.clone(),
                span: mention.span,
                probability: mention.probability,
            })
        });
        Ok(tagged.collect())
    }

    /// Its classes of a text, each with its probability; none of a model for something else.
    pub(super) fn classify(&self, text: &str) -> Result<Vec<(String, f32)>, TrainedError> {
        if !matches!(self.task, Task::NoteClassification | Task::Diagnosis) {
            return Ok(Vec::new());
        }
        let classes = self.reading.classes();
        let inputs = self.reading.inputs(text)?;
        let count = inputs.len();
        let outputs = self.predict(inputs)?;
        if count == 0 {
            return Ok(Vec::new());
        }
        let mut means = vec![0.0; classes.len()];
        for row in outputs.chunks(classes.len().max(1)) {
            let pairs = means.iter_mut().zip(row);
            pairs.for_each(|(mean, value)| *mean += value / count as f32);
        }
        Ok(classes.iter().cloned().zip(means).collect())
    }

    /// Its relations between a note's entities; none of a model for something else.
    pub(super) fn relate(&self, note: &Note) -> Result<Vec<Related>, TrainedError> {
        if self.task != Task::RelationExtraction {
            return Ok(Vec::new());
        }
        let candidates = self.reading.candidates(note);
        let inputs = self.reading.pair_inputs(note, &candidates);
        let outputs = self.predict(inputs)?;
        let classes = self.reading.classes();
        let rows = outputs.chunks(classes.len().max(1));
        let related = candidates.iter().zip(rows).filter_map(|(candidate, row)| {
            // The first class says that there is no relation.
            let others = row.iter().enumerate().skip(1);
            let (class, &probability) = others.max_by(|one, other| one.1.total_cmp(other.1))?;
            (probability >= self.threshold).then_some(())?;
            Some(Related {
                kind: classes.get(class)?.clone(),
                from: *candidate.from.mentions.first()?,
                to: *candidate.to.mentions.first()?,
                probability,
            })
        });
        Ok(related.collect())
    }

    /// What the network answers to inputs, a few at a time.
    fn predict(
        &self,
        inputs: impl IntoIterator<Item = Vec<f32>>,
    ) -> Result<Vec<f32>, TrainedError> {
        let mut inputs = inputs.into_iter().peekable();
        let mut outputs = Vec::new();
        while inputs.peek().is_some() {
            let some: Vec<f32> = inputs.by_ref().take(AT_ONCE).flatten().collect();
            outputs.extend(self.network.predict(&self.weights, &some)?);
        }
        Ok(outputs)
    }
}

//! Models that a federation trained, as a note is read with them: entities, relations, classes.

use std::path::Path;

use consilium_proto::plan::Task;

use crate::{
    network::{Network, NetworkError, Weights},
    released::{ModelIdentity, Released},
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
    /// Makes a released model ready. `encoder` is the folder of the public encoder that some plans ask for.
    ///
    /// # Errors
    /// A plan that is not about notes, weights of another network, an encoder that is not there.
    pub fn new(released: &Released, encoder: Option<&Path>) -> Result<Self, TrainedError> {
        let plan = released.plan();
        let network = Network::from_plan(plan)?;
        Ok(Self {
            identity: released.identity().clone(),
            task: plan.task,
            reading: Reading::from_plan(plan, encoder)?,
            weights: network.weights(released.weights().as_slice())?,
            network,
            threshold: plan.pair.as_ref().map_or(0.5, |pair| pair.threshold),
        })
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

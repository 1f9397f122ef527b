//! From a note to what the network of a plan takes, and from its answers back to the note.
//!
//! A note is cleaned and cut into words or pieces; what a network reads in order is cut into windows that
//! overlap by half, so that every word stands somewhere with words on both sides. Training draws one window,
//! or one pair, of a drawn note; predictions of a word come from the window in whose middle it is most.

mod pairs;
mod tags;
mod vectors;
mod windows;

use std::path::Path;

use consilium_proto::{
    Plan,
    plan::{Pair, Task, TextInput},
};

use self::vectors::Vectors;
pub use self::{
    pairs::Candidate,
    tags::{Mention, tags_of},
    windows::Windows,
};
use super::{
    Note,
    bag::Bag,
    bert::{EncodeError, PublicEncoder, PublicEncoderError},
    features::Buckets,
    words::Filter,
};
use crate::network::Target;

/// What a network takes of a note, and what it should answer.
#[derive(Clone)]
pub struct Example {
    /// As long as the network's input.
    pub input: Vec<f32>,
    /// From what people marked.
    pub target: Target,
}

impl Example {
    /// Whether it is a window in which some word belongs to an entity.
    pub fn is_marked(&self) -> bool {
        matches!(&self.target, Target::Tags(tags) if tags.iter().any(|&tag| tag != 0))
    }
}

/// Written by hand: a note is patient data.
impl std::fmt::Debug for Example {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Example({} numbers)", self.input.len())
    }
}

/// Why notes cannot be read as a plan asks.
#[derive(Debug, thiserror::Error)]
pub enum ReadingError {
    /// The plan has no text.
    #[error("the plan is not about notes")]
    NoText,
    /// A note without the class that its task needs.
    #[error("the note has no label")]
    NoLabel,
    /// A label or a kind of relation that is no class of the plan.
    #[error("label {label:?} is none of the plan's classes ({classes}); map it with a label map")]
    NoClass {
        /// As it stands in the data.
        label: String,
        /// The classes that the plan lists.
        classes: String,
    },
    /// The plan's encoder is not at hand.
    #[error(transparent)]
    Encoder(#[from] PublicEncoderError),
    /// The encoder cannot read a note.
    #[error(transparent)]
    Encode(#[from] EncodeError),
}

/// The road from notes to a plan's network and back. Cheap to share; holds no note.
pub struct Reading {
    task: Task,
    classes: Vec<String>,
    pair: Option<Pair>,
    form: Form,
}

enum Form {
    Windows(windows::Cutter),
    Vectors(Vectors),
}

/// Most numbers that the pairs of one note may take: 64 MB.
const FLOATS: usize = 16 << 20;

impl Form {
    /// Numbers of one input.
    fn length(&self) -> usize {
        match self {
            Self::Windows(cutter) => cutter.length(),
            Self::Vectors(vectors) => vectors.length(),
        }
    }
}

impl Reading {
    /// Follows the plan. `encoder` is the folder of the public encoder that some plans ask for.
    ///
    /// # Errors
    /// A plan that is not about notes, an encoder that is not there or is another one.
    pub fn from_plan(plan: &Plan, encoder: Option<&Path>) -> Result<Self, ReadingError> {
        let text = plan.text.as_ref().ok_or(ReadingError::NoText)?;
        let form = match text {
            TextInput::Words { .. } | TextInput::Pieces { .. } => {
                Form::Windows(windows::Cutter::new(text))
            }
            TextInput::Encoder { .. } => {
                let encoder = PublicEncoder::open(plan, encoder)?;
                match plan.reads_windows() {
                    true => Form::Windows(windows::Cutter::of_encoder(text, encoder.vocabulary)),
                    false => Form::Vectors(Vectors::of_encoder(encoder)),
                }
            }
            &TextInput::Bag {
                buckets,
                neighbours,
                letters,
                first_sentence,
                drop_stop_words,
                drop_punctuation,
            } => {
                let buckets = Buckets::at_most(buckets);
                Form::Vectors(Vectors::Bag {
                    bag: Bag::new(buckets)
                        .with_neighbours(neighbours)
                        .with_letters(letters)
                        .with_first_sentence(first_sentence),
                    filter: Filter {
                        stop_words: drop_stop_words,
                        punctuation: drop_punctuation,
                    },
                    buckets,
                })
            }
        };
        Ok(Self {
            task: plan.task,
            classes: plan.classes.clone(),
            pair: plan.pair.clone(),
            form,
        })
    }

    /// Everything that training may draw of a note; nothing of one without words or without pairs.
    ///
    /// # Errors
    /// A label that is missing, or that the plan does not list.
    pub fn examples(&self, note: &Note) -> Result<Vec<Example>, ReadingError> {
        match (&self.form, self.task) {
            (Form::Windows(cutter), Task::EntityTagging) => Ok(cutter.tagged(note, &self.classes)),
            (_, Task::RelationExtraction) => {
                let candidates = self.candidates(note);
                let inputs = self.pair_inputs(note, &candidates);
                let example = |(candidate, input): (&Candidate, Vec<f32>)| {
                    let class = self.class(&candidate.kind_in(note, self.no_relation()))?;
                    let target = Target::Class(class);
                    Ok(Example { input, target })
                };
                candidates.iter().zip(inputs).map(example).collect()
            }
            (form, _) => {
                let label = note.label.as_deref().ok_or(ReadingError::NoLabel)?;
                let class = self.class(label)?;
                let inputs = match form {
                    Form::Windows(cutter) => cutter.cut(&note.text).into_inputs(),
                    Form::Vectors(vectors) => vec![vectors.of(&note.text)?],
                };
                let example = |input| Example {
                    input,
                    target: Target::Class(class),
                };
                Ok(inputs.into_iter().map(example).collect())
            }
        }
    }

    /// A text as what the network takes, one input after the other, to be asked for its class: the mean of
    /// its answers is the text's.
    ///
    /// # Errors
    /// An encoder that cannot read it.
    pub fn inputs(&self, text: &str) -> Result<Vec<Vec<f32>>, ReadingError> {
        Ok(match &self.form {
            Form::Windows(cutter) => cutter.cut(text).into_inputs(),
            Form::Vectors(vectors) => vec![vectors.of(text)?],
        })
    }

    /// A text in windows of words, to be asked for its entities; none where the plan reads vectors.
    pub fn windows(&self, text: &str) -> Option<Windows> {
        match &self.form {
            Form::Windows(cutter) => Some(cutter.cut(text)),
            Form::Vectors(_) => None,
        }
    }

    /// The entities that the network's answers to a text's windows say, by kind.
    pub fn mentions(&self, windows: &Windows, outputs: &[f32]) -> Vec<Mention> {
        tags::mentions(windows, outputs, &self.classes)
    }

    /// The pairs of a note's entities between which the plan looks for relations; of a note with very many as
    /// many as fit into memory.
    pub fn candidates(&self, note: &Note) -> Vec<Candidate> {
        let mut candidates = match &self.pair {
            Some(pair) => pairs::candidates(note, pair),
            None => Vec::new(),
        };
        candidates.truncate((FLOATS / self.form.length().max(1)).max(1));
        candidates
    }

    /// Pairs of a note as what the network takes, in their order, each made when it is asked for.
    pub fn pair_inputs<'a>(
        &'a self,
        note: &'a Note,
        candidates: &'a [Candidate],
    ) -> Box<dyn Iterator<Item = Vec<f32>> + 'a> {
        let pairs = candidates.iter();
        match &self.form {
            Form::Windows(cutter) => {
                let windows = cutter.cut(&note.text);
                Box::new(pairs.map(move |pair| windows.marked(pair.nearest(note))))
            }
            Form::Vectors(vectors) => Box::new(pairs.map(|pair| vectors.of_pair(note, pair))),
        }
    }

    /// The classes of the plan: of notes or relations, or the kinds of entities.
    pub fn classes(&self) -> &[String] {
        &self.classes
    }

    /// The class that says that there is no relation.
    fn no_relation(&self) -> &str {
        self.classes.first().map_or("", String::as_str)
    }

    fn class(&self, label: &str) -> Result<usize, ReadingError> {
        let class = self.classes.iter().position(|class| class == label);
        class.ok_or_else(|| ReadingError::NoClass {
            label: label.to_owned(),
            classes: self.classes.join(", "),
        })
    }
}

#[cfg(test)]
mod tests;

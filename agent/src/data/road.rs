//! The road from a record's content to what a plan's network takes and should answer.

use std::{borrow::Cow, fmt, path::Path};

use consilium_models::{
    imaging::Preprocess,
    network::Target,
    text::{Example, Reading, ReadingError},
};
use consilium_proto::{Digest, Plan, plan::Task};

use super::{DataError, Fault, notes::Deidentify, records::Content, table::Inputs};

/// The road of one plan.
pub(crate) struct Road {
    way: Way,
    classes: Vec<String>,
    is_numbered: bool,
}

enum Way {
    Image(Preprocess),
    Table(Inputs),
    Notes {
        reading: Reading,
        deidentify: Option<Deidentify>,
    },
}

/// What roads need besides plan and records.
#[derive(Default)]
pub(crate) struct Means<'a> {
    /// Folder of the public encoder that some plans ask for.
    pub(crate) encoder: Option<&'a Path>,
    /// Takes out of notes who they are about; none where they are public or declared free of it.
    pub(crate) deidentify: Option<Deidentify>,
    /// Whether labels may be positions in the plan's list of classes.
    pub(crate) is_numbered: bool,
}

impl Road {
    /// # Errors
    /// Data of another kind than the plan's task, a column that is not there, an encoder that is not.
    pub(crate) fn of<'a>(
        plan: &Plan,
        mut contents: impl Iterator<Item = &'a Content>,
        means: Means,
    ) -> Result<Self, DataError> {
        let first = contents.next();
        let wanted = match (plan.task, &plan.text) {
            (Task::ImageClassification | Task::ImageRegression, _) => "images",
            (_, Some(_)) => "notes",
            (_, None) => "a table",
        };
        let way = match (first, &plan.image, &plan.table) {
            (Some(Content::Row(row)), _, Some(table)) if wanted == "a table" => {
                Way::Table(Inputs::find(&row.header, table)?)
            }
            (Some(Content::Note(_)), ..) if wanted == "notes" => Way::Notes {
                reading: Reading::from_plan(plan, means.encoder).map_err(unplaced)?,
                deidentify: means.deidentify,
            },
            (Some(Content::File(_) | Content::Pixels(_)) | None, Some(image), _)
                if wanted == "images" =>
            {
                Way::Image(Preprocess::from_plan(image))
            }
            (first, ..) => {
                let found = first.map_or("nothing", Content::kind);
                return Err(DataError::OtherKind { wanted, found });
            }
        };
        Ok(Self {
            way,
            classes: plan.classes.clone(),
            is_numbered: means.is_numbered,
        })
    }

    /// Whether a record makes more than one example.
    pub(crate) fn makes_several(&self) -> bool {
        matches!(self.way, Way::Notes { .. })
    }

    /// What a network should answer for a record of which there is one example.
    ///
    /// # Errors
    /// A label that is no class of the plan, or no number.
    pub(crate) fn check_label(
        &self,
        label: &str,
        place: &impl fmt::Display,
    ) -> Result<(), DataError> {
        match self.way {
            Way::Notes { .. } => Ok(()),
            Way::Image(_) | Way::Table(_) => {
                target(label, &self.classes, self.is_numbered, place).map(|_| ())
            }
        }
    }

    /// Everything that may be drawn of a record, with the digest of what it was made of. `patient` names whose
    /// it is.
    ///
    /// # Errors
    /// A record that cannot be read, a label that is no class of the plan.
    pub(crate) fn examples(
        &self,
        content: &Content,
        label: &str,
        patient: &str,
        place: &dyn fmt::Display,
    ) -> Result<(Vec<Example>, Digest), DataError> {
        let single = |input, digest| {
            let target = target(label, &self.classes, self.is_numbered, &place)?;
            Ok((vec![Example { input, target }], digest))
        };
        match (&self.way, content) {
            (Way::Table(inputs), Content::Row(row)) => single(inputs.prepare(row)?, row.digest()),
            (Way::Image(preprocess), Content::File(_) | Content::Pixels(_)) => {
                let looked = content.look().map_err(|reason| {
                    let place = place.to_string();
                    DataError::Faulty(vec![Fault::Unreadable { place, reason }])
                })?;
                single(preprocess.prepare(&looked.opened.picture), looked.digest)
            }
            (
                Way::Notes {
                    reading,
                    deidentify,
                },
                Content::Note(content),
            ) => {
                let note = match deidentify {
                    Some(deidentify) => deidentify.note(content.note(), patient),
                    None => Cow::Borrowed(content.note()),
                };
                let note = match note.label.as_deref() {
                    Some(own) if own != label => {
                        let mut note = note.into_owned();
                        note.label = Some(label.to_owned());
                        Cow::Owned(note)
                    }
                    _ => note,
                };
                let examples = reading
                    .examples(&note)
                    .map_err(|source| DataError::Reading {
                        place: format!("{place}: "),
                        source,
                    })?;
                Ok((examples, content.digest()))
            }
            (way, content) => Err(DataError::OtherKind {
                wanted: way.wants(),
                found: content.kind(),
            }),
        }
    }
}

impl Way {
    fn wants(&self) -> &'static str {
        match self {
            Self::Image(_) => "images",
            Self::Table(_) => "a table",
            Self::Notes { .. } => "notes",
        }
    }
}

fn unplaced(source: ReadingError) -> DataError {
    DataError::Reading {
        place: String::new(),
        source,
    }
}

/// What a network should answer for a label: a class of the plan, by name or, where the source
/// numbers its classes, by position; a number where there are no classes.
///
/// # Errors
/// No such class, or no finite number.
pub(super) fn target(
    label: &str,
    classes: &[String],
    is_numbered: bool,
    place: &impl fmt::Display,
) -> Result<Target, DataError> {
    if classes.is_empty() {
        return match label.parse::<f32>() {
            Ok(value) if value.is_finite() => Ok(Target::Value(value)),
            _ => Err(DataError::NoNumber {
                place: place.to_string(),
            }),
        };
    }
    let by_name = classes.iter().position(|class| class == label);
    let by_number = || {
        label
            .parse::<usize>()
            .ok()
            .filter(|&at| is_numbered && at < classes.len())
    };
    let class = by_name
        .or_else(by_number)
        .ok_or_else(|| DataError::NoClass {
            place: place.to_string(),
            label: label.to_owned(),
            classes: classes.join(", "),
        })?;
    Ok(Target::Class(class))
}

//! Labelled records for whoever holds them openly: the researcher's public data.

use std::fmt;

use consilium_models::{imaging::Preprocess, network::Target};
use consilium_proto::{Digest, Plan, plan::Task};

use super::{
    DataError, Fault, LabelMap, Place, Source, list,
    records::{Content, Record},
    table::Inputs,
};

/// Records of a source with what a network should answer for each.
#[derive(Debug)]
pub struct LabelledSet {
    records: Vec<Labelled>,
}

/// One record and its answer.
pub struct Labelled {
    content: Content,
    target: Target,
    place: Place,
}

/// Written by hand: content and answer are patient data.
impl fmt::Debug for Labelled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Labelled({})", self.place)
    }
}

/// Reads a source without registering it. Classes are those of the plan, in its order; none mean
/// that labels are numbers. The labels of an npz file are positions in the list of classes.
///
/// # Errors
/// An unreadable source, labels without image or images without label, a label that is no class.
pub fn read(
    source: &Source,
    classes: &[String],
    label_map: Option<&LabelMap>,
) -> Result<LabelledSet, DataError> {
    let found = list(source)?;
    found.check(false)?;
    let labelled = |record: Record| {
        let label = map_label(&record, label_map)?;
        let target = target(&label, classes, source.numbers_classes(), &record.place)?;
        Ok(Labelled {
            content: record.content,
            target,
            place: record.place,
        })
    };
    let records = found
        .records
        .into_iter()
        .map(labelled)
        .collect::<Result<_, DataError>>()?;
    Ok(LabelledSet { records })
}

impl LabelledSet {
    /// Number of records.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// What a network should answer for each record.
    pub fn targets(&self) -> impl Iterator<Item = Target> {
        self.records.iter().map(|record| record.target)
    }

    /// Each record as it enters the plan's network, with what that should answer.
    ///
    /// # Errors
    /// Data of another kind than the plan's task, a column that is not there; for a record, what
    /// keeps it from being read.
    pub fn examples(
        &self,
        plan: &Plan,
    ) -> Result<impl Iterator<Item = Result<(Vec<f32>, Target), DataError>>, DataError> {
        let road = Road::of(plan, self.records.iter().map(|record| &record.content))?;
        Ok(self.records.iter().map(move |record| {
            let (input, _) = road.prepare(&record.content, &record.place)?;
            Ok((input, record.target))
        }))
    }
}

/// The road from a record's content to the numbers that enter a plan's network.
pub(crate) enum Road {
    Image(Preprocess),
    Table(Inputs),
}

impl Road {
    /// # Errors
    /// Data of another kind than the plan's task, a column that is not there.
    pub(crate) fn of<'a>(
        plan: &Plan,
        mut contents: impl Iterator<Item = &'a Content>,
    ) -> Result<Self, DataError> {
        let first = contents.next();
        match (
            plan.task,
            &plan.image,
            &plan.table,
            first.and_then(Content::row),
        ) {
            (Task::TabularClassification, _, Some(table), Some(row)) => {
                Ok(Self::Table(Inputs::find(&row.header, table)?))
            }
            (Task::ImageClassification | Task::ImageRegression, Some(image), _, None) => {
                Ok(Self::Image(Preprocess::from_plan(image)))
            }
            (Task::TabularClassification, ..) => Err(DataError::OtherKind {
                wanted: "a table",
                found: "images",
            }),
            _ => Err(DataError::OtherKind {
                wanted: "images",
                found: "a table",
            }),
        }
    }

    /// The numbers that enter the network, and the digest of what they were made of.
    ///
    /// # Errors
    /// A record that cannot be read.
    pub(crate) fn prepare(
        &self,
        content: &Content,
        place: &dyn fmt::Display,
    ) -> Result<(Vec<f32>, Digest), DataError> {
        match (self, content.row()) {
            (Self::Table(inputs), Some(row)) => Ok((inputs.prepare(row)?, row.digest())),
            (Self::Image(preprocess), None) => {
                let (picture, digest) = content.picture().map_err(|reason| {
                    let place = place.to_string();
                    DataError::Faulty(vec![Fault::Unreadable { place, reason }])
                })?;
                Ok((preprocess.prepare(&picture), digest))
            }
            (Self::Table(_), None) => Err(DataError::OtherKind {
                wanted: "a table",
                found: "images",
            }),
            (Self::Image(_), Some(_)) => Err(DataError::OtherKind {
                wanted: "images",
                found: "a table",
            }),
        }
    }
}

/// A record's label by the map, or as it stands.
pub(super) fn map_label(record: &Record, map: Option<&LabelMap>) -> Result<String, DataError> {
    let Some(map) = map else {
        return Ok(record.label.clone());
    };
    let class = map.class(&record.label).map(str::to_owned);
    class.ok_or_else(|| DataError::Unmapped {
        place: record.place.clone(),
        label: record.label.clone(),
        map: map.file().to_owned(),
    })
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

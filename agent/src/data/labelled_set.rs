//! Labelled records for whoever holds them openly: the researcher's public data.

use std::{fmt, path::Path};

use consilium_models::text::{Example, Note};
use consilium_proto::Plan;

use super::{
    DataError, LabelMap, Place, Source, list,
    records::{Content, Record},
    road::{Means, Road, target},
};

/// Records of a source with what a network should answer for each.
#[derive(Debug)]
pub struct LabelledSet {
    records: Vec<Labelled>,
    is_numbered: bool,
}

/// One record and its label.
pub struct Labelled {
    content: Content,
    label: String,
    place: Place,
}

/// Written by hand: content and label are patient data.
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
    let is_numbered = source.numbers_classes();
    let labelled = |record: Record| {
        let label = match &record.content {
            // What notes must say depends on the task.
            Content::Note(_) if record.label.is_empty() => String::new(),
            Content::Note(_) => map_label(&record, label_map)?,
            _ => {
                let label = map_label(&record, label_map)?;
                target(&label, classes, is_numbered, &record.place)?;
                label
            }
        };
        Ok(Labelled {
            content: record.content,
            label,
            place: record.place,
        })
    };
    let records = found
        .records
        .into_iter()
        .map(labelled)
        .collect::<Result<_, DataError>>()?;
    Ok(LabelledSet {
        records,
        is_numbered,
    })
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

    /// The notes, where the records are some.
    pub fn notes(&self) -> impl Iterator<Item = &Note> {
        self.records
            .iter()
            .filter_map(|record| match &record.content {
                Content::Note(content) => Some(content.note()),
                _ => None,
            })
    }

    /// What the plan's network takes of each record, and what it should answer: one example of an image or a
    /// row, all windows or pairs of a note. `encoder` is the folder of the public encoder that some plans
    /// ask for.
    ///
    /// # Errors
    /// Data of another kind than the plan's task, a column that is not there; for a record, what
    /// keeps it from being read.
    pub fn examples(
        &self,
        plan: &Plan,
        encoder: Option<&Path>,
    ) -> Result<impl Iterator<Item = Result<Vec<Example>, DataError>>, DataError> {
        let means = Means {
            encoder,
            is_numbered: self.is_numbered,
            deidentify: None,
        };
        let road = Road::of(
            plan,
            self.records.iter().map(|record| &record.content),
            means,
        )?;
        Ok(self.records.iter().map(move |record| {
            let Labelled {
                content,
                label,
                place,
            } = record;
            let (examples, _) = road.examples(content, label, "", place)?;
            Ok(examples)
        }))
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

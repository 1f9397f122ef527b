//! What a registered data set consists of, as it is stored: sealed, patients by pseudonym.

use std::{collections::HashMap, path::PathBuf};

use consilium_proto::Digest;
use serde::{Deserialize, Serialize};

use super::{
    DataError, Source, list,
    records::{Content, Record},
};

/// The records of a data set in a fixed order.
#[derive(Serialize, Deserialize)]
pub(crate) struct Manifest {
    pub(crate) source: Source,
    /// Whether every picture said itself whose it is.
    #[serde(default)]
    pub(crate) pictures_name_patients: bool,
    pub(crate) records: Vec<Listed>,
}

/// One record.
#[derive(Serialize, Deserialize)]
pub(crate) struct Listed {
    pub(crate) place: Located,
    /// After the label map.
    pub(crate) label: String,
    /// Pseudonym.
    pub(crate) patient: String,
    /// Of the image's file or pixels, or of the row: what was seen at registration.
    pub(crate) digest: Digest,
}

/// Where a record lies in its source.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Located {
    /// A file of its own.
    File(PathBuf),
    /// In the source: what is unique there (`train/7`, a line, or a file of a folder).
    Within(String),
}

impl Located {
    pub(super) fn of(record: &Record) -> Self {
        match &record.content {
            Content::File(file) => Self::File(file.clone()),
            Content::Pixels(_) => Self::Within(record.patient.clone()),
            Content::Row(row) => Self::Within(format!("line {}", row.line)),
            // Not by the note's own name, which may be its patient's.
            Content::Note(content) => Self::Within(content.place()),
        }
    }
}

impl std::fmt::Display for Located {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File(file) => write!(f, "{}", file.display()),
            Self::Within(part) => f.write_str(part),
        }
    }
}

/// Written by hand: everything in it is patient data.
impl std::fmt::Debug for Manifest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "Manifest({} records of {})",
            self.records.len(),
            self.source
        )
    }
}

impl Manifest {
    /// Whether it is known whose each record is.
    pub(crate) fn names_patients(&self) -> bool {
        self.source.names_patients() || self.pictures_name_patients
    }

    /// The content of each record, in order. Images in files of their own are not opened here.
    ///
    /// # Errors
    /// The source cannot be read, or a record is no longer in it.
    pub(crate) fn contents(&self) -> Result<Vec<Content>, DataError> {
        let mut within = match self.source {
            Source::Npz { .. } | Source::Table { .. } | Source::Notes { .. } => {
                self.listed_within()?
            }
            Source::Labelled { .. } | Source::ClassFolders { .. } => HashMap::new(),
        };
        let content = |listed: &Listed| {
            let content = match &listed.place {
                Located::File(file) => Some(Content::File(file.clone())),
                Located::Within(_) => within.remove(&listed.place),
            };
            content.ok_or_else(|| self.changed(listed))
        };
        self.records.iter().map(content).collect()
    }

    /// Says that a record is not what it was.
    pub(crate) fn changed(&self, listed: &Listed) -> DataError {
        let place = self.place(listed);
        DataError::Changed { place }
    }

    /// Where a record lies, for people.
    pub(crate) fn place(&self, listed: &Listed) -> String {
        match &listed.place {
            Located::File(file) => file.display().to_string(),
            Located::Within(part) => format!("{}, {part}", self.source),
        }
    }

    fn listed_within(&self) -> Result<HashMap<Located, Content>, DataError> {
        let records = list(&self.source)?.records;
        Ok(records
            .into_iter()
            .map(|record| (Located::of(&record), record.content))
            .collect())
    }
}

//! A hospital's data sets: registered, never copied.
//!
//! [`register`] reads a source once, reports what it found and stores a sealed manifest: paths,
//! labels and pseudonyms. Training reads the images from where they lie and refuses one that has
//! changed since. [`check`] looks through one for what should be corrected. [`read`] gives the same records to whoever holds public data and no agent.

mod check;
mod exclude;
mod images;
mod label_balance;
mod label_map;
mod labelled_set;
mod lease;
mod manifest;
mod notes;
mod npz;
pub mod picture_file;
mod records;
mod register;
mod report;
mod road;
mod source;
mod spreadsheet;
mod table;
#[cfg(test)]
mod tests;
mod training_set;

use std::{
    io,
    path::{Path, PathBuf},
};

use consilium_models::text::ReadingError;
use consilium_privacy::deidentify::DictionaryError;
use consilium_proto::ErrorCode;

pub use self::{
    check::{CheckError, check},
    exclude::{ExcludeError, Exclusion, UsedBy, exclude},
    label_balance::{ClassShare, LabelBalance, LabelBalanceError, release_labels},
    label_map::LabelMap,
    labelled_set::{Labelled, LabelledSet, read},
    lease::LeaseError,
    notes::{Fields, Lengths, NotesError, Overview, ReadNote, describe, read as read_notes},
    records::Fault,
    register::{PublicSize, RegisterError, Registration, register},
    report::{ColumnReport, Report},
    source::{LabelColumns, Part, Place, Source},
};
pub(crate) use self::{
    manifest::Manifest,
    notes::Deidentify,
    records::Found,
    road::Means,
    training_set::{Exclusions, TrainingSet},
};

/// Faults that a message names before it only counts.
const NAMED: usize = 10;

/// Why a source cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// A file or folder cannot be read.
    #[error("{} cannot be read: {source}", file.display())]
    File {
        /// Which one.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A CSV has no such column.
    #[error(
        "{} has no column {wanted:?}; its columns, separated by commas, are: {found}",
        file.display()
    )]
    Column {
        /// The file.
        file: PathBuf,
        /// The column looked for.
        wanted: String,
        /// The columns that are there.
        found: String,
    },
    /// A line of a CSV holds what it must not.
    #[error("{}, line {line}: {reason}", file.display())]
    Line {
        /// The file.
        file: PathBuf,
        /// Counted from 1.
        line: u64,
        /// What is wrong and what to do.
        reason: String,
    },
    /// An npz file is not of the form of MedMNIST.
    #[error("{}: {reason}", file.display())]
    Npz {
        /// The file.
        file: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// Notes, or their marks, are not as they must be.
    #[error(transparent)]
    Notes(#[from] NotesError),
    /// Notes cannot be read as the plan asks.
    #[error("{place}{source}")]
    Reading {
        /// Where, followed by a colon; empty where it is no single note's fault.
        place: String,
        /// Why.
        source: ReadingError,
    },
    /// A site's list of what identifies cannot be used.
    #[error("the lists of `identifiers`: {0}")]
    Identifiers(#[from] DictionaryError),
    /// A label stands for no class.
    #[error("{place}: label {label:?} is not mapped by {map}; add a line for it")]
    Unmapped {
        /// Where the label stands.
        place: Place,
        /// The label.
        label: String,
        /// The file that should map it.
        map: String,
    },
    /// A label is no class of the plan.
    #[error(
        "{place}: label {label:?} is none of the plan's classes ({classes}); \
         map it with a label map"
    )]
    NoClass {
        /// Where the label stands.
        place: String,
        /// The label.
        label: String,
        /// The classes that the plan lists.
        classes: String,
    },
    /// A label that should be a number is none.
    #[error("{place}: the label must be a finite number")]
    NoNumber {
        /// Where the label stands.
        place: String,
    },
    /// Labels without image, images without label, unreadable images.
    #[error("{}", named(.0))]
    Faulty(Vec<Fault>),
    /// Nothing that could be used is there.
    #[error("{0} holds no record that could be used")]
    Empty(String),
    /// The data is of another kind than the plan's task.
    #[error("the plan's task needs {wanted}, the data set holds {found}")]
    OtherKind {
        /// What the task needs.
        wanted: &'static str,
        /// What is there.
        found: &'static str,
    },
    /// A file is not what it was when it was registered.
    #[error("{place} has changed since it was registered; register the data set again")]
    Changed {
        /// Which one.
        place: String,
    },
    /// The stored manifest cannot be opened.
    #[error("the stored manifest of data set {0} cannot be opened with this key")]
    Manifest(String),
}

fn named(faults: &[Fault]) -> String {
    let mut text: Vec<String> = faults.iter().take(NAMED).map(ToString::to_string).collect();
    if faults.len() > NAMED {
        text.push(format!("and {} more", faults.len() - NAMED));
    }
    format!("{}; correct them or skip them by name", text.join("; "))
}

impl DataError {
    /// What the caller should do about it.
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::File { source, .. } | Self::Notes(NotesError::File { source, .. })
                if source.kind() == io::ErrorKind::NotFound =>
            {
                ErrorCode::Missing
            }
            Self::File { .. } | Self::Notes(NotesError::File { .. }) => ErrorCode::Unavailable,
            Self::Changed { .. } => ErrorCode::Precondition,
            Self::Manifest(_) => ErrorCode::Internal,
            _ => ErrorCode::Invalid,
        }
    }

    fn file(file: &Path) -> impl FnOnce(io::Error) -> Self {
        let file = file.to_owned();
        move |source| Self::File { file, source }
    }

    fn line(file: &Path, line: u64, reason: impl ToString) -> Self {
        Self::Line {
            file: file.to_owned(),
            line,
            reason: reason.to_string(),
        }
    }

    fn csv(file: &Path, line: u64, error: &csv::Error) -> Self {
        let reason = match error.kind() {
            csv::ErrorKind::UnequalLengths {
                expected_len, len, ..
            } => {
                format!("{len} cells where the header has {expected_len}")
            }
            csv::ErrorKind::Utf8 { .. } => "text is not UTF-8; save the file as UTF-8".into(),
            _ => error.to_string(),
        };
        Self::line(file, line, reason)
    }
}

/// Lists what a source holds, in a fixed order.
pub(crate) fn list(source: &Source) -> Result<Found, DataError> {
    let found = match source {
        Source::Labelled {
            images,
            labels,
            columns,
        } => images::labelled(images, labels, columns)?,
        Source::ClassFolders { folder } => images::in_class_folders(folder)?,
        Source::Npz {
            file,
            part,
            indexes,
        } => npz::read(file, *part, indexes.as_deref())?,
        Source::Table {
            file,
            target,
            patient,
        } => table::read(file, target, patient.as_deref())?,
        Source::Notes {
            path,
            annotations,
            fields,
            ..
        } => notes::list(path, annotations.as_deref(), fields)?,
    };
    if found.records.is_empty() && found.faults.is_empty() {
        return Err(DataError::Empty(source.to_string()));
    }
    Ok(found)
}

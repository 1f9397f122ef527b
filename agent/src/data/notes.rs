//! Clinical notes as hospitals keep them, with what people marked in them.
//!
//! The form is found from the name, and of a `.txt` file from its first line:
//!
//! | what is there | form | one note for each |
//! |---|---|---|
//! | a folder | `.txt` files, marked in brat's `.ann` files beside them or in another folder | file |
//! | `.jsonl`, `.ndjson` | JSON lines, see [`Fields`] | line |
//! | `.json`, or JSON lines of resources | a FHIR R4 chart, see [`crate::fhir::notes`] | document or report |
//! | `.csv` | CSV with a header, see [`Fields`] | row |
//! | `.conll`, `.iob`, `.bio`, `.tsv` | CoNLL: token first, BIO tag last | document, or sentence where no line opens a document |
//! | `.pubtator`, or `.txt` that begins with `ID\|t\|` | PubTator | title with abstract |
//! | any other `.txt` | one note, with its `.ann` beside or given | file |
//!
//! All text is UTF-8, with or without a byte-order mark. Offsets in files count characters, those in
//! a [`Note`] bytes. Where a file repeats the text of a mention, the two must agree: an offset
//! counted in other units is refused instead of marking something else. Mentions may overlap.
//!
//! Sizes are bounded before anything is read. No error holds text of a note, a label or an
//! identifier: it names file and line.

mod brat;
mod charts;
mod conll;
mod content;
mod draft;
mod encoding;
mod file;
mod folder;
mod json_lines;
mod overview;
mod pubtator;
mod rows;
#[cfg(test)]
mod tests;

use std::{
    collections::HashMap,
    fmt, io,
    path::{Path, PathBuf},
};

use consilium_models::text::Note;
use serde::{Deserialize, Serialize};

pub(crate) use self::content::{Deidentify, NoteContent};
pub use self::overview::{Lengths, Overview, describe};
use super::{
    Fault, Found, Place,
    records::{Content, Record},
};
use crate::fhir::FhirError;

/// Largest file that is read, in bytes; of a folder, all its files together.
const FILE_LIMIT: u64 = 1 << 30;
/// Largest note that is read, in bytes.
const NOTE_LIMIT: usize = 16 << 20;

/// A note and where it was found.
#[derive(Clone, PartialEq, Eq)]
pub struct ReadNote {
    /// The note.
    pub note: Note,
    /// File, and line where the file holds more than one note.
    pub place: Place,
    /// Mentions that the file lists without offsets, because its annotators did not find them in the
    /// text. They are not among the note's entities.
    pub unplaced: usize,
}

/// Written by hand: a note is patient data.
impl fmt::Debug for ReadNote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ReadNote({}, {:?})", self.place, self.note)
    }
}

/// Which fields of JSON lines, or columns of a CSV, mean what. Other fields are passed over.
///
/// A field that is named must be there: text, id and patient in every record, the others in one at
/// least. Of those not named, the usual one is taken where it is there.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Fields {
    /// The text. Of several, in this order, each begins a line of the note, and offsets count from
    /// the start of the first. Usual: the first of `text`, `note` and `question` that is there.
    pub text: Vec<String>,
    /// Names the note. Usual: `id`; without one, the line does.
    pub id: Option<String>,
    /// Whose note it is. Usual: `patient`. All records have it, or none.
    pub patient: Option<String>,
    /// Class of the whole note. Usual: `label`.
    pub label: Option<String>,
    /// JSON lines only: a list of `{start, end, kind or type or label}`, and where known `code`,
    /// `id` and, to be checked, `text` or `value`. Usual: `entities`.
    pub entities: Option<String>,
    /// JSON lines only: a list of `{kind or type or label, from, to}`. A side is the place of an
    /// entity in the list, counted from 0, or in quotes its `id`, or else a `code`. Usual:
    /// `relations`.
    pub relations: Option<String>,
}

/// Field that usually says whose a note is.
pub(super) const USUAL_PATIENT: &str = "patient";
/// Fields that usually hold the text, the likeliest first.
const USUAL_TEXT: [&str; 3] = ["text", "note", "question"];

/// Why notes cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum NotesError {
    /// A file or folder cannot be read.
    #[error("{} cannot be read: {source}", file.display())]
    File {
        /// Which one.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file or folder as a whole is not what it must be.
    #[error("{}: {reason}", file.display())]
    Unsound {
        /// Which one.
        file: PathBuf,
        /// What is wrong and what to do.
        reason: String,
    },
    /// A line of a file holds what it must not.
    #[error("{}, line {line}: {reason}", file.display())]
    Line {
        /// The file.
        file: PathBuf,
        /// Counted from 1.
        line: u64,
        /// What is wrong and what to do.
        reason: String,
    },
    /// A FHIR chart is not as R4 says.
    #[error(transparent)]
    Chart(#[from] FhirError),
}

impl NotesError {
    fn file(file: &Path) -> impl FnOnce(io::Error) -> Self {
        let file = file.to_owned();
        move |source| Self::File { file, source }
    }

    fn unsound(file: &Path, reason: impl Into<String>) -> Self {
        Self::Unsound {
            file: file.to_owned(),
            reason: reason.into(),
        }
    }

    fn line(file: &Path, line: u64, reason: impl Into<String>) -> Self {
        Self::Line {
            file: file.to_owned(),
            line,
            reason: reason.into(),
        }
    }
}

/// Reads all notes of a file or folder, in a fixed order, each named differently.
///
/// `annotations` is where the `.ann` files of a folder lie, or the `.ann` file of a single `.txt`.
///
/// # Errors
/// The first thing that is wrong, by file and line. Nothing is passed over in silence.
pub fn read(
    path: &Path,
    annotations: Option<&Path>,
    fields: &Fields,
) -> Result<Vec<ReadNote>, NotesError> {
    let (notes, faults) = found(path, annotations, fields)?;
    match faults.first() {
        Some(fault) => Err(NotesError::unsound(path, fault.to_string())),
        None => Ok(notes),
    }
}

/// All notes, and what is no note but should be one.
fn found(
    path: &Path,
    annotations: Option<&Path>,
    fields: &Fields,
) -> Result<(Vec<ReadNote>, Vec<Fault>), NotesError> {
    let metadata = std::fs::metadata(path).map_err(NotesError::file(path))?;
    if metadata.is_dir() {
        return Ok((folder::read(path, annotations)?, Vec::new()));
    }
    let form = Form::of_name(path)?;
    let text = file::read(path, FILE_LIMIT)?;
    let mut faults = Vec::new();
    let notes = match form {
        Form::Text if !pubtator::begins(&text) => vec![folder::note(path, text, annotations)?],
        _ if annotations.is_some() => {
            let reason = "marks in files of their own go with .txt files; this form holds them";
            return Err(NotesError::unsound(path, reason));
        }
        Form::Text | Form::PubTator => pubtator::read(path, &text)?,
        Form::JsonLines if !charts::begins(&text) => json_lines::read(path, &text, fields)?,
        Form::Chart | Form::JsonLines => {
            let notes;
            (notes, faults) = charts::read(path, &text)?;
            notes
        }
        Form::Rows => rows::read(path, &text, fields)?,
        Form::Conll => conll::read(path, &text)?,
    };
    if notes.is_empty() {
        return Err(NotesError::unsound(path, "the file holds no note"));
    }
    Ok((notes, faults))
}

/// The notes of a source as records. One without a patient is its own.
pub(super) fn list(
    path: &Path,
    annotations: Option<&Path>,
    fields: &Fields,
) -> Result<Found, NotesError> {
    let record = |read: ReadNote| Record {
        label: read.note.label.clone().unwrap_or_default(),
        patient: match &read.note.patient {
            Some(patient) => patient.clone(),
            None => read.note.id.clone(),
        },
        place: read.place.clone(),
        content: Content::Note(NoteContent::new(read)),
    };
    let (notes, faults) = found(path, annotations, fields)?;
    Ok(Found {
        records: notes.into_iter().map(record).collect(),
        faults,
    })
}

/// A form in which notes lie in one file.
#[derive(Clone, Copy)]
enum Form {
    Text,
    Chart,
    JsonLines,
    Rows,
    Conll,
    PubTator,
}

impl Form {
    fn of_name(file: &Path) -> Result<Self, NotesError> {
        match file::extension(file).as_str() {
            "txt" => Ok(Self::Text),
            "json" => Ok(Self::Chart),
            "jsonl" | "ndjson" => Ok(Self::JsonLines),
            "csv" => Ok(Self::Rows),
            "conll" | "iob" | "bio" | "tsv" => Ok(Self::Conll),
            "pubtator" => Ok(Self::PubTator),
            _ => Err(NotesError::unsound(
                file,
                "notes are read from a folder of .txt, and from .txt, .jsonl, .json (FHIR), .csv, \
                 .conll and .pubtator files; name the file by its form",
            )),
        }
    }
}

/// Names of notes, to refuse one that is there twice.
#[derive(Default)]
struct Names(HashMap<String, u64>);

impl Names {
    /// Takes a name, or says on which line it was taken.
    fn take(&mut self, name: &str, line: u64) -> Result<(), String> {
        match self.0.insert(name.to_owned(), line) {
            None => Ok(()),
            Some(first) => Err(format!(
                "the id is that of the note on line {first}; each note needs its own"
            )),
        }
    }
}

/// Whose the notes are: said of all of them, or of none.
#[derive(Default)]
struct Patients(Option<bool>);

impl Patients {
    /// Takes what one note says.
    fn take(&mut self, is_named: bool) -> Result<(), String> {
        if *self.0.get_or_insert(is_named) == is_named {
            return Ok(());
        }
        Err("some notes name their patient, others do not; name it for all or for none".into())
    }
}

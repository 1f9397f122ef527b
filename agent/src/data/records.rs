//! Records as they were found: what is in them, what they are called, whose they are.

use std::{fmt, path::PathBuf, sync::Arc};

use consilium_models::imaging::{PIXEL_LIMIT, Picture};
use consilium_proto::Digest;

use super::{
    DataError, Place,
    notes::NoteContent,
    picture_file::{self, Opened},
    table::Header,
};

/// One record of a source, not yet decoded.
pub(crate) struct Record {
    pub(crate) content: Content,
    /// As the hospital writes it.
    pub(crate) label: String,
    /// Whose it is, as the hospital writes it; never stored, see the pseudonyms.
    pub(crate) patient: String,
    pub(crate) place: Place,
}

/// Written by hand: everything in a record is patient data but its place.
impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Record({})", self.place)
    }
}

/// What a record is made of.
#[derive(Clone)]
pub(crate) enum Content {
    /// An image file.
    File(PathBuf),
    /// Bytes of an array.
    Pixels(Pixels),
    /// A row of a table.
    Row(TableRow),
    /// A clinical note.
    Note(NoteContent),
}

/// A picture, and the digest of what it was made of.
pub(crate) struct Looked {
    pub(crate) opened: Opened,
    pub(crate) digest: Digest,
}

/// One image within the bytes of an array.
#[derive(Clone)]
pub(crate) struct Pixels {
    pub(crate) width: usize,
    pub(crate) height: usize,
    pub(crate) channels: usize,
    pub(crate) all: Arc<[u8]>,
    pub(crate) start: usize,
}

/// One row without its label and patient.
#[derive(Clone)]
pub(crate) struct TableRow {
    pub(crate) header: Arc<Header>,
    pub(crate) line: u64,
    pub(crate) cells: Vec<String>,
}

impl Pixels {
    fn bytes(&self) -> &[u8] {
        &self.all[self.start..self.start + self.width * self.height * self.channels]
    }

    fn picture(&self) -> Result<Picture, String> {
        Picture::from_bytes(self.width, self.height, self.channels, self.bytes())
            .map_err(|error| error.to_string())
    }
}

impl Content {
    /// Decodes an image and digests what it was made of. Rows of tables are no pictures.
    ///
    /// # Errors
    /// What is wrong with it, without its name.
    pub(crate) fn look(&self) -> Result<Looked, String> {
        match self {
            Self::File(file) => {
                let bytes = std::fs::read(file).map_err(|error| error.to_string())?;
                let opened =
                    picture_file::open(&bytes, PIXEL_LIMIT).map_err(|error| explain(&error))?;
                Ok(Looked {
                    opened,
                    digest: Digest::plain(&bytes),
                })
            }
            Self::Pixels(pixels) => Ok(Looked {
                opened: Opened::plain(pixels.picture()?),
                digest: Digest::plain(pixels.bytes()),
            }),
            Self::Row(_) => Err("a row of a table is no picture".into()),
            Self::Note(_) => Err("a note is no picture".into()),
        }
    }

    /// The row of a table.
    pub(crate) fn row(&self) -> Option<&TableRow> {
        match self {
            Self::Row(row) => Some(row),
            Self::File(_) | Self::Pixels(_) | Self::Note(_) => None,
        }
    }

    /// Whether it says itself whose it is.
    pub(crate) fn names_patient(&self) -> bool {
        matches!(self, Self::Note(content) if content.note().patient.is_some())
    }

    /// What it is, for people.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::File(_) | Self::Pixels(_) => "images",
            Self::Row(_) => "a table",
            Self::Note(_) => "notes",
        }
    }
}

impl TableRow {
    /// Digest of its cells.
    pub(crate) fn digest(&self) -> Digest {
        // Lengths go first, so that no cell can shift a boundary.
        let cells = self.cells.iter();
        let text: String = cells
            .map(|cell| format!("{}:{cell},", cell.len()))
            .collect();
        Digest::plain(text.as_bytes())
    }
}

/// A cause with its own causes, in one line.
pub(crate) fn explain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

/// Something of a source that cannot be used.
#[derive(Clone, PartialEq, Eq)]
pub enum Fault {
    /// A label names an image that is not there.
    LabelWithoutImage {
        /// Where the label stands.
        place: Place,
        /// The image, as it is named there.
        image: String,
    },
    /// An image that no label names.
    ImageWithoutLabel(PathBuf),
    /// An image that cannot be decoded.
    Unreadable {
        /// Which one.
        place: String,
        /// What is wrong with it.
        reason: String,
    },
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LabelWithoutImage { place, image } => {
                write!(f, "{place}: label without image: {image}")
            }
            Self::ImageWithoutLabel(file) => write!(f, "{}: image without label", file.display()),
            Self::Unreadable { place, reason } => write!(f, "{place}: {reason}"),
        }
    }
}

impl fmt::Debug for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl serde::Serialize for Fault {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// What a source holds: records, and what of it cannot be used.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(crate) records: Vec<Record>,
    pub(crate) faults: Vec<Fault>,
}

impl Found {
    /// Refuses a source with faults, unless they may be skipped.
    ///
    /// # Errors
    /// Names the first faults and says how many there are.
    pub(super) fn check(&self, may_skip: bool) -> Result<(), DataError> {
        if self.faults.is_empty() || may_skip {
            return Ok(());
        }
        Err(DataError::Faulty(self.faults.clone()))
    }
}

//! The forms in which records lie on a disk.

use std::{
    fmt,
    path::{Path, PathBuf},
    str::FromStr,
};

use consilium_proto::OutOfRange;
use serde::{Deserialize, Serialize};

use super::{DataError, Fields, notes::USUAL_PATIENT, records::Record};

/// Where records lie and how to read them. Nothing is copied: images are read from here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "form", rename_all = "kebab-case")]
pub enum Source {
    /// A folder of PNG and JPEG files, and a CSV that labels them.
    Labelled {
        /// Folder to which the paths in the CSV are relative.
        images: PathBuf,
        /// The CSV.
        labels: PathBuf,
        /// Which of its columns mean what.
        columns: LabelColumns,
    },
    /// `<class>/*.png` or `.jpg`: the folder's name is the label.
    ClassFolders {
        /// The folder that holds one folder for each class.
        folder: PathBuf,
    },
    /// A MedMNIST file: `{train,val,test}_images` and `_labels`, bytes.
    Npz {
        /// The file.
        file: PathBuf,
        /// Which of its three parts.
        part: Part,
        /// Only these images of the part, counted from 0. All when absent.
        indexes: Option<Vec<usize>>,
    },
    /// A CSV with one row for each record.
    Table {
        /// The file.
        file: PathBuf,
        /// The column that is the label.
        target: String,
        /// The column that says whose row it is.
        patient: Option<String>,
    },
    /// Clinical notes, and what people marked in them.
    Notes {
        /// A file of notes, or a folder of them.
        path: PathBuf,
        /// Where marks lie that are in files of their own.
        annotations: Option<PathBuf>,
        /// What fields or columns mean.
        fields: Fields,
        /// Whether the steward declared that nothing in them names a patient. Otherwise that is taken out before
        /// anything is trained on them.
        is_deidentified: bool,
    },
}

/// Columns of a CSV of labels.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LabelColumns {
    /// Path of the image, relative to the folder of images. Default: `path`.
    pub path: String,
    /// Its label. Default: `label`.
    pub label: String,
    /// Whose image it is. Without one, each image counts as its own patient.
    pub patient: Option<String>,
}

impl Default for LabelColumns {
    fn default() -> Self {
        Self {
            path: "path".into(),
            label: "label".into(),
            patient: None,
        }
    }
}

/// A part of a published data set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Part {
    /// For training.
    Train,
    /// For choosing between trained models.
    Val,
    /// For the one final score.
    Test,
}

impl Part {
    /// Its name in files and folders.
    pub fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Val => "val",
            Self::Test => "test",
        }
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Part {
    type Err = OutOfRange;
    fn from_str(text: &str) -> Result<Self, OutOfRange> {
        [Self::Train, Self::Val, Self::Test]
            .into_iter()
            .find(|part| part.name() == text)
            .ok_or_else(|| OutOfRange::new("part", "train, val or test", format!("{text:?}")))
    }
}

impl Source {
    /// What a folder or file given without further words holds: an npz file, a folder
    /// `{train,val,test}/<class>/…` of which `part` is meant, or a folder `<class>/…`.
    pub fn detect(path: &Path, part: Part) -> Self {
        if path.is_file() {
            return Self::Npz {
                file: path.to_owned(),
                part,
                indexes: None,
            };
        }
        let inner = path.join(part.name());
        let folder = if inner.is_dir() {
            inner
        } else {
            path.to_owned()
        };
        Self::ClassFolders { folder }
    }

    /// Whether its labels are positions in the plan's list of classes.
    pub(crate) fn numbers_classes(&self) -> bool {
        matches!(self, Self::Npz { .. })
    }

    /// Whether it is made of notes.
    pub(crate) fn holds_notes(&self) -> bool {
        matches!(self, Self::Notes { .. })
    }

    /// Whether some column says whose record each one is.
    pub fn names_patients(&self) -> bool {
        match self {
            Self::Labelled { columns, .. } => columns.patient.is_some(),
            Self::Table { patient, .. } => patient.is_some(),
            Self::Notes { fields, .. } => fields.patient.is_some(),
            Self::ClassFolders { .. } | Self::Npz { .. } => false,
        }
    }

    /// Notes may name their patients without being asked to: the field is noted, and from now on has to be there.
    pub(super) fn name_patients(&mut self, records: &[Record]) {
        if let Self::Notes { fields, .. } = self
            && records.iter().any(|record| record.content.names_patient())
        {
            let usual = || USUAL_PATIENT.to_owned();
            fields.patient.get_or_insert_with(usual);
        }
    }

    /// The same source with paths that hold wherever the agent is started from.
    ///
    /// # Errors
    /// A path that does not exist.
    pub(super) fn absolute(mut self) -> Result<Self, DataError> {
        let paths: Vec<&mut PathBuf> = match &mut self {
            Self::Labelled { images, labels, .. } => vec![images, labels],
            Self::ClassFolders { folder } => vec![folder],
            Self::Npz { file, .. } | Self::Table { file, .. } => vec![file],
            Self::Notes {
                path, annotations, ..
            } => std::iter::once(path).chain(annotations).collect(),
        };
        for path in paths {
            *path = path.canonicalize().map_err(DataError::file(path))?;
        }
        Ok(self)
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Labelled { images, labels, .. } => {
                write!(f, "{} with {}", images.display(), labels.display())
            }
            Self::ClassFolders { folder } => write!(f, "{}", folder.display()),
            Self::Npz { file, part, .. } => write!(f, "{}, part {part}", file.display()),
            Self::Table { file, .. } => write!(f, "{}", file.display()),
            Self::Notes { path, .. } => write!(f, "{}", path.display()),
        }
    }
}

/// Where a record was found, for people who have to correct it.
#[derive(Clone, PartialEq, Eq)]
pub enum Place {
    /// A line of a CSV.
    Line {
        /// The file.
        file: PathBuf,
        /// Counted from 1.
        line: u64,
    },
    /// A file in a folder that names its class.
    File(PathBuf),
    /// An image of an npz file.
    Index {
        /// The file.
        file: PathBuf,
        /// Position in its part, counted from 0.
        index: usize,
    },
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line { file, line } => write!(f, "{}, line {line}", file.display()),
            Self::File(file) => write!(f, "{}", file.display()),
            Self::Index { file, index } => write!(f, "{}, image {index}", file.display()),
        }
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

//! What a demo works on: the hospitals' data sets and the public parts, as files.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use consilium_agent::data::{LabelColumns, Source};
use image::ImageFormat;
use serde::Serialize;

use super::hospitals::Case;

/// Everything that the demo's federation has to learn from and to be scored on.
pub(crate) struct Material {
    /// Classes in the order of the network's outputs.
    pub(crate) classes: Vec<String>,
    /// The data set of each hospital.
    pub(crate) hospitals: Vec<HospitalFolder>,
    /// Pictures of the parts `val` and `test`, which are public.
    pub(crate) public: PathBuf,
    /// Columns of pixels of a picture.
    pub(crate) width: usize,
    /// Rows of pixels of a picture.
    pub(crate) height: usize,
    /// 1 for grey, 3 for RGB.
    pub(crate) channels: usize,
    /// Whether no picture is real.
    pub(crate) is_generated: bool,
}

/// One hospital's data set: `images/`, `labels.csv` and, where there are notes, `notes.jsonl`.
pub(crate) struct HospitalFolder {
    /// What the hospital is called.
    pub(crate) name: String,
    /// Where its data lies.
    pub(crate) path: PathBuf,
    /// Number of patients, which the demo declares to be public.
    pub(crate) patients: usize,
    /// Whether the labels name patients; otherwise each image counts as its own patient.
    pub(crate) has_patients: bool,
}

impl HospitalFolder {
    /// Name of the hospital at a place in the list.
    pub(super) fn name_of(index: usize) -> String {
        format!("hospital-{}", index + 1)
    }

    /// Folder of its images.
    pub(crate) fn images(&self) -> PathBuf {
        self.path.join("images")
    }

    /// Table of its labels.
    pub(crate) fn labels(&self) -> PathBuf {
        self.path.join("labels.csv")
    }

    /// Where its records lie.
    pub(crate) fn source(&self) -> Source {
        Source::Labelled {
            images: self.images(),
            labels: self.labels(),
            columns: LabelColumns {
                patient: self.patient_column().map(str::to_owned),
                ..LabelColumns::default()
            },
        }
    }

    /// Column of the table that names the patient.
    pub(crate) fn patient_column(&self) -> Option<&'static str> {
        self.has_patients.then_some("patient")
    }
}

/// One line of `labels.csv`, under the names that `consilium agent data add` expects.
#[derive(Serialize)]
struct LabelRow<'a> {
    path: &'a str,
    label: &'a str,
    patient: &'a str,
}

/// One line of `notes.jsonl`.
#[derive(Serialize)]
struct NoteLine<'a> {
    path: &'a str,
    patient: &'a str,
    language: &'a str,
    text: &'a str,
}

/// Writes a hospital's data set.
///
/// # Errors
/// A file that cannot be written.
pub(super) fn write_hospital(folder: &Path, cases: &[Case]) -> Result<()> {
    let images = folder.join("images");
    std::fs::create_dir_all(&images)?;
    let mut labels = Labels::create(folder)?;
    let mut notes = String::new();
    for case in cases {
        case.image
            .save_with_format(images.join(&case.file), ImageFormat::Png)?;
        labels.add(&case.file, &case.class, &case.patient)?;
        for (language, text) in &case.notes {
            let (path, patient) = (&case.file, &case.patient);
            notes += &serde_json::to_string(&NoteLine {
                path,
                patient,
                language,
                text,
            })?;
            notes.push('\n');
        }
    }
    labels.finish()?;
    std::fs::write(folder.join("notes.jsonl"), notes)?;
    Ok(())
}

/// Writes a public part: a folder a class.
///
/// # Errors
/// A file that cannot be written.
pub(super) fn write_part(folder: &Path, cases: &[Case]) -> Result<()> {
    for case in cases {
        let class = folder.join(&case.class);
        std::fs::create_dir_all(&class)?;
        case.image
            .save_with_format(class.join(&case.file), ImageFormat::Png)?;
    }
    Ok(())
}

/// The table of labels of one hospital, as it is written.
pub(super) struct Labels(csv::Writer<std::fs::File>);

impl Labels {
    pub(super) fn create(folder: &Path) -> Result<Self> {
        let path = folder.join("labels.csv");
        Ok(Self(
            csv::Writer::from_path(&path).with_context(|| format!("writing {}", path.display()))?,
        ))
    }

    /// Adds an image; without a patient where nobody knows whose it is.
    pub(super) fn add(&mut self, path: &str, label: &str, patient: &str) -> Result<()> {
        self.0.serialize(LabelRow {
            path,
            label,
            patient,
        })?;
        Ok(())
    }

    pub(super) fn finish(mut self) -> Result<()> {
        self.0.flush()?;
        Ok(())
    }
}

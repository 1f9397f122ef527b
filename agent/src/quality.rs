//! The quality of the data at a site: what a steward should correct, exclude or look at.
//!
//! A [`Check`] takes the records of a data set one after the other, keeps a few hundred bytes of each
//! and makes a [`Report`] of places, reasons and measures. A report holds no content, but true counts:
//! it stays at the site.
//!
//! | module | what lives there |
//! |---|---|
//! | `pictures`, `notes`, `rows` | what is looked at in each kind of content |
//! | `plane`, `fingerprint`, `burned_in` | a grey plane; near copies; text in pictures |
//! | `near`, `copies` | what is alike among very many; whom copies mislead |
//! | `records` | labels, patients and parts |
//! | `label_noise`, `folds` | labels that a model doubts; parts that never share a patient |
//! | [`drift`] | new data against a summary of older data; a summary that may leave |
//! | `report` | what was found |

mod burned_in;
mod copies;
pub mod drift;
mod fingerprint;
mod folds;
mod label_noise;
mod near;
mod notes;
mod pictures;
mod plane;
mod records;
mod report;
mod rows;
#[cfg(test)]
mod tests;

use std::fmt;

use consilium_models::imaging::Picture;
use consilium_privacy::deidentify::Deidentifier;

pub use self::{
    folds::{FoldsError, folds},
    label_noise::{LabelNoise, LabelNoiseError, Suspect, label_noise},
    report::{Action, Case, Finding, Kind, NAMED, Report},
};
use self::{notes::Notes, pictures::Pictures, records::Records, report::Findings, rows::Rows};

/// One record, as a check looks at it.
#[derive(Clone, Copy)]
pub struct Item<'a> {
    /// Where it was found, for people who have to correct it.
    pub place: &'a str,
    /// Which part of the data set it belongs to, such as train or test.
    pub part: Option<&'a str>,
    /// Its label.
    pub label: Option<&'a str>,
    /// Pseudonym of the patient it belongs to; none where the source does not say.
    pub patient: Option<&'a str>,
    /// What it holds.
    pub content: Content<'a>,
}

/// What a record holds.
#[derive(Clone, Copy)]
pub enum Content<'a> {
    /// A picture.
    Picture {
        /// The decoded pixels.
        picture: &'a Picture,
        /// Bits of each value in the file, where that is known.
        bits: Option<u8>,
    },
    /// The text of a note.
    Note(&'a str),
    /// The cells of a row, in the order of [`Settings::columns`].
    Row(&'a [String]),
    /// Nothing that could be read; why, without content.
    Unreadable(&'a str),
}

/// Written by hand: everything in a record is patient data but its place.
impl fmt::Debug for Item<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Item({})", self.place)
    }
}

/// What a check measures against.
#[derive(Clone)]
pub struct Settings {
    /// Width and height that pictures must have, in pixels. Default: those of most.
    pub size: Option<(usize, usize)>,
    /// Channels that pictures must have. Default: those of most.
    pub channels: Option<usize>,
    /// Bits of each value that pictures must have. Default: those of most.
    pub bits: Option<u8>,
    /// Words below which a note is too short. Default: 5.
    pub least_words: usize,
    /// Words above which a note is too long. Default: 20,000.
    pub most_words: usize,
    /// Finds identifiers in notes, to say which notes hold nothing else. Default: not looked at.
    pub deidentifier: Option<Deidentifier>,
    /// The columns of a table. Default: none.
    pub columns: Vec<TableColumn>,
    /// Whether labels are classes: looked for where missing, counted, compared. Default: yes.
    pub has_classes: bool,
}

/// A column of a table.
#[derive(Debug, Clone, PartialEq)]
pub struct TableColumn {
    /// Its name.
    pub name: String,
    /// The edges of its bins by the plan, ascending; none where there are no bins. A number farther outside
    /// them than the outermost are apart is out of range.
    pub edges: Vec<f32>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            size: None,
            channels: None,
            bits: None,
            least_words: 5,
            most_words: 20_000,
            deidentifier: None,
            columns: Vec::new(),
            has_classes: true,
        }
    }
}

/// A check that is under way.
pub struct Check {
    settings: Settings,
    records: Records,
    pictures: Pictures,
    notes: Notes,
    rows: Rows,
    findings: Findings,
}

impl Check {
    /// Starts a check.
    pub fn new(settings: Settings) -> Self {
        Self {
            rows: Rows::new(&settings),
            settings,
            records: Records::default(),
            pictures: Pictures::default(),
            notes: Notes::default(),
            findings: Findings::default(),
        }
    }

    /// Looks at the next record. Keeps what later ones are compared with, never the content.
    pub fn add(&mut self, item: &Item<'_>) {
        let record = self.records.add(item);
        let (records, findings) = (&self.records, &mut self.findings);
        match item.content {
            Content::Picture { picture, bits } => {
                self.pictures.add(record, picture, bits, records, findings);
            }
            Content::Note(text) => {
                self.notes
                    .add(record, text, &self.settings, records, findings);
            }
            Content::Row(cells) => self.rows.add(record, cells, records, findings),
            Content::Unreadable(reason) => {
                findings.add(Kind::Unreadable, [item.place], 1.0, reason);
            }
        }
    }

    /// Takes a label that a model doubts (see [`label_noise`]), least credible first: where it stands, what it
    /// says, what the model sees, and the probability that the model leaves it.
    pub fn doubt(&mut self, place: &str, given: &str, seen: &str, probability: f64) {
        let detail = format!("{given}, a model sees {seen}");
        self.findings
            .add(Kind::LabelSuspect, [place], probability, detail);
    }

    /// Compares the records with each other and reports. The same records in the same order make the
    /// same report.
    pub fn finish(mut self) -> Report {
        let (records, findings) = (&self.records, &mut self.findings);
        self.pictures.finish(&self.settings, records, findings);
        self.notes.finish(records, findings);
        self.rows.finish(records, findings);
        records.finish(self.settings.has_classes, findings);
        Report {
            records: records.len(),
            patients: records.patients(),
            classes: match self.settings.has_classes {
                true => records.classes(),
                false => Default::default(),
            },
            findings: self.findings.into_list(),
        }
    }
}

/// Written by hand: what is kept of records is patient data.
impl fmt::Debug for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Check({:?})", self.records)
    }
}

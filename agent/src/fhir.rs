//! FHIR R4 in and out, as JSON.
//!
//! | module | what lives there |
//! |---|---|
//! | `file` | a resource, a `Bundle` or a bulk export (a resource a line) becomes a [`Chart`] |
//! | `links` | which resource a reference means |
//! | [`notes`] | clinical text: of a `DocumentReference`, of a `DiagnosticReport` |
//! | [`facts`] | what a chart says of each patient: problems, medicines, allergies, measurements |
//! | [`mapping`] | those as the fact table that reasoning starts from |
//! | [`report`], [`plan`] | what is to be said of one prediction |
//! | [`transaction`] | that as a transaction `Bundle` |
//! | [`resource`], [`element`], [`code`], [`moment`] | the parts of R4 that are used |
//!
//! Only fields that are used are read; others are passed over. What is used must be as R4 says: a code that
//! R4 does not know is refused, as validators let it pass. Reading follows references within the
//! file and never fetches one. Other releases of FHIR and XML are not read.
//!
//! No error holds what a file says: it names the file, the place and the kind of mistake.

pub mod code;
pub mod element;
pub mod facts;
mod file;
mod links;
pub mod mapping;
pub mod moment;
pub mod notes;
pub mod plan;
pub mod report;
pub mod resource;
pub mod transaction;

#[cfg(test)]
mod tests;

use std::fmt;

pub use self::file::{Chart, FILE_LIMIT, FhirError, parse, read};

/// Where something stands in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct At {
    /// The line on which the resource begins, counted from 1.
    pub line: u64,
    /// Its place in the `Bundle`, counted from 0; none outside one.
    pub entry: Option<usize>,
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.entry {
            Some(entry) => write!(f, "line {}, entry[{entry}]", self.line),
            None => write!(f, "line {}", self.line),
        }
    }
}

/// A resource that says nothing here, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Passed {
    /// Where it stands.
    pub at: At,
    /// What kind of resource it is.
    pub resource: &'static str,
    /// Why it was passed over.
    pub why: &'static str,
}

impl fmt::Display for Passed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}", self.at, self.resource, self.why)
    }
}

//! FHIR R4 charts: the clinical text of a resource, a `Bundle` or a bulk export.

use std::path::Path;

use super::{Fault, NotesError, Patients, Place, ReadNote};
use crate::fhir;

/// Characters of a first line that are looked at for the mark of a resource.
const HEAD: usize = 64 << 10;

/// Whether JSON lines are resources.
pub(super) fn begins(text: &str) -> bool {
    let head = text.trim_start().lines().next().unwrap_or_default();
    let head: String = head.chars().take(HEAD).collect();
    head.contains("\"resourceType\"")
}

/// Reads all notes; their class is the kind of note. Documents without text that is read are faults.
///
/// # Errors
/// A chart that is not as R4 says; notes of which only some name their patient.
pub(super) fn read(file: &Path, text: &str) -> Result<(Vec<ReadNote>, Vec<Fault>), NotesError> {
    let found = fhir::parse(file, text)?.notes();
    let mut patients = Patients::default();
    let mut notes = Vec::with_capacity(found.notes.len());
    for note in found.notes {
        let (line, label) = (note.at.line, note.kind.clone());
        let mut note = note.into_note();
        note.label = label;
        let taken = patients.take(note.patient.is_some());
        taken.map_err(|reason| NotesError::line(file, line, reason))?;
        notes.push(ReadNote {
            note,
            place: Place::Line {
                file: file.to_owned(),
                line,
            },
            unplaced: 0,
        });
    }
    let fault = |passed: &fhir::Passed| Fault::Unreadable {
        place: format!("{}, {}", file.display(), passed.at),
        reason: format!("{}: {}", passed.resource, passed.why),
    };
    Ok((notes, found.passed.iter().map(fault).collect()))
}

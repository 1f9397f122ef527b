//! A note as a record, and as training may see it.

use std::{borrow::Cow, path::PathBuf, sync::Arc};

use consilium_models::text::{Argument, Note, Span};
use consilium_privacy::{
    deidentify::{Deidentifier, Dictionaries},
    pseudonym::PseudonymKey,
};
use consilium_proto::Digest;

use super::{super::DataError, Place, ReadNote};
use crate::settings::IdentifierLists;

/// A note of a source. Cheap to clone.
#[derive(Clone)]
pub(crate) struct NoteContent(Arc<ReadNote>);

/// Takes out of notes who they are about.
pub(crate) struct Deidentify {
    deidentifier: Deidentifier,
    /// Makes stand-ins and shifts dates, the same for a patient each time.
    key: Arc<PseudonymKey>,
}

impl NoteContent {
    pub(crate) fn new(read: ReadNote) -> Self {
        Self(Arc::new(read))
    }

    pub(crate) fn read(&self) -> &ReadNote {
        &self.0
    }

    pub(crate) fn note(&self) -> &Note {
        &self.0.note
    }

    /// Where in its source it lies: a line, or a file of a folder.
    pub(crate) fn place(&self) -> String {
        match &self.0.place {
            Place::Line { line, .. } => format!("line {line}"),
            Place::File(file) => {
                let name = file.file_name().unwrap_or_default();
                name.to_string_lossy().into_owned()
            }
            Place::Index { index, .. } => format!("number {index}"),
        }
    }

    /// Digest of text and marks. Lengths go first, so that nothing can shift a boundary.
    pub(crate) fn digest(&self) -> Digest {
        let note = self.note();
        let mut parts = vec![note.text.clone()];
        for entity in &note.entities {
            parts.push(entity.kind.clone());
            parts.push(format!("{} {}", entity.span.start, entity.span.end));
            parts.push(entity.code.clone().unwrap_or_default());
        }
        for relation in &note.relations {
            parts.push(relation.kind.clone());
            parts.extend([&relation.from, &relation.to].map(|side| match side {
                Argument::Mention(at) => format!("mention {at}"),
                Argument::Concept(code) => format!("concept {code}"),
            }));
        }
        let text: String = parts
            .iter()
            .map(|part| format!("{}:{part},", part.len()))
            .collect();
        Digest::plain(text.as_bytes())
    }
}

impl Deidentify {
    /// By rules, and by the site's own lists of what identifies.
    ///
    /// # Errors
    /// A list that cannot be read, or has an entry that would be found all over every text.
    pub(crate) fn new(lists: &IdentifierLists, key: Arc<PseudonymKey>) -> Result<Self, DataError> {
        let read = |file: &Option<PathBuf>| match file {
            None => Ok(Vec::new()),
            Some(file) => {
                let text = std::fs::read_to_string(file).map_err(DataError::file(file))?;
                let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
                Ok::<_, DataError>(lines.map(str::to_owned).collect())
            }
        };
        let dictionaries = Dictionaries {
            names: read(&lists.names)?,
            places: read(&lists.places)?,
            identifiers: read(&lists.numbers)?,
        };
        let deidentifier = Deidentifier::new(&dictionaries)?;
        Ok(Self { deidentifier, key })
    }

    /// What finds identifiers, without the key of the stand-ins.
    pub(crate) fn into_deidentifier(self) -> Deidentifier {
        self.deidentifier
    }

    /// The note without what names its patient. Marks move along; one that was cut in two stays in the list, so
    /// that relations keep their sides, and covers nothing.
    pub(crate) fn note<'a>(&self, note: &'a Note, patient: &str) -> Cow<'a, Note> {
        let replaced = self.deidentifier.replace(&note.text, &self.key, patient);
        if replaced.replacements().is_empty() {
            return Cow::Borrowed(note);
        }
        let mut note = note.clone();
        for entity in &mut note.entities {
            let moved = replaced.map(entity.span.start..entity.span.end);
            entity.span = moved.map_or(Span::new(0, 0), Span::from);
        }
        note.text = replaced.into_text();
        Cow::Owned(note)
    }
}

//! A note, and what people marked in it.

use std::fmt;

use super::Span;

/// A note with what people marked in it: what text networks are trained on.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Note {
    /// Names the note within its source.
    pub id: String,
    /// Whose it is, where the source says so.
    pub patient: Option<String>,
    /// The text as it is written.
    pub text: String,
    /// The class of the whole note, where there is one.
    pub label: Option<String>,
    /// Entities in the order of their first byte.
    pub entities: Vec<Entity>,
    /// What entities have to do with each other.
    pub relations: Vec<Relation>,
}

/// A mention of something in a note.
#[derive(Clone, PartialEq, Eq)]
pub struct Entity {
    /// What kind of thing: `Disease`, `Chemical`.
    pub kind: String,
    /// Where it stands. Of a mention in pieces, from the first piece to the last.
    pub span: Span,
    /// The concept it names, where that is known: a MeSH or ICD-10 code.
    pub code: Option<String>,
}

/// A relation between two entities, or between two concepts wherever they are mentioned.
#[derive(Clone, PartialEq, Eq)]
pub struct Relation {
    /// What kind of relation: `CID`.
    pub kind: String,
    /// From which.
    pub from: Argument,
    /// To which.
    pub to: Argument,
}

/// One side of a relation.
#[derive(Clone, PartialEq, Eq)]
pub enum Argument {
    /// The mention at this place in the note's list of entities.
    Mention(usize),
    /// Every mention with this code.
    Concept(String),
}

/// Written by hand: all of it is patient data.
impl fmt::Debug for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Note({} bytes, {} entities, {} relations)",
            self.text.len(),
            self.entities.len(),
            self.relations.len()
        )
    }
}

/// Written by hand: what is mentioned is patient data.
impl fmt::Debug for Entity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Entity({} {:?})", self.kind, self.span)
    }
}

/// Written by hand: what is related is patient data.
impl fmt::Debug for Relation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Relation({})", self.kind)
    }
}

/// Written by hand: what is mentioned is patient data.
impl fmt::Debug for Argument {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Argument")
    }
}

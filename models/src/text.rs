//! From a note to what a network takes, and back to the words it speaks of.
//!
//! | module | what lives there |
//! |---|---|
//! | [`cleaning`] | one form of every character, with the way back to the text as it was written |
//! | [`mod@sections`], [`mod@sentences`], [`mod@words`] | a note in parts, each a [`Span`] |
//! | [`language`] | English or Chinese |
//! | [`context`] | what a note says of a mention: whether it is so, of whom, when |
//! | [`dictionary`], [`terminology`] | terms of a list, found in a text |
//! | [`vocabulary`] | word pieces by number |
//! | [`features`], [`bag`] | words and texts as hashed features |
//! | [`bert`] | public encoders that a site supplies |
//! | [`reading`] | from a note to what a plan's network takes, and from its answers back |
//! | [`scores`] | how well entities and relations are found |

mod abbreviations;
pub(crate) mod alphabet;
pub mod bag;
pub mod bert;
pub mod cleaning;
pub mod context;
pub mod dictionary;
pub mod features;
pub mod language;
mod note;
pub mod reading;
pub mod scores;
pub mod sections;
pub mod sentences;
mod span;
mod status;
pub mod terminology;
pub mod vocabulary;
pub mod words;

pub use self::{
    cleaning::Cleaned,
    context::{Contexts, Judged, Reason},
    note::{Argument, Entity, Note, Relation},
    reading::{Example, Reading, ReadingError},
    sections::{Section, SectionKind, sections},
    sentences::sentences,
    span::Span,
    status::{Certainty, Experiencer, Status, Time},
    words::words,
};

//! A ranked differential: how probable each condition is, and everything that can be said for and against it.
//!
//! [`Diagnostician`](super::diagnostician::Diagnostician) makes it. It is what programs print and interfaces
//! answer with, so that it holds everything a reader needs, and nothing that must be looked up elsewhere.

use std::fmt;

use serde::Serialize;

use super::{opinion::Opinion, rules::Ruling};
use crate::{
    decision::{
        facts::{Answer, Facts},
        knowledge::{ConceptId, Source},
    },
    text::Span,
};

/// What may be wrong with a patient. Patient data: its `Debug` says nothing.
#[derive(Clone, PartialEq, Serialize)]
pub struct Differential {
    /// What can be concluded.
    pub verdict: Verdict,
    /// Every condition of the knowledge base: those with enough evidence first, then the others, which stand on
    /// little but their priors; the most probable of either first.
    pub candidates: Vec<Candidate>,
    /// The probability that it is none of them.
    pub none_of_these: f64,
    /// Conditions and findings that facts or models name and the knowledge base does not know. Nothing is said
    /// of them.
    pub unknown: Vec<String>,
    /// What to find out next, the most telling for its cost first.
    pub ask: Vec<Suggestion>,
    /// The facts that candidates point to: those that were given, and what rules concluded.
    pub facts: Facts,
    /// What a reader must be told with it: each knowledge file's name, version and disclaimer.
    pub notices: Vec<String>,
}

/// What can be concluded.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "is")]
pub enum Verdict {
    /// At least one condition has enough evidence to be argued with. "None of these" may still be likelier.
    Ranked,
    /// Nothing: no condition has enough evidence.
    TooLittleEvidence {
        /// The most there is for one condition, bits.
        bits: f64,
        /// What there should be, bits.
        floor: f64,
    },
}

/// One condition, and what can be said for and against it.
#[derive(Clone, PartialEq, Serialize)]
pub struct Candidate {
    /// Which.
    pub condition: ConceptId,
    /// How probable it is, given everything.
    pub probability: f64,
    /// How probable it was before anything was known.
    pub prior: f64,
    /// Among whom.
    pub setting: String,
    /// Where the prior comes from.
    pub prior_source: Option<Source>,
    /// Evidence of figures and rules, bits: each for doubles the odds, each below 0 halves them.
    pub bits: f64,
    /// Whether that is enough.
    pub is_supported: bool,
    /// What the facts themselves say of it. Counts for nothing.
    pub stated: Answer,
    /// Findings that speak for it, the loudest first.
    pub supporting: Vec<Reason>,
    /// Findings that speak against it, the loudest first.
    pub opposing: Vec<Reason>,
    /// Findings with figures that nobody looked for, the most telling first.
    pub missing: Vec<Missing>,
    /// All rules on it: fired, not fired, and those that cannot be told.
    pub rules: Vec<Ruling>,
    /// What models say of it, with their paths.
    pub opinions: Vec<Opinion>,
}

/// A finding with a figure.
#[derive(Clone, PartialEq, Serialize)]
pub struct Reason {
    /// Which.
    pub finding: ConceptId,
    /// Whether it is there.
    pub is_present: bool,
    /// By what the odds are multiplied.
    pub ratio: f64,
    /// Whether it counts; not so where a finding of the same group says more.
    pub is_counted: bool,
    /// The places of the facts behind it, in [`Differential::facts`].
    pub facts: Vec<usize>,
    /// Where those stand in the note.
    pub spans: Vec<Span>,
    /// Where the figure comes from.
    pub source: Option<Source>,
}

/// A finding that nobody looked for.
#[derive(Clone, PartialEq, Serialize)]
pub struct Missing {
    /// Which.
    pub finding: ConceptId,
    /// By what the odds would be multiplied if it were there.
    pub if_present: f64,
    /// By what if it were not.
    pub if_absent: f64,
    /// Where the figures come from.
    pub source: Option<Source>,
}

/// Something to find out.
#[derive(Clone, PartialEq, Serialize)]
pub struct Suggestion {
    /// What to look for.
    pub finding: ConceptId,
    /// The test whose value decides it, where there is one.
    pub test: Option<ConceptId>,
    /// Expected information, bits.
    pub bits: f64,
    /// What it costs, in units of one plain question.
    pub cost: f64,
    /// What would be most probable if it is there, and how probable; none of these where no condition is named.
    pub if_present: Prospect,
    /// The same if it is not there.
    pub if_absent: Prospect,
}

/// What would be most probable after an answer.
#[derive(Clone, PartialEq, Serialize)]
pub struct Prospect {
    /// Which condition; none stands for none of these.
    pub condition: Option<ConceptId>,
    /// How probable it would be.
    pub probability: f64,
}

/// Where a condition stands in a differential.
#[derive(Clone, Copy, PartialEq)]
pub enum Standing<'d> {
    /// Nobody knows this condition: nothing is said of it.
    Unknown,
    /// It is a candidate.
    Candidate(&'d Candidate),
}

impl Differential {
    /// Where a condition stands, by its id.
    pub fn standing(&self, condition: &str) -> Standing<'_> {
        let mut candidates = self.candidates.iter();
        candidates
            .find(|candidate| candidate.condition.as_str() == condition)
            .map_or(Standing::Unknown, Standing::Candidate)
    }
}

/// Written by hand: all of it is patient data.
impl fmt::Debug for Differential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Differential({} candidates)", self.candidates.len())
    }
}

//! One patient as the treatment code looks at them: facts, knowledge, names, citations and wishes at hand.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{
    Wishes,
    need::{self, Asked, Need, Purpose},
    renal,
};
use crate::{
    decision::{
        facts::Patient,
        knowledge::{ConceptId, EntryId, Knowledge, Language, Severity, When},
    },
    text::Span,
};

/// A publication that a sentence rests on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Citation {
    /// Its id in the knowledge files.
    pub id: EntryId,
    /// Its title.
    pub title: String,
    /// Who published it.
    pub organisation: String,
    /// The year of this version, where it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub year: Option<u16>,
    /// Which version, where the year does not say it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Where it can be read.
    pub url: String,
    /// Where in it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub place: Option<String>,
}

impl Citation {
    /// In one line: `American Thoracic Society 2019, table 3, https://…`.
    pub fn line(&self) -> String {
        let mut line = self.organisation.clone();
        if let Some(year) = self.year {
            line.push_str(&format!(" {year}"));
        }
        for part in [&self.version, &self.place].into_iter().flatten() {
            line.push_str(", ");
            line.push_str(part);
        }
        format!("{line}, {}", self.url)
    }
}

/// One patient, read with one knowledge base.
pub(super) struct Bedside<'a> {
    pub(super) patient: Patient<'a>,
    pub(super) wishes: &'a Wishes,
    pub(super) language: Language,
}

impl<'a> Bedside<'a> {
    pub(super) fn knowledge(&self) -> &'a Knowledge {
        self.patient.knowledge()
    }

    /// The first of some names in the language wanted, else in English, else what stands in for it.
    pub(super) fn name_of(
        &self,
        names: &BTreeMap<Language, Vec<String>>,
        otherwise: &str,
    ) -> String {
        let first = |language| names.get(&language).and_then(|names| names.first());
        first(self.language)
            .or_else(|| first(Language::En))
            .map_or_else(|| otherwise.to_owned(), String::clone)
    }

    /// How a concept is called; its id where the knowledge does not have it.
    pub(super) fn name(&self, id: &ConceptId) -> String {
        match self.knowledge().concept(id) {
            Some(concept) => concept.name(self.language).to_owned(),
            None => id.to_string(),
        }
    }

    /// A publication, and where in it. None where the knowledge has no such publication.
    pub(super) fn cite(&self, source: &EntryId, place: Option<&str>) -> Option<Citation> {
        let source = self.knowledge().source(source)?;
        Some(Citation {
            id: source.id.clone(),
            title: source.title.clone(),
            organisation: source.organisation.clone(),
            year: source.year,
            version: source.version.clone(),
            url: source.url.clone(),
            place: place.map(str::to_owned),
        })
    }

    /// Whether something this bad rules a drug out.
    pub(super) fn rules_out(&self, severity: Severity) -> bool {
        severity > self.wishes.tolerated.severity()
    }

    /// Where the facts behind what holds of a condition stand in the note.
    pub(super) fn spans(&self, when: &When) -> Vec<Span> {
        let leaves = self.patient.explain(when).into_iter();
        let facts = leaves.flat_map(|leaf| leaf.facts);
        let mut spans: Vec<Span> = facts
            .filter_map(|at| self.patient.facts().facts.get(at)?.span)
            .collect();
        spans.sort_unstable();
        spans.dedup();
        spans
    }

    /// One need for each thing that a condition leaves open.
    pub(super) fn needs(&self, when: &When, of: &Subject<'_>) -> Vec<Need> {
        let asked = need::unknown(&self.patient, when).into_iter();
        asked.map(|asked| self.need(asked, of)).collect()
    }

    /// One need.
    pub(super) fn need(&self, asked: Asked, of: &Subject<'_>) -> Need {
        let or = match &asked {
            Asked::Concept(test) => renal::missing(&self.patient, test),
            _ => Vec::new(),
        };
        Need {
            name: self.asked(&asked),
            or: or.iter().map(|asked| self.asked(asked)).collect(),
            asked,
            purpose: of.purpose,
            subject: of.name.to_owned(),
            required: of.required,
            source: of.source.cloned(),
        }
    }

    fn asked(&self, asked: &Asked) -> String {
        match asked {
            Asked::Concept(id) => self.name(id),
            Asked::Score(id) => id.to_string(),
            Asked::Age => "age".into(),
            Asked::Weight => "weight".into(),
            Asked::Sex => "sex".into(),
            Asked::Pregnancy => "whether the patient is pregnant".into(),
            Asked::Allergies => "allergies".into(),
            Asked::Drugs => "drugs taken now".into(),
        }
    }
}

/// What a fact is needed for, and of what.
pub(super) struct Subject<'s> {
    pub(super) purpose: Purpose,
    pub(super) name: &'s str,
    pub(super) required: bool,
    pub(super) source: Option<&'s Citation>,
}

//! What the checks found: what speaks against a drug or a plan, how bad it is, why, and who says so.

use std::{cmp::Reverse, collections::HashSet};

use serde::Serialize;

use super::Citation;
use crate::{
    decision::knowledge::{ConceptId, Severity},
    text::Span,
};

/// Something that speaks against a drug, a treatment or a plan.
#[derive(Clone, PartialEq, Serialize)]
pub struct Finding {
    /// Which check found it.
    pub check: Check,
    /// How bad it is.
    pub severity: Severity,
    /// Whether what it concerns is not proposed because of it.
    pub rules_out: bool,
    /// The drugs it concerns: one, or two that should not meet.
    pub drugs: Vec<ConceptId>,
    /// What was found, in the words of the knowledge file.
    pub says: String,
    /// What to do, in the words of the knowledge file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advice: Option<String>,
    /// Where the facts behind it stand in the note.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub spans: Vec<Span>,
    /// Who says so.
    pub basis: Basis,
}

/// One kind of check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Check {
    /// The patient is allergic to the drug, to its class, or to one of its kind.
    Allergy,
    /// The knowledge says that the drug is not for such a patient: by illness, age, pregnancy, kidneys.
    Contraindication,
    /// The treatment itself says that it is not for such a patient.
    Exclusion,
    /// Two drugs that should not meet.
    Interaction,
    /// Two drugs of a class of which one is enough.
    DuplicateClass,
    /// The same drug twice in one plan.
    DuplicateDrug,
    /// More than the most that may be given, or outside what the treatments give.
    DoseRange,
    /// The treatment has no dose for such a patient.
    NoDose,
    /// The patient does not take it.
    Refused,
}

/// Who says so.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Basis {
    /// A publication that the knowledge file cites.
    Source(Citation),
    /// The facts of the patient.
    Facts,
    /// The plan itself.
    Plan,
    /// The patient's wishes.
    Wishes,
}

impl Check {
    /// Its name, in words.
    pub fn words(self) -> &'static str {
        match self {
            Self::Allergy => "allergy",
            Self::Contraindication => "contraindication",
            Self::Exclusion => "not for this patient",
            Self::Interaction => "interaction",
            Self::DuplicateClass => "duplicate class",
            Self::DuplicateDrug => "duplicate drug",
            Self::DoseRange => "dose range",
            Self::NoDose => "no dose",
            Self::Refused => "refused",
        }
    }
}

impl Finding {
    /// In one line, with its source.
    pub fn line(&self) -> String {
        let advice = match &self.advice {
            Some(advice) => format!(" {advice}"),
            None => String::new(),
        };
        let basis = match &self.basis {
            Basis::Source(source) => source.line(),
            Basis::Facts => "by the facts of the patient".into(),
            Basis::Plan => "by the plan itself".into(),
            Basis::Wishes => "by the patient's wishes".into(),
        };
        format!("{}: {}{advice} [{basis}]", self.check.words(), self.says)
    }

    /// What it adds to the interaction burden: minor 1, moderate 3, major 10; 30 for what is never done.
    pub(super) fn weight(&self) -> u32 {
        match self.severity {
            Severity::Minor => 1,
            Severity::Moderate => 3,
            Severity::Major => 10,
            Severity::Contraindicated => 30,
        }
    }

    /// What happens when drugs of one treatment meet, taken now or not: the guideline that joins them is a
    /// reason, so that only what is never done rules out.
    pub(super) fn allow_joined(findings: &mut [Self], joined: &[&ConceptId]) {
        for finding in findings {
            let is_pair = finding.drugs.len() == 2;
            if is_pair && finding.drugs.iter().all(|drug| joined.contains(&drug)) {
                finding.rules_out &= finding.severity > Severity::Major;
            }
        }
    }

    /// Leaves one of two findings on the same drugs that say the same, whichever drug is named first.
    pub(super) fn each_once(findings: &mut Vec<Self>) {
        let mut seen = HashSet::new();
        findings.retain(|finding| {
            let mut drugs = finding.drugs.clone();
            drugs.sort_unstable();
            // What is said of one drug is said once; of two, the names come in either order.
            let says = if drugs.len() == 2 {
                None
            } else {
                Some(finding.says.clone())
            };
            seen.insert((
                finding.check,
                finding.severity,
                drugs,
                says,
                finding.advice.clone(),
            ))
        });
    }

    /// What rules out comes first, then the worst.
    pub(super) fn sort(findings: &mut [Self]) {
        findings.sort_by(|one, other| {
            let key = |it: &Self| (Reverse(it.rules_out), Reverse(it.severity), it.check);
            key(one)
                .cmp(&key(other))
                .then_with(|| one.drugs.cmp(&other.drugs))
        });
    }
}

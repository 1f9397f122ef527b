//! What would have to be known, and what the knowledge files do not know at all.

use std::collections::HashSet;

use serde::Serialize;

use super::Citation;
use crate::decision::{
    facts::{Answer, Patient},
    knowledge::{ConceptId, EntryId, When},
};

/// Something to ask or to measure.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(tag = "kind", content = "id", rename_all = "kebab-case")]
pub enum Asked {
    /// Whether the patient has it, or what a test says.
    Concept(ConceptId),
    /// Points of a score that the knowledge does not have.
    Score(EntryId),
    /// The age.
    Age,
    /// The weight.
    Weight,
    /// The sex.
    Sex,
    /// Whether the patient is pregnant.
    Pregnancy,
    /// To what the patient is allergic.
    Allergies,
    /// What the patient takes now.
    Drugs,
}

/// A fact that is missing: it was needed, nobody stated it, and it is not guessed.
#[derive(Clone, PartialEq, Serialize)]
pub struct Need {
    /// What to ask or to measure.
    pub asked: Asked,
    /// How that is called.
    pub name: String,
    /// What would do instead, because this could be computed from it: all of these together.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub or: Vec<String>,
    /// What for.
    pub purpose: Purpose,
    /// Of what: a drug, a treatment.
    pub subject: String,
    /// Whether nothing should be given before it is known. Otherwise it is worth asking.
    pub required: bool,
    /// What needs it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<Citation>,
}

/// What a missing fact was needed for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Purpose {
    /// Whether a treatment is for this patient.
    Applies,
    /// Whether a treatment is not for this patient.
    Excludes,
    /// Whether a step is due.
    Step,
    /// How much to give.
    Dose,
    /// Whether something speaks against a drug.
    Contraindication,
    /// Whether the patient is allergic.
    Allergy,
    /// Whether drugs meet that should not.
    Interaction,
}

impl Purpose {
    /// What it was needed for, in words.
    pub fn words(self) -> &'static str {
        match self {
            Self::Applies => "to know whether this is for the patient",
            Self::Excludes => "to know whether this is not for the patient",
            Self::Step => "to know whether this step is due",
            Self::Dose => "for the dose",
            Self::Contraindication => "to know whether something speaks against it",
            Self::Allergy => "to check allergies",
            Self::Interaction => "to check interactions",
        }
    }
}

impl Need {
    /// One line for everything that is needed for one thing, in order:
    /// `needs: age; eGFR (or creatinine), for the dose: metformin`.
    pub fn lines(needs: &[Self]) -> Vec<String> {
        let mut groups: Vec<(&Self, Vec<String>)> = Vec::new();
        for need in needs {
            let name = match need.or.as_slice() {
                [] => need.name.clone(),
                parts => format!("{} (or {})", need.name, parts.join(" and ")),
            };
            match groups.last_mut() {
                Some((first, names)) if first.is_with(need) => names.push(name),
                _ => groups.push((need, vec![name])),
            }
        }
        let line = |(first, names): (&Self, Vec<String>)| {
            let verb = if first.required {
                "needs"
            } else {
                "worth asking"
            };
            let (purpose, subject) = (first.purpose.words(), &first.subject);
            format!("{verb}: {}, {purpose}: {subject}", names.join("; "))
        };
        groups.into_iter().map(line).collect()
    }

    fn is_with(&self, other: &Self) -> bool {
        let of = |need: &Self| (need.required, need.purpose);
        of(self) == of(other) && self.subject == other.subject
    }
}

/// Something that the knowledge files do not have. What concerns it could not be checked.
#[derive(Clone, PartialEq, Eq, Serialize)]
pub struct Unknown {
    /// Which.
    pub concept: ConceptId,
    /// Where it came from.
    pub role: Role,
}

/// What an unknown concept was given as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// A condition to treat.
    Condition,
    /// A drug the patient takes.
    Taken,
    /// A drug of a plan that was to be evaluated.
    Wished,
    /// A drug or class the patient does not want.
    Refused,
    /// A drug or class the patient is allergic to.
    Allergy,
}

impl Unknown {
    /// In one line, with what could not be done.
    pub fn line(&self) -> String {
        let what = match self.role {
            Role::Condition => "not known, no treatment can be proposed",
            Role::Taken | Role::Wished => "not known, interactions could not be checked",
            Role::Refused => "not known, only a drug of the same name is left out",
            Role::Allergy => "not known, allergy to related drugs could not be checked",
        };
        format!("{}: {what}", self.concept)
    }
}

/// What is unknown in a condition: each thing once, in the order of the file. Scores are asked item by item.
pub(super) fn unknown(patient: &Patient<'_>, when: &When) -> Vec<Asked> {
    let mut asked = Vec::new();
    for when in open(patient, when) {
        let score = match when {
            When::Score { score, .. } => patient.knowledge().score(score),
            _ => None,
        };
        match score {
            // Scores do not rest on scores, so one step down is enough.
            Some(score) => {
                let items = score
                    .items
                    .iter()
                    .flat_map(|item| open(patient, &item.when));
                asked.extend(items.filter_map(of));
            }
            None => asked.extend(of(when)),
        }
    }
    let mut seen = HashSet::new();
    asked.retain(|one| seen.insert(one.clone()));
    asked
}

/// The conditions without parts that cannot be answered.
fn open<'w>(patient: &Patient<'_>, when: &'w When) -> Vec<&'w When> {
    let leaves = patient.explain(when).into_iter();
    leaves
        .filter(|leaf| leaf.answer == Answer::Unknown)
        .map(|leaf| leaf.when)
        .collect()
}

/// What a condition without parts asks for.
fn of(when: &When) -> Option<Asked> {
    match when {
        When::Taking(_) => Some(Asked::Drugs),
        When::Allergic(_) => Some(Asked::Allergies),
        When::Age(_) => Some(Asked::Age),
        When::Weight(_) => Some(Asked::Weight),
        When::Sex(_) => Some(Asked::Sex),
        When::Pregnant(_) => Some(Asked::Pregnancy),
        When::Score { score, .. } => Some(Asked::Score(score.clone())),
        other => other.concept().cloned().map(Asked::Concept),
    }
}

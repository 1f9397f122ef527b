//! What can be said of a patient or done for them: findings, conditions, tests, drugs, procedures.

use std::{collections::BTreeMap, fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use super::{Range, When, unit};
use crate::decision::facts::{Demographics, Sex};

/// Names a concept: its kind, a dot, and a name in lower case (`finding.fever`, `drug.amoxicillin`).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ConceptId {
    text: String,
    kind: Kind,
}

/// What kind of thing a concept is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// What a patient has or does, short of a diagnosis: symptoms, signs, habits, images.
    Finding,
    /// A disease or state that is diagnosed.
    Condition,
    /// What is measured as a number.
    Test,
    /// One substance.
    Drug,
    /// A class of drugs.
    Class,
    /// What is done, short of giving a drug.
    Procedure,
}

/// Why a text names no concept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "an id is `finding.`, `condition.`, `test.`, `drug.`, `class.` or `procedure.` and a name of 1 to 80 \
     small letters, digits, dots and hyphens"
)]
pub struct BadConceptId;

/// A concept with its names.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Concept {
    /// Which.
    pub id: ConceptId,
    /// How it is called, by language (`en`, `zh`); the first name is the one that is shown.
    pub names: BTreeMap<Language, Vec<String>>,
    /// What it is a kind of: a drug of its classes, a finding of a wider one.
    #[serde(default)]
    pub is_a: Vec<ConceptId>,
    /// Its code in ICD-10.
    #[serde(default)]
    pub icd10: Option<String>,
    /// How a test is measured; of tests only, and of every test.
    #[serde(default)]
    pub measure: Option<Measure>,
    /// The measurement that decides a finding (fever: temperature from 38 °C). Where it holds the
    /// finding is there, whatever is written; where it does not, what is written counts, and without a
    /// word it is absent.
    #[serde(default)]
    pub measured: Option<When>,
    /// Most of a drug in one dose and in a day.
    #[serde(default)]
    pub limit: Option<Limit>,
    /// Whether a condition stays once it is there: one of the past history holds now.
    #[serde(default)]
    pub lasting: bool,
    /// What finding it out costs, in units of one plain question; of findings and tests only. Above 0; without
    /// it 1.
    #[serde(default)]
    pub cost: Option<f64>,
    /// Said on purpose: takes the place of an entry of the same id in an earlier file.
    #[serde(default)]
    pub replaces: bool,
}

/// A language that names are given in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Language {
    /// English.
    En,
    /// Chinese.
    Zh,
}

/// How a test is measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Measure {
    /// The unit that this file reckons in. Empty for a ratio.
    pub unit: String,
    /// The smallest and the largest value that can be measured in a living patient.
    pub possible: Interval,
    /// Normal ranges. The first that fits the patient counts.
    #[serde(default)]
    pub reference: Vec<Reference>,
    /// Other units, and how to come from them to `unit`.
    #[serde(default)]
    pub convert: Vec<Conversion>,
}

/// From one number up to another, both included.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Interval {
    /// The smallest.
    pub low: f64,
    /// The largest.
    pub high: f64,
}

/// The range in which a test is normal, for whom.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reference {
    /// The smallest normal value; none where low values are normal.
    #[serde(default)]
    pub low: Option<f64>,
    /// The largest normal value; none where high values are normal.
    #[serde(default)]
    pub high: Option<f64>,
    /// For this sex only.
    #[serde(default)]
    pub sex: Option<Sex>,
    /// From this age in years.
    #[serde(default)]
    pub age_at_least: Option<f64>,
    /// Below this age in years.
    #[serde(default)]
    pub age_below: Option<f64>,
}

/// `value in the test's unit = number × factor + offset`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Conversion {
    /// The other unit.
    pub unit: String,
    /// By what its numbers are multiplied.
    pub factor: f64,
    /// What is added then.
    #[serde(default)]
    pub offset: f64,
}

/// Where a value lies by its reference range.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    /// Below it.
    Low,
    /// In it.
    Normal,
    /// Above it.
    High,
}

/// The most of a drug that may be given.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limit {
    /// In one dose.
    #[serde(default)]
    pub dose: Option<f64>,
    /// In one day.
    #[serde(default)]
    pub day: Option<f64>,
    /// The unit of both.
    pub unit: String,
    /// Who says so.
    pub source: super::EntryId,
}

impl ConceptId {
    /// The whole id.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// What kind of thing it names.
    pub fn kind(&self) -> Kind {
        self.kind
    }
}

impl Kind {
    const ALL: [Self; 6] = [
        Self::Finding,
        Self::Condition,
        Self::Test,
        Self::Drug,
        Self::Class,
        Self::Procedure,
    ];

    /// The word before the dot of an id.
    pub fn name(self) -> &'static str {
        match self {
            Self::Finding => "finding",
            Self::Condition => "condition",
            Self::Test => "test",
            Self::Drug => "drug",
            Self::Class => "class",
            Self::Procedure => "procedure",
        }
    }
}

impl Concept {
    /// The name to show: the first in the language, else in English, else any, else the id.
    pub fn name(&self, language: Language) -> &str {
        let first = |language| self.names.get(&language).and_then(|names| names.first());
        first(language)
            .or_else(|| first(Language::En))
            .or_else(|| self.names.values().flatten().next())
            .map_or(self.id.as_str(), String::as_str)
    }
}

impl Measure {
    /// A number in the unit that this file reckons in; none where the unit is not known here.
    pub fn convert(&self, number: f64, unit: &str) -> Option<f64> {
        let value = if unit::same(unit, &self.unit) {
            number
        } else {
            let known = self
                .convert
                .iter()
                .find(|known| unit::same(unit, &known.unit))?;
            number * known.factor + known.offset
        };
        value.is_finite().then_some(value)
    }

    /// The normal range of this patient. None where there is none, or where the first that could fit
    /// needs an age or a sex that is not known.
    pub fn reference(&self, patient: &Demographics) -> Option<&Reference> {
        let fits = |reference: &Reference| {
            let sex = match (reference.sex, patient.sex) {
                (None, _) => Some(true),
                (Some(wanted), sex) => sex.map(|sex| sex == wanted),
            };
            let ages = Range::from(*reference);
            let age = match patient.age {
                _ if ages.is_unbounded() => Some(true),
                age => age.map(|age| ages.contains(age.number())),
            };
            match (sex, age) {
                (Some(false), _) | (_, Some(false)) => Some(false),
                (Some(true), Some(true)) => Some(true),
                _ => None,
            }
        };
        for reference in &self.reference {
            match fits(reference) {
                Some(true) => return Some(reference),
                Some(false) => (),
                None => return None,
            }
        }
        None
    }
}

impl Reference {
    /// Where a value in the test's own unit lies.
    pub fn level(&self, value: f64) -> Level {
        if self.low.is_some_and(|low| value < low) {
            Level::Low
        } else if self.high.is_some_and(|high| value > high) {
            Level::High
        } else {
            Level::Normal
        }
    }
}

impl From<Reference> for Range {
    /// The ages that a reference range is for.
    fn from(reference: Reference) -> Self {
        Range::new(reference.age_at_least, None, reference.age_below, None)
    }
}

impl FromStr for ConceptId {
    type Err = BadConceptId;
    fn from_str(text: &str) -> Result<Self, BadConceptId> {
        let (kind, name) = text.split_once('.').ok_or(BadConceptId)?;
        let kind = Kind::ALL
            .into_iter()
            .find(|known| known.name() == kind)
            .ok_or(BadConceptId)?;
        if super::entry::is_name(name) {
            Ok(Self {
                text: text.to_owned(),
                kind,
            })
        } else {
            Err(BadConceptId)
        }
    }
}

impl TryFrom<String> for ConceptId {
    type Error = BadConceptId;
    fn try_from(text: String) -> Result<Self, BadConceptId> {
        text.parse()
    }
}

impl From<ConceptId> for String {
    fn from(id: ConceptId) -> Self {
        id.text
    }
}

impl fmt::Display for ConceptId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

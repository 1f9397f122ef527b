//! What a knowledge file says of diagnosis: its header, sources, conditions, likelihoods, rules and scores.

use std::{collections::BTreeMap, fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use super::{ConceptId, Language, When};

/// Names a source, a rule, a score, a treatment or a contraindication: small letters, digits, dots,
/// hyphens.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct EntryId(String);

/// Why a text is no id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an id is 1 to 80 small letters, digits, dots and hyphens")]
pub struct BadEntryId;

/// What a file is. Every file opens with one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Header {
    /// What it is called.
    pub name: String,
    /// Which state of it this is.
    pub version: String,
    /// Under which licence it may be used, by its SPDX name.
    pub licence: String,
    /// The language of its explanations.
    pub language: Language,
    /// What a reader must be told with everything that comes from it.
    pub disclaimer: String,
}

/// A publication that an entry rests on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// Which.
    pub id: EntryId,
    /// Its title.
    pub title: String,
    /// Who published it.
    pub organisation: String,
    /// The year of this version. A source has a year, a version or both.
    #[serde(default)]
    pub year: Option<u16>,
    /// Which version, where the year does not say it.
    #[serde(default)]
    pub version: Option<String>,
    /// Where it can be read.
    pub url: String,
    /// Said on purpose: takes the place of an entry of the same id in an earlier file.
    #[serde(default)]
    pub replaces: bool,
}

/// A condition that a diagnosis may name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Condition {
    /// Which.
    pub id: ConceptId,
    /// What it is, in one sentence.
    pub description: String,
    /// How probable it is before anything else is known, in the `setting`. Above 0, below 1.
    pub prior: f64,
    /// Among whom the prior was found.
    pub setting: String,
    /// Where both come from.
    pub source: EntryId,
    /// How probable it is among patients who come with something: the first that holds counts.
    #[serde(default)]
    pub among: Vec<Presentation>,
    /// Said on purpose: takes the place of an entry of the same id in an earlier file.
    #[serde(default)]
    pub replaces: bool,
}

/// How probable a condition is among patients who come with something.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Presentation {
    /// With what.
    pub when: When,
    /// How probable it is then, before anything else is known. Above 0, below 1.
    pub prior: f64,
    /// Among whom this was found.
    pub setting: String,
    /// Where it comes from.
    pub source: EntryId,
}

/// How much a finding speaks for or against a condition.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "RawLikelihood", into = "RawLikelihood")]
pub struct Likelihood {
    /// For which condition.
    pub condition: ConceptId,
    /// What is found.
    pub finding: ConceptId,
    /// By what the odds are multiplied when it is there. Above 0.
    pub positive: Option<f64>,
    /// By what the odds are multiplied when it is absent. Above 0.
    pub negative: Option<f64>,
    /// Findings of one group say much the same: only the one that says most counts.
    pub group: Option<String>,
    /// Where the figures come from.
    pub source: EntryId,
    /// Said on purpose: takes the place of an earlier file's likelihood of the same pair.
    pub replaces: bool,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawLikelihood {
    condition: ConceptId,
    finding: ConceptId,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    positive: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    negative: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sensitivity: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    specificity: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    group: Option<String>,
    source: EntryId,
    #[serde(default)]
    replaces: bool,
}

/// Why a likelihood says nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadLikelihood {
    /// Neither kind of figures, or both.
    #[error("a likelihood has positive and/or negative, or sensitivity and specificity")]
    Figures,
    /// A ratio that is none.
    #[error("a likelihood ratio must lie between 0.001 and 1000")]
    Ratio,
    /// A probability that is none.
    #[error("sensitivity and specificity must lie above 0 and below 1")]
    Probability,
    /// Ratios that contradict each other.
    #[error(
        "positive and negative lie on the same side of 1: found and not found cannot both speak for it"
    )]
    SameSide,
}

/// A rule: what follows when something is so.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Which.
    pub id: EntryId,
    /// What it says, in one sentence.
    pub says: String,
    /// For or against which condition or finding it speaks.
    pub concludes: ConceptId,
    /// Whether it speaks for or against.
    pub effect: Effect,
    /// How strongly.
    pub strength: Strength,
    /// When it applies.
    pub when: When,
    /// The guideline or study it encodes.
    pub source: EntryId,
    /// Where in the source: a chapter, a table, a recommendation.
    #[serde(default)]
    pub citation: Option<String>,
    /// Said on purpose: takes the place of an entry of the same id in an earlier file.
    #[serde(default)]
    pub replaces: bool,
}

/// On which side a rule is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Effect {
    /// For what it concludes.
    For,
    /// Against it.
    Against,
}

/// How strongly a rule speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Strength {
    /// A hint.
    Weak,
    /// An argument.
    Moderate,
    /// Hard to argue with.
    Strong,
    /// The criterion itself: what it concludes is so (or, against: is not so), and other rules may
    /// build on it.
    Definite,
}

/// A score: points for what is so, such as CRB-65.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Score {
    /// Which.
    pub id: EntryId,
    /// How it is called.
    pub names: BTreeMap<Language, Vec<String>>,
    /// What gives points.
    pub items: Vec<Item>,
    /// What the points mean, in one sentence.
    pub says: String,
    /// Where it comes from.
    pub source: EntryId,
    /// Said on purpose: takes the place of an entry of the same id in an earlier file.
    #[serde(default)]
    pub replaces: bool,
}

/// One line of a score.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Item {
    /// What it is.
    pub name: String,
    /// How many points it gives; may be negative.
    pub points: f64,
    /// When. Not by another score.
    pub when: When,
}

impl Source {
    /// The year and the version, as far as it has them: `2021, amended 2023`.
    pub fn edition(&self) -> String {
        let year = self.year.map(|year| year.to_string());
        let parts: Vec<String> = year.into_iter().chain(self.version.clone()).collect();
        parts.join(", ")
    }
}

impl EntryId {
    /// The whole id.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Whether a text may name something in an id.
pub(super) fn is_name(text: &str) -> bool {
    (1..=80).contains(&text.len())
        && text
            .bytes()
            .all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.'))
}

impl FromStr for EntryId {
    type Err = BadEntryId;
    fn from_str(text: &str) -> Result<Self, BadEntryId> {
        if is_name(text) {
            Ok(Self(text.to_owned()))
        } else {
            Err(BadEntryId)
        }
    }
}

impl TryFrom<String> for EntryId {
    type Error = BadEntryId;
    fn try_from(text: String) -> Result<Self, BadEntryId> {
        text.parse()
    }
}

impl From<EntryId> for String {
    fn from(id: EntryId) -> Self {
        id.0
    }
}

impl fmt::Display for EntryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<RawLikelihood> for Likelihood {
    type Error = BadLikelihood;
    fn try_from(raw: RawLikelihood) -> Result<Self, BadLikelihood> {
        let given = (raw.positive, raw.negative, raw.sensitivity, raw.specificity);
        let (positive, negative) = match given {
            (positive, negative, None, None) if positive.or(negative).is_some() => {
                (positive, negative)
            }
            (None, None, Some(sensitivity), Some(specificity)) => {
                let is_open = |number: f64| number > 0.0 && number < 1.0;
                if !is_open(sensitivity) || !is_open(specificity) {
                    return Err(BadLikelihood::Probability);
                }
                let positive = sensitivity / (1.0 - specificity);
                (Some(positive), Some((1.0 - sensitivity) / specificity))
            }
            _ => return Err(BadLikelihood::Figures),
        };
        let is_ratio = |number: &f64| (0.001..=1000.0).contains(number);
        if !positive.iter().chain(&negative).all(is_ratio) {
            return Err(BadLikelihood::Ratio);
        }
        if let (Some(positive), Some(negative)) = (positive, negative)
            && (positive - 1.0) * (negative - 1.0) > 0.0
        {
            return Err(BadLikelihood::SameSide);
        }
        Ok(Self {
            condition: raw.condition,
            finding: raw.finding,
            positive,
            negative,
            group: raw.group,
            source: raw.source,
            replaces: raw.replaces,
        })
    }
}

impl From<Likelihood> for RawLikelihood {
    fn from(likelihood: Likelihood) -> Self {
        Self {
            condition: likelihood.condition,
            finding: likelihood.finding,
            positive: likelihood.positive,
            negative: likelihood.negative,
            sensitivity: None,
            specificity: None,
            group: likelihood.group,
            source: likelihood.source,
            replaces: likelihood.replaces,
        }
    }
}

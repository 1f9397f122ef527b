//! What a knowledge file says of treatment: plans with their doses, and what speaks against a drug.

use serde::{Deserialize, Serialize};

use super::{ConceptId, EntryId, When};

/// One way to treat a condition, as a guideline has it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Treatment {
    /// Which.
    pub id: EntryId,
    /// How it is called, in the language of its file.
    pub name: String,
    /// What it treats.
    pub condition: ConceptId,
    /// Whether it comes first.
    pub line: Line,
    /// For whom it is; without it, for everybody with the condition.
    #[serde(default)]
    pub applies_if: Option<When>,
    /// For whom it is not.
    #[serde(default)]
    pub exclude_if: Option<When>,
    /// How much good it is expected to do.
    pub benefit: Grade,
    /// How much work watching over it is.
    pub monitoring_burden: Grade,
    /// What it costs.
    pub cost: Grade,
    /// What is done, all of it, in this order.
    pub steps: Vec<Step>,
    /// The guideline.
    pub source: EntryId,
    /// Where in the guideline: a chapter, a table, a recommendation.
    #[serde(default)]
    pub citation: Option<String>,
    /// Said on purpose: takes the place of an entry of the same id in an earlier file.
    #[serde(default)]
    pub replaces: bool,
}

/// Whether a treatment comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Line {
    /// What the guideline would do first.
    First,
    /// What it would do where the first cannot be done.
    Alternative,
}

/// How much of something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Grade {
    /// Little.
    Low,
    /// Some.
    Moderate,
    /// Much.
    High,
}

/// One thing that is done.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// The drug that is given, or the procedure that is done.
    pub give: ConceptId,
    /// Only when; without it, always.
    #[serde(default)]
    pub when: Option<When>,
    /// How it is given: `oral`, `intravenous`.
    #[serde(default)]
    pub route: Option<String>,
    /// The first dose whose `when` holds counts. A drug has at least one.
    #[serde(default)]
    pub doses: Vec<Dose>,
    /// For how long.
    #[serde(default)]
    pub duration: Option<String>,
    /// How the guideline grades it.
    #[serde(default)]
    pub grade: Option<String>,
    /// What to watch.
    #[serde(default)]
    pub monitoring: Vec<String>,
    /// What else to know.
    #[serde(default)]
    pub note: Option<String>,
    /// Where the dose comes from; without it, from the treatment's source.
    #[serde(default)]
    pub source: Option<EntryId>,
}

/// One dose of a drug, for whom it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dose {
    /// For whom: by age, weight, kidneys. Without it, for everybody.
    #[serde(default)]
    pub when: Option<When>,
    /// How much at a time, in `unit`; for each kilogram of weight where `per_kg`. Above 0.
    pub amount: f64,
    /// Up to how much, where the dose is a range.
    #[serde(default)]
    pub up_to: Option<f64>,
    /// The unit of all amounts here: `mg`, `g`, `micrograms`, `units`.
    pub unit: String,
    /// Whether amounts are for each kilogram of body weight.
    #[serde(default)]
    pub per_kg: bool,
    /// The most at a time whatever the weight, in `unit`.
    #[serde(default)]
    pub maximum: Option<f64>,
    /// How often, in words.
    pub frequency: String,
    /// How often a day, as a number. None where it is given once or as needed.
    #[serde(default)]
    pub times_a_day: Option<f64>,
}

/// Two drugs that should not meet, or only with care.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Interaction {
    /// Two drugs or classes; the order does not matter. A class may meet itself.
    pub between: [ConceptId; 2],
    /// How bad it is.
    pub severity: Severity,
    /// Why.
    pub mechanism: String,
    /// What to do.
    pub advice: String,
    /// Where it comes from.
    pub source: EntryId,
    /// Said on purpose: takes the place of an earlier file's interaction of the same pair.
    #[serde(default)]
    pub replaces: bool,
}

/// A patient who should not get a drug, or only with care.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Contraindication {
    /// Which.
    pub id: EntryId,
    /// The drug or class.
    pub of: ConceptId,
    /// For whom.
    pub when: When,
    /// How bad it is.
    pub severity: Severity,
    /// Why, and what to do.
    pub reason: String,
    /// Where it comes from.
    pub source: EntryId,
    /// Said on purpose: takes the place of an entry of the same id in an earlier file.
    #[serde(default)]
    pub replaces: bool,
}

/// How bad it is to give a drug all the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// Worth knowing.
    Minor,
    /// Watch, or change the dose.
    Moderate,
    /// Avoid, unless there is a reason.
    Major,
    /// Never.
    Contraindicated,
}

impl Step {
    /// Whether a drug is given.
    pub fn is_drug(&self) -> bool {
        self.give.kind() == super::Kind::Drug
    }
}

impl Dose {
    /// The smallest and the largest amount at a time for a weight in kilograms, in `unit`, after the
    /// maximum. None where the weight is needed and not known.
    pub fn amounts(&self, weight_kg: Option<f64>) -> Option<(f64, f64)> {
        let factor = if self.per_kg { weight_kg? } else { 1.0 };
        let most = self.maximum.unwrap_or(f64::INFINITY);
        let capped = |amount: f64| (amount * factor).min(most);
        Some((
            capped(self.amount),
            capped(self.up_to.unwrap_or(self.amount)),
        ))
    }
}

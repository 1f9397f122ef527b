//! What is known of one patient: the fact table that reasoning starts from.
//!
//! Facts come from a note, a laboratory or a person, and carry where they stand in the note. What is not
//! in the table is unknown, never "no": [`Patient`] answers yes, no or unknown, and nothing above it
//! guesses.

mod patient;

use std::fmt;

use serde::{Deserialize, Serialize};

pub use self::patient::{Answer, Leaf, Measurement, Patient};
use super::knowledge::ConceptId;
use crate::text::{Span, Status};

/// Most bytes that a table of facts may have as JSON.
pub const JSON_LIMIT: usize = 4 << 20;

/// What is known of one patient.
#[derive(Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Facts {
    /// Who it is.
    pub demographics: Demographics,
    /// What is said or measured, in the order of the note: of two measurements of one test the later
    /// counts.
    pub facts: Vec<Fact>,
    /// To what the patient is allergic. None where nobody asked; an empty list says: to nothing known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allergies: Option<Vec<Allergy>>,
    /// What the patient takes now. None where nobody asked; an empty list says: nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drugs: Option<Vec<Taken>>,
}

/// One thing said or measured.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fact {
    /// Of what.
    pub concept: ConceptId,
    /// What is said of it. Of a measurement: whose and when it was.
    #[serde(default, skip_serializing_if = "is_plain")]
    pub status: Status,
    /// The measured value, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<Quantity>,
    /// Where it stands in the note.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub span: Option<Span>,
    /// Who says so.
    #[serde(default)]
    pub origin: Origin,
}

/// Who says that a fact is so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Origin {
    /// The text of a note.
    Note,
    /// A laboratory or a device.
    Laboratory,
    /// A person who was asked.
    #[default]
    Stated,
    /// A rule, from other facts.
    Concluded,
}

/// A number with its unit, as it was written.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "RawQuantity")]
pub struct Quantity {
    number: f64,
    unit: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawQuantity {
    number: f64,
    unit: String,
}

/// Who the patient is. None means unknown.
#[derive(Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Demographics {
    /// Age in years; infants have fractions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub age: Option<Years>,
    /// Sex, as doses and reference ranges need it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sex: Option<Sex>,
    /// Body weight.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weight_kg: Option<Kilograms>,
    /// Whether the patient is pregnant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pregnant: Option<bool>,
}

/// Sex, as doses and reference ranges need it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Sex {
    /// Female.
    Female,
    /// Male.
    Male,
}

/// An age in years: 0 to 130.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(try_from = "f64")]
pub struct Years(f64);

/// A body weight in kilograms: above 0, at most 700.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(try_from = "f64")]
pub struct Kilograms(f64);

/// Something the patient must not be given.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Allergy {
    /// A drug or a class of drugs.
    pub to: ConceptId,
    /// Where it stands in the note.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub span: Option<Span>,
}

/// A drug the patient takes.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Taken {
    /// Which.
    pub drug: ConceptId,
    /// One dose, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dose: Option<Quantity>,
    /// How often, as it was written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub frequency: Option<String>,
    /// Where it stands in the note.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub span: Option<Span>,
}

/// Why a table of facts could not be read. Holds nothing of what the table says.
#[derive(Debug, thiserror::Error)]
pub enum FactsError {
    /// More bytes than a table may have.
    #[error("the table of facts has {found} bytes; at most {JSON_LIMIT} are read")]
    TooLong {
        /// Bytes there are.
        found: usize,
    },
    /// Not a table of facts.
    #[error("line {line}, column {column} of the table of facts: {what}")]
    Json {
        /// Counted from 1.
        line: usize,
        /// Counted from 1.
        column: usize,
        /// What kind of mistake.
        what: &'static str,
    },
    /// A number outside the range it may have.
    #[error("{what} must be {range}")]
    OutOfRange {
        /// What the number is.
        what: &'static str,
        /// The range in words.
        range: &'static str,
    },
}

impl Facts {
    /// Reads a table from JSON.
    ///
    /// # Errors
    /// Too long, no JSON, unknown keys, ids that are none, numbers out of range.
    pub fn from_json(json: &[u8]) -> Result<Self, FactsError> {
        if json.len() > JSON_LIMIT {
            return Err(FactsError::TooLong { found: json.len() });
        }
        serde_json::from_slice(json).map_err(|error| FactsError::Json {
            line: error.line(),
            column: error.column(),
            // The message of the parser quotes what it read: patient data stays out of it.
            what: match error.classify() {
                serde_json::error::Category::Data => {
                    "an unknown key, or a value that is not allowed"
                }
                serde_json::error::Category::Eof => "it ends too early",
                _ => "no valid JSON",
            },
        })
    }
}

impl Fact {
    /// The patient has it now.
    pub fn present(concept: ConceptId) -> Self {
        Self {
            concept,
            status: Status::default(),
            value: None,
            span: None,
            origin: Origin::Stated,
        }
    }

    /// The patient does not have it.
    pub fn absent(concept: ConceptId) -> Self {
        let mut fact = Self::present(concept);
        fact.status.certainty = crate::text::Certainty::Negated;
        fact
    }

    /// A measured value.
    pub fn measured(test: ConceptId, value: Quantity) -> Self {
        let mut fact = Self::present(test);
        fact.value = Some(value);
        fact.origin = Origin::Laboratory;
        fact
    }
}

impl Quantity {
    /// A finite number and its unit.
    ///
    /// # Errors
    /// A number that is not finite.
    pub fn new(number: f64, unit: impl Into<String>) -> Result<Self, FactsError> {
        if !number.is_finite() {
            return Err(FactsError::OutOfRange {
                what: "a measured value",
                range: "a finite number",
            });
        }
        Ok(Self {
            number,
            unit: unit.into(),
        })
    }

    /// The number, in its own unit.
    pub fn number(&self) -> f64 {
        self.number
    }

    /// The unit, as it was written.
    pub fn unit(&self) -> &str {
        &self.unit
    }
}

impl TryFrom<RawQuantity> for Quantity {
    type Error = FactsError;
    fn try_from(raw: RawQuantity) -> Result<Self, FactsError> {
        Self::new(raw.number, raw.unit)
    }
}

impl Years {
    /// The number of years.
    pub fn number(self) -> f64 {
        self.0
    }
}

impl TryFrom<f64> for Years {
    type Error = FactsError;
    fn try_from(years: f64) -> Result<Self, FactsError> {
        if (0.0..=130.0).contains(&years) {
            Ok(Self(years))
        } else {
            Err(FactsError::OutOfRange {
                what: "an age",
                range: "0 to 130 years",
            })
        }
    }
}

impl Kilograms {
    /// The number of kilograms.
    pub fn number(self) -> f64 {
        self.0
    }
}

impl TryFrom<f64> for Kilograms {
    type Error = FactsError;
    fn try_from(weight: f64) -> Result<Self, FactsError> {
        if weight > 0.0 && weight <= 700.0 {
            Ok(Self(weight))
        } else {
            Err(FactsError::OutOfRange {
                what: "a weight",
                range: "above 0 and at most 700 kg",
            })
        }
    }
}

fn is_plain(status: &Status) -> bool {
    *status == Status::default()
}

/// Written by hand: all of it is patient data.
impl fmt::Debug for Facts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Facts({})", self.facts.len())
    }
}

/// Written by hand: what is said of a patient is patient data.
impl fmt::Debug for Fact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fact({:?})", self.span)
    }
}

/// Written by hand: measured values are patient data.
impl fmt::Debug for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Quantity")
    }
}

/// Written by hand: who a patient is is patient data.
impl fmt::Debug for Demographics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Demographics")
    }
}

/// Written by hand: allergies are patient data.
impl fmt::Debug for Allergy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Allergy({:?})", self.span)
    }
}

/// Written by hand: what a patient takes is patient data.
impl fmt::Debug for Taken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Taken({:?})", self.span)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = r#"{
        "demographics": {"age": 72, "sex": "female", "weight_kg": 61.5, "pregnant": false},
        "facts": [
            {"concept": "finding.fever", "span": {"start": 3, "end": 8}, "origin": "note"},
            {"concept": "test.crp", "value": {"number": 120, "unit": "mg/L"}, "origin": "laboratory"},
            {"concept": "finding.cough",
             "status": {"certainty": "negated", "experiencer": "patient", "time": "current"}}
        ],
        "allergies": [],
        "drugs": [{"drug": "drug.warfarin", "dose": {"number": 5, "unit": "mg"}, "frequency": "once a day"}]
    }"#;

    #[test]
    fn a_table_is_the_same_after_a_journey_through_json() {
        let facts = Facts::from_json(TABLE.as_bytes()).expect("a table");
        assert_eq!(facts.facts.len(), 3);
        assert!(facts.facts[2].status.is_absent());
        assert_eq!(facts.demographics.age.map(Years::number), Some(72.0));
        let json = serde_json::to_vec(&facts).expect("JSON");
        assert!(Facts::from_json(&json).expect("a table") == facts);
    }

    #[test]
    fn nobody_asked_is_not_the_same_as_none() {
        let asked = Facts::from_json(TABLE.as_bytes()).expect("a table");
        let empty = Facts::from_json(b"{}").expect("a table");
        assert_eq!((asked.allergies, empty.allergies), (Some(vec![]), None));
    }

    #[test]
    fn nonsense_is_refused_with_its_place_and_without_its_words() {
        for bad in [
            r#"{"facts": [{"concept": "SECRET"}]}"#,
            r#"{"SECRET": 1}"#,
            r#"{"demographics": {"age": 131}}"#,
            r#"{"demographics": {"weight_kg": 0}}"#,
            r#"{"facts": [{"concept": "test.crp", "value": {"number": 1e999, "unit": "SECRET"}}]}"#,
            r#"{"facts": ["#,
            "SECRET",
        ] {
            let error = Facts::from_json(bad.as_bytes()).expect_err("no table");
            let said = error.to_string();
            assert!(
                said.contains("line 1") && !said.contains("SECRET"),
                "{said}"
            );
        }
        let long = vec![b' '; JSON_LIMIT + 1];
        let error = Facts::from_json(&long).expect_err("too long");
        assert!(matches!(error, FactsError::TooLong { .. }));
    }

    #[test]
    fn numbers_that_are_none_are_refused() {
        for number in [f64::NAN, f64::INFINITY] {
            assert!(Quantity::new(number, "mg").is_err());
            assert!(Years::try_from(number).is_err());
            assert!(Kilograms::try_from(number).is_err());
        }
    }

    #[test]
    fn what_is_printed_for_debugging_says_nothing_of_the_patient() {
        let facts = Facts::from_json(TABLE.as_bytes()).expect("a table");
        let said = format!(
            "{facts:?} {:?} {:?} {:?}",
            facts.facts, facts.drugs, facts.demographics
        );
        for word in ["fever", "120", "warfarin", "72", "emale"] {
            assert!(!said.contains(word), "{said}");
        }
    }
}

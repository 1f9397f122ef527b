//! The data types of FHIR R4 that resources are made of, as far as they are used.

use std::fmt;

use base64::{Engine, engine::general_purpose::STANDARD};
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{self, IntoDeserializer, value::StrDeserializer},
};

use super::{
    code::{CodeSystem, Comparator},
    moment::Moment,
};

/// The units of UCUM.
pub const UCUM: &str = "http://unitsofmeasure.org";
/// Codes of LOINC.
pub const LOINC: &str = "http://loinc.org";
/// Codes of SNOMED CT.
pub const SNOMED: &str = "http://snomed.info/sct";
/// UIDs of DICOM, as identifiers.
pub const DICOM_UID: &str = "urn:dicom:uid";

/// A code in a system.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Coding {
    /// Whose code it is: an address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub system: Option<String>,
    /// The code.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// How the system calls it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub display: Option<String>,
}

/// One thing, in the codes of several systems and in words.
#[derive(Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct CodeableConcept {
    /// Its codes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub coding: Vec<Coding>,
    /// As it was written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
}

/// A `CodeableConcept` of which exactly one code counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Coded<T>(pub T);

/// A name in a system.
#[derive(Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Identifier {
    /// Who gives the names: an address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub system: Option<String>,
    /// The name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
}

/// What another resource is known by.
#[derive(Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Reference {
    /// `Patient/12`, an address, `urn:uuid:…`, or `#…` of what the resource contains.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
    /// What kind of resource it is.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// What it is known by where there is no address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub identifier: Option<Identifier>,
}

/// A number with its unit.
#[derive(Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Quantity {
    /// The number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<f64>,
    /// On which side of it the true value lies; none where it is the value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub comparator: Option<Comparator>,
    /// The unit for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    /// Whose code the unit has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub system: Option<String>,
    /// The unit for machines.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
}

/// From one time to another.
#[derive(Clone, PartialEq, Eq, Default, Deserialize)]
pub struct Period {
    /// From when.
    pub start: Option<Moment>,
    /// Until when.
    pub end: Option<Moment>,
}

/// A document, within or by its address.
#[derive(Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Attachment {
    /// What it is: `text/plain; charset=utf-8`.
    pub content_type: Option<String>,
    /// Its bytes.
    #[serde(default, deserialize_with = "base64")]
    pub data: Option<Vec<u8>>,
    /// Where its bytes are.
    pub url: Option<String>,
    /// When it was written.
    pub creation: Option<Moment>,
}

impl CodeableConcept {
    /// What it says, in words: as it was written, or else how the first system that names it calls it.
    pub fn words(&self) -> Option<&str> {
        let displays = self
            .coding
            .iter()
            .filter_map(|coding| coding.display.as_deref());
        let mut all = self.text.as_deref().into_iter().chain(displays);
        all.find(|words| !words.trim().is_empty())
    }

    /// Whether it says nothing.
    pub fn is_empty(&self) -> bool {
        self.words().is_none() && self.coding.iter().all(|coding| coding.code.is_none())
    }

    /// Whether it has this code of a system.
    pub fn has(&self, system: &str, code: &str) -> bool {
        self.coding.iter().any(|coding| {
            coding.system.as_deref() == Some(system) && coding.code.as_deref() == Some(code)
        })
    }
}

impl Quantity {
    /// The unit: that for machines where it is one of UCUM, otherwise that for people. Empty without one.
    pub fn written_unit(&self) -> &str {
        let ucum = self.system.as_deref() == Some(UCUM);
        let code = self.code.as_deref().filter(|_| ucum);
        code.or(self.unit.as_deref())
            .or(self.code.as_deref())
            .unwrap_or_default()
    }
}

impl<'de, T: CodeSystem> Deserialize<'de> for Coded<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let concept = CodeableConcept::deserialize(deserializer)?;
        let ours = |coding: &&Coding| coding.system.as_deref().is_none_or(|it| it == T::SYSTEM);
        let mut codes = concept
            .coding
            .iter()
            .filter(ours)
            .filter_map(|coding| coding.code.as_deref());
        let code = codes
            .next()
            .ok_or_else(|| de::Error::custom("no code of its value set"))?;
        let code: StrDeserializer<'_, D::Error> = code.into_deserializer();
        T::deserialize(code).map(Self)
    }
}

/// Bytes in base64, in which blanks and line ends may stand.
pub(super) fn base64<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Vec<u8>>, D::Error> {
    let Some(text) = Option::<String>::deserialize(deserializer)? else {
        return Ok(None);
    };
    let mut bytes = text.into_bytes();
    bytes.retain(|byte| !byte.is_ascii_whitespace());
    let decoded = STANDARD.decode(&bytes);
    // What the decoder says would quote the text.
    decoded
        .map(Some)
        .map_err(|_| de::Error::custom("not base64"))
}

/// Written by hand: what is said of a patient is patient data.
impl fmt::Debug for CodeableConcept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CodeableConcept({} codes)", self.coding.len())
    }
}

/// Written by hand: it may name a patient.
impl fmt::Debug for Identifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Identifier")
    }
}

/// Written by hand: it may name a patient.
impl fmt::Debug for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Reference")
    }
}

/// Written by hand: measured values are patient data.
impl fmt::Debug for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Quantity")
    }
}

/// Written by hand: when something happened is patient data.
impl fmt::Debug for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Period")
    }
}

/// Written by hand: it holds a document about a patient.
impl fmt::Debug for Attachment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Attachment")
    }
}

#[cfg(test)]
mod tests {
    use super::{super::code::ConditionClinical, *};

    fn clinical(json: &str) -> Option<ConditionClinical> {
        let read: Result<Coded<ConditionClinical>, _> = serde_json::from_str(json);
        read.ok().map(|coded| coded.0)
    }

    #[test]
    fn the_code_of_the_closed_system_counts_and_others_may_stand_beside_it() {
        let system = ConditionClinical::SYSTEM;
        let ours = format!(
            r#"{{"coding": [{{"system": "urn:local", "code": "x"}}, {{"system": "{system}", "code": "relapse"}}]}}"#
        );
        assert_eq!(clinical(&ours), Some(ConditionClinical::Relapse));
        assert_eq!(
            clinical(r#"{"coding": [{"code": "active"}]}"#),
            Some(ConditionClinical::Active)
        );
        assert_eq!(clinical(&ours.replace("relapse", "maybe")), None);
        assert_eq!(clinical(r#"{"text": "active"}"#), None);
        // As older releases wrote it.
        assert_eq!(clinical(r#""active""#), None);
    }

    #[test]
    fn base64_is_read_with_line_ends_in_it_and_nothing_else_is() {
        let read = |data: &str| {
            let json = format!("{{\"data\": {data}}}");
            serde_json::from_str::<Attachment>(&json)
                .ok()
                .map(|read| read.data)
        };
        assert_eq!(read(r#""YS Bi\n""#), Some(Some(b"a b".to_vec())));
        assert_eq!(read(r#""""#), Some(Some(vec![])));
        assert_eq!(read("null"), Some(None));
        for bad in [r#""YSB""#, r#""Y-_i""#, r#""YSBi=""#, "3", r#""é""#] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_unit_for_machines_comes_before_one_for_people() {
        let quantity = |system: Option<&str>| Quantity {
            unit: Some("Grad".into()),
            system: system.map(str::to_owned),
            code: Some("Cel".into()),
            ..Quantity::default()
        };
        assert_eq!(quantity(Some(UCUM)).written_unit(), "Cel");
        assert_eq!(quantity(None).written_unit(), "Grad");
        assert_eq!(Quantity::default().written_unit(), "");
    }
}

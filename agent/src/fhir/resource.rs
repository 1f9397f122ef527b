//! The resources of FHIR R4 that are read, with the fields that are used.

use std::fmt;

use serde::Deserialize;

use super::{
    code::{
        AllergyCategory, AllergyClinical, AllergyVerification, ConditionClinical,
        ConditionVerification, DiagnosticReportStatus, DocumentReferenceStatus, DocumentStatus,
        Gender, MedicationRequestIntent, MedicationRequestStatus, ObservationStatus,
    },
    element::{Attachment, CodeableConcept, Coded, Period, Quantity, Reference, base64},
    moment::Moment,
};

/// A resource that is read.
#[derive(Clone, PartialEq)]
#[allow(missing_docs, reason = "named by the standard")]
pub enum Resource {
    AllergyIntolerance(AllergyIntolerance),
    Binary(Binary),
    Condition(Condition),
    DiagnosticReport(DiagnosticReport),
    DocumentReference(DocumentReference),
    Medication(Medication),
    MedicationRequest(MedicationRequest),
    Observation(Box<Observation>),
    Patient(Patient),
}

/// To what a patient is allergic.
#[derive(Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs, reason = "named by the standard")]
pub struct AllergyIntolerance {
    pub clinical_status: Option<Coded<AllergyClinical>>,
    pub verification_status: Option<Coded<AllergyVerification>>,
    #[serde(default)]
    pub category: Vec<AllergyCategory>,
    pub code: Option<CodeableConcept>,
    pub patient: Reference,
    #[serde(default)]
    pub reaction: Vec<Reaction>,
}

/// How an allergy showed.
#[derive(Clone, PartialEq, Deserialize)]
pub struct Reaction {
    /// The substance, where it is closer than that of the allergy.
    pub substance: Option<CodeableConcept>,
}

/// Bytes that other resources point to.
#[derive(Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs, reason = "named by the standard")]
pub struct Binary {
    pub content_type: String,
    #[serde(default, deserialize_with = "base64")]
    pub data: Option<Vec<u8>>,
}

/// What a patient has.
#[derive(Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs, reason = "named by the standard")]
pub struct Condition {
    pub clinical_status: Option<Coded<ConditionClinical>>,
    pub verification_status: Option<Coded<ConditionVerification>>,
    pub code: Option<CodeableConcept>,
    pub subject: Reference,
    pub onset_date_time: Option<Moment>,
    pub abatement_date_time: Option<Moment>,
    pub recorded_date: Option<Moment>,
}

/// Findings with their interpretation.
#[derive(Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs, reason = "named by the standard")]
pub struct DiagnosticReport {
    pub status: DiagnosticReportStatus,
    pub code: CodeableConcept,
    pub subject: Option<Reference>,
    pub effective_date_time: Option<Moment>,
    pub effective_period: Option<Period>,
    pub issued: Option<Moment>,
    pub conclusion: Option<String>,
    #[serde(default)]
    pub presented_form: Vec<Attachment>,
}

/// A document about a patient.
#[derive(Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs, reason = "named by the standard")]
pub struct DocumentReference {
    pub status: DocumentReferenceStatus,
    pub doc_status: Option<DocumentStatus>,
    #[serde(rename = "type")]
    pub kind: Option<CodeableConcept>,
    pub subject: Option<Reference>,
    pub date: Option<Moment>,
    pub content: Vec<DocumentContent>,
}

/// A document in one form.
#[derive(Clone, PartialEq, Deserialize)]
#[allow(missing_docs, reason = "named by the standard")]
pub struct DocumentContent {
    pub attachment: Attachment,
}

/// A medicine.
#[derive(Clone, PartialEq, Deserialize)]
#[allow(missing_docs, reason = "named by the standard")]
pub struct Medication {
    pub code: Option<CodeableConcept>,
}

/// A prescription.
#[derive(Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs, reason = "named by the standard")]
pub struct MedicationRequest {
    pub status: MedicationRequestStatus,
    pub intent: MedicationRequestIntent,
    #[serde(default)]
    pub do_not_perform: bool,
    pub medication_codeable_concept: Option<CodeableConcept>,
    pub medication_reference: Option<Reference>,
    pub subject: Reference,
    pub authored_on: Option<Moment>,
    #[serde(default)]
    pub dosage_instruction: Vec<Dosage>,
}

/// How a medicine is taken.
#[derive(Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs, reason = "named by the standard")]
pub struct Dosage {
    pub text: Option<String>,
    pub timing: Option<Timing>,
    #[serde(default)]
    pub dose_and_rate: Vec<DoseAndRate>,
}

/// When a medicine is taken.
#[derive(Clone, PartialEq, Deserialize)]
#[allow(missing_docs, reason = "named by the standard")]
pub struct Timing {
    pub repeat: Option<Repeat>,
    pub code: Option<CodeableConcept>,
}

/// So often in so long.
#[derive(Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs, reason = "named by the standard")]
pub struct Repeat {
    pub frequency: Option<u32>,
    pub period: Option<f64>,
    pub period_unit: Option<PeriodUnit>,
}

/// Second, minute, hour, day, week, month, year (`units-of-time`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs, reason = "named by the standard")]
pub enum PeriodUnit {
    S,
    Min,
    H,
    D,
    Wk,
    Mo,
    A,
}

/// How much of a medicine at a time.
#[derive(Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs, reason = "named by the standard")]
pub struct DoseAndRate {
    pub dose_quantity: Option<Quantity>,
}

/// What was observed or measured.
#[derive(Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs, reason = "named by the standard")]
pub struct Observation {
    pub status: ObservationStatus,
    #[serde(default)]
    pub category: Vec<CodeableConcept>,
    pub code: CodeableConcept,
    pub subject: Option<Reference>,
    pub effective_date_time: Option<Moment>,
    pub effective_instant: Option<Moment>,
    pub effective_period: Option<Period>,
    pub issued: Option<Moment>,
    pub value_quantity: Option<Quantity>,
    pub value_codeable_concept: Option<CodeableConcept>,
    #[serde(default)]
    pub interpretation: Vec<CodeableConcept>,
    #[serde(default)]
    pub reference_range: Vec<ReferenceRange>,
    #[serde(default)]
    pub component: Vec<Component>,
}

/// One of several things that were observed together.
#[derive(Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs, reason = "named by the standard")]
pub struct Component {
    pub code: CodeableConcept,
    pub value_quantity: Option<Quantity>,
    pub value_codeable_concept: Option<CodeableConcept>,
    #[serde(default)]
    pub interpretation: Vec<CodeableConcept>,
    #[serde(default)]
    pub reference_range: Vec<ReferenceRange>,
}

/// Where a value is normal.
#[derive(Clone, PartialEq, Deserialize)]
#[allow(missing_docs, reason = "named by the standard")]
pub struct ReferenceRange {
    pub low: Option<Quantity>,
    pub high: Option<Quantity>,
}

/// Who a patient is, as far as it is used.
#[derive(Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs, reason = "named by the standard")]
pub struct Patient {
    pub gender: Option<Gender>,
    pub birth_date: Option<Moment>,
}

impl Resource {
    /// Reads a resource of a known kind; `None` where that kind is not read.
    pub(super) fn read(kind: &str, json: &str) -> serde_json::Result<Option<Self>> {
        Ok(Some(match kind {
            "AllergyIntolerance" => Self::AllergyIntolerance(serde_json::from_str(json)?),
            "Binary" => Self::Binary(serde_json::from_str(json)?),
            "Condition" => Self::Condition(serde_json::from_str(json)?),
            "DiagnosticReport" => Self::DiagnosticReport(serde_json::from_str(json)?),
            "DocumentReference" => Self::DocumentReference(serde_json::from_str(json)?),
            "Medication" => Self::Medication(serde_json::from_str(json)?),
            "MedicationRequest" => Self::MedicationRequest(serde_json::from_str(json)?),
            "Observation" => Self::Observation(serde_json::from_str(json)?),
            "Patient" => Self::Patient(serde_json::from_str(json)?),
            _ => return Ok(None),
        }))
    }

    /// What kind of resource it is.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::AllergyIntolerance(_) => "AllergyIntolerance",
            Self::Binary(_) => "Binary",
            Self::Condition(_) => "Condition",
            Self::DiagnosticReport(_) => "DiagnosticReport",
            Self::DocumentReference(_) => "DocumentReference",
            Self::Medication(_) => "Medication",
            Self::MedicationRequest(_) => "MedicationRequest",
            Self::Observation(_) => "Observation",
            Self::Patient(_) => "Patient",
        }
    }

    /// Whose it is.
    pub fn patient(&self) -> Option<&Reference> {
        match self {
            Self::AllergyIntolerance(it) => Some(&it.patient),
            Self::Condition(it) => Some(&it.subject),
            Self::DiagnosticReport(it) => it.subject.as_ref(),
            Self::DocumentReference(it) => it.subject.as_ref(),
            Self::MedicationRequest(it) => Some(&it.subject),
            Self::Observation(it) => it.subject.as_ref(),
            Self::Binary(_) | Self::Medication(_) | Self::Patient(_) => None,
        }
    }

    /// Every reference that is followed.
    pub(super) fn references(&self) -> impl Iterator<Item = &str> {
        let medication = match self {
            Self::MedicationRequest(it) => it.medication_reference.as_ref(),
            _ => None,
        };
        let all = self.patient().into_iter().chain(medication);
        all.filter_map(|reference| reference.reference.as_deref())
    }
}

/// Written by hand: what a resource says is patient data.
impl fmt::Debug for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind())
    }
}

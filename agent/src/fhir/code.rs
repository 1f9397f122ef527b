//! Codes of FHIR R4 whose value sets are closed. Validators accept any word in their place; these types do
//! not.

use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// A closed list of codes that is written as a `CodeableConcept`.
pub trait CodeSystem: DeserializeOwned {
    /// Its canonical address.
    const SYSTEM: &'static str;
}

/// How far a diagnostic report is (`diagnostic-report-status`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs, reason = "named by the standard")]
pub enum DiagnosticReportStatus {
    Registered,
    Partial,
    Preliminary,
    Final,
    Amended,
    Corrected,
    Appended,
    Cancelled,
    EnteredInError,
    Unknown,
}

/// How far an observation is (`observation-status`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs, reason = "named by the standard")]
pub enum ObservationStatus {
    Registered,
    Preliminary,
    Final,
    Amended,
    Corrected,
    Cancelled,
    EnteredInError,
    Unknown,
}

/// Whether a reference to a document is the latest (`document-reference-status`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs, reason = "named by the standard")]
pub enum DocumentReferenceStatus {
    Current,
    Superseded,
    EnteredInError,
}

/// How far a document is (`composition-status`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs, reason = "named by the standard")]
pub enum DocumentStatus {
    Preliminary,
    Final,
    Amended,
    EnteredInError,
}

/// Whether a condition is there now (`condition-clinical`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs, reason = "named by the standard")]
pub enum ConditionClinical {
    Active,
    Recurrence,
    Relapse,
    Inactive,
    Remission,
    Resolved,
}

/// How sure a condition is (`condition-ver-status`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs, reason = "named by the standard")]
pub enum ConditionVerification {
    Unconfirmed,
    Provisional,
    Differential,
    Confirmed,
    Refuted,
    EnteredInError,
}

/// Whether an allergy is there now (`allergyintolerance-clinical`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs, reason = "named by the standard")]
pub enum AllergyClinical {
    Active,
    Inactive,
    Resolved,
}

/// How sure an allergy is (`allergyintolerance-verification`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs, reason = "named by the standard")]
pub enum AllergyVerification {
    Unconfirmed,
    Confirmed,
    Refuted,
    EnteredInError,
}

/// To what kind of thing somebody is allergic (`allergy-intolerance-category`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs, reason = "named by the standard")]
pub enum AllergyCategory {
    Food,
    Medication,
    Environment,
    Biologic,
}

/// How far a prescription is (`medicationrequest-status`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs, reason = "named by the standard")]
pub enum MedicationRequestStatus {
    Active,
    OnHold,
    Cancelled,
    Completed,
    EnteredInError,
    Stopped,
    Draft,
    Unknown,
}

/// What a prescription is meant as (`medicationrequest-intent`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs, reason = "named by the standard")]
pub enum MedicationRequestIntent {
    Proposal,
    Plan,
    Order,
    OriginalOrder,
    ReflexOrder,
    FillerOrder,
    InstanceOrder,
    Option,
}

/// Administrative gender (`administrative-gender`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs, reason = "named by the standard")]
pub enum Gender {
    Male,
    Female,
    Other,
    Unknown,
}

/// On which side of the number the true value lies (`quantity-comparator`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Comparator {
    /// Below it.
    #[serde(rename = "<")]
    Below,
    /// Not above it.
    #[serde(rename = "<=")]
    AtMost,
    /// Not below it.
    #[serde(rename = ">=")]
    AtLeast,
    /// Above it.
    #[serde(rename = ">")]
    Above,
}

/// What a bundle is for (`bundle-type`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs, reason = "named by the standard")]
pub enum BundleType {
    Document,
    Message,
    Transaction,
    TransactionResponse,
    Batch,
    BatchResponse,
    History,
    Searchset,
    Collection,
}

impl CodeSystem for ConditionClinical {
    const SYSTEM: &'static str = "http://terminology.hl7.org/CodeSystem/condition-clinical";
}

impl CodeSystem for ConditionVerification {
    const SYSTEM: &'static str = "http://terminology.hl7.org/CodeSystem/condition-ver-status";
}

impl CodeSystem for AllergyClinical {
    const SYSTEM: &'static str =
        "http://terminology.hl7.org/CodeSystem/allergyintolerance-clinical";
}

impl CodeSystem for AllergyVerification {
    const SYSTEM: &'static str =
        "http://terminology.hl7.org/CodeSystem/allergyintolerance-verification";
}

/// Every kind of resource that R4 has, in order.
const RESOURCE_TYPES: &[&str] = &[
    "Account",
    "ActivityDefinition",
    "AdverseEvent",
    "AllergyIntolerance",
    "Appointment",
    "AppointmentResponse",
    "AuditEvent",
    "Basic",
    "Binary",
    "BiologicallyDerivedProduct",
    "BodyStructure",
    "Bundle",
    "CapabilityStatement",
    "CarePlan",
    "CareTeam",
    "CatalogEntry",
    "ChargeItem",
    "ChargeItemDefinition",
    "Claim",
    "ClaimResponse",
    "ClinicalImpression",
    "CodeSystem",
    "Communication",
    "CommunicationRequest",
    "CompartmentDefinition",
    "Composition",
    "ConceptMap",
    "Condition",
    "Consent",
    "Contract",
    "Coverage",
    "CoverageEligibilityRequest",
    "CoverageEligibilityResponse",
    "DetectedIssue",
    "Device",
    "DeviceDefinition",
    "DeviceMetric",
    "DeviceRequest",
    "DeviceUseStatement",
    "DiagnosticReport",
    "DocumentManifest",
    "DocumentReference",
    "EffectEvidenceSynthesis",
    "Encounter",
    "Endpoint",
    "EnrollmentRequest",
    "EnrollmentResponse",
    "EpisodeOfCare",
    "EventDefinition",
    "Evidence",
    "EvidenceVariable",
    "ExampleScenario",
    "ExplanationOfBenefit",
    "FamilyMemberHistory",
    "Flag",
    "Goal",
    "GraphDefinition",
    "Group",
    "GuidanceResponse",
    "HealthcareService",
    "ImagingStudy",
    "Immunization",
    "ImmunizationEvaluation",
    "ImmunizationRecommendation",
    "ImplementationGuide",
    "InsurancePlan",
    "Invoice",
    "Library",
    "Linkage",
    "List",
    "Location",
    "Measure",
    "MeasureReport",
    "Media",
    "Medication",
    "MedicationAdministration",
    "MedicationDispense",
    "MedicationKnowledge",
    "MedicationRequest",
    "MedicationStatement",
    "MedicinalProduct",
    "MedicinalProductAuthorization",
    "MedicinalProductContraindication",
    "MedicinalProductIndication",
    "MedicinalProductIngredient",
    "MedicinalProductInteraction",
    "MedicinalProductManufactured",
    "MedicinalProductPackaged",
    "MedicinalProductPharmaceutical",
    "MedicinalProductUndesirableEffect",
    "MessageDefinition",
    "MessageHeader",
    "MolecularSequence",
    "NamingSystem",
    "NutritionOrder",
    "Observation",
    "ObservationDefinition",
    "OperationDefinition",
    "OperationOutcome",
    "Organization",
    "OrganizationAffiliation",
    "Parameters",
    "Patient",
    "PaymentNotice",
    "PaymentReconciliation",
    "Person",
    "PlanDefinition",
    "Practitioner",
    "PractitionerRole",
    "Procedure",
    "Provenance",
    "Questionnaire",
    "QuestionnaireResponse",
    "RelatedPerson",
    "RequestGroup",
    "ResearchDefinition",
    "ResearchElementDefinition",
    "ResearchStudy",
    "ResearchSubject",
    "RiskAssessment",
    "RiskEvidenceSynthesis",
    "Schedule",
    "SearchParameter",
    "ServiceRequest",
    "Slot",
    "Specimen",
    "SpecimenDefinition",
    "StructureDefinition",
    "StructureMap",
    "Subscription",
    "Substance",
    "SubstanceNucleicAcid",
    "SubstancePolymer",
    "SubstanceProtein",
    "SubstanceReferenceInformation",
    "SubstanceSourceMaterial",
    "SubstanceSpecification",
    "SupplyDelivery",
    "SupplyRequest",
    "Task",
    "TerminologyCapabilities",
    "TestReport",
    "TestScript",
    "ValueSet",
    "VerificationResult",
    "VisionPrescription",
];

/// The kind of resource by its name; none where R4 has no such kind.
pub(super) fn resource_type(name: &str) -> Option<&'static str> {
    let found = RESOURCE_TYPES.binary_search(&name).ok()?;
    RESOURCE_TYPES.get(found).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_of_resources_are_found_by_their_exact_name() {
        assert!(RESOURCE_TYPES.is_sorted());
        assert_eq!(resource_type("Observation"), Some("Observation"));
        assert_eq!(resource_type("observation"), None);
        assert_eq!(resource_type(""), None);
    }

    #[test]
    fn codes_are_spelled_as_the_standard_spells_them() {
        let read = |code: &str| serde_json::from_str::<ObservationStatus>(code).ok();
        assert_eq!(
            read("\"entered-in-error\""),
            Some(ObservationStatus::EnteredInError)
        );
        assert_eq!(read("\"maybe\""), None);
        assert_eq!(read("\"Final\""), None);
    }
}

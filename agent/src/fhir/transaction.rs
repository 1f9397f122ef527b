//! A report as a transaction `Bundle` of FHIR R4.
//!
//! | entry | what it says |
//! |---|---|
//! | `Device` | the model: name, version, digest of its weights |
//! | `Observation` | the probability of each class |
//! | `Observation` | the classes that cannot be excluded, and at which error rate |
//! | `Observation` | whether the input is unlike the data of training |
//! | `DiagnosticReport` | all of these with the conclusion; `preliminary`, as nobody has reviewed it |
//! | `CarePlan` | what could be done; a `draft` and a `proposal` |
//! | `Provenance` | that the device made them, and from what |
//!
//! Each carries the tag `research-only`. Names and times come from the report, so the same
//! report gives the same bytes. Sent again nothing is made twice but the `Provenance`, which R4 gives no
//! identifier: the others are made only where none of that identifier exists.

use serde::{Serialize, Serializer};

use super::{
    code::{BundleType, DiagnosticReportStatus, ObservationStatus},
    element::{CodeableConcept, Coding, Identifier, LOINC, Quantity, Reference, UCUM},
    plan::{Activity, ActivityKind, ProposedPlan},
    report::{Code, Input, InputKind, Instant, Link, LinkName, Model, NOTICE, Report},
};

/// Whose tag says what a resource is for.
pub const USE: &str = "urn:consilium:use";
/// The tag that everything carries.
pub const RESEARCH_ONLY: &str = "research-only";
/// Whose codes say what is observed of a prediction.
pub const OBSERVED: &str = "urn:consilium:observation";
/// Whose codes are names of classes.
pub const CLASSES: &str = "urn:consilium:class";
/// Whose identifiers are SHA-256 digests.
pub const DIGESTS: &str = "urn:consilium:sha-256";
/// Whose identifiers are addresses.
const ADDRESSES: &str = "urn:ietf:rfc:3986";

/// Parts of what is written, by which they are named.
#[derive(Clone, Copy)]
#[repr(u16)]
enum Part {
    Device,
    Probabilities,
    PredictionSet,
    Unlike,
    Report,
    Plan,
    Provenance,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Bundle {
    resource_type: &'static str,
    #[serde(rename = "type")]
    kind: BundleType,
    entry: Vec<Entry>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    full_url: String,
    resource: Written,
    request: Request,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Request {
    method: Method,
    url: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    if_none_exist: Option<String>,
}

#[derive(Serialize)]
enum Method {
    #[serde(rename = "POST")]
    Post,
}

/// A resource that is written.
#[derive(Serialize)]
#[serde(tag = "resourceType")]
enum Written {
    Device(Device),
    Observation(Observation),
    DiagnosticReport(DiagnosticReport),
    CarePlan(CarePlan),
    Provenance(Provenance),
}

#[derive(Serialize)]
struct Meta {
    tag: [Coding; 1],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Device {
    meta: Meta,
    identifier: [Identifier; 1],
    status: DeviceStatus,
    device_name: [DeviceName; 1],
    #[serde(rename = "type")]
    kind: CodeableConcept,
    version: [DeviceVersion; 1],
    note: [Annotation; 1],
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
enum DeviceStatus {
    Active,
}

#[derive(Serialize)]
struct DeviceName {
    name: String,
    #[serde(rename = "type")]
    kind: DeviceNameType,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
enum DeviceNameType {
    ModelName,
}

#[derive(Serialize)]
struct DeviceVersion {
    value: String,
}

#[derive(Serialize)]
struct Annotation {
    text: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Observation {
    meta: Meta,
    identifier: [Identifier; 1],
    status: ObservationStatus,
    code: CodeableConcept,
    subject: Reference,
    effective_date_time: Instant,
    issued: Instant,
    #[serde(skip_serializing_if = "Option::is_none")]
    value_boolean: Option<bool>,
    device: Reference,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    component: Vec<Component>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Component {
    code: CodeableConcept,
    #[serde(skip_serializing_if = "Option::is_none")]
    value_quantity: Option<Quantity>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value_codeable_concept: Option<CodeableConcept>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct DiagnosticReport {
    meta: Meta,
    identifier: [Identifier; 1],
    status: DiagnosticReportStatus,
    category: [CodeableConcept; 1],
    code: CodeableConcept,
    subject: Reference,
    effective_date_time: Instant,
    issued: Instant,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    result: Vec<Reference>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    imaging_study: Vec<Reference>,
    conclusion: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    conclusion_code: Vec<CodeableConcept>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct CarePlan {
    meta: Meta,
    identifier: [Identifier; 1],
    status: CarePlanStatus,
    intent: CarePlanIntent,
    title: String,
    description: &'static str,
    subject: Reference,
    created: Instant,
    author: Reference,
    supporting_info: [Reference; 1],
    #[serde(skip_serializing_if = "Vec::is_empty")]
    activity: Vec<PlannedActivity>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    note: Vec<Annotation>,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
enum CarePlanStatus {
    Draft,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
enum CarePlanIntent {
    Proposal,
}

#[derive(Serialize)]
struct PlannedActivity {
    detail: ActivityDetail,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ActivityDetail {
    kind: RequestKind,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<CodeableConcept>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    reason_code: Vec<CodeableConcept>,
    status: ActivityStatus,
    #[serde(skip_serializing_if = "Option::is_none")]
    product_codeable_concept: Option<CodeableConcept>,
    description: String,
}

#[derive(Serialize)]
enum RequestKind {
    MedicationRequest,
    ServiceRequest,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
enum ActivityStatus {
    NotStarted,
}

#[derive(Serialize)]
struct Provenance {
    meta: Meta,
    target: Vec<Reference>,
    recorded: Instant,
    agent: [Agent; 1],
    entity: Vec<ReadEntity>,
}

#[derive(Serialize)]
struct Agent {
    #[serde(rename = "type")]
    kind: CodeableConcept,
    who: Reference,
}

#[derive(Serialize)]
struct ReadEntity {
    role: EntityRole,
    what: Reference,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
enum EntityRole {
    Source,
}

impl Report {
    /// The report as a transaction `Bundle`, in JSON.
    pub fn to_fhir(&self) -> String {
        let mut entry = vec![self.entry(Part::Device, Written::Device(device(&self.model)))];
        let mut results = Vec::new();
        for (part, observation) in self.observations() {
            results.push(self.reference(part));
            entry.push(self.entry(part, Written::Observation(observation)));
        }
        let mut target = results.clone();
        target.push(self.reference(Part::Report));
        let report = self.diagnostic_report(results);
        entry.push(self.entry(Part::Report, Written::DiagnosticReport(report)));
        if let Some(plan) = &self.plan {
            target.push(self.reference(Part::Plan));
            let plan = Written::CarePlan(self.care_plan(plan));
            entry.push(self.entry(Part::Plan, plan));
        }
        let provenance = self.provenance(target);
        entry.push(self.entry(Part::Provenance, Written::Provenance(provenance)));
        let bundle = Bundle {
            resource_type: "Bundle",
            kind: BundleType::Transaction,
            entry,
        };
        // Only maps with keys that are no texts, and writers, can fail: there are none.
        serde_json::to_string_pretty(&bundle).expect("plain values become JSON")
    }

    fn entry(&self, part: Part, resource: Written) -> Entry {
        let (url, identifier) = match &resource {
            Written::Device(it) => ("Device", Some(&it.identifier[0])),
            Written::Observation(it) => ("Observation", Some(&it.identifier[0])),
            Written::DiagnosticReport(it) => ("DiagnosticReport", Some(&it.identifier[0])),
            Written::CarePlan(it) => ("CarePlan", Some(&it.identifier[0])),
            Written::Provenance(_) => ("Provenance", None),
        };
        let if_none_exist = identifier.and_then(|identifier| {
            let (system, value) = (identifier.system.as_ref()?, identifier.value.as_ref()?);
            Some(format!("identifier={system}|{value}"))
        });
        Entry {
            full_url: self.id.part(part as u16),
            resource,
            request: Request {
                method: Method::Post,
                url,
                if_none_exist,
            },
        }
    }

    fn reference(&self, part: Part) -> Reference {
        Reference {
            reference: Some(self.id.part(part as u16)),
            ..Reference::default()
        }
    }

    fn identifier(&self, part: Part) -> [Identifier; 1] {
        [Identifier {
            system: Some(ADDRESSES.into()),
            value: Some(self.id.part(part as u16)),
        }]
    }

    fn observations(&self) -> Vec<(Part, Observation)> {
        let mut all = Vec::new();
        if !self.classes.is_empty() {
            let components = self.classes.iter().map(|class| Component {
                code: ours(CLASSES, class.name.as_str(), class.name.as_str()),
                value_quantity: Some(ratio(class.probability.number())),
                value_codeable_concept: None,
            });
            all.push((
                Part::Probabilities,
                Observation {
                    component: components.collect(),
                    ..self.observation(Part::Probabilities)
                },
            ));
        }
        if let Some(set) = &self.prediction_set {
            let rate = Component {
                code: ours(OBSERVED, "error-rate", "How often the true class is missed"),
                value_quantity: Some(ratio(set.error_rate.number())),
                value_codeable_concept: None,
            };
            let classes = set.classes.iter().map(|class| Component {
                code: ours(
                    OBSERVED,
                    "in-prediction-set",
                    "Class that cannot be excluded",
                ),
                value_quantity: None,
                value_codeable_concept: Some(ours(CLASSES, class.as_str(), class.as_str())),
            });
            all.push((
                Part::PredictionSet,
                Observation {
                    component: [rate].into_iter().chain(classes).collect(),
                    ..self.observation(Part::PredictionSet)
                },
            ));
        }
        if let Some(unlike) = self.unlike_training_data {
            all.push((
                Part::Unlike,
                Observation {
                    value_boolean: Some(unlike),
                    ..self.observation(Part::Unlike)
                },
            ));
        }
        all
    }

    /// An observation that says nothing yet.
    fn observation(&self, part: Part) -> Observation {
        let (code, name) = match part {
            Part::Probabilities => ("class-probabilities", "Probability of each class"),
            Part::PredictionSet => ("prediction-set", "Classes that cannot be excluded"),
            _ => ("unlike-training-data", "Unlike the data of training"),
        };
        Observation {
            meta: meta(),
            identifier: self.identifier(part),
            status: ObservationStatus::Preliminary,
            code: ours(OBSERVED, code, name),
            subject: reference("Patient", &self.subject),
            effective_date_time: self.made.clone(),
            issued: self.made.clone(),
            value_boolean: None,
            device: self.reference(Part::Device),
            component: Vec::new(),
        }
    }

    fn diagnostic_report(&self, result: Vec<Reference>) -> DiagnosticReport {
        let (category, name) = match self.input.kind {
            InputKind::Image => ("RAD", "Radiology"),
            InputKind::Note => ("OTH", "Other"),
        };
        let code = match self.input.kind {
            InputKind::Image => ours(LOINC, "18748-4", "Diagnostic imaging study"),
            InputKind::Note => ours(OBSERVED, "note-report", "Report on a clinical note"),
        };
        DiagnosticReport {
            meta: meta(),
            identifier: self.identifier(Part::Report),
            status: DiagnosticReportStatus::Preliminary,
            category: [ours(
                "http://terminology.hl7.org/CodeSystem/v2-0074",
                category,
                name,
            )],
            code,
            subject: reference("Patient", &self.subject),
            effective_date_time: self.made.clone(),
            issued: self.made.clone(),
            result,
            imaging_study: self
                .input
                .study
                .iter()
                .map(|study| reference("ImagingStudy", study))
                .collect(),
            conclusion: format!("{}\n{NOTICE}", self.conclusion.as_str()),
            conclusion_code: self.conclusion_codes.iter().map(concept).collect(),
        }
    }

    fn care_plan(&self, plan: &ProposedPlan) -> CarePlan {
        let notes = plan.notes.iter().map(|note| Annotation {
            text: note.as_str().to_owned(),
        });
        CarePlan {
            meta: meta(),
            identifier: self.identifier(Part::Plan),
            status: CarePlanStatus::Draft,
            intent: CarePlanIntent::Proposal,
            title: plan.title.as_str().to_owned(),
            description: NOTICE,
            subject: reference("Patient", &self.subject),
            created: self.made.clone(),
            author: self.reference(Part::Device),
            supporting_info: [self.reference(Part::Report)],
            activity: plan.activities.iter().map(planned).collect(),
            note: notes.collect(),
        }
    }

    fn provenance(&self, target: Vec<Reference>) -> Provenance {
        Provenance {
            meta: meta(),
            target,
            recorded: self.made.clone(),
            agent: [Agent {
                kind: ours(
                    "http://terminology.hl7.org/CodeSystem/provenance-participant-type",
                    "assembler",
                    "Assembler",
                ),
                who: self.reference(Part::Device),
            }],
            entity: read(&self.input),
        }
    }
}

fn device(model: &Model) -> Device {
    Device {
        meta: meta(),
        identifier: [Identifier {
            system: Some(DIGESTS.into()),
            value: Some(model.digest.to_string()),
        }],
        status: DeviceStatus::Active,
        device_name: [DeviceName {
            name: model.name.as_str().to_owned(),
            kind: DeviceNameType::ModelName,
        }],
        kind: CodeableConcept {
            text: Some("Machine-learned model".into()),
            ..CodeableConcept::default()
        },
        version: [DeviceVersion {
            value: model.version.as_str().to_owned(),
        }],
        note: [Annotation {
            text: NOTICE.into(),
        }],
    }
}

fn planned(activity: &Activity) -> PlannedActivity {
    let what = Some(concept(&activity.what));
    let (kind, code, product) = match activity.kind {
        ActivityKind::Medicine => (RequestKind::MedicationRequest, None, what),
        ActivityKind::Procedure => (RequestKind::ServiceRequest, what, None),
    };
    let sources: Vec<&str> = activity
        .sources
        .iter()
        .map(|source| source.as_str())
        .collect();
    PlannedActivity {
        detail: ActivityDetail {
            kind,
            code,
            reason_code: activity.reasons.iter().map(concept).collect(),
            status: ActivityStatus::NotStarted,
            product_codeable_concept: product,
            description: format!("{} [{}]", activity.says.as_str(), sources.join("; ")),
        },
    }
}

/// What was read: where it came from, and its digest.
fn read(input: &Input) -> Vec<ReadEntity> {
    let digest = Reference {
        identifier: Some(Identifier {
            system: Some(DIGESTS.into()),
            value: Some(input.digest.to_string()),
        }),
        ..Reference::default()
    };
    let sources = input
        .sources
        .iter()
        .map(|source| reference(source.kind.name(), &source.link));
    let all = sources.chain([digest]);
    all.map(|what| ReadEntity {
        role: EntityRole::Source,
        what,
    })
    .collect()
}

fn meta() -> Meta {
    Meta {
        tag: [Coding {
            system: Some(USE.into()),
            code: Some(RESEARCH_ONLY.into()),
            display: Some("Research use only, not for diagnosis".into()),
        }],
    }
}

fn ours(system: &str, code: &str, name: &str) -> CodeableConcept {
    CodeableConcept {
        coding: vec![Coding {
            system: Some(system.to_owned()),
            code: Some(code.to_owned()),
            display: Some(name.to_owned()),
        }],
        text: Some(name.to_owned()),
    }
}

fn concept(code: &Code) -> CodeableConcept {
    ours(code.system.as_str(), code.code.as_str(), code.name.as_str())
}

/// A number without a unit.
fn ratio(number: f64) -> Quantity {
    Quantity {
        value: Some(number),
        system: Some(UCUM.into()),
        code: Some("1".into()),
        ..Quantity::default()
    }
}

fn reference(kind: &str, link: &Link) -> Reference {
    match &link.0 {
        LinkName::Id(id) => Reference {
            reference: Some(format!("{kind}/{}", id.as_str())),
            kind: Some(kind.into()),
            identifier: None,
        },
        LinkName::Identifier { system, value } => Reference {
            reference: None,
            kind: Some(kind.into()),
            identifier: Some(Identifier {
                system: Some(system.as_str().to_owned()),
                value: Some(value.as_str().to_owned()),
            }),
        },
    }
}

impl Serialize for Instant {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::path::Path;

    use serde_json::Value;

    use super::{super::report::tests::full, *};
    use crate::fhir::parse;

    /// A report with everything in it, as it is written.
    pub(in crate::fhir) fn text() -> String {
        full().to_fhir()
    }

    fn written(report: &Report) -> Value {
        serde_json::from_str(&report.to_fhir()).expect("JSON")
    }

    fn resources<'b>(bundle: &'b Value, kind: &str) -> Vec<&'b Value> {
        let entries = bundle["entry"].as_array().expect("entries");
        let all = entries.iter().map(|entry| &entry["resource"]);
        all.filter(|it| it["resourceType"] == kind).collect()
    }

    #[test]
    fn everything_is_preliminary_and_for_research_only() {
        let bundle = written(&full());
        assert_eq!(bundle["type"], "transaction");
        let entries = bundle["entry"].as_array().expect("entries");
        assert_eq!(entries.len(), 7);
        for entry in entries {
            assert_eq!(entry["resource"]["meta"]["tag"][0]["code"], RESEARCH_ONLY);
            assert_eq!(entry["request"]["method"], "POST");
            assert_eq!(entry["request"]["url"], entry["resource"]["resourceType"]);
        }
        for observation in resources(&bundle, "Observation") {
            assert_eq!(observation["status"], "preliminary");
        }
        let report = resources(&bundle, "DiagnosticReport")[0];
        assert_eq!(report["status"], "preliminary");
        let conclusion = report["conclusion"].as_str().expect("a text");
        assert!(conclusion.starts_with("Pneumonia is likely.") && conclusion.ends_with(NOTICE));
        let plan = resources(&bundle, "CarePlan")[0];
        assert_eq!(
            (&plan["status"], &plan["intent"]),
            (&"draft".into(), &"proposal".into())
        );
    }

    #[test]
    fn every_reference_within_the_bundle_leads_somewhere() {
        fn references(value: &Value, found: &mut Vec<String>) {
            match value {
                Value::Object(fields) => {
                    found.extend(
                        fields
                            .get("reference")
                            .and_then(Value::as_str)
                            .map(str::to_owned),
                    );
                    fields.values().for_each(|field| references(field, found));
                }
                Value::Array(values) => values.iter().for_each(|value| references(value, found)),
                _ => (),
            }
        }
        let bundle = written(&full());
        let entries = bundle["entry"].as_array().expect("entries");
        let urls: Vec<&str> = entries
            .iter()
            .filter_map(|entry| entry["fullUrl"].as_str())
            .collect();
        let mut found = Vec::new();
        references(&bundle, &mut found);
        assert!(found.len() > 10);
        for reference in found {
            assert!(urls.contains(&reference.as_str()), "{reference}");
        }
    }

    #[test]
    fn the_same_report_gives_the_same_bytes_and_another_other_names() {
        let report = full();
        assert_eq!(report.to_fhir(), report.to_fhir());
        let mut other = full();
        other.id.0 += 1 << 64;
        let url = |report| written(report)["entry"][4]["fullUrl"].clone();
        assert_ne!(url(&report), url(&other));
    }

    #[test]
    fn a_repeat_makes_nothing_but_the_provenance_twice() {
        let bundle = written(&full());
        for entry in bundle["entry"].as_array().expect("entries") {
            let identifier = &entry["resource"]["identifier"][0];
            let condition = entry["request"]["ifNoneExist"].as_str();
            match entry["resource"]["resourceType"].as_str() {
                Some("Provenance") => assert_eq!(condition, None),
                _ => {
                    let (system, value) =
                        (identifier["system"].as_str(), identifier["value"].as_str());
                    let wanted = format!(
                        "identifier={}|{}",
                        system.expect("a system"),
                        value.expect("a value")
                    );
                    assert_eq!(condition, Some(wanted.as_str()));
                }
            }
        }
    }

    #[test]
    fn what_is_not_known_is_not_written() {
        let mut report = full();
        report.classes.clear();
        report.prediction_set = None;
        report.unlike_training_data = None;
        report.conclusion_codes.clear();
        report.plan = None;
        report.input.kind = InputKind::Note;
        report.input.study = None;
        let bundle = written(&report);
        assert!(resources(&bundle, "Observation").is_empty());
        assert!(resources(&bundle, "CarePlan").is_empty());
        let report = resources(&bundle, "DiagnosticReport")[0];
        for field in ["result", "imagingStudy", "conclusionCode"] {
            assert_eq!(report.get(field), None, "{field}");
        }
    }

    #[test]
    fn what_is_written_can_be_read_and_is_no_fact() {
        let text = full().to_fhir();
        let chart = parse(Path::new("a.json"), &text).expect("sound");
        let facts = chart.facts();
        assert!(facts.patients.is_empty());
        assert_eq!(facts.passed.len(), 3);
        assert!(
            facts
                .passed
                .iter()
                .all(|passed| passed.why == "it is not final")
        );
    }
}

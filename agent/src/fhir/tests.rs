//! Real charts, hostile ones, and what validators say of what is written.

use std::{
    collections::BTreeMap,
    io::Write,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use consilium_models::text::{Certainty, Time};
use serde_json::{Value, json};

use super::{
    At, Chart, FhirError,
    code::{Comparator, Gender},
    facts::{FoundFacts, PatientFacts},
    parse, read,
    report::{self, InputKind},
};

/// Says past the test runner's capture that something was skipped: that must be seen.
fn skip(what: &str) {
    writeln!(std::io::stderr(), "skipped: {what}").expect("stderr takes a line");
}

/// A folder of public charts, or `None` (and a line that says so) where it is not.
fn charts(name: &str) -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../shared/data/fhir")
        .join(name);
    if !folder.exists() {
        skip(&format!("no charts {name} beside the repository"));
        return None;
    }
    Some(folder)
}

/// Every file of a folder that begins so, in order.
fn files(folder: &Path, begins: &str) -> Vec<PathBuf> {
    let all = std::fs::read_dir(folder).expect("a folder");
    let mut files: Vec<PathBuf> = all
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| {
            path.file_name()
                .is_some_and(|name| name.to_string_lossy().starts_with(begins))
        })
        .collect();
    files.sort();
    files
}

/// How many resources of each kind that is read.
fn kinds(charts: &[Chart]) -> BTreeMap<&'static str, usize> {
    let mut kinds = BTreeMap::new();
    for (_, resource) in charts.iter().flat_map(Chart::resources) {
        *kinds.entry(resource.kind()).or_default() += 1;
    }
    kinds
}

/// The counts of the examples and bundles were taken with another program.
#[test]
fn every_example_of_r4_is_read() {
    let Some(folder) = charts("r4_examples") else {
        return;
    };
    let all: Vec<Chart> = files(&folder, "")
        .iter()
        .map(|file| read(file).expect("sound"))
        .collect();
    assert_eq!(all.len(), 311);
    let wanted = BTreeMap::from([
        ("AllergyIntolerance", 6),
        ("Binary", 2),
        ("Condition", 10),
        ("DiagnosticReport", 12),
        ("DocumentReference", 2),
        ("Medication", 0),
        ("MedicationRequest", 34),
        ("Observation", 168),
        ("Patient", 33),
    ]);
    let mut found = kinds(&all);
    found.insert("Medication", 0);
    assert_eq!(found, wanted);
    let notes: Vec<String> = all
        .iter()
        .flat_map(|chart| chart.notes().notes)
        .map(|note| note.id)
        .collect();
    // Three conclusions, and the one document whose text is in the file, in a Binary.
    assert_eq!(
        notes,
        [
            "DiagnosticReport/f001",
            "DiagnosticReport/f202",
            "urn:uuid:3fdc72f4-a11d-4a9d-9260-a9f745779e1d",
            "DiagnosticReport/ultrasound"
        ]
    );
}

#[test]
fn every_synthea_bundle_is_read() {
    let Some(folder) = charts("synthea_r4") else {
        return;
    };
    let all: Vec<Chart> = files(&folder, "")
        .iter()
        .map(|file| read(file).expect("sound"))
        .collect();
    assert_eq!(all.len(), 10);
    let wanted = BTreeMap::from([
        ("AllergyIntolerance", 1),
        ("Condition", 52),
        ("DiagnosticReport", 34),
        ("MedicationRequest", 44),
        ("Observation", 617),
        ("Patient", 10),
    ]);
    assert_eq!(kinds(&all), wanted);
    let chart = read(&files(&folder, "Chet")[0]).expect("sound");
    let found = chart.facts();
    let name = "Patient/9e2f7a3b-94df-4b3d-bee2-360881649fa5";
    let patient = &found.patients[name];
    assert_eq!(patient.gender, Some(Gender::Male));
    let times: Vec<Time> = patient
        .problems
        .iter()
        .map(|problem| problem.time)
        .collect();
    let past = times
        .iter()
        .filter(|&&time| time == Time::Historical)
        .count();
    assert_eq!((times.len(), past), (4, 1));
    assert_eq!(patient.medicines.len(), 1);
    assert_eq!(
        patient.medicines[0].frequency.as_deref(),
        Some("every 6 hours")
    );
    assert_eq!(patient.measurements.len(), 43);
    assert!(
        patient
            .measurements
            .is_sorted_by(|one, next| one.when <= next.when)
    );
    assert_eq!(patient.observations.len(), 4);
}

fn facts_of(folder: &Path, name: &str) -> (FoundFacts, String) {
    let found = read(&folder.join(name)).expect("sound").facts();
    let patient = found.patients.keys().next().cloned().unwrap_or_default();
    (found, patient)
}

#[test]
fn what_is_read_is_what_stands_there() {
    let Some(folder) = charts("r4_examples") else {
        return;
    };
    let of = |name: &str| -> PatientFacts {
        let (found, patient) = facts_of(&folder, name);
        found.patients[&patient].clone()
    };
    let glucose = of("Observation-f001.json");
    let glucose = &glucose.measurements[0];
    assert!(glucose.concept.has("http://loinc.org", "15074-8"));
    assert_eq!((glucose.number, glucose.unit.as_str()), (6.3, "mmol/L"));
    assert_eq!(glucose.normal, Some((Some(3.1), Some(6.2))));
    assert_eq!(glucose.interpretation[0].words(), Some("High"));
    let when = glucose.when.as_ref().expect("a time");
    assert_eq!(when.as_str(), "2013-04-02T09:30:10+01:00");

    let pressure = of("Observation-blood-pressure.json");
    let numbers: Vec<f64> = pressure.measurements.iter().map(|it| it.number).collect();
    assert_eq!(numbers, [107.0, 60.0]);
    assert_eq!(pressure.measurements[0].unit, "mm[Hg]");
    assert_eq!(
        pressure.measurements[0].categories[0].words(),
        Some("Vital Signs")
    );

    let (found, patient) = facts_of(&folder, "MedicationRequest-medrx0302.json");
    assert_eq!(patient, "Patient/pat1");
    let medicine = &found.patients[&patient].medicines[0];
    let words = medicine.concept.words();
    assert_eq!(words, Some("Azithromycin 250mg capsule (product)"));
    // It has two doses, one after the other.
    assert!(medicine.dose.is_none() && medicine.frequency.is_none());

    let doubtful = of("Condition-f205.json");
    assert_eq!(doubtful.problems[0].certainty, Certainty::Possible);
    let sepsis = of("Condition-f203.json");
    assert_eq!(sepsis.problems[0].concept.words(), Some("Bacterial sepsis"));

    assert_eq!(of("AllergyIntolerance-nka.json").allergies, Some(vec![]));
    assert_eq!(of("AllergyIntolerance-nkda.json").allergies, Some(vec![]));
    let (latex, _) = facts_of(&folder, "AllergyIntolerance-nkla.json");
    assert!(latex.patients.is_empty() && latex.passed.len() == 1);
    let penicillin = of("AllergyIntolerance-medication.json");
    let allergies = penicillin.allergies.expect("one");
    assert_eq!(allergies[0].concept.words(), Some("Penicillin G"));
}

fn parsed(text: &str) -> Result<Chart, FhirError> {
    parse(Path::new("a.json"), text)
}

fn observation(status: &str, more: &str) -> String {
    format!(
        r#"{{"resourceType":"Observation","id":"o","status":"{status}","code":{{"text":"secret"}},"subject":{{"reference":"Patient/1"}}{more}}}"#
    )
}

#[test]
fn only_what_counts_as_said_becomes_a_fact() {
    let value = r#","valueQuantity":{"value":3,"comparator":"<","unit":"mg"}"#;
    let found = |text: &str| parsed(text).expect("sound").facts();
    let taken = found(&observation("final", value));
    let measured = &taken.patients["Patient/1"].measurements[0];
    assert_eq!(measured.comparator, Some(Comparator::Below));
    for status in [
        "entered-in-error",
        "cancelled",
        "preliminary",
        "registered",
        "unknown",
    ] {
        let left = found(&observation(status, value));
        assert!(
            left.patients.is_empty() && left.passed.len() == 1,
            "{status}"
        );
    }
    let problem = |field: &str, code: &str| {
        format!(
            r#"{{"resourceType":"Condition","code":{{"text":"x"}},"subject":{{"reference":"Patient/1"}},"{field}":{{"coding":[{{"code":"{code}"}}]}}}}"#
        )
    };
    for code in ["refuted", "entered-in-error"] {
        assert!(
            found(&problem("verificationStatus", code))
                .patients
                .is_empty()
        );
    }
    let past = found(&problem("clinicalStatus", "remission"));
    assert_eq!(
        past.patients["Patient/1"].problems[0].time,
        Time::Historical
    );
    let allergy = problem("verificationStatus", "refuted")
        .replace("Condition", "AllergyIntolerance")
        .replace("subject", "patient");
    assert!(found(&allergy).patients.is_empty());
    let medicine = |status: &str, intent: &str, more: &str| {
        format!(
            r#"{{"resourceType":"MedicationRequest","status":"{status}","intent":"{intent}","medicationCodeableConcept":{{"text":"x"}},"subject":{{"reference":"Patient/1"}}{more}}}"#
        )
    };
    assert_eq!(found(&medicine("active", "order", "")).patients.len(), 1);
    for (status, intent, more) in [
        ("stopped", "order", ""),
        ("on-hold", "order", ""),
        ("active", "proposal", ""),
        ("active", "order", r#","doNotPerform":true"#),
    ] {
        let left = found(&medicine(status, intent, more));
        assert!(
            left.patients.is_empty() && left.passed.len() == 1,
            "{status} {intent}"
        );
    }
    let nobody = observation("final", value).replace("Patient/1", "Group/1");
    assert_eq!(found(&nobody).passed[0].why, "it does not say whose it is");
}

#[test]
fn references_are_resolved_within_the_bundle() {
    let text = json!({"resourceType": "Bundle", "type": "collection", "entry": [
        {"fullUrl": "urn:uuid:1", "resource": {"resourceType": "Patient", "id": "p"}},
        {"fullUrl": "urn:uuid:2", "resource": {"resourceType": "Medication", "code": {"text": "aspirin"}}},
        {"fullUrl": "urn:uuid:3", "resource": {
            "resourceType": "MedicationRequest", "status": "active", "intent": "order",
            "medicationReference": {"reference": "urn:uuid:2"}, "subject": {"reference": "urn:uuid:1"}}},
        {"resource": {"resourceType": "Encounter", "status": "anything"}},
    ]});
    let chart = parsed(&text.to_string()).expect("sound");
    assert_eq!(chart.others, BTreeMap::from([("Encounter", 1)]));
    let facts = chart.facts();
    let medicine = &facts.patients["Patient/p"].medicines[0];
    assert_eq!(medicine.concept.words(), Some("aspirin"));
    let at = At {
        line: 1,
        entry: Some(2),
    };
    assert_eq!(medicine.at, at);
}

#[test]
fn what_is_wrong_is_named_by_its_place_and_never_quoted() {
    let bundle = |entries: &str| {
        format!("{{\"resourceType\":\"Bundle\",\"type\":\"collection\",\"entry\":[\n{entries}]}}")
    };
    let maybe = observation("secret", "");
    let status = "{\"resourceType\":\"Observation\",\n \"code\":{\"text\":\"secret\"}}";
    for (text, part) in [
        ("", "holds no resource"),
        ("secret", "line 1, column 1: no valid JSON"),
        ("{\"resourceType\":\"secret", "too early"),
        ("[\"secret\"]", "must be an object"),
        ("{\"id\":\"secret\"}", "the field `resourceType` is missing"),
        (
            "{\"resourceType\":\"Secret\"}",
            "line 1, column 1: R4 has no resource of this kind",
        ),
        (&maybe, "Observation: a code that R4 does not allow here"),
        (status, "Observation: the field `status` is missing"),
        (
            &bundle(&format!("{{\"resource\":{maybe}}}")),
            "line 2, column 68, Bundle.entry[0], Observation: a code",
        ),
        (
            &bundle(&format!("{{\"resource\":{}}}", observation("final", "")))
                .replace("Patient/1", "urn:uuid:secret"),
            "line 2, column 1, Bundle.entry[0], Observation: it refers to a resource that is not",
        ),
        (
            &observation("final", "").replace("Patient/1", "#secret"),
            "it refers to a resource that is not",
        ),
        (
            &observation("final", ",\"effectiveDateTime\":\"secret\""),
            "no date or time",
        ),
        (
            &observation("final", ",\"valueQuantity\":{\"value\":\"secret\"}"),
            "another type",
        ),
        (
            &observation("final", ",\"valueQuantity\":{\"value\":1e999}"),
            "no valid JSON",
        ),
        (
            &observation("final", ",\"status\":\"final\""),
            "the field `status` is there twice",
        ),
        (
            "{\"resourceType\":\"Binary\",\"contentType\":\"x\",\"data\":\"secret!\"}",
            "Binary: no valid base64",
        ),
        (
            "{\"resourceType\":\"Condition\",\"subject\":{},\"clinicalStatus\":{\"coding\":[{\"code\":\"secret\"}]}}",
            "Condition: a code that R4 does not allow here",
        ),
        (
            "{\"resourceType\":\"Condition\",\"subject\":{},\"clinicalStatus\":{\"text\":\"secret\"}}",
            "no code of the value set",
        ),
        (
            &bundle("").replace("collection", "history"),
            "Bundle: a history",
        ),
    ] {
        let message = parsed(text).expect_err(part).to_string();
        assert!(message.starts_with("a.json"), "{message}");
        assert!(message.contains(part), "{message}, not {part}");
        assert!(!message.to_lowercase().contains("secret"), "{message}");
    }
}

#[test]
fn an_error_in_a_bulk_export_names_its_line() {
    let text = format!(
        "{}\n\n{}\n",
        observation("final", ""),
        observation("no", "")
    );
    let message = parsed(&text).expect_err("no status").to_string();
    assert!(
        message.contains("line 3, column 52, Observation"),
        "{message}"
    );
}

#[test]
fn deep_nesting_is_refused_wherever_it_is() {
    for open in ["[", "{\"a\":"] {
        let text = format!(
            "{{\"resourceType\":\"Patient\",\"x\":{}",
            open.repeat(100_000)
        );
        let message = parsed(&text).expect_err("too deep").to_string();
        assert!(message.contains("nested deeper than 100"), "{message}");
    }
    // Brackets in a text are none.
    let text = observation(
        "final",
        &format!(",\"valueString\":\"\\\"{}\"", "[".repeat(1000)),
    );
    assert!(parsed(&text).is_ok());
}

#[test]
fn a_file_too_large_is_refused_before_it_is_read() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("a.json");
    let open = std::fs::File::create(&file).expect("room");
    // Sparse: takes no room.
    open.set_len(super::FILE_LIMIT + 1).expect("room");
    let message = read(&file).expect_err("too large").to_string();
    assert!(message.contains("at most 104857600 bytes"), "{message}");
    assert!(read(folder.path()).is_err());
    assert!(matches!(
        read(&folder.path().join("none")),
        Err(FhirError::File { .. })
    ));
    std::fs::write(&file, b"{\"resourceType\": \"\xff\"}").expect("room");
    let message = read(&file).expect_err("not UTF-8").to_string();
    assert!(message.contains("not UTF-8 from byte 18 on"), "{message}");
}

#[test]
fn many_entries_are_read_in_linear_time() {
    let entry = format!(
        "{}\n",
        observation("final", ",\"valueQuantity\":{\"value\":1}")
    );
    let text = entry.repeat(20_000);
    let begins = Instant::now();
    let facts = parsed(&text).expect("sound").facts();
    assert_eq!(facts.patients["Patient/1"].measurements.len(), 20_000);
    assert!(begins.elapsed() < Duration::from_secs(10));
}

#[test]
fn nothing_of_a_chart_shows_in_debug_output() {
    let text = observation(
        "final",
        ",\"valueQuantity\":{\"value\":47.11,\"unit\":\"mg\"}",
    );
    let chart = parsed(&text).expect("sound");
    let facts = chart.facts();
    let resources: Vec<_> = chart.resources().collect();
    let patient = &facts.patients["Patient/1"];
    let shown = format!(
        "{chart:?} {resources:?} {patient:?} {:?} {:?} {:?}",
        patient.measurements,
        facts.passed,
        chart.notes()
    );
    for secret in ["secret", "47.11"] {
        assert!(!shown.contains(secret), "{shown}");
    }
}

/// Sound files with bytes changed, cut, doubled and moved for a bounded time (`FUZZ_SECONDS`, 1 unless
/// told otherwise). Whatever is read after all must be sound; no error may quote the file.
#[test]
fn changed_files_cause_no_panic_and_no_error_that_quotes_them() {
    let seconds = std::env::var("FUZZ_SECONDS")
        .ok()
        .and_then(|text| text.parse().ok());
    let end = Instant::now() + Duration::from_secs_f64(seconds.unwrap_or(1.0));
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut below = |bound: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % bound.max(1) as u64) as usize
    };
    let sound = [
        super::transaction::tests::text(),
        format!(
            "{}\n{}\n{}",
            observation(
                "final",
                ",\"valueQuantity\":{\"value\":1,\"unit\":\"fièvre\"}"
            ),
            r##"{"resourceType":"MedicationRequest","status":"active","intent":"order","subject":{"reference":"Patient/患者"},"medicationReference":{"reference":"#m"},"contained":[{"resourceType":"Medication","id":"m","code":{"text":"aspirin"}}]}"##,
            r#"{"resourceType":"DocumentReference","status":"current","date":"2020-02-29T23:59:59.5+01:00","content":[{"attachment":{"contentType":"text/plain","data":"ZmnDqHZyZQ=="}}]}"#,
        ),
    ];
    let (mut taken, mut refused, mut tried) = (0, 0, 0);
    while Instant::now() < end || tried < 600 {
        let mut bytes = sound[tried % sound.len()].as_bytes().to_vec();
        tried += 1;
        for _ in 0..below(4) {
            let at = below(bytes.len());
            let to = at + below(bytes.len() - at);
            match below(6) {
                0 if !bytes.is_empty() => bytes[at] ^= 1 << below(8),
                1 => bytes.truncate(at),
                2 => bytes.insert(at, below(256) as u8),
                3 => drop(bytes.drain(at..to)),
                4 => bytes.insert(at, b"\"\\{}[]:,#/0123456789-Te."[below(23)]),
                _ => bytes.extend_from_within(at..to),
            }
        }
        let text = String::from_utf8_lossy(&bytes);
        match parsed(&text) {
            Ok(chart) => {
                let (notes, facts) = (chart.notes(), chart.facts());
                assert!(notes.notes.iter().all(|note| !note.text.trim().is_empty()));
                let mut measured = facts.patients.values().flat_map(|it| &it.measurements);
                assert!(measured.all(|it| it.number.is_finite()));
                taken += 1;
            }
            Err(error) => {
                let message = error.to_string();
                for secret in ["secret", "fièvre", "患者", "aspirin", "neumonia", "4711"] {
                    assert!(!message.contains(secret), "{message}");
                }
                refused += 1;
            }
        }
    }
    assert!(taken > 10 && refused > 10, "{taken} {refused}");
}

/// The files that are written, and the same ones broken, each in its own way.
fn outputs(folder: &Path) -> (Vec<PathBuf>, Vec<PathBuf>) {
    let full = report::tests::full();
    let mut note = full.clone();
    note.input.kind = InputKind::Note;
    note.input.study = None;
    note.subject = report::Link::to("p-1.2").expect("an id");
    note.input.sources = vec![report::Source {
        kind: report::SourceKind::DocumentReference,
        link: report::Link::to("d1").expect("an id"),
    }];
    let mut least = note.clone();
    least.classes.clear();
    least.prediction_set = None;
    least.unlike_training_data = None;
    least.plan = None;
    least.conclusion_codes.clear();
    let write = |name: &str, text: &str| {
        let file = folder.join(name);
        std::fs::write(&file, text).expect("room");
        file
    };
    let sound = [("image", &full), ("note", &note), ("least", &least)]
        .map(|(name, report)| write(&format!("{name}.json"), &report.to_fhir()));
    let mut broken = Vec::new();
    type Break = fn(&mut Value);
    let breaks: [(&str, Break); 3] = [
        ("unknown-field", |report| report["finding"] = "x".into()),
        ("no-status", |report| {
            report.as_object_mut().expect("an object").remove("status");
        }),
        ("bad-instant", |report| {
            report["issued"] = "yesterday".into()
        }),
    ];
    for (name, breaks) in breaks {
        let mut bundle: Value = serde_json::from_str(&full.to_fhir()).expect("JSON");
        let entries = bundle["entry"].as_array_mut().expect("entries");
        let report = entries
            .iter_mut()
            .map(|entry| &mut entry["resource"])
            .find(|resource| resource["resourceType"] == "DiagnosticReport")
            .expect("a report");
        breaks(report);
        broken.push(write(&format!("{name}.json"), &bundle.to_string()));
    }
    (sound.to_vec(), broken)
}

/// Runs a validator over sound and broken files: each broken one must be refused, no sound one.
fn judge(mut validator: Command) {
    let folder = tempfile::tempdir().expect("a folder");
    let (sound, broken) = outputs(folder.path());
    let output = validator
        .args(sound.iter().chain(&broken))
        .output()
        .expect("the validator runs");
    let said = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}{errors}");
    let of = |file: &PathBuf| -> Vec<&str> {
        let name = format!("{}: ", file.display());
        said.lines()
            .filter(|line| line.starts_with(&name))
            .collect()
    };
    for file in &sound {
        assert_eq!(of(file), Vec::<&str>::new());
    }
    for file in &broken {
        assert!(!of(file).is_empty(), "{} was not refused", file.display());
    }
}

fn validators() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fhir")
}

#[test]
fn fhir_resources_and_the_schema_accept_what_is_written_and_refuse_it_broken() {
    let python = validators().join(".venv/bin/python");
    if !python.exists() {
        return skip("fhir.resources is not installed in tests/fhir/.venv");
    }
    let mut command = Command::new(python);
    command.arg(validators().join("validate.py"));
    if let Some(schema) = charts("fhir.schema.r4.json") {
        command.arg("--schema").arg(schema);
    }
    judge(command);
}

#[test]
fn medplum_accepts_what_is_written_and_refuses_it_broken() {
    if !validators().join("node_modules/@medplum/core").exists() {
        return skip("@medplum/core is not installed in tests/fhir/node_modules");
    }
    let mut command = Command::new("node");
    command.arg(validators().join("validate.mjs"));
    judge(command);
}

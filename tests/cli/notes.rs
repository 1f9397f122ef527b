//! Notes and knowledge files on the command line: what is printed, and how bad input is refused.

use std::{
    io::Write as _,
    path::{Path, PathBuf},
    process::Stdio,
};

use serde_json::Value;

use crate::program::{consilium, fail, succeed, text};

const NOTE: &str = "\
HPI: A 72-year-old man with cough, fever and chills. No chest pain. Crackles on the right.
MEDICATIONS: Warfarin 5 mg daily
ALLERGIES: penicillin
EXAM: BP 150/90, temp 38.9 C, SpO2 91 %, HR 400.
LABS: CRP 120 mg/L.
IMPRESSION: Pneumonia.
";

const OWN: &str = "\
[header]
name = \"Own\"
version = \"1\"
licence = \"Apache-2.0\"
language = \"en\"
disclaimer = \"Invented for a test.\"

[[concept]]
id = \"finding.clubbing\"
names.en = [\"clubbing\"]
";

fn write(folder: &Path, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, content).expect("a file");
    path
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a folder")
}

fn object(printed: &str) -> Value {
    serde_json::from_str(printed).expect("one object")
}

#[test]
fn a_note_is_analysed_for_people_to_read() {
    let folder = folder();
    let note = write(folder.path(), "note.txt", NOTE);
    let printed = succeed(&["note", "analyse", text(&note)]);
    for words in [
        "72 years; male",
        "absent      chest pain",
        "C-reactive protein 120 mg/L high",
        "warfarin 5 mg daily",
        "allergic to penicillins",
        "\"HR 400\": not possible",
        "pneumonia: treated, the facts state it",
        "What to ask or measure next",
        "What is not proposed",
        "allergy: allergic to penicillins",
        "not medical advice",
    ] {
        assert!(printed.contains(words), "{words} is not in:\n{printed}");
    }
    assert!(!printed.contains('\x1b'), "{printed}");
}

#[test]
fn a_note_is_analysed_for_programs_from_standard_input() {
    let mut child = consilium()
        .args(["note", "analyse", "-", "--json"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let mut input = child.stdin.take().expect("a pipe");
    input.write_all(NOTE.as_bytes()).expect("it reads");
    drop(input);
    let output = child.wait_with_output().expect("it ends");
    let found = object(&String::from_utf8(output.stdout).expect("text"));
    assert_eq!(found["facts"]["demographics"]["age"], 72.0);
    for entity in found["entities"].as_array().expect("a list") {
        let at = |side: &str| entity["span"][side].as_u64().expect("a place") as usize;
        assert!(NOTE.get(at("start")..at("end")).is_some(), "{entity}");
    }
    assert!(
        found["provenance"]["knowledge"]
            .as_array()
            .is_some_and(|files| !files.is_empty())
    );
    assert!(
        found["treatment"]["plans"]["best"]
            .as_array()
            .is_some_and(|plans| !plans.is_empty())
    );
}

#[test]
fn facts_knowledge_and_terms_of_one_s_own_are_used() {
    let folder = folder();
    let note = write(folder.path(), "note.txt", "Clubbing and pneumonia.");
    let own = write(folder.path(), "own.toml", OWN);
    let terms =
        "# source: a test\n# licence: none\ncode\tsystem\tterm\tlang\nX1\thouse\tpneumonia\ten\n";
    let terms = write(folder.path(), "terms.tsv", terms);
    let facts = write(
        folder.path(),
        "facts.json",
        r#"{"demographics": {"age": 50}, "allergies": []}"#,
    );
    let files = [
        "--knowledge",
        text(&own),
        "--terminology",
        text(&terms),
        "--facts",
        text(&facts),
    ];
    let found = object(&succeed(
        &[&["note", "analyse", text(&note), "--json"], &files[..]].concat(),
    ));
    assert_eq!(found["facts"]["demographics"]["age"], 50.0);
    assert_eq!(found["entities"][0]["concept"], "finding.clubbing");
    assert!(found["entities"][1]["codes"].to_string().contains("X1"));
    assert!(
        found["provenance"]
            .to_string()
            .contains("Invented for a test.")
    );
}

#[test]
fn what_is_no_note_is_refused_with_its_name_and_without_its_words() {
    let folder = folder();
    let missing = folder.path().join("none.txt");
    assert!(fail(&["note", "analyse", text(&missing)], 5).contains("none.txt"));
    for (name, content, words) in [
        ("empty.txt", b"\xef\xbb\xbf \n".to_vec(), "empty"),
        ("binary.bin", b"SECRET\0\x01".to_vec(), "byte 6"),
        ("latin.txt", b"SECRET caf\xe9".to_vec(), "byte 10"),
        ("long.txt", vec![b'x'; (16 << 20) + 1], "more than"),
    ] {
        let note = write(folder.path(), name, content);
        for verb in ["analyse", "deidentify"] {
            let message = fail(&["note", verb, text(&note)], 3);
            assert!(
                message.contains(name) && message.contains(words),
                "{message}"
            );
            assert!(!message.contains("SECRET"), "{message}");
        }
    }
    let note = write(folder.path(), "note.txt", NOTE);
    let facts = write(folder.path(), "facts.json", r#"{"SECRET": 1}"#);
    let message = fail(
        &["note", "analyse", text(&note), "--facts", text(&facts)],
        3,
    );
    assert!(
        message.contains("facts.json") && !message.contains("SECRET"),
        "{message}"
    );
    let broken = write(folder.path(), "broken.toml", "x = 1");
    fail(
        &["note", "analyse", text(&note), "--knowledge", text(&broken)],
        3,
    );
}

#[test]
fn a_note_without_who_it_is_about_is_printed() {
    let folder = folder();
    let note = write(
        folder.path(),
        "note.txt",
        "Mr. John Miller, seen on March 4, 2021 for asthma.\n",
    );
    let printed = succeed(&["note", "deidentify", text(&note)]);
    assert!(
        printed.starts_with("Mr. [NAME-") && printed.ends_with("for asthma.\n"),
        "{printed}"
    );
    let found = object(&succeed(&["note", "deidentify", text(&note), "--json"]));
    assert_eq!(
        (&found["key"], found["replaced"].as_array().map(Vec::len)),
        (&"fresh".into(), Some(2))
    );
    // A site's key goes with a patient, and with a site.
    let nowhere = folder.path().join("nowhere");
    fail(
        &["note", "deidentify", text(&note), "--agent", text(&nowhere)],
        2,
    );
    fail(
        &[
            "note",
            "deidentify",
            text(&note),
            "--agent",
            text(&nowhere),
            "--patient",
            "1",
        ],
        5,
    );
}

#[test]
fn knowledge_files_are_checked() {
    let folder = folder();
    assert!(succeed(&["knowledge", "check"]).contains("are sound"));
    let own = write(folder.path(), "own.toml", OWN);
    assert!(succeed(&["knowledge", "check", text(&own)]).contains("8 files are sound"));
    let bad = write(folder.path(), "bad.toml", format!("{OWN}\ncolour = 1\n"));
    let output = consilium()
        .args(["knowledge", "check", text(&bad)])
        .output()
        .expect("it starts");
    let printed = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(3), "{printed}");
    assert!(
        printed.contains("bad.toml:") && printed.contains("colour"),
        "{printed}"
    );
    let output = consilium()
        .args(["knowledge", "check", "--json", text(&bad)])
        .output()
        .expect("it starts");
    let found = object(&String::from_utf8_lossy(&output.stdout));
    assert_eq!(found["problems"].as_array().map(Vec::len), Some(1));
    fail(
        &["knowledge", "check", text(&folder.path().join("none.toml"))],
        5,
    );
}

#[test]
fn a_concept_is_shown_with_what_rests_on_it() {
    let printed = succeed(&["knowledge", "show", "drug.warfarin"]);
    assert!(
        printed.contains("华法林") && printed.contains("interaction"),
        "{printed}"
    );
    let found = object(&succeed(&[
        "knowledge",
        "show",
        "condition.pneumonia",
        "--json",
    ]));
    assert!(
        found["cited_by"]
            .as_array()
            .is_some_and(|citing| citing.len() > 10),
        "{found}"
    );
    fail(&["knowledge", "show", "condition.none"], 5);
    fail(&["knowledge", "show", "none"], 3);
}

const CHART: &str = r#"{"resourceType": "Bundle", "type": "collection", "entry": [
  {"fullUrl": "urn:uuid:5e3a9c9e-6a36-4d5f-8d0c-2f6f0b0c1a01",
   "resource": {"resourceType": "Patient", "id": "7", "gender": "male", "birthDate": "1950-03-02"}},
  {"resource": {"resourceType": "AllergyIntolerance", "patient": {"reference": "Patient/7"},
   "code": {"text": "penicillin"}}},
  {"resource": {"resourceType": "Observation", "status": "final", "subject": {"reference": "Patient/7"},
   "code": {"coding": [{"system": "http://loinc.org", "code": "8310-5"}]},
   "valueQuantity": {"value": 39.1, "unit": "C", "system": "http://unitsofmeasure.org", "code": "Cel"}}},
  {"resource": {"resourceType": "DocumentReference", "status": "current",
   "subject": {"reference": "Patient/7"}, "type": {"text": "Progress note"},
   "content": [{"attachment": {"contentType": "text/plain", "data": "Q291Z2ggYW5kIGZldmVyLg=="}}]}}
]}"#;

#[test]
fn a_chart_adds_to_what_a_note_says() {
    let folder = folder();
    let note = write(
        folder.path(),
        "note.txt",
        "Cough and chills. Impression: pneumonia.",
    );
    let chart = write(folder.path(), "chart.json", CHART);
    let (note, chart) = (text(&note), text(&chart));
    let printed = succeed(&["note", "analyse", note, "--chart", chart]);
    for words in ["76 years; male", "fever, odds", "allergic to penicillins"] {
        assert!(printed.contains(words), "{words} is not in:\n{printed}");
    }
    let other = [
        "note",
        "analyse",
        note,
        "--chart",
        chart,
        "--patient",
        "Patient/8",
    ];
    assert!(fail(&other, 5).contains("name one of them with --patient"));
    let broken = write(
        folder.path(),
        "broken.json",
        CHART.replace("\"final\"", "\"maybe\""),
    );
    let said = fail(&["note", "analyse", note, "--chart", text(&broken)], 3);
    assert!(
        said.contains("entry[2]") && !said.contains("maybe"),
        "{said}"
    );
}

#[test]
fn many_notes_are_read_one_by_one_and_a_broken_one_is_named() {
    let folder = folder();
    for (name, note) in [
        ("a.txt", NOTE),
        ("b.txt", "Nothing to report."),
        ("c.txt", "\0"),
    ] {
        write(folder.path(), name, note);
    }
    let table = folder.path().join("all.csv");
    let command = [
        "predict",
        "note",
        text(folder.path()),
        "--csv",
        text(&table),
    ];
    let said = fail(&command, 3);
    assert!(
        said.contains("c.txt") && said.contains("1 of 3 files"),
        "{said}"
    );
    let rows = std::fs::read_to_string(&table).expect("a table");
    assert!(
        rows.contains("pneumonia") && rows.contains("a.txt"),
        "{rows}"
    );
}

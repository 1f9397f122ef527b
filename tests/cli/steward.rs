//! A data steward's commands in a folder that no federation knows yet.

use std::{
    fs,
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use serde_json::{Value, json};

use crate::{
    predictions::{CT, ULTRASOUND, dicom, pixels},
    program::{fail, succeed, text},
};

/// An agent's folder with its key file, and whatever lies beside it.
struct Hospital {
    folder: tempfile::TempDir,
}

impl Hospital {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        fs::create_dir(folder.path().join("site")).expect("a folder");
        let mut key = fs::File::options()
            .create_new(true)
            .write(true)
            .mode(0o600)
            .open(folder.path().join("key"))
            .expect("a file");
        key.write_all(&[3; 32]).expect("a key");
        Self { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, content: &str) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, content).expect("a file");
        path
    }

    /// Arguments of an `agent data` command.
    fn data(&self, command: &[&str]) -> Vec<String> {
        let (site, key) = (self.path("site"), self.path("key"));
        let folder = ["--dir", text(&site), "--key-file", text(&key), "--json"];
        let all = ["agent", "data"].iter().chain(command).chain(&folder);
        all.map(|word| (*word).to_owned()).collect()
    }

    fn does(&self, command: &[&str]) -> Value {
        let arguments = self.data(command);
        let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
        serde_json::from_str(&succeed(&arguments)).expect("one object")
    }

    fn refuses(&self, command: &[&str], code: i32) -> String {
        let arguments = self.data(command);
        let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
        fail(&arguments, code)
    }

    /// A table as a spreadsheet program saves it: 40 rows of 20 patients.
    fn table(&self) -> PathBuf {
        let row = |at: u32| format!("{at},\"p{}\",{},{}\r\n", at / 2, 40 + at, at % 3);
        let rows: String = (0..40).map(row).collect();
        self.write("heart.csv", &format!("\u{FEFF}row,who,age,num\r\n{rows}"))
    }
}

fn add_table<'a>(table: &'a Path, map: &'a Path, target: &'a str) -> Vec<&'a str> {
    let mut add = vec!["add", "heart", "--table", text(table), "--target", target];
    add.extend(["--patient-column", "who", "--label-map", text(map)]);
    add.extend(["--public-size", "20"]);
    add
}

#[test]
fn a_table_is_registered_and_patients_are_taken_out_of_it() {
    let hospital = Hospital::new();
    let table = hospital.table();
    let map = hospital.write("map.csv", "local,class\n0,healthy\n1,ill\n2,ill\n");
    let report = hospital.does(&add_table(&table, &map, "num"));
    assert_eq!(report["records"], 40, "{report}");
    assert_eq!(report["patients"], 20);
    assert_eq!(report["classes"], json!({ "healthy": 14, "ill": 26 }));
    let columns: Vec<_> = report["columns"]
        .as_array()
        .expect("columns")
        .iter()
        .collect();
    assert_eq!(
        columns.len(),
        2,
        "neither label nor patient is an input: {report}"
    );

    let list = hospital.write("opted-out.txt", "p3\n\np7\nP7\n");
    let exclude = ["exclude", "heart", "--patients", text(&list)];
    let first = hospital.does(&exclude);
    assert_eq!(
        first,
        json!({ "excluded": 2, "unknown_lines": [4], "used_by": [] })
    );
    assert_eq!(hospital.does(&exclude)["excluded"], 0, "safe to repeat");
    let named = hospital.does(&["list"]);
    assert_eq!(named[0]["name"], "heart", "{named}");

    let message = hospital.refuses(&["exclude", "lungs", "--patients", text(&list)], 5);
    assert!(message.contains("lungs"), "{message}");
    let empty = hospital.write("empty.txt", "\n\n");
    let message = hospital.refuses(&["exclude", "heart", "--patients", text(&empty)], 3);
    assert!(message.contains("empty.txt"), "{message}");
    let none = hospital.path("none.txt");
    hospital.refuses(&["exclude", "heart", "--patients", text(&none)], 5);
}

#[test]
fn tables_that_cannot_be_read_are_refused_by_class_and_leave_nothing() {
    let hospital = Hospital::new();
    let table = hospital.table();
    let map = hospital.write("map.csv", "local,class\n0,healthy\n1,ill\n");
    let message = hospital.refuses(&add_table(&table, &map, "diagnosis"), 3);
    for part in ["heart.csv", "\"diagnosis\"", "row, who, age, num"] {
        assert!(message.contains(part), "{part}: {message}");
    }
    let message = hospital.refuses(&add_table(&table, &map, "num"), 3);
    for part in ["heart.csv, line 4", "\"2\"", "map.csv"] {
        assert!(message.contains(part), "{part}: {message}");
    }
    let none = hospital.path("none.csv");
    let message = hospital.refuses(&add_table(&none, &map, "num"), 5);
    assert!(message.contains("none.csv"), "{message}");
    let without_target = [
        "add",
        "heart",
        "--table",
        text(&table),
        "--public-size",
        "20",
    ];
    hospital.refuses(&without_target, 2);
    assert_eq!(hospital.does(&["list"]), json!([]));
}

/// Two notes of one patient and one of another, with fields of their own.
const NOTES: &str = r#"{"key":"n1","who":"p1","title":"Cough","body":"Fever for two days.","ward":"lung","marks":[{"start":6,"end":11,"kind":"Symptom"}]}
{"key":"n2","who":"p1","title":"Control","body":"No fever now.","ward":"lung","marks":[{"start":0,"end":7,"kind":"Visit"},{"start":11,"end":16,"kind":"Symptom"}],"links":[{"kind":"at","from":1,"to":0}]}
{"key":"n3","who":"p2","title":"Palpitations","body":"Irregular pulse.","ward":"heart","marks":[]}
"#;

fn add_notes(notes: &Path) -> Vec<&str> {
    let mut add = vec!["add", "notes", "--notes", text(notes)];
    add.extend(["--text-field", "title", "--text-field", "body"]);
    add.extend(["--id-field", "key", "--patient-column", "who"]);
    add.extend(["--label-column", "ward", "--entities-field", "marks"]);
    add.extend(["--relations-field", "links", "--public-size", "2"]);
    add
}

#[test]
fn notes_are_registered_and_the_declaration_that_they_name_nobody_is_shown() {
    let hospital = Hospital::new();
    let notes = hospital.write("notes.jsonl", NOTES);
    let report = hospital.does(&add_notes(&notes));
    assert_eq!(
        (&report["records"], &report["patients"]),
        (&json!(3), &json!(2)),
        "{report}"
    );
    assert_eq!(report["classes"], json!({ "heart": 1, "lung": 2 }));
    let held = &report["notes"];
    assert_eq!(held["entities"], json!({ "Symptom": 2, "Visit": 1 }));
    assert_eq!(held["relations"], json!({ "at": 1 }));
    assert_eq!(report["declared_deidentified"], false);
    for word in ["Fever", "Palpitations"] {
        assert!(!report.to_string().contains(word), "{report}");
    }

    let mut again = add_notes(&notes);
    again.extend(["--replace", "--already-deidentified"]);
    assert_eq!(hospital.does(&again)["declared_deidentified"], true);
    let arguments = hospital.data(&again);
    let arguments = arguments.iter().map(String::as_str);
    let plain: Vec<_> = arguments.filter(|word| *word != "--json").collect();
    let report = succeed(&plain);
    assert!(
        report.contains("declared free of what names patients"),
        "{report}"
    );
    assert!(report.contains("entity Symptom: 2"), "{report}");
}

#[test]
fn marks_of_notes_lie_beside_them_or_elsewhere_and_what_is_wrong_is_named() {
    let hospital = Hospital::new();
    let (notes, marks) = (hospital.path("wards"), hospital.path("marks"));
    for folder in [&notes, &marks] {
        fs::create_dir(folder).expect("a folder");
    }
    hospital.write("wards/a.txt", "Aspirin was stopped.\n");
    hospital.write("marks/a.ann", "T1\tDrug 0 7\tAspirin\n");
    let mut add = vec![
        "add",
        "wards",
        "--notes",
        text(&notes),
        "--public-size",
        "1",
    ];
    assert_eq!(hospital.does(&add)["notes"]["entities"], json!({}));
    add.extend(["--annotations", text(&marks), "--replace"]);
    let report = hospital.does(&add);
    assert_eq!(report["notes"]["entities"], json!({ "Drug": 1 }));
    assert_eq!(report["names_patients"], false);

    hospital.write("marks/a.ann", "T1\tDrug 0 7\tIbuprofen\n");
    let message = hospital.refuses(&add, 3);
    assert!(message.contains("a.ann, line 1"), "{message}");
    assert!(!message.contains("Ibuprofen"), "{message}");

    let table = hospital.table();
    let both = ["add", "x", "--notes", text(&notes), "--table", text(&table)];
    hospital.refuses(
        &[&both[..], &["--target", "num", "--public-size", "1"]].concat(),
        2,
    );
    let both = [
        "add",
        "x",
        "--notes",
        text(&notes),
        "--images",
        text(&notes),
    ];
    hospital.refuses(&[&both[..], &["--public-size", "1"]].concat(), 2);
    for alone in [
        "--annotations",
        "--text-field",
        "--entities-field",
        "--label-column",
    ] {
        let add = [
            "add",
            "x",
            "--table",
            text(&table),
            "--target",
            "num",
            "--public-size",
            "1",
        ];
        hospital.refuses(&[&add[..], &[alone, "x"]].concat(), 2);
    }
}

#[test]
fn images_with_a_number_each_are_registered_for_regression() {
    let hospital = Hospital::new();
    let images = hospital.path("hands");
    fs::create_dir(&images).expect("a folder");
    let mut labels = "image,age,child\n".to_owned();
    for number in 0..6_u8 {
        let name = format!("{number}.png");
        let picture = image::GrayImage::from_pixel(16, 16, image::Luma([number * 40]));
        picture.save(images.join(&name)).expect("a file");
        labels += &format!("{name},{number}.5,c{}\n", number / 2);
    }
    let labels = hospital.write("ages.csv", &labels);
    let mut add = vec!["add", "hands", "--images", text(&images)];
    add.extend(["--labels", text(&labels), "--path-column", "image"]);
    add.extend(["--label-column", "age", "--patient-column", "child"]);
    add.extend(["--public-size", "3"]);
    let report = hospital.does(&add);
    assert_eq!(
        (&report["records"], &report["patients"]),
        (&json!(6), &json!(3))
    );
    assert_eq!(report["sizes"], json!({ "16 x 16": 6 }));
}

#[test]
fn a_label_balance_is_released_with_noise_and_refused_when_the_budget_says_so() {
    let hospital = Hospital::new();
    let table = hospital.table();
    let map = hospital.write("map.csv", "local,class\n0,healthy\n1,ill\n2,ill\n");
    hospital.does(&add_table(&table, &map, "num"));
    let list = hospital.write("opted-out.txt", "p3\np7\n");
    hospital.does(&["exclude", "heart", "--patients", text(&list)]);
    let labels = |epsilon| {
        [
            "labels",
            "heart",
            "--classes",
            "healthy,ill",
            "--epsilon",
            epsilon,
        ]
    };

    let message = hospital.refuses(&labels("1"), 6);
    assert!(message.contains("[data_sets.heart]"), "{message}");
    let policy = "[data_sets.heart]\nepsilon = 40.0\ndelta = 1e-5\n";
    hospital.write("site/policy.toml", policy);
    let first = hospital.does(&labels("30"));
    // Two thirds of the labels are ill, so nobody has two healthy records; of a pair of both the
    // class named first counts. Noise of e^-30 moves no count.
    let count = |at: usize| first["classes"][at]["count"].as_i64().expect("a count");
    assert_eq!(
        (first["classes"][0]["class"].as_str(), count(0) + count(1)),
        (Some("healthy"), 18)
    );
    assert_eq!(
        (first["others"].as_i64(), first["names_patients"].as_bool()),
        (Some(0), Some(true))
    );
    let spent = hospital.refuses(&labels("30"), 7);
    assert!(
        spent.contains("heart") && spent.contains("epsilon"),
        "{spent}"
    );
    let second = hospital.does(&labels("1"));
    assert!(
        second["ledger_entry"].as_u64() > first["ledger_entry"].as_u64(),
        "{second}"
    );
    let message = hospital.refuses(&["labels", "lungs", "--classes", "a", "--epsilon", "1"], 5);
    assert!(message.contains("lungs"), "{message}");
    hospital.refuses(&labels("0"), 3);
}

#[test]
fn dicom_pictures_say_whose_they_are_and_doubtful_ones_wait_for_the_steward() {
    let hospital = Hospital::new();
    let images = hospital.path("images");
    for (at, class) in ["dark", "light"].into_iter().enumerate() {
        fs::create_dir_all(images.join(class)).expect("a folder");
        for shot in 0..3 {
            // Three pictures of one patient in each class.
            let bytes = dicom(&pixels(at + 2 * shot), &format!("P{at}"), "CT", CT);
            fs::write(images.join(class).join(format!("{shot}.dcm")), bytes).expect("a file");
        }
    }
    let add = [
        "add",
        "chest",
        "--images",
        text(&images),
        "--public-size",
        "2",
    ];
    let report = hospital.does(&add);
    assert_eq!(
        (&report["records"], &report["patients"]),
        (&json!(6), &json!(2))
    );
    assert_eq!(report["names_patients"], true);

    let doubtful = dicom(&pixels(1), "P7", "US", ULTRASOUND);
    fs::write(images.join("light/us.dcm"), doubtful).expect("a file");
    let again = [&add[..], &["--replace"]].concat();
    let said = hospital.refuses(&again, 3);
    assert!(
        said.contains("us.dcm") && said.contains("--pixels-seen"),
        "{said}"
    );
    assert!(
        !said.contains("P7") && !said.contains("Quartermain"),
        "{said}"
    );
    let report = hospital.does(&[&again[..], &["--pixels-seen"]].concat());
    assert_eq!(
        (&report["records"], &report["patients"]),
        (&json!(7), &json!(3))
    );
}

#[test]
fn a_data_set_is_looked_through_for_what_should_be_corrected() {
    let hospital = Hospital::new();
    let (map, rows) = (hospital.path("map.csv"), hospital.path("heart.csv"));
    hospital.write("map.csv", "local,class\n0,healthy\n1,ill\n2,ill\n");
    hospital.table();
    hospital.does(&add_table(&rows, &map, "num"));
    let report = hospital.does(&["check", "heart"]);
    assert_eq!(
        (&report["records"], &report["patients"]),
        (&json!(40), &json!(20))
    );
    let kinds = |report: &Value| -> Vec<String> {
        let findings = report["findings"].as_array().expect("findings");
        findings.iter().map(|it| it["kind"].to_string()).collect()
    };
    // Two rows of a patient with two labels: the table was made so.
    let found = kinds(&report);
    assert!(found.iter().any(|kind| kind.contains("label")), "{found:?}");
    let said = hospital.refuses(&["check", "liver"], 5);
    assert!(said.contains("agent data list"), "{said}");

    // The same pictures in training and test.
    let images = hospital.path("images/dark");
    fs::create_dir_all(&images).expect("a folder");
    for at in 0..4 {
        let bytes = dicom(&pixels(at), &format!("P{at}"), "CT", CT);
        fs::write(images.join(format!("{at}.dcm")), bytes).expect("a file");
    }
    let folder = hospital.path("images");
    for name in ["train", "test"] {
        hospital.does(&["add", name, "--images", text(&folder), "--public-size", "4"]);
    }
    let report = hospital.does(&["check", "train", "--test", "test"]);
    let found = kinds(&report);
    assert!(found.iter().any(|kind| kind.contains("part")), "{found:?}");
}

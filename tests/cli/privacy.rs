//! Figures of privacy on the command line: the contract that scripts rely on, and its refusals.

use std::path::Path;

use serde_json::Value;

use crate::program::{fail, run, succeed, text};

const EXAMPLES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples");

/// A training of the published tables: RDP 2.1327, PLD 1.8607 at δ = 1e-5.
const TRAINING: [&str; 8] = [
    "--sampling-rate",
    "0.01",
    "--noise-multiplier",
    "1.0",
    "--steps",
    "1037",
    "--delta",
    "1e-5",
];

fn privacy(arguments: &[&str]) -> Value {
    let printed = succeed(&[&["privacy"], arguments, &["--json"]].concat());
    serde_json::from_str(&printed).expect("one object")
}

fn number(value: &Value, name: &str) -> f64 {
    value[name]
        .as_f64()
        .unwrap_or_else(|| panic!("no {name} in {value}"))
}

fn write(folder: &Path, name: &str, content: &str) -> std::path::PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, content).expect("a file");
    path
}

#[test]
fn both_accountants_tell_what_a_training_costs() {
    for (accountant, expected) in [("rdp", 2.13266457364), ("pld", 1.86066577032)] {
        let arguments = [&["epsilon"], &TRAINING[..], &["--accountant", accountant]].concat();
        let value = privacy(&arguments);
        let epsilon = number(&value, "epsilon");
        assert!(
            (epsilon - expected).abs() < 2e-3,
            "{epsilon} by {accountant}"
        );
        assert_eq!(value["accountant"], accountant);
        assert_eq!(value["adjacency"], "add-or-remove-one");

        let read = succeed(&[&["privacy"], &arguments[..]].concat());
        assert!(
            read.starts_with("epsilon") && read.contains(accountant),
            "{read}"
        );
    }
}

#[test]
fn calibrated_noise_stays_within_its_target() {
    for (accountant, expected) in [("rdp", 0.8646021038), ("pld", 0.8135849)] {
        let question = [
            "--sampling-rate",
            "0.01",
            "--steps",
            "1000",
            "--delta",
            "1e-5",
        ];
        let target = ["calibrate", "--epsilon", "3", "--accountant", accountant];
        let value = privacy(&[&target[..], &question[..]].concat());
        let sigma = number(&value, "noise_multiplier");
        assert!(
            (1.0 - 1e-6..1.005).contains(&(sigma / expected)),
            "{sigma} by {accountant}"
        );
        let spent = number(&value, "epsilon");
        assert!(spent <= 3.0 && spent > 2.98, "{spent}");
    }
    let unreachable = ["calibrate", "--epsilon", "1e-12", "--sampling-rate", "1"];
    let rest = ["--steps", "4294967295", "--delta", "1e-9"];
    let message = fail(&[&["privacy"], &unreachable[..], &rest[..]].concat(), 3);
    assert!(
        message.contains("--epsilon") && message.contains("reachable"),
        "{message}"
    );
}

#[test]
fn a_history_is_accounted_as_a_whole() {
    let folder = tempfile::tempdir().expect("a folder");
    let phases = r#"[
        {"mechanism": "sgm", "noise_multiplier": 1.5, "sampling_rate": 0.03, "steps": 777},
        {"mechanism": "gau", "noise_multiplier": 15.0, "releases": 30}
    ]"#;
    let long = write(folder.path(), "long.json", phases);
    let short = write(
        folder.path(),
        "short.json",
        r#"["sgm(1.5,0.03)x777", "gau(15.0)x30"]"#,
    );
    let question = ["--delta", "1e-6", "--accountant", "pld"];
    let values = [&long, &short]
        .map(|path| privacy(&[&["epsilon", "--history", text(path)], &question[..]].concat()));
    assert_eq!(values[0], values[1]);
    let epsilon = number(&values[0], "epsilon");
    assert!((epsilon - 3.53635243129).abs() < 1e-3, "{epsilon}");
    assert_eq!(values[0]["history"][1]["steps"], 30);
}

#[test]
fn what_is_out_of_range_is_named_with_what_is_allowed() {
    let refused = |option: &str, value: &str| {
        let mut arguments = [&["privacy", "epsilon"], &TRAINING[..]].concat();
        let at = arguments
            .iter()
            .position(|argument| *argument == option)
            .expect("an option");
        arguments[at + 1] = value;
        fail(&arguments, 3)
    };
    for (option, value, allowed) in [
        ("--sampling-rate", "1.5", "at most 1"),
        ("--noise-multiplier", "0", "above 0"),
        ("--noise-multiplier", "NaN", "finite"),
        ("--delta", "0.5", "below 0.01"),
        ("--steps", "0", "1 to"),
    ] {
        let message = refused(option, value);
        assert!(
            message.contains(option) && message.contains(allowed),
            "{message}"
        );
    }
    // Noise so small that nothing holds must not look like a number.
    assert!(refused("--noise-multiplier", "1e-300").contains("noise multiplier"));

    let mut small = [
        &["privacy", "epsilon"],
        &TRAINING[..],
        &["--accountant", "pld"],
    ]
    .concat();
    small[9] = "1e-12";
    assert!(fail(&small, 3).contains("--accountant rdp"));
    // Neither a training nor a history: the command line's own refusal.
    fail(&["privacy", "epsilon", "--delta", "1e-5"], 2);
}

#[test]
fn a_bad_history_is_refused_with_file_and_phase() {
    let folder = tempfile::tempdir().expect("a folder");
    let refused = |content: &str| {
        let path = write(folder.path(), "history.json", content);
        let message = fail(
            &[
                "privacy",
                "epsilon",
                "--history",
                text(&path),
                "--delta",
                "1e-5",
            ],
            3,
        );
        assert!(message.contains("history.json"), "{message}");
        message
    };
    refused("no JSON");
    refused("[]");
    assert!(refused(r#"["gau(1.0)x1", "gau(-1.0)x1"]"#).contains("phase 2"));
    let missing = folder.path().join("none.json");
    fail(
        &[
            "privacy",
            "epsilon",
            "--history",
            text(&missing),
            "--delta",
            "1e-5",
        ],
        5,
    );
}

#[test]
fn a_plan_shows_what_it_would_cost_a_site_and_draws_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let plan = Path::new(EXAMPLES).join("pneumonia.toml");
    let (svg, png) = (
        folder.path().join("curve.svg"),
        folder.path().join("curve.png"),
    );
    let question = ["plan", text(&plan), "--public-size", "4000", "--picture"];
    let value = privacy(&[&question[..], &[text(&svg)]].concat());
    assert_eq!(number(&value, "sampling_rate"), 128.0 / 4000.0);
    let points = value["epsilon_over_rounds"].as_array().expect("a list");
    let last = points.last().expect("the last round");
    assert_eq!(last["round"], 40);
    let (rdp, pld) = (number(last, "epsilon_rdp"), number(last, "epsilon_pld"));
    assert!(rdp <= 8.0 && rdp > 7.9 && pld < rdp, "{last}");
    for pair in points.windows(2) {
        assert!(
            number(&pair[0], "epsilon_pld") < number(&pair[1], "epsilon_pld"),
            "{value}"
        );
    }
    let drawn = std::fs::read_to_string(&svg).expect("a picture");
    assert!(drawn.contains("rdp") && drawn.contains("pld") && drawn.contains("round"));

    let printed = succeed(&[&["privacy"], &question[..], &[text(&png)]].concat());
    assert!(printed.contains("epsilon by pld"), "{printed}");
    let bytes = std::fs::read(&png).expect("a picture");
    assert!(bytes.starts_with(b"\x89PNG"));

    let odd = folder.path().join("curve.gif");
    assert!(fail(&[&["privacy"], &question[..], &[text(&odd)]].concat(), 2).contains(".svg"));
}

#[test]
fn a_plan_without_privacy_or_too_large_a_delta_is_told() {
    let without = Path::new(EXAMPLES).join("no-privacy.toml");
    let message = fail(
        &["privacy", "plan", text(&without), "--public-size", "100"],
        6,
    );
    assert!(message.contains("without privacy"), "{message}");

    let plan = Path::new(EXAMPLES).join("pneumonia.toml");
    let output = run(&["privacy", "plan", text(&plan), "--public-size", "100000"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && said.contains("public size"),
        "{said}"
    );
    fail(&["privacy", "plan", text(&plan), "--public-size", "0"], 3);
}

#[test]
fn help_shows_how_to_write_a_history() {
    let help = succeed(&["privacy", "epsilon", "--help"]);
    for part in ["sgm(1.0,0.05)x600", "\"mechanism\": \"lap\"", "--history"] {
        assert!(help.contains(part), "no {part} in {help}");
    }
    let help = succeed(&["privacy", "--help"]);
    assert!(
        ["epsilon", "calibrate", "plan"]
            .iter()
            .all(|verb| help.contains(verb)),
        "{help}"
    );
}

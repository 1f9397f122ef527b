//! Plans on disk: the examples, and what a person gets for a bad one.

use std::path::Path;

use crate::program::{fail, succeed, text};

const EXAMPLES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples");

#[test]
fn every_example_plan_is_sound() {
    let mut checked = 0;
    for entry in std::fs::read_dir(EXAMPLES).expect("examples") {
        let path = entry.expect("an entry").path();
        if path.extension().is_none_or(|extension| extension != "toml") {
            continue;
        }
        let printed = succeed(&["study", "check", text(&path), "--json"]);
        let value: serde_json::Value = serde_json::from_str(&printed).expect("one object");
        assert!(
            value["parameters"].as_u64() > Some(0),
            "{}: {value}",
            path.display()
        );
        checked += 1;
    }
    assert!(checked >= 5, "only {checked} examples");
}

/// Checks the example with one change.
fn refusal(from: &str, to: &str, code: i32) -> String {
    let example = Path::new(EXAMPLES).join("pneumonia.toml");
    let plan = std::fs::read_to_string(example).expect("the example");
    assert!(plan.contains(from), "the example has no {from:?}");
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("plan.toml");
    std::fs::write(&path, plan.replacen(from, to, 1)).expect("a file");
    let message = fail(&["study", "check", text(&path)], code);
    assert!(message.contains(text(&path)), "{message}");
    message
}

#[test]
fn an_unknown_field_is_named() {
    let message = refusal("rounds = 40", "rounds = 40\nroundz = 3", 3);
    assert!(message.contains("roundz"), "{message}");
}

#[test]
fn unsound_privacy_is_refused_with_field_and_reason() {
    for epsilon in ["0.0", "-3.0", "nan", "inf"] {
        let message = refusal("epsilon = 8.0", &format!("epsilon = {epsilon}"), 3);
        assert!(
            message.contains("privacy.epsilon") && message.contains("above 0"),
            "{message}"
        );
    }
    for delta in ["1e-2", "0.5", "0.0"] {
        let message = refusal("delta = 1e-5", &format!("delta = {delta}"), 3);
        assert!(message.contains("privacy.delta"), "{message}");
    }
}

#[test]
fn a_plan_that_is_not_there_or_not_toml_is_told_apart() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("none.toml");
    let message = fail(&["study", "check", text(&path)], 5);
    assert!(message.contains("none.toml"), "{message}");
    refusal("name = ", "name ", 3);
}

#[test]
fn what_a_plan_leaves_unprotected_is_said_aloud() {
    let example = Path::new(EXAMPLES).join("no-privacy.toml");
    let output = crate::program::run(&["study", "check", text(&example)]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        said.contains("without noise") && said.contains("secure_aggregation"),
        "{said}"
    );
}

//! `consilium audit canaries` as an auditor uses it.

use std::fmt::Write as _;

use crate::program::{fail, succeed, text};

const PLAN: &str = r#"
    name = "audited"
    task = "tabular-classification"
    data_set = "points"
    classes = ["no", "yes"]
    rounds = 3
    cohort = { size = 3 }
    table = { columns = [{ name = "a" }, { name = "b" }] }
    network = { name = "dense", hidden = [60] }
    training = { steps = 10, batch_size = 100, learning_rate = 0.5 }
    privacy = { clipping_norm = 1.0, epsilon = 1.0, delta = 1e-4 }
"#;

/// 400 points of two classes, and the plan with one change.
fn folder(from: &str, to: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let mut table = "a,b,label\n".to_owned();
    for at in 0..400 {
        let (a, b) = (
            f64::from(at % 20) / 10.0 - 1.0,
            f64::from(at / 20) / 10.0 - 1.0,
        );
        let label = if a + b > 0.0 { "yes" } else { "no" };
        writeln!(table, "{a},{b},{label}").expect("a string takes all");
    }
    std::fs::write(folder.path().join("points.csv"), table).expect("a file");
    assert!(PLAN.contains(from));
    let plan = PLAN.replacen(from, to, 1);
    std::fs::write(folder.path().join("plan.toml"), plan).expect("a file");
    folder
}

/// False alarms: 2 in a million by the bounds, about 1 in 80 000 by noise and batches.
#[test]
fn an_audit_prints_claim_bound_and_verdict() {
    let folder = folder("", "");
    let (plan, data) = (
        folder.path().join("plan.toml"),
        folder.path().join("points.csv"),
    );
    let arguments = [
        "audit",
        "canaries",
        text(&plan),
        "--data",
        text(&data),
        "--target",
        "label",
        "--canaries",
        "300",
        "--guesses",
        "100",
        "--confidence",
        "0.999999",
    ];
    let printed = succeed(&arguments);
    for part in ["claimed", "ε > ", "nothing found speaks against the claim"] {
        assert!(printed.contains(part), "{printed}");
    }
    let printed = succeed(&[&arguments[..], &["--json", "--seed", "5"]].concat());
    let value: serde_json::Value = serde_json::from_str(&printed).expect("one object");
    let number = |path: &str| value.pointer(path).and_then(serde_json::Value::as_f64);
    assert_eq!(value["holds"], true, "{value}");
    assert_eq!(
        (number("/seed"), number("/claimed/steps")),
        (Some(5.0), Some(30.0))
    );
    let claimed = number("/claimed/epsilon").expect("a claim");
    assert!(claimed > 0.99 && claimed <= 1.0, "{claimed}");
    assert!(number("/guesses/epsilon_low") < Some(claimed), "{value}");
    let ratio = number("/noise/deviation_ratio").expect("some noise");
    assert!((ratio - 1.0).abs() < 0.05, "{ratio}");
}

#[test]
fn what_cannot_be_audited_is_refused_with_the_reason() {
    let sound = folder("", "");
    let (plan, data) = (
        sound.path().join("plan.toml"),
        sound.path().join("points.csv"),
    );
    let arguments = [
        "audit",
        "canaries",
        text(&plan),
        "--data",
        text(&data),
        "--target",
        "label",
    ];
    let message = fail(&arguments, 3); // 1000 canaries
    assert!(message.contains("302 weights"), "{message}");
    let message = fail(&[&arguments[..], &["--rounds", "4"]].concat(), 3);
    assert!(message.contains("--rounds"), "{message}");

    let privacy = "{ clipping_norm = 1.0, epsilon = 1.0, delta = 1e-4 }";
    let open = folder(privacy, "{ mode = \"none\" }");
    let (plan, data) = (
        open.path().join("plan.toml"),
        open.path().join("points.csv"),
    );
    let message = fail(
        &[
            "audit",
            "canaries",
            text(&plan),
            "--data",
            text(&data),
            "--target",
            "label",
        ],
        3,
    );
    assert!(message.contains("nothing to audit"), "{message}");
}

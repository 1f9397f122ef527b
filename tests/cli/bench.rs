//! `consilium bench`: figures that scripts read.

use serde_json::Value;

use crate::program::{fail, succeed};

const TINY: [&str; 10] = [
    "bench",
    "training",
    "--networks",
    "cnn-small",
    "--batches",
    "4",
    "--threads",
    "1",
    "--turns",
    "1",
];

#[test]
fn one_object_a_line_begins_with_the_keys_that_scripts_rely_on() {
    let printed = succeed(&[&TINY[..], &["--json", "--recompute", "--profile"]].concat());
    assert_eq!(printed.lines().count(), 1, "{printed}");
    let begins = r#"{"network":"cnn-small","batch":4,"device":"cpu","plain_examples_per_s":"#;
    assert!(printed.starts_with(begins), "{printed}");
    let keys = [
        "plain_examples_per_s",
        "private_examples_per_s",
        "peak_memory_mb",
    ];
    let places = keys.map(|key| printed.find(&format!("\"{key}\":")).expect("a key"));
    assert!(places.is_sorted(), "{printed}");
    let figures: Value = serde_json::from_str(&printed).expect("one object");
    for key in keys {
        let is_measured = cfg!(target_os = "linux") || key != "peak_memory_mb";
        assert!(
            !is_measured || figures[key].as_f64() > Some(0.0),
            "{key}: {printed}"
        );
    }
    assert_eq!(figures["recompute"], true);
    let rows = figures["private_profile"]["rows"]
        .as_array()
        .expect("a profile");
    let shares = rows
        .iter()
        .map(|row| row["share"].as_f64().expect("a share"));
    assert!((shares.sum::<f64>() - 1.0).abs() < 1e-6, "{printed}");
}

#[test]
fn one_way_alone_is_measured_and_shown_in_a_table() {
    let printed = succeed(&[&TINY[..], &["--only", "private"]].concat());
    let lines: Vec<_> = printed.lines().collect();
    assert!(
        lines[0].starts_with("network") && lines[1].starts_with("cnn-small"),
        "{printed}"
    );
    let cells: Vec<_> = lines[1].split_whitespace().collect();
    assert_eq!(
        cells[4], "-",
        "ordinary training was not measured: {printed}"
    );
    assert!(
        cells[5].parse::<f64>().is_ok_and(|rate| rate > 0.0),
        "{printed}"
    );
}

#[test]
fn what_cannot_be_measured_is_refused_with_a_reason() {
    let message = fail(&["bench", "training", "--networks", "vgg"], 2);
    assert!(message.contains("resnet-gn"), "{message}");
    let message = fail(&["bench", "training", "--device", "abacus"], 2);
    assert!(message.contains("no device"), "{message}");
}

#[test]
fn answers_are_measured_and_the_model_behind_them_is_exported_for_other_programs() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name).display().to_string();
    let measured = [
        "bench",
        "prediction",
        "--json",
        "--seconds",
        "1",
        "--threads",
        "2",
    ];
    let printed = succeed(&[&measured[..], &["--files", &path("")]].concat());
    let figures: Value = serde_json::from_str(&printed).expect("one object");
    for key in [
        "start_ms",
        "single_p50_ms",
        "batched_per_s",
        "clients_p50_ms",
        "clients_p99_ms",
    ] {
        assert!(figures[key].as_f64() > Some(0.0), "{key}: {printed}");
    }
    let (plan, weights, onnx) = (
        path("plan.toml"),
        path("weights.safetensors"),
        path("m.onnx"),
    );
    let files = ["model", "export", "--plan", &plan, "--weights", &weights];
    let printed = succeed(&[&files[..], &["--onnx", &onnx, "--json"]].concat());
    let said: Value = serde_json::from_str(&printed).expect("one object");
    let bytes = std::fs::metadata(&onnx).expect("a file").len();
    assert_eq!(
        (said["bytes"].as_u64(), said["network"].as_str()),
        (Some(bytes), Some("resnet-gn"))
    );
}

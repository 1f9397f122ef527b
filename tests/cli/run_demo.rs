//! The demo as a newcomer starts it: one round, everything real.

use crate::program::{fail, run, text};

#[test]
fn a_demo_of_one_round_ends_with_its_object_and_leaves_no_process() {
    let folder = tempfile::tempdir().expect("a folder");
    let dir = folder.path().join("demo");
    let output = run(&[
        "demo",
        "--rounds",
        "1",
        "--json",
        "--seed",
        "5",
        "--dir",
        text(&dir),
    ]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{said}");
    let printed = String::from_utf8(output.stdout).expect("text");
    let last = printed.lines().last().expect("a last line");
    let value: serde_json::Value = serde_json::from_str(last).expect("one object");

    assert_eq!(value["secure_aggregation"], false);
    assert!(said.contains("no secure aggregation"), "{said}");
    assert!(said.contains("generated, not real patients"), "{said}");
    assert_eq!(value["alone"].as_array().map(Vec::len), Some(3));
    for scores in [
        &value["alone"][0],
        &value["together"],
        &value["together_private"],
    ] {
        for name in ["accuracy", "auc"] {
            let score = scores[name].as_f64().expect("a score");
            assert!((0.0..=1.0).contains(&score), "{scores}");
        }
    }
    let epsilon = value["together_private"]["epsilon"]
        .as_f64()
        .expect("an epsilon");
    assert!(epsilon > 0.0 && epsilon <= 8.0, "{epsilon}");
    assert_eq!(value["together_private"]["delta"], 1e-5);
    assert_eq!(value["audit_export"], serde_json::Value::Null);
    assert_eq!(value["trust_root"].as_str().map(str::len), Some(64));
    assert!(value["seconds"].as_f64() > Some(0.0));

    // Each node logged its orderly end.
    for (name, end) in [
        ("coordinator", "stops"),
        ("hospital-1", "stopped"),
        ("hospital-3", "stopped"),
    ] {
        let log = std::fs::read_to_string(dir.join(format!("logs/{name}.log"))).expect("a log");
        assert!(
            log.lines().last().is_some_and(|line| line.contains(end)),
            "{log}"
        );
    }
    let readme = std::fs::read_to_string(dir.join("hospital-2/data/README.txt")).expect("a readme");
    assert!(
        readme.starts_with("Generated, not real patients."),
        "{readme}"
    );
}

#[test]
fn demos_that_cannot_be_are_refused_before_anything_is_made() {
    let folder = tempfile::tempdir().expect("a folder");
    let dir = folder.path().join("demo");
    let message = fail(&["demo", "--epsilon", "0", "--dir", text(&dir)], 3);
    assert!(message.contains("privacy.epsilon"), "{message}");
    assert!(!dir.exists());
    let missing = folder.path().join("none");
    let message = fail(&["demo", "--data", text(&missing), "--dir", text(&dir)], 5);
    assert!(message.contains("does not exist"), "{message}");
    std::fs::write(folder.path().join("file"), b"x").expect("a file");
    let message = fail(&["demo", "--dir", text(folder.path())], 6);
    assert!(message.contains("not empty"), "{message}");
}

#[cfg(unix)]
#[test]
fn ctrl_c_ends_the_demo_and_its_nodes_in_order() {
    use std::{
        io::{BufRead as _, BufReader},
        process::Stdio,
    };
    let folder = tempfile::tempdir().expect("a folder");
    let (dir, data) = (folder.path().join("demo"), folder.path().join("squares"));
    for part in ["train", "val", "test"] {
        crate::federation::write_images(&data.join(part));
    }
    let mut child = crate::program::consilium()
        .args([
            "demo",
            "--rounds",
            "40",
            "--dir",
            text(&dir),
            "--data",
            text(&data),
        ])
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let mut lines = BufReader::new(child.stderr.take().expect("piped")).lines();
    let started = lines
        .by_ref()
        .map(|line| line.expect("text"))
        .find(|line| line.contains("round "));
    assert!(started.is_some(), "no round was published");
    let id = child.id().to_string();
    let sent = std::process::Command::new("kill")
        .args(["-INT", &id])
        .status();
    assert!(sent.expect("kill is there").success());
    let rest: Vec<_> = lines.map_while(Result::ok).collect();
    assert_eq!(child.wait().expect("it ends").code(), Some(130), "{rest:?}");
    let log = std::fs::read_to_string(dir.join("logs/hospital-1.log")).expect("a log");
    assert!(log.contains("agent stopped"), "{log}");
}

//! The demo as a newcomer starts it: one round, everything real.

#[cfg(unix)]
use std::{
    io::{BufRead as _, BufReader, Lines},
    path::Path,
    process::{Child, ChildStderr, Command, Stdio},
    time::{Duration, Instant},
};

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

/// Starts a demo on a small set and waits for its first round.
#[cfg(unix)]
fn start(folder: &Path) -> (Child, Lines<BufReader<ChildStderr>>) {
    let data = folder.join("squares");
    for part in ["train", "val", "test"] {
        crate::federation::write_images(&data.join(part));
    }
    let dir = folder.join("demo");
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
    let said = lines.by_ref().map(|line| line.expect("text"));
    let said: Vec<_> = said.take_while(|line| !line.contains("round ")).collect();
    assert!(
        said.iter()
            .any(|line| line.contains("the coordinator serves")),
        "{said:?}"
    );
    (child, lines)
}

#[cfg(unix)]
fn send(signal: &str, child: &Child) {
    let sent = Command::new("kill")
        .args([signal, &child.id().to_string()])
        .status();
    assert!(sent.expect("kill is there").success());
}

#[cfg(unix)]
#[test]
fn ctrl_c_ends_the_demo_and_its_nodes_in_order() {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut child, lines) = start(folder.path());
    send("-INT", &child);
    let rest: Vec<_> = lines.map_while(Result::ok).collect();
    assert_eq!(child.wait().expect("it ends").code(), Some(130), "{rest:?}");
    let log = std::fs::read_to_string(folder.path().join("demo/logs/hospital-1.log"));
    let log = log.expect("a log");
    assert!(log.contains("agent stopped"), "{log}");
}

#[cfg(unix)]
#[test]
fn nodes_end_when_the_demo_is_killed() {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut child, _lines) = start(folder.path());
    send("-KILL", &child);
    child.wait().expect("it ends");
    for (node, end) in [
        ("hospital-3", "agent stopped"),
        ("coordinator", "coordinator stops"),
    ] {
        let path = folder.path().join(format!("demo/logs/{node}.log"));
        let has_ended = || std::fs::read_to_string(&path).expect("a log").contains(end);
        // Nobody is left to wait for: the log says when the node has gone.
        let deadline = Instant::now() + Duration::from_secs(30);
        while !has_ended() {
            assert!(Instant::now() < deadline, "{node} goes on without the demo");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

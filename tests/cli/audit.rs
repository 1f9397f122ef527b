//! What an auditor does with the files of a federation; the demo's, where rounds were really run.

use std::path::Path;

use serde_json::Value;

use crate::program::{fail, run, succeed, text};

fn json(printed: &str) -> Value {
    serde_json::from_str(printed.trim()).expect("one object")
}

/// Checks the export of a demo of one round, then with a byte changed and an entry gone.
pub(crate) fn check_export(export: &Path, root: &str) {
    let verify = |file: &Path| run(&["audit", "verify", text(file), "--trust", root, "--json"]);
    let output = verify(export);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(0), "{said}");
    let value = json(&String::from_utf8(output.stdout).expect("text"));
    assert_eq!(
        (&value["sound"], &value["findings"]),
        (&true.into(), &Value::Array(vec![]))
    );
    assert_eq!(value["sites"].as_array().map(Vec::len), Some(3));
    // Budget, charge, update; and the receipt that came before the update left.
    let site = &value["sites"][0];
    assert_eq!(
        (&site["entries"], &site["receipts"]),
        (&3.into(), &1.into())
    );
    let limits = value["cannot_show"].to_string();
    assert!(
        limits.contains("outside its ledger") && !limits.contains("no receipt"),
        "{limits}"
    );

    let message = fail(&["audit", "verify", text(export)], 3);
    assert!(message.contains("--trust ROOT"), "{message}");
    let other = "0".repeat(64);
    let message = fail(&["audit", "verify", text(export), "--trust", &other], 6);
    assert!(message.contains("does not verify"), "{message}");

    let sound = std::fs::read_to_string(export).expect("lines");
    let changed = export.with_extension("changed");
    let entry = sound
        .match_indices("\n{\"entry\":\"")
        .nth(1)
        .expect("an entry")
        .0;
    let mut bytes = sound.clone().into_bytes();
    let at = entry + 40;
    bytes[at] = if bytes[at] == b'0' { b'1' } else { b'0' };
    std::fs::write(&changed, bytes).expect("a file");
    let output = verify(&changed);
    assert_eq!(output.status.code(), Some(6));
    let value = json(&String::from_utf8(output.stdout).expect("text"));
    let findings = value["findings"].to_string();
    assert!(
        findings.contains("entry 2") && findings.contains("hospital-1"),
        "{findings}"
    );
    assert_eq!(value["sites"][1]["sound"], true);

    // The same file as its own older copy; then an older copy that is longer.
    let against = [
        "audit",
        "verify",
        text(export),
        "--trust",
        root,
        "--against",
    ];
    succeed(&[&against[..], &[text(export)]].concat());
    fail(&[&against[..], &[text(&changed)]].concat(), 6);
    check_report(export, root);
}

fn check_report(export: &Path, root: &str) {
    let page = export.with_extension("html");
    let arguments = ["audit", "report", text(export), "--trust", root];
    let printed = succeed(&[&arguments[..], &["--json", "--html", text(&page)]].concat());
    let value = json(&printed);
    assert_eq!(
        (&value["unit"], &value["adjacency"]),
        (&"patient".into(), &"add-or-remove-one".into())
    );
    let study = &value["sites"][2]["studies"][0];
    let round = &study["rounds"][0];
    assert_eq!(
        (&round["round"], &round["clipping_norm"]),
        (&1.into(), &1.0.into())
    );
    let number = |value: &Value| {
        value
            .as_f64()
            .unwrap_or_else(|| panic!("no number in {study}"))
    };
    let (spent, cap) = (&study["spent"], number(&study["cap"]["epsilon"]));
    assert!(number(&spent["pld"]) <= number(&spent["rdp"]) && number(&spent["rdp"]) <= cap);
    assert!((number(&spent["rdp"]) + number(&study["left_epsilon"]) - cap).abs() < 1e-9);
    let html = std::fs::read_to_string(&page).expect("a page");
    assert!(html.contains("<svg") && html.contains("hospital-2") && !html.contains("<script"));
    let printed = succeed(&arguments);
    assert!(
        printed.contains("hospital-3") && printed.contains("left"),
        "{printed}"
    );
}

/// What the steward of a hospital of the demo sees.
pub(crate) fn check_budgets(agent: &Path) {
    let key = agent.with_extension("key");
    let on = |command: &[&str]| {
        let folder = ["--dir", text(agent), "--key-file", text(&key)];
        succeed(&[command, &folder].concat())
    };
    let value = json(&on(&["agent", "budget", "--json"]));
    let study = &value["studies"][0];
    assert_eq!(
        (&study["rounds_charged"], &study["rounds_planned"]),
        (&1.into(), &1.into())
    );
    assert!(
        value["data_sets"][0]["left"]["releases"].as_u64() > Some(0),
        "{value}"
    );
    let printed = on(&["agent", "budget"]);
    assert!(
        printed.contains("chest") && printed.contains("1/1"),
        "{printed}"
    );

    let out = agent.with_extension("jsonl");
    let printed = json(&on(&["audit", "export", "--json", "--out", text(&out)]));
    assert_eq!(
        (&printed["sites"], &printed["entries"]),
        (&1.into(), &3.into())
    );
}

#[test]
fn a_folder_that_is_no_sites_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let key = folder.path().join("key");
    std::fs::write(&key, [1; 32]).expect("a file");
    let out = folder.path().join("out");
    let arguments = [
        "audit",
        "export",
        "--dir",
        text(folder.path()),
        "--out",
        text(&out),
    ];
    let output = run(&[&arguments[..], &["--key-file", text(&key)]].concat());
    assert_ne!(output.status.code(), Some(0));
    assert!(!out.exists());
    let root = "0".repeat(64);
    fail(&["audit", "verify", text(&key), "--trust", &root], 6);
    fail(&["audit", "verify", text(&out), "--trust", &root], 5);
}

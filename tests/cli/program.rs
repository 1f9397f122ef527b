//! The program as a child process, its help, and refusals that need no federation.

use std::{
    path::Path,
    process::{Command, Output},
};

/// Runs the program without anything of this machine's environment that could change it.
pub(crate) fn consilium() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_consilium"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("CONSILIUM_")) {
        command.env_remove(name);
    }
    command
        .env("NO_COLOR", "1")
        .stdin(std::process::Stdio::null());
    command
}

/// Runs to the end.
pub(crate) fn run(arguments: &[&str]) -> Output {
    consilium()
        .args(arguments)
        .output()
        .expect("the program starts")
}

/// What it printed, if it succeeded.
pub(crate) fn succeed(arguments: &[&str]) -> String {
    let output = run(arguments);
    let (code, errors) = (
        output.status.code(),
        String::from_utf8_lossy(&output.stderr),
    );
    assert_eq!(code, Some(0), "{arguments:?}: {errors}");
    String::from_utf8(output.stdout).expect("text")
}

/// What it said on standard error, if it failed with this exit code.
pub(crate) fn fail(arguments: &[&str], code: i32) -> String {
    let output = run(arguments);
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {errors}");
    assert!(!errors.contains("panicked"), "{errors}");
    errors
}

/// A path as an argument.
pub(crate) fn text(path: &Path) -> &str {
    path.to_str().expect("temporary folders have plain names")
}

#[test]
fn every_command_explains_itself() {
    let groups: [(&str, &[&str]); 21] = [
        ("note", &["analyse", "deidentify"]),
        ("knowledge", &["check", "show"]),
        ("predict", &["image", "note"]),
        ("model", &["calibrate"]),
        ("dicom", &["check", "deidentify"]),
        (
            "audit",
            &["canaries", "noise", "export", "verify", "report"],
        ),
        ("bench", &["training"]),
        ("demo", &[]),
        ("governance", &["init", "admit", "revoke", "show"]),
        ("coordinator", &["init", "serve", "roster"]),
        (
            "agent",
            &[
                "enrol",
                "run",
                "serve",
                "model",
                "token",
                "predictions",
                "data",
                "budget",
                "study",
                "policy",
            ],
        ),
        ("agent model", &["add", "list", "activate", "roll-back"]),
        ("agent token", &["new", "list", "revoke"]),
        ("agent predictions", &["verify", "export"]),
        ("device", &["list", "check"]),
        ("agent data", &["add", "list", "check", "exclude", "labels"]),
        ("agent study", &["list", "approve", "refuse"]),
        ("operator", &["enrol"]),
        ("researcher", &["enrol"]),
        ("auditor", &["enrol"]),
        (
            "study",
            &[
                "check", "simulate", "submit", "list", "show", "watch", "stop", "resume",
                "evaluate", "fetch", "compare",
            ],
        ),
    ];
    for (group, verbs) in groups {
        let group: Vec<_> = group.split(' ').collect();
        let help = succeed(&[&group[..], &["--help"]].concat());
        for verb in verbs {
            assert!(
                help.contains(verb),
                "{group:?} does not list {verb}: {help}"
            );
            let help = succeed(&[&group[..], &[verb, "--help"]].concat());
            assert!(help.contains("Usage: consilium"), "{help}");
        }
    }
    let help = succeed(&["-h"]);
    assert!(help.contains("consilium"), "{help}");
    let help = succeed(&["--help"]);
    let words: Vec<_> = help.split_whitespace().collect();
    assert!(words.join(" ").contains("Research use only"), "{help}");
}

#[test]
fn unknown_commands_and_arguments_end_with_the_exit_code_of_the_command_line() {
    fail(&["governance", "destroy"], 2);
    fail(&["study", "check"], 2);
    fail(&["demo", "--sites", "0"], 2);
    fail(&["demo", "--device", "cuda:0"], 2);
}

/// A device that is always full.
#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_behind_the_output_has_its_own_exit_code() {
    let full = std::fs::File::options().write(true).open("/dev/full");
    let output = consilium()
        .args(["agent", "policy", "sample"])
        .stdout(full.expect("a device of every Linux"))
        .output()
        .expect("the program starts");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(7), "{errors}");
    assert!(
        errors.contains("standard output") && errors.contains("No space"),
        "{errors}"
    );
}

#[test]
fn without_a_key_nobody_is_asked_where_nobody_can_answer() {
    let folder = tempfile::tempdir().expect("a folder");
    let message = fail(&["governance", "init", "--dir", text(folder.path())], 3);
    assert!(message.contains("--key-file"), "{message}");
}

#[test]
fn a_missing_folder_a_wrong_key_and_a_second_init_are_told_apart() {
    let folder = tempfile::tempdir().expect("a folder");
    let (dir, key) = (folder.path().join("governance"), folder.path().join("key"));
    let at = ["--dir", text(&dir), "--key-file", text(&key)];
    let root = succeed(&[&["governance", "init"][..], &at].concat());
    assert_eq!(root.trim().len(), 64, "{root}");
    let message = fail(&[&["governance", "init"][..], &at].concat(), 6);
    assert!(message.contains("already"), "{message}");

    let other = folder.path().join("other-key");
    std::fs::write(&other, [1; 32]).expect("a file");
    let message = fail(
        &[
            "governance",
            "show",
            "--dir",
            text(&dir),
            "--key-file",
            text(&other),
        ],
        4,
    );
    assert!(
        message.contains("chmod 600") || message.contains("wrong"),
        "{message}"
    );

    let none = folder.path().join("none");
    let show = [
        "governance",
        "show",
        "--dir",
        text(&none),
        "--key-file",
        text(&key),
    ];
    let message = fail(&show, 5);
    assert!(message.contains("governance init"), "{message}");
    let list = [
        "study",
        "list",
        "--dir",
        text(&none),
        "--key-file",
        text(&key),
    ];
    assert!(fail(&list, 5).contains("enrol"));
}

#[test]
fn passphrases_that_are_too_short_are_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let output = consilium()
        .args(["governance", "init", "--dir", text(folder.path())])
        .env("CONSILIUM_PASSPHRASE", "short")
        .output()
        .expect("the program starts");
    assert_eq!(output.status.code(), Some(3));
    assert!(String::from_utf8_lossy(&output.stderr).contains("longer"));
}

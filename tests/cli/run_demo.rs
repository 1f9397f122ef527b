//! The demo as a newcomer starts it: one round, everything real.

use std::path::Path;
#[cfg(unix)]
use std::{
    io::{BufRead as _, BufReader, Lines},
    process::{Child, ChildStderr, Command, Stdio},
    time::Duration,
};

use crate::program::{fail, run, succeed, text};

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

    assert_eq!(value["secure_aggregation"], true);
    assert!(said.contains("learns only the sum"), "{said}");
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
    let export = value["audit_export"].as_str().expect("a file");
    let root = value["trust_root"].as_str().expect("a fingerprint");
    assert!(
        said.contains(&format!("audit verify {export} --trust {root}")),
        "{said}"
    );
    crate::audit::check_export(Path::new(export), root);
    crate::audit::check_budgets(&dir.join("hospital-1/node"));
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

/// Starts a demo on a small set and waits until it says this.
#[cfg(unix)]
fn start(folder: &Path, options: &[&str], until: &str) -> (Child, Lines<BufReader<ChildStderr>>) {
    let data = folder.join("squares");
    for part in ["train", "val", "test"] {
        crate::federation::write_images(&data.join(part));
    }
    let dir = folder.join("demo");
    let mut child = crate::program::consilium()
        .args(["demo", "--dir", text(&dir), "--data", text(&data)])
        .args(options)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let mut lines = BufReader::new(child.stderr.take().expect("piped")).lines();
    let said = lines.by_ref().map(|line| line.expect("text"));
    let said: Vec<_> = said.take_while(|line| !line.contains(until)).collect();
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
    let (mut child, lines) = start(folder.path(), &["--rounds", "40"], "round ");
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
    let (mut child, _lines) = start(folder.path(), &["--rounds", "40"], "round ");
    let demo = folder.path().join("demo");
    send("-KILL", &child);
    child.wait().expect("it ends");
    for (node, lock, end) in [
        ("hospital-3", "hospital-3/node/agent.lock", "agent stopped"),
        ("coordinator", "coordinator/lock", "coordinator stops"),
    ] {
        wait_until_free(&demo.join(lock));
        let log = std::fs::read_to_string(demo.join(format!("logs/{node}.log")));
        let log = log.expect("a log");
        assert!(log.contains(end), "{log}");
    }
}

/// A node holds its folder's lock until it has gone.
#[cfg(unix)]
fn wait_until_free(lock: &Path) {
    let file = std::fs::File::options().write(true).open(lock);
    let file = file.expect("a node's lock");
    let (send, receive) = std::sync::mpsc::channel();
    std::thread::spawn(move || send.send(file.lock()));
    let freed = receive.recv_timeout(Duration::from_secs(30));
    let locked = freed.unwrap_or_else(|_| panic!("{} is still held", lock.display()));
    locked.expect("a lock");
}

/// A researcher's commands against a federation that a demo left running.
#[cfg(unix)]
struct Researcher {
    dir: String,
    key: String,
}

#[cfg(unix)]
impl Researcher {
    fn study<'a>(&'a self, verb: &[&'a str]) -> Vec<&'a str> {
        let folder = ["--dir", &self.dir, "--key-file", &self.key];
        [&["study"], verb, &folder].concat()
    }

    /// Watches a study through a pipe until a line says this. Returns all that was said, and how
    /// the command went on, to its end if nothing said it.
    fn watch(&self, study: &str, until: &str) -> (Vec<String>, Child) {
        let mut child = crate::program::consilium()
            .args(self.study(&["watch", study]))
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the program starts");
        let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let mut said = Vec::new();
        for line in lines.map(|line| line.expect("text")) {
            let is_there = line.contains(until);
            said.push(line);
            if is_there {
                break;
            }
        }
        (said, child)
    }
}

#[cfg(unix)]
#[test]
fn a_kept_demo_serves_its_researcher_until_ctrl_c() {
    let folder = tempfile::tempdir().expect("a folder");
    let options = ["--rounds", "1", "--keep"];
    let (mut child, lines) = start(folder.path(), &options, "goes on until Ctrl-C");
    let demo = folder.path().join("demo");
    let researcher = Researcher {
        dir: text(&demo.join("researcher")).to_owned(),
        key: text(&demo.join("researcher.key")).to_owned(),
    };
    let listed = succeed(&researcher.study(&["list", "--json"]));
    let listed: serde_json::Value = serde_json::from_str(&listed).expect("one array");
    for study in listed.as_array().expect("studies") {
        assert_eq!(study["state"], "finished", "{listed}");
    }
    assert_eq!(listed.as_array().map(Vec::len), Some(2), "{listed}");

    // A study of their own, stopped and resumed.
    let plan = std::fs::read_to_string(demo.join("plans/without-privacy.toml")).expect("a plan");
    let file = folder.path().join("plan.toml");
    std::fs::write(&file, plan.replace("rounds = 1\n", "rounds = 5000\n")).expect("a file");
    let study = succeed(&researcher.study(&["submit", text(&file)]));
    let study = study.trim();
    let (said, mut watching) = researcher.watch(study, "round 1/5000 published");
    for part in [
        "hospital-3 approved",
        "round 1 opened",
        "update of hospital-2, no privacy",
    ] {
        assert!(
            said.iter().any(|line| line.contains(part)),
            "{part}: {said:?}"
        );
    }
    let published = said.last().expect("a line");
    assert!(published.contains("3 sites: "), "{published}");
    // The reader of its pipe has gone: the next line ends it, and that is no failure.
    assert!(watching.wait().expect("it ends").success());

    let stopped = succeed(&researcher.study(&["stop", study]));
    assert_eq!(stopped.trim(), "together, without privacy is stopped");
    fail(&researcher.study(&["stop", study]), 6);
    let (said, mut watching) = researcher.watch(study, "no line says this");
    let last = said.last().expect("a line");
    assert!(last.contains("stopped by researcher researcher"), "{last}");
    assert_eq!(watching.wait().expect("it ends").code(), Some(6));

    let resumed = succeed(&researcher.study(&["resume", study, "--json"]));
    let resumed: serde_json::Value = serde_json::from_str(&resumed).expect("one object");
    assert_eq!(resumed["state"], "running", "{resumed}");
    let next = resumed["rounds_done"].as_u64().expect("a number") + 1;
    let (said, mut watching) = researcher.watch(study, &format!("round {next}/5000 published"));
    assert!(
        said.iter().any(|line| line.contains("stopped by")),
        "{said:?}"
    );
    assert!(watching.wait().expect("it ends").success());

    send("-INT", &child);
    let rest: Vec<_> = lines.map_while(Result::ok).collect();
    assert_eq!(child.wait().expect("it ends").code(), Some(0), "{rest:?}");
    for node in ["hospital-1/node/agent.lock", "coordinator/lock"] {
        wait_until_free(&demo.join(node));
    }
}

//! A federation founded and used with the commands alone: every step as its own process.

use std::{
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Stdio},
};

use serde_json::Value;

use crate::program::{consilium, fail, succeed, text};

/// A node that runs until it is dropped.
struct Node(Child);

impl Node {
    /// Starts a node; returns it with the first line it prints, if it is to print one.
    fn start(arguments: &[&str], log: &Path, prints: bool) -> (Self, String) {
        let errors = std::fs::File::create(log).expect("a log");
        let mut child = consilium()
            .args(arguments)
            .arg("--stop-with-stdin")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(errors)
            .spawn()
            .expect("the program starts");
        let mut line = String::new();
        if prints {
            let stdout = child.stdout.take().expect("piped");
            BufReader::new(stdout).read_line(&mut line).expect("text");
            assert!(
                !line.is_empty(),
                "{}",
                std::fs::read_to_string(log).expect("a log")
            );
        }
        (Self(child), line.trim().to_owned())
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

/// The folders of a federation, all sealed with one key file.
struct Place {
    folder: tempfile::TempDir,
    key: PathBuf,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let key = folder.path().join("key");
        Self { folder, key }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Arguments for a command on one of the folders.
    fn on<'a>(&'a self, command: &[&'a str], dir: &'a Path) -> Vec<&'a str> {
        [
            command,
            &["--dir", text(dir), "--key-file", text(&self.key)],
        ]
        .concat()
    }
}

fn json(printed: &str) -> Value {
    serde_json::from_str(printed.trim()).expect("one object")
}

fn string<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field]
        .as_str()
        .unwrap_or_else(|| panic!("{field} of {value}"))
}

/// A federation with a coordinator that serves.
struct Federation {
    place: Place,
    governance: PathBuf,
    coordinator: PathBuf,
    root: String,
    address: String,
    coordinator_key: String,
    _node: Node,
}

impl Federation {
    fn found() -> Self {
        let place = Place::new();
        let (governance, coordinator) = (place.path("governance"), place.path("coordinator"));
        let root = succeed(&place.on(&["governance", "init"], &governance))
            .trim()
            .to_owned();
        let init = [
            "coordinator",
            "init",
            "--name",
            "coordinator",
            "--trust",
            &root,
            "--json",
        ];
        let init = [&init[..], &["--listen", "127.0.0.1:0"]].concat();
        let made = json(&succeed(&place.on(&init, &coordinator)));
        let application = string(&made, "application");
        let fingerprint = string(&made, "fingerprint");
        let admit = [
            "governance",
            "admit",
            application,
            "--fingerprint",
            fingerprint,
        ];
        succeed(&place.on(&admit, &governance));
        let roster = governance.join("roster.bin");
        let import = ["--dir", text(&coordinator), "--import", text(&roster)];
        succeed(&[&["coordinator", "roster"][..], &import].concat());
        let serve = place.on(&["coordinator", "serve"], &coordinator);
        let (node, address) = Node::start(&serve, &place.path("coordinator.log"), true);
        let coordinator_key = string(&made, "coordinator_key").to_owned();
        Self {
            governance,
            coordinator,
            root,
            address,
            coordinator_key,
            _node: node,
            place,
        }
    }

    fn enrol(&self, role: &str, name: &str, wait: bool) -> String {
        let dir = self.place.path(name);
        let mut command = vec![
            role,
            "enrol",
            "--name",
            name,
            "--coordinator",
            &self.address,
        ];
        command.extend([
            "--coordinator-key",
            &self.coordinator_key,
            "--trust",
            &self.root,
        ]);
        command.extend(wait.then_some("--wait"));
        succeed(&self.place.on(&command, &dir))
    }

    /// Writes the waiting applications out and lets governance admit those with this fingerprint.
    fn admit(&self, fingerprint: &str) {
        let pending = self.place.path(&format!("pending-{}", &fingerprint[..8]));
        let roster = ["coordinator", "roster", "--dir", text(&self.coordinator)];
        succeed(&[&roster[..], &["--pending", text(&pending)]].concat());
        let mut files = std::fs::read_dir(&pending).expect("applications");
        let file = files
            .next()
            .expect("one application")
            .expect("an entry")
            .path();
        assert!(files.next().is_none(), "more than one application waits");

        let wrong = "0".repeat(64);
        let admit = ["governance", "admit", text(&file), "--fingerprint", &wrong];
        let message = fail(&self.place.on(&admit, &self.governance), 4);
        assert!(message.contains("not admitted"), "{message}");
        let message = fail(
            &self
                .place
                .on(&["governance", "admit", text(&file)], &self.governance),
            3,
        );
        assert!(message.contains("--fingerprint"), "{message}");

        let admit = [
            "governance",
            "admit",
            text(&file),
            "--fingerprint",
            fingerprint,
        ];
        succeed(&self.place.on(&admit, &self.governance));
        self.import();
    }

    fn import(&self) {
        let file = self.governance.join("roster.bin");
        let roster = ["coordinator", "roster", "--dir", text(&self.coordinator)];
        succeed(&[&roster[..], &["--import", text(&file)]].concat());
    }

    /// Enrols a member from application to certificate.
    fn join(&self, role: &str, name: &str) -> PathBuf {
        let first = self.enrol(role, name, false);
        let fingerprint = first
            .trim()
            .strip_prefix("pending ")
            .expect("a pending application");
        self.admit(fingerprint);
        let admitted = self.enrol(role, name, true);
        assert!(admitted.starts_with("admitted as member"), "{admitted}");
        self.place.path(name)
    }
}

impl Federation {
    /// An auditor fetches the coordinator's log and compares a site's ledger with it.
    fn audit(&self, site: &Path, researcher: &Path) {
        let place = &self.place;
        let auditor = self.join("auditor", "inspector");
        let (log, export) = (
            place.path("coordinator.log-of-heads"),
            place.path("ledger.jsonl"),
        );
        let fetch = ["audit", "log", "--out", text(&log)];
        // Only auditors and operators see how far all sites have come.
        let message = fail(&place.on(&fetch, researcher), 4);
        assert!(message.contains("researcher"), "{message}");
        assert!(!log.exists());
        let fetch = [&place.on(&fetch, &auditor)[..], &["--json"]].concat();
        // One head for each update that left; a second visit finds the same log.
        assert_eq!(json(&succeed(&fetch))["leaves"], 2);
        assert_eq!(json(&succeed(&fetch))["leaves"], 2);
        let events = succeed(&place.on(&["audit", "events"], &auditor));
        assert!(events.contains("version published"), "{events}");
        let alarms = succeed(&place.on(&["audit", "events", "--alarms"], &auditor));
        assert_eq!(alarms, "", "nobody has complained");
        let complaints = succeed(&place.on(&["agent", "study", "complaints"], site));
        assert_eq!(complaints, "");
        succeed(&place.on(&["audit", "export", "--out", text(&export)], site));
        let verify = [
            "audit",
            "verify",
            text(&export),
            "--trust",
            &self.root,
            "--json",
        ];
        let verify = [&verify[..], &["--coordinator-log", text(&log)]].concat();
        let verdict = json(&succeed(&verify));
        assert_eq!(verdict["sites"][0]["receipts"], 2, "{verdict}");
        assert!(
            verdict["cannot_show"]
                .to_string()
                .contains("its head: 2 leaves"),
            "{verdict}"
        );

        // A leaf less: neither this log nor one that goes on from it is believed.
        let sound = std::fs::read_to_string(&log).expect("lines");
        let lines: Vec<_> = sound.lines().collect();
        let [start @ .., _] = &lines[..] else {
            panic!("no leaf")
        };
        std::fs::write(&log, start.join("\n") + "\n").expect("a file");
        let output = crate::program::run(&verify);
        assert_eq!(output.status.code(), Some(6));
        let verdict = json(&String::from_utf8(output.stdout).expect("text"));
        assert!(
            verdict["findings"]
                .to_string()
                .contains("1 leaves are not the 2"),
            "{verdict}"
        );
        std::fs::write(&log, sound.replace("leaf", "loaf")).expect("a file");
        let message = fail(&fetch, 6);
        assert!(message.contains("is no log"), "{message}");
    }
}

/// Twenty dark and twenty light squares, a folder for each.
pub(crate) fn write_images(folder: &Path) {
    for (class, grey) in [("dark", 40_u8), ("light", 200)] {
        let class = folder.join(class);
        std::fs::create_dir_all(&class).expect("a folder");
        for index in 0..20_u8 {
            let picture = image::GrayImage::from_fn(28, 28, |x, y| {
                image::Luma([grey + ((x * 7 + y * 3 + u32::from(index) * 5) % 30) as u8])
            });
            picture
                .save(class.join(format!("{index}.png")))
                .expect("a file");
        }
    }
}

const PLAN: &str = r#"
    name = "dark or light"
    task = "image-classification"
    data_set = "squares"
    classes = ["dark", "light"]
    rounds = 2
    secure_aggregation = false
    cohort = { size = 1 }
    image = { width = 28, height = 28 }
    network = { name = "cnn-small" }
    training = { steps = 3, batch_size = 8, learning_rate = 0.05 }
    privacy = { clipping_norm = 1.0, epsilon = 4.0, delta = 1e-3 }
"#;

const POLICY: &str = r#"
    tasks = ["image-classification"]
    study_epsilon = 4.0
    study_delta = 1e-3
    min_cohort = 1
    allow_without_secure_aggregation = true
    [data_sets]
    squares = { epsilon = 10.0, delta = 1e-3 }
"#;

#[test]
fn a_study_runs_from_the_first_key_to_the_fetched_model() {
    let federation = Federation::found();
    let place = &federation.place;
    let researcher = federation.join("researcher", "dr-chen");
    let operator = federation.join("operator", "night-shift");
    let site = federation.join("agent", "north");

    // The steward: policy, data, the running agent.
    let images = place.path("images");
    write_images(&images);
    std::fs::write(site.join("policy.toml"), POLICY).expect("a policy");
    std::fs::write(
        site.join("agent.toml"),
        "poll = \"2s\"\nlook_for_studies = \"1s\"\n",
    )
    .expect("settings");
    let shown = succeed(&["agent", "policy", "show", "--dir", text(&site)]);
    assert!(shown.contains("squares"), "{shown}");
    let add = [
        "agent",
        "data",
        "add",
        "squares",
        "--images",
        text(&images),
        "--public-size",
        "40",
    ];
    let report = json(&succeed(
        &[&place.on(&add, &site)[..], &["--json"]].concat(),
    ));
    assert_eq!(report["records"], 40);
    let sets = json(&succeed(
        &[
            &place.on(&["agent", "data", "list"], &site)[..],
            &["--json"],
        ]
        .concat(),
    ));
    assert_eq!(sets[0]["public_size"], 40);
    let (agent, _) = Node::start(
        &place.on(&["agent", "run"], &site),
        &place.path("north.log"),
        false,
    );

    // The researcher submits; the steward approves exactly this plan.
    let plan = place.path("plan.toml");
    std::fs::write(&plan, PLAN.replace("size = 1", "size = 9")).expect("a plan");
    let submit = ["study", "submit", text(&plan)];
    let message = fail(&place.on(&submit, &researcher), 3);
    assert!(message.contains("larger than the roster"), "{message}");
    std::fs::write(&plan, PLAN).expect("a plan");
    let submit = place.on(&["study", "submit", text(&plan)], &researcher);
    let study = succeed(&submit).trim().to_owned();
    assert_eq!(study.len(), 32, "{study}");
    let listed = json(&succeed(
        &[
            &place.on(&["agent", "study", "list"], &site)[..],
            &["--json"],
        ]
        .concat(),
    ));
    assert_eq!(listed[0]["study"], study.as_str());
    assert_eq!(listed[0]["objections"], Value::Array(vec![]), "{listed}");
    let digest = string(&listed[0], "plan_digest");
    let other = "1".repeat(64);
    let approve = ["agent", "study", "approve", &study, "--plan"];
    fail(&place.on(&[&approve[..], &[&other]].concat(), &site), 6);
    succeed(&place.on(&[&approve[..], &[digest]].concat(), &site));

    // Watching ends when the study ends, one object an event.
    let watch = [
        &place.on(&["study", "watch", &study], &researcher)[..],
        &["--json"],
    ]
    .concat();
    let events: Vec<Value> = succeed(&watch).lines().map(json).collect();
    let published = events
        .iter()
        .filter(|event| event["event"] == "published")
        .count();
    assert!(published >= 2, "{events:?}");
    let last = events.last().expect("an event");
    assert_eq!(last["study"]["state"], "finished", "{last}");

    let show = [
        &place.on(&["study", "show", &study], &researcher)[..],
        &["--json"],
    ]
    .concat();
    let shown = json(&succeed(&show));
    let charge = &shown["versions"][2]["contributions"][0]["charge"];
    assert!(
        charge["epsilon"].as_f64() > Some(0.0) && charge["epsilon"].as_f64() <= Some(4.0),
        "{shown}"
    );

    let data = ["--data", text(&images)];
    let evaluate = [
        &place.on(&["study", "evaluate", &study], &researcher)[..],
        &data,
        &["--json"],
    ];
    let scores = json(&succeed(&evaluate.concat()));
    assert_eq!(scores["version"], 2);
    assert_eq!(scores["records"], 40);
    let accuracy = scores["scores"]["accuracy"].as_f64().expect("a score");
    assert!((0.0..=1.0).contains(&accuracy), "{scores}");
    let compare = [
        &place.on(&["study", "compare", &study], &researcher)[..],
        &data,
        &["--json"],
    ];
    let compared = json(&succeed(&compare.concat()));
    assert_eq!(
        compared[0]["scores"]["accuracy"],
        scores["scores"]["accuracy"]
    );

    let out = place.path("model");
    let fetch = ["study", "fetch", &study, "--out", text(&out)];
    let fetched = [&place.on(&fetch, &researcher)[..], &data, &["--json"]].concat();
    let fetched = json(&succeed(&fetched));
    let file = std::fs::read(out.join("model.safetensors")).expect("a model");
    assert_eq!(
        string(&fetched, "sha256"),
        consilium_proto::Digest::plain(&file).to_string()
    );
    let card = json(&std::fs::read_to_string(out.join("model-card.json")).expect("a card"));
    assert_eq!(card["study"], study.as_str());
    let metrics = std::fs::read_to_string(out.join("metrics.csv")).expect("metrics");
    assert_eq!(metrics.lines().count(), 4, "{metrics}");
    let curve = std::fs::read_to_string(out.join("learning-curve.svg")).expect("a curve");
    assert!(
        curve.starts_with("<svg") && curve.contains("dark or light"),
        "{curve}"
    );

    let picture = image::open(out.join("learning-curve.png")).expect("a picture");
    assert_eq!((picture.width(), picture.height()), (1280, 800));
    no_half_written_model_is_left(&place.on(&["study", "fetch", &study], &researcher), place);

    federation.audit(&site, &researcher);

    // A patient opts out after the study: the models that saw the patient are named.
    let list = place.path("opted-out.txt");
    std::fs::write(&list, "dark/3.png\nnobody\n").expect("a list");
    let exclude = [
        "agent",
        "data",
        "exclude",
        "squares",
        "--patients",
        text(&list),
    ];
    let exclude = [&place.on(&exclude, &site)[..], &["--json"]].concat();
    let excluded = json(&succeed(&exclude));
    assert_eq!(excluded["excluded"], 1, "{excluded}");
    assert_eq!(excluded["unknown_lines"], serde_json::json!([2]));
    assert_eq!(excluded["used_by"][0]["study"], study.as_str());
    assert_eq!(excluded["used_by"][0]["rounds"], 2);

    // An operator may stop studies, and neither submit nor resume them.
    let stop = place.on(&["study", "stop", &study], &operator);
    let message = fail(&stop, 6);
    assert!(message.contains("finished"), "{message}");
    fail(&place.on(&["study", "resume", &study], &operator), 4);
    fail(&place.on(&["study", "submit", text(&plan)], &operator), 4);

    // A study that has finished neither stops nor goes on, and one that is not there is missing.
    fail(&place.on(&["study", "stop", &study], &researcher), 6);
    fail(
        &place.on(&["study", "show", &"a".repeat(32)], &researcher),
        5,
    );
    // A site may not submit.
    let key = std::fs::read(&place.key).expect("a key");
    assert_eq!(key.len(), 32);
    fail(&place.on(&["study", "submit", text(&plan)], &site), 4);
    drop(agent);
}

/// Fetches where no file may grow beyond 8 KiB, as on a disk that fills up.
fn no_half_written_model_is_left(fetch: &[&str], place: &Place) {
    let out = place.path("no-room");
    let output = std::process::Command::new("sh")
        .args(["-c", "trap '' XFSZ; ulimit -f 16; exec \"$@\"", "sh"])
        .arg(env!("CARGO_BIN_EXE_consilium"))
        .args(fetch)
        .args(["--out", text(&out)])
        .output()
        .expect("a shell");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(7), "{errors}");
    assert!(errors.contains("model.safetensors"), "{errors}");
    let left = std::fs::read_dir(&out).expect("a folder").count();
    assert_eq!(left, 0, "{errors}");
}

#[test]
fn whoever_is_not_who_they_should_be_is_told_so() {
    let federation = Federation::found();
    let place = &federation.place;
    let researcher = federation.join("researcher", "dr-chen");
    let list = place.on(&["study", "list"], &researcher);
    succeed(&list);

    // The port is taken.
    let second = place.path("second");
    let init = [
        "coordinator",
        "init",
        "--name",
        "second",
        "--trust",
        &federation.root,
    ];
    succeed(&place.on(
        &[&init[..], &["--listen", &federation.address]].concat(),
        &second,
    ));
    let message = fail(&place.on(&["coordinator", "serve"], &second), 8);
    assert!(message.contains("port is taken"), "{message}");
    // One folder serves one coordinator.
    let message = fail(
        &place.on(&["coordinator", "serve"], &federation.coordinator),
        8,
    );
    assert!(
        message.contains("another coordinator is serving"),
        "{message}"
    );

    // Another TLS key than the pinned one answers.
    let other = "1".repeat(64);
    let mut enrol = vec![
        "agent",
        "enrol",
        "--name",
        "south",
        "--coordinator",
        &federation.address,
    ];
    enrol.extend(["--coordinator-key", &other, "--trust", &federation.root]);
    let south = place.path("south");
    let message = fail(&place.on(&enrol, &south), 8);
    assert!(message.contains("pinned"), "{message}");
    // Nobody answers there any more, or never did.
    enrol[5] = "127.0.0.1:1";
    let message = fail(&place.on(&enrol, &place.path("west")), 8);
    assert!(message.contains("is the coordinator running"), "{message}");

    // Governance puts the researcher out.
    succeed(&place.on(&["governance", "revoke", "dr-chen"], &federation.governance));
    let message = fail(
        &place.on(&["governance", "revoke", "dr-chen"], &federation.governance),
        5,
    );
    assert!(message.contains("dr-chen"), "{message}");
    federation.import();
    let output = crate::program::run(&list);
    assert_ne!(output.status.code(), Some(0));
    let message = String::from_utf8_lossy(&output.stderr);
    assert!(message.contains("revoked"), "{message}");
    let roster = [
        "coordinator",
        "roster",
        "--dir",
        text(&federation.coordinator),
        "--json",
    ];
    let roster = json(&succeed(&roster));
    assert_eq!(roster["members"][1]["revoked"], true, "{roster}");
}

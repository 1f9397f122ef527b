//! Rounds that were really run, repeated by an auditor in the house (`consilium audit noise`).

use std::{
    path::Path,
    process::{Command, Output},
    time::{Duration, SystemTime},
};

use consilium_agent::{
    data::{PublicSize, Registration, exclude, register},
    policy::Policy,
    store::Store,
};
use consilium_coordinator::to_safetensors;
use consilium_privacy::ledger::{ChargeRequest, Charged, Fact, Made, Repeat};
use consilium_proto::{Plan, StudyId};
use serde_json::Value;

use crate::{
    harness::{Federation, Place},
    records,
};

const ROUNDS: u32 = 3;
const STEPS: u32 = 4;

fn plan(clipping: &str) -> Plan {
    let text = format!(
        r#"
        name = "replayed"
        task = "image-classification"
        data_set = "scans"
        classes = ["a", "b"]
        rounds = {ROUNDS}
        secure_aggregation = false
        cohort = {{ size = 2, deadline = "2m" }}
        image = {{ width = 28, height = 28, augment = [{{ step = "shift", max_pixels = 2 }}] }}
        network = {{ name = "cnn-small" }}
        training = {{ steps = {STEPS}, batch_size = 6, learning_rate = 0.1 }}
        privacy = {{ clipping_norm = 1.0, epsilon = 8.0, delta = 5e-3{clipping} }}
        "#
    );
    Plan::from_toml(&text).expect("a sound plan")
}

fn audit(site: &Place, study: StudyId, options: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_consilium"))
        .args(["audit", "noise", "--json", "--dir"])
        .arg(&site.folder)
        .arg("--key-file")
        .arg(&site.key_file)
        .args(["--study", &study.to_string()])
        .args(options)
        .output()
        .expect("the binary starts")
}

/// The object it prints, and what it says to people.
fn answer(output: &Output, code: i32) -> (Value, String) {
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{said}");
    let value = serde_json::from_slice(&output.stdout).expect("one object");
    (value, said)
}

fn verdicts(value: &Value) -> Vec<&str> {
    let rounds = value["rounds"].as_array().expect("rounds").iter();
    rounds
        .map(|round| round["verdict"].as_str().expect("a verdict"))
        .collect()
}

/// False alarms: 1 in 80 000 by noise and batches, whose keys are new in every run.
#[tokio::test(flavor = "multi_thread")]
async fn every_round_of_a_study_is_repeated_bit_for_bit_and_what_changed_since_is_told() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let plan = plan("");
    let data = folder.path().join("0");
    let of = |site: &str| vec![records::of(&plan, &folder.path().join(site))];
    let mut federation = Federation::found(vec![of("0"), of("1")]).await;
    let id = federation.submit(&plan).await;
    let study = federation.finish(id).await;

    // Agents and coordinator go on running.
    let (value, _) = answer(&audit(&federation.sites[0], id, &[]), 0);
    assert_eq!(verdicts(&value), ["agrees"; ROUNDS as usize], "{value}");
    assert_eq!(value["findings"], Value::Array(vec![]));
    for round in value["rounds"].as_array().expect("rounds") {
        assert_eq!(round["digest"], round["replay"]["digest"]);
        let noise = &round["replay"]["noise"];
        let charged = round["charged"]["noise_multiplier"].as_f64();
        assert!(noise["low"].as_f64() < charged && charged < noise["high"].as_f64());
        let batches = &round["replay"]["batches"];
        assert_eq!(batches["expected"], 6.0);
        let drawn = batches["drawn"].as_array().expect("sizes");
        assert_eq!(drawn.len(), STEPS as usize);
    }

    let versions = folder.path().join("versions");
    std::fs::create_dir(&versions).expect("a new folder");
    let mut researcher = federation.researcher().await;
    for number in 1..=ROUNDS {
        let (_, digest) = study.version(Some(number)).expect("a version");
        let vector = researcher.download(&study, digest).await;
        let file = to_safetensors(&study.layout, &vector.expect("its weights"));
        std::fs::write(versions.join(format!("{number}.safetensors")), file).expect("a file");
    }
    drop(researcher);
    federation.stop_agent(0);
    federation.stop_coordinator();
    let store = federation.store(0).await;
    let entries = store.ledger_entries().await.expect("a sound ledger");
    assert_eq!(entries.len(), 1 + 2 * ROUNDS as usize, "nothing was added");
    let site = &federation.sites[0];

    let (value, said) = answer(&audit(site, id, &[]), 0);
    assert_eq!(verdicts(&value), ["agrees", "not repeated", "not repeated"]);
    assert!(said.contains("2 of 3 rounds cannot be repeated"), "{said}");
    let missing = value["rounds"][1]["why"].as_str().expect("a reason");
    assert!(missing.contains("started from are missing"), "{missing}");
    let offline = ["--versions", versions.to_str().expect("a plain name")];
    let (value, _) = answer(&audit(site, id, &offline), 0);
    assert_eq!(verdicts(&value), ["agrees"; ROUNDS as usize], "{value}");

    let forged = forge_round(site, &store, id, 4, |made| made.update = [7; 32]).await;
    forge_round(site, &store, id, 5, |made| made.batch_size = 9).await;
    let options = ["--round", "5", "--round", "4", "--round", "1"];
    let options = [&offline[..], &options].concat();
    let (value, said) = answer(&audit(site, id, &options), 6);
    assert_eq!(verdicts(&value), ["agrees", "differs", "differs"]);
    assert_eq!(value["rounds"][1]["digest"], "07".repeat(32));
    let terms = value["rounds"][2]["why"].as_str().expect("a reason");
    assert!(terms.contains("batch size 9"), "{terms}");
    assert!(said.contains("2 of 3 rounds differ"), "{said}");

    let key = folder_of_keys(site).join(format!("{}.secret", forged.key.expect("a key")));
    std::fs::remove_file(key).expect("its secret");
    let not_repeated = |options: &[&str], reason: &str| {
        let (value, said) = answer(&audit(site, id, options), 6);
        assert_eq!(verdicts(&value), ["not repeated"], "{said}");
        let why = value["rounds"][0]["why"].as_str().expect("a reason");
        assert!(why.contains(reason), "{why}");
        assert!(said.contains("no round could be repeated"), "{said}");
    };
    let last = [&offline[..], &["--round", "4"]].concat();
    not_repeated(&last, "no longer in the folder `keys`");

    let kept = change_a_byte_of_each_picture(&data);
    not_repeated(&["--round", "1"], "cannot be used as it was registered");
    for (path, bytes) in kept {
        std::fs::write(path, bytes).expect("a file");
    }
    let (value, _) = answer(&audit(site, id, &["--round", "1"]), 0);
    assert_eq!(verdicts(&value), ["agrees"]);

    let list = folder.path().join("list");
    std::fs::write(&list, "patient 3\n").expect("a file");
    let excluded = exclude(&store, "scans", &list, SystemTime::now()).await;
    assert_eq!(excluded.expect("a known patient").excluded, 1);
    not_repeated(&["--round", "1"], "opted out since");
    register_again(site, &store, &plan, &data).await;
    not_repeated(&["--round", "1"], "registered anew since");

    let unknown = audit(site, StudyId::random().expect("randomness"), &[]);
    assert_eq!(unknown.status.code(), Some(5));
    assert_eq!(audit(site, id, &["--round", "9"]).status.code(), Some(5));
    store.close().await;
}

/// C begins where the plan says, then where the round before ended. False alarms: 1 in 80 000.
#[tokio::test(flavor = "multi_thread")]
async fn an_adaptive_norm_goes_on_from_round_to_round_and_every_round_is_repeated() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let plan = plan(", clipping = { name = \"adaptive\", count_noise = 0.5 }");
    let of = |site: &str| vec![records::of(&plan, &folder.path().join(site))];
    let mut federation = Federation::found(vec![of("0"), of("1")]).await;
    let id = federation.submit(&plan).await;
    federation.finish(id).await;
    let (value, _) = answer(&audit(&federation.sites[0], id, &[]), 0);
    assert_eq!(verdicts(&value), ["agrees"; ROUNDS as usize], "{value}");
    let shown = |round: usize, name| value["rounds"][round][name].as_f64().expect("a norm");

    federation.stop_agent(0);
    let store = federation.store(0).await;
    let entries = store.ledger_entries().await.expect("a sound ledger");
    let made = entries.iter().filter_map(|entry| entry.fact.made());
    let mut last = 1.0;
    for (round, made) in made.enumerate() {
        let [first, next] = [made.clipping_norm, made.next_clipping_norm].map(f64::from);
        assert_eq!(first, last, "round {round}");
        assert_ne!(next, first, "round {round}");
        assert!((shown(round, "clipping_norm") - first).abs() < 1e-12);
        assert!((shown(round, "next_clipping_norm") - next).abs() < 1e-12);
        last = next;
    }
    let site = &federation.sites[0];
    forge_round(site, &store, id, 4, |made| {
        made.clipping_norm = 0.125.try_into().expect("within range");
    })
    .await;
    let (value, _) = answer(&audit(site, id, &["--round", "4"]), 6);
    assert_eq!(verdicts(&value), ["differs"]);
    let why = value["rounds"][0]["why"].as_str().expect("a reason");
    assert!(why.contains("clipping norm 0.125"), "{why}");
    store.close().await;
}

/// Charges a round and records an update that nobody trained.
async fn forge_round(
    site: &Place,
    store: &Store,
    study: StudyId,
    round: u32,
    change: impl Fn(&mut Made),
) -> Charged {
    let entries = store.ledger_entries().await.expect("a sound ledger");
    let made = entries.iter().rev().find_map(|entry| match entry.fact {
        Fact::Made(made) => Some(made),
        _ => None,
    });
    let mut charged = entries
        .iter()
        .find_map(|entry| entry.fact.charged().cloned());
    let charged = charged.as_mut().expect("a charge");
    let secret = store.new_secret().expect("room");
    (charged.round, charged.key) = (round, Some(secret.commitment()));
    let request = ChargeRequest {
        data_set: charged.data_set.clone(),
        study: *study.as_bytes(),
        round: charged.round,
        attempt: 1,
        purpose: charged.purpose.clone(),
        charge: charged.charge,
        study_cap: None,
        repeat: Repeat::Refuse,
        key: charged.key,
    };
    let policy = Policy::load(&site.folder.join("policy.toml")).expect("a sound policy");
    let (delta, now) = (5e-3.try_into().expect("within range"), SystemTime::now());
    let paid = store.charge(&policy.data_sets, request, delta, now).await;
    let mut made = made.expect("an update");
    made.charge = paid.expect("within budget").grant.sequence();
    change(&mut made);
    store.record_update(made, now).await.expect("room");
    charged.clone()
}

fn folder_of_keys(site: &Place) -> std::path::PathBuf {
    site.folder.join("keys")
}

/// What the pictures were before.
fn change_a_byte_of_each_picture(folder: &Path) -> Vec<(std::path::PathBuf, Vec<u8>)> {
    let files = std::fs::read_dir(folder).expect("a folder");
    let paths = files.map(|file| file.expect("a file").path());
    let pictures = paths.filter(|path| path.extension().is_some_and(|end| end == "png"));
    let change = |path: std::path::PathBuf| {
        let kept = std::fs::read(&path).expect("a picture");
        let mut bytes = kept.clone();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(&path, bytes).expect("a file");
        (path, kept)
    };
    pictures.map(change).collect()
}

async fn register_again(site: &Place, store: &Store, plan: &Plan, data: &Path) {
    let policy = Policy::load(&site.folder.join("policy.toml")).expect("a sound policy");
    let set = records::of(plan, data);
    let registration = Registration {
        name: set.name,
        source: set.source,
        label_map: None,
        public_size: PublicSize::Declared(set.public_size),
        skip_unreadable: false,
        pixels_seen: false,
        replace: true,
    };
    let later = SystemTime::now() + Duration::from_secs(10);
    let registered = register(store, &policy, registration, later).await;
    registered.expect("registered");
}

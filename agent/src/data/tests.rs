//! Registered data as training sees it. What the steward sees is tested from outside, in
//! `tests/data.rs`.

mod note_sets;

use std::{collections::BTreeMap, path::Path, sync::Arc, time::SystemTime};

use consilium_models::{
    network::Network,
    training::{Examples, Protection},
};
use consilium_privacy::{
    ledger::{ChargeRequest, Purpose, Repeat},
    seal::SealingKey,
    step::Origin,
};
use consilium_proto::{Plan, StudyId};

use super::*;
use crate::{
    policy::{Noise, Policy},
    settings::Settings,
    store::Store,
    training::{Preparation, Work, train},
};

const NOW: SystemTime = SystemTime::UNIX_EPOCH;

const PLAN: &str = r#"
    name = "heart"
    task = "tabular-classification"
    data_set = "heart"
    classes = ["healthy", "ill"]
    rounds = 2
    cohort = { size = 3 }
    table = { columns = [{ name = "age", mean = 50.0, deviation = 10.0 }] }
    network = { name = "dense", hidden = [4] }
    training = { steps = 3, batch_size = 4, learning_rate = 0.1 }
    privacy = { clipping_norm = 1.0, epsilon = 2.0, delta = 1e-5 }
"#;

const TABLE: &str = "who,age,state\np1,40,healthy\np2,50,ill\np1,60,ill\np3,?,healthy\n";

async fn registered(folder: &Path) -> Store {
    let store = Store::open(folder, Arc::new(SealingKey::from_bytes([3; 32]))).await;
    let store = store.expect("a store");
    let file = folder.join("heart.csv");
    std::fs::write(&file, TABLE).expect("room");
    let registration = Registration {
        name: "heart".into(),
        source: Source::Table {
            file,
            target: "state".into(),
            patient: Some("who".into()),
        },
        label_map: None,
        public_size: PublicSize::Declared(4),
        skip_unreadable: false,
        pixels_seen: false,
        replace: false,
    };
    register(&store, &Policy::default(), registration, NOW)
        .await
        .expect("a sound table");
    store
}

fn plan() -> Plan {
    Plan::from_toml(PLAN).expect("a sound plan")
}

/// Without room to keep examples in.
fn uncached() -> Settings {
    Settings {
        cache_mebibytes: 0,
        ..Settings::default()
    }
}

/// Asks on a thread that may block, as training does.
async fn present(set: &Arc<TrainingSet>) -> Vec<usize> {
    let set = set.clone();
    let ask = move || {
        (0..set.patients())
            .map(|patient| set.records_of(patient))
            .collect()
    };
    tokio::task::spawn_blocking(ask).await.expect("no panic")
}

#[tokio::test]
async fn an_exclusion_holds_from_the_next_batch_on() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = registered(folder.path()).await;
    let study = StudyId::random().expect("randomness");
    let preparation = Preparation::default();
    let set = preparation
        .prepare(&store, study, &plan(), &Settings::default())
        .await
        .expect("it fits");
    let mut before = present(&set).await;
    before.sort_unstable();
    assert_eq!(before, [1, 1, 2]);

    let list = folder.path().join("out.txt");
    std::fs::write(&list, "\u{FEFF}p1\r\n\r\np9\r\n").expect("room");
    let exclusion = exclude(&store, "heart", &list, NOW)
        .await
        .expect("a sound list");
    assert_eq!((exclusion.excluded, exclusion.unknown_lines), (1, vec![3]));
    let mut after = present(&set).await;
    after.sort_unstable();
    assert_eq!(after, [0, 1, 1], "the very same set, one batch later");
    let again = exclude(&store, "heart", &list, NOW)
        .await
        .expect("safe to repeat");
    assert_eq!(again.excluded, 0);
}

#[tokio::test]
async fn an_exclusion_is_logged_by_pseudonym_and_names_the_studies_that_used_the_patient() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = registered(folder.path()).await;
    let (early, late) = (
        StudyId::random().expect("randomness"),
        StudyId::random().expect("more"),
    );
    let model = consilium_proto::ModelDigest(consilium_proto::Digest::plain(b"x"));
    let day = |days: u64| NOW + std::time::Duration::from_secs(86_400 * days);
    for (study, when) in [(early, day(1)), (late, day(3))] {
        store
            .remember_study(study, &plan().to_canonical(), when)
            .await
            .expect("room");
        assert!(
            store
                .begin_training(study, 1, "heart", model, when)
                .await
                .expect("room")
        );
    }
    let list = folder.path().join("out.txt");
    std::fs::write(&list, "p2\n").expect("room");
    for when in [day(2), day(4)] {
        let exclusion = exclude(&store, "heart", &list, when)
            .await
            .expect("a sound list");
        let used = UsedBy {
            study: early,
            name: "heart".into(),
            rounds: 1,
        };
        assert_eq!(
            exclusion.used_by,
            [used],
            "the later study never drew the patient"
        );
    }
    let events = store.events().await.expect("readable");
    let logged = events
        .iter()
        .find(|event| event.action == "excluded")
        .expect("logged");
    let pseudonym = store.pseudonyms().pseudonym("p2").to_string();
    assert_eq!(logged.detail["patient"], pseudonym.as_str());
    assert!(!logged.detail.to_string().contains("p2\""));
    let unknown = exclude(&store, "hands", &list, NOW)
        .await
        .expect_err("no such set");
    assert_eq!(unknown.code(), ErrorCode::Missing);
}

#[tokio::test]
async fn records_are_prepared_as_the_plan_says_and_a_changed_file_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = registered(folder.path()).await;
    let study = StudyId::random().expect("randomness");
    let set = Preparation::default()
        .prepare(&store, study, &plan(), &uncached())
        .await
        .expect("it fits");
    let mut inputs: Vec<f32> = Vec::new();
    for (patient, records) in present(&set).await.into_iter().enumerate() {
        inputs.extend((0..records).map(|record| set.load(patient, record).expect("a row").0[0]));
    }
    inputs.sort_by(f32::total_cmp);
    assert_eq!(inputs, [-1.0, 0.0, 0.0, 1.0]);

    let file = folder.path().join("heart.csv");
    std::fs::write(&file, TABLE.replace("60", "61")).expect("room");
    let set = Preparation::default()
        .prepare(&store, study, &plan(), &uncached())
        .await
        .expect("it fits");
    let mut refused = 0;
    for (patient, records) in present(&set).await.into_iter().enumerate() {
        for record in 0..records {
            if let Err(error) = set.load(patient, record) {
                assert!(error.to_string().contains("has changed"), "{error}");
                refused += 1;
            }
        }
    }
    assert_eq!(refused, 1);
    std::fs::write(&file, "who,age,state\np1,40,healthy\n").expect("room");
    let gone = Preparation::default()
        .prepare(&store, study, &plan(), &uncached())
        .await;
    assert!(gone.is_err_and(|error| error.to_string().contains("has changed")));
}

#[tokio::test]
async fn a_plan_of_another_kind_or_with_other_classes_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = registered(folder.path()).await;
    let study = StudyId::random().expect("randomness");
    let mut other = plan();
    other.classes = vec!["healthy".into(), "dead".into()];
    let refused = Preparation::default()
        .prepare(&store, study, &other, &uncached())
        .await;
    let message = refused.err().expect("no such class").to_string();
    assert!(
        message.contains("\"ill\"") && message.contains("healthy, dead"),
        "{message}"
    );
    let mut other = plan();
    other.data_set = "hands".into();
    let refused = Preparation::default()
        .prepare(&store, study, &other, &uncached())
        .await;
    assert!(refused.is_err_and(|error| error.to_string().contains("\"hands\"")));
}

/// The road of an update up to the sealed file: charge, noise, store.
#[tokio::test]
async fn a_round_is_charged_noised_and_stored_sealed() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = registered(folder.path()).await;
    let (plan, study) = (plan(), StudyId::random().expect("randomness"));
    let guarantee = plan.privacy.guarantee().expect("a private plan");
    let noise = Noise::of(&plan, &guarantee, 40).expect("reachable");
    let delta = guarantee.delta.try_into().expect("sound");
    let budget = consilium_privacy::ledger::Budget {
        epsilon: 9.0.try_into().expect("sound"),
        delta,
    };
    let secret = store.new_secret().expect("randomness");
    let request = ChargeRequest {
        data_set: "heart".into(),
        study: *study.as_bytes(),
        round: 1,
        attempt: 1,
        purpose: Purpose::Training,
        charge: noise.charge(plan.training.steps),
        study_cap: None,
        repeat: Repeat::Refuse,
        key: Some(secret.commitment()),
    };
    let budgets = BTreeMap::from([("heart".to_owned(), budget)]);
    let charged = store
        .charge(&budgets, request, delta, NOW)
        .await
        .expect("within budget");
    assert!(charged.study_epsilon > 0.0 && charged.study_epsilon <= 2.0);

    let network = Arc::new(Network::from_plan(&plan).expect("a network"));
    let weights = network.initial(plan.seed);
    let set = Preparation::default()
        .prepare(&store, study, &plan, &uncached())
        .await
        .expect("it fits");
    let protection = Protection::Private {
        clipping_norm: 1.0.try_into().expect("within range"),
        grant: charged.grant,
        secret,
    };
    let work = Work {
        study,
        round: 1,
        plan,
        network,
        weights,
        set,
        devices: Vec::new(),
        protection,
        epsilon: Some(charged.study_epsilon),
    };
    let update = train(store.clone(), work).await.expect("trained");
    assert!(update.is_private());
    let stored = store.spooled(study, 1).expect("intact").expect("stored");
    assert_eq!(stored.values(), update.values());
    assert!(matches!(
        stored.origin(),
        Origin::Noised {
            sequence: 2,
            taken: 3,
            ..
        }
    ));
}

use std::collections::BTreeMap;

use consilium_privacy::{
    accountant::{Charge, Delta},
    ledger::{Budget, ChargeRequest, Generator, Made, Purpose, Refusal, Repeat},
    step::PrivateUpdate,
};
use consilium_proto::{Digest, ModelDigest, Plan, PlanDigest, StudyId};

use super::*;

const NOW: SystemTime = UNIX_EPOCH;

const PLAN: &str = r#"
    name = "heart"
    task = "tabular-classification"
    data_set = "heart"
    classes = ["healthy", "ill"]
    rounds = 2
    cohort = { size = 3 }
    table = { columns = [{ name = "age" }] }
    network = { name = "dense", hidden = [] }
    training = { steps = 1, batch_size = 8, learning_rate = 0.1 }
    privacy = { clipping_norm = 1.0, epsilon = 1.0, delta = 1e-6 }
"#;

fn key() -> Arc<SealingKey> {
    Arc::new(SealingKey::from_bytes([3; 32]))
}

async fn store(folder: &Path) -> Store {
    Store::open(folder, key()).await.expect("a store")
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a folder")
}

fn budgets(epsilon: f64) -> BTreeMap<String, Budget> {
    let epsilon = epsilon.try_into().expect("sound");
    BTreeMap::from([(
        "heart".into(),
        Budget {
            epsilon,
            delta: delta(),
        },
    )])
}

fn delta() -> Delta {
    1e-5.try_into().expect("sound")
}

fn request(round: u32) -> ChargeRequest {
    let charge = Charge::SampledGaussian {
        q: 0.1.try_into().expect("sound"),
        sigma: 1.0.try_into().expect("sound"),
        steps: 10,
    };
    ChargeRequest {
        data_set: "heart".into(),
        study: [1; 16],
        round,
        attempt: 1,
        purpose: Purpose::Training,
        charge,
        study_cap: None,
        repeat: Repeat::Refuse,
        key: None,
    }
}

async fn charge(store: &Store, round: u32) -> Result<Charged, ChargeError> {
    store
        .charge(&budgets(8.0), request(round), delta(), NOW)
        .await
}

fn model(text: &[u8]) -> ModelDigest {
    ModelDigest(Digest::plain(text))
}

async fn remembered(store: &Store) -> (StudyId, PlanDigest) {
    let plan = Plan::from_toml(PLAN).expect("a sound plan");
    let id = StudyId::random().expect("randomness");
    store
        .remember_study(id, &plan.to_canonical(), NOW)
        .await
        .expect("room");
    (id, plan.digest())
}

#[tokio::test]
async fn a_charge_outlives_the_process_that_made_it() {
    let folder = folder();
    let first = store(folder.path()).await;
    let charged = charge(&first, 1).await.expect("within budget");
    // The process ends here, without a farewell.
    drop(first);
    let again = store(folder.path()).await;
    let entries = again.ledger_entries().await.expect("it verifies");
    assert_eq!(entries.len(), 2, "the budget and one charge");
    assert_eq!(entries[1].sequence, charged.grant.sequence());
    let spent = again.spent("heart", delta()).await.expect("readable");
    assert_eq!(spent, charged.study_epsilon);
    let refused = charge(&again, 1).await.expect_err("the same round");
    assert!(matches!(
        refused,
        ChargeError::Refused(Refusal::AlreadyCharged { sequence: 2 })
    ));
}

#[tokio::test]
async fn two_processes_share_one_budget() {
    let folder = folder();
    let (agent, command) = (store(folder.path()).await, store(folder.path()).await);
    charge(&agent, 1).await.expect("within budget");
    charge(&command, 2).await.expect("within budget");
    charge(&agent, 3).await.expect("within budget");
    let entries = command.ledger_entries().await.expect("one chain");
    assert_eq!(
        entries
            .iter()
            .map(|entry| entry.sequence)
            .collect::<Vec<_>>(),
        [1, 2, 3, 4],
        "the budget and three charges"
    );
    let (mut sixteen, mut granted) = (Vec::new(), 0);
    let costly = |round| {
        let request = request(round);
        let charge = request.charge.with_releases(5);
        ChargeRequest { charge, ..request }
    };
    for round in 10..26 {
        let store = if round % 2 == 0 {
            agent.clone()
        } else {
            command.clone()
        };
        sixteen.push(tokio::spawn(async move {
            let budgets = budgets(8.0);
            let charged = store.charge(&budgets, costly(round), delta(), NOW);
            charged.await.is_ok()
        }));
    }
    for task in sixteen {
        granted += usize::from(task.await.expect("no panic"));
    }
    let left = command.ledger_entries().await.expect("one chain").len();
    assert_eq!(left, 4 + granted);
    assert!((1..16).contains(&granted), "the budget ends: {granted}");
    assert!(command.spent("heart", delta()).await.expect("readable") <= 8.0);
}

#[tokio::test]
async fn a_charge_whose_update_was_never_stored_is_resumed_with_its_secret_and_no_other() {
    let folder = folder();
    let store = store(folder.path()).await;
    let secret = store.new_secret().expect("randomness");
    let key = Some(secret.commitment());
    let training = ChargeRequest { key, ..request(1) };
    let charged = store.charge(&budgets(8.0), training, delta(), NOW).await;
    let first = charged.expect("within budget");
    let sequence = first.grant.sequence();

    let resumed = store.resume_charge(sequence, delta()).await;
    let (resumed, again) = resumed.expect("the same charge");
    assert_eq!(resumed.grant.sequence(), sequence);
    assert_eq!(resumed.grant.charge(), first.grant.charge());
    assert_eq!(resumed.study_epsilon, first.study_epsilon);
    assert_eq!(again.commitment(), secret.commitment());
    let entries = store.ledger_entries().await.expect("intact");
    assert_eq!(entries.len(), 2, "the budget and one charge");

    // An entry that is no charge, one that is not there, one without its secret.
    assert!(store.resume_charge(1, delta()).await.is_err());
    assert!(store.resume_charge(9, delta()).await.is_err());
    store
        .forget_secret(&secret.commitment())
        .expect("removable");
    let error = store
        .resume_charge(sequence, delta())
        .await
        .expect_err("gone");
    assert!(error.to_string().contains("keys"), "{error}");
}

#[tokio::test]
async fn an_update_is_recorded_once_and_ends_its_charge() {
    let folder = folder();
    let store = store(folder.path()).await;
    let secret = store.new_secret().expect("randomness");
    let key = Some(secret.commitment());
    let training = ChargeRequest { key, ..request(1) };
    let charged = store.charge(&budgets(8.0), training, delta(), NOW).await;
    let sequence = charged.expect("within budget").grant.sequence();
    let made = Made {
        charge: sequence,
        generator: Generator::Aes256Gcm,
        taken: 1,
        clipping_norm: 1.0.try_into().expect("sound"),
        next_clipping_norm: 1.0.try_into().expect("sound"),
        batch_size: 8,
        start: [1; 32],
        update: [2; 32],
    };
    store.record_update(made, NOW).await.expect("paid for");
    store
        .record_update(made, NOW)
        .await
        .expect("safe to repeat");
    let other = Made {
        update: [3; 32],
        ..made
    };
    assert!(store.record_update(other, NOW).await.is_err());
    assert!(store.resume_charge(sequence, delta()).await.is_err());
}

#[tokio::test]
async fn ledger_entries_and_events_cannot_be_taken_back() {
    let folder = folder();
    let store = store(folder.path()).await;
    charge(&store, 1).await.expect("within budget");
    let (id, plan) = remembered(&store).await;
    assert!(store.decide(id, plan, None, NOW).await.expect("room"));
    for sql in [
        "DELETE FROM ledger",
        "UPDATE ledger SET entry = x'00'",
        "DELETE FROM event",
        "UPDATE event SET at = 1",
    ] {
        assert!(
            sqlx::query(sql).execute(&store.pool).await.is_err(),
            "{sql}"
        );
    }
}

#[tokio::test]
async fn a_decision_covers_one_plan_and_is_sent_until_it_arrives() {
    let folder = folder();
    let store = store(folder.path()).await;
    let (id, plan) = remembered(&store).await;
    let other = PlanDigest(Digest::plain(b"another plan"));
    assert!(!store.decide(id, other, None, NOW).await.expect("room"));
    assert!(store.decide(id, plan, None, NOW).await.expect("room"));
    let study = store.study(id).await.expect("readable").expect("known");
    assert!(study.is_approved(plan) && !study.is_approved(other));
    assert!(study.decision.is_some_and(|decision| !decision.sent));
    store.decision_sent(id, false).await.expect("room");
    let sent = |study: KnownStudy| study.decision.is_some_and(|decision| decision.sent);
    assert!(
        !sent(store.study(id).await.expect("readable").expect("known")),
        "another decision"
    );
    store.decision_sent(id, true).await.expect("room");
    assert!(sent(
        store.study(id).await.expect("readable").expect("known")
    ));
    store
        .decide(id, plan, Some("changed my mind"), NOW)
        .await
        .expect("room");
    let study = store.study(id).await.expect("readable").expect("known");
    assert!(
        !study.is_approved(plan) && !sent(study),
        "a new decision is sent anew"
    );
    let actions: Vec<_> = store.events().await.expect("readable");
    assert_eq!(
        actions
            .iter()
            .map(|e| e.action.as_str())
            .collect::<Vec<_>>(),
        ["approved", "refused"]
    );
}

#[tokio::test]
async fn the_first_version_seen_under_a_number_stays() {
    let folder = folder();
    let store = store(folder.path()).await;
    let (id, _) = remembered(&store).await;
    let (first, other) = (model(b"first"), model(b"other"));
    assert_eq!(store.see_version(id, 1, first).await.expect("room"), first);
    assert_eq!(store.see_version(id, 1, other).await.expect("room"), first);
    assert_eq!(store.see_version(id, 2, other).await.expect("room"), other);
}

#[tokio::test]
async fn an_update_is_stored_once_and_sealed_and_training_ends_when_it_is_offered() {
    let folder = folder();
    let store = store(folder.path()).await;
    let (id, _) = remembered(&store).await;
    let start = model(b"start");
    assert!(
        store
            .begin_training(id, 1, "heart", start, NOW)
            .await
            .expect("room")
    );
    assert!(store.spooled(id, 1).expect("readable").is_none());
    assert!(
        store
            .begin_training(id, 1, "heart", start, NOW)
            .await
            .expect("after a crash")
    );
    assert!(
        !store
            .begin_training(id, 1, "heart", model(b"x"), NOW)
            .await
            .expect("another start")
    );

    let update = PrivateUpdate::without_privacy(vec![0.5, 1234.5]).expect("finite");
    store.spool(id, 1, &update).expect("room");
    let back = store.spooled(id, 1).expect("intact").expect("stored");
    assert_eq!(back.values(), update.values());
    let file = store.spool_file(id, 1);
    let bytes = std::fs::read(&file).expect("there");
    assert!(
        !bytes
            .windows(4)
            .any(|word| word == 1234.5_f32.to_le_bytes()),
        "sealed"
    );
    std::fs::copy(&file, store.spool_file(id, 2)).expect("room");
    assert!(
        store.spooled(id, 2).is_err(),
        "another round's update does not open"
    );

    store.round_offered(id, 1).await.expect("room");
    assert!(
        !store
            .begin_training(id, 1, "heart", start, NOW)
            .await
            .expect("room")
    );
    store.round_accepted(id, 1).await.expect("room");
    let round = store.round(id, 1).await.expect("readable").expect("known");
    assert!(round.offered && round.accepted && round.trainings == 2);
    store.forget_updates(id, 2).await.expect("removed");
    store.forget_updates(id, 2).await.expect("safe to repeat");
    assert!(store.spooled(id, 1).expect("readable").is_none());
}

#[tokio::test]
async fn one_agent_serves_a_folder() {
    let folder = folder();
    let held = FolderLock::take(folder.path()).expect("nobody there");
    let refused = FolderLock::take(folder.path()).expect_err("somebody there");
    assert!(refused.to_string().contains("another agent"), "{refused}");
    drop(held);
    FolderLock::take(folder.path()).expect("free again");
}

#[tokio::test]
async fn a_database_of_a_newer_version_is_left_alone() {
    let folder = folder();
    let store = store(folder.path()).await;
    sqlx::query(
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
         VALUES (99, 'from the future', 1, x'00', 0)",
    )
    .execute(&store.pool)
    .await
    .expect("room");
    store.close().await;
    let refused = Store::open(folder.path(), key()).await.expect_err("newer");
    assert!(
        matches!(refused, StoreError::Newer { found: 99, .. }),
        "{refused}"
    );
    assert_eq!(refused.code(), ErrorCode::Precondition);
}

#[tokio::test]
async fn a_locked_a_full_and_a_damaged_database_get_their_own_messages() {
    let folder = folder();
    let store = store(folder.path()).await;
    let options = SqliteConnectOptions::new()
        .filename(folder.path().join("agent.db"))
        .busy_timeout(Duration::ZERO);
    let other = SqlitePoolOptions::new()
        .connect_with(options)
        .await
        .expect("a connection");

    let writing = store
        .pool
        .begin_with("BEGIN IMMEDIATE")
        .await
        .expect("nobody writes");
    let insert = "INSERT INTO event (at, action, detail) VALUES (0, 'x', zeroblob(9000000))";
    let insert = insert.replace("zeroblob(9000000)", "hex(zeroblob(9000000))");
    let write = || sqlx::query(sqlx::AssertSqlSafe(insert.clone()));
    let error = StoreError::from(write().execute(&other).await.expect_err("locked"));
    assert!(matches!(error, StoreError::Locked(_)), "{error}");
    writing.rollback().await.expect("nothing was written");

    let mut connection = other.acquire().await.expect("free");
    sqlx::query("PRAGMA max_page_count = 40")
        .execute(&mut *connection)
        .await
        .expect("a limit");
    let error = StoreError::from(write().execute(&mut *connection).await.expect_err("full"));
    assert!(matches!(error, StoreError::Full(_)), "{error}");
    assert!(
        store.events().await.expect("readable").is_empty(),
        "nothing is half-written"
    );
    drop(connection);
    other.close().await;
    store.close().await;

    let file = folder.path().join("agent.db");
    std::fs::write(
        &file,
        b"this is no database, whatever its name says, and long enough",
    )
    .expect("room");
    let error = Store::open(folder.path(), key())
        .await
        .expect_err("damaged");
    assert!(matches!(error, StoreError::Damaged(_)), "{error}");
}

#[tokio::test]
async fn migrations_go_back_and_forth() {
    let folder = folder();
    let store = store(folder.path()).await;
    MIGRATIONS.undo(&store.pool, 0).await.expect("back");
    let tables: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE '%sql%'",
    )
    .fetch_one(&store.pool)
    .await
    .expect("readable");
    assert_eq!(tables, 0);
    MIGRATIONS.run(&store.pool).await.expect("forth");
    charge(&store, 1).await.expect("it works again");
}

#[tokio::test]
async fn another_key_opens_nothing() {
    let folder = folder();
    store(folder.path()).await.close().await;
    let other = Arc::new(SealingKey::from_bytes([4; 32]));
    let refused = Store::open(folder.path(), other)
        .await
        .expect_err("another key");
    assert_eq!(refused.code(), ErrorCode::Denied);
}

//! The same tests on every store, then those of SQLite alone; and a store that dies on command.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use consilium_proto::Digest;
use serde_json::json;

use super::*;
use crate::{
    audit_log,
    fixture::{NOW, plan, record, round_id, signer, site, study_id},
    study::{Input, Verdict},
};

fn signed(byte: u8) -> Signed {
    signer().sign(consilium_proto::signed::Purpose::Statement, vec![byte])
}

fn new_study() -> Change {
    Change {
        at: NOW,
        study: Some(StudyWrite::New(Box::new(record(plan(2, 1))))),
        ..Change::default()
    }
}

fn moved(record: &StudyRecord) -> StudyWrite {
    let mut study = record.study.clone();
    let input = Input::Decided {
        site: site(1),
        verdict: Verdict {
            approved: true,
            reason: String::new(),
        },
        active: Default::default(),
    };
    study.handle(input, NOW).expect("a site may answer");
    StudyWrite::Moved {
        study: Box::new(study),
        revision: record.revision,
    }
}

fn update(id: u16) -> Update {
    let digest = ModelDigest(Digest::plain(&[id as u8]));
    Update {
        round: round_id(1, 1),
        site: site(id),
        digest,
        statement: signed(id as u8),
    }
}

fn event() -> study_event::Event {
    study_event::Event::RoundFailed(wire::RoundFailed {
        round: None,
        reason: "x".into(),
    })
}

async fn a_study_reads_back_and_its_id_is_taken(store: impl Store) {
    store.commit(new_study()).await.expect("a new study");
    let found = store.study(study_id(7)).await.expect("a store");
    assert_eq!(found, Some(record(plan(2, 1))));
    assert_eq!(store.studies().await.expect("a store").len(), 1);
    assert_eq!(store.unfinished().await.expect("a store").len(), 1);
    assert_eq!(store.study(study_id(8)).await.expect("a store"), None);
    let again = store.commit(new_study()).await;
    assert!(matches!(again, Err(StoreError::Conflict)), "{again:?}");
}

async fn a_change_from_an_old_revision_is_a_conflict_and_writes_nothing(store: impl Store) {
    store.commit(new_study()).await.expect("a new study");
    let read = store
        .study(study_id(7))
        .await
        .expect("a store")
        .expect("the study");
    let change = || Change {
        study: Some(moved(&read)),
        events: vec![(study_id(7), event())],
        entries: vec![Entry::by_coordinator("test", json!({}))],
        effects: vec![(study_id(7), Effect::Release)],
        ..Change::default()
    };
    store.commit(change()).await.expect("the first");
    let second = store.commit(change()).await;
    assert!(matches!(second, Err(StoreError::Conflict)), "{second:?}");
    let now = store
        .study(study_id(7))
        .await
        .expect("a store")
        .expect("the study");
    assert_eq!((now.revision, now.study.verdicts().len()), (1, 1));
    assert_eq!(
        store
            .events(study_id(7), 0, 9)
            .await
            .expect("a store")
            .len(),
        1
    );
    assert_eq!(store.log(1, 9).await.expect("a store").len(), 1);
    assert_eq!(store.effects().await.expect("a store").len(), 1);
}

async fn an_update_has_one_row_however_often_it_comes(store: impl Store) {
    store.commit(new_study()).await.expect("a new study");
    let spec = signed(0);
    let opened = Change {
        spec: Some((round_id(1, 1), spec.clone())),
        ..Change::default()
    };
    store.commit(opened).await.expect("an attempt");
    assert_eq!(
        store.spec(round_id(1, 1)).await.expect("a store"),
        Some(spec)
    );
    assert_eq!(store.spec(round_id(1, 2)).await.expect("a store"), None);
    for id in [3, 1] {
        let change = Change {
            update: Some(update(id)),
            ..Change::default()
        };
        store.commit(change).await.expect("the first");
    }
    let change = Change {
        update: Some(update(1)),
        entries: vec![Entry::by_coordinator("update accepted", json!({}))],
        ..Change::default()
    };
    let again = store.commit(change).await;
    assert!(matches!(again, Err(StoreError::Conflict)), "{again:?}");
    let updates = store.updates(round_id(1, 1)).await.expect("a store");
    assert_eq!(
        updates.iter().map(|update| update.site).collect::<Vec<_>>(),
        [site(1), site(3)]
    );
    assert!(
        store
            .update(round_id(1, 1), site(3))
            .await
            .expect("a store")
            .is_some()
    );
    assert!(
        store
            .update(round_id(1, 1), site(2))
            .await
            .expect("a store")
            .is_none()
    );
    assert!(
        store.log(1, 9).await.expect("a store").is_empty(),
        "nothing of a refused change"
    );
}

async fn versions_come_in_order_and_the_first_release_stays(store: impl Store) {
    store.commit(new_study()).await.expect("a new study");
    let study = study_id(7);
    let version = |number| wire::Version {
        number,
        model_digest: vec![1; 32],
        ..Default::default()
    };
    for number in [0, 1] {
        let change = Change {
            version: Some((study, version(number))),
            ..Change::default()
        };
        store.commit(change).await.expect("a new version");
    }
    assert_eq!(
        store.versions(study).await.expect("a store"),
        [version(0), version(1)]
    );
    assert_eq!(store.release(study).await.expect("a store"), None);
    let model = ModelDigest(Digest::plain(b"m"));
    let first = Release {
        model,
        card: signed(1),
    };
    for release in [
        first.clone(),
        Release {
            model,
            card: signed(2),
        },
    ] {
        let change = Change {
            release: Some((study, release)),
            ..Change::default()
        };
        store.commit(change).await.expect("a release");
    }
    assert_eq!(store.release(study).await.expect("a store"), Some(first));
}

async fn effects_stay_until_they_are_performed(store: impl Store) {
    store.commit(new_study()).await.expect("a new study");
    let study = study_id(7);
    let effects = vec![
        (study, Effect::Draw(round_id(1, 1))),
        (study, Effect::Release),
    ];
    store
        .commit(Change {
            effects,
            ..Change::default()
        })
        .await
        .expect("effects");
    let pending = store.effects().await.expect("a store");
    assert_eq!(pending.len(), 2);
    assert_eq!(pending[0].2, Effect::Draw(round_id(1, 1)));
    for _ in 0..2 {
        let change = Change {
            performed: Some(pending[0].0),
            ..Change::default()
        };
        store
            .commit(change)
            .await
            .expect("performing twice changes nothing");
    }
    assert_eq!(store.effects().await.expect("a store"), pending[1..]);
}

async fn events_and_entries_are_numbered_without_gaps(store: impl Store) {
    store.commit(new_study()).await.expect("a new study");
    for number in 0..5 {
        let change = Change {
            at: Timestamp(number),
            events: vec![(study_id(7), event())],
            entries: vec![
                Entry::by_coordinator("one", json!({ "number": number })),
                Entry::by(MemberId(3), "two", json!({})),
            ],
            ..Change::default()
        };
        store.commit(change).await.expect("a change");
    }
    let events = store.events(study_id(7), 2, 2).await.expect("a store");
    assert_eq!(
        events.iter().map(|event| event.number).collect::<Vec<_>>(),
        [2, 3]
    );
    assert!(
        store
            .events(study_id(7), u64::MAX, 2)
            .await
            .expect("a store")
            .is_empty()
    );
    let log = store.log(1, 100).await.expect("a store");
    assert_eq!(log.len(), 10);
    audit_log::verify(None, log).expect("our own chain");
    assert_eq!(store.log(10, 100).await.expect("a store").len(), 1);
}

async fn roster_epochs_follow_each_other_and_applications_are_kept_once(store: impl Store) {
    assert_eq!(store.roster_epoch().await.expect("a store"), None);
    let epochs: Vec<_> = (0..2).map(signed).collect();
    for (number, epoch) in (0..).zip(&epochs) {
        let change = Change {
            epoch: Some((number, epoch.clone())),
            ..Change::default()
        };
        store.commit(change).await.expect("the next epoch");
    }
    for number in [0, 1, 3] {
        let change = Change {
            epoch: Some((number, signed(9))),
            ..Change::default()
        };
        let refused = store.commit(change).await;
        assert!(matches!(refused, Err(StoreError::Conflict)), "{refused:?}");
    }
    assert_eq!(store.roster_epoch().await.expect("a store"), Some(1));
    assert_eq!(store.roster(1).await.expect("a store"), epochs[1..]);
    let application = (Digest::plain(b"a"), signed(1));
    for _ in 0..2 {
        let change = Change {
            application: Some(application.clone()),
            ..Change::default()
        };
        store.commit(change).await.expect("a request to join");
    }
    assert_eq!(
        store.applications().await.expect("a store"),
        [application.1]
    );
}

async fn leaves_follow_each_other_and_stay(store: impl Store) {
    let append = async |number: u64, byte| {
        let change = Change {
            leaf: Some((number, signed(byte))),
            ..Change::default()
        };
        store.commit(change).await
    };
    let leaves: Vec<_> = (0..3).map(signed).collect();
    let mut kept = vec![];
    for (number, byte) in [(0, 0), (1, 1), (1, 9), (3, 9), (2, 2)] {
        kept.push(append(number, byte).await.is_ok());
    }
    assert_eq!(kept, [true, true, false, false, true]);
    let all = store.leaves(0, 9).await.expect("a store");
    let body = |signed: &Signed| signed.unverified_body().to_vec();
    let bodies: Vec<_> = all.iter().map(body).collect();
    assert_eq!(bodies, leaves.iter().map(body).collect::<Vec<_>>());
    assert_eq!(store.leaves(1, 1).await.expect("a store"), all[1..2]);
}

macro_rules! on_every_store {
    ($($test:ident)*) => {
        mod memory_store {
            $(#[tokio::test]
            async fn $test() {
                super::$test(super::MemoryStore::new()).await;
            })*
        }

        mod sqlite_store {
            $(#[tokio::test]
            async fn $test() {
                let folder = tempfile::tempdir().expect("a folder");
                let store = super::SqliteStore::open(&folder.path().join("db")).await;
                super::$test(store.expect("a new database")).await;
            })*
        }
    };
}

on_every_store! {
    a_study_reads_back_and_its_id_is_taken
    a_change_from_an_old_revision_is_a_conflict_and_writes_nothing
    an_update_has_one_row_however_often_it_comes
    versions_come_in_order_and_the_first_release_stays
    effects_stay_until_they_are_performed
    events_and_entries_are_numbered_without_gaps
    roster_epochs_follow_each_other_and_applications_are_kept_once
    leaves_follow_each_other_and_stay
}

/// When a [`Mortal`] store dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Death {
    /// Before the commit with this number (from 0) is written.
    Before(usize),
    /// After it was written, before anybody is told.
    After(usize),
}

/// A store that dies at a given commit, as a killed process does, and stays dead until revived.
pub(crate) struct Mortal<S> {
    inner: Arc<S>,
    life: Mutex<(usize, Option<Death>, bool)>,
}

impl<S: Store> Mortal<S> {
    pub(crate) fn new(inner: Arc<S>, death: Option<Death>) -> Self {
        Self {
            inner,
            life: Mutex::new((0, death, false)),
        }
    }

    /// Commits that were asked for.
    pub(crate) fn commits(&self) -> usize {
        self.life.lock().expect("not poisoned").0
    }

    fn alive(&self) -> Result<&S, StoreError> {
        match self.life.lock().expect("not poisoned").2 {
            true => Err(StoreError::Crash),
            false => Ok(&self.inner),
        }
    }
}

impl<S: Store> Store for Mortal<S> {
    async fn commit(&self, change: Change) -> Result<(), StoreError> {
        let (number, death) = {
            let mut life = self.life.lock().expect("not poisoned");
            let (number, death, is_dead) = *life;
            let dies = [Some(Death::Before(number)), Some(Death::After(number))].contains(&death);
            *life = (number + 1, death, is_dead || dies);
            if is_dead {
                return Err(StoreError::Crash);
            }
            (number, death)
        };
        if death == Some(Death::Before(number)) {
            return Err(StoreError::Crash);
        }
        self.inner.commit(change).await?;
        match death == Some(Death::After(number)) {
            true => Err(StoreError::Crash),
            false => Ok(()),
        }
    }

    async fn study(&self, id: StudyId) -> Result<Option<StudyRecord>, StoreError> {
        self.alive()?.study(id).await
    }

    async fn studies(&self) -> Result<Vec<StudyRecord>, StoreError> {
        self.alive()?.studies().await
    }

    async fn unfinished(&self) -> Result<Vec<Study>, StoreError> {
        self.alive()?.unfinished().await
    }

    async fn spec(&self, round: RoundId) -> Result<Option<Signed>, StoreError> {
        self.alive()?.spec(round).await
    }

    async fn journal(&self, round: RoundId) -> Result<Vec<Vec<u8>>, StoreError> {
        self.alive()?.journal(round).await
    }

    async fn updates(&self, round: RoundId) -> Result<Vec<Update>, StoreError> {
        self.alive()?.updates(round).await
    }

    async fn update(&self, round: RoundId, site: SiteId) -> Result<Option<Update>, StoreError> {
        self.alive()?.update(round, site).await
    }

    async fn versions(&self, study: StudyId) -> Result<Vec<wire::Version>, StoreError> {
        self.alive()?.versions(study).await
    }

    async fn release(&self, study: StudyId) -> Result<Option<Release>, StoreError> {
        self.alive()?.release(study).await
    }

    async fn events(
        &self,
        study: StudyId,
        from: u64,
        limit: u32,
    ) -> Result<Vec<wire::StudyEvent>, StoreError> {
        self.alive()?.events(study, from, limit).await
    }

    async fn log(&self, from: u64, limit: u32) -> Result<Vec<wire::LogEntry>, StoreError> {
        self.alive()?.log(from, limit).await
    }

    async fn leaves(&self, from: u64, limit: u32) -> Result<Vec<Signed>, StoreError> {
        self.alive()?.leaves(from, limit).await
    }

    async fn effects(&self) -> Result<Vec<(EffectId, StudyId, Effect)>, StoreError> {
        self.alive()?.effects().await
    }

    async fn roster_epoch(&self) -> Result<Option<u64>, StoreError> {
        self.alive()?.roster_epoch().await
    }

    async fn roster(&self, from: u64) -> Result<Vec<Signed>, StoreError> {
        self.alive()?.roster(from).await
    }

    async fn applications(&self) -> Result<Vec<Signed>, StoreError> {
        self.alive()?.applications().await
    }
}

/// A deadline for the store tests that wait for another connection.
pub(super) const PATIENCE: Duration = Duration::from_millis(50);

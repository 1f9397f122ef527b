//! Moves studies: stores each move with its effects in one transaction, then performs the effects.
//!
//! A crash at any point loses nothing: what was not stored did not happen, and whoever caused it
//! asks again; what was stored has its effects in the store, which are performed after the restart.
//! Each effect looks at where its study is now and is safe to perform twice. Effects of one study
//! are performed one after the other, those of different studies side by side.

mod perform;
mod secure;

use std::{
    collections::{BTreeMap, HashSet},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use consilium_proto::{MemberId, OutOfRange, RoundId, Signed, Signer, SiteId, StudyId, wire};
use tokio::sync::watch;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{info, warn};

use self::secure::Attempts;
pub use self::secure::{Next, SecureError};
use crate::{
    audit_log::Entry,
    blobs::{BlobError, Blobs},
    chronicle,
    clock::Clock,
    publication::CardError,
    roster::{Members, MembersError},
    round,
    store::{Change, EffectId, Store, StoreError, StudyRecord, StudyWrite, Update},
    study::{self, Effect, Input, Note},
};

/// Time between two looks at the clock.
const TICK: Duration = Duration::from_millis(500);
/// Time until a failed effect is tried again.
const RETRY: Duration = Duration::from_secs(2);
/// Conflicts in a row after which a change is given up.
const CONFLICTS: usize = 3;

/// Why a study was not moved.
#[derive(Debug, thiserror::Error)]
pub enum DriveError {
    /// There is no such study.
    #[error("there is no study {0}")]
    Unknown(StudyId),
    /// The study did not take it. The caller should look again, then decide.
    #[error(transparent)]
    Refused(#[from] study::Refusal),
    /// Another study has this id.
    #[error("study {0} exists already, with another plan or other weights: submit under a new id")]
    Taken(StudyId),
    /// The attempt's secure aggregation did not take it.
    #[error(transparent)]
    Secure(#[from] SecureError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The roster cannot be read.
    #[error(transparent)]
    Members(#[from] MembersError),
    /// A model or an update cannot be read or written.
    #[error(transparent)]
    Blob(#[from] BlobError),
    /// The card of a model cannot be written.
    #[error(transparent)]
    Card(#[from] CardError),
    /// Randomness or a stored value is missing.
    #[error(transparent)]
    Value(#[from] OutOfRange),
}

/// Moves studies.
pub struct Driver<S> {
    store: Arc<S>,
    blobs: Blobs,
    members: Arc<Members<S>>,
    identity: Arc<Signer>,
    clock: Clock,
    grace: Duration,
    /// Attempts with secure aggregation. Whoever holds one may take the turn, never the reverse.
    attempts: Attempts,
    /// One move at a time: the store has one writer anyway.
    turn: tokio::sync::Mutex<()>,
    /// Counts moves, to wake those who wait for one.
    moves: watch::Sender<u64>,
    /// Studies whose effects are being performed.
    busy: Mutex<HashSet<StudyId>>,
}

impl<S: Store> Driver<S> {
    /// Takes over what the store holds. `grace` is the least time that stragglers of a round get.
    pub fn new(
        store: Arc<S>,
        blobs: Blobs,
        members: Arc<Members<S>>,
        identity: Arc<Signer>,
        clock: Clock,
        grace: Duration,
    ) -> Self {
        Self {
            store,
            blobs,
            members,
            identity,
            clock,
            grace,
            attempts: Attempts::default(),
            turn: tokio::sync::Mutex::new(()),
            moves: watch::Sender::new(0),
            busy: Mutex::default(),
        }
    }

    /// A count that rises with every stored move.
    pub fn moves(&self) -> watch::Receiver<u64> {
        self.moves.subscribe()
    }

    /// Least time that stragglers get.
    pub fn grace(&self) -> Duration {
        self.grace
    }

    /// Stores a new study with version 0 of its weights. The same one again changes nothing.
    ///
    /// # Errors
    /// Another study has its id, or the store failed.
    pub async fn submit(
        &self,
        record: StudyRecord,
        start: wire::Version,
    ) -> Result<StudyRecord, DriveError> {
        let study = record.study.id();
        let _turn = self.turn.lock().await;
        if let Some(known) = self.store.study(study).await? {
            let versions = self.store.versions(study).await?;
            let is_same = known.canonical_plan == record.canonical_plan
                && known.submitted_by == record.submitted_by
                && versions
                    .first()
                    .is_some_and(|first| first.model_digest == start.model_digest);
            return if is_same {
                Ok(known)
            } else {
                Err(DriveError::Taken(study))
            };
        }
        let mut change = Change {
            at: self.clock.now(),
            study: Some(StudyWrite::New(Box::new(record.clone()))),
            version: Some((study, start)),
            entries: vec![chronicle::submitted(&record, study)],
            ..Change::default()
        };
        let actor = Some(record.submitted_by);
        chronicle::record(&mut change, &Note::Changed, &record, actor, &self.members);
        self.store.commit(change).await?;
        self.moved();
        info!(%study, plan = %record.plan_digest(), "study submitted");
        Ok(record)
    }

    /// Moves a study and stores what comes of it, together with `change`.
    ///
    /// # Errors
    /// The study does not take the input, or the store failed; then nothing has happened.
    pub async fn apply(
        &self,
        study: StudyId,
        actor: Option<MemberId>,
        input: Input,
        change: Change,
    ) -> Result<StudyRecord, DriveError> {
        let mut conflicts = 0;
        loop {
            match self
                .apply_once(study, actor, input.clone(), change.clone())
                .await
            {
                Err(DriveError::Store(StoreError::Conflict)) if conflicts < CONFLICTS => {
                    conflicts += 1;
                }
                other => return other,
            }
        }
    }

    async fn apply_once(
        &self,
        id: StudyId,
        actor: Option<MemberId>,
        input: Input,
        mut change: Change,
    ) -> Result<StudyRecord, DriveError> {
        let _turn = self.turn.lock().await;
        let mut record = self.store.study(id).await?.ok_or(DriveError::Unknown(id))?;
        let before = record.study.clone();
        let now = self.clock.now();
        let effects = record.study.handle(input, now)?;
        if record.study == before && change.performed.is_none() && change.journal.is_none() {
            return Ok(record);
        }
        let is_received =
            |effect: &Effect| matches!(effect, Effect::Tell(Note::UpdateReceived(..)));
        if !effects.iter().any(is_received) {
            // The update came before: it has its row.
            change.update = None;
        }
        for effect in effects {
            match effect {
                Effect::Tell(note) => {
                    log(&note, &record);
                    chronicle::record(&mut change, &note, &record, actor, &self.members);
                }
                effect => change.effects.push((id, effect)),
            }
        }
        change.at = now;
        let study = Box::new(record.study.clone());
        let revision = record.revision;
        change.study = Some(StudyWrite::Moved { study, revision });
        self.store.commit(change).await?;
        record.revision += 1;
        self.moved();
        Ok(record)
    }

    fn moved(&self) {
        self.moves.send_modify(|moves| *moves += 1);
    }

    /// Counts a verified and spooled update. The same one again changes nothing.
    ///
    /// # Errors
    /// The round does not take it, or the store failed.
    pub async fn accept(&self, update: Update, weight: Option<u32>) -> Result<(), DriveError> {
        let (round, site) = (update.round, update.site);
        let receipt = round::Receipt {
            update: update.digest,
            weight,
        };
        let input = Input::Round(round, round::Input::UpdateStored { site, receipt });
        let change = Change {
            update: Some(update),
            ..Change::default()
        };
        self.apply(round.study, Some(site.0), input, change)
            .await
            .map(drop)
    }

    /// Writes an audit entry about something that moved no study.
    ///
    /// # Errors
    /// The store failed.
    pub async fn note(&self, entry: Entry) -> Result<(), StoreError> {
        let change = Change {
            at: self.clock.now(),
            entries: vec![entry],
            ..Change::default()
        };
        self.store.commit(change).await
    }

    /// The round that waits for this site, the one opened first.
    ///
    /// # Errors
    /// The store failed.
    pub async fn work_for(&self, site: SiteId) -> Result<Option<Signed>, StoreError> {
        let now = self.clock.now();
        let studies = self.store.unfinished().await?;
        let mut waiting: Vec<_> = studies
            .iter()
            .filter_map(|study| study.round())
            .filter(|round| round.waits_for(site, now))
            .collect();
        waiting.sort_by_key(|round| (round.issued_at(), round.id()));
        for round in waiting {
            if !round.is_secure() || self.wants(round.id(), site).await {
                return self.store.spec(round.id()).await;
            }
        }
        Ok(None)
    }

    /// Lets time act on every open round.
    ///
    /// # Errors
    /// The store failed.
    pub async fn tick(&self) -> Result<(), DriveError> {
        for study in self.store.unfinished().await? {
            let Some(round) = study.round() else { continue };
            if round.is_secure() {
                self.tick_attempt(round.id()).await?;
                continue;
            }
            let input = Input::Round(round.id(), round::Input::Tick);
            self.apply(study.id(), None, input, Change::default())
                .await?;
        }
        Ok(())
    }

    /// Lets a new roster act on studies that wait for consent.
    ///
    /// # Errors
    /// The store failed.
    pub async fn roster_changed(&self) -> Result<(), DriveError> {
        let active = self.members.active_sites();
        for study in self.store.unfinished().await? {
            let input = Input::RosterChanged {
                active: active.clone(),
            };
            self.apply(study.id(), None, input, Change::default())
                .await?;
        }
        Ok(())
    }

    /// Moves studies until told to stop; then finishes the effects in hand.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        let tasks = TaskTracker::new();
        let mut moves = self.moves();
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            if let Err(error) = self.clone().start_effects(&tasks, &stop).await {
                warn!(%error, "could not look for effects, trying again at the next tick");
            }
            tokio::select! {
                () = stop.cancelled() => break,
                _ = moves.changed() => {}
                _ = ticks.tick() => {
                    if let Err(error) = self.tick().await {
                        warn!(%error, "could not advance rounds, trying again at the next tick");
                    }
                }
            }
        }
        tasks.close();
        tasks.wait().await;
    }

    /// Starts a task for each study that has effects and none under way.
    async fn start_effects(
        self: Arc<Self>,
        tasks: &TaskTracker,
        stop: &CancellationToken,
    ) -> Result<(), StoreError> {
        let mut by_study: BTreeMap<StudyId, Vec<(EffectId, Effect)>> = BTreeMap::new();
        for (id, study, effect) in self.store.effects().await? {
            by_study.entry(study).or_default().push((id, effect));
        }
        for (study, effects) in by_study {
            if !self.busy().insert(study) {
                continue;
            }
            let (driver, stop) = (self.clone(), stop.clone());
            tasks.spawn(async move {
                if let Err(error) = driver.perform_in_order(study, effects).await {
                    warn!(%study, %error, "could not perform an effect, trying again shortly");
                    stop.run_until_cancelled(tokio::time::sleep(RETRY)).await;
                }
                driver.busy().remove(&study);
                driver.moved();
            });
        }
        Ok(())
    }

    async fn perform_in_order(
        &self,
        study: StudyId,
        effects: Vec<(EffectId, Effect)>,
    ) -> Result<(), DriveError> {
        for (id, effect) in effects {
            self.perform(id, study, effect).await?;
        }
        Ok(())
    }

    /// A task that died while it held the lock has changed nothing half-way.
    fn busy(&self) -> std::sync::MutexGuard<'_, HashSet<StudyId>> {
        self.busy.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn log(note: &Note, record: &StudyRecord) {
    let study = record.study.id();
    match note {
        Note::Changed => {
            let state = record.study.state().as_str_name();
            info!(%study, state, reason = record.study.reason(), "study moved");
        }
        Note::Decided(site) => info!(%study, %site, "study decided"),
        Note::RoundOpened(round) => info!(%round, "round opened"),
        Note::UpdateReceived(round, site) => info!(%round, %site, "update accepted"),
        Note::Declined(round, site, reason) => info!(%round, %site, %reason, "round declined"),
        Note::Published(round, model) => info!(%round, %model, "version published"),
        Note::RoundFailed(round, reason) => warn!(%round, %reason, "round failed"),
    }
}

/// The attempt an effect is about, if its study is still there.
fn is_at(study: &study::Study, id: RoundId) -> bool {
    study.next() == id
}

#[cfg(test)]
mod tests;

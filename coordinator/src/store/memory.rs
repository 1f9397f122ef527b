//! A store that forgets: for tests.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use consilium_proto::{Digest, RoundId, Signed, SiteId, StudyId, wire};

use super::{Change, EffectId, Release, Store, StoreError, StudyRecord, StudyWrite, Update};
use crate::{
    audit_log,
    study::{Effect, Phase, Study},
};

#[derive(Debug, Clone, Default)]
struct Tables {
    studies: BTreeMap<StudyId, StudyRecord>,
    specs: BTreeMap<RoundId, Signed>,
    updates: BTreeMap<(RoundId, SiteId), Update>,
    journals: BTreeMap<RoundId, Vec<Vec<u8>>>,
    versions: BTreeMap<(StudyId, u32), wire::Version>,
    releases: BTreeMap<StudyId, Release>,
    epochs: Vec<Signed>,
    applications: Vec<(Digest, Signed)>,
    leaves: Vec<Signed>,
    effects: BTreeMap<EffectId, (StudyId, Effect)>,
    next_effect: i64,
    events: BTreeMap<StudyId, Vec<wire::StudyEvent>>,
    log: Vec<wire::LogEntry>,
}

/// Keeps everything in memory.
#[derive(Debug, Default)]
pub struct MemoryStore(Mutex<Tables>);

impl MemoryStore {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    /// A thread that died while it held the lock has changed nothing: changes are swapped in whole.
    fn tables(&self) -> MutexGuard<'_, Tables> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tables {
    fn apply(&mut self, change: Change) -> Result<(), StoreError> {
        let at = change.at;
        match change.study {
            Some(StudyWrite::New(record)) => {
                let id = record.study.id();
                if self.studies.insert(id, *record).is_some() {
                    return Err(StoreError::Conflict);
                }
            }
            Some(StudyWrite::Moved { study, revision }) => {
                let record = self.studies.get_mut(&study.id());
                match record {
                    Some(record) if record.revision == revision => {
                        record.study = *study;
                        record.revision += 1;
                    }
                    _ => return Err(StoreError::Conflict),
                }
            }
            None => {}
        }
        if let Some((round, spec)) = change.spec
            && self.specs.insert(round, spec).is_some()
        {
            return Err(StoreError::Conflict);
        }
        if let Some(update) = change.update
            && self
                .updates
                .insert((update.round, update.site), update)
                .is_some()
        {
            return Err(StoreError::Conflict);
        }
        if let Some(journal) = change.journal {
            let lines = self.journals.entry(journal.round).or_default();
            if journal.first != lines.len() as u64 {
                return Err(StoreError::Conflict);
            }
            lines.extend(journal.lines);
        }
        if let Some((study, version)) = change.version
            && self
                .versions
                .insert((study, version.number), version)
                .is_some()
        {
            return Err(StoreError::Conflict);
        }
        if let Some((study, release)) = change.release {
            self.releases.entry(study).or_insert(release);
        }
        if let Some((number, epoch)) = change.epoch {
            if number != self.epochs.len() as u64 {
                return Err(StoreError::Conflict);
            }
            self.epochs.push(epoch);
        }
        if let Some((fingerprint, signed)) = change.application
            && !self
                .applications
                .iter()
                .any(|(known, _)| *known == fingerprint)
        {
            self.applications.push((fingerprint, signed));
        }
        if let Some((number, head)) = change.leaf {
            if number != self.leaves.len() as u64 {
                return Err(StoreError::Conflict);
            }
            self.leaves.push(head);
        }
        if let Some(id) = change.performed {
            self.effects.remove(&id);
        }
        for effect in change.effects {
            self.next_effect += 1;
            self.effects.insert(EffectId(self.next_effect), effect);
        }
        for (study, event) in change.events {
            let events = self.events.entry(study).or_default();
            let number = events.len() as u64;
            events.push(wire::StudyEvent {
                number,
                at: at.0,
                event: Some(event),
            });
        }
        for entry in &change.entries {
            let linked = audit_log::link(self.log.last(), at, entry);
            self.log.push(linked);
        }
        Ok(())
    }
}

fn page<T: Clone>(rows: &[T], from: u64, limit: u32) -> Vec<T> {
    let from = usize::try_from(from).unwrap_or(usize::MAX);
    rows.iter()
        .skip(from)
        .take(limit as usize)
        .cloned()
        .collect()
}

impl Store for MemoryStore {
    async fn commit(&self, change: Change) -> Result<(), StoreError> {
        let mut tables = self.tables();
        let mut changed = tables.clone();
        changed.apply(change)?;
        *tables = changed;
        Ok(())
    }

    async fn study(&self, id: StudyId) -> Result<Option<StudyRecord>, StoreError> {
        Ok(self.tables().studies.get(&id).cloned())
    }

    async fn studies(&self) -> Result<Vec<StudyRecord>, StoreError> {
        let mut studies: Vec<_> = self.tables().studies.values().cloned().collect();
        studies.sort_by_key(|record| std::cmp::Reverse((record.submitted_at, record.study.id())));
        Ok(studies)
    }

    async fn unfinished(&self) -> Result<Vec<Study>, StoreError> {
        let tables = self.tables();
        let studies = tables.studies.values().map(|record| &record.study);
        let is_under_way =
            |study: &&Study| !matches!(study.phase(), Phase::Finished | Phase::Stopped { .. });
        Ok(studies.filter(is_under_way).cloned().collect())
    }

    async fn spec(&self, round: RoundId) -> Result<Option<Signed>, StoreError> {
        Ok(self.tables().specs.get(&round).cloned())
    }

    async fn journal(&self, round: RoundId) -> Result<Vec<Vec<u8>>, StoreError> {
        Ok(self
            .tables()
            .journals
            .get(&round)
            .cloned()
            .unwrap_or_default())
    }

    async fn updates(&self, round: RoundId) -> Result<Vec<Update>, StoreError> {
        let tables = self.tables();
        let updates = tables.updates.values();
        Ok(updates
            .filter(|update| update.round == round)
            .cloned()
            .collect())
    }

    async fn update(&self, round: RoundId, site: SiteId) -> Result<Option<Update>, StoreError> {
        Ok(self.tables().updates.get(&(round, site)).cloned())
    }

    async fn versions(&self, study: StudyId) -> Result<Vec<wire::Version>, StoreError> {
        let tables = self.tables();
        let versions = tables.versions.range((study, 0)..=(study, u32::MAX));
        Ok(versions.map(|(_, version)| version.clone()).collect())
    }

    async fn release(&self, study: StudyId) -> Result<Option<Release>, StoreError> {
        Ok(self.tables().releases.get(&study).cloned())
    }

    async fn events(
        &self,
        study: StudyId,
        from: u64,
        limit: u32,
    ) -> Result<Vec<wire::StudyEvent>, StoreError> {
        let tables = self.tables();
        let events = tables.events.get(&study);
        Ok(events.map_or_else(Vec::new, |events| page(events, from, limit)))
    }

    async fn log(&self, from: u64, limit: u32) -> Result<Vec<wire::LogEntry>, StoreError> {
        Ok(page(&self.tables().log, from.saturating_sub(1), limit))
    }

    async fn leaves(&self, from: u64, limit: u32) -> Result<Vec<Signed>, StoreError> {
        Ok(page(&self.tables().leaves, from, limit))
    }

    async fn effects(&self) -> Result<Vec<(EffectId, StudyId, Effect)>, StoreError> {
        let tables = self.tables();
        let effects = tables.effects.iter();
        Ok(effects
            .map(|(id, (study, effect))| (*id, *study, effect.clone()))
            .collect())
    }

    async fn roster_epoch(&self) -> Result<Option<u64>, StoreError> {
        Ok((self.tables().epochs.len() as u64).checked_sub(1))
    }

    async fn roster(&self, from: u64) -> Result<Vec<Signed>, StoreError> {
        Ok(page(&self.tables().epochs, from, u32::MAX))
    }

    async fn applications(&self) -> Result<Vec<Signed>, StoreError> {
        let tables = self.tables();
        Ok(tables
            .applications
            .iter()
            .map(|(_, signed)| signed.clone())
            .collect())
    }
}

//! A registered data set as training sees it: patients, their records, who opted out.

use std::{
    collections::{BTreeMap, HashSet},
    sync::{
        OnceLock, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
};

use consilium_models::{
    network::Target,
    training::{Examples, LoadError, StopFlag},
};
use consilium_proto::Plan;
use tracing::error;

use super::{
    DataError, Manifest,
    labelled_set::{Road, target},
    manifest::Listed,
    records::Content,
};

/// Who opted out, asked before each batch. Called from threads that may block.
pub(crate) trait Exclusions: Send + Sync {
    /// Pseudonyms of the patients who opted out by now.
    ///
    /// # Errors
    /// It cannot be known. Training stops then: nobody is trained on who may have opted out.
    fn now(&self) -> Result<HashSet<String>, LoadError>;
}

/// A data set prepared for one plan. Inputs are kept in memory once decoded, as far as the cache
/// reaches.
pub(crate) struct TrainingSet {
    manifest: Manifest,
    contents: Vec<Content>,
    targets: Vec<Target>,
    /// Pseudonym and records of each patient.
    patients: Vec<(String, Vec<usize>)>,
    road: Road,
    exclusions: Box<dyn Exclusions>,
    excluded: RwLock<HashSet<String>>,
    /// Of the round that is running.
    stop: RwLock<StopFlag>,
    inputs: Vec<OnceLock<Vec<f32>>>,
    /// Bytes that the cache may still take.
    room: AtomicU64,
}

impl TrainingSet {
    /// Binds a data set to a plan.
    ///
    /// # Errors
    /// Data of another kind than the plan's task, a label that is no class of the plan, a record
    /// that is gone.
    pub(crate) fn new(
        manifest: Manifest,
        plan: &Plan,
        exclusions: Box<dyn Exclusions>,
        cache_bytes: u64,
    ) -> Result<Self, DataError> {
        let contents = manifest.contents()?;
        let road = Road::of(plan, contents.iter())?;
        let is_numbered = manifest.source.numbers_classes();
        let answer =
            |listed: &Listed| target(&listed.label, &plan.classes, is_numbered, &listed.place);
        let targets = manifest
            .records
            .iter()
            .map(answer)
            .collect::<Result<_, _>>()?;
        let mut patients: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        for (at, listed) in manifest.records.iter().enumerate() {
            patients.entry(listed.patient.clone()).or_default().push(at);
        }
        Ok(Self {
            targets,
            patients: patients.into_iter().collect(),
            road,
            exclusions,
            excluded: RwLock::default(),
            stop: RwLock::default(),
            inputs: std::iter::repeat_with(OnceLock::new)
                .take(contents.len())
                .collect(),
            contents,
            manifest,
            room: AtomicU64::new(cache_bytes),
        })
    }

    /// Starts a round. Its flag is raised when it cannot be known who opted out.
    pub(crate) fn begin(&self, stop: StopFlag) {
        *self.stop.write().unwrap_or_else(PoisonError::into_inner) = stop;
    }

    fn prepare(&self, record: usize) -> Result<Vec<f32>, DataError> {
        let listed = &self.manifest.records[record];
        let (input, digest) = self.road.prepare(&self.contents[record], &listed.place)?;
        if digest == listed.digest {
            Ok(input)
        } else {
            Err(self.manifest.changed(listed))
        }
    }

    fn has_room(&self, input: &[f32]) -> bool {
        let bytes = size_of_val(input) as u64;
        let take = |room: u64| room.checked_sub(bytes);
        self.room
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, take)
            .is_ok()
    }
}

impl Examples for TrainingSet {
    /// Asked once before each batch, so this is where it is looked up who opted out.
    fn patients(&self) -> usize {
        match self.exclusions.now() {
            Ok(excluded) => {
                *self
                    .excluded
                    .write()
                    .unwrap_or_else(PoisonError::into_inner) = excluded;
                self.patients.len()
            }
            Err(cause) => {
                error!(%cause, "cannot know who opted out, training stops");
                self.stop
                    .read()
                    .unwrap_or_else(PoisonError::into_inner)
                    .stop();
                0
            }
        }
    }

    fn records_of(&self, patient: usize) -> usize {
        let (pseudonym, records) = &self.patients[patient];
        let excluded = self.excluded.read().unwrap_or_else(PoisonError::into_inner);
        if excluded.contains(pseudonym) {
            0
        } else {
            records.len()
        }
    }

    fn load(&self, patient: usize, record: usize) -> Result<(Vec<f32>, Target), LoadError> {
        let record = self.patients[patient].1[record];
        let target = self.targets[record];
        if let Some(input) = self.inputs[record].get() {
            return Ok((input.clone(), target));
        }
        let input = self.prepare(record)?;
        if self.has_room(&input) {
            // Another thread may have been faster with the same numbers.
            self.inputs[record].set(input.clone()).ok();
        }
        Ok((input, target))
    }
}

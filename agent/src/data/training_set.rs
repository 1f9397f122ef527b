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
    text::Example,
    training::{Examples, LoadError, StopFlag},
};
use consilium_proto::{Plan, plan::Task};
use tracing::{error, warn};

use super::{
    DataError, Manifest,
    records::Content,
    road::{Means, Road},
};

/// Who opted out, asked before each batch. Called from threads that may block.
pub(crate) trait Exclusions: Send + Sync {
    /// Pseudonyms of the patients who opted out by now.
    ///
    /// # Errors
    /// It cannot be known. Training stops then: nobody is trained on who may have opted out.
    fn now(&self) -> Result<HashSet<String>, LoadError>;
}

/// A data set prepared for one plan. Examples are kept in memory once made, as far as the cache
/// reaches.
pub(crate) struct TrainingSet {
    manifest: Manifest,
    contents: Vec<Content>,
    /// Pseudonym of each patient, and every example: its record, and its place among that record's.
    patients: Vec<(String, Vec<(usize, usize)>)>,
    road: Road,
    exclusions: Box<dyn Exclusions>,
    excluded: RwLock<HashSet<String>>,
    /// Of the round that is running.
    stop: RwLock<StopFlag>,
    /// Of each record.
    examples: Vec<OnceLock<Vec<Example>>>,
    /// Bytes that the cache may still take.
    room: AtomicU64,
}

impl TrainingSet {
    /// Binds a data set to a plan. Notes are read here already, to know what can be drawn of each.
    ///
    /// # Errors
    /// Data of another kind than the plan's task, a label that is no class of the plan, a record
    /// that is gone.
    pub(crate) fn new(
        manifest: Manifest,
        plan: &Plan,
        exclusions: Box<dyn Exclusions>,
        cache_bytes: u64,
        means: Means,
    ) -> Result<Self, DataError> {
        let contents = manifest.contents()?;
        let road = Road::of(plan, contents.iter(), means)?;
        let mut set = Self {
            patients: Vec::new(),
            road,
            exclusions,
            excluded: RwLock::default(),
            stop: RwLock::default(),
            examples: std::iter::repeat_with(OnceLock::new)
                .take(contents.len())
                .collect(),
            contents,
            manifest,
            room: AtomicU64::new(cache_bytes),
        };
        let mut patients: BTreeMap<String, Vec<(usize, usize)>> = BTreeMap::new();
        let mut is_marked = plan.task != Task::EntityTagging;
        for (at, listed) in set.manifest.records.iter().enumerate() {
            set.road
                .check_label(&listed.label, &set.manifest.place(listed))?;
            let count = match set.road.makes_several() {
                true => set.with_examples(at, |examples| {
                    is_marked = is_marked || examples.iter().any(Example::is_marked);
                    examples.len()
                })?,
                false => 1,
            };
            let examples = patients.entry(listed.patient.clone()).or_default();
            examples.extend((0..count).map(|part| (at, part)));
        }
        if !is_marked {
            let kinds = plan.classes.join(", ");
            warn!(%kinds, "no entity of the kinds that the plan names is marked in this data set");
        }
        set.patients = patients.into_iter().collect();
        Ok(set)
    }

    /// Starts a round. Its flag is raised when it cannot be known who opted out.
    pub(crate) fn begin(&self, stop: StopFlag) {
        *self.stop.write().unwrap_or_else(PoisonError::into_inner) = stop;
    }

    /// Looks at the examples of a record, from the cache or made anew.
    fn with_examples<T>(
        &self,
        record: usize,
        look: impl FnOnce(&[Example]) -> T,
    ) -> Result<T, DataError> {
        if let Some(examples) = self.examples[record].get() {
            return Ok(look(examples));
        }
        let listed = &self.manifest.records[record];
        let content = &self.contents[record];
        let place = self.manifest.place(listed);
        let (examples, digest) =
            self.road
                .examples(content, &listed.label, &listed.patient, &place)?;
        if digest != listed.digest {
            return Err(self.manifest.changed(listed));
        }
        let seen = look(&examples);
        if self.has_room(&examples) {
            // Another thread may have been faster with the same numbers.
            self.examples[record].set(examples).ok();
        }
        Ok(seen)
    }

    fn has_room(&self, examples: &[Example]) -> bool {
        let inputs = examples.iter().map(|example| size_of_val(&*example.input));
        let bytes = inputs.sum::<usize>() as u64;
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
        let (record, part) = self.patients[patient].1[record];
        let example = self.with_examples(record, |examples| examples.get(part).cloned())?;
        let Some(Example { input, target }) = example else {
            return Err(self.manifest.changed(&self.manifest.records[record]).into());
        };
        Ok((input, target))
    }
}

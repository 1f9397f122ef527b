//! The microbatches of one step, over threads.
//!
//! Records are dealt to threads in a fixed way. Every operation of a microbatch runs on the thread
//! that has it: the processor's cores are shared by microbatches, not within them.

use std::{
    num::NonZeroUsize,
    sync::{Mutex, PoisonError},
};

use consilium_privacy::step::Clipping;

use super::{Examples, LoadError, StopFlag, TrainError, examples::Pick};
use crate::{
    imaging::Preprocess,
    network::{Batch, Network},
    profile::{Part, Watch},
};

/// What every microbatch of a step needs.
pub(super) struct Context<'a> {
    pub(super) network: &'a Network,
    pub(super) examples: &'a dyn Examples,
    pub(super) preprocess: Option<&'a Preprocess>,
    /// Names study, round and step, for augmentation.
    pub(super) seed: [u64; 3],
    pub(super) threads: NonZeroUsize,
    pub(super) stop: &'a StopFlag,
    pub(super) mishaps: &'a Mishaps,
    /// Augmented views of a record, whose gradients are averaged.
    pub(super) views: u32,
    /// How gradients are brought to the clipping norm, as the plan says.
    pub(super) clipping: &'a Clipping,
}

/// Records that could not be used.
#[derive(Default)]
pub(super) struct Mishaps(Mutex<(u64, Option<LoadError>)>);

impl Context<'_> {
    /// Gives each microbatch of at most `size` records to `work`, on several threads, all views of a
    /// record together. `work` gets what its thread has in hand, made by `start`; the hands come back
    /// in order.
    pub(super) fn microbatches<T: Send>(
        &self,
        picks: &[Pick],
        size: usize,
        start: impl Fn() -> Result<T, TrainError> + Sync,
        work: impl Fn(&mut T, Batch) -> Result<(), TrainError> + Sync,
    ) -> Result<Vec<T>, TrainError> {
        let microbatches = picks.len().div_ceil(size);
        let share = microbatches.div_ceil(self.threads.get()) * size;
        let run = |picks: &[Pick]| {
            let mut hand = start()?;
            for picks in picks.chunks(size) {
                if self.stop.is_stopped() {
                    return Err(TrainError::Stopped);
                }
                let mut watch = Watch::of(self.network.profile());
                let batch = self.load(picks);
                watch.note(Part::Load);
                if !batch.is_empty() {
                    work(&mut hand, batch)?;
                }
            }
            Ok(hand)
        };
        if self.stop.is_stopped() {
            return Err(TrainError::Stopped);
        }
        if picks.len() <= share {
            return Ok(vec![run(picks)?]);
        }
        std::thread::scope(|scope| {
            let workers: Vec<_> = picks
                .chunks(share)
                .map(|picks| scope.spawn(|| run(picks)))
                .collect();
            let results = workers.into_iter().map(|worker| {
                // A panic of a worker goes on in the caller, as it would on one thread.
                worker
                    .join()
                    .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            });
            results.collect()
        })
    }

    /// Loads and augments records; one that cannot be used is left out and noted.
    fn load(&self, picks: &[Pick]) -> Batch {
        let mut batch = self.network.batch();
        for &Pick { patient, record } in picks {
            let loaded = self.examples.load(patient, record);
            let pushed = loaded.and_then(|(input, target)| {
                (0..self.views).try_for_each(|view| {
                    let mut input = input.clone();
                    self.augment(&mut input, u64::from(view));
                    Ok(batch.push(&input, target.clone())?)
                })
            });
            if let Err(reason) = pushed {
                self.mishaps.note(reason);
            }
        }
        batch
    }

    /// The first view is that of a plan without views.
    fn augment(&self, input: &mut Vec<f32>, view: u64) {
        let Some(preprocess) = self.preprocess else {
            return;
        };
        match view {
            0 => preprocess.augment(input, &self.seed),
            _ => preprocess.augment(input, &[&self.seed[..], &[view]].concat()),
        }
    }
}

impl Mishaps {
    fn note(&self, reason: LoadError) {
        let mut noted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        noted.0 += 1;
        noted.1.get_or_insert(reason);
    }

    /// How many, and the first reason.
    pub(super) fn into_parts(self) -> (u64, Option<LoadError>) {
        self.0.into_inner().unwrap_or_else(PoisonError::into_inner)
    }
}

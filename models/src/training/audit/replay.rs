//! A past round, repeated from the secret that its charge committed to.
//!
//! Same code, same secret, same records, same start: the same update, bit for bit, on the same type
//! of processor and by the same build. So the digest tells whether the round was as this code makes
//! rounds. Whether this code adds the noise is seen from what its steps release: a program without
//! noise agrees with a ledger that it wrote itself.

use std::num::NonZeroU32;

use consilium_privacy::{
    accountant::{ClippingNorm, NoiseMultiplier, SamplingRate},
    empirical::{Batches, Irregularity, Residuals},
    step::Clipping,
};
use consilium_proto::ParameterVector;

use super::{Mechanism, Product, Subject, watched::Watched};
use crate::training::{
    Examples, LoadError, Progress, Steps, TrainError, batch::Context, examples::Pick,
};

/// A mechanism whose round ends in the digest of its update, never in the update.
pub trait Repeated: Mechanism {
    /// Ends the round with weights after minus weights before.
    ///
    /// # Errors
    /// A value that is not finite.
    fn digest(self, difference: Vec<f32>) -> Result<[u8; 32], TrainError>;
}

impl Repeated for Product {
    fn digest(self, difference: Vec<f32>) -> Result<[u8; 32], TrainError> {
        self.private.digest(difference)
    }
}

/// What a round of the past started from, and what it was charged as.
#[derive(Clone, Copy)]
pub struct PastRound<'a> {
    /// Counted from 1.
    pub round: u32,
    /// The global weights, where it started.
    pub weights: &'a ParameterVector,
    /// Probability that a patient enters a batch (q), as charged.
    pub sampling_rate: SamplingRate,
    /// Noise deviation over the clipping norm (σ), as charged.
    pub noise_multiplier: NoiseMultiplier,
    /// Largest norm that one record contributes (C); where it started, if clipping is adaptive.
    pub clipping_norm: ClippingNorm,
}

/// What came of a replay. Batches depend on the number of patients: it stays in the hospital.
#[derive(Debug)]
pub struct Replay {
    /// Of the update that would have been sent.
    pub digest: [u8; 32],
    /// C after the last step.
    pub next_clipping_norm: ClippingNorm,
    /// Noise and batches of this round.
    pub seen: Seen,
    /// Patients drawn in each step.
    pub drawn: Vec<usize>,
    /// Patients who could be drawn.
    pub patients: usize,
    /// Times that a record could not be used: it counted as zeros, as it would in training.
    pub unreadable: u64,
    /// The first reason.
    pub first_reason: Option<LoadError>,
}

/// Noise and batches of replayed steps, of one round or of several with the same charge.
#[derive(Debug, Clone)]
pub struct Seen {
    /// The noise.
    pub residuals: Residuals,
    /// The batches.
    pub batches: Batches,
}

impl Seen {
    /// Nothing yet, of batches drawn at this rate.
    pub fn new(q: SamplingRate) -> Self {
        Self {
            residuals: Residuals::default(),
            batches: Batches::new(q),
        }
    }

    /// What is not as charged. Sound code is accused once in 80 000 times at most.
    pub fn irregularities(&self) -> Vec<Irregularity> {
        let mut found = self.residuals.irregularities();
        found.extend(self.batches.irregularities());
        found
    }

    fn add(&mut self, patients: usize, drawn: &[usize], noise: &[f64]) {
        self.batches.add(patients, drawn.iter().copied());
        self.residuals.add(noise);
    }
}

/// Repeats one round, and looks at what each of its steps releases. What is seen is also added to
/// `all`, where noise that serves two rounds shows.
///
/// Blocks for as long as training takes.
///
/// # Errors
/// As [`train_round`](crate::training::train_round).
pub fn replay_round(
    subject: Subject<'_>,
    past: &PastRound<'_>,
    mut mechanism: impl Repeated,
    all: &mut Seen,
    progress: impl FnMut(Progress),
) -> Result<Replay, TrainError> {
    let Subject {
        plan,
        network,
        examples,
        threads,
        stop,
    } = subject;
    let batch_size = NonZeroU32::new(plan.training.batch_size).ok_or(TrainError::NoBatch)?;
    let steps = Steps {
        plan,
        network,
        weights: past.weights.as_slice(),
        round: past.round,
        examples,
        threads,
        stop,
    };
    let mut seen = Seen::new(past.sampling_rate);
    let (mut sizes, mut patients) = (Vec::new(), 0);
    let next = |context: &Context, weights: &[f32]| {
        let batch = mechanism.draw(examples);
        patients = present(examples);
        let drawn: Vec<usize> = batch.iter().map(|&(patient, _)| patient).collect();
        let pick = |(patient, record)| Pick { patient, record };
        let picks: Vec<Pick> = batch.into_iter().map(pick).collect();
        let norm = match context.clipping {
            Clipping::Adaptive(_) => mechanism.clipping_norm(),
            _ => past.clipping_norm,
        };
        let nothing = mechanism.sum(weights.len())?;
        let clip = (norm, past.noise_multiplier);
        let watched = Watched::of(context, weights, &picks, clip, &mut mechanism, nothing)?;
        let mut noise = watched.unknown(batch_size, norm);
        let sigma = past.noise_multiplier.value();
        noise.iter_mut().for_each(|value| *value /= sigma);
        seen.add(patients, &drawn, &noise);
        all.add(patients, &drawn, &noise);
        sizes.push(drawn.len());
        Ok(watched.released)
    };
    let (moved, mishaps) = steps.take(next, progress)?;
    let next_clipping_norm = mechanism.clipping_norm();
    let digest = mechanism.digest(moved.difference())?;
    let (unreadable, first_reason) = mishaps.into_parts();
    Ok(Replay {
        digest,
        next_clipping_norm,
        seen,
        drawn: sizes,
        patients,
        unreadable,
        first_reason,
    })
}

/// Patients with a record.
fn present(examples: &dyn Examples) -> usize {
    let has_some = |&patient: &usize| examples.records_of(patient) > 0;
    (0..examples.patients()).filter(has_some).count()
}

//! Training under audit: extra records whose gradients the auditor chose, and what became of them.
//!
//! The audit runs a study's training, round by round and step by step, on one site's data. What it
//! adds are [`Canaries`]; what it watches is the one thing that leaves a step, the noisy gradient.
//! Everything private happens in a [`Mechanism`]: [`Product`] is the very code that trains in
//! hospitals, tests put others in its place that break the guarantee on purpose.
//!
//! Beside the mechanism's sum the audit keeps one of its own, clipped in `f64`. What is released
//! minus what is known is noise, and the canaries where they were not subtracted. Subtracting the
//! other records is no foul play: what they add does not depend on the canaries' coins.
//!
//! No update comes of an audit: nothing here makes a
//! [`PrivateUpdate`](consilium_privacy::step::PrivateUpdate).

mod canaries;
mod findings;

use std::{
    num::{NonZeroU32, NonZeroUsize},
    sync::{Mutex, PoisonError},
};

use consilium_privacy::{
    accountant::{Charge, ClippingNorm},
    empirical::{Batches, Residuals},
    keystream::MasterSecret,
    ledger::Grant,
};
use consilium_proto::{Plan, plan::Clipping};

use self::canaries::{Scores, WithCanaries};
pub use self::{
    canaries::Canaries,
    findings::{Breach, Claim, Findings},
};
use super::{
    Examples, Progress, StopFlag, TrainError,
    batch::{Context, Mishaps},
    examples::Pick,
    optimizer::Optimizer,
    private::{Private, each_gradient},
};
use crate::{
    imaging::Preprocess,
    network::{Network, Target},
};

/// Norm that gradients are clipped to, over C: [`ClippedSum`](consilium_privacy::step::ClippedSum)
/// keeps the rest as room for rounding.
const CLIPPED: f64 = 1.0 - 1.0 / 1024.0;

/// What is trained under audit.
#[derive(Clone, Copy)]
pub struct Subject<'a> {
    /// The study's plan; all of its rounds are trained.
    pub plan: &'a Plan,
    /// The plan's network.
    pub network: &'a Network,
    /// The data of one site.
    pub examples: &'a dyn Examples,
    /// Threads that compute gradients.
    pub threads: NonZeroUsize,
    /// Ends the audit within one microbatch.
    pub stop: &'a StopFlag,
}

/// Takes the gradient of one record; from several threads, in any order.
pub type Add<'a> = dyn Fn(&[f32]) -> Result<(), TrainError> + Sync + 'a;

/// The private part of a round's steps.
pub trait Mechanism {
    /// What was charged for its steps.
    fn charge(&self) -> Charge;

    /// Draws the next batch: a patient and one of its records, each patient at most once. An empty
    /// batch is a step like any other.
    fn draw(&mut self, examples: &dyn Examples) -> Vec<(usize, usize)>;

    /// Releases what `give` adds: clipped, summed, noised, divided by the batch size. `length` is
    /// that of every gradient. Called once after each [`draw`](Self::draw).
    ///
    /// # Errors
    /// A step that nobody paid for, and whatever keeps the gradients from being computed.
    fn release(
        &mut self,
        length: usize,
        give: &mut dyn FnMut(&Add) -> Result<(), TrainError>,
    ) -> Result<Vec<f32>, TrainError>;
}

/// The mechanism that trains in hospitals.
pub struct Product {
    private: Private,
    charge: Charge,
}

impl Product {
    /// The steps that `grant` pays for.
    ///
    /// # Errors
    /// The grant pays for something other than training, or for another secret.
    pub fn new(
        grant: Grant,
        secret: &MasterSecret,
        batch_size: NonZeroU32,
        clipping_norm: ClippingNorm,
    ) -> Result<Self, TrainError> {
        let charge = grant.charge();
        let private = Private::new(grant, secret, batch_size, clipping_norm)?;
        Ok(Self { private, charge })
    }
}

impl Mechanism for Product {
    fn charge(&self) -> Charge {
        self.charge
    }

    fn draw(&mut self, examples: &dyn Examples) -> Vec<(usize, usize)> {
        let picks = self.private.draw(examples).into_iter();
        picks.map(|pick| (pick.patient, pick.record)).collect()
    }

    fn release(
        &mut self,
        length: usize,
        give: &mut dyn FnMut(&Add) -> Result<(), TrainError>,
    ) -> Result<Vec<f32>, TrainError> {
        self.private.release(length, |add| give(add))
    }
}

/// Trains all rounds of a plan with canaries among the patients. `mechanism` makes that of each
/// round, counted from 1. Weights and optimiser go on from round to round as at the only site of a
/// study whose strategy adds up updates.
///
/// Blocks for as long as training takes.
///
/// # Errors
/// As [`train_round`](super::train_round).
pub fn audit<M: Mechanism>(
    subject: Subject<'_>,
    claim: &Claim,
    canaries: &Canaries,
    mut mechanism: impl FnMut(u32) -> Result<M, TrainError>,
    mut progress: impl FnMut(Progress),
) -> Result<Findings, TrainError> {
    let Subject {
        plan,
        network,
        examples,
        threads,
        stop,
    } = subject;
    let batch_size = NonZeroU32::new(plan.training.batch_size).ok_or(TrainError::NoBatch)?;
    if plan.privacy.clipping != Clipping::Flat || plan.training.views > 1 {
        return Err(TrainError::NotAudited);
    }
    let mut auditor = Auditor::new(claim, canaries, batch_size);
    let preprocess = plan.image.as_ref().map(Preprocess::from_plan);
    let mishaps = Mishaps::default();
    let steps = plan.rounds.saturating_mul(plan.training.steps);
    let mut weights = network.initial(plan.seed).as_slice().to_vec();
    for round in 1..=plan.rounds {
        let mut mechanism = mechanism(round)?;
        auditor.charges.push(mechanism.charge());
        let optimizer = Optimizer::new(&plan.training, plan.strategy.proximal(), &weights);
        let mut optimizer = optimizer.in_round(round, plan.rounds);
        for step in 1..=plan.training.steps {
            let context = Context {
                network,
                examples,
                preprocess: preprocess.as_ref(),
                seed: [plan.seed, u64::from(round), u64::from(step)],
                threads,
                stop,
                mishaps: &mishaps,
            };
            let gradient = auditor.step(&context, optimizer.weights(), &mut mechanism)?;
            optimizer.step(&gradient);
            let step = auditor.residuals.steps();
            progress(Progress { step, steps });
        }
        let moved = optimizer.weights().to_vec();
        weights = moved;
    }
    Ok(auditor.finish())
}

/// What is seen of one audit.
struct Auditor<'a> {
    claim: &'a Claim,
    canaries: &'a Canaries,
    batch_size: f64,
    scores: Scores,
    residuals: Residuals,
    batches: Batches,
    charges: Vec<Charge>,
}

impl<'a> Auditor<'a> {
    fn new(claim: &'a Claim, canaries: &'a Canaries, batch_size: NonZeroU32) -> Self {
        Self {
            claim,
            canaries,
            batch_size: f64::from(batch_size.get()),
            scores: Scores::new(canaries),
            residuals: Residuals::default(),
            batches: Batches::new(claim.sampling_rate()),
            charges: Vec::new(),
        }
    }

    /// Takes one step and looks at what came out.
    fn step(
        &mut self,
        context: &Context,
        weights: &[f32],
        mechanism: &mut impl Mechanism,
    ) -> Result<Vec<f32>, TrainError> {
        let everyone = WithCanaries::new(context.examples, self.canaries);
        let drawn = mechanism.draw(&everyone);
        let patients = drawn.iter().map(|&(patient, _)| patient);
        self.batches.add(everyone.units(), patients);
        let (planted, real): (Vec<_>, Vec<_>) = drawn
            .into_iter()
            .map(|(patient, record)| Pick { patient, record })
            .partition(|pick| everyone.is_canary(pick.patient));
        let planted: Vec<usize> = planted
            .iter()
            .map(|pick| everyone.canary(pick.patient))
            .collect();

        let norm = self.claim.clipping_norm().value();
        let known = Known::new(weights.len(), norm);
        let released = mechanism.release(weights.len(), &mut |add| {
            each_gradient(context, weights, &real, |gradient| {
                known.add(gradient);
                add(gradient)
            })?;
            let mut gradient = vec![0.0; weights.len()];
            for &at in &planted {
                self.canaries.place(at, norm, &mut gradient);
                add(&gradient)?;
                self.canaries.erase(at, &mut gradient);
            }
            Ok(())
        })?;
        self.look(&released, known.into_sum(), &planted);
        Ok(released)
    }

    /// Scores the canaries, then takes them out and keeps the noise.
    fn look(&mut self, released: &[f32], known: Vec<f64>, planted: &[usize]) {
        let norm = self.claim.clipping_norm().value();
        let unknown = |(&released, known): (&f32, f64)| {
            (f64::from(released) * self.batch_size - known) / norm
        };
        let mut rest: Vec<f64> = released.iter().zip(known).map(unknown).collect();
        self.scores.see(self.canaries, &rest, planted);
        for &at in planted {
            self.canaries.take_out(at, CLIPPED, &mut rest);
        }
        let sigma = self.claim.noise_multiplier().value();
        rest.iter_mut().for_each(|value| *value /= sigma);
        self.residuals.add(&rest);
    }

    fn finish(self) -> Findings {
        Findings {
            guesses: self.scores.guess(self.canaries),
            observations: self.scores.observations(),
            residuals: self.residuals,
            batches: self.batches,
            charges: self.charges,
        }
    }
}

/// The auditor's own clipped sum.
struct Known {
    sum: Mutex<Vec<f64>>,
    norm: f64,
}

impl Known {
    fn new(length: usize, norm: f64) -> Self {
        Self {
            sum: Mutex::new(vec![0.0; length]),
            norm,
        }
    }

    fn add(&self, gradient: &[f32]) {
        let squares = gradient.iter().map(|&x| f64::from(x).powi(2));
        let length = squares.sum::<f64>().sqrt();
        if !length.is_finite() {
            return; // counts as zeros
        }
        let factor = (CLIPPED * self.norm / length).min(1.0);
        let mut sum = self.sum.lock().unwrap_or_else(PoisonError::into_inner);
        for (sum, &value) in sum.iter_mut().zip(gradient) {
            *sum += factor * f64::from(value);
        }
    }

    fn into_sum(self) -> Vec<f64> {
        self.sum
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

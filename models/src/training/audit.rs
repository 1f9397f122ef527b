//! Training under audit: extra records whose gradients the auditor chose, and what became of them;
//! past rounds, repeated.
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
//! [`replay_round`] takes the same look at a round of the past, without canaries.
//!
//! No update comes of an audit: nothing here makes a
//! [`PrivateUpdate`](consilium_privacy::step::PrivateUpdate).

mod canaries;
mod findings;
mod replay;
mod watched;

use std::num::{NonZeroU32, NonZeroUsize};

use consilium_privacy::{
    accountant::{Charge, ClippingNorm},
    empirical::{Batches, Residuals},
    keystream::MasterSecret,
    ledger::{Entry, Grant, GrantError},
    step::ClippedSum,
};
use consilium_proto::{Plan, plan::Clipping};

pub use self::{
    canaries::Canaries,
    findings::{Breach, Claim, Findings},
    replay::{PastRound, Repeated, Replay, Seen, replay_round},
};
use self::{
    canaries::{Scores, WithCanaries},
    watched::{CLIPPED, Watched},
};
pub use super::private::Gradient;
use super::{
    Examples, Progress, Steps, StopFlag, TrainError, batch::Context, clipping::clipping,
    examples::Pick, private::Private,
};
use crate::network::{Network, Target};

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

/// The private part of a round's steps.
pub trait Mechanism: Sync {
    /// What one thread adds gradients to.
    type Sum: Send;

    /// What was charged for its steps.
    fn charge(&self) -> Charge;

    /// The largest norm of one record (C) in the next step.
    fn clipping_norm(&self) -> ClippingNorm;

    /// Draws the next batch: a patient and one of its records, each patient at most once. An empty
    /// batch is a step like any other.
    fn draw(&mut self, examples: &dyn Examples) -> Vec<(usize, usize)>;

    /// An empty sum for the next step. `length` is that of every gradient.
    ///
    /// # Errors
    /// Whatever keeps gradients from being added.
    fn sum(&self, length: usize) -> Result<Self::Sum, TrainError>;

    /// Clips the gradient of one record and adds it. Called from several threads, each with a sum of
    /// its own, in any order.
    ///
    /// # Errors
    /// More records than a sum takes.
    fn add(&self, sum: &mut Self::Sum, gradient: Gradient) -> Result<(), TrainError>;

    /// Releases the sums of a step together: noised, divided by the batch size. Called once after
    /// each [`draw`](Self::draw).
    ///
    /// # Errors
    /// A step that nobody paid for.
    fn release(&mut self, length: usize, sums: Vec<Self::Sum>) -> Result<Vec<f32>, TrainError>;
}

/// The mechanism that trains in hospitals.
pub struct Product {
    private: Private,
    charge: Charge,
}

impl Product {
    /// The steps that `grant` pays for, as a plan has them.
    ///
    /// # Errors
    /// The grant pays for something other than training, or for another secret.
    pub fn new(
        grant: Grant,
        secret: &MasterSecret,
        plan: &Plan,
        network: &Network,
        clipping_norm: ClippingNorm,
    ) -> Result<Self, TrainError> {
        let charge = grant.charge();
        let batch_size = NonZeroU32::new(plan.training.batch_size).ok_or(TrainError::NoBatch)?;
        let private = Private::new(grant, secret, batch_size, clipping_norm)?;
        let private = private.clipped(clipping(plan, network.layout())?)?;
        Ok(Self { private, charge })
    }

    /// The steps that a ledger's entry paid for long ago, with the secret it committed to.
    ///
    /// # Errors
    /// The entry pays for something other than training, or for another secret.
    pub fn replay(
        entry: &Entry,
        secret: &MasterSecret,
        plan: &Plan,
        network: &Network,
        clipping_norm: ClippingNorm,
    ) -> Result<Self, TrainError> {
        let sequence = entry.sequence;
        let charged = entry.fact.charged();
        let charge = charged.ok_or(GrantError::NotTraining { sequence })?.charge;
        let batch_size = NonZeroU32::new(plan.training.batch_size).ok_or(TrainError::NoBatch)?;
        let private = Private::replay(entry, secret, batch_size, clipping_norm)?;
        let private = private.clipped(clipping(plan, network.layout())?)?;
        Ok(Self { private, charge })
    }
}

impl Mechanism for Product {
    type Sum = ClippedSum;

    fn charge(&self) -> Charge {
        self.charge
    }

    fn clipping_norm(&self) -> ClippingNorm {
        self.private.clipping_norm()
    }

    fn draw(&mut self, examples: &dyn Examples) -> Vec<(usize, usize)> {
        let picks = self.private.draw(examples).into_iter();
        picks.map(|pick| (pick.patient, pick.record)).collect()
    }

    fn sum(&self, length: usize) -> Result<ClippedSum, TrainError> {
        self.private.sum(length)
    }

    fn add(&self, sum: &mut ClippedSum, gradient: Gradient) -> Result<(), TrainError> {
        Ok(gradient.add_to(sum)?)
    }

    fn release(&mut self, length: usize, sums: Vec<ClippedSum>) -> Result<Vec<f32>, TrainError> {
        self.private.release(length, sums)
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
    if plan.privacy.clipping != Clipping::Flat {
        return Err(TrainError::OtherClipping);
    }
    let mut auditor = Auditor::new(claim, canaries, batch_size);
    let steps = plan.rounds.saturating_mul(plan.training.steps);
    let mut weights = network.initial(plan.seed).into_vec();
    for round in 1..=plan.rounds {
        let mut mechanism = mechanism(round)?;
        auditor.charges.push(mechanism.charge());
        let before = auditor.residuals.steps();
        let round = Steps {
            plan,
            network,
            weights: &weights,
            round,
            examples,
            threads,
            stop,
        };
        let next =
            |context: &Context, weights: &[f32]| auditor.step(context, weights, &mut mechanism);
        let (moved, _) = round.take(next, |Progress { step, .. }| {
            let step = before + step;
            progress(Progress { step, steps });
        })?;
        let moved = moved.weights().to_vec();
        weights = moved;
    }
    Ok(auditor.finish())
}

/// What is seen of one audit.
struct Auditor<'a> {
    claim: &'a Claim,
    canaries: &'a Canaries,
    batch_size: NonZeroU32,
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
            batch_size,
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

        let norm = self.claim.clipping_norm();
        let mut more = mechanism.sum(weights.len())?;
        let mut gradient = vec![0.0; weights.len()];
        for &at in &planted {
            self.canaries.place(at, norm.value(), &mut gradient);
            mechanism.add(&mut more, Gradient::Whole(&gradient))?;
            self.canaries.erase(at, &mut gradient);
        }
        let clip = (norm, self.claim.noise_multiplier());
        let watched = Watched::of(context, weights, &real, clip, mechanism, more)?;
        self.look(watched.unknown(self.batch_size, norm), &planted);
        Ok(watched.released)
    }

    /// Scores the canaries, then takes them out and keeps the noise. `rest` is what the auditor
    /// does not know, in clipping norms.
    fn look(&mut self, mut rest: Vec<f64>, planted: &[usize]) {
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

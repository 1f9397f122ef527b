//! One site's work in one round: steps on batches of patients, private or not.
//!
//! A step draws patients by Poisson sampling and one random record of each, clips the gradient of
//! that one record, adds them up as integers, adds noise once, divides by the plan's batch size
//! and moves the weights. **Neighbouring data sets differ by one patient**, added or removed; the
//! patient is protected from everyone who sees the update. That a patient touches nothing but its
//! own summand is what the tests `no_gradient_depends_on_the_others_in_a_batch` here and
//! `the_gradient_of_an_example_depends_on_no_other_example_bit_for_bit` of the networks hold. On
//! other devices than the CPU it is checked, not built in: `network/device.rs`.

pub mod audit;
mod batch;
mod clipping;
mod examples;
mod optimizer;
mod plain;
mod private;

use std::{
    num::{NonZeroU32, NonZeroUsize},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use consilium_privacy::{
    accountant::{ClippingNorm, SamplingRate},
    keystream::{MasterSecret, NoRandomness},
    ledger::{Grant, GrantError},
    step::{Clipping, NoisyShare, PrivateUpdate, StepError},
};
use consilium_proto::{ParameterVector, Plan, plan::Mode};

use self::{
    batch::{Context, Mishaps},
    clipping::clipping,
    optimizer::Optimizer,
    private::Private,
};
pub use self::{
    clipping::check_noise,
    examples::{Examples, LoadError},
};
use crate::{
    imaging::Preprocess,
    network::{Network, NetworkError},
    profile::{Part, Watch},
};

/// What one site has to do in one round.
pub struct Job<'a> {
    /// The study's plan.
    pub plan: &'a Plan,
    /// The plan's network.
    pub network: &'a Network,
    /// The global weights, where the round starts.
    pub weights: &'a ParameterVector,
    /// The round, counted from 1.
    pub round: u32,
    /// What protects the patients.
    pub protection: Protection,
    /// Threads that compute gradients; at least one for each device. Their number changes no bit of a private
    /// step's sum.
    pub threads: NonZeroUsize,
}

/// What protects the patients in this round.
#[derive(Debug)]
pub enum Protection {
    /// Clipping and noise, paid for.
    Private {
        /// Permission of the ledger.
        grant: Grant,
        /// The secret that the charge committed to: batches and noise come from it.
        secret: MasterSecret,
        /// C of the first step: the plan's, or where the study's last update ended.
        clipping_norm: ClippingNorm,
    },
    /// Nothing: plan and site policy both ask for it by name.
    None {
        /// Probability that a patient enters a batch.
        rate: SamplingRate,
    },
}

/// What came of a round.
#[derive(Debug)]
pub struct Outcome {
    /// Weights after minus weights before; the only part that may leave the hospital.
    pub update: PrivateUpdate,
    /// What the hospital's own log should say. It depends on the data and stays inside.
    pub local: LocalReport,
}

/// What went wrong with single records. Stays inside the hospital.
#[derive(Debug, Default)]
pub struct LocalReport {
    /// Records whose gradient was not finite: they counted as zeros.
    pub not_finite: u64,
    /// Times that a record could not be used: it counted as zeros.
    pub unreadable: u64,
    /// The first reason.
    pub first_reason: Option<LoadError>,
}

/// How far a round is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Steps taken.
    pub step: u32,
    /// Steps of the round.
    pub steps: u32,
}

/// Why a round brought no update. What was charged stays charged.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// Someone raised the stop flag.
    #[error("training was stopped")]
    Stopped,
    /// The plan asks for one kind of protection, the job for the other.
    #[error("the plan says privacy.mode = {plan:?}, the job was set up for the other mode")]
    OtherMode {
        /// What the plan says.
        plan: Mode,
    },
    /// Fewer steps were paid for than the plan has.
    #[error("the plan has {planned} steps a round, the ledger's grant pays for {paid}")]
    TooFewSteps {
        /// Steps of the plan.
        planned: u32,
        /// Steps of the grant.
        paid: u32,
    },
    /// A number of the plan that no check should have let pass.
    #[error("the plan cannot be trained")]
    Plan(#[source] consilium_privacy::OutOfRange),
    /// A batch of 0 in the plan.
    #[error("the plan's batch size is 0")]
    NoBatch,
    /// Canaries have the norm that flat clipping leaves as it is.
    #[error(
        "the audit's canaries are made for flat clipping: leave `privacy.clipping` out of its plan"
    )]
    OtherClipping,
    /// Weights that do not fit the network, or a device that failed.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// The grant pays for something else, or for another secret.
    #[error(transparent)]
    Grant(#[from] GrantError),
    /// The system has no random numbers to give.
    #[error(transparent)]
    Randomness(#[from] NoRandomness),
    /// A step was refused, or the weights diverged.
    #[error(transparent)]
    Step(#[from] StepError),
    /// A batch holds more records than a sum can take.
    #[error("a step could not be summed")]
    Sum(#[from] consilium_privacy::step::AddError),
}

/// Tells a running job to stop; it does so within one microbatch. Clones share the flag.
#[derive(Debug, Clone, Default)]
pub struct StopFlag(Arc<AtomicBool>);

impl StopFlag {
    /// Raises the flag.
    pub fn stop(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether the flag is up.
    pub fn is_stopped(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Makes the gradients of one round's steps, and the update at its end.
trait Gradients {
    /// The gradient of the next step at these weights, divided by the plan's batch size.
    fn next(&mut self, context: &Context, weights: &[f32]) -> Result<Vec<f32>, TrainError>;

    /// Ends the round with the difference of weights.
    fn finish(self: Box<Self>, difference: Vec<f32>) -> Result<(PrivateUpdate, u64), TrainError>;
}

/// Trains for one round and gives the difference of weights.
///
/// Blocks for as long as training takes: call it from a thread that may.
///
/// # Errors
/// A job that does not fit together, a raised stop flag, weights that diverged. A record that
/// cannot be read is no error: it counts as zeros, since stopping would tell that it exists.
pub fn train_round(
    job: Job,
    examples: &dyn Examples,
    stop: &StopFlag,
    progress: impl FnMut(Progress),
) -> Result<Outcome, TrainError> {
    let Job {
        plan,
        network,
        weights,
        round,
        protection,
        threads,
    } = job;
    let batch_size = NonZeroU32::new(plan.training.batch_size).ok_or(TrainError::NoBatch)?;
    let mut gradients = gradients(plan, network, protection, batch_size)?;
    let steps = Steps {
        plan,
        network,
        weights: weights.as_slice(),
        round,
        examples,
        threads,
        stop,
    };
    let next = |context: &Context, weights: &[f32]| gradients.next(context, weights);
    let (moved, mishaps) = steps.take(next, progress)?;
    let (update, not_finite) = gradients.finish(moved.difference())?;
    let (unreadable, first_reason) = mishaps.into_parts();
    Ok(Outcome {
        update,
        local: LocalReport {
            not_finite,
            unreadable,
            first_reason,
        },
    })
}

/// What came of a round whose noise all sites add together.
#[derive(Debug)]
pub struct ShareOutcome {
    /// The clipped sum of one batch with this site's share of the noise. Only a masked vector takes it.
    pub share: NoisyShare,
    /// What the hospital's own log should say. It depends on the data and stays inside.
    pub local: LocalReport,
}

/// Takes the one step of a distributed round at the global weights: the clipped sum of one batch with
/// one of `shares` shares of the noise.
///
/// Blocks for as long as it takes: call it from a thread that may.
///
/// # Errors
/// As [`train_round`].
pub fn train_share(
    job: Job,
    shares: NonZeroU32,
    examples: &dyn Examples,
    stop: &StopFlag,
) -> Result<ShareOutcome, TrainError> {
    let Job {
        plan,
        network,
        weights,
        round,
        protection,
        threads,
    } = job;
    let mode = plan.privacy.mode;
    let (
        Protection::Private {
            grant,
            secret,
            clipping_norm,
        },
        Mode::Distributed,
    ) = (protection, mode)
    else {
        return Err(TrainError::OtherMode { plan: mode });
    };
    let batch_size = NonZeroU32::new(plan.training.batch_size).ok_or(TrainError::NoBatch)?;
    network.check()?;
    let clipping = clipping(plan, network.layout())?;
    let private = Private::new(grant, &secret, batch_size, clipping_norm)?;
    let private = private.clipped(clipping)?.sharing(shares)?;
    let steps = Steps {
        plan,
        network,
        weights: weights.as_slice(),
        round,
        examples,
        threads,
        stop,
    };
    let ((share, not_finite), mishaps) =
        steps.first(|context, weights| private.share(context, weights))?;
    let (unreadable, first_reason) = mishaps.into_parts();
    Ok(ShareOutcome {
        share,
        local: LocalReport {
            not_finite,
            unreadable,
            first_reason,
        },
    })
}

/// The steps of one round: the same whether it is trained, audited or repeated.
struct Steps<'a> {
    plan: &'a Plan,
    network: &'a Network,
    /// Where the round starts.
    weights: &'a [f32],
    round: u32,
    examples: &'a dyn Examples,
    threads: NonZeroUsize,
    stop: &'a StopFlag,
}

impl<'a> Steps<'a> {
    /// Takes them all. `next` makes the gradient of each, divided by the plan's batch size.
    fn take(
        &self,
        mut next: impl FnMut(&Context, &[f32]) -> Result<Vec<f32>, TrainError>,
        mut progress: impl FnMut(Progress),
    ) -> Result<(Optimizer<'a>, Mishaps), TrainError> {
        let plan = self.plan;
        let optimizer = Optimizer::new(&plan.training, plan.strategy.proximal(), self.weights);
        let mut optimizer = optimizer.in_round(self.round, plan.rounds);
        let means = self.means()?;
        let steps = plan.training.steps;
        for step in 1..=steps {
            let began = Instant::now();
            let context = self.context(&means, step);
            let mut gradient = next(&context, optimizer.weights())?;
            self.network.confine(self.weights, &mut gradient);
            let mut watch = Watch::of(self.network.profile());
            optimizer.step(&gradient);
            watch.note(Part::Optimizer);
            if let Some(profile) = self.network.profile() {
                profile.step(began.elapsed(), self.threads);
            }
            progress(Progress { step, steps });
        }
        Ok((optimizer, means.mishaps))
    }

    /// Takes the first step alone, without an optimiser.
    fn first<T>(
        &self,
        step: impl FnOnce(&Context, &[f32]) -> Result<T, TrainError>,
    ) -> Result<(T, Mishaps), TrainError> {
        let means = self.means()?;
        let taken = step(&self.context(&means, 1), self.weights)?;
        Ok((taken, means.mishaps))
    }

    fn means(&self) -> Result<Means, TrainError> {
        Ok(Means {
            clipping: clipping(self.plan, self.network.layout())?,
            preprocess: self.plan.image.as_ref().map(Preprocess::from_plan),
            mishaps: Mishaps::default(),
        })
    }

    fn context<'b>(&'b self, means: &'b Means, step: u32) -> Context<'b> {
        let devices = NonZeroUsize::new(self.network.devices().len());
        Context {
            network: self.network,
            examples: self.examples,
            preprocess: means.preprocess.as_ref(),
            seed: [self.plan.seed, u64::from(self.round), u64::from(step)],
            threads: devices.map_or(self.threads, |devices| devices.max(self.threads)),
            stop: self.stop,
            mishaps: &means.mishaps,
            views: self.plan.training.views,
            clipping: &means.clipping,
        }
    }
}

/// What all steps of a round use.
struct Means {
    clipping: Clipping,
    preprocess: Option<Preprocess>,
    mishaps: Mishaps,
}

fn gradients(
    plan: &Plan,
    network: &Network,
    protection: Protection,
    batch_size: NonZeroU32,
) -> Result<Box<dyn Gradients>, TrainError> {
    match (protection, plan.privacy.mode) {
        (
            Protection::Private {
                grant,
                secret,
                clipping_norm,
            },
            Mode::Local,
        ) => {
            let paid = grant.training()?.steps;
            let planned = plan.training.steps;
            if paid < planned {
                return Err(TrainError::TooFewSteps { planned, paid });
            }
            // On our own kernels no example touches another's gradient, by construction; devices must show it.
            network.check()?;
            let clipping = clipping(plan, network.layout())?;
            let private = Private::new(grant, &secret, batch_size, clipping_norm)?;
            let private = private.clipped(clipping)?;
            Ok(Box::new(match network.is_on_cpu() {
                true => private,
                false => private.drawing_ahead(),
            }))
        }
        (Protection::None { rate }, Mode::None) => {
            Ok(Box::new(plain::Plain::new(rate, batch_size)?))
        }
        (_, mode) => Err(TrainError::OtherMode { plan: mode }),
    }
}

#[cfg(test)]
mod tests;

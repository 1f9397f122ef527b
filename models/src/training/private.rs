//! Steps that protect patients: clipped, summed as integers, noised.

use std::num::{NonZeroU32, NonZeroUsize};

use consilium_privacy::{
    accountant::ClippingNorm,
    keystream::MasterSecret,
    ledger::{Entry, Grant},
    sampling::PoissonSampler,
    step::{
        AddError, ClippedSum, Clipping, NoisyShare, NoisySteps, Part, PrivateUpdate, StepNoise,
    },
};

use super::{Context, Examples, Gradients, TrainError, examples::Pick};
use crate::profile::{self, Watch};

/// The gradient of one record, as its network made it. Only an auditor inside the hospital looks.
#[derive(Clone, Copy)]
pub enum Gradient<'a> {
    /// Every value.
    Whole(&'a [f32]),
    /// In parts, in the order of the layout; what no part covers is zero.
    Parts(&'a [Part<'a>]),
}

impl Gradient<'_> {
    /// Writes every value over `values`.
    ///
    /// # Panics
    /// Where `values` is not as long as the layout.
    pub fn write(&self, values: &mut [f32]) {
        match self {
            Self::Whole(whole) => values.copy_from_slice(whole),
            Self::Parts(parts) => {
                values.fill(0.0);
                parts.iter().for_each(|part| part.write(values));
            }
        }
    }

    /// Clips it and adds it to a sum.
    pub(super) fn add_to(&self, sum: &mut ClippedSum) -> Result<(), AddError> {
        match self {
            Self::Whole(values) => sum.add(values),
            Self::Parts(parts) => sum.add_parts(parts),
        }
    }
}

/// The private steps of one round.
pub(super) struct Private {
    sampler: PoissonSampler,
    noisy: NoisySteps,
    /// Whether noise is drawn while gradients are computed, which pays where a device computes them.
    draws_ahead: bool,
    not_finite: u64,
}

impl Private {
    /// Steps that start at this clipping norm.
    pub(super) fn new(
        grant: Grant,
        secret: &MasterSecret,
        batch_size: NonZeroU32,
        clipping_norm: ClippingNorm,
    ) -> Result<Self, TrainError> {
        let sampler = PoissonSampler::new(&grant, secret)?;
        let noisy = NoisySteps::new(grant, secret, batch_size, clipping_norm)?;
        Ok(Self {
            sampler,
            noisy,
            draws_ahead: false,
            not_finite: 0,
        })
    }

    /// The steps of a charge long spent, whose end is a digest.
    pub(super) fn replay(
        entry: &Entry,
        secret: &MasterSecret,
        batch_size: NonZeroU32,
        clipping_norm: ClippingNorm,
    ) -> Result<Self, TrainError> {
        let (noisy, sampler) = NoisySteps::replay(entry, secret, batch_size, clipping_norm)?;
        Ok(Self {
            sampler,
            noisy,
            draws_ahead: false,
            not_finite: 0,
        })
    }

    /// Clipped in another way.
    pub(super) fn clipped(self, clipping: Clipping) -> Result<Self, TrainError> {
        let noisy = self.noisy.clipped(clipping).map_err(TrainError::Plan)?;
        Ok(Self { noisy, ..self })
    }

    /// With a share of the noise, for one step that all sites add up together.
    pub(super) fn sharing(self, shares: NonZeroU32) -> Result<Self, TrainError> {
        let noisy = self.noisy.sharing(shares).map_err(TrainError::Plan)?;
        Ok(Self { noisy, ..self })
    }

    /// The one step of a round whose noise is shared, and records whose gradient was not finite.
    pub(super) fn share(
        mut self,
        context: &Context,
        weights: &[f32],
    ) -> Result<(NoisyShare, u64), TrainError> {
        let picks = self.draw(context.examples);
        let start = || self.sum(weights.len());
        let add = |sum: &mut ClippedSum, gradient: Gradient| Ok(gradient.add_to(sum)?);
        let sums = each_gradient(context, weights, &picks, start, add)?;
        let empty = self.sum(weights.len())?;
        let sum = sums.into_iter().try_fold(empty, ClippedSum::merge)?;
        let not_finite = u64::from(sum.not_finite());
        Ok((self.noisy.share(sum)?, not_finite))
    }

    /// The clipping norm of the next step.
    pub(super) fn clipping_norm(&self) -> ClippingNorm {
        self.noisy.clipping_norm()
    }

    /// With noise drawn on a thread of its own while gradients are computed: the same noise.
    pub(super) fn drawing_ahead(self) -> Self {
        Self {
            draws_ahead: true,
            ..self
        }
    }

    /// Ends replayed steps.
    pub(super) fn digest(self, difference: Vec<f32>) -> Result<[u8; 32], TrainError> {
        Ok(self.noisy.finish_replay(difference)?)
    }

    /// One random record of each drawn patient.
    pub(super) fn draw(&mut self, examples: &dyn Examples) -> Vec<Pick> {
        let drawn = self.sampler.draw(examples.patients());
        let pick = |patient| {
            let records = NonZeroUsize::new(examples.records_of(patient))?;
            Some(Pick {
                patient,
                record: self.sampler.pick(records),
            })
        };
        drawn.into_iter().filter_map(pick).collect()
    }

    /// An empty sum for gradients of the next step. Each thread that adds has one of its own.
    pub(super) fn sum(&self, length: usize) -> Result<ClippedSum, TrainError> {
        self.noisy.empty_sum(length).map_err(TrainError::Plan)
    }

    /// Adds noise to all sums of the step together and divides by the batch size.
    pub(super) fn release(
        &mut self,
        length: usize,
        sums: Vec<ClippedSum>,
    ) -> Result<Vec<f32>, TrainError> {
        self.release_with(length, sums, None)
    }

    /// As [`release`](Self::release), with noise that was drawn ahead if there is some.
    fn release_with(
        &mut self,
        length: usize,
        sums: Vec<ClippedSum>,
        noise: Option<StepNoise>,
    ) -> Result<Vec<f32>, TrainError> {
        let empty = self.sum(length)?;
        let sum = sums.into_iter().try_fold(empty, ClippedSum::merge)?;
        self.not_finite += u64::from(sum.not_finite());
        Ok(match noise {
            Some(noise) => self.noisy.step_with(sum, noise),
            None => self.noisy.step(sum),
        }?)
    }

    /// The next step's noise, if it is to be drawn ahead.
    fn noise_ahead(&self, length: usize) -> Result<Option<StepNoise>, TrainError> {
        let noise = self.draws_ahead.then(|| self.noisy.next_noise(length));
        Ok(noise.transpose()?)
    }
}

/// Does some work, and draws noise on another thread meanwhile.
fn while_drawing<T>(
    mut noise: Option<StepNoise>,
    work: impl FnOnce() -> T,
) -> (T, Option<StepNoise>) {
    let done = std::thread::scope(|scope| {
        if let Some(noise) = &mut noise {
            scope.spawn(|| noise.draw());
        }
        work()
    });
    (done, noise)
}

impl Gradients for Private {
    fn next(&mut self, context: &Context, weights: &[f32]) -> Result<Vec<f32>, TrainError> {
        let picks = self.draw(context.examples);
        let start = || self.sum(weights.len());
        let add = |sum: &mut ClippedSum, gradient: Gradient| Ok(gradient.add_to(sum)?);
        let noise = self.noise_ahead(weights.len())?;
        let (sums, noise) = while_drawing(noise, || {
            each_gradient(context, weights, &picks, start, add)
        });
        let mut watch = Watch::of(context.network.profile());
        let released = self.release_with(weights.len(), sums?, noise);
        watch.note(profile::Part::Noise);
        released
    }

    fn finish(self: Box<Self>, difference: Vec<f32>) -> Result<(PrivateUpdate, u64), TrainError> {
        Ok((self.noisy.finish(difference)?, self.not_finite))
    }
}

/// Computes the gradient of each picked record, the mean over its views, and hands it on, from several
/// threads and in no fixed order. `take` gets what its thread has in hand, made by `start`; the hands
/// come back. The bits of a gradient depend on its record and the weights alone.
pub(super) fn each_gradient<T: Send>(
    context: &Context,
    weights: &[f32],
    picks: &[Pick],
    start: impl Fn() -> Result<T, TrainError> + Sync,
    take: impl Fn(&mut T, Gradient) -> Result<(), TrainError> + Sync,
) -> Result<Vec<T>, TrainError> {
    let ready = context.network.weights(weights)?;
    let views = context.views as usize;
    let size = (context.network.microbatch() / views).max(1);
    let room = match views {
        1 => 0,
        _ => 2 * weights.len(),
    };
    let start = || Ok((start()?, vec![0.0; room]));
    let hands = context.microbatches(picks, size, start, |(hand, room), batch| {
        let apart = context.network.per_example(&ready, &batch)?;
        let mut watch = Watch::of(context.network.profile());
        for first in (0..apart.examples()).step_by(views) {
            if views == 1 {
                take(hand, Gradient::Parts(&apart.parts(first)))?;
                continue;
            }
            let (mean, view) = room.split_at_mut(weights.len());
            apart.write(first, mean);
            for at in first + 1..first + views {
                apart.write(at, view);
                let both = mean.iter_mut().zip(&*view);
                both.for_each(|(mean, view)| *mean += view);
            }
            mean.iter_mut().for_each(|mean| *mean /= views as f32);
            take(hand, Gradient::Whole(mean))?;
        }
        watch.note(profile::Part::Sum);
        Ok(())
    })?;
    Ok(hands.into_iter().map(|(hand, _)| hand).collect())
}

//! Steps that protect patients: clipped, summed as integers, noised.

use std::{
    num::{NonZeroU32, NonZeroUsize},
    sync::{Mutex, PoisonError},
};

use consilium_privacy::{
    accountant::ClippingNorm,
    keystream::MasterSecret,
    ledger::{Entry, Grant},
    sampling::PoissonSampler,
    step::{NoisySteps, PrivateUpdate},
};

use super::{Context, Examples, Gradients, TrainError, examples::Pick};

/// Takes the gradient of one record. Called from several threads.
pub(super) type Add<'a> = dyn Fn(&[f32]) -> Result<(), TrainError> + Sync + 'a;

/// The private steps of one round.
pub(super) struct Private {
    sampler: PoissonSampler,
    noisy: NoisySteps,
    clipping_norm: ClippingNorm,
    not_finite: u64,
}

impl Private {
    pub(super) fn new(
        grant: Grant,
        secret: &MasterSecret,
        batch_size: NonZeroU32,
        clipping_norm: ClippingNorm,
    ) -> Result<Self, TrainError> {
        let sampler = PoissonSampler::new(&grant, secret)?;
        let noisy = NoisySteps::new(grant, secret, batch_size)?;
        Ok(Self {
            sampler,
            noisy,
            clipping_norm,
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
        let (noisy, sampler) = NoisySteps::replay(entry, secret, batch_size)?;
        Ok(Self {
            sampler,
            noisy,
            clipping_norm,
            not_finite: 0,
        })
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

    /// Clips and sums the gradients that `give` adds, adds noise and divides by the batch size.
    pub(super) fn release(
        &mut self,
        length: usize,
        give: impl FnOnce(&Add) -> Result<(), TrainError>,
    ) -> Result<Vec<f32>, TrainError> {
        let sum = self.noisy.empty_sum(length, self.clipping_norm);
        let sum = Mutex::new(sum.map_err(TrainError::Plan)?);
        give(&|gradient| {
            let mut sum = sum.lock().unwrap_or_else(PoisonError::into_inner);
            Ok(sum.add(gradient)?)
        })?;
        let sum = sum.into_inner().unwrap_or_else(PoisonError::into_inner);
        self.not_finite += u64::from(sum.not_finite());
        Ok(self.noisy.step(sum)?)
    }
}

impl Gradients for Private {
    fn next(&mut self, context: &Context, weights: &[f32]) -> Result<Vec<f32>, TrainError> {
        let picks = self.draw(context.examples);
        self.release(weights.len(), |add| {
            each_gradient(context, weights, &picks, add)
        })
    }

    fn finish(self: Box<Self>, difference: Vec<f32>) -> Result<(PrivateUpdate, u64), TrainError> {
        Ok((self.noisy.finish(difference)?, self.not_finite))
    }
}

/// Computes the gradient of each picked record and hands it on, from several threads and in no
/// fixed order. Microbatches are padded to one size, so that the bits of a gradient depend on its
/// record and the weights alone.
pub(super) fn each_gradient(
    context: &Context,
    weights: &[f32],
    picks: &[Pick],
    take: impl Fn(&[f32]) -> Result<(), TrainError> + Sync,
) -> Result<(), TrainError> {
    let ready = context.network.weights(weights)?;
    let size = context.network.private_microbatch();
    let start = || vec![0.0; weights.len()];
    context.microbatches(picks, size, start, |gradient, mut batch| {
        let examples = batch.len();
        batch.pad(size);
        let apart = context.network.per_example(&ready, &batch);
        for example in 0..examples {
            apart.write(example, gradient);
            take(gradient)?;
        }
        Ok(())
    })?;
    Ok(())
}

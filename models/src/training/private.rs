//! Steps that protect patients: clipped, summed as integers, noised.

use std::{
    num::{NonZeroU32, NonZeroUsize},
    sync::{Mutex, PoisonError},
};

use consilium_privacy::{
    accountant::ClippingNorm,
    keystream::MasterSecret,
    ledger::Grant,
    sampling::PoissonSampler,
    step::{ClippedSum, Clipping, NoisySteps, PrivateUpdate},
};
use consilium_proto::{Layout, Plan, plan};

use super::{Context, Examples, Gradients, TrainError, examples::Pick};
use crate::network::{Network, PerExample};

/// Takes the gradient of one record. Called from several threads.
pub(super) type Add<'a> = dyn Fn(&[f32]) -> Result<(), TrainError> + Sync + 'a;

/// The private steps of one round.
pub(super) struct Private {
    sampler: PoissonSampler,
    noisy: NoisySteps,
    clipping_norm: ClippingNorm,
    clipping: Clipping,
    /// Augmented views of a record whose gradients are averaged.
    views: u32,
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
            clipping: Clipping::Flat,
            views: 1,
            not_finite: 0,
        })
    }

    /// Clipped, and with as many views of a record, as the plan says.
    pub(super) fn as_planned(self, plan: &Plan, network: &Network) -> Self {
        Self {
            clipping: clipping(plan.privacy.clipping, network.layout()),
            views: plan.training.views,
            ..self
        }
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
        let sum = self.empty_sum(length)?;
        give(&|gradient| {
            let mut sum = sum.lock().unwrap_or_else(PoisonError::into_inner);
            Ok(sum.add(gradient)?)
        })?;
        self.noise(sum)
    }

    fn empty_sum(&self, length: usize) -> Result<Mutex<ClippedSum>, TrainError> {
        let sum = self.noisy.empty_sum(length, self.clipping_norm);
        let sum = sum.and_then(|sum| sum.clipped(self.clipping.clone()));
        Ok(Mutex::new(sum.map_err(TrainError::Plan)?))
    }

    fn noise(&mut self, sum: Mutex<ClippedSum>) -> Result<Vec<f32>, TrainError> {
        let sum = sum.into_inner().unwrap_or_else(PoisonError::into_inner);
        self.not_finite += u64::from(sum.not_finite());
        Ok(self.noisy.step(sum)?)
    }
}

impl Gradients for Private {
    fn next(&mut self, context: &Context, weights: &[f32]) -> Result<Vec<f32>, TrainError> {
        let picks = self.draw(context.examples);
        let sum = self.empty_sum(weights.len())?;
        if self.views > 1 {
            each_mean(context, weights, &picks, self.views, |gradient| {
                let mut sum = sum.lock().unwrap_or_else(PoisonError::into_inner);
                Ok(sum.add(gradient)?)
            })?;
            return self.noise(sum);
        }
        each_microbatch(context, weights, &picks, 1, |apart| {
            let mut sum = sum.lock().unwrap_or_else(PoisonError::into_inner);
            (0..apart.examples()).try_for_each(|example| Ok(sum.add_parts(&apart.parts(example))?))
        })?;
        self.noise(sum)
    }

    fn finish(self: Box<Self>, difference: Vec<f32>) -> Result<(PrivateUpdate, u64), TrainError> {
        Ok((self.noisy.finish(difference)?, self.not_finite))
    }
}

/// The clipping that a plan names, for the layers of a layout: tensors whose names differ in the last
/// word alone belong to one.
fn clipping(plan: plan::Clipping, layout: &Layout) -> Clipping {
    match plan {
        plan::Clipping::Flat => Clipping::Flat,
        plan::Clipping::Automatic { gamma } => Clipping::Automatic { gamma },
        plan::Clipping::PerLayer => {
            let mut ends = Vec::<usize>::new();
            let mut last = None;
            for (tensor, range) in layout.ranges() {
                let layer = tensor
                    .name
                    .rsplit_once('.')
                    .map_or(&*tensor.name, |(layer, _)| layer);
                if last == Some(layer) {
                    ends.pop();
                }
                ends.push(range.end);
                last = Some(layer);
            }
            Clipping::PerLayer { ends }
        }
    }
}

/// Computes the gradient of each picked record, written out, and hands it on, from several threads and
/// in no fixed order. The bits of a gradient depend on its record and the weights alone.
pub(super) fn each_gradient(
    context: &Context,
    weights: &[f32],
    picks: &[Pick],
    take: impl Fn(&[f32]) -> Result<(), TrainError> + Sync,
) -> Result<(), TrainError> {
    each_mean(context, weights, picks, 1, take)
}

/// As [`each_gradient`], with the mean over augmented views of each record.
fn each_mean(
    context: &Context,
    weights: &[f32],
    picks: &[Pick],
    views: u32,
    take: impl Fn(&[f32]) -> Result<(), TrainError> + Sync,
) -> Result<(), TrainError> {
    let room = || (vec![0.0; weights.len()], vec![0.0; weights.len()]);
    let room = Mutex::new(room());
    each_microbatch(context, weights, picks, views, |apart| {
        let mut room = room.lock().unwrap_or_else(PoisonError::into_inner);
        let (mean, view) = &mut *room;
        for record in 0..apart.examples() / views as usize {
            let first = record * views as usize;
            apart.write(first, mean);
            for at in first + 1..first + views as usize {
                apart.write(at, view);
                let both = mean.iter_mut().zip(&*view);
                both.for_each(|(mean, view)| *mean += view);
            }
            if views > 1 {
                mean.iter_mut().for_each(|mean| *mean /= views as f32);
            }
            take(mean)?;
        }
        Ok(())
    })
}

/// Computes the gradients of the picked records, a microbatch at a time, on several threads and in no
/// fixed order. All views of a record stand together.
fn each_microbatch(
    context: &Context,
    weights: &[f32],
    picks: &[Pick],
    views: u32,
    take: impl Fn(&PerExample) -> Result<(), TrainError> + Sync,
) -> Result<(), TrainError> {
    let ready = context.network.weights(weights)?;
    let size = (context.network.microbatch() / views as usize).max(1);
    context.microbatches(
        picks,
        [size, views as usize],
        || (),
        |(), batch| take(&context.network.per_example(&ready, &batch)?),
    )?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use consilium_proto::TensorSpec;

    use super::*;

    #[test]
    fn tensors_of_one_layer_are_clipped_together() {
        let tensor = |name: &str, parameters| TensorSpec {
            name: name.into(),
            shape: vec![parameters],
        };
        let names = [
            ("a.weight", 6),
            ("a.bias", 2),
            ("b.gn.weight", 3),
            ("b.gn.bias", 3),
            ("c", 1),
        ];
        let tensors = names.map(|(name, parameters)| tensor(name, parameters));
        let layout = Layout::new(tensors.to_vec()).expect("a small layout");
        let ends = vec![8, 14, 15];
        assert_eq!(
            clipping(plan::Clipping::PerLayer, &layout),
            Clipping::PerLayer { ends }
        );
    }
}

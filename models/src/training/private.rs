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
    step::{Clipping, NoisySteps, Part, PrivateUpdate, StepNoise},
};
use consilium_proto::{Layout, plan};

use super::{Context, Examples, Gradients, TrainError, examples::Pick};

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
}

/// Takes the gradient of one record. Called from several threads.
pub(super) type Add<'a> = dyn Fn(Gradient) -> Result<(), TrainError> + Sync + 'a;

/// The private steps of one round.
pub(super) struct Private {
    sampler: PoissonSampler,
    noisy: NoisySteps,
    clipping_norm: ClippingNorm,
    clipping: Clipping,
    /// Whether noise is drawn while gradients are computed, which pays where a device computes them.
    draws_ahead: bool,
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
        let (noisy, sampler) = NoisySteps::replay(entry, secret, batch_size)?;
        Ok(Self {
            sampler,
            noisy,
            clipping_norm,
            clipping: Clipping::Flat,
            draws_ahead: false,
            not_finite: 0,
        })
    }

    /// Clipped in another way.
    pub(super) fn clipped(self, clipping: Clipping) -> Self {
        Self { clipping, ..self }
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

    /// Clips and sums the gradients that `give` adds, adds noise and divides by the batch size.
    pub(super) fn release(
        &mut self,
        length: usize,
        give: impl FnOnce(&Add) -> Result<(), TrainError>,
    ) -> Result<Vec<f32>, TrainError> {
        let sum = self.noisy.empty_sum(length, self.clipping_norm);
        let sum = sum.and_then(|sum| sum.clipped(self.clipping.clone()));
        let sum = Mutex::new(sum.map_err(TrainError::Plan)?);
        let noise = self.noise_ahead(length)?;
        let (given, noise) = while_drawing(noise, || {
            give(&|gradient| {
                let mut sum = sum.lock().unwrap_or_else(PoisonError::into_inner);
                Ok(match gradient {
                    Gradient::Whole(values) => sum.add(values),
                    Gradient::Parts(parts) => sum.add_parts(parts),
                }?)
            })
        });
        given?;
        let sum = sum.into_inner().unwrap_or_else(PoisonError::into_inner);
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
        self.release(weights.len(), |add| {
            each_gradient(context, weights, &picks, add)
        })
    }

    fn finish(self: Box<Self>, difference: Vec<f32>) -> Result<(PrivateUpdate, u64), TrainError> {
        Ok((self.noisy.finish(difference)?, self.not_finite))
    }
}

/// The clipping that a plan names, for the layers of a layout: tensors whose names differ in the last
/// word alone belong to one.
pub(super) fn clipping(plan: plan::Clipping, layout: &Layout) -> Clipping {
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

/// Computes the gradient of each picked record, the mean over its views, and hands it on, from several
/// threads and in no fixed order. The bits of a gradient depend on its record and the weights alone.
pub(super) fn each_gradient(
    context: &Context,
    weights: &[f32],
    picks: &[Pick],
    take: impl Fn(Gradient) -> Result<(), TrainError> + Sync,
) -> Result<(), TrainError> {
    let ready = context.network.weights(weights)?;
    let views = context.views as usize;
    let size = (context.network.microbatch() / views).max(1);
    let room = || match views {
        1 => Vec::new(),
        _ => vec![0.0; 2 * weights.len()],
    };
    context.microbatches(picks, size, room, |room, batch| {
        let apart = context.network.per_example(&ready, &batch)?;
        for first in (0..apart.examples()).step_by(views) {
            if views == 1 {
                take(Gradient::Parts(&apart.parts(first)))?;
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
            take(Gradient::Whole(mean))?;
        }
        Ok(())
    })?;
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

//! Steps that protect nobody, for `privacy.mode = "none"`.

use std::num::NonZeroU32;

use consilium_privacy::{accountant::SamplingRate, keystream::NoRandomness, step::PrivateUpdate};
use ring::rand::{SecureRandom, SystemRandom};

use super::{Context, Examples, Gradients, TrainError, examples::Pick};
use crate::{
    profile::{Part, Watch},
    random::Random,
};

/// The plain steps of one round. Batches are drawn as in private training, so that the two differ
/// by clipping and noise alone.
pub(super) struct Plain {
    random: Random,
    rate: f64,
    batch_size: NonZeroU32,
    not_finite: u64,
}

impl Plain {
    pub(super) fn new(rate: SamplingRate, batch_size: NonZeroU32) -> Result<Self, TrainError> {
        // Not from the plan's seed, which never reaches sampling.
        let mut bytes = [0; 8];
        SystemRandom::new()
            .fill(&mut bytes)
            .map_err(|_| NoRandomness)?;
        let random = Random::new(&[u64::from_le_bytes(bytes)]);
        Ok(Self {
            random,
            rate: rate.value(),
            batch_size,
            not_finite: 0,
        })
    }

    /// One random record of each drawn patient.
    fn draw(&mut self, examples: &dyn Examples) -> Vec<Pick> {
        let mut picks = Vec::new();
        for patient in 0..examples.patients() {
            // 53 bits make an even number of 0 to 1.
            let coin = (self.random.bits() >> 11) as f64 / (1_u64 << 53) as f64;
            let records = examples.records_of(patient) as u64;
            if coin < self.rate && records > 0 {
                picks.push(Pick {
                    patient,
                    record: (self.random.bits() % records) as usize,
                });
            }
        }
        picks
    }
}

impl Gradients for Plain {
    fn next(&mut self, context: &Context, weights: &[f32]) -> Result<Vec<f32>, TrainError> {
        let picks = self.draw(context.examples);
        let ready = context.network.weights(weights)?;
        let share = picks.len().div_ceil(context.threads.get()).max(1);
        let views = context.views as usize;
        let size = (context.network.microbatch() / views).max(1).min(share);
        let start = || Ok((vec![0.0; weights.len()], vec![0.0; weights.len()], 0));
        let work = |hand: &mut (Vec<f32>, Vec<f32>, u64), batch| {
            let (sum, gradient, not_finite) = hand;
            gradient.fill(0.0);
            context.network.add_gradient(&ready, &batch, gradient)?;
            let mut watch = Watch::of(context.network.profile());
            if gradient.iter().all(|value| value.is_finite()) {
                sum.iter_mut()
                    .zip(gradient)
                    .for_each(|(sum, value)| *sum += *value);
            } else {
                *not_finite += (batch.len() / views) as u64;
            }
            watch.note(Part::Sum);
            Ok(())
        };
        let mut sum = vec![0.0; weights.len()];
        for (part, _, not_finite) in context.microbatches(&picks, size, start, work)? {
            sum.iter_mut()
                .zip(part)
                .for_each(|(sum, value)| *sum += value);
            self.not_finite += not_finite;
        }
        let batch_size = self.batch_size.get() as f32 * context.views as f32;
        sum.iter_mut().for_each(|value| *value /= batch_size);
        Ok(sum)
    }

    fn finish(self: Box<Self>, difference: Vec<f32>) -> Result<(PrivateUpdate, u64), TrainError> {
        Ok((PrivateUpdate::without_privacy(difference)?, self.not_finite))
    }
}

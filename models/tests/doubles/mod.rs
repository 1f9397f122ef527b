//! A mechanism of its own, sound but for the flaw it is given.

use std::num::NonZeroU32;

use consilium_models::{
    random::Random,
    training::{
        Examples, TrainError,
        audit::{Claim, Gradient, Mechanism, Repeated},
    },
};
use consilium_privacy::{
    accountant::{Charge, ClippingNorm},
    step::PrivateUpdate,
};

/// Records of a microbatch.
const MICROBATCH: usize = 50;

/// What is wrong with a double.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Flaw {
    /// Nothing.
    None,
    /// Sums are released as they are.
    NoNoise,
    /// The noise has half the deviation.
    HalfNoise,
    /// Each of k microbatches gets 1/k of the noise's deviation, which adds up to 1/√k.
    NoisePerMicrobatch,
    /// Batches are shuffled, and all of one size.
    FixedBatches,
    /// One batch is drawn, and serves in all steps.
    SameBatch,
    /// Gradients are summed as they are.
    NoClipping,
    /// Every third step has the noise of the first.
    NoiseReused,
    /// The last step of a round is left out of the charge.
    StepNotCharged,
}

pub(crate) struct Double {
    flaw: Flaw,
    q: f64,
    sigma: f64,
    norm: f64,
    batch_size: f64,
    charge: Charge,
    clipping_norm: ClippingNorm,
    coins: Random,
    round: u64,
    step: u64,
}

impl Double {
    pub(crate) fn new(
        flaw: Flaw,
        round: u32,
        claim: &Claim,
        batch_size: NonZeroU32,
        steps: u32,
    ) -> Self {
        let charge = Charge::SampledGaussian {
            q: claim.sampling_rate(),
            sigma: claim.noise_multiplier(),
            steps: steps - u32::from(flaw == Flaw::StepNotCharged),
        };
        Self {
            flaw,
            q: claim.sampling_rate().value(),
            sigma: claim.noise_multiplier().value(),
            norm: claim.clipping_norm().value(),
            batch_size: f64::from(batch_size.get()),
            charge,
            clipping_norm: claim.clipping_norm(),
            coins: Random::new(&[31, u64::from(round)]),
            round: u64::from(round),
            step: 0,
        }
    }

    fn batch(&mut self, units: usize) -> Vec<usize> {
        let coins = match self.flaw {
            Flaw::SameBatch => &mut Random::new(&[32]),
            _ => &mut self.coins,
        };
        if self.flaw == Flaw::FixedBatches {
            let mut order: Vec<(u64, usize)> = (0..units).map(|at| (coins.bits(), at)).collect();
            order.sort_unstable();
            let size = (self.q * units as f64).round() as usize;
            return order[..size].iter().map(|&(_, at)| at).collect();
        }
        let q = self.q as f32;
        (0..units).filter(|_| coins.unit() < q).collect()
    }

    /// Deviation of the noise over σC.
    fn share(&self, records: usize) -> f64 {
        match self.flaw {
            Flaw::NoNoise => 0.0,
            Flaw::HalfNoise => 0.5,
            Flaw::NoisePerMicrobatch => 1.0 / (records.div_ceil(MICROBATCH) as f64).sqrt(),
            _ => 1.0,
        }
    }

    fn noise(&self) -> Random {
        match self.flaw {
            Flaw::NoiseReused if self.step.is_multiple_of(3) => Random::new(&[33]),
            _ => Random::new(&[34, self.round, self.step]),
        }
    }
}

/// Of one thread: a sum, and how many records are in it.
pub(crate) struct Sum {
    values: Vec<f64>,
    records: usize,
}

impl Mechanism for Double {
    type Sum = Sum;

    fn charge(&self) -> Charge {
        self.charge
    }

    fn clipping_norm(&self) -> ClippingNorm {
        self.clipping_norm
    }

    fn draw(&mut self, examples: &dyn Examples) -> Vec<(usize, usize)> {
        let batch = self.batch(examples.patients());
        batch.into_iter().map(|patient| (patient, 0)).collect()
    }

    fn sum(&self, length: usize) -> Result<Sum, TrainError> {
        Ok(Sum {
            values: vec![0.0; length],
            records: 0,
        })
    }

    fn add(&self, sum: &mut Sum, gradient: Gradient) -> Result<(), TrainError> {
        // A little below the norm, as the product has it.
        let clip_to = self.norm * (1.0 - 1.0 / 1024.0);
        let mut values = vec![0.0; sum.values.len()];
        gradient.write(&mut values);
        let squares = values.iter().map(|&x| f64::from(x).powi(2));
        let factor = match self.flaw {
            Flaw::NoClipping => 1.0,
            _ => (clip_to / squares.sum::<f64>().sqrt()).min(1.0),
        };
        sum.records += 1;
        for (sum, value) in sum.values.iter_mut().zip(values) {
            *sum += factor * f64::from(value);
        }
        Ok(())
    }

    fn release(&mut self, length: usize, sums: Vec<Sum>) -> Result<Vec<f32>, TrainError> {
        self.step += 1;
        let records = sums.iter().map(|sum| sum.records).sum();
        let deviation = self.share(records) * self.sigma * self.norm;
        let mut noise = self.noise();
        let released = (0..length).map(|at| {
            let sum: f64 = sums.iter().map(|sum| sum.values[at]).sum();
            ((sum + deviation * f64::from(noise.normal())) / self.batch_size) as f32
        });
        Ok(released.collect())
    }
}

impl Repeated for Double {
    fn digest(self, difference: Vec<f32>) -> Result<[u8; 32], TrainError> {
        Ok(PrivateUpdate::without_privacy(difference)?.digest())
    }
}

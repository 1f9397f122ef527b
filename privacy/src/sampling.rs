//! Which privacy units enter a batch: each by a coin of its own.
//!
//! The accountant's amplification holds for **Poisson sampling** and for nothing else: shuffled or
//! fixed-size batches cost about twice as much (Chua et al. 2024, arXiv 2403.17673). So a batch
//! has no fixed size, may be empty, and there are no epochs.

use std::num::NonZeroUsize;

use crate::{
    keystream::{Keystream, MasterSecret, Purpose, StepContext},
    ledger::{Grant, GrantError},
};

/// Draws the batches of one grant, at the rate that was charged.
pub struct PoissonSampler {
    secret: MasterSecret,
    context: StepContext,
    /// A coin succeeds when its 64 bits are below this: `⌊q · 2⁶⁴⌋`. The rate is thus never above
    /// the one charged, and below it by less than 2⁻⁶⁴; a lower rate is never less private.
    threshold: u128,
    coins: Keystream,
}

impl PoissonSampler {
    /// A sampler for the steps that `grant` pays for.
    ///
    /// # Errors
    /// The grant pays for something other than training, or for another secret.
    pub fn new(grant: &Grant, secret: &MasterSecret) -> Result<Self, GrantError> {
        let training = grant.training_with(secret)?;
        // Exact: a product with a power of two only changes the exponent.
        let threshold = (training.q.value() * 2_f64.powi(64)) as u128;
        let context = grant.step_context(0);
        let coins = secret.keystream(Purpose::Sampling, &context);
        Ok(Self {
            secret: secret.duplicate(),
            context,
            threshold,
            coins,
        })
    }

    /// The batch of the next step: positions of the drawn units among `units`, in ascending order.
    /// Often none, when `units` times the sampling rate is small; the step is taken all the same.
    pub fn draw(&mut self, units: usize) -> Vec<usize> {
        self.context.step += 1;
        self.coins = self.secret.keystream(Purpose::Sampling, &self.context);
        (0..units)
            .filter(|_| u128::from(self.coins.word()) < self.threshold)
            .collect()
    }

    /// One of a unit's records, each as likely as any other. A unit contributes one record to a
    /// step, so that a guarantee for patients costs no more than one for single records.
    pub fn pick(&mut self, records: NonZeroUsize) -> usize {
        self.coins.below(records.get() as u64) as usize
    }
}

impl std::fmt::Debug for PoissonSampler {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PoissonSampler(step {})", self.context.step)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::test_grant;

    fn sampler(q: f64) -> PoissonSampler {
        let secret = MasterSecret::fixed([3; 32]);
        PoissonSampler::new(&test_grant(q, 1.0, 10, &secret), &secret).expect("a training grant")
    }

    /// Fixed-size batches have variance 0; shuffled ones as well. False alarms: the key is fixed;
    /// over keys, mean and variance are 5 standard errors wide.
    #[test]
    fn batch_sizes_vary_as_independent_coins_do() {
        let (units, q, batches) = (500_usize, 0.1, 2000_usize);
        let mut sampler = sampler(q);
        let sizes: Vec<f64> = (0..batches)
            .map(|_| sampler.draw(units).len() as f64)
            .collect();
        let mean = sizes.iter().sum::<f64>() / batches as f64;
        let variance = sizes.iter().map(|s| (s - mean).powi(2)).sum::<f64>() / batches as f64;
        let expected = units as f64 * q * (1.0 - q);
        assert!(
            (mean - 50.0).abs() < 5.0 * (expected / batches as f64).sqrt(),
            "{mean}"
        );
        let error = expected * (2.0 / batches as f64).sqrt();
        assert!(
            (variance - expected).abs() < 5.0 * error,
            "{variance} for {expected}"
        );
    }

    #[test]
    fn every_unit_is_drawn_at_the_same_rate_and_batches_differ() {
        let mut sampler = sampler(0.25);
        let mut drawn = [0_u32; 20];
        let (mut batches, mut all) = (std::collections::HashSet::new(), 0);
        for _ in 0..4000 {
            let batch = sampler.draw(20);
            batch.iter().for_each(|&unit| drawn[unit] += 1);
            assert!(batch.is_sorted());
            all += usize::from(batches.insert(batch));
        }
        assert!(all > 3500, "only {all} different batches");
        // 5 deviations: sqrt(4000 · 0.25 · 0.75) = 27.4.
        assert!(
            drawn.iter().all(|&count| count.abs_diff(1000) < 137),
            "{drawn:?}"
        );
    }

    #[test]
    fn at_rate_one_everybody_enters_and_nobody_is_no_batch() {
        assert_eq!(sampler(1.0).draw(4), [0, 1, 2, 3]);
        assert!(sampler(1.0).draw(0).is_empty());
        assert!(sampler(1e-9).draw(100).is_empty());
    }

    #[test]
    fn each_record_of_a_unit_is_as_likely_as_any_other() {
        let mut sampler = sampler(0.5);
        let mut picked = [0_u32; 3];
        let records = NonZeroUsize::new(3).expect("three");
        (0..9000).for_each(|_| picked[sampler.pick(records)] += 1);
        assert!(
            picked.iter().all(|&count| count.abs_diff(3000) < 225),
            "{picked:?}"
        );
    }
}

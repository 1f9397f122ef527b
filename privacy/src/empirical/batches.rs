//! Whether batches were drawn as the accountant's amplification needs it: by independent coins.

use std::collections::HashSet;

use super::{Irregularity, UNLIKELY, chi_squared_errors};
use crate::accountant::SamplingRate;

/// Fewest expected records, and records left out, of all batches together with which a figure is
/// judged: the normal law then serves.
const FEWEST: f64 = 25.0;

/// Batches of one audit, compared with Poisson sampling.
///
/// Three figures: how many records were drawn; how much batch sizes vary (those of fixed-size or
/// shuffled batches do not: eight steps show it); how many records successive batches share (a
/// batch that comes again shares all).
#[derive(Debug, Clone)]
pub struct Batches {
    q: f64,
    batches: f64,
    drawn: f64,
    expected: f64,
    variance: f64,
    /// Sum of squared distances from the expected size, each over its variance.
    spread: f64,
    /// Least expected variance of a batch's size.
    least_variance: f64,
    shared: f64,
    expected_shared: f64,
    /// The batch before, if it has no partner yet: pairs do not overlap, so they are independent.
    before: Option<HashSet<usize>>,
}

impl Batches {
    /// No batch yet, of those drawn at this rate.
    pub fn new(q: SamplingRate) -> Self {
        Self {
            q: q.value(),
            batches: 0.0,
            drawn: 0.0,
            expected: 0.0,
            variance: 0.0,
            spread: 0.0,
            least_variance: f64::INFINITY,
            shared: 0.0,
            expected_shared: 0.0,
            before: None,
        }
    }

    /// Adds the next batch: which of `units` were drawn.
    pub fn add(&mut self, units: usize, drawn: impl IntoIterator<Item = usize>) {
        let (units, q) = (units as f64, self.q);
        let drawn: HashSet<usize> = drawn.into_iter().collect();
        let size = drawn.len() as f64;
        let (expected, variance) = (units * q, units * q * (1.0 - q));
        self.batches += 1.0;
        self.drawn += size;
        self.expected += expected;
        self.variance += variance;
        self.least_variance = self.least_variance.min(variance);
        if variance > 0.0 {
            self.spread += (size - expected).powi(2) / variance;
        }
        match self.before.take() {
            Some(before) => {
                self.shared += before.intersection(&drawn).count() as f64;
                self.expected_shared += units * q * q;
            }
            None => self.before = Some(drawn),
        }
    }

    /// Records drawn over records expected; none before the first.
    pub fn rate_ratio(&self) -> Option<f64> {
        (self.expected > 0.0).then(|| self.drawn / self.expected)
    }

    /// Variance of batch sizes over that of independent coins; none where batches are too small to
    /// judge.
    pub fn spread_ratio(&self) -> Option<f64> {
        (self.batches > 0.0 && self.least_variance >= FEWEST).then(|| self.spread / self.batches)
    }

    /// Records that successive batches share, over those of independent batches; none where too few
    /// are expected to judge.
    pub fn overlap_ratio(&self) -> Option<f64> {
        (self.expected_shared * (1.0 - self.q * self.q) >= FEWEST)
            .then(|| self.shared / self.expected_shared)
    }

    /// What is not as Poisson sampling makes it. Sound batches are called irregular less than once
    /// in 100 000 audits.
    pub fn irregularities(&self) -> Vec<Irregularity> {
        let far = |errors: f64| errors.abs() > UNLIKELY;
        let rate = self.rate_ratio().and_then(|ratio| {
            let errors = match self.variance > 0.0 {
                true => (self.drawn - self.expected) / self.variance.sqrt(),
                // Everybody enters at rate 1: one missing is no chance.
                false if self.drawn < self.expected => f64::NEG_INFINITY,
                false => 0.0,
            };
            let is_judged = self.variance >= FEWEST || self.variance == 0.0;
            (is_judged && far(errors)).then_some(Irregularity::Rate { ratio, errors })
        });
        let spread = self.spread_ratio().and_then(|ratio| {
            let errors = chi_squared_errors(ratio, self.batches);
            far(errors).then_some(Irregularity::Spread { ratio, errors })
        });
        let overlap = self.overlap_ratio().and_then(|ratio| {
            let variance = self.expected_shared * (1.0 - self.q * self.q);
            let errors = (self.shared - self.expected_shared) / variance.sqrt();
            far(errors).then_some(Irregularity::Overlap { ratio, errors })
        });
        [rate, spread, overlap].into_iter().flatten().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{keystream::MasterSecret, ledger::test_grant, sampling::PoissonSampler};

    const UNITS: usize = 600;
    const STEPS: usize = 12;

    fn batches(q: f64, mut draw: impl FnMut(usize) -> Vec<usize>) -> Vec<Irregularity> {
        let mut batches = Batches::new(q.try_into().expect("within range"));
        (0..STEPS).for_each(|step| batches.add(UNITS, draw(step)));
        batches.irregularities()
    }

    fn sampler(q: f64) -> PoissonSampler {
        let secret = MasterSecret::fixed([3; 32]);
        PoissonSampler::new(&test_grant(q, 1.0, 1000, &secret), &secret).expect("a training grant")
    }

    #[test]
    fn the_sampler_of_this_crate_is_regular_at_every_rate() {
        for q in [0.001, 0.02, 0.2, 0.9, 1.0] {
            let mut sampler = sampler(q);
            assert_eq!(batches(q, |_| sampler.draw(UNITS)), [], "{q}");
        }
    }

    #[test]
    fn batches_of_fixed_size_are_found() {
        // A window that moves on: 120 of 600, as shuffled epochs give.
        let found = batches(0.2, |step| {
            (0..120).map(|i| (120 * step + i) % UNITS).collect()
        });
        let spread = |found: &Irregularity| matches!(found, Irregularity::Spread { ratio, .. } if *ratio < 0.01);
        let overlap = |found: &Irregularity| matches!(found, Irregularity::Overlap { ratio, .. } if *ratio < 0.01);
        assert!(
            found.iter().any(spread) && found.iter().any(overlap),
            "{found:?}"
        );
    }

    #[test]
    fn the_same_batch_again_and_again_is_found() {
        let same = sampler(0.2).draw(UNITS);
        let found = batches(0.2, |_| same.clone());
        let overlap = |found: &Irregularity| matches!(found, Irregularity::Overlap { ratio, .. } if *ratio > 3.0);
        assert!(found.iter().any(overlap), "{found:?}");
    }

    #[test]
    fn another_rate_than_charged_is_found() {
        let mut often = sampler(0.25);
        let found = batches(0.2, |_| often.draw(UNITS));
        assert!(matches!(found[0], Irregularity::Rate { ratio, .. } if ratio > 1.1));
        let found = batches(1.0, |_| (1..UNITS).collect());
        assert!(matches!(found[0], Irregularity::Rate { .. }), "{found:?}");
    }
}

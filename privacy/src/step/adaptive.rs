//! A clipping norm that follows a quantile of the gradients' norms (Andrew et al. 2021, arXiv
//! 1905.03871).
//!
//! **Claim.** It costs nothing beside the steps: one record still moves a step's sum by at most C,
//! and every coordinate of the sum gets noise of deviation σC, so the step is the Gaussian mechanism
//! that was charged. What a record adds has one coordinate more: its gradient, brought to norm
//! √(1 - β²)·C' at most, and a bit, +βC' if the gradient was added as it is, -βC' if it had to be
//! scaled down. Whatever the gradient, the norm of the two together is at most C', as that of a
//! record without a bit. One charge pays for both; C is post-processing of noisy sums.
//!
//! With β = σ/(2σ_b), noise of deviation σC on the bits' coordinate is noise of deviation σ_b on a
//! count of bits ±1/2, and the gradient's noise over the norm that it is clipped to is
//! σ/√(1 - β²) = (σ⁻² - (2σ_b)⁻²)^(-1/2), as in the paper; both are larger by C/C' = 1 + 2⁻¹⁰ here.
//!
//! After each step C ← C·exp(-η(b - γ)), where b is the noisy sum of bits ±1/2 over the public batch
//! size B, plus 1/2. At γ = 1/2 a batch that is larger or smaller than B changes where C comes to rest
//! by nothing; at another γ it comes to rest where the share of records kept as they are is
//! 1/2 + (γ - 1/2)·B/n, for batches of n on average. A gradient that is not finite adds no bit.

use super::Clipping;
use crate::{
    OutOfRange,
    accountant::{ClippingNorm, NoiseMultiplier},
};

/// Least and largest norm that C may move to.
const NORMS: [f64; 2] = [1e-6, 1e6];

/// Largest σ_b: a bit is at least 2¹¹ units of the finest lattice.
const MOST_COUNT_NOISE: f64 = (1 << 20) as f64;

/// How a clipping norm moves.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Adaptive {
    quantile: f64,
    rate: f64,
    count_noise: f64,
}

impl Adaptive {
    /// The share of records whose gradients are to be kept as they are (γ: above 0, below 1), how
    /// fast C moves there (η: above 0, at most 1), and the deviation of the noise on the number of
    /// records kept (σ_b: above 0, at most 2²⁰).
    ///
    /// # Errors
    /// A number out of range.
    pub fn new(quantile: f64, rate: f64, count_noise: f64) -> Result<Self, OutOfRange> {
        // Comparisons are false for NaN, so it never passes.
        if !(quantile > 0.0 && quantile < 1.0) {
            let allowed = "above 0 and below 1";
            return Err(OutOfRange::new("quantile of clipping", allowed, quantile));
        }
        if !(rate > 0.0 && rate <= 1.0) {
            let allowed = "above 0 and at most 1";
            return Err(OutOfRange::new("rate of clipping", allowed, rate));
        }
        if !(count_noise > 0.0 && count_noise <= MOST_COUNT_NOISE) {
            let allowed = "above 0 and at most 2^20";
            return Err(OutOfRange::new(
                "count noise of clipping",
                allowed,
                count_noise,
            ));
        }
        Ok(Self {
            quantile,
            rate,
            count_noise,
        })
    }

    /// Refuses a noise multiplier that leaves no room for the gradient: β would be 1 or more.
    ///
    /// # Errors
    /// σ is not below 2σ_b.
    pub fn check(&self, sigma: NoiseMultiplier) -> Result<(), OutOfRange> {
        if self.bit_share(sigma) < 1.0 {
            return Ok(());
        }
        let allowed = "above half the noise multiplier: raise `privacy.clipping.count_noise`";
        let found = format!("{} with noise multiplier {sigma}", self.count_noise);
        Err(OutOfRange::new(
            "noise on the count of adaptive clipping",
            allowed,
            found,
        ))
    }

    /// β: what a bit is, in units of C'.
    pub(super) fn bit_share(&self, sigma: NoiseMultiplier) -> f64 {
        sigma.value() / (2.0 * self.count_noise)
    }

    /// C after a step that kept this share of records as they are, by its noisy count: within 10⁻⁶ to
    /// 10⁶.
    pub(super) fn moved(&self, norm: ClippingNorm, kept: f64) -> ClippingNorm {
        let [least, most] = NORMS;
        let moved = norm.value() * (-self.rate * (kept - self.quantile)).exp();
        // What is no number moves nothing.
        ClippingNorm::try_from(moved.clamp(least, most)).unwrap_or(norm)
    }
}

impl Clipping {
    /// Norms that a record's gradient and its bit may have, in units of C': their squares add up to 1.
    /// Only adaptive clipping has a bit.
    pub fn shares(&self, sigma: NoiseMultiplier) -> [f64; 2] {
        match self {
            Self::Adaptive(adaptive) => {
                let bit = adaptive.bit_share(sigma);
                [((1.0 - bit) * (1.0 + bit)).sqrt(), bit]
            }
            Self::Flat | Self::Automatic { .. } | Self::PerLayer { .. } => [1.0, 0.0],
        }
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;
    use crate::{keystream::MasterSecret, ledger::test_grant, step::NoisySteps};

    const SOUND: &str = "within range";

    fn norm(c: f64) -> ClippingNorm {
        c.try_into().expect(SOUND)
    }

    fn noisy(sigma: f64, paid: u32, batch_size: u32, c: f64, adaptive: Adaptive) -> NoisySteps {
        let secret = MasterSecret::fixed([7; 32]);
        let grant = test_grant(0.1, sigma, paid, &secret);
        let batch_size = NonZeroU32::new(batch_size).expect(SOUND);
        let steps = NoisySteps::new(grant, &secret, batch_size, norm(c)).expect("training");
        let clipped = steps.clipped(Clipping::Adaptive(adaptive));
        clipped.expect("enough noise on the count")
    }

    #[test]
    fn numbers_that_mean_nothing_are_refused() {
        for (quantile, rate, count_noise) in [
            (0.0, 0.2, 1.0),
            (1.0, 0.2, 1.0),
            (f64::NAN, 0.2, 1.0),
            (0.5, 0.0, 1.0),
            (0.5, 1.1, 1.0),
            (0.5, 0.2, 0.0),
            (0.5, 0.2, f64::INFINITY),
        ] {
            assert!(Adaptive::new(quantile, rate, count_noise).is_err());
        }
        let adaptive = Adaptive::new(0.5, 0.2, 1.0).expect(SOUND);
        assert!(adaptive.check(1.99.try_into().expect(SOUND)).is_ok());
        assert!(adaptive.check(2.0.try_into().expect(SOUND)).is_err());
    }

    #[test]
    fn the_norm_moves_as_computed_by_hand_and_stays_in_its_range() {
        let adaptive = Adaptive::new(0.25, 0.5, 1.0).expect(SOUND);
        // exp(-0.5 · (0.65 - 0.25)).
        let moved = adaptive.moved(norm(2.0), 0.65).value();
        assert!(
            (moved - 2.0 * 0.818_730_753_077_981_8).abs() < 1e-15,
            "{moved}"
        );
        assert_eq!(adaptive.moved(norm(2.0), 0.25), norm(2.0));
        assert_eq!(adaptive.moved(norm(2.0), 1e9), norm(1e-6));
        assert_eq!(adaptive.moved(norm(2.0), -1e9), norm(1e6));
        assert_eq!(adaptive.moved(norm(2.0), f64::NAN), norm(2.0));
    }

    /// On empty batches the norm moves by noise alone, of deviation η·σ_b/B in its logarithm; and the
    /// gradient's noise over the norm that gradients are clipped to is (σ⁻² - (2σ_b)⁻²)^(-1/2). Both
    /// are larger by the margin of rounding. Within five standard errors; the secret is fixed.
    #[test]
    fn count_and_gradient_have_the_noise_of_the_formula() {
        let (sigma, count_noise, batch_size, rate) = (1.5, 2.0, 40, 0.1);
        let adaptive = Adaptive::new(0.5, rate, count_noise).expect(SOUND);
        let (steps, length) = (2000, 50);
        let mut noisy = noisy(sigma, steps, batch_size, 1.0, adaptive);
        let beta: f64 = sigma / (2.0 * count_noise);
        let (mut moves, mut values) = (0.0, 0.0);
        for _ in 0..steps {
            let before = noisy.clipping_norm().value();
            let released = noisy
                .step(noisy.empty_sum(length).expect("sound"))
                .expect("paid");
            let moved = (noisy.clipping_norm().value() / before).ln() / rate;
            moves += (moved * f64::from(batch_size)).powi(2);
            let clip_to = before * (1.0 - beta * beta).sqrt() / f64::from(batch_size);
            let noise = released.iter().map(|&x| (f64::from(x) / clip_to).powi(2));
            values += noise.sum::<f64>();
        }
        let margin = (1.0 - 1.0 / 1024.0_f64).powi(-2);
        let close = |sum: f64, count: f64, expected: f64| {
            let (variance, error) = (sum / count, (2.0 / count).sqrt());
            assert!(
                (variance / expected - 1.0).abs() < 5.0 * error,
                "{variance} for {expected}"
            );
        };
        close(moves, f64::from(steps), count_noise.powi(2) * margin);
        let gradient = 1.0 / (sigma.powi(-2) - (2.0 * count_noise).powi(-2));
        close(values, f64::from(steps) * length as f64, gradient);
    }

    /// Norms 0.02, 0.04 … 4 have the median 2. With batches of B the count's noise moves C by
    /// η·σ_b/B = 1 % a step, which leaves it within some percent.
    #[test]
    fn the_norm_that_gradients_are_clipped_to_finds_the_quantile() {
        let batch: Vec<f32> = (1..=200).map(|at| at as f32 / 50.0).collect();
        for (quantile, expected) in [(0.5, 2.0), (0.8, 3.2)] {
            for start in [0.01, 100.0] {
                let adaptive = Adaptive::new(quantile, 0.2, 10.0).expect(SOUND);
                let mut noisy = noisy(1.0, 300, 200, start, adaptive);
                let mut late = 0.0;
                for step in 0..300 {
                    let mut sum = noisy.empty_sum(3).expect("sound");
                    let gradients = batch.iter().map(|&norm| [0.0, -norm, 0.0]);
                    gradients.for_each(|gradient| sum.add(&gradient).expect("fits"));
                    noisy.step(sum).expect("paid");
                    if step >= 200 {
                        late += noisy.clipping_norm().value() / 100.0;
                    }
                }
                let [gradient, _] =
                    Clipping::Adaptive(adaptive).shares(1.0.try_into().expect(SOUND));
                let found = late * gradient * (1.0 - 1.0 / 1024.0);
                assert!(
                    (found / expected - 1.0).abs() < 0.05,
                    "{found} for {expected}"
                );
            }
        }
    }

    #[test]
    fn a_record_that_is_not_finite_moves_nothing() {
        let adaptive = Adaptive::new(0.5, 0.2, 10.0).expect(SOUND);
        let after = |records: usize| {
            let mut noisy = noisy(1.0, 1, 20, 1.0, adaptive);
            let mut sum = noisy.empty_sum(2).expect("sound");
            (0..records).for_each(|_| sum.add(&[f32::NAN, 1.0]).expect("fits"));
            noisy.step(sum).expect("paid");
            noisy.clipping_norm()
        };
        assert_eq!(after(0), after(15));
    }
}

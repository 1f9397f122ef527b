//! The exact discrete Gaussian, by rejection, in integer arithmetic alone.
//!
//! Floating-point Gaussians leak through the gaps between representable numbers (Mironov 2012; Jin
//! et al. 2022, arXiv 2112.05307). Here every value of a sum is an integer on a lattice, and the
//! noise is an integer whose distribution is the discrete Gaussian `D(y) ∝ e^(-y²/(2·4^k))` with no
//! approximation at all, given uniform bits (Canonne, Kamath, Steinke 2020, arXiv 2004.00010,
//! algorithms 1 to 3). The deviation is a power of two, so each probability below is a product of
//! dyadic fractions and of 1/j.
//!
//! **Why its accounting is that of the continuous Gaussian.** For integer shifts Δ, integer α and
//! Poisson sampling, the moment `E[(1-q+q e^L)^α]` is the same finite sum for both, because the
//! mass of the lattice does not change when it is shifted by integers. Between integer orders the
//! lattice sum is a trapezoid rule whose error is about `e^(-2π²·2^k·σ)`: zero at k = 29.
//!
//! Draws take varying time. That tells nothing to anyone outside the hospital, who sees only when
//! a whole update arrives.

use crate::keystream::Keystream;

/// Standard deviation of the noise in lattice units, 2²⁹: so fine that rounding to the lattice
/// costs nothing, so coarse that sums fit `i64` with room to spare.
pub const LATTICE_DEVIATION: i64 = 1 << LATTICE.k;

/// The sampler with deviation [`LATTICE_DEVIATION`].
pub(crate) const LATTICE: DiscreteGaussian = DiscreteGaussian { k: 29 };

/// A discrete Gaussian with deviation 2^k, k from 1 to 29.
#[derive(Debug, Clone, Copy)]
pub(crate) struct DiscreteGaussian {
    k: u32,
}

impl DiscreteGaussian {
    /// Algorithm 3 with t = σ = 2^k: a discrete Laplace of scale σ, kept with probability
    /// `exp(-(|y| - σ)²/(2σ²))`, which is 0.76 on average.
    pub(crate) fn draw(self, bits: &mut Keystream) -> i64 {
        loop {
            let y = self.laplace(bits);
            let distance = u128::from(y.unsigned_abs().abs_diff(1 << self.k));
            if exp_of_minus(bits, distance * distance, 2 * self.k + 1) {
                return y;
            }
        }
    }

    /// Algorithm 2 with t = 2^k, s = 1: `P(y) ∝ e^(-|y|/2^k)`.
    fn laplace(self, bits: &mut Keystream) -> i64 {
        loop {
            let low = uniform(bits, self.k);
            if !exp_of_minus_fraction(bits, low, self.k) {
                continue;
            }
            // Reaches 2^33, where the shift would overflow, with probability e^-2^33.
            let mut high = 0_i64;
            while exp_of_minus_one(bits) {
                high += 1;
            }
            let magnitude = low as i64 + (high << self.k);
            let negative = bits.bits(1) == 1;
            if negative && magnitude == 0 {
                continue; // or 0 would come twice as often as it should
            }
            return if negative { -magnitude } else { magnitude };
        }
    }
}

/// True with probability `exp(-numerator / 2^width)`, width up to 63 (algorithm 1).
fn exp_of_minus(bits: &mut Keystream, numerator: u128, width: u32) -> bool {
    let whole = numerator >> width;
    let fraction = (numerator & ((1 << width) - 1)) as u64;
    (0..whole).all(|_| exp_of_minus_one(bits)) && exp_of_minus_fraction(bits, fraction, width)
}

/// True with probability `exp(-γ)`, `γ = numerator / 2^width < 1`: the first j for which a coin of
/// chance γ/j fails is odd with probability 1 - γ + γ²/2! - γ³/3! + …
fn exp_of_minus_fraction(bits: &mut Keystream, numerator: u64, width: u32) -> bool {
    let mut j = 1;
    while one_in(bits, j) && is_below(bits, numerator, width) {
        j += 1;
    }
    j % 2 == 1
}

/// True with probability `1/e`.
fn exp_of_minus_one(bits: &mut Keystream) -> bool {
    let mut j = 1;
    while one_in(bits, j) {
        j += 1;
    }
    j % 2 == 1
}

/// True with probability `1/j`.
fn one_in(bits: &mut Keystream, j: u32) -> bool {
    match j {
        1 => true,
        2 => bits.bits(1) == 0,
        3..=255 => loop {
            // The multiples of j below 2^16; a draw above them would favour small remainders.
            let (draw, limit) = (bits.bits(16), (1 << 16) / j * j);
            if draw < limit {
                return draw.is_multiple_of(j);
            }
        },
        // One time in 255!
        _ => bits.below(u64::from(j)) == 0,
    }
}

/// True with probability `numerator / 2^width`: compares as many bits as it takes.
fn is_below(bits: &mut Keystream, numerator: u64, mut width: u32) -> bool {
    while width > 0 {
        let take = width.min(16);
        width -= take;
        let (theirs, ours) = (
            (numerator >> width) as u32 & ((1 << take) - 1),
            bits.bits(take),
        );
        if ours != theirs {
            return ours < theirs;
        }
    }
    false
}

/// A uniform number of `width` bits.
fn uniform(bits: &mut Keystream, mut width: u32) -> u64 {
    let mut value = 0;
    while width > 0 {
        let take = width.min(16);
        width -= take;
        value = value << take | u64::from(bits.bits(take));
    }
    value
}

#[cfg(test)]
mod tests {
    use opendp::traits::samplers::sample_discrete_gaussian;

    use super::*;

    /// Upper 10^-6 quantile of χ² with `freedom` degrees, by Wilson and Hilferty's cube: each test
    /// below would fail once in a million keys, and the keys are fixed.
    fn limit(freedom: usize) -> f64 {
        let (n, z) = (freedom as f64, 4.753);
        n * (1.0 - 2.0 / (9.0 * n) + z * (2.0 / (9.0 * n)).sqrt()).powi(3)
    }

    fn chi_squared(counts: &[u64], probabilities: &[f64]) -> f64 {
        let draws = counts.iter().sum::<u64>() as f64;
        let deviations = counts.iter().zip(probabilities).map(|(&count, p)| {
            assert!(p * draws > 5.0, "a cell expects too few draws");
            (count as f64 - p * draws).powi(2) / (p * draws)
        });
        deviations.sum()
    }

    /// Exact probabilities of -reach, …, reach, the tails joined to the ends.
    fn probabilities(k: u32, reach: i64) -> Vec<f64> {
        let deviation = f64::from(1 << k);
        let weight = |y: i64| (-(y as f64 / deviation).powi(2) / 2.0).exp();
        let far = 40 << k;
        let total: f64 = (-far..=far).map(weight).sum();
        let mut cells = vec![0.0; 2 * reach as usize + 1];
        for y in -far..=far {
            cells[(y.clamp(-reach, reach) + reach) as usize] += weight(y) / total;
        }
        cells
    }

    fn histogram(reach: i64, draws: impl Iterator<Item = i64>) -> Vec<u64> {
        let mut counts = vec![0; 2 * reach as usize + 1];
        draws.for_each(|y| counts[(y.clamp(-reach, reach) + reach) as usize] += 1);
        counts
    }

    #[test]
    fn small_deviations_have_the_exact_distribution() {
        for (k, key) in [(1, 11), (2, 12), (3, 13), (5, 14)] {
            let (mut bits, reach) = (Keystream::new(&[key; 32]), 3 << k);
            let sampler = DiscreteGaussian { k };
            let counts = histogram(reach, (0..400_000).map(|_| sampler.draw(&mut bits)));
            let statistic = chi_squared(&counts, &probabilities(k, reach));
            assert!(statistic < limit(counts.len() - 1), "k = {k}: {statistic}");
        }
    }

    #[test]
    fn the_lattice_noise_is_gaussian_down_to_its_lowest_bits() {
        let mut bits = Keystream::new(&[15; 32]);
        let draws: Vec<i64> = (0..400_000).map(|_| LATTICE.draw(&mut bits)).collect();
        // Cells of an eighth of a deviation: within each the density is a sum over a fine grid.
        let (width, reach) = (LATTICE_DEVIATION / 8, 24);
        let counts = histogram(reach, draws.iter().map(|y| y.div_euclid(width)));
        let fine = |cell: i64| -> f64 {
            let points = (0..256).map(|i| (cell as f64 + (f64::from(i) + 0.5) / 256.0) / 8.0);
            points.map(|z| (-z * z / 2.0).exp()).sum()
        };
        let total: f64 = (-400..400).map(fine).sum();
        let mut expected = vec![0.0; counts.len()];
        for cell in -400..400_i64 {
            expected[(cell.clamp(-reach, reach) + reach) as usize] += fine(cell) / total;
        }
        let statistic = chi_squared(&counts, &expected);
        assert!(statistic < limit(counts.len() - 1), "{statistic}");

        let mut low = vec![0; 256];
        draws
            .iter()
            .for_each(|y| low[y.rem_euclid(256) as usize] += 1);
        let statistic = chi_squared(&low, &[1.0 / 256.0; 256]);
        assert!(statistic < limit(255), "{statistic}");
    }

    /// OpenDP's sampler is proved separately and shares no code with ours.
    #[test]
    fn opendp_draws_from_the_same_distribution() {
        let (reach, draws) = (12, 40_000);
        let mut bits = Keystream::new(&[16; 32]);
        let sampler = DiscreteGaussian { k: 2 };
        let ours = histogram(reach, (0..draws).map(|_| sampler.draw(&mut bits)));
        let theirs = histogram(
            reach,
            (0..draws).map(|_| {
                let y = sample_discrete_gaussian(4_u8.into()).expect("a sound scale");
                i64::try_from(y).expect("a small number")
            }),
        );
        // Two-sample χ² with equal sizes. OpenDP's randomness is fresh: once in a million runs.
        let statistic: f64 = ours
            .iter()
            .zip(&theirs)
            .map(|(&a, &b)| (a as f64 - b as f64).powi(2) / (a + b).max(1) as f64)
            .sum();
        assert!(statistic < limit(ours.len() - 1), "{statistic}");
    }

    #[test]
    fn a_key_gives_the_same_noise_on_every_machine() {
        let mut bits = Keystream::new(&[42; 32]);
        let draws: Vec<i64> = (0..6).map(|_| LATTICE.draw(&mut bits)).collect();
        assert_eq!(draws, KNOWN_ANSWERS);
    }

    /// The same draws came from an independent rendering of the algorithm in Python.
    const KNOWN_ANSWERS: [i64; 6] = [
        146_945_125,
        -181_650_792,
        -276_887_643,
        1_081_937_918,
        -213_015_646,
        81_666_545,
    ];
}

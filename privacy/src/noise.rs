//! The discrete Gaussian on a fine lattice, from a table of 127-bit thresholds, in constant time.
//!
//! Floating-point Gaussians leak through the gaps between representable numbers (Mironov 2012; Jin
//! et al. 2022, arXiv 2112.05307), and samplers that reject leak through their time (the same).
//! Here every value of a sum is an integer on a lattice and the noise an integer too, put together
//! from four digits of base 128:
//!
//! `z = x₀ + 2⁷·x₁ + 2¹⁴·x₂ + 2²¹·x₃`
//!
//! Each digit is discrete Gaussian with variance `s² = 2⁵⁸/((1+2¹⁴)(1+2²⁸))`, which is 255.992², so
//! the variance of `z` is `s²(1 + 2¹⁴ + 2²⁸ + 2⁴²) = 2⁵⁸` and its deviation **exactly 2²⁹**.
//!
//! **Distance from the ideal.** Read as `(x₀ + 2⁷x₁) + 2¹⁴(x₂ + 2⁷x₃)`, `z` is made by convolution
//! twice (Micciancio, Walter 2017, eprint 2017/259). A sum `a + m·b` of discrete Gaussians has the
//! density of one, times a periodic factor within `1 ± 2e^(-2π²w²)`, where `w`, the width of `b` once
//! the sum is known, is 2 at both levels to four digits. With the thresholds' rounding and tail the
//! total variation distance is below [`DISTANCE_BITS`]: 2⁻¹¹⁰ for one draw, 2⁻⁷⁰ for 10¹² of them.
//! A δ of 10⁻¹⁰ does not notice.
//!
//! **Why its accounting is that of the continuous Gaussian**, with Poisson sampling and at all real
//! orders: `docs/noise.md`, and the tests in `noise/facts.rs`.

mod digit;
#[cfg(test)]
mod facts;
#[cfg(test)]
#[path = "../examples/noise_thresholds.rs"]
mod generator;
mod quick;
mod thresholds;

use std::{array, fmt, mem};

use zeroize::Zeroize;

use crate::keystream::{MasterSecret, NoRandomness, Pages};

/// Standard deviation of the noise in lattice units, 2²⁹ exactly: so fine that rounding to the
/// lattice costs nothing, so coarse that sums fit `i64` with room to spare.
pub const LATTICE_DEVIATION: i64 = 1 << 29;

/// One draw differs from the ideal discrete Gaussian by less than 2 to the power of minus this, in
/// total variation; `n` draws by less than `n` times that. It adds to δ.
pub const DISTANCE_BITS: u32 = 110;

/// Bits between a digit and the next, 7: base 128.
const DIGIT_BITS: u32 = 7;

/// Digits of a draw.
const DIGITS: usize = 4;

/// Draws whose bits are made together.
const CHUNK: usize = 512;

/// The leading bits of a digit, of which the lowest is its sign; little-endian.
type Lead = [u8; 4];

/// Its other 96 bits.
type Rest = [u8; 12];

/// Bits for the digits of a chunk, those of the lowest place first.
type Page<Bits> = Box<[[Bits; CHUNK]; DIGITS]>;

/// Independent draws of deviation [`LATTICE_DEVIATION`], by one key.
///
/// The n-th draw of a key is the same number by either way of making it, and however many are made
/// at once.
pub struct LatticeNoise {
    pages: Pages,
    /// Draws made.
    drawn: u64,
    /// Leading bits of the chunk that holds the next draw, if it was begun: page 2n for chunk n.
    leads: Page<Lead>,
    /// The other bits: page 2n + 1.
    rests: Page<Rest>,
    /// The chunk whose other bits were made.
    rests_of: Option<u64>,
}

impl LatticeNoise {
    /// Noise from a key that is drawn from the operating system and kept nowhere. Steps that were
    /// charged make their own.
    ///
    /// # Errors
    /// The system has no randomness to give.
    pub fn fresh() -> Result<Self, NoRandomness> {
        Ok(Self::new(MasterSecret::random()?.into_pages()))
    }

    /// Noise from one step's bits.
    pub(crate) fn new(pages: Pages) -> Self {
        Self {
            pages,
            drawn: 0,
            leads: Box::new([[[0; _]; CHUNK]; DIGITS]),
            rests: Box::new([[[0; _]; CHUNK]; DIGITS]),
            rests_of: None,
        }
    }

    /// Adds a draw of its own to each value, in a time that does not depend on the draws.
    ///
    /// Noise is below 2³³ and cannot carry a value within ±2⁶² out of `i64`. Another would wrap, which
    /// tells no more than the noisy value itself.
    pub fn add(&mut self, mut values: &mut [i64]) {
        while !values.is_empty() {
            let (start, now) = self.next_chunk(&mut values);
            self.add_all(start, now);
            self.drawn += now.len() as u64;
        }
    }

    /// The same numbers as [`add`](Self::add), sooner: from leading bits alone unless they leave a
    /// draw open, which shows in the time. **Only where nobody can time it**, as when an
    /// auditor repeats a step that is long past; never while a site trains.
    pub fn add_in_varying_time(&mut self, mut values: &mut [i64]) {
        while !values.is_empty() {
            let (mut start, now) = self.next_chunk(&mut values);
            let (blocks, last) = now.as_chunks_mut();
            for block in blocks {
                // A chunk's draws are never more than the bits that are left of it.
                let leads = self
                    .leads
                    .each_ref()
                    .map(|leads| leads[start..].first_chunk().expect("as many as values"));
                if !quick::add(leads, block) {
                    self.add_all(start, block);
                }
                start += quick::BLOCK;
            }
            if !last.is_empty() {
                self.add_all(start, last);
            }
            self.drawn += now.len() as u64;
        }
    }

    /// The values that the current chunk has draws for, and the position of the first draw in it.
    fn next_chunk<'a>(&mut self, values: &mut &'a mut [i64]) -> (usize, &'a mut [i64]) {
        let start = (self.drawn % CHUNK as u64) as usize;
        if start == 0 {
            let page = 2 * self.chunk();
            self.pages
                .fill(page, self.leads.as_flattened_mut().as_flattened_mut());
        }
        let count = values.len().min(CHUNK - start);
        let (now, later) = mem::take(values).split_at_mut(count);
        *values = later;
        (start, now)
    }

    fn chunk(&self) -> u64 {
        self.drawn / CHUNK as u64
    }

    fn make_rests(&mut self) {
        let chunk = self.chunk();
        if self.rests_of != Some(chunk) {
            self.pages.fill(
                2 * chunk + 1,
                self.rests.as_flattened_mut().as_flattened_mut(),
            );
            self.rests_of = Some(chunk);
        }
    }

    /// Adds the current chunk's draws from position `start` on, by all their bits.
    fn add_all(&mut self, start: usize, values: &mut [i64]) {
        self.make_rests();
        for (index, value) in (start..CHUNK).zip(values) {
            let digits = array::from_fn(|place| {
                let (leads, rests) = (&self.leads[place], &self.rests[place]);
                digit(leads[index], rests[index])
            });
            *value = value.wrapping_add(joined(digits));
        }
    }
}

impl fmt::Debug for LatticeNoise {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LatticeNoise([redacted])")
    }
}

impl Drop for LatticeNoise {
    fn drop(&mut self) {
        self.leads.as_flattened_mut().as_flattened_mut().zeroize();
        self.rests.as_flattened_mut().as_flattened_mut().zeroize();
    }
}

/// One digit from its 128 bits.
#[inline]
fn digit(lead: Lead, [low @ .., a, b, c, d]: Rest) -> i32 {
    let lead = u32::from_le_bytes(lead);
    let middle = u32::from_le_bytes([a, b, c, d]);
    let high = u64::from(lead >> 1) << 32 | u64::from(middle);
    let uniform = u128::from(high) << 64 | u128::from(u64::from_le_bytes(low));
    digit::signed(digit::magnitude(uniform), lead & 1 == 1)
}

/// The number that the digits stand for.
#[inline]
fn joined([a, b, c, d]: [i32; DIGITS]) -> i64 {
    let pair = |low, high| i64::from(low + (high << DIGIT_BITS));
    pair(a, b) + (pair(c, d) << (2 * DIGIT_BITS))
}

#[cfg(test)]
mod tests {
    use opendp::traits::samplers::sample_discrete_gaussian;

    use super::*;

    fn noise(key: u8) -> LatticeNoise {
        LatticeNoise::new(Pages::new(&[key; 32]))
    }

    fn draws(key: u8, count: usize) -> Vec<i64> {
        let mut values = vec![0; count];
        noise(key).add(&mut values);
        values
    }

    /// Single digits.
    fn single_digits(key: u8, count: usize) -> Vec<i64> {
        let pages = Pages::new(&[key; 32]);
        let (mut leads, mut rests) = (vec![[0; _]; count], vec![[0; _]; count]);
        pages.fill(0, leads.as_flattened_mut());
        pages.fill(1, rests.as_flattened_mut());
        let bits = leads.into_iter().zip(rests);
        bits.map(|(lead, rest)| digit(lead, rest).into()).collect()
    }

    /// The variance of a digit.
    fn variance() -> f64 {
        2_f64.powi(58) / (1.0 + 2_f64.powi(14)) / (1.0 + 2_f64.powi(28))
    }

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

    /// Counts of -reach, …, reach, the tails joined to the ends.
    fn histogram(reach: i64, draws: impl Iterator<Item = i64>) -> Vec<u64> {
        let mut counts = vec![0; 2 * reach as usize + 1];
        draws.for_each(|y| counts[(y.clamp(-reach, reach) + reach) as usize] += 1);
        counts
    }

    /// Two samples of the same size.
    fn two_sample_chi_squared(a: &[u64], b: &[u64]) -> f64 {
        let both = a.iter().zip(b);
        both.map(|(&a, &b)| (a as f64 - b as f64).powi(2) / (a + b).max(1) as f64)
            .sum()
    }

    #[test]
    fn digits_have_the_stated_distribution_value_by_value() {
        let reach = 3 * 256;
        let weight = |y: i64| (-(y as f64).powi(2) / (2.0 * variance())).exp();
        let total: f64 = (-6000..=6000).map(weight).sum();
        let mut expected = vec![0.0; 2 * reach as usize + 1];
        for y in -6000..=6000_i64 {
            expected[(y.clamp(-reach, reach) + reach) as usize] += weight(y) / total;
        }
        let counts = histogram(reach, single_digits(11, 2_000_000).into_iter());
        let statistic = chi_squared(&counts, &expected);
        assert!(statistic < limit(counts.len() - 1), "{statistic}");
    }

    #[test]
    fn the_lattice_noise_is_gaussian_down_to_its_lowest_bits() {
        let draws = draws(15, 1_000_000);
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

        // The places where digits meet, too: bits 0 to 8, 7 to 15, 14 to 22, 18 to 26.
        for shift in [0, 7, 14, 18] {
            let mut low = vec![0; 256];
            draws
                .iter()
                .for_each(|y| low[(y >> shift).rem_euclid(256) as usize] += 1);
            let statistic = chi_squared(&low, &[1.0 / 256.0; 256]);
            assert!(statistic < limit(255), "{statistic} from bit {shift}");
        }
    }

    #[test]
    fn neighbouring_draws_are_not_correlated() {
        let draws = draws(17, 1_000_000);
        let unit = |y: &i64| *y as f64 / LATTICE_DEVIATION as f64;
        // Each product has mean 0 and variance 1 if they are independent; 5 standard errors.
        for lag in [1, 2, CHUNK] {
            let pairs = draws.iter().zip(&draws[lag..]);
            let sum: f64 = pairs.map(|(a, b)| unit(a) * unit(b)).sum();
            assert!(
                sum.abs() < 5.0 * (draws.len() as f64).sqrt(),
                "lag {lag}: {sum}"
            );
        }
    }

    /// OpenDP's sampler is proved separately and shares no code with ours. Its scale is a digit's
    /// deviation to the 53 bits of an `f64`.
    #[test]
    fn opendp_draws_digits_from_the_same_distribution() {
        let count = 40_000;
        let cell = |y: i64| y.div_euclid(32);
        let ours = histogram(24, single_digits(16, count).into_iter().map(cell));
        let theirs = histogram(
            24,
            (0..count).map(|_| {
                let scale = variance().sqrt().try_into().expect("a finite number");
                let y = sample_discrete_gaussian(scale).expect("a sound scale");
                cell(i64::try_from(y).expect("a small number"))
            }),
        );
        // OpenDP's randomness is fresh: fails once in a million runs.
        let statistic = two_sample_chi_squared(&ours, &theirs);
        assert!(statistic < limit(ours.len() - 1), "{statistic}");
    }

    #[test]
    fn noise_is_the_same_however_many_values_are_given_at_once_and_by_either_way() {
        let (mut whole, mut parts) = (vec![5; 1000], vec![5; 1000]);
        noise(18).add(&mut whole);
        let mut noise = noise(18);
        let mut rest = parts.as_mut_slice();
        for (quick, length) in [(false, 1), (true, 511), (true, 300), (false, 188)] {
            let (now, later) = rest.split_at_mut(length);
            match quick {
                true => noise.add_in_varying_time(now),
                false => noise.add(now),
            }
            rest = later;
        }
        assert_eq!(whole, parts);
    }

    /// In three million draws, leading bits leave the draw open some ten times.
    #[test]
    fn both_ways_give_the_same_numbers_also_where_leading_bits_leave_them_open() {
        let (mut slow, mut fast) = (noise(19), noise(19));
        let (mut a, mut b) = (vec![0; 3 << 20], vec![0; 3 << 20]);
        slow.add(&mut a);
        let mut open = 0;
        for part in b.chunks_mut(CHUNK) {
            fast.rests_of = None;
            fast.add_in_varying_time(part);
            open += u32::from(fast.rests_of.is_some());
        }
        assert_eq!(a, b);
        assert!((3..50).contains(&open), "{open}");
    }

    #[test]
    fn a_key_gives_the_same_noise_on_every_machine() {
        let draws = draws(42, 600);
        let (first, last) = (&draws[..6], draws[599]);
        assert_eq!((first, last), (KNOWN_ANSWERS.as_slice(), LAST_KNOWN_ANSWER));
        assert_eq!(draws[511..514], AT_THE_SECOND_CHUNK);
    }

    // The same draws came from an independent rendering in Python: thresholds by mpmath with 400
    // bits, keystream by the `cryptography` package's AES in counter mode, search by bisection.
    const KNOWN_ANSWERS: [i64; 6] = [
        636_555_481,
        122_479_662,
        1_057_057_098,
        -587_791_263,
        313_368_110,
        -910_095_941,
    ];
    const AT_THE_SECOND_CHUNK: [i64; 3] = [678_907_001, -379_661_925, -814_004_581];
    const LAST_KNOWN_ANSWER: i64 = -392_998_441;

    #[test]
    fn the_table_is_what_its_generator_makes_and_nearly_ideal() {
        let generated = generator::thresholds();
        assert_eq!(generated.values, thresholds::THRESHOLDS.as_slice());
        let file = include_str!("noise/thresholds.rs");
        assert_eq!(generator::file(&generated.values), file);
        // Computed with mpmath, 400 bits.
        let elsewhere = [
            (1, 0x7fcc_ef0f_7610_5cd2_5f6d_5080_b8d7_5047),
            (256, 0x28bc_23a1_8983_4c58_f03e_f477_9569_c423),
            (1000, 0x0003_1852_934e_e339_adc9_e06e_e384_c910),
            (2000, 0xccc0_ec20_05de_60e8_1b52),
            (3000, 0x010e_4335),
            (3246, 0x85),
        ];
        assert_eq!(generated.values.len(), 3246);
        for (m, value) in elsewhere {
            assert_eq!(generated.values[m - 1], value, "{m}");
        }
        // Below 2^-117 in total variation.
        assert!(generated.distance < dashu_int::UBig::ONE << (320 - 117));
    }
}

//! The seeded generator behind initial weights and augmentation.
//!
//! SplitMix64 (Steele, Lea and Flood 2014) read by position: the same seed gives the same numbers
//! on every machine. It is no cryptographic generator and never serves noise or sampling, whose
//! coins come from `consilium-privacy`.

/// Odd constant of SplitMix64: 2⁶⁴ over the golden ratio.
const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;

/// A stream of pseudo-random numbers, fixed by its key.
#[derive(Debug, Clone)]
pub struct Random {
    key: u64,
    position: u64,
}

impl Random {
    /// Starts the stream that belongs to these words, in this order.
    pub fn new(words: &[u64]) -> Self {
        let key = words
            .iter()
            .fold(0, |key, word| mix(key ^ mix(word.wrapping_add(GOLDEN))));
        Self { key, position: 0 }
    }

    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.position = self.position.wrapping_add(GOLDEN);
        mix(self.key.wrapping_add(self.position))
    }

    /// The next number of 0 ≤ x < 1: a multiple of 2⁻²⁴, hence exact in f32.
    pub fn unit(&mut self) -> f32 {
        (self.bits() >> 40) as f32 / (1 << 24) as f32
    }

    /// The next number of −bound ≤ x < bound. One multiplication is rounded, as IEEE 754 says.
    pub fn symmetric(&mut self, bound: f32) -> f32 {
        (2.0 * self.unit() - 1.0) * bound
    }

    /// The next whole number of −bound to bound.
    pub fn whole(&mut self, bound: usize) -> isize {
        let choices = 2 * bound as u64 + 1;
        (self.bits() % choices) as isize - bound as isize
    }

    /// The next coin: true with probability 1/2.
    pub fn coin(&mut self) -> bool {
        self.bits() >> 63 == 1
    }

    /// The next standard normal number, by Box and Muller. Its last bits may differ between
    /// machines, as logarithm and cosine do.
    pub fn normal(&mut self) -> f32 {
        let radius = (-2.0 * (1.0 - self.unit()).ln()).sqrt();
        radius * (std::f32::consts::TAU * self.unit()).cos()
    }
}

/// The finaliser of SplitMix64, a bijection.
fn mix(mut word: u64) -> u64 {
    word = (word ^ (word >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    word ^ (word >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_generator_gives_the_published_numbers() {
        // The first outputs of the reference implementation for the seed 1234567.
        let mut random = Random {
            key: 1_234_567,
            position: 0,
        };
        let expected = [6_457_827_717_110_365_317, 3_203_168_211_198_807_973];
        assert_eq!([random.bits(), random.bits()], expected);
    }

    #[test]
    fn streams_differ_by_every_word_and_by_order() {
        let first = |words: &[u64]| Random::new(words).bits();
        assert_eq!(first(&[1, 2]), first(&[1, 2]));
        assert_ne!(first(&[1, 2]), first(&[2, 1]));
        assert_ne!(first(&[1]), first(&[1, 0]));
    }

    #[test]
    fn numbers_have_the_moments_of_their_law() {
        let mut random = Random::new(&[7]);
        let count = 40_000;
        let mut moments = |draw: fn(&mut Random) -> f32| {
            let values: Vec<f64> = (0..count).map(|_| f64::from(draw(&mut random))).collect();
            let mean = values.iter().sum::<f64>() / f64::from(count);
            let variance = values.iter().map(|x| (x - mean).powi(2)).sum::<f64>();
            (mean, variance / f64::from(count))
        };
        // Five standard errors: the seed is fixed, so this cannot turn red by chance later.
        let (mean, variance) = moments(|random| random.symmetric(3.0));
        assert!(
            mean.abs() < 0.044 && (variance - 3.0).abs() < 0.07,
            "{mean} {variance}"
        );
        let (mean, variance) = moments(Random::normal);
        assert!(
            mean.abs() < 0.025 && (variance - 1.0).abs() < 0.036,
            "{mean} {variance}"
        );
        let (mean, variance) = moments(|random| random.whole(2) as f32);
        assert!(
            mean.abs() < 0.036 && (variance - 2.0).abs() < 0.05,
            "{mean} {variance}"
        );
        let (mean, _) = moments(|random| f32::from(u8::from(random.coin())));
        assert!((mean - 0.5).abs() < 0.013, "{mean}");
    }
}

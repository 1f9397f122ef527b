//! What stays of a picture after it was resized, brightened or compressed anew.
//!
//! Two stages. The difference hash (64 bits: whether each cell of 9 × 8 is brighter than its right
//! neighbour) finds candidates: by the pigeonhole principle, two hashes that differ in at most 7 bits
//! have a quarter in which they differ in at most one, so looking up each quarter and its 16
//! neighbours misses none of them (multi-index hashing; Norouzi, Punjani and Fleet 2012). Pictures of
//! one body part look alike to it, so a candidate also has to correlate over 16 × 16 cells.

use super::{near::Likeness, plane::Plane};

/// Bits in which the hashes of two near copies differ at most.
pub(super) const MOST_BITS: u32 = 7;
/// Correlation of the cells of two near copies at least.
pub(super) const LEAST_CORRELATION: f64 = 0.99;

/// Side of the small picture.
const SIDE: usize = 16;
/// Cells of the small picture.
pub(super) const CELLS: usize = SIDE * SIDE;
/// Steps for one standard deviation; values beyond 4 deviations are cut.
const STEPS: f32 = 31.75;

/// Deviation of the cells below which they are one grey: a quarter of 1 in 255.
const FLAT: f32 = 0.001;

/// What is compared of a picture.
#[derive(Clone)]
pub(super) struct Fingerprint {
    hash: u64,
    /// The cells less their mean, over their deviation, in steps.
    cells: [i8; CELLS],
}

impl Fingerprint {
    pub(super) fn of(plane: &Plane) -> Self {
        let coarse = plane.shrink(9, 8);
        let brighter = coarse
            .chunks_exact(9)
            .flat_map(|row| row.windows(2).map(|pair| pair[0] > pair[1]));
        let hash = brighter.fold(0, |hash, bit| (hash << 1) | u64::from(bit));
        let fine = plane.shrink(SIDE, SIDE);
        let mean = fine.iter().sum::<f32>() / CELLS as f32;
        let squares: f32 = fine.iter().map(|value| (value - mean).powi(2)).sum();
        let deviation = (squares / CELLS as f32).sqrt();
        // Cells of one grey are like nothing, not like whatever rounding left.
        let scale = if deviation < FLAT {
            0.0
        } else {
            STEPS / deviation
        };
        let mut cells = [0; CELLS];
        for (cell, value) in cells.iter_mut().zip(fine) {
            // Casts of floats saturate.
            *cell = ((value - mean) * scale).round() as i8;
        }
        Self { hash, cells }
    }

    /// The cells in deviations from their mean.
    pub(super) fn cells(&self) -> impl Iterator<Item = f64> {
        self.cells
            .iter()
            .map(|&cell| f64::from(cell) / f64::from(STEPS))
    }

    fn correlation(&self, other: &Self) -> f64 {
        let product = |one: &[i8; CELLS], other: &[i8; CELLS]| -> i32 {
            let pairs = one.iter().zip(other);
            pairs
                .map(|(&a, &b)| i32::from(i16::from(a) * i16::from(b)))
                .sum()
        };
        let own = f64::from(product(&self.cells, &self.cells));
        let others = f64::from(product(&other.cells, &other.cells));
        let both = f64::from(product(&self.cells, &other.cells));
        both / (own * others).sqrt().max(1.0)
    }

    fn bits(&self, other: &Self) -> u32 {
        (self.hash ^ other.hash).count_ones()
    }

    /// Each quarter of the hash, marked with which one it is.
    fn quarters(&self) -> impl Iterator<Item = u64> {
        let hash = self.hash;
        (0..4).map(move |at| (at << 16) | (hash >> (16 * at)) & 0xFFFF)
    }
}

impl Likeness for Fingerprint {
    fn buckets(&self) -> impl Iterator<Item = u64> {
        self.quarters()
    }

    fn probes(&self) -> impl Iterator<Item = u64> {
        self.quarters()
            .flat_map(|quarter| (0..17).map(move |bit| quarter ^ ((1 << bit) & 0xFFFF)))
    }

    fn may_be_like(&self, other: &Self) -> bool {
        self.bits(other) <= MOST_BITS
    }

    fn difference(&self, other: &Self) -> Option<f64> {
        let is_like = self.correlation(other) >= LEAST_CORRELATION;
        is_like.then(|| f64::from(self.bits(other)))
    }
}

#[cfg(test)]
mod tests {
    use consilium_models::random::Random;

    use super::*;

    fn plane(width: usize, height: usize, seed: u64) -> Plane {
        let mut random = Random::new(&[seed]);
        let [a, b, c] = [(); 3].map(|()| 0.4 + 0.6 * random.unit());
        let value = |at: usize| {
            let (x, y) = (
                (at % width) as f32 / width as f32,
                (at / width) as f32 / height as f32,
            );
            let wave = (7.0 * a * x + 9.0 * b * y).sin() + (11.0 * c * x * y + 6.0 * a).cos();
            0.5 + 0.2 * wave
        };
        Plane {
            width,
            height,
            values: (0..width * height).map(value).collect(),
        }
    }

    fn of(hash: u64) -> Fingerprint {
        let cells = Fingerprint::of(&plane(16, 16, 1)).cells;
        Fingerprint { hash, cells }
    }

    #[test]
    fn any_7_bits_may_differ_and_the_pair_still_meets() {
        let mut random = Random::new(&[3]);
        for _ in 0..500 {
            let one = of(random.bits());
            let mut hash = one.hash;
            for _ in 0..7 {
                hash ^= 1 << (random.bits() % 64);
            }
            let other = of(hash);
            let buckets: Vec<u64> = other.buckets().collect();
            assert!(one.probes().any(|probe| buckets.contains(&probe)));
            assert!(one.may_be_like(&other));
        }
    }

    #[test]
    fn size_and_brightness_do_not_matter_and_another_picture_does() {
        for seed in 0..20 {
            let one = plane(60, 50, seed);
            let bright = Plane {
                values: one.values.iter().map(|value| value * 0.8 + 0.1).collect(),
                ..plane(60, 50, seed)
            };
            let (one, bright) = (Fingerprint::of(&one), Fingerprint::of(&bright));
            let large = Fingerprint::of(&plane(240, 200, seed));
            let other = Fingerprint::of(&plane(60, 50, seed + 100));
            for copy in [&bright, &large] {
                assert!(
                    one.may_be_like(copy) && one.difference(copy).is_some(),
                    "{seed}"
                );
            }
            assert!(!one.may_be_like(&other) || one.difference(&other).is_none());
        }
    }

    #[test]
    fn one_grey_has_a_fingerprint_too() {
        let flat = Plane {
            width: 1,
            height: 1,
            values: vec![0.7],
        };
        let flat = Fingerprint::of(&flat);
        assert_eq!((flat.hash, flat.difference(&flat)), (0, None));
    }
}

//! The sum of clipped gradients, as integers on a lattice.
//!
//! Integer addition is exact and associative: the same batch gives the same sum in every order, on
//! every machine and however it is divided, and the sensitivity is that of single records, with no
//! rounding error that grows with the batch (Casacuberta et al. 2022, arXiv 2207.10635).
//!
//! Records are added on a lattice finer than that of the noise, by a power of two, and the whole sum
//! is rounded once. A gradient comes in [`Part`]s: written out, or as the outer product that a dense
//! layer's gradient is, of which only the two factors are rounded to integers (`products.rs`).

mod lattice;
mod products;

use std::{fmt, mem, ops::Range};

use zeroize::{Zeroize, Zeroizing};

use self::products::Products;
use super::Clipping;
use crate::{
    OutOfRange,
    accountant::{ClippingNorm, NoiseMultiplier},
    noise::LATTICE_DEVIATION,
};

/// Most records one sum takes, so that no coordinate can leave `i64`: each is at most 2⁴⁴.
pub const MAX_RECORDS: u32 = 1 << 18;

/// Least noise multiplier of a sum: a record's norm in units of the noise's lattice, 2²⁹/σ, stays
/// below 2⁴⁰, and the sum's own lattice is finer by 4 bits at least.
const LEAST_SIGMA: f64 = 1.0 / 2048.0;

/// Longest vector: keeps the error of a norm computed in `f64` below [`NORM_ERROR`].
const MAX_LENGTH: usize = 1 << 32;

/// Gradients are clipped to `C' = C(1 - 2⁻¹⁰)`: the rest of C is room for rounding.
const MARGIN: f64 = 1.0 / 1024.0;

/// Bound on the relative error of a clipped gradient's norm before rounding (η). A sum of `d`
/// squares in `f64` errs by at most d·2⁻⁵³ relative (squares of `f32` are exact, all terms are
/// ≥ 0), its root by half of that; quotients and products add less than ten times 2⁻⁵³. For
/// d ≤ 2³² that is below 2⁻²¹.
const NORM_ERROR: f64 = 1.0 / (1 << 20) as f64;

/// Bound on what rounding the factors of outer products adds to a record's norm, in units of C'.
///
/// A product of clipped norm t ≤ C' is made of two factors of norm √t each, rounded to multiples of
/// `u ≥ √C'·2⁻²²`, u ≤ √C'·2⁻²¹·⁵ (`ClippedSum::new` chooses it). Rounding moves a factor of m values
/// by at most u√m/2, and so the product of an m- and an n-vector by at most
/// `√t·u(√m + √n)/2 + u²√(mn)/4`, which is below `C'·2⁻²²(√m + √n)` as long as that is below 1. Errors of
/// several products add up at worst: √m + √n summed over a record's products may reach 2¹⁰.
const PRODUCT_ERROR: f64 = 1.0 / 4096.0;

/// Most that √m + √n may add up to over the outer products of one record.
const PRODUCT_WIDTH: f64 = 1024.0;

/// The running sum of one step. It holds what the noise has yet to cover, so it never prints and
/// is wiped when dropped.
pub struct ClippedSum {
    /// In units of the fine lattice, g/2ᵇ.
    values: Vec<i64>,
    sigma: NoiseMultiplier,
    clipping: Clipping,
    /// C', the norm that gradients are scaled down to.
    clip_to: f64,
    /// g = σC/2²⁹, what one unit of the noise's lattice is worth.
    lattice_step: f64,
    /// b, by which the sum's own lattice is finer.
    fine_bits: u32,
    products: Vec<Products>,
    records: u32,
    not_finite: u32,
}

/// One stretch of a record's gradient. What no part covers is zero.
#[derive(Clone, Copy)]
pub struct Part<'a> {
    /// Its first coordinate.
    pub start: usize,
    /// What is there.
    pub values: Values<'a>,
}

/// What a part holds.
#[derive(Clone, Copy)]
pub enum Values<'a> {
    /// Every value.
    Each(&'a [f32]),
    /// The outer product of two vectors, `left[i] · right[j]` row by row.
    Outer {
        /// One factor for each row.
        left: &'a [f32],
        /// One factor for each column.
        right: &'a [f32],
    },
}

/// Why a gradient was not added.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AddError {
    /// It has another length than the sum.
    #[error("a gradient has {found} values, the sum has {expected}")]
    WrongLength {
        /// Length of the sum.
        expected: usize,
        /// Length of the gradient.
        found: usize,
    },
    /// Parts overlap, are out of order, or reach past the end of the sum or of a layer.
    #[error("a part of a gradient begins at {start}, where none may, or is too long")]
    Misplaced {
        /// First coordinate of the part.
        start: usize,
    },
    /// The rounding of outer products this large has no proved bound.
    #[error("the outer products of a gradient are too large; write them out")]
    TooWide,
    /// The sum is full.
    #[error("a batch may hold {MAX_RECORDS} records; use a smaller sampling rate")]
    TooMany,
}

impl ClippedSum {
    /// An empty sum of `length` coordinates, for records of norm at most `clipping_norm` and noise
    /// of `noise_multiplier` times that norm.
    ///
    /// # Errors
    /// The guarantee could not be proved for these numbers: the noise multiplier is below 1/2048,
    /// or √length times it is above about 2¹⁸, where rounding would eat the margin.
    pub fn new(
        length: usize,
        clipping_norm: ClippingNorm,
        noise_multiplier: NoiseMultiplier,
    ) -> Result<Self, OutOfRange> {
        let (c, sigma) = (clipping_norm.value(), noise_multiplier.value());
        if sigma < LEAST_SIGMA {
            let allowed = "1/2048 or more to be drawn on the lattice";
            return Err(OutOfRange::new("noise multiplier", allowed, sigma));
        }
        if length == 0 || length > MAX_LENGTH {
            return Err(OutOfRange::new("length of a sum", "from 1 to 2^32", length));
        }
        // As fine as lets a record reach 2^44 units, which is at least 4 bits finer.
        let reach = LATTICE_DEVIATION as f64 / sigma;
        let largest = products::LARGEST * products::LARGEST;
        let is_fine = |&bits: &u32| reach * f64::from(bits).exp2() <= largest;
        let fine_bits = (1..=40).rev().find(is_fine).unwrap_or(1);
        // Sensitivity in units of C: scaling leaves C'(1+η), rounding products adds its bound. Rounding
        // to the nearest fine lattice point moves each of d coordinates by at most g/32, and rounding
        // two sums in the end moves them apart by at most g: together less than 1.04·g√d.
        let lattice_unit = sigma / LATTICE_DEVIATION as f64;
        let sensitivity = (1.0 - MARGIN) * (1.0 + NORM_ERROR + PRODUCT_ERROR)
            + 1.04 * lattice_unit * (length as f64).sqrt();
        if sensitivity > 1.0 {
            let found = format!("{length} with noise multiplier {sigma}");
            let allowed = "below 2^36 / noise multiplier^2, where the lattice is fine enough";
            return Err(OutOfRange::new("length of a sum", allowed, found));
        }
        Ok(Self {
            values: vec![0; length],
            sigma: noise_multiplier,
            clipping: Clipping::Flat,
            clip_to: c * (1.0 - MARGIN),
            lattice_step: lattice_unit * c,
            fine_bits,
            products: Vec::new(),
            records: 0,
            not_finite: 0,
        })
    }

    /// The same sum, clipped in another way.
    ///
    /// # Errors
    /// Ends of layers that are not those of this sum, or a γ of 0.
    pub fn clipped(self, clipping: Clipping) -> Result<Self, OutOfRange> {
        clipping.check(self.len())?;
        let mut sum = self;
        sum.clipping = clipping;
        Ok(sum)
    }

    /// Clips the gradient of one record and adds it.
    ///
    /// A gradient with NaN or an infinity counts as zeros: it is clipped to nothing, and the step
    /// goes on, since stopping would tell that such a record exists.
    ///
    /// # Errors
    /// A wrong length, or more than [`MAX_RECORDS`] records.
    pub fn add(&mut self, gradient: &[f32]) -> Result<(), AddError> {
        if gradient.len() != self.len() {
            let (expected, found) = (self.len(), gradient.len());
            return Err(AddError::WrongLength { expected, found });
        }
        // Whole layers, so that none spans two.
        let mut parts = Vec::with_capacity(self.clipping.layers());
        let mut start = 0;
        while start < gradient.len() {
            let end = self.clipping.layer(start).1.min(gradient.len());
            let values = Values::Each(&gradient[start..end]);
            parts.push(Part { start, values });
            start = end;
        }
        self.add_parts(&parts)
    }

    /// As [`add`](Self::add), with the gradient in parts, in ascending order of their places. The same
    /// gradient in other parts gives the same sum but for rounding.
    ///
    /// # Errors
    /// Parts out of place or too large, or more than [`MAX_RECORDS`] records. Nothing is added.
    pub fn add_parts(&mut self, parts: &[Part]) -> Result<(), AddError> {
        self.check(parts)?;
        if self.records == MAX_RECORDS {
            return Err(AddError::TooMany);
        }
        self.records += 1;
        let mut squares = vec![0.0; self.clipping.layers()];
        for part in parts {
            squares[self.clipping.layer(part.start).0] += part.values.squares();
        }
        let Some(factors) = self.clipping.factors(&squares, self.clip_to) else {
            self.not_finite += 1;
            return Ok(());
        };
        let unit = self.lattice_step / f64::from(self.fine_bits).exp2();
        for part in parts {
            // Each term is at most 2^44 and there are at most 2^18: the sum stays within 2^62.
            let scale = factors[self.clipping.layer(part.start).0] / unit;
            match part.values {
                Values::Each(values) => {
                    lattice::add_rounded(&mut self.values[part.range()], values, scale)
                }
                Values::Outer { left, right } => self.add_outer(part.start, left, right, scale),
            }
        }
        Ok(())
    }

    /// Adds an outer product, in lattice units after `scale`: both factors get the same norm.
    fn add_outer(&mut self, start: usize, left: &[f32], right: &[f32], scale: f64) {
        let norm = |values| lattice::squares(values).sqrt();
        let (rows, columns) = (norm(left), norm(right));
        if rows == 0.0 || columns == 0.0 {
            return;
        }
        let each = (rows * columns * scale).sqrt();
        let (m, n) = (left.len(), right.len());
        let at = self
            .products
            .iter()
            .position(|products| products.is_for(start, m, n));
        let at = at.unwrap_or_else(|| {
            self.products.push(Products::new(start, m, n));
            self.products.len() - 1
        });
        let (left, right) = ((left, each / rows), (right, each / columns));
        self.products[at].push(left, right, &mut self.values);
    }

    fn check(&self, parts: &[Part]) -> Result<(), AddError> {
        let (mut end, mut width) = (0, 0.0);
        for part in parts {
            let Range { start, end: next } = part.range();
            if start < end || next > self.len().min(self.clipping.layer(start).1) {
                return Err(AddError::Misplaced { start });
            }
            end = next;
            if let Values::Outer { left, right } = part.values {
                width += (left.len() as f64).sqrt() + (right.len() as f64).sqrt();
            }
        }
        if width > PRODUCT_WIDTH {
            return Err(AddError::TooWide);
        }
        Ok(())
    }

    /// Number of coordinates.
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// Whether no record was added. Such a sum still takes a step.
    pub fn is_empty(&self) -> bool {
        self.records == 0
    }

    /// Records added whose gradient was not finite. Depends on the data: for the hospital's own
    /// log alone.
    pub fn not_finite(&self) -> u32 {
        self.not_finite
    }

    /// The noise multiplier this sum's lattice was made for.
    pub fn noise_multiplier(&self) -> NoiseMultiplier {
        self.sigma
    }

    /// What one unit of the noise's lattice is worth.
    pub(super) fn lattice_step(&self) -> f64 {
        self.lattice_step
    }

    /// The sum in units of the noise's lattice, for the noise. Wiped when dropped.
    pub(super) fn into_lattice(mut self) -> Zeroizing<Vec<i64>> {
        for products in &mut self.products {
            products.add_to(&mut self.values);
        }
        let mut values = Zeroizing::new(mem::take(&mut self.values));
        lattice::shift(&mut values, self.fine_bits);
        values
    }
}

impl Part<'_> {
    /// Writes its values where they belong in a whole gradient.
    ///
    /// # Panics
    /// Where the gradient is too short.
    pub fn write(&self, gradient: &mut [f32]) {
        let place = &mut gradient[self.range()];
        match self.values {
            Values::Each(values) => place.copy_from_slice(values),
            Values::Outer { left, right } => {
                for (row, left) in place.chunks_exact_mut(right.len()).zip(left) {
                    let places = row.iter_mut().zip(right);
                    places.for_each(|(place, right)| *place = left * right);
                }
            }
        }
    }

    fn range(&self) -> Range<usize> {
        let length = match self.values {
            Values::Each(values) => values.len(),
            Values::Outer { left, right } => left.len().saturating_mul(right.len()),
        };
        self.start..self.start.saturating_add(length)
    }
}

impl Values<'_> {
    /// The squared norm. That of an outer product is the product of its factors'.
    fn squares(&self) -> f64 {
        match self {
            Self::Each(values) => lattice::squares(values),
            Self::Outer { left, right } => lattice::squares(left) * lattice::squares(right),
        }
    }
}

/// Written by hand: gradients are patient data.
impl fmt::Debug for Part<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Part({:?}, [redacted])", self.range())
    }
}

impl fmt::Debug for ClippedSum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "ClippedSum({} coordinates, [redacted])",
            self.values.len()
        )
    }
}

impl Drop for ClippedSum {
    fn drop(&mut self) {
        self.values.zeroize();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const UNIT: f64 = LATTICE_DEVIATION as f64 * (1.0 - MARGIN);

    fn sum(length: usize, c: f64, sigma: f64) -> Result<ClippedSum, OutOfRange> {
        let sound = "within range";
        ClippedSum::new(
            length,
            c.try_into().expect(sound),
            sigma.try_into().expect(sound),
        )
    }

    fn norm(values: &[i64]) -> f64 {
        let squares: u128 = values
            .iter()
            .map(|v| u128::from(v.unsigned_abs()).pow(2))
            .sum();
        (squares as f64).sqrt()
    }

    fn lattice(sum: ClippedSum) -> Vec<i64> {
        sum.into_lattice().to_vec()
    }

    fn each(start: usize, values: &[f32]) -> Part<'_> {
        let values = Values::Each(values);
        Part { start, values }
    }

    fn outer<'a>(start: usize, left: &'a [f32], right: &'a [f32]) -> Part<'a> {
        let values = Values::Outer { left, right };
        Part { start, values }
    }

    #[test]
    fn a_long_gradient_is_scaled_and_a_short_one_is_kept() {
        let mut long = sum(2, 1.0, 1.0).expect("sound");
        long.add(&[30.0, 40.0]).expect("fits");
        let scaled = [0.6, 0.8].map(|x: f64| (x * UNIT).round() as i64);
        assert_eq!(lattice(long), scaled);

        let mut short = sum(2, 1.0, 2.0).expect("sound");
        short.add(&[0.25, -0.5]).expect("fits");
        let kept = [LATTICE_DEVIATION / 8, -LATTICE_DEVIATION / 4];
        assert_eq!(lattice(short), kept);
    }

    #[test]
    fn a_gradient_that_is_not_finite_counts_as_zeros() {
        let mut sum = sum(2, 1.0, 1.0).expect("sound");
        for bad in [
            [f32::NAN, 1.0],
            [f32::INFINITY, 1.0],
            [1.0, f32::NEG_INFINITY],
        ] {
            sum.add(&bad).expect("fits");
            sum.add_parts(&[outer(0, &bad, &[0.0])]).expect("fits");
        }
        assert_eq!(
            (sum.values.as_slice(), sum.not_finite()),
            ([0, 0].as_slice(), 6)
        );
        sum.add(&[f32::MAX, f32::MAX]).expect("fits");
        sum.add_parts(&[outer(0, &[f32::MAX; 2], &[f32::MAX])])
            .expect("fits");
        assert_eq!(sum.not_finite(), 6);
        assert!(norm(&lattice(sum)) <= 2.0 * LATTICE_DEVIATION as f64);
    }

    #[test]
    fn what_cannot_be_proved_is_refused() {
        assert!(sum(1 << 20, 1.0, 100.0).is_ok());
        let error = sum(1 << 28, 1.0, 100.0).expect_err("too coarse");
        assert!(error.to_string().contains("lattice"), "{error}");
        assert!(sum(1, 1.0, 1e-4).is_err() && sum(0, 1.0, 1.0).is_err());
        let mut two = sum(2, 1.0, 1.0).expect("sound");
        let error = two.add(&[1.0]).expect_err("too short");
        assert_eq!(
            error,
            AddError::WrongLength {
                expected: 2,
                found: 1
            }
        );
        two.records = MAX_RECORDS;
        assert_eq!(two.add(&[1.0, 1.0]), Err(AddError::TooMany));
    }

    #[test]
    fn parts_out_of_place_are_refused_and_add_nothing() {
        let layers = Clipping::PerLayer { ends: vec![2, 4] };
        let mut sum = self::sum(4, 1.0, 1.0)
            .expect("sound")
            .clipped(layers)
            .expect("its layers");
        let one = [1.0];
        for (parts, start) in [
            (vec![each(3, &[1.0, 1.0])], 3),
            (vec![each(1, &[1.0, 1.0])], 1),
            (vec![each(0, &[1.0, 1.0]), each(1, &one)], 1),
            (vec![each(2, &one), each(0, &one)], 0),
            (vec![outer(2, &one, &[1.0, 2.0, 3.0])], 2),
            (vec![each(usize::MAX, &one)], usize::MAX),
        ] {
            assert_eq!(sum.add_parts(&parts), Err(AddError::Misplaced { start }));
        }
        assert!(sum.is_empty() && sum.values == [0; 4]);
        let mut long = self::sum(1 << 20, 1.0, 1.0).expect("sound");
        let wide = vec![1.0; 1 << 20];
        let parts = [outer(0, &one, &wide)];
        assert_eq!(long.add_parts(&parts), Err(AddError::TooWide));
    }

    #[test]
    fn debug_shows_no_value() {
        let mut sum = sum(1, 1.0, 1.0).expect("sound");
        sum.add(&[0.5]).expect("fits");
        assert_eq!(format!("{sum:?}"), "ClippedSum(1 coordinates, [redacted])");
        assert_eq!(format!("{:?}", each(3, &[0.5])), "Part(3..4, [redacted])");
    }

    fn any_clipping() -> impl Strategy<Value = Clipping> {
        prop_oneof![
            Just(Clipping::Flat),
            (1e-6..10.0).prop_map(|gamma| Clipping::Automatic { gamma }),
            Just(Clipping::PerLayer {
                ends: vec![5, 40, 41, 60]
            }),
        ]
    }

    /// A record of 60 coordinates: 5 written out, an outer product of 5 × 7, one left out, 19.
    fn parts<'a>(values: &'a [f32]) -> [Part<'a>; 3] {
        [
            each(0, &values[..5]),
            outer(5, &values[5..10], &values[10..17]),
            each(41, &values[17..36]),
        ]
    }

    proptest! {
        /// The sensitivity claim itself: one record moves the sum, as the noise gets it, by at most C in
        /// the L2 norm, that is 2²⁹/σ lattice units, whatever its gradient, the sum before it and
        /// how it is clipped.
        #[test]
        fn one_record_moves_the_sum_by_at_most_the_clipping_norm(
            gradient in prop::collection::vec(prop_oneof![prop::num::f32::ANY, -1e3_f32..1e3], 36),
            others in prop::collection::vec(prop::collection::vec(-1e3_f32..1e3, 36), 0..3),
            clipping in any_clipping(),
            is_written_out in any::<bool>(),
            c in 1e-6..1e6,
            sigma in 0.001..300.0,
        ) {
            let total = |with: bool| {
                let sum = sum(60, c, sigma).expect("sound").clipped(clipping.clone());
                let mut sum = sum.expect("its layers");
                others.iter().for_each(|other| sum.add_parts(&parts(other)).expect("fits"));
                if with && is_written_out {
                    sum.add(&gradient.iter().cycle().take(60).copied().collect::<Vec<_>>()).expect("fits");
                } else if with {
                    sum.add_parts(&parts(&gradient)).expect("fits");
                }
                lattice(sum)
            };
            let moved: Vec<i64> = total(true).iter().zip(total(false)).map(|(a, b)| a - b).collect();
            prop_assert!(norm(&moved) <= LATTICE_DEVIATION as f64 / sigma);
        }

        #[test]
        fn products_add_up_to_what_they_are_written_out(
            records in prop::collection::vec(prop::collection::vec(-1e3_f32..1e3, 36), 1..80),
            clipping in any_clipping(),
        ) {
            let new = || sum(60, 1.0, 1.0).expect("sound").clipped(clipping.clone()).expect("its layers");
            let (mut products, mut written) = (new(), new());
            for record in &records {
                products.add_parts(&parts(record)).expect("fits");
                let product = record[5..10].iter().flat_map(|l| record[10..17].iter().map(move |r| l * r));
                let mut whole = record[..5].to_vec();
                whole.extend(product);
                whole.push(0.0);
                whole.extend(&record[17..36]);
                written.add(&whole).expect("fits");
            }
            let largest = 1e-5 * UNIT * (records.len() as f64).sqrt();
            for (product, written) in lattice(products).iter().zip(lattice(written)) {
                prop_assert!(((product - written) as f64).abs() < largest);
            }
        }

        #[test]
        fn the_order_of_records_changes_no_bit(
            mut records in prop::collection::vec(prop::collection::vec(-10.0_f32..10.0, 36), 2..150),
        ) {
            let total = |records: &[Vec<f32>]| {
                let mut sum = sum(60, 1.0, 1.3).expect("sound");
                records.iter().for_each(|record| sum.add_parts(&parts(record)).expect("fits"));
                lattice(sum)
            };
            let forwards = total(&records);
            records.reverse();
            prop_assert_eq!(forwards, total(&records));
        }
    }
}

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

/// Most that √m + √n may add up to over the outer products of one record. Where it is more, products are
/// written out, and every value of theirs is rounded for itself.
const PRODUCT_WIDTH: f64 = 1024.0;

/// The running sum of one step. It holds what the noise has yet to cover, so it never prints and
/// is wiped when dropped.
pub struct ClippedSum {
    /// In units of the fine lattice, g/2ᵇ. After the gradient's coordinates comes that of the bits,
    /// where clipping has them.
    values: Vec<i64>,
    /// Coordinates of a gradient.
    length: usize,
    sigma: NoiseMultiplier,
    norm: ClippingNorm,
    clipping: Clipping,
    /// The norm that gradients are scaled down to: C', or less where a bit has the rest.
    clip_to: f64,
    /// What a record adds or subtracts as its bit, in the units of `values`.
    bit: Option<i64>,
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

/// Why a gradient, or another sum, was not added.
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
    /// The sum is full.
    #[error("a batch may hold {MAX_RECORDS} records; use a smaller sampling rate")]
    TooMany,
    /// The other sum has another length, clipping or lattice.
    #[error("a sum made for other terms cannot be added to this one")]
    OtherTerms,
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
        let sigma = noise_multiplier.value();
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
        // two sums in the end moves them apart by at most g: together less than 1.04·g√d. There may be
        // one coordinate more, for the bits of adaptive clipping.
        let lattice_unit = sigma / LATTICE_DEVIATION as f64;
        let sensitivity = (1.0 - MARGIN) * (1.0 + NORM_ERROR + PRODUCT_ERROR)
            + 1.04 * lattice_unit * (length as f64 + 1.0).sqrt();
        if sensitivity > 1.0 {
            let found = format!("{length} with noise multiplier {sigma}");
            let allowed = "below 2^36 / noise multiplier^2, where the lattice is fine enough";
            return Err(OutOfRange::new("length of a sum", allowed, found));
        }
        Ok(Self {
            values: vec![0; length],
            length,
            sigma: noise_multiplier,
            norm: clipping_norm,
            clipping: Clipping::Flat,
            clip_to: clipping_norm.value() * (1.0 - MARGIN),
            bit: None,
            fine_bits,
            products: Vec::new(),
            records: 0,
            not_finite: 0,
        })
    }

    /// The same sum of no records, clipped in another way.
    ///
    /// # Errors
    /// Ends of layers that are not those of this sum, a γ of 0, too little noise on a count.
    pub fn clipped(self, clipping: Clipping) -> Result<Self, OutOfRange> {
        clipping.check(self.length, self.sigma)?;
        let mut sum = self;
        let [gradient, bit] = clipping.shares(sum.sigma);
        let most = sum.norm.value() * (1.0 - MARGIN);
        sum.clip_to = gradient * most;
        sum.bit = (bit > 0.0).then(|| (bit * most / sum.unit()).round() as i64);
        sum.values = vec![0; sum.length + usize::from(sum.bit.is_some())];
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
    /// Parts out of place, or more than [`MAX_RECORDS`] records. Nothing is added.
    pub fn add_parts(&mut self, parts: &[Part]) -> Result<(), AddError> {
        let is_wide = self.check(parts)? > PRODUCT_WIDTH;
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
        if let (Some(bit), Some(bits)) = (self.bit, self.values.get_mut(self.length)) {
            let is_kept = factors.iter().all(|&factor| factor >= 1.0);
            *bits += if is_kept { bit } else { -bit };
        }
        let unit = self.unit();
        for part in parts {
            // Each term is at most 2^44 and there are at most 2^18: the sum stays within 2^62.
            let scale = factors[self.clipping.layer(part.start).0] / unit;
            match part.values {
                Values::Each(values) => {
                    lattice::add_rounded(&mut self.values[part.range()], values, scale)
                }
                Values::Outer { left, right } if is_wide => {
                    let rows = self.values[part.range()].chunks_exact_mut(right.len());
                    for (row, &value) in rows.zip(left) {
                        lattice::add_rounded(row, right, f64::from(value) * scale);
                    }
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

    /// This sum and another of the same step together, as if one had taken all their records: not
    /// a bit depends on how records were divided among them. A sum without records costs nothing.
    ///
    /// # Errors
    /// The other was made for other terms, or they have more than [`MAX_RECORDS`] records together.
    pub fn merge(mut self, mut other: Self) -> Result<Self, AddError> {
        if self.terms() != other.terms() {
            return Err(AddError::OtherTerms);
        }
        if self.records + other.records > MAX_RECORDS {
            return Err(AddError::TooMany);
        }
        if other.is_empty() {
            return Ok(self);
        }
        if self.is_empty() {
            return Ok(other);
        }
        for products in &mut other.products {
            products.add_to(&mut self.values);
        }
        for (sum, value) in self.values.iter_mut().zip(&other.values) {
            *sum += value;
        }
        self.records += other.records;
        self.not_finite += other.not_finite;
        Ok(self)
    }

    /// What two sums must have in common to be added.
    fn terms(&self) -> (usize, NoiseMultiplier, ClippingNorm, &Clipping) {
        (self.length, self.sigma, self.norm, &self.clipping)
    }

    /// Refuses parts out of place, and gives √m + √n added up over outer products.
    fn check(&self, parts: &[Part]) -> Result<f64, AddError> {
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
        Ok(width)
    }

    /// Number of coordinates of a gradient.
    pub fn len(&self) -> usize {
        self.length
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

    /// C, and how records are brought to it.
    pub(super) fn clip(&self) -> (ClippingNorm, &Clipping) {
        (self.norm, &self.clipping)
    }

    /// g = σC/2²⁹, what one unit of the noise's lattice is worth.
    pub(super) fn lattice_step(&self) -> f64 {
        self.sigma.value() / LATTICE_DEVIATION as f64 * self.norm.value()
    }

    /// What one record's bit is in units of the noise's lattice, where clipping has bits.
    pub(super) fn bit(&self) -> Option<f64> {
        Some(self.bit? as f64 / f64::from(self.fine_bits).exp2())
    }

    /// g/2ᵇ, what one unit of the sum's own lattice is worth.
    fn unit(&self) -> f64 {
        self.lattice_step() / f64::from(self.fine_bits).exp2()
    }

    /// The sum in units of the noise's lattice, for the noise: the gradients' coordinates, and the
    /// bits'. Wiped when dropped.
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
        write!(f, "ClippedSum({} coordinates, [redacted])", self.length)
    }
}

impl Drop for ClippedSum {
    fn drop(&mut self) {
        // Zeros that were never written stay memory that was never asked for.
        if !self.is_empty() {
            self.values.zeroize();
        }
    }
}

#[cfg(test)]
mod tests;

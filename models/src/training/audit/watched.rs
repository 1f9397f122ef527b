//! One step under watch: what it released, beside a clipped sum of the auditor's own.

use std::num::NonZeroU32;

use consilium_privacy::{
    accountant::{ClippingNorm, NoiseMultiplier},
    step::Clipping,
};

use super::Mechanism;
use crate::training::{
    TrainError,
    batch::Context,
    examples::Pick,
    private::{Gradient, each_gradient},
};

/// Norm that gradients are clipped to, over C: [`ClippedSum`](consilium_privacy::step::ClippedSum)
/// keeps the rest as room for rounding.
pub(super) const CLIPPED: f64 = 1.0 - 1.0 / 1024.0;

/// What one step released.
pub(super) struct Watched {
    /// As it left the mechanism.
    pub(super) released: Vec<f32>,
    /// The clipped sum of the picked records.
    known: Vec<f64>,
}

impl Watched {
    /// Releases the gradients of the picked records, clipped for this norm and noise multiplier, and what
    /// `more` has in it.
    pub(super) fn of<M: Mechanism>(
        context: &Context,
        weights: &[f32],
        picks: &[Pick],
        (norm, sigma): (ClippingNorm, NoiseMultiplier),
        mechanism: &mut M,
        more: M::Sum,
    ) -> Result<Self, TrainError> {
        let length = weights.len();
        // Where clipping has a bit of each record, that has the rest.
        let [share, _] = context.clipping.shares(sigma);
        let clip_to = share * CLIPPED * norm.value();
        let start = || {
            let known = Known::new(length, clip_to, context.clipping);
            Ok((known, mechanism.sum(length)?))
        };
        let add = |(known, sum): &mut (Known, M::Sum), gradient: Gradient| {
            known.add(gradient);
            mechanism.add(sum, gradient)
        };
        let hands = each_gradient(context, weights, picks, start, add)?;
        let (parts, mut sums): (Vec<_>, Vec<_>) = hands.into_iter().unzip();
        sums.push(more);
        let released = mechanism.release(length, sums)?;
        let mut known = vec![0.0; length];
        for part in parts {
            let both = known.iter_mut().zip(part.sum);
            both.for_each(|(known, part)| *known += part);
        }
        Ok(Self { released, known })
    }

    /// Released minus known, in clipping norms: noise, and what `more` added.
    pub(super) fn unknown(&self, batch_size: NonZeroU32, norm: ClippingNorm) -> Vec<f64> {
        let (batch_size, norm) = (f64::from(batch_size.get()), norm.value());
        let one =
            |(&released, known): (&f32, &f64)| (f64::from(released) * batch_size - known) / norm;
        self.released.iter().zip(&self.known).map(one).collect()
    }
}

/// The auditor's own clipped sum, of one thread.
struct Known<'a> {
    sum: Vec<f64>,
    /// Room for one gradient.
    values: Vec<f32>,
    clip_to: f64,
    clipping: &'a Clipping,
}

impl<'a> Known<'a> {
    fn new(length: usize, clip_to: f64, clipping: &'a Clipping) -> Self {
        Self {
            sum: vec![0.0; length],
            values: vec![0.0; length],
            clip_to,
            clipping,
        }
    }

    fn add(&mut self, gradient: Gradient) {
        gradient.write(&mut self.values);
        let mut squares = vec![0.0; self.clipping.layers()];
        for (coordinate, &value) in self.values.iter().enumerate() {
            squares[self.clipping.layer(coordinate).0] += f64::from(value).powi(2);
        }
        // One that is not finite counts as zeros.
        let Some(factors) = self.clipping.factors(&squares, self.clip_to) else {
            return;
        };
        for (coordinate, (sum, &value)) in self.sum.iter_mut().zip(&self.values).enumerate() {
            *sum += factors[self.clipping.layer(coordinate).0] * f64::from(value);
        }
    }
}

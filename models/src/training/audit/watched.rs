//! One step under watch: what it released, beside a clipped sum of the auditor's own.

use std::{
    num::NonZeroU32,
    sync::{Mutex, PoisonError},
};

use consilium_privacy::{accountant::ClippingNorm, step::Clipping};

use super::{Add, Mechanism};
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
    /// Releases the gradients of the picked records, and those that `more` adds.
    pub(super) fn of(
        context: &Context,
        weights: &[f32],
        picks: &[Pick],
        norm: ClippingNorm,
        mechanism: &mut impl Mechanism,
        more: impl Fn(&Add) -> Result<(), TrainError>,
    ) -> Result<Self, TrainError> {
        let known = Known::new(weights.len(), norm.value(), context.clipping);
        let released = mechanism.release(weights.len(), &mut |add| {
            each_gradient(context, weights, picks, |gradient| {
                known.add(gradient);
                add(gradient)
            })?;
            more(add)
        })?;
        let known = known.into_sum();
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

/// The auditor's own clipped sum.
struct Known<'a> {
    /// The sum, and room for one gradient.
    sum: Mutex<(Vec<f64>, Vec<f32>)>,
    norm: f64,
    clipping: &'a Clipping,
}

impl<'a> Known<'a> {
    fn new(length: usize, norm: f64, clipping: &'a Clipping) -> Self {
        Self {
            sum: Mutex::new((vec![0.0; length], vec![0.0; length])),
            norm,
            clipping,
        }
    }

    fn add(&self, gradient: Gradient) {
        let mut held = self.sum.lock().unwrap_or_else(PoisonError::into_inner);
        let (sum, values) = &mut *held;
        gradient.write(values);
        let mut squares = vec![0.0; self.clipping.layers()];
        for (coordinate, &value) in values.iter().enumerate() {
            squares[self.clipping.layer(coordinate).0] += f64::from(value).powi(2);
        }
        // One that is not finite counts as zeros.
        let Some(factors) = self.clipping.factors(&squares, CLIPPED * self.norm) else {
            return;
        };
        for (coordinate, (sum, &value)) in sum.iter_mut().zip(&*values).enumerate() {
            *sum += factors[self.clipping.layer(coordinate).0] * f64::from(value);
        }
    }

    fn into_sum(self) -> Vec<f64> {
        let held = self.sum.into_inner();
        held.unwrap_or_else(PoisonError::into_inner).0
    }
}

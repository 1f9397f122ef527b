//! One step under watch: what it released, beside a clipped sum of the auditor's own.

use std::{
    num::NonZeroU32,
    sync::{Mutex, PoisonError},
};

use consilium_privacy::accountant::ClippingNorm;

use super::{Add, Mechanism};
use crate::training::{TrainError, batch::Context, examples::Pick, private::each_gradient};

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
        let known = Known::new(weights.len(), norm.value());
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
struct Known {
    sum: Mutex<Vec<f64>>,
    norm: f64,
}

impl Known {
    fn new(length: usize, norm: f64) -> Self {
        Self {
            sum: Mutex::new(vec![0.0; length]),
            norm,
        }
    }

    fn add(&self, gradient: &[f32]) {
        let squares = gradient.iter().map(|&x| f64::from(x).powi(2));
        let length = squares.sum::<f64>().sqrt();
        if !length.is_finite() {
            return; // counts as zeros
        }
        let factor = (CLIPPED * self.norm / length).min(1.0);
        let mut sum = self.sum.lock().unwrap_or_else(PoisonError::into_inner);
        for (sum, &value) in sum.iter_mut().zip(gradient) {
            *sum += factor * f64::from(value);
        }
    }

    fn into_sum(self) -> Vec<f64> {
        self.sum
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

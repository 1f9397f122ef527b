//! The weights that slide over an image.

use std::borrow::Cow;

use super::{
    super::{
        kernels::{add, dot, sum, transpose, vectorised},
        weights::Weights,
    },
    Addition, Convolution,
};

/// Added to the variance of an output channel's weights, so that equal weights divide by no zero.
pub(super) const EPSILON: f32 = 1e-6;

/// Weights as they slide.
pub(super) struct Kernel {
    /// `[outputs][fan]`; mean 0 and variance 1 in each row if standardised.
    pub(super) weight: Vec<f32>,
    /// One over the deviation of each row of raw weights, if standardised.
    scale: Option<Vec<f32>>,
}

impl Kernel {
    pub(super) fn of(layer: &Convolution, weights: &Weights) -> Self {
        let mut weight = weights.at(layer.weight).to_vec();
        let scale = match layer.addition {
            Addition::Bias(_) => None,
            Addition::Standardised => Some(standardise(&mut weight, layer.fan())),
        };
        Self { weight, scale }
    }

    /// The weights the other way round, `[fan][outputs]` for each group.
    pub(super) fn turned(&self, layer: &Convolution) -> Vec<f32> {
        let (fan, share) = (layer.fan(), layer.share());
        let mut turned = vec![0.0; self.weight.len()];
        let groups = self.weight.chunks_exact(share * fan);
        for (weight, turned) in groups.zip(turned.chunks_exact_mut(fan * share)) {
            transpose(weight, fan, turned);
        }
        turned
    }

    /// Adds a gradient with respect to the weights that slid over the image to that of the raw ones: a
    /// linear map, so it may be that of one example or of a sum. It is `[outputs][fan]`, or the other way
    /// round for each group if it is turned.
    pub(super) fn add_back(
        &self,
        layer: &Convolution,
        gradient: &[f32],
        is_turned: bool,
        raw: &mut [f32],
    ) {
        let mut gradient = Cow::Borrowed(gradient);
        if is_turned {
            let (fan, share) = (layer.fan(), layer.share());
            let mut turned = vec![0.0; gradient.len()];
            let groups = gradient.chunks_exact(fan * share);
            for (gradient, turned) in groups.zip(turned.chunks_exact_mut(fan * share)) {
                transpose(gradient, share, turned);
            }
            gradient = Cow::Owned(turned);
        }
        match &self.scale {
            None => add(raw, &gradient),
            Some(scale) => add_raw(raw, &gradient, &self.weight, scale),
        }
    }
}

vectorised! {
    /// Brings rows of `fan` weights to mean 0 and variance 1 and gives what each was multiplied by.
    fn standardise<'a>(weights: &'a mut [f32], fan: usize) -> Vec<f32> {
        let rows = weights.chunks_exact_mut(fan).map(|row| {
            let mean = sum(row) / fan as f32;
            row.iter_mut().for_each(|value| *value -= mean);
            let scale = 1.0 / (dot(row, row) / fan as f32 + EPSILON).sqrt();
            row.iter_mut().for_each(|value| *value *= scale);
            scale
        });
        rows.collect()
    }
}

vectorised! {
    /// Adds the gradients of raw weights, from those of standardised ones, in as many rows as there are
    /// scales.
    fn add_raw<'a>(raw: &'a mut [f32], gradient: &'a [f32], weight: &'a [f32], scale: &'a [f32]) {
        let fan = weight.len() / scale.len();
        let rows = weight.chunks_exact(fan).zip(scale);
        let places = raw.chunks_exact_mut(fan).zip(gradient.chunks_exact(fan));
        for ((weight, scale), (raw, gradient)) in rows.zip(places) {
            let along = dot(gradient, weight) / fan as f32;
            let mean = sum(gradient) / fan as f32;
            for ((raw, gradient), weight) in raw.iter_mut().zip(gradient).zip(weight) {
                *raw += (gradient - mean - weight * along) * scale;
            }
        }
    }
}

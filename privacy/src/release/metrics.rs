//! How well a model does on a site's patients: accuracy, loss, Brier score. One prediction for each
//! privacy unit; each is a [`NoisySum`], whose mean is the metric.

use super::{Bounds, NoisySum, ReleaseError, noisy_sum};
use crate::{OutOfRange, ledger::Grant};

/// Largest loss that counts, in nats: above 0, at most 1e12. It is public.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LossCap(Bounds);

impl TryFrom<f64> for LossCap {
    type Error = OutOfRange;
    fn try_from(cap: f64) -> Result<Self, OutOfRange> {
        let bounds = Bounds::new(0.0, cap).ok();
        let allowed = "above 0 and at most 1e12";
        bounds
            .map(Self)
            .ok_or_else(|| OutOfRange::new("loss cap", allowed, cap))
    }
}

/// Releases the share of units whose prediction is right.
///
/// # Errors
/// A grant for something else.
pub fn noisy_accuracy(
    grant: Grant,
    is_right: impl IntoIterator<Item = bool>,
) -> Result<NoisySum, ReleaseError> {
    let figures = is_right.into_iter().map(|right| f64::from(u8::from(right)));
    noisy_sum(grant, Bounds::UNIT, figures)
}

/// Releases the mean loss, each clamped to [0, cap]; a loss that is no number counts as the cap.
///
/// # Errors
/// A grant for something else.
pub fn noisy_loss(
    grant: Grant,
    cap: LossCap,
    losses: impl IntoIterator<Item = f64>,
) -> Result<NoisySum, ReleaseError> {
    noisy_sum(grant, cap.0, losses)
}

/// Releases the mean Brier score from [`brier_score`] of each unit; NaN counts as 2, the worst.
///
/// # Errors
/// A grant for something else.
pub fn noisy_brier(
    grant: Grant,
    scores: impl IntoIterator<Item = f64>,
) -> Result<NoisySum, ReleaseError> {
    noisy_sum(grant, Bounds::BRIER, scores)
}

/// Brier's score (1950) of one prediction: Σ (p - y)² over the classes, from 0 to 2 where the
/// probabilities add up to 1. NaN for a class that has no probability.
pub fn brier_score(probabilities: &[f64], class: usize) -> f64 {
    if class >= probabilities.len() {
        return f64::NAN;
    }
    let truth = |at: usize| f64::from(u8::from(at == class));
    let squares = probabilities.iter().enumerate();
    squares.map(|(at, p)| (p - truth(at)).powi(2)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::release::tests::{grant, pure};

    #[test]
    fn the_score_of_a_prediction_is_that_of_the_formula() {
        assert_eq!(brier_score(&[0.0, 1.0, 0.0], 1), 0.0);
        assert_eq!(brier_score(&[1.0, 0.0], 1), 2.0);
        assert!((brier_score(&[0.7, 0.3], 0) - 0.18).abs() < 1e-15);
        assert!(brier_score(&[f64::NAN, 0.3], 0).is_nan());
        assert!(brier_score(&[1.0], 1).is_nan() && brier_score(&[], 0).is_nan());
    }

    /// Noise of ε = 60 moves a mean of 1000 units by more than 1e-3 once in e^50 runs.
    #[test]
    fn metrics_are_means_over_units() {
        let near = |found: Result<NoisySum, ReleaseError>, expected: f64| {
            let mean = found.expect("paid").mean().expect("units");
            assert!((mean - expected).abs() < 1e-3 * (1.0 + expected), "{mean}");
        };
        let pay = || grant(pure(60.0));
        near(noisy_accuracy(pay(), (0..1000).map(|at| at % 10 < 7)), 0.7);
        let cap = LossCap::try_from(4.0).expect("a cap");
        let losses = [0.5, f64::NAN, 9.0, 0.5].into_iter().cycle().take(1000);
        near(noisy_loss(pay(), cap, losses), 2.25);
        let scores = [0.5, f64::NAN].into_iter().cycle().take(1000);
        near(noisy_brier(pay(), scores), 1.25);
    }

    #[test]
    fn caps_that_are_none_are_refused_with_their_range() {
        for bad in [0.0, -1.0, f64::NAN, f64::INFINITY, 1e13] {
            let error = LossCap::try_from(bad).expect_err("no cap");
            assert!(error.to_string().contains("loss cap"), "{error}");
        }
    }
}

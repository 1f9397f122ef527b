//! Exact privacy profiles of Gaussian noise: of the Gaussian mechanism, and of one sampled step.
//!
//! A profile is δ as a function of ε. With Φ̄ the upper tail of the normal distribution, φ its
//! density and M = Φ̄/φ (Mills' ratio), every profile here is a multiple of
//! `Φ̄(s) - φ(s)·M(s + gap)` (Balle and Wang 2018, arXiv 1805.06530, Theorem 8, with
//! `e^ε φ(s + gap) = φ(s)`), which loses no digits where the two terms of the theorem would cancel.

use std::f64::consts::{FRAC_1_SQRT_2, PI, SQRT_2};

use super::{Delta, NoiseMultiplier, SamplingRate};

/// δ of one Poisson-subsampled Gaussian step, for each direction.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct OneStep {
    /// The unit is in the first data set and not in the second.
    pub remove: f64,
    /// The unit is in the second data set and not in the first.
    pub add: f64,
}

/// ε at `delta` of the Gaussian mechanism whose sensitivity over deviation is `mu` > 0, rounded
/// up; several Gaussian releases together are one whose μ² is the sum of theirs.
pub fn gaussian_epsilon(mu: f64, delta: Delta) -> f64 {
    let target = delta.value();
    let profile = |epsilon: f64| above(epsilon / mu - mu / 2.0, mu);
    if profile(0.0) <= target {
        return 0.0;
    }
    // zCDP's simple formula is never too small.
    let mut enough = mu * mu / 2.0 + mu * (2.0 * -target.ln()).sqrt();
    let mut too_little = 0.0;
    if !enough.is_finite() {
        return f64::INFINITY;
    }
    while enough - too_little > 1e-14 * enough {
        let middle = f64::midpoint(too_little, enough);
        if profile(middle) <= target {
            enough = middle;
        } else {
            too_little = middle;
        }
    }
    // The profile is good to 1e-12 of itself, and published values have twelve digits.
    enough * (1.0 + 1e-11)
}

/// The exact δ(`epsilon`) of one step at sampling rate `q`, for `epsilon` ≥ 0.
///
/// With P = (1-q)·N(0,σ²) + q·N(1,σ²) and Q = N(0,σ²), removal compares P with Q and addition Q
/// with P; the threshold is where the ratio of densities is e^ε, or e^-ε.
pub fn one_step_delta(q: SamplingRate, sigma: NoiseMultiplier, epsilon: f64) -> OneStep {
    let (q, sigma) = (q.value(), sigma.value());
    let threshold = |loss: f64| {
        let odds = loss.exp_m1() / q;
        let exponent = if odds.is_finite() {
            odds.ln_1p()
        } else {
            loss - q.ln()
        };
        sigma * (sigma * exponent) + 0.5
    };
    let remove = q * above((threshold(epsilon) - 1.0) / sigma, 1.0 / sigma);
    // Where even x → -∞ does not bring the ratio down to e^-ε, nothing is left.
    let weight = -(epsilon + (-q).ln_1p()).exp_m1();
    let add = if weight > 0.0 {
        weight * above(-threshold(-epsilon) / sigma, 1.0 / sigma)
    } else {
        0.0
    };
    OneStep { remove, add }
}

/// `Φ̄(s) - φ(s)·M(s + gap)`, for gap ≥ 0 and s + gap ≥ 0.
fn above(s: f64, gap: f64) -> f64 {
    let density = (-s * s / 2.0).exp() / (2.0 * PI).sqrt();
    if s > 0.0 {
        density * (mills(s) - mills(s + gap))
    } else {
        0.5 * libm::erfc(s * FRAC_1_SQRT_2) - density * mills(s + gap)
    }
}

/// Φ̄(x)/φ(x) for x ≥ 0.
fn mills(x: f64) -> f64 {
    (PI / 2.0).sqrt() * scaled_erfc(x / SQRT_2)
}

/// `e^(x²) erfc(x)` for x ≥ 0.
fn scaled_erfc(x: f64) -> f64 {
    if x < 20.0 {
        return (x * x).exp() * libm::erfc(x);
    }
    // The asymptotic series; its sixth term is 1e-13 of the first here.
    let step = -1.0 / (2.0 * x * x);
    let series = [1.0, 3.0, 5.0, 7.0, 9.0, 11.0];
    let sum = series
        .iter()
        .rev()
        .fold(1.0, |sum, factor| 1.0 + factor * step * sum);
    sum / (x * PI.sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(found: f64, expected: f64, tolerance: f64) {
        assert!(
            (found / expected - 1.0).abs() < tolerance,
            "{found:e} for {expected:e}"
        );
    }

    #[test]
    fn published_values_are_met() {
        // mpmath, 40 digits.
        let at = |delta: f64| Delta::try_from(delta).expect("within range");
        close(gaussian_epsilon(1.0, at(1e-6)), 4.886_554_117_462_21, 2e-11);
        close(
            gaussian_epsilon(0.01, at(1e-5)),
            0.027_219_419_814_577_1,
            2e-11,
        );
        assert_eq!(gaussian_epsilon(1e-6, at(1e-3)), 0.0);
        assert_eq!(gaussian_epsilon(1e200, at(1e-3)), f64::INFINITY);
    }

    #[test]
    fn the_scaled_function_is_continuous_where_the_series_takes_over() {
        close(scaled_erfc(20.0_f64.next_down()), scaled_erfc(20.0), 1e-12);
        // 1/(x√π) · (1 - 1/(2x²)) at 1000.
        close(scaled_erfc(1000.0), 5.641_893_014_5e-4, 1e-9);
    }

    #[test]
    fn without_sampling_both_directions_are_the_gaussian_mechanism() {
        for (sigma, epsilon) in [(0.5, 3.0), (1.0, 0.1), (4.0, 0.01), (0.3, 0.0)] {
            let sigma_ = NoiseMultiplier::try_from(sigma).expect("within range");
            let q = SamplingRate::try_from(1.0).expect("within range");
            let step = one_step_delta(q, sigma_, epsilon);
            close(step.remove, step.add, 1e-12);
            close(
                step.remove,
                above(epsilon * sigma - 0.5 / sigma, 1.0 / sigma),
                1e-12,
            );
        }
    }
}

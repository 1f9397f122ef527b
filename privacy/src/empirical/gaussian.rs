//! The normal law, and the ε of Gaussian differential privacy.

use std::f64::consts::SQRT_2;

use crate::accountant::Delta;

/// Larger μ count as this one, so that nothing overflows. The ε of a smaller μ is smaller: what
/// was a lower bound stays one.
const LARGEST_MU: f64 = 20.0;

/// Halvings that bring any bracket used here down to the last bit.
pub(super) const HALVINGS: u32 = 100;

/// `P[N(0,1) ≤ x]`.
pub(super) fn below(x: f64) -> f64 {
    0.5 * libm::erfc(-x / SQRT_2)
}

/// The `x` with `P[N(0,1) ≤ x] = p`, for `0 < p < 1`; exact to the last digits for small `p`.
pub(super) fn quantile(p: f64) -> f64 {
    let (mut low, mut high) = (-38.0, 38.0);
    for _ in 0..HALVINGS {
        let middle = f64::midpoint(low, high);
        if below(middle) < p {
            low = middle;
        } else {
            high = middle;
        }
    }
    low
}

/// The ε at `delta` of the Gaussian mechanism with sensitivity over deviation `mu`: the exact
/// profile δ(ε) = Φ(μ/2 - ε/μ) - e^ε Φ(-μ/2 - ε/μ) (Balle and Wang 2018, Theorem 8), solved for ε.
/// 0 where `mu` is 0 or less.
pub fn gaussian_epsilon(mu: f64, delta: Delta) -> f64 {
    if mu <= 0.0 {
        return 0.0;
    }
    let (mu, delta) = (mu.min(LARGEST_MU), delta.value());
    let profile = |epsilon: f64| {
        below(mu / 2.0 - epsilon / mu) - epsilon.exp() * below(-mu / 2.0 - epsilon / mu)
    };
    if profile(0.0) <= delta {
        return 0.0;
    }
    // Beyond the first, Φ(μ/2 - ε/μ) < 1e-299; beyond the second, e^ε overflows.
    let (mut low, mut high) = (0.0, f64::min(mu * (mu / 2.0 + 37.0), 700.0));
    for _ in 0..HALVINGS {
        let middle = f64::midpoint(low, high);
        if profile(middle) > delta {
            low = middle;
        } else {
            high = middle;
        }
    }
    low
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_the_published_ones_and_invert_the_law() {
        assert!((quantile(0.975) - 1.959_963_984_540_054).abs() < 1e-13);
        assert!((quantile(0.5)).abs() < 1e-14);
        for x in [-30.0, -8.5, -1.0, 0.3, 4.0] {
            assert!((quantile(below(x)) - x).abs() < 1e-9, "{x}");
        }
    }

    #[test]
    fn epsilon_grows_with_mu_and_never_overflows() {
        let delta = Delta::try_from(1e-5).expect("within range");
        // The classic calibration, exactly: deviation 3.730631634944469 for ε = 1, δ = 1e-5.
        assert!((gaussian_epsilon(1.0 / 3.730_631_634_944_469, delta) - 1.0).abs() < 1e-6);
        assert_eq!(gaussian_epsilon(-0.3, delta), 0.0);
        assert_eq!(gaussian_epsilon(1e-9, delta), 0.0);
        let mut last = 0.0;
        for mu in [0.1, 1.0, 5.0, 19.0, f64::INFINITY] {
            let epsilon = gaussian_epsilon(mu, delta);
            assert!(epsilon.is_finite() && epsilon > last, "{mu}: {epsilon}");
            last = epsilon;
        }
    }
}

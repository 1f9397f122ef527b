//! Zero-concentrated differential privacy, turned into (ε, δ).
//!
//! ρ-zCDP means RDP of at most ρα at every order α (Bun and Steinke 2016, arXiv 1605.02065). A
//! Gaussian release has ρ = 1/(2σ²), the lattice Gaussian as well (Canonne, Kamath, Steinke 2020,
//! arXiv 2004.00010), and ρ adds up over releases.

use super::{Delta, Rho, epsilon_at};

/// Orders tried lie between 1 + e^-25 and 1 + e^25.
const WIDEST: f64 = 25.0;

/// ε at `delta` by the formula for the back of an envelope: ρ + 2√(ρ ln 1/δ).
pub fn zcdp_epsilon_simple(rho: Rho, delta: Delta) -> f64 {
    let rho = rho.value();
    rho + 2.0 * (rho * -delta.value().ln()).sqrt()
}

/// ε at `delta`, by the best of all real orders (Canonne, Kamath, Steinke 2020, Proposition 12),
/// rounded up.
pub fn zcdp_epsilon(rho: Rho, delta: Delta) -> f64 {
    let at = |log: f64| {
        let alpha = 1.0 + log.exp();
        epsilon_at(rho.value() * alpha, alpha, delta)
    };
    least(at)
}

/// δ at `epsilon` ≥ 0, by the best of all real orders (Canonne, Kamath, Steinke 2020, Corollary
/// 13): `e^((α-1)(ρα-ε)) / (α-1) · (1-1/α)^α`, rounded up; at most 1.
pub fn zcdp_delta(rho: Rho, epsilon: f64) -> f64 {
    let log_at = |log: f64| {
        let (rest, alpha) = (log.exp(), 1.0 + log.exp());
        rest * (rho.value() * alpha - epsilon) - log + alpha * (-1.0 / alpha).ln_1p()
    };
    let log = least(log_at);
    (log + 1e-14 * (log.abs() + 1.0)).exp().min(1.0)
}

/// The least value of a function with one valley, over logarithms of α-1: the golden section.
/// Every value is a valid bound, so an inexact place only costs a little.
fn least(at: impl Fn(f64) -> f64) -> f64 {
    let golden = (5_f64.sqrt() - 1.0) / 2.0;
    let (mut low, mut high) = (-WIDEST, WIDEST);
    let (mut left, mut right) = (high - golden * (high - low), low + golden * (high - low));
    let (mut at_left, mut at_right) = (at(left), at(right));
    while high - low > 1e-9 {
        if at_left <= at_right {
            (high, right, at_right) = (right, left, at_left);
            left = high - golden * (high - low);
            at_left = at(left);
        } else {
            (low, left, at_left) = (left, right, at_right);
            right = low + golden * (high - low);
            at_right = at(right);
        }
    }
    at_left.min(at_right)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_order_beats_the_simple_formula_and_delta_leads_back() {
        for rho in [1e-4, 0.01, 0.5, 3.0, 200.0] {
            let rho = Rho::try_from(rho).expect("within range");
            for delta in [1e-3, 1e-6, 1e-12] {
                let at = Delta::try_from(delta).expect("within range");
                let epsilon = zcdp_epsilon(rho, at);
                assert!(epsilon < zcdp_epsilon_simple(rho, at));
                let back = zcdp_delta(rho, epsilon);
                assert!((back / delta - 1.0).abs() < 1e-6, "{back} for {delta}");
            }
        }
    }
}

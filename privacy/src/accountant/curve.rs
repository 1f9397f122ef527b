//! Rényi differential privacy of one release, as a function of the order.
//!
//! RDP at order α > 1 bounds the Rényi divergence `D_α(M(x) ‖ M(x'))` over neighbours that differ
//! by one privacy unit added or removed (Mironov 2017, arXiv 1702.07476). Curves of releases made
//! one after the other add up, also when later releases are chosen after seeing earlier ones.
//!
//! Every function here rounds up: the last thing it does is to multiply by [`ROUND_UP`].

/// Covers the error of the quadrature (below 1e-11, see the tests) and of summing up to 10⁵ curves
/// in `f64`, so that a figure derived from a curve is never below the true one.
const ROUND_UP: f64 = 1.0 + 5e-10;

/// Below this noise multiplier sampling is ignored, which only overstates the cost: a study with so
/// little noise has no guarantee worth computing, and the grid would grow without bound.
const SMALLEST_SAMPLED_SIGMA: f64 = 0.02;

/// Points evaluated together, or skipped together.
const BLOCK: usize = 64;

/// What lies this far (in nats) below the largest value is left out: 1e-43 of the total.
const NEGLIGIBLE: f64 = 100.0;

/// One step of the Poisson-subsampled Gaussian mechanism at sampling rate `q`, noise deviation
/// `sigma` and sensitivity 1.
///
/// `ρ(α) = ln A / (α-1)` with `A = E[r(z)^α]`, `z ~ N(0, σ²)`, `r(z) = 1 - q + q e^{(2z-1)/(2σ²)}`
/// (Mironov, Talwar, Zhang 2019, arXiv 1908.10530, who show that this direction is the larger of
/// the two). The trapezoid rule converges geometrically here: `r` vanishes no nearer to the real
/// axis than πσ², so steps of min(σ/16, πσ²/8) leave an error of e^-50.
pub(crate) fn sampled_gaussian(q: f64, sigma: f64, alpha: f64) -> f64 {
    // Joint convexity of the divergence: mixing with the neighbour's output never adds to it.
    let unsampled = alpha / (2.0 * sigma * sigma);
    if q >= 1.0 || sigma < SMALLEST_SAMPLED_SIGMA {
        return unsampled * ROUND_UP;
    }
    let log_moment = Quadrature::new(q, sigma, alpha).log_moment();
    (log_moment / (alpha - 1.0)).min(unsampled) * ROUND_UP
}

/// Laplace noise whose scale is sensitivity / `epsilon` (Mironov 2017, Proposition 6).
pub(crate) fn laplace(epsilon: f64, alpha: f64) -> f64 {
    let (up, down) = ((alpha - 1.0) * epsilon, -alpha * epsilon);
    let (p, rest) = (
        alpha / (2.0 * alpha - 1.0),
        (alpha - 1.0) / (2.0 * alpha - 1.0),
    );
    let log_moment = if up < 1.0 {
        // The two linear terms cancel: what the difference may have lost is added back.
        (p * up.exp_m1() + rest * down.exp_m1()).ln_1p() + 1e-15
    } else {
        p.ln() + up + (rest / p * (down - up).exp()).ln_1p()
    };
    (log_moment / (alpha - 1.0) * ROUND_UP).min(pure(epsilon, alpha))
}

/// Any (ε, 0)-private release: no such mechanism has a larger curve than randomised response with
/// odds `e^ε` (Kairouz, Oh, Viswanath 2015), whose moment is `1 + 2 sinh²(x/2) + tanh(ε/2) sinh(x)`
/// at `x = (α-1)ε`. A count with discrete Laplace noise reaches it.
pub(crate) fn pure(epsilon: f64, alpha: f64) -> f64 {
    let x = (alpha - 1.0) * epsilon;
    let log_moment = if x < 1.0 {
        let sinh = (x / 2.0).sinh();
        (2.0 * sinh * sinh + (epsilon / 2.0).tanh() * x.sinh()).ln_1p()
    } else {
        // ln(p e^x + (1-p) e^-x) with p = e^ε / (1 + e^ε).
        x - (-epsilon).exp().ln_1p() + (-epsilon - 2.0 * x).exp().ln_1p()
    };
    (log_moment / (alpha - 1.0)).min(epsilon) * ROUND_UP
}

/// A release that is of one kind or of another, by the first of each pair, which is its probability;
/// whoever sees it is told which. The moments `e^((α-1)ρ)` of the two mix. Probabilities may add up
/// to a little more than 1.
pub(crate) fn either(kinds: [(f64, f64); 2], alpha: f64) -> f64 {
    let [(p, one), (rest, other)] = kinds.map(|(p, rdp)| (p, (alpha - 1.0) * rdp));
    let larger = one.max(other);
    let log_moment = if larger < 1.0 {
        (p * one.exp_m1() + rest * other.exp_m1()).ln_1p()
    } else {
        larger + (p * (one - larger).exp() + rest * (other - larger).exp()).ln()
    };
    log_moment / (alpha - 1.0) * ROUND_UP
}

/// The integral behind [`sampled_gaussian`].
struct Quadrature {
    q: f64,
    sigma: f64,
    alpha: f64,
    step: f64,
    start: f64,
    blocks: usize,
}

impl Quadrature {
    fn new(q: f64, sigma: f64, alpha: f64) -> Self {
        let step = (sigma / 16.0).min(std::f64::consts::PI * sigma * sigma / 8.0);
        // Beyond 14 deviations of the outermost bumps (at 0 and at α) lies e^-98 of the mass.
        let (start, end) = (-14.0 * sigma, alpha + 14.0 * sigma);
        let blocks = ((end - start) / (step * BLOCK as f64)).ceil() as usize;
        Self {
            q,
            sigma,
            alpha,
            step,
            start,
            blocks,
        }
    }

    /// `ln A`, to a relative error below 1e-11.
    fn log_moment(&self) -> f64 {
        let bound = self.alpha * (self.alpha - 1.0) / (2.0 * self.sigma * self.sigma);
        if bound > 1.0 {
            let log_moment = self.log_of_sum();
            if log_moment > 1.0 {
                return log_moment;
            }
        }
        // Near A = 1 the logarithm of a sum would lose the digits of A - 1.
        self.excess().ln_1p()
    }

    /// `ln A` as the logarithm of a sum of exponentials.
    fn log_of_sum(&self) -> f64 {
        let largest = self.largest();
        let mut sum = 0.0;
        for z in self.points(largest, false) {
            sum += (self.log_integrand(z) - largest).exp();
        }
        largest + (sum * self.weight()).ln()
    }

    /// `A - 1 = E[r^α - 1 - α(r-1)]`: as `E[r] = 1`, this is exact, and every term is ≥ 0.
    fn excess(&self) -> f64 {
        let largest = self.largest();
        let sum: f64 = self.points(largest, true).map(|z| self.excess_at(z)).sum();
        sum * self.weight()
    }

    fn excess_at(&self, z: f64) -> f64 {
        let (u, log_density) = (self.exponent(z), -z * z / (2.0 * self.sigma * self.sigma));
        let log_power = self.alpha * self.log_ratio(u);
        if log_power >= 1.0 {
            // In this order nothing overflows before it is multiplied by the density.
            let linear = self.q * ((u + log_density).exp() - log_density.exp());
            return (log_power + log_density).exp() - log_density.exp() - self.alpha * linear;
        }
        let x = self.q * u.exp_m1();
        let difference = if self.alpha * x.abs() < 0.1 {
            binomial_remainder(x, self.alpha)
        } else {
            log_power.exp_m1() - self.alpha * x
        };
        difference * log_density.exp()
    }

    /// The grid, without the blocks that cannot matter.
    ///
    /// `ln r` is convex (a log-sum-exp of lines), so on a block of width w the log integrand stays
    /// below its larger end plus w²/(8σ²) ≤ 2. For the excess the terms -1 - α(r-1) count as well;
    /// they are bounded by (1+α) times the density, hence the blocks within 15 deviations of 0.
    fn points(&self, largest: f64, keep_center: bool) -> impl Iterator<Item = f64> {
        let width = self.step * BLOCK as f64;
        let matters = move |block: usize| {
            let (left, right) = (self.at(block * BLOCK), self.at((block + 1) * BLOCK));
            let ends = self.log_integrand(left).max(self.log_integrand(right));
            let near = left.abs().min(right.abs()) <= 15.0 * self.sigma + width;
            ends + 2.0 >= largest - NEGLIGIBLE || (keep_center && near)
        };
        (0..self.blocks)
            .filter(move |&block| matters(block))
            .flat_map(move |block| (0..BLOCK).map(move |i| self.at(block * BLOCK + i)))
    }

    /// The largest log integrand at block ends.
    fn largest(&self) -> f64 {
        (0..=self.blocks)
            .map(|block| self.log_integrand(self.at(block * BLOCK)))
            .fold(f64::NEG_INFINITY, f64::max)
    }

    fn at(&self, index: usize) -> f64 {
        self.start + self.step * index as f64
    }

    /// Step width times the density's constant.
    fn weight(&self) -> f64 {
        self.step / (self.sigma * (2.0 * std::f64::consts::PI).sqrt())
    }

    fn exponent(&self, z: f64) -> f64 {
        (2.0 * z - 1.0) / (2.0 * self.sigma * self.sigma)
    }

    /// `ln r` as a function of the exponent `u`.
    fn log_ratio(&self, u: f64) -> f64 {
        if u > 30.0 {
            self.q.ln() + u + ((1.0 - self.q) / self.q * (-u).exp()).ln_1p()
        } else {
            (self.q * u.exp_m1()).ln_1p()
        }
    }

    fn log_integrand(&self, z: f64) -> f64 {
        self.alpha * self.log_ratio(self.exponent(z)) - z * z / (2.0 * self.sigma * self.sigma)
    }
}

/// `(1+x)^α - 1 - αx` for small `α|x|`, by its series, which loses no digits.
fn binomial_remainder(x: f64, alpha: f64) -> f64 {
    let mut term = alpha * (alpha - 1.0) / 2.0 * x * x;
    let mut sum = term;
    let mut k = 2.0;
    while term.abs() > 1e-18 * sum.abs() {
        term *= (alpha - k) / (k + 1.0) * x;
        sum += term;
        k += 1.0;
    }
    sum
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn close(found: f64, expected: f64, tolerance: f64) {
        assert!(
            (found / expected - 1.0).abs() <= tolerance,
            "found {found:e}, expected {expected:e}"
        );
    }

    /// At integer orders the moment is a finite sum (Mironov, Talwar, Zhang 2019, section 3.3).
    fn by_binomial_sum(q: f64, sigma: f64, alpha: u32) -> f64 {
        let mut excess = 0.0;
        let mut coefficient = 1.0;
        for k in 0..=alpha {
            let k_ = f64::from(k);
            let weight = coefficient * (1.0 - q).powi((alpha - k) as i32) * q.powi(k as i32);
            excess += weight * (k_ * (k_ - 1.0) / (2.0 * sigma * sigma)).exp_m1();
            coefficient *= f64::from(alpha - k) / (k_ + 1.0);
        }
        excess.ln_1p() / (f64::from(alpha) - 1.0)
    }

    #[test]
    fn integer_orders_agree_with_the_finite_sum() {
        for q in [1e-6, 1e-3, 0.1, 0.5, 0.999] {
            for sigma in [0.3, 0.5, 1.0, 3.0, 30.0, 1000.0] {
                for alpha in [2, 3, 7, 20_u32] {
                    if f64::from(alpha * alpha) / (2.0 * sigma * sigma) > 700.0 {
                        continue; // the finite sum overflows
                    }
                    let expected = by_binomial_sum(q, sigma, alpha);
                    close(sampled_gaussian(q, sigma, f64::from(alpha)), expected, 1e-9);
                }
            }
        }
    }

    #[test]
    fn skipping_blocks_changes_nothing() {
        for (q, sigma, alpha) in [(0.01, 0.5, 300.0), (0.5, 2.0, 50.5), (1e-4, 0.1, 11.3)] {
            let all = Quadrature::new(q, sigma, alpha);
            let sum: f64 = (0..all.blocks * BLOCK)
                .map(|i| (all.log_integrand(all.at(i)) - all.largest()).exp())
                .sum();
            let expected = all.largest() + (sum * all.weight()).ln();
            close(all.log_of_sum(), expected, 1e-13);
        }
    }

    #[test]
    fn laplace_and_pure_curves_are_the_published_ones() {
        // Laplace, scale 1, order 2: ln(2/3 e + 1/3 e^-2); pure, ε = 1, order 2: ln(e p + (1-p)/e).
        close(
            laplace(1.0, 2.0),
            (2.0 / 3.0 * 1_f64.exp() + (-2_f64).exp() / 3.0).ln(),
            1e-9,
        );
        let p = 1_f64.exp() / (1.0 + 1_f64.exp());
        close(
            pure(1.0, 2.0),
            (p * 1_f64.exp() + (1.0 - p) / 1_f64.exp()).ln(),
            1e-9,
        );
        close(pure(0.1, 3000.0), 0.1, 1e-2);
    }

    proptest! {
        #[test]
        fn more_noise_less_sampling_and_lower_orders_never_cost_more(
            q in 1e-6..1.0, sigma in 0.1..50.0, alpha in 1.01..500.0_f64,
        ) {
            let here = sampled_gaussian(q, sigma, alpha);
            let slack = 1.0 + 1e-10;
            prop_assert!(here > 0.0 && here.is_finite());
            prop_assert!(sampled_gaussian(q, sigma * 1.1, alpha) <= here * slack);
            prop_assert!(sampled_gaussian(q * 0.9, sigma, alpha) <= here * slack);
            prop_assert!(sampled_gaussian(q, sigma, 1.0 + (alpha - 1.0) * 0.9) <= here * slack);
        }

        #[test]
        fn pure_bounds_hold_between_nothing_and_epsilon(
            epsilon in 1e-9..20.0, alpha in 1.01..3000.0,
        ) {
            let (narrow, wide) = (laplace(epsilon, alpha), pure(epsilon, alpha));
            prop_assert!(0.0 < narrow && narrow <= wide && wide <= epsilon * ROUND_UP);
        }
    }
}

//! Rényi accounting: curves add up, the sum at the best order becomes ε.

use std::collections::HashMap;

use super::{
    Accountant, Charge, Delta, Epsilon, Mechanism, NoiseMultiplier, Rho, SamplingRate, calibrate,
    merge, pure_sum, squared_mu, zcdp_epsilon,
};
use crate::OutOfRange;

/// Number of log-spaced orders among [`orders`].
const LOG_SPACED: i32 = 260;

/// Rényi accounting at about 400 real orders, remembering the curve of each mechanism it has met.
#[derive(Debug)]
pub struct Rdp {
    curves: Curves,
}

impl Rdp {
    /// Starts with no curve computed; the first use of a mechanism takes some milliseconds.
    pub fn new() -> Self {
        Self {
            curves: Curves::new(orders()),
        }
    }

    /// The smallest ε over the orders.
    fn best(&self, curve: &[f64], delta: Delta) -> f64 {
        let orders = self.curves.orders.iter();
        orders
            .zip(curve)
            .map(|(&alpha, &rho)| epsilon_at(rho, alpha, delta))
            .fold(f64::INFINITY, f64::min)
    }
}

impl Accountant for Rdp {
    fn epsilon(&mut self, history: &[Charge], delta: Delta) -> f64 {
        let merged = merge(history);
        // Plain Gaussians have a curve that is a line, so their best order is known exactly.
        if let Some(rho) = squared_mu(merged.values()).map(|squared| squared / 2.0) {
            return Rho::try_from(rho * (1.0 + 1e-12)).map_or_else(
                |_| if rho == 0.0 { 0.0 } else { f64::INFINITY },
                |rho| zcdp_epsilon(rho, delta),
            );
        }
        let everything = self.curves.sum(merged.values());
        let all_renyi = self.best(&everything, delta);

        // A few pure releases cost less by adding their ε than through a curve.
        let pure = pure_sum(merged.values());
        if pure == 0.0 {
            return all_renyi;
        }
        let rest = merged
            .values()
            .filter(|(charge, _)| charge.pure_epsilon_of_one().is_none());
        let gaussians = self.curves.sum(rest);
        all_renyi.min(pure + self.best(&gaussians, delta))
    }

    fn calibrate(
        &mut self,
        epsilon: Epsilon,
        delta: Delta,
        q: SamplingRate,
        steps: u32,
    ) -> Result<NoiseMultiplier, OutOfRange> {
        calibrate(epsilon, delta, q, steps)
    }
}

impl Default for Rdp {
    fn default() -> Self {
        Self::new()
    }
}

/// ε at `delta` of what has RDP `rho` at order `alpha` (Canonne, Kamath, Steinke 2020, arXiv
/// 2004.00010, Proposition 12, for finite α: `ε = ρ + ln(1-1/α) - (ln δ + ln α)/(α-1)`), rounded up.
///
/// It is 0 when δ² > 1 - e^-ρ: the total variation distance is then below δ (Bretagnolle, Huber).
pub fn epsilon_at(rho: f64, alpha: f64, delta: Delta) -> f64 {
    let delta = delta.value();
    if delta * delta + (-rho).exp_m1() > 0.0 {
        return 0.0;
    }
    let conversion = (-1.0 / alpha).ln_1p() - (delta.ln() + alpha.ln()) / (alpha - 1.0);
    // Six operations, each off by at most one part in 2^52 of the terms.
    let rounding = 1e-14 * (rho + conversion.abs() + 1.0);
    (rho + conversion + rounding).max(0.0)
}

/// The largest RDP at order `alpha` that still gives `epsilon` at `delta` by [`epsilon_at`],
/// rounded down; not above 0 where the order cannot serve.
pub(crate) fn rho_within(epsilon: Epsilon, alpha: f64, delta: f64) -> f64 {
    let conversion = (-1.0 / alpha).ln_1p() - (delta.ln() + alpha.ln()) / (alpha - 1.0);
    let rounding = 1e-13 * (epsilon.value() + conversion.abs() + 1.0);
    epsilon.value() - conversion - rounding
}

/// Curves at fixed orders, computed once for each mechanism.
#[derive(Debug)]
pub(crate) struct Curves {
    orders: Vec<f64>,
    known: HashMap<Mechanism, Vec<f64>>,
}

impl Curves {
    pub(crate) fn new(orders: Vec<f64>) -> Self {
        Self {
            orders,
            known: HashMap::new(),
        }
    }

    /// RDP of one release of this charge, for each order.
    pub(crate) fn of_one(&mut self, charge: &Charge) -> &[f64] {
        let orders = &self.orders;
        self.known
            .entry(charge.mechanism())
            .or_insert_with(|| charge.curve(orders))
    }

    fn sum<'a>(&mut self, merged: impl Iterator<Item = &'a (Charge, u64)>) -> Vec<f64> {
        let mut total = vec![0.0; self.orders.len()];
        for (charge, count) in merged {
            for (total, rho) in total.iter_mut().zip(self.of_one(charge)) {
                *total += rho * *count as f64;
            }
        }
        total
    }
}

/// The orders that are tried, ascending. Every list is sound; a poor one overstates ε.
///
/// 260 orders with α-1 spaced evenly in the logarithm from 0.02 to 3000, and the default orders of
/// dp-accounting, so that its users never find us above it. They are the orders behind the column
/// `eps_rdp_exact_best_order` of our reference table (found by fitting that column). A list ten
/// times as dense lowers ε by up to 2 %, where a curve has a kink, and by far less elsewhere.
pub(super) fn orders() -> Vec<f64> {
    let (low, high) = (0.02_f64.ln(), 3000_f64.ln());
    let at = |i: i32| low + (high - low) * f64::from(i) / f64::from(LOG_SPACED - 1);
    let log_spaced = (0..LOG_SPACED).map(|i| 1.0 + at(i).exp());
    let tenths = (11..=109).map(|i| f64::from(i) / 10.0);
    let whole = (11..=63)
        .map(f64::from)
        .chain([128.0, 256.0, 512.0, 1024.0]);
    let mut orders: Vec<f64> = log_spaced.chain(tenths).chain(whole).collect();
    orders.sort_by(f64::total_cmp);
    orders
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn training(q: f64, sigma: f64, steps: u32) -> Charge {
        let sound = "within range";
        Charge::SampledGaussian {
            q: q.try_into().expect(sound),
            sigma: sigma.try_into().expect(sound),
            steps,
        }
    }

    fn delta(value: f64) -> Delta {
        value.try_into().expect("within range")
    }

    #[test]
    fn nothing_released_costs_nothing() {
        let mut accountant = Rdp::new();
        assert_eq!(accountant.epsilon(&[], delta(1e-5)), 0.0);
        assert_eq!(
            accountant.epsilon(&[training(0.1, 1.0, 0)], delta(1e-5)),
            0.0
        );
    }

    #[test]
    fn a_lone_count_costs_its_epsilon_and_no_more() {
        let count = Charge::Pure {
            epsilon: 0.1.try_into().expect("within range"),
            releases: 1,
        };
        let epsilon = Rdp::new().epsilon(&[count], delta(1e-5));
        assert!((0.1..0.1 + 1e-9).contains(&epsilon), "{epsilon}");
    }

    #[test]
    fn the_largest_allowed_divergence_converts_to_the_epsilon_it_came_from() {
        for alpha in [1.5, 3.0, 20.0] {
            for epsilon in [5.0, 60.0] {
                let rho = rho_within(epsilon.try_into().expect("within range"), alpha, 1e-6);
                if rho > 0.0 {
                    let back = epsilon_at(rho, alpha, delta(1e-6));
                    assert!(
                        back <= epsilon && back > epsilon - 1e-9,
                        "{back} for {epsilon}"
                    );
                }
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(12))]
        #[test]
        fn the_order_of_a_history_does_not_matter_and_every_step_counts(
            q in 0.001..1.0, sigma in 0.4..8.0, steps in 1_u32..2000, other in 0.4..8.0,
        ) {
            let mut accountant = Rdp::new();
            let count = Charge::Pure { epsilon: 0.2.try_into().expect("sound"), releases: 2 };
            let history = [training(q, sigma, steps), count, training(0.1, other, 7)];
            let mut reversed = history;
            reversed.reverse();
            let whole = accountant.epsilon(&history, delta(1e-5));
            prop_assert_eq!(whole, accountant.epsilon(&reversed, delta(1e-5)));
            let split = [training(q, sigma, 1), history[2], count, training(q, sigma, steps - 1)];
            prop_assert_eq!(whole, accountant.epsilon(&split, delta(1e-5)));

            let longer = [training(q, sigma, steps + 1), count, history[2]];
            prop_assert!(accountant.epsilon(&longer, delta(1e-5)) >= whole);
            prop_assert!(accountant.epsilon(&history, delta(1e-6)) >= whole);
        }
    }
}

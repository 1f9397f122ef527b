//! Decides whether a data set can pay, when charges may depend on all earlier releases.
//!
//! At one order α, a total of at most B(α) is (α, B)-RDP however the charges were chosen (the Rényi
//! filter of Feldman and Zrnic 2021, arXiv 2008.11193). With several orders fixed in advance, go on
//! while **at least one** total is within its bound: sort the transcripts by the order that held to
//! the end; on each part the filter of that order applies, so with bounds taken from (ε, δ/16) the
//! 16 parts add up to (ε, δ). A total never falls, so an order that was exceeded stays exceeded.

use std::collections::HashMap;

use super::Budget;
use crate::accountant::{Charge, Curves, rho_within};

/// The orders, fixed for good: small ones serve large budgets, large ones small budgets. To change
/// one would void the argument for data sets with a history.
const ORDERS: [f64; 16] = [
    1.5, 1.75, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 14.0, 20.0, 32.0, 64.0, 128.0, 256.0,
];

/// What each data set has spent at each order.
#[derive(Debug)]
pub(crate) struct Filter {
    curves: Curves,
    totals: HashMap<String, [f64; 16]>,
}

impl Filter {
    pub(crate) fn new() -> Self {
        Self {
            curves: Curves::new(ORDERS.to_vec()),
            totals: HashMap::new(),
        }
    }

    pub(crate) fn clear(&mut self) {
        self.totals.clear();
    }

    /// Adds what was charged.
    pub(crate) fn add(&mut self, data_set: &str, charge: &Charge) {
        let count = f64::from(charge.releases());
        let totals = self.totals.entry(data_set.to_owned()).or_default();
        for (total, rho) in totals.iter_mut().zip(self.curves.of_one(charge)) {
            *total += rho * count;
        }
    }

    /// The most releases of this kind that leave at least one order within its bound.
    pub(crate) fn releases_left(&mut self, name: &str, budget: Budget, charge: &Charge) -> u32 {
        let totals = self.totals.get(name).copied().unwrap_or_default();
        let one = self.curves.of_one(charge);
        let left = ORDERS
            .iter()
            .zip(totals)
            .zip(one)
            .map(|((&alpha, total), &rho)| {
                let bound = rho_within(budget.epsilon, alpha, budget.delta.value() / 16.0);
                // The cast turns what is negative into 0 and what is too large into u32::MAX.
                let mut count = ((bound - total) / rho).floor() as u32;
                while count > 0 && total + rho * f64::from(count) > bound {
                    count -= 1; // the quotient was rounded up
                }
                count
            });
        left.max().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::accountant::{Delta, epsilon_at};

    fn training(q: f64, sigma: f64, steps: u32) -> Charge {
        let sound = "within range";
        Charge::SampledGaussian {
            q: q.try_into().expect(sound),
            sigma: sigma.try_into().expect(sound),
            steps,
        }
    }

    #[test]
    fn a_first_step_fits_ordinary_budgets() {
        for epsilon in [0.5, 1.0, 3.0, 8.0] {
            let budget = Budget {
                epsilon: epsilon.try_into().expect("sound"),
                delta: 1e-5.try_into().expect("sound"),
            };
            let left = Filter::new().releases_left("scans", budget, &training(0.01, 2.0, 1));
            assert!(left > 0, "epsilon {epsilon}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20))]
        /// An adversary picks each charge at will, and takes all that is granted.
        #[test]
        fn no_order_of_charges_crosses_the_budget(
            epsilon in 0.2..12.0_f64,
            asked in prop::collection::vec((0.001..1.0_f64, 0.5..10.0_f64, 1_u32..3000), 1..12),
        ) {
            let delta = Delta::try_from(1e-6).expect("sound");
            let budget = Budget { epsilon: epsilon.try_into().expect("sound"), delta };
            let mut filter = Filter::new();
            for (q, sigma, steps) in asked {
                let charge = training(q, sigma, 1);
                let granted = filter.releases_left("scans", budget, &charge).min(steps);
                filter.add("scans", &charge.with_releases(granted));
            }
            let share = Delta::try_from(1e-6 / 16.0).expect("sound");
            let within = ORDERS.iter().zip(filter.totals["scans"]).any(|(&alpha, total)| {
                epsilon_at(total, alpha, share) <= epsilon
            });
            prop_assert!(within, "every order is beyond its bound");
        }
    }
}

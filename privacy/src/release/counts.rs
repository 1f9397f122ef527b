//! Counts of privacy units.

use super::{ReleaseError, noise};
use crate::{accountant::Charge, ledger::Grant};

/// A count that may leave, and what it cost.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct NoisyCount {
    /// The count with noise: may be below 0, or above the number of records.
    pub value: i64,
    /// Standard deviation of the noise.
    pub deviation: f64,
    /// What the ledger was charged.
    pub charge: Charge,
}

/// A table of counts that may leave, and what it cost.
#[derive(Debug, Clone, PartialEq)]
pub struct NoisyCounts {
    /// The counts with noise, in the order given.
    pub values: Vec<i64>,
    /// Standard deviation of the noise of each.
    pub deviation: f64,
    /// What the ledger was charged.
    pub charge: Charge,
}

/// Releases how many privacy units there are.
///
/// Neighbours differ by one unit added or removed. With [`Charge::Pure`] the noise has deviation
/// about √2/ε, with a Gaussian σ.
///
/// # Errors
/// A grant for something else.
pub fn noisy_count(grant: Grant, true_count: u64) -> Result<NoisyCount, ReleaseError> {
    let counts = noisy_counts(grant, &[true_count])?;
    Ok(NoisyCount {
        value: counts.values[0],
        deviation: counts.deviation,
        charge: counts.charge,
    })
}

/// Releases a table of counts, **each privacy unit counted in at most one cell**: a confusion
/// matrix, for example. Costs as much as one count.
///
/// # Errors
/// A grant for something else, a count above 2⁶³.
pub fn noisy_counts(grant: Grant, true_counts: &[u64]) -> Result<NoisyCounts, ReleaseError> {
    let counts: Result<Vec<i64>, _> = true_counts.iter().map(|&count| count.try_into()).collect();
    let counts = counts.map_err(|_| ReleaseError::TooLarge)?;
    let noised = noise::add(grant, &counts, 1)?;
    Ok(NoisyCounts {
        values: noised.cells,
        deviation: noised.deviation,
        charge: noised.charge,
    })
}

/// How many units stand in each of `cells`; a place beyond the last counts there.
pub(super) fn tally(cells: usize, places: impl IntoIterator<Item = usize>) -> Vec<u64> {
    let mut counts = vec![0; cells];
    for place in places {
        counts[place.min(cells - 1)] += 1;
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::release::tests::{gaussian, grant, pure};

    #[test]
    fn a_count_says_what_it_cost_and_is_near_the_truth() {
        for charge in [pure(1e-3), pure(1.0 / 3.0), pure(7.0), gaussian(2.0)] {
            let count = noisy_count(grant(charge), 42).expect("paid");
            assert_eq!(count.charge, charge);
            // Below e^-60 for Laplace noise, far less for Gaussian.
            assert!((count.value - 42).abs() as f64 <= 1.0 + 45.0 * count.deviation);
        }
        assert!((noisy_count(grant(pure(60.0)), 42).expect("paid").value - 42).abs() <= 1);
    }

    #[test]
    fn counts_beyond_63_bits_are_refused_and_an_empty_table_is_none() {
        let refused = noisy_count(grant(pure(1.0)), u64::MAX).expect_err("too large");
        assert!(matches!(refused, ReleaseError::TooLarge));
        let none = noisy_counts(grant(pure(1.0)), &[]).expect("paid");
        assert!(none.values.is_empty());
    }
}

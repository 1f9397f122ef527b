//! How many privacy units each class has.

use std::collections::BTreeMap;

use super::{
    ReleaseError,
    counts::{NoisyCounts, noisy_counts, tally},
};
use crate::{accountant::Charge, ledger::Grant};

/// A label balance that may leave, and what it cost.
#[derive(Debug, Clone, PartialEq)]
pub struct NoisyLabelBalance {
    /// Units of each class, with noise, in the order of the classes: may be below 0.
    pub counts: Vec<i64>,
    /// Units whose label is none of the classes, with noise.
    pub others: i64,
    /// Standard deviation of the noise of each count.
    pub deviation: f64,
    /// What the ledger was charged.
    pub charge: Charge,
}

impl NoisyLabelBalance {
    /// Share of each class, from the noisy counts, those below 0 taken as 0; the others' is what
    /// is missing to 1. `None` where nothing is left to divide by.
    pub fn shares(&self) -> Option<Vec<f64>> {
        let at_least_0 = |count: i64| count.max(0) as f64;
        let total: f64 = self.counts.iter().map(|&count| at_least_0(count)).sum();
        let total = total + at_least_0(self.others);
        let shares = self.counts.iter().map(|&count| at_least_0(count) / total);
        (total > 0.0).then(|| shares.collect())
    }
}

/// The label of a privacy unit with several records: the most frequent one; of several that are,
/// the one whose class comes first. `None` without a record.
pub fn label_of_unit(labels: impl IntoIterator<Item = usize>) -> Option<usize> {
    let mut counts = BTreeMap::new();
    for label in labels {
        *counts.entry(label).or_insert(0_u64) += 1;
    }
    let most = counts.values().copied().max()?;
    let mut frequent = counts.into_iter().filter(|(_, count)| *count == most);
    frequent.next().map(|(label, _)| label)
}

/// Releases how many privacy units each of `classes` public classes has, **one label for each
/// unit**, as its position ([`label_of_unit`]); a position beyond the last is another label. Costs
/// as much as one count.
///
/// # Errors
/// A grant for something else.
pub fn noisy_label_balance(
    grant: Grant,
    classes: usize,
    units: impl IntoIterator<Item = usize>,
) -> Result<NoisyLabelBalance, ReleaseError> {
    let NoisyCounts {
        values: mut counts,
        deviation,
        charge,
    } = noisy_counts(grant, &tally(classes + 1, units))?;
    let others = counts.pop().unwrap_or_default();
    Ok(NoisyLabelBalance {
        counts,
        others,
        deviation,
        charge,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::release::tests::{grant, pure};

    #[test]
    fn a_unit_with_several_records_has_its_most_frequent_label() {
        assert_eq!(label_of_unit([]), None);
        assert_eq!(label_of_unit([3]), Some(3));
        assert_eq!(label_of_unit([2, 1, 2]), Some(2));
        assert_eq!(
            label_of_unit([2, 1, 1, 2, 0]),
            Some(1),
            "the first of the frequent"
        );
    }

    /// Noise of ε = 60 is above 1 once in e^120 runs.
    #[test]
    fn shares_are_those_of_the_noisy_counts() {
        let units = [0, 0, 0, 1, 7, usize::MAX];
        let balance = noisy_label_balance(grant(pure(60.0)), 3, units).expect("paid");
        assert_eq!((&balance.counts[..], balance.others), (&[3, 1, 0][..], 2));
        let shares = balance.shares().expect("some units");
        assert_eq!(shares, [0.5, 1.0 / 6.0, 0.0]);
        let below = NoisyLabelBalance {
            counts: vec![-3, 4],
            others: -1,
            ..balance.clone()
        };
        assert_eq!(below.shares(), Some(vec![0.0, 1.0]));
        let nothing = NoisyLabelBalance {
            counts: vec![-3, 0],
            others: -1,
            ..balance
        };
        assert_eq!(nothing.shares(), None);
    }
}

//! Counts that leave a site, with noise from OpenDP.
//!
//! OpenDP's discrete Laplace is exact and proved; it is slow, and right for a handful of figures.
//! A count of privacy units changes by 1 when one is added or removed; so does a table of counts
//! when each unit stands in at most one cell.

use opendp::{
    domains::{AtomDomain, VectorDomain},
    measurements::make_laplace,
    measures::MaxDivergence,
    metrics::L1Distance,
};

use crate::{accountant::Charge, ledger::Grant};

/// A count that may leave, and what it cost.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct NoisyCount {
    /// The count with noise: may be below 0, or above the number of records.
    pub value: i64,
    /// What the ledger was charged.
    pub charge: Charge,
}

/// A table of counts that may leave, and what it cost.
#[derive(Debug, Clone, PartialEq)]
pub struct NoisyCounts {
    /// The counts with noise, in the order given.
    pub values: Vec<i64>,
    /// What the ledger was charged.
    pub charge: Charge,
}

/// Why nothing was released.
#[derive(Debug, thiserror::Error)]
pub enum ReleaseError {
    /// The grant pays for something else.
    #[error("release refused: ledger entry {sequence} does not pay for one pure release")]
    NotPaid {
        /// Position of the entry.
        sequence: u64,
    },
    /// A count does not fit 63 bits.
    #[error("release refused: a count is above 2^63")]
    TooLarge,
    /// OpenDP refused.
    #[error("OpenDP made no release")]
    OpenDp(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Releases how many privacy units there are. The grant must pay for [`Charge::Pure`], once.
///
/// The result is (ε, 0)-differentially private for neighbours that differ by one unit added or
/// removed; its noise has deviation about √2/ε.
///
/// # Errors
/// A grant for something else.
pub fn noisy_count(grant: Grant, true_count: u64) -> Result<NoisyCount, ReleaseError> {
    let counts = noisy_counts(grant, &[true_count])?;
    Ok(NoisyCount {
        value: counts.values[0],
        charge: counts.charge,
    })
}

/// Releases a table of counts, **each privacy unit counted in at most one cell**: a confusion
/// matrix, a histogram of scores with one score for each patient. Costs as much as one count.
///
/// # Errors
/// A grant for something else.
pub fn noisy_counts(grant: Grant, true_counts: &[u64]) -> Result<NoisyCounts, ReleaseError> {
    let charge = grant.charge();
    let Charge::Pure {
        epsilon,
        releases: 1,
    } = charge
    else {
        return Err(ReleaseError::NotPaid {
            sequence: grant.sequence(),
        });
    };
    let counts: Result<Vec<i64>, _> = true_counts.iter().map(|&count| count.try_into()).collect();
    let counts = counts.map_err(|_| ReleaseError::TooLarge)?;
    let values = discrete_laplace(&counts, epsilon.value())
        .map_err(|error| ReleaseError::OpenDp(error.to_string().into()))?;
    Ok(NoisyCounts { values, charge })
}

fn discrete_laplace(counts: &Vec<i64>, epsilon: f64) -> opendp::error::Fallible<Vec<i64>> {
    let mut scale = 1.0 / epsilon;
    loop {
        let measurement = make_laplace::<_, _, MaxDivergence>(
            VectorDomain::new(AtomDomain::<i64>::default()),
            L1Distance::<i64>::default(),
            scale,
            None,
        )?;
        // OpenDP rounds the cost of its scale up; 1/ε may have been rounded down.
        if measurement.map(&1)? <= epsilon {
            return measurement.invoke(counts);
        }
        scale = scale.next_up();
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;
    use crate::keystream::MasterSecret;
    use crate::ledger::{
        Budget, ChargeRequest, Ledger, LedgerKey, MemoryJournal, NO_STUDY, Purpose, Repeat,
        test_grant,
    };

    fn grant(epsilon: f64) -> Grant {
        let epsilon = epsilon.try_into().expect("sound");
        let budget = Budget {
            epsilon: 1e6.try_into().expect("sound"),
            delta: 1e-5.try_into().expect("sound"),
        };
        let key = LedgerKey::from_seed([1; 32]).into();
        let mut ledger = Ledger::open(MemoryJournal::default(), key, [("scans".into(), budget)])
            .expect("an empty journal");
        let request = ChargeRequest {
            data_set: "scans".into(),
            study: NO_STUDY,
            round: 0,
            attempt: 0,
            purpose: Purpose::Release("size".into()),
            charge: Charge::Pure {
                epsilon,
                releases: 1,
            },
            study_cap: None,
            repeat: Repeat::Refuse,
            key: None,
        };
        ledger.reserve(request, UNIX_EPOCH).expect("within budget")
    }

    /// 20 000 cells: mean 0 and variance 2e^-ε/(1-e^-ε)² of the discrete Laplace, within 5
    /// standard errors (kurtosis about 6). False alarms: once in a million runs.
    #[test]
    fn noise_is_the_discrete_laplace_that_was_charged() {
        let (epsilon, cells): (f64, usize) = (0.5, 20_000);
        let released = noisy_counts(grant(epsilon), &vec![1000; cells]).expect("paid");
        let errors: Vec<f64> = released.values.iter().map(|&v| (v - 1000) as f64).collect();
        let variance = 2.0 * (-epsilon).exp() / (1.0 - (-epsilon).exp()).powi(2);
        let mean = errors.iter().sum::<f64>() / cells as f64;
        let found = errors.iter().map(|e| e * e).sum::<f64>() / cells as f64;
        assert!(
            mean.abs() < 5.0 * (variance / cells as f64).sqrt(),
            "{mean}"
        );
        let error = variance * (5.0 / cells as f64).sqrt();
        assert!(
            (found - variance).abs() < 5.0 * error,
            "{found} for {variance}"
        );
    }

    #[test]
    fn odd_epsilons_are_never_overspent_and_every_count_is_taken() {
        for epsilon in [1e-3, 0.1, 1.0 / 3.0, 0.7, 7.0] {
            let count = noisy_count(grant(epsilon), 42).expect("paid");
            assert_eq!(
                count.charge,
                Charge::Pure {
                    epsilon: epsilon.try_into().expect("sound"),
                    releases: 1
                }
            );
        }
        assert!((noisy_count(grant(40.0), 42).expect("paid").value - 42).abs() <= 1);
        assert!(matches!(
            noisy_count(grant(1.0), u64::MAX),
            Err(ReleaseError::TooLarge)
        ));
    }

    #[test]
    fn a_grant_for_training_pays_for_no_count() {
        let secret = MasterSecret::random().expect("randomness");
        let refused = noisy_count(test_grant(0.1, 1.0, 1, &secret), 3).expect_err("another kind");
        assert!(matches!(refused, ReleaseError::NotPaid { .. }));
    }
}

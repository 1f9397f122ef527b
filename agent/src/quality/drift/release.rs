//! What may leave of a summary: a histogram of patients with public edges, noised and charged.

use std::collections::BTreeMap;

use consilium_privacy::{
    accountant::Charge,
    ledger::Grant,
    release::{Edges, ReleaseError, noisy_histogram},
};
use serde::Serialize;

/// One figure of a data set that may leave. Nothing in it is a true count.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct NoisyFeature {
    /// The figure.
    pub feature: String,
    /// The public edges.
    pub edges: Vec<f64>,
    /// Patients below the first edge, from each edge to below the next, from the last one on, with noise:
    /// may be below 0.
    pub counts: Vec<i64>,
    /// Patients without a number, with noise.
    pub missing: i64,
    /// Standard deviation of the noise of each count.
    pub deviation: f64,
    /// What the ledger was charged: the release is (ε, 0)-private for [`Charge::Pure`], for neighbours
    /// that differ by one patient added or removed.
    #[serde(skip)]
    pub charge: Charge,
    /// Position of the charge in the ledger.
    pub ledger_entry: u64,
}

/// Releases how many patients have which figure. Each patient counts once, with the mean of their
/// records' numbers, so that one with many records weighs no more; one without a number is missing. Who opted
/// out must not be among `figures`.
///
/// `edges` must be public: those of [`public_edges`](super::public_edges) or of the plan, never deciles.
/// Each feature is a release of its own and takes a grant of its own, charged before anything is
/// counted.
///
/// # Errors
/// A grant for something else.
pub fn release_feature<'a>(
    grant: Grant,
    feature: &str,
    edges: Edges,
    figures: impl IntoIterator<Item = (&'a str, f64)>,
) -> Result<NoisyFeature, ReleaseError> {
    let ledger_entry = grant.sequence();
    let mut patients: BTreeMap<&str, (f64, f64)> = BTreeMap::new();
    for (patient, figure) in figures {
        let (sum, count) = patients.entry(patient).or_default();
        if figure.is_finite() {
            *sum += figure;
            *count += 1.0;
        }
    }
    let means = patients.into_values().map(|(sum, count)| sum / count);
    let histogram = noisy_histogram(grant, edges, means)?;
    Ok(NoisyFeature {
        feature: feature.to_owned(),
        edges: histogram.edges.as_slice().to_vec(),
        counts: histogram.counts,
        missing: histogram.missing,
        deviation: histogram.deviation,
        charge: histogram.charge,
        ledger_entry,
    })
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use consilium_privacy::ledger::{
        Budget, ChargeRequest, Ledger, LedgerKey, MemoryJournal, NO_STUDY, Purpose, Repeat,
    };

    use super::*;

    fn grant(charge: Charge) -> Grant {
        let budget = Budget {
            epsilon: 1e6.try_into().expect("sound"),
            delta: 1e-5.try_into().expect("sound"),
        };
        let key = LedgerKey::random().expect("randomness").into();
        let budgets = [("scans".to_owned(), budget)];
        let mut ledger = Ledger::open(MemoryJournal::default(), key, budgets).expect("empty");
        let request = ChargeRequest {
            data_set: "scans".into(),
            study: NO_STUDY,
            round: 0,
            attempt: 0,
            purpose: Purpose::Release("drift".into()),
            charge,
            study_cap: None,
            repeat: Repeat::Refuse,
            key: None,
        };
        ledger.reserve(request, UNIX_EPOCH).expect("within budget")
    }

    fn pure(epsilon: f64) -> Charge {
        Charge::Pure {
            epsilon: epsilon.try_into().expect("within range"),
            releases: 1,
        }
    }

    /// Noise of ε = 60 is above 1 once in e^120 runs.
    #[test]
    fn a_patient_counts_once_however_many_records_they_have() {
        let edges = Edges::try_from(vec![1.0, 2.0]).expect("sound");
        let many = (0..50).map(|_| ("a", 1.5));
        let others = [
            ("b", 0.0),
            ("b", 3.0),
            ("c", f64::NAN),
            ("c", f64::INFINITY),
            ("d", 9.0),
        ];
        let figures = many.chain(others);
        let found = release_feature(grant(pure(60.0)), "x", edges, figures).expect("paid");
        // a and b have a mean of 1.5; no number of c is finite.
        assert_eq!((&found.counts[..], found.missing), (&[0, 2, 1][..], 1));
        assert_eq!(found.charge, pure(60.0));
    }

    #[test]
    fn a_grant_for_training_pays_for_no_release() {
        let edges = Edges::try_from(vec![1.0]).expect("sound");
        let training = Charge::SampledGaussian {
            q: 0.5.try_into().expect("sound"),
            sigma: 4.0.try_into().expect("sound"),
            steps: 3,
        };
        let refused = release_feature(grant(training), "x", edges, [("a", 1.0)]);
        assert!(matches!(refused, Err(ReleaseError::NotPaid { .. })));
    }
}

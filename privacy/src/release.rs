//! Figures that leave a site, with noise from OpenDP: counts, sums, histograms, metrics.
//!
//! | figure | call |
//! |---|---|
//! | a count, a table of counts | [`noisy_count`], [`noisy_counts`] |
//! | a histogram with public edges | [`noisy_histogram`] |
//! | how many patients each class has | [`noisy_label_balance`] |
//! | a sum or a mean of bounded figures | [`noisy_sum`] |
//! | accuracy, loss, Brier score | [`noisy_accuracy`], [`noisy_loss`], [`noisy_brier`] |
//! | area under the ROC curve | [`noisy_auc`] |
//!
//! **One rule bounds them all.** Each privacy unit has a fixed number of whole points, 1 or
//! [`POINTS`], and spreads them over the cells of one table; what is released is the table. Adding
//! or removing a unit adds or takes its points: both the L1 and the L2 distance of the two tables
//! are at most that number, however many cells there are. So a mean, which is a sum and a count,
//! costs as much as one count. Edges, classes, bins and bounds are public, of a plan or of the
//! world: they must not be read off the data.
//!
//! **What pays.** A [`Grant`](crate::ledger::Grant) for one [`Charge::Pure`] adds discrete Laplace
//! noise, which is (ε, 0)-private; one for one [`Charge::SampledGaussian`] with q = 1 adds discrete
//! Gaussian noise on a fine lattice, which has the Rényi curve of the Gaussian that was charged. OpenDP
//! makes the noise, and its own privacy map has to agree that no more is spent. Protected is each unit,
//! against everyone who sees the releases. Whatever is computed from the noisy tables costs nothing.
//!
//! OpenDP's samplers are exact and proved; they are slow, and right for a handful of figures.

mod counts;
mod histogram;
mod labels;
mod metrics;
mod noise;
mod ranking;
mod sum;

pub use self::{
    counts::{NoisyCount, NoisyCounts, noisy_count, noisy_counts},
    histogram::{Edges, NoisyHistogram, noisy_histogram},
    labels::{NoisyLabelBalance, label_of_unit, noisy_label_balance},
    metrics::{LossCap, brier_score, noisy_accuracy, noisy_brier, noisy_loss},
    ranking::{NoisyRanking, ScoreBins, noisy_auc},
    sum::{Bounds, NoisySum, POINTS, noisy_sum},
};
#[cfg(doc)]
use crate::accountant::Charge;

/// Why nothing was released.
#[derive(Debug, thiserror::Error)]
pub enum ReleaseError {
    /// The grant pays for something else.
    #[error("release refused: ledger entry {sequence} does not pay for one small release")]
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

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use crate::{
        accountant::Charge,
        ledger::{
            Budget, ChargeRequest, Grant, Ledger, LedgerKey, MemoryJournal, NO_STUDY, Purpose,
            Repeat,
        },
    };

    pub(super) fn pure(epsilon: f64) -> Charge {
        let epsilon = epsilon.try_into().expect("within range");
        Charge::Pure {
            epsilon,
            releases: 1,
        }
    }

    pub(super) fn gaussian(sigma: f64) -> Charge {
        let sound = "within range";
        Charge::SampledGaussian {
            q: 1.0.try_into().expect(sound),
            sigma: sigma.try_into().expect(sound),
            steps: 1,
        }
    }

    /// A grant from a ledger that can pay nearly everything.
    pub(super) fn grant(charge: Charge) -> Grant {
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
            charge,
            study_cap: None,
            repeat: Repeat::Refuse,
            key: None,
        };
        ledger.reserve(request, UNIX_EPOCH).expect("within budget")
    }

    /// L1 and squared L2 distance of two tables.
    pub(super) fn distances(one: &[i64], other: &[i64]) -> (i128, i128) {
        assert_eq!(one.len(), other.len());
        let differences = one.iter().zip(other).map(|(a, b)| i128::from(a - b));
        differences.fold((0, 0), |(l1, l2), d| (l1 + d.abs(), l2 + d * d))
    }
}

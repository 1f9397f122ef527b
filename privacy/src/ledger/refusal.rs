//! Why a ledger says no, in words that a steward can act on.

use super::{Budget, ChainError, JournalError};

/// Why a charge was not granted. Nothing was written, unless [`Refusal::Journal`] says otherwise.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// No budget was set for this data set.
    #[error("data set {data_set} has no privacy budget; register it first")]
    UnknownDataSet {
        /// Its name.
        data_set: String,
    },
    /// The charge is for no release at all.
    #[error("a charge for 0 releases pays for nothing; ask for 1 or more")]
    Nothing,
    /// The same round was charged before.
    #[error(
        "this round was charged before (ledger entry {sequence}); send the stored update again, \
         or ask for a new charge by name"
    )]
    AlreadyCharged {
        /// The earlier entry.
        sequence: u64,
    },
    /// The secret has been used before: the same noise on two sums would subtract out.
    #[error(
        "the secret of this charge was used before (ledger entry {sequence}); draw a fresh one"
    )]
    SecretUsed {
        /// The earlier entry.
        sequence: u64,
    },
    /// The data set cannot pay.
    #[error(
        "data set {data_set} has spent epsilon {spent:.3} of {} at delta {}; what is left pays for \
         {releases_left} of the {asked} releases asked for",
        budget.epsilon, budget.delta
    )]
    DataSetExhausted {
        /// Its name.
        data_set: String,
        /// What it may spend over all studies.
        budget: Budget,
        /// What it has spent, by [`Ledger::spent`](super::Ledger::spent).
        spent: f64,
        /// Releases (steps) asked for.
        asked: u32,
        /// Releases of the same kind that would still be granted.
        releases_left: u32,
    },
    /// The study's own cap does not allow it.
    #[error(
        "the study has spent epsilon {spent:.3} of {} at delta {}; what is left pays for \
         {releases_left} of the {asked} releases asked for",
        cap.epsilon, cap.delta
    )]
    StudyExhausted {
        /// What the study may spend.
        cap: Budget,
        /// What it has spent, by [`Ledger::study_epsilon`](super::Ledger::study_epsilon).
        spent: f64,
        /// Releases (steps) asked for.
        asked: u32,
        /// Releases of the same kind that would still be granted.
        releases_left: u32,
    },
    /// The journal did not confirm the entry, which may be on disk all the same; if so, it counts.
    #[error("the charge could not be stored")]
    Journal(#[from] LedgerError),
}

/// Why a ledger could not be opened or written.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// The store below failed.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// Entries were lost or changed. Restore the ledger from a copy that verifies.
    #[error("the ledger does not verify")]
    Chain(#[from] ChainError),
}

/// Why an update cannot be recorded.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// No training was charged at this position, or for fewer steps.
    #[error("ledger entry {charge} paid for no such training")]
    NotPaid {
        /// The position.
        charge: u64,
    },
    /// One charge pays for one update.
    #[error("ledger entry {charge} paid for another update, which was recorded before")]
    OtherUpdate {
        /// The position.
        charge: u64,
    },
    /// The ledger failed.
    #[error("the update could not be recorded")]
    Ledger(#[from] LedgerError),
}

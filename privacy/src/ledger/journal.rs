//! Where entries are kept. The ledger decides, a journal remembers.

use super::Entry;

/// Durable, append-only storage of entries, one writer at a time.
pub trait Journal {
    /// All entries, oldest first; none for a new journal.
    ///
    /// # Errors
    /// The store could not be read. The ledger is not opened then.
    fn load(&mut self) -> Result<Vec<Entry>, JournalError>;

    /// Stores one entry; when this returns `Ok` it has reached the disk (fsync or the like), so
    /// that a loss of power keeps it. An entry whose sequence is already there must be refused.
    ///
    /// # Errors
    /// The entry may or may not have been stored. The ledger reads everything again before the
    /// next charge, and counts it if it is there.
    fn append(&mut self, entry: &Entry) -> Result<(), JournalError>;
}

/// The store below a ledger failed.
#[derive(Debug, thiserror::Error)]
#[error("the ledger's store failed; check the disk and its permissions, then try again")]
pub struct JournalError(#[source] Box<dyn std::error::Error + Send + Sync>);

impl JournalError {
    /// Keeps the cause.
    pub fn new(cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self(cause.into())
    }
}

/// Keeps entries in memory: for tests. What it grants is forgotten with the process, so it must
/// never stand below a site's ledger.
#[derive(Debug, Clone, Default)]
pub struct MemoryJournal(Vec<Entry>);

impl Journal for MemoryJournal {
    fn load(&mut self) -> Result<Vec<Entry>, JournalError> {
        Ok(self.0.clone())
    }

    fn append(&mut self, entry: &Entry) -> Result<(), JournalError> {
        if self.0.iter().any(|other| other.sequence == entry.sequence) {
            return Err(JournalError::new(format!(
                "entry {} is there already",
                entry.sequence
            )));
        }
        self.0.push(entry.clone());
        Ok(())
    }
}

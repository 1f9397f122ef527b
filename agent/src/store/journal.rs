//! The ledger's entries in SQLite, and the one way to a grant.

use std::{collections::BTreeMap, time::SystemTime};

use consilium_privacy::{
    accountant::{Charge, ClippingNorm, Delta},
    keystream::{Commitment, MasterSecret},
    ledger::{
        Budget, ChargeRequest, Entry, Grant, Head, Journal, JournalError, Ledger, LedgerError,
        Made, RecordError, Refusal,
    },
};
use sqlx::SqlitePool;
use tokio::runtime::Handle;

use super::{Store, StoreError, lock_file};

/// Why nothing was charged.
#[derive(Debug, thiserror::Error)]
pub enum ChargeError {
    /// The ledger refuses.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The ledger cannot be read.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// An update cannot be recorded.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// An update stands in the ledger for this charge, or it is no charge for training.
    #[error("ledger entry {sequence} pays for no further training")]
    Recorded {
        /// Its position.
        sequence: u64,
    },
    /// The secret of a charge was removed.
    #[error("the secret {0} of an interrupted round is not in the folder `keys`: put it back")]
    NoSecret(Commitment),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A charge that is on disk.
#[derive(Debug)]
pub struct Charged {
    /// Permission to release what was paid for.
    pub grant: Grant,
    /// ε of the whole study so far, this charge included, at the δ asked for.
    pub study_epsilon: f64,
    /// C where the study's last update ended; none before its first.
    pub clipping_norm: Option<ClippingNorm>,
}

/// A journal whose entries are durable before `append` returns: SQLite with `synchronous = FULL`.
/// For threads that may block, inside a runtime.
struct SqliteJournal {
    pool: SqlitePool,
    runtime: Handle,
}

impl Journal for SqliteJournal {
    fn load(&mut self) -> Result<Vec<Entry>, JournalError> {
        let rows = sqlx::query_scalar("SELECT entry FROM ledger ORDER BY sequence");
        let rows: Vec<Vec<u8>> = self
            .runtime
            .block_on(rows.fetch_all(&self.pool))
            .map_err(failed)?;
        rows.iter()
            .map(|row| Entry::from_bytes(row).map_err(JournalError::new))
            .collect()
    }

    fn append(&mut self, entry: &Entry) -> Result<(), JournalError> {
        let insert = sqlx::query("INSERT INTO ledger (sequence, entry) VALUES (?, ?)")
            .bind(entry.sequence as i64)
            .bind(entry.to_bytes());
        self.runtime
            .block_on(insert.execute(&self.pool))
            .map_err(failed)?;
        Ok(())
    }
}

fn failed(error: sqlx::Error) -> JournalError {
    JournalError::new(StoreError::from(error))
}

impl Store {
    /// Charges a data set, on disk, and grants what was charged for.
    ///
    /// # Errors
    /// The ledger refuses, does not verify, or cannot be written.
    pub async fn charge(
        &self,
        budgets: &BTreeMap<String, Budget>,
        request: ChargeRequest,
        delta: Delta,
        now: SystemTime,
    ) -> Result<Charged, ChargeError> {
        self.with_ledger(budgets, move |ledger| {
            let study = request.study;
            let grant = ledger.reserve(request, now)?;
            Ok(Charged {
                grant,
                study_epsilon: ledger.study_epsilon(study, delta),
                clipping_norm: ledger.clipping_norm(study),
            })
        })
        .await
    }

    /// Grants once more what an earlier charge paid for, whose update was never stored, with the
    /// secret it committed to.
    ///
    /// The caller vouches that nothing of it has left: see [`Store::begin_training`], which
    /// refuses rounds that were offered.
    ///
    /// [`Store::begin_training`]: Self::begin_training
    ///
    /// # Errors
    /// No such charge, an update that was recorded for it, a secret that is gone.
    pub(crate) async fn resume_charge(
        &self,
        sequence: u64,
        delta: Delta,
    ) -> Result<(Charged, MasterSecret), ChargeError> {
        let store = self.clone();
        self.with_ledger(&BTreeMap::new(), move |ledger| {
            let grant = ledger
                .resume(sequence)
                .ok_or(ChargeError::Recorded { sequence })?;
            let entries = ledger.entries().iter();
            let charged = entries
                .filter(|entry| entry.sequence == sequence)
                .find_map(|entry| entry.fact.charged()?.key);
            let key = charged.ok_or(ChargeError::Recorded { sequence })?;
            let secret = store.secret(&key)?.ok_or(ChargeError::NoSecret(key))?;
            let study = grant.study();
            let charged = Charged {
                grant,
                study_epsilon: ledger.study_epsilon(study, delta),
                clipping_norm: ledger.clipping_norm(study),
            };
            Ok((charged, secret))
        })
        .await
    }

    /// Writes down, before anything of it leaves, which update a charge paid for. Safe to repeat.
    ///
    /// # Errors
    /// No such charge, another update for it, or a ledger that cannot be written.
    pub async fn record_update(&self, made: Made, now: SystemTime) -> Result<(), ChargeError> {
        self.with_ledger(
            &BTreeMap::new(),
            move |ledger| Ok(ledger.record(made, now)?),
        )
        .await
    }

    /// How many releases like this one a data set could still pay for; none without a budget.
    ///
    /// # Errors
    /// The ledger cannot be read, or does not verify.
    pub async fn releases_left(
        &self,
        budgets: &BTreeMap<String, Budget>,
        data_set: &str,
        charge: Charge,
    ) -> Result<Option<u32>, ChargeError> {
        let data_set = data_set.to_owned();
        self.with_ledger(budgets, move |ledger| {
            Ok(ledger.releases_left(&data_set, &charge))
        })
        .await
    }

    /// ε of everything a data set has released, at this δ.
    ///
    /// # Errors
    /// The ledger cannot be read, or does not verify.
    pub async fn spent(&self, data_set: &str, delta: Delta) -> Result<f64, ChargeError> {
        let data_set = data_set.to_owned();
        self.with_ledger(&BTreeMap::new(), move |ledger| {
            Ok(ledger.spent(&data_set, delta))
        })
        .await
    }

    /// ε of everything one study has released here, at this δ.
    ///
    /// # Errors
    /// The ledger cannot be read, or does not verify.
    pub async fn study_epsilon(&self, study: [u8; 16], delta: Delta) -> Result<f64, ChargeError> {
        self.with_ledger(&BTreeMap::new(), move |ledger| {
            Ok(ledger.study_epsilon(study, delta))
        })
        .await
    }

    /// All charges, oldest first, after their chain was verified.
    ///
    /// # Errors
    /// The ledger cannot be read, or does not verify.
    pub async fn ledger_entries(&self) -> Result<Vec<Entry>, ChargeError> {
        self.with_ledger(&BTreeMap::new(), |ledger| Ok(ledger.entries().to_vec()))
            .await
    }

    /// Position and hash of the newest entry, after the chain was verified.
    ///
    /// # Errors
    /// The ledger cannot be read, or does not verify.
    pub async fn ledger_head(&self) -> Result<Head, ChargeError> {
        self.with_ledger(&BTreeMap::new(), |ledger| Ok(ledger.head()))
            .await
    }

    fn journal(&self) -> SqliteJournal {
        SqliteJournal {
            pool: self.pool.clone(),
            runtime: Handle::current(),
        }
    }

    async fn with_ledger<T: Send + 'static>(
        &self,
        budgets: &BTreeMap<String, Budget>,
        work: impl FnOnce(&mut Ledger<SqliteJournal>) -> Result<T, ChargeError> + Send + 'static,
    ) -> Result<T, ChargeError> {
        let (journal, budgets) = (self.journal(), budgets.clone());
        let key = self.ledger_key.clone();
        self.alone(move || work(&mut Ledger::open(journal, key, budgets)?))
            .await
    }

    /// Runs on a thread that may block, while no other process reads and extends the ledger. Each
    /// use reads it anew: what is on disk is the only truth, whoever wrote it.
    async fn alone<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, ChargeError> + Send + 'static,
    ) -> Result<T, ChargeError> {
        let path = self.folder.join("ledger.lock");
        let locked = move || {
            let lock = lock_file(&path)?;
            lock.lock()
                .map_err(|source| StoreError::Folder { path, source })?;
            work()
        };
        match tokio::task::spawn_blocking(locked).await {
            Ok(result) => result,
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }
}

//! What an agent remembers: one SQLite file in its folder, written through to the disk.
//!
//! Several processes may have it open (the running agent and a steward's commands); SQLite orders
//! their writes, and [`Store::charge`] lets only one of them at a time read and extend the ledger.
//! Secrets in it are sealed; patients stand in it by pseudonym.

mod access;
mod attempts;
mod chronicle;
mod data_sets;
mod journal;
mod log;
mod models;
mod receipts;
mod rounds;
mod secrets;
mod studies;
#[cfg(test)]
mod tests;

use std::{
    fs::{self, File, TryLockError},
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use consilium_privacy::{
    keystream::NoRandomness,
    ledger::{LedgerKey, LedgerPublicKey},
    pseudonym::PseudonymKey,
    seal::{self, FileError, OpenError, SealError, SealingKey},
};
use consilium_proto::ErrorCode;
use sqlx::{
    SqlitePool,
    migrate::{MigrateError, Migrator},
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};
use zeroize::Zeroizing;

pub use self::{
    access::{Duty, Token},
    attempts::KeptComplaint,
    chronicle::{Act, Chain, ChronicleError, Deed, Record},
    data_sets::DataSet,
    journal::{ChargeError, Charged},
    log::Event,
    models::KnownModel,
    receipts::Evidence,
    rounds::StoredRound,
    studies::{Decided, KnownStudy},
};
use crate::policy::Noise;

static MIGRATIONS: Migrator = sqlx::migrate!("./migrations");

/// How long a write waits for another process's.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

/// Why the store does not answer.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A newer program wrote it.
    #[error(
        "{} is of version {found}, this program knows versions up to {known}: use the newer program",
        file.display()
    )]
    Newer {
        /// The database.
        file: PathBuf,
        /// Its version.
        found: i64,
        /// The newest that this program knows.
        known: i64,
    },
    /// Another process holds it.
    #[error("the database is locked by another process: end that one, or try again")]
    Locked(#[source] sqlx::Error),
    /// There is no room.
    #[error("the disk is full: make room, then try again; nothing was half-written")]
    Full(#[source] sqlx::Error),
    /// It is no database, or a broken one.
    #[error("the database is damaged: put back a copy that is whole")]
    Damaged(#[source] sqlx::Error),
    /// Anything else.
    #[error("the database failed")]
    Database(#[source] sqlx::Error),
    /// The tables cannot be brought up to date.
    #[error("the database cannot be brought up to date")]
    Migration(#[source] MigrateError),
    /// A sealed file of the folder cannot be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// A sealed column cannot be opened.
    #[error("{what} cannot be opened")]
    Open {
        /// Table, row and column.
        what: String,
        /// Why not.
        source: OpenError,
    },
    /// Something cannot be sealed.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// No new key can be made.
    #[error(transparent)]
    NoRandomness(#[from] NoRandomness),
    /// The folder cannot be used.
    #[error("{} cannot be used", path.display())]
    Folder {
        /// Which one.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A row holds what this program never wrote.
    #[error("{what} holds what no version of this program writes: put back a copy that is whole")]
    Unreadable {
        /// Table and column.
        what: &'static str,
    },
    /// Another agent runs on this folder.
    #[error("another agent runs on {}: one folder serves one agent", folder.display())]
    InUse {
        /// The folder.
        folder: PathBuf,
    },
}

impl StoreError {
    /// What the caller should do about it.
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Locked(_) | Self::InUse { .. } => ErrorCode::Unavailable,
            Self::Full(_) => ErrorCode::Exhausted,
            Self::Newer { .. } => ErrorCode::Precondition,
            Self::Open { .. } => ErrorCode::Denied,
            Self::File(FileError::Open { .. }) => ErrorCode::Denied,
            _ => ErrorCode::Internal,
        }
    }
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        // Primary result codes of SQLite are the low byte: https://sqlite.org/rescode.html
        let code = error.as_database_error().and_then(|error| error.code());
        match code
            .and_then(|code| code.parse::<u32>().ok())
            .map(|code| code & 0xFF)
        {
            Some(5 | 6) => Self::Locked(error),
            Some(13) => Self::Full(error),
            Some(11 | 26) => Self::Damaged(error),
            _ => Self::Database(error),
        }
    }
}

/// The memory of one agent.
#[derive(Clone)]
pub struct Store {
    pool: SqlitePool,
    folder: Arc<Path>,
    key: Arc<SealingKey>,
    pseudonyms: Arc<PseudonymKey>,
    ledger_key: Arc<LedgerKey>,
}

impl Store {
    /// Opens the store of a folder, or makes it; brings its tables up to date.
    ///
    /// # Errors
    /// A folder that cannot be written, a database that is locked, damaged or of a newer
    /// version, a sealing key that is not the one it was made with.
    pub async fn open(folder: &Path, key: Arc<SealingKey>) -> Result<Self, StoreError> {
        let pseudonyms = kept_key(folder, &key, "pseudonym", || {
            Ok(*PseudonymKey::random()?.as_bytes())
        })?;
        let ledger_key = kept_key(folder, &key, "ledger", || Ok(*LedgerKey::random()?.seed()))?;
        let file = folder.join("agent.db");
        if !file.exists() {
            // Mode 0600 before anything is in it; SQLite gives its side files the same mode.
            seal::create_private(&file, &[])?;
        }
        let options = SqliteConnectOptions::new()
            .filename(&file)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(BUSY_TIMEOUT);
        let pool = SqlitePoolOptions::new()
            .max_connections(4)
            .connect_with(options)
            .await?;
        migrate(&pool, &file).await?;
        Ok(Self {
            pool,
            folder: Arc::from(folder),
            key,
            pseudonyms: Arc::new(PseudonymKey::from_bytes(*pseudonyms)),
            ledger_key: Arc::new(LedgerKey::from_seed(*ledger_key)),
        })
    }

    /// The folder it lies in.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Key of the patients' pseudonyms.
    pub fn pseudonyms(&self) -> Arc<PseudonymKey> {
        self.pseudonyms.clone()
    }

    /// Public half of the key that signs the ledger.
    pub fn ledger_public_key(&self) -> LedgerPublicKey {
        self.ledger_key.public_key()
    }

    /// Closes its files.
    pub async fn close(self) {
        self.pool.close().await;
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Store({})", self.folder.display())
    }
}

async fn migrate(pool: &SqlitePool, file: &Path) -> Result<(), StoreError> {
    MIGRATIONS.run(pool).await.map_err(|error| match error {
        MigrateError::VersionMissing(found) => StoreError::Newer {
            file: file.to_owned(),
            found,
            known: MIGRATIONS
                .iter()
                .map(|migration| migration.version)
                .max()
                .unwrap_or(0),
        },
        MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => error.into(),
        error => StoreError::Migration(error),
    })
}

/// Reads the key that lies sealed in a folder under this name, or makes it.
fn kept_key(
    folder: &Path,
    key: &SealingKey,
    name: &'static str,
    fresh: impl FnOnce() -> Result<[u8; 32], NoRandomness>,
) -> Result<Zeroizing<[u8; 32]>, StoreError> {
    let (file, context) = (folder.join(format!("{name}.key")), format!("{name} key"));
    if !file.exists() {
        let fresh = Zeroizing::new(fresh()?);
        seal::write_sealed(&file, key, &context, fresh.as_ref())?;
        return Ok(fresh);
    }
    let bytes = seal::read_sealed(&file, key, &context)?;
    let bytes = bytes.as_slice().try_into();
    Ok(Zeroizing::new(
        bytes.map_err(|_| StoreError::Unreadable { what: name })?,
    ))
}

/// Holds a folder for one agent; lets go when dropped, or when the process ends.
#[derive(Debug)]
pub struct FolderLock(#[expect(dead_code, reason = "held, not used")] File);

impl FolderLock {
    /// Takes the folder, or says that another agent has it.
    ///
    /// # Errors
    /// Another agent runs on it, or it cannot be written.
    pub fn take(folder: &Path) -> Result<Self, StoreError> {
        let file = lock_file(&folder.join("agent.lock"))?;
        match file.try_lock() {
            Ok(()) => Ok(Self(file)),
            Err(TryLockError::WouldBlock) => Err(StoreError::InUse {
                folder: folder.to_owned(),
            }),
            Err(TryLockError::Error(source)) => Err(StoreError::Folder {
                path: folder.to_owned(),
                source,
            }),
        }
    }
}

fn lock_file(path: &Path) -> Result<File, StoreError> {
    let failed = |source| StoreError::Folder {
        path: path.to_owned(),
        source,
    };
    fs::OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path)
        .map_err(failed)
}

/// Seconds since 1970, as tables keep them.
fn seconds(moment: SystemTime) -> i64 {
    moment
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs() as i64
}

//! The store in one SQLite file: write-ahead log, synced before a commit returns.
//!
//! A commit takes the write lock at its begin, so two processes (a serving coordinator and an
//! import of a roster) take turns and none fails half-way.

mod writer;

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use consilium_proto::{Layout, MemberId, Plan, RoundId, Signed, SiteId, StudyId, wire};
use prost::Message;
use sqlx::{
    Row, Sqlite, SqlitePool,
    migrate::{MigrateError, Migrator},
    sqlite::{
        SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteRow, SqliteSynchronous,
    },
};

use self::writer::Writer;
use super::{Change, EffectId, Release, Store, StoreError, StudyRecord, Update};
use crate::{
    clock::Timestamp,
    study::{Effect, Phase, Study},
};

type Query<'q> = sqlx::query::Query<'q, Sqlite, sqlx::sqlite::SqliteArguments>;

static MIGRATIONS: Migrator = sqlx::migrate!();
/// How long a writer waits for another process before it gives up.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
const CONNECTIONS: u32 = 4;

/// Keeps everything in one SQLite file.
#[derive(Debug, Clone)]
pub struct SqliteStore {
    pool: SqlitePool,
    path: PathBuf,
}

impl SqliteStore {
    /// Opens the database, makes it if it is not there, and brings it to this program's form.
    ///
    /// # Errors
    /// Locked by another process, made by a newer program, not a database, disk full.
    pub async fn open(path: &Path) -> Result<Self, StoreError> {
        Self::open_with(path, BUSY_TIMEOUT, None).await
    }

    /// As [`open`](Self::open), with a limit on the file's pages and less patience.
    async fn open_with(
        path: &Path,
        patience: Duration,
        max_pages: Option<u32>,
    ) -> Result<Self, StoreError> {
        let mut options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(patience);
        if let Some(pages) = max_pages {
            options = options.pragma("max_page_count", pages.to_string());
        }
        let refused = |error| explain(path, error);
        let pool = SqlitePoolOptions::new()
            .max_connections(CONNECTIONS)
            .connect_with(options)
            .await
            .map_err(refused)?;
        MIGRATIONS
            .run(&pool)
            .await
            .map_err(|error| explain_migration(path, error))?;
        let path = path.to_owned();
        Ok(Self { pool, path })
    }

    /// Finishes what is in hand and closes the file.
    pub async fn close(&self) {
        self.pool.close().await;
    }

    fn failed(&self, error: sqlx::Error) -> StoreError {
        explain(&self.path, error)
    }

    async fn rows(&self, query: Query<'_>) -> Result<Vec<SqliteRow>, StoreError> {
        query
            .fetch_all(&self.pool)
            .await
            .map_err(|error| self.failed(error))
    }
}

/// Turns what the database says into what a person can act on.
fn explain(path: &Path, error: sqlx::Error) -> StoreError {
    let path = path.to_owned();
    let code = error
        .as_database_error()
        .and_then(|error| error.code())
        .and_then(|code| code.parse::<u32>().ok());
    // Extended result codes hold the primary one in their low byte: sqlite.org/rescode.html.
    match code.map(|code| code & 0xff) {
        Some(5 | 6) => StoreError::Locked { path },
        Some(13) => StoreError::Full { path },
        Some(19) => StoreError::Conflict,
        Some(11 | 14 | 26) => StoreError::Unusable {
            path,
            reason: error.to_string(),
        },
        _ => StoreError::Database(error),
    }
}

fn explain_migration(path: &Path, error: MigrateError) -> StoreError {
    match error {
        MigrateError::VersionMissing(migration) => {
            let path = path.to_owned();
            StoreError::Newer { path, migration }
        }
        MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => {
            explain(path, error)
        }
        other => {
            let path = path.to_owned();
            StoreError::Unusable {
                path,
                reason: other.to_string(),
            }
        }
    }
}

fn corrupt<E>(what: &'static str) -> impl Fn(E) -> StoreError {
    move |_| StoreError::Corrupt { what }
}

fn id(study: StudyId) -> Vec<u8> {
    study.as_bytes().to_vec()
}

fn json(value: &impl serde::Serialize, what: &'static str) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(corrupt(what))
}

fn is_under_way(study: &Study) -> bool {
    !matches!(study.phase(), Phase::Finished | Phase::Stopped { .. })
}

fn record(row: &SqliteRow) -> Result<StudyRecord, StoreError> {
    let wrong = |_| StoreError::Corrupt { what: "study" };
    let canonical_plan: Vec<u8> = row.try_get("plan").map_err(wrong)?;
    let layout: &str = row.try_get("layout").map_err(wrong)?;
    let state: &str = row.try_get("state").map_err(wrong)?;
    Ok(StudyRecord {
        plan: Plan::from_canonical(&canonical_plan).map_err(corrupt("plan"))?,
        canonical_plan,
        layout: serde_json::from_str::<Layout>(layout).map_err(corrupt("layout"))?,
        submitted_by: MemberId(row.try_get("submitted_by").map_err(wrong)?),
        submitted_at: Timestamp(row.try_get::<i64, _>("submitted_at").map_err(wrong)? as u64),
        chunk_bytes: row.try_get("chunk_bytes").map_err(wrong)?,
        study: serde_json::from_str(state).map_err(corrupt("study"))?,
        revision: row.try_get::<i64, _>("revision").map_err(wrong)? as u64,
    })
}

fn message<M: Message + Default>(row: &SqliteRow, what: &'static str) -> Result<M, StoreError> {
    let bytes: &[u8] = row.try_get(0).map_err(corrupt(what))?;
    M::decode(bytes).map_err(corrupt(what))
}

fn signed(row: &SqliteRow, column: &str) -> Result<Signed, StoreError> {
    let bytes: &[u8] = row.try_get(column).map_err(corrupt("signature"))?;
    Signed::from_bytes(bytes).map_err(corrupt("signature"))
}

fn update(row: &SqliteRow, round: RoundId) -> Result<Update, StoreError> {
    let wrong = |_| StoreError::Corrupt { what: "update" };
    let digest: &[u8] = row.try_get("digest").map_err(wrong)?;
    Ok(Update {
        round,
        site: SiteId(MemberId(row.try_get("site").map_err(wrong)?)),
        digest: digest.try_into().map_err(corrupt("update"))?,
        statement: signed(row, "statement")?,
    })
}

impl Store for SqliteStore {
    async fn commit(&self, mut change: Change) -> Result<(), StoreError> {
        let begun = self.pool.begin_with("BEGIN IMMEDIATE").await;
        let transaction = begun.map_err(|error| self.failed(error))?;
        let mut writer = Writer {
            transaction,
            path: &self.path,
        };
        if let Some(write) = change.study.take() {
            writer.study(write).await?;
        }
        writer.results(&change).await?;
        writer.journal(&change).await?;
        writer.members(&change).await?;
        writer.leaf(&change).await?;
        writer.effects(&change).await?;
        writer.records(change).await?;
        writer
            .transaction
            .commit()
            .await
            .map_err(|error| self.failed(error))
    }

    async fn study(&self, study: StudyId) -> Result<Option<StudyRecord>, StoreError> {
        let query = sqlx::query("SELECT * FROM studies WHERE id = ?").bind(id(study));
        self.rows(query).await?.first().map(record).transpose()
    }

    async fn studies(&self) -> Result<Vec<StudyRecord>, StoreError> {
        let query = sqlx::query("SELECT * FROM studies ORDER BY submitted_at DESC, id DESC");
        self.rows(query).await?.iter().map(record).collect()
    }

    async fn unfinished(&self) -> Result<Vec<Study>, StoreError> {
        let query = sqlx::query("SELECT state FROM studies WHERE under_way = 1");
        let read = |row: &SqliteRow| {
            let state: &str = row.try_get(0).map_err(corrupt("study"))?;
            serde_json::from_str(state).map_err(corrupt("study"))
        };
        self.rows(query).await?.iter().map(read).collect()
    }

    async fn spec(&self, round: RoundId) -> Result<Option<Signed>, StoreError> {
        let query =
            sqlx::query("SELECT spec FROM rounds WHERE study = ? AND round = ? AND attempt = ?")
                .bind(id(round.study))
                .bind(round.round)
                .bind(round.attempt);
        let rows = self.rows(query).await?;
        rows.first().map(|row| signed(row, "spec")).transpose()
    }

    async fn journal(&self, round: RoundId) -> Result<Vec<Vec<u8>>, StoreError> {
        let query = sqlx::query(
            "SELECT line FROM journal WHERE study = ? AND round = ? AND attempt = ? ORDER BY number",
        )
        .bind(id(round.study))
        .bind(round.round)
        .bind(round.attempt);
        let read = |row: &SqliteRow| row.try_get(0).map_err(corrupt("journal"));
        self.rows(query).await?.iter().map(read).collect()
    }

    async fn updates(&self, round: RoundId) -> Result<Vec<Update>, StoreError> {
        let query = sqlx::query(
            "SELECT * FROM updates WHERE study = ? AND round = ? AND attempt = ? ORDER BY site",
        )
        .bind(id(round.study))
        .bind(round.round)
        .bind(round.attempt);
        self.rows(query)
            .await?
            .iter()
            .map(|row| update(row, round))
            .collect()
    }

    async fn update(&self, round: RoundId, site: SiteId) -> Result<Option<Update>, StoreError> {
        let query = sqlx::query(
            "SELECT * FROM updates WHERE study = ? AND round = ? AND attempt = ? AND site = ?",
        )
        .bind(id(round.study))
        .bind(round.round)
        .bind(round.attempt)
        .bind(site.0.0);
        let rows = self.rows(query).await?;
        rows.first().map(|row| update(row, round)).transpose()
    }

    async fn versions(&self, study: StudyId) -> Result<Vec<wire::Version>, StoreError> {
        let query = sqlx::query("SELECT body FROM versions WHERE study = ? ORDER BY number")
            .bind(id(study));
        self.rows(query)
            .await?
            .iter()
            .map(|row| message(row, "version"))
            .collect()
    }

    async fn release(&self, study: StudyId) -> Result<Option<Release>, StoreError> {
        let query = sqlx::query("SELECT model, card FROM releases WHERE study = ?").bind(id(study));
        let read = |row: &SqliteRow| {
            let model: &[u8] = row.try_get("model").map_err(corrupt("release"))?;
            let model = model.try_into().map_err(corrupt("release"))?;
            Ok(Release {
                model,
                card: signed(row, "card")?,
            })
        };
        self.rows(query).await?.first().map(read).transpose()
    }

    async fn events(
        &self,
        study: StudyId,
        from: u64,
        limit: u32,
    ) -> Result<Vec<wire::StudyEvent>, StoreError> {
        let query = sqlx::query(
            "SELECT body FROM events WHERE study = ? AND number >= ? ORDER BY number LIMIT ?",
        )
        .bind(id(study))
        .bind(i64::try_from(from).unwrap_or(i64::MAX))
        .bind(limit);
        self.rows(query)
            .await?
            .iter()
            .map(|row| message(row, "event"))
            .collect()
    }

    async fn log(&self, from: u64, limit: u32) -> Result<Vec<wire::LogEntry>, StoreError> {
        let query =
            sqlx::query("SELECT body FROM audit_log WHERE sequence >= ? ORDER BY sequence LIMIT ?")
                .bind(i64::try_from(from).unwrap_or(i64::MAX))
                .bind(limit);
        self.rows(query)
            .await?
            .iter()
            .map(|row| message(row, "audit entry"))
            .collect()
    }

    async fn leaves(&self, from: u64, limit: u32) -> Result<Vec<Signed>, StoreError> {
        let query =
            sqlx::query("SELECT head FROM leaves WHERE number >= ? ORDER BY number LIMIT ?")
                .bind(i64::try_from(from).unwrap_or(i64::MAX))
                .bind(limit);
        self.rows(query)
            .await?
            .iter()
            .map(|row| signed(row, "head"))
            .collect()
    }

    async fn effects(&self) -> Result<Vec<(EffectId, StudyId, Effect)>, StoreError> {
        let query = sqlx::query("SELECT id, study, effect FROM effects ORDER BY id");
        let read = |row: &SqliteRow| {
            let wrong = |_| StoreError::Corrupt { what: "effect" };
            let study: &[u8] = row.try_get("study").map_err(wrong)?;
            let effect: &str = row.try_get("effect").map_err(wrong)?;
            Ok((
                EffectId(row.try_get("id").map_err(wrong)?),
                study.try_into().map_err(corrupt("effect"))?,
                serde_json::from_str(effect).map_err(corrupt("effect"))?,
            ))
        };
        self.rows(query).await?.iter().map(read).collect()
    }

    async fn roster_epoch(&self) -> Result<Option<u64>, StoreError> {
        let rows = self
            .rows(sqlx::query("SELECT max(epoch) FROM roster_epochs"))
            .await?;
        let Some(row) = rows.first() else {
            return Ok(None);
        };
        let epoch: Option<i64> = row.try_get(0).map_err(corrupt("roster"))?;
        Ok(epoch.map(|epoch| epoch as u64))
    }

    async fn roster(&self, from: u64) -> Result<Vec<Signed>, StoreError> {
        let query = sqlx::query("SELECT signed FROM roster_epochs WHERE epoch >= ? ORDER BY epoch")
            .bind(i64::try_from(from).unwrap_or(i64::MAX));
        self.rows(query)
            .await?
            .iter()
            .map(|row| signed(row, "signed"))
            .collect()
    }

    async fn applications(&self) -> Result<Vec<Signed>, StoreError> {
        let query = sqlx::query("SELECT signed FROM applications ORDER BY number");
        self.rows(query)
            .await?
            .iter()
            .map(|row| signed(row, "signed"))
            .collect()
    }
}

#[cfg(test)]
mod tests;

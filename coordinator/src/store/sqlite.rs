//! The store in one SQLite file: write-ahead log, synced before a commit returns.
//!
//! A commit takes the write lock at its begin, so two processes (a serving coordinator and an
//! import of a roster) take turns and none fails half-way.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use consilium_proto::{Layout, MemberId, Plan, RoundId, Signed, SiteId, StudyId, wire};
use prost::Message;
use sqlx::{
    Row, Sqlite, SqlitePool, Transaction,
    migrate::{MigrateError, Migrator},
    sqlite::{
        SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteRow, SqliteSynchronous,
    },
};

use super::{Change, EffectId, Release, Store, StoreError, StudyRecord, StudyWrite, Update};
use crate::{
    audit_log,
    clock::Timestamp,
    study::{Effect, Phase, Study},
};

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
        MIGRATIONS.run(&pool).await.map_err(|error| explain_migration(path, error))?;
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

    async fn rows(
        &self,
        query: sqlx::query::Query<'_, Sqlite, sqlx::sqlite::SqliteArguments>,
    ) -> Result<Vec<SqliteRow>, StoreError> {
        query.fetch_all(&self.pool).await.map_err(|error| self.failed(error))
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
        Some(11 | 14 | 26) => StoreError::Unusable { path, reason: error.to_string() },
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
            StoreError::Unusable { path, reason: other.to_string() }
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

/// Writes the parts of a change, inside its transaction.
struct Writer<'a> {
    transaction: Transaction<'a, Sqlite>,
    path: &'a Path,
}

type Arguments<'q> = sqlx::query::Query<'q, Sqlite, sqlx::sqlite::SqliteArguments>;

impl Writer<'_> {
    async fn run(&mut self, query: Arguments<'_>) -> Result<u64, StoreError> {
        let done = query.execute(&mut *self.transaction).await;
        done.map(|done| done.rows_affected()).map_err(|error| explain(self.path, error))
    }

    async fn last<M: Message + Default>(
        &mut self,
        query: Arguments<'_>,
        what: &'static str,
    ) -> Result<Option<M>, StoreError> {
        let row = query.fetch_optional(&mut *self.transaction).await;
        let row = row.map_err(|error| explain(self.path, error))?;
        row.map(|row| message(&row, what)).transpose()
    }

    async fn study(&mut self, write: StudyWrite) -> Result<(), StoreError> {
        match write {
            StudyWrite::New(record) => {
                let query = sqlx::query(
                    "INSERT INTO studies (id, plan, layout, submitted_by, submitted_at, \
                     chunk_bytes, state, under_way, revision) VALUES (?, ?, ?, ?, ?, ?, ?, 1, ?)",
                )
                .bind(id(record.study.id()))
                .bind(record.canonical_plan)
                .bind(json(&record.layout, "layout")?)
                .bind(record.submitted_by.0)
                .bind(record.submitted_at.0 as i64)
                .bind(record.chunk_bytes)
                .bind(json(&record.study, "study")?)
                .bind(record.revision as i64);
                self.run(query).await.map(drop)
            }
            StudyWrite::Moved { study, revision } => {
                let query = sqlx::query(
                    "UPDATE studies SET state = ?, under_way = ?, revision = revision + 1 \
                     WHERE id = ? AND revision = ?",
                )
                .bind(json(&study, "study")?)
                .bind(is_under_way(&study))
                .bind(id(study.id()))
                .bind(revision as i64);
                match self.run(query).await? {
                    1 => Ok(()),
                    _ => Err(StoreError::Conflict),
                }
            }
        }
    }

    async fn results(&mut self, change: &Change) -> Result<(), StoreError> {
        if let Some((round, spec)) = &change.spec {
            let query = sqlx::query("INSERT INTO rounds VALUES (?, ?, ?, ?)")
                .bind(id(round.study))
                .bind(round.round)
                .bind(round.attempt)
                .bind(spec.to_bytes());
            self.run(query).await?;
        }
        if let Some(update) = &change.update {
            let query = sqlx::query("INSERT INTO updates VALUES (?, ?, ?, ?, ?, ?)")
                .bind(id(update.round.study))
                .bind(update.round.round)
                .bind(update.round.attempt)
                .bind(update.site.0.0)
                .bind(update.digest.as_bytes().to_vec())
                .bind(update.statement.to_bytes());
            self.run(query).await?;
        }
        if let Some((study, version)) = &change.version {
            let query = sqlx::query("INSERT INTO versions VALUES (?, ?, ?)")
                .bind(id(*study))
                .bind(version.number)
                .bind(version.encode_to_vec());
            self.run(query).await?;
        }
        if let Some((study, release)) = &change.release {
            let query = sqlx::query("INSERT OR IGNORE INTO releases VALUES (?, ?, ?)")
                .bind(id(*study))
                .bind(release.model.as_bytes().to_vec())
                .bind(release.card.to_bytes());
            self.run(query).await?;
        }
        Ok(())
    }

    async fn members(&mut self, change: &Change) -> Result<(), StoreError> {
        if let Some((number, epoch)) = &change.epoch {
            let query = sqlx::query(
                "INSERT INTO roster_epochs SELECT ?1, ?2 \
                 WHERE ?1 = (SELECT coalesce(max(epoch) + 1, 0) FROM roster_epochs)",
            )
            .bind(*number as i64)
            .bind(epoch.to_bytes());
            if self.run(query).await? != 1 {
                return Err(StoreError::Conflict);
            }
        }
        if let Some((fingerprint, signed)) = &change.application {
            let query = sqlx::query(
                "INSERT OR IGNORE INTO applications (fingerprint, signed) VALUES (?, ?)",
            )
            .bind(fingerprint.as_bytes().to_vec())
            .bind(signed.to_bytes());
            self.run(query).await?;
        }
        Ok(())
    }

    async fn effects(&mut self, change: &Change) -> Result<(), StoreError> {
        if let Some(performed) = change.performed {
            let query = sqlx::query("DELETE FROM effects WHERE id = ?").bind(performed.0);
            self.run(query).await?;
        }
        for (study, effect) in &change.effects {
            let query = sqlx::query("INSERT INTO effects (study, effect) VALUES (?, ?)")
                .bind(id(*study))
                .bind(json(effect, "effect")?);
            self.run(query).await?;
        }
        Ok(())
    }

    async fn records(&mut self, change: Change) -> Result<(), StoreError> {
        for (study, event) in change.events {
            let last =
                sqlx::query("SELECT body FROM events WHERE study = ? ORDER BY number DESC LIMIT 1")
                    .bind(id(study));
            let last: Option<wire::StudyEvent> = self.last(last, "event").await?;
            let event = wire::StudyEvent {
                number: last.map_or(0, |last| last.number + 1),
                at: change.at.0,
                event: Some(event),
            };
            let query = sqlx::query("INSERT INTO events VALUES (?, ?, ?)")
                .bind(id(study))
                .bind(event.number as i64)
                .bind(event.encode_to_vec());
            self.run(query).await?;
        }
        for entry in &change.entries {
            let last = sqlx::query("SELECT body FROM audit_log ORDER BY sequence DESC LIMIT 1");
            let last: Option<wire::LogEntry> = self.last(last, "audit entry").await?;
            let entry = audit_log::link(last.as_ref(), change.at, entry);
            let query = sqlx::query("INSERT INTO audit_log VALUES (?, ?)")
                .bind(entry.sequence as i64)
                .bind(entry.encode_to_vec());
            self.run(query).await?;
        }
        Ok(())
    }
}

impl Store for SqliteStore {
    async fn commit(&self, mut change: Change) -> Result<(), StoreError> {
        let begun = self.pool.begin_with("BEGIN IMMEDIATE").await;
        let transaction = begun.map_err(|error| self.failed(error))?;
        let mut writer = Writer { transaction, path: &self.path };
        if let Some(write) = change.study.take() {
            writer.study(write).await?;
        }
        writer.results(&change).await?;
        writer.members(&change).await?;
        writer.effects(&change).await?;
        writer.records(change).await?;
        writer.transaction.commit().await.map_err(|error| self.failed(error))
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

    async fn updates(&self, round: RoundId) -> Result<Vec<Update>, StoreError> {
        let query = sqlx::query(
            "SELECT * FROM updates WHERE study = ? AND round = ? AND attempt = ? ORDER BY site",
        )
        .bind(id(round.study))
        .bind(round.round)
        .bind(round.attempt);
        self.rows(query).await?.iter().map(|row| update(row, round)).collect()
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
        self.rows(query).await?.iter().map(|row| message(row, "version")).collect()
    }

    async fn release(&self, study: StudyId) -> Result<Option<Release>, StoreError> {
        let query = sqlx::query("SELECT model, card FROM releases WHERE study = ?").bind(id(study));
        let read = |row: &SqliteRow| {
            let model: &[u8] = row.try_get("model").map_err(corrupt("release"))?;
            let model = model.try_into().map_err(corrupt("release"))?;
            Ok(Release { model, card: signed(row, "card")? })
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
        self.rows(query).await?.iter().map(|row| message(row, "event")).collect()
    }

    async fn log(&self, from: u64, limit: u32) -> Result<Vec<wire::LogEntry>, StoreError> {
        let query =
            sqlx::query("SELECT body FROM audit_log WHERE sequence >= ? ORDER BY sequence LIMIT ?")
                .bind(i64::try_from(from).unwrap_or(i64::MAX))
                .bind(limit);
        self.rows(query).await?.iter().map(|row| message(row, "audit entry")).collect()
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
        let rows = self.rows(sqlx::query("SELECT max(epoch) FROM roster_epochs")).await?;
        let Some(row) = rows.first() else { return Ok(None) };
        let epoch: Option<i64> = row.try_get(0).map_err(corrupt("roster"))?;
        Ok(epoch.map(|epoch| epoch as u64))
    }

    async fn roster(&self, from: u64) -> Result<Vec<Signed>, StoreError> {
        let query =
            sqlx::query("SELECT signed FROM roster_epochs WHERE epoch >= ? ORDER BY epoch")
                .bind(i64::try_from(from).unwrap_or(i64::MAX));
        self.rows(query).await?.iter().map(|row| signed(row, "signed")).collect()
    }

    async fn applications(&self) -> Result<Vec<Signed>, StoreError> {
        let query = sqlx::query("SELECT signed FROM applications ORDER BY number");
        self.rows(query).await?.iter().map(|row| signed(row, "signed")).collect()
    }
}

#[cfg(test)]
mod tests {
    use consilium_proto::signed::Purpose;

    use super::{
        super::tests::PATIENCE,
        *,
    };
    use crate::fixture::signer;

    async fn opened(path: &Path) -> Result<SqliteStore, StoreError> {
        SqliteStore::open_with(path, PATIENCE, None).await
    }

    #[tokio::test]
    async fn what_is_written_is_there_after_opening_again() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("db");
        let store = opened(&path).await.expect("a new database");
        let epoch = signer().sign(Purpose::Roster, vec![1]);
        let change = Change { epoch: Some((0, epoch.clone())), ..Change::default() };
        store.commit(change).await.expect("an epoch");
        store.close().await;
        let store = opened(&path).await.expect("our own database");
        assert_eq!(store.roster(0).await.expect("a store"), [epoch]);
    }

    #[tokio::test]
    async fn a_database_of_a_newer_program_is_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("db");
        let store = opened(&path).await.expect("a new database");
        let newer = sqlx::query(
            "INSERT INTO _sqlx_migrations (version, description, success, checksum, \
             execution_time) VALUES (9999, 'from the future', TRUE, x'00', 0)",
        );
        newer.execute(&store.pool).await.expect("a row");
        store.close().await;
        let error = opened(&path).await.expect_err("a newer database");
        assert!(matches!(error, StoreError::Newer { migration: 9999, .. }), "{error}");
        assert!(error.to_string().contains("newer version"), "{error}");
    }

    #[tokio::test]
    async fn a_locked_database_says_who_may_hold_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("db");
        let store = opened(&path).await.expect("a new database");
        let other = opened(&path).await.expect("a second connection");
        let held = other.pool.begin_with("BEGIN EXCLUSIVE").await.expect("the lock");
        let error = store.commit(Change::default()).await.expect_err("a locked database");
        assert!(matches!(error, StoreError::Locked { .. }), "{error}");
        assert!(error.to_string().contains("another coordinator"), "{error}");
        drop(held);
    }

    #[tokio::test]
    async fn a_full_disk_refuses_the_change_and_keeps_what_was_there() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("db");
        let store = SqliteStore::open_with(&path, PATIENCE, Some(60)).await.expect("small");
        let mut written = 0;
        let error = loop {
            let epoch = signer().sign(Purpose::Roster, vec![0; 20_000]);
            let change = Change { epoch: Some((written, epoch)), ..Change::default() };
            match store.commit(change).await {
                Ok(()) => written += 1,
                Err(error) => break error,
            }
            assert!(written < 100, "60 pages of 4 KiB cannot hold all this");
        };
        assert!(matches!(error, StoreError::Full { .. }), "{error}");
        assert_eq!(store.roster(0).await.expect("a store").len() as u64, written);
    }

    #[tokio::test]
    async fn a_file_that_is_no_database_is_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("db");
        std::fs::write(&path, vec![b'x'; 8192]).expect("a file");
        let error = opened(&path).await.expect_err("no database");
        assert!(matches!(error, StoreError::Unusable { .. }), "{error}");
    }

    #[tokio::test]
    async fn migrations_can_be_undone() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = opened(&folder.path().join("db")).await.expect("a new database");
        MIGRATIONS.undo(&store.pool, 0).await.expect("all migrations have a way back");
        let tables = sqlx::query(
            "SELECT name FROM sqlite_master WHERE type = 'table' \
             AND name NOT LIKE 'sqlite_%' AND name NOT LIKE '_sqlx_%'",
        );
        assert!(tables.fetch_all(&store.pool).await.expect("a store").is_empty());
        MIGRATIONS.run(&store.pool).await.expect("and forth again");
    }
}

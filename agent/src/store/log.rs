//! What the steward's log says: facts, patients by pseudonym alone.

use std::time::SystemTime;

use serde::Serialize;
use sqlx::{Row as _, Sqlite, Transaction};

use super::{Store, StoreError, seconds};

/// One entry of the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Event {
    /// Counts up from 1.
    pub number: u64,
    /// Seconds since 1970 by this machine's clock.
    pub at: u64,
    /// `registered`, `excluded`, `approved`, `refused`, `distrusted` or `complained`.
    pub action: String,
    /// The facts.
    pub detail: serde_json::Value,
}

impl Store {
    /// The log, oldest first.
    ///
    /// # Errors
    /// The store failed.
    pub async fn events(&self) -> Result<Vec<Event>, StoreError> {
        let rows = sqlx::query("SELECT number, at, action, detail FROM event ORDER BY number")
            .fetch_all(&self.pool)
            .await?;
        let event = |row: &sqlx::sqlite::SqliteRow| {
            let detail: String = row.try_get("detail")?;
            Ok(Event {
                number: row.try_get::<i64, _>("number")?.unsigned_abs(),
                at: row.try_get::<i64, _>("at")?.unsigned_abs(),
                action: row.try_get("action")?,
                detail: serde_json::from_str(&detail).map_err(|_| StoreError::Unreadable {
                    what: "event.detail",
                })?,
            })
        };
        rows.iter().map(event).collect()
    }
}

/// Writes an entry in the transaction of the change that it describes.
pub(super) async fn write(
    transaction: &mut Transaction<'_, Sqlite>,
    now: SystemTime,
    action: &str,
    detail: &serde_json::Value,
) -> Result<(), StoreError> {
    sqlx::query("INSERT INTO event (at, action, detail) VALUES (?, ?, ?)")
        .bind(seconds(now))
        .bind(action)
        .bind(detail.to_string())
        .execute(&mut **transaction)
        .await?;
    Ok(())
}

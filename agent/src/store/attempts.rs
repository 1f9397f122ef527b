//! The journal of attempts with secure aggregation, hash-chained, and complaints.

use std::time::SystemTime;

use consilium_privacy::secagg::site::{History, Record};
use consilium_proto::{Digest, RoundId, StudyId};
use sqlx::Row as _;

use super::{Store, StoreError, log, seconds};

/// Why this site stopped in an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptComplaint {
    /// Seconds since 1970 by this machine's clock.
    pub at: u64,
    /// Which attempt.
    pub round: RoundId,
    /// What was wrong.
    pub violation: String,
    /// The signed complaint, with the messages that show it.
    pub message: Vec<u8>,
}

impl Store {
    /// Writes a line and waits until it is on disk: before what it announces is sent.
    ///
    /// # Errors
    /// The store failed. Nothing may be sent then.
    pub async fn write_attempt(&self, study: StudyId, record: &Record) -> Result<(), StoreError> {
        let line = record.to_bytes();
        let mut transaction = self.pool.begin_with("BEGIN IMMEDIATE").await?;
        let last = sqlx::query_scalar(
            "SELECT chain FROM attempt WHERE study = ? ORDER BY number DESC LIMIT 1",
        );
        let last: Option<Vec<u8>> = last
            .bind(study.as_bytes().as_slice())
            .fetch_optional(&mut *transaction)
            .await?;
        sqlx::query("INSERT INTO attempt (study, line, chain) VALUES (?, ?, ?)")
            .bind(study.as_bytes().as_slice())
            .bind(&line)
            .bind(link(study, last.as_deref(), &line).as_bytes().as_slice())
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await?;
        Ok(())
    }

    /// What this site did in a study's attempts, in order.
    ///
    /// # Errors
    /// The store failed, or the lines do not form a chain: then this site can no longer know what it
    /// has sent, and takes part in nothing.
    pub async fn attempts(&self, study: StudyId) -> Result<Vec<Record>, StoreError> {
        let what = "attempt.line";
        let rows = sqlx::query("SELECT line, chain FROM attempt WHERE study = ? ORDER BY number")
            .bind(study.as_bytes().as_slice())
            .fetch_all(&self.pool)
            .await?;
        let mut last: Option<Vec<u8>> = None;
        let mut records = Vec::with_capacity(rows.len());
        for row in rows {
            let (line, chain): (Vec<u8>, Vec<u8>) = (row.try_get("line")?, row.try_get("chain")?);
            if link(study, last.as_deref(), &line).as_bytes().as_slice() != chain {
                return Err(StoreError::Unreadable { what });
            }
            last = Some(chain);
            let record = Record::from_bytes(&line);
            records.push(record.map_err(|_| StoreError::Unreadable { what })?);
        }
        Ok(records)
    }

    /// Whether, and up to where, this site has taken part in a study's attempts.
    ///
    /// # Errors
    /// As [`attempts`](Self::attempts).
    pub async fn attempt_history(&self, study: StudyId) -> Result<History, StoreError> {
        Ok(History::of(*study.as_bytes(), self.attempts(study).await?))
    }

    /// Keeps a complaint, and tells the steward's log.
    ///
    /// # Errors
    /// The store failed.
    pub async fn keep_complaint(
        &self,
        round: RoundId,
        violation: &str,
        message: &[u8],
        now: SystemTime,
    ) -> Result<(), StoreError> {
        let mut transaction = self.pool.begin().await?;
        sqlx::query(
            "INSERT INTO complaint (at, study, round, attempt, violation, message) \
             VALUES (?, ?, ?, ?, ?, ?)",
        )
        .bind(seconds(now))
        .bind(round.study.as_bytes().as_slice())
        .bind(round.round)
        .bind(round.attempt)
        .bind(violation)
        .bind(message)
        .execute(&mut *transaction)
        .await?;
        let detail = serde_json::json!({
            "study": round.study, "round": round.round, "attempt": round.attempt,
            "reason": violation,
        });
        log::write(&mut transaction, now, "complained", &detail).await?;
        transaction.commit().await?;
        Ok(())
    }

    /// All complaints, oldest first.
    ///
    /// # Errors
    /// The store failed.
    pub async fn complaints(&self) -> Result<Vec<KeptComplaint>, StoreError> {
        let what = "complaint.study";
        let rows = sqlx::query("SELECT * FROM complaint ORDER BY number");
        let rows = rows.fetch_all(&self.pool).await?;
        let complaint = |row: &sqlx::sqlite::SqliteRow| {
            let study: Vec<u8> = row.try_get("study")?;
            let study = StudyId::try_from(study.as_slice());
            Ok(KeptComplaint {
                at: row.try_get::<i64, _>("at")?.unsigned_abs(),
                round: RoundId {
                    study: study.map_err(|_| StoreError::Unreadable { what })?,
                    round: row.try_get("round")?,
                    attempt: row.try_get("attempt")?,
                },
                violation: row.try_get("violation")?,
                message: row.try_get("message")?,
            })
        };
        rows.iter().map(complaint).collect()
    }
}

fn link(study: StudyId, last: Option<&[u8]>, line: &[u8]) -> Digest {
    let last = last.unwrap_or_default();
    Digest::of("consilium/attempt/1", &[study.as_bytes(), last, line])
}

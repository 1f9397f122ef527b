//! Receipts for the ledger's heads, and evidence against a coordinator.

use std::time::SystemTime;

use consilium_proto::Receipt;
use sqlx::Row as _;

use super::{Store, StoreError, log, seconds};

/// Something the coordinator showed that contradicts what it had signed before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evidence {
    /// Seconds since 1970 by this machine's clock.
    pub at: u64,
    /// What is wrong.
    pub reason: String,
    /// The signed tree head that was kept before, as bytes; empty if there was none.
    pub kept: Vec<u8>,
    /// The answer, as it came.
    pub shown: Vec<u8>,
}

impl Store {
    /// Keeps the receipt for the head with this sequence. Safe to repeat: the first one stays.
    ///
    /// # Errors
    /// The store failed.
    pub async fn keep_receipt(&self, sequence: u64, receipt: &Receipt) -> Result<(), StoreError> {
        sqlx::query("INSERT INTO receipt VALUES (?, ?) ON CONFLICT DO NOTHING")
            .bind(sequence as i64)
            .bind(receipt.to_bytes())
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    /// All receipts with the sequence of their heads, oldest first. Not verified anew.
    ///
    /// # Errors
    /// The store failed, or holds what is no receipt.
    pub async fn receipts(&self) -> Result<Vec<(u64, Receipt)>, StoreError> {
        let rows = sqlx::query("SELECT sequence, receipt FROM receipt ORDER BY sequence");
        let rows = rows.fetch_all(&self.pool).await?;
        rows.iter().map(receipt).collect()
    }

    /// The receipt for the highest sequence.
    ///
    /// # Errors
    /// As [`receipts`](Self::receipts).
    pub async fn newest_receipt(&self) -> Result<Option<(u64, Receipt)>, StoreError> {
        let row =
            sqlx::query("SELECT sequence, receipt FROM receipt ORDER BY sequence DESC LIMIT 1");
        let row = row.fetch_optional(&self.pool).await?;
        row.as_ref().map(receipt).transpose()
    }

    /// Keeps what shows that the coordinator is not to be believed; each reason once.
    ///
    /// # Errors
    /// The store failed.
    pub(crate) async fn keep_evidence(
        &self,
        reason: &str,
        kept: &[u8],
        shown: &[u8],
        now: SystemTime,
    ) -> Result<(), StoreError> {
        let mut transaction = self.pool.begin().await?;
        let done = sqlx::query(
            "INSERT INTO evidence (at, reason, kept, shown) VALUES (?, ?, ?, ?) \
             ON CONFLICT DO NOTHING",
        )
        .bind(seconds(now))
        .bind(reason)
        .bind(kept)
        .bind(shown)
        .execute(&mut *transaction)
        .await?;
        if done.rows_affected() == 1 {
            let detail = serde_json::json!({ "reason": reason });
            log::write(&mut transaction, now, "distrusted", &detail).await?;
        }
        transaction.commit().await?;
        Ok(())
    }

    /// Evidence against the coordinator, oldest first.
    ///
    /// # Errors
    /// The store failed.
    pub async fn evidence(&self) -> Result<Vec<Evidence>, StoreError> {
        let rows = sqlx::query("SELECT at, reason, kept, shown FROM evidence ORDER BY number");
        let rows = rows.fetch_all(&self.pool).await?;
        let evidence = |row: &sqlx::sqlite::SqliteRow| {
            Ok(Evidence {
                at: row.try_get::<i64, _>("at")?.unsigned_abs(),
                reason: row.try_get("reason")?,
                kept: row.try_get("kept")?,
                shown: row.try_get("shown")?,
            })
        };
        rows.iter().map(evidence).collect()
    }
}

fn receipt(row: &sqlx::sqlite::SqliteRow) -> Result<(u64, Receipt), StoreError> {
    let bytes: Vec<u8> = row.try_get("receipt")?;
    let what = "receipt.receipt";
    let receipt = Receipt::from_bytes(&bytes).map_err(|_| StoreError::Unreadable { what })?;
    Ok((row.try_get::<i64, _>("sequence")?.unsigned_abs(), receipt))
}

//! Studies this site has seen: exactly which plan, what it decided, the noise it trains with.

use std::time::SystemTime;

use consilium_proto::{ModelDigest, OutOfRange, Plan, PlanDigest, StudyId};
use sqlx::{Row as _, sqlite::SqliteRow};

use super::{Noise, Store, StoreError, seconds};

/// A study this site has seen.
#[derive(Debug, Clone, PartialEq)]
pub struct KnownStudy {
    /// Which one.
    pub id: StudyId,
    /// The digest that an approval covers.
    pub plan_digest: PlanDigest,
    /// The plan of exactly that digest.
    pub plan: Plan,
    /// What was decided; none so far if absent.
    pub decision: Option<Decided>,
}

/// A decision of this site.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decided {
    /// Yes or no.
    pub approved: bool,
    /// Why not, for people.
    pub reason: String,
    /// Whether the coordinator has it.
    pub sent: bool,
}

impl KnownStudy {
    /// Whether exactly this plan was approved.
    pub fn is_approved(&self, plan: PlanDigest) -> bool {
        self.plan_digest == plan && self.decision.as_ref().is_some_and(|made| made.approved)
    }
}

const COLUMNS: &str = "id, plan_digest, plan, decision, reason, sent";

impl Store {
    /// Remembers a study and its plan; the first plan seen under a study's number stays.
    ///
    /// # Errors
    /// The store failed.
    pub async fn remember_study(
        &self,
        id: StudyId,
        canonical_plan: &[u8],
        now: SystemTime,
    ) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO study (id, plan_digest, plan, seen_at) VALUES (?, ?, ?, ?) \
             ON CONFLICT (id) DO NOTHING",
        )
        .bind(id.as_bytes().as_slice())
        .bind(Plan::digest_of(canonical_plan).as_bytes().as_slice())
        .bind(canonical_plan)
        .bind(seconds(now))
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// All studies that may still have rounds, the newest first.
    ///
    /// # Errors
    /// The store failed.
    pub async fn studies(&self) -> Result<Vec<KnownStudy>, StoreError> {
        let sql = format!("SELECT {COLUMNS} FROM study WHERE ended = 0 ORDER BY seen_at DESC, id");
        let rows = sqlx::query(sqlx::AssertSqlSafe(sql))
            .fetch_all(&self.pool)
            .await?;
        rows.iter().map(read).collect()
    }

    /// One study.
    ///
    /// # Errors
    /// The store failed.
    pub async fn study(&self, id: StudyId) -> Result<Option<KnownStudy>, StoreError> {
        let sql = format!("SELECT {COLUMNS} FROM study WHERE id = ?");
        let row = sqlx::query(sqlx::AssertSqlSafe(sql))
            .bind(id.as_bytes().as_slice())
            .fetch_optional(&self.pool)
            .await?;
        row.as_ref().map(read).transpose()
    }

    /// Remembers a decision about exactly this plan; false if another plan is known. The event
    /// is written in the same transaction.
    ///
    /// # Errors
    /// The store failed.
    pub async fn decide(
        &self,
        id: StudyId,
        plan: PlanDigest,
        refused: Option<&str>,
        now: SystemTime,
    ) -> Result<bool, StoreError> {
        let decision = if refused.is_none() {
            "approved"
        } else {
            "refused"
        };
        let mut transaction = self.pool.begin().await?;
        let done = sqlx::query(
            "UPDATE study SET decision = ?, reason = ?, decided_at = ?, sent = 0 \
             WHERE id = ? AND plan_digest = ?",
        )
        .bind(decision)
        .bind(refused.unwrap_or_default())
        .bind(seconds(now))
        .bind(id.as_bytes().as_slice())
        .bind(plan.as_bytes().as_slice())
        .execute(&mut *transaction)
        .await?;
        if done.rows_affected() == 0 {
            return Ok(false);
        }
        let detail = serde_json::json!({ "study": id, "plan": plan.to_string() });
        super::log::write(&mut transaction, now, decision, &detail).await?;
        transaction.commit().await?;
        Ok(true)
    }

    /// Remembers that the coordinator has the decision.
    ///
    /// # Errors
    /// The store failed.
    pub async fn decision_sent(&self, id: StudyId, approved: bool) -> Result<(), StoreError> {
        sqlx::query("UPDATE study SET sent = 1 WHERE id = ? AND decision = ?")
            .bind(id.as_bytes().as_slice())
            .bind(if approved { "approved" } else { "refused" })
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    /// Remembers that a study has no more rounds.
    ///
    /// # Errors
    /// The store failed.
    pub async fn study_ended(&self, id: StudyId) -> Result<(), StoreError> {
        sqlx::query("UPDATE study SET ended = 1 WHERE id = ?")
            .bind(id.as_bytes().as_slice())
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    /// The noise of a study and the public size it was made for, if its first round has begun.
    ///
    /// # Errors
    /// The store failed.
    pub async fn noise(&self, id: StudyId) -> Result<Option<(Noise, u64)>, StoreError> {
        let row = sqlx::query(
            "SELECT sampling_rate, noise_multiplier, public_size FROM study WHERE id = ?",
        )
        .bind(id.as_bytes().as_slice())
        .fetch_optional(&self.pool)
        .await?;
        let Some(row) = row else { return Ok(None) };
        let numbers: (Option<f64>, Option<f64>, Option<i64>) =
            (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
        let (Some(rate), Some(sigma), Some(size)) = numbers else {
            return Ok(None);
        };
        let unreadable = |_| StoreError::Unreadable {
            what: "study.noise_multiplier",
        };
        let noise = Noise {
            sampling_rate: rate.try_into().map_err(unreadable)?,
            noise_multiplier: sigma.try_into().map_err(unreadable)?,
        };
        Ok(Some((noise, size.unsigned_abs())))
    }

    /// Fixes the noise of a study. What was fixed before stays.
    ///
    /// # Errors
    /// The store failed.
    pub async fn fix_noise(
        &self,
        id: StudyId,
        noise: &Noise,
        public_size: u64,
    ) -> Result<(), StoreError> {
        sqlx::query(
            "UPDATE study SET sampling_rate = ?, noise_multiplier = ?, public_size = ? \
             WHERE id = ? AND noise_multiplier IS NULL",
        )
        .bind(noise.sampling_rate.value())
        .bind(noise.noise_multiplier.value())
        .bind(public_size.min(i64::MAX as u64) as i64)
        .bind(id.as_bytes().as_slice())
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// Remembers a version that the coordinator names, and returns the one first seen under this
    /// number: another one now means that the history was changed.
    ///
    /// # Errors
    /// The store failed.
    pub async fn see_version(
        &self,
        id: StudyId,
        number: u32,
        digest: ModelDigest,
    ) -> Result<ModelDigest, StoreError> {
        sqlx::query(
            "INSERT INTO version (study, number, digest) VALUES (?, ?, ?) \
             ON CONFLICT (study, number) DO NOTHING",
        )
        .bind(id.as_bytes().as_slice())
        .bind(number)
        .bind(digest.as_bytes().as_slice())
        .execute(&self.pool)
        .await?;
        let first: Vec<u8> =
            sqlx::query_scalar("SELECT digest FROM version WHERE study = ? AND number = ?")
                .bind(id.as_bytes().as_slice())
                .bind(number)
                .fetch_one(&self.pool)
                .await?;
        ModelDigest::try_from(first.as_slice()).map_err(|_| StoreError::Unreadable {
            what: "version.digest",
        })
    }
}

fn read(row: &SqliteRow) -> Result<KnownStudy, StoreError> {
    let unreadable = |_: OutOfRange| StoreError::Unreadable { what: "study.id" };
    let plan: Vec<u8> = row.try_get("plan")?;
    let decision: Option<String> = row.try_get("decision")?;
    let (reason, sent): (String, bool) = (row.try_get("reason")?, row.try_get("sent")?);
    Ok(KnownStudy {
        id: StudyId::try_from(row.try_get::<&[u8], _>("id")?).map_err(unreadable)?,
        plan_digest: PlanDigest::try_from(row.try_get::<&[u8], _>("plan_digest")?)
            .map_err(unreadable)?,
        plan: Plan::from_canonical(&plan)
            .map_err(|_| StoreError::Unreadable { what: "study.plan" })?,
        decision: decision.map(|made| Decided {
            approved: made == "approved",
            reason,
            sent,
        }),
    })
}

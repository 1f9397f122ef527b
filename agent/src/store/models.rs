//! Models in the folder, and which of them is in service at each place.

use std::time::SystemTime;

use consilium_proto::Digest;
use serde::Serialize;
use serde_json::{Value, json};
use sqlx::Row as _;

use super::{
    Store, StoreError,
    chronicle::{Act, Deed},
    seconds,
};

/// A model of this site's folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct KnownModel {
    /// The first 16 hexadecimal digits of its SHA-256.
    pub id: String,
    /// SHA-256 of its file of weights.
    pub sha256: Digest,
    /// Digest of the plan that it was trained by.
    pub plan: Digest,
    /// The name of its study.
    pub study: String,
    /// What it is for: task and data set of its plan. One model of a place is in service.
    pub place: String,
    /// Seconds since 1970 by this machine's clock.
    pub added_at: u64,
    /// Whether it is in service.
    pub is_active: bool,
}

impl Store {
    /// Remembers a model. Safe to repeat: the first one stays.
    ///
    /// # Errors
    /// The store failed.
    pub async fn add_model(
        &self,
        model: &KnownModel,
        who: &str,
        now: SystemTime,
    ) -> Result<(), StoreError> {
        let mut transaction = self.begin_record().await?;
        let done =
            sqlx::query("INSERT INTO model VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING")
                .bind(&model.id)
                .bind(model.sha256.as_bytes().as_slice())
                .bind(model.plan.as_bytes().as_slice())
                .bind(&model.study)
                .bind(&model.place)
                .bind(seconds(now))
                .execute(&mut *transaction)
                .await?;
        if done.rows_affected() == 1 {
            let body = json!({ "sha256": model.sha256, "plan": model.plan, "study": model.study, "place": model.place });
            let deed = deed(who, Act::ModelAdded, &model.id, &body);
            self.write_record(&mut transaction, deed, now).await?;
        }
        transaction.commit().await?;
        Ok(())
    }

    /// All models, oldest first.
    ///
    /// # Errors
    /// The store failed.
    pub async fn models(&self) -> Result<Vec<KnownModel>, StoreError> {
        let rows = sqlx::query(
            "SELECT *, EXISTS (SELECT 1 FROM activation WHERE activation.model = model.id AND number = \
             (SELECT max(number) FROM activation AS newest WHERE newest.place = model.place)) AS is_active \
             FROM model ORDER BY added_at, id",
        );
        let rows = rows.fetch_all(&self.pool).await?;
        let model = |row: &sqlx::sqlite::SqliteRow| {
            let digest = |column| {
                let bytes: Vec<u8> = row.try_get(column)?;
                let what = "a digest of a model";
                Digest::try_from(bytes.as_slice()).map_err(|_| StoreError::Unreadable { what })
            };
            Ok(KnownModel {
                id: row.try_get("id")?,
                sha256: digest("sha256")?,
                plan: digest("plan_digest")?,
                study: row.try_get("study")?,
                place: row.try_get("place")?,
                added_at: row.try_get::<i64, _>("added_at")?.unsigned_abs(),
                is_active: row.try_get("is_active")?,
            })
        };
        rows.iter().map(model).collect()
    }

    /// Puts a model into service at its place. `body` says how it passed the site's check.
    ///
    /// # Errors
    /// The store failed.
    pub async fn activate_model(
        &self,
        model: &KnownModel,
        body: &Value,
        who: &str,
        now: SystemTime,
    ) -> Result<(), StoreError> {
        let mut transaction = self.begin_record().await?;
        sqlx::query("INSERT INTO activation (place, model, at) VALUES (?, ?, ?)")
            .bind(&model.place)
            .bind(&model.id)
            .bind(seconds(now))
            .execute(&mut *transaction)
            .await?;
        let deed = deed(who, Act::ModelActivated, &model.id, body);
        self.write_record(&mut transaction, deed, now).await?;
        transaction.commit().await?;
        Ok(())
    }

    /// Takes a model out of service, so that the one before it is in service again. Gives that one; none
    /// where there is none, and then the place is empty. Nothing happens where the model is not in service.
    ///
    /// # Errors
    /// The store failed.
    pub async fn roll_back_model(
        &self,
        model: &KnownModel,
        reason: &str,
        who: &str,
        now: SystemTime,
    ) -> Result<Option<String>, StoreError> {
        let mut transaction = self.begin_record().await?;
        let done = sqlx::query(
            "DELETE FROM activation WHERE model = ?1 AND number = \
             (SELECT max(number) FROM activation WHERE place = ?2)",
        );
        let done = done
            .bind(&model.id)
            .bind(&model.place)
            .execute(&mut *transaction)
            .await?;
        let before = sqlx::query_scalar(
            "SELECT model FROM activation WHERE place = ? ORDER BY number DESC LIMIT 1",
        );
        let before: Option<String> = before
            .bind(&model.place)
            .fetch_optional(&mut *transaction)
            .await?;
        if done.rows_affected() == 1 {
            let body = json!({ "place": model.place, "back_to": before, "reason": reason });
            let deed = deed(who, Act::ModelRolledBack, &model.id, &body);
            self.write_record(&mut transaction, deed, now).await?;
        }
        transaction.commit().await?;
        Ok(before)
    }
}

fn deed<'a>(who: &'a str, act: Act, subject: &'a str, body: &'a Value) -> Deed<'a> {
    Deed {
        who,
        act,
        subject,
        body,
        comment: None,
    }
}

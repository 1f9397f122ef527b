//! Who may ask the models that are served here: names, and digests of their tokens.

use std::time::SystemTime;

use consilium_proto::Digest;
use serde::Serialize;
use serde_json::json;
use sqlx::Row as _;

use super::{
    Store, StoreError,
    chronicle::{Act, Deed},
    seconds,
};

/// What somebody may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Duty {
    /// Ask models, and say what they think of the answer.
    Clinician,
    /// That, and put models into service.
    Steward,
}

impl Duty {
    /// Its name, as it is stored.
    pub fn name(self) -> &'static str {
        match self {
            Self::Clinician => "clinician",
            Self::Steward => "steward",
        }
    }
}

/// A token that somebody holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Token {
    /// Whose it is.
    pub name: String,
    /// What they may do.
    pub duty: Duty,
    /// Digest of the token.
    #[serde(skip)]
    pub digest: Digest,
    /// Seconds since 1970 by this machine's clock.
    pub made_at: u64,
}

impl Store {
    /// Remembers a token. False where the name has one already; nothing changes then.
    ///
    /// # Errors
    /// The store failed.
    pub async fn add_token(
        &self,
        name: &str,
        duty: Duty,
        digest: &Digest,
        now: SystemTime,
    ) -> Result<bool, StoreError> {
        let mut transaction = self.begin_record().await?;
        let done = sqlx::query("INSERT INTO access VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING")
            .bind(name)
            .bind(duty.name())
            .bind(digest.as_bytes().as_slice())
            .bind(seconds(now))
            .execute(&mut *transaction)
            .await?;
        let is_new = done.rows_affected() == 1;
        if is_new {
            let body = json!({ "duty": duty });
            self.write_record(&mut transaction, deed(Act::TokenMade, name, &body), now)
                .await?;
        }
        transaction.commit().await?;
        Ok(is_new)
    }

    /// Takes a token back. False where the name has none.
    ///
    /// # Errors
    /// The store failed.
    pub async fn revoke_token(&self, name: &str, now: SystemTime) -> Result<bool, StoreError> {
        let mut transaction = self.begin_record().await?;
        let done = sqlx::query("DELETE FROM access WHERE name = ?");
        let done = done.bind(name).execute(&mut *transaction).await?;
        let was_there = done.rows_affected() == 1;
        if was_there {
            let body = json!({});
            self.write_record(&mut transaction, deed(Act::TokenRevoked, name, &body), now)
                .await?;
        }
        transaction.commit().await?;
        Ok(was_there)
    }

    /// All tokens that hold, by name.
    ///
    /// # Errors
    /// The store failed.
    pub async fn tokens(&self) -> Result<Vec<Token>, StoreError> {
        let rows = sqlx::query("SELECT * FROM access ORDER BY name")
            .fetch_all(&self.pool)
            .await?;
        let token = |row: &sqlx::sqlite::SqliteRow| {
            let (duty, digest): (String, Vec<u8>) = (row.try_get("duty")?, row.try_get("digest")?);
            let what = "access.digest";
            Ok(Token {
                name: row.try_get("name")?,
                duty: match duty.as_str() {
                    "steward" => Duty::Steward,
                    _ => Duty::Clinician,
                },
                digest: Digest::try_from(digest.as_slice())
                    .map_err(|_| StoreError::Unreadable { what })?,
                made_at: row.try_get::<i64, _>("made_at")?.unsigned_abs(),
            })
        };
        rows.iter().map(token).collect()
    }
}

/// Only commands at the machine itself make and revoke tokens.
fn deed<'a>(act: Act, subject: &'a str, body: &'a serde_json::Value) -> Deed<'a> {
    Deed {
        who: "command line",
        act,
        subject,
        body,
        comment: None,
    }
}

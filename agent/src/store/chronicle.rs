//! What was done and said where models are served: a chain of records.
//!
//! Each record holds a digest over itself and the one before it, so that whoever changes or takes out one must
//! make all later ones anew, and an auditor who wrote down the newest digest once sees it. Records hold no
//! patient data: pictures and notes stand in them by digest; what clinicians write is sealed. Records that are
//! older than the site keeps them go from the front, and a record of that stays.

use std::time::SystemTime;

use consilium_proto::{Digest, digest::Hasher};
use serde::Serialize;
use serde_json::{Value, json};
use sqlx::{Row as _, Sqlite, SqliteConnection, Transaction, sqlite::SqliteRow};

use super::{Store, StoreError, seconds};

/// Records that are read at once.
const PAGE: i64 = 1000;

/// What was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Act {
    /// A model was asked and answered.
    Predicted,
    /// A clinician agreed with an answer or did not.
    Judged,
    /// An answer was looked at again.
    Read,
    /// Somebody logged in to the pages.
    LoggedIn,
    /// A token was made.
    TokenMade,
    /// A token was taken back.
    TokenRevoked,
    /// A model was copied into the folder.
    ModelAdded,
    /// A model went into service.
    ModelActivated,
    /// A model did not pass the site's own check.
    ModelRefused,
    /// The model before came back into service.
    ModelRolledBack,
    /// Records were written out.
    Exported,
    /// Old records were removed.
    Pruned,
}

impl Act {
    const ALL: [Self; 12] = [
        Self::Predicted,
        Self::Judged,
        Self::Read,
        Self::LoggedIn,
        Self::TokenMade,
        Self::TokenRevoked,
        Self::ModelAdded,
        Self::ModelActivated,
        Self::ModelRefused,
        Self::ModelRolledBack,
        Self::Exported,
        Self::Pruned,
    ];

    /// Its name, as it is stored.
    pub fn name(self) -> &'static str {
        match self {
            Self::Predicted => "predicted",
            Self::Judged => "judged",
            Self::Read => "read",
            Self::LoggedIn => "logged-in",
            Self::TokenMade => "token-made",
            Self::TokenRevoked => "token-revoked",
            Self::ModelAdded => "model-added",
            Self::ModelActivated => "model-activated",
            Self::ModelRefused => "model-refused",
            Self::ModelRolledBack => "model-rolled-back",
            Self::Exported => "exported",
            Self::Pruned => "pruned",
        }
    }
}

/// Something to record.
#[derive(Clone, Copy)]
pub struct Deed<'a> {
    /// Who did it: the name of a token or a certificate.
    pub who: &'a str,
    /// What.
    pub act: Act,
    /// The prediction, model or name that it is about.
    pub subject: &'a str,
    /// The facts. No patient data.
    pub body: &'a Value,
    /// What a clinician wrote; is sealed.
    pub comment: Option<&'a str>,
}

/// A record of the chain.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Record {
    /// Counts up from 1 without gaps.
    pub number: u64,
    /// Seconds since 1970 by this machine's clock.
    pub at: u64,
    /// Who did it.
    pub who: String,
    /// What was done.
    pub act: Act,
    /// What it is about.
    pub subject: String,
    /// The facts.
    pub body: Value,
    /// Whether a clinician's words are sealed with it.
    pub has_comment: bool,
    /// Digest over this record and the one before.
    pub chain: Digest,
}

/// A chain that was found whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Chain {
    /// Records that are kept.
    pub records: u64,
    /// The number of the newest; 0 where there is none.
    pub newest: u64,
    /// Its digest.
    pub head: Digest,
}

/// Why records are not believed.
#[derive(Debug, thiserror::Error)]
pub enum ChronicleError {
    /// A record was changed, taken out or put in.
    #[error("the log is broken at record {number}: {what}")]
    Broken {
        /// The first record that does not fit.
        number: u64,
        /// What is wrong with it.
        what: &'static str,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<sqlx::Error> for ChronicleError {
    fn from(error: sqlx::Error) -> Self {
        Self::Store(error.into())
    }
}

impl Store {
    /// Writes a record and gives its number. It is on the disk when this returns.
    ///
    /// # Errors
    /// The store failed.
    pub async fn record(&self, deed: Deed<'_>, now: SystemTime) -> Result<u64, StoreError> {
        let mut transaction = self.begin_record().await?;
        let number = self.write_record(&mut transaction, deed, now).await?;
        transaction.commit().await?;
        Ok(number)
    }

    /// A transaction that may write records: it waits for other writers first, so that no two read one end of
    /// the chain.
    pub(super) async fn begin_record(&self) -> Result<Transaction<'static, Sqlite>, StoreError> {
        Ok(self.pool.begin_with("BEGIN IMMEDIATE").await?)
    }

    /// Writes a record in the transaction of the change that it describes.
    pub(super) async fn write_record(
        &self,
        transaction: &mut Transaction<'_, Sqlite>,
        deed: Deed<'_>,
        now: SystemTime,
    ) -> Result<u64, StoreError> {
        let (number, before) = end(transaction).await?;
        let number = number + 1;
        let sealed = deed
            .comment
            .map(|comment| self.key.seal(&context(number), comment.as_bytes()));
        let row = Row {
            number,
            at: seconds(now),
            who: deed.who.to_owned(),
            act: deed.act.name().to_owned(),
            subject: deed.subject.to_owned(),
            body: deed.body.to_string(),
            comment: sealed.transpose()?,
        };
        sqlx::query("INSERT INTO record VALUES (?, ?, ?, ?, ?, ?, ?, ?)")
            .bind(row.number)
            .bind(row.at)
            .bind(&row.who)
            .bind(&row.act)
            .bind(&row.subject)
            .bind(&row.body)
            .bind(&row.comment)
            .bind(row.chain(&before).as_bytes().as_slice())
            .execute(&mut **transaction)
            .await?;
        Ok(number.unsigned_abs())
    }

    /// Records behind a number, oldest first, a bounded count of them: none when all were read.
    ///
    /// # Errors
    /// The store failed.
    pub async fn records(&self, after: u64) -> Result<Vec<Record>, StoreError> {
        let rows = sqlx::query("SELECT * FROM record WHERE number > ? ORDER BY number LIMIT ?")
            .bind(i64::try_from(after).unwrap_or(i64::MAX))
            .bind(PAGE)
            .fetch_all(&self.pool)
            .await?;
        rows.iter().map(record).collect()
    }

    /// Records about something, oldest first.
    ///
    /// # Errors
    /// The store failed.
    pub async fn records_of(&self, subject: &str) -> Result<Vec<Record>, StoreError> {
        let rows = sqlx::query("SELECT * FROM record WHERE subject = ? ORDER BY number LIMIT ?")
            .bind(subject)
            .bind(PAGE)
            .fetch_all(&self.pool)
            .await?;
        rows.iter().map(record).collect()
    }

    /// Checks the whole chain: every record as it was written, none missing, and with `known`, that a record
    /// that was written down earlier is still the same.
    ///
    /// # Errors
    /// The first record that does not fit; the store failed.
    pub async fn verify_records(
        &self,
        known: Option<(u64, Digest)>,
    ) -> Result<Chain, ChronicleError> {
        // One reading transaction: records that are written meanwhile are not looked at.
        let mut transaction = self.pool.begin().await?;
        let (start, mut chain) = start(&mut transaction).await?;
        let broken = |number: i64, what| ChronicleError::Broken {
            number: number.unsigned_abs(),
            what,
        };
        let (mut number, mut known_is_there, mut removal_is_there) =
            (start, known.is_none(), start == 0);
        loop {
            let rows = sqlx::query("SELECT * FROM record WHERE number > ? ORDER BY number LIMIT ?")
                .bind(number)
                .bind(PAGE)
                .fetch_all(&mut *transaction)
                .await?;
            if rows.is_empty() {
                break;
            }
            for stored in &rows {
                let row = Row::of(stored)?;
                if row.number != number + 1 {
                    return Err(broken(number + 1, "it is missing"));
                }
                number = row.number;
                let expected = row.chain(&chain);
                let found: Vec<u8> = stored.try_get("chain")?;
                if found != expected.as_bytes() {
                    return Err(broken(number, "it is not as it was written"));
                }
                if known.is_some_and(|(known, _)| known == number.unsigned_abs()) {
                    known_is_there = known.is_some_and(|(_, head)| head == expected);
                }
                removal_is_there |= row.act == Act::Pruned.name() && row.removes() == Some(start);
                chain = expected;
            }
        }
        let last = sqlx::query_scalar("SELECT seq FROM sqlite_sequence WHERE name = 'record'");
        let last: Option<i64> = last.fetch_optional(&mut *transaction).await?;
        if last.is_some_and(|last| last > number) {
            return Err(broken(number + 1, "it is missing"));
        }
        if !known_is_there {
            let at = known.map_or(0, |(number, _)| number);
            let what = "it is not the one that was written down";
            return Err(ChronicleError::Broken { number: at, what });
        }
        if !removal_is_there {
            return Err(broken(start, "it was removed, and no record says so"));
        }
        Ok(Chain {
            records: (number - start).unsigned_abs(),
            newest: number.unsigned_abs(),
            head: chain,
        })
    }

    /// Removes the oldest records up to the first one that is not older than `before`, and records that. Gives
    /// how many went.
    ///
    /// # Errors
    /// The store failed.
    pub async fn prune_records(
        &self,
        before: SystemTime,
        now: SystemTime,
    ) -> Result<u64, StoreError> {
        let mut transaction = self.begin_record().await?;
        let (start, _) = start(&mut transaction).await?;
        let kept = sqlx::query_scalar("SELECT min(number) FROM record WHERE at >= ?");
        let kept: Option<i64> = kept
            .bind(seconds(before))
            .fetch_one(&mut *transaction)
            .await?;
        let (newest, _) = end(&mut transaction).await?;
        // Of a chain that is too old as a whole, the newest stays.
        let last = kept.map_or(newest - 1, |kept| kept - 1);
        if last <= start {
            return Ok(0);
        }
        let chain = sqlx::query_scalar("SELECT chain FROM record WHERE number = ?");
        let chain: Vec<u8> = chain.bind(last).fetch_one(&mut *transaction).await?;
        sqlx::query("UPDATE record_start SET number = ?, chain = ?")
            .bind(last)
            .bind(&chain)
            .execute(&mut *transaction)
            .await?;
        sqlx::query("DELETE FROM record WHERE number <= ?")
            .bind(last)
            .execute(&mut *transaction)
            .await?;
        let deed = Deed {
            who: "agent",
            act: Act::Pruned,
            subject: "log",
            body: &json!({ "up_to": last }),
            comment: None,
        };
        self.write_record(&mut transaction, deed, now).await?;
        transaction.commit().await?;
        Ok((last - start).unsigned_abs())
    }
}

fn context(number: i64) -> String {
    format!("record/{number}/comment")
}

/// A row as the chain covers it.
struct Row {
    number: i64,
    at: i64,
    who: String,
    act: String,
    subject: String,
    body: String,
    comment: Option<Vec<u8>>,
}

impl Row {
    fn of(row: &SqliteRow) -> Result<Self, sqlx::Error> {
        Ok(Self {
            number: row.try_get("number")?,
            at: row.try_get("at")?,
            who: row.try_get("who")?,
            act: row.try_get("act")?,
            subject: row.try_get("subject")?,
            body: row.try_get("body")?,
            comment: row.try_get("comment")?,
        })
    }

    fn chain(&self, before: &Digest) -> Digest {
        let mut hasher = Hasher::new("consilium/record/1");
        hasher.update(before.as_bytes());
        hasher.update(&self.number.to_le_bytes());
        hasher.update(&self.at.to_le_bytes());
        let texts = [&self.who, &self.act, &self.subject, &self.body].map(String::as_bytes);
        // With their lengths, so that nothing moves from one to the next.
        for part in texts
            .into_iter()
            .chain([self.comment.as_deref().unwrap_or_default()])
        {
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part);
        }
        hasher.finish()
    }

    /// Of a record of a removal: the last record that went.
    fn removes(&self) -> Option<i64> {
        serde_json::from_str::<Value>(&self.body)
            .ok()?
            .get("up_to")?
            .as_i64()
    }
}

fn record(row: &SqliteRow) -> Result<Record, StoreError> {
    let unreadable = |what| StoreError::Unreadable { what };
    let stored = Row::of(row)?;
    let act = Act::ALL.into_iter().find(|act| act.name() == stored.act);
    let chain: Vec<u8> = row.try_get("chain")?;
    Ok(Record {
        number: stored.number.unsigned_abs(),
        at: stored.at.unsigned_abs(),
        act: act.ok_or_else(|| unreadable("record.act"))?,
        body: serde_json::from_str(&stored.body).map_err(|_| unreadable("record.body"))?,
        has_comment: stored.comment.is_some(),
        chain: Digest::try_from(chain.as_slice()).map_err(|_| unreadable("record.chain"))?,
        who: stored.who,
        subject: stored.subject,
    })
}

/// Number and digest of the newest record; those of the start where there is none.
async fn end(connection: &mut SqliteConnection) -> Result<(i64, Digest), StoreError> {
    let newest = sqlx::query("SELECT number, chain FROM record ORDER BY number DESC LIMIT 1");
    match newest.fetch_optional(&mut *connection).await? {
        Some(row) => place(&row),
        None => start(connection).await,
    }
}

/// Number and digest of the last record that is no longer kept.
async fn start(connection: &mut SqliteConnection) -> Result<(i64, Digest), StoreError> {
    let row = sqlx::query("SELECT number, chain FROM record_start");
    place(&row.fetch_one(connection).await?)
}

fn place(row: &SqliteRow) -> Result<(i64, Digest), StoreError> {
    let chain: Vec<u8> = row.try_get("chain")?;
    let what = "record.chain";
    let chain = Digest::try_from(chain.as_slice()).map_err(|_| StoreError::Unreadable { what })?;
    Ok((row.try_get("number")?, chain))
}

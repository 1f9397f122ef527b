//! Registered data sets, and the patients who opted out of them.

use std::{collections::HashSet, time::SystemTime};

use consilium_proto::{OutOfRange, StudyId};
use sqlx::Row as _;
use zeroize::Zeroizing;

use super::{Store, StoreError, seconds};

/// A registered data set. The counts are true and stay at the site.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataSet {
    /// As plans name it.
    pub name: String,
    /// What the world may know of its size: the only size that anything outside depends on.
    pub public_size: u64,
    /// Records it holds.
    pub records: u64,
    /// Patients they belong to.
    pub patients: u64,
    /// Seconds since 1970.
    pub registered_at: u64,
}

/// A study that trained on a data set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Use {
    pub(crate) study: StudyId,
    pub(crate) plan: Vec<u8>,
    pub(crate) rounds: u32,
}

impl Store {
    /// Registers a data set; false if the name is taken and may not be replaced. The patients who
    /// opted out stay out.
    ///
    /// # Errors
    /// The store failed.
    pub(crate) async fn register(
        &self,
        data_set: &DataSet,
        manifest: &[u8],
        replace: bool,
        now: SystemTime,
    ) -> Result<bool, StoreError> {
        let sealed = self.key.seal(&manifest_context(&data_set.name), manifest)?;
        let conflict = match replace {
            true => {
                "ON CONFLICT (name) DO UPDATE SET public_size = excluded.public_size, \
                 records = excluded.records, patients = excluded.patients, \
                 manifest = excluded.manifest, registered_at = excluded.registered_at"
            }
            false => "ON CONFLICT (name) DO NOTHING",
        };
        let sql = format!(
            "INSERT INTO data_set (name, public_size, records, patients, manifest, registered_at) \
             VALUES (?, ?, ?, ?, ?, ?) {conflict}"
        );
        let mut transaction = self.pool.begin().await?;
        let done = sqlx::query(sqlx::AssertSqlSafe(sql))
            .bind(&data_set.name)
            .bind(data_set.public_size as i64)
            .bind(data_set.records as i64)
            .bind(data_set.patients as i64)
            .bind(sealed)
            .bind(seconds(now))
            .execute(&mut *transaction)
            .await?;
        if done.rows_affected() == 0 {
            return Ok(false);
        }
        let detail = serde_json::json!({
            "data_set": data_set.name,
            "public_size": data_set.public_size,
            "records": data_set.records,
            "patients": data_set.patients,
        });
        super::log::write(&mut transaction, now, "registered", &detail).await?;
        transaction.commit().await?;
        Ok(true)
    }

    /// All data sets by name.
    ///
    /// # Errors
    /// The store failed.
    pub async fn data_sets(&self) -> Result<Vec<DataSet>, StoreError> {
        let rows = sqlx::query(
            "SELECT name, public_size, records, patients, registered_at FROM data_set \
             ORDER BY name",
        )
        .fetch_all(&self.pool)
        .await?;
        let data_set = |row: &sqlx::sqlite::SqliteRow| {
            let number =
                |column| Ok::<_, sqlx::Error>(row.try_get::<i64, _>(column)?.unsigned_abs());
            Ok(DataSet {
                name: row.try_get("name")?,
                public_size: number("public_size")?,
                records: number("records")?,
                patients: number("patients")?,
                registered_at: number("registered_at")?,
            })
        };
        rows.iter().map(data_set).collect()
    }

    /// One data set.
    ///
    /// # Errors
    /// The store failed.
    pub async fn data_set(&self, name: &str) -> Result<Option<DataSet>, StoreError> {
        Ok(self
            .data_sets()
            .await?
            .into_iter()
            .find(|data_set| data_set.name == name))
    }

    /// The manifest of a data set, opened.
    ///
    /// # Errors
    /// The store failed, or the manifest is not intact.
    pub(crate) async fn manifest(
        &self,
        name: &str,
    ) -> Result<Option<Zeroizing<Vec<u8>>>, StoreError> {
        let sealed: Option<Vec<u8>> =
            sqlx::query_scalar("SELECT manifest FROM data_set WHERE name = ?")
                .bind(name)
                .fetch_optional(&self.pool)
                .await?;
        let context = manifest_context(name);
        let open = |sealed: Vec<u8>| {
            self.key
                .open(&context, &sealed)
                .map_err(|source| StoreError::Open {
                    what: context.clone(),
                    source,
                })
        };
        sealed.map(open).transpose()
    }

    /// Patients who opted out, by pseudonym.
    ///
    /// # Errors
    /// The store failed.
    pub(crate) async fn excluded(&self, data_set: &str) -> Result<HashSet<String>, StoreError> {
        let rows: Vec<String> =
            sqlx::query_scalar("SELECT patient FROM exclusion WHERE data_set = ?")
                .bind(data_set)
                .fetch_all(&self.pool)
                .await?;
        Ok(rows.into_iter().collect())
    }

    /// When the last patient opted out, in seconds since 1970; none if nobody did.
    ///
    /// # Errors
    /// The store failed.
    pub(crate) async fn last_exclusion(&self, data_set: &str) -> Result<Option<u64>, StoreError> {
        let last: Option<i64> =
            sqlx::query_scalar("SELECT max(at) FROM exclusion WHERE data_set = ?")
                .bind(data_set)
                .fetch_one(&self.pool)
                .await?;
        Ok(last.map(i64::unsigned_abs))
    }

    /// Adds patients to those who opted out, by pseudonym, and returns how many are new, and when
    /// the last of them opted out. Each is logged in the same transaction. Safe to repeat.
    ///
    /// # Errors
    /// The store failed; nobody was added then.
    pub(crate) async fn exclude(
        &self,
        data_set: &str,
        patients: &[String],
        now: SystemTime,
    ) -> Result<(u64, i64), StoreError> {
        let mut transaction = self.pool.begin().await?;
        let (mut added, mut last) = (0, 0);
        for patient in patients {
            let done = sqlx::query(
                "INSERT INTO exclusion (data_set, patient, at) VALUES (?, ?, ?) \
                 ON CONFLICT DO NOTHING",
            )
            .bind(data_set)
            .bind(patient)
            .bind(seconds(now))
            .execute(&mut *transaction)
            .await?;
            if done.rows_affected() == 1 {
                added += 1;
                let detail = serde_json::json!({ "data_set": data_set, "patient": patient });
                super::log::write(&mut transaction, now, "excluded", &detail).await?;
            }
            let at: i64 =
                sqlx::query_scalar("SELECT at FROM exclusion WHERE data_set = ? AND patient = ?")
                    .bind(data_set)
                    .bind(patient)
                    .fetch_one(&mut *transaction)
                    .await?;
            last = last.max(at);
        }
        transaction.commit().await?;
        Ok((added, last))
    }

    /// Studies with rounds that began on a data set until a moment, seconds since 1970.
    ///
    /// # Errors
    /// The store failed.
    pub(crate) async fn uses(&self, data_set: &str, until: i64) -> Result<Vec<Use>, StoreError> {
        let rows = sqlx::query(
            "SELECT study.id, study.plan, count(*) AS rounds FROM round \
             JOIN study ON study.id = round.study \
             WHERE round.data_set = ? AND round.began_at <= ? \
             GROUP BY study.id ORDER BY min(round.began_at), study.id",
        )
        .bind(data_set)
        .bind(until)
        .fetch_all(&self.pool)
        .await?;
        let unreadable = |_: OutOfRange| StoreError::Unreadable { what: "study.id" };
        let one = |row: &sqlx::sqlite::SqliteRow| {
            Ok(Use {
                study: StudyId::try_from(row.try_get::<&[u8], _>("id")?).map_err(unreadable)?,
                plan: row.try_get("plan")?,
                rounds: row.try_get("rounds")?,
            })
        };
        rows.iter().map(one).collect()
    }
}

fn manifest_context(name: &str) -> String {
    format!("data_set/{name}/manifest")
}

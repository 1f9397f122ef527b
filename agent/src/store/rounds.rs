//! Rounds this site has worked on, and their updates, sealed on the disk until they are counted.
//!
//! One update for one round, whatever happens: the file of a round is written once, before its
//! first byte leaves, and every further attempt sends that same file.

use std::{path::PathBuf, time::SystemTime};

use consilium_privacy::{
    seal,
    step::{OpenUpdateError, PrivateUpdate},
};
use consilium_proto::{ModelDigest, StudyId};
use sqlx::Row as _;

use super::{Store, StoreError, seconds};

/// What is known of a round.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredRound {
    /// The version that its training started from.
    pub model_digest: ModelDigest,
    /// Times that training began; more than one only after a crash.
    pub trainings: u32,
    /// Whether bytes of its update may have left.
    pub offered: bool,
    /// Whether the coordinator has it.
    pub accepted: bool,
}

impl Store {
    /// What is known of a round.
    ///
    /// # Errors
    /// The store failed.
    pub async fn round(&self, id: StudyId, number: u32) -> Result<Option<StoredRound>, StoreError> {
        let row = sqlx::query(
            "SELECT model_digest, trainings, offered, accepted FROM round \
             WHERE study = ? AND number = ?",
        )
        .bind(id.as_bytes().as_slice())
        .bind(number)
        .fetch_optional(&self.pool)
        .await?;
        let Some(row) = row else { return Ok(None) };
        let digest: Vec<u8> = row.try_get("model_digest")?;
        Ok(Some(StoredRound {
            model_digest: ModelDigest::try_from(digest.as_slice()).map_err(|_| {
                StoreError::Unreadable {
                    what: "round.model_digest",
                }
            })?,
            trainings: row.try_get("trainings")?,
            offered: row.try_get("offered")?,
            accepted: row.try_get("accepted")?,
        }))
    }

    /// Counts one more beginning of a round's training; false if its update was offered, which
    /// ends all training of this round.
    ///
    /// # Errors
    /// The store failed.
    pub async fn begin_training(
        &self,
        id: StudyId,
        number: u32,
        data_set: &str,
        model: ModelDigest,
        now: SystemTime,
    ) -> Result<bool, StoreError> {
        let done = sqlx::query(
            "INSERT INTO round (study, number, data_set, model_digest, trainings, began_at) \
             VALUES (?, ?, ?, ?, 1, ?) \
             ON CONFLICT (study, number) DO UPDATE SET trainings = trainings + 1 \
             WHERE offered = 0 AND model_digest = excluded.model_digest",
        )
        .bind(id.as_bytes().as_slice())
        .bind(number)
        .bind(data_set)
        .bind(model.as_bytes().as_slice())
        .bind(seconds(now))
        .execute(&self.pool)
        .await?;
        Ok(done.rows_affected() == 1)
    }

    /// Remembers, before the first byte leaves, that bytes of a round's update may be outside.
    ///
    /// # Errors
    /// The store failed. Nothing may be sent then.
    pub async fn round_offered(&self, id: StudyId, number: u32) -> Result<(), StoreError> {
        self.mark(
            id,
            number,
            "UPDATE round SET offered = 1 WHERE study = ? AND number = ?",
        )
        .await
    }

    /// Remembers that the coordinator has a round's update.
    ///
    /// # Errors
    /// The store failed.
    pub async fn round_accepted(&self, id: StudyId, number: u32) -> Result<(), StoreError> {
        self.mark(
            id,
            number,
            "UPDATE round SET accepted = 1 WHERE study = ? AND number = ?",
        )
        .await
    }

    async fn mark(&self, id: StudyId, number: u32, sql: &'static str) -> Result<(), StoreError> {
        sqlx::query(sql)
            .bind(id.as_bytes().as_slice())
            .bind(number)
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    /// Seals a round's update on the disk. Blocks while it does.
    ///
    /// # Errors
    /// The disk is full, or the folder cannot be written.
    pub fn spool(
        &self,
        id: StudyId,
        number: u32,
        update: &PrivateUpdate,
    ) -> Result<(), StoreError> {
        let sealed = update.seal(&self.key, &context(id, number))?;
        let file = self.spool_file(id, number);
        let folder = self.folder.join("spool");
        std::fs::create_dir_all(&folder).map_err(|source| StoreError::Folder {
            path: folder,
            source,
        })?;
        Ok(seal::write_private(&file, &sealed)?)
    }

    /// Opens a round's stored update; none if it was never stored. Blocks while it does.
    ///
    /// # Errors
    /// The file cannot be read or opened.
    pub fn spooled(&self, id: StudyId, number: u32) -> Result<Option<PrivateUpdate>, StoreError> {
        let file = self.spool_file(id, number);
        let sealed = match std::fs::read(&file) {
            Ok(sealed) => sealed,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(StoreError::Folder { path: file, source }),
        };
        match PrivateUpdate::open(&self.key, &context(id, number), &sealed) {
            Ok(update) => Ok(Some(update)),
            Err(OpenUpdateError::Seal(source)) => Err(StoreError::Open {
                what: file.display().to_string(),
                source,
            }),
            Err(OpenUpdateError::Form) => Err(StoreError::Unreadable {
                what: "a spooled update",
            }),
        }
    }

    /// Seals what a round reports besides its update. Blocks while it does.
    ///
    /// # Errors
    /// The disk is full, or the folder cannot be written.
    pub fn keep_figures(
        &self,
        id: StudyId,
        number: u32,
        figures: &[f64],
    ) -> Result<(), StoreError> {
        let bytes: Vec<u8> = figures
            .iter()
            .flat_map(|figure| figure.to_le_bytes())
            .collect();
        let folder = self.folder.join("spool");
        std::fs::create_dir_all(&folder).map_err(|source| StoreError::Folder {
            path: folder,
            source,
        })?;
        let file = self.figures_file(id, number);
        let context = format!("{}/figures", context(id, number));
        Ok(seal::write_sealed(&file, &self.key, &context, &bytes)?)
    }

    /// What a round reports besides its update; none if that was never made. Blocks while it opens it.
    ///
    /// # Errors
    /// The file cannot be read or opened.
    pub fn kept_figures(&self, id: StudyId, number: u32) -> Result<Option<Vec<f64>>, StoreError> {
        let file = self.figures_file(id, number);
        if !file.exists() {
            return Ok(None);
        }
        let context = format!("{}/figures", context(id, number));
        let bytes = seal::read_sealed(&file, &self.key, &context)?;
        let (figures, _) = bytes.as_chunks::<8>();
        Ok(Some(
            figures
                .iter()
                .map(|figure| f64::from_le_bytes(*figure))
                .collect(),
        ))
    }

    fn figures_file(&self, id: StudyId, number: u32) -> PathBuf {
        self.folder
            .join("spool")
            .join(format!("{id}-{number}.figures"))
    }

    /// Removes the updates of rounds before this one: the study has gone on without them or with
    /// them. Safe to repeat.
    ///
    /// # Errors
    /// A file cannot be removed.
    pub async fn forget_updates(&self, id: StudyId, before: u32) -> Result<(), StoreError> {
        let numbers: Vec<u32> =
            sqlx::query_scalar("SELECT number FROM round WHERE study = ? AND number < ?")
                .bind(id.as_bytes().as_slice())
                .bind(before)
                .fetch_all(&self.pool)
                .await?;
        for number in numbers {
            for path in [self.spool_file(id, number), self.figures_file(id, number)] {
                match std::fs::remove_file(&path) {
                    Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                        return Err(StoreError::Folder { path, source });
                    }
                    _ => {}
                }
            }
        }
        Ok(())
    }

    pub(super) fn spool_file(&self, id: StudyId, number: u32) -> PathBuf {
        self.folder
            .join("spool")
            .join(format!("{id}-{number}.update"))
    }
}

/// What a sealed update is bound to: the same for every attempt at the round.
fn context(id: StudyId, number: u32) -> String {
    format!("study {id}/round {number}")
}

//! Secrets from which the batches and the noise of training rounds came, sealed on the disk.
//!
//! Each is on the disk before the charge that commits to it, so that an interrupted round is taken
//! up with the same noise, and kept afterwards: with it an auditor inside the hospital repeats a
//! round bit by bit. The steward removes what is older than the audit window.

use std::{io, path::PathBuf};

use consilium_privacy::{
    keystream::{Commitment, MasterSecret},
    seal,
};

use super::{Store, StoreError};

impl Store {
    /// Draws a fresh secret and puts it on the disk. Blocks while it does.
    ///
    /// # Errors
    /// The system has no randomness, or the folder cannot be written.
    pub fn new_secret(&self) -> Result<MasterSecret, StoreError> {
        let secret = MasterSecret::random()?;
        let sealed = secret.seal(&self.key)?;
        let path = self.folder.join("keys");
        std::fs::create_dir_all(&path).map_err(|source| StoreError::Folder { path, source })?;
        seal::write_private(&self.secret_file(&secret.commitment()), &sealed)?;
        Ok(secret)
    }

    /// The secret behind a commitment; none if it was removed. Blocks while it reads.
    ///
    /// # Errors
    /// The file cannot be read or opened, or holds another secret.
    pub fn secret(&self, commitment: &Commitment) -> Result<Option<MasterSecret>, StoreError> {
        let path = self.secret_file(commitment);
        let sealed = match std::fs::read(&path) {
            Ok(sealed) => sealed,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(StoreError::Folder { path, source }),
        };
        let what = path.display().to_string();
        let secret = MasterSecret::open(&self.key, &sealed)
            .map_err(|source| StoreError::Open { what, source })?;
        if secret.commitment() != *commitment {
            return Err(StoreError::Unreadable {
                what: "a secret of the folder `keys`",
            });
        }
        Ok(Some(secret))
    }

    /// Removes a secret that no charge committed to. Safe to repeat.
    ///
    /// # Errors
    /// The file cannot be removed.
    pub fn forget_secret(&self, commitment: &Commitment) -> Result<(), StoreError> {
        let path = self.secret_file(commitment);
        match std::fs::remove_file(&path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                Err(StoreError::Folder { path, source })
            }
            _ => Ok(()),
        }
    }

    fn secret_file(&self, commitment: &Commitment) -> PathBuf {
        self.folder
            .join("keys")
            .join(format!("{commitment}.secret"))
    }
}

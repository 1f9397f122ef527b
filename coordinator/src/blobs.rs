//! Long byte strings on disk: models, updates on their way into a sum, optimiser state.
//!
//! A blob is a folder of numbered objects, one a chunk, each sealed on its own and bound to its
//! blob's name and its number: a chunk cannot take another's place, and no more than a few of them
//! are ever in memory. An object is written whole and synced before its write returns. Writing a
//! chunk again replaces it, deleting what is gone changes nothing.

use std::{error::Error as _, fmt, io, path::Path, sync::Arc};

use consilium_privacy::seal::{OpenError, SealError, SealingKey};
use consilium_proto::{RoundId, SiteId, StudyId};
use futures::TryStreamExt as _;
use object_store::{ObjectStore, ObjectStoreExt as _, local::LocalFileSystem, path::Path as Key};

/// Sealed bytes of one chunk, opened.
pub type Chunk = zeroize::Zeroizing<Vec<u8>>;

/// Why a blob could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum BlobError {
    /// The disk is full.
    #[error("no space is left for models and updates: free some, then try again")]
    Full,
    /// A chunk is not there.
    #[error("chunk {index} of {name} is missing")]
    Missing {
        /// Of which blob.
        name: BlobName,
        /// Which one.
        index: u64,
    },
    /// A chunk was changed on disk, or sealed under another key.
    #[error("chunk {index} of {name} cannot be opened")]
    Unopened {
        /// Of which blob.
        name: BlobName,
        /// Which one.
        index: u64,
        /// Why.
        source: OpenError,
    },
    /// A chunk could not be sealed.
    #[error("a chunk could not be sealed")]
    Seal(#[from] SealError),
    /// The folder cannot be used.
    #[error("models and updates cannot be stored")]
    Storage(#[source] object_store::Error),
}

impl BlobError {
    /// Whether what is stored is damaged: trying again gives the same.
    pub fn is_lasting(&self) -> bool {
        matches!(self, Self::Missing { .. } | Self::Unopened { .. })
    }
}

/// Name of a blob, or of all blobs below it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct BlobName(String);

impl BlobName {
    /// A version of a study's weights.
    pub fn version(study: StudyId, number: u32) -> Self {
        Self(format!("studies/{study}/versions/{number}"))
    }

    /// One part of the server optimiser's state beside a version.
    pub fn optimizer(study: StudyId, version: u32, slot: usize) -> Self {
        Self(format!("{}/{slot}", Self::optimizers(study, version)))
    }

    /// All parts of the server optimiser's state beside a version.
    pub fn optimizers(study: StudyId, version: u32) -> Self {
        Self(format!("studies/{study}/optimizer/{version}"))
    }

    /// A site's update in an attempt.
    pub fn update(round: RoundId, site: SiteId) -> Self {
        Self(format!("{}/{site}", Self::updates(round)))
    }

    /// Says, beside an update on its way, which update it is.
    pub fn marker(&self) -> Self {
        Self(format!("{}.marker", self.0))
    }

    /// All updates of an attempt.
    pub fn updates(round: RoundId) -> Self {
        let RoundId {
            study,
            round,
            attempt,
        } = round;
        Self(format!("spool/{study}/{round}.{attempt}"))
    }
}

impl fmt::Display for BlobName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Where blobs lie.
#[derive(Clone)]
pub struct Blobs {
    objects: Arc<dyn ObjectStore>,
    key: Arc<SealingKey>,
}

impl Blobs {
    /// Uses a local folder, which must exist.
    ///
    /// # Errors
    /// The folder cannot be used.
    pub fn open(folder: &Path, key: Arc<SealingKey>) -> Result<Self, BlobError> {
        let objects = LocalFileSystem::new_with_prefix(folder).map_err(explain)?;
        let objects = objects.with_fsync(true).with_automatic_cleanup(true);
        Ok(Self::new(Arc::new(objects), key))
    }

    /// Uses any object store.
    pub fn new(objects: Arc<dyn ObjectStore>, key: Arc<SealingKey>) -> Self {
        Self { objects, key }
    }

    /// Seals and writes one chunk. Safe to repeat.
    ///
    /// # Errors
    /// Disk full, or the folder cannot be written.
    pub async fn write(&self, name: &BlobName, index: u64, bytes: &[u8]) -> Result<(), BlobError> {
        // About a millisecond a chunk: not worth a thread of its own.
        let sealed = self.key.seal(&context(name, index), bytes)?;
        let put = self.objects.put(&object(name, index), sealed.into()).await;
        put.map(drop).map_err(explain)
    }

    /// Reads and opens one chunk.
    ///
    /// # Errors
    /// The chunk is missing or damaged, or the folder cannot be read.
    pub async fn read(&self, name: &BlobName, index: u64) -> Result<Chunk, BlobError> {
        let missing = || BlobError::Missing {
            name: name.clone(),
            index,
        };
        let read = async { self.objects.get(&object(name, index)).await?.bytes().await };
        let sealed = match read.await {
            Err(object_store::Error::NotFound { .. }) => return Err(missing()),
            other => other.map_err(explain)?,
        };
        let opened = self.key.open(&context(name, index), &sealed);
        opened.map_err(|source| BlobError::Unopened {
            name: name.clone(),
            index,
            source,
        })
    }

    /// How many chunks are there without a gap, from the first on.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub async fn count(&self, name: &BlobName) -> Result<u64, BlobError> {
        let mut present: Vec<u64> = self
            .objects
            .list(Some(&Key::from(name.0.as_str())))
            .try_filter_map(async |object| {
                Ok(object
                    .location
                    .filename()
                    .and_then(|name| name.parse::<u64>().ok()))
            })
            .try_collect()
            .await
            .map_err(explain)?;
        present.sort_unstable();
        let without_gap = present
            .iter()
            .zip(0..)
            .take_while(|(found, index)| *found == index);
        Ok(without_gap.count() as u64)
    }

    /// Deletes a blob, or all blobs below a name. Safe to repeat.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub async fn delete(&self, name: &BlobName) -> Result<(), BlobError> {
        let prefix = Key::from(name.0.as_str());
        let found: Vec<_> = self
            .objects
            .list(Some(&prefix))
            .try_collect()
            .await
            .map_err(explain)?;
        for object in found {
            match self.objects.delete(&object.location).await {
                Ok(()) | Err(object_store::Error::NotFound { .. }) => {}
                Err(error) => return Err(explain(error)),
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Blobs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Blobs({})", self.objects)
    }
}

fn object(name: &BlobName, index: u64) -> Key {
    Key::from(format!("{name}/{index:08}"))
}

fn context(name: &BlobName, index: u64) -> String {
    format!("blob {name} chunk {index}")
}

fn explain(error: object_store::Error) -> BlobError {
    let mut cause = error.source();
    while let Some(inner) = cause {
        let is_full = inner.downcast_ref::<io::Error>().is_some_and(|error| {
            matches!(
                error.kind(),
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
            )
        });
        if is_full {
            return BlobError::Full;
        }
        cause = inner.source();
    }
    BlobError::Storage(error)
}

#[cfg(test)]
pub(crate) mod tests;

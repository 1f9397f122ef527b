//! How an update arrives: stated, spooled chunk by chunk, verified as a whole, counted once.
//!
//! Chunks go to disk as they come, so an upload that breaks off goes on at the first missing chunk,
//! also after a restart. A site's first update of an attempt counts; the same one again is success,
//! another one is refused.

use std::sync::Arc;

use consilium_privacy::secagg::{Receiving, Terms};
use consilium_proto::{
    ChunkRefusal, Member, ModelDigest, OutOfRange, Progress, RoundId, RoundSpec, Signed, SiteId,
    Statement,
    chunk::Accepted,
    round_spec::RoundMessageError,
    vector::{ModelHasher, words},
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tracing::warn;

use crate::{
    blobs::{BlobError, BlobName, Blobs},
    chronicle,
    clock::Clock,
    driver::{DriveError, Driver},
    round::{Refusal, Round},
    store::{Store, StoreError, StudyRecord, Update},
    turns::{Turn, Turns},
};

/// Why an update is not taken.
#[derive(Debug, thiserror::Error)]
pub enum UploadError {
    /// The caller is no site.
    #[error("only sites answer rounds")]
    NotASite,
    /// The statement is not signed by this site, or malformed.
    #[error("statement not believed: {0}")]
    Statement(#[from] RoundMessageError),
    /// What is stated does not fit the round.
    #[error("update of site {site} for round {round}: {what} must be {expected}, found {found}")]
    Mismatch {
        /// Whose update.
        site: SiteId,
        /// For which round.
        round: RoundId,
        /// What does not fit.
        what: &'static str,
        /// What the round fixes.
        expected: String,
        /// What was stated.
        found: String,
    },
    /// A piece of a masked update does not continue it, or its trailer is missing.
    #[error("masked update of site {site} for round {round}: {reason}")]
    Masked {
        /// Whose update.
        site: SiteId,
        /// For which round.
        round: RoundId,
        /// What is wrong.
        reason: String,
    },
    /// A chunk does not fit its place.
    #[error("update of site {site} for round {round}: {reason}")]
    Chunk {
        /// Whose update.
        site: SiteId,
        /// For which round.
        round: RoundId,
        /// What is wrong with the chunk.
        reason: ChunkRefusal,
    },
    /// The update holds NaN or an infinity. What was spooled is deleted.
    #[error("update of site {site} for round {round} holds NaN or infinity at position {position}")]
    NotFinite {
        /// Whose update.
        site: SiteId,
        /// For which round.
        round: RoundId,
        /// Where.
        position: u64,
    },
    /// The bytes are not those that were stated. What was spooled is deleted.
    #[error(
        "update of site {site} for round {round} digests to {found}, stated was {expected}: \
         send it again"
    )]
    OtherBytes {
        /// Whose update.
        site: SiteId,
        /// For which round.
        round: RoundId,
        /// What was stated.
        expected: ModelDigest,
        /// What came.
        found: ModelDigest,
    },
    /// The round does not take it.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// A newer connection of the same site goes on with this upload.
    #[error("a newer connection of this site took over this upload")]
    Superseded,
    /// The program ends.
    #[error("the coordinator is shutting down: try again shortly")]
    ShuttingDown,
    /// Spooling failed.
    #[error(transparent)]
    Blob(#[from] BlobError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The study was not moved.
    #[error(transparent)]
    Drive(#[from] DriveError),
    /// A stored value cannot be read.
    #[error(transparent)]
    Value(#[from] OutOfRange),
}

/// Takes updates in.
pub struct Uploads<S> {
    driver: Arc<Driver<S>>,
    store: Arc<S>,
    blobs: Blobs,
    clock: Clock,
    turns: Turns<(RoundId, SiteId)>,
    permits: Arc<Semaphore>,
}

/// What a statement leads to.
pub enum Begun {
    /// The update was counted before: nothing to send.
    Accepted(ModelDigest),
    /// Chunks are awaited.
    Open(Box<Upload>),
}

/// An update on its way.
pub struct Upload {
    blobs: Blobs,
    name: BlobName,
    site: SiteId,
    statement: Statement,
    signed: Signed,
    progress: Progress,
    hasher: ModelHasher,
    /// Where only the sum is learned.
    masked: Option<Masked>,
    turn: Turn,
    _permit: OwnedSemaphorePermit,
}

/// A masked update on its way.
struct Masked {
    receiving: Receiving,
    trailer: Option<Vec<u8>>,
}

/// How much of an update is here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UploadStatus {
    /// The first chunk that is missing.
    pub next_chunk: u64,
    /// Whether it was counted.
    pub accepted: bool,
}

impl<S: Store> Uploads<S> {
    /// Takes in at most `concurrency` updates at a time; the others wait.
    pub fn new(
        driver: Arc<Driver<S>>,
        store: Arc<S>,
        blobs: Blobs,
        clock: Clock,
        concurrency: usize,
    ) -> Self {
        Self {
            driver,
            store,
            blobs,
            clock,
            turns: Turns::default(),
            permits: Arc::new(Semaphore::new(concurrency)),
        }
    }

    /// How much of this site's update has arrived.
    ///
    /// # Errors
    /// The round does not wait for this site and has no update of it.
    pub async fn status(&self, site: SiteId, round: RoundId) -> Result<UploadStatus, UploadError> {
        if let Some(update) = self.store.update(round, site).await? {
            // Opened when it was accepted; only its length is read here.
            let body = prost::Message::decode(update.statement.unverified_body());
            let body: consilium_proto::wire::StatementBody = body.unwrap_or_default();
            let transfer = body.update.unwrap_or_default();
            let chunks = transfer
                .bytes
                .div_ceil(u64::from(transfer.chunk_bytes).max(1));
            return Ok(UploadStatus {
                next_chunk: chunks,
                accepted: true,
            });
        }
        self.record_awaiting(site, round).await?;
        let next_chunk = self.blobs.count(&BlobName::update(round, site)).await?;
        Ok(UploadStatus {
            next_chunk,
            accepted: false,
        })
    }

    /// Checks a statement and finds out how much of its update is here.
    ///
    /// # Errors
    /// The statement is not believed, does not fit its round, or the round does not take it.
    pub async fn begin(&self, member: &Member, signed: Signed) -> Result<Begun, UploadError> {
        let site = member.site().ok_or(UploadError::NotASite)?;
        let statement = Statement::open(&signed, &member.identity_key)?;
        let round = statement.round;
        if let Some(first) = self.store.update(round, site).await? {
            if first.digest == statement.update_digest {
                return Ok(Begun::Accepted(first.digest));
            }
            let first = first.digest;
            let refusal = Refusal::AnotherUpdate { site, round, first };
            self.remember(&statement, site, &refusal.to_string()).await;
            return Err(refusal.into());
        }
        let record = self.record_awaiting(site, round).await?;
        let is_secure = record.study.round().is_some_and(Round::is_secure);
        let terms = match is_secure {
            true => Some(self.driver.awaited_upload(round, site).await?),
            false => None,
        };
        let fitting = self.fits(&record, &statement, site, terms.as_ref());
        if let Err(error) = fitting.await {
            self.remember(&statement, site, &error.to_string()).await;
            return Err(error);
        }
        let turn = self.turns.take((round, site)).await;
        let permit = tokio::select! {
            permit = self.permits.clone().acquire_owned() => permit,
            () = turn.superseded() => return Err(UploadError::Superseded),
        };
        // The semaphore is never closed.
        let _permit = permit.map_err(|_| UploadError::ShuttingDown)?;
        let name = BlobName::update(round, site);
        let mut receiving = terms.as_ref().map(Receiving::new);
        let resumed = self.resume(&name, &record, &statement, receiving.as_mut());
        let (progress, hasher) = resumed.await?;
        let masked = receiving.map(|receiving| Masked {
            receiving,
            trailer: None,
        });
        let upload = Upload {
            blobs: self.blobs.clone(),
            name,
            site,
            statement,
            signed,
            progress,
            hasher,
            masked,
            turn,
            _permit,
        };
        Ok(Begun::Open(Box::new(upload)))
    }

    async fn record_awaiting(
        &self,
        site: SiteId,
        round: RoundId,
    ) -> Result<StudyRecord, UploadError> {
        let unknown = DriveError::Unknown(round.study);
        let record = self.store.study(round.study).await?.ok_or(unknown)?;
        match record.study.round().filter(|open| open.id() == round) {
            Some(open) if !open.cohort().contains(&site) => {
                Err(Refusal::NotInCohort { site, round }.into())
            }
            Some(open) if open.waits_for(site, self.clock.now()) => Ok(record),
            Some(open) if open.has_answer_of(site) => Err(Refusal::Answered { site, round }.into()),
            _ => Err(Refusal::Closed { round }.into()),
        }
    }

    async fn fits(
        &self,
        record: &StudyRecord,
        statement: &Statement,
        site: SiteId,
        terms: Option<&Terms>,
    ) -> Result<(), UploadError> {
        let round = statement.round;
        let spec = self
            .store
            .spec(round)
            .await?
            .ok_or(Refusal::Closed { round })?;
        let layout = record.layout.digest();
        let is_private = record.plan.privacy.guarantee().is_some();
        let clear_bytes = 4 * record.layout.parameters() as u64;
        let bytes = terms.map_or(clear_bytes, Terms::bytes);
        let weighed = |weighed: bool| {
            if weighed {
                "stated"
            } else {
                "among what is summed"
            }
        };
        let most = record.plan.strategy.largest_weight();
        let bounded = |weight: u32| match weight <= most {
            true => format!("up to {most}"),
            false => weight.to_string(),
        };
        let charged = |charged: bool| if charged { "charged" } else { "without charge" };
        let pairs = [
            (
                "round",
                RoundSpec::context(&spec).to_string(),
                statement.context.to_string(),
            ),
            (
                "layout",
                layout.to_string(),
                statement.layout_digest.to_string(),
            ),
            (
                "length in bytes",
                bytes.to_string(),
                statement.transfer.bytes().to_string(),
            ),
            (
                "chunk size",
                record.chunk_bytes.to_string(),
                statement.transfer.chunk_bytes().to_string(),
            ),
            (
                "weight",
                weighed(terms.is_none()).to_owned(),
                weighed(statement.weight.is_some()).to_owned(),
            ),
            (
                "weight",
                bounded(most),
                bounded(statement.weight.unwrap_or(most)),
            ),
            (
                "update",
                charged(is_private).to_owned(),
                charged(statement.charge.is_some()).to_owned(),
            ),
        ];
        for (what, expected, found) in pairs {
            if expected != found {
                return Err(UploadError::Mismatch {
                    site,
                    round,
                    what,
                    expected,
                    found,
                });
            }
        }
        Ok(())
    }

    /// Counts and digests the chunks that came before. Those of another update are deleted.
    async fn resume(
        &self,
        name: &BlobName,
        record: &StudyRecord,
        statement: &Statement,
        mut receiving: Option<&mut Receiving>,
    ) -> Result<(Progress, ModelHasher), UploadError> {
        let marker = name.marker();
        let stated = statement.update_digest.as_bytes();
        let is_same = match self.blobs.read(&marker, 0).await {
            Ok(known) => known.as_slice() == stated,
            Err(error) if error.is_lasting() => false,
            Err(error) => return Err(error.into()),
        };
        if !is_same {
            self.blobs.delete(name).await?;
            self.blobs.write(&marker, 0, stated).await?;
        }
        let mut hasher = ModelHasher::new(&record.layout);
        let (mut received, present) = (0, self.blobs.count(name).await?);
        while received < present {
            let chunk = match self.blobs.read(name, received).await {
                Ok(chunk) => chunk,
                Err(error) if error.is_lasting() => break,
                Err(error) => return Err(error.into()),
            };
            let start = statement.transfer.range(received).start;
            if let Some(receiving) = &mut receiving
                && receiving.take(start, &chunk).is_err()
            {
                break;
            }
            hasher.update(&chunk);
            received += 1;
        }
        Ok((Progress::resume(statement.transfer, received), hasher))
    }

    /// Verifies the whole and counts it.
    ///
    /// # Errors
    /// Chunks are missing, the bytes are not those stated, or the round has closed meanwhile.
    pub async fn finish(&self, upload: Upload) -> Result<ModelDigest, UploadError> {
        let (site, round) = (upload.site, upload.statement.round);
        let Upload {
            statement,
            signed,
            progress,
            hasher,
            name,
            masked,
            turn,
            ..
        } = upload;
        progress.finish().map_err(|reason| UploadError::Chunk {
            site,
            round,
            reason,
        })?;
        let (expected, found) = (statement.update_digest, hasher.finish());
        if expected != found {
            let error = UploadError::OtherBytes {
                site,
                round,
                expected,
                found,
            };
            self.refuse(&name, &statement, site, &error.to_string())
                .await;
            return Err(error);
        }
        let update = Update {
            round,
            site,
            digest: found,
            statement: signed,
        };
        let accepted = match masked {
            None => self.driver.accept(update, statement.weight).await,
            Some(masked) => {
                let unfit = |reason: String| UploadError::Masked {
                    site,
                    round,
                    reason,
                };
                let spooled = masked.receiving.finish();
                let spooled = spooled.map_err(|error| unfit(error.to_string()))?;
                let trailer = masked
                    .trailer
                    .ok_or_else(|| unfit("its trailer is missing".into()))?;
                self.driver.accept_masked(update, trailer, spooled).await
            }
        };
        if let Err(DriveError::Refused(_) | DriveError::Secure(_)) = &accepted {
            let refusal = accepted
                .as_ref()
                .map_or_else(ToString::to_string, |()| String::new());
            self.refuse(&name, &statement, site, &refusal).await;
        }
        drop(turn);
        accepted?;
        Ok(found)
    }

    /// Deletes what was spooled and writes down why. Failing at either is logged only: the caller
    /// gets the refusal, and the spool of a closed round is deleted with the round.
    pub async fn refuse(&self, name: &BlobName, statement: &Statement, site: SiteId, reason: &str) {
        if let Err(failure) = self.blobs.delete(name).await {
            warn!(%site, %failure, "could not delete a refused update");
        }
        self.remember(statement, site, reason).await;
    }

    async fn remember(&self, statement: &Statement, site: SiteId, reason: &str) {
        warn!(%site, round = %statement.round, reason, "update refused");
        let entry = chronicle::update_refused(statement, site.0, reason);
        if let Err(failure) = self.driver.note(entry).await {
            warn!(%site, %failure, "could not write an audit entry");
        }
    }
}

impl Upload {
    /// Resolves when a newer connection goes on with this upload.
    pub async fn superseded(&self) {
        self.turn.superseded().await;
    }

    /// Whether only the sum of this and other updates is learned.
    pub fn is_masked(&self) -> bool {
        self.masked.is_some()
    }

    /// Takes the site's signed message about what it has uploaded: nothing comes after it.
    pub fn close(&mut self, trailer: Vec<u8>) {
        if let Some(masked) = &mut self.masked {
            masked.trailer = Some(trailer);
        }
    }

    /// Where it is spooled, what was stated, and by whom: for refusing it.
    pub fn stated(&self) -> (&BlobName, &Statement, SiteId) {
        (&self.name, &self.statement, self.site)
    }

    /// Checks and spools one chunk; one that came before is passed over.
    ///
    /// # Errors
    /// A chunk that does not fit its place, NaN or infinity, or the disk failed.
    pub async fn take(&mut self, index: u64, data: &[u8]) -> Result<(), UploadError> {
        let (site, round) = (self.site, self.statement.round);
        let accepted = self.progress.accept(index, data.len());
        match accepted.map_err(|reason| UploadError::Chunk {
            site,
            round,
            reason,
        })? {
            Accepted::Repeated => return Ok(()),
            Accepted::New => {}
        }
        let start = self.statement.transfer.range(index).start;
        if let Some(masked) = &mut self.masked {
            let taken = masked.receiving.take(start, data);
            taken.map_err(|error| UploadError::Masked {
                site,
                round,
                reason: error.to_string(),
            })?;
        } else if let Some(at) = words(data)?.iter().position(|value| !value.is_finite()) {
            let position = start / 4 + at as u64;
            return Err(UploadError::NotFinite {
                site,
                round,
                position,
            });
        }
        self.hasher.update(data);
        Ok(self.blobs.write(&self.name, index, data).await?)
    }
}

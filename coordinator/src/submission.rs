//! How a study arrives: its plan is checked against the roster and this version's abilities, then
//! version 0 of its weights is spooled, verified and stored.

use std::sync::Arc;

use consilium_proto::{
    ChunkRefusal, Member, ModelDigest, OutOfRange, Progress, StudyId,
    chunk::Accepted,
    convert::{Malformed, Submission},
    vector::{ModelHasher, words},
    wire,
};
use tracing::warn;

use crate::{
    blobs::{BlobError, BlobName, Blobs},
    clock::Clock,
    driver::{DriveError, Driver},
    roster::{Members, MembersError},
    store::{Store, StoreError, StudyRecord},
    study::{Rules, Study},
    turns::{Turn, Turns},
};

/// Why a study is not taken.
#[derive(Debug, thiserror::Error)]
pub enum SubmitError {
    /// The submission or its plan is malformed.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// There are too few sites.
    #[error(
        "plan field `cohort.size`: the cohort is larger than the roster: {size} sites asked for, {active} are active"
    )]
    CohortTooLarge {
        /// Sites that the plan wants in each round.
        size: u32,
        /// Sites that may act.
        active: usize,
    },
    /// A chunk does not fit its place.
    #[error("version 0 of the weights: {0}")]
    Chunk(#[from] ChunkRefusal),
    /// The weights hold NaN or an infinity.
    #[error("version 0 of the weights holds NaN or infinity at position {0}")]
    NotFinite(u64),
    /// The bytes are not those that were announced.
    #[error("version 0 of the weights digests to {found}, announced was {expected}: send it again")]
    OtherBytes {
        /// What was announced.
        expected: ModelDigest,
        /// What came.
        found: ModelDigest,
    },
    /// A newer connection goes on with this submission.
    #[error("a newer connection took over this submission")]
    Superseded,
    /// Storing the weights failed.
    #[error(transparent)]
    Blob(#[from] BlobError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The study was not stored.
    #[error(transparent)]
    Drive(#[from] DriveError),
    /// The roster cannot be read.
    #[error(transparent)]
    Members(#[from] MembersError),
    /// A stored value cannot be read.
    #[error(transparent)]
    Value(#[from] OutOfRange),
}

/// Takes studies in.
pub struct Submissions<S> {
    driver: Arc<Driver<S>>,
    store: Arc<S>,
    members: Arc<Members<S>>,
    blobs: Blobs,
    clock: Clock,
    /// How the vectors of new studies are cut.
    chunk_bytes: u32,
    turns: Turns<StudyId>,
}

/// What a submission leads to.
pub enum Begun {
    /// The study is here already: nothing to send.
    Known(Box<StudyRecord>),
    /// The weights are awaited.
    Open(Box<Incoming>),
}

/// Version 0 of the weights on its way.
pub struct Incoming {
    submission: Submission,
    submitted_by: Member,
    blobs: Blobs,
    name: BlobName,
    progress: Progress,
    hasher: ModelHasher,
    /// Bytes that do not fill a chunk yet; the sender may cut otherwise than we do.
    rest: Vec<u8>,
    chunk_bytes: u32,
    written: u64,
    turn: Turn,
}

impl<S: Store> Submissions<S> {
    /// Cuts the vectors of new studies into `chunk_bytes`, a multiple of 4.
    pub fn new(
        driver: Arc<Driver<S>>,
        store: Arc<S>,
        members: Arc<Members<S>>,
        blobs: Blobs,
        clock: Clock,
        chunk_bytes: u32,
    ) -> Self {
        let turns = Turns::default();
        Self {
            driver,
            store,
            members,
            blobs,
            clock,
            chunk_bytes,
            turns,
        }
    }

    /// Checks a submission.
    ///
    /// # Errors
    /// The plan is unsound, cannot be done, or another study has its id.
    pub async fn begin(
        &self,
        member: &Member,
        submission: wire::Submission,
    ) -> Result<Begun, SubmitError> {
        let submission = Submission::try_from(submission)?;
        let study = submission.study;
        let turn = self.turns.take(study).await;
        if let Some(known) = self.store.study(study).await? {
            let versions = self.store.versions(study).await?;
            let digest = submission.weights.digest.as_bytes();
            let is_same = known.canonical_plan == submission.canonical_plan
                && known.submitted_by == member.id
                && versions
                    .first()
                    .is_some_and(|start| start.model_digest == digest);
            return match is_same {
                true => Ok(Begun::Known(Box::new(known))),
                false => Err(DriveError::Taken(study).into()),
            };
        }
        self.members.refresh().await?;
        let active = self.members.active_sites().len();
        let size = submission.plan.cohort.size;
        if size as usize > active {
            return Err(SubmitError::CohortTooLarge { size, active });
        }
        let incoming = Incoming {
            submitted_by: member.clone(),
            blobs: self.blobs.clone(),
            name: BlobName::version(study, 0),
            progress: Progress::resume(submission.weights.chunks, 0),
            hasher: ModelHasher::new(&submission.layout),
            rest: vec![],
            chunk_bytes: self.chunk_bytes,
            written: 0,
            turn,
            submission,
        };
        Ok(Begun::Open(Box::new(incoming)))
    }

    /// Verifies the weights as a whole and stores the study.
    ///
    /// # Errors
    /// Chunks are missing, the bytes are not those announced, or the store failed. The weights are
    /// deleted then.
    pub async fn finish(&self, mut incoming: Incoming) -> Result<StudyRecord, SubmitError> {
        let stored = match incoming.flush().await {
            Ok(digest) => self.store(&incoming, digest).await,
            Err(error) => Err(error),
        };
        if stored.is_err() {
            self.discard(incoming).await;
        }
        stored
    }

    async fn store(
        &self,
        incoming: &Incoming,
        digest: ModelDigest,
    ) -> Result<StudyRecord, SubmitError> {
        let Submission {
            study,
            plan,
            canonical_plan,
            layout,
            ..
        } = incoming.submission.clone();
        let now = self.clock.now();
        let start = wire::Version {
            sums: None,
            number: 0,
            model_digest: digest.as_bytes().to_vec(),
            published_at: now.0,
            contributions: vec![],
        };
        let record = StudyRecord {
            study: Study::new(study, Rules::of(&plan, self.driver.grace())),
            plan,
            canonical_plan,
            layout,
            submitted_by: incoming.submitted_by.id,
            submitted_at: now,
            chunk_bytes: self.chunk_bytes,
            revision: 0,
        };
        Ok(self.driver.submit(record, start).await?)
    }

    /// Deletes the weights of a submission that came to nothing.
    pub async fn discard(&self, incoming: Incoming) {
        if let Err(error) = self.blobs.delete(&incoming.name).await {
            warn!(study = %incoming.submission.study, %error, "could not delete refused weights");
        }
    }
}

impl Incoming {
    /// Resolves when a newer connection goes on with this submission.
    pub async fn superseded(&self) {
        self.turn.superseded().await;
    }

    /// Checks and stores one chunk.
    ///
    /// # Errors
    /// A chunk that does not fit its place, NaN or infinity, or the disk failed.
    pub async fn take(&mut self, index: u64, data: &[u8]) -> Result<(), SubmitError> {
        if self.progress.accept(index, data.len())? == Accepted::Repeated {
            return Ok(());
        }
        self.hasher.update(data);
        self.rest.extend_from_slice(data);
        while self.rest.len() >= self.chunk_bytes as usize {
            let after = self.rest.split_off(self.chunk_bytes as usize);
            let chunk = std::mem::replace(&mut self.rest, after);
            self.write(&chunk).await?;
        }
        Ok(())
    }

    async fn write(&mut self, chunk: &[u8]) -> Result<(), SubmitError> {
        if let Some(at) = words(chunk)?.iter().position(|value| !value.is_finite()) {
            let before = self.written * u64::from(self.chunk_bytes) / 4;
            return Err(SubmitError::NotFinite(before + at as u64));
        }
        self.blobs.write(&self.name, self.written, chunk).await?;
        self.written += 1;
        Ok(())
    }

    async fn flush(&mut self) -> Result<ModelDigest, SubmitError> {
        self.progress.finish()?;
        let rest = std::mem::take(&mut self.rest);
        if !rest.is_empty() {
            self.write(&rest).await?;
        }
        let hasher = ModelHasher::new(&self.submission.layout);
        let found = std::mem::replace(&mut self.hasher, hasher).finish();
        let expected = self.submission.weights.digest;
        match expected == found {
            true => Ok(found),
            false => Err(SubmitError::OtherBytes { expected, found }),
        }
    }
}

//! What the coordinator remembers. One call is one transaction.
//!
//! All writes are one [`Change`]: the moved study, what came of it, events, audit entries and the
//! effects still to be performed go in together or not at all. A study row has a revision; a
//! change made from an older one is refused as [`StoreError::Conflict`], and its maker reads again.

mod memory;
mod sqlite;

use std::{future::Future, path::PathBuf};

use consilium_proto::{
    Digest, Layout, MemberId, ModelDigest, Plan, PlanDigest, RoundId, Signed, SiteId, StudyId,
    wire::{self, study_event},
};

pub use self::{memory::MemoryStore, sqlite::SqliteStore};
use crate::{
    audit_log::Entry,
    clock::Timestamp,
    study::{Effect, Study},
};

/// Why the store did not do it. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Somebody else wrote in between: read again.
    #[error("somebody else changed it in between")]
    Conflict,
    /// Another process holds the database.
    #[error(
        "the database {} is locked: is another coordinator, a backup or a database shell using it?",
        .path.display()
    )]
    Locked {
        /// The database file.
        path: PathBuf,
    },
    /// The disk is full.
    #[error("no space is left for the database {}: free some, then try again", .path.display())]
    Full {
        /// The database file.
        path: PathBuf,
    },
    /// A newer program made the database.
    #[error(
        "the database {} was written by a newer version of this program (migration {migration}): \
         use that version",
        .path.display()
    )]
    Newer {
        /// The database file.
        path: PathBuf,
        /// The migration that this program does not know.
        migration: i64,
    },
    /// The file is no database of ours, or was changed.
    #[error("the database {} cannot be used: {reason}", .path.display())]
    Unusable {
        /// The database file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A row does not read back as what was written.
    #[error("a stored {what} cannot be read")]
    Corrupt {
        /// What it should be.
        what: &'static str,
    },
    /// Anything else that the database says.
    #[error("the database failed")]
    Database(#[source] sqlx::Error),
    /// A fault put in by a test.
    #[cfg(test)]
    #[error("the process died here")]
    Crash,
}

/// A study as it is stored.
#[derive(Debug, Clone, PartialEq)]
pub struct StudyRecord {
    /// What was asked for.
    pub plan: Plan,
    /// The plan as it travelled; sites approve its digest.
    pub canonical_plan: Vec<u8>,
    /// Layout of the weights.
    pub layout: Layout,
    /// Who asked.
    pub submitted_by: MemberId,
    /// When.
    pub submitted_at: Timestamp,
    /// How its vectors are cut, at rest and on the wire.
    pub chunk_bytes: u32,
    /// Where it is.
    pub study: Study,
    /// Rises with each change of `study`.
    pub revision: u64,
}

impl StudyRecord {
    /// Identity of its plan.
    pub fn plan_digest(&self) -> PlanDigest {
        Plan::digest_of(&self.canonical_plan)
    }

    /// The study in a few words, for people.
    pub fn summary(&self) -> wire::StudySummary {
        let count = |approved| {
            let verdicts = self.study.verdicts().values();
            verdicts.filter(|v| v.approved == approved).count() as u32
        };
        wire::StudySummary {
            study: self.study.id().as_bytes().to_vec(),
            name: self.plan.name.clone(),
            state: self.study.state().into(),
            rounds_done: self.study.version(),
            rounds: self.plan.rounds,
            plan_digest: self.plan_digest().as_bytes().to_vec(),
            reason: self.study.reason(),
            approvals: count(true),
            refusals: count(false),
            submitted_at: self.submitted_at.0,
        }
    }
}

/// An update that was accepted.
#[derive(Debug, Clone, PartialEq)]
pub struct Update {
    /// The attempt it answers.
    pub round: RoundId,
    /// Whose it is.
    pub site: SiteId,
    /// Identity of its bytes.
    pub digest: ModelDigest,
    /// What the site stated, as signed.
    pub statement: Signed,
}

/// A finished model.
#[derive(Debug, Clone, PartialEq)]
pub struct Release {
    /// The last version.
    pub model: ModelDigest,
    /// The model card, signed by the coordinator.
    pub card: Signed,
}

/// Lines of the journal of one attempt with secure aggregation.
#[derive(Debug, Clone, PartialEq)]
pub struct Journal {
    /// The attempt.
    pub round: RoundId,
    /// Number of the first line, from 0.
    pub first: u64,
    /// [`consilium_privacy::secagg::coordinator::Record`]s in bytes.
    pub lines: Vec<Vec<u8>>,
}

/// Number of an effect that is still to be performed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EffectId(pub i64);

/// What a change does to the row of a study.
#[derive(Debug, Clone, PartialEq)]
pub enum StudyWrite {
    /// A new study; refused as a conflict if there is one of this id.
    New(Box<StudyRecord>),
    /// A moved one, from this revision.
    Moved {
        /// As it is now.
        study: Box<Study>,
        /// The revision it was read at.
        revision: u64,
    },
}

/// One transaction.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Change {
    /// When it happens.
    pub at: Timestamp,
    /// The study that moves.
    pub study: Option<StudyWrite>,
    /// The specification of an attempt that opens, as signed.
    pub spec: Option<(RoundId, Signed)>,
    /// An update that is accepted; refused as a conflict if the site has one in this attempt.
    pub update: Option<Update>,
    /// Lines of an attempt's journal; refused as a conflict unless they follow the last one.
    pub journal: Option<Journal>,
    /// A version that is published.
    pub version: Option<(StudyId, wire::Version)>,
    /// A model that is released; the first one stays.
    pub release: Option<(StudyId, Release)>,
    /// A roster epoch; refused as a conflict unless it follows the last one.
    pub epoch: Option<(u64, Signed)>,
    /// A request to join; the same one again changes nothing.
    pub application: Option<(Digest, Signed)>,
    /// A leaf of the transparency log; refused as a conflict unless its number follows the last.
    pub leaf: Option<(u64, Signed)>,
    /// An effect that was performed.
    pub performed: Option<EffectId>,
    /// Effects to perform from now on.
    pub effects: Vec<(StudyId, Effect)>,
    /// What watchers of a study are told.
    pub events: Vec<(StudyId, study_event::Event)>,
    /// What auditors are told.
    pub entries: Vec<Entry>,
}

/// What the coordinator remembers.
pub trait Store: Send + Sync + 'static {
    /// Writes all of a change or nothing. Not safe to repeat: what repeats is refused as a
    /// conflict wherever it would count twice.
    fn commit(&self, change: Change) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// One study; none if there is none.
    fn study(
        &self,
        id: StudyId,
    ) -> impl Future<Output = Result<Option<StudyRecord>, StoreError>> + Send;

    /// All studies, the newest first.
    fn studies(&self) -> impl Future<Output = Result<Vec<StudyRecord>, StoreError>> + Send;

    /// The studies that are neither finished nor stopped, without order.
    fn unfinished(&self) -> impl Future<Output = Result<Vec<Study>, StoreError>> + Send;

    /// The signed specification of an attempt; none if it was never opened.
    fn spec(
        &self,
        round: RoundId,
    ) -> impl Future<Output = Result<Option<Signed>, StoreError>> + Send;

    /// The journal of an attempt with secure aggregation, from its first line.
    fn journal(
        &self,
        round: RoundId,
    ) -> impl Future<Output = Result<Vec<Vec<u8>>, StoreError>> + Send;

    /// The updates accepted in an attempt, by site.
    fn updates(
        &self,
        round: RoundId,
    ) -> impl Future<Output = Result<Vec<Update>, StoreError>> + Send;

    /// The update of one site in an attempt; none if none was accepted.
    fn update(
        &self,
        round: RoundId,
        site: SiteId,
    ) -> impl Future<Output = Result<Option<Update>, StoreError>> + Send;

    /// The versions of a study, from 0.
    fn versions(
        &self,
        study: StudyId,
    ) -> impl Future<Output = Result<Vec<wire::Version>, StoreError>> + Send;

    /// The released model of a study; none before it is finished.
    fn release(
        &self,
        study: StudyId,
    ) -> impl Future<Output = Result<Option<Release>, StoreError>> + Send;

    /// Events of a study from the given number on, at most `limit`.
    fn events(
        &self,
        study: StudyId,
        from: u64,
        limit: u32,
    ) -> impl Future<Output = Result<Vec<wire::StudyEvent>, StoreError>> + Send;

    /// Audit entries from the given number on, at most `limit`.
    fn log(
        &self,
        from: u64,
        limit: u32,
    ) -> impl Future<Output = Result<Vec<wire::LogEntry>, StoreError>> + Send;

    /// Leaves of the transparency log from the given number on, at most `limit`.
    fn leaves(
        &self,
        from: u64,
        limit: u32,
    ) -> impl Future<Output = Result<Vec<Signed>, StoreError>> + Send;

    /// Effects still to be performed, the oldest first.
    fn effects(
        &self,
    ) -> impl Future<Output = Result<Vec<(EffectId, StudyId, Effect)>, StoreError>> + Send;

    /// Number of the last roster epoch; none before the first import.
    fn roster_epoch(&self) -> impl Future<Output = Result<Option<u64>, StoreError>> + Send;

    /// Roster epochs from the given one on.
    fn roster(&self, from: u64) -> impl Future<Output = Result<Vec<Signed>, StoreError>> + Send;

    /// Requests to join, by arrival, admitted or not.
    fn applications(&self) -> impl Future<Output = Result<Vec<Signed>, StoreError>> + Send;
}

#[cfg(test)]
pub(crate) mod tests;

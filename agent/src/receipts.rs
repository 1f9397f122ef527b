//! The ledger's head goes to the coordinator, and a receipt comes back before an update leaves.
//!
//! The coordinator logs how far each ledger has come (`docs/transparency.md`). Here a site checks
//! its side of that: what it gets back must hold its own head and must go on from the tree head it
//! kept last. Two things can come out: that *this ledger* is an older copy, which ends the agent,
//! or that *the coordinator* has told two histories, which is kept as evidence.

use std::time::{Duration, SystemTime};

use consilium_privacy::ledger::Head;
use consilium_proto::{
    Digest, ErrorCode, LedgerHead, PublicKey, Receipt, Signed, TreeHead,
    rpc::explain,
    tree::{TreeError, hashes},
    wire::{self, audit_client::AuditClient},
};
use prost::Message as _;
use tonic::{Request, Status, transport::Channel};

use crate::{
    membership::Membership,
    store::{ChargeError, Store, StoreError},
};

/// Longest wait for an answer.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);

/// The ledger in this folder is not the one that the coordinator has heard of.
#[derive(Debug, thiserror::Error)]
pub enum StaleLedger {
    /// It ends before an entry that was logged.
    #[error(
        "the ledger in this folder ends at entry {found}, but its entry {known} was logged: an \
         older copy of the folder was put back, and what was spent since is missing in it. Put \
         the newest copy back; if it is lost, ask governance to revoke this site and admit it \
         anew, and count all that its data sets had left as spent"
    )]
    OlderCopy {
        /// Newest entry that was logged.
        known: u64,
        /// Newest entry here.
        found: u64,
    },
    /// It has another entry where one was logged.
    #[error(
        "entry {sequence} of the ledger in this folder is not the one that was logged: two agents \
         ran on copies of this folder. Stop the other one and put back the copy whose entries \
         were logged"
    )]
    Split {
        /// Its position.
        sequence: u64,
    },
    /// It is another ledger.
    #[error(
        "the coordinator knows the ledger {known} of this site, this folder has another: budgets \
         would be counted anew. Put the first one back with its key, or ask governance to revoke \
         this site and admit it anew"
    )]
    OtherLedger {
        /// The ledger that was logged.
        known: Digest,
    },
    /// The coordinator refused its head.
    #[error("the coordinator refuses the head of the ledger in this folder: {reason}")]
    Refused {
        /// In its words.
        reason: String,
    },
}

/// Why there is no receipt.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReceiptError {
    #[error("no receipt for the ledger's head: {reason}")]
    Call { code: ErrorCode, reason: String },
    #[error("this site or its coordinator is not in the roster")]
    NotInRoster,
    #[error(
        "ALARM: the coordinator's transparency log is not believed; what it showed is kept in the table `evidence` of agent.db: {0}"
    )]
    Distrust(String),
    #[error(transparent)]
    Stale(#[from] StaleLedger),
    #[error(transparent)]
    Ledger(#[from] ChargeError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl ReceiptError {
    /// Whether trying again may help.
    pub(crate) fn may_pass(&self) -> bool {
        use ErrorCode::{Exhausted, Internal, Unavailable};
        matches!(
            self,
            Self::Call {
                code: Unavailable | Exhausted | Internal,
                ..
            }
        )
    }
}

impl From<Status> for ReceiptError {
    fn from(status: Status) -> Self {
        match explain(&status) {
            (ErrorCode::Precondition, reason) => StaleLedger::Refused { reason }.into(),
            (code, reason) => Self::Call { code, reason },
        }
    }
}

/// One site's dealings with the transparency log.
pub(crate) struct Receipts<'a> {
    store: &'a Store,
    membership: &'a Membership,
    coordinator: PublicKey,
    /// The tree head that was kept last.
    kept: Option<Signed>,
    kept_sequence: u64,
}

impl<'a> Receipts<'a> {
    /// Reads what was kept.
    ///
    /// # Errors
    /// The store failed, or the roster names no coordinator.
    pub(crate) async fn open(
        store: &'a Store,
        membership: &'a Membership,
    ) -> Result<Self, ReceiptError> {
        let newest = store.newest_receipt().await?;
        let (kept_sequence, kept) = newest.map_or((0, None), |(sequence, receipt)| {
            (sequence, Some(receipt.tree_head))
        });
        let coordinator = membership.coordinator_identity_key();
        Ok(Self {
            store,
            membership,
            coordinator: coordinator.ok_or(ReceiptError::NotInRoster)?,
            kept,
            kept_sequence,
        })
    }

    /// Compares what the coordinator has logged of this site with the ledger in this folder.
    ///
    /// # Errors
    /// An older copy of the ledger, a coordinator that contradicts itself.
    pub(crate) async fn compare(&self, channel: &Channel) -> Result<(), ReceiptError> {
        let known_size = self.kept_tree().await?.map_or(0, |kept| kept.size);
        let known = wire::KnownTree { known_size };
        let mut client = AuditClient::new(channel.clone());
        let shown = client.newest_head(timed(known)).await?.into_inner();
        let logged = match self.believe(&shown) {
            Ok(logged) => logged,
            Err(reason) => return Err(self.distrust(reason, shown.encode_to_vec()).await),
        };
        let Some(logged) = logged else {
            return Ok(());
        };
        let ours = self.store.ledger_public_key();
        if logged.ledger != *ours.as_bytes() {
            let known = Digest::from(logged.ledger);
            return Err(StaleLedger::OtherLedger { known }.into());
        }
        let entries = self.store.ledger_entries().await?;
        let found = entries.last().map_or(0, |entry| entry.sequence);
        let known = logged.sequence;
        match entries.iter().find(|entry| entry.sequence == known) {
            None => Err(StaleLedger::OlderCopy { known, found }.into()),
            Some(entry) if entry.hash != *logged.entry_hash.as_bytes() => {
                Err(StaleLedger::Split { sequence: known }.into())
            }
            Some(_) => Ok(()),
        }
    }

    /// Whether an answer fits what was kept: the logged head of this site, or why not.
    fn believe(&self, shown: &wire::KnownHead) -> Result<Option<LedgerHead>, String> {
        let tree_head = shown.tree_head.clone().ok_or("it shows no tree head")?;
        let tree_head = Signed::try_from(tree_head).map_err(said)?;
        let tree_head = TreeHead::open(&tree_head, &self.coordinator).map_err(said)?;
        if let Some(kept) = &self.kept {
            let kept = TreeHead::open(kept, &self.coordinator).map_err(said)?;
            let proof = hashes(shown.consistency.clone()).map_err(said)?;
            tree_head.verify_consistency(&kept, &proof).map_err(said)?;
        }
        let head = shown.head.clone().map(Signed::try_from).transpose();
        let ours = self.membership.identity().public_key();
        let head = head
            .map_err(said)?
            .map(|head| LedgerHead::open(&head, &ours));
        let head = head.transpose().map_err(said)?;
        let sequence = head.map_or(0, |head| head.sequence);
        if sequence < self.kept_sequence {
            let kept = self.kept_sequence;
            return Err(format!(
                "it gave a receipt for entry {kept} and now shows entry {sequence} as the newest"
            ));
        }
        Ok(head)
    }

    /// Hands in the ledger's newest head, unless there is a receipt for it, and keeps the receipt.
    ///
    /// # Errors
    /// No answer, a head that is refused, a receipt that is not believed.
    pub(crate) async fn obtain(&self, channel: &Channel) -> Result<(), ReceiptError> {
        let Head { sequence, hash } = self.store.ledger_head().await?;
        if sequence <= self.kept_sequence {
            return Ok(());
        }
        let site = self.membership.site_id().ok_or(ReceiptError::NotInRoster)?;
        let head = LedgerHead {
            site,
            ledger: *self.store.ledger_public_key().as_bytes(),
            sequence,
            entry_hash: hash.into(),
        };
        let signed = head.sign(self.membership.identity());
        let submission = wire::HeadSubmission {
            head: Some(signed.clone().into()),
            known_size: self.kept_tree().await?.map_or(0, |kept| kept.size),
        };
        let mut client = AuditClient::new(channel.clone());
        let shown = client.submit_head(timed(submission)).await?.into_inner();
        match self.accept(signed, shown.clone()) {
            Ok(receipt) => Ok(self.store.keep_receipt(sequence, &receipt).await?),
            Err(reason) => Err(self
                .distrust(reason.to_string(), shown.encode_to_vec())
                .await),
        }
    }

    /// The receipt, if it is for exactly this head and goes on from the tree head kept last.
    fn accept(&self, head: Signed, shown: wire::Receipt) -> Result<Receipt, TreeError> {
        let receipt = Receipt {
            head,
            earlier: self.kept.clone(),
            ..Receipt::try_from(shown).map_err(TreeError::from)?
        };
        receipt.verify(&self.coordinator)?;
        Ok(receipt)
    }

    /// The tree head that was kept last, opened.
    async fn kept_tree(&self) -> Result<Option<TreeHead>, ReceiptError> {
        let kept = self.kept.as_ref();
        match kept
            .map(|kept| TreeHead::open(kept, &self.coordinator))
            .transpose()
        {
            Ok(kept) => Ok(kept),
            Err(error) => {
                let reason = format!("the tree head kept last: {error}");
                Err(self.distrust(reason, vec![]).await)
            }
        }
    }

    async fn distrust(&self, reason: String, shown: Vec<u8>) -> ReceiptError {
        let kept = self.kept.as_ref().map_or_else(Vec::new, Signed::to_bytes);
        let now = SystemTime::now();
        match self.store.keep_evidence(&reason, &kept, &shown, now).await {
            Ok(()) => ReceiptError::Distrust(reason),
            Err(error) => error.into(),
        }
    }
}

fn said(error: impl std::error::Error) -> String {
    error.to_string()
}

fn timed<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(CALL_TIMEOUT);
    request
}

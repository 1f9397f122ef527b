//! The transparency log: how far each site's ledger has come, in the order it was heard.
//!
//! A leaf is the head of a ledger as its site signed it. Leaves are appended to one Merkle tree
//! and never change; each answer carries a signed tree head and the proofs that tie it to what the
//! caller had seen before. A site that puts back an older copy of its ledger hands in a head that
//! does not continue the last one, and is refused; a coordinator that takes a leaf back cannot
//! prove that its tree grew. What nobody sees alone is two trees shown to two parties: they have
//! to compare tree heads.

mod log;
mod tree;

use std::sync::Arc;

use consilium_proto::{
    Digest, LedgerHead, Member, Receipt, Signed, Signer, TreeHead, tree::TreeError, wire,
};
use serde_json::json;
use tokio::sync::RwLock;
use tracing::warn;

pub use self::log::Fork;
use self::{
    log::{Admission, Log},
    tree::Tree,
};
use crate::{
    audit_log::Entry,
    clock::Clock,
    roster::{Members, MembersError},
    store::{Change, Store, StoreError},
};

/// Leaves read from the store at a time.
const PAGE: u32 = 1024;

/// Why a head is not logged, or a question has no answer.
#[derive(Debug, thiserror::Error)]
pub enum HeadError {
    /// Only sites have ledgers.
    #[error("only a site hands in heads of a ledger")]
    NotASite,
    /// The head is not the caller's, or malformed.
    #[error(transparent)]
    Head(TreeError),
    /// It names another member.
    #[error("the head names another member than its sender")]
    OtherMember,
    /// It does not continue what was logged before.
    #[error(transparent)]
    Refused(#[from] Fork),
    /// A question about a tree that is not there yet.
    #[error("there is no such leaf or tree: the log has {size} leaves")]
    NoSuchTree {
        /// Its size now.
        size: u64,
    },
    /// A stored leaf is none.
    #[error("leaf {number} of the stored log cannot be read: put back a database that is whole")]
    Stored {
        /// Its position.
        number: u64,
        /// What is wrong with it.
        source: TreeError,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The roster cannot be read.
    #[error(transparent)]
    Members(#[from] MembersError),
}

/// The log, its tree and its signer.
pub struct Transparency<S> {
    store: Arc<S>,
    members: Arc<Members<S>>,
    identity: Arc<Signer>,
    clock: Clock,
    log: RwLock<Log>,
}

impl<S: Store> Transparency<S> {
    /// Builds the tree from the stored leaves.
    ///
    /// # Errors
    /// The store failed, or holds what is no leaf.
    pub async fn open(
        store: Arc<S>,
        members: Arc<Members<S>>,
        identity: Arc<Signer>,
        clock: Clock,
    ) -> Result<Self, HeadError> {
        let mut log = Log::default();
        catch_up(&mut log, &*store).await?;
        let log = RwLock::new(log);
        Ok(Self {
            store,
            members,
            identity,
            clock,
            log,
        })
    }

    /// Logs a site's head, and returns the receipt with the proof that the log still begins with
    /// the tree of `known_size` leaves. The same head again returns a new receipt for its leaf.
    ///
    /// # Errors
    /// Not this site's head; one that does not continue the last, which the audit log then tells.
    pub async fn submit(
        &self,
        member: &Member,
        signed: Signed,
        known_size: u64,
    ) -> Result<Receipt, HeadError> {
        let site = member.site().ok_or(HeadError::NotASite)?;
        let head = LedgerHead::open(&signed, &member.identity_key).map_err(HeadError::Head)?;
        if head.site != site {
            return Err(HeadError::OtherMember);
        }
        let roster = self.members.refresh().await?;
        let mut log = self.log.write().await;
        // A commit that failed may have been stored all the same.
        catch_up(&mut log, &*self.store).await?;
        let now = self.clock.now();
        let is_active = |site: consilium_proto::SiteId| {
            let member = roster.as_ref().and_then(|roster| roster.member(site.0));
            member.is_some_and(|member| member.is_active(now.seconds()))
        };
        let mut change = Change {
            at: now,
            ..Change::default()
        };
        let mut detail = json!({
            "ledger": hex(&head.ledger),
            "sequence": head.sequence,
            "entry_hash": head.entry_hash,
        });
        let leaf = match log.admit(&head, is_active) {
            Ok(Admission::Repeat { leaf }) => leaf,
            Ok(Admission::New) => {
                let leaf = log.tree.size();
                detail["leaf"] = leaf.into();
                change.leaf = Some((leaf, signed.clone()));
                change.entries = vec![Entry::by(site.0, "ledger head logged", detail)];
                self.store.commit(change).await?;
                log.take(head, signed.clone());
                leaf
            }
            Err(fork) => {
                warn!(%site, reason = %fork, "ledger head refused");
                detail["reason"] = fork.to_string().into();
                change.entries = vec![Entry::by(site.0, "ledger head refused", detail)];
                self.store.commit(change).await?;
                return Err(fork.into());
            }
        };
        Ok(Receipt {
            head: signed,
            leaf,
            tree_head: self.sign(&log.tree),
            inclusion: log
                .tree
                .inclusion(leaf, log.tree.size())
                .unwrap_or_default(),
            earlier: None,
            consistency: since(&log.tree, known_size),
        })
    }

    /// What is logged as the newest head of a site's ledger.
    ///
    /// # Errors
    /// The caller is no site.
    pub async fn newest(
        &self,
        member: &Member,
        known_size: u64,
    ) -> Result<wire::KnownHead, HeadError> {
        let site = member.site().ok_or(HeadError::NotASite)?;
        let log = self.log.read().await;
        Ok(wire::KnownHead {
            head: log.newest(site).cloned().map(Into::into),
            tree_head: Some(self.sign(&log.tree).into()),
            consistency: Some(since(&log.tree, known_size).as_slice().into()),
        })
    }

    /// The head of the log as it is now, signed.
    pub async fn tree_head(&self) -> Signed {
        self.sign(&self.log.read().await.tree)
    }

    /// Proof that a leaf is in the log of this size.
    ///
    /// # Errors
    /// There is no such leaf or tree.
    pub async fn inclusion(&self, leaf: u64, size: u64) -> Result<Vec<Digest>, HeadError> {
        let tree = &self.log.read().await.tree;
        let size_now = tree.size();
        tree.inclusion(leaf, size)
            .ok_or(HeadError::NoSuchTree { size: size_now })
    }

    /// Proof that the log of size `to` begins with that of size `from`.
    ///
    /// # Errors
    /// There is no such tree.
    pub async fn consistency(&self, from: u64, to: u64) -> Result<Vec<Digest>, HeadError> {
        let tree = &self.log.read().await.tree;
        let size = tree.size();
        tree.consistency(from, to)
            .ok_or(HeadError::NoSuchTree { size })
    }

    fn sign(&self, tree: &Tree) -> Signed {
        let head = TreeHead {
            size: tree.size(),
            root: tree.root(),
            at: self.clock.now().0,
        };
        head.sign(&self.identity)
    }
}

/// Takes in the stored leaves that a log does not have yet.
async fn catch_up(log: &mut Log, store: &impl Store) -> Result<(), HeadError> {
    loop {
        let page = store.leaves(log.tree.size(), PAGE).await?;
        let is_last = page.len() < PAGE as usize;
        for signed in page {
            let number = log.tree.size();
            let head = LedgerHead::open(&signed, signed.signer())
                .map_err(|source| HeadError::Stored { number, source })?;
            log.take(head, signed);
        }
        if is_last {
            return Ok(());
        }
    }
}

/// From the tree that a caller knows to the one that is. A caller that knows a larger one gets no
/// proof, and sees for itself what that means.
fn since(tree: &Tree, known_size: u64) -> Vec<Digest> {
    tree.consistency(known_size, tree.size())
        .unwrap_or_default()
}

/// A key as people read it.
fn hex(key: &[u8; 32]) -> String {
    Digest::from(*key).to_string()
}

#[cfg(test)]
mod tests;

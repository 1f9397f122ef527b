//! Who may act at the moment: the last roster epoch that governance signed, as stored.
//!
//! Imports may come from another process while this one serves, so whoever must know asks
//! [`Members::refresh`], which looks at the number of the last stored epoch first.

use std::{
    collections::BTreeSet,
    sync::{Arc, PoisonError, RwLock},
};

use consilium_proto::{Digest, MemberId, Roster, Signed, SiteId, roster::RosterError};
use serde_json::json;

use crate::{
    audit_log::Entry,
    clock::{Clock, Timestamp},
    store::{Change, Store, StoreError},
};

/// Why there is no roster to go by, or a new epoch is not taken.
#[derive(Debug, thiserror::Error)]
pub enum MembersError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// What is stored or offered is not a history that governance signed.
    #[error(transparent)]
    Roster(#[from] RosterError),
}

/// The members, as the last believed epoch has them.
pub struct Members<S> {
    store: Arc<S>,
    trust_root: Digest,
    clock: Clock,
    present: RwLock<Option<Arc<Roster>>>,
}

impl<S: Store> Members<S> {
    /// Believes epochs that the governance of this fingerprint signed.
    pub fn new(store: Arc<S>, trust_root: Digest, clock: Clock) -> Self {
        let present = RwLock::new(None);
        Self {
            store,
            trust_root,
            clock,
            present,
        }
    }

    /// Looks for epochs that were imported since, and returns the last one; none before the first
    /// import.
    ///
    /// # Errors
    /// The store failed, or holds what governance did not sign.
    pub async fn refresh(&self) -> Result<Option<Arc<Roster>>, MembersError> {
        let known = self.present();
        let last = self.store.roster_epoch().await?;
        if last == known.as_ref().map(|roster| roster.epoch()) {
            return Ok(known);
        }
        let from = known.as_ref().map_or(0, |roster| roster.epoch() + 1);
        let mut roster = known.as_deref().cloned();
        for signed in self.store.roster(from).await? {
            roster = Some(believe(roster.as_ref(), &signed, &self.trust_root)?);
        }
        let roster = roster.map(Arc::new);
        *self.present.write().unwrap_or_else(PoisonError::into_inner) = roster.clone();
        Ok(roster)
    }

    /// The last epoch seen.
    pub fn present(&self) -> Option<Arc<Roster>> {
        self.present
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// The present moment.
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Sites that may act now, by the last epoch seen.
    pub fn active_sites(&self) -> BTreeSet<SiteId> {
        let now = self.clock.now().seconds();
        self.present().map_or_else(BTreeSet::new, |roster| {
            roster
                .active_sites(now)
                .filter_map(|member| member.site())
                .collect()
        })
    }

    /// What a member is called; its number if it is unknown.
    pub fn name_of(&self, id: MemberId) -> String {
        let roster = self.present();
        let member = roster.as_ref().and_then(|roster| roster.member(id));
        member.map_or_else(|| format!("member {id}"), |member| member.name.to_string())
    }
}

fn believe(
    last: Option<&Roster>,
    signed: &Signed,
    trust_root: &Digest,
) -> Result<Roster, RosterError> {
    match last {
        Some(last) => last.open_next(signed),
        None => Roster::open_first(signed, trust_root),
    }
}

/// Stores epochs that continue the stored history. Epochs that are stored already are passed
/// over, so a whole history may be handed in again.
///
/// # Errors
/// An epoch that governance did not sign or that does not continue the history; those before it
/// are stored.
pub async fn import(
    store: &impl Store,
    trust_root: &Digest,
    epochs: &[Signed],
    now: Timestamp,
) -> Result<Roster, MembersError> {
    let known = store.roster(0).await?;
    let mut roster = None;
    for signed in &known {
        roster = Some(believe(roster.as_ref(), signed, trust_root)?);
    }
    for signed in epochs.iter().filter(|signed| !known.contains(signed)) {
        let next = believe(roster.as_ref(), signed, trust_root)?;
        let entry = Entry::by_coordinator(
            "roster imported",
            json!({
                "epoch": next.epoch(),
                "digest": next.digest(),
                "members": next.members().count(),
            }),
        );
        let change = Change {
            at: now,
            epoch: Some((next.epoch(), signed.clone())),
            entries: vec![entry],
            ..Change::default()
        };
        store.commit(change).await?;
        roster = Some(next);
    }
    roster.ok_or_else(|| {
        let empty = consilium_proto::OutOfRange::new("roster", "one epoch or more", "none");
        RosterError::from(empty).into()
    })
}

#[cfg(test)]
mod tests;

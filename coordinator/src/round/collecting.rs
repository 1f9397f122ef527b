//! The phase in which answers come in.

use std::{collections::BTreeMap, fmt};

use consilium_proto::{OutOfRange, RoundId, SiteId, wire};
use serde::{Deserialize, Serialize};

use super::{Receipt, Refusal};
use crate::clock::Timestamp;

/// Why a site does not take part in a round.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DeclineReason {
    /// Nobody has approved the plan there.
    NotApproved,
    /// The budget of its data set does not allow the charge.
    BudgetSpent,
    /// It has no data set of that name.
    DataSetMissing,
    /// Its policy does not allow the plan.
    Policy,
    /// Something went wrong there.
    Failed,
}

impl fmt::Display for DeclineReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotApproved => "not approved there",
            Self::BudgetSpent => "privacy budget spent",
            Self::DataSetMissing => "data set missing",
            Self::Policy => "against its policy",
            Self::Failed => "failed there",
        })
    }
}

impl TryFrom<wire::DeclineReason> for DeclineReason {
    type Error = OutOfRange;
    fn try_from(reason: wire::DeclineReason) -> Result<Self, OutOfRange> {
        match reason {
            wire::DeclineReason::NotApproved => Ok(Self::NotApproved),
            wire::DeclineReason::BudgetSpent => Ok(Self::BudgetSpent),
            wire::DeclineReason::DataSetMissing => Ok(Self::DataSetMissing),
            wire::DeclineReason::Policy => Ok(Self::Policy),
            wire::DeclineReason::Failed => Ok(Self::Failed),
            wire::DeclineReason::Unspecified => Err(OutOfRange::new("reason", "specified", "none")),
        }
    }
}

/// Answers so far.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Collecting {
    updates: BTreeMap<SiteId, Receipt>,
    declined: BTreeMap<SiteId, DeclineReason>,
    /// Set once, when the quorum is reached.
    close_at: Option<Timestamp>,
}

impl Collecting {
    pub(super) fn accept(
        &mut self,
        round: RoundId,
        site: SiteId,
        receipt: Receipt,
    ) -> Result<(), Refusal> {
        if self.declined.contains_key(&site) {
            return Err(Refusal::Answered { site, round });
        }
        match self.updates.get(&site) {
            Some(first) if first.update != receipt.update => {
                let first = first.update;
                Err(Refusal::AnotherUpdate { site, round, first })
            }
            Some(_) => Ok(()),
            None => {
                self.updates.insert(site, receipt);
                Ok(())
            }
        }
    }

    pub(super) fn decline(
        &mut self,
        round: RoundId,
        site: SiteId,
        reason: DeclineReason,
    ) -> Result<(), Refusal> {
        if self.updates.contains_key(&site) {
            return Err(Refusal::Answered { site, round });
        }
        self.declined.entry(site).or_insert(reason);
        Ok(())
    }

    /// When to close although sites are missing; the first call decides.
    pub(super) fn close_at(&mut self, proposed: Timestamp) -> Timestamp {
        *self.close_at.get_or_insert(proposed)
    }

    pub(super) fn close(&mut self) -> BTreeMap<SiteId, Receipt> {
        std::mem::take(&mut self.updates)
    }

    pub(super) fn update_of(&self, site: SiteId) -> Option<&Receipt> {
        self.updates.get(&site)
    }

    /// Number of updates that came.
    pub fn received(&self) -> u32 {
        self.updates.len() as u32
    }

    /// Number of sites that said no.
    pub fn declined(&self) -> u32 {
        self.declined.len() as u32
    }

    /// What the sites that said no gave as reason.
    pub fn reasons(&self) -> &BTreeMap<SiteId, DeclineReason> {
        &self.declined
    }

    /// Whether this site has answered, either way.
    pub fn has_answered(&self, site: SiteId) -> bool {
        self.updates.contains_key(&site) || self.declined.contains_key(&site)
    }
}

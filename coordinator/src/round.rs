//! One attempt at a round: collects updates, closes, waits for the sum, ends.
//!
//! A sans-I/O state machine: input and time come in, effects go out, and an `Err` leaves it
//! exactly as it was. A site's first answer counts: an update is counted once, whatever repeats.
//!
//! When a round closes: at once when every site of the cohort has answered; at the deadline
//! otherwise; and, so that one dead site does not hold up the others until the deadline, after a
//! grace once the quorum is reached: half of the time the quorum took, at least the configured
//! grace. Without a quorum it fails at the deadline, or as soon as too many sites have declined.
//!
//! With secure aggregation the attempt's own state machine ([`consilium_privacy::secagg`]) decides
//! when answers end and which of them count; the round waits for [`Input::Opened`].

mod collecting;

use std::{collections::BTreeMap, time::Duration};

use consilium_proto::{ModelDigest, RoundId, RoundSpec, SiteId};
use serde::{Deserialize, Serialize};

pub use self::collecting::{Collecting, DeclineReason};
use crate::clock::Timestamp;

/// An update that was verified and spooled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Receipt {
    /// Identity of the update's bytes.
    pub update: ModelDigest,
    /// Bucket of the site's public size, 1 to 64; none where it is among what is summed.
    pub weight: Option<u32>,
}

/// What happens to a round.
#[derive(Debug, Clone, PartialEq)]
pub enum Input {
    /// A site's update was verified and spooled.
    UpdateStored {
        /// Whose.
        site: SiteId,
        /// What.
        receipt: Receipt,
    },
    /// A site cannot take part.
    Declined {
        /// Which.
        site: SiteId,
        /// Why.
        reason: DeclineReason,
    },
    /// Time has passed.
    Tick,
    /// With secure aggregation: the masks of the sum over these sites' updates can be taken away.
    Opened {
        /// Whose updates count, ascending.
        survivors: Vec<SiteId>,
    },
    /// With secure aggregation: there will be no sum.
    NotOpened {
        /// Why, for people.
        reason: String,
    },
    /// The sum has moved the model.
    Aggregated {
        /// The next version.
        model: ModelDigest,
    },
    /// The sum could not be formed, and will not be by trying again.
    AggregationFailed {
        /// Why, for people.
        reason: String,
    },
    /// The study was stopped.
    Abandon,
}

impl Input {
    fn name(&self) -> &'static str {
        match self {
            Self::UpdateStored { .. } => "an update",
            Self::Declined { .. } => "a decline",
            Self::Tick => "a tick",
            Self::Opened { .. } => "a list of survivors",
            Self::NotOpened { .. } => "a sum that stays closed",
            Self::Aggregated { .. } => "a new version",
            Self::AggregationFailed { .. } => "a failed sum",
            Self::Abandon => "a stop",
        }
    }
}

/// What a round asks for.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Sum the updates and move the model.
    Aggregate,
    /// Nothing more: the next version stands.
    Published(ModelDigest),
    /// Nothing more: this attempt gave no version.
    Failed(Failure),
}

/// Why an attempt gave no version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "kebab-case")]
pub enum Failure {
    /// Too few updates came.
    #[error("{received} of {quorum} needed updates came, {declined} sites declined{}", listed(.reasons))]
    QuorumMissed {
        /// Updates that came.
        received: u32,
        /// Updates needed.
        quorum: u32,
        /// Sites that said no.
        declined: u32,
        /// What they said.
        reasons: BTreeMap<SiteId, DeclineReason>,
    },
    /// Secure aggregation gave no sum.
    #[error("no sum: {reason}{}", listed(.reasons))]
    NotOpened {
        /// Why, for people.
        reason: String,
        /// What sites that declined said.
        reasons: BTreeMap<SiteId, DeclineReason>,
    },
    /// The sum could not be formed.
    #[error("the updates could not be combined: {0}")]
    NotCombined(String),
    /// The study was stopped.
    #[error("the study was stopped")]
    Abandoned,
}

fn listed(reasons: &BTreeMap<SiteId, DeclineReason>) -> String {
    let each: Vec<_> = reasons
        .iter()
        .map(|(site, reason)| format!("site {site}: {reason}"))
        .collect();
    match each.is_empty() {
        true => String::new(),
        false => format!(" ({})", each.join(", ")),
    }
}

/// Why an input is refused. The round is unchanged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The site was not drawn.
    #[error("site {site} is not in the cohort of round {round}")]
    NotInCohort {
        /// Which site.
        site: SiteId,
        /// Which round.
        round: RoundId,
    },
    /// The round takes no more answers.
    #[error("round {round} is closed: ask for work again")]
    Closed {
        /// Which round.
        round: RoundId,
    },
    /// The site answered with another update before.
    #[error(
        "site {site} has already answered round {round} with update {first}: the first one counts"
    )]
    AnotherUpdate {
        /// Which site.
        site: SiteId,
        /// Which round.
        round: RoundId,
        /// The update that counts.
        first: ModelDigest,
    },
    /// The site gave the other answer before.
    #[error("site {site} has already answered round {round}: the first answer counts")]
    Answered {
        /// Which site.
        site: SiteId,
        /// Which round.
        round: RoundId,
    },
    /// The input makes no sense at this point.
    #[error("round {round} is {phase} and cannot take {input}")]
    OutOfPhase {
        /// Which round.
        round: RoundId,
        /// Where it is.
        phase: &'static str,
        /// What came.
        input: &'static str,
    },
}

/// Where a round is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// Answers come in.
    Collecting(Collecting),
    /// The updates that count are fixed, their sum is being formed.
    Aggregating {
        /// What each site sent.
        updates: BTreeMap<SiteId, Receipt>,
    },
    /// It gave the next version.
    Published {
        /// Which one.
        model: ModelDigest,
        /// What each site sent.
        updates: BTreeMap<SiteId, Receipt>,
    },
    /// It gave none.
    Failed(Failure),
}

impl Phase {
    fn name(&self) -> &'static str {
        match self {
            Self::Collecting(_) => "collecting",
            Self::Aggregating { .. } => "aggregating",
            Self::Published { .. } => "published",
            Self::Failed(_) => "failed",
        }
    }
}

/// One attempt at a round.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Round {
    id: RoundId,
    cohort: Vec<SiteId>,
    quorum: u32,
    issued_at: Timestamp,
    deadline: Timestamp,
    grace: Duration,
    /// Whether only the sum is learned.
    #[serde(default)]
    is_secure: bool,
    phase: Phase,
}

impl Round {
    /// Opens the attempt that a specification fixes. `grace` is the least time that stragglers get
    /// once the quorum is reached.
    pub fn open(spec: &RoundSpec, grace: Duration) -> Self {
        Self {
            id: spec.round,
            cohort: spec.cohort.clone(),
            quorum: spec.quorum,
            issued_at: Timestamp(spec.issued_at),
            deadline: Timestamp(spec.deadline),
            grace,
            is_secure: spec.secure_aggregation.is_some(),
            phase: Phase::Collecting(Collecting::default()),
        }
    }

    /// Moves the round, or refuses and leaves it exactly as it was.
    ///
    /// # Errors
    /// An input that this phase does not take.
    pub fn handle(&mut self, input: Input, now: Timestamp) -> Result<Vec<Effect>, Refusal> {
        let round = self.id;
        match (&mut self.phase, input) {
            (_, Input::UpdateStored { site, .. } | Input::Declined { site, .. })
                if !self.cohort.contains(&site) =>
            {
                Err(Refusal::NotInCohort { site, round })
            }
            (Phase::Collecting(collecting), Input::UpdateStored { site, receipt }) => {
                if collecting.update_of(site).is_none() && now >= self.deadline {
                    return Err(Refusal::Closed { round });
                }
                collecting.accept(round, site, receipt)?;
                Ok(self.advance(now))
            }
            (Phase::Collecting(collecting), Input::Declined { site, reason }) => {
                collecting.decline(round, site, reason)?;
                Ok(self.advance(now))
            }
            (Phase::Collecting(_), Input::Tick) => Ok(self.advance(now)),
            (Phase::Collecting(collecting), Input::Opened { survivors }) if self.is_secure => {
                let mut updates = collecting.close();
                updates.retain(|site, _| survivors.contains(site));
                self.phase = Phase::Aggregating { updates };
                Ok(vec![Effect::Aggregate])
            }
            (Phase::Collecting(collecting), Input::NotOpened { reason }) if self.is_secure => {
                let reasons = collecting.reasons().clone();
                Ok(self.fail(Failure::NotOpened { reason, reasons }))
            }
            (
                Phase::Aggregating { updates } | Phase::Published { updates, .. },
                Input::UpdateStored { site, receipt },
            ) => match updates.get(&site) {
                Some(first) if first.update == receipt.update => Ok(vec![]),
                Some(first) => {
                    let first = first.update;
                    Err(Refusal::AnotherUpdate { site, round, first })
                }
                None => Err(Refusal::Closed { round }),
            },
            (_, Input::UpdateStored { .. } | Input::Declined { .. }) => {
                Err(Refusal::Closed { round })
            }
            (Phase::Aggregating { updates }, Input::Aggregated { model }) => {
                let updates = std::mem::take(updates);
                self.phase = Phase::Published { model, updates };
                Ok(vec![Effect::Published(model)])
            }
            (Phase::Aggregating { .. }, Input::AggregationFailed { reason }) => {
                Ok(self.fail(Failure::NotCombined(reason)))
            }
            (Phase::Collecting(_) | Phase::Aggregating { .. }, Input::Abandon) => {
                Ok(self.fail(Failure::Abandoned))
            }
            (_, Input::Tick) => Ok(vec![]),
            (phase, input) => Err(Refusal::OutOfPhase {
                round,
                phase: phase.name(),
                input: input.name(),
            }),
        }
    }

    fn advance(&mut self, now: Timestamp) -> Vec<Effect> {
        let cohort = self.cohort.len() as u32;
        let Phase::Collecting(collecting) = &mut self.phase else {
            return vec![];
        };
        if self.is_secure {
            return vec![];
        }
        let (received, declined) = (collecting.received(), collecting.declined());
        if received < self.quorum {
            let is_hopeless = cohort - declined < self.quorum || now >= self.deadline;
            let failure = Failure::QuorumMissed {
                received,
                quorum: self.quorum,
                declined,
                reasons: collecting.reasons().clone(),
            };
            return if is_hopeless {
                self.fail(failure)
            } else {
                vec![]
            };
        }
        let grace = self.grace.max(now.since(self.issued_at) / 2);
        let close_at = collecting.close_at(self.deadline.min(now + grace));
        if received + declined < cohort && now < close_at {
            return vec![];
        }
        let updates = collecting.close();
        self.phase = Phase::Aggregating { updates };
        vec![Effect::Aggregate]
    }

    fn fail(&mut self, failure: Failure) -> Vec<Effect> {
        self.phase = Phase::Failed(failure.clone());
        vec![Effect::Failed(failure)]
    }

    /// Whether only the sum of the updates is learned.
    pub fn is_secure(&self) -> bool {
        self.is_secure
    }

    /// Which attempt this is.
    pub fn id(&self) -> RoundId {
        self.id
    }

    /// Where it is.
    pub fn phase(&self) -> &Phase {
        &self.phase
    }

    /// Sites drawn, ascending.
    pub fn cohort(&self) -> &[SiteId] {
        &self.cohort
    }

    /// When it was opened.
    pub fn issued_at(&self) -> Timestamp {
        self.issued_at
    }

    /// Until when updates are taken.
    pub fn deadline(&self) -> Timestamp {
        self.deadline
    }

    /// Whether this site is still to answer.
    pub fn waits_for(&self, site: SiteId, now: Timestamp) -> bool {
        match &self.phase {
            Phase::Collecting(collecting) => {
                now < self.deadline && self.cohort.contains(&site) && !collecting.has_answered(site)
            }
            _ => false,
        }
    }

    /// Whether this site has answered, either way, in the phase the round is in.
    pub fn has_answer_of(&self, site: SiteId) -> bool {
        match &self.phase {
            Phase::Collecting(collecting) => collecting.has_answered(site),
            Phase::Aggregating { updates } | Phase::Published { updates, .. } => {
                updates.contains_key(&site)
            }
            Phase::Failed(_) => false,
        }
    }

    /// The updates that count, by site; empty until the round has closed.
    pub fn updates(&self) -> BTreeMap<SiteId, Receipt> {
        match &self.phase {
            Phase::Aggregating { updates } | Phase::Published { updates, .. } => updates.clone(),
            _ => BTreeMap::new(),
        }
    }
}

#[cfg(test)]
mod tests;

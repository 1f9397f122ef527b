//! One study from submission to its last version, with the round that is open at the moment.
//!
//! A sans-I/O state machine like [`Round`], which it holds: one value, one row, one revision. An
//! `Err` leaves it exactly as it was. [`Effect::Tell`] is stored as event and audit entry with the
//! change itself; all other effects are performed after it was stored, and may be performed twice.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use consilium_proto::{ModelDigest, Plan, RoundId, SiteId, StudyId, wire};
use serde::{Deserialize, Serialize};

use crate::{
    clock::Timestamp,
    round::{self, Failure, Round},
};

/// What a plan and the coordinator's settings fix for all rounds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rules {
    /// Sites drawn for each round.
    pub cohort: u32,
    /// Updates that a round needs.
    pub quorum: u32,
    /// Time from the draw to the last accepted update.
    pub deadline: Duration,
    /// Attempts at a round before the study stops.
    pub max_attempts: u32,
    /// Rounds of the study.
    pub rounds: u32,
    /// Least time that stragglers get once the quorum is reached.
    pub grace: Duration,
}

impl Rules {
    /// The rules of a plan.
    pub fn of(plan: &Plan, grace: Duration) -> Self {
        Self {
            cohort: plan.cohort.size,
            quorum: plan.cohort.quorum(),
            deadline: plan.cohort.deadline,
            max_attempts: plan.cohort.max_attempts,
            rounds: plan.rounds,
            grace,
        }
    }
}

/// A site's answer to the plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Verdict {
    /// Yes or no.
    pub approved: bool,
    /// Why not, for people.
    pub reason: String,
}

/// What happens to a study.
#[derive(Debug, Clone, PartialEq)]
pub enum Input {
    /// A site answered the plan.
    Decided {
        /// Which site.
        site: SiteId,
        /// What it said.
        verdict: Verdict,
        /// Sites that may act at the moment.
        active: BTreeSet<SiteId>,
    },
    /// Governance changed who may act.
    RosterChanged {
        /// Sites that may act now.
        active: BTreeSet<SiteId>,
    },
    /// The cohort of the next attempt was drawn, and its specification signed.
    Drawn(Round),
    /// There were too few approving sites to draw from.
    NotDrawn,
    /// Something happened to the open attempt.
    Round(RoundId, round::Input),
    /// Somebody wants it to stop.
    Stop {
        /// Who, for people.
        by: String,
    },
    /// Somebody wants it to go on.
    Resume {
        /// Sites that may act at the moment.
        active: BTreeSet<SiteId>,
    },
}

/// What a study asks for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Effect {
    /// Draw the cohort of an attempt and open it.
    Draw(RoundId),
    /// Sum the updates of an attempt and move the model.
    Aggregate(RoundId),
    /// Delete what was spooled for an attempt.
    Discard(RoundId),
    /// Write and sign the card of the last version.
    Release,
    /// Record what happened; stored with the change.
    Tell(Note),
}

/// What happened, for events and the audit log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Note {
    /// The study is in another state.
    Changed,
    /// A site answered the plan.
    Decided(SiteId),
    /// An attempt was opened.
    RoundOpened(RoundId),
    /// An update was accepted.
    UpdateReceived(RoundId, SiteId),
    /// A site said no to a round.
    Declined(RoundId, SiteId, round::DeclineReason),
    /// A version was published.
    Published(RoundId, ModelDigest),
    /// An attempt gave no version.
    RoundFailed(RoundId, Failure),
}

/// Why an input is refused. The study is unchanged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The round refused it.
    #[error(transparent)]
    Round(#[from] round::Refusal),
    /// It is about an attempt that is not open.
    #[error("round {0} is closed: ask for work again")]
    NotOpen(RoundId),
    /// The study has ended.
    #[error("the study is finished")]
    Finished,
    /// It can be resumed only when it has stopped.
    #[error("the study has not stopped, so it cannot be resumed")]
    NotStopped,
    /// It is stopped already.
    #[error("the study is stopped already")]
    AlreadyStopped,
}

/// Where a study is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// Too few active sites have approved.
    AwaitingConsent,
    /// The cohort of the next attempt is being drawn.
    Drawing {
        /// Attempts at this round that failed since the study last started.
        failures: u32,
    },
    /// An attempt is open.
    Open {
        /// Attempts at this round that failed since the study last started.
        failures: u32,
        /// The attempt.
        round: Round,
    },
    /// Waits for a person.
    Stopped {
        /// Why, for people.
        reason: String,
    },
    /// All rounds are published.
    Finished,
}

/// One study.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Study {
    rules: Rules,
    verdicts: BTreeMap<SiteId, Verdict>,
    /// The attempt that is open, or will be next.
    next: RoundId,
    phase: Phase,
}

impl Study {
    /// A study that nobody has approved yet.
    pub fn new(id: StudyId, rules: Rules) -> Self {
        let next = RoundId {
            study: id,
            round: 1,
            attempt: 1,
        };
        Self {
            rules,
            verdicts: BTreeMap::new(),
            next,
            phase: Phase::AwaitingConsent,
        }
    }

    /// Moves the study, or refuses and leaves it exactly as it was.
    ///
    /// # Errors
    /// An input that does not fit where the study, or its round, is.
    pub fn handle(&mut self, input: Input, now: Timestamp) -> Result<Vec<Effect>, Refusal> {
        let mut moved = self.clone();
        let effects = moved.step(input, now)?;
        *self = moved;
        Ok(effects)
    }

    fn step(&mut self, input: Input, now: Timestamp) -> Result<Vec<Effect>, Refusal> {
        match (&mut self.phase, input) {
            (Phase::Finished, Input::Decided { .. } | Input::Stop { .. }) => Err(Refusal::Finished),
            (
                _,
                Input::Decided {
                    site,
                    verdict,
                    active,
                },
            ) => Ok(self.decide(site, verdict, &active)),
            (Phase::AwaitingConsent, Input::RosterChanged { active }) => Ok(self.start(&active)),
            (Phase::Drawing { failures }, Input::Drawn(round)) if round.id() == self.next => {
                let (failures, id) = (*failures, round.id());
                self.phase = Phase::Open { failures, round };
                Ok(vec![Effect::Tell(Note::RoundOpened(id))])
            }
            (Phase::Drawing { .. }, Input::NotDrawn) => {
                self.phase = Phase::AwaitingConsent;
                Ok(vec![Effect::Tell(Note::Changed)])
            }
            (Phase::Open { round, .. }, Input::Round(id, input)) if round.id() == id => {
                let told = note_of(round, &input);
                let effects = round.handle(input, now)?;
                let mut out: Vec<_> = told.map(Effect::Tell).into_iter().collect();
                for effect in effects {
                    out.extend(self.follow(id, effect));
                }
                Ok(out)
            }
            (_, Input::Round(_, round::Input::Tick) | Input::RosterChanged { .. }) => Ok(vec![]),
            (_, Input::Round(id, _)) => Err(Refusal::NotOpen(id)),
            (_, Input::Drawn(round)) => Err(Refusal::NotOpen(round.id())),
            (_, Input::NotDrawn) => Err(Refusal::NotOpen(self.next)),
            (Phase::Stopped { .. }, Input::Stop { .. }) => Err(Refusal::AlreadyStopped),
            (_, Input::Stop { by }) => Ok(self.stop(format!("stopped by {by}"))),
            (Phase::Stopped { .. }, Input::Resume { active }) => {
                self.phase = Phase::AwaitingConsent;
                let mut effects = self.start(&active);
                if effects.is_empty() {
                    effects.push(Effect::Tell(Note::Changed));
                }
                Ok(effects)
            }
            (_, Input::Resume { .. }) => Err(Refusal::NotStopped),
        }
    }

    fn decide(&mut self, site: SiteId, verdict: Verdict, active: &BTreeSet<SiteId>) -> Vec<Effect> {
        if self.verdicts.get(&site) == Some(&verdict) {
            return vec![];
        }
        self.verdicts.insert(site, verdict);
        let mut effects = vec![Effect::Tell(Note::Decided(site))];
        if self.phase == Phase::AwaitingConsent {
            effects.extend(self.start(active));
        }
        effects
    }

    fn start(&mut self, active: &BTreeSet<SiteId>) -> Vec<Effect> {
        if (self.approving(active).count() as u32) < self.rules.cohort {
            return vec![];
        }
        self.phase = Phase::Drawing { failures: 0 };
        vec![Effect::Tell(Note::Changed), Effect::Draw(self.next)]
    }

    fn stop(&mut self, reason: String) -> Vec<Effect> {
        let mut effects = vec![];
        if let Phase::Open { round, .. } = &self.phase {
            effects.push(Effect::Tell(Note::RoundFailed(
                round.id(),
                Failure::Abandoned,
            )));
            effects.push(Effect::Discard(round.id()));
            self.next = self.next.next_attempt();
        }
        self.phase = Phase::Stopped { reason };
        effects.push(Effect::Tell(Note::Changed));
        effects
    }

    fn follow(&mut self, id: RoundId, effect: round::Effect) -> Vec<Effect> {
        match effect {
            round::Effect::Aggregate => vec![Effect::Aggregate(id)],
            round::Effect::Published(model) => self.publish(id, model),
            round::Effect::Failed(failure) => self.fail(id, failure),
        }
    }

    fn publish(&mut self, id: RoundId, model: ModelDigest) -> Vec<Effect> {
        let mut effects = vec![
            Effect::Tell(Note::Published(id, model)),
            Effect::Discard(id),
        ];
        self.next = RoundId {
            round: id.round + 1,
            attempt: 1,
            ..id
        };
        if id.round >= self.rules.rounds {
            self.phase = Phase::Finished;
            effects.extend([Effect::Tell(Note::Changed), Effect::Release]);
        } else {
            self.phase = Phase::Drawing { failures: 0 };
            effects.push(Effect::Draw(self.next));
        }
        effects
    }

    fn fail(&mut self, id: RoundId, failure: Failure) -> Vec<Effect> {
        let failures = match &self.phase {
            Phase::Open { failures, .. } => failures + 1,
            _ => 1,
        };
        self.next = id.next_attempt();
        let mut effects = vec![Effect::Discard(id)];
        if failures >= self.rules.max_attempts {
            let reason = format!(
                "round {} failed {failures} times, lastly: {failure}",
                id.round
            );
            self.phase = Phase::Stopped { reason };
            effects.push(Effect::Tell(Note::RoundFailed(id, failure)));
            effects.push(Effect::Tell(Note::Changed));
        } else {
            self.phase = Phase::Drawing { failures };
            effects.push(Effect::Tell(Note::RoundFailed(id, failure)));
            effects.push(Effect::Draw(self.next));
        }
        effects
    }

    /// Which study this is.
    pub fn id(&self) -> StudyId {
        self.next.study
    }

    /// Where it is.
    pub fn phase(&self) -> &Phase {
        &self.phase
    }

    /// What is fixed for all rounds.
    pub fn rules(&self) -> &Rules {
        &self.rules
    }

    /// The attempt that is open, or will be next.
    pub fn next(&self) -> RoundId {
        self.next
    }

    /// The attempt that is open.
    pub fn round(&self) -> Option<&Round> {
        match &self.phase {
            Phase::Open { round, .. } => Some(round),
            _ => None,
        }
    }

    /// Number of the last version; 0 is the start.
    pub fn version(&self) -> u32 {
        self.next.round - 1
    }

    /// What each site answered.
    pub fn verdicts(&self) -> &BTreeMap<SiteId, Verdict> {
        &self.verdicts
    }

    /// Sites that approved and may act, ascending.
    pub fn approving<'a>(
        &'a self,
        active: &'a BTreeSet<SiteId>,
    ) -> impl Iterator<Item = SiteId> + 'a {
        self.verdicts
            .iter()
            .filter(|(site, verdict)| verdict.approved && active.contains(site))
            .map(|(&site, _)| site)
    }

    /// Its state on the wire.
    pub fn state(&self) -> wire::StudyState {
        match self.phase {
            Phase::AwaitingConsent => wire::StudyState::AwaitingConsent,
            Phase::Drawing { .. } | Phase::Open { .. } => wire::StudyState::Running,
            Phase::Stopped { .. } => wire::StudyState::Stopped,
            Phase::Finished => wire::StudyState::Finished,
        }
    }

    /// Why it is where it is, for people; empty while all goes well.
    pub fn reason(&self) -> String {
        match &self.phase {
            Phase::AwaitingConsent => {
                let approvals = self.verdicts.values().filter(|v| v.approved).count();
                let needed = self.rules.cohort;
                format!("{approvals} sites approve, {needed} active ones are needed")
            }
            Phase::Stopped { reason } => reason.clone(),
            _ => String::new(),
        }
    }
}

/// What an answer is worth telling, the first time it comes.
fn note_of(round: &Round, input: &round::Input) -> Option<Note> {
    match *input {
        round::Input::UpdateStored { site, .. } if !round.has_answer_of(site) => {
            Some(Note::UpdateReceived(round.id(), site))
        }
        round::Input::Declined { site, reason } if !round.has_answer_of(site) => {
            Some(Note::Declined(round.id(), site, reason))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests;

//! Rounds with secure aggregation: the state machine of each attempt, its journal, and what it
//! means for the round.
//!
//! What a machine wants on disk goes into one transaction with what it means for the study; only
//! then is anybody told. If that fails, the machine is thrown away and taken up from its
//! journal. A round follows its machine: when the sum can be opened, or when there will be none.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError},
    time::Duration,
};

use consilium_privacy::secagg::{
    Limits, Spooled, Terms,
    coordinator::{
        Coordinator as Machine, Effect, Failure, Input, Opening, Record, ResumeError, Schedule,
    },
    message::{ToCoordinator, ToSite},
};
use consilium_proto::{
    MemberId, RoundId, RoundSpec, Signed, SiteId, round_spec::RoundMessageError,
    secure_aggregation::NoTerms,
};
use tokio::sync::{Mutex, OwnedMutexGuard};
use tracing::{info, warn};

use super::{DriveError, Driver};
use crate::{
    audit_log::Entry,
    chronicle,
    clock::Timestamp,
    round::{self, DeclineReason, Phase},
    store::{Change, Journal, Store, StudyRecord, Update},
    study,
};

/// Machines kept in memory; those that have ended are taken up from their journal if need be.
const KEPT: usize = 64;

/// Least time for confirming, and again for answering.
const LEAST_WINDOW: Duration = Duration::from_secs(10);

/// Why an attempt with secure aggregation is not moved.
#[derive(Debug, thiserror::Error)]
pub enum SecureError {
    /// The machine does not take it.
    #[error(transparent)]
    Refused(#[from] consilium_privacy::secagg::coordinator::Refusal),
    /// The attempt is over, or was never opened.
    #[error("round {0} is closed: ask for work again")]
    Closed(RoundId),
    /// The round's specification gives no terms.
    #[error(transparent)]
    Terms(#[from] NoTerms),
    /// The stored specification cannot be read.
    #[error(transparent)]
    Spec(#[from] RoundMessageError),
    /// The journal cannot be read back.
    #[error("the journal of round {round} cannot be taken up")]
    Journal {
        /// Which one.
        round: RoundId,
        /// Why.
        source: ResumeError,
    },
    /// A line of the journal is no record.
    #[error("the journal of round {0} holds a line that cannot be read")]
    Line(RoundId),
}

impl SecureError {
    /// Whether the attempt can never go on.
    fn is_lasting(&self) -> bool {
        !matches!(self, Self::Refused(_) | Self::Closed(_))
    }
}

/// When the survivors of an attempt have to have answered.
pub(super) fn end_of(issued_at: Timestamp, deadline: Timestamp) -> Timestamp {
    deadline + window(issued_at, deadline) * 2
}

/// Time for confirming, and again for answering.
fn window(issued_at: Timestamp, deadline: Timestamp) -> Duration {
    (deadline.since(issued_at) / 4).max(LEAST_WINDOW)
}

/// The machines of attempts.
#[derive(Default)]
pub(super) struct Attempts(std::sync::Mutex<HashMap<RoundId, Slot>>);

/// Empty until the machine is taken up, and after its transaction failed.
type Slot = Arc<Mutex<Option<Attempt>>>;
type Held = OwnedMutexGuard<Option<Attempt>>;

struct Attempt {
    machine: Machine,
    terms: Terms,
    spec: RoundSpec,
    /// Lines in the journal.
    lines: u64,
    /// What has to be done to read the sum, once it may be read.
    opening: Option<Box<Opening>>,
    waiting: Waiting,
}

/// How long the phase that a machine is in has lasted.
struct Waiting {
    phase: &'static str,
    since: Timestamp,
    /// When enough sites had answered.
    enough: Option<Timestamp>,
}

impl Attempts {
    fn slot(&self, id: RoundId) -> Slot {
        let mut slots = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if slots.len() >= KEPT {
            slots.retain(|_, slot| {
                let has_ended = |attempt: &Option<Attempt>| {
                    (attempt.as_ref()).is_none_or(|attempt| attempt.machine.has_ended())
                };
                Arc::strong_count(slot) > 1 || slot.try_lock().is_ok_and(|held| !has_ended(&held))
            });
        }
        slots.entry(id).or_default().clone()
    }
}

impl Attempt {
    /// Whether waiting for more sites in this phase has an end: a grace after enough have
    /// answered, and a limit for those two phases that follow the uploads.
    fn is_due(&mut self, now: Timestamp, grace: Duration) -> bool {
        let phase = self.machine.phase();
        if self.waiting.phase != phase {
            self.waiting = Waiting {
                phase,
                since: now,
                enough: None,
            };
        }
        let needed = self.terms.threshold().max(Limits::LEAST.min_cohort);
        if self.machine.answered() >= needed {
            self.waiting.enough.get_or_insert(now);
        }
        let Waiting { since, enough, .. } = self.waiting;
        if self.machine.is_settling() {
            let (issued_at, deadline) = (
                Timestamp(self.spec.issued_at),
                Timestamp(self.spec.deadline),
            );
            return now >= since + window(issued_at, deadline);
        }
        enough.is_some_and(|enough| now >= enough + grace.max(enough.since(since) / 2))
    }
}

/// What a move of a machine asks for, sorted.
#[derive(Default)]
struct Asked {
    lines: Vec<Vec<u8>>,
    entries: Vec<Entry>,
    opening: Option<Box<Opening>>,
}

impl Asked {
    fn of(effects: Vec<Effect>, round: RoundId) -> Self {
        let mut asked = Self::default();
        for effect in effects {
            match effect {
                Effect::Persist(record) => asked.lines.push(record.to_bytes()),
                // Sites ask for what they are to hear.
                Effect::Send { .. } => {}
                Effect::Open(opening) => asked.opening = Some(opening),
                Effect::Blame { holder, dealer } => {
                    let (holder, dealer) = (holder.into(), dealer.into());
                    warn!(%round, site = %holder, %dealer, "a share is not the one that was dealt");
                    asked
                        .entries
                        .push(chronicle::share_refused(round, holder, dealer));
                }
                Effect::Complained(complaint) => {
                    let site: SiteId = complaint.from.into();
                    warn!(%round, %site, violation = complaint.violation, "site complains");
                    asked.entries.push(chronicle::complained(round, &complaint));
                }
                Effect::Failed(failure) => info!(%round, %failure, "secure aggregation failed"),
            }
        }
        asked
    }
}

/// What a site is to hear.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    /// This.
    Message(ToSite),
    /// Nothing yet.
    Wait,
}

impl<S: Store> Driver<S> {
    /// Takes a site's message. The same one again changes nothing.
    ///
    /// # Errors
    /// A message that is not believed, comes out of turn, or could not be stored.
    pub async fn hear(
        &self,
        round: RoundId,
        from: SiteId,
        message: ToCoordinator,
    ) -> Result<(), DriveError> {
        let input = Input::Message {
            from: from.into(),
            message,
        };
        let mut held = self.attempt(round).await?;
        let moved = self.drive(&mut held, round, input, None).await;
        if let Err(DriveError::Secure(SecureError::Refused(refusal))) = &moved {
            warn!(%round, site = %from, %refusal, "message refused");
            self.note(chronicle::message_refused(
                round,
                from,
                &refusal.to_string(),
            ))
            .await?;
        }
        moved
    }

    /// What this site is to hear now.
    ///
    /// # Errors
    /// The attempt is over for this site, or cannot be read.
    pub async fn next_message(&self, round: RoundId, site: SiteId) -> Result<Next, DriveError> {
        let held = self.attempt(round).await?;
        let Some(attempt) = held.as_ref() else {
            return Err(SecureError::Closed(round).into());
        };
        match attempt.machine.outgoing(site.into()) {
            Some(message) => Ok(Next::Message(message)),
            None if attempt.machine.has_ended() => Err(SecureError::Closed(round).into()),
            None => Ok(Next::Wait),
        }
    }

    /// The terms of an attempt, if it waits for this site's upload.
    ///
    /// # Errors
    /// It does not, or it cannot be read.
    pub async fn awaited_upload(&self, round: RoundId, site: SiteId) -> Result<Terms, DriveError> {
        let held = self.attempt(round).await?;
        match held.as_ref() {
            Some(attempt) if attempt.machine.awaits(site.into()) => Ok(attempt.terms.clone()),
            _ => Err(SecureError::Closed(round).into()),
        }
    }

    /// Counts a masked update that was spooled and whose trailer has come.
    ///
    /// # Errors
    /// The attempt does not take it, or the store failed.
    pub async fn accept_masked(
        &self,
        update: Update,
        trailer: Vec<u8>,
        spooled: Spooled,
    ) -> Result<(), DriveError> {
        let (round, site) = (update.round, update.site);
        let receipt = round::Receipt {
            update: update.digest,
            weight: None,
        };
        let answer = Answer {
            actor: Some(site.0),
            input: round::Input::UpdateStored { site, receipt },
            change: Change {
                update: Some(update),
                ..Change::default()
            },
        };
        let input = Input::Uploaded {
            from: site.into(),
            trailer,
            spooled,
        };
        let mut held = self.attempt(round).await?;
        self.drive(&mut held, round, input, Some(answer)).await
    }

    /// Notes that a site does not take part.
    ///
    /// # Errors
    /// The round does not take it, or the store failed.
    pub async fn decline(
        &self,
        round: RoundId,
        site: SiteId,
        reason: DeclineReason,
    ) -> Result<(), DriveError> {
        let input = round::Input::Declined { site, reason };
        let record = self.store.study(round.study).await?;
        let record = record.ok_or(DriveError::Unknown(round.study))?;
        let open = record.study.round().filter(|open| open.id() == round);
        if !open.is_some_and(|open| open.is_secure()) {
            let input = study::Input::Round(round, input);
            let applied = self.apply(round.study, Some(site.0), input, Change::default());
            return applied.await.map(drop);
        }
        let answer = Answer {
            actor: Some(site.0),
            input,
            change: Change::default(),
        };
        let mut held = self.attempt(round).await?;
        self.drive(&mut held, round, Input::Left(site.into()), Some(answer))
            .await
    }

    /// Whether a site that asks for work is still of use to an attempt.
    pub(super) async fn wants(&self, round: RoundId, site: SiteId) -> bool {
        match self.attempt(round).await {
            Ok(held) => (held.as_ref()).is_some_and(|attempt| attempt.machine.awaits(site.into())),
            Err(error) => {
                warn!(%round, %error, "an attempt cannot be taken up");
                false
            }
        }
    }

    /// Lets time act on an attempt.
    pub(super) async fn tick_attempt(&self, round: RoundId) -> Result<(), DriveError> {
        let mut held = match self.attempt(round).await {
            Ok(held) => held,
            Err(DriveError::Secure(error)) if error.is_lasting() => {
                warn!(%round, %error, "an attempt cannot go on");
                let reason = error.to_string();
                return self.tell(round, round::Input::NotOpened { reason }).await;
            }
            Err(error) => return Err(error),
        };
        let now = self.clock.now();
        let Some(attempt) = held.as_mut().filter(|attempt| !attempt.machine.has_ended()) else {
            return self.follow(&held, round).await;
        };
        let input = match attempt.is_due(now, self.grace) && attempt.opening.is_none() {
            true => Input::Close,
            false => Input::Tick,
        };
        self.drive(&mut held, round, input, None).await
    }

    /// Ends an attempt whose study was stopped.
    pub(super) async fn abandon(&self, round: RoundId) -> Result<(), DriveError> {
        let Ok(mut held) = self.attempt(round).await else {
            return Ok(()); // there is nothing to end
        };
        match held.as_ref() {
            Some(attempt) if !attempt.machine.has_ended() => {
                self.drive(&mut held, round, Input::Abandon, None).await
            }
            _ => Ok(()),
        }
    }

    /// What is needed to read the sum; afterwards the machine is told [`Input::Published`] or
    /// [`Input::NotPlausible`] by [`Self::conclude`].
    pub(super) async fn opening(
        &self,
        round: RoundId,
    ) -> Result<Option<(Terms, Box<Opening>)>, DriveError> {
        let mut held = self.attempt(round).await?;
        if held
            .as_ref()
            .is_some_and(|attempt| attempt.opening.is_none())
        {
            // It was taken before by somebody who failed.
            *held = Some(self.take_up(round).await?);
        }
        let taken = held.as_mut().and_then(|attempt| {
            let opening = attempt.opening.take()?;
            Some((attempt.terms.clone(), opening))
        });
        Ok(taken)
    }

    /// Tells machine and study together what came of the sum.
    pub(super) async fn conclude(
        &self,
        round: RoundId,
        input: Input,
        meaning: round::Input,
        change: Change,
    ) -> Result<(), DriveError> {
        let answer = Answer {
            actor: None,
            input: meaning,
            change,
        };
        let mut held = self.attempt(round).await?;
        self.drive(&mut held, round, input, Some(answer)).await
    }

    /// Moves a machine, and stores that together with what it means for the round.
    async fn drive(
        &self,
        held: &mut Held,
        round: RoundId,
        input: Input,
        answer: Option<Answer>,
    ) -> Result<(), DriveError> {
        let Some(attempt) = held.as_mut() else {
            return Err(SecureError::Closed(round).into());
        };
        let now = self.clock.now();
        let effects = attempt.machine.handle(input, now.to_system_time());
        let asked = Asked::of(effects.map_err(SecureError::from)?, round);
        let lines = asked.lines.len() as u64;
        let journal = journal(round, attempt.lines, asked.lines);
        let stored = match answer {
            Some(mut answer) => {
                answer.change.journal = journal;
                answer.change.entries.extend(asked.entries);
                let input = study::Input::Round(round, answer.input);
                let applied = self.apply(round.study, answer.actor, input, answer.change);
                applied.await.map(drop)
            }
            None if journal.is_none() && asked.entries.is_empty() => Ok(()),
            None => {
                let change = Change {
                    at: now,
                    journal,
                    entries: asked.entries,
                    ..Change::default()
                };
                self.store.commit(change).await.map_err(Into::into)
            }
        };
        if stored.is_err() {
            **held = None;
            return stored;
        }
        attempt.lines += lines;
        attempt.opening = asked.opening.or(attempt.opening.take());
        attempt.is_due(now, self.grace); // notes how long the phase has lasted
        if lines > 0 {
            self.moved();
        }
        self.follow(held, round).await
    }

    /// Tells the round what its machine has come to.
    async fn follow(&self, held: &Held, round: RoundId) -> Result<(), DriveError> {
        let Some(attempt) = held.as_ref() else {
            return Ok(());
        };
        let input = match (attempt.machine.failure(), &attempt.opening) {
            // The round was told by whoever stopped it.
            (Some(Failure::Abandoned), _) => return Ok(()),
            (Some(failure), _) => round::Input::NotOpened {
                reason: failure.to_string(),
            },
            (None, Some(opening)) => round::Input::Opened {
                survivors: (opening.survivors().iter())
                    .map(|survivor| survivor.site.into())
                    .collect(),
            },
            (None, None) => return Ok(()),
        };
        self.tell(round, input).await
    }

    /// Tells a round that still waits for it.
    async fn tell(&self, id: RoundId, input: round::Input) -> Result<(), DriveError> {
        let record = self.store.study(id.study).await?;
        let record = record.ok_or(DriveError::Unknown(id.study))?;
        let open = record.study.round().filter(|round| round.id() == id);
        if !open.is_some_and(|round| matches!(round.phase(), Phase::Collecting(_))) {
            return Ok(());
        }
        let input = study::Input::Round(id, input);
        self.apply(id.study, None, input, Change::default())
            .await
            .map(drop)
    }

    /// The machine of an attempt, taken up from its journal if it is not in memory.
    async fn attempt(&self, round: RoundId) -> Result<Held, DriveError> {
        let mut held = self.attempts.slot(round).lock_owned().await;
        if held.is_none() {
            *held = Some(self.take_up(round).await?);
        }
        Ok(held)
    }

    async fn take_up(&self, round: RoundId) -> Result<Attempt, DriveError> {
        let closed = || SecureError::Closed(round);
        let signed = self.store.spec(round).await?.ok_or_else(closed)?;
        let record = self.store.study(round.study).await?.ok_or_else(closed)?;
        let identity = &self.identity;
        let spec = RoundSpec::open(&signed, &identity.public_key()).map_err(SecureError::from)?;
        let Some(secure) = &spec.secure_aggregation else {
            return Err(closed().into());
        };
        let terms = self.terms(&record, &signed, &spec).await?;
        let (issued_at, deadline) = (Timestamp(spec.issued_at), Timestamp(spec.deadline));
        let whole = deadline.since(issued_at);
        let schedule = Schedule {
            keys: (issued_at + whole / 2).to_system_time(),
            shares: (issued_at + whole * 3 / 4).to_system_time(),
            uploads: deadline.to_system_time(),
            confirmations: (deadline + window(issued_at, deadline)).to_system_time(),
            answers: Timestamp(secure.end).to_system_time(),
        };
        let lines = self.store.journal(round).await?;
        let records = (lines.iter())
            .map(|line| Record::from_bytes(line).map_err(|_| SecureError::Line(round)))
            .collect::<Result<Vec<_>, _>>()?;
        let signer = Box::new(identity.clone());
        let resumed = Machine::resume(terms.clone(), schedule, signer, records);
        let (machine, effects) =
            resumed.map_err(|source| SecureError::Journal { round, source })?;
        Ok(Attempt {
            waiting: Waiting {
                phase: machine.phase(),
                since: self.clock.now(),
                enough: None,
            },
            machine,
            terms,
            spec,
            lines: lines.len() as u64,
            opening: Asked::of(effects, round).opening,
        })
    }

    /// A site that was revoked since the draw keeps its key: the attempt goes on or fails by
    /// itself, and the next one is drawn without it.
    async fn terms(
        &self,
        record: &StudyRecord,
        signed: &Signed,
        spec: &RoundSpec,
    ) -> Result<Terms, DriveError> {
        let roster = self.members.refresh().await?;
        let key_of = |site: SiteId| {
            let member = roster.as_ref().and_then(|roster| roster.member(site.0));
            member.map(|member| member.identity_key)
        };
        let (plan, parameters) = (&record.plan, record.layout.parameters());
        let end = (spec.secure_aggregation.as_ref()).map_or(0, |secure| secure.end);
        let deadline = Timestamp(end).to_system_time();
        let terms = spec.terms(signed, plan, parameters, key_of, Limits::LEAST, deadline);
        Ok(terms.map_err(SecureError::from)?)
    }
}

/// What a move of the machine means for the round, and what is stored with it.
struct Answer {
    actor: Option<MemberId>,
    input: round::Input,
    change: Change,
}

fn journal(round: RoundId, first: u64, lines: Vec<Vec<u8>>) -> Option<Journal> {
    (!lines.is_empty()).then_some(Journal {
        round,
        first,
        lines,
    })
}

//! A site's side of one attempt.
//!
//! Each phase holds only what it needs, and moving on wipes the rest. Whatever the coordinator
//! sends out of turn, unsigned or against the rules ends the attempt: the site wipes its secrets
//! and complains. The driver writes [`Effect::Persist`] to disk before it does what follows it. A
//! site is never stored: if the program restarts in mid-attempt, the site has dropped out.

mod answering;
mod dealing;
mod journal;
mod uploading;
mod violation;

use std::{fmt, time::SystemTime};

use self::{
    answering::{Answered, Confirmed, Uploaded},
    dealing::{AwaitingKeys, AwaitingShares},
    uploading::Ready,
};
pub(super) use self::{dealing::dealers_digest, uploading::sign_of};
pub use self::{
    journal::{History, HistoryError, Record},
    uploading::MaskedVector,
    violation::Violation,
};
use super::{
    SiteId,
    context::sha256,
    encoding::Encoded,
    keys::PairSecret,
    message::{Outcome, PairKeys, ToCoordinator, ToSite},
    signature::{Body, Signer},
    terms::Terms,
};
use crate::keystream::{Keystream, MasterSecret, NoRandomness};

/// What happens to a site.
#[derive(Debug)]
pub enum Input {
    /// A message from the coordinator.
    Message(ToSite),
    /// The vector of this attempt; charged before, under `sequence` of the ledger. Encoded for the
    /// same terms.
    Update {
        /// The vector in the clear.
        vector: Encoded,
        /// The ledger's entry that paid for it, if it was charged.
        sequence: Option<u64>,
    },
    /// Time has passed.
    Tick,
}

/// What a site asks for, in this order.
#[derive(Debug)]
pub enum Effect {
    /// Write to the journal and wait until it is on disk.
    Persist(Record),
    /// Send the vector's bytes; its trailer follows.
    Upload(MaskedVector),
    /// Send. Safe to repeat: the same bytes again.
    Send(ToCoordinator),
    /// The attempt is over and gave this version of the model.
    Concluded(Outcome),
}

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    /// The outcome came.
    Concluded,
    /// The deadline passed. What was charged stays charged.
    Late,
    /// The coordinator broke a rule.
    Violated(Violation),
}

/// Why an input is refused.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// It makes no sense at this point. Nothing has changed.
    #[error("a site that is {phase} cannot take {input}")]
    OutOfPhase {
        /// Where the site is.
        phase: &'static str,
        /// What came.
        input: &'static str,
    },
    /// The vector was encoded for another attempt. Nothing has changed.
    #[error("the vector was encoded for another attempt")]
    OtherAttempt,
    /// The coordinator broke a rule: the attempt is over, its secrets are wiped.
    #[error("stopped: {}", .0.violation)]
    Stopped(Box<Stop>),
    /// The attempt was over before.
    #[error("the attempt is over")]
    Over,
}

/// A rule that was broken, and what to send and keep because of it.
#[derive(Debug)]
pub struct Stop {
    /// The rule.
    pub violation: Violation,
    /// For the journal.
    pub record: Record,
    /// To send, and to keep with the evidence inside.
    pub complaint: ToCoordinator,
}

/// Why a site takes no part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// It was not drawn.
    #[error("site {0} is not in the cohort")]
    NotInCohort(SiteId),
    /// The deadline has passed.
    #[error("the attempt's deadline has passed")]
    Late,
    /// Its journal forbids it.
    #[error(transparent)]
    History(#[from] HistoryError),
    /// The system gave no random bytes.
    #[error(transparent)]
    NoRandomness(#[from] NoRandomness),
}

/// Where a site is.
enum Phase {
    AwaitingKeys(Box<AwaitingKeys>),
    AwaitingShares(AwaitingShares),
    Ready(Ready),
    Uploaded(Uploaded),
    Confirmed(Confirmed),
    Answered(Answered),
    Ended(Ending),
}

impl Phase {
    fn name(&self) -> &'static str {
        match self {
            Self::AwaitingKeys(_) => "awaiting keys",
            Self::AwaitingShares(_) => "awaiting shares",
            Self::Ready(_) => "ready to upload",
            Self::Uploaded(_) => "awaiting survivors",
            Self::Confirmed(_) => "awaiting confirmations",
            Self::Answered(_) => "awaiting the outcome",
            Self::Ended(_) => "done",
        }
    }
}

/// A message that was acted on, by its digest, and what was answered.
struct Heard {
    message: [u8; 32],
    answer: Vec<ToCoordinator>,
}

/// Who speaks, in which attempt.
struct Voice {
    terms: Terms,
    me: SiteId,
    signer: Box<dyn Signer>,
}

/// One site in one attempt.
pub struct Site {
    voice: Voice,
    phase: Phase,
    /// At most one for each phase: repeats get the same answer, byte for byte.
    heard: Vec<Heard>,
}

impl Site {
    /// Takes part in an attempt: writes it to the journal and sends a fresh key to each other site
    /// of the cohort. `terms` come from a specification whose signature, roster, model and plan
    /// the caller has verified; `signer` holds the key that the cohort knows for `me`.
    ///
    /// # Errors
    /// A site that was not drawn, a journal that forbids it, no randomness.
    pub fn open(
        terms: Terms,
        me: SiteId,
        signer: Box<dyn Signer>,
        history: &History,
        now: SystemTime,
    ) -> Result<(Self, Vec<Effect>), OpenError> {
        let secrets = (1..terms.members().len())
            .map(|_| PairSecret::random())
            .collect::<Result<_, _>>()?;
        let coins = Keystream::new(MasterSecret::random()?.into_pages());
        Self::open_with(terms, me, signer, history, now, secrets, coins)
    }

    /// As [`open`](Self::open), with this randomness.
    pub(super) fn open_with(
        terms: Terms,
        me: SiteId,
        signer: Box<dyn Signer>,
        history: &History,
        now: SystemTime,
        secrets: Vec<PairSecret>,
        coins: Keystream,
    ) -> Result<(Self, Vec<Effect>), OpenError> {
        if !terms.has(me) {
            return Err(OpenError::NotInCohort(me));
        }
        if now >= terms.deadline() {
            return Err(OpenError::Late);
        }
        history.admits(terms.attempt(), terms.repeats())?;
        let record = Record::Opened {
            context: *terms.context(),
            attempt: terms.attempt(),
        };
        let voice = Voice { terms, me, signer };
        let (awaiting, keys) = AwaitingKeys::open(&voice, secrets, coins)?;
        let keys = ToCoordinator::Keys(PairKeys(keys).to_bytes());
        let site = Self {
            voice,
            phase: Phase::AwaitingKeys(Box::new(awaiting)),
            heard: Vec::new(),
        };
        Ok((site, vec![Effect::Persist(record), Effect::Send(keys)]))
    }

    /// Moves the site. After [`Refusal::Stopped`] it is over and holds no secrets; the other
    /// refusals leave it as it was.
    ///
    /// A message that was acted on before gets the same answer again.
    ///
    /// # Errors
    /// An input that this phase does not take, or a broken rule.
    pub fn handle(&mut self, input: Input, now: SystemTime) -> Result<Vec<Effect>, Refusal> {
        if matches!(self.phase, Phase::Ended(_)) {
            return match input {
                Input::Tick => Ok(vec![]),
                _ => Err(Refusal::Over),
            };
        }
        if now >= self.voice.terms.deadline() {
            let record = self.end(Ending::Late);
            return Ok(vec![Effect::Persist(record)]);
        }
        match input {
            Input::Tick => Ok(vec![]),
            Input::Update { vector, sequence } => self.upload(vector, sequence),
            Input::Message(message) => self.hear(message),
        }
    }

    /// What the attempt fixes.
    pub fn terms(&self) -> &Terms {
        &self.voice.terms
    }

    /// Where the site is, for people.
    pub fn phase(&self) -> &'static str {
        self.phase.name()
    }

    /// Whether it waits for the vector of this attempt.
    pub fn is_ready(&self) -> bool {
        matches!(self.phase, Phase::Ready(_))
    }

    /// Whether it has opened its shares and waits for the outcome.
    pub fn has_answered(&self) -> bool {
        matches!(self.phase, Phase::Answered(_))
    }

    /// How the attempt ended, if it has.
    pub fn ending(&self) -> Option<&Ending> {
        match &self.phase {
            Phase::Ended(ending) => Some(ending),
            _ => None,
        }
    }

    fn upload(&mut self, vector: Encoded, sequence: Option<u64>) -> Result<Vec<Effect>, Refusal> {
        if vector.context() != self.voice.terms.context() {
            return Err(Refusal::OtherAttempt);
        }
        match std::mem::replace(&mut self.phase, Phase::Ended(Ending::Late)) {
            Phase::Ready(ready) => {
                let (uploaded, vector, trailer) = ready.upload(&self.voice, vector);
                let record = Record::Uploaded {
                    context: *self.voice.terms.context(),
                    sequence,
                    upload: *vector.digest(),
                };
                self.phase = Phase::Uploaded(uploaded);
                Ok(vec![
                    Effect::Persist(record),
                    Effect::Upload(vector),
                    Effect::Send(ToCoordinator::Trailer(trailer)),
                ])
            }
            other => {
                let phase = other.name();
                self.phase = other;
                let input = "a vector";
                Err(Refusal::OutOfPhase { phase, input })
            }
        }
    }

    fn hear(&mut self, message: ToSite) -> Result<Vec<Effect>, Refusal> {
        let digest = sha256(&[message.name().as_bytes(), message.bytes()]);
        if let Some(heard) = self.heard.iter().find(|heard| heard.message == digest) {
            return Ok(heard.answer.iter().cloned().map(Effect::Send).collect());
        }
        let evidence = message.bytes().to_vec();
        match self.act(message) {
            Ok(effects) => {
                let answer = (effects.iter())
                    .filter_map(|effect| match effect {
                        Effect::Send(answer) => Some(answer.clone()),
                        _ => None,
                    })
                    .collect();
                let message = digest;
                self.heard.push(Heard { message, answer });
                Ok(effects)
            }
            Err(found) => Err(self.stop(found, evidence)),
        }
    }

    fn act(&mut self, message: ToSite) -> Result<Vec<Effect>, Found> {
        let voice = &self.voice;
        let context = *voice.terms.context();
        let phase = std::mem::replace(&mut self.phase, Phase::Ended(Ending::Late));
        let (next, effects) = match (phase, message) {
            (Phase::AwaitingKeys(awaiting), ToSite::PeerKeys(bytes)) => {
                let (next, shares) = awaiting.deal(voice, &bytes)?;
                let shares = Effect::Send(ToCoordinator::Shares(shares));
                (Phase::AwaitingShares(next), vec![shares])
            }
            (Phase::AwaitingShares(awaiting), ToSite::PeerShares(bytes)) => {
                (Phase::Ready(awaiting.receive(voice, &bytes)?), vec![])
            }
            (Phase::Uploaded(uploaded), ToSite::Survivors(bytes)) => {
                let (next, confirm) = uploaded.confirm(voice, bytes)?;
                let survivors = *next.agreed.digest();
                let effects = vec![
                    Effect::Persist(Record::Confirmed { context, survivors }),
                    Effect::Send(ToCoordinator::Confirm(confirm)),
                ];
                (Phase::Confirmed(next), effects)
            }
            (Phase::Confirmed(confirmed), ToSite::Confirmations(bytes)) => {
                let (next, answer) = confirmed.answer(voice, &bytes)?;
                let effects = vec![
                    Effect::Persist(Record::Answered { context }),
                    Effect::Send(ToCoordinator::Unmask(answer)),
                ];
                (Phase::Answered(next), effects)
            }
            (Phase::Answered(answered), ToSite::Outcome(bytes)) => {
                let outcome = answered.conclude(voice, &bytes)?;
                let concluded = true;
                let effects = vec![
                    Effect::Persist(Record::Ended { context, concluded }),
                    Effect::Concluded(outcome),
                ];
                (Phase::Ended(Ending::Concluded), effects)
            }
            (Phase::Confirmed(confirmed), ToSite::Survivors(bytes)) => {
                return Err(confirmed.agreed.second(voice, &bytes));
            }
            (Phase::Answered(answered), ToSite::Survivors(bytes)) => {
                return Err(answered.agreed.second(voice, &bytes));
            }
            (Phase::Answered(_), ToSite::Confirmations(_)) => {
                return Err(Violation::AskedTwice.into());
            }
            (Phase::Uploaded(_), ToSite::Confirmations(_)) => {
                return Err(Violation::UnmaskBeforeConfirm.into());
            }
            (phase, message) => {
                return Err(Violation::out_of_order(phase.name(), &message).into());
            }
        };
        self.phase = next;
        Ok(effects)
    }

    fn stop(&mut self, found: Found, message: Vec<u8>) -> Refusal {
        let Found { violation, earlier } = found;
        let evidence = earlier.into_iter().chain([message]).collect();
        let complaint = violation.complaint(self.voice.me, evidence);
        let complaint = complaint.sign(self.voice.terms.context(), &*self.voice.signer);
        let record = self.end(Ending::Violated(violation.clone()));
        Refusal::Stopped(Box::new(Stop {
            violation,
            record,
            complaint: ToCoordinator::Complaint(complaint),
        }))
    }

    /// Whatever the phase held is dropped, and so wiped.
    fn end(&mut self, ending: Ending) -> Record {
        let concluded = ending == Ending::Concluded;
        self.phase = Phase::Ended(ending);
        self.heard.clear();
        let context = *self.voice.terms.context();
        Record::Ended { context, concluded }
    }
}

/// A broken rule, with an earlier message that it takes to show it.
struct Found {
    violation: Violation,
    earlier: Option<Vec<u8>>,
}

impl From<Violation> for Found {
    fn from(violation: Violation) -> Self {
        let earlier = None;
        Self { violation, earlier }
    }
}

impl fmt::Debug for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Site({}, {})", self.voice.me, self.phase.name())
    }
}

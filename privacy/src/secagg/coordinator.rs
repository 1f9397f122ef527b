//! The coordinator's side of one attempt.
//!
//! It forwards keys and shares, keeps a list of who is still there, has the survivors agree on one
//! list, and opens what that list decides. The driver writes [`Effect::Persist`] to disk before it
//! does what follows it; [`Coordinator::resume`] replays what was written. Once a list of survivors
//! is on disk an attempt goes on with that list or not at all.
//!
//! A message that is refused changes nothing: its sender counts as silent.

mod closing;
mod collecting;
mod journal;
mod opening;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    time::SystemTime,
};

use self::collecting::{Confirming, Dealers, Keys, Shares, Unmasking};
pub use self::{
    journal::{Record, ResumeError},
    opening::Opening,
};
use super::{
    SiteId,
    context::sha256,
    message::{Complaint, Outcome, ToCoordinator, ToSite},
    signature::{Body, Signer, Unbelieved},
    terms::Terms,
    upload::Spooled,
};

/// Until when each phase waits for sites that are silent. Ascending.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Schedule {
    /// For keys.
    pub keys: SystemTime,
    /// For shares.
    pub shares: SystemTime,
    /// For uploads, so for training.
    pub uploads: SystemTime,
    /// For confirmations.
    pub confirmations: SystemTime,
    /// For the shares that open the sum.
    pub answers: SystemTime,
}

/// What happens to an attempt.
#[derive(Debug, Clone)]
pub enum Input {
    /// A site's message other than a trailer. `from` is who the connection says it is.
    Message {
        /// Whose.
        from: SiteId,
        /// What.
        message: ToCoordinator,
    },
    /// An upload is spooled and its trailer has come.
    Uploaded {
        /// Whose.
        from: SiteId,
        /// The signed trailer.
        trailer: Vec<u8>,
        /// What was spooled.
        spooled: Spooled,
    },
    /// A site is known not to go on: it declined, or cannot be reached.
    Left(SiteId),
    /// Wait no longer for silent sites in this phase.
    Close,
    /// Time has passed.
    Tick,
    /// The sum has moved the model.
    Published {
        /// SHA-256 of the unmasked sum.
        sum: [u8; 32],
        /// The next version.
        model: [u8; 32],
    },
    /// The unmasked sum is not plausible.
    NotPlausible,
    /// The study was stopped.
    Abandon,
}

/// What an attempt asks for, in this order.
#[derive(Debug)]
pub enum Effect {
    /// Append to the attempt's journal and wait until it is on disk.
    Persist(Record),
    /// Have this ready for a site. Safe to repeat; [`Coordinator::outgoing`] gives it again.
    Send {
        /// Whom.
        to: SiteId,
        /// What.
        message: ToSite,
    },
    /// Add the survivors' uploads, take these masks away, move the model; then say
    /// [`Input::Published`].
    Open(Box<Opening>),
    /// A site's share is not the one that was dealt to it. It was left out.
    Blame {
        /// Whose answer.
        holder: SiteId,
        /// Whose share.
        dealer: SiteId,
    },
    /// A site has stopped; for the audit log.
    Complained(Box<Complaint>),
    /// Nothing more: this attempt gave no sum, and nothing was opened beyond what was said.
    Failed(Failure),
}

/// Why an attempt gives no sum.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// Too few sites sent what the phase is for.
    #[error("{found} sites sent {what}, at least {needed} are needed")]
    TooFew {
        /// What they were to send.
        what: &'static str,
        /// Sites that did.
        found: usize,
        /// Sites needed.
        needed: usize,
    },
    /// Two sites contradict each other: one of the two lies, or has a fault. For governance if
    /// it happens again.
    #[error("sites contradict each other: {}", listed(.0))]
    Disputed(Vec<(SiteId, SiteId)>),
    /// A site dealt shares, or an escrow, that do not fit what it committed to: proved by its own
    /// signature.
    #[error("site {0} dealt shares that do not give what it committed to")]
    BadDealer(SiteId),
    /// Too many shares of one dealer were wrong.
    #[error("too few sound shares of site {0} came to open the sum")]
    TooFewShares(SiteId),
    /// The sum is not one that honest sites could give.
    #[error("the unmasked sum is not plausible")]
    NotPlausible,
    /// The study was stopped.
    #[error("the study was stopped")]
    Abandoned,
}

fn listed(pairs: &[(SiteId, SiteId)]) -> String {
    let pairs: Vec<_> = pairs.iter().map(|(a, b)| format!("{a} and {b}")).collect();
    pairs.join(", ")
}

/// Why an input is refused. The attempt is as it was.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The site was not drawn.
    #[error("site {0} is not in the cohort")]
    NotInCohort(SiteId),
    /// Not well formed, not signed by whom it should be, or of another attempt.
    #[error(transparent)]
    Unbelieved(#[from] Unbelieved),
    /// The message names another sender than the connection.
    #[error("site {from} sent a message of site {claimed}")]
    OtherSender {
        /// By the connection.
        from: SiteId,
        /// By the message.
        claimed: SiteId,
    },
    /// The site sent something else for this phase before.
    #[error("site {0} has answered before: the first answer counts")]
    Answered(SiteId),
    /// The input makes no sense at this point, or comes too late.
    #[error("an attempt that is {phase} cannot take {input}")]
    OutOfPhase {
        /// Where it is.
        phase: &'static str,
        /// What came.
        input: &'static str,
    },
    /// Keys or shares for others than the peers of the site.
    #[error("site {0} sent keys or shares for others than its peers")]
    OtherPeers(SiteId),
    /// The trailer speaks of other dealers.
    #[error("the trailer of site {0} speaks of other dealers")]
    OtherDealers(SiteId),
    /// The trailer does not fit what was spooled.
    #[error("the trailer of site {0} does not fit its upload")]
    OtherUpload(SiteId),
    /// A confirmation or an answer for another list of survivors.
    #[error("site {0} speaks of another list of survivors")]
    OtherSurvivors(SiteId),
    /// Other shares than the list of survivors decides.
    #[error("site {0} opens other shares than the survivors decide")]
    OtherShares(SiteId),
}

/// Where an attempt is.
enum Phase {
    Keys(Keys),
    Shares(Shares),
    Uploads {
        dealers: Dealers,
        uploads: BTreeMap<SiteId, [u8; 32]>,
    },
    Confirming(Confirming),
    Unmasking(Unmasking),
    Opened {
        survivors: [u8; 32],
        confirmed: BTreeSet<SiteId>,
    },
    Published {
        outcome: Vec<u8>,
        confirmed: BTreeSet<SiteId>,
    },
    Failed(Failure),
}

impl Phase {
    fn name(&self) -> &'static str {
        match self {
            Self::Keys(_) => "collecting keys",
            Self::Shares(_) => "collecting shares",
            Self::Uploads { .. } => "collecting uploads",
            Self::Confirming(_) => "collecting confirmations",
            Self::Unmasking(_) => "collecting answers",
            Self::Opened { .. } => "summing",
            Self::Published { .. } => "published",
            Self::Failed(_) => "failed",
        }
    }
}

/// One attempt, as the coordinator sees it. It holds no secrets of sites.
pub struct Coordinator {
    terms: Terms,
    signer: Box<dyn Signer>,
    schedule: Schedule,
    phase: Phase,
    /// Digest of what each site sent, by kind: repeats are told from second answers.
    heard: BTreeMap<(SiteId, &'static str), [u8; 32]>,
    /// Sites that will not go on.
    gone: BTreeSet<SiteId>,
}

impl Coordinator {
    /// Opens an attempt.
    pub fn open(terms: Terms, schedule: Schedule, signer: Box<dyn Signer>) -> Self {
        Self {
            terms,
            signer,
            schedule,
            phase: Phase::Keys(Keys::default()),
            heard: BTreeMap::new(),
            gone: BTreeSet::new(),
        }
    }

    /// Moves the attempt, or refuses and leaves it exactly as it was. A repeat of a message
    /// changes nothing.
    ///
    /// # Errors
    /// An input that this phase does not take, or that breaks a rule.
    pub fn handle(&mut self, input: Input, now: SystemTime) -> Result<Vec<Effect>, Refusal> {
        let record = match input {
            Input::Message {
                message: ToCoordinator::Trailer(_),
                ..
            } => return Err(self.out_of_phase("a trailer without its upload")),
            Input::Message { from, message } => Record::Received { from, message },
            Input::Uploaded {
                from,
                trailer,
                spooled,
            } => {
                self.check_spooled(from, &trailer, spooled)?;
                let message = ToCoordinator::Trailer(trailer);
                Record::Received { from, message }
            }
            Input::Left(site) => Record::Left(site),
            Input::Tick => return Ok(self.advance(now)),
            Input::Close if self.is_waiting() => return Ok(self.close()),
            Input::Close => return Err(self.out_of_phase("a close")),
            Input::Published { sum, model } => return self.publish(sum, model),
            Input::NotPlausible | Input::Abandon => {
                if matches!(self.phase, Phase::Published { .. } | Phase::Failed(_)) {
                    return Err(self.out_of_phase("an end"));
                }
                let failure = match input {
                    Input::Abandon => Failure::Abandoned,
                    _ => Failure::NotPlausible,
                };
                let plausible = failure == Failure::Abandoned;
                let record = Effect::Persist(Record::Stopped { plausible });
                return Ok(vec![record, self.fail(failure)]);
            }
        };
        let Some(mut more) = self.receive(&record)? else {
            return Ok(vec![]); // a repeat
        };
        let mut effects = vec![Effect::Persist(record)];
        effects.append(&mut more);
        effects.append(&mut self.advance(now));
        Ok(effects)
    }

    /// Where the attempt is, for people.
    pub fn phase(&self) -> &'static str {
        self.phase.name()
    }

    /// Why the attempt failed, if it has.
    pub fn failure(&self) -> Option<&Failure> {
        match &self.phase {
            Phase::Failed(failure) => Some(failure),
            _ => None,
        }
    }

    /// Acts on what a site sent; `None` for a repeat.
    fn receive(&mut self, record: &Record) -> Result<Option<Vec<Effect>>, Refusal> {
        let (from, message) = match record {
            Record::Left(site) => {
                self.member(*site)?;
                return Ok(self.gone.insert(*site).then(Vec::new));
            }
            Record::Received { from, message } => (*from, message),
            _ => return Ok(None),
        };
        self.member(from)?;
        let key = (from, message.name());
        let digest = sha256(&[message.bytes()]);
        match self.heard.get(&key) {
            Some(heard) if *heard == digest => return Ok(None),
            Some(_) => return Err(Refusal::Answered(from)),
            None => {}
        }
        let effects = match message {
            ToCoordinator::Complaint(bytes) => self.complain(from, bytes)?,
            message => self.collect(from, message)?,
        };
        self.heard.insert(key, digest);
        Ok(Some(effects))
    }

    fn complain(&mut self, from: SiteId, bytes: &[u8]) -> Result<Vec<Effect>, Refusal> {
        let complaint = Complaint::open(bytes, self.terms.context(), |complaint| {
            self.terms.key(complaint.from)
        })?;
        if complaint.from != from {
            let claimed = complaint.from;
            return Err(Refusal::OtherSender { from, claimed });
        }
        self.gone.insert(from);
        let disputed = match (&self.phase, complaint.dealer) {
            (Phase::Uploads { dealers, .. }, Some(dealer)) => {
                dealers.contain(dealer).then_some((dealer, from))
            }
            _ => None,
        };
        let mut effects = vec![Effect::Complained(Box::new(complaint))];
        if let Some(pair) = disputed {
            effects.push(self.fail(Failure::Disputed(vec![pair])));
        }
        Ok(effects)
    }

    fn publish(&mut self, sum: [u8; 32], model: [u8; 32]) -> Result<Vec<Effect>, Refusal> {
        let Phase::Opened { survivors, .. } = self.phase else {
            return Err(self.out_of_phase("an outcome"));
        };
        let outcome = Outcome {
            survivors,
            sum,
            model,
        }
        .sign(self.terms.context(), &*self.signer);
        let mut effects = vec![Effect::Persist(Record::Outcome(outcome.clone()))];
        self.conclude(outcome);
        effects.append(&mut self.sends());
        Ok(effects)
    }

    fn conclude(&mut self, outcome: Vec<u8>) {
        if let Phase::Opened { confirmed, .. } = &mut self.phase {
            let confirmed = std::mem::take(confirmed);
            self.phase = Phase::Published { outcome, confirmed };
        }
    }

    fn fail(&mut self, failure: Failure) -> Effect {
        self.phase = Phase::Failed(failure.clone());
        Effect::Failed(failure)
    }

    fn member(&self, site: SiteId) -> Result<(), Refusal> {
        match self.terms.has(site) {
            true => Ok(()),
            false => Err(Refusal::NotInCohort(site)),
        }
    }

    fn out_of_phase(&self, input: &'static str) -> Refusal {
        let phase = self.phase.name();
        Refusal::OutOfPhase { phase, input }
    }
}

impl fmt::Debug for Coordinator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Coordinator({})", self.phase.name())
    }
}

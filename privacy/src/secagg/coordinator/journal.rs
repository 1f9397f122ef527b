//! What the coordinator writes down of an attempt, and how it takes it up again.

use super::{Coordinator, Effect, Failure, Phase, Refusal, Schedule};
use crate::secagg::{
    SiteId,
    bytes::{Malformed, Reader, Writer},
    message::{Outcome, Survivors, ToCoordinator},
    signature::{Body, Signer},
    terms::Terms,
};

/// One line of an attempt's journal; on disk before what it leads to is sent, and never changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    /// A site's message was accepted.
    Received {
        /// Whose.
        from: SiteId,
        /// What; with a trailer, its upload was spooled.
        message: ToCoordinator,
    },
    /// A site will not go on.
    Left(SiteId),
    /// The phase takes no more.
    Closed,
    /// Uploads take no more, and these survive: the signed list. There is one for an attempt.
    Survivors(Vec<u8>),
    /// The signed outcome.
    Outcome(Vec<u8>),
    /// The attempt was ended from outside: stopped, or its sum was not plausible.
    Stopped {
        /// Whether the sum had nothing to do with it.
        plausible: bool,
    },
}

impl Record {
    /// For the disk.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Writer::default();
        match self {
            Self::Received { from, message } => {
                let kind = match message {
                    ToCoordinator::Keys(_) => 0,
                    ToCoordinator::Shares(_) => 1,
                    ToCoordinator::Trailer(_) => 2,
                    ToCoordinator::Confirm(_) => 3,
                    ToCoordinator::Unmask(_) => 4,
                    ToCoordinator::Complaint(_) => 5,
                };
                out.u8(kind).site(*from).sized(message.bytes());
            }
            Self::Left(site) => {
                out.u8(6).site(*site);
            }
            Self::Closed => {
                out.u8(7);
            }
            Self::Survivors(message) => {
                out.u8(8).sized(message);
            }
            Self::Outcome(message) => {
                out.u8(9).sized(message);
            }
            Self::Stopped { plausible } => {
                out.u8(10).u8((*plausible).into());
            }
        }
        out.finish()
    }

    /// Reads it back.
    ///
    /// # Errors
    /// Bytes that are no such record.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(bytes);
        let tag = reader.u8()?;
        let received: Option<fn(Vec<u8>) -> ToCoordinator> = match tag {
            0 => Some(ToCoordinator::Keys),
            1 => Some(ToCoordinator::Shares),
            2 => Some(ToCoordinator::Trailer),
            3 => Some(ToCoordinator::Confirm),
            4 => Some(ToCoordinator::Unmask),
            5 => Some(ToCoordinator::Complaint),
            _ => None,
        };
        let record = match (received, tag) {
            (Some(message), _) => Self::Received {
                from: reader.site()?,
                message: message(reader.sized()?.to_vec()),
            },
            (None, 6) => Self::Left(reader.site()?),
            (None, 7) => Self::Closed,
            (None, 8) => Self::Survivors(reader.sized()?.to_vec()),
            (None, 9) => Self::Outcome(reader.sized()?.to_vec()),
            (None, 10) => Self::Stopped {
                plausible: match reader.u8()? {
                    0 => false,
                    1 => true,
                    _ => return Err(Malformed),
                },
            },
            _ => return Err(Malformed),
        };
        reader.end()?;
        Ok(record)
    }
}

/// Why an attempt is not taken up again. The next attempt has fresh keys.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ResumeError {
    /// A record cannot have been written where it stands.
    #[error("record {position} of the attempt's journal does not follow those before it")]
    OutOfOrder {
        /// Which, from 0.
        position: usize,
    },
    /// A message was written down that would not be accepted.
    #[error("record {position} of the attempt's journal holds a message that is refused")]
    Refused {
        /// Which, from 0.
        position: usize,
        /// Why.
        source: Refusal,
    },
    /// The list of survivors is not this coordinator's, or not of these uploads.
    #[error("the attempt's journal holds a list of survivors that this coordinator did not sign")]
    OtherSurvivors,
}

impl Coordinator {
    /// Takes an attempt up where its journal ends, and says what is to be done next, some of it
    /// for the second time. With a list of survivors in the journal it goes on with that list.
    ///
    /// # Errors
    /// A journal that this attempt cannot have written.
    pub fn resume(
        terms: Terms,
        schedule: Schedule,
        signer: Box<dyn Signer>,
        journal: impl IntoIterator<Item = Record>,
    ) -> Result<(Self, Vec<Effect>), ResumeError> {
        let mut coordinator = Self::open(terms, schedule, signer);
        let mut opening = None;
        for (position, record) in journal.into_iter().enumerate() {
            let effects = coordinator.replay(position, &record)?;
            opening = (effects.into_iter())
                .find(|effect| matches!(effect, Effect::Open(_)))
                .or(opening);
        }
        let mut effects = coordinator.sends();
        if matches!(coordinator.phase, Phase::Opened { .. }) {
            effects.extend(opening);
        }
        Ok((coordinator, effects))
    }

    fn replay(&mut self, position: usize, record: &Record) -> Result<Vec<Effect>, ResumeError> {
        let out_of_order = ResumeError::OutOfOrder { position };
        match record {
            Record::Received { .. } | Record::Left(_) => match self.receive(record) {
                Ok(Some(effects)) => Ok(effects),
                Ok(None) => Err(out_of_order),
                Err(source) => Err(ResumeError::Refused { position, source }),
            },
            Record::Survivors(message) => {
                let Phase::Uploads { dealers, uploads } = &self.phase else {
                    return Err(out_of_order);
                };
                let coordinator = self.terms.coordinator();
                let list = Survivors::open(message, self.terms.context(), |_| Some(coordinator))
                    .map_err(|_| ResumeError::OtherSurvivors)?;
                let ours = (list.survivors.iter())
                    .map(|survivor| (&survivor.site, &survivor.upload))
                    .eq(uploads);
                if list.peers != dealers.digest || !ours {
                    return Err(ResumeError::OtherSurvivors);
                }
                Ok(self.follow(record))
            }
            Record::Closed if self.is_waiting() => Ok(self.follow(record)),
            Record::Outcome(message) if matches!(self.phase, Phase::Opened { .. }) => {
                let coordinator = self.terms.coordinator();
                Outcome::open(message, self.terms.context(), |_| Some(coordinator))
                    .map_err(|_| out_of_order)?;
                self.conclude(message.clone());
                Ok(vec![])
            }
            Record::Stopped { plausible } => {
                let failure = match plausible {
                    true => Failure::Abandoned,
                    false => Failure::NotPlausible,
                };
                Ok(vec![self.fail(failure)])
            }
            Record::Closed | Record::Outcome(_) => Err(out_of_order),
        }
    }
}

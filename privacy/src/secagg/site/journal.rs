//! What a site writes down of its attempts. Keys and shares are in memory only: a site that
//! restarts in mid-attempt has dropped out of it, and nothing of it can be used twice.

use std::cmp::Ordering;

use crate::secagg::{
    bytes::{Malformed, Reader, Writer},
    context::{Attempt, Context},
    terms::Repeats,
};

/// One line of a site's journal. On disk before what it announces is sent; never changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Record {
    /// The site takes part: keys are about to be sent.
    Opened {
        /// What it is bound to.
        context: Context,
        /// Which attempt.
        attempt: Attempt,
    },
    /// The one vector of the attempt is about to be sent.
    Uploaded {
        /// Which attempt.
        context: Context,
        /// The ledger's entry that paid for it.
        sequence: Option<u64>,
        /// SHA-256 of the upload.
        upload: [u8; 32],
    },
    /// Agreement to a list of survivors is about to be sent.
    Confirmed {
        /// Which attempt.
        context: Context,
        /// The list's digest.
        survivors: [u8; 32],
    },
    /// Shares are about to be sent: the sum may be opened.
    Answered {
        /// Which attempt.
        context: Context,
    },
    /// The attempt is over for this site, and its secrets are wiped.
    Ended {
        /// Which attempt.
        context: Context,
        /// Whether it ended as it should.
        concluded: bool,
    },
}

impl Record {
    /// Which attempt it is about.
    pub fn context(&self) -> &Context {
        match self {
            Self::Opened { context, .. }
            | Self::Uploaded { context, .. }
            | Self::Confirmed { context, .. }
            | Self::Answered { context }
            | Self::Ended { context, .. } => context,
        }
    }

    /// For the disk.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Writer::default();
        let tag = match self {
            Self::Opened { .. } => 0,
            Self::Uploaded { .. } => 1,
            Self::Confirmed { .. } => 2,
            Self::Answered { .. } => 3,
            Self::Ended { .. } => 4,
        };
        out.u8(tag).raw(self.context().as_bytes());
        match self {
            Self::Opened { attempt, .. } => {
                out.raw(&attempt.study)
                    .u32(attempt.round)
                    .u32(attempt.attempt);
            }
            Self::Uploaded {
                sequence, upload, ..
            } => {
                out.u8(sequence.is_some().into())
                    .u64(sequence.unwrap_or(0))
                    .raw(upload);
            }
            Self::Confirmed { survivors, .. } => {
                out.raw(survivors);
            }
            Self::Answered { .. } => {}
            Self::Ended { concluded, .. } => {
                out.u8((*concluded).into());
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
        let context = Context::from_bytes(reader.array()?);
        let flag = |reader: &mut Reader<'_>| match reader.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(Malformed),
        };
        let record = match tag {
            0 => Self::Opened {
                context,
                attempt: Attempt {
                    study: reader.array()?,
                    round: reader.u32()?,
                    attempt: reader.u32()?,
                },
            },
            1 => {
                let (paid, sequence) = (flag(&mut reader)?, reader.u64()?);
                if !paid && sequence != 0 {
                    return Err(Malformed);
                }
                Self::Uploaded {
                    context,
                    sequence: paid.then_some(sequence),
                    upload: reader.array()?,
                }
            }
            2 => Self::Confirmed {
                context,
                survivors: reader.array()?,
            },
            3 => Self::Answered { context },
            4 => Self::Ended {
                context,
                concluded: flag(&mut reader)?,
            },
            _ => return Err(Malformed),
        };
        reader.end()?;
        Ok(record)
    }
}

/// Why a site takes no part in an attempt, by its own journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HistoryError {
    /// The attempt, or a later one, was taken part in before.
    #[error("attempt {attempt} at round {round} does not come after those taken part in before")]
    NotLater {
        /// The round.
        round: u32,
        /// The attempt.
        attempt: u32,
    },
    /// The round may have been opened, and a second sum would tell single updates apart.
    #[error("round {round} may have been opened before, and nothing else protects its updates")]
    Repeated {
        /// The round.
        round: u32,
    },
    /// As many attempts as the round allows.
    #[error("round {round} allows {at_most} attempts")]
    TooManyAttempts {
        /// The round.
        round: u32,
        /// Attempts allowed.
        at_most: u32,
    },
}

/// What a site's journal says of one study.
#[derive(Debug, Clone, Default)]
pub struct History {
    /// The latest attempt, and whether shares for it may have left.
    last: Option<(Attempt, bool)>,
}

impl History {
    /// Reads a journal, in the order in which it was written.
    pub fn of(study: [u8; 16], journal: impl IntoIterator<Item = Record>) -> Self {
        let mut last = None;
        let mut latest_context = None;
        let mut answered_round = None;
        for record in journal {
            match record {
                Record::Opened { context, attempt } if attempt.study == study => {
                    latest_context = Some(context);
                    last = Some(attempt);
                }
                Record::Answered { context } if latest_context == Some(context) => {
                    answered_round = last.map(|attempt: Attempt| attempt.round);
                }
                _ => {}
            }
        }
        Self {
            last: last.map(|attempt| (attempt, answered_round == Some(attempt.round))),
        }
    }

    pub(super) fn admits(&self, next: Attempt, repeats: Repeats) -> Result<(), HistoryError> {
        let Attempt { round, attempt, .. } = next;
        if let Repeats::Charged { at_most } = repeats
            && attempt > at_most
        {
            return Err(HistoryError::TooManyAttempts { round, at_most });
        }
        let Some((last, answered)) = self.last else {
            return Ok(());
        };
        if (round, attempt).cmp(&(last.round, last.attempt)) != Ordering::Greater {
            return Err(HistoryError::NotLater { round, attempt });
        }
        if round == last.round && answered && repeats == Repeats::Never {
            return Err(HistoryError::Repeated { round });
        }
        Ok(())
    }
}

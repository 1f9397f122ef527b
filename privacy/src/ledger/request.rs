//! What can be asked of a ledger.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{
    accountant::{Charge, Delta, Epsilon},
    keystream::Commitment,
};

/// The study of charges that belong to none, such as the count of a data set's patients.
pub const NO_STUDY: [u8; 16] = [0; 16];

/// What a data set, or a study, may spend.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Budget {
    /// Bound on the privacy loss.
    pub epsilon: Epsilon,
    /// Probability with which the bound may fail.
    pub delta: Delta,
}

/// A charge that someone asks for.
#[derive(Debug, Clone, PartialEq)]
pub struct ChargeRequest {
    /// The data set whose records are released upon.
    pub data_set: String,
    /// The study, or [`NO_STUDY`].
    pub study: [u8; 16],
    /// Its round.
    pub round: u32,
    /// The attempt at this round.
    pub attempt: u32,
    /// What is released.
    pub purpose: Purpose,
    /// The mechanism and how often it is used.
    pub charge: Charge,
    /// What the study may spend at this site, by the plan and the site's policy. Meant for a plan
    /// fixed in advance; it is compared with [`Ledger::study_epsilon`](super::Ledger::study_epsilon).
    pub study_cap: Option<Budget>,
    /// What to do if this round was charged before for the same purpose.
    pub repeat: Repeat,
    /// For training: the commitment to the secret that its batches and noise will come from. A
    /// secret pays once in a ledger's life.
    pub key: Option<Commitment>,
}

/// What to do if a round was charged before for the same purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repeat {
    /// Refuse: the update that was paid for is stored and can be sent again at no charge.
    Refuse,
    /// Charge once more: records are drawn again, so it is a new release.
    ChargeAgain,
}

/// What a charge is for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Purpose {
    /// The noisy steps of a round.
    Training,
    /// Another figure, named.
    Release(String),
}

impl fmt::Display for Purpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Training => f.write_str("training"),
            Self::Release(name) => write!(f, "release of {name}"),
        }
    }
}

//! What an auditor finds, and where.

use std::fmt;

use serde::{Serialize, Serializer};

use super::Hex;
use crate::{
    accountant::{Charge, ClippingNorm},
    ledger::{Budget, ChainError},
};

/// Something that is not as it must be.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Finding {
    /// The site whose part of the file it is in, where that is known.
    pub site: Option<String>,
    /// Where.
    pub place: Place,
    /// What.
    pub flaw: Flaw,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(site) = &self.site {
            write!(f, "{site}, ")?;
        }
        write!(f, "{}: {}", self.place, self.flaw)
    }
}

/// A part of an export.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// The file as a whole.
    File,
    /// A line of it, counted from 1, and what stands there.
    Line(usize, String),
    /// An epoch of the roster.
    Roster(usize),
    /// What a site signed about its ledger.
    Statement,
    /// The plan of a study.
    Plan([u8; 16]),
    /// An entry of a ledger.
    Entry(u64),
    /// What a site got from the coordinator for an entry.
    Receipt(u64),
    /// A study at a site.
    Study([u8; 16]),
    /// The ledger as a whole.
    Ledger,
    /// The coordinator's log of ledger heads.
    Log,
    /// A leaf of that log, counted from 0.
    Leaf(u64),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File => f.write_str("the file"),
            Self::Line(line, what) => write!(f, "line {line} ({what})"),
            Self::Roster(epoch) => write!(f, "roster epoch {epoch}"),
            Self::Statement => f.write_str("the site's statement"),
            Self::Plan(study) => write!(f, "plan of study {}", Hex(study)),
            Self::Entry(sequence) => write!(f, "entry {sequence}"),
            Self::Receipt(sequence) => write!(f, "receipt for entry {sequence}"),
            Self::Study(study) => write!(f, "study {}", Hex(study)),
            Self::Ledger => f.write_str("the ledger"),
            Self::Log => f.write_str("the coordinator's log"),
            Self::Leaf(leaf) => write!(f, "leaf {leaf} of the coordinator's log"),
        }
    }
}

impl Serialize for Place {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// What is not as it must be.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Flaw {
    /// A part is not what this version writes, or not believed; the text says why.
    #[error("{0}")]
    Part(String),
    /// The bytes of an entry have another form.
    #[error("these bytes are no ledger entry that this version knows")]
    Unreadable,
    /// The chain of entries is broken.
    #[error(transparent)]
    Chain(#[from] ChainError),
    /// The site signed another end of its ledger.
    #[error(
        "the site signed that its ledger ends at entry {stated}, with a hash that the file's entry \
         {found} does not have"
    )]
    OtherHead {
        /// Where it ends by the statement.
        stated: u64,
        /// Where it ends in the file.
        found: u64,
    },
    /// A charge without a budget before it.
    #[error("data set {data_set} was charged before a budget stood in the ledger")]
    NoBudget {
        /// The data set.
        data_set: String,
    },
    /// The filter would not have granted this.
    #[error(
        "data set {data_set} was charged for {asked} releases, its budget (epsilon {}, delta {}) \
         had {left} left",
        budget.epsilon, budget.delta
    )]
    Overspent {
        /// The data set.
        data_set: String,
        /// What it may spend.
        budget: Budget,
        /// Releases charged.
        asked: u32,
        /// Releases of this kind that were left.
        left: u32,
    },
    /// A charge for nothing.
    #[error("it charges 0 releases, which no ledger grants")]
    Nothing,
    /// The same attempt at a round was charged before for the same purpose.
    #[error("the same attempt at this round was charged for the same purpose by entry {earlier}")]
    ChargedTwice {
        /// The earlier entry.
        earlier: u64,
    },
    /// A secret was used before: the same noise on two sums subtracts out.
    #[error("its secret was used before by entry {earlier}: the same noise protects only once")]
    SecretTwice {
        /// The earlier entry.
        earlier: u64,
    },
    /// Training without a secret that its noise comes from.
    #[error("it charges training and commits to no secret, so nobody can repeat its noise")]
    NoSecret,
    /// Training by a mechanism that is none.
    #[error("it charges training as {0:?}, not as noisy steps")]
    NotTraining(Charge),
    /// An update that no charge paid for.
    #[error("it records an update, but entry {charge} is no charge for training before it")]
    NotPaid {
        /// The charge it names.
        charge: u64,
    },
    /// A charge pays for one update.
    #[error("it records another update for entry {charge}, whose update is entry {earlier}")]
    MadeTwice {
        /// The charge.
        charge: u64,
        /// The entry of the first update.
        earlier: u64,
    },
    /// More steps than were paid for.
    #[error("it took {taken} steps, entry {charge} paid for {paid}")]
    TookMore {
        /// The charge.
        charge: u64,
        /// Steps taken.
        taken: u32,
        /// Steps paid for.
        paid: u32,
    },
    /// A study cost more than it may.
    #[error(
        "up to entry {entry} the study cost epsilon {epsilon:.4} at delta {} by privacy loss \
         distributions, its cap is {}",
        cap.delta, cap.epsilon
    )]
    BeyondCap {
        /// The last entry counted.
        entry: u64,
        /// What it cost.
        epsilon: f64,
        /// What it may cost.
        cap: Budget,
    },
    /// A study whose plan is not there.
    #[error("no sound plan of it stands in the file, so its charges can be compared with nothing")]
    NoPlan,
    /// A charge or an update is not what the plan says.
    #[error("{what} is {found}, the plan asks for {planned}")]
    OffPlan {
        /// Which figure.
        what: &'static str,
        /// What stands in the ledger.
        found: String,
        /// What the plan says.
        planned: String,
    },
    /// An adaptive clipping norm does not go on where it was.
    #[error("the clipping norm is {start}, the study's last update ended at {last}")]
    OtherNorm {
        /// Where the update began.
        start: ClippingNorm,
        /// Where the one before it ended.
        last: ClippingNorm,
    },
    /// The whole plan would cost more than it promises.
    #[error(
        "all rounds of the plan cost epsilon {epsilon:.4} at delta {delta}, it promises {promised}"
    )]
    PlanCostsMore {
        /// What all rounds cost.
        epsilon: f64,
        /// At this δ.
        delta: f64,
        /// What the plan promises.
        promised: f64,
    },
    /// δ is too large for so many patients.
    #[error("delta {delta} is above 1 / (10 x public size {public_size})")]
    LargeDelta {
        /// The plan's δ.
        delta: f64,
        /// The size it was made for.
        public_size: u64,
    },
    /// The newer ledger says something else.
    #[error(
        "the older export holds another entry {entry}: the ledger was forked or rewritten there"
    )]
    Forked {
        /// The first entry that differs.
        entry: u64,
    },
    /// The newer ledger ends before the older one.
    #[error(
        "the older export goes on to entry {older}, this one ends at entry {newer}: the ledger was \
         rolled back"
    )]
    RolledBack {
        /// Where the older one ends.
        older: u64,
        /// Where the newer one ends.
        newer: u64,
    },
    /// A site of the older export is not in the newer one, or with another key.
    #[error("{0}")]
    Replaced(&'static str),
}

impl Serialize for Flaw {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

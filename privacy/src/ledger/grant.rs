//! Permission to release what was charged, once.

use super::Entry;
use crate::{
    accountant::{Charge, NoiseMultiplier, SamplingRate},
    keystream::StepContext,
};

/// Permission to release what was charged. Comes from [`Ledger::reserve`](super::Ledger::reserve)
/// alone, cannot be copied, and is consumed by what releases. Dropped unused, it is lost: the
/// charge stays.
#[derive(Debug)]
pub struct Grant {
    sequence: u64,
    data_set: String,
    study: [u8; 16],
    round: u32,
    attempt: u32,
    charge: Charge,
    /// Hash of its entry.
    entry: [u8; 32],
}

/// The terms of a grant for training.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Training {
    /// Probability that a privacy unit enters a batch.
    pub q: SamplingRate,
    /// Noise deviation over the clipping norm.
    pub sigma: NoiseMultiplier,
    /// Steps paid for.
    pub steps: u32,
}

/// The grant pays for another kind of release.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("ledger entry {sequence} pays for another kind of release, not for training steps")]
pub struct NotTraining {
    sequence: u64,
}

impl Grant {
    pub(super) fn of(entry: &Entry) -> Self {
        Self {
            sequence: entry.sequence,
            data_set: entry.data_set.clone(),
            study: entry.study,
            round: entry.round,
            attempt: entry.attempt,
            charge: entry.charge,
            entry: entry.hash,
        }
    }

    /// Position of its entry in the ledger.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// The data set charged.
    pub fn data_set(&self) -> &str {
        &self.data_set
    }

    /// The study.
    pub fn study(&self) -> [u8; 16] {
        self.study
    }

    /// Its round.
    pub fn round(&self) -> u32 {
        self.round
    }

    /// The attempt at this round.
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// What was charged.
    pub fn charge(&self) -> Charge {
        self.charge
    }

    /// The terms of training.
    ///
    /// # Errors
    /// It pays for something else.
    pub fn training(&self) -> Result<Training, NotTraining> {
        match self.charge {
            Charge::SampledGaussian { q, sigma, steps } => Ok(Training { q, sigma, steps }),
            Charge::Laplace { .. } | Charge::Pure { .. } => Err(NotTraining {
                sequence: self.sequence,
            }),
        }
    }

    pub(crate) fn step_context(&self, step: u32) -> StepContext {
        StepContext {
            study: self.study,
            round: self.round,
            attempt: self.attempt,
            step,
            sequence: self.sequence,
            entry: self.entry,
        }
    }
}

/// A grant for training that was paid for by an in-memory ledger.
#[cfg(test)]
pub(crate) fn test_grant(q: f64, sigma: f64, steps: u32) -> Grant {
    let sound = "within range";
    let charge = Charge::SampledGaussian {
        q: q.try_into().expect(sound),
        sigma: sigma.try_into().expect(sound),
        steps,
    };
    Grant {
        sequence: 1,
        data_set: "test".into(),
        study: [1; 16],
        round: 1,
        attempt: 1,
        charge,
        entry: [0; 32],
    }
}

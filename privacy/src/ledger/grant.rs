//! Permission to release what was charged, once.

use super::{Charged, Entry};
use crate::{
    accountant::{Charge, NoiseMultiplier, SamplingRate},
    keystream::{Commitment, MasterSecret, StepContext},
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
    key: Option<Commitment>,
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

/// Why a grant does not serve.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum GrantError {
    /// The grant pays for another kind of release.
    #[error("ledger entry {sequence} pays for another kind of release, not for training steps")]
    NotTraining {
        /// Position of its entry.
        sequence: u64,
    },
    /// The secret is not the one that the charge committed to.
    #[error("ledger entry {sequence} was charged for another secret")]
    OtherSecret {
        /// Position of its entry.
        sequence: u64,
    },
}

impl Grant {
    pub(super) fn of(entry: &Entry, charged: &Charged) -> Self {
        Self {
            sequence: entry.sequence,
            data_set: charged.data_set.clone(),
            study: charged.study,
            round: charged.round,
            attempt: charged.attempt,
            charge: charged.charge,
            key: charged.key,
            entry: entry.hash,
        }
    }

    /// What an old entry paid for, for a replay.
    pub(crate) fn spent(entry: &Entry) -> Result<Self, GrantError> {
        let sequence = entry.sequence;
        let charged = entry.fact.charged();
        charged
            .map(|charged| Self::of(entry, charged))
            .ok_or(GrantError::NotTraining { sequence })
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

    /// Whether it was charged for training, which alone commits to a secret.
    pub(crate) fn is_for_training(&self) -> bool {
        self.key.is_some()
    }

    /// The terms of training.
    ///
    /// # Errors
    /// It pays for something else.
    pub fn training(&self) -> Result<Training, GrantError> {
        match self.charge {
            Charge::SampledGaussian { q, sigma, steps } => Ok(Training { q, sigma, steps }),
            // No sampler cuts batches, so a charge for cut ones pays for nothing yet.
            Charge::Laplace { .. } | Charge::Pure { .. } | Charge::TruncatedGaussian { .. } => {
                Err(GrantError::NotTraining {
                    sequence: self.sequence,
                })
            }
        }
    }

    /// The terms of training, if `secret` is the one that the charge committed to.
    pub(crate) fn training_with(&self, secret: &MasterSecret) -> Result<Training, GrantError> {
        let training = self.training()?;
        if self.key != Some(secret.commitment()) {
            return Err(GrantError::OtherSecret {
                sequence: self.sequence,
            });
        }
        Ok(training)
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

/// A grant for training with this secret that nobody paid for.
#[cfg(test)]
pub(crate) fn test_grant(q: f64, sigma: f64, steps: u32, secret: &MasterSecret) -> Grant {
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
        key: Some(secret.commitment()),
        entry: [0; 32],
    }
}

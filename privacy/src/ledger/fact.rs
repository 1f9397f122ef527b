//! What an entry says.

use std::num::NonZeroU32;

use serde::Serialize;

use super::{Budget, ChargeRequest, Purpose, entry::as_hex};
use crate::{
    accountant::{Charge, ClippingNorm, Mechanism},
    keystream::Commitment,
};

/// What happened to a data set's budget.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "fact", rename_all = "snake_case")]
pub enum Fact {
    /// The steward set what a data set may spend over all studies. What it has spent stays spent.
    Budget {
        /// The data set.
        data_set: String,
        /// The new budget.
        budget: Budget,
    },
    /// A release was paid for, before it was made.
    Charged(Charged),
    /// An update that an earlier charge paid for was made. It is stored, and leaves only after
    /// this stands in the ledger.
    Made(Made),
}

/// A release that was paid for.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Charged {
    /// The data set charged.
    pub data_set: String,
    /// The study, or [`NO_STUDY`](super::NO_STUDY).
    #[serde(serialize_with = "as_hex")]
    pub study: [u8; 16],
    /// Its round.
    pub round: u32,
    /// The attempt at this round.
    pub attempt: u32,
    /// What is released.
    pub purpose: Purpose,
    /// What it costs.
    pub charge: Charge,
    /// What the study may spend at this site: the plan's promise, or the policy's bound.
    pub study_cap: Option<Budget>,
    /// Commitment to the secret from which sampling and noise are drawn. Training has one.
    pub key: Option<Commitment>,
}

/// An update that was made from noisy steps.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Made {
    /// Position of the charge that paid for it.
    pub charge: u64,
    /// The generator of its noise.
    pub generator: Generator,
    /// Steps taken, at most as many as were charged.
    pub taken: u32,
    /// Largest L2 norm that one record could contribute to a sum (C) where the steps began: the
    /// plan's, or where the study's update before this one ended.
    pub clipping_norm: ClippingNorm,
    /// C after them: another only where clipping is adaptive.
    pub next_clipping_norm: ClippingNorm,
    /// The public number that sums were divided by (B).
    pub batch_size: u32,
    /// Digest of the weights that the round started from.
    #[serde(serialize_with = "as_hex")]
    pub start: [u8; 32],
    /// Digest of the update: [`PrivateUpdate::digest`](crate::step::PrivateUpdate::digest).
    #[serde(serialize_with = "as_hex")]
    pub update: [u8; 32],
}

/// Where random bits come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Generator {
    /// AES-256-GCM over zeros, keyed for each step: [`keystream`](crate::keystream).
    #[serde(rename = "aes-256-gcm")]
    Aes256Gcm,
}

impl Fact {
    /// The release that was paid for, if the entry is a charge.
    pub fn charged(&self) -> Option<&Charged> {
        match self {
            Self::Charged(charged) => Some(charged),
            Self::Budget { .. } | Self::Made(_) => None,
        }
    }

    /// The update that was made, if the entry tells of one.
    pub fn made(&self) -> Option<&Made> {
        match self {
            Self::Made(made) => Some(made),
            Self::Budget { .. } | Self::Charged(_) => None,
        }
    }

    /// Numbers big-endian, floats bit by bit, texts after their length: no two facts have the same
    /// bytes.
    pub(super) fn write(&self, bytes: &mut Vec<u8>) {
        match self {
            Self::Budget { data_set, budget } => {
                bytes.push(0);
                write_text(bytes, data_set);
                write_budget(bytes, budget);
            }
            Self::Charged(charged) => {
                bytes.push(1);
                charged.write(bytes);
            }
            Self::Made(made) => {
                bytes.push(2);
                made.write(bytes);
            }
        }
    }

    /// Reads what [`write`](Self::write) wrote, and gives the bytes after it.
    pub(super) fn read(bytes: &[u8]) -> Option<(Self, &[u8])> {
        let (kind, bytes) = bytes.split_first()?;
        match kind {
            0 => {
                let (data_set, bytes) = read_text(bytes)?;
                let (budget, bytes) = read_budget(bytes)?;
                Some((Self::Budget { data_set, budget }, bytes))
            }
            1 => Charged::read(bytes).map(|(charged, rest)| (Self::Charged(charged), rest)),
            2 => Made::read(bytes).map(|(made, rest)| (Self::Made(made), rest)),
            _ => None,
        }
    }
}

impl Charged {
    pub(super) fn asked(request: &ChargeRequest) -> Self {
        Self {
            data_set: request.data_set.clone(),
            study: request.study,
            round: request.round,
            attempt: request.attempt,
            purpose: request.purpose.clone(),
            charge: request.charge,
            study_cap: request.study_cap,
            key: request.key,
        }
    }

    fn write(&self, bytes: &mut Vec<u8>) {
        write_text(bytes, &self.data_set);
        bytes.extend(self.study);
        bytes.extend(self.round.to_be_bytes());
        bytes.extend(self.attempt.to_be_bytes());
        match &self.purpose {
            Purpose::Training => bytes.push(0),
            Purpose::Release(name) => {
                bytes.push(1);
                write_text(bytes, name);
            }
        }
        write_charge(bytes, &self.charge);
        bytes.push(u8::from(self.study_cap.is_some()));
        if let Some(cap) = &self.study_cap {
            write_budget(bytes, cap);
        }
        bytes.push(u8::from(self.key.is_some()));
        if let Some(key) = &self.key {
            bytes.extend(key.as_bytes());
        }
    }

    fn read(bytes: &[u8]) -> Option<(Self, &[u8])> {
        let (data_set, bytes) = read_text(bytes)?;
        let (study, bytes) = bytes.split_first_chunk()?;
        let (round, bytes) = bytes.split_first_chunk()?;
        let (attempt, bytes) = bytes.split_first_chunk()?;
        let (purpose, bytes) = match bytes.split_first()? {
            (0, bytes) => (Purpose::Training, bytes),
            (1, bytes) => {
                let (name, bytes) = read_text(bytes)?;
                (Purpose::Release(name), bytes)
            }
            _ => return None,
        };
        let (charge, bytes) = read_charge(bytes)?;
        let (study_cap, bytes) = match bytes.split_first()? {
            (0, bytes) => (None, bytes),
            (1, bytes) => read_budget(bytes).map(|(cap, bytes)| (Some(cap), bytes))?,
            _ => return None,
        };
        let (key, bytes) = match bytes.split_first()? {
            (0, bytes) => (None, bytes),
            (1, bytes) => {
                let (key, bytes) = bytes.split_first_chunk()?;
                (Some(Commitment::from(*key)), bytes)
            }
            _ => return None,
        };
        let charged = Self {
            data_set,
            study: *study,
            round: u32::from_be_bytes(*round),
            attempt: u32::from_be_bytes(*attempt),
            purpose,
            charge,
            study_cap,
            key,
        };
        Some((charged, bytes))
    }
}

impl Made {
    fn write(&self, bytes: &mut Vec<u8>) {
        let Generator::Aes256Gcm = self.generator;
        bytes.extend(self.charge.to_be_bytes());
        bytes.push(1);
        bytes.extend(self.taken.to_be_bytes());
        bytes.extend(self.clipping_norm.value().to_be_bytes());
        bytes.extend(self.next_clipping_norm.value().to_be_bytes());
        bytes.extend(self.batch_size.to_be_bytes());
        bytes.extend(self.start);
        bytes.extend(self.update);
    }

    fn read(bytes: &[u8]) -> Option<(Self, &[u8])> {
        let (charge, bytes) = bytes.split_first_chunk()?;
        let (1, bytes) = bytes.split_first()? else {
            return None;
        };
        let (taken, bytes) = bytes.split_first_chunk()?;
        let (clipping_norm, bytes) = bytes.split_first_chunk()?;
        let (next_clipping_norm, bytes) = bytes.split_first_chunk()?;
        let (batch_size, bytes) = bytes.split_first_chunk()?;
        let (start, bytes) = bytes.split_first_chunk()?;
        let (update, bytes) = bytes.split_first_chunk()?;
        let made = Self {
            charge: u64::from_be_bytes(*charge),
            generator: Generator::Aes256Gcm,
            taken: u32::from_be_bytes(*taken),
            clipping_norm: f64::from_be_bytes(*clipping_norm).try_into().ok()?,
            next_clipping_norm: f64::from_be_bytes(*next_clipping_norm).try_into().ok()?,
            batch_size: u32::from_be_bytes(*batch_size),
            start: *start,
            update: *update,
        };
        Some((made, bytes))
    }
}

fn write_text(bytes: &mut Vec<u8>, text: &str) {
    bytes.extend((text.len() as u64).to_be_bytes());
    bytes.extend(text.as_bytes());
}

fn read_text(bytes: &[u8]) -> Option<(String, &[u8])> {
    let (length, bytes) = bytes.split_first_chunk()?;
    let length = usize::try_from(u64::from_be_bytes(*length)).ok()?;
    let (text, bytes) = bytes.split_at_checked(length)?;
    Some((String::from_utf8(text.to_vec()).ok()?, bytes))
}

fn write_budget(bytes: &mut Vec<u8>, budget: &Budget) {
    bytes.extend(budget.epsilon.value().to_be_bytes());
    bytes.extend(budget.delta.value().to_be_bytes());
}

fn read_budget(bytes: &[u8]) -> Option<(Budget, &[u8])> {
    let (epsilon, bytes) = bytes.split_first_chunk()?;
    let (delta, bytes) = bytes.split_first_chunk()?;
    let budget = Budget {
        epsilon: f64::from_be_bytes(*epsilon).try_into().ok()?,
        delta: f64::from_be_bytes(*delta).try_into().ok()?,
    };
    Some((budget, bytes))
}

/// A charge in 21 bytes: kind, two parameters bit by bit, count. The kind that has four parameters
/// is followed by the other two: largest batch and units, four bytes each.
pub(crate) fn write_charge(bytes: &mut Vec<u8>, charge: &Charge) {
    let Mechanism(kind, first, second, sizes) = charge.mechanism();
    bytes.push(kind);
    bytes.extend(first.to_be_bytes());
    bytes.extend(second.to_be_bytes());
    bytes.extend(charge.releases().to_be_bytes());
    if matches!(charge, Charge::TruncatedGaussian { .. }) {
        bytes.extend(sizes.to_be_bytes());
    }
}

/// Reads what [`write_charge`] wrote, and gives the bytes after it.
pub(crate) fn read_charge(bytes: &[u8]) -> Option<(Charge, &[u8])> {
    let (kind, bytes) = bytes.split_first()?;
    let (first, bytes) = bytes.split_first_chunk()?;
    let (second, bytes) = bytes.split_first_chunk()?;
    let (count, mut rest) = bytes.split_first_chunk()?;
    let (first, second) = (f64::from_be_bytes(*first), f64::from_be_bytes(*second));
    let count = u32::from_be_bytes(*count);
    let unused = second.to_bits() == 0;
    let charge = match kind {
        0 => Charge::SampledGaussian {
            q: first.try_into().ok()?,
            sigma: second.try_into().ok()?,
            steps: count,
        },
        1 if unused => Charge::Laplace {
            epsilon: first.try_into().ok()?,
            releases: count,
        },
        2 if unused => Charge::Pure {
            epsilon: first.try_into().ok()?,
            releases: count,
        },
        3 => {
            let (largest_batch, after) = rest.split_first_chunk()?;
            let (units, after) = after.split_first_chunk()?;
            rest = after;
            Charge::TruncatedGaussian {
                q: first.try_into().ok()?,
                sigma: second.try_into().ok()?,
                largest_batch: NonZeroU32::new(u32::from_be_bytes(*largest_batch))?,
                units: NonZeroU32::new(u32::from_be_bytes(*units))?,
                steps: count,
            }
        }
        _ => return None,
    };
    Some((charge, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn charges_lead_back_from_their_bytes_and_old_kinds_keep_their_length() {
        let sound = "within range";
        let (q, sigma) = (0.25.try_into().expect(sound), 1.5.try_into().expect(sound));
        let epsilon = 0.5.try_into().expect(sound);
        let size = |size| NonZeroU32::new(size).expect(sound);
        let charges = [
            (Charge::SampledGaussian { q, sigma, steps: 7 }, 21),
            (
                Charge::Laplace {
                    epsilon,
                    releases: 2,
                },
                21,
            ),
            (
                Charge::Pure {
                    epsilon,
                    releases: 1,
                },
                21,
            ),
            (
                Charge::TruncatedGaussian {
                    q,
                    sigma,
                    largest_batch: size(130),
                    units: size(u32::MAX),
                    steps: 9,
                },
                29,
            ),
        ];
        for (charge, length) in charges {
            let mut bytes = Vec::new();
            write_charge(&mut bytes, &charge);
            assert_eq!(bytes.len(), length, "{charge:?}");
            let (first, second) = (bytes[1..9].to_vec(), bytes[9..17].to_vec());
            let [Some(first), Some(second)] = [first, second].map(|b| b.first_chunk().copied())
            else {
                panic!("eight bytes each");
            };
            let parameters = (f64::from_be_bytes(first), f64::from_be_bytes(second));
            let expected = match charge {
                Charge::Laplace { .. } | Charge::Pure { .. } => (0.5, 0.0),
                _ => (0.25, 1.5),
            };
            assert_eq!(parameters, expected);
            for cut in 0..length {
                assert!(
                    read_charge(&bytes[..cut]).is_none(),
                    "{charge:?} cut at {cut}"
                );
            }
            bytes.push(42);
            assert_eq!(read_charge(&bytes), Some((charge, &[42][..])));
        }
    }

    #[test]
    fn a_batch_or_a_data_set_of_size_0_is_no_charge() {
        let mut bytes = vec![3];
        bytes.extend(0.25_f64.to_be_bytes());
        bytes.extend(1.5_f64.to_be_bytes());
        bytes.extend([0, 0, 0, 1, 0, 0, 0, 5, 0, 0, 0, 9]);
        assert!(read_charge(&bytes).is_some());
        for at in [24, 28] {
            let mut none = bytes.clone();
            none[at] = 0;
            assert!(read_charge(&none).is_none());
        }
    }
}

//! One charge as it stands in the ledger.

use ring::digest::{SHA256, digest};
use serde::{Serialize, Serializer};

use super::{ChargeRequest, Head, Purpose};
use crate::accountant::{Charge, Mechanism};

/// Put before the bytes that are hashed, so that no other hash of ours means the same.
const LABEL: &[u8] = b"consilium/ledger/1\0";

/// One charge. Journals store [`to_bytes`](Self::to_bytes); JSON is for people, and does not keep
/// every bit of a number.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Entry {
    /// Its position, counted from 1 without gaps.
    pub sequence: u64,
    /// When it was written, in seconds since 1970 by this machine's clock.
    pub at: u64,
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
    /// Hash of the entry before; zeros for the first.
    #[serde(serialize_with = "as_hex")]
    pub previous: [u8; 32],
    /// SHA-256 of all of the above.
    #[serde(serialize_with = "as_hex")]
    pub hash: [u8; 32],
}

/// Bytes that are no entry of this version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("these bytes are no ledger entry that this version knows")]
pub struct UnknownForm;

impl Entry {
    pub(super) fn after(head: Head, request: &ChargeRequest, at: u64) -> Self {
        let mut entry = Self {
            sequence: head.sequence + 1,
            at,
            data_set: request.data_set.clone(),
            study: request.study,
            round: request.round,
            attempt: request.attempt,
            purpose: request.purpose.clone(),
            charge: request.charge,
            previous: head.hash,
            hash: [0; 32],
        };
        entry.hash = entry.computed_hash();
        entry
    }

    /// Its position and hash.
    pub fn head(&self) -> Head {
        Head {
            sequence: self.sequence,
            hash: self.hash,
        }
    }

    /// The canonical bytes followed by the hash: what a journal stores.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = self.canonical();
        bytes.extend(self.hash);
        bytes
    }

    /// Reads what [`to_bytes`](Self::to_bytes) wrote. Does not verify:
    /// [`verify`](super::verify) does.
    ///
    /// # Errors
    /// Bytes of another form.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, UnknownForm> {
        Self::read(bytes).ok_or(UnknownForm)
    }

    pub(super) fn computed_hash(&self) -> [u8; 32] {
        let mut bytes = LABEL.to_vec();
        bytes.extend(self.canonical());
        let mut hash = [0; 32];
        hash.copy_from_slice(digest(&SHA256, &bytes).as_ref());
        hash
    }

    /// Every field but the hash: numbers big-endian, texts after their length, so that no two
    /// entries have the same bytes.
    fn canonical(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(160);
        bytes.extend(self.sequence.to_be_bytes());
        bytes.extend(self.at.to_be_bytes());
        write_text(&mut bytes, &self.data_set);
        bytes.extend(self.study);
        bytes.extend(self.round.to_be_bytes());
        bytes.extend(self.attempt.to_be_bytes());
        match &self.purpose {
            Purpose::Training => bytes.push(0),
            Purpose::Release(name) => {
                bytes.push(1);
                write_text(&mut bytes, name);
            }
        }
        bytes.extend(charge_to_bytes(&self.charge));
        bytes.extend(self.previous);
        bytes
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let (sequence, bytes) = bytes.split_first_chunk()?;
        let (at, bytes) = bytes.split_first_chunk()?;
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
        let (charge, bytes) = bytes.split_first_chunk()?;
        let (previous, bytes) = bytes.split_first_chunk()?;
        let hash = bytes.try_into().ok()?;
        Some(Self {
            sequence: u64::from_be_bytes(*sequence),
            at: u64::from_be_bytes(*at),
            data_set,
            study: *study,
            round: u32::from_be_bytes(*round),
            attempt: u32::from_be_bytes(*attempt),
            purpose,
            charge: charge_from_bytes(charge)?,
            previous: *previous,
            hash,
        })
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

/// A charge in 21 bytes: kind, two parameters bit by bit, count.
pub(crate) fn charge_to_bytes(charge: &Charge) -> [u8; 21] {
    let Mechanism(kind, first, second) = charge.mechanism();
    let mut bytes = [0; 21];
    bytes[0] = kind;
    bytes[1..9].copy_from_slice(&first.to_be_bytes());
    bytes[9..17].copy_from_slice(&second.to_be_bytes());
    bytes[17..].copy_from_slice(&charge.releases().to_be_bytes());
    bytes
}

/// Reads what [`charge_to_bytes`] wrote.
pub(crate) fn charge_from_bytes(bytes: &[u8; 21]) -> Option<Charge> {
    let (kind, rest) = bytes.split_first()?;
    let (first, rest) = rest.split_first_chunk()?;
    let (second, rest) = rest.split_first_chunk()?;
    let (first, second) = (f64::from_be_bytes(*first), f64::from_be_bytes(*second));
    let count = u32::from_be_bytes(rest.try_into().ok()?);
    let unused = second.to_bits() == 0;
    Some(match kind {
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
        _ => return None,
    })
}

pub(super) fn as_hex<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&hex::encode(bytes))
}

/// A sound chain of entries.
#[cfg(test)]
pub(super) fn test_chain(length: u64) -> Vec<Entry> {
    let mut entries: Vec<Entry> = Vec::new();
    for i in 0..length {
        let purpose = if i % 2 == 0 {
            Purpose::Training
        } else {
            Purpose::Release("count".into())
        };
        let request = ChargeRequest {
            data_set: "scans".into(),
            study: [i as u8; 16],
            round: i as u32,
            attempt: 1,
            purpose,
            charge: Charge::Pure {
                epsilon: 0.1.try_into().expect("sound"),
                releases: 2,
            },
            study_cap: None,
            repeat: super::Repeat::Refuse,
        };
        let head = entries.last().map_or(Head::START, Entry::head);
        entries.push(Entry::after(head, &request, 1000 + i));
    }
    entries
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_entry_reads_back_the_bytes_it_writes() {
        for entry in test_chain(2) {
            let bytes = entry.to_bytes();
            assert_eq!(Entry::from_bytes(&bytes), Ok(entry));
            for cut in 0..bytes.len() {
                assert!(Entry::from_bytes(&bytes[..cut]).is_err(), "cut at {cut}");
            }
        }
    }

    #[test]
    fn the_canonical_form_is_frozen() {
        assert_eq!(hex::encode(test_chain(2)[1].hash), KNOWN_HASH);
    }

    const KNOWN_HASH: &str = "778f519e9104f2cb678ae5c6b606073af08178a3ef32650b9f6bba59f402c428";

    proptest! {
        #[test]
        fn random_bytes_are_refused_without_panic(
            bytes in prop::collection::vec(any::<u8>(), 0..300),
        ) {
            if let Ok(entry) = Entry::from_bytes(&bytes) {
                prop_assert_eq!(entry.to_bytes(), bytes);
            }
        }
    }
}

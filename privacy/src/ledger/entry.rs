//! One line of the ledger: a fact, linked to the line before and signed.

use ring::digest::{SHA256, digest};
use serde::{Serialize, Serializer};

use super::{Fact, Head, LedgerKey, LedgerPublicKey};

/// Put before the bytes that are hashed, so that no other hash of ours means the same.
const LABEL: &[u8] = b"consilium/ledger/3\0";

/// One line. Journals store [`to_bytes`](Self::to_bytes); JSON is for people, and does not keep
/// every bit of a number.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Entry {
    /// Its position, counted from 1 without gaps.
    pub sequence: u64,
    /// When it was written, in seconds since 1970 by this machine's clock.
    pub at: u64,
    /// What happened.
    #[serde(flatten)]
    pub fact: Fact,
    /// Hash of the entry before; zeros for the first.
    #[serde(serialize_with = "as_hex")]
    pub previous: [u8; 32],
    /// SHA-256 of all of the above.
    #[serde(serialize_with = "as_hex")]
    pub hash: [u8; 32],
    /// The ledger's Ed25519 signature of the hash.
    #[serde(serialize_with = "as_hex")]
    pub signature: [u8; 64],
}

/// Bytes that are no entry of this version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("these bytes are no ledger entry that this version knows")]
pub struct UnknownForm;

impl Entry {
    pub(crate) fn after(head: Head, fact: Fact, at: u64, key: &LedgerKey) -> Self {
        let mut entry = Self {
            sequence: head.sequence + 1,
            at,
            fact,
            previous: head.hash,
            hash: [0; 32],
            signature: [0; 64],
        };
        entry.hash = entry.computed_hash();
        entry.signature = key.sign(&entry.hash);
        entry
    }

    /// Its position and hash.
    pub fn head(&self) -> Head {
        Head {
            sequence: self.sequence,
            hash: self.hash,
        }
    }

    /// Whether this ledger signed it. Says nothing about the content: see
    /// [`verify`](super::verify).
    pub fn is_signed_by(&self, key: &LedgerPublicKey) -> bool {
        key.has_signed(&self.hash, &self.signature)
    }

    /// The canonical bytes, the hash and the signature: what a journal stores.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = self.canonical();
        bytes.extend(self.hash);
        bytes.extend(self.signature);
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

    fn canonical(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(320);
        bytes.extend(self.sequence.to_be_bytes());
        bytes.extend(self.at.to_be_bytes());
        self.fact.write(&mut bytes);
        bytes.extend(self.previous);
        bytes
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let (sequence, bytes) = bytes.split_first_chunk()?;
        let (at, bytes) = bytes.split_first_chunk()?;
        let (fact, bytes) = Fact::read(bytes)?;
        let (previous, bytes) = bytes.split_first_chunk()?;
        let (hash, bytes) = bytes.split_first_chunk()?;
        Some(Self {
            sequence: u64::from_be_bytes(*sequence),
            at: u64::from_be_bytes(*at),
            fact,
            previous: *previous,
            hash: *hash,
            signature: bytes.try_into().ok()?,
        })
    }
}

pub(crate) fn as_hex<S: Serializer>(
    bytes: &impl AsRef<[u8]>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&hex::encode(bytes))
}

/// A sound chain with every kind of fact in it.
#[cfg(test)]
pub(super) fn test_chain(length: u64, key: &LedgerKey) -> Vec<Entry> {
    use super::{Budget, Charged, Generator, Made, Purpose};
    use crate::{accountant::Charge, keystream::Commitment};

    let sound = "within range";
    let budget = Budget {
        epsilon: 8.0.try_into().expect(sound),
        delta: 1e-5.try_into().expect(sound),
    };
    let charged = |i: u64, purpose, with_key: bool| {
        Fact::Charged(Charged {
            data_set: "scans".into(),
            study: [i as u8; 16],
            round: i as u32,
            attempt: 1,
            purpose,
            charge: Charge::Pure {
                epsilon: 0.1.try_into().expect(sound),
                releases: 2,
            },
            study_cap: with_key.then_some(budget),
            key: with_key.then(|| Commitment::from([i as u8; 32])),
        })
    };
    let mut entries: Vec<Entry> = Vec::new();
    for i in 0..length {
        let fact = match i % 4 {
            0 => Fact::Budget {
                data_set: "scans".into(),
                budget,
            },
            1 => charged(i, Purpose::Training, true),
            2 => Fact::Made(Made {
                charge: i,
                generator: Generator::Aes256Gcm,
                taken: 2,
                clipping_norm: 1.0.try_into().expect(sound),
                next_clipping_norm: 0.75.try_into().expect(sound),
                batch_size: 64,
                start: [3; 32],
                update: [4; 32],
            }),
            _ => charged(i, Purpose::Release("count".into()), false),
        };
        let head = entries.last().map_or(Head::START, Entry::head);
        entries.push(Entry::after(head, fact, 1000 + i, key));
    }
    entries
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key() -> LedgerKey {
        LedgerKey::from_seed([7; 32])
    }

    #[test]
    fn an_entry_reads_back_the_bytes_it_writes() {
        for entry in test_chain(4, &key()) {
            let bytes = entry.to_bytes();
            assert_eq!(Entry::from_bytes(&bytes), Ok(entry));
            for cut in 0..bytes.len() {
                assert!(Entry::from_bytes(&bytes[..cut]).is_err(), "cut at {cut}");
            }
        }
    }

    #[test]
    fn only_the_ledgers_own_key_has_signed() {
        let [entry] = test_chain(1, &key()).try_into().expect("one");
        assert!(entry.is_signed_by(&key().public_key()));
        assert!(!entry.is_signed_by(&LedgerKey::from_seed([8; 32]).public_key()));
        assert!(!entry.is_signed_by(&LedgerPublicKey::from([0xFF; 32])));
    }

    #[test]
    fn the_canonical_form_is_frozen() {
        assert_eq!(hex::encode(test_chain(4, &key())[3].hash), KNOWN_HASH);
    }

    const KNOWN_HASH: &str = "778b4a65c90630d9797f5c1dd0c0fda4bac8c21a75e12c817fb7a603f2a8bbfa";

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

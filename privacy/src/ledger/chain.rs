//! The chain that links each entry to the one before.

use serde::Serialize;

use super::{Entry, LedgerPublicKey, entry::as_hex};

/// Position and hash of an entry: whoever knows it can tell whether a ledger still holds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Head {
    /// Position of the entry; 0 before the first.
    pub sequence: u64,
    /// Its hash; zeros before the first.
    #[serde(serialize_with = "as_hex")]
    pub hash: [u8; 32],
}

impl Head {
    /// The head of an empty ledger.
    pub const START: Self = Self {
        sequence: 0,
        hash: [0; 32],
    };
}

/// How a chain of entries is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ChainError {
    /// An entry is missing.
    #[error("entry {expected} is missing, entry {found} stands in its place")]
    Gap {
        /// The position that should come.
        expected: u64,
        /// The position that came.
        found: u64,
    },
    /// All entries may be there, in another order.
    #[error("entry {found} stands where entry {expected} should be: the order was changed")]
    Reordered {
        /// The position that should come.
        expected: u64,
        /// The position that came.
        found: u64,
    },
    /// An entry does not match its own hash.
    #[error("entry {sequence} was changed after it was written")]
    Changed {
        /// Its position.
        sequence: u64,
    },
    /// An entry does not follow from the one before, which was replaced as a whole.
    #[error("entry {sequence} does not follow from the entry before it: that one was replaced")]
    Unlinked {
        /// Its position.
        sequence: u64,
    },
    /// Another key signed an entry, or none.
    #[error("entry {sequence} is not signed by this ledger's key")]
    Unsigned {
        /// Its position.
        sequence: u64,
    },
    /// The journal confirmed an entry and no longer has it.
    #[error("the store lost entry {sequence}, which it had confirmed")]
    Lost {
        /// Its position.
        sequence: u64,
    },
}

/// Verifies that entries are complete, unchanged and in order, and returns the newest one's head.
///
/// Entries cut off at the end leave a shorter chain that verifies: only a head kept elsewhere
/// shows that ([`Ledger::contains`](super::Ledger::contains)).
///
/// # Errors
/// The first thing that is wrong.
pub fn verify(entries: &[Entry]) -> Result<Head, ChainError> {
    let mut head = Head::START;
    for entry in entries {
        let (expected, found) = (head.sequence + 1, entry.sequence);
        if found != expected {
            let elsewhere = entries.iter().any(|other| other.sequence == expected);
            return Err(if elsewhere || found < expected {
                ChainError::Reordered { expected, found }
            } else {
                ChainError::Gap { expected, found }
            });
        }
        if entry.hash != entry.computed_hash() {
            return Err(ChainError::Changed { sequence: found });
        }
        if entry.previous != head.hash {
            return Err(ChainError::Unlinked { sequence: found });
        }
        head = entry.head();
    }
    Ok(head)
}

/// [`verify`], and every signature besides.
///
/// # Errors
/// The first thing that is wrong.
pub fn verify_signed(entries: &[Entry], key: &LedgerPublicKey) -> Result<Head, ChainError> {
    let head = verify(entries)?;
    match entries.iter().find(|entry| !entry.is_signed_by(key)) {
        None => Ok(head),
        Some(&Entry { sequence, .. }) => Err(ChainError::Unsigned { sequence }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::{LedgerKey, entry::test_chain};

    #[test]
    fn a_gap_a_change_another_order_and_a_replacement_have_names() {
        let key = LedgerKey::from_seed([7; 32]);
        let sound = test_chain(4, &key);
        assert_eq!(
            verify_signed(&sound, &key.public_key()),
            Ok(sound[3].head())
        );

        let mut gap = sound.clone();
        gap.remove(1);
        assert_eq!(
            verify(&gap),
            Err(ChainError::Gap {
                expected: 2,
                found: 3
            })
        );

        let mut swapped = sound.clone();
        swapped.swap(1, 2);
        assert_eq!(
            verify(&swapped),
            Err(ChainError::Reordered {
                expected: 2,
                found: 3
            })
        );

        let mut changed = sound.clone();
        changed[1].at += 1;
        assert_eq!(verify(&changed), Err(ChainError::Changed { sequence: 2 }));
        changed[1].hash = changed[1].computed_hash();
        assert_eq!(verify(&changed), Err(ChainError::Unlinked { sequence: 3 }));

        let mut twice = sound.clone();
        twice.insert(1, sound[0].clone());
        assert_eq!(
            verify(&twice),
            Err(ChainError::Reordered {
                expected: 2,
                found: 1
            })
        );
    }
    #[test]
    fn entries_of_another_ledger_are_told_apart() {
        let [ours, theirs] = [7, 8].map(|seed| LedgerKey::from_seed([seed; 32]));
        let mut entries = test_chain(4, &ours);
        entries[2] = test_chain(4, &theirs)[2].clone();
        assert_eq!(verify(&entries), Ok(entries[3].head()));
        assert_eq!(
            verify_signed(&entries, &ours.public_key()),
            Err(ChainError::Unsigned { sequence: 3 })
        );
    }
}

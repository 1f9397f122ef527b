//! The audit log: what happened, in a chain of digests that shows every later change.
//!
//! Each entry's digest covers its fields and the digest before it. An entry is stored in the
//! transaction of the change that it describes: there is no change without its entry, and no entry
//! without its change. Whoever keeps the last digest elsewhere also notices a log cut short.

use consilium_proto::{Digest, MemberId, wire};
use serde_json::Value;

use crate::clock::Timestamp;

/// An entry before it has its place in the chain.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// Who caused it; none for the coordinator itself.
    pub actor: Option<MemberId>,
    /// What happened, in words that stay the same: `update accepted`.
    pub action: &'static str,
    /// The facts; nothing that depends on a patient.
    pub detail: Value,
}

impl Entry {
    /// Something that the coordinator did by itself.
    pub fn by_coordinator(action: &'static str, detail: Value) -> Self {
        Self {
            actor: None,
            action,
            detail,
        }
    }

    /// Something that a member caused.
    pub fn by(actor: MemberId, action: &'static str, detail: Value) -> Self {
        Self {
            actor: Some(actor),
            action,
            detail,
        }
    }
}

/// Why a log is not believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BrokenChain {
    /// An entry is missing or there twice.
    #[error("audit log: entry {found} stands where entry {expected} should be")]
    Sequence {
        /// The number that should come.
        expected: u64,
        /// The number that came.
        found: u64,
    },
    /// An entry was changed, or put in from another log.
    #[error("audit log: entry {sequence} was changed after it was written")]
    Changed {
        /// Which entry.
        sequence: u64,
    },
}

/// Gives an entry its place after `last`.
pub fn link(last: Option<&wire::LogEntry>, at: Timestamp, entry: &Entry) -> wire::LogEntry {
    let mut linked = wire::LogEntry {
        sequence: last.map_or(1, |last| last.sequence + 1),
        at: at.0,
        actor: entry.actor.map_or(0, |actor| actor.0.into()),
        action: entry.action.to_owned(),
        detail: entry.detail.to_string(),
        previous: last.map_or_else(|| vec![0; 32], |last| last.digest.clone()),
        digest: vec![],
    };
    linked.digest = digest(&linked).as_bytes().to_vec();
    linked
}

/// Checks entries that follow each other, from the first entry on or from after `last`.
///
/// # Errors
/// The first entry that is missing, repeated or changed.
pub fn verify(
    last: Option<&wire::LogEntry>,
    entries: impl IntoIterator<Item = wire::LogEntry>,
) -> Result<Option<wire::LogEntry>, BrokenChain> {
    let mut last = last.cloned();
    for entry in entries {
        let expected = last.as_ref().map_or(1, |last| last.sequence + 1);
        if entry.sequence != expected {
            let found = entry.sequence;
            return Err(BrokenChain::Sequence { expected, found });
        }
        let zeros = [0; 32];
        let previous = last.as_ref().map_or(&zeros[..], |last| &last.digest);
        if entry.previous != previous || entry.digest != digest(&entry).as_bytes() {
            let sequence = entry.sequence;
            return Err(BrokenChain::Changed { sequence });
        }
        last = Some(entry);
    }
    Ok(last)
}

/// SHA-256 under `consilium/audit/1` of sequence, time (8 bytes each, big endian), actor (4),
/// action and detail (each after its length in 8 bytes), and the digest before.
fn digest(entry: &wire::LogEntry) -> Digest {
    let length = |text: &str| (text.len() as u64).to_be_bytes();
    Digest::of(
        "consilium/audit/1",
        &[
            &entry.sequence.to_be_bytes(),
            &entry.at.to_be_bytes(),
            &entry.actor.to_be_bytes(),
            &length(&entry.action),
            entry.action.as_bytes(),
            &length(&entry.detail),
            entry.detail.as_bytes(),
            &entry.previous,
        ],
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn log() -> Vec<wire::LogEntry> {
        let mut log: Vec<wire::LogEntry> = vec![];
        for number in 0..4 {
            let entry = Entry::by(MemberId(number), "round opened", json!({ "round": number }));
            log.push(link(
                log.last(),
                Timestamp(1000 + u64::from(number)),
                &entry,
            ));
        }
        log
    }

    #[test]
    fn an_untouched_log_is_believed_whole_and_in_parts() {
        let last = verify(None, log()).expect("our own chain");
        assert_eq!(last, log().pop());
        assert!(verify(Some(&log()[1]), log().split_off(2)).is_ok());
    }

    #[test]
    fn any_changed_field_of_any_entry_is_found() {
        type Change = fn(&mut wire::LogEntry);
        let changes: [Change; 6] = [
            |entry| entry.at += 1,
            |entry| entry.actor += 1,
            |entry| entry.action.push('x'),
            |entry| entry.detail = "{}".into(),
            |entry| entry.previous[0] ^= 1,
            |entry| entry.digest[31] ^= 1,
        ];
        for at in 0..4 {
            for change in changes {
                let mut changed = log();
                change(&mut changed[at]);
                let refused = verify(None, changed).expect_err("a changed entry");
                let sequence = at as u64 + 1;
                assert_eq!(refused, BrokenChain::Changed { sequence });
            }
        }
    }

    #[test]
    fn missing_repeated_and_swapped_entries_are_found() {
        let mut missing = log();
        missing.remove(1);
        assert!(verify(None, missing).is_err());
        let mut repeated = log();
        repeated.insert(1, repeated[0].clone());
        assert!(verify(None, repeated).is_err());
        let mut swapped = log();
        swapped.swap(1, 2);
        assert!(verify(None, swapped).is_err());
    }

    #[test]
    fn an_entry_written_anew_breaks_the_one_after_it() {
        let mut log = log();
        let forged = Entry::by_coordinator("round opened", json!({}));
        log[1] = link(Some(&log[0]), Timestamp(1001), &forged);
        let refused = verify(None, log).expect_err("a forged entry");
        assert_eq!(refused, BrokenChain::Changed { sequence: 3 });
    }
}

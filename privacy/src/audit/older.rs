//! Two exports of one ledger: the older one must be the beginning of the newer.

use super::Flaw;
use crate::ledger::Entry;

/// Where a newer copy of a ledger leaves the older one.
pub fn compare(older: &[Entry], newer: &[Entry]) -> Option<Flaw> {
    let differs = older.iter().zip(newer).find(|(old, new)| old != new);
    if let Some((old, _)) = differs {
        return Some(Flaw::Forked {
            entry: old.sequence,
        });
    }
    (older.len() > newer.len()).then_some(Flaw::RolledBack {
        older: older.len() as u64,
        newer: newer.len() as u64,
    })
}

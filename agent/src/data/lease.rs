//! A small file beside the records that says which ledger they belong to.
//!
//! Budgets are counted by one ledger. Two agents that register the same records would each spend
//! the whole budget; the lease makes the second one notice. It binds the honest: whoever copies
//! records without their lease, or deletes it, is not stopped here.

use std::{
    collections::HashSet,
    fs,
    io::{self, Read as _, Seek as _, Write as _},
    path::{Path, PathBuf},
};

use consilium_privacy::ledger::LedgerPublicKey;
use serde::{Deserialize, Serialize};

use super::{Part, Source};

/// What the file is called, or ends with.
const NAME: &str = ".consilium-lease";

/// Why records are not leased.
#[derive(Debug, thiserror::Error)]
pub enum LeaseError {
    /// Another ledger has them.
    #[error(
        "{} says that the ledger {ledger} has these records. One data set has one ledger, or its \
         budget would be spent twice: train with the agent that holds that ledger, or move that \
         agent's whole folder, ledger and keys, to where you want to train. There is no way to \
         take the records over",
        path.display()
    )]
    Held {
        /// The lease.
        path: PathBuf,
        /// Public key of the ledger.
        ledger: String,
    },
    /// A lease is there and says nothing.
    #[error(
        "{} cannot be read as a lease ({reason}): make it readable, or put it back as it was, so \
         that it is clear whose ledger counts these records",
        path.display()
    )]
    Unreadable {
        /// The lease.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Leases {
    leases: Vec<Lease>,
}

/// Some or all records of a source. Parts of one file may belong to different ledgers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Lease {
    ledger: String,
    part: Option<Part>,
    indexes: Option<Vec<usize>>,
}

impl Lease {
    fn overlaps(&self, other: &Self) -> bool {
        if let (Some(ours), Some(theirs)) = (self.part, other.part)
            && ours != theirs
        {
            return false;
        }
        match (&self.indexes, &other.indexes) {
            (Some(ours), Some(theirs)) => {
                let ours: HashSet<_> = ours.iter().collect();
                theirs.iter().any(|index| ours.contains(index))
            }
            _ => true,
        }
    }
}

/// Writes down that this ledger has the records of a source (with absolute paths). Safe to repeat.
/// Where nothing can be written, says why: the steward has to know that nothing stops a second
/// agent there.
///
/// # Errors
/// Another ledger has some of the records, or a lease cannot be read.
pub(super) fn take(
    source: &Source,
    ledger: &LedgerPublicKey,
) -> Result<Option<String>, LeaseError> {
    let path = beside(source);
    let wanted = wanted(source, ledger);
    let mut options = fs::OpenOptions::new();
    let opened = options
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path);
    let mut file = match opened {
        Ok(file) => file,
        Err(error) => return without_writing(&path, &wanted, &error),
    };
    let failed = |error: io::Error| LeaseError::Unreadable {
        path: path.clone(),
        reason: error.to_string(),
    };
    file.lock().map_err(failed)?;
    let mut bytes = vec![];
    file.read_to_end(&mut bytes).map_err(failed)?;
    let mut leases = read(&path, &bytes)?;
    if is_ours(&path, &leases, &wanted)? {
        return Ok(None);
    }
    leases.leases.push(wanted);
    // Names and numbers: JSON can write all of it.
    let text = serde_json::to_vec(&leases).expect("a lease is representable in JSON");
    let written = file
        .rewind()
        .and_then(|()| file.write_all(&text))
        .and_then(|()| file.sync_all());
    written.map_err(failed)?;
    Ok(None)
}

/// What holds where no lease can be written: one that is there counts all the same.
fn without_writing(
    path: &Path,
    wanted: &Lease,
    error: &io::Error,
) -> Result<Option<String>, LeaseError> {
    let note = format!("{} cannot be written: {error}", path.display());
    match fs::read(path) {
        Ok(bytes) => {
            let is_ours = is_ours(path, &read(path, &bytes)?, wanted)?;
            Ok((!is_ours).then_some(note))
        }
        Err(reason) if path.exists() => Err(LeaseError::Unreadable {
            path: path.to_owned(),
            reason: reason.to_string(),
        }),
        Err(_) => Ok(Some(note)),
    }
}

fn read(path: &Path, bytes: &[u8]) -> Result<Leases, LeaseError> {
    if bytes.is_empty() {
        return Ok(Leases::default());
    }
    serde_json::from_slice(bytes).map_err(|error| LeaseError::Unreadable {
        path: path.to_owned(),
        reason: error.to_string(),
    })
}

/// Whether this very lease is there.
fn is_ours(path: &Path, leases: &Leases, wanted: &Lease) -> Result<bool, LeaseError> {
    let is_other = |lease: &&Lease| lease.ledger != wanted.ledger && lease.overlaps(wanted);
    match leases.leases.iter().find(is_other) {
        Some(other) => Err(LeaseError::Held {
            path: path.to_owned(),
            ledger: other.ledger.clone(),
        }),
        None => Ok(leases.leases.contains(wanted)),
    }
}

fn wanted(source: &Source, ledger: &LedgerPublicKey) -> Lease {
    let (part, indexes) = match source {
        Source::Npz { part, indexes, .. } => (Some(*part), indexes.clone()),
        _ => (None, None),
    };
    Lease {
        ledger: format!("{ledger:?}"),
        part,
        indexes,
    }
}

fn beside(source: &Source) -> PathBuf {
    match source {
        Source::Labelled { images: folder, .. } | Source::ClassFolders { folder } => {
            folder.join(NAME)
        }
        Source::Notes { path, .. } if path.is_dir() => path.join(NAME),
        Source::Npz { file, .. }
        | Source::Table { file, .. }
        | Source::Notes { path: file, .. } => {
            let name = file.file_name().unwrap_or_default().to_string_lossy();
            file.with_file_name(format!(".{name}{NAME}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use consilium_privacy::ledger::LedgerKey;

    use super::*;

    fn ledger(seed: u8) -> LedgerPublicKey {
        LedgerKey::from_seed([seed; 32]).public_key()
    }

    fn npz(folder: &Path, part: Part, indexes: Option<Vec<usize>>) -> Source {
        Source::Npz {
            file: folder.join("scans.npz"),
            part,
            indexes,
        }
    }

    #[test]
    fn parts_of_a_file_may_have_ledgers_of_their_own_and_no_record_two() {
        let folder = tempfile::tempdir().expect("a folder");
        let take = |seed, part, indexes: Option<Vec<usize>>| {
            take(&npz(folder.path(), part, indexes), &ledger(seed)).is_ok()
        };
        assert!(take(1, Part::Train, Some(vec![0, 1])));
        assert!(take(2, Part::Train, Some(vec![2, 3])));
        assert!(take(3, Part::Test, None));
        assert!(take(2, Part::Train, Some(vec![2, 3])), "a repeat");
        assert!(take(2, Part::Train, Some(vec![3, 4])), "more of its own");
        assert!(!take(1, Part::Train, Some(vec![4])));
        assert!(!take(1, Part::Train, None));
        assert!(!take(1, Part::Test, Some(vec![9])));
    }

    #[test]
    fn a_lease_that_says_nothing_is_an_error_and_never_overwritten() {
        let folder = tempfile::tempdir().expect("a folder");
        let (source, path) = (npz(folder.path(), Part::Train, None), ".scans.npz");
        let path = folder.path().join(format!("{path}{NAME}"));
        fs::write(&path, "{").expect("room");
        let refused = take(&source, &ledger(1)).expect_err("half a lease");
        assert!(
            matches!(refused, LeaseError::Unreadable { .. }),
            "{refused}"
        );
        assert_eq!(fs::read(&path).expect("still there"), b"{");
    }
}

//! What may be appended: a pure function of the leaves so far.

use std::collections::BTreeMap;

use consilium_proto::{Digest, LedgerHead, Signed, SiteId};

use super::tree::Tree;

/// The leaves so far, with the newest head of each ledger at hand.
#[derive(Debug, Default)]
pub(super) struct Log {
    pub(super) tree: Tree,
    ledgers: BTreeMap<[u8; 32], Newest>,
    sites: BTreeMap<SiteId, [u8; 32]>,
}

#[derive(Debug)]
struct Newest {
    head: LedgerHead,
    signed: Signed,
    leaf: u64,
}

/// What becomes of a head.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Admission {
    /// It goes on from the last one.
    New,
    /// It is the last one.
    Repeat { leaf: u64 },
}

/// Why a head is refused: it does not continue what was logged before.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fork {
    /// The ledger is behind its last head.
    #[error(
        "the ledger's newest entry is {found}, but its entry {known} was logged before: an older \
         copy was put back, or two agents run on copies of it"
    )]
    Behind {
        /// What was logged.
        known: u64,
        /// What was handed in.
        found: u64,
    },
    /// The ledger has another entry where the last head was.
    #[error(
        "entry {sequence} of the ledger was logged with another hash: an older copy was put back \
         and went on, or two agents run on copies of it"
    )]
    Split {
        /// Its position.
        sequence: u64,
    },
    /// The site has another ledger.
    #[error(
        "this site's ledger is {known}: another one would count its budgets anew. Put the first \
         one back, or ask governance to admit this site anew"
    )]
    OtherLedger {
        /// The ledger that was logged.
        known: Digest,
    },
    /// The ledger is another site's.
    #[error("this ledger is that of site {owner}")]
    OtherSite {
        /// Whose it is.
        owner: SiteId,
    },
}

impl Log {
    /// Whether a head continues what was logged. One ledger has one site and one site one ledger;
    /// it moves on only from a site that is no longer a member.
    pub(super) fn admit(
        &self,
        head: &LedgerHead,
        is_active: impl Fn(SiteId) -> bool,
    ) -> Result<Admission, Fork> {
        if let Some(known) = self.sites.get(&head.site)
            && *known != head.ledger
        {
            let known = Digest::from(*known);
            return Err(Fork::OtherLedger { known });
        }
        let Some(Newest {
            head: last, leaf, ..
        }) = self.ledgers.get(&head.ledger)
        else {
            return Ok(Admission::New);
        };
        let is_same_site = last.site == head.site;
        if !is_same_site && is_active(last.site) {
            return Err(Fork::OtherSite { owner: last.site });
        }
        let (known, found) = (last.sequence, head.sequence);
        if found > known {
            return Ok(Admission::New);
        }
        if found < known {
            return Err(Fork::Behind { known, found });
        }
        match (last.entry_hash == head.entry_hash, is_same_site) {
            (true, true) => Ok(Admission::Repeat { leaf: *leaf }),
            (true, false) => Ok(Admission::New),
            (false, _) => Err(Fork::Split { sequence: known }),
        }
    }

    /// Appends a leaf that is stored.
    pub(super) fn take(&mut self, head: LedgerHead, signed: Signed) {
        let leaf = self.tree.size();
        self.tree.push(&signed.to_bytes());
        self.sites.insert(head.site, head.ledger);
        self.ledgers
            .insert(head.ledger, Newest { head, signed, leaf });
    }

    /// The newest head of a site's ledger, as the site signed it.
    pub(super) fn newest(&self, site: SiteId) -> Option<&Signed> {
        let ledger = self.sites.get(&site)?;
        let newest = self.ledgers.get(ledger)?;
        (newest.head.site == site).then_some(&newest.signed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{signer, site};

    fn head(member: u16, ledger: u8, sequence: u64) -> LedgerHead {
        LedgerHead {
            site: site(member),
            ledger: [ledger; 32],
            sequence,
            entry_hash: Digest::plain(&sequence.to_be_bytes()),
        }
    }

    fn log() -> Log {
        let mut log = Log::default();
        for head in [head(1, 1, 3), head(2, 2, 9), head(1, 1, 5)] {
            assert_eq!(log.admit(&head, |_| true), Ok(Admission::New));
            log.take(head, head.sign(&signer()));
        }
        log
    }

    #[test]
    fn a_ledger_only_goes_on_and_repeats_its_last_head() {
        let log = log();
        let admit = |head| log.admit(&head, |_| true);
        assert_eq!(admit(head(1, 1, 6)), Ok(Admission::New));
        assert_eq!(admit(head(1, 1, 5)), Ok(Admission::Repeat { leaf: 2 }));
        let behind = Fork::Behind { known: 5, found: 3 };
        assert_eq!(admit(head(1, 1, 3)), Err(behind));
        let mut other = head(1, 1, 5);
        other.entry_hash = Digest::plain(b"other");
        assert_eq!(admit(other), Err(Fork::Split { sequence: 5 }));
    }

    #[test]
    fn a_site_has_one_ledger_and_a_ledger_one_site() {
        let log = log();
        let refused = log.admit(&head(1, 7, 1), |_| true);
        let known = Digest::from([1; 32]);
        assert_eq!(refused, Err(Fork::OtherLedger { known }));
        let refused = log.admit(&head(3, 1, 6), |_| true);
        assert_eq!(refused, Err(Fork::OtherSite { owner: site(1) }));
    }

    #[test]
    fn a_ledger_moves_on_from_a_site_that_was_revoked_and_never_starts_again() {
        let mut log = log();
        let is_active = |member| member != site(1);
        let behind = log.admit(&head(3, 1, 4), is_active);
        assert_eq!(behind, Err(Fork::Behind { known: 5, found: 4 }));
        let moved = head(3, 1, 5);
        assert_eq!(log.admit(&moved, is_active), Ok(Admission::New));
        log.take(moved, moved.sign(&signer()));
        assert!(log.newest(site(3)).is_some());
        assert!(log.newest(site(1)).is_none());
    }
}

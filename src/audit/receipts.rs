//! What receipts show: that a ledger was already so when the coordinator logged its head, and that
//! the coordinator tells everybody one history.

use std::{collections::BTreeMap, num::NonZero, thread};

use consilium_privacy::{
    audit::{Finding, Flaw, Place, Receipt as Kept, SiteStatement},
    ledger::Entry,
};
use consilium_proto::{Member, PublicKey, Receipt, Role, Roster, Signed, TreeHead};

/// A head of the coordinator's log that a site kept.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    /// The site.
    pub(super) site: String,
    /// The entry whose receipt it is in.
    pub(super) entry: u64,
    /// Who signed it.
    pub(super) coordinator: PublicKey,
    /// What it says.
    pub(super) tree: TreeHead,
}

/// A site whose statement is believed, and its ledger.
pub(super) struct Owner<'a> {
    pub(super) roster: &'a Roster,
    pub(super) member: &'a Member,
    pub(super) statement: &'a SiteStatement,
    pub(super) entries: &'a [Entry],
}

impl Owner<'_> {
    /// Looks into the receipts of this site: the heads they hold, and what is wrong.
    pub(super) fn look(&self, receipts: &[Kept]) -> (Vec<Seen>, Vec<Finding>) {
        let (mut seen, mut findings) = (Vec::new(), Vec::new());
        let mut before: Option<Signed> = None;
        for (kept, judged) in receipts.iter().zip(self.judge(receipts)) {
            let judged = judged.and_then(|(receipt, tree)| {
                let follows = receipt.earlier == before;
                before = Some(receipt.tree_head.clone());
                match follows {
                    true => Ok((receipt, tree)),
                    false => Err("it does not go on from the receipt before it".to_owned()),
                }
            });
            let site = self.member.name.to_string();
            match judged {
                Ok((receipt, tree)) => seen.push(Seen {
                    site,
                    entry: kept.sequence,
                    coordinator: *receipt.tree_head.signer(),
                    tree,
                }),
                Err(reason) => findings.push(Finding {
                    site: Some(site),
                    place: Place::Receipt(kept.sequence),
                    flaw: Flaw::Part(reason),
                }),
            }
        }
        (seen, findings)
    }

    /// Each by itself, on all cores: three signatures are most of the work.
    fn judge(&self, receipts: &[Kept]) -> Vec<Result<(Receipt, TreeHead), String>> {
        let workers = thread::available_parallelism().map_or(1, NonZero::get);
        let part = receipts.len().div_ceil(workers).max(1);
        thread::scope(|scope| {
            let parts: Vec<_> = receipts
                .chunks(part)
                .map(|part| scope.spawn(|| part.iter().map(|kept| self.judge_one(kept)).collect()))
                .collect();
            // A panic of a worker goes on in the caller, as it would on one thread.
            let judged = parts.into_iter().map(|part| -> Vec<_> {
                part.join()
                    .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            });
            judged.flatten().collect()
        })
    }

    fn judge_one(&self, kept: &Kept) -> Result<(Receipt, TreeHead), String> {
        let bytes = &kept.bytes.0;
        let receipt = Receipt::from_bytes(bytes).map_err(|error| error.to_string())?;
        if receipt.to_bytes() != *bytes {
            return Err("it is written in another form".to_owned());
        }
        let coordinator = coordinator(self.roster, receipt.tree_head.signer())?;
        let verified = receipt
            .verify(&coordinator)
            .map_err(|error| error.to_string())?;
        let head = verified.head;
        if verified.site_key != self.member.identity_key
            || self.member.site() != Some(head.site)
            || head.ledger != self.statement.ledger_key.0
        {
            return Err("it is for the head of another ledger".to_owned());
        }
        if head.sequence != kept.sequence {
            return Err(format!("it is for entry {}", head.sequence));
        }
        judge_head(self.entries, head.sequence, head.entry_hash.as_bytes())?;
        Ok((receipt, verified.tree_head))
    }
}

/// Whether a head that was logged is that of an entry in the file.
pub(super) fn judge_head(entries: &[Entry], sequence: u64, hash: &[u8; 32]) -> Result<(), String> {
    let place = usize::try_from(sequence)
        .ok()
        .and_then(|at| at.checked_sub(1));
    let entry = place.and_then(|place| entries.get(place));
    match entry.filter(|entry| entry.sequence == sequence) {
        Some(entry) if entry.hash == *hash => Ok(()),
        Some(_) => Err(format!(
            "another entry {sequence} was logged: the ledger was forked or rewritten since"
        )),
        None => Err(format!(
            "entry {sequence} was logged and is not in the file"
        )),
    }
}

/// The key, if a coordinator of the roster signs with it.
pub(super) fn coordinator(roster: &Roster, signer: &PublicKey) -> Result<PublicKey, String> {
    roster
        .by_identity_key(signer)
        .filter(|member| member.role == Role::Coordinator)
        .map(|member| member.identity_key)
        .ok_or_else(|| "no coordinator of the roster signed its head of the log".to_owned())
}

/// Heads of logs of one size by one coordinator must be of one log.
pub(super) fn split_views(seen: &[Seen]) -> Vec<Finding> {
    let mut known: BTreeMap<(PublicKey, u64), &Seen> = BTreeMap::new();
    let mut findings = Vec::new();
    for seen in seen {
        let first = *known
            .entry((seen.coordinator, seen.tree.size))
            .or_insert(seen);
        if first.tree.root != seen.tree.root {
            let text = format!(
                "the coordinator tells two histories: its log of {} leaves is another one than in \
                 the receipt of {} for entry {}",
                seen.tree.size, first.site, first.entry
            );
            findings.push(Finding {
                site: Some(seen.site.clone()),
                place: Place::Receipt(seen.entry),
                flaw: Flaw::Part(text),
            });
        }
    }
    findings
}

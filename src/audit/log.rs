//! The coordinator's log of ledger heads as a file, and what it shows of an export.
//!
//! ```text
//! {"transparency_log":1}
//! {"tree_head":"…"}          as the coordinator signed it
//! {"leaf":"…"}               the leaves from 0: heads of ledgers as sites signed them
//! ```
//!
//! Receipts show what one site was told. The log shows what was logged of all sites, also of one
//! that put back an older copy of its folder with the receipts in it.

use std::collections::{BTreeMap, HashMap, HashSet};

use anyhow::{Context as _, Result};
use consilium_agent::membership::Membership;
use consilium_privacy::audit::{Finding, Flaw, Hex, Place};
use consilium_proto::{
    Digest, ErrorCode, LedgerHead, Roster, Signed, TreeHead,
    tree::roots,
    wire::{self, audit_client::AuditClient},
};
use serde::{Deserialize, Serialize};

use super::{
    Verdict,
    receipts::{coordinator, judge_head},
    signed,
};
use crate::failure::{refuse, refused_call};

/// The form that this version writes.
const VERSION: u32 = 1;

/// The coordinator's log as it was at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransparencyLog {
    /// Its head, signed by the coordinator.
    pub tree_head: Signed,
    /// Its leaves: heads of ledgers, signed by sites.
    pub leaves: Vec<Signed>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum Line {
    TransparencyLog(u32),
    TreeHead(Hex<Vec<u8>>),
    Leaf(Hex<Vec<u8>>),
}

impl TransparencyLog {
    /// Asks the coordinator for all of it, as an auditor or operator may.
    ///
    /// # Errors
    /// No answer, or a log that does not fit its own head or the roster.
    pub async fn fetch(membership: &Membership) -> Result<Self> {
        let channel = membership.connect().await?;
        let roster = membership.refresh_roster(channel.clone()).await?;
        let mut client = AuditClient::new(channel);
        let shown = client.tree_head(wire::Empty {}).await;
        let tree_head = Signed::try_from(shown.map_err(refused_call)?.into_inner())?;
        let size = open(&tree_head, &roster).map_or(0, |head| head.size);
        let request = wire::LeavesRequest { from_leaf: 0 };
        let stream = client.leaves(request).await.map_err(refused_call)?;
        let (mut stream, mut leaves) = (stream.into_inner(), Vec::new());
        // It may have grown since its head was signed.
        while (leaves.len() as u64) < size
            && let Some(leaf) = stream.message().await.map_err(refused_call)?
        {
            let head = leaf.head.context("a leaf of the log is empty")?;
            leaves.push(Signed::try_from(head)?);
        }
        let log = Self { tree_head, leaves };
        match log.believe(&roster) {
            Ok(_) => Ok(log),
            Err(reason) => refuse(
                ErrorCode::Denied,
                format!("the coordinator shows a log that is not believed: {reason}"),
            ),
        }
    }

    /// The file.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut lines = vec![
            Line::TransparencyLog(VERSION),
            Line::TreeHead(Hex(self.tree_head.to_bytes())),
        ];
        let leaves = self.leaves.iter();
        lines.extend(leaves.map(|leaf| Line::Leaf(Hex(leaf.to_bytes()))));
        let mut bytes = Vec::new();
        for line in &lines {
            // Numbers and digits: JSON can write all of it.
            bytes.extend(serde_json::to_vec(line).expect("a line is representable in JSON"));
            bytes.push(b'\n');
        }
        bytes
    }

    /// Reads lines as [`to_bytes`](Self::to_bytes) writes them, and no others.
    ///
    /// # Errors
    /// The first line in another form.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, String> {
        let bad = |line: usize, reason: &str| format!("line {line} is {reason}");
        let (mut tree_head, mut leaves) = (None, Vec::new());
        for (number, raw) in (1..).zip(bytes.split_inclusive(|&byte| byte == b'\n')) {
            let text = raw.strip_suffix(b"\n");
            let text = text.ok_or_else(|| bad(number, "cut off"))?;
            let line: Line =
                serde_json::from_slice(text).map_err(|_| bad(number, "not one of its lines"))?;
            if serde_json::to_vec(&line).is_ok_and(|again| again != text) {
                return Err(bad(number, "written in another form"));
            }
            let read = |bytes: &[u8]| signed(bytes).map_err(|reason| bad(number, &reason));
            match (number, line) {
                (1, Line::TransparencyLog(VERSION)) => {}
                (2, Line::TreeHead(Hex(bytes))) => tree_head = Some(read(&bytes)?),
                (3.., Line::Leaf(Hex(bytes))) => leaves.push(read(&bytes)?),
                _ => return Err(bad(number, "a line that does not belong there")),
            }
        }
        let tree_head = tree_head.ok_or_else(|| bad(2, "cut off"))?;
        Ok(Self { tree_head, leaves })
    }

    /// Whether it begins with an older one.
    pub fn begins_with(&self, older: &Self) -> bool {
        self.leaves.starts_with(&older.leaves)
    }

    /// Its head and the roots of all its beginnings, if the head is a coordinator's and its own.
    fn believe(&self, roster: &Roster) -> Result<(TreeHead, Vec<Digest>), String> {
        let head = open(&self.tree_head, roster)?;
        let leaves = self.leaves.iter().map(Signed::to_bytes);
        let roots = roots(leaves);
        let size = self.leaves.len() as u64;
        match head.size == size && roots.last() == Some(&head.root) {
            true => Ok((head, roots)),
            false => Err(format!(
                "its {size} leaves are not the {} that its head was signed for",
                head.size
            )),
        }
    }
}

fn open(tree_head: &Signed, roster: &Roster) -> Result<TreeHead, String> {
    let coordinator = coordinator(roster, tree_head.signer())?;
    TreeHead::open(tree_head, &coordinator).map_err(|error| error.to_string())
}

impl Verdict {
    /// Compares what was found with the coordinator's log.
    pub fn witness(&mut self, bytes: &[u8]) {
        let Some(roster) = self.believed.clone() else {
            return; // without a roster nobody is known, which is a finding already
        };
        let log = TransparencyLog::from_bytes(bytes);
        let believed = log.and_then(|log| Ok((log.believe(&roster)?, log)));
        let ((head, roots), log) = match believed {
            Ok(believed) => believed,
            Err(reason) => return self.find(None, Place::Log, reason),
        };
        let mut findings = Vec::new();
        for seen in &self.seen {
            if seen.coordinator != *log.tree_head.signer() {
                continue;
            }
            let text = match roots.get(usize::try_from(seen.tree.size).unwrap_or(usize::MAX)) {
                Some(root) if *root == seen.tree.root => continue,
                Some(_) => "the coordinator tells two histories: its log is another one",
                None if seen.tree.at <= head.at => {
                    "the coordinator took leaves back: its log was longer before"
                }
                None => continue,
            };
            findings.push(Finding {
                site: Some(seen.site.clone()),
                place: Place::Receipt(seen.entry),
                flaw: Flaw::Part(text.to_owned()),
            });
        }
        findings.extend(self.compare_leaves(&log, &head));
        self.findings.extend(findings);
        self.log = Some(head);
    }

    /// What was logged of a site must be in its ledger, unless it was logged after the export.
    fn compare_leaves(&mut self, log: &TransparencyLog, head: &TreeHead) -> Vec<Finding> {
        let (mut findings, mut told) = (Vec::new(), HashSet::new());
        // How far the log had come at each site's newest receipt: what stands before that was known.
        let mut known: HashMap<&str, u64> = HashMap::new();
        for seen in &self.seen {
            let size = known.entry(&seen.site).or_default();
            *size = seen.tree.size.max(*size);
        }
        let mut later = BTreeMap::new();
        for (number, leaf) in (0..).zip(&log.leaves) {
            let signer = leaf.signer();
            let mut sites = self.sites.iter();
            let Some(site) = sites.find(|site| site.member.identity_key == *signer) else {
                continue;
            };
            let name = site.member.name.to_string();
            let newest = site.entries.last().map_or(0, |entry| entry.sequence);
            let judged = LedgerHead::open(leaf, signer)
                .map_err(|error| error.to_string())
                .and_then(|logged| {
                    if logged.ledger != site.statement.ledger_key.0 {
                        return Err("another ledger of this site was logged".to_owned());
                    }
                    let is_later = head.at / 1000 > site.statement.at;
                    let known = known.get(name.as_str()).copied().unwrap_or(0);
                    if logged.sequence > newest && number >= known && is_later {
                        return Ok(Some(logged.sequence));
                    }
                    let hash = logged.entry_hash;
                    judge_head(&site.entries, logged.sequence, hash.as_bytes()).map(|()| None)
                });
            match judged {
                Ok(None) => {}
                Ok(Some(logged)) => {
                    later.insert(name, (newest, logged));
                }
                // One finding a site: what follows a fork differs all along.
                Err(reason) if told.insert(name.clone()) => findings.push(Finding {
                    site: Some(name),
                    place: Place::Leaf(number),
                    flaw: Flaw::Part(reason),
                }),
                Err(_) => {}
            }
        }
        self.later = later;
        findings
    }
}

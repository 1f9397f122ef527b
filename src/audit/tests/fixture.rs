//! A federation of made-up sites with ledgers, and a coordinator that logs their heads.

use std::{sync::Arc, time::UNIX_EPOCH};

use consilium_privacy::{
    accountant::Charge,
    audit::{Hex, Receipt as Kept, StudyStated},
    ledger::{
        Budget, ChargeRequest, Generator, Ledger, LedgerKey, Made, MemoryJournal,
        Purpose as Released, Repeat,
    },
};
use consilium_proto::{LedgerHead, PublicKey, Receipt, Signer, SiteId, roster::Application};
use ct_merkle::mem_backed_tree::MemoryBackedTree;
use sha2::Sha256;

use super::*;
use crate::audit::log::TransparencyLog;

pub(super) const STUDY: [u8; 16] = [5; 16];
const SOUND: &str = "within range";

/// When sites sign their exports, in seconds.
pub(super) const EXPORTED: u64 = 7;

pub(super) struct Federation {
    pub(super) root: Digest,
    pub(super) roster: Vec<Vec<u8>>,
    pub(super) sites: Vec<Signer>,
    pub(super) coordinator: Signer,
    newest: Roster,
}

pub(super) fn signer() -> Signer {
    Signer::from_pkcs8(&Signer::generate().expect("randomness")).expect("a fresh key")
}

impl Federation {
    /// A coordinator and these sites.
    pub(super) fn of(names: &[&str]) -> Self {
        let governance = signer();
        let root = governance.public_key().fingerprint();
        let first = Roster::found(&governance, 1);
        let newest = Roster::open_first(&first, &root).expect("its own");
        let mut federation = Self {
            root,
            roster: vec![first.to_bytes()],
            sites: vec![],
            coordinator: signer(),
            newest,
        };
        let coordinator = federation.coordinator.public_key();
        federation.admit(&governance, "hub", Role::Coordinator, coordinator);
        for name in names {
            let site = signer();
            federation.admit(&governance, name, Role::Site, site.public_key());
            federation.sites.push(site);
        }
        federation
    }

    fn admit(&mut self, governance: &Signer, name: &str, role: Role, key: PublicKey) {
        let application = Application {
            name: name.parse().expect("a name"),
            role,
            identity_key: key,
            tls_key_digest: Digest::plain(name.as_bytes()),
        };
        let next = self.newest.admit(application, governance, 1, 100);
        let next = next.expect("new");
        self.newest = self.newest.open_next(&next).expect("its own");
        self.roster.push(next.to_bytes());
    }

    /// All sites after some rounds, and what the coordinator logged of them.
    pub(super) fn after(&self, rounds: u32) -> (Export, Log<'_>) {
        let mut log = Log::new(self);
        let parts = self.sites.iter().map(|site| part(site, rounds, &mut log));
        let export = Export {
            roster: self.roster.clone(),
            sites: parts.collect(),
        };
        (export, log)
    }

    pub(super) fn export(&self, rounds: u32) -> Export {
        self.after(rounds).0
    }

    pub(super) fn verdict(&self, export: &Export) -> Verdict {
        Verdict::of(&export.to_bytes(), &self.root)
    }

    /// A head as its site signs it.
    pub(super) fn head(&self, site: &Signer, ledger: &LedgerKey, entry: &Entry) -> Signed {
        let member = self.newest.by_identity_key(&site.public_key());
        // A stranger signs as if it were the first site.
        let site_id = member.map_or(SiteId(MemberId(2)), |member| member.site().expect("a site"));
        let head = LedgerHead {
            site: site_id,
            ledger: *ledger.public_key().as_bytes(),
            sequence: entry.sequence,
            entry_hash: entry.hash.into(),
        };
        head.sign(site)
    }
}

/// The coordinator's log.
pub(super) struct Log<'a> {
    pub(super) federation: &'a Federation,
    pub(super) leaves: Vec<Signed>,
    tree: MemoryBackedTree<Sha256, Vec<u8>>,
}

impl<'a> Log<'a> {
    pub(super) fn new(federation: &'a Federation) -> Self {
        Self {
            federation,
            leaves: vec![],
            tree: MemoryBackedTree::new(),
        }
    }

    /// Logs a head for a site that kept an earlier head of the log.
    pub(super) fn receipt(&mut self, head: Signed, earlier: Option<(u64, Signed)>) -> Receipt {
        self.leaves.push(head.clone());
        self.tree.push(head.to_bytes());
        let leaf = self.tree.len() - 1;
        let proof = |bytes: &[u8]| -> Vec<Digest> {
            let hashes = bytes.chunks(32);
            hashes
                .map(|hash| hash.try_into().expect("32 bytes"))
                .collect()
        };
        let grown = earlier.as_ref().map(|(size, _)| self.tree.len() - size);
        Receipt {
            inclusion: proof(self.tree.prove_inclusion(leaf as usize).as_bytes()),
            consistency: grown.map_or(vec![], |grown| {
                proof(self.tree.prove_consistency(grown as usize).as_bytes())
            }),
            earlier: earlier.map(|(_, signed)| signed),
            tree_head: self.head(0),
            head,
            leaf,
        }
    }

    /// Its head at this time, in milliseconds.
    pub(super) fn head(&self, at: u64) -> Signed {
        let root: [u8; 32] = (*self.tree.root().as_bytes()).into();
        let size = self.tree.len();
        let root = root.into();
        TreeHead { size, root, at }.sign(&self.federation.coordinator)
    }

    /// The file, fetched at this time in milliseconds.
    pub(super) fn file(&self, at: u64) -> Vec<u8> {
        let log = TransparencyLog {
            tree_head: self.head(at),
            leaves: self.leaves.clone(),
        };
        log.to_bytes()
    }
}

/// What the example plans, or more.
const PLANNED: u32 = 40;

fn plan(rounds: u32) -> Plan {
    let text = include_str!("../../../examples/pneumonia.toml")
        .replace("epsilon = 8.0", "epsilon = 20.0")
        .replace("rounds = 40", &format!("rounds = {rounds}"));
    Plan::from_toml(&text).expect("a sound example")
}

/// One site's part: some rounds with every patient in every batch, which is quick to account.
pub(super) fn part(identity: &Signer, rounds: u32, log: &mut Log) -> SiteExport {
    let budget = |epsilon: f64| Budget {
        epsilon: epsilon.try_into().expect(SOUND),
        delta: 1e-5.try_into().expect(SOUND),
    };
    let seed = Digest::plain(identity.public_key().as_bytes());
    let key = Arc::new(LedgerKey::from_seed(*seed.as_bytes()));
    let budgets = [("chest".to_owned(), budget(30.0))];
    let mut ledger = Ledger::open(MemoryJournal::default(), key.clone(), budgets).expect("empty");
    let (mut receipts, mut kept) = (Vec::new(), None);
    let planned = rounds.max(PLANNED);
    let sigma = 8.0 * f64::from(planned / PLANNED).sqrt();
    for round in 1..=rounds {
        let request = ChargeRequest {
            data_set: "chest".into(),
            study: STUDY,
            round,
            attempt: 1,
            purpose: Released::Training,
            charge: Charge::SampledGaussian {
                q: 1.0.try_into().expect(SOUND),
                sigma: sigma.try_into().expect(SOUND),
                steps: 10,
            },
            study_cap: Some(budget(20.0)),
            repeat: Repeat::Refuse,
            key: Some((*Digest::plain(&round.to_be_bytes()).as_bytes()).into()),
        };
        let grant = ledger.reserve(request, UNIX_EPOCH).expect("within budget");
        let made = Made {
            charge: grant.sequence(),
            generator: Generator::Aes256Gcm,
            taken: 10,
            clipping_norm: 1.0.try_into().expect(SOUND),
            next_clipping_norm: 1.0.try_into().expect(SOUND),
            batch_size: 128,
            start: [1; 32],
            update: [2; 32],
        };
        ledger.record(made, UNIX_EPOCH).expect("paid for");
        let newest = ledger.entries().last().expect("an update");
        let head = log.federation.head(identity, &key, newest);
        let receipt = log.receipt(head, kept);
        kept = Some((log.leaves.len() as u64, receipt.tree_head.clone()));
        receipts.push(Kept {
            sequence: newest.sequence,
            bytes: Hex(receipt.to_bytes()),
        });
    }
    let (head, canonical) = (ledger.head(), plan(planned).to_canonical());
    let statement = SiteStatement {
        ledger_key: Hex(*key.public_key().as_bytes()),
        entries: head.sequence,
        head: Hex(head.hash),
        at: EXPORTED,
        data_sets: vec![],
        studies: vec![StudyStated {
            study: Hex(STUDY),
            plan: Hex(*Plan::digest_of(&canonical).as_bytes()),
            public_size: Some(100),
        }],
        receipts: Hex(SiteStatement::digest_of(&receipts)),
    };
    SiteExport {
        statement: sign(identity, &statement),
        plans: vec![PlanText {
            study: Hex(STUDY),
            canonical: String::from_utf8(canonical).expect("text"),
        }],
        entries: ledger.entries().iter().map(Entry::to_bytes).collect(),
        receipts,
    }
}

pub(super) fn sign(identity: &Signer, statement: &SiteStatement) -> Vec<u8> {
    let signed = identity.sign(Purpose::LedgerKey, statement.to_bytes());
    signed.to_bytes()
}

pub(super) fn found(verdict: &Verdict) -> String {
    let texts: Vec<_> = verdict.findings.iter().map(ToString::to_string).collect();
    texts.join("\n")
}

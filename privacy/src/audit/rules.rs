//! The rules of a ledger, replayed from its entries alone.
//!
//! What the ledger enforces while it runs, an auditor finds again here: chain, signatures, the
//! filter of 16 orders with the budget that stood there before each charge, one charge for each
//! attempt, one update for each charge, one use for each secret; and what only an auditor looks at:
//! each study's ε by another accountant, and its charges beside its plan.

use std::{
    collections::{BTreeMap, HashMap},
    num::NonZero,
    thread,
};

use super::{Flaw, Place, SiteExport, SiteStatement, StudyAccount, Terms, terms::TOLERANCE};
use crate::{
    accountant::{Accountant as _, Charge, ClippingNorm, Pld},
    ledger::{
        Budget, Charged, Entry, Fact, Filter, Head, LedgerPublicKey, Made, NO_STUDY, Purpose,
        verify,
    },
};

/// A ledger that was looked at.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Ledger {
    /// The entries that could be read, in their order.
    pub entries: Vec<Entry>,
    /// What is not as it must be.
    pub flaws: Vec<(Place, Flaw)>,
}

/// Replays a site's ledger.
///
/// `statement` must be what the site signed. `terms` are what the plans fix, by study. Receipts are
/// compared with the statement and the entries; what is in them is the caller's to judge, who
/// knows the coordinator's key.
pub fn check(
    site: &SiteExport,
    statement: &SiteStatement,
    terms: &BTreeMap<[u8; 16], Terms>,
) -> Ledger {
    let mut flaws = Vec::new();
    let mut entries = Vec::with_capacity(site.entries.len());
    for (bytes, sequence) in site.entries.iter().zip(1..) {
        match Entry::from_bytes(bytes) {
            Ok(entry) => entries.push(entry),
            Err(_) => flaws.push((Place::Entry(sequence), Flaw::Unreadable)),
        }
    }
    let broken = broken_chain(&entries, statement);
    let is_authentic = flaws.is_empty() && broken.is_empty();
    flaws.extend(broken);
    let mut replay = Replay {
        terms,
        ..Replay::new(flaws)
    };
    for entry in &entries {
        replay.take(entry);
    }
    let mut flaws = replay.flaws;
    // Entries that are not the site's own cost nothing that means anything.
    let studies = is_authentic.then(|| StudyAccount::of(&entries));
    for study in studies.into_iter().flatten() {
        let place = Place::Study(study.study.0);
        let found = judge_study(&study, &entries, terms);
        flaws.extend(found.into_iter().map(|flaw| (place.clone(), flaw)));
    }
    flaws.extend(judge_receipts(site, statement, &entries));
    Ledger { entries, flaws }
}

fn broken_chain(entries: &[Entry], statement: &SiteStatement) -> Vec<(Place, Flaw)> {
    let mut flaws = Vec::new();
    if let Err(error) = verify(entries) {
        flaws.push((Place::Ledger, error.into()));
    }
    for sequence in unsigned(entries, &statement.ledger_key.0.into()) {
        let flaw = crate::ledger::ChainError::Unsigned { sequence }.into();
        flaws.push((Place::Entry(sequence), flaw));
    }
    let head = entries.last().map_or(Head::START, Entry::head);
    if head != statement.head() {
        let (stated, found) = (statement.entries, head.sequence);
        flaws.push((Place::Ledger, Flaw::OtherHead { stated, found }));
    }
    flaws
}

/// Entries that the key has not signed. On all cores: this is most of the work.
fn unsigned(entries: &[Entry], key: &LedgerPublicKey) -> Vec<u64> {
    let workers = thread::available_parallelism().map_or(1, NonZero::get);
    let part = entries.len().div_ceil(workers).max(1);
    let look = |entries: &[Entry]| -> Vec<u64> {
        let unsigned = entries.iter().filter(|entry| !entry.is_signed_by(key));
        unsigned.map(|entry| entry.sequence).collect()
    };
    thread::scope(|scope| {
        let parts: Vec<_> = entries
            .chunks(part)
            .map(|entries| scope.spawn(move || look(entries)))
            .collect();
        // Comparing signatures cannot panic.
        let found = parts
            .into_iter()
            .map(|part| part.join().expect("nothing in it panics"));
        found.flatten().collect()
    })
}

/// Data set, study, round and purpose of a charge.
type Release<'a> = (&'a str, [u8; 16], u32, &'a Purpose);

/// The state that a ledger has after some of its entries.
struct Replay<'a> {
    flaws: Vec<(Place, Flaw)>,
    terms: &'a BTreeMap<[u8; 16], Terms>,
    filter: Filter,
    budgets: HashMap<&'a str, Budget>,
    /// Entry and attempt of the newest charge of each.
    charged: HashMap<Release<'a>, (u64, u32)>,
    secrets: HashMap<[u8; 32], u64>,
    /// Charges for training, by their entry.
    training: HashMap<u64, &'a Charged>,
    /// The first charge for training of each study.
    first: HashMap<[u8; 16], Charge>,
    /// The entry of the update that each charge paid for.
    made: HashMap<u64, u64>,
    /// The clipping norm where each study's newest update ended.
    norms: HashMap<[u8; 16], ClippingNorm>,
}

static NO_TERMS: BTreeMap<[u8; 16], Terms> = BTreeMap::new();

impl<'a> Replay<'a> {
    fn new(flaws: Vec<(Place, Flaw)>) -> Self {
        Self {
            flaws,
            terms: &NO_TERMS,
            filter: Filter::new(),
            budgets: HashMap::new(),
            charged: HashMap::new(),
            secrets: HashMap::new(),
            training: HashMap::new(),
            first: HashMap::new(),
            made: HashMap::new(),
            norms: HashMap::new(),
        }
    }

    fn take(&mut self, entry: &'a Entry) {
        let sequence = entry.sequence;
        let found = match &entry.fact {
            Fact::Budget { data_set, budget } => {
                self.budgets.insert(data_set, *budget);
                Vec::new()
            }
            Fact::Charged(charged) => {
                let mut flaws = self.judge_budget(charged);
                flaws.extend(self.judge_repeat(sequence, charged));
                if charged.purpose == Purpose::Training {
                    flaws.extend(self.judge_training(sequence, charged));
                }
                self.filter.add(&charged.data_set, &charged.charge);
                flaws
            }
            Fact::Made(made) => self.judge_update(sequence, made),
        };
        let place = Place::Entry(sequence);
        self.flaws
            .extend(found.into_iter().map(|flaw| (place.clone(), flaw)));
    }

    fn judge_budget(&mut self, charged: &Charged) -> Vec<Flaw> {
        let (data_set, asked) = (charged.data_set.clone(), charged.charge.releases());
        let Some(&budget) = self.budgets.get(charged.data_set.as_str()) else {
            return vec![Flaw::NoBudget { data_set }];
        };
        if asked == 0 {
            return vec![Flaw::Nothing];
        }
        let left = self
            .filter
            .releases_left(&data_set, budget, &charged.charge);
        if asked <= left {
            return Vec::new();
        }
        vec![Flaw::Overspent {
            data_set,
            budget,
            asked,
            left,
        }]
    }

    /// A further attempt is charged by name only; what belongs to no study is a new release each
    /// time.
    fn judge_repeat(&mut self, sequence: u64, charged: &'a Charged) -> Vec<Flaw> {
        let mut flaws = Vec::new();
        if charged.study != NO_STUDY {
            let which = (
                charged.data_set.as_str(),
                charged.study,
                charged.round,
                &charged.purpose,
            );
            let earlier = self.charged.insert(which, (sequence, charged.attempt));
            if let Some((earlier, attempt)) = earlier
                && charged.attempt <= attempt
            {
                flaws.push(Flaw::ChargedTwice { earlier });
            }
        }
        if let Some(key) = &charged.key
            && let Some(earlier) = self.secrets.insert(*key.as_bytes(), sequence)
        {
            flaws.push(Flaw::SecretTwice { earlier });
        }
        flaws
    }

    fn judge_training(&mut self, sequence: u64, charged: &'a Charged) -> Vec<Flaw> {
        self.training.insert(sequence, charged);
        let first = *self.first.entry(charged.study).or_insert(charged.charge);
        let mut flaws = Vec::new();
        if charged.key.is_none() {
            flaws.push(Flaw::NoSecret);
        }
        if !matches!(charged.charge, Charge::SampledGaussian { .. }) {
            flaws.push(Flaw::NotTraining(charged.charge));
        }
        if let Some(terms) = self.terms.get(&charged.study) {
            flaws.extend(terms.compare(charged, &first));
        }
        flaws
    }

    fn judge_update(&mut self, sequence: u64, made: &Made) -> Vec<Flaw> {
        let charge = made.charge;
        let Some(charged) = self.training.get(&charge) else {
            return vec![Flaw::NotPaid { charge }];
        };
        let mut flaws = Vec::new();
        let (taken, paid) = (made.taken, charged.charge.releases());
        if taken > paid {
            flaws.push(Flaw::TookMore {
                charge,
                taken,
                paid,
            });
        }
        let last = self.norms.insert(charged.study, made.next_clipping_norm);
        if let Some(terms) = self.terms.get(&charged.study) {
            flaws.extend(terms.compare_update(made, last));
        }
        if let Some(earlier) = self.made.insert(charge, sequence) {
            flaws.push(Flaw::MadeTwice { charge, earlier });
        }
        flaws
    }
}

/// ε of one study by privacy loss distributions, beside each cap that its charges name.
fn judge_study(
    study: &StudyAccount,
    entries: &[Entry],
    terms: &BTreeMap<[u8; 16], Terms>,
) -> Vec<Flaw> {
    let (mut flaws, mut pld) = (Vec::new(), Pld::new());
    match (terms.get(&study.study.0), study.rounds.first()) {
        (Some(terms), Some(first)) => flaws.extend(terms.compare_whole(&first.charge, &mut pld)),
        (Some(_), None) => {}
        (None, _) => flaws.push(Flaw::NoPlan),
    }
    // A cap binds everything up to the last charge that names it.
    let mut caps: Vec<(Budget, u64)> = Vec::new();
    for (entry, cap) in study.caps(entries) {
        caps.retain(|(known, _)| *known != cap);
        caps.push((cap, entry));
    }
    for (cap, entry) in caps {
        let history = study.history(entry);
        let epsilon = pld.epsilon(&history, cap.delta);
        if epsilon > cap.epsilon.value() * TOLERANCE {
            flaws.push(Flaw::BeyondCap {
                entry,
                epsilon,
                cap,
            });
        }
    }
    flaws
}

/// Receipts are those that the site signed, each for an entry of its own, in the entries' order.
fn judge_receipts(
    site: &SiteExport,
    statement: &SiteStatement,
    entries: &[Entry],
) -> Vec<(Place, Flaw)> {
    let mut flaws = Vec::new();
    if SiteStatement::digest_of(&site.receipts) != statement.receipts.0 {
        let text = "the receipts are not those that the site signed";
        flaws.push((Place::Statement, Flaw::Part(text.to_owned())));
    }
    let (mut before, last) = (0, entries.last().map_or(0, |entry| entry.sequence));
    for receipt in &site.receipts {
        let sequence = receipt.sequence;
        let text = match sequence {
            sequence if sequence <= before => "it does not come after the receipt before it",
            sequence if sequence > last => "there is no such entry",
            _ => {
                before = sequence;
                continue;
            }
        };
        flaws.push((Place::Receipt(sequence), Flaw::Part(text.to_owned())));
    }
    flaws
}

//! A site's ledger under random charges, crashes and restarts: nothing granted is ever forgotten.

use std::{
    cell::RefCell,
    collections::HashMap,
    rc::Rc,
    sync::Arc,
    time::{Duration, UNIX_EPOCH},
};

use consilium_privacy::{
    accountant::{Accountant as _, Charge, Rdp},
    ledger::{
        Budget, ChainError, ChargeRequest, Entry, Grant, Journal, JournalError, Ledger,
        LedgerError, LedgerKey, Purpose, Refusal, Repeat, verify_signed,
    },
};
use proptest::prelude::*;

/// When the next append goes wrong.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Fault {
    None,
    /// The disk took nothing, and says so.
    BeforeWrite,
    /// The entry reached the disk; the power failed before anybody heard.
    AfterWrite,
}

/// What survives a crash: bytes on a disk, as a real journal keeps them.
#[derive(Debug, Default)]
struct Disk {
    entries: Vec<Vec<u8>>,
}

#[derive(Debug, Clone)]
struct FaultyJournal {
    disk: Rc<RefCell<Disk>>,
    fault: Rc<RefCell<Fault>>,
}

impl FaultyJournal {
    fn new() -> Self {
        Self {
            disk: Rc::default(),
            fault: Rc::new(RefCell::new(Fault::None)),
        }
    }
}

impl Journal for FaultyJournal {
    fn load(&mut self) -> Result<Vec<Entry>, JournalError> {
        let disk = self.disk.borrow();
        disk.entries
            .iter()
            .map(|b| Entry::from_bytes(b).map_err(JournalError::new))
            .collect()
    }

    fn append(&mut self, entry: &Entry) -> Result<(), JournalError> {
        let fault = self.fault.replace(Fault::None);
        if fault != Fault::BeforeWrite {
            let mut disk = self.disk.borrow_mut();
            assert_eq!(
                disk.entries.len() as u64 + 1,
                entry.sequence,
                "an entry came twice"
            );
            disk.entries.push(entry.to_bytes());
        }
        if fault == Fault::None {
            Ok(())
        } else {
            Err(JournalError::new("power failed"))
        }
    }
}

fn budget() -> Budget {
    let sound = "within range";
    Budget {
        epsilon: 6.0.try_into().expect(sound),
        delta: 1e-5.try_into().expect(sound),
    }
}

fn key() -> Arc<LedgerKey> {
    Arc::new(LedgerKey::from_seed([1; 32]))
}

fn open(journal: &FaultyJournal) -> Ledger<FaultyJournal> {
    let budgets = ["scans", "notes"].map(|name| (name.to_owned(), budget()));
    Ledger::open(journal.clone(), key(), budgets).expect("a sound chain")
}

#[derive(Debug, Clone)]
struct Operation {
    data_set: &'static str,
    study: u8,
    round: u32,
    steps: u32,
    fault: Fault,
    restart: bool,
    repeat: Repeat,
}

fn operation() -> impl Strategy<Value = Operation> {
    let fault = prop_oneof![
        6 => Just(Fault::None),
        1 => Just(Fault::BeforeWrite),
        1 => Just(Fault::AfterWrite),
    ];
    let repeat = prop_oneof![Just(Repeat::Refuse), Just(Repeat::ChargeAgain)];
    let data_set = prop_oneof![Just("scans"), Just("notes")];
    (
        data_set,
        0_u8..3,
        1_u32..6,
        1_u32..150,
        fault,
        prop::bool::weighted(0.2),
        repeat,
    )
        .prop_map(
            |(data_set, study, round, steps, fault, restart, repeat)| Operation {
                data_set,
                study,
                round,
                steps,
                fault,
                restart,
                repeat,
            },
        )
}

fn request(operation: &Operation) -> ChargeRequest {
    let sound = "within range";
    ChargeRequest {
        data_set: operation.data_set.into(),
        study: [operation.study; 16],
        round: operation.round,
        attempt: 1,
        purpose: Purpose::Training,
        charge: Charge::SampledGaussian {
            q: 0.05.try_into().expect(sound),
            sigma: 1.0.try_into().expect(sound),
            steps: operation.steps,
        },
        study_cap: None,
        repeat: operation.repeat,
        key: None,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn no_crash_forgets_a_grant_and_no_order_of_charges_crosses_the_budget(
        operations in prop::collection::vec(operation(), 1..40),
    ) {
        let journal = FaultyJournal::new();
        let mut ledger = open(&journal);
        let mut granted: HashMap<&str, Vec<Charge>> = HashMap::new();
        let mut grants: Vec<Grant> = Vec::new();
        let mut now = UNIX_EPOCH;
        for operation in &operations {
            now += Duration::from_secs(1);
            journal.fault.replace(operation.fault);
            let before = journal.disk.borrow().entries.len();
            match ledger.reserve(request(operation), now) {
                Ok(grant) => {
                    prop_assert_eq!(operation.fault, Fault::None, "granted what is not on disk");
                    granted.entry(operation.data_set).or_default().push(grant.charge());
                    grants.push(grant);
                }
                Err(Refusal::Journal(_)) => prop_assert_ne!(operation.fault, Fault::None),
                Err(_) => {
                    prop_assert_eq!(before, journal.disk.borrow().entries.len(), "refused, written");
                }
            }
            journal.fault.replace(Fault::None);
            if operation.restart {
                ledger = open(&journal);
            }
        }

        let mut ledger = open(&journal);
        let mut accountant = Rdp::new();
        for data_set in ["scans", "notes"] {
            let charges = granted.get(data_set).cloned().unwrap_or_default();
            let used = accountant.epsilon(&charges, budget().delta);
            let spent = ledger.spent(data_set, budget().delta);
            prop_assert!(spent >= used, "{} was spent, {} was granted", spent, used);
            prop_assert!(spent <= budget().epsilon.value(), "{} is above the budget", spent);
        }
        let mut sequences: Vec<u64> = grants.iter().map(Grant::sequence).collect();
        sequences.dedup();
        prop_assert!(sequences.is_sorted() && sequences.len() == grants.len());
        for grant in &grants {
            let entry = &ledger.entries()[grant.sequence() as usize - 1];
            let charged = entry.fact.charged().map(|charged| charged.charge);
            prop_assert_eq!(charged, Some(grant.charge()));
        }
    }
}

fn first() -> Operation {
    Operation {
        data_set: "scans",
        study: 1,
        round: 1,
        steps: 10,
        fault: Fault::None,
        restart: false,
        repeat: Repeat::Refuse,
    }
}

#[test]
fn a_charge_whose_confirmation_was_lost_counts_and_is_not_granted_again() {
    let journal = FaultyJournal::new();
    let mut ledger = open(&journal);
    let other = Operation {
        round: 9,
        ..first()
    };
    ledger
        .reserve(request(&other), UNIX_EPOCH)
        .expect("within budget");
    journal.fault.replace(Fault::AfterWrite);
    let refused = ledger
        .reserve(request(&first()), UNIX_EPOCH)
        .expect_err("the power failed");
    assert!(
        matches!(refused, Refusal::Journal(LedgerError::Journal(_))),
        "{refused}"
    );
    let refused = ledger
        .reserve(request(&first()), UNIX_EPOCH)
        .expect_err("it is on disk");
    assert!(
        matches!(refused, Refusal::AlreadyCharged { sequence: 3 }),
        "{refused}"
    );
    assert!(ledger.spent("scans", budget().delta) > 0.0);
}

#[test]
fn a_store_that_loses_a_confirmed_entry_stops_the_ledger() {
    let journal = FaultyJournal::new();
    let mut ledger = open(&journal);
    ledger
        .reserve(request(&first()), UNIX_EPOCH)
        .expect("within budget");
    journal.disk.borrow_mut().entries.clear();
    journal.fault.replace(Fault::BeforeWrite);
    let second = Operation {
        round: 2,
        ..first()
    };
    assert!(ledger.reserve(request(&second), UNIX_EPOCH).is_err());
    let refused = ledger
        .reserve(request(&second), UNIX_EPOCH)
        .expect_err("an entry is gone");
    // The first entry is the budget's, the second the charge.
    let lost = ChainError::Lost { sequence: 2 };
    assert!(
        matches!(&refused, Refusal::Journal(LedgerError::Chain(e)) if *e == lost),
        "{refused}"
    );
}

#[test]
fn a_changed_byte_on_disk_keeps_the_ledger_closed() {
    let journal = FaultyJournal::new();
    for round in 1..4 {
        open(&journal)
            .reserve(request(&Operation { round, ..first() }), UNIX_EPOCH)
            .expect("within budget");
    }
    let length = journal.disk.borrow().entries[1].len();
    for at in 0..length {
        journal.disk.borrow_mut().entries[1][at] ^= 1;
        // The signatures of older entries are the auditor's to check; the chain covers the rest.
        let entries = journal.clone().load();
        let is_seen = match at < length - 64 {
            true => Ledger::open(journal.clone(), key(), []).is_err(),
            false => verify_signed(&entries.expect("sound"), &key().public_key()).is_err(),
        };
        assert!(is_seen, "byte {at} was changed unseen");
        journal.disk.borrow_mut().entries[1][at] ^= 1;
    }
    assert_eq!(open(&journal).entries().len(), 4);
}

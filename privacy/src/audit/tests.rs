//! Ledgers with something wrong in them, and what an auditor says.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, UNIX_EPOCH},
};

use super::*;
use crate::{
    accountant::{Accountant as _, Charge, Rdp},
    ledger::{
        self, Budget, ChargeRequest, Entry, Fact, Generator, Head, LedgerKey, Made, MemoryJournal,
        NO_STUDY, Purpose, Repeat,
    },
};

const STUDY: [u8; 16] = [5; 16];
const SOUND: &str = "within range";

fn budget(epsilon: f64) -> Budget {
    Budget {
        epsilon: epsilon.try_into().expect(SOUND),
        delta: 1e-5.try_into().expect(SOUND),
    }
}

fn training(steps: u32) -> Charge {
    Charge::SampledGaussian {
        q: 0.05.try_into().expect(SOUND),
        sigma: 1.5.try_into().expect(SOUND),
        steps,
    }
}

fn terms() -> BTreeMap<[u8; 16], Terms> {
    let terms = Terms {
        data_set: "scans".to_owned(),
        rounds: 3,
        steps: 10,
        batch_size: 10,
        clipping_norm: 1.0.try_into().expect(SOUND),
        is_clipping_adaptive: false,
        delta: 1e-5.try_into().expect(SOUND),
        target: Target::Multiplier(1.5.try_into().expect(SOUND)),
        public_size: Some(200),
    };
    [(STUDY, terms)].into()
}

fn key(seed: u8) -> Arc<LedgerKey> {
    Arc::new(LedgerKey::from_seed([seed; 32]))
}

/// Budget, count, and three rounds of charge and update: eight entries.
fn facts() -> Vec<Fact> {
    let mut ledger = ledger::Ledger::open(
        MemoryJournal::default(),
        key(1),
        [("scans".into(), budget(8.0))],
    )
    .expect("an empty journal");
    let count = ChargeRequest {
        data_set: "scans".into(),
        study: NO_STUDY,
        round: 0,
        attempt: 0,
        purpose: Purpose::Release("public size".into()),
        charge: Charge::Pure {
            epsilon: 0.1.try_into().expect(SOUND),
            releases: 1,
        },
        study_cap: None,
        repeat: Repeat::ChargeAgain,
        key: None,
    };
    ledger
        .reserve(count.clone(), UNIX_EPOCH)
        .expect("within budget");
    for round in 1..=3_u8 {
        let request = ChargeRequest {
            study: STUDY,
            round: round.into(),
            attempt: 1,
            purpose: Purpose::Training,
            charge: training(10),
            study_cap: Some(budget(3.0)),
            repeat: Repeat::Refuse,
            key: Some([round; 32].into()),
            ..count.clone()
        };
        let grant = ledger.reserve(request, UNIX_EPOCH).expect("within budget");
        let made = Made {
            charge: grant.sequence(),
            generator: Generator::Aes256Gcm,
            taken: 10,
            clipping_norm: 1.0.try_into().expect(SOUND),
            next_clipping_norm: 1.0.try_into().expect(SOUND),
            batch_size: 10,
            start: [round; 32],
            update: [round + 1; 32],
        };
        ledger.record(made, UNIX_EPOCH).expect("paid for");
    }
    ledger
        .entries()
        .iter()
        .map(|entry| entry.fact.clone())
        .collect()
}

/// A chain of these facts, signed by a site that lies.
fn forged(facts: Vec<Fact>, seed: u8) -> Vec<Entry> {
    let mut entries: Vec<Entry> = Vec::new();
    for fact in facts {
        let head = entries.last().map_or(Head::START, Entry::head);
        entries.push(Entry::after(head, fact, 1000, &key(seed)));
    }
    entries
}

fn statement(entries: &[Entry]) -> SiteStatement {
    let head = entries.last().map_or(Head::START, Entry::head);
    SiteStatement {
        ledger_key: Hex(*key(1).public_key().as_bytes()),
        entries: head.sequence,
        head: Hex(head.hash),
        at: 2000,
        data_sets: vec![],
        studies: vec![],
        receipts: Hex(SiteStatement::digest_of(&[])),
    }
}

fn site(entries: &[Entry]) -> SiteExport {
    SiteExport {
        statement: statement(entries).to_bytes(),
        entries: entries.iter().map(Entry::to_bytes).collect(),
        ..SiteExport::default()
    }
}

fn flaws_of(entries: &[Entry]) -> Vec<(Place, Flaw)> {
    check(&site(entries), &statement(entries), &terms()).flaws
}

/// What is found after one fact of the sound ledger was changed, all hashes and signatures made
/// anew by the site itself.
fn flaws_after(change: impl FnOnce(&mut Vec<Fact>)) -> Vec<(Place, Flaw)> {
    let mut facts = facts();
    change(&mut facts);
    flaws_of(&forged(facts, 1))
}

fn charged(fact: &mut Fact) -> &mut ledger::Charged {
    match fact {
        Fact::Charged(charged) => charged,
        other => panic!("no charge: {other:?}"),
    }
}

fn made(fact: &mut Fact) -> &mut Made {
    match fact {
        Fact::Made(made) => made,
        other => panic!("no update: {other:?}"),
    }
}

#[test]
fn a_sound_ledger_has_no_flaw() {
    let entries = forged(facts(), 1);
    assert_eq!(entries.len(), 8);
    assert_eq!(flaws_of(&entries), []);
    assert_eq!(flaws_of(&[]), []);
}

#[test]
fn entries_removed_swapped_forged_or_cut_off_are_found() {
    let sound = forged(facts(), 1);
    let found = |entries: &[Entry]| {
        let checked = check(&site(entries), &statement(&sound), &terms());
        let texts: Vec<_> = checked
            .flaws
            .iter()
            .map(|(place, flaw)| format!("{place}: {flaw}"))
            .collect();
        texts.join("\n")
    };
    let mut removed = sound.clone();
    removed.remove(2);
    assert!(found(&removed).contains("entry 3 is missing"));
    let mut swapped = sound.clone();
    swapped.swap(3, 4);
    assert!(found(&swapped).contains("the order was changed"));
    let mut other = sound.clone();
    other[6].signature = forged(facts(), 2)[6].signature;
    assert!(found(&other).contains("entry 7: entry 7 is not signed by this ledger's key"));
    assert!(found(&sound[..6]).contains("ends at entry 8"));
    // A whole ledger by another key: every entry, and the head.
    let flaws = check(&site(&forged(facts(), 2)), &statement(&sound), &terms()).flaws;
    let unsigned = |(_, flaw): &&(Place, Flaw)| {
        matches!(flaw, Flaw::Chain(ledger::ChainError::Unsigned { .. }))
    };
    assert_eq!(flaws.iter().filter(unsigned).count(), 8);
}

#[test]
fn charges_that_the_filter_would_not_have_granted_are_found() {
    let flaws = flaws_after(|facts| {
        facts[0] = Fact::Budget {
            data_set: "scans".into(),
            budget: budget(0.9),
        }
    });
    assert!(
        matches!(&flaws[0], (Place::Entry(3), Flaw::Overspent { asked: 10, left, .. }) if *left < 10),
        "{flaws:?}"
    );
    let flaws = flaws_after(|facts| charged(&mut facts[6]).data_set = "notes".into());
    assert!(
        flaws.contains(&(
            Place::Entry(7),
            Flaw::NoBudget {
                data_set: "notes".into()
            }
        )),
        "{flaws:?}"
    );
    let flaws = flaws_after(|facts| charged(&mut facts[6]).charge = training(0));
    assert!(
        flaws.contains(&(Place::Entry(7), Flaw::Nothing)),
        "{flaws:?}"
    );
}

#[test]
fn a_second_charge_update_or_use_of_a_secret_is_found() {
    let again = flaws_after(|facts| charged(&mut facts[4]).round = 1);
    assert_eq!(
        again,
        [(Place::Entry(5), Flaw::ChargedTwice { earlier: 3 })]
    );
    // A further attempt was asked for by name.
    let by_name = |facts: &mut Vec<Fact>| {
        let charged = charged(&mut facts[4]);
        (charged.round, charged.attempt) = (1, 2);
    };
    assert_eq!(flaws_after(by_name), []);
    let secret = flaws_after(|facts| charged(&mut facts[6]).key = Some([1; 32].into()));
    assert_eq!(
        secret,
        [(Place::Entry(7), Flaw::SecretTwice { earlier: 3 })]
    );
    let none = flaws_after(|facts| charged(&mut facts[6]).key = None);
    assert_eq!(none, [(Place::Entry(7), Flaw::NoSecret)]);
    let twice = flaws_after(|facts| made(&mut facts[5]).charge = 3);
    assert_eq!(
        twice,
        [(
            Place::Entry(6),
            Flaw::MadeTwice {
                charge: 3,
                earlier: 4
            }
        )]
    );
    for unpaid in [0, 2, 7, 99] {
        let flaws = flaws_after(|facts| made(&mut facts[5]).charge = unpaid);
        assert_eq!(flaws, [(Place::Entry(6), Flaw::NotPaid { charge: unpaid })]);
    }
    let more = flaws_after(|facts| made(&mut facts[5]).taken = 11);
    assert_eq!(
        more,
        [(
            Place::Entry(6),
            Flaw::TookMore {
                charge: 5,
                taken: 11,
                paid: 10
            }
        )]
    );
}

#[test]
fn what_departs_from_the_plan_is_found_and_named() {
    let named = |change: fn(&mut Vec<Fact>)| {
        let flaws = flaws_after(change);
        assert!(!flaws.is_empty());
        flaws
            .into_iter()
            .map(|(_, flaw)| flaw.to_string())
            .collect::<Vec<_>>()
            .join("; ")
    };
    for (change, expected) in [
        (
            (|facts| {
                charged(&mut facts[4]).charge = Charge::SampledGaussian {
                    q: 0.04.try_into().expect(SOUND),
                    sigma: 1.5.try_into().expect(SOUND),
                    steps: 10,
                }
            }) as fn(&mut Vec<Fact>),
            "the sampling rate is 0.04, the plan asks for 0.05",
        ),
        (
            |facts| {
                charged(&mut facts[4]).charge = Charge::SampledGaussian {
                    q: 0.05.try_into().expect(SOUND),
                    sigma: 2.5.try_into().expect(SOUND),
                    steps: 10,
                }
            },
            "the noise multiplier is 2.5, the plan asks for 1.5",
        ),
        (
            |facts| charged(&mut facts[4]).charge = training(12),
            "the number of steps is 12, the plan asks for 10",
        ),
        (
            |facts| charged(&mut facts[4]).round = 4,
            "the round is 4, the plan asks for 1 to 3",
        ),
        (
            |facts| charged(&mut facts[4]).study_cap = None,
            "the study's cap is none",
        ),
        (
            |facts| made(&mut facts[5]).batch_size = 7,
            "the batch size is 7, the plan asks for 10",
        ),
        (
            |facts| made(&mut facts[5]).clipping_norm = 2.0.try_into().expect(SOUND),
            "the clipping norm is 2, the plan asks for 1",
        ),
        (
            |facts| made(&mut facts[5]).next_clipping_norm = 2.0.try_into().expect(SOUND),
            "the clipping norm after it is 2, the plan asks for 1",
        ),
        (
            |facts| charged(&mut facts[4]).study = [9; 16],
            "no sound plan",
        ),
    ] {
        let found = named(change);
        assert!(found.contains(expected), "{found}");
    }
}

#[test]
fn an_adaptive_norm_that_starts_elsewhere_is_found() {
    let flaws = |norms: [[f64; 2]; 3]| {
        let mut facts = facts();
        for (at, [first, next]) in [3, 5, 7].into_iter().zip(norms) {
            let made = made(&mut facts[at]);
            made.clipping_norm = first.try_into().expect(SOUND);
            made.next_clipping_norm = next.try_into().expect(SOUND);
        }
        let entries = forged(facts, 1);
        let mut terms = terms();
        let study = terms.get_mut(&STUDY).expect("its terms");
        study.is_clipping_adaptive = true;
        check(&site(&entries), &statement(&entries), &terms).flaws
    };
    assert_eq!(flaws([[1.0, 0.5], [0.5, 0.75], [0.75, 2.0]]), []);
    for (norms, entry, expected) in [
        (
            [[0.9, 0.5], [0.5, 0.5], [0.5, 0.5]],
            4,
            "the clipping norm is 0.9, the plan asks for 1",
        ),
        (
            [[1.0, 0.5], [1.0, 0.5], [0.5, 0.5]],
            6,
            "the clipping norm is 1, the study's last update ended at 0.5",
        ),
    ] {
        let found = flaws(norms);
        let [(Place::Entry(place), flaw)] = &found[..] else {
            panic!("one flaw: {found:?}");
        };
        assert_eq!((*place, flaw.to_string().as_str()), (entry, expected));
    }
}

#[test]
fn a_study_beyond_its_cap_and_a_plan_beyond_its_promise_are_found() {
    let flaws = flaws_after(|facts| {
        for at in [2, 4, 6] {
            charged(&mut facts[at]).study_cap = Some(budget(0.5));
        }
    });
    let [
        (
            Place::Study(STUDY),
            Flaw::BeyondCap {
                entry: 7, epsilon, ..
            },
        ),
    ] = &flaws[..]
    else {
        panic!("{flaws:?}");
    };
    let rdp = Rdp::new().epsilon(&[training(30)], budget(1.0).delta);
    assert!(
        *epsilon > 0.5 && *epsilon < rdp,
        "{epsilon} by losses, {rdp} by curves"
    );

    let entries = forged(facts(), 1);
    let promised = |epsilon: f64, public_size| {
        let mut terms = terms();
        let terms_of = terms.get_mut(&STUDY).expect("there");
        terms_of.target = Target::Epsilon(epsilon.try_into().expect(SOUND));
        terms_of.public_size = Some(public_size);
        terms_of.batch_size = 10 * (public_size / 200) as u32;
        let flaws = check(&site(&entries), &statement(&entries), &terms).flaws;
        flaws
            .into_iter()
            .filter(|(place, _)| matches!(place, Place::Study(_)))
            .collect::<Vec<_>>()
    };
    assert_eq!(promised(3.0, 200), []);
    assert!(matches!(
        &promised(0.5, 200)[..],
        [(_, Flaw::PlanCostsMore { .. })]
    ));
    assert!(matches!(
        &promised(3.0, 20_000)[..],
        [(_, Flaw::LargeDelta { .. })]
    ));
}

#[test]
fn receipts_are_those_that_were_signed_each_for_an_entry_in_order() {
    let entries = forged(facts(), 1);
    let receipt = |sequence| Receipt {
        sequence,
        bytes: Hex(b"proof".to_vec()),
    };
    let (mut site, mut statement) = (site(&entries), statement(&entries));
    site.receipts = vec![receipt(3)];
    let flaws = check(&site, &statement, &terms()).flaws;
    assert!(
        matches!(&flaws[..], [(Place::Statement, Flaw::Part(text))] if text.contains("receipts"))
    );
    let mut with = |sequences: &[u64]| {
        site.receipts = sequences
            .iter()
            .map(|&sequence| receipt(sequence))
            .collect();
        statement.receipts = Hex(SiteStatement::digest_of(&site.receipts));
        check(&site, &statement, &terms()).flaws.len()
    };
    assert_eq!(with(&[1, 3]), 0);
    for misplaced in [&[0][..], &[9], &[u64::MAX], &[3, 1], &[3, 3]] {
        assert_eq!(with(misplaced), 1, "{misplaced:?}");
    }
}

#[test]
fn a_newer_export_begins_with_the_older_one() {
    let entries = forged(facts(), 1);
    assert_eq!(compare(&entries[..5], &entries), None);
    assert_eq!(compare(&[], &entries), None);
    let (older, newer) = (8, 5);
    assert_eq!(
        compare(&entries, &entries[..5]),
        Some(Flaw::RolledBack { older, newer })
    );
    let mut facts = facts();
    made(&mut facts[5]).update = [9; 32];
    let forked = forged(facts, 1);
    assert_eq!(compare(&entries, &forked), Some(Flaw::Forked { entry: 6 }));
}

#[test]
fn every_byte_of_a_file_counts_and_its_line_is_named() {
    let entries = forged(facts(), 1);
    let mut site = site(&entries[..2]);
    site.plans = vec![PlanText {
        study: Hex(STUDY),
        canonical: "{\"name\":\"ü\"}".to_owned(),
    }];
    site.receipts = vec![Receipt {
        sequence: 1,
        bytes: Hex(vec![1]),
    }];
    let export = Export {
        roster: vec![vec![1, 2], vec![3]],
        sites: vec![site.clone(), site],
    };
    let sound = export.to_bytes();
    assert_eq!(Export::from_bytes(&sound), Ok(export));
    assert_eq!(Export::check_end(&sound), Ok(()));
    assert!(Export::check_end(b"").is_err());
    let text = String::from_utf8(sound.clone()).expect("text");
    assert!(
        text.starts_with("{\"audit_export\":1}\n{\"roster\":\"0102\"}\n"),
        "{text}"
    );

    let mut bytes = sound.clone();
    for at in 0..sound.len() {
        for bit in 0..8 {
            bytes[at] ^= 1 << bit;
            let line = sound[..at].iter().filter(|&&byte| byte == b'\n').count() + 1;
            // A change that leaves the line readable is the affair of signatures, and of the end.
            let read = Export::from_bytes(&bytes).and_then(|_| Export::check_end(&bytes));
            let error = read.expect_err("a changed byte");
            let last = text.lines().count();
            assert!(
                error.line == line || error.line == last,
                "byte {at}: {error}"
            );
            bytes[at] ^= 1 << bit;
        }
        assert!(Export::from_bytes(&sound[..at]).is_err(), "cut at {at}");
    }
    let longer = [&sound[..], b"{\"audit_export\":1}\n"].concat();
    assert!(Export::from_bytes(&longer).is_err());
}

#[test]
fn accounts_say_what_was_spent_and_what_is_left() {
    let entries = forged(facts(), 1);
    let [scans] = DataSetAccount::of(&entries, &BTreeMap::new())
        .try_into()
        .expect("one");
    assert_eq!(
        (scans.name.as_str(), scans.budget),
        ("scans", Some(budget(8.0)))
    );
    assert!(scans.spent > 0.1 && scans.spent < 3.0, "{}", scans.spent);
    let left = scans.left.expect("a charge");
    assert_eq!(left.like, training(1));
    assert!(left.releases > 30, "{left:?}");
    assert_eq!(scans.releases[0].what, "public size");

    let other = [
        ("scans".to_owned(), budget(1.0)),
        ("new".to_owned(), budget(2.0)),
    ];
    let accounts = DataSetAccount::of(&entries, &other.into());
    assert_eq!((accounts[0].left, accounts[0].spent), (None, 0.0));
    assert!(accounts[1].left.expect("a charge").releases < left.releases);

    let [study] = StudyAccount::of(&entries).try_into().expect("one");
    assert_eq!((study.rounds.len(), study.cap), (3, Some(budget(3.0))));
    assert!(study.rounds.iter().all(|round| round.update.is_some()));
    assert_eq!(study.history(5), [training(10), training(10)]);
}

/// A year of a busy site: what `verify` takes for it is printed with `--nocapture`.
#[test]
fn a_ledger_of_100_000_entries_is_checked_in_seconds() {
    let sound = facts();
    let (Fact::Charged(charge), Fact::Made(update)) = (&sound[2], &sound[3]) else {
        panic!("a charge and its update");
    };
    let studies = 10_u8;
    let mut facts = vec![Fact::Budget {
        data_set: "scans".into(),
        budget: budget(400.0),
    }];
    let mut round = 0_u32;
    while facts.len() < 99_999 {
        let study = round % u32::from(studies);
        let mut secret = [0; 32];
        secret[..4].copy_from_slice(&round.to_be_bytes());
        let sequence = facts.len() as u64 + 1;
        facts.push(Fact::Charged(ledger::Charged {
            study: [study as u8 + 1; 16],
            round: round / u32::from(studies) + 1,
            charge: Charge::SampledGaussian {
                q: 0.01.try_into().expect(SOUND),
                sigma: 4.0.try_into().expect(SOUND),
                steps: 2,
            },
            key: Some(secret.into()),
            ..charge.clone()
        }));
        facts.push(Fact::Made(Made {
            charge: sequence,
            taken: 2,
            ..*update
        }));
        round += 1;
    }
    facts.push(facts[0].clone());
    let entries = forged(facts, 1);
    assert_eq!(entries.len(), 100_000);
    let file = Export {
        roster: vec![],
        sites: vec![site(&entries)],
    }
    .to_bytes();
    let terms = (1..=studies).map(|study| {
        let mut terms = terms()[&STUDY].clone();
        (terms.rounds, terms.steps, terms.public_size) = (5000, 2, Some(1000));
        terms.target = Target::Multiplier(4.0.try_into().expect(SOUND));
        ([study; 16], terms)
    });
    let terms = terms.collect();

    let started = std::time::Instant::now();
    let export = Export::from_bytes(&file).expect("its own bytes");
    assert_eq!(Export::check_end(&file), Ok(()));
    let read = started.elapsed();
    let checked = check(&export.sites[0], &statement(&entries), &terms);
    let whole = started.elapsed();
    println!(
        "100 000 entries, {} MB: read in {:.1} s, checked in {:.1} s more",
        file.len() / 1_000_000,
        read.as_secs_f64(),
        (whole - read).as_secs_f64()
    );
    assert_eq!(checked.flaws, []);
    assert!(whole < Duration::from_secs(120), "{whole:?}");
}

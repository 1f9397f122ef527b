//! Messages of one attempt in another, and uploads that arrive in pieces.

use super::simulator::{
    Federation, Network, Setting, after, coordinator_key, id, schedule, site_key, start,
};
use crate::secagg::{
    Attempt, ChunkRefused, Coordinator, Receiving, Repeats, Site, SiteId, Unbelieved,
    coordinator::{self, Refusal},
    message::{ToCoordinator, ToSite},
    signature::Kind,
    site::{self, History, HistoryError, OpenError, Record, Violation},
};

fn attempt(round: u32, attempt: u32) -> Setting {
    let study = [3; 16];
    Setting {
        attempt: Attempt {
            study,
            round,
            attempt,
        },
        ..Setting::five()
    }
}

#[test]
fn no_message_of_one_attempt_is_taken_in_another() {
    let mut first = Federation::open(&attempt(2, 1));
    first.run_honestly();
    let others = [
        attempt(2, 2),
        attempt(3, 1),
        Setting {
            model: b"another study".to_vec(),
            ..attempt(2, 1)
        },
    ];
    for other in others {
        // To the sites: keys, shares, lists, confirmations, each at the time at which it is due.
        for kind in 0..4 {
            let mut second = Federation::open(&other);
            second.run(&mut Network::down(|to, message| {
                let replaced = match (&message, kind) {
                    (ToSite::PeerKeys(_), 0)
                    | (ToSite::PeerShares(_), 1)
                    | (ToSite::Survivors(_), 2)
                    | (ToSite::Confirmations(_), 3) => (first.heard.iter())
                        .find(|(site, old)| *site == to && old.name() == message.name())
                        .map(|(_, old)| old.clone()),
                    _ => None,
                };
                vec![replaced.unwrap_or(message)]
            }));
            assert!(second.opening.is_none(), "kind {kind}");
            for site in 1..=5 {
                let stop = &second.stops[&id(site)].violation;
                let signature = |kind| Violation::Unbelieved(Unbelieved::Signature(kind));
                let expected = [
                    signature(Kind::PairKey),
                    signature(Kind::PeerShares),
                    signature(Kind::Survivors),
                    signature(Kind::Confirm),
                ];
                assert_eq!(*stop, expected[kind], "site {site}");
                second.assert_nothing_released_by(id(site));
            }
        }
        // To the coordinator.
        let mut second = Federation::open(&other);
        second.run(&mut Network::up(|from, message| {
            (first.said.iter())
                .find(|(site, old)| *site == from && old.name() == message.name())
                .map(|(_, old)| old.clone())
        }));
        assert!(second.opening.is_none());
        let broken = Refusal::Unbelieved(Unbelieved::Signature(Kind::PairKey));
        assert!(
            second
                .refusals
                .iter()
                .all(|(_, refusal)| *refusal == broken)
        );
        assert_eq!(second.refusals.len(), 5);
    }
}

fn reopen(setting: &Setting, journal: &[Record]) -> Result<(), OpenError> {
    let history = History::of(setting.attempt.study, journal.iter().copied());
    let key = Box::new(site_key(id(1)));
    Site::open(setting.terms(), id(1), key, &history, start()).map(|_| ())
}

#[test]
fn a_site_takes_part_in_later_attempts_only() {
    let mut federation = Federation::open(&attempt(2, 2));
    federation.run_honestly();
    let journal = &federation.site_journals[&id(1)];
    for (round, number) in [(2, 2), (2, 1), (1, 9)] {
        let error = reopen(&attempt(round, number), journal).expect_err("not later");
        let attempt = number;
        assert_eq!(error, HistoryError::NotLater { round, attempt }.into());
    }
    assert_eq!(reopen(&attempt(2, 3), journal), Ok(()));
    assert_eq!(reopen(&attempt(3, 1), journal), Ok(()));
}

#[test]
fn a_round_that_may_be_open_is_not_repeated_where_nothing_else_protects_it() {
    let never = |number| Setting {
        repeats: Repeats::Never,
        ..attempt(2, number)
    };
    let mut federation = Federation::open(&never(1));
    federation.run_honestly();
    let journal = &federation.site_journals[&id(1)];
    let error = reopen(&never(2), journal).expect_err("a repeat");
    assert_eq!(error, HistoryError::Repeated { round: 2 }.into());
    // An attempt that never got to an answer is no release.
    let before: Vec<_> = (journal.iter().copied())
        .take_while(|record| !matches!(record, Record::Answered { .. }))
        .collect();
    assert_eq!(reopen(&never(2), &before), Ok(()));
}

#[test]
fn attempts_that_draw_noise_anew_are_limited() {
    let charged = |number| Setting {
        repeats: Repeats::Charged { at_most: 2 },
        ..attempt(2, number)
    };
    assert_eq!(reopen(&charged(2), &[]), Ok(()));
    let (round, at_most) = (2, 2);
    let error = HistoryError::TooManyAttempts { round, at_most };
    assert_eq!(reopen(&charged(3), &[]), Err(error.into()));
}

#[test]
fn records_read_back_from_the_disk_as_they_were_written() {
    let mut federation = Federation::open(&attempt(2, 1));
    federation.run_honestly();
    for record in &federation.site_journals[&id(1)] {
        assert_eq!(Record::from_bytes(&record.to_bytes()), Ok(*record));
    }
    for record in &federation.journal {
        let read = coordinator::Record::from_bytes(&record.to_bytes());
        assert_eq!(read.as_ref(), Ok(record));
    }
}

#[test]
fn pieces_that_repeat_overlap_or_leave_a_gap_are_refused() {
    let terms = Setting::five().terms();
    let length = terms.bytes();
    let mut receiving = Receiving::new(&terms);
    receiving.take(0, &[1; 10]).expect("the first");
    for found in [0, 9, 11] {
        let expected = 10;
        let refused = ChunkRefused::NotNext { expected, found };
        assert_eq!(receiving.take(found, &[1; 10]), Err(refused));
    }
    let too_long = vec![0; length as usize];
    assert_eq!(
        receiving.take(10, &too_long),
        Err(ChunkRefused::TooLong { length })
    );
    let found = 10;
    assert_eq!(
        receiving.finish(),
        Err(ChunkRefused::Truncated { length, found })
    );
}

#[test]
fn an_upload_after_the_deadline_is_refused_and_never_added() {
    let mut federation = Federation::open(&Setting::five());
    let mut late = None;
    federation.run(&mut Network::up(|from, message| match message {
        ToCoordinator::Trailer(trailer) if from == id(5) => {
            late = Some(trailer);
            None
        }
        other => Some(other),
    }));
    let trailer = late.expect("it did upload");
    federation.tell_coordinator(id(5), ToCoordinator::Trailer(trailer));
    let phase = "summing";
    let input = "a trailer";
    assert_eq!(
        federation.refusals,
        [(id(5), Refusal::OutOfPhase { phase, input })]
    );
    let seen = &federation.seen[&id(5)];
    assert!(seen.self_mask.is_empty(), "its self mask is never opened");
    assert!(federation.sum() == federation.sum_in_the_clear());
}

#[test]
fn the_coordinator_closes_each_phase_at_its_time() {
    let setting = Setting::five();
    let mut coordinator =
        Coordinator::open(setting.terms(), schedule(), Box::new(coordinator_key()));
    let early = coordinator.handle(coordinator::Input::Tick, after(99));
    assert!(early.expect("time passes").is_empty());
    coordinator
        .handle(coordinator::Input::Tick, after(100))
        .expect("time passes");
    let (found, needed) = (0, 5);
    let what = "keys";
    let failure = coordinator::Failure::TooFew {
        what,
        found,
        needed,
    };
    assert_eq!(coordinator.failure(), Some(&failure));
}

#[test]
fn a_site_wipes_everything_at_the_deadline_and_says_nothing_more() {
    let setting = Setting::five();
    let mut federation = Federation::open(&setting);
    // It has uploaded and waits for a list.
    federation.run(&mut Network::down(|_, message| match message {
        ToSite::Survivors(_) => vec![],
        other => vec![other],
    }));
    let site = federation.sites.get_mut(&id(2)).expect("a member");
    assert_eq!(site.phase(), "awaiting survivors");
    let effects = site
        .handle(site::Input::Tick, after(1000))
        .expect("time passes");
    let [site::Effect::Persist(Record::Ended { concluded, .. })] = effects.as_slice() else {
        panic!("{effects:?}");
    };
    assert!(!concluded);
    assert_eq!(site.ending(), Some(&site::Ending::Late));
    let refusal = site.handle(site::Input::Message(ToSite::Survivors(vec![])), after(1001));
    assert!(matches!(refusal, Err(site::Refusal::Over)));
    federation.assert_nothing_released_by(SiteId(2));
}

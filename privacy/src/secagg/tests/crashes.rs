//! Programs that stop at any point, and coordinators that forget.

use super::simulator::{
    Federation, Network, Setting, coordinator_key, id, schedule, site_key, start,
};
use crate::secagg::{
    Coordinator, Site,
    coordinator::{Effect, Failure, Record, Refusal, ResumeError},
    message::{Survivors, ToCoordinator, ToSite},
    signature::Body,
    site::{self, History, HistoryError, OpenError},
};

fn resume(
    setting: &Setting,
    journal: &[Record],
) -> Result<(Coordinator, Vec<Effect>), ResumeError> {
    let key = Box::new(coordinator_key());
    Coordinator::resume(setting.terms(), schedule(), key, journal.to_vec())
}

#[test]
fn a_coordinator_that_stops_after_any_record_goes_on_to_the_same_sum() {
    let setting = Setting::five();
    let length = {
        let mut federation = Federation::open(&setting);
        federation.run_honestly();
        federation.journal.len()
    };
    for records in 0..length {
        let mut federation = Federation::open(&setting);
        // Stopped: what the coordinator says after so many records never leaves it.
        let mut stopped = false;
        federation.run_until(|federation| {
            stopped |= federation.journal.len() > records;
            stopped
        });
        federation.journal.truncate(records);
        let (coordinator, effects) = resume(&setting, &federation.journal).expect("its own");
        federation.restart(coordinator, effects);
        federation.run_honestly();
        assert!(
            federation.stops.is_empty(),
            "{records}: {:?}",
            federation.stops
        );
        assert!(
            federation.opening.is_some(),
            "{records}: {:?}",
            federation.failure
        );
        assert!(federation.sum() == federation.sum_in_the_clear());
        assert_eq!(federation.bare_sites(&[]), []);
    }
}

#[test]
fn a_site_that_restarts_in_mid_attempt_has_dropped_out_of_it() {
    // After its keys, its shares, its upload, its confirmation: what it would send next is lost.
    for last in 1..=4 {
        let setting = Setting::five();
        let mut federation = Federation::open(&setting);
        let mut sent = 0;
        federation.run(&mut Network::up(|from, message| {
            if from == id(2) {
                sent += 1;
            }
            (from != id(2) || sent <= last).then_some(message)
        }));
        let dealt = last >= 2;
        assert_eq!(
            federation.opening.is_some(),
            dealt,
            "five must deal, four must answer"
        );
        let journal = federation.site_journals[&id(2)].iter().copied();
        let history = History::of(setting.attempt.study, journal);
        let key = Box::new(site_key(id(2)));
        let again = Site::open(setting.terms(), id(2), key, &history, start());
        let (round, attempt) = (2, 1);
        let expected = OpenError::History(HistoryError::NotLater { round, attempt });
        assert_eq!(again.map(|_| ()), Err(expected));
    }
}

#[test]
fn a_sites_journal_is_written_before_what_it_announces_is_sent() {
    let mut federation = Federation::open(&Setting::five());
    federation.run_honestly();
    let context = *federation.terms.context();
    let journal = &federation.site_journals[&id(1)];
    let upload = federation.uploads[&id(1)].digest();
    let attempt = federation.terms.attempt();
    assert_eq!(journal[0], site::Record::Opened { context, attempt });
    let sequence = Some(7);
    assert_eq!(
        journal[1],
        site::Record::Uploaded {
            context,
            sequence,
            upload
        }
    );
    assert!(matches!(journal[2], site::Record::Confirmed { .. }));
    assert_eq!(journal[3], site::Record::Answered { context });
}

/// The journal up to and with the list of survivors, and where that is.
fn with_list(setting: &Setting) -> (Vec<Record>, usize) {
    let mut federation = Federation::open(setting);
    federation.run_honestly();
    let at = (federation.journal.iter())
        .position(|record| matches!(record, Record::Survivors(_)))
        .expect("a list");
    (federation.journal, at)
}

#[test]
fn once_a_list_is_on_disk_an_attempt_goes_on_with_that_list_only() {
    let setting = Setting::five();
    let (mut journal, at) = with_list(&setting);
    let Record::Survivors(list) = journal[at].clone() else {
        panic!("a list");
    };
    journal.truncate(at + 1);
    let (_, effects) = resume(&setting, &journal).expect("its own");
    let sent: Vec<_> = (effects.iter())
        .filter_map(|effect| match effect {
            Effect::Send {
                message: ToSite::Survivors(bytes),
                ..
            } => Some(bytes),
            _ => None,
        })
        .collect();
    assert_eq!(sent.len(), 5);
    assert!(sent.iter().all(|bytes| **bytes == list));

    // A list over other uploads, or a second one, is no journal of this attempt.
    let mut other = Survivors::from_bytes(&list[64..]).expect("its own");
    other.survivors.pop();
    let other = Record::Survivors(other.sign(setting.terms().context(), &coordinator_key()));
    journal[at] = other.clone();
    assert_eq!(
        resume(&setting, &journal).err(),
        Some(ResumeError::OtherSurvivors)
    );
    journal[at] = Record::Survivors(list);
    journal.push(other);
    let position = at + 1;
    assert_eq!(
        resume(&setting, &journal).err(),
        Some(ResumeError::OutOfOrder { position })
    );
}

#[test]
fn of_two_coordinators_on_one_attempt_sites_follow_one() {
    // The store has one writer; were there two, sites would still sign one list.
    let setting = Setting::five();
    let mut federation = Federation::open(&setting);
    let mut second_list = None;
    federation.run(&mut Network::down(|to, message| {
        if let (ToSite::Survivors(bytes), true) = (&message, to == id(1)) {
            let mut list = Survivors::from_bytes(&bytes[64..]).expect("its own");
            list.survivors.pop();
            second_list = Some(list.sign(setting.terms().context(), &coordinator_key()));
        }
        vec![message]
    }));
    let list = second_list.expect("a list came");
    for site in 1..=4 {
        federation.tell_site(id(site), ToSite::Survivors(list.clone()));
        let violation = &federation.stops[&id(site)].violation;
        assert_eq!(*violation, site::Violation::SecondSurvivors);
    }
    assert_eq!(federation.bare_sites(&[]), []);
}

#[test]
fn journals_that_an_attempt_cannot_have_written_are_refused() {
    let setting = Setting::five();
    let (journal, at) = with_list(&setting);
    let mut twice = journal.clone();
    twice.insert(1, journal[0].clone());
    assert_eq!(
        resume(&setting, &twice).err(),
        Some(ResumeError::OutOfOrder { position: 1 })
    );
    let mut early = journal.clone();
    early.swap(0, at);
    assert_eq!(
        resume(&setting, &early).err(),
        Some(ResumeError::OutOfOrder { position: 0 })
    );
    let other = Setting {
        model: b"another".to_vec(),
        ..setting
    };
    let refused = resume(&other, &journal).err();
    assert!(matches!(
        refused,
        Some(ResumeError::Refused { position: 0, .. })
    ));
}

#[test]
fn a_failed_attempt_stays_failed_after_a_restart() {
    let setting = Setting::five();
    let mut federation = Federation::open(&setting);
    federation.run(&mut Network::up(|from, message| {
        (from.0 <= 3 || matches!(message, ToCoordinator::Keys(_))).then_some(message)
    }));
    let (what, found, needed) = ("shares", 3, 5);
    let failure = Failure::TooFew {
        what,
        found,
        needed,
    };
    assert_eq!(federation.failure, Some(failure.clone()));
    let (coordinator, effects) = resume(&setting, &federation.journal).expect("its own");
    assert_eq!(coordinator.failure(), Some(&failure));
    assert!(effects.is_empty());
    // What it did not hear in time is too late.
    let late = (federation.said.iter())
        .find(|(from, message)| *from == id(5) && matches!(message, ToCoordinator::Shares(_)))
        .expect("it did deal")
        .1
        .clone();
    federation.restart(coordinator, effects);
    federation.tell_coordinator(id(5), late);
    let (phase, input) = ("failed", "shares");
    assert_eq!(
        federation.refusals,
        [(id(5), Refusal::OutOfPhase { phase, input })]
    );
}

#[test]
fn an_outcome_is_kept_and_told_to_those_who_confirmed() {
    let setting = Setting::five();
    let mut federation = Federation::open(&setting);
    federation.run_honestly();
    let (sum, model) = (federation.sum().digest(), [8; 32]);
    federation.publish(sum, model);
    federation.run_honestly();
    for site in federation.sites.values() {
        assert_eq!(site.ending(), Some(&site::Ending::Concluded));
    }
    let (coordinator, effects) = resume(&setting, &federation.journal).expect("its own");
    assert_eq!(coordinator.phase(), "published");
    assert_eq!(effects.len(), 5);
}

//! Lists of survivors that a lying coordinator may send, and requests out of turn.

use super::simulator::{Federation, Network, Setting, coordinator_key, forge, id, site_key};
use crate::secagg::{
    SiteId, Unbelieved,
    message::{
        Complaint, Confirm, Confirmations, Outcome, Survivor, Survivors, ToCoordinator, ToSite,
    },
    signature::{Body, Kind},
    site::Violation,
};

const VICTIM: SiteId = SiteId(2);

/// Sends the victim a list that the coordinator signed and should not have.
fn with_list(change: impl Fn(&mut Survivors)) -> Federation {
    let setting = Setting::five();
    let mut federation = Federation::open(&setting);
    let terms = setting.terms();
    federation.run(&mut Network::down(|to, message| match message {
        ToSite::Survivors(bytes) if to == VICTIM => {
            vec![ToSite::Survivors(forge(&bytes, &terms, &change))]
        }
        other => vec![other],
    }));
    federation
}

#[track_caller]
fn refuses(change: impl Fn(&mut Survivors), violation: Violation) {
    with_list(change).assert_stopped(VICTIM, &violation);
}

fn without(list: &mut Survivors, site: SiteId) {
    list.survivors.retain(|survivor| survivor.site != site);
}

#[test]
fn a_site_that_uploaded_and_is_left_out_stops() {
    refuses(|list| without(list, VICTIM), Violation::LeftOut);
}

#[test]
fn a_site_that_is_listed_with_another_upload_stops() {
    let change = |list: &mut Survivors| {
        for survivor in list.survivors.iter_mut().filter(|it| it.site == VICTIM) {
            survivor.upload[0] ^= 1;
        }
    };
    refuses(change, Violation::OtherUpload);
}

#[test]
fn a_list_with_a_site_twice_is_refused() {
    let change = |list: &mut Survivors| list.survivors.insert(2, list.survivors[1]);
    refuses(change, Violation::Unsorted(id(2)));
}

#[test]
fn a_list_out_of_order_is_refused() {
    refuses(|list| list.survivors.swap(2, 3), Violation::Unsorted(id(3)));
}

#[test]
fn a_survivor_outside_the_cohort_is_refused() {
    let change = |list: &mut Survivors| {
        list.survivors.push(Survivor {
            site: id(99),
            upload: [1; 32],
        });
    };
    refuses(change, Violation::UnknownSurvivor(id(99)));
}

#[test]
fn a_survivor_that_dealt_no_shares_is_refused() {
    let setting = Setting {
        threshold: 4,
        sites: 6,
        ..Setting::five()
    };
    let mut federation = Federation::open(&setting);
    let terms = setting.terms();
    federation.run(&mut Network {
        up: Box::new(|from, message| match message {
            ToCoordinator::Shares(_) if from == id(6) => None,
            other => Some(other),
        }),
        down: Box::new(|to, message| match message {
            ToSite::Survivors(bytes) if to == VICTIM => {
                let add = |list: &mut Survivors| {
                    list.survivors.push(Survivor {
                        site: id(6),
                        upload: [1; 32],
                    });
                };
                vec![ToSite::Survivors(forge(&bytes, &terms, add))]
            }
            other => vec![other],
        }),
    });
    federation.assert_stopped(VICTIM, &Violation::UnknownSurvivor(id(6)));
}

#[test]
fn one_survivor_less_than_the_threshold_is_refused() {
    let change = |list: &mut Survivors| {
        without(list, id(4));
        without(list, id(5));
    };
    let (found, needed) = (3, 4);
    refuses(change, Violation::TooFewSurvivors { found, needed });
}

#[test]
fn a_list_for_other_dealers_is_refused() {
    refuses(|list| list.peers[5] ^= 1, Violation::OtherDealers);
}

#[test]
fn a_list_that_the_coordinator_did_not_sign_is_refused() {
    let setting = Setting::five();
    let mut federation = Federation::open(&setting);
    federation.run(&mut Network::down(|to, message| match message {
        ToSite::Survivors(mut bytes) if to == VICTIM => {
            *bytes.last_mut().expect("not empty") ^= 1;
            vec![ToSite::Survivors(bytes)]
        }
        other => vec![other],
    }));
    let unbelieved = Unbelieved::Signature(Kind::Survivors);
    federation.assert_stopped(VICTIM, &Violation::Unbelieved(unbelieved));
}

#[test]
fn a_second_list_for_one_attempt_stops_the_site_and_is_kept_as_proof() {
    let setting = Setting::five();
    let mut federation = Federation::open(&setting);
    let terms = setting.terms();
    let mut lists = Vec::new();
    federation.run(&mut Network::down(|to, message| match message {
        ToSite::Survivors(bytes) if to == VICTIM => {
            let second = forge(&bytes, &terms, |list| without(list, id(5)));
            lists = vec![bytes.clone(), second.clone()];
            vec![ToSite::Survivors(bytes), ToSite::Survivors(second)]
        }
        other => vec![other],
    }));
    federation.assert_stopped(VICTIM, &Violation::SecondSurvivors);
    let complaint = federation.stops[&VICTIM].complaint.bytes();
    let complaint = Complaint::from_bytes(&complaint[64..]).expect("ours");
    assert_eq!(complaint.evidence, lists);
    for list in lists {
        let key = terms.coordinator();
        Survivors::verified(&list, terms.context(), key).expect("signed by the coordinator");
    }
}

#[test]
fn a_second_list_after_the_answer_is_found_as_well() {
    let setting = Setting::five();
    let mut federation = Federation::open(&setting);
    let terms = setting.terms();
    federation.run_honestly();
    let list = (federation.heard.iter())
        .find_map(|(to, message)| match message {
            ToSite::Survivors(bytes) if *to == VICTIM => Some(bytes.clone()),
            _ => None,
        })
        .expect("a list");
    let second = forge(&list, &terms, |list| without(list, id(5)));
    federation.tell_site(VICTIM, ToSite::Survivors(second));
    let found = &federation.stops[&VICTIM].violation;
    assert_eq!(*found, Violation::SecondSurvivors);
}

#[test]
fn the_same_list_again_gets_the_same_confirmation_byte_for_byte() {
    let mut federation = Federation::open(&Setting::five());
    federation.run(&mut Network::down(|_, message| {
        vec![message.clone(), message]
    }));
    assert!(federation.opening.is_some() && federation.stops.is_empty());
    let confirms: Vec<_> = (federation.said.iter())
        .filter(|(from, message)| *from == VICTIM && matches!(message, ToCoordinator::Confirm(_)))
        .collect();
    assert!(confirms.len() > 1 && confirms.iter().all(|it| *it == confirms[0]));
}

/// Sends the victim other confirmations than it should get.
fn with_confirmations(change: impl Fn(&mut Vec<Vec<u8>>)) -> Federation {
    let mut federation = Federation::open(&Setting::five());
    federation.run(&mut Network::down(|to, message| match message {
        ToSite::Confirmations(bytes) if to == VICTIM => {
            let mut list = Confirmations::from_bytes(&bytes).expect("the coordinator's own");
            change(&mut list.0);
            vec![ToSite::Confirmations(list.to_bytes())]
        }
        other => vec![other],
    }));
    federation
}

#[test]
fn one_confirmation_less_than_the_threshold_opens_nothing() {
    let (found, needed) = (3, 4);
    with_confirmations(|list| list.truncate(3))
        .assert_stopped(VICTIM, &Violation::TooFewConfirmations { found, needed });
}

#[test]
fn a_site_that_confirms_twice_counts_once() {
    let federation = with_confirmations(|list| {
        list.truncate(3);
        list.push(list[2].clone());
    });
    federation.assert_stopped(VICTIM, &Violation::Unsorted(id(3)));
}

#[test]
fn a_confirmation_for_another_attempt_does_not_count() {
    let other = Setting {
        model: b"another".to_vec(),
        ..Setting::five()
    }
    .context();
    let federation = with_confirmations(|list| {
        let confirm = Confirm::from_bytes(&list[0][64..]).expect("a confirmation");
        list[0] = confirm.sign(&other, &site_key(confirm.from));
    });
    let unbelieved = Unbelieved::Signature(Kind::Confirm);
    federation.assert_stopped(VICTIM, &Violation::Unbelieved(unbelieved));
}

#[test]
fn a_confirmation_that_the_coordinator_signed_itself_does_not_count() {
    let terms = Setting::five().terms();
    let federation = with_confirmations(|list| {
        let confirm = Confirm::from_bytes(&list[0][64..]).expect("a confirmation");
        list[0] = confirm.sign(terms.context(), &coordinator_key());
    });
    let unbelieved = Unbelieved::Signature(Kind::Confirm);
    federation.assert_stopped(VICTIM, &Violation::Unbelieved(unbelieved));
}

#[test]
fn shares_are_not_opened_before_the_site_has_confirmed() {
    let mut federation = Federation::open(&Setting::five());
    federation.run(&mut Network::down(|to, message| match message {
        ToSite::Survivors(_) if to == VICTIM => {
            vec![ToSite::Confirmations(Confirmations(vec![]).to_bytes())]
        }
        other => vec![other],
    }));
    federation.assert_stopped(VICTIM, &Violation::UnmaskBeforeConfirm);
}

#[test]
fn shares_are_not_opened_twice_for_other_confirmations() {
    let mut federation = Federation::open(&Setting::five());
    federation.run(&mut Network::down(|to, message| match message {
        ToSite::Confirmations(bytes) if to == VICTIM => {
            let mut list = Confirmations::from_bytes(&bytes).expect("the coordinator's own");
            list.0.pop();
            let other = ToSite::Confirmations(list.to_bytes());
            vec![ToSite::Confirmations(bytes), other]
        }
        other => vec![other],
    }));
    assert_eq!(federation.stops[&VICTIM].violation, Violation::AskedTwice);
    let answers = (federation.said.iter())
        .filter(|(from, message)| *from == VICTIM && matches!(message, ToCoordinator::Unmask(_)));
    assert_eq!(answers.count(), 1);
}

#[test]
fn messages_out_of_turn_end_the_attempt() {
    let mut federation = Federation::open(&Setting::five());
    let early = ToSite::PeerShares(vec![]);
    let violation = Violation::out_of_order("awaiting keys", &early);
    federation.tell_site(VICTIM, early);
    federation.assert_stopped(VICTIM, &violation);
}

#[test]
fn an_outcome_over_other_uploads_is_refused() {
    let setting = Setting::five();
    let terms = setting.terms();
    let mut federation = Federation::open(&setting);
    federation.run_honestly();
    let outcome = Outcome {
        survivors: [9; 32],
        sum: [0; 32],
        model: [0; 32],
    };
    let message = outcome.sign(terms.context(), &coordinator_key());
    federation.tell_site(VICTIM, ToSite::Outcome(message));
    let found = &federation.stops[&VICTIM].violation;
    assert_eq!(*found, Violation::OtherOutcome);
}

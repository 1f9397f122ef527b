//! Keys that were put in place of others.

use super::simulator::{Federation, Network, Setting, coordinator_key, id, site_key};
use crate::secagg::{
    SiteId, Unbelieved,
    coordinator::Refusal,
    message::{PairKey, PairKeys, ToCoordinator, ToSite},
    signature::{Body, Kind},
    site::Violation,
};

const VICTIM: SiteId = SiteId(2);

/// Sends the victim other keys than its peers made for it.
fn with_keys(change: impl Fn(&mut Vec<Vec<u8>>)) -> Federation {
    let mut federation = Federation::open(&Setting::five());
    federation.run(&mut Network::down(|to, message| match message {
        ToSite::PeerKeys(bytes) if to == VICTIM => {
            let mut list = PairKeys::from_bytes(&bytes).expect("the coordinator's own");
            change(&mut list.0);
            vec![ToSite::PeerKeys(list.to_bytes())]
        }
        other => vec![other],
    }));
    federation
}

#[track_caller]
fn refuses(change: impl Fn(&mut Vec<Vec<u8>>), violation: Violation) {
    with_keys(change).assert_stopped(VICTIM, &violation);
}

fn key_in(message: &[u8]) -> PairKey {
    PairKey::from_bytes(&message[64..]).expect("a signed key")
}

/// The first key for the victim, changed and signed again with its maker's own key: sites may lie.
fn first_changed(change: impl Fn(&mut PairKey)) -> impl Fn(&mut Vec<Vec<u8>>) {
    let terms = Setting::five().terms();
    move |list| {
        let mut key = key_in(&list[0]);
        let maker = key.from;
        change(&mut key);
        list[0] = key.sign(terms.context(), &site_key(maker));
    }
}

fn broken() -> Violation {
    Violation::Unbelieved(Unbelieved::Signature(Kind::PairKey))
}

#[test]
fn a_key_that_the_coordinator_put_in_place_of_a_peers_is_found() {
    let terms = Setting::five().terms();
    let put = |list: &mut Vec<Vec<u8>>| {
        let mut key = key_in(&list[0]);
        key.key = [9; 32];
        list[0] = key.sign(terms.context(), &coordinator_key());
    };
    refuses(put, broken());
}

#[test]
fn a_key_with_a_changed_byte_is_found() {
    let change = |list: &mut Vec<Vec<u8>>| *list[1].last_mut().expect("not empty") ^= 1;
    refuses(change, broken());
}

#[test]
fn a_key_of_one_site_is_not_taken_as_that_of_another() {
    refuses(first_changed(|key| key.from = id(3)), broken());
}

#[test]
fn a_key_that_a_peer_made_for_somebody_else_is_refused() {
    let (from, to) = (id(1), id(4));
    refuses(
        first_changed(|key| key.to = id(4)),
        Violation::ForAnother { from, to },
    );
}

#[test]
fn a_key_from_outside_the_cohort_is_refused() {
    let stranger = Violation::Unbelieved(Unbelieved::Stranger(Kind::PairKey));
    refuses(first_changed(|key| key.from = id(77)), stranger);
}

#[test]
fn a_key_of_another_attempt_is_refused() {
    let other = Setting {
        model: b"another".to_vec(),
        ..Setting::five()
    }
    .context();
    let replay = |list: &mut Vec<Vec<u8>>| {
        let key = key_in(&list[0]);
        list[0] = key.sign(&other, &site_key(key.from));
    };
    refuses(replay, broken());
}

#[test]
fn two_sites_with_the_same_key_are_refused() {
    let copy = |list: &mut Vec<Vec<u8>>| {
        let terms = Setting::five().terms();
        let mut second = key_in(&list[1]);
        second.key = key_in(&list[0]).key;
        list[1] = second.sign(terms.context(), &site_key(second.from));
    };
    refuses(copy, Violation::SharedKey(id(1), id(3)));
}

#[test]
fn a_site_that_comes_twice_is_refused() {
    refuses(|list| list[1] = list[0].clone(), Violation::Unsorted(id(1)));
}

#[test]
fn a_sites_own_keys_sent_back_to_it_are_found() {
    // As its own, and as a peer's.
    let setting = Setting::five();
    let mut own = None;
    let mut federation = Federation::open(&setting);
    federation.run(&mut Network {
        up: Box::new(|from, message| {
            if let (true, ToCoordinator::Keys(bytes)) = (from == VICTIM, &message) {
                own = Some(PairKeys::from_bytes(bytes).expect("its own").0[0].clone());
            }
            Some(message)
        }),
        down: Box::new(|_, _| vec![]),
    });
    let own = own.expect("keys went up");
    let reflected = ToSite::PeerKeys(PairKeys(vec![own.clone()]).to_bytes());
    federation.tell_site(VICTIM, reflected);
    federation.assert_stopped(VICTIM, &Violation::Reflected(VICTIM));

    let mut federation = Federation::open(&setting);
    let made = (federation.said.iter())
        .find_map(|(from, message)| match message {
            ToCoordinator::Keys(bytes) if *from == VICTIM => PairKeys::from_bytes(bytes).ok(),
            _ => None,
        })
        .expect("keys went up");
    let mut copied = key_in(&made.0[0]);
    (copied.from, copied.to) = (id(1), VICTIM);
    let terms = setting.terms();
    let message = copied.sign(terms.context(), &site_key(id(1)));
    federation.tell_site(VICTIM, ToSite::PeerKeys(PairKeys(vec![message]).to_bytes()));
    federation.assert_stopped(VICTIM, &Violation::Reflected(id(1)));
}

#[test]
fn a_key_of_low_order_is_refused() {
    refuses(
        first_changed(|key| key.key = [0; 32]),
        Violation::LowOrderKey(id(1)),
    );
}

#[test]
fn keys_of_31_and_33_bytes_are_not_keys() {
    for length in [31_usize, 33] {
        let mut federation = Federation::open(&Setting::five());
        federation.run(&mut Network::down(|to, message| match message {
            ToSite::PeerKeys(bytes) if to == VICTIM => {
                let mut list = bytes[..2 + 100].to_vec();
                list[1] = 1;
                list.resize(2 + 68 + length, 7);
                vec![ToSite::PeerKeys(list)]
            }
            other => vec![other],
        }));
        let malformed = Violation::Unbelieved(Unbelieved::Malformed(Kind::PairKey));
        federation.assert_stopped(VICTIM, &malformed);
    }
}

#[test]
fn fewer_keys_than_the_threshold_are_too_few() {
    let (found, needed) = (3, 4);
    refuses(
        |list| list.truncate(2),
        Violation::TooFewKeys { found, needed },
    );
}

#[test]
fn the_coordinator_takes_no_message_of_one_site_over_the_connection_of_another() {
    let mut federation = Federation::open(&Setting::five());
    let message = (federation.said.iter())
        .find_map(|(from, message)| (*from == id(1)).then(|| message.clone()))
        .expect("keys went up");
    federation.tell_coordinator(id(3), message);
    let refusal = Refusal::OtherSender {
        from: id(3),
        claimed: id(1),
    };
    assert_eq!(federation.refusals, [(id(3), refusal)]);
}

#[test]
fn the_coordinator_takes_keys_for_exactly_the_peers() {
    let mut federation = Federation::open(&Setting::five());
    federation.run(&mut Network::up(|from, message| match message {
        ToCoordinator::Keys(bytes) if from == id(3) => {
            let mut list = PairKeys::from_bytes(&bytes).expect("its own");
            list.0.pop();
            Some(ToCoordinator::Keys(list.to_bytes()))
        }
        other => Some(other),
    }));
    assert_eq!(federation.refusals[0], (id(3), Refusal::OtherPeers(id(3))));
}

#[test]
fn a_site_outside_the_cohort_is_not_heard() {
    let mut federation = Federation::open(&Setting::five());
    federation.tell_coordinator(id(88), ToCoordinator::Keys(vec![]));
    assert_eq!(
        federation.refusals,
        [(id(88), Refusal::NotInCohort(id(88)))]
    );
}

#[test]
fn a_second_answer_of_a_site_does_not_count() {
    let setting = Setting::five();
    let mut federation = Federation::open(&setting);
    let mut again = Federation::open(&setting);
    let of_three = |federation: &Federation| {
        (federation.said.iter())
            .find_map(|(from, message)| (*from == id(3)).then(|| message.clone()))
            .expect("keys went up")
    };
    let other = of_three(&again);
    again.stops.clear();
    federation.tell_coordinator(id(3), of_three(&federation));
    federation.tell_coordinator(id(3), of_three(&federation));
    assert!(
        federation.refusals.is_empty(),
        "a repeat is no second answer"
    );
    federation.tell_coordinator(id(3), other);
    assert_eq!(federation.refusals, [(id(3), Refusal::Answered(id(3)))]);
}

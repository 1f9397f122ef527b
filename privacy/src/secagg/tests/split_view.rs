//! A coordinator that tells sites different things, alone or with sites that work with it.

use std::collections::{BTreeMap, BTreeSet};

use super::simulator::{Federation, Network, Setting, coordinator_key, forge, id, site_key};
use crate::secagg::{
    Limits, SiteId,
    message::{Confirm, Confirmations, PeerShares, Survivors, ToCoordinator, ToSite},
    signature::Body,
    site::Violation,
};

/// Nine sites, six needed, two of which (8 and 9) work with the coordinator.
fn nine() -> Setting {
    Setting {
        sites: 9,
        threshold: 6,
        limits: Limits {
            min_cohort: 5,
            colluding: 2,
            honest: 3,
        },
        ..Setting::five()
    }
}

const COLLUDING: [SiteId; 2] = [SiteId(8), SiteId(9)];

/// Tells each honest site the list that `list_of` gives it, and confirms with everything that the
/// coordinator has: what honest sites said of the same list, and what colluding sites sign.
fn attack(setting: &Setting, list_of: impl Fn(SiteId) -> BTreeSet<SiteId>) -> Federation {
    let terms = setting.terms();
    let mut federation = Federation::open(setting);
    let mut lists: BTreeMap<SiteId, Vec<u8>> = BTreeMap::new();
    let mut confirms: Vec<Vec<u8>> = Vec::new();
    // The honest coordinator's own messages stop at the lists: from there on the attacker speaks.
    federation.run(&mut Network {
        up: Box::new(|from, message| match message {
            ToCoordinator::Confirm(bytes) => {
                if !COLLUDING.contains(&from) {
                    confirms.push(bytes);
                }
                None
            }
            other => Some(other),
        }),
        down: Box::new(|to, message| match message {
            ToSite::Survivors(bytes) if !COLLUDING.contains(&to) => {
                let keep = list_of(to);
                let list = forge(&bytes, &terms, |list: &mut Survivors| {
                    list.survivors
                        .retain(|survivor| keep.contains(&survivor.site));
                });
                lists.insert(to, list.clone());
                vec![ToSite::Survivors(list)]
            }
            other => vec![other],
        }),
    });
    for (to, list) in &lists {
        let digest = Survivors::from_bytes(&list[64..])
            .expect("a list")
            .digest(terms.context());
        let honest = confirms.iter().filter_map(|message| {
            let confirm = Confirm::from_bytes(&message[64..]).expect("a site's own");
            (confirm.survivors == digest).then(|| (confirm.from, message.clone()))
        });
        let colluding = COLLUDING.iter().map(|site| {
            let confirm = Confirm {
                from: *site,
                survivors: digest,
            };
            (*site, confirm.sign(terms.context(), &site_key(*site)))
        });
        let all: BTreeMap<_, _> = honest.chain(colluding).collect();
        let message = Confirmations(all.into_values().collect()).to_bytes();
        federation.tell_site(*to, ToSite::Confirmations(message));
    }
    federation
}

fn all_but(left_out: &[u16]) -> BTreeSet<SiteId> {
    (1..=9)
        .filter(|site| !left_out.contains(site))
        .map(id)
        .collect()
}

#[test]
fn the_threshold_rule_admits_six_of_nine_with_two_colluding() {
    assert_eq!(nine().limits.least_threshold(9), 6);
}

/// Sites 1 to 4 are told that 7 dropped out, sites 5 to 7 that 1 did.
fn halves(site: SiteId) -> BTreeSet<SiteId> {
    match site.0 <= 4 {
        true => all_but(&[7]),
        false => all_but(&[1]),
    }
}

#[test]
fn two_halves_with_different_survivors_cannot_both_answer() {
    let federation = attack(&nine(), halves);
    for site in 5..=7 {
        let (found, needed) = (5, 6);
        let violation = Violation::TooFewConfirmations { found, needed };
        federation.assert_stopped(id(site), &violation);
    }
    assert_eq!(federation.bare_sites(&COLLUDING), []);
    assert!(!federation.seen.is_empty(), "the larger half did answer");
}

#[test]
fn with_a_threshold_below_the_rule_the_same_coordinator_bares_updates() {
    // Two sites collude where the sites' limits say that none does.
    let mut setting = nine();
    setting.limits.colluding = 0;
    setting.threshold = setting.limits.least_threshold(9);
    assert_eq!(setting.threshold, 5);
    assert_eq!(
        attack(&setting, halves).bare_sites(&COLLUDING),
        [id(1), id(7)]
    );
}

/// The attack that confirmations are there for (SECAGG §6.2): every honest site is told of three
/// dead among sites 1 to 5, never of itself, so that each of the five is dead for four honest
/// sites, and every list has six survivors.
fn dead_for(site: SiteId) -> [u16; 3] {
    match site.0 {
        victim @ 1..=5 => [1, 2, 3].map(|step| (victim - 1 + step) % 5 + 1),
        6 => [1, 2, 3],
        _ => [4, 5, 1],
    }
}

#[test]
fn a_different_list_for_every_site_opens_nothing() {
    let federation = attack(&nine(), |site| all_but(&dead_for(site)));
    assert!(federation.seen.is_empty(), "no share has left any site");
    for site in (1..=7).map(id) {
        // Sites 3 and 7 were told the same, and so were 5 and 6; the rest is the colluding two.
        let alike =
            (1..=7).filter(|other| all_but(&dead_for(id(*other))) == all_but(&dead_for(site)));
        let (found, needed) = (alike.count() + 2, 6);
        assert!(found <= 4);
        let violation = Violation::TooFewConfirmations { found, needed };
        federation.assert_stopped(site, &violation);
    }
}

#[test]
fn without_confirmations_those_lists_would_leave_a_sum_over_two_honest_sites() {
    let honest = || (1..=7).map(id);
    for list in honest().map(|site| all_but(&dead_for(site))) {
        assert!(list.len() >= nine().threshold);
    }
    let opened_as = |dealer: u16, dead: bool| {
        honest()
            .filter(|site| dead_for(*site).contains(&dealer) == dead)
            .count()
            + COLLUDING.len()
    };
    // The masks between sites 6 and 7 and all others can be taken away, and their own masks too.
    assert!((1..=5).all(|victim| opened_as(victim, true) >= nine().threshold));
    assert!(
        [6, 7]
            .iter()
            .all(|site| opened_as(*site, false) >= nine().threshold)
    );
}

#[test]
fn sites_that_are_told_of_different_dealers_do_not_confirm_one_list() {
    let setting = nine();
    let terms = setting.terms();
    let mut federation = Federation::open(&setting);
    federation.run(&mut Network::down(|to, message| match message {
        // The first half hears that site 9 dealt nothing.
        ToSite::PeerShares(bytes) if to.0 <= 4 => {
            let mut shares = PeerShares::from_bytes(&bytes[64..]).expect("the coordinator's own");
            shares.peers.retain(|peer| peer.from != id(9));
            let key = coordinator_key();
            vec![ToSite::PeerShares(shares.sign(terms.context(), &key))]
        }
        other => vec![other],
    }));
    // An honest coordinator finds their trailers to speak of others; a lying one gets no further,
    // for the list names dealers that one half does not know.
    assert!(federation.opening.is_none());
    let refused: BTreeSet<_> = federation.refusals.iter().map(|(site, _)| *site).collect();
    assert!((1..=4).all(|site| refused.contains(&id(site))));
}

#[test]
fn a_list_for_the_dealers_of_one_half_stops_the_other() {
    let setting = nine();
    let terms = setting.terms();
    let mut federation = Federation::open(&setting);
    federation.run(&mut Network::down(|to, message| match message {
        ToSite::Survivors(bytes) if to.0 <= 4 => {
            let list = forge(&bytes, &terms, |list: &mut Survivors| list.peers = [7; 32]);
            vec![ToSite::Survivors(list)]
        }
        other => vec![other],
    }));
    for site in 1..=4 {
        federation.assert_stopped(id(site), &Violation::OtherDealers);
    }
}

#[test]
fn sites_that_start_from_different_models_get_masks_that_do_not_cancel() {
    let setting = Setting::five();
    let other = Setting {
        model: b"a model made for one site".to_vec(),
        ..setting.clone()
    };
    let mut federation = Federation::open_each(&setting, |site| match site == id(3) {
        true => other.terms(),
        false => setting.terms(),
    });
    federation.run_honestly();
    // Its signatures fit no other context: it is as good as silent, and stops when it is told of
    // peers that it cannot believe.
    assert!(federation.refusals.iter().any(|(site, _)| *site == id(3)));
    federation.assert_nothing_released_by(id(3));
    assert!(
        federation.opening.is_none(),
        "five sites are asked for by the others' limits"
    );
}

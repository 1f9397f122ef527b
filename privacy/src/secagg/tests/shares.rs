//! Sites that deal, hold or open shares badly.

use std::cell::Cell;

use super::simulator::{Federation, Network, Setting, coordinator_key, id, site_key, start};
use crate::{
    keystream::{Keystream, MasterSecret},
    secagg::{
        SiteId,
        context::sha256,
        coordinator::{self, Failure, Refusal},
        message::{Opened, PeerShares, Secret, Shares, ToCoordinator, ToSite, Trailer, Unmask},
        shamir,
        signature::Body,
        site::Violation,
    },
};

const LIAR: SiteId = SiteId(4);

/// A lie.
type Change<B> = fn(&mut B);

/// A federation in which one site says other things than it should, signed with its own key.
fn with_liar(change: impl Fn(ToCoordinator) -> Option<ToCoordinator>) -> Federation {
    let mut federation = Federation::open(&Setting::five());
    federation.run(&mut Network::up(|from, message| match from == LIAR {
        true => change(message),
        false => Some(message),
    }));
    federation
}

fn again<B: Body>(bytes: &[u8], change: impl FnOnce(&mut B)) -> Vec<u8> {
    let mut body = B::from_bytes(&bytes[64..]).expect("a site's own message");
    change(&mut body);
    body.sign(Setting::five().terms().context(), &site_key(LIAR))
}

fn with_dealer(change: impl Fn(&mut Shares)) -> Federation {
    with_liar(|message| match message {
        ToCoordinator::Shares(bytes) => Some(ToCoordinator::Shares(again(&bytes, &change))),
        other => Some(other),
    })
}

fn with_answer(change: impl Fn(&mut Unmask)) -> Federation {
    with_liar(|message| match message {
        ToCoordinator::Unmask(bytes) => Some(ToCoordinator::Unmask(again(&bytes, &change))),
        other => Some(other),
    })
}

#[track_caller]
fn fails(federation: &Federation, failure: Failure) {
    assert_eq!(federation.failure, Some(failure));
    assert!(federation.opening.is_none());
}

#[test]
fn edges_that_two_sites_commit_to_differently_end_the_attempt_before_anything_is_uploaded() {
    let federation = with_dealer(|shares| shares.dealt[1].edge[0] ^= 1);
    fails(&federation, Failure::Disputed(vec![(id(2), LIAR)]));
    assert!(federation.uploads.is_empty());
}

#[test]
fn shares_that_do_not_open_stop_their_reader_and_name_the_pair() {
    let federation = with_dealer(|shares| shares.dealt[1].sealed[5] ^= 1);
    federation.assert_stopped(id(2), &Violation::DoesNotOpen(LIAR));
    fails(&federation, Failure::Disputed(vec![(LIAR, id(2))]));
}

#[test]
fn shares_sealed_for_one_site_do_not_open_at_another() {
    let federation = with_dealer(|shares| {
        shares.dealt[0].sealed = shares.dealt[1].sealed;
    });
    federation.assert_stopped(id(1), &Violation::DoesNotOpen(LIAR));
}

#[test]
fn a_dealer_that_commits_to_other_shares_than_it_sealed_is_found_before_anything_is_opened() {
    let federation = with_dealer(|shares| shares.dealt[0].shares[0][0] ^= 1);
    fails(&federation, Failure::Disputed(vec![(LIAR, id(1))]));
    assert!(federation.seen.is_empty(), "no share has left any site");
}

#[test]
fn a_dealer_whose_shares_give_another_secret_is_proved_guilty() {
    // It must look as if all were well until its self mask is opened: it hides from its own state
    // machine that it committed to another secret, and says in its trailer what the others say.
    let terms = Setting::five().terms();
    let honest = Cell::new([0; 32]);
    let dealers = Cell::new([0; 32]);
    let mut federation = Federation::open(&Setting::five());
    federation.run(&mut Network {
        up: Box::new(|from, message| match message {
            ToCoordinator::Shares(bytes) if from == LIAR => {
                honest.set(sha256(&[&bytes]));
                let change = |shares: &mut Shares| shares.secrets[0][0] ^= 1;
                Some(ToCoordinator::Shares(again(&bytes, change)))
            }
            ToCoordinator::Trailer(bytes) if from == LIAR => {
                let change = |trailer: &mut Trailer| trailer.peers = dealers.get();
                Some(ToCoordinator::Trailer(again(&bytes, change)))
            }
            ToCoordinator::Trailer(bytes) => {
                dealers.set(
                    Trailer::from_bytes(&bytes[64..])
                        .expect("a site's own")
                        .peers,
                );
                Some(ToCoordinator::Trailer(bytes))
            }
            other => Some(other),
        }),
        down: Box::new(|to, message| match message {
            ToSite::PeerShares(bytes) if to == LIAR => {
                let mut shares = PeerShares::from_bytes(&bytes[64..]).expect("a coordinator's");
                shares.peers[3].digest = honest.get();
                vec![ToSite::PeerShares(
                    shares.sign(terms.context(), &coordinator_key()),
                )]
            }
            other => vec![other],
        }),
    });
    fails(&federation, Failure::BadDealer(LIAR));
}

#[test]
fn an_escrow_that_does_not_open_proves_its_dealer_guilty() {
    let federation = with_liar(|message| match message {
        ToCoordinator::Shares(bytes) => {
            let change = |shares: &mut Shares| shares.escrow[3] ^= 1;
            Some(ToCoordinator::Shares(again(&bytes, change)))
        }
        ToCoordinator::Trailer(_) => None,
        other => Some(other),
    });
    fails(&federation, Failure::BadDealer(LIAR));
}

#[test]
fn an_escrow_key_that_was_not_committed_to_proves_its_dealer_guilty() {
    let federation = with_liar(|message| match message {
        ToCoordinator::Shares(bytes) => {
            let change = |shares: &mut Shares| shares.secrets[1][0] ^= 1;
            Some(ToCoordinator::Shares(again(&bytes, change)))
        }
        ToCoordinator::Trailer(_) => None,
        other => Some(other),
    });
    fails(&federation, Failure::BadDealer(LIAR));
}

#[test]
fn a_tampered_share_is_left_out_and_its_holder_blamed() {
    let federation = with_answer(|answer| {
        if let (_, Opened::SelfMask(share)) = &mut answer.opened[0] {
            share[0] ^= 1;
        }
    });
    assert_eq!(federation.blamed, [(LIAR, id(1))]);
    // Five answers, four needed: the others are enough.
    assert!(federation.opening.is_some());
    assert!(federation.sum() == federation.sum_in_the_clear());
}

#[test]
fn tampered_shares_below_the_threshold_open_nothing() {
    let mut federation = Federation::open(&Setting::five());
    federation.run(&mut Network::up(|from, message| match message {
        ToCoordinator::Unmask(bytes) if from.0 >= 4 => {
            let mut answer = Unmask::from_bytes(&bytes[64..]).expect("a site's own");
            if let (_, Opened::SelfMask(share)) = &mut answer.opened[0] {
                share[0] ^= 1;
            }
            let context = *Setting::five().terms().context();
            Some(ToCoordinator::Unmask(
                answer.sign(&context, &site_key(from)),
            ))
        }
        other => Some(other),
    }));
    fails(&federation, Failure::TooFewShares(id(1)));
    assert_eq!(federation.blamed, [(id(4), id(1)), (id(5), id(1))]);
}

#[test]
fn the_other_secrets_share_is_not_taken() {
    let federation = with_answer(|answer| {
        let (_, first) = &mut answer.opened[0];
        *first = match std::mem::replace(first, Opened::Escrow(Secret::default())) {
            Opened::SelfMask(share) | Opened::Escrow(share) => Opened::Escrow(share),
        };
    });
    assert!(
        federation
            .refusals
            .contains(&(LIAR, Refusal::OtherShares(LIAR)))
    );
}

#[test]
fn shares_of_another_dealer_or_of_one_twice_are_not_taken() {
    let changes: [Change<Unmask>; 3] = [
        |answer| answer.opened[0].0 = id(9),
        |answer| answer.opened[1] = answer.opened[0].clone(),
        |answer| answer.opened.truncate(2),
    ];
    for change in changes {
        let federation = with_answer(change);
        assert!(
            federation
                .refusals
                .contains(&(LIAR, Refusal::OtherShares(LIAR)))
        );
    }
}

#[test]
fn an_answer_for_another_list_is_not_taken() {
    let federation = with_answer(|answer| answer.survivors[0] ^= 1);
    assert!(
        federation
            .refusals
            .contains(&(LIAR, Refusal::OtherSurvivors(LIAR)))
    );
}

#[test]
fn a_trailer_that_speaks_of_another_upload_or_of_other_dealers_is_not_taken() {
    let changes: [(Change<Trailer>, Refusal); 4] = [
        (|it| it.upload[0] ^= 1, Refusal::OtherUpload(LIAR)),
        (|it| it.length += 4, Refusal::OtherUpload(LIAR)),
        (|it| it.peers[0] ^= 1, Refusal::OtherDealers(LIAR)),
        (|it| it.echoes.truncate(1), Refusal::OtherDealers(LIAR)),
    ];
    for (change, refusal) in changes {
        let federation = with_liar(|message| match message {
            ToCoordinator::Trailer(bytes) => Some(ToCoordinator::Trailer(again(&bytes, change))),
            other => Some(other),
        });
        assert_eq!(federation.refusals, [(LIAR, refusal)]);
        // The others are enough, and its mask is taken out of theirs.
        assert!(federation.sum() == federation.sum_in_the_clear());
    }
}

#[test]
fn a_trailer_without_its_upload_is_not_taken() {
    let mut federation = Federation::open(&Setting::five());
    let from = LIAR;
    let message = ToCoordinator::Trailer(vec![]);
    let input = coordinator::Input::Message { from, message };
    let refusal = federation
        .coordinator
        .handle(input, start())
        .expect_err("no upload");
    let (phase, input) = ("collecting keys", "a trailer without its upload");
    assert_eq!(refusal, Refusal::OutOfPhase { phase, input });
}

#[test]
fn shares_for_others_than_those_who_sent_keys_are_not_taken() {
    let federation = with_dealer(|shares| {
        shares.dealt.pop();
        shares.escrow.truncate(32 * shares.dealt.len() + 16);
    });
    assert_eq!(federation.refusals[0], (LIAR, Refusal::OtherPeers(LIAR)));
}

/// Sends site 2 other shares than it should get, signed by the coordinator.
fn with_shares(change: impl Fn(&mut PeerShares)) -> Federation {
    let setting = Setting::five();
    let terms = setting.terms();
    let mut federation = Federation::open(&setting);
    federation.run(&mut Network::down(|to, message| match message {
        ToSite::PeerShares(bytes) if to == id(2) => {
            let mut shares = PeerShares::from_bytes(&bytes[64..]).expect("the coordinator's own");
            change(&mut shares);
            vec![ToSite::PeerShares(
                shares.sign(terms.context(), &coordinator_key()),
            )]
        }
        other => vec![other],
    }));
    federation
}

#[test]
fn lists_of_dealers_that_break_a_rule_stop_the_site() {
    let (found, needed) = (4, 5);
    let changes: [(Change<PeerShares>, Violation); 6] = [
        (
            |it| it.to = id(3),
            Violation::ForAnother {
                from: id(2),
                to: id(3),
            },
        ),
        (|it| it.peers.swap(0, 1), Violation::Unsorted(id(1))),
        (
            |it| it.peers[1] = it.peers[0].clone(),
            Violation::Unsorted(id(1)),
        ),
        (
            |it| it.peers.truncate(4),
            Violation::TooFewDealers { found, needed },
        ),
        (
            |it| it.peers[4].from = id(9),
            Violation::UnknownDealer(id(9)),
        ),
        (|it| it.peers[1].digest[0] ^= 1, Violation::OwnSharesChanged),
    ];
    for (change, violation) in changes {
        with_shares(change).assert_stopped(id(2), &violation);
    }
}

fn coins() -> Keystream {
    Keystream::new(MasterSecret::fixed([4; 32]).into_pages())
}

#[test]
fn any_threshold_of_shares_gives_the_secret_and_one_less_gives_another() {
    let secret = Secret::new([77; 32]);
    for (threshold, holders) in [(2, 3), (3, 3), (4, 5), (17, 20), (170, 255)] {
        let shares = shamir::split(&secret, threshold, holders, &mut coins());
        assert_eq!(shares.len(), holders);
        let points: Vec<_> = (1..=255_u8).zip(&shares).collect();
        let last = &points[holders - threshold..];
        assert!(shamir::combine(last).as_ref() == Some(&secret));
        if threshold > 2 {
            assert!(shamir::combine(&last[1..]).as_ref() != Some(&secret));
        }
    }
}

#[test]
fn points_that_are_zero_or_come_twice_are_refused() {
    let shares = shamir::split(&Secret::new([7; 32]), 3, 5, &mut coins());
    assert!(shamir::combine(&[(1, &shares[0]), (1, &shares[0]), (3, &shares[2])]).is_none());
    assert!(shamir::combine(&[(0, &shares[0]), (2, &shares[1]), (3, &shares[2])]).is_none());
}

#[test]
fn the_highest_coefficient_may_be_zero() {
    // A library that never drew 0 would tell one share's holder what the secret is not: with a
    // threshold of two, a share equals the secret with probability 1/256 for each byte.
    let secret = Secret::new([0; 32]);
    let mut coins = coins();
    let zeros: usize = (0..200)
        .map(|_| {
            let shares = shamir::split(&secret, 2, 3, &mut coins);
            shares[0].iter().filter(|byte| **byte == 0).count()
        })
        .sum();
    // 6400 bytes: 25 expected, deviation 5; false alarm below 10^-5, with fixed coins none.
    assert!((5..=50).contains(&zeros), "{zeros}");
}

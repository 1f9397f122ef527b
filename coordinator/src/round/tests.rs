use consilium_proto::Digest;
use proptest::prelude::*;

use super::*;
use crate::fixture::{NOW, site, sites, spec};

const GRACE: Duration = Duration::from_secs(2);

fn round(quorum: u32) -> Round {
    Round::open(&spec(sites([1, 2, 3]), quorum), GRACE)
}

fn model(byte: u8) -> ModelDigest {
    ModelDigest(Digest::plain(&[byte]))
}

fn update(id: u16, byte: u8) -> Input {
    let receipt = Receipt {
        update: model(byte),
        weight: Some(1),
    };
    Input::UpdateStored {
        site: site(id),
        receipt,
    }
}

fn decline(id: u16) -> Input {
    Input::Declined {
        site: site(id),
        reason: DeclineReason::Failed,
    }
}

fn after(seconds: u64) -> Timestamp {
    NOW + Duration::from_secs(seconds)
}

#[test]
fn a_round_closes_when_everybody_has_answered() {
    let mut round = round(2);
    assert_eq!(round.handle(update(1, 1), after(1)), Ok(vec![]));
    assert_eq!(round.handle(decline(3), after(1)), Ok(vec![]));
    assert_eq!(
        round.handle(update(2, 2), after(1)),
        Ok(vec![Effect::Aggregate])
    );
    assert_eq!(round.updates().len(), 2);
    let aggregated = Input::Aggregated { model: model(9) };
    assert_eq!(
        round.handle(aggregated, after(2)),
        Ok(vec![Effect::Published(model(9))])
    );
}

#[test]
fn stragglers_get_half_the_time_that_the_quorum_took_and_no_more() {
    let mut round = round(2);
    round.handle(update(1, 1), after(1)).expect("in time");
    assert_eq!(round.handle(update(2, 2), after(20)), Ok(vec![]));
    assert_eq!(round.handle(Input::Tick, after(29)), Ok(vec![]));
    assert_eq!(
        round.handle(Input::Tick, after(30)),
        Ok(vec![Effect::Aggregate])
    );
    let late = Refusal::Closed { round: round.id() };
    assert_eq!(round.handle(update(3, 3), after(30)), Err(late));
}

#[test]
fn the_least_grace_holds_when_the_quorum_is_quick() {
    let mut round = round(1);
    assert_eq!(round.handle(update(1, 1), after(0)), Ok(vec![]));
    assert_eq!(round.handle(Input::Tick, after(1)), Ok(vec![]));
    assert_eq!(
        round.handle(Input::Tick, after(2)),
        Ok(vec![Effect::Aggregate])
    );
}

#[test]
fn no_grace_goes_beyond_the_deadline() {
    let mut round = round(2);
    round.handle(update(1, 1), after(58)).expect("in time");
    assert_eq!(round.handle(update(2, 1), after(59)), Ok(vec![]));
    assert_eq!(
        round.handle(Input::Tick, after(60)),
        Ok(vec![Effect::Aggregate])
    );
}

#[test]
fn without_a_quorum_a_round_fails_at_its_deadline() {
    let mut round = round(2);
    round.handle(update(1, 1), after(1)).expect("in time");
    assert_eq!(round.handle(Input::Tick, after(59)), Ok(vec![]));
    let failed = round
        .handle(Input::Tick, after(60))
        .expect("a tick is taken");
    let expected = Failure::QuorumMissed {
        received: 1,
        quorum: 2,
        declined: 0,
        reasons: BTreeMap::new(),
    };
    assert_eq!(failed, [Effect::Failed(expected)]);
}

#[test]
fn a_round_that_cannot_reach_its_quorum_fails_at_once_and_says_who_declined() {
    let mut round = round(3);
    let effects = round
        .handle(decline(2), after(1))
        .expect("a site may decline");
    let [Effect::Failed(failure)] = &effects[..] else {
        panic!("{effects:?}")
    };
    assert_eq!(
        failure.to_string(),
        "0 of 3 needed updates came, 1 sites declined (site 2: failed there)"
    );
}

#[test]
fn a_late_update_is_refused_and_changes_nothing() {
    let mut round = round(2);
    let before = round.clone();
    let refused = round.handle(update(1, 1), after(60));
    assert_eq!(refused, Err(Refusal::Closed { round: before.id() }));
    assert_eq!(round, before);
}

#[test]
fn the_same_update_again_is_success_and_another_one_is_refused() {
    let mut round = round(3);
    round.handle(update(1, 1), after(1)).expect("the first");
    let before = round.clone();
    assert_eq!(round.handle(update(1, 1), after(2)), Ok(vec![]));
    let other = Refusal::AnotherUpdate {
        site: site(1),
        round: before.id(),
        first: model(1),
    };
    assert_eq!(round.handle(update(1, 2), after(2)), Err(other));
    assert_eq!(round, before);
    round.handle(update(2, 1), after(3)).expect("the second");
    round.handle(update(3, 1), after(3)).expect("the third");
    assert_eq!(
        round.handle(update(1, 1), after(100)),
        Ok(vec![]),
        "after it has closed"
    );
    assert_eq!(round.handle(update(1, 2), after(100)), Err(other));
}

#[test]
fn sites_that_were_not_drawn_are_refused() {
    let mut round = round(1);
    let stranger = Refusal::NotInCohort {
        site: site(4),
        round: round.id(),
    };
    assert_eq!(round.handle(update(4, 1), after(1)), Err(stranger));
    assert_eq!(round.handle(decline(4), after(1)), Err(stranger));
}

#[test]
fn a_stopped_round_takes_nothing_more() {
    let mut round = round(1);
    let stopped = round.handle(Input::Abandon, after(1));
    assert_eq!(stopped, Ok(vec![Effect::Failed(Failure::Abandoned)]));
    assert!(round.handle(update(1, 1), after(1)).is_err());
    assert!(
        round
            .handle(Input::Aggregated { model: model(1) }, after(1))
            .is_err()
    );
}

fn inputs() -> impl Strategy<Value = (Input, u64)> {
    let input = prop_oneof![
        6 => (1_u16..6, 0_u8..3).prop_map(|(id, byte)| update(id, byte)),
        2 => (1_u16..6).prop_map(decline),
        2 => Just(Input::Tick),
        1 => Just(Input::Aggregated { model: model(9) }),
        1 => Just(Input::AggregationFailed { reason: "disk".into() }),
        1 => Just(Input::Abandon),
    ];
    (input, 0_u64..12)
}

proptest! {
    /// Random inputs in random order with repeats, against what must always hold.
    #[test]
    fn no_update_is_counted_twice_and_a_refusal_changes_nothing(
        quorum in 1_u32..=4,
        inputs in proptest::collection::vec(inputs(), 1..60),
    ) {
        let mut round = Round::open(&spec(sites([1, 2, 3, 4]), quorum), GRACE);
        let mut now = NOW;
        // What a site said first, by our own count.
        let mut first: BTreeMap<SiteId, Option<ModelDigest>> = BTreeMap::new();
        let mut aggregations = 0;
        for (input, seconds) in inputs {
            now = now + Duration::from_secs(seconds);
            let before = round.clone();
            let outcome = round.handle(input.clone(), now);
            let Ok(effects) = outcome else {
                prop_assert_eq!(&round, &before);
                continue;
            };
            if matches!(before.phase(), Phase::Collecting(_)) {
                match input {
                    Input::UpdateStored { site, receipt } => {
                        let said = *first.entry(site).or_insert(Some(receipt.update));
                        prop_assert_eq!(said, Some(receipt.update));
                    }
                    Input::Declined { site, .. } => {
                        prop_assert_eq!(*first.entry(site).or_insert(None), None);
                    }
                    _ => {}
                }
            }
            aggregations += effects.iter().filter(|effect| **effect == Effect::Aggregate).count();
            prop_assert!(aggregations <= 1);
            let counted: BTreeMap<_, _> =
                round.updates().into_iter().map(|(site, receipt)| (site, receipt.update)).collect();
            match round.phase() {
                Phase::Aggregating { .. } | Phase::Published { .. } => {
                    let said: BTreeMap<_, _> =
                        first.iter().filter_map(|(site, said)| Some((*site, (*said)?))).collect();
                    prop_assert!(counted.len() as u32 >= quorum);
                    prop_assert_eq!(counted, said);
                }
                Phase::Failed(_) => prop_assert!(effects.is_empty() || before != round),
                Phase::Collecting(_) => prop_assert!(now < round.deadline() || before == round),
            }
            if matches!(before.phase(), Phase::Published { .. } | Phase::Failed(_)) {
                prop_assert_eq!(&round, &before);
            }
        }
    }
}

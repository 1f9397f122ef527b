//! Lies about who survived and who confirmed.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
};

use consilium_privacy::secagg::{
    message::{Confirmations, Outcome, Survivors, ToCoordinator, ToSite},
    site::Violation,
};
use consilium_proto::{RoundId, SiteId};

use super::{Scene, Stage, forge, is_answered, locked, to_victim};
use crate::interceptor::Lies;

#[tokio::test(flavor = "multi_thread")]
async fn two_halves_that_are_told_of_different_survivors_open_nothing() {
    let stage = Stage::of_five().await;
    let (signer, ids) = (stage.middle.signer(), stage.ids.clone());
    // The first three are told of all five, the other two that the first dropped out: both lists
    // are long enough.
    let (dead, smaller) = (ids[0], ids[3]);
    let confirmed = Arc::new(Mutex::new(BTreeMap::new()));
    let known = confirmed.clone();
    let scene = stage
        .run(Lies {
            up: Box::new(move |ear, message| match message {
                ToCoordinator::Confirm(bytes) => {
                    locked(&confirmed).insert(ear.site, bytes);
                    None
                }
                other => Some(other),
            }),
            down: Box::new(move |ear, message| {
                let known = locked(&known);
                let is_smaller = ear.site >= smaller;
                if known.contains_key(&ear.site) {
                    // Whatever the true coordinator says by now. The larger half is shown all that
                    // were signed, the smaller those that agree.
                    let shown = known
                        .iter()
                        .filter(|(site, _)| !is_smaller || **site >= smaller);
                    let shown = shown.map(|(_, confirm)| confirm.clone()).collect();
                    let shown = Confirmations(shown).to_bytes();
                    return (known.len() == 5).then_some(ToSite::Confirmations(shown));
                }
                match message {
                    Some(ToSite::Survivors(list)) if is_smaller => {
                        Some(forge(&list, ear, &signer, |list| {
                            list.survivors
                                .retain(|survivor| survivor.site != dead.into());
                        }))
                    }
                    other => other,
                }
            }),
            ..Lies::none()
        })
        .await;
    for site in 0..3 {
        let other = Violation::OtherSurvivors(smaller.into());
        scene.assert_stopped(site, other).await;
    }
    for site in 3..5 {
        let (found, needed) = (2, 4);
        let few = Violation::TooFewConfirmations { found, needed };
        scene.assert_stopped(site, few).await;
    }
}

/// Shows one site a second list of survivors where the true coordinator says `instead_of`.
fn second_list(stage: &Stage, instead_of: &'static str) -> Lies {
    let (signer, other) = (stage.middle.signer(), stage.ids[1]);
    let mut first = None;
    to_victim(stage.ids[0], move |ear, message| match (message, &first) {
        (ToSite::Survivors(list), _) => {
            first = Some(list.clone());
            ToSite::Survivors(list)
        }
        (message, Some(list)) if message.name() == instead_of => {
            forge(list, ear, &signer, |list| {
                for survivor in &mut list.survivors {
                    if survivor.site == other.into() {
                        survivor.upload[0] ^= 1;
                    }
                }
            })
        }
        (message, _) => message,
    })
}

/// Two lists for one attempt, both signed by the coordinator.
fn assert_proves_cheating(scene: &Scene, round: RoundId, proof: &[Vec<u8>]) {
    let [first, second] = proof else {
        panic!("two lists are the proof");
    };
    assert_ne!(first, second);
    let Stage { middle, ids, .. } = &scene.stage;
    let context = middle.context(ids[0], round);
    for list in [first, second] {
        Survivors::verified(list, &context, &middle.public_key())
            .expect("signed by the coordinator, for this attempt");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_list_of_survivors_stops_a_site_that_keeps_both_as_proof() {
    let stage = Stage::of_three().await;
    let lies = second_list(&stage, "confirmations");
    let scene = stage.run(lies).await;
    let proof = scene.assert_stopped(0, Violation::SecondSurvivors).await;
    let complaints = scene.store(0).complaints().await.expect("readable");
    assert_proves_cheating(&scene, complaints[0].round, &proof);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_list_of_survivors_after_the_answer_is_found_as_well() {
    let stage = Stage::of_three().await;
    let lies = second_list(&stage, "an outcome");
    let scene = stage.run(lies).await;
    let (round, proof) = scene.complaint(0, &Violation::SecondSurvivors).await;
    assert_proves_cheating(&scene, round, &proof);
    let records = scene.records(0, round).await;
    let answers = records.iter().filter(|record| is_answered(record));
    assert_eq!(answers.count(), 1, "for the first list alone");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_site_that_uploaded_and_is_left_out_of_the_survivors_stops() {
    let stage = Stage::of_five().await;
    let (signer, victim) = (stage.middle.signer(), stage.ids[2]);
    let mut told = BTreeSet::new();
    let scene = stage
        .run(Lies {
            // The true coordinator would refuse them: its own list is another.
            up: Box::new(|_, message| match message {
                ToCoordinator::Confirm(_) => None,
                other => Some(other),
            }),
            down: Box::new(move |ear, message| match message {
                Some(ToSite::Survivors(list)) => told.insert(ear.site).then(|| {
                    forge(&list, ear, &signer, |list| {
                        list.survivors
                            .retain(|survivor| survivor.site != victim.into());
                    })
                }),
                other => other,
            }),
            ..Lies::none()
        })
        .await;
    scene.assert_stopped(2, Violation::LeftOut).await;
}

/// Confirmations as the coordinator changes them for one site.
async fn with_confirmations(
    change: impl Fn(&mut Vec<Vec<u8>>) + Send + 'static,
    violation: impl FnOnce(&[SiteId]) -> Violation,
) {
    let stage = Stage::of_three().await;
    let lies = to_victim(stage.ids[0], move |_, message| match message {
        ToSite::Confirmations(bytes) => {
            let mut confirmations = Confirmations::from_bytes(&bytes).expect("a list");
            change(&mut confirmations.0);
            ToSite::Confirmations(confirmations.to_bytes())
        }
        message => message,
    });
    let violation = violation(&stage.ids);
    let scene = stage.run(lies).await;
    scene.assert_stopped(0, violation).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_confirmation_less_than_the_threshold_opens_nothing() {
    let (found, needed) = (2, 3);
    with_confirmations(
        |confirmations| confirmations.truncate(2),
        |_| Violation::TooFewConfirmations { found, needed },
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_site_that_confirms_twice_counts_for_nothing() {
    with_confirmations(
        |confirmations| confirmations[2] = confirmations[1].clone(),
        |ids| Violation::Unsorted(ids[1].into()),
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_site_that_has_confirmed_nothing_opens_nothing() {
    let stage = Stage::of_three().await;
    let victim = stage.ids[0];
    let confirmed = Arc::new(Mutex::new(BTreeMap::new()));
    let known = confirmed.clone();
    let scene = stage
        .run(Lies {
            up: Box::new(move |ear, message| {
                if let ToCoordinator::Confirm(bytes) = &message {
                    locked(&confirmed).insert(ear.site, bytes.clone());
                }
                Some(message)
            }),
            down: Box::new(move |ear, message| match message {
                Some(ToSite::Survivors(_)) if ear.site == victim => {
                    let known = locked(&known);
                    let all = Confirmations(known.values().cloned().collect());
                    (all.0.len() == 2).then(|| ToSite::Confirmations(all.to_bytes()))
                }
                message => message,
            }),
            ..Lies::none()
        })
        .await;
    let early = Violation::UnmaskBeforeConfirm;
    scene.assert_stopped(0, early).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outcome_over_other_uploads_than_were_confirmed_is_an_alarm() {
    let stage = Stage::of_three().await;
    let (signer, key) = (stage.middle.signer(), stage.middle.public_key());
    let lies = to_victim(stage.ids[0], move |ear, message| match message {
        ToSite::Outcome(bytes) => {
            let outcome = Outcome::verified(&bytes, &ear.context, &key);
            let mut outcome = outcome.expect("the true coordinator's");
            outcome.survivors[0] ^= 1;
            ToSite::Outcome(outcome.signed(&ear.context, &*signer))
        }
        message => message,
    });
    let scene = stage.run(lies).await;
    let (round, _) = scene.complaint(0, &Violation::OtherOutcome).await;
    assert_eq!(round.round, 1);
    assert_eq!(scene.charges(0).await, 1, "the next round is not joined");
}

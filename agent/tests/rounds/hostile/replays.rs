//! What was said before, said again.

use consilium_privacy::secagg::{
    Kind, Unbelieved,
    message::{PairKeys, ToSite},
    site::Violation,
};
use consilium_proto::wire::DeclineReason;

use super::{Stage, to_victim, warnings};
use crate::{federation::until, interceptor::Lies};

#[tokio::test(flavor = "multi_thread")]
async fn keys_of_an_earlier_attempt_are_not_believed_in_the_next() {
    let stage = Stage::of_three().await;
    let mut first = None;
    let lies = to_victim(stage.ids[0], move |ear, message| match (message, &first) {
        // No keys at all: the attempt fails, and nobody is to blame.
        (ToSite::PeerKeys(bytes), None) => {
            first = Some((ear.round, bytes));
            ToSite::PeerKeys(PairKeys(vec![]).to_bytes())
        }
        (ToSite::PeerKeys(_), Some((round, bytes))) if *round != ear.round => {
            ToSite::PeerKeys(bytes.clone())
        }
        (message, _) => message,
    });
    let scene = stage.run(lies).await;
    let unbelieved = Unbelieved::Signature(Kind::PairKey);
    scene.assert_stopped(0, unbelieved.into()).await;
    let complaints = scene.store(0).complaints().await.expect("readable");
    let of_round: Vec<_> = (complaints.iter())
        .map(|kept| (kept.round.round, kept.round.attempt))
        .collect();
    assert_eq!(of_round, [(1, 1), (1, 2)]);
    let (found, needed) = (1, 3);
    let few = Violation::TooFewKeys { found, needed };
    assert_eq!(complaints[0].violation, few.to_string());
}

/// Tells one site in the second round what it was told in the first.
async fn is_not_believed_in_the_next_round(what: &'static str, kind: Kind) {
    let stage = Stage::of_three().await;
    let mut first = None;
    let lies = to_victim(stage.ids[0], move |ear, message| {
        if message.name() != what {
            return message;
        }
        let (round, earlier) = first.get_or_insert((ear.round.round, message.clone()));
        match *round == ear.round.round {
            true => message,
            false => earlier.clone(),
        }
    });
    let scene = stage.run(lies).await;
    let unbelieved = Unbelieved::Signature(kind);
    scene.assert_stopped(0, unbelieved.into()).await;
    let complaints = scene.store(0).complaints().await.expect("readable");
    assert_eq!(complaints[0].round.round, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_of_an_earlier_round_are_not_believed_in_the_next() {
    is_not_believed_in_the_next_round("peers' keys", Kind::PairKey).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn shares_of_an_earlier_round_are_not_believed_in_the_next() {
    is_not_believed_in_the_next_round("peers' shares", Kind::PeerShares).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_of_survivors_of_an_earlier_round_is_not_believed_in_the_next() {
    is_not_believed_in_the_next_round("a list of survivors", Kind::Survivors).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn confirmations_of_an_earlier_round_are_not_believed_in_the_next() {
    is_not_believed_in_the_next_round("confirmations", Kind::Confirm).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_round_that_was_shown_before_is_declined_when_it_is_shown_again() {
    let stage = Stage::of_three().await;
    let (victim, mut first) = (stage.ids[0], None);
    let scene = stage
        .run(Lies::spec(move |site, spec| match site == victim {
            true => first.get_or_insert(spec).clone(),
            false => spec,
        }))
        .await;
    let again = until("the site declines", async || {
        scene.stage.middle.said().declined.first().copied()
    })
    .await;
    let (site, round, reason) = again;
    assert_eq!((site, reason), (victim, DeclineReason::Failed));
    assert_eq!((round.round, round.attempt), (1, 1));
    assert_eq!(scene.charges(0).await, 1, "the first round alone");
    warnings::until(&format!(
        "round declined round={round} reason=Failed why=\"attempt 1 at round 1 does not come after"
    ))
    .await;
}

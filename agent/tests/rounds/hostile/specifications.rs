//! Specifications that are not as plan, policy and history say.

use consilium_privacy::secagg::message::{Outcome, ToSite};
use consilium_proto::{
    Digest, ModelDigest, RoundId, RoundSpec, SecureAggregation, secure_aggregation::Form,
    wire::DeclineReason,
};

use super::{Stage, is_uploaded, to_victim, warnings};
use crate::{federation::until, interceptor::Lies};

#[tokio::test(flavor = "multi_thread")]
async fn numbers_that_do_not_follow_from_the_plan_are_neither_trained_nor_paid_for() {
    let stage = Stage::of_three().await;
    let victim = stage.ids[0];
    let mut wrong = WRONG.iter().cycle();
    let lies = Lies::spec(move |site, mut spec| {
        if site == victim {
            let secure = spec.secure_aggregation.take().expect("of a secure plan");
            spec.secure_aggregation = wrong.next().and_then(|(_, change)| change(secure));
        }
        spec
    });
    let scene = stage.run(lies).await;
    let round = RoundId {
        study: scene.study.id,
        round: 1,
        attempt: 1,
    };
    for (what, _) in WRONG {
        warnings::until(&format!(
            "round {round} is not as its plan says: it is not trained here: {what}"
        ))
        .await;
    }
    scene.assert_untouched(0).await;
    scene.assert_unpublished(round).await;
}

/// What the site finds, and what the coordinator has made of the true numbers.
type Change = fn(SecureAggregation) -> Option<SecureAggregation>;
const WRONG: [(&str, Change); 7] = [
    ("plan and round differ in whether", |_| None),
    ("update bound must be", |numbers| {
        weighted(numbers, |bound, _, _| *bound *= 1000.0)
    }),
    ("largest weight must be", |numbers| {
        weighted(numbers, |_, most, _| *most = 1)
    }),
    ("grid must be", |numbers| {
        weighted(numbers, |_, _, grid| *grid *= 2)
    }),
    ("form must be", |mut numbers| {
        numbers.form = Form::Shares {
            lattice_step: 1.0,
            shares: 3,
        };
        Some(numbers)
    }),
    ("word must be", |mut numbers| {
        numbers.word_bits = 64;
        Some(numbers)
    }),
    ("figures must be", |mut numbers| {
        numbers.figures.push(1.0);
        Some(numbers)
    }),
];

fn weighted(
    mut numbers: SecureAggregation,
    change: fn(&mut f64, &mut u32, &mut u64),
) -> Option<SecureAggregation> {
    if let Form::Weighted {
        update_bound,
        weight_max,
        grid,
    } = &mut numbers.form
    {
        change(update_bound, weight_max, grid);
    }
    Some(numbers)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_threshold_below_the_rule_and_a_cohort_of_two_are_declined() {
    let stage = Stage::of_three().await;
    let victim = stage.ids[0];
    let scene = stage
        .run(Lies::spec(move |site, mut spec| {
            if site == victim {
                spec.quorum = 2;
                if spec.round.attempt > 1 {
                    spec.cohort.pop();
                }
            }
            spec
        }))
        .await;
    let study = scene.study.id;
    for (attempt, why) in [
        (1, "a threshold of 2 is not between 3 and the cohort's size"),
        (2, "`min_cohort` is 3, the round has 2 sites"),
    ] {
        let round = RoundId {
            study,
            round: 1,
            attempt,
        };
        let declined = (victim, round, DeclineReason::Policy);
        until("the site declines", async || {
            let said = scene.stage.middle.said();
            said.declined.contains(&declined).then_some(())
        })
        .await;
        warnings::until(&format!(
            "round declined round={round} reason=Policy why=\"{why}"
        ))
        .await;
        scene.assert_unpublished(round).await;
    }
    scene.assert_untouched(0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_site_that_is_shown_another_model_neither_trains_nor_pays() {
    let stage = Stage::of_three().await;
    let victim = stage.ids[0];
    let lies = Lies::spec(move |site, spec| match site == victim {
        true => RoundSpec {
            model_digest: ModelDigest(Digest::plain(b"a model made for one site")),
            ..spec
        },
        false => spec,
    });
    let scene = stage.run(lies).await;
    let study = scene.study.id;
    warnings::until(&format!("round {study}/1.1 starts from model")).await;
    scene.assert_untouched(0).await;
    let round = RoundId {
        study,
        round: 1,
        attempt: 1,
    };
    scene.assert_unpublished(round).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_site_that_was_told_of_another_version_does_not_train_the_next_round() {
    let stage = Stage::of_three().await;
    let (signer, key) = (stage.middle.signer(), stage.middle.public_key());
    let lies = to_victim(stage.ids[0], move |ear, message| match message {
        ToSite::Outcome(bytes) => {
            let outcome = Outcome::verified(&bytes, &ear.context, &key);
            let mut outcome = outcome.expect("the true coordinator's");
            outcome.model[0] ^= 1;
            ToSite::Outcome(outcome.signed(&ear.context, &*signer))
        }
        message => message,
    });
    let scene = stage.run(lies).await;
    let study = scene.study.id;
    warnings::until(&format!("round {study}/2.1 starts from model")).await;
    let round = RoundId {
        study,
        round: 2,
        attempt: 1,
    };
    assert_eq!(scene.charges(0).await, 1, "the first round alone");
    assert!(!scene.records(0, round).await.iter().any(is_uploaded));
    scene.assert_unpublished(round).await;
}

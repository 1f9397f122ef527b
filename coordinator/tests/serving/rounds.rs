//! Work, declines, quorums, restarts.

use consilium_proto::wire::{self, study_event::Event};
use tonic::Code;

use crate::harness::{Federation, next_spec, opened, plan, vector};
use crate::uploads::{answer, upload_of};

#[tokio::test]
async fn a_site_that_waits_is_woken_when_its_round_opens() {
    let (federation, researcher, sites) = Federation::with_members(2).await;
    let mut early = federation.rounds(&sites[1]).await;
    let none = early
        .next_work(wire::WorkRequest { wait_seconds: 0 })
        .await
        .expect("a site");
    assert_eq!(none.get_ref().round_spec, None);
    assert!(
        none.get_ref().now > 1_600_000_000_000,
        "the coordinator tells its time"
    );
    let waiting = tokio::spawn(async move { next_spec(&mut early).await });
    let (study, first) = federation
        .running(&researcher, &sites, &plan(2, 2, 1))
        .await;
    let woken = waiting.await.expect("no panic");
    assert_eq!(woken, first, "every site gets the same signed bytes");
    let spec = opened(&woken);
    assert_eq!(
        (spec.round.study, spec.round.round, spec.round.attempt),
        (study, 1, 1)
    );
    assert_eq!(
        spec.cohort.iter().map(|site| site.0).collect::<Vec<_>>(),
        [sites[0].id, sites[1].id]
    );
    assert_eq!(*woken.signer(), federation.coordinator_key().await);
}

#[tokio::test]
async fn a_round_goes_on_without_a_site_that_declined() {
    let (federation, researcher, sites) = Federation::with_members(3).await;
    let (study, spec) = federation
        .running(&researcher, &sites, &plan(3, 2, 1))
        .await;
    let mut declining = federation.rounds(&sites[2]).await;
    let request = |reason: wire::DeclineReason| wire::DeclineRequest {
        round: Some(opened(&spec).round.into()),
        reason: reason.into(),
    };
    let unsaid = declining
        .decline(request(wire::DeclineReason::Unspecified))
        .await;
    assert_eq!(unsaid.expect_err("no reason").code(), Code::InvalidArgument);
    for _ in 0..2 {
        declining
            .decline(request(wire::DeclineReason::BudgetSpent))
            .await
            .expect("a site may");
    }
    let none = declining
        .next_work(wire::WorkRequest { wait_seconds: 0 })
        .await
        .expect("a site");
    assert_eq!(none.get_ref().round_spec, None, "it has answered");
    for site in &sites[..2] {
        answer(&federation, site, &vector(site.id.0))
            .await
            .expect("in time");
    }
    federation.released(&researcher, study).await;
}

#[tokio::test]
async fn a_round_without_quorum_fails_and_says_who_declined() {
    let (federation, researcher, sites) = Federation::with_members(2).await;
    let (study, spec) = federation
        .running(&researcher, &sites, &plan(2, 2, 1))
        .await;
    let decline = wire::DeclineRequest {
        round: Some(opened(&spec).round.into()),
        reason: wire::DeclineReason::DataSetMissing.into(),
    };
    federation
        .rounds(&sites[1])
        .await
        .decline(decline)
        .await
        .expect("a site may");
    let request = wire::WatchRequest {
        study: study.as_bytes().to_vec(),
        from_event: 0,
    };
    let mut events = federation
        .studies(&researcher)
        .await
        .watch(request)
        .await
        .expect("a study")
        .into_inner();
    let reason = loop {
        let event = events
            .message()
            .await
            .expect("a stream")
            .expect("more to come");
        if let Some(Event::Changed(summary)) = event.event
            && summary.state() == wire::StudyState::Stopped
        {
            break summary.reason;
        }
    };
    assert!(reason.contains("data set missing"), "{reason}");
}

#[tokio::test]
async fn a_restart_in_the_middle_of_a_round_and_of_an_upload_loses_nothing() {
    let (mut federation, researcher, sites) = Federation::with_members(2).await;
    let (study, spec) = federation
        .running(&researcher, &sites, &plan(2, 2, 1))
        .await;
    answer(&federation, &sites[0], &vector(1))
        .await
        .expect("in time");
    let half = upload_of(&spec, &sites[1], &vector(2)).cut_to(2);
    let broken = half
        .send(&federation, &sites[1])
        .await
        .expect_err("cut short");
    assert!(
        broken.message().contains("2 of 4 chunks arrived"),
        "{broken:?}"
    );

    federation.stop().await;
    federation.serve().await;

    let mut rounds = federation.rounds(&sites[1]).await;
    let key = wire::UploadKey {
        round: Some(opened(&spec).round.into()),
    };
    let progress = rounds
        .upload_status(key.clone())
        .await
        .expect("an open round")
        .into_inner();
    assert_eq!((progress.next_chunk, progress.accepted), (2, false));
    assert_eq!(next_spec(&mut rounds).await, spec, "the round is the same");
    let rest = upload_of(&spec, &sites[1], &vector(2)).from(2);
    rest.send(&federation, &sites[1])
        .await
        .expect("the rest is enough");
    let progress = rounds
        .upload_status(key)
        .await
        .expect("an answered round")
        .into_inner();
    assert_eq!((progress.next_chunk, progress.accepted), (4, true));
    federation.released(&researcher, study).await;
}

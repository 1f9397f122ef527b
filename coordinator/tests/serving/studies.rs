//! What researchers hand in, and what they get.

use consilium_coordinator::{ModelCard, audit_log, to_safetensors};
use consilium_proto::{
    Digest, ParameterVector, Role, StudyId,
    wire::{self, audit_client::AuditClient, download_message, study_event::Event},
};
use tokio_stream::StreamExt as _;
use tonic::{Code, Status};

use crate::harness::{
    CHUNK, Federation, PARAMETERS, chunks_of, decide, layout, plan, start, submission, submit,
    submit_raw, transfer, vector,
};
use crate::uploads::answer;

#[tokio::test]
async fn a_study_runs_from_its_plan_to_a_model_that_anybody_can_check() {
    let (mut federation, researcher, sites) = Federation::with_members(2).await;
    let auditor = federation.enrol("auditor", Role::Auditor).await;
    let plan = plan(2, 2, 2);
    let (study, _) = federation.running(&researcher, &sites, &plan).await;
    let mut studies = federation.studies(&researcher).await;
    let request = wire::WatchRequest {
        study: study.as_bytes().to_vec(),
        from_event: 0,
    };
    let watched = studies.watch(request).await.expect("a study").into_inner();
    for round in 1..=2 {
        for site in &sites {
            answer(&federation, site, &vector(site.id.0 + round))
                .await
                .expect("in time");
        }
    }
    let events: Vec<_> = watched
        .map(|event| event.expect("a stream"))
        .collect()
        .await;
    assert!(
        events
            .iter()
            .zip(0..)
            .all(|(event, number)| event.number == number)
    );
    let published = events
        .iter()
        .filter(|event| matches!(event.event, Some(Event::Published(_))))
        .count();
    assert_eq!(published, 2, "the stream ends when the study does");

    let reference = wire::StudyRef {
        study: study.as_bytes().to_vec(),
    };
    let release = studies
        .release(reference.clone())
        .await
        .expect("finished")
        .into_inner();
    let card = release
        .card
        .expect("a card")
        .try_into()
        .expect("a signature");
    let coordinator = federation.coordinator_key().await;
    let card = ModelCard::open(&card, &coordinator).expect("by the coordinator");
    let model = download(&federation, &researcher, study, &release.model_digest, 0).await;
    let model = ParameterVector::from_bytes(&model.expect("published"), &layout());
    let model = model.expect("a finite model");
    assert_eq!(
        model.digest(&layout()).as_bytes().as_slice(),
        release.model_digest
    );
    assert_eq!(
        card.safetensors_sha256,
        Digest::plain(&to_safetensors(&layout(), &model))
    );
    assert_eq!(card.sites.len(), 2);
    assert_eq!(
        model,
        expected(&sites.iter().map(|site| site.id.0).collect::<Vec<_>>())
    );

    let mut audit = AuditClient::new(federation.connect(&auditor).await.expect("a member"));
    let log = audit
        .log(wire::LogRequest { from_sequence: 1 })
        .await
        .expect("a log")
        .into_inner();
    let log: Vec<_> = log.map(|entry| entry.expect("a stream")).collect().await;
    audit_log::verify(None, log.clone()).expect("an unbroken chain");
    assert_eq!(
        log.iter()
            .filter(|entry| entry.action == "update accepted")
            .count(),
        4
    );
    let detail = studies.show(reference).await.expect("a study").into_inner();
    assert_eq!(detail.versions.len(), 3);
    assert_eq!(detail.plan, plan.to_canonical());
    assert_eq!(detail.decisions.len(), 2);
}

/// Two rounds of `fed-avg-m` with momentum 0.9 and equal weights, rounded as versions are.
fn expected(ids: &[u16]) -> ParameterVector {
    let mut model = vec![0.0_f32; PARAMETERS];
    let mut momentum = vec![0.0_f64; PARAMETERS];
    for round in 1..=2 {
        let updates: Vec<_> = ids.iter().map(|id| vector(id + round)).collect();
        for i in 0..PARAMETERS {
            let sum: f64 = updates
                .iter()
                .map(|update| f64::from(update.as_slice()[i]))
                .sum();
            momentum[i] = 0.9 * momentum[i] + sum / ids.len() as f64;
            model[i] = (f64::from(model[i]) + momentum[i]) as f32;
        }
    }
    ParameterVector::new(model).expect("finite")
}

async fn download(
    federation: &Federation,
    node: &crate::harness::Node,
    study: StudyId,
    digest: &[u8],
    from_chunk: u64,
) -> Result<Vec<u8>, Status> {
    let request = wire::DownloadRequest {
        study: study.as_bytes().to_vec(),
        model_digest: digest.to_vec(),
        from_chunk,
    };
    let mut parts = federation
        .studies(node)
        .await
        .download(request)
        .await?
        .into_inner();
    let first = parts.message().await?.expect("a transfer").part;
    assert!(
        matches!(first, Some(download_message::Part::Transfer(_))),
        "{first:?}"
    );
    let mut bytes = vec![];
    let mut next = from_chunk;
    while let Some(message) = parts.message().await? {
        let Some(download_message::Part::Chunk(chunk)) = message.part else {
            panic!("a second transfer");
        };
        assert_eq!(chunk.index, next);
        next += 1;
        bytes.extend_from_slice(&chunk.data);
    }
    Ok(bytes)
}

#[tokio::test]
async fn a_version_is_downloaded_from_any_chunk_on() {
    let (federation, researcher, _) = Federation::with_members(1).await;
    let study = StudyId::random().expect("randomness");
    let weights = vector(1);
    let mut studies = federation.studies(&researcher).await;
    submit(&mut studies, study, &plan(1, 1, 1), &weights)
        .await
        .expect("a sound study");
    let digest = weights.digest(&layout());
    let digest = digest.as_bytes();
    let whole = download(&federation, &researcher, study, digest, 0)
        .await
        .expect("version 0");
    assert_eq!(whole, weights.to_bytes());
    let rest = download(&federation, &researcher, study, digest, 3)
        .await
        .expect("version 0");
    assert_eq!(rest, whole[3 * CHUNK as usize..]);
    let behind = download(&federation, &researcher, study, digest, 9)
        .await
        .expect("version 0");
    assert!(behind.is_empty());
    let other = download(&federation, &researcher, study, &[9; 32], 0).await;
    assert_eq!(other.expect_err("no such version").code(), Code::NotFound);
}

#[tokio::test]
async fn the_same_submission_again_is_the_same_study_and_another_one_is_refused() {
    let (federation, researcher, _) = Federation::with_members(2).await;
    let study = StudyId::random().expect("randomness");
    let mut studies = federation.studies(&researcher).await;
    let plan = plan(2, 1, 1);
    let first = submit(&mut studies, study, &plan, &start())
        .await
        .expect("a sound study");
    let again = submit(&mut studies, study, &plan, &start())
        .await
        .expect("the same study");
    assert_eq!(first, again);
    assert_eq!(
        studies
            .list(wire::Empty {})
            .await
            .expect("studies")
            .get_ref()
            .studies
            .len(),
        1
    );
    let other = submit(&mut studies, study, &plan, &vector(1))
        .await
        .expect_err("other weights");
    assert_eq!(other.code(), Code::FailedPrecondition, "{other:?}");
    assert!(other.message().contains("exists already"), "{other:?}");
}

#[tokio::test]
async fn weights_may_be_cut_otherwise_than_the_coordinator_cuts_them() {
    let (federation, researcher, _) = Federation::with_members(1).await;
    let study = StudyId::random().expect("randomness");
    let (weights, cut) = (vector(3), 1027);
    let submission = submission(study, &plan(1, 1, 1), transfer(&weights, cut));
    let chunks = chunks_of(&weights.to_bytes(), cut);
    let mut studies = federation.studies(&researcher).await;
    submit_raw(&mut studies, submission, chunks)
        .await
        .expect("a sound study");
    let digest = weights.digest(&layout());
    let stored = download(&federation, &researcher, study, digest.as_bytes(), 0).await;
    assert_eq!(stored.expect("version 0"), weights.to_bytes());
}

#[tokio::test]
async fn unsound_submissions_get_one_clear_message_each_and_leave_nothing() {
    let (federation, researcher, _) = Federation::with_members(1).await;
    let mut studies = federation.studies(&researcher).await;
    let study = StudyId::random().expect("randomness");
    let sound = || submission(study, &plan(1, 1, 1), transfer(&start(), CHUNK));
    let chunks = || chunks_of(&start().to_bytes(), CHUNK);
    let with_plan = |change: &dyn Fn(&mut serde_json::Value)| {
        let mut plan: serde_json::Value =
            serde_json::from_slice(&plan(1, 1, 1).to_canonical()).expect("JSON");
        change(&mut plan);
        wire::Submission {
            plan: plan.to_string().into_bytes(),
            ..sound()
        }
    };
    let mut nan = start().to_bytes();
    nan[2 * CHUNK as usize + 4..][..4].copy_from_slice(&f32::NAN.to_le_bytes());
    let nan_digest = {
        let mut hasher = consilium_proto::vector::ModelHasher::new(&layout());
        hasher.update(&nan);
        hasher.finish()
    };
    let nan_transfer = consilium_proto::convert::Transfer {
        digest: nan_digest,
        ..transfer(&start(), CHUNK)
    };
    let short_layout = wire::Layout {
        tensors: vec![wire::TensorSpec {
            name: "weight".into(),
            shape: vec![999],
        }],
    };
    let mut too_large = chunks();
    too_large[1].data = vec![0; CHUNK as usize + 4].into();
    let mut swapped = chunks();
    swapped.swap(1, 2);
    let mut extra = chunks();
    extra.push(wire::Chunk {
        index: 4,
        data: vec![0; 4].into(),
    });
    let cases = [
        (
            with_plan(&|plan| plan["secure_aggregation"] = true.into()),
            chunks(),
            "plan field `cohort.size`: must be 3 to 255 with secure aggregation, found 1",
        ),
        (
            with_plan(&|plan| plan["cohort"]["size"] = 5.into()),
            chunks(),
            "the cohort is larger than the roster: 5 sites asked for, 1 are active",
        ),
        (
            with_plan(&|plan| plan["colour"] = "red".into()),
            chunks(),
            "unknown field `colour`",
        ),
        (
            with_plan(&|plan| plan["rounds"] = 0.into()),
            chunks(),
            "plan field `rounds`",
        ),
        (
            with_plan(&|plan| {
                plan["privacy"] = serde_json::json!({
                    "mode": "local", "clipping_norm": 1.0, "epsilon": 0.0, "delta": 1e-5
                });
            }),
            chunks(),
            "plan field `privacy.epsilon`",
        ),
        (
            with_plan(&|plan| {
                plan["privacy"] = serde_json::json!({
                    "mode": "local", "clipping_norm": 1.0, "epsilon": 1.0, "delta": 1e-2
                });
            }),
            chunks(),
            "plan field `privacy.delta`",
        ),
        (
            wire::Submission {
                layout: Some(short_layout),
                ..sound()
            },
            chunks(),
            "weights must be 4 bytes for each parameter",
        ),
        (
            submission(study, &plan(1, 1, 1), transfer(&vector(2), CHUNK)),
            chunks(),
            "announced was",
        ),
        (
            submission(study, &plan(1, 1, 1), nan_transfer),
            chunks_of(&nan, CHUNK),
            "NaN or infinity at position 513",
        ),
        (sound(), chunks()[..2].to_vec(), "2 of 4 chunks arrived"),
        (sound(), swapped, "chunk 1 is missing"),
        (
            sound(),
            too_large,
            "chunk 1 must have 1024 bytes, found 1028",
        ),
        (sound(), extra, "chunk 4 arrived, but there are only 4"),
        (
            wire::Submission {
                study: vec![1],
                ..sound()
            },
            chunks(),
            "study id",
        ),
    ];
    for (submission, chunks, expected) in cases {
        let refused = submit_raw(&mut studies, submission, chunks)
            .await
            .expect_err(expected);
        assert_eq!(
            refused.code(),
            Code::InvalidArgument,
            "{expected}: {refused:?}"
        );
        assert!(
            refused.message().contains(expected),
            "{expected}: {}",
            refused.message()
        );
    }
    assert!(
        studies
            .list(wire::Empty {})
            .await
            .expect("studies")
            .get_ref()
            .studies
            .is_empty()
    );
    submit(&mut studies, study, &plan(1, 1, 1), &start())
        .await
        .expect("the sound one still works");
}

#[tokio::test]
async fn a_decision_is_about_one_plan_exactly() {
    let (federation, researcher, sites) = Federation::with_members(2).await;
    let study = StudyId::random().expect("randomness");
    let submitted = plan(2, 2, 1);
    let mut studies = federation.studies(&researcher).await;
    submit(&mut studies, study, &submitted, &start())
        .await
        .expect("a sound study");
    let mut site = federation.studies(&sites[0]).await;
    let other = decide(&mut site, study, &plan(2, 1, 1))
        .await
        .expect_err("another plan");
    assert_eq!(other.code(), Code::FailedPrecondition, "{other:?}");
    let first = decide(&mut site, study, &submitted)
        .await
        .expect("a sound decision");
    let again = decide(&mut site, study, &submitted)
        .await
        .expect("the same decision");
    assert_eq!((first.approvals, &first), (1, &again));
    let unknown = decide(
        &mut site,
        StudyId::random().expect("randomness"),
        &submitted,
    )
    .await;
    assert_eq!(unknown.expect_err("no such study").code(), Code::NotFound);
}

#[tokio::test]
async fn a_study_is_stopped_and_resumed() {
    let (federation, researcher, sites) = Federation::with_members(1).await;
    let plan = plan(1, 1, 1);
    let (study, _) = federation.running(&researcher, &sites, &plan).await;
    let mut studies = federation.studies(&researcher).await;
    let reference = wire::StudyRef {
        study: study.as_bytes().to_vec(),
    };
    let unfinished = studies
        .release(reference.clone())
        .await
        .expect_err("it runs");
    assert_eq!(unfinished.code(), Code::FailedPrecondition);
    let stopped = studies
        .stop(reference.clone())
        .await
        .expect("it runs")
        .into_inner();
    assert_eq!(stopped.state(), wire::StudyState::Stopped);
    assert_eq!(stopped.reason, "stopped by researcher researcher");
    let again = studies
        .stop(reference.clone())
        .await
        .expect_err("stopped already");
    assert_eq!(again.code(), Code::FailedPrecondition);
    let resumed = studies
        .resume(reference.clone())
        .await
        .expect("it has stopped")
        .into_inner();
    assert_eq!(resumed.state(), wire::StudyState::Running);
    answer(&federation, &sites[0], &vector(1))
        .await
        .expect("a new attempt");
    federation.released(&researcher, study).await;
}

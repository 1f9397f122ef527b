//! What researchers ask for and sites consent to.

use std::{sync::Arc, time::Duration};

use consilium_proto::{
    ErrorCode, ModelDigest, StudyId,
    chunk::MESSAGE_LIMIT,
    convert::{Decision, Transfer},
    wire::{self, download_message, studies_server::Studies, submit_message::Part},
};
use futures::{StreamExt as _, stream};
use prost::Message as _;
use serde_json::json;
use tonic::{Request, Response, Status, Streaming};

use super::{
    Coordinator, Replies, audit::flattened, caller, invalid, missing, next, refusal::status,
};
use crate::{
    audit_log::Entry,
    blobs::BlobName,
    store::{Change, Store, StudyRecord},
    study::{Input, Phase, Verdict},
    submission::{Begun, SubmitError},
};

/// Events read from the store at a time.
const PAGE: u32 = 256;
/// Bytes that the versions of a shown study may have: plan, layout and decisions come besides.
const SHOWN_BYTES: usize = MESSAGE_LIMIT / 2;
/// Most bytes that a message adds to one inside it: its tag and its length.
const FRAME_BYTES: usize = 6;
/// How long a finished study may take to write its card before a caller is sent away.
const CARD_PATIENCE: Duration = Duration::from_secs(20);

pub(super) struct StudiesService<S>(pub(super) Arc<Coordinator<S>>);

impl<S: Store> StudiesService<S> {
    async fn record(&self, study: StudyId) -> Result<StudyRecord, Status> {
        let record = self.0.store.study(study).await.map_err(status)?;
        record.ok_or_else(|| missing(&format!("there is no study {study}")))
    }

    fn decisions(&self, record: &StudyRecord) -> Vec<wire::Decision> {
        let verdicts = record.study.verdicts().iter();
        verdicts
            .map(|(site, verdict)| wire::Decision {
                study: record.study.id().as_bytes().to_vec(),
                plan_digest: record.plan_digest().as_bytes().to_vec(),
                approved: verdict.approved,
                reason: verdict.reason.clone(),
                site: site.0.0.into(),
                name: self.0.members.name_of(site.0),
            })
            .collect()
    }
}

/// Version 0 and as many of the newest ones as fit a message, the newest in any case.
fn first_and_newest(mut versions: Vec<wire::Version>) -> Vec<wire::Version> {
    let mut left = SHOWN_BYTES;
    let mut fits = |version: &&wire::Version| {
        let after = left.checked_sub(version.encoded_len() + FRAME_BYTES);
        left = after.unwrap_or(0);
        after.is_some()
    };
    let newest = versions.iter().rev().take_while(&mut fits).count().max(1);
    let left_out = versions.len().saturating_sub(newest);
    if left_out > 1 {
        versions.drain(1..left_out);
    }
    versions
}

fn study_of(wire: &wire::StudyRef) -> Result<StudyId, Status> {
    wire.try_into().map_err(invalid)
}

#[tonic::async_trait]
impl<S: Store> Studies for StudiesService<S> {
    type WatchStream = Replies<wire::StudyEvent>;
    type DownloadStream = Replies<wire::DownloadMessage>;

    async fn submit(
        &self,
        request: Request<Streaming<wire::SubmitMessage>>,
    ) -> Result<Response<wire::StudySummary>, Status> {
        let member = caller(&request)?;
        let mut stream = request.into_inner();
        let Coordinator {
            submissions,
            settings,
            stop,
            ..
        } = &*self.0;
        let first = next(&mut stream, settings.upload_patience, stop).await?;
        let Some(Part::Submission(submission)) = first.and_then(|message| message.part) else {
            return Err(invalid("a submission begins with its plan"));
        };
        let mut incoming = match submissions
            .begin(&member, submission)
            .await
            .map_err(status)?
        {
            Begun::Known(record) => return Ok(Response::new(record.summary())),
            Begun::Open(incoming) => incoming,
        };
        loop {
            let message = tokio::select! {
                message = next(&mut stream, settings.upload_patience, stop) => message,
                () = incoming.superseded() => return Err(status(SubmitError::Superseded)),
            };
            let taken = match message {
                Ok(None) => break,
                Ok(Some(wire::SubmitMessage {
                    part: Some(Part::Chunk(chunk)),
                })) => incoming
                    .take(chunk.index, &chunk.data)
                    .await
                    .map_err(status),
                Ok(Some(_)) => Err(invalid("after its plan, a submission holds chunks only")),
                Err(broken) => Err(broken),
            };
            if let Err(refused) = taken {
                submissions.discard(*incoming).await;
                return Err(refused);
            }
        }
        let record = submissions.finish(*incoming).await.map_err(status)?;
        Ok(Response::new(record.summary()))
    }

    async fn list(&self, _: Request<wire::Empty>) -> Result<Response<wire::StudyList>, Status> {
        let studies = self.0.store.studies().await.map_err(status)?;
        let studies = studies.iter().map(StudyRecord::summary).collect();
        Ok(Response::new(wire::StudyList { studies }))
    }

    async fn show(
        &self,
        request: Request<wire::StudyRef>,
    ) -> Result<Response<wire::StudyDetail>, Status> {
        let study = study_of(request.get_ref())?;
        let record = self.record(study).await?;
        let versions = self.0.store.versions(study).await.map_err(status)?;
        Ok(Response::new(wire::StudyDetail {
            summary: Some(record.summary()),
            layout: Some((&record.layout).into()),
            versions: first_and_newest(versions),
            decisions: self.decisions(&record),
            plan: record.canonical_plan,
        }))
    }

    /// Ends once the study is finished and everything was sent.
    async fn watch(
        &self,
        request: Request<wire::WatchRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let message = request.into_inner();
        let study = message.study.as_slice().try_into().map_err(invalid)?;
        self.record(study).await?;
        let watching = Watching {
            coordinator: self.0.clone(),
            study,
            from: message.from_event,
            moves: self.0.driver.moves(),
        };
        let pages = stream::try_unfold(watching, async |mut watching| {
            let page = watching.next_page().await?;
            Ok::<_, Status>(page.map(|page| (stream::iter(page.into_iter().map(Ok)), watching)))
        });
        Ok(Response::new(flattened(pages)))
    }

    async fn stop(
        &self,
        request: Request<wire::StudyRef>,
    ) -> Result<Response<wire::StudySummary>, Status> {
        let member = caller(&request)?;
        let study = study_of(request.get_ref())?;
        let input = Input::Stop {
            by: format!("{} {}", member.role, member.name),
        };
        let applied = self
            .0
            .driver
            .apply(study, Some(member.id), input, Change::default());
        Ok(Response::new(applied.await.map_err(status)?.summary()))
    }

    async fn resume(
        &self,
        request: Request<wire::StudyRef>,
    ) -> Result<Response<wire::StudySummary>, Status> {
        let member = caller(&request)?;
        let study = study_of(request.get_ref())?;
        let input = Input::Resume {
            active: self.0.members.active_sites(),
        };
        let entry = Entry::by(member.id, "study resumed", json!({ "study": study }));
        let change = Change {
            entries: vec![entry],
            ..Change::default()
        };
        let applied = self.0.driver.apply(study, Some(member.id), input, change);
        Ok(Response::new(applied.await.map_err(status)?.summary()))
    }

    async fn decide(
        &self,
        request: Request<wire::Decision>,
    ) -> Result<Response<wire::StudySummary>, Status> {
        let member = caller(&request)?;
        let site = member
            .site()
            .ok_or_else(|| invalid("only sites answer plans"))?;
        let decision = Decision::try_from(request.into_inner()).map_err(invalid)?;
        let record = self.record(decision.study).await?;
        if record.plan_digest() != decision.plan_digest {
            let reason = format!(
                "the decision is about plan {}, the study has plan {}: read it again, then decide",
                decision.plan_digest,
                record.plan_digest(),
            );
            return Err(Status::new(ErrorCode::Precondition.into(), reason));
        }
        let input = Input::Decided {
            site,
            verdict: Verdict {
                approved: decision.approved,
                reason: decision.reason,
            },
            active: self.0.members.active_sites(),
        };
        let applied =
            self.0
                .driver
                .apply(decision.study, Some(member.id), input, Change::default());
        Ok(Response::new(applied.await.map_err(status)?.summary()))
    }

    async fn download(
        &self,
        request: Request<wire::DownloadRequest>,
    ) -> Result<Response<Self::DownloadStream>, Status> {
        let message = request.into_inner();
        let study = message.study.as_slice().try_into().map_err(invalid)?;
        let digest: ModelDigest = message
            .model_digest
            .as_slice()
            .try_into()
            .map_err(invalid)?;
        let record = self.record(study).await?;
        let versions = self.0.store.versions(study).await.map_err(status)?;
        let version = versions
            .iter()
            .find(|version| version.model_digest == digest.as_bytes());
        let number = version
            .map(|version| version.number)
            .ok_or_else(|| missing(&format!("study {study} has no version {digest}")))?;
        let bytes = 4 * record.layout.parameters() as u64;
        let chunks = consilium_proto::ChunkPlan::new(bytes, record.chunk_bytes).map_err(invalid)?;
        let transfer = download_message::Part::Transfer(Transfer { chunks, digest }.into());
        let (blobs, name) = (self.0.blobs.clone(), BlobName::version(study, number));
        let indices = stream::iter(message.from_chunk..chunks.count());
        let data = indices.then(move |index| {
            let (blobs, name) = (blobs.clone(), name.clone());
            async move {
                let mut data = blobs.read(&name, index).await.map_err(status)?;
                let data = std::mem::take(&mut *data).into();
                Ok(download_message::Part::Chunk(wire::Chunk { index, data }))
            }
        });
        let parts = stream::once(async { Ok(transfer) }).chain(data);
        let messages =
            parts.map(|part| part.map(|part| wire::DownloadMessage { part: Some(part) }));
        Ok(Response::new(messages.boxed()))
    }

    async fn release(
        &self,
        request: Request<wire::StudyRef>,
    ) -> Result<Response<wire::ModelRelease>, Status> {
        let study = study_of(request.get_ref())?;
        let record = self.record(study).await?;
        if *record.study.phase() != Phase::Finished {
            let reason = format!(
                "study {study} is not finished: {} of {} rounds are published",
                record.study.version(),
                record.plan.rounds,
            );
            return Err(Status::new(ErrorCode::Precondition.into(), reason));
        }
        let mut moves = self.0.driver.moves();
        let found = async {
            loop {
                moves.mark_unchanged();
                if let Some(release) = self.0.store.release(study).await.map_err(status)? {
                    return Ok::<_, Status>(release);
                }
                // Its sender lives as long as the coordinator.
                let _ = moves.changed().await;
            }
        };
        let release = match tokio::time::timeout(CARD_PATIENCE, found).await {
            Ok(release) => release?,
            Err(_) => {
                let reason = "the model card is still being written: try again shortly";
                return Err(Status::new(ErrorCode::Unavailable.into(), reason));
            }
        };
        Ok(Response::new(wire::ModelRelease {
            model_digest: release.model.as_bytes().to_vec(),
            card: Some(release.card.into()),
        }))
    }
}

struct Watching<S> {
    coordinator: Arc<Coordinator<S>>,
    study: StudyId,
    from: u64,
    moves: tokio::sync::watch::Receiver<u64>,
}

impl<S: Store> Watching<S> {
    /// Waits for the next events; none when there will be no more.
    async fn next_page(&mut self) -> Result<Option<Vec<wire::StudyEvent>>, Status> {
        loop {
            self.moves.mark_unchanged();
            let store = &self.coordinator.store;
            // Before the events: a study that finishes in between is looked at once more.
            let record = store.study(self.study).await.map_err(status)?;
            let page = store
                .events(self.study, self.from, PAGE)
                .await
                .map_err(status)?;
            if let Some(last) = page.last() {
                self.from = last.number + 1;
                return Ok(Some(page));
            }
            if record.is_none_or(|record| *record.study.phase() == Phase::Finished) {
                return Ok(None);
            }
            tokio::select! {
                _ = self.moves.changed() => {}
                () = self.coordinator.stop.cancelled() => return Ok(None),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn versions(count: u32, sites: u32) -> Vec<wire::Version> {
        let charge = wire::Charge {
            sequence: u64::from(u32::MAX),
            sampling_rate: 0.01,
            noise_multiplier: 1.1,
            clipping_norm: 1.0,
            steps: 10,
            epsilon: 7.9,
            delta: 1e-6,
        };
        let contribution = |site| wire::Contribution {
            site,
            name: format!("hospital number {site}"),
            weight: 64,
            charge: Some(charge),
        };
        let version = |number| wire::Version {
            sums: None,
            number,
            model_digest: vec![7; 32],
            published_at: 1_800_000_000_000,
            contributions: (1..=sites).map(contribution).collect(),
        };
        (0..count).map(version).collect()
    }

    fn numbers(versions: &[wire::Version]) -> Vec<u32> {
        versions.iter().map(|version| version.number).collect()
    }

    #[test]
    fn ten_thousand_rounds_of_sixteen_sites_fit_a_message() {
        let shown = first_and_newest(versions(10_001, 16));
        let detail = wire::StudyDetail {
            versions: shown.clone(),
            ..wire::StudyDetail::default()
        };
        let bytes = detail.encoded_len();
        assert!(bytes <= SHOWN_BYTES + 4096, "{bytes} bytes");
        assert!(bytes > SHOWN_BYTES / 2, "only {bytes} bytes are used");
        let numbers = numbers(&shown);
        let newest = 10_001 - (numbers.len() as u32 - 1)..10_001;
        assert_eq!(numbers[0], 0, "the start is always there");
        assert_eq!(numbers[1..], newest.collect::<Vec<_>>());
    }

    #[test]
    fn short_studies_are_shown_whole_and_one_giant_version_is_shown_too() {
        assert!(first_and_newest(vec![]).is_empty());
        assert_eq!(numbers(&first_and_newest(versions(1, 1))), [0]);
        assert_eq!(numbers(&first_and_newest(versions(4, 3))), [0, 1, 2, 3]);
        assert_eq!(numbers(&first_and_newest(versions(3, 20_000))), [0, 2]);
    }
}

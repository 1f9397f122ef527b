//! What researchers ask of a coordinator: submit, follow and steer studies, download versions.
//!
//! Whatever arrives is checked here: vectors against their digest and layout, model cards against
//! the coordinator's key in the roster.

mod download;
mod release;

use std::{ops::Range, path::Path};

use anyhow::{Context as _, Result};
use consilium_agent::membership::Membership;
use consilium_models::{network::Network, start::start};
use consilium_privacy::seal::SealingKey;
use consilium_proto::{
    ChunkPlan, ErrorCode, Layout, ModelDigest, Plan, Roster, StudyId,
    chunk::{DEFAULT_CHUNK_BYTES, MESSAGE_LIMIT},
    convert::{Submission, Transfer},
    wire::{self, studies_client::StudiesClient, study_event::Event, submit_message},
};
use tonic::{Streaming, transport::Channel};

pub use self::release::Release;
use crate::failure::{Classify as _, refuse, refused_call};

/// A connection as a researcher.
pub struct Researcher {
    membership: Membership,
    channel: Channel,
    studies: StudiesClient<Channel>,
}

/// A study as the coordinator shows it, with what is in it checked.
pub struct Study {
    /// Which one.
    pub id: StudyId,
    /// What the researcher asked for.
    pub plan: Plan,
    /// Layout of its weights.
    pub layout: Layout,
    /// State, versions in order and decisions as they came.
    pub detail: wire::StudyDetail,
}

impl Study {
    fn read(detail: wire::StudyDetail) -> Result<Self> {
        let summary = detail
            .summary
            .as_ref()
            .context("the coordinator's answer has no summary")?;
        let id = StudyId::try_from(summary.study.as_slice())?;
        let plan = Plan::from_canonical(&detail.plan)?;
        let layout = detail
            .layout
            .clone()
            .context("the coordinator's answer has no layout")?;
        Ok(Self {
            id,
            plan,
            layout: layout.try_into()?,
            detail,
        })
    }

    /// State, rounds and reason.
    pub fn summary(&self) -> &wire::StudySummary {
        // `read` refuses a study without one.
        self.detail.summary.as_ref().expect("a study has a summary")
    }

    /// Numbers of the versions that did not fit the coordinator's answer.
    pub fn left_out(&self) -> Range<u32> {
        match self.detail.versions.as_slice() {
            [first, next, ..] => first.number.saturating_add(1)..next.number,
            _ => 0..0,
        }
    }

    /// Digest of a published version: the given one, or the newest.
    ///
    /// # Errors
    /// No such version has been published.
    pub fn version(&self, number: Option<u32>) -> Result<(u32, ModelDigest)> {
        let versions = &self.detail.versions;
        let found = match number {
            Some(number) => versions.iter().find(|version| version.number == number),
            None => versions.iter().max_by_key(|version| version.number),
        };
        let version = found.with_context(|| {
            let named = number.map_or("no version".into(), |number| format!("no version {number}"));
            format!("study {} has published {named} yet", self.id)
        });
        let version = version.classify(ErrorCode::Missing)?;
        Ok((version.number, version.model_digest.as_slice().try_into()?))
    }
}

impl Researcher {
    /// Opens the researcher's folder and connects.
    ///
    /// # Errors
    /// No member's folder, a wrong key, no certificate yet, or nobody answers.
    pub async fn connect(folder: &Path, key: &SealingKey) -> Result<Self> {
        let membership = Membership::open(folder, key)?;
        let channel = membership.connect().await?;
        let studies = StudiesClient::new(channel.clone())
            .max_decoding_message_size(MESSAGE_LIMIT)
            .max_encoding_message_size(MESSAGE_LIMIT);
        Ok(Self {
            membership,
            channel,
            studies,
        })
    }

    /// The roster as the coordinator relays it and governance signed it.
    ///
    /// # Errors
    /// The coordinator does not answer, or relays a roster that is not believed.
    pub async fn roster(&mut self) -> Result<Roster> {
        Ok(self.membership.refresh_roster(self.channel.clone()).await?)
    }

    /// Hands a plan in with version 0 of the weights, which the plan fixes. `encoder` is the folder of the public
    /// encoder that some plans ask for.
    ///
    /// # Errors
    /// A network that does not fit its input, an encoder that is not there, or what the coordinator refuses.
    pub async fn submit(&mut self, plan: &Plan, encoder: Option<&Path>) -> Result<StudyId> {
        let network = Network::from_plan(plan)?;
        let (layout, weights) = (network.layout(), start(plan, &network, encoder)?);
        let bytes = weights.to_bytes();
        let chunks = ChunkPlan::new(bytes.len() as u64, DEFAULT_CHUNK_BYTES)?;
        let submission = Submission {
            study: StudyId::random()?,
            plan: plan.clone(),
            canonical_plan: plan.to_canonical(),
            layout: layout.clone(),
            weights: Transfer {
                chunks,
                digest: weights.digest(layout),
            },
        };
        let first = submit_message::Part::Submission((&submission).into());
        let rest = (0..chunks.count()).map(move |index| {
            let range = chunks.range(index);
            let data = bytes[range.start as usize..range.end as usize].to_vec();
            submit_message::Part::Chunk(wire::Chunk {
                index,
                data: data.into(),
            })
        });
        let messages = std::iter::once(first).chain(rest);
        let messages = messages.map(|part| wire::SubmitMessage { part: Some(part) });
        let stream = futures::stream::iter(messages.collect::<Vec<_>>());
        self.studies.submit(stream).await.map_err(refused_call)?;
        Ok(submission.study)
    }

    /// All studies.
    ///
    /// # Errors
    /// What the coordinator refuses.
    pub async fn list(&mut self) -> Result<Vec<wire::StudySummary>> {
        let list = self
            .studies
            .list(wire::Empty {})
            .await
            .map_err(refused_call)?;
        Ok(list.into_inner().studies)
    }

    /// One study, with its first and its newest versions.
    ///
    /// # Errors
    /// What the coordinator refuses; an answer that cannot be read.
    pub async fn show(&mut self, id: StudyId) -> Result<Study> {
        let detail = self
            .studies
            .show(wire::StudyRef::from(id))
            .await
            .map_err(refused_call)?;
        Study::read(detail.into_inner())
    }

    /// Adds the versions that [`show`](Self::show) left out, which the study's events tell.
    ///
    /// # Errors
    /// What the coordinator refuses; events without one of the versions.
    pub async fn complete(&mut self, study: &mut Study) -> Result<()> {
        let left_out = study.left_out();
        if left_out.is_empty() {
            return Ok(());
        }
        let mut events = self.watch(study.id, 0).await?;
        let mut found = Vec::new();
        while found.len() < left_out.len() {
            let event = events.message().await.map_err(refused_call)?;
            let expected = left_out.start + found.len() as u32;
            match event.map(|event| event.event) {
                Some(Some(Event::Published(version))) if version.number == expected => {
                    found.push(version);
                }
                Some(Some(Event::Published(version))) if version.number > expected => {
                    let message = format!("the coordinator's events skip version {expected}");
                    return refuse(ErrorCode::Internal, message);
                }
                Some(_) => {}
                None => {
                    let message = format!("the study's events ended before version {expected}");
                    return refuse(ErrorCode::Internal, message);
                }
            }
        }
        study.detail.versions.splice(1..1, found);
        Ok(())
    }

    /// What has happened since event `from_event`, then what happens next.
    ///
    /// # Errors
    /// What the coordinator refuses.
    pub async fn watch(
        &mut self,
        id: StudyId,
        from_event: u64,
    ) -> Result<Streaming<wire::StudyEvent>> {
        let request = wire::WatchRequest {
            study: id.as_bytes().to_vec(),
            from_event,
        };
        Ok(self
            .studies
            .watch(request)
            .await
            .map_err(refused_call)?
            .into_inner())
    }

    /// Ends a study before its last round; it can be resumed.
    ///
    /// # Errors
    /// What the coordinator refuses.
    pub async fn stop(&mut self, id: StudyId) -> Result<wire::StudySummary> {
        let summary = self.studies.stop(wire::StudyRef::from(id)).await;
        Ok(summary.map_err(refused_call)?.into_inner())
    }

    /// Lets a stopped study go on.
    ///
    /// # Errors
    /// What the coordinator refuses.
    pub async fn resume(&mut self, id: StudyId) -> Result<wire::StudySummary> {
        let summary = self.studies.resume(wire::StudyRef::from(id)).await;
        Ok(summary.map_err(refused_call)?.into_inner())
    }
}

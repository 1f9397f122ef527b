//! A stored update on its way to the coordinator: statement first, then chunks from the first
//! missing one on.

use bytes::Bytes;
use consilium_privacy::{
    accountant::{Charge, Delta},
    step::Origin,
};
use consilium_proto::{
    ChargeStatement, ChunkPlan, ErrorCode, Layout, ModelDigest, Statement,
    chunk::MESSAGE_LIMIT,
    rpc::explain,
    vector::ModelHasher,
    wire::{self, DeclineReason, rounds_client::RoundsClient, upload_message::Part},
};
use futures::{StreamExt as _, stream};
use tonic::{Status, transport::Channel};
use tracing::{info, warn};

use super::{
    Agent, AgentError, SessionError,
    assignment::{Assignment, Declined, Distrust},
    with_timeout,
};

/// What of an update travels.
pub(super) enum Content {
    /// The update itself, where the coordinator may see it.
    Clear {
        /// Bucket of the public size.
        weight: u32,
        bytes: Bytes,
    },
    /// Its words under masks, and the signed message that ends them.
    Masked { bytes: Bytes, trailer: Vec<u8> },
}

impl Agent {
    /// Delivers an update, with retries until the round's deadline. An update that came too late
    /// stays stored: the next attempt at the round sends it again.
    pub(super) async fn deliver(
        &self,
        channel: &Channel,
        assignment: &Assignment,
        layout: &Layout,
        origin: Origin,
        content: Content,
    ) -> Result<Result<(), Declined>, SessionError> {
        let round = assignment.spec.round;
        let parcel = self.wrap(assignment, layout, origin, content).await?;
        self.store.round_offered(round.study, round.round).await?;
        let sending = tokio::time::timeout_at(assignment.deadline, self.send(channel, &parcel));
        match sending.await {
            Ok(Ok(())) => {
                self.store.round_accepted(round.study, round.round).await?;
                info!(%round, "update delivered");
                Ok(Ok(()))
            }
            Ok(Err(Refused {
                code: ErrorCode::Invalid | ErrorCode::Denied,
                reason,
            })) => {
                let why = format!("the coordinator refuses the update: {reason}");
                Ok(Err(Declined::new(DeclineReason::Failed, why)))
            }
            Ok(Err(Refused { reason, .. })) => {
                // The round went on without this site; asking for work tells what is next.
                warn!(%round, reason, "update not taken, it stays stored");
                tokio::time::sleep(self.settings.retry_first).await;
                Ok(Ok(()))
            }
            Err(_) => {
                warn!(%round, "update not delivered before the deadline, it stays stored");
                Ok(Ok(()))
            }
        }
    }

    /// Makes the signed statement. Nothing in it depends on the data.
    async fn wrap(
        &self,
        assignment: &Assignment,
        layout: &Layout,
        origin: Origin,
        content: Content,
    ) -> Result<Parcel, SessionError> {
        let spec = &assignment.spec;
        let (bytes, weight, trailer) = match content {
            Content::Clear { weight, bytes } => (bytes, Some(weight), None),
            Content::Masked { bytes, trailer } => (bytes, None, Some(trailer)),
        };
        let chunks = ChunkPlan::new(bytes.len() as u64, spec.chunk_bytes);
        let transfer = chunks.map_err(|error| {
            Distrust::from(consilium_proto::OutOfRange::new("round", "sound", error))
        })?;
        let mut hasher = ModelHasher::new(layout);
        hasher.update(&bytes);
        let update_digest = hasher.finish();
        let statement = Statement {
            context: assignment.context,
            round: spec.round,
            layout_digest: layout.digest(),
            update_digest,
            transfer,
            weight,
            charge: self.charge_statement(assignment, origin).await?,
        };
        let statement = statement.sign(self.membership.identity()).into();
        let key = wire::UploadKey {
            round: Some(spec.round.into()),
        };
        Ok(Parcel {
            key,
            statement,
            bytes,
            transfer,
            update_digest,
            trailer,
        })
    }

    async fn charge_statement(
        &self,
        assignment: &Assignment,
        origin: Origin,
    ) -> Result<Option<ChargeStatement>, SessionError> {
        let guarantee = assignment.study.plan.privacy.guarantee();
        let (
            Some(guarantee),
            Origin::Noised {
                sequence,
                charge,
                clipping_norm,
                ..
            },
        ) = (guarantee, origin)
        else {
            return Ok(None);
        };
        let Charge::SampledGaussian { q, sigma, steps } = charge else {
            return Ok(None);
        };
        let Ok(delta) = Delta::try_from(guarantee.delta) else {
            return Ok(None);
        };
        let study = *assignment.study.id.as_bytes();
        let epsilon = self
            .store
            .study_epsilon(study, delta)
            .await
            .map_err(AgentError::from)?;
        Ok(Some(ChargeStatement {
            sequence,
            sampling_rate: q.value(),
            noise_multiplier: sigma.value(),
            clipping_norm: clipping_norm.value(),
            steps,
            epsilon,
            delta: guarantee.delta,
        }))
    }

    /// Sends until the coordinator has it. Received but not acknowledged is success: asking first
    /// how much has arrived makes every repetition safe.
    async fn send(&self, channel: &Channel, parcel: &Parcel) -> Result<(), Refused> {
        let client = RoundsClient::new(channel.clone()).max_decoding_message_size(MESSAGE_LIMIT);
        let mut waits = self.waits();
        loop {
            let refused = match parcel.try_send(client.clone()).await {
                Ok(()) => return Ok(()),
                Err(status) => Refused::from(status),
            };
            let wait = waits.next().filter(|_| refused.may_pass());
            let Some(wait) = wait else {
                return Err(refused);
            };
            warn!(reason = refused.reason, "upload broke off, resuming");
            tokio::time::sleep(wait).await;
        }
    }
}

/// Why the coordinator does not have it.
struct Refused {
    code: ErrorCode,
    reason: String,
}

impl Refused {
    /// Whether trying again may help.
    fn may_pass(&self) -> bool {
        matches!(
            self.code,
            ErrorCode::Unavailable | ErrorCode::Exhausted | ErrorCode::Internal
        )
    }
}

impl From<Status> for Refused {
    fn from(status: Status) -> Self {
        let (code, reason) = explain(&status);
        Self { code, reason }
    }
}

/// An update ready to be sent for one attempt at a round.
struct Parcel {
    key: wire::UploadKey,
    statement: wire::Signed,
    bytes: Bytes,
    transfer: ChunkPlan,
    update_digest: ModelDigest,
    /// What ends a masked update.
    trailer: Option<Vec<u8>>,
}

impl Parcel {
    async fn try_send(&self, mut client: RoundsClient<Channel>) -> Result<(), Status> {
        let status = client
            .upload_status(with_timeout(self.key.clone()))
            .await?
            .into_inner();
        if status.accepted {
            return Ok(());
        }
        let receipt = client
            .upload(self.messages(status.next_chunk))
            .await?
            .into_inner();
        if receipt.update_digest == self.update_digest.as_bytes() {
            return Ok(());
        }
        Err(Status::invalid_argument(
            "the coordinator counted another update than was sent",
        ))
    }

    /// The statement, then chunks from the first missing one on.
    fn messages(
        &self,
        first: u64,
    ) -> impl futures::Stream<Item = wire::UploadMessage> + Send + use<> {
        let statement = Part::Statement(self.statement.clone());
        let (bytes, transfer) = (self.bytes.clone(), self.transfer);
        let chunks = (first..transfer.count()).map(move |index| {
            let range = transfer.range(index);
            let data = bytes.slice(range.start as usize..range.end as usize);
            Part::Chunk(wire::Chunk { index, data })
        });
        let trailer = self.trailer.clone().map(Part::Trailer);
        stream::iter(std::iter::once(statement).chain(chunks).chain(trailer))
            .map(|part| wire::UploadMessage { part: Some(part) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parcel(length: usize) -> Parcel {
        let bytes: Bytes = (0..length).map(|at| at as u8).collect();
        Parcel {
            key: wire::UploadKey::default(),
            statement: wire::Signed::default(),
            transfer: ChunkPlan::new(length as u64, 1024).expect("a sound cut"),
            bytes,
            update_digest: ModelDigest(consilium_proto::Digest::plain(b"x")),
            trailer: None,
        }
    }

    #[tokio::test]
    async fn an_upload_goes_on_at_the_first_missing_chunk() {
        let parcel = parcel(2500);
        for first in 0..=3 {
            let messages: Vec<_> = parcel.messages(first).collect().await;
            assert!(matches!(messages[0].part, Some(Part::Statement(_))));
            let chunks: Vec<_> = messages[1..]
                .iter()
                .map(|message| match &message.part {
                    Some(Part::Chunk(chunk)) => (chunk.index, chunk.data.len()),
                    other => panic!("not a chunk: {other:?}"),
                })
                .collect();
            let all = [(0, 1024), (1, 1024), (2, 452)];
            assert_eq!(chunks, all[first as usize..]);
        }
    }
}

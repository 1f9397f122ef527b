//! A published version of the weights, in chunks, resumed where it broke off.

use std::{iter, time::Duration};

use consilium_proto::{
    ErrorCode, Layout, ModelDigest, ParameterVector, Progress, StudyId,
    chunk::Accepted,
    convert::Transfer,
    rpc::explain,
    vector::ModelHasher,
    wire::{self, download_message::Part},
};
use tonic::{Status, transport::Channel};
use tracing::warn;

use super::{Agent, SessionError, assignment::Distrust, explained};
use crate::consent;

impl Agent {
    /// Fetches a version and checks that its bytes are those of its digest, and finite.
    pub(super) async fn download(
        &self,
        channel: &Channel,
        study: StudyId,
        digest: ModelDigest,
        layout: &Layout,
    ) -> Result<ParameterVector, SessionError> {
        let waits = self.waits().take(RETRIES);
        match fetch(channel, study, digest, layout, waits).await {
            Ok(vector) => Ok(vector),
            Err(Break::Distrust(distrust)) => Err(distrust.into()),
            Err(Break::Status(status)) => Err(status.into()),
        }
    }
}

/// Fetches a version for a replay, or says why not.
pub(crate) async fn version(
    channel: &Channel,
    study: StudyId,
    digest: ModelDigest,
    layout: &Layout,
) -> Result<ParameterVector, String> {
    let fetched = fetch(channel, study, digest, layout, iter::empty()).await;
    fetched.map_err(|broken| match broken {
        Break::Distrust(distrust) => explained(&distrust),
        Break::Status(status) => explain(&status).1,
    })
}

async fn fetch(
    channel: &Channel,
    study: StudyId,
    digest: ModelDigest,
    layout: &Layout,
    mut waits: impl Iterator<Item = Duration>,
) -> Result<ParameterVector, Break> {
    let mut arrival = Arrival {
        digest,
        layout,
        bytes: Vec::new(),
        progress: None,
    };
    loop {
        let status = match arrival.receive(channel.clone(), study).await {
            Ok(()) => return Ok(arrival.finish()?),
            Err(Break::Status(status)) => status,
            Err(distrust) => return Err(distrust),
        };
        let (code, reason) = explain(&status);
        let wait = waits.next().filter(|_| code == ErrorCode::Unavailable);
        let Some(wait) = wait else {
            return Err(status.into());
        };
        warn!(
            reason,
            at = arrival.next(),
            "model download broke off, resuming"
        );
        tokio::time::sleep(wait).await;
    }
}

/// Times that a download is resumed before the connection is given up.
const RETRIES: usize = 10;

enum Break {
    Status(Status),
    Distrust(Distrust),
}

impl From<Status> for Break {
    fn from(status: Status) -> Self {
        Self::Status(status)
    }
}

impl From<Distrust> for Break {
    fn from(distrust: Distrust) -> Self {
        Self::Distrust(distrust)
    }
}

/// A version on its way in.
struct Arrival<'a> {
    digest: ModelDigest,
    layout: &'a Layout,
    bytes: Vec<u8>,
    progress: Option<(Transfer, Progress)>,
}

impl Arrival<'_> {
    /// The first chunk that is missing.
    fn next(&self) -> u64 {
        self.progress.map_or(0, |(_, progress)| progress.next())
    }

    /// Takes chunks until the last one.
    async fn receive(&mut self, channel: Channel, study: StudyId) -> Result<(), Break> {
        let request = wire::DownloadRequest {
            study: study.as_bytes().to_vec(),
            model_digest: self.digest.as_bytes().to_vec(),
            from_chunk: self.next(),
        };
        let mut stream = consent::studies(channel)
            .download(request)
            .await?
            .into_inner();
        while let Some(message) = stream.message().await? {
            match message.part {
                Some(Part::Transfer(transfer)) => self.begin(transfer)?,
                Some(Part::Chunk(chunk)) => self.take(&chunk)?,
                None => {}
            }
        }
        match self.progress {
            Some((_, progress)) if progress.is_complete() => Ok(()),
            _ => Err(Status::unavailable("the stream ended early").into()),
        }
    }

    fn begin(&mut self, transfer: wire::Transfer) -> Result<(), Distrust> {
        let transfer = Transfer::try_from(transfer).map_err(malformed)?;
        if transfer.digest != self.digest {
            let (expected, found) = (self.digest, transfer.digest);
            return Err(Distrust::ModelBytes { expected, found });
        }
        let expected = 4 * self.layout.parameters() as u64;
        if transfer.chunks.bytes() != expected {
            return Err(malformed(format!("{} bytes", transfer.chunks.bytes())));
        }
        match self.progress {
            None => self.progress = Some((transfer, Progress::resume(transfer.chunks, 0))),
            Some((known, _)) if known == transfer => {}
            Some(_) => return Err(malformed("another cut than before")),
        }
        Ok(())
    }

    fn take(&mut self, chunk: &wire::Chunk) -> Result<(), Distrust> {
        let Some((_, progress)) = &mut self.progress else {
            return Err(malformed("a chunk before its transfer"));
        };
        if progress
            .accept(chunk.index, chunk.data.len())
            .map_err(malformed)?
            == Accepted::New
        {
            self.bytes.extend_from_slice(&chunk.data);
        }
        Ok(())
    }

    fn finish(self) -> Result<ParameterVector, Distrust> {
        let mut hasher = ModelHasher::new(self.layout);
        hasher.update(&self.bytes);
        let found = hasher.finish();
        if found != self.digest {
            return Err(Distrust::ModelBytes {
                expected: self.digest,
                found,
            });
        }
        Ok(ParameterVector::from_bytes(&self.bytes, self.layout)?)
    }
}

fn malformed(found: impl ToString) -> Distrust {
    consilium_proto::OutOfRange::new("model transfer", "that of the version", found).into()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use consilium_proto::{ChunkPlan, TensorSpec};

    use super::*;

    fn layout() -> Layout {
        let tensor = TensorSpec {
            name: "w".into(),
            shape: vec![600],
        };
        Layout::new(vec![tensor]).expect("a sound layout")
    }

    fn arrival(layout: &Layout, digest: ModelDigest) -> Arrival<'_> {
        Arrival {
            digest,
            layout,
            bytes: Vec::new(),
            progress: None,
        }
    }

    fn transfer(digest: ModelDigest) -> wire::Transfer {
        let chunks = ChunkPlan::new(2400, 1024).expect("a sound cut");
        Transfer { chunks, digest }.into()
    }

    fn feed(arrival: &mut Arrival, bytes: &[u8]) -> Result<(), Distrust> {
        arrival.begin(transfer(arrival.digest))?;
        for (index, data) in (0..).zip(bytes.chunks(1024)) {
            arrival.take(&wire::Chunk {
                index,
                data: Bytes::copy_from_slice(data),
            })?;
        }
        Ok(())
    }

    #[test]
    fn a_version_arrives_whole_and_repeats_change_nothing() {
        let layout = layout();
        let vector = ParameterVector::new(vec![0.5; 600]).expect("finite");
        let mut arrival = arrival(&layout, vector.digest(&layout));
        arrival
            .begin(transfer(arrival.digest))
            .expect("its transfer");
        let data = Bytes::copy_from_slice(&vector.to_bytes()[..1024]);
        arrival
            .take(&wire::Chunk { index: 0, data })
            .expect("its first chunk");
        feed(&mut arrival, &vector.to_bytes()).expect("from the start again");
        assert_eq!(arrival.finish().expect("whole"), vector);
    }

    #[test]
    fn other_bytes_than_the_digest_says_are_refused() {
        let layout = layout();
        let vector = ParameterVector::new(vec![0.5; 600]).expect("finite");
        let mut arrival = arrival(&layout, vector.digest(&layout));
        let mut bytes = vector.to_bytes();
        bytes[7] ^= 1;
        feed(&mut arrival, &bytes).expect("the right length");
        assert!(matches!(arrival.finish(), Err(Distrust::ModelBytes { .. })));
    }

    #[test]
    fn numbers_that_are_not_finite_are_refused_even_under_their_digest() {
        let layout = layout();
        let mut bytes = vec![0; 2400];
        bytes[..4].copy_from_slice(&f32::NAN.to_le_bytes());
        let mut hasher = ModelHasher::new(&layout);
        hasher.update(&bytes);
        let mut arrival = arrival(&layout, hasher.finish());
        feed(&mut arrival, &bytes).expect("the right length");
        let message = arrival.finish().expect_err("not finite");
        assert!(matches!(message, Distrust::Malformed(_)), "{message}");
    }

    #[test]
    fn skipped_long_and_unannounced_chunks_are_refused() {
        let layout = layout();
        let digest = ParameterVector::zeros(&layout).digest(&layout);
        let chunk = |index, length| wire::Chunk {
            index,
            data: Bytes::from(vec![0; length]),
        };
        assert!(
            arrival(&layout, digest).take(&chunk(0, 1024)).is_err(),
            "before its transfer"
        );
        let mut begun = arrival(&layout, digest);
        begun.begin(transfer(digest)).expect("its transfer");
        assert!(begun.take(&chunk(1, 1024)).is_err(), "skipped");
        assert!(begun.take(&chunk(0, 1025)).is_err(), "long");
        assert!(begun.take(&chunk(9, 1024)).is_err(), "behind the end");
        let other = ModelDigest(consilium_proto::Digest::plain(b"other"));
        assert!(
            arrival(&layout, digest).begin(transfer(other)).is_err(),
            "another version"
        );
    }
}

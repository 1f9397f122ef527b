//! Fetches a version's weights, chunk by chunk, and believes them by their digest.

use anyhow::{Context as _, Result};
use consilium_proto::{
    ErrorCode, ModelDigest, ParameterVector, Progress,
    chunk::Accepted,
    convert::Transfer,
    wire::{self, download_message::Part},
};

use super::{Researcher, Study};
use crate::failure::{refuse, refused_call};

impl Researcher {
    /// Downloads a version of a study.
    ///
    /// # Errors
    /// What the coordinator refuses, a stream that ends early, bytes with another digest.
    pub async fn download(
        &mut self,
        study: &Study,
        version: ModelDigest,
    ) -> Result<ParameterVector> {
        let request = wire::DownloadRequest {
            study: study.id.as_bytes().to_vec(),
            model_digest: version.as_bytes().to_vec(),
            from_chunk: 0,
        };
        let stream = self.studies.download(request).await.map_err(refused_call)?;
        let mut stream = stream.into_inner();
        let first = stream
            .message()
            .await
            .map_err(refused_call)?
            .and_then(|message| message.part);
        let Some(Part::Transfer(transfer)) = first else {
            return refuse(
                ErrorCode::Internal,
                "the coordinator sent no transfer before the weights",
            );
        };
        let chunks = Transfer::try_from(transfer)?.chunks;
        let expected = 4 * study.layout.parameters() as u64;
        if chunks.bytes() != expected {
            let message = format!(
                "the version has {} bytes, expected {expected}",
                chunks.bytes()
            );
            return refuse(ErrorCode::Internal, message);
        }
        let mut progress = Progress::resume(chunks, 0);
        let mut bytes = Vec::with_capacity(usize::try_from(expected)?);
        while let Some(message) = stream.message().await.map_err(refused_call)? {
            let Some(Part::Chunk(chunk)) = message.part else {
                return refuse(
                    ErrorCode::Internal,
                    "the coordinator sent something else than a chunk",
                );
            };
            if progress.accept(chunk.index, chunk.data.len())? == Accepted::New {
                bytes.extend_from_slice(&chunk.data);
            }
        }
        progress.finish().context("downloading the weights")?;
        let vector = ParameterVector::from_bytes(&bytes, &study.layout)?;
        let found = vector.digest(&study.layout);
        if found != version {
            let message = format!("the downloaded weights have digest {found}, not {version}");
            return refuse(ErrorCode::Internal, message);
        }
        Ok(vector)
    }
}

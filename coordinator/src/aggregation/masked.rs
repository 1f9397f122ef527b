//! The sum of masked uploads, unmasked part by part: what of it is looked at is the sum alone.

use consilium_privacy::secagg::{
    Terms,
    coordinator::Opening,
    encoding::{SumReader, Words},
};
use consilium_proto::{OutOfRange, RoundId, SiteId};
use ring::digest::{Context, SHA256};

use super::AggregationError;
use crate::blobs::{BlobName, Blobs};

/// The uploads of the survivors, and the masks in their sum.
pub struct MaskedSum {
    round: RoundId,
    terms: Terms,
    opening: Box<Opening>,
    chunk_bytes: u64,
    /// What a unit of the sum's mean moves a coordinate by.
    scale: f64,
    /// What the sum says besides the update; known once its tail is read.
    reader: Option<Tail>,
    hash: Context,
}

struct Tail {
    reader: SumReader,
    bytes: Vec<u8>,
}

/// What the sum was.
#[derive(Debug, Clone, PartialEq)]
pub struct Summed {
    /// SHA-256 of its words.
    pub digest: [u8; 32],
    /// Σ w.
    pub weight: u64,
    /// Sums of the further figures.
    pub figures: Vec<f64>,
}

impl MaskedSum {
    /// Uses the uploads spooled for an attempt, in chunks of so many bytes.
    pub fn new(round: RoundId, terms: Terms, opening: Box<Opening>, chunk_bytes: u32) -> Self {
        Self {
            round,
            terms,
            opening,
            chunk_bytes: chunk_bytes.into(),
            scale: 1.0,
            reader: None,
            hash: Context::new(&SHA256),
        }
    }

    /// Whose mean is multiplied by this: a distributed step comes in lattice units of a gradient.
    pub fn scaled(self, scale: f64) -> Self {
        Self { scale, ..self }
    }

    /// How many uploads it adds up.
    pub(super) fn sites(&self) -> usize {
        self.opening.survivors().len()
    }

    /// The weighted mean of so many coordinates from the first one on; to be asked in order.
    pub(super) async fn mean(
        &mut self,
        blobs: &Blobs,
        first: usize,
        length: usize,
    ) -> Result<Vec<f64>, AggregationError> {
        if self.reader.is_none() {
            let main = self.terms.main();
            let tail = self.unmask(blobs, main, self.terms.length() - main).await?;
            let reader = SumReader::new(&self.terms, self.opening.survivors().len(), &tail)?;
            let bytes = tail.bytes(0..tail.len());
            self.reader = Some(Tail { reader, bytes });
        }
        let part = self.unmask(blobs, first, length).await?;
        self.hash.update(&part.bytes(0..part.len()));
        let Some(tail) = &self.reader else {
            return Ok(vec![]);
        };
        let mean = tail.reader.mean(first, &part)?;
        Ok(mean
            .into_iter()
            .map(|value| f64::from(value) * self.scale)
            .collect())
    }

    /// What the sum was, once all of the update has been asked for.
    pub fn finish(mut self) -> Option<Summed> {
        let tail = self.reader?;
        self.hash.update(&tail.bytes);
        let mut digest = [0; 32];
        digest.copy_from_slice(self.hash.finish().as_ref());
        Some(Summed {
            digest,
            weight: tail.reader.weight(),
            figures: tail.reader.tail().to_vec(),
        })
    }

    /// Some words of the sum of the survivors' uploads, without their masks.
    async fn unmask(
        &mut self,
        blobs: &Blobs,
        first: usize,
        length: usize,
    ) -> Result<Words, AggregationError> {
        let word = self.terms.word();
        let mut sum = Words::zeros(word, length);
        let sites: Vec<SiteId> = (self.opening.survivors().iter())
            .map(|survivor| survivor.site.into())
            .collect();
        for site in sites {
            let name = BlobName::update(self.round, site);
            let (start, bytes) = (first * word.bytes(), length * word.bytes());
            let upload = self.read(blobs, &name, start as u64, bytes).await?;
            if !sum.add(&upload) {
                let found = format!("{} bytes for {bytes}", upload.len());
                return Err(OutOfRange::new("stored upload", "as long as its terms", found).into());
            }
        }
        self.opening.remove(first, &mut sum);
        Ok(sum)
    }

    /// Some bytes of an upload; chunks of it need not end where parts of the model do.
    async fn read(
        &self,
        blobs: &Blobs,
        name: &BlobName,
        start: u64,
        length: usize,
    ) -> Result<Vec<u8>, AggregationError> {
        let end = start + length as u64;
        let mut bytes = Vec::with_capacity(length);
        for index in start / self.chunk_bytes..end.div_ceil(self.chunk_bytes) {
            let chunk = blobs.read(name, index).await?;
            let offset = index * self.chunk_bytes;
            let from = start.saturating_sub(offset) as usize;
            let to = ((end - offset) as usize).min(chunk.len());
            bytes.extend_from_slice(chunk.get(from..to).unwrap_or_default());
        }
        Ok(bytes)
    }
}

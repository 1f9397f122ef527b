//! Forms the weighted mean of a round's updates and moves the model by it, chunk by chunk.
//!
//! Σ w·x over the updates in ascending order of sites, in f64, divided by Σ w: the same updates
//! give the same bytes, so doing it twice (as happens after a crash) changes nothing. Memory holds
//! one chunk of each thing at a time, however many sites and however long the model. With secure
//! aggregation the sum is one of words, and only the sum loses its masks ([`MaskedSum`]).

mod masked;

use consilium_privacy::secagg::encoding::Implausible;
use consilium_proto::{
    ChunkPlan, ChunkRefusal, Layout, ModelDigest, OutOfRange, RoundId, SiteId, plan,
    vector::{ModelHasher, words},
};

pub use self::masked::{MaskedSum, Summed};
use crate::{
    blobs::{BlobError, BlobName, Blobs},
    strategy,
};

/// Why there is no next version.
#[derive(Debug, thiserror::Error)]
pub enum AggregationError {
    /// A blob could not be read or written.
    #[error(transparent)]
    Blob(#[from] BlobError),
    /// The vectors are cut unsoundly.
    #[error(transparent)]
    Chunks(#[from] ChunkRefusal),
    /// A stored vector does not have the form it was stored in.
    #[error(transparent)]
    Form(#[from] OutOfRange),
    /// Masks did not cancel, or a site left the range that the round fixes.
    #[error(transparent)]
    Implausible(#[from] Implausible),
    /// The step overflowed.
    #[error("the step gives NaN or infinity at position {0}: is the learning rate too large?")]
    NotFinite(u64),
}

impl AggregationError {
    /// Whether trying again gives the same.
    pub fn is_lasting(&self) -> bool {
        match self {
            Self::Blob(error) => error.is_lasting(),
            _ => true,
        }
    }
}

/// What moves the model.
pub enum Updates {
    /// Each site's update in the clear, with its weight; ascending.
    Clear(Vec<(SiteId, u32)>),
    /// The sum alone.
    Masked(Box<MaskedSum>),
}

impl Updates {
    /// How many sites they are of.
    fn sites(&self) -> usize {
        match self {
            Self::Clear(updates) => updates.len(),
            Self::Masked(sum) => sum.sites(),
        }
    }
}

/// One round's work.
pub struct Aggregation {
    /// The attempt whose updates count; it makes the version of its round's number.
    pub round: RoundId,
    /// Layout of all vectors.
    pub layout: Layout,
    /// How they are cut; a multiple of 4.
    pub chunk_bytes: u32,
    /// What counts.
    pub updates: Updates,
    /// How the mean moves the model.
    pub strategy: plan::Strategy,
}

impl Aggregation {
    /// Writes the next version, with the optimiser's state beside it, and returns its identity.
    ///
    /// # Errors
    /// A blob that cannot be read or written, or a step that overflows.
    pub async fn run(&mut self, blobs: &Blobs) -> Result<ModelDigest, AggregationError> {
        let strategy = strategy::of(&self.strategy);
        let chunks = ChunkPlan::new(4 * self.layout.parameters() as u64, self.chunk_bytes)?;
        let (study, version) = (self.round.study, self.round.round);
        let mut hasher = ModelHasher::new(&self.layout);
        for index in 0..chunks.count() {
            let range = chunks.range(index);
            let length = ((range.end - range.start) / 4) as usize;
            let first = (range.start / 4) as usize;
            let mean = match &mut self.updates {
                Updates::Clear(_) => self.mean(blobs, index, length).await?,
                Updates::Masked(sum) => sum.mean(blobs, first, length).await?,
            };
            let before = BlobName::version(study, version - 1);
            let mut model: Vec<f64> = read(blobs, &before, index, length).await?;
            let mut state = vec![];
            for (slot, start) in strategy.initial_state().into_iter().enumerate() {
                let before = BlobName::optimizer(study, version - 1, slot);
                state.push(match version {
                    1 => vec![start; length],
                    _ => read_state(blobs, &before, index).await?,
                });
            }
            strategy.apply(self.updates.sites(), &mean, &mut model, &mut state);
            let bytes = to_words(&model)
                .map_err(|at| AggregationError::NotFinite(range.start / 4 + at as u64))?;
            hasher.update(&bytes);
            blobs
                .write(&BlobName::version(study, version), index, &bytes)
                .await?;
            for (slot, values) in state.iter().enumerate() {
                let bytes: Vec<u8> = values
                    .iter()
                    .flat_map(|value| value.to_le_bytes())
                    .collect();
                blobs
                    .write(&BlobName::optimizer(study, version, slot), index, &bytes)
                    .await?;
            }
        }
        Ok(hasher.finish())
    }

    async fn mean(
        &self,
        blobs: &Blobs,
        index: u64,
        length: usize,
    ) -> Result<Vec<f64>, AggregationError> {
        let mut sum = vec![0.0; length];
        let Updates::Clear(updates) = &self.updates else {
            return Ok(sum);
        };
        for &(site, weight) in updates {
            let name = BlobName::update(self.round, site);
            let update = read(blobs, &name, index, length).await?;
            for (sum, value) in sum.iter_mut().zip(&update) {
                *sum += f64::from(weight) * value;
            }
        }
        let total: f64 = updates.iter().map(|&(_, weight)| f64::from(weight)).sum();
        sum.iter_mut().for_each(|value| *value /= total);
        Ok(sum)
    }
}

async fn read(
    blobs: &Blobs,
    name: &BlobName,
    index: u64,
    length: usize,
) -> Result<Vec<f64>, AggregationError> {
    let values = words(&blobs.read(name, index).await?)?;
    if values.len() != length {
        let found = format!("{} parameters for {length}", values.len());
        return Err(OutOfRange::new("stored chunk", "as long as its place", found).into());
    }
    Ok(values.into_iter().map(f64::from).collect())
}

async fn read_state(
    blobs: &Blobs,
    name: &BlobName,
    index: u64,
) -> Result<Vec<f64>, AggregationError> {
    let bytes = blobs.read(name, index).await?;
    let (words, _) = bytes.as_chunks::<8>();
    Ok(words.iter().map(|word| f64::from_le_bytes(*word)).collect())
}

/// Rounds to f32, or names the first position that does not fit.
fn to_words(model: &[f64]) -> Result<Vec<u8>, usize> {
    let mut bytes = Vec::with_capacity(4 * model.len());
    for (at, &value) in model.iter().enumerate() {
        let value = value as f32;
        if !value.is_finite() {
            return Err(at);
        }
        bytes.extend(value.to_le_bytes());
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests;

//! A long byte string travels in chunks: bounded, in order, resumable, digested as a whole.

use std::ops::Range;

/// Chunk size unless the round says otherwise: 1 MiB.
pub const DEFAULT_CHUNK_BYTES: u32 = 1 << 20;
/// Smallest and largest chunk size that either side accepts.
pub const CHUNK_BYTES: std::ops::RangeInclusive<u32> = 1 << 10..=1 << 20;
/// Largest message that either side decodes: the largest chunk and room for what is around it.
pub const MESSAGE_LIMIT: usize = 2 << 20;

/// Why a chunk, or the plan of its transfer, is refused. The transfer stays as it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ChunkRefusal {
    /// The size is not one that either side accepts.
    #[error("chunk size must be 1024 to 1048576 bytes, found {0}")]
    Size(u32),
    /// A chunk was skipped.
    #[error("chunk {found} arrived, but chunk {expected} is missing: continue from there")]
    OutOfOrder {
        /// The first missing one.
        expected: u64,
        /// The one that came.
        found: u64,
    },
    /// The index lies behind the end.
    #[error("chunk {found} arrived, but there are only {count}")]
    TooMany {
        /// Number of chunks of the transfer.
        count: u64,
        /// The one that came.
        found: u64,
    },
    /// The data has not the length that its index calls for.
    #[error("chunk {index} must have {expected} bytes, found {found}")]
    Length {
        /// Which chunk.
        index: u64,
        /// The length its place calls for.
        expected: usize,
        /// The length it came with.
        found: usize,
    },
    /// The stream ended before the last chunk.
    #[error("the stream ended early: {received} of {count} chunks arrived; continue from there")]
    Truncated {
        /// Chunks that arrived.
        received: u64,
        /// Chunks of the transfer.
        count: u64,
    },
}

/// How a byte string is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChunkPlan {
    bytes: u64,
    chunk_bytes: u32,
}

impl ChunkPlan {
    /// Cuts `bytes` into pieces of `chunk_bytes`.
    ///
    /// # Errors
    /// A chunk size outside [`CHUNK_BYTES`].
    pub fn new(bytes: u64, chunk_bytes: u32) -> Result<Self, ChunkRefusal> {
        if CHUNK_BYTES.contains(&chunk_bytes) {
            Ok(Self { bytes, chunk_bytes })
        } else {
            Err(ChunkRefusal::Size(chunk_bytes))
        }
    }

    /// Length of the whole.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Length of every piece but the last.
    pub fn chunk_bytes(&self) -> u32 {
        self.chunk_bytes
    }

    /// Number of pieces.
    pub fn count(&self) -> u64 {
        self.bytes.div_ceil(u64::from(self.chunk_bytes))
    }

    /// Where a piece lies in the whole; empty behind the end.
    pub fn range(&self, index: u64) -> Range<u64> {
        let start = index
            .saturating_mul(u64::from(self.chunk_bytes))
            .min(self.bytes);
        start
            ..start
                .saturating_add(u64::from(self.chunk_bytes))
                .min(self.bytes)
    }
}

/// How far a transfer has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    plan: ChunkPlan,
    received: u64,
}

/// What to do with a chunk that is as it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accepted {
    /// Append its data.
    New,
    /// It came before: nothing to do.
    Repeated,
}

impl Progress {
    /// A transfer of which the first `received` chunks are here.
    pub fn resume(plan: ChunkPlan, received: u64) -> Self {
        Self {
            plan,
            received: received.min(plan.count()),
        }
    }

    /// The first chunk that is missing.
    pub fn next(&self) -> u64 {
        self.received
    }

    /// Takes the next chunk, or recognises an earlier one.
    ///
    /// # Errors
    /// A gap, an index behind the end, a length that does not fit; the progress is unchanged.
    pub fn accept(&mut self, index: u64, length: usize) -> Result<Accepted, ChunkRefusal> {
        let count = self.plan.count();
        if index >= count {
            return Err(ChunkRefusal::TooMany {
                count,
                found: index,
            });
        }
        let range = self.plan.range(index);
        let expected = (range.end - range.start) as usize;
        if length != expected {
            return Err(ChunkRefusal::Length {
                index,
                expected,
                found: length,
            });
        }
        match index.cmp(&self.received) {
            std::cmp::Ordering::Less => Ok(Accepted::Repeated),
            std::cmp::Ordering::Equal => {
                self.received += 1;
                Ok(Accepted::New)
            }
            std::cmp::Ordering::Greater => Err(ChunkRefusal::OutOfOrder {
                expected: self.received,
                found: index,
            }),
        }
    }

    /// Whether every chunk is here.
    pub fn is_complete(&self) -> bool {
        self.received == self.plan.count()
    }

    /// Says that the stream has ended.
    ///
    /// # Errors
    /// Chunks are missing.
    pub fn finish(&self) -> Result<(), ChunkRefusal> {
        if self.is_complete() {
            return Ok(());
        }
        Err(ChunkRefusal::Truncated {
            received: self.received,
            count: self.plan.count(),
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn plan() -> ChunkPlan {
        ChunkPlan::new(2_500, 1_024).expect("a sound plan")
    }

    #[test]
    fn gaps_repeats_wrong_lengths_and_early_ends_are_told_apart() {
        let mut progress = Progress::resume(plan(), 0);
        let skipped = ChunkRefusal::OutOfOrder {
            expected: 0,
            found: 1,
        };
        assert_eq!(progress.accept(1, 1_024), Err(skipped));
        assert_eq!(progress.accept(0, 1_024), Ok(Accepted::New));
        assert_eq!(progress.accept(0, 1_024), Ok(Accepted::Repeated));
        let long = ChunkRefusal::Length {
            index: 1,
            expected: 1_024,
            found: 1_025,
        };
        assert_eq!(progress.accept(1, 1_025), Err(long));
        assert_eq!(
            progress.finish(),
            Err(ChunkRefusal::Truncated {
                received: 1,
                count: 3
            })
        );
        assert_eq!(progress.accept(1, 1_024), Ok(Accepted::New));
        assert_eq!(progress.accept(2, 452), Ok(Accepted::New));
        let behind = ChunkRefusal::TooMany { count: 3, found: 3 };
        assert_eq!(progress.accept(3, 0), Err(behind));
        assert_eq!(progress.finish(), Ok(()));
    }

    #[test]
    fn chunk_sizes_have_bounds() {
        assert_eq!(ChunkPlan::new(1, 0), Err(ChunkRefusal::Size(0)));
        assert_eq!(ChunkPlan::new(1, 2 << 20), Err(ChunkRefusal::Size(2 << 20)));
    }

    proptest! {
        #[test]
        fn the_pieces_make_the_whole(bytes in 0_u64..10_000_000, size in 1_024_u32..=1 << 20) {
            let plan = ChunkPlan::new(bytes, size).expect("a size within bounds");
            let mut end = 0;
            for index in 0..plan.count() {
                let range = plan.range(index);
                prop_assert_eq!(range.start, end);
                prop_assert!(range.end > range.start);
                end = range.end;
            }
            prop_assert_eq!(end, bytes);
        }
    }
}

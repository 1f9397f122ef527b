//! An upload that arrives piece by piece: in order, each byte once, as long as the terms say.

use ring::digest::{self, SHA256};

use super::terms::Terms;

/// Why a piece is not taken. What came before stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ChunkRefused {
    /// It does not continue what is there: a repeat, an overlap or a gap.
    #[error("a piece at byte {found} does not continue an upload of {expected} bytes")]
    NotNext {
        /// Bytes there are.
        expected: u64,
        /// Where the piece begins.
        found: u64,
    },
    /// It goes beyond the end.
    #[error("the upload is longer than the {length} bytes it must have")]
    TooLong {
        /// Length by the terms.
        length: u64,
    },
    /// Pieces are missing.
    #[error("the upload ends after {found} of {length} bytes")]
    Truncated {
        /// Length by the terms.
        length: u64,
        /// Bytes that came.
        found: u64,
    },
}

/// An upload that is complete. Nothing of it is added before its trailer agrees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spooled {
    /// Its length in bytes.
    pub length: u64,
    /// SHA-256 of its bytes.
    pub digest: [u8; 32],
}

/// An upload on its way.
pub struct Receiving {
    hash: digest::Context,
    length: u64,
    received: u64,
}

impl Receiving {
    /// Waits for the first piece.
    pub fn new(terms: &Terms) -> Self {
        Self {
            hash: digest::Context::new(&SHA256),
            length: terms.bytes(),
            received: 0,
        }
    }

    /// Takes the piece that begins at this byte.
    ///
    /// # Errors
    /// A piece that is not the next one, or goes beyond the end.
    pub fn take(&mut self, offset: u64, piece: &[u8]) -> Result<(), ChunkRefused> {
        if offset != self.received {
            let (expected, found) = (self.received, offset);
            return Err(ChunkRefused::NotNext { expected, found });
        }
        let length = self.length;
        if piece.len() as u64 > length - self.received {
            return Err(ChunkRefused::TooLong { length });
        }
        self.hash.update(piece);
        self.received += piece.len() as u64;
        Ok(())
    }

    /// All pieces have come.
    ///
    /// # Errors
    /// Some have not.
    pub fn finish(self) -> Result<Spooled, ChunkRefused> {
        let (length, found) = (self.length, self.received);
        if found != length {
            return Err(ChunkRefused::Truncated { length, found });
        }
        let mut digest = [0; 32];
        digest.copy_from_slice(self.hash.finish().as_ref());
        Ok(Spooled { length, digest })
    }
}

//! Words of a vector, added modulo 2³² or 2⁶⁴.

use std::{fmt, ops::Range};

use ring::digest::{self, SHA256};
use zeroize::Zeroize;

/// Width of a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Word {
    /// 32 bits: an upload as long as the update in `f32`.
    U32,
    /// 64 bits.
    U64,
}

impl Word {
    /// Its length.
    pub fn bytes(self) -> usize {
        match self {
            Self::U32 => 4,
            Self::U64 => 8,
        }
    }

    /// Largest value of a signed word.
    pub(super) fn largest(self) -> u64 {
        match self {
            Self::U32 => i32::MAX as u64,
            Self::U64 => i64::MAX as u64,
        }
    }
}

/// A vector of words, or a part of one.
#[derive(Clone, PartialEq, Eq)]
pub enum Words {
    /// Of 32 bits.
    U32(Vec<u32>),
    /// Of 64 bits.
    U64(Vec<u64>),
}

impl Words {
    /// So many zeros.
    pub fn zeros(word: Word, length: usize) -> Self {
        match word {
            Word::U32 => Self::U32(vec![0; length]),
            Word::U64 => Self::U64(vec![0; length]),
        }
    }

    /// How many.
    pub fn len(&self) -> usize {
        match self {
            Self::U32(words) => words.len(),
            Self::U64(words) => words.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Width of each.
    pub fn word(&self) -> Word {
        match self {
            Self::U32(_) => Word::U32,
            Self::U64(_) => Word::U64,
        }
    }

    /// The bytes of some of them, little-endian, as they travel. Nothing for a range outside.
    pub fn bytes(&self, range: Range<usize>) -> Vec<u8> {
        match self {
            Self::U32(words) => (words.get(range).unwrap_or_default().iter())
                .flat_map(|word| word.to_le_bytes())
                .collect(),
            Self::U64(words) => (words.get(range).unwrap_or_default().iter())
                .flat_map(|word| word.to_le_bytes())
                .collect(),
        }
    }

    /// SHA-256 of the bytes of all of them.
    pub fn digest(&self) -> [u8; 32] {
        const PART: usize = 1 << 14;
        let mut hash = digest::Context::new(&SHA256);
        for first in (0..self.len()).step_by(PART) {
            hash.update(&self.bytes(first..self.len().min(first + PART)));
        }
        let mut digest = [0; 32];
        digest.copy_from_slice(hash.finish().as_ref());
        digest
    }

    /// Adds the words that these bytes hold. Says whether there were as many bytes as the words
    /// need; otherwise nothing is added.
    #[must_use]
    pub fn add(&mut self, bytes: &[u8]) -> bool {
        if bytes.len() != self.len() * self.word().bytes() {
            return false;
        }
        match self {
            Self::U32(words) => add_u32(words, bytes),
            Self::U64(words) => add_u64(words, bytes),
        }
        true
    }

    pub(in crate::secagg) fn wipe(&mut self) {
        match self {
            Self::U32(words) => words.zeroize(),
            Self::U64(words) => words.zeroize(),
        }
    }

    /// Signed values, in order.
    pub(super) fn signed(&self) -> Box<dyn Iterator<Item = i64> + '_> {
        match self {
            Self::U32(words) => Box::new(words.iter().map(|word| word.cast_signed().into())),
            Self::U64(words) => Box::new(words.iter().map(|word| word.cast_signed())),
        }
    }
}

impl fmt::Debug for Words {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Words({} of {:?})", self.len(), self.word())
    }
}

/// Adds or subtracts little-endian words, as many as there are on both sides.
macro_rules! word_by_word {
    ($($name:ident: $word:ty, $operation:ident);*) => {$(
        crate::vectorised! {
            pub(in crate::secagg) fn $name<'a>(words: &'a mut [$word], bytes: &'a [u8]) {
                for (word, bytes) in words.iter_mut().zip(bytes.as_chunks().0) {
                    *word = word.$operation(<$word>::from_le_bytes(*bytes));
                }
            }
        }
    )*};
}

word_by_word! {
    add_u32: u32, wrapping_add;
    subtract_u32: u32, wrapping_sub;
    add_u64: u64, wrapping_add;
    subtract_u64: u64, wrapping_sub
}

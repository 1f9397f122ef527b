//! The header of a sealed file, and the keys it leads to.
//!
//! | bytes | content |
//! |---|---|
//! | 0..8 | `CNSLSEAL` |
//! | 8 | form, 1 |
//! | 9 | kind of key: 0 random, 1 passphrase |
//! | 10..14 | PBKDF2 iterations, 0 for a random key |
//! | 14..30 | PBKDF2 salt, zeros for a random key |
//! | 30..62 | salt of the file key |
//! | 62..69 | start of each nonce; then 4 bytes segment number, 1 byte "last" |
//! | 69..77 | length of the content |
//! | 77..93 | key check, tells a wrong passphrase from a changed file |
//! | 93..109 | context check, tells a misplaced file from a changed one |
//!
//! Numbers are big-endian. Header and context are associated data of every segment.

use ring::{
    hkdf::{self, HKDF_SHA256, Salt},
    rand::{SecureRandom, SystemRandom},
};
use zeroize::Zeroizing;

use super::{OpenError, SealError};
use crate::keystream::NoRandomness;

/// Length of the header.
pub(super) const HEADER: usize = 109;
/// Content in one segment.
pub(super) const SEGMENT: usize = 1 << 20;
/// Length of the tag that follows each segment.
pub(super) const TAG: usize = 16;

const MAGIC: &[u8; 8] = b"CNSLSEAL";
const FORM: u8 = 1;

/// How a passphrase becomes a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Stretch {
    pub(super) iterations: u32,
    pub(super) salt: [u8; 16],
}

/// What stands before the segments.
#[derive(Debug)]
pub(super) struct Header {
    /// `None` for a key of 32 random bytes.
    pub(super) stretch: Option<Stretch>,
    file_salt: [u8; 32],
    nonce_start: [u8; 7],
    pub(super) length: u64,
    pub(super) key_check: [u8; 16],
    pub(super) context_check: [u8; 16],
}

/// Keys and checks of one file.
pub(super) struct FileKeys {
    pub(super) encryption: Zeroizing<[u8; 32]>,
    pub(super) key_check: [u8; 16],
    pub(super) context_check: [u8; 16],
}

impl Header {
    /// A header for new content, with fresh salts.
    pub(super) fn new(length: u64) -> Result<Self, SealError> {
        let mut random = [0; 39];
        SystemRandom::new()
            .fill(&mut random)
            .map_err(|_| NoRandomness)?;
        let mut header = Self::blank(length);
        header.file_salt.copy_from_slice(&random[..32]);
        header.nonce_start.copy_from_slice(&random[32..]);
        Ok(header)
    }

    fn blank(length: u64) -> Self {
        Self {
            stretch: None,
            file_salt: [0; 32],
            nonce_start: [0; 7],
            length,
            key_check: [0; 16],
            context_check: [0; 16],
        }
    }

    /// Known salts, for known answers.
    #[cfg(test)]
    pub(super) fn fixed(length: u64) -> Self {
        Self {
            file_salt: [2; 32],
            nonce_start: [3; 7],
            ..Self::blank(length)
        }
    }

    pub(super) fn read(sealed: &[u8]) -> Result<Self, OpenError> {
        let Some(rest) = sealed.strip_prefix(MAGIC) else {
            return Err(OpenError::NotSealed);
        };
        match rest.first() {
            None | Some(&FORM) => {}
            Some(&found) => return Err(OpenError::Version { found }),
        }
        let (expected, found) = (HEADER as u64, sealed.len() as u64);
        Self::fields(rest).ok_or(if found < expected {
            OpenError::Truncated { expected, found }
        } else {
            OpenError::Tampered
        })
    }

    fn fields(bytes: &[u8]) -> Option<Self> {
        let (_form, bytes) = bytes.split_first()?;
        let (kind, bytes) = bytes.split_first()?;
        let (iterations, bytes) = bytes.split_first_chunk()?;
        let (salt, bytes) = bytes.split_first_chunk()?;
        let (file_salt, bytes) = bytes.split_first_chunk()?;
        let (nonce_start, bytes) = bytes.split_first_chunk()?;
        let (length, bytes) = bytes.split_first_chunk()?;
        let (key_check, bytes) = bytes.split_first_chunk()?;
        let (context_check, _) = bytes.split_first_chunk()?;
        let stretch = Stretch {
            iterations: u32::from_be_bytes(*iterations),
            salt: *salt,
        };
        let stretch = match kind {
            0 if stretch == Stretch::default() => None,
            1 => Some(stretch),
            _ => return None,
        };
        Some(Self {
            stretch,
            file_salt: *file_salt,
            nonce_start: *nonce_start,
            length: u64::from_be_bytes(*length),
            key_check: *key_check,
            context_check: *context_check,
        })
    }

    pub(super) fn to_bytes(&self, keys: &FileKeys) -> [u8; HEADER] {
        let stretch = self.stretch.unwrap_or_default();
        let mut bytes = [0; HEADER];
        bytes[..8].copy_from_slice(MAGIC);
        bytes[8] = FORM;
        bytes[9] = u8::from(self.stretch.is_some());
        bytes[10..14].copy_from_slice(&stretch.iterations.to_be_bytes());
        bytes[14..30].copy_from_slice(&stretch.salt);
        bytes[30..62].copy_from_slice(&self.file_salt);
        bytes[62..69].copy_from_slice(&self.nonce_start);
        bytes[69..77].copy_from_slice(&self.length.to_be_bytes());
        bytes[77..93].copy_from_slice(&keys.key_check);
        bytes[93..].copy_from_slice(&keys.context_check);
        bytes
    }

    /// Number of segments, at least 1: empty content has a tag too.
    pub(super) fn segments(&self) -> u64 {
        self.length.div_ceil(SEGMENT as u64).max(1)
    }

    /// Length of the whole file. A header may claim any length, so this saturates.
    pub(super) fn sealed_length(&self) -> u64 {
        let tags = self.segments().saturating_mul(TAG as u64);
        self.length
            .saturating_add(tags)
            .saturating_add(HEADER as u64)
    }

    pub(super) fn nonce(&self, segment: u32, last: bool) -> [u8; 12] {
        let mut nonce = [0; 12];
        nonce[..7].copy_from_slice(&self.nonce_start);
        nonce[7..11].copy_from_slice(&segment.to_be_bytes());
        nonce[11] = u8::from(last);
        nonce
    }

    /// Derives this file's keys from the sealing key.
    pub(super) fn keys(&self, secret: &[u8; 32], context: &str) -> FileKeys {
        let prk = Salt::new(HKDF_SHA256, &self.file_salt).extract(secret);
        let mut keys = FileKeys {
            encryption: Zeroizing::new([0; 32]),
            key_check: [0; 16],
            context_check: [0; 16],
        };
        expand(
            &prk,
            &[b"consilium/seal/1 encryption"],
            keys.encryption.as_mut(),
        );
        expand(&prk, &[b"consilium/seal/1 key check"], &mut keys.key_check);
        let info: [&[u8]; 2] = [b"consilium/seal/1 context\0", context.as_bytes()];
        expand(&prk, &info, &mut keys.context_check);
        keys
    }
}

struct Length(usize);

impl hkdf::KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}

fn expand(prk: &hkdf::Prk, info: &[&[u8]], output: &mut [u8]) {
    // Fails only for outputs above 255 · 32 bytes.
    prk.expand(info, Length(output.len()))
        .and_then(|okm| okm.fill(output))
        .expect("the output is within the limit of HKDF-SHA256");
}

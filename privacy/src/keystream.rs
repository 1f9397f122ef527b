//! Keys and random bits for noise and sampling.
//!
//! The generator is AES-256-GCM over zeros (its keystream is AES in counter mode), the key of each
//! step comes from HKDF-SHA256 over everything that names the step, and noise and sampling have
//! keys of their own. So no two releases ever share noise: **the same noise on two batches would
//! subtract out and protect nobody**. The guarantee is the computational form of differential
//! privacy: it holds against anyone who cannot break AES-256.
//!
//! A seed of an experiment never reaches this module: a [`MasterSecret`] comes from the system.

use std::fmt;

use ring::{
    aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey},
    digest::{SHA256, digest},
    hkdf::{self, HKDF_SHA256, Salt},
    rand::{SecureRandom, SystemRandom},
};
use zeroize::{Zeroize, Zeroizing};

use crate::seal::{OpenError, SealError, SealingKey};

/// Sealed files of other kinds never open as a secret.
const SEALING_CONTEXT: &str = "master secret";

/// Bytes made at once, one page.
const BUFFER: usize = 1 << 14;

/// The system's generator gave no bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the operating system gave no random bytes; wait for its generator, then start again")]
pub struct NoRandomness;

/// 32 secret bytes from which the keys of all steps of one grant are derived.
///
/// Make a fresh one for each charge, which commits to it; it is wiped from memory when dropped.
pub struct MasterSecret(Zeroizing<[u8; 32]>);

/// SHA-256 of a [`MasterSecret`]: shows later which secret was used, and tells nothing about it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Commitment([u8; 32]);

impl Commitment {
    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl From<[u8; 32]> for Commitment {
    fn from(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

impl serde::Serialize for Commitment {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl fmt::Display for Commitment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Commitment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Commitment({self})")
    }
}

impl MasterSecret {
    /// Draws one from the operating system.
    ///
    /// # Errors
    /// The system has no randomness to give.
    pub fn random() -> Result<Self, NoRandomness> {
        let mut bytes = Zeroizing::new([0; 32]);
        SystemRandom::new()
            .fill(bytes.as_mut())
            .map_err(|_| NoRandomness)?;
        Ok(Self(bytes))
    }

    /// Pages that belong to no step.
    pub(crate) fn into_pages(self) -> Pages {
        Pages::new(&self.0)
    }

    /// What a ledger writes down of it, before its first use.
    pub fn commitment(&self) -> Commitment {
        let mut bytes = Zeroizing::new(b"consilium/key-commitment/1\0".to_vec());
        bytes.extend(self.0.as_ref());
        let mut commitment = [0; 32];
        commitment.copy_from_slice(digest(&SHA256, &bytes).as_ref());
        Commitment(commitment)
    }

    /// Seals it for this site's disk, so that an interrupted round is taken up with the same
    /// batches and noise, and an auditor inside the hospital can repeat a round.
    ///
    /// # Errors
    /// As [`SealingKey::seal`].
    pub fn seal(&self, key: &SealingKey) -> Result<Vec<u8>, SealError> {
        key.seal(SEALING_CONTEXT, self.0.as_ref())
    }

    /// Opens what [`seal`](Self::seal) made at this site.
    ///
    /// # Errors
    /// A seal that is not intact or not ours.
    pub fn open(key: &SealingKey, sealed: &[u8]) -> Result<Self, OpenError> {
        let bytes = key.open(SEALING_CONTEXT, sealed)?;
        // Only `seal` makes seals under this context.
        let bytes = bytes
            .as_slice()
            .try_into()
            .expect("a sealed secret has 32 bytes");
        Ok(Self(Zeroizing::new(bytes)))
    }

    /// Fixed bytes, for known answers. Not public: noise from a chosen key is no noise.
    #[cfg(test)]
    pub(crate) fn fixed(bytes: [u8; 32]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// The same secret for the other half of a step: sampler and noise have keys of their own.
    pub(crate) fn duplicate(&self) -> Self {
        Self(self.0.clone())
    }

    /// A stream for one purpose in one step.
    pub(crate) fn keystream(&self, purpose: Purpose, step: &StepContext) -> Keystream {
        Keystream::new(self.pages(purpose, step))
    }

    /// The pages of one purpose in one step.
    pub(crate) fn pages(&self, purpose: Purpose, step: &StepContext) -> Pages {
        let info = step.to_bytes();
        let key = Salt::new(HKDF_SHA256, purpose.label().as_bytes()).extract(self.0.as_ref());
        let mut bytes = Zeroizing::new([0_u8; 32]);
        // Fails only for outputs above 255 · 32 bytes.
        key.expand(&[&info], Length32)
            .and_then(|okm| okm.fill(bytes.as_mut()))
            .expect("32 bytes are within the limit of HKDF-SHA256");
        Pages::new(&bytes)
    }
}

impl fmt::Debug for MasterSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MasterSecret([redacted])")
    }
}

/// What random bits are for. Bits of one purpose say nothing about those of the other.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Purpose {
    /// The noise added to a sum.
    Noise,
    /// The coins that draw a batch.
    Sampling,
}

impl Purpose {
    fn label(self) -> &'static str {
        match self {
            Self::Noise => "consilium/noise/1",
            Self::Sampling => "consilium/sampling/1",
        }
    }
}

/// All that names a step. Two steps that differ in any field have unrelated keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct StepContext {
    pub(crate) study: [u8; 16],
    pub(crate) round: u32,
    pub(crate) attempt: u32,
    pub(crate) step: u32,
    /// Position of the grant in the ledger, which never comes twice.
    pub(crate) sequence: u64,
    /// Hash of that entry, which covers all entries before it: sets two ledgers apart.
    pub(crate) entry: [u8; 32],
}

impl StepContext {
    fn to_bytes(self) -> [u8; 68] {
        let mut bytes = [0; 68];
        bytes[..16].copy_from_slice(&self.study);
        bytes[16..20].copy_from_slice(&self.round.to_be_bytes());
        bytes[20..24].copy_from_slice(&self.attempt.to_be_bytes());
        bytes[24..28].copy_from_slice(&self.step.to_be_bytes());
        bytes[28..36].copy_from_slice(&self.sequence.to_be_bytes());
        bytes[36..].copy_from_slice(&self.entry);
        bytes
    }
}

struct Length32;

impl hkdf::KeyType for Length32 {
    fn len(&self) -> usize {
        32
    }
}

/// Uniform bits under one key, in numbered pages. The same page always holds the same bits, so
/// whoever reads it twice must mean to.
pub(crate) struct Pages(LessSafeKey);

impl Pages {
    pub(crate) fn new(key: &[u8; 32]) -> Self {
        let key = UnboundKey::new(&AES_256_GCM, key).expect("AES-256 takes any 32 bytes");
        Self(LessSafeKey::new(key))
    }

    /// Overwrites `bytes` with the start of a page. They are few KiB: far below the 2³⁶ bytes that
    /// AES-GCM allows.
    pub(crate) fn fill(&self, page: u64, bytes: &mut [u8]) {
        let mut nonce = [0; 12];
        nonce[4..].copy_from_slice(&page.to_be_bytes());
        bytes.fill(0);
        // Fails only for inputs beyond 64 GiB. The tag is of no use here.
        let nonce = Nonce::assume_unique_for_key(nonce);
        let _tag = (self.0)
            .seal_in_place_separate_tag(nonce, Aad::empty(), bytes)
            .expect("a page is within the limit of AES-GCM");
    }
}

/// An endless stream of uniform bits under one key.
pub(crate) struct Keystream {
    pages: Pages,
    page: u64,
    buffer: Box<[u8; BUFFER]>,
    /// Bytes of the buffer that were given out.
    used: usize,
}

impl Keystream {
    pub(crate) fn new(pages: Pages) -> Self {
        Self {
            pages,
            page: 0,
            buffer: Box::new([0; BUFFER]),
            used: BUFFER,
        }
    }

    /// 64 uniform bits.
    #[inline]
    pub(crate) fn word(&mut self) -> u64 {
        if self.used == BUFFER {
            self.refill();
        }
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&self.buffer[self.used..self.used + 8]);
        self.used += 8;
        u64::from_le_bytes(bytes)
    }

    /// A uniform number below `bound`, exactly, by rejection.
    ///
    /// # Panics
    /// If `bound` is 0.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        // The largest multiple of `bound` that fits: words at or above it would favour small ones.
        let excess = (u64::MAX % bound + 1) % bound;
        loop {
            let word = self.word();
            if word <= u64::MAX - excess {
                return word % bound;
            }
        }
    }

    fn refill(&mut self) {
        self.pages.fill(self.page, self.buffer.as_mut());
        self.page += 1; // 2^64 buffers of 16 KiB are never reached
        self.used = 0;
    }
}

impl Drop for Keystream {
    fn drop(&mut self) {
        self.buffer.zeroize();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEP: StepContext = StepContext {
        study: [1; 16],
        round: 2,
        attempt: 3,
        step: 4,
        sequence: 5,
        entry: [6; 32],
    };

    fn first(purpose: Purpose, step: StepContext) -> u64 {
        MasterSecret::fixed([9; 32])
            .keystream(purpose, &step)
            .word()
    }

    #[test]
    fn every_part_of_a_step_and_its_purpose_changes_the_bits() {
        let base = first(Purpose::Noise, STEP);
        assert_eq!(base, first(Purpose::Noise, STEP));
        let others = [
            first(Purpose::Sampling, STEP),
            first(
                Purpose::Noise,
                StepContext {
                    study: [2; 16],
                    ..STEP
                },
            ),
            first(Purpose::Noise, StepContext { round: 3, ..STEP }),
            first(Purpose::Noise, StepContext { attempt: 4, ..STEP }),
            first(Purpose::Noise, StepContext { step: 5, ..STEP }),
            first(
                Purpose::Noise,
                StepContext {
                    sequence: 6,
                    ..STEP
                },
            ),
            first(
                Purpose::Noise,
                StepContext {
                    entry: [7; 32],
                    ..STEP
                },
            ),
        ];
        assert!(others.iter().all(|other| *other != base));
    }

    #[test]
    fn the_stream_is_aes_256_in_counter_mode() {
        // NIST GCM test case 14 (McGrew, Viega): zero key, zero nonce, zero plaintext.
        let mut stream = Keystream::new(Pages::new(&[0; 32]));
        let mut bytes = Vec::new();
        bytes.extend_from_slice(&stream.word().to_le_bytes());
        bytes.extend_from_slice(&stream.word().to_le_bytes());
        assert_eq!(hex::encode(bytes), "cea7403d4d606b6e074ec5d3baf39d18");
    }

    #[test]
    fn buffers_do_not_repeat_and_small_draws_stay_in_range() {
        let mut stream = Keystream::new(Pages::new(&[7; 32]));
        let words: Vec<u64> = (0..BUFFER / 4).map(|_| stream.word()).collect();
        assert_ne!(words[..BUFFER / 8], words[BUFFER / 8..]);
        for bound in [1, 2, 3, 1000, u64::MAX] {
            assert!((0..50).all(|_| stream.below(bound) < bound));
        }
    }

    #[test]
    fn pages_are_told_apart_and_a_short_one_is_the_start_of_a_long_one() {
        let pages = Pages::new(&[8; 32]);
        let (mut short, mut long, mut other) = ([1; 16], [2; 48], [3; 48]);
        pages.fill(5, &mut short);
        pages.fill(5, &mut long);
        pages.fill(6, &mut other);
        assert_eq!(short, long[..16]);
        assert!(long != other && long[..32] != long[16..]);
    }

    #[test]
    fn secrets_do_not_print() {
        assert_eq!(
            format!("{:?}", MasterSecret::fixed([9; 32])),
            "MasterSecret([redacted])"
        );
    }
}

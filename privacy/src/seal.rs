//! Keys, models and cached data at rest: AES-256-GCM under a key that only this site can make.
//!
//! Every sealed file has a key of its own, derived from the sealing key and a random salt, and is
//! bound to a **context** (what it is: `"identity key"`, `"study …/round …"`), so that one sealed
//! file cannot be put in place of another. Long content is sealed in segments of 1 MiB whose nonce
//! holds position and "last" flag (STREAM; Hoang, Reyhanitabar, Rogaway, Vizár 2015), so cut and
//! shuffled files are found. Sealing hides content from whoever copies the disk; it does not hide
//! its length, nor replace an old file that is put back whole.
//!
//! The form is fixed by the test `the_sealed_form_is_frozen`.

mod file;
mod format;
mod key;

use std::fmt;

pub use file::{FileError, create_private, read_sealed, write_private, write_sealed};
use format::{HEADER, Header, SEGMENT, TAG};
pub use key::{KeyError, MIN_ITERATIONS, SealingKey};
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use zeroize::Zeroizing;

use crate::keystream::NoRandomness;

/// Why nothing was sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// The system has no randomness to give.
    #[error(transparent)]
    NoRandomness(#[from] NoRandomness),
    /// Longer than 2³² segments.
    #[error("too long to be sealed: the limit is 4 PiB")]
    TooLong,
}

/// Why something sealed was not opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// It does not begin as sealed content does.
    #[error("this is not a sealed file")]
    NotSealed,
    /// Sealed by another version of this program.
    #[error("sealed in form {found}, this program knows form 1; use the newer program")]
    Version {
        /// The form it has.
        found: u8,
    },
    /// Sealed with a passphrase and opened with a key file, or the reverse.
    #[error("sealed with {sealed_with}, opened with {opened_with}")]
    OtherKindOfKey {
        /// What sealed it.
        sealed_with: &'static str,
        /// What was given.
        opened_with: &'static str,
    },
    /// Its header asks for a number of PBKDF2 iterations outside what is safe and bearable.
    #[error("its header asks for {found} iterations, allowed are {MIN_ITERATIONS} to 10000000")]
    Iterations {
        /// The number in the header.
        found: u32,
    },
    /// The passphrase or key is not the one that sealed it.
    #[error("wrong passphrase or key")]
    WrongKey,
    /// It is something else than what was looked for: a file was put in another's place.
    #[error("sealed for another purpose than the one it was opened for")]
    WrongContext,
    /// Part of it is missing.
    #[error("truncated: {found} of {expected} bytes are there")]
    Truncated {
        /// Length by its header.
        expected: u64,
        /// Length found.
        found: u64,
    },
    /// It was changed after it was sealed.
    #[error("changed after it was sealed")]
    Tampered,
}

impl SealingKey {
    /// Seals `plaintext` for `context`.
    ///
    /// # Errors
    /// No randomness, or content above 4 PiB.
    pub fn seal(&self, context: &str, plaintext: &[u8]) -> Result<Vec<u8>, SealError> {
        let mut header = Header::new(plaintext.len() as u64)?;
        let secret = self.for_sealing(&mut header)?;
        self.seal_with(header, &secret, context, plaintext)
    }

    fn seal_with(
        &self,
        header: Header,
        secret: &[u8; 32],
        context: &str,
        plaintext: &[u8],
    ) -> Result<Vec<u8>, SealError> {
        let last = header
            .segments()
            .checked_sub(1)
            .and_then(|last| u32::try_from(last).ok());
        let Some(last) = last else {
            return Err(SealError::TooLong);
        };
        let keys = header.keys(secret, context);
        let head = header.to_bytes(&keys);
        let associated = [head.as_slice(), context.as_bytes()].concat();
        let key = segment_key(&keys.encryption);

        let mut sealed = Vec::with_capacity(HEADER + plaintext.len() + TAG * (last as usize + 1));
        sealed.extend(head);
        for index in 0..=last {
            let from = index as usize * SEGMENT;
            let to = plaintext.len().min(from + SEGMENT);
            let start = sealed.len();
            sealed.extend_from_slice(&plaintext[from..to]);
            let nonce = Nonce::assume_unique_for_key(header.nonce(index, index == last));
            // Fails only for segments beyond 64 GiB.
            let tag = key
                .seal_in_place_separate_tag(nonce, Aad::from(&associated), &mut sealed[start..])
                .expect("1 MiB is within the limit of AES-GCM");
            sealed.extend_from_slice(tag.as_ref());
        }
        Ok(sealed)
    }

    /// Opens what [`seal`](Self::seal) made for the same context. The result is wiped when
    /// dropped.
    ///
    /// # Errors
    /// Nothing of the content is given out unless all of it is intact.
    pub fn open(&self, context: &str, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, OpenError> {
        let header = Header::read(sealed)?;
        let secret = self.for_opening(&header)?;
        let keys = header.keys(&secret, context);
        // Both checks only name the mistake. What protects is the tag of each segment.
        if header.key_check != keys.key_check {
            return Err(OpenError::WrongKey);
        }
        if header.context_check != keys.context_check {
            return Err(OpenError::WrongContext);
        }
        let (expected, found) = (header.sealed_length(), sealed.len() as u64);
        if found < expected {
            return Err(OpenError::Truncated { expected, found });
        }
        if found > expected {
            return Err(OpenError::Tampered);
        }
        let (head, body) = sealed.split_at(HEADER);
        let associated = [head, context.as_bytes()].concat();
        let key = segment_key(&keys.encryption);
        // The length was just found to agree with that of the input: no header can ask for more.
        let mut plaintext = Zeroizing::new(Vec::with_capacity(header.length as usize));
        let mut segment = Zeroizing::new(Vec::with_capacity(SEGMENT + TAG));
        let last = header.segments() - 1;
        for (index, chunk) in (0_u64..).zip(body.chunks(SEGMENT + TAG)) {
            segment.clear();
            segment.extend_from_slice(chunk);
            let index32 = u32::try_from(index).map_err(|_| OpenError::Tampered)?;
            let nonce = Nonce::assume_unique_for_key(header.nonce(index32, index == last));
            let opened = key
                .open_in_place(nonce, Aad::from(&associated), &mut segment)
                .map_err(|_| OpenError::Tampered)?;
            plaintext.extend_from_slice(opened);
        }
        self.remember(&header, &secret);
        Ok(plaintext)
    }
}

fn segment_key(bytes: &[u8; 32]) -> LessSafeKey {
    LessSafeKey::new(UnboundKey::new(&AES_256_GCM, bytes).expect("AES-256 takes any 32 bytes"))
}

impl fmt::Debug for SealingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SealingKey({}, [redacted])", self.kind())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key() -> SealingKey {
        SealingKey::from_bytes([1; 32])
    }

    fn sealed(content: &[u8]) -> Vec<u8> {
        key().seal("model", content).expect("randomness")
    }

    #[test]
    fn content_of_every_length_around_a_segment_comes_back() {
        for length in [
            0,
            1,
            SEGMENT - 1,
            SEGMENT,
            SEGMENT + 1,
            2 * SEGMENT,
            2 * SEGMENT + 5,
        ] {
            let content: Vec<u8> = (0..length).map(|i| (i % 251) as u8).collect();
            let opened = key().open("model", &sealed(&content)).expect("intact");
            assert!(*opened == content, "length {length}");
        }
    }

    #[test]
    fn the_same_content_never_looks_the_same() {
        assert_ne!(sealed(b"weights")[HEADER..], sealed(b"weights")[HEADER..]);
    }

    #[test]
    fn each_mistake_has_its_name() {
        let file = sealed(b"weights");
        let open = |key: &SealingKey, context, bytes: &[u8]| {
            key.open(context, bytes).expect_err("not to be opened")
        };
        assert_eq!(
            open(&SealingKey::from_bytes([2; 32]), "model", &file),
            OpenError::WrongKey
        );
        assert_eq!(open(&key(), "spool", &file), OpenError::WrongContext);
        assert_eq!(open(&key(), "model", b"some text"), OpenError::NotSealed);
        let expected = file.len() as u64;
        let short = OpenError::Truncated {
            expected,
            found: expected - 1,
        };
        assert_eq!(open(&key(), "model", &file[..file.len() - 1]), short);
        let longer = [file.as_slice(), &[0]].concat();
        assert_eq!(open(&key(), "model", &longer), OpenError::Tampered);
        let mut newer = file.clone();
        newer[8] = 9;
        assert_eq!(
            open(&key(), "model", &newer),
            OpenError::Version { found: 9 }
        );
        let mut changed = file;
        *changed.last_mut().expect("not empty") ^= 1;
        assert_eq!(open(&key(), "model", &changed), OpenError::Tampered);
    }

    #[test]
    fn segments_cannot_be_cut_off_swapped_or_repeated() {
        let content = vec![7; 3 * SEGMENT];
        let file = sealed(&content);
        let segment = |i: usize| &file[HEADER + i * (SEGMENT + TAG)..][..SEGMENT + TAG];
        let swapped = [&file[..HEADER], segment(1), segment(0), segment(2)].concat();
        assert_eq!(
            key().open("model", &swapped).expect_err("swapped"),
            OpenError::Tampered
        );
        let repeated = [&file[..HEADER], segment(0), segment(0), segment(2)].concat();
        assert_eq!(
            key().open("model", &repeated).expect_err("repeated"),
            OpenError::Tampered
        );
        // A header rewritten to the shorter length does not help: it is part of what is sealed.
        let mut cut = file[..HEADER + 2 * (SEGMENT + TAG)].to_vec();
        cut[69..77].copy_from_slice(&(2 * SEGMENT as u64).to_be_bytes());
        assert_eq!(
            key().open("model", &cut).expect_err("cut"),
            OpenError::Tampered
        );
    }

    #[test]
    fn the_sealed_form_is_frozen() {
        let header = Header::fixed(5);
        let secret = Zeroizing::new([1; 32]);
        let file = key()
            .seal_with(header, &secret, "model", b"hello")
            .expect("short");
        assert_eq!(hex::encode(&file), KNOWN_SEAL);
        assert_eq!(
            key().open("model", &file).expect("intact").as_slice(),
            b"hello"
        );
    }

    /// Checked against another implementation of HKDF and AES-GCM (Python's cryptography).
    const KNOWN_SEAL: &str = concat!(
        "434e534c5345414c0100000000000000000000000000000000000000000002020202020202020202",
        "02020202020202020202020202020202020202020202030303030303030000000000000005768a8e",
        "4872deb5185f203c746b78ad31c4e2fb260e3bed038067959535816f1ab6fe537373017b8388ad63",
        "af4f81f5c208f1ec0fcf",
    );

    proptest! {
        #[test]
        fn one_changed_bit_anywhere_is_found(at in 0_usize..134, bit in 0_u32..8) {
            let mut file = sealed(b"some bytes");
            prop_assume!(at < file.len());
            file[at] ^= 1 << bit;
            prop_assert!(key().open("model", &file).is_err());
        }

        #[test]
        fn random_bytes_are_refused_without_panic(
            mut bytes in prop::collection::vec(any::<u8>(), 0..300), with_magic: bool,
        ) {
            if with_magic && bytes.len() > 10 {
                bytes[..8].copy_from_slice(b"CNSLSEAL");
                bytes[8] = 1;
            }
            prop_assert!(key().open("model", &bytes).is_err());
        }
    }
}

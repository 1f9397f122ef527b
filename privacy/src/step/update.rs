//! What may leave a site.

use std::fmt;

use ring::digest::{Context, SHA256};
use zeroize::Zeroizing;

use super::StepError;
use crate::{
    accountant::{Charge, ClippingNorm},
    ledger::{read_charge, write_charge},
    seal::{OpenError, SealingKey},
};

/// A difference of weights that may be sealed and sent: computed from noisy steps, or released
/// without privacy by name. Finite.
///
/// There is no way to build one from loose numbers but [`without_privacy`](Self::without_privacy).
/// A stored one comes back only through [`open`](Self::open), which proves that this site's key
/// sealed it, so that a new attempt sends the same noise again at no charge.
pub struct PrivateUpdate {
    values: Vec<f32>,
    origin: Origin,
}

/// Where an update comes from.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Origin {
    /// From noisy steps.
    Noised {
        /// Position of the grant in the ledger.
        sequence: u64,
        /// What was charged.
        charge: Charge,
        /// Steps taken, at most as many as were charged.
        taken: u32,
        /// Largest norm of a record (C) where the steps began.
        clipping_norm: ClippingNorm,
        /// And after them: another only where clipping is adaptive.
        next_clipping_norm: ClippingNorm,
    },
    /// As it is, because plan and site policy both say `privacy.mode = "none"`.
    WithoutPrivacy,
}

/// Why a stored update could not be read back.
#[derive(Debug, thiserror::Error)]
pub enum OpenUpdateError {
    /// The seal is not intact or not ours.
    #[error("the stored update cannot be opened")]
    Seal(#[from] OpenError),
    /// The seal is intact, the content has another form: another version wrote it.
    #[error("the stored update has a form this version does not know")]
    Form,
}

impl PrivateUpdate {
    /// The door for `privacy.mode = "none"`: **the update protects nobody**. Call it only where
    /// plan and site policy both ask for it by name.
    ///
    /// # Errors
    /// A value that is not finite.
    pub fn without_privacy(difference: Vec<f32>) -> Result<Self, StepError> {
        Self::new(difference, Origin::WithoutPrivacy)
    }

    pub(super) fn new(values: Vec<f32>, origin: Origin) -> Result<Self, StepError> {
        match values.iter().position(|value| !value.is_finite()) {
            None => Ok(Self { values, origin }),
            Some(position) => Err(StepError::NotFinite { position }),
        }
    }

    /// The values.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// Gives the values away.
    pub fn into_values(self) -> Vec<f32> {
        self.values
    }

    /// Where it comes from.
    pub fn origin(&self) -> Origin {
        self.origin
    }

    /// SHA-256 of its values, as little-endian `f32`: what the ledger keeps of it.
    pub fn digest(&self) -> [u8; 32] {
        let mut hash = Context::new(&SHA256);
        hash.update(b"consilium/update/1\0");
        for value in &self.values {
            hash.update(&value.to_le_bytes());
        }
        let mut digest = [0; 32];
        digest.copy_from_slice(hash.finish().as_ref());
        digest
    }

    /// Whether noise protects the records behind it.
    pub fn is_private(&self) -> bool {
        self.origin != Origin::WithoutPrivacy
    }

    /// Seals it for storage at this site, bound to `context` (study, round).
    pub fn seal(&self, key: &SealingKey, context: &str) -> Result<Vec<u8>, crate::seal::SealError> {
        let mut bytes = Zeroizing::new(Vec::with_capacity(80 + 4 * self.values.len()));
        match self.origin {
            Origin::WithoutPrivacy => bytes.push(0),
            Origin::Noised {
                sequence,
                charge,
                taken,
                clipping_norm,
                next_clipping_norm,
            } => {
                bytes.push(1);
                bytes.extend(sequence.to_be_bytes());
                bytes.extend(taken.to_be_bytes());
                bytes.extend(clipping_norm.value().to_be_bytes());
                bytes.extend(next_clipping_norm.value().to_be_bytes());
                write_charge(&mut bytes, &charge);
            }
        }
        bytes.extend(self.values.iter().flat_map(|value| value.to_le_bytes()));
        key.seal(&sealing_context(context), &bytes)
    }

    /// Opens what [`seal`](Self::seal) made at this site under the same context.
    ///
    /// # Errors
    /// A seal that is not intact, not ours or for another context; a form not known.
    pub fn open(key: &SealingKey, context: &str, sealed: &[u8]) -> Result<Self, OpenUpdateError> {
        let bytes = key.open(&sealing_context(context), sealed)?;
        Self::from_bytes(&bytes).ok_or(OpenUpdateError::Form)
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (&tag, rest) = bytes.split_first()?;
        let (origin, values) = match tag {
            0 => (Origin::WithoutPrivacy, rest),
            1 => {
                let (sequence, rest) = rest.split_first_chunk()?;
                let (taken, rest) = rest.split_first_chunk()?;
                let (clipping_norm, rest) = rest.split_first_chunk()?;
                let (next, rest) = rest.split_first_chunk()?;
                let (charge, rest) = read_charge(rest)?;
                let origin = Origin::Noised {
                    sequence: u64::from_be_bytes(*sequence),
                    charge,
                    taken: u32::from_be_bytes(*taken),
                    clipping_norm: f64::from_be_bytes(*clipping_norm).try_into().ok()?,
                    next_clipping_norm: f64::from_be_bytes(*next).try_into().ok()?,
                };
                (origin, rest)
            }
            _ => return None,
        };
        let (words, []) = values.as_chunks::<4>() else {
            return None;
        };
        Self::new(
            words.iter().map(|word| f32::from_le_bytes(*word)).collect(),
            origin,
        )
        .ok()
    }
}

/// Sealed files of other kinds never open as an update.
fn sealing_context(context: &str) -> String {
    format!("private update/{context}")
}

impl fmt::Debug for PrivateUpdate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "PrivateUpdate({} values, {:?})",
            self.values.len(),
            self.origin
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> SealingKey {
        SealingKey::from_bytes([8; 32])
    }

    #[test]
    fn a_stored_update_comes_back_with_its_origin_and_only_through_its_seal() {
        let charge = Charge::SampledGaussian {
            q: 0.1.try_into().expect("sound"),
            sigma: 1.5.try_into().expect("sound"),
            steps: 9,
        };
        let noised = Origin::Noised {
            sequence: 4,
            charge,
            taken: 3,
            clipping_norm: 1.5.try_into().expect("sound"),
            next_clipping_norm: 1.25.try_into().expect("sound"),
        };
        for origin in [noised, Origin::WithoutPrivacy] {
            let update = PrivateUpdate::new(vec![1.0, -2.5], origin).expect("finite");
            let sealed = update.seal(&key(), "study/1").expect("room");
            let back = PrivateUpdate::open(&key(), "study/1", &sealed).expect("its own seal");
            assert_eq!((back.values(), back.origin()), (&[1.0, -2.5][..], origin));
            assert!(PrivateUpdate::open(&key(), "study/2", &sealed).is_err());
        }
        let forged = key().seal("study/1", &[0; 9]).expect("room");
        assert!(PrivateUpdate::open(&key(), "study/1", &forged).is_err());
    }

    #[test]
    fn unprotected_updates_say_so_and_print_no_values() {
        let update = PrivateUpdate::without_privacy(vec![0.25]).expect("finite");
        assert!(!update.is_private());
        assert_eq!(
            format!("{update:?}"),
            "PrivateUpdate(1 values, WithoutPrivacy)"
        );
        for cut in [&[][..], &[2], &[1, 0], &[0, 1, 2], &[0, 0, 0, 0xC0, 0x7F]] {
            assert!(PrivateUpdate::from_bytes(cut).is_none());
        }
    }
}

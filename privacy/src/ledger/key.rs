//! The key that signs a site's ledger.
//!
//! A chain of hashes shows that entries fit each other; anybody can make such a chain. The
//! signature shows whose it is. The public half is tied to the site's identity, and so to the
//! roster, where heads are handed to the coordinator.

use std::fmt;

use ring::{
    rand::{SecureRandom, SystemRandom},
    signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey},
};
use zeroize::Zeroizing;

use crate::keystream::NoRandomness;

/// Put before the hash that is signed, so that no other signature of ours means the same.
const LABEL: &[u8] = b"consilium/ledger-entry/1\0";

/// Private Ed25519 key of one ledger. It never leaves the site, and lies there sealed.
pub struct LedgerKey {
    seed: Zeroizing<[u8; 32]>,
    pair: Ed25519KeyPair,
}

/// Public half of a [`LedgerKey`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LedgerPublicKey([u8; 32]);

impl LedgerKey {
    /// Draws one from the operating system.
    ///
    /// # Errors
    /// The system has no randomness to give.
    pub fn random() -> Result<Self, NoRandomness> {
        let mut seed = [0; 32];
        SystemRandom::new()
            .fill(&mut seed)
            .map_err(|_| NoRandomness)?;
        Ok(Self::from_seed(seed))
    }

    /// Reads back a key that was kept sealed.
    pub fn from_seed(seed: [u8; 32]) -> Self {
        // Fails only for seeds of another length.
        let pair = Ed25519KeyPair::from_seed_unchecked(&seed).expect("32 bytes are a seed");
        Self {
            seed: Zeroizing::new(seed),
            pair,
        }
    }

    /// The seed it comes from, to be sealed.
    pub fn seed(&self) -> &[u8; 32] {
        &self.seed
    }

    /// The public half.
    pub fn public_key(&self) -> LedgerPublicKey {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(self.pair.public_key().as_ref());
        LedgerPublicKey(bytes)
    }

    pub(super) fn sign(&self, hash: &[u8; 32]) -> [u8; 64] {
        let mut signature = [0; 64];
        signature.copy_from_slice(self.pair.sign(&message(hash)).as_ref());
        signature
    }
}

impl LedgerPublicKey {
    /// Its 32 bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Whether `signature` is this key's over the hash of an entry.
    pub(super) fn has_signed(&self, hash: &[u8; 32], signature: &[u8; 64]) -> bool {
        UnparsedPublicKey::new(&ED25519, &self.0)
            .verify(&message(hash), signature)
            .is_ok()
    }
}

impl From<[u8; 32]> for LedgerPublicKey {
    /// Bytes that are no point of the curve make a key that verifies nothing.
    fn from(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

impl fmt::Debug for LedgerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LedgerKey({:?})", self.public_key())
    }
}

impl fmt::Debug for LedgerPublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

fn message(hash: &[u8; 32]) -> Vec<u8> {
    [LABEL, hash].concat()
}

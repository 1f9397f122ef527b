//! Keys of one attempt and what is committed to, each with the label that sets it apart.
//!
//! Everything is salted with the attempt's context. Channel and escrow keys encrypt one message:
//! they are consumed by it, so the nonce 0 never comes twice.

use ring::{
    aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey},
    agreement::{EphemeralPrivateKey, UnparsedPublicKey, X25519, agree_ephemeral},
    hkdf::{HKDF_SHA256, KeyType, Prk, Salt},
    rand::SystemRandom,
};
use zeroize::Zeroizing;

use super::{
    SiteId,
    context::{Context, sha256},
    message::{LENGTH, Secret, TAG},
};
use crate::keystream::NoRandomness;

struct Length32;

impl KeyType for Length32 {
    fn len(&self) -> usize {
        LENGTH
    }
}

/// HKDF-Extract, salted with the context.
pub(super) fn extract(context: &Context, secret: &[u8]) -> Prk {
    Salt::new(HKDF_SHA256, context.as_bytes()).extract(secret)
}

/// HKDF-Expand to 32 bytes; the parts of `info` follow each other.
pub(super) fn expand(prk: &Prk, info: &[&[u8]]) -> Secret {
    let mut key = Secret::default();
    // Fails only for outputs above 255 · 32 bytes.
    prk.expand(info, Length32)
        .and_then(|okm| okm.fill(key.as_mut()))
        .expect("32 bytes are within the limit of HKDF-SHA256");
    key
}

/// A private key for one peer. Used once, never stored.
pub(super) enum PairSecret {
    System(EphemeralPrivateKey),
    /// A chosen key, for known answers.
    #[cfg(test)]
    Fixed(x25519_dalek::StaticSecret),
}

/// The peer's key is one with which every agreement gives the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LowOrder;

impl PairSecret {
    pub(super) fn random() -> Result<Self, NoRandomness> {
        EphemeralPrivateKey::generate(&X25519, &SystemRandom::new())
            .map(Self::System)
            .map_err(|_| NoRandomness)
    }

    pub(super) fn public(&self) -> Result<[u8; LENGTH], NoRandomness> {
        match self {
            Self::System(key) => {
                let public = key.compute_public_key().map_err(|_| NoRandomness)?;
                public.as_ref().try_into().map_err(|_| NoRandomness)
            }
            #[cfg(test)]
            Self::Fixed(key) => Ok(x25519_dalek::PublicKey::from(key).to_bytes()),
        }
    }

    /// HKDF-Extract of the shared secret.
    fn agree(self, context: &Context, peer: &[u8; LENGTH]) -> Result<Prk, LowOrder> {
        match self {
            Self::System(key) => {
                agree_ephemeral(key, &UnparsedPublicKey::new(&X25519, peer), |secret| {
                    extract(context, secret)
                })
                .map_err(|_| LowOrder)
            }
            #[cfg(test)]
            Self::Fixed(key) => {
                let secret = key.diffie_hellman(&(*peer).into());
                Ok(extract(context, secret.as_bytes()))
            }
        }
    }
}

/// What two sites share: the seed of their mask, and a key for one message each way.
pub(super) struct Edge {
    pub(super) mask: Secret,
    pub(super) outgoing: MessageKey,
    pub(super) incoming: MessageKey,
}

/// A site and its public key for the other end of an edge.
#[derive(Clone, Copy)]
pub(super) struct End {
    pub(super) site: SiteId,
    pub(super) key: [u8; LENGTH],
}

impl Edge {
    pub(super) fn agree(
        context: &Context,
        secret: PairSecret,
        own: End,
        peer: End,
    ) -> Result<Self, LowOrder> {
        let prk = secret.agree(context, &peer.key)?;
        let (low, high) = match own.site < peer.site {
            true => (own, peer),
            false => (peer, own),
        };
        let ends = [
            low.site.0.to_be_bytes().as_slice(),
            &high.site.0.to_be_bytes(),
            &low.key,
            &high.key,
        ]
        .concat();
        let channel = |from: SiteId, to: SiteId| {
            let way = [from.0.to_be_bytes(), to.0.to_be_bytes()].concat();
            MessageKey::new(&expand(&prk, &[b"consilium/sa1/chan\0", &ends, &way]))
        };
        Ok(Self {
            mask: expand(&prk, &[b"consilium/sa1/mask\0", &ends]),
            outgoing: channel(own.site, peer.site),
            incoming: channel(peer.site, own.site),
        })
    }
}

/// The key under which a site uploads the seeds of its masks.
pub(super) fn escrow_key(context: &Context, secret: &Secret, site: SiteId) -> MessageKey {
    let prk = extract(context, secret.as_slice());
    let site = site.0.to_be_bytes();
    MessageKey::new(&expand(&prk, &[b"consilium/sa1/escrow\0", &site]))
}

/// A key for one message, consumed by it.
pub(super) struct MessageKey(LessSafeKey);

/// What was sealed is not intact, or was sealed with another key or for another purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct DoesNotOpen;

impl MessageKey {
    fn new(key: &Secret) -> Self {
        let key = UnboundKey::new(&AES_256_GCM, key.as_slice());
        Self(LessSafeKey::new(key.expect("AES-256 takes any 32 bytes")))
    }

    /// Encrypts the key's one message; the tag comes last.
    pub(super) fn seal(self, associated: &[u8], message: &[u8]) -> Vec<u8> {
        let mut sealed = Vec::with_capacity(message.len() + TAG);
        sealed.extend_from_slice(message);
        // Fails only for messages beyond 64 GiB.
        self.0
            .seal_in_place_append_tag(nonce(), Aad::from(associated), &mut sealed)
            .expect("a few KiB are within the limit of AES-GCM");
        sealed
    }

    /// Decrypts it.
    pub(super) fn open(
        self,
        associated: &[u8],
        sealed: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, DoesNotOpen> {
        let mut bytes = Zeroizing::new(sealed.to_vec());
        let length = (self.0)
            .open_in_place(nonce(), Aad::from(associated), &mut bytes)
            .map_err(|_| DoesNotOpen)?
            .len();
        bytes.truncate(length);
        Ok(bytes)
    }
}

/// Each key encrypts one message.
fn nonce() -> Nonce {
    Nonce::assume_unique_for_key([0; 12])
}

/// What sealed shares are bound to.
pub(super) fn shares_context(context: &Context, from: SiteId, to: SiteId) -> Vec<u8> {
    let way = [from.0.to_be_bytes(), to.0.to_be_bytes()].concat();
    [context.as_bytes().as_slice(), &way].concat()
}

/// What an escrow is bound to.
pub(super) fn escrow_context(context: &Context, site: SiteId) -> Vec<u8> {
    [context.as_bytes().as_slice(), &site.0.to_be_bytes()].concat()
}

/// Which of a site's two secrets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Which {
    /// The seed of its self mask, b.
    SelfMask,
    /// Its escrow key, K.
    Escrow,
}

impl Which {
    /// Commitment to the whole secret.
    pub(super) fn commitment(self, context: &Context, site: SiteId, secret: &Secret) -> [u8; 32] {
        let label: &[u8] = match self {
            Self::SelfMask => b"consilium/sa1/cb\0",
            Self::Escrow => b"consilium/sa1/ck\0",
        };
        let site = site.0.to_be_bytes();
        sha256(&[label, context.as_bytes(), &site, secret.as_slice()])
    }

    /// Commitment to a share of it.
    pub(super) fn share_digest(
        self,
        context: &Context,
        dealer: SiteId,
        holder: SiteId,
        share: &Secret,
    ) -> [u8; 32] {
        let label: &[u8] = match self {
            Self::SelfMask => b"consilium/sa1/shb\0",
            Self::Escrow => b"consilium/sa1/shk\0",
        };
        let way = [dealer.0.to_be_bytes(), holder.0.to_be_bytes()].concat();
        sha256(&[label, context.as_bytes(), &way, share.as_slice()])
    }
}

/// Commitment of both ends to the seed of their mask.
pub(super) fn edge_commitment(context: &Context, a: SiteId, b: SiteId, mask: &Secret) -> [u8; 32] {
    let ends = [a.min(b).0.to_be_bytes(), a.max(b).0.to_be_bytes()].concat();
    let label = b"consilium/sa1/edge\0";
    sha256(&[label, context.as_bytes(), &ends, mask.as_slice()])
}

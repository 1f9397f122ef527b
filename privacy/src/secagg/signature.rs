//! Signatures over the exact bytes that were sent: Ed25519 over a label that names the kind of
//! message, the attempt's context and the SHA-256 of the body. A message of another attempt, round
//! or study, or of another kind, does not verify.

use std::{fmt, sync::Arc};

use ring::signature::{ED25519, Ed25519KeyPair, UnparsedPublicKey};

use super::{
    bytes::{Malformed, Reader, Writer},
    context::{Context, sha256},
};

const SIGNATURE: usize = 64;

/// Signs for a member of the federation with its identity key.
pub trait Signer: Send + Sync {
    /// Ed25519 signature of these very bytes.
    fn sign(&self, message: &[u8]) -> [u8; 64];
}

impl Signer for Ed25519KeyPair {
    fn sign(&self, message: &[u8]) -> [u8; 64] {
        let mut signature = [0; SIGNATURE];
        signature.copy_from_slice(Ed25519KeyPair::sign(self, message).as_ref());
        signature
    }
}

impl<S: Signer + Sync + ?Sized> Signer for Arc<S> {
    fn sign(&self, message: &[u8]) -> [u8; 64] {
        S::sign(self, message)
    }
}

/// Ed25519 public key by which a member's messages are known.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PublicKey(pub [u8; 32]);

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({})", hex::encode(&self.0[..6]))
    }
}

/// A kind of signed message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A public key for one peer.
    PairKey,
    /// Sealed shares and commitments of a site.
    Shares,
    /// The shares for one site, by the coordinator.
    PeerShares,
    /// What a site has uploaded.
    Trailer,
    /// Whose uploads count, by the coordinator.
    Survivors,
    /// A site's agreement to one list of survivors.
    Confirm,
    /// A site's shares of what has to be opened.
    Unmask,
    /// What came of the sum, by the coordinator.
    Outcome,
    /// Why a site stopped.
    Complaint,
}

impl Kind {
    /// What a signature begins with.
    pub(super) fn label(self) -> &'static [u8] {
        match self {
            Self::PairKey => b"consilium/sa1/pair-key\0",
            Self::Shares => b"consilium/sa1/shares\0",
            Self::PeerShares => b"consilium/sa1/peer-shares\0",
            Self::Trailer => b"consilium/sa1/trailer\0",
            Self::Survivors => b"consilium/sa1/survivors\0",
            Self::Confirm => b"consilium/sa1/confirm\0",
            Self::Unmask => b"consilium/sa1/unmask\0",
            Self::Outcome => b"consilium/sa1/outcome\0",
            Self::Complaint => b"consilium/sa1/complaint\0",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::PairKey => "keys",
            Self::Shares => "shares",
            Self::PeerShares => "peers' shares",
            Self::Trailer => "trailer",
            Self::Survivors => "list of survivors",
            Self::Confirm => "confirmation",
            Self::Unmask => "answer",
            Self::Outcome => "outcome",
            Self::Complaint => "complaint",
        })
    }
}

/// Why the bytes of a message are not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unbelieved {
    /// They are not such a message.
    #[error("a message that should be a {0} is not well formed")]
    Malformed(Kind),
    /// Its sender is not in the cohort.
    #[error("a {0} comes from outside the cohort")]
    Stranger(Kind),
    /// Signed by somebody else, for another attempt or kind, or changed since.
    #[error("the signature of a {0} does not fit its sender, this attempt and its bytes")]
    Signature(Kind),
}

/// The content of a signed message.
pub(super) trait Body: Sized {
    const KIND: Kind;
    fn write(&self, out: &mut Writer);
    fn read(bytes: &mut Reader<'_>) -> Result<Self, Malformed>;

    /// The bytes that are signed.
    fn to_bytes(&self) -> Vec<u8> {
        let mut out = Writer::default();
        self.write(&mut out);
        out.finish()
    }

    /// Reads them back.
    fn from_bytes(bytes: &[u8]) -> Result<Self, Unbelieved> {
        let mut reader = Reader::new(bytes);
        Self::read(&mut reader)
            .and_then(|body| reader.end().map(|()| body))
            .map_err(|Malformed| Unbelieved::Malformed(Self::KIND))
    }

    /// Signature and body, as they travel.
    fn sign(&self, context: &Context, signer: &dyn Signer) -> Vec<u8> {
        let body = self.to_bytes();
        let signature = signer.sign(&signed_bytes(Self::KIND, context, &body));
        [signature.as_slice(), &body].concat()
    }

    /// Reads a message whose sender has this key, if the body names a sender that has one.
    fn open<'k>(
        message: &[u8],
        context: &Context,
        key: impl FnOnce(&Self) -> Option<&'k PublicKey>,
    ) -> Result<Self, Unbelieved> {
        let (signature, bytes) = message
            .split_first_chunk::<SIGNATURE>()
            .ok_or(Unbelieved::Malformed(Self::KIND))?;
        let body = Self::from_bytes(bytes)?;
        let key = key(&body).ok_or(Unbelieved::Stranger(Self::KIND))?;
        UnparsedPublicKey::new(&ED25519, &key.0)
            .verify(&signed_bytes(Self::KIND, context, bytes), signature)
            .map_err(|_| Unbelieved::Signature(Self::KIND))?;
        Ok(body)
    }
}

fn signed_bytes(kind: Kind, context: &Context, body: &[u8]) -> Vec<u8> {
    [kind.label(), context.as_bytes(), &sha256(&[body])].concat()
}

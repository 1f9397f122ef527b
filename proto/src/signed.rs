//! Bytes with a signature over exactly those bytes.

use std::{fmt, str::FromStr};

use ring::{
    rand::SystemRandom,
    signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey},
};

use crate::{Digest, OutOfRange, wire};

/// Ed25519 public key of a member or of governance.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey([u8; 32]);

impl PublicKey {
    /// Its 32 bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// What people compare: SHA-256 under `consilium/key/1` of the key.
    pub fn fingerprint(&self) -> Digest {
        Digest::of("consilium/key/1", &[&self.0])
    }
}

impl TryFrom<&[u8]> for PublicKey {
    type Error = OutOfRange;
    fn try_from(bytes: &[u8]) -> Result<Self, OutOfRange> {
        bytes.try_into().map(Self).map_err(|_| {
            OutOfRange::new("public key", "32 bytes", format!("{} bytes", bytes.len()))
        })
    }
}

impl FromStr for PublicKey {
    type Err = OutOfRange;
    fn from_str(text: &str) -> Result<Self, OutOfRange> {
        text.parse::<Digest>()
            .map(|digest| Self(*digest.as_bytes()))
            .map_err(|_| OutOfRange::new("public key", "64 hexadecimal digits", text))
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// What a signature is for. A signature made for one purpose does not verify for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// An applicant's request to join.
    Application,
    /// A roster epoch, by governance.
    Roster,
    /// What a round fixes, by the coordinator.
    RoundSpec,
    /// What a site states about its update.
    Statement,
    /// The card of a released model, by the coordinator.
    ModelCard,
    /// Which key signs a site's ledger and where it ends, by the site.
    LedgerKey,
    /// Head of a site's ledger, by the site.
    LedgerHead,
    /// Head of the transparency log, by the coordinator.
    TreeHead,
}

impl Purpose {
    fn label(self) -> &'static [u8] {
        match self {
            Self::Application => b"consilium/1/application\0",
            Self::Roster => b"consilium/1/roster\0",
            Self::RoundSpec => b"consilium/1/round-spec\0",
            Self::Statement => b"consilium/1/statement\0",
            Self::ModelCard => b"consilium/1/model-card\0",
            Self::LedgerKey => b"consilium/1/ledger-key\0",
            Self::LedgerHead => b"consilium/1/ledger-head\0",
            Self::TreeHead => b"consilium/1/tree-head\0",
        }
    }

    fn message(self, body: &[u8]) -> Vec<u8> {
        [self.label(), Digest::plain(body).as_bytes()].concat()
    }
}

/// Why signed bytes are not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// Somebody else signed, or nobody.
    #[error("the signature is not by the expected key")]
    WrongSigner,
    /// The signature does not fit these bytes and this purpose.
    #[error("the signature does not fit the signed bytes")]
    Broken,
}

/// Bytes that somebody signed, not yet verified by us.
#[derive(Clone, PartialEq, Eq)]
pub struct Signed {
    body: Vec<u8>,
    signer: PublicKey,
    signature: Vec<u8>,
}

impl Signed {
    /// The bytes, if `signer` signed them for this purpose.
    ///
    /// # Errors
    /// Another signer, or a signature that does not fit.
    pub fn verify(&self, purpose: Purpose, signer: &PublicKey) -> Result<&[u8], SignatureError> {
        if self.signer != *signer {
            return Err(SignatureError::WrongSigner);
        }
        UnparsedPublicKey::new(&ED25519, signer.as_bytes())
            .verify(&purpose.message(&self.body), &self.signature)
            .map_err(|_| SignatureError::Broken)?;
        Ok(&self.body)
    }

    /// Who claims to have signed.
    pub fn signer(&self) -> &PublicKey {
        &self.signer
    }

    /// The bytes, believed by nobody yet: for storing and relaying.
    pub fn unverified_body(&self) -> &[u8] {
        &self.body
    }

    /// The whole as bytes, for files.
    pub fn to_bytes(&self) -> Vec<u8> {
        prost::Message::encode_to_vec(&wire::Signed::from(self.clone()))
    }

    /// Reads what [`Self::to_bytes`] wrote.
    ///
    /// # Errors
    /// Bytes that are not a signed message.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, OutOfRange> {
        let wire: wire::Signed = prost::Message::decode(bytes)
            .map_err(|error| OutOfRange::new("signed message", "well formed", error))?;
        wire.try_into()
    }
}

impl fmt::Debug for Signed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Signed({} bytes by {})",
            self.body.len(),
            self.signer.fingerprint().to_short()
        )
    }
}

impl From<Signed> for wire::Signed {
    fn from(signed: Signed) -> Self {
        Self {
            body: signed.body,
            signer: signed.signer.0.to_vec(),
            signature: signed.signature,
        }
    }
}

impl TryFrom<wire::Signed> for Signed {
    type Error = OutOfRange;
    fn try_from(wire: wire::Signed) -> Result<Self, OutOfRange> {
        let signer = wire.signer.as_slice().try_into()?;
        Ok(Self {
            body: wire.body,
            signer,
            signature: wire.signature,
        })
    }
}

/// A private Ed25519 key that signs. Made where it lives; leaves only sealed.
pub struct Signer(Ed25519KeyPair);

impl Signer {
    /// Makes a new key and returns it as PKCS#8 bytes, to be sealed at once.
    ///
    /// # Errors
    /// The system has no randomness to give.
    pub fn generate() -> Result<Vec<u8>, OutOfRange> {
        Ed25519KeyPair::generate_pkcs8(&SystemRandom::new())
            .map(|document| document.as_ref().to_vec())
            .map_err(|_| OutOfRange::new("system randomness", "available", "none"))
    }

    /// Reads PKCS#8 bytes.
    ///
    /// # Errors
    /// Bytes that are not an Ed25519 key.
    pub fn from_pkcs8(bytes: &[u8]) -> Result<Self, OutOfRange> {
        Ed25519KeyPair::from_pkcs8_maybe_unchecked(bytes)
            .map(Self)
            .map_err(|error| OutOfRange::new("signing key", "an Ed25519 key in PKCS#8", error))
    }

    /// The public half.
    pub fn public_key(&self) -> PublicKey {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(self.0.public_key().as_ref());
        PublicKey(bytes)
    }

    /// Signs bytes that begin with a label of their own, which is none of [`Purpose`]'s.
    pub(crate) fn sign_raw(&self, message: &[u8]) -> [u8; 64] {
        let mut signature = [0; 64];
        signature.copy_from_slice(self.0.sign(message).as_ref());
        signature
    }

    /// Signs these bytes for this purpose.
    pub fn sign(&self, purpose: Purpose, body: Vec<u8>) -> Signed {
        let signature = self.0.sign(&purpose.message(&body)).as_ref().to_vec();
        Signed {
            body,
            signer: self.public_key(),
            signature,
        }
    }
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signer({})", self.public_key().fingerprint().to_short())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signer() -> Signer {
        Signer::from_pkcs8(&Signer::generate().expect("randomness")).expect("a fresh key")
    }

    #[test]
    fn only_the_same_bytes_purpose_and_signer_verify() {
        let (ours, other) = (signer(), signer());
        let signed = ours.sign(Purpose::Roster, b"body".to_vec());
        assert_eq!(
            signed.verify(Purpose::Roster, &ours.public_key()),
            Ok(&b"body"[..])
        );
        let wrong_key = signed.verify(Purpose::Roster, &other.public_key());
        assert_eq!(wrong_key, Err(SignatureError::WrongSigner));
        let wrong_purpose = signed.verify(Purpose::RoundSpec, &ours.public_key());
        assert_eq!(wrong_purpose, Err(SignatureError::Broken));
        let mut changed = signed.clone();
        changed.body[0] ^= 1;
        let changed = changed.verify(Purpose::Roster, &ours.public_key());
        assert_eq!(changed, Err(SignatureError::Broken));
    }

    #[test]
    fn signed_bytes_survive_a_file() {
        let signed = signer().sign(Purpose::Statement, vec![1, 2, 3]);
        assert_eq!(
            Signed::from_bytes(&signed.to_bytes()).expect("its own bytes"),
            signed
        );
        assert!(Signed::from_bytes(b"not a message").is_err());
    }
}

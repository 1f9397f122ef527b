//! A member's TLS key with the certificate that goes with it at the moment.
//!
//! The key stays; certificates are renewed while connections go on. Who a member is comes from
//! the roster, by the SHA-256 of the key's SubjectPublicKeyInfo, so a certificate only shows
//! that the coordinator has looked at the key lately.

use std::{
    fmt,
    sync::{Arc, PoisonError, RwLock},
};

use rcgen::{CertificateParams, DnType, KeyPair, PKCS_ECDSA_P256_SHA256, PublicKeyData as _};
use rustls::{
    SignatureScheme,
    client::ResolvesClientCert,
    crypto::ring::sign::any_supported_type,
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::Digest;

/// Why a TLS key or certificate cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsIdentityError {
    /// The key cannot be made or read.
    #[error("the TLS key cannot be used: {0}")]
    Key(#[from] rcgen::Error),
    /// The certificate cannot be read.
    #[error("the certificate cannot be read: {0}")]
    Certificate(String),
    /// The certificate is for another key.
    #[error("the certificate is for another TLS key than this node's")]
    OtherKey,
}

/// A TLS key and its present certificate chain.
pub struct TlsIdentity {
    key: KeyPair,
    present: RwLock<Arc<CertifiedKey>>,
}

impl TlsIdentity {
    /// Makes a new key and returns it as PKCS#8 bytes, to be sealed at once.
    ///
    /// # Errors
    /// The system has no randomness to give.
    pub fn generate() -> Result<Vec<u8>, TlsIdentityError> {
        Ok(KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?.serialize_der())
    }

    /// Takes a key and its certificate chain, the leaf first; without a chain the key vouches for
    /// itself, which is enough to apply for membership and no more.
    ///
    /// # Errors
    /// An unreadable key or certificate, or a certificate for another key.
    pub fn new(
        pkcs8: &[u8],
        chain: Option<Vec<CertificateDer<'static>>>,
    ) -> Result<Arc<Self>, TlsIdentityError> {
        let key = KeyPair::from_pkcs8_der_and_sign_algo(
            &PrivatePkcs8KeyDer::from(pkcs8),
            &PKCS_ECDSA_P256_SHA256,
        )?;
        let chain = match chain {
            Some(chain) => chain,
            None => vec![CertificateParams::new([])?.self_signed(&key)?.der().clone()],
        };
        let present = RwLock::new(certified(&key, chain)?);
        Ok(Arc::new(Self { key, present }))
    }

    /// Goes on with a new chain for the same key; connections that are open stay as they are.
    ///
    /// # Errors
    /// An unreadable certificate, or one for another key.
    pub fn renew(&self, chain: Vec<CertificateDer<'static>>) -> Result<(), TlsIdentityError> {
        let renewed = certified(&self.key, chain)?;
        *self.present.write().unwrap_or_else(PoisonError::into_inner) = renewed;
        Ok(())
    }

    /// A request for a certificate, DER, signed by this key.
    ///
    /// # Errors
    /// The request cannot be made.
    pub fn certificate_request(&self) -> Result<Vec<u8>, TlsIdentityError> {
        let mut params = CertificateParams::new([])?;
        params
            .distinguished_name
            .push(DnType::CommonName, "consilium");
        Ok(params.serialize_request(&self.key)?.der().to_vec())
    }

    /// SHA-256 of the SubjectPublicKeyInfo: what the roster names.
    pub fn key_digest(&self) -> Digest {
        Digest::plain(&self.key.subject_public_key_info())
    }

    /// The present certificate chain, the leaf first.
    pub fn chain(&self) -> Vec<CertificateDer<'static>> {
        self.present().cert.clone()
    }

    /// End of the present certificate, seconds since 1970.
    ///
    /// # Errors
    /// The certificate cannot be read.
    pub fn expires_at(&self) -> Result<u64, TlsIdentityError> {
        let present = self.present();
        let (_, leaf) = X509Certificate::from_der(&present.cert[0])
            .map_err(|error| TlsIdentityError::Certificate(error.to_string()))?;
        Ok(leaf.validity().not_after.timestamp().max(0) as u64)
    }

    fn present(&self) -> Arc<CertifiedKey> {
        self.present
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

/// SHA-256 of the SubjectPublicKeyInfo of a certificate.
///
/// # Errors
/// The certificate cannot be read.
pub fn key_digest(certificate: &CertificateDer<'_>) -> Result<Digest, TlsIdentityError> {
    let (_, certificate) = X509Certificate::from_der(certificate)
        .map_err(|error| TlsIdentityError::Certificate(error.to_string()))?;
    Ok(Digest::plain(certificate.public_key().raw))
}

fn certified(
    key: &KeyPair,
    chain: Vec<CertificateDer<'static>>,
) -> Result<Arc<CertifiedKey>, TlsIdentityError> {
    let Some(leaf) = chain.first() else {
        return Err(TlsIdentityError::Certificate("the chain is empty".into()));
    };
    if key_digest(leaf)? != Digest::plain(&key.subject_public_key_info()) {
        return Err(TlsIdentityError::OtherKey);
    }
    let private = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let signing = any_supported_type(&private)
        .map_err(|error| TlsIdentityError::Certificate(error.to_string()))?;
    Ok(Arc::new(CertifiedKey::new(chain, signing)))
}

impl ResolvesClientCert for TlsIdentity {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.present())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

impl ResolvesServerCert for TlsIdentity {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.present())
    }
}

impl fmt::Debug for TlsIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TlsIdentity({})", self.key_digest().to_short())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity() -> Arc<TlsIdentity> {
        let pkcs8 = TlsIdentity::generate().expect("randomness");
        TlsIdentity::new(&pkcs8, None).expect("a fresh key")
    }

    #[test]
    fn the_certificate_names_the_key_that_the_roster_names() {
        let identity = identity();
        let leaf = &identity.chain()[0];
        assert_eq!(
            key_digest(leaf).expect("a certificate"),
            identity.key_digest()
        );
    }

    #[test]
    fn a_certificate_for_another_key_is_refused() {
        let (ours, other) = (identity(), identity());
        assert!(matches!(
            ours.renew(other.chain()),
            Err(TlsIdentityError::OtherKey)
        ));
        assert!(ours.renew(vec![]).is_err());
        assert!(
            ours.renew(vec![CertificateDer::from(vec![1, 2, 3])])
                .is_err()
        );
    }
}

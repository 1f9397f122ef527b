//! The coordinator's certificate authority: one ECDSA P-256 key that signs short-lived leaves.
//!
//! A certificate only says that the coordinator has seen the key in the roster lately. Who a member
//! is, and whether it may still act, comes from the roster at every connection and every call.

use std::time::Duration;

use consilium_proto::Digest;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256,
    PublicKeyData as _,
};
use rustls_pki_types::{CertificateDer, CertificateSigningRequestDer, PrivatePkcs8KeyDer};

use crate::clock::Timestamp;

/// Certificates begin this much in the past, for clocks that are behind.
const BACKDATED: Duration = Duration::from_secs(3600);
/// How long the authority's own certificate is valid. Its key is not used outside this program.
const AUTHORITY_LIFETIME: Duration = Duration::from_secs(30 * 365 * 86_400);

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// The authority's key or certificate cannot be made or read.
    #[error("the certificate authority cannot be used")]
    Authority(#[source] rcgen::Error),
    /// The request cannot be read, or is not signed by its own key.
    #[error("the certificate request cannot be read: {0}")]
    Request(#[source] rcgen::Error),
    /// The request is for another key than the connection's.
    #[error("the certificate request is for another key than that of this connection")]
    OtherKey,
    /// The certificate cannot be signed.
    #[error("the certificate cannot be signed")]
    Signing(#[source] rcgen::Error),
}

/// What a certificate is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Usage {
    /// A member that calls.
    Member,
    /// The coordinator that answers.
    Server,
}

/// Signs certificates.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
}

impl Authority {
    /// Makes a new authority: its key as PKCS#8 bytes, to be sealed at once, and its certificate.
    ///
    /// # Errors
    /// The system has no randomness to give.
    pub fn generate(
        name: &str,
        now: Timestamp,
    ) -> Result<(Vec<u8>, CertificateDer<'static>), CertificateError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256);
        let key = key.map_err(CertificateError::Authority)?;
        let mut params = params(name, now, AUTHORITY_LIFETIME)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let certificate = params
            .self_signed(&key)
            .map_err(CertificateError::Authority)?;
        Ok((key.serialize_der(), certificate.der().clone()))
    }

    /// Takes up an authority that was made before.
    ///
    /// # Errors
    /// The key or the certificate cannot be read.
    pub fn open(
        pkcs8: &[u8],
        certificate: CertificateDer<'static>,
    ) -> Result<Self, CertificateError> {
        let key = KeyPair::from_pkcs8_der_and_sign_algo(
            &PrivatePkcs8KeyDer::from(pkcs8),
            &PKCS_ECDSA_P256_SHA256,
        );
        let key = key.map_err(CertificateError::Authority)?;
        let issuer = Issuer::from_ca_cert_der(&certificate, key);
        let issuer = issuer.map_err(CertificateError::Authority)?;
        Ok(Self {
            issuer,
            certificate,
        })
    }

    /// Its own certificate.
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// Signs a certificate for the key of a request. Nothing else of the request is used. Returns
    /// the chain, the leaf first.
    ///
    /// # Errors
    /// An unreadable request, or one for another key than `key`.
    pub fn issue(
        &self,
        request: &[u8],
        key: &Digest,
        name: &str,
        usage: Usage,
        now: Timestamp,
        lifetime: Duration,
    ) -> Result<Vec<CertificateDer<'static>>, CertificateError> {
        let request = CertificateSigningRequestDer::from(request);
        let request = CertificateSigningRequestParams::from_der(&request);
        let request = request.map_err(CertificateError::Request)?;
        if Digest::plain(&request.public_key.subject_public_key_info()) != *key {
            return Err(CertificateError::OtherKey);
        }
        let mut params = params(name, now, lifetime)?;
        params.is_ca = IsCa::NoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![match usage {
            Usage::Member => ExtendedKeyUsagePurpose::ClientAuth,
            Usage::Server => ExtendedKeyUsagePurpose::ServerAuth,
        }];
        params.use_authority_key_identifier_extension = true;
        let leaf = params.signed_by(&request.public_key, &self.issuer);
        let leaf = leaf.map_err(CertificateError::Signing)?;
        Ok(vec![leaf.der().clone()])
    }
}

fn params(
    name: &str,
    now: Timestamp,
    lifetime: Duration,
) -> Result<CertificateParams, CertificateError> {
    let mut params = CertificateParams::new([]).map_err(CertificateError::Signing)?;
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = (now.to_system_time() - BACKDATED).into();
    params.not_after = (now + lifetime).to_system_time().into();
    Ok(params)
}

#[cfg(test)]
mod tests {
    use consilium_proto::rpc::{TlsIdentity, key_digest};

    use super::*;

    const NOW: Timestamp = Timestamp(1_800_000_000_000);
    const LIFETIME: Duration = Duration::from_secs(86_400);

    fn authority() -> Authority {
        let (key, certificate) = Authority::generate("hospital net", NOW).expect("randomness");
        Authority::open(&key, certificate).expect("its own key")
    }

    fn identity() -> std::sync::Arc<TlsIdentity> {
        TlsIdentity::new(&TlsIdentity::generate().expect("randomness"), None).expect("a fresh key")
    }

    #[test]
    fn a_certificate_is_for_the_key_that_asked_and_ends_in_time() {
        let identity = identity();
        let request = identity.certificate_request().expect("a request");
        let chain = authority()
            .issue(
                &request,
                &identity.key_digest(),
                "A",
                Usage::Member,
                NOW,
                LIFETIME,
            )
            .expect("a sound request");
        assert_eq!(
            key_digest(&chain[0]).expect("a certificate"),
            identity.key_digest()
        );
        identity.renew(chain).expect("for its own key");
        assert_eq!(
            identity.expires_at().expect("a certificate"),
            NOW.seconds() + 86_400
        );
    }

    #[test]
    fn requests_for_another_key_or_of_random_bytes_are_refused() {
        let (asks, connected) = (identity(), identity());
        let request = asks.certificate_request().expect("a request");
        let issue = |request: &[u8], key: &Digest| {
            authority().issue(request, key, "A", Usage::Member, NOW, LIFETIME)
        };
        let other = issue(&request, &connected.key_digest());
        assert!(matches!(other, Err(CertificateError::OtherKey)));
        let garbage = issue(&[1, 2, 3], &connected.key_digest());
        assert!(matches!(garbage, Err(CertificateError::Request(_))));
        let mut changed = request.clone();
        *changed.last_mut().expect("not empty") ^= 1;
        assert!(issue(&changed, &asks.key_digest()).is_err());
    }
}

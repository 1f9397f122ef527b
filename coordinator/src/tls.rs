//! Who may connect: TLS 1.3 with certificates on both sides.
//!
//! A client is a **member** if its certificate chains to the coordinator's authority, is in date,
//! and its key is active in the roster; an **applicant** if its certificate is signed by its own key,
//! which proves the key and nothing else. Everybody else is refused in the handshake. A member whose
//! certificate has run out comes back as an applicant and collects a new one. There is no session
//! resumption: each connection is verified anew.

mod gate;

use std::{fmt, sync::Arc, time::Duration};

use consilium_proto::{
    Digest,
    rpc::{TlsIdentity, key_digest},
};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, RootCertStore, ServerConfig,
    SignatureScheme,
    client::danger::HandshakeSignatureValid,
    crypto::CryptoProvider,
    server::{
        NoServerSessionStorage, WebPkiClientVerifier,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
    time_provider::TimeProvider,
};
use rustls_pki_types::{CertificateDer, UnixTime};
use x509_parser::prelude::{FromDer as _, X509Certificate};

pub use self::gate::{Connections, Gate, Limits, Peer, PeerStream};
use crate::{clock::Clock, roster::Members, store::Store};

/// How a key stands in the roster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// In it, and may act.
    Active,
    /// Put out by governance.
    Revoked,
    /// Its time has not come, or has run out.
    OutOfTime,
    /// Not in it.
    Unknown,
}

/// Looks up how a key stands now.
pub trait Standings: Send + Sync {
    /// How this key (SHA-256 of its SubjectPublicKeyInfo) stands.
    fn standing(&self, key: &Digest) -> Standing;
}

impl<S: Store> Standings for Members<S> {
    fn standing(&self, key: &Digest) -> Standing {
        let roster = self.present();
        match roster.as_ref().and_then(|roster| roster.by_tls_key(key)) {
            None => Standing::Unknown,
            Some(member) if member.revoked => Standing::Revoked,
            Some(member) if member.is_active(self.now().seconds()) => Standing::Active,
            Some(_) => Standing::OutOfTime,
        }
    }
}

/// Sets up TLS: our certificate, the authority that members' certificates chain to, the roster.
///
/// # Errors
/// The authority's certificate cannot be used as a root.
pub fn server_config(
    identity: Arc<TlsIdentity>,
    authority: CertificateDer<'static>,
    standings: Arc<dyn Standings>,
    clock: Clock,
) -> Result<ServerConfig, Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = MemberVerifier::new(authority, standings, provider.clone())?;
    let time = Arc::new(TimeOf(clock));
    let mut config = ServerConfig::builder_with_details(provider, time)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(Arc::new(verifier))
        .with_cert_resolver(identity);
    config.alpn_protocols = vec![b"h2".to_vec()];
    // A resumed session would skip the verifier, and with it a revocation.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

#[derive(Debug)]
struct TimeOf(Clock);

impl TimeProvider for TimeOf {
    fn current_time(&self) -> Option<UnixTime> {
        let since = Duration::from_millis(self.0.now().0);
        Some(UnixTime::since_unix_epoch(since))
    }
}

struct MemberVerifier {
    chained: Arc<dyn ClientCertVerifier>,
    standings: Arc<dyn Standings>,
}

impl MemberVerifier {
    fn new(
        authority: CertificateDer<'static>,
        standings: Arc<dyn Standings>,
        provider: Arc<CryptoProvider>,
    ) -> Result<Self, Error> {
        let mut roots = RootCertStore::empty();
        roots.add(authority)?;
        let chained = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
            .build()
            .map_err(|error| Error::General(error.to_string()))?;
        Ok(Self { chained, standings })
    }
}

/// Whether a certificate is signed by its own key, and in date.
fn is_self_signed(leaf: &CertificateDer<'_>, now: UnixTime) -> Result<bool, CertificateError> {
    let (rest, leaf) =
        X509Certificate::from_der(leaf).map_err(|_| CertificateError::BadEncoding)?;
    if !rest.is_empty() {
        return Err(CertificateError::BadEncoding);
    }
    if leaf.issuer() != leaf.subject() || leaf.verify_signature(None).is_err() {
        return Ok(false);
    }
    let (now, validity) = (now.as_secs() as i64, leaf.validity());
    if now < validity.not_before.timestamp() {
        return Err(CertificateError::NotValidYet);
    }
    if now > validity.not_after.timestamp() {
        return Err(CertificateError::Expired);
    }
    Ok(true)
}

/// Whether a certificate that passed the verifier is an applicant's. The authority's own
/// certificate is the only other one with equal names, and nobody else holds its key.
fn is_self_issued(leaf: &CertificateDer<'_>) -> bool {
    X509Certificate::from_der(leaf).is_ok_and(|(_, leaf)| leaf.verify_signature(None).is_ok())
}

impl ClientCertVerifier for MemberVerifier {
    /// None: an applicant's certificate has no issuer that we could name.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        if is_self_signed(leaf, now)? {
            return Ok(ClientCertVerified::assertion());
        }
        let verified = match self.chained.verify_client_cert(leaf, intermediates, now) {
            // An authority of the same name as ours, but not ours.
            Err(Error::InvalidCertificate(CertificateError::BadSignature)) => {
                return Err(CertificateError::UnknownIssuer.into());
            }
            other => other?,
        };
        let key = key_digest(leaf).map_err(|_| CertificateError::BadEncoding)?;
        match self.standings.standing(&key) {
            Standing::Active => Ok(verified),
            Standing::Revoked => Err(CertificateError::Revoked.into()),
            Standing::OutOfTime => Err(CertificateError::Expired.into()),
            Standing::Unknown => Err(CertificateError::UnknownIssuer.into()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chained
            .verify_tls12_signature(message, leaf, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chained
            .verify_tls13_signature(message, leaf, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chained.supported_verify_schemes()
    }
}

impl fmt::Debug for MemberVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MemberVerifier")
    }
}

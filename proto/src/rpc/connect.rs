//! The way to a coordinator: TLS 1.3, both sides authenticated, its key pinned.

use std::{sync::Arc, time::Duration};

use hyper_util::rt::TokioIo;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, WebPkiSupportedAlgorithms, verify_tls13_signature},
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::{
    Status,
    transport::{Channel, Endpoint, Uri},
};
use x509_parser::prelude::{ASN1Time, FromDer as _, X509Certificate};

use super::{TlsIdentity, key_digest};
use crate::{Digest, ErrorCode, OutOfRange};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const KEEP_ALIVE: Duration = Duration::from_secs(20);

/// Why a coordinator cannot be reached.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The address is none.
    #[error(transparent)]
    Address(#[from] OutOfRange),
    /// TLS cannot be set up on this side.
    #[error("TLS cannot be set up")]
    Tls(#[from] rustls::Error),
    /// Nobody answers, or the handshake failed.
    #[error("no connection to the coordinator at {address}: {reason}")]
    Unreachable {
        /// Where it should be.
        address: String,
        /// What went wrong, the innermost cause.
        reason: String,
    },
}

/// Where a coordinator is and which TLS key it has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Coordinator {
    authority: String,
    key_digest: Digest,
}

impl Coordinator {
    /// Checks an address, `host:port` or `https://host:port`.
    ///
    /// # Errors
    /// Not an address of that form.
    pub fn new(address: &str, key_digest: Digest) -> Result<Self, OutOfRange> {
        let authority = address
            .strip_prefix("https://")
            .unwrap_or(address)
            .trim_end_matches('/');
        let refused = || OutOfRange::new("coordinator's address", "host:port", address);
        let uri: Uri = format!("https://{authority}")
            .parse()
            .map_err(|_| refused())?;
        match (uri.host(), uri.port_u16()) {
            (Some(_), Some(_)) if uri.path() == "/" && uri.query().is_none() => Ok(Self {
                authority: authority.to_owned(),
                key_digest,
            }),
            _ => Err(refused()),
        }
    }

    /// `host:port`.
    pub fn address(&self) -> &str {
        &self.authority
    }

    /// SHA-256 of its TLS key's SubjectPublicKeyInfo.
    pub fn key_digest(&self) -> Digest {
        self.key_digest
    }

    /// Opens a connection as the given member.
    ///
    /// # Errors
    /// Nobody answers within 10 s, another key answers, or this member's certificate is refused.
    pub async fn connect(&self, identity: Arc<TlsIdentity>) -> Result<Channel, ConnectError> {
        let config = Arc::new(client_config(identity, self.key_digest)?);
        let authority = self.authority.clone();
        let connector = tower::service_fn(move |_: Uri| {
            let (config, authority) = (config.clone(), authority.clone());
            async move {
                let stream = TcpStream::connect(&authority).await?;
                stream.set_nodelay(true)?;
                // The name is not checked: the key is.
                let name = ServerName::try_from("coordinator").map_err(std::io::Error::other)?;
                let stream = TlsConnector::from(config).connect(name, stream).await?;
                Ok::<_, std::io::Error>(TokioIo::new(stream))
            }
        });
        let unreachable = |error: &dyn std::error::Error| ConnectError::Unreachable {
            address: self.authority.clone(),
            reason: innermost(error),
        };
        Endpoint::from_shared(format!("https://{}", self.authority))
            .map_err(|error| unreachable(&error))?
            .connect_timeout(CONNECT_TIMEOUT)
            .http2_keep_alive_interval(KEEP_ALIVE)
            .keep_alive_timeout(KEEP_ALIVE)
            .initial_stream_window_size(8 << 20)
            .initial_connection_window_size(16 << 20)
            .connect_with_connector(connector)
            .await
            .map_err(|error| unreachable(&error))
    }
}

fn client_config(
    identity: Arc<TlsIdentity>,
    pinned: Digest,
) -> Result<ClientConfig, rustls::Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = PinnedKey::new(pinned, &provider);
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_client_cert_resolver(identity);
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}

/// Believes the server that holds the pinned key and a certificate that is in date.
#[derive(Debug)]
struct PinnedKey {
    pinned: Digest,
    algorithms: WebPkiSupportedAlgorithms,
}

impl PinnedKey {
    fn new(pinned: Digest, provider: &CryptoProvider) -> Self {
        Self {
            pinned,
            algorithms: provider.signature_verification_algorithms,
        }
    }
}

impl ServerCertVerifier for PinnedKey {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let found = key_digest(leaf).map_err(|_| CertificateError::BadEncoding)?;
        if found != self.pinned {
            return Err(CertificateError::ApplicationVerificationFailure.into());
        }
        let (_, leaf) =
            X509Certificate::from_der(leaf).map_err(|_| CertificateError::BadEncoding)?;
        let moment = |time: ASN1Time| {
            UnixTime::since_unix_epoch(Duration::from_secs(time.timestamp().max(0) as u64))
        };
        let not_before = moment(leaf.validity().not_before);
        let not_after = moment(leaf.validity().not_after);
        if now < not_before {
            let time = now;
            return Err(CertificateError::NotValidYetContext { time, not_before }.into());
        }
        if now > not_after {
            let time = now;
            return Err(CertificateError::ExpiredContext { time, not_after }.into());
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::PeerIncompatible::Tls13RequiredForQuic.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, leaf, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// What a refused call means and what to do about it, in one sentence.
pub fn explain(status: &Status) -> (ErrorCode, String) {
    let code = ErrorCode::from(status.code());
    let reason = match std::error::Error::source(status) {
        Some(_) => advise(&innermost(status)),
        None if CLOSED.contains(&status.message()) => advise(status.message()),
        None => status.message().to_owned(),
    };
    (code, reason)
}

fn innermost(error: &dyn std::error::Error) -> String {
    let mut last = error;
    while let Some(source) = last.source() {
        last = source;
    }
    advise(&last.to_string())
}

/// How a connection ends when the alert that says why loses the race against its end.
const CLOSED: [&str; 4] = [
    "connection closed",
    "broken pipe",
    "operation was canceled",
    "stream closed because of a broken pipe",
];

/// Adds what to do to the few TLS failures that people meet.
fn advise(reason: &str) -> String {
    let advice = [
        (
            "ApplicationVerificationFailure",
            "another TLS key than the pinned one answers there",
        ),
        (
            "CertificateExpired",
            "this node's certificate is out of date: it renews at the next start; if that does not \
             help, compare this machine's clock with the coordinator's",
        ),
        (
            "CertificateRevoked",
            "this member was revoked: ask governance",
        ),
        (
            "UnknownCA",
            "this node's certificate is not from this federation: enrol again",
        ),
        (
            "CertificateRequired",
            "the coordinator wants a certificate: enrol first",
        ),
        (
            "not valid yet",
            "the coordinator's certificate is not valid yet: is this machine's clock right?",
        ),
        (
            "certificate expired",
            "the coordinator's certificate has expired: is this machine's clock right?",
        ),
        (
            "Connection refused",
            "nothing listens there: is the coordinator running?",
        ),
    ];
    let closed = "the coordinator closed the connection: was this member revoked?";
    match advice.iter().find(|(found, _)| reason.contains(found)) {
        Some((_, advice)) => format!("{advice} ({reason})"),
        None if CLOSED.contains(&reason) => format!("{closed} ({reason})"),
        None => reason.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_that_just_ends_is_explained_as_well() {
        for reason in CLOSED {
            let (code, message) = explain(&Status::unknown(reason));
            assert_eq!(code, ErrorCode::Internal);
            assert!(message.contains("revoked"), "{message}");
        }
        let (_, message) = explain(&Status::not_found("there is no study; it expired"));
        assert_eq!(message, "there is no study; it expired");
    }

    #[test]
    fn addresses_need_a_host_and_a_port() {
        let digest = Digest::plain(b"key");
        for good in [
            "localhost:7443",
            "https://127.0.0.1:1",
            "https://[::1]:7443/",
        ] {
            assert!(Coordinator::new(good, digest).is_ok(), "{good}");
        }
        for bad in [
            "",
            "localhost",
            "http://x:1/path",
            "https://x:y",
            "host:1/path",
        ] {
            assert!(Coordinator::new(bad, digest).is_err(), "{bad}");
        }
    }
}

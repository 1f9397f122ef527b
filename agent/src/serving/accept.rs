//! Lets connections in: a bounded number, by TLS where it is set up, each for a bounded time.

use std::{io, sync::Arc, time::Duration};

use axum::{Router, body::Body, extract::Request};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::{
    RootCertStore, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    server::{NoServerSessionStorage, WebPkiClientVerifier},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
    sync::Semaphore,
};
use tokio_rustls::TlsAcceptor;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::Service as _;
use tracing::{debug, warn};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::access::Certified;

/// How long the accept loop rests after the system gave it no socket.
const REST: Duration = Duration::from_millis(100);
/// Time for a handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Time for a request's head, and for the next request to begin.
const HEAD: Duration = Duration::from_secs(20);
/// Largest head of a request, in bytes.
const HEAD_BYTES: usize = 64 << 10;
/// A connection ends after so long; whoever has more to ask comes back.
const LONGEST: Duration = Duration::from_secs(30 * 60);
/// What is in hand may be finished in this time when the server stops.
const GRACE: Duration = Duration::from_secs(10);

/// Why TLS cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file holds no certificate or key in PEM.
    #[error("{what} cannot be read as PEM: {source}")]
    Pem {
        /// Which.
        what: &'static str,
        /// Why.
        source: rustls::pki_types::pem::Error,
    },
    /// They do not belong together, or cannot be used.
    #[error("the certificate, its key or the authority cannot be used: {0}")]
    Unusable(String),
}

/// Sets up TLS 1.3: our certificate with its key, and the authority whose clients need no token. PEM texts.
///
/// # Errors
/// Something is no PEM, or they do not belong together.
pub fn tls(
    certificate: &[u8],
    key: &[u8],
    authority: Option<&[u8]>,
) -> Result<ServerConfig, TlsError> {
    let certificates = |pem, what| {
        let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
        all.map_err(|source| TlsError::Pem { what, source })
    };
    let unusable = |error: &dyn std::fmt::Display| TlsError::Unusable(error.to_string());
    let chain = certificates(certificate, "the certificate")?;
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|source| TlsError::Pem {
        what: "the key",
        source,
    })?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| unusable(&error))?;
    let config = match authority {
        None => config.with_no_client_auth(),
        Some(pem) => {
            let mut roots = RootCertStore::empty();
            for root in certificates(pem, "the authority")? {
                roots.add(root).map_err(|error| unusable(&error))?;
            }
            // Whoever shows no certificate needs a token.
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                .allow_unauthenticated()
                .build()
                .map_err(|error| unusable(&error))?;
            config.with_client_cert_verifier(verifier)
        }
    };
    let mut config = config
        .with_single_cert(chain, key)
        .map_err(|error| unusable(&error))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    // A resumed session would not look at the certificate's dates again.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

/// Serves until told to stop, then finishes what is in hand.
pub(super) async fn serve(
    listener: TcpListener,
    tls: Option<ServerConfig>,
    connections: usize,
    router: Router,
    stop: CancellationToken,
) {
    let tls = tls.map(|config| TlsAcceptor::from(Arc::new(config)));
    let (tasks, room) = (TaskTracker::new(), Arc::new(Semaphore::new(connections)));
    let next = async || {
        // It is never closed.
        let permit = room.clone().acquire_owned().await.ok()?;
        Some((listener.accept().await, permit))
    };
    while let Some(Some((socket, permit))) = stop.run_until_cancelled(next()).await {
        let socket = match socket {
            Ok((socket, _)) => socket,
            Err(error) => {
                warn!(%error, "could not accept a connection");
                tokio::time::sleep(REST).await;
                continue;
            }
        };
        let (tls, router, stop) = (tls.clone(), router.clone(), stop.clone());
        tasks.spawn(async move {
            let served = async {
                socket.set_nodelay(true)?;
                let Some(tls) = tls else {
                    return one(socket, Certified::default(), router, &stop).await;
                };
                let handshake = tokio::time::timeout(HANDSHAKE, tls.accept(socket)).await;
                let stream = handshake.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
                let leaf = stream
                    .get_ref()
                    .1
                    .peer_certificates()
                    .and_then(|chain| chain.first());
                let certified = Certified(leaf.and_then(common_name));
                one(stream, certified, router, &stop).await
            };
            match tokio::time::timeout(LONGEST, served).await {
                Ok(Err(error)) => debug!(%error, "a connection ended"),
                Ok(Ok(())) => {}
                Err(_) => debug!("a connection was open for too long"),
            }
            drop(permit);
        });
    }
    tasks.close();
    if tokio::time::timeout(GRACE, tasks.wait()).await.is_err() {
        warn!("requests in hand were dropped");
    }
}

/// Serves one connection.
async fn one(
    stream: impl AsyncRead + AsyncWrite + Unpin + 'static,
    certified: Certified,
    router: Router,
    stop: &CancellationToken,
) -> io::Result<()> {
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        let mut request: Request = request.map(Body::new);
        request.extensions_mut().insert(certified.clone());
        // A router is ready at all times.
        router.clone().call(request)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .max_buf_size(HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        done = connection.as_mut() => return done.map_err(io::Error::other),
        () = stop.cancelled() => {}
    }
    connection.as_mut().graceful_shutdown();
    connection.await.map_err(io::Error::other)
}

/// The name that a certificate is for.
fn common_name(leaf: &CertificateDer<'_>) -> Option<String> {
    let (_, leaf) = X509Certificate::from_der(leaf).ok()?;
    let name = leaf.subject().iter_common_name().next()?;
    let name = name.as_str().ok()?.trim();
    (!name.is_empty() && name.len() <= 200).then(|| name.to_owned())
}

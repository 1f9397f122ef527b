//! Accepts connections, a bounded number of them, each of them ended when its peer is put out.

use std::{
    collections::HashMap,
    future::Future,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use consilium_proto::{Digest, rpc::key_digest};
use rustls::ServerConfig;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_util::{
    sync::{CancellationToken, WaitForCancellationFutureOwned},
    task::TaskTracker,
};
use tonic::transport::server::Connected;
use tracing::{debug, warn};

use crate::{roster::Members, store::Store};

/// How long the accept loop rests after the system gave it no socket (too many open files).
const REST: Duration = Duration::from_millis(100);

/// Who is at the other end of a connection, as the handshake has proved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// SHA-256 of its key's SubjectPublicKeyInfo.
    pub key: Digest,
    /// Whether its certificate is from our authority.
    pub is_certified: bool,
}

/// How much the gate lets in at a time.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Open connections.
    pub connections: usize,
    /// Handshakes under way.
    pub handshakes: usize,
    /// Time for one handshake.
    pub handshake_timeout: Duration,
}

/// Connections that are open, to end those whose peer may no longer act.
#[derive(Debug, Clone, Default)]
pub struct Connections(Arc<Mutex<Open>>);

#[derive(Debug, Default)]
struct Open {
    next: u64,
    peers: HashMap<u64, (Peer, CancellationToken)>,
}

impl Connections {
    /// Ends every connection whose peer does not pass.
    pub fn retain(&self, may_stay: impl Fn(&Peer) -> bool) {
        for (peer, end) in self.locked().peers.values() {
            if !may_stay(peer) {
                end.cancel();
            }
        }
    }

    fn enter(&self, peer: Peer) -> (u64, CancellationToken) {
        let mut open = self.locked();
        let (id, end) = (open.next, CancellationToken::new());
        open.next += 1;
        open.peers.insert(id, (peer, end.clone()));
        (id, end)
    }

    fn leave(&self, id: u64) {
        self.locked().peers.remove(&id);
    }

    /// Whoever died while holding it left whole entries behind.
    fn locked(&self) -> MutexGuard<'_, Open> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Lets connections in.
pub struct Gate<S> {
    listener: TcpListener,
    tls: TlsAcceptor,
    members: Arc<Members<S>>,
    connections: Connections,
    limits: Limits,
    /// Anybody can be an applicant: they get a quarter of all connections, so that members are
    /// not kept out.
    applicants: Arc<Semaphore>,
}

impl<S: Store> Gate<S> {
    /// Guards a listener.
    pub fn new(
        listener: TcpListener,
        config: ServerConfig,
        members: Arc<Members<S>>,
        connections: Connections,
        limits: Limits,
    ) -> Self {
        let tls = TlsAcceptor::from(Arc::new(config));
        Self {
            listener,
            tls,
            members,
            connections,
            limits,
            applicants: Arc::new(Semaphore::new(limits.connections.div_ceil(4))),
        }
    }

    /// Accepts until told to stop. Streams whose handshake is done go into `accepted`.
    pub async fn run(
        self,
        accepted: mpsc::Sender<Result<PeerStream, io::Error>>,
        stop: CancellationToken,
    ) {
        let tasks = TaskTracker::new();
        let connections = Arc::new(Semaphore::new(self.limits.connections));
        let handshakes = Arc::new(Semaphore::new(self.limits.handshakes));
        let gate = Arc::new(self);
        let next = async || {
            // Both semaphores are never closed.
            let connection = connections.clone().acquire_owned().await.ok()?;
            let handshake = handshakes.clone().acquire_owned().await.ok()?;
            Some((gate.listener.accept().await, connection, handshake))
        };
        while let Some(Some((socket, connection, handshake))) =
            stop.run_until_cancelled(next()).await
        {
            let (socket, address) = match socket {
                Ok(socket) => socket,
                Err(error) => {
                    warn!(%error, "could not accept a connection");
                    tokio::time::sleep(REST).await;
                    continue;
                }
            };
            let (gate, accepted, stop) = (gate.clone(), accepted.clone(), stop.clone());
            tasks.spawn(async move {
                let stream = gate.admit(socket, address, connection);
                let stream = stop.run_until_cancelled(stream).await.flatten();
                drop(handshake);
                if let Some(stream) = stream {
                    // Refused only when the server has ended; the stream ends with it.
                    let _ = stop.run_until_cancelled(accepted.send(Ok(stream))).await;
                }
            });
        }
        tasks.close();
        tasks.wait().await;
    }

    async fn admit(
        &self,
        socket: TcpStream,
        address: SocketAddr,
        permit: OwnedSemaphorePermit,
    ) -> Option<PeerStream> {
        // A revocation that another process has just imported counts for this handshake.
        if let Err(error) = self.members.refresh().await {
            warn!(%error, "could not look for a new roster, connection dropped");
            return None;
        }
        let handshake = async {
            socket.set_nodelay(true)?;
            self.tls.accept(socket).await
        };
        let stream = match tokio::time::timeout(self.limits.handshake_timeout, handshake).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => {
                debug!(%address, %error, "handshake refused");
                return None;
            }
            Err(_) => {
                debug!(%address, "handshake took too long");
                return None;
            }
        };
        let (_, session) = stream.get_ref();
        let leaf = session.peer_certificates()?.first()?;
        let peer = Peer {
            key: key_digest(leaf).ok()?,
            is_certified: !super::is_self_issued(leaf),
        };
        let applicant = match peer.is_certified {
            true => None,
            false => Some(self.applicants.clone().try_acquire_owned().ok()?),
        };
        let (id, end) = self.connections.enter(peer.clone());
        Some(PeerStream {
            stream,
            peer,
            id,
            connections: self.connections.clone(),
            ended: Box::pin(end.cancelled_owned()),
            _permits: (permit, applicant),
        })
    }
}

/// A connection whose peer is known; it breaks when the peer is put out.
pub struct PeerStream {
    stream: TlsStream<TcpStream>,
    peer: Peer,
    id: u64,
    connections: Connections,
    ended: Pin<Box<WaitForCancellationFutureOwned>>,
    _permits: (OwnedSemaphorePermit, Option<OwnedSemaphorePermit>),
}

impl Drop for PeerStream {
    fn drop(&mut self) {
        self.connections.leave(self.id);
    }
}

impl Connected for PeerStream {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

impl AsyncRead for PeerStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.ended.as_mut().poll(context).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for PeerStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

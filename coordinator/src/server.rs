//! The serving coordinator: everything put together, from a folder to open connections.

use std::{fs, io, net::SocketAddr, sync::Arc, time::Duration};

use consilium_proto::{
    PublicKey, Roster,
    rpc::{DESCRIPTORS, TlsIdentity, TlsIdentityError},
};
use tokio::{net::TcpListener, sync::mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{info, warn};

use crate::{
    access::AccessLayer,
    blobs::{BlobError, Blobs},
    certificates::{Authority, CertificateError, Usage},
    clock::{Clock, Timestamp},
    driver::Driver,
    folder::{Folder, FolderError, open_store},
    roster::{Members, MembersError},
    services::{Coordinator, routes},
    settings::Settings,
    store::{SqliteStore, Store},
    submission::Submissions,
    tls::{self, Connections, Gate, Limits, Peer, Standing, Standings as _},
    transparency::{HeadError, Transparency},
    uploads::Uploads,
};

/// Time between two looks at the roster, for connections that are open.
const ROSTER_TICK: Duration = Duration::from_secs(1);
/// Time between two looks at our own certificate.
const RENEWAL_TICK: Duration = Duration::from_secs(600);
/// Handshakes that are done and wait for a task.
const ACCEPTED: usize = 16;
/// HTTP/2 windows: what a peer may send before we have read it, so a bound on our memory.
const STREAM_WINDOW: u32 = 2 << 20;
const CONNECTION_WINDOW: u32 = 4 << 20;
/// Calls of one connection at a time.
const STREAMS: u32 = 64;
const KEEP_ALIVE: Duration = Duration::from_secs(20);

/// Why the coordinator does not serve.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The data folder cannot be used.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// The address is taken or not ours.
    #[error("cannot listen on {address}: {}", advice(.source))]
    Listen {
        /// Where.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// The stored roster is not believed.
    #[error(transparent)]
    Members(#[from] MembersError),
    /// The transparency log cannot be read back.
    #[error(transparent)]
    Transparency(#[from] HeadError),
    /// The folder for models and updates cannot be used.
    #[error(transparent)]
    Blob(#[from] BlobError),
    /// Our certificate cannot be made.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// Our TLS key cannot be used.
    #[error(transparent)]
    Identity(#[from] TlsIdentityError),
    /// TLS cannot be set up.
    #[error("TLS cannot be set up")]
    Tls(#[from] rustls::Error),
    /// The reflection service cannot be made.
    #[error("the reflection service cannot be made")]
    Reflection(#[from] tonic_reflection::server::Error),
    /// Serving ended by itself.
    #[error("serving ended")]
    Transport(#[from] tonic::transport::Error),
}

fn advice(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            "the port is taken: is another coordinator running? Stop it, or change `listen` in \
             settings.toml"
                .into()
        }
        io::ErrorKind::AddrNotAvailable => {
            "this machine has no such address: change `listen` in settings.toml".into()
        }
        io::ErrorKind::PermissionDenied => {
            "not permitted: take a port above 1023 for `listen` in settings.toml".into()
        }
        _ => error.to_string(),
    }
}

/// A coordinator that is bound to its address.
pub struct Server {
    coordinator: Arc<Coordinator<SqliteStore>>,
    own: OwnCertificate,
    gate: Gate<SqliteStore>,
    connections: Connections,
    address: SocketAddr,
    /// Held as long as we serve.
    _lock: fs::File,
}

impl Server {
    /// Takes the folder for itself, opens what is in it and binds its address.
    ///
    /// # Errors
    /// The governance key lies in the folder, another process serves it, the database is locked or
    /// newer, the port is taken.
    pub async fn bind(folder: Folder) -> Result<Self, ServeError> {
        Self::bind_with(folder, Clock::system()).await
    }

    /// As [`bind`](Self::bind), with another clock.
    ///
    /// # Errors
    /// As [`bind`](Self::bind).
    pub async fn bind_with(folder: Folder, clock: Clock) -> Result<Self, ServeError> {
        let _lock = folder.lock()?;
        let store = Arc::new(open_store(&folder.path).await?);
        let blobs = Blobs::open(&folder.blobs(), folder.key.clone())?;
        let members = Arc::new(Members::new(
            store.clone(),
            folder.trust_root,
            clock.clone(),
        ));
        let roster = members.refresh().await?;
        advise(
            roster.as_deref(),
            &folder.identity.public_key(),
            clock.now(),
        );
        let settings = folder.settings.clone();
        let own = OwnCertificate {
            identity: folder.tls.clone(),
            authority: folder.authority.clone(),
            lifetime: settings.certificate_lifetime,
        };
        own.renew(&clock)?;
        let config = tls::server_config(
            own.identity.clone(),
            own.authority.certificate().clone(),
            members.clone(),
            clock.clone(),
        )?;
        let failed = |source| ServeError::Listen {
            address: settings.listen,
            source,
        };
        let listener = TcpListener::bind(settings.listen).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let connections = Connections::default();
        let limits = Limits {
            connections: settings.max_connections,
            handshakes: settings.max_handshakes,
            handshake_timeout: settings.handshake_timeout,
        };
        let gate = Gate::new(
            listener,
            config,
            members.clone(),
            connections.clone(),
            limits,
        );
        let transparency = Transparency::open(
            store.clone(),
            members.clone(),
            folder.identity.clone(),
            clock.clone(),
        )
        .await?;
        let coordinator = assemble(
            &folder,
            store,
            blobs,
            members,
            transparency,
            settings,
            clock,
        );
        Ok(Self {
            coordinator,
            own,
            gate,
            connections,
            address,
            _lock,
        })
    }

    /// Where it listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Serves until told to stop; then ends open calls within the settings' grace.
    ///
    /// # Errors
    /// The reflection service cannot be made, or serving ended by itself.
    pub async fn run(self, stop: CancellationToken) -> Result<(), ServeError> {
        let Self {
            coordinator,
            own,
            gate,
            connections,
            address,
            _lock,
        } = self;
        let reflection = tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
            .build_v1()?;
        let (_health, health_service) = tonic_health::server::health_reporter();
        let router = tonic::transport::Server::builder()
            .http2_keepalive_interval(Some(KEEP_ALIVE))
            .http2_keepalive_timeout(Some(KEEP_ALIVE))
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_concurrent_streams(STREAMS)
            .layer(AccessLayer::new(coordinator.members.clone()))
            .add_routes(routes(&coordinator))
            .add_service(health_service)
            .add_service(reflection);

        let tasks = TaskTracker::new();
        let ending = coordinator.stop.clone();
        let (accepted, incoming) = mpsc::channel(ACCEPTED);
        tasks.spawn(gate.run(accepted, ending.clone()));
        tasks.spawn(coordinator.driver.clone().run(ending.clone()));
        tasks.spawn(watch_roster(coordinator.clone(), connections.clone()));
        tasks.spawn(keep_certificate(own, coordinator.clone()));
        info!(%address, "coordinator serves");

        let incoming = ReceiverStream::new(incoming);
        let serving =
            router.serve_with_incoming_shutdown(incoming, ending.clone().cancelled_owned());
        let grace = coordinator.settings.shutdown_grace;
        let end_by_force = async {
            stop.cancelled().await;
            info!("coordinator stops");
            ending.cancel();
            tokio::time::sleep(grace).await;
            warn!("calls are still open after the grace, ending their connections");
            connections.retain(|_| false);
            std::future::pending::<()>().await;
        };
        let served = tokio::select! {
            served = serving => served,
            () = end_by_force => Ok(()),
        };
        ending.cancel();
        tasks.close();
        tasks.wait().await;
        coordinator.store.close().await;
        Ok(served?)
    }
}

/// Says what keeps a federation from working that only governance can change.
fn advise(roster: Option<&Roster>, ours: &PublicKey, now: Timestamp) {
    let Some(roster) = roster else {
        warn!("no roster was imported yet: only applications to join are taken");
        return;
    };
    if !roster
        .coordinators(now.seconds())
        .any(|member| member.identity_key == *ours)
    {
        warn!(
            epoch = roster.epoch(),
            "this coordinator is not in the roster: sites will not believe its rounds until \
             governance admits it"
        );
    }
}

fn assemble(
    folder: &Folder,
    store: Arc<SqliteStore>,
    blobs: Blobs,
    members: Arc<Members<SqliteStore>>,
    transparency: Transparency<SqliteStore>,
    settings: Settings,
    clock: Clock,
) -> Arc<Coordinator<SqliteStore>> {
    let driver = Arc::new(Driver::new(
        store.clone(),
        blobs.clone(),
        members.clone(),
        folder.identity.clone(),
        clock.clone(),
        settings.straggler_grace,
    ));
    let uploads = Uploads::new(
        driver.clone(),
        store.clone(),
        blobs.clone(),
        clock.clone(),
        settings.upload_concurrency,
    );
    let submissions = Submissions::new(
        driver.clone(),
        store.clone(),
        members.clone(),
        blobs.clone(),
        clock.clone(),
        settings.chunk_bytes,
    );
    Arc::new(Coordinator {
        store,
        driver,
        members,
        uploads,
        submissions,
        transparency,
        blobs,
        authority: folder.authority.clone(),
        settings,
        clock,
        stop: CancellationToken::new(),
    })
}

/// Ends connections of members that may no longer act, and lets a new roster act on studies.
async fn watch_roster<S: Store>(coordinator: Arc<Coordinator<S>>, connections: Connections) {
    let Coordinator {
        members,
        driver,
        stop,
        ..
    } = &*coordinator;
    let mut ticks = tokio::time::interval(ROSTER_TICK);
    let mut seen = None;
    while stop.run_until_cancelled(ticks.tick()).await.is_some() {
        let roster = match members.refresh().await {
            Ok(roster) => roster,
            Err(error) => {
                warn!(%error, "could not look for a new roster, trying again at the next tick");
                continue;
            }
        };
        let may_stay =
            |peer: &Peer| !peer.is_certified || members.standing(&peer.key) == Standing::Active;
        connections.retain(may_stay);
        let epoch = roster.map(|roster| roster.epoch());
        if epoch != seen {
            match driver.roster_changed().await {
                Ok(()) => seen = epoch,
                Err(error) => warn!(%error, "could not apply a new roster, trying again"),
            }
        }
    }
}

/// Our own certificate, made anew before it ends; connections that are open stay as they are.
struct OwnCertificate {
    identity: Arc<TlsIdentity>,
    authority: Arc<Authority>,
    lifetime: Duration,
}

impl OwnCertificate {
    fn renew(&self, clock: &Clock) -> Result<(), ServeError> {
        let request = self.identity.certificate_request()?;
        let chain = self.authority.issue(
            &request,
            &self.identity.key_digest(),
            "consilium coordinator",
            Usage::Server,
            clock.now(),
            self.lifetime,
        )?;
        Ok(self.identity.renew(chain)?)
    }

    /// Whether a third of its life or less is left.
    fn is_due(&self, clock: &Clock) -> Result<bool, TlsIdentityError> {
        let left = self
            .identity
            .expires_at()?
            .saturating_sub(clock.now().seconds());
        Ok(left <= self.lifetime.as_secs() / 3)
    }
}

async fn keep_certificate<S: Store>(own: OwnCertificate, coordinator: Arc<Coordinator<S>>) {
    let Coordinator { clock, stop, .. } = &*coordinator;
    let mut ticks = tokio::time::interval(RENEWAL_TICK.min(own.lifetime / 10));
    while stop.run_until_cancelled(ticks.tick()).await.is_some() {
        let renewed = match own.is_due(clock) {
            Ok(false) => continue,
            Ok(true) => own.renew(clock),
            Err(error) => Err(error.into()),
        };
        match renewed {
            Ok(()) => info!("own certificate renewed"),
            Err(error) => warn!(%error, "could not renew own certificate, trying again"),
        }
    }
}

#[cfg(test)]
mod tests;

//! A coordinator that lies. It stands between sites and the true coordinator, holds all of that one's
//! keys, and passes on what it does not lie about: to a site it is the coordinator.

mod way;

use std::{
    collections::HashMap,
    convert::Infallible,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard},
    task::{Context as Task, Poll},
};

use consilium_agent::Membership;
use consilium_coordinator::{
    clock::Clock,
    tls::{Standing, Standings, server_config},
};
use consilium_privacy::{
    seal::read_sealed,
    secagg::{
        Context, PublicKey,
        message::{ToCoordinator, ToSite},
    },
};
use consilium_proto::{
    Digest, RoundId, RoundSpec, Signer, SiteId,
    chunk::MESSAGE_LIMIT,
    rpc::TlsIdentity,
    wire::{DeclineReason, rounds_server::RoundsServer},
};
use futures::{Stream, stream};
use rustls::{ServerConfig, pki_types::CertificateDer};
use tokio::{
    io::{DuplexStream, copy_bidirectional, duplex},
    net::TcpListener,
};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::{
    body::Body,
    codegen::{BoxFuture, Service, StdError, http},
    transport::Channel,
};

use self::way::Way;
use crate::federation::{Federation, key};

/// Bytes between a connection and its calls.
const PIPE: usize = 1 << 16;

/// One site in one attempt, as it was told of it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ear {
    pub(crate) site: SiteId,
    pub(crate) round: RoundId,
    pub(crate) context: Context,
}

/// What is made of what passes through. Without lies everything passes as it is.
pub(crate) struct Lies {
    /// The specification that this site is shown.
    pub(crate) spec: Box<dyn FnMut(SiteId, RoundSpec) -> RoundSpec + Send>,
    /// What the true coordinator hears of a site's message. Nothing: it is kept from it.
    pub(crate) up: Box<dyn FnMut(Ear, ToCoordinator) -> Option<ToCoordinator> + Send>,
    /// What a site hears where the true coordinator says this, or nothing.
    pub(crate) down: Box<dyn FnMut(Ear, Option<ToSite>) -> Option<ToSite> + Send>,
}

impl Lies {
    pub(crate) fn none() -> Self {
        Self {
            spec: Box::new(|_, spec| spec),
            up: Box::new(|_, message| Some(message)),
            down: Box::new(|_, message| message),
        }
    }

    pub(crate) fn down(
        lie: impl FnMut(Ear, Option<ToSite>) -> Option<ToSite> + Send + 'static,
    ) -> Self {
        Self {
            down: Box::new(lie),
            ..Self::none()
        }
    }

    pub(crate) fn spec(lie: impl FnMut(SiteId, RoundSpec) -> RoundSpec + Send + 'static) -> Self {
        Self {
            spec: Box::new(lie),
            ..Self::none()
        }
    }
}

/// What went through, in order.
#[derive(Default)]
pub(crate) struct Said {
    pub(crate) messages: Vec<(SiteId, RoundId, ToCoordinator)>,
    /// What sites heard.
    pub(crate) told: Vec<(SiteId, RoundId, ToSite)>,
    pub(crate) declined: Vec<(SiteId, RoundId, DeclineReason)>,
    /// Uploads begun.
    pub(crate) uploads: Vec<SiteId>,
}

impl Said {
    /// Whether this site has said nothing, and sent no update.
    pub(crate) fn is_silent(&self, site: SiteId) -> bool {
        let spoke = self.messages.iter().any(|(from, ..)| *from == site);
        !spoke && !self.uploads.contains(&site)
    }
}

/// What all ways share.
struct Middle {
    signer: Arc<Signer>,
    lies: Mutex<Lies>,
    contexts: Mutex<HashMap<(SiteId, RoundId), Context>>,
    said: Mutex<Said>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("no lie panics")
}

/// The lying coordinator, serving.
pub(crate) struct Interceptor {
    middle: Arc<Middle>,
    _end: DropGuard,
}

impl Interceptor {
    /// Leads each of these members' folders here instead of to the true coordinator.
    pub(crate) async fn between(federation: &Federation, sites: &[PathBuf]) -> Self {
        let folder = federation.path("coordinator");
        let open = |file: &str, context| {
            read_sealed(&folder.join(file), &key(), context).expect("the coordinator's")
        };
        let identity = open("identity.key.sealed", "coordinator identity key");
        let tls = open("tls.key.sealed", "coordinator TLS key");
        let authority = std::fs::read(folder.join("authority.der")).expect("its certificate");
        let config = server_config(
            TlsIdentity::new(&tls, None).expect("its key"),
            CertificateDer::from(authority),
            Arc::new(Everybody),
            Clock::system(),
        );
        let config = Arc::new(config.expect("a root"));
        let middle = Arc::new(Middle {
            signer: Arc::new(Signer::from_pkcs8(&identity).expect("its key")),
            lies: Mutex::new(Lies::none()),
            contexts: Mutex::default(),
            said: Mutex::default(),
        });
        let end = CancellationToken::new();
        for site in sites {
            let (middle, config) = (middle.clone(), config.clone());
            capture(site, middle, config, end.child_token()).await;
        }
        let _end = end.drop_guard();
        Self { middle, _end }
    }

    /// The true coordinator's own key.
    pub(crate) fn signer(&self) -> Arc<Signer> {
        self.middle.signer.clone()
    }

    /// Its public half.
    pub(crate) fn public_key(&self) -> PublicKey {
        PublicKey(*self.middle.signer.public_key().as_bytes())
    }

    pub(crate) fn lie(&self, lies: Lies) {
        *locked(&self.middle.lies) = lies;
    }

    /// What has gone through so far.
    pub(crate) fn said(&self) -> MutexGuard<'_, Said> {
        locked(&self.middle.said)
    }

    /// What a site's messages of an attempt are bound to, by the specification that it was shown.
    pub(crate) fn context(&self, site: SiteId, round: RoundId) -> Context {
        locked(&self.middle.contexts)[&(site, round)]
    }
}

/// A lying coordinator is not particular.
struct Everybody;

impl Standings for Everybody {
    fn standing(&self, _: &Digest) -> Standing {
        Standing::Active
    }
}

/// Takes over what a site calls: it believes to be talking to the coordinator, and the coordinator
/// to be talking to the site.
async fn capture(
    folder: &Path,
    middle: Arc<Middle>,
    config: Arc<ServerConfig>,
    end: CancellationToken,
) {
    let membership = Membership::open(folder, &key()).expect("a member");
    let way = Way {
        site: membership.site_id().expect("a site"),
        onwards: membership.connect().await.expect("a connection"),
        middle,
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let here = listener.local_addr().expect("bound").to_string();
    let there = membership.coordinator().expect("an address");
    let profile = folder.join("member.toml");
    let text = std::fs::read_to_string(&profile).expect("its profile");
    assert!(text.contains(there.address()));
    std::fs::write(&profile, text.replace(there.address(), &here)).expect("room");
    let passage = Passage {
        onwards: way.onwards.clone(),
        rounds: RoundsServer::new(way).max_decoding_message_size(MESSAGE_LIMIT),
    };
    let incoming = accepted(listener, TlsAcceptor::from(config));
    let serving = tonic::transport::Server::builder().serve_with_incoming_shutdown(
        passage,
        incoming,
        end.cancelled_owned(),
    );
    tokio::spawn(serving);
}

/// Connections whose handshake is done.
fn accepted(
    listener: TcpListener,
    tls: TlsAcceptor,
) -> impl Stream<Item = Result<DuplexStream, Infallible>> {
    stream::unfold((listener, tls), async |(listener, tls)| {
        loop {
            let (socket, _) = listener.accept().await.ok()?;
            let handshake = async {
                socket.set_nodelay(true)?;
                tls.accept(socket).await
            };
            let Ok(mut outer) = handshake.await else {
                continue;
            };
            let (mut inner, calls) = duplex(PIPE);
            tokio::spawn(async move { copy_bidirectional(&mut outer, &mut inner).await });
            return Some((Ok(calls), (listener, tls)));
        }
    })
}

/// All calls of a site: what is about rounds goes through [`Way`], the rest passes untouched.
#[derive(Clone)]
struct Passage {
    rounds: RoundsServer<Way>,
    onwards: Channel,
}

impl Service<http::Request<Body>> for Passage {
    type Response = http::Response<Body>;
    type Error = StdError;
    type Future = BoxFuture<Self::Response, StdError>;

    fn poll_ready(&mut self, _: &mut Task<'_>) -> Poll<Result<(), StdError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let Self {
            mut rounds,
            mut onwards,
        } = self.clone();
        Box::pin(async move {
            if request.uri().path().starts_with("/consilium.v1.Rounds/") {
                return Ok(rounds.call(request).await?);
            }
            std::future::poll_fn(|task| onwards.poll_ready(task)).await?;
            Ok(onwards.call(request).await?)
        })
    }
}

//! Which role may call what: one table, one place that enforces it, closed by default.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use consilium_proto::{ErrorCode, Member, Role};
use tonic::{Status, body::Body, codegen::http};
use tower::{Layer, Service};
use tracing::{debug, error};

use crate::{roster::Members, store::Store, tls::Peer};

const SITE: &[Role] = &[Role::Site];
const RESEARCHER: &[Role] = &[Role::Researcher];
const READERS: &[Role] = &Role::CALLERS;
const WITNESSES: &[Role] = &[Role::Site, Role::Auditor, Role::Operator];
const OVERSIGHT: &[Role] = &[Role::Auditor, Role::Operator];

/// Who may make a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// Whoever has a key, member or not, and every member.
    Anybody,
    /// Members in one of these roles.
    Roles(&'static [Role]),
}

impl Rule {
    /// Whether a caller in this role passes; none is an applicant.
    pub fn admits(&self, role: Option<Role>) -> bool {
        match (self, role) {
            (Self::Anybody, _) => true,
            (Self::Roles(roles), Some(role)) => roles.contains(&role),
            (Self::Roles(_), None) => false,
        }
    }
}

/// Every call there is, with who may make it. What is not here is refused to all.
pub const TABLE: &[(&str, Rule)] = &[
    ("/consilium.v1.Enrolment/Apply", Rule::Anybody),
    ("/consilium.v1.Enrolment/Collect", Rule::Anybody),
    ("/consilium.v1.Enrolment/Roster", Rule::Roles(READERS)),
    ("/consilium.v1.Studies/Submit", Rule::Roles(RESEARCHER)),
    ("/consilium.v1.Studies/List", Rule::Roles(READERS)),
    ("/consilium.v1.Studies/Show", Rule::Roles(READERS)),
    ("/consilium.v1.Studies/Watch", Rule::Roles(READERS)),
    (
        "/consilium.v1.Studies/Stop",
        Rule::Roles(&[Role::Researcher, Role::Operator]),
    ),
    ("/consilium.v1.Studies/Resume", Rule::Roles(RESEARCHER)),
    ("/consilium.v1.Studies/Decide", Rule::Roles(SITE)),
    (
        "/consilium.v1.Studies/Download",
        Rule::Roles(&[Role::Site, Role::Researcher]),
    ),
    (
        "/consilium.v1.Studies/Release",
        Rule::Roles(&[Role::Site, Role::Researcher, Role::Auditor]),
    ),
    ("/consilium.v1.Rounds/NextWork", Rule::Roles(SITE)),
    ("/consilium.v1.Rounds/UploadStatus", Rule::Roles(SITE)),
    ("/consilium.v1.Rounds/Upload", Rule::Roles(SITE)),
    ("/consilium.v1.Rounds/Decline", Rule::Roles(SITE)),
    ("/consilium.v1.Rounds/SendMessage", Rule::Roles(SITE)),
    ("/consilium.v1.Rounds/NextMessage", Rule::Roles(SITE)),
    ("/consilium.v1.Audit/Log", Rule::Roles(OVERSIGHT)),
    ("/consilium.v1.Audit/SubmitHead", Rule::Roles(SITE)),
    ("/consilium.v1.Audit/NewestHead", Rule::Roles(SITE)),
    ("/consilium.v1.Audit/TreeHead", Rule::Roles(WITNESSES)),
    ("/consilium.v1.Audit/Inclusion", Rule::Roles(WITNESSES)),
    ("/consilium.v1.Audit/Consistency", Rule::Roles(WITNESSES)),
    ("/consilium.v1.Audit/Leaves", Rule::Roles(OVERSIGHT)),
    ("/grpc.health.v1.Health/Check", Rule::Roles(READERS)),
    ("/grpc.health.v1.Health/Watch", Rule::Roles(READERS)),
    (
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
        Rule::Roles(READERS),
    ),
];

/// The rule for a call; none if there is no such call.
pub fn rule_of(path: &str) -> Option<Rule> {
    TABLE
        .iter()
        .find(|(known, _)| *known == path)
        .map(|(_, rule)| *rule)
}

/// The member that makes a call, put into the request by [`AccessLayer`].
#[derive(Debug, Clone)]
pub struct Caller(pub Member);

/// Lets a call through only if the table admits its caller, by the roster as it is at that moment.
pub struct AccessLayer<S>(Arc<Members<S>>);

impl<S> AccessLayer<S> {
    /// Asks this roster.
    pub fn new(members: Arc<Members<S>>) -> Self {
        Self(members)
    }
}

impl<S> Clone for AccessLayer<S> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<S, I> Layer<I> for AccessLayer<S> {
    type Service = AccessService<S, I>;

    fn layer(&self, inner: I) -> Self::Service {
        AccessService {
            members: self.0.clone(),
            inner,
        }
    }
}

/// What [`AccessLayer`] makes of a service.
pub struct AccessService<S, I> {
    members: Arc<Members<S>>,
    inner: I,
}

impl<S, I: Clone> Clone for AccessService<S, I> {
    fn clone(&self) -> Self {
        Self {
            members: self.members.clone(),
            inner: self.inner.clone(),
        }
    }
}

type Reply<E> = Pin<Box<dyn Future<Output = Result<http::Response<Body>, E>> + Send>>;

impl<S, I> Service<http::Request<Body>> for AccessService<S, I>
where
    S: Store,
    I: Service<http::Request<Body>, Response = http::Response<Body>> + Clone + Send + 'static,
    I::Future: Send,
{
    type Response = http::Response<Body>;
    type Error = I::Error;
    type Future = Reply<I::Error>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), I::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: http::Request<Body>) -> Self::Future {
        let members = self.members.clone();
        // The one that was polled ready goes with the call, its clone stays.
        let clone = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, clone);
        Box::pin(async move {
            let path = request.uri().path().to_owned();
            let peer = request.extensions().get::<Peer>().cloned();
            match admit(&members, &path, peer).await {
                Ok(Some(member)) => {
                    request.extensions_mut().insert(Caller(member));
                    inner.call(request).await
                }
                Ok(None) => inner.call(request).await,
                Err(status) => {
                    debug!(path, %status, "call refused");
                    Ok(status.into_http())
                }
            }
        })
    }
}

/// The member that calls, none for an applicant; or why the call is refused.
async fn admit<S: Store>(
    members: &Members<S>,
    path: &str,
    peer: Option<Peer>,
) -> Result<Option<Member>, Box<Status>> {
    let denied = |reason: String| Box::new(Status::new(ErrorCode::Denied.into(), reason));
    let rule = rule_of(path).ok_or_else(|| denied(format!("there is no call {path}")))?;
    let peer = peer.ok_or_else(|| denied("this connection has no certificate".into()))?;
    if !peer.is_certified {
        let reason = "only members may do this: enrol first, or collect a new certificate";
        return if rule.admits(None) {
            Ok(None)
        } else {
            Err(denied(reason.into()))
        };
    }
    let roster = members.refresh().await.map_err(|cause| {
        error!(%cause, "could not read the roster");
        let reason = "the roster cannot be read: try again later";
        Box::new(Status::new(ErrorCode::Unavailable.into(), reason))
    })?;
    let now = members.now().seconds();
    let member = roster
        .as_ref()
        .and_then(|roster| roster.by_tls_key(&peer.key));
    match member {
        Some(member) if !member.is_active(now) => Err(denied(format!(
            "{} is no longer a member: ask governance",
            member.name
        ))),
        Some(member) if rule.admits(Some(member.role)) => Ok(Some(member.clone())),
        Some(member) => Err(denied(format!(
            "a member in the role {} may not do this",
            member.role
        ))),
        None => Err(denied("this key is not in the roster: enrol first".into())),
    }
}

//! Who belongs to the federation, and how one joins it.

use std::sync::Arc;

use consilium_proto::{
    ErrorCode, Roster, Signed,
    roster::Application,
    wire::{self, admission, enrolment_server::Enrolment},
};
use futures::{StreamExt as _, stream};
use prost::Message as _;
use serde_json::json;
use tonic::{Request, Response, Status};
use tracing::info;

use super::{Coordinator, Replies, invalid, missing, refusal::status};
use crate::{
    audit_log::Entry,
    certificates::Usage,
    store::{Change, Store},
    tls::Peer,
};

/// Requests to join that may wait at a time: anybody who reaches the port may hand one in.
const PENDING_LIMIT: usize = 1000;
/// Largest application and largest certificate request, in bytes.
const REQUEST_LIMIT: usize = 8 << 10;

pub(super) struct EnrolmentService<S>(pub(super) Arc<Coordinator<S>>);

impl<S: Store> EnrolmentService<S> {
    async fn pending(&self, roster: Option<&Roster>) -> Result<usize, Status> {
        let applications = self.0.store.applications().await.map_err(status)?;
        let is_admitted = |key| roster.is_some_and(|roster| roster.by_identity_key(key).is_some());
        Ok(applications
            .iter()
            .filter(|signed| !is_admitted(signed.signer()))
            .count())
    }

    /// Whether this key has handed in a request to join.
    async fn has_applied(&self, peer: &Peer) -> Result<bool, Status> {
        let applications = self.0.store.applications().await.map_err(status)?;
        // Its signature was checked when it came.
        let is_theirs = |signed: &Signed| {
            wire::ApplicationBody::decode(signed.unverified_body())
                .is_ok_and(|body| body.tls_key_digest == peer.key.as_bytes())
        };
        Ok(applications.iter().any(is_theirs))
    }
}

fn peer<T>(request: &Request<T>) -> Result<Peer, Status> {
    let peer = request.extensions().get::<Peer>().cloned();
    peer.ok_or_else(|| {
        Status::new(
            ErrorCode::Denied.into(),
            "this connection has no certificate",
        )
    })
}

#[tonic::async_trait]
impl<S: Store> Enrolment for EnrolmentService<S> {
    type RosterStream = Replies<wire::Signed>;

    async fn apply(
        &self,
        request: Request<wire::Application>,
    ) -> Result<Response<wire::ApplicationReceipt>, Status> {
        let peer = peer(&request)?;
        let signed = request.into_inner().signed;
        let signed = signed.ok_or_else(|| invalid("the application is missing"))?;
        let signed: Signed = signed.try_into().map_err(invalid)?;
        if signed.unverified_body().len() > REQUEST_LIMIT {
            return Err(invalid(format!(
                "the application has more than {REQUEST_LIMIT} bytes"
            )));
        }
        let application = Application::open(&signed).map_err(invalid)?;
        if application.tls_key_digest != peer.key {
            return Err(invalid(
                "the application is for another TLS key than this connection's",
            ));
        }
        let fingerprint = Application::fingerprint(&signed);
        let roster = self.0.members.refresh().await.map_err(status)?;
        let known = self.0.store.applications().await.map_err(status)?;
        if !known.contains(&signed) {
            if self.pending(roster.as_deref()).await? >= PENDING_LIMIT {
                let reason = "too many applications wait to be admitted: try again later";
                return Err(Status::new(ErrorCode::Exhausted.into(), reason));
            }
            let detail = json!({
                "fingerprint": fingerprint,
                "name": application.name,
                "role": application.role,
            });
            let change = Change {
                at: self.0.clock.now(),
                application: Some((fingerprint, signed)),
                entries: vec![Entry::by_coordinator("application received", detail)],
                ..Change::default()
            };
            self.0.store.commit(change).await.map_err(status)?;
            info!(name = %application.name, role = %application.role, "application received");
        }
        let fingerprint = fingerprint.as_bytes().to_vec();
        Ok(Response::new(wire::ApplicationReceipt { fingerprint }))
    }

    async fn collect(
        &self,
        request: Request<wire::CollectRequest>,
    ) -> Result<Response<wire::Admission>, Status> {
        let peer = peer(&request)?;
        let request = request.into_inner().certificate_request;
        if request.len() > REQUEST_LIMIT {
            return Err(invalid(format!(
                "the certificate request has more than {REQUEST_LIMIT} bytes"
            )));
        }
        let roster = self.0.members.refresh().await.map_err(status)?;
        let now = self.0.clock.now();
        let state = match roster
            .as_ref()
            .and_then(|roster| roster.by_tls_key(&peer.key))
        {
            Some(member) if member.is_active(now.seconds()) => {
                let lifetime = self.0.settings.certificate_lifetime;
                let issued = self.0.authority.issue(
                    &request,
                    &peer.key,
                    member.name.as_str(),
                    Usage::Member,
                    now,
                    lifetime,
                );
                let chain = issued.map_err(status)?;
                let detail = json!({ "key": peer.key, "expires": (now + lifetime).seconds() });
                let entry = Entry::by(member.id, "certificate issued", detail);
                self.0.driver.note(entry).await.map_err(status)?;
                info!(member = %member.id, name = %member.name, "certificate issued");
                let chain = chain
                    .iter()
                    .map(|certificate| certificate.to_vec())
                    .collect();
                admission::State::Certificate(wire::Certificate { chain })
            }
            Some(_) => admission::State::Revoked(wire::Empty {}),
            None if self.has_applied(&peer).await? => admission::State::Pending(wire::Empty {}),
            None => {
                return Err(missing(
                    "this key has not applied for membership: enrol first",
                ));
            }
        };
        Ok(Response::new(wire::Admission { state: Some(state) }))
    }

    async fn roster(
        &self,
        request: Request<wire::RosterRequest>,
    ) -> Result<Response<Self::RosterStream>, Status> {
        let from = request.into_inner().from_epoch;
        let epochs = self.0.store.roster(from).await.map_err(status)?;
        let epochs = epochs.into_iter().map(|epoch| Ok(epoch.into()));
        Ok(Response::new(stream::iter(epochs).boxed()))
    }
}

//! What a site does in a round.

use std::{sync::Arc, time::Duration};

use consilium_privacy::secagg::message::{ToCoordinator, ToSite};
use consilium_proto::{
    RoundId, SiteId,
    wire::{self, rounds_server::Rounds, upload_message::Part},
};
use tonic::{Request, Response, Status, Streaming};

use super::{Coordinator, caller, invalid, next, refusal::status, shutting_down};
use crate::{
    driver::Next,
    store::Store,
    uploads::{Begun, UploadError},
};

/// Longest that a site may ask to wait for work.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

pub(super) struct RoundsService<S>(pub(super) Arc<Coordinator<S>>);

fn site<T>(request: &Request<T>) -> Result<SiteId, Status> {
    caller(request)?
        .site()
        .ok_or_else(|| status(UploadError::NotASite))
}

fn round_of(round: Option<wire::RoundRef>) -> Result<RoundId, Status> {
    round
        .ok_or_else(|| invalid("the round is missing"))?
        .try_into()
        .map_err(invalid)
}

#[tonic::async_trait]
impl<S: Store> Rounds for RoundsService<S> {
    async fn next_work(
        &self,
        request: Request<wire::WorkRequest>,
    ) -> Result<Response<wire::Work>, Status> {
        let site = site(&request)?;
        let wait = Duration::from_secs(request.into_inner().wait_seconds.into()).min(LONGEST_WAIT);
        let Coordinator {
            driver,
            clock,
            stop,
            ..
        } = &*self.0;
        let mut moves = driver.moves();
        let wait = tokio::time::sleep(wait);
        tokio::pin!(wait);
        loop {
            moves.mark_unchanged();
            let work = driver.work_for(site).await.map_err(status)?;
            if work.is_some() || wait.is_elapsed() {
                let now = clock.now().0;
                let round_spec = work.map(Into::into);
                return Ok(Response::new(wire::Work { round_spec, now }));
            }
            tokio::select! {
                () = &mut wait => {}
                _ = moves.changed() => {}
                () = stop.cancelled() => return Err(shutting_down()),
            }
        }
    }

    async fn upload_status(
        &self,
        request: Request<wire::UploadKey>,
    ) -> Result<Response<wire::UploadProgress>, Status> {
        let site = site(&request)?;
        let round = round_of(request.into_inner().round)?;
        let found = self.0.uploads.status(site, round).await.map_err(status)?;
        Ok(Response::new(wire::UploadProgress {
            next_chunk: found.next_chunk,
            accepted: found.accepted,
        }))
    }

    async fn upload(
        &self,
        request: Request<Streaming<wire::UploadMessage>>,
    ) -> Result<Response<wire::UploadReceipt>, Status> {
        let member = caller(&request)?;
        let mut stream = request.into_inner();
        let Coordinator {
            uploads,
            settings,
            stop,
            ..
        } = &*self.0;
        let first = next(&mut stream, settings.upload_patience, stop).await?;
        let Some(Part::Statement(statement)) = first.and_then(|message| message.part) else {
            return Err(invalid("an upload begins with its statement"));
        };
        let statement = statement.try_into().map_err(invalid)?;
        let mut upload = match uploads.begin(&member, statement).await.map_err(status)? {
            Begun::Accepted(digest) => return Ok(receipt(digest)),
            Begun::Open(upload) => upload,
        };
        loop {
            let message = tokio::select! {
                message = next(&mut stream, settings.upload_patience, stop) => message?,
                () = upload.superseded() => return Err(status(UploadError::Superseded)),
            };
            let Some(message) = message else { break };
            let chunk = match message.part {
                Some(Part::Chunk(chunk)) => chunk,
                Some(Part::Trailer(trailer)) if upload.is_masked() => {
                    upload.close(trailer);
                    break;
                }
                _ => return Err(invalid("after its statement, an upload holds chunks only")),
            };
            match upload.take(chunk.index, &chunk.data).await {
                Ok(()) => {}
                Err(error @ UploadError::NotFinite { .. }) => {
                    let (name, statement, site) = upload.stated();
                    uploads
                        .refuse(name, statement, site, &error.to_string())
                        .await;
                    return Err(status(error));
                }
                Err(error) => return Err(status(error)),
            }
        }
        uploads.finish(*upload).await.map(receipt).map_err(status)
    }

    async fn decline(
        &self,
        request: Request<wire::DeclineRequest>,
    ) -> Result<Response<wire::Empty>, Status> {
        let site = site(&request)?;
        let message = request.into_inner();
        let reason = message.reason().try_into().map_err(invalid)?;
        let round = round_of(message.round)?;
        let declined = self.0.driver.decline(round, site, reason);
        declined.await.map_err(status)?;
        Ok(Response::new(wire::Empty {}))
    }

    async fn send_message(
        &self,
        request: Request<wire::SiteMessage>,
    ) -> Result<Response<wire::Empty>, Status> {
        use wire::site_message::Message;

        let site = site(&request)?;
        let wire::SiteMessage { round, message } = request.into_inner();
        let round = round_of(round)?;
        let message = match message {
            Some(Message::Keys(bytes)) => ToCoordinator::Keys(bytes),
            Some(Message::Shares(bytes)) => ToCoordinator::Shares(bytes),
            Some(Message::Confirmation(bytes)) => ToCoordinator::Confirm(bytes),
            Some(Message::Answer(bytes)) => ToCoordinator::Unmask(bytes),
            Some(Message::Complaint(bytes)) => ToCoordinator::Complaint(bytes),
            None => return Err(invalid("the message is missing")),
        };
        let heard = self.0.driver.hear(round, site, message);
        heard.await.map_err(status)?;
        Ok(Response::new(wire::Empty {}))
    }

    async fn next_message(
        &self,
        request: Request<wire::MessageRequest>,
    ) -> Result<Response<wire::CoordinatorMessage>, Status> {
        let site = site(&request)?;
        let request = request.into_inner();
        let round = round_of(request.round)?;
        let wait = Duration::from_secs(request.wait_seconds.into()).min(LONGEST_WAIT);
        let Coordinator { driver, stop, .. } = &*self.0;
        let mut moves = driver.moves();
        let wait = tokio::time::sleep(wait);
        tokio::pin!(wait);
        loop {
            moves.mark_unchanged();
            let next = driver.next_message(round, site).await.map_err(status)?;
            match next {
                Next::Message(message) => return Ok(Response::new(to_wire(message))),
                Next::Wait if wait.is_elapsed() => {
                    return Ok(Response::new(wire::CoordinatorMessage::default()));
                }
                Next::Wait => {}
            }
            tokio::select! {
                () = &mut wait => {}
                _ = moves.changed() => {}
                () = stop.cancelled() => return Err(shutting_down()),
            }
        }
    }
}

fn to_wire(message: ToSite) -> wire::CoordinatorMessage {
    use wire::coordinator_message::Message;

    let message = match message {
        ToSite::PeerKeys(bytes) => Message::PeerKeys(bytes),
        ToSite::PeerShares(bytes) => Message::PeerShares(bytes),
        ToSite::Survivors(bytes) => Message::Survivors(bytes),
        ToSite::Confirmations(bytes) => Message::Confirmations(bytes),
        ToSite::Outcome(bytes) => Message::Outcome(bytes),
    };
    wire::CoordinatorMessage {
        message: Some(message),
    }
}

fn receipt(digest: consilium_proto::ModelDigest) -> Response<wire::UploadReceipt> {
    let update_digest = digest.as_bytes().to_vec();
    Response::new(wire::UploadReceipt { update_digest })
}

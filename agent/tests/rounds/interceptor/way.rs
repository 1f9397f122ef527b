//! What one site and the true coordinator say to each other about rounds, and what is made of it.

use std::{sync::Arc, time::Duration};

use consilium_privacy::secagg::{
    Context,
    message::{ToCoordinator, ToSite},
};
use consilium_proto::{
    RoundId, RoundSpec, Signed, SiteId,
    chunk::MESSAGE_LIMIT,
    wire::{
        self, coordinator_message, rounds_client::RoundsClient, rounds_server::Rounds, site_message,
    },
};
use futures::StreamExt as _;
use tonic::{Request, Response, Status, Streaming, transport::Channel};

use super::{Ear, Middle, locked};

/// Time between two questions to the true coordinator.
const PAUSE: Duration = Duration::from_millis(20);

/// Between one site and the true coordinator.
#[derive(Clone)]
pub(super) struct Way {
    pub(super) site: SiteId,
    pub(super) onwards: Channel,
    pub(super) middle: Arc<Middle>,
}

impl Way {
    fn client(&self) -> RoundsClient<Channel> {
        RoundsClient::new(self.onwards.clone()).max_decoding_message_size(MESSAGE_LIMIT)
    }

    fn ear(&self, round: RoundId) -> Result<Ear, Status> {
        let contexts = locked(&self.middle.contexts);
        let context = contexts.get(&(self.site, round)).copied();
        Ok(Ear {
            site: self.site,
            round,
            context: context.ok_or_else(|| Status::not_found("never offered"))?,
        })
    }

    /// Shows a specification, or one of our own.
    fn show(&self, signed: Signed) -> Signed {
        let signer = &self.middle.signer;
        let spec = RoundSpec::open(&signed, &signer.public_key()).expect("the coordinator's own");
        let shown = (locked(&self.middle.lies).spec)(self.site, spec.clone());
        let signed = match shown == spec {
            true => signed,
            false => shown.sign(signer),
        };
        let context = Context::of(signed.unverified_body());
        locked(&self.middle.contexts).insert((self.site, shown.round), context);
        signed
    }
}

fn round_of(round: Option<wire::RoundRef>) -> Result<RoundId, Status> {
    let round = round.ok_or_else(|| Status::invalid_argument("no round"))?;
    round
        .try_into()
        .map_err(|_| Status::invalid_argument("no round"))
}

#[tonic::async_trait]
impl Rounds for Way {
    async fn next_work(
        &self,
        request: Request<wire::WorkRequest>,
    ) -> Result<Response<wire::Work>, Status> {
        let answer = self.client().next_work(request.into_inner()).await?;
        let wire::Work { round_spec, now } = answer.into_inner();
        let shown = round_spec.map(|signed| {
            let signed = signed.try_into().expect("the coordinator's own");
            self.show(signed).into()
        });
        let round_spec = shown;
        Ok(Response::new(wire::Work { round_spec, now }))
    }

    async fn upload_status(
        &self,
        request: Request<wire::UploadKey>,
    ) -> Result<Response<wire::UploadProgress>, Status> {
        self.client().upload_status(request.into_inner()).await
    }

    async fn upload(
        &self,
        request: Request<Streaming<wire::UploadMessage>>,
    ) -> Result<Response<wire::UploadReceipt>, Status> {
        locked(&self.middle.said).uploads.push(self.site);
        let messages = request.into_inner();
        let messages = messages.filter_map(|message| std::future::ready(message.ok()));
        self.client().upload(messages).await
    }

    async fn decline(
        &self,
        request: Request<wire::DeclineRequest>,
    ) -> Result<Response<wire::Empty>, Status> {
        let request = request.into_inner();
        let round = round_of(request.round.clone())?;
        let declined = (self.site, round, request.reason());
        locked(&self.middle.said).declined.push(declined);
        self.client().decline(request).await
    }

    async fn send_message(
        &self,
        request: Request<wire::SiteMessage>,
    ) -> Result<Response<wire::Empty>, Status> {
        let wire::SiteMessage { round, message } = request.into_inner();
        let ear = self.ear(round_of(round.clone())?)?;
        let message = message.ok_or_else(|| Status::invalid_argument("no message"))?;
        let message = from_wire(message);
        let said = (ear.site, ear.round, message.clone());
        locked(&self.middle.said).messages.push(said);
        let passed = (locked(&self.middle.lies).up)(ear, message);
        match passed.and_then(to_wire) {
            Some(message) => {
                let message = Some(message);
                let request = wire::SiteMessage { round, message };
                self.client().send_message(request).await
            }
            None => Ok(Response::new(wire::Empty {})),
        }
    }

    async fn next_message(
        &self,
        request: Request<wire::MessageRequest>,
    ) -> Result<Response<wire::CoordinatorMessage>, Status> {
        let wire::MessageRequest {
            round,
            wait_seconds,
        } = request.into_inner();
        let ear = self.ear(round_of(round.clone())?)?;
        let question = wire::MessageRequest {
            round,
            wait_seconds: 0,
        };
        let end = tokio::time::Instant::now() + Duration::from_secs(wait_seconds.into());
        loop {
            let (told, refused) = match self.client().next_message(question.clone()).await {
                Ok(answer) => (answer.into_inner().message.map(told_by), None),
                Err(status) => (None, Some(status)),
            };
            let message = (locked(&self.middle.lies).down)(ear, told);
            match (message, refused) {
                (Some(message), _) => {
                    let told = (ear.site, ear.round, message.clone());
                    locked(&self.middle.said).told.push(told);
                    return Ok(Response::new(tell(message)));
                }
                (None, Some(status)) => return Err(status),
                (None, None) if tokio::time::Instant::now() >= end => {
                    return Ok(Response::new(wire::CoordinatorMessage::default()));
                }
                (None, None) => tokio::time::sleep(PAUSE).await,
            }
        }
    }
}

fn from_wire(message: site_message::Message) -> ToCoordinator {
    use site_message::Message;
    match message {
        Message::Keys(bytes) => ToCoordinator::Keys(bytes),
        Message::Shares(bytes) => ToCoordinator::Shares(bytes),
        Message::Confirmation(bytes) => ToCoordinator::Confirm(bytes),
        Message::Answer(bytes) => ToCoordinator::Unmask(bytes),
        Message::Complaint(bytes) => ToCoordinator::Complaint(bytes),
    }
}

/// None for a trailer, which travels at the end of an upload.
fn to_wire(message: ToCoordinator) -> Option<site_message::Message> {
    use site_message::Message;
    Some(match message {
        ToCoordinator::Keys(bytes) => Message::Keys(bytes),
        ToCoordinator::Shares(bytes) => Message::Shares(bytes),
        ToCoordinator::Confirm(bytes) => Message::Confirmation(bytes),
        ToCoordinator::Unmask(bytes) => Message::Answer(bytes),
        ToCoordinator::Complaint(bytes) => Message::Complaint(bytes),
        ToCoordinator::Trailer(_) => return None,
    })
}

fn told_by(message: coordinator_message::Message) -> ToSite {
    use coordinator_message::Message;
    match message {
        Message::PeerKeys(bytes) => ToSite::PeerKeys(bytes),
        Message::PeerShares(bytes) => ToSite::PeerShares(bytes),
        Message::Survivors(bytes) => ToSite::Survivors(bytes),
        Message::Confirmations(bytes) => ToSite::Confirmations(bytes),
        Message::Outcome(bytes) => ToSite::Outcome(bytes),
    }
}

fn tell(message: ToSite) -> wire::CoordinatorMessage {
    use coordinator_message::Message;
    let message = match message {
        ToSite::PeerKeys(bytes) => Message::PeerKeys(bytes),
        ToSite::PeerShares(bytes) => Message::PeerShares(bytes),
        ToSite::Survivors(bytes) => Message::Survivors(bytes),
        ToSite::Confirmations(bytes) => Message::Confirmations(bytes),
        ToSite::Outcome(bytes) => Message::Outcome(bytes),
    };
    let message = Some(message);
    wire::CoordinatorMessage { message }
}

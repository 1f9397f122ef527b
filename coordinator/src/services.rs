//! The calls that members make, one file a service. Each reads the message, asks the part that
//! knows, and says what came of it; who may call is settled before by [`crate::access`].

mod audit;
mod enrolment;
mod refusal;
mod rounds;
mod studies;

use std::{sync::Arc, time::Duration};

use consilium_proto::{
    ErrorCode, Member,
    chunk::MESSAGE_LIMIT,
    wire::{
        audit_server::AuditServer, enrolment_server::EnrolmentServer, rounds_server::RoundsServer,
        studies_server::StudiesServer,
    },
};
use futures::stream::BoxStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Status, Streaming, service::Routes};

use crate::{
    access::Caller, blobs::Blobs, certificates::Authority, clock::Clock, driver::Driver,
    roster::Members, settings::Settings, store::Store, submission::Submissions,
    transparency::Transparency, uploads::Uploads,
};

/// What a streaming call answers.
type Replies<T> = BoxStream<'static, Result<T, Status>>;

/// What the services ask.
pub struct Coordinator<S> {
    pub(crate) store: Arc<S>,
    pub(crate) driver: Arc<Driver<S>>,
    pub(crate) members: Arc<Members<S>>,
    pub(crate) uploads: Uploads<S>,
    pub(crate) submissions: Submissions<S>,
    pub(crate) transparency: Transparency<S>,
    pub(crate) blobs: Blobs,
    pub(crate) authority: Arc<Authority>,
    pub(crate) settings: Settings,
    pub(crate) clock: Clock,
    pub(crate) stop: CancellationToken,
}

/// The services around a coordinator, each with its limit on a message.
pub fn routes<S: Store>(coordinator: &Arc<Coordinator<S>>) -> Routes {
    macro_rules! limited {
        ($server:ident, $service:path) => {
            $server::new($service(coordinator.clone())).max_decoding_message_size(MESSAGE_LIMIT)
        };
    }
    Routes::new(limited!(EnrolmentServer, enrolment::EnrolmentService))
        .add_service(limited!(StudiesServer, studies::StudiesService))
        .add_service(limited!(RoundsServer, rounds::RoundsService))
        .add_service(limited!(AuditServer, audit::AuditService))
}

/// The member that calls. The access layer puts it there; a call it let through as an applicant's
/// has none.
fn caller<T>(request: &Request<T>) -> Result<Member, Status> {
    let caller = request.extensions().get::<Caller>();
    caller.map(|Caller(member)| member.clone()).ok_or_else(|| {
        Status::new(
            ErrorCode::Denied.into(),
            "only members may do this: enrol first",
        )
    })
}

/// The next message of a stream; none at its end.
async fn next<T>(
    stream: &mut Streaming<T>,
    patience: Duration,
    stop: &CancellationToken,
) -> Result<Option<T>, Status> {
    tokio::select! {
        message = tokio::time::timeout(patience, stream.message()) => match message {
            Ok(message) => message,
            Err(_) => Err(Status::new(
                ErrorCode::Unavailable.into(),
                format!("nothing came for {patience:?}: connect again and continue"),
            )),
        },
        () = stop.cancelled() => Err(shutting_down()),
    }
}

fn shutting_down() -> Status {
    Status::new(
        ErrorCode::Unavailable.into(),
        "the coordinator is shutting down: try again shortly",
    )
}

fn missing(what: &str) -> Status {
    Status::new(ErrorCode::Missing.into(), what)
}

fn invalid(what: impl ToString) -> Status {
    Status::new(ErrorCode::Invalid.into(), what.to_string())
}

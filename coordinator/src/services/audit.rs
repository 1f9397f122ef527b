//! What auditors read.

use std::sync::Arc;

use consilium_proto::wire::{self, audit_server::Audit};
use futures::{StreamExt as _, stream};
use tonic::{Request, Response, Status};

use super::{Coordinator, Replies, refusal::status};
use crate::store::Store;

/// Entries read from the store at a time.
const PAGE: u32 = 256;

pub(super) struct AuditService<S>(pub(super) Arc<Coordinator<S>>);

#[tonic::async_trait]
impl<S: Store> Audit for AuditService<S> {
    type LogStream = Replies<wire::LogEntry>;

    async fn log(
        &self,
        request: Request<wire::LogRequest>,
    ) -> Result<Response<Self::LogStream>, Status> {
        let from = request.into_inner().from_sequence.max(1);
        let pages = stream::try_unfold((self.0.clone(), from), async |(coordinator, from)| {
            let page = coordinator.store.log(from, PAGE).await.map_err(status)?;
            let Some(last) = page.last() else {
                return Ok(None);
            };
            let next = last.sequence + 1;
            let entries = stream::iter(page.into_iter().map(Ok));
            Ok::<_, Status>(Some((entries, (coordinator, next))))
        });
        Ok(Response::new(flattened(pages)))
    }
}

/// Pages of rows as one stream of rows, which ends at the first error.
pub(super) fn flattened<T: Send + 'static, P>(
    pages: impl futures::Stream<Item = Result<P, Status>> + Send + 'static,
) -> Replies<T>
where
    P: futures::Stream<Item = Result<T, Status>> + Send + 'static,
{
    futures::TryStreamExt::try_flatten(pages).boxed()
}

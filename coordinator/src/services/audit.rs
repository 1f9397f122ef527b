//! What auditors read.

use std::sync::Arc;

use consilium_proto::{
    Signed,
    wire::{self, audit_server::Audit},
};
use futures::{StreamExt as _, stream};
use tonic::{Request, Response, Status};

use super::{Coordinator, Replies, caller, invalid, refusal::status};
use crate::store::Store;

/// Entries read from the store at a time.
const PAGE: u32 = 256;

pub(super) struct AuditService<S>(pub(super) Arc<Coordinator<S>>);

#[tonic::async_trait]
impl<S: Store> Audit for AuditService<S> {
    type LogStream = Replies<wire::LogEntry>;
    type LeavesStream = Replies<wire::Leaf>;

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

    async fn submit_head(
        &self,
        request: Request<wire::HeadSubmission>,
    ) -> Result<Response<wire::Receipt>, Status> {
        let member = caller(&request)?;
        let wire::HeadSubmission { head, known_size } = request.into_inner();
        let head = head.ok_or_else(|| invalid("the head is missing"))?;
        let head = Signed::try_from(head).map_err(invalid)?;
        let taken = self.0.transparency.submit(&member, head, known_size).await;
        taken
            .map(|receipt| Response::new(receipt.into()))
            .map_err(status)
    }

    async fn newest_head(
        &self,
        request: Request<wire::KnownTree>,
    ) -> Result<Response<wire::KnownHead>, Status> {
        let member = caller(&request)?;
        let known_size = request.into_inner().known_size;
        let known = self.0.transparency.newest(&member, known_size).await;
        known.map(Response::new).map_err(status)
    }

    async fn tree_head(
        &self,
        _request: Request<wire::Empty>,
    ) -> Result<Response<wire::Signed>, Status> {
        let head = self.0.transparency.tree_head().await;
        Ok(Response::new(head.into()))
    }

    async fn inclusion(
        &self,
        request: Request<wire::InclusionRequest>,
    ) -> Result<Response<wire::Proof>, Status> {
        let wire::InclusionRequest { leaf, size } = request.into_inner();
        let proof = self.0.transparency.inclusion(leaf, size).await;
        let proof = proof.map_err(status)?;
        Ok(Response::new(proof.as_slice().into()))
    }

    async fn consistency(
        &self,
        request: Request<wire::ConsistencyRequest>,
    ) -> Result<Response<wire::Proof>, Status> {
        let wire::ConsistencyRequest { from_size, to_size } = request.into_inner();
        let proof = self.0.transparency.consistency(from_size, to_size).await;
        let proof = proof.map_err(status)?;
        Ok(Response::new(proof.as_slice().into()))
    }

    async fn leaves(
        &self,
        request: Request<wire::LeavesRequest>,
    ) -> Result<Response<Self::LeavesStream>, Status> {
        let from = request.into_inner().from_leaf;
        let pages = stream::try_unfold((self.0.clone(), from), async |(coordinator, from)| {
            let page = coordinator.store.leaves(from, PAGE).await.map_err(status)?;
            if page.is_empty() {
                return Ok(None);
            }
            let next = from + page.len() as u64;
            let leaves = (from..).zip(page).map(|(number, head)| {
                let head = Some(head.into());
                Ok(wire::Leaf { number, head })
            });
            Ok::<_, Status>(Some((stream::iter(leaves), (coordinator, next))))
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

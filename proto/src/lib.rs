//! The vocabulary of the federation: what coordinator, agents and people say to each other.
//!
//! Text and bytes from outside become domain types here, once; inside, a value that exists is
//! valid. The gRPC stubs and the mutual TLS both ends speak are behind the feature `rpc`.

pub mod chunk;
pub mod convert;
pub mod digest;
pub mod error_code;
pub mod id;
pub mod layout;
pub mod plan;
pub mod receipt;
pub mod roster;
pub mod round_spec;
pub mod secure_aggregation;
pub mod signed;
pub mod tree;
pub mod vector;

/// The wire messages of package `consilium.v1`, as generated: see `proto/consilium/v1`.
#[allow(missing_docs, unreachable_pub, clippy::all, reason = "generated")]
pub mod wire {
    include!(concat!(env!("OUT_DIR"), "/consilium.v1.rs"));
}

#[cfg(feature = "rpc")]
pub mod rpc;

pub use chunk::{ChunkPlan, ChunkRefusal, Progress};
pub use digest::{Digest, LayoutDigest, ModelDigest, PlanDigest};
pub use error_code::ErrorCode;
pub use id::{MemberId, MemberName, RoundId, SiteId, StudyId};
pub use layout::{Layout, TensorSpec};
pub use plan::Plan;
pub use receipt::{LedgerHead, Receipt};
pub use roster::{Member, Role, Roster};
pub use round_spec::{ChargeStatement, RoundSpec, Statement};
pub use secure_aggregation::SecureAggregation;
pub use signed::{PublicKey, Signed, Signer};
pub use tree::TreeHead;
pub use vector::ParameterVector;

/// Value that does not fit where it was given: what it is, what is allowed, what was found.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{what} must be {allowed}, found {found}")]
pub struct OutOfRange {
    what: &'static str,
    allowed: &'static str,
    found: String,
}

impl OutOfRange {
    /// Names the value, its allowed range and what was found instead.
    pub fn new(what: &'static str, allowed: &'static str, found: impl ToString) -> Self {
        Self {
            what,
            allowed,
            found: found.to_string(),
        }
    }
}

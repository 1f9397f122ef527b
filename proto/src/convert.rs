//! Wire messages to domain types and back: the one place that looks inside optional fields.

use crate::{
    ChunkPlan, ChunkRefusal, Layout, ModelDigest, OutOfRange, Plan, PlanDigest, StudyId,
    TensorSpec, plan::PlanError, round_spec::required, wire,
};

/// Largest plan that is accepted, in bytes of its canonical form.
pub const PLAN_LIMIT: usize = 256 << 10;

/// Why a message from outside is refused.
#[derive(Debug, thiserror::Error)]
pub enum Malformed {
    /// A field is missing or holds what it must not.
    #[error(transparent)]
    Field(#[from] OutOfRange),
    /// The plan is unsound.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The transfer is cut unsoundly.
    #[error(transparent)]
    Transfer(#[from] ChunkRefusal),
}

impl From<&Layout> for wire::Layout {
    fn from(layout: &Layout) -> Self {
        let tensors = layout
            .tensors()
            .iter()
            .map(|tensor| wire::TensorSpec {
                name: tensor.name.clone(),
                shape: tensor.shape.iter().map(|&size| size as u64).collect(),
            })
            .collect();
        Self { tensors }
    }
}

impl TryFrom<wire::Layout> for Layout {
    type Error = OutOfRange;
    fn try_from(wire: wire::Layout) -> Result<Self, OutOfRange> {
        let size = |size: u64| {
            usize::try_from(size).map_err(|_| OutOfRange::new("dimension", "addressable", size))
        };
        let tensors = wire
            .tensors
            .into_iter()
            .map(|tensor| {
                let shape = tensor
                    .shape
                    .into_iter()
                    .map(size)
                    .collect::<Result<_, _>>()?;
                Ok(TensorSpec {
                    name: tensor.name,
                    shape,
                })
            })
            .collect::<Result<_, OutOfRange>>()?;
        Self::new(tensors)
    }
}

/// A byte string that is about to arrive: how it is cut, and what it digests to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transfer {
    /// Length and pieces.
    pub chunks: ChunkPlan,
    /// What the whole digests to.
    pub digest: ModelDigest,
}

impl From<Transfer> for wire::Transfer {
    fn from(transfer: Transfer) -> Self {
        Self {
            bytes: transfer.chunks.bytes(),
            chunk_bytes: transfer.chunks.chunk_bytes(),
            digest: transfer.digest.as_bytes().to_vec(),
        }
    }
}

impl TryFrom<wire::Transfer> for Transfer {
    type Error = Malformed;
    fn try_from(wire: wire::Transfer) -> Result<Self, Malformed> {
        let chunks = ChunkPlan::new(wire.bytes, wire.chunk_bytes)?;
        Ok(Self {
            chunks,
            digest: wire.digest.as_slice().try_into()?,
        })
    }
}

/// A study as it is handed in: version 0 of the weights follows in chunks.
#[derive(Debug, Clone, PartialEq)]
pub struct Submission {
    /// Chosen by the researcher's side.
    pub study: StudyId,
    /// What is asked for.
    pub plan: Plan,
    /// The plan as it travelled; what sites approve is its digest.
    pub canonical_plan: Vec<u8>,
    /// Layout of the weights.
    pub layout: Layout,
    /// How version 0 arrives.
    pub weights: Transfer,
}

impl Submission {
    /// Identity of the plan.
    pub fn plan_digest(&self) -> PlanDigest {
        Plan::digest_of(&self.canonical_plan)
    }
}

impl From<&Submission> for wire::Submission {
    fn from(submission: &Submission) -> Self {
        Self {
            study: submission.study.as_bytes().to_vec(),
            plan: submission.canonical_plan.clone(),
            layout: Some((&submission.layout).into()),
            weights: Some(submission.weights.into()),
        }
    }
}

impl TryFrom<wire::Submission> for Submission {
    type Error = Malformed;
    fn try_from(wire: wire::Submission) -> Result<Self, Malformed> {
        if wire.plan.len() > PLAN_LIMIT {
            let found = format!("{} bytes", wire.plan.len());
            return Err(OutOfRange::new("plan", "at most 262144 bytes", found).into());
        }
        let submission = Self {
            study: wire.study.as_slice().try_into()?,
            plan: Plan::from_canonical(&wire.plan)?,
            canonical_plan: wire.plan,
            layout: required("layout", wire.layout)?.try_into()?,
            weights: required("weights", wire.weights)?.try_into()?,
        };
        let expected = 4 * submission.layout.parameters() as u64;
        if submission.weights.chunks.bytes() != expected {
            let found = format!("{} bytes", submission.weights.chunks.bytes());
            return Err(OutOfRange::new("weights", "4 bytes for each parameter", found).into());
        }
        Ok(submission)
    }
}

/// A site's answer to a plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// Which study.
    pub study: StudyId,
    /// Exactly which plan.
    pub plan_digest: PlanDigest,
    /// Yes or no.
    pub approved: bool,
    /// Why not, for people; at most 500 characters.
    pub reason: String,
}

impl TryFrom<wire::Decision> for Decision {
    type Error = OutOfRange;
    fn try_from(wire: wire::Decision) -> Result<Self, OutOfRange> {
        let length = wire.reason.chars().count();
        if length > 500 {
            return Err(OutOfRange::new("reason", "at most 500 characters", length));
        }
        Ok(Self {
            study: wire.study.as_slice().try_into()?,
            plan_digest: wire.plan_digest.as_slice().try_into()?,
            approved: wire.approved,
            reason: wire.reason,
        })
    }
}

impl TryFrom<&wire::StudyRef> for StudyId {
    type Error = OutOfRange;
    fn try_from(wire: &wire::StudyRef) -> Result<Self, OutOfRange> {
        wire.study.as_slice().try_into()
    }
}

impl From<StudyId> for wire::StudyRef {
    fn from(study: StudyId) -> Self {
        Self {
            study: study.as_bytes().to_vec(),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use prost::Message as _;

    use super::*;

    proptest! {
        #[test]
        fn random_bytes_become_a_refusal_never_a_panic(
            bytes in proptest::collection::vec(any::<u8>(), 0..400),
        ) {
            if let Ok(wire) = wire::Submission::decode(bytes.as_slice()) {
                let _ = Submission::try_from(wire);
            }
            if let Ok(wire) = wire::Layout::decode(bytes.as_slice()) {
                let _ = Layout::try_from(wire);
            }
            if let Ok(wire) = wire::Decision::decode(bytes.as_slice()) {
                let _ = Decision::try_from(wire);
            }
            let _ = crate::Signed::from_bytes(&bytes);
        }
    }

    #[test]
    fn a_submission_with_missing_parts_is_refused() {
        let error = Submission::try_from(wire::Submission::default()).expect_err("empty");
        assert!(error.to_string().contains("study id"), "{error}");
    }
}

//! Everything that one attempt at a round fixes, signed by the coordinator, and what a site
//! states about the update it answers with.

use prost::Message as _;

use crate::{
    ChunkPlan, Digest, LayoutDigest, ModelDigest, OutOfRange, PlanDigest, PublicKey, RoundId,
    SecureAggregation, Signed, Signer, SiteId, StudyId,
    signed::{Purpose, SignatureError},
    wire,
};

/// Largest weight of a site: weights are buckets of the public size, 1 to 64.
pub const WEIGHT_LIMIT: u32 = 64;

/// Why a signed message of a round is not believed.
#[derive(Debug, thiserror::Error)]
pub enum RoundMessageError {
    /// Not signed by whom it should be, or changed since.
    #[error(transparent)]
    Signature(#[from] SignatureError),
    /// A field holds what it must not.
    #[error(transparent)]
    Malformed(#[from] OutOfRange),
}

impl From<prost::DecodeError> for RoundMessageError {
    fn from(error: prost::DecodeError) -> Self {
        OutOfRange::new("signed body", "well formed", error).into()
    }
}

/// What one attempt at a round fixes.
#[derive(Debug, Clone, PartialEq)]
pub struct RoundSpec {
    /// Which attempt at which round of which study.
    pub round: RoundId,
    /// Roster in force.
    pub roster_epoch: u64,
    /// Its digest.
    pub roster_digest: Digest,
    /// The plan that sites approved.
    pub plan_digest: PlanDigest,
    /// The layout of its model.
    pub layout_digest: LayoutDigest,
    /// The version that the round starts from.
    pub model_digest: ModelDigest,
    /// Sites drawn, ascending.
    pub cohort: Vec<SiteId>,
    /// Updates that the round needs.
    pub quorum: u32,
    /// When the coordinator opened it, milliseconds since 1970.
    pub issued_at: u64,
    /// Until when updates are accepted, milliseconds since 1970.
    pub deadline: u64,
    /// Chunk size of the upload.
    pub chunk_bytes: u32,
    /// How the updates are summed without being seen; none where the coordinator sees each.
    pub secure_aggregation: Option<SecureAggregation>,
}

impl RoundSpec {
    /// Signs it with the coordinator's identity key.
    pub fn sign(&self, coordinator: &Signer) -> Signed {
        let body = wire::RoundSpecBody {
            round: Some(self.round.into()),
            roster_epoch: self.roster_epoch,
            roster_digest: self.roster_digest.as_bytes().to_vec(),
            plan_digest: self.plan_digest.as_bytes().to_vec(),
            layout_digest: self.layout_digest.as_bytes().to_vec(),
            model_digest: self.model_digest.as_bytes().to_vec(),
            cohort: self.cohort.iter().map(|site| site.0.0.into()).collect(),
            quorum: self.quorum,
            issued_at: self.issued_at,
            deadline: self.deadline,
            chunk_bytes: self.chunk_bytes,
            secure_aggregation: self.secure_aggregation.clone().map(Into::into),
        };
        coordinator.sign(Purpose::RoundSpec, body.encode_to_vec())
    }

    /// Reads one that this coordinator signed.
    ///
    /// # Errors
    /// Another signer, changed bytes, fields out of range, a cohort that is not ascending.
    pub fn open(signed: &Signed, coordinator: &PublicKey) -> Result<Self, RoundMessageError> {
        let body = wire::RoundSpecBody::decode(signed.verify(Purpose::RoundSpec, coordinator)?)?;
        let cohort: Vec<SiteId> = body
            .cohort
            .into_iter()
            .map(TryInto::try_into)
            .collect::<Result<_, _>>()?;
        if cohort.is_empty() || !cohort.is_sorted_by(|a, b| a < b) {
            return Err(OutOfRange::new("cohort", "ascending and not empty", cohort.len()).into());
        }
        if body.quorum == 0 || body.quorum as usize > cohort.len() {
            return Err(OutOfRange::new("quorum", "1 to the cohort's size", body.quorum).into());
        }
        ChunkPlan::new(0, body.chunk_bytes)
            .map_err(|error| OutOfRange::new("round", "sound", error))?;
        let secure_aggregation: Option<SecureAggregation> =
            body.secure_aggregation.map(TryInto::try_into).transpose()?;
        if let Some(secure) = &secure_aggregation
            && secure.end < body.deadline
        {
            return Err(OutOfRange::new("end", "the deadline or later", secure.end).into());
        }
        Ok(Self {
            round: required("round", body.round)?.try_into()?,
            roster_epoch: body.roster_epoch,
            roster_digest: body.roster_digest.as_slice().try_into()?,
            plan_digest: body.plan_digest.as_slice().try_into()?,
            layout_digest: body.layout_digest.as_slice().try_into()?,
            model_digest: body.model_digest.as_slice().try_into()?,
            cohort,
            quorum: body.quorum,
            issued_at: body.issued_at,
            deadline: body.deadline,
            chunk_bytes: body.chunk_bytes,
            secure_aggregation,
        })
    }

    /// What everything in the round is bound to: the digest of the very bytes signed.
    pub fn context(signed: &Signed) -> Digest {
        Digest::of("consilium/round/1", &[signed.unverified_body()])
    }
}

/// What a site's ledger was charged, as it states it; nothing in it depends on the data.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ChargeStatement {
    /// Number of the ledger entry.
    pub sequence: u64,
    /// q, above 0 and at most 1.
    pub sampling_rate: f64,
    /// σ, above 0.
    pub noise_multiplier: f64,
    /// C where the round started, above 0.
    pub clipping_norm: f64,
    /// Steps paid for, 1 or more.
    pub steps: u32,
    /// ε of this study up to and with this round; above 0.
    pub epsilon: f64,
    /// δ it holds at; above 0, below 10⁻².
    pub delta: f64,
}

/// What a site states about its update, signed with its identity key.
#[derive(Debug, Clone, PartialEq)]
pub struct Statement {
    /// [`RoundSpec::context`] of the round it answers.
    pub context: Digest,
    /// Which attempt at which round.
    pub round: RoundId,
    /// Layout of the update.
    pub layout_digest: LayoutDigest,
    /// Digest of the update's bytes with the layout.
    pub update_digest: ModelDigest,
    /// Length and chunks of the update.
    pub transfer: ChunkPlan,
    /// Bucket of the public size, 1 to [`WEIGHT_LIMIT`]; none when it is among what is summed.
    pub weight: Option<u32>,
    /// Absent when the plan has no privacy.
    pub charge: Option<ChargeStatement>,
}

impl Statement {
    /// Signs it with the site's identity key.
    pub fn sign(&self, site: &Signer) -> Signed {
        let body = wire::StatementBody {
            context: self.context.as_bytes().to_vec(),
            round: Some(self.round.into()),
            layout_digest: self.layout_digest.as_bytes().to_vec(),
            update: Some(wire::Transfer {
                bytes: self.transfer.bytes(),
                chunk_bytes: self.transfer.chunk_bytes(),
                digest: self.update_digest.as_bytes().to_vec(),
            }),
            weight: self.weight.unwrap_or(0),
            charge: self.charge.map(Into::into),
        };
        site.sign(Purpose::Statement, body.encode_to_vec())
    }

    /// Reads one that this site signed.
    ///
    /// # Errors
    /// Another signer, changed bytes, fields out of range.
    pub fn open(signed: &Signed, site: &PublicKey) -> Result<Self, RoundMessageError> {
        let body = wire::StatementBody::decode(signed.verify(Purpose::Statement, site)?)?;
        let update = required("update", body.update)?;
        let transfer = ChunkPlan::new(update.bytes, update.chunk_bytes)
            .map_err(|error| OutOfRange::new("transfer", "sound", error))?;
        if body.weight > WEIGHT_LIMIT {
            return Err(OutOfRange::new("weight", "1 to 64", body.weight).into());
        }
        Ok(Self {
            context: body.context.as_slice().try_into()?,
            round: required("round", body.round)?.try_into()?,
            layout_digest: body.layout_digest.as_slice().try_into()?,
            update_digest: update.digest.as_slice().try_into()?,
            transfer,
            weight: (body.weight > 0).then_some(body.weight),
            charge: body.charge.map(TryInto::try_into).transpose()?,
        })
    }
}

/// Weight of a site in the mean: its public size in buckets of 64 patients, 1 to
/// [`WEIGHT_LIMIT`]. From 4096 patients on a site counts as the largest.
pub fn weight_of(public_size: u64) -> u32 {
    public_size.div_ceil(64).clamp(1, u64::from(WEIGHT_LIMIT)) as u32
}

pub(crate) fn required<T>(what: &'static str, value: Option<T>) -> Result<T, OutOfRange> {
    value.ok_or_else(|| OutOfRange::new(what, "present", "nothing"))
}

impl From<RoundId> for wire::RoundRef {
    fn from(id: RoundId) -> Self {
        Self {
            study: id.study.as_bytes().to_vec(),
            round: id.round,
            attempt: id.attempt,
        }
    }
}

impl TryFrom<wire::RoundRef> for RoundId {
    type Error = OutOfRange;
    fn try_from(wire: wire::RoundRef) -> Result<Self, OutOfRange> {
        if wire.round == 0 || wire.attempt == 0 {
            return Err(OutOfRange::new("round and attempt", "1 or more", 0));
        }
        let study = StudyId::try_from(wire.study.as_slice())?;
        Ok(Self {
            study,
            round: wire.round,
            attempt: wire.attempt,
        })
    }
}

impl From<ChargeStatement> for wire::Charge {
    fn from(charge: ChargeStatement) -> Self {
        Self {
            sequence: charge.sequence,
            sampling_rate: charge.sampling_rate,
            noise_multiplier: charge.noise_multiplier,
            clipping_norm: charge.clipping_norm,
            steps: charge.steps,
            epsilon: charge.epsilon,
            delta: charge.delta,
        }
    }
}

impl TryFrom<wire::Charge> for ChargeStatement {
    type Error = OutOfRange;
    fn try_from(wire: wire::Charge) -> Result<Self, OutOfRange> {
        let above_zero = |value: f64| value.is_finite() && value > 0.0;
        let sound = [
            wire.noise_multiplier,
            wire.clipping_norm,
            wire.epsilon,
            wire.sampling_rate,
        ]
        .into_iter()
        .all(above_zero);
        if !sound || wire.sampling_rate > 1.0 || wire.steps == 0 {
            return Err(OutOfRange::new(
                "charge",
                "made of finite numbers above 0",
                "others",
            ));
        }
        if !(wire.delta > 0.0 && wire.delta < crate::plan::DELTA_LIMIT) {
            return Err(OutOfRange::new("delta", "above 0, below 0.01", wire.delta));
        }
        Ok(Self {
            sequence: wire.sequence,
            sampling_rate: wire.sampling_rate,
            noise_multiplier: wire.noise_multiplier,
            clipping_norm: wire.clipping_norm,
            steps: wire.steps,
            epsilon: wire.epsilon,
            delta: wire.delta,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MemberId;

    fn signer() -> Signer {
        Signer::from_pkcs8(&Signer::generate().expect("randomness")).expect("a fresh key")
    }

    fn spec() -> RoundSpec {
        let digest = Digest::plain(b"x");
        RoundSpec {
            round: RoundId {
                study: StudyId::random().expect("randomness"),
                round: 1,
                attempt: 1,
            },
            roster_epoch: 3,
            roster_digest: digest,
            plan_digest: PlanDigest(digest),
            layout_digest: LayoutDigest(digest),
            model_digest: ModelDigest(digest),
            cohort: [1, 2, 5].map(|id| SiteId(MemberId(id))).to_vec(),
            quorum: 2,
            issued_at: 1,
            deadline: 2,
            chunk_bytes: 1 << 20,
            secure_aggregation: None,
        }
    }

    #[test]
    fn a_round_spec_reads_back_what_was_signed() {
        let coordinator = signer();
        let signed = spec().sign(&coordinator);
        let opened = RoundSpec::open(&signed, &coordinator.public_key()).expect("its signature");
        assert_eq!(
            RoundSpec {
                round: opened.round,
                ..spec()
            },
            opened
        );
        assert!(RoundSpec::open(&signed, &signer().public_key()).is_err());
    }

    #[test]
    fn cohorts_out_of_order_or_with_repeats_are_refused() {
        let coordinator = signer();
        for cohort in [vec![], vec![2, 1], vec![1, 1]] {
            let cohort = cohort.into_iter().map(|id| SiteId(MemberId(id))).collect();
            let signed = RoundSpec { cohort, ..spec() }.sign(&coordinator);
            assert!(RoundSpec::open(&signed, &coordinator.public_key()).is_err());
        }
    }

    #[test]
    fn weights_are_coarse_and_bounded() {
        assert_eq!(
            [0, 1, 64, 65, 4096, 1 << 40].map(weight_of),
            [1, 1, 1, 2, 64, 64]
        );
    }
}

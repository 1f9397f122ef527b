//! What a hospital agrees to: studies seen, decisions made, decisions sent.
//!
//! A decision covers one plan digest and is on disk before it is sent, so that a crash or a lost
//! connection never lets the coordinator know more than this site remembers. The running agent
//! sends what a command has decided, and the other way round.

use std::time::SystemTime;

use consilium_privacy::{OutOfRange, accountant::Charge};
use consilium_proto::{
    ErrorCode, Plan, PlanDigest, StudyId,
    chunk::MESSAGE_LIMIT,
    convert::{Malformed, PLAN_LIMIT},
    plan::PlanError,
    rpc::explain,
    wire::{self, StudyState, studies_client::StudiesClient},
};
use tonic::{Status, transport::Channel};
use tracing::{info, warn};

use crate::{
    policy::{Noise, Policy},
    store::{ChargeError, KnownStudy, Store, StoreError},
};

/// Longest reason that travels, in characters.
const LONGEST_REASON: usize = 500;

/// Why nothing was decided or sent.
#[derive(Debug, thiserror::Error)]
pub enum ConsentError {
    /// This site has not seen such a study.
    #[error("this site has seen no study {0}: list the studies first")]
    UnknownStudy(StudyId),
    /// The study has another plan than the one decided about.
    #[error("study {study} has plan {known}, not {given}: look at it again, then decide")]
    OtherPlan {
        /// Which study.
        study: StudyId,
        /// The plan this site knows.
        known: PlanDigest,
        /// The plan decided about.
        given: PlanDigest,
    },
    /// The site's policy, data or budget does not allow it.
    #[error("study {study} cannot be approved: {}", .objections.join("; "))]
    Objections {
        /// Which study.
        study: StudyId,
        /// All reasons.
        objections: Vec<String>,
    },
    /// The coordinator refuses or cannot be reached.
    #[error("the coordinator refuses: {reason}")]
    Refused {
        /// What to do next.
        code: ErrorCode,
        /// Why.
        reason: String,
    },
    /// The coordinator sent something that is no study.
    #[error("the coordinator sent something that is no study")]
    Malformed(#[from] Malformed),
    /// The coordinator gave a plan that does not have the digest it named.
    #[error("the coordinator gave study {0} a plan of another digest than it named")]
    WrongDigest(StudyId),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The ledger failed.
    #[error(transparent)]
    Ledger(#[from] ChargeError),
}

impl ConsentError {
    /// What the caller should do about it.
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::UnknownStudy(_) => ErrorCode::Missing,
            Self::OtherPlan { .. } | Self::Objections { .. } => ErrorCode::Precondition,
            Self::Refused { code, .. } => *code,
            Self::Malformed(_) | Self::WrongDigest(_) => ErrorCode::Invalid,
            Self::Store(error) | Self::Ledger(ChargeError::Store(error)) => error.code(),
            Self::Ledger(_) => ErrorCode::Internal,
        }
    }
}

impl From<Status> for ConsentError {
    fn from(status: Status) -> Self {
        let (code, reason) = explain(&status);
        Self::Refused { code, reason }
    }
}

impl From<consilium_proto::OutOfRange> for ConsentError {
    fn from(error: consilium_proto::OutOfRange) -> Self {
        Malformed::from(error).into()
    }
}

impl From<PlanError> for ConsentError {
    fn from(error: PlanError) -> Self {
        Malformed::from(error).into()
    }
}

/// A study with what speaks against it at this site.
#[derive(Debug, Clone, PartialEq)]
pub struct Candidate {
    /// The study and its plan.
    pub study: KnownStudy,
    /// Reasons against it, each naming its field; a person can approve only without any.
    pub objections: Vec<String>,
}

/// A client whose messages are bounded.
pub(crate) fn studies(channel: Channel) -> StudiesClient<Channel> {
    StudiesClient::new(channel).max_decoding_message_size(MESSAGE_LIMIT)
}

/// Asks the coordinator for studies and remembers those that are new. Returns how many are.
///
/// # Errors
/// The coordinator cannot be reached, or sends what is no study.
pub async fn look(channel: Channel, store: &Store, now: SystemTime) -> Result<usize, ConsentError> {
    let mut client = studies(channel);
    let list = client.list(wire::Empty {}).await?.into_inner();
    let mut new = 0;
    for summary in list.studies {
        let id = StudyId::try_from(summary.study.as_slice())?;
        let known = store.study(id).await?;
        match summary.state() {
            StudyState::Finished if known.is_some() => store.study_ended(id).await?,
            StudyState::AwaitingConsent | StudyState::Running | StudyState::Stopped
                if known.is_none() =>
            {
                let detail = client.show(wire::StudyRef::from(id)).await?.into_inner();
                check_plan(
                    id,
                    &detail.plan,
                    PlanDigest::try_from(summary.plan_digest.as_slice())?,
                )?;
                store.remember_study(id, &detail.plan, now).await?;
                info!(study = %id, "new study");
                new += 1;
            }
            _ => {}
        }
    }
    Ok(new)
}

fn check_plan(id: StudyId, canonical: &[u8], named: PlanDigest) -> Result<(), ConsentError> {
    if canonical.len() > PLAN_LIMIT {
        let found = format!("{} bytes", canonical.len());
        let allowed = "at most 262144 bytes";
        return Err(consilium_proto::OutOfRange::new("plan", allowed, found).into());
    }
    if Plan::digest_of(canonical) != named {
        return Err(ConsentError::WrongDigest(id));
    }
    Plan::from_canonical(canonical)?;
    Ok(())
}

/// All studies that may still have rounds, with what speaks against each.
///
/// # Errors
/// The store failed.
pub async fn list(store: &Store, policy: &Policy) -> Result<Vec<Candidate>, ConsentError> {
    let mut candidates = Vec::new();
    for study in store.studies().await? {
        let objections = objections(store, policy, &study).await?;
        candidates.push(Candidate { study, objections });
    }
    Ok(candidates)
}

/// Approves exactly this plan of a study, on disk; sending is [`send`]'s. Safe to repeat.
///
/// # Errors
/// A study not seen, another plan, or anything that speaks against it.
pub async fn approve(
    store: &Store,
    policy: &Policy,
    id: StudyId,
    plan: PlanDigest,
    now: SystemTime,
) -> Result<(), ConsentError> {
    let study = store
        .study(id)
        .await?
        .ok_or(ConsentError::UnknownStudy(id))?;
    if study.is_approved(plan) {
        return Ok(());
    }
    let objections = objections(store, policy, &study).await?;
    if !objections.is_empty() {
        return Err(ConsentError::Objections {
            study: id,
            objections,
        });
    }
    decide(store, &study, plan, None, now).await
}

/// Refuses a study, on disk; sending is [`send`]'s. Ends this site's part in it. Safe to repeat.
///
/// # Errors
/// A study not seen.
pub async fn refuse(
    store: &Store,
    id: StudyId,
    reason: &str,
    now: SystemTime,
) -> Result<(), ConsentError> {
    let study = store
        .study(id)
        .await?
        .ok_or(ConsentError::UnknownStudy(id))?;
    let reason: String = reason.chars().take(LONGEST_REASON).collect();
    decide(store, &study, study.plan_digest, Some(&reason), now).await
}

/// Sends every decision that the coordinator does not have yet. Returns how many.
///
/// # Errors
/// The coordinator cannot be reached, or refuses one; those before it are sent.
pub async fn send(channel: Channel, store: &Store) -> Result<usize, ConsentError> {
    let mut client = studies(channel);
    let mut sent = 0;
    for study in store.studies().await? {
        let Some(decision) = study.decision.filter(|decision| !decision.sent) else {
            continue;
        };
        client
            .decide(wire::Decision {
                study: study.id.as_bytes().to_vec(),
                plan_digest: study.plan_digest.as_bytes().to_vec(),
                approved: decision.approved,
                reason: decision.reason,
                // The coordinator knows who calls.
                ..wire::Decision::default()
            })
            .await?;
        store.decision_sent(study.id, decision.approved).await?;
        info!(study = %study.id, approved = decision.approved, "decision sent");
        sent += 1;
    }
    Ok(sent)
}

/// Decides undecided studies by the policy alone, where it says so. A study whose data set is not
/// registered waits.
///
/// # Errors
/// The store failed.
pub async fn decide_by_policy(
    store: &Store,
    policy: &Policy,
    now: SystemTime,
) -> Result<(), ConsentError> {
    if !policy.auto_approve {
        return Ok(());
    }
    for study in store.studies().await? {
        let waits = store.data_set(&study.plan.data_set).await?.is_none();
        if study.decision.is_some() || waits {
            continue;
        }
        let objections = objections(store, policy, &study).await?;
        if objections.is_empty() {
            info!(study = %study.id, "approved by policy");
            decide(store, &study, study.plan_digest, None, now).await?;
        } else {
            let reason = objections.join("; ");
            warn!(study = %study.id, %reason, "refused by policy");
            refuse(store, study.id, &reason, now).await?;
        }
    }
    Ok(())
}

async fn decide(
    store: &Store,
    study: &KnownStudy,
    plan: PlanDigest,
    refused: Option<&str>,
    now: SystemTime,
) -> Result<(), ConsentError> {
    if store.decide(study.id, plan, refused, now).await? {
        return Ok(());
    }
    Err(ConsentError::OtherPlan {
        study: study.id,
        known: study.plan_digest,
        given: plan,
    })
}

/// Everything that speaks against a study: policy, data set, budget.
async fn objections(
    store: &Store,
    policy: &Policy,
    study: &KnownStudy,
) -> Result<Vec<String>, ConsentError> {
    let plan = &study.plan;
    let data_set = store.data_set(&plan.data_set).await?;
    let public_size = data_set.as_ref().map(|data_set| data_set.public_size);
    let mut objections = match policy.check(plan, public_size) {
        Ok(()) => Vec::new(),
        Err(refusal) => refusal.objections().to_vec(),
    };
    let Some(size) = public_size else {
        objections.push(format!(
            "no data set {:?} is registered here",
            plan.data_set
        ));
        return Ok(objections);
    };
    // Half a study is money spent for nothing: the budget has to carry all of its rounds.
    let is_known = store.noise(study.id).await?.is_some();
    if objections.is_empty() && !is_known {
        match whole_charge(plan, size).await {
            Ok(Some(charge)) => {
                let left = store
                    .releases_left(&policy.data_sets, &plan.data_set, charge)
                    .await?;
                if left.is_none_or(|left| left < charge.releases()) {
                    objections.push(format!(
                        "`data_sets.{}` has budget for {} of the plan's {} steps",
                        plan.data_set,
                        left.unwrap_or(0),
                        charge.releases()
                    ));
                }
            }
            Ok(None) => {}
            Err(error) => objections.push(format!("privacy of the plan: {error}")),
        }
    }
    Ok(objections)
}

/// What all rounds of a private plan cost. Computed where it may block.
async fn whole_charge(plan: &Plan, public_size: u64) -> Result<Option<Charge>, OutOfRange> {
    let Some(guarantee) = plan.privacy.guarantee() else {
        return Ok(None);
    };
    let plan = plan.clone();
    let work = move || Noise::of(&plan, &guarantee, public_size)?.total_charge(&plan);
    match tokio::task::spawn_blocking(work).await {
        Ok(charge) => charge.map(Some),
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

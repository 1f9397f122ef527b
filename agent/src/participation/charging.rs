//! What a round costs, paid before its first batch.
//!
//! The noise of a study is fixed once, before its first round, for all of its rounds together. A
//! round that was charged and never stored is trained again under the same charge.

use std::time::SystemTime;

use consilium_models::training::Protection;
use consilium_privacy::{
    OutOfRange,
    accountant::{ClippingNorm, Delta, SamplingRate},
    ledger::{Budget, ChargeRequest, Purpose, Refusal, Repeat},
};
use consilium_proto::{
    plan::{Guarantee, Mode, NoiseTarget},
    wire::DeclineReason,
};
use tracing::{info, warn};

use super::{
    Agent, AgentError, SessionError,
    assignment::{Assignment, Declined},
    round::{Answer, failed},
};
use crate::{
    policy::{Noise, Policy},
    store::{ChargeError, Charged},
    training::blocking,
};

/// What a round may train under.
pub(super) struct Paid {
    pub(super) protection: Protection,
    /// ε of the study, this round included; none without privacy.
    pub(super) epsilon: Option<f64>,
}

impl Agent {
    /// Charges the round, or, where plan and policy say so by name, protects nobody.
    pub(super) async fn protect(&self, assignment: &Assignment, now: SystemTime) -> Answer<Paid> {
        let (round, plan) = (assignment.spec.round, &assignment.study.plan);
        let Some(guarantee) = plan.privacy.guarantee() else {
            warn!(%round, "training WITHOUT PRIVACY, as plan and policy say by name");
            let public_size = self.public_size(assignment).await?;
            let rate = f64::from(plan.training.batch_size) / public_size as f64;
            let rate = SamplingRate::try_from(rate.min(1.0));
            let free = |rate| Paid {
                protection: Protection::None { rate },
                epsilon: None,
            };
            return Ok(rate.map(free).map_err(failed));
        };
        let terms = match self.terms(assignment, &guarantee).await? {
            Ok(terms) => terms,
            Err(declined) => return Ok(Err(declined)),
        };
        self.charge(assignment, terms, now).await
    }

    async fn charge(&self, assignment: &Assignment, terms: Terms, now: SystemTime) -> Answer<Paid> {
        let Terms {
            noise,
            clipping_norm: planned,
            policy,
            cap,
        } = terms;
        let (round, plan) = (assignment.spec.round, &assignment.study.plan);
        let keeper = self.store.clone();
        let secret = blocking(move || keeper.new_secret())
            .await
            .map_err(AgentError::from)?;
        let commitment = secret.commitment();
        let request = ChargeRequest {
            data_set: plan.data_set.clone(),
            study: *round.study.as_bytes(),
            round: round.round,
            attempt: round.attempt,
            purpose: Purpose::Training,
            charge: noise.charge(plan.training.steps),
            study_cap: Some(cap),
            repeat: match plan.privacy.mode {
                // Nothing of a share is kept: a new attempt draws batch and noise anew.
                Mode::Distributed => Repeat::ChargeAgain,
                Mode::Local | Mode::None => Repeat::Refuse,
            },
            key: Some(commitment),
        };
        let (store, budgets) = (&self.store, &policy.data_sets);
        let mut charged = match store.charge(budgets, request, cap.delta, now).await {
            Ok(charged) => Ok((charged, secret)),
            Err(error) => {
                store.forget_secret(&commitment).map_err(AgentError::from)?;
                Err(error)
            }
        };
        if let Err(ChargeError::Refused(Refusal::AlreadyCharged { sequence })) = charged {
            info!(%round, sequence, "charged before and never stored, training under that charge");
            charged = store.resume_charge(sequence, cap.delta).await;
        }
        match charged {
            Ok((charged, secret)) => {
                let Charged {
                    grant,
                    study_epsilon,
                    clipping_norm,
                } = charged;
                let sequence = grant.sequence();
                info!(%round, sequence, epsilon = study_epsilon, "charged");
                Ok(Ok(Paid {
                    protection: Protection::Private {
                        grant,
                        secret,
                        clipping_norm: clipping_norm.unwrap_or(planned),
                    },
                    epsilon: Some(study_epsilon),
                }))
            }
            Err(ChargeError::Refused(
                refusal @ (Refusal::DataSetExhausted { .. }
                | Refusal::StudyExhausted { .. }
                | Refusal::UnknownDataSet { .. }),
            )) => Ok(Err(Declined::new(DeclineReason::BudgetSpent, refusal))),
            Err(error) => Err(AgentError::from(error).into()),
        }
    }

    /// The noise of the study, fixed before its first round, and what limits its charges.
    async fn terms(&self, assignment: &Assignment, guarantee: &Guarantee) -> Answer<Terms> {
        let (study, plan) = (assignment.study.id, &assignment.study.plan);
        let policy = self.policy().map_err(AgentError::from)?;
        if self.store.noise(study).await?.is_none() {
            let public_size = self.public_size(assignment).await?;
            let (plan, guarantee) = (plan.clone(), *guarantee);
            let found = blocking(move || Noise::of(&plan, &guarantee, public_size)).await;
            match found {
                Ok(noise) => self.store.fix_noise(study, &noise, public_size).await?,
                Err(error) => return Ok(Err(failed(error))),
            }
        }
        let Some((noise, _)) = self.store.noise(study).await? else {
            return Ok(Err(Declined::new(
                DeclineReason::Failed,
                "the study was forgotten",
            )));
        };
        let terms = || {
            Ok::<_, OutOfRange>(Terms {
                noise,
                clipping_norm: guarantee.clipping_norm.try_into()?,
                cap: cap_of(guarantee, &policy)?,
                policy,
            })
        };
        Ok(terms().map_err(failed))
    }

    /// The size that the world may know: the one the study's noise was made for, if it was.
    pub(super) async fn public_size(&self, assignment: &Assignment) -> Result<u64, SessionError> {
        if let Some((_, size)) = self.store.noise(assignment.study.id).await? {
            return Ok(size);
        }
        let data_set = self.store.data_set(&assignment.study.plan.data_set).await?;
        Ok(data_set.map_or(1, |data_set| data_set.public_size))
    }
}

/// What a study is charged by.
struct Terms {
    noise: Noise,
    /// C of the study's first step.
    clipping_norm: ClippingNorm,
    policy: Policy,
    cap: Budget,
}

/// What the study may spend here: the plan's own target, or what the policy allows one study.
pub(super) fn cap_of(guarantee: &Guarantee, policy: &Policy) -> Result<Budget, OutOfRange> {
    let epsilon = match guarantee.target {
        NoiseTarget::Epsilon(epsilon) => epsilon.try_into()?,
        NoiseTarget::Multiplier(_) => policy.study_epsilon,
    };
    Ok(Budget {
        epsilon,
        delta: Delta::try_from(guarantee.delta)?,
    })
}

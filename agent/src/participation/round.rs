//! One round at this site, from the specification to the delivered update.
//!
//! The order is what makes it safe to die anywhere: count the training, charge, train, store the
//! update sealed, note that it is offered, send. A repeated round finds how far it came: a stored
//! update is sent again as it is, under the new attempt's context; a charge without a stored
//! update pays for the training that is repeated; an update that was offered is never made anew.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use consilium_models::{network::Network, training::Protection};
use consilium_privacy::{
    OutOfRange,
    accountant::{Delta, SamplingRate},
    ledger::{Budget, ChargeRequest, Grant, Purpose, Refusal, Repeat},
    step::PrivateUpdate,
};
use consilium_proto::{
    LayoutDigest, ParameterVector, RoundSpec, Signed,
    plan::{Guarantee, NoiseTarget},
    wire::{self, DeclineReason},
};
use tonic::transport::Channel;
use tracing::{info, warn};

use super::{
    Agent, AgentError, SessionError,
    assignment::{self, Assignment, Declined, Distrust},
    explained, with_timeout,
};
use crate::{
    consent,
    policy::{Noise, Policy},
    store::{ChargeError, Charged},
    training::{TrainingError, Work, blocking, train},
};

/// Times that a round's training may begin. A crash that depends on the data could otherwise
/// choose among ever more noisy updates; a few say next to nothing.
const MOST_TRAININGS: u32 = 5;

/// Bytes of a mebibyte.
const MEBIBYTE: u64 = 1 << 20;

/// What this site answers a round with.
type Answer<T> = Result<Result<T, Declined>, SessionError>;

impl Agent {
    /// Takes part in a round, or declines it.
    pub(super) async fn take_part(
        &self,
        channel: &Channel,
        signed: Signed,
        coordinator_now: u64,
    ) -> Result<(), SessionError> {
        let spec = self.believe(channel, &signed).await?;
        let round = spec.round;
        if spec.deadline <= coordinator_now {
            warn!(%round, "round offered after its deadline");
            tokio::time::sleep(self.settings.retry_first).await;
            return Ok(());
        }
        let answer = match self.agree(spec, &signed, coordinator_now).await? {
            Ok(assignment) => self.carry_out(channel, &assignment).await?,
            Err(declined) => Err(declined),
        };
        match answer {
            Ok(()) => Ok(()),
            Err(Declined { reason, why }) => self.decline(channel, round, reason, &why).await,
        }
    }

    /// Checks signature, roster and cohort.
    async fn believe(&self, channel: &Channel, signed: &Signed) -> Result<RoundSpec, SessionError> {
        let membership = &self.membership;
        let key = membership
            .coordinator_identity_key()
            .ok_or(Distrust::NoCoordinator)?;
        let spec = RoundSpec::open(signed, &key).map_err(Distrust::from)?;
        let (round, epoch) = (spec.round, spec.roster_epoch);
        if membership
            .roster()
            .is_none_or(|roster| roster.epoch() < epoch)
        {
            membership.refresh_roster(channel.clone()).await?;
        }
        if membership.roster_digest(epoch)? != Some(spec.roster_digest) {
            return Err(Distrust::OtherRoster { round, epoch }.into());
        }
        if !assignment::names(&spec, membership.site_id()) {
            return Err(Distrust::NotInCohort { round }.into());
        }
        Ok(spec)
    }

    /// Compares with approval and policy.
    async fn agree(
        &self,
        spec: RoundSpec,
        signed: &Signed,
        coordinator_now: u64,
    ) -> Answer<Assignment> {
        let study = self.store.study(spec.round.study).await?;
        let policy = match self.policy() {
            Ok(policy) => policy,
            Err(error) => return Ok(Err(Declined::new(DeclineReason::Policy, explained(&error)))),
        };
        let public_size = match &study {
            Some(study) => self.store.data_set(&study.plan.data_set).await?,
            None => None,
        };
        let public_size = public_size.map(|data_set| data_set.public_size);
        let (now, study_seen) = (SystemTime::now(), study.as_ref());
        let agreed = assignment::agree(
            &spec,
            study_seen,
            &policy,
            public_size,
            now,
            coordinator_now,
        );
        let (Ok(()), Some(study)) = (&agreed, study) else {
            return Ok(Err(agreed.err().unwrap_or_else(|| {
                Declined::new(DeclineReason::NotApproved, "this study is not known here")
            })));
        };
        let left = Duration::from_millis(spec.deadline - coordinator_now);
        let deadline = tokio::time::Instant::now() + left;
        let context = RoundSpec::context(signed);
        Ok(Ok(Assignment {
            spec,
            context,
            study,
            deadline,
        }))
    }

    /// Finds or makes this round's update, and delivers it.
    async fn carry_out(&self, channel: &Channel, assignment: &Assignment) -> Answer<()> {
        let (study, number) = (assignment.spec.round.study, assignment.spec.round.round);
        self.store.forget_updates(study, number).await?;
        let network = match Network::from_plan(&assignment.study.plan) {
            Ok(network) => Arc::new(network),
            Err(error) => return Ok(Err(Declined::new(DeclineReason::Failed, error))),
        };
        self.check_layout(assignment, network.layout().digest())?;
        let known = self.store.round(study, number).await?;
        if let Some(known) = &known
            && known.model_digest != assignment.spec.model_digest
        {
            let why = "an earlier attempt at this round started from another version";
            return Ok(Err(Declined::new(DeclineReason::Failed, why)));
        }
        let reader = self.store.clone();
        let update = match blocking(move || reader.spooled(study, number)).await? {
            Some(update) => {
                info!(round = %assignment.spec.round, "stored update found, sending it again");
                Arc::new(update)
            }
            None => match self
                .make_update(channel, assignment, network.clone())
                .await?
            {
                Ok(update) => update,
                Err(declined) => return Ok(Err(declined)),
            },
        };
        self.deliver(channel, assignment, network.layout(), &update)
            .await
    }

    fn check_layout(
        &self,
        assignment: &Assignment,
        expected: LayoutDigest,
    ) -> Result<(), Distrust> {
        let spec = &assignment.spec;
        if spec.layout_digest == expected {
            return Ok(());
        }
        Err(Distrust::OtherLayout {
            round: spec.round,
            expected,
            found: spec.layout_digest,
        })
    }

    /// Loads, charges, trains and stores.
    async fn make_update(
        &self,
        channel: &Channel,
        assignment: &Assignment,
        network: Arc<Network>,
    ) -> Answer<Arc<PrivateUpdate>> {
        let (spec, plan) = (&assignment.spec, &assignment.study.plan);
        let study = spec.round.study;
        let cache = self.settings.cache_mebibytes * MEBIBYTE;
        let set = match self
            .preparation
            .prepare(&self.store, study, plan, cache)
            .await
        {
            Ok(set) => set,
            Err(error) => return decline_unless_fatal(error),
        };
        let weights = self.weights(channel, assignment, &network).await?;
        let now = SystemTime::now();
        let number = spec.round.round;
        let known = self.store.round(study, number).await?;
        let may_train = known.is_none_or(|known| known.trainings < MOST_TRAININGS)
            && self
                .store
                .begin_training(study, number, &plan.data_set, spec.model_digest, now)
                .await?;
        if !may_train {
            let why = "its update was offered and is no longer stored, or its training was \
                       interrupted too often";
            return Ok(Err(Declined::new(DeclineReason::Failed, why)));
        }
        let protection = match self.protect(assignment, now).await? {
            Ok(protection) => protection,
            Err(declined) => return Ok(Err(declined)),
        };
        let work = Work {
            study,
            round: number,
            plan: plan.clone(),
            network,
            weights,
            set,
            protection,
        };
        match train(self.store.clone(), work).await {
            Ok(update) => Ok(Ok(update)),
            Err(error) => decline_unless_fatal(error),
        }
    }

    /// The weights that the round starts from: made from the seed, or fetched; in both cases the
    /// ones that the study's history says.
    async fn weights(
        &self,
        channel: &Channel,
        assignment: &Assignment,
        network: &Arc<Network>,
    ) -> Result<ParameterVector, SessionError> {
        let spec = &assignment.spec;
        let (study, number) = (spec.round.study, spec.round.round - 1);
        let other = |expected| Distrust::OtherModel {
            round: spec.round,
            number,
            expected,
            found: spec.model_digest,
        };
        if number == 0 {
            let (network, seed) = (network.clone(), assignment.study.plan.seed);
            let made = blocking(move || {
                let weights = network.initial(seed);
                (weights.digest(network.layout()), weights)
            });
            let (digest, weights) = made.await;
            self.store.see_version(study, 0, digest).await?;
            return if digest == spec.model_digest {
                Ok(weights)
            } else {
                Err(other(digest).into())
            };
        }
        let shown = self.published(channel, assignment, number).await?;
        let first_seen = self.store.see_version(study, number, shown).await?;
        if first_seen != spec.model_digest || shown != spec.model_digest {
            return Err(other(first_seen).into());
        }
        self.download(channel, study, spec.model_digest, network.layout())
            .await
    }

    /// Digest of a version that the coordinator has published.
    async fn published(
        &self,
        channel: &Channel,
        assignment: &Assignment,
        number: u32,
    ) -> Result<consilium_proto::ModelDigest, SessionError> {
        let round = assignment.spec.round;
        let request = with_timeout(wire::StudyRef::from(round.study));
        let detail = consent::studies(channel.clone())
            .show(request)
            .await?
            .into_inner();
        let version = detail
            .versions
            .into_iter()
            .find(|version| version.number == number);
        let version = version.ok_or(Distrust::NoVersion { round, number })?;
        Ok(version
            .model_digest
            .as_slice()
            .try_into()
            .map_err(Distrust::from)?)
    }

    /// Charges the round, or, where plan and policy say so by name, protects nobody.
    async fn protect(&self, assignment: &Assignment, now: SystemTime) -> Answer<Protection> {
        let (round, plan) = (assignment.spec.round, &assignment.study.plan);
        let Some(guarantee) = plan.privacy.guarantee() else {
            warn!(%round, "training WITHOUT PRIVACY, as plan and policy say by name");
            let public_size = self.public_size(assignment).await?;
            let rate = f64::from(plan.training.batch_size) / public_size as f64;
            let rate = SamplingRate::try_from(rate.min(1.0));
            return Ok(rate.map(|rate| Protection::None { rate }).map_err(failed));
        };
        let terms = match self.terms(assignment, &guarantee).await? {
            Ok(terms) => terms,
            Err(declined) => return Ok(Err(declined)),
        };
        Ok(self
            .charge(assignment, terms, now)
            .await?
            .map(Protection::Private))
    }

    async fn charge(
        &self,
        assignment: &Assignment,
        Terms { noise, policy, cap }: Terms,
        now: SystemTime,
    ) -> Answer<Grant> {
        let (round, plan) = (assignment.spec.round, &assignment.study.plan);
        let request = ChargeRequest {
            data_set: plan.data_set.clone(),
            study: *round.study.as_bytes(),
            round: round.round,
            attempt: round.attempt,
            purpose: Purpose::Training,
            charge: noise.charge(plan.training.steps),
            study_cap: Some(cap),
            repeat: Repeat::Refuse,
        };
        let (store, budgets) = (&self.store, &policy.data_sets);
        let mut charged = store.charge(budgets, request.clone(), cap.delta, now).await;
        if let Err(ChargeError::Refused(Refusal::AlreadyCharged { sequence })) = charged {
            info!(%round, sequence, "charged before and never stored, training under that charge");
            charged = store
                .resume_charge(budgets, request, sequence, cap.delta)
                .await;
        }
        match charged {
            Ok(Charged {
                grant,
                study_epsilon,
            }) => {
                let sequence = grant.sequence();
                info!(%round, sequence, epsilon = study_epsilon, "charged");
                Ok(Ok(grant))
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
        let cap = cap_of(guarantee, &policy);
        Ok(cap.map(|cap| Terms { noise, policy, cap }).map_err(failed))
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
    policy: Policy,
    cap: Budget,
}

/// What the study may spend here: the plan's own target, or what the policy allows one study.
fn cap_of(guarantee: &Guarantee, policy: &Policy) -> Result<Budget, OutOfRange> {
    let epsilon = match guarantee.target {
        NoiseTarget::Epsilon(epsilon) => epsilon.try_into()?,
        NoiseTarget::Multiplier(_) => policy.study_epsilon,
    };
    Ok(Budget {
        epsilon,
        delta: Delta::try_from(guarantee.delta)?,
    })
}

fn failed(why: impl ToString) -> Declined {
    Declined::new(DeclineReason::Failed, why)
}

/// A store that fails ends the agent; anything else is this round's misfortune.
fn decline_unless_fatal<T>(error: TrainingError) -> Answer<T> {
    match error {
        TrainingError::Store(error) => Err(error.into()),
        TrainingError::NoDataSet(_) | TrainingError::Data(_) => Ok(Err(Declined::new(
            DeclineReason::DataSetMissing,
            explained(&error),
        ))),
        TrainingError::Train(_) => Ok(Err(failed(explained(&error)))),
    }
}

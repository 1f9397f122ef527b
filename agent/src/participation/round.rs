//! One round at this site, from the specification to the delivered update.
//!
//! The order is what makes it safe to die anywhere: count the training, charge, train, store the
//! update sealed, record it, have the ledger's head logged, note that it is offered, send. A
//! repeated round finds how far it came: a stored update is sent again as it is, under the new
//! attempt's context; a charge without a stored update pays for the training that is repeated; an
//! update that was offered is never made anew.

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use consilium_models::{
    network::Network,
    start::{PublicEncoderError, start},
};
use consilium_privacy::{
    ledger::{Generator, Made},
    step::{Origin, PrivateUpdate},
};
use consilium_proto::{
    LayoutDigest, ModelDigest, ParameterVector, RoundSpec, Signed,
    wire::{self, DeclineReason},
};
use tonic::transport::Channel;
use tracing::{error, info, warn};

use super::{
    Agent, AgentError, SessionError,
    assignment::{self, Assignment, Declined, Distrust},
    explained,
    upload::Content,
    with_timeout,
};
use crate::{
    consent,
    receipts::{ReceiptError, Receipts},
    training::{TrainingError, Work, blocking, train},
};

/// Times that a round's training may begin. A crash that depends on the data could otherwise
/// choose among ever more noisy updates; a few say next to nothing.
const MOST_TRAININGS: u32 = 5;

/// What this site answers a round with.
pub(super) type Answer<T> = Result<Result<T, Declined>, SessionError>;

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
        let ours = now
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default()
            .as_millis();
        let ahead = coordinator_now.cast_signed() - i64::try_from(ours).unwrap_or(i64::MAX);
        Ok(Ok(Assignment {
            spec,
            signed: signed.clone(),
            context: RoundSpec::context(signed),
            study,
            deadline,
            ahead,
        }))
    }

    /// Does this round's work, from the update to its delivery.
    async fn carry_out(&self, channel: &Channel, assignment: &Assignment) -> Answer<()> {
        let (study, number) = (assignment.spec.round.study, assignment.spec.round.round);
        self.store.forget_updates(study, number).await?;
        let network = match Network::from_plan(&assignment.study.plan) {
            Ok(network) => {
                let network = network.recomputing(self.settings.recompute);
                Arc::new(network.profiled(self.settings.profile))
            }
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
        if assignment.study.plan.secure_aggregation {
            return self.add_to_sum(channel, assignment, network).await;
        }
        let update = match self
            .have_update(channel, assignment, network.clone())
            .await?
        {
            Ok(Some(update)) => update,
            Ok(None) => return Ok(Ok(())),
            Err(declined) => return Ok(Err(declined)),
        };
        let values = update.values().iter().flat_map(|value| value.to_le_bytes());
        let size = self.public_size(assignment).await?;
        let weight = assignment.study.plan.strategy.weight_of(size);
        let content = Content::Clear {
            weight,
            bytes: Bytes::from_iter(values),
        };
        let layout = network.layout();
        self.deliver(channel, assignment, layout, update.origin(), content)
            .await
    }

    /// Finds or makes this round's update, recorded and receipted: it may be sent. None if there is no
    /// receipt before the deadline.
    pub(super) async fn have_update(
        &self,
        channel: &Channel,
        assignment: &Assignment,
        network: Arc<Network>,
    ) -> Answer<Option<Arc<PrivateUpdate>>> {
        let (study, number) = (assignment.spec.round.study, assignment.spec.round.round);
        let reader = self.store.clone();
        let update = match blocking(move || reader.spooled(study, number)).await? {
            Some(update) => {
                info!(round = %assignment.spec.round, "stored update found, sending it again");
                Arc::new(update)
            }
            None => match self.make_update(channel, assignment, network).await? {
                Ok(update) => update,
                Err(declined) => return Ok(Err(declined)),
            },
        };
        let digest = {
            let update = update.clone();
            blocking(move || update.digest()).await
        };
        self.record(assignment, update.origin(), digest).await?;
        let has_receipt = self.have_receipt(channel, assignment).await?;
        Ok(has_receipt.map(|has_receipt| has_receipt.then_some(update)))
    }

    /// Writes the update down in the ledger, before its first byte leaves.
    pub(super) async fn record(
        &self,
        assignment: &Assignment,
        origin: Origin,
        digest: [u8; 32],
    ) -> Result<(), SessionError> {
        let plan = &assignment.study.plan;
        let Origin::Noised {
            sequence,
            taken,
            clipping_norm,
            next_clipping_norm,
            ..
        } = origin
        else {
            return Ok(()); // without privacy nothing was charged
        };
        let made = Made {
            charge: sequence,
            generator: Generator::Aes256Gcm,
            taken,
            clipping_norm,
            next_clipping_norm,
            batch_size: plan.training.batch_size,
            start: *assignment.spec.model_digest.as_bytes(),
            update: digest,
        };
        let recorded = self.store.record_update(made, SystemTime::now()).await;
        Ok(recorded.map_err(AgentError::from)?)
    }

    /// Has the ledger's head logged, with retries until the round's deadline; false if there is no
    /// receipt by then. The update stays stored, and the next attempt asks again: nothing leaves
    /// that the coordinator's log does not cover.
    pub(super) async fn have_receipt(
        &self,
        channel: &Channel,
        assignment: &Assignment,
    ) -> Answer<bool> {
        let round = assignment.spec.round;
        let asking = async {
            let receipts = Receipts::open(&self.store, &self.membership).await?;
            let mut waits = self.waits();
            loop {
                let refused = match receipts.obtain(channel).await {
                    Ok(()) => return Ok(()),
                    Err(refused) => refused,
                };
                let wait = waits.next().filter(|_| refused.may_pass());
                let Some(wait) = wait else {
                    return Err(refused);
                };
                warn!(%round, reason = %refused, "asking for the receipt again");
                tokio::time::sleep(wait).await;
            }
        };
        match tokio::time::timeout_at(assignment.deadline, asking).await {
            Ok(Ok(())) => Ok(Ok(true)),
            Ok(Err(distrust @ ReceiptError::Distrust(_))) => {
                error!(%round, error = %distrust, "round declined");
                Ok(Err(failed(distrust)))
            }
            Ok(Err(error)) => Err(error.into()),
            Err(_) => {
                warn!(%round, "no receipt before the deadline, the update stays stored");
                Ok(Ok(false))
            }
        }
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
        let preparing = self
            .preparation
            .prepare(&self.store, study, plan, &self.settings);
        let set = match preparing.await {
            Ok(set) => set,
            Err(error) => return decline_unless_fatal(error),
        };
        let weights = match self.weights(channel, assignment, &network).await? {
            Ok(weights) => weights,
            Err(declined) => return Ok(Err(declined)),
        };
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
        let paid = match self.protect(assignment, now).await? {
            Ok(paid) => paid,
            Err(declined) => return Ok(Err(declined)),
        };
        self.report(assignment, &network, &weights, &set, now)
            .await?;
        let work = Work {
            study,
            round: number,
            plan: plan.clone(),
            network,
            weights,
            set,
            devices: self.devices.clone(),
            protection: paid.protection,
            epsilon: paid.epsilon,
        };
        match train(self.store.clone(), work).await {
            Ok(update) => Ok(Ok(update)),
            Err(error) => decline_unless_fatal(error),
        }
    }

    /// The weights that the round starts from: made as the plan says, or fetched; in both cases the
    /// ones that the study's history says.
    pub(super) async fn weights(
        &self,
        channel: &Channel,
        assignment: &Assignment,
        network: &Arc<Network>,
    ) -> Answer<ParameterVector> {
        match self.check_start(channel, assignment, network).await? {
            Ok(Some(weights)) => Ok(Ok(weights)),
            Ok(None) => {
                let (study, digest) = (assignment.spec.round.study, assignment.spec.model_digest);
                let layout = network.layout();
                Ok(Ok(self.download(channel, study, digest, layout).await?))
            }
            Err(declined) => Ok(Err(declined)),
        }
    }

    /// Compares the version that a round starts from with the study's history. The first one is made as the plan
    /// says, and given; for a public encoder that is not here the round is declined.
    pub(super) async fn check_start(
        &self,
        channel: &Channel,
        assignment: &Assignment,
        network: &Arc<Network>,
    ) -> Answer<Option<ParameterVector>> {
        let spec = &assignment.spec;
        let (study, number) = (spec.round.study, spec.round.round - 1);
        let other = |expected| Distrust::OtherModel {
            round: spec.round,
            number,
            expected,
            found: spec.model_digest,
        };
        if number == 0 {
            let (network, plan) = (network.clone(), assignment.study.plan.clone());
            let encoder = self.settings.text_encoder.clone();
            let made = blocking(move || {
                let weights = start(&plan, &network, encoder.as_deref())?;
                Ok::<_, PublicEncoderError>((weights.digest(network.layout()), weights))
            });
            let (digest, weights) = match made.await {
                Ok(made) => made,
                Err(error) => return Ok(Err(failed(explained(&error)))),
            };
            self.store.see_version(study, 0, digest).await?;
            return match digest == spec.model_digest {
                true => Ok(Ok(Some(weights))),
                false => Err(other(digest).into()),
            };
        }
        let shown = self.published(channel, assignment, number).await?;
        let first_seen = self.store.see_version(study, number, shown).await?;
        match first_seen == spec.model_digest && shown == spec.model_digest {
            true => Ok(Ok(None)),
            false => Err(other(first_seen).into()),
        }
    }

    /// Digest of a version that the coordinator has published.
    async fn published(
        &self,
        channel: &Channel,
        assignment: &Assignment,
        number: u32,
    ) -> Result<ModelDigest, SessionError> {
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
}

pub(super) fn failed(why: impl ToString) -> Declined {
    Declined::new(DeclineReason::Failed, why)
}

/// A store that fails ends the agent; anything else is this round's misfortune.
pub(super) fn decline_unless_fatal<T>(error: TrainingError) -> Answer<T> {
    match error {
        TrainingError::Store(error) => Err(error.into()),
        TrainingError::NoDataSet(_) | TrainingError::Data(_) => Ok(Err(Declined::new(
            DeclineReason::DataSetMissing,
            explained(&error),
        ))),
        TrainingError::Train(_) => Ok(Err(failed(explained(&error)))),
    }
}

//! A round with secure aggregation: a conversation of this site with the others, through the
//! coordinator, beside the training.
//!
//! Keys and shares are exchanged while the training runs; the update is masked when both are done.
//! What [`Site`] wants in the journal is on disk before what follows it is sent. Nothing of an
//! attempt outlives this program, or its deadline: then this site has dropped out, and its stored
//! update goes into the next attempt.

use std::{num::NonZeroU32, sync::Arc, time::SystemTime};

use bytes::Bytes;
use consilium_models::network::Network;
use consilium_privacy::{
    secagg::{
        Terms,
        encoding::{self, Encoded, Encoding},
        message::{Outcome, ToCoordinator, ToSite},
        site::{Effect, Input, MaskedVector, OpenError, Refusal, Site, Stop},
    },
    step::{NoisyShare, Origin, PrivateUpdate},
};
use consilium_proto::{
    ErrorCode, ModelDigest, RoundId,
    chunk::MESSAGE_LIMIT,
    rpc::explain,
    secure_aggregation::{Form, NoTerms},
    wire::{self, DeclineReason, coordinator_message, rounds_client::RoundsClient, site_message},
};
use futures::future::{Either, select};
use tonic::{Request, transport::Channel};
use tracing::{error, info, warn};
use zeroize::Zeroizing;

use super::{
    Agent, POLL_GRACE, SessionError,
    assignment::{Assignment, Declined, Distrust},
    round::{Answer, decline_unless_fatal, failed},
    upload::Content,
    with_timeout,
};
use crate::{
    consent,
    policy::Policy,
    training::{Work, blocking, train_share},
};

/// Why an attempt has no more use for this site: for its log.
struct Over(String);

/// What a conversation answers.
type Talk<T> = Result<Result<T, Over>, SessionError>;

impl Agent {
    /// Finds or makes this round's update and adds it, masked, to the sum of the cohort.
    pub(super) async fn add_to_sum(
        &self,
        channel: &Channel,
        assignment: &Assignment,
        network: Arc<Network>,
    ) -> Answer<()> {
        let terms = match self.terms_of_sum(assignment, &network)? {
            Ok(terms) => terms,
            Err(declined) => return Ok(Err(declined)),
        };
        // Before a key is made: whoever is shown another model says nothing to anybody.
        if let Err(declined) = self.check_start(channel, assignment, &network).await? {
            return Ok(Err(declined));
        }
        let mut talk = match self.converse(channel, assignment, terms).await? {
            Ok(talk) => talk,
            Err(declined) => return Ok(Err(declined)),
        };
        let (set_up, vector) = {
            let making = std::pin::pin!(self.have_vector(channel, assignment, network.clone()));
            let setting_up = std::pin::pin!(talk.set_up());
            match select(making, setting_up).await {
                Either::Left((Ok(Ok(Some(vector))), setting_up)) => {
                    (setting_up.await?, Ok(Some(vector)))
                }
                Either::Left((vector, _)) => (Ok(()), vector?),
                // A training under way outlives the attempt: the next one takes its update.
                Either::Right((set_up, making)) => {
                    let vector = making.await?;
                    (set_up?, vector)
                }
            }
        };
        let round = assignment.spec.round;
        let vector = match vector {
            Ok(Some(vector)) => vector,
            Ok(None) => return Ok(Ok(())),
            Err(declined) => return Ok(Err(declined)),
        };
        if let Err(Over(why)) = set_up {
            warn!(%round, why, "the attempt was over before its upload");
            return Ok(Ok(()));
        }
        let origin = vector.origin();
        let encoded = match self.encode(assignment, &talk, vector).await? {
            Ok(encoded) => encoded,
            Err(declined) => return Ok(Err(declined)),
        };
        let (vector, trailer) = match talk.mask(encoded, sequence_of(origin)).await? {
            Ok(masked) => masked,
            Err(Over(why)) => {
                warn!(%round, why, "the attempt was over before its upload");
                return Ok(Ok(()));
            }
        };
        let content = Content::Masked {
            bytes: Bytes::from(vector.bytes(0..vector.len())),
            trailer,
        };
        drop(vector);
        let layout = network.layout();
        let delivered = self
            .deliver(channel, assignment, layout, origin, content)
            .await?;
        if let Err(declined) = delivered {
            return Ok(Err(declined));
        }
        match talk.settle().await? {
            Ok(outcome) => self.believe_outcome(round, &outcome).await,
            Err(Over(why)) => {
                warn!(%round, why, "no sum came of the attempt");
                Ok(Ok(()))
            }
        }
    }

    /// What the attempt fixes, if it is as the plan says and within this site's policy.
    fn terms_of_sum(
        &self,
        assignment: &Assignment,
        network: &Network,
    ) -> Result<Result<Terms, Declined>, SessionError> {
        let Assignment {
            spec,
            signed,
            study,
            ..
        } = assignment;
        let policy = match self.policy() {
            Ok(policy) => policy,
            Err(error) => return Ok(Err(Declined::new(DeclineReason::Policy, error))),
        };
        let end = (spec.secure_aggregation.as_ref()).map_or(spec.deadline, |secure| secure.end);
        let terms = spec.terms(
            signed,
            &study.plan,
            network.layout().parameters(),
            |site| self.membership.key_of(site),
            policy.limits(spec.cohort.len()),
            assignment.here(end),
        );
        match terms {
            Ok(terms) => Ok(self.has_enough_noise(assignment, &policy).map(|()| terms)),
            Err(refused @ (NoTerms::Terms(_) | NoTerms::NotActive(_))) => {
                Ok(Err(Declined::new(DeclineReason::Policy, refused)))
            }
            Err(source) => {
                let round = spec.round;
                Err(Distrust::NotOfPlan { round, source }.into())
            }
        }
    }

    /// Whether the honest sites of any sum, as this site's policy counts them, carry the whole noise.
    fn has_enough_noise(&self, assignment: &Assignment, policy: &Policy) -> Result<(), Declined> {
        let spec = &assignment.spec;
        let form = spec.secure_aggregation.as_ref().map(|secure| secure.form);
        let Some(Form::Shares { shares, .. }) = form else {
            return Ok(());
        };
        let colluding = policy.limits(spec.cohort.len()).colluding as u32;
        if shares + colluding <= spec.quorum {
            return Ok(());
        }
        let why = format!(
            "`colluding` is {colluding}: of {} sites that answer, {} may be honest, and the noise is \
             shared by {shares}",
            spec.quorum,
            spec.quorum.saturating_sub(colluding)
        );
        Err(Declined::new(DeclineReason::Policy, why))
    }

    /// Opens this site's side of an attempt, and sends its keys.
    async fn converse<'a>(
        &'a self,
        channel: &Channel,
        assignment: &Assignment,
        terms: Terms,
    ) -> Answer<Conversation<'a>> {
        let round = assignment.spec.round;
        let history = self.store.attempt_history(round.study).await?;
        let Some(me) = self.membership.site_id() else {
            return Err(Distrust::NotInCohort { round }.into());
        };
        let end = (assignment.spec.secure_aggregation.as_ref())
            .map_or(assignment.spec.deadline, |secure| secure.end);
        let left = assignment
            .here(end)
            .duration_since(SystemTime::now())
            .unwrap_or_default();
        let signer = Box::new(self.membership.identity().clone());
        let now = SystemTime::now();
        let opened = blocking(move || Site::open(terms, me.into(), signer, &history, now)).await;
        let (site, effects) = match opened {
            Ok(opened) => opened,
            Err(error @ OpenError::History(_)) => {
                let why = format!("{error}; a site that restarts has dropped out of the attempt");
                return Ok(Err(Declined::new(DeclineReason::Failed, why)));
            }
            Err(error) => return Ok(Err(failed(error))),
        };
        let mut talk = Conversation {
            agent: self,
            channel: channel.clone(),
            round,
            deadline: tokio::time::Instant::now() + left,
            site: Some(site),
        };
        match talk.perform(effects).await? {
            Ok(_) => Ok(Ok(talk)),
            Err(Over(why)) => Ok(Err(failed(why))),
        }
    }

    /// What this site adds to the sum: an update, or a share of a distributed step.
    async fn have_vector(
        &self,
        channel: &Channel,
        assignment: &Assignment,
        network: Arc<Network>,
    ) -> Answer<Option<Vector>> {
        let secure = assignment.spec.secure_aggregation.as_ref();
        let shares = match secure.map(|secure| secure.form) {
            Some(Form::Shares { shares, .. }) => NonZeroU32::new(shares),
            _ => None,
        };
        match shares {
            Some(shares) => self.have_share(channel, assignment, network, shares).await,
            None => {
                let update = self.have_update(channel, assignment, network).await?;
                Ok(update.map(|update| update.map(Vector::Update)))
            }
        }
    }

    /// Charges, takes a distributed round's one step, and records it. Nothing of it is stored: another
    /// attempt draws and pays anew.
    async fn have_share(
        &self,
        channel: &Channel,
        assignment: &Assignment,
        network: Arc<Network>,
        shares: NonZeroU32,
    ) -> Answer<Option<Vector>> {
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
        let paid = match self.protect(assignment, now).await? {
            Ok(paid) => paid,
            Err(declined) => return Ok(Err(declined)),
        };
        self.report(assignment, &network, &weights, &set, now)
            .await?;
        let work = Work {
            study,
            round: spec.round.round,
            plan: plan.clone(),
            network,
            weights,
            set,
            devices: self.devices.clone(),
            protection: paid.protection,
            epsilon: paid.epsilon,
        };
        let share = match train_share(work, shares).await {
            Ok(share) => share,
            Err(error) => return decline_unless_fatal(error),
        };
        self.record(assignment, share.origin(), share.digest())
            .await?;
        let has_receipt = self.have_receipt(channel, assignment).await?;
        Ok(has_receipt.map(|has_receipt| has_receipt.then_some(Vector::Share(share))))
    }

    /// Brings an update within its bound, weights it and rounds it to the grid; a share is in units
    /// already.
    async fn encode(
        &self,
        assignment: &Assignment,
        talk: &Conversation<'_>,
        vector: Vector,
    ) -> Answer<Encoded> {
        let round = assignment.spec.round;
        let figures = self.figures(assignment).await?;
        let size = self.public_size(assignment).await?;
        let weight = assignment.study.plan.strategy.weight_of(size);
        let Some(terms) = talk.site.as_ref().map(|site| site.terms().clone()) else {
            return Ok(Err(failed("the attempt is over")));
        };
        let encoded = blocking(move || {
            let update = match vector {
                Vector::Update(update) => update,
                Vector::Share(share) => return encoding::encode_share(&terms, share, &figures),
            };
            let mut values = Zeroizing::new(update.values().to_vec());
            if let Encoding::Weighted { bound, .. } = *terms.encoding()
                && encoding::bring_within(&mut values, bound)
            {
                warn!(%round, bound, "the update was longer than the bound, and is scaled down");
            }
            encoding::encode(&terms, &values, weight, &figures)
        });
        Ok(encoded.await.map_err(failed))
    }

    /// Pins the next version: the round after this one must start from it.
    async fn believe_outcome(&self, round: RoundId, outcome: &Outcome) -> Answer<()> {
        let RoundId {
            study,
            round: number,
            ..
        } = round;
        let found = ModelDigest::try_from(&outcome.model[..]).map_err(Distrust::from)?;
        let expected = self.store.see_version(study, number, found).await?;
        if expected != found {
            return Err(Distrust::OtherModel {
                round,
                number,
                expected,
                found,
            }
            .into());
        }
        info!(%round, model = %found, "sum published");
        Ok(Ok(()))
    }

    /// Keeps a complaint and, if only the coordinator can be at fault, ends this site's part in the
    /// study until a person approves it anew.
    async fn complain(&self, round: RoundId, stop: &Stop) -> Result<(), SessionError> {
        let violation = stop.violation.to_string();
        error!(%round, violation, "secure aggregation stopped");
        let now = SystemTime::now();
        let message = stop.complaint.bytes();
        self.store
            .keep_complaint(round, &violation, message, now)
            .await?;
        if !stop.violation.is_grave() {
            return Ok(());
        }
        let reason = format!("in round {round} the coordinator broke a rule: {violation}");
        if let Err(error) = consent::refuse(&self.store, round.study, &reason, now).await {
            warn!(%round, %error, "this site's part in the study could not be ended");
        }
        Ok(())
    }
}

/// What a site adds to a sum.
enum Vector {
    /// An update that is private by itself, stored for every attempt at its round.
    Update(Arc<PrivateUpdate>),
    /// A clipped sum with a share of the noise, for this attempt alone.
    Share(NoisyShare),
}

impl Vector {
    fn origin(&self) -> Origin {
        match self {
            Self::Update(update) => update.origin(),
            Self::Share(share) => share.origin(),
        }
    }
}

fn sequence_of(origin: Origin) -> Option<u64> {
    match origin {
        Origin::Noised { sequence, .. } => Some(sequence),
        _ => None,
    }
}

/// This site's side of one attempt.
struct Conversation<'a> {
    agent: &'a Agent,
    channel: Channel,
    round: RoundId,
    /// When secrets are wiped, whatever has come.
    deadline: tokio::time::Instant,
    /// None only while it is on another thread.
    site: Option<Site>,
}

/// What a move gives beside messages that were sent.
#[derive(Default)]
struct Given {
    vector: Option<MaskedVector>,
    trailer: Option<Vec<u8>>,
    outcome: Option<Outcome>,
}

impl Conversation<'_> {
    /// Exchanges keys and shares.
    async fn set_up(&mut self) -> Talk<()> {
        while !self.site.as_ref().is_some_and(Site::is_ready) {
            if let Err(over) = self.turn().await? {
                return Ok(Err(over));
            }
        }
        Ok(Ok(()))
    }

    /// Masks the vector: what is to be uploaded, and what ends the upload.
    async fn mask(
        &mut self,
        vector: Encoded,
        sequence: Option<u64>,
    ) -> Talk<(MaskedVector, Vec<u8>)> {
        let given = self.act(Input::Update { vector, sequence }).await?;
        Ok(given.and_then(|given| {
            let masked = given.vector.zip(given.trailer);
            masked.ok_or_else(|| Over("its deadline has passed".into()))
        }))
    }

    /// Agrees on the survivors, helps to open their sum, and waits for what came of it.
    async fn settle(&mut self) -> Talk<Outcome> {
        loop {
            match self.turn().await? {
                Ok(Given {
                    outcome: Some(outcome),
                    ..
                }) => return Ok(Ok(outcome)),
                Ok(_) => {}
                Err(over) => return Ok(Err(over)),
            }
        }
    }

    /// Hears one message and answers it.
    async fn turn(&mut self) -> Talk<Given> {
        let heard = tokio::time::timeout_at(self.deadline, self.hear()).await;
        match heard {
            Ok(Ok(ToSite::Outcome(_))) if !self.awaits_outcome() => {
                Ok(Err(Over("it ended without this site's answer".into())))
            }
            Ok(Ok(message)) => self.act(Input::Message(message)).await,
            Ok(Err(over)) => Ok(Err(over)),
            Err(_) => {
                let given = self.act(Input::Tick).await?;
                Ok(given.and_then(|_| Err(Over("its deadline has passed".into()))))
            }
        }
    }

    /// Whether this site has answered. Others may have been enough and faster: then the outcome comes to a site that
    /// confirmed but was not asked for an answer any more. That breaks no rule, and without the confirmations
    /// there is nothing to believe it by.
    fn awaits_outcome(&self) -> bool {
        self.site.as_ref().is_some_and(Site::has_answered)
    }

    /// Moves the site on a thread that may block, and does what it asks for.
    async fn act(&mut self, input: Input) -> Talk<Given> {
        let Some(mut site) = self.site.take() else {
            return Ok(Err(Over("it was given up".into())));
        };
        let moving = blocking(move || {
            let moved = site.handle(input, SystemTime::now());
            (site, moved)
        });
        let (site, moved) = moving.await;
        self.site = Some(site);
        match moved {
            Ok(effects) => self.perform(effects).await,
            Err(Refusal::Stopped(stop)) => {
                self.agent
                    .store
                    .write_attempt(self.round.study, &stop.record)
                    .await?;
                self.agent.complain(self.round, &stop).await?;
                if let Err(Over(why)) = self.send(stop.complaint).await {
                    warn!(round = %self.round, why, "the complaint was not heard");
                }
                Ok(Err(Over(stop.violation.to_string())))
            }
            Err(refusal) => Ok(Err(Over(refusal.to_string()))),
        }
    }

    async fn perform(&mut self, effects: Vec<Effect>) -> Talk<Given> {
        let mut given = Given::default();
        for effect in effects {
            match effect {
                Effect::Persist(record) => {
                    self.agent
                        .store
                        .write_attempt(self.round.study, &record)
                        .await?;
                }
                Effect::Upload(vector) => given.vector = Some(vector),
                Effect::Send(ToCoordinator::Trailer(trailer)) => given.trailer = Some(trailer),
                Effect::Send(message) => {
                    if let Err(over) = self.send(message).await {
                        return Ok(Err(over));
                    }
                }
                Effect::Concluded(outcome) => given.outcome = Some(outcome),
            }
        }
        Ok(Ok(given))
    }

    /// Sends a message, with retries until the deadline: the same one again changes nothing.
    async fn send(&self, message: ToCoordinator) -> Result<(), Over> {
        let message = match message {
            ToCoordinator::Keys(bytes) => site_message::Message::Keys(bytes),
            ToCoordinator::Shares(bytes) => site_message::Message::Shares(bytes),
            ToCoordinator::Confirm(bytes) => site_message::Message::Confirmation(bytes),
            ToCoordinator::Unmask(bytes) => site_message::Message::Answer(bytes),
            ToCoordinator::Complaint(bytes) => site_message::Message::Complaint(bytes),
            ToCoordinator::Trailer(_) => return Ok(()), // it ends an upload
        };
        let message = wire::SiteMessage {
            round: Some(self.round.into()),
            message: Some(message),
        };
        let sending = self.until_heard(|mut client| {
            let request = with_timeout(message.clone());
            async move { client.send_message(request).await }
        });
        match tokio::time::timeout_at(self.deadline, sending).await {
            Ok(sent) => sent.map(drop),
            Err(_) => Err(Over("its deadline has passed".into())),
        }
    }

    /// Waits for what this site is to hear.
    async fn hear(&self) -> Result<ToSite, Over> {
        use coordinator_message::Message;

        let poll = self.agent.settings.poll;
        loop {
            let answer = self.until_heard(|mut client| {
                let mut request = Request::new(wire::MessageRequest {
                    round: Some(self.round.into()),
                    wait_seconds: poll.as_secs() as u32,
                });
                request.set_timeout(poll + POLL_GRACE);
                async move { client.next_message(request).await }
            });
            let message = match answer.await?.message {
                Some(message) => message,
                None => {
                    // A coordinator that does not hold the question must not be asked in a rush.
                    if poll < self.agent.settings.retry_first {
                        tokio::time::sleep(self.agent.settings.retry_first).await;
                    }
                    continue;
                }
            };
            return Ok(match message {
                Message::PeerKeys(bytes) => ToSite::PeerKeys(bytes),
                Message::PeerShares(bytes) => ToSite::PeerShares(bytes),
                Message::Survivors(bytes) => ToSite::Survivors(bytes),
                Message::Confirmations(bytes) => ToSite::Confirmations(bytes),
                Message::Outcome(bytes) => ToSite::Outcome(bytes),
            });
        }
    }

    /// Calls again while the coordinator cannot be reached or is busy.
    async fn until_heard<T, F>(&self, call: impl Fn(RoundsClient<Channel>) -> F) -> Result<T, Over>
    where
        F: Future<Output = Result<tonic::Response<T>, tonic::Status>>,
    {
        let mut waits = self.agent.waits();
        loop {
            let client = RoundsClient::new(self.channel.clone());
            let status = match call(client.max_decoding_message_size(MESSAGE_LIMIT)).await {
                Ok(answer) => return Ok(answer.into_inner()),
                Err(status) => status,
            };
            let (code, reason) = explain(&status);
            let may_pass = matches!(
                code,
                ErrorCode::Unavailable | ErrorCode::Exhausted | ErrorCode::Internal
            );
            let Some(wait) = waits.next().filter(|_| may_pass) else {
                return Err(Over(reason));
            };
            tokio::time::sleep(wait).await;
        }
    }
}

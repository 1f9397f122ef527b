//! The running agent: dials out, asks for work, trains, sends, and begins again for ever.
//!
//! Nothing calls a site. Two loops share one connection: one asks for work and does it, the other
//! looks for studies and sends decisions. A question for work that fails ends the session, and the
//! next one starts after a jittered wait; a training under way outlives any loss of connection.
//! What a round has reached is on disk at every moment ([`crate::store`]), so that a crash loses
//! nothing and repeats nothing.

mod assignment;
mod charging;
mod download;
mod report;
mod round;
mod secure;
mod upload;

use std::{
    convert::Infallible,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use backon::{BackoffBuilder as _, ExponentialBuilder};
use consilium_models::network::Device;
use consilium_privacy::seal::SealingKey;
use consilium_proto::{
    ErrorCode, Role, RoundId, Signed,
    chunk::MESSAGE_LIMIT,
    rpc::explain,
    wire::{self, DeclineReason, rounds_client::RoundsClient},
};
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Status, transport::Channel};
use tracing::{error, info, warn};

use self::assignment::Distrust;
pub(crate) use self::download::version;
use crate::{
    consent,
    membership::{Membership, MembershipError},
    policy::Policy,
    receipts::{ReceiptError, Receipts, StaleLedger},
    settings::{Settings, SettingsError},
    store::{ChargeError, FolderLock, Store, StoreError},
    training::Preparation,
};

/// What a held question for work may take longer than asked for.
const POLL_GRACE: Duration = Duration::from_secs(15);
/// Longest wait for the answer to a short question.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);

/// Why an agent ended. A lost connection is no reason.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// The folder's member cannot be opened, was revoked, or was shown a forked roster.
    #[error(transparent)]
    Membership(#[from] MembershipError),
    /// The folder belongs to a member that is no site.
    #[error("this folder belongs to a {0}: only a site runs an agent")]
    NotASite(Role),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The policy cannot be read.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// The ledger does not verify or cannot be read.
    #[error(transparent)]
    Ledger(#[from] ChargeError),
    /// The ledger is not the one that the coordinator has heard of.
    #[error(transparent)]
    Stale(#[from] StaleLedger),
}

impl AgentError {
    /// What the caller should do about it.
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Membership(error) => error.code(),
            Self::Store(error) | Self::Ledger(ChargeError::Store(error)) => error.code(),
            Self::NotASite(_) | Self::Settings(_) => ErrorCode::Invalid,
            Self::Stale(_) => ErrorCode::Precondition,
            Self::Ledger(_) => ErrorCode::Internal,
        }
    }
}

/// Why a connection was given up. The next one may do better.
#[derive(Debug, thiserror::Error)]
enum SessionError {
    #[error("{0}")]
    Call(String),
    #[error(transparent)]
    Membership(#[from] MembershipError),
    /// The coordinator showed something that is not believed.
    #[error(transparent)]
    Distrust(#[from] Distrust),
    /// The coordinator's log of ledgers is not believed, or not reached.
    #[error(transparent)]
    Receipt(ReceiptError),
    /// The database is locked or the disk is full: that may pass.
    #[error(transparent)]
    Store(StoreError),
    /// This site cannot go on by itself.
    #[error(transparent)]
    Fatal(#[from] AgentError),
}

impl From<Status> for SessionError {
    fn from(status: Status) -> Self {
        Self::Call(explain(&status).1)
    }
}

impl From<StoreError> for SessionError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Locked(_) | StoreError::Full(_) => Self::Store(error),
            error => AgentError::from(error).into(),
        }
    }
}

impl From<ReceiptError> for SessionError {
    fn from(error: ReceiptError) -> Self {
        match error {
            ReceiptError::Stale(error) => AgentError::from(error).into(),
            ReceiptError::Ledger(error) => AgentError::from(error).into(),
            ReceiptError::Store(error) => error.into(),
            error => Self::Receipt(error),
        }
    }
}

impl SessionError {
    /// What ends the agent: a person has to look.
    fn into_fatal(self) -> Result<AgentError, Self> {
        match self {
            Self::Fatal(error) => Ok(error),
            Self::Membership(error @ (MembershipError::Fork { .. } | MembershipError::Revoked)) => {
                Ok(error.into())
            }
            other => Err(other),
        }
    }
}

/// A hospital's node.
pub struct Agent {
    membership: Membership,
    store: Store,
    settings: Settings,
    preparation: Preparation,
    devices: Vec<Device>,
    /// Rounds this site has said it cannot do: said once.
    declined: Mutex<Option<RoundId>>,
    _lock: FolderLock,
}

impl Agent {
    /// Opens a site's folder. One agent runs on a folder at a time.
    ///
    /// # Errors
    /// No site's folder, another sealing key, a damaged or newer store, another agent on it, a
    /// policy that cannot be read, a ledger that does not verify.
    pub async fn open(
        folder: &Path,
        key: Arc<SealingKey>,
        settings: Settings,
    ) -> Result<Self, AgentError> {
        let membership = Membership::open(folder, &key)?;
        if membership.role() != Role::Site {
            return Err(AgentError::NotASite(membership.role()));
        }
        let _lock = FolderLock::take(folder)?;
        let store = Store::open(folder, key).await?;
        Policy::load(&policy_file(folder))?;
        store.ledger_entries().await?;
        let (preparation, declined) = (Preparation::default(), Mutex::default());
        Ok(Self {
            membership,
            store,
            settings,
            preparation,
            devices: Vec::new(),
            declined,
            _lock,
        })
    }

    /// The same agent, which trains on these devices instead of the processor. They have passed their test:
    /// what they are is decided by whoever starts the agent.
    pub fn training_on(self, devices: Vec<Device>) -> Self {
        Self { devices, ..self }
    }

    /// What this agent remembers.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Who this agent is.
    pub fn membership(&self) -> &Membership {
        &self.membership
    }

    /// Works until it is told to stop. A training under way stops within one microbatch; its
    /// charge stays, and pays for its repetition.
    ///
    /// # Errors
    /// What a person has to look at: revoked, a forked roster, a store that fails.
    pub async fn run(self, stop: CancellationToken) -> Result<(), AgentError> {
        info!(member = %self.membership.name(), "agent started");
        let ended = stop.run_until_cancelled(Box::pin(self.sessions())).await;
        info!("agent stopped");
        self.store.close().await;
        ended.unwrap_or(Ok(()))
    }

    /// One connection after the other.
    async fn sessions(&self) -> Result<(), AgentError> {
        let mut waits = self.waits();
        loop {
            let began = tokio::time::Instant::now();
            let error = match Box::pin(self.session()).await {
                // Only to renew the certificate.
                Ok(()) => continue,
                Err(error) => error.into_fatal(),
            };
            let error = match error {
                Ok(fatal) => {
                    error!(error = explained(&fatal), "agent cannot go on");
                    return Err(fatal);
                }
                Err(error) => error,
            };
            if began.elapsed() > self.settings.retry_longest {
                waits = self.waits();
            }
            let wait = waits.next().unwrap_or(self.settings.retry_longest);
            warn!(
                error = explained(&error),
                ?wait,
                "no session with the coordinator, trying again"
            );
            tokio::time::sleep(wait).await;
        }
    }

    fn waits(&self) -> impl Iterator<Item = Duration> + use<> {
        ExponentialBuilder::new()
            .with_min_delay(self.settings.retry_first)
            .with_max_delay(self.settings.retry_longest)
            .without_max_times()
            .with_jitter()
            .build()
    }

    async fn session(&self) -> Result<(), SessionError> {
        let channel = self.membership.connect().await?;
        let roster = self.membership.refresh_roster(channel.clone()).await?;
        info!(epoch = roster.epoch(), "connected to the coordinator");
        self.meet(&channel).await?;
        tokio::select! {
            ended = self.work(channel.clone()) => ended,
            never = self.consent(channel) => match never {},
        }
    }

    /// Whether the ledger here is the one that the coordinator has heard of: nothing is trained
    /// with an older copy, or for a coordinator that has told two histories. Entries that no update
    /// followed, such as a noisy count's, are logged now.
    async fn meet(&self, channel: &Channel) -> Result<(), SessionError> {
        let receipts = Receipts::open(&self.store, &self.membership).await?;
        let met = match receipts.compare(channel).await {
            Ok(()) => receipts.obtain(channel).await,
            Err(error) => Err(error),
        };
        if let Err(error @ ReceiptError::Distrust(_)) = &met {
            error!(%error, "no round is joined");
        }
        Ok(met?)
    }

    /// Looks for studies, decides where the policy says so, sends decisions; for ever.
    async fn consent(&self, channel: Channel) -> Infallible {
        let mut ticks = tokio::time::interval(self.settings.look_for_studies);
        loop {
            ticks.tick().await;
            let now = SystemTime::now();
            let turn = async {
                consent::look(channel.clone(), &self.store, now).await?;
                match self.policy() {
                    Ok(policy) => {
                        consent::decide_by_policy(&self.store, &policy, now).await?;
                    }
                    Err(error) => error!(%error, "policy cannot be read, nothing is decided"),
                }
                consent::send(channel.clone(), &self.store).await
            };
            match tokio::time::timeout(CALL_TIMEOUT, turn).await {
                Ok(Ok(_)) => {}
                // Neither one study nor a lost connection may end what the other loop trains.
                Ok(Err(error)) => warn!(error = explained(&error), "could not settle studies"),
                Err(_) => warn!("no answer about studies"),
            }
        }
    }

    /// Asks for work and does it, until the certificate has to be renewed.
    async fn work(&self, channel: Channel) -> Result<(), SessionError> {
        let mut client =
            RoundsClient::new(channel.clone()).max_decoding_message_size(MESSAGE_LIMIT);
        while !self.membership.needs_certificate()? {
            let wait_seconds = self.settings.poll.as_secs() as u32;
            let mut request = Request::new(wire::WorkRequest { wait_seconds });
            request.set_timeout(self.settings.poll + POLL_GRACE);
            let work = client.next_work(request).await?.into_inner();
            let Some(signed) = work.round_spec else {
                // An idle coordinator that does not hold the question must not be asked in a rush.
                if self.settings.poll < self.settings.retry_first {
                    tokio::time::sleep(self.settings.retry_first).await;
                }
                continue;
            };
            let signed = Signed::try_from(signed).map_err(Distrust::from)?;
            self.take_part(&channel, signed, work.now).await?;
        }
        Ok(())
    }

    async fn decline(
        &self,
        channel: &Channel,
        round: RoundId,
        reason: DeclineReason,
        why: &str,
    ) -> Result<(), SessionError> {
        let is_new = self.declined.lock().await.replace(round) != Some(round);
        if is_new {
            warn!(%round, ?reason, why, "round declined");
        }
        let request = wire::DeclineRequest {
            round: Some(round.into()),
            reason: reason.into(),
        };
        let mut client = RoundsClient::new(channel.clone());
        if let Err(status) = client.decline(with_timeout(request)).await {
            match explain(&status) {
                (ErrorCode::Unavailable, reason) => return Err(SessionError::Call(reason)),
                // The round went on without this site.
                (_, reason) => info!(%round, reason, "declining was not heard"),
            }
        }
        // The coordinator may offer it again; it must not become a busy loop.
        tokio::time::sleep(self.settings.retry_first).await;
        Ok(())
    }

    fn policy(&self) -> Result<Policy, SettingsError> {
        Policy::load(&policy_file(self.store.folder()))
    }
}

impl std::fmt::Debug for Agent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Agent({})", self.membership.name())
    }
}

/// The policy of a folder.
pub fn policy_file(folder: &Path) -> PathBuf {
    folder.join("policy.toml")
}

/// The settings of a folder.
pub fn settings_file(folder: &Path) -> PathBuf {
    folder.join("agent.toml")
}

fn with_timeout<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(CALL_TIMEOUT);
    request
}

/// An error with its causes, in one line.
pub(crate) fn explained(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

//! Past rounds, repeated inside the hospital from the secrets it kept.
//!
//! Reads what a running agent reads: nothing is charged, recorded or sent, and no update comes of
//! it. A round is repeated from the ledger's charge, the secret that it committed to, the plan, the
//! data set and the weights it started from, and ends in a digest that must be the ledger's.
//! What of this has changed since is said: then there is nothing to compare.
//!
//! A patient who opted out after a round has a say here, too: that round is not repeated.

mod past;
mod start;

use std::{path::Path, sync::Arc, thread};

use consilium_models::{
    network::{Network, NetworkError},
    training::{
        Progress, StopFlag, TrainError,
        audit::{PastRound, Product, Replay, Seen, Subject, replay_round},
    },
};
use consilium_privacy::{
    accountant::ClippingNorm,
    keystream::{Commitment, MasterSecret},
    ledger::{Entry, Made},
    step::StepError,
};
use consilium_proto::{ErrorCode, ModelDigest, ParameterVector, Plan, StudyId, plan::Mode};
use tracing::debug;

pub use self::past::Terms;
use self::{
    past::{Past, past_rounds},
    start::Starts,
};
use crate::{
    data::TrainingSet,
    membership::{Membership, MembershipError},
    participation::explained,
    settings::Settings,
    store::{ChargeError, KnownStudy, Store, StoreError},
    training::{Preparation, StopOnDrop, blocking},
};

/// Why nothing is replayed.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// This site has not seen the study.
    #[error("study {0} is not known here")]
    UnknownStudy(StudyId),
    /// The ledger has no charge for its training.
    #[error("the ledger has no charge for study {0}: it was not trained here, or without privacy")]
    NotCharged(StudyId),
    /// Nor one for a round that was asked for.
    #[error("the ledger has no charge for round {0} of this study")]
    UnknownRound(u32),
    /// The plan's network cannot be built.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The ledger does not verify.
    #[error(transparent)]
    Ledger(#[from] ChargeError),
    /// The member's folder cannot be read.
    #[error(transparent)]
    Membership(#[from] MembershipError),
}

impl ReplayError {
    /// What the caller should do about it.
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::UnknownStudy(_) | Self::NotCharged(_) | Self::UnknownRound(_) => {
                ErrorCode::Missing
            }
            Self::Store(error) | Self::Ledger(ChargeError::Store(error)) => error.code(),
            Self::Membership(error) => error.code(),
            Self::Network(_) => ErrorCode::Invalid,
            Self::Ledger(_) => ErrorCode::Internal,
        }
    }
}

/// Why a round is not that of the ledger.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Difference {
    /// The replay ends in another update.
    #[error("its update is another one")]
    Update,
    /// The ledger says other terms than the plan.
    #[error("the ledger has {recorded}, the plan says {planned}")]
    Terms {
        /// What the entries say.
        recorded: Terms,
        /// What the plan says.
        planned: Terms,
    },
    /// The clipping norm went elsewhere.
    #[error("its clipping norm ends at {repeated}, the ledger has {recorded}")]
    ClippingNorm {
        /// What the ledger says.
        recorded: ClippingNorm,
        /// Where the replay ends.
        repeated: ClippingNorm,
    },
    /// It was charged with other noise than the rounds before.
    #[error("it was charged with another sampling rate or noise than round {0}")]
    Charge(u32),
    /// A step was refused, or its update is not finite.
    #[error(transparent)]
    Step(#[from] StepError),
}

/// What keeps a round from being repeated.
#[derive(Debug, thiserror::Error)]
pub enum Obstacle {
    /// It was interrupted.
    #[error("it was charged and no update was recorded: it never ended")]
    NeverEnded,
    /// Its noise is one share of many.
    #[error("its noise was added by all sites together: what one of them did is in no update")]
    Shared,
    /// There is no secret to repeat it from.
    #[error("its secret {0} is no longer in the folder `keys`")]
    SecretRemoved(Commitment),
    /// There is one, which cannot be used.
    #[error("its secret cannot be read")]
    Secret(#[source] StoreError),
    /// The charge commits to no secret.
    #[error("its charge names no secret")]
    NoSecret,
    /// The data set is gone.
    #[error("the data set {0:?} is no longer registered")]
    NoDataSet(String),
    /// The records may be others now.
    #[error("the data set {0:?} was registered anew since")]
    RegisteredAnew(String),
    /// There are fewer patients now.
    #[error("patients of the data set {0:?} have opted out since")]
    OptedOut(String),
    /// The data set cannot be used.
    #[error("{0}")]
    DataSet(String),
    /// Some records are not what they were.
    #[error("{times} draws met a record that cannot be used as it was registered: {first}")]
    Records {
        /// How often one was drawn.
        times: u64,
        /// What is wrong with the first.
        first: String,
    },
    /// The weights it started from are nowhere.
    #[error("the weights that it started from are missing: {0}")]
    StartWeights(String),
    /// It cannot be trained here.
    #[error("{0}")]
    Training(String),
}

/// What a replay says of a round.
#[derive(Debug)]
pub enum Verdict {
    /// The same update, bit for bit.
    Agrees,
    /// Another one.
    Differs(Difference),
    /// Nothing can be said.
    NotRepeated(Obstacle),
}

/// One round.
#[derive(Debug)]
pub struct Round {
    /// Counted from 1.
    pub number: u32,
    /// Position of its charge in the ledger.
    pub entry: u64,
    /// What the ledger says of it.
    pub charged: Terms,
    /// Digest of the update, as the ledger has it.
    pub recorded: Option<[u8; 32]>,
    /// What came of it.
    pub verdict: Verdict,
    /// What was seen, where it was repeated to its end.
    pub replay: Option<Replay>,
}

/// A study's rounds at this site, replayed. What was seen depends on the number of patients: it
/// stays in the hospital.
#[derive(Debug)]
pub struct Replays {
    /// What people call the study.
    pub name: String,
    /// In the order of the ledger.
    pub rounds: Vec<Round>,
    /// Noise and batches of all repeated rounds together.
    pub seen: Seen,
}

/// What to replay.
#[derive(Debug, Clone, Copy)]
pub struct Question<'a> {
    /// The study.
    pub study: StudyId,
    /// Rounds, counted from 1; all if empty.
    pub rounds: &'a [u32],
    /// A folder with files of weights, looked through before the coordinator is asked.
    pub versions: Option<&'a Path>,
}

/// Repeats rounds of a study. An agent may run on the same folder meanwhile.
///
/// # Errors
/// A study or round that the ledger does not know, a store that fails. What keeps a single round
/// from being repeated is a [`Verdict`].
pub async fn replay(
    membership: &Membership,
    store: &Store,
    settings: &Settings,
    question: Question<'_>,
    mut progress: impl FnMut(&Round),
) -> Result<Replays, ReplayError> {
    let id = question.study;
    let study = store
        .study(id)
        .await?
        .ok_or(ReplayError::UnknownStudy(id))?;
    let entries = store.ledger_entries().await?;
    let pasts = past_rounds(&entries, id);
    let first = pasts.first().ok_or(ReplayError::NotCharged(id))?.clone();
    let is_known = |round: &&u32| pasts.iter().any(|past| past.round == **round);
    if let Some(round) = question.rounds.iter().find(|round| !is_known(round)) {
        return Err(ReplayError::UnknownRound(*round));
    }
    let network = Arc::new(Network::from_plan(&study.plan)?);
    let mut repetition = Repetition {
        store,
        study: &study,
        network: network.clone(),
        preparation: Preparation::default(),
        settings,
        starts: Starts::new(
            membership,
            &study,
            network,
            settings.text_encoder.as_deref(),
            question.versions,
        ),
        first: &first,
        seen: Seen::new(first.terms.sampling_rate),
    };
    let mut rounds = Vec::new();
    let asked = |past: &Past| question.rounds.is_empty() || question.rounds.contains(&past.round);
    for past in pasts.iter().filter(|past| asked(past)) {
        let (verdict, replay) = repetition.repeat(past).await?;
        let round = Round {
            number: past.round,
            entry: past.charge.sequence,
            charged: past.terms,
            recorded: past.made.map(|made| made.update),
            verdict,
            replay,
        };
        progress(&round);
        rounds.push(round);
    }
    Ok(Replays {
        name: study.plan.name.clone(),
        rounds,
        seen: repetition.seen,
    })
}

/// What all rounds of a study are repeated with.
struct Repetition<'a> {
    store: &'a Store,
    study: &'a KnownStudy,
    network: Arc<Network>,
    preparation: Preparation,
    settings: &'a Settings,
    starts: Starts<'a>,
    first: &'a Past,
    seen: Seen,
}

impl Repetition<'_> {
    /// Repeats a round, as far as it can be, and compares it with the ledger.
    async fn repeat(&mut self, past: &Past) -> Result<(Verdict, Option<Replay>), ReplayError> {
        let Some(made) = past.made else {
            return Ok((Verdict::NotRepeated(Obstacle::NeverEnded), None));
        };
        if self.study.plan.privacy.mode == Mode::Distributed {
            return Ok((Verdict::NotRepeated(Obstacle::Shared), None));
        }
        if let Err(difference) = past.agrees_with(&self.study.plan, self.first) {
            return Ok((Verdict::Differs(difference), None));
        }
        let work = match self.prepare(past, &made).await? {
            Ok(work) => work,
            Err(obstacle) => return Ok((Verdict::NotRepeated(obstacle), None)),
        };
        let seen = self.seen.clone();
        let stop = StopFlag::default();
        let _guard = StopOnDrop(stop.clone());
        let (replay, seen) = blocking(move || work.run(seen, &stop)).await;
        let replay = match replay {
            Ok(replay) => replay,
            Err(TrainError::Step(error)) => return Ok((Verdict::Differs(error.into()), None)),
            Err(error) => {
                let obstacle = Obstacle::Training(explained(&error));
                return Ok((Verdict::NotRepeated(obstacle), None));
            }
        };
        self.seen = seen;
        let (recorded, repeated) = (made.next_clipping_norm, replay.next_clipping_norm);
        if replay.digest == made.update {
            let verdict = match recorded == repeated {
                true => Verdict::Agrees,
                false => Verdict::Differs(Difference::ClippingNorm { recorded, repeated }),
            };
            return Ok((verdict, Some(replay)));
        }
        // Somebody may have opted out while it ran.
        let obstacle = match self.obstacle(past).await? {
            Some(obstacle) => Some(obstacle),
            None => replay.first_reason.as_ref().map(|first| Obstacle::Records {
                times: replay.unreadable,
                first: explained(first.as_ref()),
            }),
        };
        let verdict = match obstacle {
            Some(obstacle) => Verdict::NotRepeated(obstacle),
            None => Verdict::Differs(Difference::Update),
        };
        Ok((verdict, Some(replay)))
    }

    /// Everything that a round is repeated from.
    async fn prepare(
        &mut self,
        past: &Past,
        made: &Made,
    ) -> Result<Result<Work, Obstacle>, ReplayError> {
        if let Some(obstacle) = self.obstacle(past).await? {
            return Ok(Err(obstacle));
        }
        let secret = match self.secret(past).await {
            Ok(secret) => secret,
            Err(obstacle) => return Ok(Err(obstacle)),
        };
        let plan = &self.study.plan;
        let prepared = self
            .preparation
            .prepare(self.store, self.study.id, plan, self.settings)
            .await;
        let set = match prepared {
            Ok(set) => set,
            Err(error) => return Ok(Err(Obstacle::DataSet(explained(&error)))),
        };
        let weights = match self
            .starts
            .find(past.round, ModelDigest(made.start.into()))
            .await
        {
            Ok(weights) => weights,
            Err(why) => return Ok(Err(Obstacle::StartWeights(why))),
        };
        Ok(Ok(Work {
            plan: plan.clone(),
            network: self.network.clone(),
            set,
            weights,
            secret,
            charge: past.charge.clone(),
            round: past.round,
            terms: past.terms,
            clipping_norm: made.clipping_norm,
        }))
    }

    /// What of the data set has changed since the round was charged.
    async fn obstacle(&self, past: &Past) -> Result<Option<Obstacle>, StoreError> {
        let name = &past.data_set;
        let Some(data_set) = self.store.data_set(name).await? else {
            return Ok(Some(Obstacle::NoDataSet(name.clone())));
        };
        if data_set.registered_at > past.charge.at {
            return Ok(Some(Obstacle::RegisteredAnew(name.clone())));
        }
        // Within the same second nobody knows which came first: better no verdict than a wrong one.
        let last = self.store.last_exclusion(name).await?;
        let is_later = last.is_some_and(|last| last >= past.charge.at);
        Ok(is_later.then(|| Obstacle::OptedOut(name.clone())))
    }

    async fn secret(&self, past: &Past) -> Result<MasterSecret, Obstacle> {
        let key = past.key.ok_or(Obstacle::NoSecret)?;
        let store = self.store.clone();
        match blocking(move || store.secret(&key)).await {
            Ok(secret) => secret.ok_or(Obstacle::SecretRemoved(key)),
            Err(error) => Err(Obstacle::Secret(error)),
        }
    }
}

/// One round, for a thread that may block.
struct Work {
    plan: Plan,
    network: Arc<Network>,
    set: Arc<TrainingSet>,
    weights: ParameterVector,
    secret: MasterSecret,
    charge: Entry,
    round: u32,
    terms: Terms,
    clipping_norm: ClippingNorm,
}

impl Work {
    fn run(self, mut all: Seen, stop: &StopFlag) -> (Result<Replay, TrainError>, Seen) {
        let replay = self.replay(&mut all, stop);
        (replay, all)
    }

    fn replay(&self, all: &mut Seen, stop: &StopFlag) -> Result<Replay, TrainError> {
        let (terms, clipping_norm) = (self.terms, self.clipping_norm);
        let (plan, network) = (&self.plan, &*self.network);
        let product = Product::replay(&self.charge, &self.secret, plan, network, clipping_norm)?;
        self.set.begin(stop.clone());
        let subject = Subject {
            plan,
            network,
            examples: &*self.set,
            threads: thread::available_parallelism().unwrap_or(std::num::NonZeroUsize::MIN),
            stop,
        };
        let past = PastRound {
            round: self.round,
            weights: &self.weights,
            sampling_rate: terms.sampling_rate,
            noise_multiplier: terms.noise_multiplier,
            clipping_norm,
        };
        let progress = |Progress { step, steps }| debug!(step, steps, "step repeated");
        replay_round(subject, &past, product, all, progress)
    }
}

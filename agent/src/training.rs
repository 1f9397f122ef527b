//! One round's training at this site: charged first, on a thread that may block, stored last.

mod pace;

use std::{
    collections::HashSet,
    num::{NonZeroU32, NonZeroUsize},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::Instant,
};

use consilium_models::{
    network::{Device, Network},
    training::{
        self as models, Job, LoadError, LocalReport, Progress, Protection, StopFlag, TrainError,
        train_round,
    },
};
use consilium_privacy::step::{NoisyShare, PrivateUpdate};
use consilium_proto::{ParameterVector, Plan, StudyId};
use tokio::runtime::Handle;
use tracing::{debug, info, warn};

use self::pace::{Pace, Report};
use crate::{
    data::{DataError, Deidentify, Exclusions, Manifest, Means, Source, TrainingSet},
    participation::explained,
    settings::Settings,
    store::{Store, StoreError},
};

/// Bytes of the unit that the cache's size is given in.
const MEBIBYTE: u64 = 1 << 20;

/// Why a round was not trained.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TrainingError {
    /// The data set cannot be used for this plan.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The data set is not registered.
    #[error("no data set {0:?} is registered here")]
    NoDataSet(String),
    /// The training itself failed.
    #[error(transparent)]
    Train(#[from] TrainError),
    /// The update cannot be stored.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What a site trains on, kept from round to round so that images are decoded once.
#[derive(Default)]
pub(crate) struct Preparation {
    present: Mutex<Option<Prepared>>,
}

#[derive(Clone)]
struct Prepared {
    study: StudyId,
    registered_at: u64,
    set: Arc<TrainingSet>,
}

/// The exclusions of one data set, asked of the store.
struct StoredExclusions {
    store: Store,
    data_set: String,
    runtime: Handle,
}

impl Exclusions for StoredExclusions {
    fn now(&self) -> Result<HashSet<String>, LoadError> {
        Ok(self.runtime.block_on(self.store.excluded(&self.data_set))?)
    }
}

impl Preparation {
    /// Binds the plan's data set to a study, or takes what was bound for its last round.
    pub(crate) async fn prepare(
        &self,
        store: &Store,
        study: StudyId,
        plan: &Plan,
        settings: &Settings,
    ) -> Result<Arc<TrainingSet>, TrainingError> {
        let missing = || TrainingError::NoDataSet(plan.data_set.clone());
        let data_set = store.data_set(&plan.data_set).await?.ok_or_else(missing)?;
        let registered_at = data_set.registered_at;
        let present = self
            .present
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        if let Some(present) = present
            && (present.study, present.registered_at) == (study, registered_at)
        {
            return Ok(present.set);
        }
        let manifest = store.manifest(&plan.data_set).await?.ok_or_else(missing)?;
        let exclusions = Box::new(StoredExclusions {
            store: store.clone(),
            data_set: plan.data_set.clone(),
            runtime: Handle::current(),
        });
        let (plan, settings) = (plan.clone(), settings.clone());
        let key = store.pseudonyms();
        let set = blocking(move || {
            let manifest: Manifest = serde_json::from_slice(&manifest)
                .map_err(|_| DataError::Manifest(plan.data_set.clone()))?;
            let deidentify = match manifest.source {
                Source::Notes {
                    is_deidentified: false,
                    ..
                } => Some(Deidentify::new(&settings.identifiers, key)?),
                _ => None,
            };
            let means = Means {
                encoder: settings.text_encoder.as_deref(),
                deidentify,
                is_numbered: manifest.source.numbers_classes(),
            };
            let cache_bytes = settings.cache_mebibytes * MEBIBYTE;
            TrainingSet::new(manifest, &plan, exclusions, cache_bytes, means)
        });
        let set = Arc::new(set.await?);
        let prepared = Prepared {
            study,
            registered_at,
            set: set.clone(),
        };
        *self.present.lock().unwrap_or_else(PoisonError::into_inner) = Some(prepared);
        Ok(set)
    }
}

/// One round's work.
pub(crate) struct Work {
    pub(crate) study: StudyId,
    pub(crate) round: u32,
    pub(crate) plan: Plan,
    pub(crate) network: Arc<Network>,
    pub(crate) weights: ParameterVector,
    pub(crate) set: Arc<TrainingSet>,
    /// Where gradients are computed; the processor if there is none.
    pub(crate) devices: Vec<Device>,
    pub(crate) protection: Protection,
    /// ε of the study so far, this round included; none without privacy.
    pub(crate) epsilon: Option<f64>,
}

/// Trains and stores the update, sealed; then nothing about this round changes any more. Stops
/// within one microbatch when the waiting side is dropped.
pub(crate) async fn train(store: Store, work: Work) -> Result<Arc<PrivateUpdate>, TrainingError> {
    let stop = StopFlag::default();
    let _guard = StopOnDrop(stop.clone());
    let span = tracing::info_span!("train", study = %work.study, round = work.round);
    blocking(move || span.in_scope(|| run(&store, work, &stop))).await
}

/// Takes the one step of a distributed round. Nothing of it is stored. Stops within one microbatch when
/// the waiting side is dropped.
pub(crate) async fn train_share(
    work: Work,
    shares: NonZeroU32,
) -> Result<NoisyShare, TrainingError> {
    let stop = StopFlag::default();
    let _guard = StopOnDrop(stop.clone());
    let span = tracing::info_span!("train", study = %work.study, round = work.round);
    blocking(move || span.in_scope(|| run_share(work, shares, &stop))).await
}

fn run_share(work: Work, shares: NonZeroU32, stop: &StopFlag) -> Result<NoisyShare, TrainingError> {
    let threads = thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
    let placed = on_devices(&work.plan, &work.devices);
    let network = placed.as_ref().unwrap_or(&work.network);
    info!(
        device = names(network),
        threads, shares, "taking the round's step"
    );
    work.set.begin(stop.clone());
    let job = Job {
        plan: &work.plan,
        network,
        weights: &work.weights,
        round: work.round,
        protection: work.protection,
        threads,
    };
    let outcome = models::train_share(job, shares, &*work.set, stop)?;
    report(network);
    tell(&outcome.local);
    Ok(outcome.share)
}

fn run(store: &Store, work: Work, stop: &StopFlag) -> Result<Arc<PrivateUpdate>, TrainingError> {
    let Work {
        study,
        round,
        plan,
        network,
        weights,
        set,
        devices,
        protection,
        epsilon,
    } = work;
    let threads = thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
    let placed = on_devices(&plan, &devices);
    let network = placed.as_ref().unwrap_or(&network);
    info!(
        device = names(network),
        threads,
        steps = plan.training.steps,
        "training"
    );
    set.begin(stop.clone());
    let (plan, weights) = (&plan, &weights);
    let job = Job {
        plan,
        network,
        weights,
        round,
        protection,
        threads,
    };
    let mut pace = Pace::new();
    let progress = |progress: Progress| {
        debug!(step = progress.step, steps = progress.steps, "step taken");
        let Some(report) = pace.note(progress, Instant::now()) else {
            return;
        };
        let Report { step, steps, .. } = report;
        let steps_per_second = format!("{:.2}", report.steps_per_second);
        let left = humantime::format_duration(report.left_in_seconds());
        info!(step, steps, steps_per_second, %left, epsilon, "training");
    };
    let outcome = train_round(job, &*set, stop, progress)?;
    report(network);
    tell(&outcome.local);
    if let Some(profile) = network.profile() {
        for row in profile.take().rows {
            let (part, calls) = (row.part, row.calls);
            let seconds = format!("{:.3}", row.seconds);
            let share = format!("{:.3}", row.share);
            info!(
                part,
                calls, seconds, share, "where the time of the round went"
            );
        }
    }
    store.spool(study, round, &outcome.update)?;
    info!("update stored");
    Ok(Arc::new(outcome.update))
}

/// Says what went wrong with single records, in this hospital's own log.
fn tell(local: &LocalReport) {
    if local.unreadable > 0 || local.not_finite > 0 {
        let reason = local
            .first_reason
            .as_ref()
            .map_or_else(String::new, |reason| reason.to_string());
        let (unreadable, not_finite) = (local.unreadable, local.not_finite);
        warn!(
            unreadable,
            not_finite, reason, "some records counted as zeros"
        );
    }
}

/// A plan's network on these devices, if they compute it as the processor does.
fn on_devices(plan: &Plan, devices: &[Device]) -> Option<Network> {
    if devices.is_empty() {
        return None;
    }
    let network = Network::from_plan(plan).and_then(|network| network.on(devices));
    match network.and_then(|network| network.check().map(|()| network)) {
        Ok(network) => Some(network),
        Err(error) => {
            let error = explained(&error);
            warn!(
                error,
                "this network cannot be trained on the device, training on the cpu"
            );
            None
        }
    }
}

/// Where a network computes, for the log.
fn names(network: &Network) -> String {
    let devices = network.devices();
    let names: Vec<_> = devices.iter().map(|used| used.device.to_string()).collect();
    match names.is_empty() {
        true => Device::Cpu.to_string(),
        false => names.join(", "),
    }
}

/// Says what each device has done.
fn report(network: &Network) {
    for used in network.devices() {
        let (device, microbatches, examples) = (used.device, used.microbatches, used.largest);
        debug!(%device, microbatches, "computed");
        if used.is_reduced {
            warn!(%device, examples, "the device failed with larger microbatches and got smaller ones");
        }
    }
}

/// Raises a flag when the side that waits goes away.
pub(crate) struct StopOnDrop(pub(crate) StopFlag);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.stop();
    }
}

/// Runs on a thread that may block; a panic there goes on here.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

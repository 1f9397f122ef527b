//! Models of a site: copied into its folder, checked on its own records, put into service, taken back.
//!
//! ```text
//! models/<id>/plan.json  weights.safetensors  calibration.json
//! ```
//!
//! The store says which of them are in service. What a check finds is of the hospital's records: it stands in
//! the site's own records and leaves it nowhere else.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use consilium_models::{
    prediction::{Calibration, CalibrationFile, ImageModel, PredictionError},
    released::{Released, ReleasedError},
};
use consilium_privacy::seal::{self, FileError};
use consilium_proto::{
    Digest, ErrorCode, Plan,
    plan::{NoiseTarget, PlanError, Task},
};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::{
    settings::Margin,
    store::{Act, Deed, KnownModel, Store, StoreError},
};

/// Largest file of weights, in bytes.
pub const WEIGHTS_LIMIT: u64 = 2 << 30;

/// Says how good a model is on records of the site.
pub trait Examiner: Send + Sync {
    /// Scores a model. Takes long: for threads that may block.
    ///
    /// # Errors
    /// Why it cannot be scored, in words for the steward.
    fn score(&self, released: &Released) -> Result<Score, String>;
}

/// How good a model is.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Score {
    /// Which figure it is.
    pub figure: String,
    /// More is better.
    pub value: f64,
    /// Records that it was computed from.
    pub records: usize,
}

/// How a model comes into service.
#[derive(Clone, Copy)]
pub enum Gate<'a> {
    /// If its score is not below that of the one in service by more than the margin.
    Checked {
        /// Who scores.
        examiner: &'a Arc<dyn Examiner>,
        /// How much lower it may be.
        margin: Margin,
    },
    /// Without a look: a steward takes that upon themselves, and it is recorded.
    Unchecked,
}

/// What came of a check.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Activated {
    /// The model that is in service now.
    pub model: String,
    /// Its score; none without a check.
    pub score: Option<Score>,
    /// The score of the one that was in service; none where there was none, or without a check.
    pub before: Option<Score>,
}

/// Why something about models was not done.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// The plan is unsound.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The weights are not the plan's.
    #[error(transparent)]
    Released(#[from] ReleasedError),
    /// The model cannot look at pictures.
    #[error(transparent)]
    Prediction(#[from] PredictionError),
    /// A task that nothing here serves.
    #[error("models for `{0}` are not served: pictures by class and notes are")]
    Task(&'static str),
    /// The calibration is no such file, or another model's.
    #[error("the calibration is not of this model: `consilium model calibrate` makes one")]
    Calibration,
    /// The model's files are not what was copied in.
    #[error("the files of model {0} are not those that were added: add it again")]
    Changed(String),
    /// No such model.
    #[error("there is no model {0}: `agent model list` shows them")]
    Absent(String),
    /// It is in service already.
    #[error("model {0} is in service already")]
    Active(String),
    /// It is not in service.
    #[error("model {0} is not in service")]
    Inactive(String),
    /// It did not pass.
    #[error(
        "model {model} did not pass: {figure} {value:.4} on {records} records, {before:.4} of the one in service"
    )]
    Worse {
        /// Which.
        model: String,
        /// Which figure.
        figure: String,
        /// Its score.
        value: f64,
        /// Records that were scored.
        records: usize,
        /// The score of the one in service.
        before: f64,
    },
    /// It could not be scored.
    #[error("the check could not be made: {0}")]
    Check(String),
    /// A file cannot be read or written.
    #[error("{} cannot be used", path.display())]
    Folder {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file cannot be written.
    #[error(transparent)]
    File(#[from] FileError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl ModelError {
    /// What the caller should do about it.
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Absent(_) => ErrorCode::Missing,
            Self::Active(_) | Self::Inactive(_) | Self::Worse { .. } | Self::Changed(_) => {
                ErrorCode::Precondition
            }
            Self::Folder { .. } | Self::File(_) => ErrorCode::Internal,
            Self::Store(error) => error.code(),
            _ => ErrorCode::Invalid,
        }
    }
}

/// Where an answer comes from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Provenance {
    /// The model's id here.
    pub(super) id: String,
    pub(super) sha256: Digest,
    pub(super) plan: Digest,
    pub(super) study: String,
    /// As planned.
    pub(super) rounds: u32,
    /// As planned, each round.
    pub(super) sites: u32,
    /// None without a guarantee, or where the plan sets the noise instead.
    pub(super) epsilon: Option<f64>,
    pub(super) delta: Option<f64>,
}

impl Provenance {
    fn of(known: &KnownModel, plan: &Plan) -> Self {
        let guarantee = plan.privacy.guarantee();
        let epsilon = guarantee
            .as_ref()
            .and_then(|promised| match promised.target {
                NoiseTarget::Epsilon(epsilon) => Some(epsilon),
                NoiseTarget::Multiplier(_) => None,
            });
        Self {
            id: known.id.clone(),
            sha256: known.sha256,
            plan: known.plan,
            study: known.study.clone(),
            rounds: plan.rounds,
            sites: plan.cohort.size,
            epsilon,
            delta: guarantee.map(|promised| promised.delta),
        }
    }
}

/// A model that is ready to serve.
pub(super) struct Loaded {
    pub(super) known: KnownModel,
    pub(super) provenance: Provenance,
    pub(super) released: Released,
    /// Of a model for pictures.
    pub(super) picture: Option<ImageModel>,
    pub(super) calibration: Option<Calibration>,
}

/// Whether models for a task are served, and of what.
fn is_for_pictures(task: Task) -> Result<bool, ModelError> {
    match task {
        Task::ImageClassification => Ok(true),
        Task::NoteClassification
        | Task::EntityTagging
        | Task::RelationExtraction
        | Task::Diagnosis => Ok(false),
        Task::ImageRegression | Task::TabularClassification => Err(ModelError::Task(task.name())),
    }
}

/// Copies a checked model into the site's folder. Safe to repeat; a calibration that comes later takes the
/// place of the one before. Blocks while it copies.
///
/// # Errors
/// Files that do not belong together, a task that is not served, a folder that cannot be written.
pub async fn add(
    store: &Store,
    plan: &Plan,
    weights: &[u8],
    calibration: Option<&[u8]>,
    now: SystemTime,
) -> Result<KnownModel, ModelError> {
    let released = Released::from_file(plan.clone(), weights)?;
    if is_for_pictures(plan.task)? {
        ImageModel::new(&released)?;
    }
    let sha256 = Digest::plain(weights);
    if let Some(bytes) = calibration {
        read_calibration(bytes, &sha256)?;
    }
    let mut id = sha256.to_string();
    id.truncate(16);
    let known = KnownModel {
        id,
        sha256,
        plan: plan.digest().0,
        study: plan.name.clone(),
        place: format!("{}/{}", plan.task.name(), plan.data_set),
        added_at: now
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default()
            .as_secs(),
        is_active: false,
    };
    let folder = folder(store, &known.id);
    fs::create_dir_all(&folder).map_err(|source| ModelError::Folder {
        path: folder.clone(),
        source,
    })?;
    // Each file is whole or not there; the row comes last.
    seal::write_private(&folder.join(PLAN), &plan.to_canonical())?;
    seal::write_private(&folder.join(WEIGHTS), weights)?;
    if let Some(bytes) = calibration {
        seal::write_private(&folder.join(CALIBRATION), bytes)?;
    }
    store.add_model(&known, "command line", now).await?;
    Ok(known)
}

const PLAN: &str = "plan.json";
const WEIGHTS: &str = "weights.safetensors";
const CALIBRATION: &str = "calibration.json";

fn folder(store: &Store, id: &str) -> PathBuf {
    store.folder().join("models").join(id)
}

fn read_calibration(bytes: &[u8], sha256: &Digest) -> Result<Calibration, ModelError> {
    let file: CalibrationFile =
        serde_json::from_slice(bytes).map_err(|_| ModelError::Calibration)?;
    match file.model_sha256 == sha256.to_string() {
        true => Ok(file.calibration),
        false => Err(ModelError::Calibration),
    }
}

/// Reads a model of the folder and checks that it is the one that was added. Blocks while it does.
pub(super) fn load(store: &Store, known: &KnownModel) -> Result<Loaded, ModelError> {
    let folder = folder(store, &known.id);
    let read = |name: &str| {
        let path = folder.join(name);
        fs::read(&path).map_err(|source| ModelError::Folder { path, source })
    };
    let plan = Plan::from_canonical(&read(PLAN)?)?;
    let released = Released::from_file(plan, &read(WEIGHTS)?)?;
    let plan = released.plan();
    if released.identity().sha256 != known.sha256.to_string() || plan.digest().0 != known.plan {
        return Err(ModelError::Changed(known.id.clone()));
    }
    let calibration = match read(CALIBRATION) {
        Ok(bytes) => Some(read_calibration(&bytes, &known.sha256)?),
        Err(ModelError::Folder { source, .. }) if source.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(error),
    };
    let picture = match is_for_pictures(plan.task)? {
        true => Some(ImageModel::new(&released)?),
        false => None,
    };
    Ok(Loaded {
        provenance: Provenance::of(known, plan),
        known: known.clone(),
        picture,
        calibration,
        released,
    })
}

/// Puts a model into service, if it passes.
///
/// # Errors
/// It is not there, in service already, cannot be read or scored, or its score is too low.
pub async fn activate(
    store: &Store,
    id: &str,
    gate: Gate<'_>,
    who: &str,
    now: SystemTime,
) -> Result<Activated, ModelError> {
    let models = store.models().await?;
    let of = |id: &str| models.iter().find(|model| model.id == id);
    let model = of(id).ok_or_else(|| ModelError::Absent(id.to_owned()))?;
    if model.is_active {
        return Err(ModelError::Active(id.to_owned()));
    }
    let current = models
        .iter()
        .find(|other| other.is_active && other.place == model.place);
    let scores = match gate {
        Gate::Unchecked => {
            let (store, model) = (store.clone(), model.clone());
            blocking(move || load(&store, &model)).await?;
            None
        }
        Gate::Checked { examiner, margin } => {
            let (value, before) = {
                let (store, examiner) = (store.clone(), examiner.clone());
                let (model, current) = (model.clone(), current.cloned());
                blocking(move || scores(&store, &*examiner, &model, current.as_ref())).await?
            };
            // A score that is no number never passes.
            let floor = before
                .as_ref()
                .map_or(f64::NEG_INFINITY, |before| before.value - margin.get());
            if value.value.is_nan() || value.value < floor {
                let body = json!({ "place": model.place, "score": value, "before": before, "margin": margin.get() });
                let deed = Deed {
                    who,
                    act: Act::ModelRefused,
                    subject: id,
                    body: &body,
                    comment: None,
                };
                store.record(deed, now).await?;
                return Err(ModelError::Worse {
                    model: id.to_owned(),
                    figure: value.figure,
                    value: value.value,
                    records: value.records,
                    before: before.map_or(f64::NAN, |before| before.value),
                });
            }
            Some((value, before, margin))
        }
    };
    let (score, before, margin) = match scores {
        Some((score, before, margin)) => (Some(score), before, Some(margin.get())),
        None => (None, None, None),
    };
    let body = json!({
        "place": model.place,
        "instead_of": current.map(|current| &current.id),
        "is_checked": score.is_some(),
        "score": score,
        "before": before,
        "margin": margin,
    });
    store.activate_model(model, &body, who, now).await?;
    Ok(Activated {
        model: id.to_owned(),
        score,
        before,
    })
}

fn scores(
    store: &Store,
    examiner: &dyn Examiner,
    model: &KnownModel,
    current: Option<&KnownModel>,
) -> Result<(Score, Option<Score>), ModelError> {
    let score = |model: &KnownModel| {
        let loaded = load(store, model)?;
        examiner.score(&loaded.released).map_err(ModelError::Check)
    };
    let before = match current.map(score).transpose() {
        Ok(before) => before,
        // One in service that cannot even be read or scored is no bar for a better one.
        Err(error) => {
            tracing::warn!(%error, "the model in service could not be scored");
            None
        }
    };
    Ok((score(model)?, before))
}

/// Takes a model out of service, so that the one before it is back. Gives that one's id.
///
/// # Errors
/// It is not there or not in service; the store failed.
pub async fn roll_back(
    store: &Store,
    id: &str,
    reason: &str,
    who: &str,
    now: SystemTime,
) -> Result<Option<String>, ModelError> {
    let models = store.models().await?;
    let model = models.iter().find(|model| model.id == id);
    let model = model.ok_or_else(|| ModelError::Absent(id.to_owned()))?;
    if !model.is_active {
        return Err(ModelError::Inactive(id.to_owned()));
    }
    Ok(store.roll_back_model(model, reason, who, now).await?)
}

/// Runs on a thread that may block; a panic there goes on here.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

/// Fits a path to where plans and weights are read from: at most so many bytes of a file.
///
/// # Errors
/// It cannot be read, or has more bytes.
pub fn read_file(path: &Path, limit: u64) -> Result<Vec<u8>, ModelError> {
    use io::Read as _;
    let failed = |source| ModelError::Folder {
        path: path.to_owned(),
        source,
    };
    let mut bytes = Vec::new();
    let file = fs::File::open(path).map_err(failed)?;
    file.take(limit + 1)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    match bytes.len() as u64 <= limit {
        true => Ok(bytes),
        false => Err(failed(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("it has more than {limit} bytes"),
        ))),
    }
}

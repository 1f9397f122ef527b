//! Local inference over HTTP, and a page to try it: `consilium agent serve`.
//!
//! | module | what lives there |
//! |---|---|
//! | `accept` | connections: a bounded number, TLS, time limits |
//! | `access` | tokens, client certificates, sessions of the pages |
//! | `api` | `/v1`: what programs ask |
//! | `pages` | what people see |
//! | `models` | copied in, checked, put into service, taken back |
//! | `engine` | the threads that compute |
//! | `picture` | the one place where bytes from outside become a picture |
//! | `kept` | what was asked lately, in memory alone |
//! | `problem` | what goes wrong, as RFC 9457 has it |
//!
//! No answer leaves before its record is on the disk. Pictures, notes and reasons are in memory alone and for a
//! bounded time; records, logs and errors hold nothing of them. For research only: not a medical device.

mod accept;
mod access;
mod api;
mod engine;
mod kept;
pub mod models;
mod pages;
mod picture;
mod problem;

use std::{
    collections::HashMap,
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use axum::{Router, body::Bytes, http::StatusCode};
use consilium_models::{
    decision::knowledge::{Knowledge, Language},
    imaging::Picture,
    prediction::ImagePrediction,
};
use consilium_proto::{Digest, ErrorCode};
use rustls::ServerConfig;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::{
    net::TcpListener,
    sync::{Semaphore, watch},
};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

pub use self::{
    accept::{TlsError, tls},
    access::{TokenError, new_token},
};
use self::{
    access::{Caller, Sessions, random},
    engine::{Engine, Failed, Progress},
    kept::{Kept, Subject},
    models::{Examiner, Loaded, ModelError, Provenance},
    problem::Problem,
};
use crate::{
    settings,
    store::{Act, Deed, Store, StoreError},
};

/// What everything that leaves says of itself.
pub const USE: &str = "research only: not a medical device";

/// How often the server looks which models are in service, and what is too old to keep.
const LOOK: Duration = Duration::from_secs(2);
/// How often it looks for records that are older than they are kept.
const PRUNE: Duration = Duration::from_secs(3600);
/// Pictures that are decoded at a time: a large one takes hundreds of mebibytes.
const DECODING: usize = 2;
/// Candidates of a differential that an answer names.
const CANDIDATES: usize = 10;
/// Longest comment on an answer, in characters.
const COMMENT: usize = 2000;

/// Why nothing is served.
#[derive(Debug, thiserror::Error)]
pub enum ServingError {
    /// Passwords and pictures would cross a network in the clear.
    #[error(
        "{0} is not of this machine alone: give --tls-cert and --tls-key, or listen on 127.0.0.1"
    )]
    Clear(SocketAddr),
    /// The system gives no threads.
    #[error("could not start the threads that compute")]
    Threads(#[source] std::io::Error),
    /// A socket that does not say where it listens.
    #[error("could not listen")]
    Listen(#[source] std::io::Error),
    /// The models cannot be read.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl ServingError {
    /// What the caller should do about it.
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Clear(_) => ErrorCode::Denied,
            Self::Threads(_) => ErrorCode::Exhausted,
            Self::Listen(_) => ErrorCode::Unavailable,
            Self::Model(error) => error.code(),
            Self::Store(error) => error.code(),
        }
    }
}

/// What a server needs.
pub struct Parts {
    /// The site's memory.
    pub store: Store,
    /// How much it takes on.
    pub settings: settings::Serving,
    /// What reading notes rests on.
    pub knowledge: Knowledge,
    /// Folder of the public encoder that some plans ask for.
    pub encoder: Option<PathBuf>,
    /// Who scores models before they go into service; without one, programs cannot put any into service.
    pub examiner: Option<Arc<dyn Examiner>>,
}

/// Answers what programs and people ask of the models in service.
pub struct Server {
    store: Store,
    settings: settings::Serving,
    knowledge: Arc<Knowledge>,
    examiner: Option<Arc<dyn Examiner>>,
    engine: Engine,
    in_service: RwLock<Arc<Vec<Arc<Loaded>>>>,
    /// One look at what is in service at a time.
    looking: tokio::sync::Mutex<()>,
    kept: Kept,
    sessions: Sessions,
    decoding: Semaphore,
    asking: Mutex<HashMap<String, usize>>,
}

/// An answer as it is recorded.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Answer {
    id: String,
    /// Seconds since 1970 by this machine's clock.
    at: u64,
    #[serde(flatten)]
    said: Said,
    /// What was asked about: the SHA-256 of a picture's file, a keyed digest of a note.
    input: String,
    milliseconds: f64,
    #[serde(rename = "use")]
    purpose: String,
}

/// What was said.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
enum Said {
    Image {
        #[serde(flatten)]
        prediction: ImagePrediction,
        /// How often the true class may be missing from the set.
        error_rate: Option<f64>,
        model: Provenance,
    },
    Note {
        /// Whether any condition has enough evidence.
        is_supported: bool,
        candidates: Vec<Condition>,
        /// What trained models say of the whole note.
        classes: Vec<NoteClass>,
        models: Vec<Provenance>,
        knowledge: Vec<Rests>,
    },
}

/// A condition of a differential.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Condition {
    condition: String,
    name: String,
    probability: f64,
    is_supported: bool,
}

/// A class that a trained model gives a note.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct NoteClass {
    model: Digest,
    class: String,
    probability: f32,
}

/// A file of knowledge that an answer rests on.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Rests {
    name: String,
    version: String,
}

/// What a clinician thinks of an answer.
#[derive(Debug, Clone, Copy, Serialize)]
struct Opinion {
    agree: bool,
    at: u64,
}

/// An answer as somebody looks at it again.
struct Recalled {
    answer: Answer,
    opinion: Option<Opinion>,
    /// While it is kept.
    subject: Option<Arc<Subject>>,
}

impl Server {
    /// Reads the models that are in service and starts the threads.
    ///
    /// # Errors
    /// The store fails, or the system gives no threads. A model that cannot be read goes out of service.
    pub async fn open(parts: Parts) -> Result<Arc<Self>, ServingError> {
        let knowledge = Arc::new(parts.knowledge);
        let engine = Engine::start(parts.settings.queue, knowledge.clone(), parts.encoder);
        let kept = usize::try_from(parts.settings.keep_mebibytes << 20).unwrap_or(usize::MAX);
        let server = Arc::new(Self {
            engine: engine.map_err(ServingError::Threads)?,
            kept: Kept::new(parts.settings.keep, kept),
            store: parts.store,
            settings: parts.settings,
            knowledge,
            examiner: parts.examiner,
            in_service: RwLock::default(),
            looking: tokio::sync::Mutex::default(),
            sessions: Sessions::default(),
            decoding: Semaphore::new(DECODING),
            asking: Mutex::default(),
        });
        server.look_at_models().await?;
        Ok(server)
    }

    /// Serves until told to stop. Without TLS only on addresses of this machine alone.
    ///
    /// # Errors
    /// An address that others reach, without TLS.
    pub async fn run(
        self: Arc<Self>,
        listener: TcpListener,
        tls: Option<ServerConfig>,
        stop: CancellationToken,
    ) -> Result<(), ServingError> {
        let address = listener.local_addr().map_err(ServingError::Listen)?;
        if tls.is_none() && !address.ip().is_loopback() {
            return Err(ServingError::Clear(address));
        }
        info!(%address, tls = tls.is_some(), models = self.in_service().len(), "serving");
        let chores = self.chores(stop.clone());
        let router = self.router(tls.is_some());
        let served = accept::serve(listener, tls, self.settings.connections, router, stop);
        tokio::join!(served, chores);
        Ok(())
    }

    /// All that can be asked.
    fn router(self: &Arc<Self>, is_tls: bool) -> Router {
        let router = api::routes(self).merge(pages::routes(self, is_tls));
        api::finish(router, is_tls)
    }

    /// What is done beside answering.
    async fn chores(&self, stop: CancellationToken) {
        let mut next_prune = Instant::now();
        loop {
            let now = Instant::now();
            self.kept.forget(now);
            if let Err(error) = self.look_at_models().await {
                warn!(%error, "could not look which models are in service, trying again");
            }
            if now >= next_prune {
                next_prune = now + PRUNE;
                self.prune().await;
            }
            if stop
                .run_until_cancelled(tokio::time::sleep(LOOK))
                .await
                .is_none()
            {
                return;
            }
        }
    }

    async fn prune(&self) {
        let now = SystemTime::now();
        let Some(before) = now.checked_sub(self.settings.keep_records) else {
            return;
        };
        match self.store.prune_records(before, now).await {
            Ok(0) => {}
            Ok(removed) => info!(removed, "removed records that are older than they are kept"),
            Err(error) => warn!(%error, "could not remove old records, trying again"),
        }
    }

    /// The models in service.
    fn in_service(&self) -> Arc<Vec<Arc<Loaded>>> {
        self.in_service
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Reads models that came into service since, and lets go of others. One that cannot be read goes out of
    /// service again, so that the one before it serves.
    async fn look_at_models(&self) -> Result<(), ServingError> {
        let _alone = self.looking.lock().await;
        // Each turn but the last takes one activation back, so that there is a last one.
        loop {
            let models = self.store.models().await?;
            let wanted: Vec<_> = models.into_iter().filter(|model| model.is_active).collect();
            let present = self.in_service();
            let is_same = wanted.len() == present.len()
                && wanted
                    .iter()
                    .zip(present.iter())
                    .all(|(model, loaded)| model.id == loaded.known.id);
            if is_same {
                return Ok(());
            }
            let (mut loaded, mut refused) = (Vec::with_capacity(wanted.len()), Vec::new());
            for model in wanted {
                if let Some(known) = present.iter().find(|known| known.known.id == model.id) {
                    loaded.push(known.clone());
                    continue;
                }
                let (store, known) = (self.store.clone(), model.clone());
                let read = tokio::task::spawn_blocking(move || models::load(&store, &known)).await;
                match read {
                    Ok(Ok(model)) => {
                        info!(
                            model = model.known.id,
                            place = model.known.place,
                            "in service"
                        );
                        loaded.push(Arc::new(model));
                    }
                    Ok(Err(error)) => refused.push((model, error.to_string())),
                    Err(_) => refused.push((model, "reading it ended in a panic".to_owned())),
                }
            }
            if refused.is_empty() {
                *self
                    .in_service
                    .write()
                    .unwrap_or_else(PoisonError::into_inner) = Arc::new(loaded);
                return Ok(());
            }
            for (model, reason) in refused {
                error!(
                    model = model.id,
                    reason, "a model cannot be used, going back to the one before"
                );
                self.store
                    .roll_back_model(&model, &reason, "agent", SystemTime::now())
                    .await?;
            }
        }
    }

    /// Takes a model that failed out of service.
    async fn take_back(&self, model: &Loaded) {
        let reason = "it gave no numbers, or could not be computed";
        let done = self
            .store
            .roll_back_model(&model.known, reason, "agent", SystemTime::now())
            .await;
        match done {
            Ok(back_to) => warn!(
                model = model.known.id,
                back_to, "a model failed and was rolled back"
            ),
            Err(error) => {
                error!(%error, model = model.known.id, "a model failed and could not be rolled back")
            }
        }
        if let Err(error) = self.look_at_models().await {
            warn!(%error, "could not look which models are in service, trying again");
        }
    }

    /// The model to ask about a picture.
    fn model_for_pictures(&self, id: Option<&str>) -> Result<Arc<Loaded>, Problem> {
        let models = self.in_service();
        let mut pictures = models.iter().filter(|model| model.picture.is_some());
        match (id, pictures.clone().count()) {
            (_, 0) => Err(Problem::busy(
                StatusCode::SERVICE_UNAVAILABLE,
                "no model for pictures is in service",
            )),
            (None, 1) => pictures
                .next()
                .cloned()
                .ok_or_else(|| Problem::missing("no such model")),
            (None, _) => Err(Problem::invalid(
                "several models for pictures are in service: name one with `model`",
            )),
            (Some(id), _) => {
                let found = pictures.find(|model| model.known.id == id).cloned();
                found.ok_or_else(|| {
                    Problem::invalid("no model for pictures of this id is in service")
                })
            }
        }
    }

    /// A place among those who ask; who has too many is told to come back.
    fn turn(self: &Arc<Self>, caller: &Caller) -> Result<Turn, Problem> {
        let mut asking = self.asking.lock().unwrap_or_else(PoisonError::into_inner);
        let count = asking.entry(caller.name.clone()).or_default();
        if *count >= self.settings.questions_of_one {
            let detail =
                format!("{count} of your questions are being answered: ask again when they are");
            return Err(Problem::busy(StatusCode::TOO_MANY_REQUESTS, detail));
        }
        *count += 1;
        Ok(Turn {
            server: self.clone(),
            name: caller.name.clone(),
        })
    }

    /// Asks a model about a picture, and records the answer.
    async fn look(
        self: &Arc<Self>,
        caller: &Caller,
        model: Option<&str>,
        bytes: Bytes,
        explain: bool,
    ) -> Result<(Answer, Arc<Subject>), Problem> {
        let _turn = self.turn(caller)?;
        let model = self.model_for_pictures(model)?;
        let (began, digest) = (Instant::now(), Digest::plain(&bytes));
        let coming = self.engine.coming();
        let asked = async {
            let (input, shown) = self.decode(&model, bytes).await?;
            let said = self.engine.look(model.clone(), input.clone(), coming).await;
            Ok::<_, Problem>((said, input, shown))
        };
        let (said, input, shown) = self.in_time(asked).await?;
        let prediction = match said {
            Ok(prediction) => prediction,
            Err(Failed::Model) => {
                self.take_back(&model).await;
                return Err(failed(Failed::Model));
            }
            Err(other) => return Err(failed(other)),
        };
        let class = prediction
            .likeliest()
            .map(|likeliest| likeliest.class.clone());
        let said = Said::Image {
            prediction,
            error_rate: model
                .calibration
                .as_ref()
                .map(|known| known.conformal.error_rate.get()),
            model: model.provenance.clone(),
        };
        let answer = answer(said, digest.to_string(), began)?;
        self.record(caller, Act::Predicted, &answer.id, &json!(answer), None)
            .await?;
        let reasons = match class.filter(|_| explain) {
            Some(class) => self.engine.explain(model, input, class, shown.clone()),
            None => watch::channel(Progress::Unasked).1,
        };
        let subject = Subject::Picture { shown, reasons };
        let subject = self
            .kept
            .keep(&answer.id, &caller.name, subject, Instant::now());
        Ok((answer, subject))
    }

    /// Decodes a picture and makes it ready, on a thread that may block.
    async fn decode(
        &self,
        model: &Arc<Loaded>,
        bytes: Bytes,
    ) -> Result<(Vec<f32>, Arc<Picture>), Problem> {
        // It is never closed.
        let _permit = self.decoding.acquire().await;
        let (pixels, model) = (self.settings.picture_mebipixels << 20, model.clone());
        let decoded = tokio::task::spawn_blocking(move || {
            let picture = picture::decode(&bytes, pixels)?;
            let input = model.picture.as_ref().map(|model| model.input(&picture));
            Ok::<_, String>((input.unwrap_or_default(), Arc::new(picture::shown(picture))))
        });
        match decoded.await {
            Ok(decoded) => decoded.map_err(Problem::invalid),
            Err(_) => Err(Problem::invalid("the picture could not be read")),
        }
    }

    /// Reads a note with all that is in service, and records what follows from it.
    async fn read(
        self: &Arc<Self>,
        caller: &Caller,
        text: String,
    ) -> Result<(Answer, Arc<Subject>), Problem> {
        let _turn = self.turn(caller)?;
        let blank = |c: char| c.is_whitespace() || c == '\u{feff}';
        if text.trim_matches(blank).is_empty() {
            return Err(Problem::invalid("the note is empty"));
        }
        if text.contains('\0') {
            return Err(Problem::invalid("the note is no text: it holds a byte 0"));
        }
        let (began, text) = (Instant::now(), Arc::<str>::from(text));
        let models = self.in_service();
        let models: Vec<_> = models
            .iter()
            .filter(|model| model.picture.is_none())
            .cloned()
            .collect();
        let provenance = models
            .iter()
            .map(|model| model.provenance.clone())
            .collect();
        let asked = async { Ok(self.engine.read(models, text.clone()).await) };
        let analysis = self.in_time(asked).await?.map_err(failed)?;
        let candidates = analysis.differential.candidates.iter().take(CANDIDATES);
        let said = Said::Note {
            is_supported: analysis
                .differential
                .candidates
                .iter()
                .any(|candidate| candidate.is_supported),
            candidates: candidates
                .map(|candidate| Condition {
                    condition: candidate.condition.to_string(),
                    name: self.name(&candidate.condition, analysis.language),
                    probability: candidate.probability,
                    is_supported: candidate.is_supported,
                })
                .collect(),
            classes: analysis
                .classes
                .iter()
                .filter_map(|said| {
                    Some(NoteClass {
                        model: said.model.sha256.parse().ok()?,
                        class: said.class.clone(),
                        probability: said.probability,
                    })
                })
                .collect(),
            models: provenance,
            knowledge: analysis
                .provenance
                .knowledge
                .iter()
                .map(|file| Rests {
                    name: file.name.clone(),
                    version: file.version.clone(),
                })
                .collect(),
        };
        // Keyed: a short note could be guessed from its plain digest.
        let input = format!("keyed:{}", self.store.pseudonyms().pseudonym(&text));
        let answer = answer(said, input, began)?;
        self.record(caller, Act::Predicted, &answer.id, &json!(answer), None)
            .await?;
        let subject = Subject::Note { text, analysis };
        let subject = self
            .kept
            .keep(&answer.id, &caller.name, subject, Instant::now());
        Ok((answer, subject))
    }

    /// The name of a concept.
    fn name(
        &self,
        id: &consilium_models::decision::knowledge::ConceptId,
        language: Language,
    ) -> String {
        let concept = self.knowledge.concept(id);
        concept.map_or_else(
            || id.to_string(),
            |concept| concept.name(language).to_owned(),
        )
    }

    /// An answer that somebody was given earlier.
    async fn recall(&self, caller: &Caller, id: &str) -> Result<Recalled, Problem> {
        let absent = || Problem::missing("no prediction of this id was made for you");
        let records = self.store.records_of(id).await.map_err(Problem::internal)?;
        let predicted = records
            .iter()
            .find(|record| record.act == Act::Predicted && record.who == caller.name);
        let predicted = predicted.ok_or_else(absent)?;
        let answer: Answer =
            serde_json::from_value(predicted.body.clone()).map_err(Problem::internal)?;
        let judged = records
            .iter()
            .rev()
            .find(|record| record.act == Act::Judged);
        let opinion = judged.and_then(|record| {
            Some(Opinion {
                agree: record.body.get("agree")?.as_bool()?,
                at: record.at,
            })
        });
        Ok(Recalled {
            subject: self.kept.of(id, &caller.name, Instant::now()),
            answer,
            opinion,
        })
    }

    /// Records what somebody thinks of an answer they were given.
    async fn judge(
        &self,
        caller: &Caller,
        id: &str,
        agree: bool,
        comment: &str,
    ) -> Result<(), Problem> {
        if comment.chars().count() > COMMENT {
            return Err(Problem::invalid(format!(
                "a comment has at most {COMMENT} characters"
            )));
        }
        self.recall(caller, id).await?;
        let comment = Some(comment).filter(|comment| !comment.trim().is_empty());
        self.record(caller, Act::Judged, id, &json!({ "agree": agree }), comment)
            .await
    }

    async fn record(
        &self,
        caller: &Caller,
        act: Act,
        subject: &str,
        body: &Value,
        comment: Option<&str>,
    ) -> Result<(), Problem> {
        let deed = Deed {
            who: &caller.name,
            act,
            subject,
            body,
            comment,
        };
        let recorded = self.store.record(deed, SystemTime::now()).await;
        recorded.map(drop).map_err(Problem::internal)
    }

    /// The result, if it comes in the time that a model has.
    async fn in_time<T>(
        &self,
        work: impl Future<Output = Result<T, Problem>>,
    ) -> Result<T, Problem> {
        let slow = |_| {
            Problem::busy(
                StatusCode::GATEWAY_TIMEOUT,
                "the model did not answer in time",
            )
        };
        tokio::time::timeout(self.settings.answer, work)
            .await
            .map_err(slow)?
    }
}

/// One question that is being answered.
struct Turn {
    server: Arc<Server>,
    name: String,
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut asking = self
            .server
            .asking
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = asking.get_mut(&self.name) {
            *count -= 1;
            if *count == 0 {
                asking.remove(&self.name);
            }
        }
    }
}

fn answer(said: Said, input: String, began: Instant) -> Result<Answer, Problem> {
    let no_id = || {
        Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "the system has no randomness to give",
        )
    };
    let mut id = random().ok_or_else(no_id)?.to_string();
    id.truncate(32);
    let at = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs();
    Ok(Answer {
        id,
        at,
        said,
        input,
        milliseconds: (began.elapsed().as_secs_f64() * 1e4).round() / 10.0,
        purpose: USE.to_owned(),
    })
}

fn failed(why: Failed) -> Problem {
    let status = StatusCode::SERVICE_UNAVAILABLE;
    match why {
        Failed::Busy => Problem::busy(
            status,
            "too many questions are waiting: ask again in a moment",
        ),
        Failed::Model => Problem::busy(
            status,
            "the model failed: the one before it, if any, takes its place",
        ),
        Failed::Died => Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "the computation failed"),
    }
}

/// Lets panics say where they happened and nothing else: what they say may quote a note.
pub fn quiet_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let place = panic
            .location()
            .map(ToString::to_string)
            .unwrap_or_default();
        error!(place, "panic");
    }));
}

#[cfg(test)]
mod tests;

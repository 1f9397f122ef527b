//! The threads that compute: one for what models say of pictures, one for why, one for notes.
//!
//! Each has a queue with a bound; who does not fit is told to come back. The first takes up to eight pictures
//! at once: it waits for others only while some are on their way, so that a lone one never waits, and 20 ms at
//! most. Reasons take hundreds of looks at a picture: their thread begins one only while no picture waits.

use std::{
    any::Any,
    panic::{self, AssertUnwindSafe},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc::{self, Receiver, RecvTimeoutError, SyncSender},
    },
    thread,
    time::{Duration, Instant},
};

use consilium_models::{
    analysis::{Analysis, Analyst, Trained},
    decision::{facts::Facts, knowledge::Knowledge},
    imaging::Picture,
    prediction::{ImagePrediction, PredictionError, explanation::Scored, overlay},
};
use tokio::sync::{oneshot, watch};
use tracing::error;

use super::models::Loaded;

/// Pictures that are looked at together.
const BATCH: usize = 8;
/// How long the first of them waits for others that are on their way.
const WAIT: Duration = Duration::from_millis(20);
/// How often the thread for reasons looks whether it is its turn, and for how long at most.
const TURN: Duration = Duration::from_millis(5);
const TURNS: u32 = 400;

/// Why there is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Failed {
    /// The queue is full.
    Busy,
    /// The model gives no numbers, or its network fails: it must go out of service.
    Model,
    /// The thread died over it.
    Died,
}

/// Why a model says a class, for people.
pub(super) struct Reasons {
    pub(super) class: String,
    pub(super) maps: Vec<Map>,
}

/// A heat map.
pub(super) struct Map {
    /// `grad-cam` or `occlusion`.
    pub(super) way: &'static str,
    /// A PNG of the size of what is shown, clear where it is cold.
    pub(super) png: Vec<u8>,
    pub(super) deletion: f32,
    pub(super) insertion: f32,
}

/// How far the reasons are.
#[derive(Clone)]
pub(super) enum Progress {
    /// Nobody asked.
    Unasked,
    /// They wait or are being computed.
    Waiting,
    Made(Arc<Reasons>),
    Failed,
}

/// The threads, as those see them who ask.
pub(super) struct Engine {
    pictures: SyncSender<Look>,
    reasons: SyncSender<Why>,
    notes: SyncSender<Note>,
    /// Pictures that were sent and are not in the queue yet.
    coming: Arc<AtomicUsize>,
    /// Pictures in the queue or being looked at.
    waiting: Arc<AtomicUsize>,
}

struct Look {
    model: Arc<Loaded>,
    input: Vec<f32>,
    answer: oneshot::Sender<Result<ImagePrediction, Failed>>,
}

struct Why {
    model: Arc<Loaded>,
    input: Vec<f32>,
    class: String,
    shown: Arc<Picture>,
    progress: watch::Sender<Progress>,
}

struct Note {
    models: Vec<Arc<Loaded>>,
    text: Arc<str>,
    answer: oneshot::Sender<Result<Box<Analysis>, Failed>>,
}

/// A picture on its way to the queue.
pub(super) struct Coming(Arc<AtomicUsize>);

impl Drop for Coming {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Engine {
    /// Starts the threads; they end when this is dropped.
    ///
    /// # Errors
    /// The system gives no threads.
    pub(super) fn start(
        queue: usize,
        knowledge: Arc<Knowledge>,
        encoder: Option<std::path::PathBuf>,
    ) -> std::io::Result<Self> {
        let (pictures, looks) = mpsc::sync_channel(queue);
        let (reasons, whys) = mpsc::sync_channel(queue);
        let (notes, texts) = mpsc::sync_channel(queue);
        let (coming, waiting) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
        let spawn = |name: &str, work: Box<dyn FnOnce() + Send>| {
            thread::Builder::new()
                .name(name.into())
                .spawn(work)
                .map(drop)
        };
        let counters = (coming.clone(), waiting.clone());
        spawn(
            "pictures",
            Box::new(move || look(&looks, &counters.0, &counters.1)),
        )?;
        let counter = waiting.clone();
        spawn("reasons", Box::new(move || explain(&whys, &counter)))?;
        spawn(
            "notes",
            Box::new(move || read(&texts, &knowledge, encoder.as_deref())),
        )?;
        Ok(Self {
            pictures,
            reasons,
            notes,
            coming,
            waiting,
        })
    }

    /// Announces a picture that is being read.
    pub(super) fn coming(&self) -> Coming {
        self.coming.fetch_add(1, Ordering::Relaxed);
        Coming(self.coming.clone())
    }

    /// Asks what a model says of a picture.
    pub(super) async fn look(
        &self,
        model: Arc<Loaded>,
        input: Vec<f32>,
        coming: Coming,
    ) -> Result<ImagePrediction, Failed> {
        let (answer, answered) = oneshot::channel();
        let look = Look {
            model,
            input,
            answer,
        };
        self.waiting.fetch_add(1, Ordering::Relaxed);
        let is_taken = self.pictures.try_send(look);
        drop(coming);
        if is_taken.is_err() {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            return Err(Failed::Busy);
        }
        answered.await.unwrap_or(Err(Failed::Died))
    }

    /// Asks why. What comes is seen at the receiver.
    pub(super) fn explain(
        &self,
        model: Arc<Loaded>,
        input: Vec<f32>,
        class: String,
        shown: Arc<Picture>,
    ) -> watch::Receiver<Progress> {
        let (progress, seen) = watch::channel(Progress::Waiting);
        let why = Why {
            model,
            input,
            class,
            shown,
            progress,
        };
        if let Err(mpsc::TrySendError::Full(why) | mpsc::TrySendError::Disconnected(why)) =
            self.reasons.try_send(why)
        {
            why.progress.send_replace(Progress::Failed);
        }
        seen
    }

    /// Asks for the whole chain for a note, with these models.
    pub(super) async fn read(
        &self,
        models: Vec<Arc<Loaded>>,
        text: Arc<str>,
    ) -> Result<Box<Analysis>, Failed> {
        let (answer, answered) = oneshot::channel();
        let note = Note {
            models,
            text,
            answer,
        };
        self.notes.try_send(note).map_err(|_| Failed::Busy)?;
        answered.await.unwrap_or(Err(Failed::Died))
    }
}

/// Looks at pictures until nobody can ask any more.
fn look(looks: &Receiver<Look>, coming: &AtomicUsize, waiting: &AtomicUsize) {
    while let Ok(first) = looks.recv() {
        let until = Instant::now() + WAIT;
        let mut batch = vec![first];
        while batch.len() < BATCH {
            let next = match coming.load(Ordering::Relaxed) {
                0 => looks.try_recv().map_err(|_| RecvTimeoutError::Timeout),
                // Short, since who is on the way may be refused and never come.
                _ => looks.recv_timeout(Duration::from_millis(1)),
            };
            match next {
                Ok(next) => batch.push(next),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) if coming.load(Ordering::Relaxed) == 0 => break,
                Err(RecvTimeoutError::Timeout) if Instant::now() >= until => break,
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
        let count = batch.len();
        // Whoever asked has given up.
        batch.retain(|look| !look.answer.is_closed());
        while let Some(one) = batch.first() {
            let model = one.model.clone();
            let (same, others) = batch
                .into_iter()
                .partition(|look| Arc::ptr_eq(&look.model, &model));
            batch = others;
            answer(&model, same);
        }
        waiting.fetch_sub(count, Ordering::Relaxed);
    }
}

/// Answers those who ask one model.
fn answer(model: &Loaded, looks: Vec<Look>) {
    let (inputs, askers): (Vec<_>, Vec<_>) = looks
        .into_iter()
        .map(|look| (look.input, look.answer))
        .unzip();
    let answers = caught("looking at a picture", || {
        let picture = model.picture.as_ref().ok_or(PredictionError::OtherTask(
            model.released.plan().task.name(),
        ))?;
        let rows = picture.probabilities(&inputs)?;
        let pairs = inputs.iter().zip(&rows);
        pairs
            .map(|(input, row)| picture.judge(input, row, model.calibration.as_ref()))
            .collect::<Result<Vec<_>, _>>()
    });
    let answers = match answers {
        Some(Ok(answers)) => answers,
        Some(Err(error)) => {
            error!(%error, model = model.known.id, "a model failed");
            askers
                .into_iter()
                .for_each(|asker| drop(asker.send(Err(Failed::Model))));
            return;
        }
        None => {
            askers
                .into_iter()
                .for_each(|asker| drop(asker.send(Err(Failed::Died))));
            return;
        }
    };
    for (asker, answer) in askers.into_iter().zip(answers) {
        // Whoever asked may have gone.
        let _ = asker.send(Ok(answer));
    }
}

/// Explains until nobody can ask any more.
fn explain(whys: &Receiver<Why>, waiting: &AtomicUsize) {
    while let Ok(why) = whys.recv() {
        for _ in 0..TURNS {
            if waiting.load(Ordering::Relaxed) == 0 {
                break;
            }
            thread::sleep(TURN);
        }
        // Nobody can look at it any more.
        if why.progress.is_closed() {
            continue;
        }
        let made = caught("explaining", || reasons(&why)).flatten();
        why.progress
            .send_replace(made.map_or(Progress::Failed, |made| Progress::Made(Arc::new(made))));
    }
}

fn reasons(why: &Why) -> Option<Reasons> {
    let model = why.model.picture.as_ref()?;
    let class = model
        .classes()
        .iter()
        .position(|class| *class == why.class)?;
    let explanation = model.explain(&why.input, class).ok()?;
    let map = |way, scored: &Scored| {
        Some(Map {
            way,
            png: overlay::heat(&why.shown, &scored.heat).ok()?,
            deletion: scored.deletion,
            insertion: scored.insertion,
        })
    };
    let maps = [
        explanation
            .class_map
            .as_ref()
            .and_then(|scored| map("grad-cam", scored)),
        map("occlusion", &explanation.occlusion),
    ];
    Some(Reasons {
        class: why.class.clone(),
        maps: maps.into_iter().flatten().collect(),
    })
}

/// Reads notes until nobody can ask any more.
fn read(notes: &Receiver<Note>, knowledge: &Knowledge, encoder: Option<&std::path::Path>) {
    let mut ready: Option<(Vec<String>, Analyst)> = None;
    while let Ok(note) = notes.recv() {
        if note.answer.is_closed() {
            continue;
        }
        let ids: Vec<String> = note
            .models
            .iter()
            .map(|model| model.known.id.clone())
            .collect();
        let said = caught("reading a note", || {
            if ready.as_ref().is_none_or(|(known, _)| *known != ids) {
                ready = Some((ids.clone(), analyst(&note.models, knowledge, encoder)?));
            }
            let (_, analyst) = ready.as_ref()?;
            let said = analyst.analyse(&note.text, &Facts::default());
            said.map_err(|error| error!(%error, "a note could not be read"))
                .ok()
        });
        let said = match said {
            Some(Some(said)) => Ok(Box::new(said)),
            Some(None) => Err(Failed::Model),
            None => {
                ready = None;
                Err(Failed::Died)
            }
        };
        let _ = note.answer.send(said);
    }
}

fn analyst<'k>(
    models: &[Arc<Loaded>],
    knowledge: &'k Knowledge,
    encoder: Option<&std::path::Path>,
) -> Option<Analyst<'k>> {
    let analyst =
        Analyst::new(knowledge).map_err(|error| error!(%error, "the knowledge cannot be used"));
    let mut analyst = analyst.ok()?;
    for model in models {
        match Trained::new(&model.released, encoder) {
            Ok(trained) => analyst = analyst.with_model(trained),
            Err(error) => {
                error!(%error, model = model.known.id, "a model for notes cannot be used");
                return None;
            }
        }
    }
    Some(analyst)
}

/// Does the work; none where it panics. Nothing from outside should make it: should it ever, the thread lives
/// on, and what it was given is dropped.
fn caught<T>(what: &'static str, work: impl FnOnce() -> T) -> Option<T> {
    panic::catch_unwind(AssertUnwindSafe(work))
        .map_err(|_: Box<dyn Any + Send>| error!(what, "a computation ended in a panic"))
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Threads that never take anything.
    fn idle(queue: usize) -> (Engine, Receiver<Look>, Receiver<Why>, Receiver<Note>) {
        let (pictures, looks) = mpsc::sync_channel(queue);
        let (reasons, whys) = mpsc::sync_channel(queue);
        let (notes, texts) = mpsc::sync_channel(queue);
        let engine = Engine {
            pictures,
            reasons,
            notes,
            coming: Arc::default(),
            waiting: Arc::default(),
        };
        (engine, looks, whys, texts)
    }

    #[tokio::test]
    async fn who_does_not_fit_is_told_so_at_once() {
        let (engine, _looks, _whys, _texts) = idle(1);
        let first = engine.read(Vec::new(), "a".into());
        let waits = tokio::time::timeout(Duration::from_millis(20), first).await;
        assert!(waits.is_err(), "nobody answers");
        let second = engine.read(Vec::new(), "b".into()).await;
        assert_eq!(second.err(), Some(Failed::Busy));
    }

    #[test]
    fn a_panic_is_caught_and_the_next_question_answered() {
        let hook = panic::take_hook();
        panic::set_hook(Box::new(|_| {}));
        let died = caught("a test", || panic!("as asked"));
        panic::set_hook(hook);
        assert_eq!(died, None::<()>);
        assert_eq!(caught("a test", || 3), Some(3));
    }
}

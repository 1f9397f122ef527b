//! How fast a model answers on the CPU: one picture at a time, many at once, and several clients together.

use std::{
    num::NonZeroUsize,
    sync::{Mutex, PoisonError, mpsc},
    thread,
    time::{Duration, Instant},
};

use consilium_proto::Plan;
use safetensors::{Dtype, tensor::TensorView};
use serde::{Deserialize, Serialize};

use super::{BenchmarkError, clock::cpu_seconds};
use crate::{
    network::Network,
    prediction::{ImageModel, PredictionError},
    random::Random,
    released::Released,
};

/// Rows and columns of a picture.
const SIDE: usize = 224;

/// Clients that ask at the same time.
const CLIENTS: usize = 8;

/// Pictures that are given to the model at once.
const BATCH: usize = 16;

/// A model of `resnet-gn` (width 32, depth 3, grey pictures of 224 × 224) and how long to ask it.
#[derive(Debug, Clone, Copy)]
pub struct Asking {
    /// Pictures that are computed side by side; each takes one thread.
    pub threads: NonZeroUsize,
    /// How long each of the three ways is measured.
    pub each: Duration,
}

/// What was measured. Milliseconds on the wall's clock, but for `single_cpu_ms`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Answering {
    /// Of this machine.
    pub threads: usize,
    /// From the bytes of the two files to a model that has answered once.
    pub start_ms: f64,
    /// Median of one picture after the other, on one thread.
    pub single_p50_ms: f64,
    /// Of processors, its mean.
    pub single_cpu_ms: f64,
    /// The same, as pictures a second.
    pub single_per_s: f64,
    /// Pictures given at once to each thread.
    pub batch: usize,
    /// Pictures a second in batches, on all threads.
    pub batched_per_s: f64,
    /// Clients that ask again as soon as they are answered.
    pub clients: usize,
    /// Median wait of a client.
    pub clients_p50_ms: f64,
    /// What 99 of 100 waits of clients stay below.
    pub clients_p99_ms: f64,
}

/// The model that is measured, as the files that a study releases: the plan, and the weights.
///
/// # Errors
/// None, unless the program is wrong: the plan is a constant.
pub fn files() -> Result<(Plan, Vec<u8>), BenchmarkError> {
    let plan = Plan::from_toml(&format!(
        "name = \"bench\"\ntask = \"image-classification\"\ndata_set = \"d\"\nclasses = [\"0\", \"1\"]\n\
         rounds = 1\ncohort = {{ size = 3 }}\n\
         image = {{ channels = 1, height = {SIDE}, width = {SIDE} }}\n\
         network = {{ name = \"resnet-gn\", width = 32, depth = 3 }}\n\
         training = {{ steps = 1, batch_size = 8, learning_rate = 0.01 }}\n\
         privacy = {{ mode = \"none\" }}\n"
    ))?;
    let network = Network::from_plan(&plan)?;
    let values = network.initial(1).into_vec();
    let bytes: Vec<u8> = values
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect();
    let views = network.layout().ranges().map(|(tensor, range)| {
        let bytes = &bytes[4 * range.start..4 * range.end];
        let view = TensorView::new(Dtype::F32, tensor.shape.clone(), bytes)?;
        Ok((tensor.name.clone(), view))
    });
    let views: Vec<_> = views.collect::<Result<_, safetensors::SafeTensorError>>()?;
    let weights = safetensors::serialize(views, None)?;
    Ok((plan, weights))
}

impl Asking {
    /// Asks the model of [`files`].
    ///
    /// # Errors
    /// A model that fails.
    pub fn measure(self) -> Result<Answering, BenchmarkError> {
        let (plan, weights) = files()?;
        let begun = Instant::now();
        let model = ImageModel::new(&Released::from_file(plan, &weights)?)?;
        let pictures = pictures();
        model.probabilities(&pictures[..1])?;
        let start_ms = milliseconds(begun.elapsed());
        let cpu = cpu_seconds();
        let mut single = self.turns(|turn| {
            let at = turn % BATCH;
            model.probabilities(&pictures[at..=at]).map(|_| ())
        })?;
        let single_cpu_ms = 1e3 * (cpu_seconds() - cpu) / single.len() as f64;
        let single_p50_ms = percentile(&mut single, 0.5);
        let batched_per_s = self.batched(&model, &pictures)?;
        let mut waits = self.crowded(&model, &pictures)?;
        Ok(Answering {
            threads: self.threads.get(),
            start_ms,
            single_p50_ms,
            single_cpu_ms,
            single_per_s: 1e3 / single_p50_ms,
            batch: BATCH,
            batched_per_s,
            clients: CLIENTS,
            clients_p50_ms: percentile(&mut waits, 0.5),
            clients_p99_ms: percentile(&mut waits, 0.99),
        })
    }

    /// How long each turn took, until the time is over.
    fn turns(
        self,
        mut turn: impl FnMut(usize) -> Result<(), PredictionError>,
    ) -> Result<Vec<f64>, PredictionError> {
        let (begun, mut times) = (Instant::now(), Vec::new());
        while begun.elapsed() < self.each || times.is_empty() {
            let asked = Instant::now();
            turn(times.len())?;
            times.push(milliseconds(asked.elapsed()));
        }
        Ok(times)
    }

    /// Pictures a second in batches, by the median batch of each thread.
    fn batched(self, model: &ImageModel, pictures: &[Vec<f32>]) -> Result<f64, PredictionError> {
        let ask = || self.turns(|_| model.probabilities(pictures).map(|_| ()));
        let rates = thread::scope(|scope| {
            let threads: Vec<_> = (0..self.threads.get()).map(|_| scope.spawn(ask)).collect();
            threads
                .into_iter()
                .map(joined)
                .collect::<Result<Vec<_>, _>>()
        })?;
        let per_s = |mut times: Vec<f64>| 1e3 * BATCH as f64 / percentile(&mut times, 0.5);
        Ok(rates.into_iter().map(per_s).sum())
    }

    /// The waits of clients whose questions are answered in the order in which they come, each by one thread.
    fn crowded(
        self,
        model: &ImageModel,
        pictures: &[Vec<f32>],
    ) -> Result<Vec<f64>, PredictionError> {
        let (asking, questions) = mpsc::channel();
        let questions = Mutex::new(questions);
        thread::scope(|scope| {
            for _ in 0..self.threads.get() {
                scope.spawn(|| serve(&questions, model, pictures));
            }
            let clients: Vec<_> = (0..CLIENTS)
                .map(|client| {
                    let asking = asking.clone();
                    scope.spawn(move || self.turns(|turn| ask(&asking, (client + turn) % BATCH)))
                })
                .collect();
            // The threads that answer end when the last client does.
            drop(asking);
            let waits = clients.into_iter().map(joined);
            Ok(waits.collect::<Result<Vec<_>, _>>()?.concat())
        })
    }
}

/// Which picture, and where the outcome goes.
type Question = (usize, mpsc::Sender<Result<(), PredictionError>>);

fn serve(questions: &Mutex<mpsc::Receiver<Question>>, model: &ImageModel, pictures: &[Vec<f32>]) {
    loop {
        let next = questions
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .recv();
        let Ok((picture, answer)) = next else { return };
        let outcome = model.probabilities(&pictures[picture..=picture]);
        // A client waits until it is answered.
        let _ = answer.send(outcome.map(|_| ()));
    }
}

fn ask(asking: &mpsc::Sender<Question>, picture: usize) -> Result<(), PredictionError> {
    let (answer, outcome) = mpsc::channel();
    let sent = asking.send((picture, answer));
    // Whoever answers does so until the last client is gone.
    match sent.ok().and_then(|()| outcome.recv().ok()) {
        Some(outcome) => outcome,
        None => unreachable!("a thread that answers has ended before its clients"),
    }
}

/// What a thread found, or its panic.
fn joined<T>(thread: thread::ScopedJoinHandle<'_, T>) -> T {
    thread
        .join()
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// Noise.
fn pictures() -> Vec<Vec<f32>> {
    let mut random = Random::new(&[5]);
    let mut picture = |_| (0..SIDE * SIDE).map(|_| random.symmetric(1.5)).collect();
    (0..BATCH).map(&mut picture).collect()
}

fn milliseconds(time: Duration) -> f64 {
    1e3 * time.as_secs_f64()
}

/// What this share of the times stays at or below: the nearest rank, or 0 without any.
fn percentile(times: &mut [f64], share: f64) -> f64 {
    times.sort_by(f64::total_cmp);
    let rank = (share * times.len() as f64).ceil() as usize;
    times
        .get(rank.saturating_sub(1))
        .copied()
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_those_of_the_nearest_rank() {
        let mut times: Vec<f64> = (1..=200).rev().map(f64::from).collect();
        assert_eq!(percentile(&mut times, 0.5), 100.0);
        assert_eq!(percentile(&mut times, 0.99), 198.0);
        assert_eq!(
            (percentile(&mut [7.0], 0.99), percentile(&mut [], 0.5)),
            (7.0, 0.0)
        );
    }

    #[test]
    fn every_way_of_asking_is_answered() {
        let threads = NonZeroUsize::MIN.saturating_add(1);
        let each = Duration::ZERO;
        let found = Asking { threads, each }.measure().expect("figures");
        let times = [
            found.start_ms,
            found.single_p50_ms,
            found.batched_per_s,
            found.clients_p50_ms,
        ];
        assert!(times.into_iter().all(|time| time > 0.0), "{found:?}");
        assert!(found.clients_p99_ms >= found.clients_p50_ms);
    }
}

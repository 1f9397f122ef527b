//! One network, batch size and number of threads.

use std::{fs, num::NonZeroUsize, time::Instant};

use consilium_models::{
    network::{Network, Target, TextSizes},
    random::Random,
    training::{Examples, Job, LoadError, Protection, StopFlag, train_round},
};
use consilium_privacy::{
    accountant::Charge,
    keystream::MasterSecret,
    ledger::{Budget, ChargeRequest, Ledger, LedgerKey, MemoryJournal, Purpose, Repeat},
    noise::LatticeNoise,
};
use consilium_proto::{ParameterVector, Plan};
use rustix::time::{ClockId, clock_gettime};
use serde_json::json;

use crate::yardstick::Yardstick;

/// Steps of a round; the first is left out.
const STEPS: u32 = 3;

/// What is measured.
pub(crate) struct Cell {
    network: String,
    batch: usize,
    threads: usize,
}

/// Seconds of one step.
#[derive(Clone, Copy)]
struct Cost {
    wall: f64,
    cpu: f64,
}

impl Cell {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split(',');
        Some(Self {
            network: parts.next().filter(|name| !name.is_empty())?.to_owned(),
            batch: parts.next()?.parse().ok()?,
            threads: parts.next()?.parse().ok()?,
        })
    }

    /// Takes turns and gives one JSON object.
    pub(crate) fn run(&self, turns: usize, is_beside_burn: bool) -> serde_json::Value {
        let plain = Setting::new(self, "mode = \"none\"");
        let privately = "clipping_norm = 1.0\nnoise_multiplier = 1.0\ndelta = 1e-5";
        let private = Setting::new(self, privately);
        let yardstick = (is_beside_burn && self.threads == 1)
            .then(|| Yardstick::of(&self.network, &plain))
            .flatten();
        let mut noise = vec![0; plain.weights.len()];
        let mut costs: [Vec<Cost>; 4] = Default::default();
        let mut memory = [0; 2];
        for _ in 0..turns {
            reset_peak();
            costs[0].push(plain.round());
            memory[0] = memory[0].max(peak());
            reset_peak();
            costs[1].push(private.round());
            memory[1] = memory[1].max(peak());
            costs[3].push(per_step(STEPS, || {
                let mut fresh = LatticeNoise::fresh().expect("the system has randomness");
                fresh.add(&mut noise);
            }));
            if let Some(yardstick) = &yardstick {
                costs[2].push(per_step(STEPS, || yardstick.step()));
            }
        }
        let rate = |costs: &[Cost]| self.batch as f64 / median(costs.iter().map(|cost| cost.wall));
        let cpu =
            |costs: &[Cost]| 1000.0 / self.batch as f64 * median(costs.iter().map(|cost| cost.cpu));
        let ratio =
            |of: &[Cost], to: &[Cost]| median(of.iter().zip(to).map(|(of, to)| of.cpu / to.cpu));
        let [plain, private, burn, noise] = &costs;
        let both = private.iter().zip(noise).map(|(private, noise)| Cost {
            cpu: private.cpu - noise.cpu,
            ..*private
        });
        let without_noise: Vec<Cost> = both.collect();
        let measured = |value: f64| value.is_finite().then(|| (value * 1e3).round() / 1e3);
        json!({
            "network": self.network,
            "batch": self.batch,
            "threads": self.threads,
            "plain_examples_per_s": measured(rate(plain)),
            "private_examples_per_s": measured(rate(private)),
            "plain_cpu_s_per_1k": measured(cpu(plain)),
            "private_cpu_s_per_1k": measured(cpu(private)),
            "burn_cpu_s_per_1k": measured(cpu(burn)),
            "noise_cpu_s_per_1k": measured(cpu(noise)),
            "private_to_plain": measured(ratio(private, plain)),
            "private_without_noise_to_plain": measured(ratio(&without_noise, plain)),
            "plain_to_burn": measured(ratio(plain, burn)),
            "plain_peak_mb": memory[0] / 1024,
            "private_peak_mb": memory[1] / 1024,
        })
    }
}

/// A plan, its network, and as many patients as the batch is large.
pub(crate) struct Setting {
    pub(crate) network: Network,
    pub(crate) examples: Noise,
    pub(crate) weights: ParameterVector,
    plan: Plan,
    threads: NonZeroUsize,
}

impl Setting {
    fn new(cell: &Cell, privacy: &str) -> Self {
        let image = |[channels, height, width]: [usize; 3]| {
            let input = "[image]\nchannels";
            format!("{input} = {channels}\nheight = {height}\nwidth = {width}")
        };
        let (task, input, network) = match cell.network.as_str() {
            "cnn" => ("image", image([3, 128, 128]), "name = \"cnn\""),
            "cnn-small" => ("image", image([1, 28, 28]), "name = \"cnn-small\""),
            "resnet-gn" => (
                "image",
                image([1, 64, 64]),
                "name = \"resnet-gn\"\nwidth = 32\ndepth = 3",
            ),
            "scatter-cnn" => ("image", image([1, 28, 28]), "name = \"scatter-cnn\""),
            // Its plan is that of any other network without images: steps are the same for all.
            "text" => (
                "tabular",
                "[[table.columns]]\nname = \"a\"".into(),
                "name = \"dense\"\nhidden = []",
            ),
            other => panic!("no network {other}: cnn, cnn-small, resnet-gn, scatter-cnn or text"),
        };
        let batch = cell.batch;
        let text = format!(
            "name = \"bench\"\ntask = \"{task}-classification\"\ndata_set = \"d\"\nrounds = 1\n\
             classes = [\"0\", \"1\"]\n[cohort]\nsize = 1\n{input}\n[network]\n{network}\n[training]\n\
             steps = {STEPS}\nbatch_size = {batch}\nlearning_rate = 0.01\n[privacy]\n{privacy}\n"
        );
        let plan = Plan::from_toml(&text).expect("a sound plan");
        let network = match cell.network.as_str() {
            "text" => Network::text_classifier(TextSizes::default(), 10),
            _ => Network::from_plan(&plan),
        };
        let network = network.expect("a network");
        Self {
            examples: Noise::new(batch, network.inputs(), cell.network == "text"),
            weights: network.initial(1),
            network,
            plan,
            threads: NonZeroUsize::new(cell.threads).expect("a thread at least"),
        }
    }

    /// One round, as a site trains it.
    fn round(&self) -> Cost {
        let protection = if self.plan.privacy.guarantee().is_some() {
            paid()
        } else {
            let rate = 1.0.try_into().expect("a rate");
            Protection::None { rate }
        };
        let job = Job {
            plan: &self.plan,
            network: &self.network,
            weights: &self.weights,
            round: 1,
            protection,
            threads: self.threads,
        };
        let mut clock = Clock::start();
        train_round(job, &self.examples, &StopFlag::default(), |progress| {
            if progress.step == 1 {
                clock = Clock::start();
            }
        })
        .expect("an update");
        clock.cost(STEPS - 1)
    }
}

/// Images of noise, or documents of random tokens.
pub(crate) struct Noise(pub(crate) Vec<Vec<f32>>);

impl Noise {
    fn new(patients: usize, numbers: usize, are_tokens: bool) -> Self {
        let mut random = Random::new(&[3]);
        let mut number = || match are_tokens {
            true => (random.bits() % 8192) as f32,
            false => random.symmetric(1.5),
        };
        let mut image = || (0..numbers).map(|_| number()).collect();
        Self((0..patients).map(|_| image()).collect())
    }
}

impl Examples for Noise {
    fn patients(&self) -> usize {
        self.0.len()
    }

    fn records_of(&self, _: usize) -> usize {
        1
    }

    fn load(&self, patient: usize, _: usize) -> Result<(Vec<f32>, Target), LoadError> {
        Ok((self.0[patient].clone(), Target::Class(patient % 2)))
    }
}

fn paid() -> Protection {
    let sound = "within range";
    let secret = MasterSecret::random().expect("randomness");
    let budget = Budget {
        epsilon: 1e6.try_into().expect(sound),
        delta: 1e-5.try_into().expect(sound),
    };
    let key = LedgerKey::from_seed([1; 32]).into();
    let mut ledger = Ledger::open(MemoryJournal::default(), key, [("d".to_owned(), budget)])
        .expect("an empty ledger");
    let request = ChargeRequest {
        data_set: "d".to_owned(),
        study: [7; 16],
        round: 1,
        attempt: 1,
        purpose: Purpose::Training,
        charge: Charge::SampledGaussian {
            q: 1.0.try_into().expect(sound),
            sigma: 1.0.try_into().expect(sound),
            steps: STEPS,
        },
        study_cap: None,
        repeat: Repeat::Refuse,
        key: Some(secret.commitment()),
    };
    let grant = ledger
        .reserve(request, std::time::UNIX_EPOCH)
        .expect("a large budget");
    Protection::Private {
        grant,
        secret,
        clipping_norm: 1.0.try_into().expect(sound),
    }
}

struct Clock {
    wall: Instant,
    cpu: f64,
}

impl Clock {
    fn start() -> Self {
        let (wall, cpu) = (Instant::now(), cpu_seconds());
        Self { wall, cpu }
    }

    fn cost(&self, steps: u32) -> Cost {
        Cost {
            wall: self.wall.elapsed().as_secs_f64() / f64::from(steps),
            cpu: (cpu_seconds() - self.cpu) / f64::from(steps),
        }
    }
}

fn per_step(steps: u32, mut step: impl FnMut()) -> Cost {
    step();
    let clock = Clock::start();
    (1..steps).for_each(|_| step());
    clock.cost(steps - 1)
}

fn cpu_seconds() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 * 1e-9
}

/// Peak memory of this process in KiB since the last reset; 0 where the system does not say.
fn peak() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmHWM:"));
    line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok())
        .unwrap_or(0)
}

fn reset_peak() -> u64 {
    // Where this is refused, the peak is that of all ways so far.
    let _ = fs::write("/proc/self/clear_refs", "5");
    peak()
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

//! A network and made-up records to train it on.

use std::num::NonZeroUsize;

use consilium_privacy::{
    accountant::Charge,
    keystream::MasterSecret,
    ledger::{Budget, ChargeRequest, Ledger, LedgerKey, MemoryJournal, Purpose, Refusal, Repeat},
};
use consilium_proto::{ParameterVector, Plan};

use super::{
    BenchmarkError, Subject, Task, Way,
    clock::{Clock, Cost},
};
use crate::{
    network::{Network, Target, TextSizes},
    profile::Profile,
    random::Random,
    training::{Examples, Job, LoadError, Protection, StopFlag, train_round},
};

/// A plan, its network, and as many patients as the batch is large.
pub struct Setting {
    plan: Plan,
    network: Network,
    weights: ParameterVector,
    examples: Noise,
    threads: NonZeroUsize,
}

/// Images of noise, or documents of random tokens.
struct Noise(Vec<Vec<f32>>);

impl Subject {
    /// Steps that one measurement takes; one more goes before them.
    pub(super) fn steps(self) -> u32 {
        match self {
            Self::CnnSmall => 32,
            Self::ScatterCnn => 8,
            Self::Cnn | Self::ResnetGn | Self::Text => 2,
        }
    }

    /// Task, input and network of its plan.
    fn plan(self) -> [String; 3] {
        let image = |[channels, height, width]: [usize; 3], network: &str| {
            let input =
                format!("[image]\nchannels = {channels}\nheight = {height}\nwidth = {width}");
            ["image".into(), input, format!("name = \"{network}\"")]
        };
        match self {
            Self::CnnSmall => image([1, 28, 28], "cnn-small"),
            Self::ScatterCnn => image([1, 28, 28], "scatter-cnn"),
            Self::Cnn => image([3, 128, 128], "cnn"),
            Self::ResnetGn => {
                let [task, input, network] = image([1, 64, 64], "resnet-gn");
                [task, input, network + "\nwidth = 32\ndepth = 3"]
            }
            // That of any other network without images: no plan names this one, and steps are the same.
            Self::Text => {
                let input = "[[table.columns]]\nname = \"a\"";
                [
                    "tabular".into(),
                    input.into(),
                    "name = \"dense\"\nhidden = []".into(),
                ]
            }
        }
    }
}

impl Setting {
    pub(super) fn new(task: &Task, way: Way) -> Result<Self, BenchmarkError> {
        let cell = task.cell;
        let [kind, input, network] = cell.network.plan();
        let privacy = match way {
            Way::Plain => "mode = \"none\"",
            Way::Private => "clipping_norm = 1.0\nnoise_multiplier = 1.0\ndelta = 1e-5",
        };
        let (batch, steps) = (cell.batch, cell.network.steps() + 1);
        let text = format!(
            "name = \"bench\"\ntask = \"{kind}-classification\"\ndata_set = \"d\"\nrounds = 1\n\
             classes = [\"0\", \"1\"]\n[cohort]\nsize = 3\n{input}\n[network]\n{network}\n[training]\n\
             steps = {steps}\nbatch_size = {batch}\nlearning_rate = 0.01\n[privacy]\n{privacy}\n"
        );
        let plan = Plan::from_toml(&text)?;
        let network = match cell.network {
            Subject::Text => Network::text_classifier(TextSizes::default(), 10)?,
            _ => Network::from_plan(&plan)?,
        };
        let network = network
            .recomputing(cell.recomputes)
            .profiled(task.is_profiled);
        let network = network.on(&[cell.device])?;
        Ok(Self {
            examples: Noise::new(batch as usize, network.inputs(), cell.network),
            weights: network.initial(1),
            network,
            plan,
            threads: cell.threads,
        })
    }

    /// The network.
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// Where its training starts.
    pub fn weights(&self) -> &[f32] {
        self.weights.as_slice()
    }

    /// The inputs of one step.
    pub fn inputs(&self) -> &[Vec<f32>] {
        &self.examples.0
    }

    pub(super) fn parameters(&self) -> usize {
        self.weights.as_slice().len()
    }

    /// One round, as a site trains it, without its first step.
    pub(super) fn round(&self) -> Result<Cost, BenchmarkError> {
        let steps = self.plan.training.steps;
        let protection = match self.plan.privacy.guarantee() {
            Some(_) => paid(steps)?,
            None => Protection::None {
                rate: 1.0.try_into()?,
            },
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
                self.network.profile().map(Profile::take);
                clock = Clock::start();
            }
        })?;
        Ok(clock.cost(steps - 1))
    }
}

impl Noise {
    fn new(patients: usize, numbers: usize, network: Subject) -> Self {
        let mut random = Random::new(&[3]);
        let mut number = || match network {
            Subject::Text => (random.bits() % 8192) as f32,
            _ => random.symmetric(1.5),
        };
        let mut input = || (0..numbers).map(|_| number()).collect();
        Self((0..patients).map(|_| input()).collect())
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

/// Steps with every patient, charged to a ledger in memory.
fn paid(steps: u32) -> Result<Protection, BenchmarkError> {
    let secret = MasterSecret::random()?;
    let budget = Budget {
        epsilon: 1e6.try_into()?,
        delta: 1e-5.try_into()?,
    };
    let key = LedgerKey::from_seed([1; 32]).into();
    let budgets = [("d".to_owned(), budget)];
    let ledger = Ledger::open(MemoryJournal::default(), key, budgets);
    let mut ledger = ledger.map_err(Refusal::from)?;
    let request = ChargeRequest {
        data_set: "d".to_owned(),
        study: [7; 16],
        round: 1,
        attempt: 1,
        purpose: Purpose::Training,
        charge: Charge::SampledGaussian {
            q: 1.0.try_into()?,
            sigma: 1.0.try_into()?,
            steps,
        },
        study_cap: None,
        repeat: Repeat::Refuse,
        key: Some(secret.commitment()),
    };
    let grant = ledger.reserve(request, std::time::UNIX_EPOCH)?;
    Ok(Protection::Private {
        grant,
        secret,
        clipping_norm: 1.0.try_into()?,
    })
}

//! A study in one process: what its hospitals train and how the coordinator moves the model, without keys,
//! network or files.
//!
//! Training, charges and noise are the agents' own code, and so is the strategy the coordinator's. What is
//! left out is everything that protects real hospitals from each other. So a simulation is for data that is the
//! researcher's own: to try settings out before hospitals are asked, and to see what a hospital reaches
//! alone.

use std::{num::NonZeroUsize, path::Path, time::UNIX_EPOCH};

use anyhow::{Context as _, Result};
use consilium_agent::{data::LabelledSet, policy::Noise};
use consilium_coordinator::strategy::{self, Strategy};
use consilium_models::{
    network::{Network, Target},
    start::start,
    text::Example,
    training::{Examples, Job, LoadError, Protection, StopFlag, train_round},
};
use consilium_privacy::{
    accountant::{Accountant as _, ClippingNorm, Delta, Rdp, SamplingRate},
    keystream::MasterSecret,
    ledger::{Budget, ChargeRequest, Ledger, LedgerKey, MemoryJournal, Purpose, Repeat},
    step::{Origin, PrivateUpdate},
};
use consilium_proto::{
    ErrorCode, ParameterVector, Plan,
    plan::{Guarantee, Mode},
};

use crate::failure::refuse;

/// A hospital's records in memory, each as its own patient: what may be drawn of each.
pub(crate) struct Records(Vec<Vec<Example>>);

impl Records {
    /// Prepares records for a plan's network.
    ///
    /// # Errors
    /// A record that cannot be read, or does not fit the plan.
    pub(crate) fn new(plan: &Plan, set: &LabelledSet, encoder: Option<&Path>) -> Result<Self> {
        Ok(Self(
            set.examples(plan, encoder)?.collect::<Result<_, _>>()?,
        ))
    }
}

impl Examples for Records {
    fn patients(&self) -> usize {
        self.0.len()
    }

    fn records_of(&self, patient: usize) -> usize {
        self.0[patient].len()
    }

    fn load(&self, patient: usize, record: usize) -> Result<(Vec<f32>, Target), LoadError> {
        let Example { input, target } = self.0[patient][record].clone();
        Ok((input, target))
    }
}

/// A study under way.
pub(crate) struct Simulation {
    plan: Plan,
    network: Network,
    hospitals: Vec<Hospital>,
    strategy: Box<dyn Strategy>,
    model: Vec<f64>,
    state: Vec<Vec<f64>>,
    weights: ParameterVector,
    round: u32,
}

struct Hospital {
    records: Records,
    protection: Site,
}

/// What protects the patients of one hospital over the whole study.
enum Site {
    Private {
        ledger: Box<Ledger<MemoryJournal>>,
        noise: Noise,
        budget: Budget,
        /// C of the next round.
        clipping_norm: ClippingNorm,
    },
    None {
        rate: SamplingRate,
    },
}

impl Simulation {
    /// A study before its first round. Every hospital takes part in every round; its public size is the number
    /// of its records. `encoder` is the folder of the public encoder that some plans ask for.
    ///
    /// # Errors
    /// A plan whose network cannot be built, whose ε no noise reaches at a hospital, or whose encoder is not there.
    pub(crate) fn new(
        plan: &Plan,
        hospitals: Vec<Records>,
        encoder: Option<&Path>,
    ) -> Result<Self> {
        if plan.privacy.mode == Mode::Distributed {
            let message = "privacy.mode = \"distributed\" takes several sites with secure aggregation: run a \
                           federation, or simulate the plan with mode = \"local\"";
            return refuse(ErrorCode::Invalid, message);
        }
        let network = Network::from_plan(plan)?;
        let weights = start(plan, &network, encoder)?;
        let model: Vec<f64> = weights.as_slice().iter().copied().map(f64::from).collect();
        let strategy = strategy::of(&plan.strategy);
        let state = strategy.initial_state();
        let state = state.into_iter().map(|value| vec![value; model.len()]);
        let hospital = |records: Records| {
            let protection = Site::new(plan, records.patients())?;
            Ok(Hospital {
                records,
                protection,
            })
        };
        Ok(Self {
            plan: plan.clone(),
            state: state.collect(),
            hospitals: hospitals.into_iter().map(hospital).collect::<Result<_>>()?,
            network,
            strategy,
            model,
            weights,
            round: 0,
        })
    }

    /// The newest weights.
    pub(crate) fn weights(&self) -> &ParameterVector {
        &self.weights
    }

    /// Rounds done.
    pub(crate) fn round(&self) -> u32 {
        self.round
    }

    /// Largest ε of a hospital so far, at the plan's δ; none without privacy.
    pub(crate) fn epsilon(&mut self) -> Option<f64> {
        let sites = self.hospitals.iter_mut();
        let epsilons = sites.filter_map(|hospital| hospital.protection.epsilon());
        epsilons.reduce(f64::max)
    }

    /// Takes the next round: every hospital trains, and the weighted mean moves the model. Blocks.
    ///
    /// # Errors
    /// A raised stop flag, weights that diverged.
    pub(crate) fn next(&mut self, stop: &StopFlag) -> Result<()> {
        let round = self.round + 1;
        let threads = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
        let mut sum = vec![0.0; self.model.len()];
        let mut total = 0.0;
        for hospital in &mut self.hospitals {
            let job = Job {
                plan: &self.plan,
                network: &self.network,
                weights: &self.weights,
                round,
                protection: hospital.protection.of_round(round, &self.plan)?,
                threads,
            };
            let outcome = train_round(job, &hospital.records, stop, |_| {});
            let update = outcome.context("training a hospital")?.update;
            hospital.protection.follow(&update);
            let size = hospital.records.patients() as u64;
            let weight = f64::from(self.plan.strategy.weight_of(size));
            total += weight;
            for (sum, &value) in sum.iter_mut().zip(update.values()) {
                *sum += weight * f64::from(value);
            }
        }
        sum.iter_mut().for_each(|value| *value /= total);
        let sites = self.hospitals.len();
        self.strategy
            .apply(sites, &sum, &mut self.model, &mut self.state);
        let weights = self.model.iter().map(|&weight| weight as f32);
        self.weights = ParameterVector::new(weights.collect())?;
        self.round = round;
        Ok(())
    }
}

impl Site {
    fn new(plan: &Plan, patients: usize) -> Result<Self> {
        let Some(guarantee) = plan.privacy.guarantee() else {
            let rate = f64::from(plan.training.batch_size) / patients.max(1) as f64;
            let rate = SamplingRate::try_from(rate.min(1.0))?;
            return Ok(Self::None { rate });
        };
        let noise = Noise::of(plan, &guarantee, patients as u64)?;
        let budget = budget(plan, &guarantee, &noise)?;
        // The key signs a ledger that nobody else ever sees.
        let key = LedgerKey::from_seed([0; 32]).into();
        let budgets = [(plan.data_set.clone(), budget)];
        let ledger = Ledger::open(MemoryJournal::default(), key, budgets)?;
        Ok(Self::Private {
            ledger: Box::new(ledger),
            noise,
            budget,
            clipping_norm: guarantee.clipping_norm.try_into()?,
        })
    }

    fn of_round(&mut self, round: u32, plan: &Plan) -> Result<Protection> {
        match self {
            Self::None { rate } => Ok(Protection::None { rate: *rate }),
            Self::Private {
                ledger,
                noise,
                clipping_norm,
                ..
            } => {
                let secret = MasterSecret::random()?;
                let request = ChargeRequest {
                    data_set: plan.data_set.clone(),
                    study: STUDY,
                    round,
                    attempt: 1,
                    purpose: Purpose::Training,
                    charge: noise.charge(plan.training.steps),
                    study_cap: None,
                    repeat: Repeat::Refuse,
                    key: Some(secret.commitment()),
                };
                let grant = ledger.reserve(request, UNIX_EPOCH)?;
                Ok(Protection::Private {
                    grant,
                    secret,
                    clipping_norm: *clipping_norm,
                })
            }
        }
    }

    /// Takes note of where an update's steps ended.
    fn follow(&mut self, update: &PrivateUpdate) {
        if let (
            Self::Private { clipping_norm, .. },
            Origin::Noised {
                next_clipping_norm, ..
            },
        ) = (self, update.origin())
        {
            *clipping_norm = next_clipping_norm;
        }
    }

    fn epsilon(&mut self) -> Option<f64> {
        match self {
            Self::None { .. } => None,
            Self::Private { ledger, budget, .. } => Some(ledger.study_epsilon(STUDY, budget.delta)),
        }
    }
}

/// The only study of a simulation's ledgers.
const STUDY: [u8; 16] = [1; 16];

/// What a hospital may spend: enough for the whole plan by the filter, which charges more than a plan fixed in
/// advance costs.
fn budget(plan: &Plan, guarantee: &Guarantee, noise: &Noise) -> Result<Budget> {
    let delta = Delta::try_from(guarantee.delta)?;
    let whole = noise.total_charge(plan)?;
    let epsilon = Rdp::new().epsilon(&[whole], delta);
    Ok(Budget {
        epsilon: (2.0 * epsilon + 2.0).try_into()?,
        delta,
    })
}

#[cfg(test)]
mod tests;

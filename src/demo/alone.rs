//! What a hospital reaches by itself: the same network and the same steps on its own data.

use std::num::NonZeroUsize;

use anyhow::{Context as _, Result};
use consilium_agent::data::LabelledSet;
use consilium_coordinator::strategy;
use consilium_models::{
    network::{Network, Target},
    training::{Examples, Job, LoadError, Protection, StopFlag, train_round},
};
use consilium_privacy::accountant::SamplingRate;
use consilium_proto::{ParameterVector, Plan};

/// A hospital's records in memory, each as its own patient: nothing here is private.
pub(super) struct Records(Vec<(Vec<f32>, Target)>);

impl Records {
    /// Prepares a hospital's records for a plan's network.
    ///
    /// # Errors
    /// A record that cannot be read.
    pub(super) fn new(plan: &Plan, set: &LabelledSet) -> Result<Self> {
        Ok(Self(set.examples(plan)?.collect::<Result<_, _>>()?))
    }
}

impl Examples for Records {
    fn patients(&self) -> usize {
        self.0.len()
    }

    fn records_of(&self, _: usize) -> usize {
        1
    }

    fn load(&self, patient: usize, _: usize) -> Result<(Vec<f32>, Target), LoadError> {
        Ok(self.0[patient].clone())
    }
}

/// Trains all rounds of a plan on one hospital's records alone: a federation of one, by the same
/// strategy and with as many steps. Blocks.
///
/// # Errors
/// A plan with privacy, or weights that diverged.
pub(super) fn train(plan: &Plan, records: &Records, stop: &StopFlag) -> Result<ParameterVector> {
    let network = Network::from_plan(plan)?;
    let mut weights = network.initial(plan.seed);
    let mut model: Vec<f64> = weights.as_slice().iter().copied().map(f64::from).collect();
    let strategy = strategy::of(&plan.strategy);
    let initial = strategy.initial_state();
    let mut state: Vec<_> = initial
        .into_iter()
        .map(|value| vec![value; model.len()])
        .collect();
    let threads = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
    let rate = f64::from(plan.training.batch_size) / records.0.len().max(1) as f64;
    let rate = SamplingRate::try_from(rate.min(1.0))?;
    for round in 1..=plan.rounds {
        let protection = Protection::None { rate };
        let job = Job {
            plan,
            network: &network,
            weights: &weights,
            round,
            protection,
            threads,
        };
        let outcome = train_round(job, records, stop, |_| {}).context("training alone")?;
        let update: Vec<_> = outcome
            .update
            .values()
            .iter()
            .copied()
            .map(f64::from)
            .collect();
        strategy.apply(&update, &mut model, &mut state);
        weights = ParameterVector::new(model.iter().map(|&weight| weight as f32).collect())?;
    }
    Ok(weights)
}

//! How the mean of the updates moves the global model: FedOpt (Reddi et al., *Adaptive Federated
//! Optimization*, ICLR 2021, algorithms 1 and 2), chunk by chunk.
//!
//! Symbols are theirs: Δ is the weighted mean of the updates, x the model, m and v the moments,
//! η the server's learning rate, β₁ and β₂ the decays, τ the degree of adaptivity. There is no
//! bias correction. Coordinates do not mix, so a chunk needs nothing but itself.

mod fed_adagrad;
mod fed_adam;
mod fed_avg;
mod fed_avg_m;
mod fed_prox;
mod fed_yogi;
mod sum;

use consilium_proto::plan;

use self::{
    fed_adagrad::FedAdagrad, fed_adam::FedAdam, fed_avg::FedAvg, fed_avg_m::FedAvgM,
    fed_prox::FedProx, fed_yogi::FedYogi, sum::Sum,
};

/// Moves the model by one round.
pub trait Strategy: Send + Sync {
    /// What each part of the state is before the first round; empty when there is no state.
    fn initial_state(&self) -> Vec<f64> {
        vec![]
    }

    /// Moves one chunk by the mean of the updates of so many sites. `mean`, `model` and each part of `state`
    /// have the same length; the parts
    /// come in the order of [`initial_state`](Self::initial_state).
    fn apply(&self, sites: usize, mean: &[f64], model: &mut [f64], state: &mut [Vec<f64>]);
}

/// The strategy that a plan names.
pub fn of(plan: &plan::Strategy) -> Box<dyn Strategy> {
    match *plan {
        plan::Strategy::FedAvg { learning_rate } => Box::new(FedAvg { learning_rate }),
        plan::Strategy::FedAvgM {
            learning_rate,
            momentum,
        } => Box::new(FedAvgM {
            learning_rate,
            momentum,
        }),
        plan::Strategy::FedProx { learning_rate, .. } => Box::new(FedProx::new(learning_rate)),
        plan::Strategy::FedAdam(adaptive) => Box::new(FedAdam(adaptive)),
        plan::Strategy::FedYogi(adaptive) => Box::new(FedYogi(adaptive)),
        plan::Strategy::FedAdagrad(adaptive) => Box::new(FedAdagrad(adaptive)),
        plan::Strategy::Sum => Box::new(Sum),
    }
}

/// The step that the adaptive strategies share: they differ in how v takes in Δ².
///
/// m ← β₁ m + (1 − β₁) Δ; v ← `second`(v, Δ²); x ← x + η m / (√v + τ)
fn adapt(
    settings: &plan::Adaptive,
    mean: &[f64],
    model: &mut [f64],
    state: &mut [Vec<f64>],
    second: impl Fn(f64, f64) -> f64,
) {
    let &plan::Adaptive {
        learning_rate,
        beta1,
        tau,
        ..
    } = settings;
    let [m, v] = state else { return };
    for (((x, delta), m), v) in model.iter_mut().zip(mean).zip(m).zip(v) {
        *m = beta1 * *m + (1.0 - beta1) * delta;
        *v = second(*v, delta * delta);
        *x += learning_rate * *m / (v.sqrt() + tau);
    }
}

/// m starts at 0; v at τ², the least that the paper allows.
fn adaptive_start(settings: &plan::Adaptive) -> Vec<f64> {
    vec![0.0, settings.tau * settings.tau]
}

#[cfg(test)]
mod tests;

//! `fed-adagrad`: v ← v + Δ².

use consilium_proto::plan::Adaptive;

use super::{Strategy, adapt, adaptive_start};

pub(super) struct FedAdagrad(pub(super) Adaptive);

impl Strategy for FedAdagrad {
    fn initial_state(&self) -> Vec<f64> {
        adaptive_start(&self.0)
    }

    fn apply(&self, _: usize, mean: &[f64], model: &mut [f64], state: &mut [Vec<f64>]) {
        adapt(&self.0, mean, model, state, |v, square| v + square);
    }
}

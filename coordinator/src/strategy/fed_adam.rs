//! `fed-adam`: v ← β₂ v + (1 − β₂) Δ².

use consilium_proto::plan::Adaptive;

use super::{Strategy, adapt, adaptive_start};

pub(super) struct FedAdam(pub(super) Adaptive);

impl Strategy for FedAdam {
    fn initial_state(&self) -> Vec<f64> {
        adaptive_start(&self.0)
    }

    fn apply(&self, _: usize, mean: &[f64], model: &mut [f64], state: &mut [Vec<f64>]) {
        let beta2 = self.0.beta2;
        adapt(&self.0, mean, model, state, |v, square| {
            beta2 * v + (1.0 - beta2) * square
        });
    }
}

//! `fed-yogi`: v ← v − (1 − β₂) Δ² sign(v − Δ²).

use consilium_proto::plan::Adaptive;

use super::{Strategy, adapt, adaptive_start};

pub(super) struct FedYogi(pub(super) Adaptive);

impl Strategy for FedYogi {
    fn initial_state(&self) -> Vec<f64> {
        adaptive_start(&self.0)
    }

    fn apply(&self, _: usize, mean: &[f64], model: &mut [f64], state: &mut [Vec<f64>]) {
        let beta2 = self.0.beta2;
        adapt(&self.0, mean, model, state, |v, square| {
            // The sign of 0 is 0 in the paper; `signum` of 0 is 1.
            let sign = if v == square {
                0.0
            } else {
                (v - square).signum()
            };
            v - (1.0 - beta2) * square * sign
        });
    }
}

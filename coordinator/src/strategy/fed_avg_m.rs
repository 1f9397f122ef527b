//! `fed-avg-m`: m ← β m + Δ; x ← x + η m (Hsu, Qi and Brown 2019).

use super::Strategy;

pub(super) struct FedAvgM {
    pub(super) learning_rate: f64,
    pub(super) momentum: f64,
}

impl Strategy for FedAvgM {
    fn initial_state(&self) -> Vec<f64> {
        vec![0.0]
    }

    fn apply(&self, _: usize, mean: &[f64], model: &mut [f64], state: &mut [Vec<f64>]) {
        let [m] = state else { return };
        for ((x, delta), m) in model.iter_mut().zip(mean).zip(m) {
            *m = self.momentum * *m + delta;
            *x += self.learning_rate * *m;
        }
    }
}

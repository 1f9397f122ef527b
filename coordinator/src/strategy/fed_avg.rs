//! `fed-avg`: x ← x + η Δ (McMahan et al. 2017).

use super::Strategy;

pub(super) struct FedAvg {
    pub(super) learning_rate: f64,
}

impl Strategy for FedAvg {
    fn apply(&self, _: usize, mean: &[f64], model: &mut [f64], _: &mut [Vec<f64>]) {
        for (x, delta) in model.iter_mut().zip(mean) {
            *x += self.learning_rate * delta;
        }
    }
}

//! `fed-prox`: the coordinator does as in `fed-avg`; the proximal term acts at the sites (Li et
//! al. 2020).

use super::{Strategy, fed_avg::FedAvg};

pub(super) struct FedProx(FedAvg);

impl FedProx {
    pub(super) fn new(learning_rate: f64) -> Self {
        Self(FedAvg { learning_rate })
    }
}

impl Strategy for FedProx {
    fn apply(&self, sites: usize, mean: &[f64], model: &mut [f64], state: &mut [Vec<f64>]) {
        self.0.apply(sites, mean, model, state);
    }
}

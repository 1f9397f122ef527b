//! `sum`: x ← x + Σ update, each site's as it is: for counts.

use super::Strategy;

pub(super) struct Sum;

impl Strategy for Sum {
    /// Sites weigh the same, so that their mean times their number is their sum.
    fn apply(&self, sites: usize, mean: &[f64], model: &mut [f64], _: &mut [Vec<f64>]) {
        for (x, mean) in model.iter_mut().zip(mean) {
            *x += sites as f64 * mean;
        }
    }
}

//! Turns a history of charges into a guarantee (ε, δ).
//!
//! | accountant | how | where its figure holds |
//! |---|---|---|
//! | [`Rdp`] | Rényi curves by quadrature, added up | everywhere; the [`ledger`](crate::ledger) filters by such curves |
//! | [`Pld`] | privacy loss distributions, composed by FFT | a schedule fixed before its first release; tighter |
//!
//! All figures hold for **add-or-remove-one** adjacency, against anyone who sees the releases, and
//! are rounded up. They agree with independent implementations in `tests/truth.rs`. The two share
//! this file and the types of charges, and no mathematics: one checks the other.
//!
//! What a figure means: ε(δ) holds for a history whose charges were fixed in advance, whatever the
//! releases said. Where charges are chosen after seeing releases, the guarantee is the budget that
//! the ledger enforces, and no figure of [`Pld`] may be quoted: there is no valid filter of that
//! kind.
//!
//! Lattice noise ([`noise`](crate::noise)) has the Rényi curve of the continuous Gaussian. For
//! [`Pld`] it is within total variation t of a rounded continuous Gaussian, which adds (1+e^ε)·t
//! to δ; at deviation 2²⁹ and 10¹² draws t is below 1e-13.

mod calibration;
mod charge;
mod curve;
mod normal;
mod parameter;
mod pld;
mod rdp;
mod truncation;
mod zcdp;

use std::collections::BTreeMap;

pub use calibration::calibrate;
pub use charge::Charge;
pub(crate) use charge::Mechanism;
pub use normal::{OneStep, gaussian_epsilon, one_step_delta};
pub use parameter::{ClippingNorm, Delta, Epsilon, NoiseMultiplier, Rho, SamplingRate};
pub use pld::{Pld, Profile};
pub(crate) use rdp::{Curves, rho_within};
pub use rdp::{Rdp, epsilon_at};
pub use zcdp::{zcdp_delta, zcdp_epsilon, zcdp_epsilon_simple};

use crate::OutOfRange;

/// A pure function of a history: what it has met before only makes it faster.
pub trait Accountant {
    /// The ε that the whole history costs at `delta`, in nats; 0 for an empty one. It does not
    /// depend on the order of the history. Infinite where no bound can be shown: next to no noise,
    /// or, for [`Pld`], a `delta` below [`Pld::SMALLEST_DELTA`].
    fn epsilon(&mut self, history: &[Charge], delta: Delta) -> f64;

    /// The noise multiplier with which `steps` noisy sums at sampling rate `q` cost `epsilon` at
    /// `delta`: the smallest one, and a little on top. The result never costs more than that.
    ///
    /// # Errors
    /// No noise multiplier up to 2⁴⁰ reaches so small an `epsilon`.
    fn calibrate(
        &mut self,
        epsilon: Epsilon,
        delta: Delta,
        q: SamplingRate,
        steps: u32,
    ) -> Result<NoiseMultiplier, OutOfRange>;
}

/// Counts the releases of each mechanism. The map's order makes sums the same bits for every order
/// of the history.
fn merge(history: &[Charge]) -> BTreeMap<Mechanism, (Charge, u64)> {
    let mut merged = BTreeMap::new();
    for charge in history.iter().filter(|charge| charge.releases() > 0) {
        let (_, count) = merged.entry(charge.mechanism()).or_insert((*charge, 0_u64));
        *count += u64::from(charge.releases());
    }
    merged
}

/// Σ 1/σ² over a history of plain Gaussian releases; `None` where there is anything else. Together
/// they are one Gaussian release of sensitivity over deviation μ, the root of this sum.
fn squared_mu<'a>(mut merged: impl Iterator<Item = &'a (Charge, u64)>) -> Option<f64> {
    merged.try_fold(0.0, |sum, (charge, count)| match charge {
        Charge::SampledGaussian { q, sigma, .. } if q.value() >= 1.0 => {
            Some(sum + *count as f64 / (sigma.value() * sigma.value()))
        }
        _ => None,
    })
}

/// What the releases that hold with δ = 0 cost by adding up their ε, rounded up.
fn pure_sum<'a>(merged: impl Iterator<Item = &'a (Charge, u64)>) -> f64 {
    let costs =
        merged.filter_map(|(charge, count)| Some(charge.pure_epsilon_of_one()? * *count as f64));
    costs.sum::<f64>() * (1.0 + 1e-12)
}

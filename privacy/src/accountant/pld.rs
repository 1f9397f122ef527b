//! Accounting by privacy loss distributions.
//!
//! The loss of every mechanism is put on a common grid ([`grid`]), composed with all others by
//! Fourier transforms, once for removal and once for addition of a unit, and read as δ(ε)
//! ([`profile`]). Whatever is cut off counts as an infinite loss, so ε is never understated:
//!
//! - both tails of each release, at most 1e-14 over the whole history;
//! - composed losses beyond the window, which the transform would wrap around to the other end:
//!   bounded by Chernoff with the moments of the discrete losses themselves;
//! - rounding of the transforms, 1e-12 (see [`round_off`]).
//!
//! No code is shared with the Rényi quadrature: an auditor may check one by the other.

mod grid;
mod loss;
mod profile;
mod window;

use std::fmt;

pub use profile::Profile;
use realfft::{RealFftPlanner, num_complex::Complex64};

use self::{
    grid::Grid,
    loss::{Direction, Loss},
    profile::Composed,
    window::Window,
};
use super::{
    Accountant, Charge, Delta, Epsilon, Mechanism, NoiseMultiplier, SamplingRate,
    calibration::calibrate_by, gaussian_epsilon, merge, pure_sum, squared_mu,
};
use crate::OutOfRange;

/// Mass that a history may lose to the tails of its releases, and to each end of the window.
const CUT: f64 = 1e-14;

/// Accounting by privacy loss distributions: exact up to a grid, for histories fixed in advance.
///
/// Remembers the last history, so asking for another δ of it is quick.
pub struct Pld {
    planner: RealFftPlanner<f64>,
    last: Option<(Vec<(Mechanism, u64)>, Profile)>,
}

impl Pld {
    /// Below this δ the rounding of the transforms is no longer small beside δ.
    pub const SMALLEST_DELTA: f64 = 1e-10;

    /// Starts with nothing computed.
    pub fn new() -> Self {
        Self {
            planner: RealFftPlanner::new(),
            last: None,
        }
    }

    /// The privacy profile of a history; `None` for an empty one, and where noise is so small that
    /// losses leave the range of numbers.
    pub fn profile(&mut self, history: &[Charge]) -> Option<&Profile> {
        let merged = merge(history);
        let key: Vec<_> = merged
            .iter()
            .map(|(&kind, &(_, count))| (kind, count))
            .collect();
        if self.last.as_ref().is_none_or(|(known, _)| *known != key) {
            let parts: Vec<_> = merged.into_values().collect();
            self.last = self.compose(&parts).map(|profile| (key, profile));
        }
        self.last.as_ref().map(|(_, profile)| profile)
    }

    fn compose(&mut self, parts: &[(Charge, u64)]) -> Option<Profile> {
        if parts.is_empty() {
            return None;
        }
        // All but sampled Gaussians cost the same in both directions.
        let is_sampled = |(charge, _): &(Charge, u64)| matches!(charge, Charge::SampledGaussian { q, .. } if q.value() < 1.0);
        let directions: &[_] = match parts.iter().any(is_sampled) {
            true => &[Direction::Remove, Direction::Add],
            false => &[Direction::Remove],
        };
        let composed = directions
            .iter()
            .map(|&direction| self.composed(parts, direction));
        Some(Profile {
            directions: composed.collect::<Option<_>>()?,
        })
    }

    fn composed(&mut self, parts: &[(Charge, u64)], direction: Direction) -> Option<Composed> {
        let releases: u64 = parts.iter().map(|(_, count)| count).sum();
        let tail = CUT / releases as f64;
        let losses: Vec<_> = parts
            .iter()
            .map(|(charge, count)| (Loss::of(charge, direction, tail), *count))
            .collect();
        let window = Window::around(&losses, CUT)?;

        let transform = self.planner.plan_fft_forward(window.length);
        let mut product = vec![Complex64::new(1.0, 0.0); window.length / 2 + 1];
        let mut spectrum = transform.make_output_vec();
        let mut scratch = transform.make_scratch_vec();
        let mut beyond = window.beyond();
        for (loss, count) in &losses {
            let grid = Grid::of(loss, window.interval);
            beyond.add(&grid, *count);
            let mut circle = vec![0.0; window.length];
            for (i, mass) in grid.masses.iter().enumerate() {
                circle[window.index(grid.first + i as i64)] += mass;
            }
            transform
                .process_with_scratch(&mut circle, &mut spectrum, &mut scratch)
                .expect("buffers were made for this transform");
            for (product, value) in product.iter_mut().zip(&spectrum) {
                *product *= power(*value, *count);
            }
        }
        // Rounding leaves traces there, which the inverse refuses.
        product[0].im = 0.0;
        product[window.length / 2].im = 0.0;

        let inverse = self.planner.plan_fft_inverse(window.length);
        let mut masses = inverse.make_output_vec();
        inverse
            .process(&mut product, &mut masses)
            .expect("buffers were made for this transform");
        // Where the window begins on the circle, and the scale that the inverse leaves to us.
        masses.rotate_left(window.index(window.first));
        masses
            .iter_mut()
            .for_each(|mass| *mass /= window.length as f64);
        Some(Composed {
            interval: window.interval,
            first: window.first,
            masses,
            infinite: CUT + beyond.mass() + round_off(releases),
            relative_error: 1e-12 * releases as f64,
        })
    }
}

/// Bounds what rounding in the transforms adds to or takes from δ.
///
/// A transform is off by some 5e-16 of the root mean square of its values at random, and raising
/// it to the power T multiplies that by T: about 4e-14 of δ at T = 10 000, so that 1e-12 is ample;
/// beyond, the bound grows with T.
fn round_off(releases: u64) -> f64 {
    (1e-16 * releases as f64).max(1e-12)
}

/// Repeated squaring, without the detour through numbers too small for full precision.
fn power(base: Complex64, exponent: u64) -> Complex64 {
    if base.norm_sqr().ln() * (exponent as f64) < -400.0 {
        return Complex64::new(0.0, 0.0); // below 1e-86
    }
    let (mut square, mut left) = (base, exponent);
    let mut result = Complex64::new(1.0, 0.0);
    while left > 0 {
        if left & 1 == 1 {
            result *= square;
        }
        square *= square;
        left >>= 1;
    }
    result
}

impl Accountant for Pld {
    fn epsilon(&mut self, history: &[Charge], delta: Delta) -> f64 {
        let merged = merge(history);
        if let Some(squared) = squared_mu(merged.values()) {
            return match squared {
                0.0 => 0.0,
                _ => gaussian_epsilon(squared.sqrt(), delta),
            };
        }
        let is_pure = |(charge, _): &(Charge, u64)| charge.pure_epsilon_of_one().is_some();
        let pure = match merged.values().all(is_pure) {
            true => pure_sum(merged.values()),
            false => f64::INFINITY,
        };
        if delta.value() < Self::SMALLEST_DELTA {
            return pure;
        }
        let composed = self
            .profile(history)
            .map(|profile| profile.epsilon(delta.value()));
        composed.unwrap_or(f64::INFINITY).min(pure)
    }

    fn calibrate(
        &mut self,
        epsilon: Epsilon,
        delta: Delta,
        q: SamplingRate,
        steps: u32,
    ) -> Result<NoiseMultiplier, OutOfRange> {
        calibrate_by(self, epsilon, delta, q, steps)
    }
}

impl Default for Pld {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Pld {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pld").finish_non_exhaustive()
    }
}

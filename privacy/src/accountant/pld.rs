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
    loss::{Direction, Losses},
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
        let is_sampled = |(charge, _): &(Charge, u64)| {
            matches!(
                charge,
                Charge::SampledGaussian { q, .. } | Charge::TruncatedGaussian { q, .. }
                    if q.value() < 1.0
            )
        };
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
            .map(|(charge, count)| (Losses::of(charge, direction, tail), *count))
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
        let composed = self.profile(history).map(|profile| profile.epsilon(delta));
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn training(q: f64, sigma: f64, steps: u32) -> Charge {
        let sound = "within range";
        Charge::SampledGaussian {
            q: q.try_into().expect(sound),
            sigma: sigma.try_into().expect(sound),
            steps,
        }
    }

    fn pure(epsilon: f64, releases: u32) -> Charge {
        let epsilon = epsilon.try_into().expect("within range");
        Charge::Pure { epsilon, releases }
    }

    fn laplace(epsilon: f64, releases: u32) -> Charge {
        let epsilon = epsilon.try_into().expect("within range");
        Charge::Laplace { epsilon, releases }
    }

    fn delta(value: f64) -> Delta {
        value.try_into().expect("within range")
    }

    #[test]
    fn composition_on_the_grid_is_that_of_the_exact_gaussian() {
        // A step that is sampled almost surely keeps the grid in use.
        for (sigma, steps) in [(1.0, 1), (5.0, 10), (30.0, 10_000), (0.5, 40)] {
            let mu = f64::from(steps).sqrt() / sigma;
            for at in [1e-3, 1e-6, 1e-10] {
                let exact = gaussian_epsilon(mu, delta(at));
                let found = Pld::new().epsilon(&[training(1.0 - 1e-13, sigma, steps)], delta(at));
                // At the smallest δ the bound on rounding is a hundredth of it.
                let allowed = exact * (1.0 - 1e-9)..exact * (1.0 + 1e-3) + 1e-4;
                assert!(allowed.contains(&found), "{found} for {exact}");
            }
        }
    }

    #[test]
    fn pure_releases_compose_as_randomised_response() {
        // Two answers with odds e: both say yes with p², then the loss is 2.
        let p = 1_f64.exp() / (1.0 + 1_f64.exp());
        let mut pld = Pld::new();
        let profile = pld.profile(&[pure(1.0, 2)]).expect("a history");
        for epsilon in [0.0, 0.5, 1.0, 1.9_f64] {
            let exact = p * p * (1.0 - (epsilon - 2.0).exp());
            let found = profile.delta(epsilon);
            assert!(
                (exact..exact + 1e-8).contains(&found),
                "{found} for {exact}"
            );
        }
        assert_eq!(
            pld.epsilon(&[pure(0.1, 1)], delta(1e-12)),
            0.1 * (1.0 + 1e-12)
        );
    }

    #[test]
    fn nothing_costs_nothing_and_extremes_end() {
        let mut pld = Pld::new();
        assert_eq!(pld.epsilon(&[], delta(1e-5)), 0.0);
        assert_eq!(pld.epsilon(&[training(0.1, 1.0, 0)], delta(1e-5)), 0.0);
        assert_eq!(
            pld.epsilon(&[training(0.1, 1.0, 1)], delta(1e-11)),
            f64::INFINITY
        );
        for charge in [
            training(0.5, 1e-300, 1),
            training(0.5, 1e-9, u32::MAX),
            training(0.5, 1e300, u32::MAX),
            training(1e-300, 0.02, 10),
            training(1e-12, 1e6, 1),
            training(0.9, 0.021, 100_000),
            laplace(1e300, 2),
            laplace(1e-300, 2),
            pure(1e12, 3),
        ] {
            let epsilon = pld.epsilon(&[charge, pure(0.5, 1)], delta(1e-5));
            assert!(epsilon >= 0.49, "{epsilon} for {charge:?}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(12))]
        #[test]
        fn the_order_of_a_history_does_not_matter_and_nothing_added_is_free(
            q in 0.001..1.0, sigma in 0.5..8.0, steps in 1_u32..2000, other in 0.5..8.0,
        ) {
            let mut pld = Pld::new();
            let history = [training(q, sigma, steps), laplace(0.2, 2), training(0.1, other, 7)];
            let mut reversed = history;
            reversed.reverse();
            let whole = pld.epsilon(&history, delta(1e-5));
            prop_assert_eq!(whole, pld.epsilon(&reversed, delta(1e-5)));
            // Within what the grid adds.
            let slack = 1e-6 * whole;
            let longer = [training(q, sigma, steps + 1), history[1], history[2]];
            prop_assert!(pld.epsilon(&longer, delta(1e-5)) >= whole - slack);
            prop_assert!(pld.epsilon(&history, delta(1e-6)) >= whole);
            prop_assert!(pld.epsilon(&history[..2], delta(1e-5)) <= whole + slack);
            let rdp = crate::accountant::Rdp::new().epsilon(&history, delta(1e-5));
            prop_assert!(whole <= rdp * 1.001, "{} by losses, {} by curves", whole, rdp);
        }
    }
}

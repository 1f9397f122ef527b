//! Losses on a grid, by connecting the dots.
//!
//! The part of a loss between two neighbouring grid points is moved to the two, so that its mass
//! stays the same under P and under Q (Doroshenko et al. 2022, arXiv 2207.04380). The discrete loss
//! dominates the true one, and its δ(ε) is exact at the grid points. A loss ℓ between ε₀ and
//! ε₀ + h goes up with the share `(1 - e^(ε₀-ℓ)) / (1 - e^-h)`, and else down.

use super::loss::{Loss, Losses};

/// A discrete loss: point `first + i` times the interval has mass `masses[i]` under P.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Grid {
    pub(super) interval: f64,
    pub(super) first: i64,
    pub(super) masses: Vec<f64>,
    /// e^-h - 1, which every share is measured by.
    whole: f64,
}

impl Grid {
    /// Discretises losses. What their ranges leave out is not in it.
    pub(super) fn of(losses: &Losses, interval: f64) -> Self {
        let (low, high) = extent(losses);
        let first = (low / interval).floor() as i64 - 1;
        let length = (high / interval).ceil() as i64 + 2 - first;
        let mut grid = Self {
            interval,
            first,
            masses: vec![0.0; length as usize],
            whole: (-interval).exp_m1(),
        };
        for (at, mass) in losses.atoms() {
            grid.put((at / interval).floor() as i64, at, mass);
        }
        for (share, loss) in &losses.0 {
            if let Some((from, to)) = loss.range() {
                grid.put_continuous(*share, loss, from, to);
            }
        }
        grid
    }

    fn put_continuous(&mut self, share: f64, loss: &Loss, from: f64, to: f64) {
        let mut point = (loss.at(from) / self.interval).floor() as i64;
        let mut here = from;
        while here < to {
            let next = loss
                .place_of((point + 1) as f64 * self.interval)
                .clamp(here, to);
            // The last cell has to reach the end, whatever was lost on the way to it.
            let is_last = point + 2 >= self.first + self.masses.len() as i64;
            let next = if is_last { to } else { next };
            if next > here {
                loss.integrate(here, next, 1.0, |place, mass| {
                    self.put(point, loss.at(place), share * mass);
                });
            }
            (here, point) = (next, point + 1);
        }
    }

    /// Splits a mass between the points `below` and the one above it.
    fn put(&mut self, below: i64, at: f64, mass: f64) {
        let from_below = at - below as f64 * self.interval;
        // Rounding may take a loss out of its cell by the last digit.
        let up = ((-from_below).exp_m1() / self.whole).clamp(0.0, 1.0);
        let i = (below - self.first) as usize;
        self.masses[i] += mass * (1.0 - up);
        self.masses[i + 1] += mass * up;
    }

    /// ln E[e^(θ·loss)].
    pub(super) fn log_moment(&self, theta: f64) -> f64 {
        // Horner's rule, ending where terms are largest: at a mass, so that the sum is not 0.
        let ratio = (-theta.abs() * self.interval).exp();
        let step = |sum: f64, mass: &f64| sum * ratio + mass;
        let is_mass = |mass: &f64| *mass > 0.0;
        let (from, to) = (
            self.masses.iter().position(is_mass).unwrap_or(0),
            self.masses.iter().rposition(is_mass).unwrap_or(0),
        );
        let held = &self.masses[from..=to];
        let (sum, largest) = if theta > 0.0 {
            (held.iter().fold(0.0, step), self.first + to as i64)
        } else {
            (held.iter().rev().fold(0.0, step), self.first + from as i64)
        };
        sum.ln() + theta * largest as f64 * self.interval
    }
}

/// The smallest and the largest loss.
pub(super) fn extent(losses: &Losses) -> (f64, f64) {
    let atoms = losses.atoms().map(|(at, _)| at);
    let ends = losses.0.iter().flat_map(|(_, loss)| {
        let range = loss.range().into_iter();
        range.flat_map(|(from, to)| [loss.at(from), loss.at(to)])
    });
    atoms
        .chain(ends)
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), at| {
            (low.min(at), high.max(at))
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::accountant::{one_step_delta, pld::loss::Direction};

    /// δ at a grid point.
    fn delta(grid: &Grid, point: i64) -> f64 {
        let above = grid
            .masses
            .iter()
            .enumerate()
            .skip((point + 1 - grid.first) as usize);
        above
            .map(|(i, mass)| {
                let distance = (grid.first + i as i64 - point) as f64 * grid.interval;
                mass * -(-distance).exp_m1()
            })
            .sum()
    }

    #[test]
    fn delta_at_the_points_is_that_of_the_mechanism() {
        for (q, sigma, interval) in [(0.01, 1.0, 1e-3), (0.5, 0.5, 0.02), (1.0, 3.0, 1e-4)] {
            let exact = |epsilon| {
                let sound = "within range";
                one_step_delta(
                    q.try_into().expect(sound),
                    sigma.try_into().expect(sound),
                    epsilon,
                )
            };
            for direction in [Direction::Remove, Direction::Add] {
                let loss = Loss::Sampled {
                    q,
                    sigma,
                    direction,
                    reach: 9.5,
                };
                let grid = Grid::of(&loss.into(), interval);
                for point in [0, 3, 50, 400] {
                    let expected = exact(point as f64 * interval);
                    let expected = match direction {
                        Direction::Remove => expected.remove,
                        Direction::Add => expected.add,
                    };
                    let found = delta(&grid, point);
                    let tolerance = 1e-10 * expected + 1e-15;
                    assert!(
                        (found - expected).abs() <= tolerance,
                        "{found} {expected} {loss:?}"
                    );
                }
            }
        }
    }

    #[test]
    fn moments_are_those_of_the_masses() {
        let grid = Grid {
            interval: 0.5,
            first: -1,
            masses: vec![0.25, 0.5, 0.25, 0.0, 0.0],
            whole: (-0.5_f64).exp_m1(),
        };
        for theta in [-30.0, -1.0, 1e-9, 2.0, 900.0, 1e6] {
            let cosh = (0.5_f64 * theta).abs();
            // (1 + cosh)/2, without overflow.
            let expected = cosh + (0.25 * (1.0 + (-2.0 * cosh).exp()) + 0.5 * (-cosh).exp()).ln();
            let found = grid.log_moment(theta);
            assert!(
                (found - expected).abs() < 1e-13 * (1.0 + cosh),
                "{found} {expected}"
            );
        }
    }
}

//! The composed loss of a history, and its privacy profile δ(ε).

use crate::accountant::Delta;

/// The composed loss in one direction: point `first + i` times the interval has `masses[i]`.
#[derive(Debug, Clone)]
pub(super) struct Composed {
    pub(super) interval: f64,
    pub(super) first: i64,
    pub(super) masses: Vec<f64>,
    /// Mass that counts as infinite loss: what was cut off, and what rounding may have taken.
    pub(super) infinite: f64,
    /// Masses are good to this part of themselves.
    pub(super) relative_error: f64,
}

/// The privacy profile of a history: δ as a function of ε, for the worse of both directions.
#[derive(Debug, Clone)]
pub struct Profile {
    pub(super) directions: Vec<Composed>,
}

impl Profile {
    /// The smallest ε ≥ 0 at `delta`, rounded up; infinite where `delta` is below what the
    /// computation resolves.
    pub fn epsilon(&self, delta: Delta) -> f64 {
        let delta = delta.value();
        let each = self
            .directions
            .iter()
            .map(|composed| composed.epsilon(delta));
        each.fold(0.0, f64::max)
    }

    /// δ at `epsilon` ≥ 0, rounded up; at most 1.
    pub fn delta(&self, epsilon: f64) -> f64 {
        let each = self
            .directions
            .iter()
            .map(|composed| composed.delta(epsilon));
        each.fold(0.0, f64::max).min(1.0)
    }
}

impl Composed {
    fn epsilon(&self, delta: f64) -> f64 {
        let target = (delta - self.infinite) / (1.0 + self.relative_error);
        if target.is_nan() || target <= 0.0 {
            return f64::INFINITY;
        }
        let mut above = Above::nothing();
        let decay = (-self.interval).exp();
        for (i, mass) in self.masses.iter().enumerate().rev() {
            let point = self.at(i);
            let here = above.one_point_down(*mass, decay);
            if here.excess > target {
                // Between this point and the next one up δ is `excess + (1 - e^d)·discounted`, d
                // being the way back from that one, which is negative.
                let back = ((above.excess - target) / above.discounted).ln_1p();
                return (point + self.interval + back).max(0.0);
            }
            if point <= 0.0 {
                return 0.0;
            }
            above = here;
        }
        // Even the lowest loss is within δ.
        self.at(0).max(0.0)
    }

    fn delta(&self, epsilon: f64) -> f64 {
        let mut above = Above::nothing();
        let decay = (-self.interval).exp();
        let mut next = self.at(self.masses.len());
        for (i, mass) in self.masses.iter().enumerate().rev() {
            if self.at(i) <= epsilon {
                break;
            }
            above = above.one_point_down(*mass, decay);
            next = self.at(i);
        }
        let excess = above.excess - (epsilon - next).exp_m1() * above.discounted;
        self.infinite + excess * (1.0 + self.relative_error)
    }

    fn at(&self, index: usize) -> f64 {
        (self.first + index as i64) as f64 * self.interval
    }
}

/// What the points from ε on up amount to: `Σ m(1 - e^(ε-ℓ))` and `Σ m e^(ε-ℓ)`.
#[derive(Clone, Copy)]
struct Above {
    excess: f64,
    discounted: f64,
}

impl Above {
    fn nothing() -> Self {
        Self {
            excess: 0.0,
            discounted: 0.0,
        }
    }

    /// Adds nothing that cancels: both sums only grow by what a step down makes of them.
    fn one_point_down(self, mass: f64, decay: f64) -> Self {
        Self {
            excess: self.excess + (1.0 - decay) * self.discounted,
            discounted: self.discounted * decay + mass,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_of_two_points_is_that_of_randomised_response() {
        let epsilon: f64 = 2.0;
        let often = epsilon.exp() / (1.0 + epsilon.exp());
        let composed = Composed {
            interval: 1.0,
            first: -2,
            masses: vec![1.0 - often, 0.0, 0.0, 0.0, often],
            infinite: 0.0,
            relative_error: 0.0,
        };
        for at in [0.0, 0.4, 1.0, 1.5, 1.999, 2.0, 5.0_f64] {
            let expected = (often * (1.0 - (at - epsilon).exp())).max(0.0);
            let found = composed.delta(at);
            assert!(
                (found - expected).abs() < 1e-15,
                "{found} {expected} at {at}"
            );
            if expected > 0.0 {
                assert!((composed.epsilon(found) - at).abs() < 1e-12, "{at}");
            }
        }
        assert_eq!(composed.epsilon(0.9), 0.0);
        assert_eq!(composed.epsilon(0.0), f64::INFINITY);
    }
}

//! The privacy loss of one release, as a random variable.
//!
//! For a pair of distributions (P, Q) that dominates a mechanism, the loss is ln P/Q, drawn from P.
//! Removal of a unit compares (with it, without it), addition the reverse; over many releases the
//! direction is the same for all (Zhu, Dong, Wang 2022, arXiv 2106.08567, who show the pairs below
//! to be dominating). A loss here is atoms and one continuous part, both with their mass under P;
//! a release may have one of several losses, by a public coin ([`Losses`]).

use std::f64::consts::PI;

use crate::accountant::{Charge, truncation::Truncation};

/// What neighbouring data sets differ by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    Remove,
    Add,
}

/// Below this noise multiplier sampling is ignored, which only overstates the cost (joint
/// convexity): the loss would have its mass on too many scales at once.
const SMALLEST_SAMPLED_SIGMA: f64 = 0.02;

/// Above this noise multiplier it counts as this one: its squares leave the range of numbers.
const LARGEST_SIGMA: f64 = 1e15;

/// Below this sampling rate it counts as this one, which only overstates the cost: the loss of the
/// rare batches would lie far from all others.
const SMALLEST_RATE: f64 = 1e-9;

/// A Laplace release above this ε counts as any release with that ε: of its loss only the upper
/// atom matters.
const LARGEST_LAPLACE: f64 = 100.0;

/// Nodes and weights of Gauss-Legendre quadrature on [-1, 1]: one half, the other is its mirror.
const TWO_NODES: [(f64, f64); 1] = [(0.577_350_269_189_625_8, 1.0)];
const FOUR_NODES: [(f64, f64); 2] = [
    (0.339_981_043_584_856_26, 0.652_145_154_862_546_1),
    (0.861_136_311_594_052_6, 0.347_854_845_137_453_85),
];

/// What the loss of one release may be, each with its probability; which it is, is public.
#[derive(Debug, Clone)]
pub(super) struct Losses(pub(super) Vec<(f64, Loss)>);

impl Losses {
    /// The losses of one release of this charge; what is left out has a mass of at most `tail`.
    pub(super) fn of(charge: &Charge, direction: Direction, tail: f64) -> Self {
        // Each of the two tails of a normal distribution is below e^(-z²/2)/2.
        let reach = (-2.0 * tail.ln()).sqrt();
        let sampled = |q: f64, sigma: f64| {
            let (q, sigma) = Loss::bounded(q, sigma);
            Loss::Sampled {
                q,
                sigma,
                direction,
                reach,
            }
        };
        match *charge {
            Charge::SampledGaussian { q, sigma, .. } => sampled(q.value(), sigma.value()).into(),
            Charge::TruncatedGaussian {
                q,
                sigma,
                largest_batch,
                units,
                ..
            } => {
                let (q, sigma) = (q.value(), sigma.value());
                let whole = sampled(q, sigma);
                let Some(truncation) = Truncation::of(q, largest_batch, units) else {
                    return whole.into();
                };
                // Sensitivity 2 beside σ is sensitivity 1 beside σ/2.
                let (q, sigma) = Loss::bounded(truncation.rate, sigma / 2.0);
                let cut = Loss::Replaced { q, sigma, reach };
                Self(vec![(truncation.share, cut), (truncation.rest, whole)])
            }
            Charge::Laplace { epsilon, .. } if epsilon.value() <= LARGEST_LAPLACE => {
                let epsilon = epsilon.value();
                Loss::Laplace { epsilon }.into()
            }
            Charge::Laplace { epsilon, .. } | Charge::Pure { epsilon, .. } => {
                let epsilon = epsilon.value();
                Loss::Pure { epsilon }.into()
            }
        }
    }

    /// Single losses that have a mass of their own.
    pub(super) fn atoms(&self) -> impl Iterator<Item = (f64, f64)> {
        let each = self.0.iter();
        each.flat_map(|(share, loss)| {
            let atoms = loss.atoms().into_iter();
            atoms.map(move |(at, mass)| (at, share * mass))
        })
    }
}

impl From<Loss> for Losses {
    fn from(loss: Loss) -> Self {
        Self(vec![(1.0, loss)])
    }
}

/// The loss of one release in one direction.
#[derive(Debug, Clone, Copy)]
pub(super) enum Loss {
    /// P = (1-q)·N(0,σ²) + q·N(1,σ²), Q = N(0,σ²), or the two exchanged. The coordinate is x, or
    /// -x for addition, so that the loss grows with it.
    Sampled {
        q: f64,
        sigma: f64,
        direction: Direction,
        /// Deviations that are kept on either side.
        reach: f64,
    },
    /// P = (1-q)·N(0,σ²) + q·N(1,σ²), Q = (1-q)·N(0,σ²) + q·N(-1,σ²): of a cut batch, where a unit
    /// takes another one's place. It dominates the sampled pair of the same rate, in either
    /// direction: the second distribution only moves away.
    Replaced { q: f64, sigma: f64, reach: f64 },
    /// Laplace noise of scale 1/ε; the coordinate is the loss itself.
    Laplace { epsilon: f64 },
    /// Randomised response with odds e^ε dominates every (ε, 0)-private release (Kairouz, Oh,
    /// Viswanath 2015, arXiv 1311.0776): atoms at ±ε.
    Pure { epsilon: f64 },
}

impl Loss {
    /// Rate and deviation that the quadrature can take, and that cost no less.
    fn bounded(q: f64, sigma: f64) -> (f64, f64) {
        let is_noise_small = sigma < SMALLEST_SAMPLED_SIGMA;
        let q = if is_noise_small {
            1.0
        } else {
            q.max(SMALLEST_RATE)
        };
        (q, sigma.min(LARGEST_SIGMA))
    }

    /// Single losses that have a mass of their own.
    pub(super) fn atoms(&self) -> Vec<(f64, f64)> {
        match *self {
            Self::Sampled { .. } | Self::Replaced { .. } => Vec::new(),
            Self::Laplace { epsilon } => {
                vec![(-epsilon, 0.5 * (-epsilon).exp()), (epsilon, 0.5)]
            }
            Self::Pure { epsilon } => {
                let rare = (-epsilon).exp();
                vec![
                    (-epsilon, rare / (1.0 + rare)),
                    (epsilon, 1.0 / (1.0 + rare)),
                ]
            }
        }
    }

    /// Coordinates between which the continuous part lies, if there is one.
    pub(super) fn range(&self) -> Option<(f64, f64)> {
        match *self {
            Self::Sampled {
                q,
                sigma,
                direction,
                reach,
            } => Some(match direction {
                Direction::Remove if q < 1.0 => (-reach * sigma, 1.0 + reach * sigma),
                Direction::Remove => (1.0 - reach * sigma, 1.0 + reach * sigma),
                Direction::Add => (-reach * sigma, reach * sigma),
            }),
            Self::Replaced { sigma, reach, .. } => Some((-reach * sigma, 1.0 + reach * sigma)),
            Self::Laplace { epsilon } => Some((-epsilon, epsilon)),
            Self::Pure { .. } => None,
        }
    }

    /// The loss at a coordinate.
    pub(super) fn at(&self, place: f64) -> f64 {
        match *self {
            Self::Sampled {
                q,
                sigma,
                direction,
                ..
            } => {
                let sign = direction.sign();
                sign * log_ratio(q, (sign * place - 0.5) / sigma / sigma)
            }
            Self::Replaced { q, sigma, .. } => {
                log_ratio(q, (place - 0.5) / sigma / sigma)
                    - log_ratio(q, (-place - 0.5) / sigma / sigma)
            }
            Self::Laplace { .. } | Self::Pure { .. } => place,
        }
    }

    /// The coordinate of a loss; infinite for a loss that no coordinate has.
    pub(super) fn place_of(&self, loss: f64) -> f64 {
        match *self {
            Self::Sampled {
                q,
                sigma,
                direction,
                ..
            } => {
                let sign = direction.sign();
                let loss = sign * loss;
                let exponent = if q >= 1.0 {
                    loss
                } else if loss > 30.0 {
                    loss - q.ln() + ((q - 1.0) * (-loss).exp()).ln_1p()
                } else {
                    (loss.exp_m1() / q).max(-1.0).ln_1p()
                };
                sign * (sigma * (sigma * exponent) + 0.5)
            }
            // With u = e^(x/σ²) the ratio of densities is e^ℓ where u solves a quadratic equation,
            // and x/σ² = ℓ/2 + asinh(s), ln s = ln((1-q)/q) + 1/(2σ²) + ln sinh(ℓ/2).
            Self::Replaced { q, sigma, .. } => {
                let half = loss.abs() / 2.0;
                let log_sinh = half + (-(-2.0 * half).exp_m1() / 2.0).ln();
                let log = ((1.0 - q) / q).ln() + 0.5 / sigma / sigma + log_sinh;
                let asinh = if log > 30.0 {
                    log + 2_f64.ln()
                } else {
                    log.exp().asinh()
                };
                loss.signum() * sigma * (sigma * (half + asinh))
            }
            Self::Laplace { .. } | Self::Pure { .. } => loss,
        }
    }

    /// Density of P at a coordinate.
    fn density(&self, place: f64) -> f64 {
        match *self {
            Self::Sampled {
                q,
                sigma,
                direction,
                ..
            } => {
                let normal = |x: f64| (-x * x / (2.0 * sigma * sigma)).exp();
                let shape = match direction {
                    Direction::Remove if q < 1.0 => {
                        (1.0 - q) * normal(place) + q * normal(place - 1.0)
                    }
                    Direction::Remove => normal(place - 1.0),
                    Direction::Add => normal(place),
                };
                shape / (sigma * (2.0 * PI).sqrt())
            }
            Self::Replaced { q, sigma, .. } => {
                let normal = |x: f64| (-x * x / (2.0 * sigma * sigma)).exp();
                let shape = (1.0 - q) * normal(place) + q * normal(place - 1.0);
                shape / (sigma * (2.0 * PI).sqrt())
            }
            // x = (1 - loss/ε)/2 has density ε/2·e^(-εx).
            Self::Laplace { epsilon } => 0.25 * (-(epsilon - place) / 2.0).exp(),
            Self::Pure { .. } => 0.0,
        }
    }

    /// Longest stretch of coordinates on which four nodes are exact to 1e-13.
    fn stretch(&self) -> f64 {
        match *self {
            Self::Sampled { q, sigma, .. } | Self::Replaced { q, sigma, .. } if q < 1.0 => {
                (sigma / 32.0).min(sigma * sigma / 4.0)
            }
            Self::Sampled { sigma, .. } | Self::Replaced { sigma, .. } => sigma / 32.0,
            Self::Laplace { .. } | Self::Pure { .. } => 0.25,
        }
    }

    /// Calls `found(coordinate, mass)` for the nodes of a quadrature between two coordinates, with
    /// stretches `coarseness` times as long as exactness asks for.
    pub(super) fn integrate(
        &self,
        from: f64,
        to: f64,
        coarseness: f64,
        mut found: impl FnMut(f64, f64),
    ) {
        let longest = self.stretch() * coarseness;
        let pieces = ((to - from) / longest).ceil().max(1.0);
        let half = (to - from) / pieces / 2.0;
        let nodes: &[(f64, f64)] = if 2.0 * half < longest / 32.0 {
            &TWO_NODES
        } else {
            &FOUR_NODES
        };
        for piece in 0..pieces as u64 {
            let middle = from + half * (2.0 * piece as f64 + 1.0);
            for &(node, weight) in nodes {
                for place in [middle - half * node, middle + half * node] {
                    found(place, half * weight * self.density(place));
                }
            }
        }
    }
}

/// ln(1 - q + q·e^exponent).
fn log_ratio(q: f64, exponent: f64) -> f64 {
    if q >= 1.0 {
        exponent
    } else if exponent > 30.0 {
        exponent + q.ln() + ((1.0 - q) / q * (-exponent).exp()).ln_1p()
    } else {
        (q * exponent.exp_m1()).ln_1p()
    }
}

impl Direction {
    /// Of a loss that grows with the coordinate, or falls.
    fn sign(self) -> f64 {
        match self {
            Self::Remove => 1.0,
            Self::Add => -1.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn losses() -> Vec<Loss> {
        let mut losses = vec![Loss::Laplace { epsilon: 0.3 }, Loss::Pure { epsilon: 2.0 }];
        for direction in [Direction::Remove, Direction::Add] {
            for (q, sigma) in [
                (1e-6, 1000.0),
                (1e-3, 0.03),
                (0.5, 1.0),
                (1.0, 0.7),
                (1.0, 1e-3),
            ] {
                let reach = 9.0;
                losses.push(Loss::Sampled {
                    q,
                    sigma,
                    direction,
                    reach,
                });
                losses.push(Loss::Replaced { q, sigma, reach });
            }
        }
        losses
    }

    #[test]
    fn masses_add_up_to_one_and_so_do_those_of_the_other_data_set() {
        for loss in losses() {
            let (mut mass, mut other) = (0.0, 0.0);
            let mut add = |at: f64, m: f64| {
                mass += m;
                other += m * (-at).exp();
            };
            loss.atoms().into_iter().for_each(|(at, m)| add(at, m));
            if let Some((from, to)) = loss.range() {
                loss.integrate(from, to, 1.0, |place, m| add(loss.at(place), m));
            }
            assert!((mass - 1.0).abs() < 1e-12, "{mass} for {loss:?}");
            // Where P and Q hardly overlap, most of Q is where P was cut off.
            let is_far = matches!(loss, Loss::Sampled { sigma, .. } | Loss::Replaced { sigma, .. } if sigma < 0.5);
            assert!(
                is_far || (other - 1.0).abs() < 1e-10,
                "{other} for {loss:?}"
            );
        }
    }

    #[test]
    fn a_loss_leads_back_to_its_coordinate() {
        for loss in losses() {
            let Some((from, to)) = loss.range() else {
                continue;
            };
            for i in 1..20 {
                let place = from + (to - from) * f64::from(i) / 20.0;
                let at = loss.at(place);
                let back = loss.at(loss.place_of(at));
                assert!(
                    (back - at).abs() <= 1e-13 * (1.0 + at.abs()),
                    "{loss:?} at {place}"
                );
            }
        }
    }
}

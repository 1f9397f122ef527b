//! What one release costs, in the terms of the mechanism that makes it.

use std::num::NonZeroU32;

use serde::{Deserialize, Serialize};

use super::{Epsilon, NoiseMultiplier, SamplingRate, curve, truncation::Truncation};

/// The cost of one or several releases of the same kind, under add-or-remove-one adjacency.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Charge {
    /// Noisy sums over batches drawn by Poisson sampling: private training. With `q = 1` it is the
    /// plain Gaussian mechanism.
    SampledGaussian {
        /// Probability that a privacy unit enters a batch.
        q: SamplingRate,
        /// Noise deviation over the largest norm one unit contributes.
        sigma: NoiseMultiplier,
        /// Number of sums.
        steps: u32,
    },
    /// Continuous Laplace noise.
    Laplace {
        /// Sensitivity divided by scale, for each release.
        epsilon: Epsilon,
        /// Number of releases.
        releases: u32,
    },
    /// Any release that is (ε, 0)-differentially private, such as a count with discrete Laplace
    /// noise.
    Pure {
        /// The bound of each release.
        epsilon: Epsilon,
        /// Number of releases.
        releases: u32,
    },
    /// Noisy sums over batches drawn by Poisson sampling and cut at a largest size: of a batch
    /// that comes out larger, a uniformly random part of that size is kept. It costs more than
    /// [`SampledGaussian`](Self::SampledGaussian), as a unit that enters may push another one out.
    TruncatedGaussian {
        /// Probability that a privacy unit enters a batch before it is cut.
        q: SamplingRate,
        /// Noise deviation over the largest norm one unit contributes.
        sigma: NoiseMultiplier,
        /// Most units that a batch keeps.
        largest_batch: NonZeroU32,
        /// Units of the larger of two neighbouring data sets. The figure is proved for this number
        /// alone: it has to be public, and right.
        units: NonZeroU32,
        /// Number of sums.
        steps: u32,
    },
}

impl Charge {
    /// How many releases (steps, for training) this pays for.
    pub fn releases(&self) -> u32 {
        match *self {
            Self::SampledGaussian { steps, .. } | Self::TruncatedGaussian { steps, .. } => steps,
            Self::Laplace { releases, .. } | Self::Pure { releases, .. } => releases,
        }
    }

    /// The same charge for another number of releases.
    pub fn with_releases(mut self, count: u32) -> Self {
        match &mut self {
            Self::SampledGaussian { steps, .. } | Self::TruncatedGaussian { steps, .. } => {
                *steps = count;
            }
            Self::Laplace { releases, .. } | Self::Pure { releases, .. } => *releases = count,
        }
        self
    }

    /// Rényi differential privacy at order `alpha > 1` of all its releases together, rounded up.
    pub fn rdp(&self, alpha: f64) -> f64 {
        f64::from(self.releases()) * self.curve(&[alpha])[0]
    }

    /// Rényi differential privacy of one release at each of these orders, rounded up.
    pub(crate) fn curve(&self, orders: &[f64]) -> Vec<f64> {
        let at_each = |rdp: &dyn Fn(f64) -> f64| orders.iter().map(|&alpha| rdp(alpha)).collect();
        match *self {
            Self::SampledGaussian { q, sigma, .. } => {
                at_each(&|alpha| curve::sampled_gaussian(q.value(), sigma.value(), alpha))
            }
            Self::Laplace { epsilon, .. } => {
                at_each(&|alpha| curve::laplace(epsilon.value(), alpha))
            }
            Self::Pure { epsilon, .. } => at_each(&|alpha| curve::pure(epsilon.value(), alpha)),
            Self::TruncatedGaussian {
                q,
                sigma,
                largest_batch,
                units,
                ..
            } => {
                let (q, sigma) = (q.value(), sigma.value());
                let truncation = Truncation::of(q, largest_batch, units);
                at_each(&|alpha| {
                    let whole = curve::sampled_gaussian(q, sigma, alpha);
                    match truncation {
                        None => whole,
                        Some(Truncation { share, rest, rate }) => {
                            let cut = curve::sampled_gaussian(rate, sigma / 2.0, alpha);
                            curve::either([(share, cut), (rest, whole)], alpha)
                        }
                    }
                })
            }
        }
    }

    /// The ε of one release where it holds with δ = 0.
    pub(crate) fn pure_epsilon_of_one(&self) -> Option<f64> {
        match *self {
            Self::SampledGaussian { .. } | Self::TruncatedGaussian { .. } => None,
            Self::Laplace { epsilon, .. } | Self::Pure { epsilon, .. } => Some(epsilon.value()),
        }
    }

    /// What makes two charges the same mechanism: kind and parameters, without the count.
    pub(crate) fn mechanism(&self) -> Mechanism {
        match *self {
            Self::SampledGaussian { q, sigma, .. } => {
                Mechanism(0, q.value().to_bits(), sigma.value().to_bits(), 0)
            }
            Self::Laplace { epsilon, .. } => Mechanism(1, epsilon.value().to_bits(), 0, 0),
            Self::Pure { epsilon, .. } => Mechanism(2, epsilon.value().to_bits(), 0, 0),
            Self::TruncatedGaussian {
                q,
                sigma,
                largest_batch,
                units,
                ..
            } => {
                let sizes = u64::from(largest_batch.get()) << 32 | u64::from(units.get());
                Mechanism(3, q.value().to_bits(), sigma.value().to_bits(), sizes)
            }
        }
    }
}

/// Kind and parameters of a charge, bit by bit: the key of caches and of canonical bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Mechanism(
    pub(crate) u8,
    pub(crate) u64,
    pub(crate) u64,
    pub(crate) u64,
);

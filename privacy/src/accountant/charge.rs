//! What one release costs, in the terms of the mechanism that makes it.

use serde::{Deserialize, Serialize};

use super::{Epsilon, NoiseMultiplier, SamplingRate, curve};

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
}

impl Charge {
    /// How many releases (steps, for training) this pays for.
    pub fn releases(&self) -> u32 {
        match *self {
            Self::SampledGaussian { steps, .. } => steps,
            Self::Laplace { releases, .. } | Self::Pure { releases, .. } => releases,
        }
    }

    /// The same charge for another number of releases.
    pub fn with_releases(self, count: u32) -> Self {
        match self {
            Self::SampledGaussian { q, sigma, .. } => Self::SampledGaussian {
                q,
                sigma,
                steps: count,
            },
            Self::Laplace { epsilon, .. } => Self::Laplace {
                epsilon,
                releases: count,
            },
            Self::Pure { epsilon, .. } => Self::Pure {
                epsilon,
                releases: count,
            },
        }
    }

    /// Rényi differential privacy at order `alpha > 1` of all its releases together, rounded up.
    pub fn rdp(&self, alpha: f64) -> f64 {
        f64::from(self.releases()) * self.rdp_of_one(alpha)
    }

    /// Rényi differential privacy at order `alpha > 1` of one release, rounded up.
    pub(crate) fn rdp_of_one(&self, alpha: f64) -> f64 {
        match *self {
            Self::SampledGaussian { q, sigma, .. } => {
                curve::sampled_gaussian(q.value(), sigma.value(), alpha)
            }
            Self::Laplace { epsilon, .. } => curve::laplace(epsilon.value(), alpha),
            Self::Pure { epsilon, .. } => curve::pure(epsilon.value(), alpha),
        }
    }

    /// The ε of one release where it holds with δ = 0.
    pub(crate) fn pure_epsilon_of_one(&self) -> Option<f64> {
        match *self {
            Self::SampledGaussian { .. } => None,
            Self::Laplace { epsilon, .. } | Self::Pure { epsilon, .. } => Some(epsilon.value()),
        }
    }

    /// What makes two charges the same mechanism: kind and parameters, without the count.
    pub(crate) fn mechanism(&self) -> Mechanism {
        match *self {
            Self::SampledGaussian { q, sigma, .. } => {
                Mechanism(0, q.value().to_bits(), sigma.value().to_bits())
            }
            Self::Laplace { epsilon, .. } => Mechanism(1, epsilon.value().to_bits(), 0),
            Self::Pure { epsilon, .. } => Mechanism(2, epsilon.value().to_bits(), 0),
        }
    }
}

/// Kind and parameters of a charge, bit by bit: the key of caches and of canonical bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Mechanism(pub(crate) u8, pub(crate) u64, pub(crate) u64);

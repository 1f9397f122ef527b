//! How a record's gradient is brought to the clipping norm.

use super::Adaptive;
use crate::{OutOfRange, accountant::NoiseMultiplier};

/// How a record's gradient is brought to norm C at most. Whatever is chosen, the record as a whole
/// moves a sum by at most C, so that the noise and its accounting are the same for all.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum Clipping {
    /// Scaled down to C where it is longer (Abadi et al. 2016).
    #[default]
    Flat,
    /// Scaled by C / (norm + γ), so that all records weigh about the same (Bu et al. 2022).
    Automatic {
        /// Keeps records of tiny gradient small; above 0, in units of the gradient.
        gamma: f64,
    },
    /// Each layer of its own to C/√L, for L layers: their squares add up to C².
    PerLayer {
        /// Where each layer ends, counted in coordinates, in ascending order. The last one is the
        /// length of the sum.
        ends: Vec<usize>,
    },
    /// Scaled down as in flat clipping, to a norm that moves from step to step, a little below C: a
    /// bit of each record has the rest.
    Adaptive(Adaptive),
}

impl Clipping {
    /// Refuses what says nothing sound for a sum of `length` coordinates with this noise.
    pub(super) fn check(&self, length: usize, sigma: NoiseMultiplier) -> Result<(), OutOfRange> {
        match self {
            Self::Flat => Ok(()),
            Self::Adaptive(adaptive) => adaptive.check(sigma),
            Self::Automatic { gamma } if gamma.is_finite() && *gamma > 0.0 => Ok(()),
            Self::Automatic { gamma } => {
                let allowed = "finite and above 0";
                Err(OutOfRange::new(
                    "gamma of automatic clipping",
                    allowed,
                    *gamma,
                ))
            }
            Self::PerLayer { ends } => {
                let ascending = ends.iter().zip(ends.iter().skip(1)).all(|(a, b)| a < b);
                if ascending && ends.first() > Some(&0) && ends.last() == Some(&length) {
                    return Ok(());
                }
                let allowed = "ascending, above 0, the last one the length of the sum";
                Err(OutOfRange::new(
                    "ends of layers",
                    allowed,
                    format!("{ends:?}"),
                ))
            }
        }
    }

    /// The layer that a coordinate belongs to, and where that ends.
    pub fn layer(&self, coordinate: usize) -> (usize, usize) {
        match self {
            Self::Flat | Self::Automatic { .. } | Self::Adaptive(_) => (0, usize::MAX),
            Self::PerLayer { ends } => {
                let layer = ends.partition_point(|&end| end <= coordinate);
                (layer, ends.get(layer).copied().unwrap_or(usize::MAX))
            }
        }
    }

    /// Number of layers that are clipped each on its own.
    pub fn layers(&self) -> usize {
        match self {
            Self::Flat | Self::Automatic { .. } | Self::Adaptive(_) => 1,
            Self::PerLayer { ends } => ends.len(),
        }
    }

    /// What to multiply each layer by, from the squared norms of all, so that the whole has norm
    /// `clip_to` at most; none where a norm is not finite. Quotients, roots and products err by less
    /// than ten times 2⁻⁵³.
    pub fn factors(&self, squares: &[f64], clip_to: f64) -> Option<Vec<f64>> {
        if squares.iter().any(|square| !square.is_finite()) {
            return None;
        }
        let share = clip_to / (self.layers() as f64).sqrt();
        let factor = |square: &f64| {
            let norm = square.sqrt();
            match self {
                Self::Automatic { gamma } => clip_to / (norm + gamma),
                _ if norm > share => share / norm,
                _ => 1.0,
            }
        };
        Some(squares.iter().map(factor).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn factors_are_those_computed_by_hand() {
        let flat = Clipping::Flat;
        assert_eq!(flat.factors(&[25.0], 1.0), Some(vec![0.2]));
        assert_eq!(flat.factors(&[0.25], 1.0), Some(vec![1.0]));
        assert_eq!(flat.factors(&[f64::NAN], 1.0), None);
        let automatic = Clipping::Automatic { gamma: 0.5 };
        assert_eq!(automatic.factors(&[0.25], 2.0), Some(vec![2.0]));
        assert_eq!(automatic.factors(&[0.0], 2.0), Some(vec![4.0]));
        let layers = Clipping::PerLayer {
            ends: vec![2, 3, 7, 9],
        };
        let squares = [16.0, 1.0, 0.25, 100.0];
        assert_eq!(
            layers.factors(&squares, 2.0),
            Some(vec![0.25, 1.0, 1.0, 0.1])
        );
        assert_eq!(layers.factors(&[1.0, f64::INFINITY, 0.0, 0.0], 2.0), None);
    }

    #[test]
    fn coordinates_belong_to_the_layer_that_ends_after_them() {
        let layers = Clipping::PerLayer {
            ends: vec![2, 3, 7],
        };
        assert_eq!(
            [0, 1, 2, 3, 6].map(|at| layers.layer(at).0),
            [0, 0, 1, 2, 2]
        );
        let sigma = 1.0.try_into().expect("within range");
        assert!(layers.check(7, sigma).is_ok() && layers.check(8, sigma).is_err());
        for ends in [vec![], vec![0, 7], vec![3, 3, 7], vec![5, 2, 7]] {
            assert!(Clipping::PerLayer { ends }.check(7, sigma).is_err());
        }
        let automatic = Clipping::Automatic { gamma: 0.0 };
        assert!(automatic.check(1, sigma).is_err());
    }
}

//! Whether a picture is like those that the model was checked on.
//!
//! Mean, deviation and sharpness of the input, and what the network's last convolution makes of it; how far
//! each lies from its mean over known records, in standard deviations, squared and averaged: a Mahalanobis
//! distance without correlations (after Lee et al. 2018, arXiv:1807.03888). A flag, no proof: a picture may be
//! like the others and still be one that the model gets wrong.

use serde::{Deserialize, Serialize};

use super::Share;

/// Least standard deviation, in parts of the mean's size: features that never changed say nothing.
const LEAST_DEVIATION: f32 = 1e-3;

/// Where known pictures lie.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Familiarity {
    means: Vec<f32>,
    deviations: Vec<f32>,
    /// Distances above are unlike; none are where there were too few pictures.
    threshold: Option<f32>,
    /// Which share of known pictures counts as unlike.
    pub alarm_rate: Share,
}

impl Familiarity {
    /// Means and deviations of some pictures' features, and the distance that a share of others exceed.
    pub(super) fn fit(some: &[Vec<f32>], others: &[Vec<f32>], alarm_rate: Share) -> Self {
        let count = some.len().max(1) as f32;
        let features = some.first().map_or(0, Vec::len);
        let mut means = vec![0.0_f32; features];
        for row in some {
            means
                .iter_mut()
                .zip(row)
                .for_each(|(mean, value)| *mean += value / count);
        }
        let mut deviations = vec![0.0_f32; features];
        for row in some {
            let terms = deviations.iter_mut().zip(row.iter().zip(&means));
            terms.for_each(|(sum, (value, mean))| *sum += (value - mean).powi(2) / count);
        }
        for (deviation, mean) in deviations.iter_mut().zip(&means) {
            *deviation = deviation.sqrt().max(LEAST_DEVIATION * (1.0 + mean.abs()));
        }
        let mut familiarity = Self {
            means,
            deviations,
            threshold: None,
            alarm_rate,
        };
        let mut distances: Vec<f32> = others.iter().map(|row| familiarity.distance(row)).collect();
        distances.sort_by(f32::total_cmp);
        let rank = ((distances.len() + 1) as f64 * (1.0 - alarm_rate.get())).ceil() as usize;
        familiarity.threshold = rank
            .checked_sub(1)
            .and_then(|at| distances.get(at))
            .copied();
        familiarity
    }

    /// How far a picture's features lie from known ones: about 1 for those, 0 for their mean.
    pub fn distance(&self, features: &[f32]) -> f32 {
        let known = self.means.iter().zip(&self.deviations);
        let terms = features.iter().zip(known);
        let sum: f32 = terms
            .map(|(value, (mean, deviation))| ((value - mean) / deviation).powi(2))
            .sum();
        sum / self.means.len().max(1) as f32
    }

    /// Whether a picture with these features is unlike known ones; so is one whose features are no numbers.
    pub fn is_unlike(&self, features: &[f32]) -> bool {
        let distance = self.distance(features);
        let is_far = |threshold| distance.is_nan() || distance > threshold;
        self.threshold.is_some_and(is_far)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    fn pictures(random: &mut Random, count: usize, moved: f32) -> Vec<Vec<f32>> {
        let row = |random: &mut Random| {
            (0..6)
                .map(|at| at as f32 + random.symmetric(1.0) + moved)
                .collect()
        };
        (0..count).map(|_| row(random)).collect()
    }

    #[test]
    fn known_pictures_alarm_as_seldom_as_asked_and_others_mostly_do() {
        let mut random = Random::new(&[3]);
        let rate = Share::try_from(0.05).expect("a share");
        let (some, others) = (
            pictures(&mut random, 400, 0.0),
            pictures(&mut random, 400, 0.0),
        );
        let familiarity = Familiarity::fit(&some, &others, rate);
        let alarms = |rows: &[Vec<f32>]| {
            let unlike = rows.iter().filter(|row| familiarity.is_unlike(row)).count();
            unlike as f64 / rows.len() as f64
        };
        let known = alarms(&pictures(&mut random, 2000, 0.0));
        assert!((known - 0.05).abs() < 0.03, "{known}");
        assert!(alarms(&pictures(&mut random, 500, 3.0)) > 0.99);
        assert!(familiarity.is_unlike(&[f32::NAN; 6]));
    }

    #[test]
    fn too_few_pictures_never_alarm() {
        let mut random = Random::new(&[3]);
        let rate = Share::try_from(0.05).expect("a share");
        let few = pictures(&mut random, 5, 0.0);
        let familiarity = Familiarity::fit(&few, &few, rate);
        assert!(!familiarity.is_unlike(&[100.0; 6]));
        assert!(!Familiarity::fit(&[], &[], rate).is_unlike(&[]));
    }
}

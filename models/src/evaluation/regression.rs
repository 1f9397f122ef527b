//! How far estimates are from their targets.

use serde::{Deserialize, Serialize};

/// Estimates counted so far.
#[derive(Clone, Default, PartialEq)]
pub struct RegressionEvaluation {
    count: u64,
    squares: f64,
    distances: f64,
}

/// What the counts come to.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct RegressionScores {
    /// Estimates counted.
    pub count: u64,
    /// Mean squared error.
    pub mean_squared_error: f64,
    /// Mean distance.
    pub mean_absolute_error: f64,
}

impl RegressionEvaluation {
    /// Counts one estimate.
    pub fn add(&mut self, estimate: f32, target: f32) {
        let distance = f64::from(estimate) - f64::from(target);
        self.count += 1;
        self.squares += distance * distance;
        self.distances += distance.abs();
    }

    /// Adds the counts of another evaluation.
    pub fn merge(&mut self, other: &Self) {
        self.count += other.count;
        self.squares += other.squares;
        self.distances += other.distances;
    }

    /// What the counts come to; zeros where nothing was counted.
    pub fn scores(&self) -> RegressionScores {
        let mean = |sum: f64| {
            if self.count == 0 {
                0.0
            } else {
                sum / self.count as f64
            }
        };
        RegressionScores {
            count: self.count,
            mean_squared_error: mean(self.squares),
            mean_absolute_error: mean(self.distances),
        }
    }
}

/// Written by hand: counts of a hospital's patients stay out of logs.
impl std::fmt::Debug for RegressionEvaluation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RegressionEvaluation([redacted])")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_means_over_merged_parts() {
        let (mut left, mut right) = <(RegressionEvaluation, RegressionEvaluation)>::default();
        left.add(1.0, 3.0);
        right.add(0.5, 0.0);
        left.merge(&right);
        let scores = left.scores();
        assert_eq!((scores.count, scores.mean_absolute_error), (2, 1.25));
        assert_eq!(scores.mean_squared_error, 2.125);
        assert_eq!(
            RegressionEvaluation::default().scores().mean_squared_error,
            0.0
        );
    }
}

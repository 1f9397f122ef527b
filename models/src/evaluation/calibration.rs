//! Whether predictions are as sure as they are right (Guo et al. 2017).

/// Bins of equal width over the probability of the predicted class.
pub const CALIBRATION_BINS: usize = 15;

#[derive(Clone, Copy, Default, PartialEq)]
struct Bin {
    count: u64,
    correct: u64,
    confidence: f64,
}

/// Counts of each bin.
#[derive(Clone, Default, PartialEq)]
pub(super) struct Calibration([Bin; CALIBRATION_BINS]);

impl Calibration {
    pub(super) fn add(&mut self, confidence: f32, correct: bool) {
        let confidence = f64::from(confidence);
        let at = (confidence * CALIBRATION_BINS as f64) as usize;
        let bin = &mut self.0[at.min(CALIBRATION_BINS - 1)];
        bin.count += 1;
        bin.correct += u64::from(correct);
        bin.confidence += confidence;
    }

    pub(super) fn merge(&mut self, other: &Self) {
        for (sum, bin) in self.0.iter_mut().zip(&other.0) {
            sum.count += bin.count;
            sum.correct += bin.correct;
            sum.confidence += bin.confidence;
        }
    }

    /// Mean distance between confidence and share of correct predictions, each bin by its count.
    pub(super) fn error(&self) -> f64 {
        let count: u64 = self.0.iter().map(|bin| bin.count).sum();
        let distances = self
            .0
            .iter()
            .map(|bin| (bin.confidence - bin.correct as f64).abs());
        if count == 0 {
            0.0
        } else {
            distances.sum::<f64>() / count as f64
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_error_is_that_computed_by_hand() {
        let mut calibration = Calibration::default();
        assert_eq!(calibration.error(), 0.0);
        for correct in [true, true, true, false] {
            calibration.add(0.95, correct);
        }
        calibration.add(0.6, true);
        // |4 · 0.95 − 3| + |0.6 − 1|, over 5.
        assert!(
            (calibration.error() - 1.2 / 5.0).abs() < 1e-6,
            "{}",
            calibration.error()
        );
    }
}

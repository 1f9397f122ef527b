//! How good a model is, as sums and counts, so that parts and sites can be merged.
//!
//! Scores of hospital data are patient data: they leave only noised and charged. This module knows
//! nothing of that; it serves the researcher's public data and what stays inside a hospital.

mod auc;
mod calibration;
mod regression;

use serde::{Deserialize, Serialize};

use self::{auc::ScoreBins, calibration::Calibration};
pub use self::{
    auc::{SCORE_BINS, exact_auc, exact_macro_auc},
    calibration::CALIBRATION_BINS,
    regression::{RegressionEvaluation, RegressionScores},
};

/// Least probability that a loss counts: a loss is at most about 16 nats.
const LEAST_PROBABILITY: f64 = 1e-7;

/// Why a prediction was not counted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EvaluationError {
    /// Another number of probabilities than of classes.
    #[error("a prediction has {found} numbers, the evaluation {expected} classes")]
    WrongLength {
        /// Classes of the evaluation.
        expected: usize,
        /// Probabilities given.
        found: usize,
    },
    /// A label that is no class.
    #[error("a label must be below {classes}")]
    NoClass {
        /// Classes of the evaluation.
        classes: usize,
    },
    /// A number that is no probability.
    #[error("a prediction must be made of probabilities; the model's weights may have diverged")]
    NoProbability,
    /// Two evaluations of different classes.
    #[error("evaluations of {left} and {right} classes cannot be merged")]
    OtherClasses {
        /// Classes of one.
        left: usize,
        /// Classes of the other.
        right: usize,
    },
}

/// Predictions counted so far.
#[derive(Clone, PartialEq)]
pub struct Evaluation {
    classes: usize,
    /// Row: the true class; column: the predicted one.
    confusion: Vec<u64>,
    /// Predictions whose true class is among the three likeliest.
    in_top_3: u64,
    loss: f64,
    bins: Vec<ScoreBins>,
    calibration: Calibration,
}

/// What the counts come to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Scores {
    /// Predictions counted.
    pub count: u64,
    /// Share of correct predictions.
    pub accuracy: f64,
    /// Mean of the classes' shares of correct predictions, over classes that occur.
    pub balanced_accuracy: f64,
    /// Area under the ROC curve: of the last class of two, else the mean over classes, each
    /// against the rest. None where a class has no example on one side.
    pub auc: Option<f64>,
    /// Largest distance of `auc` to the exact one, from scores that share a bin.
    pub auc_error: Option<f64>,
    /// Share of predictions whose true class is among the three likeliest.
    pub top_3_accuracy: f64,
    /// F1: of the last class of two, else the mean over classes that occur.
    pub f1: f64,
    /// Mean cross-entropy, in nats.
    pub loss: f64,
    /// Expected calibration error of the predicted class.
    pub calibration_error: f64,
    /// Predictions by true class (row) and predicted class (column).
    pub confusion: Vec<Vec<u64>>,
}

impl Evaluation {
    /// Counts nothing yet. Two classes or more.
    pub fn new(classes: usize) -> Self {
        Self {
            classes,
            confusion: vec![0; classes * classes],
            in_top_3: 0,
            loss: 0.0,
            bins: vec![ScoreBins::default(); classes],
            calibration: Calibration::default(),
        }
    }

    /// Counts one prediction: the probability of each class, and the true one.
    ///
    /// # Errors
    /// What is no prediction is not counted.
    pub fn add(&mut self, probabilities: &[f32], label: usize) -> Result<(), EvaluationError> {
        let (expected, found) = (self.classes, probabilities.len());
        if found != expected {
            return Err(EvaluationError::WrongLength { expected, found });
        }
        if label >= expected {
            return Err(EvaluationError::NoClass { classes: expected });
        }
        if probabilities
            .iter()
            .any(|probability| !(0.0..=1.0).contains(probability))
        {
            return Err(EvaluationError::NoProbability);
        }
        let predicted = most_probable(probabilities);
        self.confusion[label * self.classes + predicted] += 1;
        let larger = probabilities
            .iter()
            .filter(|&&other| other > probabilities[label]);
        self.in_top_3 += u64::from(larger.count() < 3);
        self.loss -= f64::from(probabilities[label]).max(LEAST_PROBABILITY).ln();
        for (class, (bins, &score)) in self.bins.iter_mut().zip(probabilities).enumerate() {
            bins.add(score, class == label);
        }
        self.calibration
            .add(probabilities[predicted], predicted == label);
        Ok(())
    }

    /// Adds the counts of another evaluation of the same classes.
    ///
    /// # Errors
    /// Other classes; nothing is added.
    pub fn merge(&mut self, other: &Self) -> Result<(), EvaluationError> {
        let (left, right) = (self.classes, other.classes);
        if left != right {
            return Err(EvaluationError::OtherClasses { left, right });
        }
        self.confusion
            .iter_mut()
            .zip(&other.confusion)
            .for_each(|(sum, count)| *sum += count);
        self.in_top_3 += other.in_top_3;
        self.loss += other.loss;
        self.bins
            .iter_mut()
            .zip(&other.bins)
            .for_each(|(sum, bins)| sum.merge(bins));
        self.calibration.merge(&other.calibration);
        Ok(())
    }

    /// What the counts come to; zeros where nothing was counted.
    pub fn scores(&self) -> Scores {
        let classes: Vec<_> = (0..self.classes).map(|class| self.class(class)).collect();
        let count: u64 = self.confusion.iter().sum();
        let correct: u64 = classes.iter().map(|class| class.correct).sum();
        let occurring = || classes.iter().filter(|class| class.labelled > 0);
        let areas = auc::combined(&self.bins.iter().map(ScoreBins::area).collect::<Vec<_>>());
        let f1 = match &*classes {
            [_, positive] => positive.f1(),
            _ => mean(occurring().map(ClassCounts::f1)),
        };
        Scores {
            count,
            accuracy: share(correct, count),
            top_3_accuracy: share(self.in_top_3, count),
            balanced_accuracy: mean(occurring().map(ClassCounts::recall)),
            auc: areas.map(|area| area.value),
            auc_error: areas.map(|area| area.error),
            f1,
            loss: if count == 0 {
                0.0
            } else {
                self.loss / count as f64
            },
            calibration_error: self.calibration.error(),
            confusion: self
                .confusion
                .chunks(self.classes.max(1))
                .map(<[_]>::to_vec)
                .collect(),
        }
    }

    fn class(&self, class: usize) -> ClassCounts {
        let at = |label: usize, predicted: usize| self.confusion[label * self.classes + predicted];
        ClassCounts {
            correct: at(class, class),
            labelled: (0..self.classes).map(|other| at(class, other)).sum(),
            predicted: (0..self.classes).map(|other| at(other, class)).sum(),
        }
    }
}

/// Written by hand: counts of a hospital's patients stay out of logs.
impl std::fmt::Debug for Evaluation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Evaluation({} classes)", self.classes)
    }
}

struct ClassCounts {
    correct: u64,
    labelled: u64,
    predicted: u64,
}

impl ClassCounts {
    fn recall(&self) -> f64 {
        share(self.correct, self.labelled)
    }

    /// Harmonic mean of precision and recall: 2 tp / (2 tp + fp + fn).
    fn f1(&self) -> f64 {
        share(2 * self.correct, self.labelled + self.predicted)
    }
}

/// The first of the largest.
fn most_probable(probabilities: &[f32]) -> usize {
    let larger = |best: usize, at: usize| {
        if probabilities[at] > probabilities[best] {
            at
        } else {
            best
        }
    };
    (0..probabilities.len()).fold(0, larger)
}

fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 {
        0.0
    } else {
        part as f64 / whole as f64
    }
}

fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (sum, count) = values.fold((0.0, 0_u32), |(sum, count), value| (sum + value, count + 1));
    if count == 0 {
        0.0
    } else {
        sum / f64::from(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    fn counted(predictions: &[(f32, usize)]) -> Evaluation {
        let mut evaluation = Evaluation::new(2);
        for &(positive, label) in predictions {
            evaluation
                .add(&[1.0 - positive, positive], label)
                .expect("a prediction");
        }
        evaluation
    }

    #[test]
    fn scores_of_two_classes_are_those_computed_by_hand() {
        // True positives 2, false positives 1, false negatives 1, true negatives 4.
        let predictions = [
            (0.9, 1),
            (0.8, 1),
            (0.4, 1),
            (0.7, 0),
            (0.1, 0),
            (0.2, 0),
            (0.3, 0),
            (0.05, 0),
        ];
        let scores = counted(&predictions).scores();
        assert_eq!(scores.confusion, [[4, 1], [1, 2]]);
        assert_eq!(scores.count, 8);
        assert!((scores.accuracy - 0.75).abs() < 1e-12);
        assert!((scores.balanced_accuracy - (0.8 + 2.0 / 3.0) / 2.0).abs() < 1e-12);
        assert!((scores.f1 - 2.0 / 3.0).abs() < 1e-12);
        // 14 of the 15 pairs are in order: only 0.4 stands below 0.7.
        assert!((scores.auc.expect("both classes") - 14.0 / 15.0).abs() < 1e-12);
        let losses = [0.9, 0.8, 0.4, 0.3, 0.9, 0.8, 0.7, 0.95_f64];
        let expected = -losses.iter().map(|p| p.ln()).sum::<f64>() / 8.0;
        assert!((scores.loss - expected).abs() < 1e-6, "{}", scores.loss);
    }

    #[test]
    fn scores_of_three_classes_are_means_over_classes() {
        let mut evaluation = Evaluation::new(3);
        let predictions = [
            ([0.8, 0.1, 0.1], 0),
            ([0.2, 0.7, 0.1], 0),
            ([0.1, 0.8, 0.1], 1),
            ([0.3, 0.3, 0.4], 2),
        ];
        for (probabilities, label) in predictions {
            evaluation.add(&probabilities, label).expect("a prediction");
        }
        let scores = evaluation.scores();
        assert!((scores.balanced_accuracy - (0.5 + 1.0 + 1.0) / 3.0).abs() < 1e-12);
        assert!((scores.f1 - (2.0 / 3.0 + 2.0 / 3.0 + 1.0) / 3.0).abs() < 1e-12);
        // Class 0: 3 of 4 pairs; classes 1 and 2: all.
        assert!((scores.auc.expect("all classes") - (0.75 + 1.0 + 1.0) / 3.0).abs() < 1e-12);
    }

    #[test]
    fn merged_parts_are_the_whole() {
        let mut random = Random::new(&[1]);
        let predictions: Vec<_> = (0..500)
            .map(|_| (random.unit(), usize::from(random.coin())))
            .collect();
        let (left, right) = predictions.split_at(123);
        let mut merged = counted(left);
        merged.merge(&counted(right)).expect("the same classes");
        let (merged, whole) = (merged.scores(), counted(&predictions).scores());
        assert!((merged.loss - whole.loss).abs() < 1e-12);
        assert_eq!((merged.confusion, merged.auc), (whole.confusion, whole.auc));
        assert!((merged.calibration_error - whole.calibration_error).abs() < 1e-12);
        assert!(Evaluation::new(2).merge(&Evaluation::new(3)).is_err());
    }

    #[test]
    fn what_is_no_prediction_is_refused_and_not_counted() {
        let mut evaluation = Evaluation::new(2);
        assert!(evaluation.add(&[1.0], 0).is_err());
        assert!(evaluation.add(&[0.5, 0.5], 2).is_err());
        assert!(evaluation.add(&[f32::NAN, 0.5], 0).is_err());
        assert_eq!(evaluation.scores().count, 0);
        assert_eq!(evaluation.scores().auc, None);
        assert_eq!(evaluation.scores().loss, 0.0);
    }
}

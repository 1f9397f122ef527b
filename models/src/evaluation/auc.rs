//! Area under the ROC curve: exact where all scores are at hand, from fixed bins where only counts
//! are merged.

/// Bins of equal width over scores of 0 to 1.
pub const SCORE_BINS: usize = 1000;

/// How many scores of each kind fell into each bin.
#[derive(Clone, PartialEq)]
pub(super) struct ScoreBins {
    positive: Vec<u64>,
    negative: Vec<u64>,
}

/// An area, and its largest distance to the exact one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Area {
    pub(super) value: f64,
    pub(super) error: f64,
}

impl Default for ScoreBins {
    fn default() -> Self {
        Self {
            positive: vec![0; SCORE_BINS],
            negative: vec![0; SCORE_BINS],
        }
    }
}

impl ScoreBins {
    pub(super) fn add(&mut self, score: f32, positive: bool) {
        let bin = ((f64::from(score) * SCORE_BINS as f64) as usize).min(SCORE_BINS - 1);
        let bins = if positive {
            &mut self.positive
        } else {
            &mut self.negative
        };
        bins[bin] += 1;
    }

    pub(super) fn merge(&mut self, other: &Self) {
        let pairs = [
            (&mut self.positive, &other.positive),
            (&mut self.negative, &other.negative),
        ];
        for (sums, counts) in pairs {
            sums.iter_mut()
                .zip(counts)
                .for_each(|(sum, count)| *sum += count);
        }
    }

    /// The share of pairs in order. Pairs that share a bin count half, so the result is wrong by
    /// at most half their share. None where one kind is missing.
    pub(super) fn area(&self) -> Option<Area> {
        let (mut below, mut ordered, mut tied) = (0.0, 0.0, 0.0);
        for (&positive, &negative) in self.positive.iter().zip(&self.negative) {
            let (positive, negative) = (positive as f64, negative as f64);
            ordered += positive * below;
            tied += positive * negative;
            below += negative;
        }
        let pairs = below * self.positive.iter().sum::<u64>() as f64;
        let area = Area {
            value: (ordered + tied / 2.0) / pairs,
            error: tied / 2.0 / pairs,
        };
        (pairs > 0.0).then_some(area)
    }
}

/// The last class of two, else the mean over all classes.
pub(super) fn combined(areas: &[Option<Area>]) -> Option<Area> {
    if let [_, positive] = areas {
        return *positive;
    }
    let known: Vec<_> = areas.iter().copied().collect::<Option<_>>()?;
    let mean = |value: fn(&Area) -> f64| known.iter().map(value).sum::<f64>() / known.len() as f64;
    (!known.is_empty()).then(|| Area {
        value: mean(|area| area.value),
        error: mean(|area| area.error),
    })
}

/// The exact area from all scores; equal scores count half. None where one kind is missing or a
/// score is NaN.
///
/// # Panics
/// Where there are not as many labels as scores.
pub fn exact_auc(scores: &[f32], positive: &[bool]) -> Option<f64> {
    assert_eq!(scores.len(), positive.len(), "one label for each score");
    if scores.iter().any(|score| score.is_nan()) {
        return None;
    }
    let mut pairs: Vec<_> = scores.iter().zip(positive).collect();
    pairs.sort_by(|left, right| left.0.total_cmp(right.0));
    let (mut below, mut ordered) = (0_u64, 0.0);
    // Runs of equal scores; `==` also joins 0 and -0, which `total_cmp` puts side by side.
    for run in pairs.chunk_by(|left, right| left.0 == right.0) {
        let positives = run.iter().filter(|(_, positive)| **positive).count() as u64;
        let negatives = run.len() as u64 - positives;
        ordered += positives as f64 * (below as f64 + negatives as f64 / 2.0);
        below += negatives;
    }
    let product = below as f64 * (scores.len() as u64 - below) as f64;
    (product > 0.0).then(|| ordered / product)
}

/// As [`exact_auc`], from the probabilities of all classes, row by row: of the last class of two,
/// else the mean over classes, each against the rest.
///
/// # Panics
/// Where there is not one row for each label.
pub fn exact_macro_auc(probabilities: &[f32], labels: &[usize], classes: usize) -> Option<f64> {
    assert_eq!(
        probabilities.len(),
        labels.len() * classes,
        "one row for each label"
    );
    let area = |class: usize| {
        let scores: Vec<_> = probabilities
            .iter()
            .skip(class)
            .step_by(classes)
            .copied()
            .collect();
        let positive: Vec<_> = labels.iter().map(|&label| label == class).collect();
        exact_auc(&scores, &positive).map(|value| Area { value, error: 0.0 })
    };
    combined(&(0..classes).map(area).collect::<Vec<_>>()).map(|area| area.value)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn equal_scores_count_half() {
        let area = exact_auc(&[0.1, 0.5, 0.5, 0.9], &[false, false, true, true]);
        assert_eq!(area, Some(0.875));
        assert_eq!(exact_auc(&[0.0, -0.0], &[true, false]), Some(0.5));
        assert_eq!(exact_auc(&[0.1, 0.2], &[true, true]), None);
        assert_eq!(exact_auc(&[f32::NAN, 0.2], &[true, false]), None);
        assert_eq!(exact_auc(&[], &[]), None);
    }

    #[test]
    fn classes_of_three_are_averaged_and_two_give_the_last() {
        let rows = [0.8, 0.1, 0.1, 0.2, 0.7, 0.1, 0.1, 0.8, 0.1, 0.3, 0.3, 0.4];
        let area = exact_macro_auc(&rows, &[0, 0, 1, 2], 3).expect("all classes");
        assert!((area - (0.75 + 1.0 + 1.0) / 3.0).abs() < 1e-12, "{area}");
        assert_eq!(
            exact_macro_auc(&[0.9, 0.1, 0.2, 0.8], &[0, 1], 2),
            Some(1.0)
        );
    }

    proptest! {
        #[test]
        fn binned_areas_stay_within_their_stated_error(
            examples in proptest::collection::vec((0.0_f32..=1.0, any::<bool>()), 2..200),
            crowded in any::<bool>(),
        ) {
            // Crowded scores share few bins, so that the bound has something to say.
            let width = if crowded { 0.005 } else { 1.0 };
            let (scores, labels): (Vec<f32>, Vec<bool>) =
                examples.iter().map(|(score, label)| (score * width, *label)).unzip();
            let mut bins = ScoreBins::default();
            scores.iter().zip(&labels).for_each(|(score, label)| bins.add(*score, *label));
            match (bins.area(), exact_auc(&scores, &labels)) {
                (Some(area), Some(exact)) => {
                    prop_assert!((area.value - exact).abs() <= area.error + 1e-12);
                }
                (binned, exact) => prop_assert!(binned.is_none() && exact.is_none()),
            }
        }
    }
}

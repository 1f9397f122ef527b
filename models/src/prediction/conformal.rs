//! Sets of classes that hold the true one as often as asked (Vovk et al. 2005; Sadinle et al. 2019,
//! arXiv:1609.00451).
//!
//! Holds for records that are drawn like those that the threshold was taken from, on average over records: not
//! for each class or kind of patient by itself, and not where the pictures have changed.

use serde::{Deserialize, Serialize};

use super::Share;

/// From which probability on a class belongs to the set.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Conformal {
    /// How often the true class may be missing.
    pub error_rate: Share,
    /// Least probability of a class of the set, 0 to 1.
    threshold: f32,
    /// Records that the threshold was taken from.
    pub records: usize,
}

impl Conformal {
    /// The ⌊(n + 1) · error rate⌋-th smallest of the probabilities that true classes got; 0, so that every class
    /// belongs to the set, where there are too few.
    pub(super) fn fit(rows: &[Vec<f32>], labels: &[usize], error_rate: Share) -> Self {
        let of_truth = |(row, &label): (&Vec<f32>, &usize)| row.get(label).copied().unwrap_or(0.0);
        let mut truths: Vec<f32> = rows.iter().zip(labels).map(of_truth).collect();
        truths.sort_by(f32::total_cmp);
        let missed = ((truths.len() + 1) as f64 * error_rate.get()).floor() as usize;
        let threshold = missed.checked_sub(1).and_then(|at| truths.get(at));
        Self {
            error_rate,
            threshold: threshold.copied().unwrap_or(0.0),
            records: truths.len(),
        }
    }

    /// The classes of the set, by place. It may be empty: then no class is as likely as true ones usually are.
    pub fn set(&self, probabilities: &[f32]) -> Vec<usize> {
        let all = probabilities.iter().enumerate();
        all.filter(|&(_, &p)| p >= self.threshold)
            .map(|(class, _)| class)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    fn drawn(random: &mut Random, count: usize) -> (Vec<Vec<f32>>, Vec<usize>) {
        let mut pair = || {
            let parts: Vec<f32> = (0..4).map(|_| random.unit() + 0.01).collect();
            let sum: f32 = parts.iter().sum();
            let row: Vec<f32> = parts.iter().map(|part| part / sum).collect();
            let mut left = random.unit();
            let label = row.iter().position(|p| {
                left -= p;
                left < 0.0
            });
            (row, label.unwrap_or(3))
        };
        (0..count).map(|_| pair()).unzip()
    }

    /// Over many halves: within three standard errors of a binomial.
    #[test]
    fn the_true_class_is_missing_as_often_as_allowed_and_not_much_less() {
        let mut random = Random::new(&[8]);
        for rate in [0.05, 0.1, 0.3] {
            let error_rate = Share::try_from(rate).expect("a share");
            let (mut missed, mut seen) = (0, 0);
            for _ in 0..40 {
                let (rows, labels) = drawn(&mut random, 200);
                let conformal = Conformal::fit(&rows, &labels, error_rate);
                let (rows, labels) = drawn(&mut random, 200);
                for (row, label) in rows.iter().zip(labels) {
                    missed += usize::from(!conformal.set(row).contains(&label));
                    seen += 1;
                }
            }
            let found = missed as f64 / seen as f64;
            // The threshold itself is drawn 40 times: that adds to the spread.
            let spread = 3.0 * (rate * (1.0 - rate) * (1.0 / 8000.0 + 1.0 / 8000.0)).sqrt();
            assert!(
                found <= rate + spread && found >= rate - 0.01 - spread,
                "{rate}: {found}"
            );
        }
    }

    #[test]
    fn too_few_records_give_every_class() {
        let (rows, labels) = drawn(&mut Random::new(&[1]), 8);
        let error_rate = Share::try_from(0.1).expect("a share");
        let conformal = Conformal::fit(&rows, &labels, error_rate);
        assert_eq!(conformal.set(&[0.0, 0.2, 0.8]), [0, 1, 2]);
        assert_eq!(
            Conformal::fit(&[], &[], error_rate).set(&[0.5, 0.5]),
            [0, 1]
        );
    }
}

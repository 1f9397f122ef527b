//! Labels that a model doubts which never saw their records.
//!
//! Confident learning (Northcutt, Jiang and Chuang, Confident Learning: Estimating Uncertainty in Dataset
//! Labels, JAIR 70, 2021). The threshold of a class is the mean probability that the model gives it on
//! records that carry its label. A record counts for the likeliest class whose threshold its
//! probability reaches; where that is another class than its label, the label is suspect. The
//! thresholds make up for a model that is over- or underconfident of some class.

/// Why labels cannot be judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LabelNoiseError {
    /// Fewer than two classes: no label can be another one.
    #[error("labels are judged among 2 classes or more")]
    OneClass,
    /// Not one probability for each class of each label.
    #[error("{labels} labels of {classes} classes need as many probabilities, found {found}")]
    WrongLength {
        /// Labels given.
        labels: usize,
        /// Classes.
        classes: usize,
        /// Probabilities given.
        found: usize,
    },
    /// A label that is no class.
    #[error("record {record}: a label must be below {classes}")]
    NoClass {
        /// Position in the list.
        record: usize,
        /// Classes.
        classes: usize,
    },
    /// Numbers that are no probabilities.
    #[error("record {record}: probabilities must be 0 to 1 and have the sum 1")]
    NoProbability {
        /// Position in the list.
        record: usize,
    },
}

/// What a model thinks of the labels of a set.
#[derive(Debug, Clone, PartialEq)]
pub struct LabelNoise {
    /// Labels that may be wrong, the least credible first.
    pub suspects: Vec<Suspect>,
    /// Estimated share of wrong labels: the off-diagonal mass of the calibrated confident joint. It
    /// may differ from the share of suspects.
    pub share: f64,
}

/// A label that may be wrong.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Suspect {
    /// Position of the record in the list.
    pub record: usize,
    /// The class that stands there.
    pub given: usize,
    /// The class that the model sees.
    pub seen: usize,
    /// Probability of the class that stands there.
    pub given_probability: f64,
    /// Probability of the class that the model sees.
    pub seen_probability: f64,
}

impl Suspect {
    /// The normalised margin by which suspects are ranked: above -1, below 0 for most.
    fn margin(&self) -> f64 {
        self.given_probability - self.seen_probability
    }
}

/// Judges labels by out-of-fold probabilities: `classes` for each label, in the order of the labels, from a
/// model that was trained on neither the record nor another one of its patient (see
/// [`folds`](super::folds)).
///
/// # Errors
/// Numbers that do not fit each other, that are no classes or no probabilities.
pub fn label_noise(
    probabilities: &[f64],
    classes: usize,
    labels: &[usize],
) -> Result<LabelNoise, LabelNoiseError> {
    if classes < 2 {
        return Err(LabelNoiseError::OneClass);
    }
    if labels.len().checked_mul(classes) != Some(probabilities.len()) {
        return Err(LabelNoiseError::WrongLength {
            labels: labels.len(),
            classes,
            found: probabilities.len(),
        });
    }
    let rows = || probabilities.chunks_exact(classes).zip(labels).enumerate();
    for (record, (row, &label)) in rows() {
        if label >= classes {
            return Err(LabelNoiseError::NoClass { record, classes });
        }
        let are_shares = row.iter().all(|value| (0.0..=1.0).contains(value));
        if !are_shares || (row.iter().sum::<f64>() - 1.0).abs() > 1e-3 {
            return Err(LabelNoiseError::NoProbability { record });
        }
    }
    let counts = (0..classes).map(|class| labels.iter().filter(|&&label| label == class).count());
    let counts: Vec<usize> = counts.collect();
    let mut thresholds = vec![0.0; classes];
    for (_, (row, &label)) in rows() {
        thresholds[label] += row[label] / counts[label] as f64;
    }
    let mut joint = vec![vec![0_usize; classes]; classes];
    let mut suspects = Vec::new();
    for (record, (row, &given)) in rows() {
        // A class that no record has cannot be learnt, so nobody is confident of it. Sums are rounded.
        let is_confident =
            |class: &usize| counts[*class] > 0 && row[*class] >= thresholds[*class] - 1e-9;
        let confident = (0..classes).filter(is_confident);
        let Some(seen) = confident.max_by(|&a, &b| row[a].total_cmp(&row[b])) else {
            continue;
        };
        joint[given][seen] += 1;
        if seen != given {
            suspects.push(Suspect {
                record,
                given,
                seen,
                given_probability: row[given],
                seen_probability: row[seen],
            });
        }
    }
    suspects.sort_by(|one, other| one.margin().total_cmp(&other.margin()));
    Ok(LabelNoise {
        suspects,
        share: wrong_share(&joint, &counts),
    })
}

/// Scales each row of the confident joint to the records that carry its label; the share off the
/// diagonal.
fn wrong_share(joint: &[Vec<usize>], counts: &[usize]) -> f64 {
    let mut wrong = 0.0;
    for (given, (row, &count)) in joint.iter().zip(counts).enumerate() {
        let confident: usize = row.iter().sum();
        if confident > 0 {
            let others = confident - row[given];
            wrong += count as f64 * others as f64 / confident as f64;
        }
    }
    wrong / counts.iter().sum::<usize>().max(1) as f64
}

#[cfg(test)]
mod tests {
    use consilium_models::random::Random;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_joint_is_that_of_the_paper_on_a_set_small_enough_to_follow() {
        // Thresholds: class 0 (0.9 + 0.8 + 0.1) / 3 = 0.6, class 1 (0.7 + 0.9 + 0.5) / 3 = 0.7.
        let probabilities = [0.9, 0.1, 0.8, 0.2, 0.1, 0.9, 0.3, 0.7, 0.1, 0.9, 0.5, 0.5];
        let found = label_noise(&probabilities, 2, &[0, 0, 0, 1, 1, 1]).expect("sound");
        let suspect = Suspect {
            record: 2,
            given: 0,
            seen: 1,
            given_probability: 0.1,
            seen_probability: 0.9,
        };
        assert_eq!(found.suspects, [suspect]);
        // One of three records with label 0, none of those with label 1 (of which two are confident).
        assert!((found.share - 1.0 / 6.0).abs() < 1e-12, "{}", found.share);
    }

    /// Three classes; the model is right up to noise, and 10 of 100 labels were turned.
    #[test]
    fn planted_flips_are_found_and_the_share_is_estimated() {
        let mut random = Random::new(&[4]);
        let (mut probabilities, mut labels, mut flipped) = (Vec::new(), Vec::new(), Vec::new());
        for record in 0..3000 {
            let truth = record % 3;
            let mut row = [0, 1, 2].map(|class| match class == truth {
                true => 1.0 + 2.0 * f64::from(random.unit()),
                false => f64::from(random.unit()),
            });
            let sum: f64 = row.iter().sum();
            row.iter_mut().for_each(|value| *value /= sum);
            probabilities.extend(row);
            let flips = random.unit() < 0.1;
            flipped.push(flips);
            labels.push(if flips { (truth + 1) % 3 } else { truth });
        }
        let found = label_noise(&probabilities, 3, &labels).expect("sound");
        let hits = found
            .suspects
            .iter()
            .filter(|suspect| flipped[suspect.record]);
        let hits = hits.count() as f64;
        let all = flipped.iter().filter(|&&flips| flips).count() as f64;
        let (precision, recall) = (hits / found.suspects.len() as f64, hits / all);
        assert!(precision > 0.9 && recall > 0.6, "{precision} {recall}");
        assert!((found.share - 0.1).abs() < 0.02, "{}", found.share);
        let worst = &found.suspects[..100];
        assert!(worst.iter().all(|suspect| flipped[suspect.record]));
    }

    #[test]
    fn what_cannot_be_judged_is_refused_by_name() {
        assert_eq!(label_noise(&[], 1, &[]), Err(LabelNoiseError::OneClass));
        let wrong = label_noise(&[0.5, 0.5], 2, &[0, 1]);
        assert!(matches!(wrong, Err(LabelNoiseError::WrongLength { .. })));
        let no_class = label_noise(&[0.5, 0.5], 2, &[2]);
        assert!(matches!(
            no_class,
            Err(LabelNoiseError::NoClass { record: 0, .. })
        ));
        for row in [[f64::NAN, 0.5], [0.9, 0.9], [-0.5, 1.5]] {
            let refused = label_noise(&row, 2, &[0]);
            assert_eq!(refused, Err(LabelNoiseError::NoProbability { record: 0 }));
        }
        let nothing = label_noise(&[], 2, &[]).expect("nothing to judge");
        assert!(nothing.suspects.is_empty() && nothing.share == 0.0);
    }

    proptest! {
        #[test]
        fn no_probabilities_make_it_panic(
            probabilities in proptest::collection::vec(proptest::num::f64::ANY, 0..24),
            classes in 0_usize..5,
            labels in proptest::collection::vec(0_usize..5, 0..8),
        ) {
            label_noise(&probabilities, classes, &labels).ok();
        }

        #[test]
        fn a_suspect_always_has_another_class_and_the_share_is_one(
            rows in proptest::collection::vec((0.0_f64..1.0, 0_usize..2), 1..40),
        ) {
            let probabilities: Vec<f64> = rows.iter().flat_map(|(p, _)| [*p, 1.0 - p]).collect();
            let labels: Vec<usize> = rows.iter().map(|(_, label)| *label).collect();
            let found = label_noise(&probabilities, 2, &labels).expect("sound");
            prop_assert!((0.0..=1.0).contains(&found.share));
            for suspect in found.suspects {
                prop_assert_ne!(suspect.given, suspect.seen);
                prop_assert_eq!(suspect.given, labels[suspect.record]);
            }
        }
    }
}

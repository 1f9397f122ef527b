//! Parts of a set for cross-fitting, none of which shares a patient with another.

use std::collections::BTreeMap;

use consilium_models::random::Random;

/// Why a set cannot be parted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FoldsError {
    /// Fewer than two folds.
    #[error("a set is parted into 2 folds or more")]
    OneFold,
    /// A fold would be empty.
    #[error("{folds} folds need as many patients, found {patients}")]
    FewPatients {
        /// Folds wanted.
        folds: usize,
        /// Patients there are.
        patients: usize,
    },
    /// Not one label for each record.
    #[error("{patients} records have {labels} labels")]
    WrongLength {
        /// Records, by their patients.
        patients: usize,
        /// Labels given.
        labels: usize,
    },
}

/// Parts records into `count` folds of about the same size and the same share of each label; all records of a
/// patient are in one fold. The answer is the fold of each record, the same for the same seed.
///
/// Patients go one by one, those with the most records first, to the fold that has the fewest records of
/// their labels so far and, of several that do, the smallest.
///
/// # Errors
/// Fewer than two folds, fewer patients than folds, another number of labels than of records.
pub fn folds(
    patients: &[&str],
    labels: &[usize],
    count: usize,
    seed: u64,
) -> Result<Vec<usize>, FoldsError> {
    if count < 2 {
        return Err(FoldsError::OneFold);
    }
    if patients.len() != labels.len() {
        return Err(FoldsError::WrongLength {
            patients: patients.len(),
            labels: labels.len(),
        });
    }
    let mut by_patient: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (record, patient) in patients.iter().enumerate() {
        by_patient.entry(patient).or_default().push(record);
    }
    if by_patient.len() < count {
        return Err(FoldsError::FewPatients {
            folds: count,
            patients: by_patient.len(),
        });
    }
    let mut random = Random::new(&[seed]);
    let mut order: Vec<(Vec<usize>, u64)> = by_patient
        .into_values()
        .map(|records| (records, random.bits()))
        .collect();
    order.sort_by_key(|(records, draw)| (std::cmp::Reverse(records.len()), *draw));
    let mut fold_of = vec![0; patients.len()];
    let mut sizes = vec![0_usize; count];
    let mut of_label: Vec<BTreeMap<usize, usize>> = vec![BTreeMap::new(); count];
    for (records, _) in order {
        let alike = |fold: usize| -> usize {
            let counts = records
                .iter()
                .map(|&record| of_label[fold].get(&labels[record]));
            counts.map(|count| count.copied().unwrap_or_default()).sum()
        };
        let smallest = (0..count).min_by_key(|&fold| (alike(fold), sizes[fold]));
        let fold = smallest.unwrap_or_default();
        sizes[fold] += records.len();
        for record in records {
            fold_of[record] = fold;
            *of_label[fold].entry(labels[record]).or_default() += 1;
        }
    }
    Ok(fold_of)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn folds_have_the_same_share_of_each_label() {
        let names: Vec<String> = (0..200).map(|at| format!("p{at}")).collect();
        let patients: Vec<&str> = names.iter().map(String::as_str).collect();
        let labels: Vec<usize> = (0..200).map(|at| usize::from(at % 10 == 0)).collect();
        let found = folds(&patients, &labels, 5, 1).expect("enough patients");
        for fold in 0..5 {
            let members = || (0..200).filter(|&record| found[record] == fold);
            let ill = members().filter(|&record| labels[record] == 1).count();
            assert_eq!((members().count(), ill), (40, 4));
        }
        assert_eq!(folds(&patients, &labels, 5, 1), Ok(found.clone()));
        assert_ne!(folds(&patients, &labels, 5, 2), Ok(found));
    }

    #[test]
    fn what_cannot_be_parted_is_refused_by_name() {
        assert_eq!(folds(&["a", "b"], &[0, 1], 1, 1), Err(FoldsError::OneFold));
        let few = FoldsError::FewPatients {
            folds: 3,
            patients: 2,
        };
        assert_eq!(folds(&["a", "b", "a"], &[0, 1, 0], 3, 1), Err(few));
        let wrong = FoldsError::WrongLength {
            patients: 1,
            labels: 0,
        };
        assert_eq!(folds(&["a"], &[], 2, 1), Err(wrong));
    }

    proptest! {
        #[test]
        fn no_patient_is_in_two_folds_and_none_is_empty(
            records in proptest::collection::vec((0_u8..30, 0_usize..3), 0..120),
            count in 2_usize..6,
            seed in any::<u64>(),
        ) {
            let names: Vec<String> = records.iter().map(|(who, _)| who.to_string()).collect();
            let patients: Vec<&str> = names.iter().map(String::as_str).collect();
            let labels: Vec<usize> = records.iter().map(|(_, label)| *label).collect();
            let Ok(found) = folds(&patients, &labels, count, seed) else {
                return Ok(());
            };
            let mut fold_of = BTreeMap::new();
            for (patient, fold) in patients.iter().zip(&found) {
                prop_assert_eq!(fold_of.entry(patient).or_insert(fold), &fold);
            }
            for fold in 0..count {
                prop_assert!(found.contains(&fold));
            }
        }
    }
}

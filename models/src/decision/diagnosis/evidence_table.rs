//! How probable each answer is under each condition, from counts or from a knowledge file.
//!
//! Answers count as independent given the condition (naive Bayes). Findings that come together are
//! therefore counted more than once, and probabilities lean towards 0 and 1. The order of the
//! conditions suffers less.

use super::layout::{Answers, Layout, LayoutError};

/// The least probability of an answer: one wrong or rare answer must not rule a condition out for good.
const FLOOR: f64 = 1e-6;

/// A count below this many deviations of its noise counts as none.
const COUNT_DEVIATIONS: f64 = 2.0;

/// A condition with fewer patients than this many deviations of the noise is not known.
const PATIENT_DEVIATIONS: f64 = 3.0;

/// Why there can be no table.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum TableError {
    /// A vector of another length.
    #[error("{what} should be {expected} numbers, not {found}")]
    Length {
        /// What the numbers are.
        what: &'static str,
        /// How many there should be.
        expected: usize,
        /// How many there are.
        found: usize,
    },
    /// A number that means nothing here.
    #[error("{0} must be finite and in range")]
    Range(&'static str),
    /// No condition has enough patients to be told from noise.
    #[error("no condition has enough patients to be known")]
    NobodyKnown,
    /// Questions that cannot be laid out.
    #[error(transparent)]
    Layout(#[from] LayoutError),
}

/// How counts become probabilities.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Smoothing {
    /// Patients added to each condition who answer like all patients together. Above 0.
    pub patients: f64,
    /// Standard deviation of the noise on each count; 0 without noise.
    pub noise: f64,
}

/// P(answer | condition) for every question, and P(condition).
#[derive(Debug, Clone, PartialEq)]
pub struct EvidenceTable {
    layout: Layout,
    /// Per condition. 0 for one that is not known.
    prior: Vec<f64>,
    /// Cell by cell, the conditions of one cell side by side.
    likelihood: Vec<f64>,
}

impl EvidenceTable {
    /// From probabilities: one prior per condition, and per condition one number per cell.
    ///
    /// Priors are scaled to sum 1, as are the values of a choice. Probabilities of answers are kept off 0
    /// and 1 by a millionth.
    ///
    /// # Errors
    /// Wrong lengths, numbers outside 0 ≤ p ≤ 1, no prior above 0.
    pub fn new(layout: Layout, prior: &[f64], likelihood: &[f64]) -> Result<Self, TableError> {
        let conditions = layout.conditions().len();
        length("priors", conditions, prior.len())?;
        length("likelihoods", conditions * layout.cells(), likelihood.len())?;
        if !prior.iter().all(|p| p.is_finite() && *p >= 0.0) {
            return Err(TableError::Range("a prior"));
        }
        if !likelihood.iter().all(|p| (0.0..=1.0).contains(p)) {
            return Err(TableError::Range("a likelihood"));
        }
        let total: f64 = prior.iter().sum();
        if !(total.is_finite() && total > 0.0) {
            return Err(TableError::NobodyKnown);
        }
        let cells = layout.cells();
        let mut turned = vec![0.0; likelihood.len()];
        for condition in 0..conditions {
            for cell in 0..cells {
                turned[cell * conditions + condition] =
                    likelihood[condition * cells + cell].clamp(FLOOR, 1.0 - FLOOR);
            }
        }
        for (question, start) in layout.iter() {
            if let Answers::OneOf { values, .. } = &question.answers {
                let rows = start * conditions..(start + values.len()) * conditions;
                scale_columns(&mut turned[rows], conditions);
            }
        }
        Ok(Self {
            layout,
            prior: prior.iter().map(|p| p / total).collect(),
            likelihood: turned,
        })
    }

    /// From the sums of all patients' contributions, with or without noise on them.
    ///
    /// A count within two deviations of its noise counts as 0. Each rate is (count + a·b) / (patients + a)
    /// with `a` the patients of [`Smoothing`] and `b` the rate over all conditions, so a condition with few
    /// patients answers like everybody. A question that follows another is counted among those who said yes
    /// to that. A condition with no patients, or fewer than three deviations of the noise, is not known: its
    /// prior is 0.
    ///
    /// # Errors
    /// Wrong length, numbers that are not finite, smoothing out of range, no condition that is known.
    pub fn from_counts(
        layout: Layout,
        counts: &[f64],
        smoothing: Smoothing,
    ) -> Result<Self, TableError> {
        length("counts", layout.len(), counts.len())?;
        if !counts.iter().all(|count| count.is_finite()) {
            return Err(TableError::Range("a count"));
        }
        let Smoothing { patients, noise } = smoothing;
        if !(patients.is_finite() && patients > 0.0 && noise.is_finite() && noise >= 0.0) {
            return Err(TableError::Range("smoothing"));
        }
        let cells = layout.cells();
        let rows: Vec<Counted> = counts
            .chunks_exact(1 + cells)
            .map(|row| Counted::new(&layout, row, noise))
            .collect();
        let mut everybody = vec![(0.0, 0.0); cells];
        for row in rows.iter().filter(|row| row.patients > 0.0) {
            for (sum, cell) in everybody.iter_mut().zip(&row.cells) {
                *sum = (sum.0 + cell.0, sum.1 + cell.1);
            }
        }
        let usual = |(count, of): (f64, f64)| (count + 0.5) / (of + 1.0);
        let likelihood: Vec<f64> = rows
            .iter()
            .flat_map(|row| row.cells.iter().zip(&everybody))
            .map(|(&(count, of), &all)| (count + patients * usual(all)) / (of + patients))
            .map(|rate| rate.clamp(0.0, 1.0))
            .collect();
        let prior: Vec<f64> = rows.iter().map(|row| row.patients).collect();
        Self::new(layout, &prior, &likelihood)
    }

    /// What may be asked, and of which conditions.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// P(condition) before anything is known of a patient. 0 for a condition that is not known.
    pub fn prior(&self) -> &[f64] {
        &self.prior
    }

    /// P(cell | condition), one number per condition.
    pub(super) fn cell(&self, cell: usize) -> &[f64] {
        let conditions = self.layout.conditions().len();
        &self.likelihood[cell * conditions..(cell + 1) * conditions]
    }
}

/// One condition's counts, freed of what noise alone may have made.
struct Counted {
    /// 0 where the condition is not known.
    patients: f64,
    /// Per cell: how many, of how many who were asked.
    cells: Vec<(f64, f64)>,
}

impl Counted {
    /// `row` holds the patients and every cell of the layout.
    fn new(layout: &Layout, row: &[f64], noise: f64) -> Self {
        let known = row[0] > (PATIENT_DEVIATIONS * noise).max(0.5);
        let patients = if known { row[0].max(1.0) } else { 0.0 };
        let real = |cell: usize, of: f64| {
            let count = row[1 + cell];
            if count < COUNT_DEVIATIONS * noise {
                0.0
            } else {
                count.clamp(0.0, of)
            }
        };
        let mut cells = Vec::with_capacity(row.len());
        for (question, start) in layout.iter() {
            let of = match question.after {
                Some(first) => real(layout.first_cell(first), patients),
                None => patients,
            };
            let all = start..start + question.answers.cells();
            let counts: Vec<f64> = all.map(|cell| real(cell, of)).collect();
            match question.answers {
                Answers::OneOf { usual, .. } => cells.extend(choice(counts, usual, of)),
                _ => cells.extend(counts.into_iter().map(|count| (count, of))),
            }
        }
        Self { patients, cells }
    }
}

/// The usual value is what the others leave over; without one, the values' sum is all there is.
fn choice(mut counts: Vec<f64>, usual: Option<usize>, of: f64) -> impl Iterator<Item = (f64, f64)> {
    if let Some(usual) = usual {
        counts[usual] = 0.0;
        counts[usual] = (of - counts.iter().sum::<f64>()).max(0.0);
    }
    let sum: f64 = counts.iter().sum();
    counts.into_iter().map(move |count| (count, sum))
}

fn scale_columns(rows: &mut [f64], columns: usize) {
    for column in 0..columns {
        let sum: f64 = rows.iter().skip(column).step_by(columns).sum();
        for value in rows.iter_mut().skip(column).step_by(columns) {
            *value /= sum;
        }
    }
}

fn length(what: &'static str, expected: usize, found: usize) -> Result<(), TableError> {
    if expected == found {
        Ok(())
    } else {
        Err(TableError::Length {
            what,
            expected,
            found,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{super::layout::Question, *};

    const CLEAN: Smoothing = Smoothing {
        patients: 1.0,
        noise: 0.0,
    };

    fn question(id: &str, answers: Answers, after: Option<usize>) -> Question {
        Question {
            id: id.into(),
            text: id.into(),
            answers,
            after,
            cost: 1.0,
        }
    }

    fn layout() -> Layout {
        let values = ["no", "asia"].map(str::to_owned).to_vec();
        let questions = vec![
            question("pain", Answers::YesNo, None),
            question("severe", Answers::YesNo, Some(0)),
            question(
                "travel",
                Answers::OneOf {
                    values,
                    usual: Some(0),
                },
                None,
            ),
        ];
        Layout::new(["flu", "cold"].map(str::to_owned).to_vec(), questions).expect("a good layout")
    }

    fn close(found: &[f64], expected: &[f64]) {
        assert_eq!(found.len(), expected.len());
        for (found, expected) in found.iter().zip(expected) {
            assert!(
                (found - expected).abs() < 1e-12,
                "{found} is not {expected}"
            );
        }
    }

    #[test]
    fn counts_become_the_probabilities_computed_by_hand() {
        // Patients, pain, severe, no travel (not counted), asia.
        let counts = [8.0, 4.0, 1.0, 0.0, 2.0, 2.0, 2.0, 2.0, 0.0, 0.0];
        let table = EvidenceTable::from_counts(layout(), &counts, CLEAN).expect("good counts");
        close(table.prior(), &[0.8, 0.2]);
        // Everybody: pain 6 of 10, severe 3 of the 6 with pain, asia 2 of 10; each plus ½ of 1.
        let (pain, severe, asia, home) = (6.5 / 11.0, 0.5, 2.5 / 11.0, 8.5 / 11.0);
        close(table.cell(0), &[(4.0 + pain) / 9.0, (2.0 + pain) / 3.0]);
        close(table.cell(1), &[(1.0 + severe) / 5.0, (2.0 + severe) / 3.0]);
        close(table.cell(2), &[(6.0 + home) / 9.0, (2.0 + home) / 3.0]);
        close(table.cell(3), &[(2.0 + asia) / 9.0, asia / 3.0]);
    }

    #[test]
    fn what_noise_alone_may_have_made_counts_as_nothing() {
        let noise = Smoothing {
            noise: 10.0,
            ..CLEAN
        };
        let counts = [100.0, 19.0, -40.0, 7.0, 21.0, 29.0, 29.0, 29.0, 29.0, 29.0];
        let table = EvidenceTable::from_counts(layout(), &counts, noise).expect("good counts");
        close(table.prior(), &[1.0, 0.0]);
        assert!(table.cell(0)[0] < 0.01, "19 is less than twice the noise");
        assert!((table.cell(3)[0] - 0.21).abs() < 0.01, "21 is more");
    }

    #[test]
    fn a_condition_without_patients_is_not_known() {
        let counts = [3.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0];
        let table = EvidenceTable::from_counts(layout(), &counts, CLEAN).expect("good counts");
        close(table.prior(), &[1.0, 0.0]);
        let nobody = EvidenceTable::from_counts(layout(), &[0.0; 10], CLEAN);
        assert_eq!(nobody, Err(TableError::NobodyKnown));
    }

    #[test]
    fn numbers_that_mean_nothing_are_refused() {
        let counts = |count, smoothing| {
            EvidenceTable::from_counts(layout(), &[count; 10], smoothing).expect_err("refused")
        };
        assert_eq!(counts(f64::NAN, CLEAN), TableError::Range("a count"));
        for (patients, noise) in [
            (0.0, 0.0),
            (1.0, -1.0),
            (f64::INFINITY, 0.0),
            (1.0, f64::NAN),
        ] {
            let smoothing = Smoothing { patients, noise };
            assert_eq!(counts(1.0, smoothing), TableError::Range("smoothing"));
        }
        let short = EvidenceTable::from_counts(layout(), &[1.0; 9], CLEAN);
        assert!(matches!(
            short,
            Err(TableError::Length {
                expected: 10,
                found: 9,
                ..
            })
        ));
        let new = |prior: &[f64], p| EvidenceTable::new(layout(), prior, &[p; 8]);
        assert_eq!(new(&[1.0, -1.0], 0.5), Err(TableError::Range("a prior")));
        assert_eq!(
            new(&[1.0, 1.0], 1.5),
            Err(TableError::Range("a likelihood"))
        );
        assert_eq!(new(&[0.0, 0.0], 0.5), Err(TableError::NobodyKnown));
    }
}

//! Scores of a plan: what each means, its range, and how it is reckoned.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{Finding, TreatmentOption, search::Points};
use crate::decision::knowledge::{ConceptId, Grade, Line};

/// Points of guideline concordance that a condition can bring.
const MOST_CONCORDANCE: u32 = 9;
/// Points of benefit that a condition can bring.
const MOST_BENEFIT: u32 = 3;
/// What one broken wish adds to the burden of the patient.
const BROKEN_WISH: u32 = 5;

/// What a plan is worth. Comparable between plans for the same conditions of the same patient only: the
/// figures order plans, they predict nothing.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Scores {
    /// How closely it follows the guidelines: 0 to 1, more is better. Mean over the conditions; each brings
    /// 6 of 9 points for a first-line treatment and 3 for an alternative, and 3, 2 or 1 for the weakest
    /// grade that its steps state: strong, moderate, or weak, of an unknown scale, or none stated. An
    /// untreated condition brings 0.
    pub concordance: f64,
    /// How much good is expected: 0 to 1, more is better. Mean over the conditions of the treatment's
    /// benefit: low 1/3, moderate 2/3, high 1; untreated 0.
    pub benefit: f64,
    /// Warnings: 0 up, less is better. Sum over contraindications, interactions and doses: minor 1,
    /// moderate 3, major 10, contraindicated 30. Of several warnings on the same two drugs the worst
    /// counts.
    pub interaction_burden: u32,
    /// Work of watching: 0 up, less is better. Sum over the treatments: low 1, moderate 2, high 3.
    pub monitoring: u32,
    /// What it asks of the patient: 0 up, less is better. Doses a day of new drugs (rounded up, at least 1
    /// each), the cost of the treatments (low 1, moderate 2, high 3), and 5 for each wish that is broken.
    pub patient_burden: u32,
    /// How much must be asked or measured before everything can be given: 0 up, less is better. Required
    /// facts that are missing, each once.
    pub open_questions: u32,
}

/// One of the scores.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Score {
    /// How closely it follows the guidelines.
    Concordance,
    /// How much good is expected.
    Benefit,
    /// Warnings.
    InteractionBurden,
    /// Work of watching.
    Monitoring,
    /// What it asks of the patient.
    PatientBurden,
    /// What must be asked or measured first.
    OpenQuestions,
}

impl Scores {
    /// From points, for so many conditions.
    pub(super) fn new(points: &Points, conditions: usize) -> Self {
        let conditions = conditions.max(1) as f64;
        let mean = |points: u32, most: u32| f64::from(points) / (f64::from(most) * conditions);
        let [concordance, benefit] = points.gains;
        let [
            interaction_burden,
            monitoring,
            patient_burden,
            open_questions,
        ] = points.costs;
        Self {
            concordance: mean(concordance, MOST_CONCORDANCE),
            benefit: mean(benefit, MOST_BENEFIT),
            interaction_burden,
            monitoring,
            patient_burden,
            open_questions,
        }
    }
}

impl Score {
    const GAINS: [Self; 2] = [Self::Concordance, Self::Benefit];
    const COSTS: [Self; 4] = [
        Self::InteractionBurden,
        Self::Monitoring,
        Self::PatientBurden,
        Self::OpenQuestions,
    ];

    /// Its name, in words.
    pub fn words(self) -> &'static str {
        match self {
            Self::Concordance => "guideline concordance",
            Self::Benefit => "expected benefit",
            Self::InteractionBurden => "interaction burden",
            Self::Monitoring => "monitoring",
            Self::PatientBurden => "burden of the patient",
            Self::OpenQuestions => "open questions",
        }
    }

    /// In what the first is worse than the second.
    pub(super) fn worse(one: &Points, other: &Points) -> Vec<Self> {
        let gains = Self::GAINS
            .into_iter()
            .zip(one.gains.iter().zip(&other.gains));
        let costs = Self::COSTS
            .into_iter()
            .zip(other.costs.iter().zip(&one.costs));
        gains
            .chain(costs)
            .filter(|(_, (less, more))| less < more)
            .map(|(score, _)| score)
            .collect()
    }
}

/// What a treatment, or drugs of a user's plan, add to the scores. Drugs and questions are numbered, so
/// that what two treatments share counts once.
#[derive(Clone, Default)]
pub(super) struct Worth {
    pub(super) gains: [u32; 2],
    pub(super) monitoring: u32,
    pub(super) cost: u32,
    pub(super) broken: u32,
    /// Points of warnings that belong to no drug or pair of drugs, such as a dose.
    pub(super) warnings: u32,
    /// Numbers of drugs, and doses a day.
    pub(super) drugs: Vec<(usize, u32)>,
    /// Numbers of required facts that are missing.
    pub(super) asked: Vec<usize>,
}

impl Worth {
    /// What the patient is asked for, short of taking drugs.
    pub(super) fn burden(&self) -> u32 {
        self.cost
            .saturating_add(self.broken.saturating_mul(BROKEN_WISH))
    }

    /// Adds another's, so that what both have counts once.
    pub(super) fn add(&mut self, other: &Self) {
        for (to, from) in self.gains.iter_mut().zip(other.gains) {
            *to = to.saturating_add(from);
        }
        self.monitoring = self.monitoring.saturating_add(other.monitoring);
        self.cost = self.cost.saturating_add(other.cost);
        self.broken = self.broken.saturating_add(other.broken);
        self.warnings = self.warnings.saturating_add(other.warnings);
        self.drugs.extend(&other.drugs);
        self.asked.extend(&other.asked);
        // Of two entries of one drug the one with more doses comes last and stays.
        self.drugs.sort_unstable();
        self.drugs.reverse();
        self.drugs.dedup_by_key(|(drug, _)| *drug);
        self.asked.sort_unstable();
        self.asked.dedup();
    }
}

/// Points of guideline concordance and benefit of a treatment.
pub(super) fn gains(option: &TreatmentOption) -> [u32; 2] {
    let line = match option.line {
        Line::First => 6,
        Line::Alternative => 3,
    };
    let graded = option.steps.iter().filter_map(|step| step.grade.as_deref());
    let grades = graded.map(strength);
    [line + grades.min().unwrap_or(1), points(option.benefit)]
}

/// Points of a grade: low 1, moderate 2, high 3.
pub(super) fn points(grade: Grade) -> u32 {
    match grade {
        Grade::Low => 1,
        Grade::Moderate => 2,
        Grade::High => 3,
    }
}

/// How strong a recommendation is, from the first word of its grade that says so: 3 strong, 2 moderate, 1
/// weak or of a scale not known here. Known are words (strong, moderate, weak, conditional), the classes of
/// cardiology (I, IIa, IIb) and letters or numbers as in GRADE (1A, 2B, A, B, C).
fn strength(grade: &str) -> u32 {
    let grade = grade.to_lowercase();
    let words = grade.split(|letter: char| !letter.is_alphanumeric());
    let known = |word| match word {
        "strong" | "i" | "1" | "1a" | "1b" | "1c" | "a" | "强" => Some(3),
        "moderate" | "iia" | "2a" | "b" | "中" => Some(2),
        "weak" | "conditional" | "iib" | "iii" | "2" | "2b" | "2c" | "3" | "c" | "d" | "弱" => {
            Some(1)
        }
        _ => None,
    };
    words.into_iter().find_map(known).unwrap_or(1)
}

/// How heavy warnings are together: of those on the same two drugs the worst counts.
pub(super) fn burden<'f>(findings: impl IntoIterator<Item = &'f Finding>) -> u32 {
    let mut pairs: BTreeMap<[&ConceptId; 2], u32> = BTreeMap::new();
    let mut sum = 0_u32;
    for finding in findings {
        match finding.drugs.as_slice() {
            [one, other] => {
                let worst = pairs.entry([one.min(other), one.max(other)]).or_default();
                *worst = (*worst).max(finding.weight());
            }
            _ => sum = sum.saturating_add(finding.weight()),
        }
    }
    pairs
        .values()
        .fold(sum, |sum, weight| sum.saturating_add(*weight))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grades_of_common_scales_are_read() {
        for (grade, points) in [
            ("strong recommendation, moderate evidence", 3),
            ("Class I, level A", 3),
            ("class IIa", 2),
            ("conditional, low", 1),
            ("2B", 1),
            ("good practice", 1),
            ("", 1),
        ] {
            assert_eq!(strength(grade), points, "{grade}");
        }
    }

    #[test]
    fn a_drug_of_two_treatments_counts_once_with_its_larger_number_of_doses() {
        let worth = |drugs: &[(usize, u32)], asked: &[usize]| Worth {
            drugs: drugs.to_vec(),
            asked: asked.to_vec(),
            ..Worth::default()
        };
        let mut sum = worth(&[(0, 1), (1, 2)], &[4]);
        sum.add(&worth(&[(1, 3), (2, 1)], &[4, 5]));
        assert_eq!(sum.drugs, [(2, 1), (1, 3), (0, 1)]);
        assert_eq!(sum.asked, [4, 5]);
    }
}

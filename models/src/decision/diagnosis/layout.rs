//! What may be asked, what may be answered, and where each count of it stands.
//!
//! A [`Layout`] lays all counts out in one vector, so that hospitals can add theirs under noise. One patient
//! adds 1 to a bounded number of counts: only what was found, never what was not. What was not found follows
//! from the number of patients, so the vector's norm stays small and the noise with it.

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::random::Random;

/// Why a layout or a contribution cannot be.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum LayoutError {
    /// Nothing to tell apart.
    #[error("a layout needs at least one condition")]
    NoCondition,
    /// A name that stands for two things.
    #[error("{what} {name:?} is there twice")]
    Twice {
        /// Condition, question or value.
        what: &'static str,
        /// The name.
        name: String,
    },
    /// A choice between fewer than two values, or a list of none.
    #[error("question {0:?} has too few values to choose from")]
    NoChoice(String),
    /// The usual value is not among the values.
    #[error("question {0:?} names a usual value that it does not have")]
    NoUsual(String),
    /// A question that follows one which cannot open it.
    #[error("question {0:?} may only follow a yes-no question that follows none")]
    Order(String),
    /// A cost that is no price.
    #[error("question {0:?} needs a cost that is finite and above 0")]
    Cost(String),
    /// A patient's condition that the layout does not have.
    #[error("there is no condition {place}: the layout has {conditions}")]
    NoSuchCondition {
        /// The place asked for, from 0.
        place: usize,
        /// How many there are.
        conditions: usize,
    },
    /// An answer that does not fit its question.
    #[error(transparent)]
    Reply(#[from] ReplyError),
}

/// Why an answer is refused. Answers are patient data and never appear here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReplyError {
    /// The table does not have this question.
    #[error("there is no question {0}")]
    NoSuchQuestion(usize),
    /// A yes to a choice, a value that is not there, or values out of order.
    #[error("the answer does not fit question {0:?}")]
    Unfit(String),
    /// The question was answered before.
    #[error("question {0:?} is answered already")]
    Again(String),
    /// The question it follows has not been answered with yes.
    #[error("question {0:?} comes only after a yes to another")]
    TooEarly(String),
}

/// One question, or one test.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Question {
    /// Names it in files.
    pub id: String,
    /// What a person reads.
    pub text: String,
    /// What may be answered.
    pub answers: Answers,
    /// The place of the yes-no question that must be answered with yes first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<usize>,
    /// What asking costs, in units of one plain question. Above 0; 1 unless said otherwise.
    #[serde(default = "one")]
    pub cost: f64,
}

fn one() -> f64 {
    1.0
}

/// What may be answered to a question.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Answers {
    /// Yes or no.
    YesNo,
    /// One of these.
    OneOf {
        /// At least two.
        values: Vec<String>,
        /// The place of the value that is not counted, because it is what all others leave over.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        usual: Option<usize>,
    },
    /// Any number of these, also none.
    AnyOf {
        /// At least one.
        values: Vec<String>,
    },
}

impl Answers {
    /// How many numbers per condition describe them.
    pub(super) fn cells(&self) -> usize {
        match self {
            Self::YesNo => 1,
            Self::OneOf { values, .. } | Self::AnyOf { values } => values.len(),
        }
    }

    fn values(&self) -> &[String] {
        match self {
            Self::YesNo => &[],
            Self::OneOf { values, .. } | Self::AnyOf { values } => values,
        }
    }
}

/// What a patient answers. Patient data: its `Debug` says nothing.
#[derive(Clone, PartialEq, Eq)]
pub enum Reply {
    /// Yes, to a yes-no question.
    Yes,
    /// No, to a yes-no question.
    No,
    /// This value, from 0, of a choice.
    One(usize),
    /// These values, from 0, rising.
    Any(Vec<usize>),
}

impl Reply {
    fn fits(&self, answers: &Answers) -> bool {
        match (self, answers) {
            (Self::Yes | Self::No, Answers::YesNo) => true,
            (Self::One(value), Answers::OneOf { values, .. }) => *value < values.len(),
            (Self::Any(chosen), Answers::AnyOf { values }) => {
                chosen.is_sorted_by(|a, b| a < b) && chosen.iter().all(|&at| at < values.len())
            }
            _ => false,
        }
    }
}

impl fmt::Debug for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Reply")
    }
}

/// A patient whose condition is known, to count.
#[derive(Clone, PartialEq, Eq)]
pub struct Case {
    /// The place of the condition.
    pub condition: usize,
    /// Places of questions, and what was answered. Questions not listed were not found to be so.
    pub answers: Vec<(usize, Reply)>,
}

impl fmt::Debug for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Case({} answers)", self.answers.len())
    }
}

/// Conditions and questions, and where each count stands: per condition the number of patients, then one
/// number per yes, and per value of a choice.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Listed", into = "Listed")]
pub struct Layout {
    conditions: Vec<String>,
    questions: Vec<Question>,
    /// The first cell of each question, and behind the last one the number of cells.
    starts: Vec<usize>,
}

/// A layout as files write it.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Listed {
    conditions: Vec<String>,
    questions: Vec<Question>,
}

impl TryFrom<Listed> for Layout {
    type Error = LayoutError;

    fn try_from(listed: Listed) -> Result<Self, LayoutError> {
        Self::new(listed.conditions, listed.questions)
    }
}

impl From<Layout> for Listed {
    fn from(layout: Layout) -> Self {
        Self {
            conditions: layout.conditions,
            questions: layout.questions,
        }
    }
}

impl Layout {
    /// Lays out these conditions and questions.
    ///
    /// # Errors
    /// No condition, names that are there twice, choices of nothing, a question that follows anything but
    /// a yes-no question that follows none, and costs that are not finite and above 0.
    pub fn new(conditions: Vec<String>, questions: Vec<Question>) -> Result<Self, LayoutError> {
        if conditions.is_empty() {
            return Err(LayoutError::NoCondition);
        }
        distinct("condition", conditions.iter())?;
        distinct("question", questions.iter().map(|question| &question.id))?;
        for question in &questions {
            check(question, &questions)?;
        }
        let mut starts = vec![0];
        let mut cells = 0;
        for question in &questions {
            cells += question.answers.cells();
            starts.push(cells);
        }
        Ok(Self {
            conditions,
            questions,
            starts,
        })
    }

    /// The names of the conditions.
    pub fn conditions(&self) -> &[String] {
        &self.conditions
    }

    /// The questions.
    pub fn questions(&self) -> &[Question] {
        &self.questions
    }

    /// How many counts there are: conditions × (1 + cells).
    pub fn len(&self) -> usize {
        self.conditions.len() * (1 + self.cells())
    }

    /// Whether there are no counts; never so, as there is a condition.
    pub fn is_empty(&self) -> bool {
        self.conditions.is_empty()
    }

    /// The counts to which one patient adds 1 each: the one of patients with the condition, and at most
    /// `limit` of what was found. Of a patient with more, `seed` and the counts themselves choose, never
    /// the other patients. The vector's L2 norm is at most [`Layout::norm`].
    ///
    /// # Errors
    /// A condition or an answer that is not in the layout.
    pub fn contribution(
        &self,
        case: &Case,
        limit: usize,
        seed: u64,
    ) -> Result<Vec<usize>, LayoutError> {
        if case.condition >= self.conditions.len() {
            return Err(LayoutError::NoSuchCondition {
                place: case.condition,
                conditions: self.conditions.len(),
            });
        }
        let mut found = BTreeSet::new();
        for (place, answer) in &case.answers {
            let (question, start) = self.fitting(*place, answer)?;
            match answer {
                Reply::Yes => drop(found.insert(start)),
                Reply::No => (),
                Reply::One(value) => {
                    if !matches!(question.answers, Answers::OneOf { usual, .. } if usual == Some(*value))
                    {
                        found.insert(start + value);
                    }
                }
                Reply::Any(values) => found.extend(values.iter().map(|value| start + value)),
            }
        }
        let mut found: Vec<usize> = found.into_iter().collect();
        if found.len() > limit {
            let words: Vec<u64> = std::iter::once(seed)
                .chain(found.iter().map(|&cell| cell as u64))
                .collect();
            let mut random = Random::new(&words);
            found.sort_by_cached_key(|_| random.bits());
            found.truncate(limit);
        }
        let row = case.condition * (1 + self.cells());
        let mut counts = vec![row];
        counts.extend(found.into_iter().map(|cell| row + 1 + cell));
        Ok(counts)
    }

    /// The most that one patient moves the vector of all counts, as L2 norm: √(1 + limit).
    pub fn norm(&self, limit: usize) -> f64 {
        (1.0 + limit.min(self.cells()) as f64).sqrt()
    }

    pub(super) fn cells(&self) -> usize {
        self.starts.last().copied().unwrap_or(0)
    }

    /// The first cell of a question; of one that is not there, the number of cells.
    pub(super) fn first_cell(&self, place: usize) -> usize {
        self.starts.get(place).copied().unwrap_or(self.cells())
    }

    /// A question and its first cell, where the answer fits it.
    pub(super) fn fitting(
        &self,
        place: usize,
        answer: &Reply,
    ) -> Result<(&Question, usize), ReplyError> {
        let (question, start) = self
            .questions
            .get(place)
            .zip(self.starts.get(place))
            .ok_or(ReplyError::NoSuchQuestion(place))?;
        if answer.fits(&question.answers) {
            Ok((question, *start))
        } else {
            Err(ReplyError::Unfit(question.id.clone()))
        }
    }

    /// Questions with their first cells.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&Question, usize)> {
        self.questions.iter().zip(self.starts.iter().copied())
    }
}

fn distinct<'a>(
    what: &'static str,
    names: impl Iterator<Item = &'a String>,
) -> Result<(), LayoutError> {
    let mut seen = BTreeSet::new();
    for name in names {
        if !seen.insert(name) {
            return Err(LayoutError::Twice {
                what,
                name: name.clone(),
            });
        }
    }
    Ok(())
}

fn check(question: &Question, all: &[Question]) -> Result<(), LayoutError> {
    let id = || question.id.clone();
    distinct("value", question.answers.values().iter())?;
    match &question.answers {
        Answers::OneOf { values, .. } if values.len() < 2 => {
            return Err(LayoutError::NoChoice(id()));
        }
        Answers::OneOf { values, usual } if usual.is_some_and(|at| at >= values.len()) => {
            return Err(LayoutError::NoUsual(id()));
        }
        Answers::AnyOf { values } if values.is_empty() => return Err(LayoutError::NoChoice(id())),
        _ => (),
    }
    let opens = |other: &Question| other.answers == Answers::YesNo && other.after.is_none();
    if question
        .after
        .is_some_and(|at| !all.get(at).is_some_and(opens))
    {
        return Err(LayoutError::Order(id()));
    }
    if !(question.cost.is_finite() && question.cost > 0.0) {
        return Err(LayoutError::Cost(id()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn question(id: &str, answers: Answers, after: Option<usize>) -> Question {
        Question {
            id: id.into(),
            text: format!("{id}?"),
            answers,
            after,
            cost: 1.0,
        }
    }

    fn texts(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    fn layout() -> Layout {
        let travel = Answers::OneOf {
            values: texts(&["no", "asia", "africa"]),
            usual: Some(0),
        };
        let places = Answers::AnyOf {
            values: texts(&["head", "chest", "knee"]),
        };
        let questions = vec![
            question("pain", Answers::YesNo, None),
            question("where", places, Some(0)),
            question("travel", travel, None),
        ];
        Layout::new(texts(&["flu", "cold"]), questions).expect("a good layout")
    }

    #[test]
    fn a_patient_adds_one_to_their_condition_and_to_what_was_found() {
        let case = Case {
            condition: 1,
            answers: vec![
                (0, Reply::Yes),
                (1, Reply::Any(vec![0, 2])),
                (2, Reply::One(0)),
            ],
        };
        // Row of the second condition: patients, pain, head, chest, knee, no, asia, africa. "no" is usual.
        let counts = layout().contribution(&case, 10, 0).expect("in the layout");
        assert_eq!(counts, [8, 9, 10, 12]);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let layout = layout();
        let refused = |condition, question, reply| {
            let case = Case {
                condition,
                answers: vec![(question, reply)],
            };
            layout.contribution(&case, 10, 0).expect_err("does not fit")
        };
        assert!(matches!(
            refused(2, 0, Reply::Yes),
            LayoutError::NoSuchCondition { .. }
        ));
        let unfit = |question, reply| match refused(0, question, reply) {
            LayoutError::Reply(error) => error,
            other => panic!("{other}"),
        };
        assert_eq!(unfit(3, Reply::Yes), ReplyError::NoSuchQuestion(3));
        for (question, reply) in [
            (0, Reply::One(0)),
            (1, Reply::Any(vec![3])),
            (1, Reply::Any(vec![1, 0])),
            (1, Reply::Any(vec![1, 1])),
            (2, Reply::One(3)),
            (2, Reply::No),
        ] {
            assert!(matches!(unfit(question, reply), ReplyError::Unfit(_)));
        }
    }

    #[test]
    fn layouts_that_mean_nothing_are_refused() {
        let new = |questions| Layout::new(texts(&["flu"]), questions).expect_err("means nothing");
        let yes_no = |id, after| question(id, Answers::YesNo, after);
        assert_eq!(Layout::new(vec![], vec![]), Err(LayoutError::NoCondition));
        assert!(Layout::new(texts(&["flu", "flu"]), vec![]).is_err());
        let twice = new(vec![yes_no("a", None), yes_no("a", None)]);
        assert!(matches!(
            twice,
            LayoutError::Twice {
                what: "question",
                ..
            }
        ));
        for after in [0, 1, 7] {
            // Itself, a follower, nothing.
            let questions = vec![
                yes_no("a", Some(after)),
                yes_no("b", Some(0)),
                yes_no("c", None),
            ];
            assert!(matches!(new(questions), LayoutError::Order(_)));
        }
        let one = Answers::OneOf {
            values: texts(&["only"]),
            usual: None,
        };
        assert!(matches!(
            new(vec![question("a", one, None)]),
            LayoutError::NoChoice(_)
        ));
        let usual = Answers::OneOf {
            values: texts(&["x", "y"]),
            usual: Some(2),
        };
        assert!(matches!(
            new(vec![question("a", usual, None)]),
            LayoutError::NoUsual(_)
        ));
        for cost in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            let mut free = yes_no("a", None);
            free.cost = cost;
            assert!(matches!(new(vec![free]), LayoutError::Cost(_)));
        }
    }

    #[test]
    fn a_layout_that_is_read_from_a_file_is_checked() {
        let written = serde_json::to_string(&layout()).expect("plain data");
        assert_eq!(
            serde_json::from_str::<Layout>(&written).expect("as written"),
            layout()
        );
        let broken = written.replace("\"after\":0", "\"after\":1");
        assert!(serde_json::from_str::<Layout>(&broken).is_err());
    }

    proptest! {
        #[test]
        fn no_patient_moves_the_counts_by_more_than_the_norm(
            places in proptest::collection::btree_set(0_usize..3, 0..4),
            travel in 0_usize..3, pain: bool, limit in 0_usize..8, seed: u64,
        ) {
            let layout = layout();
            let pain = if pain { Reply::Yes } else { Reply::No };
            let case = Case {
                condition: 0,
                answers: vec![
                    (0, pain),
                    (1, Reply::Any(places.into_iter().collect())),
                    (2, Reply::One(travel)),
                    (2, Reply::One(travel)),
                ],
            };
            let counts = layout.contribution(&case, limit, seed).expect("in the layout");
            let distinct: BTreeSet<_> = counts.iter().collect();
            prop_assert_eq!(distinct.len(), counts.len());
            prop_assert!((counts.len() as f64).sqrt() <= layout.norm(limit) + 1e-12);
            prop_assert!(counts.iter().all(|&count| count < layout.len()));
        }
    }
}

//! Which question tells the conditions apart best, given what is known of a patient.
//!
//! A question's worth is the expected information gain (Lindley 1956, doi:10.1214/aoms/1177728069): by how
//! many bits its answer is expected to narrow the conditions down, which is the mutual information of
//! answer and condition under the current probabilities. A question with any number of values is worth at
//! least its most telling value; that lower bound is used, as sets of values are too many to add up.

use std::fmt;

use super::{
    evidence_table::EvidenceTable,
    layout::{Answers, Question, Reply, ReplyError},
};

/// A gain of less than this many bits is rounding.
pub(super) const NOTHING: f64 = 1e-9;

/// What is known of one patient: the answers so far, and what they say of each condition.
#[derive(Clone)]
pub struct Belief<'a> {
    table: &'a EvidenceTable,
    /// Per condition, log of prior × likelihood; −∞ for a condition that is not known.
    log: Vec<f64>,
    /// Per question.
    heard: Vec<Heard>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Heard {
    Nothing,
    Yes,
    Other,
}

/// Written by hand: what is believed of a patient is patient data.
impl fmt::Debug for Belief<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Belief({} conditions)", self.log.len())
    }
}

/// What asking a question would be worth now.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Gain {
    /// The place of the question.
    pub question: usize,
    /// Expected information gain, bits.
    pub bits: f64,
    /// Bits for the cost of one plain question: what questions are ordered by.
    pub per_cost: f64,
}

impl<'a> Belief<'a> {
    /// Before anything is known of a patient.
    pub fn new(table: &'a EvidenceTable) -> Self {
        Self {
            table,
            log: table.prior().iter().map(|p| p.ln()).collect(),
            heard: vec![Heard::Nothing; table.layout().questions().len()],
        }
    }

    /// Takes an answer in.
    ///
    /// # Errors
    /// A question that is not there, was answered before, or must follow a yes that has not come; an answer
    /// that does not fit. The belief stays as it was.
    pub fn learn(&mut self, question: usize, answer: &Reply) -> Result<(), ReplyError> {
        let (asked, start) = self.table.layout().fitting(question, answer)?;
        if self.heard[question] != Heard::Nothing {
            return Err(ReplyError::Again(asked.id.clone()));
        }
        if !self.is_open(asked) {
            return Err(ReplyError::TooEarly(asked.id.clone()));
        }
        let table = self.table;
        match (answer, &asked.answers) {
            (Reply::Yes, _) => self.weigh(table.cell(start), true),
            (Reply::No, _) => self.weigh(table.cell(start), false),
            (Reply::One(value), _) => self.weigh(table.cell(start + value), true),
            (Reply::Any(chosen), answers) => {
                let values = match answers {
                    Answers::AnyOf { values } => values.len(),
                    Answers::YesNo | Answers::OneOf { .. } => 0,
                };
                for value in 0..values {
                    let so = chosen.binary_search(&value).is_ok();
                    self.weigh(table.cell(start + value), so);
                }
            }
        }
        self.heard[question] = match answer {
            Reply::Yes => Heard::Yes,
            _ => Heard::Other,
        };
        Ok(())
    }

    /// Does not ask this question again: nobody knew the answer.
    pub fn skip(&mut self, question: usize) {
        if let Some(heard) = self.heard.get_mut(question)
            && *heard == Heard::Nothing
        {
            *heard = Heard::Other;
        }
    }

    /// What would be believed after a yes or a no; the same as now where a question takes neither, or not yet.
    pub fn after(&self, question: usize, is_yes: bool) -> Self {
        let mut after = self.clone();
        let reply = if is_yes { Reply::Yes } else { Reply::No };
        // A refused reply leaves the belief as it was, which is what is asked for.
        let _ = after.learn(question, &reply);
        after
    }

    /// P(condition | answers), one number per condition of the table; they sum to 1.
    pub fn posterior(&self) -> Vec<f64> {
        let most = self.log.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let odds: Vec<f64> = self.log.iter().map(|log| (log - most).exp()).collect();
        let sum: f64 = odds.iter().sum();
        odds.into_iter().map(|odd| odd / sum).collect()
    }

    /// The most probable condition, the first of equals, and its probability.
    pub fn top(&self) -> (usize, f64) {
        let posterior = self.posterior().into_iter().enumerate();
        posterior.fold((0, f64::NEG_INFINITY), |best, next| {
            if next.1 > best.1 { next } else { best }
        })
    }

    /// Every question that may be asked now, the most worth first, equals in the table's order.
    pub fn gains(&self) -> Vec<Gain> {
        let posterior = self.posterior();
        let questions = self.table.layout().iter().enumerate();
        let mut gains: Vec<Gain> = questions
            .filter(|(place, (question, _))| {
                self.heard[*place] == Heard::Nothing && self.is_open(question)
            })
            .map(|(place, (question, start))| {
                let bits = self.bits(question, start, &posterior);
                Gain {
                    question: place,
                    bits,
                    per_cost: bits / question.cost,
                }
            })
            .collect();
        gains.sort_by(|a, b| b.per_cost.total_cmp(&a.per_cost));
        gains
    }

    fn weigh(&mut self, likelihood: &[f64], so: bool) {
        for (log, p) in self.log.iter_mut().zip(likelihood) {
            *log += if so { p.ln() } else { (-p).ln_1p() };
        }
    }

    fn is_open(&self, question: &Question) -> bool {
        question
            .after
            .is_none_or(|first| self.heard[first] == Heard::Yes)
    }

    fn bits(&self, question: &Question, start: usize, posterior: &[f64]) -> f64 {
        let split = |cell: usize| {
            let yes = self.table.cell(cell);
            let overall: f64 = posterior.iter().zip(yes).map(|(p, yes)| p * yes).sum();
            let within: f64 = posterior
                .iter()
                .zip(yes)
                .map(|(p, yes)| p * binary_entropy(*yes))
                .sum();
            binary_entropy(overall) - within
        };
        let bits = match &question.answers {
            Answers::YesNo => split(start),
            Answers::AnyOf { values } => {
                (start..start + values.len()).map(split).fold(0.0, f64::max)
            }
            Answers::OneOf { values, .. } => (start..start + values.len())
                .map(|cell| {
                    let value = self.table.cell(cell);
                    let pairs = posterior.iter().zip(value);
                    let overall: f64 = pairs.clone().map(|(p, value)| p * value).sum();
                    let within: f64 = pairs.map(|(p, value)| p * surprise(*value)).sum();
                    surprise(overall) - within
                })
                .sum(),
        };
        bits.max(0.0)
    }
}

/// −p log₂ p, 0 at 0.
fn surprise(p: f64) -> f64 {
    if p > 0.0 { -p * p.log2() } else { 0.0 }
}

/// Entropy of a yes with probability p, bits.
fn binary_entropy(p: f64) -> f64 {
    surprise(p) + surprise(1.0 - p)
}

/// One question that was asked, and what was thought after its answer. Patient data: its `Debug` names the
/// question only.
#[derive(Clone, PartialEq)]
pub struct Turn {
    /// What was asked, and what it promised.
    pub gain: Gain,
    /// What was answered; nothing where nobody knew.
    pub answer: Option<Reply>,
    /// The place of the condition that was then most probable.
    pub top: usize,
    /// Its probability.
    pub probability: f64,
}

impl fmt::Debug for Turn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Turn(question {})", self.gain.question)
    }
}

/// Asks the best question, takes the answer in, and so on: at most `limit` times, and no longer than a
/// question promises anything. `oracle` answers, or does not know.
///
/// # Errors
/// An answer that does not fit its question.
pub fn ask(
    belief: &mut Belief<'_>,
    limit: usize,
    mut oracle: impl FnMut(usize, &Question) -> Option<Reply>,
) -> Result<Vec<Turn>, ReplyError> {
    let mut turns = Vec::new();
    while turns.len() < limit {
        let Some(gain) = belief.gains().first().copied() else {
            break;
        };
        if gain.bits < NOTHING {
            break;
        }
        let Some(question) = belief.table.layout().questions().get(gain.question) else {
            break;
        };
        let answer = oracle(gain.question, question);
        match &answer {
            Some(answer) => belief.learn(gain.question, answer)?,
            None => belief.skip(gain.question),
        }
        let (top, probability) = belief.top();
        turns.push(Turn {
            gain,
            answer,
            top,
            probability,
        });
    }
    Ok(turns)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{
        super::{evidence_table::Smoothing, layout::Layout},
        *,
    };

    const CONDITIONS: usize = 3;

    /// Yes-no, one of three, any of two, and a yes-no that follows the first.
    fn layout(costs: [f64; 4]) -> Layout {
        let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        let answers = [
            Answers::YesNo,
            Answers::OneOf {
                values: texts(&["x", "y", "z"]),
                usual: None,
            },
            Answers::AnyOf {
                values: texts(&["u", "v"]),
            },
            Answers::YesNo,
        ];
        let questions = answers.into_iter().zip(costs).enumerate();
        let questions = questions.map(|(place, (answers, cost))| Question {
            id: format!("q{place}"),
            text: String::new(),
            answers,
            after: (place == 3).then_some(0),
            cost,
        });
        Layout::new(texts(&["a", "b", "c"]), questions.collect()).expect("a good layout")
    }

    fn table(prior: &[f64], likelihood: &[f64], costs: [f64; 4]) -> EvidenceTable {
        EvidenceTable::new(layout(costs), prior, likelihood).expect("good numbers")
    }

    fn entropy(probabilities: &[f64]) -> f64 {
        probabilities.iter().copied().map(surprise).sum()
    }

    /// Expected loss of entropy over replies, each with its probability under every condition.
    fn brute_force(belief: &Belief<'_>, replies: &[Vec<f64>]) -> f64 {
        let now = belief.posterior();
        let after: f64 = replies
            .iter()
            .map(|reply| {
                let joint: Vec<f64> = now.iter().zip(reply).map(|(p, q)| p * q).collect();
                let total: f64 = joint.iter().sum();
                total * entropy(&joint.iter().map(|p| p / total).collect::<Vec<_>>())
            })
            .sum();
        entropy(&now) - after
    }

    fn yes_no(yes: &[f64]) -> Vec<Vec<f64>> {
        vec![yes.to_vec(), yes.iter().map(|p| 1.0 - p).collect()]
    }

    fn expected(belief: &Belief<'_>, question: usize) -> f64 {
        let cell = |cell| belief.table.cell(cell);
        match question {
            0 => brute_force(belief, &yes_no(cell(0))),
            1 => brute_force(belief, &[1, 2, 3].map(|at| cell(at).to_vec())),
            2 => brute_force(belief, &yes_no(cell(4))).max(brute_force(belief, &yes_no(cell(5)))),
            _ => brute_force(belief, &yes_no(cell(6))),
        }
    }

    fn numbers(count: usize) -> impl Strategy<Value = Vec<f64>> {
        proptest::collection::vec(0.01_f64..0.99, count)
    }

    proptest! {
        #[test]
        fn the_best_question_is_the_one_found_by_brute_force(
            prior in numbers(CONDITIONS), likelihood in numbers(7 * CONDITIONS),
        ) {
            let table = table(&prior, &likelihood, [1.0; 4]);
            for belief in [Belief::new(&table), Belief::new(&table).after(0, true)] {
                let gains = belief.gains();
                for gain in &gains {
                    prop_assert!((gain.bits - expected(&belief, gain.question)).abs() < 1e-9);
                }
                let best = gains.iter().map(|gain| expected(&belief, gain.question)).fold(0.0, f64::max);
                prop_assert!((gains[0].bits - best).abs() < 1e-9);
            }
        }

        #[test]
        fn a_set_of_values_is_worth_at_least_what_is_said_of_it(
            prior in numbers(CONDITIONS), likelihood in numbers(7 * CONDITIONS),
        ) {
            let table = table(&prior, &likelihood, [1.0; 4]);
            let belief = Belief::new(&table);
            let (u, v) = (yes_no(table.cell(4)), yes_no(table.cell(5)));
            let sets: Vec<Vec<f64>> = u.iter().flat_map(|u| {
                v.iter().map(move |v| u.iter().zip(v).map(|(u, v)| u * v).collect())
            }).collect();
            let gains = belief.gains();
            let claimed = gains.iter().find(|gain| gain.question == 2).expect("open").bits;
            prop_assert!(claimed <= brute_force(&belief, &sets) + 1e-9);
        }

        #[test]
        fn the_order_of_replies_changes_nothing(
            prior in numbers(CONDITIONS), likelihood in numbers(7 * CONDITIONS),
        ) {
            let table = table(&prior, &likelihood, [1.0; 4]);
            let replies = [(0, Reply::No), (1, Reply::One(2)), (2, Reply::Any(vec![1]))];
            let learn = |order: [usize; 3]| {
                let mut belief = Belief::new(&table);
                for at in order {
                    belief.learn(replies[at].0, &replies[at].1).expect("fits");
                }
                belief.posterior()
            };
            for (one, other) in learn([0, 1, 2]).iter().zip(learn([2, 0, 1])) {
                prop_assert!((one - other).abs() < 1e-12);
            }
        }
    }

    #[test]
    fn the_posterior_is_the_one_computed_by_hand() {
        let mut likelihood = vec![0.5; 7 * CONDITIONS];
        (likelihood[0], likelihood[7], likelihood[14]) = (0.8, 0.4, 0.2);
        let table = table(&[0.5, 0.25, 0.25], &likelihood, [1.0; 4]);
        let posterior = Belief::new(&table).after(0, true).posterior();
        // 0.5 × 0.8, 0.25 × 0.4, 0.25 × 0.2.
        for (found, expected) in posterior.iter().zip([0.4 / 0.55, 0.1 / 0.55, 0.05 / 0.55]) {
            assert!((found - expected).abs() < 1e-12);
        }
    }

    #[test]
    fn a_dear_question_comes_behind_a_cheap_one_that_says_less() {
        let mut likelihood = vec![0.5; 7 * CONDITIONS];
        (likelihood[0], likelihood[4]) = (0.99, 0.9);
        let best = |costs| {
            let table = table(&[1.0, 1.0, 1.0], &likelihood, costs);
            Belief::new(&table).gains()[0].question
        };
        assert_eq!(best([1.0; 4]), 0);
        assert_eq!(best([10.0, 1.0, 1.0, 1.0]), 2);
    }

    #[test]
    fn replies_that_come_twice_too_early_or_to_nothing_are_refused() {
        let table = table(&[1.0; 3], &[0.5; 21], [1.0; 4]);
        let mut belief = Belief::new(&table);
        assert_eq!(
            belief.learn(3, &Reply::Yes),
            Err(ReplyError::TooEarly("q3".into()))
        );
        assert_eq!(
            belief.learn(4, &Reply::Yes),
            Err(ReplyError::NoSuchQuestion(4))
        );
        assert_eq!(
            belief.learn(0, &Reply::One(0)),
            Err(ReplyError::Unfit("q0".into()))
        );
        assert_eq!(belief.learn(0, &Reply::No), Ok(()));
        assert_eq!(
            belief.learn(0, &Reply::No),
            Err(ReplyError::Again("q0".into()))
        );
        assert_eq!(
            belief.learn(3, &Reply::Yes),
            Err(ReplyError::TooEarly("q3".into()))
        );
    }

    #[test]
    fn asking_finds_the_condition_and_ends_when_nothing_more_can_be_learnt() {
        // 2⁶ conditions in 6 yes-no questions that split them in halves, and one that says nothing.
        let conditions: Vec<String> = (0..64).map(|at| at.to_string()).collect();
        let questions = (0..7).map(|at| Question {
            id: at.to_string(),
            text: String::new(),
            answers: Answers::YesNo,
            after: None,
            cost: 1.0,
        });
        let layout = Layout::new(conditions, questions.collect()).expect("a good layout");
        let bit = |condition: usize, at: usize| condition >> at & 1 == 1;
        let likelihood: Vec<f64> = (0..64)
            .flat_map(|condition| (0..7).map(move |at| (condition, at)))
            .map(|(condition, at)| {
                if at == 6 {
                    0.5
                } else {
                    f64::from(u8::from(bit(condition, at)))
                }
            })
            .collect();
        let table = EvidenceTable::new(layout, &[1.0; 64], &likelihood).expect("good numbers");
        let truth = 37;
        let reply = |at, _: &Question| {
            Some(if bit(truth, at) {
                Reply::Yes
            } else {
                Reply::No
            })
        };
        let mut belief = Belief::new(&table);
        let turns = ask(&mut belief, 100, reply).expect("fits");
        let last = turns.last().expect("something was asked");
        assert_eq!((turns.len(), last.top), (6, truth));
        assert!(last.probability > 0.99);
        let three = ask(&mut Belief::new(&table), 3, reply).expect("fits");
        assert_eq!(three.len(), 3);
    }

    #[test]
    fn what_nobody_knows_is_asked_once_and_changes_nothing() {
        let likelihood: Vec<f64> = (0..21).map(|at| 0.2 + 0.03 * f64::from(at)).collect();
        let table = table(&[1.0; 3], &likelihood, [1.0; 4]);
        let mut belief = Belief::new(&table);
        let turns = ask(&mut belief, 10, |_, _| None).expect("no reply can be unfit");
        assert_eq!(turns.len(), 3, "the fourth follows a yes that never came");
        assert!(turns.iter().all(|turn| turn.answer.is_none()));
        assert_eq!(belief.posterior(), Belief::new(&table).posterior());
    }

    #[test]
    fn a_condition_that_is_not_known_never_comes_up() {
        let counts: Vec<f64> = [[50.0; 8], [0.0; 8], [40.0; 8]].concat();
        let smoothing = Smoothing {
            patients: 1.0,
            noise: 0.0,
        };
        let table = EvidenceTable::from_counts(layout([1.0; 4]), &counts, smoothing);
        let table = table.expect("good counts");
        let belief = Belief::new(&table).after(0, false);
        assert_eq!(belief.posterior()[1], 0.0);
        assert!(belief.gains().iter().all(|gain| gain.bits.is_finite()));
    }
}

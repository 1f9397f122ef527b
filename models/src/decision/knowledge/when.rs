//! What must be so for a rule, a dose or a warning to apply.

use serde::{Deserialize, Serialize};

use super::{ConceptId, EntryId, Level};
use crate::decision::facts::Sex;

/// A condition on what is known of a patient. In a file it is a table with one subject:
///
/// ```toml
/// { present = "finding.fever" }                         # also absent, history, taking, allergic
/// { test = "test.crp", above = 100, unit = "mg/L" }     # also at_least, below, at_most; two make a range
/// { test = "test.potassium", level = "high" }           # by the reference range: low, normal, high
/// { age_at_least = 65 }                                 # also age_below (years)
/// { weight_at_most = 60 }                               # also weight_at_least, weight_below (kg)
/// { sex = "female" }                                    # or male
/// { pregnant = true }
/// { score = "score.crb-65", at_least = 2 }
/// { all = [ … ] }   { any = [ … ] }   { not = { … } }   { at_least = 2, of = [ … ] }
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "RawWhen", into = "RawWhen")]
pub enum When {
    /// All of them hold.
    All(Vec<When>),
    /// One of them holds.
    Any(Vec<When>),
    /// It does not hold.
    Not(Box<When>),
    /// So many of them hold.
    Count {
        /// How many at least.
        at_least: usize,
        /// Of which.
        of: Vec<When>,
    },
    /// The patient has it now.
    Present(ConceptId),
    /// The patient does not have it now.
    Absent(ConceptId),
    /// The patient has it or had it.
    History(ConceptId),
    /// The patient takes the drug, or one of the class.
    Taking(ConceptId),
    /// The patient is allergic to the drug or the class.
    Allergic(ConceptId),
    /// A measured value lies in a range.
    Test {
        /// Of which test.
        test: ConceptId,
        /// The range, in `unit`.
        range: Range,
        /// The unit of the range.
        unit: String,
    },
    /// A measured value lies so by its reference range.
    Level {
        /// Of which test.
        test: ConceptId,
        /// Where it lies.
        level: Level,
    },
    /// A score has so many points.
    Score {
        /// Which score.
        score: EntryId,
        /// How many points.
        range: Range,
    },
    /// Age in years.
    Age(Range),
    /// Body weight in kilograms.
    Weight(Range),
    /// Sex.
    Sex(Sex),
    /// Whether the patient is pregnant.
    Pregnant(bool),
}

/// Numbers from one edge to another; either may be missing.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Range {
    low: Option<Edge>,
    high: Option<Edge>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Edge {
    at: f64,
    included: bool,
}

/// Why a table is no condition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadWhen {
    /// Not one subject.
    #[error(
        "a condition says exactly one of present, absent, history, taking, allergic, test, score, age_…, \
         weight_…, sex, pregnant, all, any, not, of; this one says {0}"
    )]
    Subjects(usize),
    /// A subject without what it needs, or with what it does not take.
    #[error("{subject} takes {takes}")]
    Takes {
        /// Of what.
        subject: &'static str,
        /// What belongs to it.
        takes: &'static str,
    },
    /// A number that is not finite.
    #[error("a threshold must be a finite number")]
    NotFinite,
}

#[derive(Serialize, Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct RawWhen {
    #[serde(skip_serializing_if = "Option::is_none")]
    all: Option<Vec<When>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    any: Option<Vec<When>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    not: Option<Box<When>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    of: Option<Vec<When>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    present: Option<ConceptId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    absent: Option<ConceptId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    history: Option<ConceptId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    taking: Option<ConceptId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    allergic: Option<ConceptId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    test: Option<ConceptId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    score: Option<EntryId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    at_least: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    above: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    below: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    at_most: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    unit: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    level: Option<Level>,
    #[serde(skip_serializing_if = "Option::is_none")]
    age_at_least: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    age_below: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    weight_at_least: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    weight_below: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    weight_at_most: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sex: Option<Sex>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pregnant: Option<bool>,
}

impl When {
    /// The conditions inside this one: of `all`, `any`, `not` and `of`.
    pub fn parts(&self) -> &[When] {
        match self {
            Self::All(parts) | Self::Any(parts) | Self::Count { of: parts, .. } => parts,
            Self::Not(part) => std::slice::from_ref(part),
            _ => &[],
        }
    }

    /// Every condition without parts, in the order of the file.
    pub fn leaves(&self) -> Vec<&When> {
        let mut leaves = Vec::new();
        let mut open = vec![self];
        while let Some(when) = open.pop() {
            if when.is_leaf() {
                leaves.push(when);
            } else {
                open.extend(when.parts().iter().rev());
            }
        }
        leaves
    }

    /// Whether it has no parts by its nature.
    pub fn is_leaf(&self) -> bool {
        !matches!(
            self,
            Self::All(_) | Self::Any(_) | Self::Not(_) | Self::Count { .. }
        )
    }

    /// The concept that a leaf asks about.
    pub fn concept(&self) -> Option<&ConceptId> {
        match self {
            Self::Present(id)
            | Self::Absent(id)
            | Self::History(id)
            | Self::Taking(id)
            | Self::Allergic(id)
            | Self::Test { test: id, .. }
            | Self::Level { test: id, .. } => Some(id),
            _ => None,
        }
    }
}

impl Range {
    /// From edges, as far as given: at least, above, below, at most. Of two lower edges the first counts.
    pub(crate) fn new(
        at_least: Option<f64>,
        above: Option<f64>,
        below: Option<f64>,
        at_most: Option<f64>,
    ) -> Self {
        let edge = |at, included| Edge { at, included };
        Self {
            low: at_least
                .map(|at| edge(at, true))
                .or(above.map(|at| edge(at, false))),
            high: at_most
                .map(|at| edge(at, true))
                .or(below.map(|at| edge(at, false))),
        }
    }

    /// Whether a number lies in it.
    pub fn contains(self, number: f64) -> bool {
        let above = self
            .low
            .is_none_or(|low| number > low.at || (low.included && number == low.at));
        let below = self
            .high
            .is_none_or(|high| number < high.at || (high.included && number == high.at));
        above && below
    }

    /// Whether it has no edge.
    pub fn is_unbounded(self) -> bool {
        self.low.is_none() && self.high.is_none()
    }

    /// Whether no number lies in it.
    pub fn is_empty(self) -> bool {
        match (self.low, self.high) {
            (Some(low), Some(high)) => {
                low.at > high.at || (low.at == high.at && !(low.included && high.included))
            }
            _ => false,
        }
    }

    /// Numbers that lie in both.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        let low = match (self.low, other.low) {
            (Some(one), Some(two)) if two.at > one.at || (two.at == one.at && !two.included) => {
                Some(two)
            }
            (one, two) => one.or(two),
        };
        let high = match (self.high, other.high) {
            (Some(one), Some(two)) if two.at < one.at || (two.at == one.at && !two.included) => {
                Some(two)
            }
            (one, two) => one.or(two),
        };
        Self { low, high }
    }

    /// The same range where every number is changed by a rising function, such as another unit.
    #[must_use]
    pub fn map(self, change: impl Fn(f64) -> f64) -> Self {
        let moved = |edge: Edge| Edge {
            at: change(edge.at),
            included: edge.included,
        };
        Self {
            low: self.low.map(moved),
            high: self.high.map(moved),
        }
    }

    /// What lies below it, and what lies above it.
    pub(crate) fn outside(self) -> [Option<Self>; 2] {
        let turned = |edge: Edge| Edge {
            at: edge.at,
            included: !edge.included,
        };
        let below = self.low.map(|low| Self {
            low: None,
            high: Some(turned(low)),
        });
        let above = self.high.map(|high| Self {
            low: Some(turned(high)),
            high: None,
        });
        [below, above]
    }

    /// At least, above, below, at most: what [`Range::new`] takes.
    fn thresholds(self) -> [Option<f64>; 4] {
        let edge = |edge: Option<Edge>, included| {
            edge.filter(|edge| edge.included == included)
                .map(|edge| edge.at)
        };
        [
            edge(self.low, true),
            edge(self.low, false),
            edge(self.high, false),
            edge(self.high, true),
        ]
    }

    /// The lower and the upper edge, as far as there are.
    pub fn edges(self) -> (Option<f64>, Option<f64>) {
        (self.low.map(|edge| edge.at), self.high.map(|edge| edge.at))
    }
}

impl TryFrom<RawWhen> for When {
    type Error = BadWhen;
    fn try_from(raw: RawWhen) -> Result<Self, BadWhen> {
        let age = raw.age_at_least.is_some() || raw.age_below.is_some();
        let weight = raw
            .weight_at_least
            .or(raw.weight_below)
            .or(raw.weight_at_most)
            .is_some();
        let subjects = [
            raw.all.is_some(),
            raw.any.is_some(),
            raw.not.is_some(),
            raw.of.is_some(),
            raw.present.is_some(),
            raw.absent.is_some(),
            raw.history.is_some(),
            raw.taking.is_some(),
            raw.allergic.is_some(),
            raw.test.is_some(),
            raw.score.is_some(),
            raw.sex.is_some(),
            raw.pregnant.is_some(),
            age,
            weight,
        ];
        let subjects = subjects.into_iter().filter(|said| *said).count();
        if subjects != 1 {
            return Err(BadWhen::Subjects(subjects));
        }
        let thresholds = [raw.at_least, raw.above, raw.below, raw.at_most];
        let others = [
            raw.age_at_least,
            raw.age_below,
            raw.weight_at_least,
            raw.weight_below,
            raw.weight_at_most,
        ];
        if !thresholds
            .iter()
            .chain(&others)
            .flatten()
            .all(|number| number.is_finite())
        {
            return Err(BadWhen::NotFinite);
        }
        let range = Range::new(raw.at_least, raw.above, raw.below, raw.at_most);
        let twice = (raw.at_least.is_some() && raw.above.is_some())
            || (raw.below.is_some() && raw.at_most.is_some())
            || (raw.weight_below.is_some() && raw.weight_at_most.is_some());
        let bare = range.is_unbounded() && raw.unit.is_none() && raw.level.is_none();
        let takes = |subject, takes| Err(BadWhen::Takes { subject, takes });

        if let Some(test) = raw.test {
            return match (raw.level, raw.unit) {
                (Some(level), None) if range.is_unbounded() => Ok(Self::Level { test, level }),
                (None, Some(unit)) if !range.is_unbounded() && !twice => {
                    Ok(Self::Test { test, range, unit })
                }
                _ => takes(
                    "test",
                    "a level, or a unit with at_least or above, below or at_most, or one of each",
                ),
            };
        }
        if let Some(score) = raw.score {
            return if raw.unit.is_none() && raw.level.is_none() && !range.is_unbounded() && !twice {
                Ok(Self::Score { score, range })
            } else {
                takes(
                    "score",
                    "at_least or above, below or at_most, or one of each",
                )
            };
        }
        if let Some(of) = raw.of {
            let others = raw.above.or(raw.below).or(raw.at_most);
            return match raw.at_least {
                // Whole and small, so that the cast is exact.
                Some(number)
                    if (1.0..=1000.0).contains(&number)
                        && number.fract() == 0.0
                        && others.is_none()
                        && raw.unit.is_none()
                        && raw.level.is_none() =>
                {
                    Ok(Self::Count {
                        at_least: number as usize,
                        of,
                    })
                }
                _ => takes("of", "at_least, a whole number from 1"),
            };
        }
        if !bare || twice {
            return takes(
                "this condition",
                "no threshold of its own, unit or level, and one upper edge",
            );
        }
        let simple = raw.all.map(Self::All);
        let simple = simple.or(raw.any.map(Self::Any));
        let simple = simple.or(raw.not.map(Self::Not));
        let simple = simple.or(raw.present.map(Self::Present));
        let simple = simple.or(raw.absent.map(Self::Absent));
        let simple = simple.or(raw.history.map(Self::History));
        let simple = simple.or(raw.taking.map(Self::Taking));
        let simple = simple.or(raw.allergic.map(Self::Allergic));
        let simple = simple.or(raw.sex.map(Self::Sex));
        let simple = simple.or(raw.pregnant.map(Self::Pregnant));
        let simple = simple
            .or(age.then(|| Self::Age(Range::new(raw.age_at_least, None, raw.age_below, None))));
        let simple = simple.or(weight.then(|| {
            Self::Weight(Range::new(
                raw.weight_at_least,
                None,
                raw.weight_below,
                raw.weight_at_most,
            ))
        }));
        simple.ok_or(BadWhen::Subjects(0))
    }
}

impl From<When> for RawWhen {
    fn from(when: When) -> Self {
        let mut raw = Self::default();
        match when {
            When::All(parts) => raw.all = Some(parts),
            When::Any(parts) => raw.any = Some(parts),
            When::Not(part) => raw.not = Some(part),
            When::Count { at_least, of } => {
                raw.at_least = Some(at_least as f64);
                raw.of = Some(of);
            }
            When::Present(id) => raw.present = Some(id),
            When::Absent(id) => raw.absent = Some(id),
            When::History(id) => raw.history = Some(id),
            When::Taking(id) => raw.taking = Some(id),
            When::Allergic(id) => raw.allergic = Some(id),
            When::Test { test, range, unit } => {
                [raw.at_least, raw.above, raw.below, raw.at_most] = range.thresholds();
                raw.test = Some(test);
                raw.unit = Some(unit);
            }
            When::Level { test, level } => {
                raw.test = Some(test);
                raw.level = Some(level);
            }
            When::Score { score, range } => {
                [raw.at_least, raw.above, raw.below, raw.at_most] = range.thresholds();
                raw.score = Some(score);
            }
            When::Age(range) => [raw.age_at_least, _, raw.age_below, _] = range.thresholds(),
            When::Weight(range) => {
                [raw.weight_at_least, _, raw.weight_below, raw.weight_at_most] = range.thresholds();
            }
            When::Sex(sex) => raw.sex = Some(sex),
            When::Pregnant(pregnant) => raw.pregnant = Some(pregnant),
        }
        raw
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> Result<When, String> {
        #[derive(Deserialize)]
        struct Holder {
            when: When,
        }
        toml::from_str::<Holder>(&format!("when = {text}"))
            .map(|holder| holder.when)
            .map_err(|error| error.message().to_owned())
    }

    fn range() -> impl Strategy<Value = Range> {
        let number = || (-1_000_000..1_000_000_i32).prop_map(|it| f64::from(it) / 4.0);
        (number(), number(), 0..8_u8).prop_map(|(low, high, shape)| match shape {
            0 => Range::new(Some(low), None, None, None),
            1 => Range::new(None, Some(low), None, None),
            2 => Range::new(None, None, Some(high), None),
            3 => Range::new(None, None, None, Some(high)),
            4 => Range::new(Some(low), None, Some(high), None),
            5 => Range::new(None, Some(low), Some(high), None),
            6 => Range::new(Some(low), None, None, Some(high)),
            _ => Range::new(None, Some(low), None, Some(high)),
        })
    }

    fn when() -> impl Strategy<Value = When> {
        let finding =
            || "[a-z]{1,5}".prop_filter_map("an id", |name| format!("finding.{name}").parse().ok());
        let leaf = prop_oneof![
            finding().prop_map(When::Present),
            finding().prop_map(When::Absent),
            finding().prop_map(When::History),
            range().prop_map(|range| When::Test {
                test: "test.crp".parse().expect("an id"),
                range,
                unit: "mg/L".into(),
            }),
            range().prop_map(|range| When::Score {
                score: "score.s".parse().expect("an id"),
                range,
            }),
            (0..100_u8).prop_map(|age| When::Age(Range::new(Some(age.into()), None, None, None))),
            (0..100_u8).prop_map(|kg| When::Weight(Range::new(None, None, None, Some(kg.into())))),
            any::<bool>().prop_map(When::Pregnant),
        ];
        leaf.prop_recursive(4, 32, 4, |inner| {
            let list = || prop::collection::vec(inner.clone(), 0..4);
            prop_oneof![
                list().prop_map(When::All),
                list().prop_map(When::Any),
                inner.clone().prop_map(|part| When::Not(Box::new(part))),
                (1..5_usize, list()).prop_map(|(at_least, of)| When::Count { at_least, of }),
            ]
        })
    }

    #[test]
    fn a_condition_with_two_subjects_or_none_is_refused() {
        for text in ["{}", r#"{ present = "finding.a", absent = "finding.b" }"#] {
            let said = read(text).expect_err("no condition");
            assert!(said.contains("exactly one of"), "{said}");
        }
    }

    #[test]
    fn a_subject_takes_what_belongs_to_it_and_nothing_else() {
        for text in [
            r#"{ test = "test.crp" }"#,
            r#"{ test = "test.crp", above = 1 }"#,
            r#"{ test = "test.crp", unit = "mg/L" }"#,
            r#"{ test = "test.crp", level = "high", unit = "mg/L" }"#,
            r#"{ test = "test.crp", above = 1, at_least = 1, unit = "mg/L" }"#,
            r#"{ present = "finding.a", above = 1 }"#,
            r#"{ score = "s" }"#,
            r#"{ score = "s", at_least = 1, unit = "mg" }"#,
            r#"{ of = [{ pregnant = true }] }"#,
            r#"{ of = [{ pregnant = true }], at_least = 0 }"#,
            r#"{ of = [{ pregnant = true }], at_least = 1.5 }"#,
            r#"{ weight_below = 50, weight_at_most = 60 }"#,
        ] {
            let said = read(text).expect_err(text);
            assert!(said.contains(" takes "), "{text}: {said}");
        }
        let said = read(r#"{ age_at_least = nan }"#).expect_err("no number");
        assert!(said.contains("finite"), "{said}");
    }

    #[test]
    fn edges_are_in_or_out_as_the_words_say() {
        let holds = |text: &str, number: f64| match read(text) {
            Ok(When::Test { range, .. } | When::Weight(range)) => range.contains(number),
            other => panic!("{other:?}"),
        };
        for (word, below, at, above) in [
            ("at_least", false, true, true),
            ("above", false, false, true),
            ("below", true, false, false),
            ("at_most", true, true, false),
        ] {
            let text = format!("{{ test = \"test.a\", unit = \"g\", {word} = 5 }}");
            let found = [4.0, 5.0, 6.0].map(|number| holds(&text, number));
            assert_eq!(found, [below, at, above], "{word}");
        }
        assert!(holds("{ weight_at_most = 60 }", 60.0));
        assert!(!holds("{ weight_below = 60 }", 60.0));
    }

    proptest! {
        #[test]
        fn a_condition_is_the_same_after_a_journey_through_json(when in when()) {
            let json = serde_json::to_string(&when).expect("JSON");
            let back: When = serde_json::from_str(&json).expect("a condition");
            prop_assert_eq!(back, when);
        }

        #[test]
        fn a_number_lies_in_a_range_or_outside_it(range in range(), number in -2e6..2e6_f64) {
            let outside = range.outside().into_iter().flatten().any(|it| it.contains(number));
            prop_assume!(!range.is_empty());
            prop_assert_eq!(range.contains(number), !outside);
        }

        #[test]
        fn what_lies_in_both_lies_in_each(one in range(), two in range(), number in -1e6..1e6_f64) {
            let both = one.contains(number) && two.contains(number);
            prop_assert_eq!(one.and(two).contains(number), both);
            prop_assert!(!both || !one.and(two).is_empty());
        }
    }
}

//! A condition of a knowledge file in words.

use super::bedside::Bedside;
use crate::decision::{
    facts::{Answer, Sex},
    knowledge::{Level, Range, When},
};

impl Bedside<'_> {
    /// A condition in words: `takes warfarin or eGFR below 30 mL/min`.
    pub(super) fn words(&self, when: &When) -> String {
        match when {
            When::All(parts) => self.joined(parts, " and "),
            When::Any(parts) => self.joined(parts, " or "),
            When::Not(part) => format!("not ({})", self.words(part)),
            When::Count { at_least, of } => {
                format!("at least {at_least} of ({})", self.joined(of, "; "))
            }
            When::Present(id) => self.name(id),
            When::Absent(id) => format!("no {}", self.name(id)),
            When::History(id) => format!("{} now or in the past", self.name(id)),
            When::Taking(id) => format!("takes {}", self.name(id)),
            When::Allergic(id) => format!("allergic to {}", self.name(id)),
            When::Test { test, range, unit } => {
                format!("{} {}", self.name(test), in_words(*range, unit))
            }
            When::Level { test, level } => {
                let level = match level {
                    Level::Low => "low",
                    Level::Normal => "normal",
                    Level::High => "high",
                };
                format!("{} {level}", self.name(test))
            }
            When::Score { score, range } => {
                let name = match self.knowledge().score(score) {
                    Some(known) => self.name_of(&known.names, score.as_str()),
                    None => score.to_string(),
                };
                format!("{name} {}", in_words(*range, "points"))
            }
            When::Age(range) => format!("age {}", in_words(*range, "years")),
            When::Weight(range) => format!("weight {}", in_words(*range, "kg")),
            When::Sex(Sex::Female) => "female".into(),
            When::Sex(Sex::Male) => "male".into(),
            When::Pregnant(true) => "pregnant".into(),
            When::Pregnant(false) => "not pregnant".into(),
        }
    }

    /// What holds of a condition that holds, in words: of alternatives only those that are so.
    pub(super) fn held(&self, when: &When) -> String {
        let holding = |parts: &[When]| {
            let holding = parts
                .iter()
                .filter(|part| self.patient.holds(part) == Answer::Yes);
            let words: Vec<String> = holding.map(|part| self.held(part)).collect();
            words.join(" and ")
        };
        match when {
            When::All(parts) | When::Any(parts) | When::Count { of: parts, .. } => holding(parts),
            other => self.words(other),
        }
    }

    fn joined(&self, parts: &[When], with: &str) -> String {
        let words: Vec<String> = parts
            .iter()
            .map(|part| match part {
                When::All(_) | When::Any(_) if parts.len() > 1 => format!("({})", self.words(part)),
                _ => self.words(part),
            })
            .collect();
        words.join(with)
    }
}

fn in_words(range: Range, unit: &str) -> String {
    let (low, high) = range.edges();
    let low = low.map(|at| {
        if range.contains(at) {
            ("at least", at)
        } else {
            ("above", at)
        }
    });
    let high = high.map(|at| {
        if range.contains(at) {
            ("at most", at)
        } else {
            ("below", at)
        }
    });
    let edges = low.into_iter().chain(high);
    let words: Vec<String> = edges.map(|(word, at)| format!("{word} {at}")).collect();
    format!("{} {unit}", words.join(" and "))
        .trim_end()
        .to_owned()
}

//! The rule base over the facts of one patient: what fired, what did not, and what cannot be told.
//!
//! A rule whose condition holds has fired; one whose condition fails has not; where an unknown fact could
//! change that, nobody can tell, and the facts that are missing are named (Kleene's three values, in
//! [`Patient`]). What a definite rule concludes becomes a fact of its own for the rules that build on it, with
//! [`Origin::Concluded`]. Rules of a checked knowledge base have no cycles, so that this comes to an end.

use std::collections::BTreeSet;
use std::fmt;

use serde::Serialize;

use crate::{
    decision::{
        facts::{Answer, Fact, Facts, Origin, Patient},
        knowledge::{ConceptId, Effect, EntryId, Knowledge, Rule, Source, Strength, When},
    },
    text::Span,
};

/// What a rule comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// Its condition holds.
    Fired,
    /// Its condition does not hold.
    NotFired,
    /// Its condition depends on facts that are missing.
    CannotTell,
}

/// A rule held against one patient. Patient data: its `Debug` names the rule only.
#[derive(Clone, PartialEq, Serialize)]
pub struct Ruling {
    /// Which rule.
    pub rule: EntryId,
    /// What it says.
    pub says: String,
    /// For or against what it speaks.
    pub concludes: ConceptId,
    /// For, or against.
    pub effect: Effect,
    /// How strongly.
    pub strength: Strength,
    /// What it comes to.
    pub outcome: Outcome,
    /// The parts of its condition, each with its answer and what that rests on.
    pub parts: Vec<Part>,
    /// Where cannot be told: the questions whose answers are missing. Of a score, those of its lines.
    pub missing: Vec<When>,
    /// The guideline or study it encodes: name, version, url.
    pub source: Option<Source>,
    /// Where in the source.
    pub citation: Option<String>,
}

/// One part of a rule's condition.
#[derive(Clone, PartialEq, Serialize)]
pub struct Part {
    /// What is asked.
    pub when: When,
    /// The answer.
    pub answer: Answer,
    /// The places of the facts behind it, in [`Rulings::facts`].
    pub facts: Vec<usize>,
    /// Where those stand in the note.
    pub spans: Vec<Span>,
}

/// All rules held against one patient.
#[derive(Clone, PartialEq)]
pub struct Rulings {
    /// The facts that were given and, behind them, what definite rules concluded.
    pub facts: Facts,
    /// One per rule, in the order of the knowledge files.
    pub rulings: Vec<Ruling>,
}

impl Rulings {
    /// Holds every rule against the facts, and again as long as a definite one adds a fact.
    pub fn of(facts: &Facts, knowledge: &Knowledge) -> Self {
        let mut facts = facts.clone();
        let mut concluded = BTreeSet::new();
        loop {
            let patient = Patient::new(&facts, knowledge);
            let definite = knowledge.rules().iter().filter(|rule| {
                rule.strength == Strength::Definite
                    && !concluded.contains(&rule.id)
                    && patient.holds(&rule.when) == Answer::Yes
            });
            let new: Vec<(EntryId, Fact)> = definite
                .map(|rule| (rule.id.clone(), conclusion(rule, &patient)))
                .collect();
            // Ends: every pass but the last takes a rule out of a finite list.
            if new.is_empty() {
                let rulings = knowledge
                    .rules()
                    .iter()
                    .map(|rule| Ruling::of(rule, &patient));
                let rulings = rulings.collect();
                return Self { facts, rulings };
            }
            for (rule, fact) in new {
                concluded.insert(rule);
                facts.facts.push(fact);
            }
        }
    }

    /// The rules that speak for or against a concept.
    pub fn on<'a>(&'a self, concept: &'a ConceptId) -> impl Iterator<Item = &'a Ruling> {
        self.rulings
            .iter()
            .filter(move |ruling| ruling.concludes == *concept)
    }
}

/// What a definite rule adds, standing where the first fact behind it stands.
fn conclusion(rule: &Rule, patient: &Patient<'_>) -> Fact {
    let mut fact = match rule.effect {
        Effect::For => Fact::present(rule.concludes.clone()),
        Effect::Against => Fact::absent(rule.concludes.clone()),
    };
    fact.origin = Origin::Concluded;
    fact.span = parts(&rule.when, patient)
        .into_iter()
        .find_map(|part| part.spans.first().copied());
    fact
}

impl Ruling {
    fn of(rule: &Rule, patient: &Patient<'_>) -> Self {
        let outcome = match patient.holds(&rule.when) {
            Answer::Yes => Outcome::Fired,
            Answer::No => Outcome::NotFired,
            Answer::Unknown => Outcome::CannotTell,
        };
        let missing = match outcome {
            Outcome::CannotTell => missing(&rule.when, patient),
            Outcome::Fired | Outcome::NotFired => Vec::new(),
        };
        Self {
            rule: rule.id.clone(),
            says: rule.says.clone(),
            concludes: rule.concludes.clone(),
            effect: rule.effect,
            strength: rule.strength,
            outcome,
            parts: parts(&rule.when, patient),
            missing,
            source: patient.knowledge().source(&rule.source).cloned(),
            citation: rule.citation.clone(),
        }
    }

    /// Whether it fired.
    pub fn has_fired(&self) -> bool {
        self.outcome == Outcome::Fired
    }
}

fn parts(when: &When, patient: &Patient<'_>) -> Vec<Part> {
    let leaves = patient.explain(when).into_iter();
    leaves
        .map(|leaf| Part {
            when: leaf.when.clone(),
            answer: leaf.answer,
            spans: spans(patient.facts(), &leaf.facts),
            facts: leaf.facts,
        })
        .collect()
}

/// Where facts stand in the note, each place once, in the order of the note.
pub(super) fn spans(facts: &Facts, places: &[usize]) -> Vec<Span> {
    let spans: BTreeSet<Span> = places
        .iter()
        .filter_map(|&place| facts.facts.get(place)?.span)
        .collect();
    spans.into_iter().collect()
}

/// The unknown parts on which the answer hangs, each once. A score is asked by its lines, which hold no further
/// scores.
fn missing(when: &When, patient: &Patient<'_>) -> Vec<When> {
    let mut found: Vec<When> = Vec::new();
    let mut open = vec![when];
    while let Some(when) = open.pop() {
        if patient.holds(when) != Answer::Unknown {
            continue;
        }
        match when {
            When::Score { score, .. } => {
                let items = patient
                    .knowledge()
                    .score(score)
                    .map_or(&[][..], |score| &score.items);
                open.extend(items.iter().rev().map(|item| &item.when));
            }
            leaf if leaf.is_leaf() => {
                if !found.contains(leaf) {
                    found.push(leaf.clone());
                }
            }
            whole => open.extend(whole.parts().iter().rev()),
        }
    }
    found
}

/// Written by hand: what a rule comes to is patient data.
impl fmt::Debug for Ruling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ruling({})", self.rule)
    }
}

/// Written by hand: answers are patient data.
impl fmt::Debug for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Part")
    }
}

/// Written by hand: all of it is patient data.
impl fmt::Debug for Rulings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Rulings({})", self.rulings.len())
    }
}

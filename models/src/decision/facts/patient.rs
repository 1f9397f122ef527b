//! Questions to a fact table: yes, no, or unknown.

use std::collections::{BTreeSet, HashMap};

use serde::{Deserialize, Serialize};

use super::{Fact, Facts};
use crate::{
    decision::knowledge::{ConceptId, Condition, EntryId, Knowledge, Level, Range, When},
    text::{Certainty, Experiencer, Time},
};

/// The answer to a question about a patient.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    /// It is so.
    Yes,
    /// It is not so.
    No,
    /// Nobody says, or two facts contradict each other.
    Unknown,
}

/// Facts of a patient, read with a knowledge base: what is a kind of what, and which units convert.
pub struct Patient<'a> {
    facts: &'a Facts,
    knowledge: &'a Knowledge,
    /// By concept: the facts that say it is there, itself or a kind of it.
    here: HashMap<&'a ConceptId, Vec<usize>>,
    /// By concept: the facts that say it is absent.
    absent: HashMap<&'a ConceptId, Vec<usize>>,
    /// By concept: the facts that say it was there.
    past: HashMap<&'a ConceptId, Vec<usize>>,
    /// By test: the latest fact with a value that converts.
    values: HashMap<&'a ConceptId, Measurement>,
    /// Facts with a value that does not convert.
    unread: Vec<usize>,
}

/// The latest measurement of a test.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Measurement {
    /// The value in the test's own unit.
    pub value: f64,
    /// The place of its fact in the list.
    pub fact: usize,
}

/// One condition without parts, how it was answered, and by which facts.
#[derive(Debug, Clone, PartialEq)]
pub struct Leaf<'w> {
    /// The condition.
    pub when: &'w When,
    /// The answer.
    pub answer: Answer,
    /// The places of the facts behind the answer in the list. Empty for unknown, and for who the
    /// patient is.
    pub facts: Vec<usize>,
}

impl Answer {
    /// Yes or no.
    pub fn of(is_so: bool) -> Self {
        if is_so { Self::Yes } else { Self::No }
    }

    /// Yes becomes no, no becomes yes.
    #[must_use]
    pub fn negated(self) -> Self {
        match self {
            Self::Yes => Self::No,
            Self::No => Self::Yes,
            Self::Unknown => Self::Unknown,
        }
    }

    fn known(is_so: Option<bool>) -> Self {
        is_so.map_or(Self::Unknown, Self::of)
    }
}

impl<'a> Patient<'a> {
    /// Reads facts with a knowledge base. Concepts that it does not have answer to their own id only.
    pub fn new(facts: &'a Facts, knowledge: &'a Knowledge) -> Self {
        let mut patient = Self {
            facts,
            knowledge,
            here: HashMap::new(),
            absent: HashMap::new(),
            past: HashMap::new(),
            values: HashMap::new(),
            unread: Vec::new(),
        };
        for (at, fact) in facts.facts.iter().enumerate() {
            patient.read(at, fact);
        }
        patient
    }

    fn read(&mut self, at: usize, fact: &'a Fact) {
        let status = fact.status;
        if status.experiencer != Experiencer::Patient {
            return;
        }
        if let Some(quantity) = &fact.value {
            let measure = self
                .knowledge
                .concept(&fact.concept)
                .and_then(|concept| concept.measure.as_ref());
            let value = measure.and_then(|it| it.convert(quantity.number(), quantity.unit()));
            let counts = status.time == Time::Current && status.certainty != Certainty::Negated;
            match value {
                Some(value) if counts => {
                    let measurement = Measurement { value, fact: at };
                    self.values.insert(&fact.concept, measurement);
                }
                Some(_) => (),
                None => self.unread.push(at),
            }
            return;
        }
        match (status.certainty, status.time) {
            (Certainty::Affirmed, Time::Current) => {
                for id in self.knowledge.upwards(&fact.concept) {
                    self.here.entry(id).or_default().push(at);
                }
            }
            (Certainty::Affirmed, Time::Historical) => {
                for id in self.knowledge.upwards(&fact.concept) {
                    self.past.entry(id).or_default().push(at);
                }
            }
            (Certainty::Negated, Time::Current) => {
                for id in self.knowledge.downwards(&fact.concept) {
                    self.absent.entry(id).or_default().push(at);
                }
            }
            _ => (),
        }
    }

    /// The facts.
    pub fn facts(&self) -> &'a Facts {
        self.facts
    }

    /// The knowledge base they are read with.
    pub fn knowledge(&self) -> &'a Knowledge {
        self.knowledge
    }

    /// The places of facts whose value could not be read: of an unknown test, or in a unit that does
    /// not convert.
    pub fn unread(&self) -> &[usize] {
        &self.unread
    }

    /// Concepts, drugs and allergies of the table that the knowledge base does not have, each once, by id.
    pub fn unknown_concepts(&self) -> Vec<&'a ConceptId> {
        let facts = self.facts.facts.iter().map(|fact| &fact.concept);
        let drugs = self.facts.drugs.iter().flatten().map(|taken| &taken.drug);
        let allergies = self
            .facts
            .allergies
            .iter()
            .flatten()
            .map(|allergy| &allergy.to);
        let all = facts.chain(drugs).chain(allergies);
        let unknown: BTreeSet<_> = all
            .filter(|id| self.knowledge.concept(id).is_none())
            .collect();
        unknown.into_iter().collect()
    }

    /// Whether the patient has it now: by what is written of it, of a kind of it or of what it is a
    /// kind of, and by the measurement that decides it.
    pub fn has(&self, id: &ConceptId) -> Answer {
        self.presence(id).0
    }

    fn presence(&self, id: &ConceptId) -> (Answer, Vec<usize>) {
        let measured = self
            .knowledge
            .concept(id)
            .and_then(|concept| concept.measured.as_ref())
            .map_or((Answer::Unknown, Vec::new()), |when| self.weigh(when));
        if measured.0 == Answer::Yes {
            return measured;
        }
        match (self.here.get(id), self.absent.get(id)) {
            (Some(facts), None) => (Answer::Yes, facts.clone()),
            (None, Some(facts)) => (Answer::No, facts.clone()),
            (Some(_), Some(_)) => (Answer::Unknown, Vec::new()),
            (None, None) => measured,
        }
    }

    /// Whether the patient has it or had it.
    pub fn has_had(&self, id: &ConceptId) -> Answer {
        self.history(id).0
    }

    fn history(&self, id: &ConceptId) -> (Answer, Vec<usize>) {
        match (self.presence(id), self.past.get(id)) {
            ((Answer::Yes, facts), _) => (Answer::Yes, facts),
            (_, Some(facts)) => (Answer::Yes, facts.clone()),
            (answer, None) => answer,
        }
    }

    /// The latest value of a test in the test's own unit. None where it was not measured, or in a unit that
    /// does not convert.
    pub fn measurement(&self, test: &ConceptId) -> Option<Measurement> {
        self.values.get(test).copied()
    }

    /// Where the latest value of a test lies by the reference range of this patient.
    pub fn level(&self, test: &ConceptId) -> Option<Level> {
        let measure = self.knowledge.concept(test)?.measure.as_ref()?;
        let reference = measure.reference(&self.facts.demographics)?;
        Some(reference.level(self.measurement(test)?.value))
    }

    /// Whether the patient takes the drug, or one of the class.
    pub fn takes(&self, drug: &ConceptId) -> Answer {
        let Some(drugs) = &self.facts.drugs else {
            return Answer::Unknown;
        };
        Answer::of(
            drugs
                .iter()
                .any(|taken| self.knowledge.is_a(&taken.drug, drug)),
        )
    }

    /// Whether the patient is allergic to the drug or class: to itself, to what it is a kind of, or (of
    /// a class) to one of its kind.
    pub fn is_allergic(&self, drug: &ConceptId) -> Answer {
        let Some(allergies) = &self.facts.allergies else {
            return Answer::Unknown;
        };
        Answer::of(allergies.iter().any(|allergy| {
            self.knowledge.is_a(drug, &allergy.to) || self.knowledge.is_a(&allergy.to, drug)
        }))
    }

    /// The fewest and the most points that a score can have, given what is unknown. None for an unknown
    /// score.
    pub fn points(&self, score: &EntryId) -> Option<(f64, f64)> {
        let score = self.knowledge.score(score)?;
        let mut points = (0.0, 0.0);
        for item in &score.items {
            match self.holds(&item.when) {
                Answer::Yes => points = (points.0 + item.points, points.1 + item.points),
                Answer::No => (),
                Answer::Unknown => {
                    points.0 += item.points.min(0.0);
                    points.1 += item.points.max(0.0);
                }
            }
        }
        Some(points)
    }

    /// How probable a condition is before its evidence is weighed, among whom, and who says so: that of the
    /// first presentation that holds, else that of everybody.
    pub fn prior<'c>(&self, condition: &'c Condition) -> (f64, &'c str, &'c EntryId) {
        let among = condition
            .among
            .iter()
            .find(|it| self.holds(&it.when) == Answer::Yes);
        match among {
            Some(it) => (it.prior, &it.setting, &it.source),
            None => (condition.prior, &condition.setting, &condition.source),
        }
    }

    /// Whether a condition holds. Unknown parts count only where they could change the answer.
    pub fn holds(&self, when: &When) -> Answer {
        self.weigh(when).0
    }

    /// Every condition without parts, in the order of the file, with its answer and the facts behind
    /// it. The unknown ones are what to ask.
    pub fn explain<'w>(&self, when: &'w When) -> Vec<Leaf<'w>> {
        let explain = |when: &'w When| {
            let (answer, facts) = self.weigh(when);
            Leaf {
                when,
                answer,
                facts,
            }
        };
        when.leaves().into_iter().map(explain).collect()
    }

    fn weigh(&self, when: &When) -> (Answer, Vec<usize>) {
        let demographics = &self.facts.demographics;
        let alone = |answer| (answer, Vec::new());
        match when {
            When::All(parts) => self.count(parts, parts.len()),
            When::Any(parts) => self.count(parts, 1),
            When::Count { at_least, of } => self.count(of, *at_least),
            When::Not(part) => {
                let (answer, facts) = self.weigh(part);
                (answer.negated(), facts)
            }
            When::Present(id) => self.presence(id),
            When::Absent(id) => {
                let (answer, facts) = self.presence(id);
                (answer.negated(), facts)
            }
            When::History(id) => self.history(id),
            When::Taking(id) => alone(self.takes(id)),
            When::Allergic(id) => alone(self.is_allergic(id)),
            When::Test { test, range, unit } => self.compare(test, *range, unit),
            When::Level { test, level } => match (self.level(test), self.measurement(test)) {
                (Some(found), Some(at)) => (Answer::of(found == *level), vec![at.fact]),
                _ => alone(Answer::Unknown),
            },
            When::Score { score, range } => alone(match self.points(score) {
                Some((low, high)) => {
                    // All totals between the two may occur; ranges have no holes.
                    let possible = Range::new(Some(low), None, None, Some(high));
                    if range.contains(low) && range.contains(high) {
                        Answer::Yes
                    } else if range.and(possible).is_empty() {
                        Answer::No
                    } else {
                        Answer::Unknown
                    }
                }
                None => Answer::Unknown,
            }),
            When::Age(range) => alone(Answer::known(
                demographics.age.map(|age| range.contains(age.number())),
            )),
            When::Weight(range) => alone(Answer::known(
                demographics
                    .weight_kg
                    .map(|weight| range.contains(weight.number())),
            )),
            When::Sex(sex) => alone(Answer::known(demographics.sex.map(|is| is == *sex))),
            When::Pregnant(wanted) => alone(self.pregnancy(*wanted)),
        }
    }

    /// Men are not pregnant, whether or not somebody asked.
    fn pregnancy(&self, wanted: bool) -> Answer {
        let demographics = &self.facts.demographics;
        let is_male = demographics.sex == Some(super::Sex::Male);
        let pregnant = demographics.pregnant.or(is_male.then_some(false));
        Answer::known(pregnant.map(|is| is == wanted))
    }

    fn compare(&self, test: &ConceptId, range: Range, unit: &str) -> (Answer, Vec<usize>) {
        let measure = self
            .knowledge
            .concept(test)
            .and_then(|concept| concept.measure.as_ref());
        match (measure, self.measurement(test)) {
            (Some(measure), Some(found)) if measure.convert(0.0, unit).is_some() => {
                // Conversions rise, so that edges keep their order.
                let range = range.map(|edge| measure.convert(edge, unit).unwrap_or(edge));
                (Answer::of(range.contains(found.value)), vec![found.fact])
            }
            _ => (Answer::Unknown, Vec::new()),
        }
    }

    fn count(&self, parts: &[When], at_least: usize) -> (Answer, Vec<usize>) {
        let weighed: Vec<_> = parts.iter().map(|part| self.weigh(part)).collect();
        let of = |wanted| weighed.iter().filter(move |(answer, _)| *answer == wanted);
        let yes = of(Answer::Yes).count();
        let open = of(Answer::Unknown).count();
        let answer = if yes >= at_least {
            Answer::Yes
        } else if yes + open < at_least {
            Answer::No
        } else {
            return (Answer::Unknown, Vec::new());
        };
        let mut facts: Vec<usize> = of(answer).flat_map(|(_, facts)| facts).copied().collect();
        facts.sort_unstable();
        facts.dedup();
        (answer, facts)
    }
}

#[cfg(test)]
mod tests;

//! Every drug of one case, checked once, and every two of them that should not meet.

use std::collections::HashMap;

use super::{
    Finding, Need, TreatmentOption, Wishes,
    bedside::Bedside,
    checks::{Checked, Meetings},
    need::Asked,
    option::{DrugChecks, PlannedStep},
    score::{self, Worth},
    search::Points,
};
use crate::decision::knowledge::ConceptId;

/// Every drug of one case.
pub(super) struct Table<'a> {
    bedside: &'a Bedside<'a>,
    meetings: &'a Meetings<'a>,
    /// What the patient takes now, each once; none where nobody asked.
    taken: Option<&'a [ConceptId]>,
    numbers: HashMap<ConceptId, usize>,
    drugs: Vec<Drug>,
    questions: HashMap<Asked, usize>,
    /// By the numbers of two drugs, the smaller first.
    pairs: HashMap<(usize, usize), Pair>,
}

struct Drug {
    id: ConceptId,
    checked: Checked,
    is_taken: bool,
    /// Points of the warnings it has by itself and with what is taken now.
    burden: u32,
}

/// What happens when two drugs meet.
struct Pair {
    weight: u32,
    findings: Vec<Finding>,
}

impl<'a> Table<'a> {
    pub(super) fn new(
        bedside: &'a Bedside<'a>,
        meetings: &'a Meetings<'a>,
        taken: Option<&'a [ConceptId]>,
    ) -> Self {
        Self {
            bedside,
            meetings,
            taken,
            numbers: HashMap::new(),
            drugs: Vec::new(),
            questions: HashMap::new(),
            pairs: HashMap::new(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.drugs.len()
    }

    /// The number of a drug, which is checked when it is new.
    pub(super) fn number(&mut self, id: &ConceptId) -> usize {
        if let Some(number) = self.numbers.get(id) {
            return *number;
        }
        let mut checked = self.bedside.check_drug(id);
        let with = self.bedside.check_taken(id, self.taken, self.meetings);
        checked.findings.extend(with.findings);
        checked.needs.extend(with.needs);
        let number = self.drugs.len();
        self.numbers.insert(id.clone(), number);
        self.drugs.push(Drug {
            id: id.clone(),
            burden: score::burden(&checked.findings),
            is_taken: self.taken.is_some_and(|taken| taken.contains(id)),
            checked,
        });
        number
    }

    /// Lets every two drugs meet that have not met yet.
    pub(super) fn meet(&mut self) {
        let lineages: Vec<_> = self
            .drugs
            .iter()
            .map(|drug| self.meetings.lineage(&drug.id))
            .collect();
        for (one, its) in lineages.iter().enumerate() {
            for (other, theirs) in lineages.iter().enumerate().skip(one + 1) {
                let (Some(first), Some(second)) = (self.drugs.get(one), self.drugs.get(other))
                else {
                    continue;
                };
                let interactions = self.meetings.of(its, theirs).into_iter();
                let findings: Vec<Finding> = interactions
                    .filter_map(|interaction| {
                        let drugs = [&first.id, &second.id];
                        self.bedside.interaction(drugs, interaction)
                    })
                    .collect();
                if !findings.is_empty() {
                    let weight = score::burden(&findings);
                    self.pairs.insert((one, other), Pair { weight, findings });
                }
            }
        }
    }

    /// What the checks found when two drugs meet.
    pub(super) fn between(&self, one: usize, other: usize) -> &[Finding] {
        let pair = self.pairs.get(&(one.min(other), one.max(other)));
        pair.map_or(&[], |pair| pair.findings.as_slice())
    }

    /// What the checks found where drugs meet each other.
    pub(super) fn meetings_of(&self, numbers: &[usize]) -> Vec<Finding> {
        let mut findings = Vec::new();
        for (at, one) in numbers.iter().enumerate() {
            let others = numbers.iter().skip(at + 1);
            findings.extend(others.flat_map(|other| self.between(*one, *other)).cloned());
        }
        findings
    }

    /// What the checks found of drugs by themselves, and where they meet each other.
    pub(super) fn findings(&self, numbers: &[usize]) -> Vec<Finding> {
        let drugs = numbers.iter().filter_map(|number| self.drugs.get(*number));
        let mut findings: Vec<Finding> = drugs
            .flat_map(|drug| &drug.checked.findings)
            .cloned()
            .collect();
        findings.extend(self.meetings_of(numbers));
        findings
    }

    /// What a possible treatment adds to the scores.
    pub(super) fn worth(&mut self, option: &TreatmentOption, wishes: &Wishes) -> Worth {
        let mut worth = Worth {
            gains: score::gains(option),
            monitoring: score::points(option.monitoring_burden),
            cost: score::points(option.cost),
            ..Worth::default()
        };
        let too_dear = wishes.cost_at_most.is_some_and(|most| option.cost > most);
        worth.broken += u32::from(too_dear);
        for step in option.steps.iter().filter(|step| step.is_drug()) {
            let times = step.amount().and_then(|amount| amount.times_a_day);
            worth.add(&self.intake(&step.give, step.route.as_deref(), times));
        }
        worth.add(&self.asked(&option.needs));
        worth
    }

    /// What taking a drug so often a day asks of the patient; nothing new where it is taken already.
    pub(super) fn intake(
        &mut self,
        drug: &ConceptId,
        route: Option<&str>,
        times: Option<f64>,
    ) -> Worth {
        let number = self.number(drug);
        let is_taken = self.drugs.get(number).is_some_and(|drug| drug.is_taken);
        // Once or as needed counts as one dose; above 1000 a day the cast would say nothing more.
        let times = times.unwrap_or(1.0).ceil().clamp(1.0, 1000.0) as u32;
        Worth {
            drugs: vec![(number, if is_taken { 0 } else { times })],
            broken: if is_taken {
                0
            } else {
                self.bedside.wishes.broken_by(route, times.into())
            },
            ..Worth::default()
        }
    }

    /// The questions behind required needs.
    pub(super) fn asked<'n>(&mut self, needs: impl IntoIterator<Item = &'n Need>) -> Worth {
        let mut worth = Worth::default();
        for need in needs.into_iter().filter(|need| need.required) {
            let next = self.questions.len();
            worth
                .asked
                .push(*self.questions.entry(need.asked.clone()).or_insert(next));
        }
        worth.asked.sort_unstable();
        worth.asked.dedup();
        worth
    }

    /// What everything together is worth.
    pub(super) fn points(&self, worth: &Worth) -> Points {
        let mut interactions = worth.warnings;
        let mut doses = 0_u32;
        let mut new = 0_u32;
        for (at, (drug, times)) in worth.drugs.iter().enumerate() {
            let Some(known) = self.drugs.get(*drug) else {
                continue;
            };
            interactions = interactions.saturating_add(known.burden);
            doses = doses.saturating_add(*times);
            new += u32::from(!known.is_taken);
            for (other, _) in worth.drugs.iter().skip(at + 1) {
                let pair = self.pairs.get(&(*drug.min(other), *drug.max(other)));
                let weight = pair.map_or(0, |pair| pair.weight);
                let taken = [
                    known.is_taken,
                    self.drugs.get(*other).is_some_and(|it| it.is_taken),
                ];
                // A drug that meets what is taken now has this warning by itself already; two that are both
                // taken have it twice.
                interactions = match taken {
                    [false, false] => interactions.saturating_add(weight),
                    [true, true] => interactions.saturating_sub(weight),
                    _ => interactions,
                };
            }
        }
        let beyond = match self.bedside.wishes.new_drugs_at_most {
            Some(most) => new.saturating_sub(most),
            None => 0,
        };
        let beyond = Worth {
            broken: beyond,
            ..Worth::default()
        };
        let patient = doses
            .saturating_add(worth.burden())
            .saturating_add(beyond.burden());
        Points {
            gains: worth.gains,
            costs: [
                interactions,
                worth.monitoring,
                patient,
                worth.asked.len() as u32,
            ],
        }
    }
}

impl DrugChecks for Table<'_> {
    fn of(&mut self, drug: &ConceptId) -> Checked {
        let number = self.number(drug);
        self.drugs
            .get(number)
            .map(|drug| drug.checked.clone())
            .unwrap_or_default()
    }

    fn is_taken(&self, drug: &ConceptId) -> bool {
        self.taken.is_some_and(|taken| taken.contains(drug))
    }
}

impl PlannedStep {
    /// Whether a drug is given.
    pub fn is_drug(&self) -> bool {
        self.dose != super::PlannedDose::Procedure
    }
}

//! The checks of one drug, of two drugs that meet, and of a dose.

use std::collections::{HashMap, HashSet};

use super::{
    Basis, Check, Finding, Need,
    bedside::{Bedside, Subject},
    need::{Asked, Purpose},
};
use crate::decision::{
    facts::Answer,
    knowledge::{ConceptId, Interaction, Kind, Knowledge, Severity, convert_mass},
};

/// What the checks of one thing found, and what they would have to know.
#[derive(Clone, Default)]
pub(super) struct Checked {
    pub(super) findings: Vec<Finding>,
    pub(super) needs: Vec<Need>,
}

/// Which drugs and classes should not meet, ready to be asked many times.
pub(super) struct Meetings<'a> {
    knowledge: &'a Knowledge,
    /// By pair, the smaller id first.
    known: HashMap<[&'a ConceptId; 2], Vec<&'a Interaction>>,
}

/// A drug with everything it is a kind of, itself first.
#[derive(Clone)]
pub(super) struct Lineage<'a>(Vec<&'a ConceptId>);

impl<'a> Meetings<'a> {
    pub(super) fn new(knowledge: &'a Knowledge) -> Self {
        let mut known: HashMap<_, Vec<_>> = HashMap::new();
        for interaction in knowledge.interactions() {
            let [one, other] = &interaction.between;
            known.entry(pair(one, other)).or_default().push(interaction);
        }
        Self { knowledge, known }
    }

    pub(super) fn lineage<'b>(&'b self, drug: &'b ConceptId) -> Lineage<'b>
    where
        'a: 'b,
    {
        Lineage(self.knowledge.upwards(drug))
    }

    /// What happens when two drugs meet, by themselves or by their classes; the worst first, else as in the
    /// files. A drug does not meet itself.
    pub(super) fn of(&self, one: &Lineage<'_>, other: &Lineage<'_>) -> Vec<&'a Interaction> {
        if one.0.first() == other.0.first() {
            return Vec::new();
        }
        let mut seen = HashSet::new();
        let mut found = Vec::new();
        for a in &one.0 {
            for b in &other.0 {
                let key = pair(a, b);
                if seen.insert(key) {
                    found.extend(self.known.get(&key).into_iter().flatten().copied());
                }
            }
        }
        found.sort_by_key(|interaction| std::cmp::Reverse(interaction.severity));
        found
    }
}

fn pair<'a>(one: &'a ConceptId, other: &'a ConceptId) -> [&'a ConceptId; 2] {
    if one <= other {
        [one, other]
    } else {
        [other, one]
    }
}

impl Bedside<'_> {
    /// Checks a drug by itself: allergies, refusal, contraindications.
    pub(super) fn check_drug(&self, drug: &ConceptId) -> Checked {
        let mut checked = Checked::default();
        self.check_allergy(drug, &mut checked);
        for refused in &self.wishes.refused {
            if self.knowledge().is_a(drug, refused) {
                checked.findings.push(Finding {
                    check: Check::Refused,
                    severity: Severity::Contraindicated,
                    rules_out: true,
                    drugs: vec![drug.clone()],
                    says: format!("the patient does not take {}.", self.name(refused)),
                    advice: None,
                    spans: Vec::new(),
                    basis: Basis::Wishes,
                });
            }
        }
        self.check_contraindications(drug, &mut checked);
        checked
    }

    fn check_allergy(&self, drug: &ConceptId, checked: &mut Checked) {
        let name = self.name(drug);
        let Some(allergies) = &self.patient.facts().allergies else {
            checked.needs.push(self.need(
                Asked::Allergies,
                &Subject {
                    purpose: Purpose::Allergy,
                    name: &name,
                    required: true,
                    source: None,
                },
            ));
            return;
        };
        for allergy in allergies {
            let to = self.name(&allergy.to);
            let says = if allergy.to == *drug {
                format!("allergic to {to}.")
            } else if self.knowledge().is_a(drug, &allergy.to) {
                format!("allergic to {to}, and {name} is one of them.")
            } else if self.knowledge().is_a(&allergy.to, drug) {
                format!("allergic to {to}, which is a kind of {name}.")
            } else {
                continue;
            };
            checked.findings.push(Finding {
                check: Check::Allergy,
                severity: Severity::Contraindicated,
                rules_out: true,
                drugs: vec![drug.clone()],
                says,
                advice: None,
                spans: allergy.span.into_iter().collect(),
                basis: Basis::Facts,
            });
        }
    }

    fn check_contraindications(&self, drug: &ConceptId, checked: &mut Checked) {
        for known in self.knowledge().contraindications_of(drug) {
            let Some(source) = self.cite(&known.source, None) else {
                continue;
            };
            let rules_out = self.rules_out(known.severity);
            match self.patient.holds(&known.when) {
                Answer::No => (),
                Answer::Yes => checked.findings.push(Finding {
                    check: Check::Contraindication,
                    severity: known.severity,
                    rules_out,
                    drugs: vec![drug.clone()],
                    says: format!("{}: {}.", self.name(drug), self.held(&known.when)),
                    advice: Some(known.reason.clone()),
                    spans: self.spans(&known.when),
                    basis: Basis::Source(source),
                }),
                Answer::Unknown => {
                    let subject = Subject {
                        purpose: Purpose::Contraindication,
                        name: &self.name(drug),
                        required: rules_out,
                        source: Some(&source),
                    };
                    checked.needs.extend(self.needs(&known.when, &subject));
                }
            }
        }
    }

    /// What happens when a drug meets the drugs taken now. `taken` is none where nobody asked.
    pub(super) fn check_taken(
        &self,
        drug: &ConceptId,
        taken: Option<&[ConceptId]>,
        meetings: &Meetings<'_>,
    ) -> Checked {
        let mut checked = Checked::default();
        let lineage = meetings.lineage(drug);
        match taken {
            None => checked.needs.push(self.need(
                Asked::Drugs,
                &Subject {
                    purpose: Purpose::Interaction,
                    name: &self.name(drug),
                    required: true,
                    source: None,
                },
            )),
            Some(taken) => {
                for other in taken {
                    let interactions = meetings.of(&lineage, &meetings.lineage(other));
                    let found = interactions
                        .into_iter()
                        .filter_map(|interaction| self.interaction([drug, other], interaction));
                    checked.findings.extend(found);
                }
            }
        }
        checked
    }

    /// An interaction as a finding.
    pub(super) fn interaction(
        &self,
        drugs: [&ConceptId; 2],
        interaction: &Interaction,
    ) -> Option<Finding> {
        let source = self.cite(&interaction.source, None)?;
        let [one, other] = &interaction.between;
        let check = if one == other && one.kind() == Kind::Class {
            Check::DuplicateClass
        } else {
            Check::Interaction
        };
        let [first, second] = drugs.map(|drug| self.name(drug));
        Some(Finding {
            check,
            severity: interaction.severity,
            rules_out: self.rules_out(interaction.severity),
            drugs: drugs.map(ConceptId::clone).to_vec(),
            says: format!("{first} with {second}: {}", interaction.mechanism),
            advice: Some(interaction.advice.clone()),
            spans: Vec::new(),
            basis: Basis::Source(source),
        })
    }

    /// Compares an amount at a time, in the dose's unit, with the most that may be given.
    pub(super) fn check_limit(
        &self,
        drug: &ConceptId,
        amount: f64,
        unit: &str,
        times_a_day: Option<f64>,
    ) -> Vec<Finding> {
        let concept = self.knowledge().concept(drug);
        let Some(limit) = concept.and_then(|concept| concept.limit.as_ref()) else {
            return Vec::new();
        };
        let Some(source) = self.cite(&limit.source, None) else {
            return Vec::new();
        };
        let finding = |says: String| Finding {
            check: Check::DoseRange,
            severity: Severity::Contraindicated,
            rules_out: true,
            drugs: vec![drug.clone()],
            says,
            advice: None,
            spans: Vec::new(),
            basis: Basis::Source(source.clone()),
        };
        let name = self.name(drug);
        let Some(amount) = convert_mass(amount, unit, &limit.unit) else {
            let (given, most) = (unit, &limit.unit);
            return vec![finding(format!(
                "{name}: the dose is in {given} and the most that may be given in {most}, which do not convert."
            ))];
        };
        let times = times_a_day.unwrap_or(1.0);
        let checks = [
            ("at a time", amount, limit.dose),
            ("a day", amount * times, limit.day),
        ];
        let mut findings = Vec::new();
        for (when, amount, most) in checks {
            // A hair above the limit is rounding, from grams to milligrams and back.
            if let Some(most) = most.filter(|most| amount > most * (1.0 + 1e-9)) {
                let (amount, most, unit) = (shown(amount), shown(most), &limit.unit);
                findings.push(finding(format!(
                    "{name}: {amount} {unit} {when} is more than the most, {most} {unit}."
                )));
            }
        }
        findings
    }
}

/// An amount as it is shown: at most two places behind the point.
pub(super) fn shown(amount: f64) -> String {
    format!("{}", (amount * 100.0).round() / 100.0)
}

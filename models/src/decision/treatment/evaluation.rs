//! Evaluation of a plan that somebody else made, with the same checks and scores.

use std::{cmp::Reverse, collections::BTreeMap};

use serde::{Deserialize, Serialize};

use super::{
    Basis, Because, Check, Finding, Need, Options, PlannedStep, Role, Scores, TreatmentOption,
    Unknown,
    bedside::Bedside,
    checks::shown,
    option::DrugChecks,
    plan,
    score::{self, Worth},
    search::Found,
    table::Table,
};
use crate::decision::{
    facts::Quantity,
    knowledge::{ConceptId, EntryId, Kind, Line, Severity, convert_mass},
};

/// One drug of a plan that somebody made.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Prescription {
    /// Which.
    pub drug: ConceptId,
    /// How much at a time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dose: Option<Quantity>,
    /// How often a day.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub times_a_day: Option<f64>,
    /// How it is given: `oral`, `intravenous`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub route: Option<String>,
}

/// What the checks say of a plan that somebody made.
#[derive(Clone, PartialEq, Serialize)]
pub struct Evaluation {
    /// Whether it can stand.
    pub verdict: Verdict,
    /// Its drugs, in the order given, each with its own checks.
    pub items: Vec<Item>,
    /// What the checks found where its drugs meet.
    pub findings: Vec<Finding>,
    /// Its drugs that the knowledge files do not know: nothing could be checked for them.
    pub unknown: Vec<Unknown>,
    /// Which treatment of each condition it carries out.
    pub treated: Vec<Treated>,
    /// What it is worth. Drugs that are not known add only their number of doses.
    pub scores: Scores,
    /// A plan of the best set that is nowhere worse and somewhere better, where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compared: Option<Because>,
}

/// Whether a plan can stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// No check speaks against it.
    Sound,
    /// There are warnings.
    Warnings,
    /// Something could not be checked: a drug is not known, or a required fact is missing.
    Unchecked,
    /// A check rules it out.
    RuledOut,
}

/// One drug of a plan with its checks.
#[derive(Clone, PartialEq, Serialize)]
pub struct Item {
    /// Which.
    pub drug: ConceptId,
    /// How it is called.
    pub name: String,
    /// Whether the patient takes it already: the plan goes on with it, or doubles it.
    pub taken_already: bool,
    /// Treatments of the conditions that give it. Where there is none, the knowledge files have no source
    /// for it here.
    pub given_by: Vec<EntryId>,
    /// What speaks against it.
    pub findings: Vec<Finding>,
    /// What is not known and was needed.
    pub needs: Vec<Need>,
    /// Whether its dose was compared with the doses and limits of the knowledge files.
    pub dose_checked: bool,
}

/// Which treatment of a condition a plan carries out.
#[derive(Clone, PartialEq, Serialize)]
pub struct Treated {
    /// The condition.
    pub condition: ConceptId,
    /// The treatment all of whose drugs are in the plan or taken already; the most concordant one. None
    /// where there is no such treatment.
    pub treatment: Option<EntryId>,
    /// Whether it comes first.
    pub line: Option<Line>,
}

pub(super) fn evaluate(
    plan: &[Prescription],
    bedside: &Bedside<'_>,
    options: &Options,
    table: &mut Table<'_>,
    found: &Found,
) -> Evaluation {
    let mut worth = Worth::default();
    let mut treated = Vec::new();
    // The drugs of each treatment that the plan carries out.
    let mut joined: Vec<Vec<&ConceptId>> = Vec::new();
    for of in &options.conditions {
        let carried_out: Vec<&TreatmentOption> = of
            .options
            .iter()
            .filter(|option| is_carried_out(option, plan, &*table))
            .collect();
        let steps = carried_out.iter().map(|option| option.steps.iter());
        joined.extend(steps.map(|steps| steps.map(|step| &step.give).collect()));
        let best = carried_out
            .into_iter()
            .max_by_key(|option| (score::gains(option), Reverse(&option.treatment)));
        if let Some(option) = best {
            worth.add(&Worth {
                gains: score::gains(option),
                monitoring: score::points(option.monitoring_burden),
                cost: score::points(option.cost),
                broken: u32::from(
                    bedside
                        .wishes
                        .cost_at_most
                        .is_some_and(|most| option.cost > most),
                ),
                ..Worth::default()
            });
        }
        treated.push(Treated {
            condition: of.condition.clone(),
            treatment: best.map(|option| option.treatment.clone()),
            line: best.map(|option| option.line),
        });
    }
    let steps: Vec<(&EntryId, &PlannedStep)> = options
        .conditions
        .iter()
        .flat_map(|of| &of.options)
        .flat_map(|option| option.steps.iter().map(|step| (&option.treatment, step)))
        .collect();
    let mut unknown = Vec::new();
    let mut items = Vec::new();
    let mut numbers = Vec::new();
    for prescription in plan {
        let drug = &prescription.drug;
        numbers.push(table.number(drug));
        let is_known = drug.kind() == Kind::Drug && bedside.knowledge().concept(drug).is_some();
        if !is_known {
            unknown.push(Unknown {
                concept: drug.clone(),
                role: Role::Wished,
            });
        }
        let mut checked = table.of(drug);
        let dose = bedside.check_prescription(prescription, &steps);
        worth.add(&Worth {
            warnings: score::burden(dose.iter().flatten().filter(|finding| !finding.rules_out)),
            ..Worth::default()
        });
        let dose_checked = dose.is_some();
        checked.findings.extend(dose.unwrap_or_default());
        for drugs in &joined {
            Finding::allow_joined(&mut checked.findings, drugs);
        }
        Finding::sort(&mut checked.findings);
        let taking = (prescription.route.as_deref(), prescription.times_a_day);
        worth.add(&table.intake(drug, taking.0, taking.1));
        worth.add(&table.asked(&checked.needs));
        let given_by = steps.iter().filter(|(_, step)| step.give == *drug);
        items.push(Item {
            name: bedside.name(drug),
            taken_already: table.is_taken(drug),
            given_by: given_by
                .map(|(treatment, _)| (*treatment).clone())
                .collect(),
            findings: checked.findings,
            needs: checked.needs,
            dose_checked,
            drug: drug.clone(),
        });
    }
    table.meet();
    numbers.sort_unstable();
    numbers.dedup();
    let mut findings = table.meetings_of(&numbers);
    findings.extend(bedside.doubled(plan));
    for drugs in &joined {
        Finding::allow_joined(&mut findings, drugs);
    }
    Finding::sort(&mut findings);
    let points = table.points(&worth);
    let verdict = verdict(&items, &findings, &unknown);
    let conditions = options.conditions.len();
    Evaluation {
        compared: plan::compared(&points, found, conditions),
        scores: Scores::new(&points, conditions),
        verdict,
        items,
        findings,
        unknown,
        treated,
    }
}

/// Whether all drugs of a treatment are in the plan or taken already, and at least one is in the plan.
fn is_carried_out(
    option: &TreatmentOption,
    plan: &[Prescription],
    drugs: &impl DrugChecks,
) -> bool {
    let given = |step: &PlannedStep| plan.iter().any(|it| it.drug == step.give);
    let mut steps = option.steps.iter().filter(|step| step.is_drug());
    steps.clone().any(given) && steps.all(|step| given(step) || drugs.is_taken(&step.give))
}

fn verdict(items: &[Item], findings: &[Finding], unknown: &[Unknown]) -> Verdict {
    let all = || items.iter().flat_map(|item| &item.findings).chain(findings);
    let mut needs = items.iter().flat_map(|item| &item.needs);
    if all().any(|finding| finding.rules_out) {
        Verdict::RuledOut
    } else if !unknown.is_empty() || needs.any(|need| need.required) {
        Verdict::Unchecked
    } else if all().next().is_some() {
        Verdict::Warnings
    } else {
        Verdict::Sound
    }
}

impl Bedside<'_> {
    /// Drugs that stand in a plan more than once.
    fn doubled(&self, plan: &[Prescription]) -> Vec<Finding> {
        let mut times: BTreeMap<&ConceptId, usize> = BTreeMap::new();
        for prescription in plan {
            *times.entry(&prescription.drug).or_default() += 1;
        }
        let doubled = times.into_iter().filter(|(_, times)| *times > 1);
        let finding = |(drug, times): (&ConceptId, usize)| Finding {
            check: Check::DuplicateDrug,
            severity: Severity::Major,
            rules_out: self.rules_out(Severity::Major),
            drugs: vec![drug.clone()],
            says: format!("{} stands in the plan {times} times.", self.name(drug)),
            advice: None,
            spans: Vec::new(),
            basis: Basis::Plan,
        };
        doubled.map(finding).collect()
    }

    /// Compares a dose with the most that may be given and with what treatments give. None where the dose
    /// is not stated, or there is nothing to compare it with.
    fn check_prescription(
        &self,
        given: &Prescription,
        steps: &[(&EntryId, &PlannedStep)],
    ) -> Option<Vec<Finding>> {
        let dose = given.dose.as_ref()?;
        let (amount, unit) = (dose.number(), dose.unit());
        let times = given.times_a_day.unwrap_or(1.0);
        if !(amount > 0.0 && times > 0.0 && (amount * times).is_finite()) {
            return Some(vec![Finding {
                check: Check::DoseRange,
                severity: Severity::Contraindicated,
                rules_out: true,
                drugs: vec![given.drug.clone()],
                says: format!("{}: no dose that can be given.", self.name(&given.drug)),
                advice: None,
                spans: Vec::new(),
                basis: Basis::Plan,
            }]);
        }
        let limit = self.knowledge().concept(&given.drug)?.limit.as_ref();
        let mut findings = self.check_limit(&given.drug, amount, unit, given.times_a_day);
        let usual: Vec<_> = steps
            .iter()
            .filter(|(_, step)| step.give == given.drug)
            .filter_map(|(_, step)| {
                let usual = step.amount()?;
                let amount = convert_mass(amount, unit, &usual.unit)?;
                // Both a day where both are known: 500 mg twice is 1 g once.
                let (times, usual_times) = given
                    .times_a_day
                    .zip(usual.times_a_day)
                    .unwrap_or((1.0, 1.0));
                let (low, high) = (usual.low * usual_times, usual.high * usual_times);
                // A hair beyond is rounding.
                let fits =
                    amount * times >= low * (1.0 - 1e-9) && amount * times <= high * (1.0 + 1e-9);
                Some((*step, usual, fits))
            })
            .collect();
        if limit.is_none() && usual.is_empty() {
            return None;
        }
        let is_usual = usual.iter().any(|(_, _, fits)| *fits);
        if let (false, Some((step, usual, _))) = (is_usual, usual.first()) {
            findings.push(Finding {
                check: Check::DoseRange,
                severity: Severity::Moderate,
                rules_out: self.rules_out(Severity::Moderate),
                drugs: vec![given.drug.clone()],
                says: format!(
                    "{}: {} {unit} is outside the dose for this patient, {} to {} {} {}.",
                    step.name,
                    shown(amount),
                    shown(usual.low),
                    shown(usual.high),
                    usual.unit,
                    usual.frequency
                ),
                advice: None,
                spans: Vec::new(),
                basis: Basis::Source(step.source.clone()),
            });
        }
        Some(findings)
    }
}

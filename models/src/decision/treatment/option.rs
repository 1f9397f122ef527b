//! One treatment of the knowledge files, made out for one patient: whether it is for them, its doses, and
//! what the checks found.

use std::collections::HashSet;

use serde::Serialize;

use super::{
    Basis, Check, Citation, Finding, Need,
    bedside::{Bedside, Subject},
    checks::{Checked, Meetings, shown},
    need::{Asked, Purpose},
};
use crate::decision::{
    facts::Answer,
    knowledge::{ConceptId, EntryId, Grade, Line, Severity, Step, Treatment},
};

/// One treatment of the knowledge files, made out for one patient.
#[derive(Clone, PartialEq, Serialize)]
pub struct TreatmentOption {
    /// Which treatment.
    pub treatment: EntryId,
    /// How it is called.
    pub name: String,
    /// Whether it comes first.
    pub line: Line,
    /// How much good it is expected to do.
    pub benefit: Grade,
    /// How much work watching over it is.
    pub monitoring_burden: Grade,
    /// What it costs.
    pub cost: Grade,
    /// Whether it can be proposed.
    pub standing: Standing,
    /// What is done, in this order. Empty where it is not known to be for this patient.
    pub steps: Vec<PlannedStep>,
    /// What speaks against it: what rules out first, then the worst.
    pub findings: Vec<Finding>,
    /// What is not known and was needed.
    pub needs: Vec<Need>,
    /// The guideline.
    pub source: Citation,
}

/// Whether a treatment can be proposed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Standing {
    /// It can. It may still have warnings and needs.
    Possible,
    /// A check rules it out; the findings say which.
    RuledOut,
    /// Not known to be for this patient; the needs say why.
    Unclear,
    /// It is for other patients, or none of its steps is due.
    DoesNotApply,
}

/// One thing that is done.
#[derive(Clone, PartialEq, Serialize)]
pub struct PlannedStep {
    /// The drug that is given, or the procedure that is done.
    pub give: ConceptId,
    /// How that is called.
    pub name: String,
    /// How it is given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub route: Option<String>,
    /// How much.
    pub dose: PlannedDose,
    /// For how long.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub duration: Option<String>,
    /// How the guideline grades it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grade: Option<String>,
    /// What to watch.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub monitoring: Vec<String>,
    /// What else to know.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// Whether the patient takes the drug already.
    pub taken_already: bool,
    /// What is not known and was needed for this step.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub needs: Vec<Need>,
    /// Where the step and its dose come from.
    pub source: Citation,
}

/// How much of a drug.
#[derive(Clone, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum PlannedDose {
    /// It is a procedure.
    Procedure,
    /// So much.
    Amount(Amount),
    /// Not known yet; the needs of the step say why.
    Needs,
    /// The knowledge has no dose for this patient.
    NoneFits,
}

/// How much of a drug at a time, and how often.
#[derive(Clone, PartialEq, Serialize)]
pub struct Amount {
    /// The smallest amount at a time, in `unit`.
    pub low: f64,
    /// The largest amount at a time, in `unit`.
    pub high: f64,
    /// The unit of both.
    pub unit: String,
    /// How often, in words.
    pub frequency: String,
    /// How often a day. None where it is given once or as needed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub times_a_day: Option<f64>,
    /// The weight it was reckoned with, in kilograms.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weight_kg: Option<f64>,
    /// Whether the most at a time cut it.
    pub capped: bool,
    /// For whom this dose is, where not for everybody.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub because: Option<String>,
}

impl Amount {
    fn line(&self) -> String {
        let (low, high) = (shown(self.low), shown(self.high));
        let range = if low == high {
            low
        } else {
            format!("{low} to {high}")
        };
        let weight = match self.weight_kg {
            Some(kg) if self.capped => format!(" (for {kg} kg, cut to the most at a time)"),
            Some(kg) => format!(" (for {kg} kg)"),
            None => String::new(),
        };
        let because = match &self.because {
            Some(because) => format!(" (because: {because})"),
            None => String::new(),
        };
        format!("{range} {}{weight} {}{because}", self.unit, self.frequency)
    }
}

impl PlannedStep {
    /// In one line with its source, without needs: `amoxicillin oral 1 g every 8 hours, 5 days [a society
    /// …]`.
    pub fn line(&self) -> String {
        format!("{} [{}]", self.text(), self.source.line())
    }

    /// The line without its source.
    pub(super) fn text(&self) -> String {
        let mut line = self.name.clone();
        if let Some(route) = &self.route {
            line.push(' ');
            line.push_str(route);
        }
        match &self.dose {
            PlannedDose::Procedure => (),
            PlannedDose::Amount(amount) => line.push_str(&format!(" {}", amount.line())),
            PlannedDose::Needs => line.push_str(" (dose not known yet)"),
            PlannedDose::NoneFits => line.push_str(" (no dose for this patient)"),
        }
        if let Some(duration) = &self.duration {
            line.push_str(&format!(", {duration}"));
        }
        if self.taken_already {
            line.push_str(" (taken already)");
        }
        line
    }

    /// The amount, where it is known.
    pub fn amount(&self) -> Option<&Amount> {
        match &self.dose {
            PlannedDose::Amount(amount) => Some(amount),
            _ => None,
        }
    }
}

/// What is known of drugs by themselves, so that each is checked once.
pub(super) trait DrugChecks {
    /// Allergies, contraindications, refusal, and what is taken now.
    fn of(&mut self, drug: &ConceptId) -> Checked;
    /// Whether the patient takes it now.
    fn is_taken(&self, drug: &ConceptId) -> bool;
}

impl Bedside<'_> {
    /// Makes a treatment out for the patient. None without a source.
    pub(super) fn option(
        &self,
        treatment: &Treatment,
        meetings: &Meetings<'_>,
        drugs: &mut impl DrugChecks,
    ) -> Option<TreatmentOption> {
        let source = self.cite(&treatment.source, treatment.citation.as_deref())?;
        let mut option = TreatmentOption {
            treatment: treatment.id.clone(),
            name: treatment.name.clone(),
            line: treatment.line,
            benefit: treatment.benefit,
            monitoring_burden: treatment.monitoring_burden,
            cost: treatment.cost,
            standing: Standing::Possible,
            steps: Vec::new(),
            findings: Vec::new(),
            needs: Vec::new(),
            source,
        };
        if let Some(when) = &treatment.applies_if {
            match self.patient.holds(when) {
                Answer::Yes => (),
                Answer::No => {
                    option.standing = Standing::DoesNotApply;
                    return Some(option);
                }
                Answer::Unknown => {
                    option.standing = Standing::Unclear;
                    option.needs = self.needs(when, &of(Purpose::Applies, &option));
                    return Some(option);
                }
            }
        }
        if let Some(when) = &treatment.exclude_if {
            match self.patient.holds(when) {
                Answer::No => (),
                Answer::Yes => option.findings.push(Finding {
                    check: Check::Exclusion,
                    severity: Severity::Contraindicated,
                    rules_out: true,
                    drugs: Vec::new(),
                    says: format!("{}: {}.", option.name, self.held(when)),
                    advice: None,
                    spans: self.spans(when),
                    basis: Basis::Source(option.source.clone()),
                }),
                Answer::Unknown => {
                    option.needs = self.needs(when, &of(Purpose::Excludes, &option));
                }
            }
        }
        for step in &treatment.steps {
            self.step(step, &mut option, drugs);
        }
        if option.steps.is_empty() {
            option.standing = Standing::DoesNotApply;
            return Some(option);
        }
        option
            .findings
            .extend(self.meet_inside(&option.steps, meetings));
        let joined: Vec<&ConceptId> = option.steps.iter().map(|step| &step.give).collect();
        Finding::allow_joined(&mut option.findings, &joined);
        Finding::each_once(&mut option.findings);
        Finding::sort(&mut option.findings);
        let mut seen = HashSet::new();
        option
            .needs
            .retain(|need| seen.insert((need.asked.clone(), need.purpose, need.subject.clone())));
        if option.findings.iter().any(|finding| finding.rules_out) {
            option.standing = Standing::RuledOut;
        }
        Some(option)
    }

    /// Adds a step that is due, or may be.
    fn step(&self, step: &Step, option: &mut TreatmentOption, drugs: &mut impl DrugChecks) {
        let source = match &step.source {
            Some(source) => self.cite(source, None),
            None => Some(option.source.clone()),
        };
        let Some(source) = source else { return };
        let name = self.name(&step.give);
        let subject = |purpose| Subject {
            purpose,
            name: &name,
            required: true,
            source: Some(&source),
        };
        let mut needs = Vec::new();
        if let Some(when) = &step.when {
            match self.patient.holds(when) {
                Answer::Yes => (),
                Answer::No => return,
                Answer::Unknown => needs = self.needs(when, &subject(Purpose::Step)),
            }
        }
        let dose = if step.is_drug() {
            let dose = self.dose(step, &subject(Purpose::Dose), &mut needs);
            let checked = drugs.of(&step.give);
            option.findings.extend(checked.findings);
            option.needs.extend(checked.needs);
            dose
        } else {
            PlannedDose::Procedure
        };
        match &dose {
            PlannedDose::Amount(amount) => {
                let (most, unit, times) = (amount.high, &amount.unit, amount.times_a_day);
                option
                    .findings
                    .extend(self.check_limit(&step.give, most, unit, times));
            }
            PlannedDose::NoneFits => option.findings.push(Finding {
                check: Check::NoDose,
                severity: Severity::Contraindicated,
                rules_out: true,
                drugs: vec![step.give.clone()],
                says: format!("{}: no dose of {name} is for this patient.", option.name),
                advice: None,
                spans: Vec::new(),
                basis: Basis::Source(source.clone()),
            }),
            PlannedDose::Procedure | PlannedDose::Needs => (),
        }
        option.needs.extend(needs.iter().cloned());
        option.steps.push(PlannedStep {
            taken_already: drugs.is_taken(&step.give),
            give: step.give.clone(),
            route: step.route.clone(),
            dose,
            duration: step.duration.clone(),
            grade: step.grade.clone(),
            monitoring: step.monitoring.clone(),
            note: step.note.clone(),
            needs,
            name,
            source,
        });
    }

    /// The first dose that is for the patient. One that may be for them stops the search: a later one may be
    /// wrong, and nothing is guessed.
    fn dose(&self, step: &Step, subject: &Subject<'_>, needs: &mut Vec<Need>) -> PlannedDose {
        let weight = self.patient.facts().demographics.weight_kg;
        let weight = weight.map(|weight| weight.number());
        for dose in &step.doses {
            if let Some(when) = &dose.when {
                match self.patient.holds(when) {
                    Answer::Yes => (),
                    Answer::No => continue,
                    Answer::Unknown => {
                        needs.extend(self.needs(when, subject));
                        return PlannedDose::Needs;
                    }
                }
            }
            let Some((low, high)) = dose.amounts(weight) else {
                needs.push(self.need(Asked::Weight, subject));
                return PlannedDose::Needs;
            };
            let uncut = dose.up_to.unwrap_or(dose.amount) * weight.unwrap_or(0.0);
            return PlannedDose::Amount(Amount {
                low,
                high,
                unit: dose.unit.clone(),
                frequency: dose.frequency.clone(),
                times_a_day: dose.times_a_day,
                weight_kg: weight.filter(|_| dose.per_kg),
                capped: dose.per_kg && dose.maximum.is_some_and(|most| uncut > most),
                because: dose.when.as_ref().map(|when| self.held(when)),
            });
        }
        PlannedDose::NoneFits
    }

    /// What happens when drugs of one treatment meet.
    fn meet_inside(&self, steps: &[PlannedStep], meetings: &Meetings<'_>) -> Vec<Finding> {
        let drugs: Vec<_> = steps
            .iter()
            .map(|step| (&step.give, meetings.lineage(&step.give)))
            .collect();
        let mut findings = Vec::new();
        for (at, (one, its)) in drugs.iter().enumerate() {
            for (other, theirs) in drugs.iter().skip(at + 1) {
                let found = meetings.of(its, theirs).into_iter();
                findings.extend(
                    found.filter_map(|interaction| self.interaction([one, other], interaction)),
                );
            }
        }
        findings
    }
}

fn of(purpose: Purpose, option: &TreatmentOption) -> Subject<'_> {
    Subject {
        purpose,
        name: &option.name,
        required: true,
        source: Some(&option.source),
    }
}

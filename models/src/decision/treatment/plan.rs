//! Combinations of treatments, one for each condition: which are best, and why the others are not.

use std::collections::HashMap;

use serde::Serialize;

use super::{
    ConditionOptions, Finding, Options, Standing, TreatmentOption,
    score::{Score, Scores, Worth},
    search::{self, Fate, Found, Points, Space},
    table::Table,
};
use crate::decision::knowledge::{ConceptId, EntryId};

/// The best combinations, and why the others are not.
#[derive(Clone, PartialEq, Serialize)]
pub struct Plans {
    /// How they were searched.
    pub search: SearchReport,
    /// Conditions for which nothing can be proposed; the options say why.
    pub untreated: Vec<ConceptId>,
    /// Plans of which none is better in everything than another: most concordant first. Empty where nothing
    /// can be proposed, or every combination is ruled out.
    pub best: Vec<Plan>,
    /// Plans that lost, each with its reason.
    pub lost: Vec<LostPlan>,
    /// Plans that lost too and are not listed; [`super::Workup::why_not`] tells of each.
    pub lost_more: u64,
}

/// How combinations were searched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct SearchReport {
    /// How.
    pub method: Method,
    /// Whether every combination was judged. Otherwise the best of those judged are given, and there may be
    /// better ones.
    pub complete: bool,
    /// How many combinations of possible treatments there are; the largest number where there are more.
    pub combinations: u64,
    /// How many of them were judged.
    pub judged: u64,
}

/// How combinations were searched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Method {
    /// Every combination was looked at: up to 1024 of them.
    Exhaustive,
    /// Branches that could not become better than a plan already found were left out. Ends after 100,000
    /// beginnings, or when more than 256 plans are best.
    BranchAndBound,
}

/// One combination: a treatment for each condition that can be treated.
#[derive(Clone, PartialEq, Serialize)]
pub struct Plan {
    /// The treatments, in the order of the conditions.
    pub treatments: Vec<EntryId>,
    /// What it is worth.
    pub scores: Scores,
    /// What is done; what two treatments share, once.
    pub steps: Vec<PlanStep>,
    /// Warnings where drugs of different treatments meet. Those of each treatment stand in its option.
    pub warnings: Vec<Finding>,
    /// Drugs that two treatments give in different doses: one must be agreed on.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub differing_doses: Vec<ConceptId>,
    /// What must be asked or measured first, each once; the options say what for.
    pub needs: Vec<String>,
}

/// One thing that is done.
#[derive(Clone, PartialEq, Serialize)]
pub struct PlanStep {
    /// The drug or procedure.
    pub give: ConceptId,
    /// How, in one line without its source.
    pub says: String,
    /// For which conditions.
    pub conditions: Vec<ConceptId>,
    /// Where it comes from.
    pub sources: Vec<EntryId>,
}

/// A plan that lost.
#[derive(Clone, PartialEq, Serialize)]
pub struct LostPlan {
    /// Its treatments. Where there are fewer than conditions: every plan with these.
    pub treatments: Vec<EntryId>,
    /// How many combinations of possible treatments that is; 0 for a treatment that is no possible one.
    pub combinations: u64,
    /// Why.
    pub because: Because,
}

/// Why a plan lost.
#[derive(Clone, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Because {
    /// A plan of the best set is nowhere worse and somewhere better.
    Dominated {
        /// Its place in the best set, counted from 0.
        by: usize,
        /// In what the loser is worse.
        worse_in: Vec<Score>,
        /// The scores of the loser; of several plans, what the best of them could reach at most.
        scores: Scores,
    },
    /// A check rules it out.
    RuledOut {
        /// Which.
        finding: Finding,
    },
    /// Not known to be for this patient; its needs say why.
    Unclear,
}

/// Treatments to choose from, as the search sees them.
pub(super) struct Choices<'t, 'a> {
    table: &'t Table<'a>,
    /// Only conditions with something to choose, and of them only possible treatments.
    pub(super) conditions: Vec<Choice<'t>>,
    sizes: Vec<usize>,
    rest: Vec<Points>,
    clashes: Vec<Finding>,
    /// By choice and option of both, the earlier choice first: the finding that rules the two out.
    clashing: HashMap<[(usize, usize); 2], usize>,
}

pub(super) struct Choice<'t> {
    condition: &'t ConceptId,
    options: Vec<(&'t TreatmentOption, Worth)>,
}

impl<'t, 'a> Choices<'t, 'a> {
    /// `worths` follow the possible options of all conditions, in order.
    pub(super) fn new(options: &'t Options, table: &'t Table<'a>, worths: Vec<Worth>) -> Self {
        let mut worths = worths.into_iter();
        let possible =
            |of: &'t ConditionOptions| of.options.iter().filter(|option| option.is_possible());
        let conditions: Vec<Choice<'t>> = options
            .conditions
            .iter()
            .map(|of| Choice {
                condition: &of.condition,
                options: possible(of).zip(worths.by_ref()).collect(),
            })
            .filter(|choice| !choice.options.is_empty())
            .collect();
        let mut choices = Self {
            table,
            sizes: conditions
                .iter()
                .map(|choice| choice.options.len())
                .collect(),
            rest: Vec::new(),
            clashes: Vec::new(),
            clashing: HashMap::new(),
            conditions,
        };
        choices.rest = (0..=choices.sizes.len())
            .map(|from| choices.bound(from))
            .collect();
        choices.clash();
        choices
    }

    /// The most gains and the least costs of the choices from `from` on. Drugs may be shared, warnings too,
    /// so that their least cost is 0.
    fn bound(&self, from: usize) -> Points {
        let mut bound = Points::default();
        for choice in self.conditions.iter().skip(from) {
            let worths = || choice.options.iter().map(|(_, worth)| worth);
            for (at, gain) in bound.gains.iter_mut().enumerate() {
                *gain += worths()
                    .filter_map(|worth| worth.gains.get(at))
                    .max()
                    .copied()
                    .unwrap_or(0);
            }
            let [_, monitoring, patient, _] = &mut bound.costs;
            *monitoring += worths().map(|worth| worth.monitoring).min().unwrap_or(0);
            *patient += worths().map(Worth::burden).min().unwrap_or(0);
        }
        bound
    }

    /// Finds every two treatments of different conditions that must not be joined.
    fn clash(&mut self) {
        for (one, earlier) in self.conditions.iter().enumerate() {
            for (other, later) in self.conditions.iter().enumerate().skip(one + 1) {
                for (at, (_, its)) in earlier.options.iter().enumerate() {
                    for (to, (_, theirs)) in later.options.iter().enumerate() {
                        if let Some(finding) = self.clash_of(its, theirs) {
                            self.clashing
                                .insert([(one, at), (other, to)], self.clashes.len());
                            self.clashes.push(finding);
                        }
                    }
                }
            }
        }
    }

    fn clash_of(&self, its: &Worth, theirs: &Worth) -> Option<Finding> {
        let of_different = across(its, theirs);
        let mut findings = of_different.flat_map(|(one, other)| self.table.between(one, other));
        findings.find(|finding| finding.rules_out).cloned()
    }

    fn chosen(
        &self,
        chosen: &[usize],
    ) -> impl Iterator<Item = (&'t ConceptId, &'t TreatmentOption, &Worth)> {
        let options = chosen.iter().zip(&self.conditions);
        options.filter_map(|(at, choice)| {
            let (option, worth) = choice.options.get(*at)?;
            Some((choice.condition, *option, worth))
        })
    }

    fn treatments(&self, chosen: &[usize]) -> Vec<EntryId> {
        self.chosen(chosen)
            .map(|(_, option, _)| option.treatment.clone())
            .collect()
    }

    /// The places of treatments among the choices; none where one is missing or no possible one.
    fn places(&self, treatments: &[EntryId]) -> Option<Vec<usize>> {
        let place = |choice: &Choice<'_>| {
            let mut options = choice.options.iter();
            options.position(|(option, _)| treatments.contains(&option.treatment))
        };
        self.conditions.iter().map(place).collect()
    }

    /// Searches, and makes everything out in words.
    pub(super) fn plans(&self, options: &Options) -> (Plans, Found) {
        let found = search::search(self);
        let conditions = options.conditions.len();
        let is_treated =
            |id: &ConceptId| self.conditions.iter().any(|choice| choice.condition == id);
        let untreated = options.conditions.iter().map(|of| &of.condition);
        let plans = Plans {
            search: SearchReport {
                method: if found.exhaustive {
                    Method::Exhaustive
                } else {
                    Method::BranchAndBound
                },
                complete: found.complete,
                combinations: found.total,
                judged: found.judged,
            },
            untreated: untreated.filter(|id| !is_treated(id)).cloned().collect(),
            best: found
                .best
                .iter()
                .map(|(chosen, points)| self.plan(chosen, points, conditions))
                .collect(),
            lost: ruled_out(options)
                .chain(self.lost(&found, conditions))
                .collect(),
            lost_more: found.lost_more,
        };
        (plans, found)
    }

    fn lost<'f>(
        &'f self,
        found: &'f Found,
        conditions: usize,
    ) -> impl Iterator<Item = LostPlan> + 'f {
        found.lost.iter().filter_map(move |lost| {
            let because = match &lost.fate {
                Fate::RuledOut(finding) => self.ruled_out(*finding)?,
                Fate::Dominated { by, points } => {
                    let (_, better) = found.best.get(*by)?;
                    dominated(*by, points, better, conditions)
                }
            };
            Some(LostPlan {
                treatments: self.treatments(&lost.chosen),
                combinations: lost.count,
                because,
            })
        })
    }

    fn ruled_out(&self, finding: usize) -> Option<Because> {
        let finding = self.clashes.get(finding)?.clone();
        Some(Because::RuledOut { finding })
    }

    fn plan(&self, chosen: &[usize], points: &Points, conditions: usize) -> Plan {
        let mut steps: Vec<PlanStep> = Vec::new();
        let mut needs = Vec::new();
        for (condition, option, _) in self.chosen(chosen) {
            for step in &option.steps {
                let says = step.text();
                match steps
                    .iter_mut()
                    .find(|known| known.give == step.give && known.says == says)
                {
                    Some(known) => {
                        push_new(&mut known.conditions, condition);
                        push_new(&mut known.sources, &step.source.id);
                    }
                    None => steps.push(PlanStep {
                        give: step.give.clone(),
                        says,
                        conditions: vec![condition.clone()],
                        sources: vec![step.source.id.clone()],
                    }),
                }
            }
            for need in option.needs.iter().filter(|need| need.required) {
                push_new(&mut needs, &need.name);
            }
        }
        Plan {
            treatments: self.treatments(chosen),
            scores: Scores::new(points, conditions),
            differing_doses: differing(&steps),
            warnings: self.warnings(chosen),
            steps,
            needs,
        }
    }

    fn warnings(&self, chosen: &[usize]) -> Vec<Finding> {
        let worths: Vec<&Worth> = self.chosen(chosen).map(|(_, _, worth)| worth).collect();
        let mut warnings: Vec<Finding> = Vec::new();
        for (at, its) in worths.iter().enumerate() {
            for theirs in worths.iter().skip(at + 1) {
                let found =
                    across(its, theirs).flat_map(|(one, other)| self.table.between(one, other));
                for finding in found {
                    push_new(&mut warnings, finding);
                }
            }
        }
        Finding::sort(&mut warnings);
        warnings
    }

    /// Why a combination of treatments is not in the best set. None where it is, or was not judged, or has
    /// not one treatment for each condition that can be treated.
    pub(super) fn why_not(
        &self,
        treatments: &[EntryId],
        options: &Options,
        found: &Found,
    ) -> Option<Because> {
        let hindered = all(options)
            .find(|option| treatments.contains(&option.treatment) && !option.is_possible());
        if let Some(option) = hindered {
            return because(option);
        }
        match self.points(&self.places(treatments)?) {
            Err(finding) => self.ruled_out(finding),
            Ok(points) => compared(&points, found, options.conditions.len()),
        }
    }
}

impl Space for Choices<'_, '_> {
    fn sizes(&self) -> &[usize] {
        &self.sizes
    }

    fn points(&self, chosen: &[usize]) -> Result<Points, usize> {
        for (other, to) in chosen.iter().enumerate() {
            for (one, at) in chosen.iter().enumerate().take(other) {
                if let Some(finding) = self.clashing.get(&[(one, *at), (other, *to)]) {
                    return Err(*finding);
                }
            }
        }
        let mut sum = Worth::default();
        for (_, _, worth) in self.chosen(chosen) {
            sum.add(worth);
        }
        Ok(self.table.points(&sum))
    }

    fn at_best(&self, from: usize) -> Points {
        self.rest.get(from).copied().unwrap_or_default()
    }
}

impl TreatmentOption {
    /// Whether it can be proposed.
    pub fn is_possible(&self) -> bool {
        self.standing == Standing::Possible
    }
}

/// Drugs of one and drugs of the other; not two that one of them joins itself.
fn across<'w>(its: &'w Worth, theirs: &'w Worth) -> impl Iterator<Item = (usize, usize)> + 'w {
    let has = |worth: &Worth, drug: usize| worth.drugs.iter().any(|(known, _)| *known == drug);
    its.drugs.iter().flat_map(move |(one, _)| {
        let others = theirs.drugs.iter().map(|(other, _)| *other);
        let apart = others.filter(move |other| !has(its, *other) && !has(theirs, *one));
        apart.map(|other| (*one, other))
    })
}

/// Whether a plan of the best set is better than these points, and in what.
pub(super) fn compared(points: &Points, found: &Found, conditions: usize) -> Option<Because> {
    let by = found
        .best
        .iter()
        .position(|(_, best)| best.dominate(points))?;
    let (_, better) = found.best.get(by)?;
    Some(dominated(by, points, better, conditions))
}

fn dominated(by: usize, points: &Points, better: &Points, conditions: usize) -> Because {
    Because::Dominated {
        by,
        worse_in: Score::worse(points, better),
        scores: Scores::new(points, conditions),
    }
}

fn all(options: &Options) -> impl Iterator<Item = &TreatmentOption> {
    options.conditions.iter().flat_map(|of| &of.options)
}

/// Every plan with a treatment that cannot be proposed, by the treatment.
fn ruled_out(options: &Options) -> impl Iterator<Item = LostPlan> {
    all(options).filter_map(|option| {
        Some(LostPlan {
            treatments: vec![option.treatment.clone()],
            combinations: 0,
            because: because(option)?,
        })
    })
}

fn because(option: &TreatmentOption) -> Option<Because> {
    match option.standing {
        Standing::Possible | Standing::DoesNotApply => None,
        Standing::Unclear => Some(Because::Unclear),
        Standing::RuledOut => {
            let finding = option.findings.iter().find(|finding| finding.rules_out)?;
            Some(Because::RuledOut {
                finding: finding.clone(),
            })
        }
    }
}

/// Drugs that stand in steps which say different things, and for different conditions.
fn differing(steps: &[PlanStep]) -> Vec<ConceptId> {
    let mut differing = Vec::new();
    for (at, step) in steps.iter().enumerate() {
        let others = steps
            .iter()
            .take(at)
            .filter(|other| other.give == step.give);
        if others
            .into_iter()
            .any(|other| other.conditions != step.conditions)
        {
            push_new(&mut differing, &step.give);
        }
    }
    differing
}

fn push_new<T: PartialEq + Clone>(list: &mut Vec<T>, one: &T) {
    if !list.contains(one) {
        list.push(one.clone());
    }
}

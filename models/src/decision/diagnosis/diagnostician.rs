//! Makes a differential from facts: three voices, one ranking.
//!
//! Figures ([`likelihood`](super::likelihood)) multiply a condition's odds. Rules
//! ([`rules`](super::rules)) multiply them too, by what their strength stands for ([`ratio`]); a rule
//! and figures that rest on the same facts say much the same, so that a rule adds only what it says beyond
//! them, and of several rules on one side only the one that adds most counts. Models
//! ([`opinion`](super::opinion)) are averaged in: the geometric mean of all voices, where a model that does not
//! know a condition leaves it as it is.
//!
//! Conditions count as excluding each other. A patient with two of them shares the probability between both,
//! so each candidate also carries its own weight of evidence in bits, which no other condition touches.
//!
//! What a note says outright of a condition is shown ([`Candidate::stated`]) and counts for nothing here:
//! somebody's conclusion is no finding.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    differential::{Candidate, Differential, Missing, Prospect, Reason, Suggestion, Verdict},
    evidence_table::TableError,
    likelihood::{Argument, LikelihoodTable, Weighed},
    opinion::{ModelIdentity, Opinion},
    question::{Belief, NOTHING},
    rules::{Ruling, Rulings, spans},
};
use crate::decision::{
    facts::{Answer, Facts, Patient},
    knowledge::{ConceptId, Condition, Effect, Knowledge, Source, Strength, When},
};

/// The least probability that a model's opinion counts as: no model rules a condition out alone.
const LEAST_OPINION: f64 = 1e-4;

/// Most conditions that questions are to tell apart.
const TOLD_APART: usize = 8;

/// How a differential is made.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Evidence for a condition, of figures and rules, below which it is not supported, bits. 2 means odds
    /// multiplied by 4.
    pub floor_bits: f64,
    /// Most questions to suggest.
    pub questions: usize,
    /// What finding something out costs, in units of one plain question; 1 for what is not listed.
    pub costs: BTreeMap<ConceptId, f64>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            floor_bits: 2.0,
            questions: 5,
            costs: BTreeMap::new(),
        }
    }
}

/// Makes differentials from one knowledge base.
#[derive(Debug)]
pub struct Diagnostician<'k> {
    knowledge: &'k Knowledge,
    table: LikelihoodTable,
    /// In the order of the table.
    conditions: Vec<&'k Condition>,
    /// By finding of the table.
    findings: Vec<ConceptId>,
    settings: Settings,
}

/// The likelihood ratio that a rule's strength stands for: 2, 5 and 10 raise a probability of one half by about
/// 15, 30 and 45 percent (McGee 2002, doi:10.1046/j.1525-1497.2002.10750.x); a criterion counts as 1,000, the
/// largest ratio that a knowledge file may give.
pub fn ratio(strength: Strength) -> f64 {
    match strength {
        Strength::Weak => 2.0,
        Strength::Moderate => 5.0,
        Strength::Strong => 10.0,
        Strength::Definite => 1000.0,
    }
}

impl<'k> Diagnostician<'k> {
    /// From a checked knowledge base.
    pub fn new(knowledge: &'k Knowledge, settings: Settings) -> Self {
        let table = LikelihoodTable::from_knowledge(knowledge);
        let findings = table.findings().iter();
        // All ids come from the knowledge base, where they were ids already.
        let findings = findings
            .filter_map(|finding| finding.id.parse().ok())
            .collect();
        Self {
            knowledge,
            table,
            conditions: knowledge.conditions().collect(),
            findings,
            settings,
        }
    }

    /// Ranks all conditions for one patient.
    ///
    /// # Errors
    /// A cost of the settings that is not finite and above 0.
    pub fn diagnose(
        &self,
        facts: &Facts,
        opinions: &[Opinion],
    ) -> Result<Differential, TableError> {
        let rulings = Rulings::of(facts, self.knowledge);
        let patient = Patient::new(&rulings.facts, self.knowledge);
        let mut seen = Vec::new();
        let mut open = Vec::new();
        for finding in &self.findings {
            match patient.has(finding) {
                Answer::Yes => seen.push((finding.as_str(), true)),
                Answer::No => seen.push((finding.as_str(), false)),
                Answer::Unknown => open.push(finding),
            }
        }
        let weighed = self.table.weigh(seen);
        let heard = Heard {
            given: Patient::new(facts, self.knowledge),
            rests: Rests::new(&patient, weighed.arguments()),
            rulings: &rulings,
            opinions,
            open: &open,
        };
        let (figures, none) = weighed.log_weights();
        let conditions = || self.conditions.iter().copied().enumerate();
        let weights: Vec<f64> = conditions()
            .zip(figures)
            .map(|((at, condition), figures)| {
                figures + heard.rests.beyond(at, rulings.on(&condition.id))
            })
            .collect();
        let (probabilities, none_of_these) = self.hear(&weights, none, opinions);
        let mut candidates: Vec<(usize, Candidate)> = conditions()
            .zip(weights.iter().zip(&probabilities))
            .map(|((at, condition), (&weight, &probability))| {
                (
                    at,
                    self.candidate(at, condition, weight, probability, &heard),
                )
            })
            .collect();
        candidates.sort_by(|(_, a), (_, b)| {
            let supported = b.is_supported.cmp(&a.is_supported);
            supported.then(b.probability.total_cmp(&a.probability))
        });
        let (places, candidates): (Vec<usize>, Vec<Candidate>) = candidates.into_iter().unzip();
        Ok(Differential {
            verdict: self.verdict(&candidates),
            ask: self.ask(&weighed, &places, &probabilities, &open)?,
            candidates,
            none_of_these,
            unknown: self.unknown(facts, opinions),
            notices: self.notices(),
            facts: rulings.facts.clone(),
        })
    }

    /// The condition at a place of the table, with everything said of it.
    fn candidate(
        &self,
        at: usize,
        condition: &Condition,
        weight: f64,
        probability: f64,
        heard: &Heard<'_, '_>,
    ) -> Candidate {
        let id = &condition.id;
        let bits = (weight - condition.prior.ln()) / std::f64::consts::LN_2;
        let (supporting, opposing) = heard
            .rests
            .reasons(at, self.knowledge, &heard.rulings.facts);
        let opinions = heard.opinions.iter();
        Candidate {
            condition: id.clone(),
            probability,
            prior: condition.prior,
            setting: condition.setting.clone(),
            prior_source: self.knowledge.source(&condition.source).cloned(),
            bits,
            is_supported: bits >= self.settings.floor_bits,
            stated: heard.given.has(id),
            supporting,
            opposing,
            missing: self.missing(at, heard.open),
            rules: heard.rulings.on(id).cloned().collect(),
            opinions: opinions
                .filter(|opinion| opinion.condition == id.as_str())
                .cloned()
                .collect(),
        }
    }

    fn verdict(&self, candidates: &[Candidate]) -> Verdict {
        if candidates.iter().any(|candidate| candidate.is_supported) {
            return Verdict::Ranked;
        }
        Verdict::TooLittleEvidence {
            bits: candidates
                .iter()
                .map(|candidate| candidate.bits)
                .fold(0.0, f64::max),
            floor: self.settings.floor_bits,
        }
    }

    /// Scales weights to probabilities and averages the models in. Each model counts as much as figures and rules
    /// together.
    fn hear(&self, log: &[f64], none: f64, opinions: &[Opinion]) -> (Vec<f64>, f64) {
        let (own, own_none) = scaled(log, none);
        let mut models: BTreeMap<&ModelIdentity, BTreeMap<&str, f64>> = BTreeMap::new();
        for opinion in opinions {
            let said = models.entry(&opinion.model).or_default();
            // Of two opinions of one model on one condition the first counts.
            said.entry(&opinion.condition)
                .or_insert(opinion.probability.number().max(LEAST_OPINION));
        }
        if models.is_empty() {
            return (own, own_none);
        }
        let voices = 1.0 + models.len() as f64;
        let pooled: Vec<f64> = self
            .conditions
            .iter()
            .zip(&own)
            .map(|(condition, own)| {
                let said = models.values().map(|said| said.get(condition.id.as_str()));
                let logs = said.map(|said| said.unwrap_or(own).ln());
                (own.ln() + logs.sum::<f64>()) / voices
            })
            .collect();
        scaled(&pooled, own_none.ln())
    }

    fn missing(&self, place: usize, open: &[&ConceptId]) -> Vec<Missing> {
        let mut missing: Vec<Missing> = open
            .iter()
            .flat_map(|finding| {
                let figures = self.table.figures_of(finding.as_str());
                figures.filter(|(condition, ..)| *condition == place).map(
                    |(_, if_present, if_absent, source)| Missing {
                        finding: (*finding).clone(),
                        if_present,
                        if_absent,
                        source: source_of(self.knowledge, source),
                    },
                )
            })
            .collect();
        let telling = |missing: &Missing| (missing.if_present / missing.if_absent).ln().abs();
        missing.sort_by(|a, b| telling(b).total_cmp(&telling(a)));
        missing
    }

    fn ask(
        &self,
        weighed: &Weighed<'_>,
        places: &[usize],
        probabilities: &[f64],
        open: &[&ConceptId],
    ) -> Result<Vec<Suggestion>, TableError> {
        let places = &places[..places.len().min(TOLD_APART)];
        let cost = |finding: &ConceptId| self.settings.costs.get(finding).copied().unwrap_or(1.0);
        let costs: Vec<(String, f64)> = open
            .iter()
            .map(|finding| (finding.to_string(), cost(finding)))
            .collect();
        let table = weighed.evidence(places, probabilities, &costs)?;
        let belief = Belief::new(&table);
        let prospect = |question: usize, is_present: bool| {
            let (top, probability) = belief.after(question, is_present).top();
            let place = places.get(top).copied();
            Prospect {
                condition: place
                    .and_then(|place| self.conditions.get(place))
                    .map(|condition| condition.id.clone()),
                probability,
            }
        };
        let gains = belief.gains().into_iter();
        let telling = gains
            .filter(|gain| gain.bits > NOTHING)
            .take(self.settings.questions);
        Ok(telling
            .filter_map(|gain| {
                let finding = (*open.get(gain.question)?).clone();
                Some(Suggestion {
                    test: self.test_of(&finding),
                    bits: gain.bits,
                    cost: cost(&finding),
                    if_present: prospect(gain.question, true),
                    if_absent: prospect(gain.question, false),
                    finding,
                })
            })
            .collect())
    }

    fn test_of(&self, finding: &ConceptId) -> Option<ConceptId> {
        let measured = self.knowledge.concept(finding)?.measured.as_ref()?;
        measured
            .leaves()
            .into_iter()
            .find_map(When::concept)
            .cloned()
    }

    fn unknown(&self, facts: &Facts, opinions: &[Opinion]) -> Vec<String> {
        let concepts = facts
            .facts
            .iter()
            .map(|fact| &fact.concept)
            .filter(|concept| self.knowledge.concept(concept).is_none())
            .map(ConceptId::to_string);
        let named = opinions.iter().map(|opinion| &opinion.condition);
        let classes = named
            .filter(|name| {
                self.conditions
                    .iter()
                    .all(|known| known.id.as_str() != name.as_str())
            })
            .cloned();
        let unknown: BTreeSet<String> = concepts.chain(classes).collect();
        unknown.into_iter().collect()
    }

    fn notices(&self) -> Vec<String> {
        let headers = self.knowledge.headers().iter();
        headers
            .map(|header| {
                format!(
                    "{} {} ({}): {}",
                    header.name, header.version, header.licence, header.disclaimer
                )
            })
            .collect()
    }
}

/// All that was heard of one patient.
struct Heard<'p, 't> {
    /// The patient as given, without what rules conclude.
    given: Patient<'p>,
    rests: Rests<'p, 't>,
    rulings: &'p Rulings,
    opinions: &'p [Opinion],
    /// Findings of which nothing is known.
    open: &'p [&'p ConceptId],
}

/// Which facts the figures rest on.
struct Rests<'p, 't> {
    arguments: Vec<(&'p Argument<'t>, ConceptId, Vec<usize>)>,
}

impl<'p, 't> Rests<'p, 't> {
    fn new(patient: &Patient<'_>, arguments: &'p [Argument<'t>]) -> Self {
        let arguments = arguments.iter().filter_map(|argument| {
            let finding: ConceptId = argument.finding.parse().ok()?;
            let when = When::Present(finding.clone());
            let facts = patient
                .explain(&when)
                .into_iter()
                .flat_map(|leaf| leaf.facts);
            let facts = facts.collect();
            Some((argument, finding, facts))
        });
        Self {
            arguments: arguments.collect(),
        }
    }

    /// What rules add to a condition's log weight beyond the figures that rest on the same facts.
    fn beyond<'r>(&self, condition: usize, rulings: impl Iterator<Item = &'r Ruling>) -> f64 {
        let (mut supporting, mut opposing) = (0.0_f64, 0.0_f64);
        for ruling in rulings.filter(|ruling| ruling.has_fired()) {
            let weight = ratio(ruling.strength).ln();
            match ruling.effect {
                Effect::For => {
                    let said = self.said(condition, ruling, |ratio| ratio > 1.0);
                    supporting = supporting.max(weight - said);
                }
                Effect::Against => {
                    let said = self.said(condition, ruling, |ratio| ratio < 1.0);
                    opposing = opposing.min(-weight - said);
                }
            }
        }
        supporting + opposing
    }

    /// What counted figures on one side say by facts that the rule rests on, or by findings that it names.
    fn said(&self, condition: usize, ruling: &Ruling, side: impl Fn(f64) -> bool) -> f64 {
        let shares = |finding: &ConceptId, facts: &[usize]| {
            ruling.parts.iter().any(|part| {
                part.when.concept() == Some(finding)
                    || part.facts.iter().any(|fact| facts.contains(fact))
            })
        };
        self.of(condition)
            .filter(|(argument, ..)| argument.is_counted && side(argument.ratio))
            .filter(|(_, finding, facts)| shares(finding, facts))
            .map(|(argument, ..)| argument.ratio.ln())
            .sum()
    }

    /// For and against, the loudest first.
    fn reasons(
        &self,
        condition: usize,
        knowledge: &Knowledge,
        known: &Facts,
    ) -> (Vec<Reason>, Vec<Reason>) {
        let mut reasons: Vec<Reason> = self
            .of(condition)
            .map(|(argument, finding, facts)| Reason {
                finding: finding.clone(),
                is_present: argument.is_present,
                ratio: argument.ratio,
                is_counted: argument.is_counted,
                spans: spans(known, facts),
                facts: facts.clone(),
                source: source_of(knowledge, argument.source),
            })
            .collect();
        reasons.sort_by(|a, b| b.ratio.ln().abs().total_cmp(&a.ratio.ln().abs()));
        reasons.into_iter().partition(|reason| reason.ratio > 1.0)
    }

    fn of(
        &self,
        condition: usize,
    ) -> impl Iterator<Item = &(&'p Argument<'t>, ConceptId, Vec<usize>)> {
        let arguments = self.arguments.iter();
        arguments.filter(move |(argument, ..)| argument.condition == condition)
    }
}

fn source_of(knowledge: &Knowledge, id: &str) -> Option<Source> {
    knowledge.source(&id.parse().ok()?).cloned()
}

/// Probabilities of log weights, and of the one that stands apart.
fn scaled(log: &[f64], none: f64) -> (Vec<f64>, f64) {
    let most = log.iter().copied().fold(none, f64::max);
    let sum = log.iter().map(|log| (log - most).exp()).sum::<f64>() + (none - most).exp();
    let shares = log.iter().map(|log| (log - most).exp() / sum).collect();
    (shares, (none - most).exp() / sum)
}

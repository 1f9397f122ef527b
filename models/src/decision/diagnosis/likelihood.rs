//! Likelihood ratios over a table of conditions and findings, each figure with where it comes from.
//!
//! The weight of a condition is its prior × the likelihood ratios of what was found and what was found absent;
//! weights are scaled so that all conditions and "none of these" sum to 1. A ratio compares patients with the
//! condition to patients without, so "none of these" has no ratios: its weight is its prior.
//!
//! - A finding that nobody looked for counts for nothing, and so does one without a figure for a condition.
//! - Findings count as independent given the condition. Where several say much the same, a file puts them in
//!   one group and only the one that says most counts. What no group names is counted twice: probabilities
//!   then lean towards 0 and 1, the order of the conditions less.
//! - Each finding has a background frequency, its frequency without the condition; it only serves to choose
//!   questions.

mod weighed;

use std::collections::{BTreeMap, BTreeSet, HashMap};

pub use self::weighed::{Argument, NONE_OF_THESE, Weighed};
use crate::decision::knowledge::{Knowledge, Language};

/// Least share of "none of these", however large the priors of a file are together.
const LEAST_NONE: f64 = 0.05;

/// Background frequency of a finding of which no file says enough.
const USUAL_BACKGROUND: f64 = 0.1;

/// Conditions, findings and the figures between them.
#[derive(Debug, Clone)]
pub struct LikelihoodTable {
    conditions: Vec<Listed>,
    /// Prior of "none of these", on the scale of the conditions' priors.
    none: f64,
    findings: Vec<Finding>,
    places: HashMap<String, usize>,
    /// By finding.
    figures: Vec<Figure>,
    /// The first figure of each finding, and behind the last one the number of figures.
    starts: Vec<usize>,
    sources: Vec<String>,
    provenance: Vec<String>,
}

/// A condition of a table.
#[derive(Debug, Clone, PartialEq)]
pub struct Listed {
    /// Its id in the file it comes from.
    pub id: String,
    /// How it is called.
    pub name: String,
    /// How probable it is before anything is known. Above 0.
    pub prior: f64,
}

/// A finding of a table.
#[derive(Debug, Clone, PartialEq)]
pub struct Finding {
    /// Its id in the file it comes from.
    pub id: String,
    /// How often it is there without the condition. Above 0, below 1.
    pub background: f64,
}

/// What one finding says of one condition.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Figure {
    pub(super) finding: u32,
    pub(super) condition: u32,
    /// The ratio when it is there; 1 says nothing.
    pub(super) present: f64,
    /// The ratio when it is absent; 1 says nothing.
    pub(super) absent: f64,
    /// Figures of a condition with the same number count once; 0 stands alone.
    pub(super) group: u32,
    /// Its place in the list of sources.
    pub(super) source: u32,
}

impl LikelihoodTable {
    /// The likelihoods of a knowledge base. Sources are ids of its entries.
    ///
    /// "None of these" has what the priors leave over, at least 0.05.
    pub fn from_knowledge(knowledge: &Knowledge) -> Self {
        let conditions: Vec<Listed> = knowledge
            .conditions()
            .map(|condition| Listed {
                id: condition.id.to_string(),
                name: knowledge.concept(&condition.id).map_or_else(
                    || condition.id.to_string(),
                    |concept| concept.name(Language::En).to_owned(),
                ),
                prior: condition.prior,
            })
            .collect();
        let by_id: HashMap<&str, usize> = conditions
            .iter()
            .enumerate()
            .map(|(place, condition)| (condition.id.as_str(), place))
            .collect();
        let mut findings = Names::default();
        let mut groups = Names::default();
        let mut sources = Names::default();
        let mut backgrounds: BTreeMap<u32, Vec<f64>> = BTreeMap::new();
        let mut figures = Vec::new();
        for likelihood in knowledge.likelihoods() {
            let Some(&condition) = by_id.get(likelihood.condition.as_str()) else {
                continue;
            };
            let finding = findings.place(likelihood.finding.as_str());
            let (positive, negative) = (likelihood.positive, likelihood.negative);
            backgrounds
                .entry(finding)
                .or_default()
                .extend(background(positive, negative));
            figures.push(Figure {
                finding,
                condition: condition as u32,
                present: positive.unwrap_or(1.0),
                absent: negative.unwrap_or(1.0),
                group: likelihood
                    .group
                    .as_deref()
                    .map_or(0, |group| 1 + groups.place(group)),
                source: sources.place(likelihood.source.as_str()),
            });
        }
        let background = |place: u32| match backgrounds.get(&place) {
            Some(known) if !known.is_empty() => known.iter().sum::<f64>() / known.len() as f64,
            _ => USUAL_BACKGROUND,
        };
        let findings = (0..).zip(findings.names).map(|(place, id)| Finding {
            id,
            background: background(place),
        });
        let priors: f64 = conditions.iter().map(|condition| condition.prior).sum();
        let provenance = knowledge
            .headers()
            .iter()
            .map(|header| format!("{} {} ({})", header.name, header.version, header.licence));
        Self::new(
            conditions,
            (1.0 - priors).max(LEAST_NONE),
            findings.collect(),
            figures,
            sources.names,
            provenance.collect(),
        )
    }

    /// Puts a table together. Places in `figures` lie within the lists.
    pub(super) fn new(
        conditions: Vec<Listed>,
        none: f64,
        findings: Vec<Finding>,
        mut figures: Vec<Figure>,
        sources: Vec<String>,
        provenance: Vec<String>,
    ) -> Self {
        figures.sort_unstable_by_key(|figure| (figure.finding, figure.condition));
        let starts = (0..=findings.len())
            .map(|place| figures.partition_point(|figure| (figure.finding as usize) < place))
            .collect();
        let places = findings
            .iter()
            .enumerate()
            .map(|(place, finding)| (finding.id.clone(), place))
            .collect();
        Self {
            conditions,
            none,
            findings,
            places,
            figures,
            starts,
            sources,
            provenance,
        }
    }

    /// The conditions.
    pub fn conditions(&self) -> &[Listed] {
        &self.conditions
    }

    /// The findings.
    pub fn findings(&self) -> &[Finding] {
        &self.findings
    }

    /// How many figures there are.
    pub fn figures(&self) -> usize {
        self.figures.len()
    }

    /// Which files it comes from, which version and under which licence: to be shown with every result.
    pub fn provenance(&self) -> &[String] {
        &self.provenance
    }

    /// What a finding says, condition by condition: the condition's place, the ratios when it is there and when
    /// it is absent (1 says nothing), and the source.
    pub fn figures_of(&self, finding: &str) -> impl Iterator<Item = (usize, f64, f64, &str)> {
        let place = self.places.get(finding).copied();
        place
            .into_iter()
            .flat_map(|place| self.row(place))
            .map(|figure| {
                (
                    figure.condition as usize,
                    figure.present,
                    figure.absent,
                    self.sources[figure.source as usize].as_str(),
                )
            })
    }

    /// Weighs all conditions by what was found (`true`) and found absent (`false`).
    ///
    /// The order of the findings changes nothing. One that is said to be both counts as unknown. One that is not
    /// in the table counts for nothing and is listed in [`Weighed::unknown`].
    pub fn weigh<'a>(&self, seen: impl IntoIterator<Item = (&'a str, bool)>) -> Weighed<'_> {
        let mut known: BTreeMap<usize, BTreeSet<bool>> = BTreeMap::new();
        let mut unknown = BTreeSet::new();
        for (finding, is_present) in seen {
            match self.places.get(finding) {
                Some(&place) => drop(known.entry(place).or_default().insert(is_present)),
                None => drop(unknown.insert(finding.to_owned())),
            }
        }
        let mut said: Vec<(&Figure, bool)> = known
            .iter()
            .filter(|(_, answers)| answers.len() == 1)
            .flat_map(|(&place, answers)| {
                let is_present = answers.contains(&true);
                self.row(place)
                    .iter()
                    .map(move |figure| (figure, is_present))
            })
            .filter(|(figure, is_present)| figure.ratio(*is_present) != 1.0)
            .collect();
        said.sort_by_key(|(figure, _)| (figure.condition, figure.group, figure.finding));

        let heard = said
            .iter()
            .map(|(figure, _)| (figure.condition, figure.group));
        let spoken = heard.filter(|(_, group)| *group != 0).collect();
        let mut log: Vec<f64> = self
            .conditions
            .iter()
            .map(|listed| listed.prior.ln())
            .collect();
        let mut arguments = Vec::with_capacity(said.len());
        let same = |a: &(&Figure, bool), b: &(&Figure, bool)| {
            a.0.group != 0 && (a.0.condition, a.0.group) == (b.0.condition, b.0.group)
        };
        for group in said.chunk_by(same) {
            let loudest = group
                .iter()
                .map(|(figure, is_present)| figure.ratio(*is_present).ln())
                .enumerate()
                // The first of equals, and of as much for as against what speaks for.
                .reduce(|best, next| {
                    let louder = (next.1.abs(), next.1) > (best.1.abs(), best.1);
                    if louder { next } else { best }
                });
            for (at, (figure, is_present)) in group.iter().enumerate() {
                let is_counted = loudest.is_some_and(|(best, _)| best == at);
                let ratio = figure.ratio(*is_present);
                if is_counted {
                    log[figure.condition as usize] += ratio.ln();
                }
                arguments.push(Argument {
                    condition: figure.condition as usize,
                    finding: &self.findings[figure.finding as usize].id,
                    is_present: *is_present,
                    ratio,
                    is_counted,
                    source: &self.sources[figure.source as usize],
                });
            }
        }
        Weighed {
            table: self,
            log,
            arguments,
            spoken,
            unknown: unknown.into_iter().collect(),
        }
    }

    fn row(&self, finding: usize) -> &[Figure] {
        &self.figures[self.starts[finding]..self.starts[finding + 1]]
    }
}

impl Figure {
    fn ratio(&self, is_present: bool) -> f64 {
        if is_present {
            self.present
        } else {
            self.absent
        }
    }
}

/// 1 − specificity, where both ratios are there to find it from.
fn background(positive: Option<f64>, negative: Option<f64>) -> Option<f64> {
    let (positive, negative) = (positive?, negative?);
    let background = (1.0 - negative) / (positive - negative);
    (background > 0.0 && background < 1.0).then_some(background)
}

/// Texts by the order in which they first came.
#[derive(Default)]
pub(super) struct Names {
    pub(super) names: Vec<String>,
    places: HashMap<String, u32>,
}

impl Names {
    pub(super) fn place(&mut self, name: &str) -> u32 {
        if let Some(&place) = self.places.get(name) {
            return place;
        }
        // Files are read up to a size at which no list comes near 2³² entries.
        let place = self.names.len() as u32;
        self.names.push(name.to_owned());
        self.places.insert(name.to_owned(), place);
        place
    }
}

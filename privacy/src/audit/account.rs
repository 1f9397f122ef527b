//! What a ledger's entries say was spent: by data set over all studies, and by study.

use std::collections::BTreeMap;

use serde::Serialize;

use super::Hex;
use crate::{
    accountant::{Accountant as _, Charge, Rdp},
    ledger::{Budget, Charged, Entry, Fact, Filter, Made, NO_STUDY, Purpose},
};

/// What one data set has spent, over all studies.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DataSetAccount {
    /// As plans name it.
    pub name: String,
    /// What it may spend: what was given, or else the newest budget of the ledger.
    pub budget: Option<Budget>,
    /// ε of all that was released, at the budget's δ, by Rényi curves; 0 without a budget. The
    /// budget is the guarantee: charges may have been chosen on the way.
    pub spent: f64,
    /// What it could still pay for, by the ledger's filter; `None` if nothing was ever charged.
    pub left: Option<Left>,
    /// What was released beside training.
    pub releases: Vec<Release>,
}

/// How often the newest charge for training (or else any) could be paid again.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Left {
    /// One release of it.
    pub like: Charge,
    /// Releases (steps, for training).
    pub releases: u32,
}

/// A release that is no training.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Release {
    /// Position of its entry.
    pub entry: u64,
    /// Seconds since 1970 by the site's clock.
    pub at: u64,
    /// The data set.
    pub data_set: String,
    /// What is released.
    pub what: String,
    /// What it cost.
    pub charge: Charge,
}

/// What one study has released at a site.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StudyAccount {
    /// The study.
    pub study: Hex<[u8; 16]>,
    /// The newest cap that its charges name.
    pub cap: Option<Budget>,
    /// Its charges for training, oldest first.
    pub rounds: Vec<Round>,
    /// What it released beside training.
    pub releases: Vec<Release>,
}

/// One charge for training, and the update that it paid for.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Round {
    /// Position of its entry.
    pub entry: u64,
    /// Seconds since 1970 by the site's clock.
    pub at: u64,
    /// The data set.
    pub data_set: String,
    /// The round.
    pub round: u32,
    /// The attempt at it.
    pub attempt: u32,
    /// Mechanism, sampling rate, noise and steps.
    pub charge: Charge,
    /// The update, if one was made.
    pub update: Option<Made>,
}

impl DataSetAccount {
    /// Accounts for every data set that was charged or has a budget. Budgets that are given, such
    /// as those of a policy, count before the ledger's.
    pub fn of(entries: &[Entry], budgets: &BTreeMap<String, Budget>) -> Vec<Self> {
        let mut known: BTreeMap<String, Known<'_>> = BTreeMap::new();
        for entry in entries {
            match &entry.fact {
                Fact::Budget { data_set, budget } => {
                    known.entry(data_set.clone()).or_default().budget = Some(*budget);
                }
                Fact::Charged(charged) => {
                    let known = known.entry(charged.data_set.clone()).or_default();
                    known.charges.push((entry, charged));
                }
                Fact::Made(_) => {}
            }
        }
        for (name, budget) in budgets {
            known.entry(name.clone()).or_default().budget = Some(*budget);
        }
        let (mut rdp, mut filter) = (Rdp::new(), Filter::new());
        let accounts = known.into_iter();
        accounts
            .map(|(name, known)| known.account(name, &mut rdp, &mut filter))
            .collect()
    }
}

/// What the entries say of one data set.
#[derive(Default)]
struct Known<'a> {
    budget: Option<Budget>,
    charges: Vec<(&'a Entry, &'a Charged)>,
}

impl Known<'_> {
    fn account(self, name: String, rdp: &mut Rdp, filter: &mut Filter) -> DataSetAccount {
        let charges = &self.charges;
        let history: Vec<_> = charges.iter().map(|(_, charged)| charged.charge).collect();
        for charge in &history {
            filter.add(&name, charge);
        }
        let mut newest_first = charges.iter().rev();
        let training = newest_first.find(|(_, charged)| charged.purpose == Purpose::Training);
        let newest = training.or(charges.last());
        let left = newest.zip(self.budget).map(|((_, charged), budget)| Left {
            like: charged.charge.with_releases(1),
            releases: filter.releases_left(&name, budget, &charged.charge),
        });
        let releases = charges
            .iter()
            .filter_map(|(entry, charged)| Release::of(entry, charged));
        DataSetAccount {
            spent: self
                .budget
                .map_or(0.0, |budget| rdp.epsilon(&history, budget.delta)),
            releases: releases.collect(),
            budget: self.budget,
            name,
            left,
        }
    }
}

impl StudyAccount {
    /// Accounts for every study, in the order of their first charge.
    pub fn of(entries: &[Entry]) -> Vec<Self> {
        let mut studies: Vec<Self> = Vec::new();
        let (mut places, mut training) = (BTreeMap::new(), BTreeMap::new());
        for entry in entries {
            match &entry.fact {
                Fact::Charged(charged) if charged.study != NO_STUDY => {
                    let place = *places.entry(charged.study).or_insert_with(|| {
                        studies.push(Self::new(charged.study));
                        studies.len() - 1
                    });
                    let study = &mut studies[place];
                    study.cap = charged.study_cap.or(study.cap);
                    match Release::of(entry, charged) {
                        Some(release) => study.releases.push(release),
                        None => {
                            training.insert(entry.sequence, (place, study.rounds.len()));
                            study.rounds.push(Round::of(entry, charged));
                        }
                    }
                }
                Fact::Made(made) => {
                    if let Some(&(place, round)) = training.get(&made.charge) {
                        studies[place].rounds[round].update = Some(*made);
                    }
                }
                Fact::Charged(_) | Fact::Budget { .. } => {}
            }
        }
        studies
    }

    fn new(study: [u8; 16]) -> Self {
        Self {
            study: Hex(study),
            cap: None,
            rounds: Vec::new(),
            releases: Vec::new(),
        }
    }

    /// Everything it was charged for up to an entry.
    pub fn history(&self, until: u64) -> Vec<Charge> {
        let rounds = self.rounds.iter().map(|round| (round.entry, round.charge));
        let releases = self
            .releases
            .iter()
            .map(|release| (release.entry, release.charge));
        let known = rounds.chain(releases).filter(|(entry, _)| *entry <= until);
        known.map(|(_, charge)| charge).collect()
    }

    /// The caps that its charges name, each with its entry, oldest first.
    pub(super) fn caps(&self, entries: &[Entry]) -> Vec<(u64, Budget)> {
        let charges = entries
            .iter()
            .filter_map(|entry| Some((entry.sequence, entry.fact.charged()?)));
        let ours = charges.filter(|(_, charged)| charged.study == self.study.0);
        ours.filter_map(|(entry, charged)| Some((entry, charged.study_cap?)))
            .collect()
    }
}

impl Round {
    fn of(entry: &Entry, charged: &Charged) -> Self {
        Self {
            entry: entry.sequence,
            at: entry.at,
            data_set: charged.data_set.clone(),
            round: charged.round,
            attempt: charged.attempt,
            charge: charged.charge,
            update: None,
        }
    }
}

impl Release {
    /// A charge that is for no training.
    fn of(entry: &Entry, charged: &Charged) -> Option<Self> {
        let Purpose::Release(what) = &charged.purpose else {
            return None;
        };
        Some(Self {
            entry: entry.sequence,
            at: entry.at,
            data_set: charged.data_set.clone(),
            what: what.clone(),
            charge: charged.charge,
        })
    }
}

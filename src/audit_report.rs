//! What an export says was spent, for people and for scripts.

mod page;

use std::collections::BTreeMap;

use consilium_privacy::{
    accountant::{Accountant as _, Charge, Delta, Pld, Rdp},
    audit::{DataSetAccount, Finding, Hex, Release, StudyAccount},
    ledger::Budget,
};
use consilium_proto::{Digest, Plan};
use serde::Serialize;

use crate::audit::{Site, Verdict};

pub(crate) use page::mechanism;
pub use page::to_html;

/// Rounds of a study for which the slower accountant is asked, the last one among them.
const MOST_POINTS: usize = 24;

/// Who must be trusted for the figures to mean what they say.
const TRUSTED: [&str; 3] = [
    "each hospital's own agent: that it trains through its ledger, clips, draws its batches by \
     independent coins and adds the noise it charges",
    "governance, for who the sites are: its key is the trust root",
    "nobody else: the figures hold against the coordinator, the other hospitals and everyone who \
     gets a model",
];

/// Everything that an export says.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Fingerprint of the governance key that was trusted.
    pub trust_root: Digest,
    /// Whether nothing was found.
    pub sound: bool,
    /// What is not as it must be.
    pub findings: Vec<Finding>,
    /// What neighbouring data sets differ by.
    pub unit: &'static str,
    /// How they differ.
    pub adjacency: &'static str,
    /// Who must be trusted.
    pub trusted: [&'static str; 3],
    /// What this cannot show.
    pub cannot_show: Vec<String>,
    /// The sites.
    pub sites: Vec<SiteReport>,
}

/// One site.
#[derive(Debug, Serialize)]
pub struct SiteReport {
    /// Its number in the roster.
    pub id: u16,
    /// What people call it.
    pub name: String,
    /// Whether governance has put it out.
    pub revoked: bool,
    /// When it signed the export, seconds since 1970 by its own clock.
    pub exported_at: u64,
    /// The key that signs its ledger.
    pub ledger_key: Hex<[u8; 32]>,
    /// Entries of its ledger.
    pub entries: u64,
    /// Hash of the newest one.
    pub head: Hex<[u8; 32]>,
    /// Receipts of the coordinator.
    pub receipts: usize,
    /// What each data set may spend, has spent, has left.
    pub data_sets: Vec<DataSetReport>,
    /// What each study planned, spent, has left.
    pub studies: Vec<StudyReport>,
}

/// One data set, over all studies.
#[derive(Debug, Serialize)]
pub struct DataSetReport {
    /// Its size as the world may know it, where the site states one.
    pub public_size: Option<u64>,
    /// The account.
    #[serde(flatten)]
    pub account: DataSetAccount,
}

/// One study at a site.
#[derive(Debug, Serialize)]
pub struct StudyReport {
    /// Its number.
    pub study: Hex<[u8; 16]>,
    /// What people call it; none without its plan.
    pub name: Option<String>,
    /// Digest of its plan.
    pub plan: Option<Digest>,
    /// Rounds that the plan asks for.
    pub planned_rounds: Option<u32>,
    /// δ at which every ε below holds.
    pub delta: Option<Delta>,
    /// What the study may spend here.
    pub cap: Option<Budget>,
    /// ε of all rounds of the plan.
    pub planned: Option<Figures>,
    /// ε of what was charged.
    pub spent: Option<Figures>,
    /// The cap, or else all planned rounds, without what was spent; by Rényi curves.
    pub left_epsilon: Option<f64>,
    /// Its rounds.
    pub rounds: Vec<RoundReport>,
    /// What was released beside training.
    pub releases: Vec<Release>,
}

/// ε by both accountants.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Figures {
    /// By Rényi curves, as the ledger reckons.
    pub rdp: Option<f64>,
    /// By privacy loss distributions; asked for some rounds of long studies only.
    pub pld: Option<f64>,
}

/// One charge for training.
#[derive(Debug, Serialize)]
pub struct RoundReport {
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
    /// Mechanism, q, σ and steps.
    pub charge: Charge,
    /// C where the steps began; none if no update was made.
    pub clipping_norm: Option<f64>,
    /// C after them: another only where clipping is adaptive.
    pub next_clipping_norm: Option<f64>,
    /// B; none if no update was made.
    pub batch_size: Option<u32>,
    /// Steps really taken; none if no update was made.
    pub taken: Option<u32>,
    /// Digest of the update; none if none was made.
    pub update: Option<Hex<[u8; 32]>>,
    /// ε of the study up to this round.
    pub epsilon: Figures,
}

impl Report {
    /// Accounts for everything in a verdict.
    pub fn of(verdict: Verdict, trust_root: Digest) -> Self {
        let cannot_show = verdict.limits();
        Self {
            trust_root,
            sound: verdict.findings.is_empty(),
            unit: "patient",
            adjacency: "add-or-remove-one",
            trusted: TRUSTED,
            cannot_show,
            sites: verdict.sites.iter().map(SiteReport::of).collect(),
            findings: verdict.findings,
        }
    }
}

impl SiteReport {
    fn of(site: &Site) -> Self {
        let statement = &site.statement;
        let size_of = |name: &str| {
            let mut stated = statement.data_sets.iter();
            Some(stated.find(|stated| stated.name == name)?.public_size)
        };
        let accounts = DataSetAccount::of(&site.entries, &BTreeMap::new());
        let studies = StudyAccount::of(&site.entries);
        Self {
            id: site.member.id.0,
            name: site.member.name.to_string(),
            revoked: site.member.revoked,
            exported_at: statement.at,
            ledger_key: statement.ledger_key,
            entries: statement.entries,
            head: statement.head,
            receipts: site.receipts.len(),
            data_sets: accounts
                .into_iter()
                .map(|account| DataSetReport {
                    public_size: size_of(&account.name),
                    account,
                })
                .collect(),
            studies: studies
                .into_iter()
                .map(|study| {
                    let plan = site.plans.get(&study.study.0);
                    StudyReport::of(study, plan)
                })
                .collect(),
        }
    }
}

impl StudyReport {
    /// Accounts for a study with what its plan says, if that is known.
    pub fn of(study: StudyAccount, plan: Option<&Plan>) -> Self {
        let guarantee = plan.and_then(|plan| plan.privacy.guarantee());
        let planned_delta = guarantee.and_then(|guarantee| guarantee.delta.try_into().ok());
        let delta = study.cap.map(|cap| cap.delta).or(planned_delta);
        let mut reckoner = Reckoner::new(delta);
        let first = study.rounds.first().map(|round| round.charge);
        let whole = plan.zip(first).map(|(plan, first)| {
            first.with_releases(plan.rounds.saturating_mul(plan.training.steps))
        });
        let planned = whole.map(|whole| reckoner.both(&[whole]));
        let everything = study.history(u64::MAX);
        let spent = delta.map(|_| reckoner.both(&everything));
        let cap = study.cap.map(|cap| cap.epsilon.value());
        let limit = cap.or(planned.and_then(|planned| planned.rdp));
        let left_epsilon = limit
            .zip(spent.and_then(|spent| spent.rdp))
            .map(|(limit, spent)| (limit - spent).max(0.0));

        let count = study.rounds.len();
        let is_asked = |index: usize| {
            let every = count.div_ceil(MOST_POINTS).max(1);
            (count - 1 - index).is_multiple_of(every)
        };
        let rounds = study.rounds.iter().enumerate().map(|(index, round)| {
            let history = study.history(round.entry);
            let epsilon = match is_asked(index) {
                true => reckoner.both(&history),
                false => Figures {
                    rdp: reckoner.rdp(&history),
                    pld: None,
                },
            };
            RoundReport {
                entry: round.entry,
                at: round.at,
                data_set: round.data_set.clone(),
                round: round.round,
                attempt: round.attempt,
                charge: round.charge,
                clipping_norm: round.update.map(|made| made.clipping_norm.value()),
                next_clipping_norm: round.update.map(|made| made.next_clipping_norm.value()),
                batch_size: round.update.map(|made| made.batch_size),
                taken: round.update.map(|made| made.taken),
                update: round.update.map(|made| Hex(made.update)),
                epsilon,
            }
        });
        Self {
            rounds: rounds.collect(),
            study: study.study,
            name: plan.map(|plan| plan.name.clone()),
            plan: plan.map(|plan| plan.digest().0),
            planned_rounds: plan.map(|plan| plan.rounds),
            delta,
            cap: study.cap,
            planned,
            spent,
            left_epsilon,
            releases: study.releases,
        }
    }
}

/// Both accountants at one δ.
struct Reckoner {
    delta: Option<Delta>,
    rdp: Rdp,
    pld: Pld,
}

impl Reckoner {
    fn new(delta: Option<Delta>) -> Self {
        Self {
            delta,
            rdp: Rdp::new(),
            pld: Pld::new(),
        }
    }

    fn rdp(&mut self, history: &[Charge]) -> Option<f64> {
        let epsilon = self.rdp.epsilon(history, self.delta?);
        epsilon.is_finite().then_some(epsilon)
    }

    fn both(&mut self, history: &[Charge]) -> Figures {
        let pld = self.delta.map(|delta| self.pld.epsilon(history, delta));
        Figures {
            rdp: self.rdp(history),
            pld: pld.filter(|epsilon| epsilon.is_finite()),
        }
    }
}

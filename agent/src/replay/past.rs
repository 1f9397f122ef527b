//! What the ledger says of the rounds of a study.

use std::{collections::HashMap, fmt};

use consilium_privacy::{
    accountant::{Charge, NoiseMultiplier, SamplingRate},
    keystream::Commitment,
    ledger::{Entry, Fact, Made, Purpose},
};
use consilium_proto::{Plan, StudyId};

use super::Difference;

/// What a round was charged and recorded as, or planned.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Terms {
    /// Probability that a patient enters a batch (q).
    pub sampling_rate: SamplingRate,
    /// Noise deviation over the clipping norm (σ).
    pub noise_multiplier: NoiseMultiplier,
    /// Steps charged.
    pub steps: u32,
    /// Largest norm that one record contributes (C); 0 where no update was recorded.
    pub clipping_norm: f64,
    /// What sums are divided by; 0 where no update was recorded.
    pub batch_size: u32,
}

impl fmt::Display for Terms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            steps,
            clipping_norm,
            batch_size,
            ..
        } = self;
        write!(
            f,
            "{steps} steps, clipping norm {clipping_norm}, batch size {batch_size}"
        )
    }
}

/// A round that was charged.
#[derive(Debug, Clone)]
pub(super) struct Past {
    pub(super) round: u32,
    pub(super) data_set: String,
    pub(super) terms: Terms,
    pub(super) key: Option<Commitment>,
    /// The entry of its charge.
    pub(super) charge: Entry,
    /// What was recorded at its end.
    pub(super) made: Option<Made>,
}

impl Past {
    /// Whether it was trained as planned, with the noise of the study's first round.
    pub(super) fn agrees_with(&self, plan: &Plan, first: &Self) -> Result<(), Difference> {
        let recorded = self.terms;
        let guarantee = plan.privacy.guarantee();
        let planned = Terms {
            steps: plan.training.steps,
            clipping_norm: guarantee.map_or(0.0, |guarantee| guarantee.clipping_norm),
            batch_size: plan.training.batch_size,
            ..recorded
        };
        let taken = self.made.map_or(0, |made| made.taken);
        if recorded != planned || taken != planned.steps {
            let steps = taken;
            let recorded = Terms { steps, ..recorded };
            return Err(Difference::Terms { recorded, planned });
        }
        let noise = |past: &Self| (past.terms.sampling_rate, past.terms.noise_multiplier);
        match noise(self) == noise(first) {
            true => Ok(()),
            false => Err(Difference::Charge(first.round)),
        }
    }
}

/// The rounds of a study for whose training the ledger was charged, oldest first.
pub(super) fn past_rounds(entries: &[Entry], study: StudyId) -> Vec<Past> {
    let of_study = |entry: &&Entry| {
        let charged = entry.fact.charged();
        charged.is_some_and(|charged| charged.study == *study.as_bytes())
    };
    let made = entries.iter().filter_map(|entry| match entry.fact {
        Fact::Made(made) => Some((made.charge, made)),
        _ => None,
    });
    let made: HashMap<u64, Made> = made.collect();
    entries
        .iter()
        .filter(of_study)
        .filter_map(|charge| past_round(charge, made.get(&charge.sequence).copied()))
        .collect()
}

fn past_round(charge: &Entry, made: Option<Made>) -> Option<Past> {
    let charged = charge.fact.charged()?;
    let (Purpose::Training, Charge::SampledGaussian { q, sigma, steps }) =
        (&charged.purpose, charged.charge)
    else {
        return None;
    };
    Some(Past {
        round: charged.round,
        data_set: charged.data_set.clone(),
        terms: Terms {
            sampling_rate: q,
            noise_multiplier: sigma,
            steps,
            clipping_norm: made.map_or(0.0, |made| made.clipping_norm.value()),
            batch_size: made.map_or(0, |made| made.batch_size),
        },
        key: charged.key,
        charge: charge.clone(),
        made,
    })
}

//! What the ledger says of the rounds of a study.

use std::{collections::HashMap, fmt};

use consilium_privacy::{
    accountant::{Charge, ClippingNorm, NoiseMultiplier, SamplingRate},
    keystream::Commitment,
    ledger::{Entry, Fact, Made, Purpose},
};
use consilium_proto::{Plan, StudyId, plan::Clipping};

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
    /// Largest norm that one record contributes (C) where the steps began, and after them; none where no
    /// update was recorded.
    pub clipping_norms: Option<[ClippingNorm; 2]>,
    /// What sums are divided by; 0 where no update was recorded.
    pub batch_size: u32,
}

impl fmt::Display for Terms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            steps,
            clipping_norms,
            batch_size,
            ..
        } = self;
        write!(f, "{steps} steps, ")?;
        if let Some([first, next]) = clipping_norms {
            write!(f, "clipping norm {first}, ")?;
            if next != first {
                write!(f, "{next} after them, ")?;
            }
        }
        write!(f, "batch size {batch_size}")
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
    /// C where the study's update before it ended; none before the first.
    pub(super) last_norm: Option<ClippingNorm>,
}

impl Past {
    /// Whether it was trained as planned, with the noise of the study's first round.
    pub(super) fn agrees_with(&self, plan: &Plan, first: &Self) -> Result<(), Difference> {
        let recorded = self.terms;
        let planned = Terms {
            steps: plan.training.steps,
            clipping_norms: self.planned_norms(plan),
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

    /// C where its steps should begin, and after them. Where clipping is adaptive the end depends on
    /// noise: the replay tells.
    fn planned_norms(&self, plan: &Plan) -> Option<[ClippingNorm; 2]> {
        let planned = plan.privacy.guarantee()?.clipping_norm.try_into().ok()?;
        match plan.privacy.clipping {
            Clipping::Adaptive { .. } => {
                let first = self.last_norm.unwrap_or(planned);
                Some([first, self.made?.next_clipping_norm])
            }
            Clipping::Flat | Clipping::PerLayer | Clipping::Automatic { .. } => {
                Some([planned, planned])
            }
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
    let mut last_norm = None;
    let past = |charge: &Entry| {
        let made = made.get(&charge.sequence).copied();
        let past = past_round(charge, made, last_norm);
        if let (Some(_), Some(made)) = (&past, made) {
            last_norm = Some(made.next_clipping_norm);
        }
        past
    };
    entries.iter().filter(of_study).filter_map(past).collect()
}

fn past_round(charge: &Entry, made: Option<Made>, last_norm: Option<ClippingNorm>) -> Option<Past> {
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
            clipping_norms: made.map(|made| [made.clipping_norm, made.next_clipping_norm]),
            batch_size: made.map_or(0, |made| made.batch_size),
        },
        key: charged.key,
        charge: charge.clone(),
        made,
        last_norm,
    })
}

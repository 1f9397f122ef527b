//! Trains a plan with canaries among its patients, and says what they prove.

use std::{
    num::NonZeroUsize,
    path::PathBuf,
    thread,
    time::{Instant, SystemTime},
};

use anyhow::{Context as _, Result};
use clap::Args;
use consilium_agent::{
    data::{self, Part},
    policy::Noise,
};
use consilium_models::{
    network::Network,
    training::{
        Examples as _, StopFlag,
        audit::{Breach, Canaries, Claim, Findings, Product, Subject, audit},
    },
};
use consilium_privacy::{
    accountant::{ClippingNorm, Delta, Epsilon, NoiseMultiplier},
    empirical::Confidence,
    keystream::MasterSecret,
    ledger::{Budget, ChargeRequest, Grant, Ledger, LedgerKey, MemoryJournal, Purpose, Repeat},
};
use consilium_proto::{ErrorCode, Plan, plan::Mode};
use serde_json::{Value, json};

use crate::{cli::study::plan, failure::refuse, output, scoring, simulation::Records};

/// Budget of the audit's own ledger, which is forgotten with it: no update leaves.
const UNLIMITED: f64 = 1e6;

#[derive(Debug, Args)]
pub(in crate::cli) struct Options {
    /// The plan whose network, noise and steps are audited
    #[arg(value_name = "PLAN.toml")]
    plan: PathBuf,
    /// Data to train on: a folder `{train,val,test}/<class>/*.png`, a MedMNIST npz, or a CSV for
    /// tables. Each record counts as one patient
    #[arg(long, value_name = "PATH")]
    data: PathBuf,
    /// Part of the data: train, val or test
    #[arg(long, default_value = "train", value_name = "PART")]
    part: Part,
    /// Column of a CSV that is the label
    #[arg(long, value_name = "COLUMN")]
    target: Option<String>,
    /// Public size of the data set, from which the sampling rate follows [default: the number of
    /// records]
    #[arg(long, value_name = "NUMBER")]
    public_size: Option<u64>,
    /// Canaries to toss for: at most as many as the network has weights
    #[arg(long, default_value_t = 1000, value_name = "NUMBER")]
    canaries: u32,
    /// Canaries to guess after the run, half of them in and half out
    #[arg(long, default_value_t = 300, value_name = "NUMBER")]
    guesses: u32,
    /// Probability with which each lower bound holds: above 0.5, below 1
    #[arg(long, default_value_t = Confidence::USUAL.value(), value_name = "NUMBER")]
    confidence: f64,
    /// Train only so many of the plan's rounds, with the noise of all of them; the claim is then
    /// that of these rounds
    #[arg(long, value_name = "NUMBER")]
    rounds: Option<u32>,
    /// Fixes the canaries and their coins [default: from the operating system]
    #[arg(long, value_name = "NUMBER")]
    seed: Option<u64>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// An audit and what it was of.
struct Report {
    claim: Claim,
    confidence: Confidence,
    findings: Findings,
    breaches: Vec<Breach>,
    records: usize,
    seed: u64,
    seconds: f64,
}

pub(super) fn run(options: &Options) -> Result<()> {
    let mut plan = plan::read(&options.plan)?;
    let records = read(&plan, options)?;
    let claim = claim(&mut plan, options, records.patients())?;
    let report = train(&plan, &claim, &records, options)?;
    if options.json {
        output::json(&report.to_json())?;
    } else {
        output::line(report.to_table())?;
    }
    let found: Vec<_> = report.breaches.iter().map(ToString::to_string).collect();
    if found.is_empty() {
        return Ok(());
    }
    let found = found.join("; ");
    refuse(
        ErrorCode::Internal,
        format!("the claim does not hold: {found}"),
    )
}

fn read(plan: &Plan, options: &Options) -> Result<Records> {
    let path = &options.data;
    let source = scoring::source(plan, path, options.part, options.target.as_deref())?;
    let set = data::read(&source, &plan.classes, None)?;
    Records::new(plan, &set, None).with_context(|| format!("reading {}", path.display()))
}

/// What the plan claims at this data set, with the noise of all its rounds. Leaves in the plan the
/// rounds that are trained.
fn claim(plan: &mut Plan, options: &Options, records: usize) -> Result<Claim> {
    let Some(guarantee) = plan.privacy.guarantee() else {
        let message = "privacy.mode = \"none\" claims nothing, so there is nothing to audit";
        return refuse(ErrorCode::Invalid, message);
    };
    if plan.privacy.mode == Mode::Distributed {
        let message = "privacy.mode = \"distributed\" adds noise at several sites, an audit sees one: audit \
                       the plan with mode = \"local\"";
        return refuse(ErrorCode::Invalid, message);
    }
    let public_size = options.public_size.unwrap_or(records as u64);
    let Noise {
        sampling_rate: q,
        noise_multiplier: sigma,
    } = Noise::of(plan, &guarantee, public_size)?;
    if let Some(rounds) = options.rounds {
        if !(1..=plan.rounds).contains(&rounds) {
            let message = format!("--rounds must be from 1 to the plan's {}", plan.rounds);
            return refuse(ErrorCode::Invalid, message);
        }
        plan.rounds = rounds;
    }
    let steps = plan.rounds.saturating_mul(plan.training.steps);
    let norm = ClippingNorm::try_from(guarantee.clipping_norm)?;
    let delta = Delta::try_from(guarantee.delta)?;
    Ok(Claim::new((q, sigma, steps), norm, delta))
}

fn train(plan: &Plan, claim: &Claim, records: &Records, options: &Options) -> Result<Report> {
    let confidence = Confidence::try_from(options.confidence)?;
    let network = Network::from_plan(plan)?;
    let seed = options.seed.map_or_else(Canaries::fresh_seed, Ok)?;
    let parameters = network.layout().parameters();
    let canaries = Canaries::new(options.canaries, options.guesses, parameters, seed)?;
    let mut grants = grants(plan, claim)?.into_iter();
    output::note(format_args!(
        "training {} steps on {} records and about {} canaries, {parameters} weights",
        claim.steps(),
        records.patients(),
        options.canaries / 2,
    ));
    let started = Instant::now();
    let subject = Subject {
        plan,
        network: &network,
        examples: records,
        threads: thread::available_parallelism().unwrap_or(NonZeroUsize::MIN),
        stop: &StopFlag::default(),
    };
    let mechanism = |_| {
        let (grant, secret) = grants.next().expect("there is one grant for each round");
        Product::new(grant, &secret, plan, &network, claim.clipping_norm())
    };
    let findings = audit(subject, claim, &canaries, mechanism, |_| {})?;
    Ok(Report {
        claim: *claim,
        confidence,
        breaches: findings.breaches(claim, confidence),
        findings,
        records: records.patients(),
        seed,
        seconds: started.elapsed().as_secs_f64(),
    })
}

/// Charges each round to a ledger in memory.
fn grants(plan: &Plan, claim: &Claim) -> Result<Vec<(Grant, MasterSecret)>> {
    let budget = Budget {
        epsilon: Epsilon::try_from(UNLIMITED)?,
        delta: claim.delta(),
    };
    let data_set = plan.data_set.clone();
    let (journal, key) = (MemoryJournal::default(), LedgerKey::random()?.into());
    let mut ledger = Ledger::open(journal, key, [(data_set.clone(), budget)])?;
    let noise = Noise {
        sampling_rate: claim.sampling_rate(),
        noise_multiplier: claim.noise_multiplier(),
    };
    let reserve = |round| {
        let secret = MasterSecret::random()?;
        let request = ChargeRequest {
            data_set: data_set.clone(),
            study: *b"audit by canary.",
            round,
            attempt: 1,
            purpose: Purpose::Training,
            charge: noise.charge(plan.training.steps),
            study_cap: None,
            repeat: Repeat::Refuse,
            key: Some(secret.commitment()),
        };
        Ok((ledger.reserve(request, SystemTime::now())?, secret))
    };
    (1..=plan.rounds).map(reserve).collect()
}

impl Report {
    fn to_json(&self) -> Value {
        let Self {
            claim,
            confidence,
            findings,
            ..
        } = self;
        let guesses = &findings.guesses;
        let deviation = findings.residuals.deviation();
        let observations = findings.observations.map(|seen| {
            json!({
                "drawn": seen.false_negatives.trials(),
                "missed": seen.false_negatives.wrong(),
                "absent": seen.false_positives.trials(),
                "false_alarms": seen.false_positives.wrong(),
                "noise_multiplier_high": self.noise_high(),
                "epsilon_with_that_noise": findings.epsilon_of_steps(claim, *confidence),
            })
        });
        json!({
            "holds": self.breaches.is_empty(),
            "breaches": self.breaches.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "confidence": confidence.value(),
            "claimed": {
                "epsilon": claim.epsilon(),
                "delta": claim.delta().value(),
                "noise_multiplier": claim.noise_multiplier().value(),
                "sampling_rate": claim.sampling_rate().value(),
                "clipping_norm": claim.clipping_norm().value(),
                "steps": claim.steps(),
            },
            "guesses": {
                "canaries": guesses.canaries(),
                "made": guesses.made(),
                "correct": guesses.correct(),
                "epsilon_low": findings.epsilon_low(claim, *confidence),
            },
            "single_steps": observations,
            "noise": {
                "deviation_ratio": deviation.map(|(ratio, _)| ratio),
                "standard_error": deviation.map(|(_, error)| error),
                "largest_correlation": findings.residuals.largest_correlation(),
            },
            "batches": {
                "rate_ratio": findings.batches.rate_ratio(),
                "spread_ratio": findings.batches.spread_ratio(),
                "overlap_ratio": findings.batches.overlap_ratio(),
            },
            "records": self.records,
            "seed": self.seed,
            "seconds": self.seconds,
        })
    }

    fn noise_high(&self) -> Option<f64> {
        let high = self.findings.noise_high(self.confidence);
        high.map(NoiseMultiplier::value)
    }

    fn to_table(&self) -> String {
        let Self {
            claim,
            confidence,
            findings,
            ..
        } = self;
        let percent = 100.0 * confidence.value();
        let guesses = &findings.guesses;
        let single_steps = match (
            self.noise_high(),
            findings.epsilon_of_steps(claim, *confidence),
        ) {
            (Some(high), Some(epsilon)) => format!(
                "noise multiplier below {high:.4}, of which the study would cost {epsilon:.3}"
            ),
            _ => "prove nothing".to_owned(),
        };
        let noise = findings
            .residuals
            .deviation()
            .map_or_else(String::new, |(ratio, error)| {
                format!("{ratio:.5} ± {error:.5} times the deviation charged")
            });
        let ratio =
            |ratio: Option<f64>| ratio.map_or("-".to_owned(), |ratio| format!("{ratio:.3}"));
        let batches = &findings.batches;
        let rows = [
            (
                "claimed",
                format!(
                    "ε = {:.3} at δ = {:e}: noise multiplier {:.4}, sampling rate {:.4}, {} steps",
                    claim.epsilon(),
                    claim.delta().value(),
                    claim.noise_multiplier().value(),
                    claim.sampling_rate().value(),
                    claim.steps(),
                ),
            ),
            (
                "guesses",
                format!(
                    "{} of {} right among {} canaries: ε > {:.3} ({percent} %)",
                    guesses.correct(),
                    guesses.made(),
                    guesses.canaries(),
                    findings.epsilon_low(claim, *confidence),
                ),
            ),
            ("single steps", format!("{single_steps} ({percent} %)")),
            ("noise", noise),
            (
                "shared noise",
                format!(
                    "largest correlation of two steps {}",
                    ratio(findings.residuals.largest_correlation())
                ),
            ),
            (
                "batches",
                format!(
                    "against Poisson sampling: rate {}, spread {}, overlap {}",
                    ratio(batches.rate_ratio()),
                    ratio(batches.spread_ratio()),
                    ratio(batches.overlap_ratio()),
                ),
            ),
            (
                "verdict",
                match self.breaches.len() {
                    0 => "nothing found speaks against the claim".to_owned(),
                    count => format!("the claim does not hold, for {count} reasons"),
                },
            ),
            (
                "made",
                format!(
                    "in {:.0} s on {} records, seed {}",
                    self.seconds, self.records, self.seed
                ),
            ),
        ];
        output::table(&rows.map(|(name, value)| vec![name.to_owned(), value]))
    }
}

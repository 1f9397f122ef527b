//! `consilium audit noise`: past rounds repeated inside the hospital, and the noise in them.

use std::{path::PathBuf, sync::Arc, time::Instant};

use anyhow::Result;
use clap::Args;
use consilium_agent::{
    membership::Membership,
    participation::settings_file,
    replay::{Question, Replays, Round, Verdict, replay},
    settings::Settings,
    store::Store,
};
use consilium_models::training::audit::Seen;
use consilium_proto::{ErrorCode, Role, StudyId};
use serde_json::{Value, json};

use crate::{failure::refuse, output, unlock::Unlock};

/// Largest chance that the charged σ is out of a round's bounds in sound code.
const FALSE_ALARM_BOUNDS: f64 = 1e-6;
/// Largest chance that anything is found in a round of sound code, or in all rounds together.
const FALSE_ALARM_FINDINGS: f64 = 1.0 / 80_000.0;

/// Which rounds, and where they lie.
#[derive(Debug, Args)]
pub(in crate::cli) struct Options {
    /// The agent's folder
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    /// The study
    #[arg(long, value_name = "STUDY")]
    study: StudyId,
    /// Only this round; may be given several times [default: all rounds]
    #[arg(long = "round", value_name = "NUMBER")]
    rounds: Vec<u32>,
    /// Folder with weights that rounds started from, bare or as safetensors files of this program.
    /// What is not in it is asked of the coordinator
    #[arg(long, value_name = "DIR")]
    versions: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    unlock: Unlock,
}

impl Options {
    pub(super) async fn run(self) -> Result<()> {
        let started = Instant::now();
        let key = self.unlock.open()?;
        let membership = Membership::open(&self.dir, &key)?;
        if membership.role() != Role::Site {
            let message = format!(
                "{} is no site's folder: only sites train",
                self.dir.display()
            );
            return refuse(ErrorCode::Invalid, message);
        }
        let settings = Settings::load(&settings_file(&self.dir))?;
        let store = Store::open(&self.dir, Arc::new(key)).await?;
        let question = Question {
            study: self.study,
            rounds: &self.rounds,
            versions: self.versions.as_deref(),
        };
        let progress = |round: &Round| {
            let said = said(&round.verdict);
            output::note(format_args!("round {}: {}", round.number, said.0));
        };
        let replays = Box::pin(replay(&membership, &store, &settings, question, progress)).await;
        store.close().await;
        let report = Report {
            study: self.study,
            replays: replays?,
            seconds: started.elapsed().as_secs_f64(),
        };
        match self.json {
            true => output::json(&report.to_json())?,
            false => output::line(report.to_table())?,
        }
        report.judge()
    }
}

/// A study's replay.
struct Report {
    study: StudyId,
    replays: Replays,
    seconds: f64,
}

impl Report {
    /// Fails where anything speaks against the ledger, or nothing for it.
    fn judge(&self) -> Result<()> {
        let rounds = &self.replays.rounds;
        let count = |is_it: fn(&Verdict) -> bool| {
            rounds.iter().filter(|round| is_it(&round.verdict)).count()
        };
        let agree = count(|verdict| matches!(verdict, Verdict::Agrees));
        let differ = count(|verdict| matches!(verdict, Verdict::Differs(_)));
        let missing = rounds.len() - agree - differ;
        if missing > 0 {
            output::note(format_args!(
                "{missing} of {} rounds cannot be repeated: nothing is said of them",
                rounds.len()
            ));
        }
        let findings = self.findings();
        let message = match (differ, findings.first(), agree) {
            (0, None, 0) => "no round could be repeated".to_owned(),
            (0, None, _) => return Ok(()),
            (0, Some(first), _) => format!("noise or batches are not as charged: {first}"),
            (differ, ..) => format!(
                "{differ} of {} rounds differ from the ledger; repeat them with the program and \
                 on the type of processor that trained them before you conclude",
                rounds.len()
            ),
        };
        refuse(ErrorCode::Precondition, message)
    }

    /// What is not as charged, in single rounds and between them.
    fn findings(&self) -> Vec<String> {
        let rounds = self.replays.rounds.iter();
        let seen = rounds.filter_map(|round| Some((round.number, &round.replay.as_ref()?.seen)));
        let single = seen.flat_map(|(number, seen)| {
            let found = seen.irregularities().into_iter();
            found.map(move |found| format!("round {number}: {found}"))
        });
        let all = self.replays.seen.irregularities().into_iter();
        single
            .chain(all.map(|found| format!("all rounds: {found}")))
            .collect()
    }

    fn to_json(&self) -> Value {
        let Replays { name, rounds, seen } = &self.replays;
        let sigma = rounds.first().map(|round| round.charged.noise_multiplier);
        json!({
            "study": self.study,
            "name": name,
            "rounds": rounds.iter().map(round_to_json).collect::<Vec<_>>(),
            "noise": sigma.map(|sigma| noise_to_json(seen, sigma.value())),
            "batches": {
                "rate_ratio": seen.batches.rate_ratio(),
                "spread_ratio": seen.batches.spread_ratio(),
                "overlap_ratio": seen.batches.overlap_ratio(),
            },
            "findings": self.findings(),
            "false_alarms": {
                "bounds": FALSE_ALARM_BOUNDS,
                "findings": FALSE_ALARM_FINDINGS,
            },
            "seconds": self.seconds,
        })
    }

    fn to_table(&self) -> String {
        let header = [
            "round",
            "ledger",
            "verdict",
            "σ charged",
            "σ found",
            "between",
            "drawn a step",
            "expected",
        ];
        let mut rows = vec![header.map(str::to_owned).to_vec()];
        rows.extend(self.replays.rounds.iter().map(round_to_row));
        let mut text = format!(
            "{} (study {})\n{}\n",
            self.replays.name,
            self.study,
            output::table(&rows)
        );
        let seen = &self.replays.seen;
        if let Some((ratio, error)) = seen.residuals.deviation() {
            text += &format!(
                "\nall {} steps: {ratio:.5} ± {error:.5} times the deviation charged\n",
                seen.residuals.steps()
            );
        }
        for finding in self.findings() {
            text += &format!("FINDING  {finding}\n");
        }
        text + &format!("\nrepeated in {:.1} s", self.seconds)
    }
}

/// A verdict for people, and for scripts.
fn said(verdict: &Verdict) -> (String, &'static str) {
    match verdict {
        Verdict::Agrees => ("agrees".to_owned(), "agrees"),
        Verdict::Differs(difference) => (format!("DIFFERS: {difference}"), "differs"),
        Verdict::NotRepeated(obstacle) => {
            let mut said = format!("cannot be repeated: {obstacle}");
            let mut cause = std::error::Error::source(obstacle);
            while let Some(source) = cause {
                said += &format!(": {source}");
                cause = source.source();
            }
            (said, "not repeated")
        }
    }
}

fn round_to_json(round: &Round) -> Value {
    let (why, verdict) = said(&round.verdict);
    let charged = &round.charged;
    let seen = round.replay.as_ref().map(|replay| {
        let q = charged.sampling_rate.value();
        json!({
            "digest": hex::encode(replay.digest),
            "noise": noise_to_json(&replay.seen, charged.noise_multiplier.value()),
            "batches": {
                "drawn": replay.drawn,
                "expected": q * replay.patients as f64,
                "rate_ratio": replay.seen.batches.rate_ratio(),
                "spread_ratio": replay.seen.batches.spread_ratio(),
                "overlap_ratio": replay.seen.batches.overlap_ratio(),
            },
            "unreadable": replay.unreadable,
        })
    });
    let [clipping_norm, next_clipping_norm] = charged
        .clipping_norms
        .map_or([None; 2], |norms| norms.map(|norm| Some(norm.value())));
    json!({
        "round": round.number,
        "entry": round.entry,
        "verdict": verdict,
        "why": why,
        "charged": {
            "noise_multiplier": charged.noise_multiplier.value(),
            "sampling_rate": charged.sampling_rate.value(),
            "steps": charged.steps,
        },
        "clipping_norm": clipping_norm,
        "next_clipping_norm": next_clipping_norm,
        "digest": round.recorded.map(hex::encode),
        "replay": seen,
    })
}

/// σ as found, its bounds, and the most alike of any two steps.
fn noise_to_json(seen: &Seen, sigma: f64) -> Value {
    let times = |ratio: f64| sigma * ratio;
    let bounds = seen.residuals.deviation_bounds();
    json!({
        "noise_multiplier": seen.residuals.deviation().map(|(ratio, _)| times(ratio)),
        "low": bounds.map(|(low, _)| times(low)),
        "high": bounds.map(|(_, high)| times(high)),
        "largest_correlation": seen.residuals.largest_correlation(),
    })
}

fn round_to_row(round: &Round) -> Vec<String> {
    let charged = &round.charged;
    let sigma = charged.noise_multiplier.value();
    let mut row = vec![
        round.number.to_string(),
        format!("entry {}", round.entry),
        said(&round.verdict).0,
        format!("{sigma:.4}"),
    ];
    let Some(replay) = &round.replay else {
        return row;
    };
    let residuals = &replay.seen.residuals;
    let deviation = residuals.deviation().map(|(ratio, _)| ratio);
    let bounds = residuals.deviation_bounds();
    let dash = || "-".to_owned();
    row.push(deviation.map_or_else(dash, |ratio| format!("{:.4}", sigma * ratio)));
    row.push(bounds.map_or_else(dash, |(low, high)| {
        format!("{:.4} and {:.4}", sigma * low, sigma * high)
    }));
    let steps = replay.drawn.len().max(1) as f64;
    row.push(format!(
        "{:.2}",
        replay.drawn.iter().sum::<usize>() as f64 / steps
    ));
    let expected = charged.sampling_rate.value() * replay.patients as f64;
    row.push(format!("{expected:.2}"));
    row
}

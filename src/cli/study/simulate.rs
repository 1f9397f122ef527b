//! Tries plans out on public data: hospitals, rounds and noise in this process, scores and curves at the end.

use std::{path::PathBuf, time::Instant};

use anyhow::{Context as _, Result};
use clap::Args;
use consilium_agent::data::{self, Part};
use consilium_models::training::StopFlag;
use consilium_proto::{ErrorCode, Plan, plan::Task};
use serde_json::json;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{Form, plan};
use crate::{
    chart::{Chart, MANY, PictureFile, Series},
    demo::{Split, material::Material, real},
    failure::{Interrupted, refuse},
    output,
    scoring::{Figures, Scorer},
    signals::stop_on_signals,
    simulation::{Records, Simulation},
};

/// Plans, and pictures to try them out on.
#[derive(Debug, Args)]
pub(in crate::cli) struct Options {
    /// The plans, one after the other
    #[arg(required = true, value_name = "PLAN.toml")]
    plans: Vec<PathBuf>,
    /// Public pictures, `{train,val,test}/<class>/*.png` or a MedMNIST npz: `train` is dealt out to as many
    /// hospitals as the plan's cohort has
    #[arg(long, value_name = "DIR|NPZ")]
    data: PathBuf,
    /// How training pictures go to the hospitals
    #[arg(long, value_enum, default_value_t = Split::Iid)]
    split: Split,
    /// Table of shares for --split dirichlet, instead of drawing them from the plan's seed
    #[arg(long, value_name = "FILE.csv")]
    shares: Option<PathBuf>,
    /// Part of the data that versions are scored on: settings are chosen on val, never on test
    #[arg(long, default_value = "val", value_name = "PART")]
    part: Part,
    /// Draw the AUC of each plan over its rounds: `.svg` or `.png`
    #[arg(long, value_name = "FILE")]
    picture: Option<PictureFile>,
    #[command(flatten)]
    form: Form,
}

/// What came of one plan.
struct Run {
    name: String,
    rounds: u32,
    epsilon: Option<f64>,
    figures: Figures,
    /// AUC of the versions that were scored.
    curve: Vec<(f64, f64)>,
    seconds: f64,
}

/// Versions of a plan that are scored for the picture, beside the last.
const SCORED: u32 = 30;

pub(super) async fn run(options: Options) -> Result<()> {
    let stop = stop_on_signals(&TaskTracker::new())?;
    let mut plans = Vec::new();
    for path in &options.plans {
        let plan = plan::read(path)?;
        if plan.task != Task::ImageClassification {
            let message = format!(
                "{}: only plans of the task `image-classification` can be simulated",
                path.display()
            );
            return refuse(ErrorCode::Precondition, message);
        }
        plans.push(plan);
    }
    let mut runs = Vec::new();
    for plan in plans {
        let run = one(&options, plan, &stop).await?;
        if options.form.json {
            output::json(&run.to_json(options.part))?;
        }
        runs.push(run);
    }
    if !options.form.json {
        output::line(table(&runs))?;
    }
    match &options.picture {
        Some(picture) => draw(options.part, picture, runs),
        None => Ok(()),
    }
}

/// Runs one plan to its end; Ctrl-C stops it within a microbatch.
async fn one(options: &Options, plan: Plan, stop: &CancellationToken) -> Result<Run> {
    let folder = tempfile::tempdir().context("making a temporary folder")?;
    let dealing = real::Dealing {
        sites: plan.cohort.size as usize,
        split: options.split,
        shares: options.shares.as_deref(),
        seed: plan.seed,
    };
    let material = real::shard(&options.data, folder.path(), &dealing)?;
    let hospitals = hospitals(&plan, &material)?;
    let scorer = Scorer::open(&plan, &material.public, options.part, None)?;
    let keeps_curve = options.picture.is_some();
    let flag = StopFlag::default();
    let raised = flag.clone();
    let work = tokio::task::spawn_blocking(move || {
        let started = Instant::now();
        let mut simulation = Simulation::new(&plan, hospitals)?;
        let mut curve = Vec::new();
        let every = plan.rounds.div_ceil(SCORED);
        let mut score = |simulation: &Simulation| -> Result<Figures> {
            let figures = scorer.score(simulation.weights())?;
            let auc = figures.auc;
            curve.extend(auc.map(|auc| (f64::from(simulation.round()), auc)));
            Ok(figures)
        };
        while simulation.round() < plan.rounds {
            if keeps_curve && simulation.round() % every == 0 {
                score(&simulation)?;
            }
            simulation.next(&raised)?;
        }
        let figures = score(&simulation)?;
        Ok(Run {
            name: plan.name,
            rounds: plan.rounds,
            epsilon: simulation.epsilon(),
            figures,
            curve,
            seconds: started.elapsed().as_secs_f64(),
        })
    });
    tokio::pin!(work);
    tokio::select! {
        run = &mut work => run.context("simulating")?,
        () = stop.cancelled() => {
            flag.stop();
            // It ends within one microbatch; what it says then is of no use.
            let _ = work.await;
            Err(Interrupted.into())
        }
    }
}

fn hospitals(plan: &Plan, material: &Material) -> Result<Vec<Records>> {
    let records = material.hospitals.iter().map(|hospital| {
        let set = data::read(&hospital.source(), &plan.classes, None)?;
        Records::new(plan, &set)
    });
    records.collect()
}

impl Run {
    fn to_json(&self, part: Part) -> serde_json::Value {
        json!({
            "plan": self.name,
            "rounds": self.rounds,
            "epsilon": self.epsilon,
            "part": part.name(),
            "scores": self.figures,
            "seconds": self.seconds,
        })
    }
}

fn table(runs: &[Run]) -> String {
    let header = ["plan", "rounds", "ε", "accuracy", "AUC", "loss"].map(str::to_owned);
    let mut rows = vec![header.to_vec()];
    let number = |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.3}"));
    rows.extend(runs.iter().map(|run| {
        vec![
            run.name.clone(),
            run.rounds.to_string(),
            number(run.epsilon),
            number(run.figures.accuracy),
            number(run.figures.auc),
            number(run.figures.loss),
        ]
    }));
    output::table(&rows)
}

fn draw(part: Part, picture: &PictureFile, runs: Vec<Run>) -> Result<()> {
    let colours = MANY.into_iter().cycle();
    let series = runs.into_iter().zip(colours).map(|(run, colour)| Series {
        name: run.name,
        colour,
        points: run.curve,
    });
    let chart = Chart {
        title: format!("AUC on the part {}", part.name()),
        below: "round",
        top: Some(1.0),
        series: series.collect(),
    };
    chart.save(picture)?;
    output::note(format_args!("the curves are in {}", picture));
    Ok(())
}

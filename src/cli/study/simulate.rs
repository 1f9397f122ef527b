//! Tries plans out on public data: hospitals, rounds and noise in this process, scores and curves at the end.

use std::{path::PathBuf, time::Instant};

use anyhow::{Context as _, Result};
use clap::Args;
use consilium_agent::data::{self, Part, Source};
use consilium_models::training::StopFlag;
use consilium_proto::{ErrorCode, Plan, plan::Task};
use serde_json::json;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{Form, plan};
use crate::{
    chart::{Chart, MANY, PictureFile, Series},
    demo::{Split, material::HospitalFolder, real},
    failure::{Interrupted, refuse},
    output,
    scoring::{self, Figures, Interview, Means, Questions, Scorer},
    signals::stop_on_signals,
    simulation::{Records, Simulation},
};

/// Plans, and public data to try them out on.
#[derive(Debug, Args)]
pub(in crate::cli) struct Options {
    /// The plans, one after the other
    #[arg(required = true, value_name = "PLAN.toml")]
    plans: Vec<PathBuf>,
    /// Public pictures, `{train,val,test}/<class>/*.png` or a MedMNIST npz: `train` is dealt out to as many
    /// hospitals as the plan's cohort has
    #[arg(long, value_name = "DIR|NPZ", required_unless_present = "site")]
    data: Option<PathBuf>,
    /// Notes or a table of one hospital, for plans about those; once for each hospital
    #[arg(long, value_name = "PATH", conflicts_with = "data", requires = "score")]
    site: Vec<PathBuf>,
    /// Notes or a table that versions are scored on
    #[arg(long, value_name = "PATH", requires = "site")]
    score: Option<PathBuf>,
    /// Column of tables that is the label
    #[arg(long, value_name = "COLUMN", requires = "site")]
    target: Option<String>,
    /// Folder of the public text encoder, for plans that ask for one
    #[arg(long, value_name = "DIR", requires = "site")]
    text_encoder: Option<PathBuf>,
    /// Ask the rows of --score so many questions, each time the one that tells most, and score the answer
    /// after each: for naive-bayes
    #[arg(long, value_name = "N", requires = "score")]
    questions: Option<usize>,
    /// Columns whose values are known before the first question
    #[arg(
        long,
        value_name = "COLUMN,COLUMN",
        value_delimiter = ',',
        requires = "questions"
    )]
    known: Vec<String>,
    /// Column that names one more column whose value is known: what the patient came with
    #[arg(long, value_name = "COLUMN", requires = "questions")]
    complaint: Option<String>,
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
    /// Accuracy after 0, 1, … questions, where any were to be asked.
    by_questions: Option<Vec<f64>>,
    seconds: f64,
}

/// Versions of a plan that are scored for the picture, beside the last.
const SCORED: u32 = 30;

pub(super) async fn run(options: Options) -> Result<()> {
    let stop = stop_on_signals(&TaskTracker::new())?;
    let mut plans = Vec::new();
    for path in &options.plans {
        let plan = plan::read(path)?;
        let needs_pictures = plan.image.is_some();
        if plan.task == Task::ImageRegression || needs_pictures != options.data.is_some() {
            let message = match plan.task {
                Task::ImageRegression => "plans of a regression target cannot be simulated",
                _ if needs_pictures => "a plan about pictures takes --data",
                _ => "a plan about notes or tables takes --site for each hospital, and --score",
            };
            let message = format!("{}: {message}", path.display());
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
        if options.questions.is_some() {
            output::line(by_questions(&runs))?;
        }
    }
    match &options.picture {
        Some(picture) => draw(options.part, picture, runs),
        None => Ok(()),
    }
}

/// Runs one plan to its end; Ctrl-C stops it within a microbatch.
async fn one(options: &Options, plan: Plan, stop: &CancellationToken) -> Result<Run> {
    let (hospitals, scorer) = options.material(&plan)?;
    let interview = options.interview(&plan)?;
    let keeps_curve = options.picture.is_some();
    let flag = StopFlag::default();
    let raised = flag.clone();
    let encoder = options.text_encoder.clone();
    let work = tokio::task::spawn_blocking(move || {
        let started = Instant::now();
        let mut simulation = Simulation::new(&plan, hospitals, encoder.as_deref())?;
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
        let weights = simulation.weights();
        let by_questions = interview.map(|interview| interview.accuracies(weights));
        Ok(Run {
            by_questions: by_questions.transpose()?,
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

impl Options {
    /// What hospitals have, and what versions are scored on.
    fn material(&self, plan: &Plan) -> Result<(Vec<Records>, Scorer)> {
        let means = Means {
            target: self.target.as_deref(),
            encoder: self.text_encoder.as_deref(),
        };
        if let Some(data) = &self.data {
            let folder = tempfile::tempdir().context("making a temporary folder")?;
            let dealing = real::Dealing {
                sites: plan.cohort.size as usize,
                split: self.split,
                shares: self.shares.as_deref(),
                seed: plan.seed,
            };
            let material = real::shard(data, folder.path(), &dealing)?;
            let sources = material.hospitals.iter().map(HospitalFolder::source);
            let scorer = Scorer::open(plan, &material.public, self.part, means)?;
            return Ok((records(plan, sources, means)?, scorer));
        }
        let sites = self.site.iter();
        let sources = sites.map(|path| scoring::source(plan, path, self.part, means.target));
        let sources = sources.collect::<Result<Vec<_>>>()?;
        let score = self.score.as_deref().context("--score is missing")?;
        let scorer = Scorer::open(plan, score, self.part, means)?;
        Ok((records(plan, sources.into_iter(), means)?, scorer))
    }

    /// Whom to ask, where questions are to be asked.
    fn interview(&self, plan: &Plan) -> Result<Option<Interview>> {
        let (Some(most), Some(score)) = (self.questions, &self.score) else {
            return Ok(None);
        };
        let means = Means {
            target: self.target.as_deref(),
            encoder: None,
        };
        let questions = Questions {
            most,
            known: &self.known,
            complaint: self.complaint.as_deref(),
        };
        Interview::open(plan, score, means, questions).map(Some)
    }
}

fn records(
    plan: &Plan,
    sources: impl Iterator<Item = Source>,
    means: Means,
) -> Result<Vec<Records>> {
    let records = sources.map(|source| {
        let set = data::read(&source, &plan.classes, None)?;
        Records::new(plan, &set, means.encoder)
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
            "accuracy_by_questions": self.by_questions,
            "seconds": self.seconds,
        })
    }
}

fn table(runs: &[Run]) -> String {
    let header = ["plan", "rounds", "ε", "accuracy", "AUC", "F1", "loss"].map(str::to_owned);
    let mut rows = vec![header.to_vec()];
    let number = |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.3}"));
    rows.extend(runs.iter().map(|run| {
        vec![
            run.name.clone(),
            run.rounds.to_string(),
            number(run.epsilon),
            number(run.figures.accuracy),
            number(run.figures.auc),
            number(run.figures.f1),
            number(run.figures.loss),
        ]
    }));
    output::table(&rows)
}

/// Accuracy after each question.
fn by_questions(runs: &[Run]) -> String {
    let rows = runs.iter().filter_map(|run| {
        let shares = run.by_questions.as_ref()?.iter();
        let shares = shares.map(|share| format!("{share:.3}"));
        Some(std::iter::once(run.name.clone()).chain(shares).collect())
    });
    let mut rows: Vec<Vec<String>> = rows.collect();
    let asked = rows.first().map_or(0, |row| row.len() - 1);
    let header = (0..asked).map(|asked| asked.to_string());
    rows.insert(
        0,
        std::iter::once("questions".to_owned())
            .chain(header)
            .collect(),
    );
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

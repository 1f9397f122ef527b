//! `consilium privacy …`: what releases cost, and what noise a target asks for. No network, no
//! folder, no data.

mod history;
mod plan;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use clap::{Args, Subcommand, ValueEnum};
use consilium_privacy::accountant::{Accountant, Charge, Delta, Pld, Rdp};
use consilium_proto::ErrorCode;
use serde_json::json;

use crate::{
    chart::PictureFile,
    failure::{Classify as _, refuse},
    output,
};

/// Largest history or plan that is read, in bytes.
const LIMIT: u64 = 256 << 10;

/// Figures of privacy; all hold for neighbours that differ by one unit added or removed.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Compute ε of a training or of a whole history
    ///
    /// A training is --sampling-rate, --noise-multiplier and --steps. A history is a JSON file: a
    /// list of phases, in any order.
    ///
    ///   [
    ///     {"mechanism": "sgm", "noise_multiplier": 1.0, "sampling_rate": 0.05, "steps": 600},
    ///     {"mechanism": "tsgm", "noise_multiplier": 1.0, "sampling_rate": 0.01,
    ///      "largest_batch": 150, "units": 10000, "steps": 1000},
    ///     {"mechanism": "gau", "noise_multiplier": 5.0, "releases": 10},
    ///     {"mechanism": "lap", "scale": 10.0, "releases": 3},
    ///     {"mechanism": "pure", "epsilon": 0.1, "releases": 1}
    ///   ]
    ///
    /// sgm is Gaussian noise on Poisson-sampled batches, tsgm the same with batches cut at random to
    /// a largest size, in a data set of so many units; gau is Gaussian noise without sampling, all
    /// with the noise deviation over the sensitivity; lap is Laplace noise of this scale at
    /// sensitivity 1, which costs 1/scale; pure is any release that is (ε, 0)-private. `sigma`,
    /// `q` and `count` may stand for the long names, `max_batch` and `dataset_size` for those of
    /// tsgm. A phase may also be a text, and so may the whole list: "sgm(1.0,0.05)x600;lap(10.0)x3"
    /// is sgm(sigma,q)xsteps, lap(scale)xcount, tsgm(sigma,q,largest_batch,units)xsteps,
    /// gau(sigma)xcount, pure(epsilon)xcount.
    #[command(verbatim_doc_comment)]
    Epsilon(Box<EpsilonOf>),
    /// Find the noise multiplier that keeps a training within ε
    Calibrate(Box<Calibration>),
    /// Show what a plan would cost a site: q, σ, steps, and ε over its rounds
    Plan {
        /// The plan
        #[arg(value_name = "PLAN.toml")]
        plan: PathBuf,
        /// The data set's public size, in patients: at least 1
        #[arg(long, value_name = "N")]
        public_size: u64,
        /// Draw ε over the rounds, by both accountants; an SVG or a PNG, by the name's ending
        #[arg(long, value_name = "FILE")]
        picture: Option<PictureFile>,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Args)]
pub(super) struct EpsilonOf {
    /// Probability that a unit enters a batch (q): above 0, at most 1
    #[arg(long, value_name = "Q", required_unless_present = "history")]
    sampling_rate: Option<f64>,
    /// Noise deviation over the clipping norm (σ): above 0
    #[arg(long, value_name = "S", required_unless_present = "history")]
    noise_multiplier: Option<f64>,
    /// Number of steps: 1 to 4294967295
    #[arg(long, value_name = "T", required_unless_present = "history")]
    steps: Option<u32>,
    /// Phases to account together, as JSON
    #[arg(
        long,
        value_name = "FILE.json",
        conflicts_with_all = ["sampling_rate", "noise_multiplier", "steps"]
    )]
    history: Option<PathBuf>,
    #[command(flatten)]
    question: Question,
}

#[derive(Debug, Args)]
pub(super) struct Calibration {
    /// What all steps together may cost (ε): above 0
    #[arg(long, value_name = "E")]
    epsilon: f64,
    /// Probability that a unit enters a batch (q): above 0, at most 1
    #[arg(long, value_name = "Q")]
    sampling_rate: f64,
    /// Number of steps: 1 to 4294967295
    #[arg(long, value_name = "T")]
    steps: u32,
    #[command(flatten)]
    question: Question,
}

/// At which δ, by whom, and in which form.
#[derive(Debug, Args)]
struct Question {
    /// Probability with which ε may fail (δ): above 0, below 0.01; for pld at least 1e-10
    #[arg(long, value_name = "D")]
    delta: f64,
    /// Who computes
    #[arg(long, value_enum, default_value_t = Method::Rdp)]
    accountant: Method,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Method {
    /// Rényi curves: what the ledger reckons with
    Rdp,
    /// Privacy loss distributions: tighter, only for a schedule fixed in advance
    Pld,
}

impl Command {
    pub(super) fn run(self) -> Result<()> {
        match self {
            Self::Epsilon(options) => options.run(),
            Self::Calibrate(options) => options.run(),
            Self::Plan {
                plan,
                public_size,
                picture,
                json,
            } => plan::run(&plan, public_size, picture.as_ref(), json),
        }
    }
}

impl EpsilonOf {
    fn run(self) -> Result<()> {
        let history = match &self.history {
            Some(path) => history::read(path)?,
            None => vec![self.training()?],
        };
        let (delta, mut accountant) = self.question.open()?;
        let epsilon = finite(accountant.epsilon(&history, delta))?;
        if self.question.json {
            return output::json(&json!({
                "epsilon": epsilon,
                "delta": delta,
                "accountant": self.question.accountant.name(),
                "adjacency": ADJACENCY,
                "history": history,
            }));
        }
        self.question.print([("epsilon", rounded_up(epsilon))])
    }

    /// The command line sees to it that all three are there where no history is.
    fn training(&self) -> Result<Charge> {
        let missing = "missing without --history";
        Ok(Charge::SampledGaussian {
            q: self
                .sampling_rate
                .context(missing)?
                .try_into()
                .context("--sampling-rate")?,
            sigma: self
                .noise_multiplier
                .context(missing)?
                .try_into()
                .context("--noise-multiplier")?,
            steps: at_least_one(self.steps.context(missing)?)?,
        })
    }
}

impl Calibration {
    fn run(self) -> Result<()> {
        let target = self.epsilon.try_into().context("--epsilon")?;
        let q = self.sampling_rate.try_into().context("--sampling-rate")?;
        let steps = at_least_one(self.steps)?;
        let (delta, mut accountant) = self.question.open()?;
        let sigma = accountant
            .calibrate(target, delta, q, steps)
            .context("--epsilon")?;
        let spent = accountant.epsilon(&[Charge::SampledGaussian { q, sigma, steps }], delta);
        if self.question.json {
            return output::json(&json!({
                "noise_multiplier": sigma,
                "target_epsilon": target,
                "epsilon": spent,
                "delta": delta,
                "sampling_rate": q,
                "steps": steps,
                "accountant": self.question.accountant.name(),
                "adjacency": ADJACENCY,
            }));
        }
        self.question.print([
            ("noise_multiplier", rounded_up(sigma.value())),
            ("epsilon", rounded_up(spent)),
        ])
    }
}

/// Neighbours of every figure here.
const ADJACENCY: &str = "add-or-remove-one";

impl Question {
    /// δ and the accountant that can serve it.
    fn open(&self) -> Result<(Delta, Box<dyn Accountant>)> {
        let delta = Delta::try_from(self.delta).context("--delta")?;
        let accountant: Box<dyn Accountant> = match self.accountant {
            Method::Rdp => Box::new(Rdp::new()),
            Method::Pld if delta.value() < Pld::SMALLEST_DELTA => {
                return refuse(
                    ErrorCode::Invalid,
                    format!(
                        "--delta: must be at least {:e} for pld, which resolves no less, found \
                         {delta:e}: use --accountant rdp",
                        Pld::SMALLEST_DELTA,
                        delta = delta.value()
                    ),
                );
            }
            Method::Pld => Box::new(Pld::new()),
        };
        Ok((delta, accountant))
    }

    fn print<const N: usize>(&self, figures: [(&str, String); N]) -> Result<()> {
        let circumstances = [
            ("delta", format!("{:e}", self.delta)),
            ("accountant", self.accountant.name().to_owned()),
            ("adjacency", ADJACENCY.to_owned()),
        ];
        let rows: Vec<_> = figures
            .into_iter()
            .chain(circumstances)
            .map(|(name, value)| vec![name.to_owned(), value])
            .collect();
        output::line(output::table(&rows))
    }
}

impl Method {
    fn name(self) -> &'static str {
        match self {
            Self::Rdp => "rdp",
            Self::Pld => "pld",
        }
    }
}

fn at_least_one(steps: u32) -> Result<u32> {
    match steps {
        0 => refuse(
            ErrorCode::Invalid,
            "--steps: must be 1 to 4294967295, found 0",
        ),
        steps => Ok(steps),
    }
}

/// Refuses what would be printed as no number.
fn finite(epsilon: f64) -> Result<f64> {
    match epsilon.is_finite() {
        true => Ok(epsilon),
        false => refuse(
            ErrorCode::Invalid,
            "no finite epsilon holds: raise the noise multiplier",
        ),
    }
}

/// Six decimals, never below the number.
fn rounded_up(value: f64) -> String {
    format!("{:.6}", (value * 1e6).ceil() / 1e6)
}

/// A file's text, of bounded length.
fn read_text(path: &Path, what: &str) -> Result<String> {
    let context = || format!("reading the {what} {}", path.display());
    let length = std::fs::metadata(path).with_context(context)?.len();
    if length > LIMIT {
        return refuse(
            ErrorCode::Invalid,
            format!(
                "the {what} {} has {length} bytes, more than {LIMIT}",
                path.display()
            ),
        );
    }
    // Bytes that are no text are the file's fault.
    let bytes = std::fs::read(path).with_context(context)?;
    String::from_utf8(bytes)
        .classify(ErrorCode::Invalid)
        .with_context(context)
}

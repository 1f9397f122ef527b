//! `consilium demo`: a whole federation on this machine, and what it gains.
//!
//! One coordinator and some hospitals run as processes of their own, over loopback, with real keys,
//! certificates, databases and files; nothing takes a short cut that real hospitals could not take.
//! The demo plays the people: governance, the hospitals' stewards and the researcher.

mod federation;
mod follow;
mod hospitals;
pub(crate) mod material;
mod plans;
mod process;
pub(crate) mod real;
mod report;
mod shards;

use std::{
    path::{Path, PathBuf},
    time::Instant,
};

use anyhow::{Context as _, Result};
use clap::Args;
use consilium_agent::data::{self, Part};
use consilium_models::{
    network::{Road, Wish},
    training::StopFlag,
};
use consilium_proto::{ErrorCode, ParameterVector, Plan};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::{
    federation::Federation,
    material::Material,
    plans::{Protection, Settings},
    report::{Alone, Report, Together, TogetherPrivate},
};
pub use self::{plans::NetworkName, shards::Split};
use crate::{
    device::NoSuchCard,
    failure::{Interrupted, refuse},
    output,
    scoring::{Figures, Means, Scorer},
    signals::stop_on_signals,
    simulation::{Records, Simulation},
};

/// Largest δ that the demo asks for; a site wants 1 / (10 · public size) or less besides.
const DELTA: f64 = 1e-5;

/// Rounds of a study unless told otherwise.
const ROUNDS_GENERATED: u32 = 30;
const ROUNDS_REAL: u32 = 60;

/// What to run, and on which data.
#[derive(Debug, Args)]
pub struct Options {
    /// Folder for everything the demo writes; must be new or empty [default: a temporary folder]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Leave the federation running when all is done, until Ctrl-C
    #[arg(long)]
    keep: bool,
    /// Real images instead of generated ones: a folder `{train,val,test}/<class>/*.png` or an npz
    #[arg(long, value_name = "DIR|NPZ")]
    data: Option<PathBuf>,
    /// Number of hospitals
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=100))]
    sites: u16,
    /// Rounds of each study [default: 30, with --data 60]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    rounds: Option<u32>,
    /// How training images go to the hospitals, with --data
    #[arg(long, value_enum, default_value_t = Split::Iid, requires = "data")]
    split: Split,
    /// Table of shares for --split dirichlet, instead of drawing them from the seed
    #[arg(long, value_name = "FILE.csv", requires = "data")]
    shares: Option<PathBuf>,
    /// Network of both studies [default: cnn-small for 28 x 28 grey images, else cnn; with --data,
    /// resnet-gn for the study without privacy, and scatter-cnn for 28 x 28 with ε of 5 or more]
    #[arg(long, value_enum)]
    network: Option<NetworkName>,
    /// Privacy of each patient: largest ε of a hospital
    #[arg(long, default_value_t = 8.0)]
    epsilon: f64,
    /// δ at which ε holds [default: 1e-5, or less where a hospital has many patients]
    #[arg(long)]
    delta: Option<f64>,
    /// Fixes generated data, shards and initial weights; never noise, never sampling
    #[arg(long, default_value_t = 2026)]
    seed: u64,
    /// Let the coordinator see each hospital's update by itself; needed for fewer than three hospitals
    #[arg(long)]
    no_secure_aggregation: bool,
    /// Where the hospitals train: auto, cpu, gpu (all cards), gpu:0 or gpu:0,gpu:1
    #[arg(long, value_name = "DEVICE", default_value_t = Wish::Auto)]
    device: Wish,
    /// Print one JSON object as the last line
    #[arg(long)]
    json: bool,
}

/// Runs the demo from the first key to the last table.
///
/// # Errors
/// Options that make no federation, data that cannot be read, a node that fails, Ctrl-C.
pub async fn run(options: Options) -> Result<()> {
    let stop = stop_on_signals(&TaskTracker::new())?;
    let started = Instant::now();
    // A plan that no coordinator would take is refused before anything is made.
    plans::check_privacy(options.epsilon, options.delta)?;
    if options.sites < 3 && !options.no_secure_aggregation {
        let message = format!(
            "--sites {}: of fewer than three hospitals each would know the others' sum; add \
             --no-secure-aggregation to let the coordinator see each update instead",
            options.sites
        );
        return refuse(ErrorCode::Invalid, message);
    }
    if matches!(options.device, Wish::AllCards | Wish::Cards(_)) && Road::BUILT.is_empty() {
        return Err(NoSuchCard::NotBuilt(options.device).into());
    }
    let dir = folder(options.dir.as_deref())?;
    output::note(format_args!("the demo's files are in {}", dir.display()));
    let material = options.material(&dir)?;
    let settings = options.settings(&material);
    let plain = plans::write(
        &dir,
        "without-privacy",
        &settings,
        &material,
        Protection::None,
    )?;
    let private = plans::write(
        &dir,
        "with-privacy",
        &settings,
        &material,
        Protection::Private,
    )?;
    report::announce(&material, &settings);

    let [scoring, private_scoring] = [
        Scoring::new(&plain, &material)?,
        Scoring::new(&private, &material)?,
    ];
    let alone = train_alone(&plain, &material, &scoring, &stop).await?;

    let mut federation = Federation::start(&dir, &material, &settings, &stop).await?;
    let studies = [(&plain, &scoring), (&private, &private_scoring)];
    let outcome = train_together(&mut federation, studies, &stop).await;
    let ([together, together_private], epsilon) = match outcome {
        Ok(outcome) => outcome,
        Err(error) => {
            federation.stop().await;
            return Err(error);
        }
    };
    let audit_export = dir.join("audit.jsonl");
    if let Err(error) = federation.export(&audit_export).await {
        federation.stop().await;
        return Err(error.context("exporting the ledgers"));
    }
    let report = Report {
        seconds: started.elapsed().as_secs_f64(),
        secure_aggregation: settings.secure_aggregation,
        dir: dir.clone(),
        alone,
        together: Together::new(&scoring.test.score(&together)?),
        together_private: TogetherPrivate::new(
            &private_scoring.test.score(&together_private)?,
            epsilon,
            settings.delta,
        ),
        audit_export,
        trust_root: federation.trust_root(),
    };
    report.print(&material, &federation, options.json)?;
    if options.keep {
        output::note("the federation goes on until Ctrl-C");
        stop.cancelled().await;
    }
    federation.stop().await;
    Ok(())
}

impl Options {
    fn material(&self, dir: &Path) -> Result<Material> {
        let sites = usize::from(self.sites);
        let Some(data) = &self.data else {
            output::note("generating hospitals: no image, patient or note of theirs is real");
            return hospitals::generate(dir, sites, self.seed);
        };
        let dealing = real::Dealing {
            sites,
            split: self.split,
            shares: self.shares.as_deref(),
            seed: self.seed,
        };
        real::shard(data, dir, &dealing)
    }

    fn settings(&self, material: &Material) -> Settings {
        let largest = material
            .hospitals
            .iter()
            .map(|hospital| hospital.patients)
            .max();
        let allowed = 1.0 / (10.0 * largest.unwrap_or(1).max(1) as f64);
        Settings {
            network: self.network,
            rounds: self.rounds.unwrap_or(match material.is_generated {
                true => ROUNDS_GENERATED,
                false => ROUNDS_REAL,
            }),
            seed: self.seed,
            secure_aggregation: !self.no_secure_aggregation,
            device: self.device.clone(),
            epsilon: self.epsilon,
            delta: self.delta.unwrap_or(DELTA.min(allowed)),
        }
    }
}

/// The folder to write to, empty and with its absolute path.
fn folder(given: Option<&Path>) -> Result<PathBuf> {
    let Some(path) = given else {
        let folder = tempfile::Builder::new().prefix("consilium-demo-").tempdir();
        return Ok(folder.context("making a temporary folder")?.keep());
    };
    std::fs::create_dir_all(path).with_context(|| format!("making {}", path.display()))?;
    let mut entries =
        std::fs::read_dir(path).with_context(|| format!("opening {}", path.display()))?;
    if entries.next().is_some() {
        let message = format!(
            "{} is not empty: give --dir a new or empty folder",
            path.display()
        );
        return refuse(ErrorCode::Precondition, message);
    }
    path.canonicalize()
        .with_context(|| format!("opening {}", path.display()))
}

/// The public parts, ready for the plans' network.
struct Scoring {
    val: Scorer,
    test: Scorer,
}

impl Scoring {
    fn new(plan: &Plan, material: &Material) -> Result<Self> {
        let open = |part| Scorer::open(plan, &material.public, part, Means::default());
        Ok(Self {
            val: open(Part::Val)?,
            test: open(Part::Test)?,
        })
    }
}

/// Trains each hospital's own model, without privacy and with as many steps as the federation.
async fn train_alone(
    plan: &Plan,
    material: &Material,
    scoring: &Scoring,
    stop: &CancellationToken,
) -> Result<Vec<Alone>> {
    let mut alone = Vec::new();
    for hospital in &material.hospitals {
        let set = data::read(&hospital.source(), &plan.classes, None)?;
        let records = Records::new(plan, &set, None)?;
        let weights = train_one(plan.clone(), records, stop).await?;
        let figures = scoring.test.score(&weights)?;
        let val = scoring.val.score(&weights)?;
        output::note(format_args!(
            "alone             {:<20} val accuracy {}",
            hospital.name,
            report::number(val.accuracy)
        ));
        alone.push(Alone::new(&hospital.name, &figures));
    }
    Ok(alone)
}

async fn train_one(
    plan: Plan,
    records: Records,
    stop: &CancellationToken,
) -> Result<ParameterVector> {
    let flag = StopFlag::default();
    let raised = flag.clone();
    let training = tokio::task::spawn_blocking(move || {
        let mut simulation = Simulation::new(&plan, vec![records], None)?;
        while simulation.round() < plan.rounds {
            simulation.next(&raised)?;
        }
        anyhow::Ok(simulation.weights().clone())
    });
    tokio::pin!(training);
    tokio::select! {
        trained = &mut training => trained.context("training alone")?,
        () = stop.cancelled() => {
            flag.stop();
            // It ends within one microbatch; what it says then is of no use.
            let _ = training.await;
            Err(Interrupted.into())
        }
    }
}

/// Runs both studies; returns their weights and the largest ε of a site in the second.
async fn train_together(
    federation: &mut Federation,
    studies: [(&Plan, &Scoring); 2],
    stop: &CancellationToken,
) -> Result<([ParameterVector; 2], f64)> {
    let [(plain, plain_scoring), (private, private_scoring)] = studies;
    let without = follow::study(federation, plain, &plain_scoring.val, stop).await?;
    let with = follow::study(federation, private, &private_scoring.val, stop).await?;
    let epsilon = with.epsilon.context("the sites stated no ε")?;
    Ok(([without.weights, with.weights], epsilon))
}

/// Accuracy and AUC of a classification, 0 where there is none.
fn headline(figures: &Figures) -> (f64, f64) {
    (figures.accuracy.unwrap_or(0.0), figures.auc.unwrap_or(0.0))
}

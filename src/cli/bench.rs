//! `consilium bench …`: what this machine can do.

use std::{
    num::{NonZeroU32, NonZeroUsize},
    path::PathBuf,
    time::Duration,
};

use anyhow::{Context as _, Result};
use clap::{Args, Subcommand};
use consilium_models::{
    benchmark::{self, Asking, Cell, Figures, Subject, Task, Way},
    network::{Device, Wish},
    profile::Table,
};

use crate::{
    device::{self, Children},
    output,
};

/// Measure this machine.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Steps of training on made-up records, private and not: speed and memory, in about a minute
    ///
    /// Each figure is the median over turns that private and ordinary training take one after the other; memory
    /// is that of processes which do nothing else.
    Training(Options),
    /// How fast a model answers on the CPU: one picture, many at once, eight clients; in half a minute
    ///
    /// The model is `resnet-gn` (width 32, depth 3) on grey pictures of 224 × 224, with made-up weights.
    Prediction(Prediction),
    /// One measurement, in a process of its own.
    #[command(hide = true)]
    Task { task: Task },
}

/// What to measure.
#[derive(Debug, Args)]
pub(super) struct Options {
    /// Networks: cnn-small, resnet-gn, cnn, text, scatter-cnn
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "cnn-small,resnet-gn,cnn,text,scatter-cnn",
        value_name = "NAMES"
    )]
    networks: Vec<Subject>,
    /// Examples of a step [default: 32; with --full 32,256]
    #[arg(long, value_delimiter = ',', value_name = "NUMBERS")]
    batches: Vec<NonZeroU32>,
    /// Threads that compute gradients [default: as many as there are cores; with --full 1 and 2]
    #[arg(long, value_delimiter = ',', value_name = "NUMBERS")]
    threads: Vec<NonZeroUsize>,
    /// Turns of each [default: 3; with --full 7]
    #[arg(long, value_name = "NUMBER")]
    turns: Option<NonZeroU32>,
    /// All batches and numbers of threads, and more turns: half an hour and more
    #[arg(long)]
    full: bool,
    /// Where to compute: auto, cpu or one card, as gpu:0
    #[arg(long, default_value_t = Wish::Auto, value_name = "DEVICE")]
    device: Wish,
    /// Compute parts of the forward pass again instead of keeping them: less memory, more time
    #[arg(long)]
    recompute: bool,
    /// Measure one way of training alone: plain or private
    #[arg(long, value_name = "WAY")]
    only: Option<Way>,
    /// Show where the time goes as well
    #[arg(long)]
    profile: bool,
    /// Print one JSON object a line
    #[arg(long)]
    json: bool,
}

/// How to ask.
#[derive(Debug, Args)]
pub(super) struct Prediction {
    /// Pictures that are computed side by side, each on one thread [default: as many as there are cores]
    #[arg(long, value_name = "NUMBER")]
    threads: Option<NonZeroUsize>,
    /// Seconds for each way of asking
    #[arg(long, default_value = "10", value_name = "NUMBER")]
    seconds: NonZeroU32,
    /// Write the model that is measured into this folder, as plan.toml and weights.safetensors
    #[arg(long, value_name = "FOLDER")]
    files: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

impl Command {
    pub(super) async fn run(self) -> Result<()> {
        match self {
            Self::Training(options) => {
                let trials = Children::new().context("finding this program")?;
                let chosen = device::choose(&options.device, &trials).await?;
                options.run(chosen.first().copied().unwrap_or_default())
            }
            Self::Prediction(options) => options.run(),
            Self::Task { task } => output::json(&task.run(|_| None)?),
        }
    }
}

impl Prediction {
    fn run(self) -> Result<()> {
        if let Some(folder) = &self.files {
            let (plan, weights) = benchmark::files()?;
            output::file(
                &folder.join("plan.toml"),
                toml::to_string(&plan)?.as_bytes(),
            )?;
            output::file(&folder.join("weights.safetensors"), &weights)?;
        }
        let asking = Asking {
            threads: self.threads.unwrap_or_else(cores),
            each: Duration::from_secs(self.seconds.get().into()),
        };
        let found = asking.measure()?;
        if self.json {
            return output::json(&found);
        }
        output::line(format_args!(
            "start            {:9.1} ms\none picture      {:9.1} ms (median), {:.1} a second on one thread\n\
             {} at once       {:9.1} a second on {} threads\n{} clients        {:9.1} ms (median), {:.1} ms (99 of 100)",
            found.start_ms,
            found.single_p50_ms,
            found.single_per_s,
            found.batch,
            found.batched_per_s,
            found.threads,
            found.clients,
            found.clients_p50_ms,
            found.clients_p99_ms,
        ))
    }
}

impl Options {
    fn run(&self, device: Device) -> Result<()> {
        let program = std::env::current_exe().context("finding this program")?;
        let mut measured = Vec::new();
        for task in self.tasks(device) {
            let figures = task.measure(&program, &["bench", "task"])?;
            if self.json {
                output::json(&figures)?;
            } else {
                output::note(format_args!(
                    "measured {} at batch {}",
                    figures.network, figures.batch
                ));
                measured.push(figures);
            }
        }
        if self.json {
            return Ok(());
        }
        output::line(output::table(&rows(&measured)))?;
        measured.iter().try_for_each(|figures| {
            profile("ordinary", figures, figures.plain_profile.as_ref())?;
            profile("private", figures, figures.private_profile.as_ref())
        })
    }

    /// In the order in which they are shown.
    fn tasks(&self, device: Device) -> Vec<Task> {
        let batches: Vec<_> = self.batches.iter().map(|batch| batch.get()).collect();
        let (batches, threads, turns) = match self.full {
            true => (or(&batches, &[32, 256]), or(&self.threads, &[ONE, TWO]), 7),
            false => (or(&batches, &[32]), or(&self.threads, &[cores()]), 3),
        };
        let turns = self.turns.map_or(turns, NonZeroU32::get);
        let mut tasks = Vec::new();
        for &network in &self.networks {
            for &batch in &batches {
                tasks.extend(threads.iter().map(|&threads| Task {
                    cell: Cell {
                        network,
                        batch,
                        threads,
                        device,
                        recomputes: self.recompute,
                    },
                    only: self.only,
                    turns,
                    is_profiled: self.profile,
                }));
            }
        }
        tasks
    }
}

const ONE: NonZeroUsize = NonZeroUsize::MIN;
const TWO: NonZeroUsize = ONE.saturating_add(1);

fn cores() -> NonZeroUsize {
    std::thread::available_parallelism().unwrap_or(ONE)
}

/// What was asked for, or the usual.
fn or<T: Copy>(asked: &[T], usual: &[T]) -> Vec<T> {
    match asked {
        [] => usual.to_vec(),
        asked => asked.to_vec(),
    }
}

/// A header and a row for each measurement.
fn rows(measured: &[Figures]) -> Vec<Vec<String>> {
    let header = [
        "network",
        "batch",
        "device",
        "threads",
        "plain examples/s",
        "private examples/s",
        "private/plain CPU",
        "without noise",
        "plain MB",
        "private MB",
        "private/plain memory",
    ];
    let number = |value: Option<f64>, digits: usize| {
        value.map_or_else(|| "-".to_owned(), |value| format!("{value:.digits$}"))
    };
    let row = |figures: &Figures| {
        let is_private = figures.private_examples_per_s.is_some();
        vec![
            figures.network.clone(),
            figures.batch.to_string(),
            figures.device.clone(),
            figures.threads.to_string(),
            number(figures.plain_examples_per_s, 1),
            number(figures.private_examples_per_s, 1),
            number(figures.private_to_plain, 2),
            number(figures.private_without_noise_to_plain, 2),
            number(figures.plain_peak_memory_mb, 0),
            number(figures.peak_memory_mb.filter(|_| is_private), 0),
            memory(figures),
        ]
    };
    let header = header.map(str::to_owned).to_vec();
    [header]
        .into_iter()
        .chain(measured.iter().map(row))
        .collect()
}

/// The quotient, and whether the bar is kept.
fn memory(figures: &Figures) -> String {
    let ratio = figures
        .private_to_plain_memory
        .map(|ratio| format!("{ratio:.2}"));
    match (ratio, figures.is_memory_within_bar) {
        (Some(ratio), Some(false)) => format!("{ratio} (above 1.3)"),
        (ratio, _) => ratio.unwrap_or_else(|| "-".to_owned()),
    }
}

fn profile(way: &str, figures: &Figures, table: Option<&Table>) -> Result<()> {
    let Some(table) = table else { return Ok(()) };
    let Figures {
        network,
        batch,
        threads,
        ..
    } = figures;
    output::line(format_args!(
        "\n{network}, batch {batch}, threads {threads}, {way}\n{table}"
    ))
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        options: Options,
    }

    fn tasks(arguments: &[&str]) -> Vec<Task> {
        let line = Line::try_parse_from([&["bench"], arguments].concat());
        line.expect("sound arguments").options.tasks(Device::Cpu)
    }

    #[test]
    fn full_measures_every_batch_on_one_thread_and_two_and_what_is_named_comes_first() {
        assert_eq!(tasks(&[]).len(), 5);
        assert_eq!(tasks(&["--full"]).len(), 20);
        let named = tasks(&[
            "--full",
            "--networks",
            "text,cnn",
            "--batches",
            "8",
            "--threads",
            "3",
        ]);
        let cells = named
            .iter()
            .map(|task| (task.cell.network, task.cell.batch));
        assert_eq!(
            cells.collect::<Vec<_>>(),
            [(Subject::Text, 8), (Subject::Cnn, 8)]
        );
        assert!(
            named
                .iter()
                .all(|task| task.turns == 7 && task.cell.threads.get() == 3)
        );
    }
}

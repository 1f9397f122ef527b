//! What a step of training costs on this machine, private and not, and how fast a model answers
//! (`prediction.rs`).
//!
//! Whole rounds of [`train_round`](crate::training::train_round) in which every patient is drawn, on images of
//! noise or random tokens. The two ways take turns, and a ratio is taken within a turn, so that what else the
//! machine does falls on both. Memory is measured in processes of their own, one for each way: what one way has
//! freed would count for the other. So a program that measures starts itself again for each [`Task`].

mod clock;
mod figures;
mod prediction;
mod setting;

use std::{
    fmt, io,
    num::NonZeroUsize,
    path::Path,
    process::{Command, Stdio},
    str::FromStr,
};

use consilium_privacy::{OutOfRange, keystream::NoRandomness, ledger::Refusal};
use consilium_proto::plan::PlanError;
use safetensors::SafeTensorError;

pub use self::{
    figures::{Figures, Turns},
    prediction::{Answering, Asking, files},
    setting::Setting,
};
use crate::{
    network::{Device, NetworkError},
    prediction::PredictionError,
    released::ReleasedError,
    training::TrainError,
};

/// Why nothing was measured.
#[derive(Debug, thiserror::Error)]
pub enum BenchmarkError {
    /// A network that is not measured, or another word that there is not.
    #[error("`{found}` is none of {known}")]
    Unknown {
        /// What was asked for.
        found: String,
        /// What there is.
        known: &'static str,
    },
    /// A batch that no plan may have.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// A device that is absent or failed.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// A model that cannot be read.
    #[error(transparent)]
    Released(#[from] ReleasedError),
    /// Weights that cannot be written.
    #[error(transparent)]
    Weights(#[from] SafeTensorError),
    /// A model that does not answer.
    #[error(transparent)]
    Prediction(#[from] PredictionError),
    /// A round without an update.
    #[error(transparent)]
    Train(#[from] TrainError),
    /// Noise that cannot be charged.
    #[error(transparent)]
    Charge(#[from] Refusal),
    /// A number out of range.
    #[error(transparent)]
    Range(#[from] OutOfRange),
    /// The system has no random numbers to give.
    #[error(transparent)]
    Randomness(#[from] NoRandomness),
    /// The program could not be started again.
    #[error("the process that measures {task} could not be started")]
    Start {
        /// What it was to do.
        task: String,
        /// Why.
        source: io::Error,
    },
    /// The process that measures failed, and said why.
    #[error("the process that measures {task} failed")]
    Failed {
        /// What it was to do.
        task: String,
    },
    /// It answered with something else than figures.
    #[error("the process that measures answered with something else than figures")]
    Answer(#[from] serde_json::Error),
}

/// Networks that are measured, at the sizes of `docs/results.md`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject {
    /// Grey images of 28 × 28.
    CnnSmall,
    /// Colour images of 128 × 128; 7.4 million weights.
    Cnn,
    /// Grey images of 64 × 64, width 32, depth 3.
    ResnetGn,
    /// Grey images of 28 × 28.
    ScatterCnn,
    /// Documents of 128 tokens; 1.4 million weights.
    Text,
}

/// How gradients are treated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// Added up.
    Plain,
    /// Clipped one by one, added up and noised.
    Private,
}

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cell {
    /// The network.
    pub network: Subject,
    /// Examples of a step.
    pub batch: u32,
    /// Threads that compute gradients.
    pub threads: NonZeroUsize,
    /// Where it computes.
    pub device: Device,
    /// Whether stretches of the network are run again on the way back.
    pub recomputes: bool,
}

/// What one process does. Written as one word, for its command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Task {
    /// What it measures.
    pub cell: Cell,
    /// The only way it measures; both if none.
    pub only: Option<Way>,
    /// How often.
    pub turns: u32,
    /// Whether it notes where time goes.
    pub is_profiled: bool,
}

impl Task {
    /// Does it in this process. `beside` makes a third way, if there is one to compare with: it takes one step.
    ///
    /// # Errors
    /// A batch out of range, a device that is absent, a round that fails.
    pub fn run(
        &self,
        beside: impl for<'a> FnOnce(&'a Setting) -> Option<Box<dyn Fn() + 'a>>,
    ) -> Result<Turns, BenchmarkError> {
        figures::take_turns(self, beside)
    }

    /// Does it in processes of their own, which `program` with `arguments` and the task's word starts: one for the
    /// turns, one for the memory of each way.
    ///
    /// # Errors
    /// A process that cannot be started, or fails.
    pub fn measure(&self, program: &Path, arguments: &[&str]) -> Result<Figures, BenchmarkError> {
        let turns = self.child(program, arguments)?;
        if self.only.is_some() {
            let [plain, private] = [Way::Plain, Way::Private].map(|way| self.only == Some(way));
            let peak = |is_measured: bool| turns.peak_mb.filter(|_| is_measured);
            return Ok(Figures::new(
                self.cell,
                &turns,
                [peak(plain), peak(private)],
            ));
        }
        let peak = |way| {
            let task = Self {
                only: Some(way),
                turns: 1,
                is_profiled: false,
                ..*self
            };
            Ok::<_, BenchmarkError>(task.child(program, arguments)?.peak_mb)
        };
        let peaks = [peak(Way::Plain)?, peak(Way::Private)?];
        Ok(Figures::new(self.cell, &turns, peaks))
    }

    fn child(&self, program: &Path, arguments: &[&str]) -> Result<Turns, BenchmarkError> {
        let task = self.to_string();
        let output = Command::new(program)
            .args(arguments)
            .arg(&task)
            .stdin(Stdio::null())
            .stderr(Stdio::inherit())
            .output();
        match output {
            Err(source) => Err(BenchmarkError::Start { task, source }),
            Ok(output) if !output.status.success() => Err(BenchmarkError::Failed { task }),
            Ok(output) => Ok(serde_json::from_slice(&output.stdout)?),
        }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::CnnSmall => "cnn-small",
            Self::Cnn => "cnn",
            Self::ResnetGn => "resnet-gn",
            Self::ScatterCnn => "scatter-cnn",
            Self::Text => "text",
        })
    }
}

impl FromStr for Subject {
    type Err = BenchmarkError;

    fn from_str(text: &str) -> Result<Self, BenchmarkError> {
        let all = [
            Self::CnnSmall,
            Self::Cnn,
            Self::ResnetGn,
            Self::ScatterCnn,
            Self::Text,
        ];
        let found = all.into_iter().find(|network| network.to_string() == text);
        found.ok_or_else(|| unknown(text, "cnn-small, cnn, resnet-gn, scatter-cnn, text"))
    }
}

impl FromStr for Way {
    type Err = BenchmarkError;

    fn from_str(text: &str) -> Result<Self, BenchmarkError> {
        match text {
            "plain" => Ok(Self::Plain),
            "private" => Ok(Self::Private),
            _ => Err(unknown(text, "plain, private")),
        }
    }
}

impl fmt::Display for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Cell {
            network,
            batch,
            threads,
            device,
            recomputes,
        } = self.cell;
        let only = match self.only {
            None => "both",
            Some(Way::Plain) => "plain",
            Some(Way::Private) => "private",
        };
        let (turns, is_profiled) = (self.turns, self.is_profiled);
        write!(
            f,
            "{network},{batch},{threads},{device},{recomputes},{only},{turns},{is_profiled}"
        )
    }
}

impl FromStr for Task {
    type Err = BenchmarkError;

    fn from_str(text: &str) -> Result<Self, BenchmarkError> {
        const WORDS: &str =
            "network,batch,threads,device,recompute,both|plain|private,turns,profile";
        let refuse = || unknown(text, WORDS);
        let words: Vec<_> = text.split(',').collect();
        let [
            network,
            batch,
            threads,
            device,
            recomputes,
            only,
            turns,
            is_profiled,
        ] = words[..]
        else {
            return Err(refuse());
        };
        Ok(Self {
            cell: Cell {
                network: network.parse()?,
                batch: batch.parse().map_err(|_| refuse())?,
                threads: threads.parse().map_err(|_| refuse())?,
                device: device.parse().map_err(NetworkError::from)?,
                recomputes: recomputes.parse().map_err(|_| refuse())?,
            },
            only: match only {
                "both" => None,
                way => Some(way.parse()?),
            },
            turns: turns.parse().map_err(|_| refuse())?,
            is_profiled: is_profiled.parse().map_err(|_| refuse())?,
        })
    }
}

fn unknown(found: &str, known: &'static str) -> BenchmarkError {
    let found = found.to_owned();
    BenchmarkError::Unknown { found, known }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task() -> Task {
        Task {
            cell: Cell {
                network: Subject::CnnSmall,
                batch: 2,
                threads: NonZeroUsize::MIN,
                device: Device::Cpu,
                recomputes: true,
            },
            only: None,
            turns: 1,
            is_profiled: true,
        }
    }

    #[test]
    fn a_task_is_read_as_it_is_written_and_nothing_else_is() {
        let only = Some(Way::Private);
        for task in [task(), Task { only, ..task() }] {
            assert_eq!(
                task.to_string().parse::<Task>().expect("its own word"),
                task
            );
        }
        for word in [
            "",
            "cnn",
            "cnn,0,0,cpu,false,both,1,false",
            "vgg,2,1,cpu,false,both,1,false",
        ] {
            assert!(word.parse::<Task>().is_err(), "{word}");
        }
    }

    #[test]
    fn both_ways_and_their_profiles_are_measured() {
        let turns = task().run(|_| None).expect("figures");
        let figures = Figures::new(task().cell, &turns, [Some(10.0), Some(13.1)]);
        assert!(figures.plain_examples_per_s > Some(0.0) && figures.private_to_plain > Some(0.0));
        assert_eq!(figures.is_memory_within_bar, Some(false));
        let [plain, private] = [&turns.plain_profile, &turns.private_profile].map(|profile| {
            let rows = &profile.as_ref().expect("asked for").rows;
            rows.iter().map(|row| row.part.as_str()).collect::<Vec<_>>()
        });
        assert!(plain.contains(&"convolution, backward") && !plain.contains(&"noise"));
        assert!(private.contains(&"clipping and sum") && private.contains(&"noise"));
    }

    #[test]
    fn a_batch_that_no_plan_may_have_is_refused() {
        let cell = Cell {
            batch: 0,
            ..task().cell
        };
        let refused = Task { cell, ..task() }.run(|_| None);
        assert!(matches!(refused, Err(BenchmarkError::Plan(_))));
    }
}

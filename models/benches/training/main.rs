//! What a training step costs, private and not, beside burn's own automatic differentiation.
//!
//! ```text
//! cargo bench -p consilium-models --bench training
//! cargo bench -p consilium-models --bench training -- --networks cnn --batches 32 --threads 1 --burn off
//! cargo bench -p consilium-models --bench training -- --only private
//! ```
//!
//! Measures as `consilium bench training` does ([`consilium_models::benchmark`]), with burn as a third way that takes
//! its turn on one thread. One JSON object a line; medians over turns. `--only plain` or `--only private` measures one
//! way alone, for a comparison with another program.

mod yardstick;

use std::{env, error::Error, process::ExitCode, str::FromStr};

use consilium_models::{
    benchmark::{Cell, Setting, Task, Turns},
    network::Device,
};

use self::yardstick::Yardstick;

/// What is measured unless the command line says otherwise.
const NETWORKS: &str = "cnn-small,resnet-gn,cnn,text,scatter-cnn";
const BATCHES: &str = "32,256";
const THREADS: &str = "1,2";
const TURNS: &str = "5";

/// Before the word of a task, in a process that does one: `--task` with burn, `--task-alone` without.
const WITH_BURN: &str = "--task";
const ALONE: &str = "--task-alone";

#[expect(
    clippy::print_stderr,
    reason = "the reader of the figures is told why there are none"
)]
fn main() -> ExitCode {
    match run(&env::args().collect::<Vec<_>>()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

#[expect(clippy::print_stdout, reason = "the figures are this program's result")]
fn run(arguments: &[String]) -> Result<(), Box<dyn Error>> {
    let value = |name: &str| {
        let at = arguments.iter().position(|argument| argument == name)?;
        arguments.get(at + 1).map(String::as_str)
    };
    if let Some(task) = value(WITH_BURN).or(value(ALONE)) {
        let turns = take_turns(&task.parse()?, value(WITH_BURN).is_some())?;
        println!("{}", serde_json::to_string(&turns)?);
        return Ok(());
    }
    let program = env::current_exe()?;
    let is_flag = |name: &str| arguments.iter().any(|argument| argument == name);
    let burn = match value("--burn") {
        Some("off") => ALONE,
        _ => WITH_BURN,
    };
    for network in list(value("--networks").unwrap_or(NETWORKS))? {
        for batch in list(value("--batches").unwrap_or(BATCHES))? {
            for threads in list(value("--threads").unwrap_or(THREADS))? {
                let task = Task {
                    cell: Cell {
                        network,
                        batch,
                        threads,
                        device: Device::Cpu,
                        recomputes: is_flag("--recompute"),
                    },
                    only: value("--only").map(str::parse).transpose()?,
                    turns: value("--turns").unwrap_or(TURNS).parse()?,
                    is_profiled: is_flag("--profile"),
                };
                let figures = task.measure(&program, &[burn])?;
                println!("{}", serde_json::to_string(&figures)?);
            }
        }
    }
    Ok(())
}

/// On one thread, as burn computes on one.
fn take_turns(task: &Task, is_beside_burn: bool) -> Result<Turns, Box<dyn Error>> {
    let is_beside_burn = is_beside_burn && task.only.is_none() && task.cell.threads.get() == 1;
    Ok(task.run(|setting| match is_beside_burn {
        true => beside(task, setting),
        false => None,
    })?)
}

fn beside<'a>(task: &Task, setting: &'a Setting) -> Option<Box<dyn Fn() + 'a>> {
    let yardstick = Yardstick::of(task.cell.network, setting)?;
    Some(Box::new(move || yardstick.step()))
}

fn list<T: FromStr<Err: Error + 'static>>(text: &str) -> Result<Vec<T>, Box<dyn Error>> {
    text.split(',').map(|word| Ok(word.parse()?)).collect()
}

//! What a training step costs, private and not, beside burn's own automatic differentiation.
//!
//! ```text
//! cargo bench -p consilium-models --bench training
//! cargo bench -p consilium-models --bench training -- --networks cnn --batches 32 --threads 1 --burn off
//! ```
//!
//! Each cell runs in a process of its own, so that its peak memory is its own: whole rounds of
//! [`train_round`], in which every patient is drawn, on images of noise or random tokens. The three ways take turns,
//! and a ratio is taken within a turn, so that what else the machine does falls on all of them.
//! One JSON object a line; medians over turns.

mod measure;
mod yardstick;

use std::process::{Command, ExitCode};

use self::measure::Cell;

/// What is measured unless the command line says otherwise.
const NETWORKS: &str = "cnn-small,resnet-gn,cnn,text";
const BATCHES: &str = "32,256";
const THREADS: &str = "1,2";
const TURNS: &str = "5";

#[expect(clippy::print_stdout, reason = "the figures are this program's result")]
fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    let value = |name: &str, default: &str| {
        let at = arguments.iter().position(|argument| argument == name);
        at.and_then(|at| arguments.get(at + 1).cloned())
            .unwrap_or_else(|| default.to_owned())
    };
    let turns = value("--turns", TURNS);
    if let Some(cell) = Cell::parse(&value("--cell", "")) {
        let is_beside_burn = value("--burn", "on") == "on";
        println!("{}", cell.run(turns.parse().unwrap_or(5), is_beside_burn));
        return ExitCode::SUCCESS;
    }
    let program = std::env::current_exe().expect("a running program has a path");
    for network in value("--networks", NETWORKS).split(',') {
        for batch in value("--batches", BATCHES).split(',') {
            for threads in value("--threads", THREADS).split(',') {
                let cell = format!("{network},{batch},{threads}");
                let status = Command::new(&program)
                    .args(["--cell", &cell, "--turns", &turns])
                    .args(["--burn", &value("--burn", "on")])
                    .status();
                if !status.is_ok_and(|status| status.success()) {
                    return ExitCode::FAILURE;
                }
            }
        }
    }
    ExitCode::SUCCESS
}

//! The command line of the federation: one binary is coordinator, agent and tool.
//!
//! | module | what lives there |
//! |---|---|
//! | [`audit`] | exports of ledgers, and what an auditor makes of them |
//! | [`audit_report`] | the same for people to read, as HTML and JSON |
//! | [`cli`] | commands, one file a group |
//! | [`device`] | which devices train: graphics cards, tested in child processes |
//! | [`demo`] | a whole federation on one machine, on generated or real pictures |
//! | [`governance`] | the folder with the key that admits and revokes |
//! | [`researcher`] | what researchers ask of a coordinator |
//! | `simulation` | a study in one process, to try settings out |
//! | [`scoring`] | scores of published versions on public data |
//! | [`curve`] | learning curves, as pictures and tables |
//! | [`pictures`] | labelled pictures on disk |
//! | [`failure`] | what went wrong, and the exit code that says so |
//! | [`unlock`] | keys of folders: key files, credentials, passphrases |
//! | [`output`], [`telemetry`], [`signals`] | what is printed, what is logged, how it ends |

pub mod audit;
pub mod audit_report;
mod chart;
pub mod cli;
pub mod curve;
pub mod demo;
pub mod device;
pub mod failure;
pub mod governance;
pub mod output;
pub mod pictures;
pub mod researcher;
pub mod scoring;
pub mod signals;
mod simulation;
pub mod telemetry;
pub mod unlock;

use std::process::ExitCode;

use anyhow::Context as _;

/// Runs a command to its end and says how to exit.
pub fn run(cli: cli::Cli) -> ExitCode {
    let result = cli.telemetry.start(cli.is_node()).and_then(|()| {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()
            .context("starting the runtime")?;
        runtime.block_on(Box::pin(cli.run()))
    });
    failure::report(result)
}

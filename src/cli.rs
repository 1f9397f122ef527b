//! The commands, `noun verb`, one file a group. Results go to standard output.

mod agent;
mod audit;
mod bench;
mod coordinator;
mod device;
mod dicom;
mod enrol;
mod governance;
mod knowledge;
mod model;
mod node;
mod note;
mod predict;
mod privacy;
mod study;

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::{demo, telemetry::Telemetry};

/// Federated learning for hospitals: train together, keep every record at home
///
/// Start with `consilium demo`: a federation on this machine, with generated hospitals.
/// Research use only.
#[derive(Debug, Parser)]
#[command(name = "consilium", version, arg_required_else_help = true)]
pub struct Cli {
    #[command(flatten)]
    pub(crate) telemetry: Telemetry,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Train a federation of hospitals on this machine and compare
    Demo(Box<demo::Options>),
    /// Write, submit and follow studies, and fetch their models
    #[command(subcommand)]
    Study(study::Command),
    /// Clinical notes: read them with reasons, take out who they are about
    #[command(subcommand)]
    Note(note::Command),
    /// What released models say of pictures and notes
    #[command(subcommand)]
    Predict(predict::Command),
    /// DICOM objects: what of them can be used, and copies without their patients
    #[command(subcommand)]
    Dicom(dicom::Command),
    /// Released models, and what this hospital knows of them
    #[command(subcommand)]
    Model(model::Command),
    /// Files of findings, rules and treatments that reading notes rests on
    #[command(subcommand)]
    Knowledge(knowledge::Command),
    /// What releases cost a patient's privacy, and what noise a target asks for
    #[command(subcommand)]
    Privacy(privacy::Command),
    /// A hospital's node: data sets, consent, training
    #[command(subcommand)]
    Agent(agent::Command),
    /// Devices that can train: the graphics cards of this machine
    #[command(subcommand)]
    Device(device::Command),
    /// The federation's coordinator
    #[command(subcommand)]
    Coordinator(coordinator::Command),
    /// The key that admits members and puts them out
    #[command(subcommand)]
    Governance(governance::Command),
    /// Membership of an operator
    #[command(subcommand)]
    Operator(enrol::Command),
    /// Membership of a researcher
    #[command(subcommand)]
    Researcher(enrol::Command),
    /// Check what is claimed: ledgers, noise, budgets
    #[command(subcommand)]
    Audit(audit::Command),
    /// Membership of an auditor
    #[command(subcommand)]
    Auditor(enrol::Command),
    /// What this machine can do
    #[command(subcommand)]
    Bench(bench::Command),
}

impl Cli {
    /// Whether the command runs on its own until it is stopped.
    pub fn is_node(&self) -> bool {
        match &self.command {
            Command::Agent(command) => command.is_node(),
            Command::Coordinator(command) => command.is_node(),
            _ => false,
        }
    }

    /// Runs the command.
    ///
    /// # Errors
    /// What the command could not do; [`crate::failure::code_of`] gives its class.
    pub async fn run(self) -> Result<()> {
        use consilium_proto::Role;
        match self.command {
            Command::Demo(options) => demo::run(*options).await,
            Command::Study(command) => command.run().await,
            Command::Note(command) => Box::pin(command.run()).await,
            Command::Predict(command) => command.run(),
            Command::Dicom(command) => Box::pin(command.run()).await,
            Command::Model(command) => command.run(),
            Command::Knowledge(command) => command.run(),
            Command::Privacy(command) => command.run(),
            Command::Agent(command) => command.run().await,
            Command::Device(command) => command.run().await,
            Command::Coordinator(command) => command.run().await,
            Command::Governance(command) => command.run(),
            Command::Operator(command) => command.run(Role::Operator).await,
            Command::Researcher(command) => command.run(Role::Researcher).await,
            Command::Audit(command) => command.run().await,
            Command::Auditor(command) => command.run(Role::Auditor).await,
            Command::Bench(command) => command.run().await,
        }
    }
}

/// The time on this machine's clock, in seconds since 1970.
pub(crate) fn now() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}

//! `consilium audit …`: what an auditor checks.

mod canaries;
mod events;
mod export;
mod log;
mod noise;
mod report;
mod verify;

use anyhow::Result;
use clap::Subcommand;

/// Checks of what is claimed, each on its own.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Train a plan on data with canaries, and compare what they prove with what is claimed
    Canaries(Box<canaries::Options>),
    /// Repeat past rounds inside the hospital, compare with its ledger, and measure their noise
    ///
    /// Nothing is charged, recorded or sent, and the agent may go on running. The report tells how
    /// many patients there are: it stays in the hospital. A round that differs, a finding, or no
    /// round that agrees end the command with exit code 6.
    Noise(Box<noise::Options>),
    /// Put the ledgers of agents into one file for an auditor, signed by their sites
    Export(export::Options),
    /// Show what happened at the coordinator: studies, rounds, refusals, complaints of sites
    Events(events::Options),
    /// Fetch the coordinator's log of ledger heads, to check exports against
    Log(log::Options),
    /// Check such a file, offline: roster, keys, chains, signatures, receipts, plans, every ε
    Verify(verify::Options),
    /// Say what was planned, spent and left: as text, HTML or JSON
    Report(report::Options),
}

impl Command {
    pub(super) async fn run(self) -> Result<()> {
        match self {
            Self::Canaries(options) => canaries::run(&options),
            Self::Noise(options) => Box::pin(options.run()).await,
            Self::Export(options) => options.run().await,
            Self::Events(options) => options.run().await,
            Self::Log(options) => options.run().await,
            Self::Verify(options) => options.run(),
            Self::Report(options) => options.run(),
        }
    }
}

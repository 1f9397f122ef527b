//! `consilium audit …`: what an auditor checks, offline.

mod canaries;

use anyhow::Result;
use clap::Subcommand;

/// Checks of what is claimed, each on its own.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Train a plan on data with canaries, and compare what they prove with what is claimed
    Canaries(Box<canaries::Options>),
}

impl Command {
    pub(super) fn run(self) -> Result<()> {
        match self {
            Self::Canaries(options) => canaries::run(&options),
        }
    }
}

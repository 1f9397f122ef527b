//! What the program logs about its work: to standard error, as text or JSON.

use std::io;

use anyhow::{Context as _, Result};
use clap::{Args, ValueEnum};
use consilium_proto::ErrorCode;
use tracing_subscriber::{EnvFilter, fmt};

use crate::failure::Classify as _;

/// Name of the variable that says what is logged, as in `info,consilium_agent=debug`.
const FILTER: &str = "CONSILIUM_LOG";

/// What is logged, and how.
#[derive(Debug, Args)]
pub struct Telemetry {
    /// How log lines look; `CONSILIUM_LOG` says which are shown (default: warn, `info` for nodes)
    #[arg(long, global = true, value_enum, default_value_t = Format::Text, help_heading = "Logging")]
    log: Format,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    Text,
    /// One object a line, for machines.
    Json,
}

impl Telemetry {
    /// Starts logging; nodes that run on their own say more by default.
    ///
    /// # Errors
    /// An unreadable `CONSILIUM_LOG`, or logging has been started before.
    pub fn start(&self, is_node: bool) -> Result<()> {
        let standard = if is_node { "info" } else { "warn" };
        let filter = match std::env::var(FILTER) {
            Ok(text) => EnvFilter::try_new(text)
                .with_context(|| format!("reading {FILTER}"))
                .classify(ErrorCode::Invalid)?,
            Err(_) => EnvFilter::new(standard),
        };
        let builder = fmt().with_env_filter(filter).with_writer(io::stderr);
        let result = match self.log {
            Format::Text => {
                let is_terminal = io::IsTerminal::is_terminal(&io::stderr());
                builder.with_ansi(is_terminal).with_target(false).try_init()
            }
            Format::Json => builder.json().flatten_event(true).try_init(),
        };
        result.map_err(|error| anyhow::anyhow!("logging cannot be started: {error}"))
    }
}

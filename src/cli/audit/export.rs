//! `consilium audit export`: the ledgers of agents in one file.

use std::{path::PathBuf, sync::Arc};

use anyhow::{Context as _, Result};
use clap::Args;
use serde_json::json;

use crate::{audit::export, cli, output, unlock::Unlock};

/// The file holds no secret and nothing of a patient: what was charged, and what is needed to check
/// it. The agents may go on running.
#[derive(Debug, Args)]
pub(in crate::cli) struct Options {
    /// An agent's folder; several, if one key seals them all
    #[arg(long = "dir", value_name = "DIR", required = true)]
    dirs: Vec<PathBuf>,
    #[command(flatten)]
    unlock: Unlock,
    /// Where the file goes; what is there is replaced
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

impl Options {
    pub(super) async fn run(self) -> Result<()> {
        let key = Arc::new(self.unlock.open()?);
        let mut parts = Vec::new();
        for dir in &self.dirs {
            let part = export::read(dir, key.clone(), cli::now()).await;
            parts.push(part.with_context(|| format!("exporting {}", dir.display()))?);
        }
        let export = export::join(parts)?;
        let bytes = export.to_bytes();
        output::file(&self.out, &bytes)?;
        let entries: usize = export.sites.iter().map(|site| site.entries.len()).sum();
        if self.json {
            return output::json(&json!({
                "file": self.out,
                "sites": export.sites.len(),
                "entries": entries,
                "bytes": bytes.len(),
            }));
        }
        output::line(format_args!(
            "{}: {} sites, {entries} ledger entries",
            self.out.display(),
            export.sites.len()
        ))?;
        output::note(format_args!(
            "to check it: consilium audit verify {} --trust ROOT\n\
             ROOT is the fingerprint of governance, which an auditor has from elsewhere",
            self.out.display()
        ));
        Ok(())
    }
}

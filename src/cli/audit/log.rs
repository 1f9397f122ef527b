//! `consilium audit log`: the coordinator's log of ledger heads, as a file to check exports against.

use std::{fs, path::PathBuf};

use anyhow::{Context as _, Result};
use clap::Args;
use consilium_agent::membership::Membership;
use consilium_proto::ErrorCode;
use serde_json::json;

use crate::{
    audit::log::TransparencyLog,
    failure::{Classify as _, refuse},
    output,
    unlock::Unlock,
};

/// The log holds how far each ledger has come, and nothing of a patient. Fetch it before the sites
/// export their ledgers; then what was logged must be in them. A file that is there already must be
/// the beginning of the newer log.
#[derive(Debug, Args)]
pub(in crate::cli) struct Options {
    /// Folder of an auditor or operator, as `auditor enrol` made it
    #[arg(long, value_name = "DIR", env = "CONSILIUM_DIR")]
    dir: PathBuf,
    #[command(flatten)]
    unlock: Unlock,
    /// Where the file goes
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

impl Options {
    pub(super) async fn run(self) -> Result<()> {
        let older = match self.out.exists() {
            true => Some(self.read_older()?),
            false => None,
        };
        let membership = Membership::open(&self.dir, &self.unlock.open()?)?;
        let log = TransparencyLog::fetch(&membership).await?;
        if older.is_some_and(|older| !log.begins_with(&older)) {
            let message = format!(
                "the coordinator's log does not begin with the one in {}: leaves were taken back or \
                 changed. That file is left as it is, it is evidence; fetch the log to another --out \
                 and show both to governance",
                self.out.display()
            );
            return refuse(ErrorCode::Denied, message);
        }
        output::file(&self.out, &log.to_bytes())?;
        if self.json {
            return output::json(&json!({ "file": self.out, "leaves": log.leaves.len() }));
        }
        output::line(format_args!(
            "{}: {} heads of ledgers",
            self.out.display(),
            log.leaves.len()
        ))?;
        output::note(
            "to check an export against it: consilium audit verify FILE --coordinator-log LOG --trust ROOT",
        );
        Ok(())
    }

    fn read_older(&self) -> Result<TransparencyLog> {
        let path = self.out.display();
        let bytes = fs::read(&self.out).with_context(|| format!("reading {path}"))?;
        TransparencyLog::from_bytes(&bytes)
            .map_err(|reason| anyhow::anyhow!("{path} is there and is no log: {reason}"))
            .classify(ErrorCode::Precondition)
    }
}

//! `consilium agent predictions …`: the site's chained log of what its models said and what was done with them.

use std::{path::PathBuf, time::SystemTime};

use anyhow::Result;
use clap::Subcommand;
use consilium_agent::store::{Act, ChronicleError, Deed};
use consilium_proto::{Digest, ErrorCode};
use serde_json::json;

use super::Folder;
use crate::{failure::refuse, output};

/// The log of predictions.
#[derive(Debug, Subcommand)]
pub(in crate::cli) enum Command {
    /// Check that the log is whole: nothing changed, nothing missing
    Verify {
        #[command(flatten)]
        folder: Folder,
        /// A head that was written down earlier, as an export ends with it: NUMBER:DIGEST
        #[arg(long, value_name = "HEAD", value_parser = head)]
        head: Option<(u64, Digest)>,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Write the log out, one JSON object a line; it holds no patient data and no comments
    Export {
        #[command(flatten)]
        folder: Folder,
        /// Where to
        #[arg(long, value_name = "FILE.jsonl")]
        out: PathBuf,
    },
}

fn head(text: &str) -> Result<(u64, Digest), String> {
    let parts = text.split_once(':').ok_or("is not NUMBER:DIGEST")?;
    let number = parts
        .0
        .parse()
        .map_err(|_| "does not begin with a number")?;
    Ok((
        number,
        parts
            .1
            .parse()
            .map_err(|_| "does not end with 64 hexadecimal digits")?,
    ))
}

impl Command {
    pub(in crate::cli) async fn run(self) -> Result<()> {
        match self {
            Self::Verify { folder, head, json } => {
                let store = folder.store().await?;
                let chain = match store.verify_records(head).await {
                    Err(error @ ChronicleError::Broken { .. }) => {
                        return refuse(ErrorCode::Denied, error.to_string());
                    }
                    other => other?,
                };
                if json {
                    return output::json(&chain);
                }
                output::line(format_args!(
                    "the log is whole: {} records; head {}:{}",
                    chain.records, chain.newest, chain.head
                ))
            }
            Self::Export { folder, out } => {
                let store = folder.store().await?;
                let (mut lines, mut after) = (Vec::new(), 0);
                loop {
                    let records = store.records(after).await?;
                    let Some(last) = records.last() else { break };
                    after = last.number;
                    for record in &records {
                        serde_json::to_writer(&mut lines, record)?;
                        lines.push(b'\n');
                    }
                }
                output::file(&out, &lines)?;
                let body = json!({ "up_to": after, "sha256": Digest::plain(&lines) });
                let deed = Deed {
                    who: "command line",
                    act: Act::Exported,
                    subject: "log",
                    body: &body,
                    comment: None,
                };
                store.record(deed, SystemTime::now()).await?;
                let chain = store.verify_records(None).await?;
                output::note(format_args!(
                    "the head to write down: {}:{}",
                    chain.newest, chain.head
                ));
                output::line(out.display())
            }
        }
    }
}

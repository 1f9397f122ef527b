//! `consilium audit events`: what the coordinator says happened, checked as a chain.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::Args;
use consilium_agent::membership::Membership;
use consilium_coordinator::audit_log;
use consilium_proto::{
    chunk::MESSAGE_LIMIT,
    wire::{self, audit_client::AuditClient},
};
use serde_json::{Value, json};

use crate::{output, unlock::Unlock};

/// What a site that stopped, or a message that was not believed, is called in the log.
const ALARMS: [&str; 3] = ["site complained", "message refused", "share refused"];

/// Every entry holds the digest of the one before: a change in the middle is seen, a log cut short
/// only by whoever kept its last digest. Nothing in it depends on a patient.
#[derive(Debug, Args)]
pub(in crate::cli) struct Options {
    /// Folder of an auditor or operator, as `auditor enrol` made it
    #[arg(long, value_name = "DIR", env = "CONSILIUM_DIR")]
    dir: PathBuf,
    #[command(flatten)]
    unlock: Unlock,
    /// Show complaints of sites and messages that were not believed, nothing else
    #[arg(long)]
    alarms: bool,
    /// Print one JSON object a line
    #[arg(long)]
    json: bool,
}

impl Options {
    pub(super) async fn run(self) -> Result<()> {
        let membership = Membership::open(&self.dir, &self.unlock.open()?)?;
        let entries = fetch(&membership).await?;
        audit_log::verify(None, entries.clone()).context("the coordinator's audit log")?;
        let shown = entries
            .iter()
            .filter(|entry| !self.alarms || is_alarm(entry));
        for entry in shown {
            match self.json {
                true => output::json(&as_json(entry))?,
                false => output::line(as_line(entry))?,
            }
        }
        let alarms = entries.iter().filter(|entry| is_alarm(entry)).count();
        output::note(format_args!("{} entries, an unbroken chain", entries.len()));
        if alarms > 0 {
            output::note(output::red(format_args!(
                "{alarms} of them are complaints of sites or messages that were not believed"
            )));
        }
        Ok(())
    }
}

async fn fetch(membership: &Membership) -> Result<Vec<wire::LogEntry>> {
    let channel = membership.connect().await?;
    let mut client = AuditClient::new(channel).max_decoding_message_size(MESSAGE_LIMIT);
    let request = wire::LogRequest { from_sequence: 1 };
    let mut stream = client.log(request).await?.into_inner();
    let mut entries = Vec::new();
    while let Some(entry) = stream.message().await? {
        entries.push(entry);
    }
    Ok(entries)
}

fn is_alarm(entry: &wire::LogEntry) -> bool {
    ALARMS.contains(&entry.action.as_str())
}

fn as_line(entry: &wire::LogEntry) -> String {
    let who = match entry.actor {
        0 => "coordinator".to_owned(),
        member => format!("member {member}"),
    };
    let (at, action, detail) = (output::time(entry.at), &entry.action, &entry.detail);
    format!("{}  {at}  {who}  {action}  {detail}", entry.sequence)
}

fn as_json(entry: &wire::LogEntry) -> Value {
    json!({
        "sequence": entry.sequence,
        "at": entry.at,
        "actor": entry.actor,
        "action": entry.action,
        "detail": serde_json::from_str::<Value>(&entry.detail).unwrap_or_default(),
        "digest": hex::encode(&entry.digest),
    })
}

//! `consilium audit verify`: whether an export is as it must be.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Instant,
};

use anyhow::{Context as _, Result};
use clap::Args;
use consilium_proto::{Digest, ErrorCode};
use serde_json::{Value, json};

use crate::{audit::Verdict, failure::refuse, output};

/// Nothing is asked of anybody. Any finding ends the command with exit code 6.
#[derive(Debug, Args)]
pub(in crate::cli) struct Options {
    #[command(flatten)]
    evidence: Evidence,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// What is checked, and what it is checked against.
#[derive(Debug, Args)]
pub(super) struct Evidence {
    /// What `audit export` wrote
    file: PathBuf,
    /// Fingerprint of the governance key, obtained from elsewhere than the file
    #[arg(long, value_name = "ROOT")]
    trust: Option<Digest>,
    /// An older export of the same sites: each ledger must be the beginning of the newer one
    #[arg(long, value_name = "OLDER")]
    against: Option<PathBuf>,
    /// The coordinator's log, as `audit log` wrote it: what was logged must be in the ledgers
    #[arg(long, value_name = "LOG")]
    coordinator_log: Option<PathBuf>,
}

impl Options {
    pub(super) fn run(self) -> Result<()> {
        let started = Instant::now();
        let (verdict, root) = self.evidence.judge()?;
        let seconds = started.elapsed().as_secs_f64();
        match self.json {
            true => output::json(&object(&verdict, &root, seconds))?,
            false => print(&verdict, seconds)?,
        }
        self.evidence.refuse_unsound(verdict.findings.len())
    }
}

impl Evidence {
    /// Checks the file with everything that was given, from the trust root on.
    pub(super) fn judge(&self) -> Result<(Verdict, Digest)> {
        let root = trust_root(self.trust)?;
        let mut verdict = Verdict::of(&read(&self.file)?, &root);
        if let Some(older) = &self.against {
            verdict.compare(&Verdict::of(&read(older)?, &root));
        }
        if let Some(log) = &self.coordinator_log {
            verdict.witness(&read(log)?);
        }
        Ok((verdict, root))
    }

    /// Fails where anything was found.
    pub(super) fn refuse_unsound(&self, findings: usize) -> Result<()> {
        match findings {
            0 => Ok(()),
            found => refuse(
                ErrorCode::Precondition,
                format!("{} does not verify: {found} findings", self.file.display()),
            ),
        }
    }
}

/// The trust root, without which nothing can be believed.
fn trust_root(given: Option<Digest>) -> Result<Digest> {
    match given {
        Some(root) => Ok(root),
        None => refuse(
            ErrorCode::Invalid,
            "give --trust ROOT: the fingerprint of the governance key, from governance itself \
             (`consilium governance show`) and not from whoever sent the file; without it anybody \
             could have made up roster, sites and ledgers",
        ),
    }
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("reading {}", path.display()))
}

fn print(verdict: &Verdict, seconds: f64) -> Result<()> {
    for finding in &verdict.findings {
        output::line(format_args!("FINDING  {finding}"))?;
    }
    for site in &verdict.sites {
        output::line(format_args!(
            "{}  {} (member {}): {} entries, newest {}, {} receipts",
            if site.is_sound { "sound  " } else { "UNSOUND" },
            site.member.name,
            site.member.id,
            site.statement.entries,
            site.statement.head,
            match site.receipts.len() {
                0 => "no".to_owned(),
                held => held.to_string(),
            },
        ))?;
    }
    output::line("\nwhat this check cannot show")?;
    for limit in verdict.limits() {
        output::line(format_args!("- {limit}"))?;
    }
    output::note(format_args!("checked in {seconds:.1} s"));
    Ok(())
}

fn object(verdict: &Verdict, root: &Digest, seconds: f64) -> Value {
    let sites = verdict.sites.iter().map(|site| {
        json!({
            "id": site.member.id,
            "name": site.member.name,
            "sound": site.is_sound,
            "ledger_key": site.statement.ledger_key,
            "entries": site.statement.entries,
            "head": site.statement.head,
            "exported_at": site.statement.at,
            "receipts": site.receipts.len(),
        })
    });
    json!({
        "sound": verdict.findings.is_empty(),
        "trust_root": root,
        "roster_epochs": verdict.roster.len(),
        "sites": sites.collect::<Vec<_>>(),
        "sites_not_in_the_file": verdict.absent,
        "findings": verdict.findings,
        "cannot_show": verdict.limits(),
        "seconds": seconds,
    })
}

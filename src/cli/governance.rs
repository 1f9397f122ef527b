//! `consilium governance …`: works on the governance folder, without network.

use std::{
    io::{BufRead as _, IsTerminal as _, stdin},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use clap::{Args, Subcommand};
use consilium_proto::{Digest, ErrorCode, Member, Signed, roster::Application};

use super::now;
use crate::{
    failure::refuse,
    governance::{Governance, ROSTER_FILE, write_history},
    output,
    unlock::Unlock,
};

/// The key that admits members and puts them out.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Make the governance key and an empty roster; prints the trust root
    ///
    /// The folder belongs on another machine than the coordinator's. Every node is told the trust
    /// root, and believes no roster that another key signed.
    Init {
        #[command(flatten)]
        folder: Folder,
    },
    /// Admit applicants, after comparing their fingerprints
    Admit {
        #[command(flatten)]
        folder: Folder,
        /// Applications, as `coordinator init` and `coordinator roster --pending` write them
        #[arg(required = true, value_name = "APPLICATION_FILE")]
        applications: Vec<PathBuf>,
        /// Fingerprint that the applicant read out; admits without asking if it is the same
        #[arg(long, value_name = "HEX", conflicts_with = "yes")]
        fingerprint: Option<String>,
        /// Admit without asking, where the files come from a place you trust
        #[arg(long)]
        yes: bool,
        /// Length of the membership, in days
        #[arg(long, default_value_t = 365, value_parser = clap::value_parser!(u32).range(1..=3650))]
        days: u32,
        #[command(flatten)]
        roster: RosterOut,
    },
    /// Put a member out, by name or number
    Revoke {
        #[command(flatten)]
        folder: Folder,
        /// Name or number of the member
        #[arg(value_name = "NAME|ID")]
        member: String,
        #[command(flatten)]
        roster: RosterOut,
    },
    /// List the members, and print the trust root
    Show {
        #[command(flatten)]
        folder: Folder,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Args)]
pub(super) struct Folder {
    /// The governance folder
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    #[command(flatten)]
    unlock: Unlock,
}

#[derive(Debug, Args)]
pub(super) struct RosterOut {
    /// Where to write the signed roster to hand in [default: roster.bin in the folder]
    #[arg(long, value_name = "FILE")]
    roster_out: Option<PathBuf>,
}

impl Command {
    pub(super) fn run(self) -> Result<()> {
        match self {
            Self::Init { folder } => {
                let governance = Governance::init(&folder.dir, &folder.unlock.create()?, now())?;
                output::note("the trust root, which every node is told out of band:");
                output::line(governance.trust_root())
            }
            Self::Admit {
                folder,
                applications,
                fingerprint,
                yes,
                days,
                roster,
            } => {
                let consent = match (fingerprint, yes) {
                    (Some(text), _) => Consent::Fingerprint(read_fingerprint(&text)?),
                    (None, true) => Consent::Given,
                    (None, false) => Consent::Ask,
                };
                let mut governance = folder.open()?;
                for path in &applications {
                    admit(&mut governance, path, &consent, days)?;
                }
                roster.write(&folder.dir, &governance)
            }
            Self::Revoke {
                folder,
                member,
                roster,
            } => {
                let mut governance = folder.open()?;
                let member = governance.revoke(&member, now())?;
                output::line(format_args!("revoked {} ({})", member.name, member.role))?;
                roster.write(&folder.dir, &governance)
            }
            Self::Show { folder, json } => show(&folder.open()?, json),
        }
    }
}

impl Folder {
    fn open(&self) -> Result<Governance> {
        Governance::open(&self.dir, &self.unlock.open()?)
    }
}

impl RosterOut {
    fn write(&self, folder: &Path, governance: &Governance) -> Result<()> {
        let path = match &self.roster_out {
            Some(path) => {
                write_history(path, governance.history())?;
                path.clone()
            }
            None => folder.join(ROSTER_FILE),
        };
        output::note(format_args!(
            "hand the roster in: consilium coordinator roster --dir DIR --import {}",
            path.display()
        ));
        Ok(())
    }
}

/// What allows an applicant in.
enum Consent {
    Fingerprint(Digest),
    Given,
    Ask,
}

fn read_fingerprint(text: &str) -> Result<Digest> {
    text.parse().context("--fingerprint")
}

fn admit(governance: &mut Governance, path: &Path, consent: &Consent, days: u32) -> Result<()> {
    let context = || format!("reading the application {}", path.display());
    let bytes = std::fs::read(path).with_context(context)?;
    let signed = Signed::from_bytes(&bytes).with_context(context)?;
    let application = Application::open(&signed).with_context(context)?;
    let fingerprint = Application::fingerprint(&signed);
    let known = governance
        .roster()
        .by_identity_key(&application.identity_key);
    if let Some(member) = known.filter(|member| !member.revoked) {
        output::note(format_args!("{} is a member already", member.name));
        return Ok(());
    }
    output::note(format_args!(
        "applicant    {}\nrole         {}\nfingerprint  {fingerprint}",
        application.name, application.role
    ));
    let is_admitted = match consent {
        Consent::Given => true,
        Consent::Ask => is_confirmed()?,
        Consent::Fingerprint(expected) if *expected == fingerprint => true,
        Consent::Fingerprint(_) => {
            let message = "the fingerprint is another one: not admitted. Ask the applicant again";
            return refuse(ErrorCode::Denied, message);
        }
    };
    if !is_admitted {
        return refuse(ErrorCode::Denied, "not admitted");
    }
    let member = governance.admit(&signed, days, now())?;
    output::line(format_args!(
        "admitted {} ({}) as member {}",
        member.name, member.role, member.id
    ))
}

fn is_confirmed() -> Result<bool> {
    if !stdin().is_terminal() {
        let message =
            "nobody to ask: give --fingerprint HEX as the applicant read it out, or --yes";
        return refuse(ErrorCode::Invalid, message);
    }
    output::note("Does the applicant's screen show the same fingerprint? Admit [y/N]");
    let mut answer = String::new();
    stdin()
        .lock()
        .read_line(&mut answer)
        .context("reading the answer")?;
    Ok(["y", "yes"].contains(&answer.trim().to_lowercase().as_str()))
}

fn show(governance: &Governance, json: bool) -> Result<()> {
    let (root, roster) = (governance.trust_root(), governance.roster());
    if json {
        let members: Vec<_> = roster.members().map(to_json).collect();
        return output::json(&serde_json::json!({
            "trust_root": root, "epoch": roster.epoch(), "members": members,
        }));
    }
    output::line(format_args!(
        "trust root  {root}\nepoch       {}",
        roster.epoch()
    ))?;
    output::line(members_table(roster.members()))
}

/// One member as a researcher or a script reads it.
pub(super) fn to_json(member: &Member) -> serde_json::Value {
    serde_json::json!({
        "id": member.id,
        "name": member.name,
        "role": member.role,
        "identity": member.identity_key.fingerprint(),
        "not_before": member.not_before,
        "not_after": member.not_after,
        "revoked": member.revoked,
    })
}

/// The members in columns.
pub(super) fn members_table<'a>(members: impl Iterator<Item = &'a Member>) -> String {
    let header = ["id", "name", "role", "state", "until (UTC)"]
        .map(str::to_owned)
        .to_vec();
    let now = now();
    let rows = members.map(|member| {
        let state = match () {
            () if member.revoked => "revoked",
            () if member.is_active(now) => "active",
            () => "expired",
        };
        vec![
            member.id.to_string(),
            member.name.to_string(),
            member.role.to_string(),
            state.to_owned(),
            output::time(member.not_after * 1000),
        ]
    });
    output::table(&std::iter::once(header).chain(rows).collect::<Vec<_>>())
}

//! `consilium agent|researcher|auditor|operator enrol`: how a member makes its keys and joins.

use std::{path::PathBuf, time::Duration};

use anyhow::{Context as _, Result};
use clap::{Args, Subcommand};
use consilium_agent::membership::{Enrolment, Membership};
use consilium_proto::{Digest, ErrorCode, MemberName, Role, rpc::Coordinator};
use serde_json::json;
use tokio_util::task::TaskTracker;

use crate::{
    failure::{Interrupted, refuse},
    output,
    signals::stop_on_signals,
    unlock::Unlock,
};

/// How often `--wait` asks whether governance has decided.
const ASK_EVERY: Duration = Duration::from_secs(2);

/// Membership of the federation.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Make keys, hand in the application, and collect the certificate once admitted
    Enrol(Box<Enrol>),
}

impl Command {
    pub(super) async fn run(self, role: Role) -> Result<()> {
        let Self::Enrol(enrol) = self;
        enrol.run(role).await
    }
}

/// Keys are made in the folder and stay there. Read the fingerprint out to governance, which
/// admits whoever shows the same; then run the command again (or give --wait) to collect the
/// certificate.
#[derive(Debug, Args)]
pub(super) struct Enrol {
    /// Folder of the new member; made if it does not exist
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    /// What people call the member
    #[arg(long)]
    name: Option<MemberName>,
    /// Where the coordinator is
    #[arg(long, value_name = "HOST:PORT")]
    coordinator: Option<String>,
    /// Digest of the coordinator's TLS key, as `coordinator init` printed it
    #[arg(long, value_name = "HEX")]
    coordinator_key: Option<Digest>,
    /// Trust root, as `governance init` printed it
    #[arg(long, value_name = "HEX")]
    trust: Option<Digest>,
    /// Wait until governance has decided
    #[arg(long)]
    wait: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    unlock: Unlock,
}

impl Enrol {
    pub(super) async fn run(&self, role: Role) -> Result<()> {
        let membership = self.membership(role)?;
        if membership.role() != role {
            let message = format!(
                "{} holds a {}, not a {role}",
                self.dir.display(),
                membership.role()
            );
            return refuse(ErrorCode::Invalid, message);
        }
        let fingerprint = membership.apply().await?;
        output::note(format_args!(
            "read this fingerprint out to governance: {fingerprint}"
        ));
        let state = match self.wait {
            false => membership.collect().await?,
            true => wait(&membership).await?,
        };
        let (word, member) = match state {
            Enrolment::Pending => ("pending", None),
            Enrolment::Admitted(member) => ("admitted", Some(member)),
            Enrolment::Revoked => {
                return refuse(
                    ErrorCode::Denied,
                    "governance has revoked this member: ask there",
                );
            }
        };
        if self.json {
            return output::json(&json!({
                "fingerprint": fingerprint, "state": word, "member": member,
            }));
        }
        match member {
            Some(member) => output::line(format_args!("admitted as member {member}")),
            None => {
                output::line(format_args!("pending {fingerprint}"))?;
                output::note("once governance has admitted it, run the same command again");
                Ok(())
            }
        }
    }

    /// Opens the member of the folder, or makes it.
    fn membership(&self, role: Role) -> Result<Membership> {
        if self.dir.join("member.toml").exists() {
            return Ok(Membership::open(&self.dir, &self.unlock.open()?)?);
        }
        let (Some(name), Some(address), Some(key), Some(trust)) = (
            &self.name,
            &self.coordinator,
            self.coordinator_key,
            self.trust,
        ) else {
            let message = "a new member needs --name, --coordinator, --coordinator-key and --trust";
            return refuse(ErrorCode::Invalid, message);
        };
        let coordinator = Coordinator::new(address, key).context("--coordinator")?;
        let sealing = self.unlock.create()?;
        let made = Membership::create(&self.dir, &sealing, name, role, &coordinator, trust)?;
        Ok(made.0)
    }
}

async fn wait(membership: &Membership) -> Result<Enrolment> {
    let stop = stop_on_signals(&TaskTracker::new())?;
    loop {
        let state = membership.collect().await?;
        if state != Enrolment::Pending {
            return Ok(state);
        }
        if stop
            .run_until_cancelled(tokio::time::sleep(ASK_EVERY))
            .await
            .is_none()
        {
            return Err(Interrupted.into());
        }
    }
}

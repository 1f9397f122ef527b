//! `consilium coordinator …`: makes and runs the serving side.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use clap::{Args, Subcommand};
use consilium_coordinator::{Folder as CoordinatorFolder, Server, Settings};
use consilium_proto::{Digest, MemberName, Roster, Signed, roster::Application};
use serde_json::json;

use super::{
    governance::{members_table, to_json},
    node,
};
use crate::{governance::read_history, output, unlock::Unlock};

/// The federation's coordinator.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Make a coordinator's keys and its application to governance
    Init {
        #[command(flatten)]
        folder: Folder,
        /// What people call the coordinator
        #[arg(long)]
        name: MemberName,
        /// Trust root, as `governance init` printed it
        #[arg(long, value_name = "HEX")]
        trust: Digest,
        /// Where to listen; `settings.toml` in the folder keeps it [default: 127.0.0.1:7443]
        #[arg(long, value_name = "ADDRESS:PORT")]
        listen: Option<SocketAddr>,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Serve until stopped; prints the address
    Serve {
        #[command(flatten)]
        folder: Folder,
        #[command(flatten)]
        parent: node::Parent,
    },
    /// Show members and applicants; take in a roster that governance signed
    Roster {
        /// The coordinator's folder
        #[arg(long, value_name = "DIR")]
        dir: PathBuf,
        /// Roster file of governance to take in; works while the coordinator serves
        #[arg(long, value_name = "FILE")]
        import: Option<PathBuf>,
        /// Folder to write the waiting applications to, for governance
        #[arg(long, value_name = "DIR")]
        pending: Option<PathBuf>,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
}

/// A coordinator's folder.
#[derive(Debug, Args)]
pub(super) struct Folder {
    /// The coordinator's folder
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    #[command(flatten)]
    unlock: Unlock,
}

impl Command {
    pub(super) fn is_node(&self) -> bool {
        matches!(self, Self::Serve { .. })
    }

    pub(super) async fn run(self) -> Result<()> {
        match self {
            Self::Init {
                folder,
                name,
                trust,
                listen,
                json,
            } => init(&folder, &name, trust, listen, json),
            Self::Serve { folder, parent } => {
                let key = folder.unlock.open()?;
                let opened = CoordinatorFolder::open(&folder.dir, key)?;
                let stop = parent.stop()?;
                let server = Server::bind(opened).await?;
                output::line(server.local_addr())?;
                Ok(Box::pin(server.run(stop)).await?)
            }
            Self::Roster {
                dir,
                import,
                pending,
                json,
            } => roster(&dir, import.as_deref(), pending.as_deref(), json).await,
        }
    }
}

fn init(
    folder: &Folder,
    name: &MemberName,
    trust: Digest,
    listen: Option<SocketAddr>,
    as_json: bool,
) -> Result<()> {
    let key = folder.unlock.create()?;
    let application = CoordinatorFolder::init(&folder.dir, &key, name, trust)?;
    if let Some(listen) = listen {
        let settings = Settings {
            listen,
            ..Settings::default()
        };
        settings.save(&CoordinatorFolder::settings_file(&folder.dir))?;
    }
    let opened = CoordinatorFolder::open(&folder.dir, key)?;
    let (fingerprint, tls_key) = (
        Application::fingerprint(&application),
        opened.tls_key_digest(),
    );
    let file = folder.dir.join("application.bin");
    if as_json {
        return output::json(&json!({
            "fingerprint": fingerprint, "coordinator_key": tls_key, "application": file,
        }));
    }
    output::note(format_args!(
        "governance admits it with: consilium governance admit --dir DIR {}",
        file.display()
    ));
    let rows = [
        ("application", file.display().to_string()),
        ("fingerprint", fingerprint.to_string()),
        ("coordinator-key", tls_key.to_string()),
    ];
    output::line(output::table(
        &rows.map(|(name, value)| vec![name.to_owned(), value]),
    ))
}

async fn roster(
    dir: &Path,
    import: Option<&Path>,
    pending_to: Option<&Path>,
    as_json: bool,
) -> Result<()> {
    if let Some(file) = import {
        let roster = CoordinatorFolder::import_roster(dir, &read_history(file)?).await?;
        output::note(format_args!(
            "the roster is now at epoch {}",
            roster.epoch()
        ));
    }
    let pending = CoordinatorFolder::pending(dir).await?;
    if let Some(folder) = pending_to {
        write_applications(folder, &pending)?;
    }
    let history = CoordinatorFolder::roster_history(dir).await?;
    // The coordinator pinned its trust root and checks every epoch it takes in against it.
    let roster = match history.first() {
        Some(first) => Some(Roster::open_history(
            &history,
            &first.signer().fingerprint(),
        )?),
        None => None,
    };
    if as_json {
        let members: Vec<_> = roster
            .iter()
            .flat_map(Roster::members)
            .map(to_json)
            .collect();
        let applicants = pending.iter().map(|(signed, application)| {
            json!({
                "name": application.name,
                "role": application.role,
                "fingerprint": Application::fingerprint(signed),
            })
        });
        return output::json(&json!({
            "epoch": roster.as_ref().map(Roster::epoch),
            "members": members,
            "pending": applicants.collect::<Vec<_>>(),
        }));
    }
    match &roster {
        Some(roster) => output::line(members_table(roster.members()))?,
        None => {
            output::note("no roster yet: take in the one that governance wrote with --import FILE")
        }
    }
    if pending.is_empty() {
        return Ok(());
    }
    let header = ["\napplicant", "role", "fingerprint"]
        .map(str::to_owned)
        .to_vec();
    let rows = pending.iter().map(|(signed, application)| {
        let fingerprint = Application::fingerprint(signed).to_string();
        vec![
            application.name.to_string(),
            application.role.to_string(),
            fingerprint,
        ]
    });
    output::line(output::table(
        &std::iter::once(header).chain(rows).collect::<Vec<_>>(),
    ))
}

fn write_applications(folder: &Path, pending: &[(Signed, Application)]) -> Result<()> {
    std::fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
    for (signed, application) in pending {
        // Two applicants may call themselves the same: the fingerprint tells them apart.
        let short = Application::fingerprint(signed).to_short();
        let path = folder.join(format!("{}-{short}.application", application.name));
        std::fs::write(&path, signed.to_bytes())
            .with_context(|| format!("writing {}", path.display()))?;
        output::note(format_args!("wrote {}", path.display()));
    }
    Ok(())
}

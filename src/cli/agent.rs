//! `consilium agent …`: what a data steward does at a hospital.

mod budget;
mod data;
mod model;
mod predictions;
mod serve;
mod study;
mod token;

use std::{path::PathBuf, sync::Arc};

use anyhow::{Context as _, Result};
use clap::{Args, Subcommand};
use consilium_agent::{Agent, policy::Policy, settings::Settings, store::Store};
use consilium_models::network::Wish;
use consilium_proto::Role;

use super::{enrol::Enrol, knowledge, node};
use crate::{
    device::{self, Children},
    output,
    unlock::Unlock,
};

/// A hospital's node.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Make keys, hand in the application, and collect the certificate once admitted
    Enrol(Box<Enrol>),
    /// Run until stopped: look for studies, train, send
    Run {
        #[command(flatten)]
        folder: Folder,
        /// Where networks are trained: auto, cpu, gpu (all cards), gpu:0 or gpu:0,gpu:1 [default: as
        /// agent.toml says, or auto]
        #[arg(long, value_name = "DEVICE")]
        device: Option<Wish>,
        #[command(flatten)]
        parent: node::Parent,
        /// Compute parts of networks' forward passes again instead of keeping them: less memory, more time
        #[arg(long)]
        recompute: bool,
        /// Log where the time went after each round
        #[arg(long)]
        profile: bool,
    },
    /// Answer what programs and people of this hospital ask of its models, until stopped
    ///
    /// For research use only: not a medical device.
    Serve(Box<serve::Serve>),
    /// Models that are served: add, check and put into service, take back
    #[command(subcommand)]
    Model(model::Command),
    /// Who may ask them
    #[command(subcommand)]
    Token(token::Command),
    /// The log of what they said
    #[command(subcommand)]
    Predictions(predictions::Command),
    /// Data sets: register, list, take patients out
    #[command(subcommand)]
    Data(data::Command),
    /// What each data set and study may spend, has spent and has left
    Budget {
        #[command(flatten)]
        folder: Folder,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Studies: list, approve, refuse
    #[command(subcommand)]
    Study(study::Command),
    /// What this hospital allows
    #[command(subcommand)]
    Policy(PolicyCommand),
}

#[derive(Debug, Subcommand)]
pub(super) enum PolicyCommand {
    /// Check the policy file and show it
    Show {
        /// The agent's folder
        #[arg(long, value_name = "DIR")]
        dir: PathBuf,
    },
    /// Print a policy to begin with
    Sample,
}

/// An agent's folder.
#[derive(Debug, Args)]
pub(super) struct Folder {
    /// The agent's folder
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    #[command(flatten)]
    unlock: Unlock,
}

/// Where a hospital says what it allows.
const POLICY_FILE: &str = "policy.toml";
/// Where an operator says how the agent runs.
const SETTINGS_FILE: &str = "agent.toml";

/// A policy to begin with.
const SAMPLE: &str = r#"# what this hospital allows; everything that is not named is refused
tasks = ["image-classification"]
study_epsilon = 8.0                        # largest epsilon of one study
study_delta = 1e-5
min_cohort = 3                             # fewest sites of a round, this one included
[data_sets]
chest = { epsilon = 16.0, delta = 1e-5 }   # what all studies together may spend
"#;

impl Folder {
    fn policy_file(&self) -> PathBuf {
        self.dir.join(POLICY_FILE)
    }

    fn policy(&self) -> Result<Policy> {
        Ok(Policy::load(&self.policy_file())?)
    }

    fn settings(&self) -> Result<Settings> {
        Ok(Settings::load(&self.dir.join(SETTINGS_FILE))?)
    }

    async fn store(&self) -> Result<Store> {
        Ok(Store::open(&self.dir, Arc::new(self.unlock.open()?)).await?)
    }
}

impl Command {
    pub(super) fn is_node(&self) -> bool {
        matches!(self, Self::Run { .. } | Self::Serve(_))
    }

    pub(super) async fn run(self) -> Result<()> {
        match self {
            Self::Enrol(enrol) => enrol.run(Role::Site).await,
            Self::Run {
                folder,
                device,
                parent,
                recompute,
                profile,
            } => {
                let key = folder.unlock.open()?;
                let stop = parent.stop()?;
                let mut settings = Settings::load(&folder.dir.join(SETTINGS_FILE))?;
                settings.recompute |= recompute;
                settings.profile |= profile;
                let wish = device.unwrap_or_else(|| settings.device.clone());
                let agent = Agent::open(&folder.dir, Arc::new(key), settings).await?;
                let trials = Children::new().context("finding this program")?;
                let choosing = stop.run_until_cancelled(device::choose(&wish, &trials));
                let Some(devices) = choosing.await else {
                    return Ok(());
                };
                let agent = agent.training_on(devices?);
                Ok(Box::pin(agent.run(stop)).await?)
            }
            Self::Serve(serve) => Box::pin(serve.run()).await,
            Self::Model(command) => Box::pin(command.run()).await,
            Self::Token(command) => command.run().await,
            Self::Predictions(command) => command.run().await,
            Self::Data(command) => command.run().await,
            Self::Budget { folder, json } => budget::run(&folder, json).await,
            Self::Study(command) => command.run().await,
            Self::Policy(PolicyCommand::Show { dir }) => {
                let path = dir.join(POLICY_FILE);
                Policy::load(&path)?;
                match std::fs::read_to_string(&path) {
                    Ok(text) => output::line(text.trim_end()),
                    Err(_) => {
                        let path = path.display();
                        output::note(format_args!(
                            "there is no {path}: nothing is allowed; to begin with:\n\
                             consilium agent policy sample > {path}"
                        ));
                        Ok(())
                    }
                }
            }
            Self::Policy(PolicyCommand::Sample) => output::line(SAMPLE.trim_end()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sample_policy_is_sound() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join(POLICY_FILE);
        std::fs::write(&path, SAMPLE).expect("a file");
        let policy = Policy::load(&path).expect("a sound policy");
        assert_eq!(policy.min_cohort, 3);
        assert!(!policy.auto_approve && !policy.allow_no_privacy);
    }
}

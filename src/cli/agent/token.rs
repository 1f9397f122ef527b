//! `consilium agent token …`: who may ask the models that are served here.

use std::time::SystemTime;

use anyhow::Result;
use clap::Subcommand;
use consilium_agent::{
    serving::{TokenError, new_token},
    store::Duty,
};
use consilium_proto::ErrorCode;
use serde_json::json;

use super::Folder;
use crate::{
    failure::{Classify as _, refuse},
    output,
};

/// Tokens that give access to `agent serve`.
#[derive(Debug, Subcommand)]
pub(in crate::cli) enum Command {
    /// Make a token for a person or a program, and print it: it is shown this once
    New {
        /// Whose it is
        name: String,
        /// It may also put models into service
        #[arg(long)]
        steward: bool,
        #[command(flatten)]
        folder: Folder,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
    /// List whose tokens hold
    List {
        #[command(flatten)]
        folder: Folder,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Take a token back, and with it the sessions it opened
    Revoke {
        /// Whose it is
        name: String,
        #[command(flatten)]
        folder: Folder,
    },
}

impl Command {
    pub(in crate::cli) async fn run(self) -> Result<()> {
        match self {
            Self::New {
                name,
                steward,
                folder,
                json,
            } => {
                let store = folder.store().await?;
                let duty = if steward {
                    Duty::Steward
                } else {
                    Duty::Clinician
                };
                let token = match new_token(&store, &name, duty, SystemTime::now()).await {
                    Err(TokenError::Store(error)) => return Err(error.into()),
                    Err(error @ TokenError::Exists(_)) => {
                        Err(error).classify(ErrorCode::Precondition)?
                    }
                    other => other.classify(ErrorCode::Invalid)?,
                };
                if json {
                    return output::json(&json!({ "name": name, "duty": duty, "token": *token }));
                }
                output::note("shown this once: only its digest is kept");
                output::line(&*token)
            }
            Self::List { folder, json } => {
                let tokens = folder.store().await?.tokens().await?;
                if json {
                    return output::json(&json!({ "tokens": tokens }));
                }
                let mut rows = vec![
                    ["name", "duty", "made at (UTC)"]
                        .map(str::to_owned)
                        .to_vec(),
                ];
                rows.extend(tokens.into_iter().map(|token| {
                    let made = output::time(1000 * token.made_at);
                    vec![token.name, token.duty.name().to_owned(), made]
                }));
                output::line(output::table(&rows))
            }
            Self::Revoke { name, folder } => {
                match folder
                    .store()
                    .await?
                    .revoke_token(&name, SystemTime::now())
                    .await?
                {
                    true => output::line(format_args!("{name} has no token any more")),
                    false => refuse(ErrorCode::Missing, format!("{name} has no token")),
                }
            }
        }
    }
}

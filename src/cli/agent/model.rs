//! `consilium agent model …`: models of this site, checked before they go into service.

use std::{path::PathBuf, time::SystemTime};

use anyhow::Result;
use clap::{Args, Subcommand};
use consilium_agent::serving::models::{self, Gate, WEIGHTS_LIMIT, read_file};
use consilium_proto::ErrorCode;
use serde_json::json;

use super::{Folder, serve::Check};
use crate::{cli::study, failure::refuse, output};

/// Largest calibration that is read, in bytes.
const CALIBRATION_LIMIT: u64 = 16 << 20;

/// Models that `agent serve` answers with.
#[derive(Debug, Subcommand)]
pub(in crate::cli) enum Command {
    /// Check a released model and copy it into the agent's folder
    Add(Add),
    /// List the models, and which are in service
    List {
        #[command(flatten)]
        folder: Folder,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Put a model into service, if it passes this hospital's own check
    ///
    /// Its score must not be below that of the model in service by more than the margin of agent.toml.
    Activate(Activate),
    /// Take a model out of service, so that the one before it is back
    RollBack {
        /// The model, as `model list` shows it
        id: String,
        /// Why; goes to the log
        #[arg(long, default_value = "a steward asked for it", value_name = "TEXT")]
        reason: String,
        #[command(flatten)]
        folder: Folder,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Args)]
pub(in crate::cli) struct Add {
    /// The study's plan
    #[arg(long, value_name = "PLAN.toml")]
    plan: PathBuf,
    /// The weights that the study released
    #[arg(long, value_name = "FILE.safetensors")]
    weights: PathBuf,
    /// What this hospital knows of the model, as `consilium model calibrate` wrote it
    #[arg(long, value_name = "FILE.json")]
    calibration: Option<PathBuf>,
    #[command(flatten)]
    folder: Folder,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct Activate {
    /// The model, as `model list` shows it
    id: String,
    #[command(flatten)]
    check: Check,
    /// Put it into service without a check; the log says so
    #[arg(long, conflicts_with = "check")]
    without_check: bool,
    #[command(flatten)]
    folder: Folder,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

impl Command {
    pub(in crate::cli) async fn run(self) -> Result<()> {
        match self {
            Self::Add(options) => options.run().await,
            Self::List { folder, json } => list(&folder, json).await,
            Self::Activate(options) => options.run().await,
            Self::RollBack {
                id,
                reason,
                folder,
                json,
            } => {
                let store = folder.store().await?;
                let back_to =
                    models::roll_back(&store, &id, &reason, WHO, SystemTime::now()).await?;
                if json {
                    return output::json(&json!({ "rolled_back": id, "back_to": back_to }));
                }
                match back_to {
                    Some(back_to) => output::line(format_args!("{back_to} is in service again")),
                    None => output::line("no model was in service before it: its place is empty"),
                }
            }
        }
    }
}

/// Who acts, in the log.
const WHO: &str = "command line";

impl Add {
    async fn run(self) -> Result<()> {
        let plan = study::plan::read(&self.plan)?;
        let weights = read_file(&self.weights, WEIGHTS_LIMIT)?;
        let calibration = self
            .calibration
            .as_deref()
            .map(|path| read_file(path, CALIBRATION_LIMIT))
            .transpose()?;
        let store = self.folder.store().await?;
        let known = models::add(
            &store,
            &plan,
            &weights,
            calibration.as_deref(),
            SystemTime::now(),
        )
        .await?;
        if self.json {
            return output::json(&json!(known));
        }
        output::line(format_args!(
            "{} is in the folder, for {}",
            known.id, known.place
        ))?;
        output::note(format_args!(
            "to serve it: consilium agent model activate {} --check PATH",
            known.id
        ));
        Ok(())
    }
}

async fn list(folder: &Folder, json: bool) -> Result<()> {
    let models = folder.store().await?.models().await?;
    if json {
        return output::json(&json!({ "models": models }));
    }
    let mut rows = vec![
        ["id", "study", "for", "in service", "added at (UTC)"]
            .map(str::to_owned)
            .to_vec(),
    ];
    rows.extend(models.into_iter().map(|model| {
        let is_active = if model.is_active { "yes" } else { "no" };
        let added = output::time(1000 * model.added_at);
        vec![
            model.id,
            model.study,
            model.place,
            is_active.to_owned(),
            added,
        ]
    }));
    output::line(output::table(&rows))
}

impl Activate {
    async fn run(self) -> Result<()> {
        let settings = self.folder.settings()?;
        let examiner = self.check.examiner(settings.text_encoder.as_deref());
        let gate = match (&examiner, self.without_check) {
            (Some(examiner), _) => Gate::Checked {
                examiner,
                margin: settings.serving.margin,
            },
            (None, true) => Gate::Unchecked,
            (None, false) => {
                let message = "give --check PATH with records of this hospital, or --without-check";
                return refuse(ErrorCode::Invalid, message);
            }
        };
        let store = self.folder.store().await?;
        let done = models::activate(&store, &self.id, gate, WHO, SystemTime::now()).await?;
        if self.json {
            return output::json(&json!(done));
        }
        let Some(score) = done.score else {
            output::note("without a check: the log says so");
            return output::line(format_args!("{} is in service", done.model));
        };
        let before = done
            .before
            .map_or("none was in service".to_owned(), |before| {
                format!("{:.4} of the one before", before.value)
            });
        output::line(format_args!(
            "{} is in service: {} {:.4} on {} records, {before}",
            done.model, score.figure, score.value, score.records
        ))
    }
}

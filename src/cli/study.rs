//! `consilium study …`: what a researcher does.

mod compare;
mod evaluate;
mod fetch;
mod listing;
pub(super) mod plan;
mod simulate;
mod watch;

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::{Args, Subcommand};
use consilium_proto::{StudyId, wire};

use crate::{output, researcher::Researcher, unlock::Unlock};

/// Studies: plans, rounds, models.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Check a plan without submitting it
    Check {
        /// The plan
        #[arg(value_name = "PLAN.toml")]
        plan: PathBuf,
        #[command(flatten)]
        form: Form,
    },
    /// Run plans on data of your own in this process, before any hospital is asked
    Simulate(simulate::Options),
    /// Submit a plan with version 0 of its weights; prints the study's id
    Submit {
        /// The plan
        #[arg(value_name = "PLAN.toml")]
        plan: PathBuf,
        /// Folder of the public text encoder, for plans that train one on
        #[arg(long, value_name = "DIR")]
        text_encoder: Option<PathBuf>,
        #[command(flatten)]
        folder: Folder,
        #[command(flatten)]
        form: Form,
    },
    /// List all studies
    List {
        #[command(flatten)]
        folder: Folder,
        #[command(flatten)]
        form: Form,
    },
    /// Show one study: its plan, the sites' decisions, its versions
    Show {
        #[command(flatten)]
        study: Study,
        #[command(flatten)]
        form: Form,
    },
    /// Follow a study until it ends
    Watch {
        #[command(flatten)]
        study: Study,
        /// Print one JSON object for each event
        #[arg(long)]
        json: bool,
    },
    /// Stop a study; it can be resumed
    Stop {
        #[command(flatten)]
        study: Study,
        #[command(flatten)]
        form: Form,
    },
    /// Let a stopped study go on
    Resume {
        #[command(flatten)]
        study: Study,
        #[command(flatten)]
        form: Form,
    },
    /// Score a version on public data
    Evaluate {
        #[command(flatten)]
        study: Study,
        #[command(flatten)]
        data: evaluate::PublicData,
        /// Version to score [default: the newest]
        #[arg(long, value_name = "NUMBER")]
        version: Option<u32>,
        #[command(flatten)]
        form: Form,
    },
    /// Fetch the finished model, its card, its metrics and its learning curve
    Fetch {
        #[command(flatten)]
        study: Study,
        /// Folder to write to; made if it does not exist
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
        #[command(flatten)]
        data: evaluate::OptionalData,
        #[command(flatten)]
        form: Form,
    },
    /// Compare studies: scores, rounds, privacy
    Compare {
        /// The studies
        #[arg(required = true, value_name = "ID")]
        ids: Vec<StudyId>,
        #[command(flatten)]
        folder: Folder,
        #[command(flatten)]
        data: evaluate::OptionalData,
        #[command(flatten)]
        form: Form,
    },
}

/// A member's folder: what may be done depends on its role.
#[derive(Debug, Args)]
pub(super) struct Folder {
    /// The member's folder, as `researcher enrol` (or `operator enrol`, `auditor enrol`) made it
    #[arg(long, value_name = "DIR", env = "CONSILIUM_DIR")]
    dir: PathBuf,
    #[command(flatten)]
    unlock: Unlock,
}

/// One study.
#[derive(Debug, Args)]
pub(super) struct Study {
    /// The study, as `study submit` printed it
    id: StudyId,
    #[command(flatten)]
    folder: Folder,
}

/// Form of the result.
#[derive(Debug, Clone, Copy, Args)]
pub(super) struct Form {
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

impl Folder {
    async fn connect(&self) -> Result<Researcher> {
        let key = self.unlock.open()?;
        let connecting = Researcher::connect(&self.dir, &key).await;
        connecting.with_context(|| format!("connecting as the member of {}", self.dir.display()))
    }
}

impl Command {
    pub(super) async fn run(self) -> Result<()> {
        match self {
            Self::Check { plan, form } => plan::check(&plan, form),
            Self::Simulate(options) => simulate::run(options).await,
            Self::Submit {
                plan,
                text_encoder,
                folder,
                form,
            } => {
                let plan = plan::read(&plan)?;
                plan::warn(&plan);
                let mut researcher = folder.connect().await?;
                let id = researcher.submit(&plan, text_encoder.as_deref()).await?;
                output::note("each site's steward approves it with: consilium agent study approve");
                match form.json {
                    true => {
                        output::json(&serde_json::json!({ "study": id, "plan": plan.digest() }))
                    }
                    false => output::line(id),
                }
            }
            Self::List { folder, form } => {
                let studies = folder.connect().await?.list().await?;
                listing::list(&studies, form)
            }
            Self::Show { study, form } => {
                let study = study.folder.connect().await?.show(study.id).await?;
                listing::show(&study, form)
            }
            Self::Watch { study, json } => {
                let mut researcher = study.folder.connect().await?;
                watch::run(&mut researcher, study.id, json).await
            }
            Self::Stop { study, form } => {
                let summary = study.folder.connect().await?.stop(study.id).await?;
                changed(&summary, form)
            }
            Self::Resume { study, form } => {
                let summary = study.folder.connect().await?.resume(study.id).await?;
                changed(&summary, form)
            }
            Self::Evaluate {
                study,
                data,
                version,
                form,
            } => {
                let mut researcher = study.folder.connect().await?;
                evaluate::run(&mut researcher, study.id, &data, version, form).await
            }
            Self::Fetch {
                study,
                out,
                data,
                form,
            } => {
                let mut researcher = study.folder.connect().await?;
                fetch::run(&mut researcher, study.id, &out, &data, form).await
            }
            Self::Compare {
                ids,
                folder,
                data,
                form,
            } => compare::run(&mut folder.connect().await?, &ids, &data, form).await,
        }
    }
}

fn changed(summary: &wire::StudySummary, form: Form) -> Result<()> {
    match form.json {
        true => output::json(&listing::summary(summary)),
        false => output::line(format_args!(
            "{} is {}",
            summary.name,
            listing::state(summary)
        )),
    }
}

//! `consilium agent study …`: a person decides what a hospital takes part in.

use std::{
    io::{BufRead as _, IsTerminal as _, stdin},
    time::SystemTime,
};

use anyhow::{Context as _, Result};
use clap::Subcommand;
use consilium_agent::{
    consent::{self, Candidate},
    membership::Membership,
    store::{KeptComplaint, Store},
};
use consilium_proto::{ErrorCode, Plan, PlanDigest, StudyId, plan::Mode};
use serde_json::json;

use super::Folder;
use crate::{failure::refuse, output};

/// Studies that ask for this hospital's data.
#[derive(Debug, Subcommand)]
pub(in crate::cli) enum Command {
    /// List studies with what speaks against each
    List {
        #[command(flatten)]
        folder: Folder,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
    /// List why this hospital stopped in rounds with secure aggregation
    Complaints {
        #[command(flatten)]
        folder: Folder,
        /// Print one JSON object a line
        #[arg(long)]
        json: bool,
    },
    /// Approve exactly the plan of a study
    Approve {
        /// The study
        id: StudyId,
        /// Digest of the plan, as `list` shows it; without it, the plan is shown and you are asked
        #[arg(long, value_name = "HEX")]
        plan: Option<PlanDigest>,
        #[command(flatten)]
        folder: Folder,
    },
    /// Refuse a study; ends this hospital's part in it
    Refuse {
        /// The study
        id: StudyId,
        /// Why, for the researcher: at most 500 characters
        #[arg(long, default_value = "refused by the data steward")]
        reason: String,
        #[command(flatten)]
        folder: Folder,
    },
}

impl Command {
    pub(super) async fn run(self) -> Result<()> {
        match self {
            Self::List { folder, json } => {
                let store = folder.store().await?;
                look(&folder, &store).await;
                let candidates = consent::list(&store, &folder.policy()?).await?;
                store.close().await;
                list(&candidates, json)
            }
            Self::Complaints { folder, json } => {
                let store = folder.store().await?;
                let complaints = store.complaints().await?;
                store.close().await;
                list_complaints(&complaints, json)
            }
            Self::Approve { id, plan, folder } => {
                let (store, policy) = (folder.store().await?, folder.policy()?);
                look(&folder, &store).await;
                let plan = match plan {
                    Some(plan) => plan,
                    None => ask(&store, id).await?,
                };
                consent::approve(&store, &policy, id, plan, SystemTime::now()).await?;
                output::line(format_args!("approved study {id} with plan {plan}"))?;
                send(&folder, &store).await;
                store.close().await;
                Ok(())
            }
            Self::Refuse { id, reason, folder } => {
                let store = folder.store().await?;
                look(&folder, &store).await;
                consent::refuse(&store, id, &reason, SystemTime::now()).await?;
                output::line(format_args!("refused study {id}"))?;
                send(&folder, &store).await;
                store.close().await;
                Ok(())
            }
        }
    }
}

/// Asks the coordinator for new studies; what is known already serves if it does not answer.
async fn look(folder: &Folder, store: &Store) {
    let looked = async {
        let membership = Membership::open(&folder.dir, &folder.unlock.open()?)?;
        let channel = membership.connect().await?;
        anyhow::Ok(consent::look(channel, store, SystemTime::now()).await?)
    };
    if let Err(error) = looked.await {
        output::note(format_args!(
            "the coordinator was not asked, this is what was known before: {}",
            crate::failure::message(&error)
        ));
    }
}

/// Sends the decision now; the running agent sends it later if that fails.
async fn send(folder: &Folder, store: &Store) {
    let sent = async {
        let membership = Membership::open(&folder.dir, &folder.unlock.open()?)?;
        let channel = membership.connect().await?;
        anyhow::Ok(consent::send(channel, store).await?)
    };
    if let Err(error) = sent.await {
        output::note(format_args!(
            "the decision is on disk, and the running agent sends it: {}",
            crate::failure::message(&error)
        ));
    }
}

fn list_complaints(complaints: &[KeptComplaint], as_json: bool) -> Result<()> {
    if complaints.is_empty() {
        output::note("this hospital has stopped in no round");
    }
    for complaint in complaints {
        let KeptComplaint {
            at,
            round,
            violation,
            message,
        } = complaint;
        if as_json {
            output::json(&json!({
                "at": at,
                "study": round.study,
                "round": round.round,
                "attempt": round.attempt,
                "violation": violation,
                "complaint": hex::encode(message),
            }))?;
            continue;
        }
        output::line(format_args!(
            "{}  round {round}: {violation}",
            output::time(at * 1000)
        ))?;
    }
    if !complaints.is_empty() && !as_json {
        output::note(
            "--json prints the signed complaints, with the messages that show what was wrong: they are for \
             governance and auditors",
        );
    }
    Ok(())
}

fn list(candidates: &[Candidate], as_json: bool) -> Result<()> {
    if as_json {
        let objects = candidates.iter().map(|candidate| {
            json!({
                "study": candidate.study.id,
                "plan_digest": candidate.study.plan_digest,
                "plan": candidate.study.plan,
                "decision": decision(candidate),
                "reason": candidate.study.decision.as_ref().map(|made| &made.reason),
                "objections": candidate.objections,
            })
        });
        return output::json(&objects.collect::<Vec<_>>());
    }
    if candidates.is_empty() {
        output::note("no study asks for this hospital's data");
    }
    for candidate in candidates {
        let plan = &candidate.study.plan;
        let mut rows = vec![
            ("study", candidate.study.id.to_string()),
            ("name", plan.name.clone()),
            ("plan", candidate.study.plan_digest.to_string()),
            ("data set", plan.data_set.clone()),
            (
                "rounds",
                format!("{} of {} steps", plan.rounds, plan.training.steps),
            ),
            ("decision", decision(candidate).to_owned()),
        ];
        if let Some(made) = candidate
            .study
            .decision
            .as_ref()
            .filter(|made| !made.reason.is_empty())
        {
            rows.push(("because", made.reason.clone()));
        }
        rows.extend(
            candidate
                .objections
                .iter()
                .map(|reason| ("against it", reason.clone())),
        );
        let cells = rows
            .into_iter()
            .map(|(name, value)| vec![name.to_owned(), value]);
        output::line(format_args!(
            "{}\n",
            output::table(&cells.collect::<Vec<_>>())
        ))?;
        warn(plan);
    }
    Ok(())
}

/// Says in red what a study leaves unprotected.
fn warn(plan: &Plan) {
    if plan.privacy.mode == Mode::None {
        output::note(output::red("this study trains without privacy"));
    }
    if plan.privacy.mode == Mode::Distributed {
        output::note(output::red(
            "this study's noise is shared by all sites: what it promises rests on secure aggregation and on \
             enough of them being honest",
        ));
    }
    if !plan.secure_aggregation {
        output::note(output::red(
            "this study shows this hospital's own update to the coordinator",
        ));
    }
}

fn decision(candidate: &Candidate) -> &'static str {
    match candidate
        .study
        .decision
        .as_ref()
        .map(|decided| decided.approved)
    {
        None => "undecided",
        Some(true) => "approved",
        Some(false) => "refused",
    }
}

/// Shows the plan and asks whether exactly this one is approved.
async fn ask(store: &Store, id: StudyId) -> Result<PlanDigest> {
    let Some(study) = store.study(id).await? else {
        return refuse(
            ErrorCode::Missing,
            format!("this hospital has seen no study {id}"),
        );
    };
    if !stdin().is_terminal() {
        let message = "nobody to ask: give --plan HEX as `consilium agent study list` shows it";
        return refuse(ErrorCode::Invalid, message);
    }
    output::note(toml::to_string(&study.plan).context("writing the plan")?);
    warn(&study.plan);
    output::note("Approve exactly this plan? [y/N]");
    let mut answer = String::new();
    stdin()
        .lock()
        .read_line(&mut answer)
        .context("reading the answer")?;
    match ["y", "yes"].contains(&answer.trim().to_lowercase().as_str()) {
        true => Ok(study.plan_digest),
        false => refuse(ErrorCode::Denied, "not approved"),
    }
}

//! Submits a study, shows its rounds as they are published, and brings its last version home.

use std::time::Duration;

use anyhow::{Context as _, Result};
use consilium_proto::{
    ErrorCode, ParameterVector, Plan,
    plan::Mode,
    wire::{self, StudyState, study_event::Event},
};
use tokio_util::sync::CancellationToken;

use super::{federation::Federation, report};
use crate::{
    curve::Point,
    failure::{Interrupted, refuse, refused_call},
    output,
    scoring::Scorer,
};

/// Longest time without an event: more than any round should take.
const PATIENCE: Duration = Duration::from_secs(900);

/// What came of a study.
pub(super) struct Outcome {
    /// Its last version.
    pub(super) weights: ParameterVector,
    /// Largest ε of a site over the whole study; none without privacy.
    pub(super) epsilon: Option<f64>,
}

/// Runs a study from submission to its last version.
///
/// # Errors
/// A refusal, a study that stops, a node that ends, Ctrl-C.
pub(super) async fn study(
    federation: &mut Federation,
    plan: &Plan,
    val: &Scorer,
    stop: &CancellationToken,
) -> Result<Outcome> {
    let id = federation.researcher().submit(plan, None).await?;
    let mut events = federation.researcher().watch(id, 0).await?;
    let mut last = None;
    loop {
        let event = tokio::select! {
            biased;
            () = stop.cancelled() => return Err(Interrupted.into()),
            error = federation.node_ended() => return Err(error),
            event = tokio::time::timeout(PATIENCE, events.message()) => event,
        };
        let event = event.context("nothing happens any more; the logs say why")?;
        let event = event
            .map_err(refused_call)?
            .context("the coordinator ended the study's events")?;
        match event.event {
            Some(Event::Published(version)) if version.number > 0 => {
                let point = Point::new(&version, None);
                let study = federation.researcher().show(id).await?;
                let digest = version.model_digest.as_slice().try_into()?;
                let weights = federation.researcher().download(&study, digest).await?;
                let figures = val.score(&weights)?;
                let name = if plan.privacy.mode == Mode::None {
                    "without privacy"
                } else {
                    "with privacy"
                };
                output::note(format_args!(
                    "{name:<17} round {:>3}/{}  {} sites  val accuracy {}{}",
                    version.number,
                    plan.rounds,
                    point.sites,
                    report::number(figures.accuracy),
                    spent(&version)
                ));
                last = Some(Outcome {
                    weights,
                    epsilon: point.epsilon,
                });
            }
            Some(Event::Decided(decision)) if !decision.approved => {
                let message = format!("{} refused the study: {}", decision.name, decision.reason);
                return refuse(ErrorCode::Precondition, message);
            }
            Some(Event::RoundFailed(failed)) => {
                tracing::warn!(reason = %failed.reason, "round failed");
            }
            Some(Event::Changed(summary)) => match summary.state() {
                StudyState::Finished => return last.context("the study ended without a version"),
                StudyState::Stopped => {
                    let message = format!("the study stopped: {}", summary.reason);
                    return refuse(ErrorCode::Precondition, message);
                }
                _ => {}
            },
            _ => {}
        }
    }
}

/// ε of each site so far.
fn spent(version: &wire::Version) -> String {
    let charges = version.contributions.iter().filter_map(|site| {
        let charge = site.charge.as_ref()?;
        Some(format!("{} {:.2}", site.name, charge.epsilon))
    });
    match charges.collect::<Vec<_>>() {
        none if none.is_empty() => String::new(),
        charges => format!("  ε {}", charges.join(", ")),
    }
}

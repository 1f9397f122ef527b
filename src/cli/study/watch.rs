//! Follows a study: live bars on a terminal, one line an event in a pipe, or one JSON object.

mod bars;
mod lines;

use std::io::{IsTerminal as _, stderr, stdout};

use anyhow::Result;
use consilium_proto::{
    ErrorCode, StudyId,
    wire::{self, StudyState, study_event::Event},
};
use serde_json::{Value, json};
use tokio_util::task::TaskTracker;

use self::{bars::Bars, lines::Lines};
use super::{listing, plan};
use crate::{
    failure::{Interrupted, refuse, refused_call},
    output,
    researcher::Researcher,
    signals::stop_on_signals,
};

/// Shows events until the study ends or Ctrl-C; the study itself goes on after Ctrl-C.
pub(super) async fn run(researcher: &mut Researcher, id: StudyId, json: bool) -> Result<()> {
    let stop = stop_on_signals(&TaskTracker::new())?;
    let study = researcher.show(id).await?;
    if !json {
        plan::warn(&study.plan);
    }
    let mut view = match json {
        true => View::Json,
        // The bars are drawn on standard error.
        false if stdout().is_terminal() && stderr().is_terminal() => {
            View::Bars(Box::new(Bars::new(study.summary())))
        }
        false => View::Lines(Lines::new(study.summary())),
    };
    let mut events = researcher.watch(id, 0).await?;
    let mut last = study.summary().clone();
    loop {
        let event = tokio::select! {
            () = stop.cancelled() => return Err(Interrupted.into()),
            event = events.message() => event.map_err(refused_call)?,
        };
        let Some(event) = event else { break };
        view.show(&event)?;
        if let Some(Event::Changed(summary)) = event.event {
            last = summary;
        }
        // Old stops come before a resume: only the newest state ends the view.
        if last.state() == StudyState::Finished {
            break;
        }
        if last.state() == StudyState::Stopped
            && researcher.show(id).await?.summary().state() == StudyState::Stopped
        {
            view.finish();
            let message = format!("the study has stopped: {}", last.reason);
            return refuse(ErrorCode::Precondition, message);
        }
    }
    view.finish();
    Ok(())
}

enum View {
    Json,
    Lines(Lines),
    Bars(Box<Bars>),
}

impl View {
    fn show(&mut self, event: &wire::StudyEvent) -> Result<()> {
        match self {
            Self::Json => output::json(&to_json(event)),
            Self::Lines(lines) => match lines.line(event) {
                Some(line) => output::line(line),
                None => Ok(()),
            },
            Self::Bars(bars) => {
                if let Some(event) = &event.event {
                    bars.show(event);
                }
                Ok(())
            }
        }
    }

    fn finish(&self) {
        if let Self::Bars(bars) = self {
            bars.finish();
        }
    }
}

/// What a site's update has cost its patients so far.
fn spent(contribution: &wire::Contribution) -> String {
    match &contribution.charge {
        Some(charge) => format!("ε {:.3} at δ {:e} so far", charge.epsilon, charge.delta),
        None => "no privacy".to_owned(),
    }
}

fn to_json(event: &wire::StudyEvent) -> Value {
    let (kind, mut fields) = match &event.event {
        Some(Event::Changed(summary)) => ("changed", json!({ "study": listing::summary(summary) })),
        Some(Event::RoundOpened(opened)) => (
            "round-opened",
            json!({ "cohort": opened.cohort, "deadline": opened.deadline }),
        ),
        Some(Event::UpdateReceived(received)) => {
            let contribution = received.contribution.as_ref().map(listing::contribution);
            ("update-received", json!({ "contribution": contribution }))
        }
        Some(Event::Published(version)) => {
            ("published", json!({ "version": listing::version(version) }))
        }
        Some(Event::RoundFailed(failed)) => ("round-failed", json!({ "reason": failed.reason })),
        Some(Event::Decided(decision)) => (
            "decided",
            json!({ "decision": listing::decision(decision) }),
        ),
        None => ("unknown", json!({})),
    };
    let round = match &event.event {
        Some(Event::RoundOpened(opened)) => opened.round.as_ref(),
        Some(Event::UpdateReceived(received)) => received.round.as_ref(),
        Some(Event::RoundFailed(failed)) => failed.round.as_ref(),
        _ => None,
    };
    if let Some(round) = round {
        fields["round"] = round.round.into();
        fields["attempt"] = round.attempt.into();
    }
    fields["event"] = kind.into();
    fields["number"] = event.number.into();
    fields["at"] = event.at.into();
    fields
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn published() -> Event {
        let charge = wire::Charge {
            epsilon: 1.25,
            delta: 1e-5,
            ..Default::default()
        };
        let contribution = wire::Contribution {
            site: 2,
            name: "north".into(),
            weight: 3,
            charge: Some(charge),
        };
        Event::Published(wire::Version {
            number: 4,
            contributions: vec![contribution],
            ..Default::default()
        })
    }

    #[test]
    fn an_event_is_one_object_with_its_kind() {
        let event = wire::StudyEvent {
            number: 7,
            at: 9,
            event: Some(published()),
        };
        let value = to_json(&event);
        assert_eq!(value["event"], "published");
        assert_eq!(value["number"], 7);
        assert_eq!(
            value["version"]["contributions"][0]["charge"]["epsilon"],
            1.25
        );
        let round = wire::RoundRef {
            study: vec![],
            round: 2,
            attempt: 3,
        };
        let opened = wire::RoundOpened {
            round: Some(round),
            cohort: vec![1],
            deadline: 5,
        };
        let event = wire::StudyEvent {
            event: Some(Event::RoundOpened(opened)),
            ..Default::default()
        };
        assert_eq!(to_json(&event)["attempt"], 3);
    }
}

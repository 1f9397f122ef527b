//! Follows a study: live bars for a person, one JSON object an event for a script.

use std::{collections::BTreeMap, time::Duration};

use anyhow::Result;
use consilium_proto::{
    ErrorCode, StudyId,
    wire::{self, StudyState, study_event::Event},
};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use serde_json::{Value, json};
use tokio_util::task::TaskTracker;

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
    let mut view = match json {
        true => View::Lines,
        false => {
            plan::warn(&study.plan);
            View::Bars(Box::new(Bars::new(study.summary())))
        }
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
    Lines,
    Bars(Box<Bars>),
}

impl View {
    fn show(&mut self, event: &wire::StudyEvent) -> Result<()> {
        match self {
            Self::Lines => output::json(&to_json(event)),
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
            bars.rounds.abandon();
            bars.sites.values().for_each(ProgressBar::abandon);
        }
    }
}

/// One bar for the rounds, one line for each site.
struct Bars {
    all: MultiProgress,
    rounds: ProgressBar,
    sites: BTreeMap<u32, ProgressBar>,
    names: BTreeMap<u32, String>,
}

impl Bars {
    fn new(study: &wire::StudySummary) -> Self {
        let all = MultiProgress::new();
        let rounds = all.add(ProgressBar::new(u64::from(study.rounds)));
        let template = "{prefix} [{bar:30}] {pos}/{len} rounds  {msg}";
        // The templates are constants, which a test draws.
        let style = ProgressStyle::with_template(template).expect("a sound template");
        rounds.set_style(style.progress_chars("=> "));
        rounds.set_prefix(study.name.clone());
        rounds.set_message(listing::state(study).to_owned());
        rounds.enable_steady_tick(Duration::from_millis(200));
        Self {
            all,
            rounds,
            sites: BTreeMap::new(),
            names: BTreeMap::new(),
        }
    }

    fn show(&mut self, event: &Event) {
        match event {
            Event::Changed(summary) => {
                self.rounds.set_position(u64::from(summary.rounds_done));
                let reason = match summary.reason.as_str() {
                    "" => String::new(),
                    reason => format!(": {reason}"),
                };
                self.rounds
                    .set_message(format!("{}{reason}", listing::state(summary)));
            }
            Event::Decided(decision) => {
                self.names.insert(decision.site, decision.name.clone());
                let word = if decision.approved {
                    "approved"
                } else {
                    "refused"
                };
                self.site(decision.site)
                    .set_message(format!("{word} {}", decision.reason));
            }
            Event::RoundOpened(opened) => {
                for site in &opened.cohort {
                    self.site(*site).set_message("trains");
                }
                let round = opened.round.as_ref();
                let attempt = round.map_or(1, |round| round.attempt);
                if attempt > 1 {
                    self.rounds.set_message(format!("attempt {attempt}"));
                }
            }
            Event::UpdateReceived(received) => {
                if let Some(contribution) = &received.contribution {
                    self.names
                        .insert(contribution.site, contribution.name.clone());
                    self.site(contribution.site)
                        .set_message(spent(contribution));
                }
            }
            Event::Published(version) => {
                self.rounds.set_position(u64::from(version.number));
                for contribution in &version.contributions {
                    self.names
                        .insert(contribution.site, contribution.name.clone());
                    self.site(contribution.site)
                        .set_message(spent(contribution));
                }
            }
            Event::RoundFailed(failed) => {
                self.rounds
                    .set_message(format!("round failed: {}", failed.reason));
            }
        }
    }

    fn site(&mut self, id: u32) -> &ProgressBar {
        let name = self
            .names
            .get(&id)
            .cloned()
            .unwrap_or_else(|| format!("site {id}"));
        let bar = self.sites.entry(id).or_insert_with(|| {
            let bar = self.all.add(ProgressBar::new_spinner());
            let style = ProgressStyle::with_template("  {prefix:20} {msg}");
            bar.set_style(style.expect("a sound template"));
            bar
        });
        bar.set_prefix(name);
        bar
    }
}

fn spent(contribution: &wire::Contribution) -> String {
    match &contribution.charge {
        Some(charge) => format!(
            "update in; ε {:.3} at δ {:e} so far",
            charge.epsilon, charge.delta
        ),
        None => "update in; no privacy".to_owned(),
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

    fn published() -> Event {
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
    fn bars_follow_the_rounds_and_name_the_sites() {
        let summary = wire::StudySummary {
            rounds: 10,
            ..Default::default()
        };
        let mut bars = Bars::new(&summary);
        bars.show(&published());
        assert_eq!(bars.rounds.position(), 4);
        assert_eq!(bars.sites[&2].prefix(), "north");
        assert!(
            bars.sites[&2].message().contains("1.250"),
            "{}",
            bars.sites[&2].message()
        );
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

//! A study's events as plain lines, for pipes and logs.

use std::collections::BTreeMap;

use consilium_proto::wire::{self, study_event::Event};

use super::{listing, spent};
use crate::output;

/// What the lines remember of the events before.
pub(super) struct Lines {
    rounds: u32,
    names: BTreeMap<u32, String>,
}

impl Lines {
    pub(super) fn new(study: &wire::StudySummary) -> Self {
        Self {
            rounds: study.rounds,
            names: BTreeMap::new(),
        }
    }

    /// The event in one line; none for an event of a newer version of the protocol.
    pub(super) fn line(&mut self, event: &wire::StudyEvent) -> Option<String> {
        let what = match event.event.as_ref()? {
            Event::Changed(summary) => {
                let (state, done) = (listing::state(summary), summary.rounds_done);
                format!(
                    "{state}, round {done}/{}{}",
                    self.rounds,
                    because(&summary.reason)
                )
            }
            Event::Decided(decision) => {
                self.remember(decision.site, &decision.name);
                let word = if decision.approved {
                    "approved"
                } else {
                    "refused"
                };
                format!("{} {word}{}", decision.name, because(&decision.reason))
            }
            Event::RoundOpened(opened) => {
                let cohort: Vec<_> = opened.cohort.iter().map(|site| self.name(*site)).collect();
                format!(
                    "{} opened: {}",
                    attempt(opened.round.as_ref()),
                    cohort.join(", ")
                )
            }
            Event::UpdateReceived(received) => {
                let contribution = received.contribution.as_ref()?;
                self.remember(contribution.site, &contribution.name);
                let round = attempt(received.round.as_ref());
                format!(
                    "{round}: update of {}, {}",
                    contribution.name,
                    spent(contribution)
                )
            }
            Event::Published(version) => {
                let sites = version.contributions.iter();
                let sites: Vec<_> = sites
                    .map(|site| format!("{} {}", site.name, spent(site)))
                    .collect();
                let (number, rounds) = (version.number, self.rounds);
                let count = sites.len();
                format!(
                    "round {number}/{rounds} published, {count} sites: {}{}",
                    sites.join("; "),
                    listing::reported(version)
                )
            }
            Event::RoundFailed(failed) => {
                format!(
                    "{} failed{}",
                    attempt(failed.round.as_ref()),
                    because(&failed.reason)
                )
            }
        };
        Some(format!("{}  {what}", output::time(event.at)))
    }

    fn remember(&mut self, site: u32, name: &str) {
        self.names.insert(site, name.to_owned());
    }

    fn name(&self, site: u32) -> String {
        let known = self.names.get(&site).cloned();
        known.unwrap_or_else(|| format!("site {site}"))
    }
}

fn attempt(round: Option<&wire::RoundRef>) -> String {
    match round {
        Some(round) if round.attempt > 1 => {
            format!("round {}, attempt {}", round.round, round.attempt)
        }
        Some(round) => format!("round {}", round.round),
        None => "a round".to_owned(),
    }
}

fn because(reason: &str) -> String {
    match reason {
        "" => String::new(),
        reason => format!(": {reason}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::study::watch::tests::published;

    fn said(lines: &mut Lines, event: Event) -> String {
        let event = wire::StudyEvent {
            number: 0,
            at: 1_700_000_000_000,
            event: Some(event),
        };
        let line = lines.line(&event).expect("a known event");
        let (time, what) = line.split_at(21);
        assert_eq!(time, "2023-11-14 22:13:20  ");
        what.to_owned()
    }

    fn round(attempt: u32) -> Option<wire::RoundRef> {
        Some(wire::RoundRef {
            study: vec![],
            round: 2,
            attempt,
        })
    }

    #[test]
    fn each_event_is_one_line_that_names_its_sites() {
        let summary = wire::StudySummary {
            rounds: 10,
            ..wire::StudySummary::default()
        };
        let mut lines = Lines::new(&summary);
        let decision = wire::Decision {
            site: 2,
            name: "north".into(),
            approved: true,
            ..wire::Decision::default()
        };
        assert_eq!(said(&mut lines, Event::Decided(decision)), "north approved");
        let opened = wire::RoundOpened {
            round: round(3),
            cohort: vec![2, 5],
            deadline: 0,
        };
        assert_eq!(
            said(&mut lines, Event::RoundOpened(opened)),
            "round 2, attempt 3 opened: north, site 5"
        );
        assert_eq!(
            said(&mut lines, published()),
            "round 4/10 published, 1 sites: north ε 1.250 at δ 1e-5 so far"
        );
        let failed = wire::RoundFailed {
            round: round(1),
            reason: "quorum missed".into(),
        };
        assert_eq!(
            said(&mut lines, Event::RoundFailed(failed)),
            "round 2 failed: quorum missed"
        );
        let stopped = wire::StudySummary {
            state: wire::StudyState::Stopped.into(),
            rounds_done: 1,
            reason: "stopped by researcher x".into(),
            ..summary
        };
        assert_eq!(
            said(&mut lines, Event::Changed(stopped)),
            "stopped, round 1/10: stopped by researcher x"
        );
        assert_eq!(lines.line(&wire::StudyEvent::default()), None);
    }
}

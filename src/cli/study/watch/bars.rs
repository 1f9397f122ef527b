//! A study's events as bars that move on a terminal.

use std::{collections::BTreeMap, time::Duration};

use consilium_proto::wire::{self, study_event::Event};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use super::{listing, spent};

/// One bar for the rounds, one line for each site.
pub(super) struct Bars {
    all: MultiProgress,
    rounds: ProgressBar,
    sites: BTreeMap<u32, ProgressBar>,
    names: BTreeMap<u32, String>,
}

impl Bars {
    pub(super) fn new(study: &wire::StudySummary) -> Self {
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

    pub(super) fn show(&mut self, event: &Event) {
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
                        .set_message(format!("update in; {}", spent(contribution)));
                }
            }
            Event::Published(version) => {
                self.rounds.set_position(u64::from(version.number));
                for contribution in &version.contributions {
                    self.names
                        .insert(contribution.site, contribution.name.clone());
                    self.site(contribution.site)
                        .set_message(format!("update in; {}", spent(contribution)));
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

    /// Leaves the bars as they are.
    pub(super) fn finish(&self) {
        self.rounds.abandon();
        self.sites.values().for_each(ProgressBar::abandon);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::study::watch::tests::published;

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
}

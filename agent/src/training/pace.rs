//! How a round's training comes along: how fast, and how long it will still take.

use std::time::{Duration, Instant};

use consilium_models::training::Progress;

/// Time between two reports.
const BETWEEN: Duration = Duration::from_secs(10);

/// Follows the steps of one round.
pub(super) struct Pace {
    /// When the first step was done; what it took is no measure of the others, since records are
    /// decoded on the way.
    first: Option<Instant>,
    reported: Option<Instant>,
}

/// What a person who waits wants to know.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Report {
    pub(super) step: u32,
    pub(super) steps: u32,
    pub(super) steps_per_second: f64,
    pub(super) left: Duration,
}

impl Report {
    /// What is left, in whole seconds.
    pub(super) fn left_in_seconds(&self) -> Duration {
        Duration::from_secs(self.left.as_secs_f64().ceil() as u64)
    }
}

impl Pace {
    pub(super) fn new() -> Self {
        Self {
            first: None,
            reported: None,
        }
    }

    /// Takes note of a step that was done now; says something from time to time.
    pub(super) fn note(
        &mut self,
        Progress { step, steps }: Progress,
        now: Instant,
    ) -> Option<Report> {
        let first = *self.first.get_or_insert(now);
        let since = now - *self.reported.get_or_insert(now);
        let done = step.saturating_sub(1);
        if since < BETWEEN || done == 0 || step == steps {
            return None;
        }
        self.reported = Some(now);
        let each = (now - first) / done;
        Some(Report {
            step,
            steps,
            steps_per_second: 1.0 / each.as_secs_f64(),
            left: each * (steps - step),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_comes_every_ten_seconds_and_counts_from_the_first_step() {
        let (mut pace, start) = (Pace::new(), Instant::now());
        let mut at = |step, seconds| {
            let now = start + Duration::from_secs(seconds);
            pace.note(Progress { step, steps: 30 }, now)
        };
        // The first step took long; the others take two seconds each.
        assert_eq!(at(1, 100), None);
        assert_eq!(at(2, 102), None);
        let report = at(6, 110).expect("ten seconds");
        assert_eq!(
            report,
            Report {
                step: 6,
                steps: 30,
                steps_per_second: 0.5,
                left: Duration::from_secs(48),
            }
        );
        assert_eq!(at(7, 112), None);
        assert!(at(11, 120).is_some());
        assert_eq!(at(30, 158), None, "the end needs no forecast");
    }

    #[test]
    fn rounds_of_one_step_say_nothing() {
        let mut pace = Pace::new();
        let only = Progress { step: 1, steps: 1 };
        assert_eq!(pace.note(only, Instant::now()), None);
    }
}

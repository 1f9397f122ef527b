//! What sites tell about the model on their own patients: sums over the cohort, never a site's own.

use serde::{Deserialize, Serialize};

use super::{Plan, PlanError, Task, unsound};

/// Largest number of patients that a figure can count at one site.
const MOST_PATIENTS: f64 = 1e7;

/// Figures that each site adds, noised and charged, to what is summed. They are about the version
/// that a round starts from, on one record of each of the site's patients.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Report {
    /// ε that each figure of a round costs each site: above 0, at most 10. It is part of the plan's
    /// `privacy.epsilon`; with `noise_multiplier` it comes on top.
    pub epsilon: f64,
    /// Largest loss of a patient that counts: above 0, at most 1000. Default: 4.
    #[serde(default = "four")]
    pub loss_cap: f64,
    /// Rounds from one report to the next: 1 to 100 000. Default: 1. The first round reports.
    #[serde(default = "one")]
    pub every: u32,
}

fn four() -> f64 {
    4.0
}

fn one() -> u32 {
    1
}

/// A figure of a report: a sum over patients and how many they are, both with noise.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Figure {
    /// Patients whose class was predicted.
    Accuracy,
    /// Loss, at most this for each patient: cross-entropy in nats, or the squared error.
    Loss {
        /// Largest loss that counts.
        cap: f64,
    },
    /// Patients whose gradient is longer than this, the plan's clipping norm.
    Clipped {
        /// C, or where it starts.
        norm: f64,
    },
}

impl Figure {
    /// What it is called.
    pub fn name(self) -> &'static str {
        match self {
            Self::Accuracy => "accuracy",
            Self::Loss { .. } => "loss",
            Self::Clipped { .. } => "clipped",
        }
    }

    /// Largest magnitude of the sum and of the count at one site.
    pub fn largest(self) -> [f64; 2] {
        match self {
            Self::Accuracy | Self::Clipped { .. } => [MOST_PATIENTS, MOST_PATIENTS],
            Self::Loss { cap } => [cap * MOST_PATIENTS, MOST_PATIENTS],
        }
    }
}

impl Plan {
    /// The figures that sites add in a round; none unless the plan asks for a report of it.
    pub fn figures(&self, round: u32) -> Vec<Figure> {
        match self.report {
            Some(report) if (round.saturating_sub(1)).is_multiple_of(report.every) => {
                self.figures_of(report)
            }
            _ => Vec::new(),
        }
    }

    fn figures_of(&self, report: Report) -> Vec<Figure> {
        let accuracy = (self.task != Task::ImageRegression).then_some(Figure::Accuracy);
        let loss = Figure::Loss {
            cap: report.loss_cap,
        };
        let norm = self.privacy.clipping_norm;
        let clipped = norm.map(|norm| Figure::Clipped { norm });
        accuracy.into_iter().chain([loss]).chain(clipped).collect()
    }

    /// ε of all reports of the study together; 0 without.
    pub fn report_epsilon(&self) -> f64 {
        self.report.map_or(0.0, |report| {
            let figures = self.figures_of(report).len() as f64;
            report.epsilon * figures * f64::from(self.rounds.div_ceil(report.every))
        })
    }

    pub(super) fn check_report(&self) -> Result<(), PlanError> {
        let Some(Report {
            epsilon,
            loss_cap,
            every,
        }) = self.report
        else {
            return Ok(());
        };
        if !(epsilon > 0.0 && epsilon <= 10.0) {
            let reason = format!("must be above 0 and at most 10, found {epsilon}");
            return unsound("report.epsilon", reason);
        }
        if !(loss_cap > 0.0 && loss_cap <= 1000.0) {
            let reason = format!("must be above 0 and at most 1000, found {loss_cap}");
            return unsound("report.loss_cap", reason);
        }
        if !(1..=100_000).contains(&every) {
            return unsound(
                "report.every",
                format!("must be 1 to 100000, found {every}"),
            );
        }
        if !self.secure_aggregation {
            let reason = "needs secure aggregation: figures of a single site are shown to nobody";
            return unsound("report", reason);
        }
        if self.privacy.guarantee().is_none() {
            return unsound(
                "report",
                "needs privacy: its figures are noised and charged",
            );
        }
        match self.privacy.epsilon {
            Some(whole) if self.report_epsilon() >= whole => unsound(
                "report.epsilon",
                format!(
                    "all reports cost {} together, privacy.epsilon is {whole}: report less often or with \
                     less",
                    self.report_epsilon()
                ),
            ),
            _ => Ok(()),
        }
    }
}

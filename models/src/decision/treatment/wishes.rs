//! What the patient wants and does not want.

use serde::{Deserialize, Serialize};

use crate::decision::knowledge::{ConceptId, Grade, Severity};

/// What the patient wants and does not want. By default nothing is wished.
///
/// Refused drugs are left out. Every other wish that a plan breaks adds to its burden, because a patient
/// may prefer an injection to no treatment.
#[derive(Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Wishes {
    /// No injections or infusions.
    pub no_injections: bool,
    /// No drug more often a day than this; 1 for once a day.
    pub times_a_day_at_most: Option<f64>,
    /// No treatment that costs more than this.
    pub cost_at_most: Option<Grade>,
    /// No more new drugs than this.
    pub new_drugs_at_most: Option<u32>,
    /// Drugs and classes the patient does not take.
    pub refused: Vec<ConceptId>,
    /// Up to how bad a warning may be for a drug to be proposed all the same.
    pub tolerated: Tolerated,
}

/// Up to how bad a warning may be for a drug to be proposed all the same. Nothing allows what is
/// contraindicated or what the patient is allergic to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Tolerated {
    /// Worth knowing.
    Minor,
    /// Watch, or change the dose.
    #[default]
    Moderate,
    /// Avoid, unless there is a reason: somebody has one.
    Major,
}

impl Tolerated {
    pub(super) fn severity(self) -> Severity {
        match self {
            Self::Minor => Severity::Minor,
            Self::Moderate => Severity::Moderate,
            Self::Major => Severity::Major,
        }
    }
}

impl Wishes {
    /// How many wishes one step breaks, where its drug is given so many times a day.
    pub(super) fn broken_by(&self, route: Option<&str>, times_a_day: f64) -> u32 {
        let injection = self.no_injections && route.is_some_and(is_injection);
        let often = self
            .times_a_day_at_most
            .is_some_and(|most| times_a_day > most);
        u32::from(injection) + u32::from(often)
    }
}

/// Whether a route goes through a needle. Routes are words of the knowledge files, English or Chinese.
fn is_injection(route: &str) -> bool {
    const NEEDLES: [&str; 11] = [
        "intraven",
        "intramusc",
        "subcut",
        "intraderm",
        "inject",
        "infus",
        "静脉",
        "肌",
        "皮下",
        "注射",
        "输注",
    ];
    let route = route.to_lowercase();
    NEEDLES.iter().any(|word| route.contains(word))
}

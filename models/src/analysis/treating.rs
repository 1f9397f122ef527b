//! Which conditions of a differential are treated, and how.

use std::fmt;

use serde::Serialize;

use crate::{
    decision::{
        diagnosis::differential::Differential,
        facts::{Answer, Facts, Patient},
        knowledge::{ConceptId, Kind, Knowledge, Language},
        treatment::{CONDITIONS_LIMIT, Case, Options, Plans, Request},
    },
    text::{Span, Time},
};

/// What to do for the leading conditions. An aid to think with, not medical advice.
#[derive(Clone, PartialEq, Serialize)]
pub struct Treatment {
    /// Conditions that the note states or the differential leads with, and whether they are treated here.
    pub considered: Vec<Considered>,
    /// What can be done, condition by condition; none where nothing is treated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub options: Option<Options>,
    /// The best combinations, and why others are not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub plans: Option<Plans>,
    /// Why nothing could be worked out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
}

/// A condition that may be treated.
#[derive(Clone, PartialEq, Serialize)]
pub struct Considered {
    /// Which.
    pub condition: ConceptId,
    /// Why it is treated, or why not.
    pub because: Because,
}

/// Why a condition is treated, or why not.
#[derive(Clone, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Because {
    /// Treated: the facts state it as present.
    Stated {
        /// Where.
        spans: Vec<Span>,
    },
    /// Treated: its evidence is enough, and it is as probable as is asked for.
    Probable {
        /// How probable.
        probability: f64,
    },
    /// Not treated: it has enough evidence, and is not probable enough.
    NotProbableEnough {
        /// How probable.
        probability: f64,
        /// From which probability on it would be treated.
        treat_from: f64,
    },
    /// Not treated: it is said to be of the past.
    Past {
        /// Where.
        spans: Vec<Span>,
    },
    /// Not treated: more are treated already than are looked at together.
    TooMany,
}

impl Considered {
    /// Whether it is treated here.
    pub fn is_treated(&self) -> bool {
        matches!(
            self.because,
            Because::Stated { .. } | Because::Probable { .. }
        )
    }
}

/// Works out a treatment for the conditions that are stated, and for those that are probable.
pub(super) fn plan(
    facts: &Facts,
    differential: &Differential,
    knowledge: &Knowledge,
    treat_from: f64,
    language: Language,
) -> Treatment {
    let mut considered = considered(facts, differential, knowledge, treat_from);
    let treated = considered.iter_mut().filter(|it| it.is_treated());
    for late in treated.skip(CONDITIONS_LIMIT) {
        late.because = Because::TooMany;
    }
    let conditions: Vec<ConceptId> = considered
        .iter()
        .filter(|it| it.is_treated())
        .map(|it| it.condition.clone())
        .collect();
    let mut treatment = Treatment {
        considered,
        options: None,
        plans: None,
        refused: None,
    };
    if conditions.is_empty() {
        return treatment;
    }
    let mut request = Request::new(conditions);
    request.language = language;
    let worked_out = Case::new(knowledge, facts, &request).and_then(|case| {
        let workup = case.work_up()?;
        Ok((workup.options().clone(), workup.plans().clone()))
    });
    match worked_out {
        Ok((options, plans)) => {
            treatment.options = Some(options);
            treatment.plans = Some(plans);
        }
        Err(error) => treatment.refused = Some(error.to_string()),
    }
    treatment
}

fn considered(
    facts: &Facts,
    differential: &Differential,
    knowledge: &Knowledge,
    treat_from: f64,
) -> Vec<Considered> {
    let patient = Patient::new(facts, knowledge);
    let mut found: Vec<Considered> = Vec::new();
    let spans = |id: &ConceptId, holds: &dyn Fn(Time) -> bool| {
        let of = facts
            .facts
            .iter()
            .filter(|fact| fact.concept == *id && holds(fact.status.time));
        of.filter_map(|fact| fact.span).collect::<Vec<Span>>()
    };
    let of_patient = facts
        .facts
        .iter()
        .filter(|fact| fact.concept.kind() == Kind::Condition && fact.value.is_none());
    for fact in of_patient {
        let id = &fact.concept;
        if found.iter().any(|it| it.condition == *id) {
            continue;
        }
        let because = if patient.has(id) == Answer::Yes {
            Because::Stated {
                spans: spans(id, &|time| time == Time::Current),
            }
        } else if patient.has_had(id) == Answer::Yes {
            Because::Past {
                spans: spans(id, &|time| time == Time::Historical),
            }
        } else {
            continue;
        };
        found.push(Considered {
            condition: id.clone(),
            because,
        });
    }
    for candidate in differential.candidates.iter().filter(|it| it.is_supported) {
        let known = found
            .iter()
            .position(|it| it.condition == candidate.condition);
        if known.is_some_and(|at| found.get(at).is_some_and(Considered::is_treated)) {
            continue;
        }
        let probability = candidate.probability;
        let because = if probability >= treat_from {
            Because::Probable { probability }
        } else {
            Because::NotProbableEnough {
                probability,
                treat_from,
            }
        };
        match known.and_then(|at| found.get_mut(at)) {
            Some(past) if probability >= treat_from => past.because = because,
            Some(_) => {}
            None => found.push(Considered {
                condition: candidate.condition.clone(),
                because,
            }),
        }
    }
    found
}

/// Written by hand: what a patient has is patient data.
impl fmt::Debug for Treatment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Treatment({})", self.considered.len())
    }
}

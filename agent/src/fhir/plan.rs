//! A treatment plan that is proposed, in a form that can be written.

use consilium_models::decision::{
    knowledge::{ConceptId, Kind},
    treatment::Plan,
};

use super::report::{Code, Line, NotSayable, Prose};

/// Whose codes the concepts of the knowledge files are.
pub const CONCEPTS: &str = "urn:consilium:concept";

/// What could be done for a patient.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProposedPlan {
    /// How it is called.
    pub title: Line,
    /// What is done, in this order.
    pub activities: Vec<Activity>,
    /// What to be warned of, and what must be asked first.
    pub notes: Vec<Prose>,
}

/// One thing that is done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Activity {
    /// What kind of thing.
    pub kind: ActivityKind,
    /// The medicine or procedure.
    pub what: Code,
    /// How, in one line.
    pub says: Line,
    /// For what.
    pub reasons: Vec<Code>,
    /// Where that comes from.
    pub sources: Vec<Line>,
}

/// What kind of thing is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ActivityKind {
    /// A medicine is given.
    Medicine,
    /// Something else is done.
    Procedure,
}

impl ProposedPlan {
    /// A plan that was worked out from the knowledge files. `name` says how a concept is called.
    ///
    /// # Errors
    /// Texts of the knowledge files that cannot be written, as those with control characters.
    pub fn of(
        title: Line,
        plan: &Plan,
        name: impl Fn(&ConceptId) -> String,
    ) -> Result<Self, NotSayable> {
        let code = |id: &ConceptId| Code::new(CONCEPTS, id.as_str(), &name(id));
        let steps = plan.steps.iter().map(|step| {
            Ok(Activity {
                kind: match step.give.kind() {
                    Kind::Drug | Kind::Class => ActivityKind::Medicine,
                    Kind::Procedure | Kind::Finding | Kind::Condition | Kind::Test => {
                        ActivityKind::Procedure
                    }
                },
                what: code(&step.give)?,
                says: Line::new(&step.says)?,
                reasons: step.conditions.iter().map(code).collect::<Result<_, _>>()?,
                sources: step
                    .sources
                    .iter()
                    .map(|source| Line::new(source.as_str()))
                    .collect::<Result<_, _>>()?,
            })
        });
        let warnings = plan.warnings.iter().map(|warning| warning.says.clone());
        let doses = plan
            .differing_doses
            .iter()
            .map(|drug| format!("Different doses of {}: one must be agreed on.", name(drug)));
        let needs = plan
            .needs
            .iter()
            .map(|need| format!("Not known yet: {need}."));
        Ok(Self {
            title,
            activities: steps.collect::<Result<_, _>>()?,
            notes: warnings
                .chain(doses)
                .chain(needs)
                .map(|note| Prose::new(&note))
                .collect::<Result<_, _>>()?,
        })
    }
}

#[cfg(test)]
pub(super) mod tests {
    use consilium_models::decision::{
        facts::{Fact, Facts},
        knowledge::{Knowledge, Language},
        treatment::{Case, Request},
    };

    use super::*;

    /// A plan as the knowledge of the starter set has it.
    pub(in crate::fhir) fn plan() -> ProposedPlan {
        let knowledge = Knowledge::starter().expect("sound");
        let condition: ConceptId = "condition.pneumonia".parse().expect("an id");
        let mut facts = Facts {
            facts: vec![Fact::present(condition.clone())],
            allergies: Some(vec![]),
            drugs: Some(vec![]),
            ..Facts::default()
        };
        facts.demographics.age = Some(50.0.try_into().expect("an age"));
        let request = Request::new(vec![condition]);
        let case = Case::new(&knowledge, &facts, &request).expect("small");
        let workup = case.work_up().expect("small");
        let best = workup.plans().best.first().expect("something can be done");
        let name = |id: &ConceptId| {
            let concept = knowledge.concept(id);
            concept
                .map_or(id.as_str(), |it| it.name(Language::En))
                .to_owned()
        };
        let title = Line::new("Treatment of pneumonia").expect("sayable");
        ProposedPlan::of(title, best, name).expect("sayable")
    }

    #[test]
    fn a_worked_out_plan_keeps_its_steps_reasons_and_sources() {
        let plan = plan();
        let medicine = plan
            .activities
            .iter()
            .find(|activity| activity.kind == ActivityKind::Medicine)
            .expect("a medicine");
        assert!(medicine.what.code.as_str().starts_with("drug."));
        assert_eq!(medicine.reasons[0].name.as_str(), "pneumonia");
        assert!(!medicine.sources.is_empty() && !medicine.says.as_str().is_empty());
    }
}

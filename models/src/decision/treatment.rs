//! From diagnoses to treatment plans that can be argued with.
//!
//! Nothing is made up here. A [`Case`] takes treatments from the knowledge files, makes them out for one
//! patient, checks every drug, combines them, and says of each plan why it is among the best or why not.
//! Every dose, warning and treatment carries its source; what is not known is asked for, never guessed;
//! what the knowledge does not have is said to be unknown. An aid to think with, not medical advice.
//!
//! ```text
//! let case = Case::new(&knowledge, &facts, &request)?;      // facts, and kidney function computed from them
//! let workup = case.work_up()?;
//! workup.options(); workup.plans(); workup.evaluate(&drugs)?; workup.why_not(&treatments);
//! ```

mod bedside;
mod checks;
mod evaluation;
mod finding;
mod need;
mod option;
mod plan;
mod reason;
mod renal;
mod score;
mod search;
mod table;
mod wishes;

#[cfg(test)]
mod tests;

use std::{cmp::Reverse, collections::HashSet, fmt};

use serde::{Deserialize, Serialize};

use self::{
    bedside::Bedside, checks::Meetings, plan::Choices, score::Worth, search::Found, table::Table,
};
pub use self::{
    bedside::Citation,
    evaluation::{Evaluation, Item, Prescription, Treated, Verdict},
    finding::{Basis, Check, Finding},
    need::{Asked, Need, Purpose, Role, Unknown},
    option::{Amount, PlannedDose, PlannedStep, Standing, TreatmentOption},
    plan::{Because, LostPlan, Method, Plan, PlanStep, Plans, SearchReport},
    renal::Computed,
    score::{Score, Scores},
    wishes::{Tolerated, Wishes},
};
use super::{
    facts::{Answer, Fact, Facts, Origin, Patient},
    knowledge::{ConceptId, EntryId, Knowledge, Language},
};

/// Most conditions that are treated together.
pub const CONDITIONS_LIMIT: usize = 16;
/// Most possible treatments of one condition.
pub const OPTIONS_LIMIT: usize = 24;
/// Most different drugs in all possible treatments, and in a plan that is evaluated.
pub const DRUGS_LIMIT: usize = 400;
/// Most different drugs that a patient takes, and most allergies.
pub const TAKEN_LIMIT: usize = 200;

/// What is to be treated, and how the patient wants it.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// What to treat. The caller has decided that the patient has these.
    pub conditions: Vec<ConceptId>,
    /// What the patient wants and does not want.
    #[serde(default)]
    pub wishes: Wishes,
    /// The language of names; sentences of the knowledge files stay in their own.
    #[serde(default = "english")]
    pub language: Language,
}

/// More than can be searched in reasonable time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{what}: {found}; at most {limit} are looked at together")]
pub struct TooMany {
    /// Of what.
    pub what: &'static str,
    /// How many there are.
    pub found: usize,
    /// How many there may be.
    pub limit: usize,
}

/// One patient, what is to be treated, and what the knowledge files say.
pub struct Case<'a> {
    knowledge: &'a Knowledge,
    request: &'a Request,
    /// With what was computed, and with the conditions to treat.
    facts: Facts,
    computed: Vec<Computed>,
    /// What to treat: each once, without those of which a narrower one is treated.
    conditions: Vec<ConceptId>,
    /// What the patient takes, each once.
    taken: Option<Vec<ConceptId>>,
}

/// A case laid out, with what is looked up often at hand.
struct Desk<'a> {
    case: &'a Case<'a>,
    bedside: Bedside<'a>,
    meetings: Meetings<'a>,
}

/// Everything about the treatment of one case.
pub struct Workup<'a> {
    desk: Desk<'a>,
    options: Options,
    plans: Plans,
    found: Found,
}

/// What can be done, condition by condition.
#[derive(Clone, PartialEq, Serialize)]
pub struct Options {
    /// What was computed from the facts.
    pub computed: Vec<Computed>,
    /// What the knowledge files do not know. What concerns it could not be checked.
    pub unknown: Vec<Unknown>,
    /// Warnings about what the patient takes now, by itself.
    pub taken: Vec<Finding>,
    /// What can be done for each condition, in the order asked.
    pub conditions: Vec<ConditionOptions>,
}

/// What can be done for one condition.
#[derive(Clone, PartialEq, Serialize)]
pub struct ConditionOptions {
    /// Which.
    pub condition: ConceptId,
    /// How it is called.
    pub name: String,
    /// All treatments the knowledge files have for it: possible ones first, then first line, then most
    /// benefit.
    pub options: Vec<TreatmentOption>,
    /// Why nothing is proposed; none where something is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nothing: Option<Nothing>,
}

/// Why nothing is proposed for a condition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Nothing {
    /// The knowledge files do not have the condition.
    UnknownCondition,
    /// They have it, and no treatment for it.
    NoTreatment,
    /// No treatment is for this patient.
    NoneApplies,
    /// Every treatment that is for this patient is ruled out.
    AllRuledOut,
    /// Those that are not ruled out may be for this patient: something must be known first.
    NeedsFacts,
}

impl Nothing {
    /// In words.
    pub fn words(self) -> &'static str {
        match self {
            Self::UnknownCondition => {
                "the knowledge files do not know this condition: nothing is proposed"
            }
            Self::NoTreatment => {
                "the knowledge files have no treatment for it: nothing is proposed"
            }
            Self::NoneApplies => "no treatment is for this patient: nothing is proposed",
            Self::AllRuledOut => "every treatment is ruled out: nothing is proposed",
            Self::NeedsFacts => "facts are missing: nothing is proposed before they are known",
        }
    }
}

impl Request {
    /// Treats conditions, without wishes, with English names.
    pub fn new(conditions: Vec<ConceptId>) -> Self {
        Self {
            conditions,
            wishes: Wishes::default(),
            language: Language::En,
        }
    }
}

fn english() -> Language {
    Language::En
}

/// Written by hand: what a patient has and wants is patient data.
impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Request({})", self.conditions.len())
    }
}

impl<'a> Case<'a> {
    /// Reads the facts of a patient, and computes kidney function where it is not measured and can be.
    ///
    /// # Errors
    /// More conditions, drugs taken or allergies than are looked at together.
    pub fn new(
        knowledge: &'a Knowledge,
        facts: &Facts,
        request: &'a Request,
    ) -> Result<Self, TooMany> {
        let wanted = each_once(&request.conditions);
        within("conditions to treat", wanted.len(), CONDITIONS_LIMIT)?;
        let is_narrower =
            |one: &ConceptId, than: &ConceptId| one != than && knowledge.is_a(one, than);
        let conditions = wanted
            .iter()
            .filter(|wide| !wanted.iter().any(|it| is_narrower(it, wide)));
        let conditions: Vec<ConceptId> = conditions.cloned().collect();
        let taken = facts
            .drugs
            .as_ref()
            .map(|drugs| each_once(drugs.iter().map(|taken| &taken.drug)));
        within(
            "drugs taken",
            taken.as_ref().map_or(0, Vec::len),
            TAKEN_LIMIT,
        )?;
        within(
            "allergies",
            facts.allergies.as_ref().map_or(0, Vec::len),
            TAKEN_LIMIT,
        )?;
        within("drugs refused", request.wishes.refused.len(), TAKEN_LIMIT)?;

        let mut facts = facts.clone();
        let patient = Patient::new(&facts, knowledge);
        let unsaid = conditions
            .iter()
            .filter(|id| patient.has(id) != Answer::Yes);
        let mut added: Vec<Fact> = unsaid
            .map(|id| Fact {
                origin: Origin::Concluded,
                ..Fact::present(id.clone())
            })
            .collect();
        let (computed, values): (Vec<_>, Vec<_>) = renal::compute(&patient).into_iter().unzip();
        added.extend(values);
        facts.facts.extend(added);
        Ok(Self {
            knowledge,
            request,
            facts,
            computed,
            conditions,
            taken,
        })
    }

    /// Makes out every treatment, checks it, and searches for the best plans.
    ///
    /// # Errors
    /// More possible treatments or drugs than are looked at together.
    pub fn work_up(&self) -> Result<Workup<'_>, TooMany> {
        let desk = Desk {
            case: self,
            bedside: Bedside {
                patient: Patient::new(&self.facts, self.knowledge),
                wishes: &self.request.wishes,
                language: self.request.language,
            },
            meetings: Meetings::new(self.knowledge),
        };
        let (options, plans, found) = desk.look()?;
        Ok(Workup {
            desk,
            options,
            plans,
            found,
        })
    }
}

impl Desk<'_> {
    fn look(&self) -> Result<(Options, Plans, Found), TooMany> {
        let mut table = self.table();
        let conditions = self.case.conditions.iter();
        let options = Options {
            computed: self.case.computed.clone(),
            unknown: self.unknown(),
            taken: self.taken(),
            conditions: conditions
                .map(|condition| self.options_of(condition, &mut table))
                .collect::<Result<_, _>>()?,
        };
        let worths = self.worths(&options, &mut table);
        within("drugs in the treatments", table.len(), DRUGS_LIMIT)?;
        table.meet();
        let (plans, found) = Choices::new(&options, &table, worths).plans(&options);
        Ok((options, plans, found))
    }

    fn table(&self) -> Table<'_> {
        Table::new(&self.bedside, &self.meetings, self.case.taken.as_deref())
    }

    fn options_of(
        &self,
        condition: &ConceptId,
        table: &mut Table<'_>,
    ) -> Result<ConditionOptions, TooMany> {
        let knowledge = self.case.knowledge;
        let wider = knowledge.upwards(condition);
        let treatments = knowledge.treatments().iter();
        let mut options: Vec<TreatmentOption> = treatments
            .filter(|treatment| wider.contains(&&treatment.condition))
            .filter_map(|treatment| self.bedside.option(treatment, &self.meetings, table))
            .collect();
        options.sort_by_key(|option| (!option.is_possible(), option.line, Reverse(option.benefit)));
        let possible = options.iter().filter(|option| option.is_possible()).count();
        within(
            "possible treatments of one condition",
            possible,
            OPTIONS_LIMIT,
        )?;
        let any = |standing| options.iter().any(|option| option.standing == standing);
        let nothing = if possible > 0 {
            None
        } else if knowledge.concept(condition).is_none() {
            Some(Nothing::UnknownCondition)
        } else if options.is_empty() {
            Some(Nothing::NoTreatment)
        } else if any(Standing::Unclear) {
            Some(Nothing::NeedsFacts)
        } else if any(Standing::RuledOut) {
            Some(Nothing::AllRuledOut)
        } else {
            Some(Nothing::NoneApplies)
        };
        Ok(ConditionOptions {
            condition: condition.clone(),
            name: self.bedside.name(condition),
            options,
            nothing,
        })
    }

    /// What each possible option is worth, condition by condition.
    fn worths(&self, options: &Options, table: &mut Table<'_>) -> Vec<Worth> {
        let all = options.conditions.iter().flat_map(|of| &of.options);
        let possible = all.filter(|option| option.is_possible());
        possible
            .map(|option| table.worth(option, self.bedside.wishes))
            .collect()
    }

    /// What the knowledge does not have, of what the case is about.
    fn unknown(&self) -> Vec<Unknown> {
        let facts = self.bedside.patient.facts();
        let allergies = facts.allergies.iter().flatten().map(|allergy| &allergy.to);
        let all = [
            (Role::Condition, each_once(&self.case.conditions)),
            (Role::Taken, self.case.taken.clone().unwrap_or_default()),
            (Role::Refused, each_once(&self.bedside.wishes.refused)),
            (Role::Allergy, each_once(allergies)),
        ];
        let of = |(role, ids): (Role, Vec<ConceptId>)| {
            let unknown = ids
                .into_iter()
                .filter(|id| self.case.knowledge.concept(id).is_none());
            unknown.map(move |concept| Unknown { concept, role })
        };
        all.into_iter().flat_map(of).collect()
    }

    /// Warnings about what is taken now: by itself, and two by two.
    fn taken(&self) -> Vec<Finding> {
        let taken = self.case.taken.as_deref().unwrap_or_default();
        let mut table = Table::new(&self.bedside, &self.meetings, Some(&[]));
        let numbers: Vec<usize> = taken.iter().map(|drug| table.number(drug)).collect();
        table.meet();
        let mut findings = table.findings(&numbers);
        findings.retain(|finding| finding.check != Check::Refused);
        Finding::sort(&mut findings);
        findings
    }
}

impl Workup<'_> {
    /// What can be done, condition by condition.
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// The best combinations, and why the others are not.
    pub fn plans(&self) -> &Plans {
        &self.plans
    }

    /// Why a combination of treatments is not among the best: one for each condition that can be treated.
    /// None where it is among the best, is no such combination, or was not judged.
    pub fn why_not(&self, treatments: &[EntryId]) -> Option<Because> {
        let mut table = self.desk.table();
        let worths = self.desk.worths(&self.options, &mut table);
        table.meet();
        let choices = Choices::new(&self.options, &table, worths);
        choices.why_not(treatments, &self.options, &self.found)
    }

    /// Checks and scores a plan that somebody else made.
    ///
    /// # Errors
    /// More drugs than are looked at together.
    pub fn evaluate(&self, plan: &[Prescription]) -> Result<Evaluation, TooMany> {
        within("drugs in the plan", plan.len(), DRUGS_LIMIT)?;
        let mut table = self.desk.table();
        let bedside = &self.desk.bedside;
        Ok(evaluation::evaluate(
            plan,
            bedside,
            &self.options,
            &mut table,
            &self.found,
        ))
    }
}

fn each_once<'i>(ids: impl IntoIterator<Item = &'i ConceptId>) -> Vec<ConceptId> {
    let mut seen = HashSet::new();
    ids.into_iter()
        .filter(|id| seen.insert(*id))
        .cloned()
        .collect()
}

fn within(what: &'static str, found: usize, limit: usize) -> Result<(), TooMany> {
    if found > limit {
        Err(TooMany { what, found, limit })
    } else {
        Ok(())
    }
}

//! What the reasoning knows: concepts, likelihoods, rules, scores, treatments and what speaks against a
//! drug.
//!
//! Knowledge stands in TOML files that a clinician can read and write (`docs/knowledge.md`). A
//! [`Knowledge`] is made from checked files only, so whoever holds one need not check again: every
//! reference in it leads somewhere, every unit converts, everything that can be concluded or proposed
//! has a source.

mod check;
mod concept;
mod entry;
mod file;
mod problem;
mod starter;
mod treatment;
mod unit;
mod when;

use std::collections::{BTreeMap, HashMap, HashSet};

pub(crate) use self::unit::convert_mass;
pub use self::{
    concept::{
        BadConceptId, Concept, ConceptId, Conversion, Interval, Kind, Language, Level, Limit,
        Measure, Reference,
    },
    entry::{
        BadEntryId, BadLikelihood, Condition, Effect, EntryId, Header, Item, Likelihood,
        Presentation, Rule, Score, Source, Strength,
    },
    file::{FILE_LIMIT, FILES_LIMIT, KnowledgeFile, ReadError},
    problem::{Problem, Refused},
    starter::starter_files,
    treatment::{Contraindication, Dose, Grade, Interaction, Line, Severity, Step, Treatment},
    when::{BadWhen, Range, When},
};

/// Checked knowledge, from one file or several.
#[derive(Debug, Clone, Default)]
pub struct Knowledge {
    headers: Vec<Header>,
    sources: BTreeMap<EntryId, Source>,
    concepts: BTreeMap<ConceptId, Concept>,
    conditions: BTreeMap<ConceptId, Condition>,
    likelihoods: Vec<Likelihood>,
    rules: Vec<Rule>,
    scores: BTreeMap<EntryId, Score>,
    treatments: Vec<Treatment>,
    interactions: Vec<Interaction>,
    contraindications: Vec<Contraindication>,
    /// By concept: what is directly a kind of it.
    kinds: HashMap<ConceptId, Vec<ConceptId>>,
}

impl Knowledge {
    /// The starter set that comes with the program: an example, not medical advice.
    ///
    /// # Errors
    /// None in a released program: a test checks the set.
    pub fn starter() -> Result<Self, Refused> {
        Self::from_files(&starter_files())
    }

    /// Reads and checks files; a later one may add to an earlier one, or replace what it says it replaces.
    ///
    /// # Errors
    /// Everything that is wrong with them.
    pub fn from_files(files: &[KnowledgeFile]) -> Result<Self, Refused> {
        let (knowledge, problems) = check::check(files);
        if problems.is_empty() {
            Ok(knowledge)
        } else {
            Err(Refused { problems })
        }
    }

    /// Everything that is wrong with some files, in the order of the files.
    pub fn check(files: &[KnowledgeFile]) -> Vec<Problem> {
        check::check(files).1
    }

    /// The headers of the files, in their order: names, versions, licences, disclaimers.
    pub fn headers(&self) -> &[Header] {
        &self.headers
    }

    /// A publication.
    pub fn source(&self, id: &EntryId) -> Option<&Source> {
        self.sources.get(id)
    }

    /// All publications, by id.
    pub fn sources(&self) -> impl Iterator<Item = &Source> {
        self.sources.values()
    }

    /// A concept.
    pub fn concept(&self, id: &ConceptId) -> Option<&Concept> {
        self.concepts.get(id)
    }

    /// All concepts, by id.
    pub fn concepts(&self) -> impl Iterator<Item = &Concept> {
        self.concepts.values()
    }

    /// What finding things out costs, in units of one plain question: of each finding that the files give a cost,
    /// or whose deciding tests they give one, of which the dearest counts.
    pub fn costs(&self) -> BTreeMap<ConceptId, f64> {
        let of_tests = |concept: &Concept| {
            let leaves = concept.measured.iter().flat_map(When::leaves);
            let tests = leaves.filter_map(|leaf| self.concepts.get(leaf.concept()?));
            tests.filter_map(|test| test.cost).reduce(f64::max)
        };
        let costs = self.concepts.values().filter_map(|concept| {
            let cost = concept.cost.or_else(|| of_tests(concept))?;
            Some((concept.id.clone(), cost))
        });
        costs.collect()
    }

    /// Every name of every concept, with its language: what a dictionary looks for in a note.
    pub fn terms(&self) -> impl Iterator<Item = (&str, Language, &ConceptId)> {
        self.concepts.values().flat_map(|concept| {
            concept.names.iter().flat_map(move |(&language, names)| {
                names
                    .iter()
                    .map(move |name| (name.as_str(), language, &concept.id))
            })
        })
    }

    /// A condition that a diagnosis may name.
    pub fn condition(&self, id: &ConceptId) -> Option<&Condition> {
        self.conditions.get(id)
    }

    /// All conditions that a diagnosis may name, by id.
    pub fn conditions(&self) -> impl Iterator<Item = &Condition> {
        self.conditions.values()
    }

    /// What speaks for or against conditions, in figures.
    pub fn likelihoods(&self) -> &[Likelihood] {
        &self.likelihoods
    }

    /// All rules, in the order of the files. None needs what it concludes, not even over others.
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// A score.
    pub fn score(&self, id: &EntryId) -> Option<&Score> {
        self.scores.get(id)
    }

    /// All scores, by id.
    pub fn scores(&self) -> impl Iterator<Item = &Score> {
        self.scores.values()
    }

    /// All treatments, in the order of the files.
    pub fn treatments(&self) -> &[Treatment] {
        &self.treatments
    }

    /// All interactions.
    pub fn interactions(&self) -> &[Interaction] {
        &self.interactions
    }

    /// Interactions of two drugs, by themselves or by their classes.
    pub fn interactions_of<'a>(
        &'a self,
        one: &'a ConceptId,
        other: &'a ConceptId,
    ) -> impl Iterator<Item = &'a Interaction> {
        self.interactions.iter().filter(move |interaction| {
            let [a, b] = &interaction.between;
            (self.is_a(one, a) && self.is_a(other, b)) || (self.is_a(one, b) && self.is_a(other, a))
        })
    }

    /// All contraindications.
    pub fn contraindications(&self) -> &[Contraindication] {
        &self.contraindications
    }

    /// Contraindications of a drug, by itself or by its classes.
    pub fn contraindications_of<'a>(
        &'a self,
        drug: &'a ConceptId,
    ) -> impl Iterator<Item = &'a Contraindication> {
        self.contraindications
            .iter()
            .filter(move |contraindication| self.is_a(drug, &contraindication.of))
    }

    /// Whether one concept is the other or a kind of it, over any number of steps.
    pub fn is_a(&self, id: &ConceptId, wider: &ConceptId) -> bool {
        id == wider || self.upwards(id).contains(&wider)
    }

    /// The concept and everything it is a kind of.
    pub fn upwards<'a>(&'a self, id: &'a ConceptId) -> Vec<&'a ConceptId> {
        self.upwards_at_most(id, usize::MAX)
    }

    fn upwards_at_most<'a>(&'a self, id: &'a ConceptId, most: usize) -> Vec<&'a ConceptId> {
        let wider = |id: &ConceptId| self.concepts.get(id).map_or(&[][..], |found| &found.is_a);
        closure(id, wider, most)
    }

    /// The concept and everything that is a kind of it.
    pub fn downwards<'a>(&'a self, id: &'a ConceptId) -> Vec<&'a ConceptId> {
        let kinds = |id: &ConceptId| self.kinds.get(id).map_or(&[][..], Vec::as_slice);
        closure(id, kinds, usize::MAX)
    }
}

/// A concept and what is reached from it, each once, nearest first, and not many more than `most`.
fn closure<'a>(
    id: &'a ConceptId,
    next: impl Fn(&ConceptId) -> &'a [ConceptId],
    most: usize,
) -> Vec<&'a ConceptId> {
    let mut found = vec![id];
    let mut seen = HashSet::from([id]);
    let mut at = 0;
    while let Some(id) = found.get(at).copied()
        && found.len() < most
    {
        at += 1;
        found.extend(next(id).iter().filter(|id| seen.insert(id)));
    }
    found
}

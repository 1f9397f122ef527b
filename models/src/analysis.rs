//! The whole chain for one note: text, entities, what is said of them, values, facts, differential, plan.
//!
//! Nothing is invented: everything that comes out stands in the note, with its place there, or says which
//! input it came from: the facts that were handed in, a knowledge file, a terminology, a trained model.
//! An aid to think with, for research; not medical advice.
//!
//! ```text
//! let analyst = Analyst::new(&knowledge)?;                   // once
//! let analysis = analyst.analyse(&note, &Facts::default())?; // for every note
//! ```

mod facts;
mod lexicon;
mod measurements;
mod medicines;
mod mentions;
mod page;
mod person;
mod trained;
mod treating;

#[cfg(test)]
mod tests;

use std::fmt;

use serde::Serialize;

use self::{lexicon::Lexicon, mentions::SiteTerms, page::Page};
pub use self::{
    measurements::{Measured, Unread, Why},
    medicines::{Dose, DrugMention, DrugRole},
    mentions::{FoundBy, Link, Mention},
    page::Bound,
    person::{Detail, Particular},
    trained::{Trained, TrainedError},
    treating::{Because, Considered, Treatment},
};
use crate::{
    decision::{
        diagnosis::{
            diagnostician::{self, Diagnostician},
            differential::Differential,
            evidence_table::TableError,
            opinion::{ModelIdentity, Opinion, Probability},
        },
        facts::Facts,
        knowledge::{ConceptId, Header, Knowledge, Language},
    },
    text::{
        Cleaned, Contexts, SectionKind, Span, Status, dictionary::DictionaryError, language,
        terminology::Terminology,
    },
};

/// Most bytes of a note.
pub const NOTE_LIMIT: usize = 16 << 20;

/// Reads notes. Made once, used for every note.
pub struct Analyst<'k> {
    knowledge: &'k Knowledge,
    lexicon: Lexicon,
    terminologies: Vec<SiteTerms>,
    models: Vec<Trained>,
    contexts: Contexts,
    diagnostician: Diagnostician<'k>,
    settings: Settings,
}

/// How notes are analysed.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// From which probability on a condition that has enough evidence is treated though nobody stated it.
    pub treat_from: f64,
    /// Most questions to suggest.
    pub questions: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            treat_from: 0.5,
            questions: 5,
        }
    }
}

/// All that a note says, and what follows from it. Places are bytes of the note as it is written.
#[derive(Serialize)]
pub struct Analysis {
    /// What it was made with.
    pub provenance: Provenance,
    /// The language that names are given in: the note's.
    pub language: Language,
    /// The note in the form that was read.
    pub cleaned: String,
    /// Its sections, in its order.
    pub sections: Vec<Part>,
    /// Its sentences, in its order.
    pub sentences: Vec<Span>,
    /// What it mentions, in its order.
    pub entities: Vec<Mention>,
    /// Values of tests.
    pub measurements: Vec<Measured>,
    /// Drugs, with their doses.
    pub drugs: Vec<DrugMention>,
    /// Where it says who the patient is.
    pub details: Vec<Detail>,
    /// What belongs together.
    pub relations: Vec<Link>,
    /// What looks like a value or an allergy and was not taken for a fact.
    pub unread: Vec<Unread>,
    /// What trained models say of the whole note.
    pub classes: Vec<ClassSaid>,
    /// The facts, of the note and those that were handed in.
    pub facts: Facts,
    /// Mentions that are no facts of their own, because the same is said often enough before.
    pub repeated: usize,
    /// What the patient may have, and what to ask next.
    pub differential: Differential,
    /// What to do for the leading conditions.
    pub treatment: Treatment,
}

/// What an analysis was made with.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Provenance {
    /// The version of this program.
    pub program: &'static str,
    /// Knowledge files: names, versions, licences, disclaimers.
    pub knowledge: Vec<Header>,
    /// Lists of terms.
    pub terminologies: Vec<TermsUsed>,
    /// Trained models.
    pub models: Vec<ModelIdentity>,
}

/// A list of terms that a note was read with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TermsUsed {
    /// Who made it, and which version it is.
    pub source: String,
    /// On which terms it may be used.
    pub licence: String,
    /// How many different terms it has.
    pub terms: usize,
}

/// A section of a note.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Part {
    /// What it is about.
    pub kind: SectionKind,
    /// All of it.
    pub span: Span,
    /// Its heading; empty where there is none.
    pub heading: Span,
}

/// A class that a trained model gives a note.
#[derive(Clone, PartialEq, Serialize)]
pub struct ClassSaid {
    /// Which model.
    pub model: ModelIdentity,
    /// Which class.
    pub class: String,
    /// How probable it is, 0 to 1.
    pub probability: f32,
}

/// Why no analyst can be made.
#[derive(Debug, thiserror::Error)]
pub enum AnalystError {
    /// The names of the knowledge files cannot be looked for.
    #[error("the names of the knowledge files make no dictionary")]
    Names(#[source] DictionaryError),
    /// The terms of a terminology cannot be looked for.
    #[error("the terminology {source_name:?} makes no dictionary")]
    Terms {
        /// Which terminology, by its own words.
        source_name: String,
        /// Why.
        source: DictionaryError,
    },
}

/// Why a note could not be analysed. Holds nothing of what it says.
#[derive(Debug, thiserror::Error)]
pub enum AnalysisError {
    /// More bytes than a note may have.
    #[error("the note has {found} bytes; at most {NOTE_LIMIT} are read")]
    TooLong {
        /// Bytes there are.
        found: usize,
    },
    /// A trained model failed.
    #[error("the model {name}")]
    Model {
        /// Which.
        name: String,
        /// Why.
        source: TrainedError,
    },
    /// No differential could be made.
    #[error("making a differential")]
    Differential(#[from] TableError),
}

impl<'k> Analyst<'k> {
    /// With a knowledge base alone.
    ///
    /// # Errors
    /// Names that are too many or too long to be looked for.
    pub fn new(knowledge: &'k Knowledge) -> Result<Self, AnalystError> {
        Ok(Self {
            knowledge,
            lexicon: Lexicon::new(knowledge).map_err(AnalystError::Names)?,
            terminologies: Vec::new(),
            models: Vec::new(),
            contexts: Contexts::shipped(),
            diagnostician: diagnostician(knowledge, &Settings::default()),
            settings: Settings::default(),
        })
    }

    /// Looks for a site's own terms as well.
    ///
    /// # Errors
    /// Terms that are too many or too long to be looked for.
    pub fn with_terminology(mut self, terminology: Terminology) -> Result<Self, AnalystError> {
        let source_name = terminology.source.clone();
        let terms = SiteTerms::new(terminology);
        let terms = terms.map_err(|source| AnalystError::Terms {
            source_name,
            source,
        })?;
        self.terminologies.push(terms);
        Ok(self)
    }

    /// Hears a trained model as well.
    #[must_use]
    pub fn with_model(mut self, model: Trained) -> Self {
        self.models.push(model);
        self
    }

    /// With other settings.
    #[must_use]
    pub fn with_settings(mut self, settings: Settings) -> Self {
        self.diagnostician = diagnostician(self.knowledge, &settings);
        self.settings = settings;
        self
    }

    /// Reads a note. `known` are facts from elsewhere: they come behind those of the note, so that of two values
    /// of a test theirs counts, and say who the patient is where they do.
    ///
    /// # Errors
    /// A note of more than [`NOTE_LIMIT`] bytes, a trained model that fails.
    pub fn analyse(&self, note: &str, known: &Facts) -> Result<Analysis, AnalysisError> {
        if note.len() > NOTE_LIMIT {
            return Err(AnalysisError::TooLong { found: note.len() });
        }
        let cleaned = Cleaned::new(note);
        let page = Page::new(cleaned.text());
        let hits = self.lexicon.find(page.text);
        let places: Vec<Span> = hits.iter().map(|hit| hit.span).collect();
        let judged = self.contexts.judge_note(page.text, &places);
        let statuses: Vec<Status> = judged.iter().map(|judged| judged.status).collect();

        let (mut measurements, mut unread) =
            measurements::read(&page, &hits, &statuses, self.knowledge);
        let (person, mut details) = person::read(&page, &hits, &statuses);
        let mut medicines = medicines::read(&page, &hits, &statuses);
        unread.append(&mut medicines.unread);

        let mut entities = mentions::of_knowledge(&hits, judged, self.knowledge);
        mentions::of_terminologies(&mut entities, &self.terminologies, &page, &self.contexts);
        let home = |span: Span| cleaned.original(span);
        mentions::send_home(&mut entities, home);
        for measured in &mut measurements {
            measured.span = home(measured.span);
            measured.value_span = home(measured.value_span);
        }
        unread.iter_mut().for_each(|it| it.span = home(it.span));
        details.iter_mut().for_each(|it| it.span = home(it.span));
        medicines.send_home(home);

        let mut classes = Vec::new();
        for model in &self.models {
            let failed = |source| AnalysisError::Model {
                name: model.identity().name.clone(),
                source,
            };
            let tagged = model.tag(note).map_err(failed)?;
            let context = (&cleaned, &self.contexts);
            mentions::of_tagger(&mut entities, tagged, model.identity(), context);
            let said = model.classify(note).map_err(failed)?.into_iter();
            classes.extend(said.map(|(class, probability)| ClassSaid {
                model: model.identity().clone(),
                class,
                probability,
            }));
        }
        let mut relations = mentions::links(&measurements, &medicines.mentions);
        for model in &self.models {
            let related = mentions::related(&entities, note, model);
            relations.extend(related.map_err(|source| AnalysisError::Model {
                name: model.identity().name.clone(),
                source,
            })?);
        }

        let gathered = facts::gather(
            note,
            &entities,
            &measurements,
            &medicines,
            person,
            known,
            self.knowledge,
        );
        facts::level(&mut measurements, &gathered.facts, self.knowledge);
        let opinions = self.opinions(&classes);
        let differential = self.diagnostician.diagnose(&gathered.facts, &opinions)?;
        let language = language_of(page.text);
        let treatment = treating::plan(
            &gathered.facts,
            &differential,
            self.knowledge,
            self.settings.treat_from,
            language,
        );
        Ok(Analysis {
            provenance: self.provenance(),
            language,
            sections: page
                .sections
                .iter()
                .map(|section| Part {
                    kind: section.kind,
                    span: home(section.span),
                    heading: home(section.heading),
                })
                .collect(),
            sentences: page.sentences.iter().map(|&span| home(span)).collect(),
            entities,
            measurements,
            drugs: medicines.mentions,
            details,
            relations,
            unread,
            classes,
            facts: gathered.facts,
            repeated: gathered.repeated,
            differential,
            treatment,
            cleaned: cleaned.text().to_owned(),
        })
    }

    /// What it is made with.
    pub fn provenance(&self) -> Provenance {
        Provenance {
            program: env!("CARGO_PKG_VERSION"),
            knowledge: self.knowledge.headers().to_vec(),
            terminologies: self.terminologies.iter().map(SiteTerms::used).collect(),
            models: self
                .models
                .iter()
                .map(|model| model.identity().clone())
                .collect(),
        }
    }

    /// What models say of conditions: those that diagnose, and classes that are a condition's id.
    fn opinions(&self, classes: &[ClassSaid]) -> Vec<Opinion> {
        let diagnoses = |model: &ModelIdentity| {
            let mut models = self.models.iter();
            models.any(|known| known.identity() == model && known.diagnoses())
        };
        let heard = classes.iter().filter(|said| {
            let id: Option<ConceptId> = said.class.parse().ok();
            let is_condition = id.is_some_and(|id| self.knowledge.condition(&id).is_some());
            is_condition || diagnoses(&said.model)
        });
        heard
            .filter_map(|said| {
                Some(Opinion {
                    model: said.model.clone(),
                    condition: said.class.clone(),
                    // Means of probabilities may exceed 1 by rounding alone.
                    probability: Probability::try_from(f64::from(said.probability).min(1.0))
                        .ok()?,
                    path: Vec::new(),
                })
            })
            .collect()
    }
}

fn diagnostician<'k>(knowledge: &'k Knowledge, settings: &Settings) -> Diagnostician<'k> {
    let settings = diagnostician::Settings {
        questions: settings.questions,
        costs: knowledge.costs(),
        ..diagnostician::Settings::default()
    };
    Diagnostician::new(knowledge, settings)
}

fn language_of(text: &str) -> Language {
    match language::Language::of(text) {
        language::Language::English => Language::En,
        language::Language::Chinese => Language::Zh,
    }
}

/// Written by hand: dictionaries and weights help nobody.
impl fmt::Debug for Analyst<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Analyst({} models)", self.models.len())
    }
}

/// Written by hand: all of it is patient data.
impl fmt::Debug for Analysis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Analysis({} entities)", self.entities.len())
    }
}

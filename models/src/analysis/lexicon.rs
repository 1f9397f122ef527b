//! The words that the chain looks for, all at once: the names of the knowledge files, and words that say what
//! the number or the drug beside them is.

use crate::{
    decision::knowledge::{Concept, ConceptId, Kind, Knowledge},
    text::{
        Span,
        dictionary::{Dictionary, DictionaryError},
    },
};

/// All terms, ready to be looked for.
pub(super) struct Lexicon {
    terms: Dictionary<Term>,
}

/// What a term stands for.
#[derive(Clone)]
enum Term {
    /// A concept of the knowledge files.
    Concept {
        id: ConceptId,
        /// Whether it is a word of its own in small letters, so that it counts in capitals only: `CAP`.
        capitals: bool,
    },
    Cue(Cue),
}

/// What the words beside a term are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cue {
    /// Two pressures with a stroke between them.
    Pressure,
    /// A vital sign by its letter, with its unit: `P 90/min`.
    Temperature,
    Pulse,
    Breaths,
    Weight,
    Pregnancy,
    /// The patient is allergic to what follows.
    AllergicTo,
    /// The patient is allergic to what stands before.
    Allergy,
    NoAllergies,
    NoDrugs,
}

/// What was found, by its place in the text.
pub(super) struct Hit {
    pub(super) span: Span,
    pub(super) what: What,
}

/// What a hit is.
#[derive(Clone, PartialEq)]
pub(super) enum What {
    Concept(ConceptId),
    Cue(Cue),
}

const CUES: [(Cue, &[&str]); 10] = [
    (Cue::Pressure, &["blood pressure", "BP", "血压"]),
    (Cue::Temperature, &["T"]),
    (Cue::Pulse, &["P"]),
    (Cue::Breaths, &["R"]),
    (
        Cue::Weight,
        &["weight", "body weight", "weighs", "weighing", "wt", "体重"],
    ),
    (
        Cue::Pregnancy,
        &[
            "pregnant",
            "pregnancy",
            "gravid",
            "weeks' gestation",
            "weeks gestation",
            "怀孕",
            "妊娠",
            "孕妇",
        ],
    ),
    (
        Cue::AllergicTo,
        &[
            "allergic to",
            "allergy to",
            "allergies to",
            "anaphylaxis to",
            "anaphylactic to",
            "hypersensitive to",
            "hypersensitivity to",
            "allergic reaction to",
            "allergic reactions to",
        ],
    ),
    (
        Cue::Allergy,
        &[
            "allergy",
            "allergic",
            "allergies",
            "anaphylaxis",
            "allergic reaction",
            "过敏",
            "过敏史",
        ],
    ),
    (
        Cue::NoAllergies,
        &[
            "NKDA",
            "NKA",
            "no known drug allergies",
            "no known drug allergy",
            "no known allergies",
            "no known medication allergies",
            "no known medical allergies",
            "no drug allergies",
            "no allergies",
            "no medication allergies",
            "no known food or drug allergies",
            "no known drug or food allergies",
            "denies allergies",
            "denies any allergies",
            "denies drug allergies",
            "denies any drug allergies",
            "denies medication allergies",
            "not allergic to any drugs",
            "no history of drug allergy",
            "no history of drug allergies",
            "否认药物过敏史",
            "否认药物过敏",
            "否认过敏史",
            "无药物过敏史",
            "无药物过敏",
            "无过敏史",
            "否认食物及药物过敏史",
            "否认食物、药物过敏史",
            "否认食物药物过敏史",
            "否认药物及食物过敏史",
            "否认药物、食物过敏史",
            "否认药物食物过敏史",
            "否认食物及药物过敏",
            "否认药物及食物过敏",
            "否认药物、食物过敏",
            "否认食物、药物过敏",
            "无食物及药物过敏史",
            "无药物及食物过敏史",
            "无食物、药物过敏史",
            "无药物、食物过敏史",
            "无已知药物过敏",
            "无已知药物过敏史",
        ],
    ),
    (
        Cue::NoDrugs,
        &[
            "no current medications",
            "no regular medications",
            "no home medications",
            "takes no medications",
            "takes no medication",
            "on no medications",
            "not on any medications",
            "not taking any medications",
            "denies taking any medications",
            "无长期用药史",
            "否认长期用药史",
            "否认长期服药史",
            "无长期服药史",
            "未服用药物",
        ],
    ),
];

/// Letters of the longest name that counts in capitals only.
const SHORT: usize = 4;

impl Lexicon {
    pub(super) fn new(knowledge: &Knowledge) -> Result<Self, DictionaryError> {
        let names = knowledge.concepts().flat_map(|concept| {
            let names = concept.names.values().flatten();
            names.map(|name| {
                let id = concept.id.clone();
                let capitals = needs_capitals(concept, name);
                (name.as_str(), Term::Concept { id, capitals })
            })
        });
        let cues = CUES.into_iter();
        let cues =
            cues.flat_map(|(cue, words)| words.iter().map(move |word| (*word, Term::Cue(cue))));
        let terms = Dictionary::new(names.chain(cues))?.with_plurals();
        Ok(Self { terms })
    }

    /// Everything that a text mentions, in its order.
    pub(super) fn find(&self, text: &str) -> Vec<Hit> {
        let found = self.terms.find(text).into_iter();
        found
            .filter_map(|found| {
                let span = found.span;
                let said = span.of(text)?;
                let is_small = !said.contains(|c: char| c.is_ascii_uppercase());
                // A name of the files comes before a cue of the same words.
                let fits = |term: &Term| match term {
                    Term::Concept { id, capitals } => {
                        (!(*capitals && is_small)).then(|| What::Concept(id.clone()))
                    }
                    Term::Cue(Cue::Temperature | Cue::Pulse | Cue::Breaths) if is_small => None,
                    Term::Cue(cue) => Some(What::Cue(*cue)),
                };
                let what = found.values.iter().find_map(fits)?;
                Some(Hit { span, what })
            })
            .collect()
    }
}

/// Short names in capitals are words of their own in small letters: `CAP`, `HR`. Names of tests are
/// often written small; only the shortest are.
fn needs_capitals(concept: &Concept, name: &str) -> bool {
    let is_shouted = name
        .chars()
        .all(|c| c.is_ascii_uppercase() || c.is_ascii_digit());
    let longest = if concept.id.kind() == Kind::Test {
        2
    } else {
        SHORT
    };
    is_shouted && name.len() <= longest
}

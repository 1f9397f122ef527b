//! What a note mentions, by whom it was found, and what belongs together.

use serde::Serialize;

use super::{
    TermsUsed,
    lexicon::{Hit, What},
    measurements::Measured,
    medicines::DrugMention,
    page::Page,
    trained::{Tagged, Trained, TrainedError},
};
use crate::{
    decision::{
        diagnosis::opinion::ModelIdentity,
        knowledge::{ConceptId, Knowledge},
    },
    text::{
        Cleaned, Contexts, Entity, Judged, Note, Reason, Span, Status,
        dictionary::{Dictionary, DictionaryError},
        terminology::{self, Terminology},
    },
};

/// A mention of something in a note.
#[derive(Clone, PartialEq, Serialize)]
pub struct Mention {
    /// Where it stands.
    pub span: Span,
    /// What kind of thing: `finding`, `drug`; of a terminology its system, of a tagger its own kinds.
    pub kind: String,
    /// The concept of the knowledge files.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub concept: Option<ConceptId>,
    /// Its codes in other systems.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub codes: Vec<Code>,
    /// What is said of it.
    pub status: Status,
    /// What made it so.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub reasons: Vec<Reason>,
    /// Who found it; at least one.
    pub found_by: Vec<FoundBy>,
}

/// A code in a system.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Code {
    /// Which system: `icd-10`.
    pub system: String,
    /// The code.
    pub code: String,
}

/// Who found something.
#[derive(Clone, PartialEq, Serialize)]
#[serde(tag = "by", rename_all = "kebab-case")]
pub enum FoundBy {
    /// A name of the knowledge files.
    Knowledge,
    /// A term of a terminology.
    Terminology {
        /// Which, by its own words.
        source: String,
    },
    /// The way it is written: a number and a unit behind a name.
    Pattern,
    /// A trained model.
    Model {
        /// Which.
        name: String,
        /// How probable it holds it, 0 to 1.
        probability: f32,
    },
}

/// Two things of a note that belong together.
#[derive(Clone, PartialEq, Serialize)]
pub struct Link {
    /// How: `drug-dose`, `drug-frequency`, `test-value`, or a model's own kind.
    pub kind: String,
    /// Where the one stands.
    pub from: Span,
    /// Where the other stands.
    pub to: Span,
    /// Who says so.
    pub found_by: FoundBy,
}

/// A terminology, ready to be looked for.
pub(super) struct SiteTerms {
    terms: Dictionary<terminology::Concept>,
    used: TermsUsed,
}

impl SiteTerms {
    pub(super) fn new(terminology: Terminology) -> Result<Self, DictionaryError> {
        let (source, licence) = (terminology.source.clone(), terminology.licence.clone());
        let terms = terminology.into_dictionary()?;
        let used = TermsUsed {
            source,
            licence,
            terms: terms.len(),
        };
        Ok(Self { terms, used })
    }

    pub(super) fn used(&self) -> TermsUsed {
        self.used.clone()
    }
}

impl Mention {
    fn new(span: Span, kind: String, judged: Judged, found_by: FoundBy) -> Self {
        Self {
            span,
            kind,
            concept: None,
            codes: Vec::new(),
            status: judged.status,
            reasons: judged.reasons,
            found_by: vec![found_by],
        }
    }
}

/// Mentions of concepts of the knowledge files, in the places of the cleaned text.
pub(super) fn of_knowledge(
    hits: &[Hit],
    judged: Vec<Judged>,
    knowledge: &Knowledge,
) -> Vec<Mention> {
    let concepts = hits
        .iter()
        .zip(judged)
        .filter_map(|(hit, judged)| match &hit.what {
            What::Concept(id) => Some((hit.span, id, judged)),
            What::Cue(_) => None,
        });
    concepts
        .map(|(span, id, judged)| {
            let kind = id.kind().name().to_owned();
            let mut mention = Mention::new(span, kind, judged, FoundBy::Knowledge);
            let code = knowledge
                .concept(id)
                .and_then(|concept| concept.icd10.clone());
            mention.codes = code.into_iter().map(icd10).collect();
            mention.concept = Some(id.clone());
            mention
        })
        .collect()
}

fn icd10(code: String) -> Code {
    Code {
        system: "icd-10".into(),
        code,
    }
}

/// Adds what terminologies find: a code to the mention that stands in the same place, else a mention.
pub(super) fn of_terminologies(
    mentions: &mut Vec<Mention>,
    terminologies: &[SiteTerms],
    page: &Page<'_>,
    contexts: &Contexts,
) {
    for site in terminologies {
        let found = site.terms.find(page.text);
        let spans: Vec<Span> = found.iter().map(|found| found.span).collect();
        let judged = contexts.judge_note(page.text, &spans);
        let mut new = Vec::new();
        for (found, judged) in found.iter().zip(judged) {
            let found_by = FoundBy::Terminology {
                source: site.used.source.clone(),
            };
            let codes = found.values.iter().map(|concept| Code {
                system: concept.system.clone(),
                code: concept.code.clone(),
            });
            match same_place(mentions, found.span) {
                Some(mention) => {
                    mention.codes.extend(codes);
                    mention.found_by.push(found_by);
                }
                None => {
                    let kind = found.values.first().map(|concept| concept.system.clone());
                    let kind = kind.unwrap_or_default();
                    let mut mention = Mention::new(found.span, kind, judged, found_by);
                    mention.codes = codes.collect();
                    new.push(mention);
                }
            }
        }
        merge(mentions, new);
    }
}

/// Adds what a tagger finds, in the places of the note as it is written.
pub(super) fn of_tagger(
    mentions: &mut Vec<Mention>,
    tagged: Vec<Tagged>,
    model: &ModelIdentity,
    (cleaned, contexts): (&Cleaned, &Contexts),
) {
    let spans: Vec<Span> = tagged.iter().map(|it| cleaned.cleaned(it.span)).collect();
    let judged = contexts.judge_note(cleaned.text(), &spans);
    let mut new = Vec::new();
    for (tagged, judged) in tagged.into_iter().zip(judged) {
        let found_by = FoundBy::Model {
            name: model.name.clone(),
            probability: tagged.probability,
        };
        match same_place(mentions, tagged.span) {
            Some(mention) => mention.found_by.push(found_by),
            None => new.push(Mention::new(tagged.span, tagged.kind, judged, found_by)),
        }
    }
    send_home(&mut new, |span| span);
    for mention in &mut new {
        reasons_home(mention, |span| cleaned.original(span));
    }
    merge(mentions, new);
}

fn same_place(mentions: &mut [Mention], span: Span) -> Option<&mut Mention> {
    let first = mentions.partition_point(|mention| mention.span.start < span.start);
    let mut same = mentions.get_mut(first..)?.iter_mut();
    same.by_ref()
        .take_while(|mention| mention.span.start == span.start)
        .find(|mention| mention.span == span)
}

/// Puts new mentions between the others, by their places.
fn merge(mentions: &mut Vec<Mention>, new: Vec<Mention>) {
    mentions.extend(new);
    mentions.sort_by_key(|mention| (mention.span.start, mention.span.end));
}

/// Turns places of the cleaned text into places of the note as it is written.
pub(super) fn send_home(mentions: &mut [Mention], home: impl Fn(Span) -> Span) {
    for mention in mentions {
        mention.span = home(mention.span);
        reasons_home(mention, &home);
    }
}

fn reasons_home(mention: &mut Mention, home: impl Fn(Span) -> Span) {
    for reason in &mut mention.reasons {
        if let Reason::Cue { span, .. } = reason {
            *span = home(*span);
        }
    }
}

/// What belongs together by the way it is written.
pub(super) fn links(measured: &[Measured], drugs: &[DrugMention]) -> Vec<Link> {
    let link = |kind: &str, from: Span, to: Span| Link {
        kind: kind.into(),
        from,
        to,
        found_by: FoundBy::Pattern,
    };
    let values = measured
        .iter()
        .map(|it| link("test-value", it.span, it.value_span));
    let of_drugs = drugs.iter().flat_map(|drug| {
        let dose = drug
            .dose
            .iter()
            .map(|dose| link("drug-dose", drug.span, dose.span));
        let frequency = drug
            .frequency
            .iter()
            .map(|&often| link("drug-frequency", drug.span, often));
        dose.chain(frequency)
    });
    values.chain(of_drugs).collect()
}

/// What belongs together by a trained model. It sees mentions by the kinds of its own plan; drugs stand for
/// chemicals, findings and conditions for diseases.
pub(super) fn related(
    mentions: &[Mention],
    note: &str,
    model: &Trained,
) -> Result<Vec<Link>, TrainedError> {
    let entities = mentions.iter().map(|mention| Entity {
        kind: match mention.kind.as_str() {
            "drug" | "class" => "Chemical".into(),
            "finding" | "condition" => "Disease".into(),
            other => other.to_owned(),
        },
        span: mention.span,
        code: Some(match (&mention.concept, mention.codes.first()) {
            (Some(concept), _) => concept.to_string(),
            (None, Some(code)) => code.code.clone(),
            (None, None) => mention.span.of(note).unwrap_or_default().to_lowercase(),
        }),
    });
    let note = Note {
        text: note.to_owned(),
        entities: entities.collect(),
        ..Note::default()
    };
    let related = model.relate(&note)?.into_iter();
    let span = |at: usize| note.entities.get(at).map(|entity| entity.span);
    let links = related.filter_map(|related| {
        Some(Link {
            kind: related.kind,
            from: span(related.from)?,
            to: span(related.to)?,
            found_by: FoundBy::Model {
                name: model.identity().name.clone(),
                probability: related.probability,
            },
        })
    });
    Ok(links.collect())
}

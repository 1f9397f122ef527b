//! What a patient takes, how much of it, and what they must not be given.

use serde::Serialize;

use super::{
    lexicon::{Cue, Hit, What},
    measurements::{Unread, Why},
    page::Page,
    person::RELATIVES,
};
use crate::{
    decision::knowledge::{ConceptId, Kind},
    text::{Certainty, Experiencer, SectionKind, Span, Status, Time},
};

/// A drug that a note mentions, with what stands beside it.
#[derive(Clone, PartialEq, Serialize)]
pub struct DrugMention {
    /// Which drug or class.
    pub drug: ConceptId,
    /// Where it is named.
    pub span: Span,
    /// What it is mentioned as.
    pub role: DrugRole,
    /// One dose.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dose: Option<Dose>,
    /// Where it says how often.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub frequency: Option<Span>,
}

/// One dose as it is written.
#[derive(Clone, PartialEq, Serialize)]
pub struct Dose {
    /// Where it stands.
    pub span: Span,
    /// How much.
    pub number: f64,
    /// Of which unit.
    pub unit: String,
}

/// What a drug is mentioned as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum DrugRole {
    /// The patient takes it.
    Taken,
    /// The patient is allergic to it.
    Allergy,
    /// It is planned, was taken, is denied, or only named.
    Named,
}

/// What a note says of drugs.
pub(super) struct Medicines {
    pub(super) mentions: Vec<DrugMention>,
    /// Whether somebody said what the patient is allergic to, or that it is nothing.
    pub(super) allergies_known: bool,
    /// Whether somebody said what the patient takes, or that it is nothing.
    pub(super) drugs_known: bool,
    pub(super) unread: Vec<Unread>,
}

const MASSES: [&str; 16] = [
    "mg",
    "g",
    "mcg",
    "ug",
    "µg",
    "μg",
    "micrograms",
    "grams",
    "units",
    "unit",
    "iu",
    "ml",
    "meq",
    "毫克",
    "微克",
    "单位",
];

const FREQUENCIES: [&str; 68] = [
    "once daily",
    "once a day",
    "once per day",
    "twice daily",
    "twice a day",
    "twice per day",
    "three times daily",
    "three times a day",
    "four times daily",
    "four times a day",
    "2 times daily",
    "3 times daily",
    "2 times a day",
    "3 times a day",
    "every day",
    "every morning",
    "every evening",
    "every night",
    "every other day",
    "at night",
    "at bedtime",
    "in the morning",
    "once weekly",
    "once a week",
    "weekly",
    "daily",
    "nightly",
    "qd",
    "bid",
    "tid",
    "qid",
    "qhs",
    "q.d.",
    "b.i.d.",
    "t.i.d.",
    "q.i.d.",
    "q4h",
    "q6h",
    "q8h",
    "q12h",
    "q24h",
    "prn",
    "as needed",
    "every 4 hours",
    "every 6 hours",
    "every 8 hours",
    "every 12 hours",
    "every 24 hours",
    "每日一次",
    "每日1次",
    "每日两次",
    "每日2次",
    "每日三次",
    "每日3次",
    "每天一次",
    "每天1次",
    "每天两次",
    "每天2次",
    "每天三次",
    "每天3次",
    "一日一次",
    "一日两次",
    "一日三次",
    "1次/日",
    "2次/日",
    "3次/日",
    "每晚",
    "每晚一次",
];

/// Words before a drug that say it is taken now.
const TAKES: [&str; 18] = [
    "takes",
    "taking",
    "on",
    "continues",
    "continue",
    "continued",
    "continuing",
    "receives",
    "receiving",
    "uses",
    "using",
    "takes daily",
    "maintained",
    "口服",
    "服用",
    "长期",
    "规律",
    "目前用",
];

/// Words around a drug that say it is over, or not begun.
const NOT_NOW: [&str; 34] = [
    "stop",
    "stopped",
    "discontinue",
    "discontinued",
    "held",
    "hold",
    "off",
    "start",
    "started",
    "begin",
    "began",
    "will",
    "plan",
    "consider",
    "recommend",
    "recommended",
    "avoid",
    "prescribe",
    "prescribed",
    "given",
    "give",
    "gave",
    "received",
    "add",
    "initiate",
    "initiated",
    "停用",
    "停服",
    "给予",
    "予",
    "建议",
    "拟",
    "避免",
    "曾",
];

/// Words that a denial of allergies does not reach beyond.
const EXCEPT: [&str; 6] = [
    "except",
    "except for",
    "other than",
    "apart from",
    "besides",
    "除",
];

/// Bodies of a section of allergies that say there are none.
const NONE: [&str; 16] = [
    "none",
    "nil",
    "no",
    "none known",
    "no known",
    "negative",
    "denies",
    "none reported",
    "no known drug allergies",
    "无",
    "否认",
    "无特殊",
    "未发现",
    "不详无",
    "没有",
    "无殊",
];

/// Words between a drug and the dose or word that belongs to it.
const NEAR: usize = 8;

/// Bytes from a cue to the first drug of its list.
const LIST_GAP: usize = 24;

/// Bytes of the longest list.
const LONGEST_LIST: usize = 400;

/// Reads drugs and allergies. `statuses` follow the hits.
pub(super) fn read(page: &Page<'_>, hits: &[Hit], statuses: &[Status]) -> Medicines {
    let mut medicines = Medicines {
        mentions: Vec::new(),
        allergies_known: false,
        drugs_known: false,
        unread: Vec::new(),
    };
    let allergic = allergies(page, hits, statuses, &mut medicines);
    for (at, (hit, status)) in hits.iter().zip(statuses).enumerate() {
        if hit.what == What::Cue(Cue::NoDrugs) {
            medicines.drugs_known = true;
        }
        let Some(drug) = drug_of(hit) else {
            continue;
        };
        let stop = hits[at + 1..]
            .iter()
            .find(|next| drug_of(next).is_some())
            .map_or(page.text.len(), |next| next.span.start)
            .min(page.sentence_end(hit.span.start));
        let dose = dose(page, hit.span, stop);
        let frequency = frequency(page, hit.span, stop);
        let role = if allergic.contains(&at) {
            DrugRole::Allergy
        } else if is_taken(
            page,
            hit.span,
            *status,
            dose.is_some() || frequency.is_some(),
        ) {
            DrugRole::Taken
        } else {
            DrugRole::Named
        };
        match role {
            DrugRole::Taken => medicines.drugs_known = true,
            DrugRole::Allergy => medicines.allergies_known = true,
            DrugRole::Named => {}
        }
        medicines.mentions.push(DrugMention {
            drug: drug.clone(),
            span: hit.span,
            role,
            dose,
            frequency,
        });
    }
    medicines
}

fn drug_of(hit: &Hit) -> Option<&ConceptId> {
    match &hit.what {
        What::Concept(id) if matches!(id.kind(), Kind::Drug | Kind::Class) => Some(id),
        _ => None,
    }
}

/// The hits to which the patient is allergic, ascending.
fn allergies(
    page: &Page<'_>,
    hits: &[Hit],
    statuses: &[Status],
    medicines: &mut Medicines,
) -> std::collections::BTreeSet<usize> {
    let mut found = std::collections::BTreeSet::new();
    let of_patient = |at: usize| {
        statuses.get(at).is_some_and(|status| {
            status.experiencer == Experiencer::Patient && status.time != Time::Hypothetical
        })
    };
    let denied = |at: usize| {
        statuses
            .get(at)
            .is_some_and(|status| status.certainty == Certainty::Negated)
    };
    for (at, hit) in hits.iter().enumerate() {
        let start = hit.span.start;
        match hit.what {
            What::Cue(Cue::NoAllergies) if of_patient(at) => {
                medicines.allergies_known = true;
                // "No known allergies except penicillin."
                let first = page.from(hit.span.end);
                let except = (first..first + NEAR).find_map(|at| page.starts_with(at, &EXCEPT));
                let except = except.and_then(|next| page.words.get(next.checked_sub(1)?));
                if let Some(except) = except {
                    found.extend(list(page, hits, at, except.end));
                }
            }
            What::Cue(Cue::AllergicTo) if of_patient(at) && !denied(at) => {
                let named = list(page, hits, at, hit.span.end);
                if named.is_empty() {
                    let end = page.text.ceil_char_boundary(hit.span.end + 40);
                    let span = Span::new(start, end.min(page.sentence_end(start)));
                    medicines.unknown_allergy(span);
                }
                found.extend(named);
            }
            What::Cue(Cue::Allergy) if of_patient(at) && !denied(at) => {
                // Backwards: "penicillin and sulfa allergy", 青霉素过敏.
                let from = page.sentence_start(start);
                let mut edge = start;
                for (before, drug) in hits[..at].iter().enumerate().rev() {
                    let gap = page.between(drug.span.end.min(edge), edge);
                    if drug.span.start < from
                        || drug_of(drug).is_none()
                        || gap.len() > 5
                        || !joins(gap)
                    {
                        break;
                    }
                    if !denied(before) {
                        found.insert(before);
                    }
                    edge = drug.span.start;
                }
            }
            _ => {}
        }
    }
    for section in page
        .sections
        .iter()
        .filter(|it| it.kind == SectionKind::Allergies)
    {
        let first = hits.partition_point(|hit| hit.span.start < section.body.start);
        let inside = hits[first..]
            .iter()
            .enumerate()
            .take_while(|(_, hit)| hit.span.start < section.body.end);
        let inside: Vec<usize> = inside.map(|(at, _)| first + at).collect();
        let drugs = inside
            .iter()
            .copied()
            .filter(|&at| hits.get(at).is_some_and(|hit| drug_of(hit).is_some()));
        let drugs: Vec<usize> = drugs.filter(|&at| !denied(at)).collect();
        let said_none = inside.iter().any(|&at| {
            hits.get(at)
                .is_some_and(|hit| hit.what == What::Cue(Cue::NoAllergies))
        });
        let end = page.sentence_end(section.body.start).min(section.body.end);
        let line = page
            .between(section.body.start, end)
            .lines()
            .next()
            .unwrap_or_default();
        let words = line
            .trim_matches(|c: char| !c.is_alphanumeric())
            .to_lowercase();
        if NONE.contains(&words.as_str()) {
            medicines.allergies_known = true;
        } else if drugs.is_empty() && !said_none && !words.is_empty() {
            let end = section.body.start + line.trim_end().len();
            let most = page.text.ceil_char_boundary(section.body.start + 80);
            medicines.unknown_allergy(Span::new(section.body.start, end.min(most)));
        }
        found.extend(drugs);
    }
    found
}

impl Medicines {
    fn unknown_allergy(&mut self, span: Span) {
        self.unread.push(Unread {
            concept: None,
            span,
            why: Why::UnknownAllergy,
        });
    }
}

/// The drugs behind a cue, from a place on and as long as they follow each other in a list.
fn list(page: &Page<'_>, hits: &[Hit], cue: usize, from: usize) -> Vec<usize> {
    let end = page
        .sentence_end(from.saturating_sub(1))
        .min(from + LONGEST_LIST);
    let mut edge = from;
    let mut found = Vec::new();
    for (at, hit) in hits.iter().enumerate().skip(cue + 1) {
        if hit.span.start >= end {
            break;
        }
        if hit.span.start < from || drug_of(hit).is_none() {
            continue;
        }
        let gap = page.between(edge, hit.span.start);
        let follows = if found.is_empty() {
            gap.len() <= LIST_GAP
        } else {
            joins(gap)
        };
        if !follows {
            break;
        }
        found.push(at);
        edge = hit.span.end;
    }
    found
}

/// Whether the text between two things only joins them: commas, "and", what stands in brackets.
fn joins(gap: &str) -> bool {
    let mut depth = 0_usize;
    let outside: String = gap
        .chars()
        .filter(|c| {
            match c {
                '(' => depth += 1,
                ')' => depth = depth.saturating_sub(1),
                _ => return depth == 0,
            }
            false
        })
        .collect();
    let words =
        outside.split(|c: char| c.is_whitespace() || matches!(c, ',' | '、' | '/' | ';' | '，'));
    words
        .filter(|word| !word.is_empty())
        .all(|word| ["and", "or", "&", "及", "和", "与", "或", "drugs"].contains(&word))
}

fn is_taken(page: &Page<'_>, drug: Span, status: Status, has_dose: bool) -> bool {
    if status.experiencer != Experiencer::Patient
        || status.certainty == Certainty::Negated
        || status.time == Time::Hypothetical
    {
        return false;
    }
    let section = page.section(drug.start);
    if matches!(section, SectionKind::Plan | SectionKind::Allergies) {
        return false;
    }
    let at = page.from(drug.start);
    let start = page.sentence_start(drug.start);
    let around = at.saturating_sub(NEAR)..at;
    let mut before =
        around.filter(|&at| page.words.get(at).is_some_and(|word| word.start >= start));
    let is = |at: usize, words: &[&str]| page.starts_with(at, words).is_some();
    if before.clone().any(|at| is(at, &RELATIVES)) {
        return false;
    }
    let not_now = before.clone().any(|at| is(at, &NOT_NOW));
    if section == SectionKind::Medications {
        return !before.any(|at| is(at, &["stopped", "discontinued", "held", "停用", "停服"]));
    }
    let takes = before.any(|at| is(at, &TAKES));
    let was = status.time == Time::Historical && section != SectionKind::PastHistory;
    !not_now && !was && (takes || has_dose)
}

fn dose(page: &Page<'_>, drug: Span, stop: usize) -> Option<Dose> {
    let first = page.from(drug.end);
    (first..first + NEAR).find_map(|at| {
        let figure = page.figure(at).filter(|figure| figure.bound.is_none())?;
        let next = page.starts_with(figure.next, &MASSES)?;
        let unit = page.words.get(figure.next)?.start;
        let end = page.words.get(next.checked_sub(1)?)?.end;
        // A concentration is no dose: a level of the drug in blood.
        let is_level = page.word(next) == "/";
        (end <= stop && !is_level).then(|| Dose {
            span: Span::new(figure.span.start, end),
            number: figure.low,
            unit: page.between(unit, end).to_owned(),
        })
    })
}

fn frequency(page: &Page<'_>, drug: Span, stop: usize) -> Option<Span> {
    let first = page.from(drug.end);
    (first..first + 2 * NEAR).find_map(|at| {
        let next = page.starts_with(at, &FREQUENCIES)?;
        let end = page.words.get(next.checked_sub(1)?)?.end;
        let start = page.words.get(at)?.start;
        (end <= stop).then_some(Span::new(start, end))
    })
}

impl Medicines {
    /// Turns places of the cleaned text into places of the note as it is written.
    pub(super) fn send_home(&mut self, home: impl Fn(Span) -> Span) {
        for mention in &mut self.mentions {
            mention.span = home(mention.span);
            if let Some(dose) = &mut mention.dose {
                dose.span = home(dose.span);
            }
            mention.frequency = mention.frequency.map(&home);
        }
    }
}

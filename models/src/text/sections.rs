//! From a note to its sections, by their headings.
//!
//! A heading is one of a closed list (`sections/headings.toml`), English in any case or Chinese, at the start of a line and
//! followed by a colon, or alone in its line; in capitals or Chinese also within a line, since many
//! systems export a note as one paragraph. Other words in capitals with a colon are a heading too, of the
//! kind that their last words name or of none: they end the section before. Within a line it takes two.

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, HashMap},
    sync::LazyLock,
};

use serde::{Deserialize, Serialize};

use super::{Experiencer, Span, Status, Time, language::is_han};

/// Bytes in which a heading is looked for before its colon.
const LONGEST_HEADING: usize = 64;

/// Letters that unknown words in capitals need to be a heading; fewer are a measurement (`BP:`).
const SHORTEST_UNKNOWN: usize = 4;

/// Words of the longest unknown heading; more are a sentence in capitals.
const MOST_UNKNOWN_WORDS: usize = 5;

/// A section of a note. All sections of a note follow each other without a gap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Section {
    /// What it is about.
    pub kind: SectionKind,
    /// From the heading to where the next one starts.
    pub span: Span,
    /// The words of the heading; empty for what stands before the first one.
    pub heading: Span,
    /// What stands below the heading, behind its colon.
    pub body: Span,
}

/// What a section is about.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(rename_all = "kebab-case")]
pub enum SectionKind {
    /// Why the patient came.
    ChiefComplaint,
    /// How it came about.
    PresentIllness,
    /// Earlier illness, operations.
    PastHistory,
    /// Illness of relatives.
    FamilyHistory,
    /// Work, habits, home; also menses and births.
    SocialHistory,
    /// What the patient does not tolerate.
    Allergies,
    /// What the patient takes.
    Medications,
    /// What was seen, heard and felt, signs and complaints by organ.
    Examination,
    /// Laboratory, imaging, pathology.
    Tests,
    /// Diagnoses and what is thought of them.
    Assessment,
    /// What is to be done or was done.
    Plan,
    /// Something else, or without a heading.
    #[default]
    Other,
}

impl SectionKind {
    /// What a plain mention in such a section means.
    pub fn status(self) -> Status {
        let mut status = Status::default();
        match self {
            Self::FamilyHistory => status.experiencer = Experiencer::Family,
            Self::PastHistory => status.time = Time::Historical,
            _ => {}
        }
        status
    }

    /// The kind that a heading of the closed list names.
    fn of(heading: &str) -> Option<Self> {
        HEADINGS.get(heading.to_lowercase().as_str()).copied()
    }
}

/// The closed list of headings, in lower case.
static HEADINGS: LazyLock<HashMap<String, SectionKind>> = LazyLock::new(|| {
    // The file is part of the program, and tests read it: it does not fail later.
    let kinds: BTreeMap<SectionKind, Vec<String>> =
        toml::from_str(include_str!("sections/headings.toml")).expect("the list is sound");
    let headings = kinds.into_iter();
    headings
        .flat_map(|(kind, list)| list.into_iter().map(move |heading| (heading, kind)))
        .collect()
});

/// The sections of a note, in its order: all of the note, without gaps or overlaps.
pub fn sections(text: &str) -> Vec<Section> {
    let mut headings = Vec::new();
    let mut start = 0;
    for line in text.split_inclusive('\n') {
        Line { text: line, start }.find(&mut headings);
        start += line.len();
    }
    let ends = headings.iter().skip(1).map(|heading| heading.start);
    let ends: Vec<usize> = ends.chain([text.len()]).collect();
    let first = headings.first().map_or(text.len(), |heading| heading.start);
    let untitled = (first > 0).then_some(Section {
        kind: SectionKind::Other,
        span: Span::new(0, first),
        heading: Span::new(0, 0),
        body: Span::new(0, first),
    });
    let titled = headings.iter().zip(ends).map(|(heading, end)| Section {
        kind: heading.kind,
        span: Span::new(heading.start, end),
        heading: heading.words,
        body: Span::new(heading.body.min(end), end),
    });
    untitled.into_iter().chain(titled).collect()
}

/// A heading and the places, in the note, where its section and what stands below it start.
struct Heading {
    kind: SectionKind,
    start: usize,
    words: Span,
    body: usize,
}

/// A line, and where it starts in the note.
struct Line<'a> {
    text: &'a str,
    start: usize,
}

impl Line<'_> {
    /// Finds the headings in it.
    fn find(&self, headings: &mut Vec<Heading>) {
        if let Some((words, kind)) = self.alone().or_else(|| self.before_a_space()) {
            headings.push(self.heading(kind, 0, words));
            return;
        }
        let mut from = 0;
        for (colon, _) in self.text.match_indices([':', '：', '】']) {
            if let Some((start, words, kind)) = self.before_a_colon(from, colon) {
                headings.push(self.heading(kind, start, words));
                from = colon;
            }
        }
    }

    fn heading(&self, kind: SectionKind, start: usize, words: Span) -> Heading {
        let behind = self.text.get(words.end..).unwrap_or_default();
        let body = behind.trim_start_matches(|c: char| {
            c.is_whitespace() || matches!(c, ':' | '：' | ',' | '】' | ']' | '*')
        });
        Heading {
            kind,
            start: self.start + start,
            words: Span::new(self.start + words.start, self.start + words.end),
            body: self.start + self.text.len() - body.len(),
        }
    }

    /// A heading that is all of the line.
    fn alone(&self) -> Option<(Span, SectionKind)> {
        let words = bare(self.text, Span::new(0, self.text.len()));
        Some((words, kind_of(words.of(self.text)?)?))
    }

    /// A Chinese heading at the start of the line, with a space instead of a colon.
    fn before_a_space(&self) -> Option<(Span, SectionKind)> {
        let words = bare(self.text, Span::new(0, self.text.len()));
        let first = words.of(self.text)?.split_whitespace().next()?;
        let kind = first.starts_with(is_han).then(|| kind_of(first))??;
        Some((Span::new(words.start, words.start + first.len()), kind))
    }

    /// A heading between `from` and a colon, and where its section starts.
    fn before_a_colon(&self, from: usize, colon: usize) -> Option<(usize, Span, SectionKind)> {
        let window = self
            .text
            .ceil_char_boundary(colon.saturating_sub(LONGEST_HEADING))
            .max(from);
        let ahead = self.text.get(window..colon)?;
        let behind_mark = ahead.rfind(['.', ';', ',', '。', '；', '，', ':', '：']);
        let mark =
            behind_mark.and_then(|at| Some(at + ahead.get(at..)?.chars().next()?.len_utf8()));
        let segment = Span::new(window + mark.unwrap_or(0), colon);
        let words = bare(self.text, segment);
        let title = words.of(self.text)?;
        let is_first = self
            .text
            .get(..words.start)?
            .chars()
            .take(LONGEST_HEADING)
            .all(is_decoration)
            && words.start <= LONGEST_HEADING;
        let stands_out = |title: &str| is_shouted(title) || title.contains(is_han);
        if let Some(kind) = kind_of(title).filter(|_| is_first || stands_out(title)) {
            return Some((if is_first { 0 } else { words.start }, words, kind));
        }
        let words_in = title.split_whitespace().count();
        let whole = is_shouted(title) && words_in <= MOST_UNKNOWN_WORDS;
        let spaces = title.match_indices(' ').map(|(at, _)| at + 1);
        for at in spaces {
            let tail = title.get(at..)?;
            if let Some(kind) = kind_of(tail).filter(|_| stands_out(tail)) {
                let start = if whole { words.start } else { words.start + at };
                return Some((start, Span::new(start, words.end), kind));
            }
        }
        let letters = title.bytes().filter(u8::is_ascii_uppercase).count();
        let is_unknown = whole && letters >= SHORTEST_UNKNOWN && (is_first || words_in > 1);
        let start = if is_first { 0 } else { words.start };
        is_unknown.then_some((start, words, SectionKind::Other))
    }
}

fn kind_of(title: &str) -> Option<SectionKind> {
    (title.len() <= LONGEST_HEADING).then(|| SectionKind::of(title))?
}

/// Whether letters are capitals, and nothing is there but letters, spaces and a few signs.
fn is_shouted(title: &str) -> bool {
    let fits = |c: char| c.is_ascii_uppercase() || matches!(c, ' ' | '/' | '&' | '-');
    !title.is_empty() && title.chars().all(fits)
}

/// What may stand around a heading: numbers of a list, brackets, signs of Markdown.
fn is_decoration(c: char) -> bool {
    c.is_whitespace()
        || c.is_ascii_digit()
        || matches!(
            c,
            '#' | '*' | '-' | '=' | '_' | '•' | '.' | '、' | '(' | ')' | '（' | '）'
        )
        || matches!(c, '[' | ']' | '【' | '】' | '<' | '>' | ':' | '：')
        || matches!(
            c,
            '一' | '二' | '三' | '四' | '五' | '六' | '七' | '八' | '九' | '十'
        )
}

/// A range of a line without the decoration around it.
fn bare(line: &str, span: Span) -> Span {
    let text = span.of(line).unwrap_or_default();
    let behind = text.trim_start_matches(is_decoration);
    let start = span.end - behind.len();
    Span::new(start, start + behind.trim_end_matches(is_decoration).len())
}

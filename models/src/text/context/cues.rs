//! The words that the rules know, from their files to their places in a sentence.

use std::{collections::BTreeMap, fmt};

use aho_corasick::AhoCorasick;
use serde::Deserialize;

use super::{Axis, Direction, Meaning};
use crate::text::{Span, language::is_cjk};

/// Why a file of cues cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CueError {
    /// Not in the format.
    #[error("the cues are not in their format")]
    Format(#[from] toml::de::Error),
    /// Which of the two is meant?
    #[error("the cue {0:?} is listed twice")]
    Twice(String),
    /// It would be found everywhere.
    #[error("a cue has no words")]
    Empty,
    /// A `<name>` that the file does not define.
    #[error("the cue {0:?} uses words that are not defined")]
    Undefined(String),
    /// More than can be looked for at once.
    #[error("the cues are too many")]
    TooMany(#[from] aho_corasick::BuildError),
}

/// All words that the rules know, looked for at once.
#[derive(Clone)]
pub(super) struct Cues {
    automaton: AhoCorasick,
    /// What each pattern of the automaton does.
    roles: Vec<Role>,
}

impl fmt::Debug for Cues {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cues({})", self.roles.len())
    }
}

/// What words do to mentions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Role {
    /// They say something of what they reach.
    Cue(Cue),
    /// They look like a cue or hold one, and say nothing.
    Pseudo,
    /// They end the reach of cues.
    End(Ends),
}

/// Words that say something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cue {
    pub(super) means: Meaning,
    scope: Scope,
    pub(super) reach: Reach,
}

impl Cue {
    /// Whether it reaches mentions that lie in this direction.
    pub(super) fn looks(self, direction: Direction) -> bool {
        match self.scope {
            Scope::Forward => direction == Direction::Forward,
            Scope::Backward => direction == Direction::Backward,
            Scope::Both => true,
        }
    }
}

/// On which side of a cue the mentions stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Scope {
    Forward,
    Backward,
    Both,
}

/// How far a cue reaches at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Reach {
    /// Through the sentence.
    #[default]
    Sentence,
    /// To the next comma.
    Phrase,
}

/// What words end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ends(Vec<Ending>);

impl Ends {
    /// Whether they end every reach of this axis.
    pub(super) fn of(&self, axis: Axis) -> bool {
        self.0.contains(&match axis {
            Axis::Certainty => Ending::Certainty,
            Axis::Experiencer => Ending::Experiencer,
            Axis::Time => Ending::Time,
        })
    }

    /// Whether they end a phrase.
    pub(super) fn phrases(&self) -> bool {
        self.0.contains(&Ending::Phrase)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Ending {
    Certainty,
    Experiencer,
    Time,
    Phrase,
}

/// Words of a sentence, and what they do.
#[derive(Debug)]
pub(super) struct Mark<'a> {
    pub(super) span: Span,
    pub(super) role: &'a Role,
}

/// A file of cues, as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    /// Words that stand for a `<name>` in the terms below.
    #[serde(default)]
    words: BTreeMap<String, Vec<String>>,
    #[serde(default)]
    cue: Vec<CueEntry>,
    #[serde(default)]
    pseudo: Vec<PseudoEntry>,
    #[serde(default)]
    end: Vec<EndEntry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CueEntry {
    means: Meaning,
    scope: Scope,
    #[serde(default)]
    reach: Reach,
    terms: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PseudoEntry {
    terms: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EndEntry {
    of: Vec<Ending>,
    terms: Vec<String>,
}

impl File {
    /// Every entry with its role.
    fn entries(self) -> impl Iterator<Item = (Role, Vec<String>)> {
        let cue = |entry: CueEntry| {
            let CueEntry {
                means,
                scope,
                reach,
                terms,
            } = entry;
            (
                Role::Cue(Cue {
                    means,
                    scope,
                    reach,
                }),
                terms,
            )
        };
        let pseudo = |entry: PseudoEntry| (Role::Pseudo, entry.terms);
        let end = |entry: EndEntry| (Role::End(Ends(entry.of)), entry.terms);
        let cues = self.cue.into_iter().map(cue);
        cues.chain(self.pseudo.into_iter().map(pseudo))
            .chain(self.end.into_iter().map(end))
    }
}

impl Cues {
    pub(super) fn from_toml(files: &[&str]) -> Result<Self, CueError> {
        let mut known = BTreeMap::new();
        for file in files {
            let mut file: File = toml::from_str(file)?;
            let words = std::mem::take(&mut file.words);
            for (role, terms) in file.entries() {
                for term in terms {
                    for term in spelled_out(&term, &words)? {
                        let term = folded(&term);
                        if term.trim().is_empty() {
                            return Err(CueError::Empty);
                        }
                        if known.insert(term.clone(), role.clone()).is_some() {
                            return Err(CueError::Twice(term));
                        }
                    }
                }
            }
        }
        let automaton = AhoCorasick::new(known.keys())?;
        let roles = known.into_values().collect();
        Ok(Self { automaton, roles })
    }

    /// The cues of a sentence in its order, without those that touch a mention. Where two overlap, the
    /// one that holds the other counts, else the pseudo-cue, else the one that starts first.
    pub(super) fn find(&self, text: &str, sentence: Span, mentions: &[Span]) -> Vec<Mark<'_>> {
        let inside = folded(sentence.of(text).unwrap_or_default());
        let covered = union(mentions);
        let mut marks: Vec<Mark<'_>> = self
            .automaton
            .find_overlapping_iter(&inside)
            .filter(|found| is_whole(&inside, found.start(), found.end()))
            .filter_map(|found| {
                let (start, end) = (sentence.start + found.start(), sentence.start + found.end());
                let role = self.roles.get(found.pattern().as_usize())?;
                Some(Mark {
                    span: Span::new(start, end),
                    role,
                })
            })
            .filter(|mark| {
                let next = covered.partition_point(|mention| mention.end <= mark.span.start);
                covered
                    .get(next)
                    .is_none_or(|mention| !mention.overlaps(mark.span))
            })
            .collect();
        marks.sort_by_key(|mark| (mark.span.start, usize::MAX - mark.span.end));
        let mut apart: Vec<Mark<'_>> = Vec::with_capacity(marks.len());
        for mark in marks {
            match apart.last_mut() {
                Some(last) if mark.span.start < last.span.end => {
                    if mark.span.end > last.span.end && *mark.role == Role::Pseudo {
                        *last = mark;
                    }
                }
                _ => apart.push(mark),
            }
        }
        apart
    }
}

/// A term with each word that may stand for its `<name>`; a term without a name as it is.
fn spelled_out(term: &str, words: &BTreeMap<String, Vec<String>>) -> Result<Vec<String>, CueError> {
    let Some((ahead, rest)) = term.split_once('<') else {
        return Ok(vec![term.to_owned()]);
    };
    let undefined = || CueError::Undefined(term.to_owned());
    let (name, behind) = rest.split_once('>').ok_or_else(undefined)?;
    // At most one name in a term, so this ends and cannot grow beyond the file.
    if behind.contains('<') {
        return Err(undefined());
    }
    let words = words.get(name).ok_or_else(undefined)?;
    Ok(words
        .iter()
        .map(|word| format!("{ahead}{word}{behind}"))
        .collect())
}

/// In lower case and with spaces for line ends; every byte keeps its place.
fn folded(text: &str) -> String {
    let lower = text.to_ascii_lowercase();
    lower.replace(['\n', '\r', '\t'], " ")
}

/// Whether a range of a text starts and ends between words. CJK characters are words by themselves.
fn is_whole(text: &str, start: usize, end: usize) -> bool {
    let is_letter = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() && !is_cjk(c));
    let (ahead, rest) = text.split_at(start);
    let (inside, behind) = rest.split_at(end - start);
    let mut letters = inside.chars();
    let first = letters.next();
    let last = letters.next_back().or(first);
    !(is_letter(ahead.chars().next_back()) && is_letter(first)
        || is_letter(last) && is_letter(behind.chars().next()))
}

/// What ranges cover together, in order and apart.
fn union(spans: &[Span]) -> Vec<Span> {
    let mut sorted: Vec<Span> = spans
        .iter()
        .copied()
        .filter(|span| !span.is_empty())
        .collect();
    sorted.sort();
    let mut union: Vec<Span> = Vec::with_capacity(sorted.len());
    for span in sorted {
        match union.last_mut() {
            Some(last) if span.start <= last.end => last.end = last.end.max(span.end),
            _ => union.push(span),
        }
    }
    union
}

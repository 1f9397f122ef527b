//! Finds the terms of a list in a text: all of them in one pass, however many there are.
//!
//! Terms and text are compared by one form: NFKC, lower case, no accents, and every run of white space
//! and hyphens as one space, so that `Sjögren's  syndrome` and `SJOGREN’S SYNDROME` are the same term.
//! A term of a script that separates words counts only as whole words; Chinese has no such bounds. Of
//! terms that overlap, the leftmost is taken, of those that start together the longest.

mod folded;

use std::{collections::BTreeMap, fmt};

use aho_corasick::{AhoCorasick, MatchKind};
use unicode_normalization::char::is_combining_mark;

use self::folded::Folded;
use super::{Span, language::is_cjk};

/// Most terms in a dictionary.
pub const TERM_LIMIT: usize = 4_000_000;

/// Most bytes of a term in the form that is compared.
pub const TERM_BYTES_LIMIT: usize = 512;

/// Terms, each with what it stands for. A term that is there twice stands for both.
pub struct Dictionary<T> {
    automaton: AhoCorasick,
    /// What the terms stand for, in the order of the terms.
    values: Vec<T>,
    /// Where the values of each term start; one more at the end.
    starts: Vec<usize>,
    plurals: bool,
}

/// A term in a text.
pub struct Match<'a, T> {
    /// Where it stands.
    pub span: Span,
    /// What it stands for; at least one.
    pub values: &'a [T],
}

/// Why something is no term.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TermError {
    /// Nothing is left of it in the form that is compared.
    #[error("a term needs a letter, a digit or a sign other than a hyphen")]
    Empty,
    /// It has more than [`TERM_BYTES_LIMIT`] bytes.
    #[error("a term has at most {TERM_BYTES_LIMIT} bytes")]
    TooLong,
}

/// Why terms make no dictionary.
#[derive(Debug, thiserror::Error)]
pub enum DictionaryError {
    /// One of them is no term.
    #[error("term {at} of the list")]
    Term {
        /// Which one, from 1.
        at: usize,
        /// Why.
        source: TermError,
    },
    /// There are more than [`TERM_LIMIT`].
    #[error("a dictionary has at most {TERM_LIMIT} terms")]
    TooMany,
    /// Together they are too large to be searched for.
    #[error("the terms are too many or too long")]
    TooLarge(#[from] aho_corasick::BuildError),
}

impl<T> Dictionary<T> {
    /// Makes a dictionary of terms and what they stand for.
    ///
    /// # Errors
    /// A term is empty or too long, or there are too many.
    pub fn new<S: AsRef<str>>(
        terms: impl IntoIterator<Item = (S, T)>,
    ) -> Result<Self, DictionaryError> {
        let mut entries: Vec<(String, T)> = Vec::new();
        for (at, (term, value)) in (1..).zip(terms) {
            let key = key(term.as_ref()).map_err(|source| DictionaryError::Term { at, source })?;
            if at > TERM_LIMIT {
                return Err(DictionaryError::TooMany);
            }
            entries.push((key, value));
        }
        // Stable: the values of a term stay in the order of the list.
        entries.sort_by(|a, b| a.0.cmp(&b.0));
        let (mut keys, mut starts) = (Vec::new(), Vec::new());
        let mut values = Vec::with_capacity(entries.len());
        for (key, value) in entries {
            if keys.last() != Some(&key) {
                keys.push(key);
                starts.push(values.len());
            }
            values.push(value);
        }
        starts.push(values.len());
        let automaton = AhoCorasick::builder()
            .match_kind(MatchKind::Standard)
            .build(keys)?;
        Ok(Self {
            automaton,
            values,
            starts,
            plurals: false,
        })
    }

    /// Takes a term with an `s` behind it as the term: `seizures` for `seizure`.
    pub fn with_plurals(mut self) -> Self {
        self.plurals = true;
        self
    }

    /// Number of different terms.
    pub fn len(&self) -> usize {
        self.automaton.patterns_len()
    }

    /// Whether it has no term.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The terms of a text, in its order; none overlaps another. Takes time by the length of the text
    /// and by how many terms end at one place.
    pub fn find(&self, text: &str) -> Vec<Match<'_, T>> {
        let folded = Folded::new(text);
        // Matches come by their ends, so that of two with one start the later is the longer. At most
        // one is kept for each start: terms within terms cost time, not memory.
        let mut longest = BTreeMap::new();
        for found in self.automaton.find_overlapping_iter(&folded.text) {
            if let Some(end) = self.whole_words(&folded.text, found.start(), found.end()) {
                longest.insert(found.start(), (end, found.pattern().as_usize()));
            }
        }
        let mut free = 0;
        let mut matches = Vec::new();
        for (start, (end, pattern)) in longest {
            let span = folded.original(start, end);
            if span.start < free {
                continue;
            }
            free = span.end;
            let bounds = self.starts.get(pattern).zip(self.starts.get(pattern + 1));
            let values = bounds.and_then(|(&from, &to)| self.values.get(from..to));
            matches.extend(values.map(|values| Match { span, values }));
        }
        matches
    }

    /// Where a match ends if it does not cut a word: behind its plural's `s`, where that is allowed.
    fn whole_words(&self, text: &str, start: usize, end: usize) -> Option<usize> {
        let (before, term, after) = (text.get(..start)?, text.get(start..end)?, text.get(end..)?);
        let first = term.chars().next()?;
        if before
            .chars()
            .next_back()
            .is_some_and(|last| joins(last, first))
        {
            return None;
        }
        let last = term.chars().next_back()?;
        let mut following = after.chars();
        match following.next() {
            Some('s') if self.plurals && last.is_ascii_lowercase() && last != 's' => {
                let cut = following.next().is_some_and(|next| joins('s', next));
                (!cut).then_some(end + 1)
            }
            Some(next) if joins(last, next) => None,
            _ => Some(end),
        }
    }
}

/// Written by hand: ten thousands of terms help nobody.
impl<T> fmt::Debug for Dictionary<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Dictionary({} terms)", self.len())
    }
}

/// Written by hand: what was found in a note is patient data.
impl<T> fmt::Debug for Match<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Match({:?})", self.span)
    }
}

/// A term in the form that is compared.
///
/// # Errors
/// Nothing is left of it, or too much.
pub(super) fn key(term: &str) -> Result<String, TermError> {
    // No form is that much shorter than what it is of.
    if term.len() > 4 * TERM_BYTES_LIMIT {
        return Err(TermError::TooLong);
    }
    let folded = Folded::new(term).text;
    match folded.trim_matches(' ') {
        "" => Err(TermError::Empty),
        key if key.len() > TERM_BYTES_LIMIT => Err(TermError::TooLong),
        key => Ok(key.to_owned()),
    }
}

/// Whether two neighbours belong to one word: letters, digits and marks of a script with spaces.
fn joins(a: char, b: char) -> bool {
    let of_word = |c: char| (c.is_alphanumeric() || is_combining_mark(c)) && !is_cjk(c);
    of_word(a) && of_word(b)
}

#[cfg(test)]
mod tests;

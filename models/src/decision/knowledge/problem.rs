//! What is wrong with a knowledge file, and what to do.

use std::fmt;

use serde::Serialize;

/// One thing that is wrong with a knowledge file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// In which file.
    pub file: String,
    /// On which line, counted from 1; none where the whole file is meant.
    pub line: Option<usize>,
    /// Which entry, by its section and id.
    pub id: Option<String>,
    /// What is wrong.
    pub what: String,
    /// What to do.
    pub fix: String,
}

/// Files that hold no sound knowledge.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Refused {
    /// Everything that is wrong, at least one thing.
    pub problems: Vec<Problem>,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        if let Some(id) = &self.id {
            write!(f, ": {id}")?;
        }
        write!(f, ": {}; {}", self.what, self.fix)
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.problems.len();
        let s = if count == 1 { "" } else { "s" };
        write!(f, "the knowledge files have {count} problem{s}")?;
        match self.problems.first() {
            Some(first) => write!(f, "; the first: {first}"),
            None => Ok(()),
        }
    }
}

/// Most names that are compared with a word: to look through more takes too long for a hint.
const NAMES_LIMIT: usize = 5000;

/// Of some names the one that somebody who wrote `word` may have meant.
pub(super) fn near<'a>(word: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let most = (word.chars().count() / 3).clamp(1, 3);
    names
        .into_iter()
        .take(NAMES_LIMIT)
        .filter(|name| name.len().abs_diff(word.len()) <= 4 * most)
        .map(|name| (distance(word, name), name))
        .filter(|(distance, _)| *distance <= most)
        .min()
        .map(|(_, name)| name)
}

/// How many letters must be put in, left out, or changed to come from one word to the other (Levenshtein).
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().take(100).collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (at, letter) in one.chars().take(100).enumerate() {
        let mut diagonal = at;
        let mut left = at + 1;
        for (cell, same) in row
            .iter_mut()
            .skip(1)
            .zip(other.iter().map(|it| *it == letter))
        {
            let here = (diagonal + usize::from(!same)).min(left + 1).min(*cell + 1);
            diagonal = std::mem::replace(cell, here);
            left = here;
        }
        if let Some(first) = row.first_mut() {
            *first = at + 1;
        }
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_pen_finds_what_was_meant() {
        let names = ["finding.fever", "finding.cough", "drug.metformin"];
        assert_eq!(near("finding.fevr", names), Some("finding.fever"));
        assert_eq!(near("drug.metfromin", names), Some("drug.metformin"));
        assert_eq!(near("test.crp", names), None);
    }

    #[test]
    fn distances_are_those_of_the_textbook() {
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("发热", "发烧"), 1);
        assert_eq!(distance("same", "same"), 0);
    }
}

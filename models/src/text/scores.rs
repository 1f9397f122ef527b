//! How well entities are found: strict, so a mention counts only with its exact bytes and kind.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

use super::Span;

/// Mentions or relations, counted; parts and sites can be merged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Matches {
    /// Found and marked.
    pub right: u64,
    /// Found.
    pub found: u64,
    /// Marked by people.
    pub marked: u64,
}

impl Matches {
    /// Counts what was found in one note against what people marked there.
    pub fn of(found: &HashSet<(Span, &str)>, marked: &HashSet<(Span, &str)>) -> Self {
        Self {
            right: found.intersection(marked).count() as u64,
            found: found.len() as u64,
            marked: marked.len() as u64,
        }
    }

    /// Counts one thing that was looked for.
    pub fn count(&mut self, is_found: bool, is_marked: bool) {
        self.right += u64::from(is_found && is_marked);
        self.found += u64::from(is_found);
        self.marked += u64::from(is_marked);
    }

    /// Adds the counts of another part.
    pub fn merge(&mut self, other: Self) {
        self.right += other.right;
        self.found += other.found;
        self.marked += other.marked;
    }

    /// Share of what was found that is right; 0 where nothing was found.
    pub fn precision(self) -> f64 {
        share(self.right, self.found)
    }

    /// Share of what is marked that was found; 0 where nothing is marked.
    pub fn recall(self) -> f64 {
        share(self.right, self.marked)
    }

    /// Harmonic mean of precision and recall.
    pub fn f1(self) -> f64 {
        share(2 * self.right, self.found + self.marked)
    }
}

fn share(part: u64, whole: u64) -> f64 {
    match whole {
        0 => 0.0,
        _ => part as f64 / whole as f64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_exact_mention_of_the_right_kind_counts() {
        let at = |start, kind| (Span::new(start, start + 5), kind);
        let marked = HashSet::from([at(0, "Disease"), at(10, "Disease"), at(20, "Chemical")]);
        let found = HashSet::from([at(0, "Disease"), at(11, "Disease"), at(20, "Disease")]);
        let mut matches = Matches::of(&found, &marked);
        assert_eq!((matches.right, matches.found, matches.marked), (1, 3, 3));
        assert!((matches.f1() - 1.0 / 3.0).abs() < 1e-12);
        matches.count(true, true);
        matches.merge(Matches::default());
        assert!((matches.precision() - 0.5).abs() < 1e-12);
        assert!((matches.recall() - 0.5).abs() < 1e-12);
        assert_eq!(Matches::default().f1(), 0.0);
    }
}

//! The site's own lists: names of its patients and staff, its places, numbers it knows.

use std::{fmt, ops::Range};

use aho_corasick::{AhoCorasick, MatchKind};

use super::{Found, Kind, folding::Folded};

/// What a site knows to be identifying. Terms may have several words, in any script; case does not
/// count.
#[derive(Clone, Default)]
pub struct Dictionaries {
    /// Names of patients, relatives and staff, whole or in parts.
    pub names: Vec<String>,
    /// Towns, streets, wards, institutions.
    pub places: Vec<String>,
    /// Numbers and codes.
    pub identifiers: Vec<String>,
}

impl fmt::Debug for Dictionaries {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dictionaries")
            .field("names", &self.names.len())
            .field("places", &self.places.len())
            .field("identifiers", &self.identifiers.len())
            .finish()
    }
}

/// A site's list that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DictionaryError {
    /// It would be found all over every text.
    #[error("entry {entry} of the {list} has fewer than two letters or digits")]
    TooShort {
        /// Which list: names, places or identifiers.
        list: &'static str,
        /// Which entry, from 0.
        entry: usize,
    },
    /// More than can be searched for at once.
    #[error("the dictionaries are too large")]
    TooLarge,
}

/// The terms, ready to be looked for.
#[derive(Clone)]
pub(super) struct Terms {
    automaton: AhoCorasick,
    kinds: Vec<Kind>,
}

impl Terms {
    pub(super) fn new(dictionaries: &Dictionaries) -> Result<Self, DictionaryError> {
        let lists = [
            ("names", Kind::Name, &dictionaries.names),
            ("places", Kind::Place, &dictionaries.places),
            ("identifiers", Kind::Number, &dictionaries.identifiers),
        ];
        let mut terms = Vec::new();
        let mut kinds = Vec::new();
        for (list, kind, entries) in lists {
            for (entry, term) in entries.iter().enumerate() {
                let term = Folded::new(term.trim()).text().to_owned();
                if term.chars().filter(|c| c.is_alphanumeric()).count() < 2 {
                    return Err(DictionaryError::TooShort { list, entry });
                }
                // The automaton ignores the case of ASCII alone; these are for the other letters.
                let mut spellings = vec![term.to_lowercase(), term.to_uppercase(), term];
                spellings.dedup();
                kinds.extend(spellings.iter().map(|_| kind));
                terms.append(&mut spellings);
            }
        }
        let automaton = AhoCorasick::builder()
            .ascii_case_insensitive(true)
            .match_kind(MatchKind::Standard)
            .build(terms)
            .map_err(|_| DictionaryError::TooLarge)?;
        Ok(Self { automaton, kinds })
    }

    /// Adds the terms that stand as words of their own.
    pub(super) fn find(&self, text: &str, found: &mut Vec<Found>) {
        for hit in self.automaton.find_overlapping_iter(text) {
            let Some(&kind) = self.kinds.get(hit.pattern().as_usize()) else {
                continue;
            };
            if is_whole(text, &hit.range()) {
                found.push(Found {
                    kind,
                    range: hit.range(),
                });
            }
        }
    }
}

/// Whether no letter or digit goes on beyond the ends; Chinese has no such ends.
fn is_whole(text: &str, range: &Range<usize>) -> bool {
    let goes_on = |inside: Option<char>, outside: Option<char>| match (inside, outside) {
        (Some(inside), Some(outside)) => joins(inside) && joins(outside),
        _ => false,
    };
    let (before, term, after) = match (
        text.get(..range.start),
        text.get(range.clone()),
        text.get(range.end..),
    ) {
        (Some(before), Some(term), Some(after)) => (before, term, after),
        _ => return false,
    };
    !goes_on(term.chars().next(), before.chars().next_back())
        && !goes_on(term.chars().next_back(), after.chars().next())
}

fn joins(c: char) -> bool {
    c.is_alphanumeric() && !super::chinese::is_han(c)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(dictionaries: &Dictionaries, text: &str) -> Vec<(Kind, String)> {
        let mut found = Vec::new();
        let terms = Terms::new(dictionaries).expect("terms");
        terms.find(text, &mut found);
        super::super::disjoint(found)
            .into_iter()
            .map(|found| (found.kind, text[found.range].to_owned()))
            .collect()
    }

    #[test]
    fn terms_are_found_as_whole_words_in_any_case_and_script() {
        let dictionaries = Dictionaries {
            names: ["Ana", "ana belen", "Núñez", "欧阳小虎"]
                .map(String::from)
                .into(),
            places: vec!["Ward 7".to_owned()],
            identifiers: vec!["K7-X".to_owned()],
        };
        assert_eq!(
            found(
                &dictionaries,
                "ANA BELEN NÚÑEZ on ward 7, not ward 70; banana; k7-x; 患者欧阳小虎诉"
            ),
            [
                (Kind::Name, "ANA BELEN".to_owned()),
                (Kind::Name, "NÚÑEZ".to_owned()),
                (Kind::Place, "ward 7".to_owned()),
                (Kind::Number, "k7-x".to_owned()),
                (Kind::Name, "欧阳小虎".to_owned()),
            ]
        );
        assert_eq!(
            format!("{dictionaries:?}"),
            "Dictionaries { names: 4, places: 1, identifiers: 1 }"
        );
    }

    #[test]
    fn a_term_of_one_letter_is_refused_by_its_place_alone() {
        let dictionaries = Dictionaries {
            places: vec!["Ward 7".to_owned(), " x ".to_owned()],
            ..Dictionaries::default()
        };
        let error = Terms::new(&dictionaries).err();
        assert_eq!(
            error,
            Some(DictionaryError::TooShort {
                list: "places",
                entry: 1
            })
        );
    }
}

//! What a set of notes holds, for the steward. True counts: they stay at the site.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
};

use consilium_models::text::Entity;
use consilium_proto::Digest;
use serde::Serialize;

use super::ReadNote;

/// Groups of equal notes that the text form names.
const NAMED: usize = 20;

/// What a set of notes holds.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Overview {
    /// Number of notes.
    pub notes: usize,
    /// Their lengths.
    pub characters: Lengths,
    /// Notes of each label.
    pub labels: BTreeMap<String, usize>,
    /// Notes without label.
    pub unlabelled: usize,
    /// Entities of each kind.
    pub entities: BTreeMap<String, usize>,
    /// Relations of each kind.
    pub relations: BTreeMap<String, usize>,
    /// Entities that share text with another one of their note.
    pub overlapping: usize,
    /// Mentions that the source lists without saying where they stand; they are left out.
    pub unplaced: usize,
    /// Groups of notes with the same letters and digits, by their places.
    pub duplicates: Vec<Vec<String>>,
}

/// Lengths of notes, in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Lengths {
    /// Of the shortest.
    pub min: usize,
    /// Half of the notes are no longer.
    pub median: usize,
    /// Of the longest.
    pub max: usize,
}

/// Counts what notes hold.
pub fn describe<'a>(notes: impl IntoIterator<Item = &'a ReadNote>) -> Overview {
    let mut overview = Overview::default();
    let mut lengths = Vec::new();
    let mut places: HashMap<Digest, Vec<&ReadNote>> = HashMap::new();
    for read in notes {
        let note = &read.note;
        overview.notes += 1;
        lengths.push(note.text.chars().count());
        places
            .entry(fingerprint(&note.text))
            .or_default()
            .push(read);
        match &note.label {
            Some(label) => *overview.labels.entry(label.clone()).or_default() += 1,
            None => overview.unlabelled += 1,
        }
        for entity in &note.entities {
            *overview.entities.entry(entity.kind.clone()).or_default() += 1;
        }
        for relation in &note.relations {
            *overview.relations.entry(relation.kind.clone()).or_default() += 1;
        }
        overview.overlapping += overlapping(&note.entities);
        overview.unplaced += read.unplaced;
    }
    overview.characters = Lengths::of(lengths);
    overview.duplicates = places
        .into_values()
        .filter(|group| group.len() > 1)
        .map(|group| group.iter().map(|read| read.place.to_string()).collect())
        .collect();
    overview.duplicates.sort();
    overview
}

impl Lengths {
    fn of(mut lengths: Vec<usize>) -> Self {
        lengths.sort_unstable();
        let at = |place: usize| lengths.get(place).copied().unwrap_or_default();
        let last = lengths.len().saturating_sub(1);
        Self {
            min: at(0),
            median: at(last / 2),
            max: at(last),
        }
    }
}

/// Same for two texts whose letters and digits are the same, whatever stands between them.
fn fingerprint(text: &str) -> Digest {
    let letters: String = text
        .chars()
        .filter(|c| c.is_alphanumeric())
        .flat_map(char::to_lowercase)
        .collect();
    // A text without any is itself.
    let content = if letters.is_empty() { text } else { &letters };
    Digest::plain(content.as_bytes())
}

/// How many of the entities, in the order of their first byte, share text with another one.
fn overlapping(entities: &[Entity]) -> usize {
    let mut covered = 0;
    let mut count = 0;
    for (at, entity) in entities.iter().enumerate() {
        let next = entities.get(at + 1);
        let meets_next = next.is_some_and(|next| next.span.start < entity.span.end);
        count += usize::from(entity.span.start < covered || meets_next);
        covered = covered.max(entity.span.end);
    }
    count
}

impl fmt::Display for Overview {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Lengths { min, median, max } = self.characters;
        writeln!(
            f,
            "{} notes of {min} to {max} characters, half of them up to {median}",
            self.notes
        )?;
        // Labels are with those of other records, after the label map.
        for (what, counts) in [("entity", &self.entities), ("relation", &self.relations)] {
            for (name, count) in counts {
                writeln!(f, "  {what} {name}: {count}")?;
            }
        }
        for (count, what) in [
            (self.unlabelled, "notes without label"),
            (self.overlapping, "entities that overlap another"),
            (self.unplaced, "entities without offsets, left out"),
        ] {
            if count > 0 {
                writeln!(f, "{count} {what}")?;
            }
        }
        if !self.duplicates.is_empty() {
            writeln!(f, "same letters and digits: {}", self.duplicates.len())?;
        }
        for group in self.duplicates.iter().take(NAMED) {
            writeln!(f, "  {}", group.join(" = "))?;
        }
        if self.duplicates.len() > NAMED {
            writeln!(f, "  and {} more", self.duplicates.len() - NAMED)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use consilium_models::text::Span;

    use super::*;
    use crate::data::notes::{Fields, json_lines};

    fn entity(start: usize, end: usize) -> Entity {
        Entity {
            kind: "D".into(),
            span: Span::new(start, end),
            code: None,
        }
    }

    #[test]
    fn every_entity_that_meets_another_counts_once() {
        for (spans, count) in [
            (&[][..], 0),
            (&[(0, 2), (2, 4)], 0),
            (&[(0, 2), (0, 2)], 2),
            (&[(0, 9), (1, 2), (3, 4), (9, 10)], 3),
            (&[(0, 3), (2, 5), (4, 6), (7, 8)], 3),
        ] {
            let entities: Vec<Entity> = spans.iter().map(|&(from, to)| entity(from, to)).collect();
            assert_eq!(overlapping(&entities), count, "{spans:?}");
        }
    }

    #[test]
    fn what_notes_hold_is_counted_and_equal_ones_are_named() {
        let text = "{\"text\": \"Fever: yes\", \"label\": \"a\", \"entities\": [\
                    {\"start\": 0, \"end\": 5, \"kind\": \"S\"}, {\"start\": 0, \"end\": 10, \"kind\": \"T\"},\
                    {\"start\": null, \"end\": null, \"kind\": \"T\"}],\
                    \"relations\": [{\"kind\": \"R\", \"from\": 0, \"to\": 1}]}\n\
                    {\"text\": \"fever\\n\\n YES!\", \"label\": \"a\"}\n\
                    {\"text\": \"咳嗽\"}\n\
                    {\"text\": \"...\"}\n\
                    {\"text\": \"!\"}\n";
        let notes = json_lines::read(Path::new("a.jsonl"), text, &Fields::default());
        let overview = describe(&notes.expect("sound"));
        let lengths = Lengths {
            min: 1,
            median: 3,
            max: 12,
        };
        assert_eq!((overview.notes, overview.characters), (5, lengths));
        assert_eq!(overview.labels, BTreeMap::from([("a".into(), 2)]));
        assert_eq!(
            (overview.unlabelled, overview.overlapping, overview.unplaced),
            (3, 2, 1)
        );
        let kinds = BTreeMap::from([("S".to_owned(), 1), ("T".to_owned(), 1)]);
        assert_eq!(overview.entities, kinds);
        assert_eq!(overview.relations, BTreeMap::from([("R".into(), 1)]));
        assert_eq!(
            overview.duplicates,
            [["a.jsonl, line 1", "a.jsonl, line 2"]]
        );
        let text = overview.to_string();
        for part in [
            "5 notes of 1 to 12",
            "entity S: 1",
            "line 1 = a.jsonl, line 2",
        ] {
            assert!(text.contains(part), "{text}");
        }
        assert_eq!(describe(&[]), Overview::default());
    }
}

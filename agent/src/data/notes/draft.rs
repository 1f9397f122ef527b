//! A note in the making: offsets in characters become bytes, and what marks nothing is refused.

use std::collections::HashSet;

use consilium_models::text::{Argument, Entity, Note, Relation, Span};

use super::NOTE_LIMIT;

/// A note whose entities and relations are still being added. What is refused is said without the
/// note's text; the caller knows file and line.
pub(super) struct Draft {
    note: Note,
    /// Made when the first offset comes.
    characters: Option<Characters>,
    /// Every concept that is mentioned.
    concepts: HashSet<String>,
}

impl Draft {
    /// A note without any mark.
    ///
    /// # Errors
    /// A text that is blank or too large.
    pub(super) fn new(id: String, text: String) -> Result<Self, String> {
        if text.trim().is_empty() {
            return Err("the note is empty".into());
        }
        if text.len() > NOTE_LIMIT {
            return Err(format!(
                "the note has {} bytes; at most {NOTE_LIMIT} are read",
                text.len()
            ));
        }
        let note = Note {
            id,
            text,
            ..Note::default()
        };
        Ok(Self {
            note,
            characters: None,
            concepts: HashSet::new(),
        })
    }

    /// Sets whose note it is.
    pub(super) fn set_patient(&mut self, patient: Option<String>) {
        self.note.patient = patient;
    }

    /// Sets the class of the note.
    pub(super) fn set_label(&mut self, label: Option<String>) {
        self.note.label = label;
    }

    /// Adds a mention by the characters of its pieces, from up to, not including. Returns which
    /// mention it is, for [`Self::relate`]. Where the file shows the text of the mention, it must be
    /// that of the pieces with a blank between them.
    ///
    /// # Errors
    /// A piece that lies outside the text, cuts nothing or comes before the last one; another text.
    pub(super) fn mark(
        &mut self,
        kind: &str,
        pieces: &[(usize, usize)],
        code: Option<&str>,
        shown: Option<&str>,
    ) -> Result<usize, String> {
        let text = &self.note.text;
        let characters = self.characters.get_or_insert_with(|| Characters::of(text));
        let mut spans = Vec::with_capacity(pieces.len());
        for &(start, end) in pieces {
            if end <= start {
                return Err("an entity must end behind its start".into());
            }
            match (characters.byte(text, start), characters.byte(text, end)) {
                (Some(start), Some(end)) => spans.push(Span::new(start, end)),
                _ => return Err("an entity lies outside the text".into()),
            }
        }
        let (Some(first), Some(last)) = (spans.first(), spans.last()) else {
            return Err("an entity needs a start and an end".into());
        };
        if spans.windows(2).any(|pair| pair[1].start < pair[0].end) {
            return Err("the pieces of an entity must follow each other".into());
        }
        if shown.is_some_and(|shown| !is_shown(text, &spans, shown)) {
            return Err(
                "the text between an entity's offsets is not the text given for it; offsets count \
                 characters from 0, a line end of two characters as two"
                    .into(),
            );
        }
        self.mark_bytes(kind, Span::new(first.start, last.end), code)
    }

    /// Adds a mention by its bytes, which are those of some characters of the text.
    ///
    /// # Errors
    /// No kind.
    pub(super) fn mark_bytes(
        &mut self,
        kind: &str,
        span: Span,
        code: Option<&str>,
    ) -> Result<usize, String> {
        if kind.trim().is_empty() {
            return Err("an entity needs a kind".into());
        }
        if let Some(code) = code {
            self.concepts.extend(code.split('|').map(str::to_owned));
        }
        self.note.entities.push(Entity {
            kind: kind.to_owned(),
            span,
            code: code.map(str::to_owned),
        });
        Ok(self.note.entities.len() - 1)
    }

    /// Adds a concept to a mention that is there; a second one behind `|`.
    pub(super) fn name_concept(&mut self, mention: usize, code: &str) {
        if let Some(entity) = self.note.entities.get_mut(mention) {
            self.concepts.insert(code.to_owned());
            entity.code = Some(match entity.code.take() {
                Some(first) => format!("{first}|{code}"),
                None => code.to_owned(),
            });
        }
    }

    /// Adds a relation. Mentions are those that [`Self::mark`] returned.
    ///
    /// # Errors
    /// No kind, a mention that is not there, a concept that no mention has.
    pub(super) fn relate(
        &mut self,
        kind: &str,
        from: Argument,
        to: Argument,
    ) -> Result<(), String> {
        if kind.trim().is_empty() {
            return Err("a relation needs a kind".into());
        }
        for side in [&from, &to] {
            let is_there = match side {
                Argument::Mention(at) => *at < self.note.entities.len(),
                Argument::Concept(code) => self.concepts.contains(code),
            };
            if !is_there {
                return Err("a relation names an entity that is not there".into());
            }
        }
        self.note.relations.push(Relation {
            kind: kind.to_owned(),
            from,
            to,
        });
        Ok(())
    }

    /// The note, its entities in the order of their first byte.
    pub(super) fn finish(mut self) -> Note {
        let mut order: Vec<usize> = (0..self.note.entities.len()).collect();
        order.sort_by_key(|&at| self.note.entities[at].span);
        let mut place = vec![0; order.len()];
        for (new, &old) in order.iter().enumerate() {
            place[old] = new;
        }
        for relation in &mut self.note.relations {
            for side in [&mut relation.from, &mut relation.to] {
                if let Argument::Mention(at) = side {
                    *at = place[*at];
                }
            }
        }
        self.note.entities.sort_by_key(|entity| entity.span);
        self.note
    }
}

/// Whether pieces of a text read as shown. Any white space is a blank, as a file that shows a text
/// on one line has no line ends; blanks around what is shown do not count.
fn is_shown(text: &str, pieces: &[Span], shown: &str) -> bool {
    let blank = |c: char| if c.is_whitespace() { ' ' } else { c };
    let is = |shown: &str| {
        let mut rest = shown.chars().map(blank);
        for (at, piece) in pieces.iter().enumerate() {
            if at > 0 && rest.next() != Some(' ') {
                return false;
            }
            let mut piece = piece.of(text).unwrap_or_default().chars().map(blank);
            if !piece.all(|c| rest.next() == Some(c)) {
                return false;
            }
        }
        rest.next().is_none()
    };
    is(shown) || is(shown.trim())
}

/// Where the characters of a text begin: every 64th is noted, so that no offset walks a long text.
struct Characters(Vec<usize>);

impl Characters {
    const STEP: usize = 64;

    fn of(text: &str) -> Self {
        Self(boundaries(text).step_by(Self::STEP).collect())
    }

    /// First byte of a character, counted from 0; the end of the text behind the last one.
    fn byte(&self, text: &str, character: usize) -> Option<usize> {
        let start = *self.0.get(character / Self::STEP)?;
        let within = boundaries(text.get(start..)?).nth(character % Self::STEP)?;
        Some(start + within)
    }
}

/// First byte of each character, and the end.
fn boundaries(text: &str) -> impl Iterator<Item = usize> {
    let starts = text.char_indices().map(|(at, _)| at);
    starts.chain(std::iter::once(text.len()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn draft(text: &str) -> Draft {
        Draft::new("n".into(), text.into()).expect("a note")
    }

    proptest! {
        #[test]
        fn every_character_is_found_and_none_behind_the_end(text in "(.|\n){0,300}") {
            let characters = Characters::of(&text);
            let starts: Vec<usize> = boundaries(&text).collect();
            for (character, &start) in starts.iter().enumerate() {
                prop_assert_eq!(characters.byte(&text, character), Some(start));
            }
            prop_assert_eq!(characters.byte(&text, starts.len()), None);
            prop_assert_eq!(characters.byte(&text, usize::MAX), None);
        }
    }

    #[test]
    fn offsets_count_characters_of_any_script() {
        let mut draft = draft("患者 حمى fièvre");
        draft
            .mark("P", &[(0, 2)], None, Some("患者"))
            .expect("there");
        draft
            .mark("S", &[(3, 6)], None, Some("حمى"))
            .expect("there");
        draft
            .mark("S", &[(7, 13)], None, Some("fièvre"))
            .expect("there");
        let note = draft.finish();
        let covered: Vec<_> = note
            .entities
            .iter()
            .map(|e| e.span.of(&note.text))
            .collect();
        assert_eq!(covered, [Some("患者"), Some("حمى"), Some("fièvre")]);
    }

    #[test]
    fn pieces_become_one_span_and_must_read_as_shown() {
        let mut draft = draft("low\ndose, once daily");
        let pieces = [(0, 8), (15, 20)];
        draft
            .mark("D", &pieces, None, Some("low dose daily"))
            .expect("there");
        draft
            .mark("D", &[(0, 8)], None, Some(" low dose  "))
            .expect("blanks");
        for shown in ["low dose", "low dosedaily", "low dose daily x", ""] {
            assert!(
                draft.mark("D", &pieces, None, Some(shown)).is_err(),
                "{shown}"
            );
        }
        assert_eq!(draft.finish().entities[1].span, Span::new(0, 20));
    }

    #[test]
    fn what_marks_nothing_is_refused() {
        let mut draft = draft("fever");
        for pieces in [
            &[][..],
            &[(2, 2)],
            &[(3, 2)],
            &[(0, 6)],
            &[(6, 7)],
            &[(0, usize::MAX)],
            &[(2, 4), (0, 1)],
            &[(0, 3), (2, 5)],
        ] {
            assert!(draft.mark("S", pieces, None, None).is_err(), "{pieces:?}");
        }
        assert!(draft.mark(" ", &[(0, 5)], None, None).is_err());
        assert!(draft.finish().entities.is_empty());
    }

    #[test]
    fn entities_are_sorted_and_relations_follow_them() {
        let mut draft = draft("aspirin for fever");
        let fever = draft
            .mark("S", &[(12, 17)], Some("D1|D2"), None)
            .expect("there");
        let drug = draft.mark("M", &[(0, 7)], None, None).expect("there");
        let both = (Argument::Mention(drug), Argument::Mention(fever));
        draft
            .relate("TREATS", both.0.clone(), both.1)
            .expect("there");
        draft
            .relate("FOR", both.0.clone(), Argument::Concept("D2".into()))
            .expect("there");
        assert!(
            draft
                .relate("FOR", both.0.clone(), Argument::Mention(2))
                .is_err()
        );
        assert!(
            draft
                .relate("FOR", Argument::Concept("D1|D2".into()), both.0.clone())
                .is_err()
        );
        assert!(draft.relate("", both.0.clone(), both.0).is_err());
        let note = draft.finish();
        assert_eq!(note.entities[0].kind, "M");
        assert!(note.relations[0].from == Argument::Mention(0));
        assert!(note.relations[0].to == Argument::Mention(1));
        assert_eq!(note.relations.len(), 2);
    }

    #[test]
    fn blank_and_huge_notes_are_refused() {
        assert!(Draft::new("n".into(), " \r\n\u{3000}".into()).is_err());
        assert!(Draft::new("n".into(), "x".repeat(NOTE_LIMIT)).is_ok());
        assert!(Draft::new("n".into(), "x".repeat(NOTE_LIMIT + 1)).is_err());
    }
}

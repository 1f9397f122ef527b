//! Brat's standoff format: a file of marks beside a file of text.
//!
//! | line | what becomes of it |
//! |---|---|
//! | `T1 <tab> Kind 0 5;10 15 <tab> text` | an entity, from its first piece to its last |
//! | `E1 <tab> Kind:T1 Role:T2 …` | a name for `T1`; each role is a relation from it |
//! | `R1 <tab> Kind Arg1:T1 Arg2:E1` | a relation |
//! | `N1 <tab> Reference T1 System:Code <tab> name` | `System:Code` is the code of `T1` |
//! | `A`, `M`, `#`, `*` | attributes, remarks and groups of equals: passed over |

use std::collections::HashMap;

use consilium_models::text::Argument;

use super::draft::Draft;

/// Adds all marks of an `.ann` file to the note that it belongs to.
///
/// # Errors
/// A line that is wrong, counted from 1, and why.
pub(super) fn mark(draft: &mut Draft, annotations: &str) -> Result<(), (u64, String)> {
    let mut marks = Marks {
        draft,
        mentions: HashMap::new(),
    };
    for pass in [Pass::Entities, Pass::Events, Pass::Relations] {
        for (line, content) in (1..).zip(annotations.lines()) {
            if !content.trim().is_empty() {
                marks.add(pass, content).map_err(|reason| (line, reason))?;
            }
        }
    }
    Ok(())
}

/// What is read of the lines. Each may name what stands below it, so they are read three times.
#[derive(Clone, Copy)]
enum Pass {
    Entities,
    Events,
    Relations,
}

/// What has been read of a file.
struct Marks<'a> {
    draft: &'a mut Draft,
    /// The mention that a `T` or `E` stands for.
    mentions: HashMap<String, usize>,
}

impl Marks<'_> {
    fn add(&mut self, pass: Pass, line: &str) -> Result<(), String> {
        let mut cells = line.splitn(3, '\t');
        let id = cells.next().unwrap_or_default().trim();
        let what = cells.next().unwrap_or_default();
        match (pass, id.chars().next()) {
            (Pass::Entities, Some('T')) => self.entity(id, what, cells.next()),
            (Pass::Events, Some('E')) => self.event(id, what),
            (Pass::Relations, Some('E')) => self.roles(id, what),
            (Pass::Relations, Some('R')) => self.relation(what),
            (Pass::Relations, Some('N')) => self.reference(what),
            (_, Some('T' | 'E' | 'R' | 'N' | 'A' | 'M' | '#' | '*')) => Ok(()),
            _ => Err("a line begins with T, E, R, N, A, M, # or *".into()),
        }
    }

    fn entity(&mut self, id: &str, what: &str, text: Option<&str>) -> Result<(), String> {
        let (kind, offsets) = what
            .split_once(' ')
            .ok_or("an entity is: id, tab, kind, blank, offsets, tab, text")?;
        let pieces = offsets
            .split(';')
            .map(|piece| {
                let (start, end) = piece.trim().split_once(' ')?;
                Some((start.parse().ok()?, end.parse().ok()?))
            })
            .collect::<Option<Vec<_>>>()
            .ok_or("offsets are whole numbers: start, blank, end, and ; between pieces")?;
        let text = text.ok_or("an entity needs its text behind a second tab")?;
        let mention = self.draft.mark(kind, &pieces, None, Some(text))?;
        self.name(id, mention)
    }

    fn event(&mut self, id: &str, what: &str) -> Result<(), String> {
        let trigger = what.split_whitespace().next();
        let (_, trigger) = trigger
            .and_then(|trigger| trigger.split_once(':'))
            .ok_or("an event is: id, tab, kind, colon, entity")?;
        let mention = self.find(trigger)?;
        self.name(id, mention)
    }

    fn roles(&mut self, id: &str, what: &str) -> Result<(), String> {
        let from = self.find(id)?;
        for role in what.split_whitespace().skip(1) {
            let (kind, to) = role
                .split_once(':')
                .ok_or("a role of an event is: kind, colon, entity")?;
            let to = self.find(to)?;
            self.draft
                .relate(kind, Argument::Mention(from), Argument::Mention(to))?;
        }
        Ok(())
    }

    fn relation(&mut self, what: &str) -> Result<(), String> {
        let wanted = "a relation is: id, tab, kind, Arg1:entity, Arg2:entity";
        let words: Vec<&str> = what.split_whitespace().collect();
        let &[kind, from, to] = words.as_slice() else {
            return Err(wanted.into());
        };
        let side = |word: &str| {
            let (_, id) = word.split_once(':').ok_or(wanted)?;
            self.find(id).map(Argument::Mention)
        };
        let (from, to) = (side(from)?, side(to)?);
        self.draft.relate(kind, from, to)
    }

    fn reference(&mut self, what: &str) -> Result<(), String> {
        let words: Vec<&str> = what.split_whitespace().collect();
        let &[_, id, code] = words.as_slice() else {
            return Err("a code is: id, tab, kind, entity, System:Code".into());
        };
        let mention = self.find(id)?;
        self.draft.name_concept(mention, code);
        Ok(())
    }

    fn name(&mut self, id: &str, mention: usize) -> Result<(), String> {
        match self.mentions.insert(id.to_owned(), mention) {
            None => Ok(()),
            Some(_) => Err("the id is that of another line; each needs its own".into()),
        }
    }

    fn find(&self, id: &str) -> Result<usize, String> {
        let mention = self.mentions.get(id).copied();
        mention.ok_or_else(|| "names an entity that is not there".into())
    }
}

#[cfg(test)]
mod tests {
    use consilium_models::text::{Note, Span};

    use super::*;

    const TEXT: &str = "Zoë took aspirin,\ntwice a day";

    fn read(annotations: &str) -> Result<Note, (u64, String)> {
        let mut draft = Draft::new("n".into(), TEXT.into()).expect("a note");
        mark(&mut draft, annotations)?;
        Ok(draft.finish())
    }

    #[test]
    fn entities_events_relations_and_codes_are_read_in_any_order() {
        let note = read(
            "R1\tDOSE Arg1:T3 Arg2:E1\t\r\n\
             E1\tTaking:T2 Who:T1 What:T2\r\n\
             T1\tPerson 0 3\tZoë\r\n\
             T3\tDosage 9 16;18 23\taspirin twice\r\n\
             T2\tDrug 9 16\taspirin\r\n\
             A1\tPOLARITY E1 NEG\n\
             #1\tAnnotatorNotes T1\tno name\n\
             *\tOVERLAP E1 E2\n\
             N1\tReference T2 RxNorm:1191\taspirin\n\
             N2\tReference T2 MeSH:D001241\taspirin\n",
        )
        .expect("sound");
        let kinds: Vec<_> = note.entities.iter().map(|e| e.kind.as_str()).collect();
        assert_eq!(kinds, ["Person", "Drug", "Dosage"]);
        assert_eq!(note.entities[2].span, Span::new(10, 24));
        assert_eq!(
            note.entities[1].code.as_deref(),
            Some("RxNorm:1191|MeSH:D001241")
        );
        let relations: Vec<_> = note
            .relations
            .iter()
            .map(|relation| match (&relation.from, &relation.to) {
                (Argument::Mention(from), Argument::Mention(to)) => {
                    (relation.kind.as_str(), *from, *to)
                }
                _ => panic!("no concepts here"),
            })
            .collect();
        assert_eq!(relations, [("DOSE", 2, 1), ("Who", 1, 0), ("What", 1, 1)]);
    }

    #[test]
    fn what_is_wrong_is_named_by_line() {
        for (annotations, line, part) in [
            ("T1\tDrug 9 16\tZoë took\n", 1, "not the text"),
            ("\nT1\tDrug 9 99\taspirin\n", 2, "outside"),
            ("T1\tDrug 16 9\taspirin\n", 1, "behind its start"),
            ("T1\tDrug 9 9\t\n", 1, "behind its start"),
            ("T1\tDrug 18 23;9 16\ttwice aspirin\n", 1, "follow"),
            ("T1\tDrug 9 -1\taspirin\n", 1, "whole numbers"),
            ("T1\tDrug\taspirin\n", 1, "blank, offsets"),
            ("T1\tDrug 9 16\n", 1, "second tab"),
            ("T1 Drug 9 16 aspirin\n", 1, "blank, offsets"),
            ("T1\t 9 16\taspirin\n", 1, "kind"),
            (
                "T1\tD 0 3\tZoë\nT1\tD 9 16\taspirin\n",
                2,
                "each needs its own",
            ),
            ("E1\tTaking:T1\n", 1, "not there"),
            ("E1\tTaking\n", 1, "colon"),
            ("T1\tD 0 3\tZoë\nE1\tD:T1 Who\n", 2, "role"),
            ("T1\tD 0 3\tZoë\nE1\tD:T1 Who:T2\n", 2, "not there"),
            ("T1\tD 0 3\tZoë\nR1\tX Arg1:T1 Arg2:T2\n", 2, "not there"),
            ("T1\tD 0 3\tZoë\nR1\tX Arg1:T1\n", 2, "Arg2"),
            ("T1\tD 0 3\tZoë\nN1\tReference T1\n", 2, "System:Code"),
            ("Zoë took aspirin\n", 1, "begins with"),
        ] {
            let (found, reason) = read(annotations).expect_err(part);
            assert!(found == line && reason.contains(part), "{found}: {reason}");
        }
    }
}

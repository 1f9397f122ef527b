//! PubTator: a title and an abstract, the mentions in them, and relations between concepts.
//!
//! ```text
//! 1|t|Aspirin and bleeding
//! 1|a|A case.
//! 1 <tab> 0 <tab> 7 <tab> Aspirin <tab> Chemical <tab> D001241
//! 1 <tab> 12 <tab> 20 <tab> bleeding <tab> Disease <tab> D006470
//! 1 <tab> CID <tab> D001241 <tab> D006470
//! ```
//!
//! Offsets count over title, one character and abstract; that character is a line end here. A mention
//! of several concepts has their codes between `|`, one of none has `-1` or `-`. Columns behind the
//! code are passed over.

use std::path::Path;

use consilium_models::text::Argument;

use super::{Names, NotesError, Place, ReadNote, draft::Draft};

/// Whether a text begins as PubTator does.
pub(super) fn begins(text: &str) -> bool {
    let first = text.lines().find(|line| !line.trim().is_empty());
    first
        .and_then(Passage::of)
        .is_some_and(|passage| passage.is_title)
}

/// Reads all documents.
///
/// # Errors
/// The first line that is wrong.
pub(super) fn read(file: &Path, text: &str) -> Result<Vec<ReadNote>, NotesError> {
    let mut names = Names::default();
    let mut documents: Vec<Document<'_>> = Vec::new();
    for (line, content) in (1..).zip(text.lines()) {
        let refused = |reason: &str| NotesError::line(file, line, reason);
        if content.trim().is_empty() {
            continue;
        }
        let passage = Passage::of(content);
        if let Some(title) = passage.as_ref().filter(|passage| passage.is_title) {
            names
                .take(title.id, line)
                .map_err(|reason| refused(&reason))?;
            documents.push(Document {
                id: title.id,
                line,
                title: title.text,
                body: None,
                marks: Vec::new(),
            });
            continue;
        }
        let Some(document) = documents.last_mut() else {
            return Err(refused("a document begins with its title: ID|t|title"));
        };
        let id = match &passage {
            Some(body) => body.id,
            None => content.split('\t').next().unwrap_or_default(),
        };
        if id != document.id {
            return Err(refused(
                "the line names another document than the title above it",
            ));
        }
        match passage {
            None => document.marks.push((line, content)),
            Some(body) if document.body.is_none() => document.body = Some(body.text),
            Some(_) => return Err(refused("the document has an abstract already")),
        }
    }
    documents
        .iter()
        .map(|document| document.read(file))
        .collect()
}

/// A line with a title or an abstract.
struct Passage<'a> {
    id: &'a str,
    is_title: bool,
    text: &'a str,
}

impl<'a> Passage<'a> {
    fn of(line: &'a str) -> Option<Self> {
        let (id, rest) = line.split_once('|')?;
        let (what, text) = rest.split_once('|')?;
        let is_title = match what {
            "t" => true,
            "a" => false,
            _ => return None,
        };
        let is_id = !id.is_empty() && !id.contains(char::is_whitespace);
        is_id.then_some(Self { id, is_title, text })
    }
}

/// The lines of a document.
struct Document<'a> {
    id: &'a str,
    line: u64,
    title: &'a str,
    body: Option<&'a str>,
    /// Lines with mentions and relations, and where they stand.
    marks: Vec<(u64, &'a str)>,
}

impl Document<'_> {
    fn read(&self, file: &Path) -> Result<ReadNote, NotesError> {
        let at = |line| move |reason: String| NotesError::line(file, line, reason);
        let text = match self.body {
            Some(body) => format!("{}\n{body}", self.title),
            None => self.title.to_owned(),
        };
        let mut draft = Draft::new(self.id.to_owned(), text).map_err(at(self.line))?;
        // A relation may stand above the mentions of its concepts.
        let (relations, mentions): (Vec<_>, Vec<_>) =
            self.marks.iter().partition(|(_, mark)| is_relation(mark));
        for &(line, mark) in mentions.into_iter().chain(relations) {
            add(&mut draft, mark).map_err(at(line))?;
        }
        Ok(ReadNote {
            note: draft.finish(),
            place: Place::Line {
                file: file.to_owned(),
                line: self.line,
            },
            unplaced: 0,
        })
    }
}

/// Whether the second cell of a line is a name, where a mention has an offset.
fn is_relation(mark: &str) -> bool {
    let second = mark.split('\t').nth(1);
    second.is_some_and(|cell| cell.parse::<usize>().is_err())
}

/// Adds the mention or relation of a line.
fn add(draft: &mut Draft, mark: &str) -> Result<(), String> {
    let cells: Vec<&str> = mark.split('\t').collect();
    match cells[..] {
        [_, kind, from, to, ..] if is_relation(mark) => {
            let concept = |code: &str| Argument::Concept(code.trim().to_owned());
            draft.relate(kind, concept(from), concept(to))
        }
        [_, start, end, shown, kind, ref rest @ ..] => {
            let (Ok(start), Ok(end)) = (start.parse(), end.parse()) else {
                return Err("an offset must be a whole number".into());
            };
            let code = rest.first().map(|code| code.trim());
            let code = code.filter(|code| !["", "-", "-1"].contains(code));
            let piece = [(start, end)];
            draft.mark(kind, &piece, code, Some(shown)).map(|_| ())
        }
        _ => Err(
            "neither a mention (ID, start, end, text, kind, code) nor a relation \
             (ID, kind, code, code), with a tab between any two"
                .into(),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Vec<ReadNote>, NotesError> {
        super::read(Path::new("a.pubtator"), text)
    }

    const SOUND: &str = "\
        1|t|Zoë: aspirin\n\
        1|a|bled | twice\n\
        1\tCID\tD1\tD3\n\
        1\t5\t12\taspirin\tChemical\tD1\r\n\
        1\t13\t17\tbled \tComposite\tD2|D3\tbled\n\
        1\t0\t3\tZoë\tPerson\t-1\n\
        \n\
        2|t|nothing here\n";

    #[test]
    fn titles_abstracts_mentions_and_relations_are_read() {
        let notes = read(SOUND).expect("sound");
        assert!(begins(SOUND) && begins("\n7|t|"));
        assert!(!begins("7|a|") && !begins("a b|t|") && !begins(""));
        let note = &notes[0].note;
        assert_eq!(note.text, "Zoë: aspirin\nbled | twice");
        let covered: Vec<_> = note
            .entities
            .iter()
            .map(|e| e.span.of(&note.text))
            .collect();
        assert_eq!(covered, [Some("Zoë"), Some("aspirin"), Some("bled")]);
        let codes: Vec<_> = note.entities.iter().map(|e| e.code.as_deref()).collect();
        assert_eq!(codes, [None, Some("D1"), Some("D2|D3")]);
        assert!(note.relations[0].to == Argument::Concept("D3".into()));
        assert_eq!((notes[1].note.id.as_str(), notes.len()), ("2", 2));
        assert_eq!(notes[1].place.to_string(), "a.pubtator, line 8");
    }

    #[test]
    fn what_is_wrong_is_named_by_line() {
        for (text, line, part) in [
            ("1\t0\t1\tx\tD\n", 1, "begins with its title"),
            ("1|t|ab\n2|a|c\n", 2, "another document"),
            ("1|t|ab\n2\t0\t1\ta\tD\n", 2, "another document"),
            ("1|t|ab\n1|a|c\n1|a|c\n", 3, "already"),
            ("1|t|ab\n\n1|t|c\n", 3, "note on line 1"),
            ("1|t|\n1|a| \n", 1, "empty"),
            ("1|t|ab\n1\t0\t1\tb\tD\n", 2, "not the text"),
            ("1|t|ab\n1\t0\t3\tab\tD\n", 2, "outside"),
            ("1|t|ab\n1\t1\t0\t\tD\n", 2, "behind its start"),
            ("1|t|ab\n1\t0\t-1\ta\tD\n", 2, "whole number"),
            ("1|t|ab\n1\t0\t1\ta\n", 2, "neither"),
            ("1|t|ab\n1\t0\t1\ta\t\n", 2, "kind"),
            (
                "1|t|ab\n1\t0\t1\ta\tD\tC1\n1\tCID\tC1\tC2\n",
                3,
                "not there",
            ),
        ] {
            let message = read(text).expect_err(part).to_string();
            let place = format!("a.pubtator, line {line}: ");
            assert!(
                message.starts_with(&place) && message.contains(part),
                "{message}"
            );
        }
    }
}

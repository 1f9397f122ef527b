//! CoNLL: a token a line, its BIO tag in the last column, a blank line behind each sentence.
//!
//! A line `-DOCSTART-`, or one like `# pmid = 17`, opens a document; in a file without either, each
//! sentence is a note. The text is made from the tokens, with a blank between them and a line end
//! between sentences. Columns are separated by tabs or by blanks, as in the first line of tokens, and
//! all lines have as many as that one.

use std::path::Path;

use consilium_models::text::Span;

use super::{Names, NotesError, Place, ReadNote, draft::Draft};

/// Names in a comment `# name = value` whose value is the id of a document.
const ID_KEYS: [&str; 4] = ["pmid", "id", "doc_id", "newdoc id"];

/// Reads all documents, or sentences.
///
/// # Errors
/// The first line that is wrong.
pub(super) fn read(file: &Path, text: &str) -> Result<Vec<ReadNote>, NotesError> {
    let has_documents = text
        .lines()
        .any(|line| matches!(Line::of(line), Line::Opening | Line::Id(_)));
    let mut notes = Notes {
        file,
        names: Names::default(),
        closed: Vec::new(),
        open: None,
    };
    let mut columns = None;
    for (line, content) in (1..).zip(text.lines()) {
        let refused = |reason: &str| NotesError::line(file, line, reason);
        match Line::of(content) {
            Line::Comment => {}
            Line::Blank if has_documents => {
                if let Some(document) = &mut notes.open {
                    document.end_sentence();
                }
            }
            Line::Blank => notes.close()?,
            Line::Opening => notes.open(line, None)?,
            Line::Id(id) => match &mut notes.open {
                // The line above opened it.
                Some(document) if document.is_new() => document.id = Some(id.to_owned()),
                _ => notes.open(line, Some(id.to_owned()))?,
            },
            Line::Token => {
                let (token, tag) = columns
                    .get_or_insert_with(|| Columns::of(content))
                    .split(content)
                    .map_err(refused)?;
                notes
                    .open
                    .get_or_insert_with(|| Document::new(line, None))
                    .add(token, tag)
                    .map_err(refused)?;
            }
        }
    }
    notes.close()?;
    Ok(notes.closed)
}

/// What a line is.
enum Line<'a> {
    Blank,
    Opening,
    Id(&'a str),
    Comment,
    Token,
}

impl<'a> Line<'a> {
    fn of(line: &'a str) -> Self {
        if line.trim().is_empty() {
            return Self::Blank;
        }
        if line.starts_with("-DOCSTART-") {
            return Self::Opening;
        }
        // The token `#` has its tag behind it, and no equals sign.
        let comment = line.strip_prefix("# ").filter(|line| !line.contains('\t'));
        match comment.and_then(|comment| comment.split_once(" = ")) {
            Some((key, id)) if ID_KEYS.contains(&key.trim()) => Self::Id(id.trim()),
            Some(_) => Self::Comment,
            None => Self::Token,
        }
    }
}

/// How the lines of tokens are made.
struct Columns {
    has_tabs: bool,
    count: usize,
}

impl Columns {
    fn of(first: &str) -> Self {
        let has_tabs = first.contains('\t');
        let count = if has_tabs {
            first.split('\t').count()
        } else {
            first.split_whitespace().count()
        };
        Self { has_tabs, count }
    }

    /// Token and tag of a line.
    fn split<'a>(&self, line: &'a str) -> Result<(&'a str, &'a str), &'static str> {
        let cells: Vec<&str> = if self.has_tabs {
            line.split('\t').map(str::trim).collect()
        } else {
            line.split_whitespace().collect()
        };
        if cells.len() != self.count {
            return Err("the line has more or fewer columns than the first line of tokens");
        }
        match cells[..] {
            ["", ..] => Err("the token is empty"),
            [token, .., tag] => Ok((token, tag)),
            _ => Err("a line needs a token and, behind a tab or a blank, its tag"),
        }
    }
}

/// The notes of a file.
struct Notes<'a> {
    file: &'a Path,
    names: Names,
    closed: Vec<ReadNote>,
    open: Option<Document>,
}

impl Notes<'_> {
    fn open(&mut self, line: u64, id: Option<String>) -> Result<(), NotesError> {
        self.close()?;
        self.open = Some(Document::new(line, id));
        Ok(())
    }

    fn close(&mut self) -> Result<(), NotesError> {
        let Some(document) = self.open.take() else {
            return Ok(());
        };
        let line = document.line;
        let refused = |reason| NotesError::line(self.file, line, reason);
        let note = document.close().map_err(refused)?.finish();
        self.names.take(&note.id, line).map_err(refused)?;
        self.closed.push(ReadNote {
            note,
            place: Place::Line {
                file: self.file.to_owned(),
                line,
            },
            unplaced: 0,
        });
        Ok(())
    }
}

/// A document whose lines are being read.
struct Document {
    line: u64,
    id: Option<String>,
    text: String,
    mentions: Vec<(String, Span)>,
    /// What stands before the next token: nothing, a blank, or a line end.
    gap: &'static str,
    /// Whether the last token belongs to the last mention.
    is_within: bool,
}

impl Document {
    fn new(line: u64, id: Option<String>) -> Self {
        Self {
            line,
            id,
            text: String::new(),
            mentions: Vec::new(),
            gap: "",
            is_within: false,
        }
    }

    fn is_new(&self) -> bool {
        self.text.is_empty() && self.id.is_none()
    }

    fn end_sentence(&mut self) {
        if !self.text.is_empty() {
            self.gap = "\n";
        }
        self.is_within = false;
    }

    fn add(&mut self, token: &str, tag: &str) -> Result<(), &'static str> {
        self.text.push_str(self.gap);
        let start = self.text.len();
        self.text.push_str(token);
        self.gap = " ";
        let end = self.text.len();
        match tag.split_once('-') {
            None if tag == "O" => self.is_within = false,
            Some(("B", kind)) if !kind.is_empty() => {
                self.mentions.push((kind.to_owned(), Span::new(start, end)));
                self.is_within = true;
            }
            Some(("I", kind)) if !kind.is_empty() => match self.mentions.last_mut() {
                Some((last, span)) if self.is_within && last == kind => span.end = end,
                _ => {
                    return Err(
                        "the tag I- does not continue a mention of its kind in this sentence; \
                         the first token of a mention is tagged B-",
                    );
                }
            },
            _ => return Err("the last column must be O, B-kind or I-kind"),
        }
        Ok(())
    }

    fn close(self) -> Result<Draft, String> {
        let id = self.id.unwrap_or_else(|| format!("line {}", self.line));
        let mut draft = Draft::new(id, self.text)?;
        for (kind, span) in self.mentions {
            draft.mark_bytes(&kind, span, None)?;
        }
        Ok(draft)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Vec<ReadNote>, NotesError> {
        super::read(Path::new("a.conll"), text)
    }

    /// Kind and text of all mentions of a note.
    fn mentions(read: &ReadNote) -> Vec<(&str, &str)> {
        let note = &read.note;
        let of = |entity: &'_ consilium_models::text::Entity| entity.span.of(&note.text);
        note.entities
            .iter()
            .map(|entity| (entity.kind.as_str(), of(entity).expect("in the text")))
            .collect()
    }

    #[test]
    fn documents_are_sentences_between_openings() {
        let text = "# pmid = 17\n\
                    Wilson\tB-Disease\n\
                    disease\tI-Disease\n\
                    aspirin\tB-Drug\n\
                    heparin\tB-Drug\n\
                    \n\
                    #\tO\n\
                    Größe\tB-Size\r\n\
                    \n\
                    # pmid = 18\n\
                    x\tO\n";
        let notes = read(text).expect("sound");
        assert_eq!(
            notes[0].note.text,
            "Wilson disease aspirin heparin\n# Größe"
        );
        let found = mentions(&notes[0]);
        let wanted = [
            ("Disease", "Wilson disease"),
            ("Drug", "aspirin"),
            ("Drug", "heparin"),
            ("Size", "Größe"),
        ];
        assert_eq!(found, wanted);
        assert_eq!((notes[1].note.id.as_str(), notes.len()), ("18", 2));
        assert_eq!(notes[1].place.to_string(), "a.conll, line 10");
    }

    #[test]
    fn opening_lines_and_blanks_between_columns_are_read_too() {
        let text = "-DOCSTART- -X- O\n\
                    # id = first\n\
                    \n\
                    Wilson NNP B-Disease\n\
                    -DOCSTART- -X- O\n\
                    \n\
                    # O O\n\
                    # source = elsewhere\n";
        let notes = read(text).expect("sound");
        let ids: Vec<_> = notes.iter().map(|read| read.note.id.as_str()).collect();
        assert_eq!(ids, ["first", "line 5"]);
        assert_eq!(mentions(&notes[0]), [("Disease", "Wilson")]);
        assert_eq!(notes[1].note.text, "#");
    }

    #[test]
    fn each_sentence_is_a_note_where_nothing_opens_documents() {
        let notes = read("\nflu\tB-D\n\n\nno\tO\nflu\tB-D\n").expect("sound");
        let texts: Vec<_> = notes.iter().map(|read| read.note.text.as_str()).collect();
        assert_eq!(texts, ["flu", "no flu"]);
        assert_eq!(notes[1].note.id, "line 5");
        assert!(read("\n").expect("nothing").is_empty());
    }

    #[test]
    fn what_is_wrong_is_named_by_line() {
        for (text, line, part) in [
            ("a\tO\nb\tc\tO\n", 2, "columns"),
            ("a b O\n\nb O\n", 3, "columns"),
            ("a\tO\nb O\n", 2, "columns"),
            ("a\n", 1, "needs a token"),
            ("\tO\n", 1, "empty"),
            ("a\tX\n", 1, "last column"),
            ("a\tB-\n", 1, "last column"),
            ("a\tS-D\n", 1, "last column"),
            ("a\tO\nb\tI-D\n", 2, "I-"),
            ("a\tB-D\nb\tI-E\n", 2, "I-"),
            ("a\tB-D\nb\tO\nc\tI-D\n", 3, "I-"),
            ("a\tB-D\n\nb\tI-D\n", 3, "I-"),
            ("# pmid = 1\na\tB-D\n\nb\tI-D\n", 4, "I-"),
            ("# pmid = 1\na\tO\n# pmid = 1\nb\tO\n", 3, "note on line 1"),
            ("# pmid = 1\n# pmid = 2\na\tO\n", 1, "empty"),
        ] {
            let message = read(text).expect_err(part).to_string();
            let place = format!("a.conll, line {line}: ");
            assert!(
                message.starts_with(&place) && message.contains(part),
                "{message}"
            );
        }
    }
}

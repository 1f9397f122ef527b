//! CSV with a header: a row for each note, its columns as [`Fields`] say.

use std::path::Path;

use csv::StringRecord;

use super::{
    Fields, Names, NotesError, Patients, Place, ReadNote, USUAL_PATIENT, USUAL_TEXT, draft::Draft,
};

/// Reads all rows.
///
/// # Errors
/// A column that is not there, the first row that is wrong.
pub(super) fn read(file: &Path, text: &str, fields: &Fields) -> Result<Vec<ReadNote>, NotesError> {
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    let refused = |line, reason: String| NotesError::line(file, line, reason);
    let columns = reader
        .headers()
        .map_err(|error| explain(&error))
        .and_then(|header| Columns::of(header, fields))
        .map_err(|reason| refused(1, reason))?;
    let (mut names, mut patients) = (Names::default(), Patients::default());
    let mut lines = Lines {
        text,
        counted: 0,
        line: 1,
    };
    let mut notes = Vec::new();
    let mut row = StringRecord::new();
    loop {
        let start = lines.skip_to(reader.position().byte());
        let line = lines.line;
        let refused = |reason| refused(line, reason);
        if !reader
            .read_record(&mut row)
            .map_err(|error| refused(explain(&error)))?
        {
            return Ok(notes);
        }
        let end = lines.clamp(reader.position().byte());
        if is_open(text.get(start..end).unwrap_or_default()) {
            let reason = "a quotation mark is not closed, or stands single in a cell";
            return Err(refused(reason.into()));
        }
        let note = columns.note(&row, line).map_err(refused)?.finish();
        names.take(&note.id, line).map_err(refused)?;
        patients.take(note.patient.is_some()).map_err(refused)?;
        notes.push(ReadNote {
            note,
            place: Place::Line {
                file: file.to_owned(),
                line,
            },
            unplaced: 0,
        });
    }
}

/// What the parser says, without what it read.
fn explain(error: &csv::Error) -> String {
    match error.kind() {
        csv::ErrorKind::UnequalLengths {
            expected_len, len, ..
        } => format!("{len} cells where the header has {expected_len}"),
        _ => "is no CSV".into(),
    }
}

/// Whether a row of more than one line holds an odd number of quotation marks: one that nobody closed
/// makes one cell of all rows up to the next.
fn is_open(row: &str) -> bool {
    let row = row.trim_end_matches(['\r', '\n']);
    row.contains('\n') && row.bytes().filter(|&byte| byte == b'"').count() % 2 == 1
}

/// Which columns mean what.
struct Columns {
    text: Vec<usize>,
    id: Option<usize>,
    patient: Option<usize>,
    label: Option<usize>,
}

impl Columns {
    /// Columns are not listed where one is missing: in a file without header they are a note.
    fn of(header: &StringRecord, fields: &Fields) -> Result<Self, String> {
        if fields.entities.is_some() || fields.relations.is_some() {
            return Err("a CSV holds neither entities nor relations; use JSON lines".into());
        }
        let find = |name: &str| header.iter().position(|column| column.trim() == name);
        let named = |name: &String| {
            find(name).ok_or_else(|| {
                format!(
                    "none of the {} columns, separated by commas, is named {name:?}",
                    header.len()
                )
            })
        };
        let text = if fields.text.is_empty() {
            let usual = USUAL_TEXT.into_iter().find_map(find);
            vec![usual.ok_or_else(|| {
                format!(
                    "none of the {} columns, separated by commas, is named {}; say which holds \
                     the text",
                    header.len(),
                    USUAL_TEXT.join(", ")
                )
            })?]
        } else {
            fields.text.iter().map(named).collect::<Result<_, _>>()?
        };
        let column = |wanted: &Option<String>, usual| match wanted {
            Some(name) => named(name).map(Some),
            None => Ok(find(usual)),
        };
        let columns = Self {
            text,
            id: column(&fields.id, "id")?,
            patient: column(&fields.patient, USUAL_PATIENT)?,
            label: column(&fields.label, "label")?,
        };
        for at in columns.all() {
            let name = header[at].trim();
            if header.iter().filter(|other| other.trim() == name).count() > 1 {
                return Err(format!(
                    "column {name:?} is there twice; rename one of them"
                ));
            }
        }
        Ok(columns)
    }

    fn all(&self) -> impl Iterator<Item = usize> {
        let single = [self.id, self.patient, self.label];
        self.text
            .iter()
            .copied()
            .chain(single.into_iter().flatten())
    }

    fn note(&self, row: &StringRecord, line: u64) -> Result<Draft, String> {
        let cell = |at: usize| row.get(at).unwrap_or_default();
        let filled = |at: Option<usize>, what: &str| match at.map(|at| cell(at).trim()) {
            Some("") => Err(format!("the {what} is empty")),
            cell => Ok(cell.map(str::to_owned)),
        };
        let text: Vec<&str> = self.text.iter().map(|&at| cell(at)).collect();
        let id = filled(self.id, "id")?.unwrap_or_else(|| format!("line {line}"));
        let mut draft = Draft::new(id, text.join("\n"))?;
        draft.set_patient(filled(self.patient, "patient")?);
        let label = self.label.map(|at| cell(at).trim());
        draft.set_label(label.filter(|label| !label.is_empty()).map(str::to_owned));
        Ok(draft)
    }
}

/// Counts lines as an editor does; the parser's own count is short where lines end in CRLF.
struct Lines<'a> {
    text: &'a str,
    counted: usize,
    line: u64,
}

impl Lines<'_> {
    /// Goes on to the row that begins at or after a byte, and returns its first byte.
    fn skip_to(&mut self, byte: u64) -> usize {
        let end = self.clamp(byte);
        let rest = &self.text.as_bytes()[end..];
        let ends = rest
            .iter()
            .take_while(|byte| b"\r\n".contains(byte))
            .count();
        let start = end + ends;
        let passed = self.text.as_bytes().get(self.counted..start);
        let passed = passed.unwrap_or_default().iter();
        self.line += passed.filter(|&&byte| byte == b'\n').count() as u64;
        self.counted = self.counted.max(start);
        start
    }

    /// A byte of the parser's as a place between characters of the text.
    fn clamp(&self, byte: u64) -> usize {
        let at = usize::try_from(byte).unwrap_or(usize::MAX);
        self.text.floor_char_boundary(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_as(text: &str, fields: &Fields) -> Result<Vec<ReadNote>, NotesError> {
        super::read(Path::new("a.csv"), text, fields)
    }

    #[test]
    fn cells_with_commas_quotes_and_line_ends_are_read_as_written() {
        let text = "id , label,text,x\r\n\
                    1, 3 ,\"fever, \"\"high\"\"\r\nsince Monday\",y\r\n\
                    \r\n\
                    2,, 5\" needle ,z\r\n";
        let notes = read_as(text, &Fields::default()).expect("sound");
        assert_eq!(notes[0].note.text, "fever, \"high\"\r\nsince Monday");
        assert_eq!(notes[0].note.label.as_deref(), Some("3"));
        assert_eq!(notes[1].note.text, " 5\" needle ");
        assert_eq!(
            (notes[1].note.id.as_str(), &notes[1].note.label),
            ("2", &None)
        );
        let places: Vec<_> = notes.iter().map(|read| read.place.to_string()).collect();
        assert_eq!(places, ["a.csv, line 2", "a.csv, line 5"]);
    }

    #[test]
    fn columns_go_by_the_names_of_the_caller() {
        let fields = Fields {
            text: vec!["title".into(), "body".into()],
            id: Some("number".into()),
            patient: Some("who".into()),
            label: Some("class".into()),
            ..Fields::default()
        };
        let text = "who,number,class,body,title\np,1,c,发热,感冒\n";
        let note = &read_as(text, &fields).expect("sound")[0].note;
        assert_eq!((note.text.as_str(), note.id.as_str()), ("感冒\n发热", "1"));
        assert_eq!(note.patient.as_deref(), Some("p"));
        assert_eq!(note.label.as_deref(), Some("c"));
        for missing in ["title", "number", "who", "class"] {
            let message = read_as(&text.replace(missing, "x"), &fields).expect_err(missing);
            assert!(
                message.to_string().contains(&format!("named {missing:?}")),
                "{message}"
            );
        }
        let fields = Fields {
            entities: Some("x".into()),
            ..Fields::default()
        };
        assert!(read_as("text\nx\n", &fields).is_err());
    }

    #[test]
    fn what_is_wrong_is_named_by_line_and_never_quoted() {
        for (text, line, part) in [
            ("secret,secret too\nx,y\n", 1, "none of the 2 columns"),
            ("text;id\nsecret;1\n", 1, "separated by commas"),
            ("text,text\nsecret,x\n", 1, "twice"),
            ("id,text\n1,x\n2\n", 3, "1 cells where the header has 2"),
            (
                "id,text\r\n1,x\r\n2,secret,z\r\n",
                3,
                "3 cells where the header has 2",
            ),
            ("id,text\n1,x\n\n2,\" \"\n", 4, "empty"),
            ("id,text\n,secret\n", 2, "the id is empty"),
            ("text,patient\nsecret,\n", 2, "the patient is empty"),
            ("id,text\n1,x\n1,secret\n", 3, "note on line 2"),
            ("id,text\n1,\"secret\n2,secret\n", 2, "not closed"),
        ] {
            let message = read_as(text, &Fields::default())
                .expect_err(part)
                .to_string();
            let place = format!("a.csv, line {line}: ");
            assert!(
                message.starts_with(&place) && message.contains(part),
                "{message}"
            );
            assert!(!message.contains("secret"), "{message}");
        }
    }
}

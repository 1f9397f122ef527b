//! A CSV file as people write them: with or without a byte-order mark, quotes, CRLF.

use std::path::{Path, PathBuf};

use super::DataError;

/// A CSV file in memory, its header apart.
#[derive(Debug)]
pub(super) struct Spreadsheet {
    file: PathBuf,
    header: Vec<String>,
    rows: Vec<Row>,
}

/// One row and the line it starts on.
pub(super) struct Row {
    pub(super) line: u64,
    pub(super) cells: Vec<String>,
}

/// Written by hand: cells are patient data.
impl std::fmt::Debug for Row {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Row(line {})", self.line)
    }
}

impl Spreadsheet {
    /// Reads a whole file. Blanks around a cell are dropped, empty lines skipped.
    ///
    /// # Errors
    /// A file that cannot be read, text that is not UTF-8, a row of another length than the
    /// header, a column named twice.
    pub(super) fn read(file: &Path) -> Result<Self, DataError> {
        let bytes = std::fs::read(file).map_err(DataError::file(file))?;
        let bytes = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(&bytes);
        let mut reader = csv::ReaderBuilder::new()
            .trim(csv::Trim::All)
            .from_reader(bytes);
        let mut lines = Lines {
            bytes,
            counted: 0,
            line: 1,
        };
        let header: Vec<String> = match reader.headers() {
            Ok(header) => header.iter().map(str::to_owned).collect(),
            Err(error) => return Err(DataError::csv(file, 1, &error)),
        };
        for (at, name) in header.iter().enumerate() {
            if header[..at].contains(name) {
                let reason = format!("column {name:?} is there twice; rename one of them");
                return Err(DataError::line(file, 1, reason));
            }
        }
        let row = |record: Result<csv::StringRecord, csv::Error>| {
            let position = match &record {
                Ok(record) => record.position(),
                Err(error) => error.position(),
            };
            let line = position.map_or(1, |position| lines.of(position.byte() as usize));
            let record = record.map_err(|error| DataError::csv(file, line, &error))?;
            let cells = record.iter().map(str::to_owned).collect();
            Ok(Row { line, cells })
        };
        let rows = reader
            .records()
            .map(row)
            .collect::<Result<_, DataError>>()?;
        Ok(Self {
            file: file.to_owned(),
            header,
            rows,
        })
    }

    /// Names of the columns, in order.
    pub(super) fn header(&self) -> &[String] {
        &self.header
    }

    /// The rows below the header, in order.
    pub(super) fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// Position of a column.
    ///
    /// # Errors
    /// There is none of that name: the error names those that are there.
    pub(super) fn column(&self, wanted: &str) -> Result<usize, DataError> {
        self.header
            .iter()
            .position(|name| name == wanted)
            .ok_or_else(|| DataError::Column {
                file: self.file.clone(),
                wanted: wanted.to_owned(),
                found: self.header.join(", "),
            })
    }

    /// A cell that must hold something.
    ///
    /// # Errors
    /// It is empty: the error names file, line and column.
    pub(super) fn filled<'a>(&self, row: &'a Row, column: usize) -> Result<&'a str, DataError> {
        match row.cells[column].as_str() {
            "" => Err(DataError::Line {
                file: self.file.clone(),
                line: row.line,
                reason: format!("column {:?} is empty", self.header[column]),
            }),
            cell => Ok(cell),
        }
    }
}

/// Counts lines as an editor does. The reader's own count is one short where lines end in CRLF,
/// and points at the empty lines before a row.
struct Lines<'a> {
    bytes: &'a [u8],
    counted: usize,
    line: u64,
}

impl Lines<'_> {
    /// Line of the row that begins at or after a place behind all earlier ones.
    fn of(&mut self, start: usize) -> u64 {
        let is_end = |byte: &&u8| [b'\r', b'\n'].contains(*byte);
        let rest = self.bytes.get(start..).unwrap_or_default();
        let start = start + rest.iter().take_while(is_end).count();
        let passed = self.bytes.get(self.counted..start).unwrap_or_default();
        self.line += passed.iter().filter(|&&byte| byte == b'\n').count() as u64;
        self.counted = self.counted.max(start);
        self.line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> Result<Spreadsheet, DataError> {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("labels.csv");
        std::fs::write(&file, bytes).expect("room");
        Spreadsheet::read(&file)
    }

    #[test]
    fn a_mark_quotes_and_windows_line_ends_do_not_show() {
        let text = b"\xEF\xBB\xBFpath,\"label\"\r\n\"a, b.png\",\"with \"\"quotes\"\"\"\r\n\r\n c.png , y \r\n";
        let sheet = read(text).expect("a sound file");
        assert_eq!(sheet.header(), ["path", "label"]);
        assert_eq!(sheet.rows()[0].cells, ["a, b.png", "with \"quotes\""]);
        assert_eq!(sheet.rows()[1].cells, ["c.png", "y"]);
        assert_eq!(sheet.rows()[1].line, 4);
    }

    #[test]
    fn a_missing_column_is_named_with_those_that_are_there() {
        let sheet = read(b"file;label\nx;y\n").expect("a sound file");
        let message = sheet
            .column("label")
            .expect_err("no such column")
            .to_string();
        for part in ["labels.csv", "\"label\"", "file;label", "commas"] {
            assert!(message.contains(part), "{message}");
        }
    }

    #[test]
    fn a_short_row_other_text_and_a_repeated_column_are_named_by_line() {
        let message = |bytes: &[u8]| read(bytes).expect_err("unsound").to_string();
        assert!(message(b"a,b\n1,2\n3\n").contains("line 3"));
        assert!(message(b"a,b\n1,2\n3,\xff\n").contains("line 3"));
        assert!(message(b"a,a\n1,2\n").contains("\"a\" is there twice"));
    }
}

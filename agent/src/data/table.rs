//! A table with one row for each record: a column is the label, the others are inputs.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use consilium_models::tabular;
use consilium_proto::plan::{Column, TableInput};

use super::{
    DataError, Found, Place,
    records::{Content, Record, TableRow},
    report::ColumnReport,
    spreadsheet::Spreadsheet,
};

/// The columns of a table that may be inputs.
#[derive(Debug)]
pub(crate) struct Header {
    file: PathBuf,
    names: Vec<String>,
}

impl Header {
    /// The names of its columns but label and patient.
    pub(crate) fn names(&self) -> &[String] {
        &self.names
    }
}

/// Reads all rows.
///
/// # Errors
/// An unsound CSV, a column that is not there, a row without label or patient.
pub(super) fn read(file: &Path, target: &str, patient: Option<&str>) -> Result<Found, DataError> {
    let sheet = Spreadsheet::read(file)?;
    let label = sheet.column(target)?;
    let patient = patient.map(|name| sheet.column(name)).transpose()?;
    let inputs: Vec<usize> = (0..sheet.header().len())
        .filter(|&at| at != label && Some(at) != patient)
        .collect();
    let names = inputs
        .iter()
        .map(|&at| sheet.header()[at].clone())
        .collect();
    let header = Arc::new(Header {
        file: file.to_owned(),
        names,
    });
    let mut records = Vec::with_capacity(sheet.rows().len());
    for row in sheet.rows() {
        let label = sheet.filled(row, label)?;
        if label == "?" {
            let reason = format!("column {target:?} is missing: a row needs its label");
            return Err(DataError::Line {
                file: file.to_owned(),
                line: row.line,
                reason,
            });
        }
        let cells = inputs.iter().map(|&at| row.cells[at].clone()).collect();
        records.push(Record {
            content: Content::Row(TableRow {
                header: header.clone(),
                line: row.line,
                cells,
            }),
            label: label.to_owned(),
            patient: match patient {
                Some(column) => sheet.filled(row, column)?.to_owned(),
                None => format!("line {}", row.line),
            },
            place: Place::Line {
                file: file.to_owned(),
                line: row.line,
            },
        });
    }
    Ok(Found {
        records,
        ..Found::default()
    })
}

/// The columns that a plan wants, found in the header of a table.
pub(crate) struct Inputs {
    columns: tabular::Columns,
    file: PathBuf,
}

impl Inputs {
    /// # Errors
    /// A column is not there.
    pub(crate) fn find(header: &Header, wanted: &TableInput) -> Result<Self, DataError> {
        let names: Vec<&str> = header.names.iter().map(String::as_str).collect();
        let columns = tabular::Columns::find(wanted, &names)
            .map_err(|error| DataError::line(&header.file, 1, error))?;
        Ok(Self {
            columns,
            file: header.file.clone(),
        })
    }

    /// A row as the numbers that enter the network.
    ///
    /// # Errors
    /// A cell that is neither a finite number nor missing.
    pub(crate) fn prepare(&self, row: &TableRow) -> Result<Vec<f32>, DataError> {
        let cells: Vec<&str> = row.cells.iter().map(String::as_str).collect();
        self.columns
            .prepare(&cells)
            .map_err(|error| DataError::line(&self.file, row.line, error))
    }
}

/// What each column holds, for the steward.
pub(super) fn describe(rows: &[&TableRow]) -> Vec<ColumnReport> {
    let Some(first) = rows.first() else {
        return Vec::new();
    };
    let describe = |(at, name): (usize, &String)| {
        let mut report = ColumnReport {
            name: name.clone(),
            missing: 0,
            not_numeric_at: None,
        };
        for row in rows {
            match number(&row.cells[at]) {
                Some(value) if value.is_nan() => report.missing += 1,
                Some(_) => {}
                None => {
                    report.not_numeric_at.get_or_insert(row.line);
                }
            }
        }
        report
    };
    first
        .header
        .names
        .iter()
        .enumerate()
        .map(describe)
        .collect()
}

/// A cell by the rules of the models: NaN where it is missing, none where it is no number.
fn number(cell: &str) -> Option<f32> {
    let column = Column {
        name: "x".into(),
        mean: 0.0,
        deviation: 1.0,
        missing: f32::NAN,
        edges: Vec::new(),
    };
    let columns = tabular::Columns::find(
        &TableInput {
            columns: vec![column],
        },
        &["x"],
    )
    .ok()?;
    columns.prepare(&[cell]).ok()?.first().copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "who,age,name,num\np1,63,Ann,0\np2,?,Bob,1\np1,,Eve,3\n";

    fn table(text: &str, target: &str, patient: Option<&str>) -> Result<Found, DataError> {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("table.csv");
        std::fs::write(&file, text).expect("room");
        read(&file, target, patient)
    }

    fn inputs(found: &Found, name: &str) -> Result<Vec<Vec<f32>>, DataError> {
        let column = Column {
            name: name.into(),
            mean: 60.0,
            deviation: 2.0,
            missing: -1.0,
            edges: Vec::new(),
        };
        let rows: Vec<_> = found
            .records
            .iter()
            .filter_map(|r| r.content.row())
            .collect();
        let inputs = Inputs::find(
            &rows[0].header,
            &TableInput {
                columns: vec![column],
            },
        )?;
        rows.into_iter().map(|row| inputs.prepare(row)).collect()
    }

    #[test]
    fn label_and_patient_are_no_inputs_and_missing_cells_become_their_constant() {
        let found = table(TABLE, "num", Some("who")).expect("a sound table");
        let patients: Vec<_> = found.records.iter().map(|r| r.patient.as_str()).collect();
        assert_eq!(patients, ["p1", "p2", "p1"]);
        assert_eq!(
            inputs(&found, "age").expect("numbers"),
            [[1.5], [-1.0], [-1.0]]
        );
        for not_input in ["num", "who"] {
            let message = inputs(&found, not_input).expect_err("no input").to_string();
            assert!(message.contains("age, name"), "{message}");
        }
        let message = inputs(&found, "name").expect_err("text").to_string();
        assert!(
            message.contains("line 2") && !message.contains("Ann"),
            "{message}"
        );
    }

    #[test]
    fn a_row_without_label_or_patient_is_named_by_its_line() {
        let refused = |text: &str| {
            table(text, "num", Some("who"))
                .expect_err("unsound")
                .to_string()
        };
        assert!(refused("who,age,num\np1,63,?\n").contains("line 2"));
        assert!(refused("who,age,num\np1,63,0\n,4,1\n").contains("line 3"));
        assert!(
            table(TABLE, "class", None)
                .expect_err("no column")
                .to_string()
                .contains("num")
        );
    }

    #[test]
    fn columns_are_described_without_their_cells() {
        let found = table(TABLE, "num", Some("who")).expect("a sound table");
        let rows: Vec<_> = found
            .records
            .iter()
            .filter_map(|r| r.content.row())
            .collect();
        let columns = describe(&rows);
        assert_eq!((columns[0].name.as_str(), columns[0].missing), ("age", 2));
        assert_eq!(columns[1].not_numeric_at, Some(2));
    }

    #[test]
    fn infinity_is_no_number() {
        assert_eq!(number("inf"), None);
        assert_eq!(number(".5"), Some(0.5));
        assert!(number("NaN").expect("missing").is_nan());
    }
}

//! What a check looks at in tables, column by column.

use consilium_models::tabular;
use consilium_proto::{
    Digest,
    plan::{Column, TableInput},
};

use super::{
    Settings, copies,
    records::Records,
    report::{Findings, Kind},
};

/// The rows looked at so far.
pub(super) struct Rows {
    columns: Vec<Seen>,
    digests: Vec<(usize, Digest)>,
}

/// What is known of a column.
struct Seen {
    name: String,
    reader: Option<tabular::Columns>,
    /// Least and greatest number that are in range.
    range: Option<(f32, f32)>,
    cells: usize,
    missing: usize,
    /// Records whose cell is neither a number nor missing.
    not_numeric: Bad,
    out_of_range: Bad,
    first: Option<f32>,
    is_constant: bool,
}

/// How many records, and the first few.
#[derive(Default)]
struct Bad {
    count: usize,
    first: Vec<usize>,
}

impl Bad {
    fn add(&mut self, record: usize) {
        self.count += 1;
        if self.first.len() < 10 {
            self.first.push(record);
        }
    }
}

impl Rows {
    pub(super) fn new(settings: &Settings) -> Self {
        let columns = settings.columns.iter();
        Self {
            columns: columns
                .map(|column| Seen::new(&column.name, &column.edges))
                .collect(),
            digests: Vec::new(),
        }
    }

    pub(super) fn add<C: AsRef<str>>(
        &mut self,
        record: usize,
        cells: &[C],
        records: &Records,
        findings: &mut Findings,
    ) {
        if cells.len() != self.columns.len() {
            let (count, place) = (cells.len(), [records.place(record)]);
            let detail = format!("instead of {}", self.columns.len());
            findings.add(Kind::OtherLength, place, count as f64, detail);
            return;
        }
        for (column, cell) in self.columns.iter_mut().zip(cells) {
            column.add(record, cell.as_ref());
        }
        // Lengths go first, so that no cell can shift a boundary.
        let cells = cells.iter().map(AsRef::as_ref);
        let text: String = cells
            .map(|cell| format!("{}:{cell},", cell.len()))
            .collect();
        self.digests.push((record, Digest::plain(text.as_bytes())));
    }

    pub(super) fn finish(&self, records: &Records, findings: &mut Findings) {
        let mut emptiest: Vec<&Seen> = self.columns.iter().collect();
        emptiest.sort_by_key(|column| std::cmp::Reverse(column.missing));
        for column in emptiest.into_iter().filter(|column| column.missing > 0) {
            let share = column.share(column.missing);
            findings.add(Kind::MissingCells, [], share, &column.name);
        }
        for column in &self.columns {
            let has_numbers = column.first.is_some() && column.not_numeric.count == 0;
            if has_numbers && column.is_constant && column.cells - column.missing > 1 {
                findings.add(Kind::ConstantColumn, [], 1.0, &column.name);
            }
            let kinds = [
                (Kind::NotNumeric, &column.not_numeric),
                (Kind::OutOfRange, &column.out_of_range),
            ];
            for (kind, bad) in kinds.into_iter().filter(|(_, bad)| bad.count > 0) {
                let places = bad.first.iter().map(|&record| records.place(record));
                let (share, detail) = (
                    column.share(bad.count),
                    format!("{}: {} rows", column.name, bad.count),
                );
                findings.add(kind, places, share, detail);
            }
        }
        let equal = copies::by_content(self.digests.iter().copied());
        copies::report_rows(&equal, records, findings);
    }
}

impl Seen {
    fn new(name: &str, edges: &[f32]) -> Self {
        let range = match (edges.first(), edges.last()) {
            (Some(&first), Some(&last)) if first < last => {
                let span = last - first;
                Some((first - span, last + span))
            }
            _ => None,
        };
        Self {
            name: name.to_owned(),
            reader: reader(),
            range,
            cells: 0,
            missing: 0,
            not_numeric: Bad::default(),
            out_of_range: Bad::default(),
            first: None,
            is_constant: true,
        }
    }

    fn add(&mut self, record: usize, cell: &str) {
        self.cells += 1;
        match self.reader.as_ref().and_then(|reader| number(reader, cell)) {
            None => self.not_numeric.add(record),
            Some(value) if value.is_nan() => self.missing += 1,
            Some(value) => {
                self.is_constant &= *self.first.get_or_insert(value) == value;
                if let Some((least, most)) = self.range
                    && !(least..=most).contains(&value)
                {
                    self.out_of_range.add(record);
                }
            }
        }
    }

    fn share(&self, count: usize) -> f64 {
        count as f64 / self.cells.max(1) as f64
    }
}

/// Reads one cell by the rules of the models.
fn reader() -> Option<tabular::Columns> {
    let column = Column {
        name: "x".into(),
        mean: 0.0,
        deviation: 1.0,
        missing: f32::NAN,
        edges: Vec::new(),
    };
    let input = TableInput {
        columns: vec![column],
    };
    tabular::Columns::find(&input, &["x"]).ok()
}

/// NaN where the cell is missing, none where it is no number.
fn number(reader: &tabular::Columns, cell: &str) -> Option<f32> {
    reader.prepare(&[cell]).ok()?.first().copied()
}

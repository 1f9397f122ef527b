//! What a registration found, for the steward. It holds true counts and stays at the site.

use std::{collections::BTreeMap, fmt};

use serde::Serialize;

use super::{Overview, records::Fault};

/// Lines that the text form names of each list.
const NAMED: usize = 20;

/// What a registration found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Name of the data set.
    pub name: String,
    /// Records that can be used.
    pub records: usize,
    /// Patients they belong to.
    pub patients: usize,
    /// Whether a column says whose each record is. If not, each record counts as its own patient,
    /// and the guarantee protects single records.
    pub names_patients: bool,
    /// Records of each label, after the label map.
    pub classes: BTreeMap<String, usize>,
    /// Images of each size, `width x height`.
    pub sizes: BTreeMap<String, usize>,
    /// Columns of a table.
    pub columns: Vec<ColumnReport>,
    /// What notes hold; none for other records.
    pub notes: Option<Overview>,
    /// Groups of records with the same content.
    pub duplicates: Vec<Vec<String>>,
    /// What was skipped.
    pub skipped: Vec<Fault>,
    /// Size that the world may know.
    pub public_size: u64,
    /// Why no lease could be written beside the records; none if it was.
    pub unleased: Option<String>,
}

/// What a column of a table holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ColumnReport {
    /// Name in the header.
    pub name: String,
    /// Rows that miss it.
    pub missing: usize,
    /// First line whose cell is neither a number nor missing; such a column is no input.
    pub not_numeric_at: Option<u64>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "data set {}: {} records of {} patients",
            self.name, self.records, self.patients
        )?;
        if !self.names_patients {
            writeln!(
                f,
                "no patient column: each record counts as its own patient"
            )?;
        }
        writeln!(
            f,
            "public size {}: the only size that anything outside depends on",
            self.public_size
        )?;
        if let Some(reason) = &self.unleased {
            writeln!(
                f,
                "no lease: {reason}; nothing stops a second agent from registering these records \
                 and spending their budget again"
            )?;
        }
        for (class, count) in &self.classes {
            writeln!(f, "  label {class}: {count}")?;
        }
        for (size, count) in &self.sizes {
            writeln!(f, "  {size} pixels: {count}")?;
        }
        for column in &self.columns {
            match column.not_numeric_at {
                None => writeln!(f, "  column {}: {} missing", column.name, column.missing)?,
                Some(line) => {
                    writeln!(
                        f,
                        "  column {}: not numeric (line {line}), no input",
                        column.name
                    )?;
                }
            }
        }
        if let Some(notes) = &self.notes {
            write!(f, "{notes}")?;
        }
        let duplicates: Vec<_> = self
            .duplicates
            .iter()
            .map(|group| group.join(" = "))
            .collect();
        list(f, "same content", &duplicates)?;
        list(f, "skipped", &self.skipped)
    }
}

fn list(f: &mut fmt::Formatter<'_>, what: &str, lines: &[impl fmt::Display]) -> fmt::Result {
    if lines.is_empty() {
        return Ok(());
    }
    writeln!(f, "{what}: {}", lines.len())?;
    lines
        .iter()
        .take(NAMED)
        .try_for_each(|line| writeln!(f, "  {line}"))?;
    if lines.len() > NAMED {
        writeln!(f, "  and {} more", lines.len() - NAMED)?;
    }
    Ok(())
}

//! From a row of a table to what enters a dense network.
//!
//! The plan names the columns and their constants; nothing is measured on the data.

use consilium_proto::plan::{Column, TableInput};

/// How tables write that a value is missing, besides leaving the cell empty.
const MISSING: [&str; 5] = ["?", "na", "n/a", "nan", "null"];

/// Why a table or a row does not fit the plan. Cells are patient data and never appear here.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum TableError {
    /// A column of the plan is not in the header.
    #[error("the table has no column {column:?}: it has {found}")]
    NoColumn {
        /// The column the plan asks for.
        column: String,
        /// The columns there are.
        found: String,
    },
    /// A column of the plan is in the header twice.
    #[error("the table has the column {column:?} twice")]
    Twice {
        /// The column.
        column: String,
    },
    /// A row with fewer cells than the header.
    #[error("the row ends before column {column:?}")]
    Short {
        /// The first column that is not there.
        column: String,
    },
    /// A cell that is neither a number nor missing.
    #[error("column {column:?} holds something that is no number and not missing (empty, ? or NA)")]
    NoNumber {
        /// The column.
        column: String,
    },
}

/// The columns of a plan, found in the header of one table.
#[derive(Debug, Clone)]
pub struct Columns {
    columns: Vec<(usize, Column)>,
}

impl Columns {
    /// Finds each column of the plan in a table's header.
    ///
    /// # Errors
    /// A column that is missing, or there twice.
    pub fn find(input: &TableInput, header: &[&str]) -> Result<Self, TableError> {
        let place = |column: &Column| {
            let mut places = (0..header.len()).filter(|&at| header[at].trim() == column.name);
            match (places.next(), places.next()) {
                (Some(place), None) => Ok((place, column.clone())),
                (Some(_), Some(_)) => Err(TableError::Twice {
                    column: column.name.clone(),
                }),
                (None, _) => {
                    let (column, found) = (column.name.clone(), header.join(", "));
                    Err(TableError::NoColumn { column, found })
                }
            }
        };
        Ok(Self {
            columns: input.columns.iter().map(place).collect::<Result<_, _>>()?,
        })
    }

    /// One row as numbers: less the mean, over the deviation; a missing value becomes its constant.
    ///
    /// # Errors
    /// A short row, or a cell that is neither a number nor missing.
    pub fn prepare(&self, row: &[&str]) -> Result<Vec<f32>, TableError> {
        let value = |(place, column): &(usize, Column)| {
            let cell = row.get(*place).map(|cell| cell.trim());
            let cell = cell.ok_or_else(|| TableError::Short {
                column: column.name.clone(),
            })?;
            if cell.is_empty() || MISSING.contains(&cell.to_ascii_lowercase().as_str()) {
                return Ok(column.missing);
            }
            match cell.parse::<f32>() {
                Ok(number) if number.is_finite() => Ok((number - column.mean) / column.deviation),
                _ => Err(TableError::NoNumber {
                    column: column.name.clone(),
                }),
            }
        };
        self.columns.iter().map(value).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn input() -> TableInput {
        let column = |name: &str, mean, deviation, missing| Column {
            name: name.into(),
            mean,
            deviation,
            missing,
            edges: Vec::new(),
        };
        TableInput {
            columns: vec![
                column("chol", 200.0, 50.0, -1.0),
                column("age", 0.0, 1.0, 0.5),
            ],
        }
    }

    #[test]
    fn values_are_scaled_in_the_order_of_the_plan() {
        let columns = Columns::find(&input(), &["age", "sex", " chol "]).expect("both are there");
        assert_eq!(columns.prepare(&["63", "1", "250"]), Ok(vec![1.0, 63.0]));
        for missing in ["", " ", "?", "NA", "NaN"] {
            assert_eq!(
                columns.prepare(&[missing, "1", missing]),
                Ok(vec![-1.0, 0.5])
            );
        }
    }

    #[test]
    fn what_does_not_fit_is_named_without_its_content() {
        let found = Columns::find(&input(), &["age", "sex"]).expect_err("no chol");
        assert!(found.to_string().contains("chol"), "{found}");
        let twice = Columns::find(&input(), &["age", "chol", "age"]);
        assert!(matches!(twice, Err(TableError::Twice { .. })));
        let columns = Columns::find(&input(), &["age", "chol"]).expect("both are there");
        for (row, column) in [(["63", "Smith"], "chol"), (["inf", "1"], "age")] {
            let error = columns.prepare(&row).expect_err("no number").to_string();
            assert!(
                error.contains(column) && !error.contains("Smith"),
                "{error}"
            );
        }
        assert!(matches!(
            columns.prepare(&["63"]),
            Err(TableError::Short { .. })
        ));
    }

    proptest! {
        #[test]
        fn no_cell_makes_a_number_that_is_not_finite(cell in ".{0,12}") {
            let columns = Columns::find(&input(), &["age", "chol"]).expect("both are there");
            if let Ok(values) = columns.prepare(&[&cell, &cell]) {
                prop_assert!(values.iter().all(|value| value.is_finite()));
            }
        }
    }
}

//! From a hospital's own labels to the classes of a plan.

use std::{collections::HashMap, fmt, path::Path};

use super::{DataError, spreadsheet::Spreadsheet};

/// Local label to class, as the steward wrote it down in a CSV with the columns `local,class`.
pub struct LabelMap {
    file: String,
    classes: HashMap<String, String>,
}

impl LabelMap {
    /// Reads the file.
    ///
    /// # Errors
    /// An unreadable file, another header, an empty cell, a local label that is there twice.
    pub fn read(file: &Path) -> Result<Self, DataError> {
        let sheet = Spreadsheet::read(file)?;
        let (local, class) = (sheet.column("local")?, sheet.column("class")?);
        let mut classes = HashMap::new();
        for row in sheet.rows() {
            let (from, to) = (sheet.filled(row, local)?, sheet.filled(row, class)?);
            if classes.insert(from.to_owned(), to.to_owned()).is_some() {
                let reason = format!("label {from:?} is there twice");
                return Err(DataError::Line {
                    file: file.to_owned(),
                    line: row.line,
                    reason,
                });
            }
        }
        Ok(Self {
            file: file.display().to_string(),
            classes,
        })
    }

    /// The class that a local label stands for.
    pub fn class(&self, local: &str) -> Option<&str> {
        self.classes.get(local).map(String::as_str)
    }

    /// The file it was read from.
    pub fn file(&self) -> &str {
        &self.file
    }
}

impl fmt::Debug for LabelMap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "LabelMap({} labels from {})",
            self.classes.len(),
            self.file
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_map_as_written_and_repeats_are_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("map.csv");
        std::fs::write(&file, "local,class\n0,normal\n1,pneumonia\n2,pneumonia\n").expect("room");
        let map = LabelMap::read(&file).expect("a sound map");
        assert_eq!((map.class("2"), map.class("3")), (Some("pneumonia"), None));
        std::fs::write(&file, "local,class\n0,normal\n0,pneumonia\n").expect("room");
        let message = LabelMap::read(&file).expect_err("a repeat").to_string();
        assert!(
            message.contains("line 3") && message.contains("\"0\""),
            "{message}"
        );
    }
}

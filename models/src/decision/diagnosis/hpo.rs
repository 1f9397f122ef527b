//! Disease annotations of the Human Phenotype Ontology as a table of likelihoods.
//!
//! A site supplies the file `phenotype.hpoa` (Köhler et al. 2021, doi:10.1093/nar/gkaa1043), twelve columns
//! separated by tabs. Its lines of version and description are kept and belong to every result; the terms of
//! use ask for both, and that nothing be altered.
//!
//! - A frequency of n/m counts as (n + 1) / (m + 2), a percentage as it stands, a term of the ontology as the
//!   middle of its range, and a frequency that is not given as one half. All are kept to 1 … 99 %.
//! - A finding's background frequency is its frequency among the diseases of the file, each as probable as
//!   the next: no file says how often healthy people have it.
//! - A patient with the disease has a finding because of it or by chance, P = 1 − (1 − q)(1 − b); so a listed
//!   finding never speaks against its disease. One that is excluded (`NOT`, or 0 %) is ten times as rare as
//!   in the background.
//! - Terms count as they are written: what an ontology knows of wider and narrower terms is not used.

use std::collections::HashMap;

use super::likelihood::{Figure, Finding, LikelihoodTable, Listed, Names};

/// Most bytes of a file: more than ten times the size of the release of January 2025.
pub const FILE_LIMIT: usize = 400 << 20;

/// The columns that are read, by their place.
const DATABASE_ID: usize = 0;
const NAME: usize = 1;
const QUALIFIER: usize = 2;
const TERM: usize = 3;
const REFERENCE: usize = 4;
const FREQUENCY: usize = 7;
const ASPECT: usize = 10;
const COLUMNS: usize = 12;

/// Ranges of the ontology's frequency terms (HP:0040279 and below), by their middle.
const TERMS: [(&str, f64); 6] = [
    ("HP:0040280", 1.0),
    ("HP:0040281", 0.895),
    ("HP:0040282", 0.545),
    ("HP:0040283", 0.17),
    ("HP:0040284", 0.025),
    ("HP:0040285", 0.0),
];

/// What counts where no frequency is given.
const UNKNOWN: f64 = 0.5;

/// The least and the most that a frequency counts.
const BOUNDS: (f64, f64) = (0.01, 0.99);

/// How much rarer an excluded finding is than in the background.
const EXCLUDED: f64 = 0.1;

/// Why a file cannot be used. Lines count from 1.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HpoError {
    /// More bytes than a file may have.
    #[error("the file has {found} bytes; at most {FILE_LIMIT} are read")]
    TooLong {
        /// Bytes there are.
        found: usize,
    },
    /// Not text.
    #[error("line {line}: not UTF-8")]
    NotText {
        /// Where.
        line: usize,
    },
    /// A row of another width.
    #[error("line {line}: {found} columns instead of {COLUMNS}, separated by tabs")]
    Columns {
        /// Where.
        line: usize,
        /// How many there are.
        found: usize,
    },
    /// The line of headings is missing or is another file's.
    #[error("line {line}: expected the headings database_id, disease_name, qualifier, hpo_id, …")]
    Headings {
        /// Where.
        line: usize,
    },
    /// A cell that says nothing.
    #[error("line {line}: {what}")]
    Cell {
        /// Where.
        line: usize,
        /// What should be there.
        what: &'static str,
    },
    /// A file without a single annotation of a disease.
    #[error("the file has no annotation of a disease")]
    Empty,
    /// A share of "none of these" that is none.
    #[error("the prior of \"none of these\" must lie above 0 and below 1")]
    Prior,
}

/// What a row says of a disease and a term.
#[derive(Clone, Copy)]
enum Frequency {
    /// So many of so many patients.
    Counted(f64, f64),
    /// A share.
    Share(f64),
    /// Looked for and never found.
    Excluded,
    /// There, nobody says how often.
    Unknown,
}

/// All rows of one disease and one term.
#[derive(Clone, Copy)]
struct Pair {
    frequency: Frequency,
    source: u32,
}

/// Reads a file. `none` is the prior of a disease that is not in it; the rest is shared by all alike.
///
/// # Errors
/// Too long, not UTF-8, ragged rows, other headings, cells that say nothing, no annotation, a prior out of range.
pub fn read(bytes: &[u8], none: f64) -> Result<LikelihoodTable, HpoError> {
    if bytes.len() > FILE_LIMIT {
        return Err(HpoError::TooLong { found: bytes.len() });
    }
    if !(none > 0.0 && none < 1.0) {
        return Err(HpoError::Prior);
    }
    let mut reading = Reading::default();
    for (line, bytes) in (1..).zip(bytes.split(|&byte| byte == b'\n')) {
        let text = std::str::from_utf8(bytes).map_err(|_| HpoError::NotText { line })?;
        reading.line(line, text.strip_suffix('\r').unwrap_or(text))?;
    }
    reading.finish(none)
}

#[derive(Default)]
struct Reading {
    has_headings: bool,
    provenance: Vec<String>,
    ids: Names,
    names: Vec<String>,
    terms: Names,
    sources: Names,
    pairs: HashMap<(u32, u32), Pair>,
}

impl Reading {
    fn line(&mut self, line: usize, text: &str) -> Result<(), HpoError> {
        if let Some(comment) = text.strip_prefix('#') {
            self.provenance.push(comment.trim().to_owned());
            return Ok(());
        }
        if text.is_empty() {
            return Ok(());
        }
        let cells: Vec<&str> = text.split('\t').collect();
        if !self.has_headings {
            let is_heading =
                cells.first() == Some(&"database_id") && cells.get(TERM) == Some(&"hpo_id");
            self.has_headings = is_heading;
            return if is_heading {
                Ok(())
            } else {
                Err(HpoError::Headings { line })
            };
        }
        let Ok(cells) = <[&str; COLUMNS]>::try_from(cells.as_slice()) else {
            return Err(HpoError::Columns {
                line,
                found: cells.len(),
            });
        };
        self.row(line, &cells)
    }

    fn row(&mut self, line: usize, cells: &[&str; COLUMNS]) -> Result<(), HpoError> {
        // Only phenotypes: inheritance, onset, course and modifiers are no findings.
        if cells[ASPECT] != "P" {
            return Ok(());
        }
        let needed = |cell: usize, what| match cells[cell] {
            "" => Err(HpoError::Cell { line, what }),
            text => Ok(text),
        };
        let id = needed(DATABASE_ID, "the disease has no id")?;
        let source = needed(REFERENCE, "the annotation has no reference")?;
        let term = cells[TERM];
        if !is_term(term) {
            return Err(HpoError::Cell {
                line,
                what: "the phenotype is not HP: and seven digits",
            });
        }
        let frequency = match cells[QUALIFIER] {
            "" => frequency(cells[FREQUENCY]).ok_or(HpoError::Cell {
                line,
                what: "the frequency is neither n/m with n ≤ m, nor a percentage, nor a frequency term",
            })?,
            "NOT" => Frequency::Excluded,
            _ => {
                return Err(HpoError::Cell {
                    line,
                    what: "the qualifier is neither empty nor NOT",
                });
            }
        };
        let disease = self.ids.place(id);
        if disease as usize == self.names.len() {
            self.names.push(cells[NAME].to_owned());
        }
        let term = self.terms.place(term);
        let source = self.sources.place(source);
        self.pairs
            .entry((term, disease))
            .and_modify(|pair| pair.frequency = pair.frequency.and(frequency))
            .or_insert(Pair { frequency, source });
        Ok(())
    }

    fn finish(self, none: f64) -> Result<LikelihoodTable, HpoError> {
        if self.pairs.is_empty() {
            return Err(HpoError::Empty);
        }
        let diseases = self.names.len() as f64;
        let mut sums = vec![0.0; self.terms.names.len()];
        for ((term, _), pair) in &self.pairs {
            sums[*term as usize] += pair.frequency.share().unwrap_or(0.0);
        }
        let findings: Vec<Finding> = self
            .terms
            .names
            .into_iter()
            .zip(sums)
            // Half a patient more, so that what only one disease has is rare and not impossible elsewhere.
            .map(|(id, sum)| Finding {
                id,
                background: ((sum + 0.5) / (diseases + 1.0)).min(BOUNDS.1),
            })
            .collect();
        let figures = self.pairs.iter().map(|(&(finding, condition), pair)| {
            let background = findings[finding as usize].background;
            let (present, absent) = match pair.frequency.share() {
                Some(q) => ((q + background - q * background) / background, 1.0 - q),
                None => (EXCLUDED, (1.0 - EXCLUDED * background) / (1.0 - background)),
            };
            Figure {
                finding,
                condition,
                present,
                absent,
                group: 0,
                source: pair.source,
            }
        });
        let figures = figures.collect();
        let prior = (1.0 - none) / diseases;
        let conditions = self
            .ids
            .names
            .into_iter()
            .zip(self.names)
            .map(|(id, name)| Listed { id, name, prior })
            .collect();
        Ok(LikelihoodTable::new(
            conditions,
            none,
            findings,
            figures,
            self.sources.names,
            self.provenance,
        ))
    }
}

impl Frequency {
    /// What two rows of one pair say together: counts add up, and a number beats a word. The order of other
    /// rows decides.
    fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Counted(a, b), Self::Counted(c, d)) => Self::Counted(a + c, b + d),
            (_, Self::Counted(..)) | (Self::Unknown | Self::Excluded, Self::Share(_)) => other,
            (Self::Excluded, Self::Unknown) => other,
            _ => self,
        }
    }

    /// The share of patients who have it; none for an excluded finding.
    fn share(self) -> Option<f64> {
        let share = match self {
            Self::Counted(_, 0.0) | Self::Unknown => UNKNOWN,
            Self::Counted(0.0, _) | Self::Share(0.0) | Self::Excluded => return None,
            Self::Counted(n, m) => (n + 1.0) / (m + 2.0),
            Self::Share(share) => share,
        };
        Some(share.clamp(BOUNDS.0, BOUNDS.1))
    }
}

/// `HP:` and seven digits.
fn is_term(text: &str) -> bool {
    text.strip_prefix("HP:")
        .is_some_and(|digits| digits.len() == 7 && digits.bytes().all(|b| b.is_ascii_digit()))
}

fn frequency(text: &str) -> Option<Frequency> {
    if text.is_empty() {
        return Some(Frequency::Unknown);
    }
    if let Some((_, share)) = TERMS.iter().find(|(term, _)| *term == text) {
        return Some(Frequency::Share(*share));
    }
    if let Some((n, m)) = text.split_once('/') {
        let (n, m): (u32, u32) = (n.parse().ok()?, m.parse().ok()?);
        return (n <= m).then(|| Frequency::Counted(n.into(), m.into()));
    }
    let percent: f64 = text.strip_suffix('%')?.parse().ok()?;
    (0.0..=100.0)
        .contains(&percent)
        .then_some(Frequency::Share(percent / 100.0))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HEADINGS: &str = "database_id\tdisease_name\tqualifier\thpo_id\treference\tevidence\tonset\t\
        frequency\tsex\tmodifier\taspect\tbiocuration";

    fn row(disease: &str, qualifier: &str, term: &str, frequency: &str, aspect: &str) -> String {
        format!(
            "{disease}\tName of {disease}\t{qualifier}\t{term}\tPMID:1\tPCS\t\t{frequency}\t\t\t{aspect}\tme"
        )
    }

    /// Made up: no row is from a real file.
    fn sample() -> String {
        [
            "#description: \"made up\"".to_owned(),
            "#version: 2000-01-01".to_owned(),
            HEADINGS.to_owned(),
            row("TEST:1", "", "HP:0000001", "3/4", "P"),
            row("TEST:1", "", "HP:0000002", "HP:0040283", "P"),
            row("TEST:1", "NOT", "HP:0000003", "", "P"),
            row("TEST:2", "", "HP:0000001", "12.5%", "P"),
            row("TEST:2", "", "HP:0000003", "", "P"),
            row("TEST:2", "", "HP:0000006", "", "I"),
        ]
        .join("\n")
    }

    fn ratios(table: &LikelihoodTable, term: &str) -> Vec<(usize, f64, f64)> {
        let figures = table.figures_of(term);
        figures
            .map(|(place, present, absent, _)| (place, present, absent))
            .collect()
    }

    #[test]
    fn frequencies_become_ratios_as_computed_by_hand() {
        let table = read(sample().as_bytes(), 0.5).expect("a good file");
        assert_eq!((table.conditions().len(), table.figures()), (2, 5));
        // Disease 1 has it in 4 of 6, disease 2 in 12.5 %: in the background (4/6 + 0.125 + 0.5) / 3.
        let background = (4.0 / 6.0 + 0.125 + 0.5) / 3.0;
        let present = |q: f64| (q + background - q * background) / background;
        let expected = [
            (0, present(4.0 / 6.0), 1.0 / 3.0),
            (1, present(0.125), 0.875),
        ];
        for (found, expected) in ratios(&table, "HP:0000001").iter().zip(expected) {
            assert_eq!(found.0, expected.0);
            assert!((found.1 - expected.1).abs() < 1e-12 && (found.2 - expected.2).abs() < 1e-12);
        }
        assert_eq!(ratios(&table, "HP:0000003")[0].1, 0.1, "excluded");
        assert!(
            ratios(&table, "HP:0000006").is_empty(),
            "inheritance is no finding"
        );
    }

    #[test]
    fn version_and_description_are_kept() {
        let table = read(sample().as_bytes(), 0.5).expect("a good file");
        assert_eq!(
            table.provenance(),
            ["description: \"made up\"", "version: 2000-01-01"]
        );
        let (_, _, _, source) = table.figures_of("HP:0000002").next().expect("a figure");
        assert_eq!(source, "PMID:1");
    }

    #[test]
    fn rows_of_one_pair_count_together() {
        let text = [
            HEADINGS.to_owned(),
            row("TEST:1", "", "HP:0000001", "", "P"),
            row("TEST:1", "", "HP:0000001", "1/1", "P"),
            row("TEST:1", "", "HP:0000001", "2/7", "P"),
        ];
        let table = read(text.join("\n").as_bytes(), 0.5).expect("a good file");
        // 3 of 8, smoothed to 4 of 10.
        assert!((ratios(&table, "HP:0000001")[0].2 - 0.6).abs() < 1e-12);
    }

    #[test]
    fn mistakes_are_named_with_their_line() {
        let with =
            |line: String| read(format!("{}\n{line}", sample()).as_bytes(), 0.5).expect_err("bad");
        let cell = |error: HpoError| matches!(error, HpoError::Cell { line: 10, .. });
        assert_eq!(
            with("TEST:3\tshort".to_owned()),
            HpoError::Columns { line: 10, found: 2 }
        );
        for frequency in ["5/4", "often", "101%", "-1%", "NaN%", "1/", "HP:0040279"] {
            assert!(
                cell(with(row("TEST:3", "", "HP:0000001", frequency, "P"))),
                "{frequency}"
            );
        }
        assert!(cell(with(row("TEST:3", "not", "HP:0000001", "", "P"))));
        assert!(cell(with(row("TEST:3", "", "HP:1", "", "P"))));
        assert!(cell(with(row("", "", "HP:0000001", "", "P"))));
        assert_eq!(
            read(b"hello", 0.5).expect_err("bad"),
            HpoError::Headings { line: 1 }
        );
        assert_eq!(
            read(b"\n\xff", 0.5).expect_err("bad"),
            HpoError::NotText { line: 2 }
        );
        assert_eq!(read(b"", 0.5).expect_err("bad"), HpoError::Empty);
        assert_eq!(
            read(sample().as_bytes(), 1.0).expect_err("bad"),
            HpoError::Prior
        );
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = read(&bytes, 0.5);
            let mut behind = sample().into_bytes();
            behind.push(b'\n');
            behind.extend(bytes);
            let _ = read(&behind, 0.5);
        }

        #[test]
        fn a_listed_finding_speaks_for_its_disease_and_its_absence_against(
            n in 1_u32..50, more in 0_u32..50, others in 0_usize..5,
        ) {
            let mut text = vec![
                HEADINGS.to_owned(),
                row("TEST:1", "", "HP:0000001", &format!("{n}/{}", n + more), "P"),
            ];
            text.extend((0..others).map(|i| row(&format!("TEST:9{i}"), "", "HP:0000001", "1/1", "P")));
            let table = read(text.join("\n").as_bytes(), 0.5).expect("a good file");
            let (_, present, absent) = ratios(&table, "HP:0000001")[0];
            prop_assert!(present > 1.0 && absent < 1.0);
        }
    }
}

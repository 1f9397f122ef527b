//! A site's own list of terms, as a file with tabs between its columns.
//!
//! ```text
//! # source: Human Phenotype Ontology 2025-01-16, https://hpo.jax.org
//! # licence: https://hpo.jax.org/app/license
//! code<TAB>system<TAB>term<TAB>lang
//! HP:0002090<TAB>hpo<TAB>Pneumonia<TAB>en
//! HP:0002090<TAB>hpo<TAB>肺炎<TAB>zh
//! ```
//!
//! Lines that start with `#` before the heading are about the file; `source` and `licence` must be
//! among them, because what a program says of a patient has to say where it has it from. A concept has
//! as many lines as it has names.

use std::{
    fs::File,
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use super::dictionary::{self, Dictionary, DictionaryError};

/// Most bytes that a terminology may have.
pub const TERMINOLOGY_LIMIT: u64 = 512 << 20;

const HEADING: &str = "code\tsystem\tterm\tlang";

/// Terms with their codes, and where they come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Terminology {
    /// Who made it, and which version it is.
    pub source: String,
    /// On which terms it may be used.
    pub licence: String,
    /// In the order of the file.
    pub terms: Vec<Term>,
}

/// A name of a concept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Term {
    /// How the concept is written.
    pub text: String,
    /// What is named.
    pub concept: Concept,
}

/// What terms stand for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Concept {
    /// The code: `J18.9`.
    pub code: String,
    /// In which system: `icd-10-cm`.
    pub system: String,
    /// The language of the term: two or three small letters.
    pub language: String,
}

/// Why a file is no terminology.
#[derive(Debug, thiserror::Error)]
pub enum TerminologyError {
    /// The file could not be read.
    #[error("could not read the terminology {}", file.display())]
    Read {
        /// Which file.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is larger than [`TERMINOLOGY_LIMIT`].
    #[error("the terminology {} has more than {TERMINOLOGY_LIMIT} bytes", file.display())]
    TooLarge {
        /// Which file.
        file: PathBuf,
    },
    /// A line says something else than it should.
    #[error("{}, line {line}: {reason}", file.display())]
    Line {
        /// Which file.
        file: PathBuf,
        /// Which line, from 1.
        line: usize,
        /// What is wrong.
        reason: String,
    },
}

impl Terminology {
    /// Reads a file.
    ///
    /// # Errors
    /// It cannot be read, is too large, does not say where it comes from, or a line is unsound.
    pub fn read(file: &Path) -> Result<Self, TerminologyError> {
        let mut bytes = Vec::new();
        File::open(file)
            .and_then(|opened| opened.take(TERMINOLOGY_LIMIT + 1).read_to_end(&mut bytes))
            .map_err(|source| TerminologyError::Read {
                file: file.to_owned(),
                source,
            })?;
        if bytes.len() as u64 > TERMINOLOGY_LIMIT {
            return Err(TerminologyError::TooLarge {
                file: file.to_owned(),
            });
        }
        parse(&bytes).map_err(|(line, reason)| TerminologyError::Line {
            file: file.to_owned(),
            line,
            reason,
        })
    }

    /// What finds its terms in a text, plurals among them.
    ///
    /// # Errors
    /// There are too many terms.
    pub fn into_dictionary(self) -> Result<Dictionary<Concept>, DictionaryError> {
        let terms = self.terms.into_iter();
        let dictionary = Dictionary::new(terms.map(|term| (term.text, term.concept)))?;
        Ok(dictionary.with_plurals())
    }
}

/// The line that is wrong, from 1, and why.
type Unsound = (usize, String);

fn parse(bytes: &[u8]) -> Result<Terminology, Unsound> {
    let bytes = bytes.strip_prefix("\u{feff}".as_bytes()).unwrap_or(bytes);
    let lines = bytes.split(|&byte| byte == b'\n').map(|line| {
        let line = std::str::from_utf8(line).map_err(|_| "not UTF-8".to_owned())?;
        Ok(line.strip_suffix('\r').unwrap_or(line))
    });
    let mut lines = (1..).zip(lines).map(|(at, line)| match line {
        Ok(line) => Ok((at, line)),
        Err(reason) => Err((at, reason)),
    });
    let (mut source, mut licence) = (None, None);
    for line in lines.by_ref() {
        let (at, line) = line?;
        let Some(about) = line.strip_prefix('#') else {
            if line == HEADING {
                break;
            }
            return Err((
                at,
                "the heading is code, system, term, lang, with tabs between".into(),
            ));
        };
        let (name, value) = about.split_once(':').unwrap_or_default();
        let value = Some(value.trim()).filter(|value| !value.is_empty());
        match name.trim() {
            "source" => source = source.or(value),
            "licence" => licence = licence.or(value),
            _ => {}
        }
    }
    let missing = |name| {
        (
            1,
            format!("a line `# {name}: …` has to stand before the heading"),
        )
    };
    let source = source.ok_or_else(|| missing("source"))?.to_owned();
    let licence = licence.ok_or_else(|| missing("licence"))?.to_owned();
    let mut terms = Vec::new();
    for line in lines {
        let (at, line) = line?;
        if !line.is_empty() {
            terms.push(term(line).map_err(|reason| (at, reason))?);
        }
    }
    Ok(Terminology {
        source,
        licence,
        terms,
    })
}

fn term(line: &str) -> Result<Term, String> {
    let cells: Vec<&str> = line.split('\t').map(str::trim).take(5).collect();
    let [code, system, text, language] = cells[..] else {
        return Err("a line has four cells, with tabs between".into());
    };
    if code.is_empty() || system.is_empty() {
        return Err("a term needs its code and system".into());
    }
    let letters = language.bytes().all(|byte| byte.is_ascii_lowercase());
    if !letters || !(2..=3).contains(&language.len()) {
        return Err("a language is two or three small letters".into());
    }
    dictionary::key(text).map_err(|error| error.to_string())?;
    Ok(Term {
        text: text.to_owned(),
        concept: Concept {
            code: code.to_owned(),
            system: system.to_owned(),
            language: language.to_owned(),
        },
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ABOUT: &str = "# source: a test\n# licence: none needed\n";

    fn refused(text: impl AsRef<[u8]>) -> Unsound {
        parse(text.as_ref()).expect_err("unsound")
    }

    fn refused_line(line: &str) -> String {
        let (at, reason) = refused(format!("{ABOUT}{HEADING}\nC1\tx\tasthma\ten\n\n{line}\n"));
        assert_eq!(at, 6);
        reason
    }

    #[test]
    fn terms_are_read_with_where_they_come_from_and_found_in_text() {
        let text = format!(
            "\u{feff}# anything\n{ABOUT}{HEADING}\r\nJ45\ticd-10-cm\tAsthma\ten\r\n\r\nJ45\ticd-10-cm\t哮喘\tzh\n"
        );
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("terms.tsv");
        std::fs::write(&file, text).expect("room");
        let terminology = Terminology::read(&file).expect("sound");
        assert_eq!(
            (&*terminology.source, &*terminology.licence),
            ("a test", "none needed")
        );
        let dictionary = terminology.into_dictionary().expect("few terms");
        let found = dictionary.find("支气管哮喘, bronchial asthmas");
        let languages: Vec<&str> = found
            .iter()
            .map(|m| m.values[0].language.as_str())
            .collect();
        assert_eq!(languages, ["zh", "en"]);
        assert!(found.iter().all(|found| found.values[0].code == "J45"));
    }

    #[test]
    fn a_file_that_does_not_say_where_it_comes_from_is_refused() {
        let rows = "J45\tx\tAsthma\ten\n";
        assert!(refused(format!("{HEADING}\n{rows}")).1.contains("source"));
        assert!(
            refused(format!("# source: a\n# licence: \n{HEADING}\n{rows}"))
                .1
                .contains("licence")
        );
        assert_eq!(refused(format!("{ABOUT}{rows}")).0, 3);
        assert!(refused("").1.contains("heading"));
    }

    #[test]
    fn an_unsound_line_is_named_by_its_number_and_not_repeated() {
        assert!(refused_line("J45\tx\tSecret").contains("four"));
        assert!(refused_line("J45\tx\tSecret\ten\t").contains("four"));
        assert!(refused_line("\tx\tSecret\ten").contains("code"));
        assert!(refused_line("J45\t\tSecret\ten").contains("system"));
        assert!(refused_line("J45\tx\tSecret\tEnglish").contains("language"));
        assert!(refused_line("J45\tx\t - \ten").contains("term"));
        assert!(!refused_line("J45\tx\tSecret\tE").contains("Secret"));
        let mut bytes = format!("{ABOUT}{HEADING}\n").into_bytes();
        bytes.extend([b'a', 0xff, b'\n']);
        assert_eq!(refused(bytes), (4, "not UTF-8".into()));
    }

    #[test]
    fn errors_name_the_file() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("terms.tsv");
        assert!(matches!(
            Terminology::read(&file),
            Err(TerminologyError::Read { .. })
        ));
        std::fs::write(&file, "no heading").expect("room");
        let message = Terminology::read(&file).expect_err("unsound").to_string();
        assert!(message.contains("terms.tsv, line 1"), "{message}");
    }

    proptest! {
        #[test]
        fn no_file_brings_it_down(rows in "([a-z\\t\\r#:\u{0}ä]{0,12}\n){0,6}", bytes: Vec<u8>) {
            let _ = parse(format!("{ABOUT}{HEADING}\n{rows}").as_bytes());
            let _ = parse(&bytes);
        }
    }
}

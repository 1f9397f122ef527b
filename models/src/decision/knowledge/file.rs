//! From the text of a knowledge file to its entries, each with its line.

use std::{
    collections::HashSet,
    io,
    path::{Path, PathBuf},
};

use serde::de::DeserializeOwned;
use toml::{
    Spanned,
    de::{DeTable, DeValue, ValueDeserializer},
};

use super::{
    Concept, Condition, Contraindication, Header, Interaction, Likelihood, Rule, Score, Source,
    Treatment,
    problem::{Problem, near},
};

/// Most bytes that a knowledge file may have.
pub const FILE_LIMIT: usize = 4 << 20;
/// Most files that are read together.
pub const FILES_LIMIT: usize = 500;
/// Most entries that a file may have.
const ENTRY_LIMIT: usize = 20_000;

/// A knowledge file: its name, for messages, and its text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnowledgeFile {
    /// How messages call it.
    pub name: String,
    /// What it says, in TOML.
    pub text: String,
}

/// Why knowledge files could not be read from disk.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// A file or folder could not be opened or read.
    #[error("could not read {}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// More bytes than a knowledge file may have.
    #[error("{} is longer than {FILE_LIMIT} bytes", path.display())]
    TooLong {
        /// Which.
        path: PathBuf,
    },
    /// Bytes that are no text.
    #[error("{} is not UTF-8: save it as UTF-8", path.display())]
    Encoding {
        /// Which.
        path: PathBuf,
    },
    /// A folder without a file that ends in `.toml`.
    #[error("{} has no .toml file", path.display())]
    Empty {
        /// Which.
        path: PathBuf,
    },
    /// More files than are read together.
    #[error("{} has more than {FILES_LIMIT} .toml files", path.display())]
    TooMany {
        /// Which folder.
        path: PathBuf,
    },
}

/// An entry, and where it stands.
#[derive(Debug, Clone)]
pub(super) struct Placed<T> {
    /// The entry.
    pub(super) entry: T,
    /// Which of the files.
    pub(super) file: usize,
    /// The line it begins on, counted from 1.
    pub(super) line: usize,
}

/// The entries of files, section by section.
#[derive(Debug, Default)]
pub(super) struct Entries {
    pub(super) headers: Vec<Header>,
    pub(super) sources: Vec<Placed<Source>>,
    pub(super) concepts: Vec<Placed<Concept>>,
    pub(super) conditions: Vec<Placed<Condition>>,
    pub(super) likelihoods: Vec<Placed<Likelihood>>,
    pub(super) rules: Vec<Placed<Rule>>,
    pub(super) scores: Vec<Placed<Score>>,
    pub(super) treatments: Vec<Placed<Treatment>>,
    pub(super) interactions: Vec<Placed<Interaction>>,
    pub(super) contraindications: Vec<Placed<Contraindication>>,
    /// Ids of entries that could not be read.
    pub(super) broken: HashSet<String>,
}

impl Entries {
    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.sources.len()
            + self.concepts.len()
            + self.conditions.len()
            + self.likelihoods.len()
            + self.rules.len()
            + self.scores.len()
            + self.treatments.len()
            + self.interactions.len()
            + self.contraindications.len()
    }
}

const SECTIONS: [&str; 10] = [
    "header",
    "source",
    "concept",
    "condition",
    "likelihood",
    "rule",
    "score",
    "treatment",
    "interaction",
    "contraindication",
];

impl KnowledgeFile {
    /// Reads one file, or all files of a folder that end in `.toml`, by name.
    ///
    /// # Errors
    /// What could not be read, is too long or no text; a folder with no or too many files.
    pub fn read(path: &Path) -> Result<Vec<Self>, ReadError> {
        let io = |source| ReadError::Io {
            path: path.to_owned(),
            source,
        };
        if !path.is_dir() {
            return Ok(vec![Self::read_one(path)?]);
        }
        let mut paths = Vec::new();
        for entry in path.read_dir().map_err(io)? {
            let entry = entry.map_err(io)?.path();
            if entry.extension().is_some_and(|ending| ending == "toml") && entry.is_file() {
                paths.push(entry);
            }
            if paths.len() > FILES_LIMIT {
                return Err(ReadError::TooMany {
                    path: path.to_owned(),
                });
            }
        }
        if paths.is_empty() {
            return Err(ReadError::Empty {
                path: path.to_owned(),
            });
        }
        paths.sort();
        paths.iter().map(|path| Self::read_one(path)).collect()
    }

    fn read_one(path: &Path) -> Result<Self, ReadError> {
        use io::Read;

        let io = |source| ReadError::Io {
            path: path.to_owned(),
            source,
        };
        let mut bytes = Vec::new();
        let file = std::fs::File::open(path).map_err(io)?;
        // One byte more than allowed tells a file that is too long, whatever its metadata says.
        file.take(FILE_LIMIT as u64 + 1)
            .read_to_end(&mut bytes)
            .map_err(io)?;
        if bytes.len() > FILE_LIMIT {
            return Err(ReadError::TooLong {
                path: path.to_owned(),
            });
        }
        let text = String::from_utf8(bytes).map_err(|_| ReadError::Encoding {
            path: path.to_owned(),
        })?;
        Ok(Self {
            name: path.display().to_string(),
            text,
        })
    }
}

/// Reads a file into `entries`, and says what could not be read.
pub(super) fn parse(file: &KnowledgeFile, at: usize, entries: &mut Entries) -> Vec<Problem> {
    let mut reader = Reader {
        file,
        at,
        lines: Lines::of(&file.text),
        problems: Vec::new(),
        broken: HashSet::new(),
        read: 0,
    };
    reader.file(entries);
    entries.broken.extend(reader.broken);
    reader.problems
}

struct Reader<'f> {
    file: &'f KnowledgeFile,
    at: usize,
    lines: Lines,
    problems: Vec<Problem>,
    broken: HashSet<String>,
    read: usize,
}

impl<'f> Reader<'f> {
    fn file(&mut self, entries: &mut Entries) {
        if self.file.text.len() > FILE_LIMIT {
            let what = format!("the file is longer than {FILE_LIMIT} bytes");
            return self.report(None, None, what, "split it");
        }
        let (table, errors) = DeTable::parse_recoverable(&self.file.text);
        if !errors.is_empty() {
            for error in errors.into_iter().take(20) {
                let line = error.span().map(|span| self.lines.line(span.start));
                let what = format!("this is no TOML: {}", one_line(error.message()));
                self.report(
                    line,
                    None,
                    what,
                    "mend the line, or look at a file that works",
                );
            }
            return;
        }
        let mut has_header = false;
        for (section, value) in table.into_inner() {
            let line = self.lines.line(section.span().start);
            match section.get_ref().as_ref() {
                "header" => {
                    has_header = true;
                    if let Some(header) = self.entry("header", value) {
                        self.header(&header);
                        entries.headers.push(header.entry);
                    }
                }
                "source" => self.section("source", value, &mut entries.sources),
                "concept" => self.section("concept", value, &mut entries.concepts),
                "condition" => self.section("condition", value, &mut entries.conditions),
                "likelihood" => self.section("likelihood", value, &mut entries.likelihoods),
                "rule" => self.section("rule", value, &mut entries.rules),
                "score" => self.section("score", value, &mut entries.scores),
                "treatment" => self.section("treatment", value, &mut entries.treatments),
                "interaction" => self.section("interaction", value, &mut entries.interactions),
                "contraindication" => {
                    self.section("contraindication", value, &mut entries.contraindications);
                }
                other => {
                    let what = format!("there is no section {:?}", shortened(other));
                    let fix = match near(other, SECTIONS) {
                        Some(meant) => format!("did you mean {meant:?}?"),
                        None => format!("sections are {}", SECTIONS.join(", ")),
                    };
                    self.report(Some(line), None, what, fix);
                }
            }
        }
        if !has_header {
            let fix = "open it with [header]: name, version, licence, language, disclaimer";
            self.report(None, None, "the file has no header".into(), fix);
        }
    }

    fn header(&mut self, header: &Placed<Header>) {
        let it = &header.entry;
        let texts = [&it.name, &it.version, &it.licence, &it.disclaimer];
        if texts.iter().any(|text| text.trim().is_empty()) {
            let what = "name, version, licence or disclaimer says nothing".into();
            let fix = "write what a reader should know";
            self.report(Some(header.line), Some("header".into()), what, fix);
        }
    }

    fn section<T: DeserializeOwned>(
        &mut self,
        section: &'static str,
        value: Spanned<DeValue<'f>>,
        into: &mut Vec<Placed<T>>,
    ) {
        let line = self.lines.line(value.span().start);
        let DeValue::Array(values) = value.into_inner() else {
            let what = format!("{section} is not a list");
            let fix = format!("write [[{section}]] before each entry");
            return self.report(Some(line), None, what, fix);
        };
        for value in values {
            self.read += 1;
            if self.read > ENTRY_LIMIT {
                let what = format!("the file has more than {ENTRY_LIMIT} entries");
                return self.report(Some(line), None, what, "split it");
            }
            into.extend(self.entry(section, value));
        }
    }

    fn entry<T: DeserializeOwned>(
        &mut self,
        section: &'static str,
        value: Spanned<DeValue<'f>>,
    ) -> Option<Placed<T>> {
        let line = self.lines.line(value.span().start);
        let id = value
            .get_ref()
            .get("id")
            .and_then(|id| id.get_ref().as_str());
        let id = id.map(str::to_owned);
        let label = label(section, value.get_ref());
        match T::deserialize(ValueDeserializer::from(value)) {
            Ok(entry) => Some(Placed {
                entry,
                file: self.at,
                line,
            }),
            Err(error) => {
                let line = error
                    .span()
                    .map_or(line, |span| self.lines.line(span.start));
                let what = one_line(error.message());
                let fix = advice(&what);
                self.report(Some(line), Some(label), what, fix);
                self.broken.extend(id);
                None
            }
        }
    }

    fn report(
        &mut self,
        line: Option<usize>,
        id: Option<String>,
        what: String,
        fix: impl Into<String>,
    ) {
        self.problems.push(Problem {
            file: self.file.name.clone(),
            line,
            id,
            what,
            fix: fix.into(),
        });
    }
}

/// How messages call an entry that could not be read: by its section and what names it.
fn label(section: &str, value: &DeValue<'_>) -> String {
    let text = |key: &str| value.get(key).and_then(|value| value.get_ref().as_str());
    let of = |keys: &[&str]| {
        let words: Vec<&str> = keys.iter().filter_map(|key| text(key)).collect();
        words.join(" / ")
    };
    let name = match section {
        "likelihood" => of(&["condition", "finding"]),
        "interaction" => {
            let between = value.get("between").and_then(|it| it.get_ref().as_array());
            let names = between.into_iter().flatten();
            let names: Vec<&str> = names
                .filter_map(|it| it.get_ref().as_str())
                .take(2)
                .collect();
            names.join(" / ")
        }
        "header" => String::new(),
        _ => of(&["id"]),
    };
    format!("{section} {}", shortened(&name))
        .trim_end()
        .to_owned()
}

/// What to do about a message of the parser. It lists in backquotes what was found, then what may stand
/// there.
fn advice(message: &str) -> String {
    let quoted: Vec<&str> = message.split('`').skip(1).step_by(2).collect();
    match quoted.split_first() {
        Some((found, allowed)) if message.starts_with("unknown") => {
            match near(found, allowed.iter().copied()) {
                Some(meant) => format!("did you mean `{meant}`?"),
                None => "take one of those names, or leave it out".into(),
            }
        }
        Some((missing, _)) if message.starts_with("missing") => format!("add {missing} = …"),
        _ => "see docs/knowledge.md for what may stand here".into(),
    }
}

fn one_line(message: &str) -> String {
    let words: Vec<&str> = message.split_whitespace().collect();
    shortened(&words.join(" ")).to_owned()
}

/// Text from a file as a message may repeat it.
pub(super) fn shortened(text: &str) -> &str {
    match text.char_indices().nth(400) {
        Some((at, _)) => text.get(..at).unwrap_or(text),
        None => text,
    }
}

/// Where lines begin.
struct Lines(Vec<usize>);

impl Lines {
    fn of(text: &str) -> Self {
        let ends = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        Self(ends.map(|(at, _)| at).collect())
    }

    /// The line of a byte, counted from 1.
    fn line(&self, byte: usize) -> usize {
        self.0.partition_point(|end| *end < byte) + 1
    }
}

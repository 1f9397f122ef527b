//! The file: one JSON object a line, each in the one form that this version writes.
//!
//! ```text
//! {"audit_export":1}
//! {"roster":"…"}                                  every epoch from 0, as governance signed it
//! {"site":"…"}                                    a signed statement, then what belongs to it:
//! {"plan":{"study":"…","canonical":"…"}}
//! {"entry":"…"}                                   the ledger's entries from 1
//! {"receipt":{"sequence":7,"bytes":"…"}}          what the coordinator gave for an entry
//! {"end":{"lines":12,"sha256":"…"}}               of all bytes before this line
//! ```

use ring::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};

use super::{Finding, Flaw, Hex, Place};

/// The form that this version writes.
const VERSION: u32 = 1;

/// The ledgers of some sites, and what is needed to check them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Export {
    /// The roster's epochs as they were signed, from 0.
    pub roster: Vec<Vec<u8>>,
    /// The sites.
    pub sites: Vec<SiteExport>,
}

/// One site's part.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SiteExport {
    /// The signed [`SiteStatement`](super::SiteStatement).
    pub statement: Vec<u8>,
    /// The plans of the studies that its ledger names.
    pub plans: Vec<PlanText>,
    /// The bytes of its entries, oldest first.
    pub entries: Vec<Vec<u8>>,
    /// What the coordinator gave it for its entries.
    pub receipts: Vec<Receipt>,
}

/// The plan of a study.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlanText {
    /// The study.
    pub study: Hex<[u8; 16]>,
    /// Its canonical JSON.
    pub canonical: String,
}

/// What the coordinator gave for an entry, in a form of its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Receipt {
    /// Position of the entry.
    pub sequence: u64,
    /// The bytes.
    pub bytes: Hex<Vec<u8>>,
}

/// The first line that this version does not write so.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line} ({what}): {reason}")]
pub struct FormatError {
    pub(super) line: usize,
    what: String,
    reason: String,
}

impl From<FormatError> for Finding {
    fn from(error: FormatError) -> Self {
        Self {
            site: None,
            place: Place::Line(error.line, error.what),
            flaw: Flaw::Part(error.reason),
        }
    }
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum Line {
    AuditExport(u32),
    Roster(Hex<Vec<u8>>),
    Site(Hex<Vec<u8>>),
    Plan(PlanText),
    Entry(Hex<Vec<u8>>),
    Receipt(Receipt),
    End { lines: usize, sha256: Hex<[u8; 32]> },
}

impl Export {
    /// The file.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut file = Writer::default();
        file.put(&Line::AuditExport(VERSION));
        for epoch in &self.roster {
            file.put(&Line::Roster(Hex(epoch.clone())));
        }
        for site in &self.sites {
            file.put(&Line::Site(Hex(site.statement.clone())));
            for plan in &site.plans {
                file.put(&Line::Plan(plan.clone()));
            }
            for entry in &site.entries {
                file.put(&Line::Entry(Hex(entry.clone())));
            }
            for receipt in &site.receipts {
                file.put(&Line::Receipt(receipt.clone()));
            }
        }
        file.put(&Line::End {
            lines: file.lines,
            sha256: sha256(&file.bytes),
        });
        file.bytes
    }

    /// Reads lines as [`to_bytes`](Self::to_bytes) writes them, and no others. What they say is
    /// believed by nobody yet, also not the digest in the last one: see [`check_end`].
    ///
    /// [`check_end`]: Self::check_end
    ///
    /// # Errors
    /// The first line in another form.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, FormatError> {
        let mut reader = Reader::default();
        for (index, raw) in bytes.split_inclusive(|&byte| byte == b'\n').enumerate() {
            let refused = |reader: &Reader, reason: &str| FormatError {
                line: index + 1,
                what: reader.name(raw),
                reason: reason.to_owned(),
            };
            let Some(text) = raw.strip_suffix(b"\n") else {
                return Err(refused(&reader, "the file breaks off here"));
            };
            let line: Line = serde_json::from_slice(text)
                .map_err(|error| refused(&reader, &format!("cannot be read: {error}")))?;
            // One form only: no blank, escape or digit may stand there otherwise.
            if serde_json::to_vec(&line).is_ok_and(|again| again != text) {
                return Err(refused(&reader, "is written in another form"));
            }
            if reader.take(line).is_none() {
                return Err(refused(&reader, "does not belong here"));
            }
        }
        match reader.stage {
            Stage::Ended => Ok(reader.export),
            _ => Err(FormatError {
                line: bytes.iter().filter(|&&byte| byte == b'\n').count() + 1,
                what: "the end".to_owned(),
                reason: "is missing: the file was cut off".to_owned(),
            }),
        }
    }
}

impl Export {
    /// Compares the last line of a file that could be read with the lines before it. Apart from the
    /// reading, so that a change is also looked for in the parts themselves.
    ///
    /// # Errors
    /// The lines are not those that were written.
    pub fn check_end(bytes: &[u8]) -> Result<(), FormatError> {
        let lines: Vec<_> = bytes.split_inclusive(|&byte| byte == b'\n').collect();
        let last = lines.last().copied().unwrap_or_default();
        let mut file = Writer {
            bytes: Vec::new(),
            lines: lines.len().saturating_sub(1),
        };
        let sha256 = sha256(&bytes[..bytes.len() - last.len()]);
        file.put(&Line::End {
            lines: file.lines,
            sha256,
        });
        match file.bytes == last {
            true => Ok(()),
            false => Err(FormatError {
                line: lines.len(),
                what: "the end".to_owned(),
                reason: "the lines before it are not those that were written".to_owned(),
            }),
        }
    }
}

fn sha256(bytes: &[u8]) -> Hex<[u8; 32]> {
    let mut found = [0; 32];
    found.copy_from_slice(digest(&SHA256, bytes).as_ref());
    Hex(found)
}

#[derive(Default)]
struct Writer {
    bytes: Vec<u8>,
    lines: usize,
}

impl Writer {
    fn put(&mut self, line: &Line) {
        // Strings and numbers: JSON can write all of it.
        let text = serde_json::to_vec(line).expect("a line is representable in JSON");
        self.bytes.extend(text);
        self.bytes.push(b'\n');
        self.lines += 1;
    }
}

/// Which kind of line was read last.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    #[default]
    Nothing,
    Roster,
    Site,
    Plans,
    Entries,
    Receipts,
    Ended,
}

#[derive(Default)]
struct Reader {
    export: Export,
    stage: Stage,
}

impl Reader {
    /// Puts a line where it belongs; `None` if it belongs elsewhere.
    fn take(&mut self, line: Line) -> Option<()> {
        use Stage::{Ended, Entries, Nothing, Plans, Receipts, Roster, Site};
        let (stage, after) = match &line {
            Line::AuditExport(VERSION) => (Roster, Nothing..=Nothing),
            Line::AuditExport(_) => return None,
            Line::Roster(_) => (Roster, Roster..=Roster),
            Line::Site(_) => (Site, Roster..=Receipts),
            Line::Plan(_) => (Plans, Site..=Plans),
            Line::Entry(_) => (Entries, Site..=Entries),
            Line::Receipt(_) => (Receipts, Site..=Receipts),
            Line::End { .. } => (Ended, Roster..=Receipts),
        };
        if !after.contains(&self.stage) {
            return None;
        }
        self.stage = stage;
        let last = self.export.sites.last_mut();
        match line {
            Line::AuditExport(_) | Line::End { .. } => {}
            Line::Roster(Hex(epoch)) => self.export.roster.push(epoch),
            Line::Site(Hex(statement)) => self.export.sites.push(SiteExport {
                statement,
                ..SiteExport::default()
            }),
            Line::Plan(plan) => last?.plans.push(plan),
            Line::Entry(Hex(entry)) => last?.entries.push(entry),
            Line::Receipt(receipt) => last?.receipts.push(receipt),
        }
        Some(())
    }

    /// What a line seems to be, for people who look for what was changed.
    fn name(&self, line: &[u8]) -> String {
        let starts = |key: &str| line.starts_with(format!("{{\"{key}\":").as_bytes());
        let sites = self.export.sites.len();
        let last = self.export.sites.last();
        let entries = last.map_or(0, |site| site.entries.len());
        if starts("entry") {
            format!("entry {} of site {sites} in the file", entries + 1)
        } else if starts("roster") {
            format!("roster epoch {}", self.export.roster.len())
        } else if starts("site") {
            format!("statement of site {} in the file", sites + 1)
        } else if starts("plan") {
            format!("a plan of site {sites} in the file")
        } else if starts("receipt") {
            format!("a receipt of site {sites} in the file")
        } else if starts("end") {
            "the end".to_owned()
        } else if self.stage == Stage::Nothing {
            "the first line".to_owned()
        } else if sites == 0 {
            format!("after roster epoch {}", self.export.roster.len().max(1) - 1)
        } else {
            format!("after entry {entries} of site {sites} in the file")
        }
    }
}

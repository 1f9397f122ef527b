//! `consilium note …`: one clinical note on this machine. No network; nothing is stored.

mod report;

use std::{
    fs::File,
    io::{self, IsTerminal as _, Read},
    path::{Path, PathBuf},
    time::SystemTime,
};

use anyhow::{Context as _, Result};
use clap::{Args, Subcommand};
use consilium_agent::{
    fhir::{self, mapping::Concepts, moment::Day},
    settings::{IdentifierLists, Settings},
    store::Store,
};
use consilium_models::{
    analysis::{Analyst, NOTE_LIMIT, Trained},
    decision::{
        facts::{Facts, JSON_LIMIT},
        knowledge::Knowledge,
    },
    text::terminology::{Terminology, TerminologyError},
};
use consilium_privacy::{
    deidentify::{Deidentifier, Dictionaries},
    pseudonym::PseudonymKey,
};
use consilium_proto::ErrorCode;
use serde_json::json;

use super::{knowledge, model};
use crate::{
    failure::{Classify as _, refuse},
    output,
    unlock::Unlock,
};

/// Clinical notes.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Read a note: entities, values, differential, questions, plans, each with its reasons
    ///
    /// What it concludes rests on the starter set of knowledge (an example, not medical advice; for
    /// research use only) and on the files given with --knowledge. Nothing leaves this machine.
    Analyse(Box<Analyse>),
    /// Write a note with stand-ins for what points to a person
    ///
    /// Rules miss things: a note without what they find is not anonymous.
    Deidentify(Deidentify),
}

#[derive(Debug, Args)]
pub(super) struct Analyse {
    /// The note, a file in UTF-8; - for standard input
    #[arg(value_name = "FILE|-")]
    note: PathBuf,
    /// Knowledge file or folder, behind the starter set; may be given more than once
    #[arg(long = "knowledge", value_name = "PATH")]
    knowledge: Vec<PathBuf>,
    /// List of terms with codes (code, system, term, lang, with tabs between)
    #[arg(long = "terminology", value_name = "FILE")]
    terminologies: Vec<PathBuf>,
    /// What is known besides: demographics, facts, allergies, drugs
    #[arg(long, value_name = "FILE.json")]
    facts: Option<PathBuf>,
    /// What a FHIR R4 chart says of the patient: problems, medicines, allergies, measurements
    #[arg(long, value_name = "CHART.json", conflicts_with = "facts")]
    chart: Option<PathBuf>,
    /// Whose part of the chart, as `Patient/7`; not needed where it has one patient
    #[arg(long, value_name = "ID", requires = "chart")]
    patient: Option<String>,
    /// Trained model: the study's plan and the weights that it released; may be given more than once
    #[arg(long = "model", num_args = 2, value_names = ["PLAN.toml", "WEIGHTS.safetensors"])]
    models: Vec<PathBuf>,
    /// Folder of the public encoder that some plans ask for
    #[arg(long, value_name = "DIR")]
    text_encoder: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    /// Print without colours
    #[arg(long)]
    no_colour: bool,
}

#[derive(Debug, Args)]
pub(super) struct Deidentify {
    /// The note, a file in UTF-8; - for standard input
    #[arg(value_name = "FILE|-")]
    note: PathBuf,
    /// The agent's folder, for its key and its lists: the same stand-ins as in training
    #[arg(long, value_name = "DIR", requires = "patient")]
    agent: Option<PathBuf>,
    /// Whose note it is, as the hospital writes it: dates of a patient move together
    #[arg(long, value_name = "ID")]
    patient: Option<String>,
    #[command(flatten)]
    unlock: Unlock,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

impl Command {
    pub(super) async fn run(self) -> Result<()> {
        match self {
            Self::Analyse(options) => options.run(),
            Self::Deidentify(options) => options.run().await,
        }
    }
}

impl Analyse {
    fn run(&self) -> Result<()> {
        let note = read_note(&self.note)?;
        let knowledge = knowledge::read(&self.knowledge)?;
        let known = match (&self.facts, &self.chart) {
            (Some(path), _) => read_facts(path)?,
            (None, Some(path)) => self.charted(path, &knowledge)?,
            (None, None) => Facts::default(),
        };
        let mut analyst = Analyst::new(&knowledge)?;
        for file in &self.terminologies {
            let terminology = match Terminology::read(file) {
                Err(error @ TerminologyError::Read { .. }) => return Err(error.into()),
                other => other.classify(ErrorCode::Invalid)?,
            };
            analyst = analyst
                .with_terminology(terminology)
                .classify(ErrorCode::Invalid)?;
        }
        for pair in self.models.chunks(2) {
            let [plan, weights] = pair else { continue };
            let model = Trained::new(&model::read(plan, weights)?, self.text_encoder.as_deref());
            analyst = analyst.with_model(model.classify(ErrorCode::Invalid)?);
        }
        let analysis = analyst.analyse(&note, &known)?;
        if self.json {
            return output::json(&analysis);
        }
        let is_plain =
            self.no_colour || std::env::var_os("NO_COLOR").is_some() || !io::stdout().is_terminal();
        output::line(report::text(&note, &analysis, &knowledge, !is_plain))
    }
}

impl Analyse {
    /// What a chart says of the patient. What it says in codes that the knowledge does not know is counted.
    fn charted(&self, path: &Path, knowledge: &Knowledge) -> Result<Facts> {
        let chart = fhir::read(path).classify(ErrorCode::Invalid)?;
        let found = chart.facts();
        let patients = &found.patients;
        let of = match (&self.patient, patients.len()) {
            (Some(id), _) => patients.get(id),
            (None, 1) => patients.values().next(),
            (None, _) => None,
        };
        let Some(of) = of else {
            let known: Vec<&str> = patients.keys().take(5).map(String::as_str).collect();
            let message = format!(
                "the chart {} has {} patients ({}{}): name one of them with --patient",
                path.display(),
                patients.len(),
                known.join(", "),
                if patients.len() > 5 { ", …" } else { "" },
            );
            return refuse(ErrorCode::Missing, message);
        };
        let today = Day::of(SystemTime::now()).context("reading the clock")?;
        let mapped = of.to_facts(today, &Concepts::of(knowledge));
        if !mapped.unmapped.is_empty() {
            output::note(format_args!(
                "{} statements of the chart have no concept in the knowledge and do not count",
                mapped.unmapped.len()
            ));
        }
        Ok(mapped.facts)
    }
}

impl Deidentify {
    async fn run(self) -> Result<()> {
        let note = read_note(&self.note)?;
        let (key, dictionaries) = self.key().await?;
        let deidentifier = Deidentifier::new(&dictionaries).classify(ErrorCode::Invalid)?;
        let patient = self.patient.as_deref().unwrap_or("note");
        let clean = deidentifier.replace(&note, &key, patient);
        let (of, is_fresh) = match &self.agent {
            Some(folder) => (format!("the site's key in {}", folder.display()), false),
            None => (
                "a fresh key, which is not kept: another run gives other stand-ins".into(),
                true,
            ),
        };
        if self.json {
            let replaced = clean.replacements().iter().map(|it| {
                json!({
                    "kind": it.kind.label(),
                    "original": { "start": it.original.start, "end": it.original.end },
                    "replaced": { "start": it.replaced.start, "end": it.replaced.end },
                })
            });
            return output::json(&json!({
                "text": clean.text(),
                "replaced": replaced.collect::<Vec<_>>(),
                "key": if is_fresh { "fresh" } else { "site" },
            }));
        }
        output::note(format_args!(
            "{} replaced with {of}",
            clean.replacements().len()
        ));
        output::line(clean.text().trim_end_matches('\n'))
    }

    /// The key of the stand-ins, and the site's own lists.
    async fn key(&self) -> Result<(PseudonymKey, Dictionaries)> {
        let Some(folder) = &self.agent else {
            return Ok((PseudonymKey::random()?, Dictionaries::default()));
        };
        if !folder.is_dir() {
            return refuse(
                ErrorCode::Missing,
                format!("there is no agent in {}", folder.display()),
            );
        }
        let settings = Settings::load(&folder.join("agent.toml"))?;
        let store = Store::open(folder, self.unlock.open()?.into()).await?;
        let key = PseudonymKey::from_bytes(*store.pseudonyms().as_bytes());
        store.close().await;
        Ok((key, dictionaries(&settings.identifiers)?))
    }
}

fn dictionaries(lists: &IdentifierLists) -> Result<Dictionaries> {
    let read = |file: &Option<PathBuf>| -> Result<Vec<String>> {
        let Some(file) = file else {
            return Ok(Vec::new());
        };
        let text =
            std::fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))?;
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        Ok(lines.map(str::to_owned).collect())
    };
    Ok(Dictionaries {
        names: read(&lists.names)?,
        places: read(&lists.places)?,
        identifiers: read(&lists.numbers)?,
    })
}

/// A note's text; `-` is standard input. Errors say what is wrong with it, never what it says.
pub(super) fn read_note(path: &Path) -> Result<String> {
    let name = if path == Path::new("-") {
        "standard input".into()
    } else {
        path.display().to_string()
    };
    let context = || format!("reading the note {name}");
    let bytes = match path == Path::new("-") {
        true => bounded(io::stdin().lock(), NOTE_LIMIT as u64),
        false => File::open(path).and_then(|file| bounded(file, NOTE_LIMIT as u64)),
    };
    let bytes = bytes.with_context(context)?;
    let invalid = |what: String| refuse(ErrorCode::Invalid, format!("the note {name} {what}"));
    let Some(bytes) = bytes else {
        return invalid(format!("has more than {NOTE_LIMIT} bytes"));
    };
    if let Some(at) = bytes.iter().position(|&byte| byte == 0) {
        return invalid(format!(
            "is no text: byte {at} is 0 (if it is UTF-16, save it as UTF-8)"
        ));
    }
    let text = match String::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => {
            let at = error.utf8_error().valid_up_to();
            return invalid(format!("is not UTF-8 from byte {at} on: save it as UTF-8"));
        }
    };
    if text
        .trim_matches(|c: char| c.is_whitespace() || c == '\u{feff}')
        .is_empty()
    {
        return invalid("is empty".into());
    }
    Ok(text)
}

/// All bytes; none where there are more than `limit`, whatever the length says that the file has.
fn bounded(from: impl Read, limit: u64) -> io::Result<Option<Vec<u8>>> {
    let mut bytes = Vec::new();
    from.take(limit + 1).read_to_end(&mut bytes)?;
    Ok((bytes.len() as u64 <= limit).then_some(bytes))
}

fn read_facts(path: &Path) -> Result<Facts> {
    let context = || format!("reading the facts {}", path.display());
    let bytes = File::open(path).and_then(|file| bounded(file, JSON_LIMIT as u64));
    let Some(bytes) = bytes.with_context(context)? else {
        let message = format!(
            "the facts {} have more than {JSON_LIMIT} bytes",
            path.display()
        );
        return refuse(ErrorCode::Invalid, message);
    };
    Facts::from_json(&bytes)
        .classify(ErrorCode::Invalid)
        .with_context(context)
}

//! `consilium predict note`.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::Args;
use consilium_models::{
    analysis::{Analysis, Analyst, Trained},
    decision::facts::Facts,
};
use consilium_proto::{Digest, ErrorCode};
use serde_json::json;

use super::{bar, csv, files, finish};
use crate::{
    cli::{knowledge, model, note::read_note},
    failure::Classify as _,
    output,
};

/// Endings of files that are read in a folder.
const ENDINGS: [&str; 1] = ["txt"];
/// Conditions of a note that people are shown.
const SHOWN: usize = 3;

#[derive(Debug, Args)]
pub(in crate::cli) struct Options {
    /// Notes, files in UTF-8, or folders of .txt files
    #[arg(required = true, value_name = "FILE|DIR")]
    paths: Vec<PathBuf>,
    /// Knowledge file or folder, behind the starter set; may be given more than once
    #[arg(long = "knowledge", value_name = "PATH")]
    knowledge: Vec<PathBuf>,
    /// Trained model: the study's plan and the weights that it released; may be given more than once
    #[arg(long = "model", num_args = 2, value_names = ["PLAN.toml", "WEIGHTS.safetensors"])]
    models: Vec<PathBuf>,
    /// Folder of the public encoder that some plans ask for
    #[arg(long, value_name = "DIR")]
    text_encoder: Option<PathBuf>,
    /// Also write one row for each condition or class of each note
    #[arg(long, value_name = "FILE.csv")]
    csv: Option<PathBuf>,
    /// Print one JSON object for each note, with the whole analysis
    #[arg(long)]
    json: bool,
}

impl Options {
    pub(super) fn run(&self) -> Result<()> {
        let knowledge = knowledge::read(&self.knowledge)?;
        let mut analyst = Analyst::new(&knowledge)?;
        for pair in self.models.chunks(2) {
            let [plan, weights] = pair else { continue };
            let trained = Trained::new(&model::read(plan, weights)?, self.text_encoder.as_deref());
            analyst = analyst.with_model(trained.classify(ErrorCode::Invalid)?);
        }
        let files = files(&self.paths, &ENDINGS)?;
        let bar = bar(files.len());
        let (mut rows, mut failed) = (Vec::new(), Vec::new());
        for file in &files {
            let read = read_note(file).and_then(|note| {
                let analysis = analyst.analyse(&note, &Facts::default());
                Ok((
                    Digest::plain(note.as_bytes()),
                    analysis.context("analysing it")?,
                ))
            });
            match read {
                Ok((input, analysis)) => {
                    let said = said(&analysis);
                    let name = file.display().to_string();
                    bar.suspend(|| match self.json {
                        true => output::json(&json!({
                            "file": file,
                            "input": input,
                            "analysis": analysis,
                            "use": "research only: not a medical device",
                        })),
                        false => output::line(line(&name, &said)),
                    })?;
                    rows.extend(said.into_iter().map(|it| it.row(&name)));
                }
                Err(error) => failed.push(format!("{}: {error:#}", file.display())),
            }
            bar.inc(1);
        }
        bar.finish_and_clear();
        if let Some(path) = &self.csv {
            let header = ["file", "by", "says", "probability"]
                .map(str::to_owned)
                .to_vec();
            csv(path, std::iter::once(header).chain(rows))?;
        }
        if !self.json {
            output::note(
                "`note analyse` gives the reasons; for research use only: not a medical device",
            );
        }
        finish(&failed, files.len())
    }
}

/// One condition of the differential, or one class of a model.
struct Said {
    by: String,
    says: String,
    probability: f64,
}

impl Said {
    fn row(self, file: &str) -> Vec<String> {
        let probability = self.probability.to_string();
        vec![file.to_owned(), self.by, self.says, probability]
    }
}

fn said(analysis: &Analysis) -> Vec<Said> {
    let candidates = analysis.differential.candidates.iter();
    let conditions = candidates.filter(|it| it.is_supported).map(|it| Said {
        by: "differential".into(),
        says: it.condition.to_string(),
        probability: it.probability,
    });
    let classes = analysis.classes.iter().map(|it| Said {
        by: it.model.name.clone(),
        says: it.class.clone(),
        probability: it.probability.into(),
    });
    conditions.chain(classes).collect()
}

fn line(file: &str, said: &[Said]) -> String {
    if said.is_empty() {
        return format!("{file}: too little to say anything");
    }
    let shown = said.iter().take(SHOWN);
    let shown = shown.map(|it| format!("{} {:.1} %", it.says, 100.0 * it.probability));
    format!("{file}: {}", shown.collect::<Vec<_>>().join(", "))
}

//! `consilium predict image`.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Instant,
};

use anyhow::{Context as _, Result};
use clap::Args;
use consilium_agent::data::picture_file::{self, ENDINGS};
use consilium_models::{
    imaging::PIXEL_LIMIT,
    prediction::{Calibration, ImageModel, ImagePrediction, explanation::Scored, overlay},
    released::Released,
};
use consilium_proto::{Digest, ErrorCode};
use serde::Serialize;
use serde_json::json;

use super::{bar, csv, files, finish, report};
use crate::{
    cli::model::{self, ModelFiles},
    failure::Classify as _,
    output,
};

#[derive(Debug, Args)]
pub(in crate::cli) struct Options {
    /// Pictures (PNG, JPEG or DICOM), or folders of them
    #[arg(required = true, value_name = "FILE|DIR")]
    paths: Vec<PathBuf>,
    #[command(flatten)]
    files: ModelFiles,
    /// What this hospital knows of the model, as `model calibrate` wrote it
    #[arg(long, value_name = "FILE.json")]
    calibration: Option<PathBuf>,
    /// Also write each picture with heat maps over it into this folder: where its class comes from
    #[arg(long, value_name = "DIR")]
    explain: Option<PathBuf>,
    /// Also write a preliminary report of each picture into this folder, as a FHIR R4 transaction; of DICOM
    /// files, which say whose they are
    #[arg(long, value_name = "DIR")]
    fhir: Option<PathBuf>,
    /// The system that Patient IDs belong to, in reports
    #[arg(
        long,
        value_name = "URI",
        default_value = "urn:consilium:patient-id",
        requires = "fhir"
    )]
    patient_system: String,
    /// Also write one row for each picture
    #[arg(long, value_name = "FILE.csv")]
    csv: Option<PathBuf>,
    /// Print one JSON object for each picture
    #[arg(long)]
    json: bool,
}

/// What was said of one file.
#[derive(Serialize)]
pub(super) struct Said {
    file: PathBuf,
    /// SHA-256 of the file.
    pub(super) input: Digest,
    #[serde(flatten)]
    pub(super) prediction: ImagePrediction,
    #[serde(skip_serializing_if = "Option::is_none")]
    explanation: Option<Maps>,
    /// The file with the report.
    #[serde(skip_serializing_if = "Option::is_none")]
    report: Option<PathBuf>,
    milliseconds: f64,
}

/// Where heat maps were written to, and how faithful they are.
#[derive(Serialize)]
struct Maps {
    #[serde(skip_serializing_if = "Option::is_none")]
    grad_cam: Option<Map>,
    occlusion: Map,
}

#[derive(Serialize)]
struct Map {
    file: PathBuf,
    /// Mean probability while the hottest places are taken away: low is good.
    deletion: f32,
    /// Mean probability while they are given back: high is good.
    insertion: f32,
}

impl Options {
    pub(super) fn run(&self) -> Result<()> {
        let released = self.files.read()?;
        let looks = ImageModel::new(&released).classify(ErrorCode::Invalid)?;
        let known = self.calibration.as_deref();
        let known = known.map(|path| model::calibration(path, &looks));
        let model = Ready {
            released,
            calibration: known.transpose()?,
            looks,
        };
        for folder in self.explain.iter().chain(&self.fhir) {
            fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
        }
        let files = files(&self.paths, &ENDINGS)?;
        let bar = bar(files.len());
        let (mut rows, mut failed) = (Vec::new(), Vec::new());
        for (number, file) in files.iter().enumerate() {
            match self.one(&model, number, file) {
                Ok(said) if self.json => {
                    bar.suspend(|| output::json(&with_provenance(&said, &model.released)))?;
                    rows.push(said);
                }
                Ok(said) => {
                    bar.suspend(|| output::line(line(&said)))?;
                    rows.push(said);
                }
                Err(error) => failed.push(format!("{}: {error:#}", file.display())),
            }
            bar.inc(1);
        }
        bar.finish_and_clear();
        if let Some(path) = &self.csv {
            let header = [
                &["file", "class", "probability", "set", "unlike"].map(str::to_owned)[..],
                model.looks.classes(),
            ];
            csv(
                path,
                std::iter::once(header.concat())
                    .chain(rows.iter().map(|said| row(said, model.looks.classes()))),
            )?;
        }
        if !self.json {
            self.note(&model);
        }
        finish(&failed, files.len())
    }

    fn note(&self, model: &Ready) {
        let identity = model.released.identity();
        output::note(format_args!(
            "the model {} (SHA-256 {})",
            identity.name, identity.sha256
        ));
        if model.calibration.is_none() {
            output::note(
                "probabilities are the model's own: `model calibrate` makes them this hospital's",
            );
        }
        output::note("for research use only: not a medical device");
    }

    fn one(&self, model: &Ready, number: usize, file: &Path) -> Result<Said> {
        let bytes = fs::read(file)?;
        let started = Instant::now();
        let opened = picture_file::open(&bytes, PIXEL_LIMIT)?;
        let input = model.looks.input(&opened.picture);
        let prediction = model.looks.predict(&input, model.calibration.as_ref())?;
        let milliseconds = started.elapsed().as_secs_f64() * 1e3;
        let mut said = Said {
            file: file.to_owned(),
            input: Digest::plain(&bytes),
            prediction,
            explanation: None,
            report: None,
            milliseconds,
        };
        // Numbered: files of different folders may have one name.
        let name = file.file_stem().unwrap_or_default().to_string_lossy();
        let name = format!("{:05}-{name}", number + 1);
        if let Some(folder) = &self.explain {
            let write = |scored: &Scored, way: &str| -> Result<Map> {
                let path = folder.join(format!("{name}-{way}.png"));
                output::file(&path, &overlay::over(&opened.picture, &scored.heat)?)?;
                Ok(Map {
                    file: path,
                    deletion: scored.deletion,
                    insertion: scored.insertion,
                })
            };
            let reasons = model
                .looks
                .explain(&input, model.likeliest(&said.prediction))?;
            let map = reasons.class_map.as_ref();
            said.explanation = Some(Maps {
                grad_cam: map.map(|scored| write(scored, "grad-cam")).transpose()?,
                occlusion: write(&reasons.occlusion, "occlusion")?,
            });
        }
        if let Some(folder) = &self.fhir {
            let report = report::of(model, &said, opened.tags.as_deref(), &self.patient_system)?;
            let path = folder.join(format!("{name}.json"));
            output::file(&path, report.to_fhir().as_bytes())?;
            said.report = Some(path);
        }
        Ok(said)
    }
}

/// A model that is ready to look at pictures, and what is known of it.
pub(super) struct Ready {
    pub(super) released: Released,
    looks: ImageModel,
    pub(super) calibration: Option<Calibration>,
}

impl Ready {
    /// The place of the likeliest class in the plan's list.
    fn likeliest(&self, prediction: &ImagePrediction) -> usize {
        let likeliest = prediction.likeliest().map(|said| said.class.as_str());
        let mut classes = self.looks.classes().iter();
        let place = classes.position(|known| Some(known.as_str()) == likeliest);
        place.unwrap_or(0)
    }
}

/// For programs: what was said, and by which model.
fn with_provenance(said: &Said, released: &Released) -> serde_json::Value {
    let plan = released.plan();
    let mut value = json!(said);
    value["model"] = json!({
        "name": released.identity().name,
        "sha256": released.identity().sha256,
        "plan": plan.digest(),
        "rounds": plan.rounds,
        "sites": plan.cohort.size,
        "epsilon": plan.privacy.epsilon,
        "delta": plan.privacy.delta,
    });
    value["use"] = json!("research only: not a medical device");
    value
}

/// For people: one line a picture.
fn line(said: &Said) -> String {
    let prediction = &said.prediction;
    let classes = prediction.classes.iter().take(3);
    let classes: Vec<String> = classes
        .map(|it| format!("{} {:.1} %", it.class, 100.0 * it.probability))
        .collect();
    let mut line = format!("{}: {}", said.file.display(), classes.join(", "));
    if let Some(set) = &prediction.set {
        match set.is_empty() {
            true => line += "; no class is as likely as true ones usually are",
            false => line += &format!("; set {{{}}}", set.join(", ")),
        }
    }
    if prediction.is_unlike_known == Some(true) {
        line += &output::red("; unlike the pictures it was checked on");
    }
    line
}

fn row(said: &Said, classes: &[String]) -> Vec<String> {
    let prediction = &said.prediction;
    let likeliest = prediction.likeliest();
    let mut row = vec![
        said.file.display().to_string(),
        likeliest.map(|it| it.class.clone()).unwrap_or_default(),
        likeliest
            .map(|it| it.probability.to_string())
            .unwrap_or_default(),
        prediction
            .set
            .as_ref()
            .map(|set| set.join(" "))
            .unwrap_or_default(),
        prediction
            .is_unlike_known
            .map(|is| is.to_string())
            .unwrap_or_default(),
    ];
    let of = |class: &String| prediction.classes.iter().find(|it| it.class == *class);
    row.extend(classes.iter().map(|class| {
        of(class)
            .map(|it| it.probability.to_string())
            .unwrap_or_default()
    }));
    row
}

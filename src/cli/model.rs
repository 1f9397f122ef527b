//! `consilium model …`: a released model and what this hospital knows of it.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use clap::{Args, Subcommand};
use consilium_agent::data::{self, Part};
use consilium_models::{
    network::Target,
    prediction::{Calibration, CalibrationFile, FEWEST, ImageModel, Rates, Share},
    random::Random,
    released::Released,
};
use consilium_proto::ErrorCode;

use super::study;
use crate::{
    failure::{Classify as _, refuse},
    output, scoring,
};

/// Largest file of weights that is read, in bytes.
const WEIGHTS_LIMIT: u64 = 2 << 30;
/// Largest calibration that is read, in bytes.
const CALIBRATION_LIMIT: u64 = 16 << 20;

/// Released models.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Learn from records of this hospital how far to trust an image model
    ///
    /// The file that is written holds figures of these records: it is for this hospital alone. The model must
    /// not have been trained on them.
    Calibrate(Calibrate),
    /// Write an image, table or note model as a file in the ONNX format, for other programs
    ///
    /// Its input is what enters the network, its output the probabilities. The plan's digest, the classes and the
    /// SHA-256 of the weights stand in its metadata. For research use only: not a medical device.
    Export(Export),
}

/// The files that a study released.
#[derive(Debug, Args)]
pub(super) struct ModelFiles {
    /// The study's plan
    #[arg(long, value_name = "PLAN.toml")]
    plan: PathBuf,
    /// The weights that the study released
    #[arg(long, value_name = "FILE.safetensors")]
    weights: PathBuf,
}

impl ModelFiles {
    /// Reads and checks both.
    ///
    /// # Errors
    /// A file that cannot be read, or is not the other's.
    pub(super) fn read(&self) -> Result<Released> {
        read(&self.plan, &self.weights)
    }
}

/// Reads a released model: the plan, and the weights that fit it.
///
/// # Errors
/// A file that cannot be read, or is not the other's.
pub(super) fn read(plan: &Path, weights: &Path) -> Result<Released> {
    let plan = study::plan::read(plan)?;
    let context = || format!("reading the model {}", weights.display());
    let bytes = bounded(weights, WEIGHTS_LIMIT).with_context(context)?;
    let released = Released::from_file(plan, &bytes);
    released.classify(ErrorCode::Invalid).with_context(context)
}

#[derive(Debug, Args)]
pub(super) struct Calibrate {
    #[command(flatten)]
    files: ModelFiles,
    /// Labelled pictures that the model has not seen: `{train,val,test}/<class>/*`, a MedMNIST npz
    #[arg(long, value_name = "PATH")]
    data: PathBuf,
    /// Part of the data
    #[arg(long, default_value = "val", value_name = "PART")]
    part: Part,
    /// How often the true class may be missing from the set of classes: above 0, below 1
    #[arg(long, default_value = "0.1", value_name = "RATE", value_parser = share)]
    error_rate: Share,
    /// How often a usual picture may be called unlike the others: above 0, below 1
    #[arg(long, default_value = "0.01", value_name = "RATE", value_parser = share)]
    alarm_rate: Share,
    /// Where to write what was learnt
    #[arg(long, value_name = "FILE.json")]
    out: PathBuf,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub(super) struct Export {
    #[command(flatten)]
    files: ModelFiles,
    /// Where to write the model
    #[arg(long, value_name = "OUT.onnx")]
    onnx: PathBuf,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

fn share(text: &str) -> Result<Share, String> {
    let number: f64 = text.parse().map_err(|_| "is no number".to_owned())?;
    Share::try_from(number).map_err(|error| error.to_string())
}

/// Reads what is known of a model.
///
/// # Errors
/// No such file, another model's.
pub(super) fn calibration(path: &Path, model: &ImageModel) -> Result<Calibration> {
    let context = || format!("reading the calibration {}", path.display());
    let bytes = bounded(path, CALIBRATION_LIMIT).with_context(context)?;
    let file: CalibrationFile = serde_json::from_slice(&bytes)
        .classify(ErrorCode::Invalid)
        .with_context(context)?;
    let (known, asked) = (&file.model_sha256, &model.identity().sha256);
    if known != asked {
        let path = path.display();
        let message = format!("the calibration {path} is of the model {known}, not of {asked}");
        return refuse(ErrorCode::Precondition, message);
    }
    Ok(file.calibration)
}

impl Command {
    pub(super) fn run(self) -> Result<()> {
        match self {
            Self::Calibrate(options) => options.run(),
            Self::Export(options) => options.run(),
        }
    }
}

impl Calibrate {
    fn run(self) -> Result<()> {
        let released = self.files.read()?;
        let model = ImageModel::new(&released).classify(ErrorCode::Invalid)?;
        let plan = released.plan();
        let source = scoring::source(plan, &self.data, self.part, None)?;
        let set = data::read(&source, &plan.classes, None)?;
        let mut records = Vec::with_capacity(set.len());
        for examples in set.examples(plan, None)? {
            for example in examples? {
                if let Target::Class(class) = example.target {
                    records.push((example.input, class));
                }
            }
        }
        shuffle(&mut records, plan.seed);
        let rates = Rates {
            error: self.error_rate,
            alarm: self.alarm_rate,
        };
        let found = records.len();
        let calibration = model
            .calibrate(&records, rates)
            .classify(ErrorCode::Invalid);
        let calibration = calibration.with_context(|| {
            format!("calibrating takes {FEWEST} records or more, found {found}")
        })?;
        let file = CalibrationFile {
            model_sha256: model.identity().sha256.clone(),
            records: records.len(),
            calibration,
        };
        output::file(&self.out, &serde_json::to_vec_pretty(&file)?)?;
        if self.json {
            return output::json(&serde_json::json!({
                "file": self.out,
                "records": file.records,
                "temperature": file.calibration.temperature,
            }));
        }
        output::note("what was learnt is of this hospital's records: keep it here");
        output::line(format_args!(
            "{}: {} records, temperature {:.3}",
            self.out.display(),
            file.records,
            f64::from(file.calibration.temperature)
        ))
    }
}

impl Export {
    fn run(self) -> Result<()> {
        let released = self.files.read()?;
        let bytes = released.to_onnx().classify(ErrorCode::Invalid)?;
        output::file(&self.onnx, &bytes)?;
        let (network, identity) = (released.plan().network.name(), released.identity());
        if self.json {
            return output::json(&serde_json::json!({
                "file": self.onnx,
                "bytes": bytes.len(),
                "network": network,
                "plan_digest": identity.version,
                "weights_sha256": identity.sha256,
            }));
        }
        output::note("for research use only: not a medical device");
        output::line(format_args!(
            "{}: {network}, {} bytes",
            self.onnx.display(),
            bytes.len()
        ))
    }
}

/// An order that means nothing, the same in every run.
fn shuffle<T>(records: &mut [T], seed: u64) {
    let mut random = Random::new(&[seed]);
    for at in (1..records.len()).rev() {
        records.swap(at, (random.bits() % (at as u64 + 1)) as usize);
    }
}

/// All bytes of a file that may have so many.
fn bounded(path: &Path, limit: u64) -> Result<Vec<u8>> {
    use std::io::Read as _;
    let mut bytes = Vec::new();
    std::fs::File::open(path)?
        .take(limit + 1)
        .read_to_end(&mut bytes)?;
    match bytes.len() as u64 <= limit {
        true => Ok(bytes),
        false => refuse(
            ErrorCode::Invalid,
            format!("it has more than {limit} bytes"),
        ),
    }
}

//! `consilium dicom …`: objects of the hospital's archive, as files.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use clap::{Args, Subcommand, ValueEnum};
use consilium_agent::{
    dicom::{
        DataSet, Decoder, Limits, Request,
        deidentify::{Dates, Deidentifier, Options, Pixels, ProjectKey, Release, Unlisted},
    },
    store::Store,
};
use consilium_privacy::pseudonym::PseudonymKey;
use consilium_proto::ErrorCode;
use serde_json::json;

use super::predict::{bar, files};
use crate::{failure::refuse, output, unlock::Unlock};

/// Endings of files that are looked at in a folder.
const ENDINGS: [&str; 2] = ["dcm", "dicom"];

/// DICOM objects.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Say of each file whether its picture can be used, and if not, why; names nobody
    Check {
        /// Files, or folders of `.dcm` and `.dicom` files
        #[arg(required = true, value_name = "FILE|DIR")]
        paths: Vec<PathBuf>,
        /// Print one JSON object for each file
        #[arg(long)]
        json: bool,
    },
    /// Write objects without what names their patients (PS3.15 Basic Profile)
    ///
    /// Pixels are not touched: objects that may show a name in them are held back and listed.
    Deidentify(Box<Deidentify>),
}

#[derive(Debug, Args)]
pub(super) struct Deidentify {
    /// Files, or folders of `.dcm` and `.dicom` files
    #[arg(required = true, value_name = "FILE|DIR")]
    paths: Vec<PathBuf>,
    /// Folder to write to; made if it does not exist
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// The agent's folder, for its key: the same stand-ins in every run
    #[arg(long, value_name = "DIR")]
    agent: Option<PathBuf>,
    #[command(flatten)]
    unlock: Unlock,
    /// What becomes of dates and times
    #[arg(long, value_enum, default_value = "removed", value_name = "HOW")]
    dates: KeptDates,
    /// Keep only what training needs: pixels, how they are laid out and shown, and stand-ins
    #[arg(long)]
    for_training: bool,
    /// Keep attributes that the standard's table does not name, as the standard has it
    #[arg(long, conflicts_with = "for_training")]
    keep_unlisted: bool,
    /// Declare that a person has looked at the pictures, and none shows whose it is
    #[arg(long)]
    pixels_seen: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// What becomes of dates and times.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum KeptDates {
    /// They go.
    Removed,
    /// They move by a number of days of the patient's own.
    Moved,
    /// They stay.
    Kept,
}

impl Command {
    pub(super) async fn run(self) -> Result<()> {
        match self {
            Self::Check { paths, json } => check(&paths, json).await,
            Self::Deidentify(options) => options.run().await,
        }
    }
}

async fn check(paths: &[PathBuf], is_json: bool) -> Result<()> {
    let decoder = Decoder::of_this_program().context("finding this program")?;
    let files = files(paths, &ENDINGS)?;
    let bar = bar(files.len());
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for file in &files {
        let bytes = fs::read(file).with_context(|| format!("reading {}", file.display()))?;
        let decoded = decoder.decode(&bytes, &Request::default()).await;
        let (verdict, detail) = match decoded {
            Ok(decoded) => match decoded.picture {
                Ok(shown) => {
                    let doubts = decoded.suspicions.iter().map(ToString::to_string);
                    let size = format!("{} x {}", shown.picture.width(), shown.picture.height());
                    let detail = std::iter::once(size).chain(doubts).collect::<Vec<_>>();
                    ("readable", detail.join("; "))
                }
                Err(refusal) => ("no picture", refusal.to_string()),
            },
            Err(error) => ("refused", error.to_string()),
        };
        *counts.entry(verdict.to_owned()).or_default() += 1;
        bar.suspend(|| match is_json {
            true => output::json(&json!({ "file": file, "verdict": verdict, "detail": detail })),
            false => output::line(format_args!("{}: {verdict}: {detail}", file.display())),
        })?;
        bar.inc(1);
    }
    bar.finish_and_clear();
    let counted = counts
        .iter()
        .map(|(verdict, count)| format!("{count} {verdict}"));
    output::note(counted.collect::<Vec<_>>().join(", "));
    Ok(())
}

impl Deidentify {
    async fn run(self) -> Result<()> {
        let deidentifier = Deidentifier::new(
            self.key().await?,
            Options {
                dates: match self.dates {
                    KeptDates::Removed => Dates::Removed,
                    KeptDates::Moved => Dates::Moved,
                    KeptDates::Kept => Dates::Kept,
                },
                unlisted: match self.keep_unlisted {
                    true => Unlisted::Keep,
                    false => Unlisted::Scrub,
                },
                ..Options::default()
            },
        );
        fs::create_dir_all(&self.out).with_context(|| format!("making {}", self.out.display()))?;
        let files = files(&self.paths, &ENDINGS)?;
        let bar = bar(files.len());
        let (mut written, mut held, mut failed) = (Vec::new(), Vec::new(), Vec::new());
        for file in &files {
            match self.one(&deidentifier, file) {
                Ok(Ok(path)) => written.push(path),
                Ok(Err(why)) => held.push((file, why)),
                Err(error) => failed.push((file, format!("{error:#}"))),
            }
            bar.inc(1);
        }
        bar.finish_and_clear();
        let list = |list: &[(&PathBuf, String)]| -> Vec<_> {
            let entry = |(file, why): &(&PathBuf, String)| json!({ "file": file, "reason": why });
            list.iter().map(entry).collect()
        };
        if self.json {
            output::json(&json!({
                "written": written,
                "held": list(&held),
                "failed": list(&failed),
                "key": if self.agent.is_some() { "site" } else { "fresh" },
            }))?;
        } else {
            for (file, why) in held.iter().chain(&failed) {
                output::note(format_args!("{}: {why}", file.display()));
            }
            output::line(format_args!(
                "{} written to {}, {} held back, {} not read",
                written.len(),
                self.out.display(),
                held.len(),
                failed.len()
            ))?;
        }
        if held.is_empty() && failed.is_empty() {
            return Ok(());
        }
        let message = "some objects were not written: those held back may show a name in their pixels \
                       (look at them, then say so with --pixels-seen)";
        refuse(ErrorCode::Precondition, message)
    }

    /// Writes one object, by its new name; or says why it is held back.
    fn one(&self, deidentifier: &Deidentifier, file: &Path) -> Result<Result<PathBuf, String>> {
        let bytes = fs::read(file)?;
        let object = DataSet::read(bytes, &Limits::default())?.to_object()?;
        let pixels = match self.pixels_seen {
            true => Pixels::SeenClean,
            false => Pixels::Unseen,
        };
        let release = match self.for_training {
            true => deidentifier.training_object(object, pixels)?,
            false => deidentifier.export(object, pixels)?,
        };
        let object = match release {
            Release::Ready(object) => object,
            Release::Held(suspicions) => {
                let reasons = suspicions.iter().map(ToString::to_string);
                return Ok(Err(reasons.collect::<Vec<_>>().join("; ")));
            }
        };
        let name = object.meta().media_storage_sop_instance_uid();
        // A stand-in, or the object's own under `keep_uids`: digits and dots either way.
        let name = name.trim_end_matches(['\0', ' ']);
        let path = self.out.join(format!("{name}.dcm"));
        let mut bytes = Vec::new();
        object.write_all(&mut bytes).context("writing the object")?;
        output::file(&path, &bytes)?;
        Ok(Ok(path))
    }

    /// The site's key, or a fresh one that is not kept.
    async fn key(&self) -> Result<ProjectKey> {
        let Some(folder) = &self.agent else {
            let key = PseudonymKey::random()?;
            return Ok(ProjectKey::from_bytes(*key.as_bytes()));
        };
        if !folder.is_dir() {
            let message = format!("there is no agent in {}", folder.display());
            return refuse(ErrorCode::Missing, message);
        }
        let store = Store::open(folder, self.unlock.open()?.into()).await?;
        let key = ProjectKey::from_bytes(*store.pseudonyms().as_bytes());
        store.close().await;
        Ok(key)
    }
}

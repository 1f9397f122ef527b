//! Scores versions on data that is the researcher's own or public.

use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::Args;
use consilium_agent::data::Part;
use consilium_proto::StudyId;
use serde_json::json;

use super::Form;
use crate::{
    curve::Point,
    output,
    researcher::{Researcher, Study},
    scoring::{Figures, Means, Scorer},
};

/// Data to score on.
#[derive(Debug, Args)]
pub(in crate::cli) struct PublicData {
    /// Public data: a folder `{train,val,test}/<class>/*.png`, a MedMNIST npz, a CSV for tables, or notes
    #[arg(long = "data", value_name = "PATH")]
    path: PathBuf,
    #[command(flatten)]
    form: DataForm,
}

/// Data to score on, where there is some.
#[derive(Debug, Args)]
pub(in crate::cli) struct OptionalData {
    /// Public data to score versions on: a folder `{train,val,test}/<class>/*.png`, a MedMNIST npz,
    /// a CSV for tables, or notes
    #[arg(long = "data", value_name = "PATH")]
    path: Option<PathBuf>,
    #[command(flatten)]
    form: DataForm,
}

#[derive(Debug, Args)]
struct DataForm {
    /// Part of the data: train, val or test
    #[arg(long, default_value = "test", value_name = "PART")]
    part: Part,
    /// Column of a CSV that is the label
    #[arg(long, value_name = "COLUMN")]
    target: Option<String>,
    /// Folder of the public text encoder, for plans that ask for one
    #[arg(long, value_name = "DIR")]
    text_encoder: Option<PathBuf>,
}

impl DataForm {
    fn open(&self, study: &Study, path: &Path) -> Result<Scorer> {
        let means = Means {
            target: self.target.as_deref(),
            encoder: self.text_encoder.as_deref(),
        };
        Scorer::open(&study.plan, path, self.part, means)
    }
}

impl PublicData {
    fn scorer(&self, study: &Study) -> Result<Scorer> {
        self.form.open(study, &self.path)
    }
}

impl OptionalData {
    /// Makes ready to score this study, if there is data.
    pub(super) fn scorer(&self, study: &Study) -> Result<Option<Scorer>> {
        let open = |path| self.form.open(study, path);
        self.path.as_deref().map(open).transpose()
    }
}

pub(super) async fn run(
    researcher: &mut Researcher,
    id: StudyId,
    data: &PublicData,
    version: Option<u32>,
    form: Form,
) -> Result<()> {
    let mut study = researcher.show(id).await?;
    let scorer = data.scorer(&study)?;
    if version.is_some() {
        researcher.complete(&mut study).await?;
    }
    let (number, digest) = study.version(version)?;
    let weights = researcher.download(&study, digest).await?;
    let figures = scorer.score(&weights)?;
    let records = scorer.records();
    if form.json {
        let part = data.form.part.name();
        return output::json(&json!({
            "study": id, "version": number, "part": part, "records": records, "scores": figures,
        }));
    }
    output::line(format_args!("version {number} on {records} records"))?;
    output::line(table(&figures))
}

fn table(figures: &Figures) -> String {
    let rows = Figures::NAMES.iter().zip(figures.values());
    let rows =
        rows.filter_map(|(name, value)| Some(vec![name.to_string(), format!("{:.4}", value?)]));
    output::table(&rows.collect::<Vec<_>>())
}

/// All versions of a study in order, scored where there is data.
pub(super) async fn points(
    researcher: &mut Researcher,
    study: &Study,
    scorer: Option<&Scorer>,
) -> Result<Vec<Point>> {
    let mut points = Vec::new();
    for version in &study.detail.versions {
        let figures = match scorer {
            None => None,
            Some(scorer) => {
                let digest = version.model_digest.as_slice().try_into()?;
                Some(scorer.score(&researcher.download(study, digest).await?)?)
            }
        };
        points.push(Point::new(version, figures));
    }
    points.sort_by_key(|point| point.version);
    Ok(points)
}

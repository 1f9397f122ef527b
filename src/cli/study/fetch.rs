//! Brings a finished model home: file, card, metrics, learning curve.

use std::{fs, path::Path};

use anyhow::{Context as _, Result};
use consilium_proto::{StudyId, signed::Purpose};
use serde_json::json;

use super::{
    Form,
    evaluate::{OptionalData, points},
    plan,
};
use crate::{curve, output, researcher::Researcher};

pub(super) async fn run(
    researcher: &mut Researcher,
    id: StudyId,
    out: &Path,
    data: &OptionalData,
    form: Form,
) -> Result<()> {
    let mut study = researcher.show(id).await?;
    let scorer = data.scorer(&study)?;
    let release = researcher.release(&study).await?;
    researcher.complete(&mut study).await?;
    let points = points(researcher, &study, scorer.as_ref()).await?;

    fs::create_dir_all(out).with_context(|| format!("making {}", out.display()))?;
    let card = release
        .signed
        .verify(Purpose::ModelCard, release.signed.signer())?;
    let mut files = vec![
        ("model.safetensors", release.file.clone()),
        ("model-card.json", card.to_vec()),
        ("model-card.signed", release.signed.to_bytes()),
        ("metrics.csv", curve::to_csv(&points)?.into_bytes()),
    ];
    match curve::to_chart(&study.plan.name, &points) {
        Some(chart) => {
            files.push(("learning-curve.svg", chart.to_svg().into_bytes()));
            files.push(("learning-curve.png", chart.to_png()?));
        }
        None if scorer.is_some() => {
            output::note("no learning curve: the task has no accuracy; metrics.csv has its loss");
        }
        None => {
            output::note("no learning curve: give --data with public data to score versions on");
        }
    }
    for (name, bytes) in &files {
        let path = out.join(name);
        output::file(&path, bytes)?;
    }
    plan::warn(&study.plan);
    let written: Vec<_> = files.iter().map(|(name, _)| out.join(name)).collect();
    if form.json {
        return output::json(&json!({
            "study": id,
            "model": release.card.model_digest,
            "sha256": release.card.safetensors_sha256,
            "coordinator": release.signed.signer().fingerprint(),
            "files": written,
        }));
    }
    output::note("the card's signature is by a coordinator of the roster; the model is the card's");
    written
        .iter()
        .try_for_each(|path| output::line(path.display()))
}

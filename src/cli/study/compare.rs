//! Studies side by side.

use anyhow::Result;
use consilium_proto::StudyId;
use serde_json::json;

use super::{Form, evaluate::OptionalData, listing, plan};
use crate::{curve::Point, output, researcher::Researcher, scoring::Figures};

pub(super) async fn run(
    researcher: &mut Researcher,
    ids: &[StudyId],
    data: &OptionalData,
    form: Form,
) -> Result<()> {
    let header = [
        "study", "name", "state", "rounds", "strategy", "privacy", "ε spent",
    ];
    let mut rows = vec![
        header
            .iter()
            .chain(&Figures::NAMES[..3])
            .map(|s| s.to_string())
            .collect(),
    ];
    let mut objects = Vec::new();
    for &id in ids {
        let study = researcher.show(id).await?;
        let figures = match (data.scorer(&study)?, study.version(None)) {
            (Some(scorer), Ok((_, digest))) => {
                Some(scorer.score(&researcher.download(&study, digest).await?)?)
            }
            _ => None,
        };
        let last = study
            .detail
            .versions
            .iter()
            .max_by_key(|version| version.number);
        let epsilon = last.and_then(|version| Point::new(version, None).epsilon);
        let summary = study.summary();
        objects.push(json!({
            "study": listing::summary(summary),
            "strategy": study.plan.strategy.name(),
            "epsilon": epsilon,
            "delta": study.plan.privacy.delta,
            "scores": figures,
        }));
        let number = |value: Option<f64>| value.map_or("-".to_owned(), |v| format!("{v:.4}"));
        let values = figures.map_or([None; Figures::NAMES.len()], |figures| figures.values());
        let mut row = vec![
            id.to_string(),
            summary.name.clone(),
            listing::state(summary).to_owned(),
            format!("{}/{}", summary.rounds_done, summary.rounds),
            study.plan.strategy.name().to_owned(),
            plan::privacy(&study.plan),
            number(epsilon),
        ];
        row.extend(values[..3].iter().copied().map(number));
        rows.push(row);
    }
    if form.json {
        return output::json(&objects);
    }
    output::line(output::table(&rows))
}

//! Learning curves: the scores of a study's versions as a table and as a picture.

use anyhow::Result;
use consilium_proto::wire;
use serde::Serialize;

use crate::{
    chart::{BLUE, Chart, Colour, RED, Series},
    scoring::Figures,
};

/// One published version.
#[derive(Debug, Clone, Serialize)]
pub struct Point {
    /// Its number; 0 is the start.
    pub version: u32,
    /// Milliseconds since 1970.
    pub published_at: u64,
    /// Updates that went into it.
    pub sites: usize,
    /// Largest ε of the sites up to this version; none without privacy.
    pub epsilon: Option<f64>,
    /// δ that it holds at.
    pub delta: Option<f64>,
    /// How good it is on public data, where such data was given.
    #[serde(skip)]
    pub figures: Option<Figures>,
}

impl Point {
    /// What the coordinator says of a version.
    pub fn new(version: &wire::Version, figures: Option<Figures>) -> Self {
        let charges = || {
            version
                .contributions
                .iter()
                .filter_map(|site| site.charge.as_ref())
        };
        Self {
            version: version.number,
            published_at: version.published_at,
            sites: version.contributions.len(),
            epsilon: charges().map(|charge| charge.epsilon).reduce(f64::max),
            delta: charges().map(|charge| charge.delta).reduce(f64::max),
            figures,
        }
    }
}

/// The points as CSV, a line a version; empty cells where nothing is known.
///
/// # Errors
/// Never for points that were read from a coordinator.
pub fn to_csv(points: &[Point]) -> Result<String> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    let figures = Figures::NAMES;
    let header = ["version", "published_at_ms", "sites", "epsilon", "delta"];
    writer.write_record(header.iter().chain(&figures))?;
    for point in points {
        let number = |value: Option<f64>| value.map(|value| value.to_string()).unwrap_or_default();
        let mut row = vec![
            point.version.to_string(),
            point.published_at.to_string(),
            point.sites.to_string(),
            number(point.epsilon),
            number(point.delta),
        ];
        let values = point
            .figures
            .map_or([None; Figures::NAMES.len()], |figures| figures.values());
        row.extend(values.into_iter().map(number));
        writer.write_record(row)?;
    }
    Ok(String::from_utf8(writer.into_inner()?)?)
}

/// Scores that are drawn, in this order.
const SERIES: [(&str, Colour); 2] = [("accuracy", BLUE), ("auc", RED)];

/// The scores of classification over versions, from 0 to 1, as a picture. None where no version was
/// scored, or the task has no such scores.
pub(crate) fn to_chart(title: &str, points: &[Point]) -> Option<Chart> {
    let series = SERIES.map(|(name, colour)| Series {
        name: name.to_owned(),
        colour,
        points: points
            .iter()
            .filter_map(|point| Some((f64::from(point.version), score(point, name)?)))
            .collect(),
    });
    let is_scored = series.iter().any(|series| !series.points.is_empty());
    is_scored.then(|| Chart {
        title: title.to_owned(),
        below: "round",
        top: Some(1.0),
        series: series.into(),
    })
}

fn score(point: &Point, name: &str) -> Option<f64> {
    let at = Figures::NAMES.iter().position(|known| *known == name)?;
    point.figures?.values()[at]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn points() -> Vec<Point> {
        let point = |version: u32, accuracy| Point {
            version,
            published_at: 5,
            sites: 3,
            epsilon: Some(f64::from(version)),
            delta: Some(1e-5),
            figures: Some(Figures {
                accuracy: Some(accuracy),
                auc: Some(0.5),
                ..Figures::default()
            }),
        };
        vec![point(0, 0.5), point(1, 1.0)]
    }

    #[test]
    fn a_table_has_a_line_for_each_version() {
        let mut points = points();
        points[0].figures = None;
        let text = to_csv(&points).expect("a table");
        let lines: Vec<_> = text.lines().collect();
        assert!(
            lines[0].starts_with("version,published_at_ms,sites,epsilon,delta,accuracy"),
            "{text}"
        );
        assert!(lines[1].starts_with("0,5,3,0,0.00001,,"), "{text}");
        assert!(lines[2].starts_with("1,5,3,1,0.00001,1,"), "{text}");
    }

    #[test]
    fn a_picture_shows_every_version_from_nothing_to_all_right() {
        let svg = to_chart("a < b", &points()).expect("a picture").to_svg();
        assert!(svg.contains("a &lt; b"));
        // Accuracy goes from the middle of the left side to the right upper corner.
        assert!(svg.contains("points=\"60.0,190.0 610.0,40.0\""), "{svg}");
        // A curve, a mark beside its name and two dots, for each of two scores.
        assert_eq!(svg.matches("#1f77b4").count(), 4, "{svg}");
        assert_eq!(svg.matches("#d62728").count(), 4, "{svg}");
    }

    #[test]
    fn without_scores_there_is_no_picture() {
        let mut points = points();
        points.iter_mut().for_each(|point| point.figures = None);
        assert!(to_chart("x", &points).is_none());
    }
}

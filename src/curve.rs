//! Learning curves: the scores of a study's versions as a table and as a picture.

mod raster;

use std::fmt::Write as _;

use anyhow::{Context as _, Result};
use consilium_proto::wire;
use image::Rgb;
use serde::Serialize;

use self::raster::Canvas;
use crate::scoring::Figures;

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

/// Size of the picture and of the frame in it, in pixels.
const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 400.0;
const LEFT: f64 = 50.0;
const TOP: f64 = 40.0;
const FRAME_WIDTH: f64 = 560.0;
const FRAME_HEIGHT: f64 = 300.0;

/// Scores that are drawn, in this order.
const SERIES: [&str; 2] = ["accuracy", "auc"];

fn score(point: &Point, name: &str) -> Option<f64> {
    let at = Figures::NAMES.iter().position(|known| *known == name)?;
    point.figures?.values()[at]
}

/// The right end of the axis of versions; none where there is no score to draw.
fn last_scored(points: &[Point]) -> Option<u32> {
    let is_scored = |point: &Point| SERIES.iter().any(|name| score(point, name).is_some());
    let last = points.iter().map(|point| point.version).max()?.max(1);
    points.iter().any(is_scored).then_some(last)
}

fn x(version: u32, last: u32) -> f64 {
    LEFT + FRAME_WIDTH * f64::from(version) / f64::from(last)
}

fn y(score: f64) -> f64 {
    TOP + FRAME_HEIGHT * (1.0 - score)
}

/// The scores of classification over versions, from 0 to 1, as an SVG. None where no version was
/// scored, or the task has no such scores.
pub fn to_svg(title: &str, points: &[Point]) -> Option<String> {
    let series = SERIES.iter().zip(["#1f77b4", "#d62728"]);
    let last = last_scored(points)?;
    let x = |version: u32| x(version, last);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"white\"/>\n\
         <text x=\"{LEFT}\" y=\"24\" font-size=\"15\">{}</text>\n",
        escape(title)
    );
    for tenth in (0..=10).step_by(2) {
        let score = f64::from(tenth) / 10.0;
        let at = y(score);
        let right = LEFT + FRAME_WIDTH;
        line(
            &mut svg,
            format_args!(
                "<path d=\"M{LEFT} {at:.1}H{right}\" stroke=\"#ddd\"/>\
             <text x=\"44\" y=\"{:.1}\" text-anchor=\"end\">{score:.1}</text>",
                at + 4.0
            ),
        );
    }
    for version in (0..=last).step_by(last.div_ceil(10) as usize) {
        let (at, below) = (x(version), TOP + FRAME_HEIGHT + 18.0);
        line(
            &mut svg,
            format_args!(
                "<text x=\"{at:.1}\" y=\"{below:.1}\" text-anchor=\"middle\">{version}</text>"
            ),
        );
    }
    line(
        &mut svg,
        format_args!(
            "<text x=\"{}\" y=\"{}\" text-anchor=\"middle\">round</text>",
            LEFT + FRAME_WIDTH / 2.0,
            HEIGHT - 20.0
        ),
    );
    for (index, (name, colour)) in series.enumerate() {
        let known = points
            .iter()
            .filter_map(|point| Some((point.version, score(point, name)?)));
        let known: Vec<_> = known
            .map(|(version, score)| (x(version), y(score)))
            .collect();
        let path: Vec<_> = known
            .iter()
            .map(|(x, y)| format!("{x:.1},{y:.1}"))
            .collect();
        line(
            &mut svg,
            format_args!(
                "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>",
                path.join(" ")
            ),
        );
        for (x, y) in known {
            line(
                &mut svg,
                format_args!("<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\" fill=\"{colour}\"/>"),
            );
        }
        let (at, top) = (
            LEFT + FRAME_WIDTH - 90.0,
            TOP + FRAME_HEIGHT - 40.0 + 18.0 * index as f64,
        );
        line(
            &mut svg,
            format_args!(
                "<rect x=\"{at}\" y=\"{}\" width=\"12\" height=\"4\" fill=\"{colour}\"/>\
             <text x=\"{}\" y=\"{top}\">{name}</text>",
                top - 6.0,
                at + 18.0
            ),
        );
    }
    svg += "</svg>\n";
    Some(svg)
}

/// The same picture as pixels, without its title, as a PNG.
///
/// # Errors
/// The encoder refuses, which it has no reason to.
pub fn to_png(points: &[Point]) -> Result<Option<Vec<u8>>> {
    const GREY: Rgb<u8> = Rgb([221; 3]);
    const BLACK: Rgb<u8> = Rgb([0; 3]);
    let Some(last) = last_scored(points) else {
        return Ok(None);
    };
    let x = |version: u32| x(version, last);
    let mut canvas = Canvas::new(WIDTH, HEIGHT);
    for tenth in (0..=10).step_by(2) {
        let score = f64::from(tenth) / 10.0;
        canvas.line((LEFT, y(score)), (LEFT + FRAME_WIDTH, y(score)), 1.0, GREY);
        canvas.text((LEFT / 2.0, y(score)), &format!("{score:.1}"), BLACK);
    }
    let below = TOP + FRAME_HEIGHT;
    for version in (0..=last).step_by(last.div_ceil(10) as usize) {
        canvas.text((x(version), below + 14.0), &version.to_string(), BLACK);
    }
    canvas.text((LEFT + FRAME_WIDTH / 2.0, HEIGHT - 24.0), "round", BLACK);
    let colours = [Rgb([31, 119, 180]), Rgb([214, 39, 40])];
    for ((name, colour), above) in SERIES.iter().zip(colours).zip([40.0, 20.0]) {
        let known = points
            .iter()
            .filter_map(|point| Some((x(point.version), y(score(point, name)?))));
        let known: Vec<_> = known.collect();
        for pair in known.windows(2) {
            canvas.line(pair[0], pair[1], 2.0, colour);
        }
        known
            .iter()
            .for_each(|place| canvas.dot(*place, 3.0, colour));
        canvas.text((LEFT + FRAME_WIDTH - 50.0, below - above), name, colour);
    }
    Ok(Some(canvas.to_png().context("drawing the learning curve")?))
}

fn line(svg: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a string cannot fail.
    let _ = writeln!(svg, "{text}");
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
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
    fn a_picture_shows_every_version_and_escapes_its_title() {
        let svg = to_svg("a < b", &points()).expect("a picture");
        assert!(svg.contains("a &lt; b"));
        // Accuracy goes from the middle of the left side to the right upper corner.
        assert!(svg.contains("points=\"50.0,190.0 610.0,40.0\""), "{svg}");
        assert_eq!(svg.matches("<circle").count(), 4);
    }

    #[test]
    fn the_pixels_show_the_same_curve() {
        let png = to_png(&points()).expect("drawn").expect("a picture");
        let picture = image::load_from_memory(&png).expect("a PNG").into_rgb8();
        assert_eq!(picture.dimensions(), (1280, 800));
        // Two pixels a unit: accuracy rises from (50, 190) to (610, 40), AUC stays at its half.
        let (blue, red) = (Rgb([31, 119, 180]), Rgb([214, 39, 40]));
        assert_eq!(*picture.get_pixel(2 * 330, 2 * 115), blue);
        assert_eq!(*picture.get_pixel(2 * 610, 2 * 40), blue);
        assert_eq!(*picture.get_pixel(2 * 330, 2 * 190), red);
        assert_eq!(*picture.get_pixel(2 * 330, 2 * 80), Rgb([255; 3]));
        // Below the frame stand "0", "1" and "round".
        let dark = |from: u32, to: u32| {
            let rows = (2 * 345..800).flat_map(|y| (from..to).map(move |x| (x, y)));
            rows.filter(|(x, y)| picture.get_pixel(*x, *y).0 == [0; 3])
                .count()
        };
        assert!(dark(80, 120) > 0 && dark(1200, 1240) > 0 && dark(600, 720) > 0);
    }

    #[test]
    fn without_scores_there_is_no_picture() {
        let mut points = points();
        points.iter_mut().for_each(|point| point.figures = None);
        assert_eq!(to_svg("x", &points), None);
        assert_eq!(to_png(&points).expect("drawn"), None);
    }
}

//! Curves as a picture: the same marks become an SVG or a PNG.

mod raster;

use std::{
    fmt::{self, Write as _},
    path::PathBuf,
    str::FromStr,
};

use anyhow::Result;

use crate::output;

/// Size of the picture and of the frame in it.
const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 400.0;
const LEFT: f64 = 60.0;
const TOP: f64 = 40.0;
const FRAME_WIDTH: f64 = 550.0;
const FRAME_HEIGHT: f64 = 300.0;

const BLACK: Colour = [0; 3];
const GREY: Colour = [0xdd; 3];
/// Of the first curve.
pub(crate) const BLUE: Colour = [0x1f, 0x77, 0xb4];
/// Of the second curve.
pub(crate) const RED: Colour = [0xd6, 0x27, 0x28];

/// Curves of at most so many points show each of them.
const MOST_DOTS: usize = 100;

/// Of many curves, in this order and then anew: told apart by most people with colour blindness (Okabe and
/// Ito 2008).
pub(crate) const MANY: [Colour; 7] = [
    [0x00, 0x72, 0xb2],
    [0xd5, 0x5e, 0x00],
    [0x00, 0x9e, 0x73],
    [0xcc, 0x79, 0xa7],
    [0xe6, 0x9f, 0x00],
    [0x56, 0xb4, 0xe9],
    [0x00, 0x00, 0x00],
];

/// Red, green, blue.
pub(crate) type Colour = [u8; 3];

/// Curves over a count, such as rounds; both axes begin at 0. All numbers are finite and not below
/// 0.
pub(crate) struct Chart {
    pub(crate) title: String,
    /// What the horizontal axis counts.
    pub(crate) below: &'static str,
    /// Where the vertical axis ends; above the largest value if none is given.
    pub(crate) top: Option<f64>,
    pub(crate) series: Vec<Series>,
}

/// One curve.
pub(crate) struct Series {
    pub(crate) name: String,
    pub(crate) colour: Colour,
    /// From left to right.
    pub(crate) points: Vec<(f64, f64)>,
}

/// Where a picture goes, as a command line names it; the ending says how it is written.
#[derive(Debug, Clone)]
pub(crate) struct PictureFile {
    path: PathBuf,
    form: Form,
}

#[derive(Debug, Clone, Copy)]
enum Form {
    Svg,
    Png,
}

impl FromStr for PictureFile {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        let path = PathBuf::from(text);
        let ending = path.extension().unwrap_or_default().to_ascii_lowercase();
        let form = match ending.to_str() {
            Some("svg") => Form::Svg,
            Some("png") => Form::Png,
            _ => return Err("a picture must end in .svg or .png"),
        };
        Ok(Self { path, form })
    }
}

impl fmt::Display for PictureFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.path.display().fmt(f)
    }
}

/// What is drawn.
#[derive(Debug, Clone, PartialEq)]
enum Mark {
    Line {
        path: Vec<(f64, f64)>,
        colour: Colour,
        width: f64,
    },
    Text {
        at: (f64, f64),
        anchor: Anchor,
        text: String,
    },
}

/// Which part of a text stands where it is put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Anchor {
    Start,
    Middle,
    End,
}

impl Chart {
    /// Writes the picture whole or not at all.
    ///
    /// # Errors
    /// A folder that is not there, a full disk.
    pub(crate) fn save(&self, file: &PictureFile) -> Result<()> {
        let bytes = match file.form {
            Form::Svg => self.to_svg().into_bytes(),
            Form::Png => self.to_png()?,
        };
        output::file(&file.path, &bytes)
    }

    pub(crate) fn to_svg(&self) -> String {
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
             font-family=\"sans-serif\" font-size=\"12\">\n\
             <rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"white\"/>\n"
        );
        for mark in self.marks() {
            // Writing to a string cannot fail.
            let _ = writeln!(svg, "{}", mark.to_svg());
        }
        svg + "</svg>\n"
    }

    pub(crate) fn to_png(&self) -> Result<Vec<u8>> {
        raster::to_png(&self.marks(), WIDTH, HEIGHT)
    }

    fn marks(&self) -> Vec<Mark> {
        let points = || self.series.iter().flat_map(|series| &series.points);
        let last = points().map(|point| point.0).fold(1.0, f64::max).ceil();
        let highest = points().map(|point| point.1).fold(0.0, f64::max);
        let (across, up) = (last, self.top.unwrap_or_else(|| nice_top(highest)));
        let x = |value: f64| LEFT + FRAME_WIDTH * value / across;
        let y = |value: f64| TOP + FRAME_HEIGHT * (1.0 - value / up);
        let bottom = TOP + FRAME_HEIGHT;

        let mut marks = vec![
            text((LEFT, 24.0), Anchor::Start, self.title.clone()),
            text(
                (LEFT + FRAME_WIDTH / 2.0, bottom + 40.0),
                Anchor::Middle,
                self.below.to_owned(),
            ),
        ];
        for i in 0..=5 {
            let height = up * f64::from(i) / 5.0;
            let path = vec![(LEFT, y(height)), (LEFT + FRAME_WIDTH, y(height))];
            marks.push(Mark::Line {
                path,
                colour: GREY,
                width: 1.0,
            });
            marks.push(text(
                (LEFT - 6.0, y(height) + 4.0),
                Anchor::End,
                tick(height),
            ));
        }
        let every = (last / 10.0).ceil();
        for i in 0..=(last / every) as u32 {
            let place = every * f64::from(i);
            marks.push(text((x(place), bottom + 18.0), Anchor::Middle, tick(place)));
        }
        // Names stand at the lower right, as far left as the longest needs; a letter takes about 7.
        let letters = self.series.iter().map(|series| series.name.chars().count());
        let longest = letters.max().unwrap_or(0) as f64;
        let names = LEFT + FRAME_WIDTH - (7.0 * longest - 4.0).max(60.0);
        for (index, series) in self.series.iter().enumerate() {
            let places = series.points.iter();
            let path: Vec<_> = places.map(|&(across, up)| (x(across), y(up))).collect();
            let dots = path.iter().filter(|_| path.len() <= MOST_DOTS);
            marks.extend(dots.map(|&place| Mark::Line {
                path: vec![place, place],
                colour: series.colour,
                width: 6.0,
            }));
            marks.push(Mark::Line {
                path,
                colour: series.colour,
                width: 2.0,
            });
            let below = (self.series.len() - 1 - index) as f64;
            let height = bottom - 22.0 - 18.0 * below;
            let path = vec![(names, height - 4.0), (names + 16.0, height - 4.0)];
            marks.push(Mark::Line {
                path,
                colour: series.colour,
                width: 4.0,
            });
            marks.push(text(
                (names + 22.0, height),
                Anchor::Start,
                series.name.clone(),
            ));
        }
        marks
    }
}

fn text(at: (f64, f64), anchor: Anchor, text: String) -> Mark {
    Mark::Text { at, anchor, text }
}

/// The smallest of 1, 2, 2.5, 5 times a power of ten that is not below the value: a fifth of each
/// is a short number.
fn nice_top(value: f64) -> f64 {
    if value <= 0.0 {
        return 1.0;
    }
    let power = 10_f64.powf(value.log10().floor());
    let steps = [1.0, 2.0, 2.5, 5.0, 10.0];
    let fitting = steps
        .iter()
        .map(|step| step * power)
        .find(|top| *top >= value);
    fitting.unwrap_or(10.0 * power)
}

/// A number of at most four digits, without trailing zeros.
fn tick(value: f64) -> String {
    if value != 0.0 && !(1e-3..1e6).contains(&value) {
        return format!("{value:.1e}");
    }
    let text = format!("{value:.4}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

impl Mark {
    fn to_svg(&self) -> String {
        match self {
            Self::Line {
                path,
                colour: [red, green, blue],
                width,
            } => {
                let points: Vec<_> = path.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
                format!(
                    "<polyline points=\"{}\" fill=\"none\" \
                     stroke=\"#{red:02x}{green:02x}{blue:02x}\" stroke-width=\"{width}\" \
                     stroke-linecap=\"round\"/>",
                    points.join(" ")
                )
            }
            Self::Text {
                at: (x, y),
                anchor,
                text,
            } => {
                let anchor = match anchor {
                    Anchor::Start => "start",
                    Anchor::Middle => "middle",
                    Anchor::End => "end",
                };
                let text = escape(text);
                format!("<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{text}</text>")
            }
        }
    }
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

    pub(super) fn chart() -> Chart {
        Chart {
            title: "epsilon < 8, delta = 1e-5".to_owned(),
            below: "round",
            top: None,
            series: vec![
                Series {
                    name: "rdp".to_owned(),
                    colour: BLUE,
                    points: vec![(0.0, 0.0), (10.0, 5.0)],
                },
                Series {
                    name: "pld".to_owned(),
                    colour: RED,
                    points: vec![(0.0, 0.0), (5.0, 2.5), (10.0, 4.0)],
                },
            ],
        }
    }

    #[test]
    fn names_stand_inside_the_frame_however_many_and_long_they_are() {
        let series = |name: &str| Series {
            name: name.to_owned(),
            colour: BLUE,
            points: vec![(0.0, 0.0), (10.0, 5.0)],
        };
        let names = ["without privacy", "epsilon 8", "epsilon 3", "epsilon 1"];
        let chart = Chart {
            series: names.map(series).into(),
            ..chart()
        };
        let places: Vec<_> = chart
            .marks()
            .into_iter()
            .filter_map(|mark| match mark {
                Mark::Text { at, text, .. } if names.contains(&&*text) => Some((at, text.len())),
                _ => None,
            })
            .collect();
        assert_eq!(places.len(), names.len());
        for ((x, y), letters) in places {
            assert!(x + 7.0 * letters as f64 <= WIDTH, "{x}");
            assert!(y < TOP + FRAME_HEIGHT, "{y}");
        }
    }

    #[test]
    fn curves_go_where_their_numbers_say() {
        let svg = chart().to_svg();
        // From the left lower corner to the right upper one: 10 and 5 are the ends of the axes.
        assert!(svg.contains("points=\"60.0,340.0 610.0,40.0\""), "{svg}");
        assert!(
            svg.contains("points=\"60.0,340.0 335.0,190.0 610.0,100.0\""),
            "{svg}"
        );
        // Title, axis, heights, counts from 0 to 10, names.
        assert_eq!(svg.matches("<text").count(), 2 + 6 + 11 + 2, "{svg}");
        assert!(svg.contains("epsilon &lt; 8"), "{svg}");
        let fixed = Chart {
            top: Some(10.0),
            ..chart()
        };
        let svg = fixed.to_svg();
        assert!(svg.contains("points=\"60.0,340.0 610.0,190.0\""), "{svg}");
    }

    #[test]
    fn counts_stand_below_at_whole_numbers() {
        for (last, expected) in [
            (1.0, vec!["0", "1"]),
            (4.0, vec!["0", "1", "2", "3", "4"]),
            (25.0, vec!["0", "3", "6", "9", "12", "15", "18", "21", "24"]),
        ] {
            let mut chart = chart();
            chart.series.truncate(1);
            chart.series[0].points = vec![(last, 1.0)];
            let marks = chart.marks();
            let below = marks.iter().filter_map(|mark| match mark {
                Mark::Text { at, text, .. } if at.1 == TOP + FRAME_HEIGHT + 18.0 => {
                    Some(text.as_str())
                }
                _ => None,
            });
            assert_eq!(below.collect::<Vec<_>>(), expected);
        }
    }

    #[test]
    fn axes_end_at_round_numbers_and_ticks_are_short() {
        for (value, top) in [
            (0.0, 1.0),
            (1.0, 1.0),
            (1.1, 2.0),
            (23.0, 25.0),
            (0.003, 0.005),
        ] {
            assert!(
                (nice_top(value) - top).abs() < 1e-12,
                "{value}: {}",
                nice_top(value)
            );
        }
        let ticks: Vec<_> = [0.0, 0.2, 12.0, 4e-5, 2e7].map(tick).into();
        assert_eq!(ticks, ["0", "0.2", "12", "4.0e-5", "2.0e7"]);
    }
}

//! Marks as pixels: lines with smooth edges, and a small alphabet of our own. A text with a letter
//! that is not in it is left out.

use std::io::Cursor;

use anyhow::Result;
use image::{ImageFormat, Rgb, RgbImage};

use super::{Anchor, BLACK, Colour, Mark};

/// Pixels for each unit of the chart, and for each dot of a letter.
const SCALE: f64 = 2.0;
const DOT: i64 = 2;
/// Dots from one letter to the next.
const ADVANCE: i64 = 6;

pub(super) fn to_png(marks: &[Mark], width: f64, height: f64) -> Result<Vec<u8>> {
    let (width, height) = ((width * SCALE) as u32, (height * SCALE) as u32);
    let mut picture = RgbImage::from_pixel(width, height, Rgb([255; 3]));
    for mark in marks {
        match mark {
            Mark::Line {
                path,
                colour,
                width,
            } => {
                for ends in path.windows(2) {
                    draw_line(&mut picture, ends[0], ends[1], *colour, *width);
                }
            }
            Mark::Text { at, anchor, text } => draw_text(&mut picture, *at, *anchor, text),
        }
    }
    let mut bytes = Cursor::new(Vec::new());
    picture.write_to(&mut bytes, ImageFormat::Png)?;
    Ok(bytes.into_inner())
}

fn draw_line(picture: &mut RgbImage, from: (f64, f64), to: (f64, f64), colour: Colour, width: f64) {
    let [(x0, y0), (x1, y1)] = [from, to].map(|(x, y)| (x * SCALE, y * SCALE));
    let (dx, dy, half) = (x1 - x0, y1 - y0, width * SCALE / 2.0);
    let length_squared = (dx * dx + dy * dy).max(1e-12);
    let rows = (y0.min(y1) - half - 1.0) as i64..=(y0.max(y1) + half + 1.0) as i64;
    for row in rows {
        for column in (x0.min(x1) - half - 1.0) as i64..=(x0.max(x1) + half + 1.0) as i64 {
            let (x, y) = (column as f64 + 0.5 - x0, row as f64 + 0.5 - y0);
            let along = ((x * dx + y * dy) / length_squared).clamp(0.0, 1.0);
            let distance = (x - along * dx).hypot(y - along * dy);
            // A pixel that the edge crosses is covered in part.
            blend(
                picture,
                column,
                row,
                colour,
                (half + 0.5 - distance).clamp(0.0, 1.0),
            );
        }
    }
}

fn draw_text(picture: &mut RgbImage, (x, y): (f64, f64), anchor: Anchor, text: &str) {
    let Some(glyphs) = text.chars().map(glyph).collect::<Option<Vec<_>>>() else {
        return;
    };
    let width = glyphs.len() as i64 * ADVANCE * DOT;
    let start = (x * SCALE) as i64
        - match anchor {
            Anchor::Start => 0,
            Anchor::Middle => width / 2,
            Anchor::End => width,
        };
    let top = (y * SCALE) as i64 - 7 * DOT;
    for (index, rows) in glyphs.into_iter().enumerate() {
        for (row, bits) in rows.into_iter().enumerate() {
            for column in (0..5).filter(|column| bits >> (4 - column) & 1 == 1) {
                let left = start + (index as i64 * ADVANCE + column) * DOT;
                for (right, down) in [(0, 0), (1, 0), (0, 1), (1, 1)] {
                    blend(
                        picture,
                        left + right,
                        top + row as i64 * DOT + down,
                        BLACK,
                        1.0,
                    );
                }
            }
        }
    }
}

/// Mixes a colour into a pixel; outside the picture there is nothing to do.
fn blend(picture: &mut RgbImage, x: i64, y: i64, colour: Colour, share: f64) {
    let (Ok(x), Ok(y)) = (u32::try_from(x), u32::try_from(y)) else {
        return;
    };
    if let Some(pixel) = picture.get_pixel_mut_checked(x, y) {
        for (old, new) in pixel.0.iter_mut().zip(colour) {
            *old = (f64::from(*old) * (1.0 - share) + f64::from(new) * share).round() as u8;
        }
    }
}

/// Seven rows of five dots.
fn glyph(letter: char) -> Option<[u8; 7]> {
    Some(match letter.to_ascii_uppercase() {
        '0' => [0x0e, 0x11, 0x13, 0x15, 0x19, 0x11, 0x0e],
        '1' => [0x04, 0x0c, 0x04, 0x04, 0x04, 0x04, 0x0e],
        '2' => [0x0e, 0x11, 0x01, 0x02, 0x04, 0x08, 0x1f],
        '3' => [0x1f, 0x02, 0x04, 0x02, 0x01, 0x11, 0x0e],
        '4' => [0x02, 0x06, 0x0a, 0x12, 0x1f, 0x02, 0x02],
        '5' => [0x1f, 0x10, 0x1e, 0x01, 0x01, 0x11, 0x0e],
        '6' => [0x06, 0x08, 0x10, 0x1e, 0x11, 0x11, 0x0e],
        '7' => [0x1f, 0x01, 0x02, 0x04, 0x08, 0x08, 0x08],
        '8' => [0x0e, 0x11, 0x11, 0x0e, 0x11, 0x11, 0x0e],
        '9' => [0x0e, 0x11, 0x11, 0x0f, 0x01, 0x02, 0x0c],
        'B' => [0x1e, 0x11, 0x11, 0x1e, 0x11, 0x11, 0x1e],
        'C' => [0x0e, 0x11, 0x10, 0x10, 0x10, 0x11, 0x0e],
        'F' => [0x1f, 0x10, 0x10, 0x1e, 0x10, 0x10, 0x10],
        'G' => [0x0e, 0x11, 0x10, 0x17, 0x11, 0x11, 0x0f],
        'H' => [0x11, 0x11, 0x11, 0x1f, 0x11, 0x11, 0x11],
        'J' => [0x07, 0x02, 0x02, 0x02, 0x02, 0x12, 0x0c],
        'K' => [0x11, 0x12, 0x14, 0x18, 0x14, 0x12, 0x11],
        'M' => [0x11, 0x1b, 0x15, 0x15, 0x11, 0x11, 0x11],
        'Q' => [0x0e, 0x11, 0x11, 0x11, 0x15, 0x12, 0x0d],
        'W' => [0x11, 0x11, 0x11, 0x15, 0x15, 0x1b, 0x11],
        'X' => [0x11, 0x11, 0x0a, 0x04, 0x0a, 0x11, 0x11],
        'Y' => [0x11, 0x11, 0x11, 0x0a, 0x04, 0x04, 0x04],
        'Z' => [0x1f, 0x01, 0x02, 0x04, 0x08, 0x10, 0x1f],
        'A' => [0x0e, 0x11, 0x11, 0x1f, 0x11, 0x11, 0x11],
        'D' => [0x1e, 0x11, 0x11, 0x11, 0x11, 0x11, 0x1e],
        'E' => [0x1f, 0x10, 0x10, 0x1e, 0x10, 0x10, 0x1f],
        'I' => [0x0e, 0x04, 0x04, 0x04, 0x04, 0x04, 0x0e],
        'L' => [0x10, 0x10, 0x10, 0x10, 0x10, 0x10, 0x1f],
        'N' => [0x11, 0x19, 0x15, 0x13, 0x11, 0x11, 0x11],
        'O' => [0x0e, 0x11, 0x11, 0x11, 0x11, 0x11, 0x0e],
        'P' => [0x1e, 0x11, 0x11, 0x1e, 0x10, 0x10, 0x10],
        'R' => [0x1e, 0x11, 0x11, 0x1e, 0x14, 0x12, 0x11],
        'S' => [0x0f, 0x10, 0x10, 0x0e, 0x01, 0x01, 0x1e],
        'T' => [0x1f, 0x04, 0x04, 0x04, 0x04, 0x04, 0x04],
        'U' => [0x11, 0x11, 0x11, 0x11, 0x11, 0x11, 0x0e],
        'V' => [0x11, 0x11, 0x11, 0x11, 0x11, 0x0a, 0x04],
        '.' => [0, 0, 0, 0, 0, 0x0c, 0x0c],
        ',' => [0, 0, 0, 0, 0x0c, 0x04, 0x08],
        '-' => [0, 0, 0, 0x1f, 0, 0, 0],
        '=' => [0, 0, 0x1f, 0, 0x1f, 0, 0],
        '<' => [0x02, 0x04, 0x08, 0x10, 0x08, 0x04, 0x02],
        ':' => [0, 0x0c, 0x0c, 0, 0x0c, 0x0c, 0],
        '/' => [0, 0x01, 0x02, 0x04, 0x08, 0x10, 0],
        '(' => [0x02, 0x04, 0x08, 0x08, 0x08, 0x04, 0x02],
        ')' => [0x08, 0x04, 0x02, 0x02, 0x02, 0x04, 0x08],
        ' ' => [0; 7],
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chart::{BLUE, RED, tests::chart};

    #[test]
    fn the_picture_has_both_curves_and_every_letter_it_needs() {
        let bytes = chart().to_png().expect("a picture");
        let picture = image::load_from_memory(&bytes).expect("a PNG").into_rgb8();
        assert_eq!(picture.dimensions(), (1280, 800));
        for colour in [BLUE, RED] {
            let pixels = picture.pixels().filter(|pixel| pixel.0 == colour).count();
            assert!(pixels > 1000, "{pixels} pixels of {colour:?}");
        }
        // The curve that ends in the right upper corner.
        assert_eq!(picture.get_pixel(1219, 81).0, BLUE);
        for mark in chart().marks() {
            if let Mark::Text { text, .. } = mark {
                assert!(text.chars().all(|letter| glyph(letter).is_some()), "{text}");
            }
        }
    }

    #[test]
    fn what_lies_outside_the_picture_is_left_out() {
        let path = vec![(-50.0, -50.0), (2000.0, 30.0)];
        let mark = Mark::Line {
            path,
            colour: BLACK,
            width: 2.0,
        };
        assert!(to_png(&[mark], 20.0, 20.0).is_ok());
    }
}

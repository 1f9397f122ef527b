//! A canvas of pixels with as much as a learning curve needs: lines, dots, digits, a few letters.

use std::io::Cursor;

use image::{ImageError, ImageFormat, Rgb, RgbImage};

/// Pixels for each unit of the drawing.
const SCALE: f64 = 2.0;
/// Pixels for each dot of a glyph, which is 3 dots wide and 5 high.
const DOT: i64 = 4;

/// Glyphs as five rows of three dots, the highest bit first.
const GLYPHS: [(char, u16); 19] = [
    ('0', 0b111_101_101_101_111),
    ('1', 0b010_110_010_010_111),
    ('2', 0b111_001_111_100_111),
    ('3', 0b111_001_111_001_111),
    ('4', 0b101_101_111_001_001),
    ('5', 0b111_100_111_001_111),
    ('6', 0b111_100_111_101_111),
    ('7', 0b111_001_010_010_010),
    ('8', 0b111_101_111_101_111),
    ('9', 0b111_101_111_001_111),
    ('.', 0b000_000_000_000_010),
    ('a', 0b000_011_101_101_011),
    ('c', 0b000_011_100_100_011),
    ('d', 0b001_011_101_101_011),
    ('n', 0b000_110_101_101_101),
    ('o', 0b000_010_101_101_010),
    ('r', 0b000_101_110_100_100),
    ('u', 0b000_101_101_101_011),
    ('y', 0b000_101_101_010_100),
];

/// A white canvas; places are in units from the upper left corner.
pub(super) struct Canvas(RgbImage);

impl Canvas {
    pub(super) fn new(width: f64, height: f64) -> Self {
        let pixels = |units: f64| (units * SCALE) as u32;
        let white = Rgb([255; 3]);
        Self(RgbImage::from_pixel(pixels(width), pixels(height), white))
    }

    /// A filled circle.
    pub(super) fn dot(&mut self, (x, y): (f64, f64), radius: f64, colour: Rgb<u8>) {
        let (x, y, radius) = (x * SCALE, y * SCALE, radius * SCALE);
        let reach = radius.ceil() as i64;
        for down in -reach..=reach {
            for right in -reach..=reach {
                if (down * down + right * right) as f64 <= radius * radius {
                    self.set(x.round() as i64 + right, y.round() as i64 + down, colour);
                }
            }
        }
    }

    /// A straight line between two places.
    pub(super) fn line(&mut self, from: (f64, f64), to: (f64, f64), width: f64, colour: Rgb<u8>) {
        let (right, down) = (to.0 - from.0, to.1 - from.1);
        // Dots half a pixel apart leave no gap.
        let dots = (right.hypot(down) * SCALE * 2.0).ceil().max(1.0) as u32;
        for dot in 0..=dots {
            let part = f64::from(dot) / f64::from(dots);
            self.dot(
                (from.0 + right * part, from.1 + down * part),
                width / 2.0,
                colour,
            );
        }
    }

    /// A text around a place, of characters that have a glyph; others stay empty.
    pub(super) fn text(&mut self, (x, y): (f64, f64), text: &str, colour: Rgb<u8>) {
        let width = 4 * DOT * text.chars().count() as i64 - DOT;
        let (mut left, top) = (
            (x * SCALE) as i64 - width / 2,
            (y * SCALE) as i64 - 5 * DOT / 2,
        );
        for character in text.chars() {
            let glyph = GLYPHS.iter().find(|(known, _)| *known == character);
            let rows = glyph.map_or(0, |(_, rows)| *rows);
            for place in (0..15).filter(|place| rows >> (14 - place) & 1 == 1) {
                let (across, down) = (left + place % 3 * DOT, top + place / 3 * DOT);
                for pixel in 0..DOT * DOT {
                    self.set(across + pixel % DOT, down + pixel / DOT, colour);
                }
            }
            left += 4 * DOT;
        }
    }

    /// What falls beside the canvas is left out.
    fn set(&mut self, x: i64, y: i64, colour: Rgb<u8>) {
        let (Ok(x), Ok(y)) = (u32::try_from(x), u32::try_from(y)) else {
            return;
        };
        if let Some(pixel) = self.0.get_pixel_mut_checked(x, y) {
            *pixel = colour;
        }
    }

    /// The canvas as a PNG.
    pub(super) fn to_png(&self) -> Result<Vec<u8>, ImageError> {
        let mut bytes = Cursor::new(Vec::new());
        self.0.write_to(&mut bytes, ImageFormat::Png)?;
        Ok(bytes.into_inner())
    }
}

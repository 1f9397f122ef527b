//! A heat map drawn over its picture, for people.

use std::io::Cursor;

use image::{ImageError, ImageFormat, Rgb, RgbImage, Rgba, RgbaImage};

use super::explanation::Heat;
use crate::imaging::Picture;

/// How much of the colour the hottest place has, 0 to 1.
const OPACITY: f32 = 0.6;

/// A picture as a PNG file, 8 bits a channel.
///
/// # Errors
/// A picture that no PNG can hold.
pub fn plain(picture: &Picture) -> Result<Vec<u8>, ImageError> {
    let (width, height) = (picture.width(), picture.height());
    let image = RgbImage::from_fn(width as u32, height as u32, |x, y| {
        Rgb(grey_or_rgb(picture, x as usize, y as usize))
    });
    png(|to| image.write_to(to, ImageFormat::Png))
}

/// A heat map alone as a PNG file of the picture's size: coloured where it is hot, clear where it is not.
///
/// # Errors
/// A picture that no PNG can hold.
pub fn heat(picture: &Picture, heat: &Heat) -> Result<Vec<u8>, ImageError> {
    let (width, height) = (picture.width(), picture.height());
    let shares = Shares::of(heat);
    let image = RgbaImage::from_fn(width as u32, height as u32, |x, y| {
        let share = shares.at(x as usize, y as usize, [height, width]);
        let [red, green, blue] = colour(share);
        Rgba([red, green, blue, (share * 255.0) as u8])
    });
    png(|to| image.write_to(to, ImageFormat::Png))
}

/// A picture with a heat map over it as a PNG file.
///
/// # Errors
/// A picture that no PNG can hold.
pub fn over(picture: &Picture, heat: &Heat) -> Result<Vec<u8>, ImageError> {
    let (width, height) = (picture.width(), picture.height());
    let shares = Shares::of(heat);
    let image = RgbImage::from_fn(width as u32, height as u32, |x, y| {
        let (x, y) = (x as usize, y as usize);
        let share = shares.at(x, y, [height, width]);
        let (below, above) = (grey_or_rgb(picture, x, y), colour(share));
        let part = OPACITY * share;
        let mixed = |at: usize| f32::from(below[at]) * (1.0 - part) + f32::from(above[at]) * part;
        Rgb([0, 1, 2].map(|at| mixed(at) as u8))
    });
    png(|to| image.write_to(to, ImageFormat::Png))
}

fn png(
    write: impl FnOnce(&mut Cursor<Vec<u8>>) -> Result<(), ImageError>,
) -> Result<Vec<u8>, ImageError> {
    let mut bytes = Cursor::new(Vec::new());
    write(&mut bytes)?;
    Ok(bytes.into_inner())
}

fn grey_or_rgb(picture: &Picture, x: usize, y: usize) -> [u8; 3] {
    let plane = picture.width() * picture.height();
    let at = y * picture.width() + x;
    [0, 1, 2].map(|channel| {
        let channel = channel.min(picture.channels() - 1);
        let value = picture.pixels().get(channel * plane + at);
        (value.copied().unwrap_or(0.0) * 255.0).round() as u8
    })
}

/// From dark red over orange to pale yellow.
fn colour(share: f32) -> [u8; 3] {
    let ramp = |from: f32, to: f32| ((share - from) / (to - from)).clamp(0.0, 1.0);
    [
        128.0 + 127.0 * ramp(0.0, 0.4),
        230.0 * ramp(0.2, 0.9),
        160.0 * ramp(0.7, 1.0),
    ]
    .map(|value| value as u8)
}

/// A map as shares of its hottest place; what is below zero counts as nothing.
struct Shares<'a> {
    heat: &'a Heat,
    hottest: f32,
}

impl<'a> Shares<'a> {
    fn of(heat: &'a Heat) -> Self {
        let hottest = heat.values.iter().copied().fold(0.0, f32::max);
        Self { heat, hottest }
    }

    /// The share at a pixel, between the middles of the map's cells in proportion.
    fn at(&self, x: usize, y: usize, [height, width]: [usize; 2]) -> f32 {
        if self.hottest <= 0.0 {
            return 0.0;
        }
        let place = |at: usize, of: usize, cells: usize| {
            let middle = (at as f32 + 0.5) / of as f32 * cells as f32 - 0.5;
            let middle = middle.clamp(0.0, (cells - 1) as f32);
            let first = middle.floor();
            (
                first as usize,
                (first as usize + 1).min(cells - 1),
                middle - first,
            )
        };
        let (top, bottom, down) = place(y, height, self.heat.height);
        let (left, right, along) = place(x, width, self.heat.width);
        let value = |row: usize, column: usize| {
            let value = self.heat.values.get(row * self.heat.width + column);
            value.copied().unwrap_or(0.0).max(0.0)
        };
        let upper = value(top, left) * (1.0 - along) + value(top, right) * along;
        let lower = value(bottom, left) * (1.0 - along) + value(bottom, right) * along;
        ((upper * (1.0 - down) + lower * down) / self.hottest).clamp(0.0, 1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hottest_place_is_coloured_and_cold_ones_stay_as_they_were() {
        let picture = Picture::new(8, 8, 1, vec![0.4; 64]).expect("a picture");
        let mut values = vec![0.0; 16];
        values[5] = 2.0;
        let map = Heat {
            height: 4,
            width: 4,
            values,
        };
        let read = |bytes: &[u8]| image::load_from_memory(bytes).expect("a PNG").to_rgba8();
        let drawn = read(&over(&picture, &map).expect("a PNG"));
        assert_eq!(drawn.dimensions(), (8, 8));
        let [red, green, ..] = drawn.get_pixel(2, 2).0;
        assert!(red > 150 && red > green, "{red} {green}");
        assert_eq!(drawn.get_pixel(7, 7).0, [102, 102, 102, 255]);
        let alone = read(&heat(&picture, &map).expect("a PNG"));
        assert_eq!(alone.get_pixel(7, 7).0[3], 0);
        assert!(alone.get_pixel(2, 2).0[3] > 100);
        assert_eq!(
            read(&plain(&picture).expect("a PNG")).get_pixel(0, 0).0[0],
            102
        );
        let cold = Heat {
            values: vec![-1.0; 16],
            ..map
        };
        let same = read(&over(&picture, &cold).expect("a PNG"));
        assert!(same.pixels().all(|pixel| pixel.0 == [102, 102, 102, 255]));
    }
}

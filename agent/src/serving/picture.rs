//! From the bytes that were sent to a picture, and to what a page shows of it.

use consilium_models::imaging::Picture;

use crate::data::picture_file;

/// Longest side of what a page shows.
const SHOWN: usize = 1024;

/// Kinds of content that pictures come as.
pub(super) const TYPES: [&str; 3] = ["image/png", "image/jpeg", "application/dicom"];

/// Reads a picture of at most so many pixels; a DICOM object in a process of its own.
/// The only place where bytes from outside become one.
///
/// # Errors
/// What is wrong with the bytes, in words that hold nothing of them.
pub(super) fn decode(bytes: &[u8], pixels: u64) -> Result<Picture, String> {
    let opened = picture_file::open(bytes, pixels).map_err(|error| error.to_string())?;
    Ok(opened.picture)
}

/// The picture, at most 1024 pixels a side: each pixel is the mean of those that it stands for.
pub(super) fn shown(picture: Picture) -> Picture {
    let (width, height) = (picture.width(), picture.height());
    let factor = width.max(height).div_ceil(SHOWN);
    if factor < 2 {
        return picture;
    }
    let (columns, rows) = (width.div_ceil(factor), height.div_ceil(factor));
    let mut pixels = Vec::with_capacity(columns * rows * picture.channels());
    for plane in picture.pixels().chunks_exact(width * height) {
        for row in 0..rows {
            let lines: Vec<&[f32]> = plane
                .chunks_exact(width)
                .skip(row * factor)
                .take(factor)
                .collect();
            for column in 0..columns {
                let cells = lines
                    .iter()
                    .flat_map(|line| line.iter().skip(column * factor).take(factor));
                let (sum, count) =
                    cells.fold((0.0, 0.0), |(sum, count), value| (sum + value, count + 1.0));
                pixels.push((sum / f32::max(count, 1.0)).clamp(0.0, 1.0));
            }
        }
    }
    Picture::new(columns, rows, picture.channels(), pixels).unwrap_or(picture)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_picture_is_shown_smaller_and_a_small_one_as_it_is() {
        let pixels: Vec<f32> = (0..2050 * 3)
            .map(|at| if at % 2050 < 1025 { 0.0 } else { 1.0 })
            .collect();
        let large = Picture::new(2050, 3, 1, pixels).expect("a picture");
        let small = shown(large);
        assert_eq!((small.width(), small.height()), (684, 1));
        assert_eq!(small.pixels().first(), Some(&0.0));
        assert_eq!(small.pixels().last(), Some(&1.0));
        let same = Picture::new(2, 1, 1, vec![0.5, 0.25]).expect("a picture");
        assert_eq!(shown(same.clone()), same);
    }

    #[test]
    fn what_is_no_picture_is_refused_without_its_content() {
        let error = decode(b"Mrs Example, MRN 0042", 100).expect_err("no picture");
        assert!(!error.contains("Example"), "{error}");
    }
}

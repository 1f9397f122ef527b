//! A decoded picture.

use std::fmt;

/// Why numbers are no picture.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error(
    "a picture of {width} x {height} with {channels} channels needs as many pixels, all of them within 0 and 1, found {found}"
)]
pub struct PictureError {
    width: usize,
    height: usize,
    channels: usize,
    found: String,
}

/// Pixels of 0 to 1, channel by channel, row by row.
#[derive(Clone, PartialEq)]
pub struct Picture {
    pub(crate) width: usize,
    pub(crate) height: usize,
    pub(crate) channels: usize,
    pub(crate) pixels: Vec<f32>,
}

impl Picture {
    /// Takes pixels that stand channel by channel, row by row.
    ///
    /// # Errors
    /// No pixel, channels other than 1 (grey) or 3 (RGB), a number of pixels that does not fit, a
    /// pixel outside 0 to 1.
    pub fn new(
        width: usize,
        height: usize,
        channels: usize,
        pixels: Vec<f32>,
    ) -> Result<Self, PictureError> {
        let refused = |found: String| {
            Err(PictureError {
                width,
                height,
                channels,
                found,
            })
        };
        let count = width
            .checked_mul(height)
            .and_then(|plane| plane.checked_mul(channels));
        if count != Some(pixels.len()) || pixels.is_empty() || ![1, 3].contains(&channels) {
            return refused(format!("{} pixels", pixels.len()));
        }
        if pixels.iter().any(|pixel| !(0.0..=1.0).contains(pixel)) {
            return refused("another value".into());
        }
        Ok(Self {
            width,
            height,
            channels,
            pixels,
        })
    }

    /// Takes 8-bit pixels whose channels stand side by side, as in the arrays of MedMNIST.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn from_bytes(
        width: usize,
        height: usize,
        channels: usize,
        bytes: &[u8],
    ) -> Result<Self, PictureError> {
        let pixels = bytes.iter().map(|&byte| f32::from(byte) / 255.0).collect();
        let picture = Self::new(width, height, channels, pixels)?;
        Ok(Self {
            pixels: apart(&picture.pixels, channels),
            ..picture
        })
    }

    /// Columns of pixels.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Rows of pixels.
    pub fn height(&self) -> usize {
        self.height
    }

    /// 1 for grey, 3 for RGB.
    pub fn channels(&self) -> usize {
        self.channels
    }

    /// The pixels, channel by channel, row by row.
    pub fn pixels(&self) -> &[f32] {
        &self.pixels
    }

    /// Changes each channel on its own.
    pub(crate) fn map_planes(&self, change: impl Fn(Plane) -> Vec<f32>) -> Vec<f32> {
        let planes = self.pixels.chunks_exact(self.width * self.height);
        let plane = |values| Plane {
            values,
            width: self.width,
            height: self.height,
        };
        planes.flat_map(|values| change(plane(values))).collect()
    }
}

/// Written by hand: pixels are patient data.
impl fmt::Debug for Picture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Picture({} x {} x {})",
            self.width, self.height, self.channels
        )
    }
}

/// Channels that stand side by side, taken apart.
pub(crate) fn apart(pixels: &[f32], channels: usize) -> Vec<f32> {
    let channel = |at: usize| pixels.iter().skip(at).step_by(channels).copied();
    (0..channels).flat_map(channel).collect()
}

/// One channel of a picture.
#[derive(Clone, Copy)]
pub(crate) struct Plane<'a> {
    pub(crate) values: &'a [f32],
    pub(crate) width: usize,
    pub(crate) height: usize,
}

impl Plane<'_> {
    /// The pixel at a place; outside, the nearest one of the edge.
    pub(crate) fn at(&self, row: isize, column: isize) -> f32 {
        let within = |place: isize, length: usize| place.clamp(0, length as isize - 1) as usize;
        self.values[within(row, self.height) * self.width + within(column, self.width)]
    }

    /// Makes a plane of the same size, pixel by pixel, from row and column.
    pub(crate) fn each(&self, mut pixel: impl FnMut(isize, isize) -> f32) -> Vec<f32> {
        let mut values = Vec::with_capacity(self.values.len());
        for row in 0..self.height as isize {
            values.extend((0..self.width as isize).map(|column| pixel(row, column)));
        }
        values
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channels_side_by_side_are_taken_apart() {
        let picture = Picture::from_bytes(2, 1, 3, &[255, 0, 0, 0, 255, 51]).expect("two pixels");
        assert_eq!(picture.pixels(), [1.0, 0.0, 0.0, 1.0, 0.0, 0.2]);
    }

    #[test]
    fn numbers_that_are_no_picture_are_refused() {
        assert!(Picture::new(0, 1, 1, vec![]).is_err());
        assert!(Picture::new(1, 1, 2, vec![0.0; 2]).is_err());
        assert!(Picture::new(2, 2, 1, vec![0.0; 3]).is_err());
        assert!(Picture::new(usize::MAX, 2, 1, vec![0.0; 3]).is_err());
        assert!(Picture::new(1, 1, 1, vec![f32::NAN]).is_err());
        assert!(Picture::new(1, 1, 1, vec![1.5]).is_err());
    }

    #[test]
    fn beyond_the_edge_lies_the_edge() {
        let plane = Plane {
            values: &[1.0, 2.0, 3.0, 4.0],
            width: 2,
            height: 2,
        };
        assert_eq!(
            [plane.at(-5, 0), plane.at(0, 9), plane.at(7, 7)],
            [1.0, 2.0, 4.0]
        );
    }
}

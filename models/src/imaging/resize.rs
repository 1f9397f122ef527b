//! To the size of the network's input, with a triangle filter.
//!
//! When a side shrinks, the triangle grows with the factor, so that every pixel counts and fine
//! patterns do not alias; when it grows, the same filter interpolates linearly.

use super::picture::Picture;

/// Weights of the pixels that make one pixel of the result.
struct Blend {
    start: usize,
    weights: Vec<f32>,
}

/// Resizes a picture; its sides may change by different factors.
pub(super) fn resize(picture: Picture, width: usize, height: usize) -> Picture {
    if (picture.width, picture.height) == (width, height) {
        return picture;
    }
    let columns = blends(picture.width, width);
    let rows = blends(picture.height, height);
    let pixels = picture.map_planes(|plane| {
        let narrow: Vec<f32> = plane
            .values
            .chunks_exact(plane.width)
            .flat_map(|row| columns.iter().map(|blend| blend.of(|at| row[at])))
            .collect();
        let narrow = &narrow;
        rows.iter()
            .flat_map(|blend| {
                (0..width).map(move |column| blend.of(|row| narrow[row * width + column]))
            })
            .collect()
    });
    Picture {
        width,
        height,
        pixels,
        ..picture
    }
}

impl Blend {
    fn of(&self, pixel: impl Fn(usize) -> f32) -> f32 {
        let pixels = (self.start..).map(pixel);
        self.weights
            .iter()
            .zip(pixels)
            .map(|(weight, pixel)| weight * pixel)
            .sum()
    }
}

fn blends(from: usize, to: usize) -> Vec<Blend> {
    let factor = from as f64 / to as f64;
    let reach = factor.max(1.0);
    let blend = |place: usize| {
        let centre = (place as f64 + 0.5) * factor;
        let start = (centre - reach).floor().max(0.0) as usize;
        let end = ((centre + reach).ceil() as usize).min(from);
        let height = |at: usize| (1.0 - ((at as f64 + 0.5 - centre) / reach).abs()).max(0.0);
        let total: f64 = (start..end).map(height).sum();
        Blend {
            start,
            weights: (start..end).map(|at| (height(at) / total) as f32).collect(),
        }
    };
    (0..to).map(blend).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_same_size_changes_nothing_and_a_ramp_stays_a_ramp() {
        let ramp: Vec<f32> = (0..64).map(|at| at as f32 / 64.0).collect();
        let picture = Picture::new(64, 1, 1, ramp.clone()).expect("a row");
        assert_eq!(resize(picture.clone(), 64, 1).pixels, ramp);
        let small = resize(picture, 8, 2);
        assert_eq!(small.pixels[..8], small.pixels[8..]);
        for (at, pixel) in small.pixels[1..7].iter().enumerate() {
            let expected = ((at as f32 + 1.5) * 8.0 - 0.5) / 64.0;
            assert!((pixel - expected).abs() < 1e-5, "{pixel} {expected}");
        }
    }

    #[test]
    fn fine_patterns_become_their_mean() {
        let board = (0..64 * 64).map(|at| ((at + at / 64) % 2) as f32).collect();
        let small = resize(Picture::new(64, 64, 1, board).expect("a board"), 8, 8);
        assert!(small.pixels.iter().all(|pixel| (pixel - 0.5).abs() < 0.01));
    }

    proptest! {
        #[test]
        fn pixels_stay_within_the_range_of_the_picture(
            pixels in proptest::collection::vec(0.0_f32..=1.0, 35),
            width in 1_usize..40,
            height in 1_usize..40,
        ) {
            let picture = resize(Picture::new(7, 5, 1, pixels).expect("a picture"), width, height);
            prop_assert_eq!(picture.pixels.len(), width * height);
            prop_assert!(picture.pixels.iter().all(|pixel| (-1e-5..=1.0 + 1e-5).contains(pixel)));
        }
    }
}

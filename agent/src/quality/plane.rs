//! One grey plane of a picture, and what can be read off it.

use consilium_models::imaging::Picture;

/// Grey values of 0 to 1, row by row; at least one.
pub(super) struct Plane {
    pub(super) width: usize,
    pub(super) height: usize,
    pub(super) values: Vec<f32>,
}

impl Plane {
    /// Brightness by the weights of Rec. 601.
    pub(super) fn of(picture: &Picture) -> Self {
        let (width, height) = (picture.width(), picture.height());
        let pixels = picture.pixels();
        let size = width * height;
        let values = match (
            pixels.get(..size),
            pixels.get(size..2 * size),
            pixels.get(2 * size..3 * size),
        ) {
            (Some(red), Some(green), Some(blue)) => red
                .iter()
                .zip(green)
                .zip(blue)
                .map(|((red, green), blue)| 0.299 * red + 0.587 * green + 0.114 * blue)
                .collect(),
            _ => pixels.iter().copied().take(size).collect(),
        };
        Self {
            width,
            height,
            values,
        }
    }

    /// Row by row.
    pub(super) fn rows(&self) -> impl DoubleEndedIterator<Item = &[f32]> + ExactSizeIterator {
        self.values.chunks_exact(self.width)
    }

    /// Mean and standard deviation.
    pub(super) fn moments(&self) -> (f64, f64) {
        moments(self.values.iter().map(|&value| f64::from(value)))
    }

    /// The same picture in a few cells, each the mean of what it covers.
    pub(super) fn shrink(&self, width: usize, height: usize) -> Vec<f32> {
        let (columns, rows) = (cells(self.width, width), cells(self.height, height));
        let narrow: Vec<f32> = self
            .rows()
            .flat_map(|row| columns.iter().map(|cell| cell.mean(|at| row[at])))
            .collect();
        let narrow = &narrow;
        rows.iter()
            .flat_map(|cell| {
                (0..width).map(move |column| cell.mean(|row| narrow[row * width + column]))
            })
            .collect()
    }

    /// Variance of the Laplacian over the variance of the picture, as a natural logarithm: how much of
    /// what is seen is fine detail (Pech-Pacheco et al. 2000). None for a picture of under 3 × 3 pixels
    /// or of one grey.
    pub(super) fn sharpness(&self) -> Option<f64> {
        let rows: Vec<&[f32]> = self.rows().collect();
        let curvatures = rows.windows(3).flat_map(|rows| {
            let (above, middle, below) = (rows[0], rows[1], rows[2]);
            (1..self.width.saturating_sub(1)).map(move |at| {
                let around = above[at] + below[at] + middle[at - 1] + middle[at + 1];
                f64::from(around - 4.0 * middle[at])
            })
        });
        let (_, fine) = moments(curvatures);
        let (_, all) = self.moments();
        let sharpness = 2.0 * (fine / all).ln();
        sharpness.is_finite().then_some(sharpness)
    }

    /// Share of the area outside the smallest upright rectangle that holds everything brighter than
    /// `black`; 1 where nothing is.
    pub(super) fn border(&self, black: f32) -> f64 {
        let is_lit = |row: &&[f32]| row.iter().any(|&value| value > black);
        let lit_rows = lit(self.rows().map(|row| is_lit(&row)));
        let mut columns = vec![false; self.width];
        for row in self.rows() {
            for (column, &value) in columns.iter_mut().zip(row) {
                *column |= value > black;
            }
        }
        let inside = lit_rows * lit(columns.into_iter());
        1.0 - inside as f64 / (self.width * self.height) as f64
    }
}

/// From the first that is lit to the last.
fn lit(line: impl ExactSizeIterator<Item = bool>) -> usize {
    let (mut first, mut end) = (None, 0);
    for (at, is_lit) in line.enumerate() {
        if is_lit {
            first.get_or_insert(at);
            end = at + 1;
        }
    }
    end - first.unwrap_or(end)
}

/// Mean and standard deviation; 0 of nothing.
fn moments(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let (mut count, mut sum, mut squares) = (0.0_f64, 0.0, 0.0);
    for value in values {
        count += 1.0;
        sum += value;
        squares += value * value;
    }
    let count = count.max(1.0);
    let mean = sum / count;
    (mean, (squares / count - mean * mean).max(0.0).sqrt())
}

/// The pixels that one cell of a line covers, and how much of each.
struct Cell {
    start: usize,
    shares: Vec<f32>,
}

impl Cell {
    fn mean(&self, pixel: impl Fn(usize) -> f32) -> f32 {
        let pixels = (self.start..).map(pixel);
        let parts = self.shares.iter().zip(pixels);
        parts.map(|(share, pixel)| share * pixel).sum()
    }
}

fn cells(from: usize, to: usize) -> Vec<Cell> {
    let width = from as f64 / to as f64;
    let cell = |at: usize| {
        let (start, end) = (at as f64 * width, (at + 1) as f64 * width);
        let first = (start as usize).min(from - 1);
        let last = (end.ceil() as usize).clamp(first + 1, from);
        let share = |pixel: usize| (end.min((pixel + 1) as f64) - start.max(pixel as f64)).max(0.0);
        let total: f64 = (first..last).map(share).sum();
        Cell {
            start: first,
            shares: (first..last)
                .map(|pixel| (share(pixel) / total.max(f64::MIN_POSITIVE)) as f32)
                .collect(),
        }
    };
    (0..to).map(cell).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plane(width: usize, height: usize, value: impl Fn(usize, usize) -> f32) -> Plane {
        let at = |at: usize| value(at % width, at / width);
        Plane {
            width,
            height,
            values: (0..width * height).map(at).collect(),
        }
    }

    #[test]
    fn cells_are_the_means_of_what_they_cover() {
        let ramp = plane(6, 2, |x, _| x as f32);
        assert_eq!(ramp.shrink(3, 1), [0.5, 2.5, 4.5]);
        let uneven = ramp.shrink(4, 1);
        let expected = [1.0 / 3.0, 5.0 / 3.0, 10.0 / 3.0, 14.0 / 3.0];
        for (found, expected) in uneven.iter().zip(expected) {
            assert!((found - expected).abs() < 1e-5, "{uneven:?}");
        }
        assert_eq!(plane(1, 1, |_, _| 0.5).shrink(3, 2), [0.5; 6]);
    }

    #[test]
    fn the_border_is_what_lies_outside_everything_lit() {
        let lit = |x: usize, y: usize| match (2..5).contains(&x) && y == 3 {
            true => 0.5,
            false => 0.0,
        };
        assert_eq!(plane(10, 10, lit).border(0.1), 0.97);
        assert_eq!(plane(10, 10, |_, _| 0.0).border(0.1), 1.0);
        assert_eq!(plane(1, 1, |_, _| 1.0).border(0.1), 0.0);
    }

    #[test]
    fn detail_is_sharper_than_a_ramp_and_tiny_pictures_have_no_sharpness() {
        let board = plane(16, 16, |x, y| ((x + y) % 2) as f32).sharpness();
        let waves = plane(16, 16, |x, _| (x as f32 / 5.0).sin() * 0.5 + 0.5).sharpness();
        assert!(board > waves, "{board:?} {waves:?}");
        assert_eq!(plane(2, 9, |x, _| x as f32).sharpness(), None);
        assert_eq!(plane(9, 9, |_, _| 0.3).sharpness(), None);
    }

    #[test]
    fn colours_weigh_as_the_eye_sees_them() {
        let picture = Picture::new(1, 1, 3, vec![0.0, 1.0, 0.0]).expect("a pixel");
        assert_eq!(Plane::of(&picture).values, [0.587]);
    }
}

//! Wavelet scattering: what an image holds at two scales and eight directions, without weights.
//!
//! Wavelets, absolute values, wavelets again, and a mean over every 4 × 4 pixels (Bruna and Mallat 2013):
//! features that no training has to find. Under tight privacy a small network on top of them is stronger
//! than a deep one (Tramèr and Boneh 2021). All constants come from formulas, none from data.

use std::f32::consts::PI;

use super::{
    convolution::{Frame, Window},
    kernels::{Lines, Right, add_product, dot, vectorised},
};

/// Directions of wavelets.
const DIRECTIONS: usize = 8;

/// Pixels from one output to the next, 2 to the power of the scales.
const STRIDE: usize = 4;

/// Length over width of a wavelet's envelope.
const SLANT: f32 = 2.0;

/// Pixels on each side of the middle of a wavelet of scale 0 and 1, and of the mean.
const REACH: [usize; 2] = [4, 8];
const MEAN_REACH: usize = 5;

/// Maps for each channel of an image: the image, 16 of the first order, 64 of the second.
pub(super) const MAPS: usize = 1 + 2 * DIRECTIONS + DIRECTIONS * DIRECTIONS;

/// Scatters images of one size.
pub(super) struct Scattering {
    input: [usize; 3],
    wavelets: [Wavelets; 2],
    /// Weights of the mean, along one direction.
    mean: Vec<f32>,
}

/// Wavelets of one scale in all directions.
struct Wavelets {
    reach: usize,
    frame: Frame,
    /// Real parts, then imaginary ones: `[2 · directions][rows][columns]`.
    weights: Vec<f32>,
}

impl Scattering {
    /// For images of `[channels, height, width]`.
    pub(super) fn new(input: [usize; 3]) -> Self {
        let [_, height, width] = input;
        Self {
            input,
            wavelets: [0, 1].map(|scale| Wavelets::new(scale, [height, width])),
            mean: gaussian(MEAN_REACH, 1.6),
        }
    }

    /// Shape of what [`scatter`](Self::scatter) gives.
    pub(super) fn output(&self) -> [usize; 3] {
        let [channels, height, width] = self.input;
        [
            channels * MAPS,
            height.div_ceil(STRIDE),
            width.div_ceil(STRIDE),
        ]
    }

    /// # Shapes
    /// - `images`: `[examples][channels][height][width]`
    /// - output: `[examples][channels][maps][height / 4][width / 4]`
    pub(super) fn scatter(&self, images: &[f32]) -> Vec<f32> {
        let [_, height, width] = self.input;
        let mut output = Vec::new();
        for plane in images.chunks_exact(height * width) {
            let fine = self.wavelets[0].lengths(plane, [height, width]);
            let mut maps = plane.to_vec();
            maps.extend_from_slice(&fine);
            for map in maps.clone().chunks_exact(height * width) {
                maps.extend(self.wavelets[1].lengths(map, [height, width]));
            }
            for map in maps.chunks_exact(height * width) {
                self.add_means(map, &mut output);
            }
        }
        output
    }

    /// The weighted mean around every fourth pixel, rows first.
    fn add_means(&self, map: &[f32], output: &mut Vec<f32>) {
        let [_, height, width] = self.input;
        let rows = mirrored(map, [height, width], MEAN_REACH);
        let padded = width + 2 * MEAN_REACH;
        let columns = (0..width).step_by(STRIDE);
        let along = columns.clone().flat_map(|column| {
            rows.chunks_exact(padded)
                .map(move |row| &row[column..column + 2 * MEAN_REACH + 1])
        });
        // One line for each column of the output.
        let means: Vec<f32> = along.map(|seen| dot(seen, &self.mean)).collect();
        for row in (0..height).step_by(STRIDE) {
            let lines = means.chunks_exact(height + 2 * MEAN_REACH);
            output.extend(lines.map(|line| dot(&line[row..row + 2 * MEAN_REACH + 1], &self.mean)));
        }
    }
}

impl Wavelets {
    /// Morlet wavelets: a wave under an envelope, minus as much of the envelope as makes the sum 0.
    fn new(scale: usize, [height, width]: [usize; 2]) -> Self {
        let (reach, size) = (REACH[scale], (1 << scale) as f32);
        let (deviation, frequency) = (0.8 * size, 0.75 * PI / size);
        let side = 2 * reach + 1;
        let (mut real, mut imaginary) = (Vec::new(), Vec::new());
        for direction in 0..DIRECTIONS {
            let angle = direction as f32 * PI / DIRECTIONS as f32;
            let point = |at: usize| {
                let (y, x) = (
                    (at / side) as f32 - reach as f32,
                    (at % side) as f32 - reach as f32,
                );
                let along = x * angle.cos() + y * angle.sin();
                let across = (y * angle.cos() - x * angle.sin()) / SLANT;
                let envelope =
                    (-(along * along + across * across) / (2.0 * deviation * deviation)).exp();
                (envelope, frequency * along)
            };
            let points: Vec<_> = (0..side * side).map(point).collect();
            let total: f32 = points.iter().map(|(envelope, _)| envelope).sum();
            let wave: f32 = points
                .iter()
                .map(|(envelope, phase)| envelope * phase.cos())
                .sum();
            let scaled = |(envelope, value): (f32, f32)| envelope * value / total;
            let even = points
                .iter()
                .map(|&(envelope, phase)| (envelope, phase.cos() - wave / total));
            real.extend(even.map(scaled));
            let odd = points
                .iter()
                .map(|&(envelope, phase)| (envelope, phase.sin()));
            imaginary.extend(odd.map(scaled));
        }
        real.extend(imaginary);
        let padded = [1, height + 2 * reach, width + 2 * reach];
        Self {
            reach,
            frame: Frame::new(padded, Window::new(side, 1, 0)),
            weights: real,
        }
    }

    /// The absolute value of what each wavelet sees: `[directions][height][width]`.
    fn lengths(&self, map: &[f32], size: [usize; 2]) -> Vec<f32> {
        let image = mirrored(map, size, self.reach);
        let image = self.frame.lay_out(&image);
        let positions = self.frame.positions();
        let fan = self.weights.len() / (2 * DIRECTIONS);
        let starts = |length| {
            (0..2 * DIRECTIONS)
                .map(|line| line * length)
                .collect::<Vec<_>>()
        };
        let mut lines = vec![0.0; 2 * DIRECTIONS * positions];
        let (left, right) = (
            Lines {
                numbers: &self.weights,
                starts: &starts(fan),
            },
            Right::Rows(Lines {
                numbers: &image,
                starts: self.frame.starts(),
            }),
        );
        add_product(
            left,
            right,
            [fan, positions],
            &mut lines,
            &starts(positions),
        );
        let (real, imaginary) = lines.split_at_mut(DIRECTIONS * positions);
        absolute(real, imaginary);
        let mut lengths = vec![0.0; DIRECTIONS * size[0] * size[1]];
        self.frame.close_gaps(real, &mut lengths);
        lengths
    }
}

vectorised! {
    /// Turns real parts into absolute values.
    fn absolute<'a>(real: &'a mut [f32], imaginary: &'a [f32]) {
        for (real, imaginary) in real.iter_mut().zip(imaginary) {
            *real = (*real * *real + *imaginary * *imaginary).sqrt();
        }
    }
}

/// Weights of a Gaussian mean, which add up to 1.
fn gaussian(reach: usize, deviation: f32) -> Vec<f32> {
    let weight = |at: usize| {
        let x = at as f32 - reach as f32;
        (-x * x / (2.0 * deviation * deviation)).exp()
    };
    let weights: Vec<f32> = (0..=2 * reach).map(weight).collect();
    let total: f32 = weights.iter().sum();
    weights.into_iter().map(|weight| weight / total).collect()
}

/// A plane with `reach` more pixels on each side, mirrored at its edges as often as it takes.
fn mirrored(plane: &[f32], [height, width]: [usize; 2], reach: usize) -> Vec<f32> {
    let mirror = |at: usize, length: usize| {
        let period = 2 * length - 2;
        let at = (at + period * reach - reach) % period;
        at.min(period - at)
    };
    let mut padded = Vec::with_capacity((height + 2 * reach) * (width + 2 * reach));
    for row in 0..height + 2 * reach {
        let row = &plane[mirror(row, height) * width..][..width];
        padded.extend((0..width + 2 * reach).map(|column| row[mirror(column, width)]));
    }
    padded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edges_are_mirrors() {
        let plane: Vec<f32> = (0..12).map(|at| at as f32).collect();
        let padded = mirrored(&plane, [3, 4], 5);
        assert_eq!(padded.len(), 13 * 14);
        assert_eq!(
            padded[5 * 14..6 * 14],
            [1., 2., 3., 2., 1., 0., 1., 2., 3., 2., 1., 0., 1., 2.]
        );
        assert_eq!(padded[4 * 14 + 5], 4.0);
    }

    #[test]
    fn a_flat_image_has_only_its_mean() {
        let scattering = Scattering::new([1, 12, 16]);
        assert_eq!(scattering.output(), [MAPS, 3, 4]);
        let maps = scattering.scatter(&[0.7; 12 * 16]);
        assert_eq!(maps.len(), MAPS * 12);
        for (at, value) in maps.into_iter().enumerate() {
            let expected = if at < 12 { 0.7 } else { 0.0 };
            assert!((value - expected).abs() < 1e-5, "{at}: {value}");
        }
    }

    #[test]
    fn stripes_are_found_by_the_wavelet_that_lies_along_them() {
        let scattering = Scattering::new([1, 32, 32]);
        // Waves from left to right, of the frequency of the finer wavelets.
        let wave = |at: usize| (0.75 * PI * (at % 32) as f32).cos();
        let image: Vec<f32> = (0..32 * 32).map(wave).collect();
        let maps = scattering.scatter(&image);
        let energy = |map: usize| maps[map * 64..(map + 1) * 64].iter().sum::<f32>();
        let first: Vec<f32> = (1..=DIRECTIONS).map(energy).collect();
        assert!(
            first[1..].iter().all(|&other| other < 0.8 * first[0]),
            "{first:?}"
        );
        assert!(first[4] < 0.05 * first[0], "{first:?}");
    }

    #[test]
    fn a_shift_by_one_pixel_changes_little() {
        let scattering = Scattering::new([1, 32, 32]);
        let image = |shift: usize| -> Vec<f32> {
            let pixel = |at: usize| {
                let (y, x) = ((at / 32) as f32, (at % 32 + shift) as f32);
                ((x * 0.9).sin() + (y * 1.7 + x * 0.4).cos()) * 0.5
            };
            (0..32 * 32).map(pixel).collect()
        };
        let apart = |a: &[f32], b: &[f32]| {
            let squares = a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum::<f32>();
            (squares / dot(a, a)).sqrt()
        };
        let (one, two) = (image(0), image(1));
        let moved = apart(
            &scattering.scatter(&one)[64..],
            &scattering.scatter(&two)[64..],
        );
        assert!(moved < 0.5 * apart(&one, &two), "{moved}");
    }
}

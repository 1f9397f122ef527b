//! Wavelet scattering: what an image holds at two scales and eight directions, without weights.
//!
//! Wavelets, absolute values, wavelets again, and a mean over every 4 × 4 pixels (Bruna and Mallat 2013):
//! features that no training has to find. Under tight privacy a small network on top of them is stronger
//! than a deep one (Tramèr and Boneh 2021). All constants come from formulas, none from data.

use std::f32::consts::PI;

use super::{
    kernels::{Lines, Right, add_product, vectorised},
    onnx::{Attribute, Edge},
};

/// Directions of wavelets.
const DIRECTIONS: usize = 8;

/// Pixels from one output to the next, 2 to the power of the scales.
const STRIDE: usize = 4;

/// Pixels from one place where the wavelets of a scale look to the next: those of scale 1 see nothing finer.
const STEPS: [usize; 2] = [1, 2];

/// Length over width of a wavelet's envelope.
const SLANT: f32 = 2.0;

/// Pixels on each side of the middle of a wavelet of scale 0 and 1.
const REACH: [usize; 2] = [4, 8];

/// Deviation of the mean's weights, in pixels.
const SPREAD: f32 = 1.6;

/// Maps for each channel of an image: the image, 16 of the first order, 64 of the second.
pub(super) const MAPS: usize = 1 + 2 * DIRECTIONS + DIRECTIONS * DIRECTIONS;

/// Scatters images of one size.
pub(super) struct Scattering {
    input: [usize; 3],
    wavelets: [Wavelets; 2],
    /// For the maps of each scale.
    means: [Mean; 2],
}

/// Wavelets of one scale in all directions, which look at every so many pixels.
struct Wavelets {
    reach: usize,
    step: usize,
    /// Rows and columns of what they give.
    output: [usize; 2],
    /// Rows and columns of a phase of a map: its pixels that lie a whole number of steps apart.
    phase: [usize; 2],
    /// Where what each weight sees begins among the phases.
    starts: Vec<usize>,
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
            means: STEPS.map(|step| Mean::new(step, [height, width])),
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
            let mut fine = plane.to_vec();
            fine.extend(self.wavelets[0].lengths(plane, [height, width]));
            let [mean, coarse_mean] = &self.means;
            let maps = || fine.chunks_exact(height * width);
            maps().for_each(|map| mean.add(map, &mut output));
            for map in maps() {
                let coarse = self.wavelets[1].lengths(map, [height, width]);
                let maps = coarse.chunks_exact(coarse.len() / DIRECTIONS);
                maps.for_each(|map| coarse_mean.add(map, &mut output));
            }
        }
        output
    }
}

impl Scattering {
    /// What [`scatter`](Self::scatter) gives, as part of a graph: wavelets and means are convolutions with
    /// fixed weights, of each map for itself.
    pub(super) fn draw(&self, images: &Edge) -> Edge {
        let [_, height, width] = self.input;
        let [first, second] = &self.wavelets;
        let planes = images.shaped(&[1, height, width]);
        let fine = Edge::joined(&[planes.clone(), first.draw(&planes, [height, width])], 0);
        let fine = fine.shaped(&[1, height, width]);
        let [rows, columns] = second.output;
        let coarse = second
            .draw(&fine, [height, width])
            .shaped(&[1, rows, columns]);
        let output @ [_, rows, columns] = self.output();
        let [mean, coarse_mean] = &self.means;
        let fine = mean.draw(&fine).shaped(&[1 + DIRECTIONS, rows, columns]);
        let coarse = coarse_mean.draw(&coarse);
        let coarse = coarse.shaped(&[MAPS - 1 - DIRECTIONS, rows, columns]);
        Edge::joined(&[fine, coarse], 0).shaped(&output)
    }
}

impl Mean {
    /// For each of the maps.
    fn draw(&self, map: &Edge) -> Edge {
        let side = self.weights.len();
        let weight = |at: usize| self.weights[at / side] * self.weights[at % side];
        let weights: Vec<f32> = (0..side * side).map(weight).collect();
        let [rows, columns] = self.size.map(|length| length.div_ceil(self.stride));
        slid(
            map,
            self.size,
            &weights,
            [self.reach, self.stride],
            [1, rows, columns],
        )
    }
}

impl Wavelets {
    /// For each of the maps.
    fn draw(&self, map: &Edge, size: [usize; 2]) -> Edge {
        let [rows, columns] = self.output;
        let (real, imaginary) = self.weights.split_at(self.weights.len() / 2);
        let squares = [real, imaginary].map(|weights| {
            let output = [DIRECTIONS, rows, columns];
            let seen = slid(map, size, weights, [self.reach, self.step], output);
            seen.pairwise("Mul", &seen)
        });
        squares[0].pairwise("Add", &squares[1]).each("Sqrt")
    }
}

/// Square kernels over maps whose edges are mirrors.
fn slid(
    map: &Edge,
    size: [usize; 2],
    weights: &[f32],
    [reach, step]: [usize; 2],
    output: [usize; 3],
) -> Edge {
    let [rows, columns] = size.map(|length| mirror(length, reach).collect::<Vec<_>>());
    let padded = map.picked(1, &rows).picked(2, &columns);
    let side = 2 * reach + 1;
    let weights = map.constant(weights, &[output[0], 1, side, side]);
    let steps = Attribute::integers("strides", [step; 2]);
    padded.then("Conv", [weights], [steps], &output)
}

/// A weighted mean around places [`STRIDE`] pixels apart.
struct Mean {
    /// Size of a map.
    size: [usize; 2],
    /// Values of a map from one place to the next.
    stride: usize,
    reach: usize,
    /// Along one direction.
    weights: Vec<f32>,
}

impl Mean {
    /// For maps that hold a value every `step` pixels of an image.
    fn new(step: usize, image: [usize; 2]) -> Self {
        let deviation = SPREAD / step as f32;
        let reach = (3.0 * deviation).ceil() as usize;
        Self {
            size: image.map(|length| length.div_ceil(step)),
            stride: STRIDE / step,
            reach,
            weights: gaussian(reach, deviation),
        }
    }

    /// Appends the means of a map, rows first.
    fn add(&self, map: &[f32], output: &mut Vec<f32>) {
        let &Self {
            size: size @ [height, width],
            stride,
            reach,
            ref weights,
        } = self;
        let padded = mirrored(map, size, reach);
        let columns = width.div_ceil(stride);
        let mut along = vec![0.0; (height + 2 * reach) * columns];
        let rows = padded.chunks_exact(width + 2 * reach);
        for (row, means) in rows.zip(along.chunks_exact_mut(columns)) {
            mean_along(row, weights, stride, means);
        }
        let first = output.len();
        output.resize(first + height.div_ceil(stride) * columns, 0.0);
        for (at, means) in output[first..].chunks_exact_mut(columns).enumerate() {
            mean_across(&along[at * stride * columns..], weights, means);
        }
    }
}

/// The weighted mean of a row at every so many of its values.
fn mean_along(row: &[f32], weights: &[f32], stride: usize, means: &mut [f32]) {
    for (at, mean) in means.iter_mut().enumerate() {
        let seen = row[at * stride..].iter().zip(weights);
        *mean = seen.map(|(value, weight)| value * weight).sum();
    }
}

/// The weighted mean of rows as long as `means`.
fn mean_across(rows: &[f32], weights: &[f32], means: &mut [f32]) {
    for (row, weight) in rows.chunks_exact(means.len()).zip(weights) {
        for (mean, value) in means.iter_mut().zip(row) {
            *mean += weight * value;
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
        let step = STEPS[scale];
        let phase @ [rows, columns] =
            [height, width].map(|length| (length + 2 * reach).div_ceil(step));
        let start = |at: usize| {
            let (down, right) = (at / side, at % side);
            let plane = down % step * step + right % step;
            (plane * rows + down / step) * columns + right / step
        };
        Self {
            reach,
            step,
            output: [height, width].map(|length| length.div_ceil(step)),
            phase,
            starts: (0..side * side).map(start).collect(),
            weights: real,
        }
    }

    /// The absolute value of what each wavelet sees: `[directions][rows][columns]`.
    fn lengths(&self, map: &[f32], size: [usize; 2]) -> Vec<f32> {
        let phases = self.phases(&mirrored(map, size, self.reach), size[1] + 2 * self.reach);
        let ([rows, columns], row) = (self.output, self.phase[1]);
        // Lines hold a few numbers after each row that belong to no place.
        let positions = (rows - 1) * row + columns;
        let mut lines = vec![0.0; 2 * DIRECTIONS * positions];
        let starts = |length| -> Vec<usize> { (0..2 * DIRECTIONS).map(|at| at * length).collect() };
        let left = Lines {
            numbers: &self.weights,
            starts: &starts(self.starts.len()),
        };
        let right = Right::Rows(Lines {
            numbers: &phases,
            starts: &self.starts,
        });
        let sizes = [self.starts.len(), positions];
        add_product(left, right, sizes, &mut lines, &starts(positions));
        let (real, imaginary) = lines.split_at_mut(DIRECTIONS * positions);
        absolute(real, imaginary);
        let rows = real
            .chunks_exact(positions)
            .flat_map(|line| line.chunks(row));
        rows.flat_map(|row| &row[..columns]).copied().collect()
    }

    /// A map's phases one after the other: what a weight sees lies without steps in one of them.
    fn phases(&self, map: &[f32], width: usize) -> Vec<f32> {
        let [rows, columns] = self.phase;
        let mut phases = vec![0.0; self.step * self.step * rows * columns];
        for (at, phase) in phases.chunks_exact_mut(rows * columns).enumerate() {
            let (down, right) = (at / self.step, at % self.step);
            let seen = map.chunks_exact(width).skip(down).step_by(self.step);
            for (place, row) in phase.chunks_exact_mut(columns).zip(seen) {
                let row = row[right..].iter().step_by(self.step);
                place
                    .iter_mut()
                    .zip(row)
                    .for_each(|(place, value)| *place = *value);
            }
        }
        phases
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

/// Where the pixels of a row come from that has `reach` more on each side.
fn mirror(length: usize, reach: usize) -> impl Iterator<Item = usize> {
    let period = 2 * length - 2;
    (0..length + 2 * reach).map(move |at| {
        let at = (at + period * reach - reach) % period;
        at.min(period - at)
    })
}

/// A plane with `reach` more pixels on each side, mirrored at its edges as often as it takes.
fn mirrored(plane: &[f32], [height, width]: [usize; 2], reach: usize) -> Vec<f32> {
    let columns: Vec<usize> = mirror(width, reach).collect();
    let mut padded = Vec::with_capacity((height + 2 * reach) * columns.len());
    for row in mirror(height, reach) {
        let row = &plane[row * width..][..width];
        padded.extend(columns.iter().map(|&column| row[column]));
    }
    padded
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::kernels::dot;

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

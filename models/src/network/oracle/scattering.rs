//! Wavelet scattering again, in f64 and plain loops, from its formulas.

use std::f64::consts::PI;

use super::{Image, standardise};

/// A wavelet's real and imaginary part, or a mean's weight twice, around a middle.
type Filter = Vec<(isize, isize, [f64; 2])>;

/// A plane that goes on behind its edges as in mirrors.
struct Plane<'a> {
    values: &'a [f64],
    size: [usize; 2],
}

impl Plane<'_> {
    fn at(&self, y: isize, x: isize) -> f64 {
        let [height, width] = self.size;
        self.values[mirror(y, height) * width + mirror(x, width)]
    }

    /// The length of what a filter sees around a pixel.
    fn seen(&self, filter: &Filter, y: usize, x: usize) -> f64 {
        let mut seen = [0.0; 2];
        for (dy, dx, weights) in filter {
            let value = self.at(y as isize + dy, x as isize + dx);
            seen[0] += weights[0] * value;
            seen[1] += weights[1] * value;
        }
        seen[0].hypot(seen[1])
    }
}

fn mirror(mut at: isize, length: usize) -> usize {
    let last = length as isize - 1;
    while !(0..=last).contains(&at) {
        at = if at < 0 { -at } else { 2 * last - at };
    }
    at as usize
}

/// Wavelets of one scale in eight directions: a wave under an envelope, of sum 0.
fn wavelets(scale: i32, reach: isize) -> Vec<Filter> {
    let size = 2_f64.powi(scale);
    let (deviation, frequency) = (0.8 * size, 0.75 * PI / size);
    let one = |direction: usize| {
        let (sin, cos) = (direction as f64 * PI / 8.0).sin_cos();
        let mut points = Vec::new();
        for y in -reach..=reach {
            for x in -reach..=reach {
                let along = x as f64 * cos + y as f64 * sin;
                let across = (y as f64 * cos - x as f64 * sin) / 2.0;
                let exponent = (along.powi(2) + across.powi(2)) / (2.0 * deviation.powi(2));
                points.push((y, x, (-exponent).exp(), frequency * along));
            }
        }
        let total: f64 = points.iter().map(|(_, _, envelope, _)| envelope).sum();
        let waves = points
            .iter()
            .map(|(_, _, envelope, phase)| envelope * phase.cos());
        let mean = waves.sum::<f64>() / total;
        let filter = points.into_iter().map(|(y, x, envelope, phase)| {
            let share = envelope / total;
            (y, x, [share * (phase.cos() - mean), share * phase.sin()])
        });
        filter.collect()
    };
    (0..8).map(one).collect()
}

/// Weights of the mean along one direction, over values that lie `step` pixels apart.
fn mean(step: usize) -> Vec<(isize, f64)> {
    let deviation = 1.6 / step as f64;
    let reach = (3.0 * deviation).ceil() as isize;
    let weight = |at: isize| (-(at as f64 / deviation).powi(2) / 2.0).exp();
    let total: f64 = (-reach..=reach).map(weight).sum();
    (-reach..=reach)
        .map(|at| (at, weight(at) / total))
        .collect()
}

/// Values of an image `step` pixels apart.
struct Map {
    values: Vec<f64>,
    size: [usize; 2],
    step: usize,
}

impl Map {
    /// What filters see at every `step`th pixel.
    fn lengths(&self, filters: &[Filter], step: usize) -> Vec<Self> {
        let plane = self.plane();
        let size = self.size.map(|length| length.div_ceil(step));
        let look = |filter| {
            let places =
                (0..size[0] * size[1]).map(|at| (at / size[1] * step, at % size[1] * step));
            let values = places.map(|(y, x)| plane.seen(filter, y, x)).collect();
            Self { values, size, step }
        };
        filters.iter().map(look).collect()
    }

    /// The mean around every fourth pixel.
    fn means(&self) -> Vec<f64> {
        let (plane, weights, stride) = (self.plane(), mean(self.step), 4 / self.step);
        let [height, width] = self.size.map(|length| length as isize);
        let mut values = Vec::new();
        for y in (0..height).step_by(stride) {
            for x in (0..width).step_by(stride) {
                let rows = weights.iter().map(|(dy, row)| {
                    let terms = weights.iter();
                    row * terms
                        .map(|(dx, weight)| weight * plane.at(y + dy, x + dx))
                        .sum::<f64>()
                });
                values.push(rows.sum());
            }
        }
        values
    }

    fn plane(&self) -> Plane<'_> {
        Plane {
            values: &self.values,
            size: self.size,
        }
    }
}

/// The 81 maps of each channel at every fourth pixel, in three groups of mean 0 and variance 1.
pub(in crate::network) fn scattered(image: &Image) -> Image {
    let [channels, height, width] = image.shape;
    let [fine, coarse] = [wavelets(0, 4), wavelets(1, 8)];
    let mut values = Vec::new();
    for channel in image.values.chunks(height * width) {
        let mut maps = vec![Map {
            values: channel.to_vec(),
            size: [height, width],
            step: 1,
        }];
        let first = maps[0].lengths(&fine, 1);
        maps.extend(first);
        let second: Vec<_> = maps
            .iter()
            .flat_map(|map| map.lengths(&coarse, 2))
            .collect();
        maps.extend(second);
        values.extend(maps.iter().flat_map(Map::means));
    }
    let shape = [channels * 81, height.div_ceil(4), width.div_ceil(4)];
    values
        .chunks_mut(27 * shape[1] * shape[2])
        .for_each(|group| standardise(group, 1e-5));
    Image { shape, values }
}

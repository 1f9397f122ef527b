//! Layers without weights that make inputs smaller.

use burn::tensor::{module::max_pool2d, ops::MaxPoolOptions};

use super::{
    kernels::{sum, vectorised},
    tape::{Pass, Placed, Step, Tape, Value},
};

/// The largest of every 2 × 2 pixels; an odd last row or column is left out.
///
/// # Shapes
/// - `images`: `[examples][channels][height][width]`, of which `shape` is all but the examples
/// - output: `[examples][channels][height / 2][width / 2]`
pub(super) fn halve(images: Value, shape: [usize; 3], tape: &mut Tape) -> Value {
    let [channels, height, width] = shape;
    let [images] = match tape.place([images]) {
        Placed::Rows(rows) => rows,
        Placed::Tensors([images], _) => {
            let images = images.reshape([tape.examples, channels, height, width]);
            let largest = max_pool2d(images, MaxPoolOptions::new([2, 2]));
            return Value::Tensor(largest.flatten(1, 3));
        }
    };
    let size = [height, width];
    let input = images.rows();
    let count = input.len() / (height * width) * (height / 2) * (width / 2);
    let (mut output, mut places) = (vec![0.0; count], vec![0; count]);
    vectorised(|| {
        let blocks = output
            .chunks_exact_mut(width / 2)
            .zip(places.chunks_exact_mut(width / 2));
        let planes = input.chunks_exact(height * width);
        let rows = planes.flat_map(|plane| plane.chunks_exact(2 * width).take(height / 2));
        for (rows, (output, places)) in rows.zip(blocks) {
            let (upper, lower) = rows.split_at(width);
            let (upper, lower) = (upper.as_chunks::<2>().0, lower.as_chunks::<2>().0);
            let pairs = upper.iter().zip(lower);
            for ((output, place), (upper, lower)) in output.iter_mut().zip(places).zip(pairs) {
                // The first of equals; a first that is not a number stays.
                let (mut largest, mut at) = (upper[0], 0);
                for (value, index) in [(upper[1], 1), (lower[0], 2), (lower[1], 3)] {
                    (largest, at) = if value > largest {
                        (value, index)
                    } else {
                        (largest, at)
                    };
                }
                (*output, *place) = (largest, at);
            }
        }
    });
    let length = input.len();
    tape.plain(output, &[images.node()], |_| Halving {
        size,
        length,
        places,
    })
}

struct Halving {
    size: [usize; 2],
    /// Pixels of all images.
    length: usize,
    /// Which of its four pixels an output is: 0 and 1 of the upper row, 2 and 3 of the lower.
    places: Vec<u8>,
}

impl Step for Halving {
    fn back(self: Box<Self>, output: Vec<f32>, _: &mut Pass) -> Vec<Option<Vec<f32>>> {
        let [height, width] = self.size;
        let mut back = vec![0.0; self.length];
        vectorised(|| {
            let blocks = output
                .chunks_exact(width / 2)
                .zip(self.places.chunks_exact(width / 2));
            let planes = back.chunks_exact_mut(height * width);
            let rows = planes.flat_map(|plane| plane.chunks_exact_mut(2 * width).take(height / 2));
            for (rows, (output, places)) in rows.zip(blocks) {
                let (upper, lower) = rows.split_at_mut(width);
                let (upper, lower) = (upper.as_chunks_mut::<2>().0, lower.as_chunks_mut::<2>().0);
                let pairs = upper.iter_mut().zip(lower);
                for ((&gradient, &place), (upper, lower)) in output.iter().zip(places).zip(pairs) {
                    let at = |index| if place == index { gradient } else { 0.0 };
                    *upper = [at(0), at(1)];
                    *lower = [at(2), at(3)];
                }
            }
        });
        vec![Some(back)]
    }
}

/// The mean of each channel of `plane` pixels.
///
/// # Shapes
/// - `images`: `[examples][channels][plane]`
/// - output: `[examples][channels]`
pub(super) fn average(images: Value, plane: usize, tape: &mut Tape) -> Value {
    let [images] = match tape.place([images]) {
        Placed::Rows(rows) => rows,
        Placed::Tensors([images], _) => {
            let channels = images.dims()[1] / plane;
            let planes = images.reshape([tape.examples, channels, plane]);
            return Value::Tensor(planes.mean_dim(2).squeeze_dim(2));
        }
    };
    let planes = images.rows().chunks_exact(plane);
    let means = vectorised(|| {
        planes
            .map(|plane| sum(plane) / plane.len() as f32)
            .collect()
    });
    tape.plain(means, &[images.node()], |_| Averaging { plane })
}

struct Averaging {
    plane: usize,
}

impl Step for Averaging {
    fn back(self: Box<Self>, output: Vec<f32>, _: &mut Pass) -> Vec<Option<Vec<f32>>> {
        let Self { plane } = *self;
        let mut back = vec![0.0; output.len() * plane];
        for (back, gradient) in back.chunks_exact_mut(plane).zip(output) {
            back.fill(gradient / plane as f32);
        }
        vec![Some(back)]
    }
}

/// The mean over the positions of a sequence.
///
/// # Shapes
/// - `sequences`: `[examples][positions][features]`
/// - output: `[examples][features]`
pub(super) fn average_positions(
    sequences: Value,
    [positions, features]: [usize; 2],
    tape: &mut Tape,
) -> Value {
    let [sequences] = match tape.place([sequences]) {
        Placed::Rows(rows) => rows,
        Placed::Tensors([sequences], _) => {
            let sequences = sequences.reshape([tape.examples, positions, features]);
            return Value::Tensor(sequences.mean_dim(1).squeeze_dim(1));
        }
    };
    let input = sequences.rows();
    let mut means = vec![0.0; input.len() / positions];
    let examples = input.chunks_exact(positions * features);
    for (mean, example) in means.chunks_exact_mut(features).zip(examples) {
        example
            .chunks_exact(features)
            .for_each(|row| super::kernels::add(mean, row));
        mean.iter_mut().for_each(|mean| *mean /= positions as f32);
    }
    tape.plain(means, &[sequences.node()], |_| PositionAveraging {
        positions,
        features,
    })
}

struct PositionAveraging {
    positions: usize,
    features: usize,
}

impl Step for PositionAveraging {
    fn back(self: Box<Self>, output: Vec<f32>, _: &mut Pass) -> Vec<Option<Vec<f32>>> {
        let Self {
            positions,
            features,
        } = *self;
        let mut back = Vec::with_capacity(output.len() * positions);
        for row in output.chunks_exact(features) {
            let row: Vec<f32> = row.iter().map(|value| value / positions as f32).collect();
            (0..positions).for_each(|_| back.extend_from_slice(&row));
        }
        vec![Some(back)]
    }
}

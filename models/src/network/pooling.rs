//! What makes inputs smaller, without weights.

use super::{
    kernels::{sum, vectorised},
    tape::{Pass, Placed, Step, Tape, Value},
};
use crate::profile::Kind;

vectorised! {
    /// The largest of every 2 × 2 pixels of planes of `height` × `width`, and which of the four it is: 0 and
    /// 1 of the upper row, 2 and 3 of the lower. An odd last row or column is left out.
    pub(super) fn halve<'a>(
        planes: &'a [f32],
        size: [usize; 2],
        output: &'a mut [f32],
        places: &'a mut [u8],
    ) {
        let [height, width] = size;
        let blocks = output.chunks_exact_mut(width / 2).zip(places.chunks_exact_mut(width / 2));
        let planes = planes.chunks_exact(height * width);
        let rows = planes.flat_map(|plane| plane.chunks_exact(2 * width).take(height / 2));
        for (rows, (output, places)) in rows.zip(blocks) {
            let (upper, lower) = rows.split_at(width);
            let (upper, lower) = (upper.as_chunks::<2>().0, lower.as_chunks::<2>().0);
            let pairs = upper.iter().zip(lower);
            for ((output, place), (upper, lower)) in output.iter_mut().zip(places).zip(pairs) {
                // The first of equals; a first that is not a number stays.
                let (mut largest, mut at) = (upper[0], 0);
                for (value, index) in [(upper[1], 1), (lower[0], 2), (lower[1], 3)] {
                    at = if value > largest { index } else { at };
                    largest = if value > largest { value } else { largest };
                }
                (*output, *place) = (largest, at);
            }
        }
    }
}

vectorised! {
    /// The way back from [`halve`]: each gradient to the pixel that was the largest, zeros to the others.
    /// What an odd last row or column has is left as it is.
    pub(super) fn spread<'a>(
        gradient: &'a [f32],
        places: &'a [u8],
        size: [usize; 2],
        planes: &'a mut [f32],
    ) {
        let [height, width] = size;
        let blocks = gradient.chunks_exact(width / 2).zip(places.chunks_exact(width / 2));
        let planes = planes.chunks_exact_mut(height * width);
        let rows = planes.flat_map(|plane| plane.chunks_exact_mut(2 * width).take(height / 2));
        for (rows, (gradient, places)) in rows.zip(blocks) {
            let (upper, lower) = rows.split_at_mut(width);
            let (upper, lower) = (upper.as_chunks_mut::<2>().0, lower.as_chunks_mut::<2>().0);
            let pairs = upper.iter_mut().zip(lower);
            for ((&gradient, &place), (upper, lower)) in gradient.iter().zip(places).zip(pairs) {
                let at = |index| if place == index { gradient } else { 0.0 };
                *upper = [at(0), at(1)];
                *lower = [at(2), at(3)];
            }
        }
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
        Placed::Edges([images]) => {
            let channels = images.numbers() / plane;
            let planes = images.shaped(&[channels, plane]);
            return Value::Edge(planes.then("GlobalAveragePool", [], [], &[channels, 1]));
        }
    };
    let planes = images.rows().chunks_exact(plane);
    let means = planes
        .map(|plane| sum(plane) / plane.len() as f32)
        .collect();
    tape.plain(means, &[images.node()], |_| Averaging { plane })
}

struct Averaging {
    plane: usize,
}

impl Step for Averaging {
    fn kind() -> Kind {
        Kind::Pooling
    }

    fn back(self: Box<Self>, output: Vec<f32>, _: &mut Pass) -> Vec<Option<Vec<f32>>> {
        let Self { plane } = *self;
        let mut back = vec![0.0; output.len() * plane];
        for (back, gradient) in back.chunks_exact_mut(plane).zip(output) {
            back.fill(gradient / plane as f32);
        }
        vec![Some(back)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_pixel_is_kept_and_gets_the_gradient() {
        #[rustfmt::skip]
        let plane = [
            1.0, 2.0, 5.0, 5.0, 9.0,
            3.0, 0.0, 5.0, 4.0, 9.0,
            9.0, 9.0, 9.0, 9.0, 9.0,
        ];
        let (mut output, mut places) = ([0.0; 2], [0; 2]);
        halve(&plane, [3, 5], &mut output, &mut places);
        assert_eq!((output, places), ([3.0, 5.0], [2, 0]));
        let mut back = [0.0; 15];
        spread(&[0.5, 0.25], &places, [3, 5], &mut back);
        let mut expected = [0.0; 15];
        (expected[5], expected[2]) = (0.5, 0.25);
        assert_eq!(back, expected);
    }
}

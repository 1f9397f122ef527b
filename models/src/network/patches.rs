//! What each position of a convolution's output saw of the input.
//!
//! Gathered on the host, row by row: on the CPU that is several times faster than slices of
//! tensors, and it is all the private step adds to the products.

use super::convolution::Window;

/// Patches of a microbatch: `[examples][channels][kernel row][kernel column][positions]`, so the
/// first dimensions after the examples stand in the order of the weights. Padding is zeros.
///
/// `input` is `[examples][channels][height][width]`, `shape` its last three.
pub(super) fn patches(input: &[f32], shape: [usize; 3], window: Window) -> Vec<f32> {
    let [_, height, width] = shape;
    let Window {
        kernel,
        stride,
        padding,
    } = window;
    let (rows, columns) = (window.over(height), window.over(width));
    let planes = input.chunks_exact(height * width);
    let mut patches = vec![0.0; planes.len() * kernel * kernel * rows * columns];
    let mut places = patches.chunks_exact_mut(columns);
    for plane in planes {
        for (down, right) in (0..kernel * kernel).map(|at| (at / kernel, at % kernel)) {
            for (row, place) in (0..rows).zip(&mut places) {
                let from = (row * stride + down).checked_sub(padding);
                if let Some(from) = from.filter(|&from| from < height) {
                    let line = &plane[from * width..(from + 1) * width];
                    gather(line, place, right, stride, padding);
                }
            }
        }
    }
    patches
}

/// Copies every `stride`-th pixel of a line, from `right − padding` on; what lies outside stays.
fn gather(line: &[f32], place: &mut [f32], right: usize, stride: usize, padding: usize) {
    let first = padding
        .saturating_sub(right)
        .div_ceil(stride)
        .min(place.len());
    let start = first * stride + right - padding.min(first * stride + right);
    let inside = line.get(start..).unwrap_or_default();
    let place = &mut place[first..];
    if stride == 1 {
        let count = inside.len().min(place.len());
        place[..count].copy_from_slice(&inside[..count]);
    } else {
        place
            .iter_mut()
            .zip(inside.iter().step_by(stride))
            .for_each(|(place, pixel)| *place = *pixel);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_position_sees_what_its_window_covers(
            kernel in 1_usize..5,
            stride in 1_usize..4,
            padding in 0_usize..3,
            height in 5_usize..9,
            width in 5_usize..9,
        ) {
            let window = Window { kernel, stride, padding };
            let input: Vec<f32> = (1..=2 * 3 * height * width).map(|at| at as f32).collect();
            let found = patches(&input, [3, height, width], window);
            let (rows, columns) = (window.over(height), window.over(width));
            let mut expected = Vec::new();
            for plane in input.chunks(height * width) {
                for at in 0..kernel * kernel {
                    for position in 0..rows * columns {
                        let row = (position / columns * stride + at / kernel).checked_sub(padding);
                        let column = (position % columns * stride + at % kernel).checked_sub(padding);
                        expected.push(match (row, column) {
                            (Some(row), Some(column)) if row < height && column < width => {
                                plane[row * width + column]
                            }
                            _ => 0.0,
                        });
                    }
                }
            }
            prop_assert_eq!(found, expected);
        }
    }
}

//! What each position of a convolution's output saw of the input, copied out line by line.

use super::Window;

/// Writes the patches of one image: `[channels][kernel row][kernel column][positions]`, so that the
/// first dimensions stand in the order of the weights. Padding is zeros.
///
/// `image` is `[channels][height][width]`, of which `size` is the last two.
pub(super) fn patches(image: &[f32], size: [usize; 2], window: Window, patches: &mut [f32]) {
    let columns = window.over(size[1]);
    let mut places = patches.chunks_exact_mut(columns);
    for plane in image.chunks_exact(size[0] * size[1]) {
        lines(size, window, |line, first, inside| {
            let Some(place) = places.next() else { return };
            place.fill(0.0);
            let (Some(line), stride) = (line, window.stride) else {
                return;
            };
            let place = &mut place[first..first + inside.len()];
            let line = &plane[line * size[1]..][inside.start..];
            if stride == 1 {
                place.copy_from_slice(&line[..place.len()]);
            } else {
                let pixels = line.iter().step_by(stride);
                place
                    .iter_mut()
                    .zip(pixels)
                    .for_each(|(place, pixel)| *place = *pixel);
            }
        });
    }
}

/// The way back: adds each number of the patches to the pixel that it was copied from.
pub(super) fn add_back(patches: &[f32], size: [usize; 2], window: Window, image: &mut [f32]) {
    let columns = window.over(size[1]);
    let mut places = patches.chunks_exact(columns);
    for plane in image.chunks_exact_mut(size[0] * size[1]) {
        lines(size, window, |line, first, inside| {
            let (Some(place), Some(line)) = (places.next(), line) else {
                return;
            };
            let place = &place[first..first + inside.len()];
            let line = &mut plane[line * size[1]..][inside.start..];
            let pixels = line.iter_mut().step_by(window.stride);
            pixels.zip(place).for_each(|(pixel, place)| *pixel += place);
        });
    }
}

/// Calls `work` for each line of patches of a plane, in order, with the line of the image that it shows,
/// the first position inside the image, and a range that begins at the pixel seen there and is as
/// long as there are positions inside.
fn lines(
    [height, width]: [usize; 2],
    window: Window,
    mut work: impl FnMut(Option<usize>, usize, std::ops::Range<usize>),
) {
    let Window {
        kernel,
        stride,
        padding,
        dilation,
    } = window;
    let (rows, columns) = (window.over(height), window.over(width));
    for (down, right) in (0..kernel * kernel).map(|at| (at / kernel, at % kernel)) {
        let right = right * dilation;
        // Positions from `first` to `last` see pixels of the line.
        let first = padding.saturating_sub(right).div_ceil(stride).min(columns);
        let last = (width + padding).saturating_sub(right).div_ceil(stride);
        let start = (first * stride + right).saturating_sub(padding);
        let count = last.min(columns).saturating_sub(first);
        for row in 0..rows {
            let line = (row * stride + down * dilation).checked_sub(padding);
            let line = line.filter(|&line| line < height && count > 0);
            work(line, first, start..start + count);
        }
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
            dilation in 1_usize..3,
            height in 7_usize..11,
            width in 7_usize..11,
        ) {
            let window = Window { kernel, stride, padding, dilation };
            let input: Vec<f32> = (1..=3 * height * width).map(|at| at as f32).collect();
            let (rows, columns) = (window.over(height), window.over(width));
            let mut expected = Vec::new();
            let mut seen = vec![0.0; input.len()];
            for (plane, pixels) in input.chunks(height * width).enumerate() {
                for at in 0..kernel * kernel {
                    for position in 0..rows * columns {
                        let row = position / columns * stride + at / kernel * dilation;
                        let column = position % columns * stride + at % kernel * dilation;
                        let inside = (row.checked_sub(padding), column.checked_sub(padding));
                        expected.push(match inside {
                            (Some(row), Some(column)) if row < height && column < width => {
                                seen[(plane * height + row) * width + column] += 1.0;
                                pixels[row * width + column]
                            }
                            _ => 0.0,
                        });
                    }
                }
            }
            let mut found = vec![f32::NAN; expected.len()];
            patches(&input, [height, width], window, &mut found);
            prop_assert_eq!(found, expected);
            let mut back = vec![0.0; input.len()];
            add_back(&vec![1.0; 3 * kernel * kernel * rows * columns], [height, width], window, &mut back);
            prop_assert_eq!(back, seen);
        }
    }
}

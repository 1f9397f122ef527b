//! How the windows of a convolution find the image.
//!
//! What one weight sees of an image, over all positions of the output, is a line of numbers. With stride
//! 1 such lines lie in the (padded) image itself, one after the other, with a few numbers at the ends
//! of rows that belong to no position; otherwise, or where those would be many, they are copied out.

use std::borrow::Cow;

use super::{
    Window,
    patches::{add_back, patches},
};

/// Where lines lie, for images of one size.
pub(in super::super) struct Frame {
    window: Window,
    size: [usize; 2],
    /// Rows and columns of the output.
    output: [usize; 2],
    /// Numbers from one row of the output to the next in a line.
    row: usize,
    /// Where the line of each weight begins, by channel, kernel row and kernel column.
    starts: Vec<usize>,
    /// Numbers of the image as its lines need it.
    length: usize,
    is_copied: bool,
}

impl Frame {
    /// For images of `[channels, height, width]`.
    pub(in super::super) fn new([channels, height, width]: [usize; 3], window: Window) -> Self {
        let Window {
            kernel,
            stride,
            padding,
            dilation,
        } = window;
        let output = [window.over(height), window.over(width)];
        let padded = [height + 2 * padding, width + 2 * padding];
        let is_copied = stride > 1 || 8 * (padded[1] - output[1]) > output[1];
        let weights = kernel * kernel;
        let start = |at: usize| {
            let (channel, down, right) = (at / weights, at % weights / kernel, at % kernel);
            if is_copied {
                at * output[0] * output[1]
            } else {
                (channel * padded[0] + down * dilation) * padded[1] + right * dilation
            }
        };
        let plane = if is_copied {
            weights * output[0] * output[1]
        } else {
            padded[0] * padded[1]
        };
        Self {
            window,
            size: [height, width],
            output,
            row: if is_copied { output[1] } else { padded[1] },
            starts: (0..channels * weights).map(start).collect(),
            length: channels * plane,
            is_copied,
        }
    }

    /// Numbers of a line.
    pub(in super::super) fn positions(&self) -> usize {
        (self.output[0] - 1) * self.row + self.output[1]
    }

    pub(in super::super) fn starts(&self) -> &[usize] {
        &self.starts
    }

    /// The image as its lines need it.
    pub(in super::super) fn lay_out<'a>(&self, image: &'a [f32]) -> Cow<'a, [f32]> {
        if !self.is_copied && self.window.padding == 0 {
            return Cow::Borrowed(image);
        }
        let mut laid_out = vec![0.0; self.length];
        if self.is_copied {
            patches(image, self.size, self.window, &mut laid_out);
        } else {
            let rows = image.chunks_exact(self.size[1]);
            let places = self.padded_rows(&mut laid_out);
            places
                .zip(rows)
                .for_each(|(place, row)| place.copy_from_slice(row));
        }
        Cow::Owned(laid_out)
    }

    /// Zeros to add gradients of lines to.
    pub(in super::super) fn empty(&self) -> Vec<f32> {
        vec![0.0; self.length]
    }

    /// The gradient at the image, from that at its lines.
    pub(in super::super) fn take_back(&self, mut laid_out: Vec<f32>, image: &mut [f32]) {
        if self.is_copied {
            add_back(&laid_out, self.size, self.window, image);
        } else if self.window.padding == 0 {
            image.copy_from_slice(&laid_out);
        } else {
            let rows = image.chunks_exact_mut(self.size[1]);
            let places = self.padded_rows(&mut laid_out);
            places
                .zip(rows)
                .for_each(|(place, row)| row.copy_from_slice(place));
        }
    }

    /// The part of each padded row that shows the image.
    fn padded_rows<'a>(&self, padded: &'a mut [f32]) -> impl Iterator<Item = &'a mut [f32]> {
        let [height, width] = self.size;
        let padding = self.window.padding;
        let padded_width = width + 2 * padding;
        let planes = padded.chunks_exact_mut((height + 2 * padding) * padded_width);
        planes.flat_map(move |plane| {
            let rows = plane.chunks_exact_mut(padded_width).skip(padding);
            rows.take(height)
                .map(move |row| &mut row[padding..padding + width])
        })
    }

    /// Writes lines of an output without their gaps.
    pub(in super::super) fn close_gaps(&self, lines: &[f32], output: &mut [f32]) {
        let [rows, columns] = self.output;
        let planes = output.chunks_exact_mut(rows * columns);
        for (line, plane) in lines.chunks_exact(self.positions()).zip(planes) {
            for (row, place) in line.chunks(self.row).zip(plane.chunks_exact_mut(columns)) {
                place.copy_from_slice(&row[..columns]);
            }
        }
    }

    /// Writes an output's gradient as lines. What stands in the gaps is left as it is: zeros.
    pub(in super::super) fn open_gaps(&self, output: &[f32], lines: &mut [f32]) {
        let [rows, columns] = self.output;
        let planes = output.chunks_exact(rows * columns);
        for (line, plane) in lines.chunks_exact_mut(self.positions()).zip(planes) {
            for (place, row) in line.chunks_mut(self.row).zip(plane.chunks_exact(columns)) {
                place[..columns].copy_from_slice(row);
            }
        }
    }
}

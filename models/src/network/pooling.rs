//! Layers without weights that make images smaller.

use burn::tensor::{Tensor, module::max_pool2d, ops::MaxPoolOptions};

/// The largest of every 2 × 2 pixels; an odd last row or column is left out.
///
/// # Shapes
/// - `images`: `[examples, channels, height, width]`
/// - output: `[examples, channels, height / 2, width / 2]`
pub(super) fn halve(images: Tensor<4>) -> Tensor<4> {
    max_pool2d(images, MaxPoolOptions::new([2, 2]))
}

/// The mean of each channel.
///
/// # Shapes
/// - `images`: `[examples, channels, height, width]`
/// - output: `[examples, channels]`
pub(super) fn average(images: Tensor<4>) -> Tensor<2> {
    let [examples, channels, height, width] = images.dims();
    images
        .reshape([examples, channels, height * width])
        .mean_dim(2)
        .squeeze_dim(2)
}

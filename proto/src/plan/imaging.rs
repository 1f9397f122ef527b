//! What enters an image network, and the networks by name.

use serde::{Deserialize, Serialize};

use super::{PlanError, unsound};

/// Size of the network's input and the road from a file to it: decode, grey or RGB, denoise,
/// resize, normalise; in training also augment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImageInput {
    /// Columns of pixels: 8 to 4096.
    pub width: usize,
    /// Rows of pixels: 8 to 4096.
    pub height: usize,
    /// 1 for grey, 3 for RGB.
    #[serde(default = "grey")]
    pub channels: usize,
    /// Subtracted from pixels that were scaled to 0..1. Fixed here, never taken from data.
    #[serde(default = "half")]
    pub mean: f32,
    /// Divided by after that; above 0. Fixed here, never taken from data.
    #[serde(default = "quarter")]
    pub deviation: f32,
    /// Filters against noise, applied in this order before resizing.
    #[serde(default)]
    pub denoise: Vec<Denoise>,
    /// Random changes of training images, applied in this order, seeded by the plan.
    #[serde(default)]
    pub augment: Vec<Augmentation>,
}

/// A filter against noise.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "step", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Denoise {
    /// Median of the square neighbourhood.
    Median {
        /// Pixels from the centre to the edge of the square: 1 to 5.
        radius: usize,
    },
    /// Weighted mean of near pixels of like grey (Tomasi and Manduchi 1998).
    Bilateral {
        /// Pixels from the centre to the edge of the square: 1 to 8.
        radius: usize,
        /// Deviation over distance, in pixels; above 0.
        spatial_deviation: f32,
        /// Deviation over grey values of 0..1; above 0.
        range_deviation: f32,
    },
}

/// A random change of a training image.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "step", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Augmentation {
    /// Mirror with probability 1/2. Only where left and right do not matter to the task.
    Flip {
        /// Which sides change places.
        axis: Flip,
    },
    /// Rotate about the centre.
    Rotate {
        /// Largest angle to either side, in degrees: above 0, at most 180.
        max_degrees: f32,
    },
    /// Move by a whole number of pixels; the edge repeats.
    Shift {
        /// Largest distance in each direction: 1 to 64.
        max_pixels: usize,
    },
    /// Stretch the grey values about their middle.
    Contrast {
        /// Largest factor, and its inverse the smallest: above 1, at most 4.
        max_factor: f32,
    },
    /// Add Gaussian noise.
    Noise {
        /// Deviation in grey values of 0..1: above 0, at most 0.5.
        deviation: f32,
    },
}

/// Axis of a mirror image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Flip {
    /// Left and right change places.
    Horizontal,
    /// Top and bottom change places.
    Vertical,
}

/// A network by name, with its sizes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "name", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Network {
    /// 28×28 grey: convolution 3×3×5, ReLU, 2×2 pool, dense 10, classes.
    CnnSmall,
    /// Convolution 32, pool, convolution 64, pool, dense 128, classes; 3×3 without padding.
    Cnn,
    /// Wavelet scattering, which is fixed, and two small convolutions and a dense layer on top: strong
    /// where the noise is (Tramèr and Boneh 2021).
    ScatterCnn,
    /// Residual blocks with group norm and weight-standardised convolutions.
    ResnetGn {
        /// Channels of the first stage, doubled at each further one: 4 to 256, a multiple of 4.
        #[serde(default = "eight_channels")]
        width: usize,
        /// Stages, each of one block and half the resolution of the last: 1 to 5.
        #[serde(default = "three")]
        depth: usize,
    },
    /// Dense layers with ReLU between them, for tables.
    Dense {
        /// Width of each hidden layer: up to 8 layers of 1 to 4096.
        hidden: Vec<usize>,
    },
}

fn grey() -> usize {
    1
}

fn half() -> f32 {
    0.5
}

fn quarter() -> f32 {
    0.25
}

fn eight_channels() -> usize {
    8
}

fn three() -> usize {
    3
}

impl ImageInput {
    pub(super) fn check(&self) -> Result<(), PlanError> {
        let size = 8..=4096;
        if !size.contains(&self.width) || !size.contains(&self.height) {
            let found = format!("{} x {}", self.width, self.height);
            return unsound(
                "image.width",
                format!("both sides must be 8 to 4096, found {found}"),
            );
        }
        if ![1, 3].contains(&self.channels) {
            let reason = format!("must be 1 (grey) or 3 (RGB), found {}", self.channels);
            return unsound("image.channels", reason);
        }
        if !self.mean.is_finite() {
            return unsound("image.mean", "must be finite");
        }
        if !is_above_zero(self.deviation) {
            return unsound("image.deviation", "must be finite and above 0");
        }
        self.denoise.iter().try_for_each(Denoise::check)?;
        self.augment.iter().try_for_each(Augmentation::check)
    }
}

impl Denoise {
    fn check(&self) -> Result<(), PlanError> {
        let sound = match *self {
            Self::Median { radius } => (1..=5).contains(&radius),
            Self::Bilateral {
                radius,
                spatial_deviation,
                range_deviation,
            } => {
                (1..=8).contains(&radius)
                    && is_above_zero(spatial_deviation)
                    && is_above_zero(range_deviation)
            }
        };
        if sound {
            return Ok(());
        }
        unsound(
            "image.denoise",
            format!("{self:?} is out of range: radius 1 to 5 (median) or 8"),
        )
    }
}

impl Augmentation {
    fn check(&self) -> Result<(), PlanError> {
        let (sound, allowed) = match *self {
            Self::Flip { .. } => (true, ""),
            Self::Rotate { max_degrees: angle } => (
                is_above_zero(angle) && angle <= 180.0,
                "max_degrees above 0, at most 180",
            ),
            Self::Shift { max_pixels } => ((1..=64).contains(&max_pixels), "max_pixels 1 to 64"),
            Self::Contrast { max_factor: factor } => (
                factor > 1.0 && factor <= 4.0,
                "max_factor above 1, at most 4",
            ),
            Self::Noise { deviation } => (
                is_above_zero(deviation) && deviation <= 0.5,
                "deviation above 0, at most 0.5",
            ),
        };
        if sound {
            return Ok(());
        }
        unsound(
            "image.augment",
            format!("{self:?} is out of range: {allowed}"),
        )
    }
}

impl Network {
    pub(super) fn check(&self, image: Option<&ImageInput>) -> Result<(), PlanError> {
        let is_dense = matches!(self, Self::Dense { .. });
        if is_dense == image.is_some() {
            return unsound(
                "network.name",
                "`dense` is for tables, every other one for images",
            );
        }
        match (self, image) {
            (Self::CnnSmall, Some(image)) => {
                if (image.width, image.height, image.channels) == (28, 28, 1) {
                    return Ok(());
                }
                unsound(
                    "network.name",
                    "`cnn-small` takes 28 x 28 grey images: set [image] so",
                )
            }
            (Self::Cnn, Some(image)) if image.width.min(image.height) < 10 => unsound(
                "network.name",
                "`cnn` needs images of 10 x 10 pixels or more",
            ),
            (Self::ResnetGn { width, depth }, Some(_)) => {
                if !(4..=256).contains(width) || !width.is_multiple_of(4) {
                    return unsound("network.width", "must be a multiple of 4 from 4 to 256");
                }
                if !(1..=5).contains(depth) {
                    return unsound("network.depth", "must be 1 to 5");
                }
                Ok(())
            }
            (Self::Dense { hidden }, _) => {
                if hidden.len() <= 8 && hidden.iter().all(|width| (1..=4096).contains(width)) {
                    return Ok(());
                }
                unsound("network.hidden", "must list up to 8 widths of 1 to 4096")
            }
            _ => Ok(()),
        }
    }
}

fn is_above_zero(value: f32) -> bool {
    value.is_finite() && value > 0.0
}

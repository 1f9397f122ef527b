//! What enters an image network.

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

fn grey() -> usize {
    1
}

fn half() -> f32 {
    0.5
}

fn quarter() -> f32 {
    0.25
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

fn is_above_zero(value: f32) -> bool {
    value.is_finite() && value > 0.0
}

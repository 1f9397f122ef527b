//! Filters against noise, as the plan lists them.

mod bilateral;
mod median;

use consilium_proto::plan::Denoise;

use super::picture::Picture;

/// Applies one filter to each channel.
pub(super) fn apply(picture: Picture, step: &Denoise) -> Picture {
    let pixels = match *step {
        Denoise::Median { radius } => picture.map_planes(|plane| median::filter(plane, radius)),
        Denoise::Bilateral {
            radius,
            spatial_deviation,
            range_deviation,
        } => {
            let kernel = bilateral::Kernel::new(radius, spatial_deviation, range_deviation);
            picture.map_planes(|plane| kernel.filter(plane))
        }
    };
    Picture { pixels, ..picture }
}

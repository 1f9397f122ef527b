//! Random changes of training inputs, as the plan lists them.

mod contrast;
mod flip;
mod noise;
mod rotate;
mod shift;

use consilium_proto::plan::Augmentation;

use super::picture::Picture;
use crate::random::Random;

/// Applies one change to a normalised input. `deviation` is the plan's constant of normalisation,
/// which brings grey values to the input's scale.
pub(super) fn apply(
    picture: Picture,
    step: &Augmentation,
    deviation: f32,
    random: &mut Random,
) -> Picture {
    let pixels = match *step {
        Augmentation::Flip { axis } => match random.coin() {
            true => picture.map_planes(|plane| flip::mirror(plane, axis)),
            false => return picture,
        },
        Augmentation::Rotate { max_degrees } => {
            let degrees = random.symmetric(max_degrees);
            picture.map_planes(|plane| rotate::turn(plane, degrees))
        }
        Augmentation::Shift { max_pixels } => {
            let (down, right) = (random.whole(max_pixels), random.whole(max_pixels));
            picture.map_planes(|plane| shift::shift(plane, down, right))
        }
        Augmentation::Contrast { max_factor } => {
            let factor = max_factor.powf(random.symmetric(1.0));
            contrast::stretch(picture.pixels, factor)
        }
        Augmentation::Noise { deviation: grey } => {
            noise::add(picture.pixels, grey / deviation, random)
        }
    };
    Picture { pixels, ..picture }
}

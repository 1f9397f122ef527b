//! From the bytes of an image file to the numbers that enter a network.
//!
//! Every step and its constants stand in the plan, so that all hospitals take the same road and
//! nothing is measured on their data: decode, grey or RGB, denoise, resize, normalise; in training
//! also augment.

mod augment;
mod colour;
mod decode;
mod denoise;
mod normalise;
mod picture;
mod resize;

use consilium_proto::plan::ImageInput;

pub use self::{
    decode::{DecodeError, PIXEL_LIMIT, decode},
    picture::{Picture, PictureError},
};
use crate::random::Random;

/// The road from a picture to a network's input, as a plan lists it.
#[derive(Debug, Clone)]
pub struct Preprocess {
    input: ImageInput,
}

impl Preprocess {
    /// Follows the steps of a plan.
    pub fn from_plan(input: &ImageInput) -> Self {
        Self {
            input: input.clone(),
        }
    }

    /// Numbers that make one input: channels × height × width.
    pub fn len(&self) -> usize {
        self.input.channels * self.input.height * self.input.width
    }

    /// Channels, height and width of an input.
    pub(crate) fn size(&self) -> [usize; 3] {
        [self.input.channels, self.input.height, self.input.width]
    }

    /// Whether inputs have no number; never so for a checked plan.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Grey or RGB, denoise, resize, normalise: `[channels][height][width]`.
    pub fn prepare(&self, picture: &Picture) -> Vec<f32> {
        let picture = colour::convert(picture, self.input.channels);
        let picture = self.input.denoise.iter().fold(picture, denoise::apply);
        let mut picture = resize::resize(picture, self.input.width, self.input.height);
        normalise::apply(&mut picture.pixels, self.input.mean, self.input.deviation);
        picture.pixels
    }

    /// Changes a prepared input at random, as the plan's list of augmentations says.
    ///
    /// `seed` names the study, the round and the step. The stream is drawn from it **and the input
    /// itself**, never from the input's place in a batch: otherwise one patient more would change
    /// the gradients of all that follow, and clipping would bound nothing.
    pub fn augment(&self, input: &mut Vec<f32>, seed: &[u64]) {
        if self.input.augment.is_empty() || input.len() != self.len() {
            return;
        }
        let content = input.iter().map(|value| u64::from(value.to_bits()));
        let words: Vec<u64> = seed.iter().copied().chain(content).collect();
        let mut random = Random::new(&words);
        let ImageInput {
            channels,
            height,
            width,
            deviation,
            ..
        } = self.input;
        let picture = Picture {
            width,
            height,
            channels,
            pixels: std::mem::take(input),
        };
        let change = |picture, step| augment::apply(picture, step, deviation, &mut random);
        *input = self.input.augment.iter().fold(picture, change).pixels;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn input(text: &str) -> Preprocess {
        let text = format!("{{\"width\": 8, \"height\": 8, {text}}}");
        Preprocess::from_plan(&serde_json::from_str(&text).expect("an input"))
    }

    fn gradient(width: usize, height: usize) -> Picture {
        let pixels = (0..width * height)
            .map(|at| at as f32 / (width * height) as f32)
            .collect();
        Picture::new(width, height, 1, pixels).expect("a picture")
    }

    const AUGMENT: &str = r#""augment": [
        {"step": "flip", "axis": "horizontal"}, {"step": "rotate", "max_degrees": 10.0},
        {"step": "shift", "max_pixels": 2}, {"step": "contrast", "max_factor": 1.5},
        {"step": "noise", "deviation": 0.05}]"#;

    #[test]
    fn a_picture_takes_the_whole_road() {
        let text = r#""channels": 3, "mean": 0.5, "deviation": 0.25,
            "denoise": [{"step": "median", "radius": 1}]"#;
        let prepared = input(text).prepare(&gradient(20, 30));
        assert_eq!(prepared.len(), 3 * 64);
        assert_eq!(prepared[..64], prepared[64..128]);
        assert!(
            prepared[0] < -1.5 && prepared[63] > 1.5,
            "{} {}",
            prepared[0],
            prepared[63]
        );
    }

    #[test]
    fn augmentation_is_fixed_by_seed_and_input() {
        let road = input(AUGMENT);
        let augmented = |seed: u64, picture: &Picture| {
            let mut values = road.prepare(picture);
            road.augment(&mut values, &[seed, 1, 1]);
            values
        };
        let (one, other) = (gradient(8, 8), gradient(9, 8));
        assert_eq!(augmented(1, &one), augmented(1, &one));
        assert_ne!(augmented(1, &one), augmented(2, &one));
        assert_ne!(augmented(1, &one), augmented(1, &other));
        assert_eq!(augmented(1, &one).len(), 64);
    }

    #[test]
    fn without_augmentation_the_input_stays() {
        let road = input("\"channels\": 1");
        let prepared = road.prepare(&gradient(8, 8));
        let mut same = prepared.clone();
        road.augment(&mut same, &[1]);
        assert_eq!(prepared, same);
    }
}

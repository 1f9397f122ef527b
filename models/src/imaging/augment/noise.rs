//! Gaussian noise against overfitting. It protects nobody: noise for privacy is `consilium-privacy`'s.

use crate::random::Random;

/// Adds a normal number of this deviation to every value.
pub(super) fn add(mut values: Vec<f32>, deviation: f32, random: &mut Random) -> Vec<f32> {
    values
        .iter_mut()
        .for_each(|value| *value += deviation * random.normal());
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_noise_has_its_deviation() {
        let noise = add(vec![1.0; 10_000], 0.2, &mut Random::new(&[4]));
        let variance = noise.iter().map(|value| (value - 1.0).powi(2)).sum::<f32>() / 1e4;
        // Five standard errors of a variance of 10 000 draws: 7 %.
        assert!((variance / 0.04 - 1.0).abs() < 0.07, "{variance}");
    }
}

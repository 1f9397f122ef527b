//! The plan's constants: subtract the mean, divide by the deviation.

/// Brings pixels of 0 to 1 to the network's scale.
pub(super) fn apply(pixels: &mut [f32], mean: f32, deviation: f32) {
    pixels
        .iter_mut()
        .for_each(|pixel| *pixel = (*pixel - mean) / deviation);
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_mean_becomes_zero_and_a_deviation_one() {
        let mut pixels = [0.5, 0.75];
        super::apply(&mut pixels, 0.5, 0.25);
        assert_eq!(pixels, [0.0, 1.0]);
    }
}

//! Stretches grey values about the mean of the input.

/// Multiplies the distance of every value to their mean.
pub(super) fn stretch(mut values: Vec<f32>, factor: f32) -> Vec<f32> {
    let mean = values.iter().sum::<f32>() / values.len() as f32;
    values
        .iter_mut()
        .for_each(|value| *value = mean + (*value - mean) * factor);
    values
}

#[cfg(test)]
mod tests {
    #[test]
    fn distances_to_the_mean_grow_by_the_factor() {
        assert_eq!(super::stretch(vec![0.0, 1.0, 2.0], 1.5), [-0.5, 1.0, 2.5]);
    }
}

//! What is minimised, one number for each example.

use consilium_proto::plan::Loss;

use super::Target;

/// The loss of each example, cross-entropy in nats or the squared error, and its gradient at the
/// outputs.
///
/// # Shapes
/// - `outputs` and gradient: `[examples][width]`
pub(super) fn each(
    loss: Loss,
    outputs: &[f32],
    width: usize,
    targets: &[Target],
) -> (Vec<f32>, Vec<f32>) {
    let mut gradient = outputs.to_vec();
    let losses = gradient
        .chunks_exact_mut(width)
        .zip(targets)
        .map(|(row, target)| {
            match (loss, *target) {
                (Loss::CrossEntropy, Target::Class(class)) => {
                    let logit = row[class];
                    let logarithm = softmax(row);
                    row[class] -= 1.0;
                    logarithm - logit
                }
                // Batches hold no target of the other kind.
                (_, Target::Value(value)) => {
                    let error = row[0] - value;
                    row[0] = 2.0 * error;
                    error * error
                }
                (Loss::MeanSquaredError, Target::Class(_)) => {
                    row.fill(0.0);
                    0.0
                }
            }
        });
    let losses = losses.collect();
    (losses, gradient)
}

/// Turns logits into probabilities and gives the logarithm of the sum of their exponentials.
pub(super) fn softmax(row: &mut [f32]) -> f32 {
    let largest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    row.iter_mut()
        .for_each(|value| *value = (*value - largest).exp());
    let sum: f32 = row.iter().sum();
    row.iter_mut().for_each(|value| *value /= sum);
    largest + sum.ln()
}

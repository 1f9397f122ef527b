//! What is minimised, one number for each example.

use burn::tensor::{Tensor, TensorData, activation::log_softmax};
use consilium_proto::plan::Loss;

use super::Target;

/// The loss of each example: cross-entropy in nats, or the squared error.
///
/// # Shapes
/// - `outputs`: `[examples, outputs]`
/// - output: `[examples]`
pub(super) fn each(loss: Loss, outputs: Tensor<2>, targets: &[Target]) -> Tensor<1> {
    let [examples, width] = outputs.dims();
    let mut wanted = vec![0.0; examples * width];
    for (row, target) in wanted.chunks_exact_mut(width).zip(targets) {
        match *target {
            Target::Class(class) => row[class] = 1.0,
            Target::Value(value) => row[0] = value,
        }
    }
    let wanted = TensorData::new(wanted, [examples, width]);
    let wanted = Tensor::<2>::from_data(wanted, &outputs.device());
    let losses = match loss {
        Loss::CrossEntropy => -(log_softmax(outputs, 1) * wanted),
        Loss::MeanSquaredError => (outputs - wanted).square(),
    };
    losses.sum_dim(1).reshape([examples])
}

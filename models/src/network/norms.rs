//! Group norm and layer norm on a device.

use burn::tensor::Tensor;

use super::{
    blueprint::Slot,
    device::OnDevice,
    tape::{Tape, Value},
    taps::Gradient,
};

/// What scales and shifts normalised numbers.
pub(super) struct Affine {
    pub(super) scale: Slot,
    pub(super) shift: Slot,
    /// `[examples, channels, numbers]` or `[examples, positions, features]`.
    pub(super) over: [usize; 3],
    /// Which of these there are weights for: 1, the channels, or 2, the features.
    pub(super) along: usize,
}

/// Brings each row to mean 0 and variance 1.
///
/// # Shapes
/// - `input` and output: `[examples, groups, numbers]`
pub(super) fn normalised(input: Tensor<3>, epsilon: f32) -> Tensor<3> {
    let centred = input.clone() - input.mean_dim(2);
    let variance = centred.clone().square().mean_dim(2);
    centred / (variance + epsilon).sqrt()
}

impl Affine {
    /// Scales and shifts normalised numbers.
    pub(super) fn forward_on(self, on: &OnDevice, normal: Tensor<3>, tape: &mut Tape) -> Value {
        let normal = normal.reshape(self.over);
        let kept = normal.clone().inner();
        let mut shape = [1; 3];
        shape[self.along] = self.over[self.along];
        let (scale, shift) = (on.weight(self.scale, shape), on.weight(self.shift, shape));
        let output = normal * scale + shift;
        tape.tap(output.flatten(1, 2), move |gradient| {
            let gradient = gradient.reshape(self.over);
            let across = 3 - self.along;
            let sums = |terms: Tensor<3>| Gradient::Rows(terms.sum_dim(across).squeeze_dim(across));
            vec![
                (self.scale, sums(gradient.clone() * kept)),
                (self.shift, sums(gradient)),
            ]
        })
    }
}

//! The embedding on a device.

use burn::tensor::{Int, Tensor, TensorData};

use super::super::{
    device::OnDevice,
    tape::{Tape, Value},
    taps::Gradient,
};
use super::Embedding;

impl Embedding {
    pub(super) fn forward_on(&self, on: &OnDevice, tokens: Vec<usize>, tape: &mut Tape) -> Value {
        let Self {
            tokens: rows,
            features,
            slots,
            is_padded,
            table,
        } = *self;
        let positions = tokens.len() / slots;
        let indices: Vec<i32> = tokens.iter().map(|&token| token as i32).collect();
        let indices = TensorData::new(indices, [tokens.len()]);
        let indices = Tensor::<1, Int>::from_data(indices, on.device());
        let mut output = on.weight(table, [rows, features]).select(0, indices);
        if is_padded {
            let counts = tokens.iter().map(|&token| f32::from(token > 0)).collect();
            let counts = TensorData::new::<f32, _>(counts, [tokens.len(), 1]);
            output = output * Tensor::<2>::from_data(counts, on.device());
        }
        let output = output.reshape([positions, slots, features]).sum_dim(1);
        let numbers = positions / tape.examples * features;
        let output = output.reshape([tape.examples, numbers]);
        let layer = *self;
        tape.tap(output, move |rows| {
            let gradient = Gradient::Tokens {
                layer,
                tokens,
                rows,
            };
            vec![(table, gradient)]
        })
    }
}

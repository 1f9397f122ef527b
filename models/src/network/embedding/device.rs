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
            table,
        } = *self;
        let indices: Vec<i32> = tokens.iter().map(|&token| token as i32).collect();
        let indices = TensorData::new(indices, [tokens.len()]);
        let indices = Tensor::<1, Int>::from_data(indices, on.device());
        let output = on.weight(table, [rows, features]).select(0, indices);
        let numbers = tokens.len() / tape.examples * features;
        let output = output.reshape([tape.examples, numbers]);
        tape.tap(output, move |rows| {
            let gradient = Gradient::Tokens {
                tokens,
                rows,
                features,
            };
            vec![(table, gradient)]
        })
    }
}

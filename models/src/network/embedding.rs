//! An embedding: for each position the sum of a table's rows, one for each token that stands there.

mod device;

use std::collections::BTreeMap;

use super::{
    blueprint::{Blueprint, Initial, Slot},
    kernels::add,
    onnx::Edge,
    tape::{Pass, Step, Tape, Value},
    weights::Weights,
};
use crate::profile::Kind;

/// A table of `tokens` rows. Of an example's gradient only rows of its own tokens are not zero.
#[derive(Debug, Clone, Copy)]
pub(super) struct Embedding {
    tokens: usize,
    features: usize,
    /// Tokens that stand at one position.
    slots: usize,
    /// Whether token 0 stands for nothing: its row counts as zeros.
    is_padded: bool,
    table: Slot,
}

impl Embedding {
    pub(super) fn new(
        on: &mut Blueprint,
        name: &str,
        shape: [usize; 2],
        slots: usize,
        is_padded: bool,
    ) -> Self {
        // The sum has variance 1, as a layer norm follows.
        let initial = Initial::Uniform((3.0 / slots as f32).sqrt());
        Self::starting(on, name, shape, slots, is_padded, initial)
    }

    /// Whose rows are scores: they start at zero.
    pub(super) fn of_scores(
        on: &mut Blueprint,
        name: &str,
        shape: [usize; 2],
        slots: usize,
    ) -> Self {
        Self::starting(on, name, shape, slots, true, Initial::Zeros)
    }

    fn starting(
        on: &mut Blueprint,
        name: &str,
        shape @ [tokens, features]: [usize; 2],
        slots: usize,
        is_padded: bool,
        initial: Initial,
    ) -> Self {
        let table = on.tensor(format!("{name}.weight"), &shape, initial);
        Self {
            tokens,
            features,
            slots,
            is_padded,
            table,
        }
    }

    /// Tokens beyond the table count as its last row, and what is no number as its first.
    ///
    /// # Shapes
    /// - `input`: `[examples][positions][slots]`, whole numbers
    /// - output: `[examples][positions][features]`
    pub(super) fn forward(&self, input: Value, tape: &mut Tape) -> Value {
        let input = match input {
            Value::Edge(input) => return Value::Edge(self.draw(&input, tape.weights)),
            input => input.entered(),
        };
        let token = |&number: &f32| (number as usize).min(self.tokens - 1);
        let tokens: Vec<usize> = input.rows().iter().map(token).collect();
        if let Some(on) = tape.weights.on_device() {
            return self.forward_on(on, tokens, tape);
        }
        let table = tape.weights.at(self.table);
        let mut output = vec![0.0; tokens.len() / self.slots * self.features];
        let positions = output.chunks_exact_mut(self.features);
        for (position, tokens) in positions.zip(tokens.chunks_exact(self.slots)) {
            for &token in tokens.iter().filter(|&&token| self.counts(token)) {
                add(position, &table[token * self.features..][..self.features]);
            }
        }
        let layer = *self;
        tape.layer(output, &[&input], |_| EmbeddingStep { layer, tokens })
    }

    /// A row that counts as zeros is written as zeros.
    fn draw(&self, input: &Edge, weights: &Weights) -> Edge {
        let mut table = weights.at(self.table).to_vec();
        if self.is_padded {
            table[..self.features].fill(0.0);
        }
        let rows = input.rows_of(&table, [self.tokens, self.features]);
        let positions = input.numbers() / self.slots;
        rows.sums([positions, self.slots, self.features])
    }

    fn counts(&self, token: usize) -> bool {
        token > 0 || !self.is_padded
    }
}

struct EmbeddingStep {
    layer: Embedding,
    tokens: Vec<usize>,
}

impl Step for EmbeddingStep {
    fn kind() -> Kind {
        Kind::Embedding
    }

    fn back(self: Box<Self>, output: Vec<f32>, pass: &mut Pass) -> Vec<Option<Vec<f32>>> {
        let rows = self.layer.by_token(&self.tokens, &output, pass.examples);
        pass.sink.take_some(pass.weights, self.layer.table, rows);
        vec![None]
    }
}

impl Embedding {
    /// The gradients of the rows of the table for each example, from those at its positions.
    pub(super) fn by_token(
        &self,
        tokens: &[usize],
        gradients: &[f32],
        examples: usize,
    ) -> Vec<Vec<(usize, Vec<f32>)>> {
        let Self {
            features, slots, ..
        } = *self;
        let numbers = tokens.len() / examples;
        let examples = tokens
            .chunks_exact(numbers)
            .zip(gradients.chunks_exact(numbers / slots * features));
        let rows = examples.map(|(tokens, gradients)| {
            let mut rows = BTreeMap::<usize, Vec<f32>>::new();
            let positions = tokens.chunks_exact(slots);
            for (tokens, gradient) in positions.zip(gradients.chunks_exact(features)) {
                for &token in tokens.iter().filter(|&&token| self.counts(token)) {
                    let row = rows.entry(token).or_insert_with(|| vec![0.0; features]);
                    add(row, gradient);
                }
            }
            rows.into_iter().collect()
        });
        rows.collect()
    }
}

//! An embedding: a row of a table for each token.

mod device;

use std::collections::BTreeMap;

use super::{
    blueprint::{Blueprint, Initial, Slot},
    kernels::add,
    tape::{Pass, Step, Tape, Value},
};
use crate::profile::Kind;

/// A table of `tokens` rows. Of an example's gradient only rows of its own tokens are not zero.
#[derive(Debug, Clone, Copy)]
pub(super) struct Embedding {
    tokens: usize,
    features: usize,
    table: Slot,
}

impl Embedding {
    pub(super) fn new(on: &mut Blueprint, name: &str, tokens: usize, features: usize) -> Self {
        let shape = [tokens, features];
        // Variance 1, as a layer norm follows.
        let table = on.tensor(
            format!("{name}.weight"),
            &shape,
            Initial::Uniform(3_f32.sqrt()),
        );
        Self {
            tokens,
            features,
            table,
        }
    }

    /// Tokens beyond the table count as its last row, and what is no number as its first.
    ///
    /// # Shapes
    /// - `input`: `[examples][positions]`, whole numbers
    /// - output: `[examples][positions][features]`
    pub(super) fn forward(&self, input: Value, tape: &mut Tape) -> Value {
        let input = input.entered();
        let token = |&number: &f32| (number as usize).min(self.tokens - 1);
        let tokens: Vec<usize> = input.rows().iter().map(token).collect();
        if let Some(on) = tape.weights.on_device() {
            return self.forward_on(on, tokens, tape);
        }
        let table = tape.weights.at(self.table);
        let mut output = Vec::with_capacity(tokens.len() * self.features);
        for token in &tokens {
            output.extend_from_slice(&table[token * self.features..][..self.features]);
        }
        let layer = *self;
        tape.layer(output, &[&input], |_| EmbeddingStep { layer, tokens })
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
        let Embedding {
            features, table, ..
        } = self.layer;
        let rows = by_token(&self.tokens, &output, pass.examples, features);
        pass.sink.take_some(pass.weights, table, rows);
        vec![None]
    }
}

/// The gradients of the rows of a table for each example, from those at its positions.
pub(super) fn by_token(
    tokens: &[usize],
    gradients: &[f32],
    examples: usize,
    features: usize,
) -> Vec<Vec<(usize, Vec<f32>)>> {
    let positions = tokens.len() / examples;
    let examples = tokens
        .chunks_exact(positions)
        .zip(gradients.chunks_exact(positions * features));
    let rows = examples.map(|(tokens, gradients)| {
        let mut rows = BTreeMap::<usize, Vec<f32>>::new();
        for (&token, gradient) in tokens.iter().zip(gradients.chunks_exact(features)) {
            let row = rows.entry(token).or_insert_with(|| vec![0.0; features]);
            add(row, gradient);
        }
        rows.into_iter().collect()
    });
    rows.collect()
}

//! `dense`: dense layers with ReLU between them, for tables.

use super::{
    Architecture,
    activation::relu,
    blueprint::Blueprint,
    dense::Dense,
    tape::{Tape, Value},
};

/// Hidden layers, each with a ReLU, then the outputs.
pub(super) struct Perceptron {
    hidden: Vec<Dense>,
    last: Dense,
}

impl Perceptron {
    pub(super) fn new(on: &mut Blueprint, inputs: usize, hidden: &[usize], outputs: usize) -> Self {
        let mut width = inputs;
        let mut layer = |(at, &next): (usize, &usize)| {
            let dense = Dense::hidden(on, &format!("fc{}", at + 1), width, next);
            width = next;
            dense
        };
        let layers = hidden.iter().enumerate().map(&mut layer).collect();
        let name = format!("fc{}", hidden.len() + 1);
        let last = match hidden {
            [] => Dense::only(on, &name, width, outputs),
            _ => Dense::last(on, &name, width, outputs),
        };
        Self {
            hidden: layers,
            last,
        }
    }
}

impl Architecture for Perceptron {
    fn forward(&self, input: Value, tape: &mut Tape) -> Value {
        let mut x = input;
        for dense in &self.hidden {
            x = relu(dense.forward(x, tape), tape);
        }
        self.last.forward(x, tape)
    }
}

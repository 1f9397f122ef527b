//! `chain`: a conditional random field without hidden layers (Lafferty, McCallum and Pereira 2001).
//!
//! Each of a word's features has a score for each tag; their sum is the word's. The loss has one lowest
//! value, so weights start at zero and no seed matters.

use super::{
    Architecture,
    blueprint::Blueprint,
    embedding::Embedding,
    tagging::{Steps, Tagging},
    tape::{Tape, Value},
};

pub(super) struct Chain {
    scores: Embedding,
    steps: Steps,
}

impl Chain {
    pub(super) fn new(on: &mut Blueprint, tokens: usize, tagging: Tagging) -> Self {
        let shape = [tokens, tagging.tags];
        on.holds(2 * tagging.scores());
        Self {
            scores: Embedding::of_scores(on, "scores", shape, tagging.slots),
            steps: Steps::new(on, "steps", tagging),
        }
    }
}

impl Architecture for Chain {
    fn forward(&self, input: Value, tape: &mut Tape) -> Value {
        let x = self.scores.forward(input, tape);
        self.steps.forward(x, tape)
    }
}

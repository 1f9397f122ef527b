//! What stands on top of a text encoder: classes of texts, classes of pairs, tags of words.

use super::{
    Architecture,
    blueprint::Blueprint,
    dense::Dense,
    lengths::Lengths,
    positions::{Marked, average, first_of},
    tagging::{Steps, Tagging},
    tape::{Tape, Value},
};

/// A text encoder: from the numbers of a window to features of its positions.
pub(super) trait Encoder: Send + Sync {
    /// Positions of a window, and features of each.
    fn shape(&self) -> [usize; 2];

    /// # Shapes
    /// - `input`: `[examples][positions][slots]`, tokens
    /// - output: `[examples][positions][features]`, and the positions of each example that count
    fn forward(&self, input: Value, tape: &mut Tape) -> (Value, Lengths);
}

/// The mean over positions, dense outputs.
pub(super) struct Classifier<E> {
    encoder: E,
    head: Dense,
}

/// What stands at the first of each of two markers beside the mean: classes of pairs.
pub(super) struct PairClassifier<E> {
    encoder: E,
    slots: usize,
    markers: [usize; 2],
    head: Dense,
}

/// A score for each tag at each position, and a chain.
pub(super) struct Tagger<E> {
    encoder: E,
    head: Dense,
    steps: Steps,
}

impl<E: Encoder> Classifier<E> {
    pub(super) fn new(on: &mut Blueprint, encoder: E, classes: usize) -> Self {
        let [_, features] = encoder.shape();
        let head = Dense::last(on, "head", features, classes);
        Self { encoder, head }
    }
}

impl<E: Encoder> Architecture for Classifier<E> {
    fn forward(&self, input: Value, tape: &mut Tape) -> Value {
        let (x, lengths) = self.encoder.forward(input, tape);
        let x = average(x, self.encoder.shape(), &lengths, tape);
        self.head.forward(x, tape)
    }
}

impl<E: Encoder> PairClassifier<E> {
    /// `slots` is how many numbers a position is known by; a marker is the first of them.
    pub(super) fn new(
        on: &mut Blueprint,
        encoder: E,
        slots: usize,
        markers: [usize; 2],
        classes: usize,
    ) -> Self {
        let [_, features] = encoder.shape();
        let head = Dense::last(on, "head", 3 * features, classes);
        Self {
            encoder,
            slots,
            markers,
            head,
        }
    }
}

impl<E: Encoder> Architecture for PairClassifier<E> {
    fn forward(&self, input: Value, tape: &mut Tape) -> Value {
        let shape = self.encoder.shape();
        let marked = Marked::find(&input, [shape[0], self.slots], self.markers);
        let (x, lengths) = self.encoder.forward(input, tape);
        let x = first_of(x, shape, &lengths, &marked, tape);
        self.head.forward(x, tape)
    }
}

impl<E: Encoder> Tagger<E> {
    pub(super) fn new(on: &mut Blueprint, encoder: E, tagging: Tagging) -> Self {
        let [positions, features] = encoder.shape();
        let head = Dense::along(on, "head", positions, features, tagging.tags);
        let steps = Steps::new(on, "steps", tagging);
        Self {
            encoder,
            head,
            steps,
        }
    }
}

impl<E: Encoder> Architecture for Tagger<E> {
    fn forward(&self, input: Value, tape: &mut Tape) -> Value {
        let (x, _) = self.encoder.forward(input, tape);
        let x = self.head.forward(x, tape);
        self.steps.forward(x, tape)
    }
}

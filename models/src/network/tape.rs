//! How one forward pass serves inference, ordinary training and private training.
//!
//! Layers compute on [`Value`]s: one row of numbers for each example. A recording tape keeps, for each
//! thing computed, what is needed to go back. One backward pass then gives the gradients at all
//! outputs, and each layer forms its weight gradients on the way, for every example apart or for
//! all together. A network's author writes the forward pass once. Off, the tape keeps nothing.

use std::rc::Rc;

use super::{
    gradients::{PerExample, Sink},
    weights::Weights,
};

/// One row of numbers for each example.
pub(super) struct Value {
    rows: Rc<Vec<f32>>,
    /// Where the tape has it; none if no gradient is wanted.
    node: Option<usize>,
}

/// The weights, and what a forward pass leaves behind.
pub(super) struct Tape<'a> {
    pub(super) weights: &'a Weights,
    pub(super) examples: usize,
    records: Option<Vec<Record>>,
}

struct Record {
    inputs: Vec<Option<usize>>,
    step: Box<dyn Step>,
}

/// The way back through something computed.
pub(super) trait Step {
    /// The gradient at each input, in order, from that at the output; none where it is not
    /// wanted. Adds the gradients of weights to the pass.
    fn back(self: Box<Self>, output: Vec<f32>, pass: &mut Pass) -> Vec<Option<Vec<f32>>>;
}

/// What steps need on the way back.
pub(super) struct Pass<'a> {
    pub(super) weights: &'a Weights,
    pub(super) examples: usize,
    pub(super) sink: Sink<'a>,
    wanted: Vec<bool>,
}

impl Value {
    /// All rows, one after the other.
    pub(super) fn rows(&self) -> &[f32] {
        &self.rows
    }

    /// The same rows, to be kept for the way back.
    pub(super) fn kept(&self) -> Rc<Vec<f32>> {
        Rc::clone(&self.rows)
    }

    /// The same value for another layer.
    pub(super) fn again(&self) -> Self {
        Self {
            rows: self.kept(),
            node: self.node,
        }
    }

    /// Where the tape has it.
    pub(super) fn node(&self) -> Option<usize> {
        self.node
    }

    /// The rows to write on: copied only if something else keeps them.
    pub(super) fn into_rows(self) -> Vec<f32> {
        Rc::try_unwrap(self.rows).unwrap_or_else(|rows| rows.as_ref().clone())
    }
}

impl<'a> Tape<'a> {
    /// For inference.
    pub(super) fn off(weights: &'a Weights, examples: usize) -> Self {
        Self {
            weights,
            examples,
            records: None,
        }
    }

    /// For training.
    pub(super) fn recording(weights: &'a Weights, examples: usize) -> Self {
        Self {
            records: Some(Vec::new()),
            ..Self::off(weights, examples)
        }
    }

    /// What enters the network; no gradient is wanted there.
    pub(super) fn input(&self, rows: Vec<f32>) -> Value {
        let rows = Rc::new(rows);
        Value { rows, node: None }
    }

    /// Notes what a layer with weights computed from its inputs, and the way back. The step gets the rows
    /// computed, in case it needs them.
    pub(super) fn layer<S: Step + 'static>(
        &mut self,
        rows: Vec<f32>,
        inputs: &[&Value],
        step: impl FnOnce(Rc<Vec<f32>>) -> S,
    ) -> Value {
        let nodes: Vec<_> = inputs.iter().map(|input| input.node).collect();
        self.layer_at(rows, &nodes, step)
    }

    /// As [`layer`](Self::layer), for inputs that are used up: `inputs` are where they were noted.
    pub(super) fn layer_at<S: Step + 'static>(
        &mut self,
        rows: Vec<f32>,
        inputs: &[Option<usize>],
        step: impl FnOnce(Rc<Vec<f32>>) -> S,
    ) -> Value {
        let rows = Rc::new(rows);
        let Some(records) = &mut self.records else {
            return Value { rows, node: None };
        };
        let step = Box::new(step(Rc::clone(&rows)));
        let inputs = inputs.to_vec();
        records.push(Record { inputs, step });
        let node = Some(records.len() - 1);
        Value { rows, node }
    }

    /// As [`layer_at`](Self::layer_at), for what has no weights: not noted where no input wants a gradient.
    pub(super) fn plain<S: Step + 'static>(
        &mut self,
        rows: Vec<f32>,
        inputs: &[Option<usize>],
        step: impl FnOnce(Rc<Vec<f32>>) -> S,
    ) -> Value {
        if inputs.iter().all(Option::is_none) {
            return self.input(rows);
        }
        self.layer_at(rows, inputs, step)
    }

    /// Goes back from the gradient at `output` and keeps each example's gradient apart.
    pub(super) fn apart(self, output: &Value, gradient: Vec<f32>) -> PerExample {
        let sink = Sink::apart(self.weights, self.examples);
        match self.back(output, gradient, sink) {
            Sink::Apart(apart) => apart.sorted(),
            Sink::Summed(_) => unreachable!("the sink given was one that keeps apart"),
        }
    }

    /// Goes back from the gradient at `output` and adds up the gradients of all examples.
    pub(super) fn summed(self, output: &Value, gradient: Vec<f32>, sum: &'a mut [f32]) {
        self.back(output, gradient, Sink::Summed(sum));
    }

    fn back(self, output: &Value, gradient: Vec<f32>, sink: Sink<'a>) -> Sink<'a> {
        let records = self.records.unwrap_or_default();
        let mut pass = Pass {
            weights: self.weights,
            examples: self.examples,
            sink,
            wanted: Vec::new(),
        };
        let mut gradients: Vec<Option<Vec<f32>>> = records.iter().map(|_| None).collect();
        if let Some(node) = output.node {
            gradients[node] = Some(gradient);
        }
        for (node, Record { inputs, step }) in records.into_iter().enumerate().rev() {
            let Some(gradient) = gradients[node].take() else {
                continue;
            };
            pass.wanted = inputs.iter().map(Option::is_some).collect();
            for (input, gradient) in inputs.into_iter().zip(step.back(gradient, &mut pass)) {
                let (Some(input), Some(gradient)) = (input, gradient) else {
                    continue;
                };
                match &mut gradients[input] {
                    Some(sum) => super::kernels::add(sum, &gradient),
                    empty => *empty = Some(gradient),
                }
            }
        }
        pass.sink
    }
}

impl Pass<'_> {
    /// Whether the gradient at the first input is wanted.
    pub(super) fn wants_input(&self) -> bool {
        self.wanted.first() == Some(&true)
    }
}

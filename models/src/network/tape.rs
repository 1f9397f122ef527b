//! How one forward pass serves inference, ordinary training and private training.
//!
//! Layers compute on [`Value`]s: one row of numbers for each example. A recording tape keeps, for each
//! thing computed, what is needed to go back. One backward pass then gives the gradients at all
//! outputs, and each layer forms its weight gradients on the way, for every example apart or for
//! all together. A network's author writes the forward pass once. Off, the tape keeps nothing.
//!
//! The weights say where a pass computes: on the CPU as above, or on a device, where values are burn's
//! tensors and `taps.rs` says how weight gradients come about. Each layer asks the tape which.

use std::rc::Rc;

use burn::tensor::Tensor;

use super::{
    blueprint::Slot,
    device::{DeviceError, OnDevice},
    gradients::{PerExample, Sink},
    taps::{self, Gradient, Taps},
    weights::Weights,
};

/// One row of numbers for each example.
#[derive(Clone)]
#[expect(clippy::large_enum_variant, reason = "there are a few for each layer")]
pub(super) enum Value {
    /// On the host.
    Rows(Rows),
    /// On the device that computes, `[examples, numbers]`.
    Tensor(Tensor<2>),
}

/// Values where their tape computes.
pub(super) enum Placed<'a, const N: usize> {
    /// On the CPU.
    Rows([Rows; N]),
    /// On a device, with its weights.
    Tensors([Tensor<2>; N], &'a OnDevice),
}

/// One row of numbers for each example, on the host.
#[derive(Clone)]
pub(super) struct Rows {
    rows: Rc<Vec<f32>>,
    /// Where the tape has it; none if no gradient is wanted.
    node: Option<usize>,
}

/// The weights, and what a forward pass leaves behind.
pub(super) struct Tape<'a> {
    pub(super) weights: &'a Weights,
    /// On a device with those that fill up the microbatch.
    pub(super) examples: usize,
    /// Those that count.
    given: usize,
    records: Option<Vec<Record>>,
    taps: Taps,
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
    /// The same value for another layer.
    pub(super) fn again(&self) -> Self {
        self.clone()
    }

    /// What entered the network: it lies on the host until a layer takes it.
    ///
    /// # Panics
    /// For what a layer computed on a device: a mistake in a network, which any test shows.
    pub(super) fn entered(self) -> Rows {
        match self {
            Self::Rows(rows) => rows,
            Self::Tensor(_) => unreachable!("only what enters a network is read on the host"),
        }
    }

    /// All rows, one after the other, copied to the host if need be.
    pub(super) fn to_host(&self) -> Result<Vec<f32>, DeviceError> {
        match self {
            Self::Rows(rows) => Ok(rows.rows().to_vec()),
            Self::Tensor(tensor) => {
                let data = tensor.clone().inner().try_into_data();
                taps::to_host(data.map_err(DeviceError::computation)?)
            }
        }
    }
}

impl Rows {
    /// All rows, one after the other.
    pub(super) fn rows(&self) -> &[f32] {
        &self.rows
    }

    /// The same rows, to be kept for the way back.
    pub(super) fn kept(&self) -> Rc<Vec<f32>> {
        Rc::clone(&self.rows)
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
            examples: match weights.on_device() {
                Some(on) => on.filled(examples),
                None => examples,
            },
            given: examples,
            records: None,
            taps: Taps::default(),
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
        Value::Rows(Rows { rows, node: None })
    }

    /// Values where this tape computes.
    pub(super) fn place<const N: usize>(&self, values: [Value; N]) -> Placed<'a, N> {
        let Some(on) = self.weights.on_device() else {
            // Without a device no layer makes a tensor.
            return Placed::Rows(values.map(Value::entered));
        };
        let tensors = values.map(|value| match value {
            Value::Tensor(tensor) => tensor,
            Value::Rows(Rows { rows, .. }) => {
                on.upload(&rows, [self.examples, rows.len() / self.examples])
            }
        });
        Placed::Tensors(tensors, on)
    }

    /// Notes what a layer with weights computed on a device, and how its weight gradients come from the
    /// gradient there.
    pub(super) fn tap(
        &mut self,
        output: Tensor<2>,
        form: impl FnOnce(Tensor<2>) -> Vec<(Slot, Gradient)> + 'static,
    ) -> Value {
        Value::Tensor(match self.records {
            Some(_) => self.taps.add(output, form),
            None => output,
        })
    }

    /// Notes what a layer with weights computed from its inputs, and the way back. The step gets the rows
    /// computed, in case it needs them.
    pub(super) fn layer<S: Step + 'static>(
        &mut self,
        rows: Vec<f32>,
        inputs: &[&Rows],
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
            return Value::Rows(Rows { rows, node: None });
        };
        let step = Box::new(step(Rc::clone(&rows)));
        let inputs = inputs.to_vec();
        records.push(Record { inputs, step });
        let node = Some(records.len() - 1);
        Value::Rows(Rows { rows, node })
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
    pub(super) fn apart(
        self,
        output: Value,
        gradient: Vec<f32>,
    ) -> Result<PerExample, DeviceError> {
        let sink = Sink::apart(self.weights, self.given);
        match self.back(output, gradient, sink)? {
            Sink::Apart(apart) => Ok(apart.sorted()),
            Sink::Summed(_) => unreachable!("the sink given was one that keeps apart"),
        }
    }

    /// Goes back from the gradient at `output` and adds up the gradients of all examples.
    pub(super) fn summed(
        self,
        output: Value,
        gradient: Vec<f32>,
        sum: &'a mut [f32],
    ) -> Result<(), DeviceError> {
        self.back(output, gradient, Sink::Summed(sum)).map(|_| ())
    }

    fn back(
        self,
        output: Value,
        gradient: Vec<f32>,
        mut sink: Sink<'a>,
    ) -> Result<Sink<'a>, DeviceError> {
        let output = match output {
            Value::Rows(output) => output,
            Value::Tensor(output) => {
                let to = (self.weights, &mut sink);
                self.taps.back(output, gradient, self.given, to)?;
                return Ok(sink);
            }
        };
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
        Ok(pass.sink)
    }
}

impl Pass<'_> {
    /// Whether the gradient at the first input is wanted.
    pub(super) fn wants_input(&self) -> bool {
        self.wanted.first() == Some(&true)
    }
}

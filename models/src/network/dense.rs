//! A dense layer: every output from every input, of an example or of each of its positions.

mod device;

use std::rc::Rc;

use super::{
    blueprint::{Blueprint, Initial, Slot},
    kernels::{Lines, Right, add, add_product, transpose},
    onnx::{Attribute, Edge},
    tape::{Pass, Placed, Step, Tape, Value},
    weights::Weights,
};
use crate::profile::Kind;

/// `outputs = inputs · weightᵀ + bias`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Dense {
    /// Rows of inputs in an example: 1, or the length of a sequence.
    positions: usize,
    inputs: usize,
    outputs: usize,
    weight: Slot,
    bias: Slot,
}

impl Dense {
    /// A layer that a ReLU follows.
    pub(super) fn hidden(on: &mut Blueprint, name: &str, inputs: usize, outputs: usize) -> Self {
        Self::new(on, name, 1, [inputs, outputs], Initial::he(inputs))
    }

    /// A network's last layer.
    pub(super) fn last(on: &mut Blueprint, name: &str, inputs: usize, outputs: usize) -> Self {
        Self::new(
            on,
            name,
            1,
            [inputs, outputs],
            Initial::glorot(inputs, outputs),
        )
    }

    /// The only layer of a network: what it learns has one best answer, so its weights start at zero.
    pub(super) fn only(on: &mut Blueprint, name: &str, inputs: usize, outputs: usize) -> Self {
        Self::new(on, name, 1, [inputs, outputs], Initial::Zeros)
    }

    /// A layer that takes each position of a sequence for itself.
    pub(super) fn along(
        on: &mut Blueprint,
        name: &str,
        positions: usize,
        inputs: usize,
        outputs: usize,
    ) -> Self {
        let initial = Initial::glorot(inputs, outputs);
        Self::new(on, name, positions, [inputs, outputs], initial)
    }

    fn new(
        on: &mut Blueprint,
        name: &str,
        positions: usize,
        [inputs, outputs]: [usize; 2],
        initial: Initial,
    ) -> Self {
        on.holds(positions * (inputs + 2 * outputs));
        if positions > 1 {
            on.forms(outputs * inputs);
        }
        let weight = on.tensor(format!("{name}.weight"), &[outputs, inputs], initial);
        let bias = on.tensor(format!("{name}.bias"), &[outputs], Initial::Zeros);
        Self {
            positions,
            inputs,
            outputs,
            weight,
            bias,
        }
    }

    /// # Shapes
    /// - `input`: `[examples][positions][inputs]`
    /// - output: `[examples][positions][outputs]`
    pub(super) fn forward(&self, input: Value, tape: &mut Tape) -> Value {
        let [input] = match tape.place([input]) {
            Placed::Rows(rows) => rows,
            Placed::Tensors([input], on) => return self.forward_on(on, input, tape),
            Placed::Edges([input]) => return Value::Edge(self.draw(&input, tape.weights)),
        };
        let rows = tape.examples * self.positions;
        let weight = tape.weights.at(self.weight);
        let output = if self.positions == 1 {
            self.each(weight, input.rows(), rows)
        } else {
            self.all(weight, input.rows(), rows)
        };
        let mut output = output;
        let bias = tape.weights.at(self.bias);
        output
            .chunks_exact_mut(self.outputs)
            .for_each(|row| add(row, bias));
        let layer = *self;
        tape.layer(output, &[&input], |_| DenseStep {
            layer,
            input: input.kept(),
        })
    }

    /// Rows of a sequence count as examples until they are joined again.
    fn draw(&self, input: &Edge, weights: &Weights) -> Edge {
        let rows = input.shaped(&[self.inputs]);
        let weight = rows.constant(weights.at(self.weight), &[self.outputs, self.inputs]);
        let bias = rows.constant(weights.at(self.bias), &[self.outputs]);
        let turned = Attribute::integer("transB", 1);
        let output = rows.then("Gemm", [weight, bias], [turned], &[self.outputs]);
        match self.positions {
            1 => output,
            positions => output.shaped(&[positions, self.outputs]),
        }
    }

    /// Few rows and a weight that may be large: the weight is read once, as it lies.
    fn each(&self, weight: &[f32], input: &[f32], rows: usize) -> Vec<f32> {
        let mut turned = vec![0.0; rows * self.outputs];
        let (columns, lines) = (starts(rows, self.inputs), starts(self.outputs, self.inputs));
        let left = lines_of(weight, &lines);
        let right = Right::Columns(lines_of(input, &columns));
        let out = starts(self.outputs, rows);
        add_product(left, right, [self.inputs, rows], &mut turned, &out);
        let mut output = vec![0.0; turned.len()];
        transpose(&turned, rows, &mut output);
        output
    }

    /// Many rows.
    fn all(&self, weight: &[f32], input: &[f32], rows: usize) -> Vec<f32> {
        let mut output = vec![0.0; rows * self.outputs];
        let (lines, columns) = (starts(rows, self.inputs), starts(self.outputs, self.inputs));
        let left = lines_of(input, &lines);
        let right = Right::Columns(lines_of(weight, &columns));
        let out = starts(rows, self.outputs);
        add_product(left, right, [self.inputs, self.outputs], &mut output, &out);
        output
    }
}

fn starts(lines: usize, length: usize) -> Vec<usize> {
    (0..lines).map(|line| line * length).collect()
}

fn lines_of<'a>(numbers: &'a [f32], starts: &'a [usize]) -> Lines<'a> {
    Lines { numbers, starts }
}

struct DenseStep {
    layer: Dense,
    input: Rc<Vec<f32>>,
}

impl Step for DenseStep {
    fn kind() -> Kind {
        Kind::Dense
    }

    fn back(self: Box<Self>, output: Vec<f32>, pass: &mut Pass) -> Vec<Option<Vec<f32>>> {
        let Dense {
            positions,
            inputs,
            outputs,
            weight,
            bias,
        } = self.layer;
        let (weights, examples) = (pass.weights, pass.examples);
        let back = pass.wants_input().then(|| {
            let rows = examples * positions;
            let mut back = vec![0.0; rows * inputs];
            let (left, right) = (starts(rows, outputs), starts(outputs, inputs));
            let right = Right::Rows(lines_of(weights.at(weight), &right));
            let left = lines_of(&output, &left);
            add_product(
                left,
                right,
                [outputs, inputs],
                &mut back,
                &starts(rows, inputs),
            );
            back
        });
        pass.sink.take(weights, bias, examples, |examples, bias| {
            let of = examples.start * positions * outputs..examples.end * positions * outputs;
            output[of]
                .chunks_exact(outputs)
                .for_each(|row| add(bias, row));
        });
        if positions == 1 {
            pass.sink
                .take_outer(weights, weight, examples, output, &self.input);
        } else {
            let mut turned = vec![0.0; output.len()];
            pass.sink
                .take(weights, weight, examples, |examples, place| {
                    let rows = examples.len() * positions;
                    let first = examples.start * positions;
                    let output = &output[first * outputs..][..rows * outputs];
                    let turned = &mut turned[..output.len()];
                    transpose(output, outputs, turned);
                    let (left, right) = (starts(outputs, rows), starts(rows, inputs));
                    let left = lines_of(turned, &left);
                    let right = Right::Rows(lines_of(&self.input[first * inputs..], &right));
                    add_product(left, right, [rows, inputs], place, &starts(outputs, inputs));
                });
        }
        vec![back]
    }
}

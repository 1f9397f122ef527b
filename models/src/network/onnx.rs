//! A network as a graph in the ONNX format, for other programs that compute it.
//!
//! The graph is drawn by the forward pass itself: on edges in place of numbers, each layer notes what it would
//! compute. What training standardises anew in each step is written down once, as plain weights.

mod message;

use std::{cell::RefCell, rc::Rc};

use prost::Message as _;

pub(super) use self::message::Attribute;
use self::message::{
    FLOAT, FORMAT, INTEGER, Model, Node, OPERATORS, OperatorSet, Property, Tensor, ValueInfo,
};
use super::{Body, Network, Tape, Weights, loss::Objective, tape::Value};

/// Name of what enters the graph.
const INPUT: &str = "input";

/// Largest file, in bytes: what one message of protobuf may have.
const LIMIT: usize = i32::MAX as usize;

/// Why a network cannot be written in the ONNX format.
#[derive(Debug, thiserror::Error)]
pub enum OnnxError {
    /// It counts, or takes all ways through a chain of tags, for which there are no operators.
    #[error(
        "the network `{0}` of this plan cannot be written as ONNX: it is made of counts, or tags words"
    )]
    Unsupported(&'static str),
    /// More weights than a file may hold.
    #[error("the network is too large for ONNX: {0} bytes, and a file may have {LIMIT}")]
    TooLarge(usize),
}

/// What one step of a graph gives for each example.
#[derive(Clone)]
pub(super) struct Edge {
    name: String,
    /// Of one example.
    shape: Vec<usize>,
    drawing: Rc<RefCell<Drawing>>,
}

/// Constant numbers of a graph, by name.
pub(super) struct Constant(String);

/// What has been drawn so far.
#[derive(Default)]
struct Drawing {
    nodes: Vec<Node>,
    constants: Vec<Tensor>,
}

impl Drawing {
    fn constant(&mut self, shape: &[usize], data_type: i32, raw_data: Vec<u8>) -> Constant {
        let name = format!("constant{}", self.constants.len() + 1);
        self.constants.push(Tensor {
            dims: shape.iter().map(|&length| length as i64).collect(),
            data_type,
            name: name.clone(),
            raw_data,
        });
        Constant(name)
    }

    fn node(&mut self, operator: &str, inputs: Vec<String>, attributes: Vec<Attribute>) -> String {
        let name = format!("{}{}", operator.to_lowercase(), self.nodes.len() + 1);
        self.nodes.push(Node {
            input: inputs,
            output: vec![name.clone()],
            name: name.clone(),
            op_type: operator.to_owned(),
            attribute: attributes,
        });
        name
    }
}

impl Edge {
    /// What enters a new graph.
    fn input(shape: &[usize]) -> Self {
        Self {
            name: INPUT.to_owned(),
            shape: shape.to_vec(),
            drawing: Rc::default(),
        }
    }

    /// Numbers that are the same for all examples.
    pub(super) fn constant(&self, numbers: &[f32], shape: &[usize]) -> Constant {
        let bytes = numbers.iter().flat_map(|number| number.to_le_bytes());
        let mut drawing = self.drawing.borrow_mut();
        drawing.constant(shape, FLOAT, bytes.collect())
    }

    /// A row of numbers that all examples share.
    pub(super) fn constant_row(&self, numbers: &[f32]) -> Self {
        let Constant(name) = self.constant(numbers, &[1, numbers.len()]);
        Self {
            name,
            shape: vec![numbers.len()],
            drawing: Rc::clone(&self.drawing),
        }
    }

    fn whole_numbers(&self, numbers: impl ExactSizeIterator<Item = i64>) -> Constant {
        let count = numbers.len();
        let bytes = numbers.flat_map(i64::to_le_bytes).collect();
        let mut drawing = self.drawing.borrow_mut();
        drawing.constant(&[count], INTEGER, bytes)
    }

    /// What an operator makes of it and of constants: examples of this shape.
    pub(super) fn then<const C: usize, const A: usize>(
        &self,
        operator: &str,
        constants: [Constant; C],
        attributes: [Attribute; A],
        shape: &[usize],
    ) -> Self {
        let mut inputs = vec![self.name.clone()];
        inputs.extend(constants.map(|Constant(name)| name));
        self.made(operator, inputs, attributes.into(), shape)
    }

    /// What an operator makes of it and of other edges: examples of this shape.
    pub(super) fn with<const A: usize>(
        &self,
        operator: &str,
        others: &[&Edge],
        attributes: [Attribute; A],
        shape: &[usize],
    ) -> Self {
        let names = [self].into_iter().chain(others.iter().copied());
        let inputs = names.map(|edge| edge.name.clone()).collect();
        self.made(operator, inputs, attributes.into(), shape)
    }

    fn made(
        &self,
        operator: &str,
        inputs: Vec<String>,
        attributes: Vec<Attribute>,
        shape: &[usize],
    ) -> Self {
        let name = self.drawing.borrow_mut().node(operator, inputs, attributes);
        Self {
            name,
            shape: shape.to_vec(),
            drawing: Rc::clone(&self.drawing),
        }
    }

    /// The same numbers in another shape. One that holds fewer or more numbers makes more or fewer examples.
    pub(super) fn shaped(&self, shape: &[usize]) -> Self {
        if self.shape == shape {
            return self.clone();
        }
        let lengths: Vec<i64> = shape.iter().map(|&length| length as i64).collect();
        let whole = self.whole_numbers([&[-1], &*lengths].concat().into_iter());
        self.then("Reshape", [whole], [], shape)
    }

    /// Each number times a factor, then plus a summand.
    pub(super) fn scaled(&self, factor: f32, summand: f32) -> Self {
        let [factor, summand] = [factor, summand].map(|number| self.constant(&[number], &[1]));
        let scaled = self.then("Mul", [factor], [], &self.shape);
        scaled.then("Add", [summand], [], &self.shape)
    }

    /// Each number, or the nearer bound.
    pub(super) fn between(&self, least: f32, most: f32) -> Self {
        let bounds = [least, most].map(|bound| self.constant(&[bound], &[]));
        self.then("Clip", bounds, [], &self.shape)
    }

    /// The largest number of each row of so many.
    pub(super) fn largest(&self, of: usize) -> Self {
        let rows = self.numbers() / of;
        let axes = Attribute::integers("axes", [2]);
        let keep = Attribute::integer("keepdims", 0);
        self.shaped(&[rows, of])
            .then("ReduceMax", [], [axes, keep], &[rows])
    }

    /// Rows of a table: one for each number, which is cut to a whole one and to the last row.
    pub(super) fn rows_of(&self, table: &[f32], [rows, width]: [usize; 2]) -> Self {
        let Constant(table) = self.constant(table, &[rows, width]);
        let whole = Attribute::integer("to", i64::from(INTEGER));
        let places = self.between(0.0, (rows - 1) as f32);
        let places = places.then("Cast", [], [whole], &self.shape);
        let shape = [&*self.shape, &[width]].concat();
        self.made("Gather", vec![table, places.name], Vec::new(), &shape)
    }

    /// With its three dimensions in another order.
    pub(super) fn turned(&self, order: [usize; 3]) -> Self {
        let shape = order.map(|from| self.shape[from]);
        let [first, second, third] = order.map(|from| from + 1);
        let order = Attribute::integers("perm", [0, first, second, third]);
        self.then("Transpose", [], [order], &shape)
    }

    /// One number of an example, as many times.
    pub(super) fn repeated(&self, times: usize) -> Self {
        let ones = self.constant(&vec![1.0; times], &[times]);
        self.then("Mul", [ones], [], &[times])
    }

    /// With zeros around `[rows, columns]`, so many on either side.
    pub(super) fn padded(&self, [rows, columns]: [usize; 2]) -> Self {
        let sides = [0, rows, columns, 0, rows, columns];
        let sides = self.whole_numbers(sides.into_iter().map(|side| side as i64));
        let shape = [self.shape[0] + 2 * rows, self.shape[1] + 2 * columns];
        self.then("Pad", [sides], [], &shape)
    }

    /// Edges of one graph, and of one shape but for a dimension, one after the other along it.
    ///
    /// # Panics
    /// Without any edge: a mistake of the caller.
    pub(super) fn joined(parts: &[Self], dimension: usize) -> Self {
        let mut shape = parts[0].shape.clone();
        shape[dimension] = parts.iter().map(|part| part.shape[dimension]).sum();
        let others: Vec<&Self> = parts[1..].iter().collect();
        let axis = Attribute::integer("axis", dimension as i64 + 1);
        parts[0].with("Concat", &others, [axis], &shape)
    }

    /// The sum over the second-last dimension of `[rows, terms, numbers]`: `[rows, numbers]`.
    pub(super) fn sums(&self, [rows, terms, numbers]: [usize; 3]) -> Self {
        let axes = self.whole_numbers([2].into_iter());
        let keep = Attribute::integer("keepdims", 0);
        let terms = self.shaped(&[rows, terms, numbers]);
        terms.then("ReduceSum", [axes], [keep], &[rows, numbers])
    }

    /// Numbers of one example.
    pub(super) fn numbers(&self) -> usize {
        self.shape.iter().product()
    }

    /// An operator on each number.
    pub(super) fn each(&self, operator: &str) -> Self {
        self.then(operator, [], [], &self.shape)
    }

    /// Number by number with an edge of as many.
    pub(super) fn pairwise(&self, operator: &str, other: &Edge) -> Self {
        let other = other.shaped(&self.shape);
        self.with(operator, &[&other], [], &self.shape)
    }

    /// Its entries at these places along a dimension of an example, in this order.
    pub(super) fn picked(&self, dimension: usize, places: &[usize]) -> Self {
        let mut shape = self.shape.clone();
        shape[dimension] = places.len();
        let places = self.whole_numbers(places.iter().map(|&place| place as i64));
        let axis = Attribute::integer("axis", dimension as i64 + 1);
        self.then("Gather", [places], [axis], &shape)
    }

    /// Each of so many stretches of an example brought to mean 0 and variance 1: `[stretches, numbers]`.
    pub(super) fn normalised(&self, stretches: usize, epsilon: f32) -> Self {
        let numbers = self.numbers() / stretches;
        let rows = self.shaped(&[stretches, numbers]);
        let [ones, zeros] =
            [1.0, 0.0].map(|all| self.constant(&vec![all; stretches], &[stretches]));
        let epsilon = Attribute::float("epsilon", epsilon);
        rows.then(
            "InstanceNormalization",
            [ones, zeros],
            [epsilon],
            &rows.shape,
        )
    }
}

impl Network {
    fn is_tagging(&self) -> bool {
        matches!(self.objective, Objective::Tags(_))
    }

    /// The bytes of an ONNX file whose one output is what [`predict`](Self::predict) gives. `input` is the shape
    /// of one example, of as many numbers as the network takes; there may be any number of examples. `notes`
    /// are metadata, `about` is what a reader sees first.
    ///
    /// # Errors
    /// A network of counts or one that tags, which goes by `name`; one too large.
    pub(crate) fn to_onnx(
        &self,
        name: &'static str,
        weights: &Weights,
        input: &[usize],
        about: &str,
        notes: &[(&str, String)],
    ) -> Result<Vec<u8>, OnnxError> {
        let (Body::Layers(architecture), false) = (&self.body, self.is_tagging()) else {
            return Err(OnnxError::Unsupported(name));
        };
        let entered = Edge::input(input);
        let drawing = Rc::clone(&entered.drawing);
        let mut tape = Tape::off(weights, 1);
        let output = match architecture.forward(Value::Edge(entered), &mut tape) {
            Value::Edge(output) => output,
            // Every layer behind an edge draws one.
            Value::Rows(_) | Value::Tensor(_) => return Err(OnnxError::Unsupported(name)),
        };
        let outputs = self.outputs();
        let output = output.shaped(&[outputs]);
        let (output, named) = match self.objective {
            Objective::Value => (output, "value"),
            Objective::Classes(_) | Objective::Tags(_) => {
                let axis = Attribute::integer("axis", -1);
                let shares = output.then("Softmax", [], [axis], &[outputs]);
                (shares, "probabilities")
            }
        };
        let Drawing {
            mut nodes,
            constants,
        } = drawing.take();
        for node in &mut nodes {
            let names = node.input.iter_mut().chain(&mut node.output);
            let last = names.filter(|name| **name == output.name);
            last.for_each(|name| *name = named.to_owned());
        }
        let graph = message::Graph {
            node: nodes,
            name: name.to_owned(),
            initializer: constants,
            input: vec![ValueInfo::examples(INPUT, input)],
            output: vec![ValueInfo::examples(named, &[outputs])],
        };
        let model = Model {
            ir_version: FORMAT,
            producer_name: "consilium".to_owned(),
            producer_version: env!("CARGO_PKG_VERSION").to_owned(),
            doc_string: about.to_owned(),
            graph: Some(graph),
            opset_import: vec![OperatorSet {
                domain: String::new(),
                version: OPERATORS,
            }],
            metadata_props: notes
                .iter()
                .map(|(key, value)| Property {
                    key: (*key).to_owned(),
                    value: value.clone(),
                })
                .collect(),
        };
        match model.encoded_len() {
            length if length > LIMIT => Err(OnnxError::TooLarge(length)),
            _ => Ok(model.encode_to_vec()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shape_that_stays_draws_nothing_and_another_is_noted() {
        let edge = Edge::input(&[2, 6]);
        assert_eq!(edge.shaped(&[2, 6]).name, INPUT);
        assert_eq!(edge.shaped(&[3, 4]).shape, [3, 4]);
        let drawing = edge.drawing.take();
        assert_eq!(drawing.nodes.len(), 1);
        assert_eq!(drawing.nodes[0].op_type, "Reshape");
        let lengths: Vec<u8> = [-1_i64, 3, 4]
            .iter()
            .flat_map(|n| n.to_le_bytes())
            .collect();
        assert_eq!(drawing.constants[0].raw_data, lengths);
    }

    #[test]
    fn bytes_are_those_of_the_format() {
        // Field 1 as a text, then field 3 as a number and field 20, as onnx.proto numbers them.
        let attribute = Attribute::integer("axis", -1);
        let mut expected = vec![0x0a, 4, b'a', b'x', b'i', b's', 0x18];
        expected.extend([0xff; 9]);
        expected.extend([1, 0xa0, 1, 2]);
        assert_eq!(attribute.encode_to_vec(), expected);
    }
}

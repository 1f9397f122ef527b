//! How one forward pass serves inference, ordinary training and private training.
//!
//! Layers compute on [`Value`]s: one row of numbers for each example. A recording tape keeps, for each
//! thing computed, what is needed to go back. One backward pass then gives the gradients at all
//! outputs, and each layer forms its weight gradients on the way, for every example apart or for
//! all together. A network's author writes the forward pass once. Off, the tape keeps nothing.
//!
//! The weights say where a pass computes: on the CPU as above, or on a device, where values are burn's
//! tensors and `taps.rs` says how weight gradients come about. Each layer asks the tape which.
//!
//! A network may mark stretches ([`Tape::stretch`]). Asked to recompute, a tape keeps nothing of a stretch but
//! what entered it, and the way back runs it again: the same numbers, for less memory and more time.

use std::rc::Rc;

use burn::tensor::Tensor;

use super::{
    blueprint::Slot,
    device::{DeviceError, OnDevice},
    gradients::{PerExample, Sink},
    onnx::Edge,
    taps::{self, Gradient, Taps},
    weights::Weights,
};
use crate::profile::{Kind, Part, Profile, Watch};

/// One row of numbers for each example.
#[derive(Clone)]
pub(super) enum Value {
    /// On the host.
    Rows(Rows),
    /// On the device that computes, `[examples, numbers]`.
    Tensor(Tensor<2>),
    /// Nowhere yet: what a graph that is drawn will compute.
    Edge(Edge),
}

/// Values where their tape computes.
pub(super) enum Placed<'a, const N: usize> {
    /// On the CPU.
    Rows([Rows; N]),
    /// On a device, with its weights.
    Tensors([Tensor<2>; N], &'a OnDevice),
    /// In a graph that is drawn.
    Edges([Edge; N]),
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
    recomputes: bool,
    watch: Watch<'a>,
    maps: Option<Maps>,
}

/// The maps of features that a network's last convolution left.
struct Maps {
    rows: Rows,
    /// Channels, height, width.
    shape: [usize; 3],
}

/// The maps of one example, and the gradient there.
pub(super) struct SeenMaps {
    /// Channels, height, width.
    pub(super) shape: [usize; 3],
    /// `[channels][height][width]`
    pub(super) values: Vec<f32>,
    /// The same, of what was asked about; empty where nothing was.
    pub(super) gradient: Vec<f32>,
}

/// What was computed, and the way back through it.
enum Record {
    /// What entered a stretch that is run again. Its gradient stays where it is.
    Entry,
    Layer {
        inputs: Vec<Option<usize>>,
        kind: Kind,
        step: Box<dyn Step>,
    },
    Stretch {
        input: Option<usize>,
        again: Again,
    },
}

/// From what enters a stretch to what leaves it.
type Forward = dyn Fn(Value, &mut Tape) -> Value;

/// A stretch to be run again.
struct Again {
    input: Rc<Vec<f32>>,
    forward: Box<Forward>,
}

/// The way back through something computed.
pub(super) trait Step {
    /// Under which name its time is noted, forward and backward.
    fn kind() -> Kind
    where
        Self: Sized;

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
    watch: Watch<'a>,
    /// A record whose gradient is to be kept, and that gradient.
    kept: Option<(usize, Vec<f32>)>,
}

impl Value {
    /// The same value for another layer.
    pub(super) fn again(&self) -> Self {
        self.clone()
    }

    /// What entered the network: it lies on the host until a layer takes it.
    ///
    /// # Panics
    /// For what a layer computed on a device, or drew: a mistake in a network, which any test shows.
    pub(super) fn entered(self) -> Rows {
        match self {
            Self::Rows(rows) => rows,
            Self::Tensor(_) | Self::Edge(_) => {
                unreachable!("only what enters a network is read on the host")
            }
        }
    }

    /// As an edge of the graph that another belongs to; rows are the same for all examples.
    ///
    /// # Panics
    /// For what a layer computed on a device: a mistake in a network, which any test shows.
    fn drawn_beside(self, other: &Edge) -> Edge {
        match self {
            Self::Edge(edge) => edge,
            Self::Rows(rows) => other.constant_row(rows.rows()),
            Self::Tensor(_) => unreachable!("a graph is drawn on no device"),
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
            // Nobody asks a graph that is only drawn for numbers.
            Self::Edge(_) => Ok(Vec::new()),
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
            recomputes: false,
            watch: Watch::of(None),
            maps: None,
        }
    }

    /// For training.
    pub(super) fn recording(weights: &'a Weights, examples: usize) -> Self {
        Self {
            records: Some(Vec::new()),
            ..Self::off(weights, examples)
        }
    }

    /// Whether there may be a way back.
    pub(super) fn is_recording(&self) -> bool {
        self.records.is_some()
    }

    /// Whether stretches are run again on the way back.
    pub(super) fn recomputing(self, recomputes: bool) -> Self {
        Self { recomputes, ..self }
    }

    /// Notes where its time goes, from now on.
    pub(super) fn watched(self, profile: Option<&'a Profile>) -> Self {
        let watch = Watch::of(profile);
        Self { watch, ..self }
    }

    /// What enters the network; no gradient is wanted there.
    pub(super) fn input(&mut self, rows: Vec<f32>) -> Value {
        self.watch.note(Part::Forward(Kind::Input));
        self.constant(rows)
    }

    /// The forward pass is over: on a device no layer noted its time.
    pub(super) fn note_device(&mut self) {
        if self.weights.on_device().is_some() {
            self.watch.note(Part::Device);
        }
    }

    fn constant(&self, rows: Vec<f32>) -> Value {
        let rows = Rc::new(rows);
        Value::Rows(Rows { rows, node: None })
    }

    /// Values where this tape computes.
    pub(super) fn place<const N: usize>(&self, values: [Value; N]) -> Placed<'a, N> {
        if let Some(Value::Edge(edge)) = values.first() {
            let edge = edge.clone();
            return Placed::Edges(values.map(|value| value.drawn_beside(&edge)));
        }
        let Some(on) = self.weights.on_device() else {
            // Without a device no layer makes a tensor.
            return Placed::Rows(values.map(Value::entered));
        };
        let tensors = values.map(|value| match value {
            Value::Tensor(tensor) => tensor,
            Value::Rows(Rows { rows, .. }) => {
                on.upload(&rows, [self.examples, rows.len() / self.examples])
            }
            Value::Edge(_) => unreachable!("a graph is drawn on no device"),
        });
        Placed::Tensors(tensors, on)
    }

    /// A stretch of a network, which may be run twice. What enters it should go nowhere else: then gradients
    /// are added up in the same order either way, and are the same to the last bit.
    ///
    /// On a device burn recomputes what it calls bound by memory, stretch or not.
    pub(super) fn stretch(
        &mut self,
        input: Value,
        forward: impl Fn(Value, &mut Tape) -> Value + 'static,
    ) -> Value {
        if !self.recomputes || self.records.is_none() || self.weights.on_device().is_some() {
            return forward(input, self);
        }
        let input = input.entered();
        let records = self.records.take();
        let alone = Rows {
            rows: input.kept(),
            node: None,
        };
        let rows = forward(Value::Rows(alone), self).entered().rows;
        self.records = records;
        let again = Again {
            input: input.rows,
            forward: Box::new(forward),
        };
        let input = input.node;
        let node = self.push(|| Record::Stretch { input, again });
        Value::Rows(Rows { rows, node })
    }

    /// Notes what a layer with weights computed on a device, and how its weight gradients come from the
    /// gradient there.
    pub(super) fn tap(
        &mut self,
        output: Tensor<2>,
        form: impl FnOnce(Tensor<2>) -> Vec<(Slot, Gradient)> + 'static,
    ) -> Value {
        Value::Tensor(match self.records {
            Some(_) => self.taps.add(output, self.recomputes, form),
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
        self.watch.note(Part::Forward(S::kind()));
        let rows = Rc::new(rows);
        let kept = Rc::clone(&rows);
        let node = self.push(|| Record::Layer {
            inputs: inputs.to_vec(),
            kind: S::kind(),
            step: Box::new(step(kept)),
        });
        Value::Rows(Rows { rows, node })
    }

    /// Notes what a network's last convolution left: what it is explained by. On the CPU alone.
    pub(super) fn show(&mut self, maps: &Value, shape: [usize; 3]) {
        if let Value::Rows(rows) = maps {
            let rows = rows.clone();
            self.maps = Some(Maps { rows, shape });
        }
    }

    /// What was shown; with a gradient at `output` also the gradient there. None of a network that shows nothing.
    pub(super) fn seen_maps(
        mut self,
        output: &Value,
        gradient: Option<Vec<f32>>,
    ) -> Option<SeenMaps> {
        let Maps { rows, shape } = self.maps.take()?;
        let values = rows.rows().to_vec();
        let (Some(gradient), Some(node), Value::Rows(output)) = (gradient, rows.node, output)
        else {
            let gradient = Vec::new();
            return Some(SeenMaps {
                shape,
                values,
                gradient,
            });
        };
        // Gradients of weights are of no interest, but layers form them on the way.
        let mut sum = vec![0.0; self.weights.count()];
        let mut pass = Pass {
            weights: self.weights,
            examples: self.examples,
            sink: Sink::Summed(&mut sum),
            wanted: Vec::new(),
            watch: self.watch,
            kept: Some((node, Vec::new())),
        };
        pass.walk(self.records.unwrap_or_default(), output.node, gradient);
        let gradient = pass.kept.map(|(_, gradient)| gradient).unwrap_or_default();
        Some(SeenMaps {
            shape,
            values,
            gradient,
        })
    }

    /// Keeps a record, if any are kept, and says where.
    fn push(&mut self, record: impl FnOnce() -> Record) -> Option<usize> {
        let records = self.records.as_mut()?;
        records.push(record());
        Some(records.len() - 1)
    }

    /// As [`layer_at`](Self::layer_at), for what has no weights: not noted where no input wants a gradient.
    pub(super) fn plain<S: Step + 'static>(
        &mut self,
        rows: Vec<f32>,
        inputs: &[Option<usize>],
        step: impl FnOnce(Rc<Vec<f32>>) -> S,
    ) -> Value {
        if inputs.iter().all(Option::is_none) {
            self.watch.note(Part::Forward(S::kind()));
            return self.constant(rows);
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
        let mut watch = self.watch;
        watch.restart();
        let output = match output {
            Value::Rows(output) => output,
            Value::Tensor(output) => {
                let to = (self.weights, &mut sink);
                self.taps.back(output, gradient, self.given, to)?;
                watch.note(Part::Device);
                return Ok(sink);
            }
            // A graph is drawn for inference alone.
            Value::Edge(_) => return Ok(sink),
        };
        let mut pass = Pass {
            weights: self.weights,
            examples: self.examples,
            sink,
            wanted: Vec::new(),
            watch,
            kept: None,
        };
        pass.walk(self.records.unwrap_or_default(), output.node, gradient);
        Ok(pass.sink)
    }
}

impl Pass<'_> {
    /// Whether the gradient at the first input is wanted.
    pub(super) fn wants_input(&self) -> bool {
        self.wanted.first() == Some(&true)
    }

    /// Goes back from the gradient at `output` and gives that at the first record, if it is an entry.
    fn walk(
        &mut self,
        records: Vec<Record>,
        output: Option<usize>,
        gradient: Vec<f32>,
    ) -> Option<Vec<f32>> {
        let mut gradients: Vec<Option<Vec<f32>>> = records.iter().map(|_| None).collect();
        if let Some(node) = output {
            gradients[node] = Some(gradient);
        }
        for (node, record) in records.into_iter().enumerate().rev() {
            let Some(gradient) = gradients[node].take() else {
                continue;
            };
            if let Some((place, kept)) = &mut self.kept
                && *place == node
            {
                kept.clone_from(&gradient);
            }
            let (inputs, backs) = match record {
                Record::Entry => return Some(gradient),
                Record::Layer { inputs, kind, step } => {
                    self.wanted = inputs.iter().map(Option::is_some).collect();
                    let backs = step.back(gradient, self);
                    self.watch.note(Part::Backward(kind));
                    (inputs, backs)
                }
                Record::Stretch { input, again } => {
                    let back = self.again(again, input.is_some(), gradient);
                    (vec![input], vec![back])
                }
            };
            for (input, gradient) in inputs.into_iter().zip(backs) {
                let (Some(input), Some(gradient)) = (input, gradient) else {
                    continue;
                };
                match &mut gradients[input] {
                    Some(sum) => super::kernels::add(sum, &gradient),
                    empty => *empty = Some(gradient),
                }
            }
        }
        None
    }

    /// Runs a stretch again, keeping what it computes, and goes back through it.
    fn again(&mut self, again: Again, is_wanted: bool, gradient: Vec<f32>) -> Option<Vec<f32>> {
        let mut tape = Tape::recording(self.weights, self.examples);
        let input = Rows {
            rows: again.input,
            node: if is_wanted {
                tape.push(|| Record::Entry)
            } else {
                None
            },
        };
        let output = (again.forward)(Value::Rows(input), &mut tape).entered();
        self.watch.note(Part::Again);
        self.walk(tape.records.unwrap_or_default(), output.node, gradient)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::network::{
        activation::{gelu, sum_of},
        blueprint::Blueprint,
        dense::Dense,
    };

    /// A dense layer, and a stretch of two more with a way around them.
    #[test]
    fn a_recomputed_stretch_leaves_only_its_input_and_gives_the_same_bits() {
        let mut on = Blueprint::default();
        let layers = ["a", "b", "c"].map(|name| Dense::last(&mut on, name, 3, 3));
        let layout = consilium_proto::Layout::new(on.tensors).expect("a small layout");
        let values: Vec<f32> = (0..36)
            .map(|at| ((at * 7 % 11) as f32 - 5.0) / 7.0)
            .collect();
        let weights = Weights::new(&layout, &values);
        let runs = Rc::new(Cell::new(0));
        let answer = |recomputes| {
            let mut tape = Tape::recording(&weights, 2).recomputing(recomputes);
            let x = tape.input(vec![0.5, -1.0, 2.0, 1.5, 0.25, -0.75]);
            let x = layers[0].forward(x, &mut tape);
            let ([_, b, c], runs) = (layers, Rc::clone(&runs));
            let x = tape.stretch(x, move |x, tape| {
                runs.set(runs.get() + 1);
                let y = gelu(b.forward(x.again(), tape), tape);
                sum_of(c.forward(y, tape), x, tape)
            });
            let (rows, kept) = (x.to_host().expect("on the host"), tape.records.as_ref());
            let kept = kept.map_or(0, Vec::len);
            let mut sum = vec![0.0; 36];
            let summed = tape.summed(x, vec![1.0, -2.0, 0.5, 0.25, 3.0, -1.0], &mut sum);
            summed.expect("on the host");
            let bits = |values: Vec<f32>| values.into_iter().map(f32::to_bits).collect::<Vec<_>>();
            (kept, [bits(rows), bits(sum)])
        };
        let (all, expected) = answer(false);
        assert_eq!((all, runs.replace(0)), (5, 1));
        let (kept, found) = answer(true);
        assert_eq!((kept, runs.get()), (2, 2));
        assert_eq!(found, expected);
    }
}

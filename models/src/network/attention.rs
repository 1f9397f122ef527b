//! Attention: each position takes from the others what its query finds (Vaswani et al. 2017).
//!
//! Without weights of its own: queries, keys and values come from dense layers.

use std::rc::Rc;

use burn::tensor::{Tensor, TensorData, activation};

use super::{
    activation::exp,
    device::OnDevice,
    kernels::{Lines, Right, add_product, dot, sum, transpose, vectorised},
    lengths::Lengths,
    onnx::{Attribute, Edge},
    tape::{Pass, Placed, Step, Tape, Value},
};
use crate::profile::Kind;

/// Subtracted from the scores of positions that are not looked at.
const HIDDEN: f32 = 1e9;

/// Sizes of attention.
#[derive(Debug, Clone, Copy)]
pub(super) struct Attention {
    pub(super) positions: usize,
    pub(super) features: usize,
    /// Divides the features.
    pub(super) heads: usize,
}

impl Attention {
    /// Each head for itself: `softmax(query · keyᵀ / √(features of a head)) · value`. Of each example only
    /// the first so many positions are looked at, 1 or more.
    ///
    /// # Shapes
    /// - all: `[examples][positions][features]`
    pub(super) fn forward(&self, values: [Value; 3], lengths: &Lengths, tape: &mut Tape) -> Value {
        let [query, key, value] = match tape.place(values) {
            Placed::Rows(rows) => rows,
            Placed::Tensors(tensors, on) => {
                return Value::Tensor(self.forward_on(tensors, lengths.known(), on));
            }
            Placed::Edges(edges) => {
                let [counted, _] = lengths.drawn();
                return Value::Edge(self.draw(edges, counted));
            }
        };
        let lengths = lengths.known();
        let Self {
            positions, heads, ..
        } = *self;
        let mut output = vec![0.0; query.rows().len()];
        let mut shares = vec![0.0; tape.examples * heads * positions * positions];
        let at = Heads::new(self);
        let rows = starts(positions, positions);
        for (place, shares) in shares.chunks_exact_mut(positions * positions).enumerate() {
            let head = at.head(place);
            let left = lines(query.rows(), &head);
            let right = Right::Columns(lines(key.rows(), &head));
            add_product(left, right, [at.width, positions], shares, &rows);
            softmax(shares, positions, lengths[place / heads], at.scale);
            let right = Right::Rows(lines(value.rows(), &head));
            add_product(
                lines(shares, &rows),
                right,
                [positions, at.width],
                &mut output,
                &head,
            );
        }
        let layer = *self;
        tape.plain(output, &[query.node(), key.node(), value.node()], |_| {
            AttentionStep {
                layer,
                query: query.kept(),
                key: key.kept(),
                value: value.kept(),
                shares,
            }
        })
    }
}

impl Attention {
    /// `counted` is 1 for each position that is looked at, and 0 for the others.
    fn draw(&self, [query, key, value]: [Edge; 3], counted: &Edge) -> Edge {
        let Self {
            positions, heads, ..
        } = *self;
        let at = Heads::new(self);
        let apart = |edge: &Edge| edge.shaped(&[positions, heads, at.width]);
        let query = apart(&query).turned([1, 0, 2]).scaled(at.scale, 0.0);
        let (key, value) = (
            apart(&key).turned([1, 2, 0]),
            apart(&value).turned([1, 0, 2]),
        );
        let square = [heads, positions, positions];
        let scores = query.with("MatMul", &[&key], [], &square);
        let hidden = counted.scaled(HIDDEN, -HIDDEN).shaped(&[1, 1, positions]);
        let scores = scores.with("Add", &[&hidden], [], &square);
        let shares = scores.then("Softmax", [], [Attribute::integer("axis", -1)], &square);
        let taken = shares.with("MatMul", &[&value], [], &[heads, positions, at.width]);
        taken.turned([1, 0, 2]).shaped(&[positions, self.features])
    }

    fn forward_on(&self, tensors: [Tensor<2>; 3], lengths: &[usize], on: &OnDevice) -> Tensor<2> {
        let at = Heads::new(self);
        let [query, key, value] = tensors.map(|tensor| {
            let [examples, _] = tensor.dims();
            let heads = tensor.reshape([examples, self.positions, self.heads, at.width]);
            heads.swap_dims(1, 2)
        });
        let mut scores = query.matmul(key.swap_dims(2, 3)) * at.scale;
        if lengths.iter().any(|&length| length < self.positions) {
            scores = scores + self.hidden(lengths, on);
        }
        let shares = activation::softmax(scores, 3);
        shares.matmul(value).swap_dims(1, 2).flatten(1, 3)
    }
}

impl Attention {
    /// What hides the positions past each example's length: so far below every score that no share is left.
    fn hidden(&self, lengths: &[usize], on: &OnDevice) -> Tensor<4> {
        let each = lengths.iter().flat_map(|&length| {
            (0..self.positions).map(move |position| match position < length {
                true => 0.0,
                false => -HIDDEN,
            })
        });
        let shape = [lengths.len(), 1, 1, self.positions];
        let hidden = TensorData::new::<f32, _>(each.collect(), shape);
        Tensor::from_data(hidden, on.device())
    }
}

/// Where the heads of examples lie.
struct Heads {
    layer: Attention,
    /// Features of a head.
    width: usize,
    scale: f32,
}

impl Heads {
    fn new(layer: &Attention) -> Self {
        let width = layer.features / layer.heads;
        Self {
            layer: *layer,
            width,
            scale: 1.0 / (width as f32).sqrt(),
        }
    }

    /// Where the positions of a head begin; heads are counted through all examples.
    fn head(&self, at: usize) -> Vec<usize> {
        let Attention {
            positions,
            features,
            heads,
        } = self.layer;
        let first = at / heads * positions * features + at % heads * self.width;
        (0..positions)
            .map(|position| first + position * features)
            .collect()
    }
}

fn starts(lines: usize, length: usize) -> Vec<usize> {
    (0..lines).map(|line| line * length).collect()
}

fn lines<'a>(numbers: &'a [f32], starts: &'a [usize]) -> Lines<'a> {
    Lines { numbers, starts }
}

vectorised! {
    /// Turns the first `seen` of each row of scores, times `scale`, into shares that add up to 1; the others
    /// get nothing.
    fn softmax<'a>(scores: &'a mut [f32], length: usize, seen: usize, scale: f32) {
        for row in scores.chunks_exact_mut(length) {
            let (row, unseen) = row.split_at_mut(seen);
            unseen.fill(0.0);
            let mut largest = f32::NEG_INFINITY;
            for &score in &*row {
                largest = if score > largest { score } else { largest };
            }
            row.iter_mut().for_each(|score| *score = exp((*score - largest) * scale));
            let total = sum(row);
            row.iter_mut().for_each(|share| *share /= total);
        }
    }
}

vectorised! {
    /// Turns the gradient at the shares into that at the scores.
    fn softmax_back<'a>(gradient: &'a mut [f32], shares: &'a [f32], length: usize, scale: f32) {
        let rows = gradient.chunks_exact_mut(length).zip(shares.chunks_exact(length));
        for (gradient, shares) in rows {
            let along = dot(gradient, shares);
            for (gradient, share) in gradient.iter_mut().zip(shares) {
                *gradient = share * (*gradient - along) * scale;
            }
        }
    }
}

struct AttentionStep {
    layer: Attention,
    query: Rc<Vec<f32>>,
    key: Rc<Vec<f32>>,
    value: Rc<Vec<f32>>,
    /// What each position takes of each other: `[examples][heads][positions][positions]`.
    shares: Vec<f32>,
}

impl Step for AttentionStep {
    fn kind() -> Kind {
        Kind::Attention
    }

    fn back(self: Box<Self>, output: Vec<f32>, _: &mut Pass) -> Vec<Option<Vec<f32>>> {
        let positions = self.layer.positions;
        let at = Heads::new(&self.layer);
        let rows = starts(positions, positions);
        let [mut query, mut key, mut value] = [(); 3].map(|()| vec![0.0; output.len()]);
        let mut turned = vec![0.0; positions * positions];
        let mut back = vec![0.0; positions * positions];
        for (place, shares) in self.shares.chunks_exact(positions * positions).enumerate() {
            let head = at.head(place);
            let across = [positions, at.width];
            transpose(shares, positions, &mut turned);
            let right = Right::Rows(lines(&output, &head));
            add_product(lines(&turned, &rows), right, across, &mut value, &head);

            back.fill(0.0);
            let right = Right::Columns(lines(&self.value, &head));
            add_product(
                lines(&output, &head),
                right,
                [at.width, positions],
                &mut back,
                &rows,
            );
            softmax_back(&mut back, shares, positions, at.scale);
            let right = Right::Rows(lines(&self.key, &head));
            add_product(lines(&back, &rows), right, across, &mut query, &head);
            transpose(&back, positions, &mut turned);
            let right = Right::Rows(lines(&self.query, &head));
            add_product(lines(&turned, &rows), right, across, &mut key, &head);
        }
        vec![Some(query), Some(key), Some(value)]
    }
}

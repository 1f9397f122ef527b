//! What takes positions of a sequence together, without weights.

use burn::tensor::{Tensor, TensorData};

use super::{
    device::OnDevice,
    kernels::add,
    lengths::Lengths,
    onnx::Edge,
    tape::{Pass, Placed, Step, Tape, Value},
};
use crate::profile::Kind;

/// Each position with `reach` neighbours on either side, the earlier first; zeros beyond the ends.
///
/// # Shapes
/// - `sequences`: `[examples][positions][features]`
/// - output: `[examples][positions][2 · reach + 1][features]`
pub(super) fn neighbours(
    sequences: Value,
    shape @ [positions, features]: [usize; 2],
    reach: usize,
    tape: &mut Tape,
) -> Value {
    let around = Neighbours { shape, reach };
    let [sequences] = match tape.place([sequences]) {
        Placed::Rows(rows) => rows,
        Placed::Tensors([sequences], on) => {
            let examples = tape.examples;
            let beyond = Tensor::<3>::zeros([examples, reach, features], on.device());
            let sequences = sequences.reshape([examples, positions, features]);
            let whole = Tensor::cat(vec![beyond.clone(), sequences, beyond], 1);
            let parts = (0..=2 * reach)
                .map(|from| whole.clone().slice([0..examples, from..from + positions]));
            return Value::Tensor(Tensor::cat(parts.collect(), 2).flatten(1, 2));
        }
        Placed::Edges([sequences]) => {
            let whole = sequences.shaped(&shape).padded([reach, 0]);
            let seen = |from: usize| whole.picked(0, &(from..from + positions).collect::<Vec<_>>());
            let parts: Vec<_> = (0..=2 * reach).map(seen).collect();
            return Value::Edge(Edge::joined(&parts, 1));
        }
    };
    let mut output = vec![0.0; sequences.rows().len() * (2 * reach + 1)];
    around.each(tape.examples, |from, to| {
        output[to].copy_from_slice(&sequences.rows()[from]);
    });
    tape.plain(output, &[sequences.node()], |_| around)
}

struct Neighbours {
    shape: [usize; 2],
    reach: usize,
}

impl Neighbours {
    /// Every place of a sequence with every place where it is seen.
    fn each(
        &self,
        examples: usize,
        mut copy: impl FnMut(std::ops::Range<usize>, std::ops::Range<usize>),
    ) {
        let Self {
            shape: [positions, features],
            reach,
        } = *self;
        let width = 2 * reach + 1;
        for at in 0..examples * positions {
            let (example, position) = (at / positions, at % positions);
            for place in 0..width {
                let seen = (position + place).checked_sub(reach);
                if let Some(seen) = seen.filter(|&seen| seen < positions) {
                    let from = (example * positions + seen) * features;
                    let to = (at * width + place) * features;
                    copy(from..from + features, to..to + features);
                }
            }
        }
    }
}

impl Step for Neighbours {
    fn kind() -> Kind {
        Kind::Pooling
    }

    fn back(self: Box<Self>, output: Vec<f32>, pass: &mut Pass) -> Vec<Option<Vec<f32>>> {
        let mut back = vec![0.0; output.len() / (2 * self.reach + 1)];
        self.each(pass.examples, |from, to| add(&mut back[from], &output[to]));
        vec![Some(back)]
    }
}

/// The mean over the first positions of a sequence, as many as its example has.
///
/// # Shapes
/// - `sequences`: `[examples][positions][features]`
/// - output: `[examples][features]`
pub(super) fn average(
    sequences: Value,
    shape: [usize; 2],
    lengths: &Lengths,
    tape: &mut Tape,
) -> Value {
    if let Value::Edge(sequences) = &sequences {
        return Value::Edge(factored(sequences, shape, &[mean_of(lengths)]));
    }
    let (lengths, rows) = (lengths.known(), |length: usize| {
        Picked::mean(length).collect()
    });
    picked(
        sequences,
        shape,
        lengths.iter().map(|&length| vec![rows(length)]).collect(),
        tape,
    )
}

/// The mean as [`average`] takes it, and then what stands at each of two positions, zeros where there is none.
///
/// # Shapes
/// - `sequences`: `[examples][positions][features]`
/// - output: `[examples][3][features]`
pub(super) fn first_of(
    sequences: Value,
    shape: [usize; 2],
    lengths: &Lengths,
    marked: &Marked,
    tape: &mut Tape,
) -> Value {
    let marked = match (&sequences, marked) {
        (Value::Edge(sequences), Marked::Drawn([first, second])) => {
            let factors = [mean_of(lengths), first.clone(), second.clone()];
            return Value::Edge(factored(sequences, shape, &factors));
        }
        (_, Marked::Known(marked)) => marked,
        (_, Marked::Drawn(_)) => unreachable!("markers and sequences are drawn together"),
    };
    let each = lengths.known().iter().zip(marked).map(|(&length, marked)| {
        let mut rows: Vec<Vec<_>> = vec![Picked::mean(length).collect()];
        rows.extend(marked.map(|at| at.map(|at| (at, 1.0)).into_iter().collect()));
        rows
    });
    picked(sequences, shape, each.collect(), tape)
}

/// Where markers stand first in each window.
pub(super) enum Marked {
    /// One pair an example; none where there is none.
    Known(Vec<[Option<usize>; 2]>),
    /// In a graph that is drawn: one where the marker stands first, zero elsewhere.
    Drawn([Edge; 2]),
}

impl Marked {
    /// A marker is the first of the numbers that a position is known by.
    ///
    /// # Shapes
    /// - `input`: `[examples][positions][slots]`, tokens
    pub(super) fn find(input: &Value, [positions, slots]: [usize; 2], markers: [usize; 2]) -> Self {
        if let Value::Edge(input) = input {
            let firsts = input.shaped(&[positions, slots]).picked(1, &[0]);
            let firsts = firsts.shaped(&[positions]);
            return Self::Drawn(markers.map(|marker| first_at(&firsts, marker as f32)));
        }
        let rows = input.again().entered();
        let marked = |example: &[f32]| {
            let first = |marker: usize| {
                let mut positions = example.chunks_exact(slots);
                positions.position(|numbers| numbers[0] as usize == marker)
            };
            markers.map(first)
        };
        let examples = rows.rows().chunks_exact(positions * slots);
        Self::Known(examples.map(marked).collect())
    }
}

/// One at the first of whole numbers that is the one looked for, zero elsewhere.
fn first_at(numbers: &Edge, sought: f32) -> Edge {
    let positions = numbers.numbers();
    let is_equal = |difference: &Edge| difference.each("Abs").between(0.0, 1.0).scaled(-1.0, 1.0);
    // Earlier positions weigh more; none weighs nothing.
    let weights: Vec<f32> = (0..positions).map(|at| (positions - at) as f32).collect();
    let found = is_equal(&numbers.scaled(1.0, -sought));
    let weights = found.pairwise("Mul", &numbers.constant_row(&weights));
    let heaviest = weights.largest(positions).repeated(positions);
    is_equal(&weights.pairwise("Sub", &heaviest)).pairwise("Mul", &found)
}

/// What each position counts in the mean.
fn mean_of(lengths: &Lengths) -> Edge {
    let [counted, length] = lengths.drawn();
    counted.pairwise("Div", &length.repeated(counted.numbers()))
}

/// Sums of positions, each with factors for all of them.
fn factored(sequences: &Edge, [positions, features]: [usize; 2], factors: &[Edge]) -> Edge {
    let rows: Vec<Edge> = factors
        .iter()
        .map(|edge| edge.shaped(&[1, positions]))
        .collect();
    let sequences = sequences.shaped(&[positions, features]);
    Edge::joined(&rows, 0).with("MatMul", &[&sequences], [], &[rows.len(), features])
}

/// Weighted sums of positions: for each example the same number of them, each a list of positions and
/// factors.
struct Picked {
    shape: [usize; 2],
    sums: Vec<Vec<Vec<(usize, f32)>>>,
}

fn picked(
    sequences: Value,
    shape: [usize; 2],
    sums: Vec<Vec<Vec<(usize, f32)>>>,
    tape: &mut Tape,
) -> Value {
    let picked = Picked { shape, sums };
    let [sequences] = match tape.place([sequences]) {
        Placed::Rows(rows) => rows,
        Placed::Tensors([sequences], on) => {
            let [positions, features] = shape;
            let sequences = sequences.reshape([tape.examples, positions, features]);
            return Value::Tensor(picked.factors(on).matmul(sequences).flatten(1, 2));
        }
        Placed::Edges(_) => unreachable!("what is drawn has factors of its own"),
    };
    let features = shape[1];
    let mut output = vec![0.0; picked.sums.iter().map(Vec::len).sum::<usize>() * features];
    picked.each(|from, to, factor| {
        let (from, to) = (&sequences.rows()[from], &mut output[to]);
        to.iter_mut()
            .zip(from)
            .for_each(|(to, from)| *to += factor * from);
    });
    tape.plain(output, &[sequences.node()], |_| picked)
}

impl Picked {
    fn mean(length: usize) -> impl Iterator<Item = (usize, f32)> {
        (0..length).map(move |at| (at, 1.0 / length as f32))
    }

    /// Every place of a sequence with every place that it adds to, and its factor.
    fn each(&self, mut take: impl FnMut(std::ops::Range<usize>, std::ops::Range<usize>, f32)) {
        let [positions, features] = self.shape;
        let mut to = 0;
        for (example, sums) in self.sums.iter().enumerate() {
            for sum in sums {
                for &(position, factor) in sum {
                    let from = (example * positions + position) * features;
                    take(from..from + features, to..to + features, factor);
                }
                to += features;
            }
        }
    }

    /// `[examples, sums, positions]`.
    fn factors(&self, on: &OnDevice) -> Tensor<3> {
        let positions = self.shape[0];
        let count = self.sums.first().map_or(0, Vec::len);
        let mut factors = vec![0.0_f32; self.sums.len() * count * positions];
        let rows = factors.chunks_exact_mut(positions);
        for (row, sum) in rows.zip(self.sums.iter().flatten()) {
            sum.iter()
                .for_each(|&(position, factor)| row[position] = factor);
        }
        let shape = [self.sums.len(), count, positions];
        Tensor::from_data(TensorData::new(factors, shape), on.device())
    }
}

impl Step for Picked {
    fn kind() -> Kind {
        Kind::Pooling
    }

    fn back(self: Box<Self>, output: Vec<f32>, _: &mut Pass) -> Vec<Option<Vec<f32>>> {
        let [positions, features] = self.shape;
        let mut back = vec![0.0; self.sums.len() * positions * features];
        self.each(|from, to, factor| {
            let (to, from) = (&mut back[from], &output[to]);
            to.iter_mut()
                .zip(from)
                .for_each(|(to, from)| *to += factor * from);
        });
        vec![Some(back)]
    }
}

//! How many positions of each window count.

use std::rc::Rc;

use super::{onnx::Edge, tagging::words_of, tape::Value};

/// Positions of each window before its padding, at least one.
#[derive(Clone)]
pub(super) enum Lengths {
    /// One number an example.
    Known(Rc<[usize]>),
    /// In a graph that is drawn.
    Drawn {
        /// One for each position that counts, zero for the others.
        counted: Edge,
        /// How many those are.
        length: Edge,
    },
}

impl Lengths {
    /// Up to the last position that has a number.
    ///
    /// # Shapes
    /// - `input`: `[examples][positions][slots]`, tokens
    pub(super) fn of(input: &Value, positions: usize, slots: usize) -> Self {
        if let Value::Edge(input) = input {
            let places: Vec<f32> = (1..=positions).map(|place| place as f32).collect();
            let has_number = input.each("Abs").between(0.0, 1.0).each("Ceil");
            let has_number = has_number.largest(slots);
            let ends = has_number.pairwise("Mul", &input.constant_row(&places));
            let length = ends.largest(positions).between(1.0, positions as f32);
            let beyond = places.iter().map(|place| 1.0 - place).collect::<Vec<_>>();
            // 1 and more where the place is not beyond the length.
            let counted = input
                .constant_row(&beyond)
                .pairwise("Add", &length.repeated(positions));
            let counted = counted.between(0.0, 1.0);
            return Self::Drawn { counted, length };
        }
        let rows = input.again().entered();
        let examples = rows.rows().chunks_exact(positions * slots);
        Self::Known(
            examples
                .map(|example| words_of(example, slots).max(1))
                .collect(),
        )
    }

    /// Every position of every window.
    pub(super) fn whole(input: &Value, positions: usize, examples: usize) -> Self {
        match input {
            Value::Edge(input) => Self::Drawn {
                counted: input.constant_row(&vec![1.0; positions]),
                length: input.constant_row(&[positions as f32]),
            },
            _ => Self::Known(vec![positions; examples].into()),
        }
    }

    /// One number an example.
    ///
    /// # Panics
    /// For what is drawn: a mistake in a network, which any test shows.
    pub(super) fn known(&self) -> &[usize] {
        match self {
            Self::Known(lengths) => lengths,
            Self::Drawn { .. } => unreachable!("a layer that computes is given numbers"),
        }
    }

    /// As edges of the graph that is drawn: which positions count, and how many.
    ///
    /// # Panics
    /// For numbers: a mistake in a network, which any test shows.
    pub(super) fn drawn(&self) -> [&Edge; 2] {
        match self {
            Self::Drawn { counted, length } => [counted, length],
            Self::Known(_) => unreachable!("a layer that is drawn is given edges"),
        }
    }
}

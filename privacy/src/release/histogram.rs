//! Histograms of one figure for each privacy unit, with public edges.

use super::{
    ReleaseError,
    counts::{NoisyCounts, noisy_counts, tally},
};
use crate::{OutOfRange, accountant::Charge, ledger::Grant};

/// Edges between the cells of a histogram: 1 to 1000 finite numbers, each above the one before.
/// They are public: of a plan or of the world, never read off the data.
#[derive(Debug, Clone, PartialEq)]
pub struct Edges(Vec<f64>);

impl Edges {
    /// The edges in order.
    pub fn as_slice(&self) -> &[f64] {
        &self.0
    }

    /// Cells of a histogram with these edges, without the one for what is missing.
    pub fn cells(&self) -> usize {
        self.0.len() + 1
    }

    /// Cell 0 is below the first edge, cell i from edge i-1 up to below edge i; what is no number
    /// is missing, and has the cell after the last.
    fn cell(&self, figure: f64) -> usize {
        match figure.is_nan() {
            true => self.cells(),
            false => self.0.partition_point(|&edge| edge <= figure),
        }
    }
}

impl TryFrom<Vec<f64>> for Edges {
    type Error = OutOfRange;
    fn try_from(edges: Vec<f64>) -> Result<Self, OutOfRange> {
        let is_sound = (1..=1000).contains(&edges.len())
            && edges.iter().all(|edge| edge.is_finite())
            && edges.is_sorted_by(|a, b| a < b);
        match is_sound {
            true => Ok(Self(edges)),
            false => Err(OutOfRange::new(
                "a histogram's edges",
                "1 to 1000 finite numbers, each above the one before",
                format!("{edges:?}"),
            )),
        }
    }
}

/// A histogram that may leave, and what it cost.
#[derive(Debug, Clone, PartialEq)]
pub struct NoisyHistogram {
    /// Its edges.
    pub edges: Edges,
    /// Units in each cell, with noise: below the first edge, between neighbouring ones (the lower
    /// one included), from the last one on.
    pub counts: Vec<i64>,
    /// Units whose figure is no number, with noise.
    pub missing: i64,
    /// Standard deviation of the noise of each count.
    pub deviation: f64,
    /// What the ledger was charged.
    pub charge: Charge,
}

/// Releases a histogram of **one figure for each privacy unit**. Costs as much as one count.
///
/// # Errors
/// A grant for something else.
pub fn noisy_histogram(
    grant: Grant,
    edges: Edges,
    figures: impl IntoIterator<Item = f64>,
) -> Result<NoisyHistogram, ReleaseError> {
    let counted = tally(edges.cells() + 1, cells(&edges, figures));
    let NoisyCounts {
        values: mut counts,
        deviation,
        charge,
    } = noisy_counts(grant, &counted)?;
    let missing = counts.pop().unwrap_or_default();
    Ok(NoisyHistogram {
        edges,
        counts,
        missing,
        deviation,
        charge,
    })
}

fn cells(edges: &Edges, figures: impl IntoIterator<Item = f64>) -> impl Iterator<Item = usize> {
    figures.into_iter().map(|figure| edges.cell(figure))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::release::tests::{grant, pure};

    fn edges(edges: &[f64]) -> Edges {
        edges.to_vec().try_into().expect("sound edges")
    }

    #[test]
    fn every_figure_has_one_cell() {
        let edges = edges(&[0.0, 1.0, 2.5]);
        let cell = |figure| edges.cell(figure);
        assert_eq!(
            [-0.1, 0.0, 0.99, 1.0, 2.5, 1e300].map(cell),
            [0, 1, 1, 2, 3, 3]
        );
        let odd = [f64::NEG_INFINITY, f64::INFINITY, f64::NAN, -0.0];
        assert_eq!(odd.map(cell), [0, 3, 4, 1]);
    }

    #[test]
    fn edges_that_are_none_are_refused() {
        for bad in [
            vec![],
            vec![1.0, 1.0],
            vec![2.0, 1.0],
            vec![f64::NAN],
            vec![0.0, f64::INFINITY],
            (0..1001).map(f64::from).collect(),
        ] {
            assert!(Edges::try_from(bad).is_err());
        }
    }

    /// Noise of ε = 60 is above 1 once in e^120 runs.
    #[test]
    fn a_histogram_counts_each_unit_once_and_says_who_is_missing() {
        let figures = [0.5, 0.5, 9.0, f64::NAN, -1.0];
        let found = noisy_histogram(grant(pure(60.0)), edges(&[0.0, 1.0]), figures).expect("paid");
        assert_eq!((found.counts, found.missing), (vec![1, 2, 1], 1));
        let empty = noisy_histogram(grant(pure(60.0)), edges(&[0.0]), []).expect("paid");
        assert_eq!((empty.counts, empty.missing), (vec![0, 0], 0));
    }
}

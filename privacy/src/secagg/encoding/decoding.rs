//! From a sum of words to numbers, with what can be checked of it.

use super::{Encoding, Words, tail_units};
use crate::secagg::terms::Terms;

/// The sum is not one that honest sites could give: masks did not cancel, or somebody left the
/// range.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the unmasked sum is not plausible: word {position} is out of range")]
pub struct Implausible {
    /// First word out of range.
    pub position: usize,
}

/// Reads an unmasked sum part by part: its tail first, which holds the weight that the rest is
/// divided by.
#[derive(Debug)]
pub struct SumReader {
    encoding: Encoding,
    main: usize,
    weight: u64,
    sites: u64,
    tail: Vec<f64>,
}

impl SumReader {
    /// Reads the tail (all words from `terms.main()` on) of a sum over so many sites.
    ///
    /// # Errors
    /// A weight or a figure that so many sites cannot give.
    pub fn new(terms: &Terms, sites: usize, tail: &Words) -> Result<Self, Implausible> {
        let main = terms.main();
        let implausible = |position: usize| Implausible {
            position: main + position,
        };
        let encoding = *terms.encoding();
        let mut values = tail.signed();
        let sites = sites as u64;
        let weight = match encoding {
            Encoding::Weighted { weight_max, .. } => (values.next())
                .and_then(|weight| u64::try_from(weight).ok())
                .filter(|weight| (sites..=sites * u64::from(weight_max)).contains(weight))
                .ok_or(implausible(0))?,
            Encoding::Lattice { .. } => sites,
        };
        let units = tail_units(terms.word(), terms.members().len());
        let first = encoding.weight_words();
        let mut figures = Vec::with_capacity(terms.tail().len());
        for (index, most) in terms.tail().iter().enumerate() {
            let value = values.next().ok_or(implausible(first + index))? as f64;
            if value.abs() > units * sites as f64 {
                return Err(implausible(first + index));
            }
            figures.push(value / units * most);
        }
        Ok(Self {
            encoding,
            main,
            weight,
            sites,
            tail: figures,
        })
    }

    /// Sum of the weights; the number of sites where there are none.
    pub fn weight(&self) -> u64 {
        self.weight
    }

    /// Sums of the further figures.
    pub fn tail(&self) -> &[f64] {
        &self.tail
    }

    /// The weighted mean of a part of the update, whose first word is `first`.
    ///
    /// # Errors
    /// A coordinate that the sites cannot give.
    pub fn mean(&self, first: usize, part: &Words) -> Result<Vec<f32>, Implausible> {
        let factor = match self.encoding {
            Encoding::Weighted { bound, grid, .. } => bound / grid as f64 / self.weight as f64,
            Encoding::Lattice { .. } => 1.0 / self.sites as f64,
        };
        let values = self.checked(first, part);
        (values.map(|value| value.map(|value| (value as f64 * factor) as f32))).collect()
    }

    /// The sum of a part of the update in grid or lattice units.
    ///
    /// # Errors
    /// A coordinate that the sites cannot give.
    pub fn units(&self, first: usize, part: &Words) -> Result<Vec<i64>, Implausible> {
        self.checked(first, part).collect()
    }

    fn checked<'a>(
        &self,
        first: usize,
        part: &'a Words,
    ) -> impl Iterator<Item = Result<i64, Implausible>> + 'a {
        let most = match self.encoding {
            Encoding::Weighted { grid, .. } => self.weight.saturating_mul(grid),
            Encoding::Lattice { limit } => self.sites.saturating_mul(limit),
        };
        let end = self.main;
        (first..).zip(part.signed()).map(move |(position, value)| {
            if position < end && value.unsigned_abs() <= most {
                Ok(value)
            } else {
                Err(Implausible { position })
            }
        })
    }
}

//! The area under the ROC curve (AUC), from histograms of scores for either class.

use super::{
    ReleaseError,
    counts::{noisy_counts, tally},
};
use crate::{OutOfRange, accountant::Charge, ledger::Grant};

/// Number of equal bins between the scores 0 and 1: from 2 to 1000. It is public.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ScoreBins(u16);

impl TryFrom<u16> for ScoreBins {
    type Error = OutOfRange;
    fn try_from(bins: u16) -> Result<Self, OutOfRange> {
        match bins {
            2..=1000 => Ok(Self(bins)),
            _ => Err(OutOfRange::new(
                "number of score bins",
                "from 2 to 1000",
                bins,
            )),
        }
    }
}

impl ScoreBins {
    /// Positives first, then negatives. A score that is no number counts against the model: in the
    /// lowest bin for a positive, in the highest for a negative.
    fn cell(self, score: f64, is_positive: bool) -> usize {
        let bins = usize::from(self.0);
        let bin = match score.is_nan() {
            true if is_positive => 0,
            true => bins - 1,
            // The cast takes what is below 0 to 0.
            false => ((score * bins as f64) as usize).min(bins - 1),
        };
        if is_positive { bin } else { bins + bin }
    }
}

/// Score histograms that may leave, and what they cost together.
#[derive(Debug, Clone, PartialEq)]
pub struct NoisyRanking {
    /// Positive units in each bin of scores, lowest first, with noise.
    pub positives: Vec<i64>,
    /// Negative units in each bin, with noise.
    pub negatives: Vec<i64>,
    /// Standard deviation of the noise of each count.
    pub deviation: f64,
    /// What the ledger was charged.
    pub charge: Charge,
}

impl NoisyRanking {
    /// The probability that a positive scores higher than a negative, those in one bin counted half.
    /// `None` where noise left no unit of either class.
    ///
    /// Off the exact one by at most [`binning_error`](Self::binning_error) and by noise with about
    /// the [`noise_deviation`](Self::noise_deviation).
    pub fn auc(&self) -> Option<f64> {
        let (positives, negatives) = self.totals()?;
        let below = shares_below(&self.negatives, negatives);
        let pairs = self.positives.iter().zip(below);
        let auc: f64 = pairs.map(|(&count, below)| count as f64 * below).sum();
        // Counts below 0 stay: without them the noise of empty bins would add up to one side.
        Some((auc / positives).clamp(0.0, 1.0))
    }

    /// Most by which bins move the AUC: half the share of pairs that stand in one bin, as far as
    /// the noisy counts tell. `None` where [`auc`](Self::auc) is.
    pub fn binning_error(&self) -> Option<f64> {
        let (positives, negatives) = self.totals()?;
        let pairs = self.positives.iter().zip(&self.negatives);
        let same: f64 = pairs.map(|(&p, &n)| p as f64 * n as f64).sum();
        Some((0.5 * same / positives / negatives).max(0.0))
    }

    /// Standard deviation that the noise gives the AUC: first order in noise over counts, and the
    /// product of both classes' noise.
    pub fn noise_deviation(&self) -> Option<f64> {
        let (positives, negatives) = self.totals()?;
        let auc = self.auc()?;
        let squares = |shares: Vec<f64>, middle: f64| -> f64 {
            shares.iter().map(|share| (share - middle).powi(2)).sum()
        };
        let by_positives = squares(shares_below(&self.negatives, negatives), auc);
        // Positives above a bin of negatives are those that are not below it.
        let by_negatives = squares(shares_below(&self.positives, positives), 1.0 - auc);
        let bins = self.positives.len() as f64;
        let products = bins * (bins - 0.5) / 2.0 * self.deviation.powi(2);
        let products = products / positives.powi(2) / negatives.powi(2);
        let first = by_positives / positives.powi(2) + by_negatives / negatives.powi(2);
        Some(self.deviation * (first + products).sqrt())
    }

    fn totals(&self) -> Option<(f64, f64)> {
        let total = |counts: &[i64]| counts.iter().map(|&count| count as f64).sum::<f64>();
        let (positives, negatives) = (total(&self.positives), total(&self.negatives));
        (positives > 0.0 && negatives > 0.0).then_some((positives, negatives))
    }
}

/// For each bin the share of all that stands below it, with half of its own.
fn shares_below(counts: &[i64], total: f64) -> Vec<f64> {
    let mut below = 0.0;
    let share = |&count: &i64| {
        let here = below + count as f64 / 2.0;
        below += count as f64;
        here / total
    };
    counts.iter().map(share).collect()
}

/// Releases score histograms of both classes, for the AUC: **one score for each privacy unit**,
/// from 0 to 1, with whether it is positive. Scores beyond count in the outermost bins. Each unit
/// stands in one cell of one class, so both histograms cost as much as one count.
///
/// # Errors
/// A grant for something else.
pub fn noisy_auc(
    grant: Grant,
    bins: ScoreBins,
    units: impl IntoIterator<Item = (f64, bool)>,
) -> Result<NoisyRanking, ReleaseError> {
    let cells = units
        .into_iter()
        .map(|(score, is_positive)| bins.cell(score, is_positive));
    let counts = noisy_counts(grant, &tally(2 * usize::from(bins.0), cells))?;
    let (positives, negatives) = counts.values.split_at(usize::from(bins.0));
    Ok(NoisyRanking {
        positives: positives.to_vec(),
        negatives: negatives.to_vec(),
        deviation: counts.deviation,
        charge: counts.charge,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::release::tests::{gaussian, grant, pure};

    fn bins(bins: u16) -> ScoreBins {
        bins.try_into().expect("within range")
    }

    /// Scores whose classes overlap, without a random generator.
    fn units() -> Vec<(f64, bool)> {
        let score = |at: u32, shift: f64| (f64::from(at * 7919 % 1000) / 1000.0 * 0.7 + shift, at);
        let positives = (0..400).map(|at| (score(at, 0.3).0, true));
        let negatives = (0..600).map(|at| (score(at, 0.0).0, false));
        positives.chain(negatives).collect()
    }

    /// By its definition, over all pairs.
    fn exact(units: &[(f64, bool)]) -> f64 {
        let of = |class| {
            units
                .iter()
                .filter(move |(_, c)| *c == class)
                .map(|(s, _)| *s)
        };
        let pairs = of(true).flat_map(|p| of(false).map(move |n| (p, n)));
        let (mut won, mut all) = (0.0, 0.0);
        for (positive, negative) in pairs {
            won += if positive > negative {
                1.0
            } else {
                0.5 * f64::from(u8::from(positive == negative))
            };
            all += 1.0;
        }
        won / all
    }

    fn without_noise(count: u16, units: &[(f64, bool)]) -> NoisyRanking {
        let cells = units
            .iter()
            .map(|&(score, class)| bins(count).cell(score, class));
        let counts = tally(2 * usize::from(count), cells);
        let counts: Vec<_> = counts.into_iter().map(|count| count as i64).collect();
        let (positives, negatives) = counts.split_at(usize::from(count));
        NoisyRanking {
            positives: positives.to_vec(),
            negatives: negatives.to_vec(),
            deviation: 0.0,
            charge: pure(1.0),
        }
    }

    #[test]
    fn bins_move_the_auc_by_no_more_than_stated() {
        let (units, exact) = (units(), exact(&units()));
        for count in [2, 5, 20, 1000] {
            let ranking = without_noise(count, &units);
            let (auc, error) = ranking.auc().zip(ranking.binning_error()).expect("units");
            assert!(
                (auc - exact).abs() <= error + 1e-12,
                "{auc} for {exact} in {count} bins"
            );
            assert_eq!(ranking.noise_deviation(), Some(0.0));
        }
        let by_hand = [(0.9, true), (0.1, false), (0.4, true), (0.45, false)];
        assert_eq!(without_noise(10, &by_hand).auc(), Some(0.875));
    }

    /// 3000 releases: the mean square of the error in deviations is 1 within a tenth for the second
    /// order and 5 standard errors of a mean square with kurtosis of at most 6 (0.2). A false alarm
    /// in a million runs.
    #[test]
    fn the_noise_of_an_auc_has_the_deviation_stated() {
        let units = units();
        let binned = without_noise(20, &units).auc().expect("units");
        for charge in [pure(1.0), gaussian(2.0)] {
            let mut squares = 0.0;
            for _ in 0..3000 {
                let ranking = noisy_auc(grant(charge), bins(20), units.clone()).expect("paid");
                let found = ranking.auc().zip(ranking.noise_deviation());
                let (auc, deviation) = found.expect("units");
                squares += ((auc - binned) / deviation).powi(2) / 3000.0;
            }
            assert!((squares - 1.0).abs() < 0.3, "{squares}");
        }
    }

    #[test]
    fn odd_scores_have_a_place_and_no_unit_has_no_auc() {
        let cell = |score, class| bins(10).cell(score, class);
        assert_eq!(
            [f64::NAN, -5.0, 0.05].map(|score| cell(score, true)),
            [0, 0, 0]
        );
        assert_eq!(
            [f64::NAN, 1.0, 1e300].map(|score| cell(score, false)),
            [19, 19, 19]
        );
        let infinite = [f64::INFINITY, f64::NEG_INFINITY].map(|score| cell(score, true));
        assert_eq!(infinite, [9, 0]);
        let empty = noisy_auc(grant(pure(60.0)), bins(2), []).expect("paid");
        assert_eq!((empty.auc(), empty.noise_deviation()), (None, None));
        for bad in [0, 1, 1001] {
            assert!(ScoreBins::try_from(bad).is_err());
        }
    }
}

//! Probabilities of the binomial law, from ratios of neighbours: no gamma function, no logarithm.

/// `P[Bin(n, p) = k]` for a run of `k` around the mode.
pub(crate) struct Binomial {
    first: u64,
    probabilities: Vec<f64>,
}

impl Binomial {
    /// Everything that `f64` can hold, so that tails of 1e-300 keep their digits. `odds` are
    /// `p / (1-p)`, finite and above 0.
    pub(crate) fn whole(n: u64, odds: f64) -> Self {
        Self::new(n, odds, 0.0)
    }

    /// The part that matters to a sum of probabilities: about `√n` terms.
    pub(crate) fn bulk(n: u64, odds: f64) -> Self {
        Self::new(n, odds, 1e-24)
    }

    /// Terms down to `least` of the largest one.
    fn new(n: u64, odds: f64, least: f64) -> Self {
        let p = odds / (1.0 + odds);
        let mode = (((n as f64 + 1.0) * p) as u64).min(n);
        // P[k+1] / P[k] = (n-k) / (k+1) · odds. Terms fall on both sides of the mode.
        let mut below = Vec::new();
        let mut term = 1.0;
        for k in (0..mode).rev() {
            term *= (k + 1) as f64 / ((n - k) as f64 * odds);
            if term <= least {
                break;
            }
            below.push(term);
        }
        let first = mode - below.len() as u64;
        let mut terms: Vec<f64> = below.into_iter().rev().chain([1.0]).collect();
        term = 1.0;
        for k in mode..n {
            term *= (n - k) as f64 / (k + 1) as f64 * odds;
            if term <= least {
                break;
            }
            terms.push(term);
        }
        let total = sum(&terms);
        terms.iter_mut().for_each(|term| *term /= total);
        Self {
            first,
            probabilities: terms,
        }
    }

    /// `P[Bin = k]`.
    pub(crate) fn equal(&self, k: u64) -> f64 {
        let at = k.checked_sub(self.first).map(|at| at as usize);
        at.and_then(|at| self.probabilities.get(at))
            .map_or(0.0, |probability| *probability)
    }

    /// `P[Bin ≥ k]`.
    pub(crate) fn at_least(&self, k: u64) -> f64 {
        let start = (k.saturating_sub(self.first) as usize).min(self.probabilities.len());
        sum(&self.probabilities[start..]).min(1.0)
    }

    /// `P[Bin ≤ k]`.
    pub(crate) fn at_most(&self, k: u64) -> f64 {
        let Some(last) = k.checked_sub(self.first) else {
            return 0.0;
        };
        let end = (last as usize + 1).min(self.probabilities.len());
        sum(&self.probabilities[..end]).min(1.0)
    }
}

/// Small terms first: they stand at the ends.
fn sum(terms: &[f64]) -> f64 {
    let (left, right) = terms.split_at(terms.len() / 2);
    left.iter().sum::<f64>() + right.iter().rev().sum::<f64>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_cases_are_those_computed_by_hand() {
        let law = Binomial::whole(3, 0.5); // p = 1/3
        let expected = [8.0, 12.0, 6.0, 1.0].map(|ways| ways / 27.0);
        for (k, expected) in expected.into_iter().enumerate() {
            assert!((law.equal(k as u64) - expected).abs() < 1e-15);
        }
        assert!((law.at_least(2) - 7.0 / 27.0).abs() < 1e-15);
        assert!((law.at_most(0) - 8.0 / 27.0).abs() < 1e-15);
        assert_eq!((law.at_least(0), law.at_most(3)), (1.0, 1.0));
        assert_eq!((law.equal(4), law.at_least(4)), (0.0, 0.0));
    }

    #[test]
    fn deep_tails_keep_their_digits() {
        let law = Binomial::whole(500, 1.0);
        assert!((law.equal(500) / 0.5_f64.powi(500) - 1.0).abs() < 1e-11);
        assert!((law.equal(499) / (500.0 * 0.5_f64.powi(500)) - 1.0).abs() < 1e-11);
    }

    #[test]
    fn the_bulk_of_a_large_law_is_short_and_sums_to_one() {
        let law = Binomial::bulk(1_000_000_000, 0.25);
        assert!(law.probabilities.len() < 400_000);
        assert!((law.at_most(200_000_000) - 0.5).abs() < 1e-4);
        assert_eq!(law.at_most(100_000_000), 0.0);
    }
}

//! Sums and means of one bounded figure for each privacy unit.

use super::{ReleaseError, noise};
use crate::{OutOfRange, accountant::Charge, ledger::Grant};

/// Whole points that a unit splits between the upper and the lower bound: a figure is rounded to
/// the nearest of 2²⁰ + 1 places between them.
pub const POINTS: u32 = 1 << 20;

/// Largest size of a bound.
const LARGEST: f64 = 1e12;

/// Bounds to which a figure is clamped: finite, from -1e12 to 1e12, the lower below the upper. They
/// are public: of a plan or of the world, never read off the data.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bounds {
    lower: f64,
    upper: f64,
}

impl Bounds {
    /// From 0 to 1.
    pub(super) const UNIT: Self = Self {
        lower: 0.0,
        upper: 1.0,
    };

    /// From 0 to 2.
    pub(super) const BRIER: Self = Self {
        lower: 0.0,
        upper: 2.0,
    };

    /// # Errors
    /// Numbers that are no bounds.
    pub fn new(lower: f64, upper: f64) -> Result<Self, OutOfRange> {
        // Comparisons are false for NaN.
        if lower >= -LARGEST && upper <= LARGEST && lower < upper {
            Ok(Self { lower, upper })
        } else {
            let allowed = "from -1e12 to 1e12, the lower below the upper";
            let found = format!("{lower} and {upper}");
            Err(OutOfRange::new("bounds", allowed, found))
        }
    }

    /// The lower bound.
    pub fn lower(&self) -> f64 {
        self.lower
    }

    /// The upper bound.
    pub fn upper(&self) -> f64 {
        self.upper
    }

    /// Points that go to the upper bound; the rest goes to the lower one. What is no number counts
    /// as the upper bound: of a loss that is the worst, so nothing looks better for a failure.
    fn points(&self, figure: f64) -> i64 {
        let share = match figure.is_nan() {
            true => 1.0,
            false => {
                (figure.clamp(self.lower, self.upper) - self.lower) / (self.upper - self.lower)
            }
        };
        // From 0 to 1, so the cast is exact.
        (share * f64::from(POINTS)).round() as i64
    }

    /// Points of all units at the upper and at the lower bound. Sums of numbers ≥ 0 saturate in
    /// the same way in every order, and a saturated sum moves by no more than an exact one.
    fn table(&self, figures: impl IntoIterator<Item = f64>) -> Vec<i64> {
        let (mut upper, mut lower) = (0_i64, 0_i64);
        for figure in figures {
            let points = self.points(figure);
            upper = upper.saturating_add(points);
            lower = lower.saturating_add(i64::from(POINTS) - points);
        }
        vec![upper, lower]
    }
}

/// A sum, a count and a mean that may leave, and what they cost together.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct NoisySum {
    bounds: Bounds,
    /// Units at the upper bound, and at the lower one, that have the same sum and count.
    at_upper: f64,
    at_lower: f64,
    deviation: f64,
    charge: Charge,
}

impl NoisySum {
    /// Number of units, with noise: may be below 0.
    pub fn count(&self) -> f64 {
        self.at_upper + self.at_lower
    }

    /// Sum of their figures, with noise.
    pub fn sum(&self) -> f64 {
        self.at_upper * self.bounds.upper + self.at_lower * self.bounds.lower
    }

    /// Mean of their figures, clamped to the bounds. `None` where noise left no unit.
    pub fn mean(&self) -> Option<f64> {
        (self.count() > 0.0).then(|| {
            let share = (self.at_upper / self.count()).clamp(0.0, 1.0);
            self.bounds.upper * share + self.bounds.lower * (1.0 - share)
        })
    }

    /// Standard deviation that the noise gives the mean, to first order in noise over count.
    pub fn mean_deviation(&self) -> Option<f64> {
        let mean = self.mean()?;
        let width = self.bounds.upper - self.bounds.lower;
        let share = (mean - self.bounds.lower) / width;
        Some(width * self.deviation * (1.0 - share).hypot(share) / self.count())
    }

    /// What the ledger was charged.
    pub fn charge(&self) -> Charge {
        self.charge
    }
}

/// Releases the sum and the mean of **one figure for each privacy unit**, clamped to public bounds;
/// what is no number counts as the upper one.
///
/// Sum and count are charged jointly and cost as much as one count: each unit splits [`POINTS`]
/// between the two bounds, so it moves the pair of totals by exactly [`POINTS`] in L1 and by at most
/// that in L2. Rounding moves a figure by at most (upper - lower)/2²¹.
///
/// # Errors
/// A grant for something else.
pub fn noisy_sum(
    grant: Grant,
    bounds: Bounds,
    figures: impl IntoIterator<Item = f64>,
) -> Result<NoisySum, ReleaseError> {
    let noised = noise::add(grant, &bounds.table(figures), POINTS)?;
    let units = |cell: usize| noised.cells[cell] as f64 / f64::from(POINTS);
    Ok(NoisySum {
        bounds,
        at_upper: units(0),
        at_lower: units(1),
        deviation: noised.deviation / f64::from(POINTS),
        charge: noised.charge,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::release::tests::{distances, gaussian, grant, pure};

    fn bounds(lower: f64, upper: f64) -> Bounds {
        Bounds::new(lower, upper).expect("sound bounds")
    }

    #[test]
    fn bounds_that_are_none_are_refused() {
        let (nan, infinity) = (f64::NAN, f64::INFINITY);
        for (lower, upper) in [
            (1.0, 1.0),
            (2.0, 1.0),
            (nan, 1.0),
            (0.0, nan),
            (0.0, infinity),
            (-infinity, 0.0),
            (0.0, 1e13),
        ] {
            assert!(Bounds::new(lower, upper).is_err(), "{lower} {upper}");
        }
    }

    #[test]
    fn figures_are_clamped_and_what_is_no_number_is_the_worst_loss() {
        let bounds = bounds(-1.0, 3.0);
        let points = |figure| bounds.points(figure);
        let all = i64::from(POINTS);
        let odd = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e300, -1e300];
        assert_eq!(odd.map(points), [all, all, 0, all, 0]);
        assert_eq!(
            [-1.0, 3.0, 1.0, 0.0].map(points),
            [0, all, all / 2, all / 4]
        );
    }

    /// Sixteen deviations: once in 10⁹ runs for Laplace noise, never for Gaussian.
    #[test]
    fn sum_count_and_mean_are_near_the_truth_and_no_figure_is_none() {
        let figures = || (0..5000).map(|at| f64::from(at % 5));
        for charge in [pure(1.0), gaussian(1.5)] {
            let found = noisy_sum(grant(charge), bounds(0.0, 10.0), figures()).expect("paid");
            assert_eq!(found.charge(), charge);
            assert!((found.count() - 5000.0).abs() < 32.0, "{found:?}");
            assert!((found.sum() - 10_000.0).abs() < 320.0, "{found:?}");
            let (mean, deviation) = found.mean().zip(found.mean_deviation()).expect("units");
            assert!((mean - 2.0).abs() < 16.0 * deviation, "{found:?}");
            assert!((1e-3..1e-2).contains(&deviation), "{deviation}");
        }
        let none = noisy_sum(grant(pure(60.0)), bounds(0.0, 1.0), []).expect("paid");
        assert!(
            none.sum().abs() < 1.0 && none.count().abs() < 1.0,
            "{none:?}"
        );
        assert_eq!(none.mean().is_some(), none.count() > 0.0);
    }

    /// 4000 means of the same figures: their spread is the one stated, to 5 standard errors of a
    /// mean square with kurtosis of at most 6. A false alarm in a million runs.
    #[test]
    fn the_noise_of_a_mean_has_the_deviation_stated() {
        let figures = || (0..400).map(|at| f64::from(u8::from(at % 4 == 0)));
        let mut squares = 0.0;
        for _ in 0..4000 {
            let found = noise::add(grant(pure(1.0)), &Bounds::UNIT.table(figures()), POINTS);
            let cells = found.expect("paid").cells;
            let (upper, lower) = (cells[0] as f64, cells[1] as f64);
            let stated = NoisySum {
                bounds: Bounds::UNIT,
                at_upper: upper / f64::from(POINTS),
                at_lower: lower / f64::from(POINTS),
                deviation: 2_f64.sqrt(),
                charge: pure(1.0),
            };
            let (mean, deviation) = stated.mean().zip(stated.mean_deviation()).expect("units");
            squares += ((mean - 0.25) / deviation).powi(2) / 4000.0;
        }
        let error = 5.0 * (5.0_f64 / 4000.0).sqrt();
        assert!((squares - 1.0).abs() < error + 0.02, "{squares}");
    }

    proptest! {
        /// Neighbours: one unit added at any place, whatever its figure.
        #[test]
        fn one_unit_moves_the_table_by_no_more_than_its_points(
            mut figures in prop::collection::vec(any::<f64>(), 0..40),
            figure in any::<f64>(), place in any::<prop::sample::Index>(),
            lower in -1e12..1e12_f64, width in 1e-3..1e12_f64,
        ) {
            let Ok(bounds) = Bounds::new(lower, (lower + width).min(1e12)) else {
                return Ok(()); // next to the largest bound
            };
            let without = bounds.table(figures.iter().copied());
            let at = place.index(figures.len() + 1);
            figures.insert(at, figure);
            let (l1, l2_squared) = distances(&bounds.table(figures), &without);
            let points = i128::from(POINTS);
            prop_assert_eq!(l1, points);
            prop_assert!(l2_squared <= points * points);
        }
    }

    #[test]
    fn totals_beyond_63_bits_saturate_and_move_no_further() {
        let near = i64::MAX - 5;
        assert_eq!(near.saturating_add(i64::from(POINTS)), i64::MAX);
        let extreme = bounds(-1e12, 1e12);
        let found = noisy_sum(grant(pure(1.0)), extreme, vec![1e300; 1000]).expect("paid");
        assert!((found.sum() / 1e15 - 1.0).abs() < 0.1, "{found:?}");
    }
}

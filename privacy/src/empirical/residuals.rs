//! The noise itself, where whoever audits knows the sum below it.

use super::{Irregularity, UNLIKELY, UNLIKELY_AMONG_MANY, chi_squared_errors};

/// Coordinates of a step that are kept to compare it with the others.
const KEPT: usize = 2048;

/// Steps that are compared with one another: half a million pairs.
const COMPARED: usize = 1000;

/// Fewest coordinates with which equal noise stands out from chance among that many pairs.
const FEWEST: usize = 100;

/// Noise of many steps in units of the deviation that was charged: released minus known, over σC.
///
/// It should be independent with mean 0 and variance 1. With d coordinates a step and T steps the
/// deviation is known to one part in √(2dT).
#[derive(Debug, Clone, Default)]
pub struct Residuals {
    steps: u32,
    count: f64,
    squares: f64,
    /// The step whose mean square is furthest from 1, and how far in standard errors.
    furthest: Option<(u32, f64)>,
    kept: Vec<Vec<f32>>,
    /// Of the pair of steps that are most alike, and how far from 0 in standard errors.
    most_alike: Option<(f64, f64)>,
}

impl Residuals {
    /// Adds the noise of one step.
    pub fn add(&mut self, step: &[f64]) {
        self.steps += 1;
        if step.is_empty() {
            return;
        }
        let squares = step.iter().map(|x| x * x).sum::<f64>();
        let count = step.len() as f64;
        self.count += count;
        self.squares += squares;
        let errors = chi_squared_errors(squares / count, count);
        if self
            .furthest
            .is_none_or(|(_, furthest)| errors.abs() > furthest.abs())
        {
            self.furthest = Some((self.steps, errors));
        }
        self.compare(step);
    }

    fn compare(&mut self, step: &[f64]) {
        if self.kept.len() == COMPARED || step.len() < FEWEST {
            return;
        }
        let step: Vec<f32> = step.iter().take(KEPT).map(|&x| x as f32).collect();
        for other in &self.kept {
            let correlation = correlation(&step, other);
            let errors = correlation * (step.len() as f64).sqrt();
            if self
                .most_alike
                .is_none_or(|(_, most)| errors.abs() > most.abs())
            {
                self.most_alike = Some((correlation, errors));
            }
        }
        self.kept.push(step);
    }

    /// Steps added.
    pub fn steps(&self) -> u32 {
        self.steps
    }

    /// Deviation found over deviation charged, with its standard error; none before the first
    /// coordinate.
    pub fn deviation(&self) -> Option<(f64, f64)> {
        let deviation = (self.squares / self.count).sqrt();
        (self.count > 0.0).then(|| (deviation, (0.5 / self.count).sqrt()))
    }

    /// Bounds of the deviation over that charged, wrong for one audit in a million: the charged one
    /// is outside exactly where [`irregularities`](Self::irregularities) names the total. None
    /// before the first coordinate; with fewer than 6 there is no upper bound.
    pub fn deviation_bounds(&self) -> Option<(f64, f64)> {
        let (ratio, _) = self.deviation()?;
        // Where the cube root of `chi_squared_errors` is that many errors away, solved for the
        // deviation.
        let width = 2.0 / (9.0 * self.count);
        let bound = |errors: f64| {
            let root = 1.0 - width + errors * width.sqrt();
            match root > 0.0 {
                true => ratio / root.powf(1.5),
                false => f64::INFINITY,
            }
        };
        Some((bound(UNLIKELY), bound(-UNLIKELY)))
    }

    /// Correlation of the two steps that are most alike; none where there are too few steps, or
    /// fewer than 100 coordinates.
    pub fn largest_correlation(&self) -> Option<f64> {
        self.most_alike.map(|(correlation, _)| correlation)
    }

    /// What is not as charged. Sound noise is called irregular less than once in a
    /// million audits.
    pub fn irregularities(&self) -> Vec<Irregularity> {
        let total = self.deviation().and_then(|(ratio, _)| {
            let errors = chi_squared_errors(ratio * ratio, self.count);
            is_far(errors, UNLIKELY).then_some(Irregularity::Deviation { ratio, errors })
        });
        let step = self.furthest.and_then(|(step, errors)| {
            let found = Irregularity::StepDeviation { step, errors };
            is_far(errors, UNLIKELY_AMONG_MANY).then_some(found)
        });
        let repeated = self.most_alike.and_then(|(correlation, errors)| {
            let found = Irregularity::Repeated {
                correlation,
                errors,
            };
            is_far(errors, UNLIKELY_AMONG_MANY).then_some(found)
        });
        [total, step, repeated].into_iter().flatten().collect()
    }
}

fn is_far(errors: f64, limit: f64) -> bool {
    errors.is_nan() || errors.abs() > limit
}

/// Of two vectors whose mean is known to be 0; 0 where one has no length.
fn correlation(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
    let lengths = f64::from(dot(a, a)).sqrt() * f64::from(dot(b, b)).sqrt();
    if lengths > 0.0 {
        f64::from(dot(a, b)) / lengths
    } else {
        0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        keystream::Pages,
        noise::{LATTICE_DEVIATION, LatticeNoise},
    };

    fn stream(key: u8) -> LatticeNoise {
        LatticeNoise::new(Pages::new(&[key; 32]))
    }

    fn noise(source: &mut LatticeNoise, length: usize) -> Vec<f64> {
        let mut draws = vec![0; length];
        source.add(&mut draws);
        let scaled = |draw| draw as f64 / LATTICE_DEVIATION as f64;
        draws.into_iter().map(scaled).collect()
    }

    fn residuals(change: impl Fn(usize, &mut Vec<f64>)) -> Residuals {
        let mut bits = stream(4);
        let mut residuals = Residuals::default();
        for at in 0..30 {
            let mut step = noise(&mut bits, 3000);
            change(at, &mut step);
            residuals.add(&step);
        }
        residuals
    }

    #[test]
    fn the_noise_of_this_crate_is_regular() {
        let residuals = residuals(|_, _| {});
        assert_eq!(residuals.irregularities(), []);
        let (deviation, error) = residuals.deviation().expect("some noise");
        assert!((deviation - 1.0).abs() < 4.0 * error, "{deviation} {error}");
        assert!(
            residuals
                .largest_correlation()
                .is_some_and(|c| c.abs() < 0.15)
        );
    }

    #[test]
    fn a_tenth_too_little_is_found_in_all_steps_and_too_little_in_one_step() {
        let weak = residuals(|_, step| step.iter_mut().for_each(|x| *x *= 0.9));
        let found = weak.irregularities();
        assert!(matches!(found[0], Irregularity::Deviation { ratio, .. } if ratio < 0.91));
        let once = residuals(|at, step| {
            if at == 17 {
                step.iter_mut().for_each(|x| *x *= 0.5);
            }
        });
        let found = once.irregularities();
        let is_it =
            |found: &Irregularity| matches!(found, Irregularity::StepDeviation { step: 18, .. });
        assert!(found.iter().any(is_it), "{found:?}");
    }

    #[test]
    fn the_charged_deviation_is_out_of_bounds_exactly_where_it_is_irregular() {
        for scale in [0.5, 0.98, 0.989, 0.995, 1.0, 1.005, 1.012, 1.03] {
            let scaled = residuals(|_, step| step.iter_mut().for_each(|x| *x *= scale));
            let (low, high) = scaled.deviation_bounds().expect("some noise");
            let is_named = scaled
                .irregularities()
                .iter()
                .any(|found| matches!(found, Irregularity::Deviation { .. }));
            assert_eq!(low > 1.0 || high < 1.0, is_named, "{scale}: {low} {high}");
            assert!(low < scale && scale < high, "{scale}: {low} {high}");
        }
        let mut few = Residuals::default();
        assert_eq!(few.deviation_bounds(), None);
        few.add(&[1.0, -1.0]);
        assert_eq!(
            few.deviation_bounds().map(|(_, high)| high),
            Some(f64::INFINITY)
        );
    }

    #[test]
    fn noise_that_comes_twice_is_found_even_with_its_sign_turned() {
        for sign in [1.0_f64, -1.0] {
            let first = noise(&mut stream(9), 3000);
            let twice = residuals(|at, step| match at {
                3 => step.clone_from(&first),
                20 => *step = first.iter().map(|x| sign * x).collect(),
                _ => {}
            });
            let found = twice.irregularities();
            let is_it = |found: &Irregularity| matches!(found, Irregularity::Repeated { correlation, .. } if correlation.abs() > 0.99);
            assert!(found.iter().any(is_it), "{found:?}");
        }
    }

    #[test]
    fn nothing_and_no_numbers_are_told_apart_from_noise() {
        let mut none = Residuals::default();
        assert_eq!((none.deviation(), none.irregularities()), (None, vec![]));
        none.add(&[]);
        assert_eq!((none.steps(), none.irregularities()), (1, vec![]));
        let broken = residuals(|at, step| step[0] = if at == 5 { f64::NAN } else { 0.0 });
        assert!(!broken.irregularities().is_empty());
    }
}

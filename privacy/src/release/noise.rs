//! The one place where a small release gets its noise, from OpenDP.

use opendp::{
    core::Measure,
    core::Measurement,
    domains::{AtomDomain, VectorDomain},
    error::Fallible,
    measurements::{make_gaussian, make_laplace},
    measures::{MaxDivergence, ZeroConcentratedDivergence},
    metrics::{L1Distance, L2Distance},
};

use super::{POINTS, ReleaseError};
use crate::{accountant::Charge, ledger::Grant};

type Tables = VectorDomain<AtomDomain<i64>>;
type Mechanism<M, D> = Measurement<Tables, M, D, Vec<i64>>;

/// A table with noise.
#[derive(Debug)]
pub(super) struct Noised {
    /// Saturated at the ends of `i64`.
    pub(super) cells: Vec<i64>,
    /// What the ledger was charged.
    pub(super) charge: Charge,
    /// Standard deviation of the noise of a cell.
    pub(super) deviation: f64,
}

/// Adds the noise that a grant pays for to a table, over whose cells each privacy unit spreads at
/// most `points` whole numbers ≥ 0: the most that one unit adds in L1, and so in L2.
pub(super) fn add(grant: Grant, table: &Vec<i64>, points: u32) -> Result<Noised, ReleaseError> {
    let charge = grant.charge();
    let noised = match charge {
        _ if grant.is_for_training() => None,
        Charge::Pure {
            epsilon,
            releases: 1,
        } => Some(with_laplace(table, points, epsilon.value())),
        Charge::SampledGaussian { q, sigma, steps: 1 } if q.value() >= 1.0 => {
            Some(with_gaussian(table, points, sigma.value()))
        }
        _ => None,
    };
    let Some(noised) = noised else {
        return Err(ReleaseError::NotPaid {
            sequence: grant.sequence(),
        });
    };
    let (cells, deviation) =
        noised.map_err(|error| ReleaseError::OpenDp(error.to_string().into()))?;
    Ok(Noised {
        cells,
        charge,
        deviation,
    })
}

fn with_laplace(table: &Vec<i64>, points: u32, epsilon: f64) -> Fallible<(Vec<i64>, f64)> {
    let (measurement, scale) = laplace(points, epsilon)?;
    // Of the discrete Laplace: √(2p)/(1-p) with p = e^(-1/scale).
    let deviation = (2.0 * (-1.0 / scale).exp()).sqrt() / -(-1.0 / scale).exp_m1();
    Ok((measurement.invoke(table)?, deviation))
}

/// Privacy loss distributions know only the continuous Gaussian. Noise on a lattice of whole units
/// may cost more than that at some ε; on one of [`POINTS`] for a unit, with the result rounded, it is
/// next to it: see the [`accountant`](crate::accountant).
fn with_gaussian(table: &[i64], points: u32, sigma: f64) -> Fallible<(Vec<i64>, f64)> {
    let finer = i64::from((POINTS / points).max(1));
    let (measurement, scale) = gaussian(points * finer as u32, sigma)?;
    // What saturates moves by no more than what does not.
    let fine = table
        .iter()
        .map(|cell| cell.saturating_mul(finer))
        .collect();
    let noised = measurement.invoke(&fine)?;
    let rounded = |cell: i64| cell.saturating_add(finer / 2).div_euclid(finer);
    let rounding = if finer > 1 { 1.0 / 12.0 } else { 0.0 };
    let scale = scale / finer as f64;
    let deviation = (scale * scale + rounding).sqrt();
    Ok((noised.into_iter().map(rounded).collect(), deviation))
}

/// Discrete Laplace noise that costs `epsilon` by OpenDP's own map, and its scale.
fn laplace(
    points: u32,
    epsilon: f64,
) -> Fallible<(Mechanism<L1Distance<i64>, MaxDivergence>, f64)> {
    let make = |scale| make_laplace(tables(), L1Distance::default(), scale, None);
    least(
        make,
        f64::from(points) / epsilon,
        &i64::from(points),
        epsilon,
    )
}

/// Discrete Gaussian noise of `sigma` times the sensitivity. Its concentrated privacy by OpenDP's
/// own map is at most 1/(2σ²), so that its Rényi curve is at most the one charged: α/(2σ²).
fn gaussian(
    points: u32,
    sigma: f64,
) -> Fallible<(Mechanism<L2Distance<f64>, ZeroConcentratedDivergence>, f64)> {
    let make = |scale| make_gaussian(tables(), L2Distance::default(), scale, None);
    // Rounding is less than what the ledger rounds curves up by.
    let rho = 0.5 / sigma / sigma;
    least(make, f64::from(points) * sigma, &f64::from(points), rho)
}

fn tables() -> Tables {
    VectorDomain::new(AtomDomain::default())
}

/// The mechanism of the least scale, from this one on, that costs no more than was paid. OpenDP
/// rounds costs up, and the scale that belongs to a cost may have been rounded down.
fn least<M, D>(
    make: impl Fn(f64) -> Fallible<Mechanism<M, D>>,
    mut scale: f64,
    sensitivity: &M::Distance,
    paid: f64,
) -> Fallible<(Mechanism<M, D>, f64)>
where
    M: opendp::core::Metric + 'static,
    D: Measure<Distance = f64> + 'static,
    (Tables, M): opendp::core::MetricSpace,
{
    loop {
        let measurement = make(scale)?;
        if measurement.map(sensitivity)? <= paid {
            return Ok((measurement, scale));
        }
        scale = scale.next_up();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        keystream::MasterSecret,
        ledger::test_grant,
        release::tests::{gaussian as gaussian_charge, grant, pure},
    };

    const CELLS: usize = 20_000;

    /// Mean and mean square of the noise of many cells.
    fn moments(charge: Charge, points: u32) -> (f64, f64, f64) {
        let noised = add(grant(charge), &vec![1000; CELLS], points).expect("paid");
        let errors: Vec<f64> = noised.cells.iter().map(|&v| (v - 1000) as f64).collect();
        let mean = errors.iter().sum::<f64>() / CELLS as f64;
        let square = errors.iter().map(|e| e * e).sum::<f64>() / CELLS as f64;
        (mean, square, noised.deviation)
    }

    /// Mean and variance within five standard errors; the square of a figure with kurtosis k has
    /// variance k-1. False alarms: about once in a million runs for each of the four.
    #[test]
    fn noise_has_the_deviation_that_was_charged() {
        for (charge, points, variance, kurtosis) in [
            (pure(0.5), 1, 0.5_f64, 6.2),
            (pure(2.0), 1 << 20, 2.0, 6.0),
            (gaussian_charge(3.0), 1, 3.0, 3.0),
            (gaussian_charge(0.7), 1 << 20, 0.7, 3.0),
        ]
        .map(|(charge, points, parameter, kurtosis)| {
            let points_squared = f64::from(points) * f64::from(points);
            let variance = match charge {
                Charge::Pure { .. } => {
                    // 2p/(1-p)², p = e^(-ε/points).
                    let p = (-parameter / f64::from(points)).exp();
                    2.0 * p / (1.0 - p).powi(2)
                }
                // A count is rounded.
                _ if points == 1 => parameter * parameter + 1.0 / 12.0,
                _ => parameter * parameter * points_squared,
            };
            (charge, points, variance, kurtosis)
        }) {
            let (mean, square, deviation) = moments(charge, points);
            let n = CELLS as f64;
            assert!(
                mean.abs() < 5.0 * (variance / n).sqrt(),
                "{mean}, {charge:?}"
            );
            let error = variance * ((kurtosis - 1.0) / n).sqrt();
            assert!(
                (square - variance).abs() < 5.0 * error,
                "{square} for {variance}, {charge:?}"
            );
            let stated = deviation * deviation / variance;
            assert!((stated - 1.0).abs() < 1e-6, "{stated}, {charge:?}");
        }
    }

    /// P[0] of the discrete Laplace is tanh(ε/2); a continuous Laplace, rounded, has 1 - e^(-ε/2).
    /// Five standard errors: a false alarm in a million runs.
    #[test]
    fn laplace_noise_is_the_discrete_one() {
        let noised = add(grant(pure(1.0)), &vec![0; CELLS], 1).expect("paid");
        let zeros = noised.cells.iter().filter(|&&cell| cell == 0).count() as f64;
        let (p, n) = (0.5_f64.tanh(), CELLS as f64);
        assert!(
            (zeros - n * p).abs() < 5.0 * (n * p * (1.0 - p)).sqrt(),
            "{zeros}"
        );
    }

    #[test]
    fn opendp_says_no_more_is_spent_than_was_charged() {
        for at in 0..200 {
            let parameter = 1e-3 * 1.1_f64.powi(at % 100) + f64::from(at) / 977.0;
            for points in [1, 3, 1 << 20] {
                let (mechanism, scale) = laplace(points, parameter).expect("a mechanism");
                let cost = mechanism.map(&i64::from(points)).expect("a cost");
                assert!(cost <= parameter, "{cost} for {parameter}");
                assert!(scale <= f64::from(points) / parameter * (1.0 + 1e-14));

                let (mechanism, scale) = gaussian(points, parameter).expect("a mechanism");
                let rho = mechanism.map(&f64::from(points)).expect("a cost");
                for alpha in [1.5, 8.0, 256.0] {
                    let charged = gaussian_charge(parameter).rdp(alpha);
                    assert!(rho * alpha <= charged, "{rho} at {alpha} for {parameter}");
                }
                assert!(scale <= f64::from(points) * parameter * (1.0 + 1e-14));
            }
        }
    }

    #[test]
    fn a_grant_for_anything_else_releases_nothing() {
        let secret = MasterSecret::random().expect("randomness");
        let twice = |charge: Charge| grant(charge.with_releases(2));
        let sampled = Charge::SampledGaussian {
            q: 0.5.try_into().expect("sound"),
            sigma: 3.0.try_into().expect("sound"),
            steps: 1,
        };
        let laplace = Charge::Laplace {
            epsilon: 1.0.try_into().expect("sound"),
            releases: 1,
        };
        for other in [
            test_grant(0.1, 1.0, 1, &secret),
            test_grant(1.0, 1.0, 1, &secret), // one step of training, and of its secret
            twice(pure(1.0)),
            twice(gaussian_charge(1.0)),
            grant(sampled),
            grant(laplace),
        ] {
            let refused = add(other, &vec![3], 1).expect_err("another kind");
            assert!(matches!(refused, ReleaseError::NotPaid { .. }), "{refused}");
        }
    }

    #[test]
    fn extremes_saturate_and_nothing_overflows() {
        for charge in [
            pure(1e-12),
            pure(1e3),
            gaussian_charge(1e9),
            gaussian_charge(1e-3),
        ] {
            for points in [1, 1 << 20] {
                let table = vec![i64::MAX, 0, i64::MIN];
                let noised = add(grant(charge), &table, points).expect("paid");
                assert_eq!(noised.cells.len(), 3);
                assert!(noised.deviation >= 0.0 && noised.deviation.is_finite());
            }
        }
        let none = add(grant(pure(1.0)), &Vec::new(), 1).expect("paid");
        assert!(none.cells.is_empty());
    }
}

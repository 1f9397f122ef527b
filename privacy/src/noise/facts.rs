//! Numbers for the claims of `docs/noise.md`: on deviations so small that the lattice can be seen,
//! each error is there, and no larger than its bound; at 2²⁹ the same bounds are nothing.

use std::f64::consts::PI;

use super::{DIGIT_BITS, DISTANCE_BITS, LATTICE_DEVIATION};

/// `2·Σ e^(-2π²w²k²)`: by how much a Gaussian of width `w` summed over shifted integers depends on
/// the shift, relative to its mean.
fn ripple(width: f64) -> f64 {
    let terms = (1..20).map(|k| (-2.0 * (PI * width * f64::from(k)).powi(2)).exp());
    2.0 * terms.sum::<f64>()
}

fn gaussian(y: f64, deviation: f64) -> f64 {
    (-(y / deviation).powi(2) / 2.0).exp()
}

/// Probabilities of -reach, …, reach.
fn discrete_gaussian(deviation: f64, reach: i64) -> Vec<f64> {
    let weights: Vec<f64> = (-reach..=reach)
        .map(|y| gaussian(y as f64, deviation))
        .collect();
    let total: f64 = weights.iter().sum();
    weights.iter().map(|weight| weight / total).collect()
}

/// One draw plus `m` times another, against the discrete Gaussian of their joint variance.
fn convolution_distance(width: f64, m: i64) -> f64 {
    let deviation = width * ((1 + m * m) as f64).sqrt();
    let reach = (12.0 * deviation) as i64;
    let small = discrete_gaussian(deviation, reach);
    let far = reach * (1 + m);
    let large = discrete_gaussian(deviation * ((1 + m * m) as f64).sqrt(), far);
    let mut sum = vec![0.0; large.len()];
    for (i, a) in small.iter().enumerate() {
        for (j, b) in small.iter().enumerate() {
            sum[i + m as usize * j] += a * b;
        }
    }
    sum.iter()
        .zip(&large)
        .map(|(p, q)| (p - q).abs())
        .sum::<f64>()
        / 2.0
}

#[test]
fn a_convolution_is_as_near_to_the_ideal_as_its_bound_says() {
    for (width, m) in [(0.5, 4), (0.5, 9), (0.6, 4), (0.8, 4), (0.8, 7)] {
        let (found, bound) = (convolution_distance(width, m), ripple(width));
        assert!(
            found < bound && found > bound / 10.0,
            "{width}, {m}: {found} of {bound}"
        );
    }
}

#[test]
fn the_noise_has_the_stated_deviation_and_distance() {
    // The identity behind the digit's variance, in integers.
    let base = 1_u128 << (2 * DIGIT_BITS);
    let both_levels = (1 + base) * (1 + base * base);
    assert_eq!(both_levels, 1 + base + base.pow(2) + base.pow(3));

    let (deviation, base) = (LATTICE_DEVIATION as f64, base as f64);
    let digit = deviation / ((1.0 + base) * (1.0 + base * base)).sqrt();
    let pair = digit * (1.0 + base).sqrt();
    let widths = [
        digit / (1.0 + base).sqrt(),
        pair / (1.0 + base * base).sqrt(),
    ];
    assert!(
        widths.iter().all(|width| (1.9998..2.0).contains(width)),
        "{widths:?}"
    );
    // Two pairs, then one sum of them; the table's digits are within 2^-117 by its own test.
    let convolutions = 2.0 * ripple(widths[0]) + ripple(widths[1]);
    let total = 4.0 * 2_f64.powi(-117) + convolutions * (1.0 + 1e-9);
    assert!(
        total < 2_f64.powi(-(DISTANCE_BITS as i32)),
        "2^{}",
        total.log2()
    );
}

/// `E[(1-q+q·e^L)^exponent]` for noise on multiples of `step`, `L` the log-ratio of the density
/// shifted by `shift` and itself. Exponent α is for a unit added, 1-α for one removed. A small
/// step is the continuous integral: its trapezoid sum then has no error left.
fn moment(deviation: f64, shift: f64, q: f64, exponent: f64, step: f64) -> f64 {
    let reach = deviation * 14.0 + shift * exponent.abs().max(1.0);
    let points = (reach / step).ceil() as i64;
    let (mut total, mut sum) = (0.0, 0.0);
    for index in -points..=points {
        let y = index as f64 * step;
        let log_ratio = (2.0 * y * shift - shift * shift) / (2.0 * deviation * deviation);
        let weight = gaussian(y, deviation);
        total += weight;
        // In logarithms, where the ratio alone would overflow.
        let log_mixture = (1.0 - q + q * log_ratio.exp()).ln();
        sum += (exponent * log_mixture - (y / deviation).powi(2) / 2.0).exp();
    }
    sum / total
}

/// Relative difference between lattice and continuum.
fn difference(deviation: f64, shift: f64, q: f64, exponent: f64) -> f64 {
    let lattice = moment(deviation, shift, q, exponent, 1.0);
    (lattice / moment(deviation, shift, q, exponent, 1.0 / 64.0) - 1.0).abs()
}

/// The bound η on the relative error of each trapezoid sum, by moving the contour as far as the
/// nearest zero of the mixture, or to where the bound is least.
fn eta(deviation: f64, shift: f64) -> f64 {
    let a = (PI * deviation.powi(2) / shift).min(2.0 * PI * deviation.powi(2));
    let terms = (1..20).map(|k| (-2.0 * PI * a * f64::from(k)).exp());
    ((a / deviation).powi(2) / 2.0).exp() * 2.0 * terms.sum::<f64>()
}

/// What `f64` leaves of a sum of some hundred terms.
const ROUNDING: f64 = 1e-13;

const RATES: [f64; 3] = [0.01, 0.3, 0.9];
const REAL_ORDERS: [f64; 6] = [1.05, 1.5, 2.7, 5.3, 9.9, 17.5];

#[test]
fn at_integer_orders_the_sampled_moment_on_the_lattice_is_the_finite_sum_of_the_continuous_one() {
    for (deviation, shift) in [
        (0.7_f64, 1.0_f64),
        (1.0, 2.0),
        (2.0, 2.0),
        (3.0, 2.0),
        (3.0, 3.0),
    ] {
        for q in RATES {
            for alpha in [2_i32, 3, 5] {
                let mut binomial = 1.0;
                let sum: f64 = (0..=alpha)
                    .map(|k| {
                        let pairs = f64::from(k * (k - 1));
                        let moment = (pairs * (shift / deviation).powi(2) / 2.0).exp();
                        let term = binomial * (1.0 - q).powi(alpha - k) * q.powi(k) * moment;
                        binomial *= f64::from(alpha - k) / f64::from(k + 1);
                        term
                    })
                    .sum();
                let found = moment(deviation, shift, q, f64::from(alpha), 1.0);
                assert!(
                    (found / sum - 1.0).abs() < ROUNDING,
                    "{deviation} {shift} {q} {alpha}"
                );
            }
        }
    }
}

#[test]
fn at_real_orders_it_differs_by_no_more_than_the_bound() {
    let cases = [
        (0.7, 1.0),
        (1.0, 1.0),
        (1.0, 2.0),
        (1.5, 2.0),
        (2.0, 2.0),
        (2.0, 3.0),
        (3.0, 3.0),
    ];
    let mut largest = 0.0_f64;
    for (deviation, shift) in cases {
        let bound = 2.1 * eta(deviation, shift) + ROUNDING;
        for q in RATES {
            for alpha in REAL_ORDERS {
                let found = difference(deviation, shift, q, alpha);
                assert!(
                    found < bound,
                    "{deviation} {shift} {q} {alpha}: {found} of {bound}"
                );
                largest = largest.max(found);
            }
        }
    }
    // On the coarsest lattices the effect is there to be seen.
    assert!(largest > 1e-6, "{largest}");
    // Multiplier 1 at deviations 2 and 3, and the least multiplier that a sum accepts at 2^29.
    assert!(eta(2.0, 2.0) < 1e-14 && eta(3.0, 3.0) < 1e-22);
    assert_eq!(
        eta(LATTICE_DEVIATION as f64, LATTICE_DEVIATION as f64 * 2048.0),
        0.0
    );
}

#[test]
fn in_two_dimensions_the_bound_holds_once_for_each() {
    let deviation = 1.0_f64;
    let sums = |shift: [i64; 2], q: f64, alpha: f64, per_unit: i64| {
        let reach = 30 * per_unit;
        let (mut total, mut sum) = (0.0, 0.0);
        for i in -reach..=reach {
            for j in -reach..=reach {
                let y = [i as f64 / per_unit as f64, j as f64 / per_unit as f64];
                let shift = shift.map(|part| part as f64);
                let squares = (y[0] * y[0] + y[1] * y[1]) / (2.0 * deviation.powi(2));
                let product = y[0] * shift[0] + y[1] * shift[1];
                let norm = shift[0].powi(2) + shift[1].powi(2);
                let ratio = ((2.0 * product - norm) / (2.0 * deviation.powi(2))).exp();
                total += (-squares).exp();
                sum += (alpha * (1.0 - q + q * ratio).ln() - squares).exp();
            }
        }
        sum / total
    };
    for (shift, q, alpha) in [([1, 1], 0.3, 2.5), ([2, 1], 0.1, 1.7), ([2, 2], 0.5, 3.4)] {
        let norm = f64::from((shift[0] * shift[0] + shift[1] * shift[1]) as i32).sqrt();
        let found = (sums(shift, q, alpha, 1) / sums(shift, q, alpha, 8) - 1.0).abs();
        let bound = (1.0 + 2.1 * eta(deviation, norm)).powi(2) - 1.0 + ROUNDING;
        assert!(found < bound, "{shift:?} {q} {alpha}: {found} of {bound}");
        assert!(found > ROUNDING, "{shift:?}: no effect to see");
    }
}

/// Removing a unit is never worse than adding it: the reflection y → Δ-y maps the lattice to
/// itself, as Mironov, Talwar and Zhang (2019, arXiv 1908.10530, theorem 5) need it.
#[test]
fn on_the_lattice_too_a_unit_removed_costs_no_more_than_one_added() {
    for (deviation, shift) in [(0.7, 1.0), (1.0, 2.0), (2.0, 2.0), (3.0, 3.0)] {
        for q in RATES {
            for alpha in REAL_ORDERS {
                let added = moment(deviation, shift, q, alpha, 1.0);
                let removed = moment(deviation, shift, q, 1.0 - alpha, 1.0);
                assert!(
                    removed <= added * (1.0 + ROUNDING),
                    "{deviation} {shift} {q} {alpha}"
                );
            }
        }
    }
}

/// For figures that rest on hypothesis testing, not on moments: divergence between the lattice
/// noise and a continuous Gaussian rounded to the lattice.
#[test]
fn the_divergence_from_a_rounded_gaussian_falls_with_the_fourth_power() {
    for deviation in [2.0_f64, 3.0, 4.0] {
        let reach = (10.0 * deviation) as i64;
        let parts = 64;
        let simpson = |y: i64| -> f64 {
            let points = (0..=parts).map(|part| {
                let factor = match part {
                    0 | 64 => 1.0,
                    _ if part % 2 == 1 => 4.0,
                    _ => 2.0,
                };
                factor * gaussian(y as f64 - 0.5 + f64::from(part) / 64.0, deviation)
            });
            points.sum::<f64>() / (3.0 * 64.0)
        };
        let rounded: Vec<f64> = (-reach..=reach).map(simpson).collect();
        let total: f64 = rounded.iter().sum();
        let lattice = discrete_gaussian(deviation, reach);
        let divergence: f64 = (lattice.iter().zip(&rounded))
            .map(|(p, r)| p * (p * total / r).ln())
            .sum();
        let leading = 1.0 / (576.0 * deviation.powi(4));
        assert!(
            (divergence / leading - 1.0).abs() < 0.1,
            "{deviation}: {divergence} for {leading}"
        );
    }
}

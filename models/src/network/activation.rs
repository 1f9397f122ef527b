//! What stands between layers with weights, value by value.

use std::rc::Rc;

use burn::tensor::activation;

use super::{
    kernels::{add, vectorised},
    tape::{Pass, Placed, Step, Tape, Value},
};
use crate::profile::Kind;

/// Zero where the input is below.
pub(super) fn relu(input: Value, tape: &mut Tape) -> Value {
    let [input] = match tape.place([input]) {
        Placed::Rows(rows) => rows,
        Placed::Tensors([input], _) => return Value::Tensor(activation::relu(input)),
        Placed::Edges([input]) => return Value::Edge(input.each("Relu")),
    };
    let node = input.node();
    let mut rows = input.into_rows();
    cut(&mut rows);
    tape.plain(rows, &[node], Relu)
}

vectorised! {
    fn cut<'a>(values: &'a mut [f32]) {
        for value in values {
            // Unlike `max`, keeps what is not a number.
            *value = if *value < 0.0 { 0.0 } else { *value };
        }
    }
}

vectorised! {
    fn cut_back<'a>(gradient: &'a mut [f32], output: &'a [f32]) {
        for (gradient, output) in gradient.iter_mut().zip(output) {
            *gradient = if *output == 0.0 { 0.0 } else { *gradient };
        }
    }
}

/// Keeps its output: where that is zero no gradient passes.
struct Relu(Rc<Vec<f32>>);

impl Step for Relu {
    fn kind() -> Kind {
        Kind::Activation
    }

    fn back(self: Box<Self>, output: Vec<f32>, _: &mut Pass) -> Vec<Option<Vec<f32>>> {
        let mut back = output;
        cut_back(&mut back, &self.0);
        vec![Some(back)]
    }
}

/// `x · Φ(x)` with the normal distribution function (Hendrycks and Gimpel 2016).
pub(super) fn gelu(input: Value, tape: &mut Tape) -> Value {
    let [input] = match tape.place([input]) {
        Placed::Rows(rows) => rows,
        Placed::Tensors([input], _) => return Value::Tensor(activation::gelu(input)),
        Placed::Edges([input]) => {
            // Φ(x) = (1 + erf(x / √2)) / 2
            let error = input
                .scaled(std::f32::consts::FRAC_1_SQRT_2, 0.0)
                .each("Erf");
            return Value::Edge(input.pairwise("Mul", &error.scaled(0.5, 0.5)));
        }
    };
    let mut output = input.rows().to_vec();
    weigh(&mut output);
    tape.plain(output, &[input.node()], |_| Gelu(input.kept()))
}

vectorised! {
    fn weigh<'a>(values: &'a mut [f32]) {
        for value in values {
            *value *= distribution(*value);
        }
    }
}

vectorised! {
    fn weigh_back<'a>(gradient: &'a mut [f32], input: &'a [f32]) {
        for (gradient, &x) in gradient.iter_mut().zip(input) {
            let density = exp(-0.5 * x * x) * 0.398_942_3;
            *gradient *= distribution(x) + x * density;
        }
    }
}

/// Keeps its input.
struct Gelu(Rc<Vec<f32>>);

impl Step for Gelu {
    fn kind() -> Kind {
        Kind::Activation
    }

    fn back(self: Box<Self>, output: Vec<f32>, _: &mut Pass) -> Vec<Option<Vec<f32>>> {
        let mut back = output;
        weigh_back(&mut back, &self.0);
        vec![Some(back)]
    }
}

/// Φ, by formula 7.1.26 of Abramowitz and Stegun: within 10⁻⁷.
#[inline(always)]
fn distribution(x: f32) -> f32 {
    let z = x.abs() * std::f32::consts::FRAC_1_SQRT_2;
    let t = 1.0 / (1.0 + 0.327_591_1 * z);
    let series = 1.061_405_4 * t - 1.453_152;
    let series = (series * t + 1.421_413_8) * t - 0.284_496_74;
    let tail = 0.5 * (series * t + 0.254_829_6) * t * exp(-z * z);
    if x < 0.0 { tail } else { 1.0 - tail }
}

/// The exponential function without a call, so that loops over it are compiled for vectors: 2ⁿ times
/// a polynomial on ±ln 2 / 2, within 2 · 10⁻⁷ relative; zero far below 0, not a number where `x` is not.
#[inline(always)]
pub(super) fn exp(x: f32) -> f32 {
    const WHOLE: f32 = 1.5 * (1 << 23) as f32;
    let x = if x < -87.0 { -87.0 } else { x };
    let x = if x > 88.0 { 88.0 } else { x };
    let shifted = x * std::f32::consts::LOG2_E + WHOLE;
    let whole = shifted - WHOLE;
    // ln 2 in two parts, so that the difference keeps its digits.
    let rest = (x - whole * 0.693_359_4) + whole * 2.121_944_4e-4;
    let series = rest * (1.0 / 5040.0) + 1.0 / 720.0;
    let series = (series * rest + 1.0 / 120.0) * rest + 1.0 / 24.0;
    let series = (series * rest + 1.0 / 6.0) * rest + 0.5;
    let series = (series * rest + 1.0) * rest + 1.0;
    let power = f32::from_bits((shifted.to_bits() << 23).wrapping_add(1.0_f32.to_bits()));
    let value = series * power;
    if x <= -87.0 { 0.0 } else { value }
}

/// The sum of two values of the same shape.
pub(super) fn sum_of(left: Value, right: Value, tape: &mut Tape) -> Value {
    let [left, right] = match tape.place([left, right]) {
        Placed::Rows(rows) => rows,
        Placed::Tensors([left, right], _) => return Value::Tensor(left + right),
        Placed::Edges([left, right]) => return Value::Edge(left.pairwise("Add", &right)),
    };
    let nodes = [left.node(), right.node()];
    let mut rows = left.into_rows();
    add(&mut rows, right.rows());
    tape.plain(rows, &nodes, |_| Sum)
}

struct Sum;

impl Step for Sum {
    fn kind() -> Kind {
        Kind::Addition
    }

    fn back(self: Box<Self>, output: Vec<f32>, _: &mut Pass) -> Vec<Option<Vec<f32>>> {
        vec![Some(output.clone()), Some(output)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exponential_is_that_of_the_standard_library() {
        for at in -8600..8800 {
            let x = at as f32 / 100.0;
            let (found, expected) = (f64::from(exp(x)), f64::from(x).exp());
            assert!(
                (found / expected - 1.0).abs() < 3e-7,
                "{x}: {found} {expected}"
            );
        }
        assert_eq!(
            (exp(-1e9), exp(f32::NEG_INFINITY), exp(0.0)),
            (0.0, 0.0, 1.0)
        );
        assert!(exp(f32::NAN).is_nan());
    }

    #[test]
    fn the_normal_distribution_has_its_tabled_values() {
        for (x, p) in [
            (0.0, 0.5),
            (1.0, 0.841_344_8),
            (-2.0, 0.022_750_1),
            (6.0, 1.0),
        ] {
            assert!((distribution(x) - p).abs() < 2e-7, "{x}");
        }
    }
}

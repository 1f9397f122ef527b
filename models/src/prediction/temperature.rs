//! Temperature scaling: probabilities that mean what they say (Guo et al. 2017, arXiv:1706.04599).

use serde::{Deserialize, Serialize};

/// Least and largest temperature.
const RANGE: [f64; 2] = [0.05, 20.0];

/// Steps of the search: the range shrinks by the golden ratio in each, to less than 10⁻⁶ of the logarithm.
const STEPS: usize = 32;

/// Least probability that a logarithm is taken of.
const LEAST: f32 = 1e-12;

/// What logits are divided by before they become probabilities: above 1 less sure, below 1 surer. 0.05 to 20.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "f64", into = "f64")]
pub struct Temperature(f64);

impl TryFrom<f64> for Temperature {
    type Error = String;
    fn try_from(value: f64) -> Result<Self, String> {
        match (RANGE[0]..=RANGE[1]).contains(&value) {
            true => Ok(Self(value)),
            false => Err(format!(
                "a temperature lies from {} to {}",
                RANGE[0], RANGE[1]
            )),
        }
    }
}

impl From<Temperature> for f64 {
    fn from(temperature: Temperature) -> f64 {
        temperature.0
    }
}

impl Temperature {
    /// Leaves probabilities as they are.
    pub const ONE: Self = Self(1.0);

    /// The one that makes labels likeliest, by golden section over its logarithm: the loss has one minimum.
    ///
    /// # Shapes
    /// - `rows`: `[examples][classes]`, probabilities
    /// - `labels`: `[examples]`, the true classes
    pub(super) fn fit(rows: &[Vec<f32>], labels: &[usize]) -> Self {
        let loss = |temperature: f64| -> f64 {
            let scaled = |(row, &label): (&Vec<f32>, &usize)| {
                let logits = row
                    .iter()
                    .map(|p| f64::from(p.max(LEAST)).ln() / temperature);
                let logits: Vec<f64> = logits.collect();
                let largest = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                let sum: f64 = logits.iter().map(|logit| (logit - largest).exp()).sum();
                sum.ln() + largest - logits.get(label).copied().unwrap_or(largest)
            };
            rows.iter().zip(labels).map(scaled).sum()
        };
        let golden = (5.0_f64.sqrt() - 1.0) / 2.0;
        let [mut low, mut high] = RANGE.map(f64::ln);
        for _ in 0..STEPS {
            let width = golden * (high - low);
            let (left, right) = (high - width, low + width);
            match loss(left.exp()) <= loss(right.exp()) {
                true => high = right,
                false => low = left,
            }
        }
        Self(f64::midpoint(low, high).exp().clamp(RANGE[0], RANGE[1]))
    }

    /// Probabilities at this temperature; they add up to 1.
    pub fn apply(self, probabilities: &[f32]) -> Vec<f32> {
        let power = |p: &f32| f64::from(p.max(LEAST)).powf(1.0 / self.0);
        let powers: Vec<f64> = probabilities.iter().map(power).collect();
        // The largest probability is no less than 1 / classes: the sum is not zero.
        let sum: f64 = powers.iter().sum::<f64>().max(f64::MIN_POSITIVE);
        powers.iter().map(|power| (power / sum) as f32).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    /// Labels drawn as probabilities say, and probabilities that say it twice as loudly.
    #[test]
    fn overconfidence_is_found_and_taken_back() {
        let mut random = Random::new(&[5]);
        let (mut rows, mut labels) = (Vec::new(), Vec::new());
        for _ in 0..4000 {
            let honest = 0.05 + 0.9 * random.unit();
            labels.push(usize::from(random.unit() < honest));
            rows.push(Temperature(0.5).apply(&[1.0 - honest, honest]));
        }
        let found = Temperature::fit(&rows, &labels);
        assert!((f64::from(found) - 2.0).abs() < 0.15, "{found:?}");
        let calm = found.apply(&rows[0]);
        assert!((calm.iter().sum::<f32>() - 1.0).abs() < 1e-6);
    }

    #[test]
    fn a_temperature_of_one_changes_nothing_and_no_temperature_changes_the_order() {
        let row = [0.1, 0.7, 0.2, 0.0];
        let same = Temperature::ONE.apply(&row);
        assert!(row.iter().zip(&same).all(|(a, b)| (a - b).abs() < 1e-6));
        for temperature in [0.05, 0.5, 3.0, 20.0] {
            let row = Temperature(temperature).apply(&row);
            assert!(
                row[1] > row[2] && row[2] > row[0] && row[0] > row[3],
                "{row:?}"
            );
        }
    }

    #[test]
    fn labels_that_are_always_right_or_always_wrong_stay_within_the_range() {
        let rows = vec![vec![0.4, 0.6]; 50];
        for label in [0, 1] {
            let found = f64::from(Temperature::fit(&rows, &[label; 50]));
            assert!((RANGE[0]..=RANGE[1]).contains(&found));
        }
        assert!(serde_json::from_str::<Temperature>("0").is_err());
        assert!(serde_json::from_str::<Temperature>("1.5").is_ok());
    }
}

//! The noise that a target asks for.

use super::{
    Accountant, Charge, Delta, Epsilon, NoiseMultiplier, SamplingRate, epsilon_at, rdp::orders,
};
use crate::OutOfRange;

/// Largest noise multiplier tried: at 2⁴⁰ even 2³² steps cost next to nothing.
const LARGEST: f64 = (1_u64 << 40) as f64;

/// Added to the least noise that suffices, so that an accountant with a coarser list of orders
/// than ours still finds the result within its target.
const MARGIN: f64 = 1e-3;

/// The noise multiplier with which `steps` noisy sums at sampling rate `q` cost `epsilon` at
/// `delta`: the smallest one, and a thousandth on top. The result never costs more than that.
///
/// # Errors
/// No noise multiplier up to 2⁴⁰ reaches so small an `epsilon`.
pub fn calibrate(
    epsilon: Epsilon,
    delta: Delta,
    q: SamplingRate,
    steps: u32,
) -> Result<NoiseMultiplier, OutOfRange> {
    let mut search = Search {
        orders: orders(),
        best: 100,
        delta,
        q,
        steps,
    };
    let mut enough = 1.0;
    while !search.is_within(enough, epsilon) {
        enough *= 2.0;
        if enough > LARGEST {
            let allowed = "reachable with a noise multiplier below 2^40";
            return Err(OutOfRange::new("epsilon", allowed, epsilon));
        }
    }
    let mut too_little = 0.0;
    while enough - too_little > 1e-5 * enough {
        let middle = f64::midpoint(too_little, enough);
        if search.is_within(middle, epsilon) {
            enough = middle;
        } else {
            too_little = middle;
        }
        if enough < 1e-6 {
            break; // hardly any noise is asked for: this much is already plenty
        }
    }
    NoiseMultiplier::try_from(enough * (1.0 + MARGIN))
}

/// Remembers the best order of the last trial: the next one is near.
struct Search {
    orders: Vec<f64>,
    best: usize,
    delta: Delta,
    q: SamplingRate,
    steps: u32,
}

impl Search {
    /// Walks from the last best order towards smaller ε. Any order gives a valid ε, so a walk that
    /// ended early would ask for more noise, never for less.
    fn is_within(&mut self, sigma: f64, target: Epsilon) -> bool {
        let Ok(sigma) = NoiseMultiplier::try_from(sigma) else {
            return false;
        };
        let charge = Charge::SampledGaussian {
            q: self.q,
            sigma,
            steps: self.steps,
        };
        let at = |i: usize| epsilon_at(charge.rdp(self.orders[i]), self.orders[i], self.delta);
        let mut lowest = at(self.best);
        let start = self.best;
        for i in start + 1..self.orders.len() {
            let epsilon = at(i);
            if epsilon > lowest {
                break;
            }
            (lowest, self.best) = (epsilon, i);
        }
        for i in (0..start).rev() {
            if self.best > start {
                break;
            }
            let epsilon = at(i);
            if epsilon > lowest {
                break;
            }
            (lowest, self.best) = (epsilon, i);
        }
        lowest <= target.value()
    }
}

/// As [`calibrate`], by any accountant whose ε hardly jumps: false position between the logarithms
/// of noise and ε, which lie near a line.
pub(super) fn calibrate_by(
    accountant: &mut impl Accountant,
    epsilon: Epsilon,
    delta: Delta,
    q: SamplingRate,
    steps: u32,
) -> Result<NoiseMultiplier, OutOfRange> {
    // How far, in logarithms, this noise misses the target; above 0 means too little noise.
    let mut miss = |sigma: f64| -> Result<f64, OutOfRange> {
        let charge = Charge::SampledGaussian {
            q,
            sigma: NoiseMultiplier::try_from(sigma)?,
            steps,
        };
        let spent = accountant.epsilon(&[charge], delta);
        Ok((spent / epsilon.value()).ln().clamp(-20.0, 20.0))
    };
    let (mut enough, mut too_little) = (Trial::at(1.0, &mut miss)?, None);
    while enough.miss > 0.0 {
        too_little = Some(enough);
        enough = Trial::at(enough.sigma * 2.0, &mut miss)?;
        if enough.sigma > LARGEST {
            let allowed = "reachable with a noise multiplier below 2^40";
            return Err(OutOfRange::new("epsilon", allowed, epsilon));
        }
    }
    let mut too_little = match too_little {
        Some(trial) => trial,
        None => loop {
            let trial = Trial::at(enough.sigma / 2.0, &mut miss)?;
            if trial.miss > 0.0 {
                break trial;
            }
            enough = trial;
            if enough.sigma < 1e-6 {
                return NoiseMultiplier::try_from(enough.sigma); // this much is already plenty
            }
        },
    };
    while enough.sigma / too_little.sigma > 1.0 + CLOSE && enough.miss < -CLOSE {
        let trial = Trial::at(enough.between(&too_little), &mut miss)?;
        // The end that stays counts half next time, or it would stay for long (Illinois).
        if trial.miss > 0.0 {
            too_little = trial;
            enough.weight /= 2.0;
        } else {
            enough = trial;
            too_little.weight /= 2.0;
        }
    }
    NoiseMultiplier::try_from(enough.sigma * (1.0 + CLOSE))
}

/// Calibration by trials ends when noise or ε is known to this part of itself, and adds as much.
const CLOSE: f64 = 5e-5;

/// One noise multiplier that was tried.
#[derive(Clone, Copy)]
struct Trial {
    sigma: f64,
    miss: f64,
    weight: f64,
}

impl Trial {
    fn at<E>(sigma: f64, miss: &mut impl FnMut(f64) -> Result<f64, E>) -> Result<Self, E> {
        let (miss, weight) = (miss(sigma)?, 1.0);
        Ok(Self {
            sigma,
            miss,
            weight,
        })
    }

    /// Where the line through both meets the target.
    fn between(&self, too_little: &Self) -> f64 {
        let (here, there) = (
            -self.miss * self.weight,
            too_little.miss * too_little.weight,
        );
        let share = (there / (here + there)).clamp(0.02, 0.98);
        let (low, high) = (too_little.sigma.ln(), self.sigma.ln());
        (low + (high - low) * share).exp()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::accountant::{Pld, Rdp};

    #[test]
    fn calibrated_noise_spends_the_target_and_never_more() {
        let delta = Delta::try_from(1e-5).expect("within range");
        for (epsilon, q, steps) in [(0.5, 0.01, 100), (3.0, 0.2, 1000), (8.0, 1.0, 1)] {
            let q = SamplingRate::try_from(q).expect("within range");
            let target = Epsilon::try_from(epsilon).expect("within range");
            let sigma = calibrate(target, delta, q, steps).expect("reachable");
            let charge = Charge::SampledGaussian { q, sigma, steps };
            let spent = Rdp::new().epsilon(&[charge], delta);
            assert!(
                spent <= epsilon && spent > 0.995 * epsilon,
                "{spent} for {epsilon}"
            );
        }
    }

    #[test]
    fn both_accountants_find_their_own_noise() {
        let sound = "within range";
        let (delta, q) = (
            Delta::try_from(1e-5).expect(sound),
            0.02.try_into().expect(sound),
        );
        for epsilon in [0.3, 4.0, 30.0] {
            let target = Epsilon::try_from(epsilon).expect(sound);
            let sigma = Pld::new()
                .calibrate(target, delta, q, 500)
                .expect("reachable");
            let charge = Charge::SampledGaussian {
                q,
                sigma,
                steps: 500,
            };
            let spent = Pld::new().epsilon(&[charge], delta);
            assert!(
                spent <= epsilon && spent > 0.999 * epsilon,
                "{spent} for {epsilon}"
            );
            let more = Rdp::new()
                .calibrate(target, delta, q, 500)
                .expect("reachable");
            assert!(more > sigma, "{more} is not above {sigma}");
        }
    }

    #[test]
    fn extreme_targets_end() {
        let delta = Delta::try_from(1e-9).expect("within range");
        let q = SamplingRate::try_from(1.0).expect("within range");
        let tight = Epsilon::try_from(0.05).expect("within range");
        assert!(calibrate(tight, delta, q, u32::MAX).is_ok_and(|sigma| sigma.value() > 1e6));
        let out_of_reach = Epsilon::try_from(1e-6).expect("within range");
        let error = calibrate(out_of_reach, delta, q, u32::MAX).expect_err("out of reach");
        assert!(error.to_string().contains("reachable"), "{error}");
        let loose = Epsilon::try_from(1e9).expect("within range");
        assert!(calibrate(loose, delta, q, 1).is_ok_and(|sigma| sigma.value() < 1e-3));
        assert!(
            Pld::new()
                .calibrate(loose, delta, q, 1)
                .is_ok_and(|sigma| sigma.value() < 1e-3)
        );
        let nothing = Epsilon::try_from(1e-12).expect("within range");
        assert!(Pld::new().calibrate(nothing, delta, q, u32::MAX).is_err());
    }
}

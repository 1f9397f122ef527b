//! One run with many canaries: each is in or out by a coin of its own, and an adversary guesses.

use super::Confidence;
use crate::binomial::Binomial;
use crate::{OutOfRange, accountant::Delta};

/// Most canaries of one run.
const MOST: u32 = 10_000_000;

/// Halvings of an interval of ε: the last changes it by less than 1e-15 of its length.
const HALVINGS: u32 = 60;

/// Bound beyond which a lower bound is not searched: r right guesses prove at most ln(r/3).
const LARGEST_EPSILON: f64 = 64.0;

/// How well an adversary guessed which of `m` canaries were in, having seen what one run released.
///
/// Coins must be fair, independent, and unknown to whoever guesses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Guesses {
    canaries: u32,
    made: u32,
    correct: u32,
}

impl Guesses {
    /// `canaries` (m) were tossed for, `made` (r) of them guessed, `correct` (v) guessed right.
    ///
    /// # Errors
    /// No or more than ten million canaries, more guesses than canaries, none at all, or more right
    /// ones than were made.
    pub fn new(canaries: u32, made: u32, correct: u32) -> Result<Self, OutOfRange> {
        if !(1..=MOST).contains(&canaries) {
            let allowed = "from 1 to 10000000";
            return Err(OutOfRange::new("number of canaries", allowed, canaries));
        }
        if !(1..=canaries).contains(&made) {
            let allowed = "from 1 to the number of canaries";
            return Err(OutOfRange::new("number of guesses", allowed, made));
        }
        if correct > made {
            let allowed = "at most the number of guesses";
            return Err(OutOfRange::new("number of right guesses", allowed, correct));
        }
        Ok(Self {
            canaries,
            made,
            correct,
        })
    }

    /// Canaries tossed for (m).
    pub fn canaries(&self) -> u32 {
        self.canaries
    }

    /// Guesses made (r).
    pub fn made(&self) -> u32 {
        self.made
    }

    /// Right ones among them (v).
    pub fn correct(&self) -> u32 {
        self.correct
    }

    /// Largest probability with which an (ε, δ)-private run gives so many right guesses or more
    /// (Steinke, Nasr, Jagielski 2023); `delta` of none stands for 0.
    ///
    /// `P[W ≥ v] + 2mδ · max_i P[v > W ≥ v-i] / i` with `W ~ Bin(r, e^ε / (1+e^ε))`.
    pub fn p_value(&self, epsilon: f64, delta: Option<Delta>) -> f64 {
        let odds = epsilon.clamp(0.0, LARGEST_EPSILON).exp();
        let law = Binomial::whole(u64::from(self.made), odds);
        let right = u64::from(self.correct);
        let (mut missed, mut steepest) = (0.0, 0.0_f64);
        for i in 1..=right {
            missed += law.equal(right - i);
            steepest = steepest.max(missed / i as f64);
        }
        let slack = delta.map_or(0.0, Delta::value) * 2.0 * f64::from(self.canaries);
        (law.at_least(right) + slack * steepest).min(1.0)
    }

    /// The largest ε that these guesses rule out, so that the run is not (ε, `delta`)-private; 0
    /// where they rule out nothing.
    pub fn epsilon_low(&self, delta: Option<Delta>, confidence: Confidence) -> f64 {
        let is_ruled_out = |epsilon| self.p_value(epsilon, delta) < confidence.significance();
        if !is_ruled_out(0.0) {
            return 0.0;
        }
        let (mut low, mut high) = (0.0, 1.0);
        while high < LARGEST_EPSILON && is_ruled_out(high) {
            (low, high) = (high, 2.0 * high);
        }
        for _ in 0..HALVINGS {
            let middle = f64::midpoint(low, high);
            if is_ruled_out(middle) {
                low = middle;
            } else {
                high = middle;
            }
        }
        low
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guesses_that_cannot_have_been_made_are_refused() {
        assert!(Guesses::new(10, 4, 4).is_ok());
        for (m, r, v) in [
            (0, 0, 0),
            (10, 11, 1),
            (10, 0, 0),
            (10, 4, 5),
            (MOST + 1, 1, 1),
        ] {
            assert!(Guesses::new(m, r, v).is_err(), "{m} {r} {v}");
        }
    }

    /// All of r right: P = p^r, so that ε = ln(p / (1-p)) at p = 0.05^(1/r), by hand.
    #[test]
    fn all_right_guesses_prove_what_the_closed_form_says() {
        for r in [10, 50, 1000] {
            let p = 0.05_f64.powf(1.0 / f64::from(r));
            let expected = (p / (1.0 - p)).ln();
            let guesses = Guesses::new(r, r, r).expect("sound");
            let found = guesses.epsilon_low(None, Confidence::USUAL);
            assert!((found / expected - 1.0).abs() < 1e-9, "{found} {expected}");
        }
    }

    #[test]
    fn guessing_no_better_than_a_coin_proves_nothing() {
        let delta = Delta::try_from(1e-5).ok();
        for v in [0, 100, 150, 160] {
            let guesses = Guesses::new(1000, 300, v).expect("sound");
            assert_eq!(guesses.epsilon_low(delta, Confidence::USUAL), 0.0, "{v}");
        }
    }

    #[test]
    fn more_right_guesses_prove_more_and_more_confidence_less() {
        let delta = Delta::try_from(1e-5).ok();
        let low = |v, confidence| {
            let guesses = Guesses::new(1000, 300, v).expect("sound");
            guesses.epsilon_low(delta, Confidence::try_from(confidence).expect("sound"))
        };
        let bounds = [200, 230, 260, 290, 300].map(|v| low(v, 0.95));
        assert!(bounds.is_sorted_by(|a, b| a < b), "{bounds:?}");
        assert!(low(260, 0.99) < low(260, 0.9));
    }
}

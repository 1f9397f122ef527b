//! One question asked many times, "was the canary in?", and how often the answer was wrong.

use super::{Confidence, gaussian};
use crate::binomial::Binomial;
use crate::{OutOfRange, accountant::Delta};

/// Wrong answers among all trials of one kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Errors {
    wrong: u64,
    trials: u64,
}

impl Errors {
    /// `wrong` answers in `trials`.
    ///
    /// # Errors
    /// No trial, or more wrong answers than trials.
    pub fn new(wrong: u64, trials: u64) -> Result<Self, OutOfRange> {
        match trials {
            0 => Err(OutOfRange::new("number of trials", "1 or more", trials)),
            _ if wrong > trials => {
                let allowed = "at most the number of trials";
                Err(OutOfRange::new("number of wrong answers", allowed, wrong))
            }
            _ => Ok(Self { wrong, trials }),
        }
    }

    /// Wrong answers.
    pub fn wrong(&self) -> u64 {
        self.wrong
    }

    /// All of them.
    pub fn trials(&self) -> u64 {
        self.trials
    }

    /// The rate of errors that is exceeded with probability `significance` at most (Clopper and
    /// Pearson 1934): where so few wrong answers or fewer have just that probability.
    fn rate_at_most(&self, significance: f64) -> f64 {
        let Self { wrong, trials } = *self;
        if wrong == trials {
            return 1.0;
        }
        if wrong == 0 {
            return -(significance.ln() / trials as f64).exp_m1();
        }
        let (mut low, mut high) = (wrong as f64 / trials as f64, 1.0);
        for _ in 0..gaussian::HALVINGS {
            let middle = f64::midpoint(low, high);
            if middle >= 1.0 || middle <= low {
                break;
            }
            let law = Binomial::bulk(trials, middle / (1.0 - middle));
            if law.at_most(wrong) > significance {
                low = middle;
            } else {
                high = middle;
            }
        }
        high
    }
}

/// Answers of a test whose threshold was fixed before anything was seen.
///
/// Trials must be independent given the mechanism: other runs, other steps, or other coordinates
/// of independent noise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Observations {
    /// "In" although the canary was out.
    pub false_positives: Errors,
    /// "Out" although the canary was in.
    pub false_negatives: Errors,
}

impl Observations {
    /// Upper bounds on the rates of false positives and false negatives that hold together.
    pub fn rates_at_most(&self, confidence: Confidence) -> [f64; 2] {
        let half = confidence.significance() / 2.0;
        [self.false_positives, self.false_negatives].map(|errors| errors.rate_at_most(half))
    }

    /// Lower bound on ε at `delta` of what was asked, whatever the mechanism: no
    /// (ε, δ)-private one has `FPR · e^ε + FNR < 1 - δ` (Kairouz, Oh, Viswanath 2015). 0 where
    /// nothing is proved.
    pub fn epsilon_low(&self, delta: Delta, confidence: Confidence) -> f64 {
        let [positives, negatives] = self.rates_at_most(confidence);
        let one_side = |a: f64, b: f64| (1.0 - a - delta.value()).max(0.0).ln() - b.ln();
        let both = one_side(negatives, positives).max(one_side(positives, negatives));
        both.max(0.0)
    }

    /// Lower bound on μ, sensitivity over noise deviation, of what was asked, if it is a Gaussian
    /// mechanism: Φ⁻¹(1-FPR) - Φ⁻¹(FNR) (Nasr et al. 2023). Not above 0 where nothing is proved.
    pub fn mu_low(&self, confidence: Confidence) -> f64 {
        let [positives, negatives] = self.rates_at_most(confidence);
        if positives >= 1.0 || negatives >= 1.0 {
            return 0.0;
        }
        -gaussian::quantile(positives) - gaussian::quantile(negatives)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn observations(wrong: [u64; 2], trials: u64) -> Observations {
        let errors = |wrong| Errors::new(wrong, trials).expect("sound");
        Observations {
            false_positives: errors(wrong[0]),
            false_negatives: errors(wrong[1]),
        }
    }

    #[test]
    fn errors_that_cannot_have_been_counted_are_refused() {
        assert!(Errors::new(0, 0).is_err() && Errors::new(3, 2).is_err());
        assert!(Errors::new(2, 2).is_ok());
    }

    /// A published example: 0 of 10 and 5 of 10 at 97.5 % are at most 0.3085 and 0.8129.
    #[test]
    fn rates_are_those_of_clopper_and_pearson() {
        let [positives, negatives] = observations([0, 5], 10).rates_at_most(Confidence::USUAL);
        assert!((positives - 0.308_497).abs() < 1e-6, "{positives}");
        assert!((negatives - 0.812_914).abs() < 1e-6, "{negatives}");
    }

    #[test]
    fn a_coin_proves_nothing_and_neither_does_being_always_wrong() {
        let delta = Delta::try_from(1e-5).expect("within range");
        for wrong in [[500, 500], [0, 1000], [1000, 0], [1000, 1000]] {
            let seen = observations(wrong, 1000);
            assert!(seen.mu_low(Confidence::USUAL) <= 0.0, "{wrong:?}");
            assert_eq!(seen.epsilon_low(delta, Confidence::USUAL), 0.0, "{wrong:?}");
        }
    }

    #[test]
    fn many_trials_are_counted_quickly_and_tightly() {
        // Errors of the threshold 1/2 at mu = 1 are Φ(-1/2) = 0.308 537 5.
        let seen = observations([308_537_538, 308_537_538], 1_000_000_000);
        let mu = seen.mu_low(Confidence::USUAL);
        assert!(mu < 1.0 && mu > 0.9998, "{mu}");
    }
}

//! Canaries: each a gradient along one weight, in or out by a coin, and what was seen of it.
//!
//! A gradient along one weight is orthogonal to every other canary's, so that a thousand of them
//! do not drown each other, and its trace is read from one coordinate. It is ten times as long as
//! the clipping norm: clipping makes it exactly as long as allowed, and its absence shows.

use consilium_privacy::{
    OutOfRange,
    empirical::{Errors, Guesses, Observations},
    keystream::NoRandomness,
};
use ring::rand::{SecureRandom, SystemRandom};

use super::{Examples, Target};
use crate::{random::Random, training::LoadError};

/// Length of a canary before clipping, in clipping norms.
const LENGTH: f64 = 10.0;

/// What is seen of a canary above this, in clipping norms, is taken for a sign that it was drawn.
/// Halfway between nothing and a clipped canary, fixed before anything is seen.
const THRESHOLD: f64 = 0.5;

/// The canaries of one audit.
pub struct Canaries {
    canaries: Vec<Canary>,
    /// Positions of those that are in.
    included: Vec<usize>,
    guesses: usize,
}

struct Canary {
    coordinate: usize,
    sign: f32,
    is_in: bool,
}

impl Canaries {
    /// `count` canaries for a network of `parameters` weights, `guesses` of which will be guessed.
    /// The seed fixes weights, signs and coins: whoever is audited must not know it, and
    /// [`fresh_seed`](Self::fresh_seed) makes one.
    ///
    /// # Errors
    /// Less than two canaries or more than weights; no guess, an odd number of them, or more than
    /// canaries.
    pub fn new(count: u32, guesses: u32, parameters: usize, seed: u64) -> Result<Self, OutOfRange> {
        if count < 2 || count as usize > parameters {
            let found = format!("{count} for a network of {parameters} weights");
            let allowed = "from 2 to the number of weights: each takes one of its own";
            return Err(OutOfRange::new("number of canaries", allowed, found));
        }
        if guesses == 0 || guesses > count || !guesses.is_multiple_of(2) {
            let allowed = "even, from 2 to the number of canaries";
            return Err(OutOfRange::new("number of guesses", allowed, guesses));
        }
        let mut random = Random::new(&[seed]);
        // The first steps of a shuffle (Fisher and Yates); a modulus this far below 2^64 is even
        // enough for choosing weights.
        let mut coordinates: Vec<usize> = (0..parameters).collect();
        let mut canaries = Vec::with_capacity(count as usize);
        for at in 0..count as usize {
            let other = at + (random.bits() % (parameters - at) as u64) as usize;
            coordinates.swap(at, other);
            canaries.push(Canary {
                coordinate: coordinates[at],
                sign: if random.coin() { 1.0 } else { -1.0 },
                is_in: random.coin(),
            });
        }
        let included = canaries
            .iter()
            .enumerate()
            .filter(|(_, canary)| canary.is_in);
        Ok(Self {
            included: included.map(|(at, _)| at).collect(),
            canaries,
            guesses: guesses as usize,
        })
    }

    /// A seed from the operating system.
    ///
    /// # Errors
    /// The system has no random numbers to give.
    pub fn fresh_seed() -> Result<u64, NoRandomness> {
        let mut bytes = [0; 8];
        let system = SystemRandom::new();
        system.fill(&mut bytes).map_err(|_| NoRandomness)?;
        Ok(u64::from_le_bytes(bytes))
    }

    /// Writes a canary's gradient into zeros.
    pub(super) fn place(&self, at: usize, norm: f64, gradient: &mut [f32]) {
        let Canary {
            coordinate, sign, ..
        } = self.canaries[at];
        gradient[coordinate] = sign * (LENGTH * norm) as f32;
    }

    /// Makes them zeros again.
    pub(super) fn erase(&self, at: usize, gradient: &mut [f32]) {
        gradient[self.canaries[at].coordinate] = 0.0;
    }

    /// Subtracts a canary of this length from what is seen.
    pub(super) fn take_out(&self, at: usize, length: f64, seen: &mut [f64]) {
        let Canary {
            coordinate, sign, ..
        } = self.canaries[at];
        seen[coordinate] -= f64::from(sign) * length;
    }
}

/// Patients, and after them the canaries that are in, as patients of one record each.
pub(super) struct WithCanaries<'a> {
    examples: &'a dyn Examples,
    canaries: &'a Canaries,
    patients: usize,
}

impl<'a> WithCanaries<'a> {
    pub(super) fn new(examples: &'a dyn Examples, canaries: &'a Canaries) -> Self {
        Self {
            examples,
            canaries,
            patients: examples.patients(),
        }
    }

    /// Patients with records, and canaries.
    pub(super) fn units(&self) -> usize {
        let with_records = |&patient: &usize| self.examples.records_of(patient) > 0;
        (0..self.patients).filter(with_records).count() + self.canaries.included.len()
    }

    pub(super) fn is_canary(&self, patient: usize) -> bool {
        patient >= self.patients
    }

    /// Position of a canary among all of them, in or out.
    pub(super) fn canary(&self, patient: usize) -> usize {
        self.canaries.included[patient - self.patients]
    }
}

impl Examples for WithCanaries<'_> {
    fn patients(&self) -> usize {
        self.patients + self.canaries.included.len()
    }

    fn records_of(&self, patient: usize) -> usize {
        if self.is_canary(patient) {
            1
        } else {
            self.examples.records_of(patient)
        }
    }

    fn load(&self, patient: usize, record: usize) -> Result<(Vec<f32>, Target), LoadError> {
        if self.is_canary(patient) {
            return Err("a canary is a gradient and has no input".into());
        }
        self.examples.load(patient, record)
    }
}

/// What was seen of each canary.
pub(super) struct Scores {
    /// Over all steps.
    totals: Vec<f64>,
    /// Steps in which a canary was in the batch, and of those, in which it was missed.
    drawn: (u64, u64),
    /// Steps in which it was not, and of those, in which it seemed to be.
    absent: (u64, u64),
}

impl Scores {
    pub(super) fn new(canaries: &Canaries) -> Self {
        Self {
            totals: vec![0.0; canaries.canaries.len()],
            drawn: (0, 0),
            absent: (0, 0),
        }
    }

    /// Takes in one step: what was released minus what is known, in clipping norms.
    pub(super) fn see(&mut self, canaries: &Canaries, rest: &[f64], planted: &[usize]) {
        let mut is_drawn = vec![false; canaries.canaries.len()];
        planted.iter().for_each(|&at| is_drawn[at] = true);
        for ((canary, total), is_drawn) in
            canaries.canaries.iter().zip(&mut self.totals).zip(is_drawn)
        {
            let seen = f64::from(canary.sign) * rest[canary.coordinate];
            *total += seen;
            let (trials, wrong) = if is_drawn {
                (&mut self.drawn, seen <= THRESHOLD)
            } else {
                (&mut self.absent, seen > THRESHOLD)
            };
            trials.0 += 1;
            trials.1 += u64::from(wrong);
        }
    }

    /// Guesses that the canaries seen most were in, and those seen least out.
    pub(super) fn guess(&self, canaries: &Canaries) -> Guesses {
        let mut order: Vec<usize> = (0..self.totals.len()).collect();
        order.sort_by(|&a, &b| self.totals[a].total_cmp(&self.totals[b]));
        let half = canaries.guesses / 2;
        let is_in = |at: &&usize| canaries.canaries[**at].is_in;
        let out_right = half - order[..half].iter().filter(is_in).count();
        let in_right = order[order.len() - half..].iter().filter(is_in).count();
        let counts = [order.len(), canaries.guesses, out_right + in_right];
        let [count, made, right] = counts.map(|count| count as u32);
        Guesses::new(count, made, right).expect("as many canaries and guesses as were checked")
    }

    /// How often the threshold was wrong; none where canaries were never, or always, drawn.
    pub(super) fn observations(&self) -> Option<Observations> {
        let errors = |(trials, wrong)| Errors::new(wrong, trials).ok();
        Some(Observations {
            false_positives: errors(self.absent)?,
            false_negatives: errors(self.drawn)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn canaries_that_cannot_be_told_apart_are_refused() {
        let error = Canaries::new(20, 10, 19, 1).err().expect("too many");
        assert!(error.to_string().contains("19 weights"), "{error}");
        for (count, guesses) in [(1, 2), (10, 0), (10, 3), (10, 12)] {
            assert!(Canaries::new(count, guesses, 100, 1).is_err());
        }
    }

    #[test]
    fn each_has_a_weight_of_its_own_and_half_are_in() {
        let canaries = Canaries::new(1000, 300, 1000, 3).expect("sound");
        let mut weights: Vec<_> = canaries.canaries.iter().map(|c| c.coordinate).collect();
        weights.sort_unstable();
        assert!(weights.iter().copied().eq(0..1000));
        // Five deviations of 15.8.
        assert!(canaries.included.len().abs_diff(500) < 80);
    }

    #[test]
    fn canaries_seen_most_are_guessed_in_and_wrong_signs_are_counted() {
        let canaries = Canaries::new(10, 6, 10, 5).expect("sound");
        let mut scores = Scores::new(&canaries);
        let mut rest = vec![0.0; 10];
        for &at in &canaries.included {
            canaries.take_out(at, -0.9, &mut rest);
        }
        scores.see(&canaries, &rest, &canaries.included);
        let guesses = scores.guess(&canaries);
        let most = 3.min(canaries.included.len()) + 3.min(10 - canaries.included.len());
        assert_eq!(guesses.correct() as usize, most);
        let seen = scores.observations().expect("some in, some out");
        assert_eq!(
            (seen.false_negatives.wrong(), seen.false_positives.wrong()),
            (0, 0)
        );
        // The same again, while none was drawn.
        scores.see(&canaries, &rest, &[]);
        let seen = scores.observations().expect("some in, some out");
        assert_eq!(
            seen.false_positives.wrong() as usize,
            canaries.included.len()
        );
    }
}

//! The noise of the next step, drawn before its sum is there: while a device computes, the
//! processor has time.
//!
//! It is the noise that [`NoisySteps::step`] would draw, bit for bit. It stays inside a
//! [`StepNoise`], which belongs to one step of one grant and is used up with it: nobody sees noise
//! apart from a sum, and no noise covers two.

use std::fmt;

use zeroize::Zeroizing;

use super::{ClippedSum, Clipping, NoisySteps, StepError};
use crate::{
    keystream::{Purpose, StepContext},
    noise::LatticeNoise,
};

/// The noise of one step. It cannot be copied, and shows nothing.
///
/// ```compile_fail,E0599
/// fn twice(noise: consilium_privacy::step::StepNoise) {
///     let again = noise.clone();
/// }
/// ```
pub struct StepNoise {
    context: StepContext,
    /// None once drawn.
    source: Option<LatticeNoise>,
    values: Zeroizing<Vec<i64>>,
}

impl StepNoise {
    /// Draws it; may take long, and can be done on another thread. Safe to repeat.
    pub fn draw(&mut self) {
        if let Some(mut source) = self.source.take() {
            source.add(&mut self.values);
        }
    }
}

impl NoisySteps {
    /// The noise of the next step, for gradients of `length` coordinates, not drawn yet. Takes no step:
    /// noise that is never used costs nothing but its time.
    ///
    /// # Errors
    /// No step is left.
    pub fn next_noise(&self, length: usize) -> Result<StepNoise, StepError> {
        if self.taken == self.steps {
            return Err(StepError::NotPaid { paid: self.steps });
        }
        let context = self.grant.step_context(self.taken + 1);
        let pages = self.secret.pages(Purpose::Noise, &context);
        let bit = usize::from(matches!(self.clipping, Clipping::Adaptive(_)));
        Ok(StepNoise {
            context,
            source: Some(LatticeNoise::new(pages)),
            values: Zeroizing::new(vec![0; length + bit]),
        })
    }

    /// As [`step`](Self::step), with this step's noise from [`next_noise`](Self::next_noise).
    ///
    /// # Errors
    /// As [`step`](Self::step), and noise that was made for another step, for steps of another grant or
    /// for a sum of another length. Nothing is released then.
    pub fn step_with(
        &mut self,
        sum: ClippedSum,
        mut noise: StepNoise,
    ) -> Result<Vec<f32>, StepError> {
        self.admit_alone(&sum)?;
        let context = self.grant.step_context(self.taken + 1);
        let coordinates = sum.len() + usize::from(sum.bit().is_some());
        if noise.context != context || noise.values.len() != coordinates {
            return Err(StepError::OtherStep);
        }
        noise.draw();
        Ok(self.release(sum, |values| {
            let pairs = values.iter_mut().zip(noise.values.iter());
            // As the noise itself adds: a sum that could leave `i64` would wrap.
            pairs.for_each(|(value, noise)| *value = value.wrapping_add(*noise));
        }))
    }
}

impl fmt::Debug for StepNoise {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StepNoise([redacted])")
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;
    use crate::{keystream::MasterSecret, ledger::test_grant};

    fn steps(paid: u32, secret: [u8; 32]) -> NoisySteps {
        let secret = MasterSecret::fixed(secret);
        let batch_size = NonZeroU32::new(10).expect("above 0");
        let grant = test_grant(0.1, 2.0, paid, &secret);
        let norm = 1.5.try_into().expect("within range");
        NoisySteps::new(grant, &secret, batch_size, norm).expect("training")
    }

    fn sum(noisy: &NoisySteps, length: usize) -> ClippedSum {
        let mut sum = noisy.empty_sum(length).expect("sound");
        sum.add(&vec![0.25; length]).expect("fits");
        sum
    }

    #[test]
    fn noise_drawn_ahead_is_the_noise_of_the_step_bit_for_bit() {
        let (mut one, mut other) = (steps(3, [5; 32]), steps(3, [5; 32]));
        for (length, drawn) in [(1, true), (1500, true), (700, false)] {
            let mut noise = one.next_noise(length).expect("paid");
            if drawn {
                std::thread::scope(|scope| scope.spawn(|| noise.draw()).join()).expect("no panic");
            }
            let ahead = one.step_with(sum(&one, length), noise);
            assert_eq!(ahead, other.step(sum(&other, length)));
        }
    }

    #[test]
    fn noise_covers_one_sum_of_its_own_step_and_no_other() {
        let mut noisy = steps(3, [5; 32]);
        let (first, again) = (noisy.next_noise(4), noisy.next_noise(4));
        let (first, again) = (first.expect("paid"), again.expect("paid"));
        noisy.step_with(sum(&noisy, 4), first).expect("its step");
        let refused = noisy.step_with(sum(&noisy, 4), again);
        assert_eq!(refused, Err(StepError::OtherStep));
        // Of another length.
        let short = noisy.next_noise(3).expect("paid");
        let refused = noisy.step_with(sum(&noisy, 4), short);
        assert_eq!(refused, Err(StepError::OtherStep));
        assert_eq!(noisy.steps_left(), 2);
    }

    #[test]
    fn noise_for_a_step_nobody_paid_for_is_refused() {
        let mut noisy = steps(1, [5; 32]);
        let noise = noisy.next_noise(2).expect("paid");
        noisy.step_with(sum(&noisy, 2), noise).expect("paid");
        let refused = noisy.next_noise(2).expect_err("nothing left");
        assert_eq!(refused, StepError::NotPaid { paid: 1 });
    }
}

//! The road by which an update leaves a site: grant, clipped sums, noise, update.
//!
//! **Claim.** One step releases `(x + Z)·g/B`, where `x` is a vector of integers that one record moves
//! by at most `2²⁹/σ` in norm; `Z` has independent discrete Gaussian coordinates of
//! deviation `2²⁹`; `g = σC/2²⁹` and the batch size `B` are public. For neighbours that differ by
//! one privacy unit added or removed, that is a Gaussian mechanism with noise multiplier σ, and
//! with Poisson sampling the one that was charged. Everything after `x + Z` is post-processing.
//!
//! The types keep the order: a [`Grant`] comes from the ledger alone and is consumed here, so
//! there is no noise without a charge, and no [`PrivateUpdate`] without noise, except by the door
//! [`PrivateUpdate::without_privacy`], whose callers a search finds.
//!
//! A grant cannot be used twice:
//!
//! ```compile_fail,E0599
//! fn twice(grant: consilium_privacy::ledger::Grant) {
//!     let again = grant.clone();
//! }
//! ```
//!
//! ```compile_fail,E0382
//! use consilium_privacy::{accountant::ClippingNorm, keystream::MasterSecret, ledger::Grant, step::NoisySteps};
//! fn twice(grant: Grant, secret: &MasterSecret, batch_size: std::num::NonZeroU32, norm: ClippingNorm) {
//!     let first = NoisySteps::new(grant, secret, batch_size, norm);
//!     let second = NoisySteps::new(grant, secret, batch_size, norm);
//! }
//! ```
//!
//! A grant cannot be made, and there are no noisy steps without one:
//!
//! ```compile_fail,E0451
//! use consilium_privacy::{accountant::Charge, ledger::Grant};
//! fn forged(charge: Charge) -> Grant {
//!     let (data_set, study, entry) = (String::new(), [0; 16], [0; 32]);
//!     Grant { data_set, sequence: 1, study, round: 1, attempt: 1, charge, key: None, entry }
//! }
//! ```
//!
//! ```compile_fail,E0308
//! use consilium_privacy::{accountant::ClippingNorm, keystream::MasterSecret, step::NoisySteps};
//! fn unpaid(secret: &MasterSecret, batch_size: std::num::NonZeroU32, norm: ClippingNorm) {
//!     let noisy = NoisySteps::new((), secret, batch_size, norm);
//! }
//! ```

mod adaptive;
mod ahead;
mod clipped_sum;
mod clipping;
mod share;
mod update;

use std::{fmt, num::NonZeroU32};

pub use adaptive::Adaptive;
pub use ahead::StepNoise;
pub use clipped_sum::{AddError, ClippedSum, MAX_RECORDS, Part, Values};
pub use clipping::Clipping;
pub use share::{NoisyShare, shared_lattice_step};
pub use update::{OpenUpdateError, Origin, PrivateUpdate};

use crate::{
    OutOfRange,
    accountant::{ClippingNorm, NoiseMultiplier},
    keystream::{MasterSecret, Purpose},
    ledger::{Entry, Grant, GrantError},
    noise::LatticeNoise,
    sampling::PoissonSampler,
};

/// Why a step or its update was not made.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum StepError {
    /// All steps of the grant have been taken. Ask the ledger for a new one.
    #[error("step refused: the {paid} steps that were charged have been taken")]
    NotPaid {
        /// Steps the grant paid for.
        paid: u32,
    },
    /// The sum was made for another noise multiplier than the one charged.
    #[error(
        "step refused: the sum was clipped for noise multiplier {found}, charged was {charged}"
    )]
    OtherNoise {
        /// What the grant says.
        charged: NoiseMultiplier,
        /// What the sum says.
        found: NoiseMultiplier,
    },
    /// The sum was clipped in another way, or to another norm, than those of this step.
    #[error("step refused: the sum was not clipped as this step's are")]
    OtherClipping,
    /// Noise serves the step it was made for, and a sum of that length.
    #[error("step refused: its noise was made for another step, or for a sum of another length")]
    OtherStep,
    /// Steps whose noise all sites add together give shares, and no other steps do.
    #[error("step refused: it holds a share of the noise, or should")]
    Shared,
    /// A replayed round gives a digest and nothing else.
    #[error("a replayed round has no update to send")]
    Replayed,
    /// The difference to be sent holds NaN or an infinity.
    #[error("the update is not finite at position {position}; lower the learning rate")]
    NotFinite {
        /// The first such position.
        position: usize,
    },
}

/// The noisy steps that one grant pays for.
pub struct NoisySteps {
    grant: Grant,
    secret: MasterSecret,
    sigma: NoiseMultiplier,
    steps: u32,
    taken: u32,
    batch_size: NonZeroU32,
    clipping: Clipping,
    /// C where the steps began.
    first_norm: ClippingNorm,
    /// C of the next step.
    norm: ClippingNorm,
    is_replay: bool,
    /// Whether the noise is a share of what was charged, for a sum of sites.
    is_shared: bool,
}

impl NoisySteps {
    /// Takes the grant for good.
    ///
    /// `batch_size` is the plan's: sums are divided by this **public constant**, never by the
    /// number of units drawn, which would tell how many there are. `clipping_norm` is C of the first
    /// step: the plan's, or where the study's last update ended.
    ///
    /// # Errors
    /// The grant pays for something other than training, or for another secret.
    pub fn new(
        grant: Grant,
        secret: &MasterSecret,
        batch_size: NonZeroU32,
        clipping_norm: ClippingNorm,
    ) -> Result<Self, GrantError> {
        let training = grant.training_with(secret)?;
        Ok(Self {
            grant,
            secret: secret.duplicate(),
            sigma: training.sigma,
            steps: training.steps,
            taken: 0,
            batch_size,
            clipping: Clipping::Flat,
            first_norm: clipping_norm,
            norm: clipping_norm,
            is_replay: false,
            is_shared: false,
        })
    }

    /// The same steps as those of a charge long spent, for an audit inside the hospital: their end
    /// is a digest ([`finish_replay`](Self::finish_replay)), never an update that could be sent,
    /// since the same noise on other data would subtract out.
    ///
    /// # Errors
    /// The entry is no charge for training, or was charged for another secret.
    pub fn replay(
        entry: &Entry,
        secret: &MasterSecret,
        batch_size: NonZeroU32,
        clipping_norm: ClippingNorm,
    ) -> Result<(Self, PoissonSampler), GrantError> {
        let grant = Grant::spent(entry)?;
        let sampler = PoissonSampler::new(&grant, secret)?;
        let steps = Self::new(grant, secret, batch_size, clipping_norm)?;
        Ok((
            Self {
                is_replay: true,
                ..steps
            },
            sampler,
        ))
    }

    /// The same steps, clipped in another way.
    ///
    /// # Errors
    /// Adaptive clipping with too little noise on its count.
    pub fn clipped(self, clipping: Clipping) -> Result<Self, OutOfRange> {
        if let Clipping::Adaptive(adaptive) = &clipping {
            adaptive.check(self.sigma)?;
        }
        Ok(Self { clipping, ..self })
    }

    /// The noise multiplier that was charged.
    pub fn noise_multiplier(&self) -> NoiseMultiplier {
        self.sigma
    }

    /// Steps that may still be taken.
    pub fn steps_left(&self) -> u32 {
        self.steps - self.taken
    }

    /// C of the next step. It depends on nothing but the plan and earlier noisy sums.
    pub fn clipping_norm(&self) -> ClippingNorm {
        self.norm
    }

    /// An empty sum for the next step.
    ///
    /// # Errors
    /// As [`ClippedSum::new`] and [`ClippedSum::clipped`].
    pub fn empty_sum(&self, length: usize) -> Result<ClippedSum, OutOfRange> {
        let sum = ClippedSum::new(length, self.norm, self.sigma)?;
        match &self.clipping {
            Clipping::Flat => Ok(sum),
            clipping => sum.clipped(clipping.clone()),
        }
    }

    /// Adds noise to every coordinate and divides by the batch size: the step's gradient.
    ///
    /// An empty batch is a step like any other: its sum of zeros comes out as noise. Under adaptive
    /// clipping C moves by the noisy count, which goes nowhere else.
    ///
    /// # Errors
    /// No step is left, or the sum was made for other noise or another clipping. Nothing is released
    /// then.
    pub fn step(&mut self, sum: ClippedSum) -> Result<Vec<f32>, StepError> {
        self.admit_alone(&sum)?;
        let context = self.grant.step_context(self.taken + 1);
        let pages = self.secret.pages(Purpose::Noise, &context);
        Ok(self.release(sum, |values| LatticeNoise::new(pages).add(values)))
    }

    /// Takes a step with a sum that was admitted, once `add_noise` has covered every coordinate.
    fn release(&mut self, sum: ClippedSum, add_noise: impl FnOnce(&mut [i64])) -> Vec<f32> {
        self.taken += 1;
        let batch_size = f64::from(self.batch_size.get());
        let scale = sum.lattice_step() / batch_size;
        let (length, bit) = (sum.len(), sum.bit());
        let mut values = sum.into_lattice();
        add_noise(&mut values);
        let (gradient, bits) = values.split_at(length);
        if let (Clipping::Adaptive(adaptive), Some(bit), [bits]) = (&self.clipping, bit, bits) {
            let kept = *bits as f64 / (2.0 * bit) / batch_size + 0.5;
            self.norm = adaptive.moved(self.norm, kept);
        }
        let noisy = gradient.iter();
        noisy.map(|&value| (value as f64 * scale) as f32).collect()
    }

    /// Refuses a sum that the next step may not release by itself.
    fn admit_alone(&self, sum: &ClippedSum) -> Result<(), StepError> {
        match self.is_shared {
            true => Err(StepError::Shared),
            false => self.admit(sum),
        }
    }

    /// Refuses a sum that the next step may not take.
    fn admit(&self, sum: &ClippedSum) -> Result<(), StepError> {
        if self.taken == self.steps {
            return Err(StepError::NotPaid { paid: self.steps });
        }
        if sum.noise_multiplier() != self.sigma {
            let (charged, found) = (self.sigma, sum.noise_multiplier());
            return Err(StepError::OtherNoise { charged, found });
        }
        if sum.clip() != (self.norm, &self.clipping) {
            return Err(StepError::OtherClipping);
        }
        Ok(())
    }

    /// Ends the steps with what will be sent: weights after minus weights before.
    ///
    /// The caller vouches that `difference` was computed from this round's starting weights, the
    /// plan and the results of [`step`](Self::step) alone. Steps not taken stay paid.
    ///
    /// # Errors
    /// A value that is not finite; a replay.
    pub fn finish(self, difference: Vec<f32>) -> Result<PrivateUpdate, StepError> {
        if self.is_replay {
            return Err(StepError::Replayed);
        }
        self.into_update(difference)
    }

    /// Ends replayed steps with the digest that the first run's update had, if all was as then.
    ///
    /// # Errors
    /// A value that is not finite.
    pub fn finish_replay(self, difference: Vec<f32>) -> Result<[u8; 32], StepError> {
        Ok(self.into_update(difference)?.digest())
    }

    fn into_update(self, difference: Vec<f32>) -> Result<PrivateUpdate, StepError> {
        match self.is_shared {
            true => Err(StepError::Shared),
            false => PrivateUpdate::new(difference, self.origin()),
        }
    }

    fn origin(&self) -> Origin {
        Origin::Noised {
            sequence: self.grant.sequence(),
            charge: self.grant.charge(),
            taken: self.taken,
            clipping_norm: self.first_norm,
            next_clipping_norm: self.norm,
        }
    }
}

impl fmt::Debug for NoisySteps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "NoisySteps({} of {} taken for {:?})",
            self.taken, self.steps, self.grant
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        accountant::Charge,
        ledger::{Budget, ChargeRequest, Ledger, LedgerKey, MemoryJournal, Repeat, test_grant},
    };

    const BATCH: NonZeroU32 = NonZeroU32::new(10).unwrap();

    fn steps(sigma: f64, paid: u32) -> NoisySteps {
        steps_at(1.0, sigma, paid)
    }

    fn steps_at(c: f64, sigma: f64, paid: u32) -> NoisySteps {
        let secret = MasterSecret::fixed([5; 32]);
        let grant = test_grant(0.1, sigma, paid, &secret);
        NoisySteps::new(grant, &secret, BATCH, norm(c)).expect("training")
    }

    fn norm(c: f64) -> ClippingNorm {
        c.try_into().expect("within range")
    }

    #[test]
    fn a_step_nobody_paid_for_is_refused() {
        let mut noisy = steps(1.0, 2);
        for _ in 0..2 {
            noisy
                .step(noisy.empty_sum(3).expect("sound"))
                .expect("paid");
        }
        assert_eq!(noisy.steps_left(), 0);
        let sum = noisy.empty_sum(3).expect("sound");
        assert_eq!(noisy.step(sum), Err(StepError::NotPaid { paid: 2 }));
    }

    #[test]
    fn a_sum_clipped_for_less_noise_is_refused_and_costs_no_step() {
        let mut noisy = steps(2.0, 1);
        let sum = ClippedSum::new(3, norm(1.0), 1.0.try_into().expect("sound")).expect("sound");
        assert!(matches!(noisy.step(sum), Err(StepError::OtherNoise { .. })));
        assert_eq!(noisy.steps_left(), 1);
    }

    #[test]
    fn a_sum_clipped_otherwise_is_refused_and_costs_no_step() {
        let mut noisy = steps(2.0, 1);
        let sigma = 2.0.try_into().expect("sound");
        let other_norm = ClippedSum::new(3, norm(2.0), sigma).expect("sound");
        let layers = Clipping::PerLayer { ends: vec![1, 3] };
        let per_layer = ClippedSum::new(3, norm(1.0), sigma)
            .expect("sound")
            .clipped(layers);
        for sum in [other_norm, per_layer.expect("its layers")] {
            assert_eq!(noisy.step(sum), Err(StepError::OtherClipping));
        }
        assert_eq!(noisy.steps_left(), 1);
    }

    /// The deviation must be σC/B on every coordinate, whatever the batch was: no example, one
    /// example, many. Half the noise, or noise per example, would show. 5 standard errors.
    #[test]
    fn noise_has_the_charged_deviation_on_every_coordinate_even_for_an_empty_batch() {
        let (sigma, c, length) = (1.5, 0.2, 40_000);
        let mut noisy = steps_at(c, sigma, 3);
        for examples in [0, 1, 30] {
            let mut sum = noisy.empty_sum(length).expect("sound");
            let mut gradient = vec![0.0; length];
            gradient[0] = 5.0;
            (0..examples).for_each(|_| sum.add(&gradient).expect("fits"));
            let released = noisy.step(sum).expect("paid");
            let expected = (sigma * c / 10.0).powi(2);
            let squares = released[1..].iter().map(|&x| f64::from(x).powi(2));
            let variance = squares.sum::<f64>() / (length - 1) as f64;
            let error = expected * (2.0 / length as f64).sqrt();
            assert!(
                (variance - expected).abs() < 5.0 * error,
                "{variance} for {expected}"
            );
            let signal = f64::from(examples) * c / 10.0;
            assert!((f64::from(released[0]) - signal).abs() < 6.0 * expected.sqrt());
        }
    }

    /// A batch may be added up in one sum or in many: the noise comes once, with the variance that was
    /// charged, and the very bits are the same. 5 standard errors.
    #[test]
    fn the_noise_of_a_step_is_the_same_however_its_batch_is_divided() {
        let (sigma, c, length) = (0.8, 0.5, 40_000);
        let release = |sums: usize| {
            let mut noisy = steps_at(c, sigma, 1);
            let mut gradient = vec![0.0; length];
            let mut divided = Vec::new();
            for _ in 0..sums {
                divided.push(noisy.empty_sum(length).expect("sound"));
            }
            for record in 0..12 {
                gradient[0] = record as f32;
                divided[record % sums].add(&gradient).expect("fits");
            }
            let empty = noisy.empty_sum(length).expect("sound");
            let sum = divided.into_iter().try_fold(empty, ClippedSum::merge);
            noisy.step(sum.expect("few enough")).expect("paid")
        };
        let whole = release(1);
        let squares = whole[1..].iter().map(|&x| f64::from(x).powi(2));
        let variance = squares.sum::<f64>() / (length - 1) as f64;
        let expected = (sigma * c / 10.0).powi(2);
        let error = expected * (2.0 / length as f64).sqrt();
        assert!(
            (variance - expected).abs() < 5.0 * error,
            "{variance} for {expected}"
        );
        assert!([2, 5, 12].into_iter().all(|sums| release(sums) == whole));
    }

    #[test]
    fn noise_never_comes_twice() {
        let mut noisy = steps(1.0, 2);
        let first = noisy
            .step(noisy.empty_sum(8).expect("sound"))
            .expect("paid");
        let second = noisy
            .step(noisy.empty_sum(8).expect("sound"))
            .expect("paid");
        assert!(first.iter().zip(&second).all(|(a, b)| a != b));
    }

    #[test]
    fn the_update_carries_the_charge_behind_it() {
        let mut noisy = steps(1.0, 4);
        noisy
            .step(noisy.empty_sum(2).expect("sound"))
            .expect("paid");
        let update = noisy.finish(vec![0.5, -0.5]).expect("finite");
        let Origin::Noised {
            taken,
            charge: Charge::SampledGaussian { steps, .. },
            ..
        } = update.origin()
        else {
            panic!("not a private update: {update:?}");
        };
        assert_eq!((taken, steps), (1, 4));
        let refused = steps_error(vec![0.0, f32::NAN]);
        assert_eq!(refused, StepError::NotFinite { position: 1 });
    }

    /// The entry of a charge for three steps with this secret, and the grant that came with it.
    fn paid(secret: &MasterSecret) -> (Entry, Grant) {
        let sound = "within range";
        let budget = Budget {
            epsilon: 50.0.try_into().expect(sound),
            delta: 1e-5.try_into().expect(sound),
        };
        let request = ChargeRequest {
            data_set: "scans".into(),
            study: [1; 16],
            round: 1,
            attempt: 1,
            purpose: crate::ledger::Purpose::Training,
            charge: Charge::SampledGaussian {
                q: 0.5.try_into().expect(sound),
                sigma: 2.0.try_into().expect(sound),
                steps: 3,
            },
            study_cap: None,
            repeat: Repeat::Refuse,
            key: Some(secret.commitment()),
        };
        let key = LedgerKey::from_seed([1; 32]).into();
        let mut ledger = Ledger::open(MemoryJournal::default(), key, [("scans".into(), budget)])
            .expect("an empty journal");
        let grant = ledger
            .reserve(request, std::time::UNIX_EPOCH)
            .expect("within budget");
        (
            ledger.entries().last().expect("just charged").clone(),
            grant,
        )
    }

    #[test]
    fn a_replay_repeats_batches_and_noise_and_releases_nothing() {
        let secret = MasterSecret::fixed([5; 32]);
        let (entry, grant) = paid(&secret);
        let mut sampler = PoissonSampler::new(&grant, &secret).expect("training");
        let mut noisy = NoisySteps::new(grant, &secret, BATCH, norm(1.0)).expect("training");
        let run = |noisy: &mut NoisySteps, sampler: &mut PoissonSampler| {
            let mut sum = noisy.empty_sum(4).expect("sound");
            for patient in sampler.draw(9) {
                sum.add(&[patient as f32; 4]).expect("fits");
            }
            noisy.step(sum).expect("paid")
        };
        let first = run(&mut noisy, &mut sampler);
        let digest = noisy.finish(first).expect("finite").digest();

        let replay =
            || NoisySteps::replay(&entry, &secret, BATCH, norm(1.0)).expect("its own secret");
        let (mut noisy, mut sampler) = replay();
        let again = run(&mut noisy, &mut sampler);
        assert_eq!(noisy.finish_replay(again.clone()), Ok(digest));
        let (noisy, _) = replay();
        assert_eq!(
            noisy.finish(again).expect_err("a replay"),
            StepError::Replayed
        );
        let other = NoisySteps::replay(&entry, &MasterSecret::fixed([6; 32]), BATCH, norm(1.0));
        assert!(matches!(other, Err(GrantError::OtherSecret { .. })));
    }

    fn steps_error(difference: Vec<f32>) -> StepError {
        steps(1.0, 1).finish(difference).expect_err("not finite")
    }
}

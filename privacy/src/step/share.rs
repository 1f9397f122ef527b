//! One site's share of a step whose noise all sites add together.
//!
//! **Claim.** A site releases `x + Z` as in a step of its own, but for a multiplier of σ/√h: its
//! lattice has the step `g = σC/(√h·2²⁹)`, its noise the deviation 2²⁹. In a sum that h honest sites
//! are in, one record moves the integers by at most `2²⁹·√h/σ`, and the noise of those h has the
//! deviation `√h·2²⁹`: the Gaussian mechanism of multiplier σ, which is what was charged. A sum of h
//! discrete Gaussians of deviation 2²⁹ differs from one of √h·2²⁹ by less than e^(-π²·2⁵⁸): nothing
//! that a δ could notice (Canonne, Kamath, Steinke 2020; Kairouz, Liu, Steinke 2021, lemma 11).
//!
//! By itself a share is protected by 1/h of the noise only, so it goes nowhere but into a masked
//! vector: [`encode_share`](crate::secagg::encoding::encode_share) takes it by value, and nothing
//! else reads it.

use std::{fmt, num::NonZeroU32};

use ring::digest::{Context, SHA256};
use zeroize::Zeroizing;

use super::{ClippedSum, NoisySteps, Origin, StepError};
use crate::{
    OutOfRange,
    accountant::{ClippingNorm, NoiseMultiplier},
    keystream::Purpose,
    noise::{LATTICE_DEVIATION, LatticeNoise},
};

/// g: what a lattice unit of a share is worth, for h shares of the noise.
///
/// # Errors
/// A share of the noise that is out of range.
pub fn shared_lattice_step(
    sigma: NoiseMultiplier,
    norm: ClippingNorm,
    shares: NonZeroU32,
) -> Result<f64, OutOfRange> {
    Ok(of_share(sigma, shares)?.value() / LATTICE_DEVIATION as f64 * norm.value())
}

/// σ/√h.
fn of_share(sigma: NoiseMultiplier, shares: NonZeroU32) -> Result<NoiseMultiplier, OutOfRange> {
    NoiseMultiplier::try_from(sigma.value() / f64::from(shares.get()).sqrt())
}

/// A clipped sum with a share of the noise. Wiped when dropped.
pub struct NoisyShare {
    units: Zeroizing<Vec<i64>>,
    origin: Origin,
}

impl NoisyShare {
    /// What paid for it.
    pub fn origin(&self) -> Origin {
        self.origin
    }

    /// SHA-256 of its units, little-endian: what the ledger keeps of it.
    pub fn digest(&self) -> [u8; 32] {
        let mut hash = Context::new(&SHA256);
        hash.update(b"consilium/share/1\0");
        for unit in self.units.iter() {
            hash.update(&unit.to_le_bytes());
        }
        let mut digest = [0; 32];
        digest.copy_from_slice(hash.finish().as_ref());
        digest
    }

    pub(crate) fn units(&self) -> &[i64] {
        &self.units
    }
}

impl fmt::Debug for NoisyShare {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NoisyShare({} units, [redacted])", self.units.len())
    }
}

impl NoisySteps {
    /// The same steps with a share of the noise in each, so that a sum of h has all of it. Each step
    /// then gives a [`NoisyShare`] ([`share`](Self::share)) and nothing else.
    ///
    /// # Errors
    /// A share of the noise that is out of range.
    pub fn sharing(self, shares: NonZeroU32) -> Result<Self, OutOfRange> {
        let sigma = of_share(self.sigma, shares)?;
        let is_shared = true;
        Ok(Self {
            sigma,
            is_shared,
            ..self
        })
    }

    /// Adds this site's share of the noise to every coordinate of a step's sum. No step follows.
    ///
    /// # Errors
    /// Steps that do not share their noise, none that is left, a sum made for other noise or another
    /// clipping. Nothing is released then.
    pub fn share(mut self, sum: ClippedSum) -> Result<NoisyShare, StepError> {
        if !self.is_shared || sum.bit().is_some() {
            return Err(StepError::Shared);
        }
        self.admit(&sum)?;
        let context = self.grant.step_context(self.taken + 1);
        self.taken += 1;
        let pages = self.secret.pages(Purpose::Noise, &context);
        let mut units = sum.into_lattice();
        LatticeNoise::new(pages).add(&mut units);
        let origin = self.origin();
        Ok(NoisyShare { units, origin })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{keystream::MasterSecret, ledger::test_grant};

    const BATCH: NonZeroU32 = NonZeroU32::new(10).expect("above 0");
    const LENGTH: usize = 40_000;

    fn norm() -> ClippingNorm {
        0.5.try_into().expect("within range")
    }

    fn steps(seed: u8, sigma: f64) -> NoisySteps {
        let secret = MasterSecret::fixed([seed; 32]);
        let grant = test_grant(0.1, sigma, 1, &secret);
        NoisySteps::new(grant, &secret, BATCH, norm()).expect("training")
    }

    fn share(seed: u8, sigma: f64, shares: u32, gradient: Option<&[f32]>) -> NoisyShare {
        let shares = NonZeroU32::new(shares).expect("above 0");
        let steps = steps(seed, sigma).sharing(shares).expect("within range");
        let mut sum = steps.empty_sum(LENGTH).expect("sound");
        gradient
            .iter()
            .for_each(|gradient| sum.add(gradient).expect("fits"));
        steps.share(sum).expect("paid")
    }

    /// Variance of a sum of shares in units of the gradient.
    fn variance(sites: u8, sigma: f64, shares: u32) -> f64 {
        let mut total = vec![0_i64; LENGTH];
        for site in 0..sites {
            let share = share(site, sigma, shares, None);
            let pairs = total.iter_mut().zip(share.units());
            pairs.for_each(|(total, unit)| *total += unit);
        }
        let sigma = sigma.try_into().expect("within range");
        let shares = NonZeroU32::new(shares).expect("above 0");
        let step = shared_lattice_step(sigma, norm(), shares).expect("within range");
        let squares = total.iter().map(|unit| (*unit as f64 * step).powi(2));
        squares.sum::<f64>() / LENGTH as f64
    }

    /// h = 3 of n = 5: with three shares the noise is the whole one, with all five 5/3 of it in
    /// variance. 5 standard errors.
    #[test]
    fn the_guaranteed_survivors_carry_the_whole_noise_and_all_sites_more() {
        let (sigma, shares) = (1.5, 3);
        let whole = (sigma * norm().value()).powi(2);
        for (sites, expected) in [(3, whole), (4, whole * 4.0 / 3.0), (5, whole * 5.0 / 3.0)] {
            let found = variance(sites, sigma, shares);
            let error = expected * (2.0 / LENGTH as f64).sqrt();
            assert!(
                (found - expected).abs() < 5.0 * error,
                "{sites}: {found} for {expected}"
            );
        }
    }

    #[test]
    fn a_share_holds_the_clipped_gradient_in_units_of_the_shared_lattice() {
        let mut gradient = vec![0.0; LENGTH];
        gradient[0] = 7.0;
        let share = share(1, 1.5, 4, Some(&gradient));
        let four = NonZeroU32::new(4).expect("above 0");
        let sigma = 1.5.try_into().expect("within range");
        let step = shared_lattice_step(sigma, norm(), four).expect("within range");
        let (found, deviation) = (share.units()[0] as f64 * step, 1.5 * 0.5 / 2.0);
        assert!(
            (found - 0.5).abs() < 6.0 * deviation,
            "clipped to C: {found}"
        );
        assert!(format!("{share:?}").contains("redacted"));
    }

    #[test]
    fn steps_that_share_their_noise_give_no_update_and_others_no_share() {
        let two = NonZeroU32::new(2).expect("above 0");
        let mut sharing = steps(1, 1.0).sharing(two).expect("within range");
        let sum = sharing.empty_sum(3).expect("sound");
        assert_eq!(sharing.step(sum), Err(StepError::Shared));
        let refused = sharing.finish(vec![0.0; 3]).expect_err("half the noise");
        assert_eq!(refused, StepError::Shared);
        let whole = steps(1, 1.0);
        let sum = whole.empty_sum(3).expect("sound");
        assert_eq!(
            whole.share(sum).expect_err("its own noise"),
            StepError::Shared
        );
    }
}

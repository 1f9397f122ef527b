//! Shamir's secret sharing over GF(256), by `vsss-rs`: constant time, uniform coefficients.

use std::convert::Infallible;

use rand_core::{TryCryptoRng, TryRng};
use vsss_rs::Gf256;
use zeroize::Zeroizing;

use super::message::{LENGTH, Secret};
use crate::keystream::Keystream;

/// Random coefficients: the keystream of a key that the system drew.
struct Coefficients<'a>(&'a mut Keystream);

impl TryRng for Coefficients<'_> {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        self.try_next_u64().map(|word| word as u32)
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        Ok(self.0.word())
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        for part in bytes.chunks_mut(size_of::<u64>()) {
            let word = self.0.word().to_le_bytes();
            part.copy_from_slice(&word[..part.len()]);
        }
        Ok(())
    }
}

impl TryCryptoRng for Coefficients<'_> {}

/// Shares of a secret at the points 1 to `holders`; any `threshold` of them give it back.
///
/// Terms hold 2 ≤ `threshold` ≤ `holders` ≤ 255.
pub(super) fn split(
    secret: &Secret,
    threshold: usize,
    holders: usize,
    coefficients: &mut Keystream,
) -> Vec<Secret> {
    let mut rng = Coefficients(coefficients);
    let shares = Gf256::split_bytes(threshold, holders, secret.as_slice(), &mut rng)
        .expect("terms hold a threshold and a number of holders that can be shared among");
    let shares = Zeroizing::new(shares);
    // A share is its point and one byte for each byte of the secret.
    (shares.iter())
        .map(|share| {
            let mut bytes = Secret::default();
            bytes.copy_from_slice(&share[1..]);
            bytes
        })
        .collect()
}

/// The secret behind shares at distinct points: as many as the threshold, each already verified.
/// `None` if a point is 0 or comes twice.
///
/// From too few shares, or from tampered ones, comes **another secret without warning**: compare
/// it with its commitment.
pub(super) fn combine(shares: &[(u8, &Secret)]) -> Option<Secret> {
    let inputs: Zeroizing<Vec<Vec<u8>>> = Zeroizing::new(
        (shares.iter())
            .map(|(point, share)| {
                let mut bytes = Vec::with_capacity(1 + LENGTH);
                bytes.push(*point);
                bytes.extend_from_slice(share.as_slice());
                bytes
            })
            .collect(),
    );
    let combined = Gf256::combine_bytes(inputs.as_slice());
    let combined = Zeroizing::new(combined.ok()?);
    let mut secret = Secret::default();
    let exact: &[u8; LENGTH] = combined.as_slice().try_into().ok()?;
    secret.copy_from_slice(exact);
    Some(secret)
}

//! Stand-ins for patient identifiers, so that logs can name a patient to the steward alone.

use std::fmt;

use ring::{
    hmac,
    rand::{SecureRandom, SystemRandom},
};
use zeroize::Zeroizing;

use crate::keystream::NoRandomness;

/// The key that turns identifiers into pseudonyms. It stays at the site: with it, anyone can try
/// identifiers until one fits; without it, nobody can.
pub struct PseudonymKey(Zeroizing<[u8; 32]>);

impl PseudonymKey {
    /// Draws one from the operating system. Keep it sealed: another key gives other pseudonyms.
    ///
    /// # Errors
    /// The system has no randomness to give.
    pub fn random() -> Result<Self, NoRandomness> {
        let mut bytes = Zeroizing::new([0; 32]);
        SystemRandom::new()
            .fill(bytes.as_mut())
            .map_err(|_| NoRandomness)?;
        Ok(Self(bytes))
    }

    /// Reads back a key that was kept sealed.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// Its bytes, to be sealed.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The pseudonym of an identifier, which must be given exactly as it was before: blanks and
    /// case count.
    pub fn pseudonym(&self, identifier: &str) -> Pseudonym {
        let key = hmac::Key::new(hmac::HMAC_SHA256, self.0.as_ref());
        let mut message = b"consilium/pseudonym/1\0".to_vec();
        message.extend(identifier.as_bytes());
        let tag = hmac::sign(&key, &message);
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&tag.as_ref()[..8]);
        Pseudonym(bytes)
    }
}

impl fmt::Debug for PseudonymKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PseudonymKey([redacted])")
    }
}

/// A patient's stand-in: 16 hexadecimal digits. Two of a million patients share one with a chance
/// of 3 in 10⁸.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pseudonym([u8; 8]);

impl fmt::Display for Pseudonym {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Pseudonym {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pseudonym_is_stable_keyed_and_hides_the_identifier() {
        let key = PseudonymKey::from_bytes([1; 32]);
        let pseudonym = key.pseudonym("MRN-0042");
        assert_eq!(
            pseudonym,
            PseudonymKey::from_bytes(*key.as_bytes()).pseudonym("MRN-0042")
        );
        assert_ne!(pseudonym, key.pseudonym("MRN-0043"));
        assert_ne!(
            pseudonym,
            PseudonymKey::from_bytes([2; 32]).pseudonym("MRN-0042")
        );
        let text = format!("{pseudonym} {key:?}");
        assert_eq!(text.split(' ').next().map(str::len), Some(16));
        assert!(!text.contains("0042"));
    }
}

//! The key behind every stand-in: UIDs, the patient's pseudonym and the days that dates move.

use std::fmt;

use ring::hmac;
use zeroize::Zeroizing;

/// The days that dates of a patient may move back: between one and ten years.
const SHIFTS: std::ops::RangeInclusive<u64> = 365..=3_650;

/// The key of one project. Stand-ins are stable under it without any table of pairs, and tell nothing
/// without it; two projects with different keys cannot be linked. Whoever holds it can try identifiers
/// until one fits: it stays at the site.
pub struct ProjectKey(Zeroizing<[u8; 32]>);

/// Days by which all dates of one patient move.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Shift {
    days: i64,
}

impl ProjectKey {
    /// Takes 32 bytes that nobody can guess.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// The UID that stands for another: `2.25.` and 128 bits, 44 characters at most (PS3.5 B.2).
    pub(super) fn uid(&self, uid: &str) -> String {
        format!("2.25.{}", u128::from_be_bytes(self.bytes("uid", uid)))
    }

    /// The stand-in of a patient: 16 hexadecimal digits, of which two of a million patients share one
    /// with a chance of 3 in 10⁸.
    pub(super) fn pseudonym(&self, patient: &str) -> String {
        hex::encode_upper(self.bytes::<8>("patient", patient))
    }

    /// The days that the dates of a patient move: the same for all objects, back in time.
    pub(super) fn shift(&self, patient: &str) -> Shift {
        let number = u64::from_be_bytes(self.bytes("shift", patient));
        let days = SHIFTS.start() + number % (SHIFTS.end() - SHIFTS.start() + 1);
        Shift {
            days: -(days as i64), // at most 3650
        }
    }

    /// The first bytes (at most 32) of the HMAC-SHA256 of a value, another for every purpose.
    fn bytes<const COUNT: usize>(&self, purpose: &str, value: &str) -> [u8; COUNT] {
        let key = hmac::Key::new(hmac::HMAC_SHA256, self.0.as_ref());
        let message = format!("consilium/dicom/{purpose}/1\0{value}");
        let tag = hmac::sign(&key, message.as_bytes());
        let mut bytes = [0; COUNT];
        for (to, from) in bytes.iter_mut().zip(tag.as_ref()) {
            *to = *from;
        }
        bytes
    }
}

impl fmt::Debug for ProjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ProjectKey([redacted])")
    }
}

impl Shift {
    /// No days at all.
    pub(super) const NONE: Self = Self { days: 0 };

    /// Days to add, below 0.
    pub(super) fn days(self) -> i64 {
        self.days
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stand_ins_are_stable_keyed_and_separate() {
        let (key, other) = (
            ProjectKey::from_bytes([1; 32]),
            ProjectKey::from_bytes([2; 32]),
        );
        assert_eq!(
            key.uid("1.2.3"),
            ProjectKey::from_bytes([1; 32]).uid("1.2.3")
        );
        assert_ne!(key.uid("1.2.3"), key.uid("1.2.4"));
        assert_ne!(key.uid("1.2.3"), other.uid("1.2.3"));
        assert_ne!(key.pseudonym("1.2.3"), other.pseudonym("1.2.3"));
        assert_ne!(key.shift("1.2.3"), other.shift("1.2.3"));
        assert_eq!(format!("{key:?}"), "ProjectKey([redacted])");
    }

    #[test]
    fn a_uid_is_hmac_sha256_cut_to_128_bits() {
        // Python: hmac.new(bytes([1] * 32), b"consilium/dicom/uid/1\x001.2.3", "sha256")
        let uid = ProjectKey::from_bytes([1; 32]).uid("1.2.3");
        assert_eq!(uid, "2.25.282828506753481276615298314983949365746");
    }

    #[test]
    fn uids_are_valid_and_shifts_in_range() {
        let key = ProjectKey::from_bytes([7; 32]);
        for n in 0..2_000 {
            let uid = key.uid(&format!("1.2.{n}"));
            assert!(uid.len() <= 44 && !uid["2.25.".len()..].starts_with('0'));
            assert!((-3_650..=-365).contains(&key.shift(&uid).days()));
            assert_eq!(key.pseudonym(&uid).len(), 16);
        }
    }
}

//! Names and numbers of members, studies and rounds.

use std::{fmt, str::FromStr};

use ring::rand::{SecureRandom, SystemRandom};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::OutOfRange;

/// Number of a member in the roster; never used again for another member.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MemberId(pub u16);

/// The member number of a hospital. Only a roster entry with the role `site` makes one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SiteId(pub MemberId);

impl fmt::Display for MemberId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl fmt::Debug for MemberId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "member {}", self.0)
    }
}

impl fmt::Display for SiteId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for SiteId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "site {}", self.0.0)
    }
}

impl TryFrom<u32> for MemberId {
    type Error = OutOfRange;
    fn try_from(value: u32) -> Result<Self, OutOfRange> {
        u16::try_from(value)
            .map(Self)
            .map_err(|_| OutOfRange::new("member number", "below 65536", value))
    }
}

impl TryFrom<u32> for SiteId {
    type Error = OutOfRange;
    fn try_from(value: u32) -> Result<Self, OutOfRange> {
        MemberId::try_from(value).map(Self)
    }
}

/// What a member is called by people: 1 to 64 characters, no control characters, no slashes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct MemberName(String);

impl MemberName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for MemberName {
    type Err = OutOfRange;
    fn from_str(text: &str) -> Result<Self, OutOfRange> {
        let length = text.chars().count();
        let allowed = |c: char| !c.is_control() && c != '/' && c != '\\';
        if (1..=64).contains(&length) && text.trim() == text && text.chars().all(allowed) {
            Ok(Self(text.to_owned()))
        } else {
            let rule = "1 to 64 characters without slashes, control characters or outer blanks";
            Err(OutOfRange::new("name", rule, format!("{text:?}")))
        }
    }
}

impl<'de> Deserialize<'de> for MemberName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(de::Error::custom)
    }
}

impl fmt::Display for MemberName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Identity of a study: 16 random bytes, written as 32 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StudyId([u8; 16]);

impl StudyId {
    /// Draws a fresh one from the system's generator.
    ///
    /// # Errors
    /// The system has no randomness to give.
    pub fn random() -> Result<Self, OutOfRange> {
        let mut bytes = [0; 16];
        SystemRandom::new()
            .fill(&mut bytes)
            .map_err(|_| OutOfRange::new("system randomness", "available", "none"))?;
        Ok(Self(bytes))
    }

    /// Its 16 bytes.
    pub fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl TryFrom<&[u8]> for StudyId {
    type Error = OutOfRange;
    fn try_from(bytes: &[u8]) -> Result<Self, OutOfRange> {
        bytes
            .try_into()
            .map(Self)
            .map_err(|_| OutOfRange::new("study id", "16 bytes", format!("{} bytes", bytes.len())))
    }
}

impl FromStr for StudyId {
    type Err = OutOfRange;
    fn from_str(text: &str) -> Result<Self, OutOfRange> {
        let mut bytes = [0; 16];
        hex::decode_to_slice(text, &mut bytes).map_err(|_| {
            OutOfRange::new("study id", "32 hexadecimal digits", format!("{text:?}"))
        })?;
        Ok(Self(bytes))
    }
}

impl fmt::Display for StudyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for StudyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "study {self}")
    }
}

impl Serialize for StudyId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for StudyId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(de::Error::custom)
    }
}

/// One try at one round of a study. Rounds and attempts count from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RoundId {
    /// The study it belongs to.
    pub study: StudyId,
    /// Number of the round.
    pub round: u32,
    /// Number of the attempt at this round.
    pub attempt: u32,
}

impl RoundId {
    /// The same round, tried once more.
    pub fn next_attempt(self) -> Self {
        Self {
            attempt: self.attempt + 1,
            ..self
        }
    }
}

impl fmt::Display for RoundId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}.{}", self.study, self.round, self.attempt)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_study_id_reads_back_what_it_prints() {
        let id = StudyId::random().expect("randomness");
        assert_eq!(id, id.to_string().parse().expect("its own text"));
    }

    #[test]
    fn names_refuse_what_would_confuse_a_folder_or_a_terminal() {
        for bad in ["", " x", "a/b", "a\\b", "a\nb", &"x".repeat(65)] {
            assert!(bad.parse::<MemberName>().is_err(), "{bad:?} was accepted");
        }
        assert!("St. Mary's, 北京".parse::<MemberName>().is_ok());
    }
}

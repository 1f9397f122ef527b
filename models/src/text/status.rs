//! What a note says of something it mentions: whether it is so, of whom, and when.
//!
//! The three axes of ConText (Harkema et al. 2009, doi:10.1016/j.jbi.2009.05.002).

use serde::{Deserialize, Serialize};

/// What a note says of a mention. The default is what a plain mention means: the patient has it, now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct Status {
    /// Whether it is so.
    pub certainty: Certainty,
    /// Of whom it is said.
    pub experiencer: Experiencer,
    /// When.
    pub time: Time,
}

/// Whether something is so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Certainty {
    /// It is there.
    #[default]
    Affirmed,
    /// It may be there.
    Possible,
    /// It is not there.
    Negated,
}

/// Of whom something is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Experiencer {
    /// Of the patient.
    #[default]
    Patient,
    /// Of a relative.
    Family,
    /// Of somebody else.
    Other,
}

/// When something is so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Time {
    /// Now, or since lately.
    #[default]
    Current,
    /// In the past, and over.
    Historical,
    /// Not yet: what might come, or what to look out for.
    Hypothetical,
}

impl Status {
    /// Whether the patient has it now, for certain.
    pub fn is_present(self) -> bool {
        self == Self::default()
    }

    /// Whether the patient does not have it now.
    pub fn is_absent(self) -> bool {
        self.certainty == Certainty::Negated
            && self.experiencer == Experiencer::Patient
            && self.time == Time::Current
    }
}

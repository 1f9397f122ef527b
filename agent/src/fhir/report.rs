//! What is to be said of one prediction, in FHIR or in HL7 v2.
//!
//! A [`Report`] holds only what both can carry: no empty text, no control characters, no probability
//! outside 0 to 1. So writing it cannot fail.

use std::{
    fmt,
    time::{Duration, SystemTime},
};

use consilium_privacy::keystream::NoRandomness;
use consilium_proto::Digest;
use ring::rand::{SecureRandom as _, SystemRandom};

use super::{element::DICOM_UID, plan::ProposedPlan};

/// Stands in every report.
pub const NOTICE: &str = "Research use only. Not for diagnosis. Not reviewed by a person.";

/// Most bytes of a line.
const LINE_LIMIT: usize = 1000;
/// Most bytes of a text of several lines.
const PROSE_LIMIT: usize = 1 << 20;

/// What is to be said of one prediction.
#[derive(Clone)]
pub struct Report {
    /// Names the prediction. All names in what is written come from it.
    pub id: PredictionId,
    /// When the prediction was made.
    pub made: Instant,
    /// About which patient.
    pub subject: Link,
    /// What was read.
    pub input: Input,
    /// What read it.
    pub model: Model,
    /// How probable each class is, in the order to show.
    pub classes: Vec<ClassProbability>,
    /// The classes that cannot be excluded, where that was worked out.
    pub prediction_set: Option<PredictionSet>,
    /// Whether the input is unlike the data of training; none where nobody looked.
    pub unlike_training_data: Option<bool>,
    /// In words. [`NOTICE`] is added.
    pub conclusion: Prose,
    /// The conclusion in codes.
    pub conclusion_codes: Vec<Code>,
    /// What could be done.
    pub plan: Option<ProposedPlan>,
}

/// Names a prediction: 128 random bits. The last 16 tell the parts of what is written apart, and 6 say what
/// kind of UUID it is; the other 106 must differ from those of any other prediction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PredictionId(pub u128);

/// A time of the years 1970 to 9999, in UTC, to the millisecond.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instant(String);

/// What was read.
#[derive(Clone)]
pub struct Input {
    /// What kind of thing.
    pub kind: InputKind,
    /// Of its bytes.
    pub digest: Digest,
    /// Where it came from.
    pub sources: Vec<Source>,
    /// The imaging study it belongs to.
    pub study: Option<Link>,
}

/// What kind of thing was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InputKind {
    /// An image or several.
    Image,
    /// A note.
    Note,
}

/// What made a prediction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Model {
    /// How it is called.
    pub name: Line,
    /// Its version, with the study and round it comes from.
    pub version: Line,
    /// Of its weights.
    pub digest: Digest,
}

/// How probable a class is.
#[derive(Clone, PartialEq)]
pub struct ClassProbability {
    /// The class.
    pub name: Line,
    /// How probable.
    pub probability: Probability,
}

/// Classes of which the true one is missed no more often than was asked for.
#[derive(Clone, PartialEq)]
pub struct PredictionSet {
    /// How often the true class may be missed.
    pub error_rate: Probability,
    /// The classes.
    pub classes: Vec<Line>,
}

/// From 0 to 1, to six digits.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub struct Probability(f64);

/// A text of one line: words with single blanks between them, at most 1000 bytes.
#[derive(Clone, PartialEq, Eq)]
pub struct Line(String);

/// A text of several lines, at most 1 MiB.
#[derive(Clone, PartialEq, Eq)]
pub struct Prose(String);

/// A code in a system, with its name.
#[derive(Clone, PartialEq, Eq)]
pub struct Code {
    pub(crate) system: Line,
    pub(crate) code: Line,
    pub(crate) name: Line,
}

/// Where something that was read came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// What kind of resource it is.
    pub kind: SourceKind,
    /// Which.
    pub link: Link,
}

/// What kind of resource was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SourceKind {
    /// An imaging study.
    ImagingStudy,
    /// An image.
    Media,
    /// A note.
    DocumentReference,
    /// A note of the kind of a report.
    DiagnosticReport,
}

/// What a resource outside the report is known by.
#[derive(Clone, PartialEq, Eq)]
pub struct Link(pub(crate) LinkName);

#[derive(Clone, PartialEq, Eq)]
pub(crate) enum LinkName {
    /// By its id on the server.
    Id(Line),
    /// By a name in a system.
    Identifier { system: Line, value: Line },
}

/// Why something cannot stand in a report. Does not say what it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{what} must be {allowed}")]
pub struct NotSayable {
    what: &'static str,
    allowed: &'static str,
}

impl PredictionId {
    /// A new one.
    ///
    /// # Errors
    /// The system has no randomness.
    pub fn random() -> Result<Self, NoRandomness> {
        let mut bytes = [0; 16];
        let filled = SystemRandom::new().fill(&mut bytes);
        filled.map_err(|_| NoRandomness)?;
        Ok(Self(u128::from_be_bytes(bytes)))
    }

    /// The name of a part of what is written about this prediction, as a UUID of version 8 (RFC 9562).
    pub(super) fn part(self, number: u16) -> String {
        let mixed = self.0 ^ u128::from(number);
        let version = mixed & !(0xF << 76) | 0x8 << 76;
        let digits = format!("{:032x}", version & !(0b11 << 62) | 0b10 << 62);
        let mut uuid = String::from("urn:uuid:");
        for (at, digit) in digits.chars().enumerate() {
            if matches!(at, 8 | 12 | 16 | 20) {
                uuid.push('-');
            }
            uuid.push(digit);
        }
        uuid
    }
}

impl Instant {
    /// As FHIR writes it: `2026-01-31T09:05:00.000Z`.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<SystemTime> for Instant {
    type Error = NotSayable;
    fn try_from(time: SystemTime) -> Result<Self, NotSayable> {
        /// The year 10000, in seconds since 1970.
        const END: Duration = Duration::from_secs(253_402_300_800);
        match time.duration_since(SystemTime::UNIX_EPOCH) {
            Ok(since) if since < END => {
                Ok(Self(humantime::format_rfc3339_millis(time).to_string()))
            }
            _ => Err(NotSayable {
                what: "a time",
                allowed: "of the years 1970 to 9999",
            }),
        }
    }
}

impl Probability {
    /// The number.
    pub fn number(self) -> f64 {
        self.0
    }
}

impl TryFrom<f64> for Probability {
    type Error = NotSayable;
    fn try_from(probability: f64) -> Result<Self, NotSayable> {
        if (0.0..=1.0).contains(&probability) {
            Ok(Self((probability * 1e6).round() / 1e6))
        } else {
            Err(NotSayable {
                what: "a probability",
                allowed: "from 0 to 1",
            })
        }
    }
}

impl Line {
    /// A line. Blanks and line ends between words become one blank.
    ///
    /// # Errors
    /// Nothing but blanks, control characters, too long.
    pub fn new(text: &str) -> Result<Self, NotSayable> {
        let words: Vec<&str> = text.split_whitespace().collect();
        let line = words.join(" ");
        if line.is_empty() || line.len() > LINE_LIMIT || line.contains(char::is_control) {
            return Err(NotSayable {
                what: "a line",
                allowed: "1 to 1000 bytes of text without control characters",
            });
        }
        Ok(Self(line))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Prose {
    /// A text of several lines, with `\n` at their ends.
    ///
    /// # Errors
    /// Nothing but blanks, control characters but for tabs and line ends, too long.
    pub fn new(text: &str) -> Result<Self, NotSayable> {
        let text = text.trim().replace("\r\n", "\n");
        let control = |letter: char| letter.is_control() && !matches!(letter, '\n' | '\t');
        if text.is_empty() || text.len() > PROSE_LIMIT || text.contains(control) {
            return Err(NotSayable {
                what: "a text",
                allowed: "1 byte to 1 MiB of text without control characters",
            });
        }
        Ok(Self(text))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Code {
    /// A code of a system, and how it is called.
    ///
    /// # Errors
    /// A system that is no address, or what no [`Line`] is.
    pub fn new(system: &str, code: &str, name: &str) -> Result<Self, NotSayable> {
        Ok(Self {
            system: address(system)?,
            code: Line::new(code)?,
            name: Line::new(name)?,
        })
    }
}

impl Link {
    /// By its id on the server: 1 to 64 letters, digits, hyphens and dots.
    ///
    /// # Errors
    /// Another id.
    pub fn to(id: &str) -> Result<Self, NotSayable> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'.';
        if !(1..=64).contains(&id.len()) || !id.bytes().all(plain) {
            return Err(NotSayable {
                what: "an id",
                allowed: "1 to 64 letters, digits, hyphens and dots",
            });
        }
        Ok(Self(LinkName::Id(Line::new(id)?)))
    }

    /// By a name in a system, as a patient's number in a hospital.
    ///
    /// # Errors
    /// A system that is no address, or what no [`Line`] is.
    pub fn named(system: &str, value: &str) -> Result<Self, NotSayable> {
        Ok(Self(LinkName::Identifier {
            system: address(system)?,
            value: Line::new(value)?,
        }))
    }

    /// By a UID of DICOM: of a study, or of an image.
    ///
    /// # Errors
    /// No UID.
    pub fn dicom(uid: &str) -> Result<Self, NotSayable> {
        let is_uid = (1..=64).contains(&uid.len())
            && uid
                .split('.')
                .all(|part| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit()));
        if !is_uid {
            return Err(NotSayable {
                what: "a UID",
                allowed: "1 to 64 digits and dots",
            });
        }
        Self::named(DICOM_UID, &format!("urn:oid:{uid}"))
    }
}

impl SourceKind {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::ImagingStudy => "ImagingStudy",
            Self::DocumentReference => "DocumentReference",
            Self::DiagnosticReport => "DiagnosticReport",
            Self::Media => "Media",
        }
    }
}

/// An absolute address: a scheme, a colon, and no blanks.
fn address(text: &str) -> Result<Line, NotSayable> {
    let is_address = text.split_once(':').is_some_and(|(scheme, rest)| {
        let plain = scheme.bytes().all(|byte| byte.is_ascii_alphanumeric());
        !scheme.is_empty() && plain && !rest.is_empty() && !rest.contains([' ', '|'])
    });
    if !is_address {
        return Err(NotSayable {
            what: "a system",
            allowed: "an absolute address",
        });
    }
    Line::new(text)
}

/// Written by hand: what is said of a patient is patient data.
impl fmt::Debug for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Report({:032x}, {:?})", self.id.0, self.model)
    }
}

/// Written by hand: it may say something of a patient.
impl fmt::Debug for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Line({} bytes)", self.0.len())
    }
}

/// Written by hand: it may say something of a patient.
impl fmt::Debug for Prose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Prose({} bytes)", self.0.len())
    }
}

/// Written by hand: it may say something of a patient.
impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Code")
    }
}

/// Written by hand: it may name a patient.
impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Link")
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    pub(crate) fn line(text: &str) -> Line {
        Line::new(text).expect("sayable")
    }

    /// A report with everything in it.
    pub(crate) fn full() -> Report {
        let probability = |number| Probability::try_from(number).expect("from 0 to 1");
        let class = |name, number| ClassProbability {
            name: line(name),
            probability: probability(number),
        };
        let uid = "1.2.840.113619.2.1";
        Report {
            id: PredictionId(0x0123_4567_89AB_CDEF_0123_4567_89AB_CD00),
            made: Instant::try_from(
                SystemTime::UNIX_EPOCH + Duration::from_millis(1_795_961_347_250),
            )
            .expect("in range"),
            subject: Link::named("urn:oid:1.2.3", "4711|^&~\\").expect("sayable"),
            input: Input {
                kind: InputKind::Image,
                digest: Digest::plain(b"image"),
                sources: vec![Source {
                    kind: SourceKind::Media,
                    link: Link::dicom(uid).expect("a UID"),
                }],
                study: Some(Link::dicom(uid).expect("a UID")),
            },
            model: Model {
                name: line("chest x-ray, 胸部X光"),
                version: line("study pneumonia, round 12"),
                digest: Digest::plain(b"model"),
            },
            classes: vec![class("pneumonia", 0.912_345_678), class("normal", 1e-9)],
            prediction_set: Some(PredictionSet {
                error_rate: probability(0.1),
                classes: vec![line("pneumonia")],
            }),
            unlike_training_data: Some(false),
            conclusion: Prose::new("Pneumonia is likely.\n肺炎的可能性大。 a|b^c~d\\e&f")
                .expect("sayable"),
            conclusion_codes: vec![
                Code::new(
                    "http://hl7.org/fhir/sid/icd-10",
                    "J18.9",
                    "Pneumonia, unspecified",
                )
                .expect("sayable"),
            ],
            plan: Some(super::super::plan::tests::plan()),
        }
    }

    #[test]
    fn what_cannot_be_said_is_refused() {
        for bad in ["", " \n", "a\0b", "a\u{7f}", &"x".repeat(1001)] {
            assert!(Line::new(bad).is_err());
        }
        assert_eq!(line(" a \n b ").as_str(), "a b");
        assert!(Prose::new("a\u{8}").is_err() && Prose::new("\t\n").is_err());
        assert_eq!(Prose::new("a\r\nb\n").map(|it| it.0), Ok("a\nb".into()));
        for bad in [f64::NAN, -0.1, 1.000_001] {
            assert!(Probability::try_from(bad).is_err());
        }
        for bad in ["", "a b", "a/b", "é", &"1".repeat(65)] {
            assert!(Link::to(bad).is_err());
        }
        for bad in ["", "1..2", "1.a", ".1", &"1".repeat(65)] {
            assert!(Link::dicom(bad).is_err());
        }
        for bad in ["", "local", "urn:a b", ":x", "urn:"] {
            assert!(Code::new(bad, "1", "one").is_err(), "{bad}");
        }
        let early = SystemTime::UNIX_EPOCH - Duration::from_secs(1);
        assert!(Instant::try_from(early).is_err());
        let late = SystemTime::UNIX_EPOCH + Duration::from_secs(253_402_300_800);
        assert!(Instant::try_from(late).is_err());
    }

    #[test]
    fn nothing_of_a_patient_shows_in_debug_output() {
        let shown = format!("{:?} {:?}", full(), full().subject);
        for secret in ["4711", "neumonia", "肺炎", "912", "J18"] {
            assert!(!shown.contains(secret), "{shown}");
        }
    }

    proptest! {
        #[test]
        fn parts_have_names_of_their_own(id: u128, one: u16, other: u16) {
            let (a, b) = (PredictionId(id).part(one), PredictionId(id).part(other));
            prop_assert_eq!(a == b, one == other);
            prop_assert_eq!(a.len(), 45);
            prop_assert_eq!(&a[23..24], "8");
            prop_assert!(matches!(&a[28..29], "8" | "9" | "a" | "b"));
        }
    }
}

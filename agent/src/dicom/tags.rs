//! The few attributes that the node needs of an object, typed.

use std::fmt;

use dicom_core::Tag;
use serde::{Deserialize, Serialize};

use super::{
    data_set::{DataSet, Level},
    orientation::{Orientation, OrientationError},
};

pub(super) const PER_FRAME_GROUPS: Tag = Tag(0x5200, 0x9230);
pub(super) const SHARED_GROUPS: Tag = Tag(0x5200, 0x9229);
const SOP_CLASS: Tag = Tag(0x0008, 0x0016);
const SOP_INSTANCE: Tag = Tag(0x0008, 0x0018);
const STUDY: Tag = Tag(0x0020, 0x000D);
const SERIES: Tag = Tag(0x0020, 0x000E);
const PIXEL_MEASURES: Tag = Tag(0x0028, 0x9110);
const PIXEL_SPACING: Tag = Tag(0x0028, 0x0030);
const IMAGER_PIXEL_SPACING: Tag = Tag(0x0018, 0x1164);
const BURNED_IN: Tag = Tag(0x0028, 0x0301);
pub(super) const MODALITY: Tag = Tag(0x0008, 0x0060);
pub(super) const FRAMES: Tag = Tag(0x0028, 0x0008);

/// A unique identifier: digits and dots, 1 to 64 of them, so that it is safe as a name of a file.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Uid(String);

/// Text that is no unique identifier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a unique identifier is 1 to 64 digits and dots, no component empty")]
pub struct NotUid;

impl TryFrom<String> for Uid {
    type Error = NotUid;

    fn try_from(text: String) -> Result<Self, NotUid> {
        let is_number = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
        match text.len() <= 64 && text.split('.').all(is_number) {
            true => Ok(Self(text)),
            false => Err(NotUid),
        }
    }
}

impl From<Uid> for String {
    fn from(uid: Uid) -> Self {
        uid.0
    }
}

impl Uid {
    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Uid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A day of the calendar.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Date {
    /// The year.
    pub year: u16,
    /// 1 to 12.
    pub month: u8,
    /// 1 to 31.
    pub day: u8,
}

impl Date {
    /// `YYYYMMDD`, and `YYYY.MM.DD` of old files (PS3.5 §6.2).
    fn from_text(text: &str) -> Option<Self> {
        let digits: String = text.chars().filter(|letter| *letter != '.').collect();
        if digits.len() != 8 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let date = Self {
            year: digits.get(..4)?.parse().ok()?,
            month: digits.get(4..6)?.parse().ok()?,
            day: digits.get(6..)?.parse().ok()?,
        };
        ((1..=12).contains(&date.month) && (1..=31).contains(&date.day)).then_some(date)
    }
}

/// Written by hand: dates of treatment are patient data.
impl fmt::Debug for Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Date")
    }
}

/// Whether text is burned into the pixels, by the object's own word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum BurnedIn {
    /// It says yes.
    Yes,
    /// It says no.
    No,
    /// It says nothing.
    #[default]
    Unstated,
}

/// What the node needs to know about an object. Text is decoded by the object's character set; what is
/// empty or malformed is `None`.
#[derive(Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Tags {
    /// SOP Class UID.
    pub sop_class: Option<Uid>,
    /// SOP Instance UID.
    pub sop_instance: Option<Uid>,
    /// Study Instance UID.
    pub study: Option<Uid>,
    /// Series Instance UID.
    pub series: Option<Uid>,
    /// Instance Number.
    pub instance_number: Option<i32>,
    /// Patient ID.
    pub patient_id: Option<String>,
    /// Issuer of Patient ID.
    pub patient_id_issuer: Option<String>,
    /// Accession Number.
    pub accession_number: Option<String>,
    /// Study Date.
    pub study_date: Option<Date>,
    /// Acquisition Date, else Content Date.
    pub image_date: Option<Date>,
    /// Modality.
    pub modality: Option<String>,
    /// Manufacturer.
    pub manufacturer: Option<String>,
    /// Manufacturer's Model Name.
    pub device: Option<String>,
    /// Device UID, Device Serial Number aside.
    pub device_uid: Option<Uid>,
    /// Body Part Examined.
    pub body_part: Option<String>,
    /// View Position.
    pub view: Option<String>,
    /// Values of Image Type.
    pub image_type: Vec<String>,
    /// Names of the character sets.
    pub character_sets: Vec<String>,
    /// Whether text is burned in.
    pub burned_in: BurnedIn,
    /// Whether the pixels were ever compressed with loss.
    pub lossy: bool,
    /// Millimetres between rows and between columns, at the patient or else at the detector.
    pub pixel_spacing: Option<[f64; 2]>,
    /// Rows.
    pub rows: Option<u16>,
    /// Columns.
    pub columns: Option<u16>,
    /// Samples per Pixel.
    pub samples: Option<u16>,
    /// Photometric Interpretation.
    pub photometric: Option<String>,
    /// Bits Allocated.
    pub bits_allocated: Option<u16>,
    /// Bits Stored.
    pub bits_stored: Option<u16>,
    /// Frames; 1 where it is not given.
    pub frames: u32,
    /// How the patient lies in the first frame, and on which side a paired part is.
    pub orientation: Option<Orientation>,
}

impl Tags {
    /// Whose the object is: the Patient ID, with its issuer where there is one.
    pub fn patient(&self) -> Option<String> {
        let id = self.patient_id.as_deref()?;
        Some(match &self.patient_id_issuer {
            Some(issuer) => format!("{issuer}/{id}"),
            None => id.to_owned(),
        })
    }

    /// Reads them from an object.
    pub fn of(set: &DataSet) -> Self {
        let top = set.top();
        let uid = |tag| top.text(tag).and_then(|text| Uid::try_from(text).ok());
        let text = |group, element| top.text(Tag(group, element));
        let date = |group, element| text(group, element).and_then(|text| Date::from_text(&text));
        let measures = groups(top, 0)
            .into_iter()
            .flatten()
            .find_map(|group| group.item(PIXEL_MEASURES));
        let spacing = measures.unwrap_or(top).decimals(PIXEL_SPACING);
        let spacing = match spacing.is_empty() {
            true => top.decimals(IMAGER_PIXEL_SPACING),
            false => spacing,
        };
        Self {
            sop_class: uid(SOP_CLASS),
            sop_instance: uid(SOP_INSTANCE),
            study: uid(STUDY),
            series: uid(SERIES),
            instance_number: text(0x0020, 0x0013).and_then(|text| text.parse().ok()),
            patient_id: text(0x0010, 0x0020),
            patient_id_issuer: text(0x0010, 0x0021),
            accession_number: text(0x0008, 0x0050),
            study_date: date(0x0008, 0x0020),
            image_date: date(0x0008, 0x0022).or_else(|| date(0x0008, 0x0023)),
            modality: top.text(MODALITY),
            manufacturer: text(0x0008, 0x0070),
            device: text(0x0008, 0x1090),
            device_uid: uid(Tag(0x0018, 0x1002)),
            body_part: text(0x0018, 0x0015),
            view: text(0x0018, 0x5101),
            image_type: words(text(0x0008, 0x0008)),
            character_sets: set.character_sets(),
            burned_in: match top.text(BURNED_IN).as_deref() {
                Some("YES") => BurnedIn::Yes,
                Some("NO") => BurnedIn::No,
                _ => BurnedIn::Unstated,
            },
            lossy: text(0x0028, 0x2110).as_deref() == Some("01"),
            pixel_spacing: spacing
                .try_into()
                .ok()
                .filter(|pair: &[f64; 2]| pair.iter().all(|distance| *distance > 0.0)),
            rows: top.short(Tag(0x0028, 0x0010)),
            columns: top.short(Tag(0x0028, 0x0011)),
            samples: top.short(Tag(0x0028, 0x0002)),
            photometric: text(0x0028, 0x0004),
            bits_allocated: top.short(Tag(0x0028, 0x0100)),
            bits_stored: top.short(Tag(0x0028, 0x0101)),
            frames: top
                .text(FRAMES)
                .and_then(|text| text.parse().ok())
                .unwrap_or(1),
            orientation: orientation(set, 0).ok(),
        }
    }
}

/// How the patient lies in a frame, counted from 0.
///
/// # Errors
/// Tags that cannot be followed or contradict each other.
pub fn orientation(set: &DataSet, frame: usize) -> Result<Orientation, OrientationError> {
    Orientation::of_frame(set.top(), groups(set.top(), frame))
}

/// The functional groups of a frame: its own, then those of all frames.
pub(super) fn groups(top: Level<'_>, frame: usize) -> [Option<Level<'_>>; 2] {
    [
        top.items(PER_FRAME_GROUPS).nth(frame),
        top.item(SHARED_GROUPS),
    ]
}

fn words(text: Option<String>) -> Vec<String> {
    let text = text.unwrap_or_default();
    let words = text.split('\\').map(|word| word.trim().to_owned());
    words.filter(|word| !word.is_empty()).collect()
}

/// Written by hand: most of it is patient data.
impl fmt::Debug for Tags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tags")
            .field("modality", &self.modality)
            .field("rows", &self.rows)
            .field("columns", &self.columns)
            .field("frames", &self.frames)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unique_identifier_is_safe_as_the_name_of_a_file() {
        let is_uid = |text: &str| Uid::try_from(text.to_owned()).is_ok();
        assert!(is_uid("1.2.840.10008") && is_uid(&"1".repeat(64)));
        for text in [
            "",
            ".",
            "..",
            "1..2",
            "1.",
            "1/2",
            "1.2a",
            "1 2",
            &"1".repeat(65),
        ] {
            assert!(!is_uid(text), "{text}");
        }
        let json = serde_json::from_str::<Uid>("\"../1\"");
        assert!(json.is_err(), "nor does it come from a child");
    }

    #[test]
    fn dates_of_both_editions_are_read_and_others_are_not() {
        let day = |text| Date::from_text(text).map(|date| (date.year, date.month, date.day));
        assert_eq!(day("19991231"), Some((1999, 12, 31)));
        assert_eq!(day("1999.12.31"), Some((1999, 12, 31)));
        for text in [
            "",
            "1999123",
            "19991301",
            "19990100",
            "1999 1 1",
            "９999０1０1",
        ] {
            assert_eq!(day(text), None, "{text}");
        }
    }
}

//! Values that say nothing, and checks that a value says no more than its representation (VR) promises.

use std::borrow::Cow;

use dicom_core::{
    DataDictionary, DataElement, Tag, VR,
    dictionary::{DataDictionaryEntry, TagRange},
    value::{C, PrimitiveValue, Value},
};
use dicom_dictionary_std::{StandardDataDictionary, tags};
use dicom_object::mem::InMemElement;

use super::{coded, dates, key::Shift};

/// The most values that a dummy repeats: how many there were is kept for attributes that must have two or
/// three, not for lists.
const MOST_VALUES: u32 = 32;

/// A value that is valid under its representation and the same for everyone.
pub(super) fn dummy(tag: Tag, vr: VR, count: u32) -> PrimitiveValue {
    let count = count.clamp(1, MOST_VALUES) as usize;
    let text = |text: &str| PrimitiveValue::Strs(C::from_elem(text.to_owned(), count));
    match vr {
        VR::AE | VR::LO | VR::PN | VR::SH | VR::UC if tag == tags::CODING_SCHEME_DESIGNATOR => {
            text("99REMOVED") // 99 marks a private scheme
        }
        VR::AE | VR::LO | VR::PN | VR::SH | VR::UC => text("REMOVED"),
        VR::AS => text("000D"),
        VR::CS => text("UNKNOWN"),
        VR::DA => text("19000101"),
        VR::DT => text("19000101000000"),
        VR::TM => text("000000"),
        VR::DS | VR::IS => text("0"),
        VR::LT | VR::ST | VR::UT => PrimitiveValue::from("REMOVED"),
        VR::UR => PrimitiveValue::from("urn:removed"),
        VR::UI => PrimitiveValue::from("2.25.0"),
        VR::AT => PrimitiveValue::Tags(C::from_elem(Tag(0, 0), count)),
        VR::US | VR::OW => PrimitiveValue::U16(C::from_elem(0, count)),
        VR::SS => PrimitiveValue::I16(C::from_elem(0, count)),
        VR::UL | VR::OL => PrimitiveValue::U32(C::from_elem(0, count)),
        VR::SL => PrimitiveValue::I32(C::from_elem(0, count)),
        VR::UV | VR::OV => PrimitiveValue::U64(C::from_elem(0, count)),
        VR::SV => PrimitiveValue::I64(C::from_elem(0, count)),
        VR::FL | VR::OF => PrimitiveValue::F32(C::from_elem(0.0, count)),
        VR::FD | VR::OD => PrimitiveValue::F64(C::from_elem(0.0, count)),
        VR::OB | VR::UN => PrimitiveValue::U8(C::from_elem(0, 2)),
        VR::SQ => PrimitiveValue::Empty,
    }
}

/// The element with the representation and value that the dictionary gives its tag, where a sender wrote it
/// as `UN`: bytes, little endian (PS3.5 6.2.2). What the dictionary does not know stays as it is.
pub(super) fn named(element: InMemElement) -> InMemElement {
    let tag = element.header().tag;
    let (VR::UN, Some(vr)) = (element.vr(), known_vr(tag)) else {
        return element;
    };
    match element.into_value() {
        Value::Primitive(PrimitiveValue::U8(bytes)) => match read(vr, &bytes) {
            Some(value) => DataElement::new(tag, vr, value),
            None => DataElement::new(tag, VR::UN, PrimitiveValue::U8(bytes)),
        },
        Value::Primitive(PrimitiveValue::Empty) => DataElement::empty(tag, vr),
        Value::Primitive(value) => DataElement::new(tag, VR::UN, value),
        value => DataElement::new(tag, vr, value),
    }
}

/// The representation that the dictionary gives an attribute; none for one it does not know.
pub(super) fn known_vr(tag: Tag) -> Option<VR> {
    let entry = StandardDataDictionary.by_tag(tag)?;
    let known = !matches!(
        entry.tag_range(),
        TagRange::GroupLength | TagRange::PrivateCreator
    );
    known.then(|| entry.vr().relaxed())
}

/// Bytes as a representation has them: one number or tag (a list of numbers could be text), samples, or text.
/// Nothing for other bytes, and for text beyond ASCII, whose character set went unread as well.
fn read(vr: VR, bytes: &[u8]) -> Option<PrimitiveValue> {
    if bytes.is_empty() {
        return Some(PrimitiveValue::Empty);
    }
    Some(match vr {
        VR::US => PrimitiveValue::from(u16::from_le_bytes(bytes.try_into().ok()?)),
        VR::SS => PrimitiveValue::from(i16::from_le_bytes(bytes.try_into().ok()?)),
        VR::UL => PrimitiveValue::from(u32::from_le_bytes(bytes.try_into().ok()?)),
        VR::SL => PrimitiveValue::from(i32::from_le_bytes(bytes.try_into().ok()?)),
        VR::FL => PrimitiveValue::from(f32::from_le_bytes(bytes.try_into().ok()?)),
        VR::FD => PrimitiveValue::from(f64::from_le_bytes(bytes.try_into().ok()?)),
        VR::AT => match *bytes {
            [a, b, c, d] => {
                let tag = Tag(u16::from_le_bytes([a, b]), u16::from_le_bytes([c, d]));
                PrimitiveValue::from(tag)
            }
            _ => return None,
        },
        VR::OB | VR::OW => PrimitiveValue::U8(bytes.into()),
        VR::OD | VR::OF | VR::OL | VR::OV | VR::SQ | VR::SV | VR::UN | VR::UV => return None,
        _ => PrimitiveValue::from(str::from_utf8(bytes).ok().filter(|text| text.is_ascii())?),
    })
}

/// Whether a value is a number, date, age, UID or tag as its representation promises. Free text and bytes
/// promise nothing and never are.
pub(super) fn is_as_promised(vr: VR, value: &PrimitiveValue) -> bool {
    match vr {
        VR::DS => all(value, is_decimal),
        VR::IS => all(value, |text| {
            text.len() <= 12 && text.parse::<i32>().is_ok()
        }),
        VR::DA => all(value, |text| dates::moved_date(text, Shift::NONE).is_some()),
        VR::DT => all(value, |text| {
            dates::moved_date_time(text, Shift::NONE).is_some()
        }),
        VR::TM => all(value, |text| dates::time_of_day(text).is_some()),
        VR::AS => all(value, |text| age_in_years(text).is_some()),
        VR::CS => all(value, coded::is_word),
        VR::UI => all(value, is_uid),
        VR::AT => matches!(value, PrimitiveValue::Tags(_)),
        VR::US | VR::SS | VR::UL | VR::SL | VR::UV | VR::SV | VR::FL | VR::FD => {
            is_binary(value) && !matches!(value, PrimitiveValue::U8(_))
        }
        _ => false,
    }
}

/// Numbers or bytes as a decoder leaves them, not text.
pub(super) fn is_binary(value: &PrimitiveValue) -> bool {
    use PrimitiveValue::{F32, F64, I16, I32, I64, U8, U16, U32, U64};
    matches!(
        value,
        U8(_) | I16(_) | U16(_) | I32(_) | U32(_) | I64(_) | U64(_) | F32(_) | F64(_)
    )
}

/// An age (`045Y`, `003M`) with 90 years for everyone older (45 CFR 164.514(b)(2)(i)(C)); nothing when it is
/// none.
pub(super) fn capped_age(age: &str) -> Option<String> {
    let age = age.trim_matches([' ', '\0']);
    let years = age_in_years(age)?;
    Some(match years {
        90.. => "090Y".to_owned(),
        _ => age.to_owned(),
    })
}

/// Full years; three digits of months, weeks and days stay below 90 of them.
fn age_in_years(age: &str) -> Option<u16> {
    let number = age.get(..3)?;
    if !number.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let number: u16 = number.parse().ok()?;
    match age.get(3..)? {
        "Y" => Some(number),
        "M" => Some(number / 12),
        "W" => Some(number / 52),
        "D" => Some(number / 365),
        _ => None,
    }
}

/// Numbers with points between, 64 characters at most.
pub(super) fn is_uid(text: &str) -> bool {
    text.len() <= 64
        && text
            .bytes()
            .all(|byte| byte.is_ascii_digit() || byte == b'.')
}

/// At most 16 characters of a number without words such as `nan` and `infinity`.
fn is_decimal(text: &str) -> bool {
    let plain = text
        .bytes()
        .all(|byte| byte.is_ascii_digit() || b"+-.eE".contains(&byte));
    plain && text.len() <= 16 && text.parse::<f64>().is_ok()
}

/// The values of an attribute as texts without padding. Bytes are taken for text: a sender may have named no
/// representation for it.
pub(super) fn texts(value: &PrimitiveValue) -> Vec<String> {
    let values = match value {
        PrimitiveValue::U8(bytes) => Cow::Owned(vec![String::from_utf8_lossy(bytes).into_owned()]),
        value => value.to_multi_str(),
    };
    let parts = values.iter().flat_map(|text| text.split('\\'));
    parts
        .map(|text| text.trim_matches([' ', '\0']).to_owned())
        .collect()
}

/// Whether each value is empty or passes.
fn all(value: &PrimitiveValue, passes: impl Fn(&str) -> bool) -> bool {
    let texts = texts(value);
    texts.iter().all(|text| text.is_empty() || passes(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [VR; 34] = [
        VR::AE,
        VR::AS,
        VR::AT,
        VR::CS,
        VR::DA,
        VR::DS,
        VR::DT,
        VR::FL,
        VR::FD,
        VR::IS,
        VR::LO,
        VR::LT,
        VR::OB,
        VR::OD,
        VR::OF,
        VR::OL,
        VR::OV,
        VR::OW,
        VR::PN,
        VR::SH,
        VR::SL,
        VR::SQ,
        VR::SS,
        VR::ST,
        VR::SV,
        VR::TM,
        VR::UC,
        VR::UI,
        VR::UL,
        VR::UN,
        VR::UR,
        VR::US,
        VR::UT,
        VR::UV,
    ];

    #[test]
    fn dummies_are_as_their_representation_promises() {
        for vr in ALL {
            let value = dummy(Tag(0x0008, 0x0000), vr, 2);
            let free = [
                VR::AE,
                VR::LO,
                VR::LT,
                VR::PN,
                VR::SH,
                VR::ST,
                VR::UC,
                VR::UR,
                VR::UT,
            ];
            let bytes = [VR::OB, VR::OD, VR::OF, VR::OL, VR::OV, VR::OW, VR::UN];
            if free.contains(&vr) {
                assert!(value.to_str().to_uppercase().contains("REMOVED"), "{vr}");
                assert!(value.calculate_byte_len() <= 64);
            } else if bytes.contains(&vr) {
                assert!(value.to_bytes().iter().all(|&byte| byte == 0), "{vr}");
                assert!(value.calculate_byte_len() > 0);
            } else if vr != VR::SQ {
                assert!(is_as_promised(vr, &value), "{vr}");
            }
            assert!(dummy(tags::MODALITY, vr, u32::MAX).multiplicity() <= MOST_VALUES);
        }
    }

    #[test]
    fn a_name_passes_as_nothing() {
        let name = PrimitiveValue::from("SMITH^JOHN");
        for vr in ALL {
            assert!(!is_as_promised(vr, &name), "{vr}");
        }
        for (vr, value) in [
            (VR::DS, "1.5e3\\-2 "),
            (VR::IS, " 12\\-3"),
            (VR::DA, "20230401"),
            (VR::TM, "12:34"),
            (VR::UI, "1.2.840\0"),
            (VR::DS, ""),
        ] {
            assert!(is_as_promised(vr, &PrimitiveValue::from(value)), "{vr}");
        }
        for (vr, value) in [
            (VR::DS, "nan"),
            (VR::DS, "inf"),
            (VR::IS, "1.5"),
            (VR::UI, "a.b"),
        ] {
            assert!(!is_as_promised(vr, &PrimitiveValue::from(value)), "{vr}");
        }
    }

    #[test]
    fn bytes_of_no_named_representation_are_read_as_the_dictionary_says() {
        let named = |tag, bytes: &[u8]| {
            named(DataElement::new(
                tag,
                VR::UN,
                PrimitiveValue::U8(bytes.into()),
            ))
        };
        let rows = named(tags::ROWS, &[0, 2]);
        assert_eq!((rows.vr(), rows.to_int::<u16>().ok()), (VR::US, Some(512)));
        let modality = named(tags::MODALITY, b"CT");
        assert_eq!(
            (modality.vr(), modality.to_str().ok().as_deref()),
            (VR::CS, Some("CT"))
        );
        for (tag, bytes) in [
            (tags::ROWS, [1, 2, 3, 4].as_slice()),
            (tags::PATIENT_NAME, &[0xC3, 0x28]),
            (Tag(0x0009, 0x1001), b"CT"),
            (Tag(0x0018, 0xFFF0), b"CT"),
        ] {
            assert_eq!(named(tag, bytes).vr(), VR::UN, "{tag}");
        }
    }

    #[test]
    fn ages_end_at_ninety() {
        for (age, capped) in [
            ("045Y", Some("045Y")),
            ("089Y ", Some("089Y")),
            ("090Y", Some("090Y")),
            ("104Y", Some("090Y")),
            ("999M", Some("999M")),
            ("104", None),
            ("45Y", None),
            ("1é4Y", None),
            ("SMITH", None),
        ] {
            assert_eq!(capped_age(age).as_deref(), capped, "{age}");
        }
    }
}

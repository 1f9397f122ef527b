//! A text of its own in every attribute that can hold one: none of them may be in the bytes that leave.

use std::collections::{BTreeSet, HashMap, HashSet};

use dicom_core::{DataDictionary, dictionary::DataDictionaryEntry, value::C};
use dicom_dictionary_std::StandardDataDictionary;

use super::*;
use crate::dicom::deidentify::table::tests::{lines, without};

/// The even groups of the dictionary that a data set may hold.
#[rustfmt::skip]
const GROUPS: [u16; 72] = [
    0x0008, 0x0010, 0x0012, 0x0014, 0x0016, 0x0018, 0x0020, 0x0022, 0x0024, 0x0028, 0x0032, 0x0034,
    0x0038, 0x003A, 0x0040, 0x0042, 0x0044, 0x0046, 0x0048, 0x0050, 0x0052, 0x0054, 0x0060, 0x0062,
    0x0064, 0x0066, 0x0068, 0x006A, 0x0070, 0x0072, 0x0074, 0x0076, 0x0078, 0x0080, 0x0082, 0x0088,
    0x0100, 0x0400, 0x1000, 0x1010, 0x2000, 0x2010, 0x2020, 0x2030, 0x2040, 0x2050, 0x2100, 0x2110,
    0x2120, 0x2130, 0x2200, 0x3002, 0x3004, 0x3006, 0x3008, 0x300A, 0x300C, 0x300E, 0x3010, 0x4000,
    0x4008, 0x4010, 0x4FFE, 0x5000, 0x501E, 0x5200, 0x5400, 0x5600, 0x6000, 0x60FE, 0x7FE0, 0xFFFA,
];

/// How an object lies about the representation of its values.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Lies {
    None,
    /// Text where numbers, UIDs and sequences belong, under the representation of those.
    Text,
    /// Every attribute says it is a long string.
    LongStrings,
    /// Every attribute says nothing of its representation.
    Unknown,
    /// Every attribute says it is bytes.
    Bytes,
}

/// Canaries handed out so far, by what is searched for.
#[derive(Default)]
struct Aviary {
    canaries: HashMap<Vec<u8>, String>,
    count: usize,
}

impl Aviary {
    fn text(&mut self, place: &str) -> String {
        self.count += 1;
        let text = format!("CNRY{:05}", self.count);
        self.add(&text, place);
        text
    }

    fn add(&mut self, text: &str, place: &str) {
        let bytes = text.as_bytes().to_vec();
        let wide = |little: bool| {
            let pair = |&byte: &u8| if little { [byte, 0] } else { [0, byte] };
            bytes.iter().flat_map(pair).collect::<Vec<u8>>()
        };
        self.canaries
            .insert(wide(true), format!("{place} (UTF-16)"));
        self.canaries
            .insert(wide(false), format!("{place} (UTF-16)"));
        self.canaries.insert(bytes, place.to_owned());
    }

    /// A value of its own that is valid under the representation; none where numbers are.
    fn value(&mut self, tag: Tag, vr: VR) -> Option<PrimitiveValue> {
        let place = format!("{tag} {vr}");
        self.count += 1;
        let n = self.count;
        let text = match vr {
            VR::DA => format!(
                "18{:02}{:02}{:02}",
                n / 300 % 100,
                n / 25 % 12 + 1,
                n % 25 + 1
            ),
            VR::TM => format!("235959.9{n:05}"),
            VR::DT => format!("18400229235959.9{n:05}"),
            VR::AS => format!("{:03}Y", 91 + n % 900),
            VR::UI => format!("1.2.826.0.1.77.{}", 10_000 + n),
            VR::OB | VR::OW | VR::UN => {
                let bytes = self.text(&place) + " ";
                return Some(PrimitiveValue::U8(C::from_slice(bytes.as_bytes())));
            }
            VR::AE
            | VR::CS
            | VR::LO
            | VR::LT
            | VR::PN
            | VR::SH
            | VR::ST
            | VR::UC
            | VR::UR
            | VR::UT => {
                return Some(PrimitiveValue::from(self.text(&place)));
            }
            _ => return None,
        };
        self.add(&text, &place);
        Some(PrimitiveValue::from(text))
    }

    /// Where the canaries stand that are in some bytes, each on its own and not in a longer number.
    fn heard_in(&self, bytes: &[u8]) -> BTreeSet<&str> {
        let lengths: BTreeSet<usize> = self.canaries.keys().map(Vec::len).collect();
        let beginnings: HashSet<&[u8]> = self.canaries.keys().map(|text| &text[..2]).collect();
        let begins = |at: usize| {
            bytes
                .get(at..at + 2)
                .is_some_and(|two| beginnings.contains(two))
        };
        let candidates: Vec<usize> = (0..bytes.len()).filter(|&at| begins(at)).collect();
        let mut heard = BTreeSet::new();
        for length in lengths {
            for &at in &candidates {
                let Some(window) = bytes.get(at..at + length) else {
                    continue;
                };
                let digit = |at: Option<usize>| {
                    at.and_then(|at| bytes.get(at))
                        .is_some_and(u8::is_ascii_digit)
                };
                if digit(at.checked_sub(1)) || digit(Some(at + length)) {
                    continue;
                }
                if let Some(place) = self.canaries.get(window) {
                    heard.insert(place.as_str());
                }
            }
        }
        heard
    }
}

/// Samples, and tables of them: what they mean is not text.
pub(super) fn holds_samples(tag: Tag) -> bool {
    matches!(tag.group(), 0x7FE0 | 0x5400 | 0x5600)
        || matches!(
            (tag.group(), tag.element()),
            (0x0028, 0x1201..=0x1203 | 0x1221..=0x1223 | 0x3006)
        )
}

fn attributes() -> Vec<(Tag, VR)> {
    let mut all = Vec::new();
    for group in GROUPS {
        for element in 1..=u16::MAX {
            let tag = Tag(group, element);
            if let Some(entry) = StandardDataDictionary.by_tag(tag) {
                all.push((tag, entry.vr().relaxed()));
            }
        }
    }
    // What the table knows and the dictionary does not yet.
    for (tag, _) in lines() {
        if let Some(tag) = tag_of(tag).filter(|&tag| StandardDataDictionary.by_tag(tag).is_none()) {
            all.push((tag, VR::LO));
        }
    }
    all
}

fn tag_of(tag: &str) -> Option<Tag> {
    let tag = u32::from_str_radix(&tag.replace('x', "0"), 16).ok()?;
    Some(Tag((tag >> 16) as u16, tag as u16))
}

fn filled(aviary: &mut Aviary, lies: Lies) -> InMemDicomObject {
    let mut object = InMemDicomObject::new_empty();
    for (tag, vr) in attributes() {
        if holds_samples(tag) || tag == tags::ENCAPSULATED_DOCUMENT {
            continue;
        }
        let vr = match lies {
            Lies::None | Lies::Text => vr,
            Lies::LongStrings => VR::LO,
            Lies::Unknown => VR::UN,
            Lies::Bytes => VR::OB,
        };
        let value = match lies {
            Lies::Text if !matches!(vr, VR::OB | VR::OW | VR::UN | VR::SQ | VR::AT) => {
                Some(PrimitiveValue::from(aviary.text(&format!("{tag} {vr}"))))
            }
            _ => aviary.value(tag, vr),
        };
        if let Some(value) = value {
            object.put(DataElement::new(tag, vr, value));
        } else if vr == VR::SQ {
            object.put(sequence(tag, vec![item(aviary, tag)]));
        }
    }
    object
}

/// What lies within each sequence: listed, unlisted, private, a code, and one more sequence.
fn item(aviary: &mut Aviary, within: Tag) -> InMemDicomObject {
    let mut of = |tag: Tag, vr: VR| {
        let text = aviary.text(&format!("{within} > {tag} {vr}"));
        DataElement::new(tag, vr, PrimitiveValue::from(text))
    };
    let inner = InMemDicomObject::from_element_iter([
        of(tags::PATIENT_NAME, VR::PN),
        of(tags::MANUFACTURER, VR::LO),
        of(Tag(0x0029, 0x0010), VR::LO),
    ]);
    let mut object = InMemDicomObject::from_element_iter([
        of(tags::PATIENT_NAME, VR::PN),
        of(tags::PATIENT_ID, VR::LO),
        of(tags::STUDY_DESCRIPTION, VR::LO),
        of(tags::CODE_VALUE, VR::SH),
        of(tags::CODING_SCHEME_DESIGNATOR, VR::SH),
        of(tags::CODE_MEANING, VR::LO),
        of(tags::TEXT_VALUE, VR::UT),
        of(tags::PERSON_NAME, VR::PN),
        of(tags::BODY_PART_EXAMINED, VR::CS),
        of(Tag(0x0029, 0x0010), VR::LO),
        of(Tag(0x0029, 0x1010), VR::UN),
        of(Tag(0x0018, 0xFFF0), VR::UT), // no such attribute
        of(tags::SPECIFIC_CHARACTER_SET, VR::CS),
    ]);
    object.put(sequence(tags::CONTENT_SEQUENCE, vec![inner]));
    object
}

/// An object full of canaries, in a file whose meta group has its own.
fn full(aviary: &mut Aviary, lies: Lies, transfer_syntax: &str) -> DefaultDicomObject {
    let mut object = filled(aviary, lies);
    let mut put = |aviary: &mut Aviary, tag: Tag, vr: VR| {
        let text = aviary.text(&format!("{tag} {vr}"));
        object.put(DataElement::new(tag, vr, PrimitiveValue::from(text)));
    };
    // Private attributes, attributes that do not exist, other groups, padding.
    for tag in [
        Tag(0x0009, 0x0010),
        Tag(0x0009, 0x1001),
        Tag(0x7FE1, 0x0010),
        Tag(0x7FE1, 0x1001),
        Tag(0x0018, 0xFFF0),
        Tag(0x0002, 0x0016),
        Tag(0x0004, 0x1130),
        Tag(0x0000, 0x0600),
        Tag(0xFFFC, 0xFFFC),
    ] {
        put(aviary, tag, VR::LO);
    }
    // What decides whether an object is looked at, or passes at all.
    for (tag, vr, value) in [
        (tags::SOP_CLASS_UID, VR::UI, uids::CT_IMAGE_STORAGE),
        (tags::BITS_ALLOCATED, VR::US, ""),
    ] {
        object.put(DataElement::new(tag, vr, value));
    }
    let pixels = PrimitiveValue::U16(C::from_elem(0, 64));
    object.put(DataElement::new(tags::PIXEL_DATA, VR::OW, pixels));
    let meta = FileMetaTableBuilder::new()
        .transfer_syntax(transfer_syntax)
        .media_storage_sop_class_uid(uids::CT_IMAGE_STORAGE)
        .media_storage_sop_instance_uid("1.2.826.0.1.77.1")
        .implementation_version_name(aviary.text("meta implementation"))
        .source_application_entity_title(aviary.text("meta source"))
        .sending_application_entity_title(aviary.text("meta sending"))
        .receiving_application_entity_title(aviary.text("meta receiving"))
        .private_information_creator_uid("1.2.826.0.1.77.2")
        .private_information(aviary.text("meta private").into_bytes());
    aviary.add("1.2.826.0.1.77.1", "meta instance");
    aviary.add("1.2.826.0.1.77.2", "meta creator");
    object.with_meta(meta).expect("a meta group")
}

pub(super) fn object(lies: Lies) -> DefaultDicomObject {
    let mut object = full(
        &mut Aviary::default(),
        lies,
        uids::EXPLICIT_VR_LITTLE_ENDIAN,
    );
    for tag in [tags::CONVERSION_TYPE, tags::DATE_OF_SECONDARY_CAPTURE] {
        object.remove_element(tag);
    }
    let suspicious =
        |tag: &Tag| tag.group() == 0x0018 && (0x1010..=0x1023).contains(&tag.element());
    let devices: Vec<Tag> = object.tags().filter(suspicious).collect();
    for tag in devices {
        object.remove_element(tag);
    }
    object
}

#[test]
fn canaries_are_heard_before_anything_is_done() {
    let mut aviary = Aviary::default();
    let object = full(&mut aviary, Lies::None, uids::EXPLICIT_VR_LITTLE_ENDIAN);
    let heard = aviary.heard_in(&written(&object)).len();
    assert!(heard > 15_000, "{heard}");
    let bytes = "C\0N\0R\0Y\x000\x000\x000\x000\x003\0";
    assert_eq!(aviary.heard_in(bytes.as_bytes()).len(), 1);
}

#[test]
fn no_canary_leaves_by_either_road() {
    for lies in [
        Lies::None,
        Lies::Text,
        Lies::LongStrings,
        Lies::Unknown,
        Lies::Bytes,
    ] {
        let mut aviary = Aviary::default();
        let object = full(&mut aviary, lies, uids::EXPLICIT_VR_LITTLE_ENDIAN);
        let deidentifier = deidentifier(Options::default());
        for release in [
            deidentifier.export(object.clone(), Pixels::SeenClean),
            deidentifier.training_object(object, Pixels::SeenClean),
        ] {
            let object = release.expect("sound").ready().expect("seen");
            let heard = aviary.heard_in(&written(&object));
            assert!(
                heard.is_empty(),
                "{lies:?}: {} leak: {heard:?}",
                heard.len()
            );
        }
    }
}

/// The same through other transfer syntaxes, read back from a file; the deflated one is inflated to look.
#[test]
fn no_canary_leaves_in_another_transfer_syntax() {
    for syntax in [
        uids::IMPLICIT_VR_LITTLE_ENDIAN,
        "1.2.840.10008.1.2.2",
        uids::DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
    ] {
        let mut aviary = Aviary::default();
        let object = written(&full(&mut aviary, Lies::None, syntax));
        let object = dicom_object::from_reader(object.as_slice()).expect("readable");
        let release = deidentifier(Options::default()).export(object, Pixels::SeenClean);
        let export = release.expect("sound").ready().expect("seen");
        assert_eq!(export.meta().transfer_syntax(), syntax);
        let bytes = written(&export);
        assert!(aviary.heard_in(&bytes).is_empty());
        let mut read = dicom_object::from_reader(bytes.as_slice()).expect("readable");
        read.update_meta(|meta| meta.transfer_syntax = uids::EXPLICIT_VR_LITTLE_ENDIAN.to_owned());
        let heard = aviary.heard_in(&written(&read));
        assert!(heard.is_empty(), "{syntax}: {heard:?}");
    }
}

/// With dates moved, times of day stay; all else holds.
#[test]
fn only_times_of_day_are_heard_where_dates_move() {
    let mut aviary = Aviary::default();
    let object = full(&mut aviary, Lies::None, uids::EXPLICIT_VR_LITTLE_ENDIAN);
    let options = Options {
        dates: Dates::Moved,
        ..Options::default()
    };
    let release = deidentifier(options).export(object, Pixels::SeenClean);
    let export = release.expect("sound").ready().expect("seen");
    let bytes = written(&export);
    assert!(
        aviary.heard_in(&bytes).is_empty(),
        "{:?}",
        aviary.heard_in(&bytes)
    );
    assert_eq!(value(&export, tags::STUDY_TIME).as_deref(), Some("235959"));
}

/// Whether a value of one attribute comes out as it went in, where only the table stands in its way.
fn survives(table: &Table, tag: Tag) -> bool {
    let known = StandardDataDictionary
        .by_tag(tag)
        .map(|entry| entry.vr().relaxed());
    let vr = match tag.group() % 2 {
        0 => known.unwrap_or(VR::LO),
        _ => VR::LO,
    };
    let value = match vr {
        VR::SQ => {
            let name = DataElement::new(tags::MANUFACTURER, VR::LO, "CNRY00001");
            sequence(tag, vec![InMemDicomObject::from_element_iter([name])])
        }
        VR::DS | VR::IS => DataElement::new(tag, vr, PrimitiveValue::from("1234")),
        VR::AS => DataElement::new(tag, vr, PrimitiveValue::from("045Y")),
        VR::US => DataElement::new(tag, vr, PrimitiveValue::from(1_234_u16)),
        VR::FL => DataElement::new(tag, vr, PrimitiveValue::from(1_234_f32)),
        VR::FD => DataElement::new(tag, vr, PrimitiveValue::from(1_234_f64)),
        VR::SL => DataElement::new(tag, vr, PrimitiveValue::from(1_234_i32)),
        VR::SS => DataElement::new(tag, vr, PrimitiveValue::from(1_234_i16)),
        VR::UL => DataElement::new(tag, vr, PrimitiveValue::from(1_234_u32)),
        VR::SV => DataElement::new(tag, vr, PrimitiveValue::from(1_234_i64)),
        VR::UV => DataElement::new(tag, vr, PrimitiveValue::from(1_234_u64)),
        VR::AT => DataElement::new(tag, vr, PrimitiveValue::from(tags::PATIENT_NAME)),
        VR::OB | VR::OW => DataElement::new(tag, VR::OB, PrimitiveValue::from(vec![1_u8, 2, 3, 4])),
        VR::OF => DataElement::new(tag, vr, PrimitiveValue::from(1_234_f32)),
        VR::OD => DataElement::new(tag, vr, PrimitiveValue::from(1_234_f64)),
        VR::OL => DataElement::new(tag, vr, PrimitiveValue::from(1_234_u32)),
        VR::OV => DataElement::new(tag, vr, PrimitiveValue::from(1_234_u64)),
        VR::UN => DataElement::new(tag, VR::LO, PrimitiveValue::from("CNRY00001")),
        vr => {
            let value = Aviary::default().value(tag, vr);
            DataElement::new(tag, vr, value.expect("text"))
        }
    };
    let object = file(
        InMemDicomObject::from_element_iter([value.clone()]),
        uids::EXPLICIT_VR_LITTLE_ENDIAN,
    );
    let options = Options {
        unlisted: Unlisted::Keep,
        ..Options::default()
    };
    let release = deidentifier(options).export_under(table, object, Pixels::Unseen);
    let export = release.expect("sound").ready().expect("no pixels");
    match (value.items(), export.get(tag)) {
        (_, None) => false,
        (Some(_), Some(after)) => {
            let inner = after.items().and_then(|items| items.first());
            inner.is_some_and(|item| {
                item.get(tags::MANUFACTURER)
                    == value
                        .items()
                        .and_then(|items| items[0].get(tags::MANUFACTURER))
            })
        }
        (None, Some(after)) => after.to_bytes().ok() == value.to_bytes().ok(),
    }
}

/// Every row counts: with the rest of the table and without the second line of defence (unlisted text is
/// scrubbed), the attribute of a missing row leaves as it is.
#[test]
fn a_table_without_one_of_its_rows_leaks() {
    let mut covered_otherwise = Vec::new();
    let mut leaking = 0;
    for (name, _) in lines() {
        let tag = match name {
            "private" => Tag(0x0009, 0x1001),
            "50xxxxxx" => Tag(0x5000, 0x3000),
            name => tag_of(name).expect("a tag"),
        };
        // References stay with new UIDs (U*), and are cleaned inside with their row or without. Objects with
        // a document are refused.
        if ["00081140", "00082112", "00420011"].contains(&name) {
            continue;
        }
        assert!(!survives(Table::standard(), tag), "{name}");
        match survives(&without(name), tag) {
            true => leaking += 1,
            false => covered_otherwise.push(name),
        }
    }
    // Groups that never leave, and the patient's id, which always gets a stand-in.
    let twice = |name: &&str| {
        ["0000", "0002", "0004", "60xx", "FFFA", "FFFC"].contains(&&name[..4])
            || *name == "00100020"
    };
    covered_otherwise.retain(|name| !twice(name));
    assert_eq!(covered_otherwise, Vec::<&str>::new());
    assert_eq!(leaking, 645);
}

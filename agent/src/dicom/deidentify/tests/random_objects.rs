//! Objects of any shape: attributes that lie about their representation, values in wrong places, a name in
//! all of them. They come out without it, or are refused; nothing panics.

use std::time::{Duration, Instant};

use dicom_core::value::C;

use super::*;

const NAME: &str = "Zbigniewicz^Anna";

const REPRESENTATIONS: [VR; 21] = [
    VR::AE,
    VR::AS,
    VR::AT,
    VR::CS,
    VR::DA,
    VR::DS,
    VR::DT,
    VR::IS,
    VR::LO,
    VR::LT,
    VR::OB,
    VR::OW,
    VR::PN,
    VR::SH,
    VR::SQ,
    VR::TM,
    VR::UC,
    VR::UI,
    VR::UN,
    VR::US,
    VR::UT,
];

/// Attributes with a meaning of their own to the engine, and the beginnings of others.
const TAGS: [Tag; 30] = [
    tags::SPECIFIC_CHARACTER_SET,
    tags::IMAGE_TYPE,
    tags::SOP_CLASS_UID,
    tags::SOP_INSTANCE_UID,
    tags::STUDY_DATE,
    tags::STUDY_TIME,
    tags::ACQUISITION_DATE_TIME,
    tags::MODALITY,
    tags::MANUFACTURER,
    tags::CODE_VALUE,
    tags::CODING_SCHEME_DESIGNATOR,
    tags::CODE_MEANING,
    tags::REFERENCED_IMAGE_SEQUENCE,
    tags::PATIENT_NAME,
    tags::PATIENT_ID,
    tags::PATIENT_AGE,
    tags::PATIENT_IDENTITY_REMOVED,
    tags::DEIDENTIFICATION_METHOD_CODE_SEQUENCE,
    tags::KVP,
    tags::STUDY_INSTANCE_UID,
    tags::ROWS,
    tags::PIXEL_SPACING,
    tags::WINDOW_CENTER,
    tags::BURNED_IN_ANNOTATION,
    tags::CONTENT_SEQUENCE,
    tags::TEXT_VALUE,
    Tag(0x0009, 0x0010),
    Tag(0x5000, 0x0010),
    Tag(0x6000, 0x3000),
    Tag(0xFFFC, 0xFFFC),
];

/// A stream of numbers (xorshift).
struct Coins(u64);

impl Coins {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % bound.max(1) as u64) as usize
    }

    fn tag(&mut self) -> Tag {
        let tag = self.any_tag();
        // Samples may spell anything.
        if canaries::holds_samples(tag) {
            tags::PATIENT_NAME
        } else {
            tag
        }
    }

    fn any_tag(&mut self) -> Tag {
        match self.below(3) {
            0 => Tag(self.below(0x1_0000) as u16, self.below(0x1_0000) as u16),
            1 => Tag(
                0x0008 + 2 * self.below(0x20) as u16,
                self.below(0x3000) as u16,
            ),
            _ => TAGS[self.below(TAGS.len())],
        }
    }

    fn text(&mut self) -> String {
        let name = match self.below(4) {
            0 => NAME.to_uppercase(),
            _ => NAME.to_owned(),
        };
        match self.below(8) {
            0 => String::new(),
            1 => format!("é{name}\u{4e2d}"),
            2 => format!("20230401{name}"),
            3 => format!("1.2.840.10008.{name}"),
            4 => format!("12{name}.5"),
            5 => format!("YES\\{name}"),
            6 => format!(" {name}\0"),
            _ => name,
        }
    }

    fn value(&mut self, vr: VR) -> PrimitiveValue {
        match self.below(9) {
            0 => PrimitiveValue::Empty,
            1 => PrimitiveValue::Strs(C::from_vec(
                (0..self.below(4)).map(|_| self.text()).collect(),
            )),
            2 => PrimitiveValue::U8(C::from_slice(self.text().as_bytes())),
            3 => PrimitiveValue::from(self.below(0x1_0000) as u16),
            4 => PrimitiveValue::from(f64::from_bits(self.0)),
            // The writer panics at tags elsewhere, and no reader puts them there.
            5 if vr == VR::AT => PrimitiveValue::from(self.tag()),
            _ => PrimitiveValue::from(self.text()),
        }
    }

    fn object(&mut self, depth: usize) -> InMemDicomObject {
        let mut object = InMemDicomObject::new_empty();
        for _ in 0..self.below(12) {
            let tag = self.tag();
            if depth > 0 && self.below(4) == 0 {
                let items = (0..self.below(3)).map(|_| self.object(depth - 1)).collect();
                object.put(sequence(tag, items));
            } else {
                let vr = REPRESENTATIONS[self.below(REPRESENTATIONS.len())];
                object.put(DataElement::new(tag, vr, self.value(vr)));
            }
        }
        object
    }
}

/// Whether the bytes have the name, in any case.
fn names(bytes: &[u8]) -> bool {
    let upper = bytes.to_ascii_uppercase();
    let name = NAME.to_uppercase();
    upper
        .windows(name.len())
        .any(|window| window == name.as_bytes())
}

/// For a bounded time (`FUZZ_SECONDS`, 1 unless told otherwise).
#[test]
fn objects_of_any_shape_come_out_without_the_name() {
    let seconds = std::env::var("FUZZ_SECONDS")
        .ok()
        .and_then(|text| text.parse().ok());
    let end = Instant::now() + Duration::from_secs_f64(seconds.unwrap_or(1.0));
    let mut coins = Coins(0x9E37_79B9_7F4A_7C15);
    let (mut tried, mut passed, mut named) = (0, 0, 0);
    while Instant::now() < end || tried < 500 {
        tried += 1;
        let options = Options {
            dates: [Dates::Removed, Dates::Moved, Dates::Kept][coins.below(3)],
            ..Options::default()
        };
        let depth = coins.below(5);
        let mut object = coins.object(depth);
        let pixels = PrimitiveValue::from([1_u16, 2, 3]);
        object.put(DataElement::new(tags::PIXEL_DATA, VR::OW, pixels.clone()));
        let meta = FileMetaTableBuilder::new()
            .transfer_syntax(uids::EXPLICIT_VR_LITTLE_ENDIAN)
            .media_storage_sop_class_uid(coins.text())
            .media_storage_sop_instance_uid(coins.text())
            .source_application_entity_title(coins.text())
            .build();
        let object = object.with_exact_meta(meta.expect("a meta group"));
        let mut before = Vec::new();
        // What the writer refuses, no file says.
        if object.write_all(&mut before).is_ok() {
            named += usize::from(names(&before));
        }
        let deidentifier = deidentifier(options);
        for release in [
            deidentifier.export(object.clone(), Pixels::SeenClean),
            deidentifier.training_object(object, Pixels::SeenClean),
        ] {
            let Ok(release) = release else {
                continue;
            };
            let export = release.ready().expect("seen");
            assert!(!names(&written(&export)), "object {tried}: {options:?}");
            let kept = export
                .get(tags::PIXEL_DATA)
                .and_then(|element| element.to_bytes().ok());
            assert!(kept == Some(pixels.to_bytes()), "object {tried}");
            passed += 1;
        }
    }
    assert!(
        named > tried / 4 && passed > tried,
        "{tried} {named} {passed}"
    );
}

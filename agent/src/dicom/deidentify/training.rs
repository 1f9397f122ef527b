//! What the training cache keeps of an image: its pixels, what they mean, and a pseudonym. Nothing else is
//! copied, so nothing that this list forgets can leak.

use dicom_core::{
    DataElement, Length, Tag, VR,
    value::{DataSetSequence, PrimitiveValue, Value},
};
use dicom_dictionary_std::tags;
use dicom_object::{InMemDicomObject, mem::InMemElement};

use super::{
    key::ProjectKey,
    profile::{identifier, is_of_the_standard},
    values,
};

/// What a value must be to be copied.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Samples, or a table of them.
    Samples,
    /// Numbers, binary or as text.
    Numbers,
    /// Words of the closed vocabulary; others are left out.
    Words,
    /// A class of the standard, or the stand-in of a UID.
    Uid,
    /// Items with the same list inside.
    Items,
    /// The patient's stand-in.
    Patient,
}

/// The list, in the order of its reasons.
#[rustfmt::skip]
const ALLOWED: [(Tag, Kind); 48] = [
    // Which image of whose: to keep a patient within one split, and to find an image again.
    (tags::SOP_CLASS_UID, Kind::Uid),
    (tags::SOP_INSTANCE_UID, Kind::Uid),
    (tags::STUDY_INSTANCE_UID, Kind::Uid),
    (tags::PATIENT_ID, Kind::Patient),
    // How bytes become samples.
    (tags::ROWS, Kind::Numbers),
    (tags::COLUMNS, Kind::Numbers),
    (tags::NUMBER_OF_FRAMES, Kind::Numbers),
    (tags::SAMPLES_PER_PIXEL, Kind::Numbers),
    (tags::PLANAR_CONFIGURATION, Kind::Numbers),
    (tags::BITS_ALLOCATED, Kind::Numbers),
    (tags::BITS_STORED, Kind::Numbers),
    (tags::HIGH_BIT, Kind::Numbers),
    (tags::PIXEL_REPRESENTATION, Kind::Numbers),
    (tags::PHOTOMETRIC_INTERPRETATION, Kind::Words),
    (tags::PIXEL_DATA, Kind::Samples),
    // How samples become brightness and colour.
    (tags::RESCALE_SLOPE, Kind::Numbers),
    (tags::RESCALE_INTERCEPT, Kind::Numbers),
    (tags::WINDOW_CENTER, Kind::Numbers),
    (tags::WINDOW_WIDTH, Kind::Numbers),
    (tags::VOILUT_FUNCTION, Kind::Words),
    (tags::PRESENTATION_LUT_SHAPE, Kind::Words),
    (tags::PIXEL_PADDING_VALUE, Kind::Numbers),
    (tags::MODALITY_LUT_SEQUENCE, Kind::Items),
    (tags::VOILUT_SEQUENCE, Kind::Items),
    (tags::LUT_DESCRIPTOR, Kind::Numbers),
    (tags::LUT_DATA, Kind::Samples),
    (tags::RED_PALETTE_COLOR_LOOKUP_TABLE_DESCRIPTOR, Kind::Numbers),
    (tags::GREEN_PALETTE_COLOR_LOOKUP_TABLE_DESCRIPTOR, Kind::Numbers),
    (tags::BLUE_PALETTE_COLOR_LOOKUP_TABLE_DESCRIPTOR, Kind::Numbers),
    (tags::RED_PALETTE_COLOR_LOOKUP_TABLE_DATA, Kind::Samples),
    (tags::GREEN_PALETTE_COLOR_LOOKUP_TABLE_DATA, Kind::Samples),
    (tags::BLUE_PALETTE_COLOR_LOOKUP_TABLE_DATA, Kind::Samples),
    // What it shows, which way round, and how large: a picture never reaches a model mirrored.
    (tags::MODALITY, Kind::Words),
    (tags::BODY_PART_EXAMINED, Kind::Words),
    (tags::VIEW_POSITION, Kind::Words),
    (tags::LATERALITY, Kind::Words),
    (tags::IMAGE_LATERALITY, Kind::Words),
    (tags::PATIENT_ORIENTATION, Kind::Words),
    (tags::IMAGE_ORIENTATION_PATIENT, Kind::Numbers),
    (tags::PIXEL_SPACING, Kind::Numbers),
    (tags::IMAGER_PIXEL_SPACING, Kind::Numbers),
    // The same of multi-frame objects, which keep it in functional groups.
    (tags::SHARED_FUNCTIONAL_GROUPS_SEQUENCE, Kind::Items),
    (tags::PER_FRAME_FUNCTIONAL_GROUPS_SEQUENCE, Kind::Items),
    (tags::PIXEL_MEASURES_SEQUENCE, Kind::Items),
    (tags::PLANE_ORIENTATION_SEQUENCE, Kind::Items),
    (tags::PIXEL_VALUE_TRANSFORMATION_SEQUENCE, Kind::Items),
    (tags::FRAME_VOILUT_SEQUENCE, Kind::Items),
    (tags::FRAME_LATERALITY, Kind::Words),
];

/// How deep the sequences of the list lie: a functional group, and its one item.
const MOST_DEPTH: usize = 3;

/// The elements of the list, cleaned.
pub(super) fn reduced(object: InMemDicomObject, key: &ProjectKey) -> InMemDicomObject {
    item(object, key, 0)
}

fn item(object: InMemDicomObject, key: &ProjectKey, depth: usize) -> InMemDicomObject {
    let mut reduced = InMemDicomObject::new_empty();
    for element in object {
        let allowed = ALLOWED
            .iter()
            .find(|&&(tag, _)| tag == element.header().tag);
        if let Some(element) = allowed.and_then(|&(_, kind)| copied(element, kind, key, depth)) {
            reduced.put(element);
        }
    }
    reduced
}

fn copied(
    element: InMemElement,
    kind: Kind,
    key: &ProjectKey,
    depth: usize,
) -> Option<InMemElement> {
    let (header, value) = values::named(element).into_parts();
    let (tag, vr) = (header.tag, header.vr());
    let value = match (kind, value) {
        (Kind::Samples, Value::PixelSequence(fragments)) => {
            let pixels = tag == tags::PIXEL_DATA && depth == 0;
            return pixels.then(|| DataElement::new(tag, vr, Value::PixelSequence(fragments)));
        }
        (Kind::Samples, Value::Primitive(value)) => values::is_binary(&value).then_some(value)?,
        (Kind::Numbers, Value::Primitive(value)) => {
            let numbers = [
                VR::DS,
                VR::IS,
                VR::US,
                VR::SS,
                VR::UL,
                VR::SL,
                VR::FL,
                VR::FD,
            ];
            let sound = numbers.contains(&vr) && values::is_as_promised(vr, &value);
            sound.then_some(value)?
        }
        (Kind::Words, Value::Primitive(value)) => {
            let sound = vr == VR::CS && values::is_as_promised(vr, &value);
            sound.then_some(value)?
        }
        (Kind::Uid, Value::Primitive(value)) => {
            let uid = value.to_str();
            match uid.trim_matches([' ', '\0']) {
                "" => return None,
                uid if tag == tags::SOP_CLASS_UID && is_of_the_standard(uid) => {
                    PrimitiveValue::from(uid)
                }
                uid => PrimitiveValue::from(key.uid(uid)),
            }
        }
        (Kind::Patient, value) if depth == 0 => key.pseudonym(&identifier(&value)?).into(),
        (Kind::Items, Value::Sequence(items)) if depth < MOST_DEPTH => {
            let items: Vec<InMemDicomObject> = items
                .into_items()
                .into_iter()
                .map(|inner| item(inner, key, depth + 1))
                .collect();
            let items = DataSetSequence::new(items, Length::UNDEFINED);
            return Some(DataElement::new(tag, VR::SQ, Value::Sequence(items)));
        }
        _ => return None,
    };
    Some(DataElement::new(tag, vr, value))
}

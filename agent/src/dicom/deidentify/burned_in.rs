//! Whether the pixels of an object may show a name: what its header gives away.
//!
//! The rules are those of header triage in RSNA's CTP and PyPI's `deid`: they find the objects that a person
//! (or a text detector) must look at, not the text. A header that says "no" counts for nothing, since devices
//! say it by default.

use std::fmt;

use dicom_core::Tag;
use dicom_dictionary_std::{tags, uids};
use dicom_object::InMemDicomObject;
use serde::{Deserialize, Serialize};

use super::values;

/// Why the pixels of an object must be seen before it goes anywhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Suspicion {
    /// `BurnedInAnnotation` is `YES`.
    Declared,
    /// `RecognizableVisualFeatures` is `YES`: a face, or what a face can be made of.
    RecognisableFace,
    /// An ultrasound image: its frame usually names the patient.
    Ultrasound,
    /// A Secondary Capture: a screen, a scan of paper or film, a picture from outside.
    SecondaryCapture,
    /// A modality whose devices write into the picture (angiography, fluoroscopy, endoscopy, photography,
    /// `OT` and the like).
    Modality,
    /// `ImageType` speaks of a saved screen, of a secondary image, or of a slide's label.
    ImageType,
    /// `ConversionType` says how the picture was converted from something else.
    ConversionType,
    /// A capture or hardcopy device is named.
    CaptureDevice,
    /// An overlay lies in the unused bits of the pixels, where it outlives the overlay's own tags.
    EmbeddedOverlay,
}

const ULTRASOUND: [&str; 6] = [
    uids::ULTRASOUND_IMAGE_STORAGE,
    "1.2.840.10008.5.1.4.1.1.6", // retired
    uids::ULTRASOUND_MULTI_FRAME_IMAGE_STORAGE,
    "1.2.840.10008.5.1.4.1.1.3", // retired
    uids::ENHANCED_US_VOLUME_STORAGE,
    uids::PHOTOACOUSTIC_IMAGE_STORAGE,
];

const SECONDARY_CAPTURE: [&str; 5] = [
    uids::SECONDARY_CAPTURE_IMAGE_STORAGE,
    uids::MULTI_FRAME_SINGLE_BIT_SECONDARY_CAPTURE_IMAGE_STORAGE,
    uids::MULTI_FRAME_GRAYSCALE_BYTE_SECONDARY_CAPTURE_IMAGE_STORAGE,
    uids::MULTI_FRAME_GRAYSCALE_WORD_SECONDARY_CAPTURE_IMAGE_STORAGE,
    uids::MULTI_FRAME_TRUE_COLOR_SECONDARY_CAPTURE_IMAGE_STORAGE,
];

const CAPTURE_DEVICE: [Tag; 9] = [
    tags::SECONDARY_CAPTURE_DEVICE_ID,
    tags::SECONDARY_CAPTURE_DEVICE_MANUFACTURER,
    tags::SECONDARY_CAPTURE_DEVICE_MANUFACTURER_MODEL_NAME,
    tags::SECONDARY_CAPTURE_DEVICE_SOFTWARE_VERSIONS,
    Tag(0x0018, 0x1011), // HardcopyCreationDeviceID, retired like the three below
    Tag(0x0018, 0x1017),
    Tag(0x0018, 0x101B),
    Tag(0x0018, 0x101A),
    tags::DATE_OF_SECONDARY_CAPTURE,
];

/// Every reason to look at the pixels of an object, in order; none for an object without pixels.
pub fn suspicions(object: &InMemDicomObject) -> Vec<Suspicion> {
    let pixels = [
        tags::PIXEL_DATA,
        tags::FLOAT_PIXEL_DATA,
        tags::DOUBLE_FLOAT_PIXEL_DATA,
    ];
    if !pixels.iter().any(|&tag| object.get(tag).is_some()) {
        return Vec::new();
    }
    let words = |tag| words(object, tag);
    let is = |tag, any: &[&str]| words(tag).iter().any(|word| any.contains(&word.as_str()));
    let filled = |tag| words(tag).iter().any(|word| !word.is_empty());
    let image_type = words(tags::IMAGE_TYPE);
    let speaks_of = |part| image_type.iter().any(|word: &String| word.contains(part));
    let rules = [
        (
            is(tags::BURNED_IN_ANNOTATION, &["YES"]),
            Suspicion::Declared,
        ),
        (
            is(tags::RECOGNIZABLE_VISUAL_FEATURES, &["YES"]),
            Suspicion::RecognisableFace,
        ),
        (
            is(tags::SOP_CLASS_UID, &ULTRASOUND) || is(tags::MODALITY, &["US", "IVUS", "BDUS"]),
            Suspicion::Ultrasound,
        ),
        (
            is(tags::SOP_CLASS_UID, &SECONDARY_CAPTURE) || is(tags::MODALITY, &["SC"]),
            Suspicion::SecondaryCapture,
        ),
        (
            is(
                tags::MODALITY,
                &[
                    "XA", "XF", "RF", "ES", "XC", "GM", "OT", "DOC", "ECG", "HC", "VL",
                ],
            ),
            Suspicion::Modality,
        ),
        (
            [
                "SECONDARY",
                "SAVE",
                "SCREEN",
                "CAPTURE",
                "LABEL",
                "OVERVIEW",
            ]
            .into_iter()
            .any(speaks_of),
            Suspicion::ImageType,
        ),
        (filled(tags::CONVERSION_TYPE), Suspicion::ConversionType),
        (
            CAPTURE_DEVICE.into_iter().any(filled),
            Suspicion::CaptureDevice,
        ),
        (has_embedded_overlay(object), Suspicion::EmbeddedOverlay),
    ];
    rules
        .into_iter()
        .filter_map(|(holds, suspicion)| holds.then_some(suspicion))
        .collect()
}

/// An overlay plane without bits of its own lies in those of the pixels (PS3.3 C.9.2, retired).
fn has_embedded_overlay(object: &InMemDicomObject) -> bool {
    (0x6000..=0x60FE).step_by(2).any(|group| {
        let position = object.get(Tag(group, 0x0102));
        let position = position.and_then(|element| element.to_int::<u16>().ok());
        position.is_some_and(|position| position > 0) && object.get(Tag(group, 0x3000)).is_none()
    })
}

/// The values of an attribute, trimmed and in capitals.
fn words(object: &InMemDicomObject, tag: Tag) -> Vec<String> {
    let value = object
        .get(tag)
        .and_then(|element| element.value().primitive());
    let texts = value.map(values::texts).unwrap_or_default();
    texts.iter().map(|text| text.to_uppercase()).collect()
}

impl fmt::Display for Suspicion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Declared => "the header declares burned-in annotation",
            Self::RecognisableFace => "the header declares recognisable features",
            Self::Ultrasound => "ultrasound images usually show the patient's name",
            Self::SecondaryCapture => "secondary captures may show anything",
            Self::Modality => "devices of this modality write into the picture",
            Self::ImageType => "the image type speaks of a screen, a copy or a label",
            Self::ConversionType => "the picture was converted from something else",
            Self::CaptureDevice => "a capture device is named",
            Self::EmbeddedOverlay => "an overlay lies within the pixels",
        })
    }
}

#[cfg(test)]
mod tests {
    use dicom_core::{DataElement, PrimitiveValue, VR, value::C};

    use super::*;

    fn image(tag: Tag, vr: VR, value: impl Into<PrimitiveValue>) -> InMemDicomObject {
        InMemDicomObject::from_element_iter([
            DataElement::new(tags::SOP_CLASS_UID, VR::UI, uids::CT_IMAGE_STORAGE),
            DataElement::new(tags::MODALITY, VR::CS, "CT"),
            DataElement::new(tags::IMAGE_TYPE, VR::CS, "ORIGINAL\\PRIMARY\\AXIAL"),
            DataElement::new(tags::BURNED_IN_ANNOTATION, VR::CS, "NO"),
            DataElement::new(tags::PIXEL_DATA, VR::OW, PrimitiveValue::from(0_u16)),
            DataElement::new(tag, vr, value.into()),
        ])
    }

    #[test]
    fn each_rule_names_its_reason() {
        for (tag, vr, value, reason) in [
            (
                tags::BURNED_IN_ANNOTATION,
                VR::CS,
                "YES",
                Suspicion::Declared,
            ),
            (
                tags::RECOGNIZABLE_VISUAL_FEATURES,
                VR::CS,
                "YES ",
                Suspicion::RecognisableFace,
            ),
            (
                tags::SOP_CLASS_UID,
                VR::UI,
                "1.2.840.10008.5.1.4.1.1.3.1\0",
                Suspicion::Ultrasound,
            ),
            (tags::MODALITY, VR::CS, "US", Suspicion::Ultrasound),
            (
                tags::SOP_CLASS_UID,
                VR::UI,
                "1.2.840.10008.5.1.4.1.1.7",
                Suspicion::SecondaryCapture,
            ),
            (tags::MODALITY, VR::CS, "SC", Suspicion::SecondaryCapture),
            (tags::MODALITY, VR::CS, "XA", Suspicion::Modality),
            (tags::MODALITY, VR::CS, "OT", Suspicion::Modality),
            (
                tags::IMAGE_TYPE,
                VR::CS,
                "DERIVED\\SECONDARY",
                Suspicion::ImageType,
            ),
            (
                tags::IMAGE_TYPE,
                VR::CS,
                "DERIVED\\PRIMARY\\SCREEN SAVE",
                Suspicion::ImageType,
            ),
            (
                tags::CONVERSION_TYPE,
                VR::CS,
                "WSD",
                Suspicion::ConversionType,
            ),
            (
                tags::SECONDARY_CAPTURE_DEVICE_MANUFACTURER,
                VR::LO,
                "Maker",
                Suspicion::CaptureDevice,
            ),
        ] {
            assert_eq!(suspicions(&image(tag, vr, value)), [reason], "{tag}");
        }
        let unnamed = image(
            tags::MODALITY,
            VR::UN,
            PrimitiveValue::U8(C::from_slice(b"US")),
        );
        assert_eq!(suspicions(&unnamed), [Suspicion::Ultrasound]);
        let overlay = image(Tag(0x6002, 0x0102), VR::US, 12_u16);
        assert_eq!(suspicions(&overlay), [Suspicion::EmbeddedOverlay]);
    }

    #[test]
    fn a_plain_image_and_an_object_without_pixels_are_above_suspicion() {
        let mut ultrasound = image(tags::MODALITY, VR::CS, "US");
        ultrasound.remove_element(tags::PIXEL_DATA);
        assert_eq!(suspicions(&ultrasound), []);
        assert_eq!(suspicions(&image(tags::MODALITY, VR::CS, "CT")), []);
    }
}

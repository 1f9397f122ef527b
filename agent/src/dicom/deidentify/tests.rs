//! What leaves, looked at from outside: bytes of written files.

use dicom_core::{
    DataElement, Length, Tag, VR,
    value::{DataSetSequence, PrimitiveValue, Value},
};
use dicom_dictionary_std::{tags, uids};
use dicom_object::{DefaultDicomObject, FileMetaTableBuilder, InMemDicomObject};

use super::*;

mod canaries;
mod corpus;
mod random_objects;

fn deidentifier(options: Options) -> Deidentifier {
    Deidentifier::new(ProjectKey::from_bytes([9; 32]), options)
}

/// A file with a meta group of its own.
fn file(object: InMemDicomObject, transfer_syntax: &str) -> DefaultDicomObject {
    let meta = FileMetaTableBuilder::new()
        .transfer_syntax(transfer_syntax)
        .media_storage_sop_class_uid(uids::CT_IMAGE_STORAGE)
        .media_storage_sop_instance_uid("1.2.826.0.1.77.1");
    object.with_meta(meta).expect("a meta group")
}

fn image(elements: impl IntoIterator<Item = (Tag, VR, PrimitiveValue)>) -> DefaultDicomObject {
    let mut object = InMemDicomObject::from_element_iter([
        DataElement::new(tags::SOP_CLASS_UID, VR::UI, uids::CT_IMAGE_STORAGE),
        DataElement::new(tags::SOP_INSTANCE_UID, VR::UI, "1.2.826.0.1.77.1"),
        DataElement::new(tags::STUDY_INSTANCE_UID, VR::UI, "1.2.826.0.1.77.2"),
        DataElement::new(tags::PATIENT_ID, VR::LO, "MRN-0042"),
        DataElement::new(tags::PATIENT_NAME, VR::PN, "SMITH^JOHN"),
        DataElement::new(
            tags::PIXEL_DATA,
            VR::OW,
            PrimitiveValue::from([1_u16, 2, 3, 4]),
        ),
    ]);
    for (tag, vr, value) in elements {
        object.put(DataElement::new(tag, vr, value));
    }
    file(object, uids::EXPLICIT_VR_LITTLE_ENDIAN)
}

fn sequence(tag: Tag, items: Vec<InMemDicomObject>) -> dicom_object::mem::InMemElement {
    let items = DataSetSequence::new(items, Length::UNDEFINED);
    DataElement::new(tag, VR::SQ, Value::Sequence(items))
}

fn exported(options: Options, object: DefaultDicomObject) -> DefaultDicomObject {
    let release = deidentifier(options).export(object, Pixels::Unseen);
    release.expect("sound").ready().expect("not suspicious")
}

fn value(object: &InMemDicomObject, tag: Tag) -> Option<String> {
    Some(object.get(tag)?.to_str().ok()?.into_owned())
}

fn written(object: &DefaultDicomObject) -> Vec<u8> {
    let mut bytes = Vec::new();
    object.write_all(&mut bytes).expect("an object is written");
    bytes
}

#[test]
fn the_same_uid_gets_the_same_stand_in_and_another_key_gives_another() {
    let first = exported(Options::default(), image([]));
    let referring = image([]);
    let referring = {
        let meta = referring.meta().clone();
        let mut object = referring.into_inner();
        object.put(DataElement::new(
            tags::SOP_INSTANCE_UID,
            VR::UI,
            "1.2.826.0.1.77.3",
        ));
        object.put(sequence(
            tags::REFERENCED_IMAGE_SEQUENCE,
            vec![InMemDicomObject::from_element_iter([
                DataElement::new(
                    tags::REFERENCED_SOP_CLASS_UID,
                    VR::UI,
                    uids::CT_IMAGE_STORAGE,
                ),
                DataElement::new(
                    tags::REFERENCED_SOP_INSTANCE_UID,
                    VR::UI,
                    "1.2.826.0.1.77.1",
                ),
            ])],
        ));
        object.with_exact_meta(meta)
    };
    let second = exported(Options::default(), referring);
    let instance = value(&first, tags::SOP_INSTANCE_UID).expect("an instance");
    assert!(instance.starts_with("2.25."));
    assert_eq!(first.meta().media_storage_sop_instance_uid(), instance);
    assert_eq!(
        value(&first, tags::STUDY_INSTANCE_UID),
        value(&second, tags::STUDY_INSTANCE_UID)
    );
    let items = second
        .get(tags::REFERENCED_IMAGE_SEQUENCE)
        .and_then(|e| e.items());
    let item = &items.expect("references stay")[0];
    assert_eq!(
        value(item, tags::REFERENCED_SOP_INSTANCE_UID),
        Some(instance.clone())
    );
    assert_eq!(
        value(item, tags::REFERENCED_SOP_CLASS_UID).as_deref(),
        Some(uids::CT_IMAGE_STORAGE)
    );
    assert_eq!(
        value(&first, tags::PATIENT_ID),
        value(&second, tags::PATIENT_ID)
    );
    let other = Deidentifier::new(ProjectKey::from_bytes([8; 32]), Options::default())
        .export(image([]), Pixels::Unseen)
        .expect("sound")
        .ready()
        .expect("not suspicious");
    for tag in [tags::SOP_INSTANCE_UID, tags::PATIENT_ID] {
        assert_ne!(value(&first, tag), value(&other, tag));
    }
}

#[test]
fn patients_without_an_id_are_told_apart_by_study() {
    let anonymous = |study: &str| {
        image([
            (tags::PATIENT_ID, VR::LO, PrimitiveValue::from(" ")),
            (
                tags::STUDY_INSTANCE_UID,
                VR::UI,
                PrimitiveValue::from(study),
            ),
        ])
    };
    let id = |study| {
        value(
            &exported(Options::default(), anonymous(study)),
            tags::PATIENT_ID,
        )
    };
    assert_ne!(id("1.2.3"), id("1.2.4"));
    assert_eq!(id("1.2.3"), id("1.2.3"));
}

#[test]
fn what_was_done_is_written_into_the_object() {
    let options = Options {
        dates: Dates::Moved,
        keep_characteristics: true,
        ..Options::default()
    };
    let export = deidentifier(options)
        .export(image([]), Pixels::SeenClean)
        .expect("sound")
        .ready()
        .expect("seen");
    let text = |tag| value(&export, tag).unwrap_or_default();
    assert_eq!(text(tags::PATIENT_IDENTITY_REMOVED), "YES");
    assert!(text(tags::DEIDENTIFICATION_METHOD).starts_with("PS3.15 E.1-1 2026d"));
    assert_eq!(
        text(tags::LONGITUDINAL_TEMPORAL_INFORMATION_MODIFIED),
        "MODIFIED"
    );
    assert_eq!(text(tags::BURNED_IN_ANNOTATION), "NO");
    let codes = export.get(tags::DEIDENTIFICATION_METHOD_CODE_SEQUENCE);
    let codes: Vec<String> = codes
        .and_then(|element| element.items())
        .expect("codes")
        .iter()
        .filter_map(|item| value(item, tags::CODE_VALUE))
        .collect();
    assert_eq!(codes, ["113100", "113101", "113107", "113108"]);
    let plain = exported(Options::default(), image([]));
    let modified = value(&plain, tags::LONGITUDINAL_TEMPORAL_INFORMATION_MODIFIED);
    assert_eq!(modified.as_deref(), Some("REMOVED"));
}

#[test]
fn dates_of_a_patient_move_together_and_ages_end_at_ninety() {
    let options = Options {
        dates: Dates::Moved,
        keep_characteristics: true,
        ..Options::default()
    };
    let text = |text: &str| PrimitiveValue::from(text);
    let export = exported(
        options,
        image([
            (tags::STUDY_DATE, VR::DA, text("20230401")),
            (tags::SERIES_DATE, VR::DA, text("20230411")),
            (
                tags::ACQUISITION_DATE_TIME,
                VR::DT,
                text("20230401123456.789+0100"),
            ),
            (tags::STUDY_TIME, VR::TM, text("123456.789012")),
            (tags::CONTENT_DATE, VR::DA, text("April 1st")),
            (tags::PATIENT_BIRTH_DATE, VR::DA, text("19300101")),
            (tags::PATIENT_AGE, VR::AS, text("093Y")),
            (tags::PATIENT_SEX, VR::CS, text("F")),
        ]),
    );
    let patient = deidentifier(options).key.shift("MRN-0042");
    let moved = |date| dates::moved_date(date, patient);
    assert_eq!(value(&export, tags::STUDY_DATE), moved("20230401"));
    assert_eq!(value(&export, tags::SERIES_DATE), moved("20230411"));
    let date_time = moved("20230401").map(|date| date + "123456");
    assert_eq!(value(&export, tags::ACQUISITION_DATE_TIME), date_time);
    assert_eq!(value(&export, tags::STUDY_TIME).as_deref(), Some("123456"));
    assert_eq!(
        value(&export, tags::CONTENT_DATE).as_deref(),
        Some("19000101")
    );
    assert_eq!(
        value(&export, tags::PATIENT_BIRTH_DATE).as_deref(),
        Some("")
    );
    assert_eq!(value(&export, tags::PATIENT_AGE).as_deref(), Some("090Y"));
    assert_eq!(value(&export, tags::PATIENT_SEX).as_deref(), Some("F"));
}

#[test]
fn kept_text_beyond_ascii_is_readable_afterwards() {
    let options = Options {
        keep_institution: true,
        ..Options::default()
    };
    let name = PrimitiveValue::from("协和医院");
    let export = exported(options, image([(tags::INSTITUTION_NAME, VR::LO, name)]));
    let again = dicom_object::from_reader(written(&export).as_slice()).expect("readable");
    assert_eq!(
        value(&again, tags::INSTITUTION_NAME).as_deref(),
        Some("协和医院")
    );
}

#[test]
fn suspicious_pixels_wait_for_the_steward_on_both_roads() {
    let scan = || image([(tags::MODALITY, VR::CS, PrimitiveValue::from("US"))]);
    let deidentifier = deidentifier(Options::default());
    for release in [
        deidentifier.export(scan(), Pixels::Unseen),
        deidentifier.training_object(scan(), Pixels::Unseen),
    ] {
        let release = release.expect("sound");
        assert_eq!(format!("{release:?}"), "Held([Ultrasound])");
        assert!(release.ready().is_none());
    }
    let seen = deidentifier.training_object(scan(), Pixels::SeenClean);
    assert!(seen.expect("sound").ready().is_some());
}

#[test]
fn directories_documents_and_endless_depth_are_refused() {
    let deidentifier = deidentifier(Options::default());
    let refused = |object| {
        deidentifier
            .export(object, Pixels::SeenClean)
            .expect_err("refused")
    };
    let document = image([(
        tags::ENCAPSULATED_DOCUMENT,
        VR::OB,
        PrimitiveValue::from(vec![37_u8, 80]),
    )]);
    assert_eq!(refused(document), DeidentifyError::Document);
    let directory = image([(
        tags::SOP_CLASS_UID,
        VR::UI,
        PrimitiveValue::from(uids::MEDIA_STORAGE_DIRECTORY_STORAGE),
    )]);
    assert_eq!(refused(directory), DeidentifyError::Directory);
    let mut deep = InMemDicomObject::new_empty();
    for _ in 0..65 {
        let item = std::mem::replace(&mut deep, InMemDicomObject::new_empty());
        deep.put(sequence(tags::REFERENCED_STUDY_SEQUENCE, vec![]));
        deep.put(sequence(tags::CONCEPT_NAME_CODE_SEQUENCE, vec![item]));
    }
    let deep = file(deep, uids::EXPLICIT_VR_LITTLE_ENDIAN);
    assert_eq!(refused(deep), DeidentifyError::TooDeep { most: 64 });
    let strange = file(InMemDicomObject::new_empty(), "1.2.3.4");
    assert_eq!(refused(strange), DeidentifyError::TransferSyntax);
    let report = file(
        InMemDicomObject::new_empty(),
        uids::EXPLICIT_VR_LITTLE_ENDIAN,
    );
    let training = deidentifier.training_object(report, Pixels::Unseen);
    assert_eq!(training.expect_err("refused"), DeidentifyError::NoPixels);
}

#[test]
fn the_options_keep_what_they_name_and_nothing_else() {
    let text = |text: &str| PrimitiveValue::from(text);
    let object = || {
        image([
            (tags::DEVICE_SERIAL_NUMBER, VR::LO, text("SN-1")),
            (tags::INSTITUTION_NAME, VR::LO, text("Hospital")),
            (tags::PATIENT_SIZE, VR::DS, text("1.8")),
            (tags::PATIENT_WEIGHT, VR::DS, text("SMITH")),
            (tags::ALLERGIES, VR::LO, text("Known to Dr Smith")),
        ])
    };
    let all = Options {
        dates: Dates::Kept,
        keep_uids: true,
        keep_device: true,
        keep_institution: true,
        keep_characteristics: true,
        unlisted: Unlisted::Scrub,
    };
    let kept = exported(all, object());
    assert_eq!(
        value(&kept, tags::DEVICE_SERIAL_NUMBER).as_deref(),
        Some("SN-1")
    );
    assert_eq!(
        value(&kept, tags::INSTITUTION_NAME).as_deref(),
        Some("Hospital")
    );
    assert_eq!(value(&kept, tags::PATIENT_SIZE).as_deref(), Some("1.8"));
    assert_eq!(
        value(&kept, tags::SOP_INSTANCE_UID).as_deref(),
        Some("1.2.826.0.1.77.1")
    );
    assert_eq!(
        kept.meta().media_storage_sop_instance_uid(),
        "1.2.826.0.1.77.1"
    );
    // No number, and a text that somebody would have to clean.
    assert_eq!(value(&kept, tags::PATIENT_WEIGHT), None);
    assert_eq!(value(&kept, tags::ALLERGIES), None);
    let none = exported(Options::default(), object());
    assert_eq!(
        value(&none, tags::DEVICE_SERIAL_NUMBER).as_deref(),
        Some("REMOVED")
    );
    assert_eq!(
        value(&none, tags::INSTITUTION_NAME).as_deref(),
        Some("REMOVED")
    );
    assert_eq!(value(&none, tags::PATIENT_SIZE), None);
}

#[test]
fn one_character_set_holds_for_the_whole_object() {
    let object = image([]);
    let meta = object.meta().clone();
    let mut object = object.into_inner();
    let latin = || DataElement::new(tags::SPECIFIC_CHARACTER_SET, VR::CS, "ISO_IR 100");
    let item = InMemDicomObject::from_element_iter([latin()]);
    object.put(latin());
    object.put(sequence(tags::REFERENCED_IMAGE_SEQUENCE, vec![item]));
    let export = exported(Options::default(), object.with_exact_meta(meta));
    let set = value(&export, tags::SPECIFIC_CHARACTER_SET);
    assert_eq!(set.as_deref(), Some("ISO_IR 192"));
    let items = export
        .get(tags::REFERENCED_IMAGE_SEQUENCE)
        .and_then(|e| e.items());
    assert!(items.is_some_and(|items| items.len() == 1 && items[0].iter().count() == 0));
}

#[test]
fn bytes_that_could_not_be_read_go_even_where_values_are_kept() {
    let options = Options {
        keep_institution: true,
        unlisted: Unlisted::Keep,
        ..Options::default()
    };
    let bytes = |text: &str| PrimitiveValue::U8(text.bytes().collect());
    let export = exported(
        options,
        image([
            (tags::MANUFACTURER, VR::UN, bytes("Müller")),
            (tags::INSTITUTION_NAME, VR::UN, bytes("Spital Müller")),
            (tags::SOFTWARE_VERSIONS, VR::UN, bytes("v1")),
        ]),
    );
    assert_eq!(value(&export, tags::MANUFACTURER), None);
    assert_eq!(value(&export, tags::INSTITUTION_NAME), None);
    assert_eq!(
        value(&export, tags::SOFTWARE_VERSIONS).as_deref(),
        Some("v1")
    );
}

#[test]
fn small_pictures_within_sequences_go() {
    let picture = || {
        let pixels = DataElement::new(tags::PIXEL_DATA, VR::OW, PrimitiveValue::from([7_u16; 4]));
        InMemDicomObject::from_element_iter([pixels])
    };
    let object = image([]);
    let meta = object.meta().clone();
    let mut object = object.into_inner();
    object.put(sequence(tags::ICON_IMAGE_SEQUENCE, vec![picture()]));
    object.put(sequence(tags::CONCEPT_NAME_CODE_SEQUENCE, vec![picture()]));
    let options = Options {
        unlisted: Unlisted::Keep,
        ..Options::default()
    };
    let export = exported(options, object.with_exact_meta(meta));
    assert!(export.get(tags::ICON_IMAGE_SEQUENCE).is_none());
    let items = export
        .get(tags::CONCEPT_NAME_CODE_SEQUENCE)
        .and_then(|e| e.items());
    assert!(items.is_some_and(|items| {
        items
            .iter()
            .all(|item| item.get(tags::PIXEL_DATA).is_none())
    }));
    assert!(export.get(tags::PIXEL_DATA).is_some());
}

#[test]
fn running_twice_changes_stand_ins_but_not_the_structure() {
    let structure = |object: &InMemDicomObject| -> Vec<(Tag, VR, u32)> {
        let of = |element: &dicom_object::mem::InMemElement| {
            (
                element.header().tag,
                element.vr(),
                element.value().multiplicity(),
            )
        };
        object.iter().map(of).collect()
    };
    let once = exported(Options::default(), canaries::object(canaries::Lies::None));
    let twice = exported(Options::default(), once.clone());
    assert_eq!(structure(&once), structure(&twice));
    assert_eq!(
        value(&once, tags::SERIES_DESCRIPTION),
        value(&twice, tags::SERIES_DESCRIPTION)
    );
    assert_ne!(
        value(&once, tags::SOP_INSTANCE_UID),
        value(&twice, tags::SOP_INSTANCE_UID)
    );
}

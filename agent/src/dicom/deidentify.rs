//! Objects without what names a patient: DICOM PS3.15 Annex E for exports, a short allow-list for training.
//!
//! Two roads, both from a parsed object to a new one:
//!
//! - [`Deidentifier::export`] follows the Basic Profile: the whole of table E.1-1, at any depth. It goes
//!   further than the standard, which keeps what its table does not name: see [`Unlisted`].
//! - [`Deidentifier::training_object`] copies pixels and about 40 named attributes, nothing else.
//!
//! UIDs and the patient's id become stand-ins under a [`ProjectKey`], so that studies, series and references
//! still fit together; dates go, or move by a number of days of the patient's own. Pixels are never touched:
//! an object whose header makes text in them likely is held for the steward ([`Suspicion`]). Who compresses
//! pixels may write comments into the compressed bytes: a receiver that must not see those asks for
//! uncompressed ones. Faces that a head scan could be rendered to are not hidden.

use std::fmt;

use dicom_core::{
    DataElement, Length, Tag, VR,
    value::{DataSetSequence, Value},
};
use dicom_dictionary_std::{tags, uids};
use dicom_object::{DefaultDicomObject, FileMetaTableBuilder, InMemDicomObject};

pub use self::{
    burned_in::{Suspicion, suspicions},
    key::ProjectKey,
};
use self::{
    profile::{Profile, identifier, is_of_the_standard},
    table::Table,
    values::is_uid,
};

mod burned_in;
mod coded;
mod dates;
mod key;
mod profile;
mod table;
#[cfg(test)]
mod tests;
mod training;
mod values;

/// What an export may keep beyond the Basic Profile. The default keeps nothing.
///
/// There is no option to keep private attributes, and none to keep text after cleaning: no program does that
/// safely.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Options {
    /// Dates and times.
    pub dates: Dates,
    /// UIDs stay as they are (code 113110). They lead back to the archive.
    pub keep_uids: bool,
    /// What names the device (113109): its serial number, its station.
    pub keep_device: bool,
    /// What names the institution (113112).
    pub keep_institution: bool,
    /// Sex, age (90 years for everyone older), height, weight and the like (113108).
    pub keep_characteristics: bool,
    /// Attributes that the table does not name.
    pub unlisted: Unlisted,
}

/// What becomes of dates and times.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Dates {
    /// Removed, emptied, or the same dummy for everyone.
    #[default]
    Removed,
    /// Moved back by one to ten years, by a number of days of the patient's own; the time of day stays to the
    /// second (113107).
    Moved,
    /// Kept (113106).
    Kept,
}

/// What becomes of attributes that table E.1-1 does not name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Unlisted {
    /// Kept if they hold no free text: numbers, samples, UIDs (of the standard, or as stand-ins), words of a
    /// closed vocabulary, codes of public schemes without their meaning. Dummies take the place of all
    /// other text, other bytes go.
    #[default]
    Scrub,
    /// Kept as they are, as the standard has it. A sender that writes a name where it does not belong
    /// (`Manufacturer`, a code's meaning) is trusted not to.
    Keep,
}

/// What is known of the pixels of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pixels {
    /// Nobody has looked.
    Unseen,
    /// The steward has looked at every frame and found no text and no face.
    SeenClean,
}

/// An object that was asked for, or why it must wait.
pub enum Release {
    /// Free to go.
    Ready(Box<DefaultDicomObject>),
    /// To be shown to the steward first, for these reasons.
    Held(Vec<Suspicion>),
}

/// Why an object cannot be de-identified. None of these says what is in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DeidentifyError {
    /// Sequences within sequences.
    #[error("sequences lie more than {most} deep")]
    TooDeep {
        /// How deep they may lie.
        most: usize,
    },
    /// A document (PDF, CDA, 3D model) in an object: no table can clean it.
    #[error("the object wraps a document")]
    Document,
    /// A directory of a medium names the patients of all its files.
    #[error("the object is a directory of other objects")]
    Directory,
    /// The file says it is written in a way that the standard does not know.
    #[error("unknown transfer syntax")]
    TransferSyntax,
    /// The object asked for training has no pixels.
    #[error("the object has no pixels")]
    NoPixels,
    /// The new file's meta group cannot be built.
    #[error("cannot build the file's meta group")]
    Meta,
}

/// Makes objects that name nobody, for one project.
#[derive(Debug)]
pub struct Deidentifier {
    key: ProjectKey,
    options: Options,
}

impl Deidentifier {
    /// Another key for another project.
    pub fn new(key: ProjectKey, options: Options) -> Self {
        Self { key, options }
    }

    /// The object for somebody outside, under the Basic Profile and the options.
    ///
    /// # Errors
    /// The object is of a kind that cannot be cleaned, or too deep.
    pub fn export(
        &self,
        object: DefaultDicomObject,
        pixels: Pixels,
    ) -> Result<Release, DeidentifyError> {
        self.export_under(Table::standard(), object, pixels)
    }

    fn export_under(
        &self,
        table: &Table,
        object: DefaultDicomObject,
        pixels: Pixels,
    ) -> Result<Release, DeidentifyError> {
        refuse_containers(&object)?;
        if let Some(held) = held(&object, pixels) {
            return Ok(held);
        }
        let (source, object) = Source::of(object)?;
        let patient = source.patient(&object);
        let profile = Profile {
            table,
            key: &self.key,
            options: self.options,
            shift: self.key.shift(&patient),
        };
        let has_pixels = object.get(tags::PIXEL_DATA).is_some();
        let mut cleaned = profile.clean(object)?;
        self.mark(&mut cleaned, pixels, has_pixels);
        let pseudonym = self.key.pseudonym(&patient);
        cleaned.put(DataElement::new(tags::PATIENT_ID, VR::LO, pseudonym));
        source.file(cleaned, |uid| match self.options.keep_uids {
            true if is_uid(uid) => uid.to_owned(),
            _ => self.key.uid(uid),
        })
    }

    /// The object for the training cache: pixels, what they mean, the patient's stand-in.
    ///
    /// Options do not matter to it.
    ///
    /// # Errors
    /// The object has no pixels, or is of a kind that cannot be cleaned.
    pub fn training_object(
        &self,
        object: DefaultDicomObject,
        pixels: Pixels,
    ) -> Result<Release, DeidentifyError> {
        refuse_containers(&object)?;
        if object.get(tags::PIXEL_DATA).is_none() {
            return Err(DeidentifyError::NoPixels);
        }
        if let Some(held) = held(&object, pixels) {
            return Ok(held);
        }
        let (source, object) = Source::of(object)?;
        let pseudonym = self.key.pseudonym(&source.patient(&object));
        let mut reduced = training::reduced(object, &self.key);
        reduced.put(DataElement::new(tags::PATIENT_ID, VR::LO, pseudonym));
        reduced.put(DataElement::new(
            tags::PATIENT_IDENTITY_REMOVED,
            VR::CS,
            "YES",
        ));
        source.file(reduced, |uid| self.key.uid(uid))
    }

    /// Writes what was done (PS3.15 E.1.1), and the character set of all that is left.
    fn mark(&self, object: &mut InMemDicomObject, pixels: Pixels, has_pixels: bool) {
        let options = self.options;
        let codes = [
            (true, "113100", "Basic Application Confidentiality Profile"),
            (
                has_pixels && pixels == Pixels::SeenClean,
                "113101",
                "Clean Pixel Data Option",
            ),
            (
                options.dates == Dates::Kept,
                "113106",
                "Retain Longitudinal Temporal Information Full Dates Option",
            ),
            (
                options.dates == Dates::Moved,
                "113107",
                "Retain Longitudinal Temporal Information Modified Dates Option",
            ),
            (
                options.keep_characteristics,
                "113108",
                "Retain Patient Characteristics Option",
            ),
            (
                options.keep_device,
                "113109",
                "Retain Device Identity Option",
            ),
            (options.keep_uids, "113110", "Retain UIDs Option"),
            (
                options.keep_institution,
                "113112",
                "Retain Institution Identity Option",
            ),
        ];
        let used = codes.into_iter().filter(|(used, ..)| *used);
        let items: Vec<InMemDicomObject> = used
            .map(|(_, code, meaning)| {
                InMemDicomObject::from_element_iter([
                    DataElement::new(tags::CODE_VALUE, VR::SH, code),
                    DataElement::new(tags::CODING_SCHEME_DESIGNATOR, VR::SH, "DCM"),
                    DataElement::new(tags::CODE_MEANING, VR::LO, meaning),
                ])
            })
            .collect();
        let dates = match options.dates {
            Dates::Removed => "REMOVED",
            Dates::Moved => "MODIFIED",
            Dates::Kept => "UNMODIFIED",
        };
        let method = match options.unlisted {
            Unlisted::Scrub => "PS3.15 E.1-1 2026d, unlisted text removed",
            Unlisted::Keep => "PS3.15 E.1-1 2026d",
        };
        for (tag, vr, value) in [
            (tags::SPECIFIC_CHARACTER_SET, VR::CS, "ISO_IR 192"),
            (tags::PATIENT_IDENTITY_REMOVED, VR::CS, "YES"),
            (tags::DEIDENTIFICATION_METHOD, VR::LO, method),
            (
                tags::LONGITUDINAL_TEMPORAL_INFORMATION_MODIFIED,
                VR::CS,
                dates,
            ),
        ] {
            object.put(DataElement::new(tag, vr, value));
        }
        object.put(DataElement::new(
            tags::DEIDENTIFICATION_METHOD_CODE_SEQUENCE,
            VR::SQ,
            Value::Sequence(DataSetSequence::new(items, Length::UNDEFINED)),
        ));
        if has_pixels && pixels == Pixels::SeenClean {
            object.put(DataElement::new(tags::BURNED_IN_ANNOTATION, VR::CS, "NO"));
        }
    }
}

fn held(object: &InMemDicomObject, pixels: Pixels) -> Option<Release> {
    let suspicions = match pixels {
        Pixels::Unseen => suspicions(object),
        Pixels::SeenClean => Vec::new(),
    };
    (!suspicions.is_empty()).then_some(Release::Held(suspicions))
}

fn refuse_containers(object: &DefaultDicomObject) -> Result<(), DeidentifyError> {
    let classes = [
        text(object, tags::SOP_CLASS_UID),
        Some(object.meta().media_storage_sop_class_uid().to_owned()),
    ];
    let directory = classes
        .iter()
        .flatten()
        .any(|class| class == uids::MEDIA_STORAGE_DIRECTORY_STORAGE);
    if directory || object.get(tags::DIRECTORY_RECORD_SEQUENCE).is_some() {
        return Err(DeidentifyError::Directory);
    }
    if object.get(tags::ENCAPSULATED_DOCUMENT).is_some() {
        return Err(DeidentifyError::Document);
    }
    Ok(())
}

/// What the meta group of the source says that the new one must know.
struct Source {
    transfer_syntax: String,
    class: String,
    instance: String,
}

impl Source {
    fn of(object: DefaultDicomObject) -> Result<(Self, InMemDicomObject), DeidentifyError> {
        let meta = object.meta();
        let plain = |uid: &str| uid.trim_matches([' ', '\0']).to_owned();
        let source = Self {
            transfer_syntax: plain(meta.transfer_syntax()),
            class: plain(meta.media_storage_sop_class_uid()),
            instance: plain(meta.media_storage_sop_instance_uid()),
        };
        if !is_of_the_standard(&source.transfer_syntax) {
            return Err(DeidentifyError::TransferSyntax);
        }
        Ok((source, object.into_inner()))
    }

    /// What a patient's stand-ins are made from: the patient's id, and the study or the object where there is
    /// none, so that two patients without one are never taken for the same.
    fn patient(&self, object: &InMemDicomObject) -> String {
        let of = |tag, kind| Some(format!("{kind}{}", text(object, tag)?));
        of(tags::PATIENT_ID, "")
            .or_else(|| of(tags::STUDY_INSTANCE_UID, "study "))
            .or_else(|| of(tags::SOP_INSTANCE_UID, "object "))
            .unwrap_or_else(|| format!("object {}", self.instance))
    }

    /// A file of the new object. Its meta group has nothing of the old one but the transfer syntax.
    fn file(
        self,
        object: InMemDicomObject,
        stand_in: impl Fn(&str) -> String,
    ) -> Result<Release, DeidentifyError> {
        let class = match is_of_the_standard(&self.class) {
            true => self.class,
            false => stand_in(&self.class),
        };
        let meta = FileMetaTableBuilder::new()
            .transfer_syntax(self.transfer_syntax)
            .media_storage_sop_class_uid(class)
            .media_storage_sop_instance_uid(stand_in(&self.instance));
        // What the object says of itself goes before what the old meta group said.
        let file = object.with_meta(meta).map_err(|_| DeidentifyError::Meta)?;
        Ok(Release::Ready(Box::new(file)))
    }
}

/// The value of an attribute, unless it is empty.
fn text(object: &InMemDicomObject, tag: Tag) -> Option<String> {
    identifier(object.get(tag)?.value())
}

impl Release {
    /// The object, if it may go.
    pub fn ready(self) -> Option<DefaultDicomObject> {
        match self {
            Self::Ready(object) => Some(*object),
            Self::Held(_) => None,
        }
    }
}

impl fmt::Debug for Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ready(_) => f.write_str("Ready([an object])"),
            Self::Held(suspicions) => f.debug_tuple("Held").field(suspicions).finish(),
        }
    }
}

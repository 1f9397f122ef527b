//! One object under the Basic Profile: what happens to each of its elements, at any depth.
//!
//! Where the table leaves a choice to the type of an attribute in its IOD, the choice here is the strongest
//! that keeps every type valid: `X/Z` is emptied (types 2 and 3 may be empty), `X/D`, `Z/D` and `X/Z/D` get
//! a dummy (any type may hold one), `X/Z/U*` keeps its references with new UIDs. Nothing of the patient is in
//! any of them. A dummy takes the place of a value, never of an empty one.

use dicom_core::{
    DataElement, Length, Tag, VR,
    value::{DataSetSequence, PrimitiveValue, Value},
};
use dicom_dictionary_std::tags;
use dicom_object::{InMemDicomObject, mem::InMemElement};

use super::{
    Dates, DeidentifyError, Options, Unlisted, coded, dates,
    key::{ProjectKey, Shift},
    table::{Action, Retained, Row, Table},
    values,
};

/// How deep sequences may lie within each other. Real objects stay below 10.
const MOST_DEPTH: usize = 64;

/// Attributes that hold samples, tables of them, or where they begin. Other bytes may be documents.
const BULK: [Tag; 15] = [
    tags::PIXEL_DATA,
    tags::FLOAT_PIXEL_DATA,
    tags::DOUBLE_FLOAT_PIXEL_DATA,
    tags::EXTENDED_OFFSET_TABLE,
    tags::EXTENDED_OFFSET_TABLE_LENGTHS,
    tags::LUT_DATA,
    tags::RED_PALETTE_COLOR_LOOKUP_TABLE_DATA,
    tags::GREEN_PALETTE_COLOR_LOOKUP_TABLE_DATA,
    tags::BLUE_PALETTE_COLOR_LOOKUP_TABLE_DATA,
    tags::SEGMENTED_RED_PALETTE_COLOR_LOOKUP_TABLE_DATA,
    tags::SEGMENTED_GREEN_PALETTE_COLOR_LOOKUP_TABLE_DATA,
    tags::SEGMENTED_BLUE_PALETTE_COLOR_LOOKUP_TABLE_DATA,
    tags::WAVEFORM_DATA,
    tags::WAVEFORM_PADDING_VALUE,
    tags::SPECTROSCOPY_DATA,
];

/// The rules for the objects of one patient.
pub(super) struct Profile<'a> {
    pub(super) table: &'a Table,
    pub(super) key: &'a ProjectKey,
    pub(super) options: Options,
    pub(super) shift: Shift,
}

/// What happens to one element.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Deed {
    Remove,
    Empty,
    Dummy,
    Uids,
    /// Keeps what has the representation that the dictionary gives its tag, free text included.
    Keep,
    /// Keeps dates that are dates; the rest falls under the Basic Profile.
    KeepDates,
    /// Moves dates; what is no date falls under the Basic Profile.
    Move,
    /// Keeps what cannot be free text, and puts dummies over the rest.
    Scrub,
}

/// Where an element stands.
#[derive(Clone, Copy)]
struct Place {
    depth: usize,
    /// Within a sequence that the table wants to be a dummy: everything unlisted is scrubbed.
    scrubbed: bool,
    /// Within an entry of a public coding scheme.
    public_code: bool,
}

impl Profile<'_> {
    /// The object without what identifies.
    ///
    /// # Errors
    /// Sequences lie too deep.
    pub(super) fn clean(
        &self,
        object: InMemDicomObject,
    ) -> Result<InMemDicomObject, DeidentifyError> {
        self.item(object, 0, self.options.unlisted == Unlisted::Scrub)
    }

    fn item(
        &self,
        item: InMemDicomObject,
        depth: usize,
        scrubbed: bool,
    ) -> Result<InMemDicomObject, DeidentifyError> {
        if depth > MOST_DEPTH {
            return Err(DeidentifyError::TooDeep { most: MOST_DEPTH });
        }
        let place = Place {
            depth,
            scrubbed,
            public_code: coded::is_public_code(&item),
        };
        // The meaning of a code is free text: where texts are scrubbed, the code takes its place.
        let code = item.get(tags::CODE_VALUE);
        let code = code.and_then(|code| identifier(code.value()));
        let mut cleaned = InMemDicomObject::new_empty();
        for element in item {
            if let Some(element) = self.element(element, place, code.as_deref())? {
                cleaned.put(element);
            }
        }
        Ok(cleaned)
    }

    fn element(
        &self,
        element: InMemElement,
        place: Place,
        code: Option<&str>,
    ) -> Result<Option<InMemElement>, DeidentifyError> {
        let (header, value) = values::named(element).into_parts();
        let (tag, vr) = (header.tag, header.vr());
        if !belongs(tag) {
            return Ok(None);
        }
        if tag == tags::PATIENT_ID {
            let pseudonym = identifier(&value).map(|id| self.key.pseudonym(&id));
            let value = pseudonym.map_or(PrimitiveValue::Empty, PrimitiveValue::from);
            return Ok(Some(DataElement::new(tag, VR::LO, value)));
        }
        let row = self.table.row(tag);
        let deed = match row {
            Some(row) => self.deed(row),
            None if place.scrubbed => Deed::Scrub,
            None => Deed::Keep,
        };
        let vr = match (vr, values::known_vr(tag)) {
            (VR::UN, None) => return Ok(None),
            (VR::UN, Some(vr)) if matches!(deed, Deed::Empty | Deed::Dummy) => vr,
            // Nobody could read these bytes as the value that they should be.
            (VR::UN, Some(_)) if tag != tags::PIXEL_DATA => return Ok(None),
            (vr, _) => vr,
        };
        // Small pictures of the picture lie within sequences, and nobody looks at those.
        if tag == tags::PIXEL_DATA && place.depth > 0 {
            return Ok(None);
        }
        match value {
            Value::Primitive(value) => {
                let value = match (deed, place.public_code, tag, code) {
                    (Deed::Scrub, true, tags::CODE_VALUE | tags::CODING_SCHEME_DESIGNATOR, _) => {
                        Some(value)
                    }
                    (Deed::Scrub, true, tags::CODE_MEANING, Some(code)) => {
                        Some(PrimitiveValue::from(code))
                    }
                    _ => self.primitive(deed, row, tag, vr, value),
                };
                Ok(value.map(|value| DataElement::new(tag, vr, value)))
            }
            Value::PixelSequence(fragments) => {
                let pixels = tag == tags::PIXEL_DATA;
                Ok(pixels.then(|| DataElement::new(tag, vr, Value::PixelSequence(fragments))))
            }
            Value::Sequence(items) => {
                let items = match deed {
                    Deed::Remove => return Ok(None),
                    Deed::Empty => Vec::new(),
                    Deed::Dummy => self.items(items, place.depth, true)?,
                    Deed::Uids | Deed::Keep | Deed::KeepDates | Deed::Move | Deed::Scrub => {
                        if values::known_vr(tag).is_none() {
                            return Ok(None);
                        }
                        self.items(items, place.depth, place.scrubbed)?
                    }
                };
                let items = DataSetSequence::new(items, Length::UNDEFINED);
                Ok(Some(DataElement::new(tag, VR::SQ, Value::Sequence(items))))
            }
        }
    }

    fn items(
        &self,
        items: DataSetSequence<InMemDicomObject>,
        depth: usize,
        scrubbed: bool,
    ) -> Result<Vec<InMemDicomObject>, DeidentifyError> {
        let items = items.into_items().into_iter();
        items
            .map(|item| self.item(item, depth + 1, scrubbed))
            .collect()
    }

    /// What the options, and else the Basic Profile, do to an attribute.
    fn deed(&self, row: Row) -> Deed {
        let Options {
            dates,
            keep_uids,
            keep_device,
            keep_institution,
            keep_characteristics,
            ..
        } = self.options;
        let kept = [
            (keep_uids, row.uids),
            (keep_device, row.device),
            (keep_institution, row.institution),
            (keep_characteristics, row.characteristics),
        ];
        // To keep after cleaning (`C`) takes somebody who reads it, except for dates.
        if kept.contains(&(true, Some(Retained::Keep))) {
            Deed::Keep
        } else {
            match dates {
                Dates::Kept if row.full_dates.is_some() => Deed::KeepDates,
                Dates::Moved if row.modified_dates.is_some() => Deed::Move,
                _ => basic(row.action),
            }
        }
    }

    fn primitive(
        &self,
        deed: Deed,
        row: Option<Row>,
        tag: Tag,
        vr: VR,
        value: PrimitiveValue,
    ) -> Option<PrimitiveValue> {
        // What an option would keep or move, and is not what it should be, falls under the Basic Profile.
        let fallback = || match row.map_or(Deed::Dummy, |row| basic(row.action)) {
            Deed::Remove => None,
            Deed::Empty => Some(PrimitiveValue::Empty),
            _ => Some(values::dummy(tag, vr, value.multiplicity())),
        };
        if value.multiplicity() == 0 || matches!(value, PrimitiveValue::Empty) {
            return (deed != Deed::Remove).then_some(PrimitiveValue::Empty);
        }
        match deed {
            Deed::Remove => None,
            Deed::Empty => Some(PrimitiveValue::Empty),
            Deed::Dummy => Some(values::dummy(tag, vr, value.multiplicity())),
            Deed::Uids if vr == VR::UI => {
                Some(self.mapped(&value, |uid| uid.starts_with("1.2.840.10008.1.")))
            }
            Deed::Uids => Some(values::dummy(tag, vr, value.multiplicity())),
            Deed::Move => self.moved(vr, &value).or_else(fallback),
            Deed::Keep if tag == tags::PATIENT_AGE => {
                values::capped_age(&value.to_str()).map(PrimitiveValue::from)
            }
            // Numbers, ages and the like must be as promised; text promises nothing.
            Deed::Keep if row.is_some() => {
                let text = [
                    VR::LO,
                    VR::LT,
                    VR::PN,
                    VR::SH,
                    VR::ST,
                    VR::UC,
                    VR::UT,
                    VR::CS,
                ];
                let named = values::known_vr(tag) == Some(vr);
                match named && (text.contains(&vr) || values::is_as_promised(vr, &value)) {
                    true => Some(value),
                    false => fallback(),
                }
            }
            Deed::Keep => Some(value),
            Deed::KeepDates if matches!(vr, VR::DA | VR::DT | VR::TM) => {
                match values::is_as_promised(vr, &value) {
                    true => Some(value),
                    false => fallback(),
                }
            }
            Deed::KeepDates => fallback(),
            Deed::Scrub => self.scrubbed(tag, vr, value),
        }
    }

    /// What may stay of an attribute that the table does not name.
    fn scrubbed(&self, tag: Tag, vr: VR, value: PrimitiveValue) -> Option<PrimitiveValue> {
        values::known_vr(tag)?; // an attribute that nobody knows may be anything
        let bytes = matches!(
            vr,
            VR::OB | VR::OD | VR::OF | VR::OL | VR::OV | VR::OW | VR::UN
        );
        if BULK.contains(&tag) && bytes {
            return values::is_binary(&value).then_some(value);
        }
        let dummy = |value: &PrimitiveValue| Some(values::dummy(tag, vr, value.multiplicity()));
        match vr {
            VR::UI => Some(self.mapped(&value, is_of_the_standard)),
            VR::CS => Some(words(&value)),
            VR::DA | VR::DT | VR::TM => match self.options.dates {
                Dates::Removed => dummy(&value),
                Dates::Moved => self.moved(vr, &value).or_else(|| dummy(&value)),
                Dates::Kept if values::is_as_promised(vr, &value) => Some(value),
                Dates::Kept => dummy(&value),
            },
            VR::AS => dummy(&value),
            VR::LO | VR::SH if values::is_as_promised(VR::CS, &value) => Some(value),
            vr if values::is_as_promised(vr, &value) => Some(value),
            _ if bytes => None,
            _ => dummy(&value),
        }
    }

    fn moved(&self, vr: VR, value: &PrimitiveValue) -> Option<PrimitiveValue> {
        let moved = |text: &String| match vr {
            VR::DA => dates::moved_date(text, self.shift),
            VR::DT => dates::moved_date_time(text, self.shift),
            VR::TM => dates::time_of_day(text),
            _ => None,
        };
        let values: Option<Vec<String>> = values::texts(value).iter().map(moved).collect();
        Some(PrimitiveValue::Strs(values?.into()))
    }

    /// New UIDs for all but those that stay.
    fn mapped(&self, value: &PrimitiveValue, stays: impl Fn(&str) -> bool) -> PrimitiveValue {
        let mapped = |uid: &String| match uid.as_str() {
            "" => String::new(),
            uid if is_of_the_standard(uid) && stays(uid) => uid.to_owned(),
            uid => self.key.uid(uid),
        };
        let values: Vec<String> = values::texts(value).iter().map(mapped).collect();
        PrimitiveValue::Strs(values.into())
    }
}

fn basic(action: Action) -> Deed {
    match action {
        Action::Remove => Deed::Remove,
        Action::Empty | Action::RemoveOrEmpty => Deed::Empty,
        Action::Dummy
        | Action::RemoveOrDummy
        | Action::RemoveOrEmptyOrDummy
        | Action::EmptyOrDummy => Deed::Dummy,
        Action::Uid | Action::RemoveOrEmptyOrUids => Deed::Uids,
    }
}

/// Whether an element may be in a data set that leaves at all. Group lengths and character sets are written
/// anew; commands, file meta and directories are of other places; overlays go whole, since their origin and
/// size mean nothing without their bits; signatures no longer fit what they signed.
fn belongs(tag: Tag) -> bool {
    let anew = [
        tags::SPECIFIC_CHARACTER_SET,
        tags::PATIENT_IDENTITY_REMOVED,
        tags::DEIDENTIFICATION_METHOD,
        tags::DEIDENTIFICATION_METHOD_CODE_SEQUENCE,
        tags::LONGITUDINAL_TEMPORAL_INFORMATION_MODIFIED,
        tags::ENCAPSULATED_DOCUMENT,
    ];
    let group = tag.group();
    tag.element() != 0
        && group >= 0x0008
        && group >> 8 != 0x60
        && !matches!(group, 0x4FFE | 0xFFFA | 0xFFFC)
        && !anew.contains(&tag)
}

/// A UID that NEMA gave out: below its root, with numbers as it gives them.
pub(super) fn is_of_the_standard(uid: &str) -> bool {
    let parts = uid
        .strip_prefix("1.2.840.10008.")
        .map(|rest| rest.split('.'));
    parts.is_some_and(|mut parts| {
        uid.len() <= 40
            && parts.all(|part| {
                (1..=4).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_digit())
            })
    })
}

/// Coded strings with `UNKNOWN` in place of each that is not of the closed vocabulary.
fn words(value: &PrimitiveValue) -> PrimitiveValue {
    let mut words = values::texts(value);
    for word in words.iter_mut().filter(|word| !coded::is_word(word)) {
        *word = "UNKNOWN".to_owned();
    }
    PrimitiveValue::Strs(words.into())
}

/// The text of an identifier, unless it is empty.
pub(super) fn identifier(value: &Value<InMemDicomObject>) -> Option<String> {
    let text = values::texts(value.primitive()?).join("\\");
    (!text.is_empty()).then_some(text)
}

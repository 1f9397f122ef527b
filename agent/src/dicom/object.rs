//! A checked data set as an object of dicom-object.
//!
//! That crate allocates what a length field claims and recurses as deep as sequences nest, and it reads a
//! few constructs otherwise than the walk does. It therefore never sees bytes from outside: it is given the
//! checked elements, written anew in Explicit VR Little Endian. What it would misread (sequences of unknown
//! representation, big endian, deflated) is plain by then.

use dicom_core::{Tag, VR};
use dicom_dictionary_std::uids;
use dicom_object::{DefaultDicomObject, FileMetaTableBuilder, InMemDicomObject};
use dicom_transfer_syntax_registry::entries::EXPLICIT_VR_LITTLE_ENDIAN;

use super::{
    data_set::DataSet,
    header::{self, Element, Encoding, ITEM, ITEM_DELIMITER, PIXEL_DATA, SEQUENCE_DELIMITER},
    pixels::BITS_ALLOCATED,
};

const UNDEFINED: [u8; 4] = [0xFF; 4];

/// A checked data set that dicom-object cannot take all the same.
#[derive(Debug, thiserror::Error)]
pub enum ObjectError {
    /// Text or numbers it cannot decode. The cause is left out: it may quote values.
    #[error("an element has a value that cannot be decoded")]
    Value,
    /// Without SOP class and instance there is no file.
    #[error("the object has no SOP class or instance")]
    Nameless,
}

impl DataSet {
    /// The whole object, for changes and for writing. Native pixels come out in Explicit VR Little Endian,
    /// encapsulated ones in the syntax they came in.
    ///
    /// # Errors
    /// A value that dicom-object cannot decode; an object without SOP class or instance.
    pub fn to_object(&self) -> Result<DefaultDicomObject, ObjectError> {
        let bytes = self.to_explicit_little();
        let syntax = EXPLICIT_VR_LITTLE_ENDIAN.erased();
        let object = InMemDicomObject::read_dataset_with_ts(bytes.as_slice(), &syntax)
            .map_err(|_| ObjectError::Value)?;
        let uid = match self.syntax().is_native() {
            true => uids::EXPLICIT_VR_LITTLE_ENDIAN,
            false => self.syntax().uid(),
        };
        let meta = FileMetaTableBuilder::new().transfer_syntax(uid);
        object.with_meta(meta).map_err(|_| ObjectError::Nameless)
    }

    /// Every element anew, sequences and items with delimiters.
    fn to_explicit_little(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut open: Vec<Tag> = Vec::new();
        let mut elements = self.elements().iter().peekable();
        while let Some(element) = elements.next() {
            close(&mut bytes, &mut open, element.depth);
            let is_inside = |next: &&&Element| next.depth > element.depth;
            let is_open = elements.peek().as_ref().is_some_and(is_inside);
            let in_fragments = open.last() == Some(&PIXEL_DATA);
            match element.tag {
                ITEM if in_fragments => {
                    put_tag(&mut bytes, ITEM);
                    let value = self.value(element);
                    bytes.extend((value.len() as u32).to_le_bytes());
                    bytes.extend(value);
                }
                ITEM => {
                    put_tag(&mut bytes, ITEM);
                    bytes.extend(UNDEFINED);
                    open.push(ITEM);
                }
                tag if is_open || element.vr == VR::SQ => {
                    put_tag(&mut bytes, tag);
                    bytes.extend(if tag == PIXEL_DATA {
                        b"OB\0\0"
                    } else {
                        b"SQ\0\0"
                    });
                    bytes.extend(UNDEFINED);
                    open.push(tag);
                }
                tag => {
                    put_tag(&mut bytes, tag);
                    self.put_value(&mut bytes, element);
                }
            }
        }
        close(&mut bytes, &mut open, 0);
        bytes
    }

    fn put_value(&self, bytes: &mut Vec<u8>, element: &Element) {
        let value = self.value(element);
        let fits = value.len() <= usize::from(u16::MAX);
        match header::is_short(element.vr) && fits {
            true => {
                bytes.extend(element.vr.to_bytes());
                bytes.extend((value.len() as u16).to_le_bytes());
            }
            false => {
                let vr = if header::is_short(element.vr) {
                    VR::UN
                } else {
                    element.vr
                };
                bytes.extend(vr.to_bytes());
                bytes.extend([0, 0]);
                bytes.extend((value.len() as u32).to_le_bytes());
            }
        }
        // Pixels of 32 bits are one number each, though their representation is that of words.
        let is_long = element.tag == PIXEL_DATA && self.top().short(BITS_ALLOCATED) == Some(32);
        match element.encoding {
            Encoding::ExplicitBig if is_long => put_swapped(bytes, value, 4),
            Encoding::ExplicitBig => put_swapped(bytes, value, width(element.vr)),
            _ => bytes.extend(value),
        }
    }
}

/// Ends whatever is open at a depth or deeper.
fn close(bytes: &mut Vec<u8>, open: &mut Vec<Tag>, depth: u8) {
    while open.len() > usize::from(depth)
        && let Some(tag) = open.pop()
    {
        put_tag(
            bytes,
            if tag == ITEM {
                ITEM_DELIMITER
            } else {
                SEQUENCE_DELIMITER
            },
        );
        bytes.extend([0; 4]);
    }
}

fn put_tag(bytes: &mut Vec<u8>, Tag(group, element): Tag) {
    bytes.extend(group.to_le_bytes());
    bytes.extend(element.to_le_bytes());
}

/// Bytes of one number of a value representation.
fn width(vr: VR) -> usize {
    match vr {
        VR::AT | VR::OW | VR::SS | VR::US => 2,
        VR::FL | VR::OF | VR::OL | VR::SL | VR::UL => 4,
        VR::FD | VR::OD | VR::OV | VR::SV | VR::UV => 8,
        _ => 1,
    }
}

fn put_swapped(bytes: &mut Vec<u8>, value: &[u8], width: usize) {
    for number in value.chunks(width) {
        bytes.extend(number.iter().rev());
    }
}

//! The headers of elements (PS3.5 §7.1), read but not yet believed, and what becomes of them.

use dicom_core::{
    Tag, VR,
    dictionary::{DataDictionary, DataDictionaryEntry},
};
use dicom_dictionary_std::StandardDataDictionary;

use super::walk::WalkError;

/// Starts an item of a sequence, or a fragment of pixel data.
pub(super) const ITEM: Tag = Tag(0xFFFE, 0xE000);
pub(super) const ITEM_DELIMITER: Tag = Tag(0xFFFE, 0xE00D);
pub(super) const SEQUENCE_DELIMITER: Tag = Tag(0xFFFE, 0xE0DD);
pub(super) const PIXEL_DATA: Tag = Tag(0x7FE0, 0x0010);

/// A length that is given by a delimiter instead.
const UNDEFINED: u32 = u32::MAX;

/// How the elements of a data set are written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Encoding {
    ImplicitLittle,
    ExplicitLittle,
    ExplicitBig,
}

/// Where an element's value lies. Elements stand in the order of the file; a sequence is followed by its
/// items (`FFFE,E000`), an item by its elements, encapsulated pixel data by its fragments.
#[derive(Debug, Clone, Copy)]
pub(super) struct Element {
    pub(super) tag: Tag,
    pub(super) vr: VR,
    pub(super) encoding: Encoding,
    /// Sequences and items around it: 0 at the top, even for elements, odd for items and fragments.
    pub(super) depth: u8,
    pub(super) start: usize,
    pub(super) end: usize,
}

/// An element's header, read but not yet believed.
pub(super) struct Header {
    pub(super) tag: Tag,
    pub(super) vr: VR,
    length: u32,
    /// Where the value starts.
    pub(super) value: usize,
}

impl Header {
    /// Where the value ends, if that is within `bound`.
    pub(super) fn end(&self, offset: usize, bound: usize) -> Result<usize, WalkError> {
        let left = bound.saturating_sub(self.value);
        match usize::try_from(self.length) {
            Ok(length) if length <= left => Ok(self.value + length),
            _ => Err(WalkError::Overrun {
                tag: self.tag,
                offset,
                length: self.length,
                left,
            }),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.length == 0
    }

    pub(super) fn has_length(&self) -> bool {
        self.length != UNDEFINED
    }
}

fn array<const N: usize>(bytes: &[u8], at: usize, bound: usize) -> Result<[u8; N], WalkError> {
    let cut = WalkError::Cut { offset: bound };
    if at.checked_add(N).is_none_or(|end| end > bound) {
        return Err(cut);
    }
    bytes
        .get(at..at + N)
        .and_then(|part| part.try_into().ok())
        .ok_or(cut)
}

fn short(bytes: [u8; 2], encoding: Encoding) -> u16 {
    match encoding {
        Encoding::ExplicitBig => u16::from_be_bytes(bytes),
        _ => u16::from_le_bytes(bytes),
    }
}

fn long(bytes: [u8; 4], encoding: Encoding) -> u32 {
    match encoding {
        Encoding::ExplicitBig => u32::from_be_bytes(bytes),
        _ => u32::from_le_bytes(bytes),
    }
}

/// Whether a value representation's length takes two bytes (PS3.5 table 7.1-2).
pub(super) fn is_short(vr: VR) -> bool {
    use VR::*;
    matches!(
        vr,
        AE | AS
            | AT
            | CS
            | DA
            | DS
            | DT
            | FL
            | FD
            | IS
            | LO
            | LT
            | PN
            | SH
            | SL
            | SS
            | ST
            | TM
            | UI
            | UL
            | US
    )
}

/// The value representation that the standard gives a tag; `UN` for what it does not know.
fn known(tag: Tag) -> VR {
    // PS3.5 A.1: implicit pixel and overlay data are words.
    if tag == PIXEL_DATA || (tag.0 >> 8 == 0x60 && tag.1 == 0x3000) {
        return VR::OW;
    }
    StandardDataDictionary
        .by_tag(tag)
        .map_or(VR::UN, |entry| entry.vr().relaxed())
}

/// Reads the header that starts at a byte.
pub(super) fn read(
    bytes: &[u8],
    at: usize,
    bound: usize,
    encoding: Encoding,
) -> Result<Header, WalkError> {
    let group: [u8; 2] = array(bytes, at, bound)?;
    let element: [u8; 2] = array(bytes, at + 2, bound)?;
    let tag = Tag(short(group, encoding), short(element, encoding));
    if tag.0 == 0xFFFE || encoding == Encoding::ImplicitLittle {
        let length = long(array(bytes, at + 4, bound)?, encoding);
        return Ok(Header {
            tag,
            vr: known(tag),
            length,
            value: at + 8,
        });
    }
    let letters: [u8; 2] = array(bytes, at + 4, bound)?;
    if !letters.iter().all(u8::is_ascii_uppercase) {
        return Err(WalkError::NoRepresentation { tag, offset: at });
    }
    // Representations to come have long lengths, PS3.5 §6.2.2.
    let vr = VR::from_binary(letters).unwrap_or(VR::UN);
    let (length, value) = match is_short(vr) {
        true => {
            let length = short(array(bytes, at + 6, bound)?, encoding);
            (u32::from(length), at + 8)
        }
        false => (long(array(bytes, at + 8, bound)?, encoding), at + 12),
    };
    Ok(Header {
        tag,
        vr,
        length,
        value,
    })
}

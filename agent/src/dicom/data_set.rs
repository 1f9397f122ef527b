//! A data set whose every length has been checked, and typed access to its values.

use std::{borrow::Cow, fmt, io::Read as _};

use dicom_core::{Tag, VR};
use flate2::read::DeflateDecoder;

use super::{
    frame::FrameError,
    header::{self, Element, Encoding, ITEM},
    syntax::Syntax,
    text,
    walk::{self, Limits, WalkError},
};

const PREAMBLE: usize = 128;
const MAGIC: &[u8] = b"DICM";
/// Bytes of a text.
const MOST_TEXT: usize = 1 << 14;
const TRANSFER_SYNTAX: Tag = Tag(0x0002, 0x0010);
const CHARACTER_SET: Tag = Tag(0x0008, 0x0005);

/// Why bytes are no DICOM object that may be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// No byte at all.
    #[error("the object is empty")]
    Empty,
    /// Neither a DICOM file nor a bare data set.
    #[error("not a DICOM object")]
    NotDicom,
    /// Without file meta information, more than one encoding would fit.
    #[error("a data set without file meta information, and its encoding is ambiguous")]
    Ambiguous,
    /// File meta information that does not name a transfer syntax.
    #[error("the file names no transfer syntax")]
    NoSyntax,
    /// A transfer syntax that PS3.6 does not list.
    #[error("the file names an unknown transfer syntax")]
    UnknownSyntax,
    /// The deflated data set is damaged.
    #[error("the deflated data set is damaged")]
    Deflate,
    /// Lengths, nesting or order are wrong.
    #[error(transparent)]
    Walk(#[from] WalkError),
}

/// A checked data set: every element lies within the bytes, and nesting and sizes within the limits.
pub struct DataSet {
    bytes: Vec<u8>,
    elements: Vec<Element>,
    syntax: Syntax,
}

impl DataSet {
    /// Reads an object as it stands in a file: preamble, file meta information, data set.
    ///
    /// A file without a preamble is taken if it starts with file meta information. A bare data set is taken
    /// if it starts with group 0008 and **exactly one** of the three encodings reads it to its end; its pixels
    /// are then native ones, as nothing names a compression.
    ///
    /// # Errors
    /// What is wrong, by tag and byte.
    pub fn read(bytes: Vec<u8>, limits: &Limits) -> Result<Self, ReadError> {
        too_large(bytes.len(), limits)?;
        if bytes.is_empty() {
            return Err(ReadError::Empty);
        }
        if bytes.get(PREAMBLE..PREAMBLE + MAGIC.len()) == Some(MAGIC) {
            return Self::with_meta(bytes, PREAMBLE + MAGIC.len(), limits);
        }
        // (0002,0000) or (0002,0001), explicit.
        if matches!(
            bytes.get(..6),
            Some([2, 0, 0, 0, b'U', b'L'] | [2, 0, 1, 0, b'O', b'B'])
        ) {
            return Self::with_meta(bytes, 0, limits);
        }
        Self::bare(bytes, limits)
    }

    /// Reads a data set whose transfer syntax is known, as an association delivers it.
    ///
    /// # Errors
    /// What is wrong, by tag and byte.
    pub fn in_syntax(bytes: Vec<u8>, syntax: Syntax, limits: &Limits) -> Result<Self, ReadError> {
        too_large(bytes.len(), limits)?;
        Self::in_file(bytes, 0, syntax, limits)
    }

    fn with_meta(bytes: Vec<u8>, start: usize, limits: &Limits) -> Result<Self, ReadError> {
        let (mut at, mut uid) = (start, None);
        // File meta information ends where its group does: its own length field is not needed.
        while bytes.get(at..at + 2) == Some(&[2, 0]) {
            let header = header::read(&bytes, at, bytes.len(), Encoding::ExplicitLittle)?;
            let end = header.end(at, bytes.len())?;
            if header.tag == TRANSFER_SYNTAX {
                uid = bytes.get(header.value..end);
            }
            at = end;
        }
        let uid = uid.ok_or(ReadError::NoSyntax)?;
        let uid = std::str::from_utf8(uid).map_err(|_| ReadError::UnknownSyntax)?;
        let syntax = Syntax::from_uid(uid).ok_or(ReadError::UnknownSyntax)?;
        Self::in_file(bytes, at, syntax, limits)
    }

    fn bare(bytes: Vec<u8>, limits: &Limits) -> Result<Self, ReadError> {
        if !matches!(bytes.get(..2), Some([8, 0] | [0, 8])) {
            return Err(ReadError::NotDicom);
        }
        let readings = [
            Syntax::ImplicitLittle,
            Syntax::ExplicitLittle,
            Syntax::ExplicitBig,
        ];
        let mut found = None;
        for syntax in readings {
            if let Ok(elements) = walk::walk(&bytes, 0, syntax.encoding(), limits)
                && elements.first().is_some_and(|first| first.tag.0 == 8)
                && found.replace((syntax, elements)).is_some()
            {
                return Err(ReadError::Ambiguous);
            }
        }
        let (syntax, elements) = found.ok_or(ReadError::NotDicom)?;
        Ok(Self {
            bytes,
            elements,
            syntax,
        })
    }

    fn in_file(
        bytes: Vec<u8>,
        start: usize,
        syntax: Syntax,
        limits: &Limits,
    ) -> Result<Self, ReadError> {
        let (bytes, start) = match syntax {
            Syntax::Deflated => (inflated(bytes.get(start..).unwrap_or(&[]), limits)?, 0),
            _ => (bytes, start),
        };
        let elements = walk::walk(&bytes, start, syntax.encoding(), limits)?;
        if elements.is_empty() {
            return Err(ReadError::Empty);
        }
        Ok(Self {
            bytes,
            elements,
            syntax,
        })
    }

    /// The transfer syntax it came in.
    pub fn syntax(&self) -> Syntax {
        self.syntax
    }

    pub(super) fn elements(&self) -> &[Element] {
        &self.elements
    }

    /// The top level.
    pub(super) fn top(&self) -> Level<'_> {
        Level {
            set: self,
            elements: &self.elements,
            depth: 0,
        }
    }

    /// An element's bytes.
    pub(super) fn value(&self, element: &Element) -> &[u8] {
        self.bytes.get(element.start..element.end).unwrap_or(&[])
    }

    /// The values of Specific Character Set.
    pub(super) fn character_sets(&self) -> Vec<String> {
        let value = self.top().get(CHARACTER_SET);
        let bytes = value.and_then(|value| value.bytes.get(..value.bytes.len().min(MOST_TEXT)));
        let text = String::from_utf8_lossy(bytes.unwrap_or(&[]));
        let names = text
            .split('\\')
            .map(|name| name.trim_matches(['\0', ' ']).to_owned());
        names.collect()
    }
}

/// Written by hand: values are patient data.
impl fmt::Debug for DataSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "DataSet({}, {} elements)",
            self.syntax,
            self.elements.len()
        )
    }
}

fn too_large(bytes: usize, limits: &Limits) -> Result<(), WalkError> {
    let bytes = bytes as u64;
    match bytes > limits.object_bytes {
        true => Err(WalkError::TooLarge {
            bytes,
            limit: limits.object_bytes,
        }),
        false => Ok(()),
    }
}

fn inflated(bytes: &[u8], limits: &Limits) -> Result<Vec<u8>, ReadError> {
    let mut inflated = Vec::new();
    let mut reader = DeflateDecoder::new(bytes).take(limits.object_bytes.saturating_add(1));
    let read = reader.read_to_end(&mut inflated);
    read.map_err(|_| ReadError::Deflate)?;
    too_large(inflated.len(), limits)?;
    Ok(inflated)
}

/// One data set within the whole: the top, or an item of a sequence.
#[derive(Clone, Copy)]
pub(super) struct Level<'a> {
    set: &'a DataSet,
    elements: &'a [Element],
    depth: u8,
}

impl<'a> Level<'a> {
    /// An element of this level, with its value.
    pub(super) fn get(&self, tag: Tag) -> Option<Value<'a>> {
        let at = self.position(tag)?;
        let element = self.elements.get(at)?;
        Some(Value {
            element,
            bytes: self.set.value(element),
        })
    }

    fn position(&self, tag: Tag) -> Option<usize> {
        let is_it = |element: &Element| element.depth == self.depth && element.tag == tag;
        self.elements.iter().position(is_it)
    }

    /// The items of a sequence of this level; none where there is no sequence.
    pub(super) fn items(&self, tag: Tag) -> impl Iterator<Item = Level<'a>> + use<'a> {
        let (set, depth) = (self.set, self.depth);
        let inside = self
            .position(tag)
            .and_then(|at| self.elements.get(at + 1..));
        let inside = inside.unwrap_or(&[]);
        let end = inside.iter().position(|element| element.depth <= depth);
        let inside = inside.get(..end.unwrap_or(inside.len())).unwrap_or(&[]);
        let is_item = move |element: &Element| element.depth == depth + 1 && element.tag == ITEM;
        // Nothing stands before the first item.
        inside.split(is_item).skip(1).map(move |elements| Level {
            set,
            elements,
            depth: depth + 2,
        })
    }

    /// The first item of a sequence.
    pub(super) fn item(&self, tag: Tag) -> Option<Level<'a>> {
        self.items(tag).next()
    }

    /// The fragments of encapsulated pixel data, its offset table first; `None` for other elements.
    pub(super) fn fragments(&self, tag: Tag) -> Option<Vec<&'a [u8]>> {
        let inside = self.elements.get(self.position(tag)? + 1..)?;
        let fragments = inside
            .iter()
            .take_while(|element| element.depth > self.depth);
        let fragments: Vec<_> = fragments.map(|element| self.set.value(element)).collect();
        (!fragments.is_empty()).then_some(fragments)
    }

    /// A text value, decoded by the character set of the object, without padding; `None` when empty. Longer
    /// ones than any that the node needs are cut.
    pub(super) fn text(&self, tag: Tag) -> Option<String> {
        let value = self.get(tag)?;
        let bytes = value.bytes.get(..MOST_TEXT).unwrap_or(value.bytes);
        let is_coded = matches!(
            value.element.vr,
            VR::SH | VR::LO | VR::ST | VR::LT | VR::UC | VR::UT | VR::PN | VR::UN
        );
        let text: Cow<'_, str> = match is_coded {
            true => text::decode(bytes, &self.set.character_sets()).into(),
            false => String::from_utf8_lossy(bytes),
        };
        let text = text.trim_matches(['\0', ' ']);
        (!text.is_empty()).then(|| text.to_owned())
    }

    /// The first number written as text (`IS`, `DS`); `None` when empty.
    ///
    /// # Errors
    /// Text that is no number.
    pub(super) fn decimal(&self, tag: Tag) -> Result<Option<f64>, FrameError> {
        match (self.text(tag), self.decimals(tag).first()) {
            (None, _) => Ok(None),
            (Some(_), Some(number)) => Ok(Some(*number)),
            (Some(_), None) => Err(FrameError::NotAllowed(tag)),
        }
    }

    /// All numbers written as text, up to the first that is none.
    pub(super) fn decimals(&self, tag: Tag) -> Vec<f64> {
        let text = self.text(tag).unwrap_or_default();
        let numbers = text.split('\\').map(|part| part.trim().parse::<f64>());
        let finite = numbers.map_while(|number| number.ok().filter(|number| number.is_finite()));
        finite.collect()
    }

    /// An unsigned short (`US`).
    pub(super) fn short(&self, tag: Tag) -> Option<u16> {
        self.get(tag)?.shorts().next()
    }
}

/// An element's value.
#[derive(Clone, Copy)]
pub(super) struct Value<'a> {
    element: &'a Element,
    pub(super) bytes: &'a [u8],
}

impl<'a> Value<'a> {
    /// Its value representation.
    pub(super) fn vr(&self) -> VR {
        self.element.vr
    }

    pub(super) fn is_big_endian(&self) -> bool {
        self.element.encoding == Encoding::ExplicitBig
    }

    /// Its bytes as unsigned shorts.
    pub(super) fn shorts(&self) -> impl Iterator<Item = u16> + use<'a> {
        let big = self.is_big_endian();
        let pairs = self
            .bytes
            .chunks_exact(2)
            .filter_map(|pair| pair.try_into().ok());
        pairs.map(move |pair| match big {
            true => u16::from_be_bytes(pair),
            false => u16::from_le_bytes(pair),
        })
    }
}

//! A walk over the bytes of a data set before any value is taken from it.
//!
//! Every declared length is held against the bytes left, nesting and the number of elements against
//! limits, and nothing recurses or allocates by what a file claims. The result is an index: where each
//! element's value lies. Undefined lengths, items and fragments of encapsulated pixel data are followed
//! as PS3.5 §7 and Annex A.4 lay them out. Errors name a tag and a byte, never a value.

use dicom_core::{Tag, VR};
use serde::{Deserialize, Serialize};

use super::header::{
    self, Element, Encoding, Header, ITEM, ITEM_DELIMITER, PIXEL_DATA, SEQUENCE_DELIMITER,
};

/// What an object may claim before anything is read from it.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Limits {
    /// Most bytes of an object, as it arrives and after inflating.
    pub object_bytes: u64,
    /// Most elements, items and fragments, all levels together.
    pub elements: usize,
    /// Most sequences inside each other.
    pub depth: usize,
    /// Most bytes of all frames together, decoded.
    pub pixel_bytes: u64,
    /// Most pixels of one frame.
    pub frame_pixels: u64,
}

/// 1 GiB, a million elements (whose index takes 32 MB), 64 levels, 1 GiB of pixels, 64 Mi pixels a frame as
/// for a PNG: the largest mammograms and multi-frame objects pass.
impl Default for Limits {
    fn default() -> Self {
        Self {
            object_bytes: 1 << 30,
            elements: 1_000_000,
            depth: 64,
            pixel_bytes: 1 << 30,
            frame_pixels: 64 << 20,
        }
    }
}

/// Why bytes are no data set that may be read. Offsets count from the first byte of the object; in a
/// deflated one, from the first inflated byte.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WalkError {
    /// More bytes than allowed.
    #[error("the object has {bytes} bytes, more than the {limit} allowed")]
    TooLarge {
        /// Bytes found.
        bytes: u64,
        /// Bytes allowed.
        limit: u64,
    },
    /// A value longer than what holds it.
    #[error("{tag} at byte {offset} claims {length} bytes where {left} are left")]
    Overrun {
        /// The element.
        tag: Tag,
        /// Where its header starts.
        offset: usize,
        /// Bytes it claims.
        length: u32,
        /// Bytes that are left.
        left: usize,
    },
    /// The bytes end inside an element's header, or before a sequence's end.
    #[error("cut short at byte {offset}")]
    Cut {
        /// Where it ends.
        offset: usize,
    },
    /// Sequences inside sequences beyond the limit.
    #[error("{tag} at byte {offset} nests deeper than the {limit} levels allowed")]
    TooDeep {
        /// The sequence.
        tag: Tag,
        /// Where its header starts.
        offset: usize,
        /// Levels allowed.
        limit: usize,
    },
    /// Too many elements.
    #[error("more than the {limit} elements allowed")]
    TooMany {
        /// Elements allowed.
        limit: usize,
    },
    /// A tag that cannot stand where it does.
    #[error("{tag} at byte {offset} is out of place")]
    OutOfPlace {
        /// The tag.
        tag: Tag,
        /// Where it starts.
        offset: usize,
    },
    /// An element twice in one data set: readers would not agree on which one counts.
    #[error("{tag} at byte {offset} occurs twice or out of order")]
    OutOfOrder {
        /// The element.
        tag: Tag,
        /// Where the later one starts.
        offset: usize,
    },
    /// An element without letters for its value representation: damaged, or an implicit data set in a file
    /// that claims to be explicit.
    #[error("{tag} at byte {offset} has no value representation")]
    NoRepresentation {
        /// The element.
        tag: Tag,
        /// Where its header starts.
        offset: usize,
    },
    /// An undefined length where only a defined one is allowed.
    #[error("{tag} at byte {offset} has no length")]
    NoLength {
        /// The element.
        tag: Tag,
        /// Where its header starts.
        offset: usize,
    },
}

#[derive(Clone, Copy, PartialEq)]
enum Within {
    Sequence,
    Item,
    Fragments,
}

/// A sequence, item or run of fragments whose end is still to come.
struct Level {
    within: Within,
    /// Where it ends; without one, a delimiter ends it.
    end: Option<usize>,
    /// Where it must have ended.
    bound: usize,
    encoding: Encoding,
    /// Its place in the index.
    place: usize,
    /// The last tag in it.
    last: Option<Tag>,
}

/// Walks the data set from a byte to the end.
pub(super) fn walk(
    bytes: &[u8],
    from: usize,
    encoding: Encoding,
    limits: &Limits,
) -> Result<Vec<Element>, WalkError> {
    let mut walk = Walk {
        at: from,
        levels: Vec::new(),
        elements: Vec::new(),
        last: None,
        limits,
    };
    loop {
        walk.close_ended();
        let (within, bound, encoding) = match walk.levels.last() {
            Some(level) => (level.within, level.bound, level.encoding),
            None if walk.at == bytes.len() => return Ok(walk.elements),
            None => (Within::Item, bytes.len(), encoding),
        };
        let header = header::read(bytes, walk.at, bound, encoding)?;
        match within {
            Within::Item => walk.element(header, bound, encoding)?,
            Within::Sequence => walk.item(header, bound, encoding)?,
            Within::Fragments => walk.fragment(header, bound, encoding)?,
        }
    }
}

struct Walk<'a> {
    at: usize,
    levels: Vec<Level>,
    elements: Vec<Element>,
    /// The last tag at the top.
    last: Option<Tag>,
    limits: &'a Limits,
}

impl Walk<'_> {
    /// Closes what ends here by its length.
    fn close_ended(&mut self) {
        while self
            .levels
            .pop_if(|level| level.end == Some(self.at))
            .is_some()
        {}
    }

    /// Closes the innermost level at its delimiter.
    fn delimit(&mut self, header: &Header, within: Within) -> Result<(), WalkError> {
        let fits = |level: &mut Level| level.end.is_none() && level.within == within;
        let Some(level) = self.levels.pop_if(fits) else {
            return Err(self.out_of_place(header));
        };
        if !header.is_empty() {
            return Err(self.out_of_place(header));
        }
        if let Some(element) = self.elements.get_mut(level.place) {
            element.end = self.at;
        }
        self.at = header.value;
        Ok(())
    }

    fn element(
        &mut self,
        header: Header,
        bound: usize,
        encoding: Encoding,
    ) -> Result<(), WalkError> {
        if header.tag == ITEM_DELIMITER {
            return self.delimit(&header, Within::Item);
        }
        let is_odd = header.tag == PIXEL_DATA && header.vr == VR::SQ;
        if header.tag.0 == 0xFFFE || is_odd {
            return Err(self.out_of_place(&header));
        }
        let last = match self.levels.last_mut() {
            Some(level) => &mut level.last,
            None => &mut self.last,
        };
        if last.replace(header.tag) >= Some(header.tag) {
            return Err(WalkError::OutOfOrder {
                tag: header.tag,
                offset: self.at,
            });
        }
        let (within, inside) = match (header.has_length(), header.vr) {
            (_, VR::SQ) => (Within::Sequence, encoding),
            (true, _) => {
                let end = header.end(self.at, bound)?;
                self.record(&header, encoding, end)?;
                self.at = end;
                return Ok(());
            }
            (false, _) if header.tag == PIXEL_DATA => (Within::Fragments, encoding),
            // A sequence that its writer did not know; implicit inside, PS3.5 §6.2.2 note 2.
            (false, VR::UN) => (Within::Sequence, Encoding::ImplicitLittle),
            (false, _) => {
                return Err(WalkError::NoLength {
                    tag: header.tag,
                    offset: self.at,
                });
            }
        };
        self.open(&header, bound, within, inside)
    }

    fn item(&mut self, header: Header, bound: usize, encoding: Encoding) -> Result<(), WalkError> {
        match header.tag {
            SEQUENCE_DELIMITER => self.delimit(&header, Within::Sequence),
            ITEM => self.open(&header, bound, Within::Item, encoding),
            _ => Err(self.out_of_place(&header)),
        }
    }

    fn fragment(
        &mut self,
        header: Header,
        bound: usize,
        encoding: Encoding,
    ) -> Result<(), WalkError> {
        match header.tag {
            SEQUENCE_DELIMITER => self.delimit(&header, Within::Fragments),
            ITEM if header.has_length() => {
                let end = header.end(self.at, bound)?;
                self.record(&header, encoding, end)?;
                self.at = end;
                Ok(())
            }
            _ => Err(self.out_of_place(&header)),
        }
    }

    fn open(
        &mut self,
        header: &Header,
        bound: usize,
        within: Within,
        inside: Encoding,
    ) -> Result<(), WalkError> {
        let sequences = self.levels.len().div_ceil(2);
        if within != Within::Item && sequences >= self.limits.depth {
            return Err(WalkError::TooDeep {
                tag: header.tag,
                offset: self.at,
                limit: self.limits.depth,
            });
        }
        let end = match header.has_length() {
            true => Some(header.end(self.at, bound)?),
            false => None,
        };
        let place = self.elements.len();
        self.record(header, inside, end.unwrap_or(header.value))?;
        self.levels.push(Level {
            within,
            end,
            bound: end.unwrap_or(bound),
            encoding: inside,
            place,
            last: None,
        });
        self.at = header.value;
        Ok(())
    }

    fn record(&mut self, header: &Header, encoding: Encoding, end: usize) -> Result<(), WalkError> {
        if self.elements.len() >= self.limits.elements {
            return Err(WalkError::TooMany {
                limit: self.limits.elements,
            });
        }
        let depth = u8::try_from(self.levels.len()).map_err(|_| WalkError::TooDeep {
            tag: header.tag,
            offset: self.at,
            limit: self.limits.depth,
        })?;
        self.elements.push(Element {
            tag: header.tag,
            vr: header.vr,
            encoding,
            depth,
            start: header.value,
            end,
        });
        Ok(())
    }

    fn out_of_place(&self, header: &Header) -> WalkError {
        WalkError::OutOfPlace {
            tag: header.tag,
            offset: self.at,
        }
    }
}

//! Canonical bytes of messages: numbers big-endian and of fixed width, lists with a count in front,
//! nothing optional and nothing left over. So a value has one encoding, and what is signed is what
//! was sent. Readers take any bytes without panic and allocate no more than the bytes could hold.

use super::{MAX_SITES, SiteId};

/// Bytes that are not the message they were taken for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not well formed")]
pub struct Malformed;

/// Reads from the front.
pub(super) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (array, rest) = self.0.split_first_chunk().ok_or(Malformed)?;
        self.0 = rest;
        Ok(*array)
    }

    pub(super) fn slice(&mut self, length: usize) -> Result<&'a [u8], Malformed> {
        let (slice, rest) = self.0.split_at_checked(length).ok_or(Malformed)?;
        self.0 = rest;
        Ok(slice)
    }

    pub(super) fn u8(&mut self) -> Result<u8, Malformed> {
        self.array().map(u8::from_be_bytes)
    }

    pub(super) fn u16(&mut self) -> Result<u16, Malformed> {
        self.array().map(u16::from_be_bytes)
    }

    pub(super) fn u32(&mut self) -> Result<u32, Malformed> {
        self.array().map(u32::from_be_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64, Malformed> {
        self.array().map(u64::from_be_bytes)
    }

    pub(super) fn site(&mut self) -> Result<SiteId, Malformed> {
        self.u16().map(SiteId)
    }

    /// A list of at most one item for each site.
    pub(super) fn list<T>(
        &mut self,
        mut item: impl FnMut(&mut Self) -> Result<T, Malformed>,
    ) -> Result<Vec<T>, Malformed> {
        let count = usize::from(self.u16()?);
        if count > MAX_SITES {
            return Err(Malformed);
        }
        (0..count).map(|_| item(self)).collect()
    }

    /// Bytes with their length in front.
    pub(super) fn sized(&mut self) -> Result<&'a [u8], Malformed> {
        let length = usize::try_from(self.u32()?).map_err(|_| Malformed)?;
        self.slice(length)
    }

    /// Nothing may be left.
    pub(super) fn end(self) -> Result<(), Malformed> {
        if self.0.is_empty() {
            Ok(())
        } else {
            Err(Malformed)
        }
    }
}

/// Appends what [`Reader`] reads.
#[derive(Default)]
pub(super) struct Writer(Vec<u8>);

impl Writer {
    pub(super) fn raw(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.extend_from_slice(bytes);
        self
    }

    pub(super) fn u8(&mut self, value: u8) -> &mut Self {
        self.raw(&[value])
    }

    pub(super) fn u32(&mut self, value: u32) -> &mut Self {
        self.raw(&value.to_be_bytes())
    }

    pub(super) fn u64(&mut self, value: u64) -> &mut Self {
        self.raw(&value.to_be_bytes())
    }

    pub(super) fn site(&mut self, site: SiteId) -> &mut Self {
        self.raw(&site.0.to_be_bytes())
    }

    pub(super) fn list<T>(
        &mut self,
        items: &[T],
        mut item: impl FnMut(&mut Self, &T),
    ) -> &mut Self {
        // Lists hold an item for each site, of which there are at most 255.
        let count = u16::try_from(items.len()).expect("a list is no longer than a cohort");
        self.raw(&count.to_be_bytes());
        for each in items {
            item(self, each);
        }
        self
    }

    pub(super) fn sized(&mut self, bytes: &[u8]) -> &mut Self {
        // What is sized are messages of at most a hundred KiB.
        let length = u32::try_from(bytes.len()).expect("a message is below 4 GiB");
        self.u32(length).raw(bytes)
    }

    pub(super) fn finish(self) -> Vec<u8> {
        self.0
    }
}

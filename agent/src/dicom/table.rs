//! Look-up tables: of the modality, of the window, of a palette.

use dicom_core::{Tag, VR};

use super::{data_set::Level, frame::FrameError};

/// The highest value of as many bits.
pub(super) fn highest(bits: u16) -> f64 {
    2_f64.powi(i32::from(bits)) - 1.0
}

/// A look-up table (PS3.3 C.11.1.1).
pub(super) struct Table {
    /// The value of the first entry; lower ones take it too.
    first: f64,
    bits: u16,
    /// At least one.
    entries: Vec<u16>,
}

impl Table {
    pub(super) fn of(
        level: Level<'_>,
        descriptor: Tag,
        data: Tag,
        is_signed: bool,
    ) -> Result<Self, FrameError> {
        let numbers: Vec<u16> = level
            .get(descriptor)
            .ok_or(FrameError::Missing(descriptor))?
            .shorts()
            .collect();
        let &[count, first, bits] = numbers.as_slice() else {
            return Err(FrameError::NotAllowed(descriptor));
        };
        // 65,536 does not fit the field, and is written as 0.
        let count = match count {
            0 => 1 << 16,
            count => usize::from(count),
        };
        if !(8..=16).contains(&bits) {
            return Err(FrameError::NotAllowed(descriptor));
        }
        let value = level.get(data).ok_or(FrameError::Missing(data))?;
        // Entries of 8 bits may be packed in pairs.
        let is_packed = bits == 8 && value.bytes.len() < count * 2 && value.vr() != VR::US;
        let entries: Vec<u16> = match is_packed {
            true => value
                .shorts()
                .flat_map(u16::to_le_bytes)
                .map(u16::from)
                .take(count)
                .collect(),
            false => value.shorts().take(count).collect(),
        };
        if entries.len() != count {
            return Err(FrameError::NotAllowed(data));
        }
        Ok(Self {
            first: match is_signed {
                true => f64::from(first.cast_signed()),
                false => f64::from(first),
            },
            bits,
            entries,
        })
    }

    /// The entry of a value; those beyond an end take its entry.
    pub(super) fn entry(&self, value: f64) -> f64 {
        let at = (value - self.first).clamp(0.0, (self.entries.len() - 1) as f64);
        self.entries
            .get(at as usize)
            .copied()
            .map_or(0.0, f64::from)
    }

    /// The entry of a value, 0 to 1.
    pub(super) fn unit(&self, value: f64) -> f64 {
        self.entry(value) / highest(self.bits)
    }
}

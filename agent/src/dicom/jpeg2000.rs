//! JPEG 2000 within DICOM.
//!
//! The codestream's main header is read first: size, components and depth must be those the object
//! claims. The decoder behind it is a machine translation of OpenJPEG with unsafe code inside, one more
//! reason for a process of its own.

use jpeg2k::{DecodeParameters, Image};

use super::{
    frame::{self, Coded, FrameError},
    pixels::Layout,
};

const CODEC: &str = "JPEG 2000";

/// What a codestream's main header says (ISO/IEC 15444-1 annex A).
struct Head {
    rows: u32,
    columns: u32,
    components: u16,
    /// Bits of the first component.
    precision: u8,
    is_uniform: bool,
    tiles: u64,
    /// Whether three components are transformed, so that they decode to RGB.
    transforms: bool,
}

/// Tiles beyond which a codestream is taken for an attack: the largest pictures in use have hundreds.
const MOST_TILES: u64 = 1 << 14;

/// Decodes a frame.
pub(super) fn decode(data: &[u8], layout: &Layout) -> Result<Coded, FrameError> {
    let stream = codestream(data).ok_or(FrameError::Damaged(CODEC))?;
    let head = head(stream).ok_or(FrameError::Damaged(CODEC))?;
    let size = (head.rows as usize, head.columns as usize);
    if size != (layout.rows(), layout.columns())
        || usize::from(head.components) != layout.samples()
        || !head.is_uniform
    {
        return Err(FrameError::Contradiction(
            "the size of its JPEG 2000 stream",
        ));
    }
    if u16::from(head.precision) > layout.bits_allocated() {
        return Err(FrameError::Contradiction(
            "the depth of its JPEG 2000 stream",
        ));
    }
    if head.tiles > MOST_TILES {
        return Err(FrameError::Unsupported(
            "JPEG 2000 of more than 16384 tiles",
        ));
    }
    let image = frame::guarded(CODEC, || {
        Image::from_bytes_with(stream, DecodeParameters::new().strict(true)).ok()
    })?;
    let numbers = layout.rows() * layout.columns();
    let components = image.components();
    let fits = |component: &jpeg2k::ImageComponent| {
        (component.height(), component.width()) == (head.rows, head.columns)
    };
    if components.len() != layout.samples() || !components.iter().all(fits) {
        return Err(FrameError::Damaged(CODEC));
    }
    let mut values = vec![0; numbers * layout.samples()];
    for (at, component) in components.iter().enumerate() {
        let places = values.iter_mut().skip(at).step_by(layout.samples());
        for (place, &value) in places.zip(component.data()) {
            // Two's complement either way; whether the top bit is a sign is the object's word, not the
            // codestream's: scanners are known to write signed pixels into unsigned codestreams.
            *place = frame::extended(
                value.cast_unsigned(),
                u16::from(head.precision),
                layout.is_signed(),
            );
        }
    }
    Ok(Coded {
        values,
        is_rgb: head.transforms.then_some(true),
    })
}

/// The codestream itself. DICOM allows nothing around it, but some writers keep the boxes of a JP2 file
/// (ISO/IEC 15444-1 annex I); what those say about colours is left out, as the object says it.
fn codestream(data: &[u8]) -> Option<&[u8]> {
    let mut rest = data;
    if data.starts_with(&[0xFF, 0x4F]) {
        return Some(data);
    }
    loop {
        let (length, after) = rest.split_first_chunk()?;
        let (kind, content) = after.split_first_chunk::<4>()?;
        let length = u32::from_be_bytes(*length) as usize;
        if kind == b"jp2c" {
            // 0: up to the end.
            return if length == 0 {
                Some(content)
            } else {
                rest.get(8..length)
            };
        }
        if length < 8 {
            return None;
        }
        rest = rest.get(length..)?;
    }
}

/// Reads the main header up to the first tile.
fn head(stream: &[u8]) -> Option<Head> {
    let mut rest = stream.strip_prefix(&[0xFF, 0x4F])?;
    let (mut size, mut transforms) = (None, false);
    loop {
        let (&[0xFF, marker], after) = rest.split_first_chunk::<2>()? else {
            return None;
        };
        // The first tile part.
        if marker == 0x90 {
            break;
        }
        let length = usize::from(u16::from_be_bytes(*after.first_chunk()?));
        let segment = after.get(2..length)?;
        match marker {
            0x51 => size = Some(segment),
            0x52 => transforms = *segment.get(4)? == 1,
            _ => {}
        }
        rest = after.get(length..)?;
    }
    let size = size?;
    let long = |at: usize| Some(u32::from_be_bytes(*size.get(at..)?.first_chunk()?));
    let (columns, rows) = (
        long(2)?.checked_sub(long(10)?)?,
        long(6)?.checked_sub(long(14)?)?,
    );
    let (tile_columns, tile_rows) = (long(18)?, long(22)?);
    if tile_columns == 0 || tile_rows == 0 {
        return None;
    }
    let tiles =
        u64::from(long(2)?.div_ceil(tile_columns)) * u64::from(long(6)?.div_ceil(tile_rows));
    let components = u16::from_be_bytes(*size.get(34..)?.first_chunk()?);
    let each = size
        .get(36..)?
        .chunks_exact(3)
        .take(usize::from(components));
    let &[depth, _, _] = size.get(36..)?.first_chunk()?;
    Some(Head {
        rows,
        columns,
        components,
        precision: (depth & 0x7F) + 1,
        is_uniform: each.clone().count() == usize::from(components)
            && each.clone().all(|one| *one == [depth, 1, 1]),
        tiles,
        transforms: transforms && components == 3,
    })
}

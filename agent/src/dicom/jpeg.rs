//! JPEG within DICOM: baseline, extended of 8 bits, and lossless.
//!
//! The stream's own header is read first: its size, depth and process must be those the object claims
//! before a decoder sees it. Colours are taken as they are coded, and what they mean is decided here: the
//! decoder would guess, and turn RGB into nonsense.

use jpeg_decoder::{ColorTransform, Decoder};

use super::{
    frame::{self, Coded, FrameError},
    pixels::Layout,
    syntax::Syntax,
};

/// What a stream says about itself before its first scan.
struct Head {
    /// The number of its frame marker: 0 baseline, 1 extended, 2 progressive, 3 lossless.
    process: u8,
    precision: u8,
    rows: u16,
    columns: u16,
    components: Vec<u8>,
    /// The transform that an Adobe marker names.
    adobe: Option<u8>,
    is_jfif: bool,
}

const CODEC: &str = "JPEG";

/// Decodes a frame.
pub(super) fn decode(stream: &[u8], layout: &Layout, syntax: Syntax) -> Result<Coded, FrameError> {
    let head = head(stream).ok_or(FrameError::Damaged(CODEC))?;
    let allowed: &[u8] = match syntax {
        Syntax::JpegBaseline => &[0],
        Syntax::JpegExtended => &[0, 1],
        _ => &[3],
    };
    if !allowed.contains(&head.process) {
        return Err(FrameError::Contradiction("the process of its JPEG stream"));
    }
    if head.process < 2 && head.precision != 8 {
        return Err(FrameError::Unsupported("JPEG Extended of 12 bits"));
    }
    let size = (usize::from(head.rows), usize::from(head.columns));
    if size != (layout.rows(), layout.columns()) || head.components.len() != layout.samples() {
        return Err(FrameError::Contradiction("the size of its JPEG stream"));
    }
    if u16::from(head.precision) > layout.bits_allocated() {
        return Err(FrameError::Contradiction("the depth of its JPEG stream"));
    }
    if !has_end(stream) {
        return Err(FrameError::Damaged(CODEC));
    }
    let numbers = layout.rows() * layout.columns() * layout.samples();
    let bytes = frame::guarded(CODEC, || {
        let mut decoder = Decoder::new(stream);
        // Upsampled, but not converted. For grey there is nothing to convert.
        decoder.set_color_transform(match layout.samples() {
            1 => ColorTransform::Grayscale,
            _ => ColorTransform::RGB,
        });
        decoder.set_max_decoding_buffer_size(numbers * 2);
        decoder.decode().ok()
    })?;
    let values: Vec<u32> = match bytes.len() {
        length if length == numbers => bytes.into_iter().map(u32::from).collect(),
        length if length == numbers * 2 => bytes
            .chunks_exact(2)
            .filter_map(|pair| pair.try_into().ok())
            .map(|pair| u32::from(u16::from_ne_bytes(pair)))
            .collect(),
        _ => return Err(FrameError::Damaged(CODEC)),
    };
    Ok(Coded {
        values,
        is_rgb: is_rgb(&head),
    })
}

/// Whether three components are red, green and blue, or luminance and two differences; `None` when the
/// stream does not say. Lossless streams say nothing: the object's own word holds.
fn is_rgb(head: &Head) -> Option<bool> {
    match head.adobe {
        _ if head.process == 3 => None,
        Some(transform) => Some(transform == 0),
        None if head.is_jfif => Some(false),
        None if head.components == b"RGB" => Some(true),
        None => None,
    }
}

/// Reads markers up to the first scan; `None` where there is none.
fn head(stream: &[u8]) -> Option<Head> {
    let mut rest = stream.strip_prefix(&[0xFF, 0xD8])?;
    let (mut frame, mut adobe, mut is_jfif) = (None, None, false);
    loop {
        let (&[0xFF, marker], after) = rest.split_first_chunk::<2>()? else {
            return None;
        };
        if marker == 0xFF {
            rest = rest.get(1..)?;
            continue;
        }
        let length = usize::from(u16::from_be_bytes(*after.first_chunk()?));
        let segment = after.get(2..length)?;
        match marker {
            0xC0..=0xC3 => frame = Some((marker - 0xC0, segment)),
            0xEE if segment.starts_with(b"Adobe") => adobe = segment.get(11).copied(),
            0xE0 if segment.starts_with(b"JFIF\0") => is_jfif = true,
            0xDA => break,
            _ => {}
        }
        rest = after.get(length..)?;
    }
    let (process, segment) = frame?;
    let (&[precision, a, b, c, d, count], components) = segment.split_first_chunk()?;
    Some(Head {
        process,
        precision,
        rows: u16::from_be_bytes([a, b]),
        columns: u16::from_be_bytes([c, d]),
        components: components
            .chunks_exact(3)
            .take(usize::from(count))
            .filter_map(|component| component.first().copied())
            .collect(),
        adobe,
        is_jfif,
    })
}

/// Whether the last scan is followed by the mark of the end: what is missing would come out grey.
fn has_end(stream: &[u8]) -> bool {
    let scan = stream.windows(2).rposition(|pair| pair == [0xFF, 0xDA]);
    let after = scan.and_then(|at| stream.get(at..));
    after.is_some_and(|after| after.windows(2).any(|pair| pair == [0xFF, 0xD9]))
}

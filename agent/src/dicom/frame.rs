//! One frame's stored values: decoded, colours as RGB, nothing rescaled.

use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
};

use dicom_core::{Tag, VR};

use super::{
    data_set::Value,
    jpeg, jpeg2000,
    pixels::{Layout, Photometric, Pixels, Source},
    rle::{self, RleError},
    syntax::Syntax,
};

/// Why an object gives no picture.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// Reports, plans and the like.
    #[error("the object holds no pixels")]
    NoPixels,
    /// A transfer syntax that is not decoded.
    #[error("pixels in {0} are not decoded: have the sender convert them")]
    NotDecoded(&'static str),
    /// A kind of pixels that is not decoded.
    #[error("{0} is not supported")]
    Unsupported(&'static str),
    /// An attribute that pixels cannot be read without.
    #[error("{0} is missing")]
    Missing(Tag),
    /// An attribute whose value is out of its range, or does not fit the others.
    #[error("{0} has a value that is not allowed here")]
    NotAllowed(Tag),
    /// More pixels than allowed, in a frame or in all of them; nothing was decoded.
    #[error("{rows} x {columns} pixels in {frames} frames are more than allowed")]
    TooLarge {
        /// Rows claimed.
        rows: usize,
        /// Columns claimed.
        columns: usize,
        /// Frames claimed.
        frames: u32,
    },
    /// The object and its coded pixels disagree.
    #[error("the object and {0} contradict each other")]
    Contradiction(&'static str),
    /// Fewer bytes than the frames need.
    #[error("the pixels take {found} bytes where {wanted} are needed")]
    Cut {
        /// Bytes found.
        found: usize,
        /// Bytes needed.
        wanted: usize,
    },
    /// A frame that the object does not have.
    #[error("there is no frame {frame}, only {frames}")]
    NoFrame {
        /// The frame asked for, counted from 0.
        frame: usize,
        /// Frames of the object.
        frames: usize,
    },
    /// Damaged RLE data.
    #[error("the RLE data are damaged")]
    Rle(#[from] RleError),
    /// A damaged stream of a codec.
    #[error("the {0} data are damaged")]
    Damaged(&'static str),
}

/// The stored values of one frame. Those of a pixel stand side by side, rows from top to bottom.
#[derive(Clone, PartialEq)]
pub struct Frame {
    is_signed: bool,
    bits: u16,
    samples: usize,
    values: Vec<u32>,
}

impl Frame {
    /// 1 for grey and palette, 3 for RGB.
    pub fn samples(&self) -> usize {
        self.samples
    }

    /// The values.
    pub fn values(&self) -> impl ExactSizeIterator<Item = f64> {
        let is_signed = self.is_signed;
        self.values.iter().map(move |&value| match is_signed {
            true => f64::from(value.cast_signed()),
            false => f64::from(value),
        })
    }

    /// The values in little endian, 1 byte each for depths up to 8, else 2 or 4.
    pub fn to_bytes(&self) -> Vec<u8> {
        let width = usize::from(self.bits.div_ceil(8));
        let words = self.values.iter().map(|value| value.to_le_bytes());
        words
            .flat_map(|word| word.into_iter().take(width))
            .collect()
    }
}

/// Written by hand: pixels are patient data.
impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Frame({} values of {} bits)",
            self.values.len(),
            self.bits
        )
    }
}

/// What a codec gives: numbers side by side, and whether three of them are RGB where the stream says so.
pub(super) struct Coded {
    pub(super) values: Vec<u32>,
    pub(super) is_rgb: Option<bool>,
}

impl Pixels<'_> {
    /// Decodes a frame, counted from 0.
    ///
    /// # Errors
    /// No such frame, damaged data, or data that contradict the object.
    pub fn frame(&self, frame: usize) -> Result<Frame, FrameError> {
        let (layout, syntax) = (&self.layout, self.set.syntax());
        let frames = layout.frames();
        if frame >= frames {
            return Err(FrameError::NoFrame { frame, frames });
        }
        let is_colour = layout.samples() > 1;
        if is_colour && (layout.bits_allocated() == 1 || layout.is_signed()) {
            return Err(FrameError::Unsupported("colour of 1 bit or with a sign"));
        }
        let coded = match &self.source {
            Source::Native(value) => native(value, layout, frame)?,
            Source::Encapsulated(fragments) => {
                let parts = fragments
                    .get(frame)
                    .ok_or(FrameError::NoFrame { frame, frames })?;
                encapsulated(&parts.concat(), layout, syntax)?
            }
        };
        let Coded { mut values, is_rgb } = coded;
        // What the stream says about its colours goes before what the object says.
        let is_ybr = match (is_rgb, layout.photometric()) {
            (Some(is_rgb), _) => is_colour && !is_rgb,
            (None, Photometric::YbrFull | Photometric::YbrFull422) => true,
            (None, Photometric::YbrIct | Photometric::YbrRct) => {
                return Err(FrameError::Contradiction("the colours of its pixels"));
            }
            (None, _) => false,
        };
        if is_ybr {
            if layout.bits_stored() != 8 {
                return Err(FrameError::Unsupported("YBR colour of other than 8 bits"));
            }
            values.chunks_exact_mut(3).for_each(to_rgb);
        }
        Ok(Frame {
            is_signed: layout.is_signed(),
            bits: layout.bits_allocated(),
            samples: layout.samples(),
            values,
        })
    }
}

fn encapsulated(data: &[u8], layout: &Layout, syntax: Syntax) -> Result<Coded, FrameError> {
    match syntax {
        Syntax::Rle if layout.photometric() == Photometric::YbrFull422 => {
            Err(FrameError::Unsupported("RLE of YBR_FULL_422"))
        }
        Syntax::Rle if layout.bits_allocated() == 1 => Err(FrameError::Unsupported("RLE of 1 bit")),
        Syntax::Rle => {
            let bytes = usize::from(layout.bits_allocated() / 8);
            let values = rle::decode(data, layout.pixels(), layout.samples(), bytes)?;
            Ok(Coded {
                values: values
                    .into_iter()
                    .map(|value| stored(value, layout))
                    .collect(),
                is_rgb: None,
            })
        }
        Syntax::Jpeg2000 | Syntax::Jpeg2000Lossless => jpeg2000::decode(data, layout),
        _ => {
            let mut coded = jpeg::decode(data, layout, syntax)?;
            for value in &mut coded.values {
                *value = stored(*value, layout);
            }
            Ok(coded)
        }
    }
}

/// Reads a frame of native pixels.
fn native(value: &Value<'_>, layout: &Layout, frame: usize) -> Result<Coded, FrameError> {
    let is_halved = layout.photometric() == Photometric::YbrFull422;
    let numbers = match is_halved {
        true => layout.pixels() * 2,
        false => layout.numbers(),
    };
    let bits = numbers * usize::from(layout.bits_allocated());
    // Frames of single bits follow each other without a gap, PS3.5 §8.1.1.
    let wanted = bits.saturating_mul(layout.frames()).div_ceil(8);
    let found = value.bytes.len();
    let cut = FrameError::Cut { found, wanted };
    if found < wanted {
        return Err(cut);
    }
    let swaps_pairs = value.is_big_endian() && value.vr() == VR::OW;
    let byte = |at: usize| {
        let at = if swaps_pairs { at ^ 1 } else { at };
        value.bytes.get(at).map(|byte| u32::from(*byte))
    };
    let start = frame * numbers;
    let number = |at: usize| {
        let at = start + at;
        match layout.bits_allocated() {
            1 => byte(at / 8).map(|byte| (byte >> (at % 8)) & 1),
            8 => byte(at),
            16 => word(value, at).map(|word: [u8; 2]| match value.is_big_endian() {
                true => u16::from_be_bytes(word).into(),
                false => u16::from_le_bytes(word).into(),
            }),
            _ => word(value, at).map(|word| match value.is_big_endian() {
                true => u32::from_be_bytes(word),
                false => u32::from_le_bytes(word),
            }),
        }
        .map(|value| stored(value, layout))
    };
    let values: Vec<u32> = match (is_halved, layout.is_by_plane()) {
        // Two luminances, then the differences of both.
        (true, _) => (0..layout.numbers())
            .filter_map(|at| {
                let (pixel, sample) = (at / 3, at % 3);
                let place = match sample {
                    0 => pixel % 2,
                    sample => sample + 1,
                };
                number(pixel / 2 * 4 + place)
            })
            .collect(),
        (false, true) => (0..numbers)
            .filter_map(|at| {
                number(at % layout.samples() * layout.pixels() + at / layout.samples())
            })
            .collect(),
        (false, false) => (0..numbers).filter_map(number).collect(),
    };
    match values.len() == layout.numbers() {
        true => Ok(Coded {
            values,
            is_rgb: None,
        }),
        false => Err(cut),
    }
}

fn word<const N: usize>(value: &Value<'_>, at: usize) -> Option<[u8; N]> {
    value.bytes.get(at * N..)?.first_chunk().copied()
}

/// Takes the bits that count from a number; others may hold overlays of old, or nothing.
fn stored(value: u32, layout: &Layout) -> u32 {
    extended(
        value >> layout.low_bits(),
        layout.bits_stored(),
        layout.is_signed(),
    )
}

/// The lowest `bits` of a value, the top one of them taken as a sign or not.
pub(super) fn extended(value: u32, bits: u16, is_signed: bool) -> u32 {
    let unused = 32_u32.saturating_sub(u32::from(bits)).min(31);
    let high = value << unused;
    match is_signed {
        true => (high.cast_signed() >> unused).cast_unsigned(),
        false => high >> unused,
    }
}

/// From luminance and differences to RGB, both full range (PS3.3 C.7.6.3.1.2, ITU-T T.871).
fn to_rgb(pixel: &mut [u32]) {
    let [y, b, r] = pixel else { return };
    let (luminance, blue, red) = (*y as f32, *b as f32 - 128.0, *r as f32 - 128.0);
    let level = |value: f32| (value + 0.5).floor().clamp(0.0, 255.0) as u32;
    *y = level(luminance + 1.402 * red);
    *b = level(luminance - 0.114 * 1.772 / 0.587 * blue - 0.299 * 1.402 / 0.587 * red);
    *r = level(luminance + 1.772 * blue);
}

/// Runs a decoder of others: where it panics, the data are damaged.
pub(super) fn guarded<T>(
    codec: &'static str,
    decode: impl FnOnce() -> Option<T>,
) -> Result<T, FrameError> {
    // Nothing that a panic could leave half changed lives on.
    let result = catch_unwind(AssertUnwindSafe(decode));
    result.ok().flatten().ok_or(FrameError::Damaged(codec))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_top_bit_is_a_sign_only_where_the_object_says_so() {
        assert_eq!(extended(0x1FFF, 13, true).cast_signed(), -1);
        assert_eq!(extended(0x1FFF, 13, false), 8191);
        assert_eq!(
            extended((-5_i32).cast_unsigned(), 16, true).cast_signed(),
            -5
        );
        assert_eq!(extended((-5_i32).cast_unsigned(), 16, false), 65_531);
        assert_eq!(extended(7, 32, false), 7);
    }

    #[test]
    fn luminance_and_differences_become_the_primaries() {
        let mut pixels = [[76, 85, 255], [150, 44, 21], [29, 255, 107], [90, 128, 128]];
        pixels.iter_mut().for_each(|pixel| to_rgb(pixel));
        assert_eq!(
            pixels,
            [[254, 0, 0], [0, 255, 1], [0, 0, 254], [90, 90, 90]]
        );
    }
}

//! What an object says about its pixels, checked against limits before any of them is decoded.

use dicom_core::{Tag, VR};

use super::{
    data_set::{DataSet, Value},
    frame::FrameError,
    header::PIXEL_DATA,
    syntax::Syntax,
    tags::FRAMES,
    walk::Limits,
};

const SAMPLES: Tag = Tag(0x0028, 0x0002);
const PHOTOMETRIC: Tag = Tag(0x0028, 0x0004);
const PLANAR: Tag = Tag(0x0028, 0x0006);
const ROWS: Tag = Tag(0x0028, 0x0010);
const COLUMNS: Tag = Tag(0x0028, 0x0011);
pub(super) const BITS_ALLOCATED: Tag = Tag(0x0028, 0x0100);
const BITS_STORED: Tag = Tag(0x0028, 0x0101);
const HIGH_BIT: Tag = Tag(0x0028, 0x0102);
const REPRESENTATION: Tag = Tag(0x0028, 0x0103);
const FLOAT_PIXELS: [Tag; 2] = [Tag(0x7FE0, 0x0008), Tag(0x7FE0, 0x0009)];
const LONG_OFFSETS: Tag = Tag(0x7FE0, 0x0001);

/// What a pixel's numbers mean (PS3.3 C.7.6.3.1.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Photometric {
    /// Grey, the lowest value white.
    Monochrome1,
    /// Grey, the lowest value black.
    Monochrome2,
    /// Places in a table of colours.
    Palette,
    /// Red, green, blue.
    Rgb,
    /// Luminance and two colour differences.
    YbrFull,
    /// As `YbrFull`, differences for every other column only.
    YbrFull422,
    /// The lossy transform of JPEG 2000.
    YbrIct,
    /// The lossless transform of JPEG 2000.
    YbrRct,
}

impl Photometric {
    fn from_code(code: &str) -> Option<Self> {
        Some(match code {
            "MONOCHROME1" => Self::Monochrome1,
            "MONOCHROME2" => Self::Monochrome2,
            "PALETTE COLOR" => Self::Palette,
            "RGB" => Self::Rgb,
            "YBR_FULL" => Self::YbrFull,
            "YBR_FULL_422" => Self::YbrFull422,
            "YBR_ICT" => Self::YbrIct,
            "YBR_RCT" => Self::YbrRct,
            _ => return None,
        })
    }

    fn samples(self) -> usize {
        match self {
            Self::Monochrome1 | Self::Monochrome2 | Self::Palette => 1,
            _ => 3,
        }
    }
}

/// Size, depth and meaning of an object's pixels; consistent, and within the limits.
#[derive(Debug, Clone, Copy)]
pub struct Layout {
    rows: usize,
    columns: usize,
    photometric: Photometric,
    bits_allocated: u16,
    bits_stored: u16,
    high_bit: u16,
    is_signed: bool,
    by_plane: bool,
    frames: usize,
}

impl Layout {
    /// Reads it from an object.
    fn of(set: &DataSet, limits: &Limits) -> Result<Self, FrameError> {
        let top = set.top();
        let need = |tag| top.short(tag).ok_or(FrameError::Missing(tag));
        let refuse = |tag| Err(FrameError::NotAllowed(tag));
        let code = top
            .text(PHOTOMETRIC)
            .ok_or(FrameError::Missing(PHOTOMETRIC))?;
        let Some(photometric) = Photometric::from_code(&code) else {
            return Err(FrameError::Unsupported("this photometric interpretation"));
        };
        let frames = match top.text(FRAMES) {
            None => 1,
            Some(text) => match text.parse::<u32>() {
                Ok(frames) if frames > 0 => frames,
                _ => return refuse(FRAMES),
            },
        };
        let bits_allocated = need(BITS_ALLOCATED)?;
        let bits_stored = need(BITS_STORED)?;
        let layout = Self {
            rows: usize::from(need(ROWS)?),
            columns: usize::from(need(COLUMNS)?),
            photometric,
            bits_allocated,
            bits_stored,
            high_bit: top.short(HIGH_BIT).unwrap_or(bits_stored.saturating_sub(1)),
            is_signed: need(REPRESENTATION)? == 1,
            by_plane: top.short(PLANAR) == Some(1),
            frames: usize::try_from(frames).map_err(|_| FrameError::NotAllowed(FRAMES))?,
        };
        if layout.rows == 0 {
            return refuse(ROWS);
        }
        if layout.columns == 0 {
            return refuse(COLUMNS);
        }
        if usize::from(need(SAMPLES)?) != layout.samples() {
            return refuse(SAMPLES);
        }
        if ![1, 8, 16, 32].contains(&bits_allocated) {
            return refuse(BITS_ALLOCATED);
        }
        if bits_stored == 0 || bits_stored > bits_allocated {
            return refuse(BITS_STORED);
        }
        if layout.high_bit >= bits_allocated || layout.high_bit + 1 < bits_stored {
            return refuse(HIGH_BIT);
        }
        if photometric == Photometric::YbrFull422 && layout.columns % 2 == 1 {
            return refuse(COLUMNS);
        }
        let bytes = layout.numbers() as u128 * u128::from(bits_allocated.div_ceil(8));
        let bytes = bytes * u128::from(frames);
        let is_too_large = layout.pixels() as u128 > u128::from(limits.frame_pixels)
            || bytes > u128::from(limits.pixel_bytes);
        match is_too_large {
            true => Err(FrameError::TooLarge {
                rows: layout.rows,
                columns: layout.columns,
                frames,
            }),
            false => Ok(layout),
        }
    }

    /// Rows of pixels.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Columns of pixels.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// Frames.
    pub fn frames(&self) -> usize {
        self.frames
    }

    /// What the numbers mean.
    pub fn photometric(&self) -> Photometric {
        self.photometric
    }

    /// 1 or 3.
    pub fn samples(&self) -> usize {
        self.photometric.samples()
    }

    /// Bits that a number takes: 1, 8, 16 or 32.
    pub fn bits_allocated(&self) -> u16 {
        self.bits_allocated
    }

    /// Bits of a number that count.
    pub fn bits_stored(&self) -> u16 {
        self.bits_stored
    }

    /// Whether numbers may be below 0.
    pub fn is_signed(&self) -> bool {
        self.is_signed
    }

    /// Whether samples stand plane by plane instead of side by side.
    pub(super) fn is_by_plane(&self) -> bool {
        self.by_plane && self.samples() > 1
    }

    /// Unused bits below a number's own.
    pub(super) fn low_bits(&self) -> u16 {
        self.high_bit + 1 - self.bits_stored
    }

    /// Pixels of a frame.
    pub(super) fn pixels(&self) -> usize {
        self.rows * self.columns
    }

    /// Numbers of a frame.
    pub(super) fn numbers(&self) -> usize {
        self.pixels() * self.samples()
    }
}

/// An object's pixels, ready to be decoded frame by frame.
#[derive(Clone)]
pub struct Pixels<'a> {
    pub(super) set: &'a DataSet,
    pub(super) layout: Layout,
    pub(super) source: Source<'a>,
}

/// Where coded pixels lie.
#[derive(Clone)]
pub(super) enum Source<'a> {
    /// As they are, frame after frame.
    Native(Value<'a>),
    /// Fragments, those of each frame.
    Encapsulated(Vec<Vec<&'a [u8]>>),
}

impl<'a> Pixels<'a> {
    /// Finds the pixels of an object; decodes none.
    ///
    /// # Errors
    /// An object without pixels, one whose transfer syntax or kind of pixels is not decoded (by name), one that
    /// claims more pixels than allowed or more than it holds.
    pub fn of(set: &'a DataSet, limits: &Limits) -> Result<Self, FrameError> {
        let top = set.top();
        let Some(value) = top.get(PIXEL_DATA) else {
            return Err(
                match FLOAT_PIXELS.iter().any(|tag| top.get(*tag).is_some()) {
                    true => FrameError::Unsupported("floating point pixels"),
                    false => FrameError::NoPixels,
                },
            );
        };
        let layout = Layout::of(set, limits)?;
        if let Syntax::NotDecoded(name) = set.syntax() {
            return Err(FrameError::NotDecoded(name));
        }
        let source = match (top.fragments(PIXEL_DATA), set.syntax().is_native()) {
            (None, true) => Source::Native(value),
            (Some(fragments), false) => Source::Encapsulated(by_frame(set, &fragments, &layout)?),
            _ => return Err(FrameError::Contradiction("how its pixels are laid out")),
        };
        Ok(Self {
            set,
            layout,
            source,
        })
    }

    /// Their size, depth and meaning.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }
}

/// Deals fragments, their offset table first, out to frames (PS3.5 annex A.4).
fn by_frame<'a>(
    set: &DataSet,
    fragments: &[&'a [u8]],
    layout: &Layout,
) -> Result<Vec<Vec<&'a [u8]>>, FrameError> {
    let refused = FrameError::Contradiction("how its fragments make frames");
    let (table, fragments) = fragments.split_first().ok_or(FrameError::NoPixels)?;
    if fragments.is_empty() {
        return Err(FrameError::NoPixels);
    }
    if layout.frames() == 1 {
        return Ok(vec![fragments.to_vec()]);
    }
    if fragments.len() == layout.frames() {
        return Ok(fragments.iter().map(|fragment| vec![*fragment]).collect());
    }
    let long = set
        .top()
        .get(LONG_OFFSETS)
        .filter(|value| value.vr() == VR::OV);
    let offsets: Vec<u64> = match long {
        Some(long) => words(long.bytes).map(u64::from_le_bytes).collect(),
        None => words(table)
            .map(|word| u32::from_le_bytes(word).into())
            .collect(),
    };
    if offsets.len() != layout.frames() {
        return Err(refused);
    }
    let mut frames: Vec<Vec<&[u8]>> = Vec::with_capacity(offsets.len());
    let (mut at, mut offsets) = (0_u64, offsets.into_iter().peekable());
    for fragment in fragments {
        if offsets.peek() == Some(&at) {
            offsets.next();
            frames.push(Vec::new());
        }
        match frames.last_mut() {
            Some(frame) => frame.push(*fragment),
            None => return Err(refused),
        }
        // An item's header takes 8 bytes.
        at += fragment.len() as u64 + 8;
    }
    match frames.len() == layout.frames() {
        true => Ok(frames),
        false => Err(refused),
    }
}

fn words<const N: usize>(bytes: &[u8]) -> impl Iterator<Item = [u8; N]> {
    bytes
        .chunks_exact(N)
        .filter_map(|word| word.try_into().ok())
}

//! From stored values to the picture that a network takes.
//!
//! Stored value, modality rescale or table, window or table of the VOI, inversion for `MONOCHROME1`, 0 to
//! 1, and last the turn into the usual view (PS3.3 C.11.1, C.11.2; PS3.4 N.2). What an object leaves open is
//! settled the same way everywhere: see [`Contrast`].

use consilium_models::imaging::Picture;
use dicom_core::Tag;
use serde::{Deserialize, Serialize};

use super::{
    data_set::Level,
    frame::{Frame, FrameError},
    orientation::{Orientation, OrientationError},
    pixels::{Layout, Photometric, Pixels},
    table::{Table, highest},
    tags::{MODALITY, groups, orientation},
    turn::Turn,
    window::{Ramp, Window},
};

const MODALITY_TABLES: Tag = Tag(0x0028, 0x3000);
const VOI_TABLES: Tag = Tag(0x0028, 0x3010);
const TABLE_DESCRIPTOR: Tag = Tag(0x0028, 0x3002);
const TABLE: Tag = Tag(0x0028, 0x3006);
const INTERCEPT: Tag = Tag(0x0028, 0x1052);
const SLOPE: Tag = Tag(0x0028, 0x1053);
const VALUE_TRANSFORMATION: Tag = Tag(0x0028, 0x9145);
const FRAME_VOI: Tag = Tag(0x0028, 0x9132);
const PADDING: Tag = Tag(0x0028, 0x0120);
const PALETTE_DESCRIPTORS: [Tag; 3] = [
    Tag(0x0028, 0x1101),
    Tag(0x0028, 0x1102),
    Tag(0x0028, 0x1103),
];
const PALETTES: [Tag; 3] = [
    Tag(0x0028, 0x1201),
    Tag(0x0028, 0x1202),
    Tag(0x0028, 0x1203),
];

/// How grey values became 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub enum Contrast {
    /// By the window that the caller gave.
    Given(Window),
    /// By the object's first window.
    Own(Window),
    /// By the object's own table.
    Table,
    /// Neither: 8 bits or fewer without a rescale take their whole range, as a PNG does.
    WholeRange,
    /// Neither: other values take the range from the frame's lowest to its highest, padding aside.
    FrameRange,
    /// Colours have no window.
    Colour,
}

/// Why a frame cannot be shown.
#[derive(Debug, thiserror::Error)]
pub enum RenderError {
    /// Its values cannot be had.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// Nothing says for sure how the patient lies in it.
    #[error(transparent)]
    Orientation(#[from] OrientationError),
}

/// A picture on the road that a PNG takes, and how it came about.
#[derive(Debug, Clone, PartialEq)]
pub struct Rendered {
    /// The picture in the usual view.
    pub picture: Picture,
    /// How the patient lies in the stored frame; nothing is known where it has no directions.
    pub orientation: Orientation,
    /// How it was turned.
    pub turn: Turn,
    /// How grey values became 0 to 1.
    pub contrast: Contrast,
}

impl Pixels<'_> {
    /// Decodes a frame, counted from 0, and renders it; `window` overrides the object's own.
    ///
    /// # Errors
    /// A frame that cannot be decoded; tables and windows that make no sense; orientation tags that
    /// contradict each other.
    pub fn render(&self, frame: usize, window: Option<Window>) -> Result<Rendered, RenderError> {
        let top = self.set.top();
        let orientation = orientation(self.set, frame)?;
        let stored = self.frame(frame)?;
        let groups = groups(top, frame);
        let (channels, pixels, contrast) = match self.layout.photometric() {
            Photometric::Monochrome1 | Photometric::Monochrome2 => {
                let (pixels, contrast) = grey(top, groups, &self.layout, &stored, window)?;
                (1, pixels, contrast)
            }
            Photometric::Palette => (3, palette(top, &self.layout, &stored)?, Contrast::Colour),
            _ => (3, colour(&self.layout, &stored), Contrast::Colour),
        };
        let turn = match top.text(MODALITY).as_deref() {
            Some("MG") => Turn::default(),
            _ => orientation.turn(),
        };
        let (mut width, mut height) = (self.layout.columns(), self.layout.rows());
        let planes = pixels.chunks_exact(width * height);
        let pixels = planes
            .flat_map(|plane| turn.apply(plane, width, height))
            .collect();
        if turn.transpose {
            (width, height) = (height, width);
        }
        let picture = Picture::new(width, height, channels, pixels);
        Ok(Rendered {
            // Sizes are the layout's and values are clamped: this only fails for values that are no number.
            picture: picture.map_err(|_| FrameError::NotAllowed(SLOPE))?,
            orientation,
            turn,
            contrast,
        })
    }
}

fn colour(layout: &Layout, stored: &Frame) -> Vec<f32> {
    let highest = highest(layout.bits_stored());
    let values: Vec<f32> = stored.values().map(|value| unit(value / highest)).collect();
    let channel = |at: usize| values.iter().skip(at).step_by(3).copied();
    (0..3).flat_map(channel).collect()
}

fn palette(top: Level<'_>, layout: &Layout, stored: &Frame) -> Result<Vec<f32>, FrameError> {
    let mut pixels = Vec::with_capacity(layout.pixels() * 3);
    for (descriptor, data) in PALETTE_DESCRIPTORS.into_iter().zip(PALETTES) {
        if top.get(data).is_none() {
            return Err(FrameError::Unsupported("a palette of segments"));
        }
        let table = Table::of(top, descriptor, data, layout.is_signed())?;
        pixels.extend(stored.values().map(|value| unit(table.unit(value))));
    }
    Ok(pixels)
}

fn grey(
    top: Level<'_>,
    groups: [Option<Level<'_>>; 2],
    layout: &Layout,
    stored: &Frame,
    window: Option<Window>,
) -> Result<(Vec<f32>, Contrast), FrameError> {
    let group = |sequence| {
        let mut levels = groups.into_iter().flatten();
        levels.find_map(|level| level.item(sequence))
    };
    let rescale = Rescale::of(top, group(VALUE_TRANSFORMATION).unwrap_or(top), layout)?;
    let voi = group(FRAME_VOI).unwrap_or(top);
    let (scale, contrast) = Scale::choose(top, voi, layout, &rescale, stored, window)?;
    let is_inverted = layout.photometric() == Photometric::Monochrome1;
    let pixels = stored.values().map(|value| {
        let grey = unit(scale.grey(rescale.apply(value)));
        if is_inverted { 1.0 - grey } else { grey }
    });
    Ok((pixels.collect(), contrast))
}

/// From values of the modality to greys: below 0 black, above 1 white.
enum Scale {
    Table(Table),
    Ramp(Ramp),
    Range { low: f64, high: f64 },
}

impl Scale {
    fn choose(
        top: Level<'_>,
        voi: Level<'_>,
        layout: &Layout,
        rescale: &Rescale,
        stored: &Frame,
        window: Option<Window>,
    ) -> Result<(Self, Contrast), FrameError> {
        if let Some(window) = window {
            return Ok((Self::Ramp(Ramp::linear(window)?), Contrast::Given(window)));
        }
        if let Some(item) = voi.item(VOI_TABLES) {
            let is_signed = layout.is_signed() || rescale.reaches_below_0(layout);
            let table = Table::of(item, TABLE_DESCRIPTOR, TABLE, is_signed)?;
            return Ok((Self::Table(table), Contrast::Table));
        }
        if let Some(ramp) = Ramp::own(voi)? {
            return Ok((Self::Ramp(ramp), Contrast::Own(ramp.window())));
        }
        let is_byte = layout.bits_stored() <= 8 && !layout.is_signed();
        if is_byte && rescale.is_none() {
            let (low, high) = (0.0, highest(layout.bits_stored()));
            return Ok((Self::Range { low, high }, Contrast::WholeRange));
        }
        let padding = padding(top, layout);
        let counts = stored.values().filter(|value| Some(*value) != padding);
        let (low, high) = counts
            .map(|value| rescale.apply(value))
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| {
                (low.min(value), high.max(value))
            });
        Ok((Self::Range { low, high }, Contrast::FrameRange))
    }

    fn grey(&self, value: f64) -> f64 {
        match self {
            Self::Table(table) => table.unit(value),
            Self::Ramp(ramp) => ramp.grey(value),
            // One value alone has no range.
            Self::Range { low, high } if low < high => (value - low) / (high - low),
            Self::Range { .. } => 0.0,
        }
    }
}

fn unit(value: f64) -> f32 {
    value.clamp(0.0, 1.0) as f32
}

/// The value of pixels that are none, where the object names one.
fn padding(top: Level<'_>, layout: &Layout) -> Option<f64> {
    let value = top.short(PADDING)?;
    Some(match layout.is_signed() {
        true => f64::from(value.cast_signed()),
        false => f64::from(value),
    })
}

/// From stored values to those of the modality.
enum Rescale {
    None,
    Line { slope: f64, intercept: f64 },
    Table(Table),
}

impl Rescale {
    fn of(top: Level<'_>, level: Level<'_>, layout: &Layout) -> Result<Self, FrameError> {
        if let Some(item) = top.item(MODALITY_TABLES) {
            let table = Table::of(item, TABLE_DESCRIPTOR, TABLE, layout.is_signed())?;
            return Ok(Self::Table(table));
        }
        let slope = level.decimal(SLOPE)?.unwrap_or(1.0);
        let intercept = level.decimal(INTERCEPT)?.unwrap_or(0.0);
        match () {
            () if slope == 0.0 => Err(FrameError::NotAllowed(SLOPE)),
            () if slope == 1.0 && intercept == 0.0 => Ok(Self::None),
            () => Ok(Self::Line { slope, intercept }),
        }
    }

    fn is_none(&self) -> bool {
        matches!(self, Self::None)
    }

    /// Whether some value of an unsigned layout would come out below 0.
    fn reaches_below_0(&self, layout: &Layout) -> bool {
        match self {
            Self::None | Self::Table(_) => false,
            Self::Line { slope, intercept } => {
                intercept.min(slope * highest(layout.bits_stored()) + intercept) < 0.0
            }
        }
    }

    fn apply(&self, value: f64) -> f64 {
        match self {
            Self::None => value,
            Self::Line { slope, intercept } => value * slope + intercept,
            Self::Table(table) => table.entry(value),
        }
    }
}

//! Windows onto grey values (PS3.3 C.11.2.1.2).

use dicom_core::Tag;
use serde::{Deserialize, Serialize};

use super::{data_set::Level, frame::FrameError};

const CENTRE: Tag = Tag(0x0028, 0x1050);
const WIDTH: Tag = Tag(0x0028, 0x1051);
const FUNCTION: Tag = Tag(0x0028, 0x1056);

/// A window onto values after the modality's rescale: Hounsfield units in a CT.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Window {
    /// The value that becomes the middle grey.
    pub centre: f64,
    /// From black to white.
    pub width: f64,
}

/// How a window becomes greys (PS3.3 C.11.2.1.2 and C.11.2.1.3).
#[derive(Clone, Copy)]
enum Function {
    Linear,
    LinearExact,
    Sigmoid,
}

/// A window that makes sense, and its function.
#[derive(Clone, Copy)]
pub(super) struct Ramp {
    window: Window,
    function: Function,
}

impl Ramp {
    /// The first window of an object, by the function that the object names.
    pub(super) fn own(voi: Level<'_>) -> Result<Option<Self>, FrameError> {
        let window = match (voi.decimal(CENTRE)?, voi.decimal(WIDTH)?) {
            (None, None) => return Ok(None),
            (Some(centre), Some(width)) => Window { centre, width },
            (None, Some(_)) => return Err(FrameError::Missing(CENTRE)),
            (Some(_), None) => return Err(FrameError::Missing(WIDTH)),
        };
        let function = match voi.text(FUNCTION).as_deref() {
            None | Some("LINEAR") => Function::Linear,
            Some("LINEAR_EXACT") => Function::LinearExact,
            Some("SIGMOID") => Function::Sigmoid,
            Some(_) => return Err(FrameError::NotAllowed(FUNCTION)),
        };
        Self::new(window, function).map(Some)
    }

    /// A window from elsewhere.
    pub(super) fn linear(window: Window) -> Result<Self, FrameError> {
        Self::new(window, Function::Linear)
    }

    fn new(window: Window, function: Function) -> Result<Self, FrameError> {
        let narrowest = match function {
            Function::Linear => 1.0,
            Function::LinearExact | Function::Sigmoid => f64::MIN_POSITIVE,
        };
        let is_finite = window.centre.is_finite() && window.width.is_finite();
        match is_finite && window.width >= narrowest {
            true => Ok(Self { window, function }),
            false => Err(FrameError::NotAllowed(WIDTH)),
        }
    }

    pub(super) fn window(&self) -> Window {
        self.window
    }

    /// The grey of a value; below 0 black, above 1 white.
    pub(super) fn grey(&self, value: f64) -> f64 {
        let Window { centre, width } = self.window;
        match self.function {
            Function::Linear if width == 1.0 => f64::from(u8::from(value > centre - 0.5)),
            Function::Linear => (value - (centre - 0.5)) / (width - 1.0) + 0.5,
            Function::LinearExact => (value - centre) / width + 0.5,
            Function::Sigmoid => 1.0 / (1.0 + (-4.0 * (value - centre) / width).exp()),
        }
    }
}

//! DICOM objects, read as what they are: bytes from outside.
//!
//! | step | where | what it refuses |
//! |---|---|---|
//! | walk | [`DataSet::read`] | lengths beyond the bytes, nesting, floods of elements, disorder |
//! | tags | [`Tags`] | nothing: what is malformed is absent |
//! | layout | [`Pixels::of`] | sizes beyond the limits, syntaxes that are not decoded, contradictions |
//! | frame | [`Pixels::frame`] | damaged streams, streams that are not what the object says |
//! | picture | [`Pixels::render`] | tables and windows that make no sense, orientation tags that disagree |
//!
//! Each step allocates by what the bytes hold, or by sizes that a limit has passed. Codecs are other
//! people's code, one of them with unsafe code inside: whatever comes over the network is therefore decoded
//! by [`Decoder`], in a process of its own with little memory and little time.
//!
//! Nothing here quotes a value: errors name tags and bytes, `Debug` names sizes.

mod data_set;
pub mod deidentify;
mod frame;
mod header;
mod jpeg;
mod jpeg2000;
mod object;
mod orientation;
mod pixels;
mod render;
mod rle;
mod syntax;
mod table;
mod tags;
#[cfg(test)]
mod tests;
mod text;
mod turn;
mod walk;
mod window;
mod worker;

pub use self::{
    data_set::{DataSet, ReadError},
    frame::{Frame, FrameError},
    object::ObjectError,
    orientation::{Direction, Orientation, OrientationError, Side},
    pixels::{Layout, Photometric, Pixels},
    render::{Contrast, RenderError, Rendered},
    rle::RleError,
    syntax::Syntax,
    tags::{BurnedIn, Date, NotUid, Tags, Uid, orientation},
    turn::Turn,
    walk::{Limits, WalkError},
    window::Window,
    worker::{
        DecodeError, Decoded, Decoder, Refusal, Request, Step, WORKER, WorkerLimits, decode_worker,
    },
};

/// Whether bytes begin as a DICOM file does (PS3.10 §7.1).
pub fn is_dicom(bytes: &[u8]) -> bool {
    bytes.get(128..132) == Some(b"DICM")
}

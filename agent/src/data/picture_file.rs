//! One file with a picture: PNG, JPEG or DICOM.

use std::io;

use consilium_models::imaging::{self, DecodeError as ImageError, Picture};

use crate::dicom::{DecodeError, Decoder, Refusal, Request, Tags, deidentify::Suspicion, is_dicom};

/// Endings of files that may hold a picture, in small letters.
pub const ENDINGS: [&str; 5] = ["png", "jpg", "jpeg", "dcm", "dicom"];

/// A picture and what its file says of it.
pub struct Opened {
    /// The picture; of a DICOM object its first frame, turned as its tags say and in its own window.
    pub picture: Picture,
    /// The attributes of a DICOM object.
    pub tags: Option<Box<Tags>>,
    /// Why a person should look at it before anything is done with it.
    pub suspicions: Vec<Suspicion>,
}

/// Why a file gives no picture. The caller adds the file's name.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// It is no picture in PNG or JPEG.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// The decoder of DICOM objects refused it, or did not live to answer.
    #[error(transparent)]
    Dicom(#[from] DecodeError),
    /// It is a DICOM object without a picture that is decoded.
    #[error(transparent)]
    NoPicture(#[from] Refusal),
    /// The program that decodes is not known.
    #[error("the decoder of DICOM objects cannot be started")]
    Program(#[source] io::Error),
}

impl Opened {
    /// A picture whose file says nothing of it.
    pub(super) fn plain(picture: Picture) -> Self {
        Self {
            picture,
            tags: None,
            suspicions: Vec::new(),
        }
    }
}

/// Written by hand: pictures and tags are patient data.
impl std::fmt::Debug for Opened {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Opened({:?})", self.picture)
    }
}

/// Decodes a file of at most so many pixels by what its first bytes say it is. A DICOM object is decoded in a process
/// of its own. Blocks.
///
/// # Errors
/// No picture, or one of a kind that is not decoded.
pub fn open(bytes: &[u8], pixels: u64) -> Result<Opened, OpenError> {
    if !is_dicom(bytes) {
        let picture = imaging::decode(bytes, pixels)?;
        return Ok(Opened::plain(picture));
    }
    let decoder = Decoder::of_this_program().map_err(OpenError::Program)?;
    let mut request = Request::default();
    request.limits.frame_pixels = request.limits.frame_pixels.min(pixels);
    let decoded = decoder.decode_waiting(bytes, &request)?;
    Ok(Opened {
        picture: decoded.picture?.picture,
        tags: Some(Box::new(decoded.tags)),
        suspicions: decoded.suspicions,
    })
}

//! The npz files of MedMNIST (Yang et al. 2023): three parts, each of images and labels, bytes.

use std::{io, path::Path, sync::Arc};

use npyz::{Order, npz::NpzArchive};

use super::{
    DataError, Found, Place,
    records::{Content, Pixels, Record},
    source::Part,
};

/// Largest side of an image, in pixels.
const LARGEST_SIDE: u64 = 1 << 14;
/// Largest array that is read, in bytes: 8 GiB.
const LARGEST_ARRAY: u64 = 8 << 30;

/// Reads the images and labels of a part, or of some of its indexes. A label is its number.
///
/// # Errors
/// An unreadable file, arrays that are missing or of another form, an index behind the end.
pub(super) fn read(file: &Path, part: Part, indexes: Option<&[usize]>) -> Result<Found, DataError> {
    let refused = |reason: String| DataError::Npz {
        file: file.to_owned(),
        reason,
    };
    let mut archive =
        NpzArchive::open(file).map_err(|error| refused(format!("it is no npz file ({error})")))?;
    let mut array = |what: &str| {
        let name = format!("{part}_{what}");
        bytes_of(&mut archive, &name).map_err(|reason| refused(format!("array {name} {reason}")))
    };
    let (images, shape) = array("images")?;
    let (labels, label_shape) = array("labels")?;
    let (count, height, width, channels) = match shape[..] {
        [count, height, width] => (count, height, width, 1),
        [count, height, width, 3] => (count, height, width, 3),
        _ => {
            let reason = format!("images must be N x H x W or N x H x W x 3, found {shape:?}");
            return Err(refused(reason));
        }
    };
    let sides = 1..=LARGEST_SIDE;
    if !sides.contains(&width) || !sides.contains(&height) {
        let reason =
            format!("images of {width} x {height} pixels are refused: sides are 1 to 16384");
        return Err(refused(reason));
    }
    if !matches!(label_shape[..], [n] | [n, 1] if n == count) {
        let reason = format!("{count} images need one label each, found {label_shape:?}");
        return Err(refused(reason));
    }
    let size = (width * height * channels) as usize;
    let all: Vec<usize>;
    let indexes = match indexes {
        Some(indexes) => indexes,
        None => {
            all = (0..count as usize).collect();
            &all
        }
    };
    let images: Arc<[u8]> = images.into();
    let record = |&index: &usize| {
        let Some(label) = labels.get(index) else {
            let reason = format!("there is no image {index}: {part} has {count}");
            return Err(refused(reason));
        };
        let pixels = Pixels {
            width: width as usize,
            height: height as usize,
            channels: channels as usize,
            all: images.clone(),
            start: index * size,
        };
        Ok(Record {
            content: Content::Pixels(pixels),
            label: label.to_string(),
            patient: format!("{part}/{index}"),
            place: Place::Index {
                file: file.to_owned(),
                index,
            },
        })
    };
    let records = indexes.iter().map(record).collect::<Result<_, _>>()?;
    Ok(Found {
        records,
        ..Found::default()
    })
}

/// The bytes and shape of one array.
fn bytes_of<R: io::Read + io::Seek>(
    archive: &mut NpzArchive<R>,
    name: &str,
) -> Result<(Vec<u8>, Vec<u64>), String> {
    let unreadable = |error: io::Error| format!("cannot be read ({error})");
    let Some(array) = archive.by_name(name).map_err(unreadable)? else {
        let found: Vec<_> = archive.array_names().collect();
        return Err(format!("is missing; there are: {}", found.join(", ")));
    };
    let shape = array.shape().to_vec();
    let length = shape.iter().try_fold(1_u64, |a, &b| a.checked_mul(b));
    if length.is_none_or(|length| length > LARGEST_ARRAY) {
        return Err(format!("of shape {shape:?} is too large"));
    }
    if array.order() != Order::C {
        return Err("is in column order: save it in C order".into());
    }
    let reader = array
        .data::<u8>()
        .map_err(|error| format!("does not hold bytes ({error})"))?;
    let bytes = reader
        .collect::<io::Result<Vec<u8>>>()
        .map_err(unreadable)?;
    if Some(bytes.len() as u64) != length {
        return Err("is shorter than its header says".into());
    }
    Ok((bytes, shape))
}

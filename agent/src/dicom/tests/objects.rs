//! Objects made for tests, and small encoders for their pixels.

use std::io::Write as _;

use flate2::{Compression, write::DeflateEncoder};
use image::{GrayImage, codecs::jpeg::JpegEncoder};

/// The value of an element.
#[derive(Clone)]
pub(crate) enum Content {
    Bytes(Vec<u8>),
    Shorts(Vec<u16>),
    Items(Vec<Vec<Entry>>),
    Fragments(Vec<Vec<u8>>),
}

/// An element: tag, value representation, value.
#[derive(Clone)]
pub(crate) struct Entry(
    pub(crate) (u16, u16),
    pub(crate) &'static str,
    pub(crate) Content,
);

pub(crate) fn text(tag: (u16, u16), vr: &'static str, value: &str) -> Entry {
    let mut bytes = value.as_bytes().to_vec();
    if bytes.len() % 2 == 1 {
        bytes.push(if vr == "UI" { 0 } else { b' ' });
    }
    Entry(tag, vr, Content::Bytes(bytes))
}

pub(crate) fn shorts(tag: (u16, u16), vr: &'static str, values: &[u16]) -> Entry {
    Entry(tag, vr, Content::Shorts(values.to_vec()))
}

pub(crate) fn items(tag: (u16, u16), items: Vec<Vec<Entry>>) -> Entry {
    Entry(tag, "SQ", Content::Items(items))
}

#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Form {
    Implicit,
    Explicit,
    Big,
}

/// Writes elements, in the order of their tags.
pub(crate) fn encoded(entries: &[Entry], form: Form) -> Vec<u8> {
    let mut entries = entries.to_vec();
    entries.sort_by_key(|entry| entry.0);
    let mut bytes = Vec::new();
    for Entry(tag, vr, content) in &entries {
        put_tag(&mut bytes, *tag, form);
        let value = match content {
            Content::Bytes(value) => value.clone(),
            Content::Shorts(values) => values
                .iter()
                .flat_map(|value| short(*value, form))
                .collect(),
            Content::Items(items) => {
                let mut value = Vec::new();
                for item in items {
                    let inside = encoded(item, form);
                    put_tag(&mut value, (0xFFFE, 0xE000), form);
                    value.extend(long(inside.len() as u32, form));
                    value.extend(inside);
                }
                value
            }
            Content::Fragments(fragments) => {
                bytes.extend(b"OB\0\0");
                bytes.extend([0xFF; 4]);
                for fragment in [&vec![]].into_iter().chain(fragments) {
                    put_tag(&mut bytes, (0xFFFE, 0xE000), form);
                    bytes.extend((fragment.len() as u32).to_le_bytes());
                    bytes.extend(fragment);
                }
                put_tag(&mut bytes, (0xFFFE, 0xE0DD), form);
                bytes.extend([0; 4]);
                continue;
            }
        };
        let is_long = ["OB", "OW", "SQ", "UN", "UT", "OL"].contains(vr);
        if form != Form::Implicit {
            bytes.extend(vr.as_bytes());
        }
        match (form, is_long) {
            (Form::Implicit, _) => bytes.extend(long(value.len() as u32, form)),
            (_, true) => {
                bytes.extend([0, 0]);
                bytes.extend(long(value.len() as u32, form));
            }
            (_, false) => bytes.extend(short(value.len() as u16, form)),
        }
        bytes.extend(value);
    }
    bytes
}

fn put_tag(bytes: &mut Vec<u8>, tag: (u16, u16), form: Form) {
    bytes.extend(short(tag.0, form));
    bytes.extend(short(tag.1, form));
}

fn short(value: u16, form: Form) -> [u8; 2] {
    match form {
        Form::Big => value.to_be_bytes(),
        _ => value.to_le_bytes(),
    }
}

fn long(value: u32, form: Form) -> [u8; 4] {
    match form {
        Form::Big => value.to_be_bytes(),
        _ => value.to_le_bytes(),
    }
}

/// A file: preamble, file meta information, and a data set that is there already.
pub(crate) fn file(syntax: &str, data_set: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; 128];
    bytes.extend(b"DICM");
    bytes.extend(encoded(&[text((2, 0x10), "UI", syntax)], Form::Explicit));
    match syntax {
        "1.2.840.10008.1.2.1.99" => {
            let mut encoder = DeflateEncoder::new(bytes, Compression::fast());
            encoder.write_all(data_set).expect("memory takes it");
            encoder.finish().expect("memory takes it")
        }
        _ => {
            bytes.extend(data_set);
            bytes
        }
    }
}

/// A file in the form that its syntax asks for.
pub(crate) fn object(syntax: &str, entries: &[Entry]) -> Vec<u8> {
    let form = match syntax {
        "1.2.840.10008.1.2" => Form::Implicit,
        "1.2.840.10008.1.2.2" => Form::Big,
        _ => Form::Explicit,
    };
    file(syntax, &encoded(entries, form))
}

/// What every image says; grey, unsigned, one frame.
pub(crate) fn image(rows: u16, columns: u16, bits: u16) -> Vec<Entry> {
    vec![
        text((8, 0x16), "UI", "1.2.840.10008.5.1.4.1.1.7"),
        text((8, 0x18), "UI", "1.2.3.4"),
        text((8, 0x60), "CS", "OT"),
        shorts((0x28, 2), "US", &[1]),
        text((0x28, 4), "CS", "MONOCHROME2"),
        shorts((0x28, 0x10), "US", &[rows]),
        shorts((0x28, 0x11), "US", &[columns]),
        shorts((0x28, 0x100), "US", &[if bits > 8 { 16 } else { 8 }]),
        shorts((0x28, 0x101), "US", &[bits]),
        shorts((0x28, 0x102), "US", &[bits - 1]),
        shorts((0x28, 0x103), "US", &[0]),
    ]
}

/// Replaces elements, or adds them.
pub(crate) fn with(mut entries: Vec<Entry>, others: impl IntoIterator<Item = Entry>) -> Vec<Entry> {
    for other in others {
        entries.retain(|entry| entry.0 != other.0);
        entries.push(other);
    }
    entries
}

/// Native pixels of 8 bits.
pub(crate) fn native(pixels: &[u8]) -> Entry {
    Entry((0x7FE0, 0x10), "OB", Content::Bytes(pixels.to_vec()))
}

/// Native pixels of 16 bits.
pub(crate) fn native_words(pixels: &[u16]) -> Entry {
    shorts((0x7FE0, 0x10), "OW", pixels)
}

/// Pixels in fragments, one for each frame.
pub(crate) fn fragments(frames: Vec<Vec<u8>>) -> Entry {
    let even = |mut frame: Vec<u8>| {
        frame.resize(frame.len().next_multiple_of(2), 0);
        frame
    };
    let frames = frames.into_iter().map(even).collect();
    Entry((0x7FE0, 0x10), "OB", Content::Fragments(frames))
}

/// RLE, literal runs alone.
pub(crate) fn rle(planes: &[&[u8]]) -> Vec<u8> {
    let segments: Vec<Vec<u8>> = planes
        .iter()
        .map(|plane| {
            let runs = plane.chunks(128);
            runs.flat_map(|run| [&[run.len() as u8 - 1], run].concat())
                .collect()
        })
        .collect();
    let mut bytes = (segments.len() as u32).to_le_bytes().to_vec();
    let mut offset = 64;
    for segment in &segments {
        bytes.extend((offset as u32).to_le_bytes());
        offset += segment.len();
    }
    bytes.resize(64, 0);
    bytes.extend(segments.concat());
    bytes
}

/// Baseline JPEG of the best quality.
pub(crate) fn jpeg(pixels: &[u8], width: u32, height: u32) -> Vec<u8> {
    let image = GrayImage::from_raw(width, height, pixels.to_vec()).expect("as many pixels");
    let mut bytes = Vec::new();
    JpegEncoder::new_with_quality(&mut bytes, 100)
        .encode_image(&image)
        .expect("a JPEG");
    bytes
}

/// Lossless JPEG: each pixel predicted by its left neighbour (ITU-T T.81 annex H), all code words of the same
/// length.
pub(crate) fn lossless_jpeg(pixels: &[u8], width: usize, height: usize) -> Vec<u8> {
    let mut bytes = vec![0xFF, 0xD8, 0xFF, 0xC3, 0, 11, 8];
    bytes.extend((height as u16).to_be_bytes());
    bytes.extend((width as u16).to_be_bytes());
    bytes.extend([1, 1, 0x11, 0]);
    // 9 categories of differences, 4 bits each.
    bytes.extend([0xFF, 0xC4, 0, 2 + 17 + 9, 0, 0, 0, 0, 9]);
    bytes.extend([0; 12]);
    bytes.extend(0..9);
    bytes.extend([0xFF, 0xDA, 0, 8, 1, 1, 0, 1, 0, 0]);
    let mut bits = Vec::new();
    let mut put = |value: u32, count: u32| {
        bits.extend((0..count).rev().map(|at| (value >> at) & 1 == 1));
    };
    for (at, &pixel) in pixels.iter().enumerate() {
        let prediction = match at {
            0 => 128,
            at if at % width == 0 => i32::from(pixels[at - width]),
            at => i32::from(pixels[at - 1]),
        };
        let difference = i32::from(pixel) - prediction;
        let category = 32 - difference.unsigned_abs().leading_zeros();
        put(category, 4);
        let code = if difference < 0 {
            difference - 1
        } else {
            difference
        };
        put(code.cast_unsigned(), category);
    }
    bits.resize(bits.len().next_multiple_of(8), true);
    for eight in bits.chunks(8) {
        let byte = eight.iter().fold(0, |byte, bit| byte << 1 | u8::from(*bit));
        bytes.push(byte);
        if byte == 0xFF {
            bytes.push(0);
        }
    }
    bytes.extend([0xFF, 0xD9]);
    bytes
}

/// A few hundred bytes that declare one element of 2.9 GB.
pub(crate) fn memory_bomb() -> Vec<u8> {
    let mut data_set = encoded(&[text((8, 0x60), "CS", "CT")], Form::Explicit);
    data_set.extend([0xE0, 0x7F, 0x10, 0x00]);
    data_set.extend(b"OB\0\0");
    data_set.extend(2_930_000_000_u32.to_le_bytes());
    data_set.extend([0; 64]);
    file("1.2.840.10008.1.2.1", &data_set)
}

/// Sequences in each other, 10,000 levels of them.
pub(crate) fn nested() -> Vec<u8> {
    let levels = 10_000;
    let mut data_set = Vec::new();
    for _ in 0..levels {
        data_set.extend([0x40, 0x00, 0x30, 0xA7]);
        data_set.extend(b"SQ\0\0\xFF\xFF\xFF\xFF");
        data_set.extend(b"\xFE\xFF\x00\xE0\xFF\xFF\xFF\xFF");
    }
    for _ in 0..levels {
        data_set.extend(b"\xFE\xFF\x0D\xE0\0\0\0\0\xFE\xFF\xDD\xE0\0\0\0\0");
    }
    file("1.2.840.10008.1.2.1", &data_set)
}

/// An RLE frame whose runs write past its plane.
pub(crate) fn overlong_rle() -> Vec<u8> {
    let frame = [rle(&[&[7; 16]]), vec![129, 1, 129, 2, 127]].concat();
    object(
        "1.2.840.10008.1.2.5",
        &with(image(2, 2, 8), [fragments(vec![frame])]),
    )
}

//! PNG and JPEG to pixels of 0 to 1.
//!
//! The header alone decides whether a file is decoded: a small file can claim a picture that no
//! memory holds.

use std::io::Cursor;

use image::{DynamicImage, ImageError, ImageFormat, ImageReader, Limits};

use super::picture::{Picture, apart};

/// Most pixels of a picture unless the caller says otherwise: 64 Mi, enough for mammography.
pub const PIXEL_LIMIT: u64 = 64 << 20;

/// Bytes that a decoder may take for one pixel: four channels of 16 bits, and as much again.
const BYTES_A_PIXEL: u64 = 16;

/// Why a file is no picture. The caller adds the file's name.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// A file of 0 bytes.
    #[error("the file is empty")]
    Empty,
    /// Neither PNG nor JPEG by its first bytes.
    #[error("the file is neither PNG nor JPEG")]
    UnknownFormat,
    /// The header claims more pixels than allowed; nothing was decoded.
    #[error(
        "the picture has {width} x {height} pixels, more than the {limit} allowed: make it smaller"
    )]
    TooLarge {
        /// Columns of pixels.
        width: u32,
        /// Rows of pixels.
        height: u32,
        /// Most pixels allowed.
        limit: u64,
    },
    /// The bytes break the rules of their format, or end too early.
    #[error("the file is damaged")]
    Damaged(#[source] ImageError),
    /// The file ends before its picture does.
    #[error("the file ends before its picture does")]
    Truncated,
}

/// Decodes a PNG or JPEG: grey or RGB, 8 or 16 bits; transparency is left out.
///
/// # Errors
/// Names what is wrong with the bytes. A picture of more than `limit` pixels is refused by its
/// header.
pub fn decode(bytes: &[u8], limit: u64) -> Result<Picture, DecodeError> {
    if bytes.is_empty() {
        return Err(DecodeError::Empty);
    }
    let format = image::guess_format(bytes).map_err(|_| DecodeError::UnknownFormat)?;
    match format {
        ImageFormat::Png => {}
        ImageFormat::Jpeg if !has_end(bytes) => return Err(DecodeError::Truncated),
        ImageFormat::Jpeg => {}
        _ => return Err(DecodeError::UnknownFormat),
    }
    let reader = || ImageReader::with_format(Cursor::new(bytes), format);
    let mut header = reader();
    header.no_limits();
    let (width, height) = header.into_dimensions().map_err(DecodeError::Damaged)?;
    if u64::from(width) * u64::from(height) > limit {
        return Err(DecodeError::TooLarge {
            width,
            height,
            limit,
        });
    }
    let mut limits = Limits::no_limits();
    limits.max_image_width = Some(width);
    limits.max_image_height = Some(height);
    limits.max_alloc = Some(limit.saturating_mul(BYTES_A_PIXEL));
    let mut reader = reader();
    reader.limits(limits);
    Ok(to_picture(reader.decode().map_err(DecodeError::Damaged)?))
}

/// Whether a JPEG's last scan is followed by the mark of its end. Inside a scan neither pair of
/// bytes occurs. The decoder would fill what is missing with grey.
fn has_end(bytes: &[u8]) -> bool {
    let scan = bytes.windows(2).rposition(|pair| pair == [0xFF, 0xDA]);
    scan.is_some_and(|at| bytes[at..].windows(2).any(|pair| pair == [0xFF, 0xD9]))
}

fn to_picture(image: DynamicImage) -> Picture {
    let (width, height) = (image.width() as usize, image.height() as usize);
    let (channels, pixels) = match image.color().has_color() {
        false => (1, image.to_luma32f().into_raw()),
        true => (3, apart(&image.into_rgb32f().into_raw(), 3)),
    };
    Picture {
        width,
        height,
        channels,
        pixels,
    }
}

#[cfg(test)]
mod tests {
    use image::{GrayImage, ImageBuffer, Luma, LumaA, Rgb, RgbImage, Rgba};
    use proptest::prelude::*;

    use super::*;

    fn encoded(image: impl Into<DynamicImage>, format: ImageFormat) -> Vec<u8> {
        let mut bytes = Cursor::new(Vec::new());
        image
            .into()
            .write_to(&mut bytes, format)
            .expect("an encoder");
        bytes.into_inner()
    }

    fn pixels(image: impl Into<DynamicImage>) -> (usize, Vec<f32>) {
        let picture = decode(&encoded(image, ImageFormat::Png), PIXEL_LIMIT).expect("a picture");
        assert_eq!((picture.width(), picture.height()), (2, 1));
        (picture.channels(), picture.pixels().to_vec())
    }

    #[test]
    fn grey_and_colour_of_8_and_16_bits_become_numbers_of_0_to_1() {
        let grey = GrayImage::from_fn(2, 1, |x, _| Luma([if x == 0 { 0 } else { 255 }]));
        assert_eq!(pixels(grey), (1, vec![0.0, 1.0]));
        let deep: ImageBuffer<Luma<u16>, _> =
            ImageBuffer::from_fn(2, 1, |x, _| Luma([if x == 0 { 13_107 } else { 65_535 }]));
        assert_eq!(pixels(deep), (1, vec![0.2, 1.0]));
        let colour = RgbImage::from_fn(2, 1, |x, _| Rgb([255, 51 * x as u8, 0]));
        assert_eq!(pixels(colour), (3, vec![1.0, 1.0, 0.0, 0.2, 0.0, 0.0]));
        let clear: ImageBuffer<Rgba<u16>, _> =
            ImageBuffer::from_fn(2, 1, |_, _| Rgba([65_535, 0, 13_107, 0]));
        assert_eq!(pixels(clear), (3, vec![1.0, 1.0, 0.0, 0.0, 0.2, 0.2]));
        let clear: ImageBuffer<LumaA<u8>, _> = ImageBuffer::from_fn(2, 1, |_, _| LumaA([51, 7]));
        assert_eq!(pixels(clear), (1, vec![0.2, 0.2]));
    }

    #[test]
    fn a_jpeg_decodes_and_a_shortened_one_is_refused() {
        let image = GrayImage::from_fn(40, 40, |x, y| Luma([(x * 3 + y * 2) as u8]));
        let bytes = encoded(image, ImageFormat::Jpeg);
        let picture = decode(&bytes, PIXEL_LIMIT).expect("a picture");
        assert!((picture.pixels()[39] - 117.0 / 255.0).abs() < 0.03);
        let short = decode(&bytes[..bytes.len() * 2 / 3], PIXEL_LIMIT);
        assert!(matches!(short, Err(DecodeError::Truncated)), "{short:?}");
    }

    /// Header chunk of a PNG whose sizes are exchanged, with the check sum that belongs to it.
    fn png_claiming(width: u32, height: u32) -> Vec<u8> {
        let mut bytes = encoded(GrayImage::new(4, 4), ImageFormat::Png);
        bytes[16..20].copy_from_slice(&width.to_be_bytes());
        bytes[20..24].copy_from_slice(&height.to_be_bytes());
        let mut sum = u32::MAX;
        for byte in &bytes[12..29] {
            sum ^= u32::from(*byte);
            for _ in 0..8 {
                sum = (sum >> 1) ^ (0xEDB8_8320 * (sum & 1));
            }
        }
        bytes[29..33].copy_from_slice(&(!sum).to_be_bytes());
        bytes
    }

    #[test]
    fn a_giant_is_refused_by_its_header_alone() {
        let mut jpeg = encoded(GrayImage::new(8, 8), ImageFormat::Jpeg);
        let frame = jpeg
            .windows(2)
            .position(|pair| pair == [0xFF, 0xC0])
            .expect("a frame");
        jpeg[frame + 5..frame + 9].copy_from_slice(&[0x9C, 0x40, 0x9C, 0x40]);
        for bytes in [png_claiming(40_000, 40_000), jpeg] {
            let error = decode(&bytes, PIXEL_LIMIT)
                .expect_err("too large")
                .to_string();
            assert!(error.contains("40000 x 40000"), "{error}");
        }
        assert!(matches!(
            decode(&encoded(GrayImage::new(5, 4), ImageFormat::Png), 19),
            Err(DecodeError::TooLarge {
                width: 5,
                height: 4,
                limit: 19
            })
        ));
    }

    #[test]
    fn what_is_no_picture_gets_a_name() {
        assert!(matches!(decode(&[], PIXEL_LIMIT), Err(DecodeError::Empty)));
        assert!(matches!(
            decode(b"patient,label", PIXEL_LIMIT),
            Err(DecodeError::UnknownFormat)
        ));
        assert!(matches!(
            decode(b"GIF89a", PIXEL_LIMIT),
            Err(DecodeError::UnknownFormat)
        ));
        let mut bytes = encoded(GrayImage::new(9, 9), ImageFormat::Png);
        bytes.truncate(bytes.len() / 2);
        assert!(matches!(
            decode(&bytes, PIXEL_LIMIT),
            Err(DecodeError::Damaged(_))
        ));
        assert!(matches!(
            decode(&png_claiming(0, 7), PIXEL_LIMIT),
            Err(DecodeError::Damaged(_))
        ));
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_decoder_panic(
            bytes in proptest::collection::vec(any::<u8>(), 0..400),
            start in 0..3_usize,
            at in any::<proptest::sample::Index>(),
            byte in any::<u8>(),
        ) {
            let image = || GrayImage::from_fn(12, 12, |x, y| Luma([(x * y) as u8]));
            let bytes = match start {
                0 => bytes,
                1 => encoded(image(), ImageFormat::Png),
                _ => encoded(image(), ImageFormat::Jpeg),
            };
            let mut damaged = bytes.clone();
            if !damaged.is_empty() {
                let at = at.index(damaged.len());
                damaged[at] = byte;
            }
            if let Ok(picture) = decode(&damaged, 1 << 16) {
                prop_assert!(picture.pixels().iter().all(|pixel| (0.0..=1.0).contains(pixel)));
            }
        }
    }
}

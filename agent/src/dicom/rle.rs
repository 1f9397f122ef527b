//! RLE Lossless, PS3.5 annex G: one run-length coded plane for each byte of each sample.

/// Segments that a header has room for.
const MOST_SEGMENTS: usize = 15;
const HEADER: usize = 64;

/// Why a frame is no RLE data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RleError {
    /// Shorter than its header.
    #[error("the header is cut short")]
    Header,
    /// Not one segment for each byte of a pixel.
    #[error("{found} segments where {wanted} are needed")]
    Segments {
        /// Segments found.
        found: u32,
        /// Segments needed.
        wanted: usize,
    },
    /// A segment that does not lie within the frame, or starts before the one before it.
    #[error("segment {segment} lies outside the frame")]
    Offset {
        /// The segment, counted from 0.
        segment: usize,
    },
    /// A segment that ends before its plane is full, or holds more.
    #[error("segment {segment} does not fill its plane")]
    Length {
        /// The segment, counted from 0.
        segment: usize,
    },
}

/// Decodes a frame of `pixels` pixels with as many samples of as many bytes: the samples of a pixel side
/// by side, bits in the low end of each number.
pub(super) fn decode(
    frame: &[u8],
    pixels: usize,
    samples: usize,
    bytes: usize,
) -> Result<Vec<u32>, RleError> {
    let header = frame.get(..HEADER).ok_or(RleError::Header)?;
    let mut numbers = header
        .chunks_exact(4)
        .filter_map(|word| word.try_into().ok())
        .map(u32::from_le_bytes);
    let found = numbers.next().unwrap_or(0);
    let wanted = samples * bytes;
    if usize::try_from(found) != Ok(wanted) || wanted > MOST_SEGMENTS {
        return Err(RleError::Segments { found, wanted });
    }
    let offsets: Vec<usize> = numbers.take(wanted).map(|offset| offset as usize).collect();
    // Two bytes make 128 at the most: nothing is allocated for a picture that cannot be there.
    if frame.len().saturating_mul(64) < pixels * wanted {
        return Err(RleError::Length { segment: 0 });
    }
    let mut values = vec![0; pixels * samples];
    for (segment, &start) in offsets.iter().enumerate() {
        let end = offsets.get(segment + 1).copied().unwrap_or(frame.len());
        let part = match start >= HEADER {
            true => frame.get(start..end),
            false => None,
        };
        let part = part.ok_or(RleError::Offset { segment })?;
        // The most significant byte comes first.
        let (sample, shift) = (segment / bytes, 8 * (bytes - 1 - segment % bytes));
        let plane = values.iter_mut().skip(sample).step_by(samples);
        unpack(part, plane, shift).ok_or(RleError::Length { segment })?;
    }
    Ok(values)
}

/// Unpacks a segment into a plane; `None` if it does not fill it exactly. One byte of padding may follow,
/// and more of it from careless writers is harmless.
fn unpack<'a>(
    mut part: &[u8],
    mut plane: impl ExactSizeIterator<Item = &'a mut u32>,
    shift: usize,
) -> Option<()> {
    while plane.len() > 0 {
        let (&code, rest) = part.split_first()?;
        part = rest;
        match usize::from(code) {
            length @ 0..=127 => {
                let (run, rest) = part.split_at_checked(length + 1)?;
                part = rest;
                for &byte in run {
                    *plane.next()? |= u32::from(byte) << shift;
                }
            }
            128 => {}
            length => {
                let (&byte, rest) = part.split_first()?;
                part = rest;
                for _ in 0..257 - length {
                    *plane.next()? |= u32::from(byte) << shift;
                }
            }
        }
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A header for segments, and the segments.
    fn frame(segments: &[&[u8]]) -> Vec<u8> {
        let mut bytes = (segments.len() as u32).to_le_bytes().to_vec();
        let mut offset = HEADER;
        for segment in segments {
            bytes.extend((offset as u32).to_le_bytes());
            offset += segment.len();
        }
        bytes.resize(HEADER, 0);
        bytes.extend(segments.concat());
        bytes
    }

    #[test]
    fn runs_and_literals_fill_planes_of_high_and_low_bytes() {
        // 1, 1, 1 repeated; then 7 and 9 as they are; high bytes 0, 0, 0, 1, 2.
        let bytes = frame(&[&[254, 0, 1, 1, 2], &[254, 1, 1, 7, 9, 0]]);
        assert_eq!(decode(&bytes, 5, 1, 2), Ok(vec![1, 1, 1, 263, 521]));
        let colours = frame(&[&[255, 1], &[255, 2], &[1, 3, 4]]);
        assert_eq!(decode(&colours, 2, 3, 1), Ok(vec![1, 2, 3, 1, 2, 4]));
    }

    #[test]
    fn segments_that_do_not_fit_are_refused() {
        assert_eq!(decode(&[1, 0, 0, 0], 1, 1, 1), Err(RleError::Header));
        let one = frame(&[&[0, 1]]);
        let error = RleError::Segments {
            found: 1,
            wanted: 2,
        };
        assert_eq!(decode(&one, 1, 1, 2), Err(error));
        for (segment, pixels) in [
            (&[254_u8, 0][..], 2),
            (&[3, 1, 2], 4),
            (&[255, 1], 3),
            (&[254], 3),
        ] {
            let error = Err(RleError::Length { segment: 0 });
            assert_eq!(
                decode(&frame(&[segment]), pixels, 1, 1),
                error,
                "{segment:?}"
            );
        }
        let mut beyond = one.clone();
        beyond[4] = 200;
        assert_eq!(
            decode(&beyond, 1, 1, 1),
            Err(RleError::Offset { segment: 0 })
        );
        let mut header = one;
        header[4] = 3;
        assert_eq!(
            decode(&header, 1, 1, 1),
            Err(RleError::Offset { segment: 0 })
        );
    }

    proptest! {
        #[test]
        fn no_bytes_cause_a_panic(
            bytes in proptest::collection::vec(any::<u8>(), 0..200),
            whole in any::<bool>(),
            pixels in 0..50_usize,
            samples in 1..4_usize,
            width in 1..5_usize,
        ) {
            let bytes = if whole { frame(&[&bytes, &bytes]) } else { bytes };
            let _ = decode(&bytes, pixels, samples, width);
        }
    }
}

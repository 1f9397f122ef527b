//! What bytes that are no UTF-8 look like, so that people know what to do about them.

use std::fmt;

/// Bytes looked at around the first one that is wrong.
const WINDOW: usize = 32 << 10;

/// What bytes look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Guess {
    /// Two bytes a character: what Windows calls Unicode.
    Utf16,
    /// The usual one in China before UTF-8, with its older forms GBK and GB2312.
    Gb18030,
    /// One byte a character, as in western Europe.
    Latin1,
    /// UTF-8 with some bytes that are none.
    DamagedUtf8,
    /// No text.
    Binary,
}

impl fmt::Display for Guess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (looks_like, name) = match self {
            Self::Utf16 => ("UTF-16", "UTF-16"),
            Self::Gb18030 => ("GB18030 or GBK", "GB18030"),
            Self::Latin1 => ("Latin-1 or Windows-1252", "WINDOWS-1252"),
            Self::DamagedUtf8 => {
                return f.write_str("UTF-8 text with bytes that are none; export the file again");
            }
            Self::Binary => return f.write_str("the file holds bytes that are no text"),
        };
        write!(
            f,
            "the text is not UTF-8, it looks like {looks_like}; convert it, \
             for example with `iconv -f {name} -t UTF-8`"
        )
    }
}

/// What a file looks like whose byte `at` cannot be part of a UTF-8 text.
///
/// A guess: other encodings with two bytes a character pass for GB18030, others with one for Latin-1.
pub(super) fn guess(bytes: &[u8], at: usize) -> Guess {
    let marks: [&[u8]; 2] = [b"\xFF\xFE", b"\xFE\xFF"];
    if marks.iter().any(|mark| bytes.starts_with(mark)) {
        return Guess::Utf16;
    }
    let window = at.saturating_sub(WINDOW)..bytes.len().min(at.saturating_add(WINDOW));
    let near = bytes.get(window).unwrap_or_default();
    let (first, second) = zeros(near);
    if first + second > 0 {
        // Western text in UTF-16 has a zero in almost every pair, always on the same side.
        let (few, many) = (first.min(second), first.max(second));
        let is_wide = many * 4 > near.len() / 2 && few * 10 < many;
        return if is_wide { Guess::Utf16 } else { Guess::Binary };
    }
    let (mut sound, mut broken) = (0, 0);
    for chunk in near.utf8_chunks() {
        sound += chunk.valid().chars().filter(|c| !c.is_ascii()).count();
        broken += usize::from(!chunk.invalid().is_empty());
    }
    if sound > 4 * broken {
        return Guess::DamagedUtf8;
    }
    let (even, odd) = runs(near);
    match even > 3 * odd {
        true => Guess::Gb18030,
        false => Guess::Latin1,
    }
}

/// Zeros among the first and among the second bytes of all pairs.
fn zeros(bytes: &[u8]) -> (usize, usize) {
    let at = |side: usize| {
        let bytes = bytes.iter().skip(side).step_by(2);
        bytes.filter(|&&byte| byte == 0).count()
    };
    (at(0), at(1))
}

/// Runs of bytes beyond ASCII: how many have an even length, how many an odd one. Chinese characters
/// are pairs of such bytes; accented letters stand alone.
fn runs(bytes: &[u8]) -> (usize, usize) {
    bytes
        .split(u8::is_ascii)
        .filter(|run| !run.is_empty())
        .fold((0, 0), |(even, odd), run| match run.len() % 2 {
            0 => (even + 1, odd),
            _ => (even, odd + 1),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a file of these bytes looks like, by its first byte that is no UTF-8 or zero.
    fn look(bytes: &[u8]) -> Guess {
        let at = match std::str::from_utf8(bytes) {
            Ok(text) => text.find('\0').expect("a zero"),
            Err(error) => error.valid_up_to(),
        };
        guess(bytes, at)
    }

    fn wide(text: &str, order: fn(u16) -> [u8; 2]) -> Vec<u8> {
        text.encode_utf16().flat_map(order).collect()
    }

    #[test]
    fn encodings_are_told_apart() {
        // "Exploración: dolor torácico" and "Größe", one byte a letter.
        assert_eq!(look(b"Exploraci\xF3n: dolor tor\xE1cico\n"), Guess::Latin1);
        assert_eq!(
            look(b"Gr\xF6\xDFe, L\xE4nge und M\xE4nnlich"),
            Guess::Latin1
        );
        // "Жалобы на боль в груди" in Windows-1251: one byte a letter too.
        let pain = b"\xC6\xE0\xEB\xEE\xE1\xFB \xED\xE0 \xE1\xEE\xEB\xFC \xE2 \xE3\xF0\xF3\xE4\xE8";
        assert_eq!(look(pain), Guess::Latin1);
        // "患者发热三天" and "血压 高" in GB2312.
        let fever = b"\xBB\xBC\xD5\xDF\xB7\xA2\xC8\xC8\xC8\xFD\xCC\xEC";
        assert_eq!(look(fever), Guess::Gb18030);
        assert_eq!(
            look(b"BP 120/80, \xD1\xAA\xD1\xB9 \xB8\xDF\n"),
            Guess::Gb18030
        );
        let mut broken = "Größe und Länge: ä ö ü ß é".as_bytes().to_vec();
        broken.push(0xFF);
        assert_eq!(look(&broken), Guess::DamagedUtf8);
        for order in [u16::to_le_bytes, u16::to_be_bytes] {
            assert_eq!(look(&wide("\u{FEFF}咳嗽", order)), Guess::Utf16);
            assert_eq!(look(&wide("Chest pain since Monday", order)), Guess::Utf16);
        }
        assert_eq!(
            look(b"PK\x03\x04\x14\0\0\0\x08\0\x7F\x91\0\0"),
            Guess::Binary
        );
        assert_eq!(look(b"\x89PNG\r\n\x1A\n\0\0\0\rIHDR"), Guess::Binary);
    }
}

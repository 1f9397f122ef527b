//! Text in the character sets of DICOM (PS3.3 C.12.1.1.2, PS3.5 §6.1).
//!
//! What cannot be decoded is replaced, never an error: a name that one reader cannot spell must not keep a
//! picture from being read.

use dicom_encoding::text::{SpecificCharacterSet, TextCodec};

const ESCAPE: u8 = 0x1B;

/// Escape sequences, and the character set each one calls (PS3.3 tables C.12-3 and C.12-4). Those of `G0`
/// change what the bytes below 0x80 mean, so that a delimiter may be half a character.
const ESCAPES: [(&[u8], Option<&str>); 17] = [
    (b"(B", None),
    (b"(J", Some("ISO_IR 13")),
    (b")I", Some("ISO_IR 13")),
    (b"-A", Some("ISO_IR 100")),
    (b"-B", Some("ISO_IR 101")),
    (b"-C", Some("ISO_IR 109")),
    (b"-D", Some("ISO_IR 110")),
    (b"-F", Some("ISO_IR 126")),
    (b"-G", Some("ISO_IR 127")),
    (b"-H", Some("ISO_IR 138")),
    (b"-L", Some("ISO_IR 144")),
    (b"-T", Some("ISO_IR 166")),
    (b"$)C", Some("ISO_IR 149")),
    (b"$)A", Some("GBK")),
    (KANJI, Some("ISO_IR 87")),
    (b"$@", Some("ISO_IR 87")),
    (MORE_KANJI, Some("ISO_IR 87")),
];
const KANJI: &[u8] = b"$B";
const MORE_KANJI: &[u8] = b"$(D";

/// Decodes a value by the character sets of its object. The first one holds at the start and after every
/// delimiter; the others are called by escape sequences.
pub(super) fn decode(bytes: &[u8], character_sets: &[String]) -> String {
    let initial = character_sets.first().map_or("", String::as_str);
    // Without code extensions there is no escape, and in these sets a delimiter may be half a character.
    if !bytes.contains(&ESCAPE) {
        return in_set(bytes, initial);
    }
    let mut text = String::new();
    let mut rest = bytes;
    let (mut set, mut prefix): (&str, &[u8]) = (initial, &[]);
    while !rest.is_empty() {
        if let Some(after) = rest.strip_prefix(&[ESCAPE])
            && let Some((sequence, called)) = escape(after)
        {
            rest = after.get(sequence.len()..).unwrap_or(&[]);
            set = called.unwrap_or(initial);
            prefix = match sequence.starts_with(b"$") && set == "ISO_IR 87" {
                true => sequence,
                false => &[],
            };
            continue;
        }
        let ends = |&byte: &u8| byte == ESCAPE || (prefix.is_empty() && is_delimiter(byte));
        // At least one byte: an unknown escape is taken as it is.
        let length = rest
            .iter()
            .skip(1)
            .position(ends)
            .map_or(rest.len(), |at| at + 1);
        let (part, after) = rest.split_at(length);
        if prefix.is_empty() && part.first().copied().is_some_and(is_delimiter) {
            set = initial;
        }
        match prefix {
            [] => text.push_str(&in_set(part, set)),
            _ => text.push_str(&in_set(&[&[ESCAPE], prefix, part].concat(), set)),
        }
        rest = after;
    }
    text
}

fn escape(after: &[u8]) -> Option<(&'static [u8], Option<&'static str>)> {
    let mut all = ESCAPES.into_iter();
    all.find(|(sequence, _)| after.starts_with(sequence))
}

fn is_delimiter(byte: u8) -> bool {
    matches!(byte, b'\\' | b'^' | b'=' | b'\t' | b'\n' | b'\r' | 0x0C)
}

fn in_set(bytes: &[u8], name: &str) -> String {
    // Modern writers put UTF-8 where they name nothing; plain ASCII is both.
    let Some(set) = SpecificCharacterSet::from_code(name) else {
        return String::from_utf8_lossy(bytes).into_owned();
    };
    match (set == SpecificCharacterSet::ISO_IR_6, set.decode(bytes)) {
        (false, Ok(text)) => text,
        _ => String::from_utf8_lossy(bytes).into_owned(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sets(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    /// Examples of PS3.5 annexes H to K.
    #[test]
    fn the_examples_of_the_standard_read_as_printed() {
        let japanese =
            b"Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B=\x1b$B$d$^$@\x1b(B^\x1b$B$?$m$&\x1b(B";
        assert_eq!(
            decode(japanese, &sets(&["", "ISO 2022 IR 87"])),
            "Yamada^Tarou=山田^太郎=やまだ^たろう"
        );
        let korean = b"Hong^Gildong=\x1b$)C\xfb\xf3^\x1b$)C\xd1\xce\xd4\xd7=\x1b$)C\xc8\xab^\x1b$)C\xb1\xe6\xb5\xbf";
        assert_eq!(
            decode(korean, &sets(&["", "ISO 2022 IR 149"])),
            "Hong^Gildong=洪^吉洞=홍^길동"
        );
        let half_width = b"\xd4\xcf\xc0\xde^\xc0\xdb\xb3=\x1b$B;3ED\x1b(J^\x1b$BB@O:\x1b(J";
        assert_eq!(
            decode(half_width, &sets(&["ISO 2022 IR 13", "ISO 2022 IR 87"])),
            "ﾔﾏﾀﾞ^ﾀﾛｳ=山田^太郎"
        );
        let gb18030 = b"Wang^XiaoDong=\xcd\xf5^\xd0\xa1\xb6\xab";
        assert_eq!(
            decode(gb18030, &sets(&["GB18030"])),
            "Wang^XiaoDong=王^小东"
        );
        let mixed = b"Dionysios is \x1b-F\xc4\xe9\xef\xed\xf5\xf3\xe9\xef\xf2";
        let names = sets(&["ISO 2022 IR 6", "ISO 2022 IR 100", "ISO 2022 IR 126"]);
        assert_eq!(decode(mixed, &names), "Dionysios is Διονυσιος");
    }

    #[test]
    fn a_delimiter_brings_the_first_character_set_back() {
        let text = b"\x1b-F\xc4\\\xe9";
        assert_eq!(decode(text, &sets(&["ISO 2022 IR 100"])), "Δ\\é");
    }

    #[test]
    fn what_no_character_set_knows_is_replaced() {
        assert_eq!(decode(b"a\xffb", &sets(&["ISO_IR 192"])), "a\\377b");
        assert_eq!(decode(b"a\xffb", &sets(&["no such set"])), "a\u{FFFD}b");
        assert_eq!(decode("Zoë".as_bytes(), &[]), "Zoë");
    }

    proptest! {
        #[test]
        fn no_bytes_cause_a_panic(
            bytes in proptest::collection::vec(
                prop_oneof![any::<u8>(), Just(ESCAPE), Just(b'$'), Just(b'('), Just(b')')], 0..60),
            name in prop_oneof![
                Just(""), Just("ISO_IR 87"), Just("GB18030"), Just("ISO 2022 IR 149"), Just("ISO_IR 192"),
                Just("ISO_IR 13"),
            ],
        ) {
            decode(&bytes, &sets(&[name]));
        }
    }
}

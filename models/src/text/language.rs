//! Which language a text or a sentence is written in, by the share of Han characters.

use serde::{Deserialize, Serialize};

/// Of all letters, the share of Han characters from which on a text is Chinese.
///
/// Low, because a Chinese word is two characters and notes are full of Latin names of drugs and tests,
/// while English notes hold no Han characters at all.
const CHINESE_FROM: f64 = 0.2;

/// A language that notes are read in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Language {
    /// Also of a text without any letter.
    English,
    /// Chinese, in simplified or traditional characters.
    Chinese,
}

impl Language {
    /// The language of a text or a sentence.
    pub fn of(text: &str) -> Self {
        let (mut letters, mut han) = (0_u64, 0_u64);
        for c in text.chars().filter(|c| c.is_alphabetic()) {
            letters += 1;
            han += u64::from(is_han(c));
        }
        if han > 0 && han as f64 >= CHINESE_FROM * letters as f64 {
            Self::Chinese
        } else {
            Self::English
        }
    }
}

/// Whether this is a Han character.
pub(super) fn is_han(c: char) -> bool {
    matches!(c,
        '\u{4E00}'..='\u{9FFF}'
        | '〇' | '々'
        | '\u{3400}'..='\u{4DBF}'
        | '\u{F900}'..='\u{FAFF}'
        | '\u{20000}'..='\u{3FFFF}')
}

/// Whether this belongs to a script that is written without spaces between words: Han and kana.
pub(super) fn is_cjk(c: char) -> bool {
    is_han(c)
        || matches!(c, '\u{3040}'..='\u{30FF}' | '\u{31F0}'..='\u{31FF}' | '\u{FF66}'..='\u{FF9F}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chinese_note_may_hold_latin_names() {
        assert_eq!(
            Language::of("患者CRP升高，予ceftriaxone静滴"),
            Language::Chinese
        );
        assert_eq!(Language::of("否认高血压病史。"), Language::Chinese);
    }

    #[test]
    fn anything_else_is_read_as_english() {
        assert_eq!(
            Language::of("The patient denies chest pain."),
            Language::English
        );
        assert_eq!(
            Language::of("Seen at Peking Union (协和) for follow-up of her asthma."),
            Language::English
        );
        assert_eq!(Language::of(""), Language::English);
        assert_eq!(Language::of("38.5, 120/80"), Language::English);
    }
}

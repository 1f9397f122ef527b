//! From a text to its words, each by its place.
//!
//! A word is a run of letters with the digits behind them (`HbA1c`, `p53`); a number is a run of
//! digits, with points or commas between digits (`3.5`, `10,000`); every Han character and kana is
//! one of its own, and so is every other sign. So `5mg` is a number and a word, and `beta-blocker` and
//! `120/80` are three each: biomedical corpora mark parts of such words.

use unicode_normalization::char::is_combining_mark;

use super::{Span, language::is_cjk};

/// The words of a text, in its order. Together they cover all that is not white space.
pub fn words(text: &str) -> Vec<Span> {
    let mut words = Vec::with_capacity(text.len() / 5);
    let mut rest = text.char_indices().peekable();
    while let Some((start, first)) = rest.next() {
        if first.is_whitespace() {
            continue;
        }
        let mut end = start + first.len_utf8();
        let mut kind = Kind::of(first);
        while let Some(&(at, next)) = rest.peek() {
            let after = text
                .get(at + next.len_utf8()..)
                .and_then(|rest| rest.chars().next());
            kind = match (kind, Kind::of(next)) {
                (kind, Kind::Mark) => kind,
                (Kind::Letter, Kind::Letter | Kind::Digit) => Kind::Letter,
                (Kind::Digit, Kind::Digit) => Kind::Digit,
                (Kind::Digit, Kind::Sign) if joins_digits(next, after) => Kind::Digit,
                _ => break,
            };
            end = at + next.len_utf8();
            rest.next();
        }
        words.push(Span::new(start, end));
    }
    words
}

/// Whether `sign` stands between two digits as part of a number.
fn joins_digits(sign: char, after: Option<char>) -> bool {
    matches!(sign, '.' | ',') && after.is_some_and(char::is_numeric)
}

/// What a character does in a word.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Letter,
    Digit,
    /// An accent, which belongs to whatever stands before it.
    Mark,
    /// A sign, or a character that is a word by itself.
    Sign,
}

impl Kind {
    fn of(c: char) -> Self {
        match c {
            'a'..='z' | 'A'..='Z' => Self::Letter,
            '0'..='9' => Self::Digit,
            c if c.is_ascii() || is_cjk(c) => Self::Sign,
            c if is_combining_mark(c) => Self::Mark,
            c if c.is_numeric() => Self::Digit,
            c if c.is_alphabetic() => Self::Letter,
            _ => Self::Sign,
        }
    }
}

/// Which words to leave out. For classical features only: networks read them all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Filter {
    /// Leave out words that say nothing by themselves. Words of negation are never among them.
    pub stop_words: bool,
    /// Leave out what is neither a letter nor a number.
    pub punctuation: bool,
}

impl Filter {
    /// Those of the words of `text` that stay.
    pub fn apply(self, text: &str, mut words: Vec<Span>) -> Vec<Span> {
        words.retain(|word| word.of(text).is_some_and(|word| self.keeps(word)));
        words
    }

    /// Whether a word stays.
    pub fn keeps(self, word: &str) -> bool {
        let is_punctuation = !word.chars().any(char::is_alphanumeric);
        !(self.punctuation && is_punctuation || self.stop_words && is_stop_word(word))
    }
}

fn is_stop_word(word: &str) -> bool {
    // No stop word is longer.
    word.len() <= 7 && STOP_WORDS.contains(&word.to_lowercase().as_str())
}

/// Words of English, then characters of Chinese, that say nothing by themselves.
const STOP_WORDS: &[&str] = &[
    "a", "an", "the", "this", "that", "these", "those", "such", "i", "me", "my", "we", "us", "our",
    "you", "your", "he", "him", "his", "she", "her", "hers", "it", "its", "they", "them", "their",
    "who", "whom", "whose", "which", "what", "am", "is", "are", "was", "were", "be", "been",
    "being", "has", "have", "had", "having", "do", "does", "did", "will", "would", "shall", "can",
    "could", "may", "might", "and", "or", "as", "so", "than", "then", "there", "here", "also",
    "of", "at", "by", "for", "with", "in", "on", "to", "from", "into", "during", "about",
    "between", "through", "upon", "per", "s", "t", "的", "了", "和", "与", "及", "是", "在", "也",
    "就", "都", "而", "或", "其", "之", "于", "将", "把", "被", "让", "这", "那", "您", "你", "我",
    "他", "她", "它", "们", "等", "个", "并", "以", "为", "则", "着", "吗", "呢", "吧", "啊",
];

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn split(text: &str) -> Vec<&str> {
        words(text)
            .into_iter()
            .filter_map(|word| word.of(text))
            .collect()
    }

    #[test]
    fn numbers_are_whole_and_hyphens_split() {
        assert_eq!(
            split("Hb 10,000 or 3.5."),
            ["Hb", "10,000", "or", "3.5", "."]
        );
        assert_eq!(
            split("beta-blocker 5mg"),
            ["beta", "-", "blocker", "5", "mg"]
        );
        assert_eq!(split("BP 120/80"), ["BP", "120", "/", "80"]);
        assert_eq!(split("HbA1c (p53)"), ["HbA1c", "(", "p53", ")"]);
        assert_eq!(split("patient's"), ["patient", "'", "s"]);
    }

    #[test]
    fn every_han_character_is_a_word() {
        assert_eq!(
            split("无CRP升高。3天"),
            ["无", "CRP", "升", "高", "。", "3", "天"]
        );
    }

    #[test]
    fn accents_belong_to_their_letter() {
        assert_eq!(split("cafe\u{301} naïve"), ["cafe\u{301}", "naïve"]);
        assert_eq!(split("\u{301}x"), ["\u{301}", "x"]);
    }

    #[test]
    fn the_filter_leaves_out_what_it_is_told_and_never_a_negation() {
        let text = "The pain is not in her chest, no. 患者的头不痛。";
        let kept = |stop_words, punctuation| {
            let filter = Filter {
                stop_words,
                punctuation,
            };
            let kept = filter.apply(text, words(text));
            kept.into_iter()
                .filter_map(|word| word.of(text))
                .collect::<Vec<_>>()
                .join(" ")
        };
        assert_eq!(kept(true, true), "pain not chest no 患 者 头 不 痛");
        assert_eq!(kept(true, false), "pain not chest , no . 患 者 头 不 痛 。");
        assert_eq!(
            kept(false, true),
            "The pain is not in her chest no 患 者 的 头 不 痛"
        );
        assert_eq!(kept(false, false), split(text).join(" "));
    }

    proptest! {
        #[test]
        fn words_are_in_order_and_cover_all_that_can_be_seen(text in "(\\PC|[a-z0-9 .,/\u{301}\n发热]){0,40}") {
            let mut end = 0;
            for word in words(&text) {
                prop_assert!(word.start >= end && !word.is_empty());
                prop_assert!(text[end..word.start].chars().all(char::is_whitespace));
                prop_assert!(!word.of(&text).expect("on characters").contains(char::is_whitespace));
                end = word.end;
            }
            prop_assert!(text[end..].chars().all(char::is_whitespace));
        }
    }
}

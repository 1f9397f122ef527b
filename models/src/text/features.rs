//! Hashed features of words, for taggers: what a word looks like, without a table of all words.
//!
//! Every feature is a kind and a text, and its number is a hash of both, so that all sites give a
//! feature the same number without agreeing on a list, which would have to be learnt from notes. The
//! hash has no key: it hides nothing, and a number tells who guesses the word that it was there.
//!
//! The hash, which must never change: FNV-1a of 64 bits (Fowler, Noll and Vo) over the byte of
//! the kind and the bytes of the text, then the finaliser of MurmurHash3 (Appleby). Its upper 32 bits,
//! as a fraction of 2³², times the number of buckets is the feature's bucket; its lowest bit is its sign,
//! where features have one.

use super::{Span, language::is_cjk};

/// Numbers that features are hashed to, from 0 up to, not including, this: 1 to 4,194,304.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Buckets(u32);

/// A number of buckets that is not from 1 to 4,194,304.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("features are hashed to 1 to {most} buckets, not {0}", most = Buckets::MOST)]
pub struct BucketsError(pub usize);

impl Buckets {
    /// The most.
    pub const MOST: usize = 1 << 22;

    /// As many as asked for, within the limits.
    pub fn at_most(count: usize) -> Self {
        Self(count.clamp(1, Self::MOST) as u32)
    }

    /// How many.
    pub fn count(self) -> usize {
        self.0 as usize
    }

    /// Where a feature goes.
    pub(super) fn bucket(self, hash: u64) -> u32 {
        // Below the number of buckets, which has 32 bits.
        (((hash >> 32) * u64::from(self.0)) >> 32) as u32
    }
}

impl TryFrom<usize> for Buckets {
    type Error = BucketsError;

    fn try_from(count: usize) -> Result<Self, BucketsError> {
        match u32::try_from(count) {
            Ok(buckets) if (1..=Self::MOST).contains(&count) => Ok(Self(buckets)),
            _ => Err(BucketsError(count)),
        }
    }
}

/// Features that each word has.
pub const WORD_FEATURES: usize = 18;

/// Letters of the beginnings of which each is a feature.
const BEGINNINGS: [usize; 3] = [2, 3, 4];
/// Letters of the ends of which each is a feature.
const ENDS: [usize; 4] = [2, 3, 4, 5];

/// The kinds of features, by the byte that enters the hash.
mod kind {
    pub(super) const WORD: u8 = b'w';
    /// The word this many places before or after, from two before on.
    pub(super) const NEAR: [u8; 4] = [b'a', b'b', b'y', b'z'];
    pub(super) const PAIRS: [u8; 2] = [b'<', b'>'];
    /// Ends of three letters of the words before and after.
    pub(super) const NEAR_ENDS: [u8; 2] = [b'{', b'}'];
    pub(super) const SHAPE: u8 = b's';
    /// Of 2 letters; the others are the next ones.
    pub(super) const BEGINNING: u8 = b'2';
    /// Of 2 letters; the others are the next ones.
    pub(super) const END: u8 = b'6';
    pub(super) const SIGNS: u8 = b'#';
}

/// The features of each of the words of a text, as numbers of buckets.
///
/// In this order: the word in small letters, digits as 0; its shape, `Xx-d`; its first 2, 3 and 4 letters and
/// its last 2 to 5; what is in it (a digit, a Greek letter, a hyphen, a capital behind its first letter; Roman
/// numerals; Chinese); the words two and one before and one and two after; the last 3 letters of the
/// words beside it; it with the word before, and with the word after.
pub fn word_features(text: &str, words: &[Span], buckets: Buckets) -> Vec<[u32; WORD_FEATURES]> {
    let words: Vec<Word> = words.iter().map(|&span| Word::new(span, text)).collect();
    // No word is a line end, so that the bounds of the text are like no word.
    let bound = Word::bound();
    let near = |at: usize, by: isize| {
        let place = at.checked_add_signed(by);
        place.and_then(|place| words.get(place)).unwrap_or(&bound)
    };
    let bucket = |kind, text: &str| buckets.bucket(hash(kind, text));
    let mut rows = Vec::with_capacity(words.len());
    for (at, word) in words.iter().enumerate() {
        let mut row = [0; WORD_FEATURES];
        let mut places = row.iter_mut();
        let mut add = |kind, text: &str| {
            if let Some(place) = places.next() {
                *place = bucket(kind, text);
            }
        };
        add(kind::WORD, &word.small);
        add(kind::SHAPE, &shape(word.written));
        for (kind, letters) in (kind::BEGINNING..).zip(BEGINNINGS) {
            add(kind, word.beginning(letters));
        }
        for (kind, letters) in (kind::END..).zip(ENDS) {
            add(kind, word.end(letters));
        }
        add(kind::SIGNS, &signs(word.written));
        for (kind, by) in kind::NEAR.into_iter().zip([-2, -1, 1, 2]) {
            add(kind, &near(at, by).small);
        }
        let beside = [near(at, -1), near(at, 1)];
        for (kind, word) in kind::NEAR_ENDS.into_iter().zip(beside) {
            add(kind, word.end(3));
        }
        for (kind, other) in kind::PAIRS.into_iter().zip(beside) {
            add(kind, &format!("{}\n{}", word.small, other.small));
        }
        rows.push(row);
    }
    rows
}

/// A word as written, and in small letters with digits as 0.
struct Word<'a> {
    written: &'a str,
    small: String,
}

impl<'a> Word<'a> {
    fn new(span: Span, text: &'a str) -> Self {
        let written = span.of(text).unwrap_or_default();
        let small = written.to_lowercase();
        let digits = |c: char| if c.is_ascii_digit() { '0' } else { c };
        Self {
            written,
            small: small.chars().map(digits).collect(),
        }
    }

    /// What lies beyond the text.
    fn bound() -> Self {
        Self {
            written: "\n",
            small: "\n".into(),
        }
    }

    /// Its first letters; nothing where it has no more than these, as the word itself says it then.
    fn beginning(&self, letters: usize) -> &str {
        let end = self.small.char_indices().nth(letters).map(|(at, _)| at);
        end.and_then(|end| self.small.get(..end))
            .unwrap_or_default()
    }

    /// Its last letters; nothing where it has no more than these.
    fn end(&self, letters: usize) -> &str {
        let mut back = self.small.char_indices().rev();
        let start = back.nth(letters - 1).map(|(at, _)| at);
        let start = start.filter(|&start| start > 0);
        start
            .and_then(|start| self.small.get(start..))
            .unwrap_or_default()
    }
}

/// `X` for a run of capitals, `x` for one of small letters, `d` for one of digits, `c` for one of
/// Chinese characters; other signs as they are: `HbA1c` is `XxXdx`.
fn shape(word: &str) -> String {
    let mut shape = String::new();
    for c in word.chars() {
        let form = match c {
            c if is_cjk(c) => 'c',
            c if c.is_uppercase() => 'X',
            c if c.is_alphabetic() => 'x',
            c if c.is_numeric() => 'd',
            c => c,
        };
        if !shape.ends_with(form) {
            shape.push(form);
        }
    }
    shape
}

/// One letter for each thing that is in a word.
fn signs(word: &str) -> String {
    let roman = |c: char| matches!(c, 'I' | 'V' | 'X');
    let has = |what: fn(char) -> bool| word.contains(what);
    [
        ('d', has(char::is_numeric)),
        ('n', !has(|c| !c.is_numeric())),
        ('g', has(|c| matches!(c, '\u{370}'..='\u{3ff}'))),
        ('-', has(|c| matches!(c, '-' | '\u{2010}'..='\u{2015}'))),
        ('X', word.chars().skip(1).any(char::is_uppercase)),
        ('r', word.len() < 6 && word.chars().all(roman)),
        ('c', has(is_cjk)),
    ]
    .into_iter()
    .filter_map(|(sign, is_there)| is_there.then_some(sign))
    .collect()
}

/// The hash of a feature, as the head of this file describes it.
pub(super) fn hash(kind: u8, text: &str) -> u64 {
    let bytes = std::iter::once(kind).chain(text.bytes());
    let mut hash = fnv(bytes);
    hash ^= hash >> 33;
    hash = hash.wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash ^= hash >> 33;
    hash = hash.wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ hash >> 33
}

fn fnv(bytes: impl Iterator<Item = u8>) -> u64 {
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn buckets(count: usize) -> Buckets {
        Buckets::try_from(count).expect("in range")
    }

    fn words(text: &str) -> Vec<Span> {
        let start = |word: &str| word.as_ptr() as usize - text.as_ptr() as usize;
        let of = |word: &str| Span::new(start(word), start(word) + word.len());
        text.split_whitespace().map(of).collect()
    }

    fn rows(text: &str) -> Vec<[u32; WORD_FEATURES]> {
        word_features(text, &words(text), buckets(1 << 20))
    }

    /// The features, by their place, in which the first two words of a text agree, of those that are their own.
    fn agree(text: &str) -> Vec<usize> {
        let rows = rows(text);
        (0..10).filter(|&at| rows[0][at] == rows[1][at]).collect()
    }

    /// By another implementation of what the head of this file says.
    const FEVER: u64 = 0xb9e6_b724_5bb9_dbbf;

    /// Values of FNV-1a as its authors publish them, and one of the whole.
    #[test]
    fn the_hash_is_the_documented_one_and_never_changes() {
        let published = [
            ("", 0xcbf2_9ce4_8422_2325),
            ("a", 0xaf63_dc4c_8601_ec8c),
            ("foobar", 0x8594_4171_f739_67e8),
        ];
        for (text, value) in published {
            assert_eq!(fnv(text.bytes()), value);
        }
        assert_eq!(hash(b'w', "fever"), FEVER);
        assert_eq!(buckets(1 << 16).bucket(FEVER), (FEVER >> 48) as u32);
        assert_eq!(rows("Fever")[0][0], (FEVER >> 44) as u32);
    }

    #[test]
    fn words_share_what_they_have_in_common() {
        // Word, shape; beginnings of 2, 3, 4; ends of 2, 3, 4, 5; signs.
        assert_eq!(agree("gastritis gastric"), [1, 2, 3, 4, 9]);
        assert_eq!(agree("arthritis Bronchitis"), [5, 6, 7, 9]);
        assert_eq!(agree("HbA1c HcB22d")[0], 1, "shape");
        assert_eq!(agree("Fever fever"), [0, 2, 3, 4, 5, 6, 7, 8, 9]);
        assert_eq!(agree("120 135"), [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
    }

    #[test]
    fn a_word_knows_its_neighbours_and_the_bounds_of_the_text() {
        let rows = rows("high fever high fever");
        // Before it stands nothing, or a word; two before it likewise.
        assert_ne!(rows[0][11], rows[2][11]);
        assert_eq!(rows[1][11], rows[3][11]);
        assert_ne!(rows[1][10], rows[3][10]);
        // After it, with it, and how that ends.
        assert_ne!(rows[1][12], rows[3][12]);
        assert_eq!(rows[0][17], rows[2][17]);
        assert_ne!(rows[1][17], rows[3][17]);
        assert_eq!(rows[0][15], rows[2][15]);
    }

    #[test]
    fn shapes_and_signs_tell_what_is_in_a_word() {
        assert_eq!(shape("HbA1c"), "XxXdx");
        assert_eq!(shape("IL-12,000"), "X-d,d");
        assert_eq!(shape("肺炎é"), "cx");
        assert_eq!(signs("TNF-α"), "g-X");
        assert_eq!(signs("120"), "dn");
        assert_eq!((signs("IV"), signs("肺")), ("Xr".into(), "c".into()));
    }

    #[test]
    fn only_a_sound_number_of_buckets_is_taken() {
        for count in [0, Buckets::MOST + 1, usize::MAX] {
            assert_eq!(Buckets::try_from(count), Err(BucketsError(count)));
        }
        assert_eq!(buckets(Buckets::MOST).count(), Buckets::MOST);
        assert!(rows("").is_empty());
    }

    proptest! {
        #[test]
        fn any_words_of_any_text_have_features_in_range(
            text in any::<String>(),
            places in prop::collection::vec((0..40_usize, 0..40_usize), 0..8),
            count in 1..=Buckets::MOST,
        ) {
            let words: Vec<Span> = places.iter().map(|&(a, b)| Span::new(a, b)).collect();
            let rows = word_features(&text, &words, buckets(count));
            prop_assert_eq!(rows.len(), words.len());
            prop_assert!(rows.iter().flatten().all(|&id| (id as usize) < count));
        }
    }
}

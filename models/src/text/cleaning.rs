//! The text that everything after reads: one form for each letter, digit, quote, dash and space.
//!
//! Unicode form NFKC of each character with the marks on it, so that full-width letters and digits
//! become ASCII and `℃` becomes `°C`. It is not followed where it would change a quantity: `10⁹`
//! would become `109` and `1½` `11/2`, so a character that stands for a raised or enclosed number or
//! for a fraction stays as it is. Controls and marks without width are dropped, white space becomes
//! one space, one line end or one empty line. Nothing else changes: abbreviations and case stay.
//!
//! Every byte range of the cleaned text has its range in the original, and the other way round. Both
//! texts are cut into the same row of pieces; a piece is copied byte by byte or replaced as a whole.
//! What is dropped belongs to the piece before it (at the very start, behind it), so that no piece is
//! empty and nothing gets lost between two.

use std::{fmt, iter};

use unicode_normalization::{
    IsNormalized, UnicodeNormalization, char::canonical_combining_class, is_nfkc_quick,
};

use super::{Span, language::is_han};

/// A text in its normal form, which knows where each part of it came from.
#[derive(Clone, PartialEq, Eq)]
pub struct Cleaned {
    text: String,
    /// In the order of both texts; together they cover both.
    pieces: Vec<Piece>,
    /// Bytes of the original.
    original: usize,
}

/// Where a piece starts in both texts; it ends where the next one starts.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Piece {
    cleaned: usize,
    original: usize,
    copied: bool,
}

impl Cleaned {
    /// Cleans a text. Cleaning a cleaned text changes nothing.
    pub fn new(original: &str) -> Self {
        let mut cleaned = Self {
            text: String::with_capacity(original.len()),
            pieces: Vec::new(),
            original: original.len(),
        };
        let mut cluster = String::new();
        let mut form = String::new();
        let mut rest = original;
        while let Some(first) = take(&mut rest, |_| true) {
            let start = original.len() - rest.len() - first.len_utf8();
            if is_dropped(first) {
                cleaned.part_last();
                continue;
            }
            cluster.clear();
            // A line end of two characters is one line end.
            let carriage = first == '\r' && rest.starts_with('\n');
            cluster.push(if carriage { ' ' } else { fold(first) });
            while let Some(next) = take(&mut rest, |next| is_dropped(next) || joins(next)) {
                if !is_dropped(next) {
                    cluster.push(next);
                }
            }
            let form = if cluster.is_ascii() || is_plain_han(&cluster) {
                &cluster
            } else {
                form.clear();
                if keeps_form(first) {
                    form.extend(cluster.nfc());
                } else {
                    form.extend(cluster.nfkc().map(fold));
                }
                &form
            };
            let end = original.len() - rest.len();
            let copied = original.get(start..end) == Some(form);
            cleaned.push(form, start, copied);
        }
        cleaned
    }

    /// The cleaned text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Where a range of the cleaned text came from.
    ///
    /// Never fails: a range that reaches beyond the text is cut, one that cuts a character grows to
    /// hold it, one that covers nothing covers nothing of the original. All of the cleaned text is
    /// all of the original.
    pub fn original(&self, span: Span) -> Span {
        if self.text.is_empty() {
            return Span::new(0, self.original);
        }
        let sides = |piece: &Piece| (piece.cleaned, piece.original);
        self.across(span, self.text.len(), self.original, sides)
    }

    /// Where a range of the original lies in the cleaned text: the least that holds all of it.
    ///
    /// Never fails, in the same way as [`Cleaned::original`].
    pub fn cleaned(&self, span: Span) -> Span {
        let sides = |piece: &Piece| (piece.original, piece.cleaned);
        self.across(span, self.original, self.text.len(), sides)
    }

    /// A range of one text, `len` bytes long, in the other, `other` bytes long.
    fn across(
        &self,
        span: Span,
        len: usize,
        other: usize,
        sides: impl Fn(&Piece) -> (usize, usize),
    ) -> Span {
        let end = span.end.min(len);
        let start = span.start.min(end);
        // A copied piece is the same bytes on both sides, so the cleaned text knows its characters.
        let inside = |piece: &Piece, at: usize, boundary: fn(&str, usize) -> usize| {
            let at = piece.cleaned + (at - sides(piece).0);
            sides(piece).1 + (boundary(&self.text, at) - piece.cleaned)
        };
        let behind = self.pieces.partition_point(|piece| sides(piece).0 <= start);
        let first = match self.piece_before(behind) {
            Some(piece) if piece.copied => inside(piece, start, str::floor_char_boundary),
            Some(piece) => sides(piece).1,
            None => 0,
        };
        if start == end {
            return Span::new(first, first);
        }
        let behind = self.pieces.partition_point(|piece| sides(piece).0 < end);
        let last = match self.piece_before(behind) {
            Some(piece) if piece.copied => inside(piece, end, str::ceil_char_boundary),
            _ => self.pieces.get(behind).map_or(other, |next| sides(next).1),
        };
        Span::new(first, last)
    }

    fn piece_before(&self, behind: usize) -> Option<&Piece> {
        self.pieces.get(behind.checked_sub(1)?)
    }

    /// Adds what became of the original from `start` on.
    fn push(&mut self, form: &str, start: usize, copied: bool) {
        let (mut form, mut copied) = (form, copied);
        if self.text.ends_with(char::is_whitespace)
            && let Some(space) = take(&mut form, char::is_whitespace)
        {
            self.widen_last(space == '\n');
            if form.is_empty() {
                return;
            }
            copied = false;
        }
        // What was dropped before the first piece belongs to it.
        let drops = self.pieces.is_empty() && start > 0;
        copied = copied && !drops;
        let goes_on = copied && self.pieces.last().is_some_and(|last| last.copied);
        if !goes_on {
            self.pieces.push(Piece {
                cleaned: self.text.len(),
                original: if drops { 0 } else { start },
                copied,
            });
        }
        self.text.push_str(form);
    }

    /// More white space behind white space: it adds nothing unless it ends a line.
    fn widen_last(&mut self, ends_line: bool) {
        self.part_last();
        if ends_line && self.text.ends_with(' ') {
            self.text.pop();
            self.text.push('\n');
        } else if ends_line && !self.text.ends_with("\n\n") {
            self.text.push('\n');
        }
    }

    /// Makes the last character a piece of its own, so that it can stand for more of the original.
    fn part_last(&mut self) {
        let Some(last) = self.pieces.last_mut() else {
            return;
        };
        let character = self.text.chars().next_back().map_or(0, char::len_utf8);
        let cleaned = self.text.len() - character;
        if !last.copied || last.cleaned == cleaned {
            last.copied = false;
            return;
        }
        let original = last.original + (cleaned - last.cleaned);
        self.pieces.push(Piece {
            cleaned,
            original,
            copied: false,
        });
    }
}

/// Written by hand: the text is patient data.
impl fmt::Debug for Cleaned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (cleaned, original) = (self.text.len(), self.original);
        write!(f, "Cleaned({cleaned} bytes from {original})")
    }
}

/// Takes the first character off a text if it is wanted.
fn take(rest: &mut &str, wanted: impl Fn(char) -> bool) -> Option<char> {
    let mut chars = rest.chars();
    let first = chars.next().filter(|&first| wanted(first))?;
    *rest = chars.as_str();
    Some(first)
}

/// Controls, marks without width, marks of direction, selectors of glyphs.
fn is_dropped(c: char) -> bool {
    match c {
        ' '..='~' => false,
        '\u{AD}' | '\u{34F}' | '\u{61C}' | '\u{180B}'..='\u{180F}' | '\u{FEFF}' => true,
        '\u{200B}'..='\u{200F}' | '\u{202A}'..='\u{202E}' | '\u{2060}'..='\u{206F}' => true,
        '\u{FE00}'..='\u{FE0F}' | '\u{FFF9}'..='\u{FFFB}' | '\u{E0000}'..='\u{E0FFF}' => true,
        c => c.is_control() && !c.is_whitespace(),
    }
}

/// One sign for all that look or mean the same.
fn fold(c: char) -> char {
    match c {
        '!'..='~' => c,
        '‘' | '’' | '‚' | '‛' | '′' | '´' | 'ʼ' => '\'',
        '“' | '”' | '„' | '‟' | '″' => '"',
        '‐' | '‑' | '‒' | '–' | '—' | '―' | '−' | '﹘' => '-',
        '⁄' | '∕' => '/',
        '\n' | '\r' | '\u{B}' | '\u{C}' | '\u{85}' | '\u{2028}' | '\u{2029}' => '\n',
        c if c.is_whitespace() => ' ',
        c => c,
    }
}

/// Whether a character may melt into the one before it: accents, vowels of a Hangul syllable.
fn joins(c: char) -> bool {
    if c < '\u{300}' || is_han(c) {
        return false;
    }
    let first = iter::once(c).nfkd().next().unwrap_or(c);
    canonical_combining_class(first) != 0 || is_nfkc_quick(iter::once(first)) == IsNormalized::Maybe
}

/// Whether this is one character of the block of Han characters that have no other form.
fn is_plain_han(cluster: &str) -> bool {
    let mut chars = cluster.chars();
    matches!(chars.next(), Some('\u{4E00}'..='\u{9FFF}')) && chars.next().is_none()
}

/// Whether the compatible form would read as another quantity: raised or enclosed numbers, fractions.
fn keeps_form(c: char) -> bool {
    match c {
        '\0'..='\u{7F}' => false,
        'ª' | 'º' | '\u{2070}'..='\u{207F}' => true,
        // Lowered, full-width, mathematical and segmented digits are digits.
        '\u{2080}'..='\u{2089}' | '\u{FF10}'..='\u{FF19}' => false,
        '\u{1D7CE}'..='\u{1D7FF}' | '\u{1FBF0}'..='\u{1FBF9}' => false,
        c => iter::once(c)
            .nfkd()
            .next()
            .is_some_and(|first| first.is_ascii_digit()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn clean(text: &str) -> String {
        Cleaned::new(text).text().to_owned()
    }

    #[test]
    fn each_sign_has_one_form() {
        assert_eq!(clean("ＣＲＰ　１２．５ｍｇ／Ｌ"), "CRP 12.5mg/L");
        assert_eq!(clean("“no” – it’s 38−39 ℃"), "\"no\" - it's 38-39 °C");
        assert_eq!(clean("cafe\u{301} ｶﾞ"), "café ガ");
        assert_eq!(clean("ﬁbrosis, CO₂, ㎎, Ⅱ型"), "fibrosis, CO2, mg, II型");
        assert_eq!(clean("Dr. b.i.d. COPD"), "Dr. b.i.d. COPD");
    }

    #[test]
    fn quantities_stay_what_they_are() {
        for text in ["10⁹/L", "1½ tablets", "①38", "⒈5mg", "Ca²⁺", "10⁻⁹", "38º"] {
            assert_eq!(clean(text), text);
        }
    }

    #[test]
    fn what_cannot_be_seen_is_dropped() {
        assert_eq!(
            clean("\u{FEFF}a\0b\u{200B}c\u{AD}d \u{202E}e\u{7F}"),
            "abcd e"
        );
        assert_eq!(clean("\0\u{1}\u{200D}"), "");
    }

    #[test]
    fn lines_and_empty_lines_stay_and_other_white_space_is_one_space() {
        assert_eq!(
            clean("a \t b\r\nc\rd\n  e \n \r\n\n f"),
            "a b\nc\nd\ne\n\nf"
        );
        assert_eq!(clean("a\u{2028}b\u{A0}\u{3000}c \u{200B} d"), "a\nb c d");
    }

    #[test]
    fn a_finding_is_found_back_in_the_original() {
        let original = "发热\u{200B}　３９．５℃,  “chest\u{AD} pain”";
        let cleaned = Cleaned::new(original);
        for (found, meant) in [
            ("39.5", "３９．５"),
            ("°C", "℃"),
            ("C", "℃"),
            ("chest pain", "chest\u{AD} pain"),
            ("发热", "发热\u{200B}"),
        ] {
            let start = cleaned.text().find(found).expect("in the text");
            let span = Span::new(start, start + found.len());
            assert_eq!(cleaned.original(span).of(original), Some(meant));
        }
        let start = original.find('９').expect("in the text");
        let nine = cleaned.cleaned(Span::new(start, start + 3));
        assert_eq!(nine.of(cleaned.text()), Some("9"));
    }

    #[test]
    fn wild_ranges_are_cut_to_the_text() {
        let cleaned = Cleaned::new("发 热");
        let all = Span::new(0, 7);
        assert_eq!(cleaned.original(Span::new(0, usize::MAX)), all);
        assert_eq!(cleaned.original(Span::new(1, 2)), Span::new(0, 3));
        assert_eq!(cleaned.cleaned(Span::new(usize::MAX, 2)), Span::new(0, 0));
        assert!(cleaned.original(Span::new(9, 7)).is_empty());
        assert_eq!(Cleaned::new("").original(all), Span::new(0, 0));
        assert_eq!(Cleaned::new("\0\0").original(all), Span::new(0, 2));
    }

    #[test]
    fn marks_without_end_take_no_time_without_end() {
        let text = format!("a{}", "\u{301}\u{323}".repeat(200_000));
        assert_eq!(Cleaned::new(&text).text().chars().count(), 400_000);
        let controls = "\0".repeat(1_000_000);
        assert_eq!(clean(&controls), "");
    }

    /// Text of all that is treated in a special way, and of everything else.
    fn texts() -> impl Strategy<Value = String> {
        let special = prop::sample::select(vec![
            "a", "Z", "9", ".", " ", "\n", "\r\n", "\t", "\u{200B}", "\0", "\u{301}", "\u{323}",
            "\u{338}", "\u{3099}", "ｶ", "ﾞ", "\u{1100}", "\u{1161}", "\u{11A8}", "\u{FFA0}", "´",
            "¨", "℃", "½", "²", "①", "—", "”", "发", "，", "\u{F900}", "\u{FDFA}", "\u{3000}", "é",
            "\u{344}", "<", "=", "\u{9BE}", "\u{9C7}", "\u{85}", "\u{FEFF}", "ﬁ", "\u{1F82}",
        ]);
        let any = any::<char>().prop_map(String::from);
        let part = prop_oneof![4 => special.prop_map(String::from), 1 => any];
        prop::collection::vec(part, 0..24).prop_map(|parts| parts.concat())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn cleaning_twice_is_cleaning_once(text in texts()) {
            let once = clean(&text);
            prop_assert_eq!(clean(&once), once.clone());
            prop_assert!(!once.contains(is_dropped), "{once:?}");
        }

        #[test]
        fn any_range_falls_on_characters_and_keeps_its_order(
            text in texts(), a in 0..99_usize, b in 0..99_usize, c in 0..99_usize, d in 0..99_usize
        ) {
            let cleaned = Cleaned::new(&text);
            let (inner, outer) = (Span::new(a, b), Span::new(a.min(c), b.max(d)));
            for (length, back) in [(cleaned.text().len(), true), (text.len(), false)] {
                let map = |span| if back { cleaned.original(span) } else { cleaned.cleaned(span) };
                let other = if back { text.as_str() } else { cleaned.text() };
                prop_assert!(map(inner).of(other).is_some());
                prop_assert_eq!(map(Span::new(0, length)), Span::new(0, other.len()));
                let cut = |span: Span| Span::new(span.start.min(length), span.end.min(length));
                if !cut(inner).is_empty() {
                    prop_assert!(map(outer).holds(map(inner)));
                    prop_assert!(back || cleaned.text().is_empty() || !map(inner).is_empty());
                }
                prop_assert!(map(Span::new(a.min(b), a.min(b))).start <= map(Span::new(a.max(b), 99)).start);
            }
        }

        #[test]
        fn there_and_back_covers_the_range(text in texts(), a in 0..99_usize, b in 0..99_usize) {
            let cleaned = Cleaned::new(&text);
            let span = Span::new(a.min(b).min(text.len()), a.max(b).min(text.len()));
            let back = cleaned.original(cleaned.cleaned(span));
            prop_assert!(span.is_empty() || back.holds(span), "{span:?} {back:?}");
            let forth = cleaned.cleaned(cleaned.original(span));
            let cut = Span::new(span.start.min(cleaned.text().len()), span.end.min(cleaned.text().len()));
            prop_assert!(cut.is_empty() || forth.holds(cut), "{cut:?} {forth:?}");
        }
    }
}

//! One spelling for what is written in several: the rules see plain digits, hyphens and quotes.
//!
//! Full-width forms, Arabic-Indic digits, typographic hyphens and quotes become ASCII; marks without
//! width (direction marks, soft hyphens, joiners), which would hide an identifier from the rules, go.

use std::{borrow::Cow, ops::Range};

/// A text as the rules see it, and the way back.
pub(super) struct Folded<'t> {
    text: Cow<'t, str>,
    /// Where folded and original offsets part ways: from `.0` on, the original is at `.1`.
    steps: Vec<(usize, usize)>,
    original: &'t str,
}

impl<'t> Folded<'t> {
    pub(super) fn new(text: &'t str) -> Self {
        let Some((first, _)) = text.char_indices().find(|&(_, c)| fold(c) != Some(c)) else {
            return Self {
                text: Cow::Borrowed(text),
                steps: Vec::new(),
                original: text,
            };
        };
        let mut folded = String::with_capacity(text.len());
        folded.push_str(&text[..first]); // `first` begins a character
        let mut steps = Vec::new();
        let mut offset = 0; // original minus folded; never negative: nothing grows
        for (at, c) in text[first..].char_indices() {
            let at = first + at;
            if at - folded.len() != offset {
                offset = at - folded.len();
                steps.push((folded.len(), at));
            }
            folded.extend(fold(c));
        }
        if text.len() - folded.len() != offset {
            steps.push((folded.len(), text.len()));
        }
        Self {
            text: Cow::Owned(folded),
            steps,
            original: text,
        }
    }

    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// Where a range of the folded text came from. Both ends must lie between its characters.
    pub(super) fn original(&self, range: &Range<usize>) -> Range<usize> {
        let start = self.offset(range.start);
        // The end is that of the last character, not the start of the next: marks without width
        // between the two stay outside.
        let within = self.text.get(..range.end).unwrap_or_default();
        let end = within
            .char_indices()
            .next_back()
            .map_or(start, |(last, _)| {
                let last = self.offset(last);
                let rest = self.original.get(last..).unwrap_or_default();
                last + rest.chars().next().map_or(0, char::len_utf8)
            });
        start..end.max(start)
    }

    fn offset(&self, folded: usize) -> usize {
        let after = self.steps.partition_point(|&(from, _)| from <= folded);
        match after.checked_sub(1).and_then(|at| self.steps.get(at)) {
            Some(&(from, original)) => original + (folded - from),
            None => folded,
        }
    }
}

/// What stands for a character, if anything. Never longer than the character.
fn fold(c: char) -> Option<char> {
    match c {
        '\0'..='\x7f' => Some(c),
        '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' => None,
        '\u{2060}'..='\u{2069}' | '\u{feff}' => None,
        '\u{a0}' | '\u{2002}'..='\u{200a}' | '\u{202f}' | '\u{3000}' => Some(' '),
        '\u{2010}'..='\u{2015}' | '\u{2212}' => Some('-'),
        '\u{2018}' | '\u{2019}' | '\u{2bc}' | '\u{b4}' => Some('\''),
        '\u{ff01}'..='\u{ff5e}' => char::from_u32(u32::from(c) - 0xfee0),
        '\u{660}'..='\u{669}' => char::from_u32(u32::from(c) - 0x660 + 0x30),
        '\u{6f0}'..='\u{6f9}' => char::from_u32(u32::from(c) - 0x6f0 + 0x30),
        _ => Some(c),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_of_the_folded_text_leads_back_to_what_was_written() {
        let text = "ID：１２\u{200b}３4 ‐ é\u{202c}x";
        let folded = Folded::new(text);
        assert_eq!(folded.text(), "ID:1234 - éx");
        for (part, written) in [
            ("ID", "ID"),
            (":", "："),
            ("1234", "１２\u{200b}３4"),
            ("-", "‐"),
            ("é", "é"),
            ("x", "x"),
        ] {
            let start = folded.text().find(part).expect("in the text");
            let range = folded.original(&(start..start + part.len()));
            assert_eq!(&text[range], written);
        }
        let plain = Folded::new("as it is");
        assert_eq!(plain.original(&(3..5)), 3..5);
    }
}

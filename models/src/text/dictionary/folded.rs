//! The form in which terms and text are compared, and where each part of it came from.

use unicode_normalization::{UnicodeNormalization as _, char::canonical_combining_class};

use crate::text::Span;

/// A text in the form that is compared, which knows where each part came from.
pub(super) struct Folded {
    /// The form.
    pub(super) text: String,
    pieces: Vec<Piece>,
}

/// A part of both texts.
struct Piece {
    /// Where its form starts.
    folded: usize,
    /// Where it came from.
    original: Span,
    /// Whether its characters have as many bytes as their forms, one by one.
    aligned: bool,
}

impl Folded {
    /// Brings a text into the form.
    pub(super) fn new(text: &str) -> Self {
        let mut folded = Self {
            text: String::with_capacity(text.len()),
            pieces: Vec::new(),
        };
        let mut rest = text.char_indices().peekable();
        while let Some((start, first)) = rest.next() {
            let follows: fn(char) -> bool = if is_separator(first) {
                is_separator
            } else {
                is_attached
            };
            let mut end = start + first.len_utf8();
            let mut alone = true;
            while let Some((at, next)) = rest.next_if(|&(_, next)| follows(next)) {
                end = at + next.len_utf8();
                alone = false;
            }
            let original = Span::new(start, end);
            if is_separator(first) {
                folded.push(" ", original);
            } else if alone && (first.is_ascii() || matches!(first, '\u{4e00}'..='\u{9fff}')) {
                let mut form = [0; 4];
                folded.push(first.to_ascii_lowercase().encode_utf8(&mut form), original);
            } else {
                let kept = original.of(text).unwrap_or_default().chars();
                let form: String = kept
                    .filter(|&c| !is_ignored(c))
                    .nfkd()
                    .filter(|c| !matches!(c, '\u{300}'..='\u{36f}'))
                    .nfc()
                    .flat_map(char::to_lowercase)
                    .map(|c| if is_separator(c) { ' ' } else { c })
                    .map(|c| {
                        if matches!(c, '‘' | '’' | 'ʼ') {
                            '\''
                        } else {
                            c
                        }
                    })
                    // Some capitals become a letter and a mark.
                    .filter(|c| !matches!(c, '\u{300}'..='\u{36f}'))
                    .collect();
                folded.push(&form, original);
            }
        }
        folded
    }

    fn push(&mut self, form: &str, original: Span) {
        // Separate runs of spaces meet where something between them has no form.
        let form = if self.text.ends_with(' ') {
            form.trim_start_matches(' ')
        } else {
            form
        };
        if form.is_empty() {
            return;
        }
        let aligned = form.len() == original.len() && form.chars().nth(1).is_none();
        match self.pieces.last_mut() {
            Some(last) if aligned && last.aligned && last.original.end == original.start => {
                last.original.end = original.end;
            }
            _ => self.pieces.push(Piece {
                folded: self.text.len(),
                original,
                aligned,
            }),
        }
        self.text.push_str(form);
    }

    /// Where a part of the form came from; whole characters, of which it may be a part.
    pub(super) fn original(&self, start: usize, end: usize) -> Span {
        let before = |at: usize| {
            let behind = self.pieces.partition_point(|piece| piece.folded <= at);
            behind.checked_sub(1).and_then(|at| self.pieces.get(at))
        };
        let start = before(start).map_or(0, |piece| match piece.aligned {
            true => piece.original.start + (start - piece.folded),
            false => piece.original.start,
        });
        let end = before(end.saturating_sub(1)).map_or(start, |piece| match piece.aligned {
            true => piece.original.start + (end - piece.folded),
            false => piece.original.end,
        });
        Span::new(start, end)
    }
}

/// White space and hyphens.
fn is_separator(c: char) -> bool {
    c.is_whitespace() || matches!(c, '-' | '\u{2010}'..='\u{2015}' | '\u{2212}' | '\u{ff0d}')
}

/// Whether a character is read with the one before it.
fn is_attached(c: char) -> bool {
    !c.is_ascii() && (is_ignored(c) || canonical_combining_class(c) != 0)
}

/// Characters that are not seen: soft hyphens, joiners, byte order marks.
fn is_ignored(c: char) -> bool {
    matches!(
        c,
        '\u{ad}' | '\u{200b}'..='\u{200d}' | '\u{2060}' | '\u{feff}'
    )
}

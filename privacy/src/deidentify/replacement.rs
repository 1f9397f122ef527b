//! A text with stand-ins where its identifiers were, and how positions carry over.

use std::{fmt, ops::Range};

use ring::hmac;

use super::{Found, Kind, dates, folding::Folded, names, shifting};
use crate::pseudonym::PseudonymKey;

/// One identifier and its stand-in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replacement {
    /// What was replaced.
    pub kind: Kind,
    /// Where it was in the original, in bytes.
    pub original: Range<usize>,
    /// Where its stand-in is in the new text, in bytes.
    pub replaced: Range<usize>,
}

/// A text without its identifiers.
#[derive(Clone, PartialEq, Eq)]
pub struct Deidentified {
    text: String,
    replacements: Vec<Replacement>,
    original_len: usize,
}

impl Deidentified {
    /// The new text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Takes the new text out.
    pub fn into_text(self) -> String {
        self.text
    }

    /// What was replaced, in order; no two overlap.
    pub fn replacements(&self) -> &[Replacement] {
        &self.replacements
    }

    /// Where a range of the original is now. What lies inside an identifier maps to its whole
    /// stand-in. None when the range does not lie within the original.
    pub fn map(&self, original: Range<usize>) -> Option<Range<usize>> {
        let places = |replacement: &Replacement| {
            (replacement.original.clone(), replacement.replaced.clone())
        };
        self.carry(original, self.original_len, places)
    }

    /// Where a range of the new text was in the original: the way back from [`map`](Self::map).
    pub fn map_back(&self, replaced: Range<usize>) -> Option<Range<usize>> {
        let places = |replacement: &Replacement| {
            (replacement.replaced.clone(), replacement.original.clone())
        };
        self.carry(replaced, self.text.len(), places)
    }

    fn carry(
        &self,
        range: Range<usize>,
        len: usize,
        places: impl Fn(&Replacement) -> (Range<usize>, Range<usize>),
    ) -> Option<Range<usize>> {
        if range.start > range.end || range.end > len {
            return None;
        }
        // The last replacement that begins before a position decides: the position is inside it, or
        // as far behind its end as before.
        let carried = |at: usize, begins: bool| {
            let before = self.replacements.partition_point(|replacement| {
                let start = places(replacement).0.start;
                if begins { start <= at } else { start < at }
            });
            let Some(last) = before.checked_sub(1).and_then(|i| self.replacements.get(i)) else {
                return at;
            };
            let (from, to) = places(last);
            match at {
                _ if at >= from.end => to.end + (at - from.end),
                _ if begins => to.start,
                _ => to.end,
            }
        };
        let start = carried(range.start, true);
        let end = if range.is_empty() {
            start
        } else {
            carried(range.end, false)
        };
        Some(start..end)
    }
}

impl fmt::Debug for Deidentified {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The new text is still a patient's note, and rules miss things.
        f.debug_struct("Deidentified")
            .field("text", &"[redacted]")
            .field("replacements", &self.replacements.len())
            .finish()
    }
}

/// Writes the text anew.
pub(super) fn replace(
    text: &str,
    found: &[Found],
    key: &PseudonymKey,
    patient: &str,
) -> Deidentified {
    let days = days_of(key, patient);
    let dates = found.iter().filter(|found| found.kind == Kind::Date);
    let order = dates::order(dates.filter_map(|found| text.get(found.range.clone())));
    let mut new = String::with_capacity(text.len());
    let mut replacements = Vec::with_capacity(found.len());
    let mut done = 0;
    for Found { kind, range } in found {
        new.push_str(&text[done..range.start]); // `find` gives ranges in order, between characters
        let start = new.len();
        let original = &text[range.clone()];
        match kind {
            Kind::Age => new.push_str("90+"),
            Kind::Date => match shifting::moved(original, days, order) {
                Some(date) => new.push_str(&date),
                None => new.push_str(&stand_in(*kind, original, key)),
            },
            Kind::Name => {
                let (title, name) = names::split_title(original);
                new.push_str(title);
                new.push_str(&stand_in(*kind, name, key));
            }
            _ => new.push_str(&stand_in(*kind, original, key)),
        }
        done = range.end;
        replacements.push(Replacement {
            kind: *kind,
            original: range.clone(),
            replaced: start..new.len(),
        });
    }
    new.push_str(&text[done..]);
    Deidentified {
        text: new,
        replacements,
        original_len: text.len(),
    }
}

/// Label and eight hexadecimal digits of a keyed hash: among 3,000 names, two share a stand-in with
/// a chance of 1 in 1,000.
fn stand_in(kind: Kind, identifier: &str, key: &PseudonymKey) -> String {
    let plain: String = Folded::new(identifier)
        .text()
        .chars()
        .filter(|c| c.is_alphanumeric())
        .flat_map(char::to_lowercase)
        .collect();
    let label = kind.label();
    let pseudonym = key.pseudonym(&format!("de-identification\0{label}\0{plain}"));
    let digits: String = pseudonym.to_string().chars().take(8).collect();
    format!("[{label}-{digits}]")
}

/// How far the dates of a patient move: whole weeks keep the day of the week; never none.
fn days_of(key: &PseudonymKey, patient: &str) -> i64 {
    let key = hmac::Key::new(hmac::HMAC_SHA256, key.as_bytes());
    let mut message = b"consilium/date-shift/1\0".to_vec();
    message.extend(patient.as_bytes());
    let tag = hmac::sign(&key, &message);
    let number = tag
        .as_ref()
        .iter()
        .take(8)
        .fold(0_u64, |number, &byte| number << 8 | u64::from(byte));
    let weeks = (number % 104) as i64 - 52; // -52 to 51
    7 * if weeks >= 0 { weeks + 1 } else { weeks }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_move_by_whole_weeks_up_to_a_year_and_never_stay() {
        let key = PseudonymKey::from_bytes([7; 32]);
        let mut seen = std::collections::BTreeSet::new();
        for patient in 0..3_000 {
            let days = days_of(&key, &patient.to_string());
            assert!(days != 0 && days % 7 == 0 && (-364..=364).contains(&days));
            assert_eq!(days, days_of(&key, &patient.to_string()));
            seen.insert(days);
        }
        assert_eq!(seen.len(), 104);
        assert_ne!(
            (0..20)
                .map(|i| days_of(&key, &i.to_string()))
                .collect::<Vec<_>>(),
            (0..20)
                .map(|i| days_of(&PseudonymKey::from_bytes([8; 32]), &i.to_string()))
                .collect::<Vec<_>>()
        );
    }
}

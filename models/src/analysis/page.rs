//! A cleaned note, cut into words, sentences and sections, and the figures that stand in it.

use crate::text::{Section, SectionKind, Span, sections, sentences, words};

/// A cleaned note with its parts. All places are those of the cleaned text.
pub(super) struct Page<'a> {
    pub(super) text: &'a str,
    pub(super) words: Vec<Span>,
    pub(super) sentences: Vec<Span>,
    pub(super) sections: Vec<Section>,
}

/// A number as it is written: `120`, `<5`, `38-39`.
#[derive(Clone, Copy, PartialEq)]
pub(super) struct Figure {
    pub(super) span: Span,
    pub(super) low: f64,
    /// Of a range; else the same as `low`.
    pub(super) high: f64,
    pub(super) bound: Option<Bound>,
    /// The word behind it.
    pub(super) next: usize,
}

/// On which side of a number the value lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Bound {
    /// Below it, or the same.
    Below,
    /// Above it, or the same.
    Above,
    /// From one number to another.
    Between,
}

const BELOW: [&str; 7] = ["<", "≤", "below", "under", "低于", "小于", "不足"];
const ABOVE: [&str; 8] = [
    ">",
    "≥",
    "above",
    "over",
    "高于",
    "大于",
    "超过",
    "exceeding",
];
const ABOUT: [&str; 6] = ["~", "≈", "about", "around", "approximately", "约"];
const UP_TO: [&str; 4] = ["-", "~", "to", "至"];

impl<'a> Page<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self {
            text,
            words: words(text),
            sentences: sentences(text),
            sections: sections(text),
        }
    }

    /// A word; nothing behind the last one.
    pub(super) fn word(&self, at: usize) -> &'a str {
        self.words
            .get(at)
            .and_then(|word| word.of(self.text))
            .unwrap_or_default()
    }

    /// The first word that starts at or behind a place.
    pub(super) fn from(&self, place: usize) -> usize {
        self.words.partition_point(|word| word.start < place)
    }

    /// Where the sentence that holds a place ends.
    pub(super) fn sentence_end(&self, place: usize) -> usize {
        let at = self
            .sentences
            .partition_point(|sentence| sentence.end <= place);
        self.sentences
            .get(at)
            .map_or(self.text.len(), |sentence| sentence.end)
    }

    /// Where the sentence that holds a place starts.
    pub(super) fn sentence_start(&self, place: usize) -> usize {
        let at = self
            .sentences
            .partition_point(|sentence| sentence.end <= place);
        self.sentences
            .get(at)
            .map_or(place, |sentence| sentence.start.min(place))
    }

    /// What the section that holds a place is about.
    pub(super) fn section(&self, place: usize) -> SectionKind {
        let at = self
            .sections
            .partition_point(|section| section.span.end <= place);
        self.sections
            .get(at)
            .map_or(SectionKind::Other, |section| section.kind)
    }

    /// The text from one place to another; nothing where that is no piece of it.
    pub(super) fn between(&self, start: usize, end: usize) -> &'a str {
        self.text.get(start..end).unwrap_or_default()
    }

    /// Whether one of some words, in small letters, starts at a word; the word behind it.
    pub(super) fn starts_with(&self, at: usize, words: &[&str]) -> Option<usize> {
        let start = self.words.get(at)?.start;
        let rest = self.text.get(start..)?;
        let end = words.iter().filter_map(|word| {
            let found = rest.get(..word.len())?;
            found
                .eq_ignore_ascii_case(word)
                .then_some(start + word.len())
        });
        // A word of letters has to end where a word of the text ends.
        end.filter_map(|end| {
            let last = self.words.partition_point(|word| word.start < end);
            let whole = self.words.get(last.checked_sub(1)?)?.end == end;
            whole.then_some(last)
        })
        .max()
    }

    /// The number at a word.
    pub(super) fn number(&self, at: usize) -> Option<f64> {
        parse(self.word(at))
    }

    /// The figure at a word, if one starts there. Dates, fractions and ratios are none.
    pub(super) fn figure(&self, at: usize) -> Option<Figure> {
        let (mut bound, mut first) = (None, at);
        if let Some(next) = self.starts_with(at, &ABOUT) {
            first = next;
        }
        for (words, side) in [(&BELOW[..], Bound::Below), (&ABOVE[..], Bound::Above)] {
            if let Some(next) = self.starts_with(first, words) {
                first = self.starts_with(next, &["="]).unwrap_or(next);
                bound = Some(side);
                break;
            }
        }
        let low = self.number(first)?;
        let figure = |high, bound, last: usize| {
            let end = self.words.get(last)?.end;
            let start = self.words.get(at)?.start;
            Some(Figure {
                span: Span::new(start, end),
                low,
                high,
                bound,
                next: last + 1,
            })
        };
        let joint = |at: usize| {
            let number = self.number(at + 1).is_some();
            matches!(self.word(at), "/" | "-" | ":" | ".") && number
        };
        if bound.is_none()
            && let Some(next) = self.starts_with(first + 1, &UP_TO)
            && let Some(high) = self.number(next)
        {
            let is_range = high > low && !joint(next + 1);
            return is_range.then(|| figure(high, Some(Bound::Between), next))?;
        }
        if joint(first + 1) {
            return None;
        }
        figure(low, bound, first)
    }
}

/// A number with a decimal point, and commas between thousands only: `3,5` may mean two things.
fn parse(word: &str) -> Option<f64> {
    if !word.starts_with(|c: char| c.is_ascii_digit()) || word.len() > 15 {
        return None;
    }
    if word.contains(',') {
        let mut groups = word.split('.').next()?.split(',');
        let is_first = groups
            .next()
            .is_some_and(|first| (1..=3).contains(&first.len()));
        if !is_first || !groups.all(|group| group.len() == 3) {
            return None;
        }
    }
    let number: f64 = word.replace(',', "").parse().ok()?;
    number.is_finite().then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figure(text: &str) -> Option<(f64, f64, Option<Bound>, String)> {
        let page = Page::new(text);
        let figure = page.figure(0)?;
        let said = figure.span.of(text).unwrap_or_default().to_owned();
        Some((figure.low, figure.high, figure.bound, said))
    }

    #[test]
    fn figures_are_numbers_bounds_and_ranges() {
        let said = |text: &str| text.to_owned();
        assert_eq!(figure("120 mg"), Some((120.0, 120.0, None, said("120"))));
        assert_eq!(
            figure("12,500"),
            Some((12500.0, 12500.0, None, said("12,500")))
        );
        assert_eq!(
            figure("<5 mg"),
            Some((5.0, 5.0, Some(Bound::Below), said("<5")))
        );
        assert_eq!(
            figure(">= 95%"),
            Some((95.0, 95.0, Some(Bound::Above), said(">= 95")))
        );
        assert_eq!(
            figure("低于90"),
            Some((90.0, 90.0, Some(Bound::Below), said("低于90")))
        );
        assert_eq!(
            figure("about 40"),
            Some((40.0, 40.0, None, said("about 40")))
        );
        assert_eq!(
            figure("38-39 C"),
            Some((38.0, 39.0, Some(Bound::Between), said("38-39")))
        );
        assert_eq!(
            figure("5 to 10"),
            Some((5.0, 10.0, Some(Bound::Between), said("5 to 10")))
        );
    }

    #[test]
    fn dates_ratios_and_what_may_mean_two_things_are_none() {
        for text in [
            "2020-01-02",
            "3/4",
            "12/3/2020",
            "10:30",
            "3,5",
            "10-5",
            "x",
            "",
        ] {
            assert_eq!(figure(text), None, "{text}");
        }
    }
}

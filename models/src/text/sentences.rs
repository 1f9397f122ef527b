//! From a text to its sentences, each by its place.
//!
//! English ends a sentence with `.`, `!` or `?` and white space, unless the stop belongs to an
//! abbreviation, a number or the number of a list item. Chinese ends it with 。！？；, also in their
//! ASCII forms, into which cleaning turns them. Notes end sentences with lines as well: an empty line
//! always does, any other line end unless the line seems to be wrapped.

use super::{
    Span,
    abbreviations::{may_end_a_sentence, never_ends_a_sentence},
    language::is_cjk,
};

/// Bytes of a line from which on its end may be a wrap, where the next line starts in lower case.
const WRAPPED_FROM: usize = 40;

/// Bytes of a line from which on its end is a wrap, unless something else speaks against it.
const FULL_LINE_FROM: usize = 60;

/// Characters of the longest word that is looked up as an abbreviation.
const LONGEST_ABBREVIATION: usize = 12;

/// The sentences of a text, in its order. Together they cover all that is not white space; none
/// starts or ends with white space.
pub fn sentences(text: &str) -> Vec<Span> {
    let mut sentences = Vec::new();
    let (mut start, mut line) = (0, 0);
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let at = text.len() - rest.len();
        let before = text.get(start..at).unwrap_or_default();
        let ends = if c.is_whitespace() {
            rest = rest.trim_start();
            let next = text.len() - rest.len();
            let run = text.get(at..next).unwrap_or_default();
            let breaks = run.matches('\n').count();
            let length = at.saturating_sub(line);
            line = if breaks > 0 { next } else { line };
            match breaks {
                0 => starts_chinese_item(rest),
                1 => !is_wrapped(before, length, rest),
                _ => true,
            }
        } else if is_stop(c) {
            rest = rest.trim_start_matches(|c| is_stop(c) || is_closing(c));
            let stops = text.get(at..text.len() - rest.len()).unwrap_or_default();
            ends_with(before, stops, rest)
        } else {
            rest = rest.strip_prefix(c).unwrap_or_default();
            false
        };
        if ends {
            let end = text.len() - rest.len();
            sentences.extend(trimmed(text, Span::new(start, end)));
            start = end;
        }
    }
    sentences.extend(trimmed(text, Span::new(start, text.len())));
    sentences
}

/// A range without the white space around it, if anything is left.
fn trimmed(text: &str, span: Span) -> Option<Span> {
    let inner = span.of(text)?.trim_end();
    let end = span.start + inner.len();
    let start = end - inner.trim_start().len();
    (start < end).then_some(Span::new(start, end))
}

fn is_stop(c: char) -> bool {
    matches!(c, '.' | '!' | '?' | ';' | '。' | '｡' | '！' | '？' | '；')
}

fn is_closing(c: char) -> bool {
    matches!(
        c,
        ')' | ']' | '"' | '\'' | '”' | '’' | '）' | '】' | '」' | '』' | '》'
    )
}

/// Whether a sentence ends with these stops. `before` is what it has so far, `after` all that follows.
fn ends_with(before: &str, stops: &str, after: &str) -> bool {
    if stops.contains(['。', '｡', '！', '？', '；']) {
        return true;
    }
    let last = before.chars().next_back().unwrap_or(' ');
    let next = after.chars().next().unwrap_or(' ');
    let is_chinese = is_cjk(last) || is_cjk(next) && !last.is_ascii_digit();
    match stops.chars().next() {
        Some(';') => is_chinese,
        Some('.') if next.is_whitespace() => !is_abbreviated(before, after),
        Some('.') => is_chinese || is_missing_a_space(before, after),
        _ => is_chinese || next.is_whitespace(),
    }
}

/// Whether a full stop followed by white space belongs to the word before it.
fn is_abbreviated(before: &str, after: &str) -> bool {
    let tail = before
        .char_indices()
        .rev()
        .take_while(|(_, c)| c.is_alphanumeric() && !is_cjk(*c) || *c == '.')
        .take(LONGEST_ABBREVIATION + 1);
    let (mut length, mut start) = (0, before.len());
    for (at, _) in tail {
        (length, start) = (length + 1, at);
    }
    let (ahead, word) = before.split_at(start);
    if length == 0 || length > LONGEST_ABBREVIATION {
        return false;
    }
    let is_number = word.len() <= 3 && word.bytes().all(|byte| byte.is_ascii_digit());
    if ahead.trim_start().is_empty() && (is_number || length == 1) {
        return true;
    }
    let word = word.to_lowercase();
    let starts_anew = after
        .trim_start()
        .chars()
        .next()
        .is_none_or(|next| next.is_uppercase() || is_cjk(next));
    let is_letter = length == 1 && !is_number;
    never_ends_a_sentence(&word) || !starts_anew && (is_letter || may_end_a_sentence(&word))
}

/// Whether a full stop without white space ends a sentence: `no pain.The patient`.
fn is_missing_a_space(before: &str, after: &str) -> bool {
    let mut ahead = before.chars().rev();
    let mut behind = after.chars();
    ahead.by_ref().take(3).filter(|c| c.is_lowercase()).count() == 3
        && ahead.next().is_none_or(|c| !matches!(c, '.' | '@' | '/'))
        && behind.next().is_some_and(char::is_uppercase)
        && behind.next().is_some_and(|c| c.is_lowercase() || c == ' ')
}

/// Whether a line of `length` bytes goes on in the next one. `before` is its sentence so far.
fn is_wrapped(before: &str, length: usize, next: &str) -> bool {
    let Some((last, first)) = before.chars().next_back().zip(next.chars().next()) else {
        return false;
    };
    // Chinese is not wrapped in notes; its punctuation lies in the blocks from U+3000 and U+FF00.
    let is_chinese =
        |c| is_cjk(c) || matches!(c, '\u{3000}'..='\u{303F}' | '\u{FF00}'..='\u{FF60}');
    !(is_chinese(last) || is_chinese(first) || matches!(last, ':' | ';') || starts_item(next))
        && (length >= FULL_LINE_FROM || length >= WRAPPED_FROM && first.is_lowercase())
}

/// Whether a line starts with a bullet or a number of a list.
fn starts_item(line: &str) -> bool {
    let marked = line.trim_start_matches(['-', '*', '•', '●', '○', '·', '–', '>']);
    if marked.len() < line.len() {
        return marked.starts_with(char::is_whitespace) || line.starts_with(['•', '●', '○', '·']);
    }
    behind_number(line.trim_start_matches(['(', '#']))
        .is_some_and(|behind| !behind.starts_with(|c: char| c.is_ascii_digit()))
}

/// Whether an item of a list starts here, within a line: `1.高血压 2.糖尿病`.
fn starts_chinese_item(text: &str) -> bool {
    behind_number(text).is_some_and(|behind| behind.starts_with(is_cjk))
}

/// What stands behind the number of a list item and its mark.
fn behind_number(text: &str) -> Option<&str> {
    let number = text.bytes().take_while(u8::is_ascii_digit).take(4).count();
    let behind = text.get(number..)?.strip_prefix(['.', ')', '、', ':'])?;
    (1..=3).contains(&number).then_some(behind)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn split(text: &str) -> Vec<&str> {
        sentences(text)
            .into_iter()
            .filter_map(|sentence| sentence.of(text))
            .collect()
    }

    #[test]
    fn full_stops_end_sentences_and_belong_to_them() {
        assert_eq!(
            split("No fever. Denies cough!  Any pain? \"None.\" he said."),
            [
                "No fever.",
                "Denies cough!",
                "Any pain?",
                "\"None.\"",
                "he said."
            ]
        );
        assert_eq!(
            split("She has no pain.The chest is clear."),
            ["She has no pain.", "The chest is clear."]
        );
    }

    #[test]
    fn abbreviations_and_numbers_do_not() {
        for text in [
            "Seen by Dr. Smith today.",
            "Lisinopril 10 mg p.o. daily and metformin b.i.d. with meals.",
            "Viral vs. bacterial, e.g. E. coli, of 3.5 cm.",
            "Temp. 38.5, approx. 2 days.",
            "Taken q.h.s. as needed, no. 30 given.",
            "See www.example.org for more.",
            "Seen by J. smith.",
        ] {
            assert_eq!(split(text), [text]);
        }
    }

    #[test]
    fn an_abbreviation_may_end_a_sentence() {
        assert_eq!(
            split("Aspirin p.o. Follow up."),
            ["Aspirin p.o.", "Follow up."]
        );
        assert_eq!(
            split("Has hepatitis C. He drinks."),
            ["Has hepatitis C.", "He drinks."]
        );
    }

    #[test]
    fn list_items_are_sentences_with_their_numbers() {
        assert_eq!(
            split("Plan:\n1. Aspirin 81 mg\n2. Stop smoking. Call us.\n- rest\n* fluids\n3) iron"),
            [
                "Plan:",
                "1. Aspirin 81 mg",
                "2. Stop smoking.",
                "Call us.",
                "- rest",
                "* fluids",
                "3) iron"
            ]
        );
    }

    #[test]
    fn a_wrapped_line_goes_on() {
        let wrapped = "The chest x-ray today shows no evidence of\npneumonia or of effusion.";
        assert_eq!(split(wrapped), [wrapped]);
        let name =
            "He was followed for many years by us because of his history of\nHodgkin lymphoma.";
        assert_eq!(split(name), [name]);
    }

    #[test]
    fn other_line_ends_and_empty_lines_end_sentences() {
        assert_eq!(
            split("aspirin daily\nmetformin\r\niron"),
            ["aspirin daily", "metformin", "iron"]
        );
        let apart = "The chest x-ray today shows no evidence of\n\npneumonia";
        assert_eq!(split(apart).len(), 2);
    }

    #[test]
    fn chinese_sentences_end_with_their_own_stops() {
        assert_eq!(
            split("患者发热3天。否认胸痛；体温38.5℃！好转？是"),
            ["患者发热3天。", "否认胸痛；", "体温38.5℃！", "好转？", "是"]
        );
        assert_eq!(
            split("否认胸痛;无发热.神清\n双肺清"),
            ["否认胸痛;", "无发热.", "神清", "双肺清"]
        );
        assert_eq!(
            split("1.高血压 2.糖尿病 38.5 ℃"),
            ["1.高血压", "2.糖尿病 38.5 ℃"]
        );
    }

    #[test]
    fn english_goes_on_behind_a_semicolon() {
        assert_eq!(split("No fever; no cough."), ["No fever; no cough."]);
    }

    #[test]
    fn a_text_of_nothing_but_stops_or_spaces_takes_no_time_without_end() {
        for part in [".", " ", "\n", ". ", "a.", "\n1", "x\n"] {
            let _ = sentences(&part.repeat(500_000));
        }
        assert!(sentences(" \n ").is_empty());
    }

    proptest! {
        #[test]
        fn sentences_are_in_order_and_cover_all_that_can_be_seen(
            text in "(\\PC|[A-Za-z1 .!?;:\n)-]|Dr\\. |\n\n|[。；，发热]){0,40}"
        ) {
            let mut end = 0;
            for sentence in sentences(&text) {
                prop_assert!(sentence.start >= end && !sentence.is_empty());
                prop_assert!(text[end..sentence.start].chars().all(char::is_whitespace));
                let inside = sentence.of(&text).expect("on characters");
                prop_assert_eq!(inside.trim(), inside);
                end = sentence.end;
            }
            prop_assert!(text[end..].chars().all(char::is_whitespace));
        }
    }
}

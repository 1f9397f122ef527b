//! Tests of finding terms: which are taken, where words end, where they stand.

use proptest::prelude::*;

use super::*;

fn dictionary(terms: &[&str]) -> Dictionary<usize> {
    Dictionary::new(terms.iter().copied().zip(0..)).expect("terms")
}

fn found<'t>(dictionary: &Dictionary<usize>, text: &'t str) -> Vec<(&'t str, Vec<usize>)> {
    let matches = dictionary.find(text).into_iter();
    let of = |found: Match<'_, usize>| found.span.of(text).expect("a place in the text");
    matches
        .map(|found| (of(Match { ..found }), found.values.to_vec()))
        .collect()
}

fn spans<'t>(terms: &[&str], text: &'t str) -> Vec<&'t str> {
    found(&dictionary(terms), text)
        .into_iter()
        .map(|(span, _)| span)
        .collect()
}

#[test]
fn the_leftmost_and_of_those_the_longest_term_is_taken() {
    let terms = [
        "heart failure",
        "failure",
        "heart",
        "congestive heart failure",
    ];
    assert_eq!(
        spans(&terms, "Heart failure, failure"),
        ["Heart failure", "failure"]
    );
    assert_eq!(spans(&["a b", "b c d"], "a b c d"), ["a b"]);
}

#[test]
fn a_longer_term_that_cuts_a_word_does_not_hide_a_shorter_one() {
    assert_eq!(spans(&["cold", "cold a"], "cold allergy"), ["cold"]);
    assert_eq!(spans(&["art attack", "attack"], "heart attack"), ["attack"]);
}

#[test]
fn a_term_of_latin_letters_is_whole_words() {
    let terms = ["ms", "ca"];
    assert!(spans(&terms, "forms msec cancer 5ms ms2 cá́n").is_empty());
    assert!(spans(&["क"], "क्").is_empty(), "a mark goes with its letter");
    assert_eq!(spans(&terms, "(MS) ca.,查CA升高"), ["MS", "ca", "CA"]);
}

#[test]
fn a_chinese_term_needs_no_bounds() {
    let terms = ["肺炎", "支原体肺炎", "2型糖尿病"];
    assert_eq!(
        spans(&terms, "诊断支原体肺炎及肺炎后"),
        ["支原体肺炎", "肺炎"]
    );
    assert_eq!(spans(&terms, "患２型糖尿病多年"), ["２型糖尿病"]);
    assert!(spans(&terms, "12型糖尿病").is_empty());
}

#[test]
fn writing_does_not_matter_and_places_are_those_of_the_text() {
    let terms = ["Sjögren's syndrome", "beta-blocker", "5 mg"];
    let text = "SJO\u{308}GREN’S\u{a0} syndrome; ß Beta\u{ad}‐\n blocker, (５ ㎎)";
    assert_eq!(
        spans(&terms, text),
        [
            "SJO\u{308}GREN’S\u{a0} syndrome",
            "Beta\u{ad}‐\n blocker",
            "５ ㎎"
        ]
    );
    assert_eq!(spans(&["İnce"], "ince İNCE"), ["ince", "İNCE"]);
    assert_eq!(spans(&["x ab"], "- \u{ad}x \u{ad}ab"), ["x \u{ad}ab"]);
}

#[test]
fn plurals_are_taken_where_asked_for() {
    let strict = dictionary(&["seizure", "abscess"]);
    assert!(found(&strict, "seizures").is_empty());
    let tolerant = dictionary(&["seizure", "abscess", "癫痫"]).with_plurals();
    assert_eq!(
        found(&tolerant, "Seizures, seizure"),
        [("Seizures", vec![0]), ("seizure", vec![0])]
    );
    assert!(found(&tolerant, "seizuress abscesss").is_empty());
    assert_eq!(found(&tolerant, "癫痫s"), [("癫痫", vec![2])]);
}

#[test]
fn a_term_that_is_there_twice_stands_for_both() {
    let dictionary = dictionary(&["cold", "fever", "Cold"]);
    assert_eq!(dictionary.len(), 2);
    assert_eq!(found(&dictionary, "cold"), [("cold", vec![0, 2])]);
}

#[test]
fn what_is_no_term_is_refused_by_its_place() {
    let refused = |terms: &[&str]| {
        let terms = terms.iter().copied().zip(0..);
        Dictionary::<usize>::new(terms).expect_err("no terms")
    };
    for (term, reason) in [
        (" - ", TermError::Empty),
        ("\u{301}", TermError::Empty),
        (&"a".repeat(513), TermError::TooLong),
        (&"ﷺ".repeat(100), TermError::TooLong),
    ] {
        let error = refused(&["fine", term]);
        assert!(matches!(error, DictionaryError::Term { at: 2, source } if source == reason));
    }
    assert!(dictionary(&[]).is_empty() && dictionary(&[]).find("text").is_empty());
}

#[test]
fn terms_within_terms_cost_no_memory() {
    let nested: Vec<String> = (1..=100).map(|n| "一".repeat(n)).collect();
    let terms: Vec<&str> = nested.iter().map(String::as_str).collect();
    let text = "一".repeat(10_000);
    assert_eq!(spans(&terms, &text), vec!["一".repeat(100); 100]);
}

#[test]
fn neither_terms_nor_matches_are_printed() {
    let dictionary = dictionary(&["asthma"]);
    let printed = format!("{dictionary:?} {:?}", dictionary.find("asthma"));
    assert_eq!(
        printed,
        "Dictionary(1 terms) [Match(Span { start: 0, end: 6 })]"
    );
}

/// Parts that meet in hard ways.
fn texts() -> impl Strategy<Value = String> {
    let parts: Vec<&str> =
        "a|A|ab|s|一|二| |-|－|\u{a0}|\u{301}|\u{ad}|ﬁ|İ|㎎|㋀|1|.|’|¨|\u{3099}|ｶ"
            .split('|')
            .collect();
    let part = prop_oneof![
        4 => prop::sample::select(parts).prop_map(String::from),
        1 => any::<char>().prop_map(String::from),
    ];
    prop::collection::vec(part, 0..12).prop_map(|parts| parts.concat())
}

proptest! {
    #[test]
    fn matches_lie_between_characters_apart_and_in_order(
        terms in prop::collection::vec(texts(), 1..8),
        between in prop::collection::vec(texts(), 1..8),
    ) {
        let parts = between.iter().zip(terms.iter().cycle());
        let text: String = parts.flat_map(|(part, term)| [part.as_str(), term]).collect();
        let terms = terms.iter().filter(|term| key(term).is_ok()).zip(0..);
        let dictionary = Dictionary::<usize>::new(terms).expect("terms").with_plurals();
        let mut free = 0;
        for found in dictionary.find(&text) {
            prop_assert!(found.span.of(&text).is_some_and(|part| !part.is_empty()));
            prop_assert!(found.span.start >= free && !found.values.is_empty());
            free = found.span.end;
        }
    }

    #[test]
    fn a_term_is_found_in_itself_and_among_others(term in texts()) {
        if key(&term).is_err() {
            return Ok(());
        }
        let dictionary = dictionary(&[&term]);
        prop_assert_eq!(dictionary.find(&term).len(), 1);
        let text = format!("x {term} y {term}, z");
        prop_assert!(!dictionary.find(&text).is_empty());
    }

    #[test]
    fn what_is_compared_stays_as_it_is(text in texts()) {
        let once = Folded::new(&text).text;
        prop_assert_eq!(&Folded::new(&once).text, &once);
    }
}

//! What holds for every text: found ranges, stand-ins, dates and positions.

use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::*;
use crate::pseudonym::PseudonymKey;

fn deidentifier() -> Deidentifier {
    Deidentifier::new(&Dictionaries::default()).expect("no dictionaries are fine")
}

fn key(byte: u8) -> PseudonymKey {
    PseudonymKey::from_bytes([byte; 32])
}

const NOTE: &str = "Mr. John Miller (MRN: 445-12-JM, phone 312-555-0188, jm@mail.example.org) was seen on \
                    March 4, 2021 and 3/18/2021 at Quillwood Hospital. Miller is 93 years old. \
                    患者王小明，身份证号11010519491231002X，2021年3月4日入院。";

#[test]
fn a_note_loses_its_identifiers_and_keeps_the_rest() {
    let clean = deidentifier().replace(NOTE, &key(1), "patient");
    for identifier in [
        "John",
        "Miller",
        "445-12",
        "555-0188",
        "mail.example",
        "March 4, 2021",
        "3/18/2021",
        "Quillwood",
        "93",
        "王小明",
        "11010519491231002X",
        "3月4日",
    ] {
        assert!(!clean.text().contains(identifier), "{identifier} is left");
    }
    for kept in [
        "Mr. [NAME-",
        "was seen on",
        "is 90+ years old",
        "患者[NAME-",
        "身份证号[NATIONAL-ID-",
    ] {
        assert!(clean.text().contains(kept), "{kept} is gone");
    }
}

#[test]
fn the_same_identifier_has_one_stand_in_under_one_key_only() {
    let stand_in = |text: &str, key: &PseudonymKey| {
        let clean = deidentifier().replace(text, key, "patient");
        let first = clean
            .replacements()
            .first()
            .expect("an identifier")
            .replaced
            .clone();
        clean.text()[first].to_owned()
    };
    let name = stand_in("MRN: AB-12345.", &key(1));
    assert_eq!(name, stand_in("her mrn is ab12345 today", &key(1)));
    assert_ne!(name, stand_in("MRN: AB-12346.", &key(1)));
    assert_ne!(name, stand_in("MRN: AB-12345.", &key(2)));
    let other_kind = stand_in("Account: AB-12345.", &key(1));
    assert_ne!(
        name.split('-').next_back(),
        other_kind.split('-').next_back()
    );
}

#[test]
fn an_impossible_date_is_taken_out() {
    let clean = deidentifier().replace("Born 31/02/1950.", &key(1), "patient");
    assert!(clean.text().starts_with("Born [DATE-") && clean.text().ends_with("]."));
}

#[test]
fn a_note_of_identifiers_alone_leaves_stand_ins_alone() {
    let text = "Mary Johnson\n123-45-6789\nmary@mail.example.org\n2021-03-04";
    let clean = deidentifier().replace(text, &key(1), "patient");
    assert_eq!(clean.replacements().len(), 4);
    assert_eq!(deidentifier().find(""), []);
    assert_eq!(deidentifier().replace("", &key(1), "patient").text(), "");
}

#[test]
fn every_kind_has_a_label_of_its_own_and_its_place_in_the_order() {
    let labels: std::collections::BTreeSet<&str> = Kind::ALL.map(Kind::label).into();
    assert_eq!(labels.len(), Kind::ALL.len());
    assert!(Kind::ALL.is_sorted());
}

#[test]
fn direction_marks_and_other_digits_hide_nothing() {
    let text = "المريض \u{202a}٠١٠-٦٢٣٤٥٦٧٨\u{202c} وبريده a\u{200b}na@mail.example.org, ＭＲＮ：４４５１２";
    let found = deidentifier().find(text);
    let seen: Vec<(Kind, &str)> = found
        .iter()
        .map(|found| (found.kind, &text[found.range.clone()]))
        .collect();
    assert_eq!(
        seen,
        [
            (Kind::Phone, "٠١٠-٦٢٣٤٥٦٧٨"),
            (Kind::Email, "a\u{200b}na@mail.example.org"),
            (Kind::MedicalRecord, "４４５１２"),
        ]
    );
}

#[test]
fn nothing_printed_shows_a_text_or_a_term() {
    let dictionaries = Dictionaries {
        names: vec!["Secretname".to_owned()],
        ..Dictionaries::default()
    };
    let deidentifier = Deidentifier::new(&dictionaries).expect("a dictionary");
    let clean = deidentifier.replace("Secretname with secretdisease", &key(1), "patient");
    let printed = format!(
        "{dictionaries:?} {deidentifier:?} {clean:?} {:?}",
        clean.replacements()
    );
    assert!(!printed.to_lowercase().contains("secret"), "{printed}");
}

#[test]
fn large_and_hostile_texts_take_linear_time() {
    const SIZE: usize = 300_000;
    for piece in [
        "John Miller, seen on March 4, 2021 at Quillwood Hospital. ",
        "a",
        "A ",
        "1",
        "1-",
        "1 ",
        "@",
        "a.",
        "a@",
        "患者",
        "王",
        "市",
        "1号",
        ":",
        "St. ",
        "MRN: ",
        "'",
        "-a",
        "March ",
        "\u{200b}",
        "北京",
        "http://",
        "J. ",
        ", ",
        "Hospital of ",
        "Dr. ",
    ] {
        let text = piece.repeat(SIZE / piece.len());
        let start = Instant::now();
        let _ = deidentifier().replace(&text, &key(1), "patient");
        let taken = start.elapsed();
        assert!(taken < Duration::from_secs(20), "{piece:?} took {taken:?}");
    }
}

fn piece() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("Dr. Mary O'Brien".to_owned()),
        Just("患者王小明，".to_owned()),
        Just("MRN: 12345-JS".to_owned()),
        Just("11010519491231002X".to_owned()),
        Just("March 4, 2021".to_owned()),
        Just("２０２１年３月４日".to_owned()),
        Just("\u{202e}٠١٢٣\u{200b}".to_owned()),
        Just("Crohn's disease".to_owned()),
        Just(" at St. ".to_owned()),
        Just("\n".to_owned()),
        "[a-z]{1,8}@[a-z]{1,8}\\.org",
        "[0-9]{3}-[0-9]{2}-[0-9]{4}",
        "1[3-9][0-9]{9}",
        "\\PC{0,6}",
        "[ -~]{0,8}",
    ]
}

fn text() -> impl Strategy<Value = String> {
    prop::collection::vec(piece(), 0..12).prop_map(|pieces| pieces.join(" "))
}

proptest! {
    #[test]
    fn found_ranges_are_in_order_apart_and_between_characters(text in text()) {
        let mut end = 0;
        for Found { range, .. } in deidentifier().find(&text) {
            prop_assert!(range.start >= end && range.end > range.start);
            prop_assert!(text.get(range.clone()).is_some());
            end = range.end;
        }
    }

    #[test]
    fn what_was_found_is_not_in_the_new_text(text in text()) {
        let deidentifier = deidentifier();
        let clean = deidentifier.replace(&text, &key(1), "patient");
        for Found { kind, range } in deidentifier.find(&text) {
            if matches!(kind, Kind::SocialSecurity | Kind::Email | Kind::Phone | Kind::NationalId) {
                prop_assert!(!clean.text().contains(&text[range]));
            }
        }
    }

    #[test]
    fn positions_outside_identifiers_carry_over_and_back(text in text(), cut in any::<prop::sample::Index>()) {
        let clean = deidentifier().replace(&text, &key(1), "patient");
        for replacement in clean.replacements() {
            prop_assert_eq!(clean.map(replacement.original.clone()), Some(replacement.replaced.clone()));
            prop_assert_eq!(clean.map_back(replacement.replaced.clone()), Some(replacement.original.clone()));
        }
        let starts: Vec<usize> = text.char_indices().map(|(at, _)| at).collect();
        if let Some(&start) = starts.get(cut.index(starts.len().max(1))) {
            let end = start + text[start..].chars().next().map_or(0, char::len_utf8);
            let new = clean.map(start..end).expect("inside");
            let outside = clean.replacements().iter().all(|replacement| {
                end <= replacement.original.start || start >= replacement.original.end
            });
            if outside {
                prop_assert_eq!(&clean.text()[new.clone()], &text[start..end]);
                prop_assert_eq!(clean.map_back(new), Some(start..end));
            } else {
                prop_assert!(clean.text().get(new).is_some_and(|stand_in| !stand_in.is_empty()));
            }
        }
        prop_assert_eq!(clean.map(0..text.len() + 1), None);
        prop_assert_eq!(clean.map_back(0..clean.text().len() + 1), None);
    }

    #[test]
    fn dates_of_one_patient_keep_their_distance_and_weekday(
        (first, second) in (0_i64..30_000, 0_i64..30_000),
        patient in "[a-z]{1,6}",
    ) {
        let start = calendar::Day::new(1950, 1, 1).expect("a day");
        let written = |day: calendar::Day| format!("{}-{:02}-{:02}", day.year, day.month, day.day);
        let (a, b) = (start.plus(first), start.plus(second));
        let text = format!("{} then {}", written(a), written(b));
        let clean = deidentifier().replace(&text, &key(3), &patient);
        let shifted = |day: calendar::Day| {
            (-364..=364).step_by(7).find(|&days| days != 0 && clean.text().starts_with(&written(day.plus(days))))
        };
        let days = shifted(a).expect("moved by whole weeks");
        prop_assert_eq!(clean.text(), format!("{} then {}", written(a.plus(days)), written(b.plus(days))));
    }
}

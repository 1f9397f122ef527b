//! Notes as they are written, and how they fall into sections.

use proptest::prelude::*;

use super::{SectionKind::*, *};

/// Kinds and bodies.
fn split(text: &str) -> Vec<(SectionKind, &str)> {
    let found = sections(text).into_iter();
    found
        .map(|section| {
            (
                section.kind,
                section.body.of(text).expect("in the text").trim(),
            )
        })
        .collect()
}

#[test]
fn headings_with_a_colon_start_sections() {
    let text = "Seen today.\nHISTORY OF PRESENT ILLNESS: Fever.\n\nMedications:\naspirin\nFamily History: none\n";
    assert_eq!(
        split(text),
        [
            (Other, "Seen today."),
            (PresentIllness, "Fever."),
            (Medications, "aspirin"),
            (FamilyHistory, "none")
        ]
    );
    let titles: Vec<_> = sections(text)
        .iter()
        .filter_map(|section| section.heading.of(text))
        .collect();
    assert_eq!(
        titles,
        [
            "",
            "HISTORY OF PRESENT ILLNESS",
            "Medications",
            "Family History"
        ]
    );
}

#[test]
fn a_heading_may_stand_alone_in_its_line_and_be_decorated() {
    assert_eq!(
        split("## Assessment and Plan\nCAP\n**Allergies**: none\n2. Social History\nsmokes"),
        [
            (Assessment, "CAP"),
            (Allergies, "none"),
            (SocialHistory, "smokes")
        ]
    );
}

#[test]
fn chinese_headings_stand_anywhere() {
    assert_eq!(
        split(
            "主诉：发热3天。现病史：咳嗽。 既往史: 体健\n【家族史】无特殊\n一、查体：神清\n诊断 肺炎"
        ),
        [
            (ChiefComplaint, "发热3天。"),
            (PresentIllness, "咳嗽。"),
            (PastHistory, "体健"),
            (FamilyHistory, "无特殊"),
            (Examination, "神清"),
            (Assessment, "肺炎")
        ]
    );
}

#[test]
fn capitals_are_headings_within_a_line() {
    assert_eq!(
        split("SUBJECTIVE:, Fever.,PAST MEDICAL HISTORY:, Asthma. FAMILY HISTORY: None"),
        [
            (PresentIllness, "Fever.,"),
            (PastHistory, "Asthma."),
            (FamilyHistory, "None")
        ]
    );
    assert_eq!(
        split("he has fever PLAN: rest"),
        [(Other, "he has fever"), (Plan, "rest")]
    );
}

#[test]
fn unknown_words_in_capitals_end_the_section_before() {
    assert_eq!(
        split("FAMILY HISTORY: none\nGOALS OF CARE: full"),
        [(FamilyHistory, "none"), (Other, "full")]
    );
    assert_eq!(
        split(
            "FAMILY HISTORY: none. RISKS OF SURGERY: bleeding. BRIEF FAMILY HISTORY: none, MRI: done"
        ),
        [
            (FamilyHistory, "none."),
            (Other, "bleeding."),
            (FamilyHistory, "none, MRI: done")
        ]
    );
}

#[test]
fn a_finding_with_a_colon_is_no_heading() {
    for text in [
        "Pneumonia: unlikely",
        "in her plan: rest",
        "PE: unlikely",
        "BP: 120/80",
        "否认家族史：无",
    ] {
        assert_eq!(split(text), [(Other, text)], "{text}");
    }
}

#[test]
fn no_heading_is_of_two_kinds() {
    let file: toml::Table = toml::from_str(include_str!("headings.toml")).expect("sound");
    let listed = file
        .values()
        .filter_map(toml::Value::as_array)
        .map(Vec::len);
    assert_eq!(HEADINGS.len(), listed.sum::<usize>());
    assert!(
        HEADINGS
            .keys()
            .all(|heading| *heading == heading.to_lowercase())
    );
}

#[test]
fn two_kinds_say_something_about_all_that_they_mention() {
    assert_eq!(FamilyHistory.status().experiencer, Experiencer::Family);
    assert_eq!(PastHistory.status().time, Time::Historical);
    assert_eq!(Assessment.status(), Status::default());
}

#[test]
fn a_text_of_nothing_but_colons_takes_no_time_without_end() {
    for part in [":", "A:", "1", "主诉：", "PLAN:", "x ", "。"] {
        let text = part.repeat(300_000);
        assert!(
            sections(&text)
                .last()
                .is_some_and(|last| last.span.end == text.len())
        );
    }
    assert!(sections("").is_empty());
}

proptest! {
    #[test]
    fn sections_cover_the_note_without_gaps_or_overlaps(
        text in "(PLAN|Family History|主诉|现病史|[:：】【\n .a]|\\PC){0,30}"
    ) {
        let mut end = 0;
        for section in sections(&text) {
            prop_assert_eq!(section.span.start, end);
            prop_assert!(!section.span.is_empty() && section.span.of(&text).is_some());
            prop_assert!(section.span.holds(section.heading) && section.heading.of(&text).is_some());
            prop_assert!(section.span.holds(section.body) && section.body.of(&text).is_some());
            prop_assert!(section.heading.end <= section.body.start);
            end = section.span.end;
        }
        prop_assert_eq!(end, text.len());
    }
}

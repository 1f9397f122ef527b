//! The chain over notes in both languages, its promises, and how long it takes.

use std::time::Instant;

use proptest::prelude::*;

use super::*;
use crate::decision::{
    facts::{Fact, Kilograms, Quantity, Sex, Years},
    knowledge::KnowledgeFile,
};

const ENGLISH: &str = "\
CHIEF COMPLAINT: Cough and fever for three days.

HISTORY OF PRESENT ILLNESS:
A 72-year-old man with a productive cough, pleuritic chest pain and shortness of breath. He denies night
sweats. No leg edema. His mother had heart failure. Possible pneumonia.

PAST MEDICAL HISTORY: Type 2 diabetes, hypertension. Had a myocardial infarction in 2015.

MEDICATIONS:
1. Metformin 500 mg twice daily
2. Warfarin 5 mg daily

ALLERGIES: penicillin (rash)

PHYSICAL EXAMINATION: BP 150/90 mmHg, HR 112, RR 24/min, temp 38.9 C, SpO2 91 %. Weight 81.5 kg. Crackles at
the right base.

LABS: CRP 120 mg/L, WBC 15.2 x10^9/L, creatinine 1.4 mg/dL, HbA1c: 8.2%. Procalcitonin <0.1 ng/mL.

IMPRESSION: Community-acquired pneumonia.

PLAN: Start levofloxacin 750 mg daily.
";

const CHINESE: &str = "\
主诉：发热、咳嗽3天。
现病史：患者，男，72岁，3天前出现发热，最高体温39.2℃，伴咳嗽、咳黄痰，无胸痛，无盗汗。
既往史：高血压病史10年，否认糖尿病史。长期口服华法林 2.5mg 每日一次。青霉素过敏。
查体：T 38.5℃，P 110次/分，R 24次/分，BP 150/90mmHg，体重65kg。右下肺可闻及湿啰音。
辅助检查：C反应蛋白 120 mg/L，白细胞计数 15.2×10^9/L，血肌酐 98 µmol/L。
初步诊断：社区获得性肺炎
";

fn knowledge() -> Knowledge {
    Knowledge::starter().expect("a sound set")
}

fn analysis(note: &str) -> Analysis {
    analysis_with(note, &Facts::default())
}

fn analysis_with(note: &str, known: &Facts) -> Analysis {
    let knowledge = knowledge();
    let analyst = Analyst::new(&knowledge).expect("an analyst");
    analyst.analyse(note, known).expect("an analysis")
}

fn id(text: &str) -> ConceptId {
    text.parse().expect("an id")
}

/// Concepts of mentions with these words.
fn status_of<'a>(analysis: &'a Analysis, note: &str, words: &str) -> &'a Mention {
    let mut found = analysis
        .entities
        .iter()
        .filter(|it| it.span.of(note) == Some(words));
    found
        .next()
        .unwrap_or_else(|| panic!("{words} is not found"))
}

/// Test, value in its own unit, and whether the unit is assumed.
fn values(analysis: &Analysis) -> Vec<(&str, f64, bool)> {
    let exact = analysis.measurements.iter();
    exact
        .filter_map(|it| Some((it.test.as_str(), it.value?, it.unit_is_assumed)))
        .collect()
}

fn near(found: &[(&str, f64, bool)], test: &str, wanted: f64) {
    let value = found
        .iter()
        .find(|it| it.0 == test)
        .unwrap_or_else(|| panic!("no {test} in {found:?}"));
    assert!(
        (value.1 - wanted).abs() < 1e-3 * wanted,
        "{test}: {value:?}"
    );
}

/// A drug, its dose, and how often it is taken.
type Taken<'a> = (&'a str, Option<f64>, Option<&'a str>);

fn taken(analysis: &Analysis) -> Option<Vec<Taken<'_>>> {
    let drugs = analysis.facts.drugs.as_ref()?.iter();
    let drugs = drugs.map(|it| {
        (
            it.drug.as_str(),
            it.dose.as_ref().map(Quantity::number),
            it.frequency.as_deref(),
        )
    });
    Some(drugs.collect())
}

fn allergies(note: &str) -> Option<Vec<String>> {
    let facts = analysis(note).facts;
    Some(
        facts
            .allergies?
            .iter()
            .map(|it| it.to.to_string())
            .collect(),
    )
}

#[test]
fn an_english_note_becomes_facts() {
    let found = analysis(ENGLISH);
    let status = |words: &str| status_of(&found, ENGLISH, words).status;
    assert!(status("fever").is_present() && status("productive cough").is_present());
    assert!(status("leg edema").is_absent());
    assert_eq!(
        status("heart failure").experiencer,
        crate::text::Experiencer::Family
    );
    assert_eq!(status("hypertension").time, crate::text::Time::Historical);

    let who = found.facts.demographics;
    assert_eq!(who.age.map(Years::number), Some(72.0));
    assert_eq!(who.sex, Some(Sex::Male));
    assert_eq!(who.weight_kg.map(Kilograms::number), Some(81.5));

    let measured = values(&found);
    for (test, value) in [
        ("test.systolic-pressure", 150.0),
        ("test.diastolic-pressure", 90.0),
        ("test.heart-rate", 112.0),
        ("test.respiratory-rate", 24.0),
        ("test.temperature", 38.9),
        ("test.oxygen-saturation", 91.0),
        ("test.crp", 120.0),
        ("test.white-cells", 15.2),
        ("test.creatinine", 1.4 * 88.4),
        ("test.hba1c", 8.2),
    ] {
        near(&measured, test, value);
    }
    assert!(
        measured
            .iter()
            .all(|it| it.2 == (it.0 == "test.heart-rate")),
        "{measured:?}"
    );

    let drugs = taken(&found).expect("a list of drugs");
    assert_eq!(
        drugs,
        [
            ("drug.metformin", Some(500.0), Some("twice daily")),
            ("drug.warfarin", Some(5.0), Some("daily"))
        ]
    );
    assert_eq!(allergies(ENGLISH), Some(vec!["class.penicillin".into()]));
}

#[test]
fn a_chinese_note_becomes_facts() {
    let found = analysis(CHINESE);
    let status = |words: &str| status_of(&found, CHINESE, words).status;
    assert!(status("发热").is_present() && status("湿啰音").is_present());
    assert!(status("胸痛").is_absent() && status("盗汗").is_absent());

    let who = found.facts.demographics;
    assert_eq!(
        (who.age.map(Years::number), who.sex),
        (Some(72.0), Some(Sex::Male))
    );
    assert_eq!(who.weight_kg.map(Kilograms::number), Some(65.0));

    let measured = values(&found);
    for (test, value) in [
        ("test.temperature", 39.2),
        ("test.heart-rate", 110.0),
        ("test.respiratory-rate", 24.0),
        ("test.systolic-pressure", 150.0),
        ("test.diastolic-pressure", 90.0),
        ("test.crp", 120.0),
        ("test.white-cells", 15.2),
        ("test.creatinine", 98.0),
    ] {
        near(&measured, test, value);
    }
    let drugs = taken(&found).expect("a list of drugs");
    assert_eq!(drugs, [("drug.warfarin", Some(2.5), Some("每日一次"))]);
    assert_eq!(allergies(CHINESE), Some(vec!["class.penicillin".into()]));
}

#[test]
fn the_differential_and_the_plan_follow_from_the_note() {
    for note in [ENGLISH, CHINESE] {
        let found = analysis(note);
        let mut candidates = found.differential.candidates.iter();
        let pneumonia = candidates
            .find(|it| it.condition == id("condition.pneumonia"))
            .expect("a candidate");
        assert!(pneumonia.is_supported && !pneumonia.supporting.is_empty());
        let mut considered = found.treatment.considered.iter();
        let stated = considered
            .find(|it| it.condition == id("condition.pneumonia"))
            .expect("considered");
        assert!(matches!(&stated.because, Because::Stated { spans } if !spans.is_empty()));
        let options = found.treatment.options.as_ref().expect("options");
        let mut conditions = options.conditions.iter();
        let pneumonia = conditions
            .find(|it| it.condition == id("condition.pneumonia"))
            .expect("options");
        let ruled_out = pneumonia.options.iter().filter(|it| !it.is_possible());
        // The allergy speaks against amoxicillin, at the place where it stands.
        let allergy = ruled_out
            .flat_map(|option| &option.findings)
            .find(|finding| finding.says.contains("allergic") && !finding.spans.is_empty());
        assert!(allergy.is_some());
    }
}

#[test]
fn the_past_is_not_treated_and_says_so() {
    let found = analysis("PAST MEDICAL HISTORY: pneumonia.\nHPI: He feels well.");
    let [only] = found.treatment.considered.as_slice() else {
        panic!("{} considered", found.treatment.considered.len());
    };
    assert!(matches!(only.because, Because::Past { .. }) && found.treatment.options.is_none());
}

#[test]
fn what_lasts_is_there_still_when_it_is_listed_among_the_past() {
    for note in [
        "PAST MEDICAL HISTORY: atrial fibrillation.\nHPI: He feels well.",
        "既往史：心房颤动。现病史：无不适。",
    ] {
        let found = analysis(note);
        let [only] = found.treatment.considered.as_slice() else {
            panic!("{} considered", found.treatment.considered.len());
        };
        assert!(!matches!(only.because, Because::Past { .. }), "{note}");
    }
}

#[test]
fn values_are_read_as_they_are_written() {
    for (text, test, value) in [
        ("CRP: 45 mg/dL", "test.crp", 450.0),
        ("Temperature was 101.3 F.", "test.temperature", 38.5),
        ("temp 101.3", "test.temperature", 38.5),
        ("INR 2.5.", "test.inr", 2.5),
        ("WBC 12,500", "test.white-cells", 12.5),
        (
            "Haemoglobin (Hb) was low at 9.8 g/dL",
            "test.haemoglobin",
            98.0,
        ),
        ("体温 38.5℃", "test.temperature", 38.5),
        ("血压：145 / 88", "test.diastolic-pressure", 88.0),
        ("BP 20/12 kPa", "test.systolic-pressure", 150.0),
        ("No fever, temperature 36.8 °C", "test.temperature", 36.8),
        ("LVEF: 35%", "test.ejection-fraction", 35.0),
        ("血红蛋白降至98g/L", "test.haemoglobin", 98.0),
    ] {
        near(&values(&analysis(text)), test, value);
    }
}

#[test]
fn what_is_no_value_is_none() {
    for text in [
        "Temperature for 3 days.",
        "BP checked 12/3/2020.",
        "Temp. 12/3",
        "CRP on 2020-01-02 pending",
        "platelets 2 weeks ago",
        "血压 3年",
        "PCT pending. 45 visits.",
        "In this 45 year old, BP was normal",
    ] {
        let found = analysis(text);
        assert!(
            found.measurements.is_empty() && found.unread.is_empty(),
            "{text}"
        );
    }
}

#[test]
fn unclear_and_impossible_values_are_listed_and_enter_no_fact() {
    let why = |text: &str| {
        let found = analysis(text);
        assert!(
            found.facts.facts.iter().all(|fact| fact.value.is_none()),
            "{text}"
        );
        let [unread] = found.unread.as_slice() else {
            panic!("{text}: {} unread", found.unread.len());
        };
        assert_eq!(unread.span.of(text), Some(text));
        unread.why.clone()
    };
    assert!(matches!(why("temperature 385 °C"), Why::Impossible { .. }));
    assert!(matches!(why("SpO2 150"), Why::Impossible { .. }));
    assert_eq!(why("CRP 120 mmHg"), Why::UnknownUnit);
    assert!(matches!(why("Hb 13.5"), Why::NoUnit { units } if units == ["g/L", "g/dL"]));
}

#[test]
fn bounds_and_ranges_are_shown_and_enter_no_fact() {
    for (text, bound) in [
        ("CRP <5 mg/L", Bound::Below),
        ("SpO2 > 95%", Bound::Above),
        ("体温38-39℃", Bound::Between),
    ] {
        let found = analysis(text);
        let [measured] = found.measurements.as_slice() else {
            panic!("{text}");
        };
        assert_eq!((measured.bound, measured.value), (Some(bound), None));
        assert!(found.facts.facts.is_empty(), "{text}");
    }
}

#[test]
fn ages_and_sexes_are_those_of_the_patient() {
    for (text, age, sex) in [
        (
            "A 72-year-old woman with cough.",
            Some(72.0),
            Some(Sex::Female),
        ),
        ("72yo M with cough", Some(72.0), Some(Sex::Male)),
        ("Seen: 45 y/o female.", Some(45.0), Some(Sex::Female)),
        ("A 6-month-old girl", Some(0.5), Some(Sex::Female)),
        ("Age: 80. Sex: F", Some(80.0), Some(Sex::Female)),
        ("女，45岁，咳嗽", Some(45.0), Some(Sex::Female)),
        ("患者男性，年龄：60", Some(60.0), Some(Sex::Male)),
        ("Her mother, 80 years old, is well.", None, None),
        ("FAMILY HISTORY: father died at 60 years old.", None, None),
        ("She has smoked for 20 years.", None, None),
        ("Diagnosed at age 45.", None, None),
        ("父亲72岁", None, None),
        ("A 172-year-old man", None, None),
    ] {
        let who = analysis(text).facts.demographics;
        assert_eq!((who.age.map(Years::number), who.sex), (age, sex), "{text}");
    }
}

#[test]
fn pregnancy_is_known_only_where_somebody_says_so() {
    for (text, pregnant) in [
        ("She is pregnant.", Some(true)),
        ("Not pregnant.", Some(false)),
        ("怀孕20周", Some(true)),
        ("否认怀孕", Some(false)),
        ("Possibly pregnant.", None),
        ("Cough.", None),
    ] {
        assert_eq!(
            analysis(text).facts.demographics.pregnant,
            pregnant,
            "{text}"
        );
    }
}

#[test]
fn allergies_are_named_denied_or_unknown() {
    let some = |ids: &[&str]| Some(ids.iter().map(|&id| id.to_owned()).collect::<Vec<_>>());
    for (text, wanted) in [
        ("NKDA.", some(&[])),
        ("No known drug allergies.", some(&[])),
        ("ALLERGIES: None.", some(&[])),
        ("否认药物过敏史。", some(&[])),
        ("过敏史：无", some(&[])),
        (
            "He is allergic to penicillin and sulfa.",
            some(&["class.penicillin", "class.sulfonamide"]),
        ),
        (
            "Penicillin allergy. Takes metformin.",
            some(&["class.penicillin"]),
        ),
        (
            "Allergic to penicillin, on metformin.",
            some(&["class.penicillin"]),
        ),
        ("对青霉素过敏", some(&["class.penicillin"])),
        (
            "No known allergies except penicillin.",
            some(&["class.penicillin"]),
        ),
        ("His brother is allergic to penicillin.", None),
        ("否认青霉素过敏", None),
        ("Allergic to shellfish.", None),
        ("Cough.", None),
    ] {
        assert_eq!(allergies(text), wanted, "{text}");
    }
    let shellfish = analysis("Allergic to shellfish.");
    assert!(matches!(shellfish.unread.as_slice(), [it] if it.why == Why::UnknownAllergy));
    assert!(shellfish.facts.allergies.is_none());
}

#[test]
fn drugs_are_taken_only_where_the_note_says_so() {
    for (text, wanted) in [
        (
            "He takes metformin 1 g twice a day.",
            Some(vec!["drug.metformin"]),
        ),
        ("On insulin.", Some(vec!["class.insulin"])),
        (
            "MEDICATIONS: aspirin, ramipril",
            Some(vec!["drug.aspirin", "drug.ramipril"]),
        ),
        ("长期口服阿司匹林", Some(vec!["drug.aspirin"])),
        ("Takes no medications.", Some(vec![])),
        ("Warfarin was stopped.", None),
        ("PLAN: metformin 500 mg twice daily", None),
        ("Does not take aspirin.", None),
        ("His wife takes metformin 500 mg daily.", None),
        ("Consider starting amoxicillin 1 g", None),
        ("Digoxin level 0.5 mg/L", None),
    ] {
        let found = analysis(text);
        let drugs = taken(&found).map(|drugs| drugs.into_iter().map(|it| it.0).collect::<Vec<_>>());
        assert_eq!(drugs, wanted, "{text}");
    }
}

#[test]
fn short_names_in_capitals_are_not_found_in_small_letters() {
    assert!(
        analysis("aspirin one cap daily")
            .entities
            .iter()
            .all(|it| it.kind != "condition")
    );
    assert!(
        analysis("Treated for CAP.")
            .entities
            .iter()
            .any(|it| it.kind == "condition")
    );
}

#[test]
fn facts_from_elsewhere_come_last_and_are_not_said_by_the_note() {
    let mut known = Facts {
        facts: vec![Fact::measured(
            id("test.crp"),
            Quantity::new(3.0, "mg/L").expect("finite"),
        )],
        allergies: Some(Vec::new()),
        ..Facts::default()
    };
    known.demographics.age = Years::try_from(50.0).ok();
    let found = analysis_with("A 72-year-old man, CRP 120 mg/L.", &known);
    assert_eq!(found.facts.demographics.age.map(Years::number), Some(50.0));
    assert_eq!(found.facts.allergies, Some(Vec::new()));
    let last = found.facts.facts.last().expect("facts");
    assert!(last.span.is_none() && last.value.as_ref().map(Quantity::number) == Some(3.0));
}

#[test]
fn a_site_s_terms_are_found_and_add_their_codes() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("terms.tsv");
    let rows = "HP:1\thpo\tpneumonia\ten\nHP:2\thpo\tclubbing\ten\n";
    let text = format!("# source: a test\n# licence: none\ncode\tsystem\tterm\tlang\n{rows}");
    std::fs::write(&file, text).expect("room");
    let knowledge = knowledge();
    let analyst = Analyst::new(&knowledge).expect("an analyst");
    let analyst = analyst
        .with_terminology(Terminology::read(&file).expect("sound"))
        .expect("few terms");
    let note = "Pneumonia. No clubbing.";
    let found = analyst
        .analyse(note, &Facts::default())
        .expect("an analysis");
    let pneumonia = status_of(&found, note, "Pneumonia");
    let codes: Vec<&str> = pneumonia.codes.iter().map(|it| it.code.as_str()).collect();
    assert!(
        pneumonia.concept.is_some() && codes.contains(&"HP:1") && pneumonia.found_by.len() == 2
    );
    let clubbing = status_of(&found, note, "clubbing");
    assert!(clubbing.concept.is_none() && clubbing.status.is_absent());
    assert_eq!(found.provenance.terminologies[0].source, "a test");
}

#[test]
fn everything_used_is_named() {
    let found = analysis("Cough.");
    assert_eq!(
        found.provenance.knowledge.len(),
        crate::decision::knowledge::starter_files().len()
    );
    assert!(
        found
            .provenance
            .knowledge
            .iter()
            .all(|it| !it.disclaimer.is_empty())
    );
}

#[test]
fn names_of_a_site_s_own_file_are_found() {
    let own = KnowledgeFile {
        name: "own.toml".into(),
        text: "[header]\nname = \"Own\"\nversion = \"1\"\nlicence = \"Apache-2.0\"\nlanguage = \"en\"\n\
               disclaimer = \"Example.\"\n[[concept]]\nid = \"finding.clubbing\"\nnames.en = [\"clubbing\"]\n"
            .into(),
    };
    let files = [crate::decision::knowledge::starter_files(), vec![own]].concat();
    let knowledge = Knowledge::from_files(&files).expect("sound");
    let analyst = Analyst::new(&knowledge).expect("an analyst");
    let found = analyst
        .analyse("Clubbing.", &Facts::default())
        .expect("an analysis");
    assert_eq!(found.facts.facts.len(), 1);
}

/// Every place of an analysis.
fn places(found: &Analysis) -> Vec<Span> {
    let mut places = found.sentences.clone();
    places.extend(found.sections.iter().flat_map(|it| [it.span, it.heading]));
    for entity in &found.entities {
        places.push(entity.span);
        places.extend(entity.reasons.iter().filter_map(|reason| match reason {
            crate::text::Reason::Cue { span, .. } => Some(*span),
            crate::text::Reason::Section { .. } => None,
        }));
    }
    places.extend(
        found
            .measurements
            .iter()
            .flat_map(|it| [it.span, it.value_span]),
    );
    for drug in &found.drugs {
        places.push(drug.span);
        places.extend(drug.dose.iter().map(|dose| dose.span));
        places.extend(drug.frequency);
    }
    places.extend(found.details.iter().map(|it| it.span));
    places.extend(found.relations.iter().flat_map(|it| [it.from, it.to]));
    places.extend(found.unread.iter().map(|it| it.span));
    places.extend(found.facts.facts.iter().filter_map(|it| it.span));
    for candidate in &found.differential.candidates {
        let reasons = candidate.supporting.iter().chain(&candidate.opposing);
        places.extend(reasons.flat_map(|it| it.spans.clone()));
    }
    places
}

/// Nothing is invented: every place lies in the note, every concept is named where it is found, every
/// number is written there.
fn check_nothing_is_invented(note: &str, found: &Analysis, knowledge: &Knowledge) {
    for place in places(found) {
        assert!(
            place.of(note).is_some(),
            "{place:?} of {} bytes",
            note.len()
        );
    }
    let bare = |text: &str| -> String {
        let text = Cleaned::new(text).text().to_lowercase();
        text.chars().filter(|c| c.is_alphanumeric()).collect()
    };
    for entity in &found.entities {
        let concept = knowledge
            .concept(entity.concept.as_ref().expect("a concept"))
            .expect("known");
        let said = bare(entity.span.of(note).expect("inside"));
        let mut names = concept.names.values().flatten().map(|name| bare(name));
        assert!(
            names.any(|name| said == name || said == format!("{name}s")),
            "{}",
            concept.id
        );
    }
    for measured in &found.measurements {
        let said = bare(measured.value_span.of(note).expect("inside"));
        let number = bare(&measured.number.to_string());
        assert!(
            said.contains(&number) || measured.number >= 1000.0,
            "{number}"
        );
    }
    for fact in &found.facts.facts {
        assert!(fact.span.is_some(), "a fact of nowhere");
    }
}

#[test]
fn nothing_is_invented_in_the_two_notes() {
    let knowledge = knowledge();
    for note in [ENGLISH, CHINESE] {
        check_nothing_is_invented(note, &analysis(note), &knowledge);
    }
}

#[test]
fn what_is_printed_for_debugging_says_nothing_of_the_patient() {
    let found = analysis(ENGLISH);
    let said = format!("{found:?} {:?} {:?}", found.facts, found.treatment);
    for word in ["neumonia", "72", "warfarin", "120"] {
        assert!(!said.contains(word), "{said}");
    }
}

#[test]
fn an_empty_note_says_nothing_and_fails_nowhere() {
    for note in ["", " \n\t", "\u{0}\u{feff}", "。", "12345 67/89 <>"] {
        let found = analysis(note);
        assert!(found.entities.is_empty() && found.facts.facts.is_empty());
        assert!(matches!(
            found.differential.verdict,
            crate::decision::diagnosis::differential::Verdict::TooLittleEvidence { .. }
        ));
        assert!(found.treatment.considered.is_empty());
    }
}

#[test]
fn a_note_of_any_length_is_read_in_time_or_refused() {
    let knowledge = knowledge();
    let analyst = Analyst::new(&knowledge).expect("an analyst");
    let notes = [
        ENGLISH.to_owned(),
        "fever ".into(),
        "no known drug allergies except ".into(),
        "allergic to ".into(),
        "metformin ".into(),
        "CRP ".into(),
        "1-".into(),
    ];
    for part in notes {
        let note = part.repeat((200 << 10) / part.len());
        let start = Instant::now();
        let found = analyst
            .analyse(&note, &Facts::default())
            .expect("an analysis");
        assert!(start.elapsed().as_secs() < 20, "{} bytes", part.len());
        assert!(found.facts.facts.len() < 5000);
    }
    let long = "x".repeat(NOTE_LIMIT + 1);
    assert!(matches!(
        analyst.analyse(&long, &Facts::default()),
        Err(AnalysisError::TooLong { .. })
    ));
}

/// With figures: `cargo test --release -p consilium-models analysis -- --ignored --nocapture`.
#[test]
#[ignore = "measures time: run it alone, in a release build"]
fn a_note_of_300_words_takes_50_milliseconds_at_most() {
    let knowledge = knowledge();
    let start = Instant::now();
    let analyst = Analyst::new(&knowledge).expect("an analyst");
    let loaded = start.elapsed();
    let words = ENGLISH.split_whitespace().count();
    let note = format!(
        "{ENGLISH}\n{ENGLISH}\n{}",
        "He was seen again and felt better than before. ".repeat(10)
    );
    let count = note.split_whitespace().count();
    let mut times: Vec<f64> = (0..50)
        .map(|_| {
            let start = Instant::now();
            let found = analyst
                .analyse(&note, &Facts::default())
                .expect("an analysis");
            assert!(!found.entities.is_empty());
            start.elapsed().as_secs_f64() * 1e3
        })
        .collect();
    times.sort_by(f64::total_cmp);
    let long = ENGLISH.repeat((5 << 20) / ENGLISH.len());
    let start = Instant::now();
    let _ = analyst
        .analyse(&long, &Facts::default())
        .expect("an analysis");
    let figures = format!(
        "load {loaded:?}; {count} words (of {words}): median {:.2} ms, most {:.2} ms; 5 MiB: {:?}\n",
        times[25],
        times[49],
        start.elapsed()
    );
    std::io::Write::write_all(&mut std::io::stderr(), figures.as_bytes()).expect("a terminal");
    assert!(times[25] < 50.0, "{figures}");
}

fn fragment() -> impl Strategy<Value = String> {
    prop_oneof![
        Just(ENGLISH.to_owned()),
        prop::sample::select(vec![
            "no fever, ",
            "CRP 120 mg/L ",
            "BP 150/90 ",
            "体温 38.5℃，",
            "否认药物过敏史。",
            "allergic to penicillin ",
            "72-year-old man ",
            "metformin 500 mg bid\n",
            "\nALLERGIES: ",
            "\nPLAN: ",
            "<5 ",
            "mg",
            "；",
            "\u{301}",
            "\u{200b}",
            "ＣＲＰ：１２０",
            "女，72岁",
            "weight 70 kg",
            "肺炎",
            "possible pneumonia. ",
            "－",
            "½",
            "\r\n",
        ])
        .prop_map(str::to_owned),
        "\\PC{0,6}",
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn nothing_is_invented_in_any_note(parts in prop::collection::vec(fragment(), 0..12)) {
        static KNOWLEDGE: std::sync::LazyLock<Knowledge> = std::sync::LazyLock::new(knowledge);
        static ANALYST: std::sync::LazyLock<Analyst<'static>> =
            std::sync::LazyLock::new(|| Analyst::new(&KNOWLEDGE).expect("an analyst"));
        let note = parts.concat();
        let found = ANALYST.analyse(&note, &Facts::default()).expect("an analysis");
        check_nothing_is_invented(&note, &found, &KNOWLEDGE);
    }
}

//! Every kind of problem, found in a small bad file, with the place and the words.

use std::time::{Duration, Instant};

use proptest::prelude::*;

use crate::decision::knowledge::{
    ConceptId, Knowledge, KnowledgeFile, Language, Problem, ReadError, starter_files,
};

const BASE: &str = r#"
[header]
name = "Base"
version = "1"
licence = "Apache-2.0"
language = "en"
disclaimer = "Example."

[[source]]
id = "book"
title = "A book"
organisation = "A society"
year = 2020
url = "https://example.org/book"

[[concept]]
id = "condition.flu"
names.en = ["influenza"]

[[concept]]
id = "condition.cold"
names.en = ["common cold"]

[[concept]]
id = "finding.fever"
names.en = ["fever"]
names.zh = ["发热"]

[[concept]]
id = "finding.high-fever"
names.en = ["high fever"]
is_a = ["finding.fever"]

[[concept]]
id = "test.crp"
names.en = ["CRP"]
measure = { unit = "mg/L", possible = { low = 0, high = 1000 }, convert = [{ unit = "mg/dL", factor = 10 }] }

[[concept]]
id = "class.penicillin"
names.en = ["penicillins"]

[[concept]]
id = "drug.amoxicillin"
names.en = ["amoxicillin"]
is_a = ["class.penicillin"]
limit = { dose = 1000, day = 3000, unit = "mg", source = "book" }

[[condition]]
id = "condition.flu"
description = "Influenza."
prior = 0.1
setting = "winter"
source = "book"
"#;

fn file(name: &str, text: impl Into<String>) -> KnowledgeFile {
    KnowledgeFile {
        name: name.into(),
        text: text.into(),
    }
}

fn with_header(text: &str) -> String {
    let header = BASE.split("[[source]]").next().unwrap_or_default();
    format!("{header}{text}")
}

/// What is wrong with a second file beside the base.
fn problems(text: &str) -> Vec<Problem> {
    Knowledge::check(&[
        file("base.toml", BASE),
        file("site.toml", with_header(text)),
    ])
}

/// That a second file has one problem, at a line counted from its first entry, of an entry, with some
/// words.
#[track_caller]
fn finds(text: &str, line: usize, id: &str, words: &[&str]) {
    let found = problems(text);
    let [problem] = found.as_slice() else {
        let all: Vec<String> = found.iter().map(Problem::to_string).collect();
        panic!("one problem wanted, found {all:#?}");
    };
    let before = with_header("").lines().count();
    assert_eq!(problem.file, "site.toml", "{problem}");
    assert_eq!(problem.line, Some(before + line), "{problem}");
    assert_eq!(problem.id.as_deref(), Some(id), "{problem}");
    let said = problem.to_string();
    for word in words {
        assert!(said.contains(word), "{word:?} is not in: {said}");
    }
}

fn rule(id: &str, effect: &str, concludes: &str, when: &str) -> String {
    format!(
        "[[rule]]\nid = \"{id}\"\nsays = \"It is so.\"\nconcludes = \"{concludes}\"\neffect = \"{effect}\"\n\
         strength = \"weak\"\nwhen = {when}\nsource = \"book\"\n"
    )
}

fn flu_when(when: &str) -> String {
    rule("rule.new", "for", "condition.flu", when)
}

fn treatment(step: &str) -> String {
    format!(
        "[[treatment]]\nid = \"treatment.new\"\nname = \"New\"\ncondition = \"condition.flu\"\nline = \"first\"\n\
         benefit = \"low\"\nmonitoring_burden = \"low\"\ncost = \"low\"\nsource = \"book\"\n\
         steps = [{{ give = \"drug.amoxicillin\", route = \"oral\", {step} }}]\n"
    )
}

#[test]
fn the_base_of_these_tests_is_sound() {
    assert_eq!(problems(""), []);
    assert_eq!(problems(&flu_when(r#"{ present = "finding.fever" }"#)), []);
    let dose =
        r#"doses = [{ amount = 1, unit = "g", frequency = "every 8 hours", times_a_day = 3 }]"#;
    assert_eq!(problems(&treatment(dose)), []);
}

#[test]
fn the_starter_set_is_sound_and_named_in_both_languages() {
    let said: Vec<String> = Knowledge::check(&starter_files())
        .iter()
        .map(Problem::to_string)
        .collect();
    assert_eq!(said, Vec::<String>::new());
    let knowledge = Knowledge::starter().expect("a sound set");
    for concept in knowledge.concepts() {
        for language in [Language::En, Language::Zh] {
            let names = concept.names.get(&language);
            assert!(
                names.is_some_and(|names| !names.is_empty()),
                "{}",
                concept.id
            );
        }
    }
    for header in knowledge.headers() {
        assert_eq!(header.licence, "Apache-2.0");
        assert!(
            header.disclaimer.contains("not medical advice"),
            "{header:?}"
        );
        assert!(
            header.disclaimer.contains("research use only"),
            "{header:?}"
        );
    }
    for condition in [
        "condition.pneumonia",
        "condition.heart-failure",
        "condition.type-2-diabetes",
        "condition.atrial-fibrillation",
        "condition.urinary-infection",
    ] {
        let id: ConceptId = condition.parse().expect("an id");
        assert!(knowledge.condition(&id).is_some(), "{condition}");
        let kinds = knowledge.downwards(&id);
        let is_of = |it: &&ConceptId| kinds.contains(it);
        assert!(knowledge.rules().iter().any(|rule| is_of(&&rule.concludes)));
        assert!(
            knowledge
                .treatments()
                .iter()
                .any(|it| is_of(&&it.condition))
        );
    }
}

#[test]
fn the_folder_on_disk_is_the_set_in_the_program() {
    let folder = std::path::Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../knowledge"));
    let mut on_disk: Vec<String> = KnowledgeFile::read(folder)
        .expect("a folder of files")
        .into_iter()
        .map(|file| file.text)
        .collect();
    let mut built_in: Vec<String> = starter_files().into_iter().map(|file| file.text).collect();
    on_disk.sort();
    built_in.sort();
    assert_eq!(on_disk.len(), built_in.len(), "a file is not built in");
    assert!(on_disk == built_in);
}

#[test]
fn the_example_of_the_documentation_is_sound() {
    let page = include_str!("../../../../../docs/knowledge.md");
    let example = page
        .split("```toml\n")
        .find(|part| part.starts_with("# A complete file"))
        .and_then(|part| part.split("```").next())
        .expect("an example");
    let said: Vec<String> = Knowledge::check(&[file("example.toml", example)])
        .iter()
        .map(Problem::to_string)
        .collect();
    assert_eq!(said, Vec::<String>::new());
}

#[test]
fn what_is_no_toml_is_said_with_its_line() {
    let found = Knowledge::check(&[file("bad.toml", "[header]\nname = \"x\"\nversion = \n")]);
    let first = found.first().expect("a problem");
    assert_eq!((first.file.as_str(), first.line), ("bad.toml", Some(3)));
    assert!(first.what.contains("no TOML"), "{first}");
}

#[test]
fn unknown_keys_and_sections_are_found_and_the_right_one_is_suggested() {
    let text = "[[concept]]\nid = \"finding.cough\"\nname.en = [\"cough\"]\n";
    finds(
        text,
        3,
        "concept finding.cough",
        &["unknown field `name`", "did you mean `names`"],
    );
    let text = flu_when(r#"{ presnt = "finding.fever" }"#);
    finds(
        &text,
        7,
        "rule rule.new",
        &["`presnt`", "did you mean `present`"],
    );
    let found = problems("[[rules]]\nid = \"a\"\n");
    let said = found.first().map(Problem::to_string).unwrap_or_default();
    assert!(
        said.contains("no section \"rules\"") && said.contains("did you mean \"rule\""),
        "{said}"
    );
}

#[test]
fn an_entry_without_a_source_is_refused() {
    let text = flu_when(r#"{ present = "finding.fever" }"#).replace("source = \"book\"\n", "");
    finds(
        &text,
        1,
        "rule rule.new",
        &["missing field `source`", "add source ="],
    );
}

#[test]
fn an_unknown_reference_is_found_and_the_near_miss_suggested() {
    let text = flu_when(r#"{ present = "finding.fevr" }"#);
    finds(
        &text,
        1,
        "rule rule.new",
        &["finding.fevr", "did you mean finding.fever?"],
    );
    let text = flu_when(r#"{ present = "finding.fever" }"#).replace("\"book\"", "\"boook\"");
    finds(
        &text,
        1,
        "rule rule.new",
        &["no source boook", "did you mean book?"],
    );
    let text = flu_when(r#"{ score = "score.none", at_least = 1 }"#);
    finds(&text, 1, "rule rule.new", &["no score score.none"]);
}

#[test]
fn a_broken_entry_does_not_drag_those_that_refer_to_it_along() {
    let text = format!(
        "[[concept]]\nid = \"finding.cough\"\nname.en = [\"cough\"]\n{}",
        flu_when(r#"{ present = "finding.cough" }"#)
    );
    finds(&text, 3, "concept finding.cough", &["unknown field"]);
}

#[test]
fn a_reference_of_the_wrong_kind_is_found() {
    let text = flu_when(r#"{ taking = "finding.fever" }"#);
    finds(
        &text,
        1,
        "rule rule.new",
        &["does not belong there", "a drug or a class"],
    );
    let text = "[[concept]]\nid = \"drug.new\"\nnames.en = [\"new\"]\nis_a = [\"finding.fever\"]\n";
    finds(text, 1, "concept drug.new", &["is_a names finding.fever"]);
}

#[test]
fn an_id_defined_twice_is_refused_unless_it_replaces_on_purpose() {
    let again = "[[concept]]\nid = \"finding.fever\"\nnames.en = [\"fever\", \"pyrexia\"]\n";
    finds(
        again,
        1,
        "concept finding.fever",
        &["already defined at base.toml:", "replaces = true"],
    );
    let files = [
        file("base.toml", BASE),
        file(
            "site.toml",
            with_header(&format!("{again}replaces = true\n")),
        ),
    ];
    let knowledge = Knowledge::from_files(&files).expect("sound files");
    assert!(knowledge.terms().any(|(name, _, _)| name == "pyrexia"));
    let twice = format!("{again}replaces = true\n{again}replaces = true\n");
    let fix = ["already defined at site.toml:", "leave one of them out"];
    finds(&twice, 5, "concept finding.fever", &fix);
    let new = "[[concept]]\nid = \"finding.new\"\nnames.en = [\"new\"]\nreplaces = true\n";
    finds(
        new,
        1,
        "concept finding.new",
        &["no earlier file has this entry"],
    );
}

#[test]
fn a_name_of_two_concepts_is_found_whatever_its_capitals() {
    let text = "[[concept]]\nid = \"finding.heat\"\nnames.en = [\"  FEVER \"]\n";
    finds(
        text,
        1,
        "concept finding.heat",
        &["also names finding.fever (base.toml:"],
    );
    let text = "[[concept]]\nid = \"finding.heat\"\nnames.zh = [\"发热\"]\n";
    finds(
        text,
        1,
        "concept finding.heat",
        &["also names finding.fever"],
    );
    let text = "[[concept]]\nid = \"finding.heat\"\nnames.en = []\n";
    finds(text, 1, "concept finding.heat", &["has no name"]);
}

#[test]
fn probabilities_and_ratios_out_of_range_are_found() {
    let text = "[[condition]]\nid = \"condition.cold\"\ndescription = \"A cold.\"\nprior = 1.2\nsetting = \"winter\"\nsource = \"book\"\n";
    finds(
        text,
        1,
        "condition condition.cold",
        &["1.2 is no probability"],
    );
    let likelihood = |figures: &str| {
        format!(
            "[[likelihood]]\ncondition = \"condition.flu\"\nfinding = \"finding.fever\"\nsource = \"book\"\n{figures}\n"
        )
    };
    let id = "likelihood condition.flu / finding.fever";
    let between = "between 0.001 and 1000";
    finds(&likelihood("positive = -1"), 1, id, &[between]);
    finds(&likelihood("positive = nan"), 1, id, &[between]);
    finds(
        &likelihood("positive = 2.0\nnegative = 3.0"),
        1,
        id,
        &["same side of 1"],
    );
    finds(
        &likelihood("sensitivity = 1.0\nspecificity = 0.5"),
        1,
        id,
        &["below 1"],
    );
    finds(&likelihood(""), 1, id, &["positive and/or negative"]);
    let cold = likelihood("positive = 2").replace("condition.flu", "condition.cold");
    finds(
        &cold,
        1,
        "likelihood condition.cold / finding.fever",
        &["no prior", "[[condition]]"],
    );
}

#[test]
fn rules_that_need_what_they_conclude_are_found() {
    let text = flu_when(r#"{ present = "condition.flu" }"#);
    finds(
        &text,
        1,
        "rule rule.new",
        &["need what they conclude: condition.flu"],
    );
    let circle = format!(
        "{}{}",
        rule(
            "rule.one",
            "for",
            "condition.flu",
            r#"{ not = { absent = "finding.fever" } }"#
        ),
        rule(
            "rule.two",
            "for",
            "finding.high-fever",
            r#"{ any = [{ present = "condition.flu" }] }"#
        )
    );
    finds(
        &circle,
        1,
        "rule rule.one",
        &["condition.flu → finding.high-fever"],
    );
    let scored = format!(
        "{}[[score]]\nid = \"score.s\"\nnames.en = [\"S\"]\nsays = \"S.\"\nsource = \"book\"\n\
         items = [{{ name = \"flu\", points = 1, when = {{ present = \"condition.flu\" }} }}]\n",
        flu_when(r#"{ score = "score.s", at_least = 1 }"#)
    );
    finds(&scored, 1, "rule rule.new", &["need what they conclude"]);
}

#[test]
fn a_rule_may_say_which_kind_a_thing_is() {
    let text = rule(
        "rule.new",
        "for",
        "finding.high-fever",
        r#"{ present = "finding.fever" }"#,
    );
    assert_eq!(problems(&text), []);
}

#[test]
fn a_concept_that_is_a_kind_of_itself_is_found() {
    let text = "[[concept]]\nid = \"finding.a\"\nnames.en = [\"a\"]\nis_a = [\"finding.b\"]\n\
                [[concept]]\nid = \"finding.b\"\nnames.en = [\"b\"]\nis_a = [\"finding.a\"]\n";
    finds(
        text,
        1,
        "concept finding.a",
        &["kind of itself: finding.a → finding.b"],
    );
}

#[test]
fn units_that_do_not_convert_and_impossible_values_are_found() {
    let text = flu_when(r#"{ test = "test.crp", above = 100, unit = "mmol/L" }"#);
    finds(
        &text,
        1,
        "rule rule.new",
        &["\"mmol/L\", which does not convert", "mg/L or mg/dL"],
    );
    let text = flu_when(
        r#"{ any = [{ sex = "male" }, { test = "test.crp", above = 1000, unit = "mg/dL" }] }"#,
    );
    finds(&text, 1, "rule rule.new", &["impossible", "0 to 1000 mg/L"]);
    let text = flu_when(r#"{ test = "test.crp", level = "high" }"#);
    finds(&text, 1, "rule rule.new", &["no reference range"]);
    let text = flu_when(r#"{ test = "test.crp", above = 1, above = 2, unit = "mg/L" }"#);
    assert!(!problems(&text).is_empty());
}

#[test]
fn bad_measures_are_found() {
    let test = |measure: &str| {
        format!(
            "[[concept]]\nid = \"test.new\"\nnames.en = [\"new\"]\nmeasure = {{ unit = \"g\", {measure} }}\n"
        )
    };
    let id = "concept test.new";
    let possible = "possible = { low = 0, high = 10 }";
    let low_above_high = format!("{possible}, reference = [{{ low = 5, high = 3 }}]");
    finds(&test(&low_above_high), 1, id, &["from 5 down to 3"]);
    let outside = format!("{possible}, reference = [{{ low = 5, high = 30 }}]");
    finds(&test(&outside), 1, id, &["impossible values"]);
    finds(
        &test("possible = { low = 10, high = 0 }"),
        1,
        id,
        &["no value lies between"],
    );
    let twice = format!("{possible}, convert = [{{ unit = \"G\", factor = 1 }}]");
    finds(&test(&twice), 1, id, &["stands there twice"]);
    let zero = format!("{possible}, convert = [{{ unit = \"mg\", factor = 0 }}]");
    finds(&test(&zero), 1, id, &["does not convert"]);
    finds(
        "[[concept]]\nid = \"test.new\"\nnames.en = [\"new\"]\n",
        1,
        id,
        &["nothing of its unit"],
    );
}

#[test]
fn conditions_that_can_never_hold_are_found() {
    let never = |when: &str, why: &str| {
        finds(
            &flu_when(when),
            1,
            "rule rule.new",
            &["can never hold", why],
        );
    };
    never(
        r#"{ all = [{ test = "test.crp", above = 100, unit = "mg/L" }, { test = "test.crp", below = 5, unit = "mg/dL" }] }"#,
        "no value of test.crp",
    );
    never(
        r#"{ all = [{ present = "finding.fever" }, { absent = "finding.fever" }] }"#,
        "finding.fever",
    );
    never(
        r#"{ all = [{ absent = "finding.fever" }, { present = "finding.high-fever" }] }"#,
        "finding.high-fever and for the absence of finding.fever",
    );
    never(
        r#"{ all = [{ present = "finding.fever" }, { not = { any = [{ present = "finding.fever" }, { pregnant = true }] } }] }"#,
        "finding.fever",
    );
    never(
        r#"{ all = [{ age_at_least = 65 }, { age_below = 18 }] }"#,
        "age",
    );
    never(
        r#"{ all = [{ sex = "male" }, { pregnant = true }] }"#,
        "pregnant man",
    );
    never(r#"{ age_at_least = 200 }"#, "age");
    never(
        r#"{ at_least = 3, of = [{ present = "finding.fever" }, { sex = "male" }] }"#,
        "more than its list has",
    );
    never(
        r#"{ all = [{ absent = "finding.fever" }, { any = [{ present = "finding.fever" }, { present = "finding.high-fever" }] }] }"#,
        "absence of finding.fever",
    );
}

#[test]
fn conditions_that_may_hold_are_left_alone() {
    for when in [
        r#"{ all = [{ present = "finding.fever" }, { absent = "finding.high-fever" }] }"#,
        r#"{ any = [{ present = "finding.fever" }, { absent = "finding.fever" }] }"#,
        r#"{ all = [{ test = "test.crp", at_least = 50, unit = "mg/L" }, { test = "test.crp", at_most = 5, unit = "mg/dL" }] }"#,
        r#"{ all = [{ not = { sex = "male" } }, { pregnant = true }] }"#,
        r#"{ at_least = 2, of = [{ present = "finding.fever" }, { sex = "male" }] }"#,
    ] {
        assert_eq!(problems(&flu_when(when)), [], "{when}");
    }
}

#[test]
fn a_treatment_that_excludes_everybody_is_found() {
    let dose = r#"doses = [{ amount = 1, unit = "g", frequency = "every 8 hours" }]"#;
    let text = treatment(dose).replace(
        "benefit",
        "applies_if = { age_at_least = 65 }\nexclude_if = { age_at_least = 18 }\nbenefit",
    );
    finds(
        &text,
        1,
        "treatment treatment.new",
        &["everybody it applies to is excluded"],
    );
}

#[test]
fn rules_that_contradict_each_other_are_found_in_any_order_and_unit() {
    let pair = |effect: &str, one: &str, two: &str| {
        format!(
            "{}{}",
            rule("rule.one", "for", "condition.flu", one),
            rule("rule.two", effect, "condition.flu", two)
        )
    };
    let one = r#"{ all = [{ present = "finding.fever" }, { test = "test.crp", above = 100, unit = "mg/L" }] }"#;
    let two = r#"{ all = [{ all = [{ test = "test.crp", above = 10, unit = "mg/dL" }] }, { not = { absent = "finding.fever" } }] }"#;
    let contradiction = ["contradicts rule.one", "opposite conclusion"];
    finds(
        &pair("against", one, two),
        9,
        "rule rule.two",
        &contradiction,
    );
    finds(
        &pair("for", one, two),
        9,
        "rule rule.two",
        &["says the same as rule.one"],
    );
    let other = r#"{ present = "finding.fever" }"#;
    assert_eq!(problems(&pair("against", one, other)), []);
}

#[test]
fn doses_above_their_maximum_are_found() {
    let wrong = |dose: &str, words: &[&str]| {
        let text = treatment(&format!("doses = [{dose}]"));
        finds(&text, 1, "treatment treatment.new", words);
    };
    wrong(
        r#"{ amount = 2, unit = "g", frequency = "once" }"#,
        &["2000 mg at a time is above its limit 1000"],
    );
    wrong(
        r#"{ amount = 1, unit = "g", frequency = "every 6 hours", times_a_day = 4 }"#,
        &["4000 mg a day is above its limit 3000"],
    );
    wrong(
        r#"{ amount = 500, unit = "mg", maximum = 250, frequency = "once" }"#,
        &["above its maximum 250"],
    );
    wrong(
        r#"{ amount = 25, unit = "mg", per_kg = true, frequency = "once" }"#,
        &["without a maximum"],
    );
    wrong(
        r#"{ amount = 25, unit = "puffs", frequency = "once" }"#,
        &["\"puffs\", its limit is in \"mg\""],
    );
    wrong(
        r#"{ amount = 500, up_to = 250, unit = "mg", frequency = "once" }"#,
        &["exchange amount and up_to"],
    );
    wrong(
        r#"{ amount = -1, unit = "mg", frequency = "once" }"#,
        &["no amount"],
    );
    let two = r#"{ amount = 1, unit = "g", frequency = "once" }, { when = { sex = "male" }, amount = 1, unit = "g", frequency = "twice" }"#;
    wrong(two, &["after one that is for everybody"]);
}

#[test]
fn a_drug_without_dose_and_a_treatment_without_steps_are_found() {
    finds(
        &treatment(""),
        1,
        "treatment treatment.new",
        &["drug.amoxicillin has no dose"],
    );
    let text = treatment("")
        .split("steps")
        .next()
        .unwrap_or_default()
        .to_owned()
        + "steps = []\n";
    finds(&text, 1, "treatment treatment.new", &["nothing is done"]);
}

#[test]
fn interactions_and_texts_that_say_nothing_are_found() {
    let text = "[[interaction]]\nbetween = [\"drug.amoxicillin\", \"drug.amoxicillin\"]\nseverity = \"minor\"\nmechanism = \"m\"\nadvice = \" \"\nsource = \"book\"\n";
    let found = problems(text);
    let said: Vec<String> = found.iter().map(Problem::to_string).collect();
    assert_eq!(said.len(), 2, "{said:?}");
    assert!(
        said.iter().any(|it| it.contains("does not meet itself")),
        "{said:?}"
    );
    assert!(
        said.iter().any(|it| it.contains("advice says nothing")),
        "{said:?}"
    );
}

#[test]
fn sources_need_a_date_and_an_address() {
    let text = "[[source]]\nid = \"new\"\ntitle = \"t\"\norganisation = \"o\"\nurl = \"ftp\"\n";
    let said: Vec<String> = problems(text).iter().map(Problem::to_string).collect();
    assert_eq!(said.len(), 2, "{said:?}");
    assert!(
        said.iter()
            .any(|it| it.contains("year") && it.contains("source new")),
        "{said:?}"
    );
    assert!(said.iter().any(|it| it.contains("no address")), "{said:?}");
}

#[test]
fn a_file_without_header_is_refused() {
    let found = Knowledge::check(&[file("bare.toml", "")]);
    assert!(
        found
            .iter()
            .any(|it| it.file == "bare.toml" && it.what.contains("no header"))
    );
}

#[test]
fn a_header_must_say_who_it_is_and_what_the_file_is_not() {
    let text = BASE.replace("disclaimer = \"Example.\"", "disclaimer = \" \"");
    let found = Knowledge::check(&[file("base.toml", text)]);
    let said: Vec<String> = found.iter().map(Problem::to_string).collect();
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(
        said[0].starts_with("base.toml:2: header: ") && said[0].contains("disclaimer"),
        "{said:?}"
    );
}

#[test]
fn files_are_read_from_disk_one_or_a_folder_of_them() {
    let folder = tempfile::tempdir().expect("a folder");
    let put =
        |name: &str, bytes: &[u8]| std::fs::write(folder.path().join(name), bytes).expect("a file");
    let read = || KnowledgeFile::read(folder.path());
    assert!(matches!(read(), Err(ReadError::Empty { .. })));
    put("b.toml", BASE.as_bytes());
    put("a.toml", b"");
    put("notes.txt", b"no knowledge");
    let names: Vec<String> = read()
        .expect("files")
        .into_iter()
        .map(|file| file.name)
        .collect();
    assert_eq!(names.len(), 2);
    assert!(
        names[0].ends_with("a.toml") && names[1].ends_with("b.toml"),
        "{names:?}"
    );
    let one = KnowledgeFile::read(&folder.path().join("b.toml")).expect("a file");
    assert_eq!(one[0].text, BASE);
    put("c.toml", &[0xff, 0xfe]);
    assert!(matches!(read(), Err(ReadError::Encoding { .. })));
    put("c.toml", &vec![b'#'; (4 << 20) + 1]);
    assert!(matches!(read(), Err(ReadError::TooLong { .. })));
    let missing = KnowledgeFile::read(&folder.path().join("none.toml"));
    assert!(matches!(missing, Err(ReadError::Io { .. })));
}

#[test]
fn hostile_files_end_soon_and_with_a_problem() {
    let start = Instant::now();
    let nested = |open: &str, close: &str, depth: usize| {
        flu_when(&format!(
            "{}{{ sex = \"male\" }}{}",
            open.repeat(depth),
            close.repeat(depth)
        ))
    };
    assert!(!problems(&nested("{ not = ", " }", 100_000)).is_empty());
    assert!(!problems(&nested("{ all = [", "] }", 100_000)).is_empty());
    assert_eq!(problems(&nested("{ not = ", " }", 20)), []);

    let wide = "{ present = \"finding.fever\" }, ".repeat(20_000);
    let text = flu_when(&format!("{{ any = [{wide}] }}"));
    finds(&text, 1, "rule rule.new", &["more than 200 conditions"]);

    let chain: String = (0..5000)
        .map(|at| {
            format!(
                "[[concept]]\nid = \"finding.c{at}\"\nnames.en = [\"c {at}\"]\nis_a = [\"finding.c{}\"]\n",
                at + 1
            )
        })
        .collect();
    let found = problems(&chain);
    assert!(found.iter().any(|it| it.what.contains("kind of more than")));
    assert!(found.len() <= 500);

    let misspelt: String = (0..5000)
        .map(|at| {
            rule(
                &format!("rule.r{at}"),
                "for",
                "condition.flu",
                "{ present = \"finding.fevers\" }",
            )
        })
        .collect();
    assert_eq!(problems(&misspelt).len(), 500);

    let alike: String = (0..6_000)
        .map(|at| {
            let id = format!("finding.{:x>70}", format!("{at:b}"));
            format!("[[concept]]\nid = \"{id}\"\nnames.en = [\"n {at}\"]\nis_a = [\"{id}0\"]\n")
        })
        .collect();
    assert_eq!(problems(&alike).len(), 500);

    let long = format!("# {}\n", "x".repeat(5 << 20));
    assert!(
        problems(&long)
            .iter()
            .any(|it| it.what.contains("longer than"))
    );
    let many = vec![file("many.toml", BASE); 501];
    assert!(!Knowledge::check(&many).is_empty());
    let spent = start.elapsed();
    assert!(spent < Duration::from_secs(30), "{spent:?}");
}

#[test]
fn a_dense_rule_base_is_checked_in_time() {
    let whens: Vec<String> = (0..190)
        .map(|at| format!("{{ present = \"finding.f{at}\" }}"))
        .collect();
    let concepts: String = (0..190)
        .map(|at| format!("[[concept]]\nid = \"finding.f{at}\"\nnames.en = [\"f {at}\"]\n"))
        .collect();
    let rules: String = (0..300)
        .map(|at| {
            let when = format!(
                "{{ at_least = 2, of = [{{ age_at_least = {} }}, {}] }}",
                at % 100,
                whens.join(", ")
            );
            rule(&format!("rule.r{at}"), "for", "condition.flu", &when)
        })
        .collect();
    let start = Instant::now();
    let found = problems(&format!("{concepts}{rules}"));
    assert!(
        found.iter().all(|it| it.what.contains("says the same")),
        "{:?}",
        found.first()
    );
    let spent = start.elapsed();
    assert!(spent < Duration::from_secs(30), "{spent:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn random_edits_never_panic(
        edits in prop::collection::vec((any::<prop::sample::Index>(), 0_usize..40, "[ -~\\n发{}\\[\\]=\"]{0,12}"), 1..6),
        starter in any::<bool>(),
    ) {
        let text = if starter {
            starter_files().pop().map(|file| file.text).unwrap_or_default()
        } else {
            BASE.to_owned()
        };
        let mut letters: Vec<char> = text.chars().collect();
        for (at, cut, put) in edits {
            let at = at.index(letters.len() + 1);
            let end = (at + cut).min(letters.len());
            letters.splice(at..end, put.chars());
        }
        let text: String = letters.into_iter().collect();
        let _ = Knowledge::check(&[file("edited.toml", text)]);
    }

    #[test]
    fn random_text_never_panics(text in "\\PC{0,400}") {
        let _ = Knowledge::check(&[file("random.toml", text)]);
    }
}

#[test]
fn a_cost_is_above_0_and_of_findings_and_tests() {
    let concept = |id: &str, cost: &str| {
        format!("[[concept]]\nid = \"{id}\"\nnames.en = [\"new one\"]\ncost = {cost}\n")
    };
    assert_eq!(problems(&concept("finding.new", "2.5")), []);
    for cost in ["0", "-1", "nan", "inf"] {
        let text = concept("finding.new", cost);
        finds(&text, 1, "concept finding.new", &["cost", "above 0"]);
    }
    let text = concept("condition.new", "2");
    finds(&text, 1, "concept condition.new", &["findings and tests"]);
}

#[test]
fn a_finding_costs_what_the_dearest_test_that_decides_it_costs() {
    let text = with_header(
        "[[concept]]\nid = \"test.mri\"\nnames.en = [\"MRI score\"]\ncost = 20\n\
         measure = { unit = \"\", possible = { low = 0, high = 10 } }\n\
         [[concept]]\nid = \"finding.bright\"\nnames.en = [\"bright\"]\n\
         measured = { any = [{ test = \"test.mri\", above = 5, unit = \"\" }, { test = \"test.crp\", above = 5, unit = \"mg/L\" }] }\n\
         [[concept]]\nid = \"finding.cheap\"\nnames.en = [\"cheap\"]\ncost = 0.5\n\
         measured = { test = \"test.mri\", above = 5, unit = \"\" }\n",
    );
    let knowledge = Knowledge::from_files(&[file("base.toml", BASE), file("site.toml", text)]);
    let costs = knowledge.expect("sound").costs();
    let of = |id: &str| costs.get(&id.parse::<ConceptId>().expect("an id")).copied();
    assert_eq!(
        (of("finding.bright"), of("finding.cheap")),
        (Some(20.0), Some(0.5))
    );
    assert_eq!((of("test.mri"), of("finding.fever")), (Some(20.0), None));
}

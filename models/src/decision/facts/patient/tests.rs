//! Questions to fact tables, and what is left unknown.

use proptest::prelude::*;

use super::*;
use crate::{
    decision::{
        facts::{Allergy, Demographics, Kilograms, Quantity, Sex, Taken, Years},
        knowledge::KnowledgeFile,
    },
    text::Status,
};

const BASE: &str = r#"
    header = { name = "n", version = "1", licence = "Apache-2.0", language = "en", disclaimer = "d" }
    source = [{ id = "s", title = "t", organisation = "o", year = 2020, url = "https://example.org" }]
    score = [{ id = "score.s", names.en = ["S"], says = "s", source = "s", items = [
        { name = "old", points = 2, when = { age_at_least = 65 } },
        { name = "cough", points = 1, when = { present = "finding.cough" } },
        { name = "young", points = -1, when = { age_below = 18 } } ] }]
    concept = [
        { id = "finding.fever", names.en = ["fever"],
          measured = { test = "test.temperature", at_least = 38, unit = "°C" } },
        { id = "finding.cough", names.en = ["cough"] },
        { id = "finding.dry-cough", names.en = ["dry cough"], is_a = ["finding.cough"] },
        { id = "class.penicillin", names.en = ["penicillin"] },
        { id = "drug.amoxicillin", names.en = ["amoxicillin"], is_a = ["class.penicillin"] },
        { id = "drug.warfarin", names.en = ["warfarin"] },
        { id = "test.temperature", names.en = ["temperature"], measure = { unit = "°C",
          possible = { low = 20, high = 45 }, reference = [{ low = 36, high = 37.8 }],
          convert = [{ unit = "°F", factor = 0.5555555555555556, offset = -17.77777777777778 }] } },
        { id = "test.hb", names.en = ["Hb"], measure = { unit = "g/L", possible = { low = 10, high = 260 },
          reference = [{ low = 120, sex = "female" }, { low = 130 }],
          convert = [{ unit = "g/dL", factor = 10 }] } } ]
"#;

fn knowledge() -> Knowledge {
    let file = KnowledgeFile {
        name: "base".into(),
        text: BASE.into(),
    };
    Knowledge::from_files(&[file]).expect("sound")
}

fn id(text: &str) -> ConceptId {
    text.parse().expect("an id")
}

fn when(text: &str) -> When {
    #[derive(Deserialize)]
    struct Holder {
        when: When,
    }
    let holder: Holder = toml::from_str(&format!("when = {text}")).expect("a condition");
    holder.when
}

fn measured(test: &str, number: f64, unit: &str) -> Fact {
    Fact::measured(id(test), Quantity::new(number, unit).expect("finite"))
}

fn of(facts: Vec<Fact>) -> Facts {
    Facts {
        facts,
        ..Facts::default()
    }
}

fn with(fact: Fact, change: impl FnOnce(&mut Status)) -> Facts {
    let mut fact = fact;
    change(&mut fact.status);
    of(vec![fact])
}

#[test]
fn what_nobody_says_is_unknown() {
    let (knowledge, facts) = (knowledge(), Facts::default());
    let patient = Patient::new(&facts, &knowledge);
    assert_eq!(patient.has(&id("finding.cough")), Answer::Unknown);
    assert_eq!(patient.takes(&id("drug.warfarin")), Answer::Unknown);
    assert_eq!(
        patient.is_allergic(&id("class.penicillin")),
        Answer::Unknown
    );
    assert_eq!(patient.measurement(&id("test.hb")), None);
    for text in [
        r#"{ age_at_least = 1 }"#,
        r#"{ sex = "male" }"#,
        r#"{ pregnant = false }"#,
        r#"{ weight_below = 50 }"#,
        r#"{ test = "test.hb", above = 1, unit = "g/L" }"#,
        r#"{ not = { present = "finding.cough" } }"#,
    ] {
        assert_eq!(patient.holds(&when(text)), Answer::Unknown, "{text}");
    }
}

#[test]
fn who_has_a_kind_has_the_thing_and_who_lacks_the_thing_has_no_kind() {
    let knowledge = knowledge();
    let facts = of(vec![Fact::present(id("finding.dry-cough"))]);
    assert_eq!(
        Patient::new(&facts, &knowledge).has(&id("finding.cough")),
        Answer::Yes
    );
    let facts = of(vec![Fact::absent(id("finding.cough"))]);
    assert_eq!(
        Patient::new(&facts, &knowledge).has(&id("finding.dry-cough")),
        Answer::No
    );
    let facts = of(vec![Fact::present(id("finding.cough"))]);
    assert_eq!(
        Patient::new(&facts, &knowledge).has(&id("finding.dry-cough")),
        Answer::Unknown
    );
    let facts = of(vec![Fact::absent(id("finding.dry-cough"))]);
    assert_eq!(
        Patient::new(&facts, &knowledge).has(&id("finding.cough")),
        Answer::Unknown
    );
}

#[test]
fn facts_that_contradict_each_other_leave_it_unknown() {
    let knowledge = knowledge();
    let cough = id("finding.cough");
    let facts = of(vec![
        Fact::present(cough.clone()),
        Fact::absent(cough.clone()),
    ]);
    assert_eq!(
        Patient::new(&facts, &knowledge).has(&cough),
        Answer::Unknown
    );
}

#[test]
fn relatives_the_past_the_future_and_the_possible_are_not_the_present() {
    let knowledge = knowledge();
    let cough = id("finding.cough");
    let fact = || Fact::present(cough.clone());
    for facts in [
        with(fact(), |status| status.experiencer = Experiencer::Family),
        with(fact(), |status| status.time = Time::Hypothetical),
        with(fact(), |status| status.certainty = Certainty::Possible),
    ] {
        let patient = Patient::new(&facts, &knowledge);
        assert_eq!(patient.has(&cough), Answer::Unknown);
        assert_eq!(patient.has_had(&cough), Answer::Unknown);
    }
    let facts = with(fact(), |status| status.time = Time::Historical);
    let patient = Patient::new(&facts, &knowledge);
    assert_eq!(patient.has(&cough), Answer::Unknown);
    assert_eq!(patient.has_had(&cough), Answer::Yes);
}

#[test]
fn a_measurement_decides_and_words_count_where_it_does_not_reach() {
    let knowledge = knowledge();
    let fever = id("finding.fever");
    let has = |facts: Vec<Fact>| {
        let facts = of(facts);
        Patient::new(&facts, &knowledge).has(&fever)
    };
    let hot = || measured("test.temperature", 102.2, "F°");
    assert_eq!(
        has(vec![hot()]),
        Answer::Unknown,
        "an unknown unit says nothing"
    );
    let hot = || measured("test.temperature", 102.2, "°F");
    let cool = || measured("test.temperature", 36.6, "℃");
    assert_eq!(has(vec![hot()]), Answer::Yes);
    assert_eq!(has(vec![hot(), Fact::absent(fever.clone())]), Answer::Yes);
    assert_eq!(has(vec![cool()]), Answer::No);
    assert_eq!(has(vec![cool(), Fact::present(fever.clone())]), Answer::Yes);
    assert_eq!(has(vec![hot(), cool()]), Answer::No, "the later counts");
}

#[test]
fn values_are_compared_in_any_unit_that_converts() {
    let knowledge = knowledge();
    let facts = of(vec![measured("test.hb", 11.5, "g/dl")]);
    let patient = Patient::new(&facts, &knowledge);
    let value = patient.measurement(&id("test.hb")).expect("a value");
    assert!((value.value - 115.0).abs() < 1e-9);
    let low = when(r#"{ test = "test.hb", below = 12, unit = "g/dL" }"#);
    assert_eq!(patient.holds(&low), Answer::Yes);
    let leaf = &patient.explain(&low)[0];
    assert_eq!(
        (leaf.answer, leaf.facts.as_slice()),
        (Answer::Yes, &[0][..])
    );
    let high = when(r#"{ test = "test.hb", at_least = 116, unit = "g/L" }"#);
    assert_eq!(patient.holds(&high), Answer::No);
}

#[test]
fn a_level_needs_to_know_for_whom_the_reference_range_is() {
    let knowledge = knowledge();
    let mut facts = of(vec![measured("test.hb", 125.0, "g/L")]);
    let level = |facts: &Facts| Patient::new(facts, &knowledge).level(&id("test.hb"));
    assert_eq!(level(&facts), None);
    facts.demographics.sex = Some(Sex::Female);
    assert_eq!(level(&facts), Some(Level::Normal));
    facts.demographics.sex = Some(Sex::Male);
    assert_eq!(level(&facts), Some(Level::Low));
}

#[test]
fn what_cannot_be_read_is_said() {
    let knowledge = knowledge();
    let mut facts = of(vec![
        measured("test.hb", 7.0, "mmol/L"),
        measured("test.new", 1.0, "g"),
        Fact::present(id("finding.new")),
    ]);
    facts.drugs = Some(vec![Taken {
        drug: id("drug.new"),
        dose: None,
        frequency: None,
        span: None,
    }]);
    let patient = Patient::new(&facts, &knowledge);
    assert_eq!(patient.unread(), [0, 1]);
    let unknown: Vec<&str> = patient
        .unknown_concepts()
        .iter()
        .map(|id| id.as_str())
        .collect();
    assert_eq!(unknown, ["drug.new", "finding.new", "test.new"]);
    assert_eq!(patient.has(&id("finding.new")), Answer::Yes);
}

#[test]
fn allergies_and_drugs_count_through_their_classes() {
    let knowledge = knowledge();
    let facts = Facts {
        allergies: Some(vec![Allergy {
            to: id("class.penicillin"),
            span: None,
        }]),
        drugs: Some(vec![Taken {
            drug: id("drug.amoxicillin"),
            dose: None,
            frequency: None,
            span: None,
        }]),
        ..Facts::default()
    };
    let patient = Patient::new(&facts, &knowledge);
    assert_eq!(patient.is_allergic(&id("drug.amoxicillin")), Answer::Yes);
    assert_eq!(patient.is_allergic(&id("drug.warfarin")), Answer::No);
    assert_eq!(patient.takes(&id("class.penicillin")), Answer::Yes);
    assert_eq!(patient.takes(&id("drug.warfarin")), Answer::No);
}

#[test]
fn the_unknown_counts_only_where_it_could_change_the_answer() {
    let knowledge = knowledge();
    let mut facts = of(vec![Fact::present(id("finding.cough"))]);
    facts.demographics.age = Some(Years::try_from(70.0).expect("an age"));
    let patient = Patient::new(&facts, &knowledge);
    let cough = r#"{ present = "finding.cough" }"#;
    let old = r#"{ age_at_least = 65 }"#;
    let open = r#"{ sex = "male" }"#;
    let holds = |text: String| patient.holds(&when(&text));
    assert_eq!(
        holds(format!("{{ at_least = 2, of = [{cough}, {open}, {old}] }}")),
        Answer::Yes
    );
    assert_eq!(
        holds(format!("{{ at_least = 3, of = [{cough}, {open}, {old}] }}")),
        Answer::Unknown
    );
    assert_eq!(holds(format!("{{ any = [{open}, {old}] }}")), Answer::Yes);
    assert_eq!(
        holds(format!("{{ all = [{open}, {{ not = {old} }}] }}")),
        Answer::No
    );
}

#[test]
fn a_score_is_decided_once_no_open_item_can_change_it() {
    let knowledge = knowledge();
    let score = "score.s".parse().expect("an id");
    let mut facts = Facts::default();
    let points = |facts: &Facts| Patient::new(facts, &knowledge).points(&score);
    assert_eq!(points(&facts), Some((-1.0, 3.0)));
    facts.demographics.age = Some(Years::try_from(70.0).expect("an age"));
    assert_eq!(points(&facts), Some((2.0, 3.0)));
    let patient = Patient::new(&facts, &knowledge);
    let holds = |text| patient.holds(&when(text));
    assert_eq!(holds(r#"{ score = "score.s", at_least = 2 }"#), Answer::Yes);
    assert_eq!(
        holds(r#"{ score = "score.s", at_least = 3 }"#),
        Answer::Unknown
    );
    assert_eq!(holds(r#"{ score = "score.s", below = 2 }"#), Answer::No);
    assert_eq!(
        holds(r#"{ score = "score.s", below = 3 }"#),
        Answer::Unknown
    );
}

#[test]
fn men_are_not_pregnant_even_where_nobody_asked() {
    let knowledge = knowledge();
    let mut facts = Facts {
        demographics: Demographics {
            sex: Some(Sex::Male),
            weight_kg: Some(Kilograms::try_from(80.0).expect("a weight")),
            ..Demographics::default()
        },
        ..Facts::default()
    };
    let patient = Patient::new(&facts, &knowledge);
    assert_eq!(patient.holds(&when("{ pregnant = false }")), Answer::Yes);
    facts.demographics.sex = Some(Sex::Female);
    let patient = Patient::new(&facts, &knowledge);
    assert_eq!(
        patient.holds(&when("{ pregnant = false }")),
        Answer::Unknown
    );
}

proptest! {
    /// De Morgan, with unknowns: what `not` and `any` say is what `all` of the opposites says.
    #[test]
    fn not_any_is_all_not(cough in 0..3_u8, age in prop::option::of(0.0..120.0_f64)) {
        let knowledge = knowledge();
        let mut facts = of(match cough {
            0 => vec![],
            1 => vec![Fact::present(id("finding.cough"))],
            _ => vec![Fact::absent(id("finding.cough"))],
        });
        facts.demographics.age = age.map(|age| Years::try_from(age).expect("an age"));
        let patient = Patient::new(&facts, &knowledge);
        let one = when(
            r#"{ not = { any = [{ present = "finding.cough" }, { age_at_least = 65 }] } }"#,
        );
        let two = when(
            r#"{ all = [{ absent = "finding.cough" }, { not = { age_at_least = 65 } }] }"#,
        );
        prop_assert_eq!(patient.holds(&one), patient.holds(&two));
    }
}

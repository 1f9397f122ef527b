//! Likelihoods, rules and the differential over one small knowledge file, made up for these tests.

use proptest::prelude::*;

use super::{
    diagnostician::{Diagnostician, Settings, ratio},
    differential::{Differential, Standing, Verdict},
    likelihood::LikelihoodTable,
    opinion::{ModelIdentity, Opinion, Step},
    rules::{Outcome, Rulings},
};
use crate::{
    decision::{
        facts::{Answer, Fact, Facts, Origin},
        knowledge::{ConceptId, Knowledge, KnowledgeFile, Strength, When},
    },
    text::Span,
};

const HEAD: &str = r#"
[header]
name = "Made up"
version = "1"
licence = "Apache-2.0"
language = "en"
disclaimer = "For tests."

[[source]]
id = "guide"
title = "A guideline"
organisation = "A society"
year = 2024
url = "https://example.org/guideline"
"#;

const LIKELIHOODS: &str = r#"
[[condition]]
id = "condition.one"
description = "The first."
prior = 0.1
setting = "nobody"
source = "guide"

[[condition]]
id = "condition.two"
description = "The second."
prior = 0.2
setting = "nobody"
source = "guide"

[[likelihood]]
condition = "condition.one"
finding = "finding.a"
positive = 4.0
negative = 0.5
source = "guide"

[[likelihood]]
condition = "condition.two"
finding = "finding.a"
positive = 0.5
source = "guide"

[[likelihood]]
condition = "condition.one"
finding = "finding.b"
sensitivity = 0.8
specificity = 0.9
group = "same"
source = "guide"

[[likelihood]]
condition = "condition.one"
finding = "finding.c"
positive = 3.0
negative = 0.1
group = "same"
source = "guide"
"#;

/// Findings a to d, conditions one and two, and what a test adds.
fn knowledge(more: &str) -> Knowledge {
    let concepts = [
        "finding.a",
        "finding.b",
        "finding.c",
        "finding.d",
        "condition.one",
        "condition.two",
    ];
    let concepts = concepts.map(|id| {
        let name = id.replace('.', " ");
        format!("[[concept]]\nid = \"{id}\"\nnames.en = [\"{name}\"]\nnames.zh = [\"试 {name}\"]\n")
    });
    let text = format!("{HEAD}{}{more}", concepts.concat());
    let file = KnowledgeFile {
        name: "made-up.toml".into(),
        text,
    };
    Knowledge::from_files(&[file]).expect("a sound file")
}

fn rule(name: &str, concludes: &str, effect: &str, strength: &str, when: &str) -> String {
    format!(
        "[[rule]]\nid = \"rule.{name}\"\nsays = \"Made up.\"\nconcludes = \"{concludes}\"\neffect = \"{effect}\"\n\
         strength = \"{strength}\"\nwhen = {when}\nsource = \"guide\"\ncitation = \"table 1\"\n"
    )
}

fn id(text: &str) -> ConceptId {
    text.parse().expect("an id")
}

/// `+a` is there, `-b` is absent. The n-th stands at byte 10 n.
fn facts(said: &[&str]) -> Facts {
    let facts = said.iter().enumerate().map(|(at, said)| {
        let (sign, name) = said.split_at(1);
        let concept = id(&format!("finding.{name}"));
        let mut fact = match sign {
            "+" => Fact::present(concept),
            _ => Fact::absent(concept),
        };
        fact.span = Some(Span::new(10 * at, 10 * at + 1));
        fact
    });
    Facts {
        facts: facts.collect(),
        ..Facts::default()
    }
}

fn diagnose(knowledge: &Knowledge, facts: &Facts, opinions: &[Opinion]) -> Differential {
    let diagnostician = Diagnostician::new(knowledge, Settings::default());
    diagnostician
        .diagnose(facts, opinions)
        .expect("usual costs")
}

fn probability(differential: &Differential, condition: &str) -> f64 {
    match differential.standing(condition) {
        Standing::Candidate(candidate) => candidate.probability,
        Standing::Unknown => panic!("{condition} is no candidate"),
    }
}

fn bits(differential: &Differential, condition: &str) -> f64 {
    match differential.standing(condition) {
        Standing::Candidate(candidate) => candidate.bits,
        Standing::Unknown => panic!("{condition} is no candidate"),
    }
}

fn close(found: f64, expected: f64) {
    assert!((found - expected).abs() < 1e-9, "{found} is not {expected}");
}

#[test]
fn probabilities_are_priors_times_ratios_over_all_and_none_of_these() {
    let table = LikelihoodTable::from_knowledge(&knowledge(LIKELIHOODS));
    let before = table.weigh([]);
    close(before.probabilities()[1], 0.2);
    close(before.none_of_these(), 0.7);
    let after = table.weigh([("finding.a", true), ("finding.c", false)]);
    // 0.1 × 4 × 0.1, 0.2 × 0.5, 0.7.
    let sum = 0.04 + 0.1 + 0.7;
    close(after.probabilities()[0], 0.04 / sum);
    close(after.probabilities()[1], 0.1 / sum);
    close(after.none_of_these(), 0.7 / sum);
    assert_eq!(after.ranking(), [1, 0]);
}

#[test]
fn of_one_group_only_the_loudest_counts() {
    let table = LikelihoodTable::from_knowledge(&knowledge(LIKELIHOODS));
    // Ratios 8 and 3.
    let both = table.weigh([("finding.c", true), ("finding.b", true)]);
    let one = table.weigh([("finding.b", true)]);
    assert_eq!(both.probabilities(), one.probabilities());
    let counted: Vec<_> = both
        .arguments()
        .iter()
        .map(|a| (a.finding, a.is_counted))
        .collect();
    assert_eq!(counted, [("finding.b", true), ("finding.c", false)]);
    // Ratios 2/9 and 3: 4.5 times less is louder than 3 times more.
    let against = table.weigh([("finding.c", true), ("finding.b", false)]);
    close(against.log_weights().0[0].exp(), 0.1 * 0.2 / 0.9);
}

#[test]
fn what_is_contradicted_or_unknown_counts_for_nothing() {
    let table = LikelihoodTable::from_knowledge(&knowledge(LIKELIHOODS));
    let weighed = table.weigh([
        ("finding.a", true),
        ("finding.a", false),
        ("finding.z", true),
    ]);
    assert_eq!(weighed.probabilities(), table.weigh([]).probabilities());
    assert_eq!(weighed.unknown(), ["finding.z"]);
}

#[test]
fn rules_follow_the_three_valued_tables() {
    use Outcome::{CannotTell as U, Fired as Y, NotFired as N};
    let a = r#"{ present = "finding.a" }"#;
    let b = r#"{ present = "finding.b" }"#;
    let c = r#"{ present = "finding.c" }"#;
    let conditions = [
        format!("{{ all = [{a}, {b}] }}"),
        format!("{{ any = [{a}, {b}] }}"),
        format!("{{ not = {a} }}"),
        format!("{{ at_least = 2, of = [{a}, {b}, {c}] }}"),
        r#"{ absent = "finding.b" }"#.to_owned(),
    ];
    let rules = conditions
        .iter()
        .enumerate()
        .map(|(at, when)| rule(&at.to_string(), "condition.one", "for", "weak", when));
    let knowledge = knowledge(&format!("{LIKELIHOODS}{}", rules.collect::<String>()));
    let table = [
        // What is known, then: both, either, not a, two of three, b absent.
        (&["+a", "+b"][..], [Y, Y, N, Y, N]),
        (&["+a", "-b"], [N, Y, N, U, Y]),
        (&["+a"], [U, Y, N, U, U]),
        (&["-a", "+b"], [N, Y, Y, U, N]),
        (&["-a", "-b"], [N, N, Y, N, Y]),
        (&["-a"], [N, U, Y, U, U]),
        (&["+b"], [U, Y, U, U, N]),
        (&["-b"], [N, U, U, U, Y]),
        (&[], [U, U, U, U, U]),
        (&["+a", "-b", "+c"], [N, Y, N, Y, Y]),
    ];
    for (said, expected) in table {
        let rulings = Rulings::of(&facts(said), &knowledge).rulings;
        let outcomes: Vec<Outcome> = rulings.iter().map(|ruling| ruling.outcome).collect();
        assert_eq!(outcomes, expected, "{said:?}");
        for ruling in rulings {
            assert_eq!(ruling.missing.is_empty(), ruling.outcome != U);
        }
    }
}

#[test]
fn only_facts_that_could_change_a_rule_are_missing() {
    let when = r#"{ all = [
        { any = [{ present = "finding.a" }, { present = "finding.b" }] },
        { present = "finding.c" }, { present = "finding.c" }, { age_at_least = 65 },
    ] }"#
        .replace('\n', " ");
    let knowledge = knowledge(&format!(
        "{LIKELIHOODS}{}",
        rule("old", "condition.one", "for", "strong", &when)
    ));
    let rulings = Rulings::of(&facts(&["+a"]), &knowledge).rulings;
    let missing = &rulings[0].missing;
    assert_eq!(missing.len(), 2, "not b: a is enough");
    assert_eq!(missing[0], When::Present(id("finding.c")));
    assert!(matches!(missing[1], When::Age(_)));
}

#[test]
fn a_ruling_shows_its_source_and_where_its_facts_stand() {
    let knowledge = knowledge(&format!(
        "{LIKELIHOODS}{}",
        rule(
            "b",
            "condition.one",
            "for",
            "strong",
            r#"{ present = "finding.b" }"#
        )
    ));
    let ruling = Rulings::of(&facts(&["+a", "+b"]), &knowledge)
        .rulings
        .remove(0);
    let source = ruling.source.expect("every rule has one");
    assert_eq!(
        (source.title.as_str(), source.year, source.url.as_str()),
        ("A guideline", Some(2024), "https://example.org/guideline")
    );
    assert_eq!(ruling.citation.as_deref(), Some("table 1"));
    assert_eq!(
        (&ruling.parts[0].facts, &ruling.parts[0].spans),
        (&vec![1], &vec![Span::new(10, 11)])
    );
}

#[test]
fn what_a_definite_rule_concludes_is_a_fact_for_the_next() {
    let rules = [
        rule(
            "last",
            "condition.one",
            "for",
            "weak",
            r#"{ present = "finding.c" }"#,
        ),
        rule(
            "second",
            "finding.c",
            "for",
            "definite",
            r#"{ present = "finding.b" }"#,
        ),
        rule(
            "first",
            "finding.b",
            "for",
            "definite",
            r#"{ present = "finding.a" }"#,
        ),
    ];
    let knowledge = knowledge(&format!("{LIKELIHOODS}{}", rules.concat()));
    let rulings = Rulings::of(&facts(&["+a"]), &knowledge);
    assert!(rulings.rulings.iter().all(|ruling| ruling.has_fired()));
    let origins: Vec<Origin> = rulings.facts.facts.iter().map(|fact| fact.origin).collect();
    assert_eq!(
        origins,
        [Origin::Stated, Origin::Concluded, Origin::Concluded]
    );
    assert!(
        rulings
            .facts
            .facts
            .iter()
            .all(|fact| fact.span == Some(Span::new(0, 1)))
    );
}

#[test]
fn a_rule_adds_only_what_it_says_beyond_the_figures_on_the_same_facts() {
    let strong = rule(
        "a",
        "condition.one",
        "for",
        "strong",
        r#"{ present = "finding.a" }"#,
    );
    let other = rule(
        "d",
        "condition.one",
        "for",
        "moderate",
        r#"{ present = "finding.d" }"#,
    );
    let with = |rules: &str, said: &[&str]| {
        let knowledge = knowledge(&format!("{LIKELIHOODS}{rules}"));
        bits(&diagnose(&knowledge, &facts(said), &[]), "condition.one")
    };
    close(with("", &["+a"]), 2.0);
    close(with(&strong, &["+a"]), 10_f64.log2());
    close(with(&other, &["+a", "+d"]), 2.0 + 5_f64.log2());
    let weak = strong.replace("strong", "weak");
    close(with(&weak, &["+a"]), 2.0);
    // Of two rules on one side only the one that adds most.
    let twice = rule(
        "e",
        "condition.one",
        "for",
        "weak",
        r#"{ any = [{ present = "finding.d" }, { present = "finding.c" }] }"#,
    );
    close(
        with(&format!("{other}{twice}"), &["+a", "+d"]),
        2.0 + 5_f64.log2(),
    );
    let against = rule(
        "f",
        "condition.one",
        "against",
        "strong",
        r#"{ present = "finding.d" }"#,
    );
    close(with(&against, &["+a", "+d"]), 2.0 - 10_f64.log2());
}

#[test]
fn each_candidate_shows_what_speaks_for_it_against_it_and_what_is_missing() {
    let knowledge = knowledge(LIKELIHOODS);
    let differential = diagnose(&knowledge, &facts(&["+b", "+a"]), &[]);
    assert_eq!(differential.verdict, Verdict::Ranked);
    let first = &differential.candidates[0];
    assert_eq!(first.condition, id("condition.one"));
    let supporting: Vec<_> = first
        .supporting
        .iter()
        .map(|reason| &reason.finding)
        .collect();
    assert_eq!(
        supporting,
        [&id("finding.b"), &id("finding.a")],
        "8 is louder than 4"
    );
    assert_eq!(first.supporting[1].spans, [Span::new(10, 11)]);
    assert!(
        first
            .supporting
            .iter()
            .all(|reason| reason.source.is_some())
    );
    assert_eq!(first.missing[0].finding, id("finding.c"));
    let second = &differential.candidates[1];
    assert_eq!(second.opposing[0].finding, id("finding.a"));
    let total: f64 = differential.candidates.iter().map(|c| c.probability).sum();
    close(total + differential.none_of_these, 1.0);
    assert!(differential.notices[0].contains("For tests."));
}

#[test]
fn nothing_is_concluded_below_the_floor() {
    let knowledge = knowledge(LIKELIHOODS);
    let verdict = |said: &[&str]| diagnose(&knowledge, &facts(said), &[]).verdict;
    let too_little = Verdict::TooLittleEvidence {
        bits: 0.0,
        floor: 2.0,
    };
    assert_eq!(verdict(&[]), too_little);
    assert_eq!(verdict(&["-a"]), too_little, "only something against");
    assert_eq!(verdict(&["+a"]), Verdict::Ranked, "odds times 4");
}

#[test]
fn a_condition_with_evidence_comes_before_a_likelier_one_without() {
    let knowledge = knowledge(&LIKELIHOODS.replace("prior = 0.2", "prior = 0.9"));
    let differential = diagnose(&knowledge, &facts(&["+a"]), &[]);
    let candidates = differential.candidates.iter();
    let order: Vec<_> = candidates.map(|c| c.condition.as_str()).collect();
    assert_eq!(order, ["condition.one", "condition.two"]);
    let two = probability(&differential, "condition.two");
    assert!(two > probability(&differential, "condition.one"));
    assert!(!differential.candidates[1].is_supported);
}

#[test]
fn the_starter_set_finds_a_plain_pneumonia() {
    let knowledge = Knowledge::starter().expect("a sound set");
    let said = [
        "+fever",
        "+dyspnoea",
        "+severe-tachypnoea",
        "+bronchial-breath-sounds",
        "-wheeze",
    ];
    let differential = diagnose(&knowledge, &facts(&said), &[]);
    assert_eq!(differential.verdict, Verdict::Ranked);
    let first = &differential.candidates[0];
    assert_eq!(first.condition, id("condition.pneumonia"));
    assert!(
        first
            .supporting
            .iter()
            .all(|reason| reason.source.is_some())
    );
    assert!(!differential.ask.is_empty());
    serde_json::to_string(&differential).expect("plain data");
}

#[test]
fn what_nobody_knows_is_said_to_be_unknown() {
    let knowledge = knowledge(LIKELIHOODS);
    let differential = diagnose(
        &knowledge,
        &facts(&["+z"]),
        &[opinion("m", "condition.zebra", 0.9)],
    );
    assert_eq!(differential.unknown, ["condition.zebra", "finding.z"]);
    assert!(differential.standing("condition.zebra") == Standing::Unknown);
    close(probability(&differential, "condition.one"), 0.1);
}

#[test]
fn what_a_note_says_outright_is_shown_and_counts_for_nothing() {
    let knowledge = knowledge(LIKELIHOODS);
    let mut stated = facts(&[]);
    stated.facts.push(Fact::present(id("condition.one")));
    let differential = diagnose(&knowledge, &stated, &[]);
    close(probability(&differential, "condition.one"), 0.1);
    let Standing::Candidate(candidate) = differential.standing("condition.one") else {
        panic!("a candidate");
    };
    assert_eq!(candidate.stated, Answer::Yes);
}

fn opinion(model: &str, condition: &str, probability: f64) -> Opinion {
    Opinion {
        model: ModelIdentity {
            name: model.into(),
            version: "1".into(),
            sha256: "00".into(),
        },
        condition: condition.into(),
        probability: probability.try_into().expect("a probability"),
        path: vec![Step {
            question: "age above 60?".into(),
            fact: None,
            outcome: Answer::Yes,
            threshold: Some(60.0),
        }],
    }
}

#[test]
fn models_are_averaged_in_and_shown_with_their_path() {
    let knowledge = knowledge(LIKELIHOODS);
    let differential = diagnose(
        &knowledge,
        &Facts::default(),
        &[opinion("m", "condition.one", 0.9)],
    );
    // √(0.1 × 0.9); the model is silent on the other two.
    let sum = 0.3 + 0.2 + 0.7;
    close(probability(&differential, "condition.one"), 0.3 / sum);
    close(differential.none_of_these, 0.7 / sum);
    assert_eq!(differential.candidates[0].opinions[0].path.len(), 1);
    assert!(
        matches!(differential.verdict, Verdict::TooLittleEvidence { .. }),
        "a model alone lifts no floor"
    );
}

#[test]
fn the_question_that_separates_best_comes_first() {
    let knowledge = knowledge(LIKELIHOODS);
    let differential = diagnose(&knowledge, &facts(&["+b"]), &[]);
    let asked: Vec<_> = differential.ask.iter().map(|ask| &ask.finding).collect();
    assert_eq!(asked, [&id("finding.a")], "c says much the same as b");
    let best = &differential.ask[0];
    assert_eq!(best.if_present.condition, Some(id("condition.one")));
    assert_eq!(best.if_absent.condition, None, "none of these");
    let first = &diagnose(&knowledge, &facts(&[]), &[]).ask[0].finding;
    let mut settings = Settings::default();
    settings.costs.insert(first.clone(), 100.0);
    let dear = Diagnostician::new(&knowledge, settings).diagnose(&facts(&[]), &[]);
    let dear = dear.expect("good costs").ask;
    assert_eq!(dear.len(), 3);
    assert_eq!(&dear[2].finding, first);
    let mut settings = Settings::default();
    settings.costs.insert(id("finding.a"), 0.0);
    assert!(
        Diagnostician::new(&knowledge, settings)
            .diagnose(&facts(&[]), &[])
            .is_err()
    );
}

#[test]
fn strengths_rise() {
    let strengths = [
        Strength::Weak,
        Strength::Moderate,
        Strength::Strong,
        Strength::Definite,
    ];
    assert!(
        strengths
            .windows(2)
            .all(|pair| ratio(pair[0]) < ratio(pair[1]))
    );
}

#[test]
fn nothing_of_a_patient_is_in_debug_output() {
    let knowledge = knowledge(LIKELIHOODS);
    let differential = diagnose(&knowledge, &facts(&["+b"]), &[]);
    let rulings = Rulings::of(&facts(&["+b"]), &knowledge);
    let shown = format!("{differential:?} {rulings:?}");
    assert!(!shown.contains("finding"), "{shown}");
}

/// Every rule and figure of the tests above at once.
fn everything() -> Knowledge {
    let rules = [
        rule(
            "a",
            "condition.one",
            "for",
            "strong",
            r#"{ all = [{ present = "finding.a" }, { present = "finding.d" }] }"#,
        ),
        rule(
            "b",
            "condition.one",
            "for",
            "moderate",
            r#"{ present = "finding.b" }"#,
        ),
        rule(
            "c",
            "condition.two",
            "against",
            "strong",
            r#"{ present = "finding.d" }"#,
        ),
    ];
    knowledge(&format!("{LIKELIHOODS}{}", rules.concat()))
}

fn said() -> impl Strategy<Value = Vec<&'static str>> {
    let all = vec!["+a", "-a", "+b", "-b", "+c", "-c", "+d", "-d"];
    proptest::sample::subsequence(all, 0..8)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn more_that_speaks_for_a_condition_never_lowers_its_odds(said in said(), more in 0_usize..4) {
        let knowledge = everything();
        let more = ["a", "b", "c", "d"][more];
        let before: Vec<&str> = said.into_iter().filter(|said| &said[1..] != more).collect();
        let present = format!("+{more}");
        let after: Vec<&str> = before.iter().copied().chain([present.as_str()]).collect();
        let (before, after) = (
            diagnose(&knowledge, &facts(&before), &[]),
            diagnose(&knowledge, &facts(&after), &[]),
        );
        prop_assert!(bits(&after, "condition.one") >= bits(&before, "condition.one") - 1e-9);
        let odds = |d: &Differential| probability(d, "condition.one") / d.none_of_these;
        prop_assert!(odds(&after) >= odds(&before) * (1.0 - 1e-9));
    }

    #[test]
    fn the_order_of_facts_changes_no_number(said in said(), turn in 0_usize..8) {
        let knowledge = everything();
        let mut turned = said.clone();
        turned.rotate_left(turn.min(said.len()));
        turned.reverse();
        let (one, other) = (
            diagnose(&knowledge, &facts(&said), &[]),
            diagnose(&knowledge, &facts(&turned), &[]),
        );
        for condition in ["condition.one", "condition.two"] {
            prop_assert_eq!(probability(&one, condition).to_bits(), probability(&other, condition).to_bits());
        }
        let asked = |d: &Differential| d.ask.iter().map(|ask| ask.finding.to_string()).collect::<Vec<_>>();
        prop_assert_eq!(asked(&one), asked(&other));
    }
}

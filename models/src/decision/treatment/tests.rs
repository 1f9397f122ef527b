//! Whole cases over a tiny knowledge file, and over the starter set.

use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::*;
use crate::decision::{
    facts::{Allergy, Quantity, Sex, Taken},
    knowledge::{KnowledgeFile, Severity, When},
};

fn tiny() -> Knowledge {
    knowledge(include_str!("tests/tiny.toml"))
}

fn knowledge(text: &str) -> Knowledge {
    let file = KnowledgeFile {
        name: "tiny.toml".into(),
        text: text.into(),
    };
    match Knowledge::from_files(&[file]) {
        Ok(knowledge) => knowledge,
        Err(refused) => panic!("{refused}"),
    }
}

fn id(text: &str) -> ConceptId {
    text.parse().expect("an id")
}

fn entry(text: &str) -> EntryId {
    text.parse().expect("an id")
}

/// A man of 50 with healthy kidneys, no allergies, no drugs, who never had angioedema.
fn well() -> Facts {
    let mut facts = Facts {
        allergies: Some(vec![]),
        drugs: Some(vec![]),
        ..Facts::default()
    };
    facts.demographics.age = Some(50.0.try_into().expect("an age"));
    facts.demographics.sex = Some(Sex::Male);
    facts
        .facts
        .push(measured("test.egfr", 90.0, "mL/min/1.73m2"));
    facts.facts.push(Fact::absent(id("finding.angioedema")));
    facts.facts.push(Fact::absent(id("finding.confusion")));
    facts
}

fn measured(test: &str, number: f64, unit: &str) -> Fact {
    Fact::measured(id(test), Quantity::new(number, unit).expect("finite"))
}

fn allergic(mut facts: Facts, to: &str) -> Facts {
    facts.allergies.get_or_insert_default().push(Allergy {
        to: id(to),
        span: None,
    });
    facts
}

fn taking(mut facts: Facts, drug: &str) -> Facts {
    facts.drugs.get_or_insert_default().push(Taken {
        drug: id(drug),
        dose: None,
        frequency: None,
        span: None,
    });
    facts
}

fn aged(mut facts: Facts, years: f64) -> Facts {
    facts.demographics.age = Some(years.try_into().expect("an age"));
    facts
}

fn without(mut facts: Facts, concept: &str) -> Facts {
    facts.facts.retain(|fact| fact.concept.as_str() != concept);
    facts
}

fn request(conditions: &[&str]) -> Request {
    Request::new(conditions.iter().map(|text| id(text)).collect())
}

/// Works a case up and hands it to a test.
fn with<T>(facts: &Facts, request: &Request, test: impl FnOnce(&Workup<'_>) -> T) -> T {
    let knowledge = tiny();
    let case = Case::new(&knowledge, facts, request).expect("a small case");
    test(&case.work_up().expect("a small case"))
}

fn pneumonia<T>(facts: &Facts, test: impl FnOnce(&Workup<'_>) -> T) -> T {
    with(facts, &request(&["condition.pneumonia"]), test)
}

fn option<'w>(workup: &'w Workup<'_>, treatment: &str) -> &'w TreatmentOption {
    let mut all = workup
        .options()
        .conditions
        .iter()
        .flat_map(|of| &of.options);
    all.find(|option| option.treatment.as_str() == treatment)
        .expect("the treatment")
}

fn amount<'w>(workup: &'w Workup<'_>, treatment: &str) -> &'w Amount {
    option(workup, treatment).steps[0]
        .amount()
        .expect("a known dose")
}

fn why(option: &TreatmentOption) -> Vec<Check> {
    let hard = option.findings.iter().filter(|finding| finding.rules_out);
    hard.map(|finding| finding.check).collect()
}

fn best<'w>(workup: &'w Workup<'_>) -> Vec<Vec<&'w str>> {
    let best = workup.plans().best.iter();
    best.map(|plan| plan.treatments.iter().map(EntryId::as_str).collect())
        .collect()
}

fn needs(option: &TreatmentOption) -> Vec<String> {
    Need::lines(&option.needs)
}

fn drug(text: &str) -> Prescription {
    Prescription {
        drug: id(text),
        dose: None,
        times_a_day: None,
        route: None,
    }
}

fn dosed(text: &str, number: f64, unit: &str, times: f64) -> Prescription {
    Prescription {
        dose: Some(Quantity::new(number, unit).expect("finite")),
        times_a_day: Some(times),
        ..drug(text)
    }
}

#[test]
fn a_plain_case_gets_the_first_line_with_dose_and_source() {
    pneumonia(&well(), |workup| {
        let first = &workup.options().conditions[0].options[0];
        assert_eq!(first.treatment.as_str(), "treatment.amoxicillin");
        assert!(first.is_possible() && first.findings.is_empty() && first.needs.is_empty());
        assert_eq!(
            first.steps[0].line(),
            "amoxicillin oral 1 g every 8 hours, for 5 days \
             [A society 2024, table 3, https://example.org/guideline]"
        );
        let plan = &workup.plans().best[0];
        assert_eq!(plan.treatments, [entry("treatment.amoxicillin")]);
        // 6 of 9 for the line and 3 of 9 for the grade.
        assert!(plan.scores.concordance == 1.0 && plan.scores.benefit == 1.0);
        // Three doses a day and a low cost.
        assert_eq!(
            (plan.scores.patient_burden, plan.scores.open_questions),
            (4, 0)
        );
        assert_eq!(plan.steps[0].sources, [entry("guide")]);
    });
}

#[test]
fn an_allergy_rules_out_the_drug_itself_and_every_drug_of_its_class() {
    for to in ["drug.amoxicillin", "class.penicillin"] {
        pneumonia(&allergic(well(), to), |workup| {
            let amoxicillin = option(workup, "treatment.amoxicillin");
            assert_eq!(amoxicillin.standing, Standing::RuledOut, "{to}");
            assert_eq!(why(amoxicillin), [Check::Allergy]);
            assert!(
                best(workup)
                    .iter()
                    .all(|plan| plan != &["treatment.amoxicillin"])
            );
            let lost = &workup.plans().lost[0];
            assert!(
                matches!(&lost.because, Because::RuledOut { finding } if finding.check == Check::Allergy)
            );
        });
    }
}

#[test]
fn a_class_that_reacts_too_is_ruled_out_as_the_knowledge_says() {
    let mut facts = allergic(
        aged(without(well(), "finding.confusion"), 70.0),
        "class.penicillin",
    );
    facts.facts.push(Fact::present(id("finding.confusion")));
    pneumonia(&facts, |workup| {
        let ceftriaxone = option(workup, "treatment.ceftriaxone");
        assert_eq!(why(ceftriaxone), [Check::Contraindication]);
        let finding = &ceftriaxone.findings[0];
        assert_eq!(
            finding.line(),
            "contraindication: ceftriaxone: allergic to penicillin. Some who react to penicillins react to \
             cephalosporins. [An agency 2023, https://example.org/label]"
        );
    });
}

#[test]
fn a_major_warning_may_be_tolerated_and_an_allergy_never() {
    let mut facts = allergic(
        aged(without(well(), "finding.confusion"), 70.0),
        "class.penicillin",
    );
    facts.facts.push(Fact::present(id("finding.confusion")));
    let mut request = request(&["condition.pneumonia"]);
    request.wishes.tolerated = Tolerated::Major;
    with(&facts, &request, |workup| {
        let ceftriaxone = option(workup, "treatment.ceftriaxone");
        assert!(ceftriaxone.is_possible() && ceftriaxone.findings.len() == 1);
        assert!(!option(workup, "treatment.amoxicillin").is_possible());
    });
}

#[test]
fn the_dose_follows_the_kidneys() {
    let mut facts = without(well(), "test.egfr");
    facts
        .facts
        .push(measured("test.egfr", 20.0, "mL/min/1.73 m²"));
    pneumonia(&facts, |workup| {
        let amount = amount(workup, "treatment.amoxicillin");
        assert_eq!((amount.high, amount.unit.as_str()), (500.0, "mg"));
        assert_eq!(
            amount.because.as_deref(),
            Some("eGFR below 30 mL/min/1.73m2")
        );
    });
}

#[test]
fn an_unknown_kidney_function_is_asked_for_and_not_guessed() {
    pneumonia(&without(well(), "test.egfr"), |workup| {
        let amoxicillin = option(workup, "treatment.amoxicillin");
        assert!(amoxicillin.steps[0].dose == PlannedDose::Needs);
        assert_eq!(
            needs(amoxicillin),
            ["needs: eGFR (or creatinine), for the dose: amoxicillin"]
        );
        assert_eq!(
            amoxicillin.steps[0].text(),
            "amoxicillin oral (dose not known yet), for 5 days"
        );
        let plan = |name| {
            let mut best = workup.plans().best.iter();
            best.find(|plan| plan.treatments == [entry(name)])
                .map(|plan| plan.scores.open_questions)
        };
        assert_eq!(plan("treatment.amoxicillin"), Some(1));
        // Worse in every other score, and it can be given right away.
        assert_eq!(plan("treatment.clarithromycin"), Some(0));
    });
}

#[test]
fn kidney_function_is_computed_from_creatinine_and_says_how() {
    let mut facts = aged(without(well(), "test.egfr"), 70.0);
    facts.facts.push(measured("test.creatinine", 3.0, "mg/dL"));
    pneumonia(&facts, |workup| {
        assert_eq!(amount(workup, "treatment.amoxicillin").high, 500.0);
        let computed = &workup.options().computed[0];
        // 142 × (3/0.9)^-1.2 × 0.9938^70 = 21.67.
        assert_eq!(
            (computed.value, computed.test.as_str()),
            (22.0, "test.egfr")
        );
        assert!(computed.formula.contains("CKD-EPI 2021") && computed.source.contains("doi:"));
        assert_eq!(computed.from, "creatinine 3.00 mg/dL, age 70 years, male");
    });
}

#[test]
fn nothing_is_computed_for_children_in_pregnancy_or_where_it_was_measured() {
    let creatinine = measured("test.creatinine", 1.0, "mg/dL");
    let mut child = aged(without(well(), "test.egfr"), 15.0);
    child.facts.push(creatinine.clone());
    let mut pregnant = without(well(), "test.egfr");
    pregnant.facts.push(creatinine.clone());
    pregnant.demographics.sex = Some(Sex::Female);
    pregnant.demographics.pregnant = Some(true);
    let mut known = well();
    known.facts.push(creatinine);
    for facts in [child, pregnant, known] {
        pneumonia(&facts, |workup| {
            assert!(workup.options().computed.is_empty())
        });
    }
}

#[test]
fn a_childs_dose_follows_the_weight_up_to_the_most() {
    let mut facts = aged(well(), 6.0);
    pneumonia(&facts, |workup| {
        let amoxicillin = option(workup, "treatment.amoxicillin");
        assert_eq!(
            needs(amoxicillin),
            ["needs: weight, for the dose: amoxicillin"]
        );
    });
    for (weight, high, capped) in [(20.0, 600.0, false), (50.0, 1000.0, true)] {
        facts.demographics.weight_kg = Some(weight.try_into().expect("a weight"));
        pneumonia(&facts, |workup| {
            let amount = amount(workup, "treatment.amoxicillin");
            assert_eq!((amount.high, amount.capped), (high, capped));
        });
    }
}

#[test]
fn age_decides_what_applies() {
    let mut facts = aged(well(), 6.0);
    facts.demographics.weight_kg = Some(20.0.try_into().expect("a weight"));
    pneumonia(&facts, |workup| {
        let doxycycline = option(workup, "treatment.doxycycline");
        assert_eq!(doxycycline.standing, Standing::DoesNotApply);
        assert!(doxycycline.steps.is_empty());
    });
}

#[test]
fn a_drug_that_meets_a_taken_one_badly_is_ruled_out_and_a_milder_meeting_is_a_warning() {
    pneumonia(&taking(well(), "drug.warfarin"), |workup| {
        assert_eq!(
            why(option(workup, "treatment.clarithromycin")),
            [Check::Interaction]
        );
        let doxycycline = option(workup, "treatment.doxycycline");
        assert!(doxycycline.is_possible());
        assert_eq!(doxycycline.findings[0].severity, Severity::Moderate);
        assert!(
            doxycycline.findings[0]
                .line()
                .contains("Check INR. [An agency 2023")
        );
    });
}

#[test]
fn drugs_of_one_plan_are_checked_against_each_other() {
    let request = request(&["condition.pneumonia", "condition.fibrillation"]);
    with(&well(), &request, |workup| {
        let pair = ["treatment.clarithromycin", "treatment.warfarin"].map(entry);
        let because = workup.why_not(&pair);
        assert!(matches!(
            &because,
            Some(Because::RuledOut { finding }) if finding.check == Check::Interaction
                && finding.drugs == [id("drug.clarithromycin"), id("drug.warfarin")]
        ));
        assert!(workup.plans().lost.iter().any(
            |lost| lost.treatments == pair && matches!(lost.because, Because::RuledOut { .. })
        ));
    });
    let request = self::request(&["condition.pneumonia", "condition.hypertension"]);
    with(&well(), &request, |workup| {
        let pair = ["treatment.amoxicillin", "treatment.enalapril-bisoprolol"].map(entry);
        let Some(Because::Dominated { by, worse_in, .. }) = workup.why_not(&pair) else {
            panic!("it must lose to a better plan");
        };
        assert!(worse_in.contains(&Score::InteractionBurden));
        let better = ["treatment.amoxicillin", "treatment.enalapril"].map(entry);
        assert_eq!(workup.plans().best[by].treatments, better);
        assert!(workup.why_not(&better).is_none());
    });
}

#[test]
fn a_second_drug_of_a_class_is_a_duplicate_and_the_same_drug_is_not() {
    let request = request(&["condition.hypertension"]);
    with(&taking(well(), "drug.ramipril"), &request, |workup| {
        let enalapril = option(workup, "treatment.enalapril");
        assert_eq!(why(enalapril), [Check::DuplicateClass]);
        let condition = &workup.options().conditions[0];
        assert_eq!(condition.nothing, Some(Nothing::AllRuledOut));
    });
    with(&taking(well(), "drug.enalapril"), &request, |workup| {
        let enalapril = option(workup, "treatment.enalapril");
        assert!(enalapril.is_possible() && enalapril.steps[1].taken_already);
        // Only the cost: no new drug to take.
        assert_eq!(workup.plans().best[0].scores.patient_burden, 1);
    });
}

#[test]
fn a_guideline_that_joins_two_drugs_is_a_reason_to_join_them() {
    with(&well(), &request(&["condition.hypertension"]), |workup| {
        let both = option(workup, "treatment.enalapril-bisoprolol");
        assert!(both.is_possible());
        assert_eq!(
            (both.findings.len(), both.findings[0].severity),
            (1, Severity::Major)
        );
        let lost = &workup.plans().lost[0];
        assert!(
            matches!(&lost.because, Because::Dominated { by: 0, worse_in, .. }
            if worse_in.contains(&Score::InteractionBurden) && worse_in.contains(&Score::Concordance))
        );
    });
}

#[test]
fn what_is_never_done_is_ruled_out_even_where_a_treatment_joins_it() {
    let text = include_str!("tests/tiny.toml").replace(
        "severity = \"major\"\nmechanism = \"Invented",
        "severity = \"contraindicated\"\nmechanism = \"Invented",
    );
    let knowledge = knowledge(&text);
    let request = request(&["condition.hypertension"]);
    let facts = well();
    let case = Case::new(&knowledge, &facts, &request).expect("a small case");
    let workup = case.work_up().expect("a small case");
    let both = option(&workup, "treatment.enalapril-bisoprolol");
    assert_eq!(why(both), [Check::Interaction]);
    assert_eq!(best(&workup), [["treatment.enalapril"]]);
}

#[test]
fn a_drug_that_is_taken_already_may_be_joined_by_the_guideline_that_gives_both() {
    let request = request(&["condition.hypertension"]);
    with(&taking(well(), "drug.enalapril"), &request, |workup| {
        let both = option(workup, "treatment.enalapril-bisoprolol");
        assert!(both.is_possible());
        assert_eq!(
            (both.findings.len(), both.findings[0].severity),
            (1, Severity::Major)
        );
        let evaluation = workup
            .evaluate(&[drug("drug.bisoprolol")])
            .expect("a short plan");
        assert_eq!(evaluation.verdict, Verdict::Warnings);
        assert_eq!(
            evaluation.treated[0].treatment,
            Some(entry("treatment.enalapril-bisoprolol"))
        );
        // One major warning, once, however the drugs come together.
        assert_eq!(evaluation.scores.interaction_burden, 10);
        let pair = [drug("drug.enalapril"), drug("drug.bisoprolol")];
        let evaluation = workup.evaluate(&pair).expect("a short plan");
        assert_eq!(evaluation.scores.interaction_burden, 10);
    });
    with(&well(), &request, |workup| {
        let pair = [drug("drug.enalapril"), drug("drug.bisoprolol")];
        let evaluation = workup.evaluate(&pair).expect("a short plan");
        // Enalapril with less salt is first line; another treatment joins it with bisoprolol.
        assert_eq!(evaluation.verdict, Verdict::Warnings);
        assert_eq!(
            evaluation.treated[0].treatment,
            Some(entry("treatment.enalapril"))
        );
        assert_eq!(evaluation.scores.interaction_burden, 10);
    });
    let taken = taking(taking(well(), "drug.enalapril"), "drug.bisoprolol");
    with(&taken, &request, |workup| {
        assert_eq!(best(workup), [["treatment.enalapril-bisoprolol"]]);
        assert_eq!(workup.plans().best[0].scores.interaction_burden, 10);
    });
}

#[test]
fn pregnancy_rules_out_and_is_asked_where_it_is_not_known() {
    let mut facts = well();
    facts.demographics.sex = Some(Sex::Female);
    pneumonia(&facts, |workup| {
        let doxycycline = option(workup, "treatment.doxycycline");
        assert!(doxycycline.is_possible());
        assert_eq!(
            needs(doxycycline),
            [
                "needs: whether the patient is pregnant, to know whether something speaks against it: doxycycline"
            ]
        );
    });
    facts.demographics.pregnant = Some(true);
    pneumonia(&facts, |workup| {
        assert_eq!(
            why(option(workup, "treatment.doxycycline")),
            [Check::Contraindication]
        );
    });
    pneumonia(&well(), |workup| {
        assert!(
            option(workup, "treatment.doxycycline").needs.is_empty(),
            "men are not asked"
        );
    });
}

#[test]
fn unknown_allergies_and_drugs_are_asked_for() {
    let mut facts = well();
    (facts.allergies, facts.drugs) = (None, None);
    pneumonia(&facts, |workup| {
        let amoxicillin = option(workup, "treatment.amoxicillin");
        assert_eq!(
            needs(amoxicillin),
            [
                "needs: allergies, to check allergies: amoxicillin",
                "needs: drugs taken now, to check interactions: amoxicillin"
            ]
        );
        assert_eq!(workup.plans().best[0].scores.open_questions, 2);
    });
}

#[test]
fn a_score_that_is_not_known_asks_for_its_items() {
    let facts = aged(without(well(), "finding.confusion"), 70.0);
    pneumonia(&facts, |workup| {
        let ceftriaxone = option(workup, "treatment.ceftriaxone");
        assert_eq!(ceftriaxone.standing, Standing::Unclear);
        assert!(ceftriaxone.steps.is_empty());
        assert_eq!(
            needs(ceftriaxone),
            ["needs: confusion, to know whether this is for the patient: Ceftriaxone into a vein"]
        );
    });
}

#[test]
fn what_the_knowledge_does_not_have_is_said_to_be_unknown() {
    let facts = allergic(taking(well(), "drug.moonbeam"), "class.dust");
    let request = request(&["condition.pneumonia", "condition.hiccups", "condition.gout"]);
    with(&facts, &request, |workup| {
        let lines: Vec<String> = workup.options().unknown.iter().map(Unknown::line).collect();
        assert_eq!(
            lines,
            [
                "condition.hiccups: not known, no treatment can be proposed",
                "drug.moonbeam: not known, interactions could not be checked",
                "class.dust: not known, allergy to related drugs could not be checked",
            ]
        );
        let nothing: Vec<_> = workup
            .options()
            .conditions
            .iter()
            .map(|of| of.nothing)
            .collect();
        assert_eq!(
            nothing,
            [
                None,
                Some(Nothing::UnknownCondition),
                Some(Nothing::NoTreatment)
            ]
        );
        assert_eq!(
            workup.plans().untreated,
            [id("condition.hiccups"), id("condition.gout")]
        );
        // One of three conditions is treated.
        assert!((workup.plans().best[0].scores.benefit - 1.0 / 3.0).abs() < 1e-12);
    });
}

#[test]
fn where_everything_is_excluded_nothing_is_proposed_and_it_is_said() {
    let facts = allergic(allergic(well(), "class.penicillin"), "drug.doxycycline");
    let facts = taking(facts, "drug.warfarin");
    pneumonia(&facts, |workup| {
        let condition = &workup.options().conditions[0];
        assert_eq!(condition.nothing, Some(Nothing::AllRuledOut));
        assert!(workup.plans().best.is_empty());
        assert_eq!(workup.plans().untreated, [id("condition.pneumonia")]);
        assert_eq!(workup.plans().lost.len(), 3, "each with its reason");
    });
}

#[test]
fn an_exclusion_of_the_treatment_itself_says_why() {
    let mut facts = without(well(), "test.egfr");
    facts
        .facts
        .push(measured("test.egfr", 20.0, "mL/min/1.73m2"));
    with(&facts, &request(&["condition.fibrillation"]), |workup| {
        let dabigatran = option(workup, "treatment.dabigatran");
        assert_eq!(why(dabigatran), [Check::Exclusion]);
        assert_eq!(
            dabigatran.findings[0].says,
            "Dabigatran: eGFR below 30 mL/min/1.73m2."
        );
    });
}

#[test]
fn a_reason_names_what_is_so_and_not_what_else_would_do() {
    let text = include_str!("tests/tiny.toml").replace(
        "exclude_if = { test = \"test.egfr\", below = 30, unit = \"mL/min/1.73m2\" }",
        "exclude_if = { any = [{ age_at_least = 90 }, { all = [{ sex = \"male\" }, { not = { taking = \
         \"drug.warfarin\" } }] }] }",
    );
    let knowledge = knowledge(&text);
    let request = request(&["condition.fibrillation"]);
    let facts = well();
    let case = Case::new(&knowledge, &facts, &request).expect("a small case");
    let workup = case.work_up().expect("a small case");
    let dabigatran = option(&workup, "treatment.dabigatran");
    assert_eq!(
        dabigatran.findings[0].says,
        "Dabigatran: male and not (takes warfarin)."
    );
}

#[test]
fn a_narrower_condition_gets_the_treatments_of_the_wider_one_once() {
    let request = request(&["condition.pneumonia", "condition.lobar-pneumonia"]);
    with(&well(), &request, |workup| {
        assert_eq!(workup.options().conditions.len(), 1);
        assert_eq!(best(workup)[0], ["treatment.amoxicillin"]);
    });
}

#[test]
fn wishes_change_what_is_best() {
    let mut facts = aged(without(well(), "finding.confusion"), 70.0);
    facts.facts.push(Fact::present(id("finding.confusion")));
    let mut request = request(&["condition.pneumonia"]);
    request.wishes.no_injections = true;
    request.wishes.times_a_day_at_most = Some(1.0);
    request.wishes.refused = vec![id("class.penicillin")];
    with(&facts, &request, |workup| {
        assert_eq!(
            why(option(workup, "treatment.amoxicillin")),
            [Check::Refused]
        );
        let burden = |name| {
            let plans = workup.plans();
            let best = plans
                .best
                .iter()
                .find(|plan| plan.treatments == [entry(name)]);
            best.map(|plan| plan.scores.patient_burden)
        };
        // One dose, a moderate cost, one wish broken; one dose, a low cost.
        assert_eq!(burden("treatment.ceftriaxone"), Some(1 + 2 + 5));
        assert_eq!(burden("treatment.doxycycline"), Some(1 + 1));
    });
}

#[test]
fn two_treatments_may_share_a_drug_that_one_of_them_joins_with_another() {
    let text = format!(
        "{}\n[[treatment]]\nid = \"treatment.gout\"\nname = \"Gout\"\ncondition = \"condition.gout\"\n\
         line = \"first\"\nbenefit = \"low\"\nmonitoring_burden = \"low\"\ncost = \"low\"\n\
         source = \"guide\"\n[[treatment.steps]]\ngive = \"drug.bisoprolol\"\nroute = \"oral\"\n\
         doses = [{{ amount = 10, unit = \"mg\", frequency = \"once a day\", times_a_day = 1 }}]\n",
        include_str!("tests/tiny.toml")
    );
    let knowledge = knowledge(&text);
    let request = request(&["condition.hypertension", "condition.gout"]);
    let facts = well();
    let case = Case::new(&knowledge, &facts, &request).expect("a small case");
    let workup = case.work_up().expect("a small case");
    assert_eq!(
        best(&workup),
        [["treatment.enalapril-bisoprolol", "treatment.gout"]]
    );
    let differing = &workup.plans().best[0].differing_doses;
    assert_eq!(*differing, [id("drug.bisoprolol")]);
    let apart = workup.why_not(&["treatment.enalapril", "treatment.gout"].map(entry));
    assert!(matches!(apart, Some(Because::RuledOut { .. })));
}

#[test]
fn each_new_drug_beyond_those_wished_breaks_a_wish() {
    let burden = |most| {
        let mut request = request(&["condition.pneumonia", "condition.fibrillation"]);
        request.wishes.new_drugs_at_most = most;
        with(&well(), &request, |workup| {
            workup.plans().best[0].scores.patient_burden
        })
    };
    assert_eq!(burden(Some(2)), burden(None));
    assert_eq!(burden(Some(1)), burden(None) + 5);
}

#[test]
fn what_is_taken_now_is_checked_too() {
    let facts = taking(taking(well(), "drug.warfarin"), "drug.clarithromycin");
    pneumonia(&facts, |workup| {
        let found = &workup.options().taken;
        assert_eq!((found.len(), found[0].check), (1, Check::Interaction));
    });
}

#[test]
fn a_plan_of_ones_own_gets_the_same_checks() {
    let request = request(&["condition.pneumonia", "condition.fibrillation"]);
    with(&allergic(well(), "class.penicillin"), &request, |workup| {
        let plan = [
            drug("drug.clarithromycin"),
            drug("drug.warfarin"),
            drug("drug.amoxicillin"),
        ];
        let evaluation = workup.evaluate(&plan).expect("a short plan");
        assert_eq!(evaluation.verdict, Verdict::RuledOut);
        assert_eq!(evaluation.findings[0].check, Check::Interaction);
        assert_eq!(evaluation.items[2].findings[0].check, Check::Allergy);
        assert!(!evaluation.items[0].dose_checked);
        let treated: Vec<_> = evaluation
            .treated
            .iter()
            .map(|of| of.treatment.clone())
            .collect();
        assert_eq!(
            treated,
            [
                Some(entry("treatment.amoxicillin")),
                Some(entry("treatment.warfarin"))
            ]
        );
        let nothing = workup.evaluate(&[]).expect("a short plan");
        assert!(nothing.verdict == Verdict::Sound && nothing.scores.benefit == 0.0);
    });
}

#[test]
fn a_sound_plan_scores_as_the_proposed_one_does() {
    pneumonia(&well(), |workup| {
        let plan = [dosed("drug.amoxicillin", 1000.0, "mg", 3.0)];
        let evaluation = workup.evaluate(&plan).expect("a short plan");
        assert!(evaluation.verdict == Verdict::Sound && evaluation.compared.is_none());
        assert!(evaluation.scores == workup.plans().best[0].scores);
        assert!(evaluation.items[0].dose_checked);
        assert_eq!(
            evaluation.items[0].given_by,
            [entry("treatment.amoxicillin")]
        );
        let worse = workup.evaluate(&[dosed("drug.clarithromycin", 500.0, "mg", 4.0)]);
        let worse = worse.expect("a short plan");
        assert!(matches!(worse.compared, Some(Because::Dominated { .. })));
    });
}

#[test]
fn doses_of_ones_own_are_compared_with_limits_and_with_the_usual_ones() {
    pneumonia(&well(), |workup| {
        let verdict = |number, unit: &str, times| {
            let plan = [dosed("drug.amoxicillin", number, unit, times)];
            let evaluation = workup.evaluate(&plan).expect("a short plan");
            let findings = evaluation.items[0].findings.iter();
            (
                evaluation.verdict,
                findings
                    .map(|finding| finding.says.clone())
                    .collect::<Vec<_>>(),
            )
        };
        let (ruled_out, says) = verdict(2.0, "g", 2.0);
        assert_eq!(ruled_out, Verdict::RuledOut);
        assert_eq!(
            says[0],
            "amoxicillin: 2 g at a time is more than the most, 1 g."
        );
        assert_eq!(
            says[1],
            "amoxicillin: 4 g a day is more than the most, 3 g."
        );
        assert_eq!(verdict(250.0, "mg", 3.0).0, Verdict::Warnings);
        assert_eq!(verdict(1.0, "g", 3.0).0, Verdict::Sound);
        assert_eq!(verdict(10.0, "drops", 3.0).0, Verdict::RuledOut);
        for (number, times) in [(0.0, 3.0), (-1.0, 3.0), (1.0, -3.0), (1e300, 1e300)] {
            assert_eq!(verdict(number, "g", times).0, Verdict::RuledOut);
        }
    });
}

#[test]
fn a_drug_twice_in_a_plan_is_noticed_and_one_that_is_taken_already_is_marked() {
    pneumonia(&taking(well(), "drug.amoxicillin"), |workup| {
        let twice = [
            drug("drug.doxycycline"),
            drug("drug.doxycycline"),
            drug("drug.amoxicillin"),
        ];
        let evaluation = workup.evaluate(&twice).expect("a short plan");
        assert_eq!(evaluation.verdict, Verdict::RuledOut);
        assert_eq!(evaluation.findings[0].check, Check::DuplicateDrug);
        let taken: Vec<_> = evaluation
            .items
            .iter()
            .map(|item| item.taken_already)
            .collect();
        assert_eq!(taken, [false, false, true]);
    });
}

#[test]
fn an_unknown_drug_of_ones_own_leaves_the_plan_unchecked() {
    pneumonia(&well(), |workup| {
        let plan = [
            drug("drug.doxycycline"),
            drug("drug.moonbeam"),
            drug("class.penicillin"),
        ];
        let evaluation = workup.evaluate(&plan).expect("a short plan");
        assert_eq!(evaluation.verdict, Verdict::Unchecked);
        assert_eq!(
            evaluation.unknown[0].line(),
            "drug.moonbeam: not known, interactions could not be checked"
        );
        assert_eq!(evaluation.unknown.len(), 2, "a class is no drug");
        assert!(evaluation.items[1].given_by.is_empty());
    });
}

#[test]
fn the_same_case_gives_the_same_plans_in_the_same_order() {
    let request = request(&[
        "condition.hypertension",
        "condition.pneumonia",
        "condition.fibrillation",
    ]);
    let once = || {
        with(&well(), &request, |workup| {
            serde_json::to_string(workup.plans()).expect("JSON")
        })
    };
    let first = once();
    assert!((0..3).all(|_| once() == first));
}

#[test]
fn everything_proposed_or_warned_of_has_a_source_or_comes_from_the_patient() {
    let request = request(&[
        "condition.hypertension",
        "condition.pneumonia",
        "condition.fibrillation",
    ]);
    let facts = taking(allergic(well(), "class.penicillin"), "drug.warfarin");
    let knowledge = tiny();
    with(&facts, &request, |workup| {
        for option in workup
            .options()
            .conditions
            .iter()
            .flat_map(|of| &of.options)
        {
            assert!(knowledge.source(&option.source.id).is_some());
            assert!(
                option
                    .steps
                    .iter()
                    .all(|step| knowledge.source(&step.source.id).is_some())
            );
            for finding in &option.findings {
                let is_own = matches!(finding.check, Check::Allergy | Check::Refused);
                assert!(is_own || matches!(finding.basis, Basis::Source(_)));
            }
        }
    });
}

#[test]
fn more_than_is_looked_at_together_is_refused() {
    let knowledge = tiny();
    let many: Vec<ConceptId> = (0..17).map(|at| id(&format!("condition.c{at}"))).collect();
    let request = Request::new(many);
    let refused = Case::new(&knowledge, &well(), &request)
        .err()
        .expect("too many");
    assert_eq!(
        refused.to_string(),
        "conditions to treat: 17; at most 16 are looked at together"
    );
}

#[test]
fn a_request_is_read_from_json() {
    let text = r#"{"conditions": ["condition.pneumonia"],
        "wishes": {"no_injections": true, "cost_at_most": "low", "tolerated": "major"}}"#;
    let request: Request = serde_json::from_str(text).expect("a request");
    assert!(request.wishes.no_injections && request.wishes.tolerated == Tolerated::Major);
    assert!(serde_json::from_str::<Request>(r#"{"conditions": [], "wish": {}}"#).is_err());
}

/// As many conditions, treatments and drugs as are allowed, each treatment a trade of one score for another.
fn worst() -> (Knowledge, Facts, Request) {
    let mut text = String::from(
        "[header]\nname = \"Worst\"\nversion = \"1\"\nlicence = \"CC0-1.0\"\nlanguage = \"en\"\n\
         disclaimer = \"For tests.\"\n[[source]]\nid = \"guide\"\ntitle = \"Guide\"\norganisation = \"Us\"\n\
         year = 2024\nurl = \"https://example.org\"\n",
    );
    let grades = ["low", "moderate", "high"];
    let concept = |id: String| {
        format!("[[concept]]\nid = \"{id}\"\nnames.en = [\"{id}\"]\nnames.zh = [\"中{id}\"]\n")
    };
    for condition in 0..CONDITIONS_LIMIT {
        text += &concept(format!("condition.c{condition}"));
        for option in 0..OPTIONS_LIMIT {
            let (drug, grade) = (condition * OPTIONS_LIMIT + option, grades[option % 3]);
            text += &concept(format!("drug.d{drug}"));
            text += &format!(
                "[[treatment]]\nid = \"t{drug}\"\nname = \"T{drug}\"\ncondition = \"condition.c{condition}\"\n\
                 line = \"first\"\nbenefit = \"{grade}\"\nmonitoring_burden = \"{grade}\"\ncost = \"{}\"\n\
                 source = \"guide\"\n[[treatment.steps]]\ngive = \"drug.d{drug}\"\nroute = \"oral\"\n\
                 doses = [{{ amount = 1, unit = \"mg\", frequency = \"daily\", times_a_day = {} }}]\n",
                grades[option / 3 % 3],
                option + 1,
            );
            if drug > 0 {
                text += &format!(
                    "[[interaction]]\nbetween = [\"drug.d{drug}\", \"drug.d{}\"]\nseverity = \"moderate\"\n\
                     mechanism = \"m\"\nadvice = \"a\"\nsource = \"guide\"\n",
                    drug * 7 % drug
                );
            }
        }
    }
    let conditions = (0..CONDITIONS_LIMIT)
        .map(|at| id(&format!("condition.c{at}")))
        .collect();
    (knowledge(&text), well(), Request::new(conditions))
}

#[test]
fn the_worst_allowed_case_ends_in_time() {
    let (knowledge, facts, request) = worst();
    let start = Instant::now();
    let case = Case::new(&knowledge, &facts, &request).expect("within the limits");
    let workup = case.work_up().expect("within the limits");
    assert_eq!(workup.plans().search.method, Method::BranchAndBound);
    assert!(!workup.plans().best.is_empty());
    // Far above what it takes, because test machines are busy.
    assert!(
        start.elapsed() < Duration::from_secs(60),
        "{:?}",
        start.elapsed()
    );
}

fn cases() -> impl Strategy<Value = (Facts, Request)> {
    let conditions = [
        "condition.pneumonia",
        "condition.fibrillation",
        "condition.hypertension",
    ];
    let allergies = [
        "class.penicillin",
        "drug.doxycycline",
        "drug.clarithromycin",
    ];
    let drugs = [
        "drug.warfarin",
        "drug.ramipril",
        "drug.bisoprolol",
        "drug.moonbeam",
    ];
    let who = (
        0.0..100.0_f64,
        any::<Option<bool>>(),
        proptest::option::of(5.0..150.0_f64),
    );
    let lists = (
        proptest::option::of(proptest::sample::subsequence(allergies.to_vec(), 0..=3)),
        proptest::option::of(proptest::sample::subsequence(drugs.to_vec(), 0..=4)),
        proptest::sample::subsequence(conditions.to_vec(), 0..=3),
    );
    (who, lists, any::<[bool; 2]>()).prop_map(
        |((age, male, egfr), (allergies, drugs, conditions), wishes)| {
            let mut facts = aged(Facts::default(), age);
            facts.demographics.sex = male.map(|male| if male { Sex::Male } else { Sex::Female });
            facts.allergies = allergies.as_ref().map(|_| vec![]);
            facts.drugs = drugs.as_ref().map(|_| vec![]);
            let facts = allergies.into_iter().flatten().fold(facts, allergic);
            let mut facts = drugs.into_iter().flatten().fold(facts, taking);
            facts
                .facts
                .extend(egfr.map(|value| measured("test.egfr", value, "mL/min/1.73m2")));
            let mut request = request(&conditions);
            request.wishes.no_injections = wishes[0];
            if wishes[1] {
                request.wishes.times_a_day_at_most = Some(1.0);
            }
            (facts, request)
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_plan_gives_what_an_allergy_or_a_taken_drug_forbids((facts, request) in cases()) {
        with(&facts, &request, |workup| {
            let knowledge = tiny();
            for plan in &workup.plans().best {
                let drugs: Vec<_> = plan.steps.iter().map(|step| &step.give).collect();
                for drug in &drugs {
                    let allergies = facts.allergies.iter().flatten();
                    prop_assert!(allergies.into_iter().all(|allergy| !knowledge.is_a(drug, &allergy.to)));
                    let taken = facts.drugs.iter().flatten().map(|taken| &taken.drug);
                    // A drug that is taken already may be joined by the guideline that gives both.
                    for other in taken.filter(|other| !drugs.contains(other)) {
                        let mut met = knowledge.interactions_of(drug, other);
                        prop_assert!(met.all(|it| it.severity <= Severity::Moderate));
                    }
                }
            }
            Ok(())
        })?;
    }

    #[test]
    fn every_combination_is_best_or_has_a_true_reason((facts, request) in cases()) {
        with(&facts, &request, |workup| {
            let plans = workup.plans();
            let listed: u64 = plans.lost.iter().map(|lost| lost.combinations).sum();
            prop_assert_eq!(plans.best.len() as u64 + listed + plans.lost_more, plans.search.combinations);
            for plan in &plans.best {
                prop_assert!(workup.why_not(&plan.treatments).is_none());
            }
            for lost in &plans.lost {
                if let Because::Dominated { by, worse_in, scores } = &lost.because {
                    let better = &plans.best[*by].scores;
                    prop_assert!(!worse_in.is_empty());
                    prop_assert!(better.concordance >= scores.concordance && better.benefit >= scores.benefit);
                    prop_assert!(better.interaction_burden <= scores.interaction_burden);
                    prop_assert!(better.patient_burden <= scores.patient_burden);
                }
            }
            Ok(())
        })?;
    }

    #[test]
    fn knowing_more_allergies_never_allows_more((facts, request) in cases(), to in 0..3_usize) {
        let to = ["class.penicillin", "drug.warfarin", "class.ace-inhibitor"][to];
        prop_assume!(facts.allergies.is_some());
        let possible = |facts: &Facts| with(facts, &request, |workup| {
            let all = workup.options().conditions.iter().flat_map(|of| &of.options);
            all.filter(|option| option.is_possible()).map(|option| option.treatment.clone()).collect::<Vec<_>>()
        });
        let before = possible(&facts);
        let after = possible(&allergic(facts, to));
        prop_assert!(after.iter().all(|treatment| before.contains(treatment)));
    }
}

/// An adult with pneumonia that is not severe and without other illness, as the starter set asks.
fn plain_pneumonia(knowledge: &Knowledge) -> Facts {
    let mut facts = well();
    facts
        .facts
        .retain(|fact| knowledge.concept(&fact.concept).is_some());
    let asked = knowledge.treatments().iter().flat_map(|treatment| {
        let conditions = [&treatment.applies_if, &treatment.exclude_if];
        conditions
            .into_iter()
            .flatten()
            .flat_map(|when| when.leaves())
    });
    for when in asked {
        if let When::Present(asked) = when
            && *asked != id("condition.pneumonia")
        {
            facts.facts.push(Fact::absent(asked.clone()));
        }
    }
    facts
}

fn starter<T>(
    facts: &Facts,
    knowledge: &Knowledge,
    condition: &str,
    test: impl FnOnce(&Workup<'_>) -> T,
) -> T {
    let request = request(&[condition]);
    let case = Case::new(knowledge, facts, &request).expect("a small case");
    test(&case.work_up().expect("a small case"))
}

#[test]
fn the_starter_set_treats_pneumonia_and_heeds_a_penicillin_allergy() {
    let knowledge = Knowledge::starter().expect("a sound starter set");
    let facts = plain_pneumonia(&knowledge);
    starter(&facts, &knowledge, "condition.pneumonia", |workup| {
        let best = &workup.plans().best[0];
        assert_eq!(best.steps[0].give, id("drug.amoxicillin"));
    });
    starter(
        &allergic(facts, "class.penicillin"),
        &knowledge,
        "condition.pneumonia",
        |workup| {
            let best = &workup.plans().best;
            assert!(!best.is_empty());
            for step in best.iter().flat_map(|plan| &plan.steps) {
                assert!(!knowledge.is_a(&step.give, &id("class.penicillin")));
            }
        },
    );
}

#[test]
fn the_starter_set_watches_warfarin_and_spares_simvastatin_when_clarithromycin_is_given() {
    let knowledge = Knowledge::starter().expect("a sound starter set");
    let findings = |drug| {
        let facts = taking(plain_pneumonia(&knowledge), drug);
        starter(&facts, &knowledge, "condition.pneumonia", |workup| {
            let clarithromycin = option(workup, "treatment.cap-clarithromycin");
            let found = clarithromycin.findings.iter();
            let found = found.map(|finding| (finding.check, finding.severity, finding.rules_out));
            found.collect::<Vec<_>>()
        })
    };
    let interaction = Check::Interaction;
    assert_eq!(
        findings("drug.warfarin"),
        [(interaction, Severity::Moderate, false)]
    );
    assert_eq!(
        findings("drug.simvastatin"),
        [(interaction, Severity::Contraindicated, true)]
    );
}

#[test]
fn every_condition_of_the_starter_set_is_worked_up_together_from_a_note_that_says_little() {
    let knowledge = Knowledge::starter().expect("a sound starter set");
    let mut conditions: Vec<ConceptId> = Vec::new();
    for treatment in knowledge.treatments() {
        if !conditions.contains(&treatment.condition) {
            conditions.push(treatment.condition.clone());
        }
    }
    let request = Request::new(conditions);
    for facts in [Facts::default(), plain_pneumonia(&knowledge)] {
        let case = Case::new(&knowledge, &facts, &request).expect("within the limits");
        let workup = case.work_up().expect("within the limits");
        assert!(workup.options().unknown.is_empty());
        for of in &workup.options().conditions {
            let possible = of.options.iter().any(TreatmentOption::is_possible);
            assert_eq!(possible, of.nothing.is_none());
        }
        for plan in &workup.plans().best {
            assert!(plan.steps.iter().all(|step| !step.sources.is_empty()));
        }
    }
}

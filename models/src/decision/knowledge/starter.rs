//! The starter set that comes with the program: an example, not medical advice; for research use only.

use super::KnowledgeFile;

/// The files of the folder `knowledge/`, as they were when the program was built.
const FILES: [(&str, &str); 7] = [
    (
        "shared.toml",
        include_str!("../../../../knowledge/shared.toml"),
    ),
    (
        "medicines.toml",
        include_str!("../../../../knowledge/medicines.toml"),
    ),
    (
        "pneumonia.toml",
        include_str!("../../../../knowledge/pneumonia.toml"),
    ),
    (
        "heart-failure.toml",
        include_str!("../../../../knowledge/heart-failure.toml"),
    ),
    (
        "type-2-diabetes.toml",
        include_str!("../../../../knowledge/type-2-diabetes.toml"),
    ),
    (
        "atrial-fibrillation.toml",
        include_str!("../../../../knowledge/atrial-fibrillation.toml"),
    ),
    (
        "urinary-infection.toml",
        include_str!("../../../../knowledge/urinary-infection.toml"),
    ),
];

/// The starter set, to be checked together with files of one's own.
pub fn starter_files() -> Vec<KnowledgeFile> {
    let file = |(name, text): (&str, &str)| KnowledgeFile {
        name: format!("starter/{name}"),
        text: text.to_owned(),
    };
    FILES.into_iter().map(file).collect()
}

#[cfg(test)]
mod tests {
    use crate::decision::{
        facts::{Answer, Fact, Facts, Kilograms, Patient, Quantity, Sex, Taken, Years},
        knowledge::{Concept, ConceptId, Knowledge, Severity, Treatment},
    };

    fn id(text: &str) -> ConceptId {
        text.parse().expect("an id")
    }

    fn measured(test: &str, number: f64, unit: &str) -> Fact {
        Fact::measured(id(test), Quantity::new(number, unit).expect("finite"))
    }

    fn patient(age: f64, sex: Sex, facts: Vec<Fact>) -> Facts {
        let mut table = Facts {
            facts,
            ..Facts::default()
        };
        table.demographics.age = Some(Years::try_from(age).expect("an age"));
        table.demographics.sex = Some(sex);
        table
    }

    fn treatment<'k>(knowledge: &'k Knowledge, name: &str) -> &'k Treatment {
        let mut treatments = knowledge.treatments().iter();
        treatments
            .find(|it| it.id.as_str() == name)
            .expect("a treatment")
    }

    fn rules_that_fire(knowledge: &Knowledge, facts: &Facts) -> Vec<String> {
        let patient = Patient::new(facts, knowledge);
        let rules = knowledge.rules().iter();
        rules
            .filter(|rule| patient.holds(&rule.when) == Answer::Yes)
            .map(|rule| rule.id.to_string())
            .collect()
    }

    #[test]
    fn an_old_patient_with_cough_fever_and_an_infiltrate_has_pneumonia() {
        let knowledge = Knowledge::starter().expect("sound");
        let facts = patient(
            72.0,
            Sex::Male,
            vec![
                Fact::present(id("finding.cough")),
                measured("test.temperature", 38.9, "℃"),
                measured("test.respiratory-rate", 32.0, "次/分"),
                measured("test.crp", 14.0, "mg/dL"),
                Fact::present(id("finding.infiltrate")),
            ],
        );
        let fired = rules_that_fire(&knowledge, &facts);
        assert_eq!(fired, ["rule.cap-infiltrate", "rule.cap-crp-high"]);
        let patient = Patient::new(&facts, &knowledge);
        let score = "score.crb-65".parse().expect("an id");
        // Age and breathing count; confusion and pressure are unknown.
        assert_eq!(patient.points(&score), Some((2.0, 4.0)));
        let pneumonia = knowledge
            .condition(&id("condition.pneumonia"))
            .expect("there");
        assert_eq!(patient.prior(pneumonia).0, 0.05);
    }

    #[test]
    fn apixaban_is_halved_for_the_old_and_light_and_is_left_open_without_their_weight() {
        let knowledge = Knowledge::starter().expect("sound");
        let apixaban = treatment(&knowledge, "treatment.af-apixaban");
        let small = apixaban.steps[0].doses[0]
            .when
            .as_ref()
            .expect("a condition");
        let mut facts = patient(
            82.0,
            Sex::Female,
            vec![
                Fact::present(id("condition.hypertension")),
                measured("test.creatinine", 80.0, "umol/L"),
            ],
        );
        assert_eq!(
            Patient::new(&facts, &knowledge).holds(small),
            Answer::Unknown
        );
        facts.demographics.weight_kg = Some(Kilograms::try_from(60.0).expect("a weight"));
        let patient = Patient::new(&facts, &knowledge);
        assert_eq!(patient.holds(small), Answer::Yes);
        let applies = apixaban.applies_if.as_ref().expect("a condition");
        assert_eq!(patient.holds(applies), Answer::Yes);
        let score = "score.cha2ds2-va".parse().expect("an id");
        assert_eq!(patient.points(&score), Some((3.0, 8.0)));
    }

    #[test]
    fn failing_kidneys_speak_against_metformin_and_warfarin_against_ibuprofen() {
        let knowledge = Knowledge::starter().expect("sound");
        let mut facts = patient(60.0, Sex::Male, vec![measured("test.egfr", 25.0, "mL/min")]);
        facts.drugs = Some(vec![Taken {
            drug: id("drug.warfarin"),
            dose: None,
            frequency: None,
            span: None,
        }]);
        let patient = Patient::new(&facts, &knowledge);
        let metformin = id("drug.metformin");
        let mut against = knowledge.contraindications_of(&metformin);
        assert!(against.any(|it| {
            it.severity == Severity::Contraindicated && patient.holds(&it.when) == Answer::Yes
        }));
        let (warfarin, ibuprofen) = (id("drug.warfarin"), id("drug.ibuprofen"));
        let met: Vec<Severity> = knowledge
            .interactions_of(&ibuprofen, &warfarin)
            .map(|it| it.severity)
            .collect();
        assert_eq!(met, [Severity::Major]);
    }

    #[test]
    fn units_of_the_same_quantity_agree() {
        let knowledge = Knowledge::starter().expect("sound");
        let convert = |test: &str, number: f64, unit: &str| {
            let measure = knowledge
                .concept(&id(test))
                .and_then(|it: &Concept| it.measure.as_ref());
            measure
                .and_then(|measure| measure.convert(number, unit))
                .expect("a unit")
        };
        for (test, number, unit, wanted) in [
            ("test.glucose-fasting", 126.0, "mg/dL", 7.0),
            ("test.hba1c", 48.0, "mmol/mol", 6.5),
            ("test.creatinine", 1.5, "mg/dL", 132.6),
            ("test.temperature", 100.4, "°F", 38.0),
            ("test.urea-nitrogen", 20.0, "mg/dL", 7.14),
            ("test.haemoglobin", 12.0, "g/dL", 120.0),
            ("test.systolic-pressure", 12.0, "kPa", 90.0),
        ] {
            let found = convert(test, number, unit);
            assert!((found - wanted).abs() < 0.01 * wanted, "{test}: {found}");
        }
    }
}

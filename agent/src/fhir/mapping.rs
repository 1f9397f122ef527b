//! What a chart says of a patient, as the fact table that reasoning starts from.
//!
//! A chart speaks in codes, the knowledge in its own concepts. [`Concepts`] finds one for the other: by codes
//! that the caller gives, by the ICD-10 codes of the knowledge, and by exact names. A test that has a code
//! of LOINC is known by that alone: its name would take creatinine in urine for creatinine in blood. What
//! has no concept stays out and is listed; nothing is guessed.
//!
//! The few LOINC codes here are used under LOINC's terms: LOINC is copyright Regenstrief Institute, Inc. and
//! the LOINC Committee, and available at no cost under the licence at <https://loinc.org/license>.

use std::collections::HashMap;

use consilium_models::{
    decision::{
        facts::{self, Fact, Facts, Kilograms, Origin, Sex, Taken, Years},
        knowledge::{ConceptId, Kind, Knowledge},
    },
    text::{Experiencer, Status},
};

use super::{
    At,
    code::Gender,
    element::{CodeableConcept, LOINC, SNOMED},
    facts::{Measured, PatientFacts},
    moment::Day,
};

/// Systems whose codes are those of ICD-10.
const ICD10: [&str; 4] = [
    "http://hl7.org/fhir/sid/icd-10",
    "http://hl7.org/fhir/sid/icd-10-cm",
    "urn:oid:2.16.840.1.113883.6.3",
    "urn:oid:2.16.840.1.113883.6.90",
];
/// LOINC: body weight; measured.
const WEIGHT: [&str; 2] = ["29463-7", "3141-9"];
/// LOINC: pregnancy status. SNOMED CT: pregnant; not pregnant.
const PREGNANCY: (&str, &str, &str) = ("82810-3", "77386006", "60001007");
/// Codes of LOINC, and the tests of the starter set that they measure.
const TESTS: [(&str, &str); 31] = [
    ("8310-5", "test.temperature"),
    ("8331-1", "test.temperature"),
    ("8867-4", "test.heart-rate"),
    ("9279-1", "test.respiratory-rate"),
    ("8480-6", "test.systolic-pressure"),
    ("8462-4", "test.diastolic-pressure"),
    ("2708-6", "test.oxygen-saturation"),
    ("59408-5", "test.oxygen-saturation"),
    ("39156-5", "test.body-mass-index"),
    ("1988-5", "test.crp"),
    ("33959-8", "test.procalcitonin"),
    ("6690-2", "test.white-cells"),
    ("26464-8", "test.white-cells"),
    ("718-7", "test.haemoglobin"),
    ("777-3", "test.platelets"),
    ("26515-7", "test.platelets"),
    ("2160-0", "test.creatinine"),
    ("38483-4", "test.creatinine"),
    ("14682-9", "test.creatinine"),
    ("3094-0", "test.urea-nitrogen"),
    ("6299-2", "test.urea-nitrogen"),
    ("33914-3", "test.egfr"),
    ("2823-3", "test.potassium"),
    ("6298-4", "test.potassium"),
    ("2951-2", "test.sodium"),
    ("2947-0", "test.sodium"),
    ("4548-4", "test.hba1c"),
    ("1558-6", "test.glucose-fasting"),
    ("18262-6", "test.ldl-cholesterol"),
    ("30934-4", "test.bnp"),
    ("33762-6", "test.nt-probnp"),
];

/// The concepts of some knowledge, by what charts call them.
pub struct Concepts {
    /// By system and code.
    by_code: HashMap<(String, String), ConceptId>,
    by_icd10: HashMap<String, ConceptId>,
    /// By name in small letters. Of a name that several have, all of them.
    by_name: HashMap<String, Vec<ConceptId>>,
}

/// The fact table of a patient, and what stayed out.
#[derive(Debug, Default)]
pub struct Mapped {
    /// The table.
    pub facts: Facts,
    /// What is not in it, and why.
    pub unmapped: Vec<Unmapped>,
}

/// Something of a chart that is not in the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unmapped {
    /// Where it stands.
    pub at: At,
    /// Why.
    pub why: &'static str,
}

impl Concepts {
    /// Those of some knowledge.
    pub fn of(knowledge: &Knowledge) -> Self {
        let mut by_name: HashMap<String, Vec<ConceptId>> = HashMap::new();
        for (name, _, id) in knowledge.terms() {
            let ids = by_name.entry(name.to_lowercase()).or_default();
            if !ids.contains(id) {
                ids.push(id.clone());
            }
        }
        let icd10 = knowledge
            .concepts()
            .filter_map(|concept| Some((concept.icd10.clone()?, concept.id.clone())));
        let known = TESTS
            .iter()
            .filter_map(|&(code, id)| {
                let id: ConceptId = id.parse().ok()?;
                Some(((LOINC.to_owned(), code.to_owned()), id))
            })
            .filter(|(_, id)| knowledge.concept(id).is_some());
        Self {
            by_code: known.collect(),
            by_icd10: icd10.collect(),
            by_name,
        }
    }

    /// Adds a code of a system, as a site's own terminology has it. It counts before what was known.
    pub fn add(&mut self, system: &str, code: &str, concept: ConceptId) {
        self.by_code
            .insert((system.to_owned(), code.to_owned()), concept);
    }

    /// The concept of one of these kinds that a chart means.
    fn find(&self, concept: &CodeableConcept, kinds: &[Kind]) -> Option<&ConceptId> {
        let fits = |id: &&ConceptId| kinds.contains(&id.kind());
        let coded = concept.coding.iter().find_map(|coding| {
            let (system, code) = (coding.system.clone()?, coding.code.clone()?);
            let icd10 = ICD10.contains(&system.as_str());
            let by_icd10 = self.by_icd10.get(&code).filter(|_| icd10);
            self.by_code.get(&(system, code)).or(by_icd10).filter(fits)
        });
        let has_loinc = concept
            .coding
            .iter()
            .any(|coding| coding.system.as_deref() == Some(LOINC));
        if coded.is_some() || has_loinc {
            return coded;
        }
        let displays = concept
            .coding
            .iter()
            .map(|coding| coding.display.as_deref());
        let mut names = [concept.text.as_deref()]
            .into_iter()
            .chain(displays)
            .flatten();
        names.find_map(|name| {
            let ids = self.by_name.get(&name.trim().to_lowercase())?;
            let mut fitting = ids.iter().filter(fits);
            // Of a name with two meanings nobody says which.
            fitting.next().filter(|_| fitting.next().is_none())
        })
    }
}

impl PatientFacts {
    /// The fact table of the patient as of a day.
    pub fn to_facts(&self, today: Day, concepts: &Concepts) -> Mapped {
        let mut mapped = Mapped::default();
        let demographics = &mut mapped.facts.demographics;
        demographics.sex = match self.gender {
            Some(Gender::Female) => Some(Sex::Female),
            Some(Gender::Male) => Some(Sex::Male),
            Some(Gender::Other | Gender::Unknown) | None => None,
        };
        demographics.age = self
            .born
            .and_then(|born| Years::try_from(born.years_until(today)).ok());
        demographics.weight_kg = self.measurements.iter().rev().find_map(weight_of);
        demographics.pregnant = self.observations.iter().rev().find_map(|it| {
            let (status, yes, no) = PREGNANCY;
            let says = |code| it.value.has(SNOMED, code);
            let is_known = it.concept.has(LOINC, status) && (says(yes) || says(no));
            is_known.then(|| says(yes))
        });
        self.add_problems(concepts, &mut mapped);
        self.add_measurements(concepts, &mut mapped);
        self.add_medicines(concepts, &mut mapped);
        self.add_allergies(concepts, &mut mapped);
        mapped
    }

    fn add_problems(&self, concepts: &Concepts, mapped: &mut Mapped) {
        for problem in &self.problems {
            let kinds = [Kind::Condition, Kind::Finding];
            match concepts.find(&problem.concept, &kinds) {
                Some(id) => mapped.facts.facts.push(Fact {
                    status: Status {
                        certainty: problem.certainty,
                        experiencer: Experiencer::Patient,
                        time: problem.time,
                    },
                    origin: Origin::Stated,
                    ..Fact::present(id.clone())
                }),
                None => mapped.leave(problem.at, "no concept for this problem"),
            }
        }
    }

    fn add_measurements(&self, concepts: &Concepts, mapped: &mut Mapped) {
        // The oldest first: of two measurements of one test the later counts.
        for measured in &self.measurements {
            let Some(id) = concepts.find(&measured.concept, &[Kind::Test]) else {
                mapped.leave(measured.at, "no concept for this test");
                continue;
            };
            if measured.comparator.is_some() {
                mapped.leave(
                    measured.at,
                    "a value below or above the number, not the number",
                );
                continue;
            }
            match facts::Quantity::new(measured.number, usual_unit(&measured.unit)) {
                Ok(value) => mapped.facts.facts.push(Fact::measured(id.clone(), value)),
                Err(_) => mapped.leave(measured.at, "no number"),
            }
        }
    }

    fn add_medicines(&self, concepts: &Concepts, mapped: &mut Mapped) {
        let mut taken = Vec::new();
        for medicine in &self.medicines {
            let Some(id) = concepts.find(&medicine.concept, &[Kind::Drug]) else {
                mapped.leave(medicine.at, "no concept for this medicine");
                continue;
            };
            let dose = medicine.dose.as_ref();
            taken.push(Taken {
                drug: id.clone(),
                dose: dose.and_then(|dose| {
                    facts::Quantity::new(dose.number, usual_unit(&dose.unit)).ok()
                }),
                frequency: medicine.frequency.clone(),
                span: None,
            });
        }
        // No prescription does not say that nothing is taken, and one without a concept is taken too: what is
        // taken is said only as far as it is known.
        mapped.facts.drugs = (!taken.is_empty()).then_some(taken);
    }

    fn add_allergies(&self, concepts: &Concepts, mapped: &mut Mapped) {
        let Some(allergies) = &self.allergies else {
            return;
        };
        let mut known = Vec::new();
        for allergy in allergies {
            match concepts.find(&allergy.concept, &[Kind::Drug, Kind::Class]) {
                Some(id) => known.push(facts::Allergy {
                    to: id.clone(),
                    span: None,
                }),
                None => mapped.leave(allergy.at, "no concept for what the patient is allergic to"),
            }
        }
        // An empty list says that there is none. It is not said of somebody with an allergy that has no
        // concept.
        let is_said = !known.is_empty() || allergies.is_empty();
        mapped.facts.allergies = is_said.then_some(known);
    }
}

impl Mapped {
    fn leave(&mut self, at: At, why: &'static str) {
        self.unmapped.push(Unmapped { at, why });
    }
}

fn weight_of(measured: &Measured) -> Option<Kilograms> {
    let is_weight = WEIGHT.iter().any(|code| measured.concept.has(LOINC, code));
    if !is_weight || measured.comparator.is_some() {
        return None;
    }
    let kilograms = match measured.unit.as_str() {
        "kg" => measured.number,
        "g" => measured.number / 1e3,
        // The international pound.
        "[lb_av]" => measured.number * 0.453_592_37,
        _ => return None,
    };
    Kilograms::try_from(kilograms).ok()
}

/// A unit of UCUM as the knowledge files write it. Others stay as they are.
fn usual_unit(unit: &str) -> String {
    if unit == "mL/min/{1.73_m2}" {
        return "mL/min/1.73m2".into();
    }
    // In braces stands what is counted, which is no part of the unit.
    let mut plain = String::new();
    let mut depth = 0_usize;
    for letter in unit.chars() {
        match letter {
            '{' => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            other if depth == 0 => plain.push(other),
            _ => (),
        }
    }
    match plain.as_str() {
        "Cel" => "°C".into(),
        "[degF]" => "°F".into(),
        "mm[Hg]" => "mmHg".into(),
        _ => plain.replace("10*", "10^"),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use consilium_models::text::{Certainty, Time};

    use super::*;
    use crate::fhir::parse;

    fn today() -> Day {
        Day::new(2020, 1, 1).expect("a day")
    }

    fn mapped(resources: &str) -> Mapped {
        let chart = parse(Path::new("a.ndjson"), resources).expect("sound");
        let concepts = Concepts::of(&Knowledge::starter().expect("sound"));
        chart.facts().patients["Patient/1"].to_facts(today(), &concepts)
    }

    const CHART: &str = r#"
{"resourceType":"Patient","id":"1","gender":"female","birthDate":"1950-03-01"}
{"resourceType":"Condition","subject":{"reference":"Patient/1"},"code":{"text":"Heart failure"},"clinicalStatus":{"coding":[{"code":"active"}]}}
{"resourceType":"Condition","subject":{"reference":"Patient/1"},"code":{"text":"Hammer toe"}}
{"resourceType":"Condition","subject":{"reference":"Patient/1"},"code":{"text":"Atrial fibrillation"},"verificationStatus":{"coding":[{"code":"provisional"}]},"clinicalStatus":{"coding":[{"code":"resolved"}]}}
{"resourceType":"Observation","status":"final","subject":{"reference":"Patient/1"},"effectiveDateTime":"2019-02-01","code":{"coding":[{"system":"http://loinc.org","code":"2160-0","display":"Creatinine"}]},"valueQuantity":{"value":1.2,"system":"http://unitsofmeasure.org","code":"mg/dL"}}
{"resourceType":"Observation","status":"final","subject":{"reference":"Patient/1"},"effectiveDateTime":"2019-01-01","code":{"coding":[{"system":"http://loinc.org","code":"2160-0"}]},"valueQuantity":{"value":0.9,"system":"http://unitsofmeasure.org","code":"mg/dL"}}
{"resourceType":"Observation","status":"final","subject":{"reference":"Patient/1"},"code":{"coding":[{"system":"http://loinc.org","code":"2161-8","display":"Creatinine"}]},"valueQuantity":{"value":90,"code":"mg/dL"}}
{"resourceType":"Observation","status":"final","subject":{"reference":"Patient/1"},"code":{"coding":[{"system":"http://loinc.org","code":"1988-5"}]},"valueQuantity":{"value":5,"comparator":"<","code":"mg/L"}}
{"resourceType":"Observation","status":"final","subject":{"reference":"Patient/1"},"code":{"coding":[{"system":"http://loinc.org","code":"29463-7"}]},"valueQuantity":{"value":150,"system":"http://unitsofmeasure.org","code":"[lb_av]"}}
{"resourceType":"MedicationRequest","status":"active","intent":"order","subject":{"reference":"Patient/1"},"medicationCodeableConcept":{"text":"Warfarin"},"dosageInstruction":[{"timing":{"repeat":{"frequency":1,"period":1,"periodUnit":"d"}},"doseAndRate":[{"doseQuantity":{"value":5,"unit":"mg"}}]}]}
{"resourceType":"AllergyIntolerance","patient":{"reference":"Patient/1"},"code":{"text":"Fresh fish"}}
"#;

    #[test]
    fn a_chart_becomes_a_fact_table_and_what_has_no_concept_is_listed() {
        let Mapped { facts, unmapped } = mapped(CHART);
        assert_eq!(facts.demographics.sex, Some(Sex::Female));
        let age = facts.demographics.age.map(Years::number).expect("an age");
        assert!((69.0..70.0).contains(&age), "{age}");
        let weight = facts.demographics.weight_kg.map(Kilograms::number);
        assert!(weight.is_some_and(|kg| (kg - 68.04).abs() < 0.01));
        let found: Vec<&str> = facts
            .facts
            .iter()
            .map(|fact| fact.concept.as_str())
            .collect();
        let creatinine = "test.creatinine";
        assert_eq!(
            found,
            [
                "condition.heart-failure",
                "condition.atrial-fibrillation",
                creatinine,
                creatinine
            ]
        );
        let status = facts.facts[1].status;
        assert_eq!(
            (status.certainty, status.time),
            (Certainty::Possible, Time::Historical)
        );
        // The later one comes last, in whatever order the file has them.
        let value = facts.facts[3].value.as_ref().expect("measured");
        assert_eq!((value.number(), value.unit()), (1.2, "mg/dL"));
        let drugs = facts.drugs.expect("one is known");
        assert_eq!(drugs[0].drug.as_str(), "drug.warfarin");
        assert_eq!(drugs[0].frequency.as_deref(), Some("every day"));
        // Allergic, to what the knowledge does not have: not the same as to nothing.
        assert_eq!(facts.allergies, None);
        let why: Vec<&str> = unmapped.iter().map(|left| left.why).collect();
        assert_eq!(
            why,
            [
                "no concept for this problem",
                "no concept for this test",
                "a value below or above the number, not the number",
                "no concept for this test",
                "no concept for what the patient is allergic to",
            ]
        );
    }

    #[test]
    fn a_sites_own_codes_count_first() {
        let chart = parse(Path::new("a.ndjson"), CHART).expect("sound");
        let mut concepts = Concepts::of(&Knowledge::starter().expect("sound"));
        let sodium: ConceptId = "test.sodium".parse().expect("an id");
        concepts.add(LOINC, "2161-8", sodium.clone());
        let mapped = chart.facts().patients["Patient/1"].to_facts(today(), &concepts);
        assert!(mapped.facts.facts.iter().any(|fact| fact.concept == sodium));
    }

    #[test]
    fn every_test_of_the_table_is_one_of_the_starter_set() {
        let knowledge = Knowledge::starter().expect("sound");
        for (code, id) in TESTS {
            let id: ConceptId = id.parse().expect("an id");
            assert!(knowledge.concept(&id).is_some(), "{code} {}", id.as_str());
        }
    }

    #[test]
    fn units_of_ucum_are_written_as_the_knowledge_writes_them() {
        for (ucum, usual) in [
            ("10*3/uL", "10^3/uL"),
            ("mm[Hg]", "mmHg"),
            ("Cel", "°C"),
            ("{beats}/min", "/min"),
            ("mL/min/{1.73_m2}", "mL/min/1.73m2"),
            ("mg/dL", "mg/dL"),
        ] {
            assert_eq!(usual_unit(ucum), usual);
        }
    }
}

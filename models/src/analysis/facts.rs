//! The fact table of a note, with what was known before.

use std::collections::HashMap;

use super::{
    measurements::Measured,
    medicines::{DrugRole, Medicines},
    mentions::Mention,
};
use crate::{
    decision::{
        facts::{Allergy, Demographics, Fact, Facts, Origin, Quantity, Taken},
        knowledge::{Concept, ConceptId, Kind, Knowledge},
    },
    text::{Certainty, Status, Time},
};

/// Most facts of one concept and status: a note that repeats itself does not fill the memory.
const MOST: usize = 16;

/// The facts, and how many mentions became none.
pub(super) struct Gathered {
    pub(super) facts: Facts,
    pub(super) repeated: usize,
}

/// Puts together what a note says and what was known before, which comes last.
pub(super) fn gather(
    note: &str,
    entities: &[Mention],
    measurements: &[Measured],
    medicines: &Medicines,
    person: Demographics,
    known: &Facts,
    knowledge: &Knowledge,
) -> Gathered {
    let mut repeated = 0;
    let mut seen: HashMap<(&ConceptId, Status), usize> = HashMap::new();
    let mut facts: Vec<Fact> = Vec::new();
    for entity in entities {
        let Some(concept) = &entity.concept else {
            continue;
        };
        if matches!(concept.kind(), Kind::Test | Kind::Drug | Kind::Class) {
            continue;
        }
        let status = now(entity.status, knowledge.concept(concept));
        let count = seen.entry((concept, status)).or_default();
        *count += 1;
        if *count > MOST {
            repeated += 1;
            continue;
        }
        facts.push(Fact {
            status,
            span: Some(entity.span),
            origin: Origin::Note,
            ..Fact::present(concept.clone())
        });
    }
    // Of measurements the last ones count.
    let mut values: Vec<Fact> = Vec::new();
    let mut seen: HashMap<&ConceptId, usize> = HashMap::new();
    for measured in measurements.iter().rev() {
        let quantity = measured
            .value
            .and_then(|_| Quantity::new(measured.number, measured.unit.as_str()).ok());
        let Some(quantity) = quantity else {
            continue;
        };
        let count = seen.entry(&measured.test).or_default();
        *count += 1;
        if *count > MOST {
            repeated += 1;
            continue;
        }
        values.push(Fact {
            status: measured.status,
            span: Some(measured.span),
            origin: Origin::Note,
            ..Fact::measured(measured.test.clone(), quantity)
        });
    }
    values.reverse();
    facts.extend(values);
    facts.sort_by_key(|fact| fact.span.map_or(0, |span| span.start));
    facts.extend(known.facts.iter().cloned());

    let before = known.demographics;
    let demographics = Demographics {
        age: before.age.or(person.age),
        sex: before.sex.or(person.sex),
        weight_kg: before.weight_kg.or(person.weight_kg),
        pregnant: before.pregnant.or(person.pregnant),
    };
    Gathered {
        facts: Facts {
            demographics,
            facts,
            allergies: allergies(medicines, known),
            drugs: drugs(note, medicines, known),
        },
        repeated,
    }
}

/// What a mention says of now: what lasts is still there when a note lists it among the past.
fn now(status: Status, concept: Option<&Concept>) -> Status {
    let is_past = status.time == Time::Historical && status.certainty != Certainty::Negated;
    match is_past && concept.is_some_and(|concept| concept.lasting) {
        true => Status {
            time: Time::Current,
            ..status
        },
        false => status,
    }
}

fn allergies(medicines: &Medicines, known: &Facts) -> Option<Vec<Allergy>> {
    let named = medicines
        .mentions
        .iter()
        .filter(|mention| mention.role == DrugRole::Allergy);
    let mut allergies: Vec<Allergy> = Vec::new();
    let all = named.map(|mention| Allergy {
        to: mention.drug.clone(),
        span: Some(mention.span),
    });
    for allergy in all.chain(known.allergies.iter().flatten().cloned()) {
        if !allergies.iter().any(|other| other.to == allergy.to) {
            allergies.push(allergy);
        }
    }
    (medicines.allergies_known || known.allergies.is_some()).then_some(allergies)
}

fn drugs(note: &str, medicines: &Medicines, known: &Facts) -> Option<Vec<Taken>> {
    let named = medicines
        .mentions
        .iter()
        .filter(|mention| mention.role == DrugRole::Taken);
    let all = named.map(|mention| Taken {
        drug: mention.drug.clone(),
        dose: mention
            .dose
            .as_ref()
            .and_then(|dose| Quantity::new(dose.number, dose.unit.as_str()).ok()),
        frequency: mention
            .frequency
            .and_then(|span| span.of(note))
            .map(str::to_owned),
        span: Some(mention.span),
    });
    let mut drugs: Vec<Taken> = Vec::new();
    for taken in all {
        // Of two mentions of one drug the one with a dose says more.
        match drugs.iter_mut().find(|other| other.drug == taken.drug) {
            Some(other) if other.dose.is_none() && taken.dose.is_some() => *other = taken,
            Some(_) => {}
            None => drugs.push(taken),
        }
    }
    for taken in known.drugs.iter().flatten() {
        drugs.retain(|other| other.drug != taken.drug);
        drugs.push(taken.clone());
    }
    (medicines.drugs_known || known.drugs.is_some()).then_some(drugs)
}

/// Says of every value where it lies by the reference range of this patient.
pub(super) fn level(measurements: &mut [Measured], facts: &Facts, knowledge: &Knowledge) {
    for measured in measurements {
        let measure = knowledge
            .concept(&measured.test)
            .and_then(|concept| concept.measure.as_ref());
        let reference = measure.and_then(|measure| measure.reference(&facts.demographics));
        measured.level = reference
            .zip(measured.value)
            .map(|(reference, value)| reference.level(value));
    }
}

//! What a chart says of each patient: problems, medicines, allergies and measurements.
//!
//! Only what counts as said becomes a fact. Entered in error, refuted, cancelled, not final, or of a kind
//! that is not read: passed over, and listed with its reason. R4 has no code for "as far as we know";
//! a prescription that is active is taken for a medicine that is taken.

use std::{collections::BTreeMap, fmt};

use consilium_models::text::{Certainty, Time};

use super::{
    At, Chart, Passed,
    code::{
        AllergyCategory, AllergyClinical, AllergyVerification, Comparator, ConditionClinical,
        ConditionVerification, Gender, MedicationRequestIntent, MedicationRequestStatus,
        ObservationStatus,
    },
    element::{CodeableConcept, Quantity, SNOMED},
    file::{Entry, Found},
    moment::{Day, Moment},
    resource::{
        AllergyIntolerance, Condition, Dosage, MedicationRequest, Observation, PeriodUnit,
        ReferenceRange, Resource,
    },
};

/// SNOMED CT: no known allergy; no known allergy to drugs.
const NO_DRUG_ALLERGY: [&str; 2] = ["716186003", "409137002"];
/// SNOMED CT: no known allergy of the environment, to food, to latex.
const NO_OTHER_ALLERGY: [&str; 3] = ["428607008", "429625007", "716184000"];

/// What a chart says, patient by patient, and what was passed over.
#[derive(Debug, Default)]
pub struct FoundFacts {
    /// By the name of the patient, which is that of [`super::notes::FoundNote::patient`].
    pub patients: BTreeMap<String, PatientFacts>,
    /// Resources that became no fact.
    pub passed: Vec<Passed>,
}

/// What a chart says of one patient.
#[derive(Clone, PartialEq, Default)]
pub struct PatientFacts {
    /// Administrative gender.
    pub gender: Option<Gender>,
    /// Day of birth.
    pub born: Option<Day>,
    /// Problems, in the order of the file.
    pub problems: Vec<Problem>,
    /// Medicines that are prescribed now.
    pub medicines: Vec<Medicine>,
    /// Allergies. None where nothing is said; empty where it is said that none to drugs is known.
    pub allergies: Option<Vec<Allergy>>,
    /// What was measured, oldest first.
    pub measurements: Vec<Measured>,
    /// What was observed and has a code as its value, oldest first.
    pub observations: Vec<Observed>,
}

/// A problem of a patient.
#[derive(Clone, PartialEq)]
pub struct Problem {
    /// What it is.
    pub concept: CodeableConcept,
    /// Affirmed where it is confirmed or nothing is said; otherwise possible.
    pub certainty: Certainty,
    /// Historical where it is resolved, inactive or in remission.
    pub time: Time,
    /// When it began.
    pub onset: Option<Moment>,
    /// Where it stands.
    pub at: At,
}

/// A medicine that is prescribed now.
#[derive(Clone, PartialEq)]
pub struct Medicine {
    /// Which.
    pub concept: CodeableConcept,
    /// One dose, where it has a unit.
    pub dose: Option<Dose>,
    /// How often, in words.
    pub frequency: Option<String>,
    /// Where it stands.
    pub at: At,
}

/// An amount with its unit.
#[derive(Clone, PartialEq)]
pub struct Dose {
    /// The number.
    pub number: f64,
    /// Its unit.
    pub unit: String,
}

/// Something to which a patient is allergic.
#[derive(Clone, PartialEq)]
pub struct Allergy {
    /// To what.
    pub concept: CodeableConcept,
    /// What kind of thing that is.
    pub categories: Vec<AllergyCategory>,
    /// Where it stands.
    pub at: At,
}

/// A measured number.
#[derive(Clone, PartialEq)]
pub struct Measured {
    /// What was measured.
    pub concept: CodeableConcept,
    /// The number. Finite.
    pub number: f64,
    /// On which side of it the true value lies; none where it is the value.
    pub comparator: Option<Comparator>,
    /// Its unit, of UCUM where the file gives it. Empty without one.
    pub unit: String,
    /// What the laboratory says of it: high, low, normal.
    pub interpretation: Vec<CodeableConcept>,
    /// Where it is normal, in the same unit.
    pub normal: Option<(Option<f64>, Option<f64>)>,
    /// What kind of observation it is: laboratory, vital signs.
    pub categories: Vec<CodeableConcept>,
    /// When it was so.
    pub when: Option<Moment>,
    /// Where it stands.
    pub at: At,
}

/// An observation with a code as its value.
#[derive(Clone, PartialEq)]
pub struct Observed {
    /// What was observed.
    pub concept: CodeableConcept,
    /// What it was.
    pub value: CodeableConcept,
    /// When it was so.
    pub when: Option<Moment>,
    /// Where it stands.
    pub at: At,
}

impl Chart {
    /// What the chart says of each patient.
    pub fn facts(&self) -> FoundFacts {
        let mut found = FoundFacts::default();
        for entry in self.entries() {
            if let Err(why) = self.take(entry, &mut found.patients) {
                found.passed.push(Passed {
                    at: entry.at,
                    resource: entry.resource.kind(),
                    why,
                });
            }
        }
        for patient in found.patients.values_mut() {
            // Stable: what has no time, or the same, stays in the order of the file.
            patient
                .measurements
                .sort_by(|one, other| one.when.cmp(&other.when));
            patient
                .observations
                .sort_by(|one, other| one.when.cmp(&other.when));
        }
        found
    }

    fn take(
        &self,
        entry: &Entry,
        patients: &mut BTreeMap<String, PatientFacts>,
    ) -> Result<(), &'static str> {
        let at = entry.at;
        if let Resource::Patient(patient) = &entry.resource {
            let name = self.name_of(entry).ok_or("it has neither id nor address")?;
            let facts = patients.entry(name).or_default();
            facts.gender = patient.gender;
            facts.born = patient.birth_date.as_ref().map(Moment::day);
            return Ok(());
        }
        let of = || self.patient_of(entry).ok_or("it does not say whose it is");
        match &entry.resource {
            Resource::AllergyIntolerance(allergy) => {
                let allergy = allergy_of(allergy, at)?;
                let known = patients.entry(of()?).or_default();
                known.allergies.get_or_insert_default().extend(allergy);
            }
            Resource::Condition(condition) => {
                let problem = problem_of(condition, at)?;
                patients.entry(of()?).or_default().problems.push(problem);
            }
            Resource::MedicationRequest(request) => {
                let medicine = self.medicine_of(entry, request)?;
                patients.entry(of()?).or_default().medicines.push(medicine);
            }
            Resource::Observation(observation) => {
                observed(observation, at, || Ok(patients.entry(of()?).or_default()))?;
            }
            // Text is for `notes`; the others are followed from those that point to them.
            Resource::Binary(_)
            | Resource::DiagnosticReport(_)
            | Resource::DocumentReference(_)
            | Resource::Medication(_)
            | Resource::Patient(_) => (),
        }
        Ok(())
    }

    fn medicine_of(
        &self,
        entry: &Entry,
        request: &MedicationRequest,
    ) -> Result<Medicine, &'static str> {
        match request.status {
            MedicationRequestStatus::Active => (),
            MedicationRequestStatus::EnteredInError => return Err("it was entered in error"),
            _ => return Err("it is not active"),
        }
        match request.intent {
            MedicationRequestIntent::Proposal
            | MedicationRequestIntent::Plan
            | MedicationRequestIntent::Option => return Err("it is no order"),
            _ if request.do_not_perform => return Err("it says what is not to be given"),
            _ => (),
        }
        let reference = request.medication_reference.as_ref();
        let referred = reference.and_then(|it| it.reference.as_deref());
        let concept = match (&request.medication_codeable_concept, referred) {
            (Some(concept), _) => Some(concept.clone()),
            (None, Some(reference)) => match self.medication(entry, reference) {
                Found::Medication(medication) => medication.code,
                Found::Elsewhere => return Err("its medicine is not in the file"),
                Found::Other => return Err("its medicine is no Medication"),
            },
            (None, None) => None,
        };
        // Of several doses, one after the other, none is that of now.
        let dosage = match request.dosage_instruction.as_slice() {
            [dosage] => Some(dosage),
            _ => None,
        };
        Ok(Medicine {
            concept: named(concept)?,
            dose: dosage.and_then(dose_of),
            frequency: dosage.and_then(frequency_of),
            at: entry.at,
        })
    }
}

/// A concept that says something.
fn named(concept: Option<CodeableConcept>) -> Result<CodeableConcept, &'static str> {
    let concept = concept.filter(|concept| !concept.is_empty());
    concept.ok_or("it does not say what it is about")
}

fn dose_of(dosage: &Dosage) -> Option<Dose> {
    let [dose] = dosage.dose_and_rate.as_slice() else {
        return None;
    };
    let quantity = dose.dose_quantity.as_ref()?;
    let unit = quantity.written_unit();
    // One of what is not said.
    (!unit.is_empty()).then_some(())?;
    Some(Dose {
        number: quantity.value?,
        unit: unit.to_owned(),
    })
}

/// How often, as it was written, or in plain words from its parts.
fn frequency_of(dosage: &Dosage) -> Option<String> {
    let timing = dosage.timing.as_ref();
    if let Some(words) = timing.and_then(|it| it.code.as_ref()?.words()) {
        return Some(words.to_owned());
    }
    let repeat = timing.and_then(|it| it.repeat.as_ref());
    let (Some(period), Some(unit)) = (
        repeat.and_then(|it| it.period),
        repeat.and_then(|it| it.period_unit),
    ) else {
        return dosage.text.clone().filter(|text| !text.trim().is_empty());
    };
    let unit = match unit {
        PeriodUnit::S => "seconds",
        PeriodUnit::Min => "minutes",
        PeriodUnit::H => "hours",
        PeriodUnit::D => "days",
        PeriodUnit::Wk => "weeks",
        PeriodUnit::Mo => "months",
        PeriodUnit::A => "years",
    };
    let times = repeat.and_then(|it| it.frequency).unwrap_or(1);
    Some(match (times, period == 1.0) {
        (1, true) => format!("every {}", unit.trim_end_matches('s')),
        (1, false) => format!("every {period} {unit}"),
        (_, true) => format!("{times} times a {}", unit.trim_end_matches('s')),
        (_, false) => format!("{times} times in {period} {unit}"),
    })
}

/// The allergy; none where it says that there is no allergy to drugs.
fn allergy_of(allergy: &AllergyIntolerance, at: At) -> Result<Option<Allergy>, &'static str> {
    match allergy.verification_status.map(|coded| coded.0) {
        Some(AllergyVerification::EnteredInError) => return Err("it was entered in error"),
        Some(AllergyVerification::Refuted) => return Err("it is refuted"),
        // Of a doubtful allergy one is warned.
        Some(AllergyVerification::Confirmed | AllergyVerification::Unconfirmed) | None => (),
    }
    match allergy.clinical_status.map(|coded| coded.0) {
        Some(AllergyClinical::Inactive | AllergyClinical::Resolved) => {
            return Err("it is no longer there");
        }
        Some(AllergyClinical::Active) | None => (),
    }
    let substance = allergy
        .reaction
        .iter()
        .find_map(|reaction| reaction.substance.clone());
    let concept = named(
        allergy
            .code
            .clone()
            .filter(|code| !code.is_empty())
            .or(substance),
    )?;
    let says = |codes: &[&str]| codes.iter().any(|code| concept.has(SNOMED, code));
    if says(&NO_OTHER_ALLERGY) {
        return Err("it says only that no allergy of another kind is known");
    }
    let is_allergy = !says(&NO_DRUG_ALLERGY);
    Ok(is_allergy.then(|| Allergy {
        concept,
        categories: allergy.category.clone(),
        at,
    }))
}

fn problem_of(condition: &Condition, at: At) -> Result<Problem, &'static str> {
    let certainty = match condition.verification_status.map(|coded| coded.0) {
        Some(ConditionVerification::EnteredInError) => return Err("it was entered in error"),
        Some(ConditionVerification::Refuted) => return Err("it is refuted"),
        Some(ConditionVerification::Confirmed) | None => Certainty::Affirmed,
        Some(
            ConditionVerification::Unconfirmed
            | ConditionVerification::Provisional
            | ConditionVerification::Differential,
        ) => Certainty::Possible,
    };
    let time = match condition.clinical_status.map(|coded| coded.0) {
        Some(
            ConditionClinical::Active | ConditionClinical::Recurrence | ConditionClinical::Relapse,
        ) => Time::Current,
        Some(
            ConditionClinical::Inactive
            | ConditionClinical::Remission
            | ConditionClinical::Resolved,
        ) => Time::Historical,
        None if condition.abatement_date_time.is_some() => Time::Historical,
        None => Time::Current,
    };
    Ok(Problem {
        concept: named(condition.code.clone())?,
        certainty,
        time,
        onset: condition
            .onset_date_time
            .clone()
            .or_else(|| condition.recorded_date.clone()),
        at,
    })
}

/// Takes an observation and its components.
fn observed<'p>(
    observation: &Observation,
    at: At,
    patient: impl FnOnce() -> Result<&'p mut PatientFacts, &'static str>,
) -> Result<(), &'static str> {
    match observation.status {
        ObservationStatus::Final | ObservationStatus::Amended | ObservationStatus::Corrected => (),
        ObservationStatus::EnteredInError => return Err("it was entered in error"),
        ObservationStatus::Cancelled => return Err("it was cancelled"),
        ObservationStatus::Registered
        | ObservationStatus::Preliminary
        | ObservationStatus::Unknown => return Err("it is not final"),
    }
    let period = observation.effective_period.as_ref();
    let when = observation
        .effective_date_time
        .clone()
        .or_else(|| observation.effective_instant.clone())
        .or_else(|| period?.end.clone())
        .or_else(|| period?.start.clone())
        .or_else(|| observation.issued.clone());
    let mut parts = vec![Part {
        concept: &observation.code,
        quantity: observation.value_quantity.as_ref(),
        value: observation.value_codeable_concept.as_ref(),
        interpretation: &observation.interpretation,
        normal: &observation.reference_range,
    }];
    parts.extend(observation.component.iter().map(|component| Part {
        concept: &component.code,
        quantity: component.value_quantity.as_ref(),
        value: component.value_codeable_concept.as_ref(),
        interpretation: &component.interpretation,
        normal: &component.reference_range,
    }));
    let (mut measured, mut seen) = (Vec::new(), Vec::new());
    for part in parts {
        if part.concept.is_empty() {
            continue;
        }
        let quantity = part.quantity.and_then(|it| Some((it, it.value?)));
        if let Some((quantity, number)) = quantity {
            measured.push(Measured {
                concept: part.concept.clone(),
                number,
                comparator: quantity.comparator,
                unit: quantity.written_unit().to_owned(),
                interpretation: part.interpretation.to_vec(),
                normal: normal_of(part.normal, quantity),
                categories: observation.category.clone(),
                when: when.clone(),
                at,
            });
        }
        if let Some(value) = part.value.filter(|value| !value.is_empty()) {
            seen.push(Observed {
                concept: part.concept.clone(),
                value: value.clone(),
                when: when.clone(),
                at,
            });
        }
    }
    if measured.is_empty() && seen.is_empty() {
        return Err("it has no value that is read: no number, no code");
    }
    let patient = patient()?;
    patient.measurements.extend(measured);
    patient.observations.extend(seen);
    Ok(())
}

/// An observation, or a component of one.
struct Part<'a> {
    concept: &'a CodeableConcept,
    quantity: Option<&'a Quantity>,
    value: Option<&'a CodeableConcept>,
    interpretation: &'a [CodeableConcept],
    normal: &'a [ReferenceRange],
}

/// The normal range, where there is one, in the unit of the value.
fn normal_of(ranges: &[ReferenceRange], value: &Quantity) -> Option<(Option<f64>, Option<f64>)> {
    let [range] = ranges else {
        // Of several nobody says which is for this patient.
        return None;
    };
    let side = |quantity: &Option<Quantity>| {
        let quantity = quantity.as_ref()?;
        let unit = quantity.written_unit();
        (unit.is_empty() || unit == value.written_unit()).then_some(quantity.value)?
    };
    let (low, high) = (side(&range.low), side(&range.high));
    (low.is_some() || high.is_some()).then_some((low, high))
}

/// Written by hand: all of it is patient data.
impl fmt::Debug for PatientFacts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PatientFacts")
            .field("problems", &self.problems.len())
            .field("medicines", &self.medicines.len())
            .field("measurements", &self.measurements.len())
            .finish_non_exhaustive()
    }
}

/// Written by hand: a problem is patient data.
impl fmt::Debug for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Problem({})", self.at)
    }
}

/// Written by hand: a medicine is patient data.
impl fmt::Debug for Medicine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Medicine({})", self.at)
    }
}

/// Written by hand: a dose is patient data.
impl fmt::Debug for Dose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Dose")
    }
}

/// Written by hand: an allergy is patient data.
impl fmt::Debug for Allergy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Allergy({})", self.at)
    }
}

/// Written by hand: measured values are patient data.
impl fmt::Debug for Measured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Measured({})", self.at)
    }
}

/// Written by hand: what was observed is patient data.
impl fmt::Debug for Observed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Observed({})", self.at)
    }
}

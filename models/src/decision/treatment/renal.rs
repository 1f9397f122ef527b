//! Kidney function from creatinine, age, sex and weight, where nobody measured it.
//!
//! Two formulas for adults, and nothing else: CKD-EPI 2021 without race (Inker et al. 2021,
//! doi:10.1056/NEJMoa2102953) for the filtration rate per 1.73 m², and Cockcroft-Gault (Cockcroft and
//! Gault 1976, doi:10.1159/000180580) for creatinine clearance. Neither holds in pregnancy, in children,
//! or while creatinine is still changing; the first two are refused here, the third is said.

use serde::Serialize;

use super::need::Asked;
use crate::decision::{
    facts::{Fact, Origin, Patient, Quantity, Sex},
    knowledge::{ConceptId, Measure},
};

/// Micromoles per litre in one milligram per decilitre of creatinine (113.12 g/mol).
const MICROMOLES_PER_MILLIGRAM: f64 = 88.4;

/// A value that was computed from facts.
#[derive(Clone, PartialEq, Serialize)]
pub struct Computed {
    /// Of which test.
    pub test: ConceptId,
    /// The value, in `unit`.
    pub value: f64,
    /// Its unit.
    pub unit: &'static str,
    /// The name of the formula.
    pub formula: &'static str,
    /// Where the formula was published.
    pub source: &'static str,
    /// What went into it, with units.
    pub from: String,
    /// When it does not hold.
    pub caution: &'static str,
}

/// A formula, by the test it stands in for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Formula {
    CkdEpi,
    CockcroftGault,
}

/// What goes into both formulas.
struct Inputs {
    /// mg/dL.
    creatinine: f64,
    /// Years, from 18.
    age: f64,
    sex: Sex,
}

impl Formula {
    const ALL: [Self; 2] = [Self::CkdEpi, Self::CockcroftGault];

    /// The test whose place it takes, where it is not measured.
    fn test(self) -> &'static str {
        match self {
            Self::CkdEpi => "test.egfr",
            Self::CockcroftGault => "test.creatinine-clearance",
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::CkdEpi => "CKD-EPI 2021 (creatinine, without race)",
            Self::CockcroftGault => "Cockcroft-Gault 1976 (actual body weight)",
        }
    }

    fn source(self) -> &'static str {
        match self {
            Self::CkdEpi => {
                "Inker et al., N Engl J Med 2021;385:1737-1749, doi:10.1056/NEJMoa2102953"
            }
            Self::CockcroftGault => {
                "Cockcroft and Gault, Nephron 1976;16:31-41, doi:10.1159/000180580"
            }
        }
    }

    fn unit(self) -> &'static str {
        match self {
            Self::CkdEpi => "mL/min/1.73m2",
            Self::CockcroftGault => "mL/min",
        }
    }

    /// The value, in `unit`. None where the weight is needed and not known.
    fn value(self, inputs: &Inputs, weight_kg: Option<f64>) -> Option<f64> {
        match self {
            Self::CkdEpi => Some(ckd_epi(inputs.creatinine, inputs.age, inputs.sex)),
            Self::CockcroftGault => {
                weight_kg.map(|kg| cockcroft_gault(inputs.creatinine, inputs.age, inputs.sex, kg))
            }
        }
    }
}

/// CKD-EPI 2021: mL/min/1.73 m² from creatinine in mg/dL and age in years.
fn ckd_epi(creatinine: f64, age: f64, sex: Sex) -> f64 {
    let (kappa, alpha, factor) = match sex {
        Sex::Female => (0.7, -0.241, 1.012),
        Sex::Male => (0.9, -0.302, 1.0),
    };
    let ratio = creatinine / kappa;
    142.0 * ratio.min(1.0).powf(alpha) * ratio.max(1.0).powf(-1.200) * 0.9938_f64.powf(age) * factor
}

/// Cockcroft-Gault: mL/min from creatinine in mg/dL, age in years, weight in kilograms. Never below 0.
fn cockcroft_gault(creatinine: f64, age: f64, sex: Sex, weight_kg: f64) -> f64 {
    let factor = match sex {
        Sex::Female => 0.85,
        Sex::Male => 1.0,
    };
    ((140.0 - age) * weight_kg / (72.0 * creatinine) * factor).max(0.0)
}

/// Computes what is not measured, where the facts for it are there. Each comes with the fact to add.
pub(super) fn compute(patient: &Patient<'_>) -> Vec<(Computed, Fact)> {
    Formula::ALL
        .into_iter()
        .filter_map(|formula| one(formula, patient))
        .collect()
}

fn one(formula: Formula, patient: &Patient<'_>) -> Option<(Computed, Fact)> {
    let test: ConceptId = formula.test().parse().ok()?;
    let measure = measure(patient, &test)?;
    if patient.measurement(&test).is_some() || measure.convert(1.0, formula.unit()).is_none() {
        return None;
    }
    let inputs = inputs(patient)?;
    let weight = patient
        .facts()
        .demographics
        .weight_kg
        .map(|weight| weight.number());
    // Rounded before it is compared with a threshold, so that what is shown is what decides.
    let value = formula.value(&inputs, weight)?.round();
    let quantity = Quantity::new(value, formula.unit()).ok()?;
    let mut from = format!(
        "creatinine {:.2} mg/dL, age {:.0} years, {}",
        inputs.creatinine,
        inputs.age.floor(),
        match inputs.sex {
            Sex::Female => "female",
            Sex::Male => "male",
        }
    );
    if let (Formula::CockcroftGault, Some(weight)) = (formula, weight) {
        from.push_str(&format!(", weight {weight} kg"));
    }
    let mut fact = Fact::measured(test.clone(), quantity);
    fact.origin = Origin::Concluded;
    let computed = Computed {
        test,
        value,
        unit: formula.unit(),
        formula: formula.name(),
        source: formula.source(),
        from,
        caution: "for adults with stable kidney function, not in pregnancy",
    };
    Some((computed, fact))
}

fn inputs(patient: &Patient<'_>) -> Option<Inputs> {
    let demographics = patient.facts().demographics;
    let age = demographics.age?.number();
    if age < 18.0 || demographics.pregnant == Some(true) {
        return None;
    }
    let creatinine = creatinine(patient)?;
    Some(Inputs {
        creatinine,
        age,
        sex: demographics.sex?,
    })
}

/// The latest creatinine in mg/dL, whichever of the two usual units the knowledge reckons in.
fn creatinine(patient: &Patient<'_>) -> Option<f64> {
    let test: ConceptId = "test.creatinine".parse().ok()?;
    let found = patient.measurement(&test)?.value;
    let measure = measure(patient, &test)?;
    let milligram = measure
        .convert(1.0, "mg/dL")
        .or_else(|| measure.convert(MICROMOLES_PER_MILLIGRAM, "umol/L"))?;
    let value = found / milligram;
    (value.is_finite() && value > 0.0).then_some(value)
}

fn measure<'a>(patient: &Patient<'a>, test: &ConceptId) -> Option<&'a Measure> {
    patient.knowledge().concept(test)?.measure.as_ref()
}

/// What would have to be known for a test to be computed; empty where no formula gives it.
pub(super) fn missing(patient: &Patient<'_>, test: &ConceptId) -> Vec<Asked> {
    let Some(formula) = Formula::ALL
        .into_iter()
        .find(|formula| formula.test() == test.as_str())
    else {
        return Vec::new();
    };
    let demographics = patient.facts().demographics;
    let is_child = demographics.age.is_some_and(|age| age.number() < 18.0);
    if is_child || demographics.pregnant == Some(true) {
        return Vec::new();
    }
    let mut missing = Vec::new();
    if creatinine(patient).is_none() {
        missing.extend("test.creatinine".parse().ok().map(Asked::Concept));
    }
    if demographics.age.is_none() {
        missing.push(Asked::Age);
    }
    if demographics.sex.is_none() {
        missing.push(Asked::Sex);
    }
    if formula == Formula::CockcroftGault && demographics.weight_kg.is_none() {
        missing.push(Asked::Weight);
    }
    missing
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By hand from the published equation: 142 × (1.5/0.9)^-1.2 × 0.9938^70 = 49.77 and
    /// 142 × (0.6/0.7)^-0.241 × 0.9938^40 × 1.012 = 116.3.
    #[test]
    fn filtration_follows_the_published_equation() {
        assert!((ckd_epi(1.5, 70.0, Sex::Male) - 49.77).abs() < 0.05);
        assert!((ckd_epi(0.6, 40.0, Sex::Female) - 116.3).abs() < 0.1);
    }

    /// (140 − 60) × 72 / (72 × 1) = 80 for a man, 0.85 of it for a woman.
    #[test]
    fn clearance_follows_the_published_equation() {
        assert!((cockcroft_gault(1.0, 60.0, Sex::Male, 72.0) - 80.0).abs() < 1e-9);
        assert!((cockcroft_gault(1.0, 60.0, Sex::Female, 72.0) - 68.0).abs() < 1e-9);
    }

    #[test]
    fn more_creatinine_never_means_better_kidneys() {
        for sex in [Sex::Female, Sex::Male] {
            let rates: Vec<f64> = (1..100)
                .map(|at| ckd_epi(f64::from(at) / 10.0, 50.0, sex))
                .collect();
            assert!(rates.windows(2).all(|two| two[1] < two[0]));
        }
    }
}

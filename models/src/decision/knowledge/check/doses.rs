//! Treatments: what is given, how much, and that no dose is above its maximum.

use super::{
    super::{
        Dose, Kind, Knowledge, Limit, Step, Treatment,
        file::{Entries, Placed},
        unit,
    },
    Report,
};

/// Checks steps, doses and limits.
pub(super) fn check(entries: &Entries, knowledge: &Knowledge, report: &mut Report<'_>) {
    for it in &entries.concepts {
        if let Some(limit) = &it.entry.limit {
            let numbers: Vec<f64> = limit.dose.into_iter().chain(limit.day).collect();
            if numbers.is_empty() || !numbers.iter().all(|it| *it > 0.0 && it.is_finite()) {
                let fix = "give dose, day or both, above 0";
                report.add(it, "the limit limits nothing", fix);
            }
            if let (Some(dose), Some(day)) = (limit.dose, limit.day)
                && dose > day
            {
                report.add(
                    it,
                    "one dose may be more than a day's",
                    "correct dose or day",
                );
            }
        }
    }
    for it in &entries.treatments {
        if it.entry.steps.is_empty() {
            report.add(it, "nothing is done", "add [[treatment.steps]]");
        }
        for step in &it.entry.steps {
            check_step(it, step, knowledge, report);
        }
    }
}

fn check_step(it: &Placed<Treatment>, step: &Step, knowledge: &Knowledge, report: &mut Report<'_>) {
    let drug = &step.give;
    match (step.is_drug(), step.doses.is_empty()) {
        (true, true) => report.add(
            it,
            format!("{drug} has no dose"),
            "add doses = [{ amount, unit, frequency }]",
        ),
        (false, false) if drug.kind() == Kind::Procedure => {
            report.add(
                it,
                format!("{drug} has a dose"),
                "leave doses out: a procedure has none",
            );
        }
        _ => (),
    }
    if step.is_drug() && step.route.is_none() {
        report.add(
            it,
            format!("{drug} has no route"),
            "add route = \"oral\" or another",
        );
    }
    for (at, dose) in step.doses.iter().enumerate() {
        if dose.when.is_none() && at + 1 < step.doses.len() {
            let what = format!("a dose of {drug} comes after one that is for everybody");
            report.add(
                it,
                what,
                "put the dose without when last, and have one only",
            );
        }
        check_dose(it, step, dose, knowledge, report);
    }
}

fn check_dose(
    it: &Placed<Treatment>,
    step: &Step,
    dose: &Dose,
    knowledge: &Knowledge,
    report: &mut Report<'_>,
) {
    let drug = &step.give;
    let is_amount = |amount: f64| amount > 0.0 && amount <= 1e6;
    let amounts = [Some(dose.amount), dose.up_to, dose.maximum];
    if !amounts.into_iter().flatten().all(is_amount) {
        let what = format!("an amount of {drug} is no amount");
        return report.add(it, what, "give numbers above 0, up to a million");
    }
    let most = dose.up_to.unwrap_or(dose.amount);
    if most < dose.amount {
        let what = format!("{drug} goes from {} up to {most}", dose.amount);
        report.add(it, what, "exchange amount and up_to, or correct them");
    }
    match dose.maximum {
        None if dose.per_kg => {
            let what = format!("{drug} is given by weight without a maximum");
            report.add(it, what, "add maximum = …");
        }
        Some(maximum) if !dose.per_kg && most > maximum => {
            let what = format!("{drug} {most} {} is above its maximum {maximum}", dose.unit);
            report.add(it, what, "correct the amount or the maximum");
        }
        _ => (),
    }
    if dose
        .times_a_day
        .is_some_and(|times| !(times > 0.0 && times <= 96.0))
    {
        let what = format!("{drug} is given an impossible number of times a day");
        report.add(
            it,
            what,
            "give a number above 0, up to 96; 0.5 is every second day",
        );
    }
    if let Some(limit) = knowledge
        .concept(drug)
        .and_then(|concept| concept.limit.as_ref())
    {
        check_limit(it, step, dose, limit, report);
    }
}

fn check_limit(
    it: &Placed<Treatment>,
    step: &Step,
    dose: &Dose,
    limit: &Limit,
    report: &mut Report<'_>,
) {
    let drug = &step.give;
    let most = match (dose.per_kg, dose.maximum) {
        (true, maximum) => maximum,
        (false, _) => Some(dose.up_to.unwrap_or(dose.amount)),
    };
    let Some(most) = most else {
        return;
    };
    let Some(most) = unit::convert_mass(most, &dose.unit, &limit.unit) else {
        let what = format!(
            "{drug} is given in {:?}, its limit is in {:?}",
            dose.unit, limit.unit
        );
        return report.add(it, what, "give both in the same unit");
    };
    // Amounts are decimal fractions in files: leave room for their rounding.
    let exceeds = |amount: f64, limit: f64| amount > limit * (1.0 + 1e-9);
    if let Some(limit_dose) = limit.dose
        && exceeds(most, limit_dose)
    {
        let what = format!(
            "{drug} {most} {} at a time is above its limit {limit_dose}",
            limit.unit
        );
        report.add(it, what, "correct the dose, or the limit of the drug");
    }
    if let (Some(day), Some(times)) = (limit.day, dose.times_a_day)
        && exceeds(most * times, day)
    {
        let what = format!(
            "{drug} {} {} a day is above its limit {day}",
            most * times,
            limit.unit
        );
        report.add(
            it,
            what,
            "correct dose or times_a_day, or the limit of the drug",
        );
    }
}

//! Tests, their units and ranges, and thresholds on them.

use super::{
    super::{
        Concept, Kind, Knowledge, Measure, When,
        file::{Entries, Placed},
        unit,
    },
    Report, Reporting, each_when,
};

/// Checks how tests are measured, and that every threshold is in a unit that converts, at a possible value.
pub(super) fn check(entries: &Entries, knowledge: &Knowledge, report: &mut Report<'_>) {
    for it in &entries.concepts {
        let kind = it.entry.id.kind();
        match (&it.entry.measure, kind) {
            (Some(measure), Kind::Test) => check_measure(it, measure, report),
            (None, Kind::Test) => {
                let fix = "add measure = { unit = \"…\", possible = { low = …, high = … } }";
                report.add(it, "the test says nothing of its unit", fix);
            }
            (Some(_), _) => report.add(it, "only tests are measured", "leave measure out"),
            (None, _) => (),
        }
        if it.entry.limit.is_some() && kind != Kind::Drug {
            report.add(it, "only drugs have a limit", "leave limit out");
        }
        if let Some(cost) = it.entry.cost {
            if !matches!(kind, Kind::Finding | Kind::Test) {
                let what = "only findings and tests have a cost";
                report.add(it, what, "leave cost out");
            } else if !(cost.is_finite() && cost > 0.0) {
                let what = format!("the cost {cost} is not above 0");
                report.add(
                    it,
                    what,
                    "give what it costs, in units of one plain question",
                );
            }
        }
        if it.entry.measured.is_some() && !matches!(kind, Kind::Finding | Kind::Condition) {
            let what = "only findings and conditions are decided by a measurement";
            report.add(it, what, "leave measured out");
        }
    }
    each_when(entries, report, |report, it, when, name| {
        for leaf in when.leaves() {
            check_threshold(it, leaf, name, knowledge, report);
        }
    });
}

fn check_measure(it: &Placed<Concept>, measure: &Measure, report: &mut Report<'_>) {
    let possible = measure.possible;
    let is_finite = possible.low.is_finite() && possible.high.is_finite();
    if !is_finite || possible.low >= possible.high {
        let what = format!(
            "no value lies between {} and {}",
            possible.low, possible.high
        );
        report.add(it, what, "give possible a low below its high");
    }
    for range in &measure.reference {
        if range.low.is_none() && range.high.is_none() {
            report.add(
                it,
                "a reference range has no edge",
                "give low, high or both",
            );
        }
        let low = range.low.unwrap_or(possible.low);
        let high = range.high.unwrap_or(possible.high);
        if low.is_nan() || high.is_nan() || low > high {
            let what = format!("a reference range goes from {low} down to {high}");
            report.add(it, what, "exchange low and high, or correct them");
        } else if low < possible.low || high > possible.high {
            let what = format!("the reference range {low} to {high} holds impossible values");
            report.add(it, what, "correct it, or make possible wider");
        }
        if super::super::Range::from(*range).is_empty() {
            report.add(
                it,
                "a reference range is for no age",
                "correct age_at_least and age_below",
            );
        }
    }
    for (at, conversion) in measure.convert.iter().enumerate() {
        if !(conversion.factor > 0.0
            && conversion.factor.is_finite()
            && conversion.offset.is_finite())
        {
            let what = format!("{:?} does not convert", conversion.unit);
            report.add(
                it,
                what,
                "give a finite factor above 0, and a finite offset",
            );
        }
        let before = measure
            .convert
            .iter()
            .take(at.min(100))
            .map(|other| &other.unit);
        if before
            .chain([&measure.unit])
            .any(|other| unit::same(other, &conversion.unit))
        {
            let what = format!("the unit {:?} stands there twice", conversion.unit);
            report.add(
                it,
                what,
                "leave one out: spelling and capitals do not count",
            );
        }
    }
    if measure.convert.len() > 100 {
        report.add(it, "more than 100 units", "leave out what nobody writes");
    }
}

fn check_threshold(
    it: &dyn Reporting,
    leaf: &When,
    name: &str,
    knowledge: &Knowledge,
    report: &mut Report<'_>,
) {
    let (When::Test { test, .. } | When::Level { test, .. }) = leaf else {
        return;
    };
    let measure = knowledge
        .concept(test)
        .and_then(|concept| concept.measure.as_ref());
    let Some(measure) = measure else {
        return;
    };
    match leaf {
        When::Test { range, unit, .. } => {
            let (low, high) = range.edges();
            for edge in [low, high].into_iter().flatten() {
                let Some(value) = measure.convert(edge, unit) else {
                    let what = format!("{name} gives {test} in {unit:?}, which does not convert");
                    let units = measure.convert.iter().map(|known| known.unit.as_str());
                    let units: Vec<&str> =
                        [measure.unit.as_str()].into_iter().chain(units).collect();
                    let fix = format!("take {}, or add a conversion", units.join(" or "));
                    it.report(report, what, fix);
                    return;
                };
                let possible = measure.possible;
                if !(possible.low..=possible.high).contains(&value) {
                    let what =
                        format!("{name} compares {test} with {edge} {unit}, which is impossible");
                    let fix = format!(
                        "possible are {} to {} {}: correct the number or the unit",
                        possible.low, possible.high, measure.unit
                    );
                    it.report(report, what, fix);
                }
            }
        }
        _ if measure.reference.is_empty() => {
            let what = format!("{name} asks for the level of {test}, which has no reference range");
            it.report(report, what, "give it one, or compare with a number".into());
        }
        _ => (),
    }
}

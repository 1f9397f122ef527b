//! Conditions that can never hold.
//!
//! A condition is pushed through what it demands of a patient: a range for each test, who has what. It
//! can never hold where two demands exclude each other. Choices (`any`, `of`) are tried one by one with
//! what stands around them, so that the walk is as long as the condition; choices that exclude each
//! other across lists go unseen.

use std::{
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
};

use super::{
    super::{ConceptId, EntryId, Knowledge, Level, Range, When, file::Entries},
    Report, each_when,
};
use crate::decision::facts::Sex;

/// Checks every condition, and that every treatment can be for somebody.
pub(super) fn check(entries: &Entries, knowledge: &Knowledge, report: &mut Report<'_>) {
    each_when(entries, report, |report, it, when, name| {
        if let Err(reason) = Demands::new(knowledge).demand(&[(when, true)]) {
            let what = format!("{name} can never hold: {reason}");
            it.report(report, what, "correct it, or leave the entry out".into());
        }
    });
    for it in &entries.treatments {
        if let Some(exclude) = &it.entry.exclude_if {
            let applies = it.entry.applies_if.iter().map(|when| (when, true));
            let both: Vec<(&When, bool)> = applies.chain([(exclude, false)]).collect();
            if let Err(reason) = Demands::new(knowledge).demand(&both) {
                let what = format!("everybody it applies to is excluded: {reason}");
                report.add(it, what, "correct applies_if or exclude_if");
            }
        }
    }
}

/// What a condition demands of a patient.
#[derive(Clone)]
struct Demands<'a> {
    knowledge: &'a Knowledge,
    /// What the patient must have, with everything that is a kind of.
    required: BTreeMap<(Aspect, &'a ConceptId), Rc<[&'a ConceptId]>>,
    /// What the patient must not have.
    denied: BTreeSet<(Aspect, &'a ConceptId)>,
    /// In the test's own unit.
    values: BTreeMap<&'a ConceptId, Range>,
    levels: BTreeMap<&'a ConceptId, Vec<Level>>,
    points: BTreeMap<&'a EntryId, Range>,
    age: Range,
    weight: Range,
    sex: Option<Sex>,
    pregnant: Option<bool>,
}

/// In what way a concept is there.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Aspect {
    Present,
    Past,
    Taken,
    Allergy,
}

type Possible = Result<(), String>;

impl<'a> Demands<'a> {
    fn new(knowledge: &'a Knowledge) -> Self {
        Self {
            knowledge,
            required: BTreeMap::new(),
            denied: BTreeSet::new(),
            values: BTreeMap::new(),
            levels: BTreeMap::new(),
            points: BTreeMap::new(),
            age: Range::new(Some(0.0), None, None, Some(130.0)),
            weight: Range::new(None, Some(0.0), None, Some(700.0)),
            sex: None,
            pregnant: None,
        }
    }

    /// Demands that all of these hold, or do not hold. Fails with the reason why that cannot be.
    fn demand(&mut self, whens: &[(&'a When, bool)]) -> Possible {
        // First what is demanded outright, then the choices with all of that around them.
        let mut open: Vec<(&When, bool)> = whens.to_vec();
        let mut choices = Vec::new();
        while let Some((when, holds)) = open.pop() {
            match when {
                When::Not(part) => open.push((part, !holds)),
                When::All(parts) if holds => open.extend(parts.iter().map(|part| (part, true))),
                When::Any(parts) if !holds => open.extend(parts.iter().map(|part| (part, false))),
                When::All(parts) => choices.push((parts, false, 1)),
                When::Any(parts) => choices.push((parts, true, 1)),
                When::Count { at_least, of } if holds => choices.push((of, true, *at_least)),
                When::Count { at_least, of } => {
                    choices.push((of, false, (of.len() + 1).saturating_sub(*at_least)));
                }
                leaf => self.leaf(leaf, holds)?,
            }
        }
        for (parts, holds, at_least) in choices {
            let mut reason = String::from("it asks for more than its list has");
            let mut possible = 0;
            for part in parts {
                match self.clone().demand(&[(part, holds)]) {
                    Ok(()) => possible += 1,
                    Err(why) => reason = why,
                }
            }
            if possible < at_least {
                return Err(reason);
            }
        }
        Ok(())
    }

    fn leaf(&mut self, leaf: &'a When, holds: bool) -> Possible {
        match leaf {
            When::Present(id) => self.state(Aspect::Present, id, holds),
            When::Absent(id) => self.state(Aspect::Present, id, !holds),
            When::History(id) => {
                if !holds {
                    self.state(Aspect::Present, id, false)?;
                }
                self.state(Aspect::Past, id, holds)
            }
            When::Taking(id) => self.state(Aspect::Taken, id, holds),
            When::Allergic(id) => self.state(Aspect::Allergy, id, holds),
            When::Test { test, range, unit } => self.test(test, *range, unit, holds),
            When::Level { test, level } => self.level(test, *level, holds),
            When::Score { score, range } => self.score(score, *range, holds),
            When::Age(range) => narrow(&mut self.age, *range, holds, "age in years"),
            When::Weight(range) => narrow(&mut self.weight, *range, holds, "weight in kg"),
            When::Sex(sex) => {
                let demanded = match (sex, holds) {
                    (Sex::Female, true) | (Sex::Male, false) => Sex::Female,
                    _ => Sex::Male,
                };
                match self.sex.replace(demanded) {
                    Some(before) if before != demanded => Err("it asks for both sexes".into()),
                    _ => self.men_are_not_pregnant(),
                }
            }
            When::Pregnant(wanted) => {
                let demanded = *wanted == holds;
                match self.pregnant.replace(demanded) {
                    Some(before) if before != demanded => {
                        Err("it asks for pregnant and not pregnant".into())
                    }
                    _ => self.men_are_not_pregnant(),
                }
            }
            // The others have parts, and never come here.
            _ => Ok(()),
        }
    }

    fn men_are_not_pregnant(&self) -> Possible {
        match (self.sex, self.pregnant) {
            (Some(Sex::Male), Some(true)) => Err("it asks for a pregnant man".into()),
            _ => Ok(()),
        }
    }

    /// Who has a kind of a thing has the thing; who has not the thing has no kind of it.
    fn state(&mut self, aspect: Aspect, id: &'a ConceptId, holds: bool) -> Possible {
        let wider: Rc<[&ConceptId]> = self.knowledge.upwards(id).into();
        let clash = if holds {
            wider
                .iter()
                .find(|wide| self.denied.contains(&(aspect, **wide)))
                .map(|wide| (id, *wide))
        } else {
            let mut required = self.required.iter();
            let kind = required.find(|((other, _), wider)| *other == aspect && wider.contains(&id));
            kind.map(|((_, kind), _)| (*kind, id))
        };
        if let Some((narrow, wide)) = clash {
            return Err(format!(
                "it asks for {narrow} and for the absence of {wide}"
            ));
        }
        if holds {
            self.required.insert((aspect, id), wider);
        } else {
            self.denied.insert((aspect, id));
        }
        // Measured findings are there whenever their measurement says so.
        let measured = self
            .knowledge
            .concept(id)
            .and_then(|it| it.measured.as_ref());
        match measured {
            Some(when) if !holds && aspect == Aspect::Present && only_tests(when) => {
                self.demand(&[(when, false)])
            }
            _ => Ok(()),
        }
    }

    fn test(&mut self, test: &'a ConceptId, range: Range, unit: &str, holds: bool) -> Possible {
        let measure = self
            .knowledge
            .concept(test)
            .and_then(|it| it.measure.as_ref());
        let Some(measure) = measure.filter(|measure| measure.convert(0.0, unit).is_some()) else {
            return Ok(());
        };
        let range = range.map(|edge| measure.convert(edge, unit).unwrap_or(edge));
        let possible = measure.possible;
        let everything = Range::new(Some(possible.low), None, None, Some(possible.high));
        let values = self.values.entry(test).or_insert(everything);
        narrow(values, range, holds, test.as_str())
    }

    fn level(&mut self, test: &'a ConceptId, level: Level, holds: bool) -> Possible {
        let every = || vec![Level::Low, Level::Normal, Level::High];
        let levels = self.levels.entry(test).or_insert_with(every);
        levels.retain(|left| (*left == level) == holds);
        if levels.is_empty() {
            return Err(format!("no level of {test} is left"));
        }
        Ok(())
    }

    fn score(&mut self, id: &'a EntryId, range: Range, holds: bool) -> Possible {
        let Some(score) = self.knowledge.score(id) else {
            return Ok(());
        };
        let low = score.items.iter().map(|item| item.points.min(0.0)).sum();
        let high = score.items.iter().map(|item| item.points.max(0.0)).sum();
        let everything = Range::new(Some(low), None, None, Some(high));
        let points = self.points.entry(id).or_insert(everything);
        narrow(points, range, holds, id.as_str())
    }
}

/// Whether it can only be asked for outright: walks from a state to its measurement must not come back.
fn only_tests(when: &When) -> bool {
    let mut leaves = when.leaves().into_iter();
    leaves.all(|leaf| {
        matches!(
            leaf,
            When::Test { .. } | When::Level { .. } | When::Age(_) | When::Sex(_)
        )
    })
}

/// Demands that a number lies in a range, or outside it.
fn narrow(values: &mut Range, range: Range, holds: bool, what: &str) -> Possible {
    let pieces = if holds {
        vec![values.and(range)]
    } else {
        let outside = range.outside();
        outside
            .into_iter()
            .flatten()
            .map(|piece| values.and(piece))
            .collect()
    };
    let mut left = pieces.into_iter().filter(|piece| !piece.is_empty());
    match (left.next(), left.next()) {
        (None, _) => Err(format!("no value of {what} is left")),
        (Some(piece), None) => {
            *values = piece;
            Ok(())
        }
        // Both sides are possible: the range in between stays allowed, which can only hide a contradiction.
        (Some(_), Some(_)) => Ok(()),
    }
}

//! What entries refer to is there, and is of the right kind.

use super::{
    super::{ConceptId, Kind, Knowledge, When, file::Entries, problem::near},
    Report, Reporting, each_source, each_when,
};

/// Most conditions in one condition, with those inside them.
const PARTS_LIMIT: usize = 200;
/// Who misspells more ids than this gets no more suggestions: looking for them takes long.
const SUGGESTIONS_LIMIT: usize = 20;

const STATE: &[Kind] = &[Kind::Finding, Kind::Condition, Kind::Procedure];
const MEDICINE: &[Kind] = &[Kind::Drug, Kind::Class];

/// Checks every id that an entry names. Whether every condition is short enough to be looked into.
pub(super) fn check(entries: &Entries, knowledge: &Knowledge, report: &mut Report<'_>) -> bool {
    let mut checker = Checker {
        knowledge,
        suggestions: 0,
        is_bounded: true,
    };
    for it in &entries.concepts {
        for wider in &it.entry.is_a {
            let kinds: &[Kind] = match it.entry.id.kind() {
                Kind::Drug | Kind::Class => &[Kind::Class],
                Kind::Finding | Kind::Condition => &[Kind::Finding, Kind::Condition],
                Kind::Test => &[],
                Kind::Procedure => &[Kind::Procedure],
            };
            checker.concept(report, it, wider, "is_a", kinds);
        }
    }
    for it in &entries.conditions {
        checker.concept(report, it, &it.entry.id, "id", &[Kind::Condition]);
    }
    for it in &entries.likelihoods {
        let condition = &it.entry.condition;
        checker.concept(report, it, condition, "condition", &[Kind::Condition]);
        checker.concept(report, it, &it.entry.finding, "finding", &STATE[..2]);
        let is_known = checker.knowledge.concept(condition).is_some();
        if is_known && knowledge.condition(condition).is_none() {
            let what = format!("{condition} has no prior, so its odds cannot be told");
            report.add(
                it,
                what,
                format!("add [[condition]] with id = \"{condition}\""),
            );
        }
        if condition == &it.entry.finding {
            report.add(
                it,
                "a condition is no evidence for itself",
                "name a finding",
            );
        }
    }
    for it in &entries.rules {
        checker.concept(report, it, &it.entry.concludes, "concludes", &STATE[..2]);
    }
    for it in &entries.treatments {
        checker.concept(
            report,
            it,
            &it.entry.condition,
            "condition",
            &[Kind::Condition],
        );
        for step in &it.entry.steps {
            let kinds = &[Kind::Drug, Kind::Procedure];
            checker.concept(report, it, &step.give, "give", kinds);
        }
    }
    for it in &entries.interactions {
        for id in &it.entry.between {
            checker.concept(report, it, id, "between", MEDICINE);
        }
        let [one, other] = &it.entry.between;
        if one == other && one.kind() == Kind::Drug {
            report.add(
                it,
                "a drug does not meet itself",
                "name two drugs, or a class",
            );
        }
    }
    for it in &entries.contraindications {
        checker.concept(report, it, &it.entry.of, "of", MEDICINE);
    }
    each_when(entries, report, |report, it, when, name| {
        checker.when(report, it, when, name);
    });
    each_source(entries, report, |report, it, source| {
        if knowledge.source(source).is_none() && !report.broken.contains(source.as_str()) {
            let ids = knowledge.sources.keys().map(|id| id.as_str());
            let fix = checker.suggest(source.as_str(), ids, "add [[source]] with this id");
            it.report(report, format!("there is no source {source}"), fix);
        }
    });
    for it in &entries.concepts {
        let allowed = |leaf: &&When| {
            matches!(
                leaf,
                When::Test { .. } | When::Level { .. } | When::Age(_) | When::Sex(_)
            )
        };
        if let Some(when) = &it.entry.measured
            && !when.leaves().iter().all(allowed)
        {
            let what = "measured asks for more than measurements, age and sex";
            report.add(it, what, "write a rule that concludes the finding instead");
        }
    }
    for it in &entries.scores {
        let mut whens = it.entry.items.iter().flat_map(|item| item.when.leaves());
        if whens.any(|leaf| matches!(leaf, When::Score { .. })) {
            report.add(it, "an item asks for a score", "write out what it counts");
        }
    }
    checker.is_bounded
}

struct Checker<'k> {
    knowledge: &'k Knowledge,
    suggestions: usize,
    is_bounded: bool,
}

impl Checker<'_> {
    fn when(&mut self, report: &mut Report<'_>, it: &dyn Reporting, when: &When, name: &str) {
        let mut open = vec![when];
        let mut count = 0;
        while let Some(when) = open.pop() {
            open.extend(when.parts());
            count += 1;
            if count > PARTS_LIMIT {
                self.is_bounded = false;
                let what = format!("{name} has more than {PARTS_LIMIT} conditions");
                return it.report(report, what, "write several rules".into());
            }
            match when {
                When::All(parts) | When::Any(parts) | When::Count { of: parts, .. }
                    if parts.is_empty() =>
                {
                    let what = format!("{name} has a list without conditions");
                    it.report(
                        report,
                        what,
                        "add a condition, or leave the list out".into(),
                    );
                }
                When::Present(id) | When::Absent(id) | When::History(id) => {
                    self.concept(report, it, id, name, STATE);
                }
                When::Taking(id) | When::Allergic(id) => {
                    self.concept(report, it, id, name, MEDICINE);
                }
                When::Test { test: id, .. } | When::Level { test: id, .. } => {
                    self.concept(report, it, id, name, &[Kind::Test]);
                }
                When::Score { score, .. }
                    if self.knowledge.score(score).is_none()
                        && !report.broken.contains(score.as_str()) =>
                {
                    let ids = self.knowledge.scores.keys().map(|id| id.as_str());
                    let fix = self.suggest(score.as_str(), ids, "add [[score]] with this id");
                    it.report(report, format!("there is no score {score}"), fix);
                }
                _ => (),
            }
        }
    }

    fn concept(
        &mut self,
        report: &mut Report<'_>,
        it: &dyn Reporting,
        id: &ConceptId,
        name: &str,
        kinds: &[Kind],
    ) {
        if !kinds.contains(&id.kind()) {
            let names: Vec<&str> = kinds.iter().map(|kind| kind.name()).collect();
            let fix = match names.is_empty() {
                true => "leave it out".to_owned(),
                false => format!("name a {}", names.join(" or a ")),
            };
            let what = format!("{name} names {id}, which does not belong there");
            return it.report(report, what, fix);
        }
        if self.knowledge.concept(id).is_none() && !report.broken.contains(id.as_str()) {
            let ids = self.knowledge.concepts.keys().map(ConceptId::as_str);
            let fix = self.suggest(id.as_str(), ids, "add [[concept]] with this id");
            it.report(
                report,
                format!("{name} names {id}, which is no concept here"),
                fix,
            );
        }
    }

    fn suggest<'a>(
        &mut self,
        word: &str,
        ids: impl Iterator<Item = &'a str>,
        otherwise: &str,
    ) -> String {
        self.suggestions += 1;
        let meant = (self.suggestions <= SUGGESTIONS_LIMIT)
            .then(|| near(word, ids))
            .flatten();
        match meant {
            Some(meant) => format!("did you mean {meant}? Otherwise {otherwise}"),
            None => otherwise.to_owned(),
        }
    }
}

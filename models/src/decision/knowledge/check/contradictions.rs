//! Rules that say opposite things, or the same thing twice.

use std::collections::{BTreeSet, HashMap};

use super::{
    super::{
        Knowledge, Rule, When,
        file::{Entries, Placed},
    },
    Report,
};

/// Checks that no two rules conclude about the same thing from the same condition.
pub(super) fn check(entries: &Entries, knowledge: &Knowledge, report: &mut Report<'_>) {
    let mut first: HashMap<String, &Placed<Rule>> = HashMap::new();
    for it in &entries.rules {
        let rule = &it.entry;
        let when = canonical(&rule.when, knowledge, true).into_text();
        let key = format!("{} {when}", rule.concludes);
        let Some(other) = first.get(&key) else {
            first.insert(key, it);
            continue;
        };
        let place = report.place(other);
        let (what, fix) = if other.entry.effect == rule.effect {
            let what = format!("it says the same as {} ({place})", other.entry.id);
            (what, "leave one out: what is said twice counts twice")
        } else {
            let what = format!(
                "it contradicts {} ({place}): same condition, opposite conclusion",
                other.entry.id
            );
            (what, "leave one out, or tell apart when each applies")
        };
        report.add(it, what, fix);
    }
}

/// A condition in a form that does not depend on the order of parts, on nesting, or on units.
fn canonical(when: &When, knowledge: &Knowledge, holds: bool) -> Form {
    let list = |name: String, parts: &[When], holds: bool| {
        let parts = parts.iter().map(|part| canonical(part, knowledge, holds));
        Form::list(name, parts)
    };
    let leaf = |text: String| Form::Leaf(text);
    match when {
        When::Not(part) => canonical(part, knowledge, !holds),
        When::All(parts) if holds => list("all".into(), parts, true),
        When::All(parts) => list("any".into(), parts, false),
        When::Any(parts) if holds => list("any".into(), parts, true),
        When::Any(parts) => list("all".into(), parts, false),
        When::Count { at_least, of } => list(format!("{holds} {at_least} of"), of, true),
        When::Present(id) => leaf(format!("has {id} {holds}")),
        When::Absent(id) => leaf(format!("has {id} {}", !holds)),
        When::Test { test, range, unit } => {
            let measure = knowledge.concept(test).and_then(|it| it.measure.as_ref());
            let own = |edge| {
                measure
                    .and_then(|it| it.convert(edge, unit))
                    .unwrap_or(edge)
            };
            leaf(format!("{test} {:?} {holds}", range.map(own)))
        }
        other => leaf(format!("{other:?} {holds}")),
    }
}

/// A leaf, or a named list whose order does not matter.
enum Form {
    Leaf(String),
    List(String, BTreeSet<String>),
}

impl Form {
    /// A list in a list of the same name is one list; a choice of one is that one.
    fn list(name: String, parts: impl Iterator<Item = Self>) -> Self {
        let is_flat = name == "all" || name == "any";
        let mut texts = BTreeSet::new();
        for part in parts {
            match part {
                Self::List(inner, inside) if is_flat && inner == name => texts.extend(inside),
                part => {
                    texts.insert(part.into_text());
                }
            }
        }
        match texts.first() {
            Some(only) if is_flat && texts.len() == 1 => Self::Leaf(only.clone()),
            _ => Self::List(name, texts),
        }
    }

    fn into_text(self) -> String {
        match self {
            Self::Leaf(text) => text,
            Self::List(name, texts) => {
                let texts: Vec<String> = texts.into_iter().collect();
                format!("{name}({})", texts.join("; "))
            }
        }
    }
}

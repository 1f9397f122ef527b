//! Entries of several files put together: each id once, replaced only on purpose.

use std::collections::HashMap;

use super::{
    super::file::{Entries, Placed},
    Report,
};
use crate::decision::knowledge::{
    Concept, Condition, Contraindication, Interaction, Likelihood, Rule, Score, Source, Treatment,
};

/// An entry of a section.
pub(super) trait Entry {
    /// The section it stands in.
    const SECTION: &'static str;
    /// What tells it from the others of its section.
    fn key(&self) -> String;
    /// Whether it says that it takes the place of another.
    fn replaces(&self) -> bool;
}

macro_rules! entries_by_id {
    ($($type:ty => $section:literal),*) => {$(
        impl Entry for $type {
            const SECTION: &'static str = $section;
            fn key(&self) -> String {
                self.id.to_string()
            }
            fn replaces(&self) -> bool {
                self.replaces
            }
        }
    )*};
}

entries_by_id! {
    Source => "source", Concept => "concept", Condition => "condition", Rule => "rule", Score => "score",
    Treatment => "treatment", Contraindication => "contraindication"
}

impl Entry for Likelihood {
    const SECTION: &'static str = "likelihood";
    fn key(&self) -> String {
        format!("{} / {}", self.condition, self.finding)
    }
    fn replaces(&self) -> bool {
        self.replaces
    }
}

impl Entry for Interaction {
    const SECTION: &'static str = "interaction";
    fn key(&self) -> String {
        let [one, other] = &self.between;
        let (first, second) = if one <= other {
            (one, other)
        } else {
            (other, one)
        };
        format!("{first} / {second}")
    }
    fn replaces(&self) -> bool {
        self.replaces
    }
}

/// Leaves each id once: the later where it says that it replaces, the earlier otherwise.
pub(super) fn settle_all(entries: &mut Entries, report: &mut Report<'_>) {
    settle(&mut entries.sources, report);
    settle(&mut entries.concepts, report);
    settle(&mut entries.conditions, report);
    settle(&mut entries.likelihoods, report);
    settle(&mut entries.rules, report);
    settle(&mut entries.scores, report);
    settle(&mut entries.treatments, report);
    settle(&mut entries.interactions, report);
    settle(&mut entries.contraindications, report);
}

fn settle<T: Entry>(entries: &mut Vec<Placed<T>>, report: &mut Report<'_>) {
    let mut kept: Vec<Placed<T>> = Vec::with_capacity(entries.len());
    let mut places: HashMap<String, usize> = HashMap::new();
    for new in entries.drain(..) {
        let key = new.entry.key();
        let old = places.get(&key).and_then(|&at| kept.get_mut(at));
        match old {
            None => {
                if new.entry.replaces() {
                    let what = "it says replaces = true, but no earlier file has this entry";
                    report.add(&new, what, "leave replaces out, or correct the id");
                }
                places.insert(key, kept.len());
                kept.push(new);
            }
            Some(old) if new.entry.replaces() && new.file != old.file => *old = new,
            Some(old) => {
                let what = format!("it is already defined at {}", report.place(old));
                let fix = if new.file == old.file {
                    "leave one of them out, or give one another id"
                } else {
                    "give it another id, or say replaces = true if it shall take the other's place"
                };
                report.add(&new, what, fix);
            }
        }
    }
    *entries = kept;
}

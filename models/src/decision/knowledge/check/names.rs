//! Names of concepts: each term means one thing.

use std::collections::HashMap;

use super::{
    super::file::{Entries, shortened},
    Report,
};

/// Most bytes of a name.
const NAME_LIMIT: usize = 200;

/// Checks that concepts and scores have names, and that no two concepts share one.
pub(super) fn check(entries: &Entries, report: &mut Report<'_>) {
    let mut meanings = HashMap::new();
    for it in &entries.concepts {
        let names = || it.entry.names.values().flatten();
        if names().next().is_none() {
            report.add(it, "the concept has no name", "add names.en = [\"…\"]");
        }
        for name in names() {
            let term = folded(name);
            if term.is_empty() || name.len() > NAME_LIMIT {
                let what = format!("a name is empty or longer than {NAME_LIMIT} bytes");
                report.add(it, what, "write the name, or leave it out");
                continue;
            }
            match meanings.insert(term, it) {
                Some(other) if other.entry.id == it.entry.id => {
                    let what = format!("the name {:?} stands there twice", shortened(name));
                    report.add(it, what, "leave one out: capitals and spaces do not count");
                }
                Some(other) => {
                    let what = format!(
                        "the name {:?} also names {} ({})",
                        shortened(name),
                        other.entry.id,
                        report.place(other)
                    );
                    report.add(
                        it,
                        what,
                        "leave it with one of them: a term must mean one thing",
                    );
                }
                None => (),
            }
        }
    }
    for it in &entries.scores {
        let mut names = it.entry.names.values().flatten();
        if names.all(|name| name.trim().is_empty()) {
            report.add(it, "the score has no name", "add names.en = [\"…\"]");
        }
    }
}

/// A name as a dictionary looks it up: small letters, single spaces.
fn folded(name: &str) -> String {
    let words: Vec<&str> = name.split_whitespace().collect();
    words.join(" ").to_lowercase()
}

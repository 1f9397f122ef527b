//! Whether knowledge files hold together: everything that is wrong with them, in one go.
//!
//! Files come from outside. Every walk here is bounded: by the limits on a file, on the entries, on the
//! parts of a condition and on how wide a concept's family is.

mod contradictions;
mod cycles;
mod doses;
mod measures;
mod merge;
mod names;
mod reach;
mod references;
mod texts;

use std::collections::HashSet;

use self::merge::Entry;
use super::{
    EntryId, Knowledge, KnowledgeFile, Problem, When,
    file::{self, Entries, FILES_LIMIT, Placed},
};

/// Most entries that are read together.
const ENTRIES_LIMIT: usize = 50_000;
/// Most bytes that are read together.
const BYTES_LIMIT: usize = 16 << 20;
/// Most problems that are reported; who has more mends these first.
const PROBLEMS_LIMIT: usize = 500;

/// Reads files, puts them together, and says what is wrong. The knowledge is sound only without problems.
pub(super) fn check(files: &[KnowledgeFile]) -> (Knowledge, Vec<Problem>) {
    let mut report = Report::new(files);
    let mut entries = Entries::default();
    let bytes: usize = files.iter().map(|file| file.text.len()).sum();
    let is_too_much = files.len() > FILES_LIMIT || bytes > BYTES_LIMIT;
    for (at, text) in files.iter().enumerate() {
        if is_too_much {
            break;
        }
        let problems = file::parse(text, at, &mut entries);
        report.found.extend(problems.into_iter().map(|it| (at, it)));
        if entries.len() > ENTRIES_LIMIT || report.is_full() {
            break;
        }
    }
    if is_too_much || entries.len() > ENTRIES_LIMIT {
        let what = format!(
            "there are more than {FILES_LIMIT} files, {BYTES_LIMIT} bytes or {ENTRIES_LIMIT} entries"
        );
        report.add_at(0, None, None, what, "leave out what is not needed".into());
        return (Knowledge::default(), report.into_problems());
    }
    report.broken = std::mem::take(&mut entries.broken);
    merge::settle_all(&mut entries, &mut report);
    let knowledge = Knowledge::of(&entries);

    texts::check(&entries, &mut report);
    names::check(&entries, &mut report);
    let is_bounded = references::check(&entries, &knowledge, &mut report);
    measures::check(&entries, &knowledge, &mut report);
    doses::check(&entries, &knowledge, &mut report);
    // What follows walks from concept to concept and through conditions, and relies on an end.
    if cycles::families(&entries, &knowledge, &mut report) && is_bounded {
        cycles::rules(&entries, &knowledge, &mut report);
        reach::check(&entries, &knowledge, &mut report);
        contradictions::check(&entries, &knowledge, &mut report);
    }
    (knowledge, report.into_problems())
}

/// What is wrong, as it is found.
struct Report<'f> {
    files: &'f [KnowledgeFile],
    found: Vec<(usize, Problem)>,
    /// Ids of entries that could not be read: who refers to them is not to blame.
    broken: HashSet<String>,
}

impl<'f> Report<'f> {
    fn new(files: &'f [KnowledgeFile]) -> Self {
        Self {
            files,
            found: Vec::new(),
            broken: HashSet::new(),
        }
    }

    fn add<T: Entry>(&mut self, of: &Placed<T>, what: impl Into<String>, fix: impl Into<String>) {
        let id = format!("{} {}", T::SECTION, of.entry.key());
        self.add_at(of.file, Some(of.line), Some(id), what.into(), fix.into());
    }

    fn add_at(
        &mut self,
        file: usize,
        line: Option<usize>,
        id: Option<String>,
        what: String,
        fix: String,
    ) {
        if self.is_full() {
            return;
        }
        let name = self.files.get(file).map(|file| file.name.clone());
        let problem = Problem {
            file: name.unwrap_or_default(),
            line,
            id,
            what,
            fix,
        };
        self.found.push((file, problem));
    }

    fn is_full(&self) -> bool {
        self.found.len() >= PROBLEMS_LIMIT
    }

    fn place<T>(&self, of: &Placed<T>) -> String {
        let name = self.files.get(of.file).map_or("", |file| &file.name);
        format!("{name}:{}", of.line)
    }

    fn into_problems(mut self) -> Vec<Problem> {
        self.found
            .sort_by_key(|(file, problem)| (*file, problem.line));
        let mut problems: Vec<Problem> = self.found.into_iter().map(|(_, it)| it).collect();
        problems.dedup();
        problems.truncate(PROBLEMS_LIMIT);
        problems
    }
}

impl Knowledge {
    /// Entries of which each id is there once.
    fn of(entries: &Entries) -> Self {
        fn all<T: Clone>(placed: &[Placed<T>]) -> impl Iterator<Item = T> {
            placed.iter().map(|placed| placed.entry.clone())
        }
        let mut knowledge = Self {
            headers: entries.headers.clone(),
            sources: all(&entries.sources)
                .map(|it| (it.id.clone(), it))
                .collect(),
            concepts: all(&entries.concepts)
                .map(|it| (it.id.clone(), it))
                .collect(),
            conditions: all(&entries.conditions)
                .map(|it| (it.id.clone(), it))
                .collect(),
            likelihoods: all(&entries.likelihoods).collect(),
            rules: all(&entries.rules).collect(),
            scores: all(&entries.scores).map(|it| (it.id.clone(), it)).collect(),
            treatments: all(&entries.treatments).collect(),
            interactions: all(&entries.interactions).collect(),
            contraindications: all(&entries.contraindications).collect(),
            ..Self::default()
        };
        for concept in knowledge.concepts.values() {
            for wider in &concept.is_a {
                let kinds = knowledge.kinds.entry(wider.clone()).or_default();
                kinds.push(concept.id.clone());
            }
        }
        knowledge
    }
}

/// Calls `visit` with every condition of every entry, and what the condition is for.
fn each_when(
    entries: &Entries,
    report: &mut Report<'_>,
    mut visit: impl FnMut(&mut Report<'_>, &dyn Reporting, &When, &str),
) {
    for it in &entries.concepts {
        if let Some(when) = &it.entry.measured {
            visit(report, it, when, "measured");
        }
    }
    for it in &entries.conditions {
        for presentation in &it.entry.among {
            visit(report, it, &presentation.when, "when of among");
        }
    }
    for it in &entries.rules {
        visit(report, it, &it.entry.when, "when");
    }
    for it in &entries.scores {
        for item in &it.entry.items {
            visit(report, it, &item.when, "when of an item");
        }
    }
    for it in &entries.treatments {
        for (when, name) in [
            (&it.entry.applies_if, "applies_if"),
            (&it.entry.exclude_if, "exclude_if"),
        ] {
            if let Some(when) = when {
                visit(report, it, when, name);
            }
        }
        for step in &it.entry.steps {
            if let Some(when) = &step.when {
                visit(report, it, when, "when of a step");
            }
            for when in step.doses.iter().filter_map(|dose| dose.when.as_ref()) {
                visit(report, it, when, "when of a dose");
            }
        }
    }
    for it in &entries.contraindications {
        visit(report, it, &it.entry.when, "when");
    }
}

/// An entry that problems can be reported of, whatever its section.
trait Reporting {
    fn report(&self, report: &mut Report<'_>, what: String, fix: String);
}

impl<T: Entry> Reporting for Placed<T> {
    fn report(&self, report: &mut Report<'_>, what: String, fix: String) {
        report.add(self, what, fix);
    }
}

/// Every source that an entry rests on.
fn each_source(
    entries: &Entries,
    report: &mut Report<'_>,
    mut visit: impl FnMut(&mut Report<'_>, &dyn Reporting, &EntryId),
) {
    for it in &entries.concepts {
        if let Some(limit) = &it.entry.limit {
            visit(report, it, &limit.source);
        }
    }
    for it in &entries.conditions {
        visit(report, it, &it.entry.source);
        for presentation in &it.entry.among {
            visit(report, it, &presentation.source);
        }
    }
    for it in &entries.likelihoods {
        visit(report, it, &it.entry.source);
    }
    for it in &entries.rules {
        visit(report, it, &it.entry.source);
    }
    for it in &entries.scores {
        visit(report, it, &it.entry.source);
    }
    for it in &entries.treatments {
        visit(report, it, &it.entry.source);
        for source in it
            .entry
            .steps
            .iter()
            .filter_map(|step| step.source.as_ref())
        {
            visit(report, it, source);
        }
    }
    for it in &entries.interactions {
        visit(report, it, &it.entry.source);
    }
    for it in &entries.contraindications {
        visit(report, it, &it.entry.source);
    }
}

#[cfg(test)]
mod tests;

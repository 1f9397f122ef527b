//! Nothing is a kind of itself, and no rule needs what it concludes.

use std::collections::{BTreeMap, HashMap};

use super::{
    super::{ConceptId, Knowledge, When, file::Entries},
    Report,
};

/// Most concepts that one is a kind of.
const FAMILY_LIMIT: usize = 30;

/// Checks `is_a`. Whether all walks over it are short.
pub(super) fn families(entries: &Entries, knowledge: &Knowledge, report: &mut Report<'_>) -> bool {
    let mut is_sound = true;
    for it in &entries.concepts {
        let id = &it.entry.id;
        let wider = knowledge.upwards_at_most(id, FAMILY_LIMIT);
        if wider.len() >= FAMILY_LIMIT {
            is_sound = false;
            let what = format!("it is a kind of more than {FAMILY_LIMIT} others");
            report.add(it, what, "leave out those that follow from the rest");
        }
    }
    let next = |id: &ConceptId| knowledge.concept(id).map_or(&[][..], |found| &found.is_a);
    let graph: BTreeMap<&ConceptId, Vec<&ConceptId>> = knowledge
        .concepts
        .keys()
        .map(|id| (id, next(id).iter().collect()))
        .collect();
    for cycle in cycles(&graph) {
        is_sound = false;
        let it = entries
            .concepts
            .iter()
            .find(|it| Some(&&it.entry.id) == cycle.first());
        if let Some(it) = it {
            let what = format!("it is a kind of itself: {}", path(&cycle));
            report.add(it, what, "take one is_a out");
        }
    }
    is_sound
}

/// Checks that rules do not go round in circles: over any number of rules, scores and kinds.
pub(super) fn rules(entries: &Entries, knowledge: &Knowledge, report: &mut Report<'_>) {
    // By what is concluded, and everything that follows from it because it is a kind of it.
    let mut concluded: HashMap<&ConceptId, Vec<&ConceptId>> = HashMap::new();
    let mut seen = std::collections::HashSet::new();
    for it in &entries.rules {
        let id = &it.entry.concludes;
        if seen.insert(id) {
            for wider in knowledge.upwards(id) {
                concluded.entry(wider).or_default().push(id);
            }
        }
    }
    let mut graph: BTreeMap<&ConceptId, Vec<&ConceptId>> = BTreeMap::new();
    for it in &entries.rules {
        let concludes = &it.entry.concludes;
        let edges = graph.entry(concludes).or_default();
        for need in needs(&it.entry.when, knowledge) {
            // A rule may say which kind of a thing it is once the thing is there: that another kind of the
            // thing, or this one, would make it be there too is no circle.
            let is_refined = need != concludes && knowledge.is_a(concludes, need);
            let givers = concluded.get(need).into_iter().flatten().copied();
            edges.extend(givers.filter(|giver| !is_refined || *giver == need));
        }
        edges.sort_unstable();
        edges.dedup();
    }
    for cycle in cycles(&graph) {
        let it = entries
            .rules
            .iter()
            .find(|it| Some(&&it.entry.concludes) == cycle.first());
        if let Some(it) = it {
            let what = format!("rules need what they conclude: {}", path(&cycle));
            report.add(it, what, "take one of these out of a rule's when");
        }
    }
}

/// What a condition needs to know that a rule may conclude.
fn needs<'a>(when: &'a When, knowledge: &'a Knowledge) -> Vec<&'a ConceptId> {
    let mut needs = Vec::new();
    for leaf in when.leaves() {
        match leaf {
            When::Present(id) | When::Absent(id) | When::History(id) => needs.push(id),
            When::Score { score, .. } => {
                let items = knowledge.score(score).map_or(&[][..], |score| &score.items);
                let leaves = items.iter().flat_map(|item| item.when.leaves());
                // Scores hold no scores, so that this ends.
                needs.extend(leaves.filter_map(|leaf| match leaf {
                    When::Present(id) | When::Absent(id) | When::History(id) => Some(id),
                    _ => None,
                }));
            }
            _ => (),
        }
    }
    needs
}

fn path(cycle: &[&ConceptId]) -> String {
    let ids: Vec<&str> = cycle.iter().map(|id| id.as_str()).collect();
    let shown = ids.get(..ids.len().min(8)).unwrap_or(&ids);
    format!("{} → …", shown.join(" → "))
}

/// One cycle for every edge that closes one, found by a walk in depth without recursion.
fn cycles<'a>(graph: &BTreeMap<&'a ConceptId, Vec<&'a ConceptId>>) -> Vec<Vec<&'a ConceptId>> {
    #[derive(Clone, Copy, PartialEq)]
    enum Mark {
        Open,
        Done,
    }
    let mut marks: HashMap<&ConceptId, Mark> = HashMap::new();
    let mut found = Vec::new();
    for start in graph.keys().copied() {
        if marks.contains_key(start) {
            continue;
        }
        let mut path: Vec<(&ConceptId, usize)> = vec![(start, 0)];
        marks.insert(start, Mark::Open);
        while let Some((id, at)) = path.last_mut() {
            let next = graph.get(*id).and_then(|edges| edges.get(*at)).copied();
            *at += 1;
            match next {
                None => {
                    marks.insert(*id, Mark::Done);
                    path.pop();
                }
                Some(next) => match marks.get(next) {
                    None => {
                        marks.insert(next, Mark::Open);
                        path.push((next, 0));
                    }
                    Some(Mark::Done) => (),
                    Some(Mark::Open) => {
                        let from = path.iter().position(|(id, _)| *id == next).unwrap_or(0);
                        let cycle = path.iter().skip(from).map(|(id, _)| *id).collect();
                        found.push(cycle);
                        if found.len() >= 50 {
                            return found;
                        }
                    }
                },
            }
        }
    }
    found
}

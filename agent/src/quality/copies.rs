//! Copies, and whom they mislead: across parts, labels and patients.

use std::{
    collections::{BTreeSet, HashMap},
    hash::Hash,
};

use super::{
    near::Group,
    records::Records,
    report::{Findings, Kind},
};

/// Reports records with the same content (`equal`: one list for each content, most of them of one record)
/// and groups of contents that are nearly the same.
pub(super) fn report(
    equal: &[Vec<usize>],
    nearly: &[Group],
    records: &Records,
    findings: &mut Findings,
) {
    let mut is_near = vec![false; equal.len()];
    for group in nearly {
        let mut members = Vec::new();
        for &content in &group.members {
            is_near[content] = true;
            members.extend(&equal[content]);
        }
        members.sort_unstable();
        add(
            Kind::NearCopies,
            group.farthest,
            &members,
            records,
            findings,
        );
        add_crossings(&members, records, findings);
    }
    for (members, is_near) in equal.iter().zip(is_near) {
        if members.len() < 2 {
            continue;
        }
        add(
            Kind::Copies,
            members.len() as f64,
            members,
            records,
            findings,
        );
        // Those that are near others too were told with them.
        if !is_near {
            add_crossings(members, records, findings);
        }
    }
}

/// Reports rows with the same cells. Two patients may well agree in a few columns and differ in their label, so
/// that is told and held against nobody.
pub(super) fn report_rows(equal: &[Vec<usize>], records: &Records, findings: &mut Findings) {
    for members in equal.iter().filter(|members| members.len() > 1) {
        let count = members.len() as f64;
        add(Kind::Copies, count, members, records, findings);
    }
}

fn add(kind: Kind, measure: f64, members: &[usize], records: &Records, findings: &mut Findings) {
    let detail = crossed(members, records).join("; ");
    findings.add(kind, places(members, records), measure, detail);
}

/// What a group of copies crosses is graver than the copies.
fn add_crossings(members: &[usize], records: &Records, findings: &mut Findings) {
    let count = members.len() as f64;
    let crossings = [
        (Kind::CopiesAcrossParts, parts(members, records)),
        (Kind::CopiesWithOtherLabels, labels(members, records)),
    ];
    for (kind, names) in crossings {
        if names.len() > 1 {
            findings.add(kind, places(members, records), count, list(&names));
        }
    }
}

fn places<'a>(members: &'a [usize], records: &'a Records) -> impl Iterator<Item = &'a str> {
    members.iter().map(|&record| records.place(record))
}

fn parts<'a>(members: &[usize], records: &'a Records) -> BTreeSet<&'a str> {
    let parts = members.iter().filter_map(|&record| records.part(record));
    parts.collect()
}

fn labels<'a>(members: &[usize], records: &'a Records) -> BTreeSet<&'a str> {
    let labels = members.iter().filter_map(|&record| records.label(record));
    labels.collect()
}

/// What a group crosses, in words.
fn crossed(members: &[usize], records: &Records) -> Vec<String> {
    let patients = members.iter().filter_map(|&record| records.patient(record));
    let patients = patients.collect::<BTreeSet<_>>().len();
    let (parts, labels) = (parts(members, records), labels(members, records));
    let mut crossed = Vec::new();
    if patients > 1 {
        crossed.push(format!("{patients} patients"));
    }
    if parts.len() > 1 {
        crossed.push(format!("parts {}", list(&parts)));
    }
    if labels.len() > 1 {
        crossed.push(format!("labels {}", list(&labels)));
    }
    crossed
}

fn list(names: &BTreeSet<&str>) -> String {
    names.iter().copied().collect::<Vec<_>>().join(", ")
}

/// Records by their content, in the order of the first of each.
pub(super) fn by_content<K: Eq + Hash>(
    contents: impl Iterator<Item = (usize, K)>,
) -> Vec<Vec<usize>> {
    let mut first_of: HashMap<K, usize> = HashMap::new();
    let mut equal: Vec<Vec<usize>> = Vec::new();
    for (record, content) in contents {
        let at = *first_of.entry(content).or_insert(equal.len());
        match equal.get_mut(at) {
            Some(members) => members.push(record),
            None => equal.push(vec![record]),
        }
    }
    equal
}

//! What a check keeps of each record besides its content, and what that alone shows: missing and rare
//! labels, patients with several labels, in several parts, or with very many records.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use super::{
    Item,
    report::{Findings, Kind},
};

/// Records of the most frequent class for each one of a class from which it is rare. Beyond about 1 in
/// 10, accuracy says little and learning needs weights (He and Garcia 2009, as a rule of thumb).
const RARE: f64 = 0.1;
/// Times the median number of records for each patient from which a patient has very many, and the
/// least number that is many.
const MANY: (usize, usize) = (10, 20);

/// Everything but the content of the records seen so far.
#[derive(Default)]
pub(super) struct Records(Vec<Entry>);

struct Entry {
    place: String,
    part: Option<String>,
    label: Option<String>,
    patient: Option<String>,
}

/// Written by hand: labels and pseudonyms are patient data.
impl fmt::Debug for Records {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Records({})", self.0.len())
    }
}

impl Records {
    /// Keeps a record and numbers it.
    pub(super) fn add(&mut self, item: &Item<'_>) -> usize {
        let own = |text: Option<&str>| text.filter(|text| !text.is_empty()).map(str::to_owned);
        self.0.push(Entry {
            place: item.place.to_owned(),
            part: own(item.part),
            label: own(item.label),
            patient: own(item.patient),
        });
        self.0.len() - 1
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn place(&self, record: usize) -> &str {
        self.0.get(record).map_or("", |entry| &entry.place)
    }

    pub(super) fn part(&self, record: usize) -> Option<&str> {
        self.0.get(record)?.part.as_deref()
    }

    pub(super) fn label(&self, record: usize) -> Option<&str> {
        self.0.get(record)?.label.as_deref()
    }

    pub(super) fn patient(&self, record: usize) -> Option<&str> {
        self.0.get(record)?.patient.as_deref()
    }

    /// Records of each patient who is named.
    fn by_patient(&self) -> BTreeMap<&str, Vec<&Entry>> {
        let mut patients: BTreeMap<&str, Vec<&Entry>> = BTreeMap::new();
        for entry in &self.0 {
            if let Some(patient) = &entry.patient {
                patients.entry(patient).or_default().push(entry);
            }
        }
        patients
    }

    /// How many patients are named.
    pub(super) fn patients(&self) -> usize {
        self.by_patient().len()
    }

    /// Records of each label.
    pub(super) fn classes(&self) -> BTreeMap<String, usize> {
        let mut classes = BTreeMap::new();
        for label in self.0.iter().filter_map(|entry| entry.label.as_ref()) {
            *classes.entry(label.clone()).or_default() += 1;
        }
        classes
    }

    /// Looks at labels, patients and parts.
    pub(super) fn finish(&self, is_labelled: bool, findings: &mut Findings) {
        if is_labelled {
            self.labels(findings);
        }
        let patients = self.by_patient();
        let mut counts: Vec<usize> = patients.values().map(Vec::len).collect();
        counts.sort_unstable();
        let median = counts.get(counts.len() / 2).copied().unwrap_or_default();
        let (times, least) = MANY;
        for entries in patients.values() {
            let places = || entries.iter().map(|entry| entry.place.as_str());
            let names = |name: fn(&Entry) -> Option<&str>| -> BTreeSet<&str> {
                entries.iter().filter_map(|entry| name(entry)).collect()
            };
            let list =
                |names: &BTreeSet<&str>| names.iter().copied().collect::<Vec<_>>().join(", ");
            let parts = names(|entry| entry.part.as_deref());
            if parts.len() > 1 {
                let count = entries.len() as f64;
                findings.add(Kind::PatientInParts, places(), count, list(&parts));
            }
            let labels = names(|entry| entry.label.as_deref());
            if is_labelled && labels.len() > 1 {
                let count = labels.len() as f64;
                let kind = Kind::PatientWithSeveralLabels;
                findings.add(kind, places(), count, list(&labels));
            }
            if entries.len() >= least && entries.len() > times * median {
                let detail = format!("half of the patients have up to {median}");
                let count = entries.len() as f64;
                findings.add(Kind::ManyRecordsOfOnePatient, places(), count, detail);
            }
        }
    }

    fn labels(&self, findings: &mut Findings) {
        for entry in self.0.iter().filter(|entry| entry.label.is_none()) {
            findings.add(Kind::Unlabelled, [entry.place.as_str()], 1.0, "");
        }
        let classes = self.classes();
        let most = classes.values().copied().max().unwrap_or_default();
        if classes.len() == 1 {
            findings.add(Kind::OneClass, [], most as f64, "");
        }
        for (class, &count) in &classes {
            let ratio = count as f64 / most as f64;
            if ratio < RARE {
                let detail = format!("{class}: {count} records");
                findings.add(Kind::RareClass, [], ratio, detail);
            }
        }
    }
}

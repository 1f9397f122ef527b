//! Registering a data set: everything is read once, before anybody relies on it.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    path::PathBuf,
    time::SystemTime,
};

use consilium_privacy::{
    OutOfRange,
    accountant::{Charge, Epsilon},
    ledger::{ChargeRequest, NO_STUDY, Purpose, Repeat},
    pseudonym::PseudonymKey,
    release::{self, ReleaseError},
};
use consilium_proto::{Digest, ErrorCode};

use super::{
    DataError, Fault, Found, LabelMap, LeaseError, Manifest, Report, Source, describe,
    labelled_set::map_label,
    lease, list,
    manifest::{Listed, Located},
    records::{Content, Looked, TableRow},
    table,
};
use crate::{
    dicom::deidentify::Suspicion,
    policy::Policy,
    store::{ChargeError, DataSet, Store, StoreError},
};

/// What a steward registers.
#[derive(Debug, Clone)]
pub struct Registration {
    /// Name that plans use: 1 to 100 letters, digits, `-`, `_` or `.`.
    pub name: String,
    /// Where the records lie.
    pub source: Source,
    /// From local labels to classes; labels stand as they are without one.
    pub label_map: Option<PathBuf>,
    /// What the world may know of the size.
    pub public_size: PublicSize,
    /// Whether unreadable images, labels without image and images without label are left out
    /// (and reported) instead of refused.
    pub skip_unreadable: bool,
    /// Whether a person has looked at the pictures: those that may show a name are otherwise refused.
    pub pixels_seen: bool,
    /// Whether a data set of this name may be replaced. What it has spent stays spent, and who
    /// opted out stays out.
    pub replace: bool,
}

/// What the world may know of the number of patients.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum PublicSize {
    /// Declared by the steward as public knowledge: 1 or more.
    Declared(u64),
    /// The true number with OpenDP's noise, charged once. Neighbours: one patient added or
    /// removed.
    Noisy(f64),
}

/// Why a data set was not registered.
#[derive(Debug, thiserror::Error)]
pub enum RegisterError {
    /// The source cannot be used.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The name is none.
    #[error("data set name {0:?} must have 1 to 100 letters, digits, `-`, `_` or `.`")]
    Name(String),
    /// The public size is 0.
    #[error("the public size must be 1 or more")]
    NoSize,
    /// The ε of the noisy size is out of range.
    #[error("the noisy size's {0}")]
    Epsilon(OutOfRange),
    /// A noisy size needs a budget.
    #[error("policy.toml gives no budget to data set {0:?}: add [data_sets.{0}] first")]
    NoBudget(String),
    /// The name is taken.
    #[error("a data set {0:?} is registered already: choose another name, or replace it by name")]
    Taken(String),
    /// Another ledger has the records.
    #[error(transparent)]
    Lease(#[from] LeaseError),
    /// The noisy size could not be paid for.
    #[error(transparent)]
    Charge(#[from] ChargeError),
    /// The noisy size could not be made.
    #[error(transparent)]
    Release(#[from] ReleaseError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl RegisterError {
    /// What the caller should do about it.
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Data(error) => error.code(),
            Self::Store(error) | Self::Charge(ChargeError::Store(error)) => error.code(),
            Self::Charge(ChargeError::Refused(_)) => ErrorCode::Exhausted,
            Self::Taken(_) | Self::NoBudget(_) | Self::Lease(_) => ErrorCode::Precondition,
            Self::Charge(_) | Self::Release(_) => ErrorCode::Internal,
            Self::Name(_) | Self::NoSize | Self::Epsilon(_) => ErrorCode::Invalid,
        }
    }
}

/// Reads a source, reports what it holds, and stores its manifest.
///
/// # Errors
/// Bad data, a name that is taken, a noisy size that cannot be paid for.
pub async fn register(
    store: &Store,
    policy: &Policy,
    registration: Registration,
    now: SystemTime,
) -> Result<Report, RegisterError> {
    check(&registration, policy)?;
    if !registration.replace && store.data_set(&registration.name).await?.is_some() {
        return Err(RegisterError::Taken(registration.name));
    }
    let (name, public_size) = (registration.name.clone(), registration.public_size);
    let replace = registration.replace;
    let reader = store.clone();
    let survey = tokio::task::spawn_blocking(move || survey(registration, &reader.pseudonyms()));
    let (manifest, mut report) = match survey.await {
        Ok(surveyed) => surveyed?,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    };
    report.unleased = lease::take(&manifest.source, &store.ledger_public_key())?;
    report.public_size = match public_size {
        PublicSize::Declared(size) => size,
        PublicSize::Noisy(epsilon) => {
            let epsilon = Epsilon::try_from(epsilon).map_err(RegisterError::Epsilon)?;
            noisy_size(store, policy, &name, epsilon, report.patients as u64, now).await?
        }
    };
    let data_set = DataSet {
        name: name.clone(),
        public_size: report.public_size,
        records: report.records as u64,
        patients: report.patients as u64,
        registered_at: 0,
    };
    // Paths, labels and digests: JSON can write all of it.
    let manifest = serde_json::to_vec(&manifest).expect("a manifest is representable in JSON");
    if !store.register(&data_set, &manifest, replace, now).await? {
        return Err(RegisterError::Taken(name));
    }
    Ok(report)
}

fn check(registration: &Registration, policy: &Policy) -> Result<(), RegisterError> {
    let name = &registration.name;
    let allowed = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if !(1..=100).contains(&name.len()) || !name.chars().all(allowed) {
        return Err(RegisterError::Name(name.clone()));
    }
    match registration.public_size {
        PublicSize::Declared(0) => Err(RegisterError::NoSize),
        PublicSize::Declared(size) if i64::try_from(size).is_err() => Err(RegisterError::NoSize),
        PublicSize::Noisy(_) if !policy.data_sets.contains_key(name) => {
            Err(RegisterError::NoBudget(name.clone()))
        }
        _ => Ok(()),
    }
}

/// A count of patients that the world may know. Charged before it is made; a crash between the
/// two wastes the charge.
async fn noisy_size(
    store: &Store,
    policy: &Policy,
    name: &str,
    epsilon: Epsilon,
    patients: u64,
    now: SystemTime,
) -> Result<u64, RegisterError> {
    let Some(budget) = policy.data_sets.get(name) else {
        return Err(RegisterError::NoBudget(name.to_owned()));
    };
    // Registering anew counts anew: another release, another charge.
    let request = release_request(name, "public size", epsilon);
    let charged = store
        .charge(&policy.data_sets, request, budget.delta, now)
        .await?;
    let count = release::noisy_count(charged.grant, patients)?;
    Ok(count.value.max(1).unsigned_abs())
}

/// Asks for one pure release that belongs to no study, each time anew.
pub(super) fn release_request(data_set: &str, what: &str, epsilon: Epsilon) -> ChargeRequest {
    ChargeRequest {
        data_set: data_set.to_owned(),
        study: NO_STUDY,
        round: 0,
        attempt: 0,
        purpose: Purpose::Release(what.to_owned()),
        charge: Charge::Pure {
            epsilon,
            releases: 1,
        },
        study_cap: None,
        repeat: Repeat::ChargeAgain,
        key: None,
    }
}

/// Why a picture has to be looked at first, if it has.
fn doubt(suspicions: &[Suspicion]) -> Option<String> {
    let first = suspicions.first()?;
    Some(format!(
        "it may show whose it is ({first}): look at such pictures, then say so with --pixels-seen"
    ))
}

/// Reads everything once.
fn survey(
    registration: Registration,
    pseudonyms: &PseudonymKey,
) -> Result<(Manifest, Report), RegisterError> {
    let mut source = registration.source.absolute()?;
    let label_map = registration
        .label_map
        .as_deref()
        .map(LabelMap::read)
        .transpose()?;
    let Found { records, faults } = list(&source)?;
    source.name_patients(&records);
    let mut found = Found {
        records: Vec::with_capacity(records.len()),
        faults,
    };
    let mut sizes = BTreeMap::new();
    let mut digests: HashMap<Digest, Vec<String>> = HashMap::new();
    let (mut listed, mut classes) = (Vec::new(), BTreeMap::new());
    // Whether every picture says itself whose it is.
    let mut pictures_name_patients = !records.is_empty() && !source.names_patients();
    for mut record in records {
        let mut named = None;
        let digest = match &record.content {
            Content::Row(row) => row.digest(),
            Content::Note(content) => content.digest(),
            Content::File(_) | Content::Pixels(_) => match record.content.look() {
                Ok(Looked { opened, digest }) => {
                    let doubt = (!registration.pixels_seen).then(|| doubt(&opened.suspicions));
                    if let Some(reason) = doubt.flatten() {
                        let place = Located::of(&record).to_string();
                        found.faults.push(Fault::Unreadable { place, reason });
                        continue;
                    }
                    let (width, height) = (opened.picture.width(), opened.picture.height());
                    *sizes.entry(format!("{width} x {height}")).or_default() += 1;
                    named = opened.tags.and_then(|tags| tags.patient());
                    digest
                }
                Err(reason) => {
                    let place = Located::of(&record).to_string();
                    found.faults.push(Fault::Unreadable { place, reason });
                    continue;
                }
            },
        };
        let label = match record.label.is_empty() {
            // A note that is marked need not be of a class.
            true => String::new(),
            false => map_label(&record, label_map.as_ref())?,
        };
        let place = Located::of(&record);
        digests.entry(digest).or_default().push(place.to_string());
        if !label.is_empty() {
            *classes.entry(label.clone()).or_default() += 1;
        }
        pictures_name_patients &= named.is_some();
        if let Some(named) = named.filter(|_| !source.names_patients()) {
            record.patient = named;
        }
        let patient = pseudonyms.pseudonym(&record.patient).to_string();
        listed.push(Listed {
            place,
            label,
            patient,
            digest,
        });
        found.records.push(record);
    }
    found.check(registration.skip_unreadable)?;
    if listed.is_empty() {
        return Err(DataError::Empty(source.to_string()).into());
    }
    let patients: HashSet<_> = listed.iter().map(|listed| &listed.patient).collect();
    let rows: Vec<&TableRow> = found
        .records
        .iter()
        .filter_map(|r| r.content.row())
        .collect();
    let overview = match source {
        Source::Notes { .. } => {
            let notes = found
                .records
                .iter()
                .filter_map(|record| match &record.content {
                    Content::Note(content) => Some(content.read()),
                    _ => None,
                });
            Some(describe(notes))
        }
        _ => None,
    };
    let mut duplicates: Vec<_> = digests
        .into_values()
        .filter(|group| group.len() > 1)
        .collect();
    duplicates.sort();
    let report = Report {
        name: registration.name,
        records: listed.len(),
        patients: patients.len(),
        names_patients: source.names_patients() || pictures_name_patients,
        classes,
        sizes,
        columns: table::describe(&rows),
        notes: overview,
        duplicates,
        skipped: found.faults,
        public_size: 0,
        unleased: None,
    };
    Ok((
        Manifest {
            source,
            pictures_name_patients,
            records: listed,
        },
        report,
    ))
}

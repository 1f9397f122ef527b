//! The label balance of a data set, for the world: noised and charged each time it is asked for.

use std::{
    collections::{BTreeMap, HashSet},
    time::SystemTime,
};

use consilium_privacy::{
    OutOfRange,
    accountant::Epsilon,
    release::{self, ReleaseError},
};
use consilium_proto::ErrorCode;
use serde::Serialize;

use super::{DataError, Manifest, register::release_request, road::target};
use crate::{
    policy::Policy,
    store::{ChargeError, Store, StoreError},
};
use consilium_models::network::Target;

/// Most classes of one release.
const MOST: usize = 1000;

/// Why no label balance was released.
#[derive(Debug, thiserror::Error)]
pub enum LabelBalanceError {
    /// No data set of this name.
    #[error("no data set {0:?} is registered here")]
    UnknownDataSet(String),
    /// Classes that are none.
    #[error("name 1 to {MOST} classes, each once and none of them empty, as plans name them")]
    Classes,
    /// The ε is out of range.
    #[error(transparent)]
    Epsilon(#[from] OutOfRange),
    /// A release needs a budget.
    #[error("policy.toml gives no budget to data set {0:?}: add [data_sets.{0}] first")]
    NoBudget(String),
    /// The manifest cannot be read.
    #[error(transparent)]
    Data(#[from] DataError),
    /// It could not be paid for.
    #[error(transparent)]
    Charge(#[from] ChargeError),
    /// It could not be made.
    #[error(transparent)]
    Release(#[from] ReleaseError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl LabelBalanceError {
    /// What the caller should do about it.
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::UnknownDataSet(_) => ErrorCode::Missing,
            Self::Classes | Self::Epsilon(_) => ErrorCode::Invalid,
            Self::NoBudget(_) => ErrorCode::Precondition,
            Self::Data(error) => error.code(),
            Self::Store(error) | Self::Charge(ChargeError::Store(error)) => error.code(),
            Self::Charge(ChargeError::Refused(_)) => ErrorCode::Exhausted,
            Self::Charge(_) | Self::Release(_) => ErrorCode::Internal,
        }
    }
}

/// A label balance that may leave. Nothing in it is a true count.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LabelBalance {
    /// The data set.
    pub data_set: String,
    /// Each class, in the order asked for.
    pub classes: Vec<ClassShare>,
    /// Patients whose label is none of the classes, with noise.
    pub others: i64,
    /// Standard deviation of the noise of each count.
    pub deviation: f64,
    /// What this release cost: it is (ε, 0)-private for neighbours that differ by one patient added
    /// or removed.
    pub epsilon: Epsilon,
    /// Position of its charge in the ledger.
    pub ledger_entry: u64,
    /// Whether a column says whose each record is. If not, each record counted as its own patient.
    pub names_patients: bool,
}

/// One class.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ClassShare {
    /// Its name.
    pub class: String,
    /// Patients, with noise: may be below 0.
    pub count: i64,
    /// Share of all patients, by the noisy counts; none where noise left no patient.
    pub share: Option<f64>,
}

/// Charges a data set and releases how many of its patients have each of these public classes.
///
/// A patient counts once: with the most frequent label of their records and, of several that are,
/// the one named first. Labels that are none of the classes count together, so that no label that
/// only the data knows can show. Who opted out does not count. Every call is a release of its own,
/// charged anew and before anything is counted.
///
/// # Errors
/// No such data set, no budget, a charge that the ledger refuses.
pub async fn release_labels(
    store: &Store,
    policy: &Policy,
    data_set: &str,
    classes: &[String],
    epsilon: f64,
    now: SystemTime,
) -> Result<LabelBalance, LabelBalanceError> {
    let is_listed = (1..=MOST).contains(&classes.len())
        && classes.iter().all(|class| !class.is_empty())
        && classes.iter().collect::<HashSet<_>>().len() == classes.len();
    if !is_listed {
        return Err(LabelBalanceError::Classes);
    }
    let epsilon = Epsilon::try_from(epsilon)?;
    let Some(manifest) = store.manifest(data_set).await? else {
        return Err(LabelBalanceError::UnknownDataSet(data_set.to_owned()));
    };
    let manifest: Manifest =
        serde_json::from_slice(&manifest).map_err(|_| DataError::Manifest(data_set.to_owned()))?;
    let Some(budget) = policy.data_sets.get(data_set) else {
        return Err(LabelBalanceError::NoBudget(data_set.to_owned()));
    };
    let request = release_request(data_set, "label balance", epsilon);
    let charged = store
        .charge(&policy.data_sets, request, budget.delta, now)
        .await?;
    let ledger_entry = charged.grant.sequence();
    let excluded = store.excluded(data_set).await?;
    let labels = labels(&manifest, classes, &excluded);
    let balance = release::noisy_label_balance(charged.grant, classes.len(), labels)?;
    let shares = balance.shares();
    let share = |(at, class): (usize, &String)| ClassShare {
        class: class.clone(),
        count: balance.counts[at],
        share: shares.as_ref().map(|shares| shares[at]),
    };
    Ok(LabelBalance {
        data_set: data_set.to_owned(),
        classes: classes.iter().enumerate().map(share).collect(),
        others: balance.others,
        deviation: balance.deviation,
        epsilon,
        ledger_entry,
        names_patients: manifest.names_patients(),
    })
}

/// One label for each patient who did not opt out, as its position among the classes; the position
/// after the last for any other.
fn labels(manifest: &Manifest, classes: &[String], excluded: &HashSet<String>) -> Vec<usize> {
    let is_numbered = manifest.source.numbers_classes();
    let mut patients: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for listed in &manifest.records {
        let label = match target(&listed.label, classes, is_numbered, &listed.place) {
            Ok(Target::Class(class)) => class,
            Ok(Target::Value(_) | Target::Tags(_)) | Err(_) => classes.len(),
        };
        patients.entry(&listed.patient).or_default().push(label);
    }
    let counted = patients
        .into_iter()
        .filter(|(patient, _)| !excluded.contains(*patient));
    counted
        .filter_map(|(_, labels)| release::label_of_unit(labels))
        .collect()
}

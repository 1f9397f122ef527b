//! Patients who opt out: nothing is trained on them from the next batch on.

use std::{
    collections::HashSet,
    path::{Path, PathBuf},
    time::SystemTime,
};

use consilium_proto::{ErrorCode, Plan, StudyId};
use serde::Serialize;

use super::{DataError, Manifest};
use crate::store::{Store, StoreError};

/// Why nobody was excluded.
#[derive(Debug, thiserror::Error)]
pub enum ExcludeError {
    /// No data set of this name.
    #[error("no data set {0:?} is registered here")]
    UnknownDataSet(String),
    /// The list names nobody.
    #[error("{} names no patient: write one identifier on each line", .0.display())]
    Nobody(PathBuf),
    /// The list or the manifest cannot be read.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl ExcludeError {
    /// What the caller should do about it.
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::UnknownDataSet(_) => ErrorCode::Missing,
            Self::Nobody(_) => ErrorCode::Invalid,
            Self::Data(error) => error.code(),
            Self::Store(error) => error.code(),
        }
    }
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Exclusion {
    /// Patients who were not out before.
    pub excluded: u64,
    /// Lines of the list that name no patient of this data set; a misspelt one stays in training.
    pub unknown_lines: Vec<usize>,
    /// Studies whose models were trained while at least one of them was in. Those models stay as
    /// they are: their guarantee covers each patient.
    pub used_by: Vec<UsedBy>,
}

/// A study that trained on a data set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct UsedBy {
    /// Which one.
    pub study: StudyId,
    /// What people call it.
    pub name: String,
    /// Rounds in which it did.
    pub rounds: u32,
}

/// Takes the patients of a list, one identifier a line, out of a data set. A running training
/// draws none of them from its next batch on. Safe to repeat.
///
/// # Errors
/// No such data set, a list that cannot be read or names nobody.
pub async fn exclude(
    store: &Store,
    data_set: &str,
    list: &Path,
    now: SystemTime,
) -> Result<Exclusion, ExcludeError> {
    let Some(manifest) = store.manifest(data_set).await? else {
        return Err(ExcludeError::UnknownDataSet(data_set.to_owned()));
    };
    let manifest: Manifest =
        serde_json::from_slice(&manifest).map_err(|_| DataError::Manifest(data_set.to_owned()))?;
    let known: HashSet<&str> = manifest
        .records
        .iter()
        .map(|r| r.patient.as_str())
        .collect();
    let text = std::fs::read_to_string(list).map_err(DataError::file(list))?;
    let (mut patients, mut unknown_lines) = (Vec::new(), Vec::new());
    let lines = text.trim_start_matches('\u{FEFF}').lines().map(str::trim);
    for (at, identifier) in lines.enumerate().filter(|(_, line)| !line.is_empty()) {
        let pseudonym = store.pseudonyms().pseudonym(identifier).to_string();
        match known.contains(pseudonym.as_str()) {
            true => patients.push(pseudonym),
            false => unknown_lines.push(at + 1),
        }
    }
    if patients.is_empty() && unknown_lines.is_empty() {
        return Err(ExcludeError::Nobody(list.to_owned()));
    }
    let (excluded, last) = store.exclude(data_set, &patients, now).await?;
    let used_by = store
        .uses(data_set, last)
        .await?
        .into_iter()
        .map(|used| UsedBy {
            study: used.study,
            name: Plan::from_canonical(&used.plan).map_or_else(|_| String::new(), |plan| plan.name),
            rounds: used.rounds,
        })
        .collect();
    Ok(Exclusion {
        excluded,
        unknown_lines,
        used_by,
    })
}

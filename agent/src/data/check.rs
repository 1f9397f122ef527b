//! Looks through registered data sets for what their steward should correct, exclude or look at.
//!
//! Nothing is stored and nothing leaves: the report holds true counts and stays at the site.

use std::collections::HashMap;

use consilium_privacy::deidentify::Deidentifier;
use consilium_proto::ErrorCode;

use super::{
    DataError, Manifest, list,
    manifest::{Listed, Located},
    notes::Deidentify,
    records::{Content, Record},
};
use crate::{
    quality::{self, Check, Item, Report, Settings as Measures},
    settings::Settings,
    store::{Store, StoreError},
    training::blocking,
};

/// Why a data set was not checked.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// No data set of that name.
    #[error("no data set {0:?} is registered here; `agent data list` names those that are")]
    Unknown(String),
    /// The data cannot be read.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl CheckError {
    /// What the caller should do about it.
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Unknown(_) => ErrorCode::Missing,
            Self::Data(error) => error.code(),
            Self::Store(error) => error.code(),
        }
    }
}

/// Looks through a data set; with `test`, through that one as well, as the part that models are tested on.
///
/// # Errors
/// A data set that is not registered, or whose source cannot be read.
pub async fn check(
    store: &Store,
    settings: &Settings,
    name: &str,
    test: Option<&str>,
) -> Result<Report, CheckError> {
    let mut parts = Vec::new();
    let part = |of: &'static str| test.map(|_| of);
    for (name, part) in [(Some(name), part("train")), (test, part("test"))] {
        let Some(name) = name else { continue };
        let manifest = store.manifest(name).await?;
        let manifest = manifest.ok_or_else(|| CheckError::Unknown(name.to_owned()))?;
        let manifest: Manifest =
            serde_json::from_slice(&manifest).map_err(|_| DataError::Manifest(name.to_owned()))?;
        parts.push((manifest, part));
    }
    let (identifiers, key) = (settings.identifiers.clone(), store.pseudonyms());
    blocking(move || {
        let holds_notes = parts
            .iter()
            .any(|(manifest, _)| manifest.source.holds_notes());
        let deidentifier: Option<Deidentifier> = match holds_notes {
            true => Some(Deidentify::new(&identifiers, key)?.into_deidentifier()),
            false => None,
        };
        let mut measures = Measures {
            deidentifier,
            ..Measures::default()
        };
        let mut check: Option<Check> = None;
        for (manifest, part) in &parts {
            let found = list(&manifest.source)?;
            let listed: HashMap<&Located, &Listed> =
                manifest.records.iter().map(|it| (&it.place, it)).collect();
            if check.is_none() {
                measures.columns = columns(&found.records);
                check = Some(Check::new(measures.clone()));
            }
            let Some(check) = &mut check else { continue };
            for record in &found.records {
                add(check, record, &listed, manifest, *part);
            }
            for fault in &found.faults {
                check.add(&Item {
                    place: &fault.to_string(),
                    part: *part,
                    label: None,
                    patient: None,
                    content: quality::Content::Unreadable("label and image do not belong together"),
                });
            }
        }
        Ok(check.map_or_else(|| Check::new(measures).finish(), Check::finish))
    })
    .await
}

/// The columns of a table's rows, without bins: those are a plan's.
fn columns(records: &[Record]) -> Vec<quality::TableColumn> {
    let row = records.iter().find_map(|record| record.content.row());
    let names = row.map(|row| row.header.names()).unwrap_or_default();
    let column = |name: &String| quality::TableColumn {
        name: name.clone(),
        edges: Vec::new(),
    };
    names.iter().map(column).collect()
}

fn add(
    check: &mut Check,
    record: &Record,
    listed: &HashMap<&Located, &Listed>,
    manifest: &Manifest,
    part: Option<&str>,
) {
    let located = Located::of(record);
    let known = listed.get(&located).copied();
    let place = record.place.to_string();
    let item = |content| Item {
        place: &place,
        part,
        label: known.map(|it| it.label.as_str()),
        patient: known
            .filter(|_| manifest.names_patients())
            .map(|it| it.patient.as_str()),
        content,
    };
    let unregistered = "was left out, or came after the registration";
    match &record.content {
        _ if known.is_none() => check.add(&item(quality::Content::Unreadable(unregistered))),
        Content::File(_) | Content::Pixels(_) => match record.content.look() {
            Ok(looked) => {
                let opened = &looked.opened;
                let bits = opened.tags.as_ref().and_then(|tags| tags.bits_stored);
                check.add(&item(quality::Content::Picture {
                    picture: &opened.picture,
                    bits: bits.and_then(|bits| u8::try_from(bits).ok()),
                }));
            }
            Err(reason) => check.add(&item(quality::Content::Unreadable(&reason))),
        },
        Content::Row(row) => check.add(&item(quality::Content::Row(&row.cells))),
        Content::Note(content) => check.add(&item(quality::Content::Note(&content.note().text))),
    }
}

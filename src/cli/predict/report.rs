//! What was said of a picture, as a report for the hospital's systems.

use std::time::SystemTime;

use anyhow::{Context as _, Result};
use consilium_agent::{
    dicom::{Tags, Uid},
    fhir::report::{
        ClassProbability, Input, InputKind, Instant, Line, Link, Model, PredictionId,
        PredictionSet, Probability, Prose, Report, Source, SourceKind,
    },
};
use consilium_models::prediction;
use consilium_proto::ErrorCode;

use super::image::{Ready, Said};
use crate::failure::refuse;

/// A preliminary report of one prediction. `patients` is the system that Patient IDs belong to.
///
/// # Errors
/// A file that does not say whose picture it is.
pub(super) fn of(
    model: &Ready,
    said: &Said,
    tags: Option<&Tags>,
    patients: &str,
) -> Result<Report> {
    let Some((tags, patient)) = tags.and_then(|tags| Some((tags, tags.patient_id.as_deref()?)))
    else {
        let message = "a report is about a patient, and this file does not say whose picture it is";
        return refuse(ErrorCode::Precondition, message);
    };
    let (identity, prediction) = (model.released.identity(), &said.prediction);
    let link = |uid: &Option<Uid>| {
        let uid = uid.as_ref().map(|uid| Link::dicom(uid.as_str()));
        uid.transpose().context("naming what was read")
    };
    let class = |said: &prediction::ClassProbability| -> Result<_> {
        Ok(ClassProbability {
            name: Line::new(&said.class)?,
            probability: Probability::try_from(f64::from(said.probability).clamp(0.0, 1.0))?,
        })
    };
    let set = match (&prediction.set, &model.calibration) {
        (Some(classes), Some(known)) => Some(PredictionSet {
            error_rate: Probability::try_from(known.conformal.error_rate.get())?,
            classes: classes
                .iter()
                .map(|class| Line::new(class))
                .collect::<Result<_, _>>()?,
        }),
        _ => None,
    };
    let conclusion = match prediction.likeliest() {
        Some(said) => format!("{}: {:.1} %", said.class, 100.0 * said.probability),
        None => "no class".to_owned(),
    };
    let image = link(&tags.sop_instance)?;
    Ok(Report {
        id: PredictionId::random()?,
        made: Instant::try_from(SystemTime::now())?,
        subject: Link::named(patients, patient)?,
        input: Input {
            kind: InputKind::Image,
            digest: said.input,
            sources: image
                .into_iter()
                .map(|link| Source {
                    kind: SourceKind::Media,
                    link,
                })
                .collect(),
            study: link(&tags.study)?,
        },
        model: Model {
            name: Line::new(&identity.name)?,
            version: Line::new(&identity.version)?,
            digest: identity.sha256.parse().context("the model's digest")?,
        },
        classes: prediction
            .classes
            .iter()
            .map(class)
            .collect::<Result<_>>()?,
        prediction_set: set,
        unlike_training_data: prediction.is_unlike_known,
        conclusion: Prose::new(&conclusion)?,
        conclusion_codes: Vec::new(),
        plan: None,
    })
}
